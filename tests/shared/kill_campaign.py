"""Kill real graders and their workers at random moments, and compare what comes of it: by hand.

``PYTHONPATH=. python tests/shared/kill_campaign.py FOLDER --kills 50 --whom grader`` grades a
class of a small lesson in boxes in ``FOLDER``, kills ``course grade`` again and again until it
has come to its end, compares the gradebook with that of an undisturbed run, and begins anew, until
there were so many kills. ``--whom worker`` kills workers, judges and warm processes instead.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from autograder import cli
from autograder.files import write_atomically
from autograder.matching import grade_id, nbgrader_metadata
from autograder.notebook_files import notebook_bytes, read_notebook
from autograder.paths import course_root
from autograder.sealed import batch
from autograder.sealed.canaries import RIGHT, UNTOUCHED
from autograder.sealed.gradebook import COURSE
from autograder.sealed.intake import Submission, graded_cells
from autograder.sealed.release import Release, load_release
from autograder.sealed.store import Store

LESSON, SOURCE = "01_one", "01_traditional_attention_problems"
STUDENTS, WORKERS = 12, 2
PAUSE = {"grader": 1.0, "worker": 0.2}
"""The time from one kill to the next, at most: a share of what an undisturbed run takes."""

WRONG = "partly_right"
KEPT = ("ex-1-1", "check-ex-1-1", "answer-1-6")
SETUP = (
    "from autograder.notebook import check\n"
    "from course_lib.specs import GPUS, MODELS, GPUSpec, ModelSpec"
)


def notebook(name: str, number: int | None = None) -> NotebookNode:
    """Return a sample's answers to an exercise and to a text; written anew if numbered."""
    # Who is started to grade reads what is written here, and needs no sample.
    from autograder.build.notebooks import sources
    from autograder.build.samples import samples

    (source,) = (each for each in sources() if each.stem == SOURCE)
    (found,) = (each.notebook for each in samples(source) if each.student == name)
    cells = [new_code_cell(SETUP, id="setup")]
    cells += [copy.deepcopy(cell) for cell in found.cells if grade_id(cell) in KEPT]
    for cell in cells:
        if grade_id(cell) == "ex-1-1" and name == WRONG:
            cell.source = cell.source.replace("2 * ", "")
        if grade_id(cell) == "ex-1-1" and number is not None:
            cell.source += f"\n# Number {number} wrote this."
    return new_notebook(cells=cells)


def canary(root: Path, name: str) -> Path:
    """Return where a canary is kept."""
    return root / "canaries" / f"{name}.ipynb"


def known_submissions(release: Release) -> dict[str, Submission]:
    """Return the canaries: all right, and nothing written."""
    found = {}
    for name in (RIGHT, UNTOUCHED):
        cells = read_notebook(canary(course_root(), name), "set the course up anew").cells
        found[name] = Submission(name, LESSON, graded_cells(cells, release)[0])
    return found


def set_up(root: Path, students: int = STUDENTS) -> None:
    """Make a course of one lesson with one exercise, and let a class hand it in."""
    from nbgrader.api import Gradebook

    path = root / "lessons" / LESSON / f"{LESSON}.ipynb"
    write_atomically(path, notebook_bytes(notebook(UNTOUCHED)))
    for name in (RIGHT, UNTOUCHED):
        write_atomically(canary(root, name), notebook_bytes(notebook(name)))
    names = itertools.cycle([RIGHT, WRONG, UNTOUCHED, RIGHT])
    for number, name in zip(range(students), names, strict=False):
        student = root / "submitted" / f"student{number:02}" / LESSON / f"{LESSON}.ipynb"
        write_atomically(student, notebook_bytes(notebook(name, number)))
    shutil.copytree(course_root() / "grading" / "question_banks", root / "grading/question_banks")
    with Gradebook(f"sqlite:///{root / 'gradebook.empty'}", COURSE) as gradebook:
        gradebook.add_assignment(LESSON)
        gradebook.add_notebook(LESSON, LESSON)
        for cell in load_release(path).cells:
            roles = nbgrader_metadata(cell)
            if roles.get("grade"):
                points, kind = roles["points"], cell.cell_type
                gradebook.add_grade_cell(
                    roles["grade_id"], LESSON, LESSON, max_score=points, cell_type=kind
                )


def grade() -> None:
    """Run ``course grade`` with the canaries of this lesson: what is started, and killed."""
    batch.canaries = known_submissions
    cli.main()


def start_again(root: Path) -> None:
    """Take away what grading has made; the secret stays, so that all runs draw the same cases."""
    for name in ("results/results", "grading/autograded"):
        shutil.rmtree(root / name, ignore_errors=True)
    for path in [*(root / "results").glob("*.*"), *root.glob("gradebook.db*")]:
        path.unlink()
    shutil.copy(root / "gradebook.empty", root / "gradebook.db")


