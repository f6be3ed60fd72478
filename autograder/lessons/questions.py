"""The question banks in ``grading/question_banks/``: each lesson's quiz, plain values, interview.

A question for a value holds its answer as Python writes it, without names or calls, so that it says
how a number comes about: ``"2 * 4096 * 4096"``.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import cache
from math import ceil
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from autograder.errors import CourseError
from autograder.files import Form, read_form
from autograder.paths import course_root
from course_lib.catalogue import FINAL_PROJECT

LETTERS = "ABCDEFGH"
LEAST_QUESTIONS = 8
"""Of a lesson's quiz. A notebook of the final project may do with fewer, or without."""


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}


_FUNCTIONS: dict[str, Callable[..., Any]] = {"ceil": ceil, "max": max, "min": min}
"""What an expression of drawn values may call."""


def evaluate(written: Any) -> Any:
    """Return the value of an expression of literals; what is no text is a value already.

    Raises:
        ValueError: It is no such expression.

    >>> evaluate("24 * 2**30"), evaluate(8192), evaluate("{'short': True}")
    (25769803776, 8192, {'short': True})
    """
    if not isinstance(written, str):
        return written
    try:
        return _value(ast.parse(written.strip(), mode="eval").body)
    except (SyntaxError, ArithmeticError, TypeError) as error:
        raise ValueError(f"{written!r} is no expression of literals: {error}") from error


def worked_out(rule: str, values: Mapping[str, Any]) -> Any:
    """Return what a rule gives with these values; it may call ``ceil``, ``max`` and ``min``.

    Raises:
        ValueError: It is no such rule, or names what is not there.

    >>> worked_out("ceil(tokens / block)", {"tokens": 100, "block": 16})
    7
    """
    try:
        return _value(ast.parse(rule.strip(), mode="eval").body, values)
    except (SyntaxError, ArithmeticError, TypeError) as error:
        raise ValueError(f"{rule!r} cannot be worked out: {error}") from error


def _value(node: ast.expr, values: Mapping[str, Any] | None = None) -> Any:
    """Return the value of a node; names and calls are known only where there are ``values``."""
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left, values), _value(node.right, values))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.operand, values))
    if values is not None and isinstance(node, ast.Name) and node.id in values:
        return values[node.id]
    if values is not None and isinstance(node, ast.Call) and not node.keywords:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_value(each, values) for each in node.args))
    return ast.literal_eval(node)


class Entry(BaseModel):
    """A table of a bank: nothing but what it says may be in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Choice(Entry):
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


class Question(Entry):
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


Value = Annotated[Any, BeforeValidator(evaluate)]
"""A plain value, or text that is an expression of literals; a text is written in quotes twice."""


class WrongValue(Entry):
    """A value that people are known to give.

    Attributes:
        name: What the mistake is called.
        explanation: One sentence that says what is wrong and why.
        value: The value.
        hint: What helps whoever gave it.
    """

    name: str
    explanation: str
    value: Value
    hint: str = ""


class ValueQuestion(Entry):
    """A question whose answer is a plain value, such as a number.

    Attributes:
        id: The exercise, such as ``1.W1``.
        title: A few words.
        asks: The question, in one sentence.
        answer: The right value.
        name: What the learner's value is called in a report.
        unit: The unit of a number.
        tolerance: How far a number may be off, as a share of it; 0 for not at all.
        names: Whether a number names something, such as an index or a block, and has no size.
        points: What it earns; 0 for practice.
        minutes: How long it takes, roughly.
        difficulty: 1 to 3.
        hints: From a question to one line of pseudocode.
        misconceptions: Known wrong values.
    """

    id: str
    title: str
    asks: str
    answer: Value
    name: str = "your answer"
    unit: str = ""
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0
    names: bool = False
    points: Annotated[int | float, Field(ge=0)] = 0
    minutes: Annotated[int, Field(ge=1)] = 1
    difficulty: Annotated[int, Field(ge=1, le=3)] = 1
    hints: Annotated[tuple[str, ...], Field(min_length=1, max_length=3)]
    misconceptions: tuple[WrongValue, ...] = ()

    @model_validator(mode="after")
    def _wrong_values_are_wrong(self) -> ValueQuestion:
        right = [each.name for each in self.misconceptions if each.value == self.answer]
        if right:
            raise ValueError(f"{self.id}: the value of {right[0]!r} is the right answer")
        return self


class InterviewQuestion(Entry):
    """A question as an interviewer would put it, with what a strong answer holds."""

    question: str
    strong_answer: Annotated[tuple[str, ...], Field(min_length=3)]


class Bank(Entry):
    """The questions of one lesson; the final project's notebooks need no quiz of their own."""

    lesson: int
    quiz: Annotated[tuple[Question, ...], Field(max_length=10)] = ()
    interview: Annotated[tuple[InterviewQuestion, ...], Field(min_length=5)]
    value: tuple[ValueQuestion, ...] = ()

    @model_validator(mode="after")
    def _a_lesson_has_its_quiz(self) -> Bank:
        if self.lesson < FINAL_PROJECT and len(self.quiz) < LEAST_QUESTIONS:
            raise ValueError(
                f"{len(self.quiz)} quiz questions; a lesson has at least {LEAST_QUESTIONS}"
            )
        return self

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Bank:
        for kind, entries in (("quiz", self.quiz), ("value", self.value)):
            ids = [entry.id for entry in entries]
            if len(set(ids)) < len(ids):
                raise ValueError(f"{kind} ids repeat: {', '.join(ids)}")
        return self

    def value_question(self, exercise_id: str) -> ValueQuestion:
        """Return the question for a value with this id.

        Raises:
            CourseError: There is none.
        """
        known = {question.id: question for question in self.value}
        if exercise_id not in known:
            raise CourseError(
                f"the bank of lesson {self.lesson} has no value {exercise_id!r}; "
                f"it has {', '.join(known) or 'none'}"
            )
        return known[exercise_id]


@cache
def bank(lesson: int) -> Bank:
    """Return the question bank of a lesson.

    Raises:
        CourseError: There is none, or it is not well formed.

    >>> bank(1).quiz[0].answer in LETTERS
    True
    """
    return read_bank(lesson, Bank)


def read_bank(lesson: int, form: type[Form]) -> Form:
    """Read the bank of a lesson.

    Args:
        lesson: The number with which the name of its file begins.
        form: What a bank of this kind holds.

    Raises:
        CourseError: There is none, or it is not well formed.
    """
    folder = course_root() / "grading" / "question_banks"
    found = sorted(folder.glob(f"{lesson:02d}_*.toml"))
    if not found:
        raise CourseError(f"no question bank for lesson {lesson} in {folder}")
    return read_form(found[0], form)
