"""Lesson 5, continuous batching: its exercises."""

from __future__ import annotations

from autograder.checks.answer import AnswerCheck
from autograder.checks.compare import within
from autograder.checks.exercise import Exercise
from autograder.checks.function import FunctionCheck
from autograder.checks.parsons import ParsonsCheck
from autograder.checks.quiz import QuizCheck
from autograder.checks.reference import Method
from autograder.checks.stateful import StatefulCheck
from autograder.checks.values import value_exercise
from autograder.lessons import lesson05_admission as admission
from autograder.lessons import lesson05_batches as batches
from autograder.lessons import lesson05_given as given
from autograder.lessons import lesson05_hunt as hunt
from autograder.lessons import lesson05_lives as lives
from autograder.lessons import lesson05_measure as measure
from autograder.lessons import lesson05_mistakes as mistakes
from autograder.lessons import lesson05_static_mistakes as static_mistakes
from course_lib.engine.flatten import flatten_step
from course_lib.scheduling.scheduler import Scheduler
from course_lib.scheduling.variants.static_batching import StaticBatchingScheduler
from course_lib.scheduling.watch.iterations import queues_of
from course_lib.simulation.loop import serve
from course_lib.simulation.metrics import inter_token_latencies, time_per_output_token

# 5.1

LIFE = Exercise(
    id="5.1",
    title="The life of a request",
    asks="Write down which status may follow which.",
    points=6,
    minutes=8,
    difficulty=1,
    check=AnswerCheck(
        reference=given.moves,
        question="moves",
        wanted="a dict from each status to the set of those that may follow it",
        compare=given.same_moves,
        misconceptions=mistakes.MOVES,
    ),
    hints=(
        "What may a client do at any time, whatever becomes of its request meanwhile?",
        "First the ends: nothing follows them. Then ask of each other status which of the ends may "
        "come from it. Then the moves between the three that are no ends.",
        '`"running": {"preempted", and three ends}`',
    ),
)

# 5.2

LOOP = Exercise(
    id="5.2",
    title="The loop",
    asks="Put the lines of `serve` in order. Three of them do not belong.",
    points=6,
    minutes=9,
    difficulty=1,
    check=ParsonsCheck(
        "5.2",
        FunctionCheck(reference=serve, cases=given.LOOPS, probes=given.SOME_LOOPS),
        distractors=mistakes.LOOP_LINES,
        joined=("clock = max(",),
        displaced=mistakes.LATE_CLOCK,
    ),
    hints=(
        "When does a token come: when its iteration is planned, or when it has run?",
        "Let the clock go on if nobody is there; take in who has arrived; plan; let the time pass; "
        "say who gets a token, note it, and tell the scheduler.",
        "`start; while: idle?, arrivals, schedule, clock, sampled, noted, update; return`",
    ),
)

# 5.3

STATIC = Exercise(
    id="5.3",
    title="Static batching in two lines",
    asks="Admit a whole batch when nobody runs, and nobody while somebody does.",
    points=7,
    minutes=10,
    difficulty=2,
    check=StatefulCheck(
        reference=Method(StaticBatchingScheduler, "admit_waiting"),
        machine=lives.SchedulerLife,
        max_steps=5,
        probes=batches.BATCHES,
        misconceptions=static_mistakes.STATIC,
        state_line=queues_of,
    ),
    hints=(
        "When is a batch over?",
        "Look at `running` first. While somebody is in it, the budget goes back as it came; "
        "otherwise what `Scheduler` leaves of it does.",
        "`Scheduler.admit_waiting(self, output, budget)` admits as usual",
    ),
)

# 5.4

ADMIT = Exercise(
    id="5.4",
    title="Admission",
    asks="Admit waiting requests in service order, as long as seats, budget and room last.",
    points=21,
    minutes=35,
    difficulty=3,
    check=StatefulCheck(
        reference=Method(Scheduler, "admit_waiting"),
        machine=lives.AdmissionLife,
        max_steps=5,
        probes=lives.ADMISSIONS,
        large=(lives.MANY_AT_ONCE,),
        misconceptions=admission.ADMIT,
        state_line=queues_of,
    ),
    hints=(
        "Which things can run out, and which of them are known before you look at a request?",
        "Loop while somebody waits and there are budget and a seat. Look at the first without "
        "taking it out; ask for its turn, its hits, its tokens, its room, and stop at the first "
        "no. Only then take it out, enter it and pay.",
        "`while self.waiting and budget > 0 and len(self.running) < self.max_num_seqs:`",
    ),
)

# 5.5

TPOT = Exercise(
    id="5.5a",
    title="Time per output token",
    asks="Return each request's mean gap between its output tokens, in seconds.",
    points=5,
    minutes=7,
    difficulty=1,
    check=FunctionCheck(
        reference=time_per_output_token,
        cases=given.LOGS,
        probes=given.SOME_LOGS,
        compare=within(rel=1e-9),
        large=(given.LONG_LOG,),
        misconceptions=mistakes.TPOT,
    ),
    hints=(
        "How many gaps have three tokens, and how many has one?",
        "The gaps of a request add up to the time from its first token to its last.",
        "`(times[-1] - times[0]) / (len(times) - 1)`",
    ),
)

