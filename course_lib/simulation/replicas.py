"""Several engines behind one address: how many does a target need?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from course_lib.scheduling import SchedulerConfig
from course_lib.simulation.cost_model import CostModel
from course_lib.simulation.result import SimulationResult
from course_lib.simulation.simulator import simulate
from course_lib.simulation.workload import Workload


def split_among_replicas(workload: Workload, num_replicas: int, seed: int = 0) -> list[Workload]:
    """Return the requests that each replica gets, if each request goes to one at random.

    So a Poisson process of rate λ becomes one of rate λ / ``num_replicas`` at each of them, and
    bursts are spread as far as chance does it. A request takes the same random number whatever the
    number of replicas is.

    Args:
        workload: All requests.
        num_replicas: Replicas, from 1.
        seed: Seed of the random choice.

    Returns:
        One workload per replica, which may be empty. Arrival times stay as they are.

    Raises:
        ValueError: There is no replica.

    >>> workload = Workload.from_columns("x", range(5), [9] * 5, [9] * 5)
    >>> [len(part) for part in split_among_replicas(workload, 2)]
    [3, 2]
    """
    if num_replicas < 1:
        raise ValueError(f"num_replicas is {num_replicas}; it must be at least 1")
    drawn = np.random.default_rng(seed).random(len(workload))
    replica_of = (drawn * num_replicas).astype(int).tolist()
    parts: list[list[int]] = [[] for _ in range(num_replicas)]
    for index, replica in enumerate(replica_of):
        parts[replica].append(index)
    return [
        replace(workload, requests=tuple(workload.requests[index] for index in part))
        for part in parts
    ]


def simulate_replicas(
    workload: Workload,
    num_replicas: int,
    config: SchedulerConfig,
    cost_model: CostModel,
    num_blocks: int,
    *,
    seed: int = 0,
) -> list[SimulationResult]:
    """Serve a workload with several equal engines, each with a queue and a cache of its own.

    Args:
        workload: All requests; each goes to one replica at random.
        num_replicas: Replicas, from 1.
        config: Limits and choices of each scheduler.
        cost_model: Tells how long an iteration takes.
        num_blocks: Blocks of the KV cache of each replica, the null block included.
        seed: Seed of the random choice.

    Returns:
        What was measured at each replica.

    Raises:
        ValueError: A parameter is out of range.
        SimulationError: Nobody makes progress.

    How many replicas does a target need? ``servers_by_simulation`` finds out:

    >>> from course_lib.queueing import servers_by_simulation
    >>> from course_lib.simulation import ConstantCostModel
    >>> workload = Workload.from_columns("x", np.arange(300) / 10, [10] * 300, [20] * 300)
    >>> def ttft(num_replicas):
    ...     results = simulate_replicas(workload, num_replicas, SchedulerConfig(max_num_seqs=8),
    ...                                 ConstantCostModel(0.1), num_blocks=100)
    ...     return np.concatenate([result.ttft for result in results])
    >>> servers_by_simulation(ttft, q=0.99, target=1.0).servers
    4
    """
    return [
        simulate(part, config, cost_model, num_blocks)
        for part in split_among_replicas(workload, num_replicas, seed)
    ]
