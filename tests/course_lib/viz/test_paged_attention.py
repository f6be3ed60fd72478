from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from course_lib.attention import SoftmaxState, partial_attention
from course_lib.attention.example import (
    BLOCK_SIZE,
    BLOCK_TABLE,
    CONTEXT_LEN,
    NUM_BLOCKS,
    SCORES,
    VALUES,
    Functions,
    dense_answer,
)
from course_lib.attention.paged import attend_blocks
from course_lib.viz import (
    attention_explorer,
    attention_film,
    merge_tree,
    paging_analogy,
)
from course_lib.viz.kit import static
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Line, Rect, flatten
from course_lib.viz.paged_attention.analogy import analogy_scene
from course_lib.viz.paged_attention.explorer import route_scene
from course_lib.viz.paged_attention.routes import AS_THEY_ARE, MEAN, ORDERS, RESCALED, Route
from course_lib.viz.paged_attention.steps import Merging, steps
from course_lib.viz.paged_attention.tile import tile_scene
from course_lib.viz.paged_attention.tree import GROUPINGS, WORK, grown, tree_scene
from course_lib.viz.paged_attention.words import trouble_scene

LIBRARY = Functions.of(None, None)


def boxes(scene: Scene) -> dict[str, Rect]:
    return {rect.key: rect for rect in scene.rects() if rect.key}


