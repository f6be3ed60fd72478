"""A button that unfolds the film of a failing case; nothing is built before it is pressed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets

from course_lib.viz.kit.player import Player
from course_lib.viz.replays.failing_case import FailingCase
from course_lib.viz.replays.film import replay

_SHOW, _HIDE = "Replay this case in the figure", "Hide the replay"


class ReplayOffer(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Offers the replay of a failing case below the result of its check.

    Args:
        retell: Lives the case once more; called when the reader asks for it the first time.

    >>> case = FailingCase(())
    >>> offer = ReplayOffer(lambda: case)
    >>> offer.button.description
    'Replay this case in the figure'
    """

    def __init__(self, retell: Callable[[], FailingCase]) -> None:
        self.button = ipywidgets.Button(
            description=_SHOW,
            tooltip="Shows step by step what should happen beside what your object does",
            icon="play",
            layout={"width": "auto", "align_self": "flex-start"},
        )
        super().__init__([self.button])
        self._retell = retell
        self._film: Player | None = None
        self._is_open = False
        self.button.on_click(self._toggle)

    def _toggle(self, _button: Any) -> None:
        """Show the film, or hide it; it is made once."""
        if self._film is None:
            self._film = replay(self._retell())
        self._is_open = not self._is_open
        self.children = [self.button, self._film] if self._is_open else [self.button]
        self.button.description = _HIDE if self._is_open else _SHOW
        self.button.icon = "" if self._is_open else "play"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """Return the widget without a text: where no widget can be, there is nothing to offer."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**data, "text/plain": ""}, metadata
