"""Exercises that ask for a plain value, made from what a question bank says of them."""

from __future__ import annotations

from typing import Any

from autograder.checks.answer import AnswerCheck
from autograder.checks.compare import Comparison, exactly, same_number, within
from autograder.checks.exercise import Exercise
from autograder.checks.finding import Misconception
from autograder.lessons.questions import ValueQuestion, bank


def value_exercise(lesson: int, exercise_id: str) -> Exercise:
    """Return an exercise that a lesson's question bank describes.

    Raises:
        CourseError: The bank has none of this id, or is not well formed.

    >>> value_exercise(1, "1.W1").check.reference()
    8192
    """
    question = bank(lesson).value_question(exercise_id)
    return Exercise(
        id=question.id,
        title=question.title,
        asks=question.asks,
        points=question.points,
        minutes=question.minutes,
        difficulty=question.difficulty,
        hints=question.hints,
        check=AnswerCheck(
            reference=lambda: question.answer,
            question=question.name,
            unit=question.unit,
            compare=_comparison(question),
            misconceptions=tuple(
                Misconception(each.name, each.explanation, each.value, hint=each.hint)
                for each in question.misconceptions
            ),
        ),
    )


def _comparison(question: ValueQuestion) -> Comparison:
    """Return when two values agree: numbers by value, within a tolerance if there is one."""
    if question.names:
        return _same_one
    if question.tolerance:
        return within(rel=question.tolerance)
    return same_number if type(question.answer) in (int, float) else exactly


def _same_one(expected: float, got: Any) -> str | None:
    """Agree on equal numbers that name something: another one is neither too large nor too small.

    >>> _same_one(2, 2.0), _same_one(2, 1), _same_one(2, "2")
    (None, 'it is another one', 'it is a str, not a number')
    """
    complaint = same_number(expected, got)
    return "it is another one" if complaint == "" else complaint
