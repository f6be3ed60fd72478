from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random

import pytest

from course_lib import parts
from course_lib.kv_cache import KVCacheManager
from course_lib.scheduling import Request, Scheduler, SchedulerConfig
from course_lib.scheduling.watch.by_hand import plans_by_hand
from course_lib.scheduling.watch.moments import Happening, Moment, run_moments
from course_lib.viz import iteration_film, iteration_scenes
from course_lib.viz.iteration.episodes import EPISODES, Episode, record
from course_lib.viz.iteration.words import captions, events, limit_of
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Line, Rect, Text, flatten


@cache
def moments_of(name: str) -> list[Moment]:
    return record(EPISODES[name])


@cache
def scenes_of(name: str, width: float = WIDE) -> list[Scene]:
    return iteration_scenes(moments_of(name), width)


def boxes(scene: Scene) -> dict[str, Rect]:
    return {rect.key: rect for rect in scene.rects() if rect.key}


def place_of(moments: Sequence[Moment], happening: Happening) -> int:
    return next(i for i, each in enumerate(moments) if each.happening is happening)


def test_the_budget_fills_in_the_order_of_service_to_scale() -> None:
    for name in EPISODES:
        for moment, scene in zip(moments_of(name), scenes_of(name), strict=True):
            found = boxes(scene)
            whole = found["limit-budget"]
            grants = [box for key, box in found.items() if key.startswith("grant-")]
            assert [box.of for box in grants] == [("request", each) for each in moment.plan]
            x = whole.x
            for box, num_tokens in zip(grants, moment.plan.values(), strict=True):
                share = num_tokens / moment.state.max_num_batched_tokens
                assert box.x == pytest.approx(x)
                assert box.width == pytest.approx(whole.width * share)
                x += box.width
            assert f"{moment.budget_left:,} of " in found["limit-budget"].tooltip


def test_bars_are_as_long_as_what_is_computed_and_known() -> None:
    moments, scenes = moments_of("no budget"), scenes_of("no budget")
    per_token = None
    for moment, scene in zip(moments, scenes, strict=True):
        found = boxes(scene)
        for name, request in moment.state.requests.items():
            parts_of = [found.get(f"{name}-{part}") for part in ("computed", "now", "known")]
            widths = [box.width if box else 0.0 for box in parts_of]
            per_token = per_token or sum(widths) / request.num_tokens
            granted = moment.plan.get(name, 0)
            assert widths == pytest.approx(
                [
                    (request.num_computed_tokens - granted) * per_token,
                    granted * per_token,
                    (request.num_tokens - request.num_computed_tokens) * per_token,
                ]
            )


def test_blocks_stand_below_the_tokens_that_they_hold() -> None:
    scene = scenes_of("no budget")[3]
    found = boxes(scene)
    bar = found["a-now"]
    assert moments_of("no budget")[3].blocks["tables"]["a"] == [1, 2, 3]
    for place, block_id in enumerate((1, 2, 3)):
        tile = found[f"block-{block_id}"]
        assert tile.x - bar.x == pytest.approx(place * bar.width * 4 / 12)
        assert tile.y > bar.y


def test_blocks_of_a_victim_go_from_its_row_to_the_free_queue() -> None:
    moments, scenes = moments_of("preemption"), scenes_of("preemption")
    after = place_of(moments, Happening.PREEMPTS)
    before, now = boxes(scenes[after - 1]), boxes(scenes[after])
    queue = before["limit-blocks"]
    for block_id in (6, 7):
        tile, moved = before[f"block-{block_id}"], now[f"block-{block_id}"]
        assert tile.y > queue.y + queue.height
        assert queue.y < moved.y < queue.y + queue.height
    # Block 1 is shared: it stays with r0.
    assert before["block-1"].state == "shared"
    assert before["block-1-r2"].origin == "block-1"
    assert now["block-1"].state == "in_use"
    assert "block-1-r2" not in now
    assert now["r2-known"].state == "preempted"


def test_who_waits_lights_the_limit_that_holds() -> None:
    for name, limit in (("no block", "blocks"), ("no place", "batch"), ("no budget", "budget")):
        moments, scenes = moments_of(name), scenes_of(name)
        waits = place_of(moments, Happening.WAITS)
        scene = scenes[waits]
        [why] = [s for s in flatten(scene.shapes) if isinstance(s, Text) and s.key == "c-why"]
        assert why.text == moments[waits].reason
        assert why.lights == (("limit", limit),)
        bold = {key for key, box in boxes(scene).items() if box.outline == "bold"}
        assert bold == {f"limit-{limit}"}
        assert boxes(scene)[f"limit-{limit}"].of == ("limit", limit)
        assert "bold" not in {box.outline for box in boxes(scenes[waits - 1]).values()}


