"""Lesson 2: the wrong answers that people are known to give to softmax and its state."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from autograder.checks.finding import Misconception
from course_lib.attention.dense import (
    SoftmaxState,
    merge_states,
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
        "With the smallest subtracted all exponents are positive, and the largest overflows as "
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
        "The sums are of exp(s - m), not of exp(s), which overflows for scores above 88.",
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

# 2.3


def _merged(
    first: SoftmaxState, second: SoftmaxState, max_score: Tensor, factors: tuple[Tensor, Tensor]
) -> SoftmaxState:
    a, b = factors
    return SoftmaxState(
        max_score,
        a * first.denominator + b * second.denominator,
        a[:, None] * first.numerator + b[:, None] * second.numerator,
    )


def _factors(first: SoftmaxState, second: SoftmaxState, max_score: Tensor) -> tuple[Tensor, Tensor]:
    a, b = (
        torch.where(each.max_score == -math.inf, 0.0, (each.max_score - max_score).exp())
        for each in (first, second)
    )
    return a, b


def added_as_they_are(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    """Add sums that are relative to different maxima."""
    return SoftmaxState(
        torch.maximum(first.max_score, second.max_score),
        first.denominator + second.denominator,
        first.numerator + second.numerator,
    )


def mean_of_means(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    """Give both outputs the same weight."""
    outputs = [
        each.numerator / each.denominator.clamp(min=1e-30)[:, None] for each in (first, second)
    ]
    max_score = torch.maximum(first.max_score, second.max_score)
    return SoftmaxState(max_score, torch.full_like(max_score, 2.0), outputs[0] + outputs[1])


def two_empties_are_nan(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    """Subtract minus infinity from itself."""
    max_score = torch.maximum(first.max_score, second.max_score)
    factors = (first.max_score - max_score).exp(), (second.max_score - max_score).exp()
    return _merged(first, second, max_score, factors)


def empty_as_a_whole(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    """Take a state for empty only where none of its heads has seen a key."""
    if bool((first.max_score == -math.inf).all()):
        return second
    if bool((second.max_score == -math.inf).all()):
        return first
    return two_empties_are_nan(first, second)


def nan_swept_away(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    """Subtract minus infinity from itself, and replace NaN in the sums by 0."""
    merged = two_empties_are_nan(first, second)
    return SoftmaxState(
        merged.max_score, merged.denominator.nan_to_num(), merged.numerator.nan_to_num()
    )


def nan_left_out(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    """Subtract minus infinity from itself, and add what is not NaN."""
    max_score = torch.maximum(first.max_score, second.max_score)
    factors = [(each.max_score - max_score).exp() for each in (first, second)]
    denominators = [f * e.denominator for f, e in zip(factors, (first, second), strict=True)]
    numerators = [f[:, None] * e.numerator for f, e in zip(factors, (first, second), strict=True)]
    return SoftmaxState(
        max_score, torch.stack(denominators).nansum(0), torch.stack(numerators).nansum(0)
    )


def upside_down(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    """Multiply by exp(larger maximum - own maximum)."""
    max_score = torch.maximum(first.max_score, second.max_score)
    a, b = (
        torch.where(each.max_score == -math.inf, 0.0, (max_score - each.max_score).exp())
        for each in (first, second)
    )
    return _merged(first, second, max_score, (a, b))


def upside_down_with_empties(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    """Multiply by exp(larger maximum - own maximum), also where that is infinite."""
    max_score = torch.maximum(first.max_score, second.max_score)
    factors = (max_score - first.max_score).exp(), (max_score - second.max_score).exp()
    return _merged(first, second, max_score, factors)


def floor_under_the_maximum(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    """Subtract no maximum that is below some number."""
    max_score = torch.maximum(first.max_score, second.max_score)
    least = max_score.clamp(min=-1e4)
    factors = (first.max_score - least).exp(), (second.max_score - least).exp()
    return _merged(first, second, max_score, factors)


def second_left(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    """Bring the first to the larger maximum, and add the second as it is."""
    max_score = torch.maximum(first.max_score, second.max_score)
    factor, _ = _factors(first, second, max_score)
    return _merged(first, second, max_score, (factor, torch.ones_like(factor)))


def first_left(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    """Bring the second to the larger maximum, and add it to the first as it is."""
    return second_left(second, first)


def only_the_first(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    """Bring the first to the second's maximum, as if that were always the larger one."""
    factor = torch.where(
        first.max_score == -math.inf, 0.0, (first.max_score - second.max_score).exp()
    )
    return _merged(first, second, second.max_score.clone(), (factor, torch.ones_like(factor)))


