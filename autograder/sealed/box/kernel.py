"""What Linux can be asked to forbid a process for good: namespaces, capabilities, system calls.

By ``ctypes``, since Python has none of it. Nothing here can be taken back by the process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator, Mapping, Sequence

NAMESPACES: Mapping[str, int] = {
    "user": 0x10000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "net": 0x40000000,
    "pid": 0x20000000,
    "mnt": 0x00020000,
}
"""The namespaces of a box, in the order in which they are entered: the first gives the right to."""

NOBODY = 65534
"""The user and the group that own nothing."""

_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS = 8, 38
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_CAPABILITY_VERSION = 0x20080522
_CAPABILITY_BYTES = 24
_CAPABILITIES = 64
"""More than there are; the kernel says where they end."""

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
"""Calls with this bit are those of another interface to the same kernel (x86-64 only)."""

_NEW_NAMESPACES = 0x7E020080
"""The flags of ``clone`` that make a namespace."""

_AF_UNIX = 1

_FORBIDDEN = {
    "x86_64": (
        *(29, 64, 68, 101, 103, 155, 161, 163, 165, 166, 167, 168, 169, 170, 171, 172, 173, 175),
        *(176, 179),
        *(246, 248, 249, 250, 272, 279, 298, 303, 304, 308, 310, 311, 312, 313, 319, 320, 321, 323),
    ),
    "aarch64": (
        *(117, 116, 41, 51, 89, 40, 39, 224, 225, 142, 161, 162, 105, 106, 60, 104, 217, 218, 219),
        *(97, 239, 241, 264, 265, 268, 270, 271, 272, 273, 294, 279, 280, 282, 186, 190, 194),
    ),
}
"""Numbers of the calls for: other processes' memory, mounts and roots, swap, modules, reboot, host
names, ports, keys, namespaces, performance counters, file handles, BPF, page faults, and memory
that no process is charged for: files without a name, and what System V has processes share."""

_FORBIDDEN_EVERYWHERE = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442, 447)
"""Newer calls, whose numbers are the same on all machines: io_uring, mounts, others' files, files
in memory."""

_MMAP = {"x86_64": 9, "aarch64": 222}
_SHARED_NAMELESS, _GROWS_DOWN = 0x21, 0x100
"""What a mapping may not be: shared and of no file, or like a stack. The limit on the memory of a
process (``RLIMIT_DATA``) counts neither."""

_CLONE = {"x86_64": 56, "aarch64": 220}
_SOCKET = {"x86_64": 41, "aarch64": 198}
_CLONE3 = 435
"""Its flags are in memory, where a filter cannot look; the C library does with ``clone`` then."""

_LOAD, _AND, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_SET, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _FOURTH_ARGUMENT = 0, 4, 16, 40
"""Where things are in what the kernel shows to a filter."""

_libc = ctypes.CDLL(None, use_errno=True)


def become_nobody() -> None:
    """Become a user that owns nothing, where this process is root's; keep what root may do.

    Under whatever name a box shows it, to the kernel its user would be root otherwise: not bound to
    a number of processes, and the owner of the settings in /proc.

    Raises:
        OSError: The kernel does not allow it.
    """
    if os.getuid() != 0:
        return
    _call("prctl", _PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    held = ctypes.create_string_buffer(_CAPABILITY_BYTES)
    _call("capget", header, held)
    # What is permitted is put to effect again: both halves are effective, permitted, inheritable.
    words = list(struct.unpack("=6I", held.raw))
    words[0], words[3] = words[1], words[4]
    _call("capset", header, struct.pack("=6I", *words))


def open_namespaces(pid: int) -> list[tuple[int, int]]:
    """Return descriptors of the namespaces of a process, each with its kind.

    They are opened before the first is entered: from inside, the others cannot be seen.

    Raises:
        OSError: There is no such process, or it is somebody else's.
    """
    return [
        (os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), kind)
        for name, kind in NAMESPACES.items()
    ]


def enter_namespaces(opened: Sequence[tuple[int, int]]) -> None:
    """Move this process into namespaces; its children will be in the pid namespace too.

    Args:
        opened: What ``open_namespaces`` returned; it is closed.

    Raises:
        OSError: The kernel does not allow it.
    """
    for descriptor, kind in opened:
        _call("setns", descriptor, kind)
        os.close(descriptor)


def drop_privileges() -> None:
    """Give up every capability, and the chance to gain one by running a program.

    Raises:
        OSError: The kernel does not allow it.
    """
    for capability in range(_CAPABILITIES):
        if _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 1:
            # Without the right to drop them (and so without any) they cannot be gained either.
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    _call("capset", header, bytes(_CAPABILITY_BYTES))
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def can_filter_calls() -> bool:
    """Say whether this machine's system calls are known by number."""
    return platform.machine() in _AUDIT_ARCH


def filter_calls() -> None:
    """Let system calls that no lesson needs fail from now on, and sockets that leave the machine.

    ``drop_privileges`` comes first: without it the kernel asks for a privilege.

    Raises:
        OSError: The kernel has no filters, or the machine's calls are not known.
    """
    if not can_filter_calls():
        raise OSError(errno.ENOSYS, f"the system calls of {platform.machine()} are not known")
    program = b"".join(_program(platform.machine()))
    text = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(text))
    _call("prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, described, 0, 0)


def _program(machine: str) -> Iterator[bytes]:
    """Yield the instructions of the filter."""
    fail = _FAIL | errno.EPERM
    yield _step(_LOAD, _ARCHITECTURE)
    yield _step(_JUMP_EQUAL, _AUDIT_ARCH[machine], then=1)
    yield _step(_RETURN, _KILL)
    yield _step(_LOAD, _NUMBER)
    yield _step(_JUMP_GREATER, _X32, otherwise=1)
    yield _step(_RETURN, fail)
    for number in (*_FORBIDDEN[machine], *_FORBIDDEN_EVERYWHERE):
        yield _step(_JUMP_EQUAL, number, otherwise=1)
        yield _step(_RETURN, fail)
    yield _step(_JUMP_EQUAL, _CLONE3, otherwise=1)
    yield _step(_RETURN, _FAIL | errno.ENOSYS)
    yield _step(_JUMP_EQUAL, _MMAP[machine], otherwise=6)
    yield _step(_LOAD, _FOURTH_ARGUMENT)
    yield _step(_JUMP_SET, _GROWS_DOWN, then=2)
    yield _step(_AND, _SHARED_NAMELESS)
    yield _step(_JUMP_EQUAL, _SHARED_NAMELESS, otherwise=1)
    yield _step(_RETURN, fail)
    yield _step(_RETURN, _ALLOW)
    yield _step(_JUMP_EQUAL, _CLONE[machine], otherwise=3)
    yield _step(_LOAD, _FIRST_ARGUMENT)
    yield _step(_JUMP_SET, _NEW_NAMESPACES, otherwise=5)
    yield _step(_RETURN, fail)
    yield _step(_JUMP_EQUAL, _SOCKET[machine], otherwise=3)
    yield _step(_LOAD, _FIRST_ARGUMENT)
    yield _step(_JUMP_EQUAL, _AF_UNIX, then=1)
    yield _step(_RETURN, fail)
    yield _step(_RETURN, _ALLOW)


def _step(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """Return one instruction; ``then`` and ``otherwise`` are how many a jump leaves out."""
    return struct.pack("=HBBI", code, then, otherwise, value)


def _call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> None:
    """Call a function of the C library; OSError if it fails."""
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
