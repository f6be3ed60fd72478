"""The oracle: judges the answers of one submission, one call at a time, from outside of its box.

It holds the checks, their secret seed and the course's answers; the box holds the submission. The
cells run in the box in order. Where a check stands, the answer is taken: a fork of the box's
process is asked, call by call, and what comes back is compared here. Then the verdict stands, and
the box gets the course's body for that exercise (``autograder.sealed.bodies`` says why that is
safe), so that what comes later runs as in a notebook where it is done.

An answer that fails may have met a body that is not there yet, or another answer of the same
student that is wrong. Then it is judged once more, in a box of its own that lacks no body but its
own and in which the course's answers stand in for the wrong ones; the better verdict counts. So a
mistake in 1.1 costs 1.1 alone.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from autograder import lessons
from autograder.checks.exercise import Exercise
from autograder.checks.finding import CheckError, Finding
from autograder.checks.search import PUBLIC_EXAMPLES
from autograder.matching import grade_id
from autograder.proxy.subject import SubjectGoneError
from autograder.sealed.bodies import Course
from autograder.sealed.box.box import Box, BoxError, BoxSubject, Fault, GoneError
from autograder.sealed.box.limits import Limits
from autograder.sealed.box.warm import Zygote
from autograder.sealed.intake import Cell, Role, Submission, names_defined
from autograder.sealed.release import Asked, Release
from autograder.sealed.verdict import Evidence, Remark, Status, Verdict

ANSWER_SECONDS, GIVEN_SECONDS = 20.0, 120.0
"""How long a cell may take: one that the student wrote, and one that was given."""

MOST_LOST = 4
"""Cells that may end their box, or not end, before the rest counts as not gradable."""

_TRIES = 3
_SEEDS = 2**31
_PRACTICE = 0
_LONGEST_LINE = 200
_IT_FAILS = "it does not do all that is asked; the check in the notebook shows a case"


def seed_of(secret: bytes, exercise: str) -> int:
    """Return the seed of an exercise: the same for all students, and known to nobody.

    >>> seed_of(b"secret", "1.1") == seed_of(b"secret", "1.1") != seed_of(b"secret", "1.2")
    True
    """
    made = hmac.new(secret, exercise.encode(), hashlib.sha256).digest()
    return int.from_bytes(made[:8], "big") % _SEEDS


class Oracle:
    """Judges submissions of one lesson.

    Args:
        release: The lesson.
        zygote: Makes its boxes.
        secret: Decides the seeds.
        limits: What one box may use.
        max_examples: How many cases a check draws at most.
    """

    def __init__(
        self,
        release: Release,
        zygote: Zygote,
        secret: bytes,
        limits: Limits | None = None,
        max_examples: int = PUBLIC_EXAMPLES,
    ) -> None:
        self.release = release
        self.zygote = zygote
        self.limits = limits or Limits()
        self.course = Course(release.number)
        self.max_examples = max_examples
        self._secret = secret

    def judge(self, submission: Submission) -> tuple[Verdict, ...]:
        """Return a verdict on each exercise, then on each text.

        Args:
            submission: What was handed in.

        Raises:
            CourseError: Bubblewrap is not installed.
        """
        judging = _Judging(self, submission)
        for _ in range(_TRIES):
            try:
                judging.run()
                break
            except BoxError as error:
                judging.trouble = str(error)
        return (*judging.on_exercises(), *_on_texts(submission, self.release))

    def examine(self, exercise: Exercise, subject: BoxSubject) -> Finding:
        """Check an answer with the secret seed."""
        return exercise.examine(subject, seed_of(self._secret, exercise.id), self.max_examples)


class _Judging:
    """The judging of one submission.

    Args:
        oracle: Whose it is.
        submission: What is judged.

    Attributes:
        trouble: What was the matter with the machine last.
    """

    def __init__(self, oracle: Oracle, submission: Submission) -> None:
        self._oracle = oracle
        self._cells = submission.cells
        self._verdicts: dict[str, Verdict] = {}
        self._lost: dict[int, Verdict] = {}
        self._faults: dict[int, Fault] = {}
        self._at = 0
        self.trouble = ""

    def run(self) -> None:
        """Judge, in a new box after each cell that has ended one.

        Raises:
            BoxError: The machine failed. What was judged stays, and it can be called again.
        """
        while self._open():
            if len(self._lost) > MOST_LOST:
                self._give_up()
                return
            with self._oracle.zygote.box(self._oracle.limits) as box:
                try:
                    self._go_on(box)
                except GoneError as gone:
                    self._lose(gone)

    def on_exercises(self) -> Iterator[Verdict]:
        """Yield the verdicts, in the order of the lesson."""
        for asked in self._oracle.release.asked:
            failed = Verdict(asked.exercise, asked.check_id, Status.INFRA, message=self.trouble)
            yield self._verdicts.get(asked.check_id, failed)

    def _open(self) -> list[Asked]:
        """Return what has no verdict yet."""
        return [each for each in self._oracle.release.asked if each.check_id not in self._verdicts]

    def _go_on(self, box: Box) -> None:
        """Run the cells from the first on, up to the last check that has no verdict."""
        for each in self._oracle.course.at_first():
            box.make_whole(each.module, each.names, each.text)
        for at, cell in enumerate(self._cells):
            self._at = at
            if not self._open() or len(self._lost) > MOST_LOST:
                return
            if cell.role is Role.CHECK:
                asked = self._oracle.release.of_check(str(cell.grade_id))
                if asked.check_id not in self._verdicts:
                    self._verdicts[asked.check_id] = self._judged(box, asked)
                judged = {each.exercise for each in self._verdicts.values()}
                for each in self._oracle.course.after(asked.exercise, judged):
                    box.make_whole(each.module, each.names, each.text)
            else:
                self._run(box, at)

    def _run(self, box: Box, at: int) -> None:
        """Run a cell, if it is code and has not ended a box before."""
        cell = self._cells[at]
        if cell.role is Role.TEXT or at in self._lost:
            return
        seconds = GIVEN_SECONDS if cell.role is Role.GIVEN else ANSWER_SECONDS
        self._faults.pop(at, None)
        if fault := box.run(cell.source, seconds):
            self._faults[at] = fault
            if typed(fault.kinds, fault.message) is Status.TIMEOUT:
                self._lost[at] = Verdict("", "", Status.TIMEOUT, message=one_line(fault.message))

    def _lose(self, gone: GoneError) -> None:
        """Note which cell has ended its box: the one that ran, or those of the answer taken."""
        if self._cells[self._at].role is not Role.CHECK:
            self._lost[self._at] = Verdict("", "", Status(gone.end), message=str(gone))
            return
        asked = self._oracle.release.of_check(str(self._cells[self._at].grade_id))
        verdict = Verdict(asked.exercise, asked.check_id, Status(gone.end), message=str(gone))
        self._verdicts.setdefault(asked.check_id, verdict)
        for at in self._cells_of(self._at):
            self._lost[at] = verdict

    def _give_up(self) -> None:
        """Let what is open be a person's matter."""
        message = f"more than {MOST_LOST} of its cells ended the process or did not end"
        for asked in self._open():
            self._verdicts[asked.check_id] = Verdict(
                asked.exercise,
                asked.check_id,
                Status.QUARANTINED,
                message=message,
                remarks=(Remark.NOT_GRADABLE,),
            )

    def _cells_of(self, check: int) -> list[int]:
        """Return the student's cells between a check and the one before it."""
        first = max((at for at in range(check) if self._cells[at].role is Role.CHECK), default=-1)
        return [
            at for at in range(first + 1, check) if self._cells[at].role in (Role.ANSWER, Role.OWN)
        ]

    def _judged(self, box: Box, asked: Asked) -> Verdict:
        """Return the verdict on what a check asks for, which stands here in a box."""
        answers = [cell for cell in self._cells if cell.grade_id == asked.answer_id]
        if not answers:
            return Verdict(
                asked.exercise,
                asked.check_id,
                Status.FAIL,
                message=f"the cell {asked.answer_id} was deleted",
                remarks=(Remark.CELL_MISSING,),
            )
        for at in self._cells_of(self._at):
            if lost := self._lost.get(at):
                return replace(lost, exercise=asked.exercise, grade_id=asked.check_id)
            fault = self._faults.get(at)
            if fault and typed(fault.kinds, fault.message) is Status.OUTPUT:
                return Verdict(
                    asked.exercise, asked.check_id, Status.OUTPUT, message=one_line(fault.message)
                )
        exercise = lessons.find(asked.exercise)
        if self._oracle.course.is_judged_alone(exercise.id):
            return self._judged_alone(exercise, asked)
        verdict, met = self._examined(box, exercise, asked)
        is_stub = answers[0].source.strip() == self._stub(asked)
        is_open = verdict.fraction < 1 and asked.points > _PRACTICE and not is_stub
        if is_open and box.is_alive and (met - {exercise.id} or self._is_damaged(self._at)):
            again = self._judged_alone(exercise, asked)
            best = again if again.fraction > verdict.fraction else verdict
            verdict = replace(best, evidence=replace(best.evidence, boxes=2))
        if verdict.fraction > 0 and not answers[0].source.strip():
            verdict = replace(verdict, remarks=(*verdict.remarks, Remark.OUTSIDE_ITS_CELL))
        return verdict

    def _judged_alone(self, exercise: Exercise, asked: Asked) -> Verdict:
        """Return the verdict of a box in which nothing but this exercise is open."""
        at = self._at
        # What becomes of a cell there says nothing of the box that goes on.
        lost, faults = dict(self._lost), dict(self._faults)
        with self._oracle.zygote.box(self._oracle.limits) as box:
            try:
                for each in self._oracle.course.but_for(exercise.id):
                    box.make_whole(each.module, each.names, each.text)
                stand_ins = self._stand_ins(at)
                for place in range(at):
                    if place in stand_ins:
                        box.run(stand_ins[place], ANSWER_SECONDS)
                    elif self._cells[place].role is not Role.CHECK:
                        self._run(box, place)
                verdict, _ = self._examined(box, exercise, asked)
                # It knows answers to what is still open, and chooses the words of what it raises.
                verdict = replace(verdict, message=verdict.misconception or _IT_FAILS)
            except GoneError as gone:
                verdict = Verdict(asked.exercise, asked.check_id, Status(gone.end), 0.0, str(gone))
            finally:
                self._lost, self._faults = lost, faults
        return verdict

    def _is_damaged(self, check: int) -> bool:
        """Say whether its cells fail, or use a wrong answer or what a cell that failed defines."""
        own = self._cells_of(check)
        needed = used_by(self._cells, own)
        wrong = {
            self._oracle.release.of_check(str(self._cells[at].grade_id)).name
            for at in self._stand_ins(check)
        }
        return not needed.isdisjoint(wrong) or any(
            at in own or not needed.isdisjoint(names_defined(self._cells[at].source))
            for at in self._faults
            if at < check
        )

    def _stand_ins(self, check: int) -> dict[int, str]:
        """Return what takes the place of the wrong answers before a check, by its place."""
        found = {}
        for place in range(check):
            cell = self._cells[place]
            verdict = self._verdicts.get(str(cell.grade_id))
            if cell.role is not Role.CHECK or verdict is None or verdict.fraction == 1:
                continue
            asked = self._oracle.release.of_check(str(cell.grade_id))
            source = self._oracle.course.in_place_of(asked.exercise, asked.name)
            if source is not None:
                found[place] = source
        return found

    def _stub(self, asked: Asked) -> str:
        cells = self._oracle.release.cells
        return next(str(c.source).strip() for c in cells if grade_id(c) == asked.answer_id)

    def _examined(
        self, box: Box, exercise: Exercise, asked: Asked
    ) -> tuple[Verdict, frozenset[str]]:
        """Return the verdict on an answer in a box, and whose stubs it has met."""
        began, spent = time.monotonic(), box.cpu_seconds
        met = frozenset[str]()
        place = self._oracle.course.place_of(exercise.id)
        with box.taken(asked.name, exercise.patience, place) as subject:
            if subject is None:
                verdict = self._nothing_taken(asked)
            else:
                verdict = self._asked(subject, exercise, asked)
                met = subject.met()
        now = box.cpu_seconds
        cpu = None if spent is None or now is None else round(now - spent, 3)
        evidence = Evidence(round(time.monotonic() - began, 3), cpu, 1)
        is_begun = Remark.NOT_STARTED not in verdict.remarks
        if exercise.id in met and verdict.fraction < 1 and is_begun:
            message = "it asks the course for what is to be written, which nobody has there"
            verdict = replace(verdict, message=message, remarks=(Remark.IMPORTS_REFERENCE,))
        return replace(verdict, evidence=evidence), met

    def _nothing_taken(self, asked: Asked) -> Verdict:
        """Return the verdict where nothing has the name that was asked for."""
        faults = [self._faults[at] for at in self._cells_of(self._at) if at in self._faults]
        status, message = Status.FAIL, f"nothing is called {asked.name}"
        if faults:
            status = typed(faults[-1].kinds, faults[-1].message) or Status.FAIL
            message += f": its cell ends in {one_line(faults[-1].kinds[0])}"
        remarks = (Remark.CELL_FAILED,) if faults else ()
        return Verdict(asked.exercise, asked.check_id, status, 0.0, message, remarks)

    def _asked(self, subject: BoxSubject, exercise: Exercise, asked: Asked) -> Verdict:
        """Return the verdict on an answer that was taken."""
        verdict = Verdict(asked.exercise, asked.check_id, Status.FAIL)
        try:
            finding = self._oracle.examine(exercise, subject)
        except GoneError as gone:
            return replace(verdict, status=Status(gone.end), message=str(gone))
        except CheckError as error:
            return replace(verdict, status=Status.INFRA, message=f"the check is faulty: {error}")
        except (SubjectGoneError, Exception) as error:
            message = f"what came back made no sense to the check ({type(error).__name__})"
            return replace(verdict, status=Status.PROTOCOL, message=message)
        if finding.fraction == 1:
            return replace(verdict, status=Status.PASS, fraction=1.0)
        raised = finding.counterexample.raised if finding.counterexample else None
        status = typed(raised.kinds, raised.message) if raised else None
        if subject.is_silent:
            status = Status.TIMEOUT
        return replace(
            verdict,
            status=status or Status.FAIL,
            fraction=finding.fraction if status is None else 0.0,
            message=_told(finding),
            misconception=finding.misconception.name if finding.misconception else "",
            remarks=(Remark.NOT_STARTED,) if finding.unwritten else (),
        )


