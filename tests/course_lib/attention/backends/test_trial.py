"""A trial runs a kernel on copies, watched, and compiles it; what is wrong with it is said."""

import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from course_lib.attention import SoftmaxState, merge_states, triton_state

triton = pytest.importorskip("triton")

import triton.language as tl  # noqa: E402

from course_lib.attention import triton_kernels as kernels  # noqa: E402
from course_lib.attention.backends.compilation import KernelCompileError  # noqa: E402
from course_lib.attention.backends.failure import KernelError, OutOfBoundsError  # noqa: E402
from course_lib.attention.backends.guard import bounds_guard  # noqa: E402
from course_lib.attention.backends.trial import (  # noqa: E402
    OUTPUTS,
    compile_for_all,
    try_launch,
)

MODE = triton_state().mode
pytestmark = pytest.mark.skipif(MODE == "unavailable", reason=triton_state().reason)
watched = pytest.mark.skipif(MODE != "interpreted", reason="the guard watches the interpreter")

KERNELS = {name: name.replace("_launch", "_kernel") for name in OUTPUTS}
KERNELS["softmax_step_launch"] = "softmax_step"


def attention_arguments(case: Any) -> dict[str, Any]:
    names = ("query", "key_cache", "value_cache", "batch")
    return dict(zip(names, case.arguments, strict=True))


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool(torch.equal(a.nan_to_num(nan=12345.0), b.nan_to_num(nan=12345.0)))


def test_decoding_by_way_of_a_trial(a_setting: Any, make_case: Any, require_close: Any) -> None:
    case = make_case(a_setting, [17, 1, 40])
    arguments = attention_arguments(case)
    trial = try_launch("paged_decode_launch", kernels.paged_decode_kernel, arguments)
    require_close(trial.outputs["out"], case)
    if MODE == "compiled":
        assert trial.loaded is None
        assert trial.stored is None
        return
    once = (17 + 1 + 40) * a_setting.num_kv_heads * a_setting.head_dim * 4
    assert trial.loaded is not None
    assert trial.loaded["key_cache"] == trial.loaded["value_cache"] == once
    assert trial.stored == {"out": case.query.numel() * 4}


def test_splits_and_prefill_too(a_setting: Any, make_case: Any, require_close: Any) -> None:
    case = make_case(replace(a_setting, layout="HND"), [17, 40])
    state = torch.empty(2, 4, 3)
    arguments = attention_arguments(case) | {
        "split_max": state,
        "split_denominator": state,
        "split_numerator": torch.empty(2, 4, 3, 64),
    }
    states = try_launch("split_decode_launch", kernels.split_decode_kernel, arguments).outputs
    out = {"out": torch.empty_like(case.query)}
    combined = try_launch("combine_splits_launch", kernels.combine_splits_kernel, states | out)
    require_close(combined.outputs["out"], case)
    chunk = make_case(a_setting, [17, 40], [9, 1])
    prefilled = try_launch(
        "chunked_prefill_launch", kernels.chunked_prefill_kernel, attention_arguments(chunk)
    )
    require_close(prefilled.outputs["out"], chunk)


def test_one_softmax_step_is_the_merge_of_two_states() -> None:
    torch.manual_seed(0)
    rows, keys, dims = 16, 32, 64
    state = SoftmaxState(torch.randn(rows), torch.rand(rows) + 1, torch.randn(rows, dims))
    scores, values = torch.randn(rows, keys), torch.randn(keys, dims)
    scores[1, 3] = -torch.inf
    own = scores.amax(1)
    weights = (scores - own[:, None]).exp()
    expected = merge_states(state, SoftmaxState(own, weights.sum(1), weights @ values))
    log2_e = torch.tensor(2.0).log().reciprocal()
    arguments = {
        "max_score": state.max_score * log2_e,
        "denominator": state.denominator,
        "numerator": state.numerator,
        "scores": scores * log2_e,
        "values": values,
    }
    got = try_launch("softmax_step_launch", kernels.softmax_step, arguments).outputs
    torch.testing.assert_close(got["max_score"], expected.max_score * log2_e)
    torch.testing.assert_close(got["denominator"], expected.denominator)
    torch.testing.assert_close(got["numerator"], expected.numerator)


def test_nothing_that_was_given_is_changed(a_setting: Any, make_case: Any) -> None:
    case = make_case(a_setting, [5])
    before = case.key_cache.clone()
    key = torch.randn(2, a_setting.num_kv_heads, a_setting.head_dim)
    arguments = {
        "key": key,
        "value": key,
        "key_cache": case.key_cache,
        "value_cache": case.value_cache,
        "slot_mapping": torch.tensor([3, -1]),
    }
    trial = try_launch("reshape_and_cache_launch", kernels.reshape_and_cache_kernel, arguments)
    assert same(case.key_cache, before)
    assert torch.equal(trial.outputs["key_cache"][0, 3], key[0])
    before[0, 3] = key[0]
    assert same(trial.outputs["key_cache"], before)


