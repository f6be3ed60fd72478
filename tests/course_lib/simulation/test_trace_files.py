"""A trace is read alike however it was saved: marks, blank lines, line ends, clocks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from course_lib.simulation import TraceRequest, load_azure, load_mooncake
from course_lib.simulation.csv_workload import load_csv
from course_lib.simulation.measured import load_vllm_run

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"
GAPS = (0.0, 1.25, 1.25, 4.5)
"""When the requests of every file arrive, in seconds since the first."""

META = {
    "vllm_version": "0.19.0",
    "model": "meta-llama/Llama-3.1-8B",
    "hardware": {"device_name": "NVIDIA GeForce RTX 4090"},
    "kv_cache": {"num_gpu_blocks": 2588, "block_size": 16, "enable_prefix_caching": True},
    "engine_kwargs": {"max_num_seqs": 256, "max_num_batched_tokens": 2048},
}

Clock = Callable[[float], object]
"""Writes the time that is so many seconds behind the first request."""

BEGIN = datetime(2023, 11, 16, 23, 59, 59, 250_000, tzinfo=UTC)
CLOCKS: dict[str, Clock] = {
    "seconds since 1970": lambda s: BEGIN.timestamp() + s,
    "milliseconds since 1970": lambda s: round((BEGIN.timestamp() + s) * 1e3),
    "microseconds since 1970": lambda s: round((BEGIN.timestamp() + s) * 1e6),
    "nanoseconds since 1970": lambda s: round((BEGIN.timestamp() + s) * 1e9),
    "dates in UTC": lambda s: (BEGIN + timedelta(seconds=s)).isoformat(),
    "dates with Z": lambda s: (BEGIN + timedelta(seconds=s)).isoformat()[:-6] + "Z",
    "dates of India": lambda s: str(
        (BEGIN + timedelta(seconds=s)).astimezone(timezone(timedelta(hours=5.5)))
    ),
    "dates without a zone": lambda s: str((BEGIN + timedelta(seconds=s)).replace(tzinfo=None)),
}
"""Clocks that every format may have."""


def saved(lines: Sequence[str]) -> dict[str, bytes]:
    """Return the same lines as different programs write them."""
    text = "\n".join(lines)
    return {
        "as published": f"{text}\n".encode(),
        "no line end at the end": text.encode(),
        "byte-order mark": f"{text}\n".encode("utf-8-sig"),
        "CRLF": "\r\n".join([*lines, ""]).encode(),
        "CR": "\r".join([*lines, ""]).encode(),
        "blank lines": ("\n\n" + "\n \t\n".join(lines) + "\n\n\n").encode(),
        "all of it": ("\r\n" + "\r\n\r\n".join([*lines, ""])).encode("utf-8-sig"),
    }


WAYS = tuple(saved([]))


@pytest.fixture
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of traces in which the folders are there and the files are not."""
    monkeypatch.setenv("COURSE_TRACES", str(tmp_path))
    for name in ("azure2023", "mooncake", "vllm_run_rtx4090"):
        (tmp_path / name).mkdir()
    return tmp_path


def azure_rows(clock: Clock) -> list[str]:
    return [HEADER, *(f"{clock(gap)},{374 + i},{44 + i}" for i, gap in enumerate(GAPS))]


def mooncake_rows(clock: Clock) -> list[str]:
    return [
        json.dumps(
            {
                "timestamp": clock(gap),
                "input_length": 374 + i,
                "output_length": 44 + i,
                "hash_ids": [i],
            }
        )
        for i, gap in enumerate(GAPS)
    ]


def run_rows(clock: Clock) -> list[str]:
    events = {"queued_ts": 0.0, "first_token_ts": 0.5, "last_token_ts": 2.5}
    return [
        json.dumps(
            {name: clock(gap + after) for name, after in events.items()}
            | {"input_toks": 374 + i, "output_toks": 44 + i}
        )
        for i, gap in enumerate(GAPS)
    ]


def read_azure(traces: Path, content: bytes) -> Sequence[TraceRequest]:
    (traces / "azure2023" / "AzureLLMInferenceTrace_conv.csv").write_bytes(content)
    return load_azure("conversation")


def test_a_spreadsheet_may_quote_and_space_its_cells(traces: Path) -> None:
    rows = azure_rows(CLOCKS["dates without a zone"])
    expected = read_azure(traces, "\n".join(rows).encode())
    quoted = ['"' + row.replace(",", '", "') + '"' for row in rows]
    assert list(read_azure(traces, "\n".join(quoted).encode())) == list(expected)


def read_mooncake(traces: Path, content: bytes) -> Sequence[TraceRequest]:
    (traces / "mooncake" / "conversation_trace.jsonl").write_bytes(content)
    return load_mooncake()


