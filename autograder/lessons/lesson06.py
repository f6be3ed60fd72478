"""Lesson 6, preemption and swapping: its exercises."""

from __future__ import annotations

from autograder.checks.answer import AnswerCheck
from autograder.checks.compare import within
from autograder.checks.exercise import Exercise
from autograder.checks.function import FunctionCheck
from autograder.checks.parsons import ParsonsCheck
from autograder.checks.quiz import QuizCheck
from autograder.checks.reference import Method
from autograder.checks.scale import ScaleCheck, at_most, between
from autograder.checks.stateful import StatefulCheck
from autograder.checks.trace import TraceCheck
from autograder.checks.values import value_exercise
from autograder.lessons import lesson06_contest as contest
from autograder.lessons import lesson06_given as given
from autograder.lessons import lesson06_hunt as hunt
from autograder.lessons import lesson06_lives as lives
from autograder.lessons import lesson06_measure as measure
from autograder.lessons import lesson06_mistakes as mistakes
from autograder.lessons import lesson06_preempt_mistakes as preempt_mistakes
from autograder.lessons import lesson06_swap_mistakes as swap_mistakes
from course_lib.scheduling.preemption import (
    break_even_tokens,
    least_important,
    num_blocks_freed,
)
from course_lib.scheduling.scheduler import Scheduler
from course_lib.scheduling.swap import SwapSpace
from course_lib.scheduling.watch.iterations import queues_of

# 6.1

FREED = Exercise(
    id="6.1",
    title="What comes back",
    asks="Return how many blocks become free when a request that holds these is preempted.",
    points=4,
    minutes=7,
    difficulty=1,
    check=FunctionCheck(
        reference=num_blocks_freed,
        cases=given.TABLES,
        probes=given.SOME_TABLES,
        misconceptions=mistakes.FREED,
        large=(given.MANY_BLOCKS,),
    ),
    hints=(
        "Who else holds a block with two holders when this request has let go of it?",
        "Count those that only this request holds.",
        "`sum` over the blocks with `ref_cnt == 1`",
    ),
)

# 6.2

VICTIM = Exercise(
    id="6.2",
    title="Who gives way",
    asks="Return the index of the request that is preempted under priority.",
    points=5,
    minutes=8,
    difficulty=1,
    check=FunctionCheck(
        reference=least_important,
        cases=given.BATCHES,
        probes=given.SOME_BATCHES,
        misconceptions=mistakes.VICTIM,
    ),
    hints=(
        "Which of priority 0 and priority 2 is more important, and who of two equals came later?",
        "Compare pairs of priority and time of arrival; the largest goes, of equals the first.",
        "`max(range(len(running)), key=...)`",
    ),
)

# 6.3

DECISION = Exercise(
    id="6.3",
    title="A decision by hand",
    asks="Mend an account that cannot be, then say who goes, by three policies and in V1.",
    points=6,
    minutes=10,
    difficulty=2,
    check=TraceCheck(
        given.decision, misconceptions=swap_mistakes.DECISION, form=given.form_of_a_decision
    ),
    hints=(
        "What must the blocks of the four and the free ones add up to?",
        "Take from D what is too much. Divide U's tokens by 16 and round up. Then let them go one "
        "by one, adding what each frees to the two that are free, until that is enough.",
        "`free = 2; while free < needed: next victim goes, free += its blocks`",
    ),
)

# 6.4

BREAK_EVEN = Exercise(
    id="6.4",
    title="Break-even",
    asks="Return the length up to which a request is better swapped than recomputed.",
    points=8,
    minutes=13,
    difficulty=2,
    check=FunctionCheck(
        reference=break_even_tokens,
        cases=given.COSTS,
        probes=given.SOME_COSTS,
        compare=within(rel=1e-9, absolute=1e-12),
        misconceptions=mistakes.BREAK_EVEN,
    ),
    hints=(
        "Draw both over the number of tokens. Which of them begins above the other?",
        "If swapping is never steeper, the lines never cross. If it is, they cross where the line "
        "of swapping meets the floor.",
        "`weight_seconds / swap_seconds_per_token`, or `math.inf`",
    ),
)

# 6.5

SPACE = Exercise(
    id="6.5",
    title="Blocks on the CPU",
    asks="Hand out CPU blocks, all that a request needs or none, and take them back.",
    points=10,
    minutes=18,
    difficulty=2,
    check=StatefulCheck(
        reference=SwapSpace,
        machine=lives.SwapLife,
        max_steps=8,
        probes=lives.SPACES,
        misconceptions=swap_mistakes.SWAP_SPACE,
        large=(lives.MANY_CPU_BLOCKS,),
        first=lives.two_spaces,
    ),
    hints=(
        "What is in the two attributes after a request that did not fit?",
        "Refuse whoever is here already. If there are too few, say None before anything has "
        "changed. What comes back takes its place in the ascending order.",
        "`if num_blocks > len(self.free_blocks): return None`",
    ),
)

# 6.6

LOOP = Exercise(
    id="6.6",
    title="The loop that makes room",
    asks="Put the lines of `preempt_for` in order. Three of them do not belong.",
    points=5,
    minutes=8,
    difficulty=1,
    check=ParsonsCheck(
        "6.6",
        StatefulCheck(
            reference=Method(Scheduler, "preempt_for"),
            machine=lives.PreemptionLife,
            max_steps=5,
            probes=lives.LOOPS,
            state_line=queues_of,
        ),
        distractors=preempt_mistakes.LOOP_LINES,
        joined=("self.log.record_preemption", "victim = "),
        displaced=preempt_mistakes.LOOP_LATE,
    ),
    hints=(
        "When does the loop end, other than by there being room?",
        "As long as the manager refuses: choose a victim, take it out of `running`, preempt it and "
        "add up what comes back. Leave if it was the request itself.",
        "`while allocate_slots is None: choose, log, remove, preempt, self? break`",
    ),
)

