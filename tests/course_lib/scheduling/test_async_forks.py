"""Several answers to one prompt where steps are planned ahead: the same tokens, none too late."""

import random
from collections import deque
from dataclasses import dataclass, field

import pytest

from course_lib.kv_cache import KVCacheManager, check_invariants
from course_lib.scheduling import (
    AsyncScheduler,
    Request,
    RequestStatus,
    Scheduler,
    SchedulerConfig,
    SchedulerOutput,
)

EOS = 0
VOCABULARY = 19
NUM_ANSWERS = 3


def next_token(name: str, tokens: list[int]) -> int:
    """Return what a model draws: it depends on the answer and on all tokens before it."""
    return random.Random(f"{name} {tokens}").randrange(VOCABULARY)


@dataclass
class Planned:
    """A plan, and what of the requests counts when it is run, however late that is."""

    output: SchedulerOutput
    ends: dict[str, int]
    tables: dict[str, list[int]]
    families: dict[str, list[str]] = field(default_factory=dict)


class Machine:
    """A scheduler, and a device that runs its plans in order, some of them planned ahead.

    The keys and values of the model are numbers that depend on all tokens up to their position.
    """

    def __init__(self, scheduler: Scheduler, depth: int) -> None:
        self.scheduler = scheduler
        self.depth = depth
        self.size = scheduler.kv_cache_manager.block_size
        self.gpu: dict[int, dict[int, int]] = {}
        self.cpu: dict[int, dict[int, int]] = {}
        self.tokens: dict[str, list[int]] = {}
        self.answers: dict[str, list[int]] = {}
        self.num_forked = {True: 0, False: 0}
        self.num_preempted = 0

    def serve(self, prompts: dict[str, list[int]], max_tokens: int) -> dict[str, list[int]]:
        for name, prompt in prompts.items():
            self.scheduler.add_request(Request(name, prompt, max_tokens, eos_token_id=EOS))
            self.tokens[name] = list(prompt)
        in_flight: deque[Planned] = deque()
        for _ in range(10_000):
            if not self.scheduler.has_unfinished_requests():
                break
            in_flight.append(self.plan())
            if len(in_flight) == self.depth:
                self.run(in_flight.popleft())
        while in_flight:
            self.run(in_flight.popleft())
        assert not self.scheduler.requests, "some requests never end"
        pool = self.scheduler.kv_cache_manager.block_pool
        assert pool.get_num_free_blocks() == pool.num_blocks - 1
        return self.answers

    def plan(self) -> Planned:
        scheduler = self.scheduler
        output = scheduler.schedule()
        self.num_preempted += len(output.preempted_req_ids)
        get_block_ids = scheduler.kv_cache_manager.get_block_ids
        names = output.num_scheduled_tokens
        ends = {name: scheduler.requests[name].num_computed_tokens for name in names}
        planned = Planned(output, ends, {name: get_block_ids(name) for name in names})
        for name in names:
            parent = scheduler.requests[name]
            is_first = not name.count("/") and not parent.output_token_ids
            if is_first and parent.num_computed_tokens == parent.num_tokens:
                planned.families[name] = self.fork(parent)
        check_invariants(scheduler.kv_cache_manager)
        return planned

    def fork(self, parent: Request) -> list[str]:
        running = []
        for index in range(1, NUM_ANSWERS):
            name = f"{parent.request_id}/{index}"
            child = Request(name, parent.prompt_token_ids, parent.max_tokens, eos_token_id=EOS)
            runs = self.scheduler.fork_request(parent.request_id, child)
            assert (child.status is RequestStatus.RUNNING) == runs
            self.num_forked[runs] += 1
            self.tokens[name] = list(parent.prompt_token_ids)
            running += [name] if runs else []
        return running

    def run(self, planned: Planned) -> None:
        output = planned.output
        for moves, source_of, destination_of in (
            (output.blocks_to_swap_out, self.gpu, self.cpu),
            (output.blocks_to_swap_in, self.cpu, self.gpu),
            (output.blocks_to_copy, self.gpu, self.gpu),
        ):
            for source, destination in moves:
                destination_of[destination] = dict(source_of.get(source, {}))
        sampled = {}
        for name, count in output.num_scheduled_tokens.items():
            end, table, tokens = planned.ends[name], planned.tables[name], self.tokens[name]
            if end > len(tokens):
                continue  # behind an end that was not known when this was planned
            for position in range(end):
                block = self.gpu.setdefault(table[position // self.size], {})
                value = hash(tuple(tokens[: position + 1]))
                if position >= end - count:
                    block[position % self.size] = value
                assert block[position % self.size] == value, f"wrong KV at {position} of {name}"
            if end == len(tokens):
                for each in [name, *planned.families.get(name, ())]:
                    sampled[each] = next_token(each, self.tokens[each])
        for name, token in sampled.items():
            self.tokens[name].append(token)
        requests = dict(self.scheduler.requests)
        self.scheduler.update_from_output(output, sampled)
        for name, request in requests.items():
            self.answers[name] = list(request.output_token_ids)


def machine(kind: type[Scheduler], seed: int) -> Machine:
    rng = random.Random(seed)
    config = SchedulerConfig(
        max_num_seqs=rng.randrange(2, 9),
        max_num_batched_tokens=rng.randrange(6, 40),
        preemption_mode=rng.choice(["recompute", "swap"]),
        num_cpu_blocks=rng.randrange(5, 40),
    )
    manager = KVCacheManager(rng.randrange(14, 40), 2, enable_caching=rng.random() < 0.7)
    return Machine(kind(config, manager), depth=2 if kind is AsyncScheduler else 1)


def test_planned_ahead_the_answers_are_the_same() -> None:
    forked, preempted = {True: 0, False: 0}, 0
    for seed in range(60):
        rng = random.Random(-seed)
        prompts = {
            str(i): [1, 2, 3, *rng.choices(range(1, VOCABULARY), k=rng.randrange(1, 7))]
            for i in range(10)
        }
        expected = machine(Scheduler, seed).serve(prompts, max_tokens=9)
        ahead = machine(AsyncScheduler, seed)
        assert ahead.serve(prompts, max_tokens=9) == expected
        assert len(expected) == NUM_ANSWERS * len(prompts)
        forked = {runs: forked[runs] + ahead.num_forked[runs] for runs in forked}
        preempted += ahead.num_preempted
    # What was to be tried has been tried.
    assert min(forked.values()) > 100
    assert preempted > 100


def scheduler() -> AsyncScheduler:
    return AsyncScheduler(SchedulerConfig(), KVCacheManager(20, 4))


def request(name: str, num_tokens: int = 6, max_tokens: int = 4) -> Request:
    return Request(name, list(range(num_tokens)), max_tokens)


def test_a_child_has_its_token_with_the_plan_of_its_parent() -> None:
    planner = scheduler()
    parent, child = request("parent"), request("child")
    planner.add_request(parent)
    first = planner.schedule()
    assert planner.fork_request("parent", child)
    assert (parent.num_tokens_ahead, child.num_tokens_ahead) == (1, 1)
    second = planner.schedule()
    assert second.num_scheduled_tokens == {"parent": 1, "child": 1}
    # The block that both would write to is copied before the second plan is run.
    assert [source for source, _ in second.blocks_to_copy] == [2]
    planner.update_from_output(first, {"parent": 7, "child": 8})
    assert (parent.output_token_ids, child.output_token_ids) == ([7], [8])
    planner.update_from_output(second, {"parent": 9, "child": 5})
    assert (parent.output_token_ids, child.output_token_ids) == ([7, 9], [8, 5])


def test_a_child_whose_first_token_is_its_last_is_not_planned_further() -> None:
    planner = scheduler()
    planner.add_request(request("parent"))
    first = planner.schedule()
    assert planner.fork_request("parent", request("child", max_tokens=1))
    assert planner.schedule().num_scheduled_tokens == {"parent": 1}
    [ended] = planner.update_from_output(first, {"parent": 7, "child": 8})
    assert (ended.request_id, ended.output_token_ids) == ("child", [8])


def test_a_child_that_is_aborted_and_added_again_gets_no_word_of_the_first() -> None:
    planner = scheduler()
    planner.add_request(request("parent"))
    first = planner.schedule()
    planner.fork_request("parent", request("child"))
    planner.finish_requests("child", RequestStatus.FINISHED_ABORTED)
    again = request("child")
    planner.add_request(again)
    planner.update_from_output(first, {"parent": 7, "child": 8})
    assert again.output_token_ids == []


def test_a_parent_that_is_computed_up_to_a_placeholder_has_no_fork() -> None:
    planner = scheduler()
    planner.add_request(request("parent"))
    first = planner.schedule()
    planner.schedule()
    with pytest.raises(ValueError, match="fork as soon as the plan is made that does"):
        planner.fork_request("parent", request("child"))
    # With the first plan's token, the second one has computed up to the last known token.
    planner.update_from_output(first, {"parent": 7})
    child = Request("child", [*range(6), 7], 4)
    assert planner.fork_request("parent", child)


@pytest.mark.parametrize("is_planned", [False, True])
def test_a_parent_that_is_not_in_the_newest_plan_has_no_fork(is_planned: bool) -> None:
    planner = scheduler()
    planner.add_request(request("parent", max_tokens=1))
    if is_planned:
        planner.schedule()
        planner.add_request(request("other"))
        planner.schedule()
    with pytest.raises(ValueError, match=r"newest plan in flight|is not running"):
        planner.fork_request("parent", request("child"))
    with pytest.raises(ValueError, match="request 'nobody' is not running"):
        planner.fork_request("nobody", request("child"))
    assert "child" not in planner.requests


def test_a_child_that_can_never_be_computed_leaves_no_trace() -> None:
    config = SchedulerConfig(max_num_batched_tokens=6, enable_chunked_prefill=False)
    planner = AsyncScheduler(config, KVCacheManager(10, 4))
    parent = request("parent")
    planner.add_request(parent)
    planner.update_from_output(planner.schedule(), {"parent": 7})
    newest = planner.schedule()
    with pytest.raises(ValueError, match="the prompt has 7 tokens and a step has 6"):
        planner.fork_request("parent", Request("child", [*range(6), 7], 4))
    assert list(planner.requests) == ["parent"]
    assert parent.num_tokens_ahead == 1
    planner.update_from_output(newest, {"parent": 8})
    assert parent.output_token_ids == [7, 8]
