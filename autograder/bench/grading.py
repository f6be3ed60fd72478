"""How fast a class is graded: ``course bench grading``.

A class hands in copies of the samples of one lesson: all right, partly right, untouched. It is
graded by ``course grade`` with two workers, once with copies that differ in nothing but whose they
are and in a text, and once with copies in which each answer was written anew, so that no verdict
can be shared. ``nbgrader autograde`` grades the first few of the same copies in the same run. All
that an instructor waits for counts: programs that start, canaries, the gradebook, a box around
each exercise. Then ``course grade`` runs once more, with nothing to do.
"""

from __future__ import annotations

import itertools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode
from rich.table import Table

from autograder.bench.suite import OnStep
from autograder.build.notebooks import release_path, solution_notebook, sources
from autograder.build.samples import samples
from autograder.errors import CourseError
from autograder.files import write_atomically
from autograder.matching import is_answer, is_marked
from autograder.notebook_files import notebook_bytes, read_notebook
from autograder.paths import course_root

LESSON = "01_traditional_attention_problems"
COPIES, BY_NBGRADER, WORKERS = 60, 6, 2

_COURSE = "from autograder.cli import main; main()"


@dataclass(frozen=True)
class GradingTime:
    """What one way of grading took.

    Attributes:
        how: Who graded what.
        copies: How many submissions there were.
        seconds: What it took, by the clock.
        ratio: Submissions per minute over those of nbgrader; None for nbgrader itself, and where
            nothing was left to do.
    """

    how: str
    copies: int
    seconds: float
    ratio: float | None = None

    @property
    def per_minute(self) -> float:
        """Submissions in a minute."""
        return 60 * self.copies / self.seconds


@dataclass(frozen=True)
class GradingReport:
    """What a run found, and on what."""

    machine: str
    lesson: str
    rows: tuple[GradingTime, ...]

    def table(self) -> Table:
        """Return a table with a line for each way of grading."""
        table = Table(title=f"course bench grading: {self.lesson}", caption=self.machine)
        table.add_column("graded by")
        for column in ("submissions", "seconds", "per minute", "times nbgrader"):
            table.add_column(column, justify="right")
        for row in self.rows:
            ratio = "" if row.ratio is None else f"{row.ratio:.1f}"
            numbers = f"{row.seconds:.1f}", f"{row.per_minute:.1f}", ratio
            table.add_row(row.how, str(row.copies), *numbers)
        return table


def run_grading_suite(
    on_step: OnStep = lambda done, total: None,
    lesson: str = LESSON,
    copies: int = COPIES,
    by_nbgrader: int = BY_NBGRADER,
) -> GradingReport:
    """Measure both ways of grading on the same submissions.

    Args:
        on_step: Called with the gradings done and the gradings in all.
        lesson: The lesson that is handed in.
        copies: How many submissions there are.
        by_nbgrader: How many of them nbgrader grades; each takes it as long as the one before.

    Raises:
        CourseError: The lesson is not there, or a program fails.
    """
    with tempfile.TemporaryDirectory(prefix="course-bench-") as folder:
        root = Path(folder)
        _set_up(root, lesson)
        notebooks = list(itertools.islice(itertools.cycle(_samples(lesson)), copies))
        _hand_in(root / "copies", lesson, map(_with_own_text, notebooks, itertools.count()))
        released = itertools.repeat(read_notebook(release_path(lesson), "run `course build`"))
        anew = map(_with_own_answers, notebooks, itertools.count(), released)
        _hand_in(root / "own", lesson, anew)
        shared = root / "grading" / "submitted"
        shared.mkdir(parents=True)
        for each in sorted((root / "copies").iterdir())[:by_nbgrader]:
            shutil.copytree(each, shared / each.name)
        nbgrader = _timed(root, "-m", "nbgrader", "autograde", lesson)
        on_step(1, 4)
        rows = [GradingTime("nbgrader autograde", by_nbgrader, nbgrader)]
        for done, (how, name) in enumerate(
            (("answers that are alike", "copies"), ("answers written anew", "own")), start=2
        ):
            asked = ["-c", _COURSE, "grade", lesson, "--workers", str(WORKERS)]
            asked += ["--submitted", str(root / name), "--results", str(root / f"{name}-results")]
            rows.append(GradingTime(f"course grade, {how}", copies, _timed(root, *asked)))
            on_step(done, 4)
        again = GradingTime("course grade, once more", copies, _timed(root, *asked))
        on_step(4, 4)
    pace = rows[0].per_minute
    compared = [rows[0]]
    for row in rows[1:]:
        compared.append(GradingTime(row.how, row.copies, row.seconds, row.per_minute / pace))
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors"
    return GradingReport(
        f"{machine}, Python {platform.python_version()}", lesson, (*compared, again)
    )


def _set_up(root: Path, lesson: str) -> None:
    """Make a course directory with one lesson, released to an empty gradebook."""
    source = next((each for each in sources() if each.stem == lesson), None)
    if source is None:
        raise CourseError(f"solutions/{lesson}.py is not there; measure in the full checkout")
    for name in ("lessons", "solutions"):
        (root / name).mkdir()
    shutil.copytree(course_root() / "lessons" / lesson, root / "lessons" / lesson)
    shutil.copy(source, root / "solutions")
    solution = root / "solutions" / lesson / f"{lesson}.ipynb"
    write_atomically(solution, notebook_bytes(solution_notebook(source)))
    for name in ("samples", "question_banks"):
        shutil.copytree(course_root() / "grading" / name, root / "grading" / name)
    shutil.copy(course_root() / "nbgrader_config.py", root)
    _timed(root, "-m", "nbgrader", "generate_assignment", lesson, "--force")
    # Byte for byte: what it wrote has another order of the same fields.
    shutil.copy(release_path(lesson), root / "lessons" / lesson)


def _samples(lesson: str) -> list[NotebookNode]:
    (source,) = (each for each in sources() if each.stem == lesson)
    return [each.notebook for each in samples(source)]


def _hand_in(folder: Path, lesson: str, notebooks: Iterable[NotebookNode]) -> None:
    for number, notebook in enumerate(notebooks):
        path = folder / f"student{number:04}" / lesson / f"{lesson}.ipynb"
        write_atomically(path, notebook_bytes(notebook))


def _with_own_text(notebook: NotebookNode, number: int) -> NotebookNode:
    """Return a copy whose texts nobody else has written."""
    changed = NotebookNode(notebook)
    changed.cells = [NotebookNode(cell) for cell in notebook.cells]
    for cell in changed.cells:
        if is_marked(cell):
            cell.source = f"{cell.source}\n\nThis is what number {number} says."
    return changed


def _with_own_answers(notebook: NotebookNode, number: int, released: NotebookNode) -> NotebookNode:
    """Return a copy whose answers nobody else has written, character for character."""
    stubs = {cell.source for cell in released.cells}
    changed = _with_own_text(notebook, number)
    for cell in changed.cells:
        if is_answer(cell) and cell.cell_type == "code" and cell.source not in stubs:
            cell.source = f"{cell.source}\n# Number {number} wrote this."
    return changed


def _timed(root: Path, *arguments: str) -> float:
    """Run Python in a course directory; return the seconds that it took.

    Raises:
        CourseError: It fails.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    here = str(Path(__file__).parents[2])
    environment = {**os.environ, "COURSE_ROOT": str(root), "PATH": path, "PYTHONPATH": here}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise CourseError(f"{' '.join(arguments[:4])} failed: {said}")
    return seconds
