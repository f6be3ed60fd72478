"""How much a submission may take of the machine."""

from __future__ import annotations

import resource
from dataclasses import dataclass

from autograder.proxy.memory_limit import MEMORY, bytes_of_data


@dataclass(frozen=True)
class Limits:
    """What a box may use; each process in it has the limits on memory, time and files.

    Attributes:
        memory: Bytes beyond what the course itself takes.
        whole_memory: Bytes that all processes and files of the box take together, where a control
            group can be made for it.
        processes: Processes and threads at a time, in the whole box where the kernel counts them
            by user namespace (Linux 5.14 and later).
        cpu_seconds: CPU time of one process.
        file_bytes: The size of one file.
        disk_bytes: What all files in the box hold together.
        open_files: Files that one process has open.
        stack_bytes: Depth of the C stack.
    """

    memory: int = MEMORY
    whole_memory: int = MEMORY + MEMORY // 2
    processes: int = 64
    cpu_seconds: int = 300
    file_bytes: int = 16 * 2**20
    disk_bytes: int = 64 * 2**20
    open_files: int = 256
    stack_bytes: int = 8 * 2**20

    def impose(self) -> None:
        """Put this process under the limits, and all that it will start.

        Where a lower limit is in force already, it stays.
        """
        limits = {
            # What a process may write to in memory: its address space says little, since torch
            # reserves gigabytes that it never touches.
            resource.RLIMIT_DATA: bytes_of_data() + self.memory,
            resource.RLIMIT_NPROC: self.processes,
            resource.RLIMIT_FSIZE: self.file_bytes,
            resource.RLIMIT_NOFILE: self.open_files,
            resource.RLIMIT_STACK: self.stack_bytes,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_MSGQUEUE: 0,
            resource.RLIMIT_MEMLOCK: 0,
        }
        for kind, wanted in limits.items():
            _, hard = resource.getrlimit(kind)
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(kind, (most, most))
        # One second later the kernel does not ask any more.
        resource.setrlimit(resource.RLIMIT_CPU, (self.cpu_seconds, self.cpu_seconds + 1))
