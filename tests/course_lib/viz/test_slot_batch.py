from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

import pytest

from course_lib import parts
from course_lib.viz import batch_scene, token_batch
from course_lib.viz.kit.layout import SLIM, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Line, Rect, flatten
from course_lib.viz.slot_batch import example_batch
from course_lib.viz.translation import PagedCache

CACHE = PagedCache({"r0": (7, 3, 5), "r1": (2, 9)}, {"r0": 10, "r1": 6})
BATCH = {"r0": [9], "r1": [3, 4, 5]}


def boxes(scene: Scene) -> dict[str, Rect]:
    return {rect.key: rect for rect in scene.rects() if rect.key}


def labels(scene: Scene, row: str) -> list[str]:
    found = boxes(scene)
    return [found[f"batch-{row}-{index}"].label for index in range(6)]


def test_the_batch_of_the_storyboard() -> None:
    scene = batch_scene(CACHE, BATCH, num_padding=2)
    assert labels(scene, "position") == ["9", "3", "4", "5", "", ""]
    assert labels(scene, "block") == ["5", "2", "9", "9", "", ""]
    assert labels(scene, "slot") == ["21", "11", "36", "37", "-1", "-1"]
    texts = set(scene.texts())
    assert {"query_starts [0 1 4]", "7 3 5", "2 9 0", "4 slots written"} <= texts
    assert scene.alt.endswith("The slots: 21 11 36 37 -1 -1.")


def test_slots_that_are_written_are_bold_and_arrows_lead_to_them() -> None:
    scene = batch_scene(CACHE, BATCH, num_padding=2)
    found = boxes(scene)
    bold = {key for key, box in found.items() if box.outline == "bold"}
    slots = [21, 11, 36, 37]
    assert bold == {f"pool-{slot}" for slot in slots} | {"block-2", "block-5", "block-9"}
    arrows = {line.key: line for line in flatten(scene.shapes) if isinstance(line, Line)}
    assert len(arrows) == 4
    for index, slot in enumerate(slots):
        arrow, cell = arrows[f"arrow-{index}"], found[f"pool-{slot}"]
        assert arrow.points[1][0] == pytest.approx(cell.x + cell.width / 2)
        assert arrow.of == cell.of == found[f"batch-slot-{index}"].of


def test_tokens_of_a_sequence_stand_above_its_own_table() -> None:
    found = boxes(batch_scene(CACHE, BATCH, num_padding=2))
    table = found["table-r1"]
    first, last = found["batch-position-1"], found["batch-position-3"]
    assert (table.x, table.x + table.width) == pytest.approx((first.x, last.x + last.width))
    assert found["batch-slot-4"].outline == "dashed"


@pytest.mark.parametrize("width", [WIDE, SLIM])
def test_no_text_collides_in_any_setting(
    width: float, crowding: Callable[[Scene], list[str]]
) -> None:
    for setting in product(range(1, 5), range(1, 5), range(5), (2, 4, 8, 16)):
        assert crowding(example_batch(*setting, width=width)) == [], setting


@pytest.mark.parametrize("setting", [(1, 3, 2, 4), (4, 4, 4, 16), (1, 1, 0, 2)])
def test_what_is_drawn_is_neither_cut_off_nor_covered(
    setting: tuple[int, int, int, int], collisions: Callable[[Scene], list[str]]
) -> None:
    for width in (WIDE, SLIM):
        assert collisions(example_batch(*setting, width=width)) == []


def test_the_figure_moves() -> None:
    figure = token_batch()
    figure.set(num_padding=0, block_size=2)
    assert figure.scene.alt.startswith("A batch with blocks of 2 slots, 4 tokens: r0 at 9, r1 at")


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"r7": [0]}, "no sequence 'r7'; there are r0, r1"),
        ({"r0": [12]}, "12"),
        ({"r0": [-1]}, "-1"),
        ({}, "the batch is empty"),
    ],
)
def test_what_cannot_be_drawn_is_refused(batch: Mapping[str, Sequence[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batch_scene(CACHE, batch)


def test_ones_own_mapping_is_shown(workspace: Path) -> None:
    parts.save(
        "slot_mapping",
        """
def slot_mapping(block_tables, query_starts, positions, block_size):
    return block_tables[0][positions // block_size] * block_size + positions % block_size
""",
    )
    scene = batch_scene(CACHE, BATCH, num_padding=2)
    # One table for all, and padding that gets a slot.
    assert labels(scene, "slot") == ["21", "31", "12", "13", "28", "28"]
    assert labels(scene, "block") == ["5", "2", "9", "9", "", ""]
    assert boxes(scene)["pool-28"].outline == "bold"


def test_a_mapping_that_leads_out_of_the_pool_is_not_drawn(workspace: Path) -> None:
    expected = batch_scene(CACHE, BATCH)
    parts.save(
        "slot_mapping",
        "def slot_mapping(tables, starts, positions, size):\n    return positions + 99\n",
    )
    scene = batch_scene(CACHE, BATCH)
    assert scene.shapes[:-1] == expected.shapes
    assert "With yours: ValueError: slot 108 is not among the 40 of the pool" in scene.alt
