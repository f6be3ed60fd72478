"""What a dashboard shows of a KV cache: usage, hits, evictions, and the most ever in use."""

from __future__ import annotations

from dataclasses import dataclass


class CacheMetrics:
    """Counts what happens to a KV cache.

    Usage says what requests hold *now*. It says nothing of how much of the free memory still holds
    prefixes, and a usage that does not come down to 0 when nobody runs is a leak.

    A request that was preempted may find its own blocks when it comes back. That says nothing of
    what prompts share, so such lookups are counted apart and are not in ``hit_rate``, as in vLLM
    0.33.0 (``vllm/v1/metrics/stats.py``, ``PrefixCacheStats``).

    Args:
        num_blocks: Blocks of the cache, the null block included.

    Attributes:
        num_blocks: Blocks of the cache, the null block included.
        num_used_blocks: Blocks that requests hold now.
        high_water: The most blocks that requests have held at the same time.
        evictions: Cached blocks whose contents were given up for want of room.
        queried_tokens: Tokens of the requests that were looked up for the first time.
        hit_tokens: Those of them that were found.
        preempted_queried_tokens: Tokens of the requests that came back after a preemption.
        preempted_hit_tokens: Those of them that were found.

    Raises:
        ValueError: ``num_blocks`` is less than 1.

    >>> metrics = CacheMetrics(num_blocks=11)
    >>> metrics.record_lookup(num_tokens=100, num_hit_tokens=32)
    >>> metrics.record_lookup(num_tokens=100, num_hit_tokens=96, is_preempted=True)
    >>> metrics.record_usage(num_used_blocks=7, num_evicted_blocks=2)
    >>> metrics.record_usage(num_used_blocks=4)
    >>> metrics.hit_rate, metrics.usage, metrics.high_water, metrics.evictions
    (0.32, 0.4, 7, 2)
    """

    def __init__(self, num_blocks: int) -> None:
        if num_blocks <= 0:
            raise ValueError(
                f"num_blocks is {num_blocks}; a cache has at least 1 block, the null block"
            )
        self.num_blocks = num_blocks
        self.num_used_blocks = 0
        self.high_water = 0
        self.evictions = 0
        self.queried_tokens = 0
        self.hit_tokens = 0
        self.preempted_queried_tokens = 0
        self.preempted_hit_tokens = 0

    @property
    def usage(self) -> float:
        """The share of the blocks in use, the null block left out; 0.0 if there is no other."""
        return self.num_used_blocks / max(self.num_blocks - 1, 1)

    @property
    def hit_rate(self) -> float:
        """Tokens found over tokens looked up for the first time; 0.0 before the first lookup."""
        return self.hit_tokens / max(self.queried_tokens, 1)

    def record_lookup(
        self, num_tokens: int, num_hit_tokens: int, is_preempted: bool = False
    ) -> None:
        """Count the lookup of a request that is admitted.

        Args:
            num_tokens: Tokens of the request, at least 1.
            num_hit_tokens: Those of them that were in the cache.
            is_preempted: Whether it comes back after a preemption.

        Raises:
            ValueError: There are no tokens, or more hits than tokens, or fewer than 0 hits; then
                nothing is counted.
        """
        if num_tokens < 1 or not 0 <= num_hit_tokens <= num_tokens:
            raise ValueError(
                f"{num_hit_tokens} of {num_tokens} tokens were found; "
                "a request has at least 1 token, of which from 0 to all are found"
            )
        if is_preempted:
            self.preempted_queried_tokens += num_tokens
            self.preempted_hit_tokens += num_hit_tokens
        else:
            self.queried_tokens += num_tokens
            self.hit_tokens += num_hit_tokens

    def record_usage(self, num_used_blocks: int, num_evicted_blocks: int = 0) -> None:
        """Take note of how many blocks are in use now.

        Args:
            num_used_blocks: Blocks that requests hold.
            num_evicted_blocks: Cached blocks that lost their contents since the last call.

        Raises:
            ValueError: More blocks are in use than there are besides the null block, or a count is
                negative; then nothing is counted.
        """
        if not 0 <= num_used_blocks < self.num_blocks or num_evicted_blocks < 0:
            raise ValueError(
                f"{num_used_blocks} blocks are in use and {num_evicted_blocks} were evicted; "
                f"counts are not negative, and there are {self.num_blocks - 1} blocks to use"
            )
        self.num_used_blocks = num_used_blocks
        if num_used_blocks > self.high_water:
            self.high_water = num_used_blocks
        self.evictions += num_evicted_blocks


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a dashboard shows of a KV cache at one moment.

    Attributes:
        usage: Share of the blocks that requests hold now, from 0.0 to 1.0.
        high_water: The most blocks that requests have held at the same time.
        num_free_blocks: Blocks that can be handed out now.
        num_cached_blocks: Those of them that still hold a prefix.
        queried_tokens: Tokens of all requests when they were admitted for the first time.
        hit_tokens: Those of them that were found in the cache.
        preempted_queried_tokens: Tokens of all requests that came back after a preemption.
        preempted_hit_tokens: Those of them that were found, most of them the request's own.
        evictions: Cached blocks whose contents were given up for want of room.
        copies: Blocks copied because they were shared.
    """

    usage: float
    high_water: int
    num_free_blocks: int
    num_cached_blocks: int
    queried_tokens: int
    hit_tokens: int
    preempted_queried_tokens: int
    preempted_hit_tokens: int
    evictions: int
    copies: int

    @property
    def hit_rate(self) -> float:
        """Tokens found over tokens looked up for the first time; 0.0 before the first lookup."""
        return self.hit_tokens / max(self.queried_tokens, 1)
