"""What a grader does to the disk, moment by moment, and what can happen at one of them.

A moment is a file or folder that is made, a line that is written, an fsync, a rename, a deletion, a
statement that changes the gradebook, or a commit of it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from autograder.sealed.store import Store

_DRAFT = re.compile(r"\.(\S+)\.[^.\s]{8}$")
_DRAWN = re.compile(r"\b[0-9a-f]{2}(?:[0-9a-f]{62}\.json)?$")

Happens = Callable[["Disk"], None]

Moment = tuple[str, int]
"""What is done, and how often it was done before."""

NEVER: Moment = ("", 0)


class Disk:
    """Counts the moments, and lets something happen at one of them.

    Args:
        at: The moment.
        happens: What is called then, before it.

    Attributes:
        moments: What was done so far.
    """

    def __init__(self, at: Moment, happens: Happens) -> None:
        self.moments: list[str] = []
        self._at, self._happens = at, happens
        self._synced: dict[Path, int] = {}
        self._renamed: dict[Path, bytes | None] = {}
        self._made: list[Path] = []

    def moment(self, name: str) -> None:
        # Names of drafts are drawn, and those of results and their folders are hashes.
        name = _DRAWN.sub("RESULT", _DRAFT.sub(r"draft of \1", name))
        is_now = self._at == (name, self.moments.count(name))
        self.moments.append(name)
        if is_now:
            self._happens(self)

    def sync(self, descriptor: int, fsync: Callable[[int], None]) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        self.moment(f"fsync {path.name}")
        fsync(descriptor)
        if path.is_dir():
            self._renamed = {p: old for p, old in self._renamed.items() if p.parent != path}
            self._made = [each for each in self._made if each.parent != path]
        else:
            self._synced[path] = path.stat().st_size

    def replace(self, old: Any, new: Any, replace: Callable[[Any, Any], None]) -> None:
        self.moment(f"rename to {Path(new).name}")
        before = Path(new).read_bytes() if Path(new).exists() else None
        replace(old, new)
        self._renamed.setdefault(Path(new), before)
        self._synced[Path(new)] = self._synced.pop(Path(old), 0)

    def make(self, path: Any) -> None:
        self.moment(f"make folder {Path(path).name}")
        self._made.append(Path(path))

    def lose_what_was_not_synced(self, root: Path) -> None:
        """Leave of the files below a folder what a disk keeps when the power goes.

        The gradebook is left alone: SQLite has its journal for that.
        """
        for path, before in self._renamed.items():
            if before is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(before)
        for path in root.rglob("*"):
            is_ours = path.name == "log.jsonl" or path.name.startswith(".")
            if path.is_file() and is_ours and path not in self._renamed:
                os.truncate(path, self._synced.get(path, 0))
        for path in self._made:
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def watched(at: Moment, happens: Happens) -> Iterator[Disk]:
    """Let something happen at a moment of what the block does to the disk."""
    disk = Disk(at, happens)
    real = {name: getattr(os, name) for name in ("fsync", "replace", "open", "mkdir", "unlink")}
    write = Store._write

    def opened(path: Any, flags: int, *others: Any, **more: Any) -> int:
        if flags & os.O_CREAT:
            disk.moment(f"make {Path(path).name}")
        return int(real["open"](path, flags, *others, **more))

    def made(path: Any, *others: Any, **more: Any) -> None:
        if not Path(path).exists():
            disk.make(path)
        real["mkdir"](path, *others, **more)

    def unlinked(path: Any, *others: Any, **more: Any) -> None:
        if isinstance(path, Path):
            disk.moment(f"delete {path.name}")
        real["unlink"](path, *others, **more)

    def written(store: Store, log: Any, line: bytes) -> None:
        disk.moment("write a line")
        log.write(line[: len(line) // 2])
        disk.moment("write the other half of it")
        write(store, log, line[len(line) // 2 :])

    def executed(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.split()[0] in ("INSERT", "UPDATE", "DELETE"):
            disk.moment(f"gradebook: {' '.join(statement.split()[:3])}")

    def committed(_: Any) -> None:
        disk.moment("gradebook: commit")

    with contextlib.ExitStack() as stack:
        for name, stand_in in (
            ("fsync", lambda descriptor: disk.sync(descriptor, real["fsync"])),
            ("replace", lambda old, new: disk.replace(old, new, real["replace"])),
            ("open", opened),
            ("mkdir", made),
            ("unlink", unlinked),
        ):
            setattr(os, name, stand_in)
            stack.callback(setattr, os, name, real[name])
        Store._write = written  # type: ignore[method-assign]
        stack.callback(setattr, Store, "_write", write)
        for name, listener in (("before_cursor_execute", executed), ("commit", committed)):
            event.listen(Engine, name, listener)
            stack.callback(event.remove, Engine, name, listener)
        yield disk


def is_killed(disk: Disk) -> NoReturn:
    """End this process as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it lives")


def is_full(disk: Disk) -> NoReturn:
    """Refuse to write, as a full disk does."""
    name = disk.moments[-1]
    if name.startswith("gradebook"):
        raise OperationalError(name, {}, sqlite3.OperationalError("database or disk is full"))
    raise OSError(28, "No space left on device", name)


def in_a_process(run: Callable[[], object]) -> int:
    """Run something in a process of its own; return its exit code, below 0 if it was killed."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            run()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
