"""The moments of attention over a paged cache, block by block, and what is said of each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from course_lib.attention import dense
from course_lib.attention.dense import SoftmaxState
from course_lib.viz.paged_attention_example import (
    BLOCK_SIZE,
    BLOCK_TABLE,
    CONTEXT_LEN,
    SCORES,
    STALE_OFFSET,
    Functions,
    Numbers,
    dense_answer,
    empty_state,
    gap_between,
    is_close,
    numbers_of,
    short,
    shown,
)

_LAST = len(BLOCK_TABLE) - 1


@dataclass(frozen=True)
class Step:
    """One moment: what was seen before, and the block in hand, if there is one.

    Attributes:
        before: The state over the blocks so far.
        logical: The logical block in hand; None before the first one and after the last.
        block: The state of the block in hand alone.
        together: The state over both, as ``merge_states`` returned it; None before it is called.
        should_be: What the library says: of the block, or of both once they are merged.
        seen: How many blocks are in ``before``.
    """

    before: Numbers
    seen: int
    logical: int | None = None
    block: Numbers | None = None
    together: Numbers | None = None
    should_be: Numbers | None = None

    @property
    def is_answer(self) -> bool:
        """Whether all blocks are seen."""
        return self.seen == len(BLOCK_TABLE)

    @property
    def factors(self) -> tuple[float, float]:
        """What the sums so far and the block's sums are multiplied by when they are merged."""
        if self.block is None or self.should_be is None:
            raise ValueError("nothing is merged at this moment; there are no factors")
        largest = self.should_be.max_score
        return factor(self.before.max_score, largest), factor(self.block.max_score, largest)


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

    >>> [str(step.together) for step in steps(Functions.of(None, None)) if step.together]
    ... # doctest: +NORMALIZE_WHITESPACE
    ['m = 2, l = 1.871, acc = 74.844', 'm = 2, l = 2.878, acc = 94.972',
     'm = 5, l = 1.646, acc = 155.050']
    """
    library = Functions.of(None, None)
    state = empty_state()
    yield Step(numbers_of(state), 0)
    for logical in range(len(BLOCK_TABLE)):
        own = functions.of_block(logical)
        before, block = numbers_of(state), numbers_of(own)
        right = numbers_of(library.of_block(logical))
        yield Step(before, logical, logical, block, should_be=right)
        should_be = numbers_of(dense.merge_states(_copy(state), _copy(own)))
        state = functions.together(state, own)
        yield Step(before, logical, logical, block, numbers_of(state), should_be)
    yield Step(numbers_of(state), len(BLOCK_TABLE))


def _copy(state: SoftmaxState) -> SoftmaxState:
    """Return the state with the head as a row, whatever precision it has."""
    return SoftmaxState(
        state.max_score.clone(), state.denominator.clone(), state.numerator.clone()
    )


def heading(step: Step) -> str:
    """Say in a few words what happens."""
    if step.is_answer:
        return f"The answer: {shown(step.before.output)}"
    if step.logical is None:
        return f"One query, {CONTEXT_LEN} tokens in {len(BLOCK_TABLE)} blocks"
    block_id = BLOCK_TABLE[step.logical]
    if step.together is None:
        return f"Block {block_id} is read"
    return f"Block {block_id} is merged: {event(step)}"


def event(step: Step) -> str:
    """Say whose sums shrink; empty where nothing is merged."""
    if step.is_answer:
        return "the answer"
    if step.together is None:
        return ""
    if step.before.is_empty:
        return "it is the first"
    old, own = step.factors
    if own < 1:
        return "its own sums shrink"
    return "the sums so far shrink" if old < 1 else "no sums shrink"


def caption(step: Step) -> str:
    """Say in sentences what has just happened, with the numbers of this moment.

    >>> caption(list(steps(Functions.of(None, None)))[4])
    "Block 3's largest score is 1 and the largest so far is 2, so its own sums shrink: they are \
multiplied by e^(1 − 2) = 0.368 and added. Over 2 blocks: m = 2, l = 2.878, acc = 94.972, output \
33.005."
    """
    if step.is_answer:
        return _answer(step)
    if step.logical is None:
        return (
            f"The keys and values of a request's {CONTEXT_LEN} tokens lie in blocks "
            f"{', '.join(map(str, BLOCK_TABLE[:-1]))} and {BLOCK_TABLE[-1]}. The query has read "
            "nothing yet: m = −∞, and both sums are 0."
        )
    return _read(step) if step.together is None else _merged(step)


def _read(step: Step) -> str:
    """Say what a block alone amounts to."""
    assert step.logical is not None and step.block is not None and step.should_be is not None
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
    return says + _not_right("partial_attention", step.block, step.should_be)


def _merged(step: Step) -> str:
    """Say whose sums shrink, and what the sums amount to."""
    assert step.logical is not None and step.block is not None
    assert step.together is not None and step.should_be is not None
    block_id = BLOCK_TABLE[step.logical]
    mine, so_far = short(step.block.max_score), short(step.before.max_score)
    old, own = step.factors
    if step.before.is_empty:
        says = f"Nothing was seen before block {block_id}, so its state is the state so far:"
    else:
        largest = f"Block {block_id}'s largest score is {mine} and the largest so far is {so_far}"
        if own < 1:
            says = (
                f"{largest}, so its own sums shrink: they are multiplied by e^({mine} − {so_far}) "
                f"= {shown(own)} and added."
            )
        elif old < 1:
            says = (
                f"{largest}, so the sums so far shrink: they are multiplied by e^({so_far} − "
                f"{mine}) = {shown(old)}, and the block's are added."
            )
        else:
            says = f"{largest}: nothing shrinks, the sums are added."
        says += f" Over {step.logical + 1} blocks:"
    says += f" {step.together}, output {shown(step.together.output)}."
    return says + _not_right("merge_states", step.together, step.should_be)


def _not_right(name: str, found: Numbers, should_be: Numbers) -> str:
    """Say what a function should have returned, where it did not."""
    return "" if found.agrees_with(should_be) else f" {name} is wrong here; right is {should_be}."


def _answer(step: Step) -> str:
    """Say whether the answer is that of dense attention."""
    output, right = step.before.output, dense_answer()
    verdict = "The two agree" if is_close(output, right) else "The two do not agree"
    return (
        f"acc / l = {shown(step.before.numerator)} / {shown(step.before.denominator)} = "
        f"{shown(output)}. Dense attention over the {CONTEXT_LEN} tokens side by side says "
        f"{shown(right)}. {verdict}; {gap_between(output, right)}."
    )
