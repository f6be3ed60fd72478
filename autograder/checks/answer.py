"""Checks of plain values: a number worked out by hand, a figure measured, a choice made."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from autograder.checks.compare import (
    Agreement,
    Comparison,
    counted,
    exactly,
    is_nothing,
    named,
    remedy,
)
from autograder.checks.finding import CHECKED, PASSED, Counterexample, Finding, Misconception
from autograder.checks.show import show, show_outcome
from autograder.proxy.subject import Raised, Subject
from autograder.proxy.wire import Ref

_MOST = 3
"""How many wrong parts of a value are named."""
_MOST_NAMES = 10
"""How many keys that are missing, or too many, are named."""


@dataclass(frozen=True)
class AnswerCheck:
    """The property that a value is the one asked for.

    Of a dict only the keys that are asked for count, unless ``compare`` is a function that looks at
    all of them itself.

    Attributes:
        reference: Works out the right answer.
        question: What stands for the call in a report, such as ``"your answer"``.
        misconceptions: Known wrong values, or functions without arguments that work them out.
        compare: When two values agree.
        alike: When a value is a known wrong one; by default, when ``compare`` says so.
        reveal: Whether a report shows the right answer. Where knowing it leaves nothing to do, not.
        wanted: What is asked for, in a few words; by default what kind of value it is.
        unit: The unit of a number.
    """

    reference: Callable[[], Any]
    question: str = "your answer"
    misconceptions: tuple[Misconception, ...] = ()
    compare: Comparison = exactly
    alike: Comparison | None = None
    reveal: bool = False
    wanted: str = ""
    unit: str = ""

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Compare the value with the right one. The seed and the bound play no part."""
        answer = subject.value()
        if isinstance(answer, Raised):
            shown = self.question, "plain data", show_outcome(answer)
            return Finding(0.0, Counterexample(*shown, label=CHECKED))
        expected, got = self.reference(), answer.value
        complaint = _compared(self.compare, expected, got)
        if complaint is None:
            return PASSED
        if not complaint or isinstance(self.compare, Agreement):
            # What is said of a value must not give it away.
            differences = "; ".join(_differences(expected, got, self.compare))
            complaint = differences or complaint or "it is another value"
        asked = self._asked(expected, got)
        if self.unit and not asked:
            complaint = f"{complaint}; the answer is in {self.unit}"
        finding = Finding(
            0.0,
            Counterexample(self.question, asked, show(got), complaint, label=CHECKED),
            unwritten=is_nothing(got),
            advice=_advice(self.question, got, expected, self.wanted),
        )
        return finding.named(list(self._fitting(got)), subject)

    def _asked(self, expected: Any, got: Any) -> str:
        """Return what is asked for; "" if that is a kind of value only, and the value is of it."""
        if self.reveal:
            return show(expected)
        if not self.wanted and _is_of_the_kind(expected, got):
            return ""
        asked = self.wanted or _kind(expected)
        return f"{asked}, in {self.unit}" if self.unit else asked

    def _fitting(self, got: Any) -> Iterator[Misconception]:
        """Yield the known wrong answers that the value is."""
        alike = self.alike or self.compare
        for misconception in self.misconceptions:
            # Working out what a known mistake gives may take a while, so it may be put off.
            wrong = misconception.wrong
            if _compared(alike, wrong() if callable(wrong) else wrong, got) is None:
                yield misconception


def where_wrong(reference: Callable[[], dict[str, float]], compare: Comparison) -> Comparison:
    """Return when a dict is a known wrong one: in all of its parts that are not right.

    So whoever makes a known mistake in one part, and others right, is told of it.

    Args:
        reference: Works out the right answer.
        compare: When two parts agree.

    >>> upside_down = {"a": 0.5, "b": 0.25}
    >>> alike = where_wrong(lambda: {"a": 2.0, "b": 4.0}, exactly)
    >>> alike(upside_down, {"a": 2.0, "b": 0.25}), alike(upside_down, {"a": 3.0, "b": 0.25})
    (None, '')
    """

    def alike(wrong: dict[str, float], got: Any) -> str | None:
        if not isinstance(got, dict):
            return ""
        right = reference()
        off = [key for key in right if compare(right[key], got.get(key)) is not None]
        is_known = all(compare(wrong[key], got.get(key)) is None for key in off)
        return None if off and is_known else ""

    return alike


def _compared(compare: Comparison, expected: Any, got: Any) -> str | None:
    """Compare two values; where tolerance alone decides, keys that were not asked for are left out.

    >>> _compared(exactly, {"a": 1}, {"a": 1, "note": "measured twice"}) is None
    True
    """
    return compare(expected, _asked_of(expected, got) if isinstance(compare, Agreement) else got)


def _asked_of(expected: Any, got: Any) -> Any:
    """Return a value without the keys of dicts that nobody asked for, at any depth of dicts."""
    if type(expected) is not dict or type(got) is not dict:
        return got
    return {key: _asked_of(expected[key], got[key]) for key in expected if key in got}


def _kind(value: Any) -> str:
    """Say what kind of value is asked for, and nothing of the value.

    >>> _kind(3.5), _kind({"a": 1, "b": True})
    ('a number', "a dict with the keys 'a', 'b'")
    """
    if type(value) in (int, float):
        return "a number"
    if type(value) is bool:
        return "True or False"
    if isinstance(value, dict):
        return f"a dict with the keys {', '.join(map(repr, value))}"
    return {"str": "a text"}.get(type(value).__name__, named(type(value)))


