"""Checks of traces by hand: the states that a small machine goes through, worked out on paper.

A seed makes the task and its answer, so that nobody runs out of practice: a new seed is a new
instance. The learner writes the seed beside the states::

    answer = {"seed": 1, "after step 1": [0, 4], "after step 2": [4]}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np

from autograder.checks.compare import Comparison, exactly, is_nothing, remedy
from autograder.checks.finding import CHECKED, Counterexample, Finding, Misconception
from autograder.checks.show import show, show_outcome
from autograder.proxy.subject import Raised, Subject
from autograder.proxy.wire import kind_of

SEED, GIVE_UP = _NO_STATES = "seed", "give up"
"""Keys of an answer that are no states."""

_SEEDS = range(2**31)
_YOUR_ANSWER = "your answer"


@dataclass(frozen=True)
class Task:
    """What to work out by hand, as a notebook shows it.

    Attributes:
        task: The task, in Markdown, with the seed in it.
    """

    task: str

    def __repr__(self) -> str:
        return self.task

    def _repr_markdown_(self) -> str:
        return self.task


@dataclass(frozen=True, repr=False)
class Instance(Task):
    """The task of one seed, with its answer, which a notebook is not handed.

    Attributes:
        answer: The states, in the order in which they are gone through.
        notes: What is told of a state by who wrote another one, a sentence without its full stop.

    >>> Instance("Add 2 and 3.", {"sum": 5})
    Add 2 and 3.
    """

    answer: dict[str, Any]
    notes: Mapping[str, str] = field(default_factory=dict)

    def posed(self) -> Task:
        """Return the task alone: whoever works it out has no answer at hand.

        >>> hasattr(Instance("Add 2 and 3.", {"sum": 5}).posed(), "answer")
        False
        """
        return Task(self.task)


@dataclass(frozen=True)
class TraceCheck:
    """The property that the states written down are those of the instance with that seed.

    Any seed counts. Each state earns its share. The answer is shown once it is right, or when the
    learner gives up on a seed with ``{"seed": 1, "give up": True}``, which earns nothing.

    Attributes:
        instance: Makes the instance of a seed, 0 to 2³¹ − 1, with functions of the library.
        misconceptions: Known wrong ideas; ``wrong`` is a function from a seed to the states.
        compare: When two states agree. Lists, tuples and arrays are alike before.
        form: Says what is wrong with how a state is written, whatever the task; "" if nothing.
    """

    instance: Callable[[int], Instance]
    misconceptions: tuple[Misconception, ...] = ()
    compare: Comparison = exactly
    form: Callable[[Any], str] = lambda state: ""

    @property
    def reference(self) -> Callable[[int], Instance]:
        """What makes the right answers."""
        return self.instance

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Compare the states, each for its share. The seed is the learner's; no bound is needed."""
        outcome = subject.value()
        if isinstance(outcome, Raised):
            return _no_answer("a dict of plain data", show_outcome(outcome))
        given = outcome.value
        if not isinstance(given, dict):
            complaint = f"it is of type {kind_of(given)}, not a dict{remedy(dict, given)}"
            return _no_answer('a dict with "seed" and the states', show(given), complaint, given)
        own_seed = given.get(SEED)
        if not is_seed(own_seed):
            wanted = f'"seed": a whole number, 0 to {_SEEDS[-1]}, of the task that you solved'
            return _no_answer(wanted, show(own_seed), nothing_written=given)
        return self._compare(own_seed, given, subject)

    def _compare(self, seed: int, given: dict[str, Any], subject: Subject) -> Finding:
        states = self.instance(seed).answer
        wrong = [name for name, right in states.items() if not self._same(right, given.get(name))]
        unfolded = f"The answer of seed {seed}: " + "; ".join(
            f"{name}: {show(right)}" for name, right in states.items()
        )
        if not wrong:
            return Finding(1.0, remarks=(unfolded + ".",))
        if given.get(GIVE_UP):
            advice = "Another seed makes another task, and any seed counts."
            return Finding(0.0, remarks=(f"{unfolded}. {advice}",))
        finding = Finding(
            1 - len(wrong) / len(states),
            self._first_wrong(seed, states, wrong, given),
            unwritten=all(
                is_nothing(state) for key, state in given.items() if key not in _NO_STATES
            ),
        )
        fitting = [each for each in self.misconceptions if self._agree(each.wrong(seed), given)]
        return finding.named(fitting or self._fitting_in_part(seed, wrong[0], given), subject)

    def _fitting_in_part(self, seed: int, first: str, given: dict[str, Any]) -> list[Misconception]:
        """Return the wrong ideas that explain all states of the kind of the first wrong one.

        They say nothing of the others, in which there is another mistake: numbers and lines of text
        are worked out in different ways.
        """
        right = self.instance(seed).answer
        kind = type(right[first])
        others = {name: state for name, state in right.items() if type(state) is not kind}
        if not others:
            return []
        return [
            each
            for each in self.misconceptions
            if self._agree({**each.wrong(seed), **others}, {**given, **others})
            and self._agree(others, each.wrong(seed))
        ]

    def _first_wrong(
        self, seed: int, states: dict[str, Any], wrong: list[str], given: dict[str, Any]
    ) -> Counterexample:
        """Show the first state that is wrong, below the one before it, which is right."""
        names = list(states)
        place = names.index(wrong[0])
        lines = [f"seed {seed}"]
        if place:
            before = names[place - 1]
            lines.append(f"{before}: {show(given[before])}  (right)")
        lines.append(f"{wrong[0]}: {show(given.get(wrong[0]))}")
        right = len(states) - len(wrong)
        wanted, came = states[wrong[0]], given.get(wrong[0])
        noun = _noun(wanted)
        complaint = f"the first {noun} that is wrong; {right} of {len(states)} are right"
        if wrong[0] not in given:
            complaint = f"this {noun} is missing; {right} of {len(states)} are right"
            if strange := _strange_keys(states, given):
                listed = ", ".join(f'"{name}"' for name in names)
                complaint += f". The keys are {listed}; {strange[0]!r} is none of them"
        elif said := self.form(came) or self._form(wanted, came):
            complaint = f"{said}. It is {complaint}"
        else:
            if right_so_far := self._right_so_far(wanted, came):
                complaint += f"; of it, {right_so_far}"
            if note := self.instance(seed).notes.get(wrong[0]):
                complaint += f". {note}"
        shown = "\n".join(lines), f"another {noun}", show(came)
        return Counterexample(*shown, complaint, label=CHECKED)

    def _right_so_far(self, right: Any, came: Any) -> str:
        """Say how many entries of a list are right before the first that is not; "" if none is."""
        right, came = _with_lists(right), _with_lists(came)
        if not (isinstance(right, list) and isinstance(came, list)):
            return ""
        # By the beginnings of both: how lists agree is the comparison's own business.
        count = 0
        while count < min(len(right), len(came)) and self._same(
            right[: count + 1], came[: count + 1]
        ):
            count += 1
        if not count:
            return ""
        return "the first entry is right" if count == 1 else f"the first {count} entries are right"

    def _form(self, right: Any, came: Any) -> str:
        """Say what is the matter with the form of what came, without a word of its value."""
        if not isinstance(right, (int, str)):
            return ""
        return self.compare(_with_lists(right), _with_lists(came)) or ""

    def _agree(self, states: dict[str, Any], given: dict[str, Any]) -> bool:
        return all(self._same(right, given.get(name)) for name, right in states.items())

    def _same(self, right: Any, came: Any) -> bool:
        return self.compare(_with_lists(right), _with_lists(came)) is None


