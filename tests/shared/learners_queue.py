"""A free queue as a learner may write it."""

from __future__ import annotations

from course_lib.kv_cache.block_pool import FreeKVCacheBlockQueue, out_of_blocks


class AllAtOnce(FreeKVCacheBlockQueue):
    """Cuts several out, and links several in, as one piece."""

    def popleft_n(self, n):
        """Take the first few."""
        if n > self.num_free_blocks:
            raise out_of_blocks(n, self.num_free_blocks)
        taken, block = [], self.sentinel.next_free_block
        for _ in range(n):
            taken.append(block)
            block = block.next_free_block
        self.sentinel.next_free_block, block.prev_free_block = block, self.sentinel
        for each in taken:
            each.prev_free_block = each.next_free_block = None
        self.num_free_blocks -= n
        return taken

    def append_n(self, blocks):
        """Put blocks at the back."""
        back = self.sentinel.prev_free_block
        for block in blocks:
            back.next_free_block, block.prev_free_block, back = block, back, block
        back.next_free_block, self.sentinel.prev_free_block = self.sentinel, back
        self.num_free_blocks += len(blocks)
