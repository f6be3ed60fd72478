"""The state of objects that a call is given: whether it has changed when the call is over.

Only objects of the library are looked into, such as a request or a pool, with the lists, dicts and
sets that they hold. What an object did not have before, such as a value that it works out when it
is first asked for, is no change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

_MOST = 5_000
"""How many objects are looked at; what holds more is not looked into any further."""

_MISSING = object()


@dataclass(frozen=True)
class State:
    """What some objects were like.

    Attributes:
        attributes: Each object of the library with its attributes.
        items: Each list, dict, set or queue that one of them holds, with what was in it.
    """

    attributes: tuple[tuple[Any, Mapping[str, Any]], ...]
    items: tuple[tuple[Any, tuple[Any, ...]], ...]

    def has_changed(self) -> bool:
        """Say whether any of it is another by now."""
        return any(
            not _is_same(before, now.get(name, _MISSING))
            for each, attributes in self.attributes
            for now in [_attributes(each)]
            for name, before in attributes.items()
        ) or any(_differ(before, _items(each)) for each, before in self.items)


def state_of(value: Any) -> State:
    """Return what the objects of the library that a value is, or holds, are like now.

    >>> from course_lib.kv_cache import BlockPool
    >>> pool = BlockPool(num_blocks=4)
    >>> before = state_of([pool])
    >>> before.has_changed(), pool.get_new_blocks(1)[0].block_id, before.has_changed()
    (False, 1, True)
    """
    attributes: list[tuple[Any, Mapping[str, Any]]] = []
    items: list[tuple[Any, tuple[Any, ...]]] = []
    seen: set[int] = set()
    # The argument itself, if it is a list, is compared elsewhere.
    waiting = [(value, False)]
    while waiting and len(seen) < _MOST:
        each, is_held = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if type(each) in _CONTAINERS:
            inside = _items(each)
            if is_held:
                items.append((each, inside))
            waiting += [(item, is_held) for item in inside if not _is_plain(item)]
        elif _is_the_librarys(each):
            mine = _attributes(each)
            attributes.append((each, mine))
            waiting += [(held, True) for held in mine.values() if not _is_plain(held)]
    return State(tuple(attributes), tuple(items))


_CONTAINERS = (list, dict, set, tuple, deque)


def _items(container: Any) -> tuple[Any, ...]:
    if type(container) is dict:
        return tuple(chain.from_iterable(container.items()))
    # A set has no order: it is the same if the same things are in it.
    return tuple(sorted(container, key=id)) if type(container) is set else tuple(container)


def _attributes(each: Any) -> dict[str, Any]:
    """Return an object's attributes, in its ``__dict__`` or in slots."""
    found = dict(getattr(each, "__dict__", {}))
    for owner in type(each).__mro__:
        slots = vars(owner).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            value = getattr(each, name, _MISSING)
            if value is not _MISSING and name != "__dict__":
                found[name] = value
    return found


def _is_plain(value: Any) -> bool:
    return type(value) in (int, float, bool, str, bytes, type(None))


def _is_the_librarys(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "course_lib"


def _is_same(before: Any, now: Any) -> bool:
    """Say whether it is the same object, or the same number or text."""
    return before is now or (_is_plain(before) and type(now) is type(before) and now == before)


def _differ(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    return len(before) != len(now) or not all(map(_is_same, before, now))
