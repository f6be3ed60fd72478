"""The course as the box has it: without checks, and without what the lesson asks for.

The tree holds ``course_lib``, in which the bodies that the lesson's exercises ask for are cut; of
``autograder`` the learner's side of the pipe, and what the released notebook imports. There is
nothing to borrow: what is cut comes into a box as a text, after the verdict on it has been given.
"""

from __future__ import annotations

import ast
import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import course_lib
from autograder import lessons
from autograder.checks.exercise import Exercise
from autograder.checks.reference import Method, plain
from autograder.errors import CourseError
from autograder.sealed.hollow import hollowed, sliced, text_of_definition
from autograder.sealed.release import Release

HOST_MODULES = (
    "__init__",
    "written",
    "proxy.__init__",
    "proxy.examples",
    "proxy.host",
    "proxy.memory_limit",
    "proxy.names",
    "proxy.recipes",
    "proxy.state",
    "proxy.time_limit",
    "proxy.wire",
    "sealed.__init__",
    "sealed.box.__init__",
    "sealed.box.kernel",
    "sealed.box.limits",
    "sealed.box.runner",
    "sealed.box.stub",
    "sealed.box.whole",
    "sealed.box.zygote",
)
"""What runs cells and answers calls in the box, as modules of ``autograder``."""

_LIBRARY = Path(course_lib.__file__).parent

_NOTEBOOK = '''\
"""What a lesson imports from the notebook's tools, where a submission is graded."""

from typing import Any


def check(exercise_id: str, obj: Any) -> float:
    """Earn nothing: answers are checked outside of the box."""
    return 0.0


def explain(exercise_id: str) -> None:
    """Show nothing."""


def task(exercise_id: str, seed: int) -> str:
    """Return what stands for a task by hand, which is read in the notebook."""
    return f"Task {seed} of exercise {exercise_id}"


def quiz(lesson: int) -> str:
    """Return what stands for the quiz to practise with."""
    return f"Quiz of lesson {lesson}"


def practise(exercise_id: str, seed: int) -> str:
    """Return what stands for questions to practise with."""
    return f"Questions {seed} of exercise {exercise_id}"


def progress() -> None:
    """Show nothing: there is no workspace here."""


def assess(*written: Any) -> None:
    """Show nothing: how sure somebody is, is nobody else's business."""
'''
_TOOLS = ("check", "explain", "task", "quiz", "practise", "progress", "assess")


@dataclass(frozen=True)
class Hole:
    """A definition that an exercise asks for.

    Attributes:
        exercise: The exercise.
        module: The module that defines it.
        qualname: Its name there, with the class before a method.
        source: Its text, decorators included.
    """

    exercise: str
    module: str
    qualname: str
    source: str


def holes_of(lesson: int) -> tuple[Hole, ...]:
    """Return what the exercises of a lesson ask for, in their order; values are none.

    >>> [hole.qualname for hole in holes_of(1)][:2]
    ['kv_bytes_per_token', 'num_kv_blocks']
    """
    return tuple(
        hole
        for each in lessons.exercises(lesson)
        for hole in _holes(each, each.check.reference if not each.missing else None)
    )


def others_of(lesson: int) -> tuple[Hole, ...]:
    """Return what else counts as the course's answer to an exercise, where a check says so.

    >>> {hole.exercise: hole.qualname for hole in others_of(4)}
    {'4.10': 'BuddyAllocator'}
    """
    return tuple(
        hole
        for each in lessons.exercises(lesson)
        for other in getattr(each.check, "others", ())
        for hole in _holes(each, other)
    )


def make_tree(release: Release, folder: Path) -> None:
    """Write the course as the box has it.

    Args:
        release: The lesson.
        folder: An empty folder; ``course_lib`` and ``autograder`` will be in it.

    Raises:
        CourseError: The lesson imports what cannot be there.
    """
    holes = holes_of(release.number)
    folder.mkdir(parents=True, exist_ok=True)
    # Whoever owns it, a box is nobody's.
    folder.chmod(0o755)
    shutil.copytree(
        _LIBRARY, folder / "course_lib", ignore=shutil.ignore_patterns("__pycache__", "*.py[co]")
    )
    asked = _by_module((*others_of(release.number), *holes))
    for module, names in asked.items():
        if module.startswith("course_lib."):
            path = folder / _below(module)
            path.write_text(hollowed(path.read_text("utf-8"), names), "utf-8")
    for name in HOST_MODULES:
        module = f"autograder.{name.removesuffix('.__init__')}".removesuffix(".__init__")
        _write(folder, module, source_of(module))
    _write_imported(release, folder, asked)


