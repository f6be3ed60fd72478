"""A checkout of its own with the lesson that is thrown away: built, released, at hand."""

import importlib.util
import re
import shutil
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from autograder import lessons
from autograder.build import notebooks as building
from autograder.checks.exercise import Exercise
from autograder.lessons.questions import bank

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
SLUG = "99_throw_away"
# They belong to a lesson, and run in it.
collect_ignore = ["checks", "solutions"]


@dataclass(frozen=True)
class ThrownAway:
    """The lesson that is thrown away.

    Attributes:
        root: The checkout that holds it.
        solution: The notebook with the answers.
        released: The notebook that a learner gets.
    """

    root: Path
    solution: NotebookNode
    released: NotebookNode

    @cached_property
    def exercises(self) -> dict[str, Exercise]:
        """Its exercises, by id."""
        return {exercise.id: exercise for exercise in lessons.exercises(99)}

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


def enter(patch: pytest.MonkeyPatch, root: Path) -> None:
    """Be in the checkout of the lesson: its checks are found too."""
    patch.setenv("COURSE_ROOT", str(root))
    patch.setattr(lessons, "__path__", [*lessons.__path__, str(root / "checks")])


@pytest.fixture(scope="session")
def thrown_away(tmp_path_factory):
    """The lesson, built in a checkout of its own."""
    root = tmp_path_factory.mktemp("course")
    for folder in ("checks", "solutions"):
        shutil.copytree(HERE / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(HERE / "question_banks", root / "grading" / "question_banks")
    shutil.copy(ROOT / "nbgrader_config.py", root)
    (root / "lessons").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, root)
        (source,) = building.sources()
        released = nbformat.read(building.build(source), 4)
        solution = nbformat.read(building.solution_path(source), 4)
    return ThrownAway(root, solution, released)


@pytest.fixture(autouse=True)
def in_its_checkout(thrown_away, monkeypatch):
    """Every test of this folder is in the checkout of the lesson."""
    enter(monkeypatch, thrown_away.root)
    yield
    # Question banks are remembered by their lesson, and elsewhere there is no lesson 99.
    bank.cache_clear()


@pytest.fixture(scope="session")
def written(thrown_away, tmp_path_factory):
    """The answers of the solution and of the released notebook, as files and as modules."""
    folder = tmp_path_factory.mktemp("answers")
    loaded = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("solution", "released"):
            # What the setup cell does to find the checks ends with this block.
            enter(patch, thrown_away.root)
            path = folder / f"{name}_answers.py"
            source = thrown_away.module_of(getattr(thrown_away, name))
            path.write_text(source, encoding="utf-8")
            spec = importlib.util.spec_from_file_location(path.stem, path)
            module = importlib.util.module_from_spec(spec)
            # It stays: a class is found in its module when its source is asked for.
            sys.modules[path.stem] = module
            spec.loader.exec_module(module)
            loaded[name] = (path, module)
    return loaded
