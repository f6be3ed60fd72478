"""When two values agree, what is said when they do not, and how values are shown."""

import math
from collections import deque
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import pytest
import torch

from autograder.checks.answer import AnswerCheck
from autograder.checks.compare import (
    FormComplaint,
    Made,
    Seen,
    compare_outcomes,
    exactly,
    is_nothing,
    require_plain,
    same_number,
    same_values,
    within,
)
from autograder.checks.finding import CheckError
from autograder.proxy.subject import LocalSubject, Raised, Returned
from autograder.proxy.wire import Ref
from course_lib.kv_cache.reservation import SlotUse
from course_lib.specs import GPUS, MODELS

NAN = math.nan

SAME = {
    "int": (3, 3),
    "float": (0.5, 0.5),
    "NaN": (NAN, NAN),
    "infinity": (math.inf, math.inf),
    "text": ("a", "a"),
    "None": (None, None),
    "list": ([1, [2.0, NAN]], [1, [2.0, NAN]]),
    "tuple": ((1, "a"), (1, "a")),
    "dict": ({"a": [1], "b": NAN}, {"b": NAN, "a": [1]}),
    "set": ({1, 2}, {2, 1}),
    "record": (SlotUse(1, 2, 3, 4), SlotUse(1, 2, 3, 4)),
    "array": (np.array([1.0, NAN, np.inf]), np.array([1.0, NAN, np.inf])),
    "empty array": (np.zeros((0, 2)), np.zeros((0, 2))),
    "tensor": (torch.tensor([1, 2]), torch.tensor([1, 2])),
    "bfloat16": (torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)),
    "arrays in a dict": ({"a": [np.ones(2)]}, {"a": [np.ones(2)]}),
    "tensors in a tuple": ((torch.ones(2), 1), (torch.ones(2), 1)),
}

DIFFERENT = {
    "int": (3, 4, ""),
    "bool for int": (1, True, "it is a bool, not an int"),
    "int for bool": (True, 1, "it is an int, not a bool"),
    "nothing": (3, None, "nothing is returned"),
    "nothing in a list": ([1, 2], [1, None], "item 1: it is None"),
    "nothing under a key": ({"a": [1.5]}, {"a": [None]}, "'a': item 0: it is None"),
    "nothing in a field": (SlotUse(1, 2, 3, 4), SlotUse(None, 2, 3, 4), "used: it is None"),
    "text for a number": (3, "3", "it is a str, not an int"),
    "another number of another type": (3, 4.5, "its value is wrong, and it is a float, not an int"),
    "an object": (3, Ref(1, "Block"), "an object of class Block came where an int was asked"),
    "a number for an object": (Seen(id=3), 3, "it is an int, not an object with id"),
    "an object for another": (Seen(id=3), Seen(id=4), "'id' differs"),
    "a number for an object that is made": (Made("Pool"), 3, "not an object of class Pool"),
    "something for nothing": (None, [1], "it is a list, not None"),
    "a tuple for a list": ([1], (1,), "the items are right, but it is a tuple, not a list"),
    "a wrong tuple for a list": ([1], (2,), "item 0 differs; besides, it is a tuple, not a list"),
    "length": ([1, 2], [1], "it has 1 item, not 2"),
    "item": ([1, 2], [1, 3], "item 1 differs"),
    "type of an item": ([1, 2], [1, "2"], "item 1: it is a str, not an int"),
    "deep item": ([[1], [2, 3]], [[1], [2, 4]], "item 1: item 1 differs"),
    "keys": ({"a": 1}, {"b": 1}, "its keys are ['b'], not ['a']"),
    "value under a key": ({"a": 1, "b": 2}, {"a": 1, "b": 3}, "'b' differs"),
    "bool under a key": ({"a": 1}, {"a": True}, "'a': it is a bool, not an int"),
    "set": ({1}, {2}, ""),
    "bool in a set": ({1}, {True}, ""),
    "field": (SlotUse(1, 2, 3, 4), SlotUse(1, 2, 9, 4), "internal differs"),
    "bool in a field": (SlotUse(1, 2, 3, 4), SlotUse(True, 2, 3, 4), "used: it is a bool"),
    "record": (MODELS["llama-2-7b"], GPUS["l4"], "it is a GPUSpec, not a ModelSpec"),
    "shape": (np.ones((2, 1)), np.ones(2), "its shape is (2,), not (2, 1)"),
    "dtype": (np.ones(2), np.ones(2, np.float32), "its dtype is float32, not float64"),
    "tensor dtype": (torch.ones(1), torch.ones(1).half(), "torch.float16, not torch.float32"),
    "array for a tensor": (torch.ones(1), np.ones(1), "it is an ndarray, not a Tensor"),
    "element": (
        np.array([[1.0, 2.0], [3.0, 4.0]]),
        np.array([[1.0, 2.0], [3.0, 9.0]]),
        "1 of 4 elements differ; the largest difference is at (1, 1): expected 4, got 9",
    ),
    "NaN element": (torch.ones(3), torch.tensor([1.0, NAN, 1.0]), "at (1,): expected 1, got nan"),
    "infinite element": (np.ones(2), np.array([1.0, np.inf]), "at (1,): expected 1, got inf"),
    "wrong sign of infinity": (np.array([np.inf]), np.array([-np.inf]), "1 of 1 elements differ"),
    "a number where infinity is": (np.array([np.inf]), np.array([1.0]), "expected inf, got 1"),
    "array in a list": ([np.ones(2)], [np.zeros(2)], "item 0: 2 of 2 elements differ"),
}


