"""One notation for the state of pools, tables and managers, to print and to read.

    free [5 4 | 3* 2*]  r0: 1* 6(2)  r1: 6(2) 7

Behind ``free`` stands the free queue, the block that is handed out next in front. A star marks a
block that holds a cached prefix. The bar stands before the cached blocks at the queue's end: what
is in front of it is reused at once, what is behind it is lost in this order. Behind a name stands a
block table. A number in brackets says how many hold a block, if it is more than one.

    AAAAA...CCCC....

Contiguous memory is a strip: a sign for each slot, the letter of the block that it belongs to or a
dot if it is free.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from string import ascii_uppercase
from typing import Protocol

from course_lib.kv_cache.allocators import Allocator, Span
from course_lib.kv_cache.block_pool import BlockPool, FreeBlockQueue, KVCacheBlock
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.kv_cache.watch.recorder import Frame, snapshot_blocks


@dataclass(frozen=True, slots=True)
class BlockMark:
    """A block as it is written down.

    Attributes:
        block_id: Which block.
        is_cached: Whether it holds a cached prefix.
        num_holders: How many hold it, if it is more than one; otherwise 1.

    >>> str(BlockMark(3, is_cached=True, num_holders=2))
    '3*(2)'
    """

    block_id: int
    is_cached: bool = False
    num_holders: int = 1

    def __str__(self) -> str:
        star = "*" if self.is_cached else ""
        holders = f"({self.num_holders})" if self.num_holders > 1 else ""
        return f"{self.block_id}{star}{holders}"


@dataclass(frozen=True, slots=True)
class StateLine:
    """The state of a pool and of the tables that point into it.

    Attributes:
        free: The free queue, front first; None if nothing is said of it.
        tables: The block table of each request, by its name.

    >>> pool = BlockPool(num_blocks=7)
    >>> held = pool.get_new_blocks(4)
    >>> pool.cache_full_blocks(held[:3], [b"a", b"b", b"c"])
    >>> pool.free_blocks(held[2:0:-1])
    >>> line = StateLine.of(pool, {"r0": [held[0], held[3]]})
    >>> print(line)
    free [5 6 | 3* 2*]  r0: 1* 4
    >>> StateLine.parse("free [5 6 3* 2*] r0: 1* 4") == line
    True
    """

    free: tuple[BlockMark, ...] | None = None
    tables: Mapping[str, tuple[BlockMark, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        subject: BlockPool | KVCacheManager,
        tables: Mapping[str, Iterable[KVCacheBlock | int]] | None = None,
    ) -> StateLine:
        """Write down the state of a pool or a manager.

        Args:
            subject: The pool or manager.
            tables: Who holds which blocks of a pool, as blocks or ids. A manager knows it itself.
                What a pool has lent to nobody named here is listed as "held".
        """
        frame = snapshot_blocks(subject)
        if tables is not None:
            named = {name: [_id_of(block) for block in table] for name, table in tables.items()}
            frame["tables"] = named
        return cls.of_frame(frame)

    @classmethod
    def of_frame(cls, frame: Frame) -> StateLine:
        """Write down a frame of a ``Recorder``, or what ``snapshot_blocks`` returns."""
        marks = {
            block["block_id"]: BlockMark(
                block["block_id"], block["hash"] is not None, max(block["ref_cnt"], 1)
            )
            for block in frame["blocks"]
        }
        tables: dict[str, Sequence[int]] = dict(frame["tables"])
        named = {block_id for table in tables.values() for block_id in table}
        held = [
            block["block_id"]
            for block in frame["blocks"]
            if block["ref_cnt"] > 0 and block["block_id"] not in named
        ]
        if held:
            tables["held"] = held
        return cls(
            tuple(marks[block_id] for block_id in frame["free_queue"]),
            {name: tuple(marks[block_id] for block_id in table) for name, table in tables.items()},
        )

    @classmethod
    def of_tables(cls, tables: Mapping[str, Iterable[int]]) -> StateLine:
        """Write down block tables alone, such as ``BlockTable`` objects by name.

        >>> print(StateLine.of_tables({"r0": [7, 3, 5], "r1": [2, 9]}))
        r0: 7 3 5  r1: 2 9
        """
        return cls(
            None, {name: tuple(BlockMark(i) for i in table) for name, table in tables.items()}
        )

    @classmethod
    def parse(cls, text: str) -> StateLine:
        """Read a line. Spaces do not matter, nor does the bar, which follows from the stars.

        Raises:
            ValueError: The text is no such line.

        >>> StateLine.parse("free [] r0: 1 2*(3)").tables["r0"][1]
        BlockMark(block_id=2, is_cached=True, num_holders=3)
        """
        rest = text.strip()
        free: tuple[BlockMark, ...] | None = None
        if queue := re.match(r"free\s*\[([^\]]*)\]", rest):
            free = _read_marks(queue[1].replace("|", " "))
            rest = rest[queue.end() :]
        # What stands between the names: "" before the first, then name, table, name, table, ...
        start, *named = re.split(r"([^\s:\[\]]+)\s*:", rest)
        if start.strip():
            raise ValueError(
                f"{start.strip()!r} is no state; write for example free [5 4 | 3* 2*]  r0: 1 6(2)"
            )
        names = named[0::2]
        if len(set(names)) < len(names):
            raise ValueError(f"a name stands twice in {', '.join(names)}; each has one table")
        return cls(free, dict(zip(names, map(_read_marks, named[1::2]), strict=True)))

    def __str__(self) -> str:
        parts = [] if self.free is None else [f"free [{_queue(self.free)}]"]
        parts += [
            f"{name}: {' '.join(map(str, table))}".rstrip() for name, table in self.tables.items()
        ]
        return "  ".join(parts)


def state_line(subject: BlockPool | KVCacheManager) -> str:
    """Return the state of a pool or a manager in one line of the notation.

    >>> pool = BlockPool(num_blocks=5)
    >>> pool.touch(pool.get_new_blocks(1))
    >>> state_line(pool)
    'free [2 3 4]  held: 1(2)'
    """
    return str(StateLine.of(subject))


def queue_line(queue: FreeBlockQueue, blocks: Iterable[KVCacheBlock] = ()) -> str:
    """Return a free queue in one line, with what is wrong of its length or its links, if anything.

    A queue that runs in circles is cut one block behind the length that it claims. Of a queue with
    a sentinel, all neighbours are to be linked both ways.

    Args:
        queue: The queue.
        blocks: Blocks of which those that are not in the queue are to have no links.

    >>> from course_lib.kv_cache.block_pool import FreeKVCacheBlockQueue
    >>> blocks = [KVCacheBlock(block_id) for block_id in range(3)]
    >>> queue = FreeKVCacheBlockQueue(blocks[1:])
    >>> queue_line(queue, blocks)
    'free [1 2]'
    >>> queue.num_free_blocks = 3
    >>> queue_line(queue)
    'free [1 2], and its length says 3'
    >>> queue.num_free_blocks = 2
    >>> blocks[2].prev_free_block, blocks[0].next_free_block = None, blocks[1]
    >>> queue_line(queue, blocks)
    'free [1 2], but 1 and 2 are not linked both ways and 0 is outside and has a link'
    """
    claimed = len(queue)
    listed = list(islice(queue, max(claimed, 0) + 1))
    line = f"free [{' '.join(str(block.block_id) for block in listed)}]"
    if len(listed) != claimed:
        return f"{line}, and its length says {claimed}"
    faults = []
    sentinel: KVCacheBlock | None = getattr(queue, "sentinel", None)
    if sentinel is not None:
        names = ["the sentinel", *(str(block.block_id) for block in listed), "the sentinel"]
        ring = [sentinel, *listed, sentinel]
        faults += [
            f"{names[place]} and {names[place + 1]} are not linked both ways"
            for place, (one, other) in enumerate(pairwise(ring))
            if one.next_free_block is not other or other.prev_free_block is not one
        ]
    faults += [
        f"{block.block_id} is outside and has a link"
        for block in blocks
        if block not in listed and (block.prev_free_block or block.next_free_block)
    ]
    return f"{line}, but {' and '.join(faults)}" if faults else line


class HasBlocks(Protocol):
    """What a strip of slots is written from: an allocator, or a record of one."""

    @property
    def num_slots(self) -> int:
        """Slots in all."""

    def blocks(self) -> list[Span]:
        """Return the allocated blocks."""


def strip_text(allocator: HasBlocks, name_at: Mapping[int, str]) -> str:
    """Return the slots of an allocator as text: a letter where a block is, a dot where none is.

    Args:
        allocator: The allocator.
        name_at: The letter of each allocated block, by its offset.

    Raises:
        ValueError: A block has no letter, or a name is not one character.

    >>> from course_lib.kv_cache.allocators import FirstFitAllocator
    >>> allocator = FirstFitAllocator(8)
    >>> strip_text(allocator, {allocator.allocate(3): "A", allocator.allocate(2): "B"})
    'AAABB...'
    """
    slots = ["."] * allocator.num_slots
    for offset, size in allocator.blocks():
        letter = name_at.get(offset, "")
        if len(letter) != 1:
            raise ValueError(
                f"the block at slot {offset} is called {letter!r}; give each block one letter"
            )
        slots[offset : offset + size] = letter * size
    return "".join(slots)


def strip_by_offset(allocator: HasBlocks) -> str:
    """Return the strip of an allocator in which the letter of a block tells where it starts.

    A stands for slot 0, B for slot 1 and so on; behind Z it begins again with A.

    >>> from course_lib.kv_cache.allocators import FirstFitAllocator
    >>> allocator = FirstFitAllocator(8)
    >>> allocator.allocate(3), allocator.allocate(2)
    (0, 3)
    >>> strip_by_offset(allocator)
    'AAADD...'
    """
    letters = {span.offset: ascii_uppercase[span.offset % 26] for span in allocator.blocks()}
    return strip_text(allocator, letters)


_WIDEST_STRIP = 100
"""Slots of the largest memory that is shown slot by slot."""


def memory_line(allocator: Allocator) -> str:
    """Return ``strip_by_offset``, or, of a memory that is too large for a line, its spans in words.

    >>> from course_lib.kv_cache.allocators import FirstFitAllocator
    >>> memory_line(FirstFitAllocator(8))
    '........'
    >>> large = FirstFitAllocator(1000)
    >>> large.allocate(7), memory_line(large)
    (0, 'blocks: 7 at 0; free: 993 at 7')
    """
    if allocator.num_slots <= _WIDEST_STRIP:
        return strip_by_offset(allocator)
    blocks, free = (
        ", ".join(f"{span.size} at {span.offset}" for span in spans) or "none"
        for spans in (allocator.blocks(), allocator.holes())
    )
    return f"blocks: {blocks}; free: {free}"


def _queue(free: Sequence[BlockMark]) -> str:
    """Write a free queue, with the bar before the cached blocks at its end."""
    num_front = len(free)
    while num_front and free[num_front - 1].is_cached:
        num_front -= 1
    front, back = (" ".join(map(str, part)) for part in (free[:num_front], free[num_front:]))
    return f"{front} | {back}" if front and back else front + back


def _read_marks(text: str) -> tuple[BlockMark, ...]:
    """Read blocks that stand one behind the other."""
    marks = []
    for word in text.split():
        mark = re.fullmatch(r"(\d+)(\*?)(?:\((\d+)\))?", word)
        if mark is None:
            raise ValueError(f"{word!r} is no block; write its id, as in 3, 3* or 3*(2)")
        marks.append(BlockMark(int(mark[1]), bool(mark[2]), int(mark[3] or 1)))
    return tuple(marks)


def _id_of(block: KVCacheBlock | int) -> int:
    """Return a block's id."""
    return block if isinstance(block, int) else block.block_id
