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
from autograder.checks.scaffold import released_docstrings
from autograder.lessons import lesson05_given as given
from autograder.lessons import lesson05_hunt as hunt
from autograder.lessons import lesson05_measure as measure
from autograder.notebook import check
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
from lesson_answers import SAME, examine, examine_wrong, named

pytestmark = pytest.mark.lesson(5)

# 5.1


@pytest.mark.parametrize("container", [set, list, tuple, frozenset, sorted])
def test_what_follows_may_be_in_any_container_and_ends_need_no_row(container):
    table = {now: container(after) for now, after in given.moves().items() if after}
    assert examine("5.1", table).fraction == 1


def test_an_empty_set_may_be_written_as_an_empty_dict():
    table = {now: after or {} for now, after in given.moves().items()}
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
        ({"running": set(), "waiting": {"running"}}, "the rows of 'waiting' and 'running'"),
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


class Table(dict):
    pass


class Row(set):
    pass


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        (Table, "Table came where a dict was asked; dict(...) makes one of it"),
        (lambda rows: list(rows.items()), "it is a list, not a dict"),
        (
            lambda rows: {now: Row(after) for now, after in rows.items()},
            "Row came where a set was asked; set(...) makes one of it",
        ),
    ],
)
def test_a_table_of_another_kind_is_told_what_makes_one_of_it(odd, says):
    assert says in examine("5.1", odd(given.moves())).counterexample.complaint


@pytest.mark.parametrize("answer", [{}, None])
def test_a_table_without_rows_is_not_started(answer):
    assert examine("5.1", answer).unwritten


# 5.2


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ("FAPLECDHIKJN", "the clock moves on by its seconds before the token is noted"),
        ("FAPLECDHIKJON", "the clock moves on by its seconds before the token is noted"),
        ("FAPECDOHIKJN", "go on to the next arrival before it is asked who has come"),
        ("FAPECLDOHIKJN", "go on to the next arrival before it is asked who has come"),
    ],
)
def test_of_a_line_left_out_or_too_late_is_said_what_holds_of_both(order, says):
    finding = examine("5.2", list(order))
    assert says in finding.misconception.explanation


def test_a_failing_loop_shows_no_more_of_a_scheduler_than_it_is_given():
    case = examine("5.2", list("FAPECDOHIKJN")).counterexample.case
    assert "max_num_seqs=" in case
    assert "policy" not in case


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
    ("self.max_num_seqs", "self.config.max_num_seqs", "the seats of the configuration"),
    ("budget -= num_new", "pass", "the budget is never paid"),
    (
        "num_new, hits, num_hit_tokens)",
        "num_new, *(hits, num_hit_tokens) * (request.status is RequestStatus.WAITING))",
        SAME,
    ),
    ("len(self.running) < self.max_num_seqs", "len(self.running) != self.max_num_seqs", SAME),
    ("len(self.running) < ", "len(self.running) < 8 and len(self.running) < ", SAME),
    (
        "len(self.running) < ",
        "len(output.num_scheduled_tokens) < 128 and len(self.running) < ",
        SAME,
    ),
    ("budget -= num_new", "budget -= num_new\n        break", "one in each iteration"),
    (
        "request.num_tokens - num_hit_tokens",
        "request.num_tokens",
        "cached tokens are lacking still",
    ),
    ("len(self.running) < ", "len(self.running) + len(self.swapped) < ", SAME),
    ("len(self.running) < ", "len(output.num_scheduled_tokens) < ", SAME),
    (
        "len(self.running) < self.max_num_seqs",
        "(len(self.running) < self.max_num_seqs or "
        "self.waiting.peek().status is RequestStatus.PREEMPTED)",
        SAME,
    ),
    ("budget > 0", "budget > 0 and (not output.scheduled_resumed_reqs)", SAME),
    ("budget > 0", "budget > 0 and (not output.blocks_to_swap_in)", SAME),
    ("budget > 0", "budget > 0 and len(output.num_scheduled_tokens) < 8", SAME),
    ("self.waiting.peek()", "min(self.waiting, key=lambda each: each.arrival_time)", SAME),
    ("self.may_start(request)", "request is self.next_in_line()", SAME),
    (
        "self.may_start(request):\n",
        "self.may_start(request):\n"
        "            self.waiting.pop()\n            self.waiting.add(request)\n",
        SAME,
    ),
    (
        "self.find_hits(request)",
        "self.find_hits(request) if request.status is RequestStatus.WAITING else ([], 0)",
        "back without hits",
    ),
    (
        "self.find_hits(request)",
        "self.find_hits(request) if request.num_tokens > budget else ([], 0)",
        SAME,
    ),
    ("self.find_hits(request)", "self.find_hits(request) if not self.running else ([], 0)", SAME),
    (
        "request.num_computed_tokens = num_hit_tokens",
        "request.num_computed_tokens = num_hit_tokens * (request.status is RequestStatus.WAITING)",
        SAME,
    ),
    (
        "self.take_room(request, num_new, hits, num_hit_tokens)",
        "self.kv_cache_manager.allocate_slots(request, num_new, num_hit_tokens, hits) is not None",
        SAME,
    ),
    (
        "self.start(request, num_new, output)",
        "request.num_preemptions = 0\n        self.start(request, num_new, output)",
        SAME,
    ),
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
    (
        "(request)\n        else:\n            output.scheduled_new_reqs.append(request)",
        "(request.request_id)\n        else:\n"
        "            output.scheduled_new_reqs.append(request.request_id)",
        "ids in the place of requests",
    ),
)


