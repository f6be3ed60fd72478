"""The executor carries out plans made by hand: in which order, for whom, and what comes of it."""

from __future__ import annotations

import pytest
import torch

from course_lib.attention import choose_backend
from course_lib.engine.checkpoint import load_checkpoint
from course_lib.engine.executor import Executor
from course_lib.engine.flatten import FlatStep, flatten_step
from course_lib.engine.kv_store import PagedKVStore
from course_lib.engine.request import EngineRequest
from course_lib.engine.sampling_params import SamplingParams
from course_lib.engine.tokenizer import checkpoint_folder
from course_lib.scheduling.scheduler import SchedulerOutput

NUM_BLOCKS, BLOCK_SIZE = 8, 16


class Bench:
    """An executor, with block tables that a test writes."""

    def __init__(self) -> None:
        model = load_checkpoint(checkpoint_folder("course-tiny"), dtype=torch.float32, device="cpu")
        self.store = PagedKVStore(model.config, NUM_BLOCKS, BLOCK_SIZE, num_cpu_blocks=2)
        self.tables: dict[str, list[int]] = {}
        self.executor = Executor(model, self.store, choose_backend("cpu"), self.tables.__getitem__)

    def request(self, name: str, num_tokens: int, block_ids: list[int]) -> EngineRequest:
        """Return a greedy request that has blocks."""
        self.tables[name] = block_ids
        params = SamplingParams(temperature=0, max_tokens=8)
        return EngineRequest(name, list(range(5, 5 + num_tokens)), params, seed=0)

    def start(self, request: EngineRequest, num_tokens: int, **plan: object) -> SchedulerOutput:
        """Return a plan in which a request runs for the first time."""
        request.num_computed_tokens = num_tokens
        return SchedulerOutput(
            {request.request_id: num_tokens},
            num_tokens,
            scheduled_new_reqs=[request],
            **plan,  # type: ignore[arg-type]
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_block_is_saved_before_it_is_overwritten(bench: Bench) -> None:
    for cache in (*bench.store.key_caches, *bench.store.value_caches):
        for block_id in range(NUM_BLOCKS):
            cache[block_id] = block_id
    plan = SchedulerOutput(
        blocks_to_swap_out=[(2, 0), (3, 1)], blocks_to_swap_in=[(0, 3)], blocks_to_copy=[(3, 2)]
    )
    assert bench.executor.execute(plan).sampled == {}
    bench.executor.execute(SchedulerOutput(blocks_to_swap_in=[(1, 4)]))
    for cache in (*bench.store.key_caches, *bench.store.value_caches):
        # 2 went out and came back as 3, which was copied to 2; what was in 3 is on the CPU.
        assert [cache[block_id].unique().tolist() for block_id in (2, 3, 4)] == [[2], [2], [3]]


def test_an_id_that_is_used_again_begins_anew(bench: Bench) -> None:
    bench.executor.execute(bench.start(bench.request("a", 20, [1, 2]), 20))
    assert bench.executor.block_tables() == {"a": [1, 2]}
    plan = bench.start(bench.request("a", 4, [1]), 4, finished_req_ids={"a"})
    assert bench.executor.execute(plan).sampled.keys() == {"a"}
    assert bench.executor.block_tables() == {"a": [1]}


def test_whoever_lost_its_blocks_is_forgotten(bench: Bench) -> None:
    bench.executor.execute(bench.start(bench.request("a", 4, [1]), 4))
    bench.executor.execute(SchedulerOutput(preempted_req_ids={"a"}))
    assert bench.executor.block_tables() == {}


def test_an_unfinished_prompt_gives_no_token(bench: Bench) -> None:
    request = bench.request("a", 20, [1, 2])
    assert bench.executor.execute(bench.start(request, 8)).sampled == {}
    request.num_computed_tokens = 20
    rest = SchedulerOutput({"a": 12}, 12)
    assert bench.executor.execute(rest).sampled.keys() == {"a"}


def test_a_prompt_in_chunks_gives_the_token_of_the_whole_prompt(bench: Bench) -> None:
    whole = bench.executor.execute(bench.start(bench.request("whole", 20, [1, 2]), 20))
    request = bench.request("chunks", 20, [3, 4])
    bench.executor.execute(bench.start(request, 8))
    request.num_computed_tokens = 20
    last = bench.executor.execute(SchedulerOutput({"chunks": 12}, 12))
    assert last.sampled["chunks"].token_id == whole.sampled["whole"].token_id


def test_those_who_share_a_prompt_get_a_token_each_from_one_run(bench: Bench) -> None:
    parent = bench.request("a", 20, [1, 2])
    child = bench.request("1_a", 20, [1, 2])
    other = bench.request("b", 3, [3])
    plan = bench.start(parent, 20)
    plan.num_scheduled_tokens["b"] = other.num_computed_tokens = 3
    plan.scheduled_new_reqs.append(other)
    sampled = bench.executor.execute(plan, {"a": [child]}).sampled
    assert list(sampled) == ["a", "1_a", "b"]
    assert sampled["a"].token_id == sampled["1_a"].token_id


def test_steps_are_flattened_by_the_function_that_it_is_given() -> None:
    seen: list[tuple[list[int], list[int], list[int]]] = []

    def counting(queries: list[int], contexts: list[int], known: list[int]) -> FlatStep:
        seen.append((queries, contexts, known))
        return flatten_step(queries, contexts, known)

    bench = Bench()
    bench.executor = Executor(
        bench.executor.model,
        bench.store,
        choose_backend("cpu"),
        bench.tables.__getitem__,
        flatten_step=counting,  # type: ignore[arg-type]
    )
    bench.executor.execute(bench.start(bench.request("a", 20, [1, 2]), 8))
    assert seen == [([8], [8], [20])]
