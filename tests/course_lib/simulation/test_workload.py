"""Workloads: reading the Azure traces, and what stands in where they are not at hand."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from course_lib.simulation import (
    TraceRequest,
    Workload,
    gamma_arrivals,
    labelled,
    load_azure,
    load_mooncake,
    synthetic_azure,
    synthetic_mooncake,
    traces_dir,
)
from course_lib.simulation.workload import AzureTrace
from yardstick import cpu_seconds, quiet_seconds

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"

# requests, then mean and median of prompt and output, requests per second, CV of the gaps
PUBLISHED = {
    "conversation": (19_366, 1154.70, 1020, 211.13, 129, 5.530, 1.09),
    "code": (8_819, 2047.85, 1469, 27.88, 13, 2.566, 13.15),
}


def _statistics(workload: Workload) -> tuple[float, ...]:
    """The columns of ``PUBLISHED``."""
    prompts = np.array([request.prompt_tokens for request in workload])
    outputs = np.array([request.output_tokens for request in workload])
    gaps = np.diff([request.arrival_time for request in workload])
    return (
        len(workload),
        float(prompts.mean()),
        float(np.median(prompts)),
        float(outputs.mean()),
        float(np.median(outputs)),
        float(1 / gaps.mean()),
        float(gaps.std() / gaps.mean()),
    )


@pytest.fixture
def trace_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the conversation trace is looked for, in a folder of traces that is still empty."""
    monkeypatch.setenv("COURSE_TRACES", str(tmp_path))
    (tmp_path / "azure2023").mkdir()
    return tmp_path / "azure2023" / "AzureLLMInferenceTrace_conv.csv"


class TestRealTraces:
    @pytest.mark.parametrize("which", PUBLISHED)
    def test_published_statistics(self, which: AzureTrace) -> None:
        workload = load_azure(which)
        if workload.is_synthetic:
            pytest.skip("needs the Azure traces; set COURSE_TRACES to a folder that has azure2023/")
        num_requests, *others = _statistics(workload)
        assert num_requests == PUBLISHED[which][0]
        assert others == pytest.approx(PUBLISHED[which][1:], rel=5e-3)
        assert workload[0].arrival_time == 0.0
        assert "synthetic" not in workload.source.lower()

    def test_a_file_is_read_row_by_row(self, trace_file: Path) -> None:
        trace_file.write_bytes(
            HEADER.encode()
            + b"2023-11-16 23:59:59.9799600,374,44\r\n2023-11-17 00:00:04.2319609,396,109"
        )
        workload = load_azure("conversation")
        assert not workload.is_synthetic
        assert list(workload) == [TraceRequest(0.0, 374, 44), TraceRequest(4.252, 396, 109)]

    @pytest.mark.parametrize(
        "row",
        [
            "2023-11-16 18:15:50.9951690,396",
            "2023-11-16 18:15:50.9951690,396,109,7",
            "yesterday,396,109",
            "2023-11-16 18:15:50.9951690,many,109",
            "2023-11-16 18:15:50.9951690,396,0",
            "2023-11-16 18:15:50.9951690,-396,109",
            "2023-11-16 18:15:50.9951690,3.96,109",
            "2023-11-16 18:15:50.9951690+00:00,396,109",
            "2023-11-16 18:15:40.0000000,396,109",
            "\x00\x01",
        ],
    )
    def test_a_malformed_row_is_named_by_file_and_line(self, trace_file: Path, row: str) -> None:
        good = "2023-11-16 18:15:46.6805900,374,44\r\n"
        trace_file.write_bytes((HEADER + good + row + "\r\n" + good).encode())
        with pytest.raises(ValueError, match=r"AzureLLMInferenceTrace_conv\.csv, line 3: "):
            load_azure("conversation")

    def test_bytes_that_are_no_text_are_a_malformed_row(self, trace_file: Path) -> None:
        trace_file.write_bytes(HEADER.encode() + b"\xff\xfe\r\n")
        with pytest.raises(ValueError, match="line 2: "):
            load_azure("conversation")

    @pytest.mark.parametrize("content", ["", "<html>", "a,b,c\n1,2,3\n"])
    def test_another_file_is_named(self, trace_file: Path, content: str) -> None:
        trace_file.write_text(content)
        with pytest.raises(ValueError, match=r"conv\.csv, line 1: the header is"):
            load_azure("conversation")

    def test_rows_out_of_order_are_refused(self, trace_file: Path) -> None:
        rows = [f"2023-11-16 18:15:{second}.0000000,1,1\r\n" for second in ("10", "12", "11")]
        trace_file.write_text(HEADER + "".join(rows), newline="")
        with pytest.raises(ValueError, match=r"request 2 arrives at 1\.0 s"):
            load_azure("conversation")