def unless(condition):
    """Return a way to admit as usual unless a condition holds."""
    scope = dict(vars(scheduler))
    exec(
        "def admit_waiting(self, output, budget):\n"
        f"    if {condition}:\n        return budget\n"
        "    return Scheduler.admit_waiting(self, output, budget)",
        scope,
    )
    return scope["admit_waiting"]


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


@pytest.mark.usefixtures("wrong_answers")
@pytest.mark.parametrize(("old", "new", "name"), ADMIT_WRONG)
def test_a_wrong_way_to_admit_earns_nothing_and_is_named_only_if_it_is_that(old, new, name):
    finding = examine_wrong("5.4", changed(old, new))
    assert finding.fraction == 0
    assert named(finding) == name


@pytest.mark.usefixtures("wrong_answers")
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
        *(
            unless(condition)
            for condition in (
                "self.running or any(r.num_preemptions for r in self.waiting)",
                "self.running and self.waiting.peek().status is not RequestStatus.PREEMPTED",
                "any(r.num_computed_tokens >= r.num_prompt_tokens for r in self.running)",
                "self.running and not output.finished_req_ids",
            )
        ),
        changed(
            "while self.waiting",
            "if self.running:\n        return budget\n    "
            "self.max_num_seqs = self.config.max_num_seqs\n    while self.waiting",
        ),
    ],
)
def test_a_wrong_rule_of_static_batching_earns_nothing(answer):
    assert examine("5.3", answer).fraction == 0


@pytest.mark.parametrize(
    ("name", "num_lines"),
    [
        ("cached tokens are computed again", 4),
        ("cached tokens cost budget", 4),
        ("hits without their blocks", 4),
        ("hits not counted as computed", 4),
        ("one in each iteration", 4),
        ("the budget is never paid", 4),
        ("taken out first", 4),
    ],
)
def test_of_failing_cases_a_small_one_is_shown(name, num_lines):
    mistake = next(m for m in lessons.find("5.4").check.misconceptions if m.name == name)
    finding = examine("5.4", mistake.wrong)
    assert len(finding.counterexample.case.splitlines()) <= num_lines, finding.counterexample.case


OWN_NAMES = """
from course_lib.scheduling.request import RequestStatus
from course_lib.scheduling.scheduler import Scheduler
"""
BATCH = """
def admit_waiting(self, output, budget):
    return budget if self.running else Scheduler.admit_waiting(self, output, budget)
"""
ONE_BY_ONE = inspect.getsource(recursive).replace("recursive", "admit_waiting")


def from_the_cell_of(exercise, source):
    """Return a function's source below the docstring with which the exercise's stub is released."""
    head, _, body = source.strip().partition("\n")
    (docstring,) = released_docstrings(exercise)
    return f"{OWN_NAMES}\n{head}\n    {docstring!r}\n{body}\n"


@pytest.mark.usefixtures("few_examples")
@pytest.mark.parametrize(
    ("exercise", "source", "other"), [("5.3", ONE_BY_ONE, "5.4"), ("5.4", BATCH, "5.3")]
)
def test_the_function_of_the_other_exercise_is_told_from_a_wrong_one(
    load, capsys, exercise, source, other
):
    theirs = load(from_the_cell_of(other, source)).admit_waiting
    assert check(exercise, theirs) == 0
    said = capsys.readouterr().out
    assert f"Its docstring is that of {other}, whose function has the same name" in said
    assert "Asked: " in said
    assert f"run the cell of {exercise} once more" in said
    assert check(other, theirs) > 0


