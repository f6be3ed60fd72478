"""What lesson 11's figure shows: the steps in which a prompt is read among others that decode."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from course_lib import parts
from course_lib.kv_cache.sizing import num_kv_blocks
from course_lib.mounting import mount, plain_function
from course_lib.scheduling.scheduler import SchedulerConfig
from course_lib.simulation.cost_model import CostModel, IterationTime, RooflineCostModel
from course_lib.simulation.result import SimulationResult
from course_lib.simulation.simulation_parts import SimulationParts
from course_lib.simulation.simulator import simulate
from course_lib.simulation.workload import Workload
from course_lib.specs import GPUS, MODELS
from course_lib.steps import IterationWork

Rows = Sequence[tuple[int, int]]
"""For each request in a batch, the tokens that it computes, and those of it that are cached."""

Work = type[IterationWork] | Callable[..., IterationWork]
"""A class that has ``of_batch``, or this class method alone, as a function of class and rows."""

Time = type[IterationTime] | Callable[[IterationTime], float]
"""A class that has ``total``, or this property alone, as a function."""

A100 = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])
MOST_SEQUENCES = 256

_MOST_TOKENS = 1 << 20


class UntimedStepError(RuntimeError):
    """The arithmetic does not say how long a step takes; says why."""


class ReadingStep(NamedTuple):
    """One step in which some of the prompt is read.

    Attributes:
        start: When it begins, in seconds since the prompt has come.
        seconds: How long it takes.
        num_tokens: Tokens of the prompt that are read.
    """

    start: float
    seconds: float
    num_tokens: int

    @property
    def end(self) -> float:
        """When it is over, and everybody who decodes has a token."""
        return self.start + self.seconds


@dataclass(frozen=True)
class Reading:
    """A prompt, read chunk by chunk.

    Attributes:
        chunk: Most of its tokens in a step.
        steps: The steps, in order.
    """

    chunk: int
    steps: tuple[ReadingStep, ...]

    @property
    def gap(self) -> float:
        """The longest time, in seconds, for which those who decode wait for a token."""
        return max(step.seconds for step in self.steps)

    @property
    def ttft(self) -> float:
        """Seconds until the prompt's first token."""
        return self.steps[-1].end


class Served(NamedTuple):
    """What became of requests, or why nothing did.

    Attributes:
        result: What was measured; None if the run failed.
        problem: What it failed with, in words; empty if it did not.
    """

    result: SimulationResult | None
    problem: str = ""

    @property
    def gaps(self) -> NDArray[np.float64]:
        """The longest gap of each request that has more than one token, sorted, in seconds."""
        if self.result is None:
            return np.zeros(0)
        gaps = self.result.longest_gap
        return np.sort(gaps[~np.isnan(gaps)])

    @property
    def mean_ttft(self) -> float:
        """The mean time to first token, in seconds."""
        return math.nan if self.result is None else float(np.nanmean(self.result.ttft))


