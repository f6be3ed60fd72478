"""200,000 random operations under the invariant checker, and the checker itself."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from course_lib.kv_cache import (
    BlockPool,
    DoubleFreeError,
    ForeignBlockError,
    FreeKVCacheBlockQueue,
    InvariantError,
    KVCacheBlock,
    KVCacheManager,
    Leak,
    LeakFinder,
    OutOfBlocksError,
    Recorder,
    TwoPartFreeQueue,
    UnknownRequestError,
    check_invariants,
    find_leaks,
    find_violations,
    snapshot_blocks,
    under_check,
)
from course_lib.kv_cache.watch.watching import Call, watch

POOL_OPERATIONS = 100_000
MANAGER_OPERATIONS = 100_000
RUNS = 20


@dataclass(eq=False)
class Request:
    """As much of a request as the manager looks at."""

    request_id: str
    all_token_ids: list[int] = field(repr=False)
    cache_salt: str | None = None
    num_computed_tokens: int = 0

    @property
    def num_tokens(self) -> int:
        return len(self.all_token_ids)


class PoolModel:
    """A block pool in the plainest words, to compare with: two lists and a dictionary."""

    def __init__(self, num_blocks: int) -> None:
        self.queue = list(range(1, num_blocks))
        self.refs = dict.fromkeys(range(num_blocks), 0)
        self.hashes: dict[int, bytes] = {}  # in the order in which they were cached

    def take(self, count: int) -> list[int]:
        taken, self.queue = self.queue[:count], self.queue[count:]
        for block_id in taken:
            self.refs[block_id] = 1
            self.hashes.pop(block_id, None)
        return taken

    def give_back(self, block_ids: list[int]) -> None:
        without, with_hash = [], []
        for block_id in block_ids:
            self.refs[block_id] -= 1
            if self.refs[block_id] == 0:
                (with_hash if block_id in self.hashes else without).append(block_id)
        self.queue = without + self.queue + with_hash

    def touch(self, block_ids: list[int]) -> None:
        for block_id in block_ids:
            if self.refs[block_id] == 0:
                self.queue.remove(block_id)
            self.refs[block_id] += 1

    def find(self, block_hash: bytes) -> int | None:
        return next((b for b, cached in self.hashes.items() if cached == block_hash), None)


def ids(blocks: list[KVCacheBlock]) -> list[int]:
    return [block.block_id for block in blocks]


def operate_pool(pool: BlockPool, rng: random.Random, num_operations: int) -> None:
    """Do anything to a pool that its interface allows, and some things that it must refuse."""
    model = PoolModel(pool.num_blocks)
    lendable = pool.blocks[1:]
    held: list[KVCacheBlock] = []
    for _ in range(num_operations):
        choice = rng.random()
        if choice < 0.35:
            count = rng.randint(0, 4)
            if count > len(model.queue):
                with pytest.raises(OutOfBlocksError):
                    pool.get_new_blocks(count)
            else:
                blocks = pool.get_new_blocks(count)
                assert ids(blocks) == model.take(count)
                held += blocks
        elif choice < 0.65 and held:
            rng.shuffle(held)
            freed = [held.pop() for _ in range(rng.randint(1, len(held)))]
            pool.free_blocks(iter(freed))
            model.give_back(ids(freed))
        elif choice < 0.8 and held:
            block, block_hash = rng.choice(held), bytes([rng.randint(0, 3)])
            pool.cache_full_blocks([block], [block_hash])
            if pool.enable_caching:
                model.hashes.setdefault(block.block_id, block_hash)
        elif choice < 0.9 and lendable:
            found = pool.get_cached_block(bytes([rng.randint(0, 3)]))
            blocks = [found] if found else [rng.choice(lendable)]
            pool.touch(blocks)
            model.touch(ids(blocks))
            held += blocks
        elif choice < 0.94 and lendable:
            block = rng.choice(lendable)
            pool.evict_blocks([block.block_id])
            model.hashes.pop(block.block_id, None)
        elif choice < 0.96:
            assert pool.reset_prefix_cache() == (not held)
            if not held:
                model.hashes.clear()
        elif choice < 0.98 and model.queue:
            idle = pool.blocks[rng.choice(model.queue)]
            with pytest.raises(DoubleFreeError):
                pool.free_blocks([*held, idle])
        else:
            for refused in (pool.free_blocks, pool.touch):
                with pytest.raises(ForeignBlockError):
                    refused([*held, rng.choice([pool.null_block, KVCacheBlock(1, ref_cnt=1)])])
        assert ids(list(pool.free_block_queue)) == model.queue
        for number in range(4):
            found = pool.get_cached_block(bytes([number]))
            assert (found.block_id if found else None) == model.find(bytes([number]))


@pytest.mark.parametrize("seed", range(RUNS))
def test_any_pool_keeps_its_invariants(seed: int) -> None:
    rng = random.Random(seed)
    pool = BlockPool(
        num_blocks=rng.randint(1, 9),
        enable_caching=seed % 4 > 0,
        free_queue=FreeKVCacheBlockQueue if seed % 3 == 0 else TwoPartFreeQueue,
    )
    with under_check(pool):
        operate_pool(pool, rng, POOL_OPERATIONS // RUNS)


class Server:
    """A scheduler and a model in miniature: they run requests over a manager, at random.

    ``memory`` is the KV cache itself. What is written for a token is the whole text up to it, which
    is what keys and values depend on. So a block shared, reused or copied wrongly is found as soon
    as somebody reads it.
    """

    def __init__(self, rng: random.Random, manager: KVCacheManager) -> None:
        self.rng, self.manager = rng, manager
        self.size = manager.block_size
        num_slots = manager.block_pool.num_blocks * self.size
        self.memory: list[object] = [None] * num_slots
        self.running: list[Request] = []
        self.num_requests = 0

    def step(self) -> None:
        choice = self.rng.random()
        if choice < 0.3:
            self.admit(self.new_request())
        elif choice < 0.6 and self.running:
            self.advance(self.rng.choice(self.running))
        elif choice < 0.7 and self.running:
            self.fork(self.rng.choice(self.running))
        elif choice < 0.85 and self.running:
            self.finish(self.rng.choice(self.running))
        elif choice < 0.92 and self.running:
            self.preempt(self.rng.choice(self.running))
        elif choice < 0.96:
            waiting = self.new_request()
            self.manager.get_computed_blocks(waiting)
            if self.rng.random() < 0.5 and self.manager.enable_caching:
                self.manager.free(waiting)  # aborted before it ran
        elif choice < 0.98:
            assert self.manager.reset_prefix_cache() == (not self.running)
        else:
            self.misuse()

    def new_request(self) -> Request:
        self.num_requests += 1
        tokens = [self.rng.randint(0, 1) for _ in range(self.rng.randint(1, 4 * self.size))]
        return Request(f"r{self.num_requests}", tokens, self.rng.choice([None, None, "salt"]))

    def text(self, request: Request, end: int) -> object:
        return request.cache_salt, tuple(request.all_token_ids[:end])

    def slot(self, block_ids: list[int], position: int) -> int:
        return block_ids[position // self.size] * self.size + position % self.size

    def admit(self, request: Request) -> None:
        blocks, num_hits = self.manager.get_computed_blocks(request)
        num_new = self.rng.randint(1, request.num_tokens - num_hits)
        whole = self.rng.random() < 0.5
        if self.manager.allocate_slots(
            request, num_new, num_hits, blocks, full_sequence_must_fit=whole
        ):
            self.running.append(request)
            self.execute(request, num_hits + num_new, num_hits)

    def advance(self, request: Request) -> None:
        if request.num_computed_tokens == request.num_tokens:
            request.all_token_ids.append(self.rng.randint(0, 1))
        num_new = self.rng.randint(1, request.num_tokens - request.num_computed_tokens)
        if self.manager.allocate_slots(request, num_new) is not None:
            self.execute(request, num_new)

    def execute(self, request: Request, num_tokens: int, num_hits: int = 0) -> None:
        """Copy blocks, check what is read, and write what is new."""
        start = request.num_computed_tokens + num_hits
        request.num_computed_tokens = end = request.num_computed_tokens + num_tokens
        for source, destination in self.manager.take_block_copies():
            for offset in range(self.size):
                moved = self.memory[source * self.size + offset]
                self.memory[destination * self.size + offset] = moved
        block_ids = self.manager.get_block_ids(request.request_id)
        for position in range(start):
            assert self.memory[self.slot(block_ids, position)] == self.text(request, position + 1)
        for position in range(start, end):
            self.memory[self.slot(block_ids, position)] = self.text(request, position + 1)

    def fork(self, parent: Request) -> None:
        self.num_requests += 1
        child = Request(f"r{self.num_requests}", list(parent.all_token_ids), parent.cache_salt)
        self.manager.fork(parent, child)
        assert child.num_computed_tokens == parent.num_computed_tokens
        self.running.append(child)

    def finish(self, request: Request) -> None:
        self.running.remove(request)
        self.manager.free(request)

    def preempt(self, request: Request) -> None:
        """Take a request's blocks back; sometimes after its step was planned and not run."""
        num_valid = None
        left = request.num_tokens - request.num_computed_tokens
        if left and self.rng.random() < 0.5:
            num_valid = request.num_computed_tokens
            if self.manager.allocate_slots(request, self.rng.randint(1, left)) is not None:
                request.num_computed_tokens = num_valid
        self.running.remove(request)
        self.manager.free(request, num_valid_tokens=num_valid)
        self.manager.take_block_copies()
        request.num_computed_tokens = 0
        if self.rng.random() < 0.7:
            self.admit(request)

    def misuse(self) -> None:
        unknown = Request("unknown", [0])
        for call in (self.manager.free, lambda request: self.manager.fork(request, unknown)):
            with pytest.raises(UnknownRequestError):
                call(unknown)
        with pytest.raises(ValueError, match="num_new_tokens"):
            self.manager.allocate_slots(unknown, 0)
        if self.running:
            parent = self.rng.choice(self.running)
            with pytest.raises(ValueError, match=r"already holds|does not begin"):
                self.manager.fork(parent, self.rng.choice(self.running))


