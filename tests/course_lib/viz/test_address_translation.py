from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest

from course_lib import parts
from course_lib.kv_cache.block_table import PositionError
from course_lib.viz import address_scene, slot_scene, token_address, token_slot
from course_lib.viz.address_translation import example_address, example_slot
from course_lib.viz.kit.explorer import Explorer
from course_lib.viz.kit.layout import SLIM, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Rect, Text, flatten
from course_lib.viz.translation import LAYOUTS, PagedCache, pieces, translate

CACHE = PagedCache({"r0": (7, 3, 5), "r1": (2, 9)}, {"r0": 10, "r1": 6})
ARC = PagedCache({"r0": (7, 3)}, {"r0": 20}, 16, num_kv_heads=8, head_dim=128)


def pictures(width: float) -> Iterator[tuple[object, Callable[[], Scene]]]:
    """Yield every setting that has a picture; heads and elements take turns."""
    for request, position, size in product(("r0", "r1"), range(13), (2, 4, 8, 16)):
        if position < -(-{"r0": 10, "r1": 6}[request] // size) * size:
            setting = (request, position, size)
            yield setting, partial(example_slot, *setting, width)
    for position, layout, size, head_dim in product(range(12), LAYOUTS, (2, 4, 8, 16), (16, 128)):
        if position < -(-10 // size) * size:
            part, dim = (position + size) % 3 % 2, (5 * position + size) % 16
            place = (position, layout, size, part, head_dim, position % 2, dim)
            yield place, partial(example_address, *place, width)


def boxes(scene: Scene) -> dict[str, Rect]:
    return {rect.key: rect for rect in scene.rects() if rect.key}


def bold(scene: Scene) -> set[str]:
    return {rect.key for rect in scene.rects() if rect.outline == "bold"}


@pytest.mark.parametrize(
    ("request_id", "position", "slot"), [("r0", 9, 21), ("r0", 4, 12), ("r1", 5, 37)]
)
def test_the_slots_of_the_storyboard(request_id: str, position: int, slot: int) -> None:
    found = translate(CACHE, request_id, position, "NHD")
    assert found.slot == slot
    assert f"so slot {slot}." in slot_scene(CACHE, request_id, position).alt


@pytest.mark.parametrize(
    ("layout", "address", "next_token", "key", "head"),
    [
        ("NHD", 100_874, 2048, (1, 2048), (16, 256)),
        ("HND", 106_762, 256, (8, 256), (1, 4096)),
        ("split", 106_522, 16, (128, 16), (1, 4096)),
    ],
)
def test_bytes_strides_and_pieces_of_the_lessons_example(
    layout: str, address: int, next_token: int, key: tuple[int, int], head: tuple[int, int]
) -> None:
    found = translate(ARC, "r0", 17, layout, head=2, dim=5)
    assert found.slot == 49
    assert found.address == address
    assert found.strides["token"] == next_token
    assert (len(pieces(found, "token")), pieces(found, "token")[0][1]) == key
    assert (len(pieces(found, "head")), pieces(found, "head")[0][1]) == head
    scene = address_scene(ARC, "r0", 17, layout, head=2, dim=5)
    assert f"byte {address:,}" in list(scene.texts())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pieces_are_the_bytes_at_the_addresses_of_the_elements(layout: str) -> None:
    found = translate(CACHE, "r0", 9, layout)
    start = found.block * found.strides["block"]
    for fixed, elements in (
        ("token", product([found.slot], range(2), range(16))),
        ("head", product(range(20, 24), [0], range(16))),
    ):
        expected = {
            found.layout.address(0, slot, head, dim) - start for slot, head, dim in elements
        }
        covered = [byte for at, count in pieces(found, fixed) for byte in range(at, at + count, 2)]
        assert covered == sorted(expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("width", [WIDE, SLIM])
def test_the_chosen_token_is_bold_in_every_row(layout: str, width: float) -> None:
    scene = address_scene(CACHE, "r0", 9, layout, head=1, dim=11, width=width)
    places = translate(CACHE, "r0", 9, layout, head=1, dim=11).coordinates
    assert bold(scene) == {"slot-21"} | {f"axis-{axis}-{place}" for axis, place in places.items()}
    way = bold(slot_scene(CACHE, "r0", 9, width))
    assert way == {"position-9", "entry-2", "block-5", "pool-21", "slot-21"}


def test_a_token_is_the_same_thing_in_every_row_and_lights_its_block() -> None:
    way, bytes_of_it = boxes(slot_scene(CACHE, "r0", 9)), boxes(address_scene(CACHE, "r0", 9))
    for position, slot in ((8, 20), (9, 21)):
        token = ("token", f"r0:{position}")
        for key in (f"position-{position}", f"pool-{slot}", f"slot-{slot}"):
            assert way[key].of == token
        for key in (f"slot-{slot}", f"axis-token-{slot - 20}"):
            assert bytes_of_it[key].of == token
        assert way[f"position-{position}"].lights == (("block", 5),)
    for key in ("entry-2", "block-5"):
        assert way[key].of == ("block", 5)
    assert bytes_of_it["axis-block-5"].of == ("block", 5)
    assert way["position-4"].lights == (("block", 3),)
    assert way["pool-12"].of == ("token", "r0:4")


def test_slots_are_drawn_by_what_is_in_them() -> None:
    found = boxes(slot_scene(CACHE, "r0", 9))
    assert [found[f"slot-{slot}"].state for slot in range(20, 24)] == [
        "used",
        "used",
        "reserved",
        "reserved",
    ]
    in_pool = {key: rect.state for key, rect in found.items() if key.startswith("pool-")}
    assert sum(state == "used" for state in in_pool.values()) == 16
    assert {slot for slot in range(40) if in_pool[f"pool-{slot}"] == "null"} == set(range(4))
    assert in_pool["pool-4"] == "free"
    assert found["position-10"].state == "reserved"


@pytest.mark.parametrize(
    ("request_id", "position", "says"),
    [
        ("r0", 9, "Not slot 9, its position: that is position 1 of r1."),
        ("r0", 4, "Not slot 4, its position: that is free."),
        ("r1", 3, "Not slot 3, its position: that is in the null block."),
    ],
)
def test_the_picture_says_why_the_position_is_not_the_slot(
    request_id: str, position: int, says: str
) -> None:
    assert says in list(slot_scene(CACHE, request_id, position).texts())


@pytest.mark.parametrize("scene_of", [slot_scene, address_scene])
def test_a_slot_that_nobody_has_written_is_named_so(scene_of: Callable[..., Scene]) -> None:
    assert "Position 11 of r0 (no token yet): " in " ".join(scene_of(CACHE, "r0", 11).texts())
    assert "no token yet)" not in " ".join(scene_of(CACHE, "r0", 9).texts())
    assert "No token is in it yet." in slot_scene(CACHE, "r0", 11).alt
    assert "No token is in it yet." not in slot_scene(CACHE, "r0", 9).alt


def test_only_what_holds_tokens_has_their_colour() -> None:
    found = boxes(address_scene(CACHE, "r0", 11))
    assert {key for key, box in found.items() if box.state == "used"} == {"slot-20", "slot-21"}


def test_values_lie_behind_all_keys() -> None:
    found = translate(ARC, "r0", 17, "NHD", kv=1, head=2, dim=5)
    assert found.address == 100_874 + 10 * 16 * 8 * 128 * 2
    key, value = (boxes(address_scene(ARC, "r0", 17, kv=kv)) for kv in (0, 1))
    assert [box["axis-kv-1"].outline for box in (key, value)] == ["thin", "bold"]
    texts = list(address_scene(ARC, "r0", 17, kv=1).texts())
    assert "All values of block 3 in memory: 32,768 B" in texts


def test_the_state_is_written_in_the_notation_of_the_course() -> None:
    for figure in (token_slot(), token_address()):
        assert "free [1 4 6 8]  r0: 7 3 5  r1: 2 9" in list(figure.scene.texts())


def test_pieces_are_drawn_to_scale() -> None:
    found = boxes(address_scene(CACHE, "r0", 9, "HND"))
    whole = found["memory-token"]
    first, second = found["memory-token-0"], found["memory-token-1"]
    assert first.width == pytest.approx(whole.width / 8)
    assert first.x - whole.x == pytest.approx(whole.width / 8)
    assert second.x - whole.x == pytest.approx(whole.width * 5 / 8)


@pytest.mark.parametrize("width", [WIDE, SLIM])
def test_no_text_collides_in_any_setting(
    width: float, crowding: Callable[[Scene], list[str]]
) -> None:
    for setting, draw in pictures(width):
        scene = draw()
        assert scene.width == width
        assert crowding(scene) == [], setting


@pytest.mark.parametrize("width", [WIDE, SLIM])
def test_what_is_drawn_is_neither_cut_off_nor_covered(
    width: float, collisions: Callable[[Scene], list[str]]
) -> None:
    for setting, draw in Random(3).sample(list(pictures(width)), 10):
        assert collisions(draw()) == [], setting


def test_all_text_can_be_read() -> None:
    for _, draw in Random(5).sample(list(pictures(SLIM)), 20):
        for shape in flatten(draw().shapes):
            if isinstance(shape, Text):
                assert shape.size >= 15
            elif isinstance(shape, Rect):
                assert not shape.label or shape.label_size >= 15


@pytest.mark.parametrize("figure_of", [token_slot, token_address])
def test_the_layout_and_what_it_changes_fit_on_a_screen(figure_of: Callable[[], Explorer]) -> None:
    assert figure_of().scene.height < 560


def test_the_figures_have_a_picture_or_a_reason_for_every_position() -> None:
    for figure in (token_slot(), token_address()):
        for position in range(12):
            figure.set(position=position)
            assert figure.message == ""
    figure = token_slot()
    figure.set(position=12)
    assert figure.message.startswith("position 12 has no slot")
    with pytest.raises(PositionError, match="position 12 has no slot"):
        example_slot(**figure.values)


def test_choosing_a_token_moves_the_controls_there() -> None:
    figure = token_slot()
    figure._handle_custom_msg({"pick": ["token", "r1:5"]}, [])
    assert (figure.values["request"], figure.values["position"]) == ("r1", 5)
    assert figure.scene.alt.startswith("Position 5 of r1")
    figure._handle_custom_msg({"pick": ["block", 7]}, [])
    assert figure.scene.alt.startswith("Position 5 of r1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"request": "r7"}, "no sequence 'r7'; there are r0, r1"),
        ({"layout": "DHN"}, "no layout 'DHN'; there are NHD, HND, split"),
        ({"head": 2}, "head 2 is not among the 2"),
        ({"position": 12}, "position 12 has no slot"),
        ({"position": -1}, "position -1 has no slot"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        address_scene(**{"cache": CACHE, "request": "r0", "position": 9, **changes})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"r0": (7,)}, {"r0": 5}), "r0 has 5 tokens and 4 slots"),
        (({"r0": (0,)}, {"r0": 1}), "r0 has block 0; blocks that can be held are 1 to 9"),
        (({"r0": (10,)}, {"r0": 1}), "r0 has block 10"),
        (({}, {}, 4, 17), "17 blocks cannot be drawn"),
    ],
)
def test_a_cache_that_cannot_be_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PagedCache(*arguments)


