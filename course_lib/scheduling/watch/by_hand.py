"""Small instances to be worked out by hand: a seed makes one, with all of its states.

They are drawn until there is something to see: a victim that gives way and comes back, a client
that is lifted, a hit beside a chunk. The same seed makes the same instance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeVar

from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.policies import VTCRequestQueue
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig, SchedulerOutput
from course_lib.scheduling.watch.notation import StepLine
from course_lib.scheduling.watch.state import SchedulerState

_T = TypeVar("_T")

MAX_DRAWS = 10_000
"""Instances that are drawn for a seed before giving up."""


@dataclass(frozen=True)
class HandRequest:
    """A request of an instance.

    Attributes:
        request_id: Its name.
        prompt_token_ids: Its prompt.
        max_tokens: The tokens that it generates.
        priority: Lower is more important.
        step: The step before which it arrives.
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    max_tokens: int
    priority: int = 0
    step: int = 0

    def new(self, arrival_time: float) -> Request:
        """Return the request as a scheduler takes it.

        Args:
            arrival_time: When it arrives, in seconds.

        >>> HandRequest("a", (5, 6), max_tokens=3).new(arrival_time=0.0).num_tokens
        2
        """
        return Request(
            self.request_id, self.prompt_token_ids, self.max_tokens, self.priority, arrival_time
        )


@dataclass(frozen=True)
class HandStep:
    """What a step planned, and the state that it left.

    Attributes:
        line: The plan in the notation of ``StepLine``.
        plan: Tokens to compute, by request, in the order of service.
        preempted: Who gave way, in the order of their names.
        running: Who runs, in order of admission.
        waiting: Who waits, in service order.
        swapped: Who is swapped out, in the order in which they come back.
        free: Ids of the free blocks, the one to be handed out next first.
        cached: Ids of the blocks, free or not, that hold a prefix.
        tables: Ids of the blocks of each request.
    """

    line: str
    plan: Mapping[str, int]
    preempted: tuple[str, ...]
    running: tuple[str, ...]
    waiting: tuple[str, ...]
    swapped: tuple[str, ...]
    free: tuple[int, ...]
    cached: frozenset[int]
    tables: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class HandTrace:
    """An instance for a scheduler, and what becomes of it.

    Attributes:
        config: The scheduler's limits and choices.
        num_blocks: Blocks of its manager, the null block included.
        block_size: Tokens per block.
        enable_caching: Whether there is a prefix cache.
        requests: The requests, in order of arrival.
        steps: What happens, step by step. The states are those after ``schedule``, before the
            step's tokens are known.
    """

    config: SchedulerConfig
    num_blocks: int
    block_size: int
    enable_caching: bool
    requests: tuple[HandRequest, ...]
    steps: tuple[HandStep, ...]


def preemption_by_hand(seed: int, mode: Literal["recompute", "swap"]) -> HandTrace:
    """Return an instance of lesson 6: memory runs out, somebody gives way and comes back.

    Four requests fill 100 blocks of 16, or nearly, under priority; a fifth and more important one
    comes before step 1. Within six more steps a decode finds no block, C ends, and the fifth comes
    in.

    Args:
        seed: Draws the instance; the same one in both modes.
        mode: What becomes of a victim.

    >>> trace = preemption_by_hand(seed=1, mode="recompute")
    >>> sum(bool(step.preempted) for step in trace.steps) > 0
    True
    """

    def draw(rng: Random) -> HandTrace | None:
        requests = []
        for index, (name, num_blocks) in enumerate(zip("ABCD", (40, 30, 20, 7), strict=True)):
            num_tokens = 16 * num_blocks + rng.randrange(-20, 21)
            max_tokens = rng.randrange(4, 7) if name == "C" else 50
            requests.append(HandRequest(name, _prompt(index, num_tokens), max_tokens))
        urgent = _prompt(4, 16 * rng.randrange(14, 26))
        requests.append(HandRequest("U", urgent, 50, priority=-1, step=1))
        traces = {
            each: _trace(
                SchedulerConfig(policy="priority", preemption_mode=each, num_cpu_blocks=100),
                (101, 16, False),
                requests,
                num_steps=7,
            )
            for each in ("recompute", "swap")
        }
        steps = traces["recompute"].steps
        is_full = len(steps[0].running) == 4
        gives_way = any(step.preempted for step in steps[1:4])
        comes_in = all("U" in trace.steps[-1].running for trace in traces.values())
        return traces[mode] if is_full and gives_way and comes_in else None

    return _draw_until(draw, seed)


def plans_by_hand(seed: int) -> HandTrace:
    """Return an instance of lesson 12: plans under a small budget, with a hit and a victim.

    Eight blocks of four tokens with a prefix cache, a budget of ten tokens, three requests, first
    come, first served. One of them begins like the first, and finds its block.

    Args:
        seed: Draws the instance.

    >>> trace = plans_by_hand(seed=1)
    >>> trace.steps[0].line.startswith("step 0  r0:")
    True
    """

    def draw(rng: Random) -> HandTrace | None:
        first = _prompt(0, rng.randrange(5, 9))
        second = _prompt(1, rng.randrange(3, 8))
        third = (*first[:4], *_prompt(2, rng.randrange(3, 8)))
        steps = (0, 0, 1)
        requests = [
            HandRequest(f"r{index}", prompt, 20, step=step)
            for index, (prompt, step) in enumerate(zip((first, second, third), steps, strict=True))
        ]
        config = SchedulerConfig(max_num_batched_tokens=10)
        trace = _trace(config, (9, 4, True), requests, num_steps=8)
        is_cut = any("/" in step.line for step in trace.steps)
        has_hit = any(step.plan.get("r2", 0) == len(third) - 4 for step in trace.steps)
        return trace if is_cut and has_hit and any(s.preempted for s in trace.steps) else None

    return _draw_until(draw, seed)


