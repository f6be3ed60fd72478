"""Control groups: what all processes of a box take together, where the system lets one be made.

Linux has two hierarchies. In the unified one (version 2) a group has either processes or groups
below it, so whoever grades moves into one of its own first; it needs a part of the hierarchy that
was given to it, as ``systemd-run --user --scope -p Delegate=yes`` does. In the older one (version
1) memory and processes are counted apart, and root can make groups where it stands.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autograder.sealed.box.limits import Limits

MEMBERS = "cgroup.procs"
"""The file of a group that holds its processes; who writes 0 joins."""

_NAME = "course"
_WORKERS = f"{_NAME}-at-work"
_COUNTED = "memory", "pids"
_NAMES = itertools.count()
_MOST_PROCESSES = 2**22
"""More than that the kernel has no numbers for, and refuses as a limit."""
_MOST_SECONDS_TO_EMPTY, _PAUSE = 5.0, 0.01


@dataclass
class Group:
    """The control group of one box: one folder, or one for each kind; none where there can be none.

    Attributes:
        folders: Where it is in the hierarchy.
    """

    folders: Sequence[Path] = ()
    _killed: int = field(default=0, init=False)

    @property
    def doors(self) -> list[str]:
        """The files by which a process joins it."""
        return [str(folder / MEMBERS) for folder in self.folders]

    def has_run_out(self) -> bool:
        """Say whether the kernel has ended a process for memory since this was asked last."""
        before, self._killed = self._killed, sum(map(_killed_for_memory, self.folders))
        return self._killed > before


@contextlib.contextmanager
def group(limits: Limits, above: Sequence[Path] | None = None) -> Iterator[Group]:
    """Make a control group; when the block ends, what is left in it is killed and it is gone.

    Args:
        limits: What its processes may take together.
        above: The groups that it is made in; those of this process if None.

    Raises:
        OSError: It cannot be made.
    """
    name = f"{_NAME}-{os.getpid()}-{next(_NAMES)}"
    made = Group([each / name for each in (parents() if above is None else above)])
    try:
        for folder in made.folders:
            folder.mkdir()
            _limit(folder, limits)
        yield made
    finally:
        for folder in made.folders:
            _remove(folder)


def parents(
    own: Path = Path("/proc/self/cgroup"), mounts: Path = Path("/proc/self/mountinfo")
) -> list[Path]:
    """Return the groups that others can be made in, tried and not assumed; none if there are none.

    Args:
        own: Where the system says in which groups this process is.
        mounts: Where it says where they can be seen.
    """
    try:
        found = _places(own.read_text(), mounts.read_text())
        unified = found.get("")
        if unified is not None and _has(unified, "cgroup.controllers"):
            above = [_with_room(unified)]
        elif all(kind in found for kind in _COUNTED):
            above = [found[kind] for kind in _COUNTED]
        else:
            return []
        _sweep(above)
        with group(Limits(), above) as trial:
            _try_to_join(trial)
    except (OSError, ValueError):
        # Not allowed, not there, or not as it is written elsewhere.
        return []
    return above


def _places(own: str, mounts: str) -> dict[str, Path]:
    """Return where this process is in each hierarchy, by what is counted there; "" is unified.

    >>> mounts = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
    >>> _places("4:memory:/a/b", mounts)
    {'memory': PosixPath('/sys/fs/cgroup/memory/a/b')}
    """
    seen: dict[str, tuple[str, Path]] = {}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, *_, options = after.split()
        for each in [""] if kind == "cgroup2" else options.split(",") * (kind == "cgroup"):
            seen[each] = root.rstrip("/"), Path(point)
    places = {}
    for line in own.splitlines():
        _, kinds, path = line.split(":", 2)
        for each in kinds.split(","):
            above, mount = seen.get(each, ("", None))
            if mount is not None and path.startswith(above):
                places[each] = mount / path.removeprefix(above).lstrip("/")
    return places


def _with_room(folder: Path) -> Path:
    """Return a unified group that has no process and counts what groups in it take.

    Raises:
        OSError: It cannot be had, as where others' processes are in it or it is not this user's.
    """
    if folder.name == _WORKERS:
        return folder.parent
    control = "cgroup.subtree_control"
    if _has(folder, control):
        return folder
    workers = folder / _WORKERS
    workers.mkdir(exist_ok=True)
    _write(workers / MEMBERS, os.getpid())
    try:
        _write(folder / control, " ".join(f"+{kind}" for kind in _COUNTED))
    except OSError:
        _write(folder / MEMBERS, os.getpid())
        workers.rmdir()
        raise
    return folder


def _has(folder: Path, name: str) -> bool:
    """Say whether a file of a unified group lists all that is to be counted."""
    with contextlib.suppress(OSError):
        return set(_COUNTED) <= set((folder / name).read_text().split())
    return False


def _limit(folder: Path, limits: Limits) -> None:
    """Write down what a group may take: of the files, those that its kind of group has."""
    files: Mapping[str, int] = {
        "memory.max": limits.whole_memory,
        "memory.swap.max": 0,
        "memory.oom.group": 1,
        "memory.limit_in_bytes": limits.whole_memory,
        "memory.memsw.limit_in_bytes": limits.whole_memory,
        "pids.max": min(limits.processes, _MOST_PROCESSES),
    }
    for name, value in files.items():
        if (folder / name).exists():
            _write(folder / name, value)


def _killed_for_memory(folder: Path) -> int:
    """Return how many processes the kernel has ended in a group because its memory was full."""
    for name in ("memory.events", "memory.oom_control"):
        with contextlib.suppress(OSError):
            words = (folder / name).read_text().split()
            return int(dict(zip(words[::2], words[1::2], strict=True))["oom_kill"])
    return 0


def _try_to_join(trial: Group) -> None:
    """Let a process join a group.

    Raises:
        OSError: It cannot.
    """
    child = os.fork()
    if child == 0:
        try:
            for door in trial.doors:
                _write(Path(door), 0)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if status:
        raise OSError("no process can join the group")


def _sweep(above: Sequence[Path]) -> None:
    """Remove the groups of those who were killed before they could."""
    for folder in above:
        for left in folder.glob(f"{_NAME}-[0-9]*-*"):
            if not Path(f"/proc/{left.name.split('-')[1]}").exists():
                with contextlib.suppress(OSError):
                    left.rmdir()


def _remove(folder: Path) -> None:
    """Kill what is in a group, and remove it; what cannot be removed is swept later."""
    end = time.monotonic() + _MOST_SECONDS_TO_EMPTY
    while folder.is_dir() and time.monotonic() < end:
        with contextlib.suppress(OSError):
            for pid in (folder / MEMBERS).read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        time.sleep(_PAUSE)


def _write(path: Path, value: int | str) -> None:
    # In one piece, and never a new file: what is not there is no group.
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)
