"""The boxes of the engine map, as data: whoever draws them otherwise needs nothing of a figure."""

from __future__ import annotations

from dataclasses import dataclass

from course_lib.catalogue import FINAL_PROJECT


@dataclass(frozen=True)
class Node:
    """One box of the map.

    Attributes:
        title: What it says.
        column: Where it stands, from the left.
        row: Where it stands, from the top.
        lessons: The lessons that work on it.
    """

    title: str
    column: int
    row: int
    lessons: tuple[int, ...]


NODES = {
    "sampler": Node("Sampler", 0, 0, (FINAL_PROJECT,)),
    "engine": Node("Engine", 1, 0, (5, FINAL_PROJECT)),
    "simulator": Node("Simulator", 2, 0, (5,)),
    "cost_model": Node("Cost model", 3, 0, (1, 11)),
    "queueing": Node("Queueing", 4, 0, (10,)),
    "paged_attention": Node("Paged attention", 0, 1, (2,)),
    "request_queue": Node("Request queue", 1, 1, (5, 9)),
    "scheduler": Node("Scheduler", 2, 1, (5, 6, 9, 11, 12)),
    "preemption": Node("Preemption", 3, 1, (6,)),
    "triton_kernels": Node("Triton kernels", 0, 2, (2, 3, 8, 11)),
    "block_table": Node("Block table", 1, 2, (3,)),
    "cache_manager": Node("Cache manager", 2, 2, (8,)),
    "prefix_cache": Node("Prefix cache", 3, 2, (8,)),
    "reservations": Node("Reservations", 4, 2, (1,)),
    "block_pool": Node("Block pool", 2, 3, (7,)),
    "sizing": Node("Sizing", 3, 3, (1,)),
    "allocators": Node("Allocators", 4, 3, (4,)),
}
"""The boxes by key. Every part of ``course_lib.parts`` names one of these keys."""