def _is_of_the_kind(expected: Any, got: Any) -> bool:
    """Say whether a value is what ``_kind`` says is asked for.

    >>> _is_of_the_kind(3.5, 8), _is_of_the_kind({"a": 1}, {"a": None}), _is_of_the_kind("a", 1)
    (True, True, False)
    """
    if type(expected) in (int, float):
        return type(got) in (int, float)
    if isinstance(expected, dict):
        return isinstance(got, dict) and expected.keys() <= got.keys()
    return type(expected) is type(got)


def _advice(name: str, got: Any, expected: Any, wanted: str) -> str:
    """Say what to do first where nothing is written.

    >>> _advice("your choice", None, 3, ""), _advice("rounded", None, 3, "")[:16]
    ('Your choice is still None: write its value below YOUR CODE HERE.', 'rounded is still')
    """
    if got is None:
        subject = name if name.isidentifier() else f"{name[:1].upper()}{name[1:]}"
        state = "It is still None" if name == "your answer" else f"{subject} is still None"
        return f"{state}: write its value below YOUR CODE HERE."
    if wanted:
        return f"It is still empty: give {wanted}."
    if isinstance(expected, dict):
        return f"It is still empty: it needs the keys {', '.join(map(repr, expected))}."
    return "It is still empty: fill it below YOUR CODE HERE."


def _differences(expected: Any, got: Any, compare: Comparison) -> Iterator[str]:
    """Say in what a value differs, without saying what it should be."""
    if isinstance(got, Ref):
        cure = remedy(type(expected), got)
        # A Fraction is a number, too.
        is_number = cure and type(expected) in (int, float)
        asked = "an int or a float" if is_number else _kind(expected)
        yield f"it is an object of class {got.kind}, not {asked}{cure}"
    elif type(expected) in (int, float):
        yield _number_difference(expected, got, compare)
    elif type(expected) is not type(got):
        yield f"it is {named(type(got))}, not {_kind(expected)}{remedy(type(expected), got)}"
    elif isinstance(expected, dict):
        yield from _dict_differences(expected, got, compare)
    elif isinstance(expected, (list, tuple)):
        yield from _list_differences(expected, got, compare)


def _number_difference(expected: float, got: Any, compare: Comparison) -> str:
    if type(got) not in (int, float):
        return f"it is {named(type(got))}, not a number{remedy(type(expected), got)}"
    if got == expected:
        return compare(expected, got) or ""
    if got != got:
        return "it is NaN, not a number"
    if expected and got and (got < 0) != (expected < 0):
        return "its sign is wrong"
    side = "large" if abs(got) > abs(expected) else "small"
    allowed = compare.allowed if isinstance(compare, Agreement) else ""
    return f"it is too {side}" + (f"; {allowed}" if allowed else "")


def _dict_differences(
    expected: dict[Any, Any], got: dict[Any, Any], compare: Comparison
) -> Iterator[str]:
    missing = [repr(key) for key in expected if key not in got]
    strange = [repr(key) for key in got if key not in expected]
    if missing:
        yield f"missing: {_few(missing)}"
    if missing and strange:
        yield f"not asked for: {_few(strange)}"
    wrong = [
        key
        for key in expected
        if key in got and _compared(compare, expected[key], got[key]) is not None
    ]
    choices = [key for key in wrong if type(expected[key]) is bool and type(got[key]) is bool]
    if choices:
        # To say which would be to give the answer.
        named = [word for word, keys in _groups(expected).items() if not keys.isdisjoint(choices)]
        verb = "is" if len(choices) == 1 else "are"
        yield _at_fault(named) if named else f"{len(choices)} of {len(expected)} {verb} wrong"
    for key in [key for key in wrong if key not in choices][:_MOST]:
        said = "; ".join(_differences(expected[key], got[key], compare))
        yield f"{key!r}: {said}" if said else f"{key!r} is another value"


def _at_fault(words: list[str]) -> str:
    """Say of each group that an entry of it is wrong.

    >>> _at_fault(["decode", "prefill"])
    "at least one entry that begins with 'decode' is wrong, and at least one with 'prefill'"
    """
    first, *others = map(repr, words)
    more = "".join(f", and at least one with {other}" for other in others)
    return f"at least one entry that begins with {first} is wrong{more}"


def _groups(expected: dict[Any, Any]) -> dict[str, set[Any]]:
    """Return which keys have the same first word; none if one stands alone or all have the same.

    >>> sorted(_groups(dict.fromkeys(["prefill, 1", "decode, 1", "prefill, 2", "decode, 2"])))
    ['decode', 'prefill']
    >>> _groups(dict.fromkeys(["prefill, 1", "decode, 1", "prefill, 2"]))
    {}
    """
    groups: dict[str, set[Any]] = {}
    for key in expected:
        found = re.match(r"\w+", str(key))
        groups.setdefault(found[0] if found else "", set()).add(key)
    are_groups = len(groups) > 1 and all(len(keys) > 1 for keys in groups.values())
    return groups if are_groups else {}


def _few(names: list[str]) -> str:
    """Return the first of some names, and how many more there are.

    >>> _few(["a", "b"]), _few(["a"] * 30)
    ('a, b', 'a, a, a, a, a, a, a, a, a, a and 20 more')
    """
    rest = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _list_differences(expected: Any, got: Any, compare: Comparison) -> Iterator[str]:
    if len(expected) != len(got):
        yield f"it has {counted(len(got), 'item')}, not {len(expected)}"
        return
    pairs = list(enumerate(zip(expected, got, strict=True)))
    wrong = [index for index, (wanted, came) in pairs if compare(wanted, came) is not None]
    if wrong:
        yield f"not right: item {', item '.join(map(str, wrong[:_MOST]))}"
