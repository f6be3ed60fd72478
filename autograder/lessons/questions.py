"""The question banks in ``grading/question_banks/``: each lesson's quiz and interview questions."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from autograder.errors import CourseError
from autograder.paths import course_root

LETTERS = "ABCDEFGH"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Choice(_Entry):
    """One answer that a quiz question offers.

    Attributes:
        text: The answer.
        feedback: What to say to someone who chose it.
        correct: Whether it is right.
        misconception: The name of the idea that leads to it, if it is wrong.
    """

    text: str
    feedback: str
    correct: bool = False
    misconception: str = ""

    @model_validator(mode="after")
    def _wrong_ones_are_named(self) -> Choice:
        if self.correct == bool(self.misconception):
            raise ValueError(
                f"choice {self.text!r}: a wrong choice names its misconception, the right one has "
                "none"
            )
        return self


class Question(_Entry):
    """A quiz question with one right answer.

    Attributes:
        id: Its name within the lesson, such as ``q1``.
        concept: What it is about.
        prompt: The question; inline code in backquotes.
        choices: What to choose from, in the order shown.
    """

    id: str
    concept: str
    prompt: str
    choices: Annotated[tuple[Choice, ...], Field(min_length=3, max_length=len(LETTERS))]

    @model_validator(mode="after")
    def _one_is_right(self) -> Question:
        if sum(choice.correct for choice in self.choices) != 1:
            raise ValueError(f"question {self.id}: exactly one choice is correct")
        return self

    @property
    def answer(self) -> str:
        """The letter of the right choice."""
        return next(
            letter for letter, choice in zip(LETTERS, self.choices, strict=False) if choice.correct
        )


class InterviewQuestion(_Entry):
    """A question as an interviewer would put it, with what a strong answer holds."""

    question: str
    strong_answer: Annotated[tuple[str, ...], Field(min_length=3)]


class Bank(_Entry):
    """The questions of one lesson."""

    lesson: int
    quiz: Annotated[tuple[Question, ...], Field(min_length=6, max_length=10)]
    interview: Annotated[tuple[InterviewQuestion, ...], Field(min_length=5)]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Bank:
        ids = [question.id for question in self.quiz]
        if len(set(ids)) < len(ids):
            raise ValueError(f"quiz ids repeat: {', '.join(ids)}")
        return self


@cache
def bank(lesson: int) -> Bank:
    """Return the question bank of a lesson.

    Raises:
        CourseError: There is none, or it is not well formed.

    >>> bank(1).quiz[0].answer in LETTERS
    True
    """
    folder = course_root() / "grading" / "question_banks"
    found = sorted(folder.glob(f"{lesson:02d}_*.toml"))
    if not found:
        raise CourseError(f"no question bank for lesson {lesson} in {folder}")
    return _read(found[0])


def _read(path: Path) -> Bank:
    try:
        return Bank.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise CourseError(f"{path.name} is not TOML: {error}; mend that line") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CourseError(f"{path.name}: {where}: {first['msg']}") from error
