"""Lesson 1: what its checks are given. Generated inputs, the bug hunt's suspect, the experiment."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import astuple, replace
from functools import cache
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from autograder.checks.compare import FormComplaint, counted, exactly, remedy, with_article
from autograder.checks.function import Call
from autograder.checks.show import show
from autograder.checks.strategies import different_primes
from autograder.proxy.wire import kind_of
from course_lib.kv_cache import kv_bytes_per_block, kv_bytes_per_token
from course_lib.kv_cache.reservation import (
    RESERVATIONS,
    Reservation,
    SlotUse,
    Snapshot,
    replay_contiguous,
)
from course_lib.simulation.workload import TraceRequest, load_azure
from course_lib.specs import MODELS, GiB, GPUSpec, ModelSpec


def _model(
    layers: int, hidden: int, kv_heads: int, group: int, head_dim: int, params: int, width: int
) -> ModelSpec:
    heads = kv_heads * group
    return ModelSpec("tiny", layers, hidden, heads, kv_heads, head_dim, params, width)


def _shared_out(shape: dict[str, int], params: int, width: int) -> ModelSpec:
    """Make a model whose hidden size is a multiple of its heads, and another one of theirs."""
    sizes = dict(shape)
    hidden = sizes.pop("share") * sizes["kv_heads"] * sizes["group"]
    return _model(hidden=hidden, params=params, width=width, **sizes)


_SHAPE = ("share", "layers", "kv_heads", "group", "head_dim")
"""A model in which the query heads would share the hidden size, ``share`` numbers for each."""
_params = st.just(1000) | st.integers(1, 10**6)
# The first is the simplest to Hypothesis: with 4 bytes, half is not what a missing width gives.
_widths = st.sampled_from((4, 2, 1))
_small = st.integers(1, 8)

# First models whose every factor shows in a failing case, then whatever there may be. Where the
# heads do not share the hidden size evenly, each way to round would be a mistake of its own.
models = st.builds(
    _shared_out,
    different_primes(*_SHAPE)
    | st.fixed_dictionaries(
        {
            "share": st.integers(1, 128),
            "layers": _small,
            "kv_heads": _small,
            "group": _small,
            "head_dim": st.integers(1, 128),
        }
    ),
    _params,
    _widths,
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
    # Where a fraction of a byte would make a block, its rounding would count; it is left free.
    usable = memory * utilization - model.weight_bytes - activations
    bytes_per_block = kv_bytes_per_block(model, block_size)
    assume(math.floor(usable) // bytes_per_block == math.ceil(usable) // bytes_per_block)
    gpu = GPUSpec("box", memory, memory_bandwidth=1e12, peak_flops=1e14)
    return Call(
        model,
        gpu,
        block_size=block_size,
        gpu_memory_utilization=utilization,
        peak_activation_bytes=activations,
    )


MATTERS = {
    ModelSpec: (
        "name",
        "num_layers",
        "hidden_size",
        "num_attention_heads",
        "num_kv_heads",
        "head_dim",
        "num_params",
        "dtype_bytes",
    )
}
"""What a failing case shows of a model: not only what the answer needs, which would be telling, and
all that it takes to run the case in a cell."""

_VARIABLES = {ModelSpec: "model", GPUSpec: "gpu"}


def typed(function: Callable[..., Any]) -> Callable[[Call], str]:
    """Return what writes a call, with a line of its own for a model or a GPU of no catalogue.

    >>> tiny = GPUSpec("tiny", memory_bytes=9, memory_bandwidth=2, peak_flops=8)
    >>> print(typed(kv_bytes_per_block)(Call(MODELS["llama-2-7b"], tiny, block_size=2)))
    gpu = GPUSpec(name='tiny', memory_bytes=9, memory_bandwidth=2, peak_flops=8)
    kv_bytes_per_block(MODELS["llama-2-7b"], gpu, block_size=2)
    """

    def lines(call: Call) -> str:
        above, args = [], []
        for each in call.args:
            said = show(each, MATTERS)
            name = _VARIABLES.get(type(each), "")
            if name and said.startswith(type(each).__name__):
                above.append(f"{name} = {said}")
                said = name
            args.append(said)
        args += [f"{key}={show(value)}" for key, value in call.kwargs.items()]
        return "\n".join([*above, f"{function.__name__}({', '.join(args)})"])

    return lines


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
        written=st.integers(1, 20),
        ahead=st.integers(0, 20),
        slack=st.integers(-20, 20),
    )
    drawn = draw(st.lists(some, max_size=4))
    reservations = [replace(each, request_id=f"r{place}") for place, each in enumerate(drawn)]
    free = draw(st.integers(0, 20))
    return Call(reservations, sum(r.reserved for r in reservations) + free)


def many_reservations() -> Call:
    """Return a call on so many requests that to look at all of them for each takes too long."""
    reservations = [
        replace(_reservation(1 + number % 7, number % 5, number % 11 - 3), request_id=f"r{number}")
        for number in range(20_000)
    ]
    return Call(reservations, sum(each.reserved for each in reservations) + 8)


def same_counts(expected: Any, got: Any) -> str | None:
    """Agree on the same counts; say so where they count a slot twice, or not at all."""
    complaint = exactly(expected, got)
    if not isinstance(complaint, str) or isinstance(complaint, FormComplaint):
        return complaint
    if not isinstance(got, SlotUse) or any(type(count) is not int for count in astuple(got)):
        return complaint  # what is no number does not add up
    if got.total == expected.total:
        return complaint
    return f"{complaint}; the four counts add to {got.total}, not to {expected.total} slots"


lengths = st.lists(st.integers(1, 100), min_size=1, max_size=12)


def many_lengths() -> Call:
    """Return a call on so many requests that to copy the rest for each batch takes too long."""
    return Call([1 + 37 * number % 400 for number in range(400_000)], batch_size=8)


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


_ELSEWHERE = {
    "num_key_value_heads": (
        "the KV heads are",
        {"n_kv_heads", "kv_heads", "num_key_value_head"},
    ),
    "head_dim": ("the width of a head is", {"head_size", "head_width", "d_head", "dim_head"}),
}
"""What KV heads and their width are called in other places, and in few a config.json."""

_OWN_WORDS = {"multi_query", "n_head_kv", "num_kv_heads", "multi_query_group_num"}
"""By what Falcon and a few others say in their config.json how many KV heads they have."""

_THE_MODEL = "the model"
"""What a configuration that is looked at is called, whatever name it has."""

_BYTES = ("float32", "float16", "bfloat16")
"""The types of number that the suspect is meant for."""


def exposes_a_bug(_: Any, config: Any) -> str | None:
    """Agree with a configuration whose shape the suspect gets wrong."""
    if not isinstance(config, dict):
        came = f"{with_article(kind_of(config))}{remedy(dict, config)}"
        return f"a config.json holds an object: give a dict, not {came}"
    if (refusal := _in_own_words(config)) is not None:
        return refusal
    # The suspect is right about the bytes of these types; the bugs to find concern the shape.
    named = config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    dtype = str(named).removeprefix("torch.")
    if dtype not in _BYTES:
        return (
            f"the configuration's numbers are {dtype}; the calculator is meant for "
            f"{', '.join(_BYTES)}"
        )
    as_given = config
    config = {**config, "dtype": dtype, "torch_dtype": dtype, "_name_or_path": _THE_MODEL}
    try:
        right = tokens_that_fit(config, GiB)
    except ValueError as error:
        return f"this one will not do: {str(error).removeprefix(f'{_THE_MODEL}: ')}"
    try:
        suspect = suspect_tokens_that_fit(config, GiB)
    except KeyError as error:
        return f"the calculator stops with a KeyError: {error} is not at the top of the dict"
    if right != suspect:
        return None
    if (said := suspect_tokens_that_fit(as_given, GiB)) != right:
        why = f"is not {dtype} there: what a file calls 'dtype' it is not meant to read"
        if not as_given.get("dtype"):
            why = f"is {named} there: a config.json writes {dtype}"
        return (
            f"it says {said:,} tokens per GiB where {right:,} fit, but only because 'torch_dtype' "
            f"{why}"
        )
    if _mistakes_cancel(config):
        return f"it says {right:,} tokens per GiB: right, because its two mistakes cancel there"
    for field, (what, elsewhere) in _ELSEWHERE.items():
        if field not in config and (others := elsewhere & set(config)):
            return f"{min(others)!r} is passed over: in most config.json files {what} {field!r}"
    return f"it says {right:,} tokens per GiB, and that is right"


def _in_own_words(config: dict[str, Any]) -> str | None:
    """Refuse a file that says how many KV heads there are, and not as most do."""
    own = _OWN_WORDS & set(config)
    if not own or "num_key_value_heads" in config:
        return None
    return (
        f"by {min(own)!r} this file says in a way of its own how many KV heads there are, as "
        "Falcon's and few others do; the exercise reads 'num_key_value_heads': take a model "
        "whose file has that"
    )


def _mistakes_cancel(config: dict[str, Any]) -> bool:
    """Say whether the suspect takes other heads of another width, and as many numbers in all."""
    model = ModelSpec.from_hf_config(config)
    per_head = model.hidden_size // model.num_attention_heads
    numbers = model.num_kv_heads * model.head_dim
    return model.head_dim != per_head and numbers == model.num_attention_heads * per_head


def is_right_for(_: Any, config: Any) -> str | None:
    """Agree with a configuration of the kind that the suspect is right for."""
    if not (exposes_a_bug(_, config) or "").endswith("that is right"):
        return ""
    model = ModelSpec.from_hf_config(config)
    has_all_heads = model.num_kv_heads == model.num_attention_heads
    width = model.num_attention_heads * model.head_dim
    return None if has_all_heads and width == model.hidden_size else ""


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
def snapshots_under(name: str) -> tuple[Snapshot, ...]:
    """Return the memory of the experiment, iteration by iteration, under a policy."""
    return tuple(
        replay_contiguous(experiment_requests(), OPT_13B_SLOTS, RESERVATIONS[name], MAX_MODEL_LEN)
    )


def next_power_of_two(size: int) -> int:
    """Return the smallest power of two that is not below ``size``."""
    return 1 << (size - 1).bit_length()


def mean_over_snapshots(name: str, count: Callable[[Reservation], float]) -> float:
    """Return a count over all running requests as a share of the slots, averaged over time."""
    moments = snapshots_under(name)
    counted = sum(count(each) for moment in moments for each in moment.reservations)
    return counted / len(moments) / OPT_13B_SLOTS


@cache
def rounded_shares() -> dict[str, float]:
    """Return what the experiment measures: the share of the slots that is rounded up."""
    return {
        name: mean_over_snapshots(
            name, lambda each: next_power_of_two(each.reserved) - each.reserved
        )
        for name in ("Pow2", "Oracle")
    }


# 1.7a

Lengths = list[tuple[int, int]]
"""Prompt and output tokens of each request."""


def admit_under_pow2(
    requests: Lengths, free_blocks: list[int], max_model_len: int
) -> list[tuple[int, int]]:
    """Return what each admitted request asks for under Pow2, and the size of its piece."""
    free = list(free_blocks)
    pieces = []
    for prompt_tokens, output_tokens in requests:
        size = RESERVATIONS["Pow2"](prompt_tokens, output_tokens, max_model_len)
        piece = next_power_of_two(size)
        block = min((block for block in free if block >= piece), default=None)
        if block is None:
            break
        free.remove(block)
        while block > piece:
            block //= 2
            free.append(block)
        pieces.append((size, piece))
    return pieces


def same_pieces(expected: Any, got: Any) -> str | None:
    """Agree on pairs of numbers, each pair and all of them in a tuple or a list.

    >>> same_pieces([(3, 4), (2, 2)], [(3, 4), (2, 4)])
    'request 1: its piece differs'
    >>> same_pieces([(3, 4), (2, 2)], [(3, 4)])
    '1 request is admitted, not 2'
    """
    try:
        as_asked = [tuple(pair) for pair in got]
    except TypeError:
        return exactly(expected, got)
    if len(as_asked) != len(expected):
        said = f"{counted(len(as_asked), 'request')} {'is' if len(as_asked) == 1 else 'are'}"
        return f"{said} admitted, not {len(expected)}"
    complaint = exactly(expected, as_asked)
    if complaint is None:
        return None
    # A complaint about the type alone stays one.
    return type(complaint)(
        re.sub(
            r"^item (\d+): item ([01])",
            lambda found: f"request {found[1]}: {_OF_A_PAIR[int(found[2])]}",
            complaint,
        )
    )


_OF_A_PAIR = ("what it asks for", "its piece")


@st.composite
def queues(draw: st.DrawFn) -> Call:
    """Draw requests no longer than the limit, and a memory of some free blocks."""
    tokens = st.integers(1, 9)
    requests = draw(st.lists(st.tuples(tokens, tokens), min_size=1, max_size=8))
    spare = draw(st.integers(0, 20))
    exponents = draw(st.lists(st.integers(0, 6), max_size=3))
    return Call(requests, [2**exponent for exponent in exponents], max(map(sum, requests)) + spare)


def _long_queue() -> Call:
    """Return more requests than fit, on blocks of many sizes."""
    requests = [(1 + 7 * number % 23, 1 + 11 * number % 37) for number in range(60)]
    return Call(requests, [64, 16, 512, 32, 256, 1024], 2048)


def very_long_queue() -> Call:
    """Return a call on so many requests that to copy the rest for each of them takes too long."""
    return Call([(1, 1)] * 50_000, [2**16, 2, 2**15, 4], 2048)


QUEUES = (
    Call([], [1], 1),
    Call([(1, 1)], [2], 2),
    Call([(1, 1)], [2], 3),  # one token is rounded up to one
    Call([(1, 1)], [4], 2),  # halved as long as half is enough, and no longer
    Call([(1, 2)], [4], 3),  # a piece is larger than what was asked for
    Call([(1, 3)], [4], 4),  # rounded up beyond the limit
    Call([(1, 3)], [4], 5),  # within it: what was rounded up must fit
    Call([(3, 1)], [4], 5),  # the prompt is not rounded
    Call([(1, 1)], [1, 1], 2),  # enough slots, in pieces
    Call([(1, 1), (1, 1)], [4], 2),  # the other half stays free
    Call([(1, 1), (1, 1), (1, 1)], [4], 2),  # once
    Call([(1, 2), (1, 1)], [2], 3),  # the first does not fit, the second would
    Call([(2, 4), (1, 1)], [8], 6),  # what lies behind is not free,
    Call([(1, 4), (1, 1)], [8], 5),  # whatever its size
    Call([(1, 1), (1, 1)], [1, 1, 2], 2),  # two equal blocks are not one
    Call([(1, 1), (1, 1)], [2, 2], 2),  # but two
    Call([(1, 2), (1, 1)], [2, 4], 3),  # what is too small for one will do for the next
    Call([(1, 5)], [8], 6),
    Call([(1, 5)], [8], 7),  # at the limit, which is not the sum
    Call([(1, 5)], [8], 8),  # rounded up beyond the limit
    Call([(1, 1), (1, 2)], [2, 4], 3),  # the smallest that is large enough, not the largest
    Call([(1, 1), (1, 2)], [4, 2], 3),  # nor the first
    Call([(1, 2), (1, 1), (1, 2)], [2, 8], 3),  # the smallest, wherever it came from
    Call([(1, 1), (1, 3)], [8], 8),  # the rest of a block, if it is not halved
    Call([(1, 1), (1, 1), (1, 1), (1, 2)], [8], 8),  # a half that is given back twice
    Call([(1, 1), (1, 2)], [8], 3),  # what is left of a block, used again
    Call([(1, 1), (1, 3)], [4, 8], 5),  # no block that is exactly as large
    Call([(1, 1), (1, 4)], [8, 4], 5),  # nor is it the first
    Call([(1, 1), (1, 3)], [16], 5),  # every half stays free: the largest,
    Call([(1, 1), (1, 1), (1, 2)], [8], 3),  # the smaller one,
    Call([(1, 1), (1, 1), (1, 2), (1, 4)], [16], 6),  # and the smallest
    Call([(1, 1), (6, 2)], [4, 8], 13),
    Call([(1, 1), (3, 1)], [16], 4),
    Call([(2, 5)], [8, 4, 8, 2], 20),
    Call([(20, 9), (1, 1)], [16], 40),  # the first does not fit, the second would
    Call([(1, 2), (1, 3), (1, 1)], [16], 5),
    Call([(2, 1), (1, 2), (2, 3)], [16], 6),
    Call([(2, 2), (1, 4), (1, 2)], [16], 10),
    Call([(5, 3), (2, 2), (6, 6)], [16, 4, 2], 12),
    Call([(2, 5), (7, 8)], [4, 8, 8, 4], 20),
    Call([(1, 1), (3, 5), (2, 2), (5, 3)], [16, 2, 4], 20),
    Call([(30, 9), (20, 17)], [128, 64], 40),
    Call([(3, 4), (1, 1), (2, 5), (9, 3), (1, 2)], [32, 8, 4], 64),
    Call([(1, 1500)], [2048], 2048),  # larger than any before: by what it asks for,
    Call([(2000, 100)], [4096], 4096),  # and by its piece
    Call([(100, 300), (700, 120), (40, 900), (10, 2)], [8192, 4096, 2048, 1024, 256], 2048),
    _long_queue(),
)
"""Memories and queues that tell the ways to admit apart, the smallest first: the first that fails
is shown where no smaller one is found."""
