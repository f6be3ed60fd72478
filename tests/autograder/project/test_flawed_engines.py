"""Twelve flawed engines, the reference and the untouched one: each gets what the rubric says."""

import ast
import json
import subprocess
import sys
import textwrap
from io import StringIO

import pytest
from rich.console import Console

from autograder.lessons.lesson13 import EQUALITY
from autograder.project import performance
from autograder.project.answers import defined, reference_pieces, written_anew
from autograder.project.checks import EXERCISES
from autograder.project.report import report_of, report_on
from autograder.project.rubric import rubric
from autograder.proxy.subject import LocalSubject
from autograder.written import text_of
from course_lib import parts

COUNTED = {"blocks": 5, "kv_bytes": 5, "model_calls": 5, "tokens_computed": 5}
ALL = {**COUNTED, "cpu_time": 10, "quality": 20, "says": 2, "inputs": 1.5, "examples": 1.5}
NOTHING = dict.fromkeys(ALL, 0)

SPIN = """
def step(self):
    '''Run one step of the engine five times as slowly as need be; return its record.'''
    before = time.thread_time()
    record = EngineCore.step(self)
    ends = time.thread_time() + 4 * (time.thread_time() - before)
    while time.thread_time() < ends:
        pass
    return record
"""

LAST_FIRST = """
class FCFSRequestQueue(FCFSRequestQueue):
    def peek(self):
        return next(reversed(self.requests.values()))

    def pop(self):
        return self.requests.popitem()[1]
"""

SWALLOWED = """
def output(self):
    shown = Answer.output(self)
    return replace(shown, token_ids=shown.token_ids[: -1 if self.finish_reason else None])
"""

NOISY = """
def push(self, text):
    '''Take in text; return what of it is final, as characters that no stop string can reach.

    >>> StopStrings(["END"]).push("an E")
    'an '
    '''
    if self.found != None: return ""
    text = self.kept_back + text;
    places = list((text.find(string), string) for string in self.strings)
    complete = [l for l in places if not l[0] < 0]
    unused = 1
    if len(complete) > 0:
        longest = lambda place: place[0] + len(place[1])
        end, self.found = min(complete, key=longest)
        self.kept_back = ""
    else:
        end = len(text) - max((overlap(text, string) for string in self.strings), default=0)
        self.kept_back = text[end:]
    if True == False: return f""
    return text[:end]
"""


def with_piece(name, piece):
    return {**reference_pieces(), name: piece}


def changed(name, changes):
    return with_piece(name, written_anew(name, changes))


def leaks_on_abort():
    return changed("Scheduler.finish_requests", {"self.let_go(ended)": "self.requests = {}"})


def counts_a_hit_twice():
    changes = {"request.num_computed_tokens = num_hit_tokens": "request.num_computed_tokens += 8"}
    return changed("Scheduler.admit_waiting", changes)


def admits_in_quadratic_time():
    changes = {
        "request = self.waiting.peek()": "request = self.waiting.peek()\n"
        "        assert request in [each for each in self.waiting]"
    }
    return changed("Scheduler.admit_waiting", changes)


def never_copies():
    changes = {"self.block_copies.append((source.block_id, copy.block_id))": "pass"}
    return changed("KVCacheManager.replace_shared", changes)


def serves_the_last_first():
    return with_piece("FCFSRequestQueue", defined("FCFSRequestQueue", LAST_FIRST))


def swallows_the_last_token():
    return with_piece("Answer.output", defined("Answer.output", SWALLOWED))


def gives_the_tokens_to_the_first():
    """Return an engine that is right but where a prompt is cut in front of one that ends."""
    changes = {
        "[sequence for sequence in scheduled if sequence.is_caught_up]": "scheduled",
        "zip(caught_up, batch.sample_rows, strict=True)": "zip(caught_up, batch.sample_rows)",
    }
    return changed("Executor.execute", changes)


def never_ends():
    """Return an engine whose scheduler never hears of a token."""
    return changed(
        "EngineCore.step", {"self.scheduler.update_from_output(output, sampled)": "pass"}
    )


