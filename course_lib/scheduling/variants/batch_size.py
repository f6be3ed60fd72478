"""Batch size under a service-level objective (SLO): as large as the time between tokens allows.

A larger batch computes more tokens per second and makes every step, and so every user's time
between tokens, longer. How large it may be depends on the model, the GPU and the lengths of the
contexts, and nobody wants to find out by hand. A controller can: it looks at how long steps take
and moves the limit, upwards slowly and downwards fast, as TCP does with its window.
"""

from __future__ import annotations

from typing import Literal

from course_lib.scheduling.scheduler import Scheduler


class StepTimeController:
    """Keeps the time of a step below a target by moving one limit of a scheduler.

    After a step that was too long the limit is multiplied by ``decrease``, after any other it grows
    by ``increase`` (additive increase, multiplicative decrease). It stays between ``minimum`` and
    what the scheduler's configuration says. Limits are moved between iterations, and nobody is
    preempted for it: when ``max_num_seqs`` falls, fewer requests are admitted until enough have
    finished.

    Args:
        scheduler: The scheduler.
        target_seconds: How long a step may take.
        limit: Which limit to move. The token budget bounds the prompts' part of a step and acts at
            once; the number of sequences bounds the decodes' part, and acts as requests finish.
        minimum: The limit never falls below it. For the token budget it should be at least
            ``max_num_seqs``, or running requests wait for their next token.
        increase: What is added after a step that was short enough, at least 1.
        decrease: What the limit is multiplied by after a step that was too long, above 0 and below
            1.

    Raises:
        ValueError: A number is out of range; or the token budget of a scheduler without chunked
            prefill is to be moved, for which a prompt might then be too long for ever.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
    >>> controller = StepTimeController(scheduler, target_seconds=0.050)
    >>> controller.observe(0.080)
    >>> scheduler.max_num_batched_tokens
    1638
    >>> controller.observe(0.040)
    >>> scheduler.max_num_batched_tokens
    1654
    """

    def __init__(
        self,
        scheduler: Scheduler,
        target_seconds: float,
        *,
        limit: Literal["max_num_batched_tokens", "max_num_seqs"] = "max_num_batched_tokens",
        minimum: int = 1,
        increase: int = 16,
        decrease: float = 0.8,
    ) -> None:
        if limit not in ("max_num_batched_tokens", "max_num_seqs"):
            raise ValueError(
                f"limit is {limit!r}; it is 'max_num_batched_tokens' or 'max_num_seqs'"
            )
        maximum: int = getattr(scheduler.config, limit)
        if not target_seconds > 0:
            raise ValueError(f"target_seconds is {target_seconds}; it must be above 0")
        if not 1 <= minimum <= maximum:
            raise ValueError(f"minimum is {minimum}; it must be from 1 to {limit}, {maximum}")
        if increase < 1 or not 0 < decrease < 1:
            raise ValueError(
                f"increase is {increase} and decrease {decrease}; "
                "the one is at least 1, the other above 0 and below 1"
            )
        if limit == "max_num_batched_tokens" and not scheduler.config.enable_chunked_prefill:
            raise ValueError(
                "without chunked prefill a smaller token budget may shut a prompt out; "
                "move max_num_seqs, or enable chunked prefill"
            )
        self.scheduler = scheduler
        self.target_seconds = target_seconds
        self.limit = limit
        self.minimum = minimum
        self.maximum = maximum
        self.increase = increase
        self.decrease = decrease

    def observe(self, step_seconds: float) -> None:
        """Move the limit, after a step that took this long.

        The limit is the attribute of ``self.scheduler`` whose name is ``self.limit``. If the step
        took longer than ``self.target_seconds``, it is multiplied by ``self.decrease`` and cut to a
        whole number, but not below ``self.minimum``. Otherwise it grows by ``self.increase``, but
        not above ``self.maximum``.

        Args:
            step_seconds: How long the step took.

        >>> from course_lib.kv_cache import KVCacheManager
        >>> from course_lib.scheduling import SchedulerConfig
        >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
        >>> controller = StepTimeController(scheduler, target_seconds=0.050)
        >>> controller.observe(0.051)
        >>> scheduler.max_num_batched_tokens
        1638
        """
        value: int = getattr(self.scheduler, self.limit)
        if step_seconds > self.target_seconds:
            value = max(int(value * self.decrease), self.minimum)
        else:
            value = min(value + self.increase, self.maximum)
        setattr(self.scheduler, self.limit, value)
