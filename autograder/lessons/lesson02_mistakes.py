"""Lesson 2: the wrong answers that people are known to give to softmax and its state."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from autograder.checks.finding import Misconception
from course_lib.attention.dense import (
    SoftmaxState,
    partial_attention,
    require_heads,
    widened,
)

# 2.1


def no_maximum(scores: Tensor) -> Tensor:
    """Exponentiate the scores as they are."""
    weights = scores.exp()
    return weights / weights.sum(dim=-1, keepdim=True)


def one_maximum(scores: Tensor) -> Tensor:
    """Subtract the largest of all scores."""
    weights = (scores - scores.max()).exp()
    return weights / weights.sum(dim=-1, keepdim=True)


def over_everything(scores: Tensor) -> Tensor:
    """Divide by the sum of all weights."""
    weights = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return weights / weights.sum()


def first_dimension(scores: Tensor) -> Tensor:
    """Normalise columns."""
    weights = (scores - scores.amax(dim=0, keepdim=True)).exp()
    return weights / weights.sum(dim=0, keepdim=True)


def smallest_for_largest(scores: Tensor) -> Tensor:
    """Subtract the smallest score of a row."""
    weights = (scores - scores.amin(dim=-1, keepdim=True)).exp()
    return weights / weights.sum(dim=-1, keepdim=True)


def logarithm_of_the_sum(scores: Tensor) -> Tensor:
    """Subtract the logarithm of the sum of weights, which is as large as the scores."""
    return (scores - scores.logsumexp(dim=-1, keepdim=True)).exp()


SOFTMAX = (
    Misconception(
        "no maximum",
        "exp(1000) is infinite, and infinity over infinity is no number: subtract the largest "
        "score of the row before you exponentiate.",
        no_maximum,
    ),
    Misconception(
        "one maximum for all rows",
        "A row whose scores are all far below the largest of the tensor has only weights of 0 "
        "left, and 0 / 0 is no number. Each row has its own maximum.",
        one_maximum,
    ),
    Misconception(
        "normalised over everything",
        "The weights of each row add to 1, not those of the whole tensor.",
        over_everything,
    ),
    Misconception(
        "the first dimension",
        "Rows run along the last dimension, dim=-1: it is there that the weights add to 1.",
        first_dimension,
    ),
    Misconception(
        "the smallest for the largest",
        "With the smallest subtracted no exponent is negative, and the largest overflows as "
        "before.",
        smallest_for_largest,
    ),
    Misconception(
        "the logarithm of the sum",
        "It does not overflow, but the logarithm is rounded to the size of the scores: at 10,000 a "
        "float32 has three digits left behind the point. Subtract the largest score, and divide.",
        logarithm_of_the_sum,
    ),
)

# 2.2

_Grouping = Callable[[Tensor, int], Tensor]


def _in_groups(query: Tensor, kv_heads: int) -> Tensor:
    grouped: Tensor = query.unflatten(0, (kv_heads, -1))
    return grouped


def _state(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float | None,
    regroup: _Grouping = _in_groups,
) -> SoftmaxState:
    """Return the state, with the query heads grouped in some way."""
    require_heads(query[None], key, value)
    if len(key) == 0:
        raise ValueError("no keys")
    whole = regroup(query, key.shape[1]).flatten(0, 1)
    return partial_attention(whole, key, value, scale)


def dealt_in_turn(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None
) -> SoftmaxState:
    """Let head h read KV head h % (number of KV heads)."""
    kv_heads = key.shape[1]
    dealt = _state(query, key, value, scale, lambda q, kv: q.unflatten(0, (-1, kv)).transpose(0, 1))
    return SoftmaxState(
        *(
            each.unflatten(0, (kv_heads, -1)).transpose(0, 1).flatten(0, 1)
            for each in (dealt.max_score, dealt.denominator, dealt.numerator)
        )
    )


def left_in_turn(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None
) -> SoftmaxState:
    """Let head h read KV head h % (number of KV heads), and leave the heads in that order."""
    return _state(query, key, value, scale, lambda q, kv: q.unflatten(0, (-1, kv)).transpose(0, 1))


def divided_already(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None
) -> SoftmaxState:
    """Leave the output in the place of the numerator."""
    state = _state(query, key, value, scale)
    return SoftmaxState(state.max_score, state.denominator, state.output())


def output_over_one(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None
) -> SoftmaxState:
    """Leave the output, and 1 in the place of the sum of weights."""
    state = _state(query, key, value, scale)
    return SoftmaxState(state.max_score, torch.ones_like(state.denominator), state.output())


def relative_to_0(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None
) -> SoftmaxState:
    """Sum exp(s), not exp(s - m)."""
    state = _state(query, key, value, scale)
    factor = state.max_score.exp()
    sums = state.denominator * factor, state.numerator * factor[:, None]
    return SoftmaxState(state.max_score, *sums)


def no_maximum_below_0(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None
) -> SoftmaxState:
    """Take 0 for m where all scores are below it."""
    state = _state(query, key, value, scale)
    max_score = state.max_score.clamp(min=0)
    factor = (state.max_score - max_score).exp()
    return SoftmaxState(max_score, state.denominator * factor, state.numerator * factor[:, None])


def one_maximum_for_all_heads(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None
) -> SoftmaxState:
    """Take the largest score of all heads for m."""
    state = _state(query, key, value, scale)
    largest = state.max_score.max().expand_as(state.max_score).clone()
    factor = (state.max_score - largest).exp()
    return SoftmaxState(largest, state.denominator * factor, state.numerator * factor[:, None])


def not_scaled(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None
) -> SoftmaxState:
    """Multiply the scores by nothing where no scale is given."""
    return _state(query, key, value, 1.0 if scale is None else scale)


def scale_ignored(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None
) -> SoftmaxState:
    """Take 1/sqrt(head_dim) whatever scale is given."""
    return _state(query, key, value, None)


def none_for_0(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None
) -> SoftmaxState:
    """Take a scale of 0 for none."""
    return _state(query, key, value, scale or None)


def over_head_dim(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None
) -> SoftmaxState:
    """Divide by head_dim, without the root."""
    return _state(query, key, value, 1 / query.shape[-1] if scale is None else scale)


def not_widened(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None
) -> SoftmaxState:
    """Compute in the type of the query."""
    require_heads(query[None], key, value)
    if len(key) == 0:
        raise ValueError("no keys")
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = torch.einsum("kgd,nkd->kgn", _in_groups(query, key.shape[1]), key) * scale
    max_score = scores.amax(dim=-1)
    weights = (scores - max_score[..., None]).exp()
    numerator = torch.einsum("kgn,nkd->kgd", weights, value)
    return SoftmaxState(max_score.flatten(), weights.sum(dim=-1).flatten(), numerator.flatten(0, 1))


def in_32_bits(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None
) -> SoftmaxState:
    """Compute in float32 whatever the type of the query, and widen the result."""
    state = partial_attention(query.float(), key.float(), value.float(), scale)
    return SoftmaxState(*(each.to(widened(query).dtype) for each in vars(state).values()))


PARTIAL = (
    Misconception(
        "heads dealt in turn",
        "Neighbouring query heads share a KV head: head h reads KV head h // group, not h modulo "
        "the number of KV heads.",
        dealt_in_turn,
    ),
    Misconception(
        "heads dealt in turn, and left so",
        "Neighbouring query heads share a KV head: head h reads KV head h // group. So the query "
        "unflattens to (KV heads, group), and the heads come out in the order they came in.",
        left_in_turn,
    ),
    Misconception(
        "divided already",
        "The numerator is the sum of the weighted values, not yet divided by the sum of the "
        "weights: an average cannot be merged with another one.",
        divided_already,
    ),
    Misconception(
        "an output with weight 1",
        "With the sum of the weights replaced by 1, nobody can tell how much these keys weigh "
        "against others.",
        output_over_one,
    ),
    Misconception(
        "relative to 0",
        "The sums are of exp(s - m), not of exp(s), which overflows for scores of 89 and more.",
        relative_to_0,
    ),
    Misconception(
        "no maximum below 0",
        "The largest score may be far below 0: relative to 0 all weights would vanish. Only the "
        "scores decide.",
        no_maximum_below_0,
    ),
    Misconception(
        "one maximum for all heads",
        "Each query head is a row by itself. Relative to another head's maximum its weights may "
        "all become 0.",
        one_maximum_for_all_heads,
    ),
    Misconception(
        "not scaled",
        "Where no scale is given, scores are multiplied by 1 / sqrt(head_dim).",
        not_scaled,
    ),
    Misconception(
        "the given scale is ignored",
        "1 / sqrt(head_dim) is only for the case that no scale is given.",
        scale_ignored,
    ),
    Misconception(
        "a scale of 0 taken for none",
        "A scale of 0 is a scale that is given: ask whether it is None, not whether it is 0.",
        none_for_0,
        evidence=r"scale or |if scale:|if not scale|if scale else",
    ),
    Misconception(
        "divided by head_dim",
        "The scale is one over the square root of head_dim: a dot product of head_dim random "
        "numbers grows like that.",
        over_head_dim,
    ),
    Misconception(
        "computed in 16 bits",
        "A float16 number has 11 significant bits, so a sum of many weights loses the small ones. "
        "Widen query, keys and values first.",
        not_widened,
    ),
    Misconception(
        "computed in 32 bits",
        "A float64 has 53 significant bits, a float32 only 24: a query in float64 asks for sums in "
        "float64, and what was rounded before does not come back.",
        in_32_bits,
    ),
)
