"""Putting bodies back into the course, in a process that has imported it without them.

Whoever has imported a function holds that very function, so it gets another code, and is not
replaced. Its text goes where Python and Triton look for the text of a module.
"""

from __future__ import annotations

import importlib
import linecache
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from course_lib.mounting import mount

# Below the course, so that nobody takes it for a learner's.
_TEXTS = Path(__file__).parents[2] / "whole"


def make_whole(name: str, names: Sequence[str], text: str) -> None:
    """Give functions of a module the bodies that a text has for them.

    What the module does not define, as when it is not there at all, is taken from the text.

    Args:
        name: The module.
        names: Its functions, methods and classes that change.
        text: The module, or the part of it that they need.
    """
    file = str(_TEXTS / f"{name}.py")
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    code = compile(text, file, "exec", dont_inherit=True)
    module = _module(name)
    if any(not hasattr(module, each.partition(".")[0]) for each in names):
        namespace: dict[str, Any] = {"__name__": name}
        exec(code, namespace)
        for each in {each.partition(".")[0] for each in names}:
            setattr(module, each, namespace[each])
        return
    bodies: dict[str, list[CodeType]] = {}
    for body in _codes(code):
        bodies.setdefault(body.co_qualname, []).append(body)
    for each in names:
        _change(module, each, bodies)


def put_in_place(place: str, answer: object) -> None:
    """Let an answer be the method that the library's own objects have.

    What a check builds for a call, or looks at afterwards, may need the very body that is asked
    for; the learner's is the only one there is.

    Args:
        place: Where the method is, as ``"module:class.method"``; "" is nowhere.
        answer: The answer; what cannot be called is left alone.
    """
    if not place or not callable(answer):
        return
    module, _, qualname = place.partition(":")
    around, _, method = qualname.rpartition(".")
    owner: Any = sys.modules[module]
    for part in around.split("."):
        owner = getattr(owner, part)
    setattr(owner, method, vars(mount(owner, {method: answer}))[method])


def _change(module: ModuleType, name: str, bodies: dict[str, list[CodeType]]) -> None:
    """Change the code of a function, or of all that a class defines."""
    *around, last = name.split(".")
    holder: Any = module
    for part in around:
        holder = getattr(holder, part)
    for function in _functions(vars(holder)[last]):
        # A property has several functions of one name, which stand one behind the other.
        if found := bodies.get(function.__qualname__):
            function.__code__ = found.pop(0)


def _module(name: str) -> ModuleType:
    """Return a module; an empty one if the box has none of this name."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return sys.modules.setdefault(name, ModuleType(name))


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield the codes in a code, at any depth, in the order of the text."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _functions(value: Any) -> Iterator[FunctionType]:
    """Yield the functions behind what a module or a class holds."""
    if isinstance(value, FunctionType):
        yield getattr(value, "__wrapped__", value)
    elif isinstance(value, type):
        for member in vars(value).values():
            if not isinstance(member, type) or member.__qualname__.startswith(value.__qualname__):
                yield from _functions(member)
    elif isinstance(value, (classmethod, staticmethod)):
        yield from _functions(value.__func__)
    elif isinstance(value, cached_property):
        yield from _functions(value.func)
    elif isinstance(value, property):
        for each in (value.fget, value.fset, value.fdel):
            yield from _functions(each)
    elif type(value).__module__.startswith("triton."):
        # What its interpreter has made of the former text is kept by the function.
        getattr(type(value), "rewritten_fn", {}).pop(value.fn, None)
        yield from _functions(value.fn)
    elif hasattr(value, "__wrapped__"):
        yield from _functions(value.__wrapped__)
