"""Checks of functions, on numbers, records, arrays or tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis
from hypothesis.strategies import SearchStrategy

from autograder.checks.compare import (
    Comparison,
    compare_outcomes,
    exactly,
    show_call,
    show_outcome,
)
from autograder.checks.finding import PASSED, Counterexample, Finding, Misconception
from autograder.checks.search import Search
from autograder.proxy.subject import LocalSubject, Outcome, Returned, Subject


class Call:
    """The arguments of one call.

    >>> Call(1, key="a")
    Call(1, key='a')
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs

    def __repr__(self) -> str:
        return show_call("Call", self.args, self.kwargs)


@dataclass(frozen=True)
class FunctionCheck:
    """The property that a function agrees with the reference on every generated call.

    Attributes:
        reference: The library's function: the specification.
        cases: Generates calls.
        probes: Calls worth knowing by name. They are tried after the generated ones, and they tell
            which known wrong answer a function behaves like.
        refusals: Calls that the specification says to refuse. They are tried last, so that who gets
            the idea wrong is told of the idea first.
        misconceptions: Known wrong answers. Each differs from the reference, and from the others,
            on some probe.
        compare: When two returned values agree.
    """

    reference: Callable[..., Any]
    cases: SearchStrategy[Call]
    probes: tuple[Call, ...]
    refusals: tuple[Call, ...] = ()
    misconceptions: tuple[Misconception, ...] = ()
    compare: Comparison = exactly

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Search for the smallest call on which ``subject`` and the reference disagree."""
        counterexample = self._falsify(subject, seed, max_examples)
        if counterexample is None:
            return PASSED
        answers = [subject.call(probe.args, probe.kwargs) for probe in self.probes]
        return Finding(
            0.0,
            counterexample,
            self._misconception_of(answers),
            unwritten=all(isinstance(a, Returned) and a.value is None for a in answers),
        )

    def _falsify(self, subject: Subject, seed: int, max_examples: int) -> Counterexample | None:
        search = Search(subject, max_examples)
        trusted = LocalSubject(self.reference)

        @hypothesis.seed(seed)
        @search.settings
        @hypothesis.given(self.cases)
        def agrees(case: Call) -> None:
            with search.step():
                counterexample = self._compare(case, trusted, subject)
            if counterexample is not None:
                search.fail(counterexample)

        search.run(agrees)
        if search.smallest is not None:
            return search.smallest
        named = (*self.probes, *self.refusals)
        results = (self._compare(call, trusted, subject) for call in named)
        return next((result for result in results if result is not None), None)

    def _compare(self, case: Call, trusted: Subject, subject: Subject) -> Counterexample | None:
        expected = trusted.call(case.args, case.kwargs)
        got = subject.call(case.args, case.kwargs)
        complaint = compare_outcomes(self.compare, expected, got)
        if complaint is None:
            return None
        return Counterexample(
            case=show_call(self.reference.__name__, case.args, case.kwargs),
            expected=show_outcome(expected),
            got=show_outcome(got),
            complaint=complaint,
            output=got.output,
        )

    def _misconception_of(self, answers: list[Outcome]) -> Misconception | None:
        for misconception in self.misconceptions:
            wrong = LocalSubject(misconception.wrong)
            pairs = zip(self.probes, answers, strict=True)
            if all(
                compare_outcomes(self.compare, wrong.call(probe.args, probe.kwargs), answer) is None
                for probe, answer in pairs
            ):
                return misconception
        return None
