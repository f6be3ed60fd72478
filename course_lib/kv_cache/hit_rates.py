"""How much of its prompts a prefix cache has: what a hit rate means, and what room it needs.

A hit rate has several meanings, which ``HitMeter`` keeps apart. ``infinite_cache_hit_rates`` says
what there is to find at most, ``replay_prefix_cache`` what a cache of limited size finds of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from course_lib.kv_cache.block_pool import BlockPool, KVCacheBlock
from course_lib.kv_cache.prefix import longest_cached_prefix


@dataclass(frozen=True, slots=True)
class HitRates:
    """The share of prompts that did not have to be computed, from 0.0 to 1.0, in three weightings.

    Attributes:
        block_weighted: Blocks found over blocks looked up. What a cache of blocks sees; a block
            that is not full counts like any other.
        token_weighted: Tokens found over tokens looked up. What prefill saves.
        mean_per_request: The mean over requests of each one's share of tokens found. What users
            see: a short prompt counts as much as a long one.
    """

    block_weighted: float
    token_weighted: float
    mean_per_request: float


class HitMeter:
    """Adds up how much of each prompt a prefix cache had.

    >>> meter = HitMeter()
    >>> meter.record(num_tokens=1000, num_hit_tokens=0, num_blocks=63, num_hit_blocks=0)
    >>> meter.record(num_tokens=100, num_hit_tokens=96, num_blocks=7, num_hit_blocks=6)
    >>> rates = meter.rates()
    >>> round(rates.token_weighted, 3), round(rates.mean_per_request, 3)
    (0.087, 0.48)
    """

    __slots__ = (
        "num_blocks",
        "num_hit_blocks",
        "num_hit_tokens",
        "num_requests",
        "num_tokens",
        "sum_of_shares",
    )

    def __init__(self) -> None:
        self.num_requests = 0
        self.num_tokens = 0
        self.num_hit_tokens = 0
        self.num_blocks = 0
        self.num_hit_blocks = 0
        self.sum_of_shares = 0.0

    def record(
        self, num_tokens: int, num_hit_tokens: int, num_blocks: int, num_hit_blocks: int
    ) -> None:
        """Count one lookup.

        Args:
            num_tokens: Tokens of the request, at least 1.
            num_hit_tokens: Those of them that were in the cache.
            num_blocks: Blocks that the request has, the last one full or not.
            num_hit_blocks: Those of them that were in the cache.

        Raises:
            ValueError: There are no tokens, or more hits than there is to hit.
        """
        if num_tokens < 1 or num_hit_tokens > num_tokens or num_hit_blocks > num_blocks:
            raise ValueError(
                f"{num_hit_tokens} of {num_tokens} tokens and {num_hit_blocks} of {num_blocks} "
                "blocks were found; a request has at least 1 token, and no more hits than tokens"
            )
        self.num_requests += 1
        self.num_tokens += num_tokens
        self.num_hit_tokens += num_hit_tokens
        self.num_blocks += num_blocks
        self.num_hit_blocks += num_hit_blocks
        self.sum_of_shares += num_hit_tokens / num_tokens

    def rates(self) -> HitRates:
        """Return the hit rates so far; all are 0.0 before the first lookup."""
        return HitRates(
            block_weighted=self.num_hit_blocks / max(self.num_blocks, 1),
            token_weighted=self.num_hit_tokens / max(self.num_tokens, 1),
            mean_per_request=self.sum_of_shares / max(self.num_requests, 1),
        )


class HasHashIds(Protocol):
    """A request whose prompt is known by the hashes of its blocks only; a ``TraceRequest``."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt, at least 1."""

    @property
    def hash_ids(self) -> Sequence[int]:
        """One id per block of the prompt, the last one full or not; equal ids, equal prefixes."""


