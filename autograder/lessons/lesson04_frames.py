"""Lesson 4: its bug hunt. Memory that a buddy allocator is given range by range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from autograder.checks.compare import remedy
from autograder.checks.finding import Misconception
from autograder.checks.function import Call
from autograder.proxy.wire import kind_of

Blocks = set[tuple[int, int]]
"""Free blocks, as pairs of the first frame and the number of frames."""

# What the lesson shows


def largest_block(start: int, end: int) -> int:
    """Return the largest power of two that divides start and fits before end."""
    size = 1
    while start % (2 * size) == 0 and start + 2 * size <= end:
        size *= 2
    return size


def release(free: set[tuple[int, int]], start: int, size: int) -> set[tuple[int, int]]:
    """Return the free blocks once the block of size frames at start is free, too."""
    free = set(free)
    while (start ^ size, size) in free:
        free.remove((start ^ size, size))
        start, size = min(start, start ^ size), 2 * size
    return free | {(start, size)}


def suspect_add_range(free: set[tuple[int, int]], start: int, end: int) -> set[tuple[int, int]]:
    """Return the free blocks once frames start to end - 1 are added to the memory."""
    free = set(free)
    while start < end:
        size = largest_block(start, end)
        free.add((start, size))
        start += size
    return free


def add_range_a(free: set[tuple[int, int]], start: int, end: int) -> set[tuple[int, int]]:
    """Fix A: a block that ends where the new one starts, and is as large, becomes one with it."""
    free = set(free)
    while start < end:
        size = largest_block(start, end)
        block = start, size
        while (block[0] - block[1], block[1]) in free:
            before = block[0] - block[1], block[1]
            free.remove(before)
            block = before[0], 2 * block[1]
        free.add(block)
        start += size
    return free


def add_range_b(free: set[tuple[int, int]], start: int, end: int) -> set[tuple[int, int]]:
    """Fix B: when all is added, look for buddies that are both free until there are none."""
    free = suspect_add_range(free, start, end)
    found = True
    while found:
        found = False
        for first, size in sorted(free):
            if first & size == 0 and (first + size, size) in free:
                free -= {(first, size), (first + size, size)}
                free.add((first, 2 * size))
                found = True
                break
    return free


# What is right


def add_range(free: Blocks, start: int, end: int) -> Blocks:
    """Return the free blocks once frames start to end - 1 are added to the memory."""
    free = set(free)
    while start < end:
        size = largest_block(start, end)
        free = release(free, start, size)
        start += size
    return free


Add = Callable[[Blocks, int, int], Blocks]


def _added(add: Add, ranges: Sequence[tuple[int, int]]) -> Blocks:
    free: Blocks = set()
    for start, end in ranges:
        free = add(free, start, end)
    return free


# 4.8a

EXPOSING = {"ranges": [(0, 2), (2, 4)], "frames": 4}
"""The case of the report upstream."""

_MOST_FRAMES = 2**62


def _complaint_about_form(answer: Any) -> str | None:
    """Say what is wrong with the form of an answer."""
    if not isinstance(answer, dict) or not {"ranges", "frames"} <= set(answer):
        got = (
            f"the keys {sorted(map(str, answer))}" if isinstance(answer, dict) else kind_of(answer)
        )
        return f'give a dict with "ranges" and "frames", not {got}'
    ranges, frames = answer["ranges"], answer["frames"]
    if not isinstance(ranges, (list, tuple)) or not ranges:
        return f'"ranges" is a list of at least one pair (start, end){remedy(list, ranges)}'
    seen: list[tuple[int, int]] = []
    for each in ranges:
        is_pair = isinstance(each, (list, tuple)) and len(each) == 2
        if not is_pair or not all(type(bound) is int for bound in each):
            return f"a range is a pair of whole numbers (start, end), not {each!r}"
        start, end = each
        if start >= end:
            return f"the range {start} to {end} is empty: `end` is the first frame behind it"
        if start < 0 or end > _MOST_FRAMES:
            return f"the range {start} to {end} leaves the frames, 0 to {_MOST_FRAMES - 1:,}"
        if any(start < other_end and other < end for other, other_end in seen):
            return f"the range {start} to {end} overlaps an earlier one: no frame is added twice"
        seen.append((start, end))
    if type(frames) is not int or frames < 1 or frames & (frames - 1):
        return f'"frames" is a power of two, not {frames!r}'
    return None


def exposes_the_bug(_: Any, answer: Any) -> str | None:
    """Agree with ranges after which a request is refused that should not be."""
    complaint = _complaint_about_form(answer)
    if complaint is not None:
        return complaint
    frames = answer["frames"]
    has_come, should_come = (
        any(size >= frames for _, size in _added(add, answer["ranges"]))
        for add in (suspect_add_range, add_range)
    )
    if has_come:
        return f"a block of {frames} frames is there: the request is served, and rightly"
    if not should_come:
        said = (
            f"{frames} frames are refused, and rightly: no block of {frames} can be made of these"
        )
        longer = [(start, end + 1) for start, end in answer["ranges"]]
        if any(size >= frames for _, size in _added(add_range, longer)):
            start, end = answer["ranges"][0]
            said += (
                f" (`end` is the first frame behind a range: the last of {start, end} is {end - 1})"
            )
        return said
    return None


def is_refused_rightly(_: Any, answer: Any) -> str | None:
    """Agree with an answer in which neighbours are taken for buddies."""
    complaint = exposes_the_bug(_, answer) or ""
    if "rightly: no block" not in complaint:
        return ""
    longest = run = last = 0
    for start, end in sorted(answer["ranges"]):
        run = end - start + (run if start == last else 0)
        last, longest = end, max(longest, run)
    return None if longest >= answer["frames"] else ""


EXPOSED = (
    Misconception(
        "neighbours for buddies",
        "Enough frames side by side are not enough: a block of n frames starts at a multiple of n.",
        lambda: {"ranges": [(2, 4), (4, 6)], "frames": 4},
    ),
)

# 4.8b


@st.composite
def additions(draw: st.DrawFn) -> Call:
    """Draw free blocks, as right additions leave them, and a range to add beside them."""
    bounds = sorted(draw(st.sets(st.integers(0, 32), min_size=2, max_size=8)))
    pieces = list(pairwise(bounds))
    added = draw(st.sampled_from(pieces))
    others = [piece for piece in pieces if piece != added and draw(st.booleans())]
    return Call(_added(add_range, others), *added)


ADDITIONS = (
    Call({(0, 1)}, 1, 2),
    Call({(2, 1)}, 3, 5),
    Call({(0, 2)}, 2, 4),
    Call({(2, 2)}, 0, 2),
    Call({(0, 4), (4, 2)}, 6, 8),
    Call({(2, 2)}, 4, 6),
    Call({(0, 2), (6, 2)}, 2, 6),
    Call(set(), 3, 11),
    Call({(0, 1)}, 1, 5),  # what 1 becomes is the buddy of 2, which is neither first nor last
)
"""Free blocks and ranges that tell the ways to add apart."""


def merged_once(free: Blocks, start: int, end: int) -> Blocks:
    """Merge a new block with its buddy, and leave it at that."""
    free = set(free)
    while start < end:
        size = largest_block(start, end)
        buddy = start ^ size, size
        if buddy in free:
            free.remove(buddy)
            free.add((min(start, buddy[0]), 2 * size))
        else:
            free.add((start, size))
        start += size
    return free


def only_the_last(free: Blocks, start: int, end: int) -> Blocks:
    """File the blocks as before, and release the last of them alone."""
    free = set(free)
    while start < end:
        size = largest_block(start, end)
        free = release(free, start, size) if start + size == end else free | {(start, size)}
        start += size
    return free


def as_single_frames(free: Blocks, start: int, end: int) -> Blocks:
    """Release frame by frame; it is right, and takes long for a large range."""
    for frame in range(start, end):
        free = release(free, frame, 1)
    return set(free)


MENDED = (
    Misconception(
        "the bug is still there",
        "The new blocks are filed as they are: nobody looks whether their buddies are free.",
        suspect_add_range,
    ),
    Misconception(
        "merged once",
        "A block that was merged has a buddy too, and that one may be free as well.",
        merged_once,
    ),
    Misconception(
        "neighbours for buddies",
        "The block before it need not be its buddy: of a block at `start` the buddy is at "
        "`start ^ size`, on either side.",
        add_range_a,
    ),
    Misconception(
        "only the last block",
        "A range is cut into several blocks, and each of them may have a buddy that is free.",
        only_the_last,
    ),
)
