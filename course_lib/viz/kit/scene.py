"""A picture as plain data: built by pure functions, drawn by the browser and by matplotlib.

The kit's JavaScript turns ``Scene.to_dict()`` into SVG and ``static.py`` draws the same scene with
matplotlib, so a figure and its static twin cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from course_lib.viz.kit.palette import PALETTE
from course_lib.viz.kit.shapes import (
    Area,
    Cells,
    Group,
    Line,
    Point,
    Rect,
    Shape,
    Text,
    Thing,
    flatten,
    states_in,
)


@dataclass(frozen=True)
class Scene:
    """A picture.

    Attributes:
        width: Width of the canvas.
        height: Height of the canvas.
        shapes: What is on it; later shapes cover earlier ones.
        title: What the picture is called.
        alt: What it shows, in words, for whoever cannot see it.

    Raises:
        ValueError: The canvas is empty, the title or description is missing, or two shapes have
            the same key.
    """

    width: float
    height: float
    shapes: tuple[Shape, ...]
    title: str
    alt: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "shapes", tuple(self.shapes))
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"a canvas of {self.width:g} x {self.height:g} shows nothing")
        if not self.title or not self.alt:
            raise ValueError("a scene needs a title and a description (alt) for screen readers")
        seen = set()
        for key in filter(None, _keys(self.shapes)):
            if key in seen:
                raise ValueError(f"two shapes have the key {key!r}; a key names one thing")
            seen.add(key)

    def rects(self) -> Iterator[Rect]:
        """Yield every box, also those in groups, in drawing order."""
        return (shape for shape in flatten(self.shapes) if isinstance(shape, Rect))

    def texts(self) -> Iterator[str]:
        """Yield everything that can be read in the picture: lines of text and labels of boxes."""
        for shape in flatten(self.shapes):
            if isinstance(shape, Text):
                yield shape.text
            elif isinstance(shape, Rect) and shape.label:
                yield shape.label

    def to_dict(self) -> dict[str, Any]:
        """Return the scene as JSON values, with the look of each state that occurs in it."""
        return {
            "width": self.width,
            "height": self.height,
            "title": self.title,
            "alt": self.alt,
            "states": looks(states_in(self.shapes)),
            "shapes": [_tree(shape_id, shape) for shape_id, shape in identified(self.shapes)],
        }


def looks(states: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return as JSON values how states look, by their keys."""
    return {
        key: {
            "label": PALETTE[key].label,
            "colour": PALETTE[key].colour,
            "ink": PALETTE[key].ink,
            "hatch": PALETTE[key].hatch,
            "isPaper": PALETTE[key].is_paper,
            "dash": list(PALETTE[key].dash),
        }
        for key in states
    }


def identified(shapes: Iterable[Shape], parent: str = "") -> Iterator[tuple[str, Shape]]:
    """Yield shapes with their ids: the key of a shape, or its kind and number among its like.

    A shape with the same id in the next picture is changed there; all others come and go.

    Args:
        shapes: The shapes of a scene, or the members of a group.
        parent: Id of the group; empty for a scene.

    >>> [name for name, _ in identified([Text(0, 9, "a"), Text(9, 9, "b", key="b")])]
    ['text:0', 'b']
    >>> [name for name, _ in identified([Text(0, 9, "a")], parent="legend")]
    ['legend/text:0']
    """
    numbers: dict[str, int] = {}
    prefix = f"{parent}/" if parent else ""
    for shape in shapes:
        if shape.key:
            yield shape.key, shape
            continue
        kind = type(shape).__name__.lower()
        number = numbers.get(kind, 0)
        numbers[kind] = number + 1
        yield f"{prefix}{kind}:{number}", shape


def _tree(shape_id: str, shape: Shape) -> dict[str, Any]:
    """Return a shape as JSON values, with its id, and with those that it holds."""
    values = {"id": shape_id, **shape_dict(shape)}
    if isinstance(shape, Group):
        members = identified(shape.shapes, shape_id)
        values["shapes"] = [_tree(member_id, member) for member_id, member in members]
    return values


def _keys(shapes: Iterable[Shape]) -> Iterator[str]:
    for shape in shapes:
        yield shape.key
        if isinstance(shape, Group):
            yield from _keys(shape.shapes)


def shape_dict(shape: Shape) -> dict[str, Any]:
    """Return one shape as JSON values, without its id, and a group without its members.

    Coordinates are rounded to hundredths of a pixel.

    >>> shape_dict(Text(0, 9.333, "a", key="t"))["y"]
    9.33
    """
    if isinstance(shape, Cells):
        return _cells_dict(shape)
    common = {"key": shape.key, "tooltip": shape.tooltip, **_links(shape.of, shape.lights)}
    if isinstance(shape, Group):
        return {"kind": "group", "data": dict(shape.data), **common}
    if isinstance(shape, Text):
        return {**_text_dict(shape), **common}
    if isinstance(shape, Line):
        return {**_line_dict(shape), **common}
    if isinstance(shape, Area):
        return {"kind": "area", "points": _rounded(shape.points), "state": shape.state, **common}
    return {**_rect_dict(shape), **common}


def _links(of: Thing | None, lights: Iterable[Thing]) -> dict[str, Any]:
    """Return what a shape stands for, and what lights up with it, each as ``[kind, name]``."""
    return {
        "of": None if of is None else list(of),
        "lights": [list(thing) for thing in lights],
    }


def _text_dict(shape: Text) -> dict[str, Any]:
    return {
        "kind": "text",
        "x": round(shape.x, 2),
        "y": round(shape.y, 2),
        "text": shape.text,
        "size": shape.size,
        "anchor": shape.anchor,
        "tone": shape.tone,
        "bold": shape.is_bold,
    }


def _line_dict(shape: Line) -> dict[str, Any]:
    return {
        "kind": "line",
        "points": _rounded(shape.points),
        "head": _rounded(shape.head),
        "tone": shape.tone,
        "state": shape.state,
        "thickness": shape.thickness,
        "dashed": shape.is_dashed,
    }


def _rect_dict(shape: Rect) -> dict[str, Any]:
    return {
        "kind": "rect",
        "x": round(shape.x, 2),
        "y": round(shape.y, 2),
        "width": round(shape.width, 2),
        "height": round(shape.height, 2),
        "state": shape.state,
        "label": shape.label,
        "labelSize": shape.label_size,
        "radius": shape.radius,
        "outline": shape.outline,
        "origin": shape.origin,
    }


def _cells_dict(shape: Cells) -> dict[str, Any]:
    """Return a grid as JSON values; its states are numbers into the list of those that occur."""
    names = states_in([shape])
    number = {name: index for index, name in enumerate(names)}
    return {
        "kind": "cells",
        "x": round(shape.x, 2),
        "y": round(shape.y, 2),
        "columns": shape.columns,
        "size": round(shape.size, 2),
        "gap": shape.gap,
        "names": list(names),
        "cells": [number[state] for state in shape.states],
        "of": shape.kind,
        "first": shape.first,
        "key": shape.key,
    }


def _rounded(points: Iterable[Point]) -> list[list[float]]:
    return [[round(x, 2), round(y, 2)] for x, y in points]
