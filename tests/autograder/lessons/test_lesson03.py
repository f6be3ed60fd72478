"""Lesson 3: what its checks say of answers that people give, wrong ones and unusual right ones."""

from __future__ import annotations

import importlib.util
import itertools
import math
import time
import timeit
from array import array
from numbers import Integral

import numpy as np
import pytest
import torch

from autograder import lessons
from autograder.lessons import lesson03_given as given
from autograder.lessons import lesson03_hunt as hunt
from autograder.lessons.questions import bank
from course_lib.attention.backends.availability import triton_state
from course_lib.kv_cache.block_table import (
    BlockTable,
    PositionError,
    checked_batch,
    hnd_layout,
    nhd_layout,
    row_major_strides,
    split_layout,
    token_without_slot,
)
from course_lib.kv_cache.sizing import require_block_size
from course_lib.kv_cache.watch.hand_traces import table_trace
from course_lib.viz.translation import PagedCache, pieces, translate
from lesson_answers import (
    SAME,
    examine,
    named,
    right_answers_earn_everything,
    wrong_answers_earn_nothing,
)

# 3.1a


def line_by_hand(free, tables):
    out = "free ["
    for place, block_id in enumerate(free):
        out += (" " if place else "") + f"{block_id}"
    out += "]"
    for name in tables:
        out += "  " + name + ":"
        for block_id in tables[name]:
            out += " " + str(block_id)
    return out


def line_from_recursion(free, tables):
    def rest(names):
        if not names:
            return ""
        return "  " + " ".join([f"{names[0]}:", *map(str, tables[names[0]])]) + rest(names[1:])

    return f"free [{' '.join(map(str, free))}]" + rest(list(tables))


def line_by_replacing(free, tables):
    text = str(list(free)).replace(",", "")
    for name, table in tables.items():
        text = f"{text}  {name}: {str(list(table))[1:-1].replace(',', '')}".rstrip()
    return f"free {text}"


def line_with(replace=lambda text: text, free=lambda ids: ids):
    def state_line(ids, tables):
        return replace(given.state_line(free(ids), tables))

    return state_line


def line_without_repeats(free, tables):
    kept = {name: dict.fromkeys(table) for name, table in tables.items()}
    return given.state_line(dict.fromkeys(free), kept)


def line_with_short_names(free, tables):
    return line_by_hand(free, {name[:2]: table for name, table in tables.items()})


LINE_RIGHT = (line_by_hand, line_from_recursion, line_by_replacing)
LINE_WRONG = (
    (
        lambda free, tables: f"free {free}  " + "  ".join(f"{n}: {t}" for n, t in tables.items()),
        SAME,
    ),
    (line_with(lambda text: text.replace("  ", " ")), "one space"),
    (line_with(free=sorted), SAME),
    (line_with(free=dict.fromkeys), SAME),
    (line_without_repeats, SAME),
    (line_with_short_names, SAME),
    (line_with(lambda text: text + "\n"), SAME),
    (line_with(lambda text: text.replace("[", "").replace("]", "")), SAME),
    (line_with(lambda text: text.encode()), SAME),
    (lambda free, tables: print(given.state_line(free, tables)), SAME),
    (lambda free, tables: "free [1 4 6 8]  r0: 7 3 5  r1: 2 9", SAME),
    (object(), SAME),
)

# 3.2a


def slot_by_walking(self, position):
    if position < 0:
        raise PositionError(position)
    for block_id in self.ids:
        if position < self.block_size:
            return block_id * self.block_size + position
        position -= self.block_size
    raise PositionError("no slot")


def slot_from_all(self, position):
    slots = [b * self.block_size + o for b in self for o in range(self.block_size)]
    if position not in range(len(slots)):
        raise PositionError
    return slots[position]


