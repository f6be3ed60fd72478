"""CPU memory for the blocks of requests that were swapped out."""

from __future__ import annotations


class SwapSpace:
    """Hands out CPU blocks by number, lowest first, and remembers whose they are.

    Invariant: every block is either free or held by one request.

    Args:
        num_blocks: CPU blocks in all.

    >>> space = SwapSpace(num_blocks=3)
    >>> space.reserve("a", 2), space.reserve("b", 2)
    ([0, 1], None)
    >>> space.release("a")
    [0, 1]
    """

    def __init__(self, num_blocks: int) -> None:
        self._free = list(range(num_blocks - 1, -1, -1))
        self._held: dict[str, list[int]] = {}

    def reserve(self, request_id: str, num_blocks: int) -> list[int] | None:
        """Take blocks for a request; None, with nothing changed, if there are not enough.

        Raises:
            ValueError: The request holds blocks already. Nothing changes.
        """
        if request_id in self._held:
            raise ValueError(f"request {request_id!r} is swapped out already; release it first")
        if num_blocks > len(self._free):
            return None
        blocks = [self._free.pop() for _ in range(num_blocks)]
        self._held[request_id] = blocks
        return blocks

    def release(self, request_id: str) -> list[int]:
        """Take a request's blocks back and return them, in the order in which it got them.

        Raises:
            KeyError: The request holds no blocks.
        """
        blocks = self._held.pop(request_id)
        self._free += reversed(blocks)
        return blocks
