"""Lesson 11's figure: drop a long prompt among requests that decode, and cut it."""

from __future__ import annotations

from collections.abc import Sequence

from course_lib.simulation.cost_model import CostModel
from course_lib.simulation.workload import TraceRequest, Workload, load_azure
from course_lib.viz.chunking.charts import cost_chart, gaps_chart, gaps_words, with_chunk
from course_lib.viz.chunking.reading import MixedBatch, Time, UntimedStepError, Work, drop_prompt
from course_lib.viz.chunking.strips import MOST_ROWS, draw_strips
from course_lib.viz.kit.charts.words import quantity
from course_lib.viz.kit.controls import Choice, Stops
from course_lib.viz.kit.explorer import Explorer
from course_lib.viz.kit.layout import SLIM, WIDE, bottom_of, wrapped
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import HEADING_SIZE, SMALL_SIZE, Shape, Text, Tone

MARGIN = 12
_NUM_REQUESTS = 300
_LEAST_CHUNK = 32
_BOLD = 0.92
"""Bold text is wider than it is estimated: lines of it take this share of the width."""

_CHUNKS = (48, 64, 80, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144)
_SHOWN = {"one prompt": "prompt", "many requests": "gaps"}


def mixed_batch(
    requests: Sequence[TraceRequest] | None = None,
    *,
    iteration_work: Work | None = None,
    iteration_time: Time | None = None,
    cost_model: CostModel | None = None,
    num_decodes: int = 32,
    context: int = 999,
    prompt: int = 8000,
    chunks: Sequence[int] = (),
) -> Explorer:
    """Return a figure of a long prompt that is dropped among requests that decode.

    Above are their strips: a stroke at the end of each step, when each of them has a token, and
    under them the prompt, whole or in chunks. Below is what a chunk costs: the longest gap between
    two tokens, the time to the prompt's first token, and the roofline of the linear layers, flat up
    to the free seats. The reader moves the chunk, or sees many requests instead: how long the
    longest gap of each is, under a budget of one token for each that decodes and the chunk, and
    under one that lets the whole prompt in.

    Args:
        requests: The many requests, by arrival; by default 300 of ``load_azure()``.
        iteration_work: What adds up a batch: a class that has ``of_batch``, or this class method
            alone, as a function of class and rows. By default the learner's own where there is one.
        iteration_time: What adds up the time of a step: a class that has ``total``, or this
            property alone, as a function. By default the learner's own where there is one.
        cost_model: Tells how long a step takes; Llama-3.1-8B on an A100 by default. A model of
            another class than ``RooflineCostModel`` has its own arithmetic, and tells no seats.
        num_decodes: Requests that decode, from 1.
        context: Tokens that are cached of each of them; the few that they gain are not counted.
        prompt: Tokens of the prompt, from 33.
        chunks: Further chunks at which the slider stops, such as that of one's own budget.

    Raises:
        ValueError: There are no requests, or a number is out of range.

    >>> figure = mixed_batch(load_azure()[:20])
    >>> figure.set(chunk=512)
    >>> figure.scene.alt.partition(", 4.1")[0]
    'In 16 chunks of up to 512 tokens, the 32 wait up to 43.5 ms for a token'
    """
    mixed = drop_prompt(
        _workload(requests),
        iteration_work,
        iteration_time,
        cost_model,
        num_decodes,
        context,
        prompt,
    )
    stops = _stops(mixed, chunks)

    def build(chunk: int, shown: str, width: float = WIDE) -> Scene:
        return mixed_scene(mixed, stops, chunk, shown, width)

    return Explorer(
        build,
        {
            "chunk": Stops("Chunk", stops, prompt, unit="tokens"),
            "shown": Choice("Shown", _SHOWN, "prompt"),
        },
        narrow=SLIM,
    )


