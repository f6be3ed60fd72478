"""A measured run: read, and reproduced by the simulator within a few per cent."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from course_lib.simulation import (
    ConfiguredRun,
    MeasuredRun,
    Workload,
    load_vllm_requests,
    load_vllm_run,
    synthetic_vllm_requests,
    traces_dir,
)
from course_lib.simulation.experiments import capacity_error, validate
from yardstick import cpu_seconds, quiet_seconds

TRUTH = {"makespan": 183.567, "ttft_mean": 65.457, "tpot_mean": 0.032447, "e2e_mean": 86.578}

ROW = {
    "input_toks": 5,
    "output_toks": 3,
    "queued_ts": 10.0,
    "first_token_ts": 11.0,
    "last_token_ts": 12.0,
}
META = {
    "vllm_version": "0.19.0",
    "model": "meta-llama/Llama-3.1-8B",
    "hardware": {"device_name": "NVIDIA GeForce RTX 4090"},
    "kv_cache": {"num_gpu_blocks": 100, "block_size": 16, "enable_prefix_caching": False},
    "engine_kwargs": {"max_num_seqs": 8, "max_num_batched_tokens": 512},
}


@pytest.fixture(scope="module")
def run() -> MeasuredRun:
    folder = traces_dir()
    if folder is None or not (folder / "vllm_run_rtx4090").is_dir():
        pytest.skip("needs vllm_run_rtx4090/ in the folder that COURSE_TRACES names")
    return load_vllm_run()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    later = ROW | {"queued_ts": 9.5, "output_toks": 1, "last_token_ts": 11.0}
    lines = (json.dumps(row) + "\n" for row in (ROW, later))
    (tmp_path / "requests.jsonl").write_text("".join(lines))
    (tmp_path / "meta.json").write_text(json.dumps(META))
    return tmp_path


class TestReading:
    def test_requests_come_in_order_of_arrival_from_zero(self, folder: Path) -> None:
        run = load_vllm_run(folder)
        assert [(r.arrival_time, r.output_tokens) for r in run] == [(0.0, 1), (0.5, 3)]
        assert run.ttft.tolist() == [1.5, 1.0]
        assert run.e2e.tolist() == [1.5, 2.0]
        assert np.isnan(run.tpot[0])
        assert run.tpot[1] == 0.5
        assert run.makespan == 2.5

    def test_the_configuration_comes_with_it(self, folder: Path) -> None:
        run = load_vllm_run(folder)
        assert (run.model.name, run.gpu.name) == ("Llama-3.1-8B", "RTX 4090")
        assert (run.num_blocks, run.block_size, run.enable_caching) == (100, 16, False)
        assert run.scheduler_config.max_num_seqs == 8
        assert run.scheduler_config.max_num_batched_tokens == 512

    def test_a_part_of_it_is_a_plain_workload(self, folder: Path) -> None:
        assert type(load_vllm_run(folder)[:1]) is Workload

    def test_a_gpu_that_is_not_in_the_catalogue_is_named(self, folder: Path) -> None:
        hardware = {"device_name": "Abacus 9"}
        (folder / "meta.json").write_text(json.dumps(META | {"hardware": hardware}))
        with pytest.raises(KeyError, match="Abacus 9"):
            _ = load_vllm_run(folder).gpu

    @pytest.mark.parametrize("missing", ["requests.jsonl", "meta.json"])
    def test_a_missing_file_is_named(self, folder: Path, missing: str) -> None:
        (folder / missing).unlink()
        with pytest.raises(FileNotFoundError, match=f"no {missing}"):
            load_vllm_run(folder)

    @pytest.mark.parametrize("line", ["{}", "[]", "not JSON", json.dumps(ROW | {"queued_ts": "x"})])
    def test_a_malformed_row_is_named_with_its_line(self, folder: Path, line: str) -> None:
        with (folder / "requests.jsonl").open("a") as file:
            file.write(line + "\n")
        with pytest.raises(ValueError, match="line 3"):
            load_vllm_run(folder)

    @pytest.mark.parametrize("text", ["{", "{}", "[]", json.dumps(META | {"kv_cache": None})])
    def test_a_malformed_configuration_is_named(self, folder: Path, text: str) -> None:
        (folder / "meta.json").write_text(text)
        with pytest.raises(ValueError, match=r"meta\.json does not tell"):
            load_vllm_run(folder)

    def test_nothing_stands_in_for_a_measurement(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COURSE_TRACES", str(tmp_path))
        with pytest.raises(FileNotFoundError, match="set COURSE_TRACES"):
            load_vllm_run()

    def test_but_for_its_requests_and_its_engine(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COURSE_TRACES", str(tmp_path))
        standin = load_vllm_requests()
        assert standin.is_synthetic
        assert not isinstance(standin, MeasuredRun)
        assert standin == synthetic_vllm_requests() != synthetic_vllm_requests(seed=1)
        there, computed = capacity_error().rows().values()
        assert computed["ttft_mean"] < 0.9 * there["ttft_mean"]

    def test_the_stand_in_is_configured_as_the_run_was(self, run: MeasuredRun) -> None:
        standin = synthetic_vllm_requests()
        for each in fields(ConfiguredRun):
            if each.name not in ("name", "source", "is_synthetic", "requests"):
                assert getattr(standin, each.name) == getattr(run, each.name), each.name
        assert len(standin) == len(run)
        for column in ("prompt_tokens", "output_tokens"):
            theirs, ours = ([getattr(r, column) for r in w] for w in (run, standin))
            assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.05)
            assert np.median(ours) == pytest.approx(np.median(theirs), rel=0.05)
        assert standin[-1].arrival_time == pytest.approx(run[-1].arrival_time, rel=0.1)


class TestValidation:
    def test_the_truth_is_the_published_one(self, run: MeasuredRun) -> None:
        rows = validate(run).rows()
        assert {name: rows[name][0] for name in TRUTH} == pytest.approx(TRUTH, rel=1e-4)

    def test_means_and_makespan_are_within_5_percent_of_the_truth(self, run: MeasuredRun) -> None:
        rows = validate(run).rows()
        assert {name: rows[name][1] for name in TRUTH} == pytest.approx(TRUTH, rel=0.05)

    def test_percentiles_are_within_5_percent_too(self, run: MeasuredRun) -> None:
        for name, (_, _, error) in validate(run).rows().items():
            assert abs(error) < 0.05, name

    def test_it_takes_less_than_a_second_of_cpu_time(self, run: MeasuredRun) -> None:
        assert quiet_seconds(lambda: cpu_seconds(lambda: validate(run))) < 1.0

    def test_both_sides_are_printed(self, run: MeasuredRun) -> None:
        text = str(validate(run))
        assert "measured   simulated    error" in text
        assert "ttft_p99" in text

    def test_capacity_is_the_sensitive_input(self, run: MeasuredRun) -> None:
        there, computed = capacity_error(run).rows().values()
        assert computed["ttft_mean"] / there["ttft_mean"] - 1 == pytest.approx(-0.207, abs=0.03)
        assert computed["tpot_mean"] / there["tpot_mean"] - 1 == pytest.approx(0.129, abs=0.03)
