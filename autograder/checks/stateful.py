"""Checks of classes: the learner's object and the reference live through the same random life.

A check is a Hypothesis state machine written against ``Twin``: every rule says what is done to
*both* objects, and the first disagreement fails. Objects that methods return, such as the blocks
of a pool, are compared by the attributes that the rule names, so the check never looks into the
learner's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import hypothesis
from hypothesis import stateful

from autograder.checks.compare import (
    Comparison,
    compare_outcomes,
    exactly,
    show_call,
    show_outcome,
)
from autograder.checks.finding import PASSED, Counterexample, Finding, Misconception
from autograder.checks.search import Search
from autograder.proxy.subject import LocalSubject, Outcome, Raised, Returned, Subject
from autograder.proxy.wire import Ref


class Life:
    """One object made, and everything that is then done to it.

    Args:
        subject: The class that instances are made of.
        log: Called after each step with its text and its outcome.
    """

    def __init__(self, subject: Subject, log: Callable[[str, Outcome], None]) -> None:
        self._subject = subject
        self._log = log
        self._object: Ref | None = None

    def create(self, *args: Any, **kwargs: Any) -> None:
        """Make the object."""
        made = self._subject.call(args, kwargs)
        if isinstance(made, Returned) and isinstance(made.value, Ref):
            self._object = made.value
            # Which number it has depends on what was made before, so both sides show the same.
            made = Returned(Ref(0, made.value.kind), made.output)
        self._log(show_call("obj = create", args, kwargs), made)

    def do(self, method: str, *args: Any, reads: Sequence[str] = ()) -> Any:
        """Call a method of the object.

        Args:
            method: Its name.
            args: Its arguments; what an earlier ``do`` returned may be among them.
            reads: Attributes that stand for an object which the method returns.

        Returns:
            The value, to be passed on; an object that was returned is a ``Ref``.
        """
        if self._object is None:
            return None
        outcome = self._subject.invoke(self._object, method, args)
        seen = self._seen(outcome, reads)
        self._log(show_call(f"obj.{method}", args, {}), seen)
        return outcome.value if isinstance(outcome, Returned) else None

    def see(self, attribute: str) -> None:
        """Read an attribute of the object."""
        if self._object is not None:
            self._log(f"obj.{attribute}", self._subject.read(self._object, attribute))

    def _seen(self, outcome: Outcome, reads: Sequence[str]) -> Outcome:
        """Replace every object in the outcome by what its attributes say."""
        if isinstance(outcome, Raised):
            return outcome

        def look(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return type(value)(look(item) for item in value)
            if isinstance(value, Ref):
                attributes = {name: self._subject.read(value, name) for name in reads}
                return {
                    name: got.value if isinstance(got, Returned) else show_outcome(got)
                    for name, got in attributes.items()
                }
            return value

        return Returned(look(outcome.value), outcome.output)


@dataclass
class _Step:
    text: str
    outcomes: list[Outcome] = field(default_factory=list)


class Twin(stateful.RuleBasedStateMachine):
    """Base of the state machines: does everything to the reference and to the learner's object.

    A rule calls ``create``, ``do`` and ``see``. Values that ``do`` returns are pairs (reference's,
    learner's) and are passed to later calls as they are.
    """

    # Bound by the check before a run: Hypothesis makes the machines itself, without arguments.
    trusted: ClassVar[Subject]
    subject: ClassVar[Subject]
    search: ClassVar[Search]
    compare: ClassVar[Comparison]

    def __init__(self) -> None:
        super().__init__()
        self._history: list[str] = []
        self._outcomes: list[tuple[str, Outcome]] = []
        self._reference_life = Life(self.trusted, self._note)
        self._learner_life = Life(self.subject, self._note)

    def create(self, *args: Any, **kwargs: Any) -> None:
        """Make both objects."""
        self._both(lambda life, side: life.create(*args, **kwargs))

    def do(self, method: str, *args: Any, reads: Sequence[str] = ()) -> Pair:
        """Call a method of both objects and compare what comes of it."""
        return self._both(
            lambda life, side: life.do(method, *(_side(arg, side) for arg in args), reads=reads)
        )

    def see(self, attribute: str) -> None:
        """Read an attribute of both objects and compare."""
        self._both(lambda life, side: life.see(attribute))

    def _note(self, text: str, outcome: Outcome) -> None:
        self._outcomes.append((text, outcome))

    def _both(self, act: Callable[[Life, int], Any]) -> Pair:
        self._outcomes.clear()
        with type(self).search.step():
            pair = Pair((act(self._reference_life, 0), act(self._learner_life, 1)))
        (_, expected), (text, got) = self._outcomes
        complaint = compare_outcomes(type(self).compare, expected, got)
        if complaint is not None:
            type(self).search.fail(
                Counterexample(
                    case="\n".join([*self._history, text]),
                    expected=show_outcome(expected),
                    got=show_outcome(got),
                    complaint=complaint,
                    output=got.output,
                )
            )
        self._history.append(text)
        return pair


class Pair(tuple[Any, Any]):
    """What a step returned: the reference's value and the learner's."""

    __slots__ = ()


def _side(argument: Any, side: int) -> Any:
    return argument[side] if isinstance(argument, Pair) else argument


@dataclass(frozen=True)
class StatefulCheck:
    """The property that an object and the reference cannot be told apart by using them.

    Attributes:
        reference: The library's class.
        machine: What may be done to an object.
        probes: Scripted lives, which tell which known wrong answer a class behaves like.
        misconceptions: Known wrong classes. Each differs from the reference in some probe.
        compare: When two returned values agree.
        max_steps: Length of the longest life.
    """

    reference: type[Any]
    machine: type[Twin]
    probes: tuple[Callable[[Life], None], ...]
    misconceptions: tuple[Misconception, ...] = ()
    compare: Comparison = exactly
    max_steps: int = 20

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Search for the shortest life in which ``subject`` and the reference differ."""
        counterexample = self._falsify(subject, seed, max_examples)
        if counterexample is None:
            return PASSED
        behaviour = self._behaviour(subject)
        matching = (
            misconception
            for misconception in self.misconceptions
            if self._alike(self._behaviour(LocalSubject(misconception.wrong)), behaviour)
        )
        # The first step of a life is its making; a stub's methods return nothing after that.
        unwritten = all(
            isinstance(outcome, Returned)
            and (outcome.value is None or isinstance(outcome.value, Ref))
            for _, outcome in behaviour
        )
        return Finding(0.0, counterexample, next(matching, None), unwritten)

    def _falsify(self, subject: Subject, seed: int, max_examples: int) -> Counterexample | None:
        search = Search(subject, max_examples)
        bound: dict[str, Any] = {
            "trusted": LocalSubject(self.reference),
            "subject": subject,
            "search": search,
            "compare": staticmethod(self.compare),
        }
        machine = hypothesis.seed(seed)(type(self.machine.__name__, (self.machine,), bound))
        settings = hypothesis.settings(search.settings, stateful_step_count=self.max_steps)
        search.run(lambda: stateful.run_state_machine_as_test(machine, settings=settings))
        if search.smallest is not None:
            return search.smallest
        for probe in self.probes:
            expected = self._record(probe, LocalSubject(self.reference))
            got = self._record(probe, subject)
            for step, (before, after) in enumerate(zip(expected, got, strict=False)):
                complaint = compare_outcomes(self.compare, before[1], after[1])
                if complaint is not None:
                    case = "\n".join(text for text, _ in got[: step + 1])
                    shown = show_outcome(before[1]), show_outcome(after[1])
                    return Counterexample(case, *shown, complaint, after[1].output)
        return None

    def _record(self, probe: Callable[[Life], None], subject: Subject) -> list[tuple[str, Outcome]]:
        log: list[tuple[str, Outcome]] = []
        probe(Life(subject, lambda text, outcome: log.append((text, outcome))))
        return log

    def _behaviour(self, subject: Subject) -> list[tuple[str, Outcome]]:
        return [entry for probe in self.probes for entry in self._record(probe, subject)]

    def _alike(
        self, wrong: list[tuple[str, Outcome]], behaviour: list[tuple[str, Outcome]]
    ) -> bool:
        return len(wrong) == len(behaviour) and all(
            compare_outcomes(self.compare, expected, got) is None
            for (_, expected), (_, got) in zip(wrong, behaviour, strict=True)
        )
