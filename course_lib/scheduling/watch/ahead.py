"""Drafts verified and steps planned ahead, told in words: for lives without a model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput
from course_lib.scheduling.variants.async_scheduler import AsyncScheduler
from course_lib.scheduling.variants.speculative import SpeculativeScheduler
from course_lib.scheduling.watch.driver import sampled_tokens
from course_lib.scheduling.watch.iterations import abort, queues_of, told

Model = Callable[[Sequence[int]], int]
"""Takes the tokens so far, and gives the next one."""


def verify(
    scheduler: SpeculativeScheduler,
    drafts: Mapping[str, Sequence[int]],
    sampled: Mapping[str, int | list[int]],
    leaves: str = "",
    comes_again: bool = False,
) -> dict[str, str | int]:
    """Give drafts, plan an iteration, answer it, and say what was planned and what came of it.

    Args:
        scheduler: The scheduler.
        drafts: The drafts of each request.
        sampled: What some requests of the plan get; the others get one token.
        leaves: Who goes away when the plan is made; nobody if it is empty.
        comes_again: Whether another request comes under that name at once.

    Returns:
        The plan, and how far everybody is afterwards.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = SpeculativeScheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
    >>> scheduler.add_request(Request("a", range(20), max_tokens=50))
    >>> _ = verify(scheduler, {}, {})
    >>> verify(scheduler, {"a": [8, 9, 10]}, {"a": [8, 5]})
    {'plan': 'a:1+3  | -', 'then': 'running a:22/23'}
    """
    scheduler.add_drafts(drafts)
    output = scheduler.schedule()
    plan = told(scheduler, output)["plan"]
    generating = [request.request_id for request in scheduler.generating(output)]
    if leaves:
        abort(scheduler, leaves)
    if comes_again:
        scheduler.add_request(Request(leaves, [1, 2, 3], max_tokens=9))
    answers: dict[str, int | list[int]] = {name: sampled.get(name, 7) for name in generating}
    scheduler.update_from_output(output, answers)
    return {"plan": plan, "then": queues_of(scheduler)}


def taken_back(
    scheduler: SpeculativeScheduler,
    drafts: Mapping[str, Sequence[int]],
    sampled: Mapping[str, int | list[int]],
) -> dict[str, object]:
    """Give drafts, plan an iteration, call ``take_back_rejected``, and say what is there then.

    Args:
        scheduler: The scheduler.
        drafts: The drafts of each request.
        sampled: What the requests with drafts get.

    Returns:
        How far everybody is, and the plan's drafts and the tokens, which nobody should change.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = SpeculativeScheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
    >>> scheduler.add_request(Request("a", range(20), max_tokens=50))
    >>> _ = verify(scheduler, {}, {})
    >>> taken_back(scheduler, {"a": [8, 9]}, {"a": [8, 5]})
    {'then': 'running a:22/21', 'drafts': {'a': [8, 9]}, 'sampled': {'a': [8, 5]}}
    """
    scheduler.add_drafts(drafts)
    output = scheduler.schedule()
    given = dict(sampled)
    scheduler.take_back_rejected(output, given)
    kept = {name: list(tokens) for name, tokens in output.scheduled_spec_decode_tokens.items()}
    return {"then": queues_of(scheduler), "drafts": kept, "sampled": given}


def placed(
    scheduler: AsyncScheduler,
    num_tokens: int,
    num_tokens_ahead: int,
    num_computed_tokens: int,
    length_limit: int,
    max_tokens: int,
) -> dict[str, int]:
    """Call ``place_ahead`` for a request in such a state, and say in which it is afterwards.

    Args:
        scheduler: The scheduler.
        num_tokens: Tokens of its prompt; it has no answer yet.
        num_tokens_ahead: Placeholders that it has.
        num_computed_tokens: Tokens computed, those of the step just planned included.
        length_limit: Where it ends.
        max_tokens: What it asks for.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = AsyncScheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
    >>> placed(scheduler, 3, 0, 3, length_limit=6, max_tokens=3)["num_tokens_ahead"]
    1
    """
    request = Request("a", range(num_tokens), max_tokens)
    request.num_tokens_ahead = num_tokens_ahead
    request.num_computed_tokens = num_computed_tokens
    request.length_limit = length_limit
    scheduler.place_ahead(request)
    names = ("num_tokens_ahead", "num_computed_tokens", "num_tokens", "length_limit")
    return {name: getattr(request, name) for name in names}


def plan_ahead(scheduler: Scheduler, moves: str) -> list[str]:
    """Plan and answer steps in a given order, and say what was planned and what stands then.

    Args:
        scheduler: A scheduler that plans ahead, with nothing on its way.
        moves: A letter for each move: ``p`` plans a step, ``u`` answers the oldest one on its way.
            At the end all that are left are answered.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import AsyncScheduler, SchedulerConfig
    >>> scheduler = AsyncScheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
    >>> scheduler.add_request(Request("a", range(20), max_tokens=3))
    >>> plan_ahead(scheduler, "ppup")
    ['a:20*  | -', 'a:0+1  | -', 'running a:21/21', 'a:0+1  | -', 'running a:22/22', 'nobody']
    """
    said: list[str] = []
    in_flight: deque[tuple[SchedulerOutput, dict[str, int | list[int]]]] = deque()

    def update() -> None:
        scheduler.update_from_output(*in_flight.popleft())
        said.append(queues_of(scheduler))

    for move in moves:
        if move == "p":
            output = scheduler.schedule()
            in_flight.append((output, sampled_tokens(scheduler, output, lambda *_: 7)))
            said.append(str(told(scheduler, output)["plan"]))
        elif in_flight:
            update()
    while in_flight:
        update()
    return said


def speculate(
    scheduler: SpeculativeScheduler, model: Model, guess: Model, num_drafts: int
) -> tuple[dict[str, list[int]], int, int]:
    """Serve all requests of a scheduler with drafts, which a model accepts or rejects.

    Args:
        scheduler: The scheduler, with requests.
        model: Gives the next token behind some tokens.
        guess: Gives what a drafter takes for the next token.
        num_drafts: Drafts of each request in each step; 0 for plain decoding.

    Returns:
        What was generated for each request, the number of steps, and the tokens computed.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> def count(tokens): return tokens[-1] + 1
    >>> def serve(num_drafts):
    ...     scheduler = SpeculativeScheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
    ...     scheduler.add_request(Request("a", [1, 2, 3], max_tokens=9))
    ...     return speculate(scheduler, count, count, num_drafts)
    >>> serve(0)[1:], serve(3)[1:], serve(0)[0] == serve(3)[0]
    ((9, 11), (3, 11), True)
    """
    texts: dict[str, list[int]] = {}
    num_steps = num_tokens = 0
    while scheduler.has_unfinished_requests():
        scheduler.add_drafts(
            {
                request.request_id: continued(request.all_token_ids, guess, num_drafts)
                for request in scheduler.running
            }
        )
        output = scheduler.schedule()
        num_steps += 1
        num_tokens += output.total_num_scheduled_tokens
        sampled: dict[str, int | list[int]] = {}
        for request in scheduler.generating(output):
            drafts = output.scheduled_spec_decode_tokens.get(request.request_id, [])
            sampled[request.request_id] = accepted(request.all_token_ids, model, drafts)
        for request in scheduler.update_from_output(output, sampled):
            texts[request.request_id] = request.output_token_ids
    return texts, num_steps, num_tokens


def continued(tokens: Sequence[int], model: Model, num_tokens: int) -> list[int]:
    """Return the next so many tokens behind some tokens, one after the other."""
    longer = list(tokens)
    for _ in range(num_tokens):
        longer.append(model(longer))
    return longer[len(tokens) :]


def accepted(tokens: Sequence[int], model: Model, drafts: Sequence[int]) -> list[int]:
    """Return the drafts that a model agrees with, up to the first other one, and its own token.

    >>> accepted([1], lambda tokens: tokens[-1] + 1, [2, 3, 9])
    [2, 3, 4]
    """
    longer = list(tokens)
    for draft in [*drafts, None]:
        longer.append(model(longer))
        if longer[-1] != draft:
            break
    return longer[len(tokens) :]
