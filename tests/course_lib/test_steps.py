"""The step table: a sequence of rows that leaves for CSV, pandas and trace viewers."""

import csv
import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest

from course_lib.steps import Step, StepTable, is_prefill

STEPS = StepTable(
    [
        Step(0.0, 0.5, num_tokens=7, num_running=1, num_waiting=3, kv_usage=0.25),
        Step(0.5, 0.25, num_tokens=1, num_running=1, kv_usage=math.nan),
    ]
)


def test_is_a_sequence_of_rows_with_columns() -> None:
    assert [step.end for step in STEPS] == [0.5, 0.75]
    assert STEPS.column("num_tokens").tolist() == [7, 1]
    assert len(STEPS[1:]) == 1
    with pytest.raises(ValueError, match="no column 'tokens'; known: start, seconds"):
        STEPS.column("tokens")


def test_averages_weigh_a_step_by_its_time() -> None:
    assert STEPS.time_average("num_waiting") == 2.0
    # 1 running for 0.5 s and 1 for 0.25 s, in the 2 s from 0.0 to 2.0.
    with_a_pause = StepTable([STEPS[0], STEPS[1]._replace(start=1.75)])
    assert with_a_pause.time_average("num_running") == 0.375
    assert math.isnan(StepTable([]).time_average("num_waiting"))


@pytest.mark.parametrize(
    ("num_new", "num_computed", "expected"),
    [
        (100, 0, True),
        (37, 63, True),
        (1, 99, True),  # the last chunk of the prompt is a single token
        (1, 100, False),
        (1, 150, False),
        (50, 100, True),  # output that a preemption makes it compute again
    ],
)
def test_who_computes_its_prompt_does_not_decode(
    num_new: int, num_computed: int, expected: bool
) -> None:
    assert is_prefill(num_new, num_computed, num_prompt_tokens=100) is expected


def test_csv_has_a_line_per_step(tmp_path: Path) -> None:
    STEPS.to_csv(tmp_path / "steps.csv")
    with (tmp_path / "steps.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == Step._fields
    assert [float(row["seconds"]) for row in rows] == [0.5, 0.25]


def test_chrome_trace_has_bars_and_counters(tmp_path: Path) -> None:
    STEPS.to_chrome_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    bars = [event for event in events if event["ph"] == "X"]
    assert [(bar["ts"], bar["dur"], bar["name"]) for bar in bars] == [
        (0.0, 500_000.0, "7 tokens"),
        (500_000.0, 250_000.0, "1 tokens"),
    ]
    counters = [event["args"] for event in events if event["ph"] == "C"]
    assert {"running": 1, "waiting": 3} in counters
    assert {"used": 0.25} in counters


def test_without_pandas_the_error_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        STEPS.to_pandas()


@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="pandas is not installed")
def test_pandas_gets_a_row_per_step() -> None:
    frame = STEPS.to_pandas()
    assert list(frame.columns) == list(Step._fields)
    assert frame["num_tokens"].tolist() == [7, 1]
