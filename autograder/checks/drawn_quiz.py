"""The check of a quiz whose numbers and order of choices a seed draws: any seed counts.

The learner writes the seed beside the letters::

    fundamentals = {"seed": 1, "F1": "B", "F2": "A"}
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from autograder.checks.answers import FIRST_SEED
from autograder.checks.compare import remedy
from autograder.checks.finding import CHECKED, Counterexample, Finding, Misconception
from autograder.checks.quiz import counted, not_right
from autograder.checks.show import show
from autograder.checks.trace import SEED, Instance, is_seed
from autograder.lessons.lesson15_drawn import drawn_bank
from autograder.lessons.questions import LETTERS, Question
from autograder.proxy.subject import Returned, Subject
from autograder.proxy.wire import kind_of


@dataclass(frozen=True)
class DrawnQuizCheck:
    """The property that every question of a part is answered with the right letter of its seed.

    Attributes:
        part: The letter of the part, such as ``"F"``.
        name: The name of the learner's answer, such as ``"fundamentals"``.
    """

    part: str
    name: str

    @property
    def reference(self) -> Any:
        """What makes the right answers."""
        return self.instance

    @property
    def misconceptions(self) -> tuple[Misconception, ...]:
        """For every wrong choice, all right answers but that one; with the numbers of one seed."""
        return tuple(
            Misconception(
                choice.misconception,
                choice.feedback,
                partial(self._but_one, question=question.id, misconception=choice.misconception),
            )
            for question in self.questions(FIRST_SEED)
            for choice in question.choices
            if not choice.correct
        )

    def questions(self, seed: int) -> tuple[Question, ...]:
        """Return the questions of a seed, in order."""
        return tuple(question.drawn(seed) for question in drawn_bank().of_part(self.part))

    def not_right(self, value: Any) -> tuple[str, ...]:
        """Return the ids of the questions that are not answered right, by the seed beside them."""
        seed = value.get(SEED) if isinstance(value, dict) else None
        if not is_seed(seed):
            return not_right(self.questions(FIRST_SEED), {})
        return not_right(self.questions(seed), value)

    def instance(self, seed: int) -> Instance:
        """Return the questions of a seed as a text, with the right letters."""
        questions = self.questions(seed)
        return Instance(
            f"**Seed {seed}**\n\n" + "\n\n".join(map(as_text, questions)),
            {question.id: question.answer for question in questions},
        )

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Count the right letters. The seed is the learner's; no bound is needed."""
        outcome = subject.value()
        value = outcome.value if isinstance(outcome, Returned) else None
        if not isinstance(value, dict):
            complaint = f"it is of type {kind_of(value)}, not a dict{remedy(dict, value)}"
            wanted = 'a dict with "seed" and the letters'
            shown = Counterexample(self.name, wanted, show(value), complaint, label=CHECKED)
            return Finding(0.0, shown, unwritten=value is None)
        letters = {key: letter for key, letter in value.items() if key != SEED}
        if letters and not is_seed(value.get(SEED)):
            wanted = '"seed": the whole number of the questions that you answered'
            shown = Counterexample(self.name, wanted, show(value.get(SEED)), label=CHECKED)
            return Finding(0.0, shown)
        questions = self.questions(value[SEED] if letters else FIRST_SEED)
        return counted(questions, letters, self.name)

    def _but_one(self, seed: int, question: str, misconception: str) -> dict[str, str]:
        """Return the right letters of a seed, but for one question that of a wrong choice."""
        answer: dict[str, str] = dict(self.instance(seed).answer)
        (asked,) = (each for each in self.questions(seed) if each.id == question)
        names = [choice.misconception for choice in asked.choices]
        answer[question] = LETTERS[names.index(misconception)]
        return answer


def as_text(question: Question) -> str:
    """Return a question and its choices as Markdown."""
    choices = zip(LETTERS, question.choices, strict=False)
    listed = "\n".join(f"- {letter}. {choice.text}" for letter, choice in choices)
    return f"**{question.id}** {question.prompt}\n\n{listed}"