@pytest.mark.parametrize("seed", range(RUNS))
def test_any_manager_keeps_its_invariants_and_its_contents(seed: int) -> None:
    rng = random.Random(seed)
    manager = KVCacheManager(
        num_blocks=rng.randint(2, 14),
        block_size=rng.randint(1, 4),
        enable_caching=seed % 5 > 0,
        watermark=rng.choice([0.0, 0.2]),
    )
    server = Server(rng, manager)
    with under_check(manager):
        for _ in range(MANAGER_OPERATIONS // RUNS):
            server.step()
        assert find_leaks(manager, [request.request_id for request in server.running]) == []
        for request in list(server.running):
            server.finish(request)
    # Conservation: when all has ended, all blocks are there.
    assert manager.block_pool.get_num_free_blocks() == manager.block_pool.num_blocks - 1
    assert manager.usage == 0.0
    assert find_leaks(manager, []) == []


class ManagerMachine(RuleBasedStateMachine):
    """The same server, steered by Hypothesis, which shrinks what it finds."""

    @initialize(
        num_blocks=st.integers(2, 8), block_size=st.integers(1, 3), enable_caching=st.booleans()
    )
    def start(self, num_blocks: int, block_size: int, enable_caching: bool) -> None:
        manager = KVCacheManager(num_blocks, block_size, enable_caching)
        self.server = Server(random.Random(0), manager)

    @rule(seed=st.integers(0, 2**16))
    def step(self, seed: int) -> None:
        self.server.rng.seed(seed)
        self.server.step()

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "server"):
            check_invariants(self.server.manager)


