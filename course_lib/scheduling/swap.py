"""CPU memory for the blocks of requests that were swapped out."""

from __future__ import annotations


class SwapSpace:
    """Hands out CPU blocks by number, the lowest free ones first, and remembers whose they are.

    Invariant: every block is either free or held by one request.

    A call goes through the free blocks, or sorts them, a few times at most: not for each block that
    it hands out or takes back.

    Args:
        num_blocks: CPU blocks in all.

    Attributes:
        free_blocks: A list of the blocks that nobody holds, in ascending order.
        held_blocks: A dict with the list of blocks of each request that is here, in the order in
            which it got them. It is here from ``reserve`` to ``release``, with an empty list if it
            needed 0 blocks.

    >>> space = SwapSpace(num_blocks=3)
    >>> space.reserve("a", 2), space.reserve("b", 2)
    ([0, 1], None)
    >>> space.release("a")
    [0, 1]
    >>> space.reserve("b", 3)
    [0, 1, 2]
    """

    def __init__(self, num_blocks: int) -> None:
        """Start with all blocks free."""
        self.free_blocks = list(range(num_blocks))
        self.held_blocks: dict[str, list[int]] = {}

    def reserve(self, request_id: str, num_blocks: int) -> list[int] | None:
        """Take the lowest free blocks for a request: all that it needs, or none.

        Args:
            request_id: A request that is not here.
            num_blocks: Blocks that it needs, 0 or more.

        Returns:
            The blocks, in ascending order; None, with nothing changed, if there are not enough.

        Raises:
            ValueError: The request is here already. Nothing changes.
        """
        if request_id in self.held_blocks:
            raise ValueError(f"request {request_id!r} is swapped out already; release it first")
        if num_blocks > len(self.free_blocks):
            return None
        blocks = self.free_blocks[:num_blocks]
        del self.free_blocks[:num_blocks]
        self.held_blocks[request_id] = blocks
        return blocks

    def release(self, request_id: str) -> list[int]:
        """Take a request's blocks back and return them, in the order in which it got them.

        Raises:
            KeyError: The request is not here. Nothing changes.
        """
        blocks = self.held_blocks.pop(request_id)
        self.free_blocks = sorted(self.free_blocks + blocks)
        return blocks
