"""Lesson 7: the pools that a learner's checker looks at, and known wrong checkers."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Any

from autograder.checks.finding import Misconception
from autograder.proxy.recipes import At, Make
from autograder.proxy.subject import LocalSubject
from course_lib.kv_cache.block_pool import BlockPool, FreeKVCacheBlockQueue
from course_lib.kv_cache.watch.invariants import pool_violations
from course_lib.kv_cache.watch.notation import StateLine

_QUEUE = "free_block_queue"


def _at(*block_ids: int) -> list[At]:
    return [At(f"blocks.{block_id}") for block_id in block_ids]


ONE, TWO, NEW = Make(BlockPool, 2), Make(BlockPool, 3), Make(BlockPool, 7)
"""Pools of one block that can be lent, of two and of six; nothing has happened to them."""

HELD = ONE.do("get_new_blocks", 1)
"""``free []  held: 1``."""

CACHED = HELD.do("cache_full_blocks", _at(1), [b"a"])
"""``free []  held: 1*``."""

USED = (
    NEW.do("get_new_blocks", 4)
    .do("cache_full_blocks", _at(1, 2), [b"a", b"b"])
    .do("free_blocks", _at(4, 2))
)
"""``free [4 5 6 | 2*]  held: 1* 3``."""


def _linked(pool: Make, *block_ids: int) -> Make:
    """Return a new pool with a linked free queue of these blocks."""
    made = pool.set(_QUEUE, Make(FreeKVCacheBlockQueue, []))
    return made.do(f"{_QUEUE}.append_n", _at(*block_ids))


FAULTY = {
    "held and queued": ONE.set("blocks.1.ref_cnt", 1),
    "lost": HELD.set("blocks.1.ref_cnt", 0),
    "a negative count": ONE.set("blocks.1.ref_cnt", -1),
    "queued twice": ONE.do(f"{_QUEUE}.append_n", _at(1)),
    "one twice, one lost": TWO.do("get_new_blocks", 1)
    .set("blocks.1.ref_cnt", 0)
    .do(f"{_QUEUE}.append_n", _at(2)),
    "one held and queued, one lost": TWO.do("get_new_blocks", 1)
    .set("blocks.1.ref_cnt", 0)
    .set("blocks.2.ref_cnt", 1),
    "negative and not queued": HELD.set("blocks.1.ref_cnt", -1),
    "the null block is held": ONE.set("blocks.0.ref_cnt", 1),
    "the null block is queued": ONE.do(f"{_QUEUE}.append_n", _at(0)),
    "a hash that finds nothing": HELD.set("blocks.1.block_hash", b"a"),
    "found by the hash of another": TWO.do("get_new_blocks", 2)
    .do("cache_full_blocks", _at(1, 2), [b"a", b"b"])
    .set("blocks.2.block_hash", b"a"),
    "found without a hash": CACHED.set("blocks.1.block_hash", None),
    "a hash with caching off": CACHED.set("enable_caching", False),
    "a length that is wrong": _linked(ONE, 1).set(f"{_QUEUE}.num_free_blocks", 9),
}
"""Pools that break a law, by what is wrong: those of the lesson's prediction."""

MORE_FAULTY = {
    "the null block is cached": ONE.do("cache_full_blocks", _at(0), [b"a"]),
    "the null block has a negative count": ONE.set("blocks.0.ref_cnt", -1),
    "held and queued twice": ONE.set("blocks.1.ref_cnt", 1).do(f"{_QUEUE}.append_n", _at(1)),
    "queued three times": ONE.do(f"{_QUEUE}.prepend_n", _at(1)).do(f"{_QUEUE}.append_n", _at(1)),
    "a hash that finds nothing, in the queue": ONE.set("blocks.1.block_hash", b"a"),
    "the last of many is held and queued, the one before it lost": Make(BlockPool, 20)
    .set("blocks.19.ref_cnt", 1)
    .do(f"{_QUEUE}.remove", _at(18)[0]),
    "the last of many has a hash that finds nothing": Make(BlockPool, 20)
    .do("touch", _at(19))
    .set("blocks.19.block_hash", b"a"),
    "each of two is found by the hash of the other": TWO.do("get_new_blocks", 2)
    .do("cache_full_blocks", _at(1, 2), [b"a", b"b"])
    .set("blocks.1.block_hash", b"b")
    .set("blocks.2.block_hash", b"a"),
    "found without a hash, which another has": TWO.do("get_new_blocks", 2)
    .do("cache_full_blocks", _at(1, 2), [b"a", b"a"])
    .set("blocks.1.block_hash", None),
    "a cached block is lost": CACHED.set("blocks.1.ref_cnt", 0),
    "a cached block is held and queued": CACHED.do(f"{_QUEUE}.append_n", _at(1)),
    "a hash with caching off, in the queue": CACHED.do("free_blocks", _at(1)).set(
        "enable_caching", False
    ),
    "a hash that finds nothing, with caching off": HELD.set("enable_caching", False).set(
        "blocks.1.block_hash", b"a"
    ),
    "the null block has a hash that finds nothing": ONE.set("blocks.0.block_hash", b"a"),
    "a length that is too small": _linked(ONE, 1).set(f"{_QUEUE}.num_free_blocks", 0),
}
"""Further pools that break a law; they need more care."""

