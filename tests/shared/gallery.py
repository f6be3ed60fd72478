"""Every figure of the course by its name, as a lesson, a report or a failed check shows it.

What holds for every figure is tested on these in ``tests/browser/kit/test_gallery.py``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

from course_lib.engine.tracing.recorded import vllm_runs
from course_lib.kv_cache import (
    BlockPool,
    BuddyAllocator,
    FirstFitAllocator,
    KVCacheManager,
    PlainRequest,
    Recorder,
)
from course_lib.kv_cache.manager import CacheableRequest
from course_lib.kv_cache.reservation import RESERVATIONS, average_shares, replay_contiguous
from course_lib.kv_cache.watch.recorder import Frame as State
from course_lib.scheduling import Request, Scheduler, SchedulerConfig
from course_lib.scheduling.scheduler import SchedulerOutput
from course_lib.scheduling.watch.moments import run_moments
from course_lib.simulation import ConstantCostModel, Simulator, TraceRequest
from course_lib.simulation.experiments import Comparison
from course_lib.simulation.setup import Setup, figures, parse_sweep, run
from course_lib.simulation.sweep import SweepPoint
from course_lib.simulation.workload import synthetic_azure
from course_lib.specs import GPUS
from course_lib.viz import (
    EngineMap,
    Picture,
    allocation_strips,
    attention_explorer,
    attention_film,
    batch_gantt,
    compaction_film,
    decode_tile,
    eviction_film,
    follow_engine,
    fork_film,
    gpu_memory,
    iteration_film,
    memory_pressure,
    merge_tree,
    microscope,
    mixed_batch,
    moments_film,
    notation_scene,
    order_rules,
    paging_analogy,
    policy_race,
    pool_film,
    prefix_tree,
    queue_compaction_film,
    queueing_dial,
    replay,
    request_film,
    reservation_film,
    share_bars,
    stall_film,
    strip_film,
    token_address,
    token_batch,
    token_slot,
)
from course_lib.viz.kit.charts.axes import Axis, LogAxis
from course_lib.viz.kit.charts.gantt import Span, gantt
from course_lib.viz.kit.charts.heat_map import heat_map
from course_lib.viz.kit.charts.roofline import Work, roofline_chart
from course_lib.viz.kit.charts.strips import strips
from course_lib.viz.kit.controls import Value
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.view import Figure
from course_lib.viz.playground.dashboard import dashboard_scene
from course_lib.viz.playground.runs import Bench
from course_lib.viz.replays.failing_case import CaseStep, FailingCase, snapshot_scheduler
from course_lib.viz.simulation import (
    comparison_scene,
    latency_scene,
    sweep_scene,
    timeline_scene,
)


def _both(build: Callable[[float], Scene]) -> Picture:
    """Return a picture that has both forms."""
    return Picture(build(WIDE), build(NARROW))


def _short_requests() -> list[TraceRequest]:
    requests = synthetic_azure()[:400]
    return [each for each in requests if each.prompt_tokens + each.output_tokens <= 1024]


def _reservations() -> Figure:
    requests = _short_requests()
    snapshots = replay_contiguous(requests, 4400, RESERVATIONS["Max"], 1024)
    return reservation_film(islice(snapshots, 600))


def _shares() -> Figure:
    requests = _short_requests()
    shares = {
        name: average_shares(replay_contiguous(requests, 4400, policy, 1024))
        for name, policy in RESERVATIONS.items()
    }
    return _both(lambda width: share_bars(shares, width))


def manager_trace(num_blocks: int, seed: int = 0, num_calls: int = 60) -> list[State]:
    """Requests that share prefixes come, grow and go at random."""
    draw = random.Random(seed)
    manager = KVCacheManager(num_blocks, block_size=4)
    running: list[PlainRequest] = []
    with Recorder(manager) as recorder:
        for call in range(num_calls):
            if running and draw.random() < 0.4:
                manager.free(running.pop(draw.randrange(len(running))))
                continue
            tokens = [*range(4 * draw.randrange(6)), *range(900 + call, 909 + call)]
            request = PlainRequest(f"request-{call}", tokens)
            blocks, num_hits = manager.get_computed_blocks(request)
            if manager.allocate_slots(request, len(tokens) - num_hits, num_hits, blocks) is None:
                continue
            request.num_computed_tokens = len(tokens)
            running.append(request)
    return list(recorder.frames)


def _pool() -> Figure:
    """Show the story of the lesson: A's blocks are cached, C claims two of them, D evicts one."""
    pool = BlockPool(9)
    with Recorder(pool) as recorder:
        blocks = pool.get_new_blocks(3)
        pool.cache_full_blocks(blocks, [b"a1", b"a2", b"a3"])
        pool.free_blocks(reversed(blocks))
        pool.touch(blocks[:2])
        pool.get_new_blocks(5)
    return pool_film(recorder.frames)


