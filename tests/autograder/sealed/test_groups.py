"""Control groups: what a box takes as a whole, and what is done where there are none."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from autograder.sealed.box import groups, warm
from autograder.sealed.box.box import Box, BoxError, End, GoneError
from autograder.sealed.box.bubblewrap import no_namespaces
from autograder.sealed.box.limits import Limits
from autograder.sealed.box.warm import Zygote
from autograder.sealed.release import load_release
from autograder.sealed.stubs import make_tree

ROOT = Path(__file__).parents[3]
LESSON = next((ROOT / "lessons").glob("01_*/*.ipynb"))
MIB = 2**20
TOGETHER = Limits(memory=200 * MIB, whole_memory=150 * MIB, processes=20)

needs_groups = pytest.mark.skipif(not groups.parents(), reason="no control group can be made here")

SEVERAL = """
import os, time
def take(number):
    for _ in range(number):
        if os.fork() == 0:
            kept = bytearray(20 * 2**20)
            time.sleep(60)
    # The kernel ends the largest.
    kept = bytearray(100 * 2**20)
    time.sleep(1)
    kept += bytearray(60 * 2**20)
    return number
"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], AbstractContextManager[Box]]:
    """Open a box without namespaces: what is looked at here does not depend on them."""
    tree = tmp_path_factory.mktemp("tree")
    make_tree(load_release(LESSON), tree)
    with Zygote(tree, walls=no_namespaces) as zygote:
        yield lambda: zygote.box(TOGETHER)


@needs_groups
def test_processes_that_take_too_much_together_are_ended_for_it(opened) -> None:
    with opened() as box:
        assert box.run(SEVERAL, 5) is None
        with box.taken("take") as subject, pytest.raises(GoneError) as gone:
            subject.call([4])
    assert gone.value.end is End.OOM
    assert str(gone.value) == "its processes took more memory together than a box has"
    with opened() as box:
        assert box.run("def take(number):\n    return len(bytearray(number))", 5) is None
        with box.taken("take") as subject:
            assert subject.call([100 * MIB]).value == 100 * MIB


@needs_groups
def test_one_process_that_fills_its_group_is_told_from_one_that_is_killed() -> None:
    with groups.group(TOGETHER) as group:
        for size, is_full in (10, False), (200, True), (10, False):
            child = os.fork()
            if child == 0:
                for door in group.doors:
                    Path(door).write_text("0")
                kept = bytearray(size * MIB)
                os.kill(os.getpid(), signal.SIGKILL if kept else signal.SIGTERM)
            assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
            assert group.has_run_out() == is_full


@needs_groups
def test_at_the_end_nothing_of_a_group_is_left() -> None:
    with groups.group(TOGETHER) as group:
        child = os.fork()
        if child == 0:
            for door in group.doors:
                Path(door).write_text("0")
            time.sleep(60)
            os._exit(0)
        deadline = time.monotonic() + 10
        while not all(str(child) in Path(door).read_text().split() for door in group.doors):
            assert time.monotonic() < deadline
    assert not any(folder.exists() for folder in group.folders)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


@needs_groups
def test_a_group_of_a_grader_that_was_killed_is_removed_by_the_next() -> None:
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    left = [folder / f"course-{gone}-0" for folder in groups.parents()]
    for folder in left:
        folder.mkdir()
    groups.parents()
    assert not any(folder.exists() for folder in left)


def test_who_cannot_join_is_no_answer_that_failed(
    opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / groups.MEMBERS).symlink_to("/dev/full")
    closed = groups.Group([tmp_path])
    monkeypatch.setattr(warm, "group", lambda *args: contextlib.nullcontext(closed))
    with opened() as box, pytest.raises(BoxError, match=r"infra: .*No space left"):
        box.run("x = 1", 5)


UNIFIED = "29 23 0:26 / {} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
OLDER = (
    "35 31 0:32 /pod/1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids"
)


def test_places_are_found_in_both_hierarchies() -> None:
    assert groups._places("0::/user.slice/run-1.scope", UNIFIED.format("/sys/fs/cgroup")) == {
        "": Path("/sys/fs/cgroup/user.slice/run-1.scope")
    }
    assert groups._places("8:pids:/a\n4:memory:/pod/1/b\n0::/", OLDER) == {
        "pids": Path("/sys/fs/cgroup/pids/a"),
        "memory": Path("/sys/fs/cgroup/memory/b"),
    }


@pytest.fixture
def scope(tmp_path: Path) -> Path:
    """What a unified group of one's own looks like that counts memory and processes."""
    scope = tmp_path / "run-1.scope"
    scope.mkdir()
    (scope / "cgroup.controllers").write_text("cpu memory pids\n")
    (scope / "cgroup.subtree_control").write_text("\n")
    (scope / groups.MEMBERS).write_text("")
    return scope


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is written to the files of groups, which only the system has."""
    done: list[tuple[str, str]] = []
    monkeypatch.setattr(
        groups, "_write", lambda path, value: done.append((path.parent.name, str(value)))
    )
    return done


def test_who_grades_makes_room_in_a_group_of_its_own(scope: Path, written: list) -> None:
    assert groups._with_room(scope) == scope
    assert written == [
        ("course-at-work", str(os.getpid())),
        ("run-1.scope", "+memory +pids"),
    ]
    # Whoever is started then, as a worker is, stands in the group that was made.
    assert groups._with_room(scope / "course-at-work") == scope
    (scope / "cgroup.subtree_control").write_text("cpu memory pids\n")
    assert groups._with_room(scope) == scope
    assert len(written) == 2


def test_who_shares_a_group_with_others_goes_back(
    scope: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def write(path: Path, value: object) -> None:
        done.append(path.parent.name)
        if path.name == "cgroup.subtree_control":
            raise OSError("Device or resource busy")

    monkeypatch.setattr(groups, "_write", write)
    with pytest.raises(OSError, match="busy"):
        groups._with_room(scope)
    assert done == ["course-at-work", "run-1.scope", "run-1.scope"]
    assert not (scope / "course-at-work").exists()


@pytest.mark.parametrize("own", ["0::/run-1.scope", "4:memory:/a", "", "no line"])
def test_where_no_group_can_be_made_there_is_none(own: str, tmp_path: Path, scope: Path) -> None:
    for name, text in ("own", own), ("mounts", UNIFIED.format(tmp_path)):
        (tmp_path / name).write_text(text)
    # The files of a group that is made are not there, as in no folder that is none.
    assert groups.parents(tmp_path / "own", tmp_path / "mounts") == []
    with groups.group(TOGETHER, []) as group:
        assert (group.doors, group.has_run_out()) == ([], False)
