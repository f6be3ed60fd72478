"""Lesson 1: what its checks are given. Generated inputs, the bug hunt's suspect, the experiment."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from hypothesis import strategies as st

from autograder.checks.function import Call
from autograder.checks.strategies import different_primes
from autograder.proxy.wire import kind_of
from course_lib.kv_cache import kv_bytes_per_block, kv_bytes_per_token
from course_lib.kv_cache.reservation import (
    RESERVATIONS,
    Reservation,
    average_shares,
    replay_contiguous,
    replay_paged,
)
from course_lib.simulation.workload import TraceRequest, load_azure
from course_lib.specs import MODELS, GiB, GPUSpec, ModelSpec

def _model(
    layers: int, hidden: int, kv_heads: int, group: int, head_dim: int, params: int, width: int
) -> ModelSpec:
    heads = kv_heads * group
    return ModelSpec("tiny", layers, hidden, heads, kv_heads, head_dim, params, width)


_SHAPE = ("layers", "hidden", "kv_heads", "group", "head_dim")
_params = st.integers(1, 10**6)
_widths = st.sampled_from((2, 4, 1))
_small = st.integers(1, 8)

# First models whose every factor shows in a failing case, then whatever there may be.
models = st.builds(
    lambda shape, params, width: _model(**shape, params=params, width=width),
    different_primes(*_SHAPE),
    _params,
    _widths,
) | st.builds(
    _model,
    layers=_small,
    hidden=st.integers(1, 512),
    kv_heads=_small,
    group=_small,
    head_dim=st.integers(1, 128),
    params=_params,
    width=_widths,
)


@st.composite
def fitting(draw: st.DrawFn) -> Call:
    """Draw a model and a GPU on which some blocks of it fit."""
    model = draw(models)
    block_size = draw(st.integers(1, 32))
    activations = draw(st.integers(0, 10**6))
    utilization = draw(st.sampled_from((1.0, 0.5, 0.92)))
    cache = draw(st.integers(1, 20)) * kv_bytes_per_block(model, block_size) + draw(
        st.integers(0, 10**4)
    )
    memory = math.ceil((model.weight_bytes + activations + cache) / utilization) + 1
    gpu = GPUSpec("box", memory, memory_bandwidth=1e12, peak_flops=1e14)
    return Call(
        model,
        gpu,
        block_size=block_size,
        gpu_memory_utilization=utilization,
        peak_activation_bytes=activations,
    )


ROOM_FOR_HALF_A_BLOCK = GPUSpec(
    "room for half a block",
    MODELS["llama-2-7b"].weight_bytes + kv_bytes_per_block(MODELS["llama-2-7b"], 16) // 2,
    memory_bandwidth=1e12,
    peak_flops=1e14,
)


def _reservation(written: int, ahead: int, slack: int) -> Reservation:
    """Make a reservation; a negative ``slack`` reserves less than will be written."""
    final = written + ahead
    return Reservation("r", reserved=max(written, final + slack), written=written, final=final)


@st.composite
def pools(draw: st.DrawFn) -> Call:
    """Draw what some requests hold, and the slots of their pool."""
    some = different_primes("written", "ahead", "slack").map(
        lambda drawn: _reservation(**drawn)
    ) | st.builds(
        _reservation,
        written=st.integers(0, 20),
        ahead=st.integers(0, 20),
        slack=st.integers(-20, 20),
    )
    reservations = draw(st.lists(some, max_size=4))
    free = draw(st.integers(0, 20))
    return Call(reservations, sum(r.reserved for r in reservations) + free)


lengths = st.lists(st.integers(1, 100), min_size=1, max_size=12)


def many_lengths() -> Call:
    """Return a call on as many requests as a day's trace has."""
    return Call([1 + 37 * number % 400 for number in range(100_000)], batch_size=8)


