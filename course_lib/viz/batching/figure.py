"""Lesson 5's figure: a film of two schedules, whose limits and clock the reader can change."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence

from course_lib import parts
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import SchedulerConfig
from course_lib.scheduling.variants.static_batching import StaticBatchingScheduler
from course_lib.simulation.cost_model import CostModel, RooflineCostModel
from course_lib.simulation.simulator import SchedulerFactory
from course_lib.simulation.workload import TraceRequest, load_azure
from course_lib.specs import GPUS, MODELS
from course_lib.viz.batching.schedules import BLOCK_SIZE, Clock, serve
from course_lib.viz.batching.story import Story
from course_lib.viz.kit.controls import AnyControl, Choice, PowerOfTwo, Slider
from course_lib.viz.kit.retold import RetoldPlayer
from course_lib.viz.kit.shapes import Thing

_MOST_REQUESTS, _LONGEST_NAME, _MOST_SEATS = 26, 6, 8
_MOST_BUDGET = 16384
_MOST_PREFILLS = 128
"""Iterations that all prompts together take at most, under the smallest budget."""

_SHORTENED = 16
"""Of the answers of a trace the figure's own requests have one token in so many."""


def example_requests() -> list[Request]:
    """Return the figure's own requests: the first 12 of the conversation trace, shortened.

    Prompts are as long as in the trace. Of the answers there is a sixteenth, so that each iteration
    can be seen; long and short ones stay as far apart as they are. All are there at the start.
    """
    trace = load_azure("conversation")[:12]
    return [
        Request(name, [index] * each.prompt_tokens, -(-each.output_tokens // _SHORTENED))
        for index, (name, each) in enumerate(zip(string.ascii_lowercase, trace, strict=False))
    ]


def batch_gantt(
    requests: Sequence[TraceRequest] | Sequence[Request] | None = None,
    scheduler: SchedulerFactory | None = None,
    *,
    static_scheduler: SchedulerFactory = StaticBatchingScheduler,
    seats: int = 4,
    budget: int = 8192,
    num_blocks: int | None = None,
    cost_model: CostModel | None = None,
) -> BatchGantt:
    """Return a film of the same requests, served twice: in static batches, and continuously.

    A row is a seat, a column is an iteration. Both schedules are made by the simulator, which asks
    a scheduler; those who wait stand at the side, with what the first of them lacks. The reader
    moves seats, token budget and blocks, chooses whether time is counted in iterations or in
    milliseconds of the roofline, and a request, by its bar or its name, whose latencies are told.
    The figure opens at its end; its bar plays it from the start. A control that is moved leaves the
    film where it stands: by the iterations of the lower chart, and at its end if it was there.

    Args:
        requests: Up to 26 requests; those of a trace are called a, b, c, ... By default 12 of the
            conversation trace, with a sixteenth of their answers.
        scheduler: Makes the scheduler of the lower chart: a class. What it does wrong stands in the
            picture in words. By default the library's, with the learner's own parts where there are
            any.
        static_scheduler: Makes that of the upper chart: a class.
        seats: Most requests in a batch, at first; 1 to 8.
        budget: Most tokens in an iteration, at first; a power of two up to 16,384.
        num_blocks: Blocks of 16 tokens at first, the null block included; by default enough.
        cost_model: Tells how long an iteration takes; Llama-3.1-8B on an A100 by default.

    Raises:
        ValueError: There are no requests, too many, or one has too long a name; or a limit is out
            of range.

    >>> outputs = (2, 7, 3, 5, 1, 4)
    >>> six = [Request("abcdef"[n], [n], outputs[n]) for n in range(6)]
    >>> for line in batch_gantt(six, seats=3).film[-1].scene.alt.split(". ")[:2]:
    ...     print(line)
    Static batching: all done after 12 iterations, 14 of 36 cells idle
    Continuous batching: all done after 8 iterations, 2 of 24 cells idle
    """
    named = example_requests() if requests is None else _named(requests)
    _require_room(named)
    own = parts.get("Scheduler") if scheduler is None else scheduler
    cost_model = cost_model or RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])
    names = {request.request_id: request.request_id for request in named}

    def story(seats: int, budget: int, blocks: int, clock: Clock, request: str) -> Story:
        config = SchedulerConfig(max_num_seqs=seats, max_num_batched_tokens=budget)
        return Story(
            serve(named, config, blocks, cost_model, static_scheduler, is_static=True),
            serve(named, config, blocks, cost_model, own),
            {each.request_id: each for each in named},
            clock,
            request,
        )

    least, most = _block_range(named)
    chosen = named[min(seats + 2, len(named) - 1)].request_id
    return BatchGantt(
        story,
        {
            "seats": Slider("Seats", 1, _MOST_SEATS, seats, unit="seats"),
            "budget": PowerOfTwo(
                "Token budget", _least_budget(named), _MOST_BUDGET, budget, unit="tokens"
            ),
            "blocks": Slider(
                "Blocks, one null",
                least,
                most,
                most if num_blocks is None else num_blocks,
                unit="blocks",
            ),
            "clock": Choice(
                "Time in",
                {"iterations": "iterations", "ms, by the roofline": "seconds"},
                "iterations",
            ),
            "request": Choice("Latencies of", names, chosen),
        },
    )