def read_run(traces: Path, content: bytes) -> Sequence[TraceRequest]:
    (traces / "vllm_run_rtx4090" / "requests.jsonl").write_bytes(content)
    meta = traces / "vllm_run_rtx4090" / "meta.json"
    meta.write_bytes(json.dumps(META).encode("utf-8-sig"))
    return load_vllm_run()


def own_rows(clock: Clock) -> list[str]:
    head, *rows = azure_rows(clock)
    return [head.replace("TIMESTAMP", "arrival_time"), *rows]


def read_own(traces: Path, content: bytes) -> Sequence[TraceRequest]:
    path = traces / "mine.csv"
    path.write_bytes(content)
    return load_csv(path)


FORMATS = {
    "a file of one's own": (own_rows, read_own),
    "azure": (azure_rows, read_azure),
    "mooncake": (mooncake_rows, read_mooncake),
    "vllm run": (run_rows, read_run),
}


def check(requests: Sequence[TraceRequest]) -> None:
    assert [r.arrival_time for r in requests] == pytest.approx(GAPS, abs=1e-5)
    lengths = [(r.prompt_tokens, r.output_tokens) for r in requests]
    assert lengths == [(374 + i, 44 + i) for i in range(len(GAPS))]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", FORMATS)
def test_how_a_file_was_saved_changes_nothing(traces: Path, kind: str, way: str) -> None:
    rows, read = FORMATS[kind]
    check(read(traces, saved(rows(CLOCKS["dates without a zone"]))[way]))


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("kind", FORMATS)
def test_arrivals_count_from_the_first_request(traces: Path, kind: str, clock: str) -> None:
    rows, read = FORMATS[kind]
    check(read(traces, "\n".join(rows(CLOCKS[clock])).encode()))


def test_a_clock_may_begin_anywhere(traces: Path) -> None:
    check(read_azure(traces, "\n".join(azure_rows(lambda s: 77.5 + s)).encode()))
    check(read_run(traces, "\n".join(run_rows(lambda s: 27_536.66 + s)).encode()))
    # Mooncake's clock ticks in milliseconds.
    check(read_mooncake(traces, "\n".join(mooncake_rows(lambda s: 5000 + 1e3 * s)).encode()))


def test_a_run_is_measured_alike_by_every_clock(traces: Path) -> None:
    for clock in CLOCKS.values():
        read_run(traces, "\n".join(run_rows(clock)).encode())
        run = load_vllm_run()
        assert run.ttft == pytest.approx([0.5] * len(GAPS), abs=1e-5)
        assert run.e2e == pytest.approx([2.5] * len(GAPS), abs=1e-5)
        assert run.makespan == pytest.approx(7.0, abs=1e-5)


@pytest.mark.parametrize("kind", FORMATS)
def test_dates_with_and_without_a_zone_do_not_go_together(traces: Path, kind: str) -> None:
    rows, read = FORMATS[kind]
    naive, aware = (rows(CLOCKS[name]) for name in ("dates without a zone", "dates in UTC"))
    mixed = [*naive[:-1], aware[-1]]
    with pytest.raises(ValueError, match=f"line {len(mixed)}: "):
        read(traces, "\n".join(mixed).encode())


@pytest.mark.parametrize("kind", FORMATS)
def test_dates_and_numbers_do_not_go_together(traces: Path, kind: str) -> None:
    rows, read = FORMATS[kind]
    dates, numbers = (rows(CLOCKS[name]) for name in ("dates in UTC", "seconds since 1970"))
    mixed = [*dates[:-1], numbers[-1]]
    with pytest.raises(
        ValueError, match=r"one time is a date and another a number|all numbers, or all"
    ):
        read(traces, "\n".join(mixed).encode())


@pytest.mark.parametrize("kind", FORMATS)
def test_a_line_is_counted_with_the_blank_ones(traces: Path, kind: str) -> None:
    rows, read = FORMATS[kind]
    lines = rows(CLOCKS["dates in UTC"])
    with pytest.raises(ValueError, match=f"line {len(lines) + 3}: 'yesterday"):
        read(traces, "\r\n".join(["", *lines, "", "yesterday, at noon"]).encode("utf-8-sig"))


@pytest.mark.parametrize("time", ["NaN", "Infinity", "true", "null", '"soon"', "[]"])
def test_what_is_no_time_is_named(traces: Path, time: str) -> None:
    good, *_ = mooncake_rows(lambda s: 0)
    bad = good.replace('"timestamp": 0', f'"timestamp": {time}')
    with pytest.raises(ValueError, match=r"line 2: .*is not a request with timestamp"):
        read_mooncake(traces, f"{good}\n{bad}\n".encode())
