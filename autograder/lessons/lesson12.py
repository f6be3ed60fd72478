"""Lesson 12, iteration-level scheduling: its exercises."""

from __future__ import annotations

from autograder.checks.answer import AnswerCheck
from autograder.checks.budget import OperationBudget
from autograder.checks.checker import CheckerCheck
from autograder.checks.exercise import Exercise
from autograder.checks.function import FunctionCheck
from autograder.checks.parsons import ParsonsCheck
from autograder.checks.quiz import QuizCheck
from autograder.checks.reference import Method
from autograder.checks.stateful import StatefulCheck
from autograder.checks.trace import TraceCheck
from autograder.checks.values import value_exercise
from autograder.lessons import lesson12_given as given
from autograder.lessons import lesson12_hunt as hunt
from autograder.lessons import lesson12_limit_mistakes as limit_mistakes
from autograder.lessons import lesson12_lives as lives
from autograder.lessons import lesson12_mistakes as mistakes
from autograder.lessons import lesson12_plan_mistakes as plan_mistakes
from autograder.lessons import lesson12_plans as plans
from autograder.lessons import lesson12_serve_mistakes as loops
from autograder.lessons import lesson12_variant_lives as variants
from autograder.lessons import lesson12_work as work
from course_lib.scheduling.scheduler import Scheduler
from course_lib.scheduling.variants.async_scheduler import AsyncScheduler
from course_lib.scheduling.variants.batch_size import StepTimeController
from course_lib.scheduling.variants.lora import LoRAScheduler
from course_lib.scheduling.variants.speculative import SpeculativeScheduler
from course_lib.scheduling.watch.iterations import queues_of
from course_lib.scheduling.watch.violations import plan_violations

# 12.1

BY_HAND = Exercise(
    id="12.1",
    title="Plans by hand",
    asks="Write down three plans under a small budget, and who gives way in one of them.",
    points=6,
    minutes=11,
    difficulty=1,
    check=TraceCheck(given.plans_to_write, misconceptions=given.BY_HAND, form=given.form_of_a_plan),
    hints=(
        "How many tokens of each request are known when a step is planned, and how many are "
        "computed?",
        "Keep two numbers for each request, computed and known, and the blocks that it has. In "
        "each step serve r0, r1, r2 in this order. A block is needed when computed goes beyond "
        "4, 8, 12.",
        "`tokens = min(known - computed, budget left)`",
    ),
)

# 12.2

PLAN = Exercise(
    id="12.2",
    title="A plan",
    asks="Put the lines of `schedule` in order. Four of them do not belong.",
    points=5,
    minutes=8,
    difficulty=1,
    check=ParsonsCheck(
        "12.2",
        StatefulCheck(
            reference=Method(Scheduler, "schedule"),
            machine=lives.PlanningLife,
            max_steps=6,
            probes=lives.PLANNING,
            state_line=queues_of,
        ),
        distractors=mistakes.PLAN_LINES,
        joined=("self.log.record_step",),
        displaced=mistakes.PLAN_LATE,
    ),
    hints=(
        "Who is served first, and who comes in only if nobody had to give way?",
        "Make the plan, with the set of those who ended, and begin a new set. Serve who runs. If "
        "nobody was preempted, bring back, then admit. Then say how many tokens, which copies, "
        "for whom, and tell the log.",
        "`budget = serve; if nobody preempted: budget = swap_in; budget = admit`",
    ),
)

# 12.3

LOOP = Exercise(
    id="12.3",
    title="The running loop",
    asks="Serve the running requests in order, make room for them, and keep account of the budget.",
    points=20,
    minutes=36,
    difficulty=3,
    check=OperationBudget(
        inner=StatefulCheck(
            reference=Method(Scheduler, "serve_running"),
            machine=lives.ServingLife,
            max_steps=6,
            probes=lives.SERVING,
            misconceptions=loops.SERVE,
            state_line=queues_of,
        ),
        count=work.work,
        weight=0.2,
        known=loops.SLOW,
    ),
    hints=(
        "Who stands at place i of `running` when somebody in front of it has left?",
        "Go over a copy of `running`, and pass over who has left meanwhile. For each: what it "
        "lacks, cut; room, or `preempt_for`; if it still runs, enter it and take its tokens from "
        "the budget. For one token ask `has_free_slot` before you ask for slots.",
        "`for request in list(self.running): ... budget += self.preempt_for(...)`",
    ),
)

# 12.4

DRAFTS = Exercise(
    id="12.4",
    title="Rejected drafts",
    asks="Move the computed tokens back by the drafts that the model has rejected.",
    points=9,
    minutes=17,
    difficulty=2,
    check=StatefulCheck(
        reference=Method(SpeculativeScheduler, "take_back_rejected"),
        machine=variants.DraftLife,
        max_steps=5,
        probes=variants.DRAFTS,
        misconceptions=mistakes.TAKE_BACK,
        state_line=queues_of,
    ),
    hints=(
        "A request had 3 drafts and got 3 tokens. How many drafts were right?",
        "Go through the requests with drafts twice: the first time only count and refuse, the "
        "second time move back whoever is still there and ahead of what it knows.",
        "`num_rejected = len(drafts) + 1 - num_tokens`",
    ),
)

# 12.5

