"""Lesson 7: what its notebook lets a pool live through, and what it counts meanwhile."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable

from course_lib.kv_cache.block_pool import BlockPool, KVCacheBlock

_KEYS = (b"a", b"b", b"c")


def live(
    pool: BlockPool, laws: Callable[[BlockPool], list[str]], num_operations: int, seed: int = 0
) -> Counter[str]:
    """Do anything that a pool allows, at random; stop where a law is broken, and say which.

    Args:
        pool: The pool.
        laws: Returns one sentence for each law that a pool breaks; it is asked after each call.
        num_operations: Calls in all.
        seed: Decides them.

    Returns:
        How often each method was called.

    >>> from course_lib.kv_cache.watch.invariants import pool_violations
    >>> live(BlockPool(9), pool_violations, 50).total()
    50
    """
    draw, done = random.Random(seed), Counter[str]()
    held: list[KVCacheBlock] = []
    for _ in range(num_operations):
        name = draw.choice(("get_new_blocks", "free_blocks", "touch", "cache_full_blocks"))
        if name == "get_new_blocks":
            held += pool.get_new_blocks(draw.randint(0, min(3, pool.get_num_free_blocks())))
        elif name == "free_blocks":
            draw.shuffle(held)
            pool.free_blocks([held.pop() for _ in range(draw.randint(0, len(held)))])
        elif name == "touch":
            claimed = [block for key in _KEYS if (block := pool.get_cached_block(key))]
            pool.touch(claimed)
            held += claimed
        elif held:
            pool.cache_full_blocks([draw.choice(held)], [draw.choice(_KEYS)])
        done[name] += 1
        if violations := laws(pool):
            print(f"after {done.total()} operations, {name}: {violations}")
            break
    return done


def counting(pool: type[BlockPool], calls: Counter[str]) -> type[BlockPool]:
    """Return a class of pools that count what they are asked for.

    Args:
        pool: The class that does the work.
        calls: What is counted, by name.

    >>> calls = Counter[str]()
    >>> blocks = counting(BlockPool, calls)(9).get_new_blocks(2)
    >>> dict(calls)
    {'get_new_blocks': 1, 'blocks handed out': 2}
    """

    class Counted(pool):  # type: ignore[misc, valid-type]  # mypy knows no base that is a value
        """A pool that counts what it is asked for."""

        def get_new_blocks(self, num_blocks: int) -> list[KVCacheBlock]:
            """Count the call and its blocks, and hand them out."""
            calls["get_new_blocks"] += 1
            calls["blocks handed out"] += num_blocks
            new: list[KVCacheBlock] = super().get_new_blocks(num_blocks)
            return new

        def touch(self, blocks: Iterable[KVCacheBlock]) -> None:
            """Count the call and its blocks, and share them."""
            claimed = list(blocks)
            calls["touch"] += 1
            calls["blocks claimed"] += len(claimed)
            super().touch(claimed)

        def free_blocks(self, ordered_blocks: Iterable[KVCacheBlock]) -> None:
            """Count the call, and take the blocks back."""
            calls["free_blocks"] += 1
            super().free_blocks(ordered_blocks)

    return Counted


def timing(
    pool: type[BlockPool], clock: Callable[[], float], lives: list[float]
) -> type[BlockPool]:
    """Return a class of pools that time how long the beginning of a prefix stays in the cache.

    The first block of a request is the last that it gives back. Timed is from then until it is
    handed out to somebody else; one that is claimed before that is not.

    Args:
        pool: The class that does the work.
        clock: Returns the time, in seconds.
        lives: Gets the seconds of each.

    >>> hours, lives = iter([1.0, 4.0]), []
    >>> small = timing(BlockPool, lambda: next(hours), lives)(3)
    >>> held = small.get_new_blocks(2)
    >>> small.cache_full_blocks(held, [b"a", b"b"])
    >>> small.free_blocks(held[::-1])
    >>> _ = small.get_new_blocks(2)
    >>> lives
    [3.0]
    """
    given_back: dict[int, float] = {}

    class Timed(pool):  # type: ignore[misc, valid-type]  # mypy knows no base that is a value
        """A pool that times how long the beginning of a prefix stays."""

        def get_new_blocks(self, num_blocks: int) -> list[KVCacheBlock]:
            """Hand blocks out, and note how long prefixes lived whose beginning is among them."""
            new: list[KVCacheBlock] = super().get_new_blocks(num_blocks)
            ended = [given_back.pop(b.block_id) for b in new if b.block_id in given_back]
            lives.extend(clock() - begun for begun in ended)
            return new

        def touch(self, blocks: Iterable[KVCacheBlock]) -> None:
            """Share blocks; what is claimed is timed no longer."""
            claimed = list(blocks)
            super().touch(claimed)
            for block in claimed:
                given_back.pop(block.block_id, None)

        def free_blocks(self, ordered_blocks: Iterable[KVCacheBlock]) -> None:
            """Take blocks back, and time the last if it is free now and cached."""
            blocks = list(ordered_blocks)
            super().free_blocks(blocks)
            if blocks and blocks[-1].ref_cnt == 0 and blocks[-1].block_hash is not None:
                given_back[blocks[-1].block_id] = clock()

    return Timed
