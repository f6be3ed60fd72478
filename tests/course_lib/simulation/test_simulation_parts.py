"""A simulation runs on the learner's own parts, and says whose it was when one of them fails.

That each part is really called is seen in ``test_parts_in_use.py``.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from course_lib import parts
from course_lib.kv_cache import BlockPool
from course_lib.scheduling import (
    AsyncScheduler,
    FCFSRequestQueue,
    LoRAScheduler,
    PriorityRequestQueue,
    Scheduler,
    SchedulerConfig,
    least_important,
)
from course_lib.scheduling.assembly import PartError
from course_lib.simulation import (
    ConstantCostModel,
    IterationTime,
    IterationWork,
    RooflineCostModel,
    SimulationError,
    SimulationParts,
    TraceRequest,
    simulate,
)
from course_lib.specs import GPUS, MODELS

ROOFLINE = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["l4"])
REQUESTS = [TraceRequest(0.01 * i, 40 + i, 20, client_id=str(i % 2)) for i in range(8)]


def run(own: SimulationParts | None = None, **options: Any) -> list[float]:
    config = SchedulerConfig(max_num_seqs=4)
    result = simulate(REQUESTS, config, ROOFLINE, 12, enable_caching=True, parts=own, **options)
    return result.e2e.tolist()


class OwnTime(IterationTime):
    """Takes twice as long."""

    @property
    def total(self) -> float:
        return 2 * super().total


def test_arithmetic_of_ones_own_decides() -> None:
    own = SimulationParts.of({"IterationTime": OwnTime})
    steps = simulate(REQUESTS, SchedulerConfig(), ROOFLINE, 200, parts=own).steps
    assert steps[0].seconds == 2 * simulate(REQUESTS, SchedulerConfig(), ROOFLINE, 200).steps[0][1]


def test_the_roofline_asks_for_the_bytes_of_a_token() -> None:
    own = SimulationParts.of({"kv_bytes_per_token": lambda model: 10**9})
    work = IterationWork.of_batch([(1, 99)])
    mine = own.with_own_arithmetic(ROOFLINE)
    assert mine.breakdown(work).move_kv == pytest.approx(  # type: ignore[attr-defined]
        100 * 10**9 / (GPUS["l4"].memory_bandwidth * ROOFLINE.memory_efficiency)
    )


def test_a_cost_model_that_is_no_roofline_stays_as_it_is() -> None:
    constant = ConstantCostModel(1.0)
    assert SimulationParts.of({"IterationTime": OwnTime}).with_own_arithmetic(constant) is constant


# Policies by name, and as they are given


class Mine(FCFSRequestQueue):
    """A queue of one's own."""


def queue_of(policy: Any) -> type:
    own = SimulationParts.of({"FCFSRequestQueue": Mine})
    config = SchedulerConfig(policy=policy)
    return type(own.make_scheduler(config, own.make_manager(10, 16, True)).waiting)


def test_a_queue_stands_in_for_the_librarys_and_for_no_other() -> None:
    assert queue_of("fcfs") is Mine
    assert queue_of(FCFSRequestQueue) is Mine
    given = FCFSRequestQueue()
    assert queue_of(given) is FCFSRequestQueue
    assert queue_of("priority") is PriorityRequestQueue
    with pytest.raises(ValueError, match="no policy 'lottery'"):
        queue_of("lottery")


@pytest.mark.parametrize("policy", ["least_important", least_important])
def test_a_victim_policy_stands_in_for_the_librarys(policy: Any) -> None:
    def mine(running: Any) -> int:
        return 0

    own = SimulationParts.of({"least_important": mine})
    config = SchedulerConfig(victim_policy=policy)
    scheduler = own.make_scheduler(config, own.make_manager(10, 16, True))
    assert scheduler.victim_policy is mine


