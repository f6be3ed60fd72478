"""Preemption: which running request has to give way when memory runs out, and how it gives way.

A *victim policy* looks at the running requests and names one. What is taken from the victim can be
copied to the CPU and back (swap), or thrown away and computed again (recompute): the second half of
this module says what each of them takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from course_lib.kv_cache.block_pool import KVCacheBlock
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import Request

VictimPolicy = Callable[[Sequence[Request]], int]
"""Takes the running requests, in order of admission; returns the index of the one to preempt."""


def last_in(running: Sequence[Request]) -> int:
    """Choose the request that was admitted last: what vLLM does under FCFS.

    >>> last_in([Request("a", [1], 1), Request("b", [1], 1)])
    1
    """
    return len(running) - 1


def least_important(running: Sequence[Request]) -> int:
    """Choose the largest (priority, arrival time), of equals the first: vLLM under priority.

    >>> last_but_important = Request("b", [1], 1, priority=-1)
    >>> least_important([Request("a", [1], 1), last_but_important])
    0
    """
    return max(
        range(len(running)),
        key=lambda index: (running[index].priority, running[index].arrival_time),
    )


def most_tokens(running: Sequence[Request]) -> int:
    """Choose the request with the most computed tokens, which usually frees the most blocks.

    Of equals, the one admitted last.
    """
    return max(range(len(running)), key=lambda index: (running[index].num_computed_tokens, index))


def least_computed(running: Sequence[Request]) -> int:
    """Choose the request with the fewest computed tokens, whose loss costs the least.

    Of equals, the one admitted last. What is lost is what has to be computed again: the prompt too,
    so that a request with a long prompt and its first token is not the cheapest victim.
    """
    return min(range(len(running)), key=lambda index: (running[index].num_computed_tokens, -index))


def num_blocks_freed(blocks: Iterable[KVCacheBlock]) -> int:
    """Return how many blocks become free when a request that holds these is preempted.

    A block that somebody else holds too stays in use. So a victim whose blocks are all shared with
    others frees nothing, however many it holds. The table is not gone through once
    for each block.

    Args:
        blocks: Its block table.

    >>> from course_lib.kv_cache import BlockPool
    >>> pool = BlockPool(num_blocks=4)
    >>> table = pool.get_new_blocks(3)
    >>> pool.touch(table[:2])
    >>> num_blocks_freed(table)
    1
    """
    return sum(block.ref_cnt == 1 for block in blocks)


def frees_most_blocks(manager: KVCacheManager) -> VictimPolicy:
    """Return a policy that chooses the request whose preemption frees the most blocks.

    Of equals, the one admitted last. It looks through all block tables, so it costs more than the
    other policies.

    Args:
        manager: The one that holds the block tables.
    """

    def choose(running: Sequence[Request]) -> int:
        tables = manager.block_tables()
        return max(
            range(len(running)),
            key=lambda index: (num_blocks_freed(tables[running[index].request_id]), index),
        )

    return choose


VICTIM_POLICIES: dict[str, Callable[[KVCacheManager], VictimPolicy]] = {
    "last_in": lambda manager: last_in,
    "least_important": lambda manager: least_important,
    "most_tokens": lambda manager: most_tokens,
    "least_computed": lambda manager: least_computed,
    "frees_most_blocks": frees_most_blocks,
}
"""What makes each victim policy for a scheduler with this manager, by name. One of your own may be
added: ``VICTIM_POLICIES["mine"] = lambda manager: my_policy``."""


def require_victim_policy(name: str) -> None:
    """Raise a ValueError, which lists them, if there is no victim policy of this name.

    >>> require_victim_policy("youngest")
    Traceback (most recent call last):
        ...
    ValueError: no victim policy 'youngest'; known: last_in, least_important, most_tokens, \
