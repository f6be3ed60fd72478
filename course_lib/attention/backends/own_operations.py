"""A backend on a learner's own code: their functions and kernels in the place of the library's.

What is taught calls each other by name, so a part is used wherever the library would use its own:
a learner's ``merge_states`` by the library's ``attend_blocks``, that by its ``paged_decode``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from course_lib.attention import paged
from course_lib.attention.backends.backend import AttentionBackend
from course_lib.attention.backends.launch import TRITON_CODE
from course_lib.rewiring import rewire

OPERATIONS = tuple(TRITON_CODE)
"""The operations on a paged KV cache; also the names of ``AttentionBackend``'s fields."""

TRITON_PARTS = tuple(dict.fromkeys(name for code in TRITON_CODE.values() for name in code))
"""The parts that are Triton code."""

PYTORCH_PARTS = (
    "softmax",
    "partial_attention",
    "merge_states",
    "attend_blocks",
    "gather",
    "side_by_side",
    *OPERATIONS,
)
"""The parts that are PyTorch code, and what the Triton operations need besides their kernels."""


def with_own(backend: AttentionBackend, own: Mapping[str, Any]) -> AttentionBackend:
    """Return a backend that runs on some code of the learner's own.

    An operation of the Triton backend runs on their kernels if any of its kernels is theirs, else
    on their PyTorch code if any of that is; what is not theirs is the library's. The PyTorch
    backend takes no notice of kernels. Only what is theirs slows it down: it then runs as it is
    taught, one sequence after the other.

    Args:
        backend: Where the operations come from that nothing of theirs belongs to.
        own: Functions and kernels by name, out of ``PYTORCH_PARTS`` and ``TRITON_PARTS``.

    >>> from course_lib.attention import choose_backend, merge_states
    >>> def mine(first, second): return merge_states(first, second)
    >>> reference = choose_backend("cpu")
    >>> own = with_own(reference, {"merge_states": mine})
    >>> own.paged_decode is reference.paged_decode, own.copy_blocks is reference.copy_blocks
    (False, True)
    """
    fields = _pytorch_operations(own)
    if backend.name == "triton":
        fields |= _triton_operations(own)
    return dataclasses.replace(backend, **fields)


def _pytorch_operations(own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the operations with PyTorch code of the learner's in them."""
    theirs = {name: getattr(paged, name) for name in OPERATIONS}
    found = {name: own.get(name) or rewire(operation, own) for name, operation in theirs.items()}
    return {name: found[name] for name in OPERATIONS if found[name] is not theirs[name]}


def _triton_operations(own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the operations with Triton code of the learner's in them."""
    # Imported here, because Triton exists for Linux only and takes a second to import.
    from course_lib.attention.backends.triton_ops import TritonOperations

    kernels = {name: own[name] for name in TRITON_PARTS if name in own}
    group_copies = own.get("side_by_side", paged.side_by_side)
    operations = TritonOperations(kernels, group_copies)
    theirs = [name for name, code in TRITON_CODE.items() if kernels.keys() & set(code)]
    if "side_by_side" in own and "copy_blocks" not in own:
        theirs.append("copy_blocks")
    return {name: getattr(operations, name) for name in theirs}
