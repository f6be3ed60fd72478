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
from autograder.checks.function import Call, FunctionCheck, Large
from autograder.checks.quiz import QuizCheck
from autograder.checks.values import value_exercise
from autograder.lessons import lesson01_given as given
from autograder.lessons import lesson01_mistakes as wrong
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

_SHAPE_MATTERS = {
    ModelSpec: (
        "num_layers",
        "hidden_size",
        "num_attention_heads",
        "num_kv_heads",
        "head_dim",
        "dtype_bytes",
    )
}
"""What a failing case shows of a model: not only what the answer needs, which would be telling."""

_MEMORY_MATTERS = {ModelSpec: (*_SHAPE_MATTERS[ModelSpec], "num_params")}

# 1.1

BYTES_PER_TOKEN = Exercise(
    id="1.1",
    title="Bytes per token",
    asks="Return the bytes of KV cache that one token occupies, over all layers of the model.",
    points=10,
    minutes=5,
    difficulty=1,
    check=FunctionCheck(
        reference=kv_bytes_per_token,
        cases=st.builds(Call, given.models),
        matters=_SHAPE_MATTERS,
        probes=(
            *(Call(MODELS[key]) for key in ("llama-2-7b", "llama-3.1-70b", "qwen3-32b")),
            Call(replace(MODELS["llama-3.1-8b"], name="Llama-3.1-8B in 8 bits", dtype_bytes=1)),
        ),
        misconceptions=(
            Misconception(
                "K but not V",
                "Attention needs the value of every earlier token as well as its key, so both are "
                "cached.",
                wrong.no_values,
            ),
            Misconception(
                "query heads for KV heads",
                "Queries are used once and thrown away. Only keys and values stay, and under "
                "grouped-query attention there are fewer heads of those.",
                wrong.query_heads,
                evidence=r"num_attention_heads",
            ),
            Misconception(
                "hidden_size / heads for head_dim",
                "The width of a head is a setting of its own: Qwen3-32B has 64 heads of 128 "
                "numbers on a hidden size of 5,120.",
                wrong.derived_head_dim,
                evidence=r"hidden_size",
            ),
            Misconception(
                "bits for bytes", "dtype_bytes counts bytes already; do not times it by 8.", wrong.bits,
                evidence=r"\b8\b"
            ),
            Misconception(
                "one layer only",
                "Every layer computes keys and values of its own and keeps them.",
                wrong.one_layer,
            ),
            Misconception(
                "always two bytes",
                "A number takes model.dtype_bytes: 4 in float32, 1 in an 8-bit type.",
                wrong.always_two_bytes,
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
        cases=given.fitting(),
        matters={**_MEMORY_MATTERS, GPUSpec: ("memory_bytes",)},
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
            Call(MODELS["llama-2-7b"], given.ROOM_FOR_HALF_A_BLOCK, gpu_memory_utilization=1.0),
        ),
        misconceptions=(
            Misconception(
                "no room for the weights",
                "The weights stay on the GPU all the time; the cache gets what they leave.",
                wrong.forgets_weights,
            ),
            Misconception(
                "a share of the rest",
                "gpu_memory_utilization is a share of all the memory, weights included, not of "
                "what the weights leave.",
                wrong.share_of_the_rest,
            ),
            Misconception(
                "a share of what the weights leave",
                "gpu_memory_utilization is a share of all the memory: take it first, then subtract "
                "weights and activations.",
                wrong.share_after_the_weights,
            ),
            Misconception("rounds up", "A block that fits in part does not fit.", wrong.rounds_up),
            Misconception("tokens, not blocks", "A block holds block_size tokens.", wrong.counts_tokens),
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
        cases=given.pools(),
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
                wrong.all_unwritten_is_waste,
            ),
            Misconception(
                "no slot is wasted",
                "A request never fills the slots beyond its final length: those are internal "
                "fragmentation, not kept for later.",
                wrong.all_unwritten_is_for_later,
            ),
            Misconception(
                "the future counts as used",
                "A slot is used once a token's KV is in it; what will be written counts as later.",
                wrong.final_counts_as_used,
            ),
            Misconception(
                "later without a reservation",
                "Only slots that are reserved now can be kept for later; a request may have "
                "reserved less than it will need.",
                wrong.later_without_reservation,
            ),
            Misconception(
                "less than nothing lost",
                "A request that has reserved less than it will need loses no slot; it does not "
                "give any back either.",
                wrong.negative_internal,
            ),
            Misconception(
                "later counted as internal too",
                "Each slot is counted once: what is kept for later is not internal fragmentation.",
                wrong.counted_twice,
            ),
            Misconception(
                "only the last request counts",
                "The loop goes over all requests: add to the counts, do not set them.",
                wrong.only_the_last_request,
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
        cases=st.builds(Call, given.lengths, batch_size=st.integers(1, 6)),
        refusals=(Call([], 2), Call([3, 0], 2), Call([3, -1], 2), Call([1, 2], 0)),
        probes=(
            Call([4, 1, 2], 2),
            Call([10, 200, 30, 15, 90, 44, 7], 3),
            Call([5, 1, 5, 1], 2),
        ),
        compare=within(rel=1e-9),
        large=(Large(given.many_lengths, "100,000 requests"),),
        misconceptions=(
            Misconception(
                "mean of the batches",
                "A long batch takes more of the GPU's time than a short one, so it must weigh "
                "more: divide the sums, do not average the quotients.",
                wrong.mean_of_ratios,
            ),
            Misconception(
                "one maximum for all",
                "Each batch ends with its own longest request, not with the longest of all.",
                wrong.one_global_maximum,
            ),
            Misconception(
                "the last batch shrinks",
                "The empty seats of the last batch stand idle too: every batch has batch_size "
                "seats.",
                wrong.last_batch_shrinks,
            ),
            Misconception(
                "sorted first",
                "Batches are formed in order of arrival. Sorting by length would help, but the "
                "length is not known in advance.",
                wrong.sorted_first,
                evidence=r"\bsort(ed)?\b",
            ),
            Misconception(
                "per cent", "A share lies between 0 and 1; do not times it by 100.", wrong.in_percent
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
            given.models,
            new_tokens=st.integers(1, 50),
            cached_tokens=st.integers(0, 100),
            batch_size=st.integers(1, 16),
        ),
        matters=_MEMORY_MATTERS,
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
                wrong.weights_per_sequence,
            ),
            Misconception(
                "no KV traffic",
                "Every decode step reads the whole KV cache of every sequence; at a long "
                "context that "
                "is more than the weights.",
                wrong.no_kv_traffic,
            ),
            Misconception(
                "one sequence's KV",
                "Each sequence of the batch has a KV cache of its own, and reads it.",
                wrong.kv_once,
            ),
            Misconception(
                "one long sequence",
                "A batch is many short sequences, not one long one: a token attends to its own "
                "sequence only.",
                wrong.one_long_sequence,
            ),
            Misconception(
                "no attention",
                "Besides the parameters, each new token meets the keys and values of its sequence; "
                "forward_flops counts both.",
                wrong.no_attention,
            ),
            Misconception("bytes per FLOP", "Intensity is FLOP divided by bytes.", wrong.upside_down),
        ),
    ),
    hints=(
        "Which of these are paid once per pass, and which once per sequence: weights, KV, FLOP?",
        "Sum the FLOP of all sequences with `forward_flops`. Sum the bytes: weights once, and "
        "`kv_bytes_moved` for each sequence.",
        "`batch * flops / (weight_bytes + batch * kv_bytes)`",
    ),
)

# 1.6, the bug hunt

BUG_EXPOSED = Exercise(
    id="1.6a",
    title="Bug hunt: show that it is wrong",
    asks="Give a configuration, as a dict, for which the calculator's answer is wrong.",
    points=5,
    minutes=5,
    difficulty=1,
    check=AnswerCheck(
        reference=lambda: given.QWEN3_32B,
        question="your configuration",
        wanted="a configuration for which the calculator's answer is wrong",
        compare=given.exposes_a_bug,
        alike=given.is_right_for,
        misconceptions=(
            Misconception(
                "a model that it is right for",
                "In a model of this kind every query head has a KV head, and the heads share the "
                "hidden size evenly. Which models are built otherwise?",
                given.LLAMA_2_7B,
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
        reference=given.tokens_that_fit,
        cases=given.configs(),
        probes=(
            Call(given.LLAMA_2_7B, GiB),
            Call(given.LLAMA_3_1_70B, GiB),
            Call(given.QWEN3_32B, GiB),
            Call({**given.LLAMA_2_7B, "torch_dtype": "float32"}, GiB),
        ),
        misconceptions=(
            Misconception(
                "the suspect, unchanged",
                "It still takes every query head for a KV head, and hidden_size / heads for "
                "head_dim.",
                given.suspect_tokens_that_fit,
            ),
            Misconception(
                "one bug is left: head_dim",
                "A configuration may give head_dim itself; only where it does not is it "
                "hidden_size / num_attention_heads.",
                wrong.only_heads_mended,
            ),
            Misconception(
                "one bug is left: heads",
                "The cache holds num_key_value_heads heads; only where that is not given are "
                "there as many as query heads.",
                wrong.only_head_dim_mended,
            ),
            Misconception(
                "float32 got lost",
                "The suspect was right about the size of a number: 4 bytes in float32, else 2.",
                wrong.always_16_bits,
            ),
            Misconception(
                "hidden_size / KV heads",
                "Where head_dim is not given, the query heads share the hidden size evenly, not "
                "the KV heads.",
                wrong.divided_by_kv_heads,
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
        reference=given.measured_shares,
        question="shares",
        compare=within(rel=1e-6),
        misconceptions=(
            Misconception("per cent", "Keep the shares between 0 and 1.", wrong.in_percents),
            Misconception(
                "one policy for all",
                "The shares are the same under each name; pass the policy of that name.",
                lambda: dict.fromkeys(given.measured_shares(), given.measured_shares()["Max"]),
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
    *(value_exercise(1, f"1.W{number}") for number in (1, 2, 3)),
    BYTES_PER_TOKEN,
    KV_BLOCKS,
    CLASSIFY_SLOTS,
    STATIC_BATCHING,
    INTENSITY,
    value_exercise(1, "1.5b"),
    BUG_EXPOSED,
    BUG_MENDED,
    MEASURED,
    QUIZ,
)
