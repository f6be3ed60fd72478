"""The strips as a film: who has a token, in slow motion, while a prompt is read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from course_lib.simulation.cost_model import CostModel
from course_lib.simulation.workload import Workload
from course_lib.viz.chunking.figure import MARGIN, failed_scene, title_of, write
from course_lib.viz.chunking.reading import (
    MixedBatch,
    Reading,
    ReadingStep,
    Time,
    UntimedStepError,
    Work,
    drop_prompt,
)
from course_lib.viz.chunking.strips import STEPS_BEFORE, draw_strips, steps_in, time_scale
from course_lib.viz.kit.charts.words import quantity
from course_lib.viz.kit.layout import SLIM, WIDE, bottom_of
from course_lib.viz.kit.player import Frame, Player
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import HEADING_SIZE, Shape

_MILLISECONDS_PER_FRAME = 150
_MOST_FRAMES = 400
_NOBODY = Workload("none", "none", is_synthetic=True, requests=())


class Moment(NamedTuple):
    """A moment of the film.

    Attributes:
        seconds: When it is, since the prompt has come.
        caption: What has just happened, or has not.
        event: A few words where a reader looks for it; empty otherwise.
    """

    seconds: float
    caption: str
    event: str = ""


def stall_film(
    chunk: int | None = None,
    *,
    iteration_work: Work | None = None,
    iteration_time: Time | None = None,
    cost_model: CostModel | None = None,
    num_decodes: int = 32,
    context: int = 999,
    prompt: int = 8000,
) -> Player:
    """Return a film of the strips of ``mixed_batch``.

    A frame is the end of a step. A step that takes longer than one without the prompt has as many
    frames as such steps would have: frame after frame passes, and nobody has a token.

    Args:
        chunk: Most tokens of the prompt in a step, from 32; None for the whole prompt.
        iteration_work: What adds up a batch, as in ``mixed_batch``.
        iteration_time: What adds up the time of a step, as in ``mixed_batch``.
        cost_model: Tells how long a step takes; Llama-3.1-8B on an A100 by default.
        num_decodes: Requests that decode, from 1.
        context: Tokens that are cached of each of them.
        prompt: Tokens of the prompt, from 33.

    Raises:
        ValueError: A number is out of range.

    >>> film = stall_film()
    >>> [film.film[frame].caption for frame, event in film.marks if event == "first token"]
    ['587 ms: the first token of the prompt. Each of the 32 has one too, after 587 ms.']
    """
    mixed = drop_prompt(
        _NOBODY, iteration_work, iteration_time, cost_model, num_decodes, context, prompt
    )
    size = prompt if chunk is None else chunk
    if not 32 <= size <= prompt:
        raise ValueError(f"a chunk of {size} tokens; take 32 to {prompt:,}")
    return Player(_frames(mixed, size), interval=_MILLISECONDS_PER_FRAME)


def _frames(mixed: MixedBatch, chunk: int) -> Iterator[Frame]:
    """Yield the moments of the film; one that says why there are none, if no step is timed."""
    try:
        moments = list(islice(_moments(mixed, chunk), _MOST_FRAMES))
    except UntimedStepError as error:
        wide, narrow = (failed_scene(mixed, str(error), width) for width in (WIDE, SLIM))
        yield Frame(wide, wide.alt, narrow=narrow)
        return
    for moment in moments:
        wide, narrow = (_scene(mixed, chunk, moment, width) for width in (WIDE, SLIM))
        yield Frame(wide, moment.caption, moment.event, narrow)


def _moments(mixed: MixedBatch, chunk: int) -> Iterator[Moment]:
    """Yield the end of each step, and moments before it where it takes longer than without."""
    until = time_scale(mixed, 0, WIDE).high / 1000
    reading = mixed.reading(chunk)
    longest = max(reading.steps, key=lambda step: step.seconds)
    for number, step in enumerate(steps_in(mixed, reading, until)):
        parts_of_step = max(round(step.seconds / mixed.decode_seconds), 1)
        for part in range(1, parts_of_step):
            seconds = step.seconds * part / parts_of_step
            if step.start + seconds > until:
                return
            waited = quantity(1000 * seconds, "ms")
            said = f"{_at(step.start + seconds)}: nobody has had a token for {waited}."
            yield Moment(step.start + seconds, said)
        if step.end > until:
            return
        if number == STEPS_BEFORE - 1:
            yield Moment(step.end, _arrival(mixed, chunk), "the prompt comes")
        else:
            event = "longest gap" if step is longest else ""
            event = "first token" if step is reading.steps[-1] else event
            yield Moment(step.end, _token_words(mixed, reading, step), event)


def _at(seconds: float) -> str:
    """Say when something is."""
    if seconds < 0:
        return f"{quantity(-1000 * seconds, 'ms')} before the prompt"
    return quantity(1000 * seconds, "ms")


def _arrival(mixed: MixedBatch, chunk: int) -> str:
    """Say that the prompt comes."""
    read = f"{chunk:,} of them are" if chunk < mixed.prompt else "all of them are"
    return f"A prompt of {mixed.prompt:,} tokens comes; {read} read in the next step."


def _token_words(mixed: MixedBatch, reading: Reading, step: ReadingStep) -> str:
    """Say who has a token at the end of a step."""
    took = quantity(1000 * step.seconds, "ms")
    if step is reading.steps[-1]:
        each = _each(mixed.num_decodes)
        said = f"{_at(step.end)}: the first token of the prompt. "
        return f"{said}{each[0].upper()}{each[1:]} has one too, after {took}."
    is_after = step.start >= reading.ttft
    return f"{_at(step.end)}: {_each(mixed.num_decodes + is_after)} has a token, after {took}."


def _each(count: int) -> str:
    return f"each of the {count}" if count > 1 else "the one that decodes"


def _scene(mixed: MixedBatch, chunk: int, moment: Moment, width: float) -> Scene:
    """Draw the strips up to a moment."""
    how = f"in chunks of {chunk:,}" if chunk < mixed.prompt else "whole"
    title, inner = f"{title_of(mixed)}, {how}", width - 2 * MARGIN
    shapes: list[Shape] = []
    y = write(shapes, title, 30, inner, "text", HEADING_SIZE)
    shapes += draw_strips(mixed, chunk, MARGIN, y - 6, inner, moment.seconds)
    return Scene(width, bottom_of(shapes) + 12, tuple(shapes), title, moment.caption)
