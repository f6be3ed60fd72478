"""Lesson 3: the wrong answers to the slots of a batch, in Python, and to the kernel that writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autograder.checks.finding import Misconception
from autograder.checks.kernel import Edited
from course_lib.kv_cache.block_table import PositionError, checked_batch, slot_mapping
from course_lib.kv_cache.sizing import require_block_size

Integers = NDArray[np.signedinteger]

# 3.3


def _translated(
    row_of: Callable[[Integers, Integers], Integers] | None = None,
    padding: int = -1,
    refuses: Callable[[Integers, Integers, Integers, int], Any] | None = None,
    multiply: Callable[[Integers, Integers, int], Integers] | None = None,
    read: Callable[[Integers, Integers, Integers], Integers] | None = None,
) -> Callable[..., Integers]:
    """Make an answer from the row that each token reads, what is refused, and the arithmetic."""

    def slots_of(
        block_tables: Integers, query_starts: Integers, positions: Integers, block_size: int
    ) -> Integers:
        require_block_size(block_size)
        tables, query_lens, positions = checked_batch(block_tables, query_starts, positions)
        num_tokens = int(query_lens.sum())
        tokens = positions[:num_tokens].astype(np.int64)
        rows = np.arange(len(tables)).repeat(query_lens)
        if row_of is not None:
            rows = row_of(rows, tokens)
        logical, offsets = tokens // block_size, tokens % block_size
        if (refuses or _all)(tables, rows, tokens, block_size):
            raise PositionError("no slot")
        blocks = (read or _by_row_and_column)(tables, rows, logical)
        slots = np.full(len(positions), padding, dtype=np.int64)
        slots[:num_tokens] = (multiply or _wide)(blocks, offsets, block_size)
        return slots

    return slots_of


def _by_row_and_column(tables: Integers, rows: Integers, logical: Integers) -> Integers:
    blocks: Integers = tables[rows, logical]
    return blocks


def _as_one_row(tables: Integers, rows: Integers, logical: Integers) -> Integers:
    flat = rows * tables.shape[1] + logical
    blocks: Integers = np.append(tables.ravel(), 0)[np.clip(flat, -1, tables.size)]
    return blocks


def _wide(blocks: Integers, offsets: Integers, block_size: int) -> Integers:
    return blocks.astype(np.int64) * block_size + offsets


def _narrow(blocks: Integers, offsets: Integers, block_size: int) -> Integers:
    with np.errstate(over="ignore"):
        slots: Integers = blocks.astype(np.int32) * np.int32(block_size) + offsets.astype(np.int32)
    return slots


def _beyond(tables: Integers, rows: Integers, tokens: Integers, block_size: int) -> Any:
    return (tokens // block_size >= tables.shape[1]).any()


def _all(tables: Integers, rows: Integers, tokens: Integers, block_size: int) -> Any:
    if (tokens < 0).any() or _beyond(tables, rows, tokens, block_size):
        return True
    return (tables[rows, tokens // block_size] < 0).any()


def _no_entries(tables: Integers, rows: Integers, tokens: Integers, block_size: int) -> Any:
    return (tokens < 0).any() or _beyond(tables, rows, tokens, block_size)


def _no_negative(tables: Integers, rows: Integers, tokens: Integers, block_size: int) -> Any:
    if _beyond(tables, rows, tokens, block_size):
        return True
    return (tables[rows, tokens // block_size] < 0).any()


def _only_entries(tables: Integers, rows: Integers, tokens: Integers, block_size: int) -> Any:
    return (np.append(tables.ravel(), 0)[rows * tables.shape[1] + tokens // block_size] < 0).any()


def _null_too(tables: Integers, rows: Integers, tokens: Integers, block_size: int) -> Any:
    if _no_entries(tables, rows, tokens, block_size):
        return True
    return (tables[rows, tokens // block_size] <= 0).any()


def _no_columns(tables: Integers, rows: Integers, tokens: Integers, block_size: int) -> Any:
    return (tokens < 0).any() or (tables[rows, tokens // block_size] < 0).any()


def _one_too_many(tables: Integers, rows: Integers, tokens: Integers, block_size: int) -> Any:
    if (tokens < 0).any() or (tokens // block_size > tables.shape[1]).any():
        return True
    return (tables[rows, tokens // block_size] < 0).any()


def _minus_one(tables: Integers, rows: Integers, tokens: Integers, block_size: int) -> Any:
    if _no_entries(tables, rows, tokens, block_size):
        return True
    return (tables[rows, tokens // block_size] == -1).any()


def _none(tables: Integers, rows: Integers, tokens: Integers, block_size: int) -> bool:
    return False


def padding_left_out(
    block_tables: Integers, query_starts: Integers, positions: Integers, block_size: int
) -> Integers:
    """Return the slots of the tokens alone."""
    slots: Integers = slot_mapping(block_tables, query_starts, positions, block_size)
    return slots[: int(query_starts[-1])]


def as_positions_came(
    block_tables: Integers, query_starts: Integers, positions: Integers, block_size: int
) -> Integers:
    """Return the slots in the type that the positions came in."""
    slots: Integers = slot_mapping(block_tables, query_starts, positions, block_size)
    return slots.astype(positions.dtype)


def place_in_the_batch(
    block_tables: Integers, query_starts: Integers, positions: Integers, block_size: int
) -> Integers:
    """Take a token's place in its chunk for its position in the sequence."""
    slot_mapping(block_tables, query_starts, positions, block_size)
    starts = np.asarray(query_starts)
    places = np.arange(int(starts[-1])) - starts[:-1].repeat(starts[1:] - starts[:-1])
    padding = np.zeros(len(positions) - len(places), dtype=np.int64)
    places = np.concatenate([places, padding])
    found: Integers = slot_mapping(block_tables, query_starts, places, block_size)
    return found


