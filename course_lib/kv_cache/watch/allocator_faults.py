"""What is wrong with a step of a buddy allocator, whichever of its free blocks it takes.

Several free blocks may be of the right size, and a buddy allocator may take any of them. So two
right ones differ in their offsets, and a step is judged by what was free before it.
"""

from __future__ import annotations

from typing import Any

from course_lib.kv_cache.allocators import Allocator, Span


def buddy_violations(allocator: Allocator) -> list[str]:
    """Return one sentence for each law of a buddy allocator that its memory breaks.

    Free and allocated blocks cover the slots without overlap; each has a power of two of slots and
    starts at a multiple of its size; no two buddies are both free.

    Args:
        allocator: The allocator.

    >>> from course_lib.kv_cache.allocators import BuddyAllocator, FirstFitAllocator
    >>> buddies = BuddyAllocator(12)
    >>> buddies.allocate(3), buddy_violations(buddies)
    (8, [])
    >>> buddy_violations(FirstFitAllocator(12))
    ['the block of 12 slots at 0: 12 is no power of two']
    """
    free, blocks = _spans(allocator.holes()), _spans(allocator.blocks())
    found, end = [], 0
    for span in sorted(free + blocks):
        if span.offset != end:
            found.append(f"slot {min(span.offset, end)} is in two blocks, or in none")
        end = span.end
        if span.size < 1 or span.size & (span.size - 1):
            found.append(
                f"the block of {_slots(span.size)} at {span.offset}: {span.size} is no power of two"
            )
        elif span.offset % span.size:
            found.append(
                f"the block of {_slots(span.size)} at {span.offset} does not start at a multiple "
                "of its size"
            )
    if end != allocator.num_slots:
        found.append(f"the blocks end at slot {end}, not at {allocator.num_slots}")
    for span in free:
        buddy = Span(span.offset ^ span.size, span.size)
        if span.offset < buddy.offset and buddy in free:
            found.append(
                f"{_slots(span.size)} at {span.offset} and at {buddy.offset} are free buddies"
            )
    return found


def allocation_faults(allocator: Allocator, size: int) -> list[str] | None:
    """Call ``allocate`` of a buddy allocator, and return one sentence for each rule it broke.

    Args:
        allocator: The allocator.
        size: Slots wanted, at least 1.

    Returns:
        The sentences, or None if the allocator says nothing of its free blocks yet.

    Raises:
        ValueError: ``size`` is less than 1.

    >>> from course_lib.kv_cache.allocators import BuddyAllocator
    >>> allocation_faults(BuddyAllocator(16), 3)
    []
    """
    if size < 1:
        raise ValueError(f"size is {size}; ask for at least 1 slot")
    if _is_silent(allocator):
        return None
    free = _spans(allocator.holes())
    piece = 1 << (size - 1).bit_length()
    fitting = [span for span in free if span.size >= piece]
    try:
        offset = allocator.allocate(size)
    except ValueError:
        return [
            f"allocate({size}) raises ValueError; it returns None where no block is large enough"
        ]
    now = _spans(allocator.holes())
    if offset is None:
        found = []
        if fitting:
            found.append(f"it refuses {_slots(size)}, though {_said(fitting)} free")
        if now != free:
            found.append(f"it refuses, and yet the free blocks change: {_listed(now)}")
    elif not _is_whole(offset):
        found = [f"it returns {offset!r}, which is no whole number"]
    elif not fitting:
        found = [f"it returns {offset!r}, but no free block has {_slots(piece)}: {_listed(free)}"]
    else:
        found = _faults_of_a_piece(allocator, offset, piece, free)
    return found + buddy_violations(allocator)


