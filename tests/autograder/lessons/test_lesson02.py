"""Lesson 2: what its checks say of answers that people give, wrong ones and unusual right ones."""

from __future__ import annotations

import itertools
import math
import random
from functools import reduce

import numpy as np
import pytest
import torch

from autograder import lessons
from autograder.lessons import lesson02_given as given
from autograder.lessons import lesson02_hunt as hunt
from autograder.lessons import lesson02_measure as measure
from autograder.lessons import lesson02_mistakes as mistakes
from course_lib.attention.backends.arguments import check_decode
from course_lib.attention.dense import (
    SoftmaxState,
    dense_attention,
    merge_states,
    partial_attention,
    require_heads,
    softmax,
    widened,
)
from course_lib.attention.paged import attend_blocks, gather, paged_decode
from course_lib.simulation.workload import load_azure, synthetic_azure
from course_lib.specs import GPUS, MODELS
from lesson_answers import (
    SAME,
    examine,
    named,
    right_answers_earn_everything,
    wrong_answers_earn_nothing,
)

# 2.1


def with_numpy(scores):
    numbers = scores.double().numpy()
    weights = np.exp(numbers - numbers.max(axis=-1, keepdims=True))
    return torch.from_numpy(weights / weights.sum(axis=-1, keepdims=True)).to(scores.dtype)


def row_by_row(scores):
    if scores.dim() == 1:
        weights = torch.exp(scores.float() - max(scores.tolist()))
        return (weights / sum(weights.tolist())).to(scores.dtype)
    return torch.stack([row_by_row(row) for row in scores])


def that_writes_to_its_scores(scores):
    scores -= scores.amax(dim=-1, keepdim=True)
    return scores.exp() / scores.exp().sum(dim=-1, keepdim=True)


def not_normalised(scores):
    return (scores - scores.amax(dim=-1, keepdim=True)).exp()


def number_by_number(scores):
    """Be right, and far too slow: a call of PyTorch for each number."""
    rows = scores.reshape(-1, scores.shape[-1])
    weights = torch.empty_like(rows)
    for row, largest in enumerate(rows.amax(dim=-1)):
        for place in range(rows.shape[1]):
            weights[row, place] = (rows[row, place].double() - largest.double()).exp()
    totals = weights.double().sum(dim=-1, keepdim=True)
    return (weights.double() / totals).to(scores.dtype).reshape(scores.shape)


SOFTMAX_RIGHT = (
    lambda scores: torch.softmax(scores, dim=-1),
    lambda scores: (
        (scores.double() - scores.double().logsumexp(-1, keepdim=True)).exp().to(scores.dtype)
    ),
    with_numpy,
    row_by_row,
)
SOFTMAX_WRONG = (
    (lambda s: s.exp() / s.exp().sum(-1, keepdim=True), "no maximum"),
    (lambda s: torch.softmax(s, 0), "the first dimension"),
    (lambda s: (s - torch.logsumexp(s, -1)[..., None]).exp(), "the logarithm of the sum"),
    (lambda s: torch.softmax(s, -1).double(), SAME),
    (lambda s: torch.log_softmax(s, -1), SAME),
    (lambda s: torch.softmax(s.clamp(min=-5), -1), SAME),
    (lambda s: torch.softmax(s.masked_fill(s == -math.inf, -1e9), -1), SAME),
    (not_normalised, SAME),
    (number_by_number, SAME),
    (that_writes_to_its_scores, SAME),
    (lambda s: torch.softmax(s, -1).tolist(), SAME),
    (lambda s: torch.tensor([0.5, 0.5, 0.0]), SAME),
    (object(), SAME),
)

# 2.2


