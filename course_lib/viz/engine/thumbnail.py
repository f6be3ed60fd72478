"""A small copy of the engine map, as plain SVG: which box was just won, and which were before."""

from __future__ import annotations

import html
from collections.abc import Iterable

from course_lib.parts import PartStatus
from course_lib.viz.engine.nodes import NODES
from course_lib.viz.kit.palette import state_of

_COLUMN, _ROW, _WIDTH, _HEIGHT = 46, 20, 40, 14
_CAPTION = 18
"""Height of the line below the boxes, which names the lit one."""


def engine_thumbnail(won: str, statuses: Iterable[PartStatus]) -> str:
    """Return the map with one box lit and named, and how far it is; other begun boxes are filled.

    Args:
        won: The part that was just won.
        statuses: The state of each part.

    Raises:
        KeyError: There is no such part among them.

    >>> svg = engine_thumbnail("BlockPool", [PartStatus("BlockPool", 7, "block_pool", "yours", "")])
    >>> svg.count("<rect"), "Block pool" in svg
    (17, True)
    >>> svg.rpartition("</text>")[0].rpartition(">")[2]
    'Block pool: 1 of 1 yours'
    """
    rows = list(statuses)
    lit = {row.name: row.node for row in rows}[won]
    in_box = [row for row in rows if row.node == lit]
    count = sum(row.state == "yours" or row.name == won for row in in_box)
    own = {row.node for row in rows if row.state == "yours"}
    colour = state_of("yours").colour
    boxes = []
    for key, node in NODES.items():
        x, y = 3 + node.column * _COLUMN, 3 + node.row * _ROW
        fill = colour if key in own or key == lit else "none"
        edge = 'stroke-width="3"' if key == lit else 'stroke-width="1" stroke-opacity=".5"'
        faded = "" if key == lit else ' fill-opacity=".45"'
        boxes.append(
            f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="3" '
            f'fill="{fill}"{faded} stroke="currentColor" {edge}>'
            f"<title>{html.escape(node.title)}</title></rect>"
        )
    caption = html.escape(f"{NODES[lit].title}: {count} of {len(in_box)} yours")
    width = 6 + _COLUMN * (1 + max(node.column for node in NODES.values()))
    height = 6 + _ROW * (1 + max(node.row for node in NODES.values()))
    height += _CAPTION
    text = f'<text x="{width / 2}" y="{height - 6}" text-anchor="middle" font-size="13"'
    return (
        f'<svg class="course-engine-thumbnail" role="img" aria-label="Map of the engine: {caption}"'
        f' width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'{"".join(boxes)}{text} fill="currentColor">{caption}</text></svg>'
    )
