"""An engine attends by the learner's own operations and kernels, with the same tokens."""

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from course_lib import parts
from course_lib.attention import triton_state
from course_lib.attention.backends.own_operations import PYTORCH_PARTS, TRITON_PARTS
from course_lib.engine import LLM, EngineParts, PartError, SamplingParams

pytest.importorskip("triton")

# Under the interpreter a token takes a second, so: few. A prompt of more than 256 tokens that is
# alone is read in two stretches, where four programs are wanted for the two KV heads.
SHORT = [list(range(40, 61)), list(range(70, 79))]
LONG = [[100 + i % 90 for i in range(258)]]
OPTIONS: dict[str, Any] = {"num_blocks": 40, "block_size": 16, "max_num_batched_tokens": 512}
PARAMS = SamplingParams(temperature=0.0, max_tokens=3, ignore_eos=True)
FORKED = SamplingParams(n=2, temperature=0.0, max_tokens=3, ignore_eos=True)

interpreted = pytest.mark.skipif(
    triton_state().mode != "interpreted", reason="counts calls under the interpreter"
)


def tokens(
    prompts: list[list[int]], own: dict[str, Any], backend: str, params: SamplingParams = PARAMS
) -> list[list[int]]:
    llm = LLM("course-tiny", parts=EngineParts.of(own), attention_backend=backend, **OPTIONS)
    return [
        answer.token_ids for result in llm.generate(prompts, params) for answer in result.outputs
    ]


@functools.cache
def expected(forked: bool, long: bool) -> list[list[int]]:
    return tokens(LONG if long else SHORT, {}, "pytorch", FORKED if forked else PARAMS)


class CountingKernel:
    """A kernel or step of the library that writes down each time it is started or called."""

    def __init__(self, kernel: Any, calls: list[str]) -> None:
        self.fn = kernel.fn
        self._kernel = kernel
        self._calls = calls

    def __getitem__(self, grid: Any) -> Any:
        self._calls.append(self.fn.__name__)
        return self._kernel[grid]

    def __call__(self, *arguments: Any) -> Any:
        self._calls.append(self.fn.__name__)
        return self._kernel(*arguments)


def counting(name: str, calls: list[str]) -> Any:
    reference = parts.reference(name)
    if name in TRITON_PARTS:
        return CountingKernel(reference, calls)

    @functools.wraps(reference)
    def function(*arguments: Any, **keywords: Any) -> Any:
        calls.append(name)
        return reference(*arguments, **keywords)

    return function


def needs_copies(name: str) -> bool:
    return name in {"copy_blocks", "side_by_side", "copy_blocks_kernel"}


@pytest.mark.parametrize("name", PYTORCH_PARTS)
def test_each_operation_is_called(name: str) -> None:
    calls: list[str] = []
    forked = needs_copies(name)
    got = tokens(SHORT, {name: counting(name, calls)}, "pytorch", FORKED if forked else PARAMS)
    assert calls
    assert got == expected(forked, long=False)


@interpreted
@pytest.mark.parametrize("name", TRITON_PARTS)
def test_each_kernel_is_started(name: str) -> None:
    calls: list[str] = []
    forked, long = needs_copies(name), name in {"split_decode_kernel", "combine_splits_kernel"}
    prompts = LONG if long else SHORT
    got = tokens(prompts, {name: counting(name, calls)}, "triton", FORKED if forked else PARAMS)
    assert calls
    assert got == expected(forked, long)


@interpreted
def test_on_triton_an_own_kernel_goes_before_own_pytorch_code_and_that_before_the_library() -> None:
    calls: list[str] = []
    names = ("reshape_and_cache", "reshape_and_cache_kernel", "attend_blocks", "side_by_side")
    own = {name: counting(name, calls) for name in names}
    assert tokens(SHORT, own, "triton", FORKED) == expected(forked=True, long=False)
    assert set(calls) == {"reshape_and_cache_kernel", "attend_blocks", "side_by_side"}


