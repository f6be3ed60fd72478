"""course bench: what is measured beside what, and how it is reported."""

import json
import sys
import types

import pytest
from rich.console import Console

from autograder import cli
from autograder.bench import core as bench
from autograder.bench import suites
from autograder.bench.core import ListAndSetPool, run_core_suite
from autograder.bench.suite import Case, Measurement, Report, Suite, run_suite
from autograder.bench.suites import measure
from autograder.commands import bench as bench_command
from autograder.errors import CourseError

CASES = [
    *(f"pool: {n:2} at a time, caching {c}" for c in ("on", "off") for n in (1, 8, 64)),
    "admission: 4,096 tokens, hit",
    "admission: 4,096 tokens, miss",
    "slot mapping of 256 sequences",
    "slot mapping of 256 decodes",
    *(f"scheduler: {n:5,} decodes" for n in (64, 256, 1024)),
]


@pytest.fixture
def order():
    """What has run, in order."""
    return []


@pytest.fixture
def quick(order):
    """A suite of two cases that take no time."""

    def contender(case, implementation, speed):
        def run():
            order.append((case, implementation))
            return speed * (1 + len(order) % 3)

        return run

    return Suite(
        [
            Case(case, {name: contender(case, name, speed) for name, speed in speeds.items()})
            for case, speeds in (("a", {"course": 10.0, "baseline": 1.0}), ("b", {"course": 5}))
        ],
        notes=("vLLM is not measured",),
    )


def test_rounds_are_interleaved_and_the_median_counts(quick, order):
    steps = []
    report = run_suite("quick", quick, on_step=lambda *step: steps.append(step), rounds=3)
    assert order == [("a", "course"), ("a", "baseline"), ("b", "course")] * 3
    assert steps == [(done, 6) for done in range(1, 7)]
    assert [(m.case, m.implementation) for m in report.measurements] == order[:3]
    assert report.measurements[0].per_second == 20.0


def test_an_unknown_suite_is_named():
    with pytest.raises(CourseError, match="no suite 'cpu'; choose one of: core, kernels"):
        measure("cpu", on_step=lambda done, total: None)


def test_core_measures_pool_admission_and_scheduler_beside_a_baseline():
    report = run_core_suite(rounds=1)
    assert list(dict.fromkeys(m.case for m in report.measurements)) == CASES
    pools = {m.implementation for m in report.measurements if m.case.startswith("pool")}
    assert pools >= {"course", "linked list", "list and set"}
    assert all(m.per_second > 0 for m in report.measurements)


made = []  # what each pool of vLLM was made with


class VllmPool(ListAndSetPool):
    """Stands in for the pool of vLLM."""

    def __init__(self, num_gpu_blocks, enable_caching, hash_block_size):
        made.append((num_gpu_blocks, enable_caching, hash_block_size))
        super().__init__(num_gpu_blocks)


@pytest.fixture
def vllm_engine(monkeypatch):
    """Stand-ins for vLLM: its pool, and what measures the rest of it, which is returned."""
    names = ("vllm", "vllm.v1", "vllm.v1.core", "vllm.v1.core.block_pool", "autograder.bench.vllm")
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["vllm.v1.core.block_pool"].BlockPool = VllmPool
    made.clear()
    engine = sys.modules["autograder.bench.vllm"]
    engine.scheduler_steps_per_second = lambda num_running, num_steps=64: 1.0
    engine.admissions_per_second = lambda prompts, num_blocks: 1.0
    return engine


def test_vllm_is_measured_where_it_can_be_imported(vllm_engine):
    suite = bench.core_suite()
    assert suite.notes == ()
    without = [case.name for case in suite.cases if "vLLM" not in case.contenders]
    assert without == ["slot mapping of 256 sequences", "slot mapping of 256 decodes"]
    assert set(made) == {(10_000, True, 16), (10_000, False, 16)}


def test_an_engine_of_vllm_that_is_made_in_another_way_is_left_out(vllm_engine):
    del vllm_engine.scheduler_steps_per_second
    suite = bench.core_suite()
    (note,) = suite.notes
    assert note.startswith("of vLLM only the pool is measured")
    assert "scheduler_steps_per_second" in note
    assert [case.name for case in suite.cases if "vLLM" in case.contenders] == CASES[:6]


def test_where_it_cannot_the_report_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.delitem(sys.modules, "vllm.v1.core.block_pool", raising=False)
    (note,) = bench.core_suite().notes
    assert note.startswith("vLLM is not measured (")


def test_the_course_pool_beats_the_baseline():
    """A floor that a busy machine does not move: both run in the same rounds."""
    report = run_core_suite(rounds=3)
    speed = {(m.case, m.implementation): m.per_second for m in report.measurements}
    for case in CASES[:6]:
        assert speed[case, "course"] > speed[case, "list and set"]
        if "64" in case:
            assert speed[case, "course"] > 2 * speed[case, "linked list"]


def test_the_baseline_is_a_pool():
    pool = ListAndSetPool(num_blocks=4)
    blocks = pool.get_new_blocks(2)
    with pytest.raises(ValueError, match="requested 2 blocks but only 1 are free"):
        pool.get_new_blocks(2)
    pool.free_blocks(blocks)
    with pytest.raises(ValueError, match="block 1 is freed but nobody holds it"):
        pool.free_blocks([1])


def test_the_command_prints_a_table_and_writes_a_file(quick, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench_command, "console", Console(width=120))
    monkeypatch.setitem(suites.SUITES, "quick", lambda step: run_suite("quick", quick, step))
    path = tmp_path / "quick.json"
    monkeypatch.setattr(sys, "argv", ["course", "bench", "quick", "--json", str(path)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    printed = " ".join(capsys.readouterr().out.split())
    assert "course bench quick: operations per second of CPU time" in printed
    assert "vLLM is not measured" in printed
    report = json.loads(path.read_text())
    assert report["suite"] == "quick"
    assert report["measurements"][0].keys() == {"case", "implementation", "per_second"}


def test_the_command_refuses_an_unknown_suite_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["course", "bench", "cpu"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith("course: there is no suite 'cpu'")


def test_a_case_that_an_implementation_lacks_stays_empty():
    measurements = (Measurement("a", "course", 2_000.0), Measurement("b", "other", 1.0))
    table = Report("core", "a machine", measurements).table()
    assert [list(column.cells) for column in table.columns] == [
        ["a", "b"],
        ["2 k", ""],
        ["", "1"],
    ]
