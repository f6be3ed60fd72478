"""The course's notation for states and plans as a picture: the same symbols, one tile for each.

A line of text, such as ``free [5 4 | 3* 2*]  r0: 1* 6(2)`` or ``step 4  d1:1 A:4(12/19)  | C``, and
its picture can stand one under the other. How to read the text is told where it is written:
``kv_cache.watch.notation`` and ``scheduling.watch.notation``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeAlias

from course_lib.kv_cache.watch.notation import BlockMark, StateLine
from course_lib.scheduling.watch.notation import Grant, StepLine
from course_lib.viz.kit.layout import WIDE, bottom_of, legend, text_width
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, Rect, Shape, Text, Thing, states_in

_TILE, _GAP, _ROW = 34, 5, 44
_SLOT = 24  # pixels of a slot of contiguous memory
_MARGIN = 12

Line: TypeAlias = StateLine | StepLine | str
"""A state, a plan, or either of them as text; or slots, such as ``AAA..BB.``."""


@dataclass(frozen=True)
class _Symbol:
    """One symbol of a line: a tile if it has a state, else a word or a sign."""

    text: str
    state: str = ""
    tooltip: str = ""
    key: str = ""
    of: Thing | None = None
    origin: str = ""
    width: float = 0
    starts_part: bool = False

    @property
    def extent(self) -> float:
        """Pixels that it takes: its own width, or what its text needs."""
        text = text_width(self.text, SMALL_SIZE)
        return self.width or (max(1.05 * text + 14, _TILE) if self.state else max(text + 4, 10))


def notation_scene(lines: Sequence[Line], title: str = "", width: float = WIDE) -> Scene:
    """Draw lines of the notation, each one as tiles with its text below.

    Args:
        lines: States, plans, slots, or texts of them.
        title: What the picture is called; by default what it shows.
        width: ``WIDE`` or ``NARROW``; what is longer goes on in the next row.

    Raises:
        ValueError: There are no lines, or a text cannot be read; the message says where.

    >>> scene = notation_scene(["free [5 4 | 3* 2*]  r0: 1* 6(2)"])
    >>> [rect.label for rect in scene.rects()][:6], scene.alt
    (['5', '4', '3*', '2*', '1*', '6(2)'], 'free [5 4 | 3* 2*]  r0: 1* 6(2)')
    """
    if not lines:
        raise ValueError("there is nothing to draw; give at least one line")
    shapes: list[Shape] = []
    texts: list[str] = []
    top: float = _MARGIN
    for number, line in enumerate(map(parse, lines)):
        prefix = f"line {number}/" if len(lines) > 1 else ""
        drawn, bottom = strip(line, _MARGIN, top, width - 2 * _MARGIN, prefix)
        texts.append(line if isinstance(line, str) else str(line))
        shapes += drawn
        for row in _broken(texts[-1], width - 2 * _MARGIN):
            bottom += 22
            shapes.append(Text(_MARGIN, bottom, row, SMALL_SIZE, tone="muted"))
        top = bottom + 22
    used = states_in(shapes)
    shapes += legend(used, _MARGIN, top, width - 2 * _MARGIN, _NAMES)
    return Scene(
        width,
        bottom_of(shapes) + _MARGIN,
        tuple(shapes),
        title=title or "State in the notation of the course",
        alt="; ".join(texts),
    )


_NAMES = {"cached": "cached", "in_use": "held by one", "shared": "held by several"}
"""How a legend calls the blocks here; a block with a star that is held is cached as well."""


def parse(line: Line) -> Line:
    """Return what a text says: a plan if it begins with ``step``, slots, or a state.

    Raises:
        ValueError: It cannot be read.

    >>> parse("step 4  a:1  | c").waiting, parse("r0: 3 1").tables["r0"][0].block_id, parse("AA..")
    (('c',), 3, 'AA..')
    """
    if not isinstance(line, str):
        return line
    if re.fullmatch(r"[A-Z.]+", line.strip()):
        return line.strip()
    return StepLine.parse(line) if line.lstrip().startswith("step ") else StateLine.parse(line)


def strip(
    line: Line, x: float, y: float, width: float, prefix: str = ""
) -> tuple[tuple[Shape, ...], float]:
    """Return the tiles of a line, in as many rows as it needs, and where the last one ends.

    A block has the same key wherever it is, so in a film it travels from the queue to a table.

    Args:
        line: A state, a plan, or slots.
        x: Left edge.
        y: Upper edge.
        width: Where a row ends.
        prefix: Stands before the keys, where a scene has more than one strip.

    >>> shapes, bottom = strip(StateLine.parse("free [2]  r0: 1"), 0, 0, 300)
    >>> [shape.key for shape in shapes if isinstance(shape, Rect)], bottom
    (['block 2', 'block 1'], 34)
    """
    symbols = list(_symbols(line))
    shapes: list[Shape] = []
    left, top = x, y
    for symbol, following in zip(symbols, [*symbols[1:], None], strict=True):
        if symbol.starts_part and left > x:
            left += 16
        # A name or a bracket does not stand alone at the end of a row.
        needed = symbol.extent + (0 if symbol.state or not following else following.extent)
        if left > x and left + needed > x + width:
            left, top = x, top + _ROW
        shapes.append(_drawn(symbol, left, top, prefix))
        left += symbol.extent + (0 if symbol.width else _GAP)
    return tuple(shapes), top + _TILE


def _drawn(symbol: _Symbol, left: float, top: float, prefix: str) -> Shape:
    """Return a symbol as a tile or as text."""
    key = f"{prefix}{symbol.key}" if symbol.key else ""
    if not symbol.state:
        return Text(
            left + symbol.extent / 2,
            top + _TILE / 2 + 5,
            symbol.text,
            SMALL_SIZE,
            "middle",
            is_bold=bool(symbol.of),
            key=key,
            of=symbol.of,
        )
    origin = f"{prefix}{symbol.origin}" if symbol.origin else ""
    return Rect(
        left,
        top,
        symbol.extent,
        _TILE,
        symbol.state,
        symbol.text,
        symbol.tooltip,
        key,
        of=symbol.of,
        origin=origin,
    )


def _symbols(line: Line) -> Iterator[_Symbol]:
    if isinstance(line, StateLine):
        return _of_state(line)
    return _of_step(line) if isinstance(line, StepLine) else _of_slots(line)


def _of_state(line: StateLine) -> Iterator[_Symbol]:
    """Yield the free queue, then the table of each request."""
    if line.free is not None:
        yield _Symbol("free")
        yield _Symbol("[")
        num_front = len(line.free) - len(_cached_end(line.free))
        for place, mark in enumerate(line.free):
            if place == num_front > 0:
                yield _Symbol("|")
            yield _block(mark, "cached" if mark.is_cached else "free", "in the free queue")
        yield _Symbol("]")
    seen: set[int] = set()
    for name, table in line.tables.items():
        yield replace(_Symbol(f"{name}:", of=("request", name)), starts_part=True)
        for mark in table:
            state = "shared" if mark.num_holders > 1 else "in_use"
            symbol = _block(mark, state, f"in the table of {name}")
            if mark.block_id in seen:  # a key names one tile
                symbol = replace(symbol, key=f"{symbol.key} of {name}", origin=symbol.key)
            seen.add(mark.block_id)
            yield symbol


def _cached_end(free: Sequence[BlockMark]) -> Sequence[BlockMark]:
    """Return the cached blocks at the end of a free queue."""
    num_front = len(free)
    while num_front and free[num_front - 1].is_cached:
        num_front -= 1
    return free[num_front:]


def _block(mark: BlockMark, state: str, where: str) -> _Symbol:
    holders = f", held by {mark.num_holders}" if mark.num_holders > 1 else ""
    cached = ", holds a cached prefix" if mark.is_cached else ""
    return _Symbol(
        str(mark),
        state,
        f"block {mark.block_id} {where}{holders}{cached}",
        f"block {mark.block_id}",
        ("block", mark.block_id),
    )


def _of_step(line: StepLine) -> Iterator[_Symbol]:
    """Yield who is served, the bar, and who is not."""
    yield _Symbol(f"step {line.step}")
    for grant in line.grants:
        yield from _of_grant(grant)
    if not line.grants:
        yield _Symbol("-")
    yield _Symbol("|", starts_part=True)
    for names, state in ((line.swapped, "swapped"), (line.waiting, "waiting")):
        for name in names:
            is_victim = name in line.preempted
            text = f"{name}!" if is_victim else name
            yield _Symbol(
                f"({text})" if state == "swapped" else text,
                "preempted" if is_victim else state,
                f"{name} {'was preempted and ' if is_victim else ''}{_OUTSIDE[state]}",
                f"request {name}",
                ("request", name),
            )
    if not line.swapped and not line.waiting:
        yield _Symbol("-")


_OUTSIDE = {"swapped": "is swapped out", "waiting": "waits"}


def _of_grant(grant: Grant) -> Iterator[_Symbol]:
    """Yield what a request computes of its known tokens, and what it computes behind them."""
    is_decode = grant.progress is None and not grant.ends_prompt
    state = "decode" if is_decode else "prefill"
    known = str(replace(grant, num_ahead=0))
    key, of = f"request {grant.request_id}", ("request", grant.request_id)
    of_tokens = f"{grant.request_id} computes {grant.num_tokens} known tokens"
    if grant.progress:
        of_tokens += ", then {} of {} are computed".format(*grant.progress)
    yield _Symbol(known, state, of_tokens, key, of)
    if grant.num_ahead:
        text = f"{grant.request_id} computes {grant.num_ahead} positions behind them"
        yield _Symbol(f"+{grant.num_ahead}", "speculative", text, f"{key} ahead", of)


def _of_slots(slots: str) -> Iterator[_Symbol]:
    """Yield the runs of equal letters: blocks of contiguous memory, and the holes between them."""
    start = 0
    for letter, run in groupby(slots):
        length = len(list(run))
        is_hole = letter == "."
        where = f"slots {start} to {start + length - 1}"
        yield _Symbol(
            "" if is_hole else letter,
            "free" if is_hole else "in_use",
            f"{where}: {'free' if is_hole else f'allocated for {letter}'}",
            f"hole at {start}" if is_hole else f"block {letter}",
            None if is_hole else ("request", letter),
            width=length * _SLOT,
        )
        start += length


def _broken(text: str, width: float) -> list[str]:
    """Return a line of text in rows that fit; it is broken between words, with its spaces kept."""
    rows = [""]
    for word in re.findall(r"\s*\S+", text):
        if rows[-1] and text_width(rows[-1] + word, SMALL_SIZE) > width:
            rows.append(word.strip())
        else:
            rows[-1] += word
    return rows