def started(root: Path, workers: int | None, *options: str) -> subprocess.Popen[bytes]:
    """Start ``course grade`` in the course, with so many workers of its own."""
    command = [sys.executable, __file__, "grade", LESSON, *options]
    command += [] if workers is None else ["--workers", str(workers)]
    command += ["--submitted", str(root / "submitted"), "--results", str(root / "results")]
    environment = {**os.environ, "COURSE_ROOT": str(root)}
    with (root / "said.txt").open("ab") as said:
        return subprocess.Popen(
            command, cwd=root, env=environment, stdout=said, stderr=said, start_new_session=True
        )


def results(root: Path) -> tuple[object, ...]:
    """Return what the gradebook, the log and the notebooks hold, but for times."""
    with contextlib.closing(sqlite3.connect(root / "gradebook.db")) as database:
        rows = database.execute(
            "SELECT s.student_id, c.name, g.auto_score, g.manual_score, g.needs_manual_grade "
            "FROM grade g JOIN submitted_notebook n ON g.notebook_id = n.id "
            "JOIN submitted_assignment s ON n.assignment_id = s.id "
            "JOIN base_cell c ON g.cell_id = c.id ORDER BY 1, 2"
        ).fetchall()
    store = Store(root / "results")
    keys = sorted(entry.key for entry in store.entries())
    lines = len((root / "results" / "log.jsonl").read_text().splitlines())
    shown = sorted((root / "grading" / "autograded").rglob("*.ipynb"))
    points = (root / "results" / f"{LESSON}.csv").read_text()
    return rows, keys, lines, points, [each.read_text() for each in shown], store.audit()


def as_json(found: object) -> object:
    """Return results as they are kept for the next campaign."""
    return json.loads(json.dumps(found))


def victims(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the processes below a grader that run Python, but for those in boxes.

    What is killed in a box looks as if the submission had done it, and is judged so.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        below = psutil.Process(process.pid).children(recursive=True)
        return [each for each in below if "python" in each.name().lower() and not is_boxed(each)]
    return []


def is_boxed(process: psutil.Process) -> bool:
    """Say whether a process is in a box, or gone."""
    try:
        theirs = Path(f"/proc/{process.pid}/ns/pid").readlink()
    except OSError:
        return True
    return theirs != Path("/proc/self/ns/pid").readlink()


def survivors(root: Path) -> list[str]:
    """Return what still runs of a grader that is dead, after it had time to notice."""
    deadline = time.monotonic() + 150
    while True:
        # Programs in the box have no environment that tells; a box lies below these.
        left = [
            " ".join(each.info["cmdline"] or [])[:100]
            for each in psutil.process_iter(["cmdline", "environ"])
            if (each.info["environ"] or {}).get("COURSE_ROOT") == str(root)
        ]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.2)


def undisturbed(root: Path, workers: int = WORKERS) -> tuple[object, float]:
    """Return what a run gives to which nothing happens, and the seconds that it takes.

    It is kept for the next campaign.
    """
    kept = root / "undisturbed.json"
    if not kept.exists():
        start_again(root)
        began = time.monotonic()
        assert started(root, workers).wait() == 0, (root / "said.txt").read_text()[-2000:]
        seconds = time.monotonic() - began
        kept.write_text(json.dumps([results(root), seconds]))
        print(f"undisturbed: {seconds:.0f} s", flush=True)
    found, seconds = json.loads(kept.read_text())
    return found, float(seconds)


def main() -> None:
    """Run the campaign."""
    asked = argparse.ArgumentParser()
    asked.add_argument("folder", type=Path)
    asked.add_argument("--kills", type=int, default=50)
    asked.add_argument("--whom", choices=("grader", "worker"), default="grader")
    asked.add_argument("--seed", type=int, default=1)
    given = asked.parse_args()
    root = given.folder.absolute()
    if not root.exists():
        set_up(root)
    expected, seconds = undisturbed(root)
    pause = PAUSE[given.whom] * seconds
    moments, kills, rounds = random.Random(given.seed), 0, 0
    while kills < given.kills:
        start_again(root)
        runs, here = 0, 0
        while True:
            runs += 1
            process = started(root, WORKERS)
            deadline = time.monotonic() + moments.uniform(0, pause)
            while process.poll() is None and kills < given.kills:
                if time.monotonic() >= deadline:
                    found = [process] if given.whom == "grader" else victims(process)
                    if found:
                        with contextlib.suppress(psutil.NoSuchProcess):
                            moments.choice(found).kill()
                            kills, here = kills + 1, here + 1
                    deadline = time.monotonic() + moments.uniform(0, pause)
                time.sleep(0.01)
            code = process.wait()
            left = survivors(root)
            assert not left, left
            if code == 0:
                break
        same = as_json(results(root)) == expected
        rounds += 1
        print(f"round {rounds}: {here} kills, {runs} runs, the same: {same}", flush=True)
        assert same
    print(f"{kills} kills of {given.whom}s in {rounds} rounds: all the same", flush=True)


if __name__ == "__main__":
    grade() if sys.argv[1] == "grade" else main()