def test_a_hand_points_at_who_is_looked_at() -> None:
    for name in EPISODES:
        for moment, scene in zip(moments_of(name), scenes_of(name), strict=True):
            hands = [s for s in flatten(scene.shapes) if isinstance(s, Line) and s.key == "hand"]
            assert len(hands) == bool(moment.request_id)
            if hands:
                found = boxes(scene)
                rows = [found.get(f"{moment.request_id}-{p}") for p in ("computed", "now", "known")]
                row = next(filter(None, rows))
                assert row.y < hands[0].points[0][1] < row.y + row.height


def test_all_pictures_of_a_film_have_one_size_and_words_of_their_own() -> None:
    for name in EPISODES:
        for width in (WIDE, NARROW):
            scenes = scenes_of(name, width)
            assert {(scene.width, scene.height) for scene in scenes} == {(width, scenes[0].height)}
            assert len({scene.alt for scene in scenes}) == len(scenes)


def test_the_first_token_of_the_lessons_prompt_comes_in_the_ninth_step() -> None:
    moments = moments_of("mixed")
    complete = events(moments).index("p complete")
    assert moments[complete].step - moments[0].step + 1 == 9
    steps = {each.step: each.plan for each in moments if each.happening is Happening.ENDS}
    assert all({"a": 1, "b": 1, "c": 1, "d": 1}.items() <= plan.items() for plan in steps.values())


def test_the_instance_that_is_worked_out_by_hand_is_the_film() -> None:
    plans = [each.plan for each in moments_of("preemption") if each.happening is Happening.ENDS]
    assert plans == [step.plan for step in plans_by_hand(0).steps]


def test_a_victim_in_front_gives_back_what_it_had_got() -> None:
    moments = moments_of("priority")
    victim = place_of(moments, Happening.PREEMPTS)
    assert captions(moments)[victim] == (
        "lo is preempted: block 1 goes back to the free queue. What it had computed, 6 tokens, no "
        "longer counts. Its 1 token of this iteration goes back to the budget."
    )
    assert [each.budget_left for each in moments[victim - 1 : victim + 2]] == [63, 64, 63]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("decode", []),
        ("preemption", ["r1 cut", "r1 complete", "r2 hits 4 tokens", "r2 preempted"]),
        ("priority", ["lo preempted", "lo waits: blocks"]),
        ("no block", ["c waits: blocks", "a ended"]),
        ("no place", ["c waits: batch", "a ended"]),
        ("no budget", ["b cut", "c waits: budget", "b complete", "c cut", "c complete"]),
        ("hit", ["b hits 24 tokens", "c hits 12 tokens"]),
    ],
)
def test_events_are_what_a_reader_looks_for(name: str, expected: list[str]) -> None:
    found = [event for event in events(moments_of(name)) if event]
    assert found[: len(expected)] == expected
    assert expected or not found


def test_a_hit_on_what_another_computes_now_is_not_said_to_be_of_before() -> None:
    moments, scenes = moments_of("hit"), scenes_of("hit")
    ends = place_of(moments, Happening.ENDS)
    said = boxes(scenes[ends])["b-computed"].tooltip
    assert said == "b: 24 tokens that it need not compute any more"


def test_of_one_that_was_refused_it_is_not_said_that_it_held_blocks() -> None:
    scheduler = Scheduler(SchedulerConfig(), KVCacheManager(9, 4))
    requests = [Request("big", range(99), 3), Request("a", range(5), 2)]
    said = captions(run_moments(scheduler, {0: requests}, 1))
    assert said[0].startswith("Iteration 0 begins. big has ended and holds no blocks now. ")


def test_who_waits_for_the_same_reason_is_named_together() -> None:
    said = captions(moments_of("swap"))
    assert "c waits: nobody starts in a step that preempts." in said
    config = SchedulerConfig(max_num_batched_tokens=8, max_num_seqs=1)
    scheduler = Scheduler(config, KVCacheManager(9, 4))
    requests = [Request(name, range(5), 3) for name in "abcdefghij"]
    said = captions(run_moments(scheduler, {0: requests}, 1))
    assert said[2] == (
        "b waits: the batch is full: 1 of 1 requests. c and 7 others wait behind it."
    )


