"""Comparing an outcome with the expected one, and showing both to a person."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from autograder.proxy.subject import Outcome, Raised
from autograder.proxy.wire import Ref
from course_lib.specs import GPUS, MODELS

Comparison = Callable[[Any, Any], str | None]
"""Takes what was expected and what came; returns None if they agree, else the complaint, or ""."""

_MAX_SHOWN = 600


def exactly(expected: Any, got: Any) -> str | None:
    """Agree only on the same value of the same type.

    >>> exactly(3, 3), exactly(3, 4)
    (None, '')
    >>> exactly(3, 3.0)
    'the value is right, but as a float: // on floats gives a float; wrap it in int()'
    """
    if type(expected) is not type(got):
        return _type_complaint(expected, got)
    if _is_array(expected):
        return _array_complaint(expected, got, rel=0.0, absolute=0.0)
    return _item_by_item(exactly, expected, got)


def within(rel: float, absolute: float = 0.0) -> Comparison:
    """Agree on floats, arrays and tensors that differ by no more than a tolerance.

    NaN agrees with NaN only. Shapes and, for arrays and tensors, dtypes must be the same. A whole
    number is taken for a float of the same value. Lists, tuples, dicts and records are compared
    item by item; what is no number must be the same.

    Args:
        rel: Largest difference as a share of the expected value's size (for an array: of its
            largest element).
        absolute: Largest difference whatever the size.

    >>> close = within(rel=1e-6)
    >>> close(0.1 + 0.2, 0.3), close(2.0, 2), close(1.0, 1.1)
    (None, None, '')
    """

    def compare(expected: Any, got: Any) -> str | None:
        if isinstance(expected, float) and type(got) in (int, float):
            return None if _near(expected, got, rel, absolute) else ""
        if type(expected) is not type(got):
            return _type_complaint(expected, got)
        if _is_array(expected):
            return _array_complaint(expected, got, rel, absolute)
        return _item_by_item(compare, expected, got)

    return compare


def compare_outcomes(compare: Comparison, expected: Outcome, got: Outcome) -> str | None:
    """Compare two outcomes: values with ``compare``, exceptions by their class.

    An exception of a subclass of the expected class is as good as the class itself.
    """
    if isinstance(expected, Raised):
        if isinstance(got, Raised):
            return None if expected.kinds[0] in got.kinds else ""
        return f"it should refuse this: {expected.message}"
    if isinstance(got, Raised):
        return got.line or ""
    return compare(expected.value, got.value)


def is_nothing(value: Any) -> bool:
    """Say whether a value is what comes of a stub: None, or an empty dict or list.

    >>> is_nothing({}), is_nothing(0)
    (True, False)
    """
    return value is None or (type(value) in (dict, list) and not value)


def show(value: Any) -> str:
    """Show a value as one would type it, cut to a readable length.

    >>> from course_lib.specs import MODELS
    >>> show([MODELS["qwen3-14b"], 3])
    '[MODELS["qwen3-14b"], 3]'
    """
    for catalogue, name in ((MODELS, "MODELS"), (GPUS, "GPUS")):
        for key, spec in catalogue.items():
            if type(value) is type(spec) and value == spec:
                return f'{name}["{key}"]'
    if isinstance(value, list):
        return _cut("[" + ", ".join(map(show, value)) + "]")
    if _is_array(value) and math.prod(value.shape) > 32:
        return f"<{type(value).__name__} of shape {tuple(value.shape)}, {value.dtype}>"
    return _cut(repr(value))


def show_outcome(outcome: Outcome) -> str:
    """Show what came of a call."""
    if isinstance(outcome, Raised):
        return _cut(f"{outcome.kinds[0]}: {outcome.message}")
    return show(outcome.value)


def show_call(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    """Show a call as one would type it.

    >>> show_call("f", (1, "a"), {"k": 2})
    "f(1, 'a', k=2)"
    """
    shown = [show(arg) for arg in args] + [f"{key}={show(value)}" for key, value in kwargs.items()]
    return f"{name}({', '.join(shown)})"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 4] + " ..."


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or type(value).__name__ == "Tensor"


def _near(expected: float, got: float, rel: float, absolute: float) -> bool:
    try:
        if math.isnan(expected):
            return math.isnan(got)
        return math.isclose(expected, got, rel_tol=rel, abs_tol=absolute)
    except OverflowError:
        # A whole number that no float can hold.
        return False


def _item_by_item(compare: Comparison, expected: Any, got: Any) -> str | None:
    """Compare two values of one type: the items of a container, anything else by equality."""
    if isinstance(expected, (list, tuple)):
        if len(expected) != len(got):
            return f"it has {len(got)} items, not {len(expected)}"
        items = [(f"item {i}", *pair) for i, pair in enumerate(zip(expected, got, strict=True))]
    elif isinstance(expected, dict):
        if expected.keys() != got.keys():
            return f"its keys are {list(got)}, not {list(expected)}"
        items = [(show(key), expected[key], got[key]) for key in expected]
    elif is_dataclass(expected):
        names = [field.name for field in fields(expected) if field.compare]
        items = [(name, getattr(expected, name), getattr(got, name)) for name in names]
    else:
        return None if _same(expected, got) else ""
    for label, wanted, came in items:
        complaint = compare(wanted, came)
        if complaint is not None:
            return f"{label}: {complaint}" if complaint else f"{label} differs"
    return None


def _same(expected: Any, got: Any) -> bool:
    if isinstance(expected, float) and math.isnan(expected):
        return math.isnan(got)
    if isinstance(expected, set):
        return {(type(item), item) for item in expected} == {(type(item), item) for item in got}
    return bool(expected == got)


def _type_complaint(expected: Any, got: Any) -> str:
    wanted, came = (v.kind if isinstance(v, Ref) else type(v).__name__ for v in (expected, got))
    if got is None:
        return "nothing is returned"
    if isinstance(expected, int) and isinstance(got, float) and expected == got:
        return "the value is right, but as a float: // on floats gives a float; wrap it in int()"
    return f"it is {_with_article(came)}, not {_with_article(wanted)}"


def _with_article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in tuple('aeiou') else 'a'} {noun}"


def _array_complaint(expected: Any, got: Any, rel: float, absolute: float) -> str | None:
    if tuple(expected.shape) != tuple(got.shape):
        return f"its shape is {tuple(got.shape)}, not {tuple(expected.shape)}"
    if expected.dtype != got.dtype:
        return f"its dtype is {got.dtype}, not {expected.dtype}"
    want, have = _as_float64(expected), _as_float64(got)
    if want.size == 0:
        return None
    both_nan = np.isnan(want) & np.isnan(have)
    with np.errstate(invalid="ignore"):
        error = np.where(both_nan | (want == have), 0.0, np.abs(want - have))
    finite = np.abs(want[np.isfinite(want)])
    limit = absolute + rel * (finite.max() if finite.size else 0.0)
    if np.all(error <= limit):
        return None
    worst = np.unravel_index(np.argmax(np.nan_to_num(error, nan=np.inf)), want.shape)
    where = tuple(int(i) for i in worst)
    wrong = int(np.sum(~(error <= limit)))
    return (
        f"{wrong} of {want.size} elements differ; the largest difference is at {where}: "
        f"expected {want[worst]:.6g}, got {have[worst]:.6g}"
    )


def _as_float64(array: Any) -> np.ndarray[Any, Any]:
    if isinstance(array, np.ndarray):
        return array.astype(np.float64)
    converted: np.ndarray[Any, Any] = array.double().numpy()
    return converted
