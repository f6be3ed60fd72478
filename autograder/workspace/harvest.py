"""Taking a learner's function or class out of a notebook, with all that it needs to stand alone."""

from __future__ import annotations

import inspect
import math
import sys
from types import FunctionType, ModuleType
from typing import Any

from autograder.checks.compare import named
from autograder.checks.reference import plain
from autograder.scopes import dedented, names_used
from autograder.written import functions_of, text_of
from course_lib.mounting import calls_bare_super
from course_lib.parts import part_names


class HarvestError(Exception):
    """The object cannot be written down as a module of its own; says why."""


def standalone_source(obj: Any, exercise_id: str) -> str:
    """Return the text of a module that defines ``obj`` and imports or defines what it uses.

    Names that the object uses are looked up where it was written: modules and library objects are
    imported, functions and classes from the same notebook are copied, earlier parts are taken
    through ``parts.get``, and numbers and texts are written out.

    Args:
        obj: A function, class or Triton kernel, from a notebook cell or from a file.
        exercise_id: The exercise that it solves, for the header.

    Raises:
        HarvestError: Its source is not at hand, or it uses something that cannot be written down.
    """
    module = _Module()
    module.define(obj)
    title = f'"""My own {plain(obj).__name__}: passed check {exercise_id}."""'
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
        """Add a function, class or kernel after everything that it uses."""
        written = plain(obj)
        source = _source(written)
        self._done.add(written.__name__)
        scope = _scope(written)
        for name in names_used(source):
            if name in scope and name not in self._done:
                self._done.add(name)
                self._provide(name, scope[name], home=written.__module__)
        self.definitions.append(source)

    def _provide(self, name: str, value: Any, home: str) -> None:
        """Make ``name`` mean ``value``."""
        written = plain(value)
        module = getattr(written, "__module__", None)
        # An alias, such as Pairs = Sequence[int], answers with the name of what it stands for.
        is_alias = hasattr(value, "__origin__")
        original = name if is_alias else getattr(written, "__name__", name)
        if isinstance(value, ModuleType):
            self._import(f"import {value.__name__}", value.__name__, name)
        elif type(value) in (int, float, str, bool, type(None)):
            self.assignments.append(f"{name} = {_literal(value)}")
        elif _is_constexpr(value):
            self.imports.add("import triton.language as tl")
            self.assignments.append(f"{name} = tl.constexpr({_literal(value.value)})")
        elif (part := _own_part(written)) is not None:
            self.imports.add("from course_lib import parts")
            self.assignments.append(f'{name} = parts.get("{part}")')
        elif module == home and (_is_function(written) or isinstance(value, type)):
            self._copy(name, value)
        else:
            source = _module_holding(original, value, home)
            if source is None:
                raise HarvestError(
                    f"it uses {name}, {named(type(value))} of the notebook; make that an "
                    "argument, or a constant inside"
                )
            self._import(f"from {source} import {original}", original, name)

    def _copy(self, name: str, value: Any) -> None:
        original = plain(value).__name__
        if original == "<lambda>":
            raise HarvestError(f"it uses {name}, a lambda; write that as a def")
        if name == original or original not in self._done:
            self.define(value)
        if name != original:
            self.definitions.append(f"{name} = {original}")

    def _import(self, statement: str, original: str, name: str) -> None:
        self.imports.add(statement if name == original else f"{statement} as {name}")


def _own_part(value: Any) -> str | None:
    """Return the name of the part of the learner's own that a value is, if it is one."""
    package, _, part = str(getattr(value, "__module__", None)).partition(".")
    name = getattr(value, "__name__", None)
    if package != "my_engine" or part not in part_names() or part.rpartition(".")[2] != name:
        return None
    return part


def _is_constexpr(value: Any) -> bool:
    """Say whether it is a number that Triton knows when it compiles a kernel."""
    return type(value).__module__.startswith("triton.") and type(value).__name__ == "constexpr"


def _is_function(value: Any) -> bool:
    """Say whether it was written with ``def``, decorated or not."""
    return callable(value) and isinstance(inspect.unwrap(value), FunctionType)


def _source(obj: Any) -> str:
    """Return the definition of a function or class, decorators included."""
    if not _is_function(obj) and not isinstance(obj, type):
        raise HarvestError(
            f"an object of class {type(obj).__name__} has no text to be kept; "
            "define it with def or with class"
        )
    if obj.__name__ == "<lambda>":
        raise HarvestError("a lambda has no name; write a def")
    if not isinstance(obj, type) and calls_bare_super(obj):
        raise HarvestError(
            "it calls super() without arguments, which only a method inside a class can; "
            "name the class and the object, as in super(BlockPool, self)"
        )
    captured = {name for function in functions_of(obj) for name in function.__code__.co_freevars}
    # __class__ is how super() knows where it is.
    for name in sorted(captured - {"__class__"}):
        raise HarvestError(
            f"it uses {name}, a variable of the function around it; "
            f"define {obj.__name__} at the top of a cell"
        )
    source = text_of(obj)
    if source is None:
        raise HarvestError("its source is not at hand; define it in a cell or a file")
    return dedented(source)


def _scope(obj: Any) -> dict[str, Any]:
    """Return the global names that ``obj`` sees."""
    if isinstance(obj, type):
        return vars(sys.modules[obj.__module__])
    scope: dict[str, Any] = inspect.unwrap(obj).__globals__
    return scope


def _literal(value: float | str | bool | None) -> str:
    """Return Python that evaluates to the value.

    >>> _literal(float("inf")), _literal(0.5)
    ("float('inf')", '0.5')
    """
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    return repr(value)


def _module_holding(name: str, value: Any, home: str) -> str | None:
    """Return a module from which to import ``name``, other than the one where it is used."""
    holding = [
        module_name
        for module_name, module in list(sys.modules.items())
        if module_name not in ("__main__", home)
        and module_name.partition(".")[0] not in ("autograder", "my_engine")
        and not any(part.startswith("_") for part in module_name.split("."))
        and getattr(module, "__dict__", {}).get(name) is value
    ]
    # What is written in C says _functools for functools.
    own = str(getattr(value, "__module__", "")).lstrip("_")
    if own in holding:
        return own
    # The course's own modules first, then the one with the shortest name: numpy for numpy.exp.
    return min(
        holding,
        key=lambda each: (not each.startswith("course_lib"), len(each), each),
        default=None,
    )
