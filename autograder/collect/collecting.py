"""From a download to ``grading/submitted/NAME/LESSON/LESSON.ipynb``: what goes where, and why.

First everything is read and a plan made, of which a dry run shows the table. Then the notebooks of
the plan are read again and written, each as a whole. What is there already and did not come from
here is never overwritten, what came from here is kept aside when a later one replaces it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from autograder.collect.downloads import Download, downloads
from autograder.collect.naming import Named, folder_name, named
from autograder.collect.recognition import Lessons
from autograder.collect.record import RECORD, read_record
from autograder.collect.roster import Roster
from autograder.errors import CourseError
from autograder.files import write_atomically
from autograder.grading.timestamps import NAME as TIMESTAMP
from autograder.grading.timestamps import parse_timestamp
from autograder.sealed.hand_in_files import shown

EARLIER = ".earlier"
"""The folder beside a notebook with those that it replaced."""


class Outcome(StrEnum):
    """What becomes of a file of a download."""

    NEW = "new"
    REPLACES = "replaces an earlier one"
    SAME = "is there already"
    OLDER = "older, not used"
    KEPT = "not used: another is there"
    NOBODY = "nobody's"
    NO_LESSON = "of no lesson"
    REFUSED = "refused"
    ASIDE = "no notebook"


PROBLEMS = {Outcome.KEPT, Outcome.NOBODY, Outcome.NO_LESSON, Outcome.REFUSED}
"""What a person has to look at."""

WRITTEN = {Outcome.NEW, Outcome.REPLACES}


@dataclass(frozen=True)
class Piece:
    """One file of a download, and what becomes of it.

    Attributes:
        download: Its path in the download.
        outcome: What becomes of it.
        student: Whose it is; "" if nobody knows.
        lesson: The lesson; "" if nobody knows.
        notes: What a person should know, in a few words each.
        digest: The hash of the notebook.
        said: What its path says.
        when: When it was handed in, or else written, which decides between two.
        is_told: Whether ``when`` is the time of the hand-in, and not only that of a file.
    """

    download: str
    outcome: Outcome
    student: str = ""
    lesson: str = ""
    notes: tuple[str, ...] = ()
    digest: str = ""
    said: Named = field(default=Named("", (), ""))
    when: datetime | None = None
    is_told: bool = False

    @property
    def rank(self) -> tuple[float, int]:
        """What is larger of the later of two."""
        return (self.when.timestamp() if self.when else 0.0, self.said.order)

    def ends(self, outcome: Outcome, *notes: str) -> Piece:
        """Return it with what becomes of it, and why."""
        return replace(self, outcome=outcome, notes=(*self.notes, *notes))


class Collecting:
    """What becomes of a download.

    Args:
        source: The folder or zip file.
        submitted: The folder with one folder for each student.
        lessons: What is known of the lessons.
        roster: The class; where it is empty, people are called as the platform calls them.
        lesson: The lesson that notebooks are taken for that show none.
        replaces: Whether to replace what did not come from a download.

    Raises:
        CourseError: The download cannot be read.
    """

    def __init__(
        self,
        source: Path,
        submitted: Path,
        lessons: Lessons,
        roster: Roster,
        lesson: str | None = None,
        replaces: bool = False,
    ) -> None:
        self._source, self._submitted = source, submitted
        self._lessons, self._roster = lessons, roster
        self._lesson, self._replaces = lesson, replaces
        self.pieces = self._planned()

    def write(self) -> Iterator[Piece]:
        """Write what is to be written; yield each piece when it is there.

        Raises:
            CourseError: The disk is full, or the download has changed meanwhile. What was yielded
                is there, and the next run goes on.
        """
        wanted = {each.download: each for each in self.pieces if each.outcome in WRITTEN}
        for piece in self.pieces:
            if piece.outcome is Outcome.SAME:
                self._write_record(piece)
        for found in downloads(self._source):
            if found.content is None or found.label not in wanted:
                continue
            piece = wanted.pop(found.label)
            if _hash(found.content) != piece.digest:
                raise CourseError(f"{found.label} has changed meanwhile; run the command again")
            self._write_one(piece, found.content)
            yield piece
        if wanted:
            raise CourseError(f"{next(iter(wanted))} is gone meanwhile; run the command again")

    def _planned(self) -> tuple[Piece, ...]:
        """Return what becomes of each file, in the order of the download."""
        found: list[Piece] = []
        times: dict[str, datetime] = {}
        for download in downloads(self._source):
            if download.parts[-1] == TIMESTAMP and download.content is not None:
                with contextlib.suppress(ValueError):
                    moment = parse_timestamp(download.content).replace(tzinfo=UTC)
                    times[download.label.rpartition("/")[0]] = moment
                continue
            found.append(self._looked_at(download))
        timed = [_with_time(piece, times) for piece in found]
        return tuple(self._settled(self._without_doubles(timed)))

    def _looked_at(self, download: Download) -> Piece:
        """Return whose a file is and of which lesson; ``Outcome.NEW`` is open to the end."""
        said = named(download.parts, self._lessons.names)
        piece = Piece(download.label, Outcome.NEW, said=said)
        student, problem = self._student(said)
        piece = replace(piece, student=student)
        if download.refused:
            return piece.ends(Outcome.REFUSED, download.refused)
        if download.content is None:
            return piece.ends(Outcome.ASIDE)
        if problem:
            return piece.ends(Outcome.NOBODY, problem)
        lesson, notes = self._lessons.of(download.content, said.file, self._lesson)
        if not lesson:
            return piece.ends(Outcome.NO_LESSON, *notes)
        if Path(said.file).name != f"{lesson}.ipynb":
            notes = (*notes, f"it was called {shown(Path(said.file).name)}")
        return replace(
            piece,
            lesson=lesson,
            notes=notes,
            digest=_hash(download.content),
            when=said.when or (None if said.platform == "Canvas" else download.when),
            is_told=said.when is not None or said.platform == "Moodle",
        )

    def _student(self, said: Named) -> tuple[str, str]:
        """Return the name of a student's folder, and "" or why there is none."""
        for who in said.who:
            fitting = self._roster.fitting(who, said.identity)
            if len(fitting) == 1:
                return fitting[0].student, ""
            if fitting:
                names = ", ".join(each.student for each in fitting)
                number = said.identity or "the platform's number"
                return "", f"{shown(who)} may be {names}; write {number} into the column `ids`"
        who = said.who[0] if said.who else ""
        if self._roster.people:
            return "", f"{shown(who) or 'it'} is nobody in the roster; add a line, or an id"
        name = folder_name(who) if said.platform else ""
        return name, "" if name else "no name of a person is in its path; put it into a folder NAME"

    def _without_doubles(self, pieces: list[Piece]) -> list[Piece]:
        """Let the latest of a student and lesson be the one; say so at the others."""
        last: dict[tuple[str, str], int] = {}
        who: dict[tuple[str, str], set[str]] = {}
        for place, piece in enumerate(pieces):
            if piece.outcome is Outcome.NEW:
                key = piece.student, piece.lesson
                who.setdefault(key, set()).add(piece.said.identity or piece.said.who[0])
                if key not in last or pieces[last[key]].rank <= piece.rank:
                    last[key] = place
        settled = []
        for place, piece in enumerate(pieces):
            key = piece.student, piece.lesson
            if piece.outcome is not Outcome.NEW:
                settled.append(piece)
            elif len(who[key]) > 1 and not self._roster.people:
                several = f"several people are called so ({', '.join(sorted(who[key]))})"
                settled.append(piece.ends(Outcome.NOBODY, f"{several}; give a roster with `ids`"))
            elif last[key] != place:
                later = pieces[last[key]]
                same = " and the same" if later.digest == piece.digest else ""
                note = f"{later.download} is later{same}"
                settled.append(piece.ends(Outcome.OLDER, note))
            else:
                settled.append(piece)
        return settled

    def _settled(self, pieces: list[Piece]) -> Iterator[Piece]:
        """Yield what becomes of each, beside what is there already."""
        for piece in pieces:
            if piece.outcome is not Outcome.NEW:
                yield piece
                continue
            yield self._beside(self._with_lateness(piece))

    def _with_lateness(self, piece: Piece) -> Piece:
        when = piece.when if piece.is_told else None
        late = self._roster.late(piece.student, piece.lesson, when)
        if not late and piece.said.is_late:
            late = f"late, says {piece.said.platform}"
        return replace(piece, notes=(*piece.notes, late)) if late else piece

    def _beside(self, piece: Piece) -> Piece:
        """Return what becomes of a notebook, given what is there."""
        path = self._path(piece)
        if not path.exists():
            return piece
        there, record = _hash(path.read_bytes()), read_record(path.parent)
        if there == piece.digest:
            return piece.ends(Outcome.SAME)
        if record.get("sha256") != there:
            if self._replaces:
                return piece.ends(Outcome.REPLACES)
            note = "what is there was put or changed by hand; --replace keeps it aside"
            return piece.ends(Outcome.KEPT, note)
        rank = record.get("rank", [0.0, 0])
        if tuple(rank) > piece.rank:
            return piece.ends(Outcome.OLDER, "what is there is later")
        return piece.ends(Outcome.REPLACES)

    def _path(self, piece: Piece) -> Path:
        return self._submitted / piece.student / piece.lesson / f"{piece.lesson}.ipynb"

    def _write_one(self, piece: Piece, content: bytes) -> None:
        path = self._path(piece)
        if piece.outcome is Outcome.REPLACES:
            before = path.read_bytes()
            write_atomically(path.parent / EARLIER / f"{_hash(before)[:12]}.ipynb", before)
        write_atomically(path, content)
        self._write_record(piece)

    def _write_record(self, piece: Piece) -> None:
        """Write beside a notebook where it is from and when it came, if that is not there yet."""
        folder = self._path(piece).parent
        record: dict[str, Any] = {
            "from": f"{self._source.name}: {piece.download}",
            "sha256": piece.digest,
            "rank": list(piece.rank),
            "is_late": piece.said.is_late,
        }
        known = read_record(folder)
        if known.get("sha256") == piece.digest and tuple(known.get("rank", ())) >= piece.rank:
            return
        if piece.is_told and piece.when is not None:
            moment = piece.when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            write_atomically(folder / TIMESTAMP, f"{moment}\n".encode())
        elif known:
            # It was that of another notebook.
            (folder / TIMESTAMP).unlink(missing_ok=True)
        write_atomically(folder / RECORD, json.dumps(record, indent=1).encode())


def _with_time(piece: Piece, times: Mapping[str, datetime]) -> Piece:
    """Return a notebook with the time that a file beside it tells."""
    when = times.get(piece.download.rpartition("/")[0])
    return replace(piece, when=when, is_told=True) if when and not piece.is_told else piece


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