def test_a_swapped_request_has_a_place_of_its_own_and_comes_back() -> None:
    moments, scenes = moments_of("swap"), scenes_of("swap")
    assert "c swapped out" in events(moments)
    out = place_of(moments, Happening.PREEMPTS)
    assert "swapped out, who returns first in front" in list(scenes[out].texts())
    assert any("c is next in line and comes back." in caption for caption in captions(moments))


def test_captions_say_what_is_taken_and_shared() -> None:
    said = captions(moments_of("preemption"))
    assert (
        "r2 is next in line and starts. 4 of its 7 tokens are in the prefix cache. It lacks 3 "
        "tokens, and 5 of the budget are left. It gets 3; it takes block 6 from the free queue and "
        "shares block 1."
    ) in said
    assert "r2 waits: needs 2 blocks, 1 free." in said


def test_a_share_is_cut_before_a_victim_gives_tokens_back() -> None:
    config = SchedulerConfig(max_num_batched_tokens=6, policy="priority")
    scheduler = Scheduler(config, KVCacheManager(9, 4, enable_caching=False))
    asked = [Request(name, [ord(name)] * 3, 20, priority=ord(name)) for name in "vw"]
    arrivals = {0: asked, 1: [Request("p", range(24), 20)]}
    said = captions(run_moments(scheduler, arrivals, 6))
    assert (
        "p lacks 8 tokens, and 5 of the budget are left. It gets 4, the most that it may have now; "
        "it takes block 5 from the free queue."
    ) in said


def test_the_alternative_text_has_the_numbers() -> None:
    alt = scenes_of("no place")[3].alt
    assert "Budget: 11 of 24 tokens planned (a 5 and b 6)." in alt
    assert "Batch: 2 of 2. Blocks: 8 of 12 free." in alt
    assert "Waiting: c 0 of 7 computed." in alt


def test_every_reason_of_a_limit_is_known() -> None:
    reasons = {r for name in EPISODES for m in moments_of(name) for r in m.reasons.values()}
    unnamed = {reason for reason in reasons if not limit_of(reason)}
    assert all(
        reason.startswith("behind ")
        or reason in ("nobody starts in a step that preempts", "its next token is not known yet")
        for reason in unnamed
    )
    assert {limit_of(reason) for reason in reasons} == {"", "budget", "batch", "blocks"}
    assert limit_of("needs 30 tokens in one step, 4 left") == "budget"


@pytest.mark.parametrize("name", EPISODES)
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_no_text_collides(name: str, width: float, crowding: Callable[[Scene], list[str]]) -> None:
    for scene in scenes_of(name, width):
        assert crowding(scene) == []
        for shape in flatten(scene.shapes):
            if isinstance(shape, Text):
                assert shape.size >= 15
            elif isinstance(shape, Rect):
                assert not shape.label or shape.label_size >= 15


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_what_is_drawn_is_neither_cut_off_nor_covered(
    width: float, collisions: Callable[[Scene], list[str]]
) -> None:
    rng = Random(4)
    for name in EPISODES:
        for scene in rng.sample(scenes_of(name, width), 2):
            assert collisions(scene) == []


@cache
def large() -> list[Moment]:
    """Return the moments of a batch of 40 in a pool of 1,500 blocks."""
    config = SchedulerConfig(max_num_batched_tokens=512, max_num_seqs=64)
    scheduler = Scheduler(config, KVCacheManager(1501, 16, enable_caching=False))
    prompts = [
        Request(str(n), range(1000 * n, 1000 * n + 37 * n % 300 + 1), 50) for n in range(100, 150)
    ]
    return [each for each in run_moments(scheduler, {0: prompts}, 20) if each.step >= 18]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_large_batch_and_a_large_pool_can_be_drawn(
    width: float, crowding: Callable[[Scene], list[str]]
) -> None:
    moments = large()
    scenes = iteration_scenes(moments, width)
    assert len(moments[-1].state.running) > 30
    for moment, scene in zip(moments, scenes, strict=True):
        assert crowding(scene) == []
        rows = {rect.of for rect in scene.rects() if rect.key.endswith(("-computed", "-now"))}
        assert len(rows) <= 10
        if moment.request_id:
            assert ("request", moment.request_id) in rows
        assert sum(1 for _ in scene.rects()) < 250
    hidden = len(moments[-1].state.running) - 6
    assert f"and {hidden} more" in list(scenes[-1].texts())


def test_a_film_has_a_frame_for_each_decision() -> None:
    film = iteration_film("no block")
    moments = moments_of("no block")
    assert [frame.caption for frame in film.film] == captions(moments)
    assert [frame.event for frame in film.film] == events(moments)
    assert [frame.narrow for frame in film.film] == scenes_of("no block", NARROW)
    own = Episode("two alone", EPISODES["decode"].requests[:2], SchedulerConfig(), 9, num_steps=2)
    assert len(iteration_film(own).film) == 8


