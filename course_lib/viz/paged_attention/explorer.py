"""Lesson 2's second figure: which changes of the way change the answer, and which do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from course_lib.attention.example import (
    BLOCK_SIZE,
    BLOCK_TABLE,
    SCORES,
    STALE_OFFSET,
    VALUES,
    Functions,
    Merge,
    OwnPartError,
    Partial,
    dense_answer,
    short,
    shown,
)
from course_lib.viz.kit.controls import Choice
from course_lib.viz.kit.explorer import Explorer
from course_lib.viz.kit.layout import WIDE, bottom_of, fitting, legend
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import (
    HEADING_SIZE,
    SMALL_SIZE,
    TEXT_SIZE,
    Line,
    Rect,
    Shape,
    Text,
    Thing,
    Tone,
    states_in,
)
from course_lib.viz.paged_attention.board import slot_box
from course_lib.viz.paged_attention.page import MARGIN, bar_width, paragraphs, visible
from course_lib.viz.paged_attention.routes import (
    AS_THEY_ARE,
    MEAN,
    ORDERS,
    RESCALED,
    Route,
    Visit,
    is_right,
    spread,
)
from course_lib.viz.paged_attention.words import gap_text, trouble_scene

_TITLE = "Other ways through the blocks"
_STALE = {"0": 0.0, "1000": 1000.0, "NaN": math.nan}
_CELL, _BAR, _MOST = 30, 18, 120.0
_NAMES = {"used": "token of the request", "series-3": "output so far"}


def attention_explorer(
    partial_attention: Partial | None = None, merge_states: Merge | None = None
) -> Explorer:
    """Return a figure in which the reader changes the way through the blocks.

    The order of the blocks, how their states are merged, what the stale slot of the last block
    holds, and whether it is read: the answer stands beside that of dense attention. All pictures
    are made when the figure is, so it needs no kernel.

    Args:
        partial_attention: Makes the state of the query over a block; the library's if None.
        merge_states: Makes the state over both of two; the library's if None.

    >>> figure = attention_explorer()
    >>> figure.set(merging="as they are")
    >>> figure.scene.alt.partition(". ")[0]
    'Blocks 7, 3, 5 in this order give 45.806; dense attention gives 94.171'
    """
    functions = Functions.of(partial_attention, merge_states)
    orders = {" ".join(str(BLOCK_TABLE[each]) for each in order): order for order in ORDERS}
    figure = Explorer(
        partial(_example_scene, functions),
        {
            "order": Choice("Order", {name: name for name in orders}, "7 3 5"),
            "merging": Choice(
                "Sums are",
                {
                    "rescaled to the larger m": RESCALED,
                    "added as they are": AS_THEY_ARE,
                    "dropped: mean of outputs": MEAN,
                },
                RESCALED,
            ),
            "stale": Choice("Stale slot holds", {name: name for name in _STALE}, "NaN"),
            "masked": Choice(
                "Stale slot is",
                {"not read": False, "read, its score masked": True},
                False,
            ),
        },
        precompute=True,
    )

    def choose(thing: Thing) -> None:
        kind, name = thing
        if kind == "order":
            figure.set(order=name)

    figure.on_pick(choose)
    return figure


def _example_scene(
    functions: Functions,
    order: str,
    merging: str,
    stale: str,
    masked: bool,
    width: float = WIDE,
) -> Scene:
    """Draw ``route_scene`` for what the controls say; in place of it, what went wrong."""
    logical = tuple(BLOCK_TABLE.index(int(block_id)) for block_id in order.split())
    route = Route(logical, merging, _STALE[stale], is_masked=masked)
    try:
        return route_scene(route, functions, width)
    except OwnPartError as error:
        return trouble_scene(_TITLE, str(error), width)


def route_scene(route: Route, functions: Functions, width: float = WIDE) -> Scene:
    """Draw one way through the blocks: what each of them adds, and the answer.

    Args:
        route: The way.
        functions: What makes the states.
        width: Width of the picture, in pixels: ``WIDE`` or ``NARROW``.

    Raises:
        OwnPartError: One of the functions failed.

    >>> route = Route((2, 0, 1), RESCALED, math.nan, is_masked=True)
    >>> "0 × NaN is NaN" in route_scene(route, Functions.of(None, None)).alt
    True
    """
    visits = route.visits(functions)
    answers = [replace(route, order=order).answer(functions) for order in ORDERS]
    answer, right = visits[-1].output, dense_answer()
    says = f"{shown(answer)}; dense attention gives {shown(right)}"
    size = HEADING_SIZE if width >= WIDE else TEXT_SIZE
    title = fitting(width - MARGIN, f"Blocks {route.blocks} in this order give {says}", size=size)
    shapes: list[Shape] = [
        Text(MARGIN, 32, title or f"{route.blocks}: {says}", size, is_bold=True),
        *_slots(route, width),
    ]
    shapes += _visits(visits, width, bottom_of(shapes) + 30)
    shapes += _orders(route, answers, width, bottom_of(shapes) + 34)
    lines = _verdict(route, answer, answers)
    shapes += paragraphs(lines, bottom_of(shapes) + 14, width)
    shapes += legend(states_in(shapes), MARGIN, bottom_of(shapes) + 20, width - 2 * MARGIN, _NAMES)
    alt = f"Blocks {route.blocks} in this order give {says}. {' '.join(lines)}"
    return Scene(width, bottom_of(shapes) + 14, tuple(shapes), title=_TITLE, alt=alt)


def _slots(route: Route, width: float) -> list[Shape]:
    """Draw scores and values of the blocks, in the order of the visits."""
    names = width >= WIDE
    left = 120 if names else 86
    gap = 12
    block = (width - MARGIN - left + gap) / len(BLOCK_TABLE) - gap
    shapes: list[Shape] = [
        Text(MARGIN, top + 20, name, SMALL_SIZE, is_bold=True)
        for name, top in (("block", 50), ("score", 80), ("value", 80 + _CELL))
    ]
    for place, logical in enumerate(route.order):
        x = left + place * (block + gap)
        name = f"block {BLOCK_TABLE[logical]}, logical {logical}"
        shapes.append(
            Text(
                x + block / 2,
                70,
                fitting(block, name, f"block {BLOCK_TABLE[logical]}"),
                SMALL_SIZE,
                "middle",
                key=f"name-{logical}",
                of=("block", BLOCK_TABLE[logical]),
            )
        )
        cell = block / BLOCK_SIZE
        for offset in range(BLOCK_SIZE):
            score, value = _held(route, logical, offset)
            for row, label in enumerate((score, value)):
                place_of = (x + offset * cell, 80 + row * _CELL, cell, _CELL)
                label = fitting(cell + 10, label, label.replace("1000", "1e3"))
                shapes.append(slot_box(logical, offset, place_of, f"row-{row}", label))
    return shapes


def _held(route: Route, logical: int, offset: int) -> tuple[str, str]:
    """Return what the score of a slot is, and what its value."""
    if offset < len(SCORES[logical]):
        return str(SCORES[logical][offset]), str(VALUES[logical])
    value = "NaN" if math.isnan(route.stale_value) else f"{route.stale_value:g}"
    return ("−∞" if route.is_masked else ""), value


def _visits(visits: Sequence[Visit], width: float, top: float) -> list[Shape]:
    """Draw a row for each visit: the block's numbers, the numbers so far, and the output."""
    is_wide = width >= WIDE
    columns = (
        (("block alone: m", 96), ("l", 76), ("acc", 84), ("so far: m", 90), ("l", 76), ("acc", 84))
        if is_wide
        else (("so far: m", 90), ("l", 74), ("acc", 84))
    )
    left = 120 if is_wide else 86
    edges = []
    x: float = left
    for _, column in columns:
        x += column
        edges.append(x)
    start = edges[-1] + 26
    end = width - MARGIN - 72
    shapes: list[Shape] = [
        Text(edge, top, title, SMALL_SIZE, "end", "muted")
        for (title, _), edge in zip(columns, edges, strict=True)
    ]
    shapes.append(Text(start, top, "output so far", SMALL_SIZE, tone="muted"))
    for place, visit in enumerate(visits):
        y = top + 14 + place * 36
        shapes += _numbers(visit, edges, y, is_wide)
        is_wrong = place == len(visits) - 1 and not is_right(visit.output)
        shapes += _output(visit, start, end, y, "alert" if is_wrong else "text")
    at = start + bar_width(dense_answer(), _MOST, end - start)
    bottom = top + 14 + len(visits) * 36
    shapes += [
        Line(((at, top + 10), (at, bottom)), is_dashed=True, key="dense"),
        Text(at, bottom + 16, f"dense {shown(dense_answer())}", SMALL_SIZE, "middle"),
    ]
    return shapes


