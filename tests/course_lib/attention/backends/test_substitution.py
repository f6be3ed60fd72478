"""Library kernels that call somebody else's Triton functions."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from course_lib.attention import triton_state
from course_lib.attention.backends.substitution import substitute

triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402

from course_lib.attention import triton_kernels as kernels  # noqa: E402
from course_lib.attention.backends import launches  # noqa: E402
from course_lib.attention.backends.compilation import compile_launches  # noqa: E402
from course_lib.attention.backends.triton_ops import (  # noqa: E402
    TritonOperations,
    with_softmax_step,
)

TEN = tl.constexpr(10)


@triton.jit
def tenfold(numbers):  # type: ignore[no-untyped-def]
    return numbers * TEN


@triton.jit
def softmax_step(max_score, denominator, numerator, scores, values):  # type: ignore[no-untyped-def]
    """The library's with one fault: values count ten times."""
    new_max = tl.maximum(max_score, tl.max(scores, axis=1))
    rescale = tl.exp2(max_score - new_max)
    weights = tl.exp2(scores - new_max[:, None])
    numerator = numerator * rescale[:, None]
    weighted = tl.dot(weights.to(values.dtype), tenfold(values), input_precision="ieee")
    return new_max, denominator * rescale + tl.sum(weights, axis=1), numerator + weighted


def test_a_name_that_is_not_used_is_refused() -> None:
    with pytest.raises(ValueError, match="paged_decode_kernel uses no global name 'step'"):
        substitute(kernels.paged_decode_kernel, step=softmax_step)


@pytest.mark.parametrize("num_splits", [1, 2])
def test_a_step_of_one_s_own_is_used_by_every_kernel_that_has_one(
    triton_device: str, a_setting: Any, make_case: Any, num_splits: int
) -> None:
    case = make_case(a_setting, [300, 17], device=triton_device)
    reference, own = TritonOperations(), TritonOperations({"softmax_step": softmax_step})
    expected = reference.paged_decode(*case.arguments, num_splits=num_splits)
    got = own.paged_decode(*case.arguments, num_splits=num_splits)
    torch.testing.assert_close(got, 10 * expected)
    got = own.chunked_prefill(*case.arguments)
    torch.testing.assert_close(got, 10 * expected, rtol=1e-4, atol=1e-4)
    again = reference.paged_decode(*case.arguments, num_splits=num_splits)
    assert torch.equal(again, expected), "the library's own kernels stay as they were"


def test_the_compiler_takes_the_replacement_and_what_it_calls(
    a_setting: Any, make_case: Any
) -> None:
    case = make_case(a_setting, [20])
    launch = launches.paged_decode_launch(torch.empty_like(case.query), *case.arguments)
    own = replace(launch, kernel=with_softmax_step(launch.kernel, softmax_step))
    reference, mine = compile_launches([launch, own], capabilities=[90])
    ten = "0f41200000"  # 10.0 in PTX
    assert ten not in reference.ptx
    assert ten in mine.ptx


def test_a_kernel_with_a_step_of_its_own_keeps_it() -> None:
    own = with_softmax_step(kernels.paged_decode_kernel, softmax_step)
    assert own is not kernels.paged_decode_kernel
    assert with_softmax_step(own, kernels.softmax_step) is own
    assert with_softmax_step(kernels.copy_blocks_kernel, softmax_step) is kernels.copy_blocks_kernel


def test_a_kernel_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no kernel 'paged_attention'; kernels: chunked_prefill_k"):
        TritonOperations({"paged_attention": kernels.paged_decode_kernel})
    with pytest.raises(ValueError, match="softmax_step is a function, not a Triton function"):
        TritonOperations({"softmax_step": lambda: None})


COMPILED = """
from course_lib.attention import triton_kernels as kernels
from course_lib.attention.backends.substitution import substitute
from step import softmax_step
own = substitute(kernels.paged_decode_kernel, softmax_step=softmax_step)
assert type(own) is type(kernels.paged_decode_kernel), type(own)
print(own.cache_key == kernels.paged_decode_kernel.cache_key)
"""


def test_where_kernels_are_compiled_the_copy_is_another_kernel_to_triton(tmp_path: Path) -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    start = text.index("TEN = tl.constexpr")
    end = text.index("\n\n\ndef test_a_name_that_is_not_used")
    header = "import triton\nimport triton.language as tl\n\n"
    (tmp_path / "step.py").write_text(header + text[start:end], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", COMPILED],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ
        | {"PYTHONPATH": ":".join([str(tmp_path), *sys.path]), "TRITON_INTERPRET": "0"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False\n"


@pytest.mark.skipif(triton_state().mode != "interpreted", reason="of the interpreter")
def test_bfloat16_is_right_with_an_own_step(a_setting: Any, make_case: Any) -> None:
    setting = replace(a_setting, dtype=torch.bfloat16)
    case = make_case(setting, [40])
    own = TritonOperations({"softmax_step": softmax_step}).paged_decode(*case.arguments)
    torch.testing.assert_close(own.double(), 10 * case.expected, rtol=2e-2, atol=2e-2)
