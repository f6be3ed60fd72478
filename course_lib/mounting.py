"""Methods written as plain functions, put on a class.

A learner writes one method of a large class as ``def touch(self: BlockPool, blocks)``. ``mount``
makes a subclass on which that function is the method, and everything else is as it was.
"""

from __future__ import annotations

import dis
import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType, FunctionType, new_class
from typing import Any


def function_of(owner: type, name: str) -> FunctionType:
    """Return the plain function behind a method, class method, static method or property.

    Args:
        owner: The class that defines it itself.
        name: The method.

    Raises:
        ValueError: The class does not define it, or it is no function.

    >>> from course_lib.kv_cache.block_pool import BlockPool
    >>> function_of(BlockPool, "touch").__qualname__
    'BlockPool.touch'
    >>> function_of(BlockPool, "blink")
    Traceback (most recent call last):
    ValueError: BlockPool does not define a method 'blink' itself; it defines ...
    """
    function = plain_function(vars(owner).get(name))
    if function is None:
        own = [each for each, value in vars(owner).items() if isinstance(value, FunctionType)]
        raise ValueError(
            f"{owner.__name__} does not define a method {name!r} itself; "
            f"it defines {', '.join(own) or 'none'}"
        )
    return function


def plain_function(member: Any) -> FunctionType | None:
    """Return the function behind a member of a class as it stands in ``vars``; None if none does.

    >>> plain_function(staticmethod(plain_function)).__name__
    'plain_function'
    >>> plain_function(3) is None
    True
    """
    if isinstance(member, property):
        member = member.fget
    elif isinstance(member, functools.cached_property):
        member = member.func
    elif isinstance(member, (classmethod, staticmethod)):
        member = member.__func__
    return member if isinstance(member, FunctionType) else None


def mount(
    owner: type, methods: Mapping[str, Callable[..., Any]], bases: Sequence[type] = ()
) -> type:
    """Return a subclass of ``owner`` on which these functions are the methods.

    What is a property, class method or static method of the owner is one of the subclass too. A
    function that calls ``super()`` without arguments, which only a method inside a class can, is
    replaced by one that raises a TypeError saying so.

    Args:
        owner: The class.
        methods: Functions by the name of the method that they replace.
        bases: Further classes that come after the owner in the order of inheritance, before the
            owner's own bases.

    Raises:
        TypeError: The bases do not fit together.

    >>> class Counter:
    ...     @property
    ...     def limit(self): return 3
    >>> mount(Counter, {"limit": lambda self: 4})().limit
    4
    """
    members: dict[str, Any] = {
        "__module__": owner.__module__,
        "__qualname__": owner.__qualname__,
        "__doc__": owner.__doc__,
    }
    for name, function in methods.items():
        usable = _refusing(name, owner) if calls_bare_super(function) else function
        members[name] = _bound_like(inspect.getattr_static(owner, name, None), usable)
    return new_class(owner.__name__, (owner, *bases), exec_body=lambda body: body.update(members))


def calls_bare_super(function: Callable[..., Any]) -> bool:
    """Say whether a function calls ``super()`` without arguments where there is no class around it.

    >>> calls_bare_super(lambda self: super().close())
    True
    >>> calls_bare_super(lambda self: super(int, self).bit_count())
    False
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and any(map(_has_bare_super, nested_code(code)))


def _refusing(name: str, owner: type) -> Callable[..., Any]:
    """Return a function that says why it cannot be called."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"{name} calls super() without arguments, which a function outside a class cannot; "
            f"write super({owner.__name__}, self)"
        )

    return refuse


@functools.lru_cache(maxsize=1024)  # a check mounts one function for each life that it lives
def _has_bare_super(code: CodeType) -> bool:
    if "__class__" in code.co_freevars:
        return False
    # What stands between a function and its call depends on the version of Python.
    between = ("PRECALL", "PUSH_NULL", "CACHE")
    steps = [step for step in dis.get_instructions(code) if step.opname not in between]
    return any(
        load.argval == "super" and call.opname == "CALL" and call.arg == 0
        for load, call in itertools.pairwise(steps)
    )


def nested_code(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and those of the functions and comprehensions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested_code(constant)


def _bound_like(member: Any, function: Callable[..., Any]) -> Any:
    """Return the function as the kind of attribute that the member is."""
    if isinstance(member, property):
        return property(function, member.fset, member.fdel)
    for kind in (functools.cached_property, classmethod, staticmethod):
        if isinstance(member, kind):
            return kind(function)
    return function if hasattr(type(function), "__get__") else _with_self(function)


def _with_self(called: Callable[..., Any]) -> Any:
    """Return a function that passes the object on: of itself Python does that for functions only.

    Without it a ``functools.partial``, or an object with a ``__call__``, is not told whose method
    it is. What cannot be called stays as it is.
    """
    if not callable(called):
        return called

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return called(self, *args, **kwargs)

    return method