CONTIGUOUS = """
def slot(self, position):
    return self.ids[0] * self.block_size + position
"""
IN_ELEMENTS = """
def address(self, kv, slot, head, dim):
    block, token = divmod(slot, 4)
    return ((block * 4 + token) * 2 + head) * 16 + dim
"""
ONE_TABLE = """
import numpy as np

def slot_mapping(block_tables, query_starts, positions, block_size):
    return block_tables[0][positions // block_size] * block_size + positions % block_size
"""


def test_ones_own_slot_and_address_are_shown(workspace: Path) -> None:
    parts.save("BlockTable.slot", CONTIGUOUS)
    assert "Position 9 of r0: block 9, slot 37" in list(slot_scene(CACHE, "r0", 9).texts())
    assert "Position 9 of r0: slot 37, byte 2,368" in list(address_scene(CACHE, "r0", 9).texts())
    parts.save("CacheLayout.address", IN_ELEMENTS)
    texts = list(address_scene(CACHE, "r0", 9).texts())
    assert {"byte 1,184", "not 2,368"} <= set(texts)


def test_ones_own_mapping_of_a_batch_is_shown(workspace: Path) -> None:
    before = boxes(slot_scene(CACHE, "r1", 5))
    parts.save("slot_mapping", ONE_TABLE)
    after = boxes(slot_scene(CACHE, "r1", 5))
    # All tokens of r1 are taken for tokens of r0.
    assert (before["slot-36"].state, after["slot-36"].state) == ("used", "reserved")
    assert after["pool-12"].of == ("token", "r1:4")


def test_parts_that_fail_are_not_used_and_the_picture_says_so(workspace: Path) -> None:
    expected = address_scene(CACHE, "r0", 9)
    parts.save("BlockTable.slot", "def slot(self, position):\n    return 10**9\n")
    scene = address_scene(CACHE, "r0", 9)
    assert scene.shapes[:-1] == expected.shapes
    assert "With yours: ValueError: slot 1000000000 is not among the 40" in scene.alt
