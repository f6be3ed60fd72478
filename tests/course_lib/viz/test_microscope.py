"""Lesson 12's microscope: a real run, one iteration of it, decision by decision."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import groupby
from typing import Any

import pytest

from course_lib import parts, viz
from course_lib.scheduling import DecisionLog, Request, Scheduler, SchedulerConfig
from course_lib.scheduling.decisions import Action
from course_lib.scheduling.request import RequestStatus
from course_lib.scheduling.scheduler import SchedulerOutput
from course_lib.scheduling.watch.moments import Happening
from course_lib.simulation import RooflineCostModel, Simulator
from course_lib.simulation.workload import Workload, synthetic_azure
from course_lib.specs import GPUS, MODELS
from course_lib.viz.close_up.figure import Microscope, Opened
from course_lib.viz.close_up.run import KINDS, Run
from course_lib.viz.iteration.bars import end_of
from course_lib.viz.kit.layout import SLIM, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Line, Rect, Text, flatten

FEW = 300
CONFIG = SchedulerConfig(max_num_batched_tokens=512)
A100 = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])


class Skipping(Scheduler):
    """Goes through ``running`` by index, and does not move it when a victim was in front."""

    def serve_running(self, output: SchedulerOutput, budget: int) -> int:
        """Serve whoever stands at the index, and go on by one."""
        position = 0
        while position < len(self.running) and budget > 0:
            request = self.running[position]
            position += 1
            num_new = self.limit_chunk(
                request, request.num_tokens - request.num_computed_tokens, budget
            )
            if num_new < 1:
                continue
            if self.kv_cache_manager.allocate_slots(request, num_new) is None:
                budget += self.preempt_for(request, num_new, output)
                if request.status is not RequestStatus.RUNNING:
                    continue
            output.num_scheduled_tokens[request.request_id] = num_new
            request.num_computed_tokens += num_new
            budget -= num_new
        return budget


class Stopping(Scheduler):
    """Fails as soon as four requests run."""

    def serve_running(self, output: SchedulerOutput, budget: int) -> int:
        """Serve up to three."""
        if len(self.running) > 3:
            raise IndexError("list index out of range")
        return super().serve_running(output, budget)


class Shrinking(Scheduler):
    """Has a budget of one token after the first iteration."""

    def schedule(self) -> SchedulerOutput:
        """Plan, and lower the budget for later."""
        output = super().schedule()
        self.max_num_batched_tokens = 1
        return output


class Refusing(Scheduler):
    """Plans nothing at all."""

    def schedule(self) -> SchedulerOutput:
        """Refuse."""
        raise NotImplementedError


def some(count: int = 40) -> Workload:
    """Return the first requests of a trace that is the same everywhere."""
    return synthetic_azure()[:count]


def simulator(config: SchedulerConfig = CONFIG) -> Simulator:
    """Return the simulation that the figure shows."""
    return Simulator(some(), config, A100, FEW)


@cache
def figure() -> Microscope:
    """Return the figure as it opens; nobody moves its controls."""
    return viz.microscope(some(), num_blocks=FEW)


def boxes(scene: Scene) -> dict[str, Rect]:
    return {rect.key: rect for rect in scene.rects() if rect.key}


def words(scene: Scene) -> dict[str, str]:
    return {s.key: s.text for s in flatten(scene.shapes) if isinstance(s, Text) and s.key}


def at(opened: Opened, happening: Happening) -> int:
    """Return the first moment at which something happens."""
    return next(n for n, each in enumerate(opened.moments) if each.happening is happening)


@pytest.mark.parametrize("budget", [16, 64, 512, 2048])
@pytest.mark.parametrize("kind", [*KINDS, "last"])
def test_every_frame_can_be_read(
    budget: int, kind: str, crowding: Callable[[Scene], list[str]]
) -> None:
    opened = runs_of(budget)[kind]
    frames = list(opened.frames())
    for frame in [*frames[::9], *frames[-4:]]:
        for scene in (frame.scene, frame.narrow):
            assert scene is not None
            assert crowding(scene) == []
            assert scene.height < 700
    assert len({frame.scene.height for frame in frames}) == 1
    assert len({frame.narrow.height for frame in frames if frame.narrow}) == 1


@cache
def runs_of(budget: int) -> dict[str, Opened]:
    """Return what is open for each kind, under a budget."""
    run = Run(lambda: simulator(SchedulerConfig(max_num_batched_tokens=budget)))
    found = {kind: Opened(run, run.most(kind), kind) for kind in KINDS}
    return {**found, "last": Opened(run, len(run.glances) - 1)}


def test_the_time_line_is_the_run() -> None:
    run, simulation = runs_of(512)["cut"].run, simulator()
    steps = []
    while (step := simulation.step()) is not None:
        steps.append(step)
    assert [each.preempted for each in run.glances] == [step.num_preempted for step in steps]
    assert [each.admitted for each in run.glances] == [step.num_admitted for step in steps]
    assert [each.start for each in run.glances] == [step.start for step in steps]
    assert run.seconds == simulation.clock
    assert run.most("preempted") == next(n for n, s in enumerate(steps) if s.num_preempted)
    assert not run.has("passed_over")


def test_marks_stand_where_iterations_do_it_and_name_the_first() -> None:
    opened = runs_of(512)["preempted"]
    count = len(opened.run.glances)
    for width in (WIDE, SLIM):
        found = boxes(opened.scene(0, width))
        for kind in ("preempted", "cut", "admitted"):
            marks = [box for key, box in found.items() if key.startswith(f"{kind} ")]
            opens = [box.of[1] for box in marks if box.of is not None]
            assert opens == sorted(set(opens))
            has = [n for n, each in enumerate(opened.run.glances) if getattr(each, kind)]
            assert set(opens) <= set(has)
            counts = [int(box.tooltip.split()[4].replace(",", "")) for box in marks]
            assert sum(counts) == len(has)
            tallest = max(box.height for box in marks)
            assert tallest == 13
            for box, number in zip(marks, counts, strict=True):
                assert box.height == max(tallest * number / max(counts), 4)
        [line] = [s for s in flatten(opened.scene(0, width).shapes) if s.key == "open"]
        assert isinstance(line, Line)
        left, right = found["limit-budget"].x, width - 24
        share = (line.points[0][0] - left) / (right - left)
        assert share == pytest.approx((opened.iteration + 0.5) / count)


def test_what_is_opened_is_what_the_decision_log_says() -> None:
    opened, simulation, log = runs_of(512)["preempted"], simulator(), DecisionLog()
    for _ in range(opened.iteration):
        simulation.step()
    simulation.scheduler.log = log
    for number, (step, group) in enumerate(groupby(opened.moments, lambda each: each.step)):
        moments = list(group)
        simulation.step()
        decisions = log.of_step(number)
        assert step == opened.iteration + number
        served = {each.request_id: each.num_tokens for each in decisions if each.num_tokens}
        assert moments[-1].plan == served
        waits = {d.request_id: d.reason for d in decisions if d.action is Action.WAITS}
        assert moments[-1].reasons == waits
        victims = [(d.request_id, d.reason) for d in decisions if d.action is Action.IS_PREEMPTED]
        last = opened.moments.index(moments[-1])
        assert list(opened.gave_way[last].items()) == victims


def test_an_arrow_key_is_one_decision() -> None:
    opened = runs_of(512)["preempted"]
    for before, now in zip(opened.moments, opened.moments[1:], strict=False):
        if now.happening is Happening.SERVES:
            changed = {name for name in now.plan if now.plan[name] != before.plan.get(name)}
            assert changed == {now.request_id}
    assert figure().count == len(opened.moments)
    assert figure().index == 0


def test_budget_and_pool_shrink_to_scale() -> None:
    opened = runs_of(512)["cut"]
    for number, moment in enumerate(opened.moments):
        found = boxes(opened.scene(number))
        for limit, prefix, left, total in (
            ("budget", "grant-", moment.budget_left, 512),
            ("blocks", "pool-", len(moment.blocks["free_queue"]), FEW - 1),
        ):
            whole = found[f"limit-{limit}"]
            taken = sum(box.width for key, box in found.items() if key.startswith(prefix))
            assert taken == pytest.approx(whole.width * (total - left) / total)
            assert f": {left:,} of {total:,} " in whole.tooltip


def test_bars_have_two_marks_to_one_scale_in_both_columns() -> None:
    opened = runs_of(512)["preempted"]
    moment = opened.moments[-1]
    for width in (WIDE, SLIM):
        found = boxes(opened.scene(len(opened.moments) - 1, width))
        scales = set()
        for name, request in moment.state.requests.items():
            stretches = [found.get(f"{name}-{part}") for part in ("computed", "now", "known")]
            drawn = [box for box in stretches if box]
            if drawn:
                length = max(box.x + box.width for box in drawn) - min(box.x for box in drawn)
                scales.add(round(length / end_of(request), 2))
        assert len(scales) == 1


def test_a_victim_leaves_the_row_and_its_reason_stays_to_the_end() -> None:
    opened = runs_of(512)["preempted"]
    number = at(opened, Happening.PREEMPTS)
    victim, reason = opened.moments[number].request_id, opened.moments[number].reason
    assert boxes(opened.scene(number - 1))[f"{victim}-computed"].state == "in_use"
    after = boxes(opened.scene(number))
    assert after[f"{victim}-known"].state == "preempted"
    assert f"pool-{victim}" not in after
    for scene in (opened.scene(number), opened.twin()):
        assert f"{victim} gave way: {reason}." in scene.alt
        said = " ".join(scene.texts())
        assert f"{victim} gave way: " in said
    following = next(n for n, each in enumerate(opened.moments) if each.step > opened.iteration)
    assert "gave way" not in opened.scene(following).alt


def test_the_hand_points_at_whom_the_caption_is_about() -> None:
    for opened in runs_of(512).values():
        for number, moment in enumerate(opened.moments):
            for width in (WIDE, SLIM):
                scene = opened.scene(number, width)
                hands = [s for s in flatten(scene.shapes) if s.key == "hand"]
                assert len(hands) == (1 if moment.request_id else 0)
            if moment.request_id:
                assert opened.captions[number].startswith(moment.request_id)


def test_of_many_rows_those_are_shown_that_it_is_about() -> None:
    requests = [Request(f"r{n}", [n] * 20, max_tokens=40) for n in range(30)]
    own = viz.microscope(requests, num_blocks=FEW, iteration=4)
    opened = own.told
    for number, moment in enumerate(opened.moments):
        for width, rows in ((WIDE, 14), (SLIM, 6)):
            scene = opened.scene(number, width)
            hands = [s for s in flatten(scene.shapes) if s.key == "hand"]
            assert len(hands) == (1 if moment.request_id else 0)
            shown = [name for name in moment.state.running if f"{name}-says" in words(scene)]
            assert len(shown) == rows
            first = moment.state.running.index(shown[0])
            title = words(scene)["title-running"]
            assert title.endswith(f": {first + 1} to {first + rows} of 30")


def test_who_gets_nothing_because_the_budget_is_spent_is_not_skipped() -> None:
    requests = [Request(f"r{n}", [n] * 20, max_tokens=4) for n in range(2)]
    own = viz.microscope(requests, Shrinking, num_blocks=FEW, iteration=1)
    assert own.told.moments[-1].state.max_num_batched_tokens == 1
    assert "gets 0: budget" in set(own.told.twin().texts())
    assert not own.told.run.has("passed_over")


def test_captions_and_alts_are_true_of_their_frames() -> None:
    for opened in runs_of(512).values():
        for number, moment in enumerate(opened.moments):
            alt = opened.scene(number).alt
            assert opened.captions[number] in alt
            assert f"{moment.budget_left:,} of 512 tokens left" in alt
            assert f"{len(moment.blocks['free_queue']):,} of {FEW - 1:,} blocks left" in alt
            for name, count in moment.plan.items():
                assert count == 1 or f"{name} got {count:,}" in alt
            says = words(opened.scene(number))
            for name, count in moment.plan.items():
                assert says.get(f"{name}-says", f"gets {count:,}").startswith(f"gets {count:,}")


def test_alts_leave_names_as_they_are() -> None:
    requests = [Request(name, [ord(name)] * 20, max_tokens=4) for name in "pQ"]
    opened = viz.microscope(requests, num_blocks=FEW, iteration=0).told
    assert "So far p got 20, Q got 20." in opened.twin().alt
    assert "So far nobody got any token." in opened.scene(0).alt


def test_the_twin_is_the_end_of_the_iteration_that_preempts_most() -> None:
    opened = runs_of(512)["preempted"]
    assert figure().told.iteration == opened.iteration
    assert figure().told.twin().alt == opened.scene(at(opened, Happening.ENDS)).alt
    assert f"Iteration {opened.iteration:,} of a run of " in figure().description
    assert "gave way" in figure().description


def test_the_static_twin_does_not_collide(collisions: Callable[[Scene], list[str]]) -> None:
    assert collisions(figure().told.twin()) == []


def test_where_nothing_of_a_kind_happens_the_caption_says_so() -> None:
    opened = runs_of(16)["passed_over"]
    assert opened.captions[0].startswith("No iteration of this run skips anybody who runs; ")
    assert opened.iteration == opened.run.most("admitted")


def test_controls_and_picks_open_another_iteration() -> None:
    own = viz.microscope(some(), num_blocks=FEW)
    own.set(opened="cut")
    cut = own.told.iteration
    assert own.told.run.glances[cut].cut
    own._choose(("iteration", 5))
    assert (own.told.iteration, own.values["opened"], own.index) == (5, "picked", 0)
    own._choose(("request", "7"))
    assert own.told.iteration == 5
    own.set(budget=64)
    assert own.told.iteration == 5
    assert "of 64 tokens left" in own.film[0].scene.alt
    own.open_iteration(len(own.told.run.glances) - 1)
    own.set(budget=2048)  # a shorter run
    assert own.told.iteration == len(own.told.run.glances) - 1
    with pytest.raises(ValueError, match="no iteration -1"):
        own.open_iteration(-1)


def test_an_index_that_stays_when_a_victim_leaves_skips_somebody() -> None:
    requests = [
        Request("lo", range(5), max_tokens=40, priority=5),
        Request("h1", range(100, 132), max_tokens=20, arrival_time=0.001),
        Request("h2", range(200, 220), max_tokens=20, arrival_time=0.001),
    ]
    config = SchedulerConfig(max_num_batched_tokens=64, policy="priority")
    right = viz.microscope(requests, config=config, num_blocks=6)
    assert not right.told.run.has("passed_over")
    wrong = viz.microscope(requests, Skipping, config=config, num_blocks=6)
    assert wrong.told.run.has("passed_over")
    wrong.set(opened="passed_over")
    number = at(wrong.told, Happening.WAITS)
    assert wrong.film[number].caption.startswith("h2 waits: it was passed over.")
    assert wrong.film[number].event == "h2 passed over"
    assert "skips" in list(wrong.film[0].scene.texts())
    assert "skips" not in list(right.film[0].scene.texts())


def test_who_is_swapped_out_waits_with_what_it_has() -> None:
    config = SchedulerConfig(max_num_batched_tokens=512, preemption_mode="swap", num_cpu_blocks=FEW)
    own = viz.microscope(some(), config=config, num_blocks=FEW)
    number = at(own.told, Happening.PREEMPTS)
    victim = own.told.moments[number].request_id
    assert boxes(own.film[number].scene)[f"{victim}-computed"].state == "swapped"
    title = words(own.film[number].scene)["title-waiting"]
    assert title.startswith("waiting, those on the CPU first: ")
    assert words(figure().film[0].scene)["title-waiting"].startswith("waiting, next in line first")


def test_what_a_scheduler_does_wrong_stands_in_the_picture(
    crowding: Callable[[Scene], list[str]],
) -> None:
    stopped = viz.microscope(some(), Stopping, num_blocks=FEW)
    assert stopped.values["opened"] == "last"
    assert stopped.told.iteration == len(stopped.told.run.glances) - 1
    frame = stopped.film[0]
    for scene in (frame.scene, frame.narrow):
        assert scene is not None
        assert "IndexError: list index out of range" in " ".join(scene.texts())
        assert crowding(scene) == []
    refusing = viz.microscope(some(), Refusing, num_blocks=FEW)
    assert refusing.count == 1
    assert "NotImplementedError" in refusing.description


def test_a_scheduler_that_is_different_every_time_is_told() -> None:
    made: list[Scheduler] = []

    def make(*arguments: Any) -> Scheduler:
        made.append((Scheduler if not made else Refusing)(*arguments))
        return made[-1]

    own = viz.microscope(some(), make, num_blocks=FEW)
    assert own.count == 1
    assert "A second run of the same requests failed: NotImplementedError" in own.description


def test_the_learners_own_part_is_run(workspace: object) -> None:
    parts.save(
        "Scheduler.limit_chunk",
        "def limit_chunk(self, request, num_new_tokens, budget):\n"
        "    return min(num_new_tokens, budget, 7)\n",
    )
    own = viz.microscope(some(6), num_blocks=FEW)
    assert max(own.told.moments[-1].plan.values()) <= 7
    assert any(each.cut for each in own.told.run.glances)


def test_what_cannot_be_shown_is_refused() -> None:
    with pytest.raises(ValueError, match="there are no requests"):
        viz.microscope([])
    with pytest.raises(ValueError, match="num_blocks is 1"):
        viz.microscope(some(2), num_blocks=1)
    with pytest.raises(ValueError, match="no iteration 99999"):
        viz.microscope(some(2), iteration=99999)
