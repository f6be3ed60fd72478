"""What an answer takes from around itself: the right answer, or an earlier answer of the lesson.

The first is refused: it is not the learner's. With the second, a mistake that was charged already
would be charged again.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from autograder.checks.exercise import Exercise
from autograder.checks.reference import Method, plain
from course_lib import parts
from course_lib.parts import part_names


def is_borrowed(obj: Any, reference: Any) -> bool:
    """Say whether an answer is the right answer of the course, or hands the work on to it.

    It hands the work on if it, or a helper in the same notebook, names the right answer, inherits
    from it, imports it, or asks ``parts.get`` for it. Its code alone is read; what else leads there
    shows when it is called, in ``asked_when_called``.

    >>> from course_lib.kv_cache import kv_bytes_per_token
    >>> is_borrowed(lambda model: kv_bytes_per_token(model), kv_bytes_per_token)
    True
    >>> is_borrowed(lambda model: 2 * model.num_layers, kv_bytes_per_token)
    False
    """
    right = plain(reference)
    if not isinstance(right, FunctionType | type):
        return False
    written = _written(obj)
    if _is(written, right) or _inherits(written, right):
        return True
    name = right.__name__
    for function in _functions_reached(written):
        names, texts = set(_names(function.__code__)), set(_texts(function.__code__))
        for value in _values(function, names):
            if _is(_written(value), right) or _inherits(value, right):
                return True
            # super(Owner, self) begins behind the owner: what it finds is not the right answer.
            holds = isinstance(value, ModuleType) or (
                isinstance(value, type) and "super" not in names
            )
            if holds and name in names and _is(_written(getattr(value, name, None)), right):
                return True
        if "get" in names and any(
            _is(part, right) or _inherits(part, right) for part in map(_part, texts)
        ):
            return True
    return False


def borrowed_through(obj: Any, reference: Any) -> str:
    """Return the library's function through which an answer asks the right one; "" if none.

    A function of the library that gets along without the right answer is honest help.

    >>> from course_lib.kv_cache import kv_bytes_per_block, kv_bytes_per_token
    >>> borrowed_through(lambda model: kv_bytes_per_block(model, 1), kv_bytes_per_token)
    'kv_bytes_per_block'
    >>> borrowed_through(lambda model: kv_bytes_per_token(model), kv_bytes_per_block)
    ''
    """
    right = plain(reference)
    if not isinstance(right, FunctionType | type):
        return ""
    for function in _functions_reached(_written(obj)):
        for asked in _library_functions(function):
            if not _is(asked, right) and _leads_to(asked, right):
                return asked.__name__
    return ""


def stand_ins(obj: Any, others: Sequence[Exercise]) -> dict[str, Any]:
    """Return the right answers of other exercises whose names the answer uses, by name.

    Args:
        obj: The answer.
        others: The other exercises of the lesson.
    """
    written = _written(obj)
    used = {name for each in _functions_reached(written) for name in _outer_names(each.__code__)}
    scope = scope_of(written)
    found = {}
    for exercise in others:
        right = exercise.check.reference
        name = getattr(right, "__name__", None)
        mine = scope.get(name) if isinstance(name, str) else None
        replaces = isinstance(plain(right), FunctionType | type) and not isinstance(right, Method)
        if replaces and name in used and callable(mine) and mine not in (right, obj):
            found[str(name)] = right
    return found


@contextmanager
def standing_in(scope: dict[str, Any], others: Mapping[str, Any]) -> Iterator[None]:
    """Have names of a notebook mean the right answers for as long as the block runs.

    >>> names = {"f": 1}
    >>> with standing_in(names, {"f": 2}):
    ...     names["f"]
    2
    >>> names["f"]
    1
    """
    before = {name: scope[name] for name in others}
    scope.update(others)
    try:
        yield
    finally:
        scope.update(before)


def scope_of(obj: Any) -> dict[str, Any]:
    """Return the global names that an answer sees; none if it is a value."""
    written = _written(obj)
    if isinstance(written, FunctionType):
        return written.__globals__
    module = sys.modules.get(written.__module__) if isinstance(written, type) else None
    return {} if module is None else vars(module)


def _written(value: Any) -> Any:
    """Return the function or class behind a value: behind a partial, a method, a decorator."""
    while isinstance(value, functools.partial):
        value = value.func
    value = plain(value.__func__ if isinstance(value, MethodType) else value)
    return inspect.unwrap(value) if isinstance(value, FunctionType) else value


def _is(value: Any, right: Any) -> bool:
    code = getattr(right, "__code__", None)
    return value is right or (code is not None and getattr(value, "__code__", None) is code)


def _inherits(value: Any, right: Any) -> bool:
    """Say whether a value is a class that inherits from the right answer, or is it."""
    return isinstance(value, type) and right in value.__mro__


def _functions_reached(written: Any) -> list[FunctionType]:
    """Return the functions of an answer, and those of its notebook that it calls."""
    found: list[FunctionType] = []
    waiting = [written]
    while waiting:
        value = waiting.pop()
        if isinstance(value, type):
            waiting += [_written(member) for member in vars(value).values()]
        if not isinstance(value, FunctionType) or value in found:
            continue
        found.append(value)
        home = value.__module__
        called = (_written(each) for each in _values(value, set(_names(value.__code__))))
        waiting += [each for each in called if getattr(each, "__module__", None) == home]
    return found


def _library_functions(function: FunctionType) -> Iterator[FunctionType]:
    """Yield the functions of the course's library that a function names."""
    names = set(_names(function.__code__))
    for value in _values(function, names):
        inside: list[Any] = []
        if isinstance(value, ModuleType) and not _is_the_courses(value):
            # What a module makes up when it is asked, as NumPy does for old names, may warn.
            inside = [vars(value).get(name) for name in names]
        elif isinstance(value, ModuleType | type):
            inside = [getattr(value, name, None) for name in names]
        for each in map(_written, [value, *inside]):
            if isinstance(each, FunctionType) and each.__module__.startswith("course_lib."):
                yield each


