"""Films as changes from one picture to the next, so that thousands of steps are a small message.

A film is cut into chunks of ``CHUNK`` pictures. A chunk is deflated JSON::

    {"states":   looks of the states that occur in it,
     "wide":     [change, change, ...],     one for each picture
     "narrow":   [change, change, ...],     the same for the narrow form; null without one
     "captions": [...],
     "events":   [...]}

A change is made to the picture before; the first one of a chunk is made to an empty picture::

    {"head":  width, height, title and alt, as far as they changed,
     "set":   {id: attributes that changed, or all of them for a new shape},
     "drop":  [ids of the shapes that are gone],
     "order": [position, how many ids are taken out there, [ids that come instead]]}

What did not change is left out. A group stands beside its members and has their ids (``members``).
Attributes with a ``kind`` are those of a new shape. ``cellsAt`` lists positions and values in turn:
a few cells of a grid that changed. ``js/reel.js`` reads all this.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from course_lib.viz.kit.palette import PALETTE
from course_lib.viz.kit.scene import Scene, identified, looks, shape_dict
from course_lib.viz.kit.shapes import Group, Shape, Text

CHUNK = 100
"""Pictures in a chunk: few enough to be unpacked in 10 ms. ``reel.js`` has the same number."""

_FEW = 8
"""A grid is sent whole when more than one cell in so many changed."""

Change = dict[str, Any]


class FormEncoder:
    """Turns the pictures of one form into changes, each to the picture before.

    Shapes are compared by identity first, so a builder that hands out the same object for what did
    not change makes this cheap.

    >>> encoder = FormEncoder()
    >>> def picture(x):
    ...     return Scene(90, 20, (Text(x, 9, "a", key="a"), Text(0, 9, "b")), "A title", "Words")
    >>> sorted(encoder.change(picture(1))["set"])
    ['a', 'text:0']
    >>> encoder.change(picture(2)), encoder.change(picture(2))
    ({'set': {'a': {'x': 2}}}, {})
    """

    def __init__(self) -> None:
        self._shapes: dict[str, Shape] = {}
        self._values: dict[str, dict[str, Any]] = {}
        self._order: list[str] = []
        self._head: dict[str, Any] = {}

    def change(self, scene: Scene) -> Change:
        """Return what makes the picture before into this one."""
        found: dict[str, Shape] = {}
        order = _collect(scene.shapes, "", found)
        gone = [shape_id for shape_id in self._shapes if shape_id not in found]
        head = {
            "width": scene.width,
            "height": scene.height,
            "title": scene.title,
            "alt": scene.alt,
        }
        change = {
            "head": _changed(self._head, head),
            "set": dict(self._changed_shapes(found)),
            "drop": gone,
            "order": _splice(self._order, order),
        }
        for shape_id in gone:
            del self._values[shape_id]
        self._shapes, self._order, self._head = found, order, head
        return {name: part for name, part in change.items() if part}

    def whole(self) -> Change:
        """Return what makes an empty picture into the newest one."""
        return {"head": self._head, "set": dict(self._values), "order": [0, 0, self._order]}

    def is_quiet(self, change: Change) -> bool:
        """Say whether nothing happens in the newest change, for somebody who watches a film.

        Words without a key, such as the number of a step, may change all the same.
        """
        if "drop" in change or "order" in change:
            return False
        changed = (self._shapes[shape_id] for shape_id in change.get("set", ()))
        return all(isinstance(shape, Text) and not shape.key for shape in changed)

    def _changed_shapes(self, found: Mapping[str, Shape]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the attributes that changed, by id, and take note of them."""
        for shape_id, shape in found.items():
            if self._shapes.get(shape_id) == shape:
                continue
            values = shape_dict(shape)
            if isinstance(shape, Group):
                values["members"] = [name for name, _ in identified(shape.shapes, shape_id)]
            before = self._values.get(shape_id, {})
            self._values[shape_id] = values
            if before.get("kind") != values["kind"]:
                yield shape_id, values
            elif changed := _changed(before, values):
                yield shape_id, _with_few_cells(before, changed)


