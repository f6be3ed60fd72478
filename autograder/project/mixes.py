"""Requests for an engine to serve, as a seed draws them: each seed gives others."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from course_lib.engine.driven import DrivenRequest
from course_lib.engine.lively import Client

_FIRST_TOKEN, _END_OF_TOKENS = 8, 2048
"""course-tiny's tokens, but for those with a meaning of their own."""

_MANY = 24
"""Requests of a mix: a run takes about 50 steps, a third of a second."""

_QUEUE = 3_000
"""Requests that wait at once: with so many, what grows with the square of them shows."""

_CLIENTS = 48
"""Clients who come and go: about 50 steps, a tenth of a second, of which the model takes little."""

_STOPS = (" the end.", "ing END"), (" s", " the end."), ("ed", "ing")
"""Stop strings of which none comes, or one that may; all of them begin like what is often said."""


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


@dataclass(frozen=True)
class Bustle:
    """Clients who come and go, and the engine that they come to.

    Attributes:
        clients: The clients.
        successors: What the model says behind each token, by token.
        options: Options of ``LLM``.
    """

    clients: tuple[Client, ...]
    successors: tuple[int, ...]
    options: Mapping[str, Any]

    def as_data(self) -> list[tuple[list[int], int, list[str], int, int]]:
        """Return the clients as plain data."""
        return [
            (each.prompt, each.max_tokens, each.stop, each.leaves_after, each.n)
            for each in self.clients
        ]


def bustle(seed: int) -> Bustle:
    """Return 48 clients, of whom a quarter goes away and an eighth asks for what never fits.

    Another eighth asks for two answers.

    >>> sum(client.leaves_after > 0 for client in bustle(1).clients)
    12
    >>> sum(len(client.prompt) > bustle(1).options["max_model_len"] for client in bustle(1).clients)
    6
    """
    draw = random.Random(f"bustle {seed}")
    behind = list(range(_FIRST_TOKEN, _END_OF_TOKENS))
    draw.shuffle(behind)
    longest = 96
    clients = [
        Client(
            _tokens(draw, longest + 1 if number % 8 == 3 else draw.randint(4, 20)),
            draw.randint(20, 40),
            list(_STOPS[number % len(_STOPS)]),
            draw.randint(6, 12) if number % 4 == 1 else 0,
            2 if number % 8 == 0 else 1,
        )
        for number in range(_CLIENTS)
    ]
    options = {
        "num_blocks": 201,
        "block_size": 8,
        "max_num_batched_tokens": 64,
        "max_num_seqs": 16,
        "max_model_len": longest,
    }
    return Bustle(tuple(clients), (*behind[:_FIRST_TOKEN], *behind), options)


def queue(seed: int) -> list[int]:
    """Return the lengths of many prompts that wait at once, in tokens."""
    draw = random.Random(f"queue {seed}")
    return [draw.randint(1, 6) for _ in range(_QUEUE)]


def _tokens(draw: random.Random, length: int) -> list[int]:
    return [draw.randrange(_FIRST_TOKEN, _END_OF_TOKENS) for _ in range(length)]