def is_seed(value: Any) -> TypeGuard[int]:
    """Say whether a value is a seed of a task.

    >>> is_seed(7), is_seed(-1), is_seed(True)
    (True, False, False)
    """
    return type(value) is int and value in _SEEDS


def _strange_keys(states: dict[str, Any], given: dict[str, Any]) -> list[Any]:
    """Return the keys of an answer that stand for nothing.

    >>> _strange_keys({"step 1": 3}, {"seed": 1, "Step 1": 3})
    ['Step 1']
    """
    return [key for key in given if key not in (*_NO_STATES, *states)]


def _noun(state: Any) -> str:
    """Say what kind of thing a state is.

    >>> _noun(3), _noun("AB"), _noun(["A", "B"]), _noun([3, "AB"])
    ('number', 'text', 'list', 'state')
    """
    if isinstance(state, list) and all(isinstance(item, str) for item in state):
        return "list"
    return {int: "number", str: "text"}.get(type(state), "state")


def _with_lists(value: Any) -> Any:
    """Return a value with lists for its tuples and arrays: on paper they look alike.

    >>> _with_lists({"free": (1, (2,))})
    {'free': [1, [2]]}
    """
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_with_lists(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    return value


def _no_answer(
    expected: str, got: str, complaint: str = "", nothing_written: Any = False
) -> Finding:
    shown = Counterexample(_YOUR_ANSWER, expected, got, complaint, label=CHECKED)
    return Finding(0.0, shown, unwritten=is_nothing(nothing_written))
