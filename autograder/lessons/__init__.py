"""The lessons: their exercises, each described once for tests, notebooks and grader."""

from __future__ import annotations

import importlib
import pkgutil

from autograder.checks.exercise import Exercise
from autograder.errors import CourseError


def numbers() -> list[int]:
    """Return the numbers of the lessons that have checks.

    >>> numbers()[0]
    1
    """
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(
        int(name.removeprefix("lesson")) for name in names if name.removeprefix("lesson").isdigit()
    )


def exercises(lesson: int) -> tuple[Exercise, ...]:
    """Return the exercises of a lesson, in order.

    Raises:
        CourseError: There is no such lesson.
    """
    if lesson not in numbers():
        known = ", ".join(map(str, numbers()))
        raise CourseError(f"no lesson {lesson}; lessons with checks: {known}")
    module = importlib.import_module(f"{__name__}.lesson{lesson:02d}")
    found: tuple[Exercise, ...] = module.EXERCISES
    return found


def find(exercise_id: str) -> Exercise:
    """Return an exercise by its id.

    Raises:
        CourseError: There is no such exercise.

    >>> find("1.1").title
    'Bytes per token'
    >>> find("1.99")
    Traceback (most recent call last):
    autograder.errors.CourseError: no exercise '1.99'; lesson 1 has 1.W1, ...
    """
    number, _, _ = str(exercise_id).partition(".")
    if not number.isdecimal():
        raise CourseError(
            f'no exercise {exercise_id!r}; an id is a lesson and a number, such as "1.2"'
        )
    known = {exercise.id: exercise for exercise in exercises(int(number))}
    if exercise_id not in known:
        raise CourseError(f"no exercise {exercise_id!r}; lesson {number} has {', '.join(known)}")
    return known[exercise_id]
