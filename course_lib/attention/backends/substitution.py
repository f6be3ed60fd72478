"""The library's kernels with a learner's own Triton function in the place of the library's."""

from __future__ import annotations

from typing import Any

from course_lib.rewiring import with_globals


def substitute(kernel: Any, **replacements: Any) -> Any:
    """Return a copy of a kernel for which some global names mean something else.

    The module that it comes from, and everybody else who uses it, notice nothing.

    Args:
        kernel: A function under ``@triton.jit``; the copy is as interpreted or compiled as it is.
        replacements: What each global name means in the copy.

    Raises:
        ValueError: The kernel uses no such global name.

    >>> from course_lib.attention import triton_kernels
    >>> own = substitute(triton_kernels.paged_decode_kernel, softmax_step=print)
    >>> own.fn.__globals__["softmax_step"] is print
    True
    """
    # Imported here, because Triton exists for Linux only and takes a second to import.
    import triton

    unknown = sorted(replacements.keys() - kernel.fn.__globals__.keys())
    if unknown:
        raise ValueError(
            f"{kernel.fn.__name__} uses no global name {unknown[0]!r}; replace what it calls"
        )
    return triton.jit(with_globals(kernel.fn, replacements))