TestManagerMachine = ManagerMachine.TestCase
TestManagerMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


class TestPoolViolations:
    """Each way to break a pool is seen and said."""

    def broken(self, damage: Callable[[BlockPool], Any]) -> list[str]:
        pool = BlockPool(num_blocks=6)
        blocks = pool.get_new_blocks(2)
        pool.cache_full_blocks(blocks, [b"a", b"b"])
        assert find_violations(pool) == []
        check_invariants(pool)
        damage(pool)
        with pytest.raises(InvariantError):
            check_invariants(pool)
        return find_violations(pool)

    def test_a_lost_block(self) -> None:
        assert self.broken(lambda pool: pool.free_block_queue.remove(pool.blocks[4])) == [
            "block 4 is free and is in the free queue 0 times"
        ]

    def test_a_block_that_is_held_and_free(self) -> None:
        assert self.broken(lambda pool: pool.free_block_queue.append_n([pool.blocks[1]])) == [
            "block 1 is held by 1 and is in the free queue"
        ]

    def test_a_negative_count(self) -> None:
        assert self.broken(lambda pool: setattr(pool.blocks[3], "ref_cnt", -1)) == [
            "block 3 is held by -1"
        ]

    def test_a_null_block_in_use(self) -> None:
        assert self.broken(lambda pool: setattr(pool.null_block, "ref_cnt", 1)) == [
            "the null block is held, cached or in the free queue"
        ]

    def test_a_count_of_free_blocks_that_is_wrong(self) -> None:
        violations = self.broken(lambda pool: setattr(pool, "get_num_free_blocks", lambda: 9))
        assert violations == ["3 blocks are in the free queue, but get_num_free_blocks says 9"]

    def test_a_hash_that_survives(self) -> None:
        assert self.broken(lambda pool: setattr(pool.blocks[4], "block_hash", b"old")) == [
            "block 4 has a hash by which it cannot be found"
        ]

    def test_an_entry_that_survives(self) -> None:
        assert self.broken(lambda pool: setattr(pool.blocks[1], "block_hash", None)) == [
            "block 1 is found by a hash that is not its own"
        ]

    def test_a_hash_without_caching(self) -> None:
        assert self.broken(lambda pool: setattr(pool, "enable_caching", False)) == [
            "block 1 has a hash, although caching is off",
            "block 2 has a hash, although caching is off",
        ]


