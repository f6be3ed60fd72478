"""What the figures of iterations say of each moment of an iteration, in sentences with numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from course_lib.scheduling.request import RequestStatus
from course_lib.scheduling.watch.moments import Happening, Moment
from course_lib.scheduling.watch.state import RequestState

_LIMITS = {
    "budget": re.compile(r"the budget of \d+ tokens is spent|needs \d+ tokens in one step"),
    "batch": re.compile(r"the batch is full"),
    "blocks": re.compile(r"needs \d+ blocks?, \d+ free"),
}
"""What the log says of each limit."""

_MOST_NAMED = 6  # blocks or requests; of more than that only the number is said


def limit_of(reason: str) -> str:
    """Return which limit a reason of the ``DecisionLog`` speaks of; empty for another reason.

    >>> [limit_of(reason) for reason in ("'a' needs 2 blocks, 1 free", "behind 'b'")]
    ['blocks', '']
    """
    return next((limit for limit, pattern in _LIMITS.items() if pattern.search(reason)), "")


def captions(moments: Sequence[Moment]) -> list[str]:
    """Say what happens at each moment.

    Args:
        moments: What ``watch_plans`` or ``run_moments`` recorded.
    """
    if not moments:
        return []
    first = moments[0]
    return [_SAY[now.happening](before, now) for before, now in pairwise([first, *moments])]


def events(moments: Sequence[Moment]) -> list[str]:
    """Name the moments that a reader looks for, in a few words; the others are empty.

    They are preemptions, hits in the prefix cache, prompts that are cut and those that are complete
    after that, the first time that somebody has to wait for a reason, and ends of requests.

    Args:
        moments: What ``watch_plans`` or ``run_moments`` recorded.
    """
    names = [_event(moment) for moment in moments]
    # Who waits for the same thing as in the iteration before is no news.
    places = [i for i, each in enumerate(moments) if each.happening is Happening.WAITS]
    for earlier, later in reversed(list(pairwise(places))):
        if names[earlier] == names[later]:
            names[later] = ""
    return names


def summary(moment: Moment) -> str:
    """Say what the picture of a moment shows: the limits, who runs, and who waits."""
    state = moment.state
    budget = state.max_num_batched_tokens
    planned = _listed([f"{name} {num_tokens}" for name, num_tokens in moment.plan.items()])
    running = _listed([_progress(state.requests[name]) for name in state.running])
    swapped = _listed([_progress(state.requests[name]) for name in state.swapped])
    waiting = _listed([_progress(state.requests[name]) for name in state.waiting])
    return (
        f"Budget: {budget - moment.budget_left} of {budget} tokens planned ({planned}). "
        f"Batch: {len(state.running)} of {state.max_num_seqs}. "
        f"Blocks: {num_free(moment)} of {num_blocks(moment)} free. "
        f"Running: {running}. Waiting: {waiting}."
        f"{f' Swapped out: {swapped}.' if state.swapped else ''}"
    )


def num_free(moment: Moment) -> int:
    """Return the number of free blocks."""
    return len(moment.blocks["free_queue"])


def num_blocks(moment: Moment) -> int:
    """Return the number of blocks that can be held: all but the null block."""
    return len(moment.blocks["blocks"]) - 1


def table_of(moment: Moment, request_id: str) -> list[int]:
    """Return the block table of a request; empty if it holds none."""
    table: list[int] = moment.blocks["tables"].get(request_id, [])
    return table


def was_cut(moment: Moment) -> bool:
    """Whether a request got less than it lacks."""
    return bool(moment.num_tokens) and moment.state.requests[moment.request_id].num_lacking > 0


def is_decode(moment: Moment, request_id: str) -> bool:
    """Whether a request computes its newest token in an iteration, and not a part of a prompt.

    The newest one may be on its way, and there may be drafts behind it.
    """
    request = moment.before.requests.get(request_id)
    if request is None or request.num_output_tokens + request.num_tokens_ahead == 0:
        return False
    return request.num_tokens - request.num_computed_tokens <= 1


def share_text(moment: Moment, request: RequestState) -> str:
    """Say what a running request lacks, or has got."""
    name = request.request_id
    granted, reason = moment.plan.get(name, 0), moment.reasons.get(name, "")
    if reason:
        why = "passed over" if request.num_lacking else "on its way"
        return f"gets 0: {limit_of(reason) or why}"
    if not granted:
        return f"lacks {request.num_lacking:,}"
    rest = f" of {granted + request.num_lacking:,}" if request.num_lacking else ""
    return f"gets {granted:,}{rest}"


def waiting_texts(moment: Moment) -> list[str]:
    """Say who waits and why, in a sentence for each reason; empty before that is decided."""
    alike: dict[str, list[str]] = {}
    for name, reason in moment.reasons.items():
        alike.setdefault(reason, []).append(name)
    return [
        f"{_named(names)} {_wait(len(names))}{'' if why.startswith('behind') else ':'} {why}."
        for why, names in alike.items()
    ]


def _begins(before: Moment, now: Moment) -> str:
    """Say with what an iteration begins."""
    state = now.state
    ended = ""
    if now.finished:
        # One that was refused has never held any.
        verb = "has ended and holds" if len(now.finished) == 1 else "have ended and hold"
        ended = f"{_listed(now.finished)} {verb} no blocks now. "
    crowd = people(len(state.running), "run").capitalize()
    if state.waiting or not state.swapped:
        crowd += f", {people(len(state.waiting), 'wait')}"
    if state.swapped:
        crowd += f", {len(state.swapped)} {_are(len(state.swapped))} swapped out"
    free = _blocks(num_free(now)) if num_free(now) else "no block"
    return (
        f"Iteration {now.step:,} begins. {ended}{_taken_back(before, now)}"
        f"{crowd}, {free} {'are' if num_free(now) > 1 else 'is'} free."
    )


def _taken_back(before: Moment, now: Moment) -> str:
    """Say whose computed tokens have become fewer since the iteration before, as drafts do."""
    lost = [
        f"{was - request.num_computed_tokens} of {name}"
        for name in now.state.running
        if (request := now.state.requests[name])
        and name in before.state.requests
        and (was := before.state.requests[name].num_computed_tokens) > request.num_computed_tokens
    ]
    return f"Computed tokens are taken back, {_listed(lost)}: wrong drafts. " if lost else ""


def _serves(before: Moment, now: Moment) -> str:
    """Say what a running request gets."""
    request = now.state.requests[now.request_id]
    lacking, ahead = request.num_lacking + now.num_tokens, ""
    if request.num_tokens_ahead:
        ahead = f", {request.num_tokens_ahead} of them ahead of what is known"
        ahead = " ahead of what is known" if lacking == request.num_tokens_ahead else ahead
    return (
        f"{now.request_id} lacks {_tokens(lacking)}{ahead}, and {before.budget_left} of the budget "
        f"{_are(before.budget_left)} left. {_gets(before, now, lacking)}"
    )


def _admits(before: Moment, now: Moment) -> str:
    """Say how a waiting request comes in."""
    request = now.state.requests[now.request_id]
    lacking = request.num_lacking + now.num_tokens
    was_there = now.before.requests[now.request_id].status is not RequestStatus.WAITING
    again = "comes back" if was_there else "starts"
    hit = ""
    if now.num_hit_tokens:
        hit = f"{now.num_hit_tokens} of its {request.num_tokens} tokens are in the prefix cache. "
    return (
        f"{now.request_id} is next in line and {again}. {hit}It lacks {_tokens(lacking)}, and "
        f"{before.budget_left} of the budget {_are(before.budget_left)} left. "
        f"{_gets(before, now, lacking)}"
    )


def _gets(before: Moment, now: Moment, lacking: int) -> str:
    """Say how many tokens a request gets, why not more, and where they go."""
    held, table = table_of(before, now.request_id), table_of(now, now.request_id)
    # A block that was there before may be shared with somebody else now.
    free_before = set(before.blocks["free_queue"])
    taken = [block_id for block_id in table if block_id not in held and block_id in free_before]
    shared = [block_id for block_id in table if block_id not in held and block_id not in taken]
    room = "its last block has room" if not taken and not shared else ""
    if taken:
        room = f"it takes {_named_blocks(taken)} from the free queue"
    if shared:
        room += f"{' and ' if taken else ''}shares {_named_blocks(shared)}"
    cut = ""
    if now.num_tokens < lacking:
        cut = ", all that is left" if now.budget_left == 0 else ", the most that it may have now"
    return f"It gets {now.num_tokens}{cut}; {room}."


def _lacks_room(before: Moment, now: Moment) -> str:
    """Say for what there is no room."""
    need = now.reason.partition(" needs ")[2] or "more blocks than are free"
    return (
        f"{now.request_id} is to compute {_tokens(now.num_tokens)} and needs {need}. "
        "Somebody has to give way."
    )


def _preempts(before: Moment, now: Moment) -> str:
    """Say who gives way, and what comes back."""
    name = now.request_id
    table = table_of(before, name)
    free = set(now.blocks["free_queue"])
    back = [block_id for block_id in table if block_id in free]
    kept = [block_id for block_id in table if block_id not in free]
    gives = f"{name} is preempted: {_named_blocks(back)} {_go(len(back))} to the free queue"
    if not back:
        gives = f"{name} is preempted, and none of its blocks is freed"
    if kept:
        gives += f", {_named_blocks(kept)} {_stay(len(kept))} with others"
    refund = ""
    if now.num_tokens:
        refund = (
            f" Its {_tokens(now.num_tokens)} of this iteration {_go(now.num_tokens)} to the budget."
        )
    if name in now.state.swapped:
        return f"{gives}; what it had computed is copied to the CPU.{refund}"
    lost = before.num_computed_before(name)
    return f"{gives}. What it had computed, {_tokens(lost)}, no longer counts.{refund}"


def _waits(before: Moment, now: Moment) -> str:
    """Say why the next in line does not start, and who stands behind it."""
    return " ".join(waiting_texts(now)).replace(f" behind {now.request_id!r}.", " behind it.")


def _ends(before: Moment, now: Moment) -> str:
    """Say what the plan is."""
    return (
        f"The plan of iteration {now.step:,}: {_grants(now.plan)}; together {now.num_tokens:,} of "
        f"{now.state.max_num_batched_tokens:,} tokens. Now the model runs."
    )


def _grants(plan: Mapping[str, int]) -> str:
    """List who gets how much; of many, those that get one token are only counted.

    >>> _grants({"a": 1, "b": 1, "p": 7})
    'a 1, b 1 and p 7'
    >>> _grants({**dict.fromkeys("abcdef", 1), "p": 7})
    '6 requests 1 token each and p 7'
    """
    single = [name for name, num_tokens in plan.items() if num_tokens == 1]
    if len(plan) <= _MOST_NAMED or len(single) < 2:
        return _listed([f"{name} {num_tokens:,}" for name, num_tokens in plan.items()])
    others = [f"{name} {num_tokens:,}" for name, num_tokens in plan.items() if num_tokens > 1]
    return _listed([f"{len(single)} requests 1 token each", *others])


_SAY: Mapping[Happening, Callable[[Moment, Moment], str]] = {
    Happening.BEGINS: _begins,
    Happening.SERVES: _serves,
    Happening.ADMITS: _admits,
    Happening.LACKS_ROOM: _lacks_room,
    Happening.PREEMPTS: _preempts,
    Happening.WAITS: _waits,
    Happening.ENDS: _ends,
}


def _event(moment: Moment) -> str:
    """Name a moment, if it is one to look for."""
    name = moment.request_id
    if moment.happening is Happening.PREEMPTS:
        return f"{name} {'swapped out' if name in moment.state.swapped else 'preempted'}"
    if moment.happening is Happening.BEGINS and moment.finished:
        return f"{', '.join(moment.finished)} ended"
    if moment.happening is Happening.ADMITS and moment.num_hit_tokens:
        return f"{name} hits {_tokens(moment.num_hit_tokens)}"
    if moment.happening is Happening.ADMITS and was_cut(moment):
        return f"{name} cut"
    if moment.happening is Happening.SERVES and not was_cut(moment) and not is_decode(moment, name):
        return f"{name} complete"
    if moment.happening is Happening.WAITS:
        limit = limit_of(moment.reason)
        if "passed over" in moment.reason:
            return f"{name} passed over"
        return f"{name} waits" + (f": {limit}" if limit else "")
    return ""


def _progress(request: RequestState) -> str:
    return f"{request.request_id} {request.num_computed_tokens} of {request.num_tokens} computed"


def _listed(words: Sequence[str]) -> str:
    """Join words as in a sentence.

    >>> _listed(["a", "b", "c"]), _listed([])
    ('a, b and c', 'nobody')
    """
    if len(words) < 2:
        return words[0] if words else "nobody"
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _named(request_ids: Sequence[str]) -> str:
    """Name requests, or the first of them and how many others there are."""
    if len(request_ids) > _MOST_NAMED:
        return f"{request_ids[0]} and {len(request_ids) - 1:,} others"
    return _listed(request_ids)


def _named_blocks(block_ids: Sequence[int]) -> str:
    if len(block_ids) > _MOST_NAMED:
        return f"{len(block_ids)} blocks"
    return f"{'block' if len(block_ids) == 1 else 'blocks'} {_listed([str(i) for i in block_ids])}"


def people(count: int, verb: str) -> str:
    """Say how many do something.

    >>> people(0, "wait"), people(1, "run"), people(2, "run")
    ('nobody waits', '1 runs', '2 run')
    """
    return f"{count or 'nobody'} {verb if count > 1 else verb + 's'}"


def _tokens(count: int) -> str:
    return "1 token" if count == 1 else f"{count:,} tokens"


def _blocks(count: int) -> str:
    return "1 block" if count == 1 else f"{count:,} blocks"


def _wait(count: int) -> str:
    return "waits" if count == 1 else "wait"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _go(count: int) -> str:
    return "goes back" if count == 1 else "go back"


def _stay(count: int) -> str:
    return "stays" if count == 1 else "stay"