@interpreted
def test_own_kernels_are_no_matter_to_pytorch() -> None:
    calls: list[str] = []
    own = {name: counting(name, calls) for name in TRITON_PARTS}
    assert tokens(SHORT, own, "pytorch") == expected(forked=False, long=False)
    assert not calls


def test_functions_use_each_other_over_several_steps() -> None:
    """One's own innermost functions reach the engine through two functions of the library."""
    calls: list[str] = []
    names = ("partial_attention", "merge_states", "softmax", "gather", "side_by_side")
    own = {name: counting(name, calls) for name in names}
    assert tokens(SHORT, own, "pytorch", FORKED) == expected(forked=True, long=False)
    assert set(calls) == set(names)


# From the workspace

STEP = """
import triton
import triton.language as tl


@triton.jit
def softmax_step(max_score, denominator, numerator, scores, values):
    new_max = tl.maximum(max_score, tl.max(scores, axis=1))
    {line}
    weights = tl.exp2(scores - new_max[:, None])
    rescale = tl.exp2(max_score - new_max)
    numerator = tl.dot(weights, values, numerator * rescale[:, None], input_precision="ieee")
    return new_max, denominator * rescale + tl.sum(weights, axis=1), numerator
"""
Save = Callable[[str], None]


@pytest.fixture
def save_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Save:
    (tmp_path / ".course").mkdir()
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path))

    def save(line: str) -> None:
        assert parts.save("softmax_step", STEP.format(line=line)) is not None

    return save


def in_a_process(script: str, workspace: Path) -> str:
    """Return what a script prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), "COURSE_WORKSPACE": str(workspace)},
    )
    return done.stdout


def generate_from_workspace() -> list[list[int]]:
    llm = LLM("course-tiny", attention_backend="triton", **OPTIONS)
    assert llm.parts.own_names == ("softmax_step",)
    return [answer.token_ids for r in llm.generate(SHORT, PARAMS) for answer in r.outputs]


@interpreted
def test_a_step_in_the_workspace_is_used_by_the_library_s_kernels(save_step: Save) -> None:
    save_step("tl.static_assert(True)")
    assert generate_from_workspace() == expected(forked=False, long=False)
    save_step("values = -3 * values")
    assert generate_from_workspace() != expected(forked=False, long=False)


@interpreted
def test_a_step_in_the_workspace_that_raises_is_named_with_its_line(save_step: Save) -> None:
    save_step("scores.no_such_method()")
    with pytest.raises(PartError) as caught:
        generate_from_workspace()
    message = str(caught.value)
    assert message.startswith("in step 0 your softmax_step raised KernelError: chunked_prefill_ker")
    assert "of softmax_step (scores.no_such_method()): AttributeError" in message
    assert "It is my_engine/softmax_step.py (lesson 2)." in message


@interpreted
def test_a_kernel_in_the_workspace_may_be_the_first_to_import_triton(
    save_step: Save, tmp_path: Path
) -> None:
    save_step("pass")
    script = (
        "from course_lib import parts; print(parts.table()[0].name, parts.get('softmax_step').fn); "
        "from course_lib.attention import triton_state; print(triton_state().mode)"
    )
    done = in_a_process(script, tmp_path)
    assert "function softmax_step" in done
    assert done.endswith("interpreted\n")


WITHOUT_TRITON = """
import importlib.util, sys
class NoTriton:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "triton":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoTriton())
importlib.util.find_spec = lambda name, package=None: None
from course_lib.engine import LLM
rows = LLM("course-tiny").parts.table
print(next(row.state for row in rows if row.name == "softmax_step"))
"""


def test_where_triton_is_not_installed_a_kernel_in_the_workspace_is_no_obstacle(
    save_step: Save, tmp_path: Path
) -> None:
    save_step("pass")
    assert in_a_process(WITHOUT_TRITON, tmp_path) == "broken\n"


def test_an_engine_on_pytorch_does_not_load_the_library_s_kernels(tmp_path: Path) -> None:
    script = (
        "import sys; from course_lib.engine import LLM; LLM('course-tiny'); "
        "print('course_lib.attention.triton_kernels' in sys.modules)"
    )
    assert in_a_process(script, tmp_path) == "False\n"
