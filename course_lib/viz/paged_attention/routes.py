"""What comes out of the example's blocks, in any order, merged in several ways."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from course_lib.attention.dense import SoftmaxState
from course_lib.attention.example import (
    BLOCK_TABLE,
    Functions,
    Numbers,
    dense_answer,
    empty_state,
    is_close,
    numbers_of,
)

ORDERS = tuple(permutations(range(len(BLOCK_TABLE))))
"""The orders in which the three logical blocks can be visited."""

RESCALED, AS_THEY_ARE, MEAN = "rescaled", "as they are", "mean"
"""How the states of blocks are put together: as they should be, and two ways that go wrong."""


@dataclass(frozen=True)
class Visit:
    """What one block adds.

    Attributes:
        logical: The block.
        block: Its own state.
        together: The state over it and the blocks before it; None where outputs are averaged.
        output: The answer so far.
    """

    logical: int
    block: Numbers
    together: Numbers | None
    output: float


@dataclass(frozen=True)
class Route:
    """Which way the answer is come by.

    Attributes:
        order: The logical blocks in the order of the visits.
        merging: ``RESCALED``, ``AS_THEY_ARE`` or ``MEAN``.
        stale_value: What the stale slot holds.
        is_masked: Whether the slot is read, and only its score masked; else it is not read.
    """

    order: tuple[int, ...]
    merging: str
    stale_value: float
    is_masked: bool

    @property
    def blocks(self) -> str:
        """The physical blocks in the order of the visits.

        >>> Route((2, 0, 1), RESCALED, 0, is_masked=False).blocks
        '5, 7, 3'
        """
        return ", ".join(str(BLOCK_TABLE[logical]) for logical in self.order)

    def visits(self, functions: Functions) -> list[Visit]:
        """Return what each block adds.

        Raises:
            OwnPartError: One of the functions failed.

        >>> route = Route((0, 1, 2), AS_THEY_ARE, 0, is_masked=False)
        >>> [round(visit.output, 3) for visit in route.visits(Functions.of(None, None))]
        [40.0, 28.123, 45.806]
        """
        state = empty_state()
        found: list[Visit] = []
        outputs: list[float] = []
        for logical in self.order:
            own = functions.of_block(logical, self.stale_value if self.is_masked else None)
            block = numbers_of(own)
            outputs.append(block.output)
            if self.merging == MEAN:
                found.append(Visit(logical, block, None, sum(outputs) / len(outputs)))
                continue
            if self.merging == RESCALED:
                state = functions.together(state, own)
            else:
                state = _unscaled(state, own)
            together = numbers_of(state)
            found.append(Visit(logical, block, together, together.output))
        return found

    def answer(self, functions: Functions) -> float:
        """Return the output over all blocks.

        Raises:
            OwnPartError: One of the functions failed.
        """
        return self.visits(functions)[-1].output


def _unscaled(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    """Add sums that are relative to different maxima, which is wrong."""
    return SoftmaxState(
        first.max_score.maximum(second.max_score),
        first.denominator + second.denominator,
        first.numerator + second.numerator,
    )


def is_right(answer: float) -> bool:
    """Say whether an answer is that of dense attention, but for rounding."""
    return is_close(answer, dense_answer())


def spread(answers: Sequence[float]) -> float:
    """Return by how much answers differ at most; NaN if one of them is no number.

    >>> spread([1.0, 1.5, 1.25])
    0.5
    """
    return math.nan if any(map(math.isnan, answers)) else max(answers) - min(answers)
