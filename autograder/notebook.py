"""What a lesson's cells call: check, quiz, tasks by hand, and one's own prediction compared."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Real
from types import FunctionType
from typing import TYPE_CHECKING, Any

from autograder import lessons
from autograder.assessment import Assessment, assessed
from autograder.checks.answers import is_by_hand, made_of, not_the_code_itself
from autograder.checks.asking import asked_when_called, in_small
from autograder.checks.borrowed import (
    borrowed_through,
    is_borrowed,
    scope_of,
    stand_ins,
    standing_in,
)
from autograder.checks.drawn_quiz import DrawnQuizCheck
from autograder.checks.exercise import Exercise
from autograder.checks.finding import Finding
from autograder.checks.quiz import QuizCheck
from autograder.checks.reference import Method
from autograder.checks.report import Report
from autograder.checks.scaffold import released_docstrings
from autograder.errors import CourseError
from autograder.explanation import at_hand, explanation
from autograder.lessons.lesson15_drawn import COMPREHENSIVE
from autograder.lessons.questions import bank
from autograder.proxy.subject import LocalSubject
from autograder.workspace.harvest import HarvestError, standalone_source
from autograder.workspace.records import note_result
from course_lib import parts

if TYPE_CHECKING:
    from autograder.workspace.progress import Progress
    from course_lib.viz.replays.failing_case import FailingCase

_failures: Counter[str] = Counter()
"""How often each exercise has failed in this session; what is not started does not count."""


_passed: set[str] = set()
"""The exercises that have passed in this session."""

_BORROWED = (
    "This is the course's own answer, or calls it, so it earns nothing: take out the import or "
    "parts.get, and write the body yourself."
)

_BORROWED_THROUGH = (
    "It asks the function that is to be written, through {name}, so it earns nothing: write the "
    "body without that."
)

_ASKS_ITSELF = (
    "It asks {module} for what is to be written, which is your own answer of before: kept in its "
    "place it would call itself for ever. Write the body out, or check what parts.get returns."
)

_OF_ANOTHER = (
    "Its docstring is that of {other}, whose function has the same name. If it is from that cell, "
    "run the cell of {this} once more, then this check."
)

_FEW_EXAMPLES = 10
"""Generated examples for a saved part, whose code has passed with all of them a moment before."""

TRIES = 3
"""Failures after which a solution may be looked at."""


class Points(float):
    """Points, which a notebook does not show under the report that has them already.

    Its plain text stays the number: that is what nbgrader reads.

    >>> Points(7.5)
    7.5
    """

    __slots__ = ()

    def _repr_html_(self) -> str:
        return "<span></span>"


def check(exercise_id: str, obj: Any) -> float:
    """Check an answer, show the result, and return the points that it earns.

    A part that passes is kept in the workspace and used from then on.

    Args:
        exercise_id: Which exercise, such as ``"1.2"``.
        obj: The function, class or value to check.

    Returns:
        Points, 0 to the exercise's maximum.

    Raises:
        CourseError: There is no such exercise.

    >>> check("1.W1", 4096 * 2)
    1.W1 Bytes of a vector: passed
    0.0
    """
    exercise = lessons.find(exercise_id)
    finding, others = _examine(exercise, obj)
    note = trimmings = ""
    if finding.fraction == 1:
        _passed.add(exercise_id)
        made = made_of(exercise.check, obj)
        with standing_in(scope_of(obj), others):
            note, is_kept = _keep(exercise, made, _same_check(exercise, obj, made))
        trimmings = _trimmings(exercise_id, exercise.part if is_kept else None)
    elif not finding.unwritten:
        _failures[exercise_id] += 1
    report = Report(exercise, finding, note, max(1, _failures[exercise_id]), trimmings)
    _display(report)
    _note(exercise, finding, report.points, obj)
    if finding.retell is not None and _in_notebook() and not _is_run_by_nbgrader():
        _offer_replay(finding.retell)
    return Points(report.points)


def explain(exercise_id: str) -> None:
    """Show the explained solution of an exercise, wherever in a cell it is called.

    It opens once the check has passed, in this session or with an answer that is kept as a part, or
    has failed ``TRIES`` times. Until then, and where this copy of the course has no solutions, a
    line says so.

    Args:
        exercise_id: Which exercise, such as ``"1.2"``.

    Raises:
        CourseError: There is no such exercise.

    >>> explain("1.99")
    Traceback (most recent call last):
        ...
    autograder.errors.CourseError: no exercise '1.99'; lesson 1 has 1.W1, ...
    """
    exercise = lessons.find(exercise_id)
    tries = _failures[exercise_id]
    if _is_graded() or not at_hand(exercise_id):
        print(
            f"This copy of the course has no solutions, so {exercise.id} cannot be explained here; "
            "ask whoever gave it to you."
        )
    elif exercise_id not in _passed and tries < TRIES and not _is_kept(exercise):
        print(
            f"The solution of {exercise.id} opens once you have passed its check or tried it "
            f"{TRIES} times; so far: {tries}. The hints below the exercise help until then."
        )
    elif (found := explanation(exercise_id)) is not None:
        _display(found)
    else:
        print(f"There is nothing more to say about {exercise.id}.")


def _is_kept(exercise: Exercise) -> bool:
    """Say whether an answer that passed in an earlier session is in the workspace as a part."""
    return exercise.part is not None and parts.won_by(exercise.part) == exercise.id


def compare(prediction: float | None, actual: float, unit: str, *, ratio: bool = True) -> None:
    """Hold a prediction against what came out, and say by how much it is off.

    Args:
        prediction: What was predicted, or None if nothing was.
        actual: What came out.
        unit: The unit of both; "" if they have none.
        ratio: Whether one may be divided by the other; not so if they are names, such as ids.

    >>> compare(4, 10, "GiB")
    You predicted 4 GiB. It is 10 GiB: 2.5 times as much.
    >>> compare(3, 4, "", ratio=False)
    You predicted 3. It is 4.
    >>> compare(False, True, "")
    You predicted False. It is True.
    >>> compare(None, 10, "GiB")
    Write your prediction first: the surprise is what you learn from.
    """
    if prediction is None:
        print("Write your prediction first: the surprise is what you learn from.")
        return
    if isinstance(prediction, bool) != isinstance(actual, bool) or not isinstance(prediction, Real):
        kind = "True or False" if isinstance(actual, bool) else "a number"
        print(f"A prediction is {kind}; yours is {prediction!r}. It is {_with_unit(actual, unit)}.")
        return
    said = f"You predicted {_with_unit(prediction, unit)}. It is {_with_unit(actual, unit)}"
    if not ratio or prediction <= 0 or actual <= 0 or 0.9 <= actual / prediction <= 1.1:
        print(f"{said}.")
    elif actual > prediction:
        print(f"{said}: {_figure(actual / prediction, 2)} times as much.")
    else:
        print(f"{said}: your prediction is {_figure(prediction / actual, 2)} times as large.")


def _with_unit(value: float, unit: str) -> str:
    """Write a number and its unit; of one thing, in the singular.

    >>> _with_unit(27.04, "%"), _with_unit(1, "slots"), _with_unit(1, "lanes per entry")
    ('27%', '1 slot', '1 lane per entry')
    >>> _with_unit(27.04, "% of all slots"), _with_unit(24.7, ""), _with_unit(1, "times as long")
    ('27% of all slots', '24.7', '1 times as long')
    """
    if isinstance(value, bool):
        return str(value)
    if unit == "" or unit.startswith("%"):
        return f"{_figure(value)}{unit}"
    first, _, rest = unit.partition(" ")
    if _figure(value) == "1" and first.endswith("s") and first != "times":
        first = first[:-1]
    return f"{_figure(value)} {first} {rest}".rstrip()


def _figure(value: float, digits: int = 3) -> str:
    """Write a number with so many digits, and a large one whole, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def task(exercise_id: str, seed: int) -> Any:
    """Return a task to be solved by hand, for a notebook to show; each seed gives another one.

    The answer is not in it. A check shows that once it is right, or to whoever gives up on a seed.

    Raises:
        CourseError: There is no such exercise, or it has no tasks by hand.
    """
    check: Any = lessons.find(exercise_id).check
    if not is_by_hand(check):
        raise CourseError(f"exercise {exercise_id} has no tasks by hand; read what it asks")
    return check.instance(seed).posed()