class TestManagerViolations:
    def broken(self, damage: Callable[[KVCacheManager, dict[str, Request]], Any]) -> list[str]:
        manager = KVCacheManager(num_blocks=10, block_size=2)
        requests = {name: Request(name, [1, 2, 3]) for name in "pc"}
        manager.allocate_slots(requests["p"], 3)
        requests["p"].num_computed_tokens = 3
        manager.fork(requests["p"], requests["c"])
        assert find_violations(manager) == []
        damage(manager, requests)
        return find_violations(manager)

    def test_a_count_that_is_not_the_number_of_owners(self) -> None:
        assert self.broken(lambda m, _: m.block_pool.touch([m.block_pool.blocks[2]])) == [
            "block 2 has a ref_cnt of 3 but is in 2 block tables"
        ]

    def test_a_table_that_is_too_short(self) -> None:
        violations = self.broken(lambda _, r: setattr(r["c"], "num_computed_tokens", 5))
        assert violations == ["request 'c' has computed 3 blocks but holds 2"]

    def test_shared_blocks_with_other_tokens(self) -> None:
        violations = self.broken(lambda _, r: r["c"].all_token_ids.__setitem__(2, 9))
        assert violations == ["'p' and 'c' share block 2 but not its tokens or their salt"]

    def test_a_hash_of_other_tokens(self) -> None:
        violations = self.broken(lambda _, r: r["c"].all_token_ids.__setitem__(0, 9))
        assert violations[0] == "block 1 has a hash of other tokens than 'c' has there"

    def test_another_salt(self) -> None:
        violations = self.broken(lambda _, r: setattr(r["c"], "cache_salt", "s"))
        assert len(violations) == 3

    def test_a_block_in_two_places(self) -> None:
        def swap(manager: KVCacheManager, requests: dict[str, Request]) -> None:
            manager.request_blocks["c"].blocks.reverse()

        assert "block 2 is block 1 of 'p' and block 0 of 'c'" in self.broken(swap)