def _leads_to(function: FunctionType, right: Any) -> bool:
    """Say whether a function of the library calls the right answer, itself or through others."""
    seen: list[FunctionType] = []
    waiting = [function]
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen.append(each)
        if any(_is(_written(value), right) for value in _values(each, set(_names(each.__code__)))):
            return True
        waiting += _library_functions(each)
    return any(_is(each, right) for each in seen)


def _values(function: FunctionType, names: set[str]) -> Iterator[Any]:
    """Yield what the names that a function uses mean outside it, imports in its body included."""
    around = [function.__globals__[name] for name in names if name in function.__globals__]
    around += [sys.modules[name] for name in names if name in sys.modules]
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # not bound yet
            around.append(cell.cell_contents)
    seen: list[Any] = []
    for value in around:
        yield value
        if isinstance(value, ModuleType) and value not in seen and _is_the_courses(value):
            seen.append(value)
            inside = (getattr(value, name, None) for name in names)
            # A package in a package is found too: what is added here is looked into as well.
            around += [each for each in inside if isinstance(each, ModuleType)]


def _is_the_courses(module: ModuleType) -> bool:
    """Say whether a module is the course's: no other package has the right answer in it.

    Others are not looked into: torch alone has circles, such as ``torch.nn.functional.torch``.
    """
    return module.__name__.partition(".")[0] in ("autograder", "course_lib")


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _outer_names(code: CodeType) -> Iterator[str]:
    """Yield the names that a code looks up outside: ``softmax``, but not that of ``x.softmax``."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _outer_names(constant)


def _texts(code: CodeType) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _texts(constant)
        elif isinstance(constant, str):
            yield constant


def _part(name: str) -> Any:
    """Return what ``parts.get`` would, if there is such a part."""
    return _written(parts.get(name)) if name in part_names() else None
