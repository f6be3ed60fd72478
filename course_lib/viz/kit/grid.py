"""Pictures of an explorer for many settings, made before anybody asks: a page answers by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

from course_lib.viz.kit.controls import AnyControl, Value
from course_lib.viz.kit.encoding import FilmEncoder
from course_lib.viz.kit.scene import Scene

Axes = Mapping[str, Sequence[Value]]
"""For each control the values that it takes in a grid."""

Forms = tuple[Scene, Scene | None]
"""A picture, and its narrow form if it has one."""

PAGE_LIMIT = 1000
"""Settings in a page of its own, if its author does not choose them."""


def chosen_axes(controls: Mapping[str, AnyControl], chosen: Axes | None = None) -> Axes:
    """Return the values of each control in a grid.

    Args:
        controls: The controls of an explorer.
        chosen: The values of some; the others take all their values.

    Raises:
        ValueError: There is no such control, it cannot take such a value, or there is none.

    >>> from course_lib.viz.kit.controls import Slider, Toggle
    >>> controls = {"side": Slider("Side", 1, 100, 50), "filled": Toggle("Filled", value=True)}
    >>> chosen_axes(controls, {"side": [10, 50]})
    {'side': (10, 50), 'filled': (False, True)}
    """
    chosen = chosen or {}
    for name, values in chosen.items():
        if name not in controls:
            raise ValueError(f"no control {name!r}; known: {', '.join(controls)}")
        if not values:
            raise ValueError(f"control {name!r} has no value to precompute; name at least one")
    return {
        name: tuple(map(control.accept, chosen.get(name, control.choices)))
        for name, control in controls.items()
    }


def thinned_axes(
    controls: Mapping[str, AnyControl], values: Mapping[str, Value], at_most: int
) -> Axes:
    """Return a few values of each control, spread evenly, so that the grid stays small.

    Controls with few values keep all of them as long as there is room. What the controls say now
    is always among the values.

    Args:
        controls: The controls of an explorer.
        values: What they say now.
        at_most: Settings in the grid.

    >>> from course_lib.viz.kit.controls import Slider, Toggle
    >>> controls = {"side": Slider("Side", 1, 100, 50), "filled": Toggle("Filled", value=True)}
    >>> thinned_axes(controls, {"side": 50, "filled": True}, at_most=10)
    {'side': (1, 26, 50, 75, 100), 'filled': (False, True)}
    """
    sizes = dict.fromkeys(controls, 1)
    growing = list(controls)
    while growing:
        name = min(growing, key=lambda each: sizes[each])
        is_whole = sizes[name] == len(controls[name].choices)
        if is_whole or prod(sizes.values()) // sizes[name] * (sizes[name] + 1) > at_most:
            growing.remove(name)
        else:
            sizes[name] += 1
    return {
        name: _spread(controls[name].choices, values[name], size) for name, size in sizes.items()
    }


def _spread(choices: Sequence[Value], current: Value, count: int) -> tuple[Value, ...]:
    """Return ``count`` choices, evenly spread; the one next to ``current`` gives way to it."""
    here = choices.index(current)
    if count == 1:
        return (current,)
    last = len(choices) - 1
    positions = [round(k * last / (count - 1)) for k in range(count)]
    nearest = min(range(count), key=lambda k: abs(positions[k] - here))
    positions[nearest] = here
    return tuple(choices[position] for position in positions)


def precomputed(build: Callable[..., Forms], axes: Axes) -> dict[str, Any]:
    """Return the pictures of all settings of a grid, as the trait ``grid`` of an explorer.

    Neighbours differ little, so a grid is packed like a film, the last control running fastest.

    Args:
        build: Returns the picture of a setting; its ``ValueError`` is kept as a message.
        axes: The values of each argument.

    Raises:
        ValueError: ``build`` refuses all settings.
    """
    messages: dict[int, str] = {}
    pictures: list[Forms | None] = []
    for number, setting in enumerate(product(*axes.values())):
        try:
            pictures.append(build(**dict(zip(axes, setting, strict=True))))
        except ValueError as error:
            messages[number] = str(error)
            pictures.append(None)
    shown = next((picture for picture in pictures if picture is not None), None)
    if shown is None:
        raise ValueError(f"none of the {len(pictures)} settings has a picture: {messages[0]}")
    encoder = FilmEncoder(has_narrow=shown[1] is not None)
    for picture in pictures:
        shown = picture or shown  # under a message nothing changes
        encoder.add(*shown, caption="", event="")
    return {
        "axes": [{"name": name, "values": list(values)} for name, values in axes.items()],
        "count": len(pictures),
        "chunks": encoder.chunks(),
        "messages": {str(number): text for number, text in messages.items()},
    }
