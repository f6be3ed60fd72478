"""Trying a kernel: run it on copies of its arguments, watched, or compile it for several GPUs.

An operation is the name of one of the functions of ``launches`` that end in ``_launch``, or
``softmax_step_launch``. The kernel has the parameters of the one that this function starts.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from course_lib.attention.backends.availability import require_triton, triton_state
from course_lib.attention.backends.compilation import (
    CAPABILITIES,
    CompiledKernel,
    compile_launches,
)
from course_lib.attention.backends.guard import bounds_guard
from course_lib.attention.backends.launch import Launch, require_triton_function
from course_lib.attention.backends.substitution import substitute
from course_lib.attention.batch import PagedBatch

_STATE = ("split_max", "split_denominator", "split_numerator")
_CACHES = ("key_cache", "value_cache")

OUTPUTS: dict[str, tuple[str, ...]] = {
    "reshape_and_cache_launch": _CACHES,
    "paged_decode_launch": ("out",),
    "split_decode_launch": _STATE,
    "combine_splits_launch": ("out",),
    "chunked_prefill_launch": ("out",),
    "copy_blocks_launch": _CACHES,
    "softmax_step_launch": ("max_score", "denominator", "numerator"),
}
"""What each operation writes to, by the names of its arguments."""

_VALUES = (bool, int, float, str, list, tuple, dict, Tensor)
"""What a variable outside a kernel may hold that a GPU does not see; constants are annotated."""

_IN_PLACE = ("reshape_and_cache_launch", "copy_blocks_launch", "softmax_step_launch")


@dataclass(frozen=True, eq=False)
class Trial:
    """What a kernel did.

    Attributes:
        outputs: The tensors of ``OUTPUTS``, by name, as the kernel left them. NaN stands where
            nothing was written, except in what is changed in place.
        loaded: The bytes that it read, by argument, as in ``Traffic``; None where Triton compiles,
            as nobody watches a GPU's memory.
        stored: The bytes that it wrote, likewise.
        accesses: How many loads and stores that took, likewise.
    """

    outputs: dict[str, Tensor]
    loaded: dict[str, int] | None
    stored: dict[str, int] | None
    accesses: dict[str, int] | None


def try_launch(operation: str, kernel: Any, arguments: Mapping[str, Any]) -> Trial:
    """Start a kernel on copies of its arguments, under the bounds guard.

    What the kernel is to write is NaN before, except for what is changed in place (both caches, or
    the state of ``softmax_step_launch``). What is in the slots of a cache that nobody owns is up to
    the caller.

    Args:
        operation: One of ``OUTPUTS``.
        kernel: A function under ``@triton.jit``.
        arguments: What the function of this name takes, by name, on the CPU. Nothing in it is
            changed. Outputs are asked for as tensors of their shape and type; ``out`` may be left
            out where there is a query.

    Raises:
        ValueError: There is no such operation, the kernel is no Triton function, or its parameters
            are others.
        OutOfBoundsError: The kernel went outside a tensor.
        KernelError: It raised.
        TritonUnavailableError: Triton cannot run here.

    >>> import torch
    >>> from course_lib.attention.triton_kernels import copy_blocks_kernel
    >>> cache = torch.arange(4.0).reshape(4, 1, 1, 1)
    >>> trial = try_launch(
    ...     "copy_blocks_launch",
    ...     copy_blocks_kernel,
    ...     {"key_cache": cache, "value_cache": -cache, "block_copies": torch.tensor([[1, 3]])},
    ... )
    >>> trial.outputs["key_cache"].flatten(), cache.flatten()
    (tensor([0., 1., 2., 1.]), tensor([0., 1., 2., 3.]))
    """
    require_triton()
    compiled = triton_state().mode == "compiled"
    device = "cuda" if compiled else "cpu"
    given = dict(arguments)
    if "out" in OUTPUTS.get(operation, ()) and "out" not in given and "query" in given:
        given["out"] = torch.empty_like(given["query"])
    copied = {name: _copy(value, device) for name, value in given.items()}
    launch = _launch(operation, kernel, copied)
    outputs = {name: copied[name] for name in OUTPUTS[operation]}
    if operation not in _IN_PLACE:
        for output in outputs.values():
            output.fill_(torch.nan)
    if compiled:
        launch.run()
        return Trial({name: output.cpu() for name, output in outputs.items()}, None, None, None)
    with bounds_guard() as traffic:
        launch.run()
    return Trial(outputs, dict(traffic.loaded), dict(traffic.stored), dict(traffic.accesses))


def compile_for_all(operation: str, kernel: Any) -> dict[str, CompiledKernel]:
    """Compile a kernel as Llama-3.1-8B in bfloat16 needs it, for every GPU of ``CAPABILITIES``.

    Needs no GPU. It takes some seconds, in a process of its own.

    Args:
        operation: One of ``OUTPUTS``.
        kernel: A function under ``@triton.jit``.

    Returns:
        The compiled kernel for ``sm_80``, ``sm_90`` and ``sm_100``.

    Raises:
        ValueError: As in ``try_launch``.
        KernelCompileError: The compiler refuses it; says for which GPU and why.
        CompilerUnfinishedError: It came to no end; says within which time.
    """
    require_triton()
    from course_lib.attention.backends.launches import as_on_a_gpu

    launch = as_on_a_gpu(_launch(operation, kernel, _example(operation)))
    return {f"sm_{each.capability}": each for each in compile_launches([launch], CAPABILITIES)}


def _launch(operation: str, kernel: Any, arguments: Mapping[str, Any]) -> Launch:
    """Return how the operation starts this kernel."""
    if operation not in OUTPUTS:
        raise ValueError(f"no operation {operation!r}; operations: {', '.join(OUTPUTS)}")
    from course_lib.attention import triton_kernels
    from course_lib.attention.backends import launches, step_launch

    if operation == "softmax_step_launch":
        _require_parameters(kernel, triton_kernels.softmax_step)
        launch = step_launch.softmax_step_launch(**arguments)
        return replace(launch, kernel=substitute(launch.kernel, softmax_step=kernel))
    start: Callable[..., Launch] = getattr(launches, operation)
    launch = start(**arguments)
    _require_parameters(kernel, launch.kernel)
    return replace(launch, kernel=kernel)


def _require_parameters(kernel: Any, reference: Any) -> None:
    """Raise ValueError unless a kernel can be started as the library's."""
    name = reference.fn.__name__
    require_triton_function(name, kernel)
    wanted, got = (inspect.signature(function.fn).parameters for function in (reference, kernel))
    if set(wanted) != set(got):
        missing = [each for each in wanted if each not in got]
        unknown = [each for each in got if each not in wanted]
        raise ValueError(
            f"{name} has other parameters than its launch gives it (missing: "
            f"{', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}); keep the "
            "names in its def"
        )
    _require_arguments_only(name, kernel)


