"""Lesson 1, traditional attention problems: its exercises."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from autograder.checks.answer import AnswerCheck
from autograder.checks.compare import within
from autograder.checks.exercise import Exercise
from autograder.checks.function import Call, FunctionCheck, Large
from autograder.checks.quiz import QuizCheck
from autograder.checks.values import value_exercise
from autograder.lessons import lesson01_batch_mistakes as batch
from autograder.lessons import lesson01_calculator_mistakes as calculator
from autograder.lessons import lesson01_given as given
from autograder.lessons import lesson01_intensity_mistakes as intensity
from autograder.lessons import lesson01_mistakes as mistakes
from autograder.lessons import lesson01_pieces_mistakes as pieces
from autograder.lessons import lesson01_rounding_mistakes as rounding
from course_lib.kv_cache import kv_bytes_per_token, num_kv_blocks
from course_lib.kv_cache.reservation import Reservation, classify_slots, static_batch_utilization
from course_lib.roofline import arithmetic_intensity
from course_lib.specs import GPUS, MODELS, GiB

# 1.1

BYTES_PER_TOKEN = Exercise(
    id="1.1",
    title="Bytes per token",
    asks="Return the bytes of KV cache that one token occupies, over all layers of the model.",
    points=10,
    minutes=12,
    difficulty=2,
    check=FunctionCheck(
        reference=kv_bytes_per_token,
        cases=st.builds(Call, given.models),
        matters=given.MATTERS,
        typed=given.typed(kv_bytes_per_token),
        is_telling=True,
        probes=(
            *(Call(MODELS[key]) for key in ("llama-2-7b", "llama-3.1-70b", "qwen3-32b")),
            Call(replace(MODELS["llama-2-7b"], name="Llama-2-7B in 32 bits", dtype_bytes=4)),
            Call(replace(MODELS["llama-3.1-8b"], name="Llama-3.1-8B in 8 bits", dtype_bytes=1)),
        ),
        misconceptions=mistakes.BYTES_PER_TOKEN,
    ),
    hints=(
        "What does attention in one layer need from an earlier token, and how many layers ask for "
        "it?",
        "Count the numbers that one layer keeps for one token: keys and values, for each KV head. "
        "Then go over all layers, and from numbers to bytes.",
        "`model.num_layers * (keys + values) * model.dtype_bytes`, and for one layer "
        "`keys = model.num_kv_heads * model.head_dim`",
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
    points=10,
    minutes=15,
    difficulty=2,
    check=FunctionCheck(
        reference=num_kv_blocks,
        cases=given.fitting(),
        matters=given.MATTERS,
        typed=given.typed(num_kv_blocks),
        is_telling=True,
        probes=(
            Call(MODELS["llama-3.1-8b"], GPUS["rtx-4090"]),
            Call(MODELS["llama-3.1-8b"], GPUS["rtx-4090"], gpu_memory_utilization=0.833919),
            Call(MODELS["qwen3-14b"], GPUS["a100-80gb"], 32, peak_activation_bytes=GiB),
            Call(MODELS["llama-2-7b"], GPUS["l4"], block_size=128),
        ),
        refusals=(
            Call(MODELS["llama-2-7b"], GPUS["l4"], gpu_memory_utilization=0.0),
            Call(MODELS["llama-2-7b"], GPUS["l4"], gpu_memory_utilization=1.5),
            Call(MODELS["llama-2-7b"], GPUS["l4"], gpu_memory_utilization=1.01),
            Call(MODELS["llama-2-7b"], GPUS["a100-80gb"], gpu_memory_utilization=-0.5),
            Call(MODELS["llama-2-7b"], GPUS["l4"], block_size=0),
            Call(MODELS["llama-2-7b"], GPUS["l4"], block_size=-1),
            Call(MODELS["llama-3.1-70b"], GPUS["a100-80gb"]),
            Call(MODELS["llama-2-7b"], given.ROOM_FOR_HALF_A_BLOCK, gpu_memory_utilization=1.0),
        ),
        misconceptions=mistakes.KV_BLOCKS,
    ),
    hints=(
        "Take a GPU of 24 GiB, of which the engine may use the share gpu_memory_utilization. What "
        "is in there before the first token?",
        "From the usable bytes take weights and activations; divide what is left by the size of a "
        "block, downwards. Refuse a share outside (0, 1], and a GPU on which not even one block "
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
        "Complete three counts: of the reserved KV slots, how many hold a token, are kept for "
        "later, and are never written by their request."
    ),
    points=10,
    minutes=10,
    difficulty=2,
    check=FunctionCheck(
        reference=classify_slots,
        cases=given.pools(),
        compare=given.same_counts,
        is_telling=True,
        probes=(
            Call([Reservation("a", reserved=2048, written=130, final=500)], 15_728),
            Call([Reservation("a", reserved=16, written=0, final=7)], 16),
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
            Call([Reservation(each, reserved=6, written=1, final=6) for each in "rs"], 10),
            # Whichever of several it is: the first, and not the last.
            Call([Reservation("r", 2, 3, 5), Reservation("s", 4, 1, 4)], 10),
            Call([Reservation("r", 8, 6, 5), Reservation("s", 2, 1, 2)], 10),
        ),
        large=(Large(given.many_reservations, "20,000 requests"),),
        misconceptions=mistakes.CLASSIFY_SLOTS,
    ),
    hints=(
        "Take one request with 8 slots reserved, 3 tokens written, 5 in the end. Colour its slots.",
        "Up to `written` a slot is used; from there to `final` it is for later, as far as it is "
        "reserved; from `final` to `reserved` it is internal. What is left is external.",
        "`later += min(reserved, final) - written`",
    ),
)

# 1.4


STATIC_BATCHING = Exercise(
    id="1.4",
    title="Waiting for the slowest (stretch)",
    asks=(
        "Return the share of a batch's seats that generate a token when batches are formed in "
        "order and each runs until its longest request is done."
    ),
    points=5,
    minutes=10,
    difficulty=2,
    check=FunctionCheck(
        reference=static_batch_utilization,
        cases=st.builds(Call, given.lengths, batch_size=st.integers(1, 6)),
        refusals=(
            Call([], 2),
            *(Call(each, 2) for each in ([0, 3], [3, 0], [2, 0, 3], [3, -1], [5, -1, 2])),
            Call([1, 2], 0),
            Call([1, 2], -1),
        ),
        probes=(
            Call([2, 1, 2], 2),
            Call([2, 2, 1], 2),
            Call([4, 1, 2], 2),
            Call([10, 200, 30, 15, 90, 44, 7], 3),
            Call([5, 1, 5, 1], 2),
        ),
        compare=within(rel=1e-9),
        large=(
            Large(
                given.many_lengths,
                "400,000 requests",
                slow="A copy of the rest with each batch (a slice, or pop(0), which moves all that "
                "follow) makes the work grow with the square of the requests",
            ),
        ),
        misconceptions=batch.STATIC_BATCHING,
    ),
    hints=(
        "Draw three requests of 4, 1 and 2 tokens in batches of two. How many cells has the "
        "picture?",
        "Cut the list into batches. A batch lasts as long as its longest member, and all its seats "
        "count for that long. Then divide all tokens by all seats.",
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
    minutes=15,
    difficulty=2,
    check=FunctionCheck(
        reference=arithmetic_intensity,
        cases=st.builds(
            Call,
            given.models,
            new_tokens=st.integers(1, 50),
            cached_tokens=st.integers(0, 100),
            batch_size=st.integers(1, 16),
        ),
        matters=given.MATTERS,
        typed=given.typed(arithmetic_intensity),
        is_telling=True,
        refusals=(
            *(Call(MODELS["llama-2-7b"], number) for number in (0, -1)),
            *(Call(MODELS["llama-2-7b"], 1, batch_size=number) for number in (0, -1)),
            Call(MODELS["llama-2-7b"], -1, batch_size=-1),
        ),
        probes=(
            Call(MODELS["llama-3.1-8b"], new_tokens=1, cached_tokens=999),
            Call(MODELS["llama-3.1-8b"], new_tokens=1, cached_tokens=4095, batch_size=64),
            Call(MODELS["llama-2-7b"], new_tokens=2048, cached_tokens=0, batch_size=2),
        ),
        compare=within(rel=1e-9),
        misconceptions=intensity.INTENSITY,
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
    asks=(
        "Give the configuration of a model in float32, float16 or bfloat16, as a dict, for which "
        "the calculator's answer is wrong."
    ),
    points=5,
    minutes=5,
    difficulty=1,
    check=AnswerCheck(
        reference=lambda: given.QWEN3_32B,
        question="your configuration",
        wanted="a configuration for which the calculator's answer is wrong",
        compare=given.exposes_a_bug,
        alike=given.is_right_for,
        misconceptions=calculator.BUG_EXPOSED,
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
        "Return how many tokens of KV cache fit into free_bytes, from a Hugging Face "
        "configuration that names KV heads and head size as the docstring says, or leaves them out."
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
            Call({**given.LLAMA_3_1_70B, "head_dim": 64}, GiB),
            Call({**given.LLAMA_2_7B, "head_dim": 64}, GiB),
        ),
        misconceptions=calculator.BUG_MENDED,
    ),
    hints=(
        "Compare Llama-2-7B with Llama-3.1-70B, then with Qwen3-32B: which field is new each time?",
        "Two fields may be missing from a configuration, and each has a rule for what it is then.",
        '`kv_heads = config.get("num_key_value_heads", heads)`',
    ),
)

# 1.7, the allocator and the measurement

ADMIT = Exercise(
    id="1.7a",
    title="Pieces from a buddy allocator",
    asks=(
        "Return what each request that is admitted asks for under Pow2, and the piece that it gets "
        "from a buddy allocator."
    ),
    points=15,
    minutes=30,
    difficulty=3,
    check=FunctionCheck(
        reference=given.admit_under_pow2,
        cases=given.queues(),
        probes=given.QUEUES,
        compare=given.same_pieces,
        large=(
            Large(
                given.very_long_queue,
                "50,000 requests",
                seconds=1.1,
                slow="A look at all requests for each one makes the work grow with the square",
            ),
        ),
        misconceptions=pieces.ADMIT,
    ),
    hints=(
        "With free blocks of 16 and 4, what is left after a piece of 2, and what after one of 8?",
        "For each request: round the output up, add the prompt, keep to the limit, round the sum "
        "up. Then take the smallest free block that is large enough, and halve it while half is "
        "enough; the other halves are free. Stop at the first request that finds none.",
        "`while block >= 2 * piece: block //= 2; free.append(block)`",
    ),
)

MEASURED = Exercise(
    id="1.7b",
    title="Measure: what the external slots are",
    asks=(
        'Fill `rounded`: under "Pow2" and under "Oracle", the share of all slots that the '
        "allocator rounds up, averaged over the iterations."
    ),
    points=5,
    minutes=10,
    difficulty=2,
    check=AnswerCheck(
        reference=given.rounded_shares,
        question="rounded",
        compare=within(rel=0.0, absolute=5e-4),
        misconceptions=rounding.MEASURED,
    ),
    hints=(
        "Which number of a `Reservation` says what was asked for, and which piece did it get?",
        "In each snapshot, add up piece minus reservation over the running requests, and divide by "
        "all slots of the memory. Then average over the snapshots.",
        "`sum(piece - r.reserved for r in snapshot.reservations) / num_slots`, where `piece` is "
        "the smallest power of two that is not below `r.reserved`.",
    ),
)

QUIZ = Exercise(
    id="1.Q",
    title="Quiz",
    asks="Answer each question with a letter. Eight of the ten right, 80%, is a pass.",
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
    ADMIT,
    MEASURED,
    QUIZ,
)
