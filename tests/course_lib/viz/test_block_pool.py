"""The film of a pool: what it shows is what the recorder saw, and tiles keep their identity."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from course_lib.kv_cache import BlockPool, KVCacheManager, PlainRequest, Recorder
from course_lib.kv_cache.watch.notation import StateLine
from course_lib.viz import pool_film, pool_scene
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.player import Frame
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Cells, Group, Line, Rect, Text
from course_lib.viz.pool.chips import QUEUE, abridged, follow
from course_lib.viz.pool.film import pool_frames
from gallery import manager_trace


def lesson_trace() -> list[dict[str, Any]]:
    """The story of the lesson: A's blocks are cached, C claims two of them, D evicts one."""
    pool = BlockPool(9)
    with Recorder(pool) as recorder:
        a = pool.get_new_blocks(3)
        pool.cache_full_blocks(a, [b"a1", b"a2", b"a3"])
        b = pool.get_new_blocks(2)
        pool.cache_full_blocks(b[:1], [b"b1"])
        pool.free_blocks(reversed(a))
        pool.free_blocks(reversed(b))
        pool.touch(a[:2])
        pool.touch(a[:1])
        pool.get_new_blocks(5)
        for call, argument in ((pool.get_new_blocks, 2), (pool.free_blocks, [b[0]])):
            with pytest.raises(ValueError, match="block"):
                call(argument)
    return recorder.frames


def things(scene: Scene, thing: tuple[str, str | int]) -> list[str]:
    """Return the keys of all that stands for a thing."""
    return [shape.key for shape in scene.shapes if getattr(shape, "of", None) == thing]


def test_captions_and_events_tell_the_story_of_the_lesson() -> None:
    film = pool_film(lesson_trace()).film
    told = [(frame.caption, frame.event) for frame in film]
    assert told == [
        ("Before the first call: 8 of 8 blocks are free.", ""),
        ("get_new_blocks(3): 1 2 3 are handed out.", ""),
        (
            "cache_full_blocks([1, 2, 3], [6131, 6132, 6133]): 1 2 3 can be found by their hashes.",
            "",
        ),
        ("get_new_blocks(2): 4 5 are handed out.", ""),
        ("cache_full_blocks([4], [6231]): 4 can be found by its hash.", ""),
        ("free_blocks([3, 2, 1]): 3 2 1 go to the back of the queue.", ""),
        (
            "free_blocks([5, 4]): 5 goes to the front of the queue; "
            "4 goes to the back of the queue.",
            "usage is 0, 4 cached",
        ),
        ("touch([1, 2]): 1 2 leave the queue with their prefixes.", "claims 1 2"),
        ("touch([1]): 1 gains a holder.", "shares 1"),
        (
            "get_new_blocks(5): 5 6 7 8 3 are handed out; 3 loses its prefix.",
            "evicts 3",
        ),
        (
            "get_new_blocks(2) is refused: requested 2 blocks but only 1 are free; "
            "free a request, or raise num_blocks; nothing changes.",
            "out of blocks",
        ),
        (
            "free_blocks([4]) is refused: block 4 is freed more often than it is held; "
            "free what a request holds once, when it ends; nothing changes.",
            "double free refused",
        ),
    ]


def test_a_manager_says_what_it_found_and_for_whom_there_is_no_room() -> None:
    manager = KVCacheManager(num_blocks=5, block_size=4)
    first, second, large = (PlainRequest(name, range(9)) for name in ("A", "B", "C"))
    with Recorder(manager) as recorder:
        manager.allocate_slots(first, 9)
        first.num_computed_tokens = 9
        manager.get_computed_blocks(second)
        manager.allocate_slots(large, 9)
    said = [(frame.caption, frame.event) for frame in pool_frames(recorder.frames)][-2:]
    assert said == [
        ("get_computed_blocks(B): 1 2 hold its first 8 tokens.", ""),
        ("allocate_slots(C, 9): there is no room.", "no room for C"),
    ]


def test_a_block_that_is_evicted_and_filled_in_one_call_is_told_as_both() -> None:
    manager = KVCacheManager(num_blocks=3, block_size=4)
    first, second = PlainRequest("A", range(8)), PlainRequest("B", range(100, 108))
    manager.allocate_slots(first, 8)
    first.num_computed_tokens = 8
    manager.free(first)
    with Recorder(manager) as recorder:
        manager.allocate_slots(second, 8)
    assert [frame.caption for frame in pool_frames(recorder.frames)][-1] == (
        "allocate_slots(B, 8): 2 1 are handed out; 2 1 lose their prefixes; "
        "2 1 can be found by their hashes."
    )