def release_faults(allocator: Allocator, place: int) -> list[str] | None:
    """Call ``free`` for an allocated block, and return one sentence for each rule it broke.

    Args:
        allocator: The allocator.
        place: Which block, counted from the lowest offset; beyond the last it begins again. Nothing
            happens where nothing is allocated.

    Returns:
        The sentences, or None if the allocator says nothing of its blocks yet.

    >>> from course_lib.kv_cache.allocators import BuddyAllocator
    >>> allocator = BuddyAllocator(16)
    >>> allocator.allocate(3), release_faults(allocator, 0), allocator.holes()
    (0, [], [Span(offset=0, size=16)])
    """
    if _is_silent(allocator):
        return None
    blocks = sorted(_spans(allocator.blocks()))
    if not blocks:
        return []
    block = blocks[place % len(blocks)]
    right = _merged(_spans(allocator.holes()), block)
    returned: object = _release(allocator, block.offset)
    now = _spans(allocator.holes())
    found = []
    if returned is not None:
        found.append(f"free({block.offset}) returns {returned!r}; by its signature it returns None")
    if now != right:
        found.append(f"free({block.offset}) leaves free {_listed(now)}, not {_listed(right)}")
    return found + buddy_violations(allocator)


def refusal_faults(allocator: Allocator, place: int) -> list[str] | None:
    """Call ``free`` where no block starts, and return one sentence for each rule it broke.

    Args:
        allocator: The allocator.
        place: Which of the slots, from −1 to one behind the memory, at which no block starts.

    Returns:
        The sentences, or None if the allocator says nothing of its blocks yet.

    >>> from course_lib.kv_cache.allocators import BuddyAllocator
    >>> refusal_faults(BuddyAllocator(16), 4)
    []
    """
    if _is_silent(allocator):
        return None
    starts = {span.offset for span in _spans(allocator.blocks())}
    others = [slot for slot in range(-1, allocator.num_slots + 1) if slot not in starts]
    slot = others[place % len(others)]
    before = _state(allocator)
    wanted = f"no allocated block starts at {slot}, so free({slot}) raises ValueError"
    found = [f"{wanted}; it raises nothing"]
    try:
        allocator.free(slot)
    except ValueError:
        found = []
    except LookupError as error:
        # What a list, a dict or a set says of what is not in it.
        found = [f"{wanted}; it raises {type(error).__name__}"]
    if _state(allocator) != before:
        found.append(f"free({slot}) changes the memory")
    return found


def leave_holes(allocator: Allocator, num_holes: int) -> None:
    """Allocate blocks of one slot each, twice as many as wanted holes, and free every other one.

    No two of the holes are neighbours, nor buddies.

    Args:
        allocator: The allocator, with at least ``2 * num_holes`` free slots.
        num_holes: How many blocks are freed.

    >>> from course_lib.kv_cache.allocators import BuddyAllocator
    >>> allocator = BuddyAllocator(8)
    >>> leave_holes(allocator, 4)
    >>> len(allocator.holes()), len(allocator.blocks())
    (4, 4)
    """
    offsets = sorted(allocator.allocate(1) or 0 for _ in range(2 * num_holes))
    for offset in offsets[::2]:
        allocator.free(offset)


def leave_shrinking_holes(allocator: Allocator, num_holes: int) -> None:
    """Leave holes of all sizes up to a number of them, the largest first, a slot apart.

    Args:
        allocator: The allocator, with nothing allocated.
        num_holes: How many holes are left between blocks; the first has so many slots.

    >>> from course_lib.kv_cache.allocators import FirstFitAllocator
    >>> allocator = FirstFitAllocator(9)
    >>> leave_shrinking_holes(allocator, 3)
    >>> [hole.size for hole in allocator.holes()]
    [3, 2, 1]
    """
    offsets = []
    for size in range(num_holes, 0, -1):
        offsets.append(allocator.allocate(size))
        allocator.allocate(1)
    for offset in offsets:
        if offset is not None:
            allocator.free(offset)


def holes_beside_another(allocator: Allocator) -> list[tuple[int, int]]:
    """Use a second allocator of the same class, and return the holes of the first.

    Args:
        allocator: The first one, whose holes stay as they are.

    Returns:
        Offset and size of each hole.

    >>> from course_lib.kv_cache.allocators import FirstFitAllocator
    >>> holes_beside_another(FirstFitAllocator(8))
    [(0, 8)]
    """
    make: Any = type(allocator)
    other: Allocator = make(allocator.num_slots)
    offset = other.allocate(1)
    if offset is not None:
        other.free(offset)
    return [(offset, size) for offset, size in allocator.holes()]


