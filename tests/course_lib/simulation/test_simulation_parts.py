"""A simulation runs on the learner's own parts: each is replaced by one that counts its calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from course_lib import parts
from course_lib.kv_cache import BlockPool, FreeKVCacheBlockQueue, KVCacheManager
from course_lib.scheduling import Scheduler, SchedulerConfig
from course_lib.scheduling.assembly import MANAGER_PARTS
from course_lib.scheduling.policies import POLICIES
from course_lib.simulation import (
    ConstantCostModel,
    IterationTime,
    IterationWork,
    RooflineCostModel,
    SimulationParts,
    TraceRequest,
    simulate,
)
from course_lib.simulation.simulation_parts import SIMULATION_PARTS
from course_lib.specs import GPUS, MODELS

ROOFLINE = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["l4"])
REQUESTS = [TraceRequest(0.01 * i, 40 + i, 20, client_id=str(i % 2)) for i in range(8)]

CALLED = {
    "Scheduler": (Scheduler, "schedule"),
    "KVCacheManager": (KVCacheManager, "allocate_slots"),
    "BlockPool": (BlockPool, "get_new_blocks"),
    "FreeKVCacheBlockQueue": (FreeKVCacheBlockQueue, "append_n"),
    "RooflineCostModel": (RooflineCostModel, "breakdown"),
}


def counting(base: type, method: str, calls: Counter[str]) -> type:
    """Return a subclass that counts how often one of its methods is called."""
    original: Callable[..., Any] = getattr(base, method)

    def counted(self: Any, *arguments: Any, **keywords: Any) -> Any:
        calls[base.__name__] += 1
        return original(self, *arguments, **keywords)

    return type(base.__name__, (base,), {method: counted})


def latencies(policy: str = "fcfs", own: SimulationParts | None = None) -> list[float]:
    """Simulate in little memory, so that every part has something to do."""
    config = SchedulerConfig(policy=policy, max_num_seqs=4)
    result = simulate(REQUESTS, config, ROOFLINE, 16, enable_caching=True, parts=own)
    return result.e2e.tolist()


@pytest.mark.parametrize("name", CALLED)
def test_a_class_of_ones_own_is_called(name: str) -> None:
    calls: Counter[str] = Counter()
    own = SimulationParts({name: counting(*CALLED[name], calls)})
    assert latencies(own=own) == latencies()
    assert calls[name] > 0


@pytest.mark.parametrize(
    "policy", [name for name, queue in POLICIES.items() if isinstance(queue, type)]
)
def test_a_queue_of_ones_own_is_called_where_its_policy_is_named(policy: str) -> None:
    queue = POLICIES[policy]
    assert isinstance(queue, type)
    calls: Counter[str] = Counter()
    own = SimulationParts({queue.__name__: counting(queue, "add", calls)})
    assert latencies(policy, own) == latencies(policy)
    assert calls[queue.__name__] == len(REQUESTS)
    other = "fcfs" if policy != "fcfs" else "priority"
    assert latencies(other, own) == latencies(other)
    assert calls[queue.__name__] == len(REQUESTS)


@pytest.mark.parametrize("name", MANAGER_PARTS)
def test_what_a_manager_is_made_with_is_called(name: str) -> None:
    calls: Counter[str] = Counter()
    reference: Callable[..., Any] = parts.reference(name)

    def counted(*arguments: Any, **keywords: Any) -> Any:
        calls[name] += 1
        return reference(*arguments, **keywords)

    assert latencies(own=SimulationParts({name: counted})) == latencies()
    assert calls[name] > 0


def test_arithmetic_of_ones_own_is_called() -> None:
    calls: Counter[str] = Counter()

    class OwnWork(IterationWork):
        @classmethod
        def of_batch(cls, rows: Any, swapped_tokens: int = 0) -> IterationWork:
            calls["of_batch"] += 1
            return IterationWork.of_batch(rows, swapped_tokens)

    class OwnTime(IterationTime):
        @property
        def total(self) -> float:
            calls["total"] += 1
            return 2 * super().total

    own = SimulationParts({"IterationWork": OwnWork, "IterationTime": OwnTime})
    steps = simulate(REQUESTS, SchedulerConfig(), ROOFLINE, 200, parts=own).steps
    assert calls == {"of_batch": len(steps), "total": len(steps)}
    assert steps[0].seconds == 2 * simulate(REQUESTS, SchedulerConfig(), ROOFLINE, 200).steps[0][1]


def test_a_cost_model_that_is_no_roofline_stays_as_it_is() -> None:
    constant = ConstantCostModel(1.0)
    assert SimulationParts({"IterationTime": IterationTime}).with_own_arithmetic(constant) is (
        constant
    )


def test_what_the_workspace_holds_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    own_pool = counting(BlockPool, "free_blocks", Counter())
    monkeypatch.setattr(
        parts, "get", lambda name: own_pool if name == "BlockPool" else parts.reference(name)
    )
    loaded = SimulationParts.load()
    assert loaded.own_names == ("BlockPool",)
    assert type(loaded.make_manager(10, 16, True).block_pool) is own_pool


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(KeyError, match="a simulation has no part 'Sampler'; parts: "):
        SimulationParts({"Sampler": object})


def test_every_part_is_replaced_here() -> None:
    queues = {queue.__name__ for queue in POLICIES.values() if isinstance(queue, type)}
    arithmetic = {"IterationWork", "IterationTime"}
    assert {*CALLED, *MANAGER_PARTS, *queues, *arithmetic} == set(SIMULATION_PARTS)