def added_as_they_are(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    return SoftmaxState(
        torch.maximum(first.max_score, second.max_score),
        first.denominator + second.denominator,
        first.numerator + second.numerator,
    )


def two_empties_are_nan(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    largest = torch.maximum(first.max_score, second.max_score)
    factors = [(state.max_score - largest).exp() for state in (first, second)]
    return SoftmaxState(
        largest,
        factors[0] * first.denominator + factors[1] * second.denominator,
        factors[0] * first.numerator + factors[1] * second.numerator,
    )


def relative_to_zero(query: Tensor, key: Tensor, value: Tensor) -> SoftmaxState:
    weights = key.flatten().exp()
    return SoftmaxState(
        torch.zeros(1), weights.sum()[None], (weights @ value.flatten())[None, None]
    )


def huge(query: Tensor, key: Tensor, value: Tensor) -> SoftmaxState:
    state = partial_attention(query, key, value)
    return SoftmaxState(-1e9 * state.max_score, 1e12 * state.denominator, -1e12 * state.numerator)


def not_written(*_arguments: Any) -> SoftmaxState:
    raise NotImplementedError


def misspelt(first: SoftmaxState, second: SoftmaxState) -> Any:
    return first.max_scores  # type: ignore[attr-defined]


OWN: dict[str, dict[str, Callable[..., Any]]] = {
    "library": {},
    "added as they are": {"merge_states": added_as_they_are},
    "two empties": {"merge_states": two_empties_are_nan},
    "relative to 0": {"partial_attention": relative_to_zero},
    "huge": {"partial_attention": huge},
}
"""Functions as learners have them on the way."""

# What the film shows


def test_the_numbers_are_those_of_the_lesson() -> None:
    merged = [step for step in steps(LIBRARY) if isinstance(step, Merging)]
    found = [[*step.together.values(), step.together.output] for step in merged]
    assert found == [
        pytest.approx([2, 1.871, 74.844, 40], abs=5e-4),
        pytest.approx([2, 2.878, 94.972, 33.005], abs=5e-4),
        pytest.approx([5, 1.646, 155.050, 94.171], abs=5e-4),
    ]
    assert [step.factors for step in merged][1:] == [
        pytest.approx((1, math.exp(-1))),
        pytest.approx((math.exp(-3), 1)),
    ]


def test_the_answer_is_that_of_the_paged_algorithm_over_the_same_cache() -> None:
    key_cache = torch.full((NUM_BLOCKS, BLOCK_SIZE, 1, 1), torch.nan)
    value_cache = key_cache.clone()
    for block_id, scores, value in zip(BLOCK_TABLE, SCORES, VALUES, strict=True):
        key_cache[block_id, : len(scores), 0, 0] = torch.tensor(scores, dtype=torch.float32)
        value_cache[block_id, : len(scores)] = value
    table = torch.tensor(BLOCK_TABLE)
    output = attend_blocks(torch.ones(1, 1), key_cache, value_cache, table, CONTEXT_LEN)
    assert float(output) == pytest.approx(dense_answer(), rel=1e-6)
    assert list(steps(LIBRARY))[-1].before.output == pytest.approx(float(output), rel=1e-6)


def test_the_film_says_whose_sums_shrink() -> None:
    film = attention_film()
    assert film.marks == [
        [2, "it is the first"],
        [4, "its own sums shrink"],
        [6, "the sums so far shrink"],
        [7, "the answer"],
    ]
    assert "multiplied by e^(2 − 5) = 0.050" in film.film[6].caption
    assert "Slot 3 is behind the context" in film.film[5].caption
    assert "The two agree: the difference is 0.00000" in film.film[7].caption


def test_what_shrinks_is_drawn_shorter_within_the_outline_of_what_it_was() -> None:
    scene = attention_film().film[4].scene
    bar = boxes(scene)["bar-l-block"]
    outline = next(
        shape
        for shape in flatten(scene.shapes)
        if isinstance(shape, Line) and shape.key == "bar-l-block-was"
    )
    before = max(x for x, _ in outline.points) - outline.points[0][0]
    assert bar.width / before == pytest.approx(math.exp(-1))
    together = [boxes(scene)[f"bar-l-both-{part}"] for part in ("before", "block")]
    assert together[1].width == pytest.approx(bar.width)
    assert together[0].x + together[0].width == pytest.approx(together[1].x)
    assert together[0].width == pytest.approx(boxes(scene)["bar-l-before"].width)


def test_the_query_stands_below_the_block_that_it_reads() -> None:
    film = attention_film()
    for frame, block_id in zip(film.film[1:7:2], BLOCK_TABLE, strict=True):
        found = boxes(frame.scene)
        query, tile = found["query"], found[f"block-{block_id}"]
        assert query.x <= tile.x + tile.width / 2 <= query.x + query.width
        assert tile.outline == "bold"
        assert [found[f"block-{other}"].outline for other in range(NUM_BLOCKS)].count("bold") == 1


def test_the_slot_behind_the_context_is_stale() -> None:
    for frame in attention_film().film:
        stale = [rect.key for rect in frame.scene.rects() if rect.state == "stale" and rect.key]
        assert "pool-2-3" in stale
        assert all(key.endswith("-2-3") for key in stale)


# A learner's own functions


def test_wrong_numbers_are_shown_as_they_are_with_what_is_right() -> None:
    film = attention_film(merge_states=added_as_they_are).film
    assert "l = 4.607" in film[4].caption
    assert "merge_states is wrong here; right is m = 2, l = 2.878" in film[4].caption
    assert "4.607, not 2.878" in list(film[4].scene.texts())
    assert boxes(film[4].scene)["bar-l-returned"].state == "broken"
    assert "The two do not agree: the difference is 48.364" in film[7].caption
    assert "They do not agree." in list(film[7].scene.texts())


def test_a_wrong_state_of_a_block_is_named() -> None:
    film = attention_film(relative_to_zero).film
    assert "partial_attention is wrong here; right is m = 2, l = 1.871" in film[1].caption
    # Small scores hide the mistake from the answer.
    assert "The two agree" in film[-1].caption


@pytest.mark.parametrize(
    ("functions", "problem", "count"),
    [
        ({"partial_attention": not_written}, "partial_attention raised NotImplementedError", 2),
        ({"merge_states": not_written}, "merge_states raised NotImplementedError", 3),
        (
            {"merge_states": misspelt},
            "merge_states raised AttributeError: 'SoftmaxState' object has no attribute",
            3,
        ),
        (
            {"merge_states": lambda first, second: (first, second)},
            "merge_states returned a tuple without a tensor max_score; return a SoftmaxState",
            3,
        ),
        (
            {"partial_attention": lambda q, k, v: SoftmaxState(k[:, 0, 0], q[0], q)},
            r"partial_attention returned a max_score of shape \[4\] for one head",
            2,
        ),
    ],
)
def test_a_function_that_fails_says_so_where_the_picture_would_be(
    functions: dict[str, Callable[..., Any]], problem: str, count: int
) -> None:
    film = attention_film(**functions)
    assert film.count == count
    assert re.search(problem, film.film[-1].caption)
    for figure in (attention_explorer(**functions), merge_tree(**functions)):
        assert figure.message == ""
        assert re.search(problem, figure.scene.alt)
        assert "Your function stopped here" in list(figure.scene.texts())


def test_a_long_error_is_cut(collisions: Callable[[Scene], list[str]]) -> None:
    problem = "merge_states raised RuntimeError: " + "x" * 400 + "\n" + "many words\n" * 40
    for width in (WIDE, NARROW):
        scene = trouble_scene("A film", problem, width)
        assert scene.height < 400
        assert collisions(scene) == []


# Orders, sums and the stale slot


@pytest.mark.parametrize(
    ("merging", "answer"), [(RESCALED, 94.171), (AS_THEY_ARE, 45.806), (MEAN, 53.333)]
)
def test_every_order_gives_the_same_answer(merging: str, answer: float) -> None:
    for order in ORDERS:
        route = Route(order, merging, math.nan, is_masked=False)
        assert route.answer(LIBRARY) == pytest.approx(answer, abs=5e-4)


@pytest.mark.parametrize(
    ("stale", "is_masked", "is_nan"),
    [
        (0.0, True, False),
        (1000.0, True, False),
        (math.nan, True, True),
        (math.inf, True, True),
        (math.nan, False, False),
    ],
)
def test_a_mask_on_the_scores_does_not_hide_what_is_no_number(
    stale: float, is_masked: bool, is_nan: bool
) -> None:
    answer = Route((0, 1, 2), RESCALED, stale, is_masked).answer(LIBRARY)
    assert math.isnan(answer) == is_nan
    assert is_nan or answer == pytest.approx(dense_answer(), rel=1e-6)


def test_the_explorer_says_what_the_changes_do() -> None:
    figure = attention_explorer()
    assert "All six orders give 94.171" in figure.scene.alt
    assert "is not read, so it does not matter that it holds NaN" in figure.scene.alt
    figure.set(masked=True)
    assert "give NaN; dense attention gives 94.171" in figure.scene.alt
    assert "its weight is 0, but 0 × NaN is NaN" in figure.scene.alt
    figure.set(stale="1000")
    assert "0 × 1000 is 0" in figure.scene.alt
    figure.set(merging=MEAN)
    assert "give 53.333" in figure.scene.alt


def test_choosing_an_order_in_the_picture_moves_the_control() -> None:
    figure = attention_explorer()
    figure._handle_custom_msg({"pick": ["order", "5 3 7"]}, [])
    assert figure.values["order"] == "5 3 7"
    assert figure.scene.alt.startswith("Blocks 5, 3, 7 in this order give 94.171")
    figure._handle_custom_msg({"pick": ["block", 7]}, [])
    assert figure.values["order"] == "5 3 7"


def test_a_merge_that_depends_on_the_order_is_found() -> None:
    def keeps_the_first(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
        return second if float(first.max_score) == -math.inf else first

    alt = attention_explorer(merge_states=keeps_the_first).scene.alt
    assert "The six orders give answers that differ by up to 80.000" in alt


# The tree


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("grouping", GROUPINGS)
def test_every_grouping_and_every_deal_gives_the_same_answer(grouping: str, work: str) -> None:
    root = grown(GROUPINGS[grouping], WORK[work], LIBRARY)
    assert root.numbers.output == pytest.approx(dense_answer(), rel=1e-6)
    assert sorted(root.blocks) == sorted(BLOCK_TABLE)
    assert root.workers == (0, 1, 2, 3)


def test_an_idle_worker_changes_nothing() -> None:
    root = grown(((0, 1), (2, 3)), WORK["7, 3, 5, –"], LIBRARY)
    idle = root.children[1].children[1]
    assert idle.numbers.values() == (-math.inf, 0, 0)
    assert root.children[1].numbers == root.children[1].children[0].numbers
    assert "it is the neutral element" in tree_scene(root, "(1 2)(3 4)").alt


def test_two_empty_states_that_make_no_number_are_found() -> None:
    figure = merge_tree(merge_states=two_empties_are_nan)
    assert "is the neutral element" in figure.scene.alt
    figure.set(work="7 and 3, 5, –, –")
    assert "should leave that one as it is, and does not" in figure.scene.alt
    assert "merge_states is wrong at workers 3 and 4" in figure.scene.alt
    assert "differ by up to NaN" in figure.scene.alt


def test_pointing_at_a_state_lights_its_blocks() -> None:
    found = boxes(merge_tree().scene)
    assert found["node-1-2"].lights == (("block", 7), ("block", 3))
    assert found["node-1-2-3-4"].lights == (("block", 7), ("block", 3), ("block", 5))
    assert found["node-4"].lights == ()


# Paging, twice


@pytest.mark.parametrize(("position", "slot"), [(0, 28), (3, 31), (4, 12), (9, 21), (10, 22)])
def test_a_token_and_its_address_go_the_same_way(position: int, slot: int) -> None:
    scene = analogy_scene(position)
    assert f"Token {position} is in slot {slot}; address {position} KiB is at {slot} KiB" in list(
        scene.texts()
    )
    found = boxes(scene)
    for row in ("address", "place"):
        pair = [found[f"{side}-{row}-{position}"] for side in ("process", "request")]
        assert {box.of for box in pair} == {("token", position)}
        assert {box.outline for box in pair} == {"bold"}
    bold = [key for key, box in found.items() if box.outline == "bold"]
    assert len(bold) == 2 * 4  # address, entry, frame, and the place in it


def test_the_sums_of_the_two_sides_lead_to_the_same_number() -> None:
    texts = list(analogy_scene(9).texts())
    assert "physical address 5 · 4 KiB + 1 KiB = 21 KiB" in texts
    assert "slot 5 · 4 + 1 = 21" in texts


def test_the_analogy_says_where_it_ends() -> None:
    alt = paging_analogy().scene.alt
    for words in ("No page fault", "No TLB", "One table for all layers", "No clearing"):
        assert words in alt


def test_choosing_a_token_in_the_picture_moves_the_control() -> None:
    figure = paging_analogy()
    figure._handle_custom_msg({"pick": ["token", 4]}, [])
    assert figure.values["position"] == 4
    figure._handle_custom_msg({"pick": ["token", 11]}, [])  # the stale slot is no token
    figure._handle_custom_msg({"pick": ["entry", 0]}, [])
    assert figure.values["position"] == 4


@pytest.mark.parametrize("position", [-1, 11])
def test_a_token_that_is_not_there_is_refused(position: int) -> None:
    with pytest.raises(ValueError, match=f"token {position} is none of the 11"):
        analogy_scene(position)


# The tile


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_tile_ends_with_the_context(width: float) -> None:
    found = boxes(tile_scene(width))
    whole = found["used-0-56"].width
    for row, state in ((0, "used"), (3, "used"), (4, "empty"), (15, "empty")):
        assert [found[f"{state}-{row}-{logical}"].width for logical in range(56, 62)] == [whole] * 6
        assert found[f"{state}-{row}-62"].width == found[f"stale-{row}-62"].width == whole / 2
        assert found[f"stale-{row}-63"].width == whole
        assert f"{state}-{row}-63" not in found
    assert {found[f"entry-{logical}"].label for logical in (62, 63)} == {"62", "none"}


# All of them


def pictures(own: dict[str, Callable[..., Any]], every: int) -> Iterator[Scene]:
    """Yield every so-manieth picture of the figures that a learner's functions drive."""
    functions = Functions.of(own.get("partial_attention"), own.get("merge_states"))
    for frame in attention_film(**own).film:
        assert frame.narrow is not None
        yield from (frame.scene, frame.narrow)
    ways = product(ORDERS, (RESCALED, AS_THEY_ARE, MEAN), (0, 1000, math.nan), (False, True))
    for way, width in list(product(ways, (WIDE, NARROW)))[::every]:
        yield route_scene(Route(*way), functions, width)
    trees = product(GROUPINGS.items(), WORK.values(), (WIDE, NARROW))
    for (name, tree), work, width in list(trees)[::every]:
        yield tree_scene(grown(tree, work, functions), name, [1.0, 1.5], width)


@pytest.mark.parametrize("own", OWN)
def test_no_text_collides_in_any_setting(crowding: Callable[[Scene], list[str]], own: str) -> None:
    every = 1 if own == "library" else 11  # an odd number takes both forms in turn
    for scene in pictures(OWN[own], every):
        assert crowding(scene) == [], scene.alt


def test_no_text_collides_for_any_token_or_in_the_tile(
    crowding: Callable[[Scene], list[str]],
) -> None:
    for position, width in product(range(CONTEXT_LEN), (WIDE, NARROW)):
        assert crowding(analogy_scene(position, width)) == [], position
    assert crowding(tile_scene(WIDE)) == crowding(tile_scene(NARROW)) == []


def test_what_is_drawn_is_neither_cut_off_nor_covered(
    collisions: Callable[[Scene], list[str]],
) -> None:
    scenes = [*list(pictures({}, 41))[::2], *list(pictures({}, 41))[1::5]]
    scenes += [analogy_scene(9, width) for width in (WIDE, NARROW)]
    scenes += [tile_scene(width) for width in (WIDE, NARROW)]
    for scene in scenes:
        assert collisions(scene) == [], scene.alt


def test_all_pictures_of_the_explorers_are_there_without_a_kernel() -> None:
    assert attention_explorer().grid["count"] == 108
    assert merge_tree().grid["count"] == len(GROUPINGS) * len(WORK)
    assert paging_analogy().grid["count"] == CONTEXT_LEN


def test_the_sheet_in_print_has_every_merge_and_the_answer(drawn: list[Scene]) -> None:
    film = attention_film()
    static.png(film.static())
    shown = [scene.alt for scene in drawn]
    assert [frame.scene.alt in shown for frame in film.film] == [
        True, False, True, False, True, False, True, True,
    ]  # fmt: skip
