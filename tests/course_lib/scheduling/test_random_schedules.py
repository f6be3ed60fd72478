"""100,000 random steps: a model that can only answer rightly if the scheduler kept all promises.

The model's keys and values are numbers that depend on all tokens up to their position, as real ones
do. It writes them into slots and reads them back through the block tables. So a block that was
shared, swapped, copied or found in the cache wrongly shows at once, and every request's output must
be what the same model says without any scheduler.
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from course_lib.kv_cache import KVCacheManager, check_invariants
from course_lib.scheduling import (
    POLICIES,
    VICTIM_POLICIES,
    AsyncScheduler,
    CacheAwareScheduler,
    DecisionLog,
    EvenSplitScheduler,
    LoRAScheduler,
    Request,
    RequestStatus,
    Scheduler,
    SchedulerConfig,
    SchedulerOutput,
    SpeculativeScheduler,
    StaticBatchingScheduler,
)
from course_lib.scheduling.watch.state import SchedulerState
from course_lib.scheduling.watch.violations import plan_violations

KINDS = [
    Scheduler,
    Scheduler,
    SpeculativeScheduler,
    SpeculativeScheduler,
    AsyncScheduler,
    AsyncScheduler,
    LoRAScheduler,
    StaticBatchingScheduler,
    EvenSplitScheduler,
    CacheAwareScheduler,
]
STEPS = 100_000
RUNS = 50
VOCABULARY = 23
EOS = 0


def chained(value: int, token: int) -> int:
    """Return the key and value of a token behind a prefix with this one."""
    return hash((value, token))


def first_in(running: Sequence[Request]) -> int:
    """Choose the victim that hurts most: whoever is nearest to being done."""
    return 0


def next_token(value: int) -> int:
    return value % VOCABULARY


def start_value(request: Request) -> int:
    return 0 if request.cache_salt is None else len(request.cache_salt)


def answer_without_scheduler(request: Request, max_model_len: int) -> tuple[list[int], bool]:
    """Return what the model says to a prompt, and whether it ended with EOS."""
    value = start_value(request)
    for token in request.prompt_token_ids:
        value = chained(value, token)
    answer: list[int] = []
    while True:
        token = next_token(value)
        answer.append(token)
        value = chained(value, token)
        if token == request.eos_token_id:
            return answer, True
        if len(answer) == request.max_tokens or (
            request.num_prompt_tokens + len(answer) >= max_model_len
        ):
            return answer, False


@dataclass
class Row:
    """What a step computes of one request."""

    request: Request
    start: int
    end: int
    table: list[int]
    drafts: list[int]


@dataclass
class Plan:
    """A scheduler's output, with all that the model needs to carry it out later."""

    output: SchedulerOutput
    rows: list[Row]


def plan_of(scheduler: Scheduler, output: SchedulerOutput) -> Plan:
    rows = []
    for request_id, num_tokens in output.num_scheduled_tokens.items():
        request = scheduler.requests[request_id]
        end = request.num_computed_tokens
        table = scheduler.kv_cache_manager.get_block_ids(request_id)
        drafts = output.scheduled_spec_decode_tokens.get(request_id, [])
        rows.append(Row(request, end - num_tokens, end, table, drafts))
    return Plan(output, rows)