def unlimited(
    block_tables: Integers, query_starts: Integers, positions: Integers, block_size: int
) -> Integers:
    """Translate token by token."""
    tables, query_lens, positions = checked_batch(block_tables, query_starts, positions)
    require_block_size(block_size)
    slots, token = np.full(len(positions), -1, dtype=np.int64), 0
    for row, length in enumerate(query_lens):
        for position in positions[token : token + length]:
            logical, offset = divmod(int(position), block_size)
            if not 0 <= logical < tables.shape[1] or tables[row, logical] < 0:
                raise PositionError(position)
            slots[token] = int(tables[row, logical]) * block_size + offset
            token += 1
    return slots


SLOT_MAPPING = (
    Misconception(
        "one table for all",
        "Each token has its own sequence's row; the first row is one user's blocks.",
        _translated(row_of=lambda rows, tokens: rows * 0),
    ),
    Misconception(
        "padding gets slot 0",
        "Slot 0 is a slot, of the null block. Padding is -1, so that whoever writes can leave it "
        "out.",
        _translated(padding=0),
    ),
    Misconception(
        "padding is left out",
        "The kernels run over all places of the batch: there must be a slot, or -1, for each.",
        padding_left_out,
    ),
    Misconception(
        "32 bits",
        "Block ids come in 32 bits, and a block id times the block size may not fit into them.",
        _translated(multiply=_narrow),
    ),
    Misconception(
        "as wide as the positions",
        "Positions may come in 32 bits, and slots have 64 all the same: make the result with "
        "`dtype=np.int64`.",
        as_positions_came,
    ),
    Misconception(
        "the place in the batch",
        "A decode's one token is not token 0 of its sequence: `positions` says which it is.",
        place_in_the_batch,
    ),
    Misconception(
        "an entry of -1 is used",
        "Behind the end of a table there is no block. Multiplied out, -1 is a slot below the "
        "cache.",
        _translated(refuses=_no_entries),
    ),
    Misconception(
        "only -1 is no block",
        "Any negative entry is no block, whatever its number: compare with < 0.",
        _translated(refuses=_minus_one),
    ),
    Misconception(
        "block 0 is refused",
        "Ids count from 0. That nobody is given the null block is the pool's rule; a table does "
        "not know of it.",
        _translated(refuses=_null_too),
    ),
    Misconception(
        "negative positions are answered",
        "An index of -1 is the last entry of the row, and a wrong position gets its slot.",
        _translated(refuses=_no_negative),
    ),
    Misconception(
        "negative positions read the row before",
        "In a table that is read as one row, what is in front of a sequence's columns belongs to "
        "the sequence before.",
        _translated(refuses=_no_negative, read=_as_one_row),
    ),
    Misconception(
        "NumPy's own IndexError",
        "Behind the last column NumPy raises an IndexError, which says nothing of positions. A "
        "PositionError is asked for.",
        _translated(refuses=_no_columns),
    ),
    Misconception(
        "one too many",
        "Columns count from 0, so the first logical block without a column is the number of "
        "columns itself: compare with >=.",
        _translated(refuses=_one_too_many),
    ),
    Misconception(
        "the next row",
        "In a table that is read as one row, what is behind a sequence's columns belongs to the "
        "next sequence.",
        _translated(refuses=_only_entries, read=_as_one_row),
    ),
    Misconception(
        "nothing is refused",
        "What is negative, a position or an entry, gets a slot; what is too large ends in NumPy's "
        "IndexError, which says nothing of positions.",
        _translated(refuses=_none),
    ),
    Misconception(
        "nothing is refused, in one row",
        "A position without a slot gets one: a stranger's, or one below the cache.",
        _translated(refuses=_none, read=_as_one_row),
    ),
    Misconception(
        "32 bits, and nothing is refused",
        "Two things are missing: a block id times the block size may not fit into 32 bits, and "
        "positions and entries without a slot are to be refused.",
        _translated(refuses=_none, multiply=_narrow),
    ),
    Misconception(
        "32 bits, and an entry of -1 is used",
        "Two things are missing: a block id times the block size may not fit into 32 bits, and "
        "negative entries, which are no blocks, are to be refused.",
        _translated(refuses=_no_entries, multiply=_narrow),
    ),
)