class FaultyPool(BlockPool):
    """A pool with a fault of one's choice."""

    fault = ""

    def free_blocks(self, ordered_blocks: Any) -> None:
        blocks = list(ordered_blocks)
        super().free_blocks(blocks)
        if self.fault == "changes before it refuses":
            raise DoubleFreeError("block 1 is freed but nobody holds it; free it once")
        if self.fault == "queues twice":
            self.free_block_queue.prepend_n(blocks)

    def get_new_blocks(self, num_blocks: int) -> list[KVCacheBlock]:
        if self.fault != "keeps the hash":
            return super().get_new_blocks(num_blocks)
        blocks = self.free_block_queue.popleft_n(num_blocks)
        for block in blocks:
            block.ref_cnt = 1
        return blocks


class TestUnderCheck:
    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            ("queues twice", "after free_blocks: .*in the free queue 2 times"),
            ("changes before it refuses", "the state has changed, although the outcome is Double"),
            ("keeps the hash", "after get_new_blocks: new block 1 still has the hash"),
        ],
    )
    def test_a_fault_is_found_at_the_call_that_makes_it(self, fault: str, message: str) -> None:
        pool = FaultyPool(num_blocks=2)
        pool.fault = fault

        def use() -> None:
            for _ in range(2):
                blocks = pool.get_new_blocks(1)
                pool.cache_full_blocks(blocks, [b"a"])
                pool.free_blocks(blocks)

        with under_check(pool), pytest.raises(InvariantError, match=message):
            use()

    def test_none_must_mean_that_nothing_changed(self) -> None:
        class Hasty(KVCacheManager):
            def allocate_slots(self, *arguments: Any, **keywords: Any) -> None:
                super().allocate_slots(*arguments, **keywords)

        manager = Hasty(num_blocks=4)
        with (
            pytest.raises(InvariantError, match="state has changed, although the outcome is None"),
            under_check(manager),
        ):
            manager.allocate_slots(Request("a", [1]), 1)

    def test_afterwards_the_object_is_as_before(self) -> None:
        pool = BlockPool(num_blocks=4)
        before = dict(vars(pool))
        with under_check(pool), under_check(pool):
            assert set(vars(pool)) > set(before)
            pool.get_new_blocks(1)
        assert vars(pool).keys() == before.keys()

    def test_an_exception_of_the_pool_gets_through(self) -> None:
        pool = BlockPool(num_blocks=2)
        with under_check(pool), pytest.raises(OutOfBlocksError):
            pool.get_new_blocks(5)


class TestWatch:
    def test_calls_within_a_call_are_part_of_it(self) -> None:
        seen: list[Call] = []

        class Observer:
            def before(self) -> None: ...

            def after(self, call: Call) -> None:
                seen.append(call)

        class Chatty(BlockPool):
            def touch(self, blocks: Any) -> None:
                self.free_blocks(self.get_new_blocks(1))
                super().touch(blocks)

        pool = Chatty(num_blocks=4)
        with watch(pool, Observer()):
            pool.touch(iter(pool.blocks[1:2]))
        assert [(call.operation, call.arguments) for call in seen] == [
            ("touch", ([pool.blocks[1]],))
        ]

    def test_an_object_with_slots_is_refused(self) -> None:
        class Slotted:
            __slots__ = ()

        with pytest.raises(TypeError, match="Slotted has __slots__"), under_check(Slotted()):  # type: ignore[arg-type]
            pass


class ForgetsTheBlocks(KVCacheManager):
    def free(self, request: Any, *, num_valid_tokens: int | None = None) -> None:
        del self.request_blocks[request.request_id]