def _numbers(visit: Visit, edges: Sequence[float], y: float, is_wide: bool) -> list[Shape]:
    """Write the numbers of one visit."""
    block_id = BLOCK_TABLE[visit.logical]
    m, total, acc = visit.block.values()
    texts = [short(m), shown(total), shown(acc)] if is_wide else []
    if visit.together is None:
        texts += ["–", "–", "–"]
    else:
        m, total, acc = visit.together.values()
        texts += [short(m), shown(total), shown(acc)]
    key = f"visit-{visit.logical}"
    name = Text(
        MARGIN,
        y + 18,
        f"block {block_id}",
        SMALL_SIZE,
        is_bold=True,
        key=key,
        of=("block", block_id),
    )
    return [
        name,
        *(
            Text(edge, y + 18, text, SMALL_SIZE, "end", "alert" if text == "NaN" else "text")
            for edge, text in zip(edges, texts, strict=True)
        ),
    ]


def _output(visit: Visit, start: float, end: float, y: float, tone: Tone) -> list[Shape]:
    """Draw the output after one visit as a bar."""
    length = bar_width(visit.output, _MOST, end - start)
    shapes: list[Shape] = [
        Rect(
            start,
            y + 4,
            length,
            _BAR,
            "series-3",
            tooltip=f"output {shown(visit.output)}",
            key=f"output-{visit.logical}",
            of=("block", BLOCK_TABLE[visit.logical]),
        )
    ]
    x = end + 8 if math.isfinite(visit.output) else start
    return [*visible(shapes), Text(x, y + 18, shown(visit.output), SMALL_SIZE, tone=tone)]


