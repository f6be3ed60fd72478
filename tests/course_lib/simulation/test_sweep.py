"""course simulate: set-ups from the command line, sweeps on a cluster, reports that are whole."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from rich.console import Console

from autograder import cli
from autograder.bench.simulator import simulator_suite
from autograder.commands import simulate as simulate_command
from autograder.terminal import simulations
from autograder.terminal.simulation_tables import sweep_table
from course_lib.simulation import ClosedLoop, Workload, traces_dir
from course_lib.simulation import report as simulation_report
from course_lib.simulation import sweep as simulation_sweep
from course_lib.simulation.setup import (
    PARAMETERS,
    TRACES,
    WORKLOADS,
    Setup,
    SetupError,
    figures,
    load_trace,
    make_requests,
    parse_sweep,
    run,
    with_settings,
)
from course_lib.simulation.sweep import SweepPoint, run_sweep

COURSE = [sys.executable, "-c", "from autograder.cli import main; main()"]
SMALL = Setup(requests=40)
FEW_LINES = Workload.from_columns("few", range(30), [100] * 30, [5] * 30, source="thirty")

needs_the_measured_run = pytest.mark.skipif(
    traces_dir() is None, reason="needs vllm_run_rtx4090/ in the folder that COURSE_TRACES names"
)


@pytest.fixture
def course(monkeypatch, capsys):
    """Run ``course simulate`` as the console script does; return exit code, stdout and stderr."""
    monkeypatch.setattr(simulate_command, "console", Console(width=200))

    def course(*arguments):
        monkeypatch.setattr(sys, "argv", ["course", "simulate", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return course


class TestSetup:
    @pytest.mark.parametrize("workload", WORKLOADS)
    def test_every_workload_can_be_simulated(self, workload, monkeypatch):
        for name in TRACES:
            monkeypatch.setitem(TRACES, name, lambda: FEW_LINES)
        setup = Setup(workload, requests=20)
        numbers = figures(setup, run(setup, load_trace(setup)))
        assert numbers["num_finished"] == 20

    @pytest.mark.parametrize("workload", ["poisson", "gamma", "on-off"])
    def test_arrivals_have_the_rate(self, workload):
        requests = make_requests(Setup(workload, requests=50_000, rate=3.0), None)
        assert len(requests) / requests[-1].arrival_time == pytest.approx(3.0, rel=0.1)

    def test_a_trace_is_stretched_to_a_rate(self):
        requests = make_requests(Setup(rate=2.0, requests=11), FEW_LINES)
        assert [r.arrival_time for r in requests] == [0.5 * i for i in range(11)]
        assert requests.source == "thirty; stretched to 2 requests per second"

    def test_a_closed_loop_has_clients(self):
        loop = make_requests(with_settings(SMALL, ["clients=7"]), None)
        assert type(loop) is Workload
        loop = make_requests(Setup("closed", requests=9, clients=7, think_seconds=1.5), None)
        assert isinstance(loop, ClosedLoop)
        assert (len(loop.requests), loop.num_clients, loop.think_seconds) == (9, 7, 1.5)

    def test_one_parameter_does_not_shift_what_is_drawn_for_the_others(self):
        def drawn(setup):
            return [(r.prompt_tokens, r.output_tokens) for r in make_requests(setup, None)]

        assert drawn(Setup(requests=20)) == drawn(Setup("gamma", requests=20, rate=9.0))
        assert drawn(Setup(requests=20)) != drawn(Setup(requests=20, seed=1))

    @needs_the_measured_run
    def test_the_measured_run_is_simulated_as_it_was_configured(self):
        setup = Setup("vllm-run")
        numbers = figures(setup, run(setup, load_trace(setup)))
        assert numbers["makespan"] == pytest.approx(183.567, rel=0.05)
        assert numbers["ttft_mean"] == pytest.approx(65.457, rel=0.05)


class TestSettings:
    def test_values_are_read_as_their_type(self):
        texts = ["max-num-seqs=7", "watermark=0.25", "caching=yes", "policy=sjf", "--gpu=h100"]
        setup = with_settings(Setup(), texts)
        assert (setup.max_num_seqs, setup.watermark) == (7, 0.25)
        assert (setup.caching, setup.policy, setup.gpu) == (True, "sjf", "h100")

    @pytest.mark.parametrize("name", PARAMETERS)
    def test_every_parameter_can_be_set(self, name):
        text = {"caching": "no", "preemption_mode": "swap", "parts": "own"}.get(name, "5")
        assert getattr(with_settings(Setup(), [f"{name}={text}"]), name) is not None

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("speed=9", "there is no parameter 'speed'; known: requests, rate"),
            ("rate", "'rate' has no value"),
            ("rate=", "'rate=' has no value"),
            ("rate=1,2", "has 2 values"),
            ("rate=fast", "rate is 'fast'; it must be a number"),
            ("seed=1.5", "seed is '1.5'; it must be a whole number"),
            ("caching=maybe", "caching is 'maybe'; it must be yes or no"),
            ("rate=nan", "rate is nan; it must be above 0"),
            ("requests=0", "requests is 0; it must be above 0"),
            ("slo-ttft=0", "slo_ttft is 0.0; it must be above 0, inf for no bound"),
            ("max-seconds=nan", "max_seconds is nan; it must be above 0"),
            ("seed=-1", "seed is -1; it must be 0 or more"),
        ],
    )
    def test_mistakes_are_named(self, text, message):
        with pytest.raises(SetupError) as error:
            with_settings(Setup(), [text])
        assert message in str(error.value)

    def test_a_sweep_has_a_setup_per_value(self):
        name, setups = parse_sweep("max-num-seqs=1,2,4", SMALL)
        assert name == "max_num_seqs"
        assert [setup.max_num_seqs for setup in setups] == [1, 2, 4]
        assert {setup.requests for setup in setups} == {40}


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["carrier-pigeon"], "there is no workload 'carrier-pigeon'; choose one of: poisson"),
            (["poisson", "--model", "llama-3.1-8"], "did you mean 'llama-3.1-8b'?"),
            (["poisson", "--gpu", "abacus"], "no 'abacus' in this catalogue"),
            (["poisson", "--policy", "whim"], "no policy 'whim'"),
            (["poisson", "--blocks", "0"], "num_blocks is 0"),
            (["poisson", "--set", "watermark=7"], "watermark is 7.0"),
            (["poisson", "--set", "preemption-mode=hope"], "preemption_mode is 'hope'"),
            (["poisson", "--gpu", "l4", "--model", "llama-2-70b"], "less than one block"),
            (["poisson", "--experiment", "luck"], "there is no experiment 'luck'"),
            (
                ["poisson", "--rate", "90", "--set", "max-seconds=5"],
                "after 5 s on the virtual clock",
            ),
            (
                ["--sweep", "rate=1", "--scheduler", "tcp://127.0.0.1:1"],
                "no dask scheduler answers",
            ),
            *(
                (["--sweep", "rate=1", "--scheduler", address], "write one like tcp://")
                for address in ("cluster", "tcp://127.0.0.1", "tcp://127.0.0.1:x", "http://a:80")
            ),
            (["--workers", "2"], "--scheduler and --workers are for a --sweep"),
            (
                ["--experiment", "sjf", "--sweep", "rate=1"],
                "leave --sweep, --set and --against out",
            ),
        ],
    )
    def test_are_one_line(self, course, arguments, message, monkeypatch):
        monkeypatch.setattr(simulation_sweep, "CONNECT_TIMEOUT", "1s")
        code, _, err = course(*arguments)
        assert code == 1
        assert err.startswith("course: ")
        assert message in err
        assert len(err.splitlines()) == 1

    def test_a_traces_folder_that_does_not_exist_is_named(self, course, tmp_path, monkeypatch):
        monkeypatch.setenv("COURSE_TRACES", str(tmp_path / "nowhere"))
        for arguments in (["vllm-run"], ["--experiment", "capacity"]):
            code, _, err = course(*arguments)
            assert code == 1
            assert "COURSE_TRACES is" in err
            assert len(err.splitlines()) == 1

    def test_what_stands_in_for_a_missing_run_says_so(self, course, tmp_path, monkeypatch):
        monkeypatch.setenv("COURSE_TRACES", str(tmp_path))
        code, out, _ = course("vllm-run")
        assert code == 0
        assert "Synthetic: Poisson arrivals" in out
        assert "measured and simulated" not in out
        code, out, _ = course("--experiment", "capacity")
        assert code == 0
        assert "(synthetic), 300 requests" in out


class TestTables:
    def test_a_sweep_keeps_its_digits_on_80_columns(self, capsys):
        _, setups = parse_sweep("long-prefill-token-threshold=0,2048", SMALL)
        numbers = figures(SMALL, run(SMALL, None)) | {"e2e_mean": 9876.5, "ttft_mean": 0.00123456}
        points = [SweepPoint(setup, numbers) for setup in setups]
        Console(width=80).print(sweep_table("long_prefill_token_threshold", points))
        out = capsys.readouterr().out
        assert "…" not in out
        assert out.count("0.00123 ") == out.count("9,876 ") == 2
        assert "2048" in out


class TestReport:
    def test_holds_figures_tables_and_a_trace(self, course, tmp_path):
        folder = tmp_path / "reports" / "one"
        code, out, _ = course("--requests", 40, "--report", folder)
        assert code == 0
        assert "TTFT" in out
        assert "40 requests in" in out
        assert {path.name for path in folder.iterdir()} == {
            "report.md",
            "summary.json",
            "requests.csv",
            "steps.csv",
            "trace.json",
            "latencies.png",
            "timeline.png",
        }
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["setup"]["requests"] == summary["figures"]["num_finished"] == 40
        with (folder / "requests.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 40
        assert float(rows[0]["ttft"]) > 0
        assert rows[0]["status"] == "finished_length_capped"
        assert json.loads((folder / "trace.json").read_text())["traceEvents"]
        assert "40 requests in" in (folder / "report.md").read_text()

    def test_of_requests_that_are_all_refused_is_still_valid_json(self, course, tmp_path):
        code, _, _ = course("--requests", 3, "--blocks", 2, "--report", tmp_path / "none")
        assert code == 0
        figures = json.loads((tmp_path / "none" / "summary.json").read_text())["figures"]
        assert figures["num_ignored"] == 3
        assert figures["ttft_mean"] is None

    def test_nothing_is_overwritten_and_nothing_computed_first(self, course, tmp_path, monkeypatch):
        monkeypatch.setattr(simulations, "run", lambda *_: pytest.fail("was computed"))
        code, _, err = course("--report", tmp_path)
        assert code == 1
        assert "is there already" in err

    def test_an_interrupted_one_leaves_nothing(self, course, tmp_path, monkeypatch):
        def interrupt(path, result):
            raise KeyboardInterrupt

        monkeypatch.setattr(simulation_report, "_write_requests", interrupt)
        code, _, err = course("--requests", 10, "--report", tmp_path / "half")
        assert code == 130
        assert "nothing is half written" in err
        assert list(tmp_path.iterdir()) == []


class TestSweep:
    def test_runs_on_a_cluster_that_ends_with_it(self, course, tmp_path):
        folder = tmp_path / "sweep"
        arguments = ("--requests", 40, "--workers", 2, "--report", folder)
        code, out, err = course("--sweep", "max-num-seqs=1,0,64", *arguments)
        # What could be simulated is shown and written; what could not is the error.
        assert code == 1
        assert err == "course: max_num_seqs=0: max_num_seqs is 0; it must be at least 1\n"
        assert "sweep over max_num_seqs" in out
        with (folder / "sweep.csv").open(newline="") as file:
            one, none, many = csv.DictReader(file)
        assert float(one["ttft_mean"]) > 10 * float(many["ttft_mean"])
        assert "must be at least 1" in none["error"]
        assert (folder / "sweep.png").stat().st_size > 5_000
        assert _workers() == []

    def test_gives_what_single_runs_give(self):
        _, setups = parse_sweep("rate=2,8", SMALL)
        points = run_sweep(setups, None, workers=1)
        assert [point.figures for point in points] == [figures(s, run(s, None)) for s in setups]

    def test_runs_on_a_cluster_of_ones_own_and_sends_the_trace(self):
        from distributed import LocalCluster

        done = []
        setups = [Setup("azure-code", requests=n) for n in (5, 10)]
        with LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=False,
            protocol="tcp://",
            dashboard_address=None,
            host="127.0.0.1",
        ) as cluster:
            points = run_sweep(
                setups,
                FEW_LINES,
                cluster.scheduler_address,
                on_done=lambda number, total: done.append((number, total)),
            )
            assert cluster.scheduler.status.name == "running"
        assert [point.figures["num_requests"] for point in points] == [5, 10]
        assert {point.figures["output_tokens_per_second"] > 0 for point in points} == {True}
        assert done == [(1, 2), (2, 2)]

    @pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
    @pytest.mark.parametrize("seconds", [0.0, 0.3, 1.0], ids=["starting", "importing", "running"])
    def test_ctrl_c_leaves_no_report_and_no_process(self, seconds, tmp_path):
        arguments = ("--requests", "200000", "--sweep", "rate=3,4", "--workers", "2")
        process = subprocess.Popen(
            [*COURSE, "simulate", *arguments, "--report", str(tmp_path / "sweep")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 60
            while len(_workers(process.pid)) < 2 and time.monotonic() < deadline:
                time.sleep(0.1)
            workers = _workers(process.pid)
            time.sleep(seconds)
            os.killpg(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 130
        assert err == "course: interrupted; nothing is half written, run the command again\n"
        assert workers
        assert [worker for worker in workers if _is_alive(worker)] == []
        assert list(tmp_path.iterdir()) == []


def _workers(parent=None):
    """The living worker processes of a process, this one if none is given."""
    children = psutil.Process(parent).children()
    return [child for child in children if _is_alive(child) and "spawn_main" in _command(child)]


def _is_alive(process):
    """Whether a process exists and is not a zombie."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _command(process):
    """What a process was started with."""
    return " ".join(process.cmdline())


