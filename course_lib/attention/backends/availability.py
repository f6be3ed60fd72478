"""Whether Triton can run kernels here, how, and what to do if it cannot."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

import torch

ELSEWHERE = (
    "on Windows use WSL, on a Mac a Linux container; Google Colab works too. All exercises in "
    "PyTorch work here"
)


class TritonUnavailableError(RuntimeError):
    """A Triton kernel was asked for where none can run; says why and what to do."""


@dataclass(frozen=True)
class TritonState:
    """How Triton runs kernels here.

    Attributes:
        mode: ``compiled`` for the GPU, ``interpreted`` on the CPU, or ``unavailable``.
        reason: Why, and for ``unavailable`` what to do.
    """

    mode: Literal["compiled", "interpreted", "unavailable"]
    reason: str


def triton_state() -> TritonState:
    """Return how Triton runs kernels in this process. This imports it, which takes a second.

    >>> triton_state().mode in {"compiled", "interpreted", "unavailable"}
    True
    """
    if importlib.util.find_spec("triton") is None:
        return TritonState(
            "unavailable", f"Triton is not installed; it exists for Linux only: {ELSEWHERE}"
        )
    import triton.language as tl
    from triton import knobs
    from triton.runtime.jit import JITFunction

    # Triton's own functions become interpreted ones when they are defined, or never.
    defined_interpreted = not isinstance(tl.max, JITFunction)
    if defined_interpreted and knobs.runtime.interpret:
        return TritonState("interpreted", "TRITON_INTERPRET=1: kernels run on the CPU, slowly")
    if defined_interpreted or knobs.runtime.interpret:
        return TritonState(
            "unavailable",
            "TRITON_INTERPRET was changed after Triton had been imported; restart Python and "
            "import course_lib.attention before anything that imports triton",
        )
    if not torch.cuda.is_available():
        return TritonState(
            "unavailable",
            "Triton was told to compile, but there is no CUDA device; unset TRITON_INTERPRET, "
            "restart Python and import course_lib.attention first, and the interpreter is used",
        )
    return TritonState("compiled", f"kernels are compiled for {torch.cuda.get_device_name()}")


def require_triton() -> None:
    """Make Triton ready, or raise TritonUnavailableError where no kernel can run."""
    state = triton_state()
    if state.mode == "unavailable":
        raise TritonUnavailableError(state.reason)
    from course_lib.attention.backends.older_triton import let_tensors_bound_loops

    let_tensors_bound_loops()
