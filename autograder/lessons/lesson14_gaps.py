"""The request trace: its task by hand, a trace of one request with gaps in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import count
from random import Random
from typing import Any, NamedTuple

from autograder.checks.finding import Misconception
from autograder.checks.trace import Instance
from course_lib.engine.answer import StopStrings
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig

FOLLOWED = "followed"
_MOST_STEPS = 60
_STRIDE = 2**32
"""From one instance of a seed to its next: no two seeds share any."""

_STOPS = (
    ("END", ("This is ", "the E", "N", "D of it")),
    ("stop", ("Do not s", "tay, s", "to", "p now")),
    ("</s>", ("a < b", " and <", "/", "s> more")),
    ("\n\n", ("One line.\n", "Another.", "\n", "\nA third")),
    ("Q:", ("It is FA", "Q", " or Q", ": next")),
)
"""Stop strings, and texts that come in pieces."""


@dataclass(frozen=True)
class Settings:
    """What an instance is drawn from.

    Attributes:
        block_size: Tokens per block.
        num_blocks: Usable blocks.
        budget: Tokens per step.
        num_common: Tokens with which two prompts begin.
        prompts: Tokens of each prompt, by request.
        answers: Tokens of the answers of the others.
        arrival: The step before which the followed request comes.
        stop: Its stop string.
        pieces: The last texts of the answer, as they come.
    """

    block_size: int
    num_blocks: int
    budget: int
    num_common: int
    prompts: dict[str, int]
    answers: dict[str, int]
    arrival: int
    stop: str
    pieces: tuple[str, ...]


@dataclass(frozen=True)
class Story:
    """What happens to the followed request.

    Attributes:
        others: For each other request, the tokens computed and known when it comes.
        chunks: Tokens of its prompt that are computed, step by step.
        found: Tokens that it finds in the cache when it comes.
        preempted: The step in which it gives way.
        held: Blocks that it gives up.
        come_free: Those of them that nobody else holds.
        resumes: The step in which it is back.
        still_run: The others that run in that step.
        taken: Blocks of its own that others have taken by then.
        again: Tokens that it computes then.
        found_again: Tokens that it finds then.
    """

    others: dict[str, tuple[int, int]]
    chunks: tuple[int, ...]
    found: int
    preempted: int
    held: int
    come_free: int
    resumes: int
    still_run: tuple[str, ...]
    taken: int
    again: int
    found_again: int


def _drawn(number: int) -> Settings:
    rng = Random(number)
    size = rng.choice((4, 8))
    common = 3 * size + rng.randrange(1, size)
    stop, pieces = rng.choice(_STOPS)
    return Settings(
        block_size=size,
        num_blocks=rng.randrange(11, 19),
        budget=rng.randrange(9, 15),
        num_common=common,
        prompts={
            "other-0": common + rng.randrange(1, 5),
            "other-1": rng.randrange(7, 13),
            FOLLOWED: common + rng.randrange(2, size + 2),
        },
        answers={name: rng.randrange(12, 40) for name in ("other-0", "other-1")},
        arrival=rng.randrange(3, 6),
        stop=stop,
        pieces=pieces,
    )


def _tokens(settings: Settings, name: str) -> list[int]:
    number = list(settings.prompts).index(name)
    own = range(1000 * number, 1000 * number + settings.prompts[name])
    if name == "other-1":
        return list(own)
    return [*range(9000, 9000 + settings.num_common), *own][: settings.prompts[name]]


class _Step(NamedTuple):
    """What a step did with the followed request.

    Attributes:
        num_tokens: Tokens that it computed.
        computed: Tokens of it that were computed before.
        gave_way: Whether it was preempted.
        table: The blocks that it held before.
        num_free: Blocks that were free when it was planned.
        others: The others that were there.
    """

    num_tokens: int
    computed: int
    gave_way: bool
    table: tuple[int, ...]
    num_free: int
    others: tuple[str, ...]


def _served(settings: Settings) -> tuple[dict[str, tuple[int, int]], list[_Step], Request]:
    """Serve the requests without a model, until the followed one has come back.

    Returns:
        The tokens computed and known of the others when it comes, its steps, and the request.
    """
    manager = KVCacheManager(settings.num_blocks + 1, settings.block_size)
    config = SchedulerConfig(max_num_seqs=3, max_num_batched_tokens=settings.budget)
    scheduler = Scheduler(config, manager)
    for name, num in settings.answers.items():
        scheduler.add_request(Request(name, _tokens(settings, name), max_tokens=num))
    others: dict[str, tuple[int, int]] = {}
    followed = Request(FOLLOWED, _tokens(settings, FOLLOWED), max_tokens=200)
    steps: list[_Step] = []
    for number in range(_MOST_STEPS):
        if number == settings.arrival:
            requests = scheduler.requests.items()
            others = {name: (each.num_computed_tokens, each.num_tokens) for name, each in requests}
            scheduler.add_request(followed)
        computed = followed.num_computed_tokens
        table = tuple(block.block_id for block in manager.block_tables().get(FOLLOWED, ()))
        output = scheduler.schedule()
        num_free = manager.block_pool.get_num_free_blocks()
        there = tuple(name for name in settings.answers if name in scheduler.requests)
        generating = enumerate(scheduler.generating(output))
        sampled = {each.request_id: 20_000 + 10 * number + place for place, each in generating}
        scheduler.update_from_output(output, dict(sampled))
        num_tokens = output.num_scheduled_tokens.get(FOLLOWED, 0)
        gave_way = FOLLOWED in output.preempted_req_ids
        steps.append(_Step(num_tokens, computed, gave_way, table, num_free, there))
        is_back = num_tokens > 0 and any(step.gave_way for step in steps)
        if is_back or (output.preempted_req_ids and not gave_way):
            break
    return others, steps, followed


def _lived(settings: Settings) -> Story | None:
    """Return what happens, or None if it is not what a task is made of."""
    others, steps, followed = _served(settings)
    ways = [number for number, step in enumerate(steps) if step.gave_way]
    first, prompt = settings.arrival, settings.prompts[FOLLOWED]
    if len(ways) != 1 or not steps[-1].num_tokens or ways[0] < first + 6:
        return None
    gone, back = steps[ways[0]], steps[-1]
    before = steps[first : ways[0]]
    chunks = tuple(step.num_tokens for step in before if step.computed < prompt)
    found_again = followed.num_tokens - 1 - back.num_tokens
    story = Story(
        others=others,
        chunks=chunks,
        found=prompt - sum(chunks),
        preempted=ways[0],
        held=len(gone.table),
        come_free=gone.num_free,
        resumes=len(steps) - 1,
        still_run=back.others,
        taken=len(gone.table) - found_again // settings.block_size,
        again=back.num_tokens,
        found_again=found_again,
    )
    is_served = all(step.num_tokens for step in before)
    is_crowded = len(gone.others) == len(settings.answers)
    computes_all = gone.computed == followed.num_tokens - 2
    is_whole = is_served and is_crowded and computes_all
    return story if is_whole and _can_be_told(settings, story) else None


def _can_be_told(settings: Settings, story: Story) -> bool:
    """Say whether a story has two chunks, a hit, shared blocks, and full ones that are found."""
    size = settings.block_size
    known = story.found_again + story.again
    is_chunked = len(story.chunks) == 2 and story.chunks[0] < settings.budget
    is_hit = story.found == settings.num_common // size * size
    is_full = known - 1 == story.held * size and story.found_again % size == 0
    is_shared = 0 < story.come_free < story.held and 0 <= story.taken <= story.come_free
    return is_chunked and is_hit and is_full and is_shared


@cache
def instance(seed: int) -> tuple[Settings, Story]:
    """Return the first instance of a seed in which the request is chunked, and gives way once."""
    for number in count(seed, _STRIDE):
        settings = _drawn(number)
        story = _lived(settings)
        if (
            story is not None
            and min(settings.budget, settings.prompts[FOLLOWED]) != story.chunks[0]
        ):
            return settings, story
    raise AssertionError


def _shown(settings: Settings, num_pieces: int) -> tuple[str, str]:
    """Return what a user has after some pieces, and what is kept back."""
    stops = StopStrings([settings.stop])
    shown = "".join(stops.push(piece) for piece in settings.pieces[:num_pieces])
    return shown, stops.kept_back


def gaps(seed: int) -> Instance:
    """Return a trace with ten gaps, and what is in them."""
    settings, story = instance(seed)
    return Instance(_task(seed, settings, story), _answer(settings, story), _notes(settings, story))


def _answer(settings: Settings, story: Story) -> dict[str, Any]:
    return {
        "found": story.found,
        "chunk 1": story.chunks[0],
        "chunk 2": story.chunks[1],
        "first token": settings.arrival + 1,
        "held": story.held,
        "come free": story.come_free,
        "found again": story.found_again,
        "again": story.again,
        "kept back": _shown(settings, 3)[1],
        "shown": _shown(settings, 4)[0],
    }


def _notes(settings: Settings, story: Story) -> dict[str, str]:
    """Return for each gap what it is made of, without a number that is asked for."""
    return {
        "found": f"The cache finds whole blocks of {settings.block_size} tokens, as far as all "
        "that is in them is common to both",
        "chunk 1": "Those who run get first what they lack, each from the same budget; it gets "
        "what they leave",
        "chunk 2": "What of the prompt was neither found nor computed in the first chunk is left "
        "for it",
        "first token": "It is chosen in the step that computes the last token of the prompt",
        "held": f"Until step {story.preempted} it knows one token more with each step, from the "
        "first token on, and has computed all but the last one: these fill its blocks",
        "come free": "Of the blocks that it held, those come free that nobody else has in a table",
        "found again": "Of its full blocks those are found that nobody has taken meanwhile, "
        "whether they came free or not",
        "again": "It computes what it knows by then and does not find, the last known token "
        "included",
        "kept back": f"Of all text so far it is the longest end with which {settings.stop!r} "
        "begins, and not a letter more",
        "shown": f"It is all text of these pieces in front of the first whole {settings.stop!r}, "
        "each blank included, and what was kept back for a while and became none",
    }


def _task(seed: int, settings: Settings, story: Story) -> str:
    rows = "\n".join(
        f"| {name} | {num} | {settings.arrival if name == FOLLOWED else 0} |"
        for name, num in settings.prompts.items()
    )
    state = "; ".join(
        f"{name} has computed {done} of {known} known tokens"
        for name, (done, known) in story.others.items()
    )
    taken = {0: "None of its blocks has", 1: "One of its blocks has"}.get(
        story.taken, f"{story.taken} of its blocks have"
    )
    first = ": the one that stands last in its table goes first" if story.taken else ""
    arrival = settings.arrival
    return (
        f"Seed {seed}. {settings.num_blocks} blocks of {settings.block_size} tokens with a prefix "
        f"cache, a budget of {settings.budget} tokens, first come, first served.\n\n"
        f"| request | tokens of the prompt | comes before step |\n|---|---|---|\n{rows}\n\n"
        f"*followed* and *other-0* begin with the same {settings.num_common} tokens; nobody has "
        f"anything else in common. Before step {arrival}: {state}. A request lacks what it knows "
        f"and has not computed. Both others still run in step {story.preempted}; "
        f"{_who_is_left(story)} in step {story.resumes}.\n\n"
        "```text\n"
        f"step {arrival}   scheduler      starts with [chunk 1] tokens from position [found]\n"
        "         block manager  finds [found] tokens in the cache\n"
        f"step {arrival + 1}   scheduler      continues with [chunk 2] tokens\n"
        "step [first token]  sampler  chooses its first token, and one in every step from then on\n"
        f"step {story.preempted}  scheduler      is preempted: itself needs 1 block, 0 free\n"
        "         block manager  frees [held] blocks, [come free] free then\n"
        f"step {story.resumes}  scheduler      resumes with [again] tokens from [found again] on\n"
        "         block manager  finds [found again] tokens in the cache\n"
        "```\n\n"
        f"{taken} been taken by others when it looks them up in step {story.resumes}{first}. "
        "The last known token is always computed.\n\n"
        f"Much later its stop string is {settings.stop!r}, and the last pieces of text come as "
        f"{', '.join(map(repr, settings.pieces))}. `kept back` is what the detokenizer holds back "
        "after the third of them; `shown` is what the user has of these pieces in the end.\n\n"
        "Each gap in brackets is a key: a number of tokens, of a step, or of blocks."
    )


def _who_is_left(story: Story) -> str:
    """Say who else takes of the budget in the step in which the request is back."""
    if not story.still_run:
        return "neither does"
    return "both do" if len(story.still_run) > 1 else f"only {story.still_run[0]} does"


def form_of_a_gap(state: Any) -> str:
    """Say what is wrong with how a gap is filled; "" if nothing is."""
    if type(state) in (int, str):
        return ""
    return f"{state!r} is neither a whole number nor a text"


# What is got wrong

Wrong = Callable[[int], dict[str, Any]]


def _instead(change: Callable[[Settings, Story], dict[str, Any]]) -> Wrong:
    """Return what somebody writes who gets some gaps wrong, and all others right."""

    def written(seed: int) -> dict[str, Any]:
        settings, story = instance(seed)
        return {**_answer(settings, story), **change(settings, story)}

    return written


def _known(story: Story) -> int:
    return story.found_again + story.again


def _in_chunks_of(size: int, settings: Settings, story: Story) -> dict[str, Any]:
    """Return the two chunks of somebody who gives the first one so many tokens."""
    lacking = settings.prompts[FOLLOWED] - story.found
    return {"chunk 1": min(size, lacking), "chunk 2": lacking - min(size, lacking)}


GAPS = (
    Misconception(
        "all that is common is found",
        "The cache knows full blocks alone: what two prompts have in common beyond the last full "
        "block is computed by each.",
        _instead(lambda settings, story: {"found": settings.num_common}),
    ),
    Misconception(
        "the budget for itself",
        "Those who run are served first and from the same budget; the newcomer gets what they "
        "leave.",
        _instead(lambda settings, story: _in_chunks_of(settings.budget, settings, story)),
    ),
    Misconception(
        "a token with the first chunk",
        "A step in the middle of a prompt gives no token: only the one that reaches its end does.",
        _instead(lambda settings, story: {"first token": settings.arrival}),
    ),
    Misconception(
        "a token one step later",
        "The step that computes the last token of the prompt chooses the first one of the answer.",
        _instead(lambda settings, story: {"first token": settings.arrival + 2}),
    ),
    Misconception(
        "the block that it needs is held",
        "It holds what its computed tokens fill. The block that the last known token needs is the "
        "one that it does not get.",
        _instead(lambda settings, story: {"held": story.held + 1}),
    ),
    Misconception(
        "all that was held comes free",
        "A block that another request holds as well has one holder less, and is not free.",
        _instead(lambda settings, story: {"come free": story.held}),
    ),
    Misconception(
        "everything is lost",
        "Full blocks keep their hashes when they are freed. Until somebody takes them, they are "
        "found like those of a shared prefix.",
        _instead(lambda settings, story: {"found again": 0, "again": _known(story)}),
    ),
    Misconception(
        "the shared prefix alone",
        "Its own full blocks are found as well, not only those that somebody else still holds.",
        _instead(
            lambda settings, story: {
                "found again": story.found,
                "again": _known(story) - story.found,
            }
        ),
    ),
    Misconception(
        "shown at once",
        "What may still become the stop string is held back, or it would have to be taken away "
        "from the user again.",
        _instead(lambda settings, story: {"kept back": ""}),
    ),
    Misconception(
        "the stop string is shown",
        "The answer ends in front of the stop string, and nothing behind it is shown either.",
        _instead(
            lambda settings, story: {"shown": _shown(settings, 4)[0] + settings.stop},
        ),
    ),
)
