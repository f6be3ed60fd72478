"""What must always be true of a block pool and a manager, and who broke it.

``find_violations`` looks at a state and lists everything that is wrong with it. ``under_check``
does so after every single call, and also sees that a call that fails changes nothing.
``LeakFinder`` and ``find_leaks`` name whoever did not give a block back.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from course_lib.kv_cache.block_pool import BlockPool, KVCacheBlock
from course_lib.kv_cache.manager import CacheableRequest, KVCacheManager
from course_lib.kv_cache.prefix import hash_blocks
from course_lib.kv_cache.watch.watching import Call, pool_of, table_ids, watch


class InvariantError(AssertionError):
    """Something that must always be true is not."""


def find_violations(subject: BlockPool | KVCacheManager) -> list[str]:
    """Return one sentence for each thing that is wrong, or an empty list.

    Of a pool, what ``pool_violations`` says. Of a manager, besides that of its pool:

    - the ``ref_cnt`` of a block is the number of block tables it is in, and no table has it twice;
    - a request holds enough blocks for its computed tokens;
    - the hash of a block is that of the tokens and the salt of every request that holds it;
    - requests that share a block have it in the same place, and agree on salt and tokens.

    >>> pool = BlockPool(num_blocks=4)
    >>> pool.blocks[2].ref_cnt = 1
    >>> find_violations(pool)
    ['block 2 is held by 1 and is in the free queue']
    """
    pool = pool_of(subject)
    violations = pool_violations(pool)
    if pool is not subject:
        violations += _manager_violations(cast(KVCacheManager, subject))
    return violations


def pool_violations(pool: BlockPool) -> list[str]:
    """Return one sentence for each law that a block pool breaks, or an empty list.

    - ``get_num_free_blocks`` is the length of the free queue.
    - The null block is never held, cached or free.
    - Every other block is either held (``ref_cnt`` above 0) or in the free queue, once.
    - Whatever is found by a hash has that hash; whatever has a hash can be found by it; without
      caching nothing has one.

    The order of the free queue is no law, and several blocks may have the same hash.

    Args:
        pool: The pool; it is only looked at.

    Returns:
        The sentences, law by law.

    >>> pool = BlockPool(num_blocks=4)
    >>> pool.blocks[2].ref_cnt = 1
    >>> pool_violations(pool)
    ['block 2 is held by 1 and is in the free queue']
    """
    queued = Counter(block.block_id for block in pool.free_block_queue)
    return [
        *miscounted_queue(pool, queued),
        *lent_null_block(pool, queued),
        *wrongly_queued(pool, queued),
        *wrongly_findable(pool),
        *wrongly_hashed(pool),
    ]


def miscounted_queue(pool: BlockPool, queued: Counter[int]) -> Iterator[str]:
    """Yield a sentence if the number of free blocks is not the length of the free queue.

    Args:
        pool: The pool.
        queued: How often each block is in its free queue, by id.
    """
    num_queued, num_free = queued.total(), pool.get_num_free_blocks()
    if num_queued != num_free:
        yield f"{num_queued} blocks are in the free queue, but get_num_free_blocks says {num_free}"


def lent_null_block(pool: BlockPool, queued: Counter[int]) -> Iterator[str]:
    """Yield a sentence if the null block is anything but idle; arguments as above."""
    null = pool.null_block
    if null.ref_cnt or null.block_hash is not None or queued[null.block_id]:
        yield "the null block is held, cached or in the free queue"


def wrongly_queued(pool: BlockPool, queued: Counter[int]) -> Iterator[str]:
    """Yield a sentence for each block that is not either held or queued once."""
    for block in pool.blocks[1:]:
        times_queued = queued[block.block_id]
        if block.ref_cnt < 0:
            yield f"block {block.block_id} is held by {block.ref_cnt}"
        elif block.ref_cnt and times_queued:
            yield f"block {block.block_id} is held by {block.ref_cnt} and is in the free queue"
        elif not block.ref_cnt and times_queued != 1:
            yield f"block {block.block_id} is free and is in the free queue {times_queued} times"


def wrongly_findable(pool: BlockPool) -> Iterator[str]:
    """Yield a sentence for each block that is found by a hash which it does not have."""
    for block_hash, block in pool.cached_block_hash_to_block.items():
        if block.block_hash != block_hash:
            yield f"block {block.block_id} is found by a hash that is not its own"


def wrongly_hashed(pool: BlockPool) -> Iterator[str]:
    """Yield a sentence for each block with a hash that it must not have, or that finds nothing."""
    for block in pool.blocks[1:]:
        if block.block_hash is None:
            continue
        if not pool.enable_caching:
            yield f"block {block.block_id} has a hash, although caching is off"
        elif block.block_hash not in pool.cached_block_hash_to_block:
            yield f"block {block.block_id} has a hash by which it cannot be found"


def check_invariants(subject: BlockPool | KVCacheManager) -> None:
    """Raise an InvariantError that lists what is wrong, if anything is."""
    violations = find_violations(subject)
    if violations:
        raise InvariantError("; ".join(violations))


def under_check(subject: BlockPool | KVCacheManager) -> AbstractContextManager[None]:
    """Check the object after every call, inside the ``with`` block.

    The first call that breaks an invariant raises an InvariantError. So does a call that raises an
    exception, or an ``allocate_slots`` that returns None, and has changed anything.

    >>> pool = BlockPool(num_blocks=4)
    >>> with under_check(pool):
    ...     blocks = pool.get_new_blocks(2)
    ...     blocks[0].block_hash = b"not cached by the pool"
    ...     pool.free_blocks(blocks)
    Traceback (most recent call last):
        ...
    course_lib.kv_cache.watch.invariants.InvariantError: after free_blocks: block 1 has a hash \
