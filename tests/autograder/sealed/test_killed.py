"""Whatever ends a grader, and wherever: run again, it gives what an undisturbed one gives."""

from __future__ import annotations

import ctypes
import json
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autograder.sealed.store import Store
from disk_moments import NEVER, Disk, Moment, in_a_process, is_full, is_killed, watched

Course = Callable[..., tuple[int, str]]

_NEW_USERS_AND_MOUNTS = 0x10000000 | 0x00020000
_FOR_A_FOLDER = ("make folder RESULT", "fsync results")
"""Two results share a folder if their hashes begin alike: only the first is sure to come."""

_TABLES = ("student", "submitted_assignment", "submitted_notebook", "grade", "comment")


class Class:
    """A class that is graded, and what came of it.

    Args:
        root: The folder of the course.
        course: ``course grade``.
        untouched: A copy of the folder before anything was graded.
    """

    def __init__(self, root: Path, course: Course, untouched: Path) -> None:
        self.root, self.course = root, course
        self._untouched = untouched
        shutil.copytree(root, untouched)

    def start_again(self) -> None:
        """Take away all that grading has made."""
        for name in ("sealed", "grading"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        for path in self.root.glob("gradebook.db*"):
            path.unlink()
        shutil.copytree(self._untouched, self.root, dirs_exist_ok=True)

    def grade(self) -> None:
        """Run ``course grade`` to its end."""
        code, said = self.course()
        assert code == 0, said

    def results(self) -> dict[str, Any]:
        """Return all that grading has made and that does not depend on when."""
        store = Store(self.root / "sealed")
        assert store.audit() == []
        lines = (store.folder / "log.jsonl").read_text().splitlines()
        about = sorted(
            (json.loads(each)["student"], json.loads(each)["submission"]) for each in lines
        )
        shown = {
            str(path.relative_to(self.root)): path.read_text("utf-8")
            for path in sorted(self.root.glob("grading/autograded/*/*/*.ipynb"))
        }
        points = (store.folder / "01_small.csv").read_text("utf-8")
        return {"log": about, "shown": shown, "csv": points, "grades": self.grades()}

    def grades(self) -> dict[str, Any]:
        """Return what the gradebook holds."""
        with sqlite3.connect(self.root / "gradebook.db") as database:
            rows = database.execute(
                "SELECT s.student_id, c.name, g.auto_score, g.manual_score, g.needs_manual_grade "
                "FROM grade g JOIN submitted_notebook n ON g.notebook_id = n.id "
                "JOIN submitted_assignment s ON n.assignment_id = s.id "
                "JOIN base_cell c ON g.cell_id = c.id ORDER BY 1, 2"
            ).fetchall()
            sizes = {
                table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in _TABLES
            }
        database.close()
        return {"rows": rows, "sizes": sizes}

    def whole(self) -> None:
        """Assert that no student stands half in the gradebook."""
        rows = self.grades()["rows"]
        by_student: dict[str, list[tuple[Any, ...]]] = {}
        for student, *others in rows:
            by_student.setdefault(student, []).append(tuple(others))
        for others in by_student.values():
            assert all(auto is not None or waits for _, auto, _, waits in others), others


@pytest.fixture
def graded_class(
    course: Course, database: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Class:
    return Class(tmp_path, course, tmp_path_factory.mktemp("class") / "untouched")


@pytest.fixture
def undisturbed(graded_class: Class) -> dict[str, Any]:
    """What an undisturbed run gives."""
    graded_class.grade()
    found = graded_class.results()
    assert len(found["log"]) == 4
    assert len(found["grades"]["rows"]) == 9
    graded_class.start_again()
    return found


def moments_of(graded_class: Class) -> list[str]:
    """Return what a run does to the disk."""
    with watched(NEVER, lambda disk: None) as disk:
        graded_class.grade()
    graded_class.start_again()
    return disk.moments


def test_a_run_has_the_moments_that_count(graded_class: Class) -> None:
    moments = " | ".join(moments_of(graded_class))
    assert len(chosen(moments.split(" | "), 1)) < 60
    for said in (
        "make folder results",
        "rename to secret",
        "write the other half of it | fsync log.jsonl",
        "rename to 01_small.csv",
        "rename to 01_small.ipynb",
        "rename to 01_small.shown.json",
        "gradebook: INSERT INTO student",
        "gradebook: UPDATE grade",
        "gradebook: commit",
    ):
        assert said in moments


def chosen(moments: list[str], seed: int) -> list[Moment]:
    """Return one moment of each kind, drawn where there are several."""
    draw = random.Random(seed)
    return [
        (name, 0 if name in _FOR_A_FOLDER else draw.randrange(moments.count(name)))
        for name in dict.fromkeys(moments)
    ]


def goes_out(graded_class: Class) -> Callable[[Disk], None]:
    """Return what a power cut does."""

    def power_cut(disk: Disk) -> None:
        disk.lose_what_was_not_synced(graded_class.root / "sealed")
        is_killed(disk)

    return power_cut


def test_killed_at_any_moment_and_run_again(
    graded_class: Class, undisturbed: dict[str, Any]
) -> None:
    moments = moments_of(graded_class)
    for at in chosen(moments, 1):
        assert ends_at(graded_class, at, is_killed) == -9, at
        graded_class.whole()
        graded_class.grade()
        assert graded_class.results() == undisturbed, at
        graded_class.start_again()


def test_the_power_goes_at_any_moment(graded_class: Class, undisturbed: dict[str, Any]) -> None:
    moments = moments_of(graded_class)
    for at in chosen(moments, 3):
        assert ends_at(graded_class, at, goes_out(graded_class)) == -9, at
        # What the log tells of is there: nothing that counts was lost.
        audit = Store(graded_class.root / "sealed").audit()
        assert all("is not in the log" in each for each in audit), (at, audit)
        graded_class.grade()
        assert graded_class.results() == undisturbed, at
        graded_class.start_again()


def ends_at(graded_class: Class, at: Moment, happens: Callable[[Disk], None]) -> int:
    """Run a grader to which something happens at a moment; return how it ended."""

    def run() -> None:
        with watched(at, happens):
            graded_class.grade()

    return in_a_process(run)


def test_the_disk_is_full_at_any_moment(graded_class: Class, undisturbed: dict[str, Any]) -> None:
    moments = moments_of(graded_class)
    for at in chosen(moments, 4):
        with watched(at, is_full):
            code, said = graded_class.course()
        assert code == 0 or "No space left" in said or "full" in said, (at, said)
        assert code == 1 or at[0].startswith("fsync"), at
        audit = Store(graded_class.root / "sealed").audit()
        assert all("is not in the log" in each for each in audit), (at, audit)
        graded_class.whole()
        graded_class.grade()
        assert graded_class.results() == undisturbed, at
        graded_class.start_again()


def test_a_disk_that_is_really_full(
    graded_class: Class, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """The course lies on a disk that is full, and has one page more room each time."""
    page = os.sysconf("SC_PAGESIZE")
    outside = tmp_path.parent / f"{tmp_path.name}-found.json"

    def run() -> None:
        small_disk(tmp_path, size=2 * 2**20)
        graded_class.start_again()
        ballast, said = tmp_path / "ballast", []
        with ballast.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(b"x" * page)
                except OSError:
                    break
        while True:
            code, words = graded_class.course()
            said.append(words)
            if code == 0:
                break
            os.truncate(ballast, ballast.stat().st_size - page)
        outside.write_text(json.dumps([said, graded_class.results()]))

    code = in_a_process(run)
    if not outside.exists() and code:
        pytest.skip("this machine gives no disk of a size of its own")
    said, found = json.loads(outside.read_text("utf-8"))
    assert len(said) > 5
    assert all("No space left" in each or "full" in each for each in said[:-1])
    assert found == json.loads(json.dumps(undisturbed))


def small_disk(path: Path, size: int) -> None:
    """Let this process alone see an empty disk of a size in bytes at a path."""
    libc, user = ctypes.CDLL(None, use_errno=True), os.getuid()
    if libc.unshare(_NEW_USERS_AND_MOUNTS):
        os._exit(3)
    for name, line in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", "0 0 1")):
        Path("/proc/self", name).write_text(line)
    if libc.mount(b"tmpfs", str(path).encode(), b"tmpfs", 0, f"size={size}".encode()):
        os._exit(3)


def test_two_graders_at_once_on_one_gradebook(
    graded_class: Class, undisturbed: dict[str, Any]
) -> None:
    gate, opened = os.pipe()

    def run() -> None:
        os.close(opened)
        os.read(gate, 1)
        graded_class.grade()

    processes = []
    for _ in range(3):
        processes.append(os.fork())
        if processes[-1] == 0:
            try:
                run()
            except BaseException:
                os._exit(1)
            os._exit(0)
    os.close(gate)
    os.close(opened)
    assert [os.waitpid(each, 0)[1] for each in processes] == [0, 0, 0]
    assert graded_class.results() == undisturbed


def test_killed_by_the_clock_again_and_again(
    graded_class: Class, undisturbed: dict[str, Any]
) -> None:
    draw = random.Random(5)
    for _ in range(8):
        process = os.fork()
        if process == 0:
            graded_class.grade()
            os._exit(0)
        time.sleep(draw.uniform(0, 0.3))
        os.kill(process, 9)
        os.waitpid(process, 0)
        graded_class.whole()
    graded_class.grade()
    assert graded_class.results() == undisturbed
