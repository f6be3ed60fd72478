"""A figure that follows something that runs in this kernel, and is a film of it afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from IPython import get_ipython
from IPython.display import DisplayHandle, display

from course_lib.viz.kit import static
from course_lib.viz.kit.layout import WIDE
from course_lib.viz.kit.player import SHEET_FRAMES, Frame, Player, evenly_spread, step_text
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Text
from course_lib.viz.kit.view import frame_values

FRAMES_PER_SECOND = 10
SHARE = 0.03

_GRACE = 0.05
"""Seconds that states may take whatever the share: of what is over soon, all are kept."""

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)


class Source(Protocol[S_co]):
    """Something that runs and can be followed."""

    def followed(self, live: Live[Any]) -> AbstractContextManager[object]:
        """Return a context in which the states of what runs are shown to ``live``."""


class Live(Player, Generic[S]):
    """Draws what runs while it runs, and then becomes a film of all that was shown to it.

    Use it in a ``with`` statement around what is to be followed; in a notebook it appears there,
    unless a cell has shown it already. Every state that it is shown is kept. Its static twin tells
    the film as soon as there is one. A picture of the newest is drawn ten times a second at
    most, and less often where drawing would take more than ``share`` of the time.

    Args:
        draw: Makes a frame of a state. It is called for some states while they run, and for all of
            them afterwards, so states must not change once they are shown.
        source: What runs, if it tells of its states by itself; None to call ``show``.
        share: How much of the time drawing may take, and as much again making states (``offer``).

    Attributes:
        states: All states that were shown.

    >>> def draw(count: int) -> Frame:
    ...     words = Text(9, 20, f"{count} blocks in use")
    ...     return Frame(Scene(300, 40, (words,), "A pool", words.text), words.text)
    >>> with Live(draw) as live:
    ...     for count in range(50):
    ...         live.show(count)
    >>> live.count, live.film[49].caption
    (50, '49 blocks in use')
    """

    def __init__(
        self,
        draw: Callable[[S], Frame],
        source: Source[S] | None = None,
        *,
        share: float = SHARE,
    ) -> None:
        self.states: list[S] = []
        self._draw = draw
        self._source = source
        self._share = share
        self._spent = 0.0
        self._started = time.perf_counter()
        self._next_picture = 0.0
        self._following: AbstractContextManager[object] = nullcontext()
        self._places: list[DisplayHandle] = []
        self._was_asked_for = False
        super().__init__([_NOTHING_YET])

    def __enter__(self) -> Live[S]:
        if not self._was_asked_for and get_ipython() is not None:
            # A cell that runs anew has lost what it had shown.
            self._places = self._shown()
        if self.states:
            self.states.clear()
            self.index = 0
            self.roll([_NOTHING_YET])
        self._spent = 0.0
        self._started = time.perf_counter()
        if self._source is not None:
            self._following = self._source.followed(self)
            self._following.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._following.__exit__(*exception)
        if self.states:
            with self.hold_sync():
                self.roll(map(self._draw, self.states))
                self.index = self.count - 1
            self._renew_twins()

    def show(self, state: S) -> None:
        """Keep a state, and draw it if the last picture was long enough ago."""
        self._take_in(state, time.perf_counter())

    def offer(self, make: Callable[[], S]) -> None:
        """Make a state and show it, unless making states has taken its share of the time already.

        This is for what runs so fast that to keep every state would slow it down.
        """
        start = time.perf_counter()
        if self._spent <= self._share * (start - self._started) + _GRACE:
            self._take_in(make(), start)

    def _take_in(self, state: S, start: float) -> None:
        """Keep a state, which was made from ``start`` on, and draw it if it is time to."""
        self.states.append(state)
        made = time.perf_counter()
        self._spent += made - start
        if made >= self._next_picture:
            frame = self._draw(state)
            self.frames = [frame_values(frame.scene, frame.narrow, frame.caption, frame.event)]
            seconds = time.perf_counter() - made
            self._next_picture = made + max(1 / FRAMES_PER_SECOND, seconds / self._share)

    def static(self, indices: Sequence[int] | None = None) -> static.StaticFigure:
        """Return chosen frames side by side, as a matplotlib figure.

        Args:
            indices: As for ``Player``; where the film is still to be made, frames are drawn ahead
                of it.
        """
        if self._has_film or not self.states:
            return super().static(indices)
        total = len(self.states)
        if indices is None:
            indices = evenly_spread(total, SHEET_FRAMES)
        frames = [self._draw(self.states[index]) for index in indices]
        captions = [
            step_text(index, total, frame.caption)
            for index, frame in zip(indices, frames, strict=True)
        ]
        return static.contact_sheet([frame.scene for frame in frames], captions)

    @property
    def description(self) -> str:
        """What the figure shows, for whoever cannot see it: of a film, how it ends."""
        if not self.states:
            return super().description
        last = self._film[-1] if self._has_film else self._draw(self.states[-1])
        return f"{self.name}. The last of {len(self.states):,} pictures: {last.scene.alt}"

    @property
    def _has_film(self) -> bool:
        """Whether all that was shown is drawn."""
        return self._is_complete and self._film[0] is not _NOTHING_YET

    def _ipython_display_(self) -> None:
        self._was_asked_for = True
        self._places += self._shown()

    def _shown(self) -> list[DisplayHandle]:
        """Show the figure in the cell that runs; return its place, if a page gives it one."""
        place = self._with_bundle(partial(display, display_id=True))
        return [] if place is None else [place]

    def _renew_twins(self) -> None:
        """Let the static twin in every cell that has the figure tell what has happened."""
        for place in self._places:
            self._with_bundle(place.update)

    def _with_bundle(self, show: Callable[..., Any]) -> Any:
        """Call ``show`` with the figure as the notebook keeps it, widget and twin."""
        data, metadata = self._repr_mimebundle_()
        return show(data, metadata=metadata, raw=True)


_WORDS = "Nothing has happened yet."
_NOTHING_YET = Frame(
    Scene(WIDE, 60, (Text(24, 36, _WORDS, tone="muted"),), "A live figure", _WORDS), ""
)