class Model:
    """Keeps a number per slot, and its own copy of every request's tokens, as a GPU does."""

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.gpu: dict[int, dict[int, int]] = {}
        self.cpu: dict[int, dict[int, int]] = {}
        self.tokens: dict[Request, list[int]] = {}
        self.values: dict[Request, list[int]] = {}

    def run(self, plan: Plan) -> dict[str, int | list[int]]:
        output = plan.output
        for source, destination in output.blocks_to_swap_out:
            self.cpu[destination] = dict(self.gpu[source])
        for source, destination in output.blocks_to_swap_in:
            self.gpu[destination] = dict(self.cpu[source])
        for source, destination in output.blocks_to_copy:
            self.gpu[destination] = dict(self.gpu[source])
        for row in plan.rows:
            self._write(row)
        sampled: dict[str, int | list[int]] = {}
        for row in plan.rows:
            self._read(row)
            tokens = self._sample(row)
            if tokens:
                sampled[row.request.request_id] = tokens if row.drafts else tokens[0]
        return sampled

    def _write(self, row: Row) -> None:
        request = row.request
        tokens = self.tokens.setdefault(request, list(request.prompt_token_ids))
        values = self.values.setdefault(request, [])
        for token in [*tokens, *row.drafts][len(values) : row.end]:
            values.append(chained(values[-1] if values else start_value(request), token))
        assert len(values) >= row.end, "a token is computed that nobody knows"
        for position in range(row.start, row.end):
            block = self.gpu.setdefault(row.table[position // self.block_size], {})
            block[position % self.block_size] = values[position]

    def _read(self, row: Row) -> None:
        size, values = self.block_size, self.values[row.request]
        read: list[int | None] = []
        for block_id in row.table[: -(-row.end // size)]:
            block = self.gpu[block_id]
            read += [block.get(offset) for offset in range(size)]
        assert read[: row.end] == values[: row.end], f"wrong KV for {row.request}"

    def _sample(self, row: Row) -> list[int]:
        tokens, values = self.tokens[row.request], self.values[row.request]
        if row.end < len(tokens):
            return []
        accepted: list[int] = []
        for position in range(len(tokens) - 1, row.end):
            accepted.append(next_token(values[position]))
            draft = len(accepted) - 1
            if draft < len(row.drafts) and row.drafts[draft] != accepted[-1]:
                break
        tokens += accepted
        del values[len(tokens) - 1 :]  # those of drafts that were rejected
        return accepted


@dataclass
class Machine:
    """A scheduler under random load, and everything that must always be true of it."""

    seed: int
    log: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = self.rng = random.Random(self.seed)
        self.block_size = rng.choice([1, 2, 4])
        self.num_blocks = 1 + rng.randrange(24, 80) // self.block_size
        chunked = rng.random() < 0.8
        policy = rng.choice([*POLICIES, "fcfs", "fcfs"])
        self.config = SchedulerConfig(
            max_num_seqs=rng.randrange(1, 9),
            max_num_batched_tokens=rng.randrange(2 if chunked else 12, 40),
            policy=policy,
            long_prefill_token_threshold=rng.choice([0, 0, 3]),
            enable_chunked_prefill=chunked,
            preemption_mode=rng.choice(["recompute", "swap"]),
            num_cpu_blocks=rng.randrange(30),
            watermark=rng.choice([0.0, 0.1, 0.5]),
            reserve_full_prompt=rng.random() < 0.6,
            max_model_len=rng.choice([None, 30]),
            victim_policy=rng.choice([None, None, *VICTIM_POLICIES, first_in, self.anybody]),
        )
        manager = KVCacheManager(
            self.num_blocks, self.block_size, enable_caching=rng.random() < 0.7
        )
        self.scheduler = self.make_scheduler(manager)
        self.manager = manager
        self.model = Model(self.block_size)
        self.in_flight: deque[Plan] = deque()
        self.max_in_flight = 2 if isinstance(self.scheduler, AsyncScheduler) else 1
        self.arrivals: list[Request] = []
        self.started: list[Request] = []
        self.finished: list[Request] = []
        self.num_steps = 0
        self.idle_steps = 0

    def anybody(self, running: Sequence[Request]) -> int:
        return self.rng.randrange(len(running))

    def make_scheduler(self, manager: KVCacheManager) -> Scheduler:
        log = DecisionLog() if self.rng.random() < 0.2 else None
        kind = self.rng.choice(KINDS)
        if kind is LoRAScheduler:
            return LoRAScheduler(self.config, manager, max_loras=2, log=log)
        if kind is CacheAwareScheduler:
            scheduler = CacheAwareScheduler(self.config, manager, max_passes=2, log=log)
            self.config = scheduler.config  # with the queue that it has
            return scheduler
        return kind(self.config, manager, log=log)

    def add(self) -> None:
        rng = self.rng
        if self.finished and rng.random() < 0.1:
            name = rng.choice(self.finished).request_id  # an id may be used again
        else:
            name = f"r{len(self.arrivals)}"
        if name in self.scheduler.requests:
            return
        shared = [1, 2, 3, 4, 5, 6, 7, 8][: rng.randrange(9)]
        prompt = shared + [rng.randrange(1, VOCABULARY) for _ in range(rng.randrange(1, 14))]
        request = Request(
            name,
            prompt,
            max_tokens=rng.randrange(1, 20),
            priority=rng.randrange(3),
            arrival_time=float(rng.choice([self.num_steps, 0])),
            eos_token_id=rng.choice([EOS, EOS, None]),
            cache_salt=rng.choice([None, None, "salt"]),
            client_id=rng.choice("xyz"),
            deadline=self.num_steps + rng.random() * 50,
            lora_id=rng.choice([None, "l", "m", "n"]),
        )
        self.scheduler.add_request(request)
        if request.is_finished:
            assert request.status is RequestStatus.FINISHED_IGNORED
            assert request.finish_reason
            return
        self.arrivals.append(request)

    def abort_some(self) -> None:
        rng = self.rng
        if self.scheduler.requests and rng.random() < 0.01:
            name = rng.choice(list(self.scheduler.requests))
            request = self.scheduler.requests[name]
            self.scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)
            self.finished.append(request)
            if rng.random() < 0.3:
                again = Request(
                    name, request.prompt_token_ids, request.max_tokens, eos_token_id=EOS
                )
                self.scheduler.add_request(again)
                self.arrivals.append(again)

    def step(self, *, is_loaded: bool) -> None:
        rng, scheduler = self.rng, self.scheduler
        if is_loaded:
            while len(scheduler.requests) < 9 and rng.random() < 0.7:
                self.add()
            self.abort_some()
        if isinstance(scheduler, SpeculativeScheduler):
            scheduler.add_drafts(self.draft())
        before = SchedulerState.of(scheduler)
        output = scheduler.schedule()
        assert plan_violations(before, output, SchedulerState.of(scheduler)) == []
        self.check_output(output)
        self.in_flight.append(plan_of(scheduler, output))
        if is_loaded:
            self.abort_some()  # while the step runs
        while len(self.in_flight) >= self.max_in_flight:
            self.update()
        self.num_steps += 1
        self.check_state()

    def draft(self) -> dict[str, list[int]]:
        """Guess the next tokens, rightly for a while."""
        drafts = {}
        for request in self.scheduler.running:
            answer, _ = answer_without_scheduler(request, self.scheduler.max_model_len)
            right = answer[request.num_output_tokens :][: self.rng.randrange(4)]
            drafts[request.request_id] = right + [7] * self.rng.randrange(3)
        return drafts

    def update(self) -> None:
        plan = self.in_flight.popleft()
        sampled = self.model.run(plan)
        for request in self.scheduler.update_from_output(plan.output, sampled):
            self.finished.append(request)
            answer, has_eos = answer_without_scheduler(request, self.scheduler.max_model_len)
            assert request.output_token_ids == answer
            assert request.all_token_ids == request.prompt_token_ids + answer
            expected = (
                RequestStatus.FINISHED_STOPPED if has_eos else RequestStatus.FINISHED_LENGTH_CAPPED
            )
            assert request.status is expected

    def check_output(self, output: SchedulerOutput) -> None:
        scheduler, config = self.scheduler, self.config
        scheduled = output.num_scheduled_tokens
        assert output.total_num_scheduled_tokens == sum(scheduled.values())
        assert output.total_num_scheduled_tokens <= config.max_num_batched_tokens
        assert all(num_tokens >= 1 for num_tokens in scheduled.values())
        assert len(scheduler.running) <= config.max_num_seqs
        running = [request.request_id for request in scheduler.running]
        assert list(scheduled) == [name for name in running if name in scheduled]
        starting = [*output.scheduled_new_reqs, *output.scheduled_resumed_reqs]
        assert {request.request_id for request in starting} <= set(scheduled)
        if output.preempted_req_ids:
            assert not starting
            assert not output.preempted_req_ids & set(scheduled)
        assert not (output.blocks_to_swap_in and output.blocks_to_swap_out)
        self.started += output.scheduled_new_reqs
        if config.policy == "fcfs":
            order = {request: index for index, request in enumerate(self.arrivals)}
            first_service = [order[request] for request in self.started[-5:]]
            assert first_service == sorted(first_service)
        held = self.in_flight or scheduled or output.preempted_req_ids
        self.idle_steps = 0 if held or not scheduler.requests else self.idle_steps + 1
        assert self.idle_steps < 3, "there is work and nobody is served"
        self.log.append(
            (dict(scheduled), sorted(output.preempted_req_ids), output.blocks_to_swap_out)
        )

    def check_state(self) -> None:
        scheduler, manager = self.scheduler, self.manager
        places = [*scheduler.running, *scheduler.swapped, *scheduler.waiting]
        assert len(places) == len(scheduler.requests)
        assert set(places) == set(scheduler.requests.values())
        assert len(scheduler.waiting) == len(list(scheduler.waiting))
        if scheduler.waiting:
            assert next(iter(scheduler.waiting)) is scheduler.waiting.peek()
        assert all(r.status is RequestStatus.RUNNING for r in scheduler.running)
        assert all(r.status is RequestStatus.SWAPPED for r in scheduler.swapped)
        tables = manager.block_tables()
        assert tables.keys() == {request.request_id for request in scheduler.running}
        held = {block for table in tables.values() for block in table}
        assert len(held) + manager.block_pool.get_num_free_blocks() == self.num_blocks - 1
        if self.num_steps % 16 == 0:
            check_invariants(manager)

    def drain(self) -> None:
        """Let everything come to its end, in a number of steps that the work explains."""
        limit = 200 + 40 * sum(r.length_limit for r in self.scheduler.requests.values())
        for _ in range(limit):
            if not self.scheduler.has_unfinished_requests():
                break
            self.step(is_loaded=False)
        while self.in_flight:
            self.update()
        assert not self.scheduler.requests, "some requests never end"
        assert all(request.is_finished for request in self.arrivals)
        assert self.manager.block_pool.get_num_free_blocks() == self.num_blocks - 1
        assert not self.manager.block_tables()
        check_invariants(self.manager)

    def run(self, num_steps: int) -> "Machine":
        while self.num_steps < num_steps:
            self.step(is_loaded=True)
        self.drain()
        return self


@pytest.mark.parametrize("seed", range(RUNS))
def test_every_promise_is_kept_under_random_load(seed: int) -> None:
    Machine(seed).run(STEPS // RUNS)


@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_gives_the_same_schedule(seed: int) -> None:
    assert Machine(seed).run(300).log == Machine(seed).run(300).log
