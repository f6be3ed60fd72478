"""Lesson 3: the wrong answers that people are known to give, about states, slots and tables."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from operator import index
from typing import Any

from autograder.checks.finding import Misconception
from autograder.lessons import lesson03_given as given
from course_lib.kv_cache.block_table import BlockTable, PositionError
from course_lib.kv_cache.watch.hand_traces import BLOCK_SIZE, table_trace
from course_lib.kv_cache.watch.notation import StateLine

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


def _beyond(change: Callable[[list[int], list[int]], None]) -> Callable[[int], dict[str, Any]]:
    """Work a trace out in which free queue and table of r0 become something else at 13 tokens."""

    def answer(seed: int) -> dict[str, Any]:
        states = given.states_of(table_trace(seed))
        full, beyond = given.GROWN
        line = StateLine.parse(states[full])
        free = [mark.block_id for mark in line.free or ()]
        tables = {name: [mark.block_id for mark in ids] for name, ids in line.tables.items()}
        change(free, tables["r0"])
        return {**states, beyond: given.state_line(free, tables)}

    return answer


def _from_one(ids: list[int], position: int) -> int:
    """Find the slot of the token before: the position is counted from 1."""
    return ids[(position - 1) // BLOCK_SIZE] * BLOCK_SIZE + (position - 1) % BLOCK_SIZE


def _left_out(*left: str) -> Callable[[int], dict[str, Any]]:
    """Work a trace out, and leave parts of each line out: ``"free"``, or a table's name."""

    def answer(seed: int) -> dict[str, Any]:
        states = given.states_of(table_trace(seed))
        for name in given.GROWN:
            parts = states[name].split("  ")
            states[name] = "  ".join(each for each in parts if not each.startswith(left))
        return states

    return answer