VALID = {
    "new": NEW,
    "used": USED,
    "shared": USED.do("touch", [At("blocks.1"), At("blocks.3")]),
    "nothing but the null block": Make(BlockPool, 1),
    "everything in use": NEW.do("get_new_blocks", 6),
    "last in, first out": NEW.do("get_new_blocks", 3)
    .do(f"{_QUEUE}.prepend_n", [At("blocks.2"), At("blocks.1"), At("blocks.3")])
    .set("blocks.1.ref_cnt", 0)
    .set("blocks.2.ref_cnt", 0)
    .set("blocks.3.ref_cnt", 0),
    "first in, first out": NEW.do("get_new_blocks", 3)
    .do(f"{_QUEUE}.append_n", [At("blocks.1"), At("blocks.2"), At("blocks.3")])
    .set("blocks.1.ref_cnt", 0)
    .set("blocks.2.ref_cnt", 0)
    .set("blocks.3.ref_cnt", 0),
    "a cached block in front": USED.do(f"{_QUEUE}.remove", At("blocks.2")).do(
        f"{_QUEUE}.prepend_n", [At("blocks.2")]
    ),
    "a linked queue": _linked(NEW, 6, 1, 2, 5, 4, 3),
    "two blocks hold the same": NEW.do("get_new_blocks", 2).do(
        "cache_full_blocks", [At("blocks.1"), At("blocks.2")], [b"a", b"a"]
    ),
    "a hash that equals the one in the index, and is another object": TWO.do("get_new_blocks", 2)
    .do("cache_full_blocks", _at(1, 2), [b"same", Make(bytes, [*b"same"])])
    .do("forget", *_at(1)),
    "a prefix was evicted": CACHED.do("free_blocks", _at(1)).do("get_new_blocks", 1),
    "held by five": ONE.do("touch", _at(1, 1, 1, 1, 1)),
    "all cached and held": TWO.do("get_new_blocks", 2).do(
        "cache_full_blocks", _at(1, 2), [b"a", b"b"]
    ),
    "twenty blocks": Make(BlockPool, 20)
    .do("get_new_blocks", 12)
    .do("cache_full_blocks", _at(10, 11, 12), [b"a", b"b", b"c"])
    .do("free_blocks", _at(12, 11)),
    "caching off": Make(BlockPool, 7, False)
    .do("get_new_blocks", 3)
    .do("free_blocks", [At("blocks.2")]),
}
"""Pools that keep every law, and differ in all that the laws leave free."""


def drawn(seed: int) -> dict[str, Make]:
    """Return faulty pools that a seed decides."""
    draw = random.Random(seed)
    negative = draw.randint(1, 6)
    (lost, twice), (left_out, queued), (first, second) = (
        draw.sample(range(1, 7), 2) for _ in range(3)
    )
    strange = draw.randint(7, 19)
    return {
        f"block {lost} is lost, block {twice} is queued twice": NEW.do(
            f"{_QUEUE}.remove", *_at(lost)
        ).do(f"{_QUEUE}.append_n", _at(twice)),
        f"block {left_out} is lost, block {queued} is held and queued": NEW.do(
            f"{_QUEUE}.remove", *_at(left_out)
        ).set(f"blocks.{queued}.ref_cnt", 2),
        f"block {negative} has a negative count": NEW.set(
            f"blocks.{negative}.ref_cnt", -draw.randint(1, 3)
        ),
        f"block {first} is found by the hash of block {second}": NEW.do("get_new_blocks", 6)
        .do("cache_full_blocks", _at(first, second), [b"a", b"b"])
        .set(f"blocks.{first}.block_hash", b"b"),
        f"block {strange} has a hash that finds nothing": Make(BlockPool, 20).set(
            f"blocks.{strange}.block_hash", b"z"
        ),
    }