def _require_arguments_only(name: str, kernel: Any) -> None:
    """Raise ValueError if a kernel reads a variable of the notebook, which no GPU can see."""
    scope = kernel.fn.__globals__
    read = (each.argval for each in dis.get_instructions(kernel.fn) if each.opname == "LOAD_GLOBAL")
    for used in read:
        is_constant = used in scope.get("__annotations__", {})
        if isinstance(scope.get(used), _VALUES) and not is_constant:
            raise ValueError(
                f"{name} reads {used}, a variable outside it, which a GPU does not see; take it "
                "from the kernel's arguments, or load it from where they point"
            )


def _copy(value: Any, device: str) -> Any:
    """Return a tensor, or a batch's tensors, elsewhere in memory, with the same strides."""
    if isinstance(value, PagedBatch):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        return PagedBatch(**{name: _copy(part, device) for name, part in parts.items()})
    if not isinstance(value, Tensor):
        return value
    if 0 in value.stride():  # several elements in one place cannot be written
        return value.to(device, copy=True, memory_format=torch.contiguous_format)
    copy = torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device=device)
    return copy.copy_(value)


def _example(operation: str) -> dict[str, Any]:
    """Return arguments for an operation, as an engine that serves Llama-3.1-8B has them."""
    from course_lib.attention.backends.launches import SplitStates

    num_blocks, block_size, num_heads, num_kv_heads, head_dim = 8, 16, 32, 8, 128
    if operation == "softmax_step_launch":
        rows, keys = 16, 64
        sums = torch.zeros(rows, head_dim)
        return {
            "max_score": sums[:, 0].clone(),
            "denominator": sums[:, 0].clone(),
            "numerator": sums,
            "scores": torch.zeros(rows, keys),
            "values": torch.zeros(keys, head_dim, dtype=torch.bfloat16),
        }
    chunk = 64 if operation == "chunked_prefill_launch" else 1
    cache = torch.zeros(num_blocks, block_size, num_kv_heads, head_dim, dtype=torch.bfloat16)
    caches = {"key_cache": cache, "value_cache": cache}
    if operation == "copy_blocks_launch":
        return {**caches, "block_copies": torch.zeros(2, 2, dtype=torch.int32)}
    query = torch.zeros(2 * chunk, num_heads, head_dim, dtype=torch.bfloat16)
    if operation == "reshape_and_cache_launch":
        key = query[:, :num_kv_heads]
        slots = torch.zeros(len(query), dtype=torch.int64)
        return {"key": key, "value": key, **caches, "slot_mapping": slots}
    states = SplitStates.unwritten(query, num_splits=2)._asdict()
    if operation == "combine_splits_launch":
        return {"out": query, **states}
    tables = [[0, 1, 2, 3], [4, 5, 6, 7]]
    batch = PagedBatch.of(
        tables, [64, 64], [chunk, chunk], num_blocks=num_blocks, block_size=block_size
    )
    read = {"query": query, **caches, "batch": batch}
    if operation == "split_decode_launch":
        return {**states, **read}
    return {"out": query, **read}
