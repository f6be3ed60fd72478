"""What keeps a submission in its box on this machine, tried and not assumed."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

from autograder.errors import CourseError
from autograder.sealed.box.box import BoxError
from autograder.sealed.box.bubblewrap import namespaces
from autograder.sealed.box.groups import parents
from autograder.sealed.box.kernel import can_filter_calls
from autograder.sealed.box.limits import Limits

_COUNTED_BY_NAMESPACE = (5, 14)
"""The version of Linux from which on processes are counted by user namespace."""


@dataclass(frozen=True)
class Protection:
    """One thing that keeps a submission in its box.

    Attributes:
        name: What it is.
        is_active: Whether this machine has it.
        is_needed: Whether nothing is graded without it.
        says: What it does, or why it is not there and what to do.
    """

    name: str
    is_active: bool
    is_needed: bool
    says: str


def protections() -> list[Protection]:
    """Return what keeps a submission in its box here; a box is made to find out."""
    return [_namespaces(), _system_calls(), _processes(), _resources(), _whole_box()]


def _namespaces() -> Protection:
    name = "namespaces (bubblewrap)"
    try:
        with namespaces([], Limits()):
            pass
    except (CourseError, BoxError) as error:
        said = f"{error}; to grade others' work, allow user namespaces or use another machine"
        return Protection(name, False, True, said)
    return Protection(name, True, True, "no network, no other process, nothing to read but Python")


def _system_calls() -> Protection:
    name = "system calls (seccomp)"
    if can_filter_calls():
        return Protection(name, True, True, "mounts, tracing, keys and sockets are refused")
    said = f"the calls of {platform.machine()} are not known; grade on x86-64 or arm64"
    return Protection(name, False, True, said)


def _processes() -> Protection:
    name = "number of processes"
    version = tuple(map(int, platform.release().split("-")[0].split(".")[:2]))
    if version >= _COUNTED_BY_NAMESPACE or parents():
        return Protection(name, True, False, f"at most {Limits().processes} in a box")
    said = "counted for the user and not for the box; Linux 5.14 or later counts them by box"
    return Protection(name, False, False, said)


def _resources() -> Protection:
    limits = Limits()
    said = (
        f"for each process: {limits.memory // 2**20} MiB, {limits.cpu_seconds} s of CPU, "
        f"{limits.open_files} open files; {limits.disk_bytes // 2**20} MiB of files in a box"
    )
    return Protection("memory, time and files (rlimits)", os.name == "posix", True, said)


def _whole_box() -> Protection:
    name, limits = "memory of a whole box (cgroups)", Limits()
    if parents():
        said = f"{limits.whole_memory // 2**20} MiB for all processes and files of a box together"
        return Protection(name, True, False, said)
    most = limits.processes * limits.memory // 2**30
    said = (
        f"memory is limited for each process and not for the box, which could take {most} GiB with "
        f"all its {limits.processes}; begin with `systemd-run --user --scope -p Delegate=yes`, "
        "or grade on a virtual machine"
    )
    return Protection(name, False, False, said)
