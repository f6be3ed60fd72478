from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from course_lib.viz.kit.palette import (
    HEATS,
    MEMORY_ROLES,
    PALETTE,
    PART_STATES,
    POOL_STATES,
    REQUEST_STATES,
    SERIES,
    TONES,
    State,
    contrast_ratio,
    state_of,
)
from vision import VISION, ciede2000, seen_as_lab

FAMILIES: dict[str, Sequence[State]] = {
    "pool": POOL_STATES,
    "memory": (*MEMORY_ROLES, PALETTE["free"]),
    "requests": (*REQUEST_STATES, PALETTE["swapped"], PALETTE["cached"], PALETTE["free"]),
    "parts": PART_STATES,
    "series": SERIES,
}
"""States that stand in one legend."""

SAME_LOOK = (
    {"used", "in_use", "running", "series-1"},  # holds tokens; and the first of any curves
    {"yours", "decode"},  # the map of parts shows no requests
    {"free", "reference"},  # nobody's
)
"""States that look the same, on purpose: they never mean different things in one figure."""

SAME_IN_GREY = ({"internal", "swapped"}, {"overflow", "shared"})
"""In colour they are far apart. Stretches of memory and blocks of a pool need no common legend."""

PAGES = {"light": "#FFFFFF", "dark": "#111111", "grey dark": "#1E1E1E"}
"""Grounds: paper and JupyterLab by day, JupyterLab by night, VS Code by night."""

TELLABLE = 8.0
"""Difference in CIEDE2000 at which two fills are told apart at a glance; 1 is just visible."""


def on_page(state: State, page: str) -> State:
    """Return the state as it looks on a page: emptiness takes the page's own tone (stage.css)."""
    if page == "light" or not state.is_paper:
        return state
    ink, ground = (np.array(to_rgb(colour)) for colour in ("#E8E8E8", PAGES[page]))
    mixed = np.rint(255 * (0.05 * ink + 0.95 * ground)).astype(int)
    return replace(state, colour="#{:02X}{:02X}{:02X}".format(*mixed))


def hardly_told_apart(states: Sequence[State], vision: str, page: str) -> set[tuple[str, str]]:
    """Return the pairs that neither colour nor hatch tells apart."""
    shown = [on_page(state, page) for state in states]
    return {
        (first.key, second.key)
        for first, second in combinations(shown, 2)
        if first.hatch == second.hatch
        and ciede2000(seen_as_lab(first.colour, vision), seen_as_lab(second.colour, vision))
        < TELLABLE
    }


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_differences_of_colours_are_those_that_sharma_and_others_published(
    first: tuple[float, ...], second: tuple[float, ...], difference: float
) -> None:
    assert ciede2000(np.array(first), np.array(second)) == pytest.approx(difference, abs=1e-4)


@pytest.mark.parametrize("state", PALETTE.values(), ids=PALETTE)
def test_labels_can_be_read_on_their_fill(state: State) -> None:
    assert contrast_ratio(state.ink, state.colour) >= 4.5


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("family", FAMILIES)
def test_states_of_one_legend_are_told_apart(family: str, vision: str, page: str) -> None:
    assert hardly_told_apart(FAMILIES[family], vision, page) == set()


@pytest.mark.parametrize("vision", [name for name in VISION if name != "grey"])
def test_blocks_are_told_apart_by_colour_alone_since_small_cells_have_no_hatch(vision: str) -> None:
    plain = [replace(state, hatch="") for state in POOL_STATES]
    assert hardly_told_apart(plain, vision, "light") == set()


@pytest.mark.parametrize("vision", VISION)
def test_no_two_states_look_the_same_by_chance(vision: str) -> None:
    states = [state for state in PALETTE.values() if state not in (*SERIES[1:], *HEATS)]
    for first, second in hardly_told_apart(states, vision, "light"):
        allowed = SAME_LOOK + SAME_IN_GREY if vision == "grey" else SAME_LOOK
        assert any({first, second} <= same for same in allowed), (first, second)


@pytest.mark.parametrize("state", [s for s in PALETTE.values() if s.hatch], ids=lambda s: s.key)
@pytest.mark.parametrize("page", PAGES)
def test_hatches_can_be_seen_on_their_fill(state: State, page: str) -> None:
    fill = np.array(to_rgb(on_page(state, page).colour))
    is_dark_paper = state.is_paper and page != "light"
    ink = np.array(to_rgb("#E8E8E8" if is_dark_paper else state.ink))
    marks = np.rint(255 * (0.4 * ink + 0.6 * fill)).astype(int)  # drawn at this opacity
    colour = "#{:02X}{:02X}{:02X}".format(*marks)
    assert (
        ciede2000(seen_as_lab(colour, "grey"), seen_as_lab(on_page(state, page).colour, "grey")) > 8
    )


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("series", SERIES, ids=lambda series: series.key)
def test_curves_can_be_seen_on_every_page(series: State, page: str) -> None:
    assert contrast_ratio(series.colour, PAGES[page]) >= 3


def test_curves_differ_in_dash_and_marker_too() -> None:
    assert len({series.dash for series in SERIES}) == len(SERIES)
    assert len({series.marker for series in SERIES}) == len(SERIES)
    assert len({series.hatch for series in SERIES}) == len(SERIES)


@pytest.mark.parametrize("vision", VISION)
def test_more_heat_is_always_darker_by_about_the_same(vision: str) -> None:
    lightness = [seen_as_lab(heat.colour, vision)[0] for heat in HEATS]
    steps = [before - after for before, after in pairwise(lightness)]
    assert min(steps) > 0.75 * max(steps) > 0
    assert min(steps) > 5  # 2.3 is just noticeable


@pytest.mark.parametrize("tone", sorted(set(TONES) - {"faint"}))
def test_text_can_be_read_on_paper(tone: str) -> None:
    assert contrast_ratio(TONES[tone], "#FFFFFF") >= 4.5


def test_memory_that_holds_tokens_has_one_colour_in_the_whole_course() -> None:
    assert state_of("used").colour == state_of("in_use").colour == state_of("running").colour


def test_an_unknown_state_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no state 'fre' .* free"):
        state_of("fre")
