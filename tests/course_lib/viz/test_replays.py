"""Failing cases as films: what should happen beside what happens, and where the two part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from course_lib.kv_cache import (
    BlockPool,
    BlockTable,
    FreeKVCacheBlockQueue,
    KVCacheBlock,
    KVCacheManager,
)
from course_lib.scheduling import FCFSRequestQueue, Request, Scheduler
from course_lib.scheduling.policies import PriorityRequestQueue
from course_lib.viz import replay
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Line, Rect, Text
from course_lib.viz.replays.failing_case import (
    CaseStep,
    FailingCase,
    snapshot_for,
    snapshot_free_queue,
    snapshot_scheduler,
    snapshot_table,
    snapshot_waiting,
)
from course_lib.viz.replays.film import differences, replay_frames
from course_lib.viz.replays.offer import ReplayOffer
from gallery import schedules

Frame = dict[str, Any]


class AllToTheBack(BlockPool):
    """Puts every block that comes back at the end of the queue."""

    def free_blocks(self, ordered_blocks: Any) -> None:
        for block in ordered_blocks:
            block.ref_cnt -= 1
            self.free_block_queue.append_n([block])


def pool_states(kind: type[BlockPool]) -> list[Frame | None]:
    """Live one life and return the states: made, taken, freed, asked."""
    pool = kind(6)
    snapshot = snapshot_for(BlockPool)
    assert snapshot is not None
    states = [None, snapshot(pool)]
    blocks = pool.get_new_blocks(2)
    states.append(snapshot(pool))
    pool.free_blocks(blocks[::-1])
    states += [snapshot(pool)] * 2
    return states


def pool_case() -> FailingCase:
    calls = (
        ("recipe", "ready", "ready"),
        ("obj = BlockPool(6)", "a pool", "a pool"),
        ("obj.get_new_blocks(2)", "[1, 2]", "[1, 2]"),
        ("obj.free_blocks([2, 1])", "None", "None"),
        ("obj.get_new_blocks(1)", "[2]", "[3]"),
    )
    steps = (
        CaseStep(*call, expected, got)
        for call, expected, got in zip(
            calls, pool_states(BlockPool), pool_states(AllToTheBack), strict=True
        )
    )
    return FailingCase(tuple(steps), "the front is handed out first")


def scheduler_case() -> FailingCase:
    """A scheduler that admits nobody."""

    calls = ("obj = Scheduler(...)", "add A", "add B", "add C", "obj.schedule()")
    right, wrong = (schedules(max_num_seqs, "ABC") for max_num_seqs in (3, 1))
    steps = (CaseStep(c, "x", "x", r, w) for c, r, w in zip(calls, right, wrong, strict=True))
    return FailingCase(tuple(steps))


def marks(scene: Scene) -> set[str]:
    return {s.key for s in scene.shapes if isinstance(s, Line) and "marked" in s.key}


def test_both_sides_are_shown_up_to_the_call_that_fails() -> None:
    frames = list(replay_frames(pool_case()))
    assert [(frame.caption, frame.event) for frame in frames] == [
        ("recipe: no state to compare.", ""),
        ("obj = BlockPool(6): what is drawn here agrees.", ""),
        ("obj.get_new_blocks(2): what is drawn here agrees.", ""),
        ("Different: the free queue; after obj.free_blocks([2, 1]).", "the states part"),
        (
            "Different: the free queue; after obj.get_new_blocks(1): it should give [2], and gives "
            "[3]; the front is handed out first.",
            "fails here",
        ),
    ]
    texts = list(frames[3].scene.texts())
    assert "free [2 1 3 4 5]" in texts
    assert "free [3 4 5 2 1]" in texts
    assert marks(frames[2].scene) == set()
    assert marks(frames[3].scene) == {f"{side}-marked-queue-free" for side in ("expected", "yours")}


def test_the_sides_stand_beside_each_other_and_on_a_narrow_page_below() -> None:
    frame = list(replay_frames(pool_case()))[3]
    assert frame.narrow is not None
    for scene, is_wide in ((frame.scene, True), (frame.narrow, False)):
        titles = {s.text: s for s in scene.shapes if isinstance(s, Text)}
        expected, yours = titles["Expected"], titles["Yours"]
        assert (expected.y == yours.y) == is_wide
        assert (expected.x == yours.x) != is_wide


def test_a_block_that_differs_is_marked_on_both_sides() -> None:
    right, wrong = BlockPool(4), BlockPool(4)
    right.touch([right.blocks[2]])
    wrong.touch([wrong.blocks[2], wrong.blocks[2]])
    snapshot = snapshot_for(BlockPool)
    assert snapshot is not None
    step = CaseStep("obj.touch(...)", "None", "None", snapshot(right), snapshot(wrong))
    assert differences(step) == {("block", 2)}
    [frame] = replay_frames(FailingCase((step,)))
    assert marks(frame.scene) == {"expected-marked-block-2", "yours-marked-block-2"}
    boxes = [s for s in frame.scene.shapes if isinstance(s, Line) and s.key in marks(frame.scene)]
    tiles = [r for r in frame.scene.rects() if r.label == "ref 1" or r.label == "ref 2"]
    assert len(tiles) == 2
    for box, tile in zip(boxes, tiles, strict=True):
        (left, top), _, (right_x, bottom), *_ = box.points
        assert left < tile.x < right_x
        assert top < tile.y < bottom


def test_a_schedule_shows_who_runs_and_who_waits() -> None:
    frames = list(replay_frames(scheduler_case()))
    assert frames[-1].event == "the states part"
    assert frames[-1].caption.startswith("Different: blocks 1 4 5, ")
    assert frames[-1].caption.endswith("; after obj.schedule().")
    assert "the list running" in frames[-1].caption
    assert "the table of B" in frames[-1].caption
    chips = {r.key: r for r in frames[-1].scene.rects() if "request-" in r.key}
    assert chips["expected-request-B"].state == "running"
    assert chips["yours-request-B"].state == "waiting"
    assert chips["yours-request-B"].of == ("request", "B")


def test_tables_and_queues_alone_are_shown_without_the_rest() -> None:
    for state, said in (
        ({"tables": {"table": [7, 3]}}, "table: 7 3"),
        ({"free_queue": [4, 2]}, "free [4 2]"),
        ({"requests": {"waiting": [["A", "0/3"]]}}, "A 0/3"),
    ):
        [frame] = replay_frames(FailingCase((CaseStep("f()", "1", "2", state, state),)))
        texts = list(frame.scene.texts())
        assert texts.count(said) == 2
        assert "Blocks by id" not in texts
        assert ("Free queue" in texts) == ("free_queue" in state)


def test_a_state_that_cannot_be_read_is_said_to_be_none() -> None:
    case = pool_case()
    expected = case.steps[3].expected_state
    lost = CaseStep("obj.free_blocks([2, 1])", "None", "TypeError", expected, None)
    [frame] = replay_frames(FailingCase((lost,)))
    assert "no state to show" in list(frame.scene.texts())
    assert frame.caption.endswith("it should give None, and gives TypeError; no state to compare.")


@pytest.mark.parametrize("case", [pool_case(), scheduler_case()], ids=["pool", "scheduler"])
def test_nothing_is_cut_off_or_covered(
    case: FailingCase,
    collisions: Callable[[Scene], list[str]],
    crowding: Callable[[Scene], list[str]],
) -> None:
    for frame in replay_frames(case):
        assert frame.narrow is not None
        for scene in (frame.scene, frame.narrow):
            assert crowding(scene) == []
            assert collisions(scene) == []


def test_every_kind_of_thing_that_a_figure_taught_has_its_snapshot() -> None:
    assert snapshot_for(AllToTheBack) is snapshot_for(KVCacheManager)
    assert snapshot_for(FreeKVCacheBlockQueue) is snapshot_free_queue
    assert snapshot_for(BlockTable) is snapshot_table
    assert snapshot_for(Scheduler) is snapshot_scheduler
    assert snapshot_for(FCFSRequestQueue) is snapshot_for(PriorityRequestQueue) is snapshot_waiting
    assert snapshot_for(Request) is None


def test_a_snapshot_asks_an_object_only_for_what_is_public() -> None:
    class Own:
        """A queue of one's own, which keeps its blocks in a list."""

        def __init__(self) -> None:
            self.mine = [KVCacheBlock(5), KVCacheBlock(2)]

        def __iter__(self) -> Any:
            return iter(self.mine)

    assert snapshot_free_queue(Own()) == {"free_queue": [5, 2]}  # type: ignore[arg-type]