def quiz(lesson: int) -> Any:
    """Return the practice widget of a lesson's quiz: choose, and read what each choice means."""
    from course_lib.viz.quiz import Quiz

    return Quiz([question.model_dump() for question in bank(lesson).quiz])


def practise(exercise_id: str, seed: int) -> Any:
    """Return the questions of a seed as a widget: choose, and read what each choice means.

    Raises:
        CourseError: There is no such exercise, or no seed draws its questions.
    """
    from course_lib.viz.quiz import Quiz

    check: Any = lessons.find(exercise_id).check
    if not isinstance(check, DrawnQuizCheck):
        raise CourseError(f"exercise {exercise_id} has no questions that a seed draws; quiz(1) has")
    return Quiz([question.model_dump() for question in check.questions(seed)])


def assess(ratings: Mapping[str, Any], *answers: Mapping[str, Any]) -> Assessment:
    """Return, for each concept, how sure you are beside how many questions you answered right.

    Args:
        ratings: For each concept, three numbers from 1 to 5: how well you understand it, could
            explain it, and could implement it.
        answers: Your letters of the parts of the quiz, each with its seed.

    Raises:
        CourseError: A rating is of no concept, or is not three numbers from 1 to 5.
    """
    checks = [exercise.check for exercise in lessons.exercises(COMPREHENSIVE)]
    quizzes = [check for check in checks if isinstance(check, DrawnQuizCheck)]
    return assessed(ratings, answers, quizzes)