def imported_by(release: Release) -> tuple[str, ...]:
    """Return the modules that the cells of a lesson import, each once, in their order."""
    found = (
        name
        for source in _code(release)
        for node in ast.walk(ast.parse(_python(source)))
        for name in _modules(node)
    )
    return tuple(dict.fromkeys(found))


def source_of(module: str) -> str:
    """Return the text of a module.

    Raises:
        CourseError: It is not installed.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise CourseError(f"the lesson needs {module}, which is not installed; run `make lab`")
    return Path(spec.origin).read_text("utf-8")


def _holes(exercise: Exercise, reference: Any) -> Iterator[Hole]:
    """Yield an answer of the course, if it is a definition that stands in a module."""
    if exercise.missing:
        raise CourseError(f"exercise {exercise.id} cannot be graded here: {exercise.missing}")
    written = plain(reference)
    if not isinstance(written, FunctionType | type) or "<" in written.__qualname__:
        return
    module = str(written.__module__)
    name = reference.__qualname__ if isinstance(reference, Method) else written.__qualname__
    text = text_of_definition(source_of(module), name)
    yield Hole(exercise.id, module, name, text)


def _by_module(holes: tuple[Hole, ...]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for hole in holes:
        found.setdefault(hole.module, {})[hole.qualname] = hole.exercise
    return found


def _write_imported(release: Release, folder: Path, asked: dict[str, dict[str, str]]) -> None:
    """Write what the lesson imports from ``autograder``, and what that needs from there."""
    wanted: dict[str, set[str]] = {}
    waiting = [each for source in _code(release) for each in _imported(_python(source))]
    while waiting:
        module, name = waiting.pop()
        if _is_host(module) or name in wanted.setdefault(module, set()):
            continue
        wanted[module].add(name)
        if module == "autograder.notebook" and name in _TOOLS:
            continue
        waiting += _imported(sliced(source_of(module), [name]))
    for module, names in wanted.items():
        tools = _NOTEBOOK if module == "autograder.notebook" else ""
        kept = names.difference(_TOOLS) if tools else names
        text = sliced(source_of(module), kept) if kept else ""
        cut = {name: ex for name, ex in asked.get(module, {}).items() if _defines(text, name)}
        _write(folder, module, _joined(tools, hollowed(text, cut)))


def _joined(tools: str, text: str) -> str:
    """Return two modules as one; what both need of the future comes first."""
    future = "from __future__ import annotations\n"
    return future + tools + text.replace(future, "")


def _defines(text: str, name: str) -> bool:
    top = name.partition(".")[0]
    return any(getattr(each, "name", None) == top for each in ast.parse(text).body)


def _imported(source: str) -> list[tuple[str, str]]:
    """Return what a text imports from ``autograder``: modules, and names in them."""
    return [
        (str(node.module), alias.name)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("autograder.")
        for alias in node.names
    ]


def _modules(node: ast.AST) -> list[str]:
    """Return the modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [str(node.module)] if isinstance(node, ast.ImportFrom) else []


def _code(release: Release) -> Iterator[str]:
    """Yield the cells of a lesson that hold code."""
    return (str(cell.source) for cell in release.cells if cell.cell_type == "code")


def _python(source: str) -> str:
    """Return a cell without magics."""
    return "\n".join(line for line in source.split("\n") if not line.startswith(("%", "!")))


def _is_host(module: str) -> bool:
    return module.removeprefix("autograder.") in HOST_MODULES


def _below(module: str) -> Path:
    """Return where a module is, below the folder of its package."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    parts = Path(*module.split("."))
    is_package = spec.submodule_search_locations is not None
    return parts / "__init__.py" if is_package else parts.with_suffix(".py")


def _write(folder: Path, module: str, text: str) -> None:
    path = folder / _below(module)
    path.parent.mkdir(parents=True, exist_ok=True)
    for parent in path.relative_to(folder).parents:
        package = folder / parent / "__init__.py"
        if parent.parts and not package.exists():
            package.write_text(f'"""What the box has of {parent}."""\n', "utf-8")
    path.write_text(text, "utf-8")