def mixed_scene(
    mixed: MixedBatch, stops: tuple[int, ...], chunk: int, shown: str, width: float = WIDE
) -> Scene:
    """Draw the strips and what a chunk costs; or what many requests see.

    Args:
        mixed: What is shown.
        stops: Where the slider stops.
        chunk: Most tokens of the prompt in a step.
        shown: ``"prompt"`` or ``"gaps"``.
        width: ``WIDE`` or ``SLIM``.
    """
    if shown == "gaps":
        return _gaps_scene(mixed, chunk, width)
    try:
        return _prompt_scene(mixed, stops, chunk, width)
    except UntimedStepError as error:
        return failed_scene(mixed, str(error), width)


def failed_scene(mixed: MixedBatch, problem: str, width: float) -> Scene:
    """Say in place of a picture why there is none."""
    title, words = title_of(mixed), f"There is nothing to show, since no step is timed. {problem}"
    shapes: list[Shape] = []
    y = write(shapes, title, 30, width - 2 * MARGIN, "text", HEADING_SIZE)
    y = write(shapes, words, y, width - 2 * MARGIN, "alert")
    return Scene(width, y, tuple(shapes), title, words)


def title_of(mixed: MixedBatch) -> str:
    """Return what the strips are called."""
    return f"A prompt of {mixed.prompt:,} tokens among {mixed.num_decodes} that decode"


def _prompt_scene(mixed: MixedBatch, stops: tuple[int, ...], chunk: int, width: float) -> Scene:
    """Draw the strips, and below them what a chunk costs."""
    title, inner = title_of(mixed), width - 2 * MARGIN
    shapes: list[Shape] = []
    y = write(shapes, title, 30, inner, "text", HEADING_SIZE)
    words = " ".join([*reading_words(mixed, chunk), *seat_words(mixed, chunk)])
    y = write(shapes, words, y, inner, "text")
    shapes += draw_strips(mixed, chunk, MARGIN, y - 6, inner)
    chart, curves = cost_chart(mixed, stops, inner)
    chart = with_chunk(chart.moved(MARGIN, bottom_of(shapes) + 4), mixed, chunk, curves)
    shapes += chart.shapes
    alt = f"{words} By chunk, {chart.alt}"
    return Scene(width, bottom_of(shapes) + 10, tuple(shapes), title, alt)


def _gaps_scene(mixed: MixedBatch, chunk: int, width: float) -> Scene:
    """Draw the longest gaps of many requests, under the budget of a chunk and the largest one."""
    inner = width - 2 * MARGIN
    count = len(mixed.workload)
    budget = f"{mixed.num_decodes} + {chunk:,} = {mixed.num_decodes + chunk:,}"
    title = f"{quantity(count, 'requests')}, budget {budget} tokens"
    shapes: list[Shape] = []
    y = write(shapes, title, 30, inner, "text", HEADING_SIZE)
    budgets = dict.fromkeys((chunk, mixed.prompt))
    said = [gaps_words(mixed, each) for each in budgets]
    for each, words in zip(budgets, said, strict=True):
        y = write(shapes, words, y, inner, "alert" if mixed.served(each).problem else "text")
    y = write(shapes, f"{mixed.workload.name}.", y, inner, "muted") - 6
    for each in budgets:
        chart = gaps_chart(mixed, each, inner)
        if chart is not None:
            shapes += chart.moved(MARGIN, y).shapes
            y += chart.height + 10
    alt = " ".join([*said, f"{mixed.workload.name}."])
    return Scene(width, bottom_of(shapes) + 12, tuple(shapes), title, alt)


