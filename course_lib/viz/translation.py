"""What lesson 3's figure shows: a small cache, and the way of one token from position to byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from course_lib.kv_cache.block_table import (
    BlockTable,
    CacheLayout,
    hnd_layout,
    nhd_layout,
    pad_block_tables,
    slot_mapping,
    split_layout,
)

LAYOUTS = ("NHD", "HND", "split")
"""What the figure calls the three layouts."""

MOST_BLOCKS = 16
"""Blocks of a pool that can be drawn side by side."""


@dataclass(frozen=True)
class PagedCache:
    """A small KV cache to look at: who has which blocks, and how large a key is.

    Attributes:
        tables: The physical blocks of each sequence, in order, by its name.
        num_tokens: Tokens of each sequence.
        block_size: Slots per block.
        num_blocks: Blocks of the pool, the null block included; at most ``MOST_BLOCKS``.
        num_kv_heads: KV heads.
        head_dim: Elements per head, of 2 bytes.

    Raises:
        ValueError: The pool is too large to be drawn, a block is not in it, or a sequence has more
            tokens than slots.

    >>> PagedCache({"r0": (7, 3)}, {"r0": 20}, block_size=16).block_size
    16
    """

    tables: Mapping[str, tuple[int, ...]]
    num_tokens: Mapping[str, int]
    block_size: int = 4
    num_blocks: int = 10
    num_kv_heads: int = 2
    head_dim: int = 16

    def __post_init__(self) -> None:
        if not 1 <= self.num_blocks <= MOST_BLOCKS:
            raise ValueError(
                f"{self.num_blocks} blocks cannot be drawn side by side; take 1 to {MOST_BLOCKS}"
            )
        for name, block_ids in self.tables.items():
            for block_id in block_ids:
                if not 0 < block_id < self.num_blocks:
                    raise ValueError(
                        f"{name} has block {block_id}; blocks that can be held are 1 to "
                        f"{self.num_blocks - 1}"
                    )
            num_slots = len(block_ids) * self.block_size
            if self.num_tokens[name] > num_slots:
                raise ValueError(
                    f"{name} has {self.num_tokens[name]} tokens and {num_slots} slots; "
                    "append a block to its table"
                )

    def owner_of(self, block_id: int) -> tuple[str, int] | None:
        """Return whose block it is, and which of their logical blocks; None if nobody's."""
        for name, table in self.tables.items():
            if block_id in table:
                return name, table.index(block_id)
        return None