def schedules(max_num_seqs: int, names: Sequence[str]) -> list[State]:
    """Return the states of a scheduler that three requests are added to, and that plans then."""
    config = SchedulerConfig(max_num_seqs=max_num_seqs)
    scheduler = Scheduler(config, KVCacheManager(num_blocks=9, block_size=4))
    found = [snapshot_scheduler(scheduler)]
    for name, length in zip(names, (9, 5, 3), strict=True):
        scheduler.add_request(Request(name, range(length), max_tokens=3))
        found.append(snapshot_scheduler(scheduler))
    scheduler.schedule()
    return [*found, snapshot_scheduler(scheduler)]


def _replay() -> Figure:
    """Show a scheduler that should admit three requests, and admits one."""
    calls = ("obj = Scheduler(...)", *("obj.add_request(...)",) * 3, "obj.schedule()")
    names = ("request-11", "request-12", "request-13")
    states = zip(calls, schedules(3, names), schedules(1, names), strict=True)
    steps = (CaseStep(call, "x", "x", right, wrong) for call, right, wrong in states)
    return replay(FailingCase(tuple(steps), "three requests have room"))


def _simulator() -> Simulator:
    draw = random.Random(3)
    requests = [
        TraceRequest(0.3 * n, draw.randrange(10, 150), draw.randrange(5, 40)) for n in range(12)
    ]
    config = SchedulerConfig(max_num_seqs=6, max_num_batched_tokens=128)
    return Simulator(requests, config, ConstantCostModel(0.1), 40, enable_caching=True)


def _followed() -> Figure:
    simulator = _simulator()
    with follow_engine(simulator, share=1) as live:
        while simulator.step() is not None:
            pass
    return live


def _moments() -> Figure:
    requests = [Request(name, range(9), max_tokens=3) for name in ("a", "b", "c")]
    config = SchedulerConfig(max_num_seqs=2)
    scheduler = Scheduler(config, KVCacheManager(num_blocks=9, block_size=4))
    return moments_film(list(run_moments(scheduler, {0: requests}, 4)))


_SETUP = Setup(requests=30, output_tokens=20)
_TIGHT = Setup(requests=60, rate=20.0, blocks=300)


def _playground() -> Figure:
    bench = Bench()
    now, kept = bench.run(_TIGHT), bench.run(replace(_TIGHT, policy="sjf"))
    return Picture(dashboard_scene(now, kept, 0.4), dashboard_scene(now, kept, 0.4, NARROW))


def _sweep(setting: str) -> Figure:
    name, setups = parse_sweep(setting, _SETUP)
    points = [SweepPoint(setup, figures(setup, run(setup, None))) for setup in setups]
    return _both(lambda width: sweep_scene(name, points, width))


def _comparison() -> Figure:
    result = run(_SETUP, None)
    comparison = Comparison(
        "Two policies", "30 requests", {"fcfs": result, "sjf": result}, ("ttft_mean", "num_steps")
    )
    return _both(lambda width: comparison_scene(comparison, width))


_SOME_EPISODES = ("mixed", "preemption", "swap", "drafts")
"""Those that have everything that others have."""

_LINES = [
    "free [5 4 | 3* 2*]  r0: 1* 6(2)  r1: 6(2) 7",
    "step 5  d1:1 d2:1 A:4(16/19)  | (E) B! C D",
    "AAAAA...CCCC....",
]


