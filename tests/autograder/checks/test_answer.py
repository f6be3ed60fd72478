"""Checks of plain values."""

import math
from collections import Counter, OrderedDict, defaultdict
from decimal import Decimal
from types import MappingProxyType

import numpy as np
import pytest

from autograder.checks.answer import AnswerCheck
from autograder.checks.compare import within
from autograder.checks.finding import PASSED, Misconception
from autograder.proxy.subject import LocalSubject

CHECK = AnswerCheck(
    reference=lambda: {"Max": 0.25, "Pow2": 0.5},
    question="your measurement",
    compare=within(rel=1e-6),
    misconceptions=(
        Misconception("upside down", "Divide the other way.", {"Max": 4.0, "Pow2": 2.0}),
        Misconception("per cent", "A share is at most 1.", lambda: {"Max": 25.0, "Pow2": 50.0}),
    ),
)


def examine(value, check=CHECK):
    return check.examine(LocalSubject(value), seed=1, max_examples=1)


def test_the_right_value_passes():
    assert examine({"Max": 0.25, "Pow2": 0.5}) == PASSED
    assert examine({"Pow2": np.float64(0.5), "Max": np.float64(0.25)}) == PASSED


@pytest.mark.parametrize(
    "made",
    [
        OrderedDict,
        Counter,
        MappingProxyType,
        lambda items: defaultdict(float, items),
        lambda items: {**items, "note": "measured twice"},
        lambda items: defaultdict(list, {**items, 3: [4]}),
    ],
)
def test_any_mapping_with_the_keys_counts_and_further_keys_do_not(made):
    assert examine(made({"Max": 0.25, "Pow2": 0.5})) == PASSED
    assert examine(made({"Max": 4.0, "Pow2": 2.0})).misconception.name == "upside down"
    assert examine(made({"Max": 0.25})).fraction == 0
    deeper = {name: made(share) for name, share in SHARES.reference().items()}
    assert examine(deeper, SHARES) == PASSED


def test_who_looks_at_all_keys_itself_gets_all_of_them():
    check = AnswerCheck(
        lambda: {"a": 1}, compare=lambda wanted, got: None if "x" in got else "no x"
    )
    assert examine({"a": 2, "x": 1}, check) == PASSED
    assert examine({"a": 1}, check).fraction == 0


def test_a_known_wrong_value_is_named():
    finding = examine({"Max": 4.0, "Pow2": 2.0})
    assert (finding.fraction, finding.misconception.name) == (0.0, "upside down")


def test_what_a_known_mistake_gives_may_be_worked_out_only_when_it_is_needed():
    assert examine({"Max": 25.0, "Pow2": 50.0}).misconception.name == "per cent"


@pytest.mark.parametrize("unwritten", [None, {}, []])
def test_what_the_stub_leaves_is_unwritten(unwritten):
    assert examine(unwritten).unwritten


@pytest.mark.parametrize(
    "value", [0.25, {"Max": 0.25}, {"Max": 0.25, "Pow2": 0.6}, np.ones(3), "a"]
)
def test_a_wrong_value_is_shown_with_a_complaint_but_without_the_right_one(value):
    finding = examine(value)
    case = finding.counterexample
    assert finding.fraction == 0
    assert not finding.unwritten
    assert case.case == "your measurement"
    assert case.complaint
    assert "0.5" not in case.expected


NUMBER = AnswerCheck(lambda: -8.5, unit="GiB", compare=within(rel=0.01))
SHARES = AnswerCheck(
    lambda: {"Max": {"used": 0.2, "later": 0.3}, "Pow2": {"used": 0.4, "later": 0.1}},
    question="shares",
    compare=within(rel=0.01),
)
SIDES = AnswerCheck(lambda: {"a": True, "b": False, "c": True})