def head_by_head(query, key, value, scale=None):
    require_heads(query[None], key, value)
    if not len(key):
        raise ValueError("no keys")
    group = query.shape[0] // key.shape[1]
    scale = query.shape[1] ** -0.5 if scale is None else scale
    states = []
    for head, asked in enumerate(widened(query)):
        scores = widened(key)[:, head // group] @ asked * scale
        weights = (scores - scores.max()).exp()
        states.append((scores.max(), weights.sum(), weights @ widened(value)[:, head // group]))
    return SoftmaxState(*(torch.stack(list(each)) for each in zip(*states, strict=True)))


def repeated(query, key, value, scale=None):
    require_heads(query[None], key, value)
    if len(key) == 0:
        raise ValueError
    group = len(query) // key.shape[1]
    keys, values = (each.double().repeat_interleave(group, dim=1) for each in (key, value))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query.double()[None] * keys).sum(-1) * scale
    largest = scores.max(0).values
    weights = (scores - largest).exp()
    kind = widened(query).dtype
    numerator = (weights[..., None] * values).sum(0)
    return SoftmaxState(largest.to(kind), weights.sum(0).to(kind), numerator.to(kind))


def key_by_key(query, key, value, scale=None):
    require_heads(query[None], key, value)
    if len(key) == 0:
        raise ValueError("none")
    pairs = zip(key, value, strict=True)
    states = [partial_attention(query, k[None], v[None], scale) for k, v in pairs]
    return reduce(merge_states, states)


def changed(function):
    """Make an answer from what becomes of the right state."""

    def partial_attention_(query, key, value, scale=None):
        return function(partial_attention(query, key, value, scale), query, key, value)

    return partial_attention_


def not_refusing(query, key, value, scale=None):
    if len(key) == 0 or value.shape != key.shape:
        return SoftmaxState.empty(query)
    return partial_attention(query, key, value, scale)


def all_in_float32(state, *_):
    return SoftmaxState(*(each.float() for each in vars(state).values()))


def rounded_to_float32(state, *_):
    return SoftmaxState(*(each.float().to(each.dtype) for each in vars(state).values()))


def scaled_after_the_maximum(query, key, value, scale=None):
    """Scale the largest product of query and key: with a negative scale that is the least score."""
    state = partial_attention(query, key, value, scale)
    group = len(query) // key.shape[1]
    keys = widened(key).repeat_interleave(group, dim=1)
    products = torch.einsum("hd,nhd->hn", widened(query), keys)
    largest = products.amax(dim=1) * (query.shape[1] ** -0.5 if scale is None else scale)
    factor = torch.exp(state.max_score - largest)
    return SoftmaxState(largest, factor * state.denominator, factor[:, None] * state.numerator)


def relative_to_0_at_least(state, *_):
    largest = torch.maximum(state.max_score, torch.tensor(0.0))
    factor = torch.exp(state.max_score - largest)
    return SoftmaxState(largest, factor * state.denominator, factor[:, None] * state.numerator)


def relative_to_a_floor(floor):
    def change(state, *_):
        largest = state.max_score.clamp(min=floor)
        factor = torch.exp(state.max_score - largest)
        return SoftmaxState(largest, factor * state.denominator, factor[:, None] * state.numerator)

    return change


def in_another_order(state, query, key, _):
    """Leave heads that were dealt in turn where that has put them."""
    group = len(query) // key.shape[1]
    places = [head for first in range(group) for head in range(first, len(query), group)]
    return SoftmaxState(*(each[places] for each in vars(state).values()))


def as_groups(state, query, key, _):
    groups = key.shape[1], -1
    return SoftmaxState(*(each.unflatten(0, groups) for each in vars(state).values()))


PARTIAL_RIGHT = (head_by_head, repeated, key_by_key)
PARTIAL_WRONG = (
    (changed(lambda s, *_: (s.max_score, s.denominator, s.numerator)), SAME),
    (changed(lambda s, *_: s.output()), SAME),
    (
        changed(lambda s, *_: SoftmaxState(s.max_score, s.denominator, s.output())),
        "divided already",
    ),
    (changed(as_groups), SAME),
    (changed(relative_to_0_at_least), "no maximum below 0"),
    (changed(relative_to_a_floor(-50)), SAME),
    (changed(relative_to_a_floor(-1e9)), SAME),
    (changed(in_another_order), SAME),
    (
        lambda q, k, v, scale=None: partial_attention(
            q.unflatten(0, (-1, k.shape[1])).transpose(0, 1).flatten(0, 1), k, v, scale
        ),
        "heads dealt in turn, and left so",
    ),
    (lambda q, k, v, scale=None: partial_attention(q, k, v.nan_to_num(), scale), SAME),
    (changed(all_in_float32), SAME),
    (changed(rounded_to_float32), SAME),
    (mistakes.in_32_bits, "computed in 32 bits"),
    (lambda q, k, v, scale=None: partial_attention(q, k.nan_to_num(), v, scale), SAME),
    (scaled_after_the_maximum, SAME),
    (not_refusing, SAME),
    (
        lambda q, k, v, scale=None: partial_attention(q, k, v, scale or q.shape[-1] ** -0.5),
        "a scale of 0 taken for none",
    ),
    (lambda q, k, v, scale=None: partial_attention(q, k[:-1], v[:-1], scale), SAME),
    (lambda q, k, v, scale=None: partial_attention(q, k, v, math.sqrt(q.shape[-1])), SAME),
    (lambda q, k, v, scale=None: partial_attention(q, v, k, scale), SAME),
    (changed(lambda s, q, *_: [q.zero_(), s][1]), SAME),
    (lambda *_: given.state((0.0, 2.0, 6.0, 6.0)), SAME),
    (object(), SAME),
)

# 2.3


def with_logarithms(first, second):
    """Merge by log-sum-exps, as vLLM does."""
    lses = [each.max_score + each.denominator.log() for each in (first, second)]
    total = torch.logaddexp(*lses)
    top = torch.maximum(first.max_score, second.max_score)
    denominator = torch.where(total == -math.inf, 0.0, (total - top).exp())
    numerator = sum(
        (each.max_score - top).exp().nan_to_num(0.0)[:, None] * each.numerator
        for each in (first, second)
    )
    return SoftmaxState(top, denominator, numerator)


def head_after_head(first, second):
    heads = []
    for a, b in zip(
        *(zip(*vars(each).values(), strict=True) for each in (first, second)), strict=True
    ):
        if a[0] == -math.inf:
            heads.append(b)
        elif b[0] == -math.inf:
            heads.append(a)
        else:
            top = max(a[0], b[0])
            shrink = [math.exp(each[0] - top) for each in (a, b)]
            sums = [shrink[0] * a[i] + shrink[1] * b[i] for i in (1, 2)]
            heads.append((top, *sums))
    return SoftmaxState(*(torch.stack(list(each)) for each in zip(*heads, strict=True)))


def that_returns_the_other(first, second):
    if bool((second.max_score == -math.inf).all()):
        return first
    if bool((first.max_score == -math.inf).all()):
        return second
    return merge_states(first, second)


def that_writes_into_the_first(first, second):
    merged = merge_states(first, second)
    for name, number in vars(merged).items():
        getattr(first, name).copy_(number)
    return first


def empty_by_the_whole(first, second):
    """Treat a state as empty only if all of its heads are."""
    if bool((first.max_score == -math.inf).all()):
        return second
    if bool((second.max_score == -math.inf).all()):
        return first
    top = torch.maximum(first.max_score, second.max_score)
    a, b = ((each.max_score - top).exp() for each in (first, second))
    return SoftmaxState(
        top,
        a * first.denominator + b * second.denominator,
        a[:, None] * first.numerator + b[:, None] * second.numerator,
    )


def as_they_come_and_swept(sweep):
    """Make an answer from what becomes of the sums with factors that may be NaN."""

    def merge_states_(first, second):
        top = torch.maximum(first.max_score, second.max_score)
        a, b = ((each.max_score - top).exp() for each in (first, second))
        return SoftmaxState(
            top,
            sweep(a * first.denominator + b * second.denominator),
            sweep(a[:, None] * first.numerator + b[:, None] * second.numerator),
        )

    return merge_states_


def without_nan(first, second):
    """Add what is not NaN."""
    top = torch.maximum(first.max_score, second.max_score)
    pairs = [((each.max_score - top).exp(), each) for each in (first, second)]
    return SoftmaxState(
        top,
        torch.stack([factor * each.denominator for factor, each in pairs]).nansum(0),
        torch.stack([factor[:, None] * each.numerator for factor, each in pairs]).nansum(0),
    )


def with_a_large_number_for_infinity(first, second):
    """Clamp maxima at -1e30: the empty state comes back as another one."""
    clamped = [
        SoftmaxState(each.max_score.clamp(min=-1e30), each.denominator, each.numerator)
        for each in (first, second)
    ]
    return merge_states(*clamped)


def by_factors(factors, largest=torch.maximum, times=torch.mul):
    """Make an answer from its factors, its maximum, and how it multiplies.

    Args:
        factors: Makes a factor from a state's maximum and the larger one.
        largest: Takes the larger of two maxima.
        times: Multiplies a factor and a sum.
    """

    def merge_states_(first, second):
        top = largest(first.max_score, second.max_score)
        a, b = (factors(each.max_score, top) for each in (first, second))
        return SoftmaxState(
            top,
            times(a, first.denominator) + times(b, second.denominator),
            times(a[:, None], first.numerator) + times(b[:, None], second.numerator),
        )

    return merge_states_


def guarded(own, top):
    return torch.where(own == -math.inf, 0.0, (own - top).exp())


def over_a_floor(floor):
    return by_factors(lambda own, top: (own - top.clamp(min=floor)).exp())


def nan_taken_for_empty(own, top):
    return torch.where(own.isfinite(), (own - top).exp(), 0.0)


def none_times_anything_is_none(factor, sums):
    return torch.where(factor > 0, factor * sums, 0.0)


def small_ones_dropped(own, top):
    factor = guarded(own, top)
    return torch.where(factor < 1e-4, 0.0, factor)


MERGE_RIGHT = (
    with_logarithms,
    head_after_head,
    that_returns_the_other,
    by_factors(guarded, largest=torch.fmax),  # a NaN shows in the sums
    by_factors(nan_taken_for_empty),  # likewise
)


def no_smaller_than_e_to_the_minus_20(own, top):
    return torch.where(own == -math.inf, 0.0, torch.exp((own - top).clamp(min=-20)))


def the_other_way_round(first, second):
    """Take exp(larger maximum - own maximum) for the factor."""
    top = torch.maximum(first.max_score, second.max_score)
    factors = [
        torch.where(each.max_score.isinf(), 0.0, (top - each.max_score).exp())
        for each in (first, second)
    ]
    sums = [
        sum(
            factor.reshape(-1, *[1] * (getattr(each, name).dim() - 1)) * getattr(each, name)
            for factor, each in zip(factors, (first, second), strict=True)
        )
        for name in ("denominator", "numerator")
    ]
    return SoftmaxState(top, *sums)


MERGE_WRONG = (
    (the_other_way_round, "the factor upside down"),
    (by_factors(lambda own, top: (top - own).exp()), "the factor upside down, and infinite"),
    (over_a_floor(-10), "a floor under the maximum"),
    (by_factors(no_smaller_than_e_to_the_minus_20), SAME),
    (lambda a, b: rounded_to_float32(merge_states(a, b)), SAME),
    (over_a_floor(-1e9), "a floor under the maximum"),
    (by_factors(nan_taken_for_empty, largest=torch.fmax), SAME),
    (by_factors(guarded, times=none_times_anything_is_none), SAME),
    (by_factors(small_ones_dropped), SAME),
    (that_writes_into_the_first, SAME),
    (empty_by_the_whole, "empty only as a whole"),
    (as_they_come_and_swept(torch.nan_to_num), "NaN swept out of the sums"),
    (as_they_come_and_swept(lambda n: torch.where(n.isnan(), 0, n)), "NaN swept out of the sums"),
    (without_nan, "NaN left out of the sums"),
    (with_a_large_number_for_infinity, SAME),
    (lambda a, b: vars(merge_states(a, b)), SAME),
    (lambda a, b: merge_states(a, b).output(), SAME),
    (lambda a, b: a if a.max_score.max() > b.max_score.max() else b, SAME),
    (lambda a, b: SoftmaxState(a.max_score + b.max_score, a.denominator, a.numerator), SAME),
    (lambda a, b: SoftmaxState(*(v.double() for v in vars(merge_states(a, b)).values())), SAME),
    (lambda a, b: given.state((0.0, 4.0, 12.0)), SAME),
    (object(), SAME),
)

# 2.4a


def over_a_copy(query, key_cache, value_cache, block_table, context_len, scale=None):
    if context_len < 1:
        raise ValueError(context_len)
    keys, values = (
        gather(each, block_table.long(), context_len) for each in (key_cache, value_cache)
    )
    return dense_attention(query[None], keys, values, scale)[0]


def from_the_last_block(query, key_cache, value_cache, block_table, context_len, scale=None):
    size, state = key_cache.shape[1], SoftmaxState.empty(query)
    for start in reversed(range(0, context_len, size)):
        block = block_table[start // size]
        rows = slice(0, min(size, context_len - start))
        more = partial_attention(query, key_cache[block][rows], value_cache[block][rows], scale)
        state = merge_states(more, state)
    return state.output().to(query.dtype)


def token_by_token(query, key_cache, value_cache, block_table, context_len, scale=None):
    table, size = block_table.tolist(), key_cache.shape[1]
    state = SoftmaxState.empty(query)
    for position in range(context_len):
        at = table[position // size], slice(position % size, position % size + 1)
        state = merge_states(state, partial_attention(query, key_cache[at], value_cache[at], scale))
    return state.output().to(query.dtype)


def by_recursion(query, key_cache, value_cache, block_table, context_len, scale=None):
    if context_len < 1:
        raise ValueError("the context is empty")

    def below(logical):
        start = logical * key_cache.shape[1]
        if start >= context_len:
            return SoftmaxState.empty(query)
        here = [
            c[int(block_table[logical]), : context_len - start] for c in (key_cache, value_cache)
        ]
        return merge_states(partial_attention(query, *here, scale), below(logical + 1))

    return below(0).output().to(query.dtype)


def with_context(change):
    """Make an answer from another idea of the context's length."""

    def attend_blocks_(query, key_cache, value_cache, block_table, context_len, scale=None):
        size = key_cache.shape[1]
        return attend_blocks(
            query, key_cache, value_cache, block_table, change(context_len, size), scale
        )

    return attend_blocks_


def with_output(change):
    def attend_blocks_(*arguments):
        return change(attend_blocks(*arguments))

    return attend_blocks_


def gathered_and_masked(query, key_cache, value_cache, block_table, context_len, scale=None):
    """Hide the scores behind the context, and multiply all values."""
    require_heads(query[None], key_cache[0], value_cache[0])
    if context_len < 1:
        raise ValueError
    blocks = block_table[: -(-context_len // key_cache.shape[1])].long()
    keys, values = (widened(each[blocks].flatten(0, 1)) for each in (key_cache, value_cache))
    scale = query.shape[1] ** -0.5 if scale is None else scale
    group = len(query) // keys.shape[1]
    scores = torch.einsum("hd,nhd->hn", widened(query), keys.repeat_interleave(group, 1)) * scale
    scores[:, context_len:] = -math.inf
    weights = softmax(scores)
    return torch.einsum("hn,nhd->hd", weights, values.repeat_interleave(group, 1)).to(query.dtype)


def that_skips_stale_nan_alone(query, key_cache, value_cache, block_table, context_len, scale=None):
    """Keep what is behind the context unless it is NaN."""
    size, state = key_cache.shape[1], SoftmaxState.empty(query)
    for start in range(0, context_len, size):
        block = int(block_table[start // size])
        kept = [
            slot
            for slot in range(size)
            if start + slot < context_len or not bool(value_cache[block, slot].isnan().any())
        ]
        here = key_cache[block, kept], value_cache[block, kept]
        state = merge_states(state, partial_attention(query, *here, scale))
    return state.output().to(query.dtype)


def hidden_where_it_is_nan(query, key_cache, value_cache, block_table, context_len, scale=None):
    """Hide the scores behind the context, and of the values there those that are NaN."""
    if context_len < 1:
        raise ValueError
    values = value_cache.clone()
    for position in range(context_len, -(-context_len // values.shape[1]) * values.shape[1]):
        at = int(block_table[position // values.shape[1]]), position % values.shape[1]
        values[at] = torch.where(values[at].isnan(), 0.0, values[at])
    return gathered_and_masked(query, key_cache, values, block_table, context_len, scale)


def zeros_for_nothing(query, key_cache, value_cache, block_table, context_len, scale=None):
    if context_len == 0:
        return torch.zeros_like(query)
    return attend_blocks(query, key_cache, value_cache, block_table, context_len, scale)


def that_cleans_the_cache(query, key_cache, value_cache, block_table, context_len, scale=None):
    answer = attend_blocks(query, key_cache, value_cache, block_table, context_len, scale)
    value_cache.nan_to_num_(0.0)
    return answer


def prefix_by_prefix(query, key_cache, value_cache, block_table, context_len, scale=None):
    """Attend anew for each token, to all that comes before it."""
    for length in range(1, context_len + 1):
        out = over_a_copy(query, key_cache, value_cache, block_table, length, scale)
    return out


def every_entry(query, key_cache, value_cache, block_table, context_len, scale=None):
    size, state = key_cache.shape[1], SoftmaxState.empty(query)
    for logical, block in enumerate(block_table.tolist()):
        filled = min(size, context_len - logical * size)
        here = key_cache[block, :filled], value_cache[block, :filled]
        state = merge_states(state, partial_attention(query, *here, scale))
    return state.output().to(query.dtype)


def narrowed(query, key_cache, value_cache, block_table, context_len, scale=None):
    query = query.to(key_cache.dtype)
    return attend_blocks(query, key_cache, value_cache, block_table, context_len, scale)


def with_sums_in_the_type_of_the_query(
    query, key_cache, value_cache, block_table, context_len, scale=None
):
    """Keep the state in the query's type from block to block."""
    if context_len < 1:
        raise ValueError
    size, state = key_cache.shape[1], SoftmaxState.empty(query)
    for start in range(0, context_len, size):
        filled, block = min(size, context_len - start), int(block_table[start // size])
        here = key_cache[block, :filled], value_cache[block, :filled]
        state = merge_states(state, partial_attention(query, *here, scale))
        state = SoftmaxState(*(v.to(query.dtype).to(v.dtype) for v in vars(state).values()))
    return state.output().to(query.dtype)


def with_choices(hide, keep=lambda values, hidden: values.masked_fill(hidden, 0.0)):
    """Make an answer over whole blocks from how it hides scores, and what it keeps of the values.

    Args:
        hide: Takes the scores, [num_heads, num_keys], and which keys are hidden.
        keep: Takes the values, [num_keys, num_heads, head_dim], and which of them are hidden.
    """

    def attend_blocks_(query, key_cache, value_cache, block_table, context_len, scale=None):
        require_heads(query[None], key_cache[0], value_cache[0])
        if context_len < 1:
            raise ValueError
        blocks = block_table[: -(-context_len // key_cache.shape[1])].long()
        group = len(query) // key_cache.shape[2]
        keys, values = (
            widened(each[blocks].flatten(0, 1)).repeat_interleave(group, 1)
            for each in (key_cache, value_cache)
        )
        scale = query.shape[1] ** -0.5 if scale is None else scale
        hidden = torch.arange(len(keys)) >= context_len
        scores = hide(torch.einsum("hd,nhd->hn", widened(query), keys) * scale, hidden)
        kept = keep(values, hidden[:, None, None])
        return torch.einsum("hn,nhd->hd", softmax(scores), kept).to(query.dtype)

    return attend_blocks_


def by_addition(scores, hidden):
    return scores + torch.where(hidden, -math.inf, 0.0)


def by_a_number(number):
    return lambda scores, hidden: scores.masked_fill(hidden, number)


def for_as_many_heads_as_there_are(query, key_cache, value_cache, *rest):
    """Take as many KV heads as there are query heads."""
    few = [each[:, :, : len(query)] for each in (key_cache, value_cache)]
    return attend_blocks(query, *few, *rest)


def that_stretches_a_short_query(query, key_cache, *others):
    """As broadcasting does, without a word."""
    return attend_blocks(query.broadcast_to(len(query), key_cache.shape[3]), key_cache, *others)


def of_outputs_added_up(query, key_cache, value_cache, block_table, context_len, scale=None):
    """Add what attention over each block by itself comes to."""
    out = torch.zeros(query.shape)
    for start in range(0, context_len, size := key_cache.shape[1]):
        block, filled = block_table[start // size], min(size, context_len - start)
        here = key_cache[block, :filled], value_cache[block, :filled]
        out = out + partial_attention(query, *here, scale).output()
    return out.to(query.dtype)


def divided_in_each_block(query, key_cache, value_cache, block_table, context_len, scale=None):
    """Take the output so far for the numerator so far."""
    state = SoftmaxState.empty(query)
    for start in range(0, context_len, size := key_cache.shape[1]):
        block, filled = block_table[start // size], min(size, context_len - start)
        here = key_cache[block, :filled], value_cache[block, :filled]
        state = merge_states(state, partial_attention(query, *here, scale))
        average = state.numerator / state.denominator[:, None]
        state = SoftmaxState(state.max_score, state.denominator, average)
    return state.output().to(query.dtype)


def in_one_block_more(query, key_cache, value_cache, block_table, context_len, scale=None):
    """Round up by adding 1 to the number of full blocks."""
    size, state = key_cache.shape[1], SoftmaxState.empty(query)
    for logical in range(context_len // size + 1):
        block, filled = block_table[logical], min(size, context_len - logical * size)
        here = key_cache[block, :filled], value_cache[block, :filled]
        state = merge_states(state, partial_attention(query, *here, scale))
    return state.output().to(query.dtype)


ATTEND_RIGHT = (
    over_a_copy,
    from_the_last_block,
    token_by_token,
    by_recursion,
    with_choices(by_a_number(-math.inf)),
)
ATTEND_WRONG = (
    (with_context(lambda n, size: n - 1), SAME),
    (with_context(lambda n, size: n // size * size), "the last block is dropped"),
    (with_context(lambda n, size: -(-n // size) * size), "the whole last block"),
    (gathered_and_masked, "hidden in the scores only"),
    (with_choices(by_addition), "the mask is added"),
    (with_choices(by_a_number(-1e3)), "hidden with a finite number"),
    (with_choices(by_a_number(-1e9)), "hidden with a finite number"),
    (for_as_many_heads_as_there_are, SAME),
    (that_stretches_a_short_query, SAME),
    (that_skips_stale_nan_alone, SAME),
    (hidden_where_it_is_nan, SAME),
    (with_output(lambda out: out.double()), SAME),
    (with_output(lambda out: out[None]), SAME),
    (zeros_for_nothing, SAME),
    (every_entry, "on behind the context"),
    (of_outputs_added_up, "outputs added up"),
    (divided_in_each_block, "divided in each block"),
    (in_one_block_more, "one block more"),
    (narrowed, SAME),
    (with_sums_in_the_type_of_the_query, SAME),
    (prefix_by_prefix, SAME),
    (
        lambda q, k, v, *rest, **options: attend_blocks(
            q, k.nan_to_num(), v.nan_to_num(), *rest, **options
        ),
        "swept caches",
    ),
    (lambda q, k, *rest, **options: attend_blocks(q, k.nan_to_num(), *rest, **options), SAME),
    (
        lambda q, k, v, *rest, **options: attend_blocks(
            q, k, v.nan_to_num(nan=math.nan), *rest, **options
        ),
        SAME,
    ),
    (
        lambda q, k, v, t, n, scale=None: attend_blocks(
            q, k, v, t, n, scale or 1 / q.shape[-1] ** 0.5
        ),
        "a scale of 0 taken for none",
    ),
    (that_cleans_the_cache, SAME),
    (lambda q, k, v, table, n, scale=None: attend_blocks(q, v, k, table, n, scale), SAME),
    (
        lambda q, k, v, table, n, scale=None: attend_blocks(q, k, v, table.sort().values, n, scale),
        SAME,
    ),
    (lambda *_: torch.full((1, 4), 3.0), SAME),
    (object(), SAME),
)

# 2.4b


def stacked(query, key_cache, value_cache, batch, scale=None):
    check_decode(query, key_cache, value_cache, batch)
    rows = zip(query, batch.block_tables, batch.context_lens, strict=True)
    caches = key_cache, value_cache
    return torch.stack([attend_blocks(q, *caches, t, int(n), scale) for q, t, n in rows])


def last_first(query, key_cache, value_cache, batch, scale=None):
    check_decode(query, key_cache, value_cache, batch)
    out = torch.zeros(query.shape, dtype=query.dtype)
    for seq in range(batch.num_seqs - 1, -1, -1):
        where = batch.block_tables[seq].tolist(), batch.context_lens[seq].item()
        out[seq] = attend_blocks(
            query[seq], key_cache, value_cache, torch.tensor(where[0]), where[1], scale
        )
    return out


def without_check(query, key_cache, value_cache, batch, scale=None):
    rows = zip(query, batch.block_tables, batch.context_lens.tolist(), strict=False)
    caches = key_cache, value_cache
    return torch.stack([attend_blocks(q, *caches, t, n, scale) for q, t, n in rows])


def into_the_query(query, key_cache, value_cache, batch, scale=None):
    query.copy_(paged_decode(query, key_cache, value_cache, batch, scale))
    return query


BATCH_RIGHT = (stacked, last_first)
BATCH_WRONG = (
    (without_check, SAME),
    (lambda *args, **options: paged_decode(*args, **options).nan_to_num(), SAME),
    (into_the_query, SAME),
    (lambda q, k, v, batch, scale=None: paged_decode(q, k, v, batch, scale).float(), SAME),
    (
        lambda q, k, v, batch, scale=None: paged_decode(q, k, v, batch, scale or None),
        "a scale of 0 taken for none",
    ),
    (lambda q, k, v, batch, scale=None: list(paged_decode(q, k, v, batch, scale)), SAME),
    (lambda q, k, v, batch, scale=None: paged_decode(q.flip(0), k, v, batch, scale), SAME),
    (lambda q, k, v, batch, scale=None: paged_decode(q, k, v, batch, 1.0), SAME),
    (lambda q, k, v, batch, scale=None: torch.full_like(q, 5.0), SAME),
    (object(), SAME),
)

# 2.8b


def chosen(query, key_cache, value_cache, block_table, context_len):
    """Choose between value and 0, where the suspect multiplies."""
    blocks = block_table[: -(-context_len // key_cache.shape[1])]
    keys, values = key_cache[blocks].flatten(0, 1), value_cache[blocks].flatten(0, 1)
    hidden = torch.arange(len(keys)) >= context_len
    scores = torch.einsum("hd,nhd->hn", query, keys) / math.sqrt(query.shape[-1])
    weights = torch.softmax(scores.masked_fill(hidden, -math.inf), dim=-1)
    return torch.einsum("hn,nhd->hd", weights, torch.where(hidden[:, None, None], 0.0, values))


def sum_by_sum(query, key_cache, value_cache, block_table, context_len):
    size = key_cache.shape[1]
    at = [(int(block_table[p // size]), p % size) for p in range(context_len)]
    rows = [(query * key_cache[each]).sum(-1) / query.shape[1] ** 0.5 for each in at]
    weights = torch.softmax(torch.stack(rows), dim=0)
    return sum(
        weight[:, None] * value_cache[each] for weight, each in zip(weights, at, strict=True)
    )


def inf_is_left(query, key_cache, value_cache, block_table, context_len):
    values = torch.where(value_cache.isnan(), 0.0, value_cache)
    return hunt.suspect_decode(query, key_cache, values, block_table, context_len)


def not_scaled(query, key_cache, value_cache, block_table, context_len):
    return hunt.decode(
        query * query.shape[1] ** 0.5, key_cache, value_cache, block_table, context_len
    )


def one_block_less(query, key_cache, value_cache, block_table, context_len):
    whole = context_len // key_cache.shape[1] * key_cache.shape[1]
    return hunt.suspect_decode(query, key_cache, value_cache, block_table, whole or context_len)


MENDED_RIGHT = (
    chosen,
    sum_by_sum,
    lambda q, k, v, table, n: attend_blocks(q, k, v, table, n),
)
MENDED_WRONG = (
    (hunt.suspect_decode, "something times 0"),
    (inf_is_left, SAME),
    (with_choices(by_a_number(-1e3)), "hidden with a finite number"),
    (with_choices(by_addition), "the mask is added"),
    (lambda q, k, v, table, n: hunt.decode(q, k, v, table, min(n + 1, 2 * k.shape[1])), SAME),
    (one_block_less, SAME),
    (not_scaled, SAME),
    (
        lambda q, k, v, table, n: hunt.decode(q, k.nan_to_num(), v, table, n),
        "swept out of all keys",
    ),
    (
        lambda q, k, v, table, n: hunt.decode(q, k, torch.where(v.isinf(), 0, v), table, n),
        SAME,
    ),
    (
        lambda q, k, v, table, n: hunt.suspect_decode(q, k, v.nan_to_num(), table, n),
        "swept out of all values",
    ),
    (
        lambda q, k, v, table, n: hunt.suspect_decode(q, k, v, table, n).nan_to_num(),
        "swept out of the output",
    ),
    (lambda q, k, v, table, n: hunt.decode(q, k, v.fill_(1.0), table, n), SAME),
    (lambda q, k, v, table, n: hunt.decode(q, k, v, table, n).flatten(), SAME),
    (lambda q, k, v, table, n: torch.tensor([[3.0]]), SAME),
    (object(), SAME),
)

RIGHT = {
    "2.1": SOFTMAX_RIGHT,
    "2.2": PARTIAL_RIGHT,
    "2.3": MERGE_RIGHT,
    "2.4a": ATTEND_RIGHT,
    "2.4b": BATCH_RIGHT,
    "2.8b": MENDED_RIGHT,
}
WRONG = {
    "2.1": SOFTMAX_WRONG,
    "2.2": PARTIAL_WRONG,
    "2.3": MERGE_WRONG,
    "2.4a": ATTEND_WRONG,
    "2.4b": BATCH_WRONG,
    "2.8b": MENDED_WRONG,
}


test_an_unusual_right_answer_earns_everything = right_answers_earn_everything(RIGHT)
test_a_wrong_answer_earns_nothing_and_is_named_only_if_it_is_that = wrong_answers_earn_nothing(
    WRONG
)


def by_prefixes(query, key, value, scale=None):
    """Begin anew with each key."""
    if len(key) == 0:
        raise ValueError("no keys")
    for num_keys in range(1, len(key) + 1):
        state = partial_attention(query, key[:num_keys], value[:num_keys], scale)
    return state


def merged_number_by_number(first, second):
    """Merge head by head, and in each number by number."""
    top = torch.maximum(first.max_score, second.max_score)
    a, b = (guarded(each.max_score, top).tolist() for each in (first, second))
    numerator = torch.empty_like(first.numerator)
    for head, dim in itertools.product(*map(range, numerator.shape)):
        one, other = first.numerator[head, dim].item(), second.numerator[head, dim].item()
        numerator[head, dim] = a[head] * one + b[head] * other
    right = merge_states(first, second)
    return SoftmaxState(top, right.denominator, numerator)


def widened_for_each_block(query, key_cache, value_cache, block_table, context_len, scale=None):
    size, state = key_cache.shape[1], SoftmaxState.empty(query)
    for start in range(0, context_len, size):
        block, end = block_table[start // size], min(size, context_len - start)
        wide = [each.double().to(widened(query).dtype) for each in (key_cache, value_cache)]
        here = partial_attention(query, *(each[block, :end] for each in wide), scale)
        state = merge_states(state, here)
    return state.output().to(query.dtype)


def all_former_ones_again(query, key_cache, value_cache, batch, scale=None):
    check_decode(query, key_cache, value_cache, batch)
    for num_seqs in range(1, len(query) + 1):
        rows = list(zip(query, batch.block_tables, batch.context_lens.tolist(), strict=True))
        out = [
            attend_blocks(q, key_cache, value_cache, table, n, scale)
            for q, table, n in rows[:num_seqs]
        ]
    return torch.stack(out)


def dotted_number_by_number(query, key_cache, value_cache, block_table, context_len):
    size, (num_heads, head_dim) = key_cache.shape[1], query.shape
    scores = torch.zeros(num_heads, context_len, dtype=query.dtype)
    for head, at, dim in itertools.product(range(num_heads), range(context_len), range(head_dim)):
        key = key_cache[block_table[at // size], at % size, head, dim].item()
        scores[head, at] += query[head, dim].item() * key / head_dim**0.5
    values = gather(value_cache, block_table, context_len)
    return torch.einsum("hn,nhd->hd", torch.softmax(scores, -1), values)


@pytest.mark.usefixtures("wrong_answers")
@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        ("2.2", by_prefixes),
        ("2.3", merged_number_by_number),
        ("2.4a", widened_for_each_block),
        ("2.4b", all_former_ones_again),
        ("2.8b", dotted_number_by_number),
    ],
)
def test_an_answer_that_is_right_and_far_too_slow_fails_on_the_large_case_alone(exercise, answer):
    (large,) = lessons.find(exercise).check.large
    finding = examine(exercise, answer, timeout=1.1 * large.seconds, max_examples=2)
    assert finding.fraction == 0
    assert f"(...) on {large.size}" in finding.counterexample.case
    assert finding.counterexample.complaint == "on small inputs it is right"


def test_states_merge_to_the_same_in_any_order_and_any_grouping():
    """The law that exercise 2.3 stands for, on what its check compares with."""
    draw = random.Random(5)
    torch.manual_seed(5)
    query, keys, values = torch.randn(4, 8), torch.randn(60, 2, 8), torch.randn(60, 2, 8)
    cuts = [0, *sorted(draw.sample(range(1, 60), 6)), 60]
    states = [partial_attention(query, keys[a:b], values[a:b]) for a, b in itertools.pairwise(cuts)]
    states += [SoftmaxState.empty(query)] * 2
    whole = partial_attention(query, keys, values)
    for _ in range(30):
        left = list(states)
        while len(left) > 1:
            pair = [left.pop(draw.randrange(len(left))) for _ in range(2)]
            left.append(merge_states(*pair))
        for name in vars(whole):
            torch.testing.assert_close(getattr(left[0], name), getattr(whole, name))


# 2.8a

NAN = math.nan


@pytest.mark.parametrize(
    ("values", "context_len"),
    [
        ([6, NAN, 0, 0, 1, 2], 3),
        ([6.0, math.inf, 0, 0, 1, 2], 3),
        ([6, -math.inf, NAN, 0, 1, 2], 3),
        ([6.0, 1e39, 0, 0, 1, 2], 3),
        ([0, 0, 0, 0, 1, NAN], 1),
        (np.array([6, NAN, 0, 0, 1, 2]), 3),
        (torch.tensor([6, NAN, 0, 0, 1, 2]), 3),
        ((6, NAN, 0, 0, 1, 2), 3),
        ([np.float32(6), NAN, 0, 0, 1, True], 3),
        ([*torch.tensor([6, NAN, 0, 0, 1, 2])], 3),
    ],
)
def test_a_stale_slot_of_the_last_block_that_is_not_finite_exposes_the_suspect(values, context_len):
    assert examine("2.8a", {"values": values, "context_len": context_len}).fraction == 1
    cache = torch.as_tensor(values, dtype=torch.float32).reshape(3, 2, 1, 1)
    call = torch.ones(1, 1), torch.zeros(3, 2, 1, 1), cache, torch.tensor([2, 0]), context_len
    assert not hunt.suspect_decode(*call).isfinite().all()
    assert hunt.decode(*call).isfinite().all()


@pytest.mark.parametrize(
    ("pool", "says", "name"),
    [
        ({"values": [6, 0, 0, 0, 1, 2], "context_len": 3}, "the right answer", "a finite number"),
        (
            {"values": [6, 1e38, 0, 0, 1, 2], "context_len": 3},
            "the right answer",
            "a finite number",
        ),
        (
            {"values": [6, NAN, 0, 0, 1, 2], "context_len": 4},
            "itself holds",
            "in a slot of its own",
        ),
        (
            {"values": [6, 0, 0, NAN, 1, 2], "context_len": 3},
            "right",
            "in a block of somebody else",
        ),
        (
            {"values": [NAN, NAN, 0, 0, 1, 2], "context_len": 2},
            "right",
            "in a block that is not read",
        ),
        ({"values": [6, 10**400, 0, 0, 1, 2], "context_len": 3}, "too large for any float", SAME),
        ({"values": [6, NAN, 0, 0], "context_len": 3}, "4 values, not 6", SAME),
        ({"values": [6, "nan", 0, 0, 1, 2], "context_len": 3}, "float('nan')", SAME),
        ({"values": [6, NAN, 0, 0, 1, 2], "context_len": 5}, "1 to 4 tokens", SAME),
        ({"values": [6, NAN, 0, 0, 1, 2], "context_len": True}, "1 to 4 tokens", SAME),
        ({"values": [6, NAN, 0, 0, 1, 2], "context_len": "3"}, "is '3', of type str", SAME),
        ({"values": NAN, "context_len": 3}, "float, not a list", SAME),
        ({"values": [6, NAN, 0, 0, 1, 2]}, "the keys 'values' and 'context_len'", SAME),
        ([6, NAN, 0, 0, 1, 2], "the keys", SAME),
        (object(), "the keys", SAME),
    ],
)
def test_a_pool_that_exposes_nothing_is_told_why(pool, says, name):
    finding = examine("2.8a", pool)
    assert finding.fraction == 0
    assert says in finding.counterexample.complaint
    assert named(finding) == name


def test_the_fixes_that_are_judged_do_what_the_verdict_says():
    values = torch.tensor([6, NAN, 0, 0, 1, 2]).reshape(3, 2, 1, 1)
    call = torch.ones(1, 1), torch.zeros(3, 2, 1, 1), values, torch.tensor([2, 0]), 3
    inside = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 1.0]).reshape(3, 2, 1, 1)
    fix_a = hunt.suspect_decode(*call[:2], values * inside, *call[3:])
    fix_b = hunt.suspect_decode(*call[:2], torch.where(inside > 0, values, 0.0), *call[3:])
    fix_c = hunt.suspect_decode(*call).nan_to_num()
    assert fix_a.isnan().all()
    assert (fix_b.item(), fix_c.item()) == (3.0, 0.0)
    verdict = lessons.find("2.8c").check.reference()
    assert list(verdict.values()) == [False, True, False, False]


# 2.9


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda right: {name: round(rate, 1) for name, rate in right.items()}, "break-even"),
        (lambda right: {**right, "Paged": right["Oracle"]}, "'Paged': it is too small"),
        (lambda right: {**right, "break-even": 1.26}, "'break-even': it is too small"),
        (
            lambda right: {"Oracle": right["Oracle"], "Paged": right["Paged"]},
            "missing: 'break-even'",
        ),
        (lambda right: list(right.values()), "it is a list"),
        (lambda right: {name: str(rate) for name, rate in right.items()}, "not a number"),
    ],
)
def test_a_wrong_measurement_earns_nothing(change, says):
    finding = examine("2.9", change(measure.measured()))
    assert finding.fraction == 0
    assert says in finding.counterexample.complaint


@pytest.mark.parametrize(
    ("slowdown", "name"),
    [(1.26, "a rate in proportion to the slowdown"), (1.0, "the quotient of the rates")],
)
def test_a_break_even_that_takes_the_weights_for_slower_too_is_named(slowdown, name):
    right = measure.measured()
    wrong = {**right, "break-even": slowdown * right["Paged"] / right["Oracle"]}
    assert named(examine("2.9", wrong)) == name


def test_a_break_even_that_counts_from_the_slowdown_that_is_given_is_named():
    right = measure.measured()
    wrong = {**right, "break-even": right["break-even"] / 1.26}
    assert named(examine("2.9", wrong)) == "relative to 1.26"


def test_steps_for_tokens_are_named():
    right = measure.measured()
    wrong = dict(right)
    for name in ("Oracle", "Paged"):
        moments = measure._snapshots(name)
        wrong[name] *= len(moments) / sum(len(each.reservations) for each in moments)
    assert named(examine("2.9", wrong)) == "steps per second"


def test_a_break_even_as_a_surcharge_is_named():
    right = measure.measured()
    wrong = {**right, "break-even": right["break-even"] - 1}
    assert named(examine("2.9", wrong)) == "a surcharge for a slowdown"


def test_a_break_even_of_seconds_is_named():
    right, given_ = measure.measured(), dict.fromkeys(("Oracle", "Paged"))
    for name in given_:
        moments = measure._snapshots(name)
        given_[name] = [sum(measure._step_seconds(each, s) for each in moments) for s in (0.0, 1.0)]
    without, once = given_["Paged"]
    wrong = {**right, "break-even": (given_["Oracle"][1] - without) / (once - without)}
    assert named(examine("2.9", wrong)) == "equal seconds for equal rates"


def test_a_query_that_is_scaled_in_place_is_shown_on_the_smallest_call():
    def scaled_in_place(query, key, value, scale=None):
        state = partial_attention(query, key, value, scale)
        query *= query.shape[-1] ** -0.5 if scale is None else scale
        return state

    case = examine("2.2", scaled_in_place).counterexample.case
    assert case.count("tensor([[") == 3
    assert case.count(",") <= 3


@pytest.mark.parametrize("digits", [3, 4])
def test_a_measurement_may_be_rounded_and_have_more_keys(digits):
    right = measure.measured()
    answer = {name: np.float64(round(rate, digits)) for name, rate in right.items()}
    assert examine("2.9", {**answer, "note": "two runs"}).fraction == 1


def forget_what_was_measured():
    for kept in (each for each in vars(measure).values() if hasattr(each, "cache_clear")):
        if kept.__module__ == measure.__name__:
            kept.cache_clear()


@pytest.mark.parametrize("load", [load_azure, synthetic_azure], ids=["real", "synthetic"])
def test_the_figures_of_the_model_answer_hold_on_real_and_on_synthetic_traces(load, monkeypatch):
    monkeypatch.setattr(measure, "load_azure", load)
    forget_what_was_measured()
    right = measure.measured()
    running, slots = {}, {}
    for name in ("Oracle", "Paged"):
        moments = measure._snapshots(name)
        running[name] = sum(len(each.reservations) for each in moments) / len(moments)
        written = sum(each.written for moment in moments for each in moment.reservations)
        slots[name] = written / len(moments)
    forget_what_was_measured()
    opt, a100 = MODELS["opt-13b"], GPUS["a100-40gb"]
    kv = {name: slots[name] * 819_200 * s for name, s in (("Oracle", 1.0), ("Paged", 1.26))}
    step = {name: (opt.weight_bytes + kv[name]) / a100.memory_bandwidth for name in kv}
    assert round(opt.weight_bytes / 1e9, 1) == 25.7
    assert 8 <= running["Oracle"] < 8.6
    assert 13.4 < running["Paged"] < 14.2
    assert 1.58 < running["Paged"] / running["Oracle"] < 1.74
    assert 1.2 < step["Paged"] / step["Oracle"] < 1.3
    assert 0.0205 < step["Oracle"] < 0.022
    assert 0.026 < step["Paged"] < 0.0275
    assert 0.3 < kv["Paged"] / (opt.weight_bytes + kv["Paged"]) < 0.4
    assert 1.27 < right["Paged"] / right["Oracle"] < 1.37
    assert right["break-even"] > 2