@pytest.mark.parametrize(("expected", "got"), SAME.values(), ids=SAME.keys())
def test_the_same_value_agrees(expected, got):
    assert exactly(expected, got) is None
    assert within(rel=1e-6)(expected, got) is None


@pytest.mark.parametrize(("expected", "got", "complaint"), DIFFERENT.values(), ids=DIFFERENT.keys())
@pytest.mark.parametrize("compare", [exactly, within(rel=1e-6, absolute=1e-6)])
def test_another_value_does_not_and_the_complaint_says_why(compare, expected, got, complaint):
    said = compare(expected, got)
    assert said is not None
    assert complaint in said
    assert bool(said) == bool(complaint)


@pytest.mark.parametrize(
    ("expected", "got", "complaint"),
    [
        (3, 3.0, "the value is right, but as a float; a whole number of type int is asked for"),
        (1, True, "it is a bool, not an int"),
        ([1, 2], (1, 2), "the items are right, but it is a tuple, not a list"),
        ([1, 2], (1.0, 2), "item 0: the value is right, but as a float"),
        ({"a": [3]}, {"a": [3.0]}, "'a': item 0: the value is right, but as a float"),
        (np.ones(2), np.ones(2, np.float32), "its dtype is float32, not float64"),
    ],
)
def test_a_right_value_of_another_type_is_told_apart_from_a_wrong_value(expected, got, complaint):
    said = exactly(expected, got)
    assert isinstance(said, FormComplaint)
    assert complaint in said
    assert same_values(exactly, Returned(expected), Returned(got))


def test_who_raises_the_right_exception_has_not_made_the_mistake_of_raising_its_base():
    of_a_list = Raised(("IndexError", "LookupError", "Exception"), "list index out of range")
    as_asked = Raised(("PositionError", "ValueError", "IndexError"), "position 8 has no slot")
    assert not same_values(exactly, of_a_list, as_asked)
    assert same_values(exactly, of_a_list, Raised(("IndexError",), "other words"))


def test_a_wrong_value_comes_before_a_wrong_type():
    assert not isinstance(exactly(3, 3.5), FormComplaint)
    assert exactly([3, 4], [3.0, 5]) == "item 1 differs"
    said = exactly(np.ones(2), np.zeros(2, np.float32))
    assert not isinstance(said, FormComplaint)
    assert said.endswith("; besides, its dtype is float32, not float64")


OBJECT = Ref(1, "Block")


@pytest.mark.parametrize(
    "value", [OBJECT, [1, OBJECT], {"a": (OBJECT,)}, Seen(block=OBJECT), {OBJECT: 1}]
)
def test_an_object_is_equal_to_nothing_and_comparing_it_is_an_error_of_the_check(value):
    with pytest.raises(CheckError, match="an object of class Block would be compared"):
        require_plain(value)
    with pytest.raises(CheckError, match="Block"):
        compare_outcomes(exactly, Returned(value), Returned(value))


def test_a_comparison_that_is_given_an_object_refuses():
    with pytest.raises(CheckError, match="name with reads="):
        exactly(OBJECT, OBJECT)


