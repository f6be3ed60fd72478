"""What is known of a notebook that was handed in beside its content: where it is from, and when."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autograder.collect.roster import Roster
from autograder.files import read_stranger
from autograder.grading.timestamps import read_timestamp

RECORD = "collected.json"
"""The file beside a notebook that says which download it came from."""

_LONGEST = 2**16
"""Bytes of it that are read; it has a few hundred."""

LATE = "late"
"""What is said of what a platform calls late, where no due date is known."""


def read_record(folder: Path) -> Mapping[str, Any]:
    """Return what a folder with a collected notebook says of it; nothing if it says nothing."""
    try:
        record = json.loads(read_stranger(folder / RECORD, _LONGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def lateness(submitted: Path, student: str, lesson: str, roster: Roster) -> str:
    """Say by how much a student was late; "" for one who was not, or of whom nobody can tell.

    The roster's dates decide. Where it has none, or no time is known, it is what the platform said.

    Args:
        submitted: The folder with one folder for each student.
        student: The student.
        lesson: The lesson.
        roster: The class, with due dates.
    """
    when = None
    with contextlib.suppress(ValueError):
        when = read_timestamp(submitted / student / lesson)
    if when is not None and roster.due(student, lesson) is not None:
        return roster.late(student, lesson, when)
    return LATE if read_record(submitted / student / lesson).get("is_late") is True else ""
