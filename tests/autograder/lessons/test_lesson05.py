"""Lesson 5: what its checks say of answers that people give, wrong ones and unusual right ones."""

from __future__ import annotations

import ast
import inspect
import math
from itertools import pairwise

import numpy as np
import pytest

from autograder import lessons
from autograder.build.plain import as_function
from autograder.checks.reference import Method
from autograder.lessons import lesson05_given as given
from autograder.lessons import lesson05_hunt as hunt
from autograder.lessons import lesson05_measure as measure
from autograder.proxy.subject import LocalSubject
from course_lib import parts
from course_lib.engine import LLM, EngineParts, SamplingParams
from course_lib.engine.flatten import FlatStep, flatten_step
from course_lib.scheduling import scheduler
from course_lib.scheduling.request import RequestStatus
from course_lib.scheduling.scheduler import Scheduler
from course_lib.scheduling.variants.static_batching import StaticBatchingScheduler
from course_lib.simulation.cost_model import RooflineCostModel
from course_lib.simulation.experiments import Validation
from course_lib.simulation.measured import load_vllm_run
from course_lib.simulation.metrics import inter_token_latencies, time_per_output_token
from course_lib.simulation.simulation_parts import SimulationParts
from course_lib.simulation.simulator import simulate
from course_lib.simulation.workload import traces_dir

pytestmark = pytest.mark.lesson(5)

SAME = ""
"""Stands for a wrong answer that has no name."""


def examine(exercise_id, answer, max_examples=20):
    subject = LocalSubject(answer, 3.0)
    return lessons.find(exercise_id).examine(subject, max_examples=max_examples)


def named(finding):
    return finding.misconception.name if finding.misconception else SAME


# 5.1


@pytest.mark.parametrize("container", [set, list, tuple, frozenset, sorted])
def test_what_follows_may_be_in_any_container_and_ends_need_no_row(container):
    table = {now: container(after) for now, after in given.moves().items() if after}
    assert examine("5.1", table).fraction == 1


@pytest.mark.parametrize("more", ["finished_stopped", "finished_length_capped"])
def test_what_a_scheduler_that_plans_ahead_needs_is_accepted(more):
    table = given.moves()
    table["preempted"] |= {more}
    assert examine("5.1", table).fraction == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"preempted": {"running", "finished_aborted", "finished_ignored"}}, "row of 'preempted'"),
        ({"running": set(), "waiting": {"running"}}, "row of 'waiting', 'running'"),
        ({"finished_stopped": {"waiting"}}, "row of 'finished_stopped'"),
        ({"runing": set()}, "'runing' is no status"),
        ({"waiting": {"run"}}, "'run' is no status"),
        ({"waiting": "running"}, "is no set of statuses"),
        ({"waiting": {"running": True}}, "is no set of statuses"),
    ],
)
def test_a_table_with_another_move_is_told_in_which_row(change, says):
    finding = examine("5.1", {**given.moves(), **change})
    assert finding.fraction == 0
    assert says in finding.counterexample.complaint


@pytest.mark.parametrize("answer", [{}, None])
def test_a_table_without_rows_is_not_started(answer):
    assert examine("5.1", answer).unwritten


# 5.3, 5.4


def recursive(self, output, budget):
    if not self.waiting or budget <= 0 or len(self.running) >= self.max_num_seqs:
        return budget
    request = self.waiting.peek()
    if not self.may_start(request):
        return budget
    blocks, number = self.find_hits(request)
    num_new = self.first_chunk(request, request.num_tokens - number, budget)
    if num_new == 0 or not self.take_room(request, num_new, blocks, number):
        return budget
    self.waiting.pop()
    request.num_computed_tokens = number
    is_new = request.status is RequestStatus.WAITING
    (output.scheduled_new_reqs if is_new else output.scheduled_resumed_reqs).append(request)
    self.start(request, num_new, output)
    return recursive(self, output, budget - num_new)


def over_a_copy(self, output, budget):
    for request in list(self.waiting):
        if budget < 1 or len(self.running) >= self.max_num_seqs or not self.may_start(request):
            break
        blocks, number = self.find_hits(request)
        num_new = self.first_chunk(request, request.num_tokens - number, budget)
        if not num_new or not self.take_room(request, num_new, blocks, number):
            break
        self.waiting.remove(request)
        request.num_computed_tokens += number
        lists = output.scheduled_new_reqs, output.scheduled_resumed_reqs
        lists[bool(request.num_preemptions)].append(request)
        self.start(request, num_new, output)
        budget -= num_new
    return budget


def library_source():
    """Return the library's way to admit as a function, without its docstring."""
    tree = ast.parse(as_function(Method(Scheduler, "admit_waiting")))
    del tree.body[0].body[0]
    return ast.unparse(tree)


