"""Library code that calls a learner's own parts where it would call the library's.

What is taught stands as plain functions and classes that know each other by name. A learner's
``hash_blocks`` is used by the library's cache manager if there is a manager for which the name
``hash_blocks`` means theirs. Nothing that others use is changed: what has to call something else is
copied.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import Any, TypeGuard

from course_lib.mounting import mount, nested_code, plain_function


def rewire(part: Any, own: Mapping[str, Any]) -> Any:
    """Return a class or function whose library code calls what is in ``own`` by its names.

    Functions of the library that are called on the way are copied as well where they have to be. A
    class is returned as a subclass, with the methods that call something else put on it. Code that
    is not the library's stays as it is: it calls what it says.

    Args:
        part: A class or function.
        own: What each name is to mean, where it means a part of the library today.

    Returns:
        The copy, or ``part`` itself where it calls none of them.

    >>> from course_lib.kv_cache.sizing import kv_bytes_per_block
    >>> from course_lib.specs import MODELS
    >>> own = rewire(kv_bytes_per_block, {"kv_bytes_per_token": lambda model: 3})
    >>> own(MODELS["llama-2-7b"], 16), kv_bytes_per_block(MODELS["llama-2-7b"], 16)
    (48, 8388608)
    """
    return _Rewiring(own).of(part)


def with_globals(function: FunctionType, replacements: Mapping[str, Any]) -> FunctionType:
    """Return a copy of a function for which some global names mean something else.

    The module that it comes from, and everybody else who uses the function, notice nothing.

    Args:
        function: A plain function.
        replacements: What each global name means in the copy.

    >>> def area(radius): return PI * radius**2
    >>> with_globals(area, {"PI": 3})(2)
    12
    """
    copy = FunctionType(
        function.__code__,
        {**function.__globals__, **replacements},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    functools.update_wrapper(copy, function)
    # It leads to the globals that were replaced.
    del copy.__dict__["__wrapped__"]
    return copy


class _Rewiring:
    """One set of replacements, and the copies that were made for it."""

    def __init__(self, own: Mapping[str, Any]) -> None:
        self._own = own
        self._copies: dict[FunctionType, FunctionType] = {}

    def of(self, part: Any) -> Any:
        if isinstance(part, type):
            return self._class(part)
        return self._function(part) if isinstance(part, FunctionType) else part

    def _class(self, owner: type) -> type:
        methods = self._methods(owner)
        # An ancestor's copy stands before the ancestor, where super() finds it.
        bases = [
            mount(ancestor, changed)
            for ancestor in owner.__mro__[1:]
            if (changed := self._methods(ancestor))
        ]
        return mount(owner, methods, bases) if methods or bases else owner

    def _methods(self, owner: type) -> dict[str, Callable[..., Any]]:
        """Return copies of those methods that the class itself defines and that need one."""
        found = {name: plain_function(member) for name, member in vars(owner).items()}
        return {
            name: copy
            for name, function in found.items()
            if function is not None and (copy := self._function(function)) is not function
        }

    def _function(self, function: FunctionType) -> FunctionType:
        if not _is_the_librarys(function):
            return function
        if function not in self._copies:
            # Functions that call each other lead back here; such a circle is left as it is.
            self._copies[function] = function
            self._copies[function] = self._copy(function)
        return self._copies[function]

    def _copy(self, function: FunctionType) -> FunctionType:
        """Return a copy with other globals and defaults, or the function if it needs neither."""
        known = function.__globals__
        used = {name: known[name] for name in _names_in(function.__code__) if name in known}
        keywords = function.__kwdefaults__ or {}
        defaults = function.__defaults__ or ()
        if all(self._new(old) is old for old in (*used.values(), *keywords.values(), *defaults)):
            return function
        copy = with_globals(function, {name: self._new(old) for name, old in used.items()})
        copy.__defaults__ = tuple(map(self._new, defaults)) or None
        copy.__kwdefaults__ = {name: self._new(old) for name, old in keywords.items()} or None
        return copy

    def _new(self, value: Any) -> Any:
        """Return what stands for a function or class of the library, and any other value as is."""
        if not _is_the_librarys(value):
            return value
        # By its own name: it may have been imported under another one.
        if value.__name__ in self._own:
            return self._own[value.__name__]
        return self._function(value) if isinstance(value, FunctionType) else value


@functools.cache  # a figure that is drawn anew for each setting asks every time
def _names_in(code: CodeType) -> tuple[str, ...]:
    """Return the names of globals and attributes in a function and in those within it."""
    return tuple(dict.fromkeys(name for each in nested_code(code) for name in each.co_names))


def _is_the_librarys(value: Any) -> TypeGuard[FunctionType | type]:
    """Say whether it is a function or class of the library."""
    return isinstance(value, (FunctionType, type)) and str(value.__module__).startswith(
        "course_lib."
    )
