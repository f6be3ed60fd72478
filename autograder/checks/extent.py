"""How large a call is to who reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf
from typing import Any

from autograder.proxy.names import name_of
from autograder.proxy.recipes import Make


def extent(arguments: Iterable[Any]) -> tuple[int, float]:
    """Return how many items the lists, tuples, dicts and arrays of a call have, and their size.

    A call without any is as small as Hypothesis could make it. An item that is infinite or no
    number at all is large: finite ones are easier to follow.

    >>> extent([[(1, 1), (1, 2)], [8], 6]), extent([3]), extent([Make(iter, [4, 2])])
    ((5, 13), (0, 0), (2, 6))
    >>> extent([{16: 0.5, 17: 0.5}, 16])
    (4, 34.0)
    """
    items = [item for each in arguments if _has_items(each) for item in _items(each)]
    sizes = (abs(item) for item in items if type(item) in (int, float))
    return len(items), sum(size if size < inf else inf for size in sizes)


def _has_items(value: Any) -> bool:
    """Say whether a value is a list, a tuple, what goes through one, a dict, or an array."""
    is_iterator = isinstance(value, Make) and value.target == name_of(iter)
    return is_iterator or isinstance(value, (list, tuple, dict)) or bool(getattr(value, "ndim", 0))


def _items(value: Any) -> Iterator[Any]:
    """Yield what is in lists, tuples, dicts and arrays, at any depth."""
    if isinstance(value, Make) and value.target == name_of(iter):
        value = value.args[0]
    if getattr(value, "ndim", 0):
        value = value.tolist()
    if isinstance(value, dict):
        value = [*value.items()]
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _items(each)
    else:
        yield value
