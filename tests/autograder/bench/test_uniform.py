"""``course bench uniform``: what it measures, and that its figures fit together."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from autograder.bench import uniform
from autograder.bench.random_model import HUNDRED_MILLION
from autograder.bench.suites import write_json
from autograder.bench.uniform import run_uniform_suite


def test_its_figures_fit_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr(uniform, "ANSWER_LEN", 6)
    steps: list[tuple[int, int]] = []
    report = run_uniform_suite(
        lambda done, total: steps.append((done, total)),
        rounds=1,
        batch_sizes=(2, 4),
        large=replace(HUNDRED_MILLION, num_layers=2, hidden_size=96, head_dim=8),
        rounds_of_large=1,
    )
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [(row.model, row.batch_size) for row in report.rows] == [
        ("course-tiny", 2),
        ("course-tiny", 4),
        ("4.3 M", 2),
        ("4.3 M", 4),
    ]
    for row in report.rows:
        assert row.transformers is not None
        assert row.ratio == pytest.approx(row.transformers / row.engine)
        assert row.limit == pytest.approx(row.transformers / row.products)
        assert row.products > 0
        assert row.attention > 0
        assert len(row.largest_others) == uniform.TOP
        assert not {"mm", "addmm"} & set(row.largest_others)
    console = Console(file=StringIO(), width=80)
    console.print(report.table())
    assert isinstance(console.file, StringIO)
    assert "prompts of 64 and answers of 6" in console.file.getvalue()
    write_json(report, tmp_path / "uniform.json")
    assert len(json.loads((tmp_path / "uniform.json").read_text())["rows"]) == 4
