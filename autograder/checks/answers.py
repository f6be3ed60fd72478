"""What earns full marks, and what each known mistake is, for every kind of check.

A kind is known by what it has: ``AnswerCheck`` works its answer out; a check of lines in order has
``lines`` and ``solution``; one of tasks by hand has ``instance``; for all others the reference is
the right answer.
"""

from __future__ import annotations

from typing import Any

from autograder.checks.answer import AnswerCheck
from autograder.checks.compare import named
from autograder.checks.exercise import Check
from autograder.checks.finding import Misconception
from autograder.checks.reference import Method

FIRST_SEED = 1
"""The seed of the task by hand that a lesson shows; a learner may ask for others."""


def is_ordering(check: Check) -> bool:
    """Say whether a check is of lines to be put in order."""
    return hasattr(check, "lines") and hasattr(check, "solution")


def is_by_hand(check: Check) -> bool:
    """Say whether a check is of a task to be solved by hand, which a seed makes."""
    return hasattr(check, "instance")


def is_of_code(check: Check) -> bool:
    """Say whether a check is of a function or a class, which it calls itself.

    >>> is_of_code(AnswerCheck(lambda: 8192))
    False
    """
    is_of_a_value = isinstance(check, AnswerCheck) or is_ordering(check) or is_by_hand(check)
    return not is_of_a_value and callable(check.reference)


def not_the_code_itself(check: Check, answer: Any) -> str:
    """Say what to pass where a check was given a value for a function or a class; "" if it was not.

    >>> from autograder import lessons
    >>> not_the_code_itself(lessons.find("1.1").check, 819200)
    'The check was given an int, 819200, and calls a function: pass the function itself, ...'
    >>> not_the_code_itself(lessons.find("1.1").check, len)
    ''
    """
    if callable(answer) or not is_of_code(check):
        return ""
    kind = "class" if isinstance(check.reference, type) else "function"
    if isinstance(answer, property | classmethod | staticmethod):
        given = named(type(answer))
        away = f"take `@{type(answer).__name__}` away above it"
        return f"The check was given {given} and calls a {kind}: {away}."
    given = named(type(answer)) if answer is not None else "None"
    if isinstance(answer, int | float):
        given += f", {answer},"
    return (
        f"The check was given {given} and calls a {kind}: pass the {kind} itself, its name without "
        "parentheses behind it, and not what comes of calling it."
    )


def right_answer(check: Any) -> Any:
    """Return an object that earns full marks.

    >>> right_answer(AnswerCheck(lambda: 8192))
    8192
    """
    if isinstance(check, AnswerCheck):
        return check.reference()
    if is_ordering(check):
        return list(check.solution)
    if is_by_hand(check):
        return {"seed": FIRST_SEED, **check.instance(FIRST_SEED).answer}
    reference = check.reference
    return reference.function if isinstance(reference, Method) else reference


def made_of(check: Any, answer: Any) -> Any:
    """Return what is kept of an answer that passed: of lines in order, the function they make."""
    return check.made(answer) if is_ordering(check) else answer


def wrong_answer(check: Any, mistake: Misconception) -> Any:
    """Return an object that makes a known mistake.

    >>> wrong_answer(AnswerCheck(lambda: 2), Misconception("half", "It is twice that.", lambda: 1))
    1
    """
    wrong = mistake.wrong
    if isinstance(check, AnswerCheck):
        return wrong() if callable(wrong) else wrong
    if is_by_hand(check):
        return {"seed": FIRST_SEED, **wrong(FIRST_SEED)}
    return wrong