def progress() -> Progress:
    """Return what you have done of the course, what is left, and which concepts to revisit.

    Raises:
        CourseError: There is no workspace.
    """
    from autograder.workspace.progress import progress_of

    folder = parts.workspace()
    if folder is None:
        raise CourseError("there is no workspace here; open the lesson with `course lab`")
    return progress_of(folder)


def _examine(exercise: Exercise, obj: Any) -> tuple[Finding, dict[str, Any]]:
    """Check an answer, and refuse one that is not the learner's.

    A mistake in an earlier exercise is not charged again: what an answer uses of others' answers is
    replaced by the right ones if it does better then.

    Returns:
        What came of it, and the right answers that stood in, by name.
    """
    if exercise.missing:
        advice = f"It cannot be checked here: {exercise.missing}."
        return Finding(0.0, unwritten=True, advice=advice), {}
    if advice := not_the_code_itself(exercise.check, obj):
        return Finding(0.0, unwritten=True, advice=advice), {}
    finding, others = _examine_as_own(exercise, obj)
    if finding.fraction < 1 and (other := _exercise_that_it_may_be_of(exercise, obj)):
        remark = _OF_ANOTHER.format(other=other.id, this=exercise.id)
        if finding.unwritten:
            # Of such a one only the advice is shown.
            return replace(finding, advice=f"{remark} {finding.advice}".strip()), others
        return replace(finding, remarks=(*finding.remarks, remark)), others
    return finding, others


def _exercise_that_it_may_be_of(exercise: Exercise, obj: Any) -> Exercise | None:
    """Return another exercise of the lesson from whose cell a function of this name may be.

    Its docstring says so. What a function returns says nothing: it may be what another exercise
    asks for, and still have been written for this one.
    """
    if not isinstance(obj, FunctionType) or not obj.__doc__:
        return None
    name, said = getattr(exercise.check.reference, "__name__", None), inspect.getdoc(obj)
    for other in lessons.exercises(int(exercise.id.partition(".")[0])):
        right = None if other == exercise else other.check.reference
        if isinstance(right, Method) and right.__name__ == name and not is_borrowed(obj, right):
            theirs, ours = map(released_docstrings, (other.id, exercise.id))
            if said in theirs and said not in ours:
                return other
    return None