least_computed, frees_most_blocks, or pass a function
    """
    if name not in VICTIM_POLICIES:
        raise ValueError(
            f"no victim policy {name!r}; known: {', '.join(VICTIM_POLICIES)}, or pass a function"
        )


def make_victim_policy(
    policy: str | VictimPolicy | None, manager: KVCacheManager, *, default: VictimPolicy
) -> VictimPolicy:
    """Return the victim policy of this name, the one given, or the default for None.

    Args:
        policy: A key of ``VICTIM_POLICIES``, a policy of one's own, or None.
        manager: Holds the block tables, for policies that look at them.
        default: What goes with the queue.

    Raises:
        ValueError: There is no victim policy of this name.
    """
    if policy is None:
        return default
    if not isinstance(policy, str):
        return policy
    require_victim_policy(policy)
    return VICTIM_POLICIES[policy](manager)


def swap_seconds(num_tokens: int, kv_bytes_per_token: int, pcie_bandwidth: float) -> float:
    """Return what it takes to move a request's KV to the CPU and back.

    Args:
        num_tokens: Tokens whose KV is moved.
        kv_bytes_per_token: Bytes of each, over all layers.
        pcie_bandwidth: Bytes per second in one direction. Small copies reach much less than the
            bus has, and a block is many small copies: one or two in every layer.

    >>> swap_seconds(num_tokens=1000, kv_bytes_per_token=131_072, pcie_bandwidth=25e9)
    0.01048576
    """
    return 2 * num_tokens * kv_bytes_per_token / pcie_bandwidth


def recompute_seconds(
    num_tokens: int, num_params: int, flops_per_second: float, *, weight_seconds: float = 0.0
) -> float:
    """Return what it takes to compute a request's KV again, as one prefill of its own.

    Each parameter costs a multiplication and an addition per token. The attention among the tokens
    themselves, which grows with their square, is left out: below some ten thousand tokens it is the
    smaller part. However few tokens there are, the weights are read once: that is the floor.

    Args:
        num_tokens: Tokens to compute.
        num_params: Parameters of the model.
        flops_per_second: FLOP per second that a prefill reaches.
        weight_seconds: What it takes to read the weights: their bytes over the memory's bandwidth.
            0 where the tokens ride along in a step that reads them anyway.

    >>> recompute_seconds(num_tokens=1000, num_params=8_000_000_000, flops_per_second=400e12)
    0.04
    >>> recompute_seconds(10, 8_000_000_000, 400e12, weight_seconds=0.008)
    0.008
    """
    return max(2 * num_params * num_tokens / flops_per_second, weight_seconds)


def break_even_tokens(
    swap_seconds_per_token: float,
    recompute_seconds_per_token: float,
    *,
    weight_seconds: float = 0.0,
) -> float:
    """Return the length up to which a request is better swapped than recomputed.

    Swapping takes ``n * swap_seconds_per_token``, recomputing takes ``n *
    recompute_seconds_per_token`` but at least ``weight_seconds``. If a token takes as long either
    way, or less by swapping, then swapping is the slower one at no length. If it takes longer by
    swapping, that is better only as long as it stays below the floor. For very long requests it may
    be better again: see ``recompute_window``.

    Args:
        swap_seconds_per_token: ``swap_seconds`` of one token.
        recompute_seconds_per_token: ``recompute_seconds`` of one token, without the floor.
        weight_seconds: The floor of ``recompute_seconds``.

    Returns:
        A length in tokens, which need not be whole; ``math.inf`` if swapping is never slower.

    >>> break_even_tokens(1e-5, 4e-5, weight_seconds=0.008)
    inf
    >>> break_even_tokens(8e-5, 4e-5, weight_seconds=0.008)
    100.0
    """
    if swap_seconds_per_token <= recompute_seconds_per_token:
        return math.inf
    return weight_seconds / swap_seconds_per_token


def recompute_window(
    swap_seconds_per_token: float,
    recompute_seconds_per_token: float,
    *,
    attention_seconds: float,
    weight_seconds: float = 0.0,
) -> tuple[float, float] | None:
    """Return the lengths between which a request is better recomputed than swapped.

    Attention among the n tokens themselves takes ``attention_seconds * n**2`` more, which
    ``break_even_tokens`` leaves out. So what is recomputed faster at medium lengths is again
    swapped faster at great ones: recomputing takes ``n * recompute_seconds_per_token +
    attention_seconds * n**2`` but at least ``weight_seconds``.

    Args:
        swap_seconds_per_token: ``swap_seconds`` of one token.
        recompute_seconds_per_token: ``recompute_seconds`` of one token, without the floor.
        attention_seconds: What attention takes per n², above 0: half of what a pair of tokens
            takes, since n tokens are n²/2 pairs.
        weight_seconds: The floor of ``recompute_seconds``.

    Returns:
        Two lengths in tokens, which need not be whole; None if swapping wins at every length.

    Raises:
        ValueError: ``attention_seconds`` is not above 0.

    >>> low, high = recompute_window(
    ...     84.6e-6, 64.1e-6, attention_seconds=1.12e-9, weight_seconds=0.0085)
    >>> round(low), round(high)
    (100, 18304)
    >>> recompute_window(10e-6, 64e-6, attention_seconds=1e-9) is None
    True
    """
    if not attention_seconds > 0:
        raise ValueError(f"attention_seconds is {attention_seconds}; it must be above 0")
    first = weight_seconds / swap_seconds_per_token
    last = (swap_seconds_per_token - recompute_seconds_per_token) / attention_seconds
    return (first, last) if first < last else None
