"""Lesson 5's figure shows what schedulers really did, and can be read throughout."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import product
from statistics import fmean
from typing import Any

import pytest

from course_lib import viz
from course_lib.scheduling import Request, Scheduler, SchedulerConfig
from course_lib.scheduling.decisions import Action, DecisionLog
from course_lib.scheduling.scheduler import SchedulerOutput
from course_lib.scheduling.variants.static_batching import StaticBatchingScheduler
from course_lib.simulation import (
    ConstantCostModel,
    RooflineCostModel,
    Simulator,
    TraceRequest,
    simulate,
)
from course_lib.simulation.workload import load_azure
from course_lib.specs import GPUS, MODELS
from course_lib.viz.batching.chart import bars_of
from course_lib.viz.batching.figure import BatchGantt, example_requests
from course_lib.viz.batching.schedules import CLOSED, Schedule, serve
from course_lib.viz.batching.words import complaints, lacked, lacked_texts
from course_lib.viz.kit.layout import SLIM, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Rect

A100 = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])
SECOND = ConstantCostModel(1.0)
PAPER = (2, 7, 3, 5, 1, 4)


def some(outputs: Sequence[int], prompt: int = 1) -> list[Request]:
    """Return requests a, b, c, ... with so many output tokens each."""
    return [Request("abcdefghijkl"[n], [n] * prompt, out) for n, out in enumerate(outputs)]


def both(requests: Sequence[Request], seats: int, **limits: int) -> tuple[Schedule, Schedule]:
    """Serve requests in static batches and continuously, a second for each iteration."""
    num_blocks = limits.pop("num_blocks", 1000)
    config = SchedulerConfig(max_num_seqs=seats, **limits)
    return (
        serve(requests, config, num_blocks, SECOND, StaticBatchingScheduler, is_static=True),
        serve(requests, config, num_blocks, SECOND, Scheduler),
    )


def random_case(seed: int) -> tuple[list[Request], SchedulerConfig, int]:
    """Return requests that come at random, and limits of which any may bind."""
    draw = random.Random(seed)
    requests = [
        Request(f"r{n}", [n] * draw.randint(1, 90), draw.randint(1, 25), 0, draw.random() * 20)
        for n in range(draw.randint(1, 14))
    ]
    config = SchedulerConfig(
        max_num_seqs=draw.randint(1, 6), max_num_batched_tokens=draw.choice((8, 40, 200))
    )
    return requests, config, draw.randint(9, 40)


# ---- what is recorded ----


def test_the_example_of_the_lesson_is_told_as_it_is_counted_by_hand() -> None:
    static, continuous = both(some(PAPER), seats=3)
    assert (len(static.iterations), static.num_idle(12)) == (12, 14)
    assert (len(continuous.iterations), continuous.num_idle(8)) == (8, 2)
    first = [
        [each.latencies(n, "iterations").ttft for n in "abcdef"] for each in (static, continuous)
    ]
    assert first == [[1, 1, 1, 8, 8, 8], [1, 1, 1, 3, 4, 5]]
    assert [sum(each) / 6 for each in first] == [4.5, 2.5]
    assert static.iterations[2].reason == CLOSED
    assert continuous.iterations[0].reason == "the batch is full: 3 of 3 requests"


@pytest.mark.parametrize("seed", range(25))
def test_short_prompts_take_as_many_iterations_as_the_formulas_say(seed: int) -> None:
    draw = random.Random(seed)
    outputs = [draw.randint(1, 20) for _ in range(draw.randint(1, 12))]
    seats = draw.randint(1, 5)
    static, continuous = both(some(outputs), seats)
    batches = [outputs[n : n + seats] for n in range(0, len(outputs), seats)]
    ends = [0] * seats
    for output in outputs:  # the next request takes the seat that falls empty first
        ends.sort()
        ends[0] += output
    for schedule, expected in ((static, sum(map(max, batches))), (continuous, max(ends))):
        assert len(schedule.iterations) == expected
        assert schedule.num_idle(expected) == seats * expected - sum(outputs)
        assert schedule.problem == ""


@pytest.mark.parametrize("seed", range(25))
def test_seats_tokens_and_reasons_are_those_of_the_scheduler(seed: int) -> None:
    requests, config, num_blocks = random_case(seed)
    for kind in (StaticBatchingScheduler, Scheduler):
        served = serve(
            requests, config, num_blocks, A100, kind, is_static=kind is StaticBatchingScheduler
        )
        assert served.problem == ""
        assert complaints(served) == []
        simulator = Simulator(requests, config, A100, num_blocks, scheduler_class=kind)
        log = simulator.scheduler.log = DecisionLog()
        for number, iteration in enumerate(served.iterations):
            step = simulator.step()
            assert step is not None
            assert (iteration.start, iteration.num_tokens) == (step.start, step.num_tokens)
            assert len(iteration.seats) == step.num_running
            assert len(iteration.answered) == step.num_sampled
            assert len(iteration.ended) == step.num_finished
            told = log.of_step(number)
            waits = [each for each in told if each.action is Action.WAITS]
            queue = [each for each in waits if each.request_id not in iteration.seats.values()]
            preempted = {e.request_id for e in told if e.action is Action.IS_PREEMPTED}
            assert set(iteration.preempted) == preempted
            assert {e.request_id for e in queue} | preempted == set(iteration.waiting)
            if queue and not preempted and iteration.reason != CLOSED:
                assert (iteration.waiting[0], iteration.reason) == (
                    queue[0].request_id,
                    queue[0].reason,
                )
        assert simulator.step() is None


@pytest.mark.parametrize("seed", range(25))
def test_whoever_runs_keeps_one_seat_that_nobody_else_has(seed: int) -> None:
    requests, config, num_blocks = random_case(seed)
    served = serve(requests, config, num_blocks, A100, Scheduler)
    before: dict[str, int] = {}
    for iteration in served.iterations:
        now = {name: seat for seat, name in iteration.seats.items()}
        assert len(now) == len(iteration.seats) <= config.max_num_seqs
        assert set(now) - set(before) == set(iteration.came)
        assert all(before[name] == now[name] for name in set(before) & set(now))
        assert set(iteration.tokens) <= set(now)
        assert not set(now) & set(iteration.waiting)
        before = {name: seat for name, seat in now.items() if name not in iteration.ended}


@pytest.mark.parametrize("seed", range(15))
def test_latencies_are_those_of_the_simulator(seed: int) -> None:
    requests, config, num_blocks = random_case(seed)
    served = serve(requests, config, num_blocks, A100, Scheduler)
    result = simulate(requests, config, A100, num_blocks)
    for n, request in enumerate(requests):
        felt = served.latencies(request.request_id, "seconds")
        values = (felt.ttft, felt.tpot, felt.e2e)
        expected = [1000 * each[n] for each in (result.ttft, result.tpot, result.e2e)]
        assert values == pytest.approx(expected, nan_ok=True)
        times = served.token_times(request.request_id, "iterations")
        assert len(times) == request.max_tokens
        assert served.latencies(request.request_id, "iterations").e2e <= len(served.iterations)


@pytest.mark.parametrize("seed", range(10))
def test_bars_tell_of_every_cell_once(seed: int) -> None:
    requests, config, num_blocks = random_case(seed)
    served = serve(requests, config, num_blocks, A100, Scheduler)
    cells = {}
    for bar in bars_of(served):
        for number in range(bar.first, bar.last + 1):
            assert (bar.seat, number) not in cells
            cells[bar.seat, number] = bar
    assert len(cells) == config.max_num_seqs * len(served.iterations)
    for (seat, number), bar in cells.items():
        iteration = served.iterations[number]
        assert bar.request == iteration.seats.get(seat, "")
        computed = iteration.tokens.get(bar.request, 0)
        known = {"prefill": computed >= 1, "decode": computed == 1, "waiting": computed == 0}
        assert known.get(bar.state, not bar.request)
    decodes = sum(bar.last - bar.first + 1 for bar in bars_of(served) if bar.state == "decode")
    again = sum(bool(each.preempted) for each in served.iterations)
    assert again or decodes == sum(request.max_tokens - 1 for request in requests)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"seats": 2}, "a seat"),
        ({"seats": 8, "max_num_batched_tokens": 40}, "tokens"),
        ({"seats": 8, "num_blocks": 12}, "blocks"),
    ],
)
def test_what_binds_is_counted(limits: dict[str, int], expected: str) -> None:
    static, continuous = both(some((9, 8, 7, 6, 5, 4, 3), prompt=30), **limits)
    [(most, _), *_] = lacked(continuous).most_common()
    assert most == expected
    waited = sum(bool(each.waiting) for each in continuous.iterations)
    assert lacked(continuous).total() == waited > 0
    assert "an open batch" in lacked(static)
    assert "an open batch" not in lacked(continuous)
    for each in (static, continuous):
        texts = lacked_texts(each)
        assert len(texts) == len(each.iterations) + 1
        assert all(f"{what} in {count}" in texts[-1] for what, count in lacked(each).items())


def test_what_a_preempted_request_computes_again_is_no_prompt_before_a_first_token() -> None:
    for num_blocks, legend, again in (
        (5, "prompt, or what was lost", "b: what it lacked in iteration 10"),
        (7, "prompt, then first token", ""),
    ):
        figure = viz.batch_gantt(some((9, 9), prompt=30), seats=2, num_blocks=num_blocks)
        scene = figure.film[-1].scene
        rects = [shape for shape in scene.shapes if isinstance(shape, Rect)]
        assert legend in scene.texts()
        told = {shape.tooltip.partition("\n")[0] for shape in rects}
        assert "; ".join(each for each in told if "lacked" in each) == again


# ---- schedulers that fail ----


class Late(Scheduler):
    """Fails as soon as three requests run."""

    def admit_waiting(self, output: SchedulerOutput, budget: int) -> int:
        if len(self.running) > 2:
            raise KeyError("r7")
        return super().admit_waiting(output, budget)


class Missing(Scheduler):
    """Has a hole where admission should be."""

    def admit_waiting(self, output: SchedulerOutput, budget: int) -> int:
        raise NotImplementedError


class Idle(Scheduler):
    """Admits nobody."""

    def admit_waiting(self, output: SchedulerOutput, budget: int) -> int:
        return budget


class OtherSeats(Scheduler):
    """Admits as if it had another number of seats."""

    seats = 99

    def admit_waiting(self, output: SchedulerOutput, budget: int) -> int:
        seats, self.max_num_seqs = self.max_num_seqs, self.seats
        try:
            return super().admit_waiting(output, budget)
        finally:
            self.max_num_seqs = seats


class OneByOne(OtherSeats):
    """Admits one request only when nobody runs."""

    seats = 1


class Spendthrift(Scheduler):
    """Admits without a look at the budget."""

    def admit_waiting(self, output: SchedulerOutput, budget: int) -> int:
        return budget - 10**6 + super().admit_waiting(output, 10**6)


class Unmade(Scheduler):
    """Cannot be made."""

    def __init__(self, *_arguments: Any) -> None:
        raise TypeError("words " * 100)


FAULTS = [
    (Late, "The scheduler stopped here: KeyError: 'r7'."),
    (Missing, "The scheduler stopped here: NotImplementedError."),
    (Idle, "The scheduler stopped here: SimulationError: at 0.000 s the scheduler plans nothing"),
    (OtherSeats, "Wrong: in iteration 1, 6 requests run, and there are 3 seats."),
    (Spendthrift, "Wrong: iteration 1 computes 90 tokens; its budget is 64."),
    (OneByOne, "In iteration 1, b waits, though there are a seat, tokens and blocks for it."),
    (Unmade, "The scheduler stopped here: TypeError: words words"),
]


@pytest.mark.parametrize(("kind", "said"), FAULTS)
def test_what_a_scheduler_does_wrong_stands_in_the_picture(
    crowding: Callable[[Scene], list[str]], kind: type[Scheduler], said: str
) -> None:
    budget = 64 if kind is Spendthrift else 8192
    figure = viz.batch_gantt(some(PAPER, prompt=30), kind, seats=3, budget=budget)
    last = figure.film[-1]
    assert said in last.scene.alt
    assert said.split()[0] in " ".join(last.scene.texts())
    assert last.narrow is not None
    assert crowding(last.scene) == crowding(last.narrow) == []
    assert said not in figure.film[0].scene.alt or "stopped here" in said


def test_a_failing_scheduler_leaves_the_static_schedule_whole() -> None:
    figure = viz.batch_gantt(some(PAPER), Missing, seats=3)
    assert figure.count == 13
    assert figure.film[-1].caption == (
        "Static: all done after 12 iterations, 14 of 36 cells idle. "
        "Continuous: stopped before its first iteration."
    )
    assert "14 of 36 cells idle" in figure.film[-1].scene.alt


# ---- the film ----


@pytest.fixture(scope="module")
def figure() -> BatchGantt:
    return viz.batch_gantt()


SWEEP = list(product((1, 4, 8), (128, 1024, 16384), (0.0, 0.2, 1.0), ("iterations", "seconds")))


@pytest.mark.parametrize(("seats", "budget", "share", "clock"), SWEEP)
def test_the_film_can_be_read_in_every_setting(
    crowding: Callable[[Scene], list[str]],
    figure: BatchGantt,
    seats: int,
    budget: int,
    share: float,
    clock: str,
) -> None:
    blocks = figure._controls["blocks"].choices
    chosen = blocks[int(share * (len(blocks) - 1))]
    story = figure.tell(seats=seats, budget=budget, blocks=chosen, clock=clock, request="b")
    last = len(story.moments) - 1
    for number in sorted({0, 1, last // 3, last // 2, last}):
        for width in (WIDE, SLIM):
            assert crowding(story.scene(number, width)) == [], (number, width)


@pytest.mark.parametrize("width", [WIDE, SLIM])
def test_matplotlib_finds_room_for_everything(
    collisions: Callable[[Scene], list[str]], figure: BatchGantt, width: float
) -> None:
    values = {name: control.value for name, control in figure._controls.items()}
    story = figure.tell(**values)
    for number in (14, len(story.moments) - 1):
        assert collisions(story.scene(number, width)) == []


def test_all_frames_of_a_film_have_one_size_and_grow(figure: BatchGantt) -> None:
    frames = figure.film
    assert len({frame.scene.height for frame in frames}) == 1
    assert len({frame.narrow.height for frame in frames if frame.narrow}) == 1
    areas = []
    for frame in frames:
        bars = [each for each in frame.scene.rects() if each.of and "waiting" not in each.key]
        areas.append(sum(bar.width for bar in bars))
    assert areas == sorted(areas)


def test_bars_that_are_complete_are_the_same_objects_from_frame_to_frame(
    figure: BatchGantt,
) -> None:
    before, after = (
        {each.key: each for each in figure.film[n].scene.rects() if each.state == "decode"}
        for n in (len(figure.film) // 2, len(figure.film) // 2 + 1)
    )
    assert any(after[key] is bar for key, bar in before.items())


def test_captions_say_how_many_seats_are_idle_and_who_waits(figure: BatchGantt) -> None:
    story = figure.tell(**figure.values)
    for (_, *done), frame in list(zip(story.moments, figure.film, strict=True))[1:]:
        assert frame.caption.startswith("Static: ")
        for schedule, until, name in zip(
            story.schedules, done, ("Static", "Continuous"), strict=True
        ):
            said = frame.caption.partition(f"{name}: ")[2].partition(". ")[0]
            newest = schedule.iterations[until - 1]
            if said.startswith("all done"):
                assert until == len(schedule.iterations)
                continue
            assert said.startswith(f"iteration {until},")
            idle = schedule.config.max_num_seqs - len(newest.seats)
            assert (f"{idle} of 4 seats idle" in said) == (idle > 0)
            waits = f"{newest.waiting[0]} waits ({newest.reason})" if newest.waiting else ""
            assert waits in said


def test_those_who_wait_stand_at_the_side_in_their_order(figure: BatchGantt) -> None:
    story = figure.tell(**figure.values)
    for number in (0, 5, len(story.moments) // 3):
        scene = story.scene(number)
        chips = [each for each in scene.rects() if "/waiting " in each.key]
        _, *done = story.moments[number]
        names, tooltips = list[str](), list[str]()
        for schedule, until in zip(story.schedules, done, strict=True):
            newest = schedule.iterations[until - 1]
            queue = newest.waiting if until else tuple("abcdefghijkl")
            names += queue
            if not queue:
                continue
            tooltips.append(f"{queue[0]} waits first in line{f': {newest.reason}' * bool(until)}")
            tooltips += [f"{name} waits behind {queue[0]}" for name in queue[1:]]
        assert [chip.label for chip in chips] == names
        assert [chip.tooltip for chip in chips] == tooltips
        assert [chip.of for chip in chips] == [("request", name) for name in names]


def test_on_the_roofline_iterations_with_prompts_are_wider_than_those_without() -> None:
    figure = viz.batch_gantt()
    figure.set(clock="seconds")
    widths: dict[bool, list[float]] = {True: [], False: []}
    story = figure.tell(**figure.values)
    for iteration, (start, end) in zip(
        story.continuous.iterations, story.continuous.edges("seconds"), strict=True
    ):
        widths[bool(iteration.prompts)].append(end - start)
    # One alone may not be: the last few tokens of a prompt cost less than a token for everybody.
    assert fmean(widths[True]) > 2 * max(widths[False])
    assert "in ms" in figure.film[-1].scene.texts()
    assert figure.film[-2].caption.startswith("After ")


def test_the_example_keeps_prompts_and_a_sixteenth_of_the_answers() -> None:
    trace = load_azure("conversation")[:12]
    shown = example_requests()
    assert [each.num_prompt_tokens for each in shown] == [each.prompt_tokens for each in trace]
    assert [each.max_tokens for each in shown] == [-(-each.output_tokens // 16) for each in trace]


# ---- controls ----


def test_moving_a_control_makes_another_film_and_leaves_it_at_its_end() -> None:
    figure = viz.batch_gantt(some(PAPER), seats=3)
    assert (figure.count, figure.index) == (13, 12)
    figure.set(seats=6)
    assert (figure.count, figure.index) == (8, 7)
    assert figure.values["seats"] == 6
    assert "Static batching: all done after 7 iterations" in figure.film[-1].scene.alt


def test_a_film_that_stands_in_the_middle_stays_there() -> None:
    figure = viz.batch_gantt(some(PAPER), seats=3)
    figure.index = 4
    figure.set(seats=2)
    assert figure.index == 4
    figure.set(request="b")
    assert figure.index == 4
    figure.set(clock="seconds")
    assert figure.told.moments[figure.index][2] == 4
    figure.set(clock="iterations")
    assert figure.index == 4


def test_a_film_that_stands_behind_the_end_of_the_lower_chart_goes_by_the_upper_one() -> None:
    figure = viz.batch_gantt(some(PAPER), seats=3)
    lower_ends = len(figure.told.continuous.iterations)
    figure.index = lower_ends + 2
    figure.set(budget=16384)
    assert figure.index == lower_ends + 2
    figure.set(seats=6)
    assert figure.index == figure.count - 1


def test_a_browser_that_asks_is_answered() -> None:
    figure = viz.batch_gantt(some(PAPER), seats=3)
    figure.values = {**figure.values, "seats": 1}
    figure.asked = 5
    assert figure.answered == 5
    assert figure.count == sum(PAPER) + 1
    figure.values = {**figure.values, "seats": 99}
    figure.asked = 6
    assert figure.answered == 6
    assert figure.message.startswith("Seats: 99 is none of its values")
    figure.set(seats=3)
    assert figure.message == ""


def test_a_request_that_is_picked_is_told_of() -> None:
    figure = viz.batch_gantt(some(PAPER), seats=3)
    assert figure.picks
    figure._handle_custom_msg({"pick": ["request", "b"]}, [])
    assert figure.values["request"] == "b"
    assert "Request b: 1 prompt token, 7 to answer" in figure.film[-1].scene.texts()
    framed = [each for each in figure.film[-1].scene.rects() if each.outline == "bold"]
    boxes = {(each.x, each.y): each.of for each in figure.film[-1].scene.rects() if each.of}
    assert {boxes[each.x, each.y] for each in framed} == {("request", "b")}
    assert "TTFT 1, longest gap 1, TPOT 1, e2e 7" in figure.film[-1].scene.alt


def test_settings_that_do_not_exist_are_refused() -> None:
    figure = viz.batch_gantt(some(PAPER), seats=3)
    with pytest.raises(ValueError, match="no control 'seat'"):
        figure.set(seat=3)
    with pytest.raises(ValueError, match="none of its values"):
        figure.set(seats=0)


def test_the_twin_is_the_whole_of_both_schedules(drawn: list[Scene]) -> None:
    figure = viz.batch_gantt(some(PAPER), seats=3)
    figure.static()
    assert [scene.alt for scene in drawn] == [figure.film[-1].scene.alt]
    assert drawn[0].alt in figure.description
    figure.static([0, 5])
    assert len(drawn) == 3


def test_a_page_has_the_film_and_no_controls() -> None:
    figure = viz.batch_gantt(some(PAPER), seats=3)
    page = figure.to_html()
    assert '"controls": []' in page or '"controls":[]' in page
    assert len(figure.controls) == 5


def test_requests_of_a_trace_get_letters_and_keep_their_arrivals() -> None:
    figure = viz.batch_gantt([TraceRequest(0.0, 50, 4), TraceRequest(0.5, 60, 2)], seats=1)
    story = figure.tell(**figure.values)
    assert story.continuous.arrivals == {"a": 0.0, "b": 0.5}
    assert not any(each.waiting for each in story.continuous.iterations)
    assert story.continuous.iterations[-1].start >= 0.5


@pytest.mark.parametrize(
    ("requests", "said"),
    [
        ([], "0 requests; the figure has room for 1 to 26"),
        ([TraceRequest(0.0, 5, 5)] * 27, "27 requests"),
        ([Request("request-7", [1], 3)], "a request is called 'request-7'"),
    ],
)
def test_requests_without_room_are_refused(requests: list[Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        viz.batch_gantt(requests)


def test_everything_of_a_request_is_one_thing() -> None:
    scene = viz.batch_gantt(some(PAPER), seats=3).film[4].scene
    for shape in scene.rects():
        is_name = "/name " in shape.key
        if shape.state in ("prefill", "decode", "waiting") and shape.key and not is_name:
            assert shape.of is not None
            assert shape.tooltip.startswith(f"{shape.of[1]}")
    assert any(isinstance(each, Rect) and each.state == "idle" for each in scene.rects())