@pytest.mark.usefixtures("few_examples")
@pytest.mark.parametrize("exercise", ["5.3", "5.4"])
@pytest.mark.parametrize("is_documented", [True, False])
def test_a_function_of_this_cell_that_does_what_another_asks_is_wrong_and_no_more(
    load, capsys, exercise, is_documented
):
    source = ONE_BY_ONE if exercise == "5.3" else BATCH
    source = from_the_cell_of(exercise, source) if is_documented else OWN_NAMES + source
    assert check(exercise, load(source).admit_waiting) < lessons.find(exercise).points
    said = capsys.readouterr().out
    assert "has the same name" not in said
    assert "Asked: " in said


def test_a_failing_case_of_admission_is_short():
    seats = next(m for m in lessons.find("5.4").check.misconceptions if "seats" in m.name)
    case = examine("5.4", seats.wrong, max_examples=100).counterexample.case
    assert len(case.splitlines()) <= 5, case
    assert "add_request(Request('" in case


def test_whoever_is_back_without_a_token_is_shown_in_few_steps():
    answer = changed("request.status is RequestStatus.PREEMPTED", "request.output_token_ids")
    case = examine("5.4", answer).counterexample.case
    assert len(case.splitlines()) <= 6, case


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


def paced(token_times):
    return zip(token_times, time_per_output_token(token_times), strict=True)


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
    ("5.5a", lambda times: [v if t and t[0] else math.nan for t, v in paced(times)]),
    ("5.5a", lambda times: [v or math.nan for _, v in paced(times)]),
    ("5.5a", lambda times: [v if len(set(t)) > 1 else math.nan for t, v in paced(times)]),
    ("5.5b", lambda times: [round(gap, 3) for gap in inter_token_latencies(times)]),
    ("5.5b", lambda times: [round(gap, 6) for gap in inter_token_latencies(times)]),
    ("5.5b", lambda times: [float(np.float32(gap)) for gap in inter_token_latencies(times)]),
    ("5.5b", lambda times: [b - a for each in times for a, b in pairwise(each) if a]),
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


def appended_row_by_row(query_lens, context_lens, known_lens):
    right = flatten_step(query_lens, context_lens, known_lens)
    positions = np.zeros(0, np.int64)
    for query, context in zip(query_lens, context_lens, strict=True):
        for place in range(context - query, context):
            positions = np.append(positions, place)
    return right._replace(positions=positions)


def joined_again_and_again(query_lens, context_lens, known_lens):
    right = flatten_step(query_lens, context_lens, known_lens)
    positions = np.zeros(0, np.int64)
    for query, context in zip(query_lens, context_lens, strict=True):
        positions = np.concatenate([positions, np.arange(context - query, context)])
    return right._replace(positions=positions)


def refuses_nothing(query_lens, context_lens, known_lens):
    lens = [max(1, each) for each in query_lens]
    contexts = [max(pair) for pair in zip(lens, context_lens, strict=False)]
    return flatten_step(lens, contexts, [max(p) for p in zip(contexts, known_lens, strict=False)])


def looks_at_sums(query_lens, context_lens, known_lens):
    if not sum(query_lens) <= sum(context_lens) <= sum(known_lens):
        raise ValueError
    return unchecked(query_lens, context_lens, known_lens)


def looks_at_the_last(query_lens, context_lens, known_lens):
    if not len(query_lens) == len(context_lens) == len(known_lens):
        raise ValueError
    for lens in list(zip(query_lens, context_lens, known_lens, strict=True))[-1:]:
        if not 1 <= lens[0] <= lens[1] <= lens[2]:
            raise ValueError
    return unchecked(query_lens, context_lens, known_lens)


def passes_over_nothing(query_lens, context_lens, known_lens):
    return flatten_step(query_lens, *((context_lens, known_lens) if query_lens else ([], [])))


def unchecked(query_lens, context_lens, known_lens):
    lens = list(zip(query_lens, context_lens, known_lens, strict=True))
    positions = [place for query, context, _ in lens for place in range(context - query, context)]
    starts = np.cumsum([0, *query_lens])
    rows = [
        end - 1
        for end, (_, context, known) in zip(starts[1:], lens, strict=True)
        if context == known
    ]
    return FlatStep(
        np.array(positions, np.int64), starts.astype(np.int32), np.array(rows, np.int64)
    )


def in_two_bytes(query_lens, context_lens, known_lens):
    right = flatten_step(query_lens, context_lens, known_lens)
    return right._replace(positions=right.positions.astype(np.int16).astype(np.int64))


