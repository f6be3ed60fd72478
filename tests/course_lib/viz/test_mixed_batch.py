"""Lesson 11's figure: what is drawn and said is what the cost model and the simulator say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from course_lib import parts, viz
from course_lib.kv_cache.sizing import num_kv_blocks
from course_lib.scheduling import SchedulerConfig
from course_lib.simulation import ConstantCostModel, IterationTime, RooflineCostModel, simulate
from course_lib.simulation.workload import Workload, synthetic_azure
from course_lib.specs import GPUS, MODELS
from course_lib.steps import IterationWork
from course_lib.viz.chunking.figure import mixed_batch, mixed_scene
from course_lib.viz.chunking.film import stall_film
from course_lib.viz.chunking.reading import A100, MixedBatch, own_parts
from course_lib.viz.chunking.strips import MOST_ROWS, steps_in, time_scale
from course_lib.viz.kit.charts.words import quantity
from course_lib.viz.kit.explorer import Explorer
from course_lib.viz.kit.layout import SLIM, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Line, Text

STOPS = (32, 64, 100, 256, 512, 2048, 8000)


def some(count: int = 60) -> Workload:
    """Return a few requests."""
    return synthetic_azure()[:count]


def batch_of(**given: Any) -> MixedBatch:
    """Return what the figure shows, with other settings than usual."""
    work, time = given.pop("work", IterationWork), given.pop("time", IterationTime)
    settings = {
        "workload": some(),
        "cost_model": A100,
        "num_decodes": 32,
        "context": 999,
        "prompt": 8000,
        "own": own_parts(work, time, {}),
    }
    return MixedBatch(**{**settings, **given})


@pytest.fixture(scope="module")
def mixed() -> MixedBatch:
    """What the figure shows, with the library's parts."""
    return batch_of()


def shape(scene: Scene, key: str) -> Any:
    """Return the shape of this key."""
    (found,) = [each for each in scene.shapes if each.key == key]
    return found


def strokes(scene: Scene) -> list[Line]:
    """Return the strokes of the strips, from the left."""
    return [
        each for each in scene.shapes if isinstance(each, Line) and each.key.startswith("stroke")
    ]


# ---- what is shown can be read ----


@pytest.mark.parametrize("width", [WIDE, SLIM])
def test_every_setting_can_be_read_and_fits_a_window(
    mixed: MixedBatch, width: float, crowding: Callable[[Scene], list[str]]
) -> None:
    figure = mixed_batch(some())
    stops = next(each["values"] for each in figure.controls if each["name"] == "chunk")
    for chunk in stops:
        for shown in ("prompt", "gaps"):
            scene = mixed_scene(mixed, tuple(stops), chunk, shown, width)
            assert crowding(scene) == [], (chunk, shown)
            assert scene.height < 700, (chunk, shown)


@pytest.mark.parametrize(
    ("cost_model", "num_decodes", "prompt"),
    [
        (ConstantCostModel(0.02), 1, 33),
        (A100, 200, 1000),
        (RooflineCostModel(MODELS["mixtral-8x7b"], GPUS["h100"]), 4, 20_000),
        (RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["l4"]), 48, 4000),
    ],
)
def test_other_set_ups_can_be_read(
    cost_model: Any, num_decodes: int, prompt: int, crowding: Callable[[Scene], list[str]]
) -> None:
    given = {"cost_model": cost_model, "num_decodes": num_decodes, "prompt": prompt}
    figure = mixed_batch(some(10), **given)
    for chunk in (32, prompt):
        figure.set(chunk=chunk)
        for width in (WIDE, SLIM):
            scene = mixed_scene(batch_of(**given), (32, prompt), chunk, "prompt", width)
            assert crowding(scene) == []
            assert scene.height < 720


def test_the_static_twin_points_at_three_gaps(
    mixed: MixedBatch, collisions: Callable[[Scene], list[str]]
) -> None:
    figure = mixed_batch(some())
    assert collisions(figure.scene) == []
    texts = list(figure.scene.texts())
    whole, half, quarter = (1000 * mixed.reading(n).gap for n in (8000, 512, 256))
    assert quantity(whole, "ms") in texts
    assert f"512: {quantity(half, 'ms')}" in texts
    assert f"256: {quantity(quarter, 'ms')}" in texts
    assert [round(each) for each in (whole, half, quarter)] == [587, 43, 23]


# ---- what is shown is so ----


