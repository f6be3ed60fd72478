"""Plans that vLLM's own scheduler made, recorded step by step, to hold another scheduler against.

vLLM 0.33.0 ran without a model, on a CPU. The token that a request gets follows from its id and
from how many it has had, so that whoever replays an episode gives the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig

MakeScheduler = Callable[[SchedulerConfig, KVCacheManager], Scheduler]
"""Makes a scheduler: a class, or a function like one."""

_PATH = Path(__file__).with_name("vllm_plans.json")


@dataclass(frozen=True)
class RecordedPlan:
    """One plan.

    Attributes:
        num_scheduled_tokens: Tokens by request, in the order of service.
        preempted: Who gave way, in the order of their ids.
    """

    num_scheduled_tokens: Mapping[str, int]
    preempted: tuple[str, ...]

    def __str__(self) -> str:
        grants = " ".join(f"{name}:{num}" for name, num in self.num_scheduled_tokens.items())
        return f"{grants or '-'}  | {' '.join(f'{name}!' for name in self.preempted) or '-'}"


@dataclass(frozen=True)
class Episode:
    """Requests for a scheduler, and the plans that vLLM made.

    Attributes:
        config: Limits and choices.
        num_blocks: Blocks, the null block included.
        block_size: Tokens per block.
        enable_caching: Whether there is a prefix cache.
        arrivals: Pairs of a step and what makes the request that comes before it.
        plans: What vLLM planned, step by step.
    """

    config: SchedulerConfig
    num_blocks: int
    block_size: int
    enable_caching: bool
    arrivals: tuple[tuple[int, Callable[[], Request]], ...]
    plans: tuple[RecordedPlan, ...]

    @property
    def num_preemptions(self) -> int:
        """How often a request gave way."""
        return sum(len(plan.preempted) for plan in self.plans)

    def replay(self, make_scheduler: MakeScheduler) -> list[RecordedPlan]:
        """Return the plans that a scheduler makes of the same requests, as many as vLLM made.

        Args:
            make_scheduler: Called with the configuration and a new manager.

        >>> episode = load_episodes()[0]
        >>> episode.replay(Scheduler) == list(episode.plans)
        True
        """
        manager = KVCacheManager(self.num_blocks, self.block_size, self.enable_caching)
        scheduler = make_scheduler(self.config, manager)
        plans = []
        for step in range(len(self.plans)):
            for arrives_before, make_request in self.arrivals:
                if arrives_before == step:
                    scheduler.add_request(make_request())
            output = scheduler.schedule()
            preempted = tuple(sorted(output.preempted_req_ids))
            plans.append(RecordedPlan(dict(output.num_scheduled_tokens), preempted))
            sampled = {r.request_id: next_token(r) for r in scheduler.generating(output)}
            scheduler.update_from_output(output, sampled)
        return plans

    def first_difference(self, make_scheduler: MakeScheduler) -> int | None:
        """Return the first step in which a scheduler plans otherwise than vLLM; None if in none.

        The order of service counts.

        Args:
            make_scheduler: Called with the configuration and a new manager.

        >>> from course_lib.scheduling import HeadSkippingScheduler
        >>> [episode.first_difference(HeadSkippingScheduler) for episode in load_episodes()]
        [13, 9]
        """
        for step, (own, theirs) in enumerate(
            zip(self.replay(make_scheduler), self.plans, strict=True)
        ):
            in_order = list(own.num_scheduled_tokens) == list(theirs.num_scheduled_tokens)
            if own != theirs or not in_order:
                return step
        return None


def next_token(request: Request) -> int:
    """Return the token that a request gets next in an episode."""
    letters = sum(map(ord, request.request_id))
    return 1000 + (31 * letters + 7 * len(request.output_token_ids)) % 997


@cache
def load_episodes() -> tuple[Episode, ...]:
    """Return the recorded episodes: first come, first served, and priority; memory is short.

    >>> [(len(episode.plans), episode.num_preemptions) for episode in load_episodes()]
    [(168, 15), (129, 18)]
    """
    recorded = json.loads(_PATH.read_text())
    return tuple(_episode(each, recorded["block_size"]) for each in recorded["episodes"])


def _episode(recorded: Mapping[str, Any], block_size: int) -> Episode:
    limits = recorded["config"]
    config = SchedulerConfig(
        max_num_seqs=limits["max_num_seqs"],
        max_num_batched_tokens=limits["budget"],
        policy=limits["policy"],
        long_prefill_token_threshold=limits["threshold"],
        watermark=limits["watermark"],
        reserve_full_prompt=limits["reserve"],
        max_model_len=limits["max_model_len"],
    )
    plans = (RecordedPlan(tokens, tuple(sorted(who))) for tokens, who in recorded["plans"])
    arrivals = ((each["step"], _maker(each)) for each in recorded["requests"])
    memory = limits["num_blocks"], block_size, limits["caching"]
    return Episode(config, *memory, tuple(arrivals), tuple(plans))


def _maker(recorded: Mapping[str, Any]) -> Callable[[], Request]:
    def make() -> Request:
        names = ("id", "tokens", "max_tokens", "priority", "arrival")
        return Request(*(recorded[name] for name in names))

    return make
