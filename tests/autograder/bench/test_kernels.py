"""``course bench kernels``: what it times, and that it does not time wrong answers."""

import json
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from autograder.bench import kernels as bench_kernels
from autograder.bench.kernels import KernelReport, KernelTiming, Work, run_kernels_suite
from autograder.bench.suites import write_json
from autograder.errors import CourseError
from course_lib.attention import choose_backend, triton_state
from course_lib.attention.backends.launch import Launch

pytest.importorskip("triton")


def _printed(report: KernelReport) -> str:
    console = Console(file=StringIO(), width=200)
    console.print(report.table())
    text = console.file
    assert isinstance(text, StringIO)
    return text.getvalue()


@pytest.mark.skipif(triton_state().mode != "interpreted", reason="needs a machine without a GPU")
def test_without_a_gpu_it_says_so_and_counts_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench_kernels, "ROUNDS", 1)
    steps: list[tuple[int, int]] = []
    report = run_kernels_suite(on_step=lambda done, total: steps.append((done, total)))
    assert steps[-1] == (4, 4)
    text = _printed(report)
    assert "no GPU, Triton's interpreter" in text
    assert "say nothing about a GPU" in text
    decode = report.rows[0]
    # 256 tokens, key and value, 2 heads of 64 numbers of 4 bytes: read once.
    assert decode.bytes_moved is not None
    assert decode.bytes_moved >= 256 * 2 * 2 * 64 * 4
    assert {row.implementation for row in report.rows} == {"triton, interpreted", "pytorch"}
    write_json(report, tmp_path / "kernels.json")
    assert len(json.loads((tmp_path / "kernels.json").read_text())["rows"]) == len(report.rows)


@pytest.mark.gpu
def test_on_a_gpu_it_compares_with_a_copy_and_with_sdpa() -> None:
    if triton_state().mode != "compiled":
        pytest.skip(triton_state().reason)
    report = run_kernels_suite()
    target = "decode, batch 64, context 4,096, bf16"
    rows = {row.implementation: row for row in report.rows if row.case == target}
    assert {"triton, 1 split", "SDPA", "gather, then SDPA"} <= set(rows)
    best = max(row.share_of_copy or 0.0 for name, row in rows.items() if name.startswith("triton"))
    assert 0.0 < best <= 1.5


def _work(contexts: list[int], queries: list[int]) -> Work:
    return Work.random("test", contexts, queries, (4, 2, 64), torch.float32, "cpu")


def test_bytes_needed_are_those_of_keys_values_queries_and_outputs() -> None:
    work = _work([10, 5], [1, 1])
    assert work.bytes_needed == (2 * 15 * 2 * 64 + 2 * 2 * 4 * 64) * 4


@pytest.mark.parametrize(("contexts", "queries"), [([20, 20], [1, 1]), ([20, 20], [5, 5])])
def test_sdpa_and_the_library_agree(contexts: list[int], queries: list[int]) -> None:
    work = _work(contexts, queries)
    assert work.same_lengths
    expected = work.attend(choose_backend("cpu", "pytorch"))
    got = bench_kernels._sdpa(work, *bench_kernels._gather_all(work))
    torch.testing.assert_close(got.transpose(1, 2).flatten(0, 1), expected)


def test_ragged_work_is_not_given_to_sdpa() -> None:
    assert not _work([20, 21], [1, 1]).same_lengths
    assert not _work([20, 20], [1, 2]).same_lengths


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have each contender run once and take a millisecond; returns the times that were taken."""
    if triton_state().mode != "interpreted":
        pytest.skip("compiled kernels do not run on the CPU")
    taken: list[float] = []

    def milliseconds(runs: Sequence[Callable[[], object]]) -> float:
        for run in runs:
            run()
        taken.append(1.0)
        return 1.0

    monkeypatch.setattr(bench_kernels, "_gpu_milliseconds", milliseconds)
    gpu = SimpleNamespace(multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    return taken


@pytest.mark.parametrize(
    ("contexts", "queries", "contenders"),
    [
        ([600], [1], ["triton, 1 split", "triton, 3 splits", "SDPA", "gather, then SDPA"]),
        ([20, 20], [1, 1], ["triton, 1 split", "SDPA", "gather, then SDPA"]),
        ([20, 9], [1, 1], ["triton, 1 split"]),
        ([20, 20], [5, 5], ["triton", "SDPA", "gather, then SDPA"]),
        ([20, 9], [1, 5], ["triton"]),
    ],
)
def test_what_is_timed_on_a_gpu(
    as_on_a_gpu: list[float], contexts: list[int], queries: list[int], contenders: list[str]
) -> None:
    work = _work(contexts, queries)
    rows = bench_kernels._time_attention([work, _work(contexts, queries)], bandwidth=2.0)
    assert [row.implementation for row in rows] == contenders
    assert len(as_on_a_gpu) == len(contenders)
    first = rows[0]
    assert first.bytes_moved == work.bytes_needed
    assert first.share_of_copy == pytest.approx(work.bytes_needed / 1e-3 / 1e9 / 2.0)


def test_writes_and_copies_are_timed_on_a_gpu(as_on_a_gpu: list[float]) -> None:
    work = _work([200], [1])
    writes, copies = bench_kernels._time_writes(work, 2.0, num_tokens=50, num_pairs=5)
    # Keys and values of 2 heads of 64 numbers of 4 bytes, read and written.
    assert writes.bytes_moved == 50 * 4 * 2 * 64 * 4
    assert copies.bytes_moved == 5 * 16 * 4 * 2 * 64 * 4


def test_on_a_gpu_the_shapes_are_those_that_serving_has() -> None:
    shapes = bench_kernels.gpu_shapes()
    names = [name for name, *_ in shapes]
    assert len(set(names)) == len(names)
    for _, _, contexts, queries in shapes:
        assert len(contexts) == len(queries)
        assert all(1 <= query <= context for query, context in zip(queries, contexts, strict=True))
    for context in (512, 4096, 32768):
        types = {dtype for _, dtype, contexts, _ in shapes if contexts == [context] * 64}
        assert types == {torch.float16, torch.bfloat16}


def test_a_wrong_kernel_is_not_timed() -> None:
    work = _work([10], [1])
    out = torch.empty_like(work.query)
    nothing: list[Launch] = []
    with pytest.raises(CourseError, match="the kernel's result is nan off"):
        bench_kernels._require_right(work, out, nothing)


def test_rates_are_shown_only_where_they_mean_something() -> None:
    interpreted = KernelTiming("a", "triton, interpreted", 2.0, 4_000_000)
    on_gpu = KernelTiming("a", "triton", 2.0, 4_000_000_000, share_of_copy=0.8)
    text = _printed(KernelReport("here", (interpreted, on_gpu), ("a note",)))
    assert "2,000" in text
    assert "80%" in text
    assert "a note" in text
    assert interpreted.gigabytes_per_second == 2.0