@pytest.mark.parametrize(
    ("check", "value", "expected", "complaint"),
    [
        (
            NUMBER,
            -9.5,
            "",
            "it is too large; a difference of up to 0.01 of the value is allowed; the",
        ),
        (NUMBER, -7, "", "it is too small; a difference"),
        (NUMBER, 8.5, "", "its sign is wrong; the answer is in GiB"),
        (NUMBER, "8", "a number, in GiB", "it is a str, not a number"),
        (NUMBER, math.nan, "", "it is NaN, not a number"),
        (NUMBER, object(), "a number, in GiB", "it is an object of class object, not a number"),
        (
            NUMBER,
            Decimal(8),
            "a number, in GiB",
            "it is an object of class Decimal, not an int or a float; float(...) makes one of it",
        ),
        (SHARES, {"Max": 0.2}, "a dict with the keys 'Max', 'Pow2'", "missing: 'Pow2'; 'Max': it"),
        (SHARES, {"Max": {}, "pow2": 1}, "a dict with", "missing: 'Pow2'; not asked for: 'pow2'"),
        (AnswerCheck(lambda: "paged"), 3, "a text", "it is an int, not a text"),
        (NUMBER, [], "a number, in GiB", "it is a list, not a number"),
        (
            SHARES,
            {"Max": {"used": 0.2, "later": 0.3}, "Pow2": {"used": 40, "later": 0.1}},
            "",
            "'Pow2': 'used': it is too large",
        ),
        (SIDES, {"a": True, "b": True, "c": False}, "", "2 of 3 are wrong"),
        (SIDES, {"a": True, "b": True}, "a dict with the keys", "missing: 'c'; 1 of 3 is wrong"),
        (AnswerCheck(lambda: [3, 1, 2]), [3, 2, 1], "", "not right: item 1, item 2"),
        (AnswerCheck(lambda: [3, 1, 2]), [3], "", "it has 1 item, not 3"),
        (AnswerCheck(lambda: "paged"), "static", "", "it is another value"),
        (AnswerCheck(lambda: True), False, "", "it is another value"),
        (AnswerCheck(lambda: "paged", wanted="the name of a policy"), "x", "the name of a", ""),
    ],
)
def test_what_is_wrong_with_a_value_is_said_and_not_what_is_right(
    check, value, expected, complaint
):
    case = examine(value, check).counterexample
    assert case.expected.startswith(expected)
    assert bool(case.expected) == bool(expected), "what is met is not expected any more"
    assert case.complaint.startswith(complaint)
    assert "another value" not in case.expected
    assert "8.5" not in case.expected + case.complaint


PASSES = {"decode, 1": True, "decode, 2": True, "prefill of 1": True, "prefill of 2": False}


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (["decode, 1"], "at least one entry that begins with 'decode' is wrong"),
        (["decode, 1", "decode, 2"], "at least one entry that begins with 'decode' is wrong"),
        (["prefill of 2"], "at least one entry that begins with 'prefill' is wrong"),
        (
            ["decode, 2", "prefill of 1"],
            "at least one entry that begins with 'decode' is wrong, and at least one with "
            "'prefill'",
        ),
    ],
)
def test_among_choices_the_group_of_a_wrong_one_is_named_and_not_the_choice(wrong, complaint):
    answer = {key: value != (key in wrong) for key, value in PASSES.items()}
    case = examine(answer, AnswerCheck(lambda: PASSES)).counterexample
    assert (case.expected, case.complaint) == ("", complaint)


def test_a_choice_that_stands_alone_in_its_group_is_not_named():
    alone = {"decode, 1": True, "prefill of 1": True, "prefill of 2": False}
    case = examine({**alone, "decode, 1": False}, AnswerCheck(lambda: alone)).counterexample
    assert case.complaint == "1 of 3 is wrong"


@pytest.mark.parametrize(
    ("check", "value", "advice"),
    [
        (NUMBER, None, "It is still None: write its value below YOUR CODE HERE."),
        (SHARES, None, "shares is still None: write its value below YOUR CODE HERE."),
        (SHARES, {}, "It is still empty: it needs the keys 'Max', 'Pow2'."),
        (AnswerCheck(lambda: [3]), [], "It is still empty: fill it below YOUR CODE HERE."),
    ],
)
def test_what_is_not_started_is_said_in_words_that_fit_a_value(check, value, advice):
    finding = examine(value, check)
    assert finding.unwritten
    assert finding.advice == advice


def test_a_value_that_two_mistakes_give_has_both_names():
    twice = tuple(Misconception(name, "No.", 4) for name in "ab")
    finding = examine(4, AnswerCheck(lambda: 2, misconceptions=twice))
    assert (finding.misconception, finding.alike) == (None, twice)


def test_the_right_value_is_shown_where_the_check_says_so():
    check = AnswerCheck(reference=lambda: 8192, reveal=True)
    assert examine(1, check).counterexample.expected == "8192"


class EqualToAll:
    def __eq__(self, other):
        return True

    __hash__ = None


class OddInt(int):
    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


@pytest.mark.parametrize("value", [EqualToAll(), OddInt(3), len, np.array(["text"]), [10**5000]])
def test_what_is_no_plain_data_does_not_pass(value):
    finding = examine(value, AnswerCheck(reference=lambda: 8192))
    assert finding.fraction == 0
    assert finding.counterexample.got


def test_who_may_decide_that_a_value_is_a_known_wrong_one():
    check = AnswerCheck(
        reference=lambda: 10,
        alike=lambda wrong, got: None if type(got) is int and got > wrong else "",
        misconceptions=(Misconception("too many", "Count again.", 100),),
    )
    assert examine(101, check).misconception.name == "too many"
    assert examine(99, check).misconception is None
    assert examine(10, check) == PASSED


def test_of_very_many_keys_a_few_are_named():
    answer = dict.fromkeys(map(str, range(100_000)), 1)
    finding = CHECK.examine(LocalSubject(answer), 1, 1)
    assert len(finding.counterexample.complaint) < 200
    assert "and 99990 more" in finding.counterexample.complaint
