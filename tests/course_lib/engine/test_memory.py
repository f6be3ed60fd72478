"""Large tensors that come and go do not get their memory from the operating system each time."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from course_lib.engine.memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

keep_freed_memory()
for _ in range(10):
    before = faults()
    tensors = [torch.ones(15 * 2**18) for _ in range(3)]
    del tensors
print(faults() - before)
"""
"""Prints how many pages three tensors of 15 MiB take that come after others like them."""

ATTEMPTS = 4
"""Without it, some processes need no pages either: it depends on what else is in the way when
memory could be given back. Five of eight took 7,648."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others have no such limits")
def test_memory_that_was_freed_is_kept() -> None:
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
        )
        assert int(done.stdout) < 100