def test_a_faulty_pool_is_described_as_it_behaves() -> None:
    class Forgetful(BlockPool):
        def free_blocks(self, ordered_blocks: Any) -> None:
            for block in ordered_blocks:
                block.ref_cnt -= 1

    pool = Forgetful(4)
    with Recorder(pool) as recorder:
        pool.free_blocks(pool.get_new_blocks(1))
    frame = list(pool_frames(recorder.frames))[-1]
    assert frame.caption == "free_blocks([1]): 1 is held by nobody and not queued."
    assert frame.event == "loses 1"


@pytest.mark.parametrize("seed", range(4))
def test_the_picture_shows_what_the_recorder_saw(seed: int) -> None:
    records = manager_trace(30, seed)
    for record, frame in zip(records, pool_frames(records), strict=True):
        tiles = {
            shape.key: shape
            for shape in frame.scene.shapes
            if isinstance(shape, Group) and shape.key.startswith("block-")
        }
        assert len(tiles) == 30
        for block in record["blocks"]:
            tile = tiles[f"block-{block['block_id']}"]
            rects = [shape for shape in tile.shapes if isinstance(shape, Rect)]
            labels = [rect.label for rect in rects]
            assert {rect.state for rect in rects} == {block["state"]}
            assert (f"ref {block['ref_cnt']}" in labels) == (block["ref_cnt"] > 0)
            assert any(label.startswith("#") for label in labels) == (block["hash"] is not None)
            owners = tuple(("request", owner) for owner in block["owners"])
            assert tile.lights == owners
            # The tile, its place in the queue, and one in each table.
            num_places = (block["block_id"] in record["free_queue"]) + len(block["owners"])
            assert len(things(frame.scene, ("block", block["block_id"]))) == 1 + num_places
        assert abridged(StateLine.of_frame(record)) in frame.scene.alt
        chips = [s for s in frame.scene.shapes if isinstance(s, Rect) and s.key.startswith("chip-")]
        queue_y = min((s.y for s in chips), default=0)
        front = [s.label.rstrip("*") for s in chips if s.y == queue_y and not s.lights]
        shown = [str(i) for i in record["free_queue"]][: len(front)]
        assert not shown or front == shown


@pytest.mark.parametrize("seed", range(6))
def test_a_chip_is_the_same_while_its_block_moves(seed: int) -> None:
    film = list(follow(manager_trace(14, seed, num_calls=120)))
    for before, after in pairwise(film):
        old = {chip.key: chip for chip in before.every_chip()}
        new = {chip.key: chip for chip in after.every_chip()}
        assert len(new) == len(list(after.every_chip())), "keys are unique"
        for key, chip in new.items():
            if key in old:
                assert old[key].mark.block_id == chip.mark.block_id
                assert not chip.origin
            else:
                origin = old[chip.origin]
                assert origin.mark.block_id == chip.mark.block_id
        # Nothing appears out of nothing while its block has a chip that is to go.
        gone = {chip.mark.block_id for key, chip in old.items() if key not in new}
        come = {chip.mark.block_id for key, chip in new.items() if key not in old}
        assert not gone & come


def test_a_block_that_gains_a_holder_is_copied_and_the_copy_flies_back() -> None:
    manager = KVCacheManager(num_blocks=9, block_size=4)
    a, b = PlainRequest("A", range(9)), PlainRequest("B", range(9))
    with Recorder(manager) as recorder:
        manager.allocate_slots(a, 9)
        a.num_computed_tokens = 9
        blocks, num_hits = manager.get_computed_blocks(b)
        manager.allocate_slots(b, 9 - num_hits, num_hits, blocks)
        manager.free(a)
        manager.free(b)
    film = list(follow(recorder.frames))
    [shared] = [c for c in film[3].every_chip() if c.holder == "B" and c.mark.block_id == 1]
    assert shared.origin == "chip-1"
    alone = [c for c in film[4].every_chip() if c.mark.block_id == 1]
    assert [(c.holder, c.key) for c in alone] == [("B", shared.key)]
    free = [c for c in film[5].every_chip() if c.mark.block_id == 1]
    assert [(c.holder, c.key) for c in free] == [(QUEUE, shared.key)]


def test_a_request_keeps_its_lane_and_the_next_one_takes_what_is_free() -> None:
    film = list(follow(manager_trace(40, seed=3)))
    for before, after in pairwise(film):
        for name in before.lanes.keys() & after.lanes.keys():
            assert before.lanes[name] == after.lanes[name]
        assert sorted(set(after.lanes.values())) == sorted(after.lanes.values())