FLAT_WRONG = (
    looks_at_sums,
    looks_at_the_last,
    passes_over_nothing,
    in_two_bytes,
    copied_again_and_again,
    appended_row_by_row,
    joined_again_and_again,
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


class OneStep:
    """A step that is filled anew in each call."""

    positions = query_starts = sample_rows = None

    def __call__(self, query_lens, context_lens, known_lens):
        right = flatten_step(query_lens, context_lens, known_lens)
        self.positions, self.query_starts, self.sample_rows = right
        return self


class OneBuffer:
    """Steps whose arrays lie in the same memory."""

    def __init__(self):
        self.memory = [np.zeros(10_000, like.dtype) for like in flatten_step([1], [1], [1])]

    def __call__(self, query_lens, context_lens, known_lens):
        right = flatten_step(query_lens, context_lens, known_lens)
        for memory, array in zip(self.memory, right, strict=True):
            memory[: len(array)] = array
        lengths = map(len, right)
        return FlatStep(*(m[:n] for m, n in zip(self.memory, lengths, strict=True)))


@pytest.mark.parametrize(
    ("answer", "kind"), [(OneStep(), "OneStep"), (OneBuffer(), "FlatStep")], ids=["step", "buffer"]
)
def test_a_step_that_the_next_call_fills_anew_loses_points(answer, kind):
    def flat(query_lens, context_lens, known_lens):
        return answer(query_lens, context_lens, known_lens)

    finding = examine("5.6", flat)
    assert finding.fraction == 0
    assert finding.counterexample.complaint == (
        f"a call changes the {kind} that an earlier one returned; make a new {kind} in each"
    )


@pytest.mark.parametrize(("exercise", "answer"), [*METRICS_RIGHT, ("5.6", row_by_row)])
def test_an_unusual_right_function_earns_everything(exercise, answer):
    finding = examine(exercise, answer, max_examples=60)
    assert finding.fraction == 1, finding.counterexample


@pytest.mark.usefixtures("wrong_answers")
@pytest.mark.parametrize(
    ("exercise", "answer"), [*METRICS_WRONG, *(("5.6", wrong) for wrong in FLAT_WRONG)]
)
def test_a_wrong_function_earns_nothing_and_has_no_name(exercise, answer):
    finding = examine_wrong(exercise, answer)
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
        (
            {"requests": [("a", 10**9, 5), ("b", 9, 5)], "seats": 1, "budget": 64},
            "400 steps",
            SAME,
        ),
        (
            {"requests": [(name, 99, 60) for name in "abcdefgh"], "seats": 8, "budget": 64},
            None,
            SAME,
        ),
        ({"requests": [("a", 9, 5)], "seats": True, "budget": 64}, '"seats" is a whole', SAME),
        ({"requests": [("a", 9, 5)], "seats": 3, "budget": 2}, "for each seat", SAME),
        ([("a", 9, 5)], 'the keys "requests"', SAME),
        ({**hunt.FOUR_PROMPTS, "aborts": [("b", 3)]}, "leave the aborts out", SAME),
        ({**hunt.FOUR_PROMPTS, "aborts": []}, None, SAME),
    ],
)
def test_a_workload_is_right_or_told_why_not(workload, says, name):
    finding = examine("5.7a", workload)
    assert finding.fraction == (says is None)
    if says:
        assert says in finding.counterexample.complaint
    assert named(finding) == name


MENDED_CELL = """
def first_steps(requests, seats, budget, aborts=()):
    waiting, chunked = list(requests), None
    running, started = {}, {}
    for step in range(400):
        tokens = budget - len(running)
        joining = {}
        if chunked is not None:
            name, left, output = chunked
            computed = min(left, tokens)
            joining[name] = computed, left, output
            tokens -= computed
        while waiting and CONDITION:
            name, prompt, output = waiting.pop(0)
            started[name] = step
            joining[name] = min(prompt, tokens), prompt, output
            tokens -= joining[name][0]
        chunked = None
        for name, (computed, left, output) in joining.items():
            if computed < left:
                chunked = name, left - computed, output
            else:
                running[name] = output
        running = {name: left - 1 for name, left in running.items() if left > 1}
        for name, last_step in aborts:
            if last_step == step:
                running.pop(name, None)
    return started
"""
"""The cell of 5.7b with what a learner writes into its hole."""