ITL = Exercise(
    id="5.5b",
    title="Every gap",
    asks="Return every gap between two tokens of a request, request by request, in seconds.",
    points=5,
    minutes=7,
    difficulty=1,
    check=FunctionCheck(
        reference=inter_token_latencies,
        cases=given.LOGS,
        probes=given.SOME_LOGS,
        compare=within(rel=1e-9),
        large=(given.MANY_GAPS,),
        misconceptions=mistakes.ITL,
    ),
    hints=(
        "How many gaps have three tokens, and how many have two requests of one token each?",
        "Look at each request by itself, at each token and the one just before it.",
        "`for earlier, later in zip(times, times[1:])`",
    ),
)

# 5.6

FLATTEN = Exercise(
    id="5.6",
    title="A flat step",
    asks="Lay the tokens of a step out as one row per token: positions, borders, rows to sample.",
    points=11,
    minutes=20,
    difficulty=2,
    check=FunctionCheck(
        reference=flatten_step,
        cases=given.FLAT,
        probes=given.SOME_FLAT,
        refusals=given.REFUSED_FLAT,
        reads=("positions", "query_starts", "sample_rows"),
        large=(given.MANY_FLAT,),
        misconceptions=mistakes.FLATTEN,
    ),
    hints=(
        "A sequence computes 5 tokens, and has 12 computed afterwards. Which places have the five?",
        "Refuse first. Then the borders: 0 and the running sum of the query lengths. Positions: of "
        "each sequence the last `query` places of its context. Rows: the last of each sequence "
        "whose context is all that is known.",
        "`range(context - query, context)`, sequence after sequence",
    ),
)

# 5.7, the bug hunt

EXPOSED = Exercise(
    id="5.7a",
    title="Bug hunt: show that it is wrong",
    asks="Give a workload in which somebody waits although there is a seat and budget.",
    points=4,
    minutes=7,
    difficulty=2,
    check=AnswerCheck(
        reference=lambda: hunt.FOUR_PROMPTS,
        question="your workload",
        wanted="a workload in which somebody starts later than there is a seat and budget",
        compare=hunt.leaves_a_seat_idle,
        alike=hunt.as_harmless,
        misconceptions=hunt.EXPOSED,
    ),
    hints=(
        "Which of the terms that are compared with `seats` may count somebody who is in another "
        "of them already?",
        "Let a prompt be cut, so that it goes on in the next step, and let just as many come as "
        "there are seats.",
        '`{"requests": [("a", more than the budget, 20), ...], "seats": ..., "budget": ...}`',
    ),
)

MENDED = Exercise(
    id="5.7b",
    title="Bug hunt: mend it",
    asks="Let requests start as soon as there is a seat and budget, whoever has just gone.",
    points=5,
    minutes=8,
    difficulty=2,
    check=FunctionCheck(
        reference=hunt.first_steps,
        cases=hunt.workloads(),
        probes=hunt.WORKLOADS,
        misconceptions=hunt.MENDED,
    ),
    hints=(
        "Who has a seat in this step, and what would you have to remember of the step before?",
        "Ask before each request whether there is a seat, from those who are there now, each "
        "counted once. Then nothing has to be remembered.",
        "`while waiting and tokens > 0 and len(running) + len(joining) < seats:`",
    ),
)

# 5.8, the measurement

MEASURED = Exercise(
    id="5.8",
    title="Measure: what it gains and costs",
    asks='Fill `measured` with four ratios: "TTFT", "TPOT", "longest gap, p99" and "throughput".',
    points=4,
    minutes=8,
    difficulty=1,
    check=AnswerCheck(
        reference=measure.measured,
        question="measured",
        compare=measure.close_enough,
        alike=measure.alike,
        misconceptions=measure.MEASURED,
    ),
    hints=(
        "Which of the two set-ups stands above the line? The cell's comment says it of each ratio, "
        "and it is not the same one in all four.",
        "Take the means over requests of `ttft` and `tpot`, the 99th percentile of `longest_gap`, "
        "and requests over makespan. Leave NaN out: numpy has functions for it.",
        "`np.nanmean(continuous.tpot) / np.nanmean(static.tpot)`",
    ),
)

QUIZ = Exercise(
    id="5.Q",
    title="Quiz",
    asks="Answer each question with a letter. Eight of the ten right, 80%, is a pass.",
    points=10,
    minutes=10,
    difficulty=1,
    check=QuizCheck(lesson=5),
)

EXERCISES = (
    *(value_exercise(5, f"5.W{number}") for number in (1, 2, 3)),
    LIFE,
    LOOP,
    STATIC,
    ADMIT,
    TPOT,
    ITL,
    FLATTEN,
    EXPOSED,
    MENDED,
    MEASURED,
    QUIZ,
)
