"""Figures on pages that have neither a kernel nor a network: all that they need is in the page."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

from course_lib.viz.kit import bundle

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ font-family: system-ui, "DejaVu Sans", sans-serif; margin: 16px auto; max-width: 1100px; }}
img {{ height: auto; max-width: 100%; }}
pre {{ background: color-mix(in srgb, currentColor 8%, transparent); padding: 8px 12px; }}
pre {{ white-space: pre-wrap; }}
summary {{ cursor: pointer; }}
.document {{ padding: 0 12px; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; }}
td, th {{ border-bottom: 1px solid color-mix(in srgb, currentColor 30%, transparent); }}
td, th {{ padding: 3px 10px; text-align: left; }}
td {{ font-variant-numeric: tabular-nums; }}
th[scope="row"] {{ font-weight: normal; }}
</style>
</head>
<body>
<main>
{figure}
</main>
{scripts}
</body>
</html>
"""

_OF_THE_WIDGET_MANAGER = ("layout", "tabbable", "tooltip")


@dataclass(frozen=True)
class FrontEnd:
    """What draws a widget in the browser: one module, and its style sheet."""

    esm: str
    css: str


def image_html(png: bytes, alt: str) -> str:
    """Return a picture with its description, as HTML.

    >>> image_html(b"", 'Blocks "in use"')
    '<img alt="Blocks &quot;in use&quot;" src="data:image/png;base64,">'
    """
    encoded = b64encode(png).decode("ascii")
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{encoded}">'


def front_end_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return those traits of a widget that its own front end reads.

    >>> front_end_state({"index": 3, "layout": "IPY_MODEL_1", "_esm": "export default {}"})
    {'index': 3}
    """
    return {
        name: value
        for name, value in state.items()
        if not name.startswith("_") and name not in _OF_THE_WIDGET_MANAGER
    }


def widget_html(state: Mapping[str, Any], front_end: int, fallback: str) -> str:
    """Return the place of one widget in a page.

    Args:
        state: The widget's traits: JSON values, and bytes.
        front_end: Which one of the page's front ends draws it.
        fallback: HTML for readers without scripts.
    """
    widget = {
        "esm": f"scene-esm-{front_end}",
        "css": f"scene-css-{front_end}",
        "state": _with_marked_bytes(front_end_state(state)),
    }
    # Nothing in a text may look like the end of the element that holds it.
    data = json.dumps(widget, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<div class="scene-standalone">{fallback}'
        f'<script type="application/json">{data}</script></div>'
    )


def scripts_html(front_ends: Iterable[FrontEnd]) -> str:
    """Return what runs the widgets of a page, to be put behind the last of them.

    Args:
        front_ends: In the order of the numbers that ``widget_html`` was given.
    """
    kept = [
        f'<script type="text/plain" id="scene-esm-{number}">{_unclosed(front_end.esm)}</script>\n'
        f'<script type="text/plain" id="scene-css-{number}">{_unclosed(front_end.css)}</script>'
        for number, front_end in enumerate(front_ends)
    ]
    run = f'<script type="module">{_unclosed(bundle.script("standalone.js"))}</script>'
    return "\n".join([*kept, run])


def page_html(title: str, widget: str, front_end: FrontEnd) -> str:
    """Return a page that shows one widget without a kernel and without a network.

    Args:
        title: Name of the page.
        widget: What ``widget_html`` returned for front end 0.
        front_end: What draws the widget.
    """
    return _PAGE.format(title=escape(title), figure=widget, scripts=scripts_html([front_end]))


class Drawn(Protocol):
    """What a document can have between its texts: a figure, such as ``Picture``."""

    def to_widget(self, front_end: int) -> str:
        """Return its place in a page, as ``widget_html`` does."""

    @property
    def front_end(self) -> FrontEnd:
        """What draws it."""


def document_html(title: str, body: Sequence[str | Drawn]) -> str:
    """Return a page of texts and figures, which needs neither a kernel nor a network.

    Args:
        title: Name of the page.
        body: HTML, and figures between it.
    """
    front_ends: list[FrontEnd] = []
    pieces: list[str] = []
    for piece in body:
        if isinstance(piece, str):
            pieces.append(piece)
            continue
        if piece.front_end not in front_ends:
            front_ends.append(piece.front_end)
        pieces.append(piece.to_widget(front_ends.index(piece.front_end)))
    document = "\n".join(['<div class="document">', *pieces, "</div>"])
    return _PAGE.format(title=escape(title), figure=document, scripts=scripts_html(front_ends))


def _with_marked_bytes(value: Any) -> Any:
    """Return a value as JSON has it, with bytes as ``standalone.js`` reads them."""
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": b64encode(value).decode("ascii")}
    if isinstance(value, Mapping):
        return {name: _with_marked_bytes(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_marked_bytes(each) for each in value]
    return value


def _unclosed(source: str) -> str:
    """Return JavaScript or CSS without what would end the element that holds it."""
    return source.replace("</script", "<\\/script").replace("<!--", "<\\!--")