def test_a_prompt_is_read_in_steps_that_the_cost_model_times(mixed: MixedBatch) -> None:
    for chunk in STOPS:
        reading = mixed.reading(chunk)
        assert sum(step.num_tokens for step in reading.steps) == 8000
        assert len(reading.steps) == -(-8000 // chunk)
        cached = 0
        for step in reading.steps:
            rows = [(1, 999)] * 32 + [(step.num_tokens, cached)]
            assert step.seconds == A100.seconds(IterationWork.of_batch(rows))
            cached += step.num_tokens
        assert reading.gap == max(step.seconds for step in reading.steps)
        assert reading.ttft == pytest.approx(sum(step.seconds for step in reading.steps))


def test_the_numbers_of_the_lesson(mixed: MixedBatch) -> None:
    ttft = [round(1000 * mixed.reading(n).ttft) for n in (8000, 2048, 512, 256, 128, 64)]
    assert ttft == [587, 593, 623, 675, 802, 1370]
    gaps = [round(1000 * mixed.reading(n).gap) for n in (8000, 2048, 512, 256, 128, 64)]
    assert gaps == [587, 157, 43, 23, 13, 11]
    assert f"{1000 * mixed.decode_seconds:.1f}" == "10.7"


@pytest.mark.parametrize(
    ("gpu", "seats"), [("a100-80gb", 132), ("rtx-4090", 141), ("h100", 254), ("l4", 348)]
)
def test_seats_are_free_until_arithmetic_takes_as_long_as_the_weights(gpu: str, seats: int) -> None:
    cost_model = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS[gpu])
    mixed = batch_of(cost_model=cost_model)
    assert (mixed.seats, mixed.free_seats) == (seats, seats - 32)
    bounds = [cost_model.breakdown(IterationWork(n, 0, 0)) for n in (seats, seats + 1)]
    assert [each.is_memory_bound for each in bounds] == [True, False]


def test_a_stroke_stands_at_the_end_of_each_step(mixed: MixedBatch) -> None:
    x = time_scale(mixed, 12, WIDE - 24)
    end = x.high / 1000
    for chunk in (512, 2048, 8000):
        scene = mixed_scene(mixed, STOPS, chunk, "prompt")
        ends = [step.end for step in steps_in(mixed, mixed.reading(chunk), end) if step.end <= end]
        found = [x.value(each.points[0][0]) / 1000 for each in strokes(scene)]
        assert found == pytest.approx(ends)


def test_while_the_prompt_is_read_whole_nobody_has_a_token(mixed: MixedBatch) -> None:
    scene = mixed_scene(mixed, STOPS, 8000, "prompt")
    gap = shape(scene, "gap")
    inside = [
        each for each in strokes(scene) if gap.points[0][0] < each.points[0][0] < gap.points[1][0]
    ]
    assert inside == []
    assert shape(scene, "gap words").text == "587 ms without a token"
    assert shape(scene, "first words").text == "first token: 587 ms"


def test_what_lies_beyond_the_axis_is_pointed_at(mixed: MixedBatch) -> None:
    scene = mixed_scene(mixed, STOPS, 64, "prompt")
    assert shape(scene, "first").has_arrow
    assert shape(scene, "first words").text == "first token: 1,370 ms"
    assert "gap" not in {each.key for each in scene.shapes}


def test_to_the_free_seats_nothing_moves_and_below_them_the_prompt_waits(
    mixed: MixedBatch,
) -> None:
    gaps = [mixed.reading(chunk).gap for chunk in (32, 64, 100)]
    assert max(gaps) / min(gaps) < 1.001
    assert mixed.reading(64).ttft > 1.5 * mixed.reading(100).ttft
    for chunk, said in (
        (64, "At least 36 of them stay empty"),
        (100, "A chunk of 100 fills them"),
        (512, "Each of 412 more tokens adds 64.1 µs to the linear layers"),
    ):
        assert said in mixed_scene(mixed, STOPS, chunk, "prompt").alt


def test_captions_have_the_numbers_of_every_chunk(mixed: MixedBatch) -> None:
    figure = mixed_batch(some())
    stops = next(each["values"] for each in figure.controls if each["name"] == "chunk")
    for chunk in stops:
        reading = mixed.reading(chunk)
        alt = mixed_scene(mixed, tuple(stops), chunk, "prompt").alt
        said = re.search(r"wait (?:up to )?([\d.,]+ ms) .* token comes after ([\d.,]+ ms)", alt)
        assert said is not None
        assert said.groups() == tuple(
            quantity(1000 * each, "ms") for each in (reading.gap, reading.ttft)
        )
        later = re.search(r"(\d+)% (later|earlier)", alt)
        if later is not None:
            ratio = reading.ttft / mixed.reading(8000).ttft
            assert (int(later[1]), later[2]) == (round(100 * (ratio - 1)), "later")
        assert "your parts" not in alt


