"""A real engine, or a simulation, at work: blocks, batch, tokens and queue, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

from course_lib.viz.engine.moments import (
    BLOCK_STATES,
    HasScheduler,
    Moment,
    SchedulerSource,
    Served,
)
from course_lib.viz.kit.layout import NARROW, WIDE, bottom_of, fitting, legend, text_width
from course_lib.viz.kit.live import SHARE, Live
from course_lib.viz.kit.player import Frame
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, TEXT_SIZE, Cells, Group, Rect, Shape, Text

Decode = Callable[[Sequence[int]], str]
"""Makes text of tokens."""

_MARGIN = 24.0
_MOST_ROWS, _ROW = 8, 34
_NAME = 100.0
"""Width of the name of a request in the batch: one of eight letters fits."""
_GRID_WIDTH, _GRID_HEIGHT = 336.0, 236.0
_LARGEST_CELL, _SMALLEST_CELL = 32, 4
_LEGEND = ("prefill", "decode", "waiting", "preempted", "swapped", *BLOCK_STATES)
_TITLE = "An engine at work"


def follow_engine(engine: HasScheduler, *, share: float = SHARE) -> Live[Moment]:
    """Return a figure that follows an engine or a simulation, and is a film of it afterwards.

    ::

        with viz.follow_engine(llm) as live:
            llm.generate(prompts, params)

    Args:
        engine: An ``LLM`` of this course, or a ``Simulator``.
        share: How much of the time the figure may take. Of a simulation, which makes thousands of
            steps a second, it then shows some steps only; 1 is enough for all of them.

    >>> from course_lib.scheduling import SchedulerConfig
    >>> from course_lib.simulation import ConstantCostModel, Simulator, TraceRequest
    >>> two = [TraceRequest(0.0, prompt_tokens=100, output_tokens=3), TraceRequest(1.5, 100, 1)]
    >>> simulator = Simulator(two, SchedulerConfig(), ConstantCostModel(1.0), num_blocks=50)
    >>> with follow_engine(simulator, share=1) as live:
    ...     while simulator.step() is not None:
    ...         pass
    >>> [frame.event for frame in live.film]
    ['0 starts', '', '1 starts', '0 and 1 are done']
    >>> live.film[0].caption
    'Step 0: 1 request computes 100 tokens, 7 of 49 blocks are taken, nobody waits.'
    """
    draw = partial(engine_frame, decode=_decoder(engine))
    return Live(draw, SchedulerSource(engine.scheduler), share=share)


def engine_frame(moment: Moment, decode: Decode | None = None) -> Frame:
    """Return a step as a frame of a film, in both forms.

    Args:
        moment: The step.
        decode: Makes text of tokens; None where there is none, as in a simulation.
    """
    return Frame(
        engine_scene(moment, WIDE, decode),
        step_caption(moment),
        step_event(moment),
        engine_scene(moment, NARROW, decode),
    )


def step_caption(moment: Moment) -> str:
    """Say what a step does."""
    num_taken = moment.num_blocks - moment.num_free
    blocks = f"{num_taken:,} of {moment.num_blocks:,} blocks are taken"
    waits = {0: "nobody waits", 1: "1 request waits"}.get(
        moment.num_waiting, f"{moment.num_waiting:,} requests wait"
    )
    if not moment.served:
        return f"After {moment.step:,} steps: {blocks}, {waits}."
    num_tokens = sum(each.num_scheduled for each in moment.served)
    who = (
        "1 request computes"
        if len(moment.served) == 1
        else f"{len(moment.served):,} requests compute"
    )
    return f"Step {moment.step:,}: {who} {_count(num_tokens)}, {blocks}, {waits}."


def step_event(moment: Moment) -> str:
    """Name what a reader looks for in a step; an empty text if there is nothing."""
    events = (
        ("preempted ", moment.preempted, ""),
        ("", moment.started, " starts" if len(moment.started) == 1 else " start"),
        ("", moment.ended, " is done" if len(moment.ended) == 1 else " are done"),
    )
    return "; ".join(f"{before}{_names(names)}{after}" for before, names, after in events if names)


def engine_scene(moment: Moment, width: float = WIDE, decode: Decode | None = None) -> Scene:
    """Draw a step: the blocks, the batch, its tokens, and the queue.

    Args:
        moment: The step.
        width: Of the picture; below 900 the batch stands under the blocks.
        decode: Makes text of tokens; None where there is none.
    """
    is_wide = width >= 900
    shapes: list[Shape] = list(_blocks(moment, _MARGIN, 34))
    below_blocks = bottom_of(shapes) + 46
    left, top = (2 * _MARGIN + _GRID_WIDTH, 34.0) if is_wide else (_MARGIN, below_blocks)
    shapes += _batch(moment, left, top, width - _MARGIN - left, decode)
    top += 44 + _num_rows(moment) * _ROW
    if is_wide:
        top = max(top, below_blocks)
    shapes += _tokens(moment, _MARGIN, top, width - 2 * _MARGIN)
    shapes += _queue(moment, _MARGIN, top + 86, width - 2 * _MARGIN)
    shapes += legend(_LEGEND, _MARGIN, top + 154, width - 2 * _MARGIN)
    return Scene(width, bottom_of(shapes) + 14, tuple(shapes), _TITLE, step_caption(moment))


def _blocks(moment: Moment, left: float, top: float) -> Iterator[Shape]:
    """Draw the pool as a grid."""
    num_taken = moment.num_blocks - moment.num_free
    yield _heading(left, top, f"Blocks: {num_taken:,} of {moment.num_blocks:,} taken")
    count = len(moment.blocks)
    size = next(
        (size for size in range(_LARGEST_CELL, _SMALLEST_CELL, -1) if _fits(count, size)),
        _SMALLEST_CELL,
    )
    states = tuple(BLOCK_STATES[number] for number in moment.blocks)
    grid = Cells(left, top + 14, int(_GRID_WIDTH // size), size, states, "block", "pool")
    yield grid
    if count <= moment.num_blocks:
        note = f"the first {count:,} blocks are drawn"
        yield Text(left, grid.y + grid.height + 20, note, SMALL_SIZE, tone="muted")


def _fits(count: int, size: int) -> bool:
    """Whether so many cells of this size fit into the place of the grid."""
    return -(-count // int(_GRID_WIDTH // size)) * size <= _GRID_HEIGHT


def _num_rows(moment: Moment) -> int:
    """Return for how many requests the batch has room, in every picture of a film."""
    return min(_MOST_ROWS, moment.max_num_seqs) + (moment.max_num_seqs > _MOST_ROWS)


def _batch(
    moment: Moment, left: float, top: float, width: float, decode: Decode | None
) -> Iterator[Shape]:
    """Draw a row for each request in the batch: what of it is computed, and what it says."""
    yield _heading(left, top, f"Batch: {len(moment.served)} of at most {moment.max_num_seqs:,}")
    shown = moment.served[:_MOST_ROWS]
    most = max((max(each.num_tokens, each.num_computed) for each in shown), default=1)
    scale = 2.0 ** math.ceil(math.log2(max(most, 64)))
    bar_left = left + _NAME
    bar_width = width - _NAME if decode is None else (width - _NAME) * 0.5
    for row, request in enumerate(shown):
        y = top + 18 + row * _ROW
        name = fitting(_NAME - 8, request.request_id, f"{request.request_id[:4]}…", size=TEXT_SIZE)
        key = f"batch-{request.request_id}"
        members = [
            Text(left, y + 19, name, TEXT_SIZE),
            *_progress(request, bar_left, y, bar_width / scale, key),
        ]
        if decode is not None:
            text_left = bar_left + bar_width + 12
            words = _end_of(decode(request.tail), left + width - text_left)
            members.append(Text(text_left, y + 19, words, SMALL_SIZE, tone="muted"))
        yield Group(
            tuple(members),
            tooltip=_told(request),
            key=key,
            of=("request", request.request_id),
            lights=tuple(("block", block_id) for block_id in request.blocks),
        )
    if len(moment.served) > len(shown):
        more = f"and {len(moment.served) - len(shown):,} more"
        y = top + 18 + _MOST_ROWS * _ROW
        yield Text(left, y + 16, more, SMALL_SIZE, tone="muted")


def _progress(request: Served, left: float, top: float, pixels: float, key: str) -> Iterator[Shape]:
    """Draw what of a request is computed, what this step adds, and what is still lacking."""
    before = request.num_computed - request.num_scheduled
    known = max(request.num_tokens, request.num_computed)
    box = partial(Rect, y=top, height=26)
    yield box(x=left, width=known * pixels, key=f"{key}-known")
    yield box(x=left, width=before * pixels, state="in_use", key=f"{key}-before")
    # At least 4 pixels, or a decode in a long context could not be seen.
    yield box(
        x=left + before * pixels,
        width=max(4, request.num_scheduled * pixels),
        state=request.state,
        key=f"{key}-now",
    )


def _told(request: Served) -> str:
    """Say how far a request is."""
    known = max(request.num_tokens, request.num_computed)
    return (
        f"request {request.request_id}: {request.num_computed:,} of {known:,} tokens computed, "
        f"{request.num_scheduled:,} of them in this step; {len(request.blocks):,} blocks"
    )


def _tokens(moment: Moment, left: float, top: float, width: float) -> Iterator[Shape]:
    """Draw the tokens of the step as one bar, in the order of service."""
    total = sum(each.num_scheduled for each in moment.served)
    heading = f"Tokens of this step: {total:,} of at most {moment.budget:,}"
    yield _heading(left, top, heading)
    scale = min(moment.budget, 2 ** math.ceil(math.log2(max(total, 32))))
    yield Rect(left, top + 12, width, 32, key="budget")
    x = left
    for request in moment.served:
        extent = request.num_scheduled / scale * width
        yield Rect(
            x,
            top + 12,
            extent,
            32,
            request.state,
            fitting(extent, f"{request.request_id}: {request.num_scheduled}", request.request_id),
            tooltip=f"request {request.request_id}: {_count(request.num_scheduled)} in this step",
            key=f"tokens-{request.request_id}",
            of=("request", request.request_id),
        )
        x += extent
    end = f"the bar ends at {scale:,} tokens"
    yield Text(left + width, top + 62, end, SMALL_SIZE, "end", tone="muted")


def _queue(moment: Moment, left: float, top: float, width: float) -> Iterator[Shape]:
    """Draw those that wait, the next one first."""
    num_others = moment.num_waiting + len(moment.swapped)
    words = {0: "nobody waits", 1: "1 request waits"}.get(num_others, f"{num_others:,} wait")
    yield _heading(left, top, f"Queue: {words}")
    x = left
    waiting = [(name, "swapped") for name in moment.swapped]
    waiting += [
        (name, "preempted" if name in moment.preempted else "waiting") for name in moment.waiting
    ]
    for shown, (name, state) in enumerate(waiting):
        extent = max(34, text_width(name, SMALL_SIZE) + 16)
        if x + extent > left + width - 110:
            more = f"and {num_others - shown:,} more"
            yield Text(x + 4, top + 33, more, SMALL_SIZE, tone="muted")
            break
        yield Rect(
            x,
            top + 12,
            extent,
            32,
            state,
            name,
            key=f"queue-{name}",
            origin=f"batch-{name}-now" if state == "preempted" else "",
            of=("request", name),
        )
        x += extent + 6


def _heading(left: float, top: float, words: str) -> Text:
    return Text(left, top, words, TEXT_SIZE, is_bold=True)


def _count(num_tokens: int) -> str:
    return "1 token" if num_tokens == 1 else f"{num_tokens:,} tokens"


def _names(names: Sequence[str]) -> str:
    """Return up to three names as words.

    >>> _names(["a"]), _names(["a", "b"]), _names(["a", "b", "c", "d"])
    ('a', 'a and b', 'a, b and 2 more')
    """
    if len(names) > 3:
        return f"{names[0]}, {names[1]} and {len(names) - 2:,} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _end_of(text: str, width: float) -> str:
    """Return as much of the end of a text as fits into one line."""
    line = " ".join(text.split())
    if text_width(line, SMALL_SIZE) <= width:
        return line
    line = line[-int(width / text_width(".", SMALL_SIZE)) :]  # no more of it can fit
    while text_width(f"…{line}", SMALL_SIZE) > width:
        line = line[1:]
    return f"…{line}"


def _decoder(engine: Any) -> Decode | None:
    """Return what makes text of an engine's tokens; None for a simulation, which has no text."""
    if not hasattr(engine, "tokenizer"):
        return None
    return cache(partial(_decoded, engine.tokenizer))


def _decoded(tokenizer: Any, tokens: tuple[int, ...]) -> str:
    return str(tokenizer.decode(tokens))