class MixedBatch:
    """A prompt that is dropped among requests that decode; what is asked for is computed once.

    Those who decode are each behind ``context`` tokens throughout: the few that they gain while the
    prompt is read are not counted.

    Args:
        workload: Requests that may be served under the same budgets.
        cost_model: Tells how long a step takes.
        num_decodes: Requests that decode.
        context: Tokens that are cached of each of them.
        prompt: Tokens of the prompt.
        own: Parts of the learner's own, of the arithmetic and of the simulation.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        workload: Workload,
        cost_model: CostModel,
        num_decodes: int,
        context: int,
        prompt: int,
        own: SimulationParts,
    ) -> None:
        if num_decodes < 1 or context < 0 or prompt < 2:
            raise ValueError(
                f"num_decodes is {num_decodes}, context {context} and prompt {prompt}; take at "
                "least 1, 0 and 2"
            )
        self.workload = workload
        self.num_decodes = num_decodes
        self.context = context
        self.prompt = prompt
        self._theirs = cost_model
        self._own = own
        self._readings: dict[int, Reading] = {}
        self._served: dict[int, Served] = {}

    @cached_property
    def seats(self) -> int | None:
        """Most tokens in a step whose arithmetic takes no longer than reading the weights.

        None for a cost model that does not tell.
        """
        if not isinstance(self._theirs, RooflineCostModel):
            return None
        tell = self._theirs.breakdown

        def is_slower(num_tokens: int) -> bool:
            return not tell(IterationWork(num_tokens, 0, 0)).is_memory_bound

        return bisect_left(range(1, _MOST_TOKENS), True, key=is_slower)

    @property
    def free_seats(self) -> int | None:
        """The seats that those who decode leave to a prompt."""
        return None if self.seats is None else max(self.seats - self.num_decodes, 0)

    @property
    def late_seconds(self) -> float | None:
        """What the arithmetic of one more token takes, in seconds, if the cost model tells."""
        if not isinstance(self._theirs, RooflineCostModel):
            return None
        return self._theirs.breakdown(IterationWork(1, 0, 0)).compute_linear

    def linear_seconds(self, chunk: int) -> float | None:
        """Return how long the linear layers take beside a chunk, if the cost model tells."""
        if not isinstance(self._theirs, RooflineCostModel):
            return None
        work = IterationWork(self.num_decodes + chunk, 0, 0)
        time = self._theirs.breakdown(work)
        return max(time.read_weights, time.compute_linear)

    @cached_property
    def decode_seconds(self) -> float:
        """How long a step takes in which nobody reads."""
        return self._seconds(self._decodes)

    @cached_property
    def after_seconds(self) -> float:
        """How long a step takes once the prompt is read, and its request decodes too."""
        return self._seconds([*self._decodes, (1, self.prompt)])

    def reading(self, chunk: int) -> Reading:
        """Return the steps in which the prompt is read, with at most ``chunk`` of it in each."""
        if chunk not in self._readings:
            self._readings[chunk] = Reading(chunk, tuple(self._steps(chunk)))
        return self._readings[chunk]

    @cached_property
    def reference(self) -> MixedBatch:
        """The same with the library's own parts."""
        return MixedBatch(
            self.workload,
            self._theirs,
            self.num_decodes,
            self.context,
            self.prompt,
            SimulationParts.reference(),
        )

    def served(self, chunk: int) -> Served:
        """Return what becomes of the workload, with a budget for the decodes and such a chunk."""
        budget = self.num_decodes + chunk
        if budget not in self._served:
            config = SchedulerConfig(
                max_num_seqs=min(MOST_SEQUENCES, budget), max_num_batched_tokens=budget
            )
            known = self._theirs if isinstance(self._theirs, RooflineCostModel) else A100
            blocks = num_kv_blocks(known.model, known.gpu)
            try:
                result = simulate(self.workload, config, self._theirs, blocks, parts=self._own)
                self._served[budget] = Served(result)
            except Exception as error:  # what a learner's parts do wrong is told in words
                self._served[budget] = Served(None, f"{type(error).__name__}: {error}")
        return self._served[budget]

    @property
    def _decodes(self) -> list[tuple[int, int]]:
        return [(1, self.context)] * self.num_decodes

    @cached_property
    def _cost_model(self) -> CostModel:
        return self._own.with_own_arithmetic(self._theirs)

    def _seconds(self, rows: Rows) -> float:
        """Return how long a step takes, by the learner's arithmetic if there is any."""
        try:
            seconds = self._cost_model.seconds(self._own.iteration_work.of_batch(rows))
            is_time = 0 < seconds < math.inf
        except Exception as error:  # what a learner's arithmetic does wrong is told in words
            raise UntimedStepError(f"{type(error).__name__}: {error}") from error
        if not is_time:
            raise UntimedStepError(
                f"A step of {sum(new for new, _ in rows):,} tokens takes {seconds!r} s; a time is "
                "finite and above 0."
            )
        return float(seconds)

    def _steps(self, chunk: int) -> Iterator[ReadingStep]:
        """Yield the steps in which the prompt is read."""
        start, cached = 0.0, 0
        while cached < self.prompt:
            new = min(chunk, self.prompt - cached)
            step = ReadingStep(start, self._seconds([*self._decodes, (new, cached)]), new)
            yield step
            start, cached = step.end, cached + new


def drop_prompt(
    workload: Workload,
    iteration_work: Work | None,
    iteration_time: Time | None,
    cost_model: CostModel | None,
    num_decodes: int,
    context: int,
    prompt: int,
) -> MixedBatch:
    """Return what a figure shows, with the learner's own parts where none are given.

    The arguments are those of ``MixedBatch``; None for what is usual.
    """
    own = own_parts(
        iteration_work or parts.get("IterationWork"),
        iteration_time or parts.get("IterationTime"),
        {"Scheduler": parts.get("Scheduler")},
    )
    return MixedBatch(workload, cost_model or A100, num_decodes, context, prompt, own)


def own_parts(work: Work, time: Time, others: dict[str, object]) -> SimulationParts:
    """Return the parts that a figure is driven by, those that are the library's left out.

    Args:
        work: What adds up a batch.
        time: What adds up the time of a step.
        others: Parts of the scheduler by name.

    >>> own_parts(IterationWork, IterationTime, {}).own_names
    ()
    >>> own_parts(IterationWork, lambda self: 1.0, {}).own_names
    ('IterationTime',)
    """
    given = {
        "IterationWork": _owner(IterationWork, "of_batch", work),
        "IterationTime": _owner(IterationTime, "total", time),
        **others,
    }
    return SimulationParts.of(
        {name: part for name, part in given.items() if part is not parts.reference(name)}
    )


def _owner(owner: type, method: str, given: object) -> object:
    """Return a class: the one that is given, or the library's with the function that is given."""
    if isinstance(given, type):
        return given
    function = plain_function(given) or given
    if not callable(function):
        raise ValueError(f"{given!r} is no {owner.__name__} and no function; give one of the two")
    return mount(owner, {method: function})
