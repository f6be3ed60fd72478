"""The lesson that is thrown away goes the whole way, from JupyterLab to the marks.

Its released notebook is opened as `course lab` opens it, every answer is typed into its cell, all
cells are run, and the notebook is saved. What passed is kept, and the engine runs on it. The saved
notebook is handed in: vanilla nbgrader and the proxy in another process give the same points.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

from autograder.build import holes
from autograder.checks.report import Report
from autograder.proxy.subject import RemoteSubject
from browser_lab import NotebookPage, Server, opened, running_lab
from course_lib.engine import LLM, EngineParts, SamplingParams
from nbgrader_course import Course

pytestmark = pytest.mark.browser

SLUG = "99_throw_away"
STUDENT = "thorough"
FULL = 5.0
WRONG = "99.6"
"""One answer is left wrong, so that the marks are no constant."""

A_FEW = ("99.3", "99.4", WRONG, "99.Q")
"""A function, a class, what is wrong, and a quiz."""

KEPT = {
    "BlockPool/touch.py",
    "BlockTable.py",
    "kv_bytes_per_token.py",
    "reshape_and_cache_kernel.py",
    "side_by_side.py",
    "softmax.py",
}
USED_BY_AN_ENGINE_ON_TRITON = {
    "BlockPool/touch.py",
    "BlockTable.py",
    "reshape_and_cache_kernel.py",
    "side_by_side.py",
}


def is_answer(cell: NotebookNode) -> bool:
    """Return whether a learner writes into a cell."""
    return cell.cell_type == "code" and bool(cell.metadata.get("nbgrader", {}).get("solution"))


def written(cell: NotebookNode) -> str:
    """Return what a learner has in an answer cell when it is solved."""
    lines = cell.source.split("\n")
    return "\n".join(line for line in lines if line.strip() not in (holes.BEGIN, holes.END))


@pytest.fixture(scope="module")
def lab(thrown_away: Any, chromium: str, tmp_path_factory: Any) -> Iterator[Server]:
    """JupyterLab on the workspace of a learner who has the lesson."""
    folder = tmp_path_factory.mktemp("whole")
    with running_lab(folder, "99", {"COURSE_ROOT": str(thrown_away.root)}) as server:
        yield server


@pytest.fixture(scope="module")
def solved(thrown_away: Any, browser: Any, lab: Server) -> Path:
    """The released notebook, solved in JupyterLab, run and saved."""
    path = f"{SLUG}/{SLUG}.ipynb"
    with opened(browser, lab, "/", path) as page:
        type_the_answers(page, thrown_away)
        page.run_all()
        page.screenshot("whole-way-solved")
        page.save()
    return lab.workspace / path


def type_the_answers(page: NotebookPage, thrown_away: Any) -> None:
    """Write each answer into its cell; one of them is wrong."""
    released = {cell.id: cell for cell in thrown_away.released.cells}
    for cell in filter(is_answer, thrown_away.solution.cells):
        text = written(cell)
        if cell.id == f"ex-{WRONG.replace('.', '-')}":
            text += "\n    return 0" if "return" not in text else ""
            text = text.replace("== 1", "== 2")
        page.replace(released[cell.id].source, text)


@pytest.fixture(scope="module")
def marks(solved: Path, thrown_away: Any) -> dict[str, float]:
    """What vanilla nbgrader gives for the saved notebook, by exercise."""
    course = Course(thrown_away.root, SLUG, timeout=240)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_ROOT", str(thrown_away.root))
        # nbgrader calls alembic by its name.
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        assert course.api.generate_assignment(SLUG)["success"]
        course.submit(STUDENT, nbformat.read(solved, 4))
        result = course.grade(STUDENT)
        assert result["success"], result
        points = course.points(STUDENT)
    return {
        exercise_id: float(points[f"check-ex-{exercise_id.replace('.', '-').lower()}"] or 0.0)
        for exercise_id in thrown_away.exercises
    }


def test_every_answer_is_checked_at_once_and_one_is_wrong(solved: Path, thrown_away: Any) -> None:
    outputs = "\n".join(
        output.data.get("text/html", "")
        for cell in nbformat.read(solved, 4).cells
        for output in cell.get("outputs", [])
        if output.output_type == "display_data"
    )
    verdicts = dict(re.findall(r'data-exercise="([^"]+)" data-verdict="([^"]+)"', outputs))
    expected = dict.fromkeys(thrown_away.exercises, "passed") | {WRONG: "not yet"}
    assert verdicts == expected


def test_what_passed_is_kept_in_the_workspace(solved: Path, lab: Server) -> None:
    home = lab.workspace / "my_engine"
    kept = {path.relative_to(home).as_posix() for path in home.rglob("*.py")}
    assert kept == KEPT


def test_the_engine_runs_on_what_was_kept(
    solved: Path, lab: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(parts: EngineParts | None) -> list[list[int]]:
        llm = LLM(attention_backend="triton", num_blocks=40, block_size=8, parts=parts)
        asked = SamplingParams(temperature=1.0, seed=7, max_tokens=2, n=2)
        # The second one shares the blocks of the first, and its answers share them again.
        for prompt in (PROMPT, PROMPT):
            [output] = llm.generate(prompt, asked, use_tqdm=False)
        return [list(each.token_ids) for each in output.outputs]

    expected = answers(EngineParts.reference())
    monkeypatch.setenv("COURSE_WORKSPACE", str(lab.workspace))
    home = lab.workspace / "my_engine"
    ran: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        # Triton's interpreter makes millions of calls: whose they are is asked afterwards.
        if event == "call":
            ran.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        found = answers(None)
    finally:
        sys.setprofile(None)
    assert found == expected
    used = {path.relative_to(home).as_posix() for path in map(Path, ran) if home in path.parents}
    assert used >= USED_BY_AN_ENGINE_ON_TRITON


PROMPT = "A block table says where keys are. "
"""More than one block of tokens, and few: the interpreter of Triton is watched call by call."""


def test_vanilla_nbgrader_gives_the_points_of_the_checks(
    marks: dict[str, float], thrown_away: Any
) -> None:
    assert marks == dict.fromkeys(thrown_away.exercises, FULL) | {WRONG: 0.0}


def test_the_proxy_gives_the_same_points(
    solved: Path, marks: dict[str, float], thrown_away: Any, tmp_path: Path
) -> None:
    """Of all others, ``test_every_kind`` shows that they earn in another process what they do."""
    module = tmp_path / "handed_in.py"
    module.write_text(thrown_away.module_of(nbformat.read(solved, 4)), encoding="utf-8")
    earned = {}
    for exercise_id in A_FEW:
        exercise = thrown_away.exercises[exercise_id]
        name = thrown_away.name_of(exercise_id)
        with RemoteSubject(module, name, timeout=max(60.0, exercise.patience)) as subject:
            finding = exercise.examine(subject, seed=4711)
        earned[exercise_id] = Report(exercise, finding).points
    assert earned == {exercise_id: marks[exercise_id] for exercise_id in A_FEW}