def reading_words(mixed: MixedBatch, chunk: int) -> list[str]:
    """Say how long everybody waits while the prompt is read in chunks."""
    reading, decode = mixed.reading(chunk), mixed.decode_seconds
    count = len(reading.steps)
    gap, ttft = (quantity(1000 * each, "ms") for each in (reading.gap, reading.ttft))
    who = f"the {mixed.num_decodes} wait" if mixed.num_decodes > 1 else "the one waits"
    usual = f"{_times(reading.gap / decode)} times the usual {quantity(1000 * decode, 'ms')}"
    first = f"the prompt's first token comes after {ttft}"
    if count == 1:
        said = [f"In one step, {who} {gap} for a token, {usual}; {first}."]
    else:
        later = _compared(reading.ttft, mixed.reading(mixed.prompt).ttft)
        said = [
            f"In {count} chunks of up to {chunk:,} tokens, {who} up to {gap} for a token, {usual}; "
            f"{first}, {later}."
        ]
    theirs = mixed.reference.reading(chunk)
    if not _alike(theirs.gap, reading.gap) or not _alike(theirs.ttft, reading.ttft):
        gap, ttft = (quantity(1000 * each, "ms") for each in (theirs.gap, theirs.ttft))
        said.append(f"This is by your parts; by the library's it is {gap} and {ttft}.")
    if mixed.num_decodes > MOST_ROWS:
        said.append(f"The strips of {MOST_ROWS} are drawn.")
    return said


def seat_words(mixed: MixedBatch, chunk: int) -> list[str]:
    """Say how many tokens ride free, if the cost model tells."""
    seats, free, late = mixed.seats, mixed.free_seats, mixed.late_seconds
    if seats is None or free is None or late is None:
        return []
    said = f"While the weights are read, {seats:,} tokens can be multiplied: "
    said += f"{free:,} seats are free."
    if chunk < free:
        return [said, f"At least {free - chunk:,} of them stay empty in every step."]
    if chunk == free:
        return [said, f"A chunk of {chunk:,} fills them."]
    each = quantity(1e6 * late, "µs")
    return [said, f"Each of {chunk - free:,} more tokens adds {each} to the linear layers."]


def _times(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"


def _alike(first: float, second: float) -> bool:
    return abs(first - second) <= 1e-6 * abs(second)


def _compared(ttft: float, whole: float) -> str:
    """Say how much later one time is than the one of the whole prompt."""
    share = 100 * (ttft / whole - 1)
    if abs(share) < 0.5:
        return "as in one step"
    later = "later" if share > 0 else "earlier"
    return f"{abs(share):.0f}% {later} than in one step"


def _stops(mixed: MixedBatch, chunks: Sequence[int]) -> tuple[int, ...]:
    """Return where the slider stops: also at the free seats, and at the whole prompt.

    Raises:
        ValueError: A chunk is out of range.
    """
    least = _LEAST_CHUNK
    if not mixed.prompt > least:
        raise ValueError(f"prompt is {mixed.prompt}; take more than {least} tokens")
    for chunk in chunks:
        if not least <= chunk <= mixed.prompt:
            raise ValueError(f"a chunk of {chunk} tokens; take {least} to {mixed.prompt:,}")
    usual = (*_CHUNKS, mixed.free_seats or 0)
    inside = (chunk for chunk in usual if least < chunk < mixed.prompt)
    return tuple(sorted({least, mixed.prompt, *inside, *chunks}))


def _workload(requests: Sequence[TraceRequest] | None) -> Workload:
    """Return the requests as a workload.

    Raises:
        ValueError: There are none.
    """
    if requests is None:
        return load_azure()[:_NUM_REQUESTS]
    if not requests:
        raise ValueError("there are no requests; give at least one, or leave them out")
    if isinstance(requests, Workload):
        return requests
    return Workload("Requests as given", "as given", is_synthetic=True, requests=tuple(requests))


def write(
    shapes: list[Shape], text: str, y: float, width: float, tone: Tone, size: float = SMALL_SIZE
) -> float:
    """Add lines of text, and return where the next one may stand."""
    is_bold = size == HEADING_SIZE
    for row in wrapped(text, _BOLD * width if is_bold else width, size):
        shapes.append(Text(MARGIN, y, row, size, tone=tone, is_bold=is_bold))
        y += size + 6
    return y