@triton.jit
def copy_blocks_kernel(  # type: ignore[no-untyped-def]
    key_cache,
    value_cache,
    block_copies,
    key_block_stride,
    key_slot_stride,
    key_head_stride,
    value_block_stride,
    value_slot_stride,
    value_head_stride,
    BLOCK_SIZE: tl.constexpr,  # noqa: N803
    NUM_KV_HEADS: tl.constexpr,  # noqa: N803
    HEAD_DIM: tl.constexpr,  # noqa: N803
    LANES: tl.constexpr,  # noqa: N803
):
    """Write nothing, or what its first pair asks for: raise, mask badly, miss, or never end."""
    what = tl.load(block_copies)
    lane = tl.arange(0, LANES)
    if what == 1:
        lane.no_such_method()
    if what == 2:
        mask = (lane < 2) & (what >= 0)
        tl.load(key_cache + lane, mask=mask)
    if what == 3:
        tl.load(value_cache + lane + 4096, mask=lane < 2)
    while what == 4:
        tl.load(key_cache)


def misbehave(what: int) -> Any:
    cache = torch.zeros(5, 4, 1, 16)
    pairs = torch.tensor([[what, 0]], dtype=torch.int32)
    arguments = {"key_cache": cache, "value_cache": cache, "block_copies": pairs}
    return try_launch("copy_blocks_launch", copy_blocks_kernel, arguments)


@watched
def test_what_a_kernel_raises_is_named_with_its_program_and_line() -> None:
    with pytest.raises(
        KernelError,
        match=r"^copy_blocks_kernel, program \(0, 0, 0\), line \d+ \(lane\.no_such_method\(\)\): "
        "AttributeError",
    ) as caught:
        misbehave(1)
    assert isinstance(caught.value.__cause__, AttributeError)


@watched
def test_a_mask_that_only_the_interpreter_refuses_is_explained() -> None:
    with pytest.raises(KernelError, match=r"tl\.load\(key_cache.*tl\.where\(scalar >= 0, lane < n"):
        misbehave(2)


@watched
def test_a_miss_is_named() -> None:
    with pytest.raises(OutOfBoundsError, match=r"copy_blocks_kernel, program .* value_cache"):
        misbehave(3)


class TooLateError(BaseException):
    """Raised by a timer."""


@pytest.fixture
def alarm() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooLateError

    previous = signal.signal(signal.SIGALRM, stop)
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, 0.3)
    yield
    signal.setitimer(signal.ITIMER_REAL, remaining, interval)
    signal.signal(signal.SIGALRM, previous)


@watched
@pytest.mark.usefixtures("alarm")
def test_a_kernel_without_end_can_be_stopped_and_says_where_it_was() -> None:
    with pytest.raises(TooLateError) as caught:
        misbehave(4)
    assert "it was in copy_blocks_kernel, program (0, 0, 0), line" in caught.value.__notes__[0]
    with bounds_guard() as traffic:
        pass
    assert traffic.bytes_moved == 0


def test_what_is_never_written_is_nan(a_setting: Any, make_case: Any) -> None:
    arguments = attention_arguments(make_case(a_setting, [3]))
    out = torch.zeros_like(arguments["query"])

    class Idle:
        """A kernel that is started and does nothing."""

        def __init__(self) -> None:
            self.fn = kernels.paged_decode_kernel.fn

        def __getitem__(self, grid: Any) -> Any:
            return lambda **arguments: None

    trial = try_launch("paged_decode_launch", Idle(), arguments | {"out": out})
    assert trial.outputs["out"].isnan().all()
    assert not out.any()


def test_operations_and_kernels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="no operation 'paged_decode'; operations: reshape_and"):
        try_launch("paged_decode", kernels.paged_decode_kernel, {})
    cache = torch.zeros(5, 4, 1, 16)
    arguments = {
        "key_cache": cache,
        "value_cache": cache,
        "block_copies": torch.zeros(1, 2, dtype=torch.int32),
    }
    with pytest.raises(ValueError, match="copy_blocks_kernel is a function, not a Triton function"):
        try_launch("copy_blocks_launch", lambda: None, arguments)
    with pytest.raises(ValueError, match=r"\(missing: block_copies, .*; unknown: out, "):
        try_launch("copy_blocks_launch", kernels.paged_decode_kernel, arguments)


@pytest.mark.parametrize("operation", OUTPUTS)
def test_every_kernel_compiles_for_all(operation: str) -> None:
    compiled = compile_for_all(operation, getattr(kernels, KERNELS[operation]))
    assert list(compiled) == ["sm_80", "sm_90", "sm_100"]
    if operation in {"paged_decode_launch", "chunked_prefill_launch", "softmax_step_launch"}:
        assert "mma.sync" in compiled["sm_90"].ptx or "wgmma" in compiled["sm_90"].ptx


def test_what_the_compiler_refuses_is_said() -> None:
    with pytest.raises(KernelCompileError, match=r"copy_blocks_kernel for .* 8\.0"):
        compile_for_all("copy_blocks_launch", copy_blocks_kernel)
