"""Large tensors that come and go do not get their memory from the operating system each time."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from course_lib.engine.memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(10):
    before = faults()
    tensors = [torch.ones(3 * 2**18) for _ in range(6)]
    del tensors
print(faults() - before)
"""


def page_faults(mode: str) -> int:
    """Return how many pages six tensors of 3 MiB take that come after others like them."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc learns from what it sees")
def test_memory_that_was_freed_is_kept() -> None:
    assert page_faults("as it is") > 1000
    assert page_faults("keep") < 100