PLACEHOLDER = Exercise(
    id="12.5",
    title="One step ahead",
    asks="Put a placeholder for the token that the step just planned generates, if one is needed.",
    points=8,
    minutes=14,
    difficulty=2,
    check=StatefulCheck(
        reference=Method(AsyncScheduler, "place_ahead"),
        machine=variants.AheadLife,
        max_steps=4,
        probes=variants.AHEAD,
        misconceptions=mistakes.AHEAD,
    ),
    hints=(
        "What of the next token is known before it is there?",
        "Its number. The step generates a token if the request is computed up to its last one, "
        "known or on its way; and one behind it is computed only if the request goes on then.",
        "`num_tokens + num_tokens_ahead + 1 < length_limit`",
    ),
)

# 12.6

ADAPTERS = Exercise(
    id="12.6a",
    title="Slots for adapters",
    asks="Say why a request may not start while all slots hold other adapters.",
    points=4,
    minutes=7,
    difficulty=1,
    check=StatefulCheck(
        reference=Method(LoRAScheduler, "why_not_now"),
        machine=variants.AdapterLife,
        max_steps=6,
        probes=variants.ADAPTERS,
        misconceptions=limit_mistakes.LORA,
        compare=variants.same_meaning,
        state_line=queues_of,
    ),
    hints=(
        "Who holds a slot: a request, or an adapter?",
        "Collect the different adapters of who runs. Nothing is against a request without one, "
        "one whose adapter is among them, or one for which there is a slot left.",
        "`loaded = {other.lora_id for other in self.running} - {None}`",
    ),
)

CONTROLLER = Exercise(
    id="12.6b",
    title="A limit that moves",
    asks="Move the limit down by a factor after a step that was too long, else up by a little.",
    points=5,
    minutes=8,
    difficulty=1,
    check=StatefulCheck(
        reference=Method(StepTimeController, "observe"),
        machine=variants.ControllerLife,
        max_steps=4,
        probes=variants.CONTROLLED,
        misconceptions=limit_mistakes.OBSERVE,
    ),
    hints=(
        "Which of the scheduler's attributes is moved, and where does its name stand?",
        "Read the limit by its name. Too long: times `decrease`, cut to a whole number, not below "
        "`minimum`. Otherwise: plus `increase`, not above `maximum`. Write it back.",
        "`setattr(self.scheduler, self.limit, value)`",
    ),
)

# 12.8, the stretch

CHECKER = Exercise(
    id="12.8",
    title="The laws of a plan (stretch)",
    asks="Return one sentence for each law that a plan breaks, or an empty list.",
    points=12,
    minutes=26,
    difficulty=3,
    check=CheckerCheck(
        reference=plan_violations,
        faulty=plans.FAULTY,
        valid=plans.VALID,
        drawn=plans.drawn,
        shows=plans.shown,
        misconceptions=plan_mistakes.CHECKER,
    ),
    hints=(
        "What may no plan do, whoever made it, and what is a policy free to choose?",
        "Law by law. Some are about the plan alone, the others hold the state after it against "
        "the one before. Who is lost, or starts, shows in a comparison of names.",
        "`new.num_computed_tokens - old.num_computed_tokens`",
    ),
)

# 12.9, the bug hunt

EXPOSED = Exercise(
    id="12.9a",
    title="Bug hunt: show that it is wrong",
    asks="Give a case in which positions are planned that a prompt does not have.",
    points=3,
    minutes=6,
    difficulty=2,
    check=AnswerCheck(
        reference=lambda: hunt.EXPOSING,
        question="your case",
        wanted="a case in which positions behind the end of a prompt are planned",
        compare=hunt.reaches_too_far,
        alike=hunt.as_harmless,
        misconceptions=hunt.EXPOSED,
    ),
    hints=(
        "What changes between the line that counts and the line that uses the count?",
        "Let a request come whose beginning is cached.",
        '`{"line": [("b", ..., 256)], "budget": ..., "free": ...}`',
    ),
)

MENDED = Exercise(
    id="12.9b",
    title="Bug hunt: mend it",
    asks="Return the positions that each computes, the budget that is left, and the free blocks.",
    points=4,
    minutes=9,
    difficulty=2,
    check=FunctionCheck(
        reference=hunt.admit,
        cases=hunt.cases(),
        probes=hunt.CASES,
        misconceptions=hunt.MENDED,
    ),
    hints=(
        "What must be known before one can decide, and what may only be done once it is decided?",
        "First look up what is cached, then count what is left, then decide, and only then take "
        "the blocks and the budget.",
        "`num_new = num_tokens - num_cached`, before both guards",
    ),
)

QUIZ = Exercise(
    id="12.Q",
    title="Quiz",
    asks="Answer each question with a letter. Eight of the ten right, 80%, is a pass.",
    points=10,
    minutes=10,
    difficulty=1,
    check=QuizCheck(lesson=12),
)

EXERCISES = (
    *(value_exercise(12, f"12.W{number}") for number in (1, 2, 3)),
    BY_HAND,
    PLAN,
    LOOP,
    DRAFTS,
    PLACEHOLDER,
    ADAPTERS,
    CONTROLLER,
    CHECKER,
    EXPOSED,
    MENDED,
    QUIZ,
)