def test_what_is_no_episode_is_refused() -> None:
    with pytest.raises(ValueError, match="no episode 'decodes'; there are decode, mixed"):
        iteration_film("decodes")
    with pytest.raises(ValueError, match="no moments to draw"):
        iteration_scenes([])


HALF = """
def limit_chunk(self, request, num_new_tokens, budget):
    return min(max(num_new_tokens // 2, 1), budget)
"""
INDEX_STAYS = """
def serve_running(self, output, budget):
    index = 0
    while index < len(self.running) and budget > 0:
        request = self.running[index]
        lacking = request.num_tokens - request.num_computed_tokens
        num_new = self.limit_chunk(request, lacking, budget)
        if num_new and self.kv_cache_manager.allocate_slots(request, num_new) is None:
            budget += self.preempt_for(request, num_new, output)
        if num_new and request in self.running:
            output.num_scheduled_tokens[request.request_id] = num_new
            request.num_computed_tokens += num_new
            budget -= num_new
        index += 1
    return budget
"""
FAILS = """
def admit_waiting(self, output, budget):
    raise KeyError("hits")
"""


def test_the_film_shows_ones_own_scheduler(workspace: Path) -> None:
    parts.save("Scheduler.limit_chunk", HALF)
    said = [frame.caption for frame in iteration_film("no place").film]
    assert said[1].endswith(
        "It gets 2, the most that it may have now; it takes block 1 from the free queue."
    )


def test_whoever_slides_under_the_hand_of_a_wrong_loop_is_seen_to_be_passed_over(
    workspace: Path,
) -> None:
    parts.save("Scheduler.serve_running", INDEX_STAYS)
    film = iteration_film("priority").film
    said = [frame.caption for frame in film]
    assert any(caption.startswith("h2 waits: it was passed over.") for caption in said)
    assert "The plan of iteration 2: h1 1; together 1 of 64 tokens. Now the model runs." in said
    last = next(f for f in film if f.caption.startswith("The plan of iteration 2"))
    assert "gets 0: passed over" in list(last.scene.texts())


def test_a_scheduler_that_fails_is_not_used_and_the_film_says_so(workspace: Path) -> None:
    expected = scenes_of("no place")
    parts.save("Scheduler.admit_waiting", FAILS)
    film = iteration_film("no place").film
    for frame, scene in zip(film, expected, strict=True):
        assert frame.scene.shapes[:-1] == scene.shapes
        assert "With yours: KeyError: 'hits'" in frame.scene.alt


def test_every_block_has_its_tile_in_every_picture() -> None:
    for name, episode in EPISODES.items():
        tiles = {f"block-{block_id}" for block_id in range(1, episode.num_blocks)}
        for scene in scenes_of(name):
            assert tiles <= set(boxes(scene))


def test_drafts_are_computed_ahead_and_taken_back() -> None:
    moments, scenes = moments_of("drafts"), scenes_of("drafts")
    served = place_of(moments, Happening.SERVES)
    found = boxes(scenes[served])
    # One token that is known, and three drafts behind it.
    assert found["a-ahead"].width == pytest.approx(3 * found["a-now"].width)
    assert found["a-ahead"].state == "speculative"
    assert found["grant-a"].state == "decode"
    assert "10 of 7 + 3 computed" in list(scenes[served].texts())
    said = captions(moments)
    assert said[served].startswith("a lacks 4 tokens, 3 of them ahead of what is known, and 16 of")
    later = next(text for text in said if text.startswith("Iteration 2 begins."))
    assert "Computed tokens are taken back, 2 of a and 2 of b: wrong drafts." in later


def test_a_plan_is_made_for_tokens_that_are_on_their_way() -> None:
    moments = moments_of("one step ahead")
    plans = [dict(each.plan) for each in moments if each.happening is Happening.ENDS]
    # The fourth token of a is its last: what is behind it is never computed.
    assert plans[:5] == [{"a": 6, "b": 9}, *[{"a": 1, "b": 1}] * 3, {"b": 1}]
    assert "a waits: its next token is not known yet." in captions(moments)


def test_a_film_can_have_another_budget() -> None:
    film = iteration_film("mixed", budget=32).film
    assert any(
        "p lacks 100 tokens" in f.caption or "It lacks 100 tokens" in f.caption for f in film
    )
    assert len(film) < len(moments_of("mixed"))
    assert "of 32 tokens planned" in film[0].scene.alt
