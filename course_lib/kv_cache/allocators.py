"""Contiguous allocation of KV slots: who gets which run of neighbouring slots."""

from __future__ import annotations


class BuddyAllocator:
    """Hands out contiguous blocks whose sizes are powers of two (Knowlton, CACM 1965).

    A request is served from the smallest free block that is large enough. A block that is too large
    is split into two halves, called buddies, as often as needed; once both buddies are free again,
    they become one block again.

    Invariant: free and allocated blocks together cover slots 0 to ``num_slots`` − 1, without
    overlap; each block starts at a multiple of its own size; no two buddies are both free. Because
    of the second part, the offsets of two buddies of size s differ in the bit s and nowhere else.

    A ``num_slots`` that is not a power of two starts as one block for each bit that is set in it,
    the largest first. Nothing larger than the first of them can be allocated. Which one of several
    free blocks of the same size is taken is not specified.

    Each operation takes O(log ``num_slots``) time.

    Args:
        num_slots: Slots in all.

    Raises:
        ValueError: ``num_slots`` is less than 1.

    >>> allocator = BuddyAllocator(16)
    >>> allocator.allocate(3)  # takes 4 of the 16: slots 0 to 3
    0
    >>> allocator.allocate(8)
    8
    >>> allocator.allocate(5) is None  # slots 4 to 7 are too few
    True
    >>> allocator.free(0)
    >>> allocator.allocate(5)  # 0 to 3 and 4 to 7 are one block again
    0
    """

    def __init__(self, num_slots: int) -> None:
        if num_slots < 1:
            raise ValueError(f"num_slots is {num_slots}; an allocator needs at least 1 slot")
        self.num_slots = num_slots
        # A block of order k has 2**k slots.
        self._free_offsets: list[set[int]] = [set() for _ in range(num_slots.bit_length())]
        self._order_at: dict[int, int] = {}  # of the allocated block at each offset
        offset = 0
        for order in reversed(range(num_slots.bit_length())):
            if num_slots & (1 << order):
                self._free_offsets[order].add(offset)
                offset += 1 << order

    def allocate(self, size: int) -> int | None:
        """Allocate a block of at least ``size`` slots.

        Returns:
            The block's first slot, or None if no free block is large enough; then nothing changes.

        Raises:
            ValueError: ``size`` is less than 1.
        """
        if size < 1:
            raise ValueError(f"size is {size}; a block has at least 1 slot")
        wanted = (size - 1).bit_length()
        order = wanted
        while order < len(self._free_offsets) and not self._free_offsets[order]:
            order += 1
        if order >= len(self._free_offsets):
            return None
        offset = self._free_offsets[order].pop()
        while order > wanted:
            # Keep the lower half; the upper half becomes free.
            order -= 1
            self._free_offsets[order].add(offset + (1 << order))
        self._order_at[offset] = order
        return offset

    def free(self, offset: int) -> None:
        """Give back the block at ``offset`` and merge it with its buddy as often as possible.

        Raises:
            ValueError: No allocated block starts at ``offset``; then nothing changes.
        """
        order = self._allocated_order(offset)
        del self._order_at[offset]
        while (buddy := offset ^ (1 << order)) in self._free_offsets[order]:
            self._free_offsets[order].remove(buddy)
            offset = min(offset, buddy)
            order += 1
        self._free_offsets[order].add(offset)

    def block_size(self, offset: int) -> int:
        """Return how many slots the allocated block at ``offset`` has, a power of two.

        Raises:
            ValueError: No allocated block starts at ``offset``.

        >>> allocator = BuddyAllocator(16)
        >>> allocator.block_size(allocator.allocate(5))
        8
        """
        return 1 << self._allocated_order(offset)

    def _allocated_order(self, offset: int) -> int:
        """Return the order of the allocated block at ``offset``."""
        if offset not in self._order_at:
            raise ValueError(
                f"no allocated block starts at slot {offset}; "
                "pass an offset that allocate returned and that was not freed since"
            )
        return self._order_at[offset]
