"""What a call did to a pool, in words: read off the states before and after it.

So a faulty pool is described as it behaves, not as it should.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from course_lib.viz.pool.chips import Record

_MOST_IDS = 8


@dataclass(frozen=True, slots=True)
class Changes:
    """What is different after a call, as ids of blocks.

    Attributes:
        taken: Blocks that were free and are held now, without what was in them.
        claimed: Blocks that were free and are held now, with the prefix that is in them.
        shared: Blocks that gained a holder besides those that they had.
        released: Blocks that lost a holder and still have one.
        to_front: Blocks that nobody holds any more, at the front of the free queue.
        to_back: Those at its back.
        queued: Those that stand elsewhere in it.
        lost: Those that are not in it.
        evicted: Blocks that lost a prefix because they were handed out.
        filled: Blocks that hold a prefix now which can be found; some of them may be evicted
            as well, if the same call filled them anew.
        emptied: Blocks whose prefix cannot be found any more, though nobody took them.
    """

    taken: tuple[int, ...] = ()
    claimed: tuple[int, ...] = ()
    shared: tuple[int, ...] = ()
    released: tuple[int, ...] = ()
    to_front: tuple[int, ...] = ()
    to_back: tuple[int, ...] = ()
    queued: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    evicted: tuple[int, ...] = ()
    filled: tuple[int, ...] = ()
    emptied: tuple[int, ...] = ()

    @classmethod
    def between(cls, before: Record, after: Record) -> Changes:
        """Compare two states of a pool.

        >>> from course_lib.kv_cache import BlockPool, Recorder
        >>> pool = BlockPool(num_blocks=6)
        >>> with Recorder(pool) as recorder:
        ...     pool.free_blocks(pool.get_new_blocks(2))
        >>> _, taking, freeing = recorder.frames
        >>> Changes.between(taking, freeing).to_front
        (1, 2)
        """
        found: dict[str, list[int]] = {name: [] for name in cls.__slots__}
        old = {block["block_id"]: block for block in before["blocks"]}
        freed = set()
        for block in _in_order(before, after):
            block_id, was = block["block_id"], old[block["block_id"]]
            if block["ref_cnt"] == was["ref_cnt"] and block["hash"] == was["hash"]:
                continue
            is_lent = was["ref_cnt"] == 0 < block["ref_cnt"]
            keeps = block["hash"] == was["hash"]
            if is_lent:
                found["claimed" if keeps and was["hash"] else "taken"].append(block_id)
            elif block["ref_cnt"] > was["ref_cnt"]:
                found["shared"].append(block_id)
            elif block["ref_cnt"] < was["ref_cnt"]:
                if block["ref_cnt"] > 0:
                    found["released"].append(block_id)
                else:
                    freed.add(block_id)
            if not keeps and was["hash"] and (is_lent or not block["hash"]):
                found["evicted" if is_lent else "emptied"].append(block_id)
            if not keeps and block["hash"]:
                found["filled"].append(block_id)
        rank = {i: place for table in after["tables"].values() for place, i in enumerate(table)}
        found["claimed"].sort(key=lambda block_id: rank.get(block_id, block_id))
        _sort_freed(freed, before, after, found)
        return cls(**{name: tuple(ids) for name, ids in found.items()})


def _in_order(before: Record, after: Record) -> list[Any]:
    """Return the blocks afterwards: those that were free in the order in which they queued."""
    rank = {block_id: place for place, block_id in enumerate(before["free_queue"])}
    return sorted(after["blocks"], key=lambda block: rank.get(block["block_id"], len(rank)))


def _sort_freed(
    freed: set[int], before: Record, after: Record, found: dict[str, list[int]]
) -> None:
    """Tell where the freed blocks went, by the blocks that stood in the queue all the time."""
    queue = list(after["free_queue"])
    stayed = set(before["free_queue"]) & set(queue)
    places = [place for place, block_id in enumerate(queue) if block_id in stayed]
    for place, block_id in enumerate(queue):
        if block_id not in freed:
            continue
        if not places or places[0] < place < places[-1]:
            found["queued"].append(block_id)
        else:
            found["to_front" if place < places[0] else "to_back"].append(block_id)
    found["lost"] += sorted(freed - set(queue))


def caption_of(record: Record, before: Record | None) -> str:
    """Say in a sentence what was called and what came of it.

    Args:
        record: A frame of a ``Recorder``.
        before: The frame before it; None for the first.

    >>> from course_lib.kv_cache import BlockPool, Recorder
    >>> pool = BlockPool(num_blocks=6)
    >>> with Recorder(pool) as recorder:
    ...     blocks = pool.get_new_blocks(2)
    >>> print(caption_of(recorder.frames[1], recorder.frames[0]))
    get_new_blocks(2): 1 2 are handed out.
    """
    if before is None:
        num_free = len(record["free_queue"])
        return (
            f"Before the first call: {num_free:,} of {len(record['blocks']) - 1:,} blocks are free."
        )
    call = f"{record['operation']}({', '.join(map(_shown, record['arguments']))})"
    effects = effects_of(Changes.between(before, record))
    if record["error"] is not None:
        said = [f"is refused: {record['error']}", *(effects or ["nothing changes"])]
        return f"{call} {'; '.join(said)}."
    return f"{call}: {'; '.join([*_answer(record), *effects]) or 'nothing changes'}."


def event_of(record: Record, before: Record | None) -> str:
    """Say in a few words what a reader looks for, or nothing.

    >>> from course_lib.kv_cache import BlockPool, Recorder
    >>> pool = BlockPool(num_blocks=2)
    >>> with Recorder(pool) as recorder:
    ...     blocks = pool.get_new_blocks(1)
    ...     pool.touch(blocks)
    >>> [event_of(*pair) for pair in zip(recorder.frames[1:], recorder.frames)]
    ['', 'shares 1']
    """
    if before is None:
        return ""
    if record["error"] is not None:
        return _refusal(record, before)
    if record["operation"] == "allocate_slots" and record["result"] is None:
        return f"no room for {record['arguments'][0]}"
    changes = Changes.between(before, record)
    for verb, blocks in (
        ("loses", changes.lost),
        ("evicts", changes.evicted),
        ("shares", changes.shared),
        ("claims", changes.claimed),
    ):
        if blocks:
            return f"{verb} {_ids(blocks)}"
    num_cached = sum(block["state"] == "cached" for block in record["blocks"])
    if num_cached and record["usage"] == 0 < before["usage"]:
        return f"usage is 0, {num_cached} cached"
    return ""


def effects_of(changes: Changes) -> list[str]:
    """Say what is different, a few words for each kind of change.

    >>> effects_of(Changes(taken=(3,), evicted=(3,)))
    ['3 is handed out', '3 loses its prefix']
    """
    rows = (
        (changes.taken, "is handed out", "are handed out"),
        (changes.evicted, "loses its prefix", "lose their prefixes"),
        (
            changes.claimed,
            "leaves the queue with its prefix",
            "leave the queue with their prefixes",
        ),
        (changes.shared, "gains a holder", "gain a holder each"),
        (changes.released, "loses a holder and stays held", "lose a holder each and stay held"),
        (changes.to_front, "goes to the front of the queue", "go to the front of the queue"),
        (changes.to_back, "goes to the back of the queue", "go to the back of the queue"),
        (changes.queued, "goes into the queue", "go into the queue"),
        (changes.lost, "is held by nobody and not queued", "are held by nobody and not queued"),
        (changes.filled, "can be found by its hash", "can be found by their hashes"),
        (changes.emptied, "cannot be found any more", "cannot be found any more"),
    )
    return [
        f"{_ids(blocks)} {one if len(blocks) == 1 else several}"
        for blocks, one, several in rows
        if blocks
    ]


def _answer(record: Record) -> list[str]:
    """Say what a call answered, where the state does not show it."""
    operation, result = record["operation"], record["result"]
    if operation == "allocate_slots" and result is None:
        return ["there is no room"]
    if operation == "get_computed_blocks":
        blocks, num_tokens = result
        if not blocks:
            return ["no prefix of it is cached"]
        return [f"{_ids(blocks)} hold its first {num_tokens:,} tokens"]
    if operation == "reset_prefix_cache" and not result:
        return ["refused while a block is held"]
    return []


def _refusal(record: Record, before: Record) -> str:
    """Name the rule that a refused call broke."""
    operation, arguments = record["operation"], record["arguments"]
    if operation == "get_new_blocks" and arguments[0] > len(before["free_queue"]):
        return "out of blocks"
    if operation == "free_blocks":
        holders = {block["block_id"]: block["ref_cnt"] for block in before["blocks"]}
        if any(holders.get(i, 0) < times for i, times in Counter(arguments[0]).items() if i):
            return "double free refused"
    return "refused"


def _shown(argument: Any) -> str:
    """Return an argument of a call as one would type it, the middle of a long list left out."""
    if isinstance(argument, list):
        items = [_shown(each) for each in argument[:_MOST_IDS]]
        return f"[{', '.join(items + ['…'] * (len(argument) > _MOST_IDS))}]"
    return str(argument)


def _ids(blocks: Iterable[int]) -> str:
    """Return ids one behind the other; where they are many, their number."""
    ids = list(blocks)
    if len(ids) <= _MOST_IDS:
        return " ".join(map(str, ids))
    return f"{' '.join(map(str, ids[:3]))} … {ids[-1]} ({len(ids):,} in all)"
