"""Lesson 12's figure: a real run of a scheduler, of which any iteration can be opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from course_lib import parts
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import SchedulerConfig
from course_lib.scheduling.watch.moments import Happening, Moment
from course_lib.simulation.cost_model import CostModel, RooflineCostModel
from course_lib.simulation.simulator import SchedulerFactory, Simulator
from course_lib.simulation.workload import TraceRequest, load_azure
from course_lib.specs import GPUS, MODELS
from course_lib.viz.close_up.run import Run
from course_lib.viz.close_up.scene import (
    TITLE,
    Page,
    moment_scene,
    most_tokens,
    states_of,
    stopped_text,
)
from course_lib.viz.iteration.words import captions, events
from course_lib.viz.kit.controls import AnyControl, Choice
from course_lib.viz.kit.layout import SLIM, WIDE
from course_lib.viz.kit.player import Frame
from course_lib.viz.kit.retold import RetoldPlayer
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Thing
from course_lib.viz.paged_attention.words import trouble_scene
from course_lib.viz.sharing.trouble import error_in_words

BLOCK_SIZE = 16
NUM_SHOWN = 2
"""Iterations of a film: the one that is opened, and what becomes of it in the next."""

_NUM_REQUESTS, _BUDGETS = 600, (16, 32, 64, 128, 256, 512, 1024, 2048)
_PICKED, _LAST = "picked", "last"
_OPENED = {
    "preempts most": "preempted",
    "cuts most": "cut",
    "admits most": "admitted",
    "keeps most waiting": "waiting",
    "skips most": "passed_over",
    "comes last": _LAST,
    "was picked": _PICKED,
}
_DOES = {
    "preempted": "preempts",
    "cut": "cuts a request",
    "waiting": "keeps anybody waiting",
    "passed_over": "skips anybody who runs",
}
"""What an iteration does that has any of a kind."""


def microscope(
    requests: Sequence[TraceRequest] | Sequence[Request] | None = None,
    scheduler: SchedulerFactory | None = None,
    *,
    config: SchedulerConfig | None = None,
    num_blocks: int = 1500,
    enable_caching: bool = False,
    iteration: int | None = None,
    cost_model: CostModel | None = None,
) -> Microscope:
    """Return a figure of a real run of a scheduler, with one iteration under the microscope.

    Above is the whole run as a time line, on which the iterations are marked that preempt, cut and
    admit. Below is one of them: requests as bars with two marks, the tokens that are computed and
    those that are known, beside the token budget and the pool. An arrow key is one decision of the
    scheduler; behind the last one the next iteration begins. The reader chooses which iteration is
    open, from a list or by its mark on the time line, and the token budget.

    Args:
        requests: The requests; by default the first 600 of the Azure conversation trace.
        scheduler: Makes the scheduler: a class. What it does wrong stands in the picture in words.
            By default the library's, with the learner's own parts where there are any.
        config: The scheduler's limits and choices; by default those of the library, with a budget
            of 512 tokens.
        num_blocks: Blocks of 16 tokens, the null block included.
        enable_caching: Whether there is a prefix cache.
        iteration: Number of the iteration that is open at first; by default the first of those
            that preempt most, or the last one of a run that has stopped.
        cost_model: Tells how long an iteration takes; Llama-3.1-8B on an A100 by default.

    Raises:
        ValueError: There are no requests, too few blocks, or there is no such iteration.

    >>> from course_lib.simulation.workload import synthetic_azure
    >>> figure = microscope(synthetic_azure()[:40], num_blocks=300)
    >>> [name.split()[-1] for _, name in figure.marks if "preempted" in name]
    ['preempted']
    """
    asked = load_azure("conversation")[:_NUM_REQUESTS] if requests is None else requests
    if not len(asked):
        raise ValueError("there are no requests to serve; give at least 1")
    config = config or SchedulerConfig(max_num_batched_tokens=512)
    own = parts.get("Scheduler") if scheduler is None else scheduler
    costs = cost_model or RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])
    if num_blocks < 2:
        raise ValueError(f"num_blocks is {num_blocks}; take at least 2, one of them is null")

    def run(budget: int) -> Run:
        limits = replace(config, max_num_batched_tokens=budget)
        return Run(
            lambda: Simulator(
                asked,
                limits,
                costs,
                num_blocks,
                BLOCK_SIZE,
                enable_caching,
                scheduler_class=own,
            )
        )

    return Microscope(run, config.max_num_batched_tokens, iteration)


@dataclass(frozen=True)
class Opened:
    """A run and one of its iterations, which is open.

    Attributes:
        run: The run.
        iteration: Number of the iteration.
        kind: What there was to be most of; empty where the iteration was picked.
    """

    run: Run
    iteration: int
    kind: str = ""

    @property
    def opening(self) -> int:
        """The first moment: nothing is decided yet."""
        return 0

    @cached_property
    def moments(self) -> tuple[Moment, ...]:
        """The moments of the iteration, and of the next one; none where they cannot be seen."""
        return self._watched[0]

    @cached_property
    def _watched(self) -> tuple[tuple[Moment, ...], str]:
        """The moments, and why there are none."""
        if not self.run.glances:
            return (), stopped_text(self.run)
        try:
            return self.run.moments(self.iteration, NUM_SHOWN), ""
        except Exception as error:  # a learner's scheduler that does not do the same every time
            return (), f"A second run of the same requests failed: {error_in_words(error)}"

    @cached_property
    def gave_way(self) -> list[dict[str, str]]:
        """For each moment, who has given way in its iteration so far, and why."""
        found: list[dict[str, str]] = []
        for moment in self.moments:
            so_far = found[-1] if found and moment.happening is not Happening.BEGINS else {}
            if moment.happening is Happening.PREEMPTS:
                so_far = {**so_far, moment.request_id: moment.reason}
            found.append(so_far)
        return found

    @cached_property
    def captions(self) -> list[str]:
        """What is said of each moment; of the first, why this iteration is open."""
        said = captions(self.moments)
        if said and self.kind in _DOES and not self.run.has(self.kind):
            does = _DOES[self.kind]
            said[0] = f"No iteration of this run {does}; this one admits most. {said[0]}"
        return said

    def frames(self) -> Iterator[Frame]:
        """Yield a frame for each moment, or one that says why there is none."""
        if not self.moments:
            wide, narrow = (self._trouble(width) for width in (WIDE, SLIM))
            yield Frame(wide, self._watched[1], narrow=narrow)
            return
        for number, (caption, event) in enumerate(
            zip(self.captions, events(self.moments), strict=True)
        ):
            wide, narrow = (self.scene(number, width) for width in (WIDE, SLIM))
            yield Frame(wide, caption, event, narrow)

    def scene(self, number: int, width: float = WIDE) -> Scene:
        """Draw a moment.

        Args:
            number: Its number in ``moments``.
            width: Width of the picture: ``WIDE`` or ``SLIM``.
        """
        page = Page(width, *self._extent)
        moment, why = self.moments[number], self.gave_way[number]
        return moment_scene(self.run, moment, why, self.captions[number], page)

    def moment_like(self, number: int, other: Opened) -> int:
        """Return the moment that another iteration opens with: its first one."""
        return self.opening

    def twin(self) -> Scene:
        """Draw the iteration when all is decided."""
        if not self.moments:
            return self._trouble(WIDE)
        ends = (n for n, each in enumerate(self.moments) if each.happening is Happening.ENDS)
        return self.scene(next(ends))

    @cached_property
    def _extent(self) -> tuple[int, tuple[str, ...]]:
        return most_tokens(self.moments), states_of(self.moments)

    def _trouble(self, width: float) -> Scene:
        then = "There is nothing to draw until that works."
        return trouble_scene(TITLE, self._watched[1], width, "Your part stopped here", then)


class Microscope(RetoldPlayer[Opened]):
    """A film of an iteration, below the run that it is of.

    Args:
        run: Makes the run for a token budget.
        budget: The budget at first.
        iteration: The iteration that is open at first; None for the first that preempts most.

    Raises:
        ValueError: There is no such iteration.
    """

    def __init__(
        self, run: Callable[[int], Run], budget: int, iteration: int | None = None
    ) -> None:
        self._run = run
        self._runs: dict[int, Run] = {}
        self._picked = 0
        opened = _LAST if self._run_of(budget).problem else "preempted"
        if iteration is not None:
            self._picked, opened = self._checked(iteration, budget), _PICKED
        super().__init__(self._opened, _controls(budget, opened))
        self.on_pick(self._choose)

    def open_iteration(self, iteration: int) -> None:
        """Open an iteration by its number, as a reader does who picks it on the time line.

        Raises:
            ValueError: There is no such iteration.
        """
        self._picked = self._checked(iteration, int(self.values["budget"]))
        self.set(opened=_PICKED)

    def _opened(self, budget: int, opened: str) -> Opened:
        run = self._run_of(budget)
        if not run.glances:
            return Opened(run, 0)
        if opened in (_PICKED, _LAST):
            last = len(run.glances) - 1
            return Opened(run, last if opened == _LAST else min(self._picked, last))
        self._picked = run.most(opened)
        return Opened(run, self._picked, opened)

    def _run_of(self, budget: int) -> Run:
        if budget not in self._runs:
            self._runs[budget] = self._run(budget)
        return self._runs[budget]

    def _checked(self, iteration: int, budget: int) -> int:
        count = len(self._run_of(budget).glances)
        if not 0 <= iteration < count:
            raise ValueError(f"no iteration {iteration}; the run has 0 to {count - 1:,}")
        return iteration

    def _choose(self, thing: Thing) -> None:
        """Open the iteration that a reader has picked."""
        kind, number = thing
        if kind == "iteration":
            self.open_iteration(int(number))


def _controls(budget: int, opened: str) -> Mapping[str, AnyControl]:
    budgets = {f"{each:,} tokens": each for each in sorted({*_BUDGETS, budget})}
    return {
        "opened": Choice("Iteration that", _OPENED, opened),
        "budget": Choice("Token budget", budgets, budget),
    }