def test_a_kind_of_scheduler_that_is_asked_for_is_ones_own_too() -> None:
    class Own(LoRAScheduler):
        pass

    class Other(AsyncScheduler):
        pass

    own = SimulationParts.of({"LoRAScheduler": Own})
    manager = own.make_manager(10, 16, True)
    config = SchedulerConfig()
    two = own.make_scheduler(config, manager, partial(LoRAScheduler, max_loras=2))
    assert (type(two), two.max_loras) == (Own, 2)  # type: ignore[attr-defined]
    assert type(own.make_scheduler(config, manager, Other)) is Other
    assert type(own.make_scheduler(config, manager)) is Scheduler


# From the workspace

COUNTING = """
from course_lib.kv_cache import BlockPool

CALLS = []

def get_new_blocks(self: BlockPool, num_blocks: int):
    CALLS.append(num_blocks)
    return BlockPool.get_new_blocks(self, num_blocks)
"""
ADMITTING = """
from course_lib.scheduling import Scheduler

def admit_waiting(self: Scheduler, output, budget):
    self.was_asked = True
    return Scheduler.admit_waiting(self, output, budget)
"""


def test_what_the_workspace_holds_is_loaded(workspace: Path) -> None:
    assert SimulationParts.load().own_names == ()
    parts.save("BlockPool.get_new_blocks", COUNTING)
    own = SimulationParts.load()
    assert own.own_names == ("BlockPool",)
    assert run(own) == run()
    pool: Any = own.get("BlockPool")
    assert pool.get_new_blocks.__globals__["CALLS"]


def test_a_variant_runs_on_a_method_of_the_scheduler_that_was_won(workspace: Path) -> None:
    parts.save("Scheduler.admit_waiting", ADMITTING)
    own = SimulationParts.load()
    assert own.own_names == ("Scheduler",), "what only inherits from it is not named"
    manager = own.make_manager(10, 16, True)
    scheduler = own.make_scheduler(SchedulerConfig(), manager, AsyncScheduler)
    assert isinstance(scheduler, AsyncScheduler)
    scheduler.schedule()
    assert scheduler.was_asked  # type: ignore[attr-defined]


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(KeyError, match="no simulation has a part 'Sampler'; parts: kv_bytes_per_"):
        SimulationParts.of({"Sampler": object})


# Whose fault it is


def test_a_part_that_raises_is_named_with_its_file_and_a_way_out(workspace: Path) -> None:
    parts.save("BlockPool.touch", "def touch(self, blocks):\n    pass\n")
    raising = "def get_new_blocks(self, num_blocks):\n    raise IndexError('no more')\n"
    parts.save("BlockPool.get_new_blocks", raising)
    with pytest.raises(PartError) as caught:
        run(SimulationParts.load())
    assert str(caught.value) == (
        "at 0.000 s your BlockPool.get_new_blocks raised IndexError: no more. It is "
        "my_engine/BlockPool/get_new_blocks.py (lesson 7). Mend it, or run on the library's own "
        "parts: simulate(..., parts=SimulationParts.reference())"
    )
    assert isinstance(caught.value.__cause__, IndexError)


class ForgetfulPool(BlockPool):
    """Hands out no list."""

    def get_new_blocks(self, num_blocks: int) -> Any:
        super().get_new_blocks(num_blocks)


def test_who_may_have_returned_something_wrong_is_named() -> None:
    with pytest.raises(PartError, match=r"the simulation stopped: TypeError.*yours: BlockPool\."):
        run(SimulationParts.of({"BlockPool": ForgetfulPool}))


def test_an_error_of_the_library_is_raised_as_it_is() -> None:
    class Broken(ConstantCostModel):
        def seconds(self, work: IterationWork) -> float:
            raise ZeroDivisionError("none left")

    with pytest.raises(ZeroDivisionError) as caught:
        simulate(REQUESTS, SchedulerConfig(), Broken(), 12)
    assert caught.value.__notes__ == ["at 0.000 s"]


def test_a_simulation_that_is_given_up_is_nobodys_fault() -> None:
    class Idle(Scheduler):
        def admit_waiting(self, output: Any, budget: int) -> int:
            return budget

    with pytest.raises(SimulationError, match="the scheduler plans nothing"):
        run(SimulationParts.of({"Scheduler": Idle}))