class ForgetsTheTable(KVCacheManager):
    def free(self, request: Any, *, num_valid_tokens: int | None = None) -> None:
        self.block_pool.free_blocks(reversed(self.request_blocks[request.request_id].blocks))


class FreesTheFirstBlockOnly(KVCacheManager):
    def free(self, request: Any, *, num_valid_tokens: int | None = None) -> None:
        self.block_pool.free_blocks(self.request_blocks.pop(request.request_id).blocks[:1])


class FreesTwice(KVCacheManager):
    def free(self, request: Any, *, num_valid_tokens: int | None = None) -> None:
        blocks = self.request_blocks.pop(request.request_id).blocks
        self.block_pool.free_blocks(blocks)
        self.block_pool.free_blocks(blocks)


class FreesPastThePool(KVCacheManager):
    def free(self, request: Any, *, num_valid_tokens: int | None = None) -> None:
        for block in self.request_blocks.pop(request.request_id).blocks:
            block.ref_cnt = 0


class FreesTheFirstBlockFirst(KVCacheManager):
    def free(self, request: Any, *, num_valid_tokens: int | None = None) -> None:
        self.block_pool.free_blocks(self.request_blocks.pop(request.request_id).blocks)


class TestFaultyFree:
    """Whatever a manager of one's own does wrong when it frees, the checker says so."""

    def free_under_check(self, make: type[KVCacheManager]) -> KVCacheManager:
        manager = make(num_blocks=10, block_size=2)
        request = Request("a", [1, 2, 3, 4])
        with under_check(manager):
            manager.allocate_slots(request, 4)
            request.num_computed_tokens = 4
            manager.free(request)
        return manager

    @pytest.mark.parametrize(
        ("make", "said"),
        [
            (ForgetsTheBlocks, "block 1 has a ref_cnt of 1 but is in 0 block tables"),
            (ForgetsTheTable, "block 1 has a ref_cnt of 0 but is in 1 block tables"),
            (FreesTheFirstBlockOnly, "block 2 has a ref_cnt of 1 but is in 0 block tables"),
            (FreesTwice, "the state has changed, although the outcome is DoubleFreeError"),
            (FreesPastThePool, "block 1 is free and is in the free queue 0 times"),
        ],
    )
    def test_a_fault_is_named(self, make: type[KVCacheManager], said: str) -> None:
        with pytest.raises(InvariantError, match=f"after free: .*{said}"):
            self.free_under_check(make)

    def test_another_order_breaks_no_law(self) -> None:
        manager = self.free_under_check(FreesTheFirstBlockFirst)
        assert find_violations(manager) == []


class TestLeaks:
    def test_the_owner_is_named(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=2)
        for name in "abc":
            manager.allocate_slots(Request(name, [1, 2, ord(name)]), 3)
        assert find_leaks(manager, live_request_ids=["b"]) == [
            Leak("a", (1, 2)),
            Leak("c", (5, 6)),
        ]

    def test_what_no_table_accounts_for_belongs_to_nobody(self) -> None:
        manager = KVCacheManager(num_blocks=10, block_size=2)
        manager.allocate_slots(Request("a", [1, 2, 3]), 3)
        manager.block_pool.touch(manager.block_pool.blocks[2:4])
        assert find_leaks(manager, ["a"]) == [Leak("nobody", (2, 3))]

    def test_an_abort_that_leaks(self) -> None:
        pool = BlockPool(num_blocks=8)
        with LeakFinder(pool) as finder:
            for name, aborted in (("one", False), ("two", True), ("three", False)):
                with finder.acting_for(name):
                    blocks = pool.get_new_blocks(2)
                    if not aborted:
                        pool.free_blocks(reversed(blocks))
        assert finder.leaks() == [Leak("two", (1, 2))]

    def test_shared_blocks_are_owed_by_everyone_who_holds_them(self) -> None:
        pool = BlockPool(num_blocks=8)
        with LeakFinder(pool) as finder:
            with finder.acting_for("first"):
                blocks = pool.get_new_blocks(2)
            with finder.acting_for("second"):
                pool.touch(blocks=blocks)
                pool.free_blocks(blocks[:1])
            pool.get_new_blocks(1)
            with pytest.raises(OutOfBlocksError):
                pool.get_new_blocks(100)
        pool.get_new_blocks(1)  # after the watch: not booked
        assert finder.leaks() == [
            Leak("first", (1, 2)),
            Leak("second", (2,)),
            Leak("unknown", (3,)),
        ]

    def test_freeing_what_another_holds_is_remembered(self) -> None:
        pool = BlockPool(num_blocks=8)
        with LeakFinder(pool) as finder:
            with finder.acting_for("owner"):
                blocks = pool.get_new_blocks(2)
            with finder.acting_for("thief"):
                pool.free_blocks(blocks[1:])
        assert finder.misfreed == [Leak("thief", (2,))]
        assert finder.leaks() == [Leak("owner", (1, 2))]


