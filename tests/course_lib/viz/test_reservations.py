from __future__ import annotations

from collections.abc import Callable

import pytest

from course_lib.kv_cache.reservation import Reservation, SlotUse, Snapshot
from course_lib.viz import reservation_film, share_bars
from course_lib.viz.kit.scene import Scene
from course_lib.viz.reservations import slots_scene

SNAPSHOT = Snapshot(
    step=7,
    num_slots=1000,
    num_waiting=2,
    reservations=(
        Reservation("a", reserved=400, written=100, final=250, offset=500),
        Reservation("b", reserved=300, written=300, final=300, offset=0),
    ),
)
PAGED = Snapshot(
    step=0,
    num_slots=1000,
    num_waiting=1,
    reservations=(
        Reservation("a", reserved=112, written=100, final=250),
        Reservation("b", reserved=304, written=300, final=301),
    ),
)


def boxes(scene: Scene) -> dict[str, tuple[float, float, str]]:
    """Return start and length in slots, and the state, of each box in the strip."""
    strip = next(rect for rect in scene.rects() if rect.key == "outside")
    per_slot = strip.width / 1000
    return {
        rect.key: (
            round((rect.x - strip.x) / per_slot, 6),
            round(rect.width / per_slot, 6),
            rect.state,
        )
        for rect in scene.rects()
        if rect.y == strip.y
    }


def test_every_slot_of_a_request_has_its_place_and_its_kind() -> None:
    assert boxes(slots_scene(SNAPSHOT)) == {
        "outside": (0, 1000, "external"),
        "a-used": (500, 100, "used"),
        "a-later": (600, 150, "reserved"),
        "a-internal": (750, 150, "internal"),
        "b-used": (0, 300, "used"),
    }


def test_requests_without_an_offset_stand_side_by_side() -> None:
    found = boxes(slots_scene(PAGED))
    assert found["a-used"] == (0, 100, "used")
    assert found["b-used"] == (112, 300, "used")
    assert found["b-later"] == (412, 1, "reserved")
    assert found["b-internal"] == (413, 3, "internal")


def test_the_caption_says_the_step_and_the_four_counts() -> None:
    frame = reservation_film([SNAPSHOT, PAGED]).film[0]
    assert frame.caption == (
        "Iteration 7: 400 slots hold tokens, 150 reserved for later, 150 internal, 300 external."
    )


def test_boxes_of_one_request_keep_their_keys_from_frame_to_frame() -> None:
    first, second = (set(boxes(frame.scene)) for frame in reservation_film([SNAPSHOT, PAGED]).film)
    assert {"a-used", "b-used"} <= first & second


def test_a_film_needs_snapshots() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        reservation_film([])


SHARES = {
    "Max": SlotUse(used=20, later=13, internal=58, external=9).shares(),
    "Paged": SlotUse(used=96, later=2, internal=0, external=2).shares(),
}


def test_each_policy_has_a_bar_of_the_same_length_split_by_share() -> None:
    scene = share_bars(SHARES)
    widths = {
        policy: [rect.width for rect in scene.rects() if rect.key.startswith(policy)]
        for policy in SHARES
    }
    assert sum(widths["Max"]) == pytest.approx(sum(widths["Paged"]))
    assert widths["Max"][0] / sum(widths["Max"]) == pytest.approx(0.2)


@pytest.mark.parametrize(
    "scene",
    [slots_scene(SNAPSHOT), slots_scene(PAGED), share_bars(SHARES)],
    ids=["contiguous", "paged", "bars"],
)
def test_nothing_is_cut_off_or_covered(
    scene: Scene, collisions: Callable[[Scene], list[str]]
) -> None:
    assert collisions(scene) == []


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({}, "at least one policy"),
        ({"Max": {"used": 0.5, "later": 0, "internal": 0, "external": 0}}, "'Max' add to 0.5"),
    ],
)
def test_shares_that_do_not_make_a_bar_are_refused(
    shares: dict[str, dict[str, float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        share_bars(shares)
