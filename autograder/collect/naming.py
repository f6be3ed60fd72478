"""Who handed something in, and when, as learning platforms write it into the names of files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

_MOODLE = re.compile(
    r"(?P<who>.+?)_(?P<id>\d+)_assignsubmission_(?P<kind>[a-z]+)(?:_(?P<file>.*))?"
)
_CANVAS = re.compile(r"(?P<who>[^_]+)(?P<late>_LATE)?_(?P<id>\d+)_(?P<number>\d+)_(?P<file>.+)")
_BLACKBOARD = re.compile(
    r".+_(?P<who>[^_]+)_attempt_(?P<when>\d{4}(?:-\d\d){5})(?:_(?P<file>.+)|\.txt)"
)


@dataclass(frozen=True)
class Named:
    """What a path in a download says.

    Attributes:
        platform: Whose way of naming it is; ``"folders"`` for ``NAME/...``, "" for none.
        who: The person's name or user name, as it stands there; where folders have names of people,
            all that may be one, the likeliest first.
        file: The name that the student gave the file.
        identity: The platform's number for the person; "" if there is none.
        order: What grows from one hand-in of a person to the next, where there is no time.
        when: The time in the name.
        is_late: Whether the platform says that it came late.
    """

    platform: str
    who: tuple[str, ...]
    file: str
    identity: str = ""
    order: int = 0
    when: datetime | None = None
    is_late: bool = False


def named(parts: Sequence[str], lessons: Collection[str] = ()) -> Named:
    """Return what the path of a file says.

    Args:
        parts: The names of its folders and its own, below the download.
        lessons: The names of lessons, which are no people.

    >>> named(["Ada Lovelace_8123_assignsubmission_file_", "my work.ipynb"]).who
    ('Ada Lovelace',)
    >>> named(["lovelaceada_LATE_77_9001_lesson-1.ipynb"])
    Named(platform='Canvas', who=('lovelaceada',), file='lesson-1.ipynb', identity='77', \
order=9001, when=None, is_late=True)
    >>> named(["Lesson 1_al17_attempt_2026-11-20-18-00-05_x.ipynb"]).when.isoformat()
    '2026-11-20T18:00:05+00:00'
    >>> named(["class", "ada", "01_a", "01_a.ipynb"], ["01_a"]).who[0], named(["ada.ipynb"]).who
    ('ada', ('ada',))
    """
    for place, part in enumerate(parts):
        file = "/".join(parts[place + 1 :])
        if found := _MOODLE.fullmatch(part):
            return Named("Moodle", (found["who"],), file or found["file"] or "", found["id"])
        if found := _BLACKBOARD.fullmatch(part):
            when = datetime.strptime(found["when"], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC)
            return Named("Blackboard", (found["who"],), file or found["file"] or "", when=when)
        if found := _CANVAS.fullmatch(part):
            late, number = bool(found["late"]), int(found["number"])
            name = file or found["file"]
            return Named("Canvas", (found["who"],), name, found["id"], number, is_late=late)
    return Named("folders" if len(parts) > 1 else "", tuple(_people(parts, lessons)), parts[-1])


def _people(parts: Sequence[str], lessons: Collection[str]) -> Iterator[str]:
    """Yield what may be a person in a path: what is above a lesson, a folder, a file."""
    *folders, file = parts
    packed = [each for each in folders if each.lower().endswith(".zip")]
    open_ones = [each for each in folders if each not in packed and each not in lessons]
    above = [each for each, below in pairwise(folders) if below in lessons and each in open_ones]
    for each in dict.fromkeys([*above, *open_ones, *packed, *([] if open_ones else [file])]):
        stem = each.rpartition(".")[0] if each in packed or each == file else each
        if stem not in lessons:
            yield stem


def plain(text: str) -> str:
    """Return the letters and digits of a name, without marks, capitals and spaces.

    >>> plain("Zoë O'Brien-Ünal")
    'zoeobrienunal'
    """
    letters = unicodedata.normalize("NFKD", text)
    return "".join(each for each in letters if each.isalnum()).casefold()


def folder_name(who: str) -> str:
    """Return the name of a student's folder for a name that a stranger chose.

    >>> folder_name("Ada  Lovelace [2]"), folder_name("../../etc")
    ('Ada_Lovelace_2', 'etc')
    """
    letters = unicodedata.normalize("NFC", who)
    kept = "".join(each if each.isalnum() or each in ".-" else " " for each in letters)
    return "_".join(kept.split()).strip("._-")[:80]