LLAMA_2_7B = {
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "torch_dtype": "float16",
}
LLAMA_3_1_70B = {
    "model_type": "llama",
    "hidden_size": 8192,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "num_hidden_layers": 80,
    "torch_dtype": "bfloat16",
}
QWEN3_32B = {
    "model_type": "qwen3",
    "head_dim": 128,
    "hidden_size": 5120,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "num_hidden_layers": 64,
    "torch_dtype": "bfloat16",
}


def tokens_that_fit(config: dict[str, Any], free_bytes: int) -> int:
    """Return how many tokens of KV cache fit into ``free_bytes``, from a Hugging Face config."""
    return free_bytes // kv_bytes_per_token(ModelSpec.from_hf_config(config))


def suspect_tokens_that_fit(config: dict[str, Any], free_bytes: int) -> int:
    """How many tokens of KV cache fit into free_bytes?"""
    layers = config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    head_dim = config["hidden_size"] // heads
    bytes_per_number = 4 if config.get("torch_dtype") == "float32" else 2
    bytes_per_token: int = 2 * layers * heads * head_dim * bytes_per_number
    return free_bytes // bytes_per_token


def exposes_a_bug(_: Any, config: Any) -> str | None:
    """Agree with a configuration whose shape the suspect gets wrong."""
    if not isinstance(config, dict):
        return f"a config.json holds an object: give a dict, not a {kind_of(config)}"
    strange = [key for key in config if key not in {**LLAMA_3_1_70B, **QWEN3_32B}]
    if strange:
        return f"{strange[0]!r} is none of the fields; they are {', '.join(QWEN3_32B)}"
    try:
        # The suspect knows 4 and 2 bytes per number; the bugs to find concern the shape.
        config = {**config, "torch_dtype": "float16"}
        right = tokens_that_fit(config, GiB)
        suspect = suspect_tokens_that_fit(config, GiB)
    except (ValueError, KeyError, ZeroDivisionError) as error:
        return f"this is not a whole configuration: {error}"
    return None if right != suspect else f"it says {right:,} tokens per GiB, and that is right"


def is_right_for(_: Any, config: Any) -> str | None:
    """Agree with a configuration whose shape the suspect gets right."""
    return None if (exposes_a_bug(_, config) or "").endswith("that is right") else ""


@st.composite
def configs(draw: st.DrawFn) -> Call:
    """Draw a configuration of a small model, and bytes for its cache."""
    group = draw(st.integers(1, 8))
    kv_heads = draw(st.integers(1, 8))
    head_dim = draw(st.integers(1, 16))
    config: dict[str, Any] = {
        "num_hidden_layers": draw(st.integers(1, 4)),
        "num_attention_heads": group * kv_heads,
        "hidden_size": group * kv_heads * head_dim,
    }
    if group > 1:
        config["num_key_value_heads"] = kv_heads
    if draw(st.booleans()):
        config["head_dim"] = draw(st.integers(1, 256))
    dtype = draw(st.sampled_from(("bfloat16", "float16", "float32")))
    return Call({**config, "torch_dtype": dtype}, draw(st.integers(0, 10**6)))


OPT_13B_SLOTS = 12 * GiB // kv_bytes_per_token(MODELS["opt-13b"])
"""KV slots of the PagedAttention paper's OPT-13B set-up: 12 GiB (table 1)."""

MAX_MODEL_LEN = 2048


@cache
def experiment_requests() -> tuple[TraceRequest, ...]:
    """Return the experiment's requests: those of the first 500 that fit OPT's context."""
    return tuple(
        request
        for request in load_azure("conversation")[:500]
        if request.prompt_tokens + request.output_tokens <= MAX_MODEL_LEN
    )


@cache
def measured_shares() -> dict[str, dict[str, float]]:
    """Return what the experiment measures: the four shares under each policy."""
    requests = experiment_requests()
    shares = {
        name: average_shares(replay_contiguous(requests, OPT_13B_SLOTS, reserve, MAX_MODEL_LEN))
        for name, reserve in RESERVATIONS.items()
    }
    return {**shares, "Paged": average_shares(replay_paged(requests, OPT_13B_SLOTS))}
