"""The playground: what its dashboard says is what the simulation gave, and it refuses in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from itertools import pairwise
from pathlib import Path

import pytest

from course_lib.simulation.result import SimulationResult
from course_lib.simulation.setup import Setup, SetupError, figures, run
from course_lib.simulation.sweep import SweepPoint, run_point
from course_lib.viz import NARROW, WIDE, Playground
from course_lib.viz.kit.layout import SLIM
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Line
from course_lib.viz.playground import sweeping
from course_lib.viz.playground.dashboard import dashboard_scene
from course_lib.viz.playground.figure import setup_of
from course_lib.viz.playground.runs import Bench, differences
from course_lib.viz.playground.sweeping import progress_scene
from course_lib.viz.playground.window import lives_of, window_of

TIGHT = Setup(requests=60, rate=20.0, blocks=300)
START = {"workload": "poisson", "requests": 50, "pool": 1, "rate": 20.0}


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


@pytest.fixture
def playground(tmp_path: Path) -> Playground:
    return Playground(tmp_path, START)


def a_file(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


HEAD = "arrival_time,prompt_tokens,output_tokens"


# What is drawn


@pytest.mark.parametrize("width", [WIDE, NARROW, SLIM])
@pytest.mark.parametrize("window", [0.0, 0.5, 0.9])
def test_it_can_be_read_in_both_forms(
    bench: Bench, width: float, window: float, crowding: Callable[[Scene], list[str]]
) -> None:
    now = bench.run(TIGHT)
    kept = bench.run(Setup("gamma", requests=40, policy="sjf", gpu="h100", model="llama-2-7b"))
    for scene in (
        dashboard_scene(now, None, window, width),
        dashboard_scene(now, kept, window, width),
    ):
        assert crowding(scene) == []
        assert scene.width <= width


def test_the_numbers_are_those_of_the_simulation(bench: Bench) -> None:
    told = figures(TIGHT, run(TIGHT, None))
    scene = dashboard_scene(bench.run(TIGHT))
    assert f"p50 {told['ttft_p50']:.3g} s" in scene.alt or f"median {told['ttft_p50']:.3g} s" in (
        scene.alt
    )
    assert f"good {told['goodput']:.3g} requests/s" in scene.alt
    assert f"Preemptions. all {told['num_preemptions']:g}." in scene.alt
    assert f"{told['num_finished']:g} of 60 requests served" in scene.alt


def test_two_set_ups_share_every_axis(bench: Bench) -> None:
    now, kept = bench.run(TIGHT), bench.run(Setup(requests=60, rate=20.0, policy="sjf"))
    scene = dashboard_scene(now, kept)
    curves = [shape for shape in scene.shapes if isinstance(shape, Line) and shape.state]
    for chart in ("KV cache", "Requests that wait", "Requests that run"):
        keys = {c.key.split("/")[1] for c in curves if c.key.startswith(f"{chart}/")}
        assert keys == {"now", "kept"}
    for title in ("Time to first token", "Gap between tokens", "End to end"):
        assert list(scene.texts()).count(title) == 1
    assert "KV cache: kept as it fits, now 300 blocks" in scene.alt


def test_two_that_are_the_same_are_told_to_be(bench: Bench) -> None:
    assert "Both are the same so far" in dashboard_scene(bench.run(TIGHT), bench.run(TIGHT)).alt
    assert differences(TIGHT, TIGHT) == []


def test_requests_of_one_token_have_no_gaps_and_no_chart_of_them(tmp_path: Path) -> None:
    path = a_file(tmp_path, "short.csv", f"{HEAD}\n0,9,1\n1,9,1\n")
    titles = set(dashboard_scene(Bench().run(Setup(path))).texts())
    assert "Time to first token" in titles
    assert "Gap between tokens" not in titles


# Who did what


def test_a_life_is_whole_and_says_what_the_simulator_wrote_down() -> None:
    result = run(TIGHT, None)
    assert result.num_preemptions > 5
    told = zip(result.requests, result.token_log, result.pauses, lives_of(result), strict=True)
    for request, times, pauses, spans in told:
        assert spans[0].start == request.arrival_time
        assert spans[-1].end == times[-1]
        assert all(before.end == after.start for before, after in pairwise(spans))
        lost = [(span.start, span.end) for span in spans if span.state == "preempted"]
        assert lost == [(pause.start, pause.end) for pause in pauses]
        # A token comes at the end of a prefill, or while it decodes: never while it has no place.
        for time in times:
            (at,) = (span for span in spans if span.start < time <= span.end)
            assert at.state == "decode" or (at.state == "prefill" and at.end == time)


def test_without_pauses_on_record_a_life_is_drawn_all_the_same() -> None:
    result = run(TIGHT, None)
    bare = SimulationResult(result.requests, result.token_log, result.steps)
    states = {span.state for spans in lives_of(bare) for span in spans}
    assert states == {"waiting", "prefill", "decode"}


@pytest.mark.parametrize(("at", "start", "end"), [(0, 0, 0.1), (0.5, 0.5, 0.6), (1, 0.9, 1)])
def test_a_window_stays_within_the_run(at: float, start: float, end: float) -> None:
    result = run(TIGHT, None)
    first, makespan = result.arrival_times.min(), result.makespan
    window = window_of(result, at)
    assert window == pytest.approx((first + start * makespan, first + end * makespan))


# The controls


def test_the_pool_is_a_share_of_what_fits(playground: Playground) -> None:
    one = playground.setup.blocks
    playground.set(pool=100)
    everything = playground.setup.blocks
    assert one is not None
    assert everything is not None
    assert one == everything // 100


def test_to_swap_there_is_room_on_the_cpu(playground: Playground) -> None:
    playground.set(preemption_mode="swap")
    assert playground.setup.num_cpu_blocks == playground.setup.blocks
    playground.set(preemption_mode="recompute")
    assert playground.setup.num_cpu_blocks == 0


def test_only_what_was_recorded_has_a_rate_of_its_own(playground: Playground) -> None:
    playground.set(own_clock=True)
    assert playground.setup.rate == START["rate"]
    playground.set(workload="azure-code")
    assert playground.setup.rate is None


def test_what_the_controls_say_is_what_is_simulated(playground: Playground) -> None:
    said = {
        "policy": "srpt",
        "victim_policy": "least_computed",
        "max_num_seqs": 8,
        "max_num_batched_tokens": 256,
        "caching": True,
        "model": "llama-2-7b",
        "gpu": "h100",
    }
    playground.set(**said)
    assert {name: getattr(playground.setup, name) for name in said} == said
    assert playground.command.startswith("course simulate poisson --requests 50 --rate 20.0")


def test_keeping_compares_with_what_was_shown(playground: Playground) -> None:
    before = playground.now
    playground.set(keep=True)
    assert playground.kept is before
    playground.set(policy="sjf")
    assert playground.kept is before
    assert "Policy: kept fcfs, now sjf" in playground.scene.alt
    playground.set(keep=False)
    assert playground.kept is None
    assert "kept" not in playground.scene.alt


def test_moving_the_window_simulates_nothing_anew(playground: Playground) -> None:
    before = playground.now
    playground.set(window=70)
    assert playground.now is before


# What cannot be


def test_a_bad_file_is_refused_in_words_and_the_last_picture_stays(tmp_path: Path) -> None:
    bad = a_file(tmp_path, "bad.csv", f"{HEAD}\n0,9,none\n")
    playground = Playground(tmp_path, START)
    before = playground.frames
    playground.set(workload=bad)
    assert "bad.csv, line 2: output_tokens is 'none'; it must be a whole number" in (
        playground.message
    )
    assert playground.keeps
    assert playground.frames == before
    assert playground.setup.workload == "poisson"
    playground.set(workload="gamma")
    assert playground.message == ""


def test_a_file_that_was_mended_is_read_anew(tmp_path: Path) -> None:
    import os

    path = a_file(tmp_path, "mine.csv", f"{HEAD}\n0,9,9\n1,9,9\n")
    playground = Playground(tmp_path, START | {"workload": path, "own_clock": True})
    assert playground.now is not None
    assert playground.now.figures["num_requests"] == 2
    a_file(tmp_path, "mine.csv", f"{HEAD}\n0,9,9\n1,9,9\n2,9,9\n")
    os.utime(path, ns=(1, 1))
    playground.set(policy="sjf")
    assert playground.now.figures["num_requests"] == 3


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"model": "llama-3.1-70b", "gpu": "l4"}, "Llama-3.1-70B on one L4: -"),
        ({"model": "llama-3.1-70b", "gpu": "l4"}, "use a larger GPU, a smaller model"),
        ({"policy": "priority"}, "no two requests of poisson differ in it; choose one of fcfs"),
        ({"policy": "vtc"}, "or workload closed, which has clients"),
        ({"policy": "edf"}, "looks at the deadline of a request"),
    ],
)
def test_a_setting_that_cannot_be_names_the_remedy(
    playground: Playground, said: dict[str, str], says: str
) -> None:
    before = playground.now
    playground.set(**said)
    assert says in playground.message
    assert playground.now is before


def test_requests_that_are_all_too_long_are_refused(tmp_path: Path) -> None:
    path = a_file(tmp_path, "long.csv", f"{HEAD}\n0,900000,9\n1,900000,9\n")
    with pytest.raises(SetupError, match="none of the 2 requests is served"):
        Bench().run(Setup(path, blocks=100))


def test_a_part_of_ones_own_that_fails_is_named_and_the_picture_stays(
    playground: Playground, workspace: Path
) -> None:
    folder = workspace / "my_engine" / "BlockPool"
    folder.mkdir(parents=True)
    file = folder / "get_new_blocks.py"
    file.write_text("def get_new_blocks(self, num_blocks):\n    return 1 / 0\n", encoding="utf-8")
    playground.set(parts="own")
    assert "your BlockPool.get_new_blocks raised ZeroDivisionError" in playground.message
    assert playground.setup.parts == "reference"


def test_whose_parts_it_ran_on_is_said(playground: Playground, workspace: Path) -> None:
    playground.set(parts="own")
    assert "None of the parts of a simulation is yours so far" in playground.scene.alt
    (workspace / "my_engine").mkdir()
    source = (
        "from course_lib.scheduling.policies import *\n\n"
        "class FCFSRequestQueue(FCFSRequestQueue):\n    pass\n"
    )
    (workspace / "my_engine" / "FCFSRequestQueue.py").write_text(source, encoding="utf-8")
    playground.set(policy="srpt")
    playground.set(policy="fcfs")
    assert "Yours: FCFSRequestQueue. The others are the reference." in playground.scene.alt


def test_a_control_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no control 'speed'; known: workload, requests"):
        Playground(tmp_path, {"speed": 9})


def test_values_of_all_controls_describe_a_set_up(playground: Playground) -> None:
    assert setup_of(playground.values) == playground.setup


# Sweeps and reports


@pytest.fixture
def swept_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a sweep in this process: a cluster is tested with the sweep itself."""

    def sweep(setups: list[Setup], trace: None, workers: int, on_done: Callable[..., None]) -> list:
        points: list[SweepPoint] = []
        for setup in setups:
            points.append(run_point(setup, trace))
            on_done(len(points), len(setups))
        return points

    monkeypatch.setattr(sweeping, "run_sweep", sweep)