def shown(pool: Any) -> str:
    """Return all that a checker can see of a pool, in one line."""
    counts = {block.block_id: block.ref_cnt for block in pool.blocks if block.ref_cnt}
    hashes = {b.block_id: b.block_hash for b in pool.blocks if b.block_hash is not None}
    index = {key: block.block_id for key, block in pool.cached_block_hash_to_block.items()}
    queue = StateLine(StateLine.of(pool).free)
    said = [f"{pool.num_blocks} blocks", str(queue), f"ref_cnt {counts or 0}"]
    if counts:
        said[-1] += ", 0 elsewhere"
    if hashes or index:
        said.append(f"hashes {hashes}, found {index}")
    if not pool.enable_caching:
        said.append("caching off")
    if pool.get_num_free_blocks() != len(list(pool.free_block_queue)):
        said.append(f"get_num_free_blocks() is {pool.get_num_free_blocks()}")
    return "; ".join(said)


def typed(recipe: Make) -> str:
    """Return the lines that make a pool.

    >>> print(typed(FAULTY["lost"]))
    pool = BlockPool(2)
    pool.get_new_blocks(1)
    pool.blocks[1].ref_cnt = 0
    """
    arguments = ", ".join(map(repr, recipe.args))
    lines = [f"pool = {recipe.target.short}({arguments})"]
    for step in recipe.steps:
        if step.args is None:
            lines.append(f"{At(step.path)!r} = {step.value!r}")
        else:
            lines.append(f"{At(step.path)!r}({', '.join(map(repr, step.args))})")
    return "\n".join(re.sub(r"\bobj\.", "pool.", line) for line in lines)


# Known wrong checkers


def _counted(pool: BlockPool) -> Counter[int]:
    return Counter(block.block_id for block in pool.free_block_queue)


def sum_only(pool: BlockPool) -> list[str]:
    """Add up what is free and what is held."""
    held = sum(block.ref_cnt > 0 for block in pool.blocks)
    total = held + pool.get_num_free_blocks()
    return [] if total == pool.num_blocks - 1 else [f"{total} blocks in all"]


def caught_by_the_sum() -> tuple[int, int]:
    """Return how many of the faulty pools the sum alone catches, and how many there are."""
    verdicts = [LocalSubject(sum_only).call([pool]) for pool in FAULTY.values()]
    return sum(bool(getattr(said, "value", None)) for said in verdicts), len(FAULTY)


def but_negative(pool: BlockPool) -> list[str]:
    """Never ask for a count below 0."""
    return [each for each in pool_violations(pool) if "held by -" not in each]


def negative_is_held(pool: BlockPool) -> list[str]:
    """Take any count but 0 for held."""
    queued = _counted(pool)
    return [
        *(each for each in pool_violations(pool) if "held by -" not in each),
        *(f"block {b.block_id}" for b in pool.blocks[1:] if b.ref_cnt < 0 and b.block_id in queued),
    ]


def but_twice(pool: BlockPool) -> list[str]:
    """Ask whether a block is in the queue, not how often."""
    twice = {f"in the free queue {n} times" for n in range(2, 9)}
    return [each for each in pool_violations(pool) if not any(map(each.endswith, twice))]


def but_null(pool: BlockPool) -> list[str]:
    """Leave the null block alone."""
    return [each for each in pool_violations(pool) if "null" not in each]


def but_index(pool: BlockPool) -> list[str]:
    """Go through the blocks, and not through the index."""
    return [each for each in pool_violations(pool) if "is found by" not in each]


def but_hashes(pool: BlockPool) -> list[str]:
    """Go through the index, and not through the blocks."""
    return [each for each in pool_violations(pool) if "has a hash" not in each]


def but_not_in_the_index(pool: BlockPool) -> list[str]:
    """Go through the blocks, and ask of their hashes only whether caching is on."""
    return [each for each in pool_violations(pool) if "cannot be found" not in each]


