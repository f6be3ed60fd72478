"""The final project: what its exercises are given."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

from autograder.checks.compare import with_article
from autograder.checks.function import Call, Large
from autograder.proxy.recipes import Make
from autograder.proxy.wire import kind_of
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig


def admission(
    num_tokens: int,
    num_blocks: int,
    size: int,
    budget: int,
    is_chunked: bool,
    longest: int | None,
    num_others: int = 0,
) -> Call:
    """Return the call that asks about a prompt.

    Args:
        num_tokens: Its tokens.
        num_blocks: Blocks of the pool, the null block included.
        size: Tokens per block.
        budget: Tokens of a step.
        is_chunked: Whether prompts may be cut.
        longest: ``max_model_len``; None for what the pool holds.
        num_others: Requests of one token that run already.
    """
    options: dict[str, Any] = {} if longest is None else {"max_model_len": longest}
    config = Make(
        SchedulerConfig,
        max_num_batched_tokens=budget,
        enable_chunked_prefill=is_chunked,
        **options,
    )
    scheduler = Make(Scheduler, config, Make(KVCacheManager, num_blocks, size))
    for number in range(num_others):
        scheduler = scheduler.do("add_request", Make(Request, f"r{number}", [number], 9))
    if num_others:
        scheduler = scheduler.do("schedule")
    return Call(scheduler, Make(Request, "a", Make(range, num_tokens), 9))


ADMISSIONS = (
    admission(60, 5, 16, 2048, True, None),
    admission(64, 5, 16, 2048, True, None),
    admission(65, 5, 16, 2048, True, None),
    admission(81, 5, 16, 2048, True, None),
    admission(40, 5, 16, 16, True, None),
    admission(20, 5, 16, 16, False, None),
    admission(16, 5, 16, 16, False, None),
    admission(13, 5, 16, 2048, True, 12),
    admission(60, 5, 16, 2048, True, None, num_others=2),
    admission(16, 5, 16, 16, False, None, num_others=2),
)
"""At the edges: of the pool, of a step, of the model; and where others hold blocks now."""


LONG_PROMPT = Large(
    lambda: admission(100_000, 5, 16, 2048, True, None, num_others=2),
    "a prompt of 100,000 tokens",
    slow="How many tokens a prompt has need not be counted one by one: the request knows it",
)


@st.composite
def admissions(draw: st.DrawFn) -> Call:
    """Draw a prompt that exceeds at most one limit: of two a reason might name either."""
    num_tokens, num_blocks = draw(st.integers(1, 40)), draw(st.integers(2, 6))
    size, budget = draw(st.sampled_from((4, 16))), draw(st.sampled_from((8, 16, 64)))
    longest = draw(st.sampled_from((None, 12, 100)))
    room = min(size * (num_blocks - 1), longest or num_tokens)
    is_chunked = num_tokens > max(room, budget) or draw(st.booleans())
    return admission(num_tokens, num_blocks, size, budget, is_chunked, longest, draw(_OTHERS))


_OTHERS = st.integers(0, 2)
_MOST_NUMBERS = 8
"""More numbers than that are no reason, but a list in which any two can be found."""
_NUMBER = re.compile(r"\d+(?:[,_]\d{3})*")


def _numbers(reason: str) -> list[str]:
    """Return the whole numbers of a text, without separators.

    >>> _numbers("65 tokens, and the limit is 1,024")
    ['65', '1024']
    """
    return [re.sub("[,_]", "", number) for number in _NUMBER.findall(reason)]


def same_answer(expected: object, got: object) -> str | None:
    """Compare whether both give a reason, with the numbers that say why; its words are free.

    The first two numbers of the expected one are the prompt's tokens and the limit.
    """
    if not isinstance(got, str):
        return f"it is no text but {with_article(kind_of(got))}"
    if bool(expected) != bool(got.strip()):
        return "it can never be computed" if expected else "it can be computed"
    if len(_numbers(got)) > _MOST_NUMBERS:
        return f"it has {len(_numbers(got))} numbers: which are the prompt's tokens and the limit?"
    missing = [each for each in _numbers(str(expected))[:2] if each not in _numbers(got)]
    if not missing:
        return None
    return f"the reason does not name {' and '.join(missing)}: the prompt's tokens, and the limit"
