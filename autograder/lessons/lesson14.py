"""The request trace of the final project: gaps, a hunt in two traces, and a file for a viewer."""

from __future__ import annotations

from autograder.checks.answer import AnswerCheck
from autograder.checks.checker import CheckerCheck
from autograder.checks.exercise import Exercise
from autograder.checks.function import FunctionCheck
from autograder.checks.trace import TraceCheck
from autograder.checks.values import value_exercise
from autograder.lessons import lesson14_export as export
from autograder.lessons import lesson14_gaps as given
from autograder.lessons import lesson14_hunt as hunt

GAPS = Exercise(
    id="14.1",
    title="A trace with gaps",
    asks="Fill the ten gaps in the trace of a request.",
    points=40,
    minutes=25,
    difficulty=2,
    check=TraceCheck(given.gaps, misconceptions=given.GAPS, form=given.form_of_a_gap),
    hints=(
        "Which two numbers does the scheduler know of a request, and who is served before it?",
        "Only full blocks are found. Those who run take theirs of the budget first. From its first "
        "token on, a request knows one token more with each step. A block comes free when nobody "
        "else holds it, and keeps its hash until somebody takes it.",
        "`held = (prompt + tokens chosen so far - 1) / block size`",
    ),
)

LOST = Exercise(
    id="14.2a",
    title="Hunt: what is lost",
    asks="Return the step and the request of each token that was chosen and never shown.",
    points=10,
    minutes=12,
    difficulty=2,
    check=FunctionCheck(
        reference=hunt.lost_tokens,
        cases=hunt.traces(),
        probes=hunt.SOME_TRACES,
        large=(hunt.MANY,),
        misconceptions=hunt.LOST,
    ),
    hints=(
        "What names one token of a trace, if several requests are in a step?",
        "First collect the step and the request of all that was shown, in the whole trace. Then go "
        "through the choices, in order.",
        '`shown = {(step, name) for step, action, name in told if action == "shows"}`',
    ),
)

FOUND = Exercise(
    id="14.2b",
    title="Hunt: what the trace says",
    asks="Fill `found`: five facts about the run with more preemptions.",
    points=8,
    minutes=12,
    difficulty=2,
    check=AnswerCheck(
        reference=hunt.findings, question="found", misconceptions=hunt.FOUND, reveal=False
    ),
    hints=(
        "Which actions does a trace have, and which of them are preemptions?",
        "Count actions, then tokens with your function; for those at once, look whether the same "
        "request resumed in the step before.",
        "`(step - 1, name) in back`, where `back` holds step and request of each return",
    ),
)

MENDED = Exercise(
    id="14.2c",
    title="Hunt: mend it",
    asks="Return the tokens that come in time, and those that come late, by request.",
    points=6,
    minutes=10,
    difficulty=2,
    check=FunctionCheck(
        reference=hunt.sort_tokens,
        cases=hunt.arrivals(),
        probes=hunt.SOME_ARRIVALS,
        misconceptions=hunt.SORTED,
    ),
    hints=(
        "Of which requests does the answer go on, though they do not run?",
        "Pass over who is not there any more, and who has another number than the plan says. What "
        "is left runs, or it does not.",
        "`planned.get(name) != number`",
    ),
)

TIME_LINE = Exercise(
    id="14.3",
    title="The rules of a time line",
    asks="Return one sentence for each rule that a file for a trace viewer breaks.",
    points=10,
    minutes=15,
    difficulty=2,
    check=CheckerCheck(
        reference=export.time_line_violations,
        faulty=export.FAULTY,
        drawn=export.spoiled,
        valid=export.VALID,
        shows=export.shown,
        misconceptions=export.CHECKER,
    ),
    hints=(
        "Which marks stand alone, and which come in pairs?",
        "Bars first. Then keep for each phase, by category, id and name, how often it is open; and "
        "for each arrow its marks. Go through the events in the order of their times.",
        '`for event in sorted(events, key=lambda event: event.get("ts", 0))`',
    ),
)

EXERCISES = (
    *(value_exercise(14, f"14.W{number}") for number in (1, 2)),
    GAPS,
    LOST,
    FOUND,
    MENDED,
    TIME_LINE,
)
