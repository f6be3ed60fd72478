"""Namespaces of their own for one submission, made by bubblewrap."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from autograder.errors import CourseError
from autograder.sealed.box.box import BoxError
from autograder.sealed.box.kernel import NOBODY
from autograder.sealed.box.limits import Limits

_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin")
_PYTHON = ("bin", "lib", "lib64", "include", "share", "pyvenv.cfg")
"""What belongs to Python where it is installed: that may be a folder that holds much else."""

_ECHO = b"\n"
_SECONDS_TO_DIE = 60.0
_ROOM_FOR_FOLDERS = 2**20
_SETTINGS = ("sys", "sysrq-trigger", "irq", "bus", "fs", "scsi", "acpi")
"""What in /proc sets something of the machine: the kernel asks there for the user alone, and not
for a capability."""


def command(
    readable: Sequence[Path],
    limits: Limits,
    info: int,
    users: int | None = None,
    hidden: Sequence[Path] = (),
) -> list[str]:
    """Return the command that makes a box and keeps it as long as its standard input is open.

    Args:
        readable: What can be read in it beside the system and Python.
        limits: What it may use.
        info: The descriptor to which the id of a process in it is written.
        users: The descriptor of the user namespace that it is to have; None for a new one.
        hidden: Folders that are empty in it, wherever they lie; what is readable in one is there.

    Raises:
        CourseError: Bubblewrap is not installed.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise CourseError("bubblewrap is not installed; `apt-get install bubblewrap` (Linux only)")
    asked = [program, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    asked += ["--die-with-parent"]
    if users is None:
        asked += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
    else:
        asked += ["--userns", str(users)]
    # Not --dev: it makes one more user namespace, which cannot be entered from outside. And not
    # /dev/zero: what is shared of it is memory that no limit counts.
    for device in ("/dev/null", "/dev/urandom", "/dev/random"):
        asked += ["--dev-bind", device, device]
    asked += ["--proc", "/proc"]
    for name in _SETTINGS:
        asked += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    asked += ["--size", str(limits.disk_bytes), "--perms", "1777", "--tmpfs", "/tmp"]
    masks: list[str] = []
    # What lies deeper comes later: a mask does not hide what is readable below it.
    found = filter(Path.exists, [*_systems_own(), *readable])
    for path in sorted(found, key=lambda each: len(each.parts)):
        # Folders that it makes on the way could be entered by their owner alone otherwise.
        for parent in reversed(path.parents):
            asked += ["--perms", "0755", "--dir", str(parent)]
        asked += ["--ro-bind", str(path), str(path)]
        for mask in _masks(path, hidden):
            asked += ["--size", str(_ROOM_FOR_FOLDERS), "--perms", "0755", "--tmpfs", mask]
            masks += ["--remount-ro", mask]
    return [*asked, *masks, "--remount-ro", "/", "--info-fd", str(info), "--", "/bin/cat"]


def is_shown(path: Path, hidden: Sequence[Path] = ()) -> bool:
    """Say whether a box shows what lies at a path.

    Args:
        path: The path.
        hidden: Folders that are empty in it.

    >>> is_shown(Path("/usr/lib/python3")), is_shown(Path("/usr/course/a"), [Path("/usr/course")])
    (True, False)
    """

    def is_below(tops: Sequence[Path]) -> bool:
        return any(path.resolve().is_relative_to(top.resolve()) for top in tops)

    return is_below(_systems_own()) and not is_below(hidden)


def _systems_own() -> list[Path]:
    """Return what every box shows, if it exists."""
    prefixes = Path(sys.prefix), Path(sys.base_prefix)
    return [*map(Path, _SYSTEM), *(prefix / name for prefix in prefixes for name in _PYTHON)]


def _masks(path: Path, hidden: Sequence[Path]) -> list[str]:
    """Return where folders that are to be hidden lie in what is readable at a path."""
    below = (each.resolve() for each in hidden if each.is_dir())
    top = path.resolve()
    return sorted({str(path / each.relative_to(top)) for each in below if top in each.parents})


@contextlib.contextmanager
def namespaces(
    readable: Sequence[Path], limits: Limits, hidden: Sequence[Path] = ()
) -> Iterator[int]:
    """Make a box; give the id of a process in it. When the block ends, all in it is killed.

    Args:
        readable: What can be read in it beside the system and Python.
        limits: What it may use.
        hidden: Folders that are empty in it, also where they lie among the system's own.

    Raises:
        CourseError: Bubblewrap is not installed.
        BoxError: It cannot make a box, or something of it is left at the end.
    """
    reader, writer = os.pipe()
    with os.fdopen(reader) as told, _users() as users:
        try:
            process = subprocess.Popen(
                command(readable, limits, writer, users, hidden),
                # What it does not live to read is in no buffer, to be written once more at the end.
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[writer] if users is None else [writer, users],
                env={},
            )
        finally:
            os.close(writer)
        with process:
            pid = _pid(told, process)
            first = os.pidfd_open(pid)
            try:
                yield pid
            finally:
                # The first process of a box dies with its parent, and has not died before all
                # others have.
                process.kill()
                is_empty, _, _ = select.select([first], [], [], _SECONDS_TO_DIE)
                os.close(first)
        if not is_empty:
            raise BoxError(f"processes of a box are left after {_SECONDS_TO_DIE:g} s")


@contextlib.contextmanager
def no_namespaces(readable: Sequence[Path], limits: Limits) -> Iterator[int]:
    """Make no box: what runs is kept by limits alone, and can do what its user can.

    Args:
        readable: Nothing is hidden.
        limits: They hold for what runs all the same.
    """
    yield 0


@contextlib.contextmanager
def _users() -> Iterator[int | None]:
    """Give a user namespace with two users, root and nobody, where this process is root's.

    Bubblewrap maps one user, its own. What runs in the box is to be nobody to the kernel as well,
    and can make no file where nobody is unknown. Elsewhere there is no need for it: None.

    Raises:
        BoxError: There cannot be one.
    """
    if os.getuid() != 0:
        yield None
        return
    try:
        with subprocess.Popen(
            ["unshare", "--user", "cat"], bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            try:
                _wait_for_echo(process)
                for kind in ("uid_map", "gid_map"):
                    mapped = f"0 0 1\n{NOBODY} {NOBODY} 1\n"
                    Path(f"/proc/{process.pid}/{kind}").write_text(mapped, "ascii")
                users = os.open(f"/proc/{process.pid}/ns/user", os.O_RDONLY)
            finally:
                process.kill()
    except (OSError, ValueError) as error:
        raise BoxError(f"there is no user namespace for a box: {error}") from error
    try:
        yield users
    finally:
        os.close(users)


def _wait_for_echo(process: subprocess.Popen[bytes]) -> None:
    """Return when a program that gives back what it is sent has begun; ValueError if it does not.

    What prepares for it, and becomes it at last, is through with that then.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(_ECHO)
    if process.stdout.read(len(_ECHO)) != _ECHO:
        raise ValueError("it has ended")


def _pid(told: IO[str], process: subprocess.Popen[bytes]) -> int:
    """Return the id of the first process in the box, once the box is closed around it.

    Bubblewrap tells the id before it has mounted anything: until then the box is open.
    """
    try:
        _wait_for_echo(process)
        return int(json.loads(told.read())["child-pid"])
    except (OSError, ValueError, KeyError) as error:
        process.kill()
        assert process.stderr is not None
        reason = process.stderr.read().decode(errors="replace").strip() or "it said nothing"
        raise BoxError(f"bubblewrap made no box: {reason}") from error