def used_by(cells: Sequence[Cell], places: Sequence[int]) -> set[str]:
    """Return the names that some cells use, and those that the cells before need to define them.

    >>> cells = [Cell(Role.OWN, text) for text in ("a = b", "c = 1", "print(a)")]
    >>> sorted(used_by(cells, [2]))
    ['a', 'b', 'print']
    """
    names: set[str] = set()
    for at in range(max(places, default=-1), -1, -1):
        source = cells[at].source
        if cells[at].role in (Role.TEXT, Role.CHECK):
            continue
        if at in places or not names.isdisjoint(names_defined(source)):
            names |= set(re.findall(r"[^\W\d]\w*", source))
    return names


def typed(kinds: tuple[str, ...], message: str) -> Status | None:
    """Return which limit an exception of these classes speaks of, if any.

    >>> typed(("MemoryError", "Exception"), ""), typed(("ValueError",), "") is None
    (<Status.OOM: 'OOM'>, True)
    """
    if "NoAnswerError" in kinds:
        return Status.TIMEOUT
    if "OutputError" in kinds:
        return Status.OUTPUT
    if "MemoryError" in kinds:
        return Status.OOM
    if "BlockingIOError" in kinds or "start new thread" in message:
        return Status.PIDS
    if "OSError" in kinds and ("No space left" in message or "File too large" in message):
        return Status.DISK
    return Status.PROTOCOL if "WireError" in kinds else None


