"""A kernel with everything that it is started with: to run it, or to compile it for any GPU."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from course_lib.attention.backends.failure import raise_clearly

TRITON_CODE = {
    "reshape_and_cache": ("reshape_and_cache_kernel",),
    "paged_decode": (
        "paged_decode_kernel",
        "split_decode_kernel",
        "combine_splits_kernel",
        "softmax_step",
    ),
    "chunked_prefill": ("chunked_prefill_kernel", "softmax_step"),
    "copy_blocks": ("copy_blocks_kernel",),
}
"""The kernels of each operation, and the step that two of them share, by name."""


def require_triton_function(name: str, kernel: Any) -> None:
    """Raise ValueError unless a kernel is a function under ``@triton.jit``.

    >>> require_triton_function("softmax_step", len)
    Traceback (most recent call last):
    ValueError: softmax_step is a builtin_function_or_method, not a Triton function; ...
    """
    if not hasattr(kernel, "fn"):
        kind = type(kernel).__name__
        article = "an" if kind[0] in "aeiou" else "a"
        raise ValueError(
            f"{name} is {article} {kind}, not a Triton function; write @triton.jit above its def"
        )


@dataclass(frozen=True, eq=False)
class Launch:
    """One start of a Triton kernel.

    ``dataclasses.replace(launch, kernel=mine)`` is the same start of another kernel with the same
    parameters.

    Attributes:
        kernel: A function under ``@triton.jit``.
        grid: How many programs, along one to three axes.
        arguments: Every parameter of the kernel by name: tensors, numbers and constants.
        num_warps: Warps (of 32 threads) per program. The interpreter takes no notice.
        num_stages: Iterations of a loop whose loads are under way at once, likewise.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    num_warps: int = 4
    num_stages: int = 3

    @property
    def name(self) -> str:
        """The kernel's name."""
        return str(self.kernel.fn.__name__)

    @property
    def constants(self) -> dict[str, Any]:
        """The arguments that are known when the kernel is compiled (``tl.constexpr``)."""
        parameters = inspect.signature(self.kernel.fn).parameters
        return {
            name: value
            for name, value in self.arguments.items()
            if "constexpr" in str(parameters[name].annotation)
        }

    def run(self) -> None:
        """Start the kernel; on a GPU this returns before it has finished.

        Raises:
            KernelError: The kernel raised while it was interpreted.
        """
        tensor = next(value for value in self.arguments.values() if isinstance(value, Tensor))
        try:
            with torch.cuda.device_of(tensor):
                self.kernel[self.grid](
                    **self.arguments, num_warps=self.num_warps, num_stages=self.num_stages
                )
        except Exception as error:
            raise_clearly(self.name, error)
