"""Lesson 2, the PagedAttention algorithm: its exercises."""

from __future__ import annotations

from autograder.checks.answer import AnswerCheck
from autograder.checks.exercise import Exercise
from autograder.checks.function import FunctionCheck
from autograder.checks.kernel import KernelCheck
from autograder.checks.parsons import ParsonsCheck
from autograder.checks.quiz import QuizCheck
from autograder.checks.values import value_exercise
from autograder.lessons import lesson02_given as given
from autograder.lessons import lesson02_hunt as hunt
from autograder.lessons import lesson02_kernels as kernels
from autograder.lessons import lesson02_measure as measure
from autograder.lessons import lesson02_merge_mistakes as merge_mistakes
from autograder.lessons import lesson02_mistakes as mistakes
from autograder.lessons import lesson02_paged_mistakes as paged_mistakes
from autograder.lessons import lesson02_split_kernels as split_kernels
from course_lib.attention.batch import PagedBatch
from course_lib.attention.dense import merge_states, partial_attention, softmax
from course_lib.attention.paged import attend_blocks, paged_decode

_KERNEL_PATIENCE = 30.0

# 2.1

SOFTMAX = Exercise(
    id="2.1",
    title="Softmax that does not overflow",
    asks="Return the softmax of scores over their last dimension, also for scores of 1,000.",
    points=5,
    minutes=8,
    difficulty=1,
    check=FunctionCheck(
        reference=softmax,
        cases=given.scores(),
        probes=given.SCORES,
        large=given.MANY_ROWS,
        compare=given.closely,
        misconceptions=mistakes.SOFTMAX,
    ),
    hints=(
        "What is exp(1000), and what is inf / inf?",
        "The same number subtracted from all scores of a row changes no weight. Choose it so that "
        "no exponent is positive.",
        "`weights = exp(scores - largest of the row)`, then `weights / sum of the row`, both with "
        "`dim=-1, keepdim=True`",
    ),
)

# 2.2

PARTIAL = Exercise(
    id="2.2",
    title="What one worker leaves behind",
    asks="Return the state (m, l, acc) of one token's query heads over the keys that are given.",
    points=10,
    minutes=18,
    difficulty=2,
    check=FunctionCheck(
        reference=partial_attention,
        cases=given.keys_of_one_query(),
        probes=given.SEEN_KEYS,
        refusals=given.UNFIT_KEYS,
        large=given.MANY_KEYS,
        compare=given.closely_merged,
        misconceptions=mistakes.PARTIAL,
    ),
    hints=(
        "With 8 query heads and 2 KV heads, which keys does query head 5 read?",
        "Widen all three. Group the query heads by KV head and score them with its keys, times the "
        "scale. Take each head's maximum, the weights relative to it, and the two sums.",
        '`scores = einsum("kgd,nkd->kgn", query.unflatten(0, (KV heads, -1)), key) * scale`',
    ),
)

# 2.3

MERGE = Exercise(
    id="2.3",
    title="Merge two states",
    asks=(
        "Return the state over the keys of two states of the same query; either may have seen "
        "nothing."
    ),
    points=12,
    minutes=15,
    difficulty=2,
    check=FunctionCheck(
        reference=merge_states,
        cases=given.two_states(),
        probes=given.STATES,
        large=given.MANY_HEADS,
        compare=given.closely_merged,
        may_return=("first", "second"),  # the other one may be empty
        misconceptions=merge_mistakes.MERGE,
    ),
    hints=(
        "Both states hold sums of exp(score - m). With which m?",
        "Bring the sums of both to the larger maximum, then add. A state that has seen nothing has "
        "no part in the sum, also where the other one is empty, too.",
        "`factor = exp(own m - larger m)`, and 0 where the own m is -inf",
    ),
)

# 2.4

