"""``course bench engine``: what it measures, and that it measures the same work."""

import json
import time
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from autograder.bench import engine as bench_engine
from autograder.bench import suites
from autograder.bench.engine import EngineReport, Job, make_jobs, require_same, run_engine_suite
from autograder.bench.suites import write_json
from autograder.errors import CourseError

FEW = 4


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_engine, "LONGEST_ANSWER", 12)


def printed(report: EngineReport) -> str:
    console = Console(file=StringIO(), width=80)
    console.print(report.table())
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_it_compares_three_ways_of_serving(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    steps: list[tuple[int, int]] = []
    report = run_engine_suite(
        lambda done, total: steps.append((done, total)), 2, FEW, batch_sizes=(1, 4)
    )
    # Two ways in both rounds, every batch size in the first, and the best one in the second.
    assert steps == [(done, 7) for done in range(1, 8)]
    names = [row.implementation for row in report.rows]
    padded = ["transformers, 1 padded", "transformers, 4 padded"]
    assert names == ["continuous batching", "one by one", *padded]
    jobs = make_jobs(FEW)
    assert (report.num_requests, report.num_tokens) == (FEW, sum(job.num_tokens for job in jobs))
    continuous, one_by_one, *others = report.rows
    assert continuous.ratio == 1.0
    for row in report.rows:
        assert row.tokens_per_second > 0
    for row in (continuous, one_by_one):
        shares = (row.scheduler, row.model, row.sampler, row.rest)
        assert sum(share for share in shares if share is not None) == pytest.approx(1.0)
        assert row.milliseconds_per_step is not None
    assert {row.milliseconds_per_step for row in others} == {None}
    text = printed(report)
    assert max(map(len, text.splitlines())) <= 80
    assert all(name in text for name in names)
    write_json(report, tmp_path / "engine.json")
    read = json.loads((tmp_path / "engine.json").read_text())
    assert [row["implementation"] for row in read["rows"]] == names


def test_where_transformers_is_missing_the_report_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(bench_engine, "importlib", type("", (), {"import_module": refuse}))
    report = run_engine_suite(rounds=1, num_requests=2)
    assert [row.implementation for row in report.rows] == ["continuous batching", "one by one"]
    assert report.notes[-1] == "transformers is not measured (No module named 'transformers')"


def test_the_number_of_threads_is_as_before() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    run_engine_suite(rounds=1, num_requests=1, batch_sizes=(1,))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_batches_are_larger_than_one_in_one_case_only() -> None:
    jobs = make_jobs(FEW)
    engine = bench_engine.Engine(bench_engine.checkpoint_folder("course-tiny"), jobs)
    together = engine.serve([jobs])
    num_steps = len(engine.records)
    alone = engine.serve([[job] for job in jobs])
    assert together == alone
    assert [len(answer) for answer in alone] == [job.num_tokens for job in jobs]
    assert num_steps == max(job.num_tokens for job in jobs)
    assert len(engine.records) == sum(job.num_tokens for job in jobs)
    assert not any(record.output.preempted_req_ids for record in engine.records)


def test_no_round_helps_the_next() -> None:
    jobs = make_jobs(FEW)
    engine = bench_engine.Engine(bench_engine.checkpoint_folder("course-tiny"), jobs)
    for _ in range(2):
        engine.serve([jobs])
        num_computed = sum(r.output.total_num_scheduled_tokens for r in engine.records)
        assert num_computed == sum(len(job.prompt) + job.num_tokens - 1 for job in jobs)


def test_transformers_runs_on_with_the_batch_size_that_suits_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("transformers")
    sizes: list[int] = []
    serve = bench_engine.Padded.serve

    def slow_in_pairs(self: Any, jobs: Any, batch_size: int) -> Any:
        sizes.append(batch_size)
        if batch_size == 2:
            start = time.process_time()
            while time.process_time() < start + 0.5:
                pass
        return serve(self, jobs, batch_size)

    monkeypatch.setattr(bench_engine.Padded, "serve", slow_in_pairs)
    run_engine_suite(rounds=2, num_requests=2, batch_sizes=(2, 1))
    assert sizes == [2, 1, 1]


def test_prompts_of_similar_lengths_are_padded_together() -> None:
    jobs = make_jobs(8)
    padded = bench_engine.Padded.__new__(bench_engine.Padded)
    batches: list[list[int]] = []

    def generate(batch: list[Job]) -> list[list[int]]:
        batches.append([len(job.prompt) for job in batch])
        return [job.prompt for job in batch]

    padded.generate = generate  # type: ignore[method-assign, assignment]
    assert padded.serve(jobs, 4) == [job.prompt for job in jobs]
    assert list(chain.from_iterable(batches)) == sorted(len(job.prompt) for job in jobs)
    assert [len(batch) for batch in batches] == [4, 4]


def test_other_work_is_not_timed() -> None:
    first = [[number, 5] for number in range(64)]
    require_same(first, [[0, 6], *first[1:]], "a tie")
    with pytest.raises(CourseError, match="mine gives 32 of 64 answers as the engine does"):
        require_same(first, first[:32] + first[:32], "mine")


def test_lengths_are_mixed_and_the_same_each_time() -> None:
    jobs = make_jobs(64)
    assert jobs == make_jobs(64)
    assert jobs != make_jobs(64, seed=1)
    lens = sorted(len(job.prompt) for job in jobs)
    assert lens[-1] > 8 * lens[0]
    assert lens[-1] <= bench_engine.LONGEST_PROMPT


def test_course_bench_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    monkeypatch.setattr(bench_engine, "run_engine_suite", called.append)
    suites.measure("engine", print)
    assert called == [print]
