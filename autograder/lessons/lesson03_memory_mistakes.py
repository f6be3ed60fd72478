"""Lesson 3: the wrong answers about writing, reading, strides and addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from autograder.checks.finding import Misconception
from course_lib.kv_cache.block_table import CacheLayout, row_major_strides

if TYPE_CHECKING:
    from torch import Tensor

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


def through_a_view(
    key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slot_mapping: Tensor
) -> None:
    """See each cache as one row of slots."""
    real = slot_mapping >= 0
    key_cache.view(-1, *key.shape[1:])[slot_mapping[real]] = key[real]
    value_cache.view(-1, *key.shape[1:])[slot_mapping[real]] = value[real]


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
        "the key for the value",
        "The cache of the values gets the values.",
        _written(twice_the_key=True),
    ),
    Misconception(
        "written to a copy",
        "Where the axes lie in another order in memory, neither reshape nor flatten can give a "
        "view: they copy, and the cache itself stays as it was.",
        _written(on_a_copy=True),
        evidence=r"\.(reshape|flatten|ravel|contiguous)\(",
    ),
    Misconception(
        "a view as one row of slots",
        "The axes of a cache may lie in another order in memory, and there is no such view of them "
        "then; the remedy in PyTorch's message, reshape, would write to a copy. Index the cache as "
        "it is, with block and offset.",
        through_a_view,
        evidence=r"\.view\(",
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
    is_inside: Callable[[int, int], bool] = lambda place, size: 0 <= place < size,
) -> Callable[..., int]:
    """Make an answer from the places on the axes, and from how they are summed up."""

    def address(self: CacheLayout, kv: int, slot: int, head: int, dim: int) -> int:
        sizes = dict(zip(self.axes, self.shape, strict=True))
        block, token = divmod(slot, sizes["token"])
        vector, item = divmod(dim, sizes.get("item", 1))
        places = {"kv": kv, "block": block, "token": token, "head": head}
        places |= {"dim": dim, "vector": vector, "item": item}
        if not all(is_inside(places[axis], size) for axis, size in sizes.items()):
            raise ValueError(places)
        layout = self
        if axes is not None:
            sizes["dim"] = sizes.get("dim", 1) * sizes.get("vector", 1) * sizes.get("item", 1)
            layout = replace(self, axes=axes, shape=tuple(sizes[axis] for axis in axes))
        places = change(places, self)
        pairs = zip(layout.axes, layout.strides, strict=True)
        elements = sum(places[axis] * stride for axis, stride in pairs)
        return elements * (self.dtype_bytes if in_bytes else 1)

    return address


_NHD = ("kv", "block", "token", "head", "dim")


def _vector_and_item_swapped(places: dict[str, int], layout: CacheLayout) -> dict[str, int]:
    items = dict(zip(layout.axes, layout.shape, strict=True)).get("item", 1)
    return {**places, "vector": places["dim"] % items, "item": places["dim"] // items}


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
        "vector and item swapped",
        "dim = vector x items + item: the quotient is the vector, the remainder the item.",
        _addressed(_vector_and_item_swapped),
    ),
    Misconception(
        "the slot is not split",
        "Where a head stands between block and token, the tokens of two blocks are no neighbours: "
        "split the slot into block and offset.",
        _addressed(_slot_as_token),
    ),
    Misconception(
        "always the key",
        "kv is an axis like the others, with a stride of its own: a value does not lie on its key.",
        _addressed(lambda places, layout: {**places, "kv": 0}),
    ),
    Misconception(
        "nothing is refused",
        "Head 8 of 8 is a byte of the cache, too: as a rule of another token. It must not pass "
        "for one that is right.",
        _addressed(is_inside=lambda place, size: True),
    ),
    Misconception(
        "one too many",
        "Places count from 0, so the first that an axis does not have is its size itself.",
        _addressed(is_inside=lambda place, size: 0 <= place <= size),
    ),
    Misconception(
        "what is too large is not refused",
        "Head 8 of 8 is a byte of the cache, too: as a rule of another token. It must not pass "
        "for one that is right.",
        _addressed(is_inside=lambda place, size: place >= 0),
    ),
    Misconception(
        "what is negative is not refused",
        "A head of -1 is a byte of the cache, too, as a rule: in NHD, of the token before.",
        _addressed(is_inside=lambda place, size: place < size),
    ),
)