# 6.7

PREEMPT = Exercise(
    id="6.7",
    title="Preempt",
    asks="Take a request's blocks away, and put it where it waits for its return.",
    points=18,
    minutes=32,
    difficulty=3,
    check=StatefulCheck(
        reference=Method(Scheduler, "preempt"),
        machine=lives.PreemptionLife,
        max_steps=6,
        probes=lives.PREEMPTIONS,
        misconceptions=preempt_mistakes.PREEMPT,
        large=(lives.LARGE_POOL,),
        state_line=queues_of,
    ),
    hints=(
        "The victim may have been served in this step. Which of its tokens are computed?",
        "Take it out of the plan and keep what it had got; the rest of its computed tokens is "
        "valid. Note the preemption. Ask `swap_out`; if it says no, forget what was computed and "
        "put it back. Free the blocks last.",
        "`unspent = output.num_scheduled_tokens.pop(victim.request_id, 0)`",
    ),
)

# 6.8

STEPS = Exercise(
    id="6.8",
    title="Six steps by hand",
    asks="Follow free blocks and queues through six steps, recomputing and swapping.",
    points=6,
    minutes=12,
    difficulty=2,
    check=TraceCheck(
        given.six_steps, misconceptions=swap_mistakes.STEPS, form=given.form_of_a_state
    ),
    hints=(
        "After which number of tokens does each of the four need another block?",
        "Find the first step in which more blocks are needed than are free. The last in gives way "
        "and all of its blocks come back. Then nobody comes in before the first who waits fits.",
        "`free = 100 - sum of ceil(tokens / 16) over who runs`",
    ),
)

# 6.9, the bug hunt

EXPOSED = Exercise(
    id="6.9a",
    title="Bug hunt: show that it is wrong",
    asks="Give a case in which somebody is preempted and no block comes of it.",
    points=3,
    minutes=5,
    difficulty=1,
    check=AnswerCheck(
        reference=lambda: hunt.ALL_COPIED,
        question="your case",
        wanted="a case in which a preemption frees no block at once",
        compare=hunt.preempts_for_nothing,
        alike=hunt.as_harmless,
        misconceptions=hunt.EXPOSED,
    ),
    hints=(
        "What does the loop ask after each victim, and what does `release` promise?",
        "Let somebody have to go whose blocks are still being copied.",
        '`{"free": 0, "running": [("a", 2, ...), ...], "need": 1}`',
    ),
)

MENDED = Exercise(
    id="6.9b",
    title="Bug hunt: mend it",
    asks="Preempt only while each one that goes frees blocks at once.",
    points=5,
    minutes=8,
    difficulty=2,
    check=FunctionCheck(
        reference=hunt.make_room,
        cases=hunt.cases(),
        probes=hunt.CASES,
        writes=("running",),
        misconceptions=hunt.MENDED,
    ),
    hints=(
        "What would you have to know before you take the next one out of the list?",
        "Look at the last one without taking it out. If it would free nothing now, stop.",
        "`if is_copied or num_blocks == 0: break`, before `running.pop()`",
    ),
)

# 6.10, the measurement

MEASURED = Exercise(
    id="6.10",
    title="Measure: what it costs",
    asks="Fill `measured` with five ratios of the mean TTFT and two shares of recomputed tokens.",
    points=5,
    minutes=9,
    difficulty=1,
    check=AnswerCheck(
        reference=measure.measured,
        question="measured",
        compare=measure.close_enough,
        misconceptions=measure.MEASURED,
    ),
    hints=(
        "Which of two set-ups stands below the line if the ratio is to say how many times as long?",
        "For each name, the mean of `ttft` of its result over that of `recompute`; and tokens "
        "computed again over all tokens of all steps.",
        '`result.num_recomputed_tokens / result.steps.column("num_tokens").sum()`',
    ),
)

# 6.11, the stretch

POLICY = Exercise(
    id="6.11",
    title="A victim policy of your own (stretch)",
    asks="Choose victims so that little is computed again and nobody pays more than twice.",
    points=5,
    minutes=25,
    difficulty=3,
    check=ScaleCheck(
        reference=contest.cheapest_once,
        floor=contest.last_in,
        play=contest.contest,
        conditions=(
            between(
                "recomputed",
                "fewer tokens computed again than with last in, first out",
                0.7,
                reach=0.85,
                unit="tokens",
            ),
            at_most(
                "most often",
                lambda scores: float(contest.MOST_OFTEN),
                f"nobody is preempted more than {contest.MOST_OFTEN} times",
                0.3,
                unit="times",
            ),
        ),
        misconceptions=contest.MISTAKES,
    ),
    hints=(
        "What does a victim have to compute again, and who has paid already?",
        "Look at both numbers. Which of them should decide first, so that nobody pays again and "
        "again?",
        "`min` over the indices, with a pair as key",
    ),
)

QUIZ = Exercise(
    id="6.Q",
    title="Quiz",
    asks="Answer each question with a letter. Eight of the ten right, 80%, is a pass.",
    points=10,
    minutes=10,
    difficulty=1,
    check=QuizCheck(lesson=6),
)

EXERCISES = (
    *(value_exercise(6, f"6.W{number}") for number in (1, 2, 3)),
    FREED,
    VICTIM,
    DECISION,
    BREAK_EVEN,
    SPACE,
    LOOP,
    PREEMPT,
    STEPS,
    EXPOSED,
    MENDED,
    MEASURED,
    POLICY,
    QUIZ,
)