def test_gaps_are_what_the_simulator_measures() -> None:
    figure = mixed_batch(some())
    for chunk in (64, 512):
        figure.set(chunk=chunk, shown="gaps")
        alt, blocks = figure.scene.alt, num_kv_blocks(A100.model, A100.gpu)
        for budget in (32 + chunk, 8032):
            config = SchedulerConfig(max_num_seqs=min(256, budget), max_num_batched_tokens=budget)
            result = simulate(some(), config, A100, blocks)
            half, most = np.nanquantile(1000 * result.longest_gap, [0.5, 0.99])
            mean = 1000 * float(result.ttft.mean())
            assert f"Budget {budget:,}: half of " in alt
            assert f"more than {quantity(float(half), 'ms')} for the next token" in alt
            assert f"99% never more than {quantity(float(most), 'ms')}" in alt
            assert f"mean time to first token {quantity(mean, 'ms')}" in alt


def test_requests_that_have_one_token_have_no_gap(crowding: Callable[[Scene], list[str]]) -> None:
    single = [type(each)(each.arrival_time, each.prompt_tokens, 1) for each in some(5)]
    figure = mixed_batch(single)
    figure.set(shown="gaps")
    assert "nobody has two tokens" in figure.scene.alt
    assert crowding(figure.scene) == []
    mixture = mixed_batch([*single, *some(7)[5:]])
    mixture.set(shown="gaps")
    assert "half of the 2 requests that have two tokens" in mixture.scene.alt


# ---- the film ----


@pytest.mark.parametrize("chunk", [64, 512, 8000])
def test_every_moment_of_the_film_can_be_read_and_is_so(
    chunk: int, mixed: MixedBatch, crowding: Callable[[Scene], list[str]]
) -> None:
    film = stall_film(chunk).film
    x = time_scale(mixed, 12, WIDE - 24)
    ends = [step.end for step in steps_in(mixed, mixed.reading(chunk), x.high / 1000)]
    for frame in film:
        assert frame.narrow is not None
        assert crowding(frame.scene) == []
        assert crowding(frame.narrow) == []
        now = x.value(shape(frame.scene, "now").points[0][0]) / 1000
        come = [end for end in ends if end <= now + 1e-9]
        drawn = [x.value(each.points[0][0]) / 1000 for each in strokes(frame.scene)]
        assert drawn == pytest.approx(come)
        waited = re.search(r"nobody has had a token for ([\d.,]+ ms)", frame.caption)
        if waited is not None:
            assert waited[1] == quantity(1000 * (now - max(come)), "ms")
            assert shape(frame.scene, "gap words").text == f"{waited[1]} without a token"
        elif now > 1e-9:
            assert max(come) == pytest.approx(now)
            assert f"after {quantity(1000 * (come[-1] - come[-2]), 'ms')}" in frame.caption


def test_the_events_of_the_film_are_where_they_happen(mixed: MixedBatch) -> None:
    film = stall_film(512)
    assert [event for _, event in film.marks] == ["the prompt comes", "longest gap", "first token"]
    captions = [film.film[frame].caption for frame, _ in film.marks]
    gap, ttft = (1000 * each for each in (mixed.reading(512).gap, mixed.reading(512).ttft))
    assert f"after {quantity(gap, 'ms')}" in captions[1]
    assert captions[2].startswith(f"{quantity(ttft, 'ms')}: the first token")
    silent = [frame for frame in stall_film().film if "nobody has had" in frame.caption]
    whole = mixed.reading(8000).gap
    assert len(silent) == round(whole / mixed.decode_seconds) - 1 == 54


# ---- the learner's parts ----


def one_roofline(self: IterationTime) -> float:
    """Take all kinds of layers for one, as a learner may."""
    return max(self.read_weights, self.compute_linear, self.move_kv, self.compute_attention)


def without_triangle(
    cls: type[IterationWork], rows: Iterable[tuple[int, int]], swapped_tokens: int = 0
) -> IterationWork:
    """Count a pair for each new and each cached token alone, as a learner may."""
    batch = list(rows)
    return cls(
        sum(new for new, _ in batch),
        sum(new * cached for new, cached in batch),
        sum(new + cached for new, cached in batch),
        swapped_tokens,
    )