def test_an_experiment_is_a_table(course, monkeypatch):
    monkeypatch.setitem(
        simulations.EXPERIMENTS,
        "thrash",
        lambda on_run: _few_thrash(FEW_LINES, on_run=on_run),
    )
    code, out, _ = course("--experiment", "thrash")
    assert code == 0
    assert "whole prompt fits" in out
    assert "preemptions" in out


def test_the_report_of_an_experiment_has_its_table_and_a_figure(course, monkeypatch, tmp_path):
    monkeypatch.setitem(
        simulations.EXPERIMENTS,
        "thrash",
        lambda on_run: _few_thrash(FEW_LINES, on_run=on_run),
    )
    folder = tmp_path / "thrash"
    code, _, _ = course("--experiment", "thrash", "--report", folder)
    assert code == 0
    with (folder / "comparison.csv").open(newline="") as file:
        first_chunk, whole_prompt = csv.DictReader(file)
    assert first_chunk["set-up"] == "first chunk fits"
    assert float(whole_prompt["makespan"]) > 29
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["results"]["whole prompt fits"]["num_finished"] == 30
    assert (folder / "comparison.png").stat().st_size > 5_000
    code, _, err = course("--experiment", "thrash", "--report", folder)
    assert code == 1
    assert "is there already" in err