LIBRARY = library_source()


def changed(old, new):
    """Return the library's way to admit with one expression of it replaced."""
    assert LIBRARY.count(old) == 1
    scope = dict(vars(scheduler))
    exec(LIBRARY.replace(old, new), scope)
    return scope["admit_waiting"]


STARTS_BY_HAND = """
        request.status = RequestStatus.RUNNING
        self.running.append(request)
        output.num_scheduled_tokens[request.request_id] = num_new
        request.num_computed_tokens = num_hit_tokens + num_new
"""

ADMIT_WRONG = (
    ("budget > 0", "budget > 1", SAME),
    ("self.max_num_seqs", "self.config.max_num_seqs", SAME),
    ("self.may_start(request)", "not self.swapped", SAME),
    ("self.first_chunk", "self.limit_chunk", SAME),
    ("num_new, hits, num_hit_tokens)", "num_new, hits)", SAME),
    (
        "num_new, hits, num_hit_tokens)",
        "request.num_tokens - num_hit_tokens, hits, num_hit_tokens)",
        SAME,
    ),
    ("request.status is RequestStatus.PREEMPTED", "request.output_token_ids", SAME),
    ("return budget", "pass", "nothing is returned"),
    (
        "output.scheduled_new_reqs.append(request)",
        "output.scheduled_new_reqs.insert(0, request)",
        SAME,
    ),
    ("request.num_computed_tokens = num_hit_tokens", "pass", "hits not counted as computed"),
)


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        ("5.4", recursive),
        ("5.4", over_a_copy),
        ("5.4", changed("        self.start(request, num_new, output)\n", STARTS_BY_HAND[1:])),
        (
            "5.3",
            lambda self, output, budget: (
                budget if self.running else recursive(self, output, budget)
            ),
        ),
        (
            "5.3",
            lambda self, output, budget: (
                super(StaticBatchingScheduler, self).admit_waiting(output, budget)
                if not len(self.running)
                else budget
            ),
        ),
    ],
)
def test_an_unusual_right_way_to_admit_earns_everything(exercise, answer):
    finding = examine(exercise, answer, max_examples=60)
    assert finding.fraction == 1, finding.counterexample


@pytest.mark.parametrize(("old", "new", "name"), ADMIT_WRONG)
def test_a_wrong_way_to_admit_earns_nothing_and_is_named_only_if_it_is_that(old, new, name):
    finding = examine("5.4", changed(old, new))
    assert finding.fraction == 0
    assert named(finding) == name


@pytest.mark.parametrize(
    "answer",
    [
        lambda self, output, budget: (
            budget if output.num_scheduled_tokens else recursive(self, output, budget)
        ),
        lambda self, output, budget: None if self.running else recursive(self, output, budget),
        lambda self, output, budget: (
            budget if self.running else recursive(self, output, self.max_num_batched_tokens)
        ),
        lambda self, output, budget: budget,
        object(),
    ],
)
def test_a_wrong_rule_of_static_batching_earns_nothing(answer):
    assert examine("5.3", answer).fraction == 0


def test_a_failing_case_of_admission_is_short():
    seats = next(m for m in lessons.find("5.4").check.misconceptions if "seats" in m.name)
    case = examine("5.4", seats.wrong, max_examples=100).counterexample.case
    assert len(case.splitlines()) <= 5, case
    assert "add_request(Request('" in case


# 5.5


def by_numpy(token_times):
    return [np.diff(times).mean() if len(times) > 1 else np.nan for times in token_times]


def by_the_sum_of_gaps(token_times):
    return [
        sum(b - a for a, b in pairwise(times)) / (len(times) - 1) if times[1:] else math.nan
        for times in token_times
    ]


def used_up(token_times):
    found = []
    for times in token_times:
        last = times.pop() if len(times) > 1 else math.nan
        found.append((last - times[0]) / len(times) if times else math.nan)
    return found


def searched(token_times):
    return [
        gap
        for times in token_times
        for gap in (later - times[times.index(later) - 1] for later in times[1:])
    ]


METRICS_RIGHT = (
    ("5.5a", by_numpy),
    ("5.5a", by_the_sum_of_gaps),
    ("5.5b", lambda token_times: [float(gap) for times in token_times for gap in np.diff(times)]),
)
METRICS_WRONG = (
    ("5.5a", used_up),
    ("5.5a", lambda token_times: [1000 * value for value in time_per_output_token(token_times)]),
    ("5.5a", lambda token_times: np.array(time_per_output_token(token_times))),
    (
        "5.5a",
        lambda token_times: [
            None if math.isnan(v) else v for v in time_per_output_token(token_times)
        ],
    ),
    ("5.5a", lambda token_times: [round(value, 2) for value in time_per_output_token(token_times)]),
    ("5.5a", lambda token_times: [1.5, math.nan, math.nan, 1.0]),
    ("5.5b", searched),
    ("5.5b", lambda token_times: [gap for gap in inter_token_latencies(token_times) if gap]),
    ("5.5b", lambda token_times: list(set(inter_token_latencies(token_times)))),
    ("5.5b", lambda token_times: np.array(inter_token_latencies(token_times))),
    ("5.5b", object()),
)

