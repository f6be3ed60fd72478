"""Lesson 2's example: 11 tokens in three blocks, and what two functions make of them.

The two functions may be the learner's own. What goes wrong in them becomes an ``OwnPartError``,
whose message a figure shows where its picture would have stood.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from course_lib.attention import dense
from course_lib.attention.dense import SoftmaxState, dense_attention

Partial: TypeAlias = Callable[[Tensor, Tensor, Tensor], SoftmaxState]
"""A ``partial_attention``: query, keys, values to the state over these keys."""

Merge: TypeAlias = Callable[[SoftmaxState, SoftmaxState], SoftmaxState]
"""A ``merge_states``: the states of two sets of keys to the state over both."""

BLOCK_SIZE, CONTEXT_LEN, NUM_BLOCKS = 4, 11, 8
BLOCK_TABLE = (7, 3, 5)
SCORES = ((1, 0, 2, 1), (0, 1, 0, 1), (5, 3, 4))
"""The scores of the query with the keys of each logical block."""

VALUES = (40, 20, 100)
"""What all values of a logical block are."""

STALE_OFFSET = CONTEXT_LEN % BLOCK_SIZE
"""The slot of the last block that is behind the context."""

_TOLERANCE = 1e-5


class OwnPartError(ValueError):
    """One of the two functions did not do its work; the message says what it did."""


@dataclass(frozen=True)
class Numbers:
    """The state of the one head of the example, as numbers.

    Attributes:
        max_score: The largest score, m; −inf where no key was seen.
        denominator: The sum of the weights, l.
        numerator: The sum of the weights times the values, acc.
    """

    max_score: float
    denominator: float
    numerator: float

    @property
    def output(self) -> float:
        """The attention over the keys seen so far; NaN where none was seen."""
        return self.numerator / self.denominator if self.denominator else math.nan

    @property
    def is_empty(self) -> bool:
        """Whether no key was seen."""
        return self.max_score == -math.inf

    def agrees_with(self, other: Numbers) -> bool:
        """Say whether two states are the same but for rounding.

        >>> Numbers(1, 2.0, 3.0).agrees_with(Numbers(1, 2.000001, 3.0))
        True
        """
        pairs = zip(self.values(), other.values(), strict=True)
        return all(is_close(mine, theirs) for mine, theirs in pairs)

    def values(self) -> tuple[float, float, float]:
        """Return m, l and acc."""
        return self.max_score, self.denominator, self.numerator

    def __str__(self) -> str:
        m, total, acc = self.values()
        return f"m = {short(m)}, l = {shown(total)}, acc = {shown(acc)}"


@dataclass(frozen=True)
class Functions:
    """The two functions that a figure is driven by.

    Attributes:
        partial_attention: Returns the state of a query over some keys.
        merge_states: Returns the state over the keys of two states.
    """

    partial_attention: Partial
    merge_states: Merge

    @classmethod
    def of(cls, partial_attention: Partial | None, merge_states: Merge | None) -> Functions:
        """Return the functions, with the library's for those that are None."""
        return cls(partial_attention or dense.partial_attention, merge_states or dense.merge_states)

    def of_block(self, logical: int, stale_value: float | None = None) -> SoftmaxState:
        """Return the state of the query over one logical block of the example.

        Args:
            logical: 0 to 2.
            stale_value: If given, the slot behind the context is read as well, with this value and
                a score of −inf, as by a kernel that masks only the scores.

        Raises:
            OwnPartError: ``partial_attention`` failed.

        >>> str(numbers_of(Functions.of(None, None).of_block(0)))
        'm = 2, l = 1.871, acc = 74.844'
        """
        scores: list[float] = list(SCORES[logical])
        values: list[float] = [VALUES[logical]] * len(scores)
        if stale_value is not None and len(scores) == STALE_OFFSET:
            scores.append(-math.inf)
            values.append(stale_value)
        tried = _tried(self.partial_attention, "partial_attention")
        return tried(_query(), _column(scores), _column(values))

    def together(self, first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
        """Return the state over the keys of both.

        Raises:
            OwnPartError: ``merge_states`` failed.
        """
        return _tried(self.merge_states, "merge_states")(first, second)


def empty_state() -> SoftmaxState:
    """Return the state of the example's query before the first key."""
    return SoftmaxState.empty(_query())


def numbers_of(state: SoftmaxState) -> Numbers:
    """Return the state of one head as numbers.

    >>> numbers_of(empty_state())
    Numbers(max_score=-inf, denominator=0.0, numerator=0.0)
    """
    return Numbers(float(state.max_score), float(state.denominator), float(state.numerator))


def merged_rightly(first: SoftmaxState, second: SoftmaxState) -> Numbers:
    """Return what the library makes of two states.

    >>> state = Functions.of(None, None).of_block(1)
    >>> merged_rightly(state, empty_state()) == numbers_of(state)
    True
    """
    return numbers_of(dense.merge_states(first, second))


def dense_answer() -> float:
    """Return what dense attention says, over the 11 tokens side by side.

    >>> shown(dense_answer())
    '94.171'
    """
    keys = _column([score for block in SCORES for score in block])
    values = [value for block, value in zip(SCORES, VALUES, strict=True) for _ in block]
    return float(dense_attention(_query()[None], keys, _column(values)))


def is_close(number: float, other: float) -> bool:
    """Say whether two numbers are the same but for the rounding of 32 bits; NaN is like NaN.

    >>> is_close(94.171, 94.1710001), is_close(94.171, 94.2), is_close(math.nan, math.nan)
    (True, False, True)
    """
    if math.isnan(number) and math.isnan(other):
        return True
    return math.isclose(number, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def shown(number: float) -> str:
    """Return a number as the figures write it, with three decimals.

    >>> shown(94.1712), shown(float("-inf")), shown(float("nan")), shown(-2.5), shown(3.2e9)
    ('94.171', '−∞', 'NaN', '−2.500', '3.2e+09')
    """
    if math.isnan(number):
        return "NaN"
    size = "∞" if math.isinf(number) else f"{abs(number):.3f}"
    if len(size) > 8:
        size = f"{abs(number):.2g}"
    return f"−{size}" if number < 0 else size


def short(number: float) -> str:
    """Return a number without zeros at its end.

    >>> short(2.0), short(0.5), short(10.0), short(float("-inf"))
    ('2', '0.5', '10', '−∞')
    """
    text = shown(number)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def _query() -> Tensor:
    """Return the query: one head of one element, so a score is the key itself."""
    return torch.ones(1, 1)


def _column(numbers: Sequence[float]) -> Tensor:
    """Return keys or values of one head and one element."""
    return torch.tensor([float(number) for number in numbers]).reshape(-1, 1, 1)


def _tried(function: Callable[..., Any], name: str) -> Callable[..., SoftmaxState]:
    """Return the function with its failures in words."""

    def call(*arguments: Any) -> SoftmaxState:
        try:
            found = function(*arguments)
        except Exception as error:
            says = f": {error}" if str(error) else ""
            raise OwnPartError(f"{name} raised {type(error).__name__}{says}") from error
        _require_state(found, name)
        state: SoftmaxState = found
        return state

    return call


def _require_state(found: Any, name: str) -> None:
    """Refuse what is no state of one head with one element."""
    shapes = {"max_score": [1], "denominator": [1], "numerator": [1, 1]}
    for attribute, shape in shapes.items():
        part = getattr(found, attribute, None)
        if not isinstance(part, Tensor):
            raise OwnPartError(
                f"{name} returned a {type(found).__name__} without a tensor {attribute}; return a "
                "SoftmaxState(max_score, denominator, numerator)"
            )
        if list(part.shape) != shape:
            raise OwnPartError(
                f"{name} returned a {attribute} of shape {list(part.shape)} for one head of one "
                f"element; it must be {shape}"
            )
