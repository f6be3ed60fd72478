"""What a process cannot do any more once it is confined; each tries it in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from autograder.sealed.box import kernel
from autograder.sealed.box.limits import Limits

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not kernel.can_filter_calls(),
    reason="the system calls of this machine are not known",
)

PREPARED = """
import ctypes, errno, os, resource, socket, threading
from autograder.sealed.box import kernel
from autograder.sealed.box.limits import Limits

libc = ctypes.CDLL(None, use_errno=True)

def tried(call):
    try:
        return call() and "done" or "done"
    except (OSError, MemoryError) as error:
        return type(error).__name__

def call(name, *arguments):
    return "done" if getattr(libc, name)(*arguments) != -1 else errno.errorcode[ctypes.get_errno()]

# Outside of a box all processes of the user count: a limit on them could forbid any.
_, most = resource.getrlimit(resource.RLIMIT_NPROC)
Limits(memory=200 * 2**20, file_bytes=1000, processes=most if most > 0 else 10**6).impose()
kernel.drop_privileges()
kernel.filter_calls()
"""


@pytest.fixture
def confined() -> Callable[[str], list[str]]:
    """Run code in a confined process; return the lines that it prints."""

    def confined(code: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", PREPARED + code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (done.returncode, done.stderr)
        return done.stdout.splitlines()

    return confined


def test_there_is_no_network(confined: Callable[[str], list[str]]) -> None:
    said = confined(
        """
for name in ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_UNIX"):
    print(tried(lambda: socket.socket(getattr(socket, name), socket.SOCK_DGRAM)))
print(tried(socket.socketpair))
"""
    )
    assert said == ["PermissionError"] * 4 + ["done"] * 2


def test_calls_that_no_lesson_needs_fail(confined: Callable[[str], list[str]]) -> None:
    said = confined(
        """
print(call("unshare", 0x10000000))
print(call("setns", 0, 0))
print(call("mount", b"a", b"/tmp", b"tmpfs", 0, None))
print(call("umount2", b"/proc", 2))
print(call("chroot", b"/tmp"))
print(call("ptrace", 0, 0, 0, 0))
print(call("process_vm_readv", os.getppid(), None, 0, None, 0, 0))
print(call("sethostname", b"a", 1))
print(call("syscall", 425, 1, None))
print(call("syscall", 435, None, 0))
"""
    )
    assert said == ["EPERM"] * 9 + ["ENOSYS"]


def test_no_process_begins_in_a_namespace_of_its_own(
    confined: Callable[[str], list[str]],
) -> None:
    number = {"x86_64": 56, "aarch64": 220}
    said = confined(
        f"""
import platform
number = {number!r}[platform.machine()]
for flag in {list(kernel.NAMESPACES.values())!r}:
    print(call("syscall", number, flag | 17, 0, 0, 0, 0))
"""
    )
    assert said == ["EPERM"] * 6


def test_no_capability_is_left_and_none_can_be_gained(
    confined: Callable[[str], list[str]],
) -> None:
    said = confined("print(open('/proc/thread-self/status').read())")
    status = dict(line.split(":\t", 1) for line in said if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[name], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_what_a_lesson_needs_still_works(confined: Callable[[str], list[str]]) -> None:
    said = confined(
        """
import subprocess, sys, tempfile
thread = threading.Thread(target=lambda: print("thread", flush=True))
thread.start(); thread.join()
if (child := os.fork()) == 0:
    print("child", flush=True); os._exit(0)
os.waitpid(child, 0)
print(subprocess.run([sys.executable, "-S", "-c", "print(2)"], capture_output=True).stdout)
with tempfile.TemporaryFile() as file:
    print(file.write(b"0" * 999))
"""
    )
    assert said == ["thread", "child", "b'2\\n'", "999"]


def test_memory_files_and_time_have_limits(confined: Callable[[str], list[str]]) -> None:
    said = confined(
        """
import signal, tempfile
print(len(bytearray(100 * 2**20)))
print(tried(lambda: bytearray(300 * 2**20)))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with tempfile.TemporaryFile(buffering=0) as file:
    print(file.write(b"0" * 2000), tried(lambda: file.write(b"0")))
for kind in (resource.RLIMIT_CORE, resource.RLIMIT_CPU):
    print(resource.getrlimit(kind))
print(tried(lambda: [os.open("/dev/null", 0) for _ in range(300)]))
"""
    )
    assert said == [
        str(100 * 2**20),
        "MemoryError",
        "1000 OSError",
        "(0, 0)",
        "(300, 301)",
        "OSError",
    ]


def test_there_is_no_memory_that_no_limit_counts(confined: Callable[[str], list[str]]) -> None:
    """What is shared and of no file, or like a stack, is not among a process's own data."""
    said = confined(
        """
import mmap, platform
print(tried(lambda: mmap.mmap(-1, 2**30)))
print(tried(lambda: mmap.mmap(-1, 2**30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100)))
print(tried(lambda: mmap.mmap(-1, 2**30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)))
print(tried(lambda: os.memfd_create("a")))
numbers = {"x86_64": (29, 64, 68, 447), "aarch64": (194, 190, 186, 447)}[platform.machine()]
print([call("syscall", number, 0, 1, 0o1600) for number in numbers])
print(tried(lambda: mmap.mmap(-1, 2**20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)))
"""
    )
    refused = "PermissionError"
    assert said == [refused, refused, "OSError", refused, str(["EPERM"] * 4), "done"]


def test_a_limit_cannot_be_raised(confined: Callable[[str], list[str]]) -> None:
    said = confined(
        """
try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
except (ValueError, OSError) as error:
    print(error)
"""
    )
    assert said == ["not allowed to raise maximum limit"]


def test_the_limits_of_a_box_are_sensible() -> None:
    limits = Limits()
    assert limits.file_bytes <= limits.disk_bytes < limits.memory
