"""One colour and one hatch for every state that a figure of the course can show.

The colours are those of Okabe and Ito (2008), which stay apart under the common kinds of colour
blindness, and greys of clearly different lightness. Hatches tell the states apart in black and
white. A state looks the same in every lesson: blue holds tokens in a drawing of memory as in a
grid of blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Hatch = Literal["", "/", "\\", "x", ".", "-"]

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
    """

    key: str
    label: str
    colour: str
    hatch: Hatch = ""
    is_paper: bool = False

    @property
    def ink(self) -> str:
        """The colour of text on the fill: the one of black and white that is easier to read."""
        return max((DARK_INK, LIGHT_INK), key=lambda ink: contrast_ratio(ink, self.colour))


_EMPTY, _PALE, _SILVER, _GREY, _CHARCOAL = "#F4F4F4", "#DCDCDC", "#BEBEBE", "#8C8C8C", "#4A4A4A"
_ORANGE, _SKY, _GREEN, _YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
_BLUE, _VERMILLION, _PURPLE = "#0072B2", "#D55E00", "#CC79A7"

POOL_STATES = (
    State("in_use", "in use", _BLUE),
    State("shared", "shared", _GREEN, "x"),
    State("cached", "free, still cached", _SKY, "/"),
    State("swapped", "swapped to CPU", _PURPLE, "\\"),
    State("free", "free", _EMPTY, is_paper=True),
)
"""What a block of the KV cache can be."""

MEMORY_ROLES = (
    State("weights", "weights", _CHARCOAL),
    State("activations", "activations", _GREY, "."),
    State("used", "holds tokens", _BLUE),
    State("reserved", "reserved for later", _YELLOW, "/"),
    State("internal", "internal fragmentation", _ORANGE, "\\"),
    State("external", "external fragmentation", _SILVER, "x"),
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

PALETTE = {state.key: state for state in (*MEMORY_ROLES, *POOL_STATES, *PART_STATES)}
"""Every state by key, in the order in which legends list them."""


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
