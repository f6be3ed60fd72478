"""The check of a quiz: each question earns its share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autograder.checks.compare import remedy
from autograder.checks.finding import CHECKED, PASSED, Counterexample, Finding, Misconception
from autograder.lessons.questions import LETTERS, Question, bank
from autograder.proxy.subject import Returned, Subject
from autograder.proxy.wire import kind_of

PASS = 0.8
"""Share of right answers from which on a quiz counts as passed."""


@dataclass(frozen=True)
class QuizCheck:
    """The property that every question of a lesson's quiz is answered with the right letter."""

    lesson: int

    @property
    def reference(self) -> dict[str, str]:
        """The right letters, by question."""
        return {question.id: question.answer for question in bank(self.lesson).quiz}

    @property
    def misconceptions(self) -> tuple[Misconception, ...]:
        """For every wrong choice, all right answers but that one."""
        return tuple(
            Misconception(
                choice.misconception, choice.feedback, {**self.reference, question.id: letter}
            )
            for question in bank(self.lesson).quiz
            for letter, choice in zip(LETTERS, question.choices, strict=False)
            if not choice.correct
        )

    def not_right(self, value: Any) -> tuple[str, ...]:
        """Return the ids of the questions that are not answered right."""
        return not_right(bank(self.lesson).quiz, value)

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Count the right answers. The seed and the bound play no part."""
        answers = subject.value()
        value = answers.value if isinstance(answers, Returned) else None
        return counted(bank(self.lesson).quiz, value)


def counted(questions: Sequence[Question], value: Any, name: str = "answers") -> Finding:
    """Count the right letters, and say what is the matter with the first that is not right.

    Args:
        questions: What was asked.
        value: What was handed in: a dict of letters by question, or anything else.
        name: What it is called.
    """
    given: dict[Any, Any] = value if isinstance(value, dict) else {}
    wrong = list(_wrong(questions, given))
    if not wrong:
        return PASSED
    question, letter = wrong[0]
    misconception = None
    if letter is not None:
        choice = question.choices[LETTERS.index(letter)]
        misconception = Misconception(choice.misconception, choice.feedback, letter)
    return Finding(
        fraction=1 - len(wrong) / len(questions),
        remarks=_remarks(len(questions) - len(wrong), len(questions)),
        counterexample=Counterexample(
            case=f"{question.id}: {question.prompt}",
            expected="another letter" if letter else f"one of {_letters(question)}",
            got=repr(given.get(question.id)),
            complaint="; ".join(
                [
                    *_complaints(given, question, letter),
                    *_strange_keys(given, questions),
                    "open or wrong: " + ", ".join(question.id for question, _ in wrong),
                ]
            ),
            label=CHECKED,
        ),
        misconception=misconception,
        unwritten=not given,
        confirmed=True,
        advice=_advice(value, question, name),
    )


def not_right(questions: Sequence[Question], value: Any) -> tuple[str, ...]:
    """Return the ids of the questions that are not answered right in what was handed in."""
    given: dict[Any, Any] = value if isinstance(value, dict) else {}
    return tuple(question.id for question, _ in _wrong(questions, given))


def _letter(question: Question, given: Mapping[Any, Any]) -> str | None:
    """Return the letter that was chosen for a question; None if there is none that it has."""
    letter = given.get(question.id)
    letter = letter.strip().upper() if isinstance(letter, str) else None
    return letter if letter in list(_letters(question)) else None


def _wrong(
    questions: Sequence[Question], given: dict[Any, Any]
) -> Iterator[tuple[Question, str | None]]:
    """Yield each question not answered right, with the letter chosen or None."""
    for question in questions:
        letter = _letter(question, given)
        if letter != question.answer:
            yield question, letter


def _letters(question: Question) -> str:
    return LETTERS[: len(question.choices)]


def _remarks(num_right: int, num_questions: int) -> tuple[str, ...]:
    """Say that it is a pass, where it is one."""
    if num_right < PASS * num_questions:
        return ()
    return (f"{num_right} of {num_questions} are right: that is a pass ({PASS:.0%} are enough).",)


def _complaints(given: dict[Any, Any], question: Question, letter: str | None) -> list[str]:
    """Say what is the matter with an answer that is no letter of the question."""
    if letter is not None or question.id not in given:
        return []
    got = given[question.id]
    if not isinstance(got, str):
        return [f"an answer is one letter in quotes; this is of class {kind_of(got)}"]
    return [f'an answer is the letter alone, such as "{LETTERS[0]}", without anything around it']


def _strange_keys(given: dict[Any, Any], questions: Sequence[Question]) -> list[str]:
    """Say what the keys are if some answers stand under others, such as Q1."""
    ids = [question.id for question in questions]
    strange = [key for key in given if key not in ids]
    if not strange or all(name in given for name in ids):
        return []
    return [f"the keys are {ids[0]} ... {ids[-1]}; {strange[0]!r} is none of them"]


def _advice(value: Any, question: Question, name: str) -> str:
    """Say how to write the answers where there are none that can be read."""
    line = f'write a line for each question, such as {name}["{question.id}"] = "A".'
    if isinstance(value, dict) or value is None:
        return f"No question is answered yet: {line}"
    return f"{name} is of class {kind_of(value)}, not a dict{remedy(dict, value)}: {line}"