class TestSyntheticTraces:
    @pytest.mark.parametrize("seed", range(5))
    def test_conversation_has_the_published_statistics(self, seed: int) -> None:
        num_requests, *others = _statistics(synthetic_azure("conversation", seed))
        assert num_requests == PUBLISHED["conversation"][0]
        assert others == pytest.approx(PUBLISHED["conversation"][1:], rel=0.03)

    @pytest.mark.parametrize("seed", range(5))
    def test_conversation_outputs_have_the_spread_and_the_cap(self, seed: int) -> None:
        outputs = np.array([r.output_tokens for r in synthetic_azure("conversation", seed)])
        assert outputs.std() / outputs.mean() == pytest.approx(0.77, rel=0.02)
        assert 800 < outputs.max() <= 1000

    @pytest.mark.parametrize("seed", range(5))
    def test_code_has_the_published_statistics(self, seed: int) -> None:
        num_requests, *lengths, rate, cv = _statistics(synthetic_azure("code", seed))
        published_requests, *published_lengths, published_rate, published_cv = PUBLISHED["code"]
        assert num_requests == published_requests
        assert lengths == pytest.approx(published_lengths, rel=0.06)
        # Bursts this strong leave a large sampling error, also with 8,819 requests: relative
        # standard errors of cv/sqrt(n) for the mean gap and sqrt((6·cv² + 2)/n)/2 for the CV.
        standard_error = published_cv / math.sqrt(num_requests)
        assert abs(published_rate / rate - 1) < 3 * standard_error
        standard_error = math.sqrt((6 * published_cv**2 + 2) / num_requests) / 2
        assert abs(cv / published_cv - 1) < 3 * standard_error

    def test_the_caption_says_what_it_is(self) -> None:
        workload = synthetic_azure("code")
        assert workload.is_synthetic
        assert workload.source.startswith("Synthetic: ")
        assert "fitted to" in workload.source
        assert "Azure 2023 code" in workload.source
        assert "\n" not in workload.source

    def test_lengths_are_whole_and_at_least_one(self) -> None:
        for request in synthetic_azure("code"):
            assert type(request.prompt_tokens) is type(request.output_tokens) is int
            assert type(request.arrival_time) is float
            assert min(request.prompt_tokens, request.output_tokens) >= 1

    def test_the_clock_starts_with_the_first_request(self) -> None:
        assert synthetic_azure("conversation")[0].arrival_time == 0.0

    def test_the_seed_decides(self) -> None:
        assert synthetic_azure(seed=3) == synthetic_azure(seed=3)
        assert synthetic_azure(seed=3) != synthetic_azure(seed=4)

    def test_it_stands_in_where_there_is_no_trace(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COURSE_TRACES", str(tmp_path))
        assert load_azure("code") == synthetic_azure("code")


class TestMooncake:
    ROW = '{"timestamp": %d, "input_length": %d, "output_length": 5, "hash_ids": %s}'

    @pytest.fixture
    def trace(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Where the trace is looked for, in a folder of traces that is still empty."""
        monkeypatch.setenv("COURSE_TRACES", str(tmp_path))
        (tmp_path / "mooncake").mkdir()
        return tmp_path / "mooncake" / "conversation_trace.jsonl"

    def test_the_published_trace(self) -> None:
        workload = load_mooncake()
        if workload.is_synthetic:
            pytest.skip("needs Mooncake's trace; set COURSE_TRACES to a folder with mooncake/")
        assert len(workload) == 12_031
        assert workload[0] == TraceRequest(0.0, 6758, 500, tuple(range(14)))
        assert workload[-1].arrival_time == 3536.999
        assert np.mean([r.prompt_tokens for r in workload]) == pytest.approx(12_035, abs=1)

    def test_a_file_is_read_row_by_row(self, trace: Path) -> None:
        trace.write_text(self.ROW % (0, 512, "[0]") + "\n" + self.ROW % (1500, 513, "[0, 7]"))
        workload = load_mooncake()
        assert not workload.is_synthetic
        assert list(workload) == [
            TraceRequest(0.0, 512, 5, (0,)),
            TraceRequest(1.5, 513, 5, (0, 7)),
        ]

    @pytest.mark.parametrize(
        "row",
        [
            "not json",
            "[1, 2]",
            '{"timestamp": 0}',
            ROW % (0, 0, "[]"),
            ROW % (-5, 512, "[0]"),
            ROW % (0, 513, "[0]"),
            ROW % (0, 512, "0"),
        ],
    )
    def test_a_malformed_row_is_named_by_file_and_line(self, trace: Path, row: str) -> None:
        trace.write_text(self.ROW % (0, 512, "[0]") + "\n" + row + "\n")
        with pytest.raises(ValueError, match=r"conversation_trace\.jsonl, line 2: "):
            load_mooncake()

    def test_it_stands_in_where_there_is_no_trace(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COURSE_TRACES", str(tmp_path))
        workload = load_mooncake()
        assert workload.is_synthetic
        assert workload == synthetic_mooncake()
        assert workload.source.startswith("Synthetic: ")

    def test_an_id_stands_for_everything_up_to_its_block(self) -> None:
        position_and_parent: dict[int, tuple[int, int]] = {}
        for request in synthetic_mooncake(n=2000, seed=1):
            assert len(request.hash_ids) == math.ceil(request.prompt_tokens / 512)
            for position, hash_id in enumerate(request.hash_ids):
                parent = request.hash_ids[position - 1] if position else -1
                place = position_and_parent.setdefault(hash_id, (position, parent))
                assert place == (position, parent)

    @pytest.mark.parametrize("load", [load_mooncake, synthetic_mooncake])
    def test_conversations_rest_two_minutes(self, load: Callable[[], Workload]) -> None:
        seen: dict[int, float] = {}
        rests = []
        for request in load():
            known = [seen[block] for block in request.hash_ids if block in seen]
            if len(known) > 1:  # more than the system prompt
                rests.append(request.arrival_time - known[-1])
            seen |= dict.fromkeys(request.hash_ids, request.arrival_time)
        assert np.median(rests) == pytest.approx(123, rel=0.1)
        assert np.mean(rests) == pytest.approx(215, rel=0.15)

    def test_the_seed_decides(self) -> None:
        assert synthetic_mooncake(50, seed=3) == synthetic_mooncake(50, seed=3)
        assert synthetic_mooncake(50, seed=3) != synthetic_mooncake(50, seed=4)
        assert len(synthetic_mooncake(0)) == 0
        assert synthetic_mooncake(9)[0].arrival_time == 0.0


class TestGammaArrivals:
    @pytest.mark.parametrize("cv", [0.3, 1.0, 4.0, 13.15])
    def test_rate_and_cv_of_the_gaps(self, cv: float) -> None:
        gaps = np.diff(gamma_arrivals(rate=2.5, cv=cv, n=2_000_000, seed=1))
        assert 1 / gaps.mean() == pytest.approx(2.5, rel=0.04)
        assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.04)

    def test_a_cv_of_one_is_a_poisson_process(self) -> None:
        times = gamma_arrivals(rate=5.0, cv=1.0, n=200_000)
        per_second = np.bincount(times.astype(int))[:-1]
        assert per_second.var() / per_second.mean() == pytest.approx(1.0, rel=0.03)

    def test_times_increase(self) -> None:
        times = gamma_arrivals(rate=1.0, cv=3.0, n=1000)
        assert times.shape == (1000,)
        assert (np.diff(times) >= 0).all()

    @pytest.mark.parametrize(("rate", "cv", "n"), [(0, 1, 5), (1, 0, 5), (1, -1, 5), (1, 1, -1)])
    def test_misuse_is_named(self, rate: float, cv: float, n: int) -> None:
        with pytest.raises(ValueError, match=f"rate is {rate}, cv is {cv} and n is {n}"):
            gamma_arrivals(rate, cv, n)


class TestWorkload:
    def test_it_is_a_sequence(self) -> None:
        requests = tuple(TraceRequest(float(index), 10, 20) for index in range(5))
        workload = Workload("five", "by hand", is_synthetic=True, requests=requests)
        assert len(workload) == 5
        assert workload[-1] is requests[-1]
        assert tuple(workload) == requests
        assert requests[2] in workload

    def test_a_slice_keeps_name_and_source(self) -> None:
        part = synthetic_azure("code")[10:20]
        assert isinstance(part, Workload)
        assert len(part) == 10
        assert part.source == synthetic_azure("code").source
        assert part.is_synthetic

    def test_a_clock_that_runs_faster_keeps_the_bursts_and_the_slack(self) -> None:
        workload = labelled(synthetic_azure("code")[:200])
        fast = workload.at_rate(50.0)
        assert (len(fast) - 1) / (fast[-1].arrival_time - fast[0].arrival_time) == pytest.approx(50)
        gaps, fast_gaps = (np.diff([r.arrival_time for r in w]) for w in (workload, fast))
        assert fast_gaps == pytest.approx(gaps * fast_gaps.sum() / gaps.sum())
        slack, fast_slack = ([r.deadline - r.arrival_time for r in w] for w in (workload, fast))
        assert fast_slack == pytest.approx(slack)
        assert fast.source.endswith("stretched to 50 requests per second")
        assert math.isinf(synthetic_azure()[:9].at_rate(1.0)[3].deadline)

    def test_what_no_rate_can_be_given_is_refused(self) -> None:
        for requests in ((), (TraceRequest(1.0, 1, 1),), (TraceRequest(1.0, 1, 1),) * 2):
            with pytest.raises(ValueError, match="all requests arrive at once"):
                Workload("x", "by hand", is_synthetic=True, requests=requests).at_rate(1.0)
        with pytest.raises(ValueError, match="rate is 0"):
            synthetic_azure()[:9].at_rate(0)

    def test_it_cannot_be_changed(self) -> None:
        workload = synthetic_azure("code")[:2]
        with pytest.raises(AttributeError):
            workload.name = "mine"  # type: ignore[misc]
        with pytest.raises(AttributeError):
            workload[0].prompt_tokens = 5  # type: ignore[misc]

    def test_its_text_is_short(self) -> None:
        assert len(repr(synthetic_azure())) < 300

    def test_requests_are_in_order_of_arrival(self) -> None:
        requests = (TraceRequest(2.0, 1, 1), TraceRequest(1.0, 1, 1))
        with pytest.raises(ValueError, match=r"five: request 1 arrives at 1\.0 s"):
            Workload("five", "by hand", is_synthetic=True, requests=requests)

    @pytest.mark.parametrize("arrival_time", [-1.0, math.inf, math.nan])
    def test_arrival_times_are_numbers_from_zero(self, arrival_time: float) -> None:
        with pytest.raises(ValueError, match="arrival_time is"):
            TraceRequest(arrival_time, 1, 1)

    def test_loading_takes_under_300_ms(self) -> None:
        assert quiet_seconds(lambda: cpu_seconds(lambda: load_azure("conversation"))) < 0.3


class TestTracesDir:
    def test_the_named_folder_wins(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COURSE_TRACES", str(tmp_path))
        assert traces_dir() == tmp_path

    def test_a_named_folder_must_exist(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COURSE_TRACES", str(tmp_path / "nowhere"))
        with pytest.raises(FileNotFoundError, match=r"COURSE_TRACES is .*nowhere"):
            load_azure("code")

    @pytest.mark.parametrize("value", [None, ""])
    def test_without_a_name_there_is_none(
        self, value: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if value is None:
            monkeypatch.delenv("COURSE_TRACES", raising=False)
        else:
            monkeypatch.setenv("COURSE_TRACES", value)
        assert traces_dir() is None
        assert load_azure("code").is_synthetic


def test_an_unknown_trace_is_refused() -> None:
    for load in (load_azure, synthetic_azure):
        with pytest.raises(
            ValueError, match="no Azure trace called 'chat'; known: conversation, code"
        ):
            load("chat")  # type: ignore[arg-type]
