"""Requests for an engine to serve, as a seed draws them: no two runs of the grader are alike."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from course_lib.engine.driven import DrivenRequest

_FIRST_TOKEN, _END_OF_TOKENS = 8, 2048
"""course-tiny's tokens, but for those with a meaning of their own."""

_MANY = 24
"""Requests of a mix: a run takes about 50 steps, a third of a second."""

_QUEUE = 3_000
"""Requests that wait at once: with so many, what grows with the square of them shows."""


@dataclass(frozen=True)
class Mix:
    """Requests, and the engine that they are for.

    Attributes:
        says: What is special about it, for a person.
        requests: The requests; they arrive together.
        options: Options of ``LLM``.
    """

    says: str
    requests: tuple[DrivenRequest, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def most_steps(self) -> int:
        """Steps after which nobody believes in an end any more.

        Within them even an engine ends that computes one token in a step, the prompt anew for each
        answer, and all of it twice.

        >>> Mix("two answers of 3 tokens to one prompt", (DrivenRequest([5, 6], 3, 2),)).most_steps
        20
        """
        return 2 * sum(each.n * (len(each.prompt) + each.max_tokens) for each in self.requests)

    def as_data(self) -> list[tuple[list[int], int, int]]:
        """Return the requests as plain data."""
        return [(each.prompt, each.max_tokens, each.n) for each in self.requests]


def many(seed: int) -> Mix:
    """Return 24 requests, two thirds of them with one of two long prefixes, and room for half.

    >>> len(many(1).requests), many(1).says
    (24, '24 requests, prefixes in common')
    >>> many(1) == many(1), many(1) == many(2)
    (True, False)
    """
    draw = random.Random(f"many {seed}")
    common = [_tokens(draw, 32), _tokens(draw, 24), []]
    requests = [
        DrivenRequest(
            [*common[number % 3], *_tokens(draw, draw.randint(4, 20))],
            draw.randint(10, 18),
            2 if number in (0, 4, 13) else 1,
        )
        for number in range(_MANY)
    ]
    options = {
        "num_blocks": 61,
        "block_size": 8,
        "max_num_batched_tokens": 48,
        "max_num_seqs": 10,
    }
    return Mix(f"{_MANY} requests, prefixes in common", tuple(requests), options)


def tight(seed: int) -> tuple[Mix, ...]:
    """Return a few requests for engines with hardly any room, in chunks, in several ways.

    >>> [mix.says for mix in tight(1)]
    ['chunks of 5 tokens, prefixes found, victims computed again', 'victims swapped out']
    """
    draw = random.Random(f"tight {seed}")
    common = _tokens(draw, 10)
    requests = [
        DrivenRequest(
            [*(common if number % 2 else []), *_tokens(draw, draw.randint(1, 13))],
            draw.randint(6, 14),
            2 if number in (0, 4) else 1,
        )
        for number in range(8)
    ]
    small: dict[str, Any] = {
        "num_blocks": 17,
        "block_size": 4,
        "max_num_batched_tokens": 12,
        "max_num_seqs": 5,
    }
    # The first prompt is cut at a threshold, and in the same step the one behind it gets a token.
    cut = {**small, "long_prefill_token_threshold": 5}
    in_front = (DrivenRequest(_tokens(draw, 20), 8, 1), DrivenRequest(_tokens(draw, 3), 8, 1))
    swapping = {**small, "enable_prefix_caching": False, "num_cpu_blocks": 40}
    swapping |= {"preemption_mode": "swap", "max_num_batched_tokens": 24}
    return (
        Mix(
            "chunks of 5 tokens, prefixes found, victims computed again",
            (*in_front, *requests[: -len(in_front)]),
            cut,
        ),
        Mix("victims swapped out", tuple(requests), swapping),
    )


def queue(seed: int) -> list[int]:
    """Return the lengths of many prompts that wait at once, in tokens."""
    draw = random.Random(f"queue {seed}")
    return [draw.randint(1, 6) for _ in range(_QUEUE)]


def _tokens(draw: random.Random, length: int) -> list[int]:
    return [draw.randrange(_FIRST_TOKEN, _END_OF_TOKENS) for _ in range(length)]
