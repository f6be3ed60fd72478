"""Random ragged batches over a paged cache, and what dense attention makes of them."""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from course_lib.attention import PagedBatch, dense_attention, triton_state

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}


@dataclass(frozen=True)
class Setting:
    """One combination of what a kernel depends on."""

    head_dim: int = 64
    group: int = 2
    num_kv_heads: int = 2
    block_size: int = 16
    dtype: torch.dtype = torch.float32
    layout: str = "NHD"

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return (
            f"d{self.head_dim}-g{self.group}-kv{self.num_kv_heads}-b{self.block_size}-"
            f"{dtype}-{self.layout}"
        )


@dataclass(frozen=True)
class Case:
    """Sequences in a cache whose unused slots are NaN, and the right answer."""

    query: Tensor
    key_cache: Tensor
    value_cache: Tensor
    batch: PagedBatch
    expected: Tensor  # float64, on the host

    @property
    def arguments(self) -> tuple[Tensor, Tensor, Tensor, PagedBatch]:
        return self.query, self.key_cache, self.value_cache, self.batch


def pairwise(choices: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Return few combinations in which every pair of choices occurs."""
    columns = list(itertools.combinations(range(len(choices)), 2))

    def pairs(row: Sequence[Any]) -> set[tuple[int, int, Any, Any]]:
        return {(i, j, row[i], row[j]) for i, j in columns}

    everything = list(itertools.product(*choices))
    missing = {pair for row in everything for pair in pairs(row)}
    rows = []
    while missing:
        best = max(everything, key=lambda row: len(pairs(row) & missing))
        rows.append(best)
        missing -= pairs(best)
    return rows


SETTINGS = [
    Setting(*row)
    for row in pairwise(
        [
            [32, 64, 80, 128, 256],
            [1, 2, 3, 5, 8],
            [1, 2],
            [1, 8, 16, 32],
            [torch.float32, torch.float16, torch.bfloat16],
            ["NHD", "HND"],
        ]
    )
]


def empty_cache(setting: Setting, num_blocks: int) -> Tensor:
    """Return a cache full of NaN in the layout of the setting."""
    sizes = [num_blocks, setting.block_size, setting.num_kv_heads, setting.head_dim]
    if setting.layout == "NHD":
        return torch.full(sizes, torch.nan, dtype=setting.dtype)
    sizes[1], sizes[2] = sizes[2], sizes[1]
    return torch.full(sizes, torch.nan, dtype=setting.dtype).transpose(1, 2)


def build_case(
    setting: Setting,
    context_lens: Sequence[int],
    query_lens: Sequence[int] | None = None,
    scale: float | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> Case:
    """Scatter random sequences over a cache, in shuffled blocks."""
    query_lens = [1] * len(context_lens) if query_lens is None else query_lens
    numbers = torch.Generator().manual_seed(seed)
    counts = [-(-length // setting.block_size) for length in context_lens]
    num_blocks = sum(counts) + 3
    ids = iter(random.Random(seed).sample(range(num_blocks), num_blocks))
    tables = [list(itertools.islice(ids, count)) for count in counts]
    key_cache, value_cache = empty_cache(setting, num_blocks), empty_cache(setting, num_blocks)

    def randn(tokens: int, heads: int) -> Tensor:
        drawn = torch.randn(tokens, heads, setting.head_dim, generator=numbers)
        return drawn.to(setting.dtype)

    query = randn(sum(query_lens), setting.group * setting.num_kv_heads)
    expected = []
    for table, length, chunk in zip(
        tables, context_lens, query.split(list(query_lens)), strict=True
    ):
        key, value = randn(length, setting.num_kv_heads), randn(length, setting.num_kv_heads)
        for logical, physical in enumerate(table):
            tokens = slice(logical * setting.block_size, (logical + 1) * setting.block_size)
            filled = len(key[tokens])
            key_cache[physical, :filled] = key[tokens]
            value_cache[physical, :filled] = value[tokens]
        expected.append(dense_attention(chunk.double(), key.double(), value.double(), scale))
    batch = PagedBatch.of(
        tables,
        context_lens,
        query_lens,
        num_blocks=num_blocks,
        block_size=setting.block_size,
        device=device,
    )
    return Case(
        query.to(device),
        _move(key_cache, device),
        _move(value_cache, device),
        batch,
        torch.cat(expected),
    )


def _move(cache: Tensor, device: str) -> Tensor:
    """Return the cache on the device, its dimensions in the same order in memory."""
    moved = torch.empty_strided(cache.size(), cache.stride(), dtype=cache.dtype, device=device)
    return moved.copy_(cache)


def relative_error(got: Tensor, expected: Tensor) -> float:
    """Return the largest error of a token and head, relative to the length of its output."""
    error = (got.detach().cpu().double() - expected).norm(dim=-1) / expected.norm(dim=-1)
    return float(error.max()) if bool(torch.isfinite(error).all()) else float("inf")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Keep PyTorch from waking threads for tensors of a few hundred numbers."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def triton_device(request: pytest.FixtureRequest) -> str:
    """Where Triton runs kernels: on the CPU under the interpreter, or compiled on a GPU."""
    state = triton_state()
    wanted = "interpreted" if request.param == "cpu" else "compiled"
    if state.mode != wanted:
        pytest.skip(f"kernels are not {wanted} here: {state.reason}")
    return str(request.param)


@pytest.fixture(params=SETTINGS, ids=str)
def setting(request: pytest.FixtureRequest) -> Setting:
    """Every pair of head size, group, KV heads, block size, type and layout occurs."""
    assert isinstance(request.param, Setting)
    return request.param


@pytest.fixture(scope="session")
def a_setting() -> Setting:
    """The setting of tests that need only one."""
    return Setting()


@pytest.fixture(scope="session")
def make_case() -> Callable[..., Case]:
    """Return how to make a case."""
    return build_case


@pytest.fixture(scope="session")
def require_close() -> Callable[[Tensor, Case], None]:
    """Return how to compare with dense attention in 64 bits, in the tolerance of the type."""

    def compare(got: Tensor, case: Case) -> None:
        assert got.dtype == case.query.dtype
        assert got.shape == case.query.shape
        assert relative_error(got, case.expected) < TOLERANCE[case.query.dtype]

    return compare


@pytest.fixture(scope="session")
def boundary_lengths() -> Callable[[int], list[int]]:
    """Return lengths at, before and after the boundaries of blocks, and over several tiles."""
    return lambda block_size: sorted({1, max(1, block_size - 1), block_size, block_size + 1, 70})
