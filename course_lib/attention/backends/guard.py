"""Watching every address that an interpreted kernel touches.

The interpreter reads whatever an address points to. A little beyond a tensor that is garbage, far
beyond it the process dies, and a notebook's kernel with it. Under ``bounds_guard`` both become an
IndexError that says which lanes of which program went where. On the way it counts the bytes that
are read and written, which is what a kernel's time on a GPU mostly depends on.

How it knows which tensor an address is meant for: addresses use 48 of 64 bits, so the number of the
argument travels in the upper 16, through all arithmetic, until the address is used.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from course_lib.attention.backends.availability import TritonUnavailableError, triton_state
from course_lib.attention.backends.failure import (
    BAD_MASK,
    OutOfBoundsError,
    position_in,
    raise_clearly,
)

_ADDRESS_BITS = 48
_ADDRESS_MASK = np.uint64((1 << _ADDRESS_BITS) - 1)
_MARGIN = 1 << 46
"""How many bytes below address 0 a miss may be and is still known by its argument: an address of a
program has 47 bits at the most, so that this much above it is free, too."""
_MAX_SHOWN = 4

_Original = Callable[..., Any]


@dataclass
class Traffic:
    """The bytes that kernels moved under a guard.

    Each active lane counts, also when several read the same address; on a GPU the caches would
    serve those.

    Attributes:
        loaded: Bytes read, by the name of the kernel's parameter.
        stored: Bytes written, likewise.
        accesses: Loads and stores, likewise; one of many lanes counts once, one without an active
            lane not at all, and an atomic operation twice.

    >>> Traffic(Counter(key=8, value=8), Counter(out=4)).bytes_moved
    20
    """

    loaded: Counter[str] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)
    accesses: Counter[str] = field(default_factory=Counter)

    @property
    def bytes_loaded(self) -> int:
        """Bytes read from all arguments."""
        return self.loaded.total()

    @property
    def bytes_stored(self) -> int:
        """Bytes written to all arguments."""
        return self.stored.total()

    @property
    def bytes_moved(self) -> int:
        """Bytes read and written."""
        return self.bytes_loaded + self.bytes_stored


@contextmanager
def bounds_guard() -> Iterator[Traffic]:
    """Check every address that kernels use inside the ``with`` block, and count what they move.

    What counts as inside a tensor is the stretch of memory from its first to its last element.

    Yields:
        The bytes moved so far.

    Raises:
        OutOfBoundsError: From the kernel's launch; an IndexError. Nothing outside was touched, but
            what the kernel stored before stays stored.
        KernelError: From the kernel's launch: it raised, in the program and line that are named.
        TritonUnavailableError: Triton does not interpret here.
        RuntimeError: Another guard is active.

    Example::

        with bounds_guard() as traffic:
            triton_ops.copy_blocks(key_cache, value_cache, [(0, 3)])
        traffic.loaded["key_cache"]  # the bytes of one block
    """
    state = triton_state()
    if state.mode != "interpreted":
        raise TritonUnavailableError(
            f"the guard watches Triton's interpreter, which does not run here ({state.reason}); on "
            "a GPU use NVIDIA's compute-sanitizer"
        )
    if not _ACTIVE.acquire(blocking=False):
        raise RuntimeError("a bounds guard is already active; leave it before you start another")
    try:
        watch = _Watch()
        with _patched(watch):
            yield watch.traffic
    finally:
        _ACTIVE.release()


_ACTIVE = Lock()


@dataclass(frozen=True)
class _Region:
    """The memory of one argument of the running kernel."""

    argument: str
    start: int
    num_bytes: int


class _Watch:
    """Stands between interpreted kernels and memory."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self._kernel = ""
        self._regions: list[_Region] = []
        self._numbers: dict[int, int] = {}  # of the region, by the id of the tensor

    def learn_arguments(self, original: _Original, executor: Any, args: Any, kwargs: Any) -> Any:
        """Note which tensors a kernel is started with, as copied to the host."""
        host_args, host_kwargs = original(executor, args, kwargs)
        self._kernel = executor.fn.__name__
        self._regions, self._numbers = [], {}
        bound = inspect.signature(executor.fn).bind(*host_args, **host_kwargs)
        for name, value in bound.arguments.items():
            for tensor in _tensors_in(value):
                self._regions.append(_Region(name, tensor.data_ptr(), _extent(tensor)))
                # 0 stays free for addresses that come from no argument.
                self._numbers[id(tensor)] = len(self._regions)
        return host_args, host_kwargs

    def mark_address(self, original: _Original, argument: Any) -> Any:
        """Put the argument's number into the upper bits of its address."""
        converted = original(argument)
        number = self._numbers.get(id(argument))
        if number is not None:
            converted.handle.data = converted.handle.data | np.uint64(number << _ADDRESS_BITS)
        return converted

    def load(
        self, original: _Original, builder: Any, pointers: Any, mask: Any, other: Any, *rest: Any
    ) -> Any:
        """Check and count a read, then do it; lanes without a value get one that is found out.

        On a GPU they hold anything. The interpreter's zeros would hide who counts on them.
        """
        real = self._check(builder, pointers, mask, self.traffic.loaded)
        loaded = original(builder, real, mask, other, *rest)
        if other is None and loaded.data.dtype.kind == "f":
            loaded.data[~np.broadcast_to(mask.data, loaded.data.shape)] = np.nan
        return loaded

    def store(
        self, original: _Original, builder: Any, pointers: Any, value: Any, mask: Any, *rest: Any
    ) -> Any:
        """Check and count a write, then do it."""
        real = self._check(builder, pointers, mask, self.traffic.stored)
        return original(builder, real, value, mask, *rest)

    def read_modify_write(
        self,
        original: _Original,
        builder: Any,
        operation: Any,
        pointers: Any,
        value: Any,
        mask: Any,
        *rest: Any,
    ) -> Any:
        """Check and count an atomic update, which reads and writes, then do it."""
        self._check(builder, pointers, mask, self.traffic.loaded)
        real = self._check(builder, pointers, mask, self.traffic.stored)
        return original(builder, operation, real, value, mask, *rest)

    def compare_and_swap(self, original: _Original, builder: Any, pointers: Any, *rest: Any) -> Any:
        """Check and count an atomic exchange of every lane, then do it."""
        mask = type(pointers)(np.ones(pointers.data.shape, dtype=bool), pointers.dtype)
        self._check(builder, pointers, mask, self.traffic.loaded)
        real = self._check(builder, pointers, mask, self.traffic.stored)
        return original(builder, real, *rest)

    def clear_error(self, original: _Original, executor: Any, *args: Any, **kwargs: Any) -> None:
        """Start a kernel; say of what goes wrong where it was."""
        try:
            original(executor, *args, **kwargs)
        except Exception as error:
            raise_clearly(self._kernel, error)
        except BaseException as interruption:
            # Such as the end of the time that a check allows.
            interruption.add_note(f"it was in {position_in(self._kernel, interruption)}")
            raise

    def _check(self, builder: Any, pointers: Any, mask: Any, count: Counter[str]) -> Any:
        """Return the pointers as plain addresses, if all active ones are inside one argument."""
        if mask.data.dtype != np.bool_:
            # The interpreter would say so too, but not for every kind of access.
            raise ValueError(f"{BAD_MASK} {mask.data.dtype}")
        active = np.broadcast_to(mask.data, pointers.data.shape)
        marked = pointers.data[active]
        itemsize = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        if marked.size:
            number = (int(marked[0]) + _MARGIN) >> _ADDRESS_BITS
            region = self._region(number)
            # Another lane's number, if it differs, is far outside.
            start = np.uint64((number << _ADDRESS_BITS) + region.start)
            offsets = (marked - start).view(np.int64)
            outside = (offsets < 0) | (offsets > region.num_bytes - itemsize)
            if outside.any():
                raise self._error(builder, region, active, outside, offsets // itemsize, itemsize)
            count[region.argument] += int(marked.size) * itemsize
            self.traffic.accesses[region.argument] += 1
        return type(pointers)(pointers.data & _ADDRESS_MASK, pointers.dtype)

    def _region(self, number: int) -> _Region:
        if 1 <= number <= len(self._regions):
            return self._regions[number - 1]
        return _Region("no argument", 0, 0)

    def _error(
        self,
        builder: Any,
        region: _Region,
        active: NDArray[np.bool_],
        outside: NDArray[np.bool_],
        elements: NDArray[np.int64],
        itemsize: int,
    ) -> OutOfBoundsError:
        lanes = [tuple(int(i) for i in lane) for lane in np.argwhere(active)[outside]]
        shown = ", ".join(
            f"lane {lane} at element {element}"
            for lane, element in zip(lanes[:_MAX_SHOWN], elements[outside], strict=False)
        )
        more = f" and {len(lanes) - _MAX_SHOWN} more" if len(lanes) > _MAX_SHOWN else ""
        program_id = tuple(builder.grid_idx)
        return OutOfBoundsError(
            self._kernel,
            region.argument,
            program_id,
            lanes,
            f"{self._kernel}, program {program_id}: {len(lanes)} of {active.sum()} active lanes "
            f"are outside {region.argument}, which has elements 0 to "
            f"{region.num_bytes // itemsize - 1}: {shown}{more}; mask these lanes off, or mend "
            "the index",
        )


@contextmanager
def _patched(watch: _Watch) -> Iterator[None]:
    """Put the watch between Triton's interpreter and memory, for a while."""
    from triton.runtime import interpreter

    executor, builder = interpreter.GridExecutor, interpreter.InterpreterBuilder
    with ExitStack() as patches:
        for owner, name, wrapper in (
            (executor, "_init_args_hst", watch.learn_arguments),
            (executor, "__call__", watch.clear_error),
            (interpreter, "_implicit_cvt", watch.mark_address),
            (builder, "create_masked_load", watch.load),
            (builder, "create_masked_store", watch.store),
            (builder, "create_atomic_rmw", watch.read_modify_write),
            (builder, "create_atomic_cas", watch.compare_and_swap),
        ):
            replacement = _wrap(wrapper, getattr(owner, name))
            patches.enter_context(patch.object(owner, name, replacement))
        yield


def _wrap(wrapper: Callable[..., Any], original: _Original) -> _Original:
    """Return a function that hands its arguments to the wrapper, the original before them."""

    def replacement(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    return replacement


def _tensors_in(value: Any) -> Iterator[Any]:
    """Yield the tensors that an argument consists of."""
    if hasattr(value, "data_ptr"):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _tensors_in(item)
    elif hasattr(value, "block_shape"):  # a tensor descriptor
        yield value.base


def _extent(tensor: Any) -> int:
    """Return the bytes from a tensor's first element to the end of its last."""
    if not tensor.numel():
        return 0
    last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return int(last + 1) * int(tensor.element_size())