_few_thrash = simulations.EXPERIMENTS["thrash"]


def test_the_benchmark_measures_request_steps_per_second():
    suite = simulator_suite()
    names = [case.name for case in suite.cases]
    assert names[:3] == [f"decode: {n:5,} running" for n in (64, 256, 1024)]
    assert suite.cases[0].contenders["course"]() > 10_000


class TestAgainst:
    def test_two_set_ups_are_printed_side_by_side(self, course):
        code, out, _ = course("--requests", 40, "--against", "policy=sjf", "--against", "rate=9")
        assert code == 0
        assert "Arrival rate: not set, against 9 requests/s; Policy: fcfs, against sjf" in out
        rows = [line for line in out.splitlines() if line.startswith(("│ first", "│ against"))]
        assert len(rows) == 2
        assert "first: 40 requests in" in out
        assert "against: 40 requests in" in out

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--against", "policy=fcfs"), "--against policy=fcfs changes nothing"),
            (("--against", "speed=9"), "there is no parameter 'speed'"),
            (("--against", "rate=9", "--sweep", "rate=1,2"), "a --sweep is a comparison already"),
            (("--against", "rate=9", "--experiment", "thrash"), "leave --sweep, --set and"),
        ],
    )
    def test_what_cannot_be_compared_is_refused(self, course, arguments, says):
        code, _, err = course("--requests", 5, *arguments)
        assert code != 0
        assert says in err

    def test_a_report_of_two_is_a_folder_or_one_page(self, course, tmp_path):
        asked = ("--requests", 20, "--against", "policy=sjf", "--report")
        assert course(*asked, tmp_path / "folder")[0] == 0
        assert (tmp_path / "folder" / "comparison.csv").is_file()
        assert course(*asked, tmp_path / "page.html")[0] == 0
        text = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert "course simulate poisson --requests 20 --policy sjf" in text


