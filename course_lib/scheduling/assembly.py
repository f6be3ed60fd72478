"""Memory manager and scheduler, put together from the library's parts and some of one's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from course_lib.kv_cache.block_pool import BlockPool
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.policies import POLICIES
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig

MANAGER_PARTS = {
    "blocks_to_add": "blocks_to_add",
    "hash_blocks": "hash_blocks",
    "longest_cached_prefix": "longest_cached_prefix",
    "CacheMetrics": "metrics",
}
"""What a cache manager is made with: the part, and the name under which the manager takes it."""

ASSEMBLED_PARTS = (
    *MANAGER_PARTS,
    "FreeKVCacheBlockQueue",
    "BlockPool",
    "KVCacheManager",
    *(queue.__name__ for queue in POLICIES.values() if isinstance(queue, type)),
    "Scheduler",
)
"""Every part that may be one's own here."""


def make_manager(
    own: Mapping[str, Any], num_blocks: int, block_size: int, enable_caching: bool
) -> KVCacheManager:
    """Make a cache manager, on one's own pool, free queue and functions where there are any.

    Args:
        own: Classes and functions that replace the library's, by its names.
        num_blocks: Blocks of the KV cache, the null block included.
        block_size: Tokens per block.
        enable_caching: Whether prefixes are kept for later requests.

    >>> class Mine(BlockPool): pass
    >>> type(make_manager({"BlockPool": Mine}, 10, 16, enable_caching=True).block_pool).__name__
    'Mine'
    """

    def make_pool(num_blocks: int, enable_caching: bool) -> BlockPool:
        options = {"free_queue": own[queue]} if (queue := "FreeKVCacheBlockQueue") in own else {}
        pool: BlockPool = own.get("BlockPool", BlockPool)(num_blocks, enable_caching, **options)
        return pool

    made_with = {keyword: own[name] for name, keyword in MANAGER_PARTS.items() if name in own}
    manager: KVCacheManager = own.get("KVCacheManager", KVCacheManager)(
        num_blocks, block_size, enable_caching, block_pool=make_pool, **made_with
    )
    return manager


def make_scheduler(
    own: Mapping[str, Any], config: SchedulerConfig, manager: KVCacheManager
) -> Scheduler:
    """Make a scheduler, with one's own queue if there is one for the ``config.policy`` named.

    Args:
        own: Classes that replace the library's, by its names.
        config: Limits and choices.
        manager: Hands out the blocks.

    >>> class Mine(Scheduler): pass
    >>> manager = make_manager({}, 10, 16, enable_caching=True)
    >>> type(make_scheduler({"Scheduler": Mine}, SchedulerConfig(), manager)).__name__
    'Mine'
    """
    if isinstance(config.policy, str) and config.policy in POLICIES:
        name = getattr(POLICIES[config.policy], "__name__", "")
        if name in own:
            config = dataclasses.replace(config, policy=own[name])
    scheduler: Scheduler = own.get("Scheduler", Scheduler)(config, manager)
    return scheduler
