"""Lesson 8: known wrong ways to trace by hand, to group copies and to copy on the GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from autograder.checks.finding import Misconception
from autograder.checks.kernel import Edited
from autograder.checks.parsons import Distractor
from autograder.lessons import lesson08_given as given
from course_lib.attention.backends.arguments import check_copies
from course_lib.attention.paged import side_by_side

Pairs = Sequence[tuple[int, int]]
Groups = list[list[tuple[int, int]]]

# 8.2a

LOOKUP_LINES = (
    Distractor(
        "for block_hash in block_hashes[: num_tokens // block_size]:",
        "for block_hash in",
        "the last token too",
        "The last known token must be computed in any case: its output decides the next one. With "
        "all of it cached, there would be nothing to compute.",
    ),
    Distractor(
        "for block_hash in block_hashes:",
        "for block_hash in",
        "all full blocks",
        "Where the prompt ends with a full block, that block holds the last known token, which "
        "must be computed.",
    ),
    Distractor(
        "continue",
        "break",
        "counted behind a hole",
        "A block behind one that is missing is of no use: what is missing must be computed, and "
        "with it everything behind it.",
    ),
)

# 8.3


def _last_one_too(length: int, is_last: bool) -> int:
    return 1


def _whole_table(length: int, is_last: bool) -> int:
    return 0 if is_last else length


def _nobody(length: int, is_last: bool) -> int:
    return 0


BY_HAND = (
    Misconception(
        "the last one copies, too",
        "When all others have copies of their own, the block has one holder left, who writes into "
        "it where it is.",
        given.written_by(_last_one_too),
    ),
    Misconception(
        "the whole table is copied",
        "Only the block that is written into is copied. Full blocks are never written again, and "
        "stay shared.",
        given.written_by(_whole_table),
    ),
    Misconception(
        "nobody copies",
        "A block that others hold as well must not be written into: the token would appear in "
        "their past.",
        given.written_by(_nobody),
    ),
    Misconception(
        "the pair the wrong way round",
        "A copy is [source, destination]: from the block that others hold to the new one.",
        given.turned_round,
    ),
    Misconception(
        "the old block stays in the table",
        "The copy takes the place of the old block in the writer's table: the old one is what the "
        "others go on with.",
        given.old_ones_kept,
        hint="In which block does the writer read the tokens that were copied, from now on?",
    ),
    Misconception(
        "only the last block",
        "A table lists all blocks of the request, those that it still shares first.",
        given.last_blocks_alone,
    ),
    Misconception(
        "no block begun",
        "Count the tokens: where the writer's last block is full, the next token begins a block, "
        "the first of the free queue.",
        given.no_block_begun,
        hint="How many slots are free in the writer's last block?",
    ),
    Misconception(
        "a copy of a copy",
        "Copied is the block into which the writer would write: the one in its own table, and not "
        "the copy that somebody else has made of it and written into.",
        given.handed_on,
    ),
)

# 8.6a


def _grouped(copies: Pairs, ends: Callable[[int, int, set[int], set[int]], bool]) -> Groups:
    """Group copies; ``ends`` says whether (source, destination, read, written) ends a group."""
    groups: Groups = []
    read: set[int] = set()
    written: set[int] = set()
    for source, destination in copies:
        if not groups or ends(source, destination, read, written):
            groups.append([])
            read, written = set(), set()
        groups[-1].append((source, destination))
        read.add(source)
        written.add(destination)
    return groups


def all_at_once(block_copies: Pairs) -> Groups:
    """Make one group of all copies."""
    return [[(source, destination) for source, destination in block_copies]] if block_copies else []


def each_alone(block_copies: Pairs) -> Groups:
    """Make a group of each copy."""
    return [[(source, destination)] for source, destination in block_copies]


def write_after_read_overlooked(block_copies: Pairs) -> Groups:
    """Let a block be written that the group reads."""
    return _grouped(block_copies, lambda s, d, read, written: s in written or d in written)


def two_writes_overlooked(block_copies: Pairs) -> Groups:
    """Let a block be written twice in a group."""
    return _grouped(block_copies, lambda s, d, read, written: s in written or d in read)


def read_after_write_overlooked(block_copies: Pairs) -> Groups:
    """Let a block be read that the group writes."""
    return _grouped(block_copies, lambda s, d, read, written: d in read | written)


def only_read_after_write(block_copies: Pairs) -> Groups:
    """End a group only where a copy reads what it has written."""
    return _grouped(block_copies, lambda s, d, read, written: s in written)


def no_block_twice(block_copies: Pairs) -> Groups:
    """Let no block appear twice in a group, not even to be read."""
    return _grouped(block_copies, lambda s, d, read, written: bool({s, d} & (read | written)))


def never_forgotten(block_copies: Pairs) -> Groups:
    """Remember what earlier groups have read and written."""
    groups: Groups = []
    read: set[int] = set()
    written: set[int] = set()
    for source, destination in block_copies:
        if not groups or source in written or destination in read | written:
            groups.append([])
        groups[-1].append((source, destination))
        read.add(source)
        written.add(destination)
    return groups


def moved_forward(block_copies: Pairs) -> Groups:
    """Put each copy into the first group that it gets on with."""
    groups: Groups = []
    for source, destination in block_copies:
        for group in groups:
            read, written = {s for s, _ in group}, {d for _, d in group}
            if source not in written and destination not in read | written:
                group.append((source, destination))
                break
        else:
            groups.append([(source, destination)])
    return groups


GROUPS = (
    Misconception(
        "all at once",
        "Copies that are made at once run in no order: one may read a block after another has "
        "written it, or before.",
        all_at_once,
    ),
    Misconception(
        "each alone",
        "That is right, and needs one launch for each copy: (1, 2) and (1, 3) only read the same "
        "block and can be made at once.",
        each_alone,
    ),
    Misconception(
        "write after read overlooked",
        "A block that is written must not be read by an earlier copy of the same group: that copy "
        "may come late and read what is new.",
        write_after_read_overlooked,
    ),
    Misconception(
        "two writes overlooked",
        "If two copies of a group write one block, which of them is last is left to chance.",
        two_writes_overlooked,
    ),
    Misconception(
        "read after write overlooked",
        "A copy that reads what an earlier one has written must wait for it: it may come first and "
        "read what was there before.",
        read_after_write_overlooked,
    ),
    Misconception(
        "read after write only",
        "Two more orders matter: a block must not be written while an earlier copy reads it, nor "
        "written twice.",
        only_read_after_write,
    ),
    Misconception(
        "no block twice",
        "Two copies may read the same block in any order. Only a block that is written must not "
        "appear again.",
        no_block_twice,
    ),
    Misconception(
        "never forgotten",
        "A new group waits until the one before it is done, so what that one read and wrote no "
        "longer matters.",
        never_forgotten,
    ),
    Misconception(
        "moved forward",
        "A copy that joins an earlier group overtakes those in between, and one of them may read "
        "or write its blocks.",
        moved_forward,
    ),
)

# 8.6b


def copied_at_once(key_cache: Any, value_cache: Any, block_copies: Pairs) -> None:
    """Read every source before anything is written."""
    check_copies(key_cache, value_cache, block_copies)
    keys, values = key_cache.clone(), value_cache.clone()
    for source, destination in block_copies:
        key_cache[destination], value_cache[destination] = keys[source], values[source]


def keys_alone(key_cache: Any, value_cache: Any, block_copies: Pairs) -> None:
    """Copy keys, and no values."""
    check_copies(key_cache, value_cache, block_copies)
    for source, destination in block_copies:
        key_cache[destination] = key_cache[source]


def the_wrong_way(key_cache: Any, value_cache: Any, block_copies: Pairs) -> None:
    """Copy from the second block of a pair to the first."""
    check_copies(key_cache, value_cache, block_copies)
    for source, destination in block_copies:
        key_cache[source] = key_cache[destination]
        value_cache[source] = value_cache[destination]


def nothing_refused(key_cache: Any, value_cache: Any, block_copies: Pairs) -> None:
    """Let a negative id count from the end, as Python does."""
    for group in side_by_side(block_copies):
        sources, destinations = map(list, zip(*group, strict=True))
        key_cache[destinations] = key_cache[sources]
        value_cache[destinations] = value_cache[sources]


def into_a_contiguous_one(key_cache: Any, value_cache: Any, block_copies: Pairs) -> None:
    """Write into what ``contiguous`` returns."""
    check_copies(key_cache, value_cache, block_copies)
    keys, values = key_cache.contiguous(), value_cache.contiguous()
    for source, destination in block_copies:
        keys[destination], values[destination] = keys[source], values[source]


def checked_group_by_group(key_cache: Any, value_cache: Any, block_copies: Pairs) -> None:
    """Look at the ids of a group when its turn has come."""
    for group in side_by_side(block_copies):
        check_copies(key_cache, value_cache, group)
        for source, destination in group:
            key_cache[destination] = key_cache[source]
            value_cache[destination] = value_cache[source]


COPIES = (
    Misconception(
        "all at once",
        "A copy may read what an earlier one of the same list has written: go group by group.",
        copied_at_once,
    ),
    Misconception(
        "keys alone",
        "A token has a key and a value: without its values the copied block is the block of "
        "somebody else.",
        keys_alone,
    ),
    Misconception(
        "from destination to source",
        "The first number of a pair is the block to read, the second the one to write.",
        the_wrong_way,
    ),
    Misconception(
        "nothing refused",
        "An id outside the cache is an error, and is found before anything is copied; -1 is the "
        "last block only for Python.",
        nothing_refused,
    ),
    Misconception(
        "into a contiguous copy",
        "Where a cache is not contiguous in memory, `contiguous` returns a copy: what is written "
        "into that, the cache never sees.",
        into_a_contiguous_one,
    ),
    Misconception(
        "checked group by group",
        "A bad id may stand in the last group. Look at all of them first, or the groups in front "
        "have been copied when the error comes.",
        checked_group_by_group,
    ),
)

# 8.6c

_KEY_STORE = "tl.store(key_cache + destination * key_block_stride + place, numbers, mask=mask)"
_VALUE_STORE = _KEY_STORE.replace("key", "value")
_VALUE_LOAD = "tl.load(value_cache + source * value_block_stride + place, mask=mask)"
_VALUE_PLACE = "place = slot * value_slot_stride + head * value_head_stride + dim"
_KEY_PLACE = "place = slot * key_slot_stride + head * key_head_stride + dim"
_MASK = "mask = lane < BLOCK_SIZE * NUM_KV_HEADS * HEAD_DIM"
_LANE = "lane = tl.program_id(1) * LANES + tl.arange(0, LANES)"
_SOURCE = "source = tl.load(block_copies + 2 * pair).to(tl.int64)"
_DESTINATION = "destination = tl.load(block_copies + 2 * pair + 1).to(tl.int64)"

KERNEL = (
    Misconception(
        "keys only",
        "A token has a key and a value: without its values the copied block is the block of "
        "somebody else.",
        Edited(((_VALUE_STORE, ""),)),
    ),
    Misconception(
        "no mask",
        "The last program of a copy has fewer numbers left than lanes; the others reach into the "
        "next block.",
        Edited(((_MASK, "mask = lane >= 0"),)),
    ),
    Misconception(
        "from destination to source",
        "The first number of a pair is the block to read, the second the one to write.",
        Edited(
            (
                (_SOURCE, _SOURCE.replace("2 * pair", "2 * pair + 1")),
                (_DESTINATION, _DESTINATION.replace("2 * pair + 1", "2 * pair")),
            )
        ),
    ),
    Misconception(
        "only the first lanes",
        "A block may have more numbers than a program has lanes: the second index of the grid says "
        "which of them are this program's.",
        Edited(((_LANE, "lane = tl.arange(0, LANES)"),)),
    ),
    Misconception(
        "the strides of the keys for the values",
        "The two caches are tensors of their own, and each has its strides.",
        Edited(((_VALUE_PLACE, _KEY_PLACE),)),
    ),
    Misconception(
        "no stride of the values",
        "The values lie in a tensor of their own, whose strides are the arguments that begin with "
        "value_: from block to block, from slot to slot, from head to head.",
        Edited(
            (
                (_VALUE_PLACE, _KEY_PLACE),
                (_VALUE_LOAD, _VALUE_LOAD.replace("* value", "* key")),
                (_VALUE_STORE, _VALUE_STORE.replace("* value", "* key")),
            )
        ),
    ),
    Misconception(
        "a block in one piece",
        "The numbers of a block lie side by side only where its heads do: with heads outside the "
        "slots, a step from slot to slot has a stride of its own.",
        Edited(((_KEY_PLACE, "place = lane"), (_VALUE_PLACE, "place = lane"))),
    ),
    Misconception(
        "32 bits",
        "A block times its stride may not fit into 32 bits, however few the block's own number "
        "needs: multiply in 64.",
        Edited(
            (
                (_SOURCE, _SOURCE.replace(".to(tl.int64)", "")),
                (_DESTINATION, _DESTINATION.replace(".to(tl.int64)", "")),
            )
        ),
        evidence=r"(?s)\A(?!.*int64)",
    ),
)
