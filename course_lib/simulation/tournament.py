"""A tournament of orders of service: who serves most requests in time, and at whose expense."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from course_lib.scheduling import RequestQueue, SchedulerConfig
from course_lib.simulation.cost_model import RooflineCostModel
from course_lib.simulation.metrics import ServiceLevel
from course_lib.simulation.result import SimulationResult
from course_lib.simulation.simulator import simulate
from course_lib.simulation.workload import Workload, load_azure
from course_lib.specs import GPUS, MODELS

Policy = str | Callable[[], RequestQueue]
"""A name in ``scheduling.POLICIES``, or what makes a queue, such as its class."""


def share_served_meanwhile(result: SimulationResult) -> float:
    """Return the requests served per second over those that arrived per second, at most 1.

    No order of service makes capacity: while requests come faster than they can be served, about
    this share of them can be served in time, and the others wait. It is a mark and no bound: an
    order that serves the small ones first may pass it, and where few requests come any order may,
    since the server is empty at the start. It is near 1 for a system that keeps up for long.

    >>> from course_lib.simulation import ConstantCostModel, TraceRequest
    >>> requests = [TraceRequest(float(second), 4, 2) for second in range(11)]
    >>> config = SchedulerConfig(max_num_seqs=1)
    >>> share_served_meanwhile(simulate(requests, config, ConstantCostModel(1.0), num_blocks=9))
    0.45454545454545453
    """
    if result.makespan == 0.0:
        return 1.0
    return min(1.0, float(np.ptp(result.arrival_times)) / result.makespan)


@dataclass(frozen=True)
class Tournament:
    """What came of the same requests in several orders of service.

    Attributes:
        title: Requests, machine and service level.
        level: What counts as served in time.
        results: What was measured, by the name of the order; "fcfs" is among them.
    """

    title: str
    level: ServiceLevel
    results: Mapping[str, SimulationResult]

    @property
    def mark(self) -> float:
        """The share that is served while requests come, by ``share_served_meanwhile``; no bound."""
        return share_served_meanwhile(self.results["fcfs"])

    def rows(self) -> dict[str, dict[str, float]]:
        """Return the figures of each order.

        - ``in_time``: the share of the requests that met the service level;
        - ``place``: where that lies between first come, first served (0) and ``mark`` (1; also 1
          beyond it). By itself it is a poor grade: last come, first served has a place near 1,
          since it gives up those that have waited;
        - ``ttft_mean``, ``ttft_p50``, ``ttft_p99`` and ``ttft_max``, in seconds;
        - ``tail``: the p99 over that of first come, first served.
        """
        summaries = {name: result.summary() for name, result in self.results.items()}
        shares = {name: self._share(result) for name, result in self.results.items()}
        fcfs, to_win = shares["fcfs"], self.mark - shares["fcfs"]
        return {
            name: {
                "in_time": shares[name],
                "place": min(1.0, max(0.0, (shares[name] - fcfs) / to_win)) if to_win > 0 else 1.0,
                **{f: summary[f] for f in ("ttft_mean", "ttft_p50", "ttft_p99", "ttft_max")},
                "tail": summary["ttft_p99"] / summaries["fcfs"]["ttft_p99"],
            }
            for name, summary in summaries.items()
        }

    def _share(self, result: SimulationResult) -> float:
        """Return the share of the requests that met the service level."""
        if not result.requests:
            return math.nan
        return float(np.mean(self.level.is_met(result.ttft, result.tpot, result.e2e)))

    def __str__(self) -> str:
        rows = self.rows()
        width = max(map(len, rows))
        lines = [f"{self.title}; served for each that comes: {self.mark:.3f} (the mark)"]
        lines.append(" ".join([" " * width, *(f"{name:>10}" for name in rows["fcfs"])]))
        for name, row in rows.items():
            cells = (f"{value:>10.4g}" for value in row.values())
            lines.append(" ".join([f"{name:<{width}}", *cells]))
        return "\n".join(lines)


def play_tournament(
    policies: Mapping[str, Policy],
    workload: Workload | None = None,
    level: ServiceLevel | None = None,
    num_blocks: int = 1500,
) -> Tournament:
    """Serve the same requests in several orders, and in that of their arrival.

    Llama-3.1-8B on an A100 80 GB, with only 1,500 blocks by default, so that there is a line to be
    put in order. The simulator tells a policy the true length of an answer as ``max_tokens``, which
    nobody knows in earnest: it flatters those that look at it.

    Args:
        policies: Orders of service, by the name under which they appear; "fcfs" is always there.
        workload: What is asked; by default 1,500 requests of the Azure conversation trace.
        level: What counts as served in time; by default a first token within 2 s and 50 ms per
            token after it.
        num_blocks: Blocks of the KV cache, the null block included.

    Raises:
        ValueError: There is no policy of a name.

    >>> from course_lib.scheduling import SortedRequestQueue
    >>> class LIFORequestQueue(SortedRequestQueue):
    ...     def key(self, request):
    ...         return (-request.arrival_time,)
    >>> queues = {"lifo": LIFORequestQueue}
    >>> figures = play_tournament(queues, load_azure()[:300], num_blocks=500).rows()
    >>> figures["lifo"]["place"] > 0.8, figures["lifo"]["tail"] > 1.2
    (True, True)
    """
    workload = workload if workload is not None else load_azure()[:1500]
    level = level if level is not None else ServiceLevel(ttft=2.0, tpot=0.05)
    cost_model = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])
    entries: dict[str, Policy] = {"fcfs": "fcfs", **policies}
    return Tournament(
        f"{workload.name}, {len(workload)} requests, A100 80 GB, {num_blocks} blocks; in time: "
        f"TTFT <= {level.ttft:g} s and TPOT <= {level.tpot:g} s",
        level,
        {
            name: simulate(workload, SchedulerConfig(policy=policy), cost_model, num_blocks)
            for name, policy in entries.items()
        },
    )
