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
