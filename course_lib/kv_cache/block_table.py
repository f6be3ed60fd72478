"""Address translation: from a token's position in its sequence to where its KV lies in memory.

    position -> (logical block, offset) -> physical block -> slot -> bytes

A sequence's block table turns its logical blocks 0, 1, 2, ... into physical blocks anywhere in the
pool. A slot is the place of one token: slot = block · block_size + offset, the same number in every
layer. Where the bytes of a slot are depends on the order of the cache's axes, its layout.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from course_lib.kv_cache.sizing import require_block_size

if TYPE_CHECKING:  # numpy is loaded when the first array is translated
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

NULL_BLOCK_ID = 0
"""Fills a block table behind its last block. The null block is memory that nobody holds, so whoever
reads the entry by mistake stays inside the cache and meets nobody's keys."""

PAD_SLOT_ID = -1
"""The slot of a token that is only padding: it is no slot, and nothing is written."""

VECTOR_BYTES = 16
"""The most bytes that a GPU's thread loads or stores with one instruction (32 on the newest)."""


class PositionError(ValueError, IndexError):
    """A position that its block table does not cover.

    A ValueError like all misuse in this package, and an IndexError like a position outside a list.
    """


class BlockTable:
    """The physical blocks of one sequence, in order of its logical blocks.

    Invariant: the token at position p is in physical block number p // ``block_size`` of the table,
    at offset p % ``block_size``. So the table only grows at its end, and only the last block may be
    partly filled.

    Args:
        block_size: Slots per block.

    Attributes:
        block_size: Slots per block.
        ids: The physical blocks, as an array of C integers; only ``append`` changes it.

    Raises:
        ValueError: ``block_size`` is less than 1.

    >>> table = BlockTable(block_size=16)
    >>> table.append([7, 3])
    >>> table.slot(17)  # offset 1 in block 3
    49
    >>> table[1], len(table), table.block_ids
    (3, 2, [7, 3])
    """

    def __init__(self, block_size: int) -> None:
        require_block_size(block_size)
        self.block_size = block_size
        # Unlike a list, an array of C integers is open to numpy without a copy.
        self.ids = array("q")

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self.ids)

    def __iter__(self) -> Iterator[int]:
        """Yield the physical blocks, in order of the logical ones."""
        return iter(self.ids)

    def __getitem__(self, logical_block: int) -> int:
        """Return the physical block of a logical block, from 0.

        Raises:
            IndexError: The table has no such logical block.
        """
        if not 0 <= logical_block < len(self.ids):
            raise IndexError(
                f"there is no logical block {logical_block}; the table has {len(self.ids)}, "
                "counted from 0"
            )
        return self.ids[logical_block]

    @property
    def block_ids(self) -> list[int]:
        """The physical blocks, a copy."""
        return self.ids.tolist()

    @property
    def num_slots(self) -> int:
        """The positions that the table covers: 0 to ``num_slots`` − 1."""
        return len(self.ids) * self.block_size

    def append(self, block_ids: Iterable[int]) -> None:
        """Add physical blocks at the end.

        Args:
            block_ids: Ids in the order in which the sequence fills them.

        Raises:
            ValueError: An id is negative; then nothing is added.
            TypeError: An id is not of a type of whole numbers, as 2.5 and 2.0 are not; then nothing
                is added.
            OverflowError: An id does not fit into 64 bits; then nothing is added.

        >>> table = BlockTable(block_size=4)
        >>> table.append([9])
        >>> table.append([2, 5])
        >>> table.block_ids, table.num_slots
        ([9, 2, 5], 12)
        """
        # All of them are checked before the first is added.
        new_ids = array("q", list(block_ids))
        for block_id in new_ids:
            if block_id < 0:
                raise ValueError(f"block id {block_id} is negative; ids count from 0")
        self.ids.extend(new_ids)

    def slot(self, position: int) -> int:
        """Return the slot of the token at ``position``, as fast however long the table is.

        Args:
            position: Place in the sequence, from 0.

        Returns:
            physical block · ``block_size`` + offset.

        Raises:
            PositionError: ``position`` is negative or beyond the last block.

        >>> table = BlockTable(block_size=4)
        >>> table.append([9, 2])
        >>> [table.slot(position) for position in range(8)]
        [36, 37, 38, 39, 8, 9, 10, 11]
        """
        logical_block, offset = divmod(position, self.block_size)
        if not 0 <= logical_block < len(self.ids):
            raise PositionError(
                f"position {position} has no slot: positions count from 0, and the table's "
                f"blocks have room for {self.num_slots}; "
                "append a block before a token needs it"
            )
        return self.ids[logical_block] * self.block_size + offset

    def slot_mapping(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Return the slots of many positions at once: a batch of this one sequence.

        Args:
            positions: Whole numbers, an array or list of any shape. −1 stands for padding.

        Returns:
            Slots, int64, the shape of ``positions``; −1 where that is −1.

        Raises:
            PositionError: A position is less than −1 or beyond the last block.
            ValueError: ``positions`` are not whole numbers.

        >>> table = BlockTable(block_size=4)
        >>> table.append([9, 2])
        >>> table.slot_mapping([0, 3, 4, -1])
        array([36, 39,  8, -1])
        """
        import numpy as np

        wanted = whole_numbers("positions", positions)
        slots = np.full(wanted.shape, PAD_SLOT_ID, dtype=np.int64)
        is_token = wanted != PAD_SLOT_ID
        tokens = wanted[is_token]
        block_tables = np.asarray(self.ids).reshape(1, -1)
        slots[is_token] = slot_mapping(
            block_tables, np.array([0, len(tokens)]), tokens, self.block_size
        )
        return slots


def blocks_to_add(num_tokens: int, num_blocks: int, block_size: int) -> int:
    """Return how many blocks a sequence lacks before its next tokens can be written.

    Args:
        num_tokens: Tokens that must have a slot, those about to be written included; 0 or more.
        num_blocks: Blocks that the sequence has.
        block_size: Slots per block, at least 1.

    Returns:
        Blocks to add, 0 or more; 0 if there are more blocks than are needed.

    >>> [blocks_to_add(num_tokens, num_blocks=2, block_size=4) for num_tokens in (7, 8, 9, 17)]
    [0, 0, 1, 3]
    """
    return max(0, -(-num_tokens // block_size) - num_blocks)


def pad_block_tables(
    tables: Sequence[Sequence[int] | NDArray[np.signedinteger]],
) -> NDArray[np.int32]:
    """Return the block tables of a batch as one rectangle, as kernels read them.

    Args:
        tables: The physical blocks of each sequence: lists or arrays, such as ``BlockTable.ids``.

    Returns:
        Physical blocks, int32, shape (num_seqs, most blocks of any sequence); 0, the null block,
        behind the end of a shorter table.

    >>> pad_block_tables([[9, 2], [5]])
    array([[9, 2],
           [5, 0]], dtype=int32)
    """
    import numpy as np

    width = max(map(len, tables), default=0)
    padded = np.full((len(tables), width), NULL_BLOCK_ID, dtype=np.int32)
    for row, table in zip(padded, tables, strict=True):
        row[: len(table)] = table
    return padded


def slot_mapping(
    block_tables: NDArray[np.signedinteger],
    query_starts: NDArray[np.signedinteger],
    positions: NDArray[np.signedinteger],
    block_size: int,
) -> NDArray[np.int64]:
    """Return the slots of all tokens of a ragged batch, without a loop in Python.

    The tokens of all sequences stand one behind the other, without gaps: those of sequence i are
    tokens ``query_starts[i]`` to ``query_starts[i + 1]`` − 1. Behind the last of them there may be
    padding, up to a size for which a GPU has its work recorded in advance.

    Args:
        block_tables: Physical blocks, shape (num_seqs, max_blocks). What stands behind the end of a
            table is not looked at; ``pad_block_tables`` puts the null block there, and a negative
            entry is no block.
        query_starts: Where each sequence begins, and the number of tokens; shape (num_seqs + 1,). A
            sequence may have no tokens, and so may all of them; there may be no sequence at all.
        positions: Place of each token in its own sequence, from 0; shape (num_tokens + padding,).
            What is in the padding does not matter.
        block_size: Slots per block.

    Returns:
        Slots, int64, the shape of ``positions``; −1 in the padding.

    Raises:
        PositionError: A position is negative or beyond the columns of ``block_tables``, or the
            entry that it needs is negative.
        ValueError: ``block_size`` is less than 1, the shapes do not fit together, ``query_starts``
            does not start at 0 or decreases, or an array does not hold whole numbers.

    >>> import numpy as np
    >>> block_tables = np.array([[9, 2], [5, -1]])
    >>> positions = np.array([3, 4, 5, 0, 0])  # three tokens, one token, one of padding
    >>> slot_mapping(block_tables, np.array([0, 3, 4]), positions, block_size=4)
    array([39,  8,  9, 20, -1])
    """
    import numpy as np

    require_block_size(block_size)
    block_tables, query_lens, positions = checked_batch(block_tables, query_starts, positions)
    num_seqs, max_blocks = block_tables.shape
    num_tokens = int(query_lens.sum())
    slots = np.full(len(positions), PAD_SLOT_ID, dtype=np.int64)
    if num_tokens == 0:
        return slots
    # In 64 bits from here on, as the slots are: in 32, a product is right up to 2^31 slots only.
    tokens = positions[:num_tokens].astype(np.int64, copy=False)
    logical_blocks = tokens // block_size
    if tokens.min() < 0 or logical_blocks.max() >= max_blocks:
        raise token_without_slot(block_tables, query_lens, tokens, block_size)
    # Reading the table as one row is several times as fast as an index for each of its two axes.
    row_starts = (np.arange(num_seqs) * max_blocks).repeat(query_lens)
    physical_blocks = block_tables.ravel().take(row_starts + logical_blocks)
    if physical_blocks.min() < 0:
        raise token_without_slot(block_tables, query_lens, tokens, block_size)
    # block · block_size + position % block_size, for position % B = position − logical · B
    slots[:num_tokens] = (physical_blocks - logical_blocks) * block_size + tokens
    return slots


def row_major_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Return how far apart neighbours along each axis are in a contiguous array, in elements.

    The last axis varies fastest, and no element of memory is left out between two others.

    Args:
        shape: Size of each axis.

    Raises:
        ValueError: A size is less than 1.

    >>> row_major_strides((2, 3, 4))
    (12, 4, 1)
    """
    if any(size < 1 for size in shape):
        raise ValueError(f"the shape is {tuple(shape)}; each size must be at least 1")
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


@dataclass(frozen=True)
class CacheLayout:
    """The order in which one layer's keys and values lie in memory.

    Axes have these names: "kv" (0 for keys, 1 for values), "block", "token" (the offset in the
    block), "head" (the KV head) and "dim" (the element of the head); in a split layout, "vector"
    and "item" instead of "dim", for dim = vector · items + item.

    Attributes:
        axes: Names of the axes, the slowest first.
        shape: Size of each axis.
        dtype_bytes: Bytes per element.

    Raises:
        ValueError: A size is less than 1, or there is not one size for each axis.

    >>> layout = nhd_layout(num_blocks=100, block_size=16, num_kv_heads=8, head_dim=128)
    >>> layout.axes, layout.shape
    (('kv', 'block', 'token', 'head', 'dim'), (2, 100, 16, 8, 128))
    >>> layout.address(kv=0, slot=17, head=2, dim=3)  # ((17 · 8 + 2) · 128 + 3) · 2 bytes
    35334
    """

    axes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype_bytes: int = 2

    def __post_init__(self) -> None:
        if len(self.axes) != len(self.shape):
            raise ValueError(f"{len(self.axes)} axes have {len(self.shape)} sizes; each has one")
        if min(self.shape) < 1 or self.dtype_bytes < 1:
            raise ValueError(
                f"the shape is {self.shape} of {self.dtype_bytes} bytes; all must be at least 1"
            )

    @property
    def strides(self) -> tuple[int, ...]:
        """How far apart neighbours along each axis are, in elements."""
        return row_major_strides(self.shape)

    @property
    def num_bytes(self) -> int:
        """Bytes of the whole cache of one layer."""
        return math.prod(self.shape) * self.dtype_bytes

    def address(self, kv: int, slot: int, head: int, dim: int) -> int:
        """Return where one element of the cache lies.

        Args:
            kv: 0 for the key, 1 for the value.
            slot: The token's slot.
            head: KV head.
            dim: Element of the head.

        Returns:
            Bytes from the start of the cache.

        Raises:
            ValueError: An argument is negative or too large for this cache.

        >>> layout = nhd_layout(num_blocks=10, block_size=16, num_kv_heads=8, head_dim=128)
        >>> layout.address(kv=0, slot=49, head=2, dim=5)  # ((49 · 8 + 2) · 128 + 5) · 2 bytes
        100874
        """
        sizes = dict(zip(self.axes, self.shape, strict=True))
        block, token = divmod(slot, sizes["token"])
        vector, item = divmod(dim, sizes.get("item", 1))
        coordinates = {
            "kv": kv,
            "block": block,
            "token": token,
            "head": head,
            "dim": dim,
            "vector": vector,
            "item": item,
        }
        for axis, size in sizes.items():
            if not 0 <= coordinates[axis] < size:
                raise ValueError(
                    f"kv = {kv}, slot = {slot}, head = {head}, dim = {dim} is outside the cache: "
                    f"{axis} {coordinates[axis]} is not among the {size} from 0 to {size - 1}"
                )
        elements = sum(
            coordinates[axis] * stride for axis, stride in zip(self.axes, self.strides, strict=True)
        )
        return elements * self.dtype_bytes


def nhd_layout(
    num_blocks: int, block_size: int, num_kv_heads: int, head_dim: int, dtype_bytes: int = 2
) -> CacheLayout:
    """Return the layout with tokens outside heads: (2, num_blocks, block_size, heads, head_dim).

    All heads of a token are neighbours, so a new token is written in one piece.

    Args:
        num_blocks: Blocks in the pool.
        block_size: Slots per block.
        num_kv_heads: KV heads.
        head_dim: Elements per head.
        dtype_bytes: Bytes per element.

    Raises:
        ValueError: An argument is less than 1.

    >>> nhd_layout(num_blocks=10, block_size=16, num_kv_heads=8, head_dim=128).strides
    (163840, 16384, 1024, 128, 1)
    """
    return CacheLayout(
        ("kv", "block", "token", "head", "dim"),
        (2, num_blocks, block_size, num_kv_heads, head_dim),
        dtype_bytes,
    )


def hnd_layout(
    num_blocks: int, block_size: int, num_kv_heads: int, head_dim: int, dtype_bytes: int = 2
) -> CacheLayout:
    """Return the layout with heads outside tokens: (2, num_blocks, heads, block_size, head_dim).

    All tokens of a block are neighbours within a head, so a program that works on one head reads
    each block in one piece.

    Args:
        num_blocks: Blocks in the pool.
        block_size: Slots per block.
        num_kv_heads: KV heads.
        head_dim: Elements per head.
        dtype_bytes: Bytes per element.

    Raises:
        ValueError: An argument is less than 1.

    >>> hnd_layout(num_blocks=10, block_size=16, num_kv_heads=8, head_dim=128).strides
    (163840, 16384, 2048, 128, 1)
    """
    return CacheLayout(
        ("kv", "block", "head", "token", "dim"),
        (2, num_blocks, num_kv_heads, block_size, head_dim),
        dtype_bytes,
    )


def split_layout(
    num_blocks: int, block_size: int, num_kv_heads: int, head_dim: int, dtype_bytes: int = 2
) -> CacheLayout:
    """Return the layout that splits heads into vectors of 16 bytes, as GPU threads load them.

    The shape is (2, num_blocks, heads, head_dim / x, block_size, x), for x elements in 16 bytes.
    One thread, or a small group of them, reads the x items of one vector of one token at once, and
    the next ones read the same vector of the next token, which lies right behind. The keys of
    vLLM's paged attention kernel of 2023 lay like this.

    Args:
        num_blocks: Blocks in the pool.
        block_size: Slots per block.
        num_kv_heads: KV heads.
        head_dim: Elements per head, a multiple of x = 16 / ``dtype_bytes``.
        dtype_bytes: Bytes per element; 16 must be a multiple of it.

    Raises:
        ValueError: An argument is less than 1, 16 bytes do not hold a whole number of elements, or
            a head is not a whole number of vectors.

    >>> layout = split_layout(num_blocks=10, block_size=16, num_kv_heads=8, head_dim=128)
    >>> layout.shape
    (2, 10, 8, 16, 16, 8)
    >>> layout.strides
    (163840, 16384, 2048, 128, 8, 1)
    """
    if dtype_bytes < 1 or VECTOR_BYTES % dtype_bytes:
        raise ValueError(
            f"dtype_bytes is {dtype_bytes}; {VECTOR_BYTES} bytes must hold a whole number of them"
        )
    items = VECTOR_BYTES // dtype_bytes
    if head_dim % items:
        raise ValueError(
            f"head_dim is {head_dim}; it must be a multiple of the {items} elements in "
            f"{VECTOR_BYTES} bytes, or use the NHD or HND layout"
        )
    return CacheLayout(
        ("kv", "block", "head", "vector", "token", "item"),
        (2, num_blocks, num_kv_heads, head_dim // items, block_size, items),
        dtype_bytes,
    )


def whole_numbers(name: str, values: ArrayLike) -> NDArray[np.signedinteger]:
    """Return an array of whole numbers, without a copy if it is one already.

    Args:
        name: What the values are, for the error.
        values: An array or a list.

    Raises:
        ValueError: They are not signed whole numbers.

    >>> whole_numbers("positions", [3, 4])
    array([3, 4])
    """
    import numpy as np

    numbers = np.asarray(values)
    if numbers.size == 0:
        return numbers.astype(np.int64)  # an empty list has no type of its own
    if numbers.dtype.kind != "i":
        raise ValueError(f"{name} are {numbers.dtype}; they must be signed whole numbers")
    return numbers


def checked_batch(
    block_tables: ArrayLike, query_starts: ArrayLike, positions: ArrayLike
) -> tuple[NDArray[np.signedinteger], NDArray[np.signedinteger], NDArray[np.signedinteger]]:
    """Return what a ragged batch is made of as arrays, if it fits together.

    Args:
        block_tables: As for ``slot_mapping``.
        query_starts: As for ``slot_mapping``.
        positions: As for ``slot_mapping``.

    Returns:
        The block tables, the number of tokens of each sequence, and the positions.

    Raises:
        ValueError: As for ``slot_mapping``.

    >>> checked_batch([[9, 2], [5, 0]], [0, 3, 4], [3, 4, 5, 0])[1]
    array([3, 1])
    """
    tables = whole_numbers("block_tables", block_tables)
    starts = whole_numbers("query_starts", query_starts)
    tokens = whole_numbers("positions", positions)
    if tables.ndim != 2 or starts.shape != (len(tables) + 1,):
        raise ValueError(
            f"block_tables is {list(tables.shape)} and query_starts {list(starts.shape)}; "
            "they are [num_seqs, max_blocks] and [num_seqs + 1]"
        )
    query_lens = starts[1:] - starts[:-1]
    if starts[0] != 0 or (query_lens < 0).any():
        raise ValueError(f"query_starts is {starts}; it starts at 0 and never decreases")
    if tokens.ndim != 1 or len(tokens) < starts[-1]:
        raise ValueError(
            f"positions is {list(tokens.shape)}; it has one axis with a position for each of "
            f"the {starts[-1]} tokens"
        )
    return tables, query_lens, tokens


def token_without_slot(
    block_tables: NDArray[np.signedinteger],
    query_lens: NDArray[np.signedinteger],
    tokens: NDArray[np.signedinteger],
    block_size: int,
) -> PositionError:
    """Return the error for the first token of a batch that its block table does not cover.

    Args:
        block_tables: Physical blocks, shape (num_seqs, max_blocks); a negative entry is no block.
        query_lens: Tokens of each sequence.
        tokens: Position of each token in its sequence.
        block_size: Slots per block.

    Raises:
        ValueError: None of the tokens is without a slot.

    >>> import numpy as np
    >>> str(token_without_slot(np.array([[9, 2]]), np.array([2]), np.array([7, 8]), block_size=4))
    'token 1 of the batch, position 8 of sequence 0, has no slot: its blocks have room \
for 8; append a block before a token needs it'
    """
    import numpy as np

    sequence_of = np.arange(len(query_lens)).repeat(query_lens)
    logical_blocks = tokens // block_size
    outside = (tokens < 0) | (logical_blocks >= block_tables.shape[1])
    inside = np.flatnonzero(~outside)
    outside[inside] = block_tables[sequence_of[inside], logical_blocks[inside]] < 0
    if not outside.any():
        raise ValueError(
            "none of these tokens is without a slot; look at the tokens alone, and not at what "
            "stands in the padding behind them"
        )
    token = int(outside.argmax())
    sequence = int(sequence_of[token])
    room = int((block_tables[sequence] >= 0).sum()) * block_size
    return PositionError(
        f"token {token} of the batch, position {tokens[token]} of sequence {sequence}, has no "
        f"slot: its blocks have room for {room}; "
        "append a block before a token needs it"
    )
