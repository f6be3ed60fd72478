"""How fast attention over a paged cache is: ``course bench kernels``.

On a GPU each kernel is timed beside a plain copy, which says what bandwidth there is, and beside
PyTorch's ``scaled_dot_product_attention`` on keys and values that lie side by side already, which
is what paging gives up. Without a GPU Triton's interpreter runs the kernels on tiny shapes: its
times say nothing about a GPU, the bytes that it counts do.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from autograder.bench.suite import OnStep
from autograder.errors import CourseError
from course_lib.attention import PagedBatch, paged, triton_state
from course_lib.specs import MODELS, GiB

if TYPE_CHECKING:
    from course_lib.attention.backends.launch import Launch

BLOCK_SIZE = 16
ROUNDS = 5
"""Runs per timing without a GPU."""

REPLAYS = 11
"""Timings of a recorded graph on a GPU, of which the median counts."""

MILLISECONDS_PER_REPLAY, MOST_ROUNDS = 2.0, 50
"""About how long a replay takes, and how often it goes through all runs at the most."""

CACHES = 4
"""How many times as much data as the GPU's cache holds lies between two uses of the same data."""

COPY = "copy"
_TOLERANCE = 0.02  # of bfloat16 against bfloat16, each rounded its own way
_BYTES_PER_GB = 1e9


@dataclass(frozen=True)
class KernelTiming:
    """How long one implementation of an operation takes.

    Attributes:
        case: The operation and its shapes.
        implementation: Who did it.
        milliseconds: The median over several runs.
        bytes_moved: What it reads and writes, where that is known.
        share_of_copy: Its bandwidth over that of a plain copy in the same run, on a GPU.
    """

    case: str
    implementation: str
    milliseconds: float
    bytes_moved: int | None = None
    share_of_copy: float | None = None

    @property
    def gigabytes_per_second(self) -> float | None:
        """Bytes moved over time, in 10⁹ bytes per second.

        >>> KernelTiming("c", "copy", milliseconds=2.0, bytes_moved=4_000_000).gigabytes_per_second
        2.0
        """
        if self.bytes_moved is None:
            return None
        return self.bytes_moved / (self.milliseconds / 1e3) / _BYTES_PER_GB


@dataclass(frozen=True)
class KernelReport:
    """What a run found, and on what.

    Attributes:
        machine: The GPU, or the processor.
        rows: One per case and implementation.
        notes: How to read them.
    """

    machine: str
    rows: tuple[KernelTiming, ...]
    notes: tuple[str, ...]

    def table(self) -> Table:
        """Return a table with one line per timing."""
        table = Table(title=f"course bench kernels: {self.machine}", caption="; ".join(self.notes))
        table.add_column("case")
        table.add_column("implementation")
        for column in ("ms", "MB moved", "GB/s", "of a copy"):
            table.add_column(column, justify="right")
        for row in self.rows:
            moved, rate = row.bytes_moved, row.gigabytes_per_second
            # An interpreter's bytes per second would be read as if they meant something.
            shown_rate = "" if rate is None or row.share_of_copy is None else f"{rate:,.0f}"
            table.add_row(
                row.case,
                row.implementation,
                f"{row.milliseconds:,.3f}",
                "" if moved is None else f"{moved / 1e6:,.3f}",
                shown_rate,
                "" if row.share_of_copy is None else f"{row.share_of_copy:.0%}",
            )
        return table


def run_kernels_suite(
    on_step: OnStep = lambda done, total: None,
) -> KernelReport:
    """Time the kernels on the GPU if there is one, else under the interpreter.

    Args:
        on_step: Called with the cases done and the cases in all.

    Raises:
        CourseError: Triton cannot run here, or a kernel gives a wrong result.
    """
    state = triton_state()
    if state.mode == "unavailable":
        raise CourseError(state.reason)
    if state.mode == "compiled":
        return _run_on_gpu(on_step)
    return _run_interpreted(on_step)


