"""A film of scenes that the reader steps through in the browser, without a kernel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from course_lib.viz.kit import static
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.view import SceneView, with_static_twin

_SHEET_FRAMES = 6


@dataclass(frozen=True)
class Frame:
    """One moment: the picture and a sentence on what has just happened.

    Attributes:
        scene: The picture.
        caption: What has just happened, in a sentence.
        event: A few words, where something happens that a reader looks for; empty otherwise.
        narrow: The same picture laid out for a narrow page.
    """

    scene: Scene
    caption: str
    event: str = ""
    narrow: Scene | None = None


class Player(SceneView):
    """Steps through frames: buttons, a slider, the arrow keys, and play.

    All frames are sent at once, so the film also runs from saved widget state.

    Args:
        frames: The moments, in order.

    Raises:
        ValueError: There are no frames.
    """

    def __init__(self, frames: Iterable[Frame]) -> None:
        self.film = tuple(frames)
        if not self.film:
            raise ValueError("a film needs at least one frame")
        super().__init__(
            frames=[
                {"scene": frame.scene.to_dict(), "caption": frame.caption} for frame in self.film
            ]
        )

    def static(self, indices: Sequence[int] | None = None) -> static.StaticFigure:
        """Return chosen frames side by side, as a matplotlib figure.

        Args:
            indices: Positions of the frames; by default up to six, from the first to the last.
        """
        if indices is None:
            indices = evenly_spread(len(self.film), _SHEET_FRAMES)
        chosen = [self.film[index] for index in indices]
        return static.contact_sheet(
            [frame.scene for frame in chosen], [frame.caption for frame in chosen]
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return with_static_twin(super()._repr_mimebundle_(**kwargs), self.static())


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
