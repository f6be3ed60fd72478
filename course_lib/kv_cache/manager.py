"""The KV cache manager: which blocks each request holds, and what a request can reuse.

A scheduler asks it three things: what of a request is in the cache already
(``get_computed_blocks``), whether there is room for the next tokens (``allocate_slots``), and to
take everything back (``free``). ``fork`` lets two requests share all that is computed so far.

Behaviour and names follow vLLM 0.33.0 (``vllm/v1/core/kv_cache_manager.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from course_lib.kv_cache.block_pool import BlockPool, KVCacheBlock
from course_lib.kv_cache.prefix import HitMeter, extend_block_hashes, longest_cached_prefix


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


@dataclass(slots=True, eq=False)
class _Sequence:
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


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a dashboard shows of a KV cache.

    Attributes:
        usage: Share of the blocks that requests hold now, from 0.0 to 1.0.
        num_free_blocks: Blocks that can be handed out now.
        num_cached_blocks: Those of them that still hold a prefix.
        queried_tokens: Tokens of all requests admitted so far; one that comes back after a
            preemption counts again.
        hit_tokens: Those of them that were found in the cache.
        evictions: Blocks whose contents were given up.
        copies: Blocks copied because they were shared.
    """

    usage: float
    num_free_blocks: int
    num_cached_blocks: int
    queried_tokens: int
    hit_tokens: int
    evictions: int
    copies: int

    @property
    def hit_rate(self) -> float:
        """Tokens found over tokens looked up; 0.0 before the first lookup."""
        return self.hit_tokens / self.queried_tokens if self.queried_tokens else 0.0


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

    Raises:
        ValueError: ``block_size`` is less than 1, ``watermark`` is not between 0 and 1, or
            ``num_blocks`` is less than 1.

    >>> from types import SimpleNamespace
    >>> tokens = list(range(40))
    >>> request = SimpleNamespace(request_id="a", all_token_ids=tokens, num_tokens=40,
    ...                           num_computed_tokens=0, cache_salt=None)
    >>> manager = KVCacheManager(num_blocks=10, block_size=16)
    >>> len(manager.allocate_slots(request, num_new_tokens=40))
    3
    >>> manager.free(request)
    >>> again = SimpleNamespace(**vars(request) | {"request_id": "b"})
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
    ) -> None:
        if block_size < 1:
            raise ValueError(f"block_size is {block_size}; a block holds at least 1 token")
        if not 0.0 <= watermark <= 1.0:
            raise ValueError(f"watermark is {watermark}; it is a share of the blocks, 0.0 to 1.0")
        self.block_size = block_size
        self.enable_caching = enable_caching
        self.watermark_blocks = int(watermark * num_blocks)
        self.block_pool = block_pool(num_blocks, enable_caching)
        self.prefix_hits = HitMeter()
        self.num_copies = 0
        # As long as nobody was forked, a block that is not full is in one table only.
        self.num_forks = 0
        self._sequences: dict[str, _Sequence] = {}
        self._block_copies: list[tuple[int, int]] = []

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
        sequence = self._sequence(request)
        num_tokens = request.num_tokens
        self._hash_blocks(sequence, request, num_tokens // self.block_size)
        self._sequences[request.request_id] = sequence
        blocks = longest_cached_prefix(
            sequence.block_hashes, self.block_pool.get_cached_block, num_tokens, self.block_size
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

        A block into which the request is about to write and that it shares with a fork is replaced
        by a new one (copy-on-write). If there are computed tokens in it, the pair (old id, new id)
        is added to ``take_block_copies``.

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
                ``get_computed_blocks`` returns for this request, which must hold no blocks yet.
        """
        if num_new_tokens < 1:
            raise ValueError(f"num_new_tokens is {num_new_tokens}; allocate for at least 1 token")
        size = self.block_size
        sequence = self._sequence(request)
        table = sequence.blocks
        hits: Sequence[KVCacheBlock] = ()
        if new_computed_blocks or num_new_computed_tokens:
            hits = new_computed_blocks or ()
            self._require_hits(sequence, hits, num_new_computed_tokens)

        num_computed = request.num_computed_tokens + num_new_computed_tokens
        num_slots = num_computed + num_new_tokens
        num_added = max(-(-num_slots // size) - len(table) - len(hits), 0)
        # Where the request writes next. Blocks in front of it are never changed again.
        first_written = num_computed // size
        shared = [index for index in range(first_written, len(table)) if table[index].ref_cnt > 1]

        num_needed = num_added + len(shared)
        if full_sequence_must_fit:
            num_rest = -(-request.num_tokens // size) - len(table) - len(hits)
            num_needed = max(num_added, num_rest) + len(shared)
        if num_needed and not self._have_room(sequence, num_needed, hits):
            return None

        num_full = 0
        if self.enable_caching and num_slots // size > sequence.num_cached_blocks:
            num_full = min(num_slots, request.num_tokens) // size
            self._hash_blocks(sequence, request, num_full)
        if not table:
            self._admit(request, sequence, hits)
        new_blocks: list[KVCacheBlock] = []
        if num_added or shared:
            new_blocks = self.block_pool.get_new_blocks(len(shared) + num_added)
            if shared:
                self._replace_shared(table, shared, new_blocks, num_computed)
            table += new_blocks[len(shared) :]
        num_cached = sequence.num_cached_blocks
        if num_full > num_cached:
            self.block_pool.cache_full_blocks(
                table[num_cached:num_full], sequence.block_hashes[num_cached:num_full]
            )
            sequence.num_cached_blocks = num_full
        return new_blocks

    def has_free_slot(self, request: CacheableRequest) -> bool:
        """Whether one more token of a request needs nothing from ``allocate_slots``.

        So it is if the token comes into the middle of the request's last block: then no block is
        added, and none is filled, which would have to be hashed. In most steps this holds for most
        requests, and a scheduler that asks first plans several times as fast. Once a request was
        forked, blocks that are not full may be shared, and the answer is no.

        Args:
            request: A request that has slots for its computed tokens, and no more.

        >>> from types import SimpleNamespace
        >>> request = SimpleNamespace(request_id="a", all_token_ids=[5] * 9, num_tokens=9,
        ...                           num_computed_tokens=0, cache_salt=None)
        >>> manager = KVCacheManager(num_blocks=10, block_size=4)
        >>> _ = manager.allocate_slots(request, num_new_tokens=5)
        >>> for request.num_computed_tokens in (5, 6, 7, 8):
        ...     print(request.num_computed_tokens, manager.has_free_slot(request))
        5 True
        6 True
        7 False
        8 False
        """
        offset = request.num_computed_tokens % self.block_size
        return 0 < offset < self.block_size - 1 and not self.num_forks

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
        """
        sequence = self._sequences.get(request.request_id)
        if sequence is None:
            raise self._unknown(request.request_id)
        if num_valid_tokens is not None:
            num_valid_blocks = num_valid_tokens // self.block_size
            invalid = sequence.blocks[num_valid_blocks : sequence.num_cached_blocks]
            self.block_pool.evict_blocks(block.block_id for block in invalid)
        self.block_pool.free_blocks(reversed(sequence.blocks))
        del self._sequences[request.request_id]

    def fork(self, parent: CacheableRequest, child: CacheableRequest) -> None:
        """Let ``child`` share all blocks of ``parent``, as for several samples of one prompt.

        Nothing is copied now. Whichever of them first writes into a block that is shared gets a
        copy of it (``allocate_slots``). ``child.num_computed_tokens`` is set to what the parent has
        computed, but at most to the tokens that the child knows.

        Args:
            parent: A request that holds blocks.
            child: A request that holds none, with the same salt and, as far as the parent has
                computed, the same tokens.

        Raises:
            UnknownRequestError: ``parent`` holds no blocks. It is a KeyError.
            ValueError: ``child`` holds blocks, or tokens or salt differ. In all cases nothing
                changes.

        >>> from types import SimpleNamespace
        >>> parent, child = (
        ...     SimpleNamespace(request_id=name, all_token_ids=[5, 6, 7], num_tokens=3,
        ...                     num_computed_tokens=0, cache_salt=None) for name in "pc")
        >>> manager = KVCacheManager(num_blocks=10, block_size=2)
        >>> _ = manager.allocate_slots(parent, num_new_tokens=3)
        >>> parent.num_computed_tokens = 3
        >>> manager.fork(parent, child)
        >>> _ = manager.allocate_slots(child, num_new_tokens=1)
        >>> manager.get_block_ids("p"), manager.get_block_ids("c"), manager.take_block_copies()
        ([1, 2], [1, 3], [(2, 3)])
        """
        sequence = self._holding(parent.request_id)
        known = self._sequences.get(child.request_id)
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
                f"request {child.request_id!r} does not begin with the {num_shared_tokens} tokens "
                f"and the salt of {parent.request_id!r}; a fork continues what its parent has"
            )
        self.block_pool.touch(sequence.blocks)
        num_shared_blocks = num_shared_tokens // self.block_size
        self._sequences[child.request_id] = _Sequence(
            child,
            list(sequence.blocks),
            sequence.block_hashes[:num_shared_blocks],
            min(sequence.num_cached_blocks, num_shared_blocks),
        )
        child.num_computed_tokens = num_shared_tokens
        self.num_forks += 1

    def take_block_copies(self) -> list[tuple[int, int]]:
        """Return the block copies that are due, as (source, destination) ids, and forget them.

        Whoever runs the model carries them out in this order, one after the other, before the step
        writes anything: a source may since have been freed and be another copy's destination.
        """
        copies, self._block_copies = self._block_copies, []
        return copies

    def get_block_ids(self, request_id: str) -> list[int]:
        """Return the block table of a request: the ids of its blocks, in order.

        Raises:
            UnknownRequestError: The request holds no blocks. It is a KeyError.
        """
        return [block.block_id for block in self._holding(request_id).blocks]

    def block_tables(self) -> dict[str, list[KVCacheBlock]]:
        """Return the blocks of every request that holds any, by its id."""
        return {name: list(s.blocks) for name, s in self._sequences.items() if s.blocks}

    def requests(self) -> dict[str, CacheableRequest]:
        """Return every request that holds blocks, by its id."""
        return {name: s.request for name, s in self._sequences.items() if s.blocks}

    def stats(self) -> CacheStats:
        """Return usage, hits, evictions and copies, as of now."""
        pool = self.block_pool
        return CacheStats(
            usage=pool.get_usage(),
            num_free_blocks=pool.get_num_free_blocks(),
            num_cached_blocks=sum(block.block_hash is not None for block in pool.free_block_queue),
            queried_tokens=self.prefix_hits.num_tokens,
            hit_tokens=self.prefix_hits.num_hit_tokens,
            evictions=pool.num_evictions,
            copies=self.num_copies,
        )

    def reset_prefix_cache(self) -> bool:
        """Forget all cached prefixes; refused, with False, while a request holds blocks."""
        return self.block_pool.reset_prefix_cache()

    def _admit(
        self, request: CacheableRequest, sequence: _Sequence, hits: Sequence[KVCacheBlock]
    ) -> None:
        """Enter a request that held no blocks, with what it found in the cache."""
        if hits:
            self.block_pool.touch(hits)
        if self.enable_caching:
            size, num_tokens = self.block_size, request.num_tokens
            self.prefix_hits.record(
                num_tokens=num_tokens,
                num_hit_tokens=len(hits) * size,
                num_blocks=-(-num_tokens // size),
                num_hit_blocks=len(hits),
            )
        sequence.blocks += hits
        sequence.num_cached_blocks = len(hits)
        self._sequences[request.request_id] = sequence

    def _replace_shared(
        self,
        table: list[KVCacheBlock],
        shared: list[int],
        new_blocks: list[KVCacheBlock],
        num_computed_tokens: int,
    ) -> None:
        """Put new blocks in place of shared ones, and note what has to be copied."""
        for index, copy in zip(shared, new_blocks, strict=False):
            source = table[index]
            table[index] = copy
            # Only the first one can hold computed tokens; those behind it are still empty.
            if index * self.block_size < num_computed_tokens:
                self._block_copies.append((source.block_id, copy.block_id))
                self.num_copies += 1
            self.block_pool.free_blocks([source])

    def _sequence(self, request: CacheableRequest) -> _Sequence:
        """Return what is known of a request, which may be nothing."""
        sequence = self._sequences.get(request.request_id)
        # Hashes of a request that was only looked up say nothing about another of that name.
        if sequence is None or (sequence.request is not request and not sequence.blocks):
            return _Sequence(request)
        return sequence

    def _hash_blocks(self, sequence: _Sequence, request: CacheableRequest, num_blocks: int) -> None:
        """Hash the full blocks that are not hashed yet, if there are not ``num_blocks`` hashes."""
        if len(sequence.block_hashes) < num_blocks:
            extend_block_hashes(
                sequence.block_hashes, request.all_token_ids, self.block_size, request.cache_salt
            )

    def _require_hits(
        self, sequence: _Sequence, hits: Sequence[KVCacheBlock], num_tokens: int
    ) -> None:
        """Refuse computed blocks that are not what a request can begin with."""
        request_id = sequence.request.request_id
        if num_tokens != len(hits) * self.block_size:
            raise ValueError(
                f"{len(hits)} computed blocks do not hold {num_tokens} tokens; "
                "pass both results of get_computed_blocks"
            )
        if sequence.blocks:
            raise ValueError(
                f"request {request_id!r} already holds blocks; "
                "pass computed blocks only when it is admitted"
            )
        if [block.block_hash for block in hits] != sequence.block_hashes[: len(hits)]:
            raise ValueError(
                f"the computed blocks do not hold the tokens of request {request_id!r}; "
                "call get_computed_blocks again, right before allocate_slots"
            )

    def _have_room(
        self, sequence: _Sequence, num_blocks: int, hits: Sequence[KVCacheBlock]
    ) -> bool:
        """Say whether there are ``num_blocks`` to take, once the hits are claimed."""
        num_available = self.block_pool.get_num_free_blocks()
        num_available -= sum(block.ref_cnt == 0 for block in hits)
        is_admitted_now = not sequence.blocks
        if is_admitted_now and self._others_hold_blocks():
            num_available -= self.watermark_blocks
        return num_blocks <= num_available

    def _others_hold_blocks(self) -> bool:
        """Say whether any request holds blocks; asked for one that holds none."""
        return any(sequence.blocks for sequence in self._sequences.values())

    def _holding(self, request_id: str) -> _Sequence:
        """Look up a request that holds blocks."""
        sequence = self._sequences.get(request_id)
        if sequence is None or not sequence.blocks:
            raise self._unknown(request_id)
        return sequence

    def _unknown(self, request_id: str) -> UnknownRequestError:
        """Say which request was not found."""
        return UnknownRequestError(
            f"request {request_id!r} holds no blocks; "
            "allocate_slots or fork comes first, and free only once"
        )