@dataclass(frozen=True)
class CounterStep:
    """What is done to a token-fair queue, and the counters afterwards.

    Attributes:
        action: What is done: ``"add b1(4)"``, a request with a prompt of 4 tokens; ``"pop"``; or
            ``"3 tokens for a"``, which were generated for this client.
        taken: Who was taken, by ``"pop"``; else None.
        counters: What each client was served, in weighted tokens.
    """

    action: str
    taken: str | None
    counters: Mapping[str, float]


def counters_by_hand(seed: int, num_steps: int = 12) -> tuple[CounterStep, ...]:
    """Return an instance of lesson 9: the counters of a token-fair queue, with weights 1 and 2.

    Requests are named for their client. There are two or three clients, and one is lifted.

    Args:
        seed: Draws the instance.
        num_steps: What is done in all, at least 8.

    Raises:
        ValueError: ``num_steps`` is less than 8.

    >>> for step in counters_by_hand(seed=1)[3:6]:
    ...     print(step.action, step.taken, step.counters)
    pop a1 {'b': 0.0, 'a': 8.0}
    pop b1 {'b': 4.0, 'a': 8.0}
    3 tokens for b None {'b': 10.0, 'a': 8.0}
    """
    if num_steps < 8:
        raise ValueError(f"num_steps is {num_steps}; there is something to see from 8 on")

    def draw(rng: Random) -> tuple[CounterStep, ...] | None:
        queue = VTCRequestQueue(input_weight=1.0, output_weight=2.0)
        numbers = dict.fromkeys("abc", 0)
        served: list[Request] = []
        steps: list[CounterStep] = []
        num_lifted = 0
        for index in range(num_steps):
            before = dict(queue.counters)
            taken = None
            kind = "add" if index < 3 else rng.choice(("add", "pop", "pop", "tokens"))
            if kind == "pop" and len(queue):
                taken = queue.pop()
                served.append(taken)
                action = "pop"
            elif kind == "tokens" and served:
                request, num_tokens = rng.choice(served), rng.randrange(1, 5)
                queue.charge([request] * num_tokens)
                action = f"{num_tokens} token{'s' * (num_tokens > 1)} for {request.client_id}"
            else:
                client = rng.choice("ab" if index < 6 else "abc")
                numbers[client] += 1
                num_tokens = rng.randrange(2, 10)
                name = f"{client}{numbers[client]}"
                queue.add(Request(name, [1] * num_tokens, 1, client_id=client))
                action = f"add {name}({num_tokens})"
                num_lifted += queue.counters[client] > before.get(client, 0.0)
            taken_id = taken.request_id if taken else None
            steps.append(CounterStep(action, taken_id, dict(queue.counters)))
        num_taken = sum(step.taken is not None for step in steps)
        return tuple(steps) if num_lifted and num_taken >= 3 else None

    return _draw_until(draw, seed)


def _draw_until(draw: Callable[[Random], _T | None], seed: int) -> _T:
    """Draw instances until one has something to see."""
    rng = Random(seed)
    for _ in range(MAX_DRAWS):
        instance = draw(rng)
        if instance is not None:
            return instance
    raise RuntimeError(f"no instance in {MAX_DRAWS} draws for seed {seed}; take another seed")


def _prompt(index: int, num_tokens: int) -> tuple[int, ...]:
    """Return a prompt that is like that of no other request."""
    return tuple(1000 * (index + 1) + position for position in range(num_tokens))


def _trace(
    config: SchedulerConfig,
    memory: tuple[int, int, bool],
    requests: list[HandRequest],
    num_steps: int,
) -> HandTrace:
    """Let the scheduler work an instance out; ``memory`` are the arguments of its manager."""
    manager = KVCacheManager(*memory)
    scheduler = Scheduler(config, manager)
    steps = []
    for step in range(num_steps):
        for index, each in enumerate(requests):
            if each.step == step:
                scheduler.add_request(each.new(arrival_time=float(index)))
        output = scheduler.schedule()
        steps.append(_step(step, scheduler, output))
        generating = [request.request_id for request in scheduler.generating(output)]
        # A token that is in no prompt and was generated for nobody else.
        sampled: dict[str, int | list[int]] = {
            name: 10_000 * (step + 1) + index for index, name in enumerate(generating)
        }
        scheduler.update_from_output(output, sampled)
    return HandTrace(config, *memory, tuple(requests), tuple(steps))


def _step(step: int, scheduler: Scheduler, output: SchedulerOutput) -> HandStep:
    """Return what a step has planned, and the state that it leaves."""
    manager, after = scheduler.kv_cache_manager, SchedulerState.of(scheduler)
    pool = manager.block_pool
    return HandStep(
        line=str(StepLine.of(step, output, after)),
        plan=dict(output.num_scheduled_tokens),
        preempted=tuple(sorted(output.preempted_req_ids)),
        running=after.running,
        waiting=after.waiting,
        swapped=after.swapped,
        free=tuple(block.block_id for block in pool.free_block_queue),
        cached=frozenset(b.block_id for b in pool.blocks if b.block_hash is not None),
        tables={name: tuple(manager.get_block_ids(name)) for name in after.running},
    )
