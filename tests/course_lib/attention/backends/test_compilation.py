"""Every kernel is real: the compiler turns it into machine code for GPUs that are not here."""

from dataclasses import replace
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402

from course_lib.attention.backends import compilation, launches  # noqa: E402
from course_lib.attention.backends.compilation import (  # noqa: E402
    CAPABILITIES,
    CompiledKernel,
    CompilerUnfinishedError,
    KernelCompileError,
    compile_launches,
)
from course_lib.attention.backends.launch import Launch  # noqa: E402

SHARED_BYTES = {80: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024}
"""What a program may have, by capability: on an L4 or RTX 4090, the smallest of the GPUs that
the course names, which get the code of an A100; on an H100; on a B200."""


def _attention(make_case: Any, setting: Any) -> list[Launch]:
    """Return how to decode, split-decode, combine and prefill in a setting."""
    case, chunk = make_case(setting, [100, 40]), make_case(setting, [100, 40], [64, 1])
    decode, prefill = torch.empty_like(case.query), torch.empty_like(chunk.query)
    states = launches.SplitStates.unwritten(decode, 2)
    found = [
        launches.paged_decode_launch(decode, *case.arguments),
        launches.split_decode_launch(*states, *case.arguments),
        launches.combine_splits_launch(decode, *states),
        launches.chunked_prefill_launch(prefill, *chunk.arguments),
    ]
    return [launches.as_on_a_gpu(launch) for launch in found]


@pytest.fixture(scope="module")
def llama(a_setting: Any) -> Any:
    """The heads of Llama-3.1-8B in bfloat16."""
    return replace(a_setting, head_dim=128, group=4, num_kv_heads=8, dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def compiled(make_case: Any, llama: Any) -> list[CompiledKernel]:
    """Every kernel for every GPU."""
    case = make_case(llama, [100, 40])
    key = case.query[:, :8]
    writes = launches.reshape_and_cache_launch(
        key, key, case.key_cache, case.value_cache, case.batch.slot_mapping
    )
    pairs = torch.zeros(2, 2, dtype=torch.int32)
    copies = launches.copy_blocks_launch(case.key_cache, case.value_cache, pairs)
    return compile_launches([writes, copies, *_attention(make_case, llama)])


def test_every_kernel_compiles_for_every_gpu(compiled: list[CompiledKernel]) -> None:
    names = {name for name in vars(launches.kernels) if name.endswith("_kernel")}
    assert len(names) == 6
    assert {(kernel.name, kernel.capability) for kernel in compiled} == {
        (name, capability) for name in names for capability in CAPABILITIES
    }
    for kernel in compiled:
        assert f".target sm_{kernel.capability}" in kernel.ptx


def test_loads_are_wide_and_ahead_of_their_use(compiled: list[CompiledKernel]) -> None:
    for kernel in compiled:
        if kernel.name in {"reshape_and_cache_kernel", "copy_blocks_kernel"}:
            assert ".v4.b32" in kernel.ptx, "16 bytes per thread"
        if kernel.name.endswith(("decode_kernel", "prefill_kernel")):
            # The .cg form of an asynchronous copy is the one of 16 bytes.
            assert "cp.async.cg.shared.global" in kernel.ptx, kernel.name


@pytest.mark.parametrize(
    ("head_dim", "group", "dtype"),
    [(256, 3, torch.float16), (256, 8, torch.float32)],
)
def test_the_largest_heads_fit_into_shared_memory(
    make_case: Any,
    llama: Any,
    compiled: list[CompiledKernel],
    head_dim: int,
    group: int,
    dtype: torch.dtype,
) -> None:
    wide = replace(llama, head_dim=head_dim, group=group, num_kv_heads=2, dtype=dtype)
    largest = compile_launches(_attention(make_case, wide), capabilities=[80, 90])
    for kernel in (*compiled, *largest):
        allowed = SHARED_BYTES[kernel.capability]
        assert kernel.shared_bytes <= allowed, (kernel.name, kernel.capability)


@triton.jit
def breaking_kernel(out, N: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: N803
    total = 0
    for i in range(N):
        if total > 3:
            break
        total += i
    tl.store(out, total)


@triton.jit
def narrow_kernel(out, N: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: N803
    row = tl.arange(0, N)
    ones = tl.full([N, N], 1.0, tl.float16)
    tl.store(out + row[:, None] * N + row[None, :], tl.dot(ones, ones))


@pytest.mark.parametrize(("kernel", "size"), [(breaking_kernel, 9), (narrow_kernel, 8)])
def test_what_only_the_interpreter_accepts_is_refused(kernel: Any, size: int) -> None:
    launch = Launch(kernel, (1,), {"out": torch.zeros(size, size), "N": size})
    if not isinstance(kernel, triton.JITFunction):
        launch.run()
    with pytest.raises(KernelCompileError, match=f"{launch.name} for compute capability 9.0"):
        compile_launches([launch], capabilities=[90])


@triton.jit
def unrolling_kernel(out, N: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: N803
    total = 0
    for i in tl.static_range(N):
        total += tl.load(out + i)
    tl.store(out, total)


def test_a_compiler_that_comes_to_no_end_is_ended_and_nothing_is_said_of_the_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launch = Launch(unrolling_kernel, (1,), {"out": torch.zeros(1), "N": 10**6})
    monkeypatch.setattr(compilation, "CPU_SECONDS", 1)
    with pytest.raises(CompilerUnfinishedError, match="longer than 1 s of computing"):
        compile_launches([launch], capabilities=[90])
    monkeypatch.setattr(compilation, "TIMEOUT_SECONDS", 0.1)
    with pytest.raises(CompilerUnfinishedError, match=r"longer than 0\.1 s; run it again"):
        compile_launches([launch], capabilities=[90])


@triton.jit
def half(number, parts: tl.constexpr):  # type: ignore[no-untyped-def]
    return number // parts


@triton.jit
def halving_kernel(numbers, size, parts: tl.constexpr):  # type: ignore[no-untyped-def]
    lane = tl.arange(0, 16)
    tl.store(numbers + lane, half(size, parts), mask=lane < size)


def test_a_function_that_names_the_language_in_its_annotations_alone_compiles() -> None:
    launch = Launch(halving_kernel, (1,), {"numbers": torch.zeros(16), "size": 9, "parts": 2})
    (compiled, *_) = compile_launches([launch])
    assert ".visible .entry" in compiled.ptx