def _the_other_table(seed: int) -> dict[str, Any]:
    """Look each token up in the table of the other sequence, where that has an entry for it."""
    trace = table_trace(seed)
    tables = StateLine.parse(trace.start).tables
    states = given.states_of(trace)
    for name, step in zip(given.LOOKED_UP, trace.steps, strict=False):
        words = step.operation.split()
        other = [mark.block_id for mark in tables["r1" if words[-1] == "r0" else "r0"]]
        block, offset = divmod(int(words[3]), BLOCK_SIZE)
        if words[-1] == "r1" and block < len(other):
            states[name] = other[block] * BLOCK_SIZE + offset
    return states


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
        "the position counted from 1",
        "Positions count from 0: position 9 is the tenth token, with nine before it.",
        _by_hand(_from_one),
        hint="How many tokens stand before the one at position 9? How many blocks do they fill?",
    ),
    Misconception(
        "the block and the offset added",
        "A block has 4 slots, so block 9 begins at slot 36: multiply by 4 before you add.",
        _by_hand(lambda ids, p: ids[p // BLOCK_SIZE] + p % BLOCK_SIZE),
        hint="At which slot does block 1 begin, and at which block 2?",
    ),
    Misconception(
        "the table of r0 for r1",
        "Each sequence has a table of its own: look the tokens of r1 up in that of r1.",
        _the_other_table,
        hint="Whose token is asked for, and which part of the line is its table?",
    ),
    Misconception(
        "a block too early",
        "Three blocks hold 12 tokens. The fourth is needed for the token after them.",
        _too_early,
        hint="How many blocks of 4 do 12 tokens need, and how many does the 13th make?",
    ),
    Misconception(
        "r1 is left out",
        "A state is the whole line, with the free queue and every table: r1 is still there, and "
        "as it was.",
        _left_out("r1"),
        hint="Which parts has the line above, at the top of the task?",
    ),
    Misconception(
        "the free queue is left out",
        "A state is the whole line, and begins with the free queue: what r0 takes leaves it.",
        _left_out("free"),
        hint="Which parts has the line above, at the top of the task?",
    ),
    Misconception(
        "the table of r0 alone",
        "A state is the whole line: the free queue stands in front, and r1 is still there.",
        _left_out("free", "r1"),
        hint="Which parts has the line above, at the top of the task?",
    ),
    Misconception(
        "from the back",
        "A queue is taken from at its front: the free block that stands first is the next.",
        _beyond(lambda free, table: table.append(free.pop())),
        hint="Which block stands at the front of the free queue?",
    ),
    Misconception(
        "still in the queue",
        "A block that was taken is free no more: were it left in the queue, the next request would "
        "get it as well.",
        _beyond(lambda free, table: table.append(free[0])),
        hint="May a block stand in the queue and in a table at once?",
    ),
    Misconception(
        "in front of the table",
        "The table is in the order of the tokens, so the block of the newest stands last.",
        _beyond(lambda free, table: table.insert(0, free.pop(0))),
        hint="Entry 0 is the block of the first tokens. Of which tokens is the new block?",
    ),
    Misconception(
        "no new block",
        "Three blocks hold 12 tokens, and the 13th has no slot in them.",
        _beyond(lambda free, table: None),
        hint="How many blocks of 4 do 13 tokens need?",
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


def _of_all(ids: Any, position: int, size: int) -> int:
    slots = [block * size + offset for block in ids for offset in range(size)]
    return int(slots[position])


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
        _slot(_glued, lambda table, p: p < table.num_slots),
    ),
    Misconception(
        "nothing is refused",
        "What is too large ends in the IndexError of the list, which says nothing of positions, "
        "and what is negative gets a slot: Python counts it from the end.",
        _slot(_glued, lambda table, p: True),
    ),
    Misconception(
        "one too many",
        "Positions count from 0, so the first one without a slot is num_slots itself.",
        _slot(_glued, lambda table, p: 0 <= p <= table.num_slots),
    ),
    Misconception(
        "the list's own IndexError",
        "Behind the last block the list raises an IndexError, which says nothing of positions. A "
        "PositionError is asked for.",
        _slot(_glued, lambda table, p: p >= 0),
    ),
    Misconception(
        "the whole table is copied",
        "The slot is right, but the call made something as long as the table, here of 10,000 "
        "blocks. Read the one entry that is needed, and nothing else.",
        _slot(_of_all),
        hint="Which single entry of the table does the position need?",
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


def half_added_if_too_large(self: BlockTable, block_ids: Iterable[int]) -> None:
    """Check that all are whole and none is negative, and leave the rest to the array."""
    ids = [index(block_id) for block_id in block_ids]
    if any(block_id < 0 for block_id in ids):
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


def asked_twice(self: BlockTable, block_ids: Iterable[int]) -> None:
    """Check the ids, then ask for them once more."""
    if any(block_id < 0 for block_id in array("q", block_ids)):
        raise ValueError(block_ids)
    self.ids.extend(block_ids)


def fractions_refused(self: BlockTable, block_ids: Iterable[int]) -> None:
    """Refuse what has a fraction, and take 2.0 for 2."""
    ids = list(block_ids)
    if any(isinstance(block_id, str) or block_id != int(block_id) for block_id in ids):
        raise TypeError(ids)
    self.ids.extend(_checked(map(int, ids)))


APPEND = (
    Misconception(
        "half added",
        "After an error the ids before the bad one are in the table. The caller takes it that "
        "nothing was added, frees those blocks, and this sequence goes on writing to them.",
        half_added,
    ),
    Misconception(
        "half added, if one is not whole",
        "Negative ids are seen to; one that is not a whole number still leaves those before it in "
        "the table.",
        half_added_if_not_whole,
    ),
    Misconception(
        "half added, if one is too large",
        "What is negative or not whole is seen to; an id of more than 64 bits still leaves those "
        "before it in the table. Make an array of all ids first: nothing goes into it that would "
        "not go into the table.",
        half_added_if_too_large,
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
        "in front",
        "The sequence fills its blocks in order, so new ones stand at the end.",
        in_front,
    ),
    Misconception(
        "block 0 is refused",
        "Ids count from 0. That nobody is given the null block is the pool's rule; a table does "
        "not know of it.",
        null_refused,
    ),
    Misconception(
        "asked for twice",
        "An iterable may be one that is used up when it has been gone through, such as a "
        "generator: make a list of it first.",
        asked_twice,
    ),
    Misconception(
        "2.0 is taken for 2",
        "A float is no id, whatever its fraction: it comes of a division that should have been //.",
        fractions_refused,
    ),
)
