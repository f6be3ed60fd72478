"""What a learner reads: the order of things, and nothing that a browser would run."""

import re
from dataclasses import replace

import pytest

from autograder.checks.answer import AnswerCheck
from autograder.checks.exercise import Exercise
from autograder.checks.finding import PASSED, Counterexample, Finding, Misconception
from autograder.checks.report import Report
from autograder.proxy.subject import LocalSubject

EXERCISE = Exercise(
    id="7.2",
    title="Count <blocks>",
    asks="Return how many blocks are free.",
    check=AnswerCheck(reference=lambda: 3),
    points=10,
    hints=("Which blocks are free?", "Look at the queue.", "`len(queue)`"),
)
CASE = Counterexample("count(\n  pool)", "3", "4", "one too many", "I was here")
MISCONCEPTION = Misconception("counts the null block", "Block 0 is never free.", None)
FAILED = Finding(0.0, CASE, MISCONCEPTION)


def test_a_failure_says_everything_in_order():
    assert repr(Report(EXERCISE, FAILED)).splitlines() == [
        "7.2 Count <blocks>: not yet, 0 of 10 points",
        "  Asked: Return how many blocks are free.",
        "  Smallest failing case found:",
        "    count(",
        "      pool)",
        "  Expected:",
        "    3",
        "  Got:",
        "    4",
        "  That is: one too many",
        "  It printed:",
        "    I was here",
        "  Gives the same values as: counts the null block: Block 0 is never free.",
        "  Hint: Which blocks are free?",
    ]


def test_the_html_says_the_same_in_the_same_order():
    html = Report(EXERCISE, FAILED)._repr_html_()
    text = re.sub(r"<[^>]*>", " ", html)
    words = ["not yet, 0 of 10", "Asked", "Smallest failing", "Expected", "Got", "That is"]
    words += ["It printed", "Gives the same values as: counts the null block", "Block 0", "Hint"]
    places = [text.index(word) for word in words]
    assert places == sorted(places)
    assert 'data-verdict="not yet"' in html
    assert 'data-exercise="7.2"' in html


@pytest.mark.parametrize("failures", range(1, 6))
def test_hints_escalate_with_the_number_of_failures(failures):
    report = Report(EXERCISE, FAILED, failures=failures)
    due = EXERCISE.hints[min(failures, 3) - 1]
    assert [hint for hint in EXERCISE.hints if hint in repr(report)] == [due]
    marked = [re.sub(r"`(.*)`", r"<code>\1</code>", hint) for hint in EXERCISE.hints]
    html = report._repr_html_()
    assert [hint for hint, said in zip(EXERCISE.hints, marked, strict=True) if said in html] == [
        due
    ]


def test_who_has_not_started_gets_the_first_hint_however_often():
    report = Report(EXERCISE, Finding(0.0, CASE, unwritten=True), failures=3)
    assert "Hint: Which blocks are free?" in repr(report)


def test_what_failed_may_have_a_hint_of_its_own_which_comes_first():
    known = replace(MISCONCEPTION, hint="Who holds block 0?")
    finding = Finding(0.0, CASE, known)
    assert repr(Report(EXERCISE, finding)).splitlines()[-1] == "  Hint: Who holds block 0?"
    assert repr(Report(EXERCISE, finding, failures=2)).splitlines()[-2:] == [
        "  Hint: Who holds block 0?",
        "  Hint: Look at the queue.",
    ]


def test_a_mistake_is_called_by_name_only_where_it_is_known_to_be_that_one():
    assert "Gives the same values as: counts the null block: Block 0 is never" in repr(
        Report(EXERCISE, FAILED)
    )
    shown = repr(Report(EXERCISE, replace(FAILED, confirmed=True)))
    assert "This is: counts the null block: Block 0 is never free." in shown
    assert "same values" not in shown


def test_mistakes_that_cannot_be_told_apart_are_all_named():
    other = Misconception("counts from 1", "Ids count from 0.", None)
    shown = repr(Report(EXERCISE, Finding(0.0, CASE, alike=(MISCONCEPTION, other))))
    assert (
        "Gives the same values as “counts the null block”, or as “counts from 1”: "
        "Block 0 is never free. Or: Ids count from 0."
    ) in shown


def test_what_comes_below_is_html_only():
    report = Report(EXERCISE, PASSED, trimmings="<svg></svg>")
    assert "<svg></svg></div>" in report._repr_html_()
    assert "svg" not in repr(report)


def test_a_pass_is_one_line_and_the_note():
    assert repr(Report(EXERCISE, PASSED)) == "7.2 Count <blocks>: passed, 10 of 10 points"
    assert repr(Report(EXERCISE, PASSED, "Kept as my_engine/count.py.")).splitlines()[1:] == [
        "  Kept as my_engine/count.py."
    ]


def test_a_stub_is_told_where_to_begin_and_gets_the_hint_but_no_case():
    shown = repr(Report(EXERCISE, Finding(0.0, CASE, unwritten=True)))
    assert "not started" in shown
    assert "Next: Write below YOUR CODE HERE." in shown
    assert "Hint: Which blocks" in shown
    assert "Smallest failing case" not in shown
    advised = Finding(0.0, CASE, unwritten=True, advice="blocks is still None: write its value.")
    assert "Next: blocks is still None: write its value." in repr(Report(EXERCISE, advised))


@pytest.mark.parametrize(
    ("fraction", "points"), [(0.0, 0.0), (1.0, 10.0), (0.875, 8.75), (1 / 3, 3.33)]
)
def test_points_are_the_share_of_what_the_exercise_earns(fraction, points):
    report = Report(EXERCISE, Finding(fraction, CASE))
    assert report.points == points
    assert f"{points:g} of 10 points" in repr(report)


def test_practice_shows_no_points():
    practice = Exercise("1.W1", "Warm", "Do it.", EXERCISE.check)
    assert repr(Report(practice, PASSED)) == "1.W1 Warm: passed"


HOSTILE = "<script>alert(1)</script><img src=x onerror='alert(2)'>&\""


def test_the_html_escapes_everything_that_came_from_elsewhere():
    exercise = Exercise(HOSTILE, HOSTILE, HOSTILE, EXERCISE.check, points=1, hints=(HOSTILE,))
    case = Counterexample(*[HOSTILE] * 5)
    finding = Finding(0.0, case, Misconception(HOSTILE, HOSTILE, None))
    html = Report(exercise, finding, HOSTILE)._repr_html_()
    tags = set(re.findall(r"<\s*/?\s*(\w+)", html))
    assert tags <= {"div", "strong", "pre"}
    assert html.count("&lt;script&gt;") == 13
    assert "onerror='" not in html


def test_a_value_with_a_script_in_it_is_shown_and_not_run():
    finding = EXERCISE.examine(LocalSubject("<script>alert(1)</script>"))
    html = Report(EXERCISE, finding)._repr_html_()
    assert "<script>" not in html
    assert "&#x27;&lt;script&gt;alert(1)&lt;/script&gt;&#x27;" in html
