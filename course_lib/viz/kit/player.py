"""A film of scenes that the reader steps through in the browser, without a kernel."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from course_lib.viz.kit import static
from course_lib.viz.kit.collector import collector_paused
from course_lib.viz.kit.encoding import FilmEncoder
from course_lib.viz.kit.layout import text_width
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.view import Figure, frame_values

SHEET_FRAMES = 6
"""Frames that tell a film on paper."""
_FIRST_SHEET_FRAMES = 2
"""A film that is still being made has been waited for already; its sheet tells how it begins."""
_PATIENCE = 0.5
"""Seconds that a reader waits for a film without a thought; what takes longer comes later."""
_SLICE = 0.2
"""Seconds for which a film that comes later may keep the kernel from other work."""


@dataclass(frozen=True)
class Frame:
    """One moment: the picture and a sentence on what has just happened.

    Attributes:
        scene: The picture.
        caption: What has just happened, in a sentence.
        event: A few words if it is something that a reader looks for, such as "preempted A"; the
            bar of the film leads there. Empty otherwise.
        narrow: The picture for narrow pages. Give one to every frame of a film or to none.
    """

    scene: Scene
    caption: str
    event: str = ""
    narrow: Scene | None = None


class Player(Figure):
    """Steps through frames: buttons, a slider, the arrow keys, and play.

    The film is there as a whole after a moment and needs no kernel then, so it also runs from saved
    widget state. What takes longer than half a second to make is made piece by piece, whenever the
    kernel has nothing else to do.

    Args:
        frames: The moments, in order; a generator is asked for them as they are needed.
        link: Players with the same name here move together.
        interval: Milliseconds per frame while playing.

    Raises:
        ValueError: There are no frames, or only some of them have a narrow form.

    >>> from course_lib.viz.kit.shapes import Rect
    >>> def moment(x: int) -> Frame:
    ...     box = Rect(x, 0, 10, 10, "used", key="box")
    ...     scene = Scene(99, 20, (box,), "A box", f"A box at {x}")
    ...     return Frame(scene, f"The box is at {x}.", "half way" if x == 50 else "")
    >>> film = Player(moment(x) for x in range(80))
    >>> film.count, film.marks, film.film[50].caption
    (80, [[50, 'half way']], 'The box is at 50.')
    """

    def __init__(self, frames: Iterable[Frame], *, link: str = "", interval: int = 900) -> None:
        super().__init__(link=link, interval=interval)
        self.roll(frames)

    def roll(self, frames: Iterable[Frame]) -> None:
        """Show another film in place of this one.

        Args:
            frames: As for the class.

        Raises:
            ValueError: As for the class.
        """
        self._rest = iter(frames)
        first = next(self._rest, None)
        if first is None:
            raise ValueError("a film needs at least one frame")
        self._film: list[Frame] = []
        self._encoder = FilmEncoder(has_narrow=first.narrow is not None)
        self._longest = ""
        self._add(first)
        self._is_complete = self._take(_PATIENCE)
        with self.hold_sync():
            self.frames = [frame_values(first.scene, first.narrow, first.caption, first.event)]
            self._publish()
        if not self._is_complete:
            self._go_on_later()

    @property
    def film(self) -> tuple[Frame, ...]:
        """The frames so far."""
        return tuple(self._film)

    def static(self, indices: Sequence[int] | None = None) -> static.StaticFigure:
        """Return chosen frames side by side, as a matplotlib figure.

        Args:
            indices: Positions of the frames; by default the first, the last and the events, and
                frames between them where there are no events. Of a film that is still being made,
                fewer are chosen, out of what is there.
        """
        if indices is None:
            events = [position for position, _ in self._encoder.marks]
            at_most = SHEET_FRAMES if self._is_complete else _FIRST_SHEET_FRAMES
            indices = sheet_positions(len(self._film), events, at_most)
        total = len(self._film) if self._is_complete else None
        return static.contact_sheet(
            [self._film[index].scene for index in indices],
            [step_text(index, total, self._film[index].caption) for index in indices],
        )

    @property
    def description(self) -> str:
        """What the figure shows, for whoever cannot see it."""
        if self._is_complete:
            return super().description
        return f"{self.name}. {self.frames[0]['scene']['alt']} The beginning of a longer film."

    def to_html(self, path: str | Path | None = None) -> str:
        """Return a page that shows the film without a kernel and without a network.

        Frames that are still to be made are made first.

        Args:
            path: Where to write the page too.
        """
        if not self._is_complete:
            self._finish()
        return super().to_html(path)

    def _add(self, frame: Frame) -> None:
        """Add one frame."""
        self._encoder.add(frame.scene, frame.narrow, frame.caption, frame.event)
        self._film.append(frame)
        # Far fewer letters are never wider, and most captions need not be measured.
        if len(frame.caption) * 2 > len(self._longest):
            self._longest = max(self._longest, frame.caption, key=text_width)

    @collector_paused()
    def _take(self, seconds: float) -> bool:
        """Add frames for so long; say whether there are no more."""
        deadline = time.monotonic() + seconds
        for frame in self._rest:
            self._add(frame)
            if time.monotonic() > deadline:
                return False
        return True

    def _go_on_later(self) -> None:
        """Add the other frames when the kernel is idle; at once, where nobody waits for it."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._finish()
        else:
            loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Add some frames, and the others later."""
        if self._is_complete:
            return  # a page was made meanwhile, or another film begun
        self._is_complete = self._take(_SLICE)
        # All chunks are sent each time, so at most twice as much is sent as the film is large.
        if self._is_complete or self._encoder.count >= 2 * self.count:
            self._publish()
        if not self._is_complete:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _finish(self) -> None:
        """Add all frames that are still to be made."""
        self._is_complete = self._take(math.inf)
        self._publish()

    def _publish(self) -> None:
        """Send what has been added."""
        with self.hold_sync():
            self.chunks = self._encoder.chunks()
            self.count = self._encoder.count
            self.marks = list(self._encoder.marks)
            self.runs = self._encoder.runs
            self.longest = self._longest


def step_text(index: int, count: int | None, caption: str) -> str:
    """Return what is said of a frame where its picture alone would not tell which one it is.

    Args:
        index: Position of the frame.
        count: How many there are; None where nobody knows yet.
        caption: What has happened.

    >>> step_text(11, 120, "A waits."), step_text(11, None, "A waits.")
    ('Step 12 of 120: A waits.', 'Step 12: A waits.')
    >>> step_text(0, 1, "A waits.")
    'A waits.'
    """
    if count is None:
        return f"Step {index + 1:,}: {caption}"
    return f"Step {index + 1:,} of {count:,}: {caption}" if count > 1 else caption


def sheet_positions(total: int, events: Sequence[int], at_most: int = SHEET_FRAMES) -> list[int]:
    """Return the frames that tell a film on paper: the first, the last, and events between them.

    Args:
        total: How many frames there are.
        events: Positions of events, in order.
        at_most: How many are wanted; of more events, some are left out evenly.

    >>> sheet_positions(100, [7, 50]), sheet_positions(100, [])
    ([0, 7, 50, 99], [0, 20, 40, 59, 79, 99])
    >>> sheet_positions(100, range(1, 99), at_most=4)
    [0, 1, 98, 99]
    """
    between = [position for position in events if 0 < position < total - 1]
    if not between:
        return evenly_spread(total, at_most)
    chosen = [between[k] for k in evenly_spread(len(between), at_most - 2)]
    return [0, *chosen, total - 1]


def evenly_spread(total: int, at_most: int) -> list[int]:
    """Return up to ``at_most`` positions out of ``total``, the first and the last among them.

    >>> evenly_spread(100, 5)
    [0, 25, 50, 74, 99]
    >>> evenly_spread(3, 5)
    [0, 1, 2]
    """
    count = min(total, at_most)
    if count == 1:
        return [0]
    return [round(k * (total - 1) / (count - 1)) for k in range(count)]
