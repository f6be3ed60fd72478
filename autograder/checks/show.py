"""Showing values, calls and outcomes to a person: what matters, and no more."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from types import MappingProxyType
from typing import Any

from autograder.proxy.host import UNUSABLE
from autograder.proxy.subject import Outcome, Raised
from autograder.proxy.time_limit import NoAnswerError
from autograder.proxy.wire import is_record
from course_lib.specs import GPUS, MODELS

_MAX_SHOWN = 600

_NO_EXCEPTIONS = (NoAnswerError.__name__, UNUSABLE)
"""What no code of the learner's raised: it took too long, or no check can read what came."""

Matters = Mapping[type[Any], Sequence[str]]
"""For a class of records: the fields to show. The others are left out."""

EVERYTHING: Matters = MappingProxyType({})


def show(value: Any, matters: Matters = EVERYTHING) -> str:
    r"""Show a value as one would type it, cut to a readable length.

    Of a record, fields that have their default are left out, unless they are said to matter.

    Args:
        value: The value.
        matters: What to show of records.

    >>> from course_lib.kv_cache.reservation import Reservation
    >>> show([MODELS["qwen3-14b"], Reservation("r", reserved=8, written=3, final=5), 3])
    '[MODELS["qwen3-14b"], Reservation(request_id=\'r\', reserved=8, written=3, final=5), 3]'
    """
    if type(value) is int or type(value) is str:
        return _cut(repr(value))
    for catalogue, name in ((MODELS, "MODELS"), (GPUS, "GPUS")):
        for key, spec in catalogue.items():
            if type(value) is type(spec) and value == spec:
                return f'{name}["{key}"]'
    if isinstance(value, list):
        return _cut(f"[{_show_items(value, matters)}]")
    if type(value) is tuple and value:
        return _cut(f"({_show_items(value, matters)}{',' * (len(value) == 1)})")
    if is_record(type(value)):
        return _cut(_show_record(value, matters))
    if _is_large_array(value):
        return f"<{type(value).__name__} of shape {tuple(value.shape)}, {value.dtype}>"
    if _is_array(value):
        return _cut(" ".join(repr(value).split()))
    return _cut(repr(value))


def show_outcome(outcome: Outcome, matters: Matters = EVERYTHING) -> str:
    """Show what came of a call.

    >>> show_outcome(Raised(("KeyError",), "no 'a'")), show_outcome(Raised(("KeyError",), ""))
    ("KeyError: no 'a'", 'KeyError')
    """
    if isinstance(outcome, Raised):
        if outcome.kinds[0] in _NO_EXCEPTIONS:
            return _cut(outcome.message)
        return _cut(
            f"{outcome.kinds[0]}: {outcome.message}" if outcome.message else outcome.kinds[0]
        )
    return show(outcome.value, matters)


def show_refusal(outcome: Raised) -> str:
    r"""Show in one line what was raised, to stand beside the step that it came of.

    >>> show_refusal(Raised(("KeyError",), "no 'a'\nnor 'b'")), show_refusal(Raised(("E",), "e"))
    ("KeyError: no 'a' ...", 'E: e')
    """
    first, *others = show_outcome(outcome).splitlines() or [""]
    return f"{first} ..." if others else first


def show_call(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], matters: Matters = EVERYTHING
) -> str:
    """Show a call as one would type it.

    >>> show_call("f", (1, "a"), {"k": 2})
    "f(1, 'a', k=2)"
    """
    shown = [show(arg, matters) for arg in args]
    shown += [f"{key}={show(value, matters)}" for key, value in kwargs.items()]
    return f"{name}({', '.join(shown)})"


def _show_items(items: Sequence[Any], matters: Matters) -> str:
    """Show as many items as anyone will read: there may be a million."""
    shown: list[str] = []
    length = 0
    for item in items:
        if length > _MAX_SHOWN:
            break
        shown.append(show(item, matters))
        length += len(shown[-1]) + len(", ")
    return ", ".join(shown)


def _show_record(record: Any, matters: Matters) -> str:
    kind = type(record)
    chosen = matters.get(kind)
    shown, is_whole = [], True
    for each in fields(record):
        value = getattr(record, each.name)
        has_default = _is_default(each, value)
        if (not has_default) if chosen is None else each.name in chosen:
            shown.append(f"{each.name}={show(value, matters)}")
        else:
            is_whole = is_whole and has_default
    if not is_whole:
        shown.append("...")
    return f"{kind.__name__}({', '.join(shown)})"


def _is_default(each: Field[Any], value: Any) -> bool:
    default = each.default if each.default_factory is MISSING else each.default_factory()
    return type(value) is type(default) and not hasattr(value, "shape") and value == default


def _is_array(value: Any) -> bool:
    return type(value).__name__ in ("ndarray", "Tensor")


def _is_large_array(value: Any) -> bool:
    return _is_array(value) and math.prod(value.shape) > 32


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 4] + " ..."


def with_state(text: str, state: Any) -> str:
    """Return what is shown of a value with the state behind it, unless that says no more.

    >>> with_state("None", "free [1]"), with_state("'free [1]'", "free [1]"), with_state("3", None)
    ('None  # free [1]', "'free [1]'", '3')
    """
    return text if state in (None, "") or text == show(state) else f"{text}  # {state}"


def length_of(case: str) -> tuple[int, int, int, str]:
    r"""Return calls, calls of helpers that work on the object, characters, and then the case.

    Of two as long, smaller digits come first. Nobody sees in a case what a helper does.

    >>> length_of("obj = Pool(2)\nuse(obj)\nobj.taken")
    (2, 1, 32, 'obj = Pool(2)\nuse(obj)\nobj.taken')
    """
    helpers = sum(bool(re.match(r"\w+\(", line)) for line in case.split("\n")[:-1])
    return case.count("\n"), helpers, len(case), case
