"""The bank of the comprehensive quiz: questions whose numbers and order of choices a seed draws.

A question with ``draw`` lists the values from which a seed takes one each; ``let`` works others out
of them; and each choice says by which rule it comes about, the right one as the wrong ones::

    draw = { tokens = [100, 250], block = [16, 32] }
    prompt = "How many blocks do {tokens} tokens need, {block} to a block?"
    [[question.choices]]
    text = "{value} blocks"
    value = "ceil(tokens / block)"
    correct = true

A value that is a table sets several names at once, such as a GPU with its bandwidth. What a seed
draws is the same in every version of Python.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from itertools import product
from typing import Annotated, Any

from pydantic import Field, model_validator

from autograder.errors import CourseError
from autograder.lessons.questions import LETTERS, Choice, Entry, Question, read_bank, worked_out

COMPREHENSIVE = 15
"""The number with which the name of the comprehensive quiz's source and bank begins."""


class Concept(Entry):
    """What several questions are about.

    Attributes:
        id: What questions call it.
        title: What a learner reads.
        lessons: The lessons that it comes from.
    """

    id: str
    title: str
    lessons: Annotated[tuple[int, ...], Field(min_length=1)]


class DrawnChoice(Entry):
    """An answer that a question offers.

    Attributes:
        text: The answer; ``{name}`` stands for a drawn value, ``{value}`` for its own.
        feedback: What to say to someone who chose it, with values as in the text.
        value: The rule that gives its own value; "" if it has none.
        correct: Whether it is right.
        misconception: The name of the idea that leads to it, if it is wrong.
    """

    text: str
    feedback: str
    value: str = ""
    correct: bool = False
    misconception: str = ""


class DrawnQuestion(Entry):
    """A question with one right answer for each seed.

    Attributes:
        id: The letter of its part and a number, such as ``F1``.
        concept: The id of what it is about.
        lesson: The lesson to read again for it; 13 stands for the final project.
        source: Where the right answer comes from: a function, a section, a file of vLLM.
        prompt: The question, with ``{name}`` for drawn values.
        draw: For each name the values to draw from; one that is a table sets its own names.
        let: Rules for more values, each of those before it.
        choices: What to choose from; a seed puts them in order.
    """

    id: str
    concept: str
    lesson: Annotated[int, Field(ge=1, le=13)]
    source: str
    prompt: str
    draw: dict[str, Annotated[tuple[Any, ...], Field(min_length=2)]] = Field({})
    let: dict[str, str] = Field({})
    choices: Annotated[tuple[DrawnChoice, ...], Field(min_length=3, max_length=len(LETTERS))]

    @property
    def part(self) -> str:
        """The letter of the part of the quiz that it belongs to."""
        return self.id[:1]

    def settings(self) -> list[dict[str, Any]]:
        """Return all that can be drawn, each with what follows from it."""
        return [self._with_rules(values) for values in product(*self.draw.values())]

    def drawn(self, seed: int) -> Question:
        """Return the question of a seed."""
        values = [
            options[_number(seed, self.id, name) % len(options)]
            for name, options in self.draw.items()
        ]
        order = sorted(range(len(self.choices)), key=lambda place: _number(seed, self.id, place))
        return self.asked(self._with_rules(tuple(values)), order)

    def asked(self, values: Mapping[str, Any], order: list[int] | None = None) -> Question:
        """Return the question with these values, its choices in this order or as written."""
        places = range(len(self.choices)) if order is None else order
        return Question(
            id=self.id,
            concept=self.concept,
            prompt=self._filled(self.prompt, values),
            choices=tuple(self._choice(self.choices[place], values) for place in places),
        )

    def _choice(self, choice: DrawnChoice, values: Mapping[str, Any]) -> Choice:
        if choice.value:
            values = {**values, "value": worked_out(choice.value, values)}
        # Who has found it is told where to read on.
        source = f" From: {self.source}." if choice.correct else ""
        return Choice(
            text=self._filled(choice.text, values),
            feedback=self._filled(choice.feedback, values) + source,
            correct=choice.correct,
            misconception=choice.misconception,
        )

    def _with_rules(self, chosen: tuple[Any, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, value in zip(self.draw, chosen, strict=True):
            values |= value if isinstance(value, dict) else {name: value}
        for name, rule in self.let.items():
            values[name] = worked_out(rule, values)
        return values

    def _filled(self, text: str, values: Mapping[str, Any]) -> str:
        """Put values into a text; one of a question without values may have braces of its own."""
        return text.format_map(values) if self.draw else text

    @model_validator(mode="after")
    def _can_be_asked(self) -> DrawnQuestion:
        for values in self.settings():
            try:
                texts = [choice.text for choice in self.asked(values).choices]
            except (KeyError, IndexError) as error:
                raise ValueError(f"question {self.id}: {error} is drawn nowhere") from error
            if len(set(texts)) < len(texts):
                raise ValueError(f"question {self.id}: two choices read the same with {values}")
        return self


class DrawnBank(Entry):
    """The questions of the comprehensive quiz, in the order of its parts."""

    lesson: int
    concept: Annotated[tuple[Concept, ...], Field(min_length=1)]
    question: Annotated[tuple[DrawnQuestion, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits_together(self) -> DrawnBank:
        ids = [question.id for question in self.question]
        if len(set(ids)) < len(ids):
            raise ValueError(f"question ids repeat: {', '.join(ids)}")
        known = {concept.id for concept in self.concept}
        for question in self.question:
            if question.concept not in known:
                raise ValueError(f"question {question.id}: no concept {question.concept!r}")
        return self

    def of_part(self, part: str) -> tuple[DrawnQuestion, ...]:
        """Return the questions of a part.

        Raises:
            CourseError: There is no such part.
        """
        found = tuple(question for question in self.question if question.part == part)
        if not found:
            known = ", ".join(dict.fromkeys(question.part for question in self.question))
            raise CourseError(f"no part {part!r} in the comprehensive quiz; it has {known}")
        return found


@cache
def drawn_bank(lesson: int = COMPREHENSIVE) -> DrawnBank:
    """Return the bank of the comprehensive quiz.

    Raises:
        CourseError: There is none, or it is not well formed.

    >>> len(drawn_bank().question)
    60
    """
    return read_bank(lesson, DrawnBank)


def _number(seed: int, question: str, what: str | int) -> int:
    """Return a number that looks random, of a seed and what it is for."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{question}/{what}".encode()).digest()[:8])