def says_nothing():
    """Return the reference with a placeholder for each docstring."""
    found = {}
    for name, piece in reference_pieces().items():
        lines = textwrap.dedent(text_of(piece)).splitlines()
        for node in reversed(list(ast.walk(ast.parse("\n".join(lines))))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
                text = node.body[0]
                todo = " " * text.col_offset + "'TODO: describe it.'"
                lines[text.lineno - 1 : text.end_lineno] = [todo]
        found[name] = defined(name, "\n".join(lines))
    return found


def is_five_times_slower():
    return with_piece("EngineCore.step", defined("EngineCore.step", SPIN))


def is_noisy():
    return with_piece("StopStrings.push", defined("StopStrings.push", NOISY))


def is_borrowed():
    return {name: parts.reference(name) for name in rubric().parts}


def cpu(earned):
    return {**ALL, "cpu_time": earned}


CASES = {
    "the reference": (reference_pieces, ALL),
    "leak on abort": (leaks_on_abort, ALL),
    "double count of a hit": (counts_a_hit_twice, NOTHING),
    "quadratic admission": (admits_in_quadratic_time, cpu(0)),
    "no copy on write": (never_copies, NOTHING),
    "wrong order of service": (serves_the_last_first, ALL),
    "swallowed last token": (swallows_the_last_token, NOTHING),
    "the first of the plan get the tokens": (gives_the_tokens_to_the_first, NOTHING),
    "never ends": (never_ends, NOTHING),
    "placeholder docs": (says_nothing, {**ALL, "says": 0, "inputs": 0, "examples": 0}),
    "reference parts only": (is_borrowed, NOTHING),
    "five times slower": (is_five_times_slower, cpu(0)),
    "noisy style": (is_noisy, {**ALL, "quality": 11.75}),
    "untouched": (dict, NOTHING),
}


@pytest.mark.parametrize("name", CASES)
def test_an_engine_gets_what_the_rubric_says(name):
    make, expected = CASES[name]
    report = report_on(make())
    earned = {each.item: each.earned for each in report.verdicts if each.earned is not None}
    assert earned == pytest.approx(expected), report.as_json()
    if make is dict:
        assert all("No part of the engine" in each.evidence[0] for each in report.verdicts[:9])


def test_an_engine_that_is_wrong_in_half_of_the_settings_earns_nothing_whatever_the_seed():
    engine = gives_the_tokens_to_the_first()
    found = EQUALITY.check.examine(LocalSubject(engine, performance.PATIENCE), 3, 1)
    assert found.fraction == 0.5, found
    for seed in range(1, 7):
        subject = LocalSubject(engine, performance.PATIENCE)
        for exercise in EXERCISES:
            finding = exercise.check.examine(subject, seed, 1)
            assert finding.fraction == 0, (exercise.id, seed)
            assert "long_prefill_token_threshold=5" in finding.counterexample.case


def test_what_is_wrong_is_said_with_the_setting_in_every_item():
    report = report_on(gives_the_tokens_to_the_first())
    for each in report.verdicts:
        if each.earned is not None:
            assert "serves 8 requests: chunks of 5 tokens" in each.evidence[0]


def test_a_report_has_every_item_of_the_rubric_as_a_table_and_as_data():
    correctness = {each.exercise: each.points for each in rubric().correctness}
    report = report_on({}, correctness)
    assert (report.points, report.earned) == (100, 40)
    data = json.loads(report.as_json())
    assert [each["points"] for each in data["items"]] == [each.points for each in report.verdicts]
    printed = StringIO()
    Console(file=printed, width=160).print(report.table())
    for item in report.verdicts:
        assert item.title.split()[0] in printed.getvalue()
    assert "by hand / 2" in printed.getvalue()
    assert "40 / 100" in printed.getvalue()


def test_parts_that_are_the_references_cost_the_share_that_the_rubric_states():
    pieces = reference_pieces()
    del pieces["Executor.execute"]
    report = report_on(pieces)
    share = 1 - 3 / 24
    earned = {each.item: each.earned for each in report.verdicts if each.earned is not None}
    wanted = {item: share * points for item, points in ALL.items()}
    assert earned == pytest.approx(wanted)
    said = report.verdicts[0]
    assert "88% of 5 points: the reference stands in for Executor.execute." in said.evidence[-1]
    assert said.advice == "Write Executor.execute yourself, and put it into the engine."


@pytest.fixture
def six_busy_neighbours():
    """Six processes that do nothing but work."""
    code = "while True: sum(range(10_000))"
    busy = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(6)]
    yield
    for each in busy:
        each.kill()
        each.wait()


@pytest.mark.usefixtures("six_busy_neighbours")
@pytest.mark.parametrize(
    ("make", "earned"), [(reference_pieces, 10), (is_five_times_slower, 0)], ids=["right", "slow"]
)
def test_six_busy_neighbours_change_no_grade(make, earned):
    subject, trusted = (LocalSubject(each, performance.PATIENCE) for each in (make(), {}))
    time = performance.timed(subject, trusted, seed=11)
    assert (time.item, time.earned) == ("cpu_time", earned), time


def test_an_engine_in_a_process_of_its_own_gets_the_same(remote):
    subject = remote(LEARNERS_ENGINE, "engine")
    report = report_of(subject, seed=4)
    here = report_on(reference_pieces())
    earned = [each.earned for each in report.verdicts]
    assert earned == [each.earned for each in here.verdicts], report.as_json()
    assert report.earned == 55


LEARNERS_ENGINE = """
from autograder.project.answers import reference_pieces
engine = reference_pieces()
"""
