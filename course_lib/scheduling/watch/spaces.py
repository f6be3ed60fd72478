"""Two spaces of CPU blocks side by side: each has blocks and holders of its own."""

from __future__ import annotations

from course_lib.scheduling.swap import SwapSpace


def sharing_faults(space: SwapSpace) -> list[str]:
    """Use a second space of the same class; return a sentence if the two share what they know.

    Args:
        space: The first one; nothing that is done to another may change it.

    >>> sharing_faults(SwapSpace(2))
    []
    """
    before = _state(space)
    other = type(space)(3)
    if _state(space) != before:
        return ["to make a second object changes the first"]
    other.reserve("z", 1)
    if _state(space) != before:
        return ["reserve('z', 1) of a second object changes the first"]
    other.release("z")
    if _state(space) != before:
        return ["release('z') of a second object changes the first"]
    return []


def _state(space: SwapSpace) -> tuple[list[int], dict[str, list[int]]]:
    """Return a copy of what is free and who holds what."""
    held = {name: list(blocks) for name, blocks in space.held_blocks.items()}
    return list(space.free_blocks), held