def _orders(route: Route, answers: Sequence[float], width: float, top: float) -> list[Shape]:
    """Draw the answers of all six orders."""
    shapes: list[Shape] = [Text(MARGIN, top, "All six orders", SMALL_SIZE, is_bold=True)]
    gap = 10
    box = (width - 2 * MARGIN + gap) / len(ORDERS) - gap
    for place, (order, answer) in enumerate(zip(ORDERS, answers, strict=True)):
        name = " ".join(str(BLOCK_TABLE[logical]) for logical in order)
        x = MARGIN + place * (box + gap)
        is_chosen = order == route.order
        is_fine = is_right(answer)
        shapes += [
            Rect(
                x,
                top + 12,
                box,
                52,
                tooltip=f"order {name}: {shown(answer)}",
                key=f"order-{name}",
                outline="bold" if is_chosen else "thin",
                of=("order", name),
            ),
            Text(x + box / 2, top + 33, name, SMALL_SIZE, "middle", is_bold=is_chosen),
            Text(
                x + box / 2,
                top + 54,
                shown(answer),
                SMALL_SIZE,
                "middle",
                "text" if is_fine else "alert",
            ),
        ]
    return shapes


def _verdict(route: Route, answer: float, answers: Sequence[float]) -> list[str]:
    """Say in sentences what the changes do to the answer."""
    right = dense_answer()
    gap = gap_text(abs(answer - right))
    lines = [f"{_of_orders(answers)} The difference to dense attention is {gap}."]
    if route.merging == AS_THEY_ARE:
        says = "Sums that are relative to different maxima were added as they are: the blocks' "
        says += "weights are wrong"
        lines.append(f"{says}, and nothing says so." if math.isfinite(answer) else f"{says}, too.")
    elif route.merging == MEAN:
        lines.append(
            "The mean of the outputs gives every block the same weight, whatever its scores are."
        )
    lines.append(_of_stale(route, answer))
    return lines


def _of_orders(answers: Sequence[float]) -> str:
    """Say by how much the answers of the six orders differ."""
    gap = spread(answers)
    agreed = "" if is_right(answers[0]) else " That they agree proves nothing."
    if math.isnan(gap):
        return (
            "In every order the answer is NaN."
            if all(map(math.isnan, answers))
            else ("In some orders the answer is NaN.")
        )
    if gap == 0:
        return f"All six orders give {shown(answers[0])}, to the last bit.{agreed}"
    if gap < 0.0005:
        says = f"All six orders give {shown(answers[0])}; they differ by {gap_text(gap)}."
        return f"{says}{agreed}"
    return f"The six orders give answers that differ by up to {shown(gap)}."


def _of_stale(route: Route, answer: float) -> str:
    """Say what the stale slot does."""
    holds = "NaN" if math.isnan(route.stale_value) else f"{route.stale_value:g}"
    slot = f"Slot {STALE_OFFSET} of block {BLOCK_TABLE[-1]} is behind the context"
    if not route.is_masked:
        return f"{slot} and is not read, so it does not matter that it holds {holds}."
    if math.isnan(route.stale_value):
        return (
            f"{slot} and is read with its score masked: its weight is 0, but 0 × NaN is NaN. "
            "Cut the values off at the context instead."
        )
    return (
        f"{slot} and is read with its score masked: its weight is 0, and 0 × {holds} is 0. "
        "Nobody notices the mistake until the slot holds NaN or infinity."
    )