@pytest.mark.parametrize(
    ("compare", "expected", "got", "said"),
    [
        (
            within(rel=1e-6),
            2.0,
            2.5,
            "it is off by 0.5 (0.25 of the value); a difference of up to 1e-06 of the value is "
            "allowed",
        ),
        (
            within(rel=1e-6, absolute=1e-3),
            0.0,
            0.5,
            "it is off by 0.5; a difference of up to 1e-06 of the value or 0.001, whichever is "
            "more, is allowed",
        ),
        (within(rel=0.1), 0.5, 50.0, "it is off by 49.5 (99 times the value); a difference"),
        (within(rel=0.1), -4.0, 0.0, "it is off by 4 (as much as the value itself); a difference"),
        (within(rel=0.1), [2.0], [1.0], "item 0: it is off by 1 (0.5 of the value); a difference"),
        (within(rel=0.1), np.full(1, 10.0), np.zeros(1), "expected 10, got 0; up to 1 is allowed"),
        (exactly, np.ones(1), np.zeros(1), "expected 1, got 0"),
        (exactly, 1.0, 2.0, ""),
    ],
)
def test_a_comparison_that_fails_says_what_tolerance_it_used(compare, expected, got, said):
    assert said in compare(expected, got)
    assert ("allowed" in compare(expected, got)) == (compare != exactly)


def test_where_one_of_two_is_nan_no_tolerance_is_spoken_of():
    assert within(rel=0.1)(NAN, 0.0) == "it is a number, not NaN"
    assert within(rel=0.1)([1.0], [NAN]) == "item 0: it is NaN, not a number"


@pytest.mark.parametrize(
    ("got", "said"),
    [
        (8192, None),
        (8192.0, None),
        (4096, ""),
        ("8192", "it is a str, not a number"),
        (True, "it is a bool, not a number"),
        (OBJECT, "an object of class Block came where a number was asked"),
    ],
)
def test_a_number_may_be_whole_or_not(got, said):
    assert same_number(8192, got) == said


class Pair(NamedTuple):
    size: int
    piece: int


class Bag(list):
    pass


class Shares(dict):
    pass


def test_a_named_tuple_is_a_tuple_and_each_of_its_items_counts():
    for compare in (exactly, within(rel=1e-6)):
        for wanted, came in (((11, 16), Pair(11, 16)), ([(11, 16)], [Pair(11, 16)])):
            got = LocalSubject(lambda came=came: came).call(())
            assert compare_outcomes(compare, Returned(wanted), got) is None
        wrong = LocalSubject(lambda: Pair(11, 8)).call(())
        assert compare_outcomes(compare, Returned((11, 16)), wrong) == "item 1 differs"
    assert AnswerCheck(lambda: (11, 16)).examine(LocalSubject(Pair(11, 16)), 1, 1).fraction == 1


@pytest.mark.parametrize(
    ("expected", "answer", "said"),
    [
        ([1], Bag([1]), "an object of class Bag came where a list was asked; list(...) makes one"),
        ([1], deque([1]), "an object of class deque came where a list was asked; list(...) makes"),
        ([1], (x for x in [1]), "an object of class generator came where a list was asked; list("),
        ({"a": 1}, Shares(a=1), "an object of class Shares came where a dict was asked; dict(...)"),
        (
            0.5,
            Decimal("0.5"),
            "an object of class Decimal came where a float was asked; float(...)",
        ),
        (0.5, torch.tensor(0.5), "it is a Tensor, not a float; .item() makes one of it"),
        (3, np.array(3), "it is an ndarray, not an int; .item() makes one of it"),
        ([1.0], np.ones(1), "it is an ndarray, not a list; .tolist() makes one of it"),
        (
            {"a": 0.5},
            {"a": torch.tensor(0.5)},
            "'a': it is a Tensor, not a float; .item() makes one",
        ),
        (
            [(11, 16)],
            [deque((11, 16))],
            "item 0: an object of class deque came where a tuple was asked;",
        ),
    ],
)
def test_what_is_like_the_right_value_is_refused_with_its_class_and_what_to_do(
    expected, answer, said
):
    for compare in (exactly, within(rel=1e-6)):
        got = LocalSubject(lambda: answer).call(())
        assert str(compare_outcomes(compare, Returned(expected), got)).startswith(said)
    value = AnswerCheck(lambda: expected).examine(LocalSubject(answer), 1, 1)
    assert value.fraction == 0
    assert said.partition("; ")[2] in value.counterexample.complaint


