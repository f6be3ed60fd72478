"""Lesson 11, chunked prefill: its exercises."""

from __future__ import annotations

from autograder.checks.answer import AnswerCheck
from autograder.checks.budget import OperationBudget, metered
from autograder.checks.exercise import Exercise
from autograder.checks.function import FunctionCheck
from autograder.checks.kernel import KernelCheck
from autograder.checks.quiz import QuizCheck
from autograder.checks.trace import TraceCheck
from autograder.checks.values import value_exercise
from autograder.lessons import lesson11_attention as attention
from autograder.lessons import lesson11_budget as budget
from autograder.lessons import lesson11_given as given
from autograder.lessons import lesson11_hunt as hunt
from autograder.lessons import lesson11_iteration as iteration
from autograder.lessons import lesson11_measure as measure
from autograder.lessons.lesson02_given import closely
from course_lib.attention.batch import PagedBatch
from course_lib.attention.paged import chunked_prefill
from course_lib.simulation.cost_model import token_budget

# 11.2

BY_HAND = Exercise(
    id="11.2",
    title="Chunks by hand",
    asks="Write down what two prompts compute in each step, without a threshold and with one.",
    points=5,
    minutes=9,
    difficulty=1,
    check=TraceCheck(
        given.chunks_to_write,
        misconceptions=given.BY_HAND,
        form=given.form_of_a_state,
    ),
    hints=(
        "How many of the 8 tokens are left when d1 and d2 have been served?",
        "Serve in the order of admission: d1, d2, A, B. Each takes what it lacks, or what is left. "
        "With a threshold A takes at most that.",
        "`given = min(lacking, threshold, left)`",
    ),
)

# 11.4

CHUNKS = Exercise(
    id="11.4",
    title="Attention from chunks",
    asks="Return the causal attention of each sequence's newest tokens over that sequence.",
    points=10,
    minutes=18,
    difficulty=2,
    check=FunctionCheck(
        reference=chunked_prefill,
        cases=attention.batches(),
        probes=attention.BATCHES,
        refusals=attention.UNFIT_BATCHES,
        large=attention.MANY_CHUNKS,
        compare=closely,
        matters={PagedBatch: ("block_tables", "context_lens", "query_starts", "block_size")},
        misconceptions=attention.MISTAKES,
    ),
    hints=(
        "At which positions of its sequence do the queries of a chunk stand?",
        "For each sequence: gather its keys and its values up to its context, cut its queries out "
        "of the batch, and let the queries be the last tokens of the context.",
        "`dense_attention(query[chunk], keys, values, scale)`, with `chunk` from query_starts",
    ),
)

# 11.5

KERNEL = Exercise(
    id="11.5",
    title="Chunks on the GPU (stretch)",
    asks="Complete the kernel: whose row it is, up to where keys are read, and who sees which.",
    points=10,
    minutes=30,
    difficulty=3,
    check=KernelCheck(
        kernel=attention.KERNEL,
        operation="chunked_prefill_launch",
        cases=attention.chunks,
        mistakes=attention.KERNEL_MISTAKES,
        traffic_weight=0.2,
    ),
    hints=(
        "With 2 heads that share a KV head, rows 0 to 5 are which tokens, and which heads?",
        "The heads of a token are side by side, so the token is row // GROUP. In the sequence it "
        "stands behind all that was computed. No row of the tile sees behind its last token.",
        "`query_position = first_position + row // GROUP`, and `position <= query_position`",
    ),
)

# 11.6

PROMISE = Exercise(
    id="11.6",
    title="Keep a promise",
    asks="Return the largest token budget of an iteration that takes no longer than a target.",
    points=15,
    minutes=30,
    difficulty=3,
    check=OperationBudget(
        inner=FunctionCheck(
            reference=token_budget,
            cases=budget.questions(),
            probes=budget.QUESTIONS,
            refusals=budget.REFUSED,
            misconceptions=budget.MISTAKES,
        ),
        count=metered("token_budget", "cost_model.seconds", budget.metered_questions),
        weight=0.5,
        known=budget.SLOW,
    ),
    hints=(
        "If a chunk of 600 tokens is too long, what do you know of one of 900?",
        "Refuse first: what is out of range, and decodes that alone take too long. Then keep a "
        "chunk that is in time and one that is not, and try the middle, until they are neighbours.",
        "`work = IterationWork.of_batch([*decodes, (chunk, cached)])`; the answer is "
        "`num_decodes + longest chunk in time`",
    ),
)

# 11.7

EXPOSED = Exercise(
    id="11.7a",
    title="Bug hunt: show that it is wrong",
    asks="Give a prompt, a chunk, and a token whose attention the suspect gets wrong.",
    points=4,
    minutes=6,
    difficulty=1,
    check=AnswerCheck(
        reference=hunt.exposing_prompt,
        question="your prompt",
        wanted="a token whose row of the suspect is wrong",
        compare=hunt.exposes,
        alike=hunt.fails_alike,
        misconceptions=hunt.EXPOSED,
    ),
    hints=(
        "How many keys does the suspect hand over for the first chunk, and how many are written?",
        "The keys that it hands over are right for the last chunk. Take more than one, and a token "
        "in front of the last one.",
        '`{"num_tokens": …, "chunk": less than that, "token": in the first chunk}`',
    ),
)

MENDED = Exercise(
    id="11.7b",
    title="Bug hunt: mend it",
    asks="Return the causal attention of a prompt that is computed chunk by chunk.",
    points=5,
    minutes=6,
    difficulty=1,
    check=FunctionCheck(
        reference=hunt.prefill_in_chunks,
        cases=hunt.prompts(),
        probes=hunt.PROMPTS,
        writes=("key_cache", "value_cache"),
        compare=closely,
        misconceptions=hunt.MENDED,
    ),
    hints=(
        "Which keys exist when a chunk attends, and which of them may its last token see?",
        "The queries are taken for the last tokens of the keys that they are given. So give as "
        "many keys as there are up to the end of the chunk.",
        "`key_cache[:end]`",
    ),
)

# 11.8

MEASURED = Exercise(
    id="11.8",
    title="Measure: who gains and who pays",
    asks=(
        'Fill `measured`, in seconds: the p99 of the longest gap, "gap whole", "gap 512" and "gap '
        'promised"; and the mean TTFT, "ttft whole", "ttft 512" and "ttft 128".'
    ),
    points=4,
    minutes=8,
    difficulty=1,
    check=AnswerCheck(
        reference=measure.measured,
        question="measured",
        compare=measure.close_enough,
        misconceptions=measure.MEASURED,
    ),
    hints=(
        "Which of the gaps does a reader notice, and which one is that for each request?",
        "`serve(budget)` gives a result with `longest_gap` and `ttft`, a number for each request. "
        "The promised budget is `token_budget` of the batch in the text.",
        "`np.quantile(serve(512).longest_gap, 0.99)`",
    ),
)

QUIZ = Exercise(
    id="11.Q",
    title="Quiz",
    asks="Answer each question with a letter. Eight of the ten right, 80%, is a pass.",
    points=10,
    minutes=10,
    difficulty=1,
    check=QuizCheck(lesson=11),
)

EXERCISES = (
    *(value_exercise(11, f"11.W{number}") for number in (1, 2, 3)),
    iteration.WORK,
    iteration.TOTAL,
    BY_HAND,
    iteration.LIMIT,
    CHUNKS,
    KERNEL,
    PROMISE,
    EXPOSED,
    MENDED,
    MEASURED,
    QUIZ,
)
