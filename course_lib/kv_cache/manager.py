"""The KV cache manager: which blocks each request holds, and what a request can reuse.

A scheduler asks it three things: what of a request is in the cache already
(``get_computed_blocks``), whether there is room for the next tokens (``allocate_slots``), and to
take everything back (``free``). ``fork`` lets two requests share all that is computed so far.

Behaviour and names follow vLLM 0.33.0 (``vllm/v1/core/kv_cache_manager.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from course_lib.kv_cache.block_pool import BlockPool, KVCacheBlock
from course_lib.kv_cache.block_table import blocks_to_add
from course_lib.kv_cache.metrics import CacheMetrics, CacheStats
from course_lib.kv_cache.prefix import hash_blocks, longest_cached_prefix
from course_lib.kv_cache.sizing import require_block_size

HashBlocks = Callable[[Sequence[int], int, str | None, bytes | None], list[bytes]]
"""``hash_blocks``: (token ids, block size, salt, hash in front of them) to their hashes."""

BlocksToAdd = Callable[[int, int, int], int]
"""``blocks_to_add``: (tokens, blocks, block size) to the blocks that are missing."""

FindPrefix = Callable[[Sequence[bytes], Mapping[bytes, KVCacheBlock], int, int], list[KVCacheBlock]]
"""``longest_cached_prefix``: (hashes, cached blocks, tokens, block size) to the blocks found."""


class UnknownRequestError(KeyError):
    """A request is named that the manager does not know."""

    def __str__(self) -> str:
        return str(self.args[0])


class CacheableRequest(Protocol):
    """What the manager needs to know of a request."""

    num_computed_tokens: int

    @property
    def request_id(self) -> str:
        """Its name; no other request that holds blocks has the same."""

    @property
    def num_tokens(self) -> int:
        """Tokens that are known so far, prompt and output."""

    @property
    def all_token_ids(self) -> Sequence[int]:
        """These tokens."""

    @property
    def cache_salt(self) -> str | None:
        """Only requests with the same salt may share blocks."""


@dataclass(eq=False)
class PlainRequest:
    """The least that a manager needs to know of a request, for examples and measurements.

    Attributes:
        request_id: Its name.
        all_token_ids: Its tokens.
        num_computed_tokens: How many of them are computed.
        cache_salt: Only requests with the same salt may share blocks.

    >>> PlainRequest("r0", [7, 8, 9]).num_tokens
    3
    """

    request_id: str
    all_token_ids: list[int] = field(repr=False)
    num_computed_tokens: int = 0
    cache_salt: str | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens that are known."""
        return len(self.all_token_ids)


def unknown_request(request_id: str) -> UnknownRequestError:
    """Return the error for a request that holds no blocks.

    >>> str(unknown_request("r7"))
    "request 'r7' holds no blocks; allocate_slots or fork comes first, and free only once"
    """
    return UnknownRequestError(
        f"request {request_id!r} holds no blocks; "
        "allocate_slots or fork comes first, and free only once"
    )


@dataclass(slots=True, eq=False)
class RequestBlocks:
    """What the manager keeps of a request.

    Attributes:
        request: The request.
        blocks: Its block table: block i holds the tokens from i × block_size on.
        block_hashes: The hashes of its first full blocks, as many as were needed so far.
        num_cached_blocks: How many of ``blocks`` are full, and were offered to the cache.
    """

    request: CacheableRequest
    blocks: list[KVCacheBlock] = field(default_factory=list)
    block_hashes: list[bytes] = field(default_factory=list)
    num_cached_blocks: int = 0

    def shared_from(self, index: int) -> list[KVCacheBlock]:
        """Return the blocks from a place of the table on that the request must not write into.

        They are those that others hold as well, and those that were cached by another request, of
        which this one is a fork: whoever looks for that hash expects the other one's tokens.
        """
        own = self.num_cached_blocks
        return [
            block
            for place, block in enumerate(self.blocks[index:], index)
            if block.ref_cnt > 1 or (block.block_hash and place >= own)
        ]


