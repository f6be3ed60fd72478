"""What an engine does between two calls of a cache manager, for lives without an engine."""

from __future__ import annotations

import random
from collections.abc import Sequence

from course_lib.kv_cache.manager import CacheableRequest, KVCacheManager, PlainRequest
from course_lib.kv_cache.watch.invariants import InvariantError
from course_lib.kv_cache.watch.notation import StateLine


def state_of(manager: KVCacheManager) -> str:
    """Return the state of a manager as one line; see ``notation``.

    >>> manager = KVCacheManager(num_blocks=6, block_size=2)
    >>> _ = manager.allocate_slots(PlainRequest("a", [5, 6, 7]), num_new_tokens=3)
    >>> state_of(manager)
    'free [3 4 5]  a: 1* 2'
    """
    return str(StateLine.of(manager))


def kept_by(manager: KVCacheManager) -> dict[str, dict[str, object]]:
    """Return what a manager keeps of each request, by its id, as plain data.

    A hash is told by its first four hexadecimal digits.

    >>> manager = KVCacheManager(num_blocks=6, block_size=2)
    >>> _ = manager.allocate_slots(PlainRequest("a", [5, 6, 7]), num_new_tokens=3)
    >>> kept_by(manager)
    {'a': {'blocks': [1, 2], 'block_hashes': ['0eec'], 'num_cached_blocks': 1}}
    """
    return {
        name: {
            "blocks": [block.block_id for block in held.blocks],
            "block_hashes": [block_hash.hex()[:4] for block_hash in held.block_hashes],
            "num_cached_blocks": held.num_cached_blocks,
        }
        for name, held in manager.request_blocks.items()
    }


def run_step(
    manager: KVCacheManager,
    request: PlainRequest,
    num_tokens: int,
    sampled: Sequence[int] = (),
) -> list[tuple[int, int]]:
    """Do what a model would do after ``allocate_slots``, without a model.

    The copies that are due are taken, ``num_tokens`` more tokens of the request count as computed,
    and those that were sampled are added to it.

    Args:
        manager: The manager.
        request: The request, which has slots for these tokens.
        num_tokens: Tokens to compute.
        sampled: Tokens that are then known.

    Returns:
        The copies, in order.

    >>> manager = KVCacheManager(num_blocks=6, block_size=2)
    >>> request = PlainRequest("a", [5, 6, 7])
    >>> _ = manager.allocate_slots(request, num_new_tokens=3)
    >>> run_step(manager, request, 3, sampled=[8])
    []
    >>> request.num_computed_tokens, request.num_tokens
    (3, 4)
    """
    copies = manager.take_block_copies()
    request.num_computed_tokens += num_tokens
    request.all_token_ids.extend(sampled)
    return copies


class RandomTraffic:
    """Requests that come, write, fork, are preempted and end, at random, on a memory of text.

    Instead of a key and a value, a slot remembers all tokens up to its own and the salt: what its
    KV depends on. Before a request computes, everything in front is read through its block table.
    If it is not the request's own past, somebody wrote where others read, a copy was forgotten, or
    a block was found that holds something else. Two tokens and short prompts make sure that much
    is shared; a child may know fewer tokens than its parent, or other ones behind what is computed.

    Args:
        manager: The manager.
        seed: What happens follows from it.

    Attributes:
        manager: The manager.
        running: The requests that hold blocks.
        num_hit_tokens: Tokens that were found in the cache.
        num_copied_blocks: Blocks that were copied.

    >>> manager = KVCacheManager(num_blocks=12, block_size=2)
    >>> traffic = RandomTraffic(manager, seed=1)
    >>> for _ in range(200):
    ...     traffic.step()
    >>> traffic.num_hit_tokens > 0, traffic.num_copied_blocks > 0
    (True, True)
    """

    def __init__(self, manager: KVCacheManager, seed: int) -> None:
        self.manager = manager
        self.running: list[PlainRequest] = []
        self.num_hit_tokens = 0
        self.num_copied_blocks = 0
        self._rng = random.Random(seed)
        self._num_requests = 0
        self._memory: dict[int, object] = {}

    def step(self) -> None:
        """Do one thing: admit, write, fork, preempt or end a request.

        Raises:
            InvariantError: A slot does not hold what the request that reads it has computed.
        """
        choice = self._rng.random()
        if not self.running or choice < 0.25:
            num_tokens = self._rng.randint(1, 4 * self.manager.block_size)
            tokens = [self._rng.randint(0, 1) for _ in range(num_tokens)]
            self._admit(PlainRequest(self._name(), tokens, 0, self._rng.choice([None, "salt"])))
            return
        request = self._rng.choice(self.running)
        if choice < 0.7:
            self._write(request)
        elif choice < 0.8:
            self._fork(request)
        else:
            self.running.remove(request)
            self.manager.free(request)
            self.manager.take_block_copies()
            request.num_computed_tokens = 0
            if choice > 0.95:
                self._admit(request)

    def end_all(self) -> None:
        """End every request that is left."""
        while self.running:
            self.manager.free(self.running.pop())

    def _name(self) -> str:
        self._num_requests += 1
        return f"r{self._num_requests}"

    def _admit(self, request: PlainRequest) -> None:
        hits, num_hits = self.manager.get_computed_blocks(request)
        num_new = self._rng.randint(1, request.num_tokens - num_hits)
        whole = self._rng.random() < 0.5
        taken = self.manager.allocate_slots(
            request, num_new, num_hits, hits, full_sequence_must_fit=whole
        )
        if taken is not None:
            self.running.append(request)
            self.num_hit_tokens += num_hits
            request.num_computed_tokens = num_hits
            self._compute(request, num_new)

    def _write(self, request: PlainRequest) -> None:
        if request.num_computed_tokens == request.num_tokens:
            request.all_token_ids.append(self._rng.randint(0, 1))
        num_new = self._rng.randint(1, request.num_tokens - request.num_computed_tokens)
        if self.manager.allocate_slots(request, num_new) is not None:
            self._compute(request, num_new)

    def _fork(self, parent: PlainRequest) -> None:
        num_kept = self._rng.randint(1, parent.num_tokens)
        tokens = parent.all_token_ids[:num_kept]
        if num_kept >= parent.num_computed_tokens:  # from there on it may know other tokens
            tokens += [self._rng.randint(0, 1) for _ in range(self._rng.randint(0, 3))]
        child = PlainRequest(self._name(), tokens, 0, parent.cache_salt)
        self.manager.fork(parent, child)
        self.running.append(child)

    def _compute(self, request: PlainRequest, num_tokens: int) -> None:
        size, memory = self.manager.block_size, self._memory
        start = request.num_computed_tokens
        copies = run_step(self.manager, request, num_tokens)
        self.num_copied_blocks += len(copies)
        for source, destination in copies:
            for offset in range(size):
                memory[destination * size + offset] = memory.get(source * size + offset)
        block_ids = self.manager.get_block_ids(request.request_id)
        for position in range(request.num_computed_tokens):
            slot = block_ids[position // size] * size + position % size
            text = self._text(request, position)
            if position >= start:
                memory[slot] = text
            elif memory.get(slot) != text:
                raise InvariantError(
                    f"slot {slot} does not hold token {position} of {request.request_id!r} behind "
                    "what stands in front of it: the block was written or found by somebody else"
                )

    def _text(self, request: CacheableRequest, position: int) -> object:
        return request.cache_salt, tuple(request.all_token_ids[: position + 1])