def failing(*_arguments: Any) -> Any:
    """Fail."""
    raise RuntimeError("not today")


def nothing(*_arguments: Any) -> Any:
    """Return no time."""
    return -1.0


def test_the_learners_arithmetic_is_drawn_and_compared() -> None:
    for given in ({"iteration_time": one_roofline}, {"iteration_work": without_triangle}):
        figure = mixed_batch(some(10), **given)
        assert "by your parts; by the library's it is 587 ms and 587 ms" in figure.scene.alt
        assert "wait 587 ms" not in figure.scene.alt
    whole = batch_of(time=one_roofline).reading(8000)
    assert whole.gap == pytest.approx(A100.breakdown(IterationWork(8032, 0, 0)).compute_linear)


def test_a_class_serves_as_well_as_a_method() -> None:
    class Own(IterationTime):
        @property
        def total(self) -> float:
            return 0.5

    assert batch_of(time=Own).reading(8000).gap == 0.5
    assert batch_of(work=classmethod(without_triangle)).reading(8000).gap < 0.587


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"iteration_time": failing}, "RuntimeError: not today"),
        ({"iteration_work": failing}, "RuntimeError: not today"),
        ({"iteration_time": nothing}, "takes -1.0 s; a time is finite and above 0"),
    ],
)
def test_what_the_learners_arithmetic_does_wrong_is_told_in_words(
    given: Any, said: str, crowding: Callable[[Scene], list[str]]
) -> None:
    figure = mixed_batch(some(10), **given)
    assert said in figure.scene.alt
    assert strokes(figure.scene) == []
    assert crowding(figure.scene) == []
    figure.set(shown="gaps")
    assert "There are no gaps" in figure.scene.alt or said.startswith("takes")
    assert crowding(figure.scene) == []
    (told,) = stall_film(**given).film
    assert said in told.caption


def test_a_method_that_fails_in_later_chunks_alone_is_told_in_words() -> None:
    def forgetful(cls: Any, rows: Iterable[tuple[int, int]], swapped_tokens: int = 0) -> Any:
        batch = list(rows)
        if batch[-1][0] > 1 and batch[-1][1] > 0:
            raise KeyError("cached")
        return IterationWork.of_batch(batch, swapped_tokens)

    assert "KeyError: 'cached'" in mixed_batch(some(10), iteration_work=forgetful).scene.alt


def test_the_learners_own_parts_are_used(workspace: object) -> None:
    parts.save("IterationTime.total", "def total(self):\n    return 0.25\n")
    figure = mixed_batch(some(10))
    assert "the 32 wait 250 ms" in figure.scene.alt
    figure.set(shown="gaps")
    assert "99% never more than 250 ms" in figure.scene.alt


# ---- what cannot be shown ----


def test_what_cannot_be_shown_is_refused() -> None:
    with pytest.raises(ValueError, match="no requests"):
        mixed_batch(some(0))
    with pytest.raises(ValueError, match="num_decodes is 0"):
        mixed_batch(some(2), num_decodes=0)
    with pytest.raises(ValueError, match="prompt is 32"):
        mixed_batch(some(2), prompt=32)
    with pytest.raises(ValueError, match="a chunk of 9000"):
        mixed_batch(some(2), chunks=(9000,))
    with pytest.raises(ValueError, match="a chunk of 16"):
        stall_film(16)
    with pytest.raises(ValueError, match="no IterationTime and no function"):
        mixed_batch(some(2), iteration_time=0.3)  # type: ignore[arg-type]
    assert viz.mixed_batch is mixed_batch
    assert viz.stall_film is stall_film


def test_the_slider_stops_at_the_free_seats_and_at_ones_own_chunk() -> None:
    figure: Explorer = mixed_batch(some(2), chunks=(584,))
    (chunk, _) = figure.controls
    assert {32, 100, 584, 8000} <= set(chunk["values"])
    assert chunk["texts"][-1] == "8,000"
    assert figure.values == {"chunk": 8000, "shown": "prompt"}


def test_at_most_so_many_strips_are_drawn() -> None:
    scene = mixed_batch(some(2), num_decodes=40, prompt=1000).scene
    rows = [each for each in scene.shapes if isinstance(each, Line) and each.tone == "faint"]
    assert len(rows) >= MOST_ROWS
    assert f"The strips of {MOST_ROWS} are drawn" in scene.alt
    assert any(isinstance(each, Text) and "each of the 40" in each.text for each in scene.shapes)
