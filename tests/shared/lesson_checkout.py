"""A lesson in a checkout of its own, where its checks are found and it is built and released."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbformat import NotebookNode

from autograder import lessons
from autograder.build import notebooks as building
from autograder.checks.exercise import Exercise

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class LessonCheckout:
    """A lesson that was built in a checkout of its own.

    Attributes:
        root: The checkout that holds it.
        number: The lesson.
        solution: The notebook with the answers.
        released: The notebook that a learner gets.
    """

    root: Path
    number: int
    solution: NotebookNode
    released: NotebookNode

    @cached_property
    def exercises(self) -> dict[str, Exercise]:
        """Its exercises, by id."""
        return {exercise.id: exercise for exercise in lessons.exercises(self.number)}

    def name_of(self, exercise_id: str) -> str:
        """Return the name that the check cell of an exercise passes on."""
        pattern = re.compile(rf'check\("{re.escape(exercise_id)}", (\w+)\)')
        found = [
            match[1] for cell in self.solution.cells for match in pattern.finditer(cell.source)
        ]
        assert len(found) == 1, exercise_id
        return found[0]

    def module_of(self, notebook: NotebookNode) -> str:
        """Return a module that the setup cell and the answer cells of a notebook make."""
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        answers = [cell for cell in code if cell.metadata.get("nbgrader", {}).get("solution")]
        return "\n\n\n".join(cell.source for cell in [code[0], *answers])

    def file_of(self, notebook: NotebookNode, exercise_id: str, folder: Path) -> Path:
        """Write a module of the setup cell and one answer: a process imports what that needs."""
        answer = f"ex-{exercise_id.replace('.', '-').lower()}"
        setup = next(cell for cell in notebook.cells if cell.cell_type == "code")
        (cell,) = [cell for cell in notebook.cells if cell.id == answer]
        path = folder / f"{answer}.py"
        path.write_text(f"{setup.source}\n\n\n{cell.source}", encoding="utf-8")
        return path

    def answers(self, folder: Path) -> dict[str, tuple[Path, ModuleType]]:
        """Write and load the answers of the solution and of the released notebook.

        Args:
            folder: Where the files go.

        Returns:
            For ``"solution"`` and ``"released"``, the file and the module.
        """
        loaded = {}
        with pytest.MonkeyPatch.context() as patch:
            for name in ("solution", "released"):
                # What the setup cell does to find the checks ends with this block.
                enter(patch, self.root)
                path = folder / f"{name}_answers_{self.number}.py"
                path.write_text(self.module_of(getattr(self, name)), encoding="utf-8")
                spec = importlib.util.spec_from_file_location(path.stem, path)
                assert spec is not None
                assert spec.loader is not None
                module = importlib.util.module_from_spec(spec)
                # It stays: a class is found in its module when its source is asked for.
                sys.modules[path.stem] = module
                spec.loader.exec_module(module)
                loaded[name] = (path, module)
        return loaded


def enter(patch: pytest.MonkeyPatch, root: Path) -> None:
    """Be in the checkout of a lesson: its checks are found too."""
    patch.setenv("COURSE_ROOT", str(root))
    patch.setattr(lessons, "__path__", [*lessons.__path__, str(root / "checks")])


def build_lesson(root: Path) -> LessonCheckout:
    """Build the one lesson of a checkout that has ``checks``, ``solutions`` and a question bank."""
    shutil.copy(ROOT / "nbgrader_config.py", root)
    (root / "lessons").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, root)
        (source,) = building.sources()
        released = nbformat.read(building.build(source), 4)
        solution = nbformat.read(building.solution_path(source), 4)
    return LessonCheckout(root, int(source.stem[:2]), solution, released)
