"""Taking a learner's function or class out of a notebook, with all that it needs to stand alone."""

from __future__ import annotations

import inspect
import symtable
import sys
import textwrap
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

from course_lib.parts import PARTS


class HarvestError(Exception):
    """The object cannot be written down as a module of its own; says why."""


def standalone_source(obj: Any, exercise_id: str) -> str:
    """Return the text of a module that defines ``obj`` and imports or defines what it uses.

    Names that the object uses are looked up where it was written: modules and library objects are
    imported, functions and classes from the same notebook are copied, earlier parts are taken
    through ``parts.get``, and plain constants are written out.

    Args:
        obj: A function or class, from a notebook cell or from a file.
        exercise_id: The exercise that it solves, for the header.

    Raises:
        HarvestError: Its source is not at hand, or it uses something that cannot be written down.
    """
    module = _Module()
    module.define(obj)
    title = f'"""My own {obj.__name__}: passed check {exercise_id}."""'
    future = "from __future__ import annotations"
    blocks = [title, future, "\n".join(sorted(module.imports)), "\n".join(module.assignments)]
    head = "\n\n".join(block for block in blocks if block)
    return "\n\n\n".join([head, *module.definitions]) + "\n"


class _Module:
    """A module under construction: what is defined, and what that needs."""

    def __init__(self) -> None:
        self.imports: set[str] = set()
        self.assignments: list[str] = []
        self.definitions: list[str] = []
        self._done: set[str] = set()

    def define(self, obj: Any) -> None:
        """Add a function or class after everything that it uses."""
        self._done.add(obj.__name__)
        source = _source(obj)
        scope = _scope(obj)
        for name in _names_used(source):
            if name in scope and name not in self._done:
                self._done.add(name)
                self._provide(name, scope[name], home=obj.__module__)
        self.definitions.append(source)

    def _provide(self, name: str, value: Any, home: str) -> None:
        """Make ``name`` mean ``value``."""
        if isinstance(value, ModuleType):
            self._import(f"import {value.__name__}", value.__name__, name)
        elif isinstance(value, (int, float, str, bool, type(None))):
            self.assignments.append(f"{name} = {value!r}")
        elif isinstance(value, (FunctionType, type)):
            self._provide_definition(name, value, home)
        else:
            module = _module_holding(name, value)
            if module is None:
                raise HarvestError(
                    f"it uses {name}, a {type(value).__name__} of the notebook; make that an "
                    "argument, or a constant inside"
                )
            self.imports.add(f"from {module} import {name}")

    def _provide_definition(self, name: str, value: Any, home: str) -> None:
        if value.__module__ == f"my_engine.{value.__name__}" and value.__name__ in PARTS:
            self.imports.add("from course_lib import parts")
            self.assignments.append(f'{name} = parts.get("{value.__name__}")')
        elif value.__module__ == home:
            self._done.add(value.__name__)
            self.define(value)
        else:
            self._import(f"from {value.__module__} import {value.__name__}", value.__name__, name)

    def _import(self, statement: str, original: str, name: str) -> None:
        self.imports.add(statement if name == original else f"{statement} as {name}")


def _source(obj: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(obj)).rstrip()
    except (OSError, TypeError) as error:
        raise HarvestError("its source is not at hand; define it in a cell or a file") from error


def _scope(obj: Any) -> dict[str, Any]:
    """Return the global names that ``obj`` sees."""
    if isinstance(obj, FunctionType):
        return obj.__globals__
    return vars(sys.modules[obj.__module__])


def _names_used(source: str) -> Iterator[str]:
    """Yield every name that the code takes from outside itself."""
    waiting = [symtable.symtable(source, "<part>", "exec")]
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (symbol.is_global() or table.get_type() == "module"):
                yield symbol.get_name()


def _module_holding(name: str, value: Any) -> str | None:
    """Return an importable module of the library in which ``name`` is ``value``."""
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("course_lib") and vars(module).get(name) is value:
            return module_name
    return None
