"""The figure of a request's trace: stepped by key and mouse; a click on a token opens its step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from course_lib.engine.tracing.trace import Trace
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.player import Frame, Player
from course_lib.viz.kit.shapes import Thing
from course_lib.viz.request_trace.reading import RequestReading
from course_lib.viz.request_trace.scene import step_scene, token_words

_EVENTS = {
    "arrives": "arrives",
    "finds": "hit",
    "is preempted": "preempted",
    "is swapped out": "swapped out",
    "resumes": "resumes",
    "finishes": "ends",
    "is aborted": "aborted",
}
"""What a reader looks for; the bar of the film leads there."""


def request_film(trace: Trace, request_id: str, *, block_size: int = 16) -> RequestFilm:
    """Return a film of one request of a trace, a frame for each step.

    Lanes show which component did something for it in which step, and what others did meanwhile;
    below them are the blocks that everybody holds, and the tokens of the answer. A click on a token
    or on a lane opens its step and says where its keys and values are.

    Args:
        trace: What a ``Tracer`` has seen: of this course's engine, of a learner's, of vLLM.
        request_id: The request.
        block_size: Tokens per block of the cache.

    Raises:
        ValueError: The trace has no such request, or it was in no step.

    >>> from course_lib.engine.tracing.recorded import vllm_runs
    >>> film = request_film(vllm_runs()["in turn"], "followed", block_size=8)
    >>> film.count, [name for _, name in film.marks]
    (43, ['arrives, hit', 'preempted', 'resumes, hit', 'aborted'])
    """
    return RequestFilm(RequestReading(trace, request_id, block_size))


class RequestFilm(Player):
    """A film of one request.

    Args:
        reading: The request.
    """

    def __init__(self, reading: RequestReading) -> None:
        self._reading = reading
        super().__init__(_frames(reading))
        self.on_pick(self._open)

    def open_step(self, step: int) -> None:
        """Show a step.

        Raises:
            ValueError: The request was not in it.
        """
        steps = self._reading.steps
        if step not in steps:
            raise ValueError(
                f"step {step} is not of this request; it has {steps[0]} to {steps[-1]}"
            )
        self.index = step - steps.start

    def _open(self, thing: Thing) -> None:
        """Show the step of what a reader has picked."""
        kind, number = thing
        if kind == "step":
            self.open_step(int(number))
        elif kind == "token":
            self.open_step(self._reading.tokens[int(number)].step)


def _frames(reading: RequestReading) -> Iterator[Frame]:
    draw = lru_cache(maxsize=2)(lambda step, width: step_scene(reading, step, width))
    for step in reading.steps:
        yield Frame(
            draw(step, WIDE), _caption(reading, step), _event(reading, step), draw(step, NARROW)
        )


def _caption(reading: RequestReading, step: int) -> str:
    """Say what the step did, and of the token that it chose where it is."""
    first, *_ = reading.words(step)
    said = [f"{first.strip()[:1].upper()}{first.strip()[1:]}."]
    said += [f"{token_words(reading, each)}." for each in reading.tokens if each.step == step]
    return f"Step {step}: {' '.join(said)}"


def _event(reading: RequestReading, step: int) -> str:
    actions = dict.fromkeys(event.action for event in reading.events(step))
    served = [event.num_tokens or 0 for event in reading.events(step) if event.action == "computes"]
    is_held_back = any(e.action == "shows" and not e.text for e in reading.events(step))
    said = [_EVENTS[action] for action in actions if action in _EVENTS]
    if not served and "hit" in said:
        said.remove("hit")  # it was looked up, and did not come in
    if is_held_back and "ends" not in said:
        said.append("held back")
    return ", ".join(said)