def sharing_faults(allocator: Allocator, size: int) -> list[str] | None:
    """Use a second allocator of the same class; return a sentence if the two share what they know.

    Args:
        allocator: The first one; nothing that is done to another may change it.
        size: Slots that the second one is asked for, at least 1; what it returns is freed again.

    Returns:
        The sentence, or None if the allocator says nothing of its free blocks yet.

    >>> from course_lib.kv_cache.allocators import BuddyAllocator
    >>> sharing_faults(BuddyAllocator(8), 3)
    []
    """
    if _is_silent(allocator):
        return None
    before = _state(allocator)
    make: Any = type(allocator)
    other: Allocator = make(allocator.num_slots + 1)
    if _state(allocator) != before:
        return ["to make a second object changes the first"]
    if taken := _spans(other.blocks()):
        return [f"a second object has allocated blocks before it was asked: {_listed(taken)}"]
    offset = other.allocate(size)
    if _state(allocator) != before:
        return [f"allocate({size}) of a second object changes the first"]
    if offset is not None:
        other.free(offset)
    if _state(allocator) != before:
        return [f"free({offset}) of a second object changes the first"]
    return []


def _is_silent(allocator: Any) -> bool:
    """Say whether an allocator's methods do nothing yet."""
    return allocator.holes() is None and allocator.blocks() is None


def _release(allocator: Any, offset: int) -> object:
    """Give a block back; return what comes of it, which should be None."""
    return allocator.free(offset)


def _faults_of_a_piece(
    allocator: Allocator, offset: int, piece: int, free: list[Span]
) -> list[str]:
    """Return what is wrong with a block that came, by what was free before."""
    smallest = min(span.size for span in free if span.size >= piece)
    source = next((span for span in free if span.offset <= offset < span.end), None)
    if source is None:
        return [f"it returns {offset!r}, which is in no free block: {_listed(free)}"]
    found = []
    if source.size != smallest:
        found.append(
            f"it cuts the block from {_slots(source.size)} at {source.offset}; a free block of "
            f"{smallest} is large enough"
        )
    came = allocator.block_size(offset)
    if came != piece:
        found.append(f"the block at {offset} has {_slots(came)}, not {piece}")
    right = sorted([*(span for span in free if span != source), *_halves(source, offset, piece)])
    now = _spans(allocator.holes())
    if not found and now != right:
        found.append(f"what it leaves free is {_listed(now)}; it should be {_listed(right)}")
    return found


def _is_whole(value: object) -> bool:
    """Say whether a value can be the number of a slot."""
    return hasattr(value, "__index__")


def _halves(source: Span, offset: int, piece: int) -> list[Span]:
    """Return what stays free when a block is halved down to the piece at an offset."""
    halves = []
    while source.size > piece:
        half = source.size // 2
        lower, upper = Span(source.offset, half), Span(source.offset + half, half)
        kept, other = (lower, upper) if offset < upper.offset else (upper, lower)
        halves.append(other)
        source = kept
    return halves


def _merged(free: list[Span], block: Span) -> list[Span]:
    """Return the free blocks once this one is free as well."""
    left = set(free)
    while (buddy := Span(block.offset ^ block.size, block.size)) in left:
        left.remove(buddy)
        block = Span(min(block.offset, buddy.offset), 2 * block.size)
    return sorted([*left, block])


def _state(allocator: Allocator) -> tuple[int, list[Span], list[Span]]:
    """Return what an allocator says of itself: its slots, its free blocks and the others."""
    return allocator.num_slots, _spans(allocator.holes()), _spans(allocator.blocks())


def _spans(listed: list[Span]) -> list[Span]:
    return [Span(*each) for each in listed]


def _said(spans: list[Span]) -> str:
    """Return the smallest of some blocks, in words."""
    size, offset = min((span.size, span.offset) for span in spans)
    return f"{_slots(size)} at {offset} {'is' if size == 1 else 'are'}"


def _slots(size: int) -> str:
    """Return a number of slots in words.

    >>> _slots(1), _slots(4)
    ('1 slot', '4 slots')
    """
    return f"{size} slot{'' if size == 1 else 's'}"


def _listed(spans: list[Span]) -> str:
    return ", ".join(f"{span.size} at {span.offset}" for span in spans) or "nothing"
