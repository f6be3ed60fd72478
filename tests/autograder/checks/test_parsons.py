"""Checks of lines to put in order, on a loop of a few lines."""

import time
from itertools import permutations

import pytest
from hypothesis import strategies as st

from autograder.checks.function import Call, FunctionCheck
from autograder.checks.parsons import Distractor, ParsonsCheck
from autograder.proxy.subject import LocalSubject
from autograder.workspace.harvest import standalone_source


def digits(number):
    """Return the decimal digits of a whole number, the last first."""
    found = []
    rest = number
    while True:
        # The last one is what a division by ten leaves.
        found.append(
            rest % 10,
        )
        rest = rest // 10
        if rest == 0:
            return found


INNER = FunctionCheck(
    reference=digits,
    cases=st.builds(Call, st.integers(0, 999)),
    probes=(Call(0), Call(120)),
)
PARSONS = ParsonsCheck(
    "9.2",
    INNER,
    distractors=(
        Distractor(
            "if rest == 1:\n    return found",
            "if rest == 0",
            "stops at one",
            "One is a digit to come.",
        ),
        Distractor("rest = rest // 2", "rest = rest // 10", "halves", "Digits are of tens."),
    ),
    joined=("return found",),
)


def label(text):
    return next(key for key, line in PARSONS.lines.items() if line.strip().startswith(text))


@pytest.fixture(params=["local", "remote"])
def examine(request):
    """Examine an order that stands in a learner's module, here and in another process."""
    make = request.getfixturevalue(request.param)
    return lambda order: PARSONS.examine(make(f"order = {order!r}", "order"), 1, 40)


def test_the_lines_are_those_of_the_function_and_the_distractors_with_their_indentation():
    assert list(PARSONS.lines) == list("ABCDEFGH")
    assert sorted(PARSONS.lines.values()) == sorted(
        [
            "    found = []",
            "    rest = number",
            "    while True:",
            "        found.append(\n            rest % 10,\n        )",
            "        rest = rest // 10",
            "        rest = rest // 2",
            "        if rest == 0:\n            return found",
            "        if rest == 1:\n            return found",
        ]
    )


def test_they_are_shown_in_another_order_that_depends_on_the_exercise_alone():
    again = ParsonsCheck("9.2", INNER, PARSONS.distractors, PARSONS.joined)
    other = ParsonsCheck("9.3", INNER, PARSONS.distractors, PARSONS.joined)
    assert again.lines == PARSONS.lines
    assert other.lines != PARSONS.lines
    assert list(PARSONS.solution) != sorted(PARSONS.solution)


def test_the_right_order_passes(examine):
    assert examine(list(PARSONS.solution)).fraction == 1
    assert examine(PARSONS.solution).fraction == 1


def test_every_order_that_works_passes():
    first, second, *rest = PARSONS.solution
    swapped = [second, first, *rest]
    assert PARSONS.examine(LocalSubject(swapped), 1, 40).fraction == 1


def test_no_other_order_of_the_right_lines_passes():
    passed = []
    first_two = set(PARSONS.solution[:2])
    for order in permutations(PARSONS.solution):
        try:
            PARSONS.made(order)
        except SyntaxError:
            continue
        if PARSONS.examine(LocalSubject(list(order), 0.05), 1, 5).fraction == 1:
            passed.append(order)
    assert all(set(order[:2]) == first_two for order in passed)
    assert len(passed) == 2


@pytest.mark.parametrize("mistake", PARSONS.misconceptions, ids=lambda m: m.name)
def test_a_distractor_is_named(examine, mistake):
    finding = examine(mistake.wrong)
    assert finding.fraction == 0
    assert finding.misconception == mistake


def test_a_distractor_beside_the_line_that_it_stands_for_does_not_belong_and_has_no_name(examine):
    order = list(PARSONS.solution)
    place = order.index(label("rest = rest // 10"))
    order.insert(place, label("rest = rest // 2"))
    finding = examine(order)
    assert finding.fraction == 0
    assert finding.misconception is None
    assert f"line {label('rest = rest // 2')} does not belong" in finding.counterexample.complaint


def test_an_order_that_fails_is_shown_by_its_smallest_case(examine):
    order = list(PARSONS.solution)
    order.remove(label("rest = number"))
    finding = examine(order)
    assert finding.counterexample.case == "digits(0)"
    assert finding.counterexample.got.startswith("UnboundLocalError")
    assert "in line " in finding.counterexample.complaint


def test_lines_that_make_no_function_are_shown_with_the_line(examine):
    order = [label("found = []"), label("rest = rest // 10"), label("rest = number")]
    finding = examine(order)
    case = finding.counterexample
    assert case.case == "    found = []\n        rest = rest // 10\n    rest = number"
    assert case.got == "IndentationError: unexpected indent"
    assert case.complaint == "line 2 of these; 3 of the 6 lines that belong are missing"
    headless = examine([label("while True"), label("rest = number")]).counterexample
    assert headless.got == "IndentationError: expected an indented block after 'while' statement"


def test_an_endless_loop_is_cut_off(examine):
    order = [each for each in PARSONS.solution if each != label("rest = rest // 10")]
    started = time.thread_time()
    finding = examine(order)
    assert finding.fraction == 0
    assert "is there an endless loop?" in finding.counterexample.got
    assert time.thread_time() - started < 6


@pytest.mark.parametrize("order", [[], None, ()])
def test_an_empty_order_is_not_started(examine, order):
    finding = examine(order)
    assert (finding.fraction, finding.unwritten) == (0, True)


@pytest.mark.parametrize(
    ("order", "complaint"),
    [
        (["A", "Z"], "there is no line 'Z'; lines: A, B, C, D, E, F, G, H"),
        (["A", 1], "there is no line 1; lines: A, B, C, D, E, F, G, H"),
        (["A", ["B"]], "there is no line ['B']; lines: A, B, C, D, E, F, G, H"),
        (["A", "B", "A"], "line A is there 2 times"),
        (5, "it is of type int, not a list"),
    ],
)
def test_what_is_no_order_is_said(examine, order, complaint):
    finding = examine(order)
    assert finding.fraction == 0
    assert finding.counterexample.complaint == complaint


def test_an_object_is_no_order(local):
    finding = PARSONS.examine(local("order = object()", "order"), 1, 1)
    assert (finding.fraction, finding.unwritten) == (0, False)


def test_nothing_that_the_learner_wrote_is_run(local):
    order = '["A", "import os"]'
    assert PARSONS.examine(local(f"order = {order}", "order"), 1, 1).fraction == 0


def test_what_was_put_together_can_be_kept_as_a_part():
    first, second, *rest = PARSONS.solution
    source = standalone_source(PARSONS.made([second, first, *rest]), "9.2")
    scope = {}
    exec(source, scope)
    assert scope["digits"](120) == [0, 2, 1]
    assert source.index("rest = number") < source.index("found = []")


def test_a_distractor_stands_for_exactly_one_line():
    check = ParsonsCheck("9.2", INNER, (Distractor("x", "no such line", "n", "e"),))
    with pytest.raises(ValueError, match="0 lines begin with 'no such line'"):
        _ = check.lines
