"""Lesson 10, request queueing theory: its exercises."""

from __future__ import annotations

from autograder.checks.answer import AnswerCheck
from autograder.checks.budget import Bands, OperationBudget, TimeBudget, calls, metered
from autograder.checks.compare import within
from autograder.checks.exercise import Exercise
from autograder.checks.function import FunctionCheck
from autograder.checks.quiz import QuizCheck
from autograder.checks.trace import TraceCheck
from autograder.checks.values import value_exercise
from autograder.lessons import lesson10_formulas as formulas
from autograder.lessons import lesson10_given as given
from autograder.lessons import lesson10_hunt as hunt
from autograder.lessons import lesson10_measure as measure
from autograder.lessons import lesson10_mistakes as mistakes
from autograder.lessons import lesson10_queue_mistakes as queue_mistakes
from autograder.lessons import lesson10_servers as servers
from course_lib.queueing.capacity import fewest_servers
from course_lib.queueing.logs import littles_law
from course_lib.queueing.models import erlang_b, erlang_c
from course_lib.queueing.simulation import send_times, simulate_queue
from course_lib.simulation.workload import gamma_arrivals

# 10.1

LITTLE = Exercise(
    id="10.1",
    title="Little's law on a log",
    asks="Measure λ, W and L of an event log, each on its own.",
    points=10,
    minutes=15,
    difficulty=2,
    check=FunctionCheck(
        reference=littles_law,
        cases=given.LOGS,
        probes=given.SOME_LOGS,
        refusals=given.REFUSED_LOGS,
        large=(given.MANY_STAYS,),
        compare=formulas.CLOSE,
        misconceptions=mistakes.LITTLE,
    ),
    hints=(
        "Which requests are present at a given moment, and how long does that stay so?",
        "`number_in_system` gives the moments at which the number changes, and the number from "
        "each of them on. L is an average over time: each number counts for as long as it lasts.",
        "`time_average(counts[:-1], np.diff(times))`",
    ),
)

# 10.3

LOSS = Exercise(
    id="10.3a",
    title="Erlang B for thousands of servers",
    asks="Return the share of the requests that find all servers busy and are lost.",
    points=5,
    minutes=10,
    difficulty=2,
    check=FunctionCheck(
        reference=erlang_b,
        cases=given.LOSSES,
        probes=given.SOME_LOSSES,
        refusals=given.REFUSED_LOSSES,
        large=(given.MANY_SERVERS,),
        compare=formulas.CLOSE,
        misconceptions=mistakes.LOSS,
    ),
    hints=(
        "What does one more server change?",
        "Begin with no server, where everybody is lost, and go from B(n − 1) to B(n).",
        "`b = load * b / (n + load * b)`",
    ),
)

DELAY = Exercise(
    id="10.3b",
    title="Erlang C",
    asks="Return the share of the requests that find all servers busy and wait.",
    points=4,
    minutes=6,
    difficulty=1,
    check=FunctionCheck(
        reference=erlang_c,
        cases=given.WAITS,
        probes=given.SOME_WAITS,
        refusals=given.REFUSED_WAITS,
        compare=formulas.CLOSE,
        misconceptions=mistakes.DELAY,
    ),
    hints=(
        "Why do more people wait in a queue than are lost without one?",
        "Refuse overload first. Then take Erlang B, and ρ of one server.",
        "`b / (1 - rho * (1 - b))`",
    ),
)

# 10.4

BY_HAND = Exercise(
    id="10.4a",
    title="Waits by hand",
    asks="Write down the running sums of six customers, and their waits.",
    points=4,
    minutes=8,
    difficulty=1,
    check=TraceCheck(
        given.waits_to_write,
        misconceptions=given.BY_HAND,
        compare=given.same_numbers,
        form=given.form_of_a_state,
    ),
    hints=(
        "When is the server done with the one in front?",
        "A step is the service of the one in front, minus the time between the two arrivals. Add "
        "the steps up; a wait is the sum minus the least that it, or 0, has been.",
        "`wait = max(0, wait before + service before - gap)`",
    ),
)

SIMULATED = Exercise(
    id="10.4b",
    title="Ten million customers",
    asks="Complete the waits at one server, without a loop over the customers.",
    points=10,
    minutes=22,
    difficulty=3,
    check=TimeBudget(
        inner=FunctionCheck(
            reference=simulate_queue,
            cases=given.queues(),
            probes=given.SOME_QUEUES,
            refusals=(given.NO_CUSTOMERS,),
            compare=within(rel=1e-9, absolute=1e-6),
            misconceptions=queue_mistakes.SIMULATED,
        ),
        play=calls(given.busy_server),
        compare=within(rel=1e-9, absolute=1e-6),
        bands=Bands(((6.0, 1.0),)),
        weight=0.5,
        known=queue_mistakes.SLOW,
    ),
    hints=(
        "What would the sums be if the server could work ahead while nobody is there?",
        "Add up the steps. Whenever the sum falls to a new low below 0, the server was idle: "
        "subtract the least that the sum, or 0, has been so far.",
        "`sums - np.minimum(np.minimum.accumulate(sums), 0.0)`",
    ),
)