def infinite_cache_hit_rates(requests: Iterable[HasHashIds], block_size: int = 512) -> HitRates:
    """Return the hit rates of a cache that never forgets: none that keeps prompts does better.

    Each prompt is looked up when it arrives and cached at once; what is answered is not, though an
    engine keeps that as well, and the next prompt of a conversation repeats it. A hit is a run of
    blocks from the first one on. The last block counts as found if its id was seen, with the tokens
    that are in it.

    Args:
        requests: The requests, in order of arrival.
        block_size: Tokens per block; 512 in the traces of Mooncake (Qin et al., FAST '25).

    Returns:
        The three hit rates.

    Raises:
        ValueError: A request does not have one id for each of its blocks.

    >>> from course_lib.simulation import TraceRequest
    >>> first = TraceRequest(0.0, prompt_tokens=1000, output_tokens=1, hash_ids=(0, 1))
    >>> again = TraceRequest(1.0, prompt_tokens=2048, output_tokens=1, hash_ids=(0, 1, 2, 3))
    >>> infinite_cache_hit_rates([first, again]).block_weighted
    0.3333333333333333
    """
    meter = HitMeter()
    seen: set[int] = set()
    for index, request in enumerate(requests):
        hash_ids, num_tokens = request.hash_ids, request.prompt_tokens
        require_ids_of_blocks(index, request, block_size)
        num_blocks = len(hash_ids)
        num_hits = 0
        while num_hits < num_blocks and hash_ids[num_hits] in seen:
            num_hits += 1
        seen.update(hash_ids)
        meter.record(num_tokens, min(num_hits * block_size, num_tokens), num_blocks, num_hits)
    return meter.rates()


def replay_prefix_cache(
    requests: Iterable[HasHashIds], num_blocks: int, in_flight: int, block_size: int = 512
) -> HitRates:
    """Return the hit rates of a cache of limited size: LRU, as a ``BlockPool`` evicts.

    Requests come one after the other, and each holds its blocks until ``in_flight`` more have come,
    or until a later one needs its room. It is looked up when it comes; then its blocks are cached.
    A hit is a run of blocks from the first one on. The last block counts with the tokens that are
    in it, as in ``infinite_cache_hit_rates``, to which this comes near as ``num_blocks`` grows.

    Args:
        requests: The requests, in order of arrival.
        num_blocks: Blocks of the cache, the null block included.
        in_flight: Requests that hold their blocks at the same time, at least 1.
        block_size: Tokens per block; 512 in the traces of Mooncake (Qin et al., FAST '25).

    Returns:
        The three hit rates. A request that is larger than the cache finds what there is, and is
        not cached.

    Raises:
        ValueError: ``num_blocks`` or ``in_flight`` is less than 1, or a request does not have one
            id for each of its blocks.

    >>> from course_lib.simulation import TraceRequest
    >>> prompts = [(0, 1), (2, 3), (0, 1)]
    >>> requests = [TraceRequest(0.0, 1024, output_tokens=1, hash_ids=ids) for ids in prompts]
    >>> [
    ...     replay_prefix_cache(requests, num_blocks, in_flight=1).block_weighted
    ...     for num_blocks in (4, 5)
    ... ]
    [0.16666666666666666, 0.3333333333333333]
    """
    if in_flight < 1:
        raise ValueError(f"in_flight is {in_flight}; at least 1 request holds blocks at a time")
    meter = HitMeter()
    pool = BlockPool(num_blocks)
    running: deque[list[KVCacheBlock]] = deque()
    for index, request in enumerate(requests):
        require_ids_of_blocks(index, request, block_size)
        block_hashes = [hash_id.to_bytes(8, "big") for hash_id in request.hash_ids]
        num_tokens, num_wanted = request.prompt_tokens, len(block_hashes)
        if len(running) == in_flight:
            pool.free_blocks(reversed(running.popleft()))
        # The last block may be found as well: one token more than the prompt is looked up.
        hits = longest_cached_prefix(
            block_hashes, pool.cached_block_hash_to_block, num_wanted + 1, block_size=1
        )
        num_hit_tokens = min(len(hits) * block_size, num_tokens)
        meter.record(num_tokens, num_hit_tokens, num_wanted, len(hits))
        if num_wanted >= num_blocks:
            continue
        pool.touch(hits)
        while num_wanted - len(hits) > pool.get_num_free_blocks():
            pool.free_blocks(reversed(running.popleft()))
        blocks = hits + pool.get_new_blocks(num_wanted - len(hits))
        pool.cache_full_blocks(blocks, block_hashes)
        running.append(blocks)
    return meter.rates()


def require_ids_of_blocks(index: int, request: HasHashIds, block_size: int) -> None:
    """Raise a ValueError unless a request has one hash id for each of its blocks.

    Args:
        index: Which request it is, for the error.
        request: The request.
        block_size: Tokens per block.
    """
    num_blocks = -(-request.prompt_tokens // block_size)
    if len(request.hash_ids) != num_blocks:
        raise ValueError(
            f"request {index} has {request.prompt_tokens} prompt tokens and "
            f"{len(request.hash_ids)} hash ids; "
            f"with {block_size} tokens per block it needs {num_blocks}"
        )
