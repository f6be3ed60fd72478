"""A serving run that was measured, to hold a simulation against."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from course_lib.scheduling import SchedulerConfig
from course_lib.simulation.trace_files import filled_lines, moment, seconds_since
from course_lib.simulation.workload import (
    TraceRequest,
    Workload,
    lognormal_lengths,
    poisson_arrivals,
    traces_dir,
)
from course_lib.specs import GPUS, MODELS, GPUSpec, ModelSpec

_RUN_PATH = "vllm_run_rtx4090"


@dataclass(frozen=True)
class ConfiguredRun(Workload):
    """Requests, and the engine that is to serve them. It is a workload, so it can be simulated.

    Attributes:
        model_name: What vLLM was asked to load.
        gpu_name: What the driver calls the GPU.
        num_blocks: Blocks of the KV cache.
        block_size: Tokens per block.
        max_num_seqs: Most requests in a batch.
        max_num_batched_tokens: Most tokens in an iteration.
        enable_caching: Whether prefixes were kept for later requests, a preempted one's own too.
    """

    model_name: str
    gpu_name: str
    num_blocks: int
    block_size: int
    max_num_seqs: int
    max_num_batched_tokens: int
    enable_caching: bool

    @property
    def model(self) -> ModelSpec:
        """The model's shape, from ``MODELS``.

        Raises:
            KeyError: It is not there; then read it with ``ModelSpec.from_hf_config``.
        """
        return MODELS[self.model_name.rsplit("/", maxsplit=1)[-1].lower()]

    @property
    def gpu(self) -> GPUSpec:
        """The GPU, from ``GPUS``.

        Raises:
            KeyError: It is not there; then describe it with a ``GPUSpec``.
        """
        for gpu in GPUS.values():
            if gpu.name in self.gpu_name:
                return gpu
        raise KeyError(f"no {self.gpu_name!r} in GPUS; describe it with a GPUSpec")

    @property
    def scheduler_config(self) -> SchedulerConfig:
        """The limits of the run."""
        return SchedulerConfig(
            max_num_seqs=self.max_num_seqs, max_num_batched_tokens=self.max_num_batched_tokens
        )


@dataclass(frozen=True)
class MeasuredRun(ConfiguredRun):
    """The requests of a run of vLLM, what it was configured with, and how long everything took.

    Times are those of the engine: a request arrives when it enters the engine's queue. The other
    attributes are those of ``ConfiguredRun``.

    Attributes:
        ttft: Time to first token of each request, in seconds.
        tpot: Time per output token of each request, in seconds; NaN for a single token.
        e2e: Time from arrival to last token of each request, in seconds.
        makespan: Time from the first arrival to the last token, in seconds.
    """

    ttft: NDArray[np.float64] = field(repr=False)
    tpot: NDArray[np.float64] = field(repr=False)
    e2e: NDArray[np.float64] = field(repr=False)
    makespan: float


def load_vllm_run(folder: str | Path | None = None) -> MeasuredRun:
    """Return a run of vLLM that was measured request by request.

    The one that the course knows is vLLM 0.19.0 with Llama-3.1-8B on an RTX 4090: 300 requests at
    about ten per second, published with LLMServingSim (casys-kaist/LLMServingSim, MIT).

    Args:
        folder: Where ``requests.jsonl`` and ``meta.json`` are; None for that run in the folder of
            traces.

    Returns:
        The run, in order of arrival; the first request arrives at 0.

    Raises:
        FileNotFoundError: There is no such run. A measurement cannot be made up, so nothing stands
            in for it here; see ``load_vllm_requests``.
        ValueError: A file is malformed.
    """
    if folder is None:
        traces = traces_dir()
        if traces is None:
            raise FileNotFoundError(
                "what was measured cannot be made up, and there is no folder of traces; set "
                f"COURSE_TRACES to one that has {_RUN_PATH}/requests.jsonl"
            )
        folder = traces / _RUN_PATH
    folder = Path(folder)
    for name in ("requests.jsonl", "meta.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"no {name} in {folder}; give the folder of a measured run, or set COURSE_TRACES "
                f"to one that has {_RUN_PATH}/"
            )
    rows = _read_rows(folder / "requests.jsonl")
    settings = _read_settings(folder / "meta.json")
    queued, first, last, outputs = (
        np.array([row[column] for row in rows], dtype=np.float64) for column in (0, 1, 2, 4)
    )
    with np.errstate(invalid="ignore"):  # 0 seconds over 0 gaps: no TPOT
        tpot = (last - first) / (outputs - 1)
    return MeasuredRun(
        name=f"vLLM on {settings['gpu_name']}",
        source=f"Measured: vLLM {settings.pop('vllm_version')}, {settings['model_name']} "
        f"on {settings['gpu_name']} (LLMServingSim, MIT)",
        is_synthetic=False,
        requests=tuple(
            TraceRequest(float(row[0] - queued[0]), int(row[3]), int(row[4])) for row in rows
        ),
        ttft=first - queued,
        tpot=tpot,
        e2e=last - queued,
        makespan=float(last.max() - queued[0]),
        **settings,
    )


def load_vllm_requests() -> ConfiguredRun:
    """Return the requests and the engine of ``load_vllm_run``, or synthetic requests for it.

    What was measured is known only of the real run, a ``MeasuredRun``. Where it is not at hand,
    ``synthetic_vllm_requests`` stands in; ``is_synthetic`` and ``source`` tell which it is.

    Raises:
        FileNotFoundError: ``COURSE_TRACES`` names something that is not a folder.
        ValueError: A file is malformed.

    >>> load_vllm_requests().num_blocks
    2588
    """
    folder = traces_dir()
    if folder is None or not (folder / _RUN_PATH).is_dir():
        return synthetic_vllm_requests()
    return load_vllm_run(folder / _RUN_PATH)


def synthetic_vllm_requests(seed: int = 0) -> ConfiguredRun:
    """Return random requests with the statistics of the measured run, in its configuration.

    300 requests arrive as a Poisson process, whose gaps are scaled to 10.27 per second, as vLLM's
    benchmark does it. Lengths are lognormal and independent, with the run's means and medians: 857
    and 732 tokens of prompts, 653 and 632 of outputs.

    Args:
        seed: Seed of the random generator.

    >>> synthetic_vllm_requests().is_synthetic
    True
    """
    rng = np.random.default_rng(seed)
    n, rate = 300, 10.27
    arrivals = poisson_arrivals(rate, n, rng)
    arrivals = (arrivals - arrivals[0]) * (n - 1) / rate / (arrivals[-1] - arrivals[0])
    prompts, outputs = lognormal_lengths(857, 732, n, rng), lognormal_lengths(653, 632, n, rng)
    columns = (arrivals.tolist(), prompts.tolist(), outputs.tolist())
    return ConfiguredRun(
        name="vLLM on NVIDIA GeForce RTX 4090 (synthetic)",
        source=(
            "Synthetic: Poisson arrivals and lognormal lengths fitted to a run of vLLM on an RTX "
            "4090 (LLMServingSim, MIT), in its configuration"
        ),
        is_synthetic=True,
        requests=tuple(map(TraceRequest, *columns)),
        model_name="meta-llama/Llama-3.1-8B",
        gpu_name="NVIDIA GeForce RTX 4090",
        num_blocks=2588,
        block_size=16,
        max_num_seqs=256,
        max_num_batched_tokens=2048,
        enable_caching=True,
    )


def _read_rows(path: Path) -> list[tuple[float, float, float, int, int]]:
    """Read (queued, first token, last token, prompt tokens, output tokens), in order of arrival.

    Times are in seconds since the first request was queued.
    """
    rows = []
    start: float | datetime | None = None
    for number, line in filled_lines(path):
        try:
            row = json.loads(line)
            moments = [moment(row[f"{event}_ts"]) for event in ("queued", "first_token")]
            moments.append(moment(row["last_token_ts"]))
            start = moments[0] if start is None else start
            times = [seconds_since(start, each) for each in moments]
            rows.append((*times, int(row["input_toks"]), int(row["output_toks"])))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}, line {number}: {line[:80]!r} is not a request with "
                f"queued_ts, first_token_ts, last_token_ts, input_toks and output_toks "
                f"({error!r}); download the run again"
            ) from error
    if not rows:
        raise ValueError(f"{path} has no requests; download the run again")
    return sorted(rows)  # type: ignore[arg-type]  # three times and two counts each


def _read_settings(path: Path) -> dict[str, Any]:
    """Read what the run was configured with, under the names of ``MeasuredRun``."""
    try:
        meta = json.loads(path.read_text(encoding="utf-8-sig"))
        engine, cache = meta["engine_kwargs"], meta["kv_cache"]
        return {
            "vllm_version": str(meta["vllm_version"]),
            "model_name": str(meta["model"]),
            "gpu_name": str(meta["hardware"]["device_name"]),
            "num_blocks": int(cache["num_gpu_blocks"]),
            "block_size": int(cache["block_size"]),
            "enable_caching": bool(cache["enable_prefix_caching"]),
            "max_num_seqs": int(engine["max_num_seqs"]),
            "max_num_batched_tokens": int(engine["max_num_batched_tokens"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} does not tell what the run was configured with ({error!r}); "
            "download the run again"
        ) from error
