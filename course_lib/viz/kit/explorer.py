"""Controls beside a scene: move one, and Python builds the scene anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets

from course_lib.viz.kit import static
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.view import Picture, with_static_twin

_STYLE = {"description_width": "14em"}
_LAYOUT = {"width": "auto"}
_PANEL = {"display": "grid", "grid_template_columns": "repeat(2, 1fr)", "max_width": "960px"}


@dataclass(frozen=True)
class Slider:
    """A whole number between two bounds.

    >>> Slider("Sequences", minimum=1, maximum=256, value=16).widget().value
    16
    """

    label: str
    minimum: int
    maximum: int
    value: int
    step: int = 1
    unit: str = ""

    def widget(self) -> Any:
        """Return a new ipywidgets slider."""
        return ipywidgets.IntSlider(
            value=self.value,
            min=self.minimum,
            max=self.maximum,
            step=self.step,
            description=_with_unit(self.label, self.unit),
            readout_format=",d",
            style=_STYLE,
            layout=_LAYOUT,
        )


@dataclass(frozen=True)
class PowerOfTwo:
    """A power of two between two bounds, both powers of two themselves.

    Raises:
        ValueError: A number is not a power of two, or they are out of order.

    >>> PowerOfTwo("Length", minimum=4, maximum=32, value=8).choices
    (4, 8, 16, 32)
    """

    label: str
    minimum: int
    maximum: int
    value: int
    unit: str = ""

    def __post_init__(self) -> None:
        for number in (self.minimum, self.maximum, self.value):
            if number < 1 or number & (number - 1):
                raise ValueError(f"{self.label}: {number} is not a power of two")
        if not self.minimum <= self.value <= self.maximum:
            raise ValueError(
                f"{self.label}: need minimum <= value <= maximum, "
                f"got {self.minimum}, {self.value}, {self.maximum}"
            )

    @property
    def choices(self) -> tuple[int, ...]:
        """Every power of two from minimum to maximum."""
        exponents = range(self.minimum.bit_length() - 1, self.maximum.bit_length())
        return tuple(2**exponent for exponent in exponents)

    def widget(self) -> Any:
        """Return a new ipywidgets slider over the choices."""
        return ipywidgets.SelectionSlider(
            options=[(f"{choice:,}", choice) for choice in self.choices],
            value=self.value,
            description=_with_unit(self.label, self.unit),
            style=_STYLE,
            layout=_LAYOUT,
        )


@dataclass(frozen=True)
class Choice:
    """One of several named values: ``options`` maps what the reader sees to what ``build`` gets."""

    label: str
    options: Mapping[str, Any]
    value: Any

    def widget(self) -> Any:
        """Return a new ipywidgets dropdown."""
        return ipywidgets.Dropdown(
            options=list(self.options.items()),
            value=self.value,
            description=self.label,
            style=_STYLE,
            layout=_LAYOUT,
        )


Control = Slider | PowerOfTwo | Choice


class Explorer(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A scene with a control for each argument of the function that builds it.

    Moving a control calls ``build`` in Python and redraws. When ``build`` raises ``ValueError``,
    its message stands where the picture was.

    Args:
        build: Returns the scene for one value per control, given by keyword.
        controls: A control for each keyword.

    Raises:
        ValueError: ``build`` refuses the controls' first values.

    >>> from course_lib.viz.kit.shapes import Rect
    >>> def square(side: int) -> Scene:
    ...     return Scene(100, 100, (Rect(0, 0, side, side, "used"),), "Square", f"A side of {side}")
    >>> explorer = Explorer(square, {"side": Slider("Side", minimum=1, maximum=100, value=50)})
    >>> explorer.set(side=70)
    >>> explorer.values, explorer.scene.alt
    ({'side': 70}, 'A side of 70')
    """

    def __init__(self, build: Callable[..., Scene], controls: Mapping[str, Control]) -> None:
        self._build = build
        self._inputs = {name: control.widget() for name, control in controls.items()}
        self.scene = build(**self.values)
        self.picture = Picture(self.scene)
        panel = ipywidgets.Box(list(self._inputs.values()), layout=_PANEL)
        super().__init__([panel, self.picture])
        for control in self._inputs.values():
            control.observe(self._redraw, names="value")

    @property
    def values(self) -> dict[str, Any]:
        """What the controls say now."""
        return {name: control.value for name, control in self._inputs.items()}

    def set(self, **values: Any) -> None:
        """Move controls as a reader would.

        Raises:
            ValueError: There is no such control.
        """
        for name, value in values.items():
            if name not in self._inputs:
                raise ValueError(f"no control {name!r}; known: {', '.join(self._inputs)}")
            self._inputs[name].value = value

    def static(self, **values: Any) -> static.StaticFigure:
        """Return the scene for these values, and the controls' own for the others, with matplotlib.

        Raises:
            ValueError: ``build`` refuses the values.
        """
        return static.figure(self._build(**{**self.values, **values}))

    def _redraw(self, _change: Any) -> None:
        try:
            self.scene = self._build(**self.values)
        except ValueError as error:
            self.picture.message = str(error)
        else:
            self.picture.show(self.scene)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        twin = static.figure(self.scene)
        return with_static_twin(super()._repr_mimebundle_(**kwargs), twin)


def _with_unit(label: str, unit: str) -> str:
    return f"{label} ({unit})" if unit else label