@pytest.mark.parametrize(
    ("expected", "answer", "said"),
    [
        ([1], len, "an object of class builtin_function_or_method came where a list was asked"),
        (3, np.ones(2), "it is an ndarray, not an int"),
        ({"a": 1}, deque(), "an object of class deque came where a dict was asked"),
        ((1,), np.ones(1), "it is an ndarray, not a tuple"),
    ],
)
def test_what_is_not_like_the_right_value_is_refused_without_a_remedy(expected, answer, said):
    got = LocalSubject(lambda: answer).call(())
    assert compare_outcomes(exactly, Returned(expected), got) == said


@pytest.mark.parametrize(
    "answer",
    [
        np.float64(0.5),
        np.float32(0.5),
        np.float16(0.5),
    ],
    ids=lambda answer: type(answer).__name__,
)
def test_a_numpy_scalar_is_judged_by_its_value(answer):
    got = LocalSubject(lambda: answer).call(())
    assert compare_outcomes(exactly, Returned(0.5), got) is None


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (1.0, 1.0 + 1e-9),
        (2.0, 2),
        (0.0, 1e-9),
        ([1.0, 2.0], [1.0, 2]),
        ((1.0, {"a": 1.0}), (1.0 + 1e-9, {"a": 1.0})),
        (np.array([100.0, 0.0]), np.array([100.0, 1e-6])),
        (torch.tensor([1.0]), torch.tensor([1.0 + 1e-7])),
    ],
)
def test_within_a_tolerance_is_near_enough(expected, got):
    assert within(rel=1e-6, absolute=1e-8)(expected, got) is None


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (1.0, 1.0 + 1e-4),
        (1.0, 10**400),
        (1.0, True),
        (2, 2.0),
        ([1.0], [1.1]),
        ({"a": 1.0}, {"a": 1.1}),
        (np.array([100.0, 0.0]), np.array([100.0, 1e-3])),
    ],
)
def test_beyond_the_tolerance_is_not(expected, got):
    assert within(rel=1e-6)(expected, got) is not None


ERROR = Raised(("ValueError", "Exception", "BaseException"), "too large", "in line 3: raise")


@pytest.mark.parametrize(
    ("expected", "got", "complaint"),
    [
        (Returned(1), Returned(1, "printed"), None),
        (Returned(1), Returned(2), ""),
        (ERROR, Raised(("ValueError",), "another text"), None),
        (ERROR, Raised(("UnicodeError", "ValueError"), ""), None),
        (ERROR, Raised(("KeyError",), "too large"), ""),
        (ERROR, Returned(None), "it should refuse this: too large"),
        (ERROR, Returned(ValueError()), "it returns the error, and is to raise it: too large"),
        (
            ERROR,
            Returned(Ref(1, "ValueError")),
            "it returns the error, and is to raise it: too large",
        ),
        (ERROR, Returned(Ref(1, "Slot")), "it should refuse this: too large"),
        (Returned(1), ERROR, "in line 3: raise"),
        (Returned(1), Raised(("TypeError",), ""), ""),
    ],
)
def test_outcomes_agree_in_their_value_or_in_the_class_of_their_exception(expected, got, complaint):
    assert compare_outcomes(exactly, expected, got) == complaint


@pytest.mark.parametrize("value", [None, {}, []])
def test_what_comes_of_a_stub_is_nothing(value):
    assert is_nothing(value)


@pytest.mark.parametrize("value", [0, 0.0, False, "", (), {"a": None}, np.zeros(2), np.zeros(0)])
def test_a_value_is_something(value):
    assert not is_nothing(value)


def test_of_very_many_keys_only_the_first_are_shown():
    assert len(exactly({"a": 1}, dict.fromkeys(range(100_000)))) < 700


@pytest.mark.parametrize("made_of", [np.array, torch.tensor])
def test_whole_numbers_are_written_out_and_compared_as_such(made_of):
    said = exactly(made_of([1, 2**53 + 1]), made_of([1, 2**53]))
    assert said == (
        "1 of 2 elements differ; the largest difference is at (1,): expected 9007199254740993, "
        "got 9007199254740992"
    )
    assert exactly(made_of([2**53 + 1]), made_of([2**53 + 1])) is None
    assert within(rel=1e-9)(made_of([2**53 + 1]), made_of([2**53])) is None
