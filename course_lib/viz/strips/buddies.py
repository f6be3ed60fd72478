"""What a buddy allocator does with a block that is freed, in words: merge by merge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from course_lib.kv_cache.allocators import Span
from course_lib.viz.strips.pieces import Strip
from course_lib.viz.strips.steps import Operation, StripStep


def told_of_buddies(
    operations: Sequence[Operation], steps: Sequence[StripStep]
) -> Iterator[StripStep]:
    """Yield the steps of a buddy allocator, where a release is told merge by merge.

    Args:
        operations: What is done.
        steps: The moment before the first operation and after each of them. Every block is a power
            of two of slots and starts at a multiple of its size.

    >>> from course_lib.kv_cache.allocators import BuddyAllocator
    >>> from course_lib.viz.strips.steps import parse_operations, steps_of
    >>> operations = parse_operations("A4 B4 -A -B")
    >>> steps = list(told_of_buddies(operations, list(steps_of(operations, BuddyAllocator, 16))))
    >>> steps[3].said
    'A is freed: a block of 4 at 0. Its buddy at 0 XOR 4 = 4 is in use.'
    >>> steps[4].event
    '−B: 4 + 4 = 8, 8 + 8 = 16'
    """
    before = Strip(0, (), ())
    for step in steps:
        freed = _freed(step, operations, before)
        yield _told(step, freed, before.holes) if freed else step
        before = step.strip


def _freed(step: StripStep, operations: Sequence[Operation], before: Strip) -> Span | None:
    """Return the block that a step gives back; None if it gives back none."""
    if step.number < 0 or step.problem or operations[step.number].size:
        return None
    name = operations[step.number].name
    found = (Span(each.offset, each.size) for each in before.pieces if each.request_id == name)
    return next(found, None)


def _told(step: StripStep, block: Span, free_before: Sequence[Span]) -> StripStep:
    """Tell with which buddies a block has become one, and where that ended."""
    name = step.said.split()[0]
    said = [f"{name} is freed: a block of {block.size:,} at {block.offset:,}."]
    sums = []
    while block not in step.strip.holes:
        buddy = _buddy(block)
        if buddy not in free_before:
            return step  # it has become one with something else
        whole = Span(min(block.offset, buddy.offset), 2 * block.size)
        sums.append(f"{block.size:,} + {block.size:,} = {whole.size:,}")
        said.append(f"{_where(block)} is free: {sums[-1]}, at {whole.offset:,}.")
        block = whole
    said += _what_stays(step.strip, block)
    return replace(step, said=" ".join(said), event=f"−{name}: {', '.join(sums)}" if sums else "")


def _what_stays(strip: Strip, block: Span) -> Iterator[str]:
    """Say why a free block is no larger, and what touches it all the same."""
    buddy = _buddy(block)
    if buddy in strip.holes:
        yield f"{_where(block)} is free as well, and the two stay apart."
    elif any(piece.offset < buddy.end and buddy.offset < piece.end for piece in strip.blocks()):
        is_split = any(buddy.offset <= hole.offset < buddy.end for hole in strip.holes)
        yield f"{_where(block)} is {'in use in part' if is_split else 'in use'}."
    for hole in strip.holes:
        if hole != buddy and block.offset in {hole.end, hole.offset - block.size}:
            yield f"The free block at {hole.offset:,} touches it, and is not its buddy."


def _buddy(block: Span) -> Span:
    return Span(block.offset ^ block.size, block.size)


def _where(block: Span) -> str:
    return f"Its buddy at {block.offset:,} XOR {block.size:,} = {block.offset ^ block.size:,}"
