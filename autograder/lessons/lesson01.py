"""Lesson 1, traditional attention problems: its exercises, with the wrong answers people give."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from hypothesis import strategies as st

from autograder.checks.answer import AnswerCheck
from autograder.checks.compare import within
from autograder.checks.exercise import Exercise
from autograder.checks.finding import Misconception
from autograder.checks.function import Call, FunctionCheck
from autograder.checks.quiz import QuizCheck
from course_lib.kv_cache import kv_bytes_per_block, kv_bytes_per_token, num_kv_blocks
from course_lib.kv_cache.reservation import (
    RESERVATIONS,
    Reservation,
    SlotUse,
    average_shares,
    classify_slots,
    replay_contiguous,
    replay_paged,
    static_batch_utilization,
)
from course_lib.roofline import (
    arithmetic_intensity,
    forward_flops,
    is_memory_bound,
    kv_bytes_moved,
)
from course_lib.simulation.workload import TraceRequest, load_azure
from course_lib.specs import GPUS, MODELS, GiB, GPUSpec, ModelSpec

# Warm-up


def _same_number(expected: Any, got: Any) -> str | None:
    """Agree on equal numbers, whether int or float."""
    if type(got) not in (int, float):
        return f"it is a {type(got).__name__}, not a number"
    return None if expected == got else ""


WARM_UP = (
    Exercise(
        id="1.W1",
        title="Bytes of a vector",
        asks="How many bytes does a vector of 4,096 numbers take in bfloat16?",
        check=AnswerCheck(
            reference=lambda: 4096 * 2,
            compare=_same_number,
            misconceptions=(
                Misconception("bits, not bytes", "16 bits are 2 bytes.", 4096 * 16),
                Misconception(
                    "float32", "bfloat16 is half as wide as float32: 2 bytes, not 4.", 4096 * 4
                ),
            ),
        ),
        hints=("How many bits has a bfloat16 number, and how many bits has a byte?",),
    ),
    Exercise(
        id="1.W2",
        title="What is on the box",
        asks="A GPU is sold with 24 GB, and its maker means 24 GiB. How many bytes is that?",
        check=AnswerCheck(
            reference=lambda: 24 * GiB,
            compare=_same_number,
            misconceptions=(
                Misconception(
                    "GB for GiB",
                    "A gigabyte is 10^9 bytes, a gibibyte 2^30: 7% more, and more than a billion "
                    "bytes of KV cache on this GPU.",
                    24 * 10**9,
                ),
            ),
        ),
        hints=("1 KiB is 1,024 bytes. How many KiB are in a MiB, and MiB in a GiB?",),
    ),
    Exercise(
        id="1.W3",
        title="FLOP of a projection",
        asks=(
            "How many floating-point operations does it take to multiply a vector of 4,096 numbers "
            "by a 4,096 x 4,096 matrix? Count a multiplication and an addition as two."
        ),
        check=AnswerCheck(
            reference=lambda: 2 * 4096 * 4096,
            compare=_same_number,
            misconceptions=(
                Misconception(
                    "one per multiply-add",
                    "Each of the 4,096 x 4,096 products is also added up: two operations each.",
                    4096 * 4096,
                ),
                Misconception(
                    "one addition less",
                    "You counted 4,095 additions for 4,096 products, which is exact. By convention "
                    "a multiply-add counts as two, because matrix units do both at once.",
                    4096 * 4096 + 4096 * 4095,
                ),
            ),
        ),
        hints=("How many products are formed, and how many additions gather them?",),
    ),
)

# 1.1


def _no_values(model: ModelSpec) -> int:
    return kv_bytes_per_token(model) // 2


def _query_heads(model: ModelSpec) -> int:
    heads = model.num_attention_heads
    return 2 * model.num_layers * heads * model.head_dim * model.dtype_bytes


def _derived_head_dim(model: ModelSpec) -> int:
    head_dim = model.hidden_size // model.num_attention_heads
    return 2 * model.num_layers * model.num_kv_heads * head_dim * model.dtype_bytes


def _bits(model: ModelSpec) -> int:
    return 8 * kv_bytes_per_token(model)


def _one_layer(model: ModelSpec) -> int:
    return kv_bytes_per_token(model) // model.num_layers


def _always_two_bytes(model: ModelSpec) -> int:
    return kv_bytes_per_token(model) // model.dtype_bytes * 2


def _model(
    layers: int, hidden: int, kv_heads: int, group: int, head_dim: int, params: int, width: int
) -> ModelSpec:
    heads = kv_heads * group
    return ModelSpec("tiny", layers, hidden, heads, kv_heads, head_dim, params, width)


_small = st.integers(1, 8)
_models = st.builds(
    _model,
    layers=_small,
    hidden=st.integers(1, 512),
    kv_heads=_small,
    group=_small,
    head_dim=st.integers(1, 128),
    params=st.integers(1, 10**6),
    width=st.sampled_from((2, 4, 1)),
)

BYTES_PER_TOKEN = Exercise(
    id="1.1",
    title="Bytes per token",
    asks="Return the bytes of KV cache that one token occupies, over all layers of the model.",
    points=10,
    minutes=5,
    difficulty=1,
    check=FunctionCheck(
        reference=kv_bytes_per_token,
        cases=st.builds(Call, _models),
        probes=(
            *(Call(MODELS[key]) for key in ("llama-2-7b", "llama-3.1-70b", "qwen3-32b")),
            Call(replace(MODELS["llama-3.1-8b"], name="Llama-3.1-8B in 8 bits", dtype_bytes=1)),
        ),
        misconceptions=(
            Misconception(
                "K but not V",
                "Attention needs the value of every earlier token as well as its key, so both are "
                "cached.",
                _no_values,
            ),
            Misconception(
                "query heads for KV heads",
                "Queries are used once and thrown away. Only keys and values stay, and under "
                "grouped-query attention there are fewer heads of those.",
                _query_heads,
            ),
            Misconception(
                "hidden_size / heads for head_dim",
                "The width of a head is a setting of its own: Qwen3-32B has 64 heads of 128 "
                "numbers on a hidden size of 5,120.",
                _derived_head_dim,
            ),
            Misconception(
                "bits for bytes", "dtype_bytes counts bytes already; do not times it by 8.", _bits
            ),
            Misconception(
                "one layer only",
                "Every layer computes keys and values of its own and keeps them.",
                _one_layer,
            ),
            Misconception(
                "always two bytes",
                "A number takes model.dtype_bytes: 4 in float32, 1 in an 8-bit type.",
                _always_two_bytes,
            ),
        ),
    ),
    hints=(
        "What does attention in one layer need from an earlier token, and how many layers ask for "
        "it?",
        "Count the numbers that one layer keeps for one token: keys and values, for each KV head. "
        "Then go over all layers, and from numbers to bytes.",
        "`2 x layers x KV heads x head_dim x bytes per number`",
    ),
)

# 1.2


@dataclass(frozen=True)
class _Memory:
    """The numbers of exercise 1.2, for wrong answers to put together wrongly."""

    total: int
    utilization: float
    weights: int
    activations: int
    bytes_per_block: int
    bytes_per_token: int


def _wrong_blocks(count: Callable[[_Memory], int]) -> Callable[..., int]:
    """Give a wrong count the right manners, so that only its arithmetic is wrong."""

    def num_kv_blocks(
        model: ModelSpec,
        gpu: GPUSpec,
        block_size: int = 16,
        gpu_memory_utilization: float = 0.92,
        peak_activation_bytes: int = 0,
    ) -> int:
        memory = _Memory(
            gpu.memory_bytes,
            gpu_memory_utilization,
            model.weight_bytes,
            peak_activation_bytes,
            kv_bytes_per_block(model, block_size),
            kv_bytes_per_token(model),
        )
        blocks = count(memory)
        if not 0 < gpu_memory_utilization <= 1 or blocks < 1:
            raise ValueError("nothing fits")
        return blocks

    return num_kv_blocks


_forgets_weights = _wrong_blocks(
    lambda m: (int(m.total * m.utilization) - m.activations) // m.bytes_per_block
)
_share_of_the_rest = _wrong_blocks(
    lambda m: int((m.total - m.weights - m.activations) * m.utilization) // m.bytes_per_block
)
_share_after_the_weights = _wrong_blocks(
    lambda m: (int((m.total - m.weights) * m.utilization) - m.activations) // m.bytes_per_block
)
_rounds_up = _wrong_blocks(
    lambda m: -((m.weights + m.activations - int(m.total * m.utilization)) // m.bytes_per_block)
)
_counts_tokens = _wrong_blocks(
    lambda m: (int(m.total * m.utilization) - m.weights - m.activations) // m.bytes_per_token
)


@st.composite
def _fitting(draw: st.DrawFn) -> Call:
    """Draw a model and a GPU on which some blocks of it fit."""
    model = draw(_models)
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


_ROOM_FOR_HALF_A_BLOCK = GPUSpec(
    "room for half a block",
    MODELS["llama-2-7b"].weight_bytes + kv_bytes_per_block(MODELS["llama-2-7b"], 16) // 2,
    memory_bandwidth=1e12,
    peak_flops=1e14,
)

KV_BLOCKS = Exercise(
    id="1.2",
    title="How many blocks fit",
    asks=(
        "Return how many whole KV blocks fit into the share of the GPU's memory that the engine "
        "may use, once weights and activations are in."
    ),
    points=15,
    minutes=15,
    difficulty=2,
    check=FunctionCheck(
        reference=num_kv_blocks,
        cases=_fitting(),
        probes=(
            Call(MODELS["llama-3.1-8b"], GPUS["rtx-4090"]),
            Call(MODELS["llama-3.1-8b"], GPUS["rtx-4090"], gpu_memory_utilization=0.833919),
            Call(MODELS["qwen3-14b"], GPUS["a100-80gb"], 32, peak_activation_bytes=GiB),
            Call(MODELS["llama-2-7b"], GPUS["l4"], block_size=128),
        ),
        refusals=(
            Call(MODELS["llama-2-7b"], GPUS["l4"], gpu_memory_utilization=0.0),
            Call(MODELS["llama-2-7b"], GPUS["l4"], gpu_memory_utilization=1.5),
            Call(MODELS["llama-2-7b"], GPUS["l4"], block_size=0),
            Call(MODELS["llama-3.1-70b"], GPUS["a100-80gb"]),
            Call(MODELS["llama-2-7b"], _ROOM_FOR_HALF_A_BLOCK, gpu_memory_utilization=1.0),
        ),
        misconceptions=(
            Misconception(
                "no room for the weights",
                "The weights stay on the GPU all the time; the cache gets what they leave.",
                _forgets_weights,
            ),
            Misconception(
                "a share of the rest",
                "gpu_memory_utilization is a share of all the memory, weights included, not of "
                "what the weights leave.",
                _share_of_the_rest,
            ),
            Misconception(
                "a share of what the weights leave",
                "gpu_memory_utilization is a share of all the memory: take it first, then subtract "
                "weights and activations.",
                _share_after_the_weights,
            ),
            Misconception("rounds up", "A block that fits in part does not fit.", _rounds_up),
            Misconception("tokens, not blocks", "A block holds block_size tokens.", _counts_tokens),
        ),
    ),
    hints=(
        "The GPU has 24 GiB and the engine may use 90% of it. What is in there before the first "
        "token?",
        "From the usable bytes take weights and activations; divide what is left by the size of a "
        "block, downwards. Refuse a share that is none, and a GPU on which not even one block "
        "fits.",
        "`(int(memory * utilization) - weights - activations) // kv_bytes_per_block(model, "
        "block_size)`",
    ),
)

# 1.3


def _counted(used: int, later: int, internal: int, num_slots: int) -> SlotUse:
    """Finish a wrong answer as the lines that the exercise gives do."""
    external = num_slots - (used + later + internal)
    if external < 0:
        raise ValueError("no slot can belong to two requests")
    return SlotUse(used, later, internal, external)


def _all_unwritten_is_waste(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    used = sum(r.written for r in reservations)
    return _counted(used, 0, sum(r.reserved for r in reservations) - used, num_slots)


def _all_unwritten_is_for_later(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    used = sum(r.written for r in reservations)
    return _counted(used, sum(r.reserved for r in reservations) - used, 0, num_slots)


def _final_counts_as_used(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    used = sum(min(r.final, r.reserved) for r in reservations)
    return _counted(used, 0, sum(r.reserved for r in reservations) - used, num_slots)


def _later_without_reservation(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    used = sum(r.written for r in reservations)
    later = sum(r.final - r.written for r in reservations)
    return _counted(used, later, sum(max(0, r.reserved - r.final) for r in reservations), num_slots)


def _negative_internal(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    right = classify_slots(reservations, num_slots)
    return _counted(
        right.used, right.later, sum(r.reserved - r.final for r in reservations), num_slots
    )


def _counted_twice(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    right = classify_slots(reservations, num_slots)
    return _counted(right.used, right.later, right.later + right.internal, num_slots)


def _only_the_last_request(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    return classify_slots(reservations[-1:], num_slots)


def _reservation(written: int, ahead: int, slack: int) -> Reservation:
    """Make a reservation; a negative ``slack`` reserves less than will be written."""
    final = written + ahead
    return Reservation("r", reserved=max(written, final + slack), written=written, final=final)


@st.composite
def _pools(draw: st.DrawFn) -> Call:
    some = st.builds(
        _reservation,
        written=st.integers(0, 20),
        ahead=st.integers(0, 20),
        slack=st.integers(-20, 20),
    )
    reservations = draw(st.lists(some, max_size=4))
    free = draw(st.integers(0, 20))
    return Call(reservations, sum(r.reserved for r in reservations) + free)


CLASSIFY_SLOTS = Exercise(
    id="1.3",
    title="Where did the memory go",
    asks=(
        "Complete the four counts: of all KV slots, how many hold a token, are kept for later, "
        "are lost inside a reservation, and lie outside every reservation."
    ),
    points=10,
    minutes=15,
    difficulty=2,
    check=FunctionCheck(
        reference=classify_slots,
        cases=_pools(),
        probes=(
            Call([Reservation("a", reserved=2048, written=130, final=500)], 15_728),
            Call([Reservation("a", reserved=64, written=20, final=700)], 15_728),
            Call(
                [
                    Reservation("a", reserved=512, written=100, final=300),
                    Reservation("b", reserved=64, written=60, final=64),
                    Reservation("c", reserved=32, written=20, final=700),
                ],
                1_000,
            ),
        ),
        refusals=(
            Call([Reservation("r", reserved=2, written=3, final=5)], 10),
            Call([Reservation("r", reserved=8, written=6, final=5)], 10),
            Call([Reservation("r", reserved=6, written=1, final=6)] * 2, 10),
        ),
        misconceptions=(
            Misconception(
                "every empty slot is wasted",
                "Some of a request's empty slots it will still fill: those are kept for later, and "
                "are not internal fragmentation.",
                _all_unwritten_is_waste,
            ),
            Misconception(
                "no slot is wasted",
                "A request never fills the slots beyond its final length: those are internal "
                "fragmentation, not kept for later.",
                _all_unwritten_is_for_later,
            ),
            Misconception(
                "the future counts as used",
                "A slot is used once a token's KV is in it; what will be written counts as later.",
                _final_counts_as_used,
            ),
            Misconception(
                "later without a reservation",
                "Only slots that are reserved now can be kept for later; a request may have "
                "reserved less than it will need.",
                _later_without_reservation,
            ),
            Misconception(
                "less than nothing lost",
                "A request that has reserved less than it will need loses no slot; it does not "
                "give any back either.",
                _negative_internal,
            ),
            Misconception(
                "later counted as internal too",
                "Each slot is counted once: what is kept for later is not internal fragmentation.",
                _counted_twice,
            ),
            Misconception(
                "only the last request counts",
                "The loop goes over all requests: add to the counts, do not set them.",
                _only_the_last_request,
            ),
        ),
    ),
    hints=(
        "Take one request with 8 slots reserved, 3 tokens written, 5 in the end. Colour its slots.",
        "Up to `written` a slot is used; from there to `final` it is for later, as far as it is "
        "reserved; from `final` to `reserved` it is internal. The pool's other slots are external.",
        "`later += min(reserved, final) - written`",
    ),
)

# 1.4


def _batches(lengths: Sequence[int], batch_size: int) -> list[Sequence[int]]:
    if batch_size < 1 or not lengths or min(lengths) < 1:
        raise ValueError("no batches")
    return [lengths[start : start + batch_size] for start in range(0, len(lengths), batch_size)]


def _mean_of_ratios(output_lengths: Sequence[int], batch_size: int) -> float:
    batches = _batches(output_lengths, batch_size)
    return sum(sum(b) / (batch_size * max(b)) for b in batches) / len(batches)


def _one_global_maximum(output_lengths: Sequence[int], batch_size: int) -> float:
    batches = _batches(output_lengths, batch_size)
    return sum(output_lengths) / (batch_size * max(output_lengths) * len(batches))


def _last_batch_shrinks(output_lengths: Sequence[int], batch_size: int) -> float:
    slots = sum(len(batch) * max(batch) for batch in _batches(output_lengths, batch_size))
    return sum(output_lengths) / slots


def _in_percent(output_lengths: Sequence[int], batch_size: int) -> float:
    return 100 * static_batch_utilization(output_lengths, batch_size)


def _sorted_first(output_lengths: Sequence[int], batch_size: int) -> float:
    _batches(output_lengths, batch_size)
    return static_batch_utilization(sorted(output_lengths), batch_size)


_lengths = st.lists(st.integers(1, 100), min_size=1, max_size=12)

STATIC_BATCHING = Exercise(
    id="1.4",
    title="Waiting for the slowest",
    asks=(
        "Return the share of a batch's seats that generate a token when batches are formed in "
        "order and each runs until its longest request is done."
    ),
    points=10,
    minutes=15,
    difficulty=2,
    check=FunctionCheck(
        reference=static_batch_utilization,
        cases=st.builds(Call, _lengths, batch_size=st.integers(1, 6)),
        refusals=(Call([], 2), Call([3, 0], 2), Call([3, -1], 2), Call([1, 2], 0)),
        probes=(
            Call([4, 1, 2], 2),
            Call([10, 200, 30, 15, 90, 44, 7], 3),
            Call([5, 1, 5, 1], 2),
        ),
        compare=within(rel=1e-9),
        misconceptions=(
            Misconception(
                "mean of the batches",
                "A long batch takes more of the GPU's time than a short one, so it must weigh "
                "more: divide the sums, do not average the quotients.",
                _mean_of_ratios,
            ),
            Misconception(
                "one maximum for all",
                "Each batch ends with its own longest request, not with the longest of all.",
                _one_global_maximum,
            ),
            Misconception(
                "the last batch shrinks",
                "The empty seats of the last batch stand idle too: every batch has batch_size "
                "seats.",
                _last_batch_shrinks,
            ),
            Misconception(
                "sorted first",
                "Batches are formed in order of arrival. Sorting by length would help, but the "
                "length is not known in advance.",
                _sorted_first,
            ),
            Misconception(
                "per cent", "A share lies between 0 and 1; do not times it by 100.", _in_percent
            ),
        ),
    ),
    hints=(
        "Draw three requests of 4, 1 and 2 tokens in batches of two. How many cells has the "
        "picture?",
        "Cut the list into batches. A batch lasts as long as its longest member, and all its slots "
        "count for that long. Then divide all tokens by all slots.",
        "`sum(lengths) / (batch_size * sum(max(batch) for each batch))`",
    ),
)

# 1.5


def _total_bytes(model: ModelSpec, new: int, cached: int, batch: int, weight_reads: int) -> int:
    return weight_reads * model.weight_bytes + batch * kv_bytes_moved(model, new, cached)


def _refuse(new_tokens: int, batch_size: int) -> None:
    if new_tokens < 1 or batch_size < 1:
        raise ValueError("at least 1")


def _weights_per_sequence(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    _refuse(new_tokens, batch_size)
    moved = _total_bytes(model, new_tokens, cached_tokens, batch_size, weight_reads=batch_size)
    return batch_size * forward_flops(model, new_tokens, cached_tokens) / moved


def _no_kv_traffic(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    _refuse(new_tokens, batch_size)
    return batch_size * forward_flops(model, new_tokens, cached_tokens) / model.weight_bytes


def _kv_once(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    _refuse(new_tokens, batch_size)
    moved = _total_bytes(model, new_tokens, cached_tokens, batch=1, weight_reads=1)
    return batch_size * forward_flops(model, new_tokens, cached_tokens) / moved


def _one_long_sequence(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    _refuse(new_tokens, batch_size)
    return arithmetic_intensity(model, batch_size * new_tokens, cached_tokens)


def _no_attention(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    _refuse(new_tokens, batch_size)
    moved = _total_bytes(model, new_tokens, cached_tokens, batch_size, weight_reads=1)
    return batch_size * 2 * model.num_params * new_tokens / moved


def _upside_down(
    model: ModelSpec, new_tokens: int, cached_tokens: int = 0, batch_size: int = 1
) -> float:
    return 1 / arithmetic_intensity(model, new_tokens, cached_tokens, batch_size)


INTENSITY = Exercise(
    id="1.5a",
    title="FLOP per byte",
    asks=(
        "Return the arithmetic intensity of a forward pass over a batch of equal sequences: all "
        "FLOP divided by all bytes moved."
    ),
    points=10,
    minutes=20,
    difficulty=3,
    check=FunctionCheck(
        reference=arithmetic_intensity,
        cases=st.builds(
            Call,
            _models,
            new_tokens=st.integers(1, 50),
            cached_tokens=st.integers(0, 100),
            batch_size=st.integers(1, 16),
        ),
        refusals=(Call(MODELS["llama-2-7b"], 0), Call(MODELS["llama-2-7b"], 1, batch_size=0)),
        probes=(
            Call(MODELS["llama-3.1-8b"], new_tokens=1, cached_tokens=999),
            Call(MODELS["llama-3.1-8b"], new_tokens=1, cached_tokens=4095, batch_size=64),
            Call(MODELS["llama-2-7b"], new_tokens=2048, cached_tokens=0, batch_size=2),
        ),
        compare=within(rel=1e-9),
        misconceptions=(
            Misconception(
                "weights once per sequence",
                "One pass reads the weights once, however many sequences share it. That is why "
                "batching pays.",
                _weights_per_sequence,
            ),
            Misconception(
                "no KV traffic",
                "Every decode step reads the whole KV cache of every sequence; at a long "
                "context that "
                "is more than the weights.",
                _no_kv_traffic,
            ),
            Misconception(
                "one sequence's KV",
                "Each sequence of the batch has a KV cache of its own, and reads it.",
                _kv_once,
            ),
            Misconception(
                "one long sequence",
                "A batch is many short sequences, not one long one: a token attends to its own "
                "sequence only.",
                _one_long_sequence,
            ),
            Misconception(
                "no attention",
                "Besides the parameters, each new token meets the keys and values of its sequence; "
                "forward_flops counts both.",
                _no_attention,
            ),
            Misconception("bytes per FLOP", "Intensity is FLOP divided by bytes.", _upside_down),
        ),
    ),
    hints=(
        "Which of these are paid once per pass, and which once per sequence: weights, KV, FLOP?",
        "Sum the FLOP of all sequences with `forward_flops`. Sum the bytes: weights once, and "
        "`kv_bytes_moved` for each sequence.",
        "`batch * flops / (weight_bytes + batch * kv_bytes)`",
    ),
)

ROOFLINE_CASES = {
    "decode, 1 sequence, context 1,000": Call(MODELS["llama-3.1-8b"], 1, 999, 1),
    "decode, 512 sequences, context 4,096": Call(MODELS["llama-3.1-8b"], 1, 4095, 512),
    "prefill of 100 tokens": Call(MODELS["llama-3.1-8b"], 100),
    "prefill of 2,000 tokens": Call(MODELS["llama-3.1-8b"], 2000),
}
"""Forward passes to be put on one side of the roofline of an H100."""


def _sides() -> dict[str, bool]:
    return {
        name: is_memory_bound(arithmetic_intensity(*case.args), GPUS["h100"])
        for name, case in ROOFLINE_CASES.items()
    }


SIDES = Exercise(
    id="1.5b",
    title="Which side of the roofline",
    asks=(
        "Say of each of the four forward passes whether it is memory-bound on an H100: a dict from "
        "its name to True or False."
    ),
    points=5,
    minutes=5,
    difficulty=1,
    check=AnswerCheck(
        reference=_sides,
        question="memory_bound",
        misconceptions=(
            Misconception(
                "every prefill is compute-bound",
                "A prefill of n tokens has an intensity of about n. A short one stays below the "
                "ridge point of 295.",
                dict.fromkeys(ROOFLINE_CASES, True)
                | {"prefill of 100 tokens": False, "prefill of 2,000 tokens": False},
            ),
            Misconception(
                "a large batch is compute-bound",
                "At a long context each sequence brings KV traffic of its own: the intensity of a "
                "decode step flattens out far below the ridge point.",
                dict.fromkeys(ROOFLINE_CASES, False)
                | {"decode, 1 sequence, context 1,000": True, "prefill of 100 tokens": True},
            ),
            Misconception(
                "the wrong way round",
                "Below the ridge point the work waits for memory: it is memory-bound.",
                dict.fromkeys(ROOFLINE_CASES, False) | {"prefill of 2,000 tokens": True},
            ),
        ),
    ),
    hints=(
        "What is the intensity of each, and where is the ridge point?",
        "Call `arithmetic_intensity` for each case; hold it against `h100.ridge_point`.",
        "`is_memory_bound(intensity(model, 100), h100)`",
    ),
)

# 1.6, the bug hunt

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


def _only_heads_mended(config: Mapping[str, Any], free_bytes: int) -> int:
    without = {key: value for key, value in config.items() if key != "head_dim"}
    return tokens_that_fit(without, free_bytes)


def _always_16_bits(config: Mapping[str, Any], free_bytes: int) -> int:
    return tokens_that_fit({**config, "torch_dtype": "bfloat16"}, free_bytes)


def _divided_by_kv_heads(config: Mapping[str, Any], free_bytes: int) -> int:
    kv_heads = config.get("num_key_value_heads", config["num_attention_heads"])
    head_dim = config.get("head_dim", config["hidden_size"] // kv_heads)
    return tokens_that_fit({**config, "head_dim": head_dim}, free_bytes)


def _only_head_dim_mended(config: Mapping[str, Any], free_bytes: int) -> int:
    without = {key: value for key, value in config.items() if key != "num_key_value_heads"}
    return tokens_that_fit(without, free_bytes)


def _exposes_a_bug(_: Any, config: Any) -> str | None:
    """Agree with a configuration whose shape the suspect gets wrong."""
    if not isinstance(config, dict):
        return f"a config.json holds an object: give a dict, not a {type(config).__name__}"
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


def _is_right_for(_: Any, config: Any) -> str | None:
    """Agree with a configuration whose shape the suspect gets right."""
    return None if (_exposes_a_bug(_, config) or "").endswith("that is right") else ""


@st.composite
def _configs(draw: st.DrawFn) -> Call:
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


BUG_EXPOSED = Exercise(
    id="1.6a",
    title="Bug hunt: show that it is wrong",
    asks="Give a configuration, as a dict, for which the calculator's answer is wrong.",
    points=5,
    minutes=5,
    difficulty=1,
    check=AnswerCheck(
        reference=lambda: QWEN3_32B,
        question="your configuration",
        compare=_exposes_a_bug,
        alike=_is_right_for,
        misconceptions=(
            Misconception(
                "a model that it is right for",
                "In a model of this kind every query head has a KV head, and the heads share the "
                "hidden size evenly. Which models are built otherwise?",
                LLAMA_2_7B,
            ),
        ),
    ),
    hints=(
        "Which numbers of exercise 1.1 does the calculator never look at?",
        "Take the calculator's fields for Llama-2-7B and add what newer models have.",
        '`{**LLAMA_2_7B, "num_key_value_heads": ...}`',
    ),
)

BUG_MENDED = Exercise(
    id="1.6b",
    title="Bug hunt: mend it",
    asks=(
        "Return how many tokens of KV cache fit into free_bytes, for any Hugging Face "
        "configuration of "
        "a model with MHA, GQA or MQA."
    ),
    points=5,
    minutes=10,
    difficulty=2,
    check=FunctionCheck(
        reference=tokens_that_fit,
        cases=_configs(),
        probes=(
            Call(LLAMA_2_7B, GiB),
            Call(LLAMA_3_1_70B, GiB),
            Call(QWEN3_32B, GiB),
            Call({**LLAMA_2_7B, "torch_dtype": "float32"}, GiB),
        ),
        misconceptions=(
            Misconception(
                "the suspect, unchanged",
                "It still takes every query head for a KV head, and hidden_size / heads for "
                "head_dim.",
                suspect_tokens_that_fit,
            ),
            Misconception(
                "one bug is left: head_dim",
                "A configuration may give head_dim itself; only where it does not is it "
                "hidden_size / num_attention_heads.",
                _only_heads_mended,
            ),
            Misconception(
                "one bug is left: heads",
                "The cache holds num_key_value_heads heads; only where that is not given are "
                "there as many as query heads.",
                _only_head_dim_mended,
            ),
            Misconception(
                "float32 got lost",
                "The suspect was right about the size of a number: 4 bytes in float32, else 2.",
                _always_16_bits,
            ),
            Misconception(
                "hidden_size / KV heads",
                "Where head_dim is not given, the query heads share the hidden size evenly, not "
                "the KV heads.",
                _divided_by_kv_heads,
            ),
        ),
    ),
    hints=(
        "Compare Llama-2-7B with Llama-3.1-70B, then with Qwen3-32B: which field is new each time?",
        "Two fields may be missing from a configuration, and each has a rule for what it is then.",
        '`kv_heads = config.get("num_key_value_heads", heads)`',
    ),
)

# 1.7, the measurement

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
def _measured_shares() -> dict[str, dict[str, float]]:
    requests = experiment_requests()
    shares = {
        name: average_shares(replay_contiguous(requests, OPT_13B_SLOTS, reserve, MAX_MODEL_LEN))
        for name, reserve in RESERVATIONS.items()
    }
    return {**shares, "Paged": average_shares(replay_paged(requests, OPT_13B_SLOTS))}


def _in_percents() -> dict[str, dict[str, float]]:
    return {
        name: {kind: 100 * share for kind, share in shares.items()}
        for name, shares in _measured_shares().items()
    }


MEASURED = Exercise(
    id="1.7",
    title="Measure: where the memory goes",
    asks=(
        'Fill `shares`: the four average shares under "Pow2", "Oracle" and "Paged", as they are '
        'there for "Max" already.'
    ),
    points=5,
    minutes=20,
    difficulty=2,
    check=AnswerCheck(
        reference=_measured_shares,
        question="shares",
        compare=within(rel=1e-6),
        misconceptions=(
            Misconception("per cent", "Keep the shares between 0 and 1.", _in_percents),
            Misconception(
                "one policy for all",
                "The shares are the same under each name; pass the policy of that name.",
                lambda: dict.fromkeys(_measured_shares(), _measured_shares()["Max"]),
            ),
        ),
    ),
    hints=(
        "What differs between the three calls for the three policies?",
        "Loop over `RESERVATIONS.items()` and replay the requests under each; then once more, paged.",
        "`shares[name] = average_shares(replay_contiguous(requests, num_slots, policy, 2048), "
        "classify)`",
    ),
)

QUIZ = Exercise(
    id="1.Q",
    title="Quiz",
    asks="Answer each question with a letter. Seven of the eight right is a pass.",
    points=10,
    minutes=10,
    difficulty=1,
    check=QuizCheck(lesson=1),
)

EXERCISES = (
    *WARM_UP,
    BYTES_PER_TOKEN,
    KV_BLOCKS,
    CLASSIFY_SLOTS,
    STATIC_BATCHING,
    INTENSITY,
    SIDES,
    BUG_EXPOSED,
    BUG_MENDED,
    MEASURED,
    QUIZ,
)
