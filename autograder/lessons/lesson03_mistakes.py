"""Lesson 3: the wrong answers that people are known to give, about tables, slots and memory."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from autograder.checks.finding import Misconception
from autograder.lessons import lesson03_given as given
from course_lib.kv_cache.block_table import (
    BlockTable,
    CacheLayout,
    PositionError,
    row_major_strides,
)
from course_lib.kv_cache.watch.hand_traces import BLOCK_SIZE, table_trace
from course_lib.kv_cache.watch.notation import StateLine

if TYPE_CHECKING:
    from torch import Tensor

# 3.1


def _line(free: Sequence[int], tables: Any, between: str = "  ", inside: str = " ") -> str:
    parts = [f"free [{inside.join(map(str, free))}]"]
    parts += [f"{name}: {inside.join(map(str, ids))}".rstrip() for name, ids in tables.items()]
    return between.join(parts)


def commas(free: Sequence[int], tables: Any) -> str:
    """Print the lists as Python does."""
    return _line(free, tables, inside=", ")


def one_space(free: Sequence[int], tables: Any) -> str:
    """Put one space between the parts."""
    return _line(free, tables, between=" ")


def space_at_the_end(free: Sequence[int], tables: Any) -> str:
    """Leave the space behind the colon where a table is empty."""
    named = [f"{name}: {' '.join(map(str, ids))}" for name, ids in tables.items()]
    return "  ".join([_line(free, {}), *named])


def sorted_ids(free: Sequence[int], tables: Any) -> str:
    """Sort the ids of each part."""
    return _line(sorted(free), {name: sorted(ids) for name, ids in tables.items()})


STATE_LINE = (
    Misconception(
        "commas",
        "The ids stand with a space between them and no comma, so that a star or a bracket has "
        "room behind each.",
        commas,
    ),
    Misconception("one space", "Two spaces stand between the parts of the line.", one_space),
    Misconception(
        "a space at the end",
        "Behind the colon of an empty table nothing follows, not even the space.",
        space_at_the_end,
    ),
    Misconception(
        "sorted",
        "The order is what the line is there to say: which block is taken next, and which logical "
        "block each one is.",
        sorted_ids,
    ),
)


def _by_hand(find: Callable[[list[int], int], int]) -> Callable[[int], dict[str, Any]]:
    """Work a trace out with another way to find a slot."""

    def answer(seed: int) -> dict[str, Any]:
        trace = table_trace(seed)
        tables = StateLine.parse(trace.start).tables
        states = given.states_of(trace)
        for name, step in zip(given.LOOKED_UP, trace.steps, strict=False):
            words = step.operation.split()
            ids = [mark.block_id for mark in tables[words[-1]]]
            states[name] = find(ids, int(words[3]))
        return states

    return answer


def _too_early(seed: int) -> dict[str, Any]:
    """Take a block as soon as the last one is full."""
    states = given.states_of(table_trace(seed))
    full, beyond = given.GROWN
    return {**states, full: states[beyond]}


BY_HAND = (
    Misconception(
        "one piece",
        "Only the first block is where the table begins; look the others up, each by itself.",
        _by_hand(lambda ids, p: ids[0] * BLOCK_SIZE + p),
    ),
    Misconception(
        "the block for the slot",
        "A block has 4 slots: multiply by 4, then add the place in the block.",
        _by_hand(lambda ids, p: ids[p // BLOCK_SIZE]),
    ),
    Misconception(
        "the position for the slot",
        "The position is a place in the sequence. Where its block lies, the table says.",
        _by_hand(lambda ids, p: p),
    ),
    Misconception(
        "counted from 1",
        "Positions, blocks and slots count from 0: the first slot of block 3 is 12, not 13.",
        _by_hand(lambda ids, p: ids[p // BLOCK_SIZE] * BLOCK_SIZE + p % BLOCK_SIZE + 1),
    ),
    Misconception(
        "a block too early",
        "Three blocks hold 12 tokens. The fourth is needed for the token after them.",
        _too_early,
    ),
)

# 3.2


def _slot(
    find: Callable[[Any, int, int], int],
    covers: Callable[[BlockTable, int], bool] = lambda table, p: 0 <= p < table.num_slots,
) -> Callable[[BlockTable, int], int]:
    """Make an answer from how the slot of a position that is covered is found."""

    def slot(self: BlockTable, position: int) -> int:
        if not covers(self, position):
            raise PositionError(position)
        return find(self.ids, position, self.block_size)

    return slot


def _glued(ids: Any, position: int, size: int) -> int:
    block: int = ids[position // size]
    return block * size + position % size


SLOT = (
    Misconception(
        "one piece",
        "The first block is asked for all positions. Blocks of a sequence need not be neighbours: "
        "each position has to go through its own entry.",
        _slot(lambda ids, p, size: ids[0] * size + p),
        evidence=r"(ids|block_ids|self)\[0\]",
    ),
    Misconception(
        "block and offset swapped",
        "The quotient is the logical block, which is looked up; the remainder is added.",
        _slot(lambda ids, p, size: ids[p % size] * size + p // size),
    ),
    Misconception(
        "the logical block",
        "The logical block is only the place in the table; what stands there is the block.",
        _slot(lambda ids, p, size: p),
    ),
    Misconception(
        "the offset is missing",
        "That is where the block begins. The token is `position % block_size` slots behind it.",
        _slot(lambda ids, p, size: ids[p // size] * size),
    ),
    Misconception(
        "the block and the offset added",
        "A block has block_size slots, so block 9 begins at slot 9 x block_size.",
        _slot(lambda ids, p, size: ids[p // size] + p % size),
    ),
    Misconception(
        "-1 is answered",
        "Python counts a negative index from the end of the list, so position -1 gets the last "
        "slot, and a wrong position writes where a token is.",
        _slot(_glued, lambda table, p: True),
    ),
    Misconception(
        "the list's own IndexError",
        "Behind the last block the list raises an IndexError, which says nothing of positions. A "
        "PositionError is asked for; `num_slots` itself is the first position without a slot.",
        _slot(_glued, lambda table, p: p >= 0),
    ),
)


def _checked(ids: Iterable[int]) -> array[int]:
    new = array("q", list(ids))
    if any(block_id < 0 for block_id in new):
        raise ValueError(ids)
    return new


def half_added(self: BlockTable, block_ids: Iterable[int]) -> None:
    """Check each id when its turn comes."""
    for block_id in block_ids:
        if block_id < 0:
            raise ValueError(block_id)
        self.ids.append(block_id)


def half_added_if_not_whole(self: BlockTable, block_ids: Iterable[int]) -> None:
    """Check that none is negative, and leave the rest to the array."""
    ids = list(block_ids)
    if any(isinstance(block_id, (int, float)) and block_id < 0 for block_id in ids):
        raise ValueError(ids)
    self.ids.extend(ids)


def replaced(self: BlockTable, block_ids: Iterable[int]) -> None:
    """Put the new ids in the place of the old ones."""
    self.ids = _checked(block_ids)


def negative_accepted(self: BlockTable, block_ids: Iterable[int]) -> None:
    """Add all that is whole."""
    self.ids.extend(array("q", list(block_ids)))


def in_front(self: BlockTable, block_ids: Iterable[int]) -> None:
    """Put the new ids before the old ones."""
    self.ids = _checked(block_ids) + self.ids


def null_refused(self: BlockTable, block_ids: Iterable[int]) -> None:
    """Refuse block 0 as well."""
    new = _checked(block_ids)
    if 0 in new:
        raise ValueError(new)
    self.ids.extend(new)


APPEND = (
    Misconception(
        "half added",
        "After an error the ids before the bad one are in the table. The caller takes it that "
        "nothing was added, frees those blocks, and this sequence goes on writing to them.",
        half_added,
    ),
    Misconception(
        "half added, if one is not whole",
        "The negative ones are found before anything is added; what is not a whole number is found "
        "on the way.",
        half_added_if_not_whole,
    ),
    Misconception(
        "replaced", "The blocks that the sequence has must stay; add the new ones.", replaced
    ),
    Misconception(
        "negative ids are accepted",
        "A block -1 would be slots below the cache. Refuse it where it comes in: later nobody can "
        "say whose it was.",
        negative_accepted,
    ),
    Misconception(
        "in front", "The sequence fills its blocks in order, so new ones stand at the end.", in_front
    ),
    Misconception(
        "block 0 is refused",
        "Ids count from 0. That nobody is given the null block is the pool's rule; a table does "
        "not know of it.",
        null_refused,
    ),
)

# 3.4


def _written(
    mask: bool = True,
    swapped: bool = False,
    first: bool = False,
    twice_the_key: bool = False,
    on_a_copy: bool = False,
) -> Callable[..., None]:
    """Make an answer that is wrong in some of these ways."""

    def reshape_and_cache(
        key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slot_mapping: Tensor
    ) -> None:
        block_size = key_cache.shape[1]
        real = slot_mapping >= (0 if mask else -1)
        slots = slot_mapping[real]
        blocks, offsets = slots // block_size, slots % block_size
        if swapped:
            blocks, offsets = offsets, blocks
        tokens = slice(len(slots)) if first else real
        if on_a_copy:
            key_cache.reshape(-1, *key.shape[1:])[slots] = key[tokens]
            value_cache.reshape(-1, *key.shape[1:])[slots] = value[tokens]
            return
        key_cache[blocks, offsets] = key[tokens]
        value_cache[blocks, offsets] = (key if twice_the_key else value)[tokens]

    return reshape_and_cache


RESHAPE = (
    Misconception(
        "padding is written",
        "In Python -1 // 4 is -1 and -1 % 4 is 3: padding lands in the last slot of the cache, on "
        "somebody's token.",
        _written(mask=False),
    ),
    Misconception(
        "block and offset swapped",
        "The first index of the cache is the block, the second the offset in it.",
        _written(swapped=True),
    ),
    Misconception(
        "the first tokens",
        "Padding may stand anywhere among the tokens: take the tokens at the places of the slots "
        "that you kept.",
        _written(first=True),
    ),
    Misconception(
        "the key for the value", "The cache of the values gets the values.", _written(twice_the_key=True)
    ),
    Misconception(
        "written to a copy",
        "Where the axes lie in another order in memory, reshape cannot give a view: it copies, and "
        "the cache itself stays as it was.",
        _written(on_a_copy=True),
        evidence=r"reshape|flatten|contiguous",
    ),
)


def not_cut(cache: Tensor, block_table: Tensor, context_len: int) -> Tensor:
    """Return whole blocks."""
    return cache[block_table[: -(-context_len // cache.shape[1])]].flatten(0, 1)


def logical(cache: Tensor, block_table: Tensor, context_len: int) -> Tensor:
    """Return the first slots of the cache."""
    return cache.flatten(0, 1)[:context_len].clone()


def block_short(cache: Tensor, block_table: Tensor, context_len: int) -> Tensor:
    """Return full blocks alone."""
    return cache[block_table[: context_len // cache.shape[1]]].flatten(0, 1)[:context_len]


def behind_the_end(cache: Tensor, block_table: Tensor, context_len: int) -> Tensor:
    """Return the last slots of all entries."""
    return cache[block_table].flatten(0, 1)[-context_len:]


GATHER = (
    Misconception(
        "not cut",
        "The last block is filled in part; what is behind the context is somebody's leftover.",
        not_cut,
    ),
    Misconception(
        "the logical block", "Ask the table which block it is; neighbours need not be.", logical
    ),
    Misconception(
        "a block short",
        "Rounding down loses the block that is filled in part.",
        block_short,
        evidence=r"context_len // ",
    ),
    Misconception("from the end", "The sequence begins with the first block.", behind_the_end),
)

# 3.5


def column_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Let the first axis have stride 1."""
    return row_major_strides(shape[::-1])[::-1]