def test_a_link_that_is_not_mended_differs_though_the_queue_does_not() -> None:
    blocks = [KVCacheBlock(n) for n in (1, 2, 3)]
    right = snapshot_free_queue(FreeKVCacheBlockQueue([blocks[0], blocks[2]]))
    queue = FreeKVCacheBlockQueue([KVCacheBlock(n) for n in (1, 2, 3)])
    one, _, three = queue
    one.next_free_block, queue.num_free_blocks = three, 2
    state = snapshot_free_queue(queue)
    assert state["free_queue"] == right["free_queue"] == [1, 3]
    assert state["facts"]["next"] == "sentinel → 1 → 3 → sentinel"
    assert state["facts"]["prev"] == "sentinel ← 1 ← 2 ← 3 ← sentinel"
    step = CaseStep("obj.remove(block2)", "None", "None", right, state)
    assert differences(step) == {("fact", "prev")}
    [frame] = replay_frames(FailingCase((step,)))
    assert frame.caption == "Different: the links back; after obj.remove(block2)."
    assert marks(frame.scene) == {f"{side}-marked-fact-prev" for side in ("expected", "yours")}


def test_an_index_that_still_finds_a_block_differs() -> None:
    states = []
    for stays in (False, True):
        pool = BlockPool(3)
        pool.cache_full_blocks(pool.get_new_blocks(1), [b"a"])
        pool.forget(pool.blocks[1])
        if stays:
            pool.cached_block_hash_to_block[b"a"] = pool.blocks[1]
        states.append(snapshot_for(BlockPool)(pool))  # type: ignore[misc]
    assert differences(CaseStep("f()", "None", "None", *states)) == {("fact", "found")}


