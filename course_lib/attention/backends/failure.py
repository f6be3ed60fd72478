"""What went wrong in an interpreted kernel, and where.

The interpreter wraps an error once for every function that it leaves, and says neither which
program of the grid it was nor which line.
"""

from __future__ import annotations

import linecache
import traceback
from types import FrameType
from typing import NoReturn

BAD_MASK = "mask has unsupported dtype"
"""How the interpreter begins when it refuses a mask."""

_MASK_REMEDY = (
    "a GPU takes a mask of a block and a scalar, as (lane < n) & (scalar >= 0), but the "
    "interpreter does not; write tl.where(scalar >= 0, lane < n, False)"
)
_NOT_OF_THE_KERNEL = ("triton", "numpy", "torch", "course_lib.attention.backends")


class OutOfBoundsError(IndexError):
    """A kernel used an address outside the tensor that it was computed from.

    Attributes:
        kernel: The kernel's name.
        argument: The parameter whose tensor was meant.
        program_id: Which program of the grid it was, three numbers.
        lanes: The lanes at fault, each by its indices in the array of addresses.
    """

    def __init__(
        self,
        kernel: str,
        argument: str,
        program_id: tuple[int, int, int],
        lanes: list[tuple[int, ...]],
        message: str,
    ) -> None:
        super().__init__(message)
        self.kernel = kernel
        self.argument = argument
        self.program_id = program_id
        self.lanes = lanes


class KernelError(RuntimeError):
    """A kernel raised while it was interpreted; says which one, in which program and line.

    Its ``__cause__`` is what was raised.
    """


def raise_clearly(kernel: str, error: Exception) -> NoReturn:
    """Raise what an interpreted kernel raised, out of what the interpreter wrapped around it.

    Args:
        kernel: The kernel's name.
        error: What its start raised.

    Raises:
        OutOfBoundsError: As it is.
        KernelError: For any other error that was wrapped.
        Exception: The error itself, if it comes from elsewhere.
    """
    cause: BaseException = error
    while type(cause).__name__ == "InterpreterError" and cause.__cause__ is not None:
        cause = cause.__cause__
    if cause is error:
        raise error
    if isinstance(cause, OutOfBoundsError):
        raise cause from None
    remedy = f"; {_MASK_REMEDY}" if str(cause).startswith(BAD_MASK) else ""
    where = position_in(kernel, cause)
    raise KernelError(f"{where}: {type(cause).__name__}: {cause}{remedy}") from cause


def position_in(kernel: str, error: BaseException) -> str:
    """Return the kernel, its program and the line in which an error was raised, in words."""
    from triton.runtime.interpreter import interpreter_builder

    program = f"{kernel}, program {tuple(interpreter_builder.grid_idx)}"
    steps = [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not _is_of(frame, _NOT_OF_THE_KERNEL)
    ]
    if not steps:
        return program
    frame, line = steps[-1]
    source = linecache.getline(frame.f_code.co_filename, line).strip()
    inside = f" of {frame.f_code.co_name}" if frame.f_code.co_name != kernel else ""
    return f"{program}, line {line}{inside} ({source})"


def _is_of(frame: FrameType, packages: tuple[str, ...]) -> bool:
    """Say whether a frame runs code of one of the packages."""
    module = f"{frame.f_globals.get('__name__')}."
    return module.startswith(tuple(f"{package}." for package in packages))
