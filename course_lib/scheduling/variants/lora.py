"""LoRA adapters in the scheduler: a batch may use only as many as the GPU has slots for.

A LoRA adapter is a small correction to the weights of a model. Requests with different adapters can
share a batch, as long as each adapter is in one of ``max_loras`` slots of GPU memory. So there is
one more thing besides tokens, sequences and blocks that a request may have to wait for.
"""

from __future__ import annotations

from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.decisions import DecisionLog
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig


class LoRAScheduler(Scheduler):
    """A scheduler whose running requests use at most ``max_loras`` different adapters.

    A request without a ``lora_id`` needs no slot. As with blocks, admission stops at the first
    request that does not fit, so that nobody waits for ever; those behind it wait although a slot
    may be theirs already. vLLM skips such a request and goes on behind it: the batch is fuller, and
    a rare adapter may never get its turn.

    Args:
        config: Limits and choices.
        kv_cache_manager: Hands out the blocks.
        max_loras: Slots for adapters, at least 1.
        log: Keeps who got what, and why; None for no such records.

    Raises:
        ValueError: ``max_loras`` is less than 1.

    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = LoRAScheduler(SchedulerConfig(), KVCacheManager(num_blocks=10), max_loras=1)
    >>> for name, lora_id in (("a", "sql"), ("b", None), ("c", "sql"), ("d", "poems")):
    ...     scheduler.add_request(Request(name, range(5), max_tokens=2, lora_id=lora_id))
    >>> list(scheduler.schedule().num_scheduled_tokens)
    ['a', 'b', 'c']
    """

    def __init__(
        self,
        config: SchedulerConfig,
        kv_cache_manager: KVCacheManager,
        *,
        max_loras: int,
        log: DecisionLog | None = None,
    ) -> None:
        if max_loras < 1:
            raise ValueError(f"max_loras is {max_loras}; an adapter needs at least 1 slot")
        super().__init__(config, kv_cache_manager, log=log)
        self.max_loras = max_loras

    def why_not_now(self, request: Request) -> str:
        """Say why a request may not start: all slots are taken by adapters other than its own.

        There are ``self.max_loras`` slots. Each holds one adapter, for all running requests
        (``self.running``) that have its ``lora_id``. One whose ``lora_id`` is None needs no slot.

        Args:
            request: The first in line.

        Returns:
            A sentence; an empty text if no slot is in the way.

        >>> from course_lib.scheduling import SchedulerConfig
        >>> scheduler = LoRAScheduler(SchedulerConfig(), KVCacheManager(num_blocks=9), max_loras=1)
        >>> scheduler.add_request(Request("a", range(5), max_tokens=2, lora_id="sql"))
        >>> _ = scheduler.schedule()
        >>> scheduler.why_not_now(Request("b", range(5), max_tokens=2, lora_id="poems"))
        'all 1 LoRA slots are taken by sql'
        >>> scheduler.why_not_now(Request("c", range(5), max_tokens=2, lora_id="sql"))
        ''
        """
        if request.lora_id is None:
            return ""
        loaded = {other.lora_id for other in self.running if other.lora_id is not None}
        if request.lora_id in loaded or len(loaded) < self.max_loras:
            return ""
        return f"all {self.max_loras} LoRA slots are taken by {', '.join(sorted(loaded))}"