@dataclass(frozen=True)
class Translation:
    """What the parts of the course say about one element of a key or a value.

    Attributes:
        cache: The cache.
        request: The sequence.
        position: Place of the token in its sequence.
        slot: The token's slot.
        owners: Whose token is in each slot that holds one: its sequence and its position.
        layout: Order of the axes in memory.
        kv: 0 for the key, 1 for the value.
        head: The KV head.
        dim: Element of the head.
        address: Byte of the element, from the start of the cache.
    """

    cache: PagedCache
    request: str
    position: int
    slot: int
    owners: Mapping[int, tuple[str, int]]
    layout: CacheLayout
    kv: int
    head: int
    dim: int
    address: int

    @property
    def logical(self) -> int:
        """The logical block of the token."""
        return self.position // self.cache.block_size

    @property
    def offset(self) -> int:
        """Its place in the block."""
        return self.position % self.cache.block_size

    @property
    def block(self) -> int:
        """The physical block in which its slot is."""
        return self.slot // self.cache.block_size

    @property
    def table(self) -> tuple[int, ...]:
        """The physical blocks of the sequence."""
        return self.cache.tables[self.request]

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each axis."""
        return dict(zip(self.layout.axes, self.layout.shape, strict=True))

    @property
    def coordinates(self) -> dict[str, int]:
        """The place on each axis, the slowest first."""
        vector, item = divmod(self.dim, self.sizes.get("item", 1))
        places = {
            "kv": self.kv,
            "block": self.block,
            "token": self.slot % self.cache.block_size,
            "head": self.head,
            "dim": self.dim,
            "vector": vector,
            "item": item,
        }
        return {axis: places[axis] for axis in self.layout.axes}

    @property
    def strides(self) -> dict[str, int]:
        """Bytes from one place to the next on each axis."""
        names = zip(self.layout.axes, self.layout.strides, strict=True)
        return {axis: stride * self.layout.dtype_bytes for axis, stride in names}


def translate(
    cache: PagedCache,
    request: str,
    position: int,
    layout: str,
    *,
    kv: int = 0,
    head: int = 0,
    dim: int = 0,
) -> Translation:
    """Find the byte of one element of a token's key or value, with the parts of the course.

    Args:
        cache: The cache.
        request: A sequence in it.
        position: Place of the token in its sequence, from 0.
        layout: "NHD", "HND" or "split".
        kv: 0 for the key, 1 for the value.
        head: KV head.
        dim: Element of the head.

    Raises:
        PositionError: The sequence has no such slot. It is a ValueError.
        ValueError: There is no such sequence, layout, head or element.

    >>> cache = PagedCache({"r0": (7, 3)}, {"r0": 20}, 16, num_kv_heads=8, head_dim=128)
    >>> found = translate(cache, "r0", 17, "NHD", head=2, dim=5)
    >>> found.slot, found.address
    (49, 100874)
    """
    if request not in cache.tables:
        raise ValueError(f"no sequence {request!r}; there are {', '.join(cache.tables)}")
    table = BlockTable(cache.block_size)
    table.append(cache.tables[request])
    slot = table.slot(position)
    num_slots = cache.num_blocks * cache.block_size
    if not 0 <= slot < num_slots:
        raise ValueError(f"slot {slot} is not among the {num_slots} of the pool")
    address = cache_layout(cache, layout).address(kv, slot, head, dim)
    return Translation(
        cache=cache,
        request=request,
        position=position,
        slot=slot,
        owners=token_owners(cache),
        layout=cache_layout(cache, layout),
        kv=kv,
        head=head,
        dim=dim,
        address=address,
    )


def cache_layout(cache: PagedCache, name: str) -> CacheLayout:
    """Return how the keys and values of a cache lie in memory.

    Args:
        cache: The cache.
        name: "NHD", "HND" or "split".

    Raises:
        ValueError: There is no such layout, or it does not fit the heads.

    >>> cache_layout(PagedCache({}, {}, head_dim=8), "split").shape
    (2, 10, 2, 1, 4, 8)
    """
    shape = (cache.num_blocks, cache.block_size, cache.num_kv_heads, cache.head_dim)
    # Written out, and not kept in a table, so that they can be replaced by the learner's own.
    if name == "NHD":
        return nhd_layout(*shape)
    if name == "HND":
        return hnd_layout(*shape)
    if name == "split":
        return split_layout(*shape)
    raise ValueError(f"no layout {name!r}; there are {', '.join(LAYOUTS)}")


def token_owners(cache: PagedCache) -> dict[int, tuple[str, int]]:
    """Return whose token is in each slot that holds one: its sequence and its position.

    All tokens of all sequences are mapped as one batch.

    >>> token_owners(PagedCache({"r0": (7, 3)}, {"r0": 5}))
    {28: ('r0', 0), 29: ('r0', 1), 30: ('r0', 2), 31: ('r0', 3), 12: ('r0', 4)}
    """
    import numpy as np

    tokens = [(name, p) for name, count in cache.num_tokens.items() for p in range(count)]
    slots = slot_mapping(
        pad_block_tables([cache.tables[name] for name in cache.num_tokens]),
        np.cumsum([0, *cache.num_tokens.values()]),
        np.array([position for _, position in tokens], dtype=np.int64),
        cache.block_size,
    )
    return dict(zip((int(slot) for slot in slots), tokens, strict=True))


def pieces(found: Translation, *fixed: str) -> list[tuple[int, int]]:
    """Return where some of a block's keys lie, as (first byte in the block, bytes) pairs.

    Its values lie alike.

    Args:
        found: The token; its block is meant.
        fixed: Axes on which only the token's own place is wanted, at least one: ``"token"`` for its
            key in all heads, ``"head"`` for all tokens of the block in one head.

    >>> cache = PagedCache({"r0": (7, 3)}, {"r0": 20}, 16, num_kv_heads=8, head_dim=128)
    >>> for layout in LAYOUTS:
    ...     key = pieces(translate(cache, "r0", 17, layout), "token")
    ...     print(layout, len(key), key[0][1])
    NHD 1 2048
    HND 8 256
    split 128 16
    """
    axes = [axis for axis in found.layout.axes if axis not in ("kv", "block")]
    # Behind the last of the fixed axes everything is wanted, so it lies in one piece.
    axes = axes[: max(axes.index(axis) for axis in fixed) + 1]
    ranges = [(found.coordinates[a],) if a in fixed else range(found.sizes[a]) for a in axes]
    weights = [found.strides[axis] for axis in axes]
    runs: list[tuple[int, int]] = []
    for places in product(*ranges):  # in the order of memory, for the last axis is the fastest
        start = sum(place * weight for place, weight in zip(places, weights, strict=True))
        if runs and sum(runs[-1]) == start:
            runs[-1] = (runs[-1][0], runs[-1][1] + weights[-1])
        else:
            runs.append((start, weights[-1]))
    return runs