def test_what_did_not_change_is_the_same_object_in_the_next_frame() -> None:
    frames = list(pool_frames(manager_trace(60)))
    for before, after in pairwise(frames):
        old = {s.key: s for s in before.scene.shapes if isinstance(s, Group)}
        for shape in after.scene.shapes:
            if isinstance(shape, Group) and shape == old[shape.key]:
                assert shape is old[shape.key]


def test_pictures_of_a_film_are_of_one_size() -> None:
    frames = list(pool_frames(manager_trace(30)))
    assert len({(frame.scene.width, frame.scene.height) for frame in frames}) == 1
    assert len({frame.narrow and frame.narrow.height for frame in frames}) == 1


def both_forms(frame: Frame) -> list[Scene]:
    assert frame.narrow is not None
    assert (frame.scene.width, frame.narrow.width) == (WIDE, NARROW)
    return [frame.scene, frame.narrow]


@pytest.mark.parametrize("num_blocks", [2, 9, 25, 64, 65, 500, 5000])
def test_nothing_is_crowded_in_pools_of_any_size(
    num_blocks: int, crowding: Callable[[Scene], list[str]]
) -> None:
    num_calls = 60 if num_blocks < 100 else 12
    for frame in pool_frames(manager_trace(num_blocks, num_calls=num_calls)):
        for scene in both_forms(frame):
            assert crowding(scene) == []


def test_names_of_tables_have_room_and_a_lane_without_a_table_is_a_line() -> None:
    frames = list(pool_frames(manager_trace(64, num_calls=20)))
    for scene in (scene for frame in frames for scene in both_forms(frame)):
        names = {s.key: s.text for s in scene.shapes if isinstance(s, Text) and s.of}
        rules = {s.key for s in scene.shapes if isinstance(s, Line) and s.key.endswith("-empty")}
        assert all(name.startswith("request-") for name in names.values())
        assert {*names, *(key.removesuffix("-empty") for key in rules)} == {
            f"lane-{lane}" for lane in range(8)
        }
        assert len(names) + len(rules) == 8


def test_only_the_row_of_the_bar_makes_room_for_it() -> None:
    num_barred = 0
    for frame in pool_frames(manager_trace(64)):
        for scene in both_forms(frame):
            [*bars] = [s for s in scene.shapes if isinstance(s, Line) and s.key == "queue-bar"]
            chips = [rect for rect in scene.rects() if rect.key.startswith("chip-")]
            rows_with_bar = {bar.points[0][1] + 4 for bar in bars}
            num_barred += len(bars)
            others = {chip.y for chip in chips} - rows_with_bar
            starts = {min(chip.x for chip in chips if chip.y == y) for y in others}
            assert len(starts) <= 1
    assert num_barred > 20


def test_nothing_is_cut_off_or_covered(collisions: Callable[[Scene], list[str]]) -> None:
    for records in (lesson_trace()[-4:], manager_trace(25)[-3:]):
        for frame in pool_frames(records):
            for scene in both_forms(frame):
                assert collisions(scene) == []


def test_thousands_of_blocks_are_cells_and_long_queues_are_counted() -> None:
    record = manager_trace(5000, num_calls=12)[-1]
    scene = pool_scene(record)
    [grid] = [shape for shape in scene.shapes if isinstance(shape, Cells)]
    assert grid.states == tuple(block["state"] for block in record["blocks"])
    assert grid.kind == "block"
    left_out = next(s.text for s in scene.shapes if isinstance(s, Text) and s.text.startswith("… "))
    shown = sum(isinstance(s, Rect) and s.key.startswith("chip-") for s in scene.shapes)
    in_tables = sum(map(len, record["tables"].values()))
    number = int(left_out.replace(",", "").split()[1])
    assert shown + number >= len(record["free_queue"])
    assert shown < len(record["free_queue"]) + in_tables
    assert len(scene.alt) < 2000


def test_the_bar_stands_where_the_notation_has_it() -> None:
    scene = pool_scene(lesson_trace()[6])  # free [5 6 7 8 | 3* 2* 1* 4*]
    [bar] = [shape for shape in scene.shapes if shape.key == "queue-bar"]
    x = bar.points[0][0]  # type: ignore[union-attr]
    chips = [s for s in scene.shapes if isinstance(s, Rect) and s.key.startswith("chip-")]
    assert [chip.label for chip in chips if chip.x < x] == ["5", "6", "7", "8"]
    assert [chip.label for chip in chips if chip.x > x] == ["3*", "2*", "1*", "4*"]
    assert "free [5 6 7 8 | 3* 2* 1* 4*]" in scene.texts()


def test_a_film_has_a_frame() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        pool_film([])
