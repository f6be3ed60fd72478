"""The judging of one submission: which cells run in which box, and what is asked for there.

Each exercise has a box of its own, in which the cells run that its answer needs
(``autograder.sealed.needed``), and bodies of the course for the exercises that have their verdict
(``autograder.sealed.bodies`` says why that is safe). Then the answer is taken: a fork of the box's
process is asked, call by call, and what comes back is compared outside.

An answer that fails may have met a body that is not there yet, or another answer of the same
student that is wrong. Then it is judged once more, in a box that lacks no body but its own and in
which the course's answers stand in for the wrong ones; the better verdict counts. So a mistake in
1.1 costs 1.1 alone.

What came of a trial depends on its exercise, with the seed and the check, on the bodies in the box
and on the cells that ran there, in order. Where another submission would try the very same, the
verdict is known; what ran into a limit, which a busy machine may have brought about, is tried
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from autograder.matching import grade_id
from autograder.sealed.bodies import Course
from autograder.sealed.intake import Role, Submission
from autograder.sealed.needed import about, needed, written_for
from autograder.sealed.release import Asked, Release
from autograder.sealed.trial import Setting, Step, Trial, Tried
from autograder.sealed.verdict import Remark, Status, Verdict
from autograder.sealed.words import NOTHING_YET

ANSWER_SECONDS, GIVEN_SECONDS = 20.0, 120.0
"""How long a cell may take: one that the student wrote, and one that was given."""

MOST_LOST = 4
"""Cells that may end their box, or not end, before the rest counts as not gradable."""

_PRACTICE = 0


class Judging:
    """The judging of one submission.

    Args:
        release: The lesson.
        course: The bodies that it asks for.
        tries: Tries an exercise in a box.
        submission: What is judged.

    Attributes:
        trouble: What was the matter with the machine last.
    """

    def __init__(
        self,
        release: Release,
        course: Course,
        tries: Callable[[Trial], Tried],
        submission: Submission,
    ) -> None:
        self._release = release
        self._course = course
        self._tries = tries
        self._cells = submission.cells
        self._verdicts: dict[str, Verdict] = {}
        self._lost: dict[int, Verdict] = {}
        self.trouble = ""

    def run(self) -> None:
        """Judge what has no verdict yet, in the order of the cells.

        Raises:
            BoxError: The machine failed. What was judged stays, and it can be called again.
        """
        for at, cell in enumerate(self._cells):
            if cell.role is Role.CHECK and str(cell.grade_id) not in self._verdicts:
                asked = self._release.of_check(str(cell.grade_id))
                verdict = self._judged(asked, at)
                if len(self._lost) > MOST_LOST:
                    self._give_up()
                    return
                self._verdicts[asked.check_id] = verdict

    def on_exercises(self) -> Iterator[Verdict]:
        """Yield the verdicts, in the order of the lesson."""
        for asked in self._release.asked:
            failed = Verdict(asked.exercise, asked.check_id, Status.INFRA, message=self.trouble)
            yield self._verdicts.get(asked.check_id, failed)

    def _give_up(self) -> None:
        """Let what is open be a person's matter."""
        message = f"more than {MOST_LOST} of its cells ended the process or did not end"
        for asked in self._release.asked:
            verdict = Verdict(
                asked.exercise,
                asked.check_id,
                Status.QUARANTINED,
                message=message,
                remarks=(Remark.NOT_GRADABLE,),
            )
            self._verdicts.setdefault(asked.check_id, verdict)

    def _judged(self, asked: Asked, at: int) -> Verdict:
        """Return the verdict on what a check asks for.

        Args:
            asked: What it asks for.
            at: The place of the check.
        """
        answers = [cell for cell in self._cells if cell.grade_id == asked.answer_id]
        verdict = Verdict(asked.exercise, asked.check_id, Status.FAIL)
        if not answers:
            message = f"the cell {asked.answer_id} was deleted"
            return replace(verdict, message=message, remarks=(Remark.CELL_MISSING,))
        if self._is_as_released(asked, at, answers[0].source):
            return replace(verdict, message=NOTHING_YET, remarks=(Remark.NOT_STARTED,))
        if self._course.is_judged_alone(asked.exercise):
            return self._judged_alone(asked, at)
        tried, places = self._tried(asked, at, self._by_now(asked), {})
        verdict = tried.verdict
        if verdict.fraction < 1 and asked.points > _PRACTICE and not tried.lost:
            faulty = [places[number] for number in tried.faults]
            if tried.met - {asked.exercise} or self._is_damaged(asked, at, faulty):
                again = self._judged_alone(asked, at)
                best = again if again.fraction > verdict.fraction else verdict
                boxes = verdict.evidence.boxes + again.evidence.boxes
                verdict = replace(best, evidence=replace(best.evidence, boxes=boxes))
        if verdict.fraction > 0 and not answers[0].source.strip():
            verdict = replace(verdict, remarks=(*verdict.remarks, Remark.OUTSIDE_ITS_CELL))
        return verdict

    def _judged_alone(self, asked: Asked, at: int) -> Verdict:
        """Return the verdict of a box in which nothing but this exercise is open."""
        # It knows answers to what is still open, and chooses the words of what it raises.
        setting = Setting(
            "all others",
            tuple(self._course.but_for(asked.exercise)),
            self._course.place_of(asked.exercise),
            tells=False,
        )
        lost = dict(self._lost)
        tried, _ = self._tried(asked, at, setting, self._stand_ins(at))
        # What becomes of a cell there says nothing of other boxes.
        self._lost = lost
        return tried.verdict

    def _is_as_released(self, asked: Asked, at: int, source: str) -> bool:
        """Say whether an answer is the released stub, which no cell of the student's own speaks of.

        A box would say the same of it: what is released earns nothing.
        """
        if not source.strip() or source.strip() != self._stub(asked):
            return False
        own = (cell for cell in self._cells[:at] if cell.role is Role.OWN)
        return not any(asked.name in cell.source for cell in own)

    def _stub(self, asked: Asked) -> str:
        cells = self._release.cells
        return next(str(c.source).strip() for c in cells if grade_id(c) == asked.answer_id)

    def _by_now(self, asked: Asked) -> Setting:
        """Return the box that has bodies for the exercises with a verdict."""
        judged = self._course.exercises.intersection(
            each.exercise for each in self._verdicts.values()
        )
        place = self._course.place_of(asked.exercise)
        return Setting(" ".join(sorted(judged)), tuple(self._course.by_now(judged)), place)

    def _tried(
        self, asked: Asked, at: int, setting: Setting, stand_ins: Mapping[int, str]
    ) -> tuple[Tried, list[int]]:
        """Return what comes of an exercise, and the places of the cells that ran for it.

        A cell that has ended a box before does not run in another one.
        """
        while True:
            own = written_for(self._cells, at)
            blamed = [self._lost[place] for place in own if place in self._lost]
            if blamed or len(self._lost) > MOST_LOST:
                verdict = Verdict(asked.exercise, asked.check_id, Status.QUARANTINED)
                for each in blamed[:1]:
                    verdict = replace(each, exercise=asked.exercise, grade_id=asked.check_id)
                return Tried(verdict, lost=self._lost), []
            wanted = {*needed(self._cells, at, asked.name), *stand_ins}
            places = sorted(wanted.difference(self._lost))
            steps = [self._step(place, own, stand_ins) for place in places]
            tried = self._tries(Trial(asked, setting, steps))
            self._lost |= {places[number]: ended for number, ended in tried.lost.items()}
            if tried.is_over:
                return tried, places

    def _step(self, place: int, own: Sequence[int], stand_ins: Mapping[int, str]) -> Step:
        """Return the cell that runs at a place."""
        cell = self._cells[place]
        if place in stand_ins:
            return Step(stand_ins[place], ANSWER_SECONDS)
        seconds = GIVEN_SECONDS if cell.role is Role.GIVEN else ANSWER_SECONDS
        return Step(cell.source, seconds, place in own)

    def _is_damaged(self, asked: Asked, check: int, faulty: Sequence[int]) -> bool:
        """Say whether its cells fail, or use a wrong answer or what a cell that failed defines."""
        places = needed(self._cells, check, asked.name)
        wanted = frozenset[str]().union(*(about(self._cells[at].source).used for at in places))
        own = written_for(self._cells, check)
        wrong = {
            self._release.of_check(str(self._cells[at].grade_id)).name
            for at in self._stand_ins(check)
        }
        return not wanted.isdisjoint(wrong) or any(
            at in own or not wanted.isdisjoint(about(self._cells[at].source).bound) for at in faulty
        )

    def _stand_ins(self, check: int) -> dict[int, str]:
        """Return what takes the place of the wrong answers before a check, by its place."""
        found = {}
        for place in range(check):
            cell = self._cells[place]
            verdict = self._verdicts.get(str(cell.grade_id))
            if cell.role is not Role.CHECK or verdict is None or verdict.fraction == 1:
                continue
            asked = self._release.of_check(str(cell.grade_id))
            source = self._course.in_place_of(asked.exercise, asked.name)
            if source is not None:
                found[place] = source
        return found
