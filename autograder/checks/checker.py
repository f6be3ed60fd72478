"""Checks of a checker that the learner writes: it has to catch what is faulty and spare the rest.

The faulty and the valid specimens are recipes or plain data, so a check of pools and a check of
plans are the same. They reach the learner's code without names and in an order that the seed
decides: neither a name nor a place tells which is which.

Where a mistake shows in behaviour and not in a state, the learner writes a test of a function, and
the specimens are ``Callback``s: the faulty function runs where the check runs, and nobody can read
it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from autograder.checks.finding import FAILING, Counterexample, Finding, Misconception
from autograder.checks.function import Call
from autograder.checks.show import show, show_outcome
from autograder.proxy.subject import (
    PATIENCE,
    TRUSTED_PATIENCE,
    LocalSubject,
    Outcome,
    Raised,
    Subject,
)

Specimens = Mapping[str, Any]
"""What a checker looks at, by name: its one argument, or a ``Call`` where it takes several."""

_LOOKS = 2
_INCONSTANT = "asked twice about the same, it says two different things"

Verdict = Literal["accepts", "rejects", "breaks"]


def no_more(seed: int) -> Specimens:
    """Return no further specimens, whatever the seed."""
    return {}


@dataclass(frozen=True)
class Seen:
    """What a checker made of one specimen.

    Attributes:
        outcome: What came of the call.
        verdict: What that means.
        problem: Why the answer is no verdict, if it is none.
    """

    outcome: Outcome
    verdict: Verdict
    problem: str = ""

    @property
    def is_nothing(self) -> bool:
        """Whether it is what a stub returns."""
        return not isinstance(self.outcome, Raised) and self.outcome.value is None


@dataclass(frozen=True)
class CheckerCheck:
    """The property that a checker rejects every faulty specimen and accepts every valid one.

    Each faulty specimen that it rejects earns its share; nothing is earned if it rejects a valid
    one. A checker returns a list of violations, one text each, or raises ``raises``.

    Attributes:
        reference: The library's checker.
        faulty: What it must reject, the simplest first.
        valid: What it must accept; the more they differ, the better.
        drawn: Further faulty specimens that a seed decides: nobody has seen those of the grader.
        shows: Returns one line that shows a specimen to a person, given what the checker is given.
            It runs with the check. None shows the arguments as one would type them.
        typed: Writes a specimen as one would type it; the line of ``shows`` stands below it.
        raises: The exception by which a checker rejects; None if it returns a list of violations.
        misconceptions: Known wrong checkers, each with verdicts of its own.
        patience: Seconds that the checker may take for one specimen.
    """

    reference: Callable[..., Any]
    faulty: Specimens
    valid: Specimens
    drawn: Callable[[int], Specimens] = no_more
    shows: Callable[..., str] | None = None
    typed: Callable[[Any], str] | None = None
    raises: type[Exception] | None = None
    misconceptions: tuple[Misconception, ...] = ()
    patience: float = PATIENCE

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Count the faulty specimens that the checker rejects. The bound plays no part."""
        faulty = {**self.faulty, **self.drawn(seed)}
        seen = self._look_at_all(subject, faulty, seed)
        spared = [name for name in self.valid if seen[name].verdict == "accepts"]
        caught = [name for name in faulty if seen[name].verdict == "rejects"]
        if len(spared) < len(self.valid):
            fraction, counterexample = 0.0, self._unfair(seen, len(spared))
        elif len(caught) < len(faulty):
            fraction = len(caught) / len(faulty)
            counterexample = self._missed(faulty, seen, len(caught))
        else:
            remark = (
                f"All {len(faulty)} faulty ones are caught, all {len(spared)} valid ones spared."
            )
            return Finding(1.0, remarks=(remark,))
        unwritten = all(each.is_nothing for each in seen.values())
        finding = Finding(fraction, counterexample, unwritten=unwritten)
        return finding.named(self._fitting(seen, faulty, seed), subject)

    def _look_at_all(self, subject: Subject, faulty: Specimens, seed: int) -> dict[str, Seen]:
        """Let a checker look at all specimens twice, in orders that the seed decides.

        Whoever answers by counting calls says something else of the same specimen.
        """
        specimens = {**self.valid, **faulty}
        orders = random.Random(seed)
        seen: dict[str, Seen] = {}
        for _ in range(_LOOKS):
            for name in orders.sample(list(specimens), len(specimens)):
                said = self._look_at(subject, specimens[name])
                before = seen.setdefault(name, said)
                if said.verdict != before.verdict:
                    seen[name] = Seen(said.outcome, "breaks", _INCONSTANT)
        return seen

    def _look_at(self, subject: Subject, specimen: Any) -> Seen:
        call = _as_call(specimen)
        outcome = subject.call(call.args, call.kwargs, watch=True)
        written = [*outcome.fate.changed, *outcome.fate.touched]
        if written:
            place = written[0]
            which = f"argument {place + 1}" if isinstance(place, int) else place
            return Seen(outcome, "breaks", f"it changes what it looks at ({which})")
        if isinstance(outcome, Raised):
            if self.raises is not None and self.raises.__name__ in outcome.kinds:
                return Seen(outcome, "rejects")
            return Seen(outcome, "breaks", outcome.line or "")
        if self.raises is not None:
            if outcome.value is None:
                return Seen(outcome, "accepts")
            return Seen(outcome, "breaks", "it returns something; it should raise, or return None")
        value = outcome.value
        if type(value) is not list or not all(type(item) is str and item for item in value):
            problem = "it should return a list with one text for each violation"
            return Seen(outcome, "breaks", problem)
        return Seen(outcome, "rejects" if value else "accepts")

    def _unfair(self, seen: Mapping[str, Seen], num_spared: int) -> Counterexample:
        """Show the first valid specimen that is not accepted, and what the checker says of it."""
        name = next(name for name in self.valid if seen[name].verdict != "accepts")
        said = seen[name]
        nothing = "no exception" if self.raises else "[]"
        counted = f"{num_spared} of {len(self.valid)} valid ones are accepted"
        earns = f"{counted}; a checker that rejects a valid one earns nothing"
        return Counterexample(
            self._line(self.valid[name]),
            f"{nothing}: this one is valid",
            show_outcome(said.outcome),
            said.problem or earns,
            said.outcome.output,
            label=FAILING,
        )

    def _missed(
        self, faulty: Specimens, seen: Mapping[str, Seen], num_caught: int
    ) -> Counterexample:
        """Show the simplest faulty specimen that is not caught, but not what is wrong with it."""
        name = next(name for name in faulty if seen[name].verdict != "rejects")
        said = seen[name]
        rejection = f"a {self.raises.__name__}" if self.raises else "at least one violation"
        counted = f"{num_caught} of {len(faulty)} faulty ones are caught; this one is not"
        return Counterexample(
            self._line(faulty[name]),
            f"{rejection}: this one is faulty",
            show_outcome(said.outcome),
            f"{counted}; {said.problem}" if said.problem else counted,
            said.outcome.output,
            label=FAILING,
        )

    def _line(self, specimen: Any) -> str:
        """Return what shows a specimen: how it is made, and what it then is."""
        line = self._shown(specimen)
        return line if self.typed is None else f"{self.typed(specimen)}\n# {line}"

    def _shown(self, specimen: Any) -> str:
        """Return the line that shows a specimen, made where the check runs."""
        call = _as_call(specimen)
        if self.shows is None:
            return ", ".join(map(show, [*call.args, *call.kwargs.values()]))
        made = LocalSubject(self.shows, TRUSTED_PATIENCE).call(call.args, call.kwargs)
        return show_outcome(made) if isinstance(made, Raised) else str(made.value)

    def _fitting(
        self, seen: Mapping[str, Seen], faulty: Specimens, seed: int
    ) -> list[Misconception]:
        """Return the known wrong checkers with the same verdicts."""
        mine = {name: each.verdict for name, each in seen.items()}
        if self._judged.keys() != {seed}:
            self._judged.clear()
        judged = self._judged.setdefault(seed, {})
        fitting = []
        for place, misconception in enumerate(self.misconceptions):
            theirs = judged.get(place)
            if theirs is None:
                wrong = LocalSubject(misconception.wrong, timeout=self.patience)
                looks = self._look_at_all(wrong, faulty, seed)
                theirs = {name: each.verdict for name, each in looks.items()}
                if not wrong.is_silent:
                    judged[place] = theirs
            if theirs == mine:
                fitting.append(misconception)
        return fitting

    @cached_property
    def _judged(self) -> dict[int, dict[int, dict[str, Verdict]]]:
        """How each known wrong checker judges the specimens of the seed that was asked for last.

        They judge alike each time, whoever is examined; one that was stopped is asked again.
        """
        return {}


def _as_call(specimen: Any) -> Call:
    """Return the arguments that a specimen stands for.

    >>> _as_call([1, 2]), _as_call(Call(1, 2))
    (Call([1, 2]), Call(1, 2))
    """
    return specimen if isinstance(specimen, Call) else Call(specimen)