class TestRecorder:
    @pytest.fixture
    def frames(self) -> list[dict[str, Any]]:
        manager = KVCacheManager(num_blocks=7, block_size=2)
        parent, child = Request("p", [1, 2, 3]), Request("c", [1, 2, 3])
        with Recorder(manager) as recorder:
            manager.allocate_slots(parent, num_new_tokens=3)
            parent.num_computed_tokens = 3
            manager.fork(parent, child)
            manager.allocate_slots(child, 1)
            manager.take_block_copies()
            manager.free(child)
            with pytest.raises(UnknownRequestError):
                manager.free(child)
            manager.free(parent)
        manager.get_computed_blocks(parent)
        return recorder.frames

    def test_a_frame_for_the_start_and_for_each_call(self, frames: list[dict[str, Any]]) -> None:
        assert [(f["step"], f["operation"], f["arguments"], f["result"]) for f in frames] == [
            (0, "start", [], None),
            (1, "allocate_slots", ["p", 3], [1, 2]),
            (2, "fork", ["p", "c"], None),
            (3, "allocate_slots", ["c", 1], [3]),
            (4, "take_block_copies", [], [[2, 3]]),
            (5, "free", ["c"], None),
            (6, "free", ["c"], None),
            (7, "free", ["p"], None),
        ]
        assert [frame["step"] for frame in frames if frame["error"]] == [6]

    def test_states_owners_and_queue(self, frames: list[dict[str, Any]]) -> None:
        states = [[block["state"] for block in frame["blocks"][:4]] for frame in frames]
        assert states == [
            ["null", "free", "free", "free"],
            ["null", "in_use", "in_use", "free"],
            ["null", "shared", "shared", "free"],
            ["null", "shared", "in_use", "in_use"],
            ["null", "shared", "in_use", "in_use"],
            ["null", "in_use", "in_use", "free"],
            ["null", "in_use", "in_use", "free"],
            ["null", "cached", "free", "free"],
        ]
        assert [block["owners"] for block in frames[3]["blocks"][1:4]] == [["p", "c"], ["p"], ["c"]]
        assert frames[3]["tables"] == {"p": [1, 2], "c": [1, 3]}
        assert frames[7]["free_queue"] == [2, 3, 4, 5, 6, 1]
        assert frames[1]["usage"] == pytest.approx(2 / 6)

    def test_it_is_plain_data(self, frames: list[dict[str, Any]]) -> None:
        assert json.loads(json.dumps(frames)) == frames

    def test_a_frame_does_not_change_afterwards(self) -> None:
        pool = BlockPool(num_blocks=3)
        with Recorder(pool) as recorder:
            pool.cache_full_blocks(pool.get_new_blocks(1), [b"\x12\x34"])
        assert recorder.frames[1]["blocks"][1]["hash"] is None
        assert recorder.frames[2]["blocks"][1]["hash"] == "1234"
        assert recorder.frames[2]["arguments"] == [[1], ["1234"]]
        assert snapshot_blocks(pool).items() <= recorder.frames[2].items()
