"""``BENCHMARKS.md``: what was measured on a GPU, as it was written there."""

from pathlib import Path

import pytest

from autograder.bench import publish
from autograder.bench.engine import EngineTiming
from autograder.bench.gpu_engine import GPUEngineReport, ModelTiming
from autograder.bench.kernels import KernelReport, KernelTiming
from autograder.bench.suites import write_json

KERNELS = KernelReport(
    "H100, PyTorch 2.11.0",
    (
        KernelTiming("copy of 1 GiB", "copy", 0.7, 2**31, 1.0),
        KernelTiming("decode", "triton", 0.36, 1_074_790_000, 0.97),
        KernelTiming("decode", "gather, then SDPA", 2.57),
    ),
    ("bytes: each once",),
)
ENGINE = GPUEngineReport(
    "H100, PyTorch 2.11.0",
    256,
    10_000,
    20_000,
    (
        ModelTiming(
            "course-tiny",
            "float32",
            (EngineTiming("continuous batching", 8000.0, 1.0, 6.2, 0.1, 0.7, 0.1, 0.1),),
        ),
    ),
    ("tokens per second by the clock",),
)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    write_json(KERNELS, tmp_path / "kernels.json")
    write_json(ENGINE, tmp_path / "engine.json")
    assert publish.read_kernels(tmp_path / "kernels.json") == KERNELS
    assert publish.read_engine(tmp_path / "engine.json") == ENGINE


def test_a_page_has_a_table_for_each_suite_that_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(publish, "course_root", lambda: tmp_path)
    figures = tmp_path / "figures"
    figures.mkdir()
    with pytest.raises(SystemExit):
        publish.main([str(figures)])
    assert "has neither kernels.json nor engine.json" in capsys.readouterr().err
    write_json(KERNELS, figures / "kernels.json")
    publish.main([str(figures)])
    page = (tmp_path / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert "| decode | triton | 0.360 | 1,074.790 | 2,986 | 97% |" in page
    assert "| decode | gather, then SDPA | 2.570 |  |  |  |" in page
    assert "course bench engine" not in page
    write_json(ENGINE, figures / "engine.json")
    publish.main([str(figures)])
    page = (tmp_path / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert "256 requests, 10,000 tokens in and 20,000 out" in page
    assert "| course-tiny, float32 | continuous batching | 8,000 | 1.00 | 6.20 |" in page