def one_line(text: str) -> str:
    r"""Return words that a submission has chosen as one short line that can be shown anywhere.

    >>> one_line("Odd\nError\x1b[31m in line 3")
    'Odd Error?[31m in line 3'
    """
    line = " ".join(text.split())[:_LONGEST_LINE]
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def _told(finding: Finding) -> str:
    """Say in one line what is the matter, and nothing of what the seed has drawn."""
    if finding.misconception is not None:
        return finding.misconception.name
    if finding.unwritten:
        return "nothing is written yet"
    case = finding.counterexample
    if case is not None and case.raised is not None:
        return one_line(f"{case.raised.kinds[0]} {case.raised.line or ''}")
    return _IT_FAILS


def _on_texts(submission: Submission, release: Release) -> Iterator[Verdict]:
    """Yield the verdicts on what a person marks: it waits, or nothing is written."""
    stubs = {grade_id(cell): str(cell.source).strip() for cell in release.cells}
    for name, _ in release.texts:
        written = [cell for cell in submission.cells if cell.grade_id == name]
        verdict = Verdict(name, name, Status.MANUAL)
        if not written:
            yield replace(verdict, status=Status.FAIL, remarks=(Remark.CELL_MISSING,))
        elif written[0].source.strip() in ("", stubs[name]) and not written[0].attachments:
            yield replace(verdict, status=Status.FAIL, remarks=(Remark.NOT_STARTED,))
        else:
            yield verdict
