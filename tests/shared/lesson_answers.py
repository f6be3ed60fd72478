"""What the tests of a lesson ask of unusual right answers and of wrong ones.

A lesson's file keeps its answers by exercise and asks for both tests by their usual names::

    test_an_unusual_right_answer_earns_everything = right_answers_earn_everything(RIGHT)
    test_a_wrong_answer_earns_nothing_and_is_named_only_if_it_is_that = (
        wrong_answers_earn_nothing(WRONG)
    )
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from autograder import lessons
from autograder.checks.finding import Finding
from autograder.proxy.subject import LocalSubject

SAME = ""
"""Stands for a wrong answer that has no name."""

FEW = 25
"""Examples, beside the probes: what is right or wrong about an answer shows in most."""

HARDLY_ANY = 2
"""Examples for who is known to be wrong: most are found out by the probes, which are always asked,
and to look for another case before that takes longer than all the rest."""


def examine(
    exercise_id: str,
    answer: object,
    timeout: float | None = None,
    max_examples: int = FEW,
) -> Finding:
    """Return what the check of an exercise finds out about an answer.

    Args:
        exercise_id: The exercise.
        answer: The answer.
        timeout: Seconds that one call may take; as many as the exercise gives if None.
        max_examples: How many examples are tried at most.
    """
    exercise = lessons.find(exercise_id)
    subject = LocalSubject(answer, timeout or exercise.patience)
    return exercise.examine(subject, max_examples=max_examples)


def examine_wrong(exercise_id: str, answer: object, timeout: float | None = None) -> Finding:
    """Return what the check of an exercise finds out about an answer that is known to be wrong.

    Args:
        exercise_id: The exercise.
        answer: The answer.
        timeout: As for ``examine``.
    """
    finding = examine(exercise_id, answer, timeout, max_examples=HARDLY_ANY)
    # Only the search finds out those whom no probe does.
    return finding if finding.fraction < 1 else examine(exercise_id, answer, timeout)


def named(finding: Finding) -> str:
    """Return the name of the known mistake that an answer is told to be; ``SAME`` if of none."""
    return finding.misconception.name if finding.misconception else SAME


def right_answers_earn_everything(right: Mapping[str, Sequence[Any]]) -> Callable[..., None]:
    """Return a test that each of these answers earns everything.

    Args:
        right: The answers, by exercise.
    """

    @_for_each(right)
    def test(exercise: str, place: int) -> None:
        finding = examine(exercise, right[exercise][place])
        assert finding.fraction == 1, finding.counterexample

    return test


def wrong_answers_earn_nothing(
    wrong: Mapping[str, Sequence[tuple[Any, str]]],
) -> Callable[..., None]:
    """Return a test that each of these answers earns nothing, and is named if it is known.

    How small a failing case can be made is the matter of other tests.

    Args:
        wrong: The answers, by exercise, each with the name of the known mistake that it makes, or
            ``SAME`` if it makes none.
    """

    @pytest.mark.usefixtures("wrong_answers")
    @_for_each(wrong)
    def test(exercise: str, place: int) -> None:
        answer, name = wrong[exercise][place]
        finding = examine_wrong(exercise, answer)
        assert finding.fraction == 0
        assert named(finding) == name, finding.counterexample

    return test


def _for_each(answers: Mapping[str, Sequence[Any]]) -> pytest.MarkDecorator:
    """Run a test for the exercise and the place of each answer."""
    places = [(exercise, place) for exercise in answers for place in range(len(answers[exercise]))]
    return pytest.mark.parametrize(("exercise", "place"), places)
