"""Standing in front of an object's method, to see what it is asked and what it answers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Around = Callable[..., Any]
"""Called in place of a method: with the method itself, and what it was called with."""


@contextmanager
def intercept(subject: object, name: str, around: Around) -> Iterator[None]:
    """Have ``around(method, ...)`` called in place of an object's method, in the ``with`` block.

    Raises:
        TypeError: The object's class has ``__slots__``, so no method of it can be replaced.

    >>> class Clock:
    ...     def read(self, zone): return f"noon in {zone}"
    >>> clock = Clock()
    >>> with intercept(clock, "read", lambda method, zone: method(zone).upper()):
    ...     clock.read("Lima")
    'NOON IN LIMA'
    >>> clock.read("Lima"), vars(clock)
    ('noon in Lima', {})
    """
    if not hasattr(subject, "__dict__"):
        raise TypeError(
            f"{type(subject).__name__} has __slots__, so its methods cannot be traced; remove "
            "__slots__ from the class"
        )
    method = getattr(subject, name)
    shadowed = {name: vars(subject)[name]} if name in vars(subject) else {}
    setattr(subject, name, functools.wraps(method)(functools.partial(around, method)))
    try:
        yield
    finally:
        delattr(subject, name)
        vars(subject).update(shadowed)
