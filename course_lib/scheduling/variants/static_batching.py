"""Static batching: the world before continuous batching, as the scheduler that admits late.

A batch is formed, and runs until its last request ends. Whoever is done leaves a seat empty until
then, and whoever waits goes on waiting, although there is a seat.
"""

from __future__ import annotations

from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput


class StaticBatchingScheduler(Scheduler):
    """A scheduler that admits only when nobody runs.

    The next batch is what one iteration admits: up to ``max_num_seqs`` requests, and no more
    prompts than its token budget begins: the last may be cut. For batches of ``max_num_seqs``,
    give it a budget for all their prompts.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import Request, SchedulerConfig
    >>> config = SchedulerConfig(max_num_seqs=2)
    >>> scheduler = StaticBatchingScheduler(config, KVCacheManager(num_blocks=10))
    >>> for name, num_tokens in (("a", 1), ("b", 3), ("c", 1)):
    ...     scheduler.add_request(Request(name, [5], max_tokens=num_tokens))
    >>> for _ in range(4):
    ...     output = scheduler.schedule()
    ...     _ = scheduler.update_from_output(output, dict.fromkeys(output.num_scheduled_tokens, 7))
    ...     print(list(output.num_scheduled_tokens))
    ['a', 'b']
    ['b']
    ['b']
    ['c']
    """

    def admit_waiting(self, output: SchedulerOutput, budget: int) -> int:
        """Admit a whole batch once nobody runs.

        As long as anybody runs, nobody joins, even where there is a seat. Once nobody does, the
        next batch is what ``admit_waiting`` of ``Scheduler`` admits in this one iteration.

        Args:
            output: The plan so far; it is added to.
            budget: Tokens that may be computed.

        Returns:
            The budget that is left.
        """
        return budget if self.running else super().admit_waiting(output, budget)