# 5.6


def row_by_row(query_lens, context_lens, known_lens):
    if not len(query_lens) == len(context_lens) == len(known_lens):
        raise ValueError("three lists of one length")
    positions, starts, rows = [], [0], []
    for query, context, known in zip(query_lens, context_lens, known_lens, strict=True):
        if not 1 <= query <= context <= known:
            raise ValueError((query, context, known))
        positions += range(context - query, context)
        starts.append(len(positions))
        if context == known:
            rows.append(len(positions) - 1)
    return FlatStep(
        np.array(positions, np.int64), np.array(starts, np.int32), np.array(rows, np.int64)
    )


def copied_again_and_again(query_lens, context_lens, known_lens):
    right = flatten_step(query_lens, context_lens, known_lens)
    positions = []
    for query, context in zip(query_lens, context_lens, strict=True):
        positions = positions + list(range(context - query, context))
    return right._replace(positions=np.array(positions, np.int64))


def refuses_nothing(query_lens, context_lens, known_lens):
    lens = [max(1, each) for each in query_lens]
    contexts = [max(pair) for pair in zip(lens, context_lens, strict=False)]
    return flatten_step(lens, contexts, [max(p) for p in zip(contexts, known_lens, strict=False)])


FLAT_WRONG = (
    copied_again_and_again,
    refuses_nothing,
    lambda query_lens, context_lens, known_lens: tuple(
        flatten_step(query_lens, context_lens, known_lens)
    ),
    lambda query_lens, context_lens, known_lens: FlatStep(
        *(array.tolist() for array in flatten_step(query_lens, context_lens, known_lens))
    ),
    lambda query_lens, context_lens, known_lens: FlatStep(
        *(array.astype(np.int64) for array in flatten_step(query_lens, context_lens, known_lens))
    ),
    lambda query_lens, context_lens, known_lens: flatten_step(
        [1, 5, 3], [1000, 5, 3], [1000, 12, 3]
    ),
)


@pytest.mark.parametrize(("exercise", "answer"), [*METRICS_RIGHT, ("5.6", row_by_row)])
def test_an_unusual_right_function_earns_everything(exercise, answer):
    finding = examine(exercise, answer, max_examples=60)
    assert finding.fraction == 1, finding.counterexample


@pytest.mark.parametrize(
    ("exercise", "answer"), [*METRICS_WRONG, *(("5.6", wrong) for wrong in FLAT_WRONG)]
)
def test_a_wrong_function_earns_nothing_and_has_no_name(exercise, answer):
    finding = examine(exercise, answer)
    assert finding.fraction == 0
    assert named(finding) == SAME


# 5.7


def test_the_figures_of_the_hunt():
    four = (*hunt.FOUR_PROMPTS.values(), [])
    ways = (
        hunt.first_steps_suspect,
        hunt.cleared_in_every_step,
        hunt.counted_once,
        hunt.first_steps,
    )
    assert [way(*four)["d"] for way in ways] == [13, 2, 1, 1]
    assert [way(*hunt.FIVE_AND_AN_ABORT)["e"] for way in ways] == [20, 4, 20, 4]


def test_the_suspect_that_is_shown_is_the_mistake_that_is_known():
    for call in hunt.WORKLOADS:
        assert hunt.first_steps_suspect(*call.args) == hunt.still_latched(*call.args)


@pytest.mark.parametrize(
    ("workload", "says", "name"),
    [
        ({"requests": [("a", 3, 1), ("b", 1, 1)], "seats": 2, "budget": 2}, None, SAME),
        ({"requests": [["a", 99, 5], ["b", 1, 5]], "seats": 2, "budget": 64}, None, SAME),
        (
            {"requests": [("a", 9, 5), ("b", 9, 5)], "seats": 2, "budget": 64},
            "everybody starts",
            "no prompt is cut",
        ),
        (
            {"requests": [("a", 99, 5), ("b", 9, 5)], "seats": 3, "budget": 64},
            "everybody starts",
            "fewer requests than seats",
        ),
        ({"requests": [("a", 9, 5)] * 2, "seats": 2, "budget": 64}, "the same name", SAME),
        ({"requests": [], "seats": 2, "budget": 64}, "1 to 20 requests", SAME),
        ({"requests": [("a", 0, 5)], "seats": 2, "budget": 64}, "a request is", SAME),
        ({"requests": [("a", 10**9, 5)], "seats": 2, "budget": 64}, "400 steps", SAME),
        ({"requests": [("a", 9, 5)], "seats": True, "budget": 64}, '"seats" is a whole', SAME),
        ({"requests": [("a", 9, 5)], "seats": 3, "budget": 2}, "for each seat", SAME),
        ([("a", 9, 5)], 'the keys "requests"', SAME),
    ],
)
def test_a_workload_is_right_or_told_why_not(workload, says, name):
    finding = examine("5.7a", workload)
    assert finding.fraction == (says is None)
    if says:
        assert says in finding.counterexample.complaint
    assert named(finding) == name


