"""Library code that calls a learner's own functions in the place of the library's.

What is taught stands as plain functions and kernels that call each other by name. A learner's
``merge_states`` is used by the library's ``attend_blocks`` if there is an ``attend_blocks`` for
which the name ``merge_states`` means theirs.
"""

from __future__ import annotations

import functools
from types import FunctionType
from typing import Any


def substitute(function: Any, **replacements: Any) -> Any:
    """Return a copy of a function for which some global names mean something else.

    The module that it comes from, and everybody else who uses the function, notice nothing.

    Args:
        function: A function, or one under ``@triton.jit``; the copy is as interpreted or compiled
            as the original.
        replacements: What each global name means in the copy.

    Raises:
        ValueError: The function uses no such global name.

    >>> import torch
    >>> from course_lib.attention.dense import dense_attention
    >>> def undivided(scores): return scores.exp()
    >>> ones = torch.ones(1, 1, 1)
    >>> own = substitute(dense_attention, softmax=undivided)
    >>> own(ones, ones, ones), dense_attention(ones, ones, ones)
    (tensor([[[2.7183]]]), tensor([[[1.]]]))
    """
    if isinstance(function, FunctionType):
        return _with_globals(function, replacements)
    # Imported here, because Triton exists for Linux only and takes a second to import.
    import triton

    return triton.jit(_with_globals(function.fn, replacements))


def _with_globals(function: FunctionType, replacements: dict[str, Any]) -> FunctionType:
    """Return a copy of a plain function that shares its code but not its globals."""
    unknown = sorted(replacements.keys() - function.__globals__.keys())
    if unknown:
        raise ValueError(
            f"{function.__name__} uses no global name {unknown[0]!r}; replace what it calls"
        )
    copy = FunctionType(
        function.__code__,
        function.__globals__ | replacements,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    functools.update_wrapper(copy, function)
    del copy.__dict__["__wrapped__"]  # it leads to the globals that were replaced
    return copy
