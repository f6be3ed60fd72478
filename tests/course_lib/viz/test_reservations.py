from __future__ import annotations

from collections.abc import Callable
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.kv_cache.reservation import (
    RESERVATIONS,
    Reservation,
    SlotUse,
    Snapshot,
    replay_contiguous,
)
from course_lib.simulation.workload import synthetic_azure
from course_lib.viz import reservation_film, share_bars
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Rect, Text
from course_lib.viz.reservations import slots_scene, worth_a_frame

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
        if rect.y == strip.y and rect.state
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


def run(*snapshots: tuple[int, str], num_steps: int = 0) -> list[Snapshot]:
    """Return snapshots of a step and the names of who runs; further steps at the end."""
    last_step, last_names = snapshots[-1]
    extended = [*snapshots, *((last_step + k, last_names) for k in range(1, num_steps + 1))]
    return [
        Snapshot(
            step,
            1000,
            2,
            tuple(
                Reservation(name, reserved=300, written=step + 1, final=250, offset=300 * place)
                for place, name in enumerate(names)
            ),
        )
        for step, names in extended
    ]


def test_the_caption_says_the_step_and_the_four_counts() -> None:
    frame = reservation_film([SNAPSHOT, PAGED]).film[0]
    assert frame.caption == (
        "Iteration 7: 400 slots hold tokens, 150 reserved for later, 150 internal, 300 external."
    )


def test_steps_in_which_the_same_requests_run_are_passed_over() -> None:
    film = reservation_film(run((0, "ab"), num_steps=50)).film
    assert [frame.caption.partition(":")[0] for frame in film] == [
        "Iteration 0",
        "Iteration 20 (+20)",
        "Iteration 40 (+20)",
        "Iteration 50 (+10)",
    ]
    assert [frame.event for frame in film] == [""] * 4


def test_every_change_of_the_requests_is_an_event_between_two_frames() -> None:
    film = reservation_film(run((0, "ab"), (1, "ab"), (2, "ab"), (3, "ac"), (4, "ac"))).film
    assert [(frame.caption.partition(":")[0], frame.event) for frame in film] == [
        ("Iteration 0", ""),
        ("Iteration 2 (+2)", ""),
        ("Iteration 3", "b leaves, c comes"),
        ("Iteration 4", ""),
    ]
    assert film[2].caption.endswith(" Request b leaves. Request c comes.")


def test_several_requests_leave_and_come_in_one_sentence_each() -> None:
    film = reservation_film(run((0, "abc"), (1, "cd"), (2, "d"), (3, "dab"))).film
    assert [frame.event for frame in film] == [
        "",
        "a and b leave, d comes",
        "c leaves",
        "a and b come",
    ]
    assert [frame.caption.partition("external.")[2] for frame in film] == [
        "",
        " Requests a and b leave. Request d comes.",
        " Request c leaves.",
        " Requests a and b come.",
    ]


def test_one_slot_is_not_slots() -> None:
    one = Snapshot(0, 10, 0, (Reservation("a", reserved=3, written=1, final=2, offset=0),))
    (frame,) = reservation_film([one]).film
    assert frame.caption == (
        "Iteration 0: 1 slot holds a token, 1 reserved for later, 1 internal, 7 external."
    )


@given(
    st.lists(st.sampled_from(["a", "b", "ab", "abc", ""]), min_size=1, max_size=60),
)
def test_no_change_is_lost_and_the_ends_are_shown(names: list[str]) -> None:
    snapshots = run(*enumerate(names))
    moments = list(worth_a_frame(snapshots))
    changes = [n for n in range(1, len(names)) if names[n] != names[n - 1]]
    assert [m.snapshot.step for m in moments if m.left or m.came] == changes
    steps = [moment.snapshot.step for moment in moments]
    assert steps[0] == 0
    assert steps[-1] == len(names) - 1
    assert steps == sorted(set(steps))
    assert [moment.steps for moment in moments[1:]] == [b - a for a, b in pairwise(steps)]


def test_boxes_of_one_request_keep_their_keys_from_frame_to_frame() -> None:
    first, second = (set(boxes(frame.scene)) for frame in reservation_film([SNAPSHOT, PAGED]).film)
    assert {"a-used", "b-used"} <= first & second


def test_pictures_of_a_film_are_of_one_size() -> None:
    film = reservation_film(run((0, "a"), (1, "abc"), (2, "c"))).film
    assert len({frame.scene.height for frame in film}) == 1
    assert {frame.narrow.width for frame in film if frame.narrow} == {NARROW}


def test_a_reservation_has_a_frame_and_its_name_stands_above_it() -> None:
    scene = slots_scene(SNAPSHOT)
    strip = next(rect for rect in scene.rects() if rect.key == "outside")
    frames = {rect.key: rect for rect in scene.rects() if rect.outline == "bold"}
    assert set(frames) == {"a-reservation", "b-reservation"}
    names = {shape.key: shape for shape in scene.shapes if isinstance(shape, Text)}
    assert names["a-name"].y < strip.y
    assert not any(rect.label for rect in scene.rects() if rect.y == strip.y)


def test_a_request_is_one_thing_in_strip_table_and_bar() -> None:
    shapes = [s for s in slots_scene(SNAPSHOT).shapes if getattr(s, "of", None) == ("request", "a")]
    keys = {shape.key for shape in shapes}
    assert {"a-used", "a-reservation", "a-name", "a-row", "a-1", "a-used-in-bar"} <= keys
    bar = {s.key: s.width for s in shapes if isinstance(s, Rect) and s.key.endswith("-in-bar")}
    assert bar["a-later-in-bar"] / bar["a-used-in-bar"] == pytest.approx(1.5)


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


MANY = Snapshot(
    step=3,
    num_slots=9000,
    num_waiting=123,
    reservations=tuple(
        Reservation(str(n), reserved=16 * n + 1, written=9 * n + 1, final=12 * n + 1)
        for n in range(30)
    ),
)


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize(
    "build",
    [
        lambda width: slots_scene(SNAPSHOT, width),
        lambda width: slots_scene(PAGED, width),
        lambda width: slots_scene(MANY, width),
        lambda width: share_bars(SHARES, width),
    ],
    ids=["contiguous", "paged", "many", "bars"],
)
def test_nothing_is_cut_off_or_covered(
    build: Callable[[float], Scene],
    width: float,
    collisions: Callable[[Scene], list[str]],
    crowding: Callable[[Scene], list[str]],
) -> None:
    scene = build(width)
    assert collisions(scene) == []
    assert crowding(scene) == []


def test_nothing_is_crowded_anywhere_in_the_film_of_the_lesson(
    crowding: Callable[[Scene], list[str]],
) -> None:
    requests = [r for r in synthetic_azure()[:400] if r.prompt_tokens + r.output_tokens <= 1024]
    for reserve in RESERVATIONS.values():
        snapshots = islice(replay_contiguous(requests, 4400, reserve, 1024), 600)
        film = reservation_film(snapshots).film
        assert sum(bool(frame.event) for frame in film) > 10
        for frame in film:
            assert frame.narrow is not None
            assert crowding(frame.scene) == crowding(frame.narrow) == []


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
