"""Submissions whose points are known, graded with each class: a run that gets them wrong is none.

They are the course's own answers, nothing written, and two attacks: to import what is asked for,
and to give back something that says it is equal to everything.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from nbformat import NotebookNode

from autograder.build.notebooks import sources
from autograder.build.samples import samples
from autograder.errors import CourseError
from autograder.matching import grade_id
from autograder.sealed.intake import Submission, graded_cells
from autograder.sealed.release import Release
from autograder.sealed.stubs import holes_of
from autograder.sealed.verdict import Status, Verdict

RIGHT, UNTOUCHED = "all_right", "untouched"
BORROWED, AGREEABLE = "borrowed", "agreeable"

_AGREES = """
class Agreeable(float):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __gt__ = __le__ = __ge__ = __contains__ = __lt__
    def __hash__(self): return 0
    def __call__(self, *args, **kwargs): return self
    def __getattr__(self, name): return self
    def __getitem__(self, key): return self
    def __iter__(self): return iter([self])
    def __len__(self): return 1
{name} = Agreeable(1)
"""


def canaries(release: Release) -> dict[str, Submission]:
    """Return the submissions whose points are known, by name.

    Args:
        release: The lesson; its source, with the course's answers, is in ``solutions/``.

    Raises:
        CourseError: The source is not there, or is not what the lesson was built from.
    """
    source = next((each for each in sources() if each.stem == release.lesson), None)
    if source is None:
        raise CourseError(
            f"solutions/{release.lesson}.py is not there, with which grading tests itself; grade "
            "in the instructor's checkout"
        )
    found = {sample.student: sample.notebook.cells for sample in samples(source)}
    holes = {hole.exercise: hole for hole in holes_of(release.number)}
    borrowed, agreeable = {}, {}
    for asked in release.asked:
        agreeable[asked.answer_id] = _AGREES.format(name=asked.name)
        if hole := holes.get(asked.exercise):
            borrowed[asked.answer_id] = _borrowing(hole.module, hole.qualname, asked.name)
    cells = {
        RIGHT: found[RIGHT],
        UNTOUCHED: found[UNTOUCHED],
        BORROWED: _with(found[UNTOUCHED], borrowed),
        AGREEABLE: _with(found[UNTOUCHED], agreeable),
    }
    return {
        name: Submission(name, release.lesson, graded_cells(each, release)[0])
        for name, each in cells.items()
    }


def deviations(release: Release, judged: Mapping[str, Sequence[Verdict]]) -> list[str]:
    """Return what canaries should not have got, a line each.

    Args:
        release: The lesson.
        judged: The verdicts, by canary.
    """
    points = {asked.check_id: asked.points for asked in release.asked}
    found = []
    for name, verdicts in judged.items():
        for verdict in verdicts:
            if not points.get(verdict.grade_id):
                continue
            is_right = verdict.status is Status.PASS
            if name == RIGHT and not is_right:
                said = f"{verdict.status} {verdict.message}".rstrip()
                found.append(f"the course's own answer to {verdict.exercise} got {said}")
            elif name != RIGHT and verdict.fraction > 0:
                share = f"{verdict.fraction:.0%} of {verdict.exercise}"
                found.append(f"the submission {name!r}, which is worth nothing, got {share}")
    return found


def _borrowing(module: str, qualname: str, name: str) -> str:
    """Return a cell that imports the course's answer under the name that is asked for."""
    top, _, rest = qualname.partition(".")
    return f"import {module}\n{name} = {module}.{top}{'.' + rest if rest else ''}"


def _with(cells: Sequence[NotebookNode], answers: Mapping[str, str]) -> list[NotebookNode]:
    """Return cells with other answers."""
    changed = copy.deepcopy(list(cells))
    for cell in changed:
        cell.source = answers.get(str(grade_id(cell)), cell.source)
    return changed
