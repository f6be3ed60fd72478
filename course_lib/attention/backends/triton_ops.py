"""Attention over a paged KV cache by the Triton kernels: the same calls as in ``paged``.

Each operation checks its arguments, then starts one or two kernels as ``launches`` says. Which
kernels those are is up to ``TritonOperations``: the library's, or a learner's own in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from course_lib.attention.backends.arguments import (
    BlockCopies,
    SlotsOfAStep,
    check_copies,
    check_decode,
    check_query,
    check_write,
)
from course_lib.attention.backends.availability import require_triton, triton_state
from course_lib.attention.backends.launch import TRITON_CODE, Launch, require_triton_function
from course_lib.attention.backends.substitution import substitute
from course_lib.attention.batch import PagedBatch
from course_lib.attention.paged import side_by_side

require_triton()

# After the check, whose message says what to do.
from course_lib.attention import triton_kernels  # noqa: E402
from course_lib.attention.backends import launches  # noqa: E402

PROGRAMS_PER_MULTIPROCESSOR = 4
"""How many decode programs to aim for: as many as fit, so that all of them start at once."""

MIN_TOKENS_PER_SPLIT = 256
"""A shorter stretch takes less time to read than its state takes to write and combine."""


class TritonOperations:
    """The operations on a paged KV cache, on these kernels.

    Args:
        own: Kernels that replace the library's, by name (see ``TRITON_CODE``). ``softmax_step``
            replaces the library's in every kernel that calls that. A kernel has the parameters of
            the one that it replaces.
        group_copies: Splits block copies into groups that can be made at once.

    Raises:
        ValueError: There is no kernel of this name, or it is no Triton function.
    """

    def __init__(
        self,
        own: Mapping[str, Any] | None = None,
        group_copies: Callable[[BlockCopies], list[list[tuple[int, int]]]] = side_by_side,
    ) -> None:
        self._group_copies = group_copies
        self._check_slots = SlotsOfAStep()
        self._own = dict(own or {})
        names = {name for code in TRITON_CODE.values() for name in code}
        for name, kernel in self._own.items():
            if name not in names:
                raise ValueError(f"no kernel {name!r}; kernels: {', '.join(sorted(names))}")
            require_triton_function(name, kernel)
        softmax_step = self._own.pop("softmax_step", None)
        if softmax_step is not None:
            for name in names - {"softmax_step"}:
                kernel = self._own.get(name, getattr(triton_kernels, name))
                self._own[name] = with_softmax_step(kernel, softmax_step)

    def reshape_and_cache(
        self,
        key: Tensor,
        value: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        slot_mapping: Tensor,
    ) -> None:
        """Write the keys and values of new tokens into their slots, as ``paged`` does.

        Raises:
            ValueError: As there. Nothing is written then.
        """
        check_write(key, value, key_cache, value_cache, slot_mapping, self._check_slots)
        _require_reachable(key_cache)
        self._run(
            launches.reshape_and_cache_launch(key, value, key_cache, value_cache, slot_mapping)
        )

    def paged_decode(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        batch: PagedBatch,
        scale: float | None = None,
        num_splits: int | None = None,
    ) -> Tensor:
        """Return the attention of one new token per sequence, as ``paged.paged_decode``.

        Args:
            query: [num_seqs, num_heads, head_dim].
            key_cache: [num_blocks, block_size, num_kv_heads, head_dim].
            value_cache: The shape of ``key_cache``.
            batch: Where the sequences are; one query each.
            scale: What the scores are multiplied by; 1/√head_dim if None.
            num_splits: Programs that share a sequence and KV head; ``choose_num_splits`` if None.

        Raises:
            ValueError: As there, or ``num_splits`` is less than 1.
        """
        check_decode(query, key_cache, value_cache, batch)
        if num_splits is None:
            num_programs = batch.num_seqs * key_cache.shape[2]
            num_splits = choose_num_splits(
                num_programs, batch.max_context_len, _num_multiprocessors(query.device)
            )
        if num_splits < 1:
            raise ValueError(
                f"num_splits is {num_splits}; a sequence is read by at least 1 program"
            )
        _require_reachable(key_cache)
        out = torch.empty_like(query)
        if num_splits == 1:
            self._run(
                launches.paged_decode_launch(out, query, key_cache, value_cache, batch, scale)
            )
        else:
            states = launches.SplitStates.unwritten(query, num_splits)
            self._run(
                launches.split_decode_launch(*states, query, key_cache, value_cache, batch, scale)
            )
            self._run(launches.combine_splits_launch(out, *states))
        return out

    def chunked_prefill(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        batch: PagedBatch,
        scale: float | None = None,
    ) -> Tensor:
        """Return the causal attention of each sequence's newest tokens, as ``paged`` does.

        Raises:
            ValueError: As there.
        """
        check_query(query, key_cache, value_cache, batch)
        _require_reachable(key_cache)
        out = torch.empty_like(query)
        self._run(launches.chunked_prefill_launch(out, query, key_cache, value_cache, batch, scale))
        return out

    def copy_blocks(
        self, key_cache: Tensor, value_cache: Tensor, block_copies: BlockCopies
    ) -> None:
        """Copy whole blocks within the cache, as ``paged.copy_blocks``.

        Raises:
            ValueError: As there. Nothing is copied then.
        """
        check_copies(key_cache, value_cache, block_copies)
        _require_reachable(key_cache)
        for group in self._group_copies(block_copies):
            pairs = torch.tensor(group, dtype=torch.int32, device=key_cache.device)
            self._run(launches.copy_blocks_launch(key_cache, value_cache, pairs))

    def _run(self, launch: Launch) -> None:
        """Start the kernel that stands in for the one of the launch."""
        own = self._own.get(launch.name)
        (launch if own is None else replace(launch, kernel=own)).run()


def with_softmax_step(kernel: Any, softmax_step: Any) -> Any:
    """Return the kernel with another softmax step in the place of the library's, if it calls that.

    Args:
        kernel: A function under ``@triton.jit``.
        softmax_step: Another such, with the parameters and results of ``softmax_step``.
    """
    calls_it = "softmax_step" in kernel.fn.__code__.co_names
    named = kernel.fn.__globals__.get("softmax_step")
    if not calls_it or named is not triton_kernels.softmax_step:
        return kernel
    return substitute(kernel, softmax_step=softmax_step)


def choose_num_splits(num_programs: int, max_context_len: int, num_multiprocessors: int) -> int:
    """Return in how many stretches to read each sequence.

    One program per sequence and KV head leaves most of a GPU idle when the batch is small.
    Splitting gives every multiprocessor up to ``PROGRAMS_PER_MULTIPROCESSOR`` programs, as far as
    stretches of ``MIN_TOKENS_PER_SPLIT`` tokens allow.

    Args:
        num_programs: Programs without splitting: sequences times KV heads.
        max_context_len: Tokens of the longest sequence.
        num_multiprocessors: Multiprocessors of the GPU.

    >>> choose_num_splits(num_programs=8, max_context_len=4096, num_multiprocessors=132)
    16
    >>> choose_num_splits(num_programs=2048, max_context_len=4096, num_multiprocessors=132)
    1
    """
    wanted = PROGRAMS_PER_MULTIPROCESSOR * num_multiprocessors // max(num_programs, 1)
    possible = -(-max_context_len // MIN_TOKENS_PER_SPLIT)
    return max(1, min(wanted, possible))


def _require_reachable(key_cache: Tensor) -> None:
    """Raise ValueError if kernels are compiled for a GPU and the cache is elsewhere."""
    if not key_cache.is_cuda and triton_state().mode == "compiled":
        raise ValueError(
            f"the cache is on {key_cache.device}, where a compiled kernel cannot read it; move it "
            "to the GPU, or use the operations of course_lib.attention.paged"
        )


@cache
def _num_multiprocessors(device: torch.device) -> int:
    """Return how many programs can run at the same moment; the interpreter runs one."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
