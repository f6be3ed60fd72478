"""Kill real graders and their workers at random moments, and compare what comes of it: by hand.

``PYTHONPATH=. python tests/shared/kill_campaign.py FOLDER --kills 50 --whom grader`` grades the
samples of a lesson in boxes in ``FOLDER``, kills ``course grade`` again and again until it has come
to its end, compares the gradebook with that of an undisturbed run, and begins anew, until there
were so many kills. ``--whom worker`` kills workers, judges and warm processes below it instead.
"""

from __future__ import annotations

import argparse
import contextlib
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

from autograder.bench import grading as bench
from autograder.sealed.store import Store

LESSON = bench.LESSON
STUDENTS, WORKERS = 3, 2
_COURSE = "from autograder.cli import main; main()"
PAUSE = {"grader": 70.0, "worker": 15.0}
"""Seconds from one kill to the next, at most."""


def set_up(root: Path) -> None:
    """Make the course, and hand in copies of its samples whose answers are written anew."""
    root.mkdir(parents=True)
    bench._set_up(root, LESSON)
    released = bench.read_notebook(bench.release_path(LESSON), "build it")
    samples = bench._samples(LESSON)
    notebooks = (
        bench._with_own_answers(samples[number % len(samples)], number, released)
        for number in range(STUDENTS)
    )
    bench._hand_in(root / "submitted", LESSON, notebooks)
    shutil.copy(root / "gradebook.db", root / "gradebook.empty")


def start_again(root: Path) -> None:
    """Take away what grading has made; the secret stays, so that all runs draw the same cases."""
    for name in ("results/results", "grading/autograded"):
        shutil.rmtree(root / name, ignore_errors=True)
    for path in [*(root / "results").glob("*.*"), *root.glob("gradebook.db*")]:
        path.unlink()
    shutil.copy(root / "gradebook.empty", root / "gradebook.db")


def started(root: Path, workers: int) -> subprocess.Popen[bytes]:
    """Start ``course grade`` in the course."""
    command = [sys.executable, "-c", _COURSE, "grade", LESSON, "--workers", str(workers)]
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


def victims(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the processes below a grader that run Python."""
    with contextlib.suppress(psutil.NoSuchProcess):
        below = psutil.Process(process.pid).children(recursive=True)
        return [each for each in below if "python" in each.name().lower()]
    return []


def survivors(root: Path) -> list[str]:
    """Return what still runs of a grader that is dead, after it had time to notice."""
    deadline = time.monotonic() + 30
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


def undisturbed(root: Path) -> object:
    """Return what a run gives to which nothing happens; it is kept for the next campaign."""
    kept = root / "undisturbed.json"
    if not kept.exists():
        start_again(root)
        began = time.monotonic()
        assert started(root, WORKERS).wait() == 0, (root / "said.txt").read_text()[-2000:]
        kept.write_text(json.dumps(results(root)))
        print(f"undisturbed: {time.monotonic() - began:.0f} s", flush=True)
    return json.loads(kept.read_text())


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
    expected, pause = undisturbed(root), PAUSE[given.whom]
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
        same = json.loads(json.dumps(results(root))) == expected
        rounds += 1
        print(f"round {rounds}: {here} kills, {runs} runs, the same: {same}", flush=True)
        assert same
    print(f"{kills} kills of {given.whom}s in {rounds} rounds: all the same", flush=True)


if __name__ == "__main__":
    main()