@dataclass(frozen=True)
class Work:
    """Sequences in a paged cache, and queries for their last tokens.

    Attributes:
        name: What the shapes stand for.
        query: [num_tokens, num_heads, head_dim].
        key_cache: [num_blocks, block_size, num_kv_heads, head_dim].
        value_cache: The shape of ``key_cache``.
        batch: Where the sequences are.
    """

    name: str
    query: Tensor
    key_cache: Tensor
    value_cache: Tensor
    batch: PagedBatch

    @classmethod
    def random(
        cls,
        name: str,
        context_lens: Sequence[int],
        query_lens: Sequence[int],
        heads: tuple[int, int, int],
        dtype: torch.dtype,
        device: str,
    ) -> Work:
        """Fill a cache with random numbers and deal its blocks out in random order.

        Args:
            name: What the shapes stand for.
            context_lens: Tokens of each sequence.
            query_lens: How many of them, the last ones, are queries.
            heads: Query heads, KV heads, and the width of one.
            dtype: Of queries and cache.
            device: Where they are.
        """
        num_heads, num_kv_heads, head_dim = heads
        counts = [-(-length // BLOCK_SIZE) for length in context_lens]
        num_blocks = sum(counts) + 1
        ids = Random(0).sample(range(num_blocks), num_blocks)
        tables = [[ids.pop() for _ in range(count)] for count in counts]
        cache = (num_blocks, BLOCK_SIZE, num_kv_heads, head_dim)
        return cls(
            name,
            torch.randn(sum(query_lens), num_heads, head_dim, dtype=dtype, device=device),
            torch.randn(cache, dtype=dtype, device=device),
            torch.randn(cache, dtype=dtype, device=device),
            PagedBatch.of(
                tables,
                context_lens,
                query_lens,
                num_blocks=num_blocks,
                block_size=BLOCK_SIZE,
                device=device,
            ),
        )

    @property
    def decodes(self) -> bool:
        """Whether every sequence has one query."""
        return self.batch.max_query_len == 1

    @property
    def same_lengths(self) -> bool:
        """Whether all contexts are equally long, as are all chunks."""
        lengths = (self.batch.context_lens, self.batch.query_starts.diff())
        return all(bool((length == length[0]).all()) for length in lengths)

    @property
    def bytes_needed(self) -> int:
        """The bytes of each key, value, query and output, once."""
        num_kv_heads, head_dim = self.key_cache.shape[2:]
        cached = 2 * int(self.batch.context_lens.sum()) * num_kv_heads * head_dim
        return (cached + 2 * self.query.numel()) * self.query.element_size()

    @property
    def arguments(self) -> tuple[Tensor, Tensor, Tensor, PagedBatch]:
        """Query, key cache, value cache and batch, as every launch takes them."""
        return self.query, self.key_cache, self.value_cache, self.batch

    def attend(self, operations: Any) -> Tensor:
        """Attend through the operations of a backend."""
        attend = operations.paged_decode if self.decodes else operations.chunked_prefill
        result: Tensor = attend(*self.arguments)
        return result


def gpu_shapes() -> list[tuple[str, torch.dtype, list[int], list[int]]]:
    """Return what is timed on a GPU: a name, the type of the cache, context lengths, query lengths.

    Decodes of a large batch at three lengths; of batches too small to fill a GPU without splitting;
    of mixed lengths; chunks of a prompt, alone and in company.
    """
    bfloat16 = torch.bfloat16
    shapes = [
        (f"decode, batch 64, context {context:,}, {name}", dtype, [context] * 64, [1] * 64)
        for context in (512, 4096, 32768)
        for name, dtype in (("fp16", torch.float16), ("bf16", bfloat16))
    ]
    shapes += [
        (f"decode, batch {batch}, context {context:,}", bfloat16, [context] * batch, [1] * batch)
        for context in (4096, 32768)
        for batch in (1, 2, 4, 8)
    ]
    random = Random(0)
    ragged = [random.randrange(1, 8192) for _ in range(64)]
    return [
        *shapes,
        ("decode, batch 64, context 1 to 8,191", bfloat16, ragged, [1] * 64),
        ("prompt of 2,048", bfloat16, [2048], [2048]),
        ("chunk of 512 on a context of 4,096", bfloat16, [4096], [512]),
        ("chunk of 2,048 on a context of 4,096", bfloat16, [4096], [2048]),
        ("8 chunks of 256 on contexts of 4,096", bfloat16, [4096] * 8, [256] * 8),
        ("63 decodes and a chunk of 512", bfloat16, [*ragged[:63], 4096], [*[1] * 63, 512]),
    ]


def _run_on_gpu(on_step: OnStep) -> KernelReport:
    """Time serving shapes with the heads of Llama-3.1-8B: 32 query heads, 8 KV heads of 128."""
    import triton

    model = MODELS["llama-3.1-8b"]
    heads = (model.num_attention_heads, model.num_kv_heads, model.head_dim)
    shapes = gpu_shapes()
    cache_bytes = torch.cuda.get_device_properties("cuda").L2_cache_size
    rows = [_time_copy()]
    bandwidth = rows[0].gigabytes_per_second
    assert bandwidth is not None
    for done, (name, dtype, contexts, queries) in enumerate(shapes, start=1):
        works = [Work.random(name, contexts, queries, heads, dtype, "cuda")]
        copies = -(-CACHES * cache_bytes // works[0].bytes_needed)
        works += [
            Work.random(name, contexts, queries, heads, dtype, "cuda") for _ in range(copies - 1)
        ]
        rows += _time_attention(works, bandwidth)
        on_step(done, len(shapes) + 1)
    work = Work.random("writes", [8192], [1], heads, torch.bfloat16, "cuda")
    rows += _time_writes(work, bandwidth)
    on_step(len(shapes) + 1, len(shapes) + 1)
    return KernelReport(
        f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, Triton {triton.__version__}",
        tuple(rows),
        (
            "32 query heads on 8 KV heads of 128 numbers, bfloat16 where nothing else is said",
            "bytes: each key, value, query and output once",
            "SDPA: PyTorch's attention on keys and values that were gathered beforehand",
        ),
    )


def _time_copy() -> KernelTiming:
    """Time a plain copy of 1 GiB, which reads and writes it.

    Not as part of a graph, where the driver copies in another way: at 2.4 TB/s on an H100, where a
    copy that is started alone makes 3.0.
    """
    source = torch.empty(GiB, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    target.copy_(source)

    def copy_repeatedly() -> None:
        for _ in range(MOST_ROUNDS):
            target.copy_(source)

    times = [_milliseconds_on_gpu(copy_repeatedly) for _ in range(REPLAYS)]
    return KernelTiming("copy of 1 GiB", COPY, statistics.median(times) / MOST_ROUNDS, 2 * GiB, 1.0)


def _time_attention(works: Sequence[Work], bandwidth: float) -> list[KernelTiming]:
    """Time the kernels on works of one shape in turn, and PyTorch's attention where it applies."""
    work = works[0]
    rows = []
    for name, started in _contenders(work).items():
        out = torch.empty_like(work.query)
        _require_right(work, out, started(work, out))
        runs = [partial(_run_all, started(each, torch.empty_like(each.query))) for each in works]
        milliseconds = _gpu_milliseconds(runs)
        rows.append(_gpu_row(work.name, name, milliseconds, work.bytes_needed, bandwidth))
    if work.same_lengths:
        gathered = [partial(_sdpa, each, *_gather_all(each)) for each in works]
        milliseconds = _gpu_milliseconds(gathered)
        rows.append(_gpu_row(work.name, "SDPA", milliseconds, work.bytes_needed, bandwidth))
        del gathered
        milliseconds = _gpu_milliseconds([partial(_gather_and_attend, each) for each in works])
        rows.append(KernelTiming(work.name, "gather, then SDPA", milliseconds))
    return rows


def _contenders(work: Work) -> dict[str, Callable[[Work, Tensor], list[Launch]]]:
    """Return what to start for works of one shape, given where the result goes, by name."""
    from course_lib.attention.backends import launches
    from course_lib.attention.backends.triton_ops import choose_num_splits

    def prefill(work: Work, out: Tensor) -> list[Launch]:
        return [launches.chunked_prefill_launch(out, *work.arguments)]

    def decode(work: Work, out: Tensor) -> list[Launch]:
        return [launches.paged_decode_launch(out, *work.arguments)]

    def split_decode(work: Work, out: Tensor) -> list[Launch]:
        states = launches.SplitStates.unwritten(out, num_splits)
        return [
            launches.split_decode_launch(
                *states, work.query, work.key_cache, work.value_cache, work.batch
            ),
            launches.combine_splits_launch(out, *states),
        ]

    if not work.decodes:
        return {"triton": prefill}
    num_splits = choose_num_splits(
        work.batch.num_seqs * work.key_cache.shape[2],
        work.batch.max_context_len,
        torch.cuda.get_device_properties("cuda").multi_processor_count,
    )
    if num_splits == 1:
        return {"triton, 1 split": decode}
    return {"triton, 1 split": decode, f"triton, {num_splits} splits": split_decode}


def _time_writes(
    work: Work, bandwidth: float, num_tokens: int = 2048, num_pairs: int = 128
) -> list[KernelTiming]:
    """Time writing a step's tokens and copying blocks."""
    from course_lib.attention.backends import launches

    device = work.key_cache.device
    key = torch.randn_like(work.key_cache.flatten(0, 1)[:num_tokens])
    slots = torch.randperm(work.batch.max_context_len, device=device)[:num_tokens]
    write = launches.reshape_and_cache_launch(key, key, work.key_cache, work.value_cache, slots)
    pairs = torch.randperm(2 * num_pairs, dtype=torch.int32, device=device).reshape(-1, 2)
    copy = launches.copy_blocks_launch(work.key_cache, work.value_cache, pairs)
    block_bytes = work.key_cache[0].numel() * work.key_cache.element_size()
    # Keys and values, each read and written.
    written, copied = 4 * key.numel() * key.element_size(), 4 * num_pairs * block_bytes
    return [
        _gpu_row(name, "triton", _gpu_milliseconds([launch.run]), moved, bandwidth)
        for name, launch, moved in (
            (f"reshape_and_cache of {num_tokens:,} tokens", write, written),
            (f"copy_blocks of {num_pairs} blocks", copy, copied),
        )
    ]


def _gpu_row(
    case: str, implementation: str, milliseconds: float, bytes_moved: int, bandwidth: float
) -> KernelTiming:
    """Return a timing with its share of the copy's bandwidth."""
    rate = bytes_moved / (milliseconds / 1e3) / _BYTES_PER_GB
    return KernelTiming(case, implementation, milliseconds, bytes_moved, rate / bandwidth)


def _gpu_milliseconds(runs: Sequence[Callable[[], object]]) -> float:
    """Return how long one run takes on the GPU: the median, with the runs taken in turn.

    They are recorded as a CUDA graph and replayed, so that the time in which the processor starts a
    kernel is not taken for the kernel's. Each run has data of its own; together they have more than
    the GPU's cache holds, so that each finds its data in memory, as in serving.
    """
    for run in runs:
        run()
    torch.cuda.synchronize()
    once = _milliseconds_on_gpu(lambda: [run() for run in runs])
    rounds = min(MOST_ROUNDS, max(1, round(MILLISECONDS_PER_REPLAY / once)))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for run in list(runs) * rounds:
            run()
    graph.replay()
    replays = [_milliseconds_on_gpu(graph.replay) for _ in range(REPLAYS)]
    return statistics.median(replays) / (rounds * len(runs))


def _milliseconds_on_gpu(run: Callable[[], object]) -> float:
    """Return the time between two events on the GPU, one before and one after a run."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


def _run_all(launches: Iterable[Any]) -> None:
    for launch in launches:
        launch.run()


def _require_right(work: Work, out: Tensor, launches: Sequence[Any]) -> None:
    """Raise CourseError unless the kernels agree with PyTorch: a wrong answer is quickly given."""
    out.fill_(torch.nan)
    _run_all(launches)
    expected = paged.chunked_prefill(work.query, work.key_cache, work.value_cache, work.batch)
    error = (out - expected).float().norm() / expected.float().norm()
    if not float(error) < _TOLERANCE:
        raise CourseError(
            f"{work.name}: the kernel's result is {float(error):.3g} off, more than {_TOLERANCE}; "
            "run pytest -m gpu to see where"
        )


def _gather_all(work: Work) -> tuple[Tensor, Tensor]:
    """Return keys and values as [num_seqs, num_kv_heads, context_len, head_dim]."""
    context_len = work.batch.max_context_len
    blocks = work.batch.block_tables[:, : -(-context_len // BLOCK_SIZE)].long()
    key, value = (
        cache[blocks].flatten(1, 2)[:, :context_len].transpose(1, 2).contiguous()
        for cache in (work.key_cache, work.value_cache)
    )
    return key, value


def _gather_and_attend(work: Work) -> Tensor:
    """Attend through PyTorch, after the keys and values have been put side by side."""
    return _sdpa(work, *_gather_all(work))


def _sdpa(work: Work, key: Tensor, value: Tensor) -> Tensor:
    """Attend through PyTorch, which needs equal lengths."""
    # Imported here, because it may import Triton, which course_lib.attention has to do first.
    from torch.nn.attention.bias import causal_lower_right

    query = work.query.unflatten(0, (work.batch.num_seqs, -1)).transpose(1, 2)
    chunk, context = query.shape[2], key.shape[2]
    # The form of the mask that lets PyTorch choose its fastest kernel.
    mask = causal_lower_right(chunk, context) if chunk > 1 else None
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)


def _run_interpreted(on_step: OnStep) -> KernelReport:
    """Time tiny shapes under the interpreter and count the bytes that its lanes move."""
    from course_lib.attention import choose_backend
    from course_lib.attention.backends.guard import bounds_guard
    from course_lib.attention.backends.triton_ops import TritonOperations

    triton_ops = TritonOperations()
    heads = (4, 2, 64)
    shapes: list[tuple[str, list[int], list[int]]] = [
        ("decode, batch 1, context 256", [256], [1]),
        ("decode, batch 4, context 1 to 100", [1, 16, 33, 100], [1] * 4),
        ("chunk of 32 on a context of 64", [64], [32]),
        ("3 decodes and a chunk of 16", [40, 7, 20, 48], [1, 1, 1, 16]),
    ]
    rows = []
    for done, (name, contexts, queries) in enumerate(shapes, start=1):
        work = Work.random(name, contexts, queries, heads, torch.float32, "cpu")
        with bounds_guard() as traffic:
            work.attend(triton_ops)
        for implementation, operations, moved in (
            ("triton, interpreted", triton_ops, traffic.bytes_moved),
            ("pytorch", choose_backend("cpu", "pytorch"), None),
        ):
            milliseconds = _cpu_milliseconds(partial(work.attend, operations))
            rows.append(KernelTiming(name, implementation, milliseconds, moved))
        on_step(done, len(shapes))
    processor = platform.processor() or platform.machine()
    return KernelReport(
        f"no GPU, Triton's interpreter on {processor}",
        tuple(rows),
        (
            "the interpreter's times say nothing about a GPU",
            "bytes: counted at every lane of every load and store",
        ),
    )


def _cpu_milliseconds(run: Callable[[], object]) -> float:
    """Return the median CPU time of one thread: idle threads that spin would be counted too."""
    seconds = []
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(ROUNDS):
            start = time.process_time()
            run()
            seconds.append(time.process_time() - start)
    finally:
        torch.set_num_threads(num_threads)
    return statistics.median(seconds) * 1e3
