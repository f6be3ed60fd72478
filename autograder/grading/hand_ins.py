"""What lies in ``grading/submitted/``, and what of it nbgrader would pass over without a word."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from autograder.grading.timestamps import NAME as TIMESTAMP
from autograder.grading.timestamps import read_timestamp
from autograder.sealed.hand_in_files import shown

_PATTERN = set("[]*?")
"""Characters that nbgrader takes for a pattern in the names of folders."""

_ASIDE = "__MACOSX"
"""The folder that macOS puts into zip files."""

_UNREADABLE = "it cannot be read", "allow it, as `chmod -R u+rX` does"

_PACKED = (".zip", ".gz", ".7z", ".rar")


@dataclass(frozen=True)
class Oddity:
    """Something that was handed in and is not where or what nbgrader looks for.

    Attributes:
        path: The file or folder, below ``grading/submitted/``.
        what: What is odd about it.
        remedy: What to do.
    """

    path: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{shown(self.path)}: {self.what}; {self.remedy}"


def handed_in(submitted: Path, lessons: Collection[str]) -> list[str]:
    """Return the lessons of which there is something to grade, in order.

    Args:
        submitted: The folder ``grading/submitted``.
        lessons: The names of all lessons.
    """
    found = {path.parent.name for path in submitted.glob("*/*/*.ipynb")}
    return sorted(found & set(lessons))


def oddities(submitted: Path, lessons: Collection[str]) -> list[Oddity]:
    """Return everything in the folder that would not be graded, or not as it is meant.

    Hidden files are left alone: systems and editors make them.

    Args:
        submitted: The folder ``grading/submitted``.
        lessons: The names of all lessons.
    """
    found = []
    for path, what, remedy in _walk(submitted, lessons):
        found.append(Oddity(path.relative_to(submitted).as_posix(), what, remedy))
    return found


_Odd = Iterator[tuple[Path, str, str]]


def _walk(submitted: Path, lessons: Collection[str]) -> _Odd:
    for student in _visible(submitted):
        where = "NAME/LESSON/LESSON.ipynb"
        if not student.is_dir():
            yield student, "it lies two levels too high", f"move it to {where}"
        elif student.name == _ASIDE:
            yield student, "macOS put it into a zip file, it holds no submission", "delete it"
        elif not _can_be_read(student):
            yield student, *_UNREADABLE
        elif _PATTERN & set(student.name):
            what = "nbgrader takes the characters [ ] * ? in a name for a pattern"
            yield student, what, "rename the folder"
        else:
            yield from _of_student(student, lessons)


def _of_student(student: Path, lessons: Collection[str]) -> _Odd:
    for folder in _visible(student):
        name = folder.name
        if not folder.is_dir():
            where = f"{student.name}/LESSON/LESSON.ipynb"
            yield folder, "it lies one level too high", f"move it to {where}"
        elif name == _ASIDE:
            yield folder, "macOS put it into a zip file, it holds no submission", "delete it"
        elif not _can_be_read(folder):
            yield folder, *_UNREADABLE
        elif name not in lessons:
            yield folder, "no lesson is called that", f"rename it to one of {', '.join(lessons)}"
        else:
            yield from _of_lesson(folder)


def _of_lesson(folder: Path) -> _Odd:
    wanted = f"{folder.name}.ipynb"
    names = [path.name for path in _visible(folder)]
    for path in _visible(folder):
        if path.name == _ASIDE:
            yield path, "macOS put it into a zip file, it holds no submission", "delete it"
        elif path.name != wanted and _holds_a_notebook(path):
            there = wanted in names
            what = f"only {wanted} is graded, which is there too" if there else "it is not graded"
            rename = "unpack it" if path.suffix.lower() in _PACKED else "rename or move it"
            rename = f"{rename}, so that there is {folder.name}/{wanted}"
            yield path, what, f"keep one of the two as {wanted}" if there else rename
    if not any(map(_holds_a_notebook, _visible(folder))):
        yield folder, f"there is no {wanted} in it", "ask for it"
    try:
        read_timestamp(folder)
    except ValueError as error:
        yield folder / TIMESTAMP, f"{error}; graded as if it were not there", "write the time"


def _can_be_read(folder: Path) -> bool:
    is_known = os.access in os.supports_effective_ids
    return os.access(folder, os.R_OK | os.X_OK, effective_ids=is_known)


def _visible(folder: Path) -> list[Path]:
    if not folder.is_dir() or not _can_be_read(folder):
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _holds_a_notebook(path: Path) -> bool:
    """Return whether a file seems to be a notebook, or a folder to have one somewhere in it."""
    if path.is_dir():
        return any(map(_holds_a_notebook, _visible(path)))
    return ".ipynb" in path.name.lower() or path.suffix.lower() in _PACKED
