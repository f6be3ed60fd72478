"""The parts that a simulation runs on, and whose they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from course_lib import parts
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.assembly import ASSEMBLED_PARTS, make_manager, make_scheduler
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig
from course_lib.simulation.cost_model import CostModel, RooflineCostModel
from course_lib.steps import IterationWork

SIMULATION_PARTS = (*ASSEMBLED_PARTS, "IterationWork", "IterationTime", "RooflineCostModel")
"""Every part that a simulation may use."""


class SimulationParts:
    """The parts of one simulation: the library's, some of them replaced.

    Args:
        own: What replaces a part, by the name of the part.

    Raises:
        KeyError: A simulation has no part of this name.

    >>> SimulationParts({"Scheduler": Scheduler}).own_names
    ('Scheduler',)
    """

    def __init__(self, own: Mapping[str, Any]) -> None:
        for name in own:
            if name not in SIMULATION_PARTS:
                raise KeyError(
                    f"a simulation has no part {name!r}; parts: {', '.join(SIMULATION_PARTS)}"
                )
        self._own = dict(own)

    @classmethod
    def load(cls) -> SimulationParts:
        """Return the learner's own parts from their workspace, and the library's for the others.

        A part that does not load is the library's, after a ``PartWarning``.
        """
        known = (name for name in SIMULATION_PARTS if name in parts.PARTS)
        loaded = {name: parts.get(name) for name in known}
        return cls({n: part for n, part in loaded.items() if part is not parts.reference(n)})

    @property
    def own_names(self) -> tuple[str, ...]:
        """The parts that are not the library's."""
        return tuple(self._own)

    @property
    def iteration_work(self) -> type[IterationWork]:
        """What adds up the work of a batch."""
        work: type[IterationWork] = self._own.get("IterationWork", IterationWork)
        return work

    def make_manager(
        self, num_blocks: int, block_size: int, enable_caching: bool
    ) -> KVCacheManager:
        """Make a cache manager, on this block pool and free queue."""
        return make_manager(self._own, num_blocks, block_size, enable_caching)

    def make_scheduler(self, config: SchedulerConfig, manager: KVCacheManager) -> Scheduler:
        """Make a scheduler, with this queue if ``config.policy`` is a name."""
        return make_scheduler(self._own, config, manager)

    def with_own_arithmetic(self, cost_model: CostModel) -> CostModel:
        """Return a roofline in which one's own parts do the arithmetic; another model as it is.

        >>> from course_lib.specs import GPUS, MODELS
        >>> class Mine(RooflineCostModel): pass
        >>> theirs = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["l4"], memory_efficiency=0.5)
        >>> mine = SimulationParts({"RooflineCostModel": Mine}).with_own_arithmetic(theirs)
        >>> type(mine).__name__, mine.memory_efficiency
        ('Mine', 0.5)
        """
        if type(cost_model) is not RooflineCostModel:
            return cost_model
        values = {f.name: getattr(cost_model, f.name) for f in dataclasses.fields(cost_model)}
        if "IterationTime" in self._own:
            values["iteration_time"] = self._own["IterationTime"]
        own: RooflineCostModel = self._own.get("RooflineCostModel", RooflineCostModel)(**values)
        return own
