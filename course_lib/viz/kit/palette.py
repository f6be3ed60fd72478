"""One colour and one hatch for every state that a figure of the course can show.

The colours are those of Okabe and Ito (2008), which stay apart under the common kinds of colour
blindness, and greys of clearly different lightness. Hatches tell the states apart in black and
white. A state looks the same in every lesson: blue holds tokens in a drawing of memory as in a
grid of blocks, and a request that runs is blue because it holds blocks.

Series and heats are states too. What they stand for is the chart's to say, in its legend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Hatch = Literal["", "/", "\\", "x", ".", "-"]
Marker = Literal["circle", "square", "triangle", "diamond", "cross", "plus"]

DARK_INK = "#101010"
LIGHT_INK = "#FFFFFF"


def relative_luminance(colour: str) -> float:
    """Return the luminance of an ``#RRGGBB`` colour, from 0 (black) to 1 (white), as in WCAG 2.

    >>> relative_luminance("#FFFFFF")
    1.0
    """
    channels = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast_ratio(first: str, second: str) -> float:
    """Return the contrast of two colours, from 1 (none) to 21 (black on white), as in WCAG 2.

    >>> contrast_ratio("#000000", "#FFFFFF")
    21.0
    """
    darker, lighter = sorted((relative_luminance(first), relative_luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


@dataclass(frozen=True)
class State:
    """How one state looks.

    Attributes:
        key: The name that scenes use.
        label: What the legend says.
        colour: Fill, ``#RRGGBB``.
        hatch: Lines over the fill, in matplotlib's notation; empty for none.
        is_paper: Whether the fill stands for empty space. On a dark page the browser then takes the
            page's own tone, so that emptiness does not glare.
        dash: Lengths of strokes and gaps in pixels for a line in this state; empty for a solid one.
        marker: What stands at the points of such a line.
    """

    key: str
    label: str
    colour: str
    hatch: Hatch = ""
    is_paper: bool = False
    dash: tuple[float, ...] = ()
    marker: Marker = "circle"

    @property
    def ink(self) -> str:
        """The colour of text on the fill: the one of black and white that is easier to read."""
        return max((DARK_INK, LIGHT_INK), key=lambda ink: contrast_ratio(ink, self.colour))


_EMPTY, _PALE, _MIST, _SILVER = "#F4F4F4", "#DCDCDC", "#CDCDCD", "#BEBEBE"
_GREY, _CHARCOAL, _BROWN = "#8C8C8C", "#4A4A4A", "#5E4526"
_ORANGE, _SKY, _GREEN, _YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
_BLUE, _VERMILLION, _PURPLE = "#0072B2", "#D55E00", "#CC79A7"
_CIVIDIS_FROM_LIGHT_TO_DARK = (
    "#FEE535",
    "#DCC859",
    "#BBAD6D",
    "#9C9576",
    "#7E7D78",
    "#646770",
    "#48526C",
    "#243C6E",
    "#002859",
)

POOL_STATES = (
    State("null", "null block", _CHARCOAL, "x"),
    State("in_use", "in use", _BLUE),
    State("shared", "shared", _GREEN, "x"),
    State("cached", "free, still cached", _SKY, "/"),
    State("copied", "copied just now", _YELLOW, "x"),
    State("swapped", "swapped to CPU", _PURPLE, "\\"),
    State("free", "free", _EMPTY, is_paper=True),
)
"""What a block of the KV cache can be."""

MEMORY_ROLES = (
    State("weights", "weights", _CHARCOAL),
    State("activations", "activations", _GREY, "."),
    State("used", "holds tokens", _BLUE),
    State("empty", "reserved, empty", _MIST),
    State("reserved", "reserved for later", _YELLOW, "/"),
    State("internal", "internal fragmentation", _ORANGE, "\\"),
    State("external", "external fragmentation", _SILVER, "x"),
    State("stale", "stale, left by others", _BROWN, "-"),
    State("headroom", "kept out of the engine", _PALE, "-", is_paper=True),
    State("overflow", "does not fit", _VERMILLION, "x"),
)
"""What a stretch of GPU memory can be for."""

PART_STATES = (
    State("reference", "reference", _EMPTY, is_paper=True),
    State("yours", "yours", _GREEN),
    State("broken", "broken", _VERMILLION, "/"),
)
"""Whose code a part of the engine is."""

REQUEST_STATES = (
    State("waiting", "waiting", _SILVER, "."),
    State("prefill", "prefill", _ORANGE),
    State("decode", "decode", _GREEN),
    State("speculative", "speculative", _YELLOW, "."),
    State("running", "running", _BLUE),
    State("preempted", "preempted", _VERMILLION, "-"),
    State("finished", "finished", _CHARCOAL, "."),
    State("idle", "idle", _PALE, "\\", is_paper=True),
)
"""What a request is in, or what is computed for it; ``swapped`` is among the blocks' states."""

SERIES = (
    State("series-1", "series 1", _BLUE, "", dash=(), marker="circle"),
    State("series-2", "series 2", "#D67E32", "/", dash=(9, 5), marker="square"),
    State("series-3", "series 3", "#339F90", "x", dash=(2, 4), marker="triangle"),
    State("series-4", "series 4", "#DF1B76", "\\", dash=(14, 4, 2, 4), marker="diamond"),
    State("series-5", "series 5", "#3998EF", ".", dash=(5, 3), marker="cross"),
    State("series-6", "series 6", "#836601", "-", dash=(9, 4, 2, 4, 2, 4), marker="plus"),
)
"""Six curves, bars or layers of one chart, such as six policies; the chart's legend names them.

The colours were chosen by search: all pairs stay apart for everybody, and each can be seen on a
white and on a dark page.
"""

HEATS = tuple(
    State(f"heat-{rank}", f"heat {rank}", colour)
    for rank, colour in enumerate(_CIVIDIS_FROM_LIGHT_TO_DARK, 1)
)
"""Nine steps from little to much for a heat map.

Samples of cividis (Nunez, Anderton and Renslow, 2018) at equal distances, light first. Their
lightness falls evenly, so the order is the same in grey and under colour blindness.
"""

PALETTE = {
    state.key: state
    for state in (*MEMORY_ROLES, *POOL_STATES, *REQUEST_STATES, *PART_STATES, *SERIES, *HEATS)
}
"""Every state by key, in the order in which legends list them."""

TONES = {
    "text": "#1A1A1A",
    "muted": "#5F5F5F",
    "faint": "#C4C4C4",
    "alert": "#B84500",
    "ink": DARK_INK,
}
"""Colours of text and lines on white paper. In the browser they follow the page (``stage.css``)."""


def state_of(key: str) -> State:
    """Return the state called ``key``.

    Raises:
        ValueError: The palette has no such state.

    >>> state_of("in_use").colour
    '#0072B2'
    """
    if key not in PALETTE:
        raise ValueError(f"no state {key!r} in the palette; known: {', '.join(PALETTE)}")
    return PALETTE[key]
