"""Names of library symbols on the wire: ``"module:qualified name"``."""

from __future__ import annotations

import builtins
import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

HOMES = ("course_lib", "builtins")
"""The packages whose symbols may be named."""

ELSEWHERE = {"numpy.random:default_rng": np.random.default_rng}
"""What else may be named: with this a check hands over a generator of random numbers."""


@dataclass(frozen=True)
class Symbol:
    """A class or function by the place where it is defined.

    Attributes:
        module: Its module.
        qualname: Its name there, with the class before a method.
    """

    module: str
    qualname: str

    def __str__(self) -> str:
        return f"{self.module}:{self.qualname}"

    @property
    def short(self) -> str:
        """The name alone."""
        return self.qualname


def name_of(target: Any) -> Symbol:
    """Return the name by which the other side finds the same symbol.

    Raises:
        ValueError: It is no symbol of the library or of Python that can be found by a name.

    >>> from course_lib.kv_cache import BlockPool
    >>> str(name_of(BlockPool)), str(name_of(iter))
    ('course_lib.kv_cache.block_pool:BlockPool', 'builtins:iter')
    """
    for name, known in ELSEWHERE.items():
        if target is known:
            return Symbol(*name.split(":"))
    found = Symbol(str(target.__module__), str(target.__qualname__))
    # A class method is another object each time that it is looked up, and equal to itself.
    if symbol(str(found)) != target:
        raise ValueError(f"{found} is not the name of {target!r}; name what a module defines")
    return found


def symbol(name: str) -> Any:
    """Return what has this name.

    Raises:
        ValueError: The name is not that of a symbol of the library or of Python.

    >>> symbol("course_lib.specs:GiB")
    1073741824
    >>> symbol("os:system")
    Traceback (most recent call last):
    ValueError: no symbol 'os:system'; it must be public and in course_lib or builtins
    """
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    module, _, qualname = name.partition(":")
    parts = qualname.split(".")
    is_named = all(part.isidentifier() and not part.startswith("_") for part in parts)
    if module.partition(".")[0] not in HOMES or not is_named:
        raise ValueError(f"no symbol {name!r}; it must be public and in {' or '.join(HOMES)}")
    found: Any = builtins if module == "builtins" else importlib.import_module(module)
    for part in parts:
        found = getattr(found, part)
    return found
