"""``course bench engine`` on a GPU: all of it but the GPU."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from autograder.bench import gpu_engine
from autograder.bench.gpu_engine import run_gpu_engine_suite, serve
from autograder.bench.random_model import ONE_BILLION, num_parameters
from autograder.bench.suites import write_json
from autograder.errors import CourseError

SMALL = replace(
    ONE_BILLION,
    vocab_size=512,
    hidden_size=64,
    intermediate_size=96,
    num_layers=2,
    num_attention_heads=4,
    num_kv_heads=2,
    head_dim=16,
)


def test_the_large_model_has_the_shape_of_llama_3_2_1b() -> None:
    # 1,235,814,400 parameters, says Meta's model card of the checkpoint's file.
    assert num_parameters(ONE_BILLION) == 1_235_814_400


def test_engine_and_transformers_serve_the_same_jobs(
    tmp_path: Path,
) -> None:
    pytest.importorskip("transformers")
    steps: list[tuple[int, int]] = []
    report = run_gpu_engine_suite(
        lambda done, total: steps.append((done, total)),
        rounds=1,
        num_requests=3,
        device="cpu",
        large=SMALL,
    )
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [model.dtype for model in report.models] == ["float32", "bfloat16"]
    for model in report.models:
        assert [row.implementation for row in model.rows] == [
            "continuous batching",
            "transformers, continuous batching",
        ]
        assert model.rows[0].milliseconds_per_step is not None
        assert all(row.tokens_per_second > 0 for row in model.rows)
    assert torch.__version__ in report.machine
    console = Console(file=StringIO(), width=220)
    console.print(report.table())
    assert isinstance(console.file, StringIO)
    assert "1B, random weights, bfloat16" in console.file.getvalue()
    write_json(report, tmp_path / "engine.json")
    assert json.loads((tmp_path / "engine.json").read_text())["num_requests"] == 3


class _Ended:
    """A manager whose thread has ended."""

    def add_request(self, prompt: list[int], max_new_tokens: int) -> str:
        return "a"

    def get_result(self, timeout: float) -> None:
        return None

    def is_running(self) -> bool:
        return False


def test_a_manager_that_has_ended_is_not_waited_for() -> None:
    with pytest.raises(CourseError, match="has ended"):
        serve(_Ended(), [gpu_engine.Job([3], 1)])