# 10.5

BURSTS = Exercise(
    id="10.5",
    title="Arrivals in bursts",
    asks="Return arrival times whose gaps have a given mean and coefficient of variation.",
    points=5,
    minutes=9,
    difficulty=2,
    check=FunctionCheck(
        reference=gamma_arrivals,
        cases=given.ARRIVALS,
        probes=given.SOME_ARRIVALS,
        refusals=given.REFUSED_ARRIVALS,
        large=(given.MANY_ARRIVALS,),
        compare=formulas.CLOSE,
        misconceptions=queue_mistakes.BURSTS,
    ),
    hints=(
        "Which shape has the CV that is asked for, and which scale then has the mean?",
        "Shape k and scale s have the mean k·s and the CV 1/√k: solve for k, then for s.",
        "`shape = 1 / cv**2`, and `scale` is the mean gap over the shape",
    ),
)

# 10.6

EXPOSED = Exercise(
    id="10.6a",
    title="Bug hunt: show that it is wrong",
    asks="Give a rate that could be reached, and that the generator misses by over a quarter.",
    points=3,
    minutes=5,
    difficulty=1,
    check=AnswerCheck(
        reference=lambda: 1000.0,
        question="your rate",
        wanted="a rate of which it sends less than three quarters, though it could be reached",
        compare=hunt.exposes,
        alike=hunt.fails_alike,
        misconceptions=hunt.EXPOSED,
    ),
    hints=(
        "How long is it from one send to the next, where the gap is 1/rate?",
        "Less than three quarters are sent if the work is more than a third of the gap. And the "
        "work must not be longer than the gap.",
        "`1 / rate > 0.000449 > 1 / rate / 3`",
    ),
)

MENDED = Exercise(
    id="10.6b",
    title="Bug hunt: mend it",
    asks="Return when each request is sent, by a generator that keeps to its plan.",
    points=6,
    minutes=9,
    difficulty=2,
    check=FunctionCheck(
        reference=send_times,
        cases=hunt.PLANS,
        probes=hunt.SOME_PLANS,
        refusals=hunt.REFUSED_PLANS,
        large=(hunt.MANY_SENDS,),
        compare=formulas.CLOSE,
        misconceptions=hunt.MENDED,
    ),
    hints=(
        "When is request 7 due, and does that depend on how long it took to send the others?",
        "Keep two times: when the next request is due, which is the running sum of the gaps, and "
        "when the generator is free.",
        "`max(due, free)`",
    ),
)

# 10.7

FEWEST = Exercise(
    id="10.7",
    title="The fewest servers",
    asks="Return the fewest servers that meet a target, with few measurements.",
    points=14,
    minutes=26,
    difficulty=3,
    check=OperationBudget(
        inner=FunctionCheck(
            reference=fewest_servers,
            cases=servers.questions(),
            probes=servers.QUESTIONS,
            refusals=servers.REFUSED,
            compare=servers.same_plan,
            misconceptions=servers.MISTAKES,
        ),
        count=metered("fewest_servers", "measure", servers.metered_questions),
        compare=servers.same_plan,
        weight=0.5,
        known=servers.SLOW,
    ),
    hints=(
        "If c servers miss the target, what do you know of c − 1 and of 2c?",
        "Let the steps double, up to at_most, until a number is enough. The answer lies above the "
        "last miss; halve what is in between.",
        "`while enough - too_few > 1: middle = (too_few + enough) // 2`",
    ),
)

# 10.8

MEASURED = Exercise(
    id="10.8",
    title="Measure: two formulas and an engine",
    asks=(
        'Fill `measured`, in seconds: "S", "D", the mean response "M/G/1 at 0.25", "engine at '
        '0.25", "shared at 4" and "engine at 4".'
    ),
    points=5,
    minutes=12,
    difficulty=2,
    check=AnswerCheck(
        reference=measure.measured,
        question="measured",
        compare=measure.close_enough,
        misconceptions=measure.MEASURED,
    ),
    hints=(
        "Which field of a `ServiceDemand` is S, which is D, and over what is the mean taken?",
        "M/G/1 wants the mean of S and its squared CV. Sharing stretches S by one over the share "
        "that own work, D, leaves of each second. The engine is asked with `serve`.",
        "`S / (1 - 4 * D)`, and `serve(4).e2e.mean()`",
    ),
)

QUIZ = Exercise(
    id="10.Q",
    title="Quiz",
    asks="Answer each question with a letter. Eight of the ten right, 80%, is a pass.",
    points=10,
    minutes=10,
    difficulty=1,
    check=QuizCheck(lesson=10),
)

EXERCISES = (
    *(value_exercise(10, f"10.W{number}") for number in (1, 2, 3)),
    LITTLE,
    formulas.P99,
    formulas.RESIDUAL,
    formulas.WAIT,
    LOSS,
    DELAY,
    BY_HAND,
    SIMULATED,
    BURSTS,
    EXPOSED,
    MENDED,
    FEWEST,
    MEASURED,
    QUIZ,
)
