"""Lesson 3: what the slots of a large batch cost, counted, and whether each call's are its own."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autograder.checks.budget import OperationBudget, Tally
from autograder.checks.compare import compare_outcomes
from autograder.checks.finding import FAILING, Counterexample, Finding, Misconception
from autograder.checks.function import Call
from autograder.checks.show import show_call, show_outcome
from autograder.proxy.subject import (
    ITSELF,
    TRUSTED_PATIENCE,
    LocalSubject,
    Outcome,
    Returned,
    Subject,
)
from autograder.proxy.wire import Ref
from course_lib.kv_cache.watch.call_costs import bytes_held, first_after_second, lines_run

MANY = 2_000
"""How many sequences, tokens of one sequence, blocks of it and places of padding there are in the
large batches: whoever goes through any of these one by one is found."""

ALLOWED_LINES = 500
"""A right answer runs some 50 to 100 lines, and 200 with functions of NumPy that are in Python; a
loop, as many as there are turns, or more."""
_MOST_LINES = 50_000

ALLOWED_KB = 600
"""The result has 16 to 32 kB, and a right answer holds 70 to 230 at once; every slot of every table
has 1,300, and a number for each pair of a token and a sequence 4,000 and more."""

LINES, HELD = "lines of Python", "kB held at once"


def decodes(seed: int) -> Call:
    """Return a batch of many sequences, each with one token and a table of 5 blocks."""
    draw = np.random.default_rng(seed)
    tables = draw.integers(0, 2**30, (MANY, 5), dtype=np.int32)
    return Call(tables, np.arange(MANY + 1), draw.integers(0, 5 * 16, MANY), 16)


def chunk(seed: int) -> Call:
    """Return a batch of a long chunk, in blocks of one slot, a decode, and much padding."""
    draw = np.random.default_rng(seed)
    tables = draw.integers(0, 2**30, (2, MANY), dtype=np.int32)
    positions = np.array([*range(MANY), 7, *draw.integers(0, MANY, MANY)])
    return Call(tables, np.array([0, MANY, MANY + 1]), positions, 1)


BATCHES = (
    (decodes, f"{MANY:,} sequences with one token each"),
    (chunk, f"{MANY:,} tokens of one sequence, in blocks of 1, and {MANY:,} places of padding"),
)


def counted_costs(subject: Subject, seed: int) -> Iterable[Tally]:
    """Count the lines that run for the slots of large batches, and the memory held on the way.

    Nobody looks at the memory of who takes too many lines, nor at that for the long chunk: who
    takes a whole row of the tables for each token goes without a loop, as is asked.
    """
    for make, size in BATCHES:
        call, case = make(seed), f"slot_mapping(...) on {size}"
        # The first call may import modules, which is not counted.
        outcome = subject.call(call.args)
        lines = _counted(subject.apply(lines_run, (*_asked(call), _MOST_LINES)))
        yield Tally(case, outcome, lines, ALLOWED_LINES, LINES)
        is_looked_at = make is decodes and lines <= ALLOWED_LINES
        held = _counted(subject.apply(bytes_held, _asked(call))) if is_looked_at else 0
        yield Tally(case, outcome, held // 1_000, ALLOWED_KB, HELD)


def _asked(call: Call) -> tuple[Ref, list[Any]]:
    """Return what a function of the library needs to make the call."""
    return ITSELF, list(call.args)


def _counted(outcome: Outcome) -> int:
    """Return what was counted; 0 where nothing was, as the call before ended in an exception."""
    value = outcome.value if isinstance(outcome, Returned) else 0
    return value if type(value) is int else 0


@dataclass(frozen=True, kw_only=True)
class BatchBudget(OperationBudget):
    """The property that a batch's slots are right, stay as they are, and cost what they must.

    Attributes:
        pairs: Pairs of calls: the result of the first is looked at again after the second.
        loop: The mistake of going through the batch in Python. The count shows that somebody does,
            and the code whether it is done by a loop.
    """

    pairs: tuple[tuple[Call, Call], ...]
    loop: Misconception

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Examine what comes of one call, of two, and what a large one costs."""
        finding = self.inner.examine(subject, seed, max_examples)
        if finding.fraction < 1:
            return finding
        changed = next(filter(None, (self._changes(subject, *pair) for pair in self.pairs)), None)
        if changed is not None:
            return Finding(0.0, changed)
        trusted = LocalSubject(self.reference, TRUSTED_PATIENCE)
        return self._explained(self.weighed(subject, trusted, seed), subject)

    def _changes(self, subject: Subject, first: Call, second: Call) -> Counterexample | None:
        """Return the first result as the second call leaves it, if that changes it."""
        right = LocalSubject(self.reference, TRUSTED_PATIENCE).call(first.args)
        after = subject.apply(first_after_second, (ITSELF, list(first.args), list(second.args)))
        if compare_outcomes(self.compare, right, after) is None:
            return None
        calls = (show_call("slot_mapping", call.args, call.kwargs) for call in (first, second))
        return Counterexample(
            "first = {}\n{}\nfirst".format(*calls),
            show_outcome(right),
            show_outcome(after),
            "the second call changes the result of the first: make new memory in each call",
            label=FAILING,
        )

    def _explained(self, finding: Finding, subject: Subject) -> Finding:
        """Say of an answer that costs too much what makes it so, where that can be seen."""
        shown = finding.counterexample
        if shown is None or finding.fraction == 0:
            return finding
        if LINES not in shown.expected:
            why = (
                "it is right, and makes far more than a number for each token, such as one for "
                "each pair of a token and a sequence, or every slot of every table"
            )
            return replace(finding, counterexample=replace(shown, complaint=why))
        why = "it is right, and the lines that run grow with the batch"
        finding = replace(finding, counterexample=replace(shown, complaint=why))
        if not has_loop(subject.source() or ""):
            return finding
        return replace(finding, misconception=self.loop, alike=(), confirmed=True)


def has_loop(source: str) -> bool:
    r"""Say whether code has a loop, or a comprehension, which is one.

    >>> has_loop("def f(x):\n    return [each for each in x]")
    True
    >>> has_loop("def f(x):\n    raise ValueError('no slot for a token')")
    False
    """
    try:
        tree = ast.parse(textwrap.dedent(source))
    except SyntaxError:
        return False
    return any(isinstance(node, (ast.For, ast.While, ast.comprehension)) for node in ast.walk(tree))