def but_caching(pool: BlockPool) -> list[str]:
    """Never ask whether caching is on."""
    return [each for each in pool_violations(pool) if "caching is off" not in each]


def but_length(pool: BlockPool) -> list[str]:
    """Believe the number of free blocks."""
    return [each for each in pool_violations(pool) if "get_num_free_blocks" not in each]


def one_order(pool: BlockPool) -> list[str]:
    """Ask for the cached behind the others."""
    cached = [block.block_hash is not None for block in pool.free_block_queue]
    return pool_violations(pool) + ([] if cached == sorted(cached) else ["a prefix is in front"])


def sorted_ids(pool: BlockPool) -> list[str]:
    """Ask for the order of ids."""
    ids = [block.block_id for block in pool.free_block_queue]
    return pool_violations(pool) + ([] if ids == sorted(ids) else ["not in order"])


def no_duplicates(pool: BlockPool) -> list[str]:
    """Ask that each block with a hash is the one that is found by it."""
    found = pool.cached_block_hash_to_block
    return pool_violations(pool) + [
        f"block {block.block_id} is not found"
        for block in pool.blocks
        if block.block_hash is not None and found.get(block.block_hash) is not block
    ]


def by_identity(pool: BlockPool) -> list[str]:
    """Ask whether the hash in the index is the very object that the block has."""
    return pool_violations(pool) + [
        f"block {block.block_id} is found by another hash"
        for key, block in pool.cached_block_hash_to_block.items()
        if block.block_hash is not key
    ]


def held_by_one(pool: BlockPool) -> list[str]:
    """Ask for a count of 0 or 1."""
    return pool_violations(pool) + [
        f"block {block.block_id} is shared" for block in pool.blocks if block.ref_cnt > 1
    ]


CHECKER = (
    Misconception(
        "the sum only",
        "A sum sees neither two mistakes that cancel, one block twice and one lost, nor a wrong "
        "hash, nor a count below 0 of a block that is queued.",
        sum_only,
    ),
    Misconception(
        "a negative count is overlooked",
        "A block that fewer than nobody hold was given back too often, be it queued or not.",
        but_negative,
    ),
    Misconception(
        "a negative count is taken for held",
        "A count of 1 or more says that somebody holds the block; one below 0 is wrong, be the "
        "block queued or not.",
        negative_is_held,
    ),
    Misconception(
        "queued or not",
        "A block that is in the queue twice is handed out twice; ask how often, not whether.",
        but_twice,
    ),
    Misconception(
        "the null block is left out",
        "Block 0 has a law of its own: it is never held, never queued, and has no hash.",
        but_null,
    ),
    Misconception(
        "from the blocks to the index only",
        "An entry of the index that leads to a block with another hash, or none, finds the wrong "
        "words: go through the index as well.",
        but_index,
    ),
    Misconception(
        "from the index to the blocks only",
        "A block with a hash that is not in the index can never be found: go through the blocks as "
        "well.",
        but_hashes,
    ),
    Misconception(
        "a hash is not looked up",
        "A block with a hash that is not in the index can never be found: with caching on, ask the "
        "index for the hash of each block.",
        but_not_in_the_index,
    ),
    Misconception(
        "caching is not asked for",
        "With caching off no block has a hash, though index and block agree.",
        but_caching,
    ),
    Misconception(
        "the length is believed",
        "The pool decides by get_num_free_blocks; hold it against what is in the queue.",
        but_length,
    ),
    Misconception(
        "one order is demanded",
        "The order of the free queue is a matter of what is lost first; no law speaks of it.",
        one_order,
    ),
    Misconception(
        "ids in order are demanded",
        "Blocks come back in any order; no law speaks of it.",
        sorted_ids,
    ),
    Misconception(
        "duplicates are forbidden",
        "Two blocks may hold the same prefix; only one of them is found by it.",
        no_duplicates,
    ),
    Misconception(
        "sharing is forbidden",
        "Several requests may hold one block: that is what the count is for.",
        held_by_one,
    ),
    Misconception(
        "hashes are compared as objects",
        "Two hashes may be equal and still be two objects, as of two blocks that hold the same: "
        "compare them with `==` or `!=`, not with `is`.",
        by_identity,
    ),
)
