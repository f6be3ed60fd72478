"""The loop on one screen does what the simulator does."""

from __future__ import annotations

import random

import pytest

from course_lib.kv_cache import KVCacheManager
from course_lib.scheduling import Request, Scheduler, SchedulerConfig, StaticBatchingScheduler
from course_lib.scheduling.watch.iterations import abort, queues_of
from course_lib.simulation import ConstantCostModel, simulate
from course_lib.simulation.loop import serve


def requests_of(seed: int) -> list[Request]:
    draw = random.Random(seed)
    return [
        Request(
            f"r{number}",
            range(100 * number, 100 * number + draw.randint(1, 30)),
            draw.randint(1, 9),
            arrival_time=draw.choice((0.0, 0.5, 3.0, 4.5, 40.0)),
        )
        for number in range(draw.randint(1, 12))
    ]


@pytest.mark.parametrize("kind", [Scheduler, StaticBatchingScheduler])
@pytest.mark.parametrize("seed", range(20))
def test_tokens_come_when_they_come_in_a_simulation(kind: type[Scheduler], seed: int) -> None:
    config = SchedulerConfig(max_num_seqs=3, max_num_batched_tokens=16)
    result = simulate(
        requests_of(seed), config, ConstantCostModel(0.5), 12, 4, scheduler_class=kind
    )
    manager = KVCacheManager(12, 4, enable_caching=False)
    times = serve(kind(config, manager), requests_of(seed), seconds=0.5)
    assert [times[r.request_id] for r in requests_of(seed)] == list(result.token_log)


def test_whoever_can_never_be_served_gets_no_token_and_holds_nobody_up() -> None:
    scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=3, block_size=2))
    times = serve(scheduler, [Request("long", range(9), 2), Request("short", range(2), 1)])
    assert times == {"long": [], "short": [1.0]}


def test_an_abort_passes_over_who_has_ended() -> None:
    scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=9))
    scheduler.add_request(Request("a", range(3), 2))
    scheduler.schedule()
    assert queues_of(scheduler) == "running a:3/3"
    for _ in range(2):
        abort(scheduler, "a")
    assert queues_of(scheduler) == "nobody"
