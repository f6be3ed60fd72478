"""Which backend is chosen, why, and what is said where Triton cannot run."""

import subprocess
import sys

import pytest

from course_lib.attention import choose_backend, triton_state


def _in_a_fresh_process(script: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_cpu_gets_pytorch() -> None:
    backend = choose_backend("cpu")
    assert backend.name == "pytorch"
    assert str(backend).startswith("pytorch: there is no GPU in cpu")


@pytest.mark.gpu
def test_a_gpu_gets_triton() -> None:
    if triton_state().mode != "compiled":
        pytest.skip(triton_state().reason)
    assert choose_backend("cuda").name == "triton"


def test_either_can_be_named() -> None:
    pytest.importorskip("triton")
    assert choose_backend("cpu", "pytorch").name == "pytorch"
    assert choose_backend("cpu", "triton").name == "triton"
    with pytest.raises(ValueError, match="no backend 'cuda'; there are triton and pytorch"):
        choose_backend("cpu", "cuda")  # type: ignore[arg-type]


WITHOUT_TRITON = """
import sys
class NoTriton:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "triton":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoTriton())
import importlib.util
importlib.util.find_spec = lambda name, package=None: None
"""

ASK = """
from course_lib.attention import TritonUnavailableError, choose_backend
print(choose_backend("cpu").name)
try:
    choose_backend("cpu", "triton")
except TritonUnavailableError as error:
    print(error)
"""


def test_without_triton_pytorch_works_and_the_way_out_is_named() -> None:
    name, message = _in_a_fresh_process(WITHOUT_TRITON + ASK).splitlines()
    assert name == "pytorch"
    for words in ("Linux only", "WSL", "container", "Colab"):
        assert words in message


@pytest.mark.skipif(triton_state().mode != "interpreted", reason="needs a machine without a GPU")
class TestInterpreter:
    def test_is_switched_on_by_importing_the_package(self) -> None:
        script = "import course_lib.attention as a; print(a.triton_state().mode)"
        assert _in_a_fresh_process(script) == "interpreted\n"

    def test_importing_the_package_does_not_import_triton(self) -> None:
        script = "import sys, course_lib.attention; print('triton' in sys.modules)"
        assert _in_a_fresh_process(script) == "False\n"

    def test_too_late_is_said(self) -> None:
        script = "import triton, triton.language\n" + ASK
        assert "import course_lib.attention before" in _in_a_fresh_process(script)

    def test_switched_off_without_a_gpu_is_said(self) -> None:
        assert "there is no CUDA device" in _in_a_fresh_process(ASK, TRITON_INTERPRET="0")