def slot_as_numpy(self, position):
    if not 0 <= position < self.num_slots:
        raise PositionError(f"{position}")
    ids = np.array(self.block_ids)
    return (ids[position // self.block_size] * self.block_size + position % self.block_size).item()


def slot_from_an_array(self, position):
    if not 0 <= position < len(self.ids) * self.block_size:
        raise PositionError(f"{position}")
    view = np.frombuffer(self.ids, dtype=np.int64)
    return (view[position // self.block_size] * self.block_size + position % self.block_size).item()


def slot_from_a_list(self, position):
    if position not in range(self.num_slots):
        raise PositionError(position)
    return (
        self.block_ids[position // self.block_size] * self.block_size + position % self.block_size
    )


def slot_with(find, low=0, error=PositionError):
    def slot(self, position):
        if position < low or position >= len(self.ids) * self.block_size:
            raise error(position)
        return find(self.ids, position, self.block_size)

    return slot


SLOT_RIGHT = (slot_from_an_array,)


def slot_by_recursion(self, position):
    def look(block, left):
        if left < 0 or block == len(self.ids):
            raise PositionError(position)
        if left < self.block_size:
            return self.ids[block] * self.block_size + left
        return look(block + 1, left - self.block_size)

    return look(0, position)


SLOT_WRONG = (
    (slot_with(lambda ids, p, b: ids[:][p // b] * b + p % b), "the whole table is copied"),
    (
        slot_with(lambda ids, p, b: int(np.array(ids)[p // b]) * b + p % b),
        "the whole table is copied",
    ),
    (slot_by_walking, SAME),
    (slot_as_numpy, "the whole table is copied"),
    (slot_from_a_list, "the whole table is copied"),
    (slot_by_recursion, SAME),
    (
        slot_with(
            lambda ids, p, b: int(
                np.array(ids, dtype=np.int32)[p // b] * np.int32(b) + np.int32(p % b)
            )
        ),
        SAME,
    ),
    (slot_with(lambda ids, p, b: int((ids[p // b] + p / b % 1) * b)), SAME),
    (slot_from_all, "the whole table is copied"),
    (slot_with(lambda ids, p, b: ids[0] * b + p), "one piece"),
    (slot_with(lambda ids, p, b: ids[p // b] * b), "the offset is missing"),
    (slot_with(lambda ids, p, b: ids[p // b] * b + p % b, low=-1), SAME),
    (slot_with(lambda ids, p, b: ids[p // b] * b + p % b, error=ValueError), SAME),
    (slot_with(lambda ids, p, b: ids[p // b] * b + p % b + 1), SAME),
    (slot_with(lambda ids, p, b: ids[p // b] * 16 + p % b), SAME),
    (slot_with(lambda ids, p, b: float(ids[p // b] * b + p % b)), SAME),
    (slot_with(lambda ids, p, b: ids[p // b] + p % b), "the block and the offset added"),
    (slot_with(lambda ids, p, b: p), "the logical block"),
    (lambda self, position: 36, SAME),
    (
        lambda self, p: self.ids[p // self.block_size] * self.block_size + p % self.block_size,
        "nothing is refused",
    ),
    (slot_with(lambda ids, p, b: ids[p // b] * b + p % b, low=-99), "-1 is answered"),
    (object(), SAME),
)

# 3.2b


def append_one_by_one(self, block_ids):
    good = array("q")
    for block_id in block_ids:
        if not isinstance(block_id, Integral):
            raise TypeError(block_id)
        if block_id < 0:
            raise ValueError(block_id)
        good.append(block_id)
    for block_id in good:
        self.ids.append(block_id)


def append_by_numpy(self, block_ids):
    ids = list(block_ids)
    if not all(isinstance(each, (int, np.integer)) for each in ids):
        raise TypeError(ids)
    new = np.array(ids, dtype=np.int64)
    if (new < 0).any():
        raise ValueError(ids)
    self.ids.frombytes(new.tobytes())


def append_by_adding(self, block_ids):
    new = array("q", tuple(block_ids))
    if len(new) and min(new) < 0:
        raise ValueError
    self.ids = self.ids + new


def append_with_rollback(self, block_ids):
    before = len(self.ids)
    try:
        for block_id in block_ids:
            self.ids.append(block_id)
            if block_id < 0:
                raise ValueError(block_id)
    except (TypeError, ValueError, OverflowError):
        del self.ids[before:]
        raise


def append_with_half_a_rollback(self, block_ids):
    before = len(self.ids)
    try:
        for block_id in block_ids:
            if block_id < 0:
                raise ValueError(block_id)
            self.ids.append(block_id)
    except ValueError:
        del self.ids[before:]
        raise


def append_a_checked_list(self, block_ids):
    checked = list(block_ids)
    for block_id in checked:
        if not isinstance(block_id, (int, np.integer)):
            raise TypeError(block_id)
        if block_id < 0:
            raise ValueError(block_id)
    self.ids.extend(checked)


def append_ints_of_python(self, block_ids):
    ids = list(block_ids)
    if not all(isinstance(block_id, int) for block_id in ids):
        raise TypeError(ids)
    append_by_adding(self, ids)


def append_in_32_bits(self, block_ids):
    append_by_adding(self, array("i", list(block_ids)))


def append_but_the_farthest(self, block_ids):
    ids = list(block_ids)
    if any(isinstance(each, int) and each >= 2**63 - 1 for each in ids):
        raise OverflowError(ids)
    append_by_adding(self, ids)


def append_wrapped(self, block_ids):
    ids = array("q", list(block_ids))
    append_by_adding(self, ids)
    self.ids = array("q", np.array(self.ids, dtype=np.int64).astype(np.int32).tolist())


def append_or_keep(self, block_ids):
    if not self.ids and isinstance(block_ids, array):
        self.ids = block_ids
        return
    new = array("q", list(block_ids))
    if len(new) and min(new) < 0:
        raise ValueError
    self.ids.extend(new)


def append_without_repeats(self, block_ids):
    ids = list(block_ids)
    if len(set(ids)) < len(ids):
        raise ValueError(ids)
    append_by_adding(self, ids)


def append_too_large_as_value_error(self, block_ids):
    try:
        append_by_adding(self, block_ids)
    except OverflowError as error:
        raise ValueError from error


def append_half(self, block_ids):
    for block_id in block_ids:
        if block_id < 0:
            raise ValueError(block_id)
        self.ids.append(block_id)


def append_and_clear(self, block_ids):
    append_by_adding(self, block_ids)
    block_ids.clear()


def append_without_twins(self, block_ids):
    append_by_adding(self, [b for b in block_ids if b not in self.ids])


def append_and_sort(self, block_ids):
    append_by_adding(self, sorted(block_ids))


def append_after_looking_at_pairs(self, block_ids):
    ids = list(block_ids)
    if any(min(ids[:place]) < 0 for place in range(1, len(ids) + 1)):
        raise ValueError(ids)
    self.ids.extend(array("q", ids))


def append_after_a_first_look(self, block_ids):
    if any(block_id < 0 for block_id in block_ids):
        raise ValueError(block_ids)
    self.ids.extend(array("q", block_ids))


def append_if_the_first_will_do(self, block_ids):
    ids = array("q", list(block_ids))
    if ids and ids[0] < 0:
        raise ValueError(ids)
    self.ids.extend(ids)


def append_if_the_last_will_do(self, block_ids):
    ids = array("q", list(block_ids))
    if ids and ids[-1] < 0:
        raise ValueError(ids)
    self.ids.extend(ids)


def append_after_rounding(self, block_ids):
    ids = list(block_ids)
    for block_id in ids:
        if isinstance(block_id, str) or block_id != int(block_id):
            raise TypeError(block_id)
        if block_id < 0:
            raise ValueError(block_id)
    self.ids.extend(array("q", map(int, ids)))


APPEND_RIGHT = (append_one_by_one, append_by_numpy, append_by_adding, append_with_rollback)
APPEND_WRONG = (
    (append_half, "half added"),
    (append_after_looking_at_pairs, SAME),
    (append_after_a_first_look, "asked for twice"),
    (append_if_the_first_will_do, SAME),
    (append_if_the_last_will_do, SAME),
    (append_after_rounding, "2.0 is taken for 2"),
    (append_with_half_a_rollback, "half added, if one is not whole"),
    (append_a_checked_list, "half added, if one is too large"),
    (append_ints_of_python, SAME),
    (append_in_32_bits, SAME),
    (append_wrapped, SAME),
    (append_but_the_farthest, SAME),
    (append_or_keep, SAME),
    (append_without_repeats, SAME),
    (append_too_large_as_value_error, SAME),
    (lambda self, ids: self.ids.extend(ids), SAME),
    (lambda self, ids: self.ids.append(next(iter(ids))), SAME),
    (append_and_clear, SAME),
    (append_without_twins, SAME),
    (append_and_sort, SAME),
    (lambda self, ids: append_by_adding(self, [i for i in ids if i >= 0]), SAME),
    (lambda self, ids: setattr(self, "ids", array("q", ids)), SAME),
    (lambda self, ids: ids, SAME),
    (object(), SAME),
)

# 3.3


def rows_of(starts):
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def by_fancy_index(block_tables, query_starts, positions, block_size):
    if block_size < 1:
        raise ValueError(block_size)
    tables, lens, positions = checked_batch(block_tables, query_starts, positions)
    tokens = positions[: lens.sum()]
    slots = np.full_like(positions, -1, dtype=np.int64)
    if not len(tokens):
        return slots
    logical, offset = np.divmod(tokens, block_size)
    if tokens.min() < 0 or logical.max() >= tables.shape[1]:
        raise PositionError("outside")
    blocks = tables[rows_of(query_starts), logical].astype(np.int64)
    if (blocks < 0).any():
        raise PositionError("no block")
    slots[: len(tokens)] = blocks * block_size + offset
    return slots


def by_search(block_tables, query_starts, positions, block_size):
    if block_size < 1:
        raise ValueError
    tables, _, positions = checked_batch(block_tables, query_starts, positions)
    places = np.arange(len(positions))
    rows = np.searchsorted(query_starts, places, side="right") - 1
    real = places < query_starts[-1]
    rows, tokens = rows[real], positions[real].astype(np.int64)
    if tokens.size and (tokens.min() < 0 or tokens.max() >= tables.shape[1] * block_size):
        raise PositionError
    padded = np.pad(tables.astype(np.int64), ((0, 1), (0, 0)))
    blocks = padded[rows, tokens // block_size]
    if (blocks < 0).any():
        raise PositionError
    return np.concatenate(
        [blocks * block_size + tokens % block_size, np.full((~real).sum(), -1)]
    ).astype(np.int64)


def by_all_slots(block_tables, query_starts, positions, block_size):
    """Write down every slot of every table, and choose."""
    if block_size < 1:
        raise ValueError
    tables, lens, positions = checked_batch(block_tables, query_starts, positions)
    wide = tables.astype(np.int64)[:, :, None] * block_size + np.arange(block_size)
    wide = np.where(tables[:, :, None] < 0, -1, wide)
    wide = wide.reshape(len(tables), tables.shape[1] * block_size)
    slots = np.full(len(positions), -1, dtype=np.int64)
    num = int(lens.sum())
    tokens = positions[:num]
    if num and (tokens.min() < 0 or tokens.max() >= wide.shape[1]):
        raise PositionError
    slots[:num] = wide[rows_of(query_starts), tokens]
    if num and slots[:num].min() < 0:
        raise PositionError
    return slots


def sequence_by_sequence(block_tables, query_starts, positions, block_size):
    tables, _, positions = checked_batch(block_tables, query_starts, positions)
    if block_size < 1:
        raise ValueError
    slots = np.full(len(positions), -1, dtype=np.int64)
    for row in range(len(tables)):
        chunk = slice(query_starts[row], query_starts[row + 1])
        tokens = positions[chunk]
        if len(tokens) and (tokens.min() < 0 or tokens.max() >= tables.shape[1] * block_size):
            raise PositionError
        blocks = tables[row][tokens // block_size].astype(np.int64)
        if len(tokens) and blocks.min() < 0:
            raise PositionError
        slots[chunk] = blocks * block_size + tokens % block_size
    return slots


def token_by_token(block_tables, query_starts, positions, block_size):
    tables, _, positions = checked_batch(block_tables, query_starts, positions)
    if block_size < 1:
        raise ValueError
    rows = rows_of(query_starts)
    out = []
    for token, row in enumerate(rows):
        logical, offset = divmod(int(positions[token]), block_size)
        if not 0 <= logical < tables.shape[1] or tables[row][logical] < 0:
            raise PositionError
        out.append(int(tables[row][logical]) * block_size + offset)
    return np.array(out + [-1] * (len(positions) - len(out)), dtype=np.int64)


def any_fault(tables, rows, tokens, logical, lens):
    """Say whether some token has no slot."""
    if (tokens < 0).any() or (logical >= tables.shape[1]).any():
        return True
    return (tables[rows, logical] < 0).any()


def batch_by(
    rows_from=None,
    faulty=any_fault,
    entries=lambda tables, rows, logical: tables[rows, logical].astype(np.int64),
    offsets=lambda tokens, size: tokens % size,
    blank=lambda positions, num: np.full(len(positions), -1, dtype=np.int64),
):
    """Return an answer in the usual five steps, of which some are done in another way."""

    def slots_of(block_tables, query_starts, positions, block_size):
        if block_size < 1:
            raise ValueError(block_size)
        tables, lens, positions = checked_batch(block_tables, query_starts, positions)
        num = int(lens.sum())
        tokens = positions[:num]
        find_rows = rows_from or (lambda lens: np.repeat(np.arange(len(lens)), lens))
        rows, logical = find_rows(lens), tokens // block_size
        if faulty(tables, rows, tokens, logical, lens):
            raise PositionError("no slot")
        slots = blank(positions, num)
        slots[:num] = entries(tables, rows, logical) * block_size + offsets(tokens, block_size)
        return slots

    return slots_of


def rows_by_a_loop(lens):
    rows = []
    for row, length in enumerate(lens):
        rows.extend([row] * int(length))
    return np.array(rows, dtype=np.int64)


def rows_by_slices(lens):
    ends = np.cumsum(lens)
    rows = np.zeros(lens.sum(), dtype=np.int64)
    for row in range(len(lens)):
        rows[ends[row] - lens[row] : ends[row]] = row
    return rows


def rows_by_a_comprehension(lens):
    rows = [row for row, length in enumerate(lens.tolist()) for _ in range(length)]
    return np.array(rows, dtype=np.int64)


def rows_by_pairs(lens):
    """Hold each token against each sequence: no loop, but of what is made there is far too much."""
    tokens = np.arange(lens.sum())
    return (tokens[:, None] >= np.cumsum(lens)[None, :]).sum(axis=1)


def entries_from_whole_rows(tables, rows, logical):
    return tables[rows][np.arange(len(rows)), logical].astype(np.int64)


def fault_at(places):
    """Look only at these tokens of each chunk: a chunk is consecutive, is it not?"""

    def faulty(tables, rows, tokens, logical, lens):
        some = lens > 0
        at = places(np.cumsum(lens)[some], lens[some])
        return any_fault(tables, rows[at], tokens[at], logical[at], lens)

    return faulty


def fault_but_for(entry_is_none=lambda entries: entries < 0, beyond=lambda tables: tables.shape[1]):
    def faulty(tables, rows, tokens, logical, lens):
        if (tokens < 0).any() or (logical >= beyond(tables)).any():
            return True
        return entry_is_none(tables[rows, logical]).any()

    return faulty


def place_by_place(block_tables, query_starts, positions, block_size):
    """Go through the places of the longest chunk, of all sequences at once."""
    if block_size < 1:
        raise ValueError(block_size)
    tables, lens, positions = checked_batch(block_tables, query_starts, positions)
    first = np.cumsum(lens) - lens
    slots = np.full(positions.shape, -1, dtype=np.int64)
    for place in range(int(lens.max(initial=0))):
        rows = np.flatnonzero(lens > place)
        at = first[rows] + place
        logical = positions[at] // block_size
        if any_fault(tables, rows, positions[at], logical, lens):
            raise PositionError("no slot")
        slots[at] = tables[rows, logical].astype(np.int64) * block_size + positions[at] % block_size
    return slots


def padding_by_a_loop(positions, num):
    slots = np.zeros(len(positions), dtype=np.int64)
    for place in range(num, len(positions)):
        slots[place] = -1
    return slots


def only_without_padding(block_tables, query_starts, positions, block_size):
    if len(positions) == query_starts[-1] or not len(block_tables):
        return by_fancy_index(block_tables, query_starts, positions, block_size)
    checked_batch(block_tables, query_starts, positions)
    return unchecked(block_tables, query_starts, positions, block_size)


def in_one_buffer(block_tables, query_starts, positions, block_size, kept={}):  # noqa: B006
    slots = by_fancy_index(block_tables, query_starts, positions, block_size)
    buffer = kept.setdefault(len(slots), np.empty(len(slots), dtype=np.int64))
    buffer[:] = slots
    return buffer


def in_a_part_of_one_buffer(block_tables, query_starts, positions, block_size):
    slots = by_fancy_index(block_tables, query_starts, positions, block_size)
    BUFFER[: len(slots)] = slots
    return BUFFER[: len(slots)]


BUFFER = np.zeros(10_000, dtype=np.int64)


def tables_made_tidy(block_tables, query_starts, positions, block_size):
    slots = by_fancy_index(block_tables, query_starts, positions, block_size)
    block_tables[block_tables < 0] = -1
    return slots


def looks_at_the_padding(block_tables, query_starts, positions, block_size):
    tables, lens, positions = checked_batch(block_tables, query_starts, positions)
    if block_size > 0 and (positions < 0).any():
        raise token_without_slot(tables, lens, positions[: lens.sum()], block_size)
    return by_fancy_index(block_tables, query_starts, positions, block_size)


def batch_with(change):
    def wrong(block_tables, query_starts, positions, block_size):
        return change(by_fancy_index, block_tables, query_starts, positions, block_size)

    return wrong


def in_place(right, tables, starts, positions, size):
    slots = right(tables, starts, positions, size)
    if len(positions):
        positions[:] = slots
        return positions
    return slots


def unchecked(tables, starts, positions, size):
    tokens = positions[: starts[-1]]
    slots = np.full(len(positions), -1)
    slots[: len(tokens)] = (
        tables[rows_of(starts), tokens // size].astype(np.int64) * size + tokens % size
    )
    return slots


def with_a_helper(block_tables, query_starts, positions, block_size):
    """Translate as one long list of the entries and offsets, with helpers."""

    def refuse_if(wrong):
        if wrong:
            raise PositionError("no slot")

    def entries(rows, logical):
        return np.ascontiguousarray(block_tables)[rows, logical].astype("int64")

    if block_size <= 0:
        raise ValueError("block_size")
    _, lens, positions = checked_batch(block_tables, query_starts, positions)
    num = lens.sum()
    refuse_if((positions[:num] < 0).any())
    refuse_if((positions[:num] >= block_tables.shape[1] * block_size).any())
    blocks = entries(rows_of(query_starts), positions[:num] // block_size)
    refuse_if((blocks < 0).any())
    return np.pad(
        blocks * block_size + positions[:num] % block_size,
        (0, len(positions) - num),
        constant_values=-1,
    )


def by_torch(block_tables, query_starts, positions, block_size):
    if block_size < 1:
        raise ValueError(block_size)
    tables, lens, positions = checked_batch(block_tables, query_starts, positions)
    num = int(lens.sum())
    tables, tokens = (torch.from_numpy(each.astype(np.int64)) for each in (tables, positions[:num]))
    if num and (int(tokens.min()) < 0 or int(tokens.max()) // block_size >= tables.shape[1]):
        raise PositionError("outside")
    rows = torch.repeat_interleave(torch.from_numpy(lens.astype(np.int64)))
    blocks = tables[rows, tokens // block_size]
    if bool((blocks < 0).any()):
        raise PositionError("no block")
    slots = (blocks * block_size + tokens % block_size).numpy()
    return np.pad(slots, (0, len(positions) - num), constant_values=-1)


def checked_by_hand(is_wrong):
    """Return an answer that checks the batch itself, but for what it overlooks."""

    def slots_of(tables, starts, positions, size):
        if size < 1 or is_wrong(tables, starts, positions):
            raise ValueError("the batch does not fit together")
        slots = np.full(len(positions), -1, dtype=np.int64)
        tokens = positions[: int(starts[-1])]
        logical = tokens // size
        if len(tokens) and (tokens.min() < 0 or logical.max() >= tables.shape[1]):
            raise PositionError("outside")
        blocks = tables[rows_of(starts), logical].astype(np.int64)
        if (blocks < 0).any():
            raise PositionError("no block")
        slots[: len(tokens)] = blocks * size + tokens % size
        return slots

    return slots_of


def does_not_fit(tables, starts, positions, ends=True):
    wrong = tables.ndim != 2 or len(starts) <= len(tables) or positions.dtype.kind != "i"
    wrong = wrong or (ends and len(starts) > len(tables) + 1)
    return wrong or starts[0] != 0 or starts[-1] > len(positions) or (np.diff(starts) < 0).any()


def is_whole(*arrays):
    return all(each.dtype.kind == "i" for each in arrays)


def by_an_array_like_the_positions(tables, starts, positions, size):
    slots = np.full_like(positions, -1)
    right = by_fancy_index(tables, starts, positions, size)
    slots[: starts[-1]] = right[: starts[-1]]
    return slots


def with_positions_as_floats(right, tables, starts, positions, size):
    if is_whole(positions):
        positions = positions.astype(np.float32).astype(int)
    return right(tables, starts, positions, size)


BATCH_RIGHT = (
    by_fancy_index,
    by_search,
    with_a_helper,
    by_torch,
    checked_by_hand(lambda t, s, p: not is_whole(t, s, p) or does_not_fit(t, s, p)),
    batch_by(entries=entries_from_whole_rows),
)
BATCH_SLOW = (
    (token_by_token, "a loop in Python"),
    (sequence_by_sequence, "a loop in Python"),
    (place_by_place, "a loop in Python"),
    (batch_by(rows_by_a_loop), SAME),
    (batch_by(rows_by_slices), SAME),
    (batch_by(rows_by_a_comprehension), SAME),
    (batch_by(rows_by_pairs), SAME),
    (batch_by(offsets=lambda tokens, size: np.array([t % size for t in tokens], int)), SAME),
    (batch_by(offsets=np.vectorize(lambda token, size: token % size, otypes=[int])), SAME),
    (batch_by(blank=padding_by_a_loop), SAME),
    (by_all_slots, SAME),
)
"""Right and slow. Of those put together by ``batch_by`` the code itself shows no loop."""


def batch_in_32_bits_with_entries_unread(tables, starts, positions, block_size):
    require_block_size(block_size)
    tables, lens, positions = checked_batch(tables, starts, positions)
    slots = np.full(len(positions), -1)
    tokens = positions[: lens.sum()]
    logical, offsets = np.divmod(tokens, block_size)
    if (tokens < 0).any() or (logical >= tables.shape[1]).any():
        raise token_without_slot(tables, lens, tokens, block_size)
    rows = np.repeat(np.arange(len(lens)), lens)
    slots[: len(tokens)] = tables[rows, logical] * block_size + offsets
    return slots


BATCH_WRONG = (
    (
        batch_with(lambda right, t, s, p, b: right(np.repeat(t[:1], len(t), 0), s, p, b)),
        "one table for all",
    ),
    (
        batch_with(lambda right, t, s, p, b: np.where(right(t, s, p, b) < 0, 0, right(t, s, p, b))),
        "padding gets slot 0",
    ),
    (batch_with(lambda right, t, s, p, b: right(t, s, p, b)[: s[-1]]), "padding is left out"),
    (batch_with(lambda right, t, s, p, b: right(t, s, p, b).astype(np.int32)), "32 bits"),
    (batch_in_32_bits_with_entries_unread, "32 bits, and an entry of -1 is used"),
    (
        batch_with(lambda right, t, s, p, b: right(t, s, p, b).astype(p.dtype)),
        "as wide as the positions",
    ),
    (by_an_array_like_the_positions, "as wide as the positions"),
    (batch_with(with_positions_as_floats), SAME),
    (checked_by_hand(lambda t, s, p: not is_whole(s, p) or does_not_fit(t, s, p)), SAME),
    (checked_by_hand(lambda t, s, p: not is_whole(t, p) or does_not_fit(t, s, p)), SAME),
    (
        checked_by_hand(lambda t, s, p: not is_whole(t, s, p) or does_not_fit(t, s, p, ends=False)),
        SAME,
    ),
    (
        checked_by_hand(
            lambda t, s, p: not len(t) or not is_whole(t, s, p) or does_not_fit(t, s, p)
        ),
        SAME,
    ),
    (batch_with(lambda right, t, s, p, b: right(t, s, p, b).astype(np.uint32).astype(int)), SAME),
    (batch_with(lambda right, t, s, p, b: right(t, s, p, b).tolist()), SAME),
    (batch_with(lambda right, t, s, p, b: right(t, s, p, b) + 1), SAME),
    (batch_with(lambda right, t, s, p, b: right(t, s, p, 4)), SAME),
    # It writes where it may not; what it returns is the array of the positions, in their type.
    (batch_with(in_place), "as wide as the positions"),
    (unchecked, "nothing is refused"),
    (batch_by(faulty=fault_at(lambda ends, lens: ends - lens)), SAME),
    (batch_by(faulty=fault_at(lambda ends, lens: ends - 1)), SAME),
    (batch_by(faulty=fault_at(lambda ends, lens: [*(ends - lens), *(ends - 1)])), SAME),
    (only_without_padding, SAME),
    (batch_by(faulty=fault_but_for(lambda entries: entries == -1)), "only -1 is no block"),
    (batch_by(faulty=fault_but_for(beyond=lambda tables: tables.shape[1] + 1)), "one too many"),
    (batch_by(entries=lambda t, rows, column: t[rows, column].astype(np.float32)), SAME),
    (in_one_buffer, SAME),
    (in_a_part_of_one_buffer, SAME),
    (tables_made_tidy, SAME),
    (looks_at_the_padding, SAME),
    (lambda t, s, p, b: np.array([39, 8, 9, 20, -1]), SAME),
    (object(), SAME),
)

# 3.4


def write_in_a_loop(key, value, key_cache, value_cache, slot_mapping):
    for slot in slot_mapping.tolist():
        if not -1 <= slot < key_cache.shape[0] * key_cache.shape[1]:
            raise ValueError(slot)
    real = [slot for slot in slot_mapping.tolist() if slot >= 0]
    if len(set(real)) < len(real):
        raise ValueError(real)
    for token, slot in enumerate(slot_mapping.tolist()):
        if slot >= 0:
            block, offset = divmod(slot, key_cache.shape[1])
            key_cache[block, offset].copy_(key[token])
            value_cache[block][offset][:] = value[token]


def write_by_index_put(key, value, key_cache, value_cache, slot_mapping):
    num_blocks, size = key_cache.shape[:2]
    kept = torch.nonzero(slot_mapping != -1).flatten()
    slots = slot_mapping[kept]
    if slots.numel() and (slots.max() >= num_blocks * size or len(slots.unique()) < len(slots)):
        raise ValueError
    where = (torch.div(slots, size, rounding_mode="floor"), slots.remainder(size))
    key_cache.index_put_(where, key[kept])
    value_cache.index_put_(where, value[kept])


def write_through_a_whole_new_cache(key, value, key_cache, value_cache, slot_mapping):
    new_key, new_value = key_cache.clone(), value_cache.clone()
    write_in_a_loop(key, value, new_key, new_value, slot_mapping)
    key_cache.copy_(new_key)
    value_cache.copy_(new_value)


def write_with(change):
    def wrong(key, value, key_cache, value_cache, slot_mapping):
        change(key, value, key_cache, value_cache, slot_mapping)

    return wrong


def pads(key, value, key_cache, value_cache, slots):
    size = key_cache.shape[1]
    key_cache[slots // size, slots % size] = key
    value_cache[slots // size, slots % size] = value


def into_a_view(key, value, key_cache, value_cache, slots):
    real = slots >= 0
    for cache, tokens in ((key_cache, key), (value_cache, value)):
        cache.flatten(0, 1)[slots[real]] = tokens[real]


def clamps(key, value, key_cache, value_cache, slots):
    write_in_a_loop(key, value, key_cache, value_cache, slots.clamp(min=0))


def spoils(key, value, key_cache, value_cache, slots):
    write_in_a_loop(key, value, key_cache, value_cache, slots)
    key.zero_()


WRITE_RIGHT = (write_in_a_loop, write_by_index_put, write_through_a_whole_new_cache)


def by_a_view(key, value, key_cache, value_cache, slots):
    real = slots >= 0
    for cache, tokens in ((key_cache, key), (value_cache, value)):
        cache.view(-1, *tokens.shape[1:])[slots[real]] = tokens[real]


def by_element(key, value, key_cache, value_cache, slots):
    size = key_cache.shape[1]
    write_in_a_loop(key[:0], value[:0], key_cache, value_cache, slots[:0])
    real = slots[slots >= 0].tolist()
    if len(set(real)) < len(real) or any(slot >= len(key_cache) * size for slot in real):
        raise ValueError(slots)
    for token, head, dim in itertools.product(*map(range, key.shape)):
        if slots[token] >= 0:
            place = slots[token] // size, slots[token] % size, head, dim
            key_cache[place] = key[token, head, dim]
            value_cache[place] = value[token, head, dim]


def by_numpy_in_place(key, value, key_cache, value_cache, slots):
    write_in_a_loop(key, value, key_cache.clone(), value_cache.clone(), slots)
    size, real = key_cache.shape[1], (slots >= 0).numpy()
    where = slots.numpy()[real] // size, slots.numpy()[real] % size
    key_cache.numpy()[where] = key.numpy()[real]
    value_cache.numpy()[where] = value.numpy()[real]


WRITE_WRONG = (
    (write_with(by_numpy_in_place), SAME),  # NumPy has no bfloat16
    (write_with(by_element), SAME),
    (write_with(by_a_view), "a view as one row of slots"),
    (write_with(lambda k, v, kc, vc, s: write_in_a_loop(k, v, kc, vc, s.to(torch.int8))), SAME),
    (write_with(pads), "padding is written"),
    (write_with(into_a_view), "written to a copy"),
    (write_with(clamps), SAME),
    (write_with(spoils), SAME),
    (write_with(lambda k, v, kc, vc, s: write_in_a_loop(v, k, kc, vc, s)), SAME),
    (write_with(lambda k, v, kc, vc, s: write_in_a_loop(k, v, kc, kc, s)), SAME),
    (write_with(lambda k, v, kc, vc, s: write_in_a_loop(k, v, kc.clone(), vc.clone(), s)), SAME),
    (write_with(lambda k, v, kc, vc, s: None), SAME),
    (lambda *arguments: 5, SAME),
    (object(), SAME),
)


def gather_one_by_one(cache, block_table, context_len):
    size = cache.shape[1]
    return torch.stack([cache[int(block_table[p // size]), p % size] for p in range(context_len)])


def gather_by_slots(cache, block_table, context_len):
    places = torch.arange(context_len)
    size = cache.shape[1]
    slots = block_table.long()[places // size] * size + places % size
    return cache.reshape(-1, *cache.shape[2:]).index_select(0, slots)


def gather_by_cat(cache, block_table, context_len):
    size, out = cache.shape[1], []
    while context_len > 0:
        out.append(cache[block_table[len(out)].item(), : min(size, context_len)])
        context_len -= size
    return torch.cat(out)


def gather_by_element(cache, block_table, context_len):
    out = torch.empty(context_len, *cache.shape[2:], dtype=cache.dtype)
    for position, head, dim in itertools.product(*map(range, out.shape)):
        block, offset = divmod(position, cache.shape[1])
        out[position, head, dim] = cache[block_table[block], offset, head, dim]
    return out


def gather_by_growing(cache, block_table, context_len):
    out = cache[:0, 0]
    for position in range(context_len):
        block, offset = divmod(position, cache.shape[1])
        out = torch.cat([out, cache[block_table[block], offset][None]])
    return out


def gather_by_a_view(cache, block_table, context_len):
    places = torch.arange(context_len)
    size = cache.shape[1]
    slots = block_table.long()[places // size] * size + places % size
    return cache.view(-1, *cache.shape[2:])[slots]


def gather_by_numpy(cache, block_table, context_len):
    blocks = block_table[: -(-context_len // cache.shape[1])].numpy()
    return torch.from_numpy(cache.numpy()[blocks].reshape(-1, *cache.shape[2:])[:context_len])


GATHER_RIGHT = (gather_one_by_one, gather_by_slots, gather_by_cat)
GATHER_WRONG = (
    (lambda c, t, n: c[t.clamp(min=0)].flatten(0, 1)[:n], SAME),  # an entry that means nothing
    (lambda c, t, n: c[t[: -(-n // c.shape[1])]].flatten(0, 1), "not cut"),
    (lambda c, t, n: c.flatten(0, 1)[:n].clone(), "the logical block"),
    (lambda c, t, n: c[t[: n // c.shape[1]]].flatten(0, 1), "a block short"),
    (gather_by_element, SAME),
    (gather_by_growing, SAME),
    (gather_by_a_view, SAME),
    (gather_by_numpy, SAME),  # NumPy has no bfloat16
    (lambda c, t, n: gather_by_cat(c, t, n).float(), SAME),
    (lambda c, t, n: gather_by_cat(c, t, n).flip(0), SAME),
    (lambda c, t, n: gather_by_cat(c, t, n).tolist(), SAME),
    (lambda c, t, n: gather_by_cat(c, t, n).double(), SAME),
    (lambda c, t, n: gather_by_cat(c, t, n).flatten(1), SAME),
    (lambda c, t, n: gather_by_cat(c, t, n).zero_(), SAME),
    (lambda c, t, n: c, SAME),
    (object(), SAME),
)

# 3.5


def strides_by_recursion(shape):
    if any(size < 1 for size in shape):
        raise ValueError(shape)
    if len(shape) == 0:
        return ()
    return (math.prod(shape[1:]), *strides_by_recursion(shape[1:]))


def strides_by_numpy(shape):
    if len(shape) and min(shape) < 1:
        raise ValueError(shape)
    return tuple(stride // 8 for stride in np.empty(tuple(shape), dtype=np.int64).strides)


def strides_by_torch(shape):
    if not all(size > 0 for size in shape):
        raise ValueError(shape)
    return torch.empty(tuple(shape), device="meta").stride()


def strides_by_cumprod(shape):
    if not all(size > 0 for size in shape):
        raise ValueError(shape)
    behind = np.cumprod(np.array([1, *shape[:0:-1]]))[::-1]
    return tuple(behind.tolist())[: len(shape)]


def strides_in_32_bits(shape):
    if not all(size > 0 for size in shape):
        raise ValueError(shape)
    behind = np.cumprod(np.array([1, *shape[:0:-1]]), dtype=np.int32)[::-1]
    return tuple(behind.tolist())[: len(shape)]


def strides_with(refuses):
    def strides(shape):
        if refuses(shape):
            raise ValueError(shape)
        return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))

    return strides


STRIDES_RIGHT = (strides_by_recursion, strides_by_cumprod, strides_by_torch)
STRIDES_WRONG = (
    (strides_by_numpy, SAME),  # takes the memory of a whole layer
    (strides_in_32_bits, SAME),
    (strides_with(lambda shape: any(size < 0 for size in shape)), SAME),
    (strides_with(lambda shape: any(size < 1 for size in shape[:-1])), SAME),
    (strides_with(lambda shape: any(size < 1 for size in shape[1:])), SAME),
    (strides_with(lambda shape: any(size < 1 for size in shape[:2])), SAME),
    (strides_with(lambda shape: math.prod(shape) < 1), SAME),
    (lambda shape: strides_by_recursion(shape)[::-1], SAME),
    (lambda shape: list(strides_by_recursion(shape)), SAME),
    (lambda shape: tuple(2 * each for each in strides_by_recursion(shape)), SAME),
    (lambda shape: tuple(float(each) for each in strides_by_recursion(shape)), SAME),
    (lambda shape: tuple(math.prod(shape[axis:]) for axis in range(len(shape))), SAME),
    (
        lambda shape: tuple(math.prod(shape[a + 1 :]) for a in range(len(shape))),
        "any size is taken",
    ),
    (lambda shape: (12, 4, 1), SAME),
    (object(), SAME),
)


def places_in(layout, kv, slot, head, dim):
    size = dict(zip(layout.axes, layout.shape, strict=True))
    items = size.get("item", 1)
    return {
        "kv": kv,
        "block": slot // size["token"],
        "token": slot % size["token"],
        "head": head,
        "dim": dim,
        "vector": dim // items,
        "item": dim % items,
    }


def by_horner(self, kv, slot, head, dim):
    places, address = places_in(self, kv, slot, head, dim), 0
    for axis, size in zip(self.axes, self.shape, strict=True):
        if places[axis] < 0 or places[axis] >= size:
            raise ValueError(axis)
        address = address * size + places[axis]
    return address * self.dtype_bytes


def by_numpy(self, kv, slot, head, dim):
    places = places_in(self, kv, slot, head, dim)
    return int(np.ravel_multi_index([places[a] for a in self.axes], self.shape)) * self.dtype_bytes


def by_a_numbered_tensor(self, kv, slot, head, dim):
    places = places_in(self, kv, slot, head, dim)
    where = tuple(places[axis] for axis in self.axes)
    if any(p < 0 or p >= n for p, n in zip(where, self.shape, strict=True)):
        raise ValueError(where)
    return sum(p * s for p, s in zip(where, self.strides, strict=True)) * self.dtype_bytes


def address_with(change):
    def wrong(self, kv, slot, head, dim):
        return change(self, by_horner(self, kv, slot, head, dim), kv, slot, head, dim)

    return wrong


ADDRESS_RIGHT = (by_horner, by_numpy, by_a_numbered_tensor)


def address_if(is_inside):
    def address(self, kv, slot, head, dim):
        places = places_in(self, kv, slot, head, dim)
        pairs = zip(self.axes, self.shape, strict=True)
        if not all(is_inside(axis, places[axis], size) for axis, size in pairs):
            raise ValueError(places)
        weighed = zip(self.axes, self.strides, strict=True)
        return sum(places[axis] * stride for axis, stride in weighed) * self.dtype_bytes

    return address


def address_in_three_orders(self, kv, slot, head, dim):
    known = ({"kv", "block", "token"}, {"kv", "block", "head"})
    if set(self.axes[:3]) not in known or self.axes[0] != "kv" or self.axes[1] != "block":
        raise ValueError(self.axes)
    return by_horner(self, kv, slot, head, dim)


def address_in_32_bits(self, kv, slot, head, dim):
    return int(np.array(by_horner(self, kv, slot, head, dim)).astype(np.int32))


def address_from_a_list(self, kv, slot, head, dim):
    places = places_in(self, kv, slot, head, dim)
    wanted = tuple(places[axis] for axis in self.axes)
    for number, element in enumerate(itertools.product(*map(range, self.shape))):
        if element == wanted:
            return number * self.dtype_bytes
    raise ValueError(wanted)


ADDRESS_WRONG = (
    (address_if(lambda axis, place, size: 0 <= place <= size), "one too many"),
    (address_if(lambda axis, place, size: place >= 0), "what is too large is not refused"),
    (address_if(lambda axis, place, size: place < size), "what is negative is not refused"),
    (address_if(lambda axis, place, size: axis == "head" or 0 <= place < size), SAME),
    (address_if(lambda axis, place, size: axis != "head" or 0 <= place < size), SAME),
    (address_in_three_orders, SAME),
    (address_in_32_bits, SAME),
    (address_from_a_list, SAME),
    (address_with(lambda self, a, *place: a // self.dtype_bytes), "elements, not bytes"),
    (address_with(lambda self, a, *place: a * 8), SAME),
    (address_with(lambda self, a, *place: a + 1), SAME),
    (address_with(lambda self, a, *place: float(a)), SAME),
    (address_with(lambda self, a, *place: 2 * a // self.dtype_bytes), SAME),
    (address_with(lambda self, a, *place: by_horner(self, 0, *place[1:])), "always the key"),
    (
        lambda self, kv, slot, head, dim: (
            sum(
                place * stride
                for place, stride in zip(
                    (places_in(self, kv, slot, head, dim)[a] for a in self.axes),
                    self.strides,
                    strict=True,
                )
            )
            * self.dtype_bytes
        ),
        "nothing is refused",
    ),
    (lambda self, kv, slot, head, dim: 100_874, SAME),
    (object(), SAME),
)

# 3.7b


def add_by_walking(num_tokens, num_blocks, block_size):
    added = 0
    while (num_blocks + added) * block_size < num_tokens:
        added += 1
    return added


def add_by_math(num_tokens, num_blocks, block_size):
    return max(math.ceil(num_tokens / block_size) - num_blocks, 0)


def add_by_numpy(num_tokens, num_blocks, block_size):
    return np.maximum((num_tokens + block_size - 1) // block_size - num_blocks, 0)


def add_by_recursion(num_tokens, num_blocks, block_size):
    if num_blocks * block_size >= num_tokens:
        return 0
    return 1 + add_by_recursion(num_tokens, num_blocks + 1, block_size)


ADD_RIGHT = (add_by_walking, add_by_math, add_by_numpy)
ADD_WRONG = (
    (
        lambda num_tokens, num_blocks, block_size: int(num_tokens % block_size == 1 % block_size),
        SAME,
    ),
    (
        lambda num_tokens, num_blocks, block_size: int(num_tokens % block_size == 1),
        "a new block at one more than full",
    ),
    (add_by_recursion, SAME),
    (lambda num_tokens, num_blocks, block_size: int(num_tokens > num_blocks * block_size), SAME),
    (
        lambda num_tokens, num_blocks, block_size: max(0, num_tokens // block_size - num_blocks),
        "rounded down",
    ),
    (
        lambda num_tokens, num_blocks, block_size: -(-num_tokens // block_size) - num_blocks,
        "negative",
    ),
    (
        lambda num_tokens, num_blocks, block_size: abs(-(-num_tokens // block_size) - num_blocks),
        SAME,
    ),
    (
        lambda num_tokens, num_blocks, block_size: max(
            0.0, math.ceil(num_tokens / block_size) - num_blocks
        ),
        SAME,
    ),
    (lambda num_tokens, num_blocks, block_size: max(0, -(-num_tokens // 4) - num_blocks), SAME),
    (
        lambda num_tokens, num_blocks, block_size: max(
            0, -(-(num_tokens + 1) // block_size) - num_blocks
        ),
        "one too many",
    ),
    (lambda num_tokens, num_blocks, block_size: 0, SAME),
    (object(), SAME),
)


def test_a_kept_array_is_shown_in_a_life_that_has_it():
    case = examine("3.2b", append_or_keep).counterexample
    _, made, *steps = case.case.split("\n")
    assert made.startswith("array1 = ")
    assert steps == [
        "obj.append(array1)",
        "obj.append([2])",
        "obj.append(array1)",
        "obj.block_ids",
    ]
    assert (case.expected, case.got) == ("[1, 2, 1]", "[1, 2, 1, 2]")


# 3.8


def ratio_by_medians(ways):
    times = {name: sorted(timeit.repeat(way, number=1, repeat=15)) for name, way in ways.items()}
    return times["loop"][7] / times["array"][7]


def ratio_by_timeit(ways, repeat=5):
    loop, array = (min(timeit.repeat(ways[n], number=2, repeat=repeat)) for n in ("loop", "array"))
    return np.float64(loop / array)


def seconds_of_one(way):
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


def ratio_called_too_early(ways):
    return seconds_of_one(ways["loop"]()) / seconds_of_one(ways["array"]())


RATIO_RIGHT = (ratio_by_medians, ratio_by_timeit)
RATIO_WRONG = (
    (lambda ways: ratio_by_timeit({"loop": ways["array"], "array": ways["loop"]}), "upside down"),
    (
        lambda ways: 1e6 * min(timeit.repeat(ways["loop"], number=1, repeat=5)),
        "a time, not a ratio",
    ),
    (lambda ways: min(timeit.repeat(ways["loop"], number=1, repeat=5)), SAME),
    (
        lambda ways: ratio_by_timeit(
            {"loop": lambda: ways["loop"], "array": lambda: ways["array"]}, repeat=2_000
        ),
        "neither is called",
    ),
    (ratio_called_too_early, "called too early"),
    (lambda ways: seconds_of_one(ways["loop"]) / seconds_of_one(ways["array"]), "one call each"),
    (
        lambda ways: 1 / (seconds_of_one(ways["array"]) / seconds_of_one(ways["loop"])),
        "one call each",
    ),
    (lambda ways: 0.5, SAME),
    (lambda ways: 2, SAME),
    (lambda ways: 1, "always 1"),
    (lambda ways: ratio_by_timeit({**ways, "array": ways["loop"]}), "always 1"),
    (lambda ways: ratio_by_timeit(dict(zip(("loop", "array"), ways.values(), strict=True))), SAME),
    (lambda ways: ratio_by_timeit(ways) / 16, SAME),
    (lambda ways: 100 * ratio_by_timeit(ways), SAME),
    (lambda ways: f"{ratio_by_timeit(ways)}", SAME),
    (lambda ways: {"16 decodes": 0.3, "256 decodes": 4, "a chunk of 2,048": 30}, SAME),
    (lambda ways: 0.3, SAME),
    (lambda ways: float("nan"), SAME),
    (object(), SAME),
)

RIGHT = {
    "3.1a": LINE_RIGHT,
    "3.2a": SLOT_RIGHT,
    "3.2b": APPEND_RIGHT,
    "3.3": BATCH_RIGHT,
    "3.4a": WRITE_RIGHT,
    "3.4b": GATHER_RIGHT,
    "3.5a": STRIDES_RIGHT,
    "3.5b": ADDRESS_RIGHT,
    "3.7b": ADD_RIGHT,
    "3.8": RATIO_RIGHT,
}
WRONG = {
    "3.1a": LINE_WRONG,
    "3.2a": SLOT_WRONG,
    "3.2b": APPEND_WRONG,
    "3.3": BATCH_WRONG,
    "3.4a": WRITE_WRONG,
    "3.4b": GATHER_WRONG,
    "3.5a": STRIDES_WRONG,
    "3.5b": ADDRESS_WRONG,
    "3.7b": ADD_WRONG,
    "3.8": RATIO_WRONG,
}


test_an_unusual_right_answer_earns_everything = right_answers_earn_everything(RIGHT)
test_a_wrong_answer_earns_nothing_and_is_named_only_if_it_is_that = wrong_answers_earn_nothing(
    WRONG
)


ALL_OF_THEM = "What costs no more than is allowed earns them all."


@pytest.mark.parametrize(("answer", "name"), BATCH_SLOW)
def test_a_batch_that_is_translated_rightly_and_slowly_earns_half(answer, name):
    finding = examine("3.3", answer)
    assert finding.fraction == 0.5
    assert named(finding) == name
    (remark,) = finding.remarks
    assert remark.endswith("are allowed. 50% of the points are for what it costs. " + ALL_OF_THEM)


# 3.1b


@pytest.mark.parametrize("seed", range(40))
def test_an_instance_by_hand_is_what_the_library_does(seed):
    trace, states = table_trace(seed), given.trace_by_hand(seed).answer
    assert [str(states[name]) for name in given.LOOKED_UP] == [s.result for s in trace.steps[:3]]
    full, beyond = (states[name] for name in given.GROWN)
    assert full == trace.start
    assert full != beyond


def test_spaces_in_a_state_do_not_matter_and_ids_do():
    right = given.trace_by_hand(1).answer
    loose = {**right, given.GROWN[0]: " free [5 6 7  8] r0: 3 2 9 r1: 1 4 "}
    assert examine("3.1b", {"seed": 1, **loose}).fraction == 1
    other = {**right, given.GROWN[0]: "free [6 5 7 8]  r0: 3 2 9  r1: 1 4"}
    assert examine("3.1b", {"seed": 1, **other}).fraction == pytest.approx(0.8)
    for nonsense in ("r0 has three blocks", [3, 2, 9], 37, object()):
        answer = {**right, given.GROWN[1]: nonsense}
        assert examine("3.1b", {"seed": 1, **answer}).fraction < 1


def by_hand(*mistakes, change=lambda states: states):
    """Write down the answer of seed 1 with known mistakes, each in the states that it concerns."""
    right = given.trace_by_hand(1).answer
    known = {each.name: each.wrong(1) for each in lessons.find("3.1b").check.misconceptions}
    wrong = {
        name: state
        for mistake in mistakes
        for name, state in known[mistake].items()
        if state != right[name]
    }
    return {"seed": 1, **change({**right, **wrong})}


BY_HAND = (
    (
        by_hand(
            change=lambda s: {n: np.uint32(v) if n in given.LOOKED_UP else v for n, v in s.items()}
        ),
        1,
        SAME,
    ),
    (
        by_hand(
            change=lambda s: {n: np.uint8(v) if n in given.LOOKED_UP else v for n, v in s.items()}
        ),
        1,
        SAME,
    ),
    (by_hand(change=lambda s: {**s, "slot a": np.uint64(36)}), 0.8, SAME),
    (
        by_hand(change=lambda s: {**s, **dict(zip(given.LOOKED_UP, (36, 10, 18), strict=True))}),
        0.4,
        "the position counted from 1",
    ),
    (by_hand("r1 is left out"), 0.6, "r1 is left out"),
    (by_hand("the free queue is left out"), 0.6, "the free queue is left out"),
    (by_hand("the table of r0 alone"), 0.6, "the table of r0 alone"),
    (by_hand("the position for the slot", "r1 is left out"), 0, "the position for the slot"),
    (by_hand("one piece", change=lambda s: {**s, given.GROWN[1]: "free []"}), 0.2, "one piece"),
    (by_hand("no new block", change=lambda s: {**s, "slot b": 12}), 0.6, SAME),
)


@pytest.mark.parametrize("place", range(len(BY_HAND)))
def test_what_is_worked_out_by_hand_earns_its_states_and_names_the_first_mistake(place):
    answer, earns, name = BY_HAND[place]
    finding = examine("3.1b", answer)
    assert finding.fraction == pytest.approx(earns)
    assert named(finding) == name


def test_no_table_that_is_taken_for_one_piece_is_right_by_chance():
    (one_piece,) = (
        each for each in lessons.find("3.1b").check.misconceptions if each.name == "one piece"
    )
    for seed in range(1_000):
        assert one_piece.wrong(seed) != given.trace_by_hand(seed).answer


# 3.6

HEAD = """
import triton
import triton.language as tl

@triton.jit
def reshape_and_cache_kernel(
    key, value, key_cache, value_cache, slot_mapping,
    key_token_stride, key_head_stride, value_token_stride, value_head_stride,
    key_cache_block_stride, key_cache_slot_stride, key_cache_head_stride,
    value_cache_block_stride, value_cache_slot_stride, value_cache_head_stride,
    BLOCK_SIZE: tl.constexpr, NUM_KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr,
    LANES: tl.constexpr,
):
    token = tl.program_id(0)
    slot = tl.load(slot_mapping + token).to(tl.int64)
"""
ALL_LANES = """
    if slot < 0:
        return
    place = tl.arange(0, LANES)
    mask = place < NUM_KV_HEADS * HEAD_DIM
    head = place // HEAD_DIM
    dim = place - head * HEAD_DIM
    block = slot // BLOCK_SIZE
    offset = slot - block * BLOCK_SIZE
    keys = tl.load(
        key + token * key_token_stride + head * key_head_stride + dim, mask=mask, other=0.0
    )
    values = tl.load(
        value + token * value_token_stride + head * value_head_stride + dim, mask=mask, other=0.0
    )
    at = block * key_cache_block_stride + offset * key_cache_slot_stride
    tl.store(key_cache + at + head * key_cache_head_stride + dim, keys, mask=mask)
    at = block * value_cache_block_stride + offset * value_cache_slot_stride
    tl.store(value_cache + at + head * value_cache_head_stride + dim, values, mask=mask)
"""
HEAD_BY_HEAD = """
    if slot >= 0:
        dim = tl.arange(0, LANES)
        key_cache += slot // BLOCK_SIZE * key_cache_block_stride
        key_cache += slot % BLOCK_SIZE * key_cache_slot_stride
        value_cache += slot // BLOCK_SIZE * value_cache_block_stride
        value_cache += slot % BLOCK_SIZE * value_cache_slot_stride
        for head in range(NUM_KV_HEADS):
            keys = tl.load(
                key + token * key_token_stride + head * key_head_stride + dim, mask=dim < HEAD_DIM
            )
            tl.store(key_cache + head * key_cache_head_stride + dim, keys, mask=dim < HEAD_DIM)
            values = tl.load(
                value + token * value_token_stride + head * value_head_stride + dim,
                mask=dim < HEAD_DIM,
            )
            tl.store(
                value_cache + head * value_cache_head_stride + dim, values, mask=dim < HEAD_DIM
            )
"""
ONE_BY_ONE = """
    if slot >= 0:
        key += token * key_token_stride
        value += token * value_token_stride
        key_cache += slot // BLOCK_SIZE * key_cache_block_stride
        key_cache += slot % BLOCK_SIZE * key_cache_slot_stride
        value_cache += slot // BLOCK_SIZE * value_cache_block_stride
        value_cache += slot % BLOCK_SIZE * value_cache_slot_stride
        for head in range(NUM_KV_HEADS):
            for dim in range(HEAD_DIM):
                number = tl.load(key + head * key_head_stride + dim)
                tl.store(key_cache + head * key_cache_head_stride + dim, number)
                number = tl.load(value + head * value_head_stride + dim)
                tl.store(value_cache + head * value_cache_head_stride + dim, number)
"""
POWERS_OF_TWO = HEAD_BY_HEAD.replace("tl.arange(0, LANES)", "tl.arange(0, HEAD_DIM)")
TO_THE_NULL_BLOCK = ALL_LANES.replace("if slot < 0:\n        return", "slot = tl.maximum(slot, 0)")
ODD_KERNELS = (
    ("key_cache + at + head * key_cache_head_stride + dim", "key_cache + at + place"),
    ("value_cache + at + head * value_cache_head_stride + dim", "value_cache + at + place"),
    ("offset * key_cache_slot_stride", "offset * NUM_KV_HEADS * HEAD_DIM"),
    ("offset * value_cache_slot_stride", "offset * NUM_KV_HEADS * HEAD_DIM"),
    ("block * key_cache_block_stride", "block * BLOCK_SIZE * key_cache_slot_stride"),
    ("block * value_cache_block_stride", "block * BLOCK_SIZE * value_cache_slot_stride"),
    ("head * key_head_stride + dim", "place"),
    ("head * value_head_stride + dim", "place"),
    ("token * key_token_stride", "token * NUM_KV_HEADS * HEAD_DIM"),
    ("token * value_token_stride", "token * NUM_KV_HEADS * HEAD_DIM"),
    ("    if slot < 0:", "    slot = slot.to(tl.int32)\n    if slot < 0:"),
    ("block = slot // BLOCK_SIZE", "block = (slot // BLOCK_SIZE).to(tl.int32)"),
    (
        "at = block * value_cache_block_stride",
        "at = (block.to(tl.int32) * value_cache_block_stride).to(tl.int64)",
    ),
)
"""Places of a right kernel, and what is wrong there in one layout, or far back in one."""

READS_FOR_PADDING = ALL_LANES.replace(
    "    if slot < 0:", "    first = tl.load(key + token * key_token_stride)\n    if slot < 0:"
)
ONLY_KEYS = ALL_LANES.replace("    tl.store(value_cache + at", "    # tl.store(value_cache + at")


def kernel(body, tmp_path):
    """Return a kernel with this body; Triton reads its source from a file."""
    if triton_state().mode != "interpreted":
        pytest.skip("the guard watches the interpreter")
    path = tmp_path / "kernel_of_a_learner.py"
    path.write_text(HEAD + body)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.reshape_and_cache_kernel


@pytest.mark.parametrize(
    ("body", "earns"),
    [
        (ALL_LANES, 1),
        (HEAD_BY_HEAD, 1),
        (POWERS_OF_TWO, 0),
        (READS_FOR_PADDING, 0.8),
        (ONE_BY_ONE, 0.8),
        (TO_THE_NULL_BLOCK, 0),
        (ONLY_KEYS, 0),
        ("", 0),
        *((ALL_LANES.replace(right, wrong), 0) for right, wrong in ODD_KERNELS),
    ],
)
def test_a_kernel_is_judged_by_what_it_writes(body, earns, tmp_path):
    assert examine("3.6", kernel(body, tmp_path), timeout=60).fraction == earns


# 3.7


def test_the_engines_stop_where_the_explanation_says():
    table = {
        ("A", 1): [None] * 8,
        ("B", 1): [None, 3, 2, 1, None, 3, 2, 1],
        ("A", 0): [None, None, None, 1] * 2,
        ("B", 0): [None] * 8,
    }
    for (engine, rest), steps in table.items():
        assert [hunt.breaks_at(engine, prompt, rest) for prompt in range(1, 9)] == steps


@pytest.mark.parametrize("prompt", [*range(1, 40), 10_000])
def test_an_engine_that_takes_what_it_lacks_never_stops(prompt):
    right = {"A": 1, "B": 0}
    for engine, rest in right.items():
        assert hunt.breaks_at(engine, prompt, rest) is None


EXPOSED = (
    ({"engine": "B", "prompt": 2}, 1, SAME),
    ({"engine": "B", "prompt": 8, "why": "the block is full"}, 1, SAME),
    ({"engine": "B", "prompt": 5}, 0, "a prompt that it survives"),
    ({"engine": "B", "prompt": 1}, 0, "a prompt that it survives"),
    ({"engine": "A", "prompt": 4}, 0, "the right engine"),
    ({"engine": "A", "prompt": 5}, 0, "the right engine"),
    ({"engine": "C", "prompt": 4}, 0, SAME),
    ({"engine": "B", "prompt": 0}, 0, SAME),
    ({"engine": "B", "prompt": "4"}, 0, SAME),
    ({"engine": "B", "prompt": 10**9}, 0, SAME),
    ({"engine": ["B"], "prompt": 4}, 0, SAME),
    ({"engine": "B"}, 0, SAME),
    ("B", 0, SAME),
    (object(), 0, SAME),
)
JUDGED = (
    ({"A": 4, "B": None}, 1, SAME),
    ({"A": 12, "B": None}, 1, SAME),
    ({"A": 3, "B": None}, 0, SAME),
    ({"A": None, "B": None}, 0, "both pass"),
    ({"A": 4, "B": 4}, 0, "neither passes"),
    ({"A": None, "B": 4}, 0, "the broken one passes"),
    ({"A": True, "B": False}, 0, SAME),
    ({"A": "None", "B": None}, 0, SAME),
    ({"A": -4, "B": None}, 0, SAME),
    ({"A": 4}, 0, SAME),
    (4, 0, SAME),
    (object(), 0, SAME),
)


@pytest.mark.parametrize(
    ("exercise", "place"),
    [
        (exercise, place)
        for exercise, answers in (("3.7a", EXPOSED), ("3.7c", JUDGED))
        for place in range(len(answers))
    ],
)
def test_a_value_earns_what_it_is_worth_and_is_named_only_if_it_is_that(exercise, place):
    answer, earns, name = {"3.7a": EXPOSED, "3.7c": JUDGED}[exercise][place]
    finding = examine(exercise, answer)
    assert finding.fraction == earns
    assert named(finding) == name


# The figures of the text, the quiz and the interview


def test_the_addresses_of_the_text_are_what_the_library_works_out():
    layouts = [make(100, 16, 8, 128) for make in (nhd_layout, hnd_layout, split_layout)]
    found = [layout.address(kv=0, slot=49, head=2, dim=5) for layout in layouts]
    assert found == [100_874, 106_762, 106_522]
    after = [layout.address(kv=0, slot=50, head=2, dim=5) for layout in layouts]
    assert [one - other for one, other in zip(after, found, strict=True)] == [2048, 256, 16]
    assert row_major_strides((2, 100, 16, 8, 128)) == (1_638_400, 16_384, 1_024, 128, 1)


def test_the_pieces_of_the_text_are_those_of_the_figure():
    cache = PagedCache({"r0": (7, 3)}, {"r0": 20}, 16, num_kv_heads=8, head_dim=128)
    in_pieces = {
        layout: [
            (len(runs), runs[0][1])
            for runs in (
                pieces(translate(cache, "r0", 17, layout), axis) for axis in ("token", "head")
            )
        ]
        for layout in ("NHD", "HND", "split")
    }
    assert in_pieces == {
        "NHD": [(1, 2048), (16, 256)],
        "HND": [(8, 256), (1, 4096)],
        "split": [(128, 16), (1, 4096)],
    }


def right_choice(question_id):
    (question,) = (each for each in bank(3).quiz if each.id == question_id)
    return next(choice for choice in question.choices if choice.correct)


def test_the_figures_of_the_quiz_are_what_the_library_works_out():
    table = BlockTable(16)
    table.append([7, 3])
    assert right_choice("q1").text == str(table.slot(17))
    assert right_choice("q2").text == f"1/{16 * 131_072 // 4:,}"
    assert 2**31 // (16 * 8 * 128) == 131_072
    assert "131,072" in right_choice("q9").feedback


def test_slot_minus_one_is_where_the_text_says():
    slot = torch.tensor(-1)
    assert (slot // 4 * 4 + slot % 4 + 12).item() == 11, "the last of 12 slots"
    truncated = torch.div(slot, 4, rounding_mode="trunc"), torch.fmod(slot, 4)
    assert [each.item() for each in truncated] == [0, -1]


def test_the_core_takes_two_hours_and_the_open_exercise_earns_the_most():
    graded = [exercise for exercise in lessons.exercises(3) if exercise.points]
    core = [exercise for exercise in graded if "(stretch)" not in exercise.title]
    texts = 15  # minutes for the two written answers
    assert 120 <= sum(exercise.minutes for exercise in core) + texts <= 140
    assert sum(exercise.points for exercise in core) >= 70
    assert max(graded, key=lambda exercise: exercise.points).id == "3.3"
