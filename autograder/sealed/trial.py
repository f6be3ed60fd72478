"""One exercise of one submission in one box: the cells run, and the answer is asked, call by call.

What runs in the box can change nothing but the data that it returns; what comes back is compared
outside, with cases that the secret seed has drawn.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from autograder import lessons
from autograder.checks.exercise import Exercise
from autograder.checks.finding import CheckError, Finding
from autograder.proxy.subject import SubjectGoneError
from autograder.sealed.bodies import Bodies
from autograder.sealed.box.box import Box, BoxSubject, Fault, GoneError
from autograder.sealed.release import Asked
from autograder.sealed.store import key_of
from autograder.sealed.verdict import Evidence, Remark, Status, Verdict
from autograder.sealed.words import IT_FAILS, one_line, told, typed

Examine = Callable[[Exercise, BoxSubject], Finding]
"""Checks an answer with the secret seed."""


@dataclass(frozen=True)
class Setting:
    """What an exercise finds in its box beside cells of the submission.

    Attributes:
        name: What tells it from other settings of the same exercise.
        bodies: Bodies of the course.
        place: Where the library has the method that is asked for; "" if none is.
        tells: Whether words of what the answer raises may be shown.
    """

    name: str
    bodies: tuple[Bodies, ...]
    place: str = ""
    tells: bool = True


@dataclass(frozen=True)
class Step:
    """A cell that runs in the box.

    Attributes:
        source: The cell.
        seconds: How long it may take.
        is_own: Whether the student wrote it for the exercise that is judged.
    """

    source: str
    seconds: float
    is_own: bool = False


@dataclass(frozen=True)
class Tried:
    """What came of a trial.

    Attributes:
        verdict: The verdict.
        met: The exercises whose stubs the answer has met.
        faults: What cells have raised, by the number of the step.
        lost: How cells have ended that ended their box, or did not end, by the number of the step.
        is_over: Whether the box went on to the verdict; if not, it is to be tried without what was
            lost.
    """

    verdict: Verdict
    met: frozenset[str] = frozenset()
    faults: Mapping[int, Fault] = field(default_factory=dict)
    lost: Mapping[int, Verdict] = field(default_factory=dict)
    is_over: bool = True

    @property
    def is_for_all(self) -> bool:
        """Whether it would be the same again: a limit may be met because others were at work."""
        faults = self.faults.values()
        return (
            self.verdict.status in (Status.PASS, Status.FAIL)
            and Remark.INCONSTANT not in self.verdict.remarks
            and not self.lost
            and not any(typed(fault.kinds, fault.message) for fault in faults)
        )


class Trial:
    """One exercise in one box.

    Args:
        asked: What a check asks for.
        setting: What is in the box beside the cells.
        steps: The cells that run before the check, in order.
    """

    def __init__(self, asked: Asked, setting: Setting, steps: Sequence[Step]) -> None:
        self._asked = asked
        self._exercise = lessons.find(asked.exercise)
        self._setting = setting
        self._steps = steps
        self._faults: dict[int, Fault] = {}
        self._lost: dict[int, Verdict] = {}
        self._verdict = Verdict(asked.exercise, asked.check_id, Status.FAIL)

    @property
    def key(self) -> str:
        """The hash of all that the verdict depends on, but for seed, check, library and limits."""
        asked = [self._asked.exercise, self._asked.check_id, self._asked.name, self._setting.name]
        steps = (f"{each.seconds:g} {each.is_own} {each.source}" for each in self._steps)
        return key_of(*asked, *steps)

    def run(self, box: Box, examine: Examine) -> Tried:
        """Run the cells in a new box, then ask the answer.

        Args:
            box: The box.
            examine: Checks the answer.

        Raises:
            BoxError: The machine failed.
        """
        number = len(self._steps)
        try:
            for each in self._setting.bodies:
                box.make_whole(each.module, each.names, each.text)
            for number, step in enumerate(self._steps):
                self._run(box, number, step)
            number = len(self._steps)
            verdict, met = self._refused() or self._examined(box, examine)
        except GoneError as gone:
            ended = replace(self._verdict, status=Status(gone.end), message=str(gone))
            return self._ended(number, ended)
        return Tried(self._said(verdict), met, self._faults, self._lost)

    def _run(self, box: Box, number: int, step: Step) -> None:
        """Run a cell, and note what becomes of it."""
        if fault := box.run(step.source, step.seconds):
            self._faults[number] = fault
            if typed(fault.kinds, fault.message) is Status.TIMEOUT:
                message = one_line(fault.message)
                self._lost[number] = replace(self._verdict, status=Status.TIMEOUT, message=message)

    def _ended(self, number: int, ended: Verdict) -> Tried:
        """Return what comes of it where a cell has ended the box, or the answer's taking has."""
        is_cell = number < len(self._steps)
        blamed = [number] if is_cell else self._own()
        lost = {**self._lost, **dict.fromkeys(blamed, ended)}
        is_over = not is_cell or self._steps[number].is_own
        return Tried(ended, faults=self._faults, lost=lost, is_over=is_over)

    def _own(self) -> list[int]:
        return [number for number, step in enumerate(self._steps) if step.is_own]

    def _refused(self) -> tuple[Verdict, frozenset[str]] | None:
        """Return the verdict on what is not asked, since a cell of it did not end in time."""
        for number in self._own():
            if lost := self._lost.get(number):
                return lost, frozenset()
            fault = self._faults.get(number)
            if fault and typed(fault.kinds, fault.message) is Status.OUTPUT:
                message = one_line(fault.message)
                return replace(self._verdict, status=Status.OUTPUT, message=message), frozenset()
        return None

    def _examined(self, box: Box, examine: Examine) -> tuple[Verdict, frozenset[str]]:
        """Return the verdict on an answer, and whose stubs it has met."""
        began, spent = time.monotonic(), box.cpu_seconds
        verdict, met = self._once(box, examine)
        now = box.cpu_seconds
        cpu = None if spent is None or now is None else round(now - spent, 3)
        evidence = Evidence(round(time.monotonic() - began, 3), cpu, 1)
        if self._is_unexplained(verdict) and not met and self._differs(box, examine, verdict):
            verdict = replace(verdict, remarks=(Remark.INCONSTANT,))
        is_begun = Remark.NOT_STARTED not in verdict.remarks
        if self._exercise.id in met and verdict.fraction < 1 and is_begun:
            message = "it asks the course for what is to be written, which nobody has there"
            verdict = replace(verdict, message=message, remarks=(Remark.IMPORTS_REFERENCE,))
        return replace(verdict, evidence=evidence), met

    def _once(self, box: Box, examine: Examine) -> tuple[Verdict, frozenset[str]]:
        """Take an answer and compare it; return the verdict, and whose stubs it has met."""
        with box.taken(self._asked.name, self._exercise.patience, self._setting.place) as subject:
            if subject is None:
                return self._nothing_taken(), frozenset()
            subject.cells = tuple(step.source for step in self._steps)
            verdict = self._compared(subject, examine)
            return verdict, subject.met()

    def _is_unexplained(self, verdict: Verdict) -> bool:
        """Say whether an answer fails, and nobody knows yet what its mistake is."""
        is_known = bool(verdict.misconception or verdict.remarks)
        return verdict.status is Status.FAIL and verdict.fraction < 1 and not is_known

    def _differs(self, box: Box, examine: Examine, verdict: Verdict) -> bool:
        """Say whether an answer that is asked the very same once more earns another share.

        That is told, and moves no points: a person decides.
        """
        with contextlib.suppress(GoneError):
            again, _ = self._once(box, examine)
            is_judged = again.status in (Status.PASS, Status.FAIL)
            return is_judged and again.fraction != verdict.fraction
        return False

    def _said(self, verdict: Verdict) -> Verdict:
        """Return a verdict without words that the box has chosen, where it knows too much."""
        if self._setting.tells or verdict.status is Status.PASS:
            return verdict
        return replace(verdict, message=verdict.misconception or IT_FAILS)

    def _nothing_taken(self) -> Verdict:
        """Return the verdict where nothing has the name that was asked for."""
        faults = [self._faults[number] for number in self._own() if number in self._faults]
        status, message = Status.FAIL, f"nothing is called {self._asked.name}"
        if faults:
            status = typed(faults[-1].kinds, faults[-1].message) or Status.FAIL
            message += f": its cell ends in {one_line(faults[-1].kinds[0])}"
        remarks = (Remark.CELL_FAILED,) if faults else ()
        return replace(self._verdict, status=status, message=message, remarks=remarks)

    def _compared(self, subject: BoxSubject, examine: Examine) -> Verdict:
        """Return the verdict on an answer that was taken."""
        verdict = self._verdict
        try:
            finding = examine(self._exercise, subject)
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
            message=told(finding),
            misconception=finding.misconception.name if finding.misconception else "",
            remarks=(Remark.NOT_STARTED,) if finding.unwritten else (),
        )
