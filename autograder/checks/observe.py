"""What a check observes of a call beside its value.

Objects that a call returns are known by their attributes, and the arguments are looked at again
afterwards: a function that changes what it was given, or gives it back as its own, breaks the cells
that come after it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from autograder.checks.compare import Seen
from autograder.checks.show import EVERYTHING, Matters, show, show_outcome
from autograder.proxy.subject import Fate, Outcome, Place, Raised, Returned, Subject
from autograder.proxy.wire import Ref


def look(subject: Subject, outcome: Outcome, reads: Sequence[str]) -> Outcome:
    """Replace every object in an outcome by what its attributes say.

    Args:
        subject: Where the objects are.
        outcome: What came of a call.
        reads: The attributes, or paths to them. Without any, objects stay as they are, and so does
            one that has none of them: of that, its class says more.
    """
    if isinstance(outcome, Raised) or not reads:
        return outcome

    def seen(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(seen(item) for item in value)
        if isinstance(value, dict):
            return {key: seen(item) for key, item in value.items()}
        if isinstance(value, Ref):
            attributes = {name: subject.read(value, name) for name in reads}
            if all(_is_missing(got) for got in attributes.values()):
                return value
            found = Seen(
                {
                    name: got.value if isinstance(got, Returned) else show_outcome(got)
                    for name, got in attributes.items()
                }
            )
            found.ref = value
            return found
        return value

    return Returned(seen(outcome.value), outcome.output, outcome.fate)


def _is_missing(got: Outcome) -> bool:
    """Say whether an attribute that was read is not there."""
    return isinstance(got, Raised) and got.kinds[:1] == ("AttributeError",)


@dataclass(frozen=True)
class Arguments:
    """The arguments of one call by name.

    Attributes:
        names: The names of the parameters, in order.
        args: What was passed by place.
        kwargs: What was passed by name.
    """

    names: Sequence[str]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    def name(self, place: Place) -> str:
        """Return the name of the argument at a place."""
        if isinstance(place, str):
            return place
        return self.names[place] if place < len(self.names) else f"number {place + 1}"

    def value(self, place: Place) -> Any:
        """Return what was passed at a place."""
        return self.kwargs[place] if isinstance(place, str) else self.args[place]

    def after(self, fate: Fate) -> dict[str, Any]:
        """Return every argument by name, as it is after a call."""
        places: list[Place] = [*range(len(self.args)), *self.kwargs]
        return {self.name(p): fate.changed.get(p, self.value(p)) for p in places}


@dataclass(frozen=True)
class Misuse:
    """An argument that a call should have left alone.

    Attributes:
        expected: What should be.
        got: What is.
        complaint: What is the matter, and what to do instead.
    """

    expected: str
    got: str
    complaint: str


def misuse(
    given: Arguments,
    expected: Fate,
    got: Fate,
    may_write: Collection[str] = (),
    may_return: Collection[str] = (),
    matters: Matters = EVERYTHING,
) -> Misuse | None:
    """Say which argument a call changed or gave back although the reference does not.

    Args:
        given: The arguments.
        expected: What became of them in the hands of the reference.
        got: What became of them in the learner's.
        may_write: The names of those that may be changed.
        may_return: The names of those that may be part of what is returned.
        matters: What to show of records.
    """
    for place, now in got.changed.items():
        name = given.name(place)
        if place in expected.changed or name in may_write:
            continue
        before, after = show(given.value(place), matters), show(now, matters)
        # Objects of one class look alike, whatever their order.
        told = before != after
        return Misuse(
            f"{name} is still {before}" if told else f"{name} is left as it was",
            f"{name} is {after}" if told else f"{name} has other items, or in another order",
            f"it changed its argument {name}; work on a copy",
        )
    for place in got.touched:
        name = given.name(place)
        if place in expected.touched or name in may_write:
            continue
        return Misuse(
            f"{name} is left as it was",
            f"an object that {name} stands for or holds is another afterwards",
            f"it changed an object in its argument {name}, which it is only to look at",
        )
    for place in got.kept:
        name = given.name(place)
        if place in expected.kept or name in may_return:
            continue
        kind = type(given.value(place)).__name__
        if kind in ("ndarray", "Tensor"):
            complaint = f"it returns memory of the {kind} that it was given, not new memory"
        else:
            complaint = f"it returns the {kind} that it was given, not a new one"
        return Misuse(
            f"a new {kind}",
            f"{name} itself",
            f"{complaint}; whoever changes one changes both",
        )
    return None


@lru_cache(maxsize=4096)  # asked with each call of a life, for the library's functions alone
def parameter_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a function's parameters; none where Python does not know them.

    >>> parameter_names(lambda a, *, b=1: a)
    ('a', 'b')
    """
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return ()


def as_tuples(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]] | None:
    """Return the arguments with tuples for the lists that may as well be tuples.

    Args:
        function: Its annotations say where any sequence will do.
        args: What is passed by place.
        kwargs: What is passed by name.

    Returns:
        None if nothing changes.

    >>> def total(a: Sequence[int], b: list[int]) -> int: ...
    >>> as_tuples(total, ([1, 2], [3]), {})
    ([(1, 2), [3]], {})
    """
    hints = _hints(function)
    names = parameter_names(function)
    by_place = [_as_tuple(value, hints.get(name)) for value, name in zip(args, names, strict=False)]
    by_place += args[len(by_place) :]
    by_name = {name: _as_tuple(value, hints.get(name)) for name, value in kwargs.items()}
    before = [*args, *kwargs.values()]
    pairs = zip([*by_place, *by_name.values()], before, strict=True)
    return (by_place, by_name) if any(new is not old for new, old in pairs) else None


def without_defaults(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments that are not what the function takes without them anyway.

    >>> def serve(n, block_size=16, share=0.9): ...
    >>> without_defaults(serve, {"block_size": 16, "share": 1.0})
    {'share': 1.0}
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return dict(kwargs)

    def is_default(name: str, value: Any) -> bool:
        default = parameters[name].default if name in parameters else inspect.Parameter.empty
        is_plain = type(value) in (int, float, str, bool, type(None))
        return is_plain and type(default) is type(value) and default == value

    return {name: value for name, value in kwargs.items() if not is_default(name, value)}


_ANY_SEQUENCE = (Sequence, Iterable, Collection)


@cache
def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return get_type_hints(function)
    except (NameError, TypeError):
        # Some names are known to type checkers only.
        return {}


def _as_tuple(value: Any, hint: Any) -> Any:
    if type(value) is not list:
        return value
    origin = get_origin(hint) or hint
    if origin in (Union, UnionType):
        return next(
            (new for each in get_args(hint) if (new := _as_tuple(value, each)) is not value), value
        )
    if origin not in _ANY_SEQUENCE:
        return value
    (item, *_) = get_args(hint) or (None,)
    return tuple(_as_tuple(each, item) for each in value)
