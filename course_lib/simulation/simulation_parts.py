"""The parts that a simulation runs on, and whose they are."""

from __future__ import annotations

import dataclasses

from course_lib.scheduling.assembly import ASSEMBLED_PARTS, Assembly
from course_lib.simulation.cost_model import CostModel, RooflineCostModel
from course_lib.steps import IterationWork

SIMULATION_PARTS = (
    *ASSEMBLED_PARTS,
    "StaticBatchingScheduler",
    "CacheAwareRequestQueue",
    "EvenSplitScheduler",
    "AsyncScheduler",
    "SpeculativeScheduler",
    "LoRAScheduler",
    "IterationWork",
    "IterationTime",
    "time_per_output_token",
    "inter_token_latencies",
)
"""Every part that a simulation may use."""


class SimulationParts(Assembly):
    """The parts of one simulation, as ``simulate(..., parts=...)`` takes them.

    >>> from course_lib.scheduling import Scheduler
    >>> class Mine(Scheduler): pass
    >>> SimulationParts.of({"Scheduler": Mine}).own_names
    ('Scheduler',)
    """

    NAMES = SIMULATION_PARTS
    KIND = "simulation"
    WATCHED = "under_check(simulator.scheduler.kv_cache_manager)"
    WITHOUT = "simulate(..., parts=SimulationParts.reference())"

    @property
    def iteration_work(self) -> type[IterationWork]:
        """What adds up the work of a batch."""
        work: type[IterationWork] = self.get("IterationWork")
        return work

    def with_own_arithmetic(self, cost_model: CostModel) -> CostModel:
        """Return a roofline in which one's own parts do the arithmetic; another model as it is.

        >>> from course_lib.simulation.cost_model import IterationTime
        >>> from course_lib.specs import GPUS, MODELS
        >>> class Mine(IterationTime): pass
        >>> theirs = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["l4"], memory_efficiency=0.5)
        >>> mine = SimulationParts.of({"IterationTime": Mine}).with_own_arithmetic(theirs)
        >>> mine.iteration_time.__name__, mine.memory_efficiency
        ('Mine', 0.5)
        """
        if type(cost_model) is not RooflineCostModel:
            return cost_model
        values = {f.name: getattr(cost_model, f.name) for f in dataclasses.fields(cost_model)}
        values["iteration_time"] = self.stand_in(cost_model.iteration_time)
        own: RooflineCostModel = self.stand_in(RooflineCostModel)(**values)
        return own