by which it cannot be found
    """
    return watch(subject, _Checker(subject))


class _Checker:
    """Checks a pool or manager after each call."""

    def __init__(self, subject: BlockPool | KVCacheManager) -> None:
        self._subject = subject
        self._before: object = None

    def before(self) -> None:
        """Remember the state."""
        self._before = _state(self._subject)

    def after(self, call: Call) -> None:
        """Compare with the state before, if nothing may have changed; check the state now."""
        violations = []
        failed = call.error is not None
        refused = call.operation == "allocate_slots" and call.result is None
        if (failed or refused) and _state(self._subject) != self._before:
            outcome = type(call.error).__name__ if failed else "None"
            violations.append(f"the state has changed, although the outcome is {outcome}")
        if call.operation == "get_new_blocks" and not failed:
            violations += _new_block_violations(call.result)
        violations += find_violations(self._subject)
        if violations:
            raise InvariantError(f"after {call.operation}: {'; '.join(violations)}") from call.error


def _state(subject: Any) -> object:
    """Return all that a caller can see of a pool or manager, for comparison."""
    pool = pool_of(subject)
    blocks = [(block.ref_cnt, block.block_hash) for block in pool.blocks]
    queue = [block.block_id for block in pool.free_block_queue]
    return blocks, queue, table_ids(subject)


def _new_block_violations(blocks: list[KVCacheBlock]) -> Iterator[str]:
    """Yield what is wrong with blocks that were just handed out."""
    for block in blocks:
        if block.ref_cnt != 1:
            yield f"new block {block.block_id} is held by {block.ref_cnt}, not by 1"
        if block.block_hash is not None:
            yield f"new block {block.block_id} still has the hash of its old contents"


def _manager_violations(manager: KVCacheManager) -> Iterator[str]:
    """Yield what is wrong with a manager, apart from its pool."""
    tables, requests = manager.block_tables(), manager.requests()
    places: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for name, table in tables.items():
        for index, block in enumerate(table):
            places[block.block_id].append((name, index))
        yield from _table_violations(requests[name], table, manager.block_size)
    for block in manager.block_pool.blocks:
        holders = places.get(block.block_id, [])
        if block.ref_cnt != len(holders):
            yield (
                f"block {block.block_id} has a ref_cnt of {block.ref_cnt} "
                f"but is in {len(holders)} block tables"
            )
        if len(holders) > 1:
            yield from _sharing_violations(block, holders, requests, manager.block_size)


def _table_violations(
    request: CacheableRequest, table: list[KVCacheBlock], block_size: int
) -> Iterator[str]:
    """Yield what is wrong with the block table of one request."""
    name = request.request_id
    num_needed = -(-request.num_computed_tokens // block_size)
    if len(table) < num_needed:
        yield f"request {name!r} has computed {num_needed} blocks but holds {len(table)}"
    if any(block.block_hash is not None for block in table):
        # Behind its computed tokens a fork may hold a block in which its parent has other tokens,
        # until it writes there.
        num_computed = min(request.num_computed_tokens, request.num_tokens)
        hashes = hash_blocks(request.all_token_ids, block_size, request.cache_salt)
        for block, own in zip(table, hashes[: num_computed // block_size], strict=False):
            if block.block_hash not in (None, own):
                yield f"block {block.block_id} has a hash of other tokens than {name!r} has there"


def _sharing_violations(
    block: KVCacheBlock,
    holders: list[tuple[str, int]],
    requests: dict[str, CacheableRequest],
    block_size: int,
) -> Iterator[str]:
    """Yield what is wrong with a block that is in several places."""
    (first_name, first_index), *others = holders
    first = requests[first_name]
    for name, index in others:
        other = requests[name]
        if name == first_name or index != first_index:
            yield (
                f"block {block.block_id} is block {first_index} of {first_name!r} "
                f"and block {index} of {name!r}"
            )
            continue
        computed = min(first.num_computed_tokens, other.num_computed_tokens)
        tokens = slice(min(computed, (index + 1) * block_size))
        if first.cache_salt != other.cache_salt or list(first.all_token_ids[tokens]) != list(
            other.all_token_ids[tokens]
        ):
            yield (
                f"{first_name!r} and {name!r} share block {block.block_id} "
                "but not its tokens or their salt"
            )


@dataclass(frozen=True, slots=True)
class Leak:
    """Blocks that should have been given back.

    Attributes:
        owner: Who holds them. "nobody" holds what exceeds the places in block tables.
        block_ids: Which blocks: those of a request in the order of its table, nobody's in that of
            their ids. One that the owner holds twice is named twice.
    """

    owner: str
    block_ids: tuple[int, ...]


def find_leaks(manager: KVCacheManager, live_request_ids: Iterable[str]) -> list[Leak]:
    """Return the blocks that a manager's requests hold although they have ended.

    Args:
        manager: The manager.
        live_request_ids: The requests that may hold blocks.

    Returns:
        One leak for each request that is not live, in the order in which they were admitted, its
        blocks in the order of its table; then one, whose owner is "nobody", of the blocks with more
        holders than places in block tables, by their ids, each as often as it has holders too many.
        A table that names a block twice has two places for it.

    >>> from course_lib.kv_cache.manager import PlainRequest
    >>> aborted = PlainRequest("aborted", [1, 2, 3])
    >>> manager = KVCacheManager(num_blocks=10, block_size=2)
    >>> _ = manager.allocate_slots(aborted, num_new_tokens=3)
    >>> find_leaks(manager, live_request_ids=[])
    [Leak(owner='aborted', block_ids=(1, 2))]
    """
    live = set(live_request_ids)
    tables = manager.block_tables()
    leaks = [
        Leak(name, tuple(block.block_id for block in table))
        for name, table in tables.items()
        if name not in live
    ]
    num_tables = Counter(block.block_id for table in tables.values() for block in table)
    lost = [
        block.block_id
        for block in manager.block_pool.blocks
        for _ in range(block.ref_cnt - num_tables[block.block_id])
    ]
    return [*leaks, Leak("nobody", tuple(lost))] if lost else leaks


class LeakFinder:
    """Keeps the books of who took which block of a pool, to name who did not give it back.

    A pool does not know its callers. Say who is acting with ``acting_for``; calls outside of it are
    booked on "unknown".

    Attributes:
        misfreed: What was given back by somebody who did not hold it, in order; its owner is who
            gave it back. Another loses by it: the block has a holder less, and whoever took it
            still uses it.

    Args:
        pool: The pool to watch. Use the finder in a ``with`` statement.

    >>> pool = BlockPool(num_blocks=8)
    >>> with LeakFinder(pool) as finder:
    ...     with finder.acting_for("request 1"):
    ...         first = pool.get_new_blocks(2)
    ...     with finder.acting_for("request 2"):
    ...         second = pool.get_new_blocks(2)
    ...         pool.free_blocks(second)
    >>> finder.leaks()
    [Leak(owner='request 1', block_ids=(1, 2))]
    """

    def __init__(self, pool: BlockPool) -> None:
        self.misfreed: list[Leak] = []
        self._holdings: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self._owner = "unknown"
        self._watching = watch(pool, self)

    def __enter__(self) -> LeakFinder:
        self._watching.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._watching.__exit__(*exception)

    @contextmanager
    def acting_for(self, owner: str) -> Iterator[None]:
        """Book the calls inside the ``with`` block on an owner."""
        previous, self._owner = self._owner, owner
        try:
            yield
        finally:
            self._owner = previous

    def leaks(self) -> list[Leak]:
        """Return what each owner took and has not given back, in the order in which they came."""
        return [
            Leak(owner, tuple(sorted(held.elements())))
            for owner, held in self._holdings.items()
            if held.total()
        ]

    def before(self) -> None:
        """Do nothing: calls are booked when they have succeeded."""

    def after(self, call: Call) -> None:
        """Book a call."""
        if call.error is not None:
            return
        held = self._holdings[self._owner]
        if call.operation == "get_new_blocks":
            held.update(block.block_id for block in call.result)
        elif call.operation == "touch":
            held.update(block.block_id for block in _only_argument(call))
        elif call.operation == "free_blocks":
            freed = Counter(block.block_id for block in _only_argument(call))
            foreign = freed - held
            if foreign:
                self.misfreed.append(Leak(self._owner, tuple(sorted(foreign.elements()))))
            held.subtract(freed - foreign)


def _only_argument(call: Call) -> Iterable[KVCacheBlock]:
    """Return the blocks that a call was about, however they were passed."""
    blocks: Iterable[KVCacheBlock] = next(iter((*call.arguments, *call.keywords.values())))
    return blocks