@pytest.mark.usefixtures("swept_here")
def test_a_sweep_begins_at_what_is_shown_and_has_a_bar(playground: Playground) -> None:
    playground.set(policy="sjf")
    sweep = playground.sweep("max-num-seqs", [4, 16])
    assert sweep.points == ()
    sweep.run()
    assert [point.setup.max_num_seqs for point in sweep.points] == [4, 16]
    assert {point.setup.policy for point in sweep.points} == {"sjf"}
    captions = [frame.caption for frame in sweep.film]
    assert captions[:3] == ["0 of 2 simulated.", "1 of 2 simulated.", "2 of 2 simulated."]
    bars = [
        next(rect.width for rect in frame.scene.rects() if rect.key == "done")
        for frame in sweep.film[:3]
    ]
    assert bars[0] == 0 < bars[1] == pytest.approx(bars[2] / 2)


@pytest.mark.usefixtures("swept_here")
def test_values_that_cannot_be_are_told_beside_those_that_can(
    playground: Playground, crowding: Callable[[Scene], list[str]]
) -> None:
    sweep = playground.sweep("watermark", [0.0, 2.0]).run()
    assert "watermark is 2.0; it is a share from 0 to below 1" in sweep.film[-1].scene.alt
    assert sweep.film[-1].caption == "1 of 2 simulated; 1 could not be."
    assert crowding(sweep.film[-1].scene) == []
    nothing = playground.sweep("watermark", [2.0]).run()
    assert "watermark is 2.0" in nothing.film[-1].scene.alt