ATTEND = Exercise(
    id="2.4a",
    title="Attention over blocks",
    asks="Return the attention of one token over a sequence whose blocks lie anywhere.",
    points=15,
    minutes=25,
    difficulty=3,
    check=FunctionCheck(
        reference=attend_blocks,
        cases=given.paged_sequences(),
        probes=given.SEQUENCES,
        refusals=given.UNFIT_SEQUENCES,
        large=given.LONG_SEQUENCES,
        compare=given.closely,
        misconceptions=paged_mistakes.ATTEND,
    ),
    hints=(
        "A sequence of 3 tokens lies in blocks 2 and 0, of two slots each. Whose is the second "
        "slot of block 0?",
        "Begin with the empty state. For each block of the context: where it lies, how many of its "
        "slots are filled, the state over those, merged with what there is. Divide at the end.",
        "`filled = min(block_size, context_len - start)`",
    ),
)

DECODE = Exercise(
    id="2.4b",
    title="A batch of sequences",
    asks="Return the attention of one new token per sequence over that sequence.",
    points=3,
    minutes=5,
    difficulty=1,
    check=FunctionCheck(
        reference=paged_decode,
        cases=given.batches(),
        probes=given.BATCHES,
        refusals=given.UNFIT_BATCHES,
        large=given.MANY_SEQUENCES,
        compare=given.closely,
        matters={PagedBatch: ("block_tables", "context_lens", "block_size")},
        misconceptions=paged_mistakes.DECODE,
    ),
    hints=(
        "What of the batch belongs to sequence 1, and what to all?",
        "Check the arguments. Then attend for each sequence by itself: its query, its row of the "
        "tables, its context length.",
        "`out[seq] = attend_blocks(query[seq], ..., batch.block_tables[seq], context_len, scale)`",
    ),
)

# 2.5 to 2.7, in Triton

FIRST_KERNEL = Exercise(
    id="2.5",
    title="Lines of the first kernel",
    asks=(
        "Put the lines of `paged_decode_kernel` in order, indented as they are. Two of them do not "
        "belong."
    ),
    points=6,
    minutes=8,
    difficulty=1,
    check=ParsonsCheck(
        "2.5",
        KernelCheck(
            kernel=f"{kernels.KERNELS}:paged_decode_kernel",
            operation="paged_decode_launch",
            cases=kernels.decodes,
        ),
        distractors=kernels.DISTRACTORS,
        joined=kernels.JOINED,
        displaced=kernels.DISPLACED,
        patience=_KERNEL_PATIENCE,
    ),
    hints=(
        "What must a program know before its first tile, and what can it only do after the last?",
        "Who I am; my queries; the empty state. For each tile: positions, blocks and slots, keys "
        "and values, scores, the step. Then divide and store.",
        "`program, query, state, for: position, entry, k, v, scores, mask, step; divide, store`",
    ),
)

STEP = Exercise(
    id="2.6",
    title="The step that all kernels share",
    asks="Complete the step that adds a tile of keys to the state of the softmax.",
    points=9,
    minutes=12,
    difficulty=2,
    check=KernelCheck(
        kernel=f"{kernels.KERNELS}:softmax_step",
        operation="softmax_step_launch",
        cases=kernels.tiles,
        mistakes=kernels.STEP_MISTAKES,
    ),
    hints=(
        "The sums so far are relative to max_score. What are they to be relative to now?",
        "Take the larger of the old maximum and the tile's, the factor from the old to the new, "
        "and the weights relative to the new. Rescale both sums before you add.",
        "`rescale = tl.exp2(max_score - new_max)`, and `scores - new_max[:, None]` for the weights",
    ),
)

SPLIT = Exercise(
    id="2.7a",
    title="One stretch of a sequence (stretch)",
    asks="Complete where a program's stretch begins and ends, and what it leaves behind.",
    points=3,
    minutes=10,
    difficulty=2,
    check=KernelCheck(
        kernel=f"{kernels.KERNELS}:split_decode_kernel",
        operation="split_decode_launch",
        cases=split_kernels.stretches,
        mistakes=split_kernels.SPLIT_MISTAKES,
    ),
    hints=(
        "A sequence of 150 tokens is read in stretches of 128. Which tokens are stretch 1, and "
        "which are stretch 2?",
        "It begins at split times the tokens of a stretch, and ends with the stretch or the "
        "context, whichever comes first. Store m, l and acc at the place of this head and split.",
        "`row = (seq * num_heads + head) * num_splits + split`",
    ),
)