class KVCacheManager:
    """Gives requests the blocks that they need, and lets them share what is equal.

    Invariant: the ``ref_cnt`` of a block is the number of block tables it is in; a request holds
    enough blocks for all its computed tokens; a block is in the tables of two requests only if
    their tokens up to its end (or as far as they are computed) and their salts are equal; the
    blocks for which ``allocate_slots`` made room for new tokens are in no other table.

    Args:
        num_blocks: Blocks of the KV cache, the null block included.
        block_size: Tokens per block.
        enable_caching: Whether prefixes are kept for later requests.
        watermark: Share of ``num_blocks`` that stays free when a request is admitted, so that those
            already running can grow. ``int(watermark * num_blocks)`` blocks.
        block_pool: Makes the pool; called as ``block_pool(num_blocks, enable_caching)``.
        blocks_to_add: Says how many blocks a request lacks.
        hash_blocks: Hashes the full blocks of a request.
        longest_cached_prefix: Finds the blocks with which a request can begin.
        metrics: Makes what counts, from ``num_blocks``.

    Attributes:
        block_size: Tokens per block.
        enable_caching: Whether prefixes are kept for later requests.
        watermark_blocks: Blocks that stay free when a request is admitted.
        block_pool: The blocks.
        metrics: What has happened so far; usage and evictions as of the last ``free`` or ``stats``.
        num_copies: Blocks copied because they were shared.
        num_forks: How often ``fork`` was called. As long as that is 0, a block that is not full is
            in one table only.
        request_blocks: What is kept of each request that holds blocks or was looked up, by its id.
        block_copies: Copies that are due; ``take_block_copies`` empties it.

    Raises:
        ValueError: ``block_size`` is less than 1, ``watermark`` is not between 0 and 1, or
            ``num_blocks`` is less than 1.

    >>> request = PlainRequest("a", list(range(40)))
    >>> manager = KVCacheManager(num_blocks=10, block_size=16)
    >>> len(manager.allocate_slots(request, num_new_tokens=40))
    3
    >>> manager.free(request)
    >>> again = PlainRequest("b", list(range(40)))
    >>> blocks, num_computed_tokens = manager.get_computed_blocks(again)
    >>> [block.block_id for block in blocks], num_computed_tokens
    ([1, 2], 32)
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int = 16,
        enable_caching: bool = True,
        watermark: float = 0.0,
        *,
        block_pool: Callable[[int, bool], BlockPool] = BlockPool,
        blocks_to_add: BlocksToAdd = blocks_to_add,
        hash_blocks: HashBlocks = hash_blocks,
        longest_cached_prefix: FindPrefix = longest_cached_prefix,
        metrics: Callable[[int], CacheMetrics] = CacheMetrics,
    ) -> None:
        require_block_size(block_size)
        if not 0.0 <= watermark <= 1.0:
            raise ValueError(f"watermark is {watermark}; it is a share of the blocks, 0.0 to 1.0")
        self.block_size = block_size
        self.enable_caching = enable_caching
        self.watermark_blocks = int(watermark * num_blocks)
        self.block_pool = block_pool(num_blocks, enable_caching)
        self.blocks_to_add = blocks_to_add
        self.hash_blocks = hash_blocks
        self.longest_cached_prefix = longest_cached_prefix
        self.metrics = metrics(num_blocks)
        self.num_copies = 0
        self.num_forks = 0
        self.request_blocks: dict[str, RequestBlocks] = {}
        self.block_copies: list[tuple[int, int]] = []

    @property
    def usage(self) -> float:
        """The share of blocks in use, from 0.0 to 1.0."""
        return self.block_pool.get_usage()

    def get_computed_blocks(self, request: CacheableRequest) -> tuple[list[KVCacheBlock], int]:
        """Return the cached blocks with which a request can begin, and how many tokens they hold.

        They are whole blocks and never cover the last known token, which has to be computed in any
        case. Nothing changes yet: pass both to ``allocate_slots`` before anything else is
        allocated, or they may be given to somebody else.

        The hashes of a request are computed when it is first looked up, and kept until it is freed.

        Args:
            request: A request that holds no blocks.

        Returns:
            The blocks, in order, and ``len(blocks) * block_size``.
        """
        if not self.enable_caching:
            return [], 0
        held = self.blocks_of(request)
        self.hash_full_blocks(held, request.num_tokens // self.block_size)
        self.request_blocks[request.request_id] = held
        blocks = self.longest_cached_prefix(
            held.block_hashes,
            self.block_pool.cached_block_hash_to_block,
            request.num_tokens,
            self.block_size,
        )
        return blocks, len(blocks) * self.block_size

    def allocate_slots(
        self,
        request: CacheableRequest,
        num_new_tokens: int,
        num_new_computed_tokens: int = 0,
        new_computed_blocks: Sequence[KVCacheBlock] | None = None,
        *,
        full_sequence_must_fit: bool = False,
    ) -> list[KVCacheBlock] | None:
        """Make room for the next tokens of a request.

        Afterwards the request's blocks have a slot for each of its ``num_computed_tokens``, for the
        tokens just found in the cache, and for ``num_new_tokens`` more. Every block that these
        tokens fill can be found by later requests from now on (drafts of a speculative decoder,
        beyond ``num_tokens``, are left out). The request's own fields are not changed.

        Of the blocks of its table, from the first into which the request is about to write to the
        last, those that it must not write into (``RequestBlocks.shared_from``) are replaced by new
        ones: copy-on-write. If there are computed tokens in such a block, the pair (old id, new id)
        is added to ``block_copies``.

        A request that holds no blocks yet is *admitted*: then ``watermark_blocks`` blocks must stay
        free, unless no other request holds any.

        Args:
            request: The request.
            num_new_tokens: Tokens to compute next, at least 1.
            num_new_computed_tokens: Second result of ``get_computed_blocks``, on admission.
            new_computed_blocks: First result of ``get_computed_blocks``, on admission.
            full_sequence_must_fit: Whether to admit the request only if all of its ``num_tokens``
                would fit now, and not just the next ones.

        Returns:
            The blocks taken from the free queue: copies first, then those added at the end of the
            table. Blocks found in the cache are not among them. None if there is not enough room;
            then nothing has changed.

        Raises:
            ValueError: ``num_new_tokens`` is less than 1; or the computed blocks are not what
                ``get_computed_blocks`` returns for this request, which must hold no blocks yet; or
                a block would be filled with a token that cannot be hashed. Nothing has changed.

        >>> manager = KVCacheManager(num_blocks=7, block_size=4)
        >>> request = PlainRequest("a", list(range(10)))
        >>> [block.block_id for block in manager.allocate_slots(request, num_new_tokens=6)]
        [1, 2]
        >>> request.num_computed_tokens = 6
        >>> [block.block_id for block in manager.allocate_slots(request, num_new_tokens=4)]
        [3]
        >>> other = PlainRequest("b", list(range(20)))
        >>> hits, num_hit_tokens = manager.get_computed_blocks(other)
        >>> new = manager.allocate_slots(other, 20 - num_hit_tokens, num_hit_tokens, hits)
        >>> [block.block_id for block in new]
        [4, 5, 6]
        >>> manager.get_block_ids("b")
        [1, 2, 4, 5, 6]
        """
        if num_new_tokens < 1:
            raise ValueError(f"num_new_tokens is {num_new_tokens}; allocate for at least 1 token")
        hits = new_computed_blocks or ()
        held = self.blocks_of(request)
        self.require_hits(held, hits, num_new_computed_tokens)
        num_computed = request.num_computed_tokens + num_new_computed_tokens
        num_slots = num_computed + num_new_tokens
        num_full = min(num_slots, request.num_tokens) // self.block_size

        # Count: a copy of each shared block that is written into, and blocks behind the end.
        # (Without forks none is shared; to look all the same takes a tenth of what a call takes.)
        first = num_computed // self.block_size
        shared = held.shared_from(first) if self.num_forks else []
        num_known = len(held.blocks) + len(hits)
        num_new = len(shared) + self.blocks_to_add(num_slots, num_known, self.block_size)
        num_needed = num_new
        if full_sequence_must_fit:
            num_all = max(num_slots, request.num_tokens)
            num_needed = len(shared) + self.blocks_to_add(num_all, num_known, self.block_size)
        # Refuse. A hit that nobody holds is among the free blocks, and cannot be had twice.
        kept = 0 if held.blocks else self.num_blocks_kept_free() + sum(not b.ref_cnt for b in hits)
        if num_needed and num_needed + kept > self.block_pool.get_num_free_blocks():
            return None
        if num_full > held.num_cached_blocks:
            self.hash_full_blocks(held, num_full)  # may find a wrong token: nothing has changed yet

        # Touch, take, replace what is shared, and let others find what these tokens fill.
        if not held.blocks:
            self.admit(held, hits)
        new_blocks = self.block_pool.get_new_blocks(num_new) if num_new else []
        if shared:
            self.replace_shared(held, shared, new_blocks[: len(shared)], num_computed)
        held.blocks += new_blocks[len(shared) :]
        if num_full > held.num_cached_blocks:
            self.cache_full_blocks(held, num_full)
        return new_blocks

    def has_free_slot(self, request: CacheableRequest) -> bool:
        """Whether one more token of a request needs nothing from ``allocate_slots``.

        So it is if the token comes into the middle of the request's last block: then no block is
        added, and none is filled, which would have to be hashed. In most steps this holds for most
        requests (in blocks of 16, for 14 tokens of 16), and a scheduler that asks first is spared
        the call. Once a request was forked, blocks that are not full may be shared, and the answer
        is no.

        Args:
            request: A request that has slots for its computed tokens, and no more.

        >>> request = PlainRequest("a", [5] * 9)
        >>> manager = KVCacheManager(num_blocks=10, block_size=4)
        >>> _ = manager.allocate_slots(request, num_new_tokens=5)
        >>> for request.num_computed_tokens in (5, 6, 7, 8):
        ...     print(request.num_computed_tokens, manager.has_free_slot(request))
        5 True
        6 True
        7 False
        8 False
        """
        # 1 is left if the token begins a block, and 0 if it fills one.
        return (request.num_computed_tokens + 1) % self.block_size > 1 and not self.num_forks

    def free(self, request: CacheableRequest, *, num_valid_tokens: int | None = None) -> None:
        """Take all blocks of a request back, the last one first.

        Blocks that hold a cached prefix can still be found, until they are handed out again. The
        order means that the end of a prefix is reused before its beginning.

        Args:
            request: The request, finished or preempted. One that was only looked up holds no
                blocks; then its hashes are dropped.
            num_valid_tokens: How many of its tokens have been computed. Blocks behind them, which
                were filled by a step that did not take place, are not left in the cache. None if
                all of them are valid.

        Raises:
            UnknownRequestError: The request holds no blocks and was never looked up. It is a
                KeyError. Nothing changes.

        >>> manager = KVCacheManager(num_blocks=6, block_size=4)
        >>> request = PlainRequest("a", list(range(10)))
        >>> _ = manager.allocate_slots(request, num_new_tokens=10)
        >>> manager.free(request)  # two of its three blocks are full
        >>> [block.block_id for block in manager.block_pool.free_block_queue]
        [3, 4, 5, 2, 1]
        """
        held = self.request_blocks.get(request.request_id)
        if held is None:
            raise unknown_request(request.request_id)
        if num_valid_tokens is not None:
            num_valid_blocks = num_valid_tokens // self.block_size
            invalid = held.blocks[num_valid_blocks : held.num_cached_blocks]
            self.block_pool.evict_blocks(block.block_id for block in invalid)
        self.record_usage()  # usage goes down only here, so this is where a peak is seen
        self.block_pool.free_blocks(held.blocks[::-1])
        del self.request_blocks[request.request_id]

    def fork(self, parent: CacheableRequest, child: CacheableRequest) -> None:
        """Let ``child`` share all blocks of ``parent``, as for several samples of one prompt.

        Nothing is copied now. Whichever of them first writes into a block that is shared gets a
        copy of it (``allocate_slots``). ``child.num_computed_tokens`` becomes the parent's, but at
        most as many as the child has tokens.

        In ``request_blocks`` the child then has an entry of its own. It has the parent's blocks,
        each with one holder more; of the parent's hashes, those of the blocks that the child's
        computed tokens fill; and ``num_cached_blocks`` says how many of these blocks the parent has
        offered to the cache. ``num_forks`` goes up by one.

        Args:
            parent: A request that holds blocks.
            child: A request that holds none. It has the same salt and, as far as the parent has
                computed and the child goes, the same tokens.

        Raises:
            UnknownRequestError: ``parent`` holds no blocks. It is a KeyError.
            ValueError: ``child`` holds blocks, or tokens or salt differ. In all cases nothing
                changes.

        >>> parent, child = PlainRequest("p", [5, 6, 7]), PlainRequest("c", [5, 6, 7])
        >>> manager = KVCacheManager(num_blocks=10, block_size=2)
        >>> _ = manager.allocate_slots(parent, num_new_tokens=3)
        >>> parent.num_computed_tokens = 3
        >>> manager.fork(parent, child)
        >>> _ = manager.allocate_slots(child, num_new_tokens=1)
        >>> manager.get_block_ids("p"), manager.get_block_ids("c"), manager.take_block_copies()
        ([1, 2], [1, 3], [(2, 3)])
        >>> entry = manager.request_blocks["c"]
        >>> len(entry.block_hashes), entry.num_cached_blocks  # 5 6 are cached, and 7 fills no block
        (1, 1)
        """
        held = self.holding(parent.request_id)
        known = self.request_blocks.get(child.request_id)
        if known is not None and known.blocks:
            raise ValueError(
                f"request {child.request_id!r} already holds {len(known.blocks)} blocks; "
                "fork into a new request"
            )
        num_shared_tokens = min(parent.num_computed_tokens, child.num_tokens)
        tokens = slice(num_shared_tokens)
        if child.cache_salt != parent.cache_salt or list(child.all_token_ids[tokens]) != list(
            parent.all_token_ids[tokens]
        ):
            raise ValueError(
                f"request {child.request_id!r} has another salt than {parent.request_id!r}, or "
                f"another token before position {num_shared_tokens}; a fork continues what its "
                "parent has"
            )
        self.block_pool.touch(held.blocks)
        num_full = num_shared_tokens // self.block_size
        self.request_blocks[child.request_id] = RequestBlocks(
            child,
            list(held.blocks),
            held.block_hashes[:num_full],
            min(held.num_cached_blocks, num_full),
        )
        child.num_computed_tokens = num_shared_tokens
        self.num_forks += 1

    def take_block_copies(self) -> list[tuple[int, int]]:
        """Return the block copies that are due, as (source, destination) ids, and forget them.

        Whoever runs the model carries them out in this order, one after the other, before the step
        writes anything: a source may since have been freed and be another copy's destination.
        """
        copies, self.block_copies = self.block_copies, []
        return copies

    def get_block_ids(self, request_id: str) -> list[int]:
        """Return the block table of a request: the ids of its blocks, in order.

        Raises:
            UnknownRequestError: The request holds no blocks. It is a KeyError.
        """
        return [block.block_id for block in self.holding(request_id).blocks]

    def block_tables(self) -> dict[str, list[KVCacheBlock]]:
        """Return the blocks of every request that holds any, by its id."""
        return {
            name: list(held.blocks) for name, held in self.request_blocks.items() if held.blocks
        }

    def requests(self) -> dict[str, CacheableRequest]:
        """Return every request that holds blocks, by its id."""
        return {name: held.request for name, held in self.request_blocks.items() if held.blocks}

    def stats(self) -> CacheStats:
        """Return usage, hits, evictions and copies, as of now."""
        self.record_usage()
        pool, metrics = self.block_pool, self.metrics
        return CacheStats(
            usage=metrics.usage,
            high_water=metrics.high_water,
            num_free_blocks=pool.get_num_free_blocks(),
            num_cached_blocks=sum(block.block_hash is not None for block in pool.free_block_queue),
            queried_tokens=metrics.queried_tokens,
            hit_tokens=metrics.hit_tokens,
            preempted_queried_tokens=metrics.preempted_queried_tokens,
            preempted_hit_tokens=metrics.preempted_hit_tokens,
            evictions=metrics.evictions,
            copies=self.num_copies,
        )

    def reset_prefix_cache(self) -> bool:
        """Forget all cached prefixes; refused, with False, while a request holds blocks."""
        return self.block_pool.reset_prefix_cache()

    # The steps of the above.

    def blocks_of(self, request: CacheableRequest) -> RequestBlocks:
        """Return what is kept of a request; it is new, and not entered yet, if nothing is."""
        held = self.request_blocks.get(request.request_id)
        # Hashes of a request that was only looked up say nothing about another of that name.
        if held is None or (held.request is not request and not held.blocks):
            return RequestBlocks(request)
        return held

    def holding(self, request_id: str) -> RequestBlocks:
        """Return what is kept of a request that holds blocks.

        Raises:
            UnknownRequestError: It holds none. It is a KeyError.
        """
        held = self.request_blocks.get(request_id)
        if held is None or not held.blocks:
            raise unknown_request(request_id)
        return held

    def require_hits(
        self, held: RequestBlocks, hits: Sequence[KVCacheBlock], num_tokens: int
    ) -> None:
        """Raise a ValueError unless computed blocks are what a request can begin with.

        Args:
            held: What is kept of the request.
            hits: The computed blocks. None are always right.
            num_tokens: How many tokens they are said to hold.
        """
        if not hits and not num_tokens:
            return
        request_id = held.request.request_id
        if num_tokens != len(hits) * self.block_size:
            raise ValueError(
                f"{len(hits)} computed blocks do not hold {num_tokens} tokens; "
                "pass both results of get_computed_blocks"
            )
        if held.blocks:
            raise ValueError(
                f"request {request_id!r} already holds blocks; "
                "pass computed blocks only when it is admitted"
            )
        if [block.block_hash for block in hits] != held.block_hashes[: len(hits)]:
            raise ValueError(
                f"the computed blocks do not hold the tokens of request {request_id!r}; "
                "call get_computed_blocks again, right before allocate_slots"
            )

    def num_blocks_kept_free(self) -> int:
        """Return how many blocks a request that is admitted now must leave free.

        ``watermark_blocks`` if others hold blocks; otherwise 0.
        """
        if not self.watermark_blocks:
            return 0
        somebody_runs = any(other.blocks for other in self.request_blocks.values())
        return self.watermark_blocks if somebody_runs else 0

    def hash_full_blocks(self, held: RequestBlocks, num_blocks: int) -> None:
        """Have the hashes of a request's first blocks at hand; without caching none are needed.

        Args:
            held: What is kept of the request.
            num_blocks: Full blocks whose hashes are needed.

        Raises:
            ValueError: A token cannot be hashed; then nothing changes.
        """
        request, block_hashes = held.request, held.block_hashes
        num_hashed = len(block_hashes)
        if self.enable_caching and num_hashed < num_blocks:
            block_hashes += self.hash_blocks(
                request.all_token_ids[num_hashed * self.block_size :],
                self.block_size,
                request.cache_salt,
                block_hashes[-1] if block_hashes else None,
            )

    def admit(self, held: RequestBlocks, hits: Sequence[KVCacheBlock]) -> None:
        """Enter a request that holds no blocks, with what it found in the cache.

        Raises:
            ForeignBlockError: A hit is not from this pool; then nothing changes.
        """
        request = held.request
        self.block_pool.touch(hits)
        if self.enable_caching:
            # Only a scheduler's requests know whether they were preempted.
            is_preempted = getattr(request, "num_preemptions", 0) > 0
            self.metrics.record_lookup(
                request.num_tokens, len(hits) * self.block_size, is_preempted
            )
        held.blocks = list(hits)
        held.num_cached_blocks = len(hits)
        self.request_blocks[request.request_id] = held

    def replace_shared(
        self,
        held: RequestBlocks,
        shared: Sequence[KVCacheBlock],
        new_blocks: Sequence[KVCacheBlock],
        num_computed_tokens: int,
    ) -> None:
        """Put new blocks in place of shared ones, and note what has to be copied.

        A shared block loses a holder, and stays as it is for the others; if there are none, it is
        free now. If computed tokens are in it, the pair (its id, the new block's id) is added to
        ``block_copies``, and ``num_copies`` goes up by one; a block that is still empty is replaced
        without a copy.

        Args:
            held: What is kept of the request; ``held.blocks`` is its table.
            shared: Blocks of its table that it must not write into, in order.
            new_blocks: As many new ones, which the request holds already.
            num_computed_tokens: Tokens that it has computed, from the first. Blocks behind them are
                still empty.

        >>> parent, child = PlainRequest("p", [5, 6, 7]), PlainRequest("c", [5, 6, 7])
        >>> manager = KVCacheManager(num_blocks=10, block_size=2)
        >>> _ = manager.allocate_slots(parent, num_new_tokens=3)
        >>> parent.num_computed_tokens = 3
        >>> manager.fork(parent, child)
        >>> held = manager.request_blocks["c"]
        >>> manager.replace_shared(held, held.blocks[1:], manager.block_pool.get_new_blocks(1), 3)
        >>> manager.get_block_ids("c"), manager.block_copies
        ([1, 3], [(2, 3)])
        """
        for source, copy in zip(shared, new_blocks, strict=True):
            index = held.blocks.index(source)
            held.blocks[index] = copy
            if index * self.block_size < num_computed_tokens:
                self.block_copies.append((source.block_id, copy.block_id))
                self.num_copies += 1
            self.block_pool.free_blocks([source])

    def cache_full_blocks(self, held: RequestBlocks, num_blocks: int) -> None:
        """Let others find a request's first full blocks; without caching nobody does.

        Args:
            held: What is kept of the request, with enough hashes.
            num_blocks: Full blocks, those that can be found already included.
        """
        if not self.enable_caching:
            return
        num_cached = held.num_cached_blocks
        self.block_pool.cache_full_blocks(
            held.blocks[num_cached:num_blocks], held.block_hashes[num_cached:num_blocks]
        )
        held.num_cached_blocks = num_blocks

    def record_usage(self) -> None:
        """Bring the metrics up to date with the pool."""
        pool, metrics = self.block_pool, self.metrics
        num_used = pool.num_blocks - 1 - pool.get_num_free_blocks()
        metrics.record_usage(num_used, pool.num_evictions - metrics.evictions)
