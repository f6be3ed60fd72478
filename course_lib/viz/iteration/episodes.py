"""Episodes for films of iterations: a real scheduler, a few requests, and one thing to see.

``EPISODES`` are some of them; ``iteration_film`` makes a film of one of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig
from course_lib.scheduling.variants.async_scheduler import AsyncScheduler
from course_lib.scheduling.variants.speculative import SpeculativeScheduler
from course_lib.scheduling.watch.by_hand import HandRequest, plans_by_hand
from course_lib.scheduling.watch.moments import Moment, run_moments
from course_lib.viz.iteration.scenes import iteration_scenes
from course_lib.viz.iteration.words import captions, events
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.own_parts import with_note, with_own_parts
from course_lib.viz.kit.player import Frame, Player


@dataclass(frozen=True)
class Episode:
    """What a scheduler is given, and which of its iterations are shown.

    Attributes:
        title: What there is to see.
        requests: The requests, in order of arrival.
        config: The scheduler's limits and choices.
        num_blocks: Blocks of its manager, the null block included.
        num_steps: Iterations in all.
        first_step: The first one that is shown.
        block_size: Tokens per block.
        enable_caching: Whether there is a prefix cache.
        ahead: What is computed ahead of the known tokens: drafts, or the tokens of the plan that is
            on its way.
    """

    title: str
    requests: tuple[HandRequest, ...]
    config: SchedulerConfig
    num_blocks: int
    num_steps: int
    first_step: int = 0
    block_size: int = 4
    enable_caching: bool = False
    ahead: Literal["", "drafts", "one step"] = ""


def _request(
    name: str, num_tokens: int, max_tokens: int, step: int = 0, priority: int = 0, like: str = ""
) -> HandRequest:
    """Return a request whose prompt begins like that of another one, or like no other."""
    start = 1000 * ord((like or name)[-1])
    return HandRequest(name, tuple(range(start, start + num_tokens)), max_tokens, priority, step)


def _by_hand(seed: int) -> Episode:
    """Return an instance that learners work out by hand."""
    trace = plans_by_hand(seed)
    return Episode(
        "a cut, a hit, a block that is missing",
        trace.requests,
        replace(trace.config, max_num_seqs=4),  # nobody is kept out by it, and it can be seen
        trace.num_blocks,
        len(trace.steps),
        block_size=trace.block_size,
        enable_caching=trace.enable_caching,
    )


EPISODES: Mapping[str, Episode] = {
    "decode": Episode(
        "everybody lacks one token",
        (_request("a", 6, 9), _request("b", 3, 9), _request("c", 8, 9)),
        SchedulerConfig(max_num_batched_tokens=20, max_num_seqs=4),
        num_blocks=13,
        num_steps=4,
        first_step=1,
    ),
    "mixed": Episode(
        "four requests decode, a prompt of 100 tokens comes in",
        (*(_request(name, 4, 20) for name in "abcd"), _request("p", 100, 4, step=1)),
        SchedulerConfig(max_num_batched_tokens=16, max_num_seqs=8),
        num_blocks=21,
        num_steps=11,
        first_step=1,
        block_size=16,
    ),
    "preemption": _by_hand(0),
    "priority": Episode(
        "the victim stands in front of whoever needs its blocks",
        (
            _request("lo", 5, 40, priority=5),
            _request("h1", 32, 20, step=1),
            _request("h2", 20, 20, step=1),
        ),
        SchedulerConfig(max_num_batched_tokens=64, max_num_seqs=4, policy="priority"),
        num_blocks=6,
        num_steps=4,
        first_step=1,
        block_size=16,
    ),
    "no block": Episode(
        "the next in line needs more blocks than are free",
        (_request("a", 9, 4), _request("b", 10, 20), _request("c", 11, 4, step=1)),
        SchedulerConfig(max_num_batched_tokens=24, max_num_seqs=4),
        num_blocks=9,
        num_steps=5,
    ),
    "no place": Episode(
        "the batch is full",
        (_request("a", 5, 3), _request("b", 6, 9), _request("c", 7, 9)),
        SchedulerConfig(max_num_batched_tokens=24, max_num_seqs=2),
        num_blocks=13,
        num_steps=5,
    ),
    "no budget": Episode(
        "a prompt takes the last of the budget",
        (_request("a", 12, 9), _request("b", 17, 9), _request("c", 7, 9)),
        SchedulerConfig(max_num_batched_tokens=16, max_num_seqs=4),
        num_blocks=13,
        num_steps=5,
    ),
    "hit": Episode(
        "equal prompts in one step: the second finds the first's blocks",
        (_request("a", 25, 5), _request("b", 25, 5, like="a"), _request("c", 14, 5, like="a")),
        SchedulerConfig(max_num_batched_tokens=48, max_num_seqs=4),
        num_blocks=17,
        num_steps=3,
        enable_caching=True,
    ),
    "swap": Episode(
        "a victim is copied to the CPU and comes back",
        (_request("a", 13, 9), _request("b", 15, 9), _request("c", 2, 3)),
        SchedulerConfig(
            max_num_batched_tokens=32, max_num_seqs=4, preemption_mode="swap", num_cpu_blocks=8
        ),
        num_blocks=10,
        num_steps=12,
    ),
    "drafts": Episode(
        "three drafts for each request, of which one is right",
        (_request("a", 6, 20), _request("b", 9, 20)),
        SchedulerConfig(max_num_batched_tokens=16, max_num_seqs=4),
        num_blocks=13,
        num_steps=5,
        ahead="drafts",
    ),
    "one step ahead": Episode(
        "plans for tokens that are still on their way",
        (_request("a", 6, 4), _request("b", 9, 9)),
        SchedulerConfig(max_num_batched_tokens=16, max_num_seqs=4),
        num_blocks=13,
        num_steps=7,
        ahead="one step",
    ),
}
"""What there is to see, by name."""


def record(episode: Episode) -> list[Moment]:
    """Let a scheduler go through an episode, and return the moments that are to be shown.

    >>> moments = record(EPISODES["no place"])
    >>> [moment.reason for moment in moments if moment.reason][0]
    'the batch is full: 2 of 2 requests'
    """
    manager = KVCacheManager(episode.num_blocks, episode.block_size, episode.enable_caching)
    scheduler, max_in_flight = Scheduler(episode.config, manager), 1
    if episode.ahead == "drafts":
        scheduler = SpeculativeScheduler(episode.config, manager)
    elif episode.ahead == "one step":
        scheduler, max_in_flight = AsyncScheduler(episode.config, manager), 2
    arrivals: defaultdict[int, list[Request]] = defaultdict(list)
    for index, each in enumerate(episode.requests):
        arrivals[each.step].append(each.new(arrival_time=float(index)))
    moments = run_moments(scheduler, arrivals, episode.num_steps, max_in_flight=max_in_flight)
    return [moment for moment in moments if moment.step >= episode.first_step]


def iteration_film(episode: str | Episode = "preemption", budget: int | None = None) -> Player:
    """Return a film of an episode, one frame for each decision.

    It shows the learner's own methods of ``Scheduler``, and whatever else of theirs a scheduler
    uses, where there are any.

    Args:
        episode: A name in ``EPISODES``, or an episode of one's own.
        budget: Tokens of an iteration; None for the episode's own.

    Raises:
        ValueError: There is no such episode, or nothing happens in it.

    >>> film = iteration_film("no block")
    >>> [frame.caption for frame in film.film if "waits:" in frame.caption][0]
    'c waits: needs 3 blocks, 2 free.'
    """
    if isinstance(episode, str):
        if episode not in EPISODES:
            raise ValueError(f"no episode {episode!r}; there are {', '.join(EPISODES)}")
        episode = EPISODES[episode]
    if budget is not None:
        config = replace(episode.config, max_num_batched_tokens=budget)
        episode = replace(episode, config=config)
    moments, problem = with_own_parts(record)(episode)
    return moments_film(moments, problem)


def moments_film(moments: Sequence[Moment], problem: str = "") -> Player:
    """Return a film of moments that were recorded, one frame for each.

    Args:
        moments: What ``watch_plans`` or ``run_moments`` recorded.
        problem: Why they are not those of the learner's own parts; empty if they are.

    Raises:
        ValueError: There are no moments.
    """
    wide, narrow = (iteration_scenes(moments, width) for width in (WIDE, NARROW))
    if problem:
        wide, narrow = ([with_note(scene, problem) for scene in each] for each in (wide, narrow))
    films = zip(wide, captions(moments), events(moments), narrow, strict=True)
    return Player(Frame(*each) for each in films)
