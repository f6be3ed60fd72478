"""The imports that a stub needs: what its text uses and the lesson's setup cell does not have."""

from __future__ import annotations

import builtins
import importlib
import inspect
import sys
from collections.abc import Collection
from typing import Any

from autograder.build import holes
from autograder.checks.reference import plain
from autograder.errors import CourseError
from autograder.scopes import imports_of, names_used


def needed_imports(
    reference: Any, marked: str, known: Collection[str] = (), answers: Collection[Any] = ()
) -> list[str]:
    """Return the import lines that a stub needs, hidden lines included.

    They are found in the module that the reference stands in: what that imports is imported from
    the same place, and what it defines is imported from it.

    Args:
        reference: What the stub was cut from. It is never imported.
        marked: The stub's source, with its holes marked.
        known: Names that need no import: those of the setup cell.
        answers: References of the lesson's other exercises. They are not imported either: they are
            the learner's, from an earlier cell.

    Raises:
        CourseError: The source uses a private name of its module, or one that the module lacks.

    >>> from course_lib.kv_cache import kv_bytes_per_token
    >>> needed_imports(kv_bytes_per_token, holes.cut(kv_bytes_per_token))
    ['from course_lib.specs import ModelSpec']
    """
    written = plain(reference)
    module = sys.modules[written.__module__]
    imported = imports_of(inspect.getsource(module))
    theirs = {id(plain(answer)) for answer in (reference, *answers)}
    solved = {name for name, value in vars(module).items() if id(plain(value)) in theirs}
    # Python notes __class__ wherever a function says super, even with arguments.
    given = {*known, *dir(builtins), *solved, written.__name__, "__class__"}
    direct: list[str] = []
    by_module: dict[str, list[str]] = {}
    for name in sorted(set(names_used(_whole(marked))) - given):
        if name.startswith("_"):
            raise CourseError(
                f"{written.__name__} uses {name}, which is private to {module.__name__}; "
                "give it a public name, or put it into the function"
            )
        if name not in vars(module) and name not in imported:
            raise CourseError(f"{written.__name__} uses {name}, which {module.__name__} lacks")
        source, original = imported.get(name, (module.__name__, name))
        if original is None:
            direct.append(f"import {source}" if source == name else f"import {source} as {name}")
            continue
        alias = original if original == name else f"{original} as {name}"
        by_module.setdefault(_public_home(source, original), []).append(alias)
    return [*direct, *(_from(home, aliases) for home, aliases in sorted(by_module.items()))]


def _whole(marked: str) -> str:
    """Return the source without its markers."""
    lines = marked.split("\n")
    return "\n".join(line for line in lines if line.strip() not in (holes.BEGIN, holes.END))


def _public_home(module: str, name: str) -> str:
    """Return the outermost package that has the same object under the same name."""
    if not module.startswith("course_lib."):
        return module
    value = getattr(importlib.import_module(module), name)
    packages = module.split(".")
    homes = (".".join(packages[:length]) for length in range(1, len(packages) + 1))
    return next(home for home in homes if getattr(sys.modules[home], name, None) is value)


def _from(home: str, aliases: list[str]) -> str:
    line = f"from {home} import {', '.join(aliases)}"
    if len(line) <= 100:
        return line
    return "\n".join([f"from {home} import (", *(f"    {alias}," for alias in aliases), ")"])
