from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from course_lib.viz.kit.palette import (
    MEMORY_ROLES,
    PALETTE,
    PART_STATES,
    POOL_STATES,
    State,
    contrast_ratio,
    relative_luminance,
    state_of,
)

# Linear-RGB simulation of missing cones, severity 1.0: Machado, Oliveira and Fernandes (2009).
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
FREE = PALETTE["free"]
GROUPS = {"pool": POOL_STATES, "memory": (*MEMORY_ROLES, FREE), "parts": PART_STATES}
JUST_TELLABLE = 10  # distance in CIELAB; 2.3 is a just noticeable difference side by side


def seen_in_lab(colour: str, vision: str) -> np.ndarray:
    """Return CIELAB coordinates (D65) of a colour as seen with a kind of vision."""
    srgb = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(VISION[vision] @ linear, 0, 1)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = np.cbrt(to_xyz @ linear / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("state", PALETTE.values(), ids=PALETTE)
def test_labels_can_be_read_on_their_fill(state: State) -> None:
    assert contrast_ratio(state.ink, state.colour) >= 4.5


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("group", GROUPS)
def test_states_of_one_picture_have_colours_that_everybody_can_tell_apart(
    group: str, vision: str
) -> None:
    for first, second in combinations(GROUPS[group], 2):
        distance = np.linalg.norm(
            seen_in_lab(first.colour, vision) - seen_in_lab(second.colour, vision)
        )
        assert distance >= JUST_TELLABLE or first.hatch != second.hatch, (first.key, second.key)
        assert distance >= 8, f"{first.key} and {second.key} look the same with {vision}"


@pytest.mark.parametrize("group", GROUPS)
def test_states_of_one_picture_can_be_told_apart_in_black_and_white(group: str) -> None:
    for first, second in combinations(GROUPS[group], 2):
        lightness = [116 * np.cbrt(relative_luminance(s.colour)) - 16 for s in (first, second)]
        assert first.hatch != second.hatch or abs(lightness[0] - lightness[1]) > 10, (
            first.key,
            second.key,
        )


def test_memory_that_holds_tokens_has_one_colour_in_the_whole_course() -> None:
    assert state_of("used").colour == state_of("in_use").colour


def test_an_unknown_state_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no state 'fre' .* free"):
        state_of("fre")
