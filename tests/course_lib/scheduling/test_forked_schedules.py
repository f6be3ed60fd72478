"""Several answers to one prompt under random load: they share blocks, and nobody's are overwritten.

The model's keys and values are numbers that depend on all tokens up to their position. A block that
was copied too late, from the wrong place, or not at all shows in the number that is read from it.
"""

import random

import pytest

from course_lib.kv_cache import KVCacheManager, check_invariants
from course_lib.scheduling import (
    Request,
    RequestStatus,
    Scheduler,
    SchedulerConfig,
    VTCRequestQueue,
)

STEPS = 1_500
VOCABULARY = 23


def value_at(tokens: list[int], position: int) -> int:
    return hash(tuple(tokens[: position + 1]))


class Machine:
    """A scheduler, the blocks that a model would write, and prompts that fork."""

    def __init__(self, seed: int) -> None:
        rng = self.rng = random.Random(seed)
        self.size = rng.choice([2, 4])
        self.num_blocks = 1 + rng.randrange(24, 70) // self.size
        self.config = SchedulerConfig(
            max_num_seqs=rng.randrange(2, 9),
            max_num_batched_tokens=rng.randrange(4, 40),
            policy=rng.choice(["fcfs", "priority", "sjf", "vtc", "wfq"]),
            preemption_mode=rng.choice(["recompute", "swap"]),
            num_cpu_blocks=rng.randrange(5, 40),
            reserve_full_prompt=rng.random() < 0.6,
        )
        self.manager = KVCacheManager(self.num_blocks, self.size, rng.random() < 0.7)
        self.scheduler = Scheduler(self.config, self.manager)
        self.gpu: dict[int, dict[int, int]] = {}
        self.cpu: dict[int, dict[int, int]] = {}
        self.num_added = 0
        self.num_forked = {True: 0, False: 0}
        self.num_swapped = 0

    def add(self) -> None:
        rng = self.rng
        prompt = [1, 2, 3, 4, 5, 6][: rng.randrange(7)]
        prompt += rng.choices(range(VOCABULARY), k=rng.randrange(1, 12))
        self.scheduler.add_request(
            Request(f"r{self.num_added}", prompt, rng.randrange(1, 16), rng.randrange(3))
        )
        self.num_added += 1

    def step(self, *, is_loaded: bool) -> None:
        rng, scheduler = self.rng, self.scheduler
        while is_loaded and len(scheduler.requests) < 10 and rng.random() < 0.6:
            self.add()
        if is_loaded and scheduler.requests and rng.random() < 0.03:
            name = rng.choice(list(scheduler.requests))
            scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)
        output = scheduler.schedule()
        self.num_swapped += len(output.blocks_to_swap_out)
        for source, destination in output.blocks_to_swap_out:
            self.cpu[destination] = dict(self.gpu[source])
        for source, destination in output.blocks_to_swap_in:
            self.gpu[destination] = dict(self.cpu[source])
        for source, destination in output.blocks_to_copy:
            self.gpu[destination] = dict(self.gpu[source])
        sampled = {}
        for name in output.num_scheduled_tokens:
            parent = scheduler.requests[name]
            if parent.num_computed_tokens < parent.num_tokens:
                continue
            sampled[name] = rng.randrange(VOCABULARY)
            if not parent.output_token_ids and not name.startswith("child"):
                for child in self.fork(parent):
                    sampled[child] = rng.randrange(VOCABULARY)
        for name, num_tokens in output.num_scheduled_tokens.items():
            self.compute(scheduler.requests[name], num_tokens)
        scheduler.update_from_output(output, sampled)
        self.check()

    def fork(self, parent: Request) -> list[str]:
        running = []
        for index in range(self.rng.randrange(4)):
            child = Request(
                f"child {index} of {parent.request_id}",
                parent.prompt_token_ids,
                parent.max_tokens,
                parent.priority,
            )
            runs = self.scheduler.fork_request(parent.request_id, child)
            assert (child.status is RequestStatus.RUNNING) == runs
            self.num_forked[runs] += 1
            running += [child.request_id] if runs else []
        return running

    def compute(self, request: Request, num_tokens: int) -> None:
        table = self.manager.get_block_ids(request.request_id)
        tokens, end = request.all_token_ids, request.num_computed_tokens
        for position in range(end - num_tokens, end):
            block = self.gpu.setdefault(table[position // self.size], {})
            block[position % self.size] = value_at(tokens, position)
        for position in range(end):
            found = self.gpu[table[position // self.size]].get(position % self.size)
            assert found == value_at(tokens, position), f"wrong KV at {position} of {request}"

    def check(self) -> None:
        scheduler, manager = self.scheduler, self.manager
        places = [*scheduler.running, *scheduler.swapped, *scheduler.waiting]
        assert len(places) == len(scheduler.requests)
        assert len(scheduler.running) <= self.config.max_num_seqs
        assert manager.block_tables().keys() == {r.request_id for r in scheduler.running}
        check_invariants(manager)

    def run(self) -> "Machine":
        for _ in range(STEPS):
            self.step(is_loaded=True)
        for _ in range(10_000):
            if not self.scheduler.has_unfinished_requests():
                break
            self.step(is_loaded=False)
        assert not self.scheduler.requests, "some requests never end"
        assert self.manager.block_pool.get_num_free_blocks() == self.num_blocks - 1
        return self


def test_answers_that_share_blocks_read_what_they_wrote() -> None:
    machines = [Machine(seed).run() for seed in range(12)]
    # What was to be tried has been tried.
    for has_seat in (True, False):
        assert sum(machine.num_forked[has_seat] for machine in machines) > 500
    assert sum(machine.manager.num_copies for machine in machines) > 500
    assert sum(machine.num_swapped for machine in machines) > 100


def running(scheduler: Scheduler, num_tokens: int, max_tokens: int = 4) -> Request:
    request = Request("parent", list(range(num_tokens)), max_tokens)
    scheduler.add_request(request)
    scheduler.schedule()
    return request


def test_a_fork_shares_all_blocks_and_is_in_the_batch() -> None:
    scheduler = Scheduler(SchedulerConfig(max_num_seqs=2), KVCacheManager(10, 4))
    parent = running(scheduler, 6)
    child, late = (Request(name, list(range(6)), 4) for name in ("child", "late"))
    assert scheduler.fork_request("parent", child)
    assert scheduler.running == [parent, child]
    assert scheduler.kv_cache_manager.get_block_ids("child") == [1, 2]
    assert child.num_computed_tokens == 6
    # There is no third place.
    assert not scheduler.fork_request("parent", late)
    assert list(scheduler.waiting) == [late]
    assert late.num_computed_tokens == 0


def test_a_fork_pays_for_each_of_its_tokens_but_not_for_the_prompt_again() -> None:
    queue = VTCRequestQueue(input_weight=1.0, output_weight=10.0)
    scheduler = Scheduler(SchedulerConfig(policy=queue), KVCacheManager(10, 4))
    scheduler.add_request(Request("parent", list(range(6)), 4))
    output = scheduler.schedule()
    scheduler.fork_request("parent", Request("child", list(range(6)), 4))
    assert queue.counters[""] == 6 + 2 * 10
    scheduler.update_from_output(output, {"parent": 7, "child": 8})
    scheduler.schedule()
    assert queue.counters[""] == 6 + 4 * 10


def test_what_is_swapped_out_before_its_copy_is_made_is_saved_from_the_original() -> None:
    config = SchedulerConfig(
        preemption_mode="swap", num_cpu_blocks=8, victim_policy=lambda running: 0
    )
    scheduler = Scheduler(config, KVCacheManager(6, 4, enable_caching=False))
    parent, other = Request("parent", list(range(5)), 8), Request("other", list(range(8)), 8)
    for request in (parent, other):
        scheduler.add_request(request)
    output = scheduler.schedule()
    scheduler.fork_request("parent", Request("child", list(range(5)), 8))
    scheduler.update_from_output(output, {"parent": 1, "other": 2, "child": 3})
    assert scheduler.kv_cache_manager.get_block_ids("parent") == [1, 2]
    # The parent gets the last block as its own copy of block 2; then the other one needs it.
    output = scheduler.schedule()
    assert output.preempted_req_ids == {"parent"}
    assert output.blocks_to_copy == [(2, 5)]
    assert [source for source, _ in output.blocks_to_swap_out] == [1, 2]


@pytest.mark.parametrize(
    ("parent_id", "tokens", "salt", "message"),
    [
        ("nobody", range(6), None, "request 'nobody' is not running"),
        ("parent", range(5), None, "cannot continue"),
        ("parent", range(6), "salt", "cannot continue"),
    ],
)
def test_a_fork_of_something_else_is_refused_and_nothing_changes(
    parent_id: str, tokens: range, salt: str | None, message: str
) -> None:
    scheduler = Scheduler(SchedulerConfig(), KVCacheManager(10, 4))
    parent = running(scheduler, 6)
    child = Request("child", list(tokens), 4, cache_salt=salt)
    with pytest.raises(ValueError, match=message):
        scheduler.fork_request(parent_id, child)
    assert list(scheduler.requests.values()) == [parent]
    assert not scheduler.waiting


def test_a_fork_that_can_never_be_computed_leaves_no_trace() -> None:
    config = SchedulerConfig(max_num_batched_tokens=6, enable_chunked_prefill=False)
    scheduler = Scheduler(config, KVCacheManager(10, 4))
    running(scheduler, 6)
    scheduler.update_from_output(scheduler.schedule(), {"parent": 7})
    scheduler.schedule()
    child = Request("child", [*range(6), 7], 4)
    with pytest.raises(ValueError, match="the prompt has 7 tokens and a step has 6"):
        scheduler.fork_request("parent", child)
    assert child.status is RequestStatus.WAITING
    assert list(scheduler.requests) == ["parent"]
    assert not scheduler.waiting
    assert scheduler.schedule().finished_req_ids == set()


def test_a_prompt_that_is_not_computed_to_its_end_has_no_fork() -> None:
    scheduler = Scheduler(SchedulerConfig(max_num_batched_tokens=4), KVCacheManager(10, 4))
    running(scheduler, 6)
    with pytest.raises(ValueError, match="when all tokens of the parent are computed"):
        scheduler.fork_request("parent", Request("child", list(range(6)), 4))
