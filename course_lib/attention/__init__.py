"""Attention over a paged KV cache: in PyTorch for every machine, and as Triton kernels.

``choose_backend`` decides between the two for a device and says why. Without a CUDA device Triton's
interpreter runs the kernels, slowly, on the CPU; the switch for it is set here, because Triton
reads it once, when it is first imported.
"""

from __future__ import annotations

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
# Triton 3.9 prints a warning on stderr unless told; 1 is what it does anyway.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

from course_lib.attention.backends.backend import (
    AttentionBackend,
    TritonState,
    TritonUnavailableError,
    choose_backend,
    triton_state,
)
from course_lib.attention.batch import PagedBatch
from course_lib.attention.dense import (
    SoftmaxState,
    dense_attention,
    merge_states,
    partial_attention,
    softmax,
)

__all__ = [
    "AttentionBackend",
    "PagedBatch",
    "SoftmaxState",
    "TritonState",
    "TritonUnavailableError",
    "choose_backend",
    "dense_attention",
    "merge_states",
    "partial_attention",
    "softmax",
    "triton_state",
]