LOOP = Misconception(
    "a loop in Python",
    "Each turn of a loop costs a tenth of a microsecond or more, and one call of NumPy half a "
    "microsecond to one; the arithmetic is nothing beside either. So make few calls, on everything "
    "at once.",
    unlimited,
    evidence=r"\b(for|while)\b",
    hint="Which of your lines run once for each token, sequence, block or place of padding? One "
    "call of NumPy can do the same to a whole array.",
)

# 3.6

_MASKED = "mask = lane < NUM_KV_HEADS * HEAD_DIM"

KERNEL = (
    Misconception(
        "padding is written",
        "In Triton -1 // 4 is 0 and -1 % 4 is -1, as in C: a place in front of the cache, or in "
        "what lies there.",
        Edited((("if slot >= 0:", "if slot >= -1:"),)),
    ),
    Misconception(
        "lane % heads",
        "The numbers of a head are neighbours: a head has HEAD_DIM of them, so divide by that.",
        Edited((("head = lane // HEAD_DIM", "head = lane % NUM_KV_HEADS"),)),
    ),
    Misconception(
        "lanes too many",
        "There are LANES lanes, a power of two, and fewer numbers: NUM_KV_HEADS * HEAD_DIM. A lane "
        "beyond those reaches into the next token.",
        Edited(((_MASKED, "mask = lane >= 0"),)),
    ),
    Misconception(
        "the offset without its stride",
        "A slot is as far from the next as the cache's stride says; an offset of 1 is not one "
        "number.",
        Edited(
            (
                (
                    "block * key_cache_block_stride + offset * key_cache_slot_stride",
                    "block * key_cache_block_stride + offset",
                ),
                (
                    "block * value_cache_block_stride + offset * value_cache_slot_stride",
                    "block * value_cache_block_stride + offset",
                ),
            )
        ),
    ),
    Misconception(
        "the heads side by side",
        "The lane is the place among the numbers of a token only where its heads are neighbours: "
        "from head to head the caches have strides of their own.",
        Edited(
            (
                ("target += head * key_cache_head_stride + dim", "target += lane"),
                ("target += head * value_cache_head_stride + dim", "target += lane"),
            )
        ),
    ),
    Misconception(
        "the input's heads side by side",
        "The lane is the place among the numbers of a token only where its heads are neighbours: "
        "from head to head the key has key_head_stride, and the value value_head_stride.",
        Edited(
            (
                (
                    "token * key_token_stride + head * key_head_stride + dim",
                    "token * key_token_stride + lane",
                ),
                (
                    "token * value_token_stride + head * value_head_stride + dim",
                    "token * value_token_stride + lane",
                ),
            )
        ),
    ),
    Misconception(
        "all heads side by side",
        "The lane is the place among the numbers of a token only where its heads are neighbours: "
        "from head to head all four, key, value and both caches, have strides of their own.",
        Edited(
            (
                (
                    "token * key_token_stride + head * key_head_stride + dim",
                    "token * key_token_stride + lane",
                ),
                (
                    "token * value_token_stride + head * value_head_stride + dim",
                    "token * value_token_stride + lane",
                ),
                ("target += head * key_cache_head_stride + dim", "target += lane"),
                ("target += head * value_cache_head_stride + dim", "target += lane"),
            )
        ),
    ),
    Misconception(
        "the key's strides to read the value",
        "Key and value may lie in memory in different ways: the value has value_token_stride and "
        "value_head_stride.",
        Edited(
            (
                (
                    "source = token * value_token_stride + head * value_head_stride + dim",
                    "source = token * key_token_stride + head * key_head_stride + dim",
                ),
            )
        ),
    ),
    Misconception(
        "32 bits",
        "A block times its stride may not fit into 32 bits, however few the block's own number "
        "needs: multiply in 64.",
        Edited((("block = slot // BLOCK_SIZE", "block = (slot // BLOCK_SIZE).to(tl.int32)"),)),
        evidence=r"int32",
    ),
    Misconception(
        "as wide as it came",
        "A slot that comes in 32 bits makes a block of 32, and times its stride that may not fit: "
        "widen the slot, with `.to(tl.int64)`, before you multiply.",
        Edited((("tl.load(slot_mapping + token).to(tl.int64)", "tl.load(slot_mapping + token)"),)),
    ),
    Misconception(
        "the slot is not split",
        "Slots are evenly spaced only where the tokens of a block are; with a head between block "
        "and token the next block begins elsewhere.",
        Edited(
            (
                (
                    "block * key_cache_block_stride + offset * key_cache_slot_stride",
                    "slot * key_cache_slot_stride",
                ),
                (
                    "block * value_cache_block_stride + offset * value_cache_slot_stride",
                    "slot * value_cache_slot_stride",
                ),
            )
        ),
    ),
    Misconception(
        "the strides of the key's cache for the value's",
        "The two caches may lie in memory in different ways; each has strides of its own.",
        Edited(
            (
                (
                    "block * value_cache_block_stride + offset * value_cache_slot_stride",
                    "block * key_cache_block_stride + offset * key_cache_slot_stride",
                ),
                (
                    "target += head * value_cache_head_stride + dim",
                    "target += head * key_cache_head_stride + dim",
                ),
            )
        ),
    ),
    Misconception(
        "the key for the value",
        "What goes into the cache of the values is loaded from the value.",
        Edited((("tl.load(value + source, mask=mask)", "tl.load(key + source, mask=mask)"),)),
    ),
    Misconception(
        "tokens side by side",
        "The tokens may lie apart, or the heads: from token to token it is key_token_stride, from "
        "head to head key_head_stride.",
        Edited(
            (
                (
                    "source = token * key_token_stride + head * key_head_stride + dim",
                    "source = token * NUM_KV_HEADS * HEAD_DIM + head * HEAD_DIM + dim",
                ),
                (
                    "source = token * value_token_stride + head * value_head_stride + dim",
                    "source = token * NUM_KV_HEADS * HEAD_DIM + head * HEAD_DIM + dim",
                ),
            )
        ),
    ),
)