def _gantt(width: float) -> Scene:
    rows = {
        "seat 1": [
            Span(0, 2, "prefill", of=("request", "A")),
            Span(2, 7, "decode", of=("request", "A")),
        ],
        "seat 2": [
            Span(1, 2, "prefill", of=("request", "B")),
            Span(2, 4, "decode", of=("request", "B")),
        ],
    }
    return gantt("Two seats", Axis("Iteration"), rows, width - 24).scene()


def _roofline(width: float) -> Scene:
    work = [Work("decode", 1.0), Work("prefill", 900.0, 1.2e14, "series-3")]
    return roofline_chart("An RTX 4090", GPUS["rtx-4090"], work, width - 24).scene()


def _strips(width: float) -> Scene:
    gaps = [0.01 * 1.02**k for k in range(300)]
    values = {"FCFS": gaps, "SJF": gaps[:150]}
    return strips("Gaps by policy", LogAxis("Gap", "s"), values, width - 24).scene()


def _heat_map(width: float) -> Scene:
    return heat_map(
        "Mean time to first token",
        columns=["256", "512", "1024"],
        rows=["fcfs", "sjf"],
        values=[[1.4, 0.9, 0.8], [0.7, 0.4, 0.6]],
        value_axis=Axis("Mean TTFT", "s"),
        column_axis=Axis("Token budget", "tokens"),
        row_axis=Axis("Policy"),
        width=width - 24,
    ).scene()


class _Forgetful(FirstFitAllocator):
    """Hands out the same slots again and again, as a learner's allocator may."""

    def allocate(self, size: int) -> int | None:
        """Take the slots, and say that they are the first ones."""
        return None if super().allocate(size) is None else 0


def _strips_of_a_learner() -> Figure:
    requests = [TraceRequest(0.0, 60 + 37 * n % 90, 10 + n) for n in range(12)]
    allocators = {"yours": _Forgetful, "first fit": FirstFitAllocator}
    return allocation_strips(allocators, requests, 400)


class _Hasty(KVCacheManager):
    """Writes into blocks that others hold too, as a learner's manager may."""

    def fork(self, parent: CacheableRequest, child: CacheableRequest) -> None:
        """Share the blocks, and count no holder."""
        super().fork(parent, child)
        for block in self.request_blocks[child.request_id].blocks:
            block.ref_cnt -= 1


class _Crowded(Scheduler):
    """Lets more requests run than there are seats, as a learner's scheduler may."""

    def admit_waiting(self, output: SchedulerOutput, budget: int) -> int:
        """Admit as if there were 99 seats."""
        seats, self.max_num_seqs = self.max_num_seqs, 99
        left = super().admit_waiting(output, budget)
        self.max_num_seqs = seats
        return left


class _Stopping(Scheduler):
    """Fails as soon as four requests run, as a learner's scheduler may."""

    def serve_running(self, output: SchedulerOutput, budget: int) -> int:
        """Serve up to three."""
        if len(self.running) > 3:
            raise IndexError("list index out of range")
        return super().serve_running(output, budget)


def _six_requests() -> list[Request]:
    outputs = enumerate((2, 7, 3, 5, 1, 4))
    return [Request("abcdef"[n], [n], max_tokens) for n, max_tokens in outputs]


