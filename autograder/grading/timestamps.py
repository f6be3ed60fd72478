"""The time of a submission, read from a ``timestamp.txt`` that may hold anything.

nbgrader stops at one that it cannot read, and formgrader then lists nobody of the whole class. It
has no hook for this, so its two functions that read the file are replaced.
"""

from __future__ import annotations

import codecs
import logging
import re
from datetime import datetime, timedelta
from pathlib import Path

from nbgrader.apps.api import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from nbgrader.utils import parse_utc

from autograder.files import read_stranger

NAME = "timestamp.txt"
"""The file beside a submission that says when it was handed in."""

_ENOUGH = 1_000
"""Bytes: a time takes a few dozen."""

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_OFFSET = re.compile(
    r"(?P<time>.*:\d\d(?:\.\d+)?)\s*(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d)"
)
_EXAMPLE = "2026-11-20 18:00:00 UTC"


def read_timestamp(folder: Path) -> datetime | None:
    """Return when a submission was handed in, in UTC; None where nothing can be read of it.

    Raises:
        ValueError: The file is there and holds no time; the message says what it holds.
    """
    try:
        raw = read_stranger(folder / NAME, _ENOUGH)
    except OSError:
        return None
    return parse_timestamp(raw)


def parse_timestamp(raw: bytes) -> datetime:
    """Return the time, in UTC, that a file with a time of submission holds.

    Args:
        raw: What is in the file.

    Raises:
        ValueError: It holds no time; the message says what it holds.

    >>> parse_timestamp(b"2026-11-20 18:00:00 +0100").hour
    17
    """
    text = raw.decode("utf-16" if raw.startswith(_UTF_16) else "utf-8-sig", "replace").strip()
    try:
        return parse_time(text)
    except (ValueError, OverflowError, TypeError) as error:
        holds = repr(text[:40]) if text else "nothing"
        raise ValueError(f"it holds {holds}, which is no time such as {_EXAMPLE}") from error


def parse_time(text: str) -> datetime:
    """Return a time in UTC; one without a zone is in UTC.

    nbgrader takes ``+0100`` for 100 seconds and passes over ``+01:00``, so that is done here.

    Args:
        text: The time as people and programs write it.

    Raises:
        ValueError: It is no time. TypeError and OverflowError say the same.

    >>> [parse_time(f"2026-11-20 18:00 {zone}").hour for zone in ("+0100", "-01:30", "CET", "")]
    [17, 19, 17, 18]
    """
    found = _OFFSET.fullmatch(text)
    moment: datetime = parse_utc(found["time"] if found else text)
    if not found:
        return moment
    offset = timedelta(hours=int(found["hours"]), minutes=int(found["minutes"]))
    return moment - offset if found["sign"] == "+" else moment + offset


def read_odd_timestamps() -> None:
    """Have nbgrader take a submission whose timestamp cannot be read for one without."""

    def existing(course: CourseDirectory, folder: str) -> datetime | None:
        return _or_none(Path(folder), course.log)

    def submitted(api: NbGraderAPI, assignment_id: str, student_id: str) -> datetime | None:
        course = api.coursedir
        path = course.format_path(course.submitted_directory, student_id, assignment_id)
        return _or_none(Path(path).resolve(), api.log)

    CourseDirectory.get_existing_timestamp = existing
    NbGraderAPI.get_submitted_timestamp = submitted


def _or_none(folder: Path, log: logging.Logger) -> datetime | None:
    try:
        return read_timestamp(folder)
    except ValueError as error:
        log.warning("%s: %s", folder / NAME, error)
        return None
