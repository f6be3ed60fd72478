"""Films with controls: moving one makes another film of the same thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import traitlets

from course_lib.viz.kit import static
from course_lib.viz.kit.controls import AnyControl, Value, accepted
from course_lib.viz.kit.player import Frame, Player
from course_lib.viz.kit.scene import Scene


class Telling(Protocol):
    """What a film tells for one setting of its controls."""

    @property
    def opening(self) -> int:
        """The moment at which the film opens."""

    def frames(self) -> Iterator[Frame]:
        """Yield a frame for each moment."""

    def moment_like(self, number: int, other: Any) -> int:
        """Return the moment here at which to go on from one of another telling's."""

    def twin(self) -> Scene:
        """Draw the one picture that stands for the film in print."""


T = TypeVar("T", bound=Telling)


class RetoldPlayer(Player, Generic[T]):
    """A film with controls: moving one makes another film.

    Stepping needs no kernel; moving a control does. Where a setting is refused with ``ValueError``,
    its message stands in place of the picture.

    Args:
        tell: Makes what is told, from a value for each control.
        controls: The controls, by the argument that each sets.
        interval: Milliseconds per frame while playing.

    Attributes:
        tell: Makes what is told, from a value for each control.
        told: What is told now.
        asked: Number of the newest request, set by the browser together with ``values``.
        form: The form that the browser shows; a film has both.
        answered: Number of the request that the film answers.

    >>> from course_lib.viz.kit.controls import Slider
    >>> from course_lib.viz.kit.shapes import Rect
    >>> class Walk:
    ...     opening = 0
    ...     def __init__(self, steps: int) -> None:
    ...         self.steps = steps
    ...     def scene(self, x: int) -> Scene:
    ...         return Scene(99, 9, (Rect(x, 0, 9, 9, key="box"),), "A walk", f"A box at {x}")
    ...     def frames(self) -> Iterator[Frame]:
    ...         return (Frame(self.scene(x), f"Step {x}.") for x in range(self.steps))
    ...     def moment_like(self, number: int, other: Walk) -> int:
    ...         return min(number, self.steps - 1)
    ...     def twin(self) -> Scene:
    ...         return self.scene(self.steps - 1)
    >>> film = RetoldPlayer(Walk, {"steps": Slider("Steps", 1, 9, 4)})
    >>> film.set(steps=7)
    >>> film.count, film.description
    (7, 'A walk. A box at 6')
    """

    asked = traitlets.Int(0).tag(sync=True, echo_update=False)
    answered = traitlets.Int(0).tag(sync=True)
    form = traitlets.Unicode("").tag(sync=True, echo_update=False)

    def __init__(
        self, tell: Callable[..., T], controls: Mapping[str, AnyControl], *, interval: int = 900
    ) -> None:
        self.tell = tell
        self._controls = dict(controls)
        values = {name: control.value for name, control in self._controls.items()}
        self.told = tell(**values)
        super().__init__(self.told.frames(), interval=interval)
        self.controls = [control.to_dict(name) for name, control in self._controls.items()]
        self.values = values
        self.index = self.told.opening
        self.observe(self._answer, names="asked")

    @property
    def description(self) -> str:
        """What the picture shows that stands for the film, as the static twin does."""
        return f"{self.name}. {self.told.twin().alt}"

    def set(self, **values: Value) -> None:
        """Move controls as a reader would.

        Raises:
            ValueError: There is no such control, or it cannot take the value.
        """
        moved = accepted(self._controls, values)
        with self.hold_sync():
            self.values = {**self.values, **moved}
            self._retell()

    def static(self, indices: Sequence[int] | None = None) -> static.StaticFigure:
        """Return the picture that stands for the film; or chosen frames side by side."""
        if indices is not None:
            return super().static(indices)
        return static.figure(self.told.twin())

    def to_html(self, path: str | Path | None = None) -> str:
        """Return a page with the film as it is, which needs no kernel; it has no controls.

        Args:
            path: Where to write the page too.
        """
        controls, self.controls = self.controls, []
        try:
            return super().to_html(path)
        finally:
            self.controls = controls

    def _answer(self, _change: Any) -> None:
        """Make the film that the browser asks for."""
        with self.hold_sync():
            self._retell()
            self.answered = self.asked

    def _retell(self) -> None:
        """Make the film for what the controls say, or say why there is none."""
        before = self.told
        try:
            self.told = self.tell(**accepted(self._controls, self.values))
        except ValueError as error:
            self.message = str(error)
            return
        self.message = ""
        self.roll(self.told.frames())
        self.index = self.told.moment_like(self.index, before)
