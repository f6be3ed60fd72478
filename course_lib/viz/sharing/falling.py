"""Prompts end, and newcomers take block after block: what a pool still has of each prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from course_lib.kv_cache.block_pool import BlockPool, KVCacheBlock
from course_lib.kv_cache.prefix import hash_blocks
from course_lib.kv_cache.watch.recorder import Frame, snapshot_blocks
from course_lib.viz.sharing.prompts import BLOCK_SIZE
from course_lib.viz.sharing.trouble import error_in_words
from course_lib.viz.sharing.words import listed

MakePool = Callable[[int], BlockPool]
"""Makes a pool from a number of blocks: a class, or a function."""

CHAINS: Mapping[str, tuple[int, ...]] = {
    "A": tuple(range(1, 13)),
    "B": (*range(1, 9), 21, 22, 23, 24),
    "C": (*range(1, 5), 31, 32, 33, 34),
}
"""Three prompts of whole blocks; they part after two blocks, and after one."""

NUM_BLOCKS = 7
"""The null block, five that the prompts take, and one that is empty."""


@dataclass(frozen=True)
class Moment:
    """The state of one pool at one moment.

    Attributes:
        record: The state, with the table of each prompt that runs.
        chains: The blocks that each prompt had.
        num_found: How many of them a prompt like it would find again.
        reachable: Cached blocks that nobody holds and somebody would find.
        unreachable: Cached blocks that nobody holds and nobody can find as things stand.
        fell: The block that was handed out just now, and lost what was in it; None if none did.
        problem: The error that came instead, in words; then the rest is as it was before.
        doing: What was to be done then.
    """

    record: Frame
    chains: Mapping[str, tuple[int, ...]]
    num_found: Mapping[str, int]
    reachable: frozenset[int] = frozenset()
    unreachable: frozenset[int] = frozenset()
    fell: int | None = None
    problem: str = ""
    doing: str = ""


def falling(is_last_first: bool, make: MakePool = BlockPool) -> list[Moment]:
    """Let prompts end, and let a newcomer take one block at a time until the pool has no more.

    Args:
        is_last_first: Whether each prompt gives its last block back first, as is the rule.
        make: Makes the pool.

    >>> by_rule, other = falling(is_last_first=True), falling(is_last_first=False)
    >>> [moment.fell for moment in by_rule if moment.fell]
    [3, 4, 2, 5, 1]
    >>> max(len(moment.unreachable) for moment in by_rule)
    0
    >>> [sorted(moment.unreachable) for moment in other if moment.unreachable]
    [[4], [5]]
    """
    return list(_Life(is_last_first, make).moments())


class _Life:
    """A pool, and who holds what."""

    def __init__(self, is_last_first: bool, make: MakePool) -> None:
        self._is_last_first = is_last_first
        self._make = make
        self._tables: dict[str, list[KVCacheBlock]] = {}
        self._chains: dict[str, tuple[int, ...]] = {}
        self._num_taken = 0

    def moments(self) -> Iterator[Moment]:
        """Yield what happens."""
        last: Moment | None = None
        doings: list[tuple[str, Callable[[], None]]] = [("the prompts come", self._start)]
        doings += [(f"{name} ends", self._ending(name)) for name in CHAINS]
        doings += [("a newcomer takes a block", self._take)] * (NUM_BLOCKS - 1)
        doing = "a pool is made"
        try:
            self._pool = self._make(NUM_BLOCKS)
            for said, do in doings:
                doing = said
                do()
                last = self._look(last)
                yield last
        except Exception as error:
            # Whatever a learner's pool raises is what the figure has to tell.
            record = last.record if last else {"blocks": [], "free_queue": [], "tables": {}}
            chains, found = (last.chains, last.num_found) if last else ({}, {})
            yield Moment(record, chains, found, problem=error_in_words(error), doing=doing)

    def _start(self) -> None:
        """Let all prompts in: each shares what is there, and takes blocks for the rest."""
        pool = self._pool
        for name, tokens in CHAINS.items():
            hashes = hash_blocks(tokens, BLOCK_SIZE)
            held: list[KVCacheBlock] = []
            for block_hash in hashes:
                block = pool.get_cached_block(block_hash)
                if block is None:
                    break
                held.append(block)
            pool.touch(held)
            new = pool.get_new_blocks(len(hashes) - len(held))
            pool.cache_full_blocks(new, hashes[len(held) :])
            self._tables[name] = held + list(new)
            self._chains[name] = tuple(block.block_id for block in self._tables[name])

    def _ending(self, name: str) -> Callable[[], None]:
        def end() -> None:
            blocks = self._tables.pop(name)
            self._pool.free_blocks(blocks[::-1] if self._is_last_first else blocks)

        return end

    def _take(self) -> None:
        """Let a newcomer take the block at the front."""
        self._tables["new"] = self._tables.get("new", []) + list(self._pool.get_new_blocks(1))

    def _look(self, last: Moment | None) -> Moment:
        """Say what the pool has now."""
        record = snapshot_blocks(self._pool)
        record["tables"] = {
            name: [block.block_id for block in blocks] for name, blocks in self._tables.items()
        }
        for block in record["blocks"]:
            own = block["block_id"]
            block["owners"] = [name for name, table in record["tables"].items() if own in table]
        found = {name: self._found(name) for name in CHAINS}
        free = {each["block_id"] for each in record["blocks"] if each["state"] == "cached"}
        reachable = {each for name in CHAINS for each in self._chains[name][: found[name]]} & free
        fell = None
        if last is not None:
            fell = next(
                (
                    now["block_id"]
                    for now, was in zip(record["blocks"], last.record["blocks"], strict=True)
                    if was["hash"] and not now["hash"]
                ),
                None,
            )
        return Moment(
            record,
            self._chains,
            found,
            frozenset(reachable),
            frozenset(free - reachable),
            fell,
        )

    def _found(self, name: str) -> int:
        """Return how many blocks a prompt like this one would find, up to the first miss."""
        number = 0
        for block_hash in hash_blocks(CHAINS[name], BLOCK_SIZE):
            if self._pool.get_cached_block(block_hash) is None:
                break
            number += 1
        return number


def tokens_of(block_id: int, chains: Mapping[str, Sequence[int]]) -> Sequence[int]:
    """Return what was computed in a block, by the chains that have it.

    >>> tokens_of(4, {"A": (1, 2, 3), "B": (1, 2, 4)})
    (21, 22, 23, 24)
    """
    for name, chain in chains.items():
        if block_id in chain:
            first = chain.index(block_id) * BLOCK_SIZE
            return CHAINS[name][first : first + BLOCK_SIZE]
    return ()


def whose(block_id: int, chains: Mapping[str, Sequence[int]]) -> str:
    """Say which block of which prompts this was.

    >>> whose(2, {"A": (1, 2, 3), "B": (1, 2, 4), "C": (1, 5)}), whose(9, {"A": (1,)})
    ("A and B's second", 'empty')
    """
    names = [name for name, chain in chains.items() if block_id in chain]
    if not names:
        return "empty"
    place = list(chains[names[0]]).index(block_id)
    nth = "last" if place == len(chains[names[0]]) - 1 else ("first", "second", "third")[place]
    return f"{listed(names)}'s {nth}"


def hidden_text(moment: Moment) -> str:
    """Say which cached blocks nobody can find; nothing if there are none.

    >>> hidden_text(falling(is_last_first=False)[6])
    '4 is still cached, and cannot be found for now'
    """
    if not moment.unreachable:
        return ""
    are = "is" if len(moment.unreachable) == 1 else "are"
    return f"{listed(sorted(moment.unreachable))} {are} still cached, and cannot be found for now"
