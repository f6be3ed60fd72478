"""The notation as a picture: the same symbols in the same order as in the text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from course_lib.kv_cache import KVCacheManager
from course_lib.kv_cache.watch.hand_traces import allocator_trace, fork_trace, pool_trace
from course_lib.kv_cache.watch.notation import StateLine
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.notation import notation_scene, parse, strip
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Rect, Text

STATE = "free [5 4 | 3* 2*]  r0: 1* 6(2)  r1: 6(2) 7"
PLAN = "step 5  d1:1 c:1+3 A:4(16/19) B:12*  | (E) F! C"


def symbols(line: str) -> list[str]:
    """Return what a strip shows, from left to right and from top to bottom."""
    shapes, _ = strip(parse(line), 0, 0, 10_000)
    return [shape.label if isinstance(shape, Rect) else shape.text for shape in shapes]  # type: ignore[union-attr]


def tiles(line: str) -> dict[str, str]:
    """Return the state of each tile."""
    return {box.label: box.state for box in notation_scene([line]).rects() if box.label}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("trace", [pool_trace, fork_trace])
def test_a_strip_shows_the_symbols_of_the_text_in_their_order(
    trace: Callable[..., object], seed: int
) -> None:
    for step in trace(seed).steps:  # type: ignore[attr-defined]
        spaced = step.state.replace("[", " [ ").replace("]", " ] ")
        assert symbols(step.state) == spaced.split()


def test_a_plan_shows_the_symbols_of_the_text_in_their_order() -> None:
    spaced = PLAN.replace("step 5", "step-5").replace("+3", " +3")
    assert [s.replace(" ", "-") for s in symbols(PLAN)] == spaced.split()


def test_blocks_have_the_states_of_a_pool() -> None:
    assert tiles(STATE) == {
        "5": "free",
        "4": "free",
        "3*": "cached",
        "2*": "cached",
        "1*": "in_use",
        "6(2)": "shared",
        "7": "in_use",
    }


def test_requests_have_the_states_of_a_schedule() -> None:
    assert tiles(PLAN) == {
        "d1:1": "decode",
        "c:1": "decode",
        "+3": "speculative",
        "A:4(16/19)": "prefill",
        "B:12*": "prefill",
        "(E)": "swapped",
        "F!": "preempted",
        "C": "waiting",
    }


def test_slots_are_runs_as_long_as_they_are() -> None:
    shapes, _ = strip(parse("AAA..BB"), 0, 0, 500)
    runs = [shape for shape in shapes if isinstance(shape, Rect)]
    assert [(run.label, run.width / runs[0].width) for run in runs] == [
        ("A", 1),
        ("", pytest.approx(2 / 3)),
        ("B", pytest.approx(2 / 3)),
    ]
    assert [run.x for run in runs[1:]] == [run.x + run.width for run in runs[:-1]]


def test_a_block_keeps_its_key_when_it_travels_and_lights_up_wherever_it_is() -> None:
    before, _ = strip(parse("free [1 2]"), 0, 0, 500)
    after, _ = strip(parse("free [2]  r0: 1(2)  r1: 1(2)"), 0, 0, 500)
    first, second = (
        {shape.key: shape for shape in shapes if isinstance(shape, Rect)}
        for shapes in (before, after)
    )
    assert "block 1" in first.keys() & second.keys()
    copy = second["block 1 of r1"]
    assert (copy.of, copy.origin) == (("block", 1), "block 1")


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_long_lines_go_on_in_the_next_row_and_nothing_collides(
    width: float, collisions: Callable[[Scene], list[str]]
) -> None:
    manager = KVCacheManager(num_blocks=80)
    lines = [StateLine.of(manager), STATE, PLAN, allocator_trace(1).steps[3].state]
    scene = notation_scene(lines, width=width)
    assert scene.width == width
    assert collisions(scene) == []
    assert str(lines[0]) in scene.alt


def test_the_text_stands_under_its_picture() -> None:
    scene = notation_scene([STATE])
    text = next(s for s in scene.shapes if isinstance(s, Text) and s.text == STATE)
    assert text.y > max(box.y for box in scene.rects() if box.label)


@pytest.mark.parametrize("line", ["free 5 4", "step x | -", "A..b"])
def test_what_cannot_be_read_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"no state|no step|cannot be read"):
        notation_scene([line])


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one line"):
        notation_scene([])


def test_marks_of_a_block_are_told_in_its_tooltip() -> None:
    (shape,) = [
        shape for shape in strip(parse("r0: 3*(2)"), 0, 0, 300)[0] if isinstance(shape, Rect)
    ]
    assert shape.tooltip == "block 3 in the table of r0, held by 2, holds a cached prefix"
    assert replace(shape, x=0).of == ("block", 3)
