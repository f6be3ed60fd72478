"""Which chip is which from one state of a pool to the next.

A *chip* is one place in which a block stands: in the free queue, or in the table of a request. A
block that two requests hold has two chips.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from course_lib.kv_cache.watch.notation import BlockMark, StateLine

Record: TypeAlias = Mapping[str, Any]
"""A state as ``snapshot_blocks`` returns it, and what ``Recorder`` adds to it.

Parts that an object does not have are missing: ``blocks``, ``free_queue`` or ``tables``. A
scheduler has ``requests`` besides: the requests of each of its lists, such as ``"waiting"``, as
pairs of a name and how far it is. A failing case adds ``facts``: texts, by what each is about.
"""

QUEUE = ""
"""The holder of the chips in the free queue."""


_LONGEST_RUN = 24
"""Blocks of a queue or a table that are written one by one; of more, the middle is left out."""


@dataclass(frozen=True, slots=True)
class Chip:
    """One place in which a block stands.

    Attributes:
        mark: The block as the state notation writes it.
        state: The block's state, as a key of the palette.
        holder: The request whose table it is in; ``QUEUE`` in the free queue.
        key: Its name, which it keeps while the block moves.
        origin: The chip that it was copied from, where a block gained a holder.
    """

    mark: BlockMark
    state: str
    holder: str
    key: str
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """A state with its chips.

    Attributes:
        record: The state.
        line: The state in one line of text, the middle of what is long left out.
        chips: The chips of each holder, in order; the free queue is always among them.
        lanes: A number for each table, from 0. A request keeps it for as long as it holds blocks,
            and the next one may then have it.
    """

    record: Record
    line: str
    chips: Mapping[str, tuple[Chip, ...]]
    lanes: Mapping[str, int]

    def every_chip(self) -> Iterator[Chip]:
        """Yield the chips of all holders."""
        return chain.from_iterable(self.chips.values())


class _Place(NamedTuple):
    """Where a chip stands; ``number`` counts a block that stands there more than once."""

    holder: str
    block_id: int
    number: int


def follow(records: Iterable[Record]) -> Iterator[Placed]:
    """Yield each state with chips that keep their keys from one state to the next.

    A chip that leaves the queue for a table is the same chip, and comes back as such. Where a block
    gains a holder, the new chip is a copy of one that was there.

    >>> from course_lib.kv_cache import BlockPool, Recorder
    >>> pool = BlockPool(num_blocks=3)
    >>> with Recorder(pool) as recorder:
    ...     blocks = pool.get_new_blocks(1)
    >>> [[(chip.holder, chip.key) for chip in at.every_chip()] for at in follow(recorder.frames)]
    [[('', 'chip-1'), ('', 'chip-2')], [('', 'chip-2'), ('held', 'chip-1')]]
    """
    keys: dict[_Place, str] = {}
    lanes: dict[str, int] = {}
    num_made: defaultdict[int, int] = defaultdict(int)
    for record in records:
        line = StateLine.of_frame(_complete(record))
        if record.get("free_queue") is None:
            line = replace(line, free=None)
        marks = dict(_places(line))
        keys, origins = _passed_on(keys, list(marks), num_made)
        lanes = _lanes(lanes, line.tables)
        states = {block["block_id"]: block["state"] for block in record.get("blocks", ())}
        chips: dict[str, list[Chip]] = {holder: [] for holder in (QUEUE, *line.tables)}
        for place, mark in marks.items():
            state = states.get(place.block_id, "in_use" if place.holder else "free")
            chip = Chip(mark, state, place.holder, keys[place], origins.get(place, ""))
            chips[place.holder].append(chip)
        of_holder = {holder: tuple(those) for holder, those in chips.items()}
        yield Placed(record, abridged(line), of_holder, lanes)


def _complete(record: Record) -> dict[str, Any]:
    """Return the state with every part that the notation reads.

    A queue or a table alone says nothing of its blocks but their ids.
    """
    blocks = list(record.get("blocks", ()))
    free_queue = list(record.get("free_queue") or ())
    tables = dict(record.get("tables", {}))
    known = {block["block_id"] for block in blocks}
    mentioned = dict.fromkeys(free_queue + [each for table in tables.values() for each in table])
    blocks += [
        {"block_id": block_id, "hash": None, "ref_cnt": 0}
        for block_id in mentioned
        if block_id not in known
    ]
    return {"blocks": blocks, "free_queue": free_queue, "tables": tables}


def _places(line: StateLine) -> Iterator[tuple[_Place, BlockMark]]:
    """Yield every place in which a block stands."""
    for holder, marks in {QUEUE: line.free or (), **line.tables}.items():
        counts: defaultdict[int, int] = defaultdict(int)
        for mark in marks:
            yield _Place(holder, mark.block_id, counts[mark.block_id]), mark
            counts[mark.block_id] += 1


def _passed_on(
    before: Mapping[_Place, str], places: list[_Place], num_made: defaultdict[int, int]
) -> tuple[dict[_Place, str], dict[_Place, str]]:
    """Return the key of the chip in each place, and the origins of those that are copies."""
    still = set(places)
    of_block: defaultdict[int, list[str]] = defaultdict(list)
    on_the_move: defaultdict[int, list[str]] = defaultdict(list)
    for place, key in before.items():
        of_block[place.block_id].append(key)
        if place not in still:
            on_the_move[place.block_id].append(key)
    keys, origins = {}, {}
    for place in places:
        block_id = place.block_id
        if place in before:
            keys[place] = before[place]
        elif on_the_move[block_id]:
            keys[place] = on_the_move[block_id].pop(0)
        else:
            number = num_made[block_id]
            num_made[block_id] += 1
            keys[place] = f"chip-{block_id}" + (f"-copy-{number}" if number else "")
            if of_block[block_id]:
                origins[place] = of_block[block_id][0]
    return keys, origins


def _lanes(before: Mapping[str, int], tables: Iterable[str]) -> dict[str, int]:
    """Return a number for each table: its own from before, or else the smallest that is free."""
    lanes = {name: before[name] for name in tables if name in before}
    for name in tables:
        if name not in lanes:
            taken = set(lanes.values())
            lanes[name] = next(number for number in range(len(taken) + 1) if number not in taken)
    return lanes


def abridged(line: StateLine) -> str:
    """Return a state in one line, the middle of long queues and tables left out and counted.

    >>> print(abridged(StateLine.parse(f"free [{' '.join(map(str, range(1, 40)))}]  r0: 40")))
    free [1 2 3 4 … 33 … 38 39]  r0: 40
    """
    words: list[str] = []
    run: list[str] = []
    for word in [*str(line).split(" "), ""]:
        if re.fullmatch(r"\[?\d+\*?(\(\d+\))?\]?|\|", word):
            run.append(word)
            continue
        if len(run) > _LONGEST_RUN:
            left_out = run[4:-2]
            run[4:-2] = [f"… {len(left_out) - left_out.count('|'):,} …"]
        words += [*run, word]
        run = []
    return " ".join(words).rstrip()
