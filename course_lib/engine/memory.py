"""What a step's tensors cost when they are made anew in every layer, and how they come cheaper."""

from __future__ import annotations

import torch

LARGEST_LEARNED = 31 * 2**20
"""Bytes of the largest block that glibc learns from; its limit is 32 MiB, what it adds included."""


def keep_freed_memory() -> None:
    """Make the C library keep large blocks of CPU memory that are freed, for the next ones.

    At first glibc gives every freed block of more than 128 KiB back to the operating system, and
    gets the next one page by page. The tensors of a prefill are of megabytes, and live for one
    operation: a step of 2,048 tokens of course-tiny had 7,000 page faults, and took 100 ms; with a
    few hundred of them it takes 50 ms. When a block of up to 32 MiB is freed, glibc concludes that
    blocks of its size come and go, and keeps them from then on (mallopt(3), M_MMAP_THRESHOLD). So
    free a large one. It is never written to, so it costs nothing; other C libraries are not
    impressed.
    """
    torch.empty(LARGEST_LEARNED, dtype=torch.uint8)