def _examine_as_own(exercise: Exercise, obj: Any) -> tuple[Finding, dict[str, Any]]:
    """Check an answer, and refuse one that is not the learner's; return as ``_examine`` does."""
    rights = exercise.check.reference, *getattr(exercise.check, "others", ())
    if any(is_borrowed(obj, right) for right in rights):
        return Finding(0.0, unwritten=True, advice=_BORROWED), {}
    if detour := borrowed_through(obj, exercise.check.reference):
        advice = _BORROWED_THROUGH.format(name=detour)
        return Finding(0.0, unwritten=True, advice=advice), {}
    finding = exercise.examine(LocalSubject(obj, exercise.patience))
    if finding.fraction > 0 and (advice := _asks_for_itself(exercise, obj)):
        return Finding(0.0, unwritten=True, advice=advice), {}
    if finding.fraction == 1 or finding.unwritten:
        return finding, {}
    lesson = int(exercise.id.partition(".")[0])
    siblings = [each for each in lessons.exercises(lesson) if each != exercise]
    others = stand_ins(obj, [each for each in siblings if not each.missing])
    if not others:
        return finding, {}
    with standing_in(scope_of(obj), others):
        again = exercise.examine(LocalSubject(obj, exercise.patience))
        advice = _asks_for_itself(exercise, obj) if again.fraction > 0 else ""
    if advice:
        return Finding(0.0, unwritten=True, advice=advice), {}
    is_worse = again.fraction < finding.fraction
    if is_worse or (again.fraction, again.counterexample) == (
        finding.fraction,
        finding.counterexample,
    ):
        return finding, {}
    broken = _broken(scope_of(obj), others, siblings)
    if not broken and again.fraction == finding.fraction:
        # It fails in other words, as where an error is another's text: the learner's own stand.
        return finding, {}
    # What still fails is this answer's own doing; what failed before may be that of another.
    remark = _stood_in(others, broken)
    return replace(again, remarks=(*again.remarks, remark)), others


def _asks_for_itself(exercise: Exercise, obj: Any) -> str:
    """Say why an answer earns nothing that has the work done by what it was to be; "" if not."""
    asked = asked_when_called(obj, exercise.check, exercise.part)
    if asked.startswith("my_engine."):
        return _ASKS_ITSELF.format(module=asked)
    return _BORROWED if asked else ""


def _broken(
    scope: dict[str, Any], others: dict[str, Any], siblings: list[Exercise]
) -> dict[str, str]:
    """Return those of the learner's answers that do not pass, each with its exercise's id."""
    return {
        name: exercise.id
        for name in others
        for exercise in siblings
        if getattr(exercise.check.reference, "__name__", None) == name
        and exercise.examine(
            LocalSubject(scope[name], exercise.patience), max_examples=_FEW_EXAMPLES
        ).fraction
        < 1
    }


def _stood_in(others: dict[str, Any], broken: dict[str, str]) -> str:
    """Say which answers stood in for the learner's, and which of those to check again."""
    remark = f"Checked with the course's own {', '.join(broken or others)} in the place of yours."
    for name, exercise_id in broken.items():
        remark += (
            f" Your {name}, as this notebook has it now, does not pass: run the cell and the check "
            f"of {exercise_id} again."
        )
    return remark


