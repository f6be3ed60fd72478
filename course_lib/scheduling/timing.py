"""How fast the scheduler itself is: the CPU time that it takes from every iteration."""

from __future__ import annotations

import time

from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig

BLOCK_SIZE = 16
PROMPT_TOKENS = 100


def scheduler_steps(num_running: int, num_steps: int = 64) -> float:
    """Measure steps per second of CPU time with so many requests decoding, prefix caching on.

    A step is one ``schedule`` and one ``update_from_output``. All requests decode all the time, and
    nobody comes, ends or is preempted, as in most steps of a busy engine. Their lengths differ, so
    that in every step about one in ``BLOCK_SIZE`` fills a block and one takes a new one.

    Args:
        num_running: Requests that decode.
        num_steps: Steps to measure, best a multiple of ``BLOCK_SIZE``.
    """
    scheduler = decoding_scheduler(num_running, num_steps)
    start = time.process_time()
    for token in range(num_steps):
        output = scheduler.schedule()
        scheduler.update_from_output(output, dict.fromkeys(output.num_scheduled_tokens, token))
    return num_steps / (time.process_time() - start)


def decoding_scheduler(num_running: int, num_steps: int) -> Scheduler:
    """Return a scheduler whose requests are past their prompts, with room for so many steps more.

    >>> scheduler = decoding_scheduler(num_running=3, num_steps=10)
    >>> scheduler.schedule().num_scheduled_tokens
    {'0': 1, '1': 1, '2': 1}
    """
    longest = PROMPT_TOKENS + BLOCK_SIZE + num_steps
    config = SchedulerConfig(max_num_seqs=num_running, max_num_batched_tokens=num_running * longest)
    num_blocks = num_running * (-(-longest // BLOCK_SIZE) + 1) + 1
    scheduler = Scheduler(config, KVCacheManager(num_blocks, BLOCK_SIZE))
    for index in range(num_running):
        prompt = range(index, index + PROMPT_TOKENS + index % BLOCK_SIZE)
        scheduler.add_request(Request(str(index), prompt, max_tokens=num_steps + 2))
    output = scheduler.schedule()
    scheduler.update_from_output(output, dict.fromkeys(output.num_scheduled_tokens, 0))
    return scheduler
