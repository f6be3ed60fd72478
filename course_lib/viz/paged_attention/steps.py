"""The moments of attention over a paged cache, block by block, and what is said of each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from course_lib.attention.example import (
    BLOCK_SIZE,
    BLOCK_TABLE,
    CONTEXT_LEN,
    SCORES,
    STALE_OFFSET,
    Functions,
    Numbers,
    dense_answer,
    empty_state,
    is_close,
    merged_rightly,
    numbers_of,
    short,
    shown,
)
from course_lib.viz.paged_attention.words import gap_text


@dataclass(frozen=True)
class Step:
    """One moment; by itself, the one before the first block is read.

    Attributes:
        before: The state over the blocks that were merged so far.
    """

    before: Numbers


@dataclass(frozen=True)
class Reading(Step):
    """A block is read.

    Attributes:
        logical: The logical block.
        block: Its own state, as ``partial_attention`` returned it.
        right: What the library says instead: of the block, or of both once they are merged.
    """

    logical: int
    block: Numbers
    right: Numbers


@dataclass(frozen=True)
class Merging(Reading):
    """Its state is merged with the one over the blocks before it.

    Attributes:
        together: The state over both, as ``merge_states`` returned it.
    """

    together: Numbers

    @property
    def factors(self) -> tuple[float, float]:
        """What the sums so far and the block's sums are multiplied by."""
        largest = self.right.max_score
        return factor(self.before.max_score, largest), factor(self.block.max_score, largest)

    @property
    def is_right(self) -> bool:
        """Whether ``merge_states`` returned what the library makes of the two states."""
        return self.together.agrees_with(self.right)


@dataclass(frozen=True)
class Answer(Step):
    """All blocks are merged, and their sums divided."""


def factor(max_score: float, largest: float) -> float:
    """Return what sums relative to one maximum are multiplied by to be relative to another.

    >>> round(factor(1.0, 2.0), 3), factor(float("-inf"), 2.0)
    (0.368, 0.0)
    """
    return 0.0 if max_score == -math.inf else math.exp(max_score - largest)


def steps(functions: Functions) -> Iterator[Step]:
    """Yield the moments of the query's way through its blocks, in the order of its table.

    Args:
        functions: What makes the states.

    Raises:
        OwnPartError: One of the functions failed; the moments before are yielded.

    >>> for step in steps(Functions.of(None, None)):
    ...     if isinstance(step, Merging):
    ...         print(step.together)
    m = 2, l = 1.871, acc = 74.844
    m = 2, l = 2.878, acc = 94.972
    m = 5, l = 1.646, acc = 155.050
    """
    library = Functions.of(None, None)
    state = empty_state()
    yield Step(numbers_of(state))
    for logical in range(len(BLOCK_TABLE)):
        own = functions.of_block(logical)
        before, block = numbers_of(state), numbers_of(own)
        yield Reading(before, logical, block, numbers_of(library.of_block(logical)))
        right = merged_rightly(state, own)
        state = functions.together(state, own)
        yield Merging(before, logical, block, right, numbers_of(state))
    yield Answer(numbers_of(state))


def heading(step: Step) -> str:
    """Say in a few words what happens."""
    if isinstance(step, Merging):
        return f"Block {BLOCK_TABLE[step.logical]} is merged: {event(step)}"
    if isinstance(step, Reading):
        return f"Block {BLOCK_TABLE[step.logical]} is read"
    if isinstance(step, Answer):
        return f"The answer: {shown(step.before.output)}"
    return f"One query, {CONTEXT_LEN} tokens in {len(BLOCK_TABLE)} blocks"


def event(step: Step) -> str:
    """Say whose sums shrink, or that this is the answer; empty at other moments."""
    if isinstance(step, Answer):
        return "the answer"
    if not isinstance(step, Merging):
        return ""
    if step.before.is_empty:
        return "it is the first"
    old, own = step.factors
    shrink = "shrink" if step.is_right else "should shrink"
    if own < 1:
        return f"its own sums {shrink}"
    return f"the sums so far {shrink}" if old < 1 else "no sums shrink"


def caption(step: Step) -> str:
    """Say in sentences what has just happened, with the numbers of this moment.

    >>> caption(list(steps(Functions.of(None, None)))[4])
    "Block 3's largest score is 1 and the largest so far is 2, so its own sums shrink: they are \
multiplied by e^(1 − 2) = 0.368 and added. Over 2 blocks: m = 2, l = 2.878, acc = 94.972, output \
33.005."
    """
    if isinstance(step, Merging):
        return _merged(step)
    if isinstance(step, Reading):
        return _read(step)
    if isinstance(step, Answer):
        return _answer(step)
    return (
        f"The keys and values of a request's {CONTEXT_LEN} tokens lie in blocks "
        f"{', '.join(map(str, BLOCK_TABLE[:-1]))} and {BLOCK_TABLE[-1]}. The query has read "
        "nothing yet: m = −∞, and both sums are 0."
    )


def _read(step: Reading) -> str:
    """Say what a block alone amounts to."""
    block_id, filled = BLOCK_TABLE[step.logical], len(SCORES[step.logical])
    says = (
        f"Logical block {step.logical} is block {block_id}. The query reads {filled} of its "
        f"{BLOCK_SIZE} slots; alone they have {step.block}, output {shown(step.block.output)}."
    )
    if filled < BLOCK_SIZE:
        says += (
            f" Slot {STALE_OFFSET} is behind the context and holds what somebody else left: it is "
            "not read."
        )
    return says + _not_right("partial_attention", step.block, step.right)


def _merged(step: Merging) -> str:
    """Say whose sums shrink, and what the sums amount to."""
    block_id = BLOCK_TABLE[step.logical]
    mine, so_far = short(step.block.max_score), short(step.before.max_score)
    old, own = step.factors
    shrink = "shrink: they are" if step.is_right else "should shrink: they are to be"
    if step.before.is_empty:
        says = f"Nothing was seen before block {block_id}, so its state is the state so far:"
    else:
        largest = f"Block {block_id}'s largest score is {mine} and the largest so far is {so_far}"
        if own < 1:
            says = (
                f"{largest}, so its own sums {shrink} multiplied by e^({mine} − {so_far}) "
                f"= {shown(own)} and added."
            )
        elif old < 1:
            says = (
                f"{largest}, so the sums so far {shrink} multiplied by e^({so_far} − "
                f"{mine}) = {shown(old)}, and the block's are added."
            )
        else:
            says = f"{largest}: nothing shrinks, the sums are added."
        says += f" Over {step.logical + 1} blocks:"
    says += f" {step.together}, output {shown(step.together.output)}."
    return says + _not_right("merge_states", step.together, step.right)


def _not_right(name: str, found: Numbers, right: Numbers) -> str:
    """Say what a function should have returned, where it did not."""
    return "" if found.agrees_with(right) else f" {name} is wrong here; right is {right}."


def _answer(step: Answer) -> str:
    """Say whether the answer is that of dense attention."""
    output, right = step.before.output, dense_answer()
    verdict = "The two agree" if is_close(output, right) else "The two do not agree"
    return (
        f"acc / l = {shown(step.before.numerator)} / {shown(step.before.denominator)} ≈ "
        f"{shown(output)}. Dense attention over the {CONTEXT_LEN} tokens side by side says "
        f"{shown(right)}. {verdict}: the difference is {gap_text(abs(output - right))}."
    )