COMBINE = Exercise(
    id="2.7b",
    title="Combine the splits (stretch)",
    asks="Merge the states that the splits of one sequence and head left behind, and divide.",
    points=5,
    minutes=15,
    difficulty=2,
    check=KernelCheck(
        kernel=f"{kernels.KERNELS}:combine_splits_kernel",
        operation="combine_splits_launch",
        cases=split_kernels.splits,
        mistakes=split_kernels.COMBINE_MISTAKES,
    ),
    hints=(
        "There are 3 splits and 4 lanes. What would the last lane read, and what should it hold?",
        "Load all states at once, the empty one in lanes that stand for nothing. Bring them to the "
        "common maximum, sum over the splits, divide, and store head_dim numbers.",
        "`factor = tl.exp2(max_score - tl.max(max_score, axis=0))`",
    ),
)

# 2.8, the bug hunt

EXPOSED = Exercise(
    id="2.8a",
    title="Bug hunt: show that it is wrong",
    asks=(
        "Give the values of a pool of three blocks of two slots, and a context length, for which "
        "the suspect's answer is wrong."
    ),
    points=3,
    minutes=6,
    difficulty=2,
    check=AnswerCheck(
        reference=hunt.exposing_pool,
        question="your pool",
        wanted="a sequence that is sound, on which the suspect is wrong",
        compare=hunt.exposes,
        alike=hunt.of_the_same_kind,
        misconceptions=hunt.EXPOSED,
    ),
    hints=(
        "Which slots does the suspect gather although the sequence does not own them?",
        "The weight of such a slot is exactly 0. For which numbers is 0 times the number not 0?",
        '`{"values": [6.0, float(...), 0.0, 0.0, 1.0, 2.0], "context_len": 3}`',
    ),
)

MENDED = Exercise(
    id="2.8b",
    title="Bug hunt: mend it",
    asks="Return the right attention, whatever is in the slots that the sequence does not own.",
    points=4,
    minutes=5,
    difficulty=1,
    check=FunctionCheck(
        reference=hunt.decode,
        cases=hunt.sequences(),
        probes=hunt.POOLS,
        large=hunt.LONG_SEQUENCES,
        compare=given.closely,
        misconceptions=hunt.MENDED,
    ),
    hints=(
        "Where in the suspect does the stale slot still take part in arithmetic?",
        "What is behind the context must not be multiplied by anything. Leave it out of the keys "
        "and of the values, and there is nothing left to hide.",
        "`values = values[:context_len]`",
    ),
)

# 2.9, the measurement

MEASURED = Exercise(
    id="2.9",
    title="Measure: why the slower kernel serves more",
    asks=(
        'Fill `measured`: tokens per second under "Oracle" and "Paged", and the slowdown of paged '
        'attention at which both are equal, "break-even", each to 0.02%.'
    ),
    points=3,
    minutes=10,
    difficulty=2,
    check=AnswerCheck(
        reference=measure.measured,
        question="measured",
        compare=measure.closely,
        alike=measure.same_rates,
        misconceptions=measure.MEASURED,
    ),
    hints=(
        "Which two numbers of a snapshot decide how many tokens a step delivers, and how long it "
        "takes?",
        "Add up the running requests of all steps, and the seconds of all steps, and divide. The "
        "seconds of Paged are a + b x slowdown: solve for the slowdown that gives Oracle's rate.",
        "`seconds = (weight_bytes + slowdown * used slots * bytes per token) / bandwidth`",
    ),
)

QUIZ = Exercise(
    id="2.Q",
    title="Quiz",
    asks="Answer each question with a letter. Eight of the ten right, 80%, is a pass.",
    points=10,
    minutes=10,
    difficulty=1,
    check=QuizCheck(lesson=2),
)

EXERCISES = (
    *(value_exercise(2, f"2.W{number}") for number in (1, 2, 3)),
    SOFTMAX,
    PARTIAL,
    MERGE,
    ATTEND,
    DECODE,
    FIRST_KERNEL,
    STEP,
    SPLIT,
    COMBINE,
    EXPOSED,
    MENDED,
    value_exercise(2, "2.8c"),
    MEASURED,
    QUIZ,
)
