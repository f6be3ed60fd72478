"""The cells of an exercise: what is asked, where the answer goes, hints, and its check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nbformat import NotebookNode

from autograder import lessons
from autograder.build import holes
from autograder.build.cells import (
    Lesson,
    answer_cell,
    code,
    folded,
    introduction,
    markdown,
    role,
    slug_of,
)
from autograder.build.imports import needed_imports
from autograder.checks.answers import FIRST_SEED, is_by_hand, is_ordering
from autograder.checks.drawn_quiz import DrawnQuizCheck
from autograder.checks.exercise import Exercise
from autograder.errors import CourseError


def exercise_cells(
    lesson: Lesson, exercise_id: str, body: str, options: dict[str, Any]
) -> Iterator[NotebookNode]:
    """Yield the cells of an exercise, down to its hints.

    What they are depends on its check: lines to be put in order (the check has ``lines`` and
    ``solution``), a task by hand (it has ``instance``), the body of the source's own cell, or a
    stub cut out of the library.
    """
    exercise = lessons.find(exercise_id)
    check: Any = exercise.check
    slug = slug_of(exercise)
    yield introduction(exercise)
    if is_ordering(check):
        yield markdown(f"{slug}-lines", _labelled(check.lines))
        body = body or _order(check.solution)
    elif is_by_hand(check):
        if isinstance(check, DrawnQuizCheck):
            body = body or _letters(check)
        task = check.instance(FIRST_SEED).task
        another = f'`task("{exercise.id}", seed={FIRST_SEED + 1})` shows another one.'
        yield markdown(f"{slug}-task", f"{task}\n\n{another}")
    if body and options:
        raise CourseError(f"{', '.join(options)} needs a cell without a body; or drop the option")
    if not body:
        methods = _split(options.get("holes", ""), ",")
        steps = _split(options.get("steps", ""), "|")
        reference = check.reference
        marked = holes.cut(reference, methods, steps)
        imports = needed_imports(reference, marked, lesson.setup_names, lesson.answers())
        body = "\n".join(imports) + "\n\n\n" + marked if imports else marked
    holes.validate(body, f"exercise {exercise_id}")
    yield answer_cell(slug, body)
    if exercise.hints:
        hints = (folded(f"Hint {n}", hint) for n, hint in enumerate(exercise.hints, 1))
        yield markdown(f"{slug}-hints", "\n\n".join(hints))


def check_cells(
    lesson: Lesson, exercise_id: str, body: str, options: dict[str, Any]
) -> Iterator[NotebookNode]:
    """Yield the cell that checks an exercise, locked."""
    exercise = lessons.find(exercise_id)
    body = body or f'check("{exercise.id}", {_checked(exercise)})'
    cell = code(f"check-{slug_of(exercise)}", body)
    metadata = role(cell["id_hint"], grade=exercise.points > 0, locked=True)
    if exercise.points:
        metadata["points"] = exercise.points
    cell.metadata["nbgrader"] = metadata
    yield cell


def _checked(exercise: Exercise) -> str:
    """Return the name that holds the answer."""
    if is_ordering(exercise.check):
        return "order"
    if isinstance(exercise.check, DrawnQuizCheck):
        return exercise.check.name
    name = str(getattr(exercise.check.reference, "__name__", ""))
    if not name.isidentifier():
        raise CourseError(f"check {exercise.id} needs a body that says what is checked")
    return name


def _labelled(lines: Mapping[str, str]) -> str:
    """Return the lines with their labels, as code; a label may stand for several lines."""
    width = max(map(len, lines))
    shown = [
        f"{label if first else '':<{width}}  {line}"
        for label, text in lines.items()
        for first, line in zip([True, *[False] * len(text)], text.split("\n"), strict=False)
    ]
    return "\n".join(["```", *shown, "```"])


def _order(solution: tuple[str, ...]) -> str:
    letters = ", ".join(f'"{label}"' for label in solution)
    return "\n".join(
        [
            "order = []",
            "# Set order to the letters of the lines, from top to bottom, each in quotes.",
            holes.BEGIN,
            f"order = [{letters}]",
            holes.END,
        ]
    )


def _letters(check: DrawnQuizCheck) -> str:
    """Return the answer cell of a drawn quiz, with the right letters of the first seed."""
    right = check.instance(FIRST_SEED).answer
    first = next(iter(right))
    example = f'{check.name}["{first}"] = "X"'
    return "\n".join(
        [
            f'{check.name} = {{"seed": {FIRST_SEED}}}',
            f"# One line for each question, with its letter for X: {example}",
            holes.BEGIN,
            *(f'{check.name}["{question}"] = "{letter}"' for question, letter in right.items()),
            holes.END,
        ]
    )


def _split(options: str, separator: str) -> list[str]:
    return [part.strip() for part in options.split(separator) if part.strip()]
