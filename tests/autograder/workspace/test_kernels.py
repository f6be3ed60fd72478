"""Triton kernels: cut out of the library, taken out of a notebook, kept, loaded and run."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

import torch
from triton.runtime.jit import JITFunction

from autograder.build.holes import cut, hidden_lines, stub
from autograder.checks.reference import is_kernel, plain
from autograder.workspace.harvest import standalone_source
from course_lib import parts
from course_lib.attention import triton_kernels

NAME = "scale_kernel"
REFERENCE = triton_kernels.copy_blocks_kernel
CELLS = (
    "import triton\nimport triton.language as tl\nfrom math import floor\n"
    "FACTOR = tl.constexpr(3)\n",
    "@triton.jit\ndef tripled(x):\n    return x * FACTOR\n",
    "@triton.jit\n"
    "def scale_kernel(out, x, n, LANES: tl.constexpr):\n"
    '    """Triple n numbers."""\n'
    "    lane = tl.arange(0, LANES)\n"
    "    mask = lane < n\n"
    "    tl.store(out + lane, tripled(tl.load(x + lane, mask=mask)), mask=mask)\n",
)

COMPILE = """
import importlib.util, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

path, name = sys.argv[1:]
spec = importlib.util.spec_from_file_location("kept", path)
kept = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kept)
signature = {"out": "*fp32", "x": "*fp32", "n": "i32", "LANES": "constexpr"}
source = ASTSource(fn=getattr(kept, name), signature=signature, constexprs={"LANES": 4})
print(triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"])
"""


@pytest.fixture
def engine(workspace, monkeypatch):
    """A workspace in which the kernel of the cells is a part."""
    monkeypatch.setattr(triton_kernels, NAME, REFERENCE, raising=False)
    part = parts.Part(NAME, triton_kernels.__name__, lesson=2, node="triton_kernels")
    monkeypatch.setitem(parts.PARTS, NAME, part)
    return workspace / "my_engine"


def run(kernel, n=3):
    x, out = torch.arange(4.0), torch.full((4,), -1.0)
    kernel[(1,)](out, x, n, LANES=4)
    return out.tolist()


def test_a_kernel_is_cut_with_its_decorator():
    marked = cut(REFERENCE)
    released = stub(marked).split("\n")
    assert released[:2] == ["@triton.jit", "def copy_blocks_kernel("]
    assert released[-1] == "    # YOUR CODE HERE"
    assert hidden_lines(marked)
    compile("\n".join(released), "stub", "exec")


def test_a_kernel_is_faded_at_its_comments():
    released = stub(cut(triton_kernels.reshape_and_cache_kernel, steps=["One lane for each"]))
    assert (
        "        # One lane for each number of the token's key.\n        # YOUR CODE HERE"
        in released
    )
    assert "tl.store(key_cache + target" in released


def test_a_kernel_is_known_and_what_is_written_of_it_is_its_function(notebook):
    kernel = notebook(*CELLS).scale_kernel
    assert is_kernel(kernel)
    assert plain(kernel).__name__ == NAME
    assert not is_kernel(plain(kernel))
    assert is_kernel(JITFunction(plain(kernel))), "where there is a GPU, too"


def test_a_kernel_of_a_notebook_is_kept_with_its_helpers_and_runs(notebook, engine):
    cells = notebook(*CELLS)
    source = standalone_source(cells.scale_kernel, "2.5")
    assert parts.save(NAME, source, "2.5") == engine / f"{NAME}.py"
    kernel = parts.get(NAME)
    assert kernel is not cells.scale_kernel
    assert run(kernel) == run(cells.scale_kernel) == [0, 3, 6, -1]
    lines = source.splitlines()
    assert "import triton" in lines
    assert "import triton.language as tl" in lines
    assert "FACTOR = tl.constexpr(3)" in lines
    assert source.count("@triton.jit") == 2
    assert "floor" not in source
    assert standalone_source(kernel, "2.5") == source


def test_a_kernel_that_was_edited_runs_as_it_is_now(notebook, engine):
    path = parts.save(NAME, standalone_source(notebook(*CELLS).scale_kernel, "2.5"))
    assert run(parts.get(NAME)) == [0, 3, 6, -1]
    path.write_text(path.read_text().replace("constexpr(3)", "constexpr(5)"))
    # Not even its time tells.
    os.utime(path, (0, 0))
    assert run(parts.get(NAME)) == [0, 5, 10, -1]
    path.write_text(path.read_text().replace("lane < n", "lane > n"))
    os.utime(path, (0, 0))
    assert run(parts.get(NAME), n=1) == [-1, -1, 10, 15]


def test_a_kernel_that_was_kept_compiles_for_a_gpu(notebook, engine):
    path = parts.save(NAME, standalone_source(notebook(*CELLS).scale_kernel, "2.5"))
    # Not in this process: a kernel that was interpreted here with tl.sum or the like in it leaves
    # Triton's own functions interpreted ones.
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", COMPILE, path, NAME],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ".visible .entry scale_kernel" in done.stdout


def test_a_kernel_may_use_one_of_the_library_and_one_that_is_a_part(notebook, engine):
    parts.save(NAME, standalone_source(notebook(*CELLS).scale_kernel, "2.5"))
    cells = notebook(
        "from course_lib import parts\nfrom course_lib.attention.triton_kernels import "
        "copy_blocks_kernel\nmine = parts.get('scale_kernel')\n",
        "def launch():\n    return mine, copy_blocks_kernel\n",
    )
    source = standalone_source(cells.launch, "2.9")
    assert 'mine = parts.get("scale_kernel")' in source
    assert "from course_lib.attention.triton_kernels import copy_blocks_kernel" in source