def test_a_sweep_over_what_is_no_parameter_is_refused(playground: Playground) -> None:
    with pytest.raises(SetupError, match="there is no parameter 'speed'"):
        playground.sweep("speed", [1])
    with pytest.raises(SetupError, match="has no value"):
        playground.sweep("rate", [])
    with pytest.raises(SetupError, match="has not run; call its run"):
        playground.save("never.html", playground.sweep("rate", [1]))
    assert not Path("never.html").exists()


def test_a_bar_says_how_far_it_is() -> None:
    scene = progress_scene("Sweep", 3, 4)
    widths = {rect.key: rect.width for rect in scene.rects()}
    assert widths["done"] == pytest.approx(0.75 * widths["all"])


@pytest.mark.usefixtures("swept_here")
def test_a_report_is_one_page_with_every_number(playground: Playground, tmp_path: Path) -> None:
    playground.set(keep=True)
    playground.set(policy="sjf")
    path = playground.save(tmp_path / "report.html", playground.sweep("rate", [2, 4]).run())
    page = path.read_text(encoding="utf-8")
    assert "http://" not in re.sub(r"http://www\.w3\.org/[\w/]+", "", page)
    assert "<script src" not in page
    assert "<link" not in page
    text = unescape(page)
    assert playground.command in text
    assert f"{playground.command} --sweep rate=2,4" in text
    assert playground.now is not None
    assert f"{playground.now.figures['num_steps']:,.0f}</td>" in text
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
    assert playground.to_html().count("scene-standalone") < page.count("scene-standalone")


def test_a_report_that_cannot_be_written_leaves_nothing(
    playground: Playground, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="nowhere"):
        playground.save(tmp_path / "nowhere" / "report.html")
    assert list(tmp_path.iterdir()) == []