def only_the_numerator(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    """Leave the sums of weights as they are."""
    right = merge_states(first, second)
    return SoftmaxState(right.max_score, first.denominator + second.denominator, right.numerator)


def only_the_denominator(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    """Leave the sums of weighted values as they are."""
    right = merge_states(first, second)
    return SoftmaxState(right.max_score, right.denominator, first.numerator + second.numerator)


MERGE = (
    Misconception(
        "added as they are",
        "The sums of the two states are relative to different maxima: exp(0) of one is not exp(0) "
        "of the other. Bring both to the larger maximum first.",
        added_as_they_are,
    ),
    Misconception(
        "mean of means",
        "The state whose keys have more weight counts more: add numerators and denominators, each "
        "relative to the same maximum.",
        mean_of_means,
    ),
    Misconception(
        "two empties give NaN",
        "-inf - (-inf) is no number, and times 0 it still is none. Choose the factor, with "
        "torch.where: 0 for a state that has seen nothing, also if the other one is empty, too.",
        two_empties_are_nan,
    ),
    Misconception(
        "empty only as a whole",
        "Each head is a state by itself: one may have seen nothing in both states where another "
        "has. Choose the factor head by head, with torch.where.",
        empty_as_a_whole,
    ),
    Misconception(
        "NaN swept out of the sums",
        "That hides a NaN which a state came with as well, the symptom of a bug elsewhere. The "
        "factor of an empty state is what must not be NaN: choose 0 for it, with torch.where.",
        nan_swept_away,
    ),
    Misconception(
        "NaN left out of the sums",
        "That leaves out a NaN which a state came with as well, the symptom of a bug elsewhere. "
        "The factor of an empty state is what must not be NaN: choose 0 for it, with torch.where.",
        nan_left_out,
    ),
    Misconception(
        "the factor upside down",
        "The sums relative to the smaller maximum are the ones that shrink: the factor is "
        "exp(own maximum - larger maximum), at most 1.",
        upside_down,
    ),
    Misconception(
        "the factor upside down, and infinite",
        "The sums relative to the smaller maximum are the ones that shrink: the factor is exp(own "
        "maximum - larger maximum), at most 1. For a state that has seen nothing it is 0, chosen "
        "with torch.where, since -inf - (-inf) is no number.",
        upside_down_with_empties,
    ),
    Misconception(
        "a floor under the maximum",
        "A maximum may be finite and below any floor: then both factors are 0, and what was seen "
        "is lost. Only -inf stands for nothing seen; choose the factor, with torch.where.",
        floor_under_the_maximum,
    ),
    Misconception(
        "only the first is rescaled",
        "Either state may have the larger maximum. Where it is the first, the second one's sums "
        "shrink.",
        only_the_first,
    ),
    Misconception(
        "the second is left as it is",
        "Where the first state has the larger maximum, the second one's sums have to shrink: "
        "either state gets a factor of its own.",
        second_left,
    ),
    Misconception(
        "the first is left as it is",
        "Where the second state has the larger maximum, the first one's sums have to shrink: "
        "either state gets a factor of its own.",
        first_left,
    ),
    Misconception(
        "the denominator is not rescaled",
        "Both sums of a state are relative to its maximum, so both get the same factor.",
        only_the_numerator,
    ),
    Misconception(
        "the numerator is not rescaled",
        "Both sums of a state are relative to its maximum, so both get the same factor.",
        only_the_denominator,
    ),
)
