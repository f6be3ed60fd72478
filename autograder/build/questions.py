"""The cells of a lesson's quiz and of its interview questions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from autograder import lessons
from autograder.build import holes
from autograder.build.cells import (
    Lesson,
    answer_cell,
    code,
    folded,
    introduction,
    markdown,
    slug_of,
)
from autograder.build.exercises import check_cells
from autograder.errors import CourseError
from autograder.lessons.questions import LETTERS, bank


def quiz_cells(
    lesson: Lesson, number: str, body: str, options: dict[str, Any]
) -> Iterator[NotebookNode]:
    """Yield the practice widget, the questions, the answer cell and the check of a quiz."""
    questions = bank(_number(number)).quiz
    exercise = lessons.find(f"{number}.Q")
    slug = slug_of(exercise)
    yield introduction(exercise)
    yield code(f"{slug}-practice", f"quiz({number})")
    listed = "\n\n".join(
        f"**{question.id}** {question.prompt}\n\n"
        + "\n".join(
            f"- {letter}. {choice.text}"
            for letter, choice in zip(LETTERS, question.choices, strict=False)
        )
        for question in questions
    )
    yield markdown(f"{slug}-questions", listed)
    answers = "\n".join(f'answers["{q.id}"] = "{q.answer}"' for q in questions)
    first = questions[0].id
    stub = f'answers = {{}}\n# One line for each question, such as: answers["{first}"] = "A"'
    yield answer_cell(slug, f"{stub}\n{holes.BEGIN}\n{answers}\n{holes.END}")
    yield from check_cells(lesson, exercise.id, f'check("{exercise.id}", answers)', {})


def interview_cells(
    lesson: Lesson, number: str, body: str, options: dict[str, Any]
) -> Iterator[NotebookNode]:
    """Yield the interview questions, each with what a strong answer holds."""
    for count, item in enumerate(bank(_number(number)).interview, 1):
        holds = "\n".join(f"- {point}" for point in item.strong_answer)
        unfolds = folded("What a strong answer holds", holds)
        yield new_markdown_cell(f"**Question {count}.** {item.question}\n\n{unfolds}")


def _number(lesson: str) -> int:
    if not lesson.isdecimal():
        raise CourseError(f"{lesson!r} is not the number of a lesson")
    return int(lesson)
