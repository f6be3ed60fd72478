"""Triton or PyTorch: one call decides for a device, and says which and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from course_lib.attention import paged
from course_lib.attention.backends.arguments import BlockCopies
from course_lib.attention.backends.availability import (
    TritonState,
    TritonUnavailableError,
    require_triton,
    triton_state,
)
from course_lib.attention.backends.padded import PaddedAttention
from course_lib.attention.batch import PagedBatch

__all__ = [
    "AttentionBackend",
    "TritonState",
    "TritonUnavailableError",
    "choose_backend",
    "triton_state",
]

BackendName = Literal["triton", "pytorch"]


class _Attend(Protocol):
    """Attention of a batch's queries over a paged cache."""

    def __call__(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        batch: PagedBatch,
        scale: float | None = None,
    ) -> Tensor: ...


@dataclass(frozen=True)
class AttentionBackend:
    """The operations on a paged KV cache, from one source.

    ``course_lib.attention.paged`` says what each does.

    Attributes:
        name: ``triton`` or ``pytorch``.
        reason: Why this one was chosen.
        reshape_and_cache: Write new tokens' keys and values to their slots.
        paged_decode: Attend from one new token per sequence.
        chunked_prefill: Attend from any number of new tokens per sequence.
        copy_blocks: Copy whole blocks.
    """

    name: BackendName
    reason: str
    reshape_and_cache: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None]
    paged_decode: _Attend
    chunked_prefill: _Attend
    copy_blocks: Callable[[Tensor, Tensor, BlockCopies], None]

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def choose_backend(device: torch.device | str, name: BackendName | None = None) -> AttentionBackend:
    """Return the operations to use for tensors on a device.

    Args:
        device: Where the KV cache is.
        name: Which to use. If None, Triton on a GPU for which it compiles, else PyTorch.

    Raises:
        TritonUnavailableError: Triton was named and cannot run here.
        ValueError: There is no backend of that name.

    >>> print(choose_backend("cpu"))
    pytorch: there is no GPU in cpu, and PyTorch is faster there than Triton's interpreter
    """
    if name is None:
        return _choose_by_device(torch.device(device))
    if name == "triton":
        return _triton_backend("asked for by name")
    if name == "pytorch":
        return _pytorch_backend("asked for by name")
    raise ValueError(f"no backend {name!r}; there are triton and pytorch")


def _choose_by_device(device: torch.device) -> AttentionBackend:
    if device.type != "cuda":
        return _pytorch_backend(
            f"there is no GPU in {device}, and PyTorch is faster there than Triton's interpreter"
        )
    state = triton_state()
    if state.mode == "compiled":
        return _triton_backend(state.reason)
    return _pytorch_backend(state.reason)


def _pytorch_backend(reason: str) -> AttentionBackend:
    attention = PaddedAttention()
    return AttentionBackend(
        "pytorch",
        reason,
        attention.reshape_and_cache,
        attention.paged_decode,
        attention.chunked_prefill,
        paged.copy_blocks,
    )


def _triton_backend(reason: str) -> AttentionBackend:
    require_triton()
    # Imported here, because Triton exists for Linux only and takes a second to import.
    from course_lib.attention.backends.triton_ops import TritonOperations

    operations = TritonOperations()
    return AttentionBackend(
        "triton",
        reason,
        operations.reshape_and_cache,
        operations.paged_decode,
        operations.chunked_prefill,
        operations.copy_blocks,
    )