def uses_up_the_requests(requests, seats, budget, aborts=()):
    found = hunt.first_steps(list(requests), seats, budget, aborts)
    if isinstance(requests, list):
        requests.clear()
    return found


@pytest.mark.parametrize(
    "answer",
    [
        uses_up_the_requests,
        lambda requests, seats, budget, aborts=(): hunt.first_steps(requests, seats, budget, ()),
        lambda requests, seats, budget, aborts=(): list(
            hunt.first_steps(requests, seats, budget, aborts).items()
        ),
        lambda requests, seats, budget, aborts=(): {"a": 0, "b": 0, "c": 2},
    ],
)
def test_a_wrong_repair_earns_nothing(answer):
    finding = examine("5.7b", answer)
    assert finding.fraction == 0
    assert named(finding) == SAME


# 5.8


def test_a_ratio_may_be_a_number_of_numpy_and_must_be_near():
    right = measure.measured()
    assert examine("5.8", {key: np.float64(value) for key, value in right.items()}).fraction == 1
    finding = examine("5.8", {**right, "TPOT": 1.01 * right["TPOT"]})
    assert finding.fraction == 0
    assert "'TPOT': it is too large" in finding.counterexample.complaint


# The engine


SOURCES = {
    "Scheduler.admit_waiting": inspect.getsource(over_a_copy).replace(
        "over_a_copy", "admit_waiting"
    ),
    "StaticBatchingScheduler.admit_waiting": """
from course_lib.scheduling.scheduler import Scheduler

def admit_waiting(self, output, budget):
    if self.running:
        return budget
    return Scheduler.admit_waiting(self, output, budget)
""",
    "time_per_output_token": """
import math

def time_per_output_token(token_times):
    found = []
    for times in token_times:
        gaps = len(times) - 1
        found.append((times[-1] - times[0]) / gaps if gaps > 0 else math.nan)
    return found
""",
    "flatten_step": "import numpy as np\nfrom course_lib.engine.flatten import FlatStep\n\n"
    + inspect.getsource(row_by_row).replace("row_by_row", "flatten_step"),
}


@pytest.fixture
def own_parts(workspace):
    for name, source in SOURCES.items():
        assert parts.save(name, source) is not None
    assert parts.get("Scheduler").admit_waiting is not Scheduler.admit_waiting
    assert parts.get("flatten_step") is not flatten_step


@pytest.mark.skipif(traces_dir() is None, reason="needs the measured run; set COURSE_TRACES")
def test_the_learners_admission_reproduces_a_run_of_vllm_within_5_per_cent(own_parts):
    run = load_vllm_run()
    own = SimulationParts.load()
    assert {"Scheduler", "time_per_output_token"} <= set(own.own_names)
    result = simulate(
        run,
        run.scheduler_config,
        RooflineCostModel(run.model, run.gpu),
        run.num_blocks,
        run.block_size,
        run.enable_caching,
        parts=own,
    )
    errors = Validation(run, result).rows()
    for name in ("ttft_mean", "tpot_mean", "e2e_mean", "makespan"):
        assert abs(errors[name][2]) < 0.05, (name, errors[name])


@pytest.mark.parametrize(
    ("kind", "num_iterations"), [("Scheduler", 8), ("StaticBatchingScheduler", 12)]
)
def test_six_answers_on_three_seats_take_the_engine_as_many_steps_as_on_paper(
    own_parts, kind, num_iterations
):
    own, rows = parts.get("flatten_step"), []

    def counted(*lens):
        step = own(*lens)
        rows.append(len(step.sample_rows))
        return step

    llm = LLM(
        parts=EngineParts.of({"Scheduler": parts.get(kind), "flatten_step": counted}),
        max_num_seqs=3,
    )
    outputs = [2, 7, 3, 5, 1, 4]
    params = [SamplingParams(temperature=0, max_tokens=n, ignore_eos=True) for n in outputs]
    answers = llm.generate([[5 + n] for n in range(6)], params)
    assert [len(answer.outputs[0].token_ids) for answer in answers] == outputs
    assert len(rows) == num_iterations
    assert sum(rows) == sum(outputs)