class FilmEncoder:
    """Cuts a film into chunks, as its pictures come.

    Args:
        has_narrow: Whether every picture comes in a narrow form too.

    Attributes:
        count: Pictures so far.
        marks: Position and name of every event.

    >>> encoder = FilmEncoder(has_narrow=False)
    >>> for number in range(300):
    ...     encoder.add(Scene(9, 9, (), "A title", "Words"), None, f"step {number}", "")
    >>> [read_chunk(chunk)["captions"][0] for chunk in encoder.chunks()], encoder.runs
    (['step 0', 'step 100', 'step 200'], [[1, 299]])
    """

    def __init__(self, has_narrow: bool) -> None:
        self.count = 0
        self.marks: list[list[Any]] = []
        self._quiet: list[list[int]] = []
        self._full: list[bytes] = []
        self._open = _empty_chunk(has_narrow)
        self._wide = FormEncoder()
        self._narrow = FormEncoder() if has_narrow else None

    def add(self, wide: Scene, narrow: Scene | None, caption: str, event: str) -> None:
        """Add a picture.

        Args:
            wide: The picture.
            narrow: Its narrow form; None if the film has none.
            caption: What has just happened.
            event: A few words, if it is something that a reader looks for; else empty.

        Raises:
            ValueError: There is a narrow form, and others have none, or the other way round.
        """
        if (narrow is None) != (self._narrow is None):
            raise ValueError(
                f"frame {self.count} has {'no' if narrow is None else 'a'} narrow form, unlike "
                "the frames before; give one to every frame or to none"
            )
        if len(self._open["captions"]) == CHUNK:
            self._full.append(_packed(self._open))
            self._open = _empty_chunk(narrow is not None)
        is_first = not self._open["captions"]
        change = self._wide.change(wide)
        self._take_note(change, event)
        self._open["wide"].append(self._wide.whole() if is_first else change)
        if narrow is not None and self._narrow is not None:
            change = self._narrow.change(narrow)
            self._open["narrow"].append(self._narrow.whole() if is_first else change)
        self._open["captions"].append(caption)
        self._open["events"].append(event)
        self.count += 1

    @property
    def runs(self) -> list[list[int]]:
        """First position and length of every stretch of pictures in which nothing happens."""
        return [[first, length] for first, length in self._quiet if length > 1]

    def chunks(self) -> list[bytes]:
        """Return the chunks so far. The last one may be short, and grows with the film."""
        return [*self._full, *([_packed(self._open)] if self._open["captions"] else [])]

    def _take_note(self, change: Change, event: str) -> None:
        """Keep whether something happens in the newest picture."""
        if event:
            self.marks.append([self.count, event])
        elif self.count and self._wide.is_quiet(change):
            if self._quiet and sum(self._quiet[-1]) == self.count:
                self._quiet[-1][1] += 1
            else:
                self._quiet.append([self.count, 1])


def read_chunk(chunk: bytes) -> dict[str, Any]:
    """Return what stands in a chunk, as the head of this file describes it."""
    values: dict[str, Any] = json.loads(zlib.decompress(chunk))
    return values


def _empty_chunk(has_narrow: bool) -> dict[str, Any]:
    narrow: list[Change] | None = [] if has_narrow else None
    return {"wide": [], "narrow": narrow, "captions": [], "events": []}


def _packed(chunk: Mapping[str, Any]) -> bytes:
    """Return a chunk as deflated JSON, with the looks of its states."""
    states: set[str] = set()
    for change in [*chunk["wide"], *(chunk["narrow"] or ())]:
        for values in change.get("set", {}).values():
            states.add(values.get("state", ""))
            states.update(values.get("names", ()))
    known = looks(key for key in PALETTE if key in states)
    return zlib.compress(json.dumps({"states": known, **chunk}, separators=(",", ":")).encode())


def _collect(shapes: Iterable[Shape], parent: str, found: dict[str, Shape]) -> list[str]:
    """Put shapes, and those in groups, under their ids; return the ids of the former."""
    ids = []
    for shape_id, shape in identified(shapes, parent):
        ids.append(shape_id)
        found[shape_id] = shape
        if isinstance(shape, Group):
            _collect(shape.shapes, shape_id, found)
    return ids


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in after.items() if before.get(name) != value}


def _with_few_cells(before: Mapping[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """Put the cells that changed in the place of all cells of a grid, if that is shorter."""
    cells = changed.get("cells")
    if cells is None or "names" in changed or len(before["cells"]) != len(cells):
        return changed
    differing = [n for n, cell in enumerate(cells) if cell != before["cells"][n]]
    if len(differing) * _FEW > len(cells):
        return changed
    rest = {name: value for name, value in changed.items() if name != "cells"}
    return {**rest, "cellsAt": [value for n in differing for value in (n, cells[n])]}


def _splice(before: list[str], after: list[str]) -> list[Any]:
    """Return the one stretch that differs: where it begins, its length, and what stands there now.

    >>> _splice(["a", "b", "c"], ["a", "x", "y", "c"]), _splice(["a"], ["a"])
    ([1, 1, ['x', 'y']], [])
    """
    if before == after:
        return []
    shorter = min(len(before), len(after))
    start = next((n for n in range(shorter) if before[n] != after[n]), shorter)
    tail = next(
        (n for n in range(shorter - start) if before[-1 - n] != after[-1 - n]), shorter - start
    )
    return [start, len(before) - start - tail, after[start : len(after) - tail]]