GALLERY: dict[str, Callable[[], Figure]] = {
    "gpu memory": gpu_memory,
    "reservations": _reservations,
    "shares": _shares,
    "allocation strips": allocation_strips,
    "allocation strips of a learner": _strips_of_a_learner,
    "strip": lambda: strip_film("A5 B3 C4 -B D2 -A E6 -D E6"),
    "strip of buddies": lambda: strip_film("A3 B4 C4 D4 -B -C E8 -A -D", BuddyAllocator),
    "strip of a learner": lambda: strip_film("A5 B3 -A", _Forgetful),
    "compaction": lambda: compaction_film("A900 B600 C500 D700 E453 -B -D F1100", num_slots=3600),
    "compaction in the queue": queue_compaction_film,
    "engine map": lambda: EngineMap(7),
    "paging analogy": paging_analogy,
    "attention film": attention_film,
    "attention explorer": attention_explorer,
    "merge tree": merge_tree,
    "decode tile": decode_tile,
    "batches": batch_gantt,
    "batches of a learner": lambda: batch_gantt(_six_requests(), _Crowded, seats=3),
    "token address": token_address,
    "token batch": token_batch,
    "token slot": token_slot,
    **{f"iteration: {name}": partial(iteration_film, name) for name in _SOME_EPISODES},
    "moments": _moments,
    "microscope": lambda: microscope(synthetic_azure()[:40], num_blocks=300),
    "microscope of a learner": lambda: microscope(synthetic_azure()[:40], _Stopping),
    "request trace": lambda: request_film(vllm_runs()["ahead"], "followed", block_size=8),
    "pool": _pool,
    "order rules": order_rules,
    "memory pressure": memory_pressure,
    "policy race": lambda: policy_race(synthetic_azure()[:120], num_blocks=500),
    "queueing dial": lambda: queueing_dial(synthetic_azure()[:60]),
    "mixed batch": lambda: mixed_batch(synthetic_azure()[:60]),
    "stall film": stall_film,
    "pool of 64": lambda: pool_film(manager_trace(64, num_calls=30)),
    "pool of 5,000": lambda: pool_film(manager_trace(5000, num_calls=8)),
    "prefix tree": prefix_tree,
    "fork": fork_film,
    "fork of a learner": lambda: fork_film(_Hasty),
    "eviction": eviction_film,
    "replay": _replay,
    "followed simulation": _followed,
    "notation": lambda: _both(lambda width: notation_scene(_LINES, width=width)),
    "latencies": lambda: _both(lambda width: latency_scene(run(_SETUP, None), width)),
    "timeline": lambda: _both(lambda width: timeline_scene(run(_SETUP, None), width)),
    "playground": _playground,
    "sweep over numbers": lambda: _sweep("rate=2,8"),
    "sweep over names": lambda: _sweep("policy=fcfs,priority"),
    "comparison": _comparison,
    "gantt": lambda: _both(_gantt),
    "roofline": lambda: _both(_roofline),
    "strips": lambda: _both(_strips),
    "heat map": lambda: _both(_heat_map),
}
"""Functions that make the figures."""

SETTINGS: dict[str, dict[str, Iterable[Value]]] = {
    "gpu memory": {
        "model": ["llama-3.1-8b"],
        "gpu": ["rtx-4090"],
        "num_sequences": [16, 64],
        "mean_tokens": [500],
    },
    "paging analogy": {},
    "attention explorer": {"order": ["7 3 5", "5 3 7"]},
    "merge tree": {},
    "token address": {
        "position": [9, 10],
        "block_size": [4],
        "layout": ["NHD", "split"],
        "kv": [0],
        "head_dim": [16],
        "head": [0],
        "dim": [0],
    },
    "prefix tree": {
        "like": ["A", "C"],
        "length": [5, 8, 14],
        "changed": ["none", "block"],
        "salt": [""],
    },
    "fork": {},
    "fork of a learner": {},
    "token slot": {"block_size": [4]},
    "order rules": {"taken": [4, 5]},
    "token batch": {"num_of_r1": [3], "block_size": [4]},
    "policy race": {
        "order": ["vtc", "ageing"],
        "served": [0, 1],
        "beside": ["sjf"],
        "below": ["waits", "gap"],
        "blocks": [500, 30_024],
    },
    "queueing dial": {
        "rho": [50, 80],
        "sizes": ["exponential", "trace"],
        "cv": [1],
        "engine": ["none", "work"],
    },
    "mixed batch": {"chunk": [64, 512, 8000], "shown": ["prompt", "gaps"]},
    "memory pressure": {
        "victim": ["last_in", "most_tokens"],
        "mode": ["recompute", "swap"],
        "watermark": [0.0],
    },
}
"""For each explorer, the values of controls that a page of its own offers; few, to be quick."""