class TestOnePage:
    def test_a_simulation_is_written_to_one_page(self, course, tmp_path):
        path = tmp_path / "new" / "page.html"
        code, out, _ = course("--requests", 20, "--report", path)
        assert code == 0
        assert f"wrote {path}" in out
        assert "Time to first token" in path.read_text(encoding="utf-8")
        assert [each.name for each in path.parent.iterdir()] == ["page.html"]

    def test_a_sweep_is_written_to_one_page(self, course, tmp_path, monkeypatch):
        def here(setups, trace, scheduler, workers, on_done):
            return [simulation_sweep.run_point(setup, trace) for setup in setups]

        monkeypatch.setattr(simulations, "run_sweep", here)
        path = tmp_path / "page.html"
        sweep = ("--sweep", "watermark=0,0.5,2", "--report", path)
        code, _, err = course("--requests", 20, *sweep)
        assert code != 0
        assert "watermark=2.0: watermark is 2.0; it is a share" in err
        text = path.read_text(encoding="utf-8")
        assert "watermark is 2.0; it is a share" in text
        assert "--sweep watermark=0,0.5,2" in text

    def test_what_is_there_is_not_replaced_and_what_cannot_be_written_is_said(
        self, course, tmp_path
    ):
        path = tmp_path / "page.html"
        path.write_text("mine", encoding="utf-8")
        code, _, err = course("--requests", 5, "--report", path)
        assert code != 0
        assert "is there already" in err
        assert path.read_text(encoding="utf-8") == "mine"
        code, _, err = course("--requests", 5, "--report", path / "below.html")
        assert code != 0
        assert f"cannot write {path / 'below.html'}" in err

    def test_an_experiment_is_a_folder(self, course, tmp_path):
        code, _, err = course("--experiment", "thrash", "--report", tmp_path / "x.html")
        assert code != 0
        assert "an experiment is written to a folder" in err


def test_a_cluster_elsewhere_does_not_have_ones_own_parts(course):
    address = ("--scheduler", "tcp://127.0.0.1:1", "--set", "parts=own")
    code, _, err = course("--sweep", "rate=1,2", *address)
    assert code != 0
    assert "the workers of another cluster do not have your parts; leave --scheduler out" in err


def test_a_csv_file_is_a_workload(course, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("arrival_time,prompt_tokens,output_tokens\n0,9,9\n1,x,9\n", encoding="utf-8")
    code, _, err = course(path)
    assert code != 0
    assert "line 3: prompt_tokens is 'x'; it must be a whole number" in err
    path.write_text("arrival_time,prompt_tokens,output_tokens\n0,9,9\n1,9,9\n", encoding="utf-8")
    code, out, _ = course(path)
    assert code == 0
    assert "2 requests in" in out
