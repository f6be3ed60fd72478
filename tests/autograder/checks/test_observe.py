"""What is observed of a call beside its value."""

from collections.abc import Collection, Iterable, Sequence

import pytest

from autograder.checks.observe import Arguments, as_tuples, misuse, parameter_names
from autograder.checks.strategies import PRIMES, different_primes
from autograder.proxy.subject import Fate


def union(a: Sequence[int] | None, b: Iterable[str], c: Collection[int]) -> None: ...
def nested(a: Sequence[Sequence[int]], b: list[list[int]]) -> None: ...
def unknown(a: "Sequence[NoSuchName]") -> None: ...  # noqa: F821
def bare(a: Sequence, *rest: Sequence[int]) -> None: ...
def none(a: list[int], b: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "args", "tuples"),
    [
        (union, ([1], ["a"], [2]), [(1,), ("a",), (2,)]),
        (union, (None, ("a",), {2}), None),
        (nested, ([[1], [2]], [[3]]), [((1,), (2,)), [[3]]]),
        (unknown, ([1],), None),
        (bare, ([1], [2]), [(1,), (2,)]),
        (bare, ([1], [2], [3]), [(1,), (2,), [3]]),
        (none, ([1], 2), None),
        (len, ([1],), None),
    ],
)
def test_lists_become_tuples_where_the_annotation_allows_any_sequence(function, args, tuples):
    converted = as_tuples(function, args, {})
    assert (converted and converted[0]) == tuples


def test_what_is_passed_by_name_becomes_a_tuple_too():
    assert as_tuples(union, (None,), {"b": ["a"], "c": 5}) == ([None], {"b": ("a",), "c": 5})


GIVEN = Arguments(("items", "table"), ([1, 2],), {"table": {}})


def test_arguments_have_the_names_of_the_parameters():
    assert parameter_names(nested) == ("a", "b")
    assert (GIVEN.name(0), GIVEN.name("table"), GIVEN.name(7)) == ("items", "table", "number 8")
    assert GIVEN.after(Fate({0: [9]})) == {"items": [9], "table": {}}


@pytest.mark.parametrize(
    ("expected", "got", "complaint"),
    [
        (Fate(), Fate(), None),
        (Fate(), Fate({0: [2, 1]}), "it changed its argument items; work on a copy"),
        (Fate({0: [2]}), Fate({0: [2, 1]}), None),
        (Fate(), Fate(kept=("table",)), "it returns the dict that it was given, not a new one"),
        (Fate(kept=(0,)), Fate(kept=(0,)), None),
    ],
)
def test_what_the_reference_does_not_do_is_a_misuse(expected, got, complaint):
    found = misuse(GIVEN, expected, got)
    assert (found is None) == (complaint is None)
    assert found is None or found.complaint.startswith(complaint)
    assert misuse(GIVEN, expected, got, may_write=["items"], may_return=["table"]) is None


def test_objects_that_look_alike_are_not_shown_to_be_as_they_were():
    found = misuse(GIVEN, Fate(), Fate({0: [1, 2]}))
    assert (found.expected, found.got) == (
        "items is left as it was",
        "items has other items, or in another order",
    )


def test_there_are_no_more_names_than_primes():
    with pytest.raises(ValueError, match="11 names, but 10 primes"):
        different_primes(*map(str, range(len(PRIMES) + 1)))
