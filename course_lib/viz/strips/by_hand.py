"""One small contiguous memory as a strip of slots, step by step: the traces that are done by hand.

The operations are written as ``A5 B3 C4 -B D2 -A``: A asks for 5 slots, and so on; B is freed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from course_lib.kv_cache.allocators import Allocator, FirstFitAllocator
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.player import Frame, Player
from course_lib.viz.kit.scene import Scene
from course_lib.viz.strips.buddies import told_of_buddies
from course_lib.viz.strips.drawing import StripFigure
from course_lib.viz.strips.pieces import MakeAllocator, Strip
from course_lib.viz.strips.steps import StripStep, parse_operations, steps_of


def strip_scene(allocator: Allocator, name_at: Mapping[int, str], width: float = WIDE) -> Scene:
    """Draw the slots of an allocator, with the strip as text below.

    Args:
        allocator: The allocator.
        name_at: The letter of each allocated block, by its offset, as for ``strip_text``.
        width: Width of the picture.

    Raises:
        ValueError: No block starts at an offset, or a block has no letter.

    >>> allocator = FirstFitAllocator(8)
    >>> strip_scene(allocator, {allocator.allocate(3): "A"}).alt
    '5 of 8 slots are free, in 1 hole. As text: AAA.....'
    """
    strip = Strip.of(allocator, {name: offset for offset, name in name_at.items()})
    step = StripStep(-1, strip, f"{strip.in_words()}.")
    title = f"{type(allocator).__name__}, {strip.num_slots:,} slots"
    return StripFigure.of(title, [step]).scene(step, width)


def strip_film(
    operations: str | Sequence[str],
    allocator: MakeAllocator = FirstFitAllocator,
    num_slots: int = 16,
) -> Player:
    """Play operations on a small memory: which hole is taken, and which holes become one.

    Above the strip of a buddy allocator stands the tree of its halves: a block that is split, or
    becomes one with its buddy, changes its row.

    Args:
        operations: What happens, such as ``"A5 B3 C4 -B D2 -A"``.
        allocator: Makes the allocator from ``num_slots``; a learner's own class will do. What it
            does wrong stands in the picture in words.
        num_slots: Slots in all.

    Raises:
        ValueError: An operation cannot be read, or ``num_slots`` is less than 1.

    >>> film = strip_film("A5 B3 C4 -B D2 -A E6 -D E6")
    >>> film.film[7].caption
    'E6: E asks for 6 and gets nothing: 10 of 16 slots are free, in 3 holes; the largest has 5.'
    >>> film.marks[1]
    [8, '−D: 3 become one']
    """
    read = parse_operations(operations)
    steps = list(steps_of(read, allocator, num_slots))
    figure = StripFigure.of(f"{_name(allocator)}, {num_slots:,} slots", steps, read)
    if figure.levels:
        steps = list(told_of_buddies(read, steps))
    return Player(strip_frames(figure, steps))


def _name(allocator: MakeAllocator) -> str:
    """Return what an allocator's class is called, or the function that makes one."""
    return getattr(allocator, "__name__", type(allocator).__name__)


def strip_frames(figure: StripFigure, steps: Sequence[StripStep]) -> Iterator[Frame]:
    """Yield a frame for each step.

    Args:
        figure: What is the same in all of them.
        steps: The moments.
    """
    for step in steps:
        wide, narrow = (figure.scene(step, width) for width in (WIDE, NARROW))
        happens = step.number >= 0 and bool(figure.operations) and not step.problem
        doing = f"{figure.operations[step.number]}: " if happens else ""
        yield Frame(wide, f"{doing}{step.said}", step.event, narrow)
