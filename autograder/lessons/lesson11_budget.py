"""Lesson 11: the largest budget that keeps a promise, asked with cost models that are counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from hypothesis import assume
from hypothesis import strategies as st

from autograder.checks.budget import Metered
from autograder.checks.finding import Misconception
from autograder.checks.function import Call
from autograder.proxy.recipes import Callback, Make
from course_lib.simulation.cost_model import (
    CostModel,
    FunctionCostModel,
    RooflineCostModel,
    token_budget,
)
from course_lib.specs import GPUS, MODELS
from course_lib.steps import IterationWork

AT_MOST = 16384

Rows = list[tuple[int, int]]
FORMULAS: dict[str, Callable[[int, int, int], float]] = {
    "max(16, tokens) / 1024": lambda tokens, attended, context: max(16, tokens) / 1024,
    "(16 + tokens + attended / 64) / 1024": lambda tokens, attended, context: (
        (16 + tokens + attended / 64) / 1024
    ),
    "(8 + tokens + context / 32) / 1024": lambda tokens, attended, context: (
        (8 + tokens + context / 32) / 1024
    ),
    "(-(-tokens // 8) + context / 64) / 128": lambda tokens, attended, context: (
        (-(-tokens // 8) + context / 64) / 128
    ),
    "16 / 1024": lambda tokens, attended, context: 16 / 1024,
}
"""How long an iteration takes, as one would write it. All are sums of powers of two: a target can
be met exactly."""
LINEAR, QUADRATIC, MOVING, IN_TILES, CONSTANT = FORMULAS


def model_of(formula: str) -> FunctionCostModel:
    """Return a cost model whose function runs where the check does, and is counted."""

    def seconds(tokens: int, attended: int, context: int, swapped: int) -> float:
        return FORMULAS[formula](tokens, attended, context)

    seconds.__name__ = f"lambda tokens, attended, context, swapped: {formula}"
    return FunctionCostModel(Callback(seconds))


def question(
    formula: str, target: float, batch: tuple[int, int, int], at_most: int = AT_MOST
) -> Call:
    """Return a call; ``batch`` is num_decodes, context and cached."""
    limits = {} if at_most == AT_MOST else {"at_most": at_most}
    return Call(model_of(formula), target, *batch, **limits)


@st.composite
def questions(draw: st.DrawFn) -> Call:
    """Draw a cost model, a batch, and a target that is just met, or just missed."""
    formula = draw(st.sampled_from(tuple(FORMULAS)))
    batch = draw(st.tuples(*(st.integers(0, most) for most in (6, 40, 99))))
    at_most = draw(st.sampled_from((1, 4, 32, 100)))
    num_decodes, context, cached = batch
    chunk = draw(st.integers(0, at_most + 1))
    rows = [(1, context)] * num_decodes + ([(chunk, cached)] if chunk else [])
    target = FORMULAS[formula](*IterationWork.of_batch(rows)[:3])
    target -= draw(st.sampled_from((0.0, 2**-20)))
    # Whether a target of 0 s is out of range is not said: an answer may refuse it.
    assume(target > 0)
    return question(formula, target, batch, at_most)


A100 = Make(RooflineCostModel, MODELS["llama-3.1-8b"], GPUS["a100-80gb"])

QUESTIONS = (
    question(LINEAR, 64 / 1024, (8, 5, 0), 100),
    question(LINEAR, 64.5 / 1024, (8, 5, 0), 50),
    question(LINEAR, 16 / 1024, (16, 5, 7), 100),
    question(QUADRATIC, 96 / 1024, (4, 60, 192), 100),
    question(QUADRATIC, 96 / 1024, (4, 60, 0), 100),
    question(MOVING, 64 / 1024, (4, 252, 128), 100),
    question(MOVING, 64 / 1024, (0, 0, 128), 100),
    question(MOVING, 44 / 1024, (4, 252, 128), 100),
    question(IN_TILES, 8 / 128, (3, 7, 40), 100),
    question(CONSTANT, 16 / 1024, (3, 9, 9), 77),
    question(QUADRATIC, 0.5, (2, 10, 0)),
    question(LINEAR, 20 / 1024, (3, 9, 9), 1),
    Call(A100, 0.05, 64, 1500, 8000),
    Call(A100, 0.025, 64, 1500, 8000),
)
REFUSED = (
    question(LINEAR, 15 / 1024, (3, 9, 9), 100),
    question(MOVING, 20 / 1024, (4, 252, 0), 100),
    question(LINEAR, 1.0, (-1, 9, 9), 100),
    question(LINEAR, 1.0, (3, -1, 9), 100),
    question(LINEAR, 1.0, (3, 9, -1), 100),
    question(LINEAR, 1.0, (3, 9, 9), 0),
    question(LINEAR, 1.0, (0, -1, 9), 100),
)


def metered_questions(seed: int) -> Iterator[Metered]:
    """Return questions whose cost models are counted."""
    shift = seed % 7
    for formula, target, at_most in (
        (LINEAR, (40 + shift) / 1024, 256),
        (QUADRATIC, (200 + shift) / 1024, 512),
        (MOVING, (900 + shift) / 1024, 1024),
        (CONSTANT, 16 / 1024, 700),
        (LINEAR, 16 / 1024, 600),
    ):
        call = question(formula, target, (4, 8, 16), at_most)
        allowed = 2 * math.log2(at_most)
        yield Metered(call, call.args[0].function, allowed=allowed)


def _decodes_of(cost_model: CostModel, target: float, batch: tuple[int, ...], at_most: int) -> Rows:
    """Return the rows that decode; refuse what is to be refused."""
    num_decodes, context, _ = batch
    decodes = [(1, context)] * num_decodes
    if min(batch) < 0 or at_most < 1 or _seconds(cost_model, decodes) > target:
        raise ValueError("out of range")
    return decodes


def _seconds(cost_model: CostModel, rows: Rows) -> float:
    return cost_model.seconds(IterationWork.of_batch(rows))


def _bisected(is_enough: Callable[[int], bool], at_most: int) -> int:
    """Return the longest chunk that is enough, from 0."""
    enough, too_long = 0, at_most + 1
    while too_long - enough > 1:
        chunk = (enough + too_long) // 2
        enough, too_long = (chunk, too_long) if is_enough(chunk) else (enough, chunk)
    return enough


def _answer(
    rows: Callable[[int, int, int, int], Rows] = (
        lambda chunk, n, context, cached: [(1, context)] * n + [(chunk, cached)]
    ),
    result: Callable[[int, int, int], int] = lambda n, chunk, at_most: n + chunk,
    meets: Callable[[float, float], bool] = lambda seconds, target: seconds <= target,
) -> Callable[..., int]:
    """Make an answer from the batch that it asks for, what it returns, and what it calls enough."""

    def budget(cost_model: CostModel, target: float, *batch: int, at_most: int = AT_MOST) -> int:
        _decodes_of(cost_model, target, batch, at_most)
        num_decodes, context, cached = batch

        def is_enough(chunk: int) -> bool:
            asked = rows(chunk, num_decodes, context, cached)
            return meets(_seconds(cost_model, asked), target)

        return result(num_decodes, _bisected(is_enough, at_most), at_most)

    return budget


def by_a_straight_line(
    cost_model: CostModel, target: float, *batch: int, at_most: int = AT_MOST
) -> int:
    """Divide what is left of the target by what one token more takes."""
    decodes = _decodes_of(cost_model, target, batch, at_most)
    alone = _seconds(cost_model, decodes)
    more = _seconds(cost_model, [*decodes, (1, batch[2])]) - alone
    chunk = min(at_most, int((target - alone) / more)) if more > 0 else at_most
    return len(decodes) + chunk


def the_target_is_too_long(
    cost_model: CostModel, target: float, *batch: int, at_most: int = AT_MOST
) -> int:
    """Refuse decodes that take just the target, and every chunk that does."""
    if _seconds(cost_model, _decodes_of(cost_model, target, batch, at_most)) >= target:
        raise ValueError("too long")
    below = _answer(meets=lambda seconds, target: seconds < target)
    return below(cost_model, target, *batch, at_most=at_most)


def an_empty_chunk_is_read(
    cost_model: CostModel, target: float, *batch: int, at_most: int = AT_MOST
) -> int:
    """Ask for the decodes beside a chunk of no tokens, whose cached ones count."""
    decodes = _decodes_of(cost_model, target, batch, at_most)
    num_decodes, context, cached = batch
    if _seconds(cost_model, [*decodes, (0, cached)]) > target:
        raise ValueError("too long")
    return token_budget(cost_model, target, num_decodes, context, cached, at_most)


def never_refused(cost_model: CostModel, target: float, *batch: int, at_most: int = AT_MOST) -> int:
    """Return the decodes where they alone take too long."""
    num_decodes, context, cached = batch
    try:
        return token_budget(cost_model, target, num_decodes, context, cached, at_most)
    except ValueError:
        return max(0, num_decodes)


MISTAKES = (
    Misconception(
        "the chunk for the budget",
        "A token of the budget goes to each of the decodes: they count, beside the chunk.",
        _answer(result=lambda n, chunk, at_most: chunk),
    ),
    Misconception(
        "the late chunk forgotten",
        "A chunk behind many cached tokens attends to all of them, and reads their keys: it takes "
        "longer than the first one.",
        _answer(rows=lambda chunk, n, context, cached: [(1, context)] * n + [(chunk, 0)]),
    ),
    Misconception(
        "the chunk alone",
        "The decodes are in the same iteration, and take their part of it.",
        _answer(rows=lambda chunk, n, context, cached: [(chunk, cached)]),
    ),
    Misconception(
        "decodes without a context",
        "A decode reads the keys and values of its whole context.",
        _answer(rows=lambda chunk, n, context, cached: [(1, 0)] * n + [(chunk, cached)]),
    ),
    Misconception(
        "strictly below the target",
        "The iteration may take the target, and no longer: at most.",
        _answer(meets=lambda seconds, target: seconds < target),
    ),
    Misconception(
        "the target is too long",
        "The iteration may take the target, and no longer: so may the decodes alone.",
        the_target_is_too_long,
    ),
    Misconception(
        "one too many",
        "Of the two ends of what is left, the lower one is the longest chunk that is in time.",
        _answer(result=lambda n, chunk, at_most: n + min(chunk + 1, at_most)),
    ),
    Misconception(
        "at_most for all",
        "at_most is the longest chunk; the budget has the decodes on top.",
        _answer(result=lambda n, chunk, at_most: min(n + chunk, at_most)),
    ),
    Misconception(
        "at_most is never tried",
        "A chunk of at_most is allowed, and may be in time: the first that is too long for certain "
        "is at_most + 1.",
        _answer(result=lambda n, chunk, at_most: n + min(chunk, at_most - 1)),
    ),
    Misconception(
        "an empty chunk is read",
        "A chunk of no tokens reads nothing, but the row (0, cached) counts all that is cached of "
        "its prompt: without a chunk, leave the row out.",
        an_empty_chunk_is_read,
    ),
    Misconception(
        "by a straight line",
        "What one token more takes differs along the way: nothing in the free seats, then more and "
        "more as the chunk attends to itself. Try chunks instead.",
        by_a_straight_line,
    ),
    Misconception(
        "nothing is refused",
        "Where the decodes alone take longer than the target, or a number is out of range, there "
        "is no such budget: a ValueError.",
        never_refused,
    ),
)


def one_by_one(cost_model: CostModel, target: float, *batch: int, at_most: int = AT_MOST) -> int:
    """Right, and slow: lengthen the chunk by one token at a time."""
    decodes, chunk = _decodes_of(cost_model, target, batch, at_most), 0
    while chunk < at_most:
        if _seconds(cost_model, [*decodes, (chunk + 1, batch[2])]) > target:
            break
        chunk += 1
    return len(decodes) + chunk


def from_the_top(cost_model: CostModel, target: float, *batch: int, at_most: int = AT_MOST) -> int:
    """Right, and slow: shorten the chunk by one token at a time."""
    decodes = _decodes_of(cost_model, target, batch, at_most)
    for chunk in range(at_most, 0, -1):
        if _seconds(cost_model, [*decodes, (chunk, batch[2])]) <= target:
            return len(decodes) + chunk
    return len(decodes)


SLOW = (
    Misconception(
        "longer by one token",
        "Each time asked is an iteration of a GPU, or of a model of it. A longer chunk is never "
        "faster: halve what is left.",
        one_by_one,
    ),
    Misconception(
        "shorter by one token",
        "Each time asked is an iteration of a GPU, or of a model of it. A chunk that is too long "
        "rules out all longer ones: halve what is left.",
        from_the_top,
    ),
)
