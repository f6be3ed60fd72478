"""What a manager does with prompts, one after the other: the states that lesson 8's tree shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from course_lib.kv_cache.manager import KVCacheManager, PlainRequest
from course_lib.kv_cache.watch.recorder import Frame, snapshot_blocks

BLOCK_SIZE = 4
"""Tokens per block in all figures of the lesson."""

MakeManager = Callable[[int, int], KVCacheManager]
"""Makes a manager from a number of blocks and the block size: a class, or a function."""

Prompts = Mapping[str, Sequence[int]]
"""Token ids by the name of the request."""

PROMPTS: Prompts = {
    "A": [*range(1, 14)],
    "B": [*range(1, 9), 21, 22, 23, 24, 25, 26],
    "C": [*range(1, 5), 31, 32, 33, 34, 35],
}
"""Three prompts that begin alike and part after two blocks, and after one."""


@dataclass(frozen=True)
class Lookup:
    """What came of one more prompt.

    Attributes:
        prompts: The prompts before it.
        ended: Whose request has ended.
        further: The further request.
        num_hits: Blocks with which it could begin.
        before: The state in front of it.
        record: The state when it has its blocks.
        chains: Blocks of each prompt that still hold what was computed for it.
    """

    prompts: Prompts
    ended: str
    further: PlainRequest
    num_hits: int
    before: Frame
    record: Frame
    chains: Mapping[str, Sequence[int]]

    @property
    def blocks(self) -> Sequence[int]:
        """The block table of the further request."""
        return self.chains[self.further.request_id]

    @property
    def num_shared_tokens(self) -> int:
        """Tokens of the further prompt that need not be computed."""
        return self.num_hits * BLOCK_SIZE

    def hash_of(self, block_id: int) -> str:
        """Return the beginning of a block's hash; empty if it has none."""
        return (self.record["blocks"][block_id]["hash"] or "")[:4]

    def tokens_in(self, block_id: int) -> Sequence[int]:
        """Return what was computed in a block: the tokens of the first prompt that has it."""
        known = {**self.prompts, self.further.request_id: self.further.all_token_ids}
        for name, chain in self.chains.items():
            if block_id in chain:
                return block_of(known[name], list(chain).index(block_id))
        return ()


def block_of(tokens: Sequence[int], number: int) -> Sequence[int]:
    """Return the tokens of a prompt that stand in its block with this number, from 0.

    >>> block_of([1, 2, 3, 4, 5], 1)
    [5]
    """
    return list(tokens[number * BLOCK_SIZE : (number + 1) * BLOCK_SIZE])


def num_blocks_of(num_tokens: int) -> int:
    """Return how many blocks tokens take.

    >>> num_blocks_of(8), num_blocks_of(9)
    (2, 3)
    """
    return -(-num_tokens // BLOCK_SIZE)


def look_up(prompts: Prompts, further: PlainRequest, make: MakeManager = KVCacheManager) -> Lookup:
    """Let a manager take in prompts, end the last of them, and take in one more.

    Args:
        prompts: The prompts in front of it. If there are several, the last one ends.
        further: The one that the figure is about.
        make: Makes the manager.

    >>> found = look_up(PROMPTS, PlainRequest("D", [1, 2, 3, 4, 5, 6, 7, 8]))
    >>> found.num_hits, found.chains["D"], found.chains["C"]
    (1, [1, 8], [1, 7])
    """
    lengths = [len(tokens) for tokens in prompts.values()] + [further.num_tokens]
    manager = make(1 + sum(map(num_blocks_of, lengths)), BLOCK_SIZE)
    requests = [PlainRequest(name, list(tokens)) for name, tokens in prompts.items()]
    for request in requests:
        take_in(manager, request)
    chains = {name: list(manager.get_block_ids(name)) for name in prompts}
    ended = ""
    if len(requests) > 1:
        ended = requests[-1].request_id
        manager.free(requests[-1])
    before = snapshot_blocks(manager)
    if ended:
        chains[ended] = [each for each in chains[ended] if before["blocks"][each]["hash"]]
    num_hits = take_in(manager, further)
    chains[further.request_id] = list(manager.get_block_ids(further.request_id))
    record = snapshot_blocks(manager)
    return Lookup(prompts, ended, further, num_hits, before, record, chains)


def take_in(manager: KVCacheManager, request: PlainRequest) -> int:
    """Give a request all the blocks that it needs, and return how many it found in the cache.

    Raises:
        ValueError: The manager says that there is no room, though there is.
    """
    hits, num_hit_tokens = manager.get_computed_blocks(request)
    num_new = request.num_tokens - num_hit_tokens
    if manager.allocate_slots(request, num_new, num_hit_tokens, hits) is None:
        num_free = manager.block_pool.get_num_free_blocks()
        raise ValueError(
            f"allocate_slots finds no room for {request.request_id}, whose {request.num_tokens} "
            f"tokens need at most {num_blocks_of(request.num_tokens)} blocks; {num_free} are free"
        )
    request.num_computed_tokens = request.num_tokens
    return len(hits)


def right_hits(prompts: Prompts, further: PlainRequest) -> int:
    """Return how many blocks a request can begin with, by the tokens themselves.

    Args:
        prompts: The prompts in front of it, without a salt; all their full blocks are cached.
        further: The request.

    >>> right_hits(PROMPTS, PlainRequest("D", [1, 2, 3, 4, 5, 6, 7, 8, 9]))
    2
    >>> right_hits(PROMPTS, PlainRequest("D", [1, 2, 3, 4, 5, 6, 7, 8, 9], cache_salt="x"))
    0
    """
    if further.cache_salt is not None:
        return 0
    return min(num_equal_blocks(prompts, further), (further.num_tokens - 1) // BLOCK_SIZE)


def num_equal_blocks(prompts: Prompts, further: PlainRequest) -> int:
    """Return how many of its full blocks a request has in common with one of the prompts."""
    tokens = further.all_token_ids
    equal = 0
    for other in prompts.values():
        num_full = min(len(tokens), len(other)) // BLOCK_SIZE
        same = (
            number
            for number in range(num_full, 0, -1)
            if list(other[: number * BLOCK_SIZE]) == tokens[: number * BLOCK_SIZE]
        )
        equal = max(equal, next(same, 0))
    return equal
