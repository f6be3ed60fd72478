"""Under the guard, an address outside a tensor is an error that says whose it is."""

import linecache
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from course_lib.attention import PagedBatch, triton_state

triton = pytest.importorskip("triton")

if triton_state().mode != "interpreted":
    pytest.skip("the guard watches the interpreter", allow_module_level=True)

import triton.language as tl  # noqa: E402

from course_lib.attention.backends import launches  # noqa: E402
from course_lib.attention.backends.compilation import (  # noqa: E402
    KernelCompileError,
    compile_launches,
)
from course_lib.attention.backends.failure import KernelError, OutOfBoundsError  # noqa: E402
from course_lib.attention.backends.guard import bounds_guard  # noqa: E402
from course_lib.attention.backends.launch import Launch  # noqa: E402
from course_lib.attention.backends.triton_ops import TritonOperations  # noqa: E402

triton_ops = TritonOperations()


@triton.jit
def shift_kernel(source, target, amount, N: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: N803
    lane = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(target + lane, tl.load(source + lane + amount))


@triton.jit
def count_kernel(counter, place):  # type: ignore[no-untyped-def]
    tl.atomic_add(counter + place, 1)


def test_reading_past_the_end_names_kernel_argument_program_and_lanes() -> None:
    source, target = torch.arange(8.0), torch.zeros(8)
    with bounds_guard(), pytest.raises(OutOfBoundsError) as caught:
        shift_kernel[(2,)](source, target, 2, N=4)
    error = caught.value
    assert isinstance(error, IndexError)
    assert (error.kernel, error.argument) == ("shift_kernel", "source")
    assert error.program_id == (1, 0, 0)
    assert error.lanes == [(2,), (3,)]
    assert "lane (2,) at element 8" in str(error)
    assert "has elements 0 to 7" in str(error)


def test_what_was_stored_before_stays_stored() -> None:
    source, target = torch.arange(8.0), torch.zeros(8)
    with bounds_guard(), pytest.raises(OutOfBoundsError):
        shift_kernel[(2,)](source, target, 2, N=4)
    assert target.tolist() == [2.0, 3.0, 4.0, 5.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("amount", [-1, -(2**31), 2**40])
def test_near_and_far_misses(amount: int) -> None:
    source, target = torch.zeros(4), torch.zeros(4)
    with bounds_guard(), pytest.raises(OutOfBoundsError, match="outside source"):
        shift_kernel[(1,)](source, target, amount, N=4)


def test_a_miss_below_the_first_address_is_known_by_its_argument() -> None:
    source, target = torch.zeros(4), torch.zeros(4)
    with bounds_guard(), pytest.raises(OutOfBoundsError, match="outside source"):
        shift_kernel[(1,)](source, target, -(source.data_ptr() // 4) - 2, N=4)


def test_a_miss_that_lands_in_another_argument_is_a_miss() -> None:
    memory = torch.zeros(8)
    with bounds_guard(), pytest.raises(OutOfBoundsError, match="outside source"):
        shift_kernel[(1,)](memory[:4], memory[4:], 4, N=4)


def test_a_store_outside_touches_nothing() -> None:
    memory = torch.zeros(8)
    with bounds_guard(), pytest.raises(OutOfBoundsError, match="outside target"):
        shift_kernel[(1,)](torch.ones(8), memory[:4], 0, N=8)
    assert not memory.any()


def test_atomics_are_watched_too() -> None:
    counter = torch.zeros(3, dtype=torch.int32)
    with bounds_guard() as traffic:
        count_kernel[(5,)](counter, 2)
        with pytest.raises(OutOfBoundsError, match="outside counter"):
            count_kernel[(1,)](counter, 3)
    assert counter.tolist() == [0, 0, 5]
    assert (traffic.bytes_loaded, traffic.bytes_stored) == (20, 20)


def test_an_empty_tensor_has_no_inside() -> None:
    with bounds_guard(), pytest.raises(OutOfBoundsError, match="outside source"):
        shift_kernel[(1,)](torch.zeros(0), torch.zeros(4), 0, N=4)


def test_bytes_are_counted_by_argument() -> None:
    with bounds_guard() as traffic:
        shift_kernel[(2,)](torch.zeros(8), torch.zeros(8), 0, N=4)
        shift_kernel[(1,)](torch.zeros(4), torch.zeros(4), 0, N=4)
    assert dict(traffic.loaded) == {"source": 4 * 12}
    assert dict(traffic.stored) == {"target": 4 * 12}
    assert traffic.bytes_moved == 96
    assert dict(traffic.accesses) == {"source": 3, "target": 3}, "one for each program"


def test_after_the_guard_all_is_as_before() -> None:
    source, target = torch.arange(4.0), torch.zeros(4)
    with pytest.raises(RuntimeError, match="stop"), bounds_guard() as traffic:
        raise RuntimeError("stop")
    shift_kernel[(1,)](source, target, 0, N=4)
    assert torch.equal(source, target)
    assert traffic.bytes_moved == 0


def test_one_guard_at_a_time() -> None:
    with bounds_guard(), pytest.raises(RuntimeError, match="already active"), bounds_guard():
        pass


def test_other_errors_pass_through() -> None:
    with bounds_guard(), pytest.raises(Exception, match="missing a required argument"):
        shift_kernel[(1,)](torch.zeros(4), torch.zeros(4), N=4)


KERNEL = """
import triton
import triton.language as tl

@triton.jit
def skip(source, amount):
    return source + amount

@triton.jit
def mine_kernel(source, target, amount, N: tl.constexpr):
    lane = tl.arange(0, N)
    tl.store(target + lane, tl.load(skip(source, amount) + lane))
    {line}
"""


def define(where: str, line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Define a kernel as a notebook cell does, or as a file of the learner's workspace."""
    text = KERNEL.format(line=line)
    if where == "a cell":
        name = "/tmp/ipykernel_1/3141592653.py"
        lines = text.splitlines(keepends=True)
        monkeypatch.setitem(linecache.cache, name, (len(text), None, lines, name))
    else:
        name = str(folder / "mine_kernel.py")
        Path(name).write_text(text, encoding="utf-8")
    module: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), module)
    return module["mine_kernel"]


@pytest.mark.parametrize("where", ["a cell", "a file"])
class TestKernelsFromElsewhere:
    """What is said of the library's kernels is said of a learner's."""

    def test_a_miss_names_kernel_argument_program_and_lanes(
        self, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kernel = define(where, "", tmp_path, monkeypatch)
        with bounds_guard(), pytest.raises(OutOfBoundsError) as caught:
            kernel[(1,)](torch.zeros(4), torch.zeros(4), 1, N=4)
        error = caught.value
        assert (error.kernel, error.argument, error.lanes) == ("mine_kernel", "source", [(3,)])
        assert error.program_id == (0, 0, 0)

    @pytest.mark.parametrize("guarded", [True, False])
    def test_an_error_names_kernel_program_and_line(
        self, where: str, guarded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kernel = define(where, "lane.undefined", tmp_path, monkeypatch)
        arguments = {"source": torch.zeros(4), "target": torch.zeros(4), "amount": 0, "N": 4}
        launch = Launch(kernel, (1,), arguments)
        with (
            bounds_guard() if guarded else nullcontext(),
            pytest.raises(KernelError) as caught,
        ):
            launch.run()
        line = len(KERNEL.splitlines())
        assert str(caught.value).startswith(
            f"mine_kernel, program (0, 0, 0), line {line} (lane.undefined): AttributeError: "
        )

    def test_the_compiler_finds_it_and_what_it_calls(
        self, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kernel = define(where, "", tmp_path, monkeypatch)
        arguments = {"source": torch.zeros(4), "target": torch.zeros(4), "amount": 3, "N": 4}
        (compiled,) = compile_launches([Launch(kernel, (1,), arguments)], capabilities=[90])
        assert compiled.name == "mine_kernel"


def test_a_kernel_without_source_cannot_be_compiled_and_that_is_said() -> None:
    module: dict[str, Any] = {"__name__": "__main__", "triton": triton, "tl": tl}
    exec("def sourceless_kernel(out):\n    tl.store(out, 1)", module)
    kernel = SimpleNamespace(fn=module["sourceless_kernel"])
    with pytest.raises(KernelCompileError, match="sourceless_kernel: its source is not at hand"):
        compile_launches([Launch(kernel, (1,), {"out": torch.zeros(1)})])


class TestLibraryKernels:
    """No kernel of the library strays, and decoding reads each key and value once."""

    def test_every_kernel_stays_inside(self, a_setting: Any, make_case: Any) -> None:
        setting = replace(a_setting, head_dim=80, group=3, block_size=8)
        case = make_case(setting, [17, 1, 40])
        chunk = make_case(setting, [17, 8], [9, 1])
        with bounds_guard():
            for num_splits in (1, 3):
                triton_ops.paged_decode(*case.arguments, num_splits=num_splits)
            triton_ops.chunked_prefill(*chunk.arguments)
            triton_ops.copy_blocks(case.key_cache, case.value_cache, [(1, 0), (1, 2)])
            token = torch.zeros(2, setting.num_kv_heads, 80)
            slots = torch.tensor([-1, len(case.key_cache) * 8 - 1])
            triton_ops.reshape_and_cache(token, token, case.key_cache, case.value_cache, slots)

    @pytest.mark.parametrize("num_splits", [1, 2])
    def test_decoding_reads_each_key_once(
        self, a_setting: Any, make_case: Any, num_splits: int
    ) -> None:
        case = make_case(a_setting, [17, 1, 40])
        with bounds_guard() as traffic:
            triton_ops.paged_decode(*case.arguments, num_splits=num_splits)
        once = (17 + 1 + 40) * a_setting.num_kv_heads * a_setting.head_dim * 4
        assert traffic.loaded["key_cache"] == traffic.loaded["value_cache"] == once
        assert traffic.loaded["query"] == num_splits * case.query.numel() * 4
        assert traffic.stored["out"] == case.query.numel() * 4

    def test_a_table_that_lies_is_caught(self) -> None:
        cache = torch.zeros(4, 4, 1, 32)
        batch = PagedBatch.of([[1, 3]], [5], num_blocks=4, block_size=4)
        batch.block_tables[0, 1] = 4  # what the launch does not check again
        query = torch.zeros(1, 1, 32)
        launch = launches.paged_decode_launch(query.clone(), query, cache, cache, batch)
        with bounds_guard(), pytest.raises(OutOfBoundsError) as caught:
            launch.run()
        assert (caught.value.kernel, caught.value.argument) == ("paged_decode_kernel", "key_cache")