def _named(requests: Sequence[TraceRequest | Request]) -> list[Request]:
    """Return requests with names; those of a trace are a, b, c, ..."""
    names = iter(string.ascii_lowercase)
    return [
        each if isinstance(each, Request) else _of_trace(each, next(names, f"r{index}"), index)
        for index, each in enumerate(requests)
    ]


def _of_trace(request: TraceRequest, name: str, index: int) -> Request:
    """Return a request with the numbers of one of a trace, and tokens that no other has."""
    return Request(
        name,
        [index] * request.prompt_tokens,
        request.output_tokens,
        request.priority,
        request.arrival_time,
        client_id=request.client_id,
        deadline=request.deadline,
    )


def _require_room(requests: Sequence[Request]) -> None:
    """Raise ValueError for requests that the picture has no room for."""
    if not 1 <= len(requests) <= _MOST_REQUESTS:
        raise ValueError(
            f"{len(requests)} requests; the figure has room for 1 to {_MOST_REQUESTS}, "
            "so pass a slice of them"
        )
    for request in requests:
        if not 1 <= len(request.request_id) <= _LONGEST_NAME:
            raise ValueError(
                f"a request is called {request.request_id!r}; take 1 to {_LONGEST_NAME} letters"
            )


def _least_budget(requests: Sequence[Request]) -> int:
    """Return the smallest budget that the reader can choose: a power of two.

    >>> [_least_budget([Request("a", [1] * n, max_tokens=1)]) for n in (1, 128, 129, 10_000)]
    [1, 1, 2, 128]
    """
    num_tokens = sum(request.num_prompt_tokens for request in requests)
    return 1 << max(-(-num_tokens // _MOST_PREFILLS) - 1, 0).bit_length()


def _block_range(requests: Sequence[Request]) -> tuple[int, int]:
    """Return how many blocks the longest request needs, and how many fill all seats at once."""
    needs = sorted(
        -(-(request.num_prompt_tokens + request.max_tokens) // BLOCK_SIZE) for request in requests
    )
    return needs[-1] + 1, sum(needs[-_MOST_SEATS:]) + 1


class BatchGantt(RetoldPlayer[Story]):
    """A film of two schedules. A request that a reader picks is the one whose latencies are told.

    Args:
        story: Makes what is told, from a value for each control.
        controls: The controls, by the argument that each sets.
    """

    def __init__(self, story: Callable[..., Story], controls: Mapping[str, AnyControl]) -> None:
        super().__init__(story, controls, interval=600)
        self.on_pick(self._choose)

    def _choose(self, thing: Thing) -> None:
        """Tell the latencies of a request that a reader has picked."""
        kind, name = thing
        if kind == "request":
            self.set(request=name)