def own_size_too(shape: Sequence[int]) -> tuple[int, ...]:
    """Count the size of the axis itself."""
    return tuple(s * n for s, n in zip(row_major_strides(shape), shape, strict=True))


def sizes_before(shape: Sequence[int]) -> tuple[int, ...]:
    """Divide the sizes of the axes from the wrong end: the products of what stands before."""
    strides, product = [], 1
    row_major_strides(shape)
    for size in shape:
        product *= size
        strides.append(product)
    return tuple(strides)


def unchecked_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Take any size."""
    strides, product = [1] * len(shape), 1
    for axis in reversed(range(len(shape))):
        strides[axis] = product
        product *= shape[axis]
    return tuple(strides)


STRIDES = (
    Misconception(
        "column-major",
        "In a row-major array the last axis has stride 1, not the first.",
        column_major,
    ),
    Misconception(
        "its own size too",
        "A step along an axis passes over what is behind the axis, not over the axis itself.",
        own_size_too,
    ),
    Misconception(
        "the sizes before",
        "A step along an axis passes over what varies faster: the sizes behind it.",
        sizes_before,
    ),
    Misconception(
        "any size is taken",
        "With a size of 0 there is no element to be far from; that is a ValueError.",
        unchecked_strides,
    ),
)


def _addressed(
    change: Callable[[dict[str, int], CacheLayout], dict[str, int]] = lambda places, layout: places,
    axes: tuple[str, ...] | None = None,
    in_bytes: bool = True,
    is_checked: bool = True,
) -> Callable[..., int]:
    """Make an answer from the places on the axes, and from how they are summed up."""

    def address(self: CacheLayout, kv: int, slot: int, head: int, dim: int) -> int:
        sizes = dict(zip(self.axes, self.shape, strict=True))
        block, token = divmod(slot, sizes["token"])
        chunk, lane = divmod(dim, sizes.get("lane", 1))
        places = {"kv": kv, "block": block, "token": token, "head": head}
        places |= {"dim": dim, "chunk": chunk, "lane": lane}
        if is_checked and any(not 0 <= places[axis] < size for axis, size in sizes.items()):
            raise ValueError(places)
        layout = self
        if axes is not None:
            sizes["dim"] = sizes.get("dim", 1) * sizes.get("chunk", 1) * sizes.get("lane", 1)
            layout = replace(self, axes=axes, shape=tuple(sizes[axis] for axis in axes))
        places = change(places, self)
        pairs = zip(layout.axes, layout.strides, strict=True)
        elements = sum(places[axis] * stride for axis, stride in pairs)
        return elements * (self.dtype_bytes if in_bytes else 1)

    return address


_NHD = ("kv", "block", "token", "head", "dim")


def _chunk_and_lane_swapped(places: dict[str, int], layout: CacheLayout) -> dict[str, int]:
    lanes = dict(zip(layout.axes, layout.shape, strict=True)).get("lane", 1)
    return {**places, "chunk": places["dim"] % lanes, "lane": places["dim"] // lanes}


def _slot_as_token(places: dict[str, int], layout: CacheLayout) -> dict[str, int]:
    size = dict(zip(layout.axes, layout.shape, strict=True))["token"]
    return {**places, "block": 0, "token": places["block"] * size + places["token"]}


ADDRESS = (
    Misconception(
        "elements, not bytes",
        "Strides count elements; each takes dtype_bytes.",
        _addressed(in_bytes=False),
    ),
    Misconception(
        "always NHD",
        "The order of the axes is the layout's own: go through self.axes, whatever they are.",
        _addressed(axes=_NHD),
    ),
    Misconception(
        "chunk and lane swapped",
        "dim = chunk x lanes + lane: the quotient is the chunk, the remainder the lane.",
        _addressed(_chunk_and_lane_swapped),
    ),
    Misconception(
        "the slot is not split",
        "Where a head stands between block and token, the tokens of two blocks are no neighbours: "
        "split the slot into block and offset.",
        _addressed(_slot_as_token),
    ),
    Misconception(
        "always the key",
        "The values lie behind all keys of the layer: kv is an axis like the others.",
        _addressed(lambda places, layout: {**places, "kv": 0}),
    ),
    Misconception(
        "nothing is refused",
        "Head 8 of 8 is a byte of the cache, too: of another token. A wrong place must not pass "
        "for one that is right.",
        _addressed(is_checked=False),
    ),
)

# 3.7


def _full_again(rest: int) -> Callable[[int, int, int], int]:
    def blocks_to_add(num_tokens: int, num_blocks: int, block_size: int) -> int:
        return int(num_tokens % block_size == rest % block_size)

    return blocks_to_add


BLOCKS_TO_ADD = (
    Misconception(
        "a new block at one more than full",
        "The remainder says nothing of the blocks that are there, and one at a time is too slow for "
        "a step of several tokens.",
        _full_again(1),
        evidence=r"== 1",
    ),
    Misconception(
        "a new block when the last is full",
        "A full block needs no neighbour until the next token comes, and the remainder says "
        "nothing of the blocks that are there.",
        _full_again(0),
        evidence=r"== 0",
    ),
    Misconception(
        "negative",
        "A sequence with blocks to spare lacks none: 0, not less.",
        lambda num_tokens, num_blocks, block_size: -(-num_tokens // block_size) - num_blocks,
    ),
    Misconception(
        "rounded down",
        "Tokens that fill a block in part need a block as well.",
        lambda num_tokens, num_blocks, block_size: max(0, num_tokens // block_size - num_blocks),
    ),
    Misconception(
        "one too many",
        "Tokens that fill their blocks exactly need no further one.",
        lambda num_tokens, num_blocks, block_size: max(
            0, num_tokens // block_size + 1 - num_blocks
        ),
    ),
    Misconception(
        "the blocks that are there are forgotten",
        "That is how many blocks the tokens need in all; some of them are there.",
        lambda num_tokens, num_blocks, block_size: -(-num_tokens // block_size),
    ),
    Misconception(
        "tokens, not blocks",
        "That is how many slots are missing; a block has block_size of them.",
        lambda num_tokens, num_blocks, block_size: max(0, num_tokens - num_blocks * block_size),
    ),
)
EXPOSED = (
    Misconception(
        "the right engine",
        "Follow engine A with a pencil: it never writes without a block.",
        {"engine": "A", "prompt": 4},
    ),
    Misconception(
        "a prompt that it survives",
        "With this prompt its table is a block ahead of its tokens, by chance.",
        {"engine": "B", "prompt": 5},
    ),
)

JUDGED = (
    Misconception(
        "both pass",
        "One of them is broken by this very repair. Its length has the new token in it when it "
        "compares.",
        {"A": None, "B": None},
    ),
    Misconception(
        "neither passes",
        "One of them compares before the new token is counted, and then a full block is the sign.",
        {"A": 4, "B": 4},
    ),
    Misconception(
        "the broken one passes",
        "Run both for every prompt from 1 to 8 tokens: most of them tell nothing.",
        {"A": None, "B": 4},
    ),
)

# 3.8

MEASURED = (
    Misconception(
        "upside down",
        "That is your function's time over the loop's; a ratio above 1 is to say that the loop "
        "takes longer.",
        {name: 1 / ratio for name, ratio in given.typical_ratios().items()},
    ),
)
