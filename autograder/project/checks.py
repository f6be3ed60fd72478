"""The three checks of the final project that the rubric decides, for its notebook.

Each takes the engine as a dict of parts by name. It first lets the engine answer a few requests:
where a token is wrong, nothing else earns anything.
"""

from __future__ import annotations

import textwrap
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autograder.checks.exercise import Exercise
from autograder.checks.finding import CHECKED, Counterexample, Finding, Misconception
from autograder.project import documentation, performance, quality
from autograder.project.answers import reference_pieces
from autograder.project.equality import difference, said
from autograder.project.pieces import Pieces, pieces_of
from autograder.project.rubric import rubric
from autograder.project.verdicts import ItemVerdict, nothing, scaled
from autograder.proxy.subject import Subject

_EMPTY = (
    "No part of the engine is your own yet: put the parts that you wrote into it, each under its "
    'whole name, as in `{"EngineCore.step": step}`.'
)
_FIRST = "Make the engine's answers right first: until then this earns nothing."


@dataclass(frozen=True)
class RubricCheck(ABC):
    """The property that an engine is worth what the rubric gives for something.

    Attributes:
        misconceptions: None: what is wrong is counted, not guessed.
        patience: Seconds that one call of the engine may take.
    """

    misconceptions: tuple[Misconception, ...] = ()
    patience: float = performance.PATIENCE

    @property
    def reference(self) -> Any:
        """The course's own parts, as a learner would have written them."""
        return reference_pieces()

    @abstractmethod
    def unjudged(self) -> list[ItemVerdict]:
        """Return the items, without points."""

    @abstractmethod
    def on_pieces(self, subject: Subject, pieces: Pieces, seed: int) -> list[ItemVerdict]:
        """Return the verdicts on an engine whose answers are right."""

    def verdicts(
        self, subject: Subject, seed: int, wrong: Counterexample | None = None
    ) -> list[ItemVerdict]:
        """Return what the rubric says of an engine, item by item.

        Args:
            subject: A dict of the engine's parts by name.
            seed: Draws the requests that it serves.
            wrong: Where its answers are known to be wrong, if they are.
        """
        pieces = pieces_of(subject)
        if not pieces.own:
            return nothing(self.unjudged(), "No part of the engine is one's own.", _EMPTY)
        if wrong is not None:
            return nothing(self.unjudged(), said(wrong), _FIRST)
        found = self.on_pieces(subject, pieces, seed)
        return scaled(found, pieces.share, pieces.stand_ins)

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Say what share of its points an engine earns. The bound plays no part."""
        pieces = pieces_of(subject)
        if not pieces.own:
            return Finding(0.0, unwritten=True, advice=_EMPTY)
        wrong = difference(subject, seed)
        if wrong is not None:
            return Finding(0.0, wrong, remarks=(_FIRST,))
        return as_finding(self.verdicts(subject, seed))


class PerformanceCheck(RubricCheck):
    """The property that an engine costs little more than the reference."""

    def unjudged(self) -> list[ItemVerdict]:
        """Return the items of performance, without points."""
        return performance.unjudged()

    def on_pieces(self, subject: Subject, pieces: Pieces, seed: int) -> list[ItemVerdict]:
        """Run the engine and the reference, count and time."""
        return performance.judged(subject, seed, _read_with_helpers(subject, pieces))


class QualityCheck(RubricCheck):
    """The property that code breaks none of the rubric's rules."""

    def unjudged(self) -> list[ItemVerdict]:
        """Return the item of code quality, without points."""
        return quality.unjudged()

    def on_pieces(self, subject: Subject, pieces: Pieces, seed: int) -> list[ItemVerdict]:
        """Look at the text of the learner's own parts, and of the functions that they use."""
        return quality.judged(_read_with_helpers(subject, pieces))


class DocumentationCheck(RubricCheck):
    """The property that code says what it does, and shows it."""

    def unjudged(self) -> list[ItemVerdict]:
        """Return the items of documentation that need no person, without points."""
        return documentation.unjudged()

    def on_pieces(self, subject: Subject, pieces: Pieces, seed: int) -> list[ItemVerdict]:
        """Read the docstrings of the learner's own parts, and run their examples."""
        return documentation.judged(subject, pieces.own)


def _read_with_helpers(subject: Subject, pieces: Pieces) -> dict[str, str]:
    """Return the text of the learner's own parts, and of what they use of their own, each once."""
    sources = {name: piece.source for name, piece in pieces.own.items()}
    helpers = {
        f"{helper} (for {name})": textwrap.dedent(text)
        for name, piece in pieces.own.items()
        for helper, text in subject.helpers(piece.ref).items()
        if textwrap.dedent(text) not in sources.values()
    }
    once = {text: name for name, text in reversed(helpers.items())}
    return sources | {name: text for text, name in once.items()}


def as_finding(verdicts: Sequence[ItemVerdict]) -> Finding:
    """Return what a check says of some items: the first that is not whole, and all evidence.

    >>> finding = as_finding([ItemVerdict("a", "A", 5, 2.5, ("It is slow.",), "Be quick.")])
    >>> finding.fraction, finding.counterexample.got
    (0.5, '2.5 of 5 points')
    """
    points = sum(each.points for each in verdicts)
    earned = sum(each.earned or 0.0 for each in verdicts)
    remarks = tuple(map(str, verdicts))
    short = [each for each in verdicts if not each.is_whole]
    if not short:
        return Finding(1.0, remarks=remarks)
    first = max(short, key=lambda each: each.points - (each.earned or 0.0))
    case = Counterexample(
        first.title,
        f"{first.points:g} points",
        f"{first.earned or 0:.3g} of {first.points:g} points",
        first.advice,
        label=CHECKED,
    )
    return Finding(min(earned / points, 1.0), case, remarks=remarks)


PERFORMANCE = Exercise(
    id="13.P",
    title="What it costs",
    asks="Serve requests with no more work than the reference: blocks, bytes, model calls, tokens, "
    "CPU time. Your engine is a dict of its parts by name.",
    check=PerformanceCheck(),
    points=rubric().performance.points,
    minutes=30,
    difficulty=2,
    hints=(
        "Which of the five is above the reference's, and which part decides it?",
        "Work that is done twice is counted twice: a model call for each request, a prefix that is "
        "computed though it is cached, a block that is taken before a token needs it.",
        "for each step: one plan, one model call over all its tokens, one look at each request.",
    ),
)

QUALITY = Exercise(
    id="13.Q",
    title="How it is written",
    asks="Write your parts so that none of the rules of `grading/rubric.toml` is broken. Your "
    "engine is a dict of its parts by name.",
    check=QualityCheck(),
    points=rubric().quality.points,
    minutes=20,
    difficulty=1,
    hints=(
        "Which rule costs most? `ruff rule CODE` says what it is about.",
        "A function that is too complex has steps without names: give each a function of its own.",
        "if a: if b: ... is one condition; a == None is a is None; a name that nobody uses can go.",
    ),
)

DOCUMENTATION = Exercise(
    id="13.D",
    title="How it is described",
    asks="Give each part a docstring that says what goes in and what comes out, with units, and "
    "two of them an example that runs. Your engine is a dict of its parts by name.",
    check=DocumentationCheck(),
    points=rubric().documentation.points,
    minutes=20,
    difficulty=1,
    hints=(
        "Could somebody call it who sees the docstring alone?",
        "An argument is described by what it counts and in which unit; an example is two lines.",
        "A line with `>>> f(2)`, and below it, as indented, what that prints.",
    ),
)

EXERCISES = (PERFORMANCE, QUALITY, DOCUMENTATION)
"""The three, in the order of the notebook."""