@pytest.mark.usefixtures("wrong_answers")
@pytest.mark.parametrize(
    ("condition", "name"),
    [
        ("tokens > 0 and len(running) + len(joining) < seats", None),
        ("tokens > 0 and len({*running, *joining}) < seats", None),
        ("len(running) + len(joining) < seats", "no limit of tokens"),
        (
            "waiting[0][1] <= tokens and len(running) + len(joining) < seats",
            "waits for room for all of its prompt",
        ),
        ("tokens > 0 and len(running) < seats", "those who join are forgotten"),
        (
            "tokens > 0 and len(running) + len(joining) < seats "
            "and len(joining) == (chunked is not None)",
            "one in each step",
        ),
    ],
)
def test_of_the_hole_in_the_cell_each_wrong_condition_has_its_name(load, condition, name):
    answer = load(MENDED_CELL.replace("CONDITION", condition)).first_steps
    finding = examine("5.7b", answer)
    assert finding.fraction == (name is None)
    assert named(finding) == (name or SAME)


def test_a_repair_that_goes_wrong_late_earns_nothing(load):
    late = "tokens > 0 and len(running) + len(joining) < seats + (step > 99)"
    finding = examine("5.7b", load(MENDED_CELL.replace("CONDITION", late)).first_steps)
    assert finding.fraction == 0


@pytest.mark.parametrize(
    ("name", "num_requests"),
    [
        ("cleared in every step", 2),
        ("counted once", 3),
        ("those who join are forgotten", 2),
        ("no limit of tokens", 2),
        ("one in each step", 2),
        ("waits for room for all of its prompt", 1),
    ],
)
def test_of_workloads_that_fail_one_of_few_requests_is_shown(name, num_requests):
    mistake = next(m for m in lessons.find("5.7b").check.misconceptions if m.name == name)
    finding = examine("5.7b", mistake.wrong, max_examples=100)
    requests = finding.counterexample.case.partition("]")[0]
    assert requests.count("('") <= num_requests, finding.counterexample.case


def uses_up_the_requests(requests, seats, budget, aborts=()):
    found = hunt.first_steps(list(requests), seats, budget, aborts)
    if isinstance(requests, list):
        requests.clear()
    return found


@pytest.mark.usefixtures("wrong_answers")
@pytest.mark.parametrize(
    "answer",
    [
        uses_up_the_requests,
        lambda requests, seats, budget, aborts=(): hunt.first_steps(requests, seats, budget, ()),
        lambda requests, seats, budget, aborts=(): list(
            hunt.first_steps(requests, seats, budget, aborts).items()
        ),
        lambda requests, seats, budget, aborts=(): {"a": 0, "b": 0, "c": 2},
        lambda requests, seats, budget, aborts=(): hunt.first_steps(
            requests, min(seats, 8), budget, aborts
        ),
        lambda requests, seats, budget, aborts=(): hunt.first_steps(
            requests, seats, min(budget, 2048), aborts
        ),
        lambda requests, seats, budget, aborts=(): hunt.first_steps(
            requests, seats, budget, aborts[:1]
        ),
    ],
)
def test_a_wrong_repair_earns_nothing(answer):
    finding = examine_wrong("5.7b", answer)
    assert finding.fraction == 0
    assert named(finding) == SAME


# 5.8


def test_a_ratio_may_be_a_number_of_numpy_and_must_be_near():
    right = measure.measured()
    assert examine("5.8", {key: np.float64(value) for key, value in right.items()}).fraction == 1
    finding = examine("5.8", {**right, "TPOT": 1.01 * right["TPOT"]})
    assert finding.fraction == 0
    assert "'TPOT': it is too large" in finding.counterexample.complaint


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("TPOT", "upside down"),
        ("throughput", "upside down"),
        ("TTFT", "the ratio of each request"),
        ("TPOT", "the ratio of each request"),
        ("TPOT", "medians"),
        ("longest gap, p99", "the 0.99th percentile"),
        ("longest gap, p99", "p99 of all gaps"),
    ],
)
def test_a_known_mistake_in_one_ratio_is_named_where_the_others_are_right(key, name):
    mistake = next(m for m in lessons.find("5.8").check.misconceptions if m.name == name)
    finding = examine("5.8", {**measure.measured(), key: mistake.wrong()[key]})
    assert finding.fraction == 0
    assert named(finding) == name


def test_whoever_makes_two_mistakes_is_told_of_neither():
    right = measure.measured()
    mixed = {**right, "TPOT": 1 / right["TPOT"], "TTFT": measure.medians()["TTFT"]}
    assert named(examine("5.8", mixed)) == SAME


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
