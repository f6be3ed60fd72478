"""Lesson 12: the hunt. Admissions that count a request's tokens before they look into the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from autograder.checks.finding import Misconception
from autograder.checks.function import Call
from course_lib.scheduling.request import RequestStatus
from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput

BLOCK_SIZE = 256
"""Tokens per block, as in the engine in which this was found."""

Waiting = tuple[str, int, int]
"""A name, the tokens of the prompt, and how many of them the prefix cache holds."""
Plan = dict[str, tuple[int, int]]
"""The first position that a request computes, and the one behind the last, by name."""


class Memory:
    """Free blocks, and a prefix cache that knows what it holds of each request.

    >>> memory = Memory(free=3)
    >>> memory.num_blocks(465, 256), memory.allocate(465, 256), memory.free
    (1, 256, 2)
    """

    def __init__(self, free: int) -> None:
        self.free = free

    def num_blocks(self, num_tokens: int, num_cached: int) -> int:
        """Return how many free blocks a request takes, beside those that it finds in the cache."""
        return -(-(num_tokens - num_cached) // BLOCK_SIZE)

    def allocate(self, num_tokens: int, num_cached: int) -> int:
        """Take the blocks of a request, and return how many of its tokens are computed already."""
        self.free -= self.num_blocks(num_tokens, num_cached)
        return num_cached


def admit_suspect(memory: Memory, line: Sequence[Waiting], budget: int) -> tuple[Plan, int]:
    """Admit who waits, in order; return the positions that each computes, and the budget left."""
    plan: Plan = {}
    for name, num_tokens, num_cached in line:
        num_computed = 0
        num_new = num_tokens - num_computed
        if num_new > budget and plan:  # only the first of a step is cut
            break
        if budget < 1 or memory.num_blocks(num_tokens, num_cached) > memory.free:
            break
        num_computed = memory.allocate(num_tokens, num_cached)
        num_new = min(num_new, budget)
        plan[name] = (num_computed, num_computed + num_new)
        budget -= num_new
    return plan, budget


def admit_a(memory: Memory, line: Sequence[Waiting], budget: int) -> tuple[Plan, int]:
    """Admit as the suspect does, and cut the positions to the prompt where they are used."""
    plan, budget = admit_suspect(memory, line, budget)
    lengths = {name: num_tokens for name, num_tokens, _ in line}
    return {name: (first, min(end, lengths[name])) for name, (first, end) in plan.items()}, budget


def admit_b(memory: Memory, line: Sequence[Waiting], budget: int) -> tuple[Plan, int]:
    """Admit who waits, in order; count once the blocks are taken."""
    plan: Plan = {}
    for name, num_tokens, num_cached in line:
        if budget < 1 or memory.num_blocks(num_tokens, num_cached) > memory.free:
            break
        num_computed = memory.allocate(num_tokens, num_cached)
        num_new = num_tokens - num_computed
        if num_new > budget and plan:  # only the first of a step is cut
            break
        num_new = min(num_new, budget)
        plan[name] = (num_computed, num_computed + num_new)
        budget -= num_new
    return plan, budget


def serve_as_it_was(self: Scheduler, output: SchedulerOutput, budget: int) -> int:
    """Serve who runs, with the index as vLLM moved it until July 2026: back for the served."""
    place, planned = 0, output.num_scheduled_tokens
    while place < len(self.running) and budget > 0:
        request = self.running[place]
        num_lacking = request.num_tokens + request.num_tokens_ahead - request.num_computed_tokens
        num_new = self.limit_chunk(request, num_lacking, budget) if num_lacking > 0 else 0
        if num_new and self.kv_cache_manager.allocate_slots(request, num_new) is None:
            num_served = len(planned)
            budget += self.preempt_for(request, num_new, output)
            place -= num_served - len(planned)
            if request.status is not RequestStatus.RUNNING:
                continue
        if num_new:
            planned[request.request_id] = num_new
            request.num_computed_tokens += num_new
            budget -= num_new
        place += 1
    return budget


# What is asked for


def admit(line: list[tuple[str, int, int]], budget: int, free: int) -> tuple[Plan, int, int]:
    """Return the positions that each computes, the budget that is left, and the free blocks."""
    plan: Plan = {}
    for name, num_tokens, num_cached in line:
        num_new = num_tokens - num_cached
        num_blocks = -(-num_new // BLOCK_SIZE)
        if budget < 1 or num_blocks > free or (num_new > budget and plan):
            break
        num_new = min(num_new, budget)
        plan[name] = (num_cached, num_cached + num_new)
        budget -= num_new
        free -= num_blocks
    return plan, budget, free


def _played(admission: Any) -> Any:
    def play(line: list[Waiting], budget: int, free: int) -> tuple[Plan, int, int]:
        memory = Memory(free)
        plan, left = admission(memory, line, budget)
        return plan, left, memory.free

    return play


def cuts_everybody(line: list[Waiting], budget: int, free: int) -> tuple[Plan, int, int]:
    """Cut the later ones of a step as well."""
    plan: Plan = {}
    for name, num_tokens, num_cached in line:
        num_new = min(num_tokens - num_cached, budget)
        num_blocks = -(-(num_tokens - num_cached) // BLOCK_SIZE)
        if num_new < 1 or num_blocks > free:
            break
        plan[name] = (num_cached, num_cached + num_new)
        budget, free = budget - num_new, free - num_blocks
    return plan, budget, free


def cuts_nobody(line: list[Waiting], budget: int, free: int) -> tuple[Plan, int, int]:
    """Let the first wait as well, if it does not fit whole."""
    plan: Plan = {}
    for name, num_tokens, num_cached in line:
        num_new = num_tokens - num_cached
        num_blocks = -(-num_new // BLOCK_SIZE)
        if num_new > budget or num_blocks > free:
            break
        plan[name] = (num_cached, num_tokens)
        budget, free = budget - num_new, free - num_blocks
    return plan, budget, free


def looks_further(line: list[Waiting], budget: int, free: int) -> tuple[Plan, int, int]:
    """Pass over who does not fit."""
    plan: Plan = {}
    for name, num_tokens, num_cached in line:
        num_new = num_tokens - num_cached
        num_blocks = -(-num_new // BLOCK_SIZE)
        if budget < 1 or num_blocks > free or (num_new > budget and plan):
            continue
        num_new = min(num_new, budget)
        plan[name] = (num_cached, num_cached + num_new)
        budget, free = budget - num_new, free - num_blocks
    return plan, budget, free


def blocks_of_all(line: list[Waiting], budget: int, free: int) -> tuple[Plan, int, int]:
    """Take new blocks for the cached tokens as well."""
    plan: Plan = {}
    for name, num_tokens, num_cached in line:
        num_new = num_tokens - num_cached
        num_blocks = -(-num_tokens // BLOCK_SIZE)
        if budget < 1 or num_blocks > free or (num_new > budget and plan):
            break
        num_new = min(num_new, budget)
        plan[name] = (num_cached, num_cached + num_new)
        budget, free = budget - num_new, free - num_blocks
    return plan, budget, free


def blocks_of_the_cut(line: list[Waiting], budget: int, free: int) -> tuple[Plan, int, int]:
    """Take blocks for the tokens of this step alone."""
    plan: Plan = {}
    for name, num_tokens, num_cached in line:
        num_new = num_tokens - num_cached
        if budget < 1 or -(-num_new // BLOCK_SIZE) > free or (num_new > budget and plan):
            break
        num_new = min(num_new, budget)
        plan[name] = (num_cached, num_cached + num_new)
        budget, free = budget - num_new, free - -(-num_new // BLOCK_SIZE)
    return plan, budget, free


def from_the_start(line: list[Waiting], budget: int, free: int) -> tuple[Plan, int, int]:
    """Compute the cached tokens once more."""
    return admit([(name, num_tokens, 0) for name, num_tokens, _ in line], budget, free)


# 12.9a

EXPOSING = {"line": [("b", 465, 256)], "budget": 1000, "free": 8}


def _complaint(case: Any) -> str | None:
    """Say why a value is no case, if it is none."""
    if not isinstance(case, dict) or not {"line", "budget", "free"} <= set(case):
        return 'a case is a dict with the keys "line", "budget" and "free"'
    for key in ("budget", "free"):
        if type(case[key]) is not int or not 1 <= case[key] <= 100_000:
            return f'"{key}" is a whole number from 1 to 100,000, not {case[key]!r}'
    line = case["line"]
    if not isinstance(line, (list, tuple)) or not 1 <= len(line) <= 20:
        return '"line" is a list of 1 to 20 requests'
    for each in line:
        is_form = isinstance(each, (list, tuple)) and len(each) == 3 and isinstance(each[0], str)
        if not is_form or type(each[1]) is not int or type(each[2]) is not int:
            return f'a request is ("b", tokens, cached tokens), not {each!r}'
        if each[2] % BLOCK_SIZE or not 0 <= each[2] < each[1] <= 100_000:
            return (
                f"{each!r}: a prompt has at most 100,000 tokens; cached are 0 or more whole blocks "
                f"of {BLOCK_SIZE}, and fewer tokens than the prompt has"
            )
    names = [each[0] for each in line]
    if len(set(names)) < len(names):
        return f"each request has a name of its own; {max(names, key=names.count)!r} comes twice"
    return None


def _suspects_plan(case: Any) -> Plan:
    return admit_suspect(Memory(case["free"]), case["line"], case["budget"])[0]


def _beyond(case: Any) -> list[str]:
    """Return who is to compute positions behind its prompt."""
    lengths = {name: num_tokens for name, num_tokens, _ in case["line"]}
    return [name for name, (_, end) in _suspects_plan(case).items() if end > lengths[name]]


def reaches_too_far(_: Any, case: Any) -> str | None:
    """Agree with a case in which the suspect plans positions that the prompt does not have."""
    complaint = _complaint(case)
    if complaint is not None:
        return complaint
    if _beyond(case):
        return None
    return f"it plans {_suspects_plan(case)}, and no position behind the end of a prompt"


def as_harmless(one: Any, other: Any) -> str | None:
    """Agree on two harmless cases that lack the same."""
    complaints = [reaches_too_far(None, case) for case in (one, other)]
    if not all((each or "").startswith("it plans") for each in complaints):
        return ""
    return None if _lacks(one) == _lacks(other) else ""


def _lacks(case: Any) -> tuple[bool, bool]:
    """Say whether anything is cached, and whether anybody is admitted who has a hit."""
    hits = {each[0] for each in case["line"] if each[2]}
    return bool(hits), not hits.isdisjoint(_suspects_plan(case))


EXPOSED = (
    Misconception(
        "nothing is cached",
        "Without a hit nothing happens between the counting and the use of the count.",
        {"line": [("a", 465, 0)], "budget": 1000, "free": 8},
    ),
    Misconception(
        "nobody with a hit is admitted",
        "Whoever waits gets no positions. Give the request enough blocks and budget.",
        {"line": [("a", 1465, 256)], "budget": 1000, "free": 2},
    ),
    Misconception(
        "the budget hides it",
        "The count is too large by what is cached, and the budget has cut it down to less. Let "
        "there be more budget.",
        {"line": [("a", 465, 256)], "budget": 100, "free": 8},
    ),
)

# 12.9b


def case(line: Sequence[Waiting], budget: int, free: int) -> Call:
    """Return a call with who waits, the budget, and the free blocks."""
    return Call(list(line), budget, free)


@st.composite
def cases(draw: Any) -> Call:
    """Return a few requests, of which some have cached beginnings."""
    line = []
    for name in "abcd"[: draw(st.integers(0, 4))]:
        cached = draw(st.sampled_from((0, 1, 1, 2))) * BLOCK_SIZE
        line.append((name, cached + draw(st.sampled_from((1, 9, 44, 209, 256, 257))), cached))
    return case(line, draw(st.sampled_from((0, 44, 209, 300, 500, 1000))), draw(st.integers(0, 6)))


CASES = (
    case([("b", 465, 256)], 1000, 8),
    case([("b", 465, 256), ("c", 280, 0)], 500, 8),
    case([("a", 209, 0), ("c", 600, 512)], 300, 8),
    case([("a", 209, 0), ("c", 556, 256), ("d", 9, 0)], 500, 8),
    case([("a", 1000, 256)], 300, 8),
    case([("a", 209, 0), ("b", 465, 256), ("c", 257, 0), ("d", 9, 0)], 1000, 3),
    case([("b", 465, 256)], 1000, 1),
    case([], 10, 2),
    case([("a", 300, 256), ("b", 300, 256)], 44, 8),
    case([("a", 3, 0), ("b", 2, 0)], 5, 8),
)

MENDED = (
    Misconception(
        "counts too early",
        "That is the suspect once more: the count is taken before the cache has been asked.",
        _played(admit_suspect),
    ),
    Misconception(
        "cut where it is used",
        "The positions are right now. But the budget is charged for tokens that nobody computes, "
        "so others wait for nothing.",
        _played(admit_a),
    ),
    Misconception(
        "blocks taken by one who waits",
        "When the guard sends a request back, its blocks are taken already, and it holds them "
        "while it waits. First decide, then take.",
        _played(admit_b),
    ),
    Misconception(
        "cuts everybody",
        "In this engine only the first of a step is cut; the others wait if they do not fit whole.",
        cuts_everybody,
    ),
    Misconception(
        "cuts nobody",
        "The first of a step is cut to the budget, or a long prompt would wait for ever.",
        cuts_nobody,
    ),
    Misconception(
        "looks further",
        "The first that does not fit ends the admission; nobody is passed over.",
        looks_further,
    ),
    Misconception(
        "new blocks for what is cached",
        "The cached tokens are in blocks that are there already; only the rest needs free ones.",
        blocks_of_all,
    ),
    Misconception(
        "blocks for this step alone",
        "A request takes blocks for its whole prompt, less what is cached, when it is admitted, "
        "also if the budget cuts what is computed now.",
        blocks_of_the_cut,
    ),
    Misconception(
        "from the start",
        "What the cache holds need not be computed: the positions begin behind it.",
        from_the_start,
    ),
)