def test_a_case_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        replay(FailingCase(()))


class TestOffer:
    def test_nothing_is_made_before_the_button_is_pressed_and_then_once(self) -> None:
        told = []

        def retell() -> FailingCase:
            told.append(1)
            return pool_case()

        offer = ReplayOffer(retell)
        assert (len(offer.children), told) == (1, [])
        offer.button.click()
        film = offer.children[1]
        assert len(film.film) == 5
        assert offer.button.description == "Hide the replay"
        offer.button.click()
        assert len(offer.children) == 1
        offer.button.click()
        assert offer.children[1] is film
        assert told == [1]

    def test_where_no_widget_can_be_it_says_nothing(self) -> None:
        data, _ = ReplayOffer(pool_case)._repr_mimebundle_()
        assert data["text/plain"] == ""
        assert "application/vnd.jupyter.widget-view+json" in data


def test_the_film_of_a_case_opens_with_the_same_keys_on_both_sides() -> None:
    frame = list(replay_frames(pool_case()))[2]
    keys = {r.key for r in frame.scene.rects() if r.key.startswith(("expected-chip", "yours-chip"))}
    assert {key.removeprefix("expected-").removeprefix("yours-") for key in keys} == {
        f"chip-{n}" for n in range(1, 6)
    }
    assert len(keys) == 10
    assert all(isinstance(r, Rect) for r in frame.scene.rects())