def _same_check(exercise: Exercise, obj: Any, made: Any) -> Callable[[Any], bool]:
    """Return what says of a saved part whether it passes as the answer did.

    Of lines in order a function was made, which is no answer itself: it is what its text says. What
    costs CPU time is not timed once more, and a failure is asked for twice: a busy moment would
    keep the part from being saved, and a text that does something else does it again.
    """
    again = replace(exercise, check=in_small(exercise.check))

    def passes(loaded: Any) -> bool:
        for _ in range(2):
            subject = LocalSubject(loaded, exercise.patience)
            finding = again.examine(subject, max_examples=_FEW_EXAMPLES)
            if finding.fraction == 1:
                return True
        if (failure := finding.counterexample) is None:
            return False
        last = failure.case.strip().rpartition("\n")[2]
        raise ValueError(f"{parts.OTHER_TEXT}. With it, {last} gives {failure.got}")

    return passes if made is obj else lambda loaded: True


def _keep(exercise: Exercise, obj: Any, passes: Callable[[Any], bool]) -> tuple[str, bool]:
    """Save a part that passed; return what to tell the learner, and whether it is kept."""
    part = exercise.part
    if part is None or parts.workspace() is None:
        return "", False
    try:
        path = parts.save(part, standalone_source(obj, exercise.id), exercise.id, passes)
    except (HarvestError, SyntaxError, ValueError, OSError) as error:
        return f"Right, but not kept as a part of your engine: {error}.", False
    if path is None:
        return "", False
    if "course_lib.viz.engine.map" in sys.modules:
        sys.modules["course_lib.viz.engine.map"].refresh_all()
    return parts.standing(part), True


def _trimmings(exercise_id: str, kept: str | None) -> str:
    """Return what a notebook shows below a pass: the map if a part was won, and the explanation.

    A submission that is graded gets neither: its feedback goes to students.
    """
    if not _in_notebook() or _is_graded():
        return ""
    picture = ""
    if kept is not None:
        # Draws with what figures need, which is loaded in every lesson.
        from course_lib.viz.engine.thumbnail import engine_thumbnail

        picture = engine_thumbnail(kept.partition(".")[0], parts.table())
    found = explanation(exercise_id)
    return picture + (found.folded() if found is not None else "")


def _note(exercise: Exercise, finding: Finding, points: float, obj: Any) -> None:
    """Keep a result with the learner's progress; what was not begun is none."""
    folder = parts.workspace()
    if folder is None or finding.unwritten:
        return
    check = exercise.check
    open_questions: tuple[str, ...] = ()
    if isinstance(check, QuizCheck | DrawnQuizCheck):
        open_questions = check.not_right(obj)
    # Where it cannot be written, the check has said all that matters.
    with contextlib.suppress(CourseError):
        note_result(folder, exercise.id, points, finding.fraction == 1, open_questions)


def _refuse_to_leave(*called: Any) -> None:
    """Stand for what ``exit()`` and ``quit()`` ask a kernel to do: to end, with all in it."""
    raise CourseError(
        "exit() and quit() would end the kernel, and all that you have run with it; "
        "write return, or raise an exception"
    )


def _stay_when_asked_to_exit() -> None:
    """Let ``exit()`` in a cell or an answer end neither the kernel nor what it holds."""
    if _in_notebook():
        shell = sys.modules["IPython"].get_ipython()
        if hasattr(shell, "kernel"):
            shell.ask_exit = _refuse_to_leave


def _is_graded() -> bool:
    """Say whether a submission is being graded, on the machine of someone who has the solutions."""
    return os.environ.get("NBGRADER_EXECUTION") == "autograde"


def _is_run_by_nbgrader() -> bool:
    """Say whether nbgrader grades or validates the notebook: nobody presses a button then."""
    return "NBGRADER_EXECUTION" in os.environ


def _offer_replay(retell: Callable[[], FailingCase]) -> None:
    """Show a button below the report that opens the failing case in a figure."""
    from course_lib.viz.replays.offer import ReplayOffer

    sys.modules["IPython"].display.display(ReplayOffer(retell))


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def _display(report: object) -> None:
    """Show a report as HTML where there is a notebook, else print it."""
    if _in_notebook():
        sys.modules["IPython"].display.display(report)
    else:
        print(report)


_stay_when_asked_to_exit()
