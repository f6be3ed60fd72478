"""Lesson 11: its bug hunt. A prompt in chunks, whose keys are read before they are written."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from autograder.checks.finding import Misconception
from autograder.checks.function import Call
from course_lib.attention.dense import dense_attention

# What the lesson shows


def suspect_prefill(
    query: Tensor, key: Tensor, value: Tensor, chunk: int, key_cache: Tensor, value_cache: Tensor
) -> Tensor:
    """Return the causal attention of a prompt that is computed chunk by chunk.

    Args:
        query: [num_tokens, num_heads, head_dim].
        key: The shape of `query`.
        value: The shape of `query`.
        chunk: Tokens of a chunk, at least 1; the last one may have fewer.
        key_cache: The shape of `key`, written in place: a chunk's keys before it attends.
        value_cache: The shape of `value`, likewise.
    """
    num_tokens = len(query)
    rows = []
    for start in range(0, num_tokens, chunk):
        end = min(start + chunk, num_tokens)
        key_cache[start:end] = key[start:end]
        value_cache[start:end] = value[start:end]
        keys, values = key_cache[:num_tokens], value_cache[:num_tokens]
        rows.append(dense_attention(query[start:end], keys, values))
    return torch.cat(rows)


def prefill_in_chunks(
    query: Tensor, key: Tensor, value: Tensor, chunk: int, key_cache: Tensor, value_cache: Tensor
) -> Tensor:
    """Return what the suspect should return."""
    rows = []
    for start in range(0, len(query), chunk):
        end = min(start + chunk, len(query))
        key_cache[start:end] = key[start:end]
        value_cache[start:end] = value[start:end]
        rows.append(dense_attention(query[start:end], key_cache[:end], value_cache[:end]))
    return torch.cat(rows)


def mend_a(
    query: Tensor, key: Tensor, value: Tensor, chunk: int, key_cache: Tensor, value_cache: Tensor
) -> Tensor:
    """Fix A: the memory is zeroed first."""
    key_cache.zero_()
    value_cache.zero_()
    return suspect_prefill(query, key, value, chunk, key_cache, value_cache)


def mend_b(
    query: Tensor, key: Tensor, value: Tensor, chunk: int, key_cache: Tensor, value_cache: Tensor
) -> Tensor:
    """Fix B: a chunk attends to the keys of its own."""
    rows = []
    for start in range(0, len(query), chunk):
        end = min(start + chunk, len(query))
        key_cache[start:end] = key[start:end]
        value_cache[start:end] = value[start:end]
        keys, values = key_cache[start:end], value_cache[start:end]
        rows.append(dense_attention(query[start:end], keys, values))
    return torch.cat(rows)


# 11.7a

_KEYS = ("num_tokens", "chunk", "token")


def exposing_prompt() -> dict[str, int]:
    """Return a prompt, a chunk and a token that the suspect gets wrong."""
    return {"num_tokens": 5, "chunk": 2, "token": 0}


def exposes(_: Any, got: Any) -> str | None:
    """Agree on any token in front of the last chunk of a prompt that is cut."""
    problem = _problem_with(got)
    if problem:
        return problem
    num_tokens, chunk, token = (got[name] for name in _KEYS)
    if chunk >= num_tokens:
        return "the prompt fits into one chunk, and the suspect is right"
    if token >= _last_start(num_tokens, chunk):
        return "this token is in the last chunk, whose keys are all written: its row is right"
    return None


def fails_alike(wrong: Any, got: Any) -> str | None:
    """Agree on prompts that fail to expose the suspect for the same reason."""
    if _problem_with(got):
        return ""
    return None if exposes(None, wrong) == exposes(None, got) else ""


def _last_start(num_tokens: int, chunk: int) -> int:
    return (num_tokens - 1) // chunk * chunk


def _problem_with(prompt: Any) -> str:
    """Say why this is no prompt; "" if it is one."""
    if not isinstance(prompt, dict) or not set(_KEYS) <= prompt.keys():
        return "it needs the keys 'num_tokens', 'chunk' and 'token'"
    for name in _KEYS:
        if type(prompt[name]) is not int:
            return f"{name} is {prompt[name]!r}; it is a whole number"
    if prompt["num_tokens"] < 1 or prompt["chunk"] < 1:
        return "a prompt and a chunk have at least 1 token"
    if not 0 <= prompt["token"] < prompt["num_tokens"]:
        return f"tokens are counted from 0 to {prompt['num_tokens'] - 1} in this prompt"
    return ""


EXPOSED = (
    Misconception(
        "a prompt of one chunk",
        "Then the end of the chunk is the end of the prompt, and all keys are written.",
        {"num_tokens": 5, "chunk": 8, "token": 0},
    ),
    Misconception(
        "a token of the last chunk",
        "When the last chunk attends, all keys of the prompt are written. Look further in front.",
        {"num_tokens": 5, "chunk": 2, "token": 4},
    ),
)

# 11.7b


def _prompt(num_tokens: int, chunk: int, sizes: tuple[int, int], fill: float) -> Call:
    """Return a call with random numbers; ``sizes`` is heads and head_dim."""
    generator = torch.Generator().manual_seed(num_tokens)
    drawn = torch.randn(3, num_tokens, *sizes, generator=generator)
    return Call(*drawn, chunk, *torch.full((2, num_tokens, *sizes), fill))


def of_the_text(fill: float) -> Call:
    """Return the call on values 1 to 5, queries and keys of 0, and chunks of 2."""
    value = torch.arange(1.0, 6.0)[:, None, None]
    nothing = torch.zeros(5, 1, 1)
    return Call(nothing, nothing, value, 2, *torch.full((2, 5, 1, 1), fill))


@st.composite
def prompts(draw: st.DrawFn) -> Call:
    """Draw a prompt, a chunk, and what was in the memory before."""
    sizes = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    fill = draw(st.sampled_from((torch.nan, 0.0, 1000.0)))
    return _prompt(draw(st.integers(1, 7)), draw(st.integers(1, 4)), sizes, fill)


PROMPTS = (
    of_the_text(torch.nan),
    of_the_text(0.0),
    of_the_text(9.0),
    _prompt(4, 2, (2, 3), torch.nan),
    _prompt(7, 3, (1, 2), 0.0),
    _prompt(3, 8, (1, 2), torch.nan),
    _prompt(5, 1, (2, 2), torch.nan),
)


def first_keys_for_all(
    query: Tensor, key: Tensor, value: Tensor, chunk: int, key_cache: Tensor, value_cache: Tensor
) -> Tensor:
    """Let row i of each chunk see the first i + 1 keys."""
    prefill_in_chunks(query, key, value, chunk, key_cache, value_cache)
    rows = [
        dense_attention(query[row : row + 1], key[: row % chunk + 1], value[: row % chunk + 1])
        for row in range(len(query))
    ]
    return torch.cat(rows)


def up_to_the_start(
    query: Tensor, key: Tensor, value: Tensor, chunk: int, key_cache: Tensor, value_cache: Tensor
) -> Tensor:
    """Let all rows of a chunk see what is in front of it, and the first chunk itself."""
    prefill_in_chunks(query, key, value, chunk, key_cache, value_cache)
    rows = []
    for start in range(0, len(query), chunk):
        for row in range(start, min(start + chunk, len(query))):
            last = start or row + 1
            rows.append(dense_attention(query[row : row + 1], key[:last], value[:last]))
    return torch.cat(rows)


MENDED = (
    Misconception(
        "all keys of the prompt",
        "The queries are taken for the last tokens of the keys that they are given, and those "
        "behind the chunk are not written yet. Give the keys up to the end of the chunk.",
        suspect_prefill,
    ),
    Misconception(
        "the memory is zeroed",
        "A key of zeros has the score 0, not −∞, so it takes weight from the others: no NaN any "
        "more, and wrong means.",
        mend_a,
    ),
    Misconception(
        "the chunk's own keys",
        "A later chunk sees everything in front of it, too: keys from 0 to the end of the chunk.",
        mend_b,
    ),
    Misconception(
        "the mask from the top left",
        "Row i of a chunk sees what is in front of the chunk and i + 1 keys of it, not the first i "
        "+ 1 keys of the prompt.",
        first_keys_for_all,
    ),
    Misconception(
        "up to the start of the chunk",
        "A chunk's own keys are written before it attends, and each of its tokens sees its own.",
        up_to_the_start,
    ),
)
