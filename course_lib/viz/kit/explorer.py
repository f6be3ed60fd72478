"""A picture with controls: move one, and the picture is made anew."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import traitlets

from course_lib.viz.kit import static
from course_lib.viz.kit.controls import AnyControl, Value, accepted
from course_lib.viz.kit.grid import (
    PAGE_LIMIT,
    Axes,
    Forms,
    chosen_axes,
    precomputed,
    thinned_axes,
)
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.view import Figure, frame_values

Build = Callable[..., Scene]
"""Builds the scene of a setting, whose values it takes by keyword."""

_REST = 0.25
"""Seconds without a request after which the form that the browser does not show is built too."""


class Explorer(Figure):
    """A scene with a control for each argument of the function that builds it.

    Moving a control asks Python for the picture of the newest values, one request at a time, in the
    form that the browser shows; the other form follows when the controls have come to rest. Where
    the pictures were made before (``precompute``), the browser has them at hand. When ``build``
    raises ``ValueError``, its message stands where the picture was.

    Args:
        build: Returns the scene for one value per control, given by keyword. If it takes ``width``,
            which no control sets, it is asked for a wide and for a narrow form.
        controls: A control for each keyword.
        precompute: True to make the pictures of all settings now, which small figures can afford;
            or the values of some controls that are worth it, by name.
        narrow: Width that the narrow form is built for.

    Attributes:
        asked: Number of the newest request, set by the browser together with ``values``.
        form: The form that it asks for, "wide" or "narrow"; empty for both.
        answered: Number of the request that the picture answers.

    Raises:
        ValueError: ``build`` refuses the controls' first values, or ``precompute`` does not fit the
            controls.

    >>> from course_lib.viz.kit.controls import Slider
    >>> from course_lib.viz.kit.shapes import Rect
    >>> def square(side: int) -> Scene:
    ...     return Scene(100, 100, (Rect(0, 0, side, side, "used"),), "Square", f"A side of {side}")
    >>> explorer = Explorer(square, {"side": Slider("Side", minimum=1, maximum=100, value=50)})
    >>> explorer.set(side=70)
    >>> explorer.values, explorer.scene.alt
    ({'side': 70}, 'A side of 70')
    """

    asked = traitlets.Int(0).tag(sync=True, echo_update=False)
    answered = traitlets.Int(0).tag(sync=True)
    form = traitlets.Unicode("").tag(sync=True, echo_update=False)

    def __init__(
        self,
        build: Build,
        controls: Mapping[str, AnyControl],
        *,
        precompute: bool | Axes = False,
        narrow: float = NARROW,
    ) -> None:
        self._build = build
        self._controls = dict(controls)
        self._forms = _forms(build, controls, narrow)
        values = {name: control.value for name, control in self._controls.items()}
        self._take(values, self._forms)
        self._completion: asyncio.TimerHandle | None = None
        chosen = {} if isinstance(precompute, bool) else precompute
        super().__init__(
            frames=[self._frame()],
            controls=[control.to_dict(name) for name, control in self._controls.items()],
            values=values,
            grid=self._grid(chosen_axes(self._controls, chosen)) if precompute else {},
        )
        self.observe(self._answer, names="asked")

    @property
    def scene(self) -> Scene:
        """The newest picture, in its wide form."""
        self._complete()
        return self._built["wide"]

    def set(self, **values: Value) -> None:
        """Move controls as a reader would.

        Raises:
            ValueError: There is no such control, or it cannot take the value.
        """
        moved = accepted(self._controls, values)
        with self.hold_sync():
            self.values = {**self.values, **moved}
            self._redraw(self._forms)

    def static(self, **values: Any) -> static.StaticFigure:
        """Return the scene for these values, and the controls' own for the others, with matplotlib.

        Raises:
            ValueError: ``build`` refuses the values.
        """
        return static.figure(self._build(**{**self.values, **values}) if values else self.scene)

    def to_html(self, path: str | Path | None = None, precompute: Axes | None = None) -> str:
        """Return a page that shows the figure without a kernel and without a network.

        In the page the controls offer the settings whose pictures were made before. For a figure
        that has none, that is done now.

        Args:
            path: Where to write the page too.
            precompute: The values that each control offers in the page, by name; those that are not
                named offer all their values. By default up to 1,000 settings, spread evenly.

        Raises:
            ValueError: ``precompute`` does not fit the controls.
        """
        if precompute is not None:
            axes = chosen_axes(self._controls, precompute)
        else:
            axes = thinned_axes(self._controls, self.values, PAGE_LIMIT)
        self._complete()
        grid = self._grid(axes) if precompute is not None or not self.grid else self.grid
        return self._page(path, grid=grid)

    def _answer(self, _change: Any) -> None:
        """Draw the picture that the browser asks for, and the form that it does not show later."""
        loop = _running_loop()
        forms = [self.form] if loop is not None and self.form in self._forms else self._forms
        with self.hold_sync():
            self._redraw(forms)
            self.answered = self.asked
        if self._completion is not None:
            self._completion.cancel()
        if loop is not None:
            self._completion = loop.call_later(_REST, self._complete)

    def _redraw(self, forms: Iterable[str]) -> None:
        """Draw the picture for the controls' values, or say why there is none."""
        try:
            self._take(accepted(self._controls, self.values), forms)
        except ValueError as error:
            self.message = str(error)
        else:
            self.frames = [self._frame()]
            self.message = ""

    def _take(self, setting: Mapping[str, Value], forms: Iterable[str]) -> None:
        """Build the picture of a setting in some forms."""
        self._built = {form: self._forms[form](**setting) for form in forms}
        self._drawn = setting

    def _complete(self) -> None:
        """Build the picture in the forms that it is still to have."""
        missing = [form for form in self._forms if form not in self._built]
        for form in missing:
            self._built[form] = self._forms[form](**self._drawn)
        if missing:
            self.frames = [self._frame()]

    def _frame(self) -> dict[str, Any]:
        """Return the picture as ``Figure.frames`` has it, in the forms that are built."""
        return frame_values(self._built.get("wide"), self._built.get("narrow"))

    def _grid(self, axes: Axes) -> dict[str, Any]:
        return precomputed(self._both_forms, axes)

    def _both_forms(self, **setting: Value) -> Forms:
        wide, narrow = self._forms["wide"], self._forms.get("narrow")
        return wide(**setting), narrow(**setting) if narrow else None


def _forms(build: Build, controls: Mapping[str, Any], narrow: float) -> dict[str, Build]:
    """Return what builds a picture in each form that there is."""
    if "width" in controls or "width" not in inspect.signature(build).parameters:
        return {"wide": build}
    return {"wide": partial(build, width=WIDE), "narrow": partial(build, width=narrow)}


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that the kernel waits in, if there is one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
