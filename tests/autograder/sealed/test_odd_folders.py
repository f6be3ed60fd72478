"""Folders of hand-ins in which something lies that is no hand-in, or that nobody may read."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autograder.collect.record import LATE, RECORD, lateness, read_record
from autograder.collect.roster import Roster
from autograder.grading.hand_ins import Oddity, oddities
from autograder.grading.timestamps import NAME, read_timestamp
from autograder.sealed.batch import strays, students
from autograder.sealed.box.kernel import NOBODY
from autograder.sealed.intake import Submission, take_in
from autograder.sealed.quarantine import Quarantined
from autograder.sealed.release import Release

LESSON = "01_small"
Cells = list[dict[str, Any]]
HandIn = Callable[..., Path]


@pytest.fixture
def by_nobody() -> Iterator[Path]:
    """A folder for somebody to whom others can be closed; to root none is."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        if user == 0:
            os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)


def test_a_folder_that_nobody_may_read_costs_no_other_and_is_told_of(
    submitted: Path, hand_in: HandIn, answered: Cells, release: Release, by_nobody: Path
) -> None:
    user, place = os.geteuid(), by_nobody / "submitted"
    os.seteuid(os.getuid())
    for student in ("ada", "bob"):
        hand_in(answered, student)
    shutil.copytree(submitted, place)
    (place / "ada").chmod(0)
    os.seteuid(user)
    assert students(place, LESSON) == ["ada", "bob"]
    assert isinstance(take_in(place, "bob", release), Submission)
    reason = "cannot read ada: Permission denied; ask for it again"
    assert take_in(place, "ada", release) == Quarantined("ada", LESSON, reason)
    said = Oddity("ada", "it cannot be read", "allow it, as `chmod -R u+rX` does")
    assert oddities(place, [LESSON]) == [said]
    os.seteuid(os.getuid())
    (place / "ada").chmod(0o755)


def test_a_name_that_is_no_text_can_be_printed(submitted: Path) -> None:
    (submitted / "ada" / LESSON).mkdir(parents=True)
    (submitted / "l\udce4n\x1b[2J.ipynb").touch()
    (line,) = strays(submitted, LESSON)
    assert line.startswith(r"'l\udce4n\x1b[2J.ipynb': it lies two levels too high")
    assert line.encode()


def test_a_name_that_is_no_text_stops_no_class(
    course: Callable[..., tuple[int, str]],
    submitted: Path,
    hand_in: HandIn,
    answered: Cells,
    tmp_path: Path,
) -> None:
    for student in ("l\udce4n", "a\nb", "dora"):
        hand_in(answered, student)
    (submitted / "stray\udce4.ipynb").touch()
    code, said = course()
    assert code == 1
    assert "1 of what was handed in belongs to nobody" in said
    lines = (tmp_path / "sealed" / f"{LESSON}.csv").read_text("utf-8").splitlines()
    refused = [line for line in lines if "holds characters that cannot be shown" in line]
    assert sorted(line.split(",")[0] for line in refused) == ["\"'a\\nb'\"", "\"'l\\udce4n'\""]
    assert (tmp_path / "grading" / "autograded" / "dora" / LESSON).is_dir()


@pytest.mark.parametrize("kind", ["pipe", "endless", "secret"])
def test_what_lies_in_place_of_a_time_is_not_waited_for(
    submitted: Path, tmp_path: Path, hand_in: HandIn, answered: Cells, kind: str
) -> None:
    folder = hand_in(answered).parent
    secret = tmp_path / "secret"
    secret.write_text('{"is_late": true}')
    for name in (NAME, RECORD):
        path = folder / name
        if kind == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero" if kind == "endless" else secret)
    assert read_timestamp(folder) is None
    assert read_record(folder) == {}
    assert lateness(submitted, "ada", LESSON, Roster()) == ""


def test_a_record_that_nests_too_deep_costs_nobody_anything(
    submitted: Path, hand_in: HandIn, answered: Cells
) -> None:
    folder = hand_in(answered).parent
    (folder / RECORD).write_text("[" * 60_000)
    assert read_record(folder) == {}
    (folder / RECORD).write_text('{"is_late": true}')
    assert lateness(submitted, "ada", LESSON, Roster()) == LATE
