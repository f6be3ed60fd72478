"""Lesson 2: the wrong answers that people are known to give to its PyTorch exercises."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from autograder.checks.finding import Misconception
from course_lib.attention.backends.arguments import check_decode
from course_lib.attention.batch import PagedBatch
from course_lib.attention.dense import (
    SoftmaxState,
    merge_states,
    partial_attention,
    require_heads,
)
from course_lib.attention.paged import attend_blocks

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


SOFTMAX = (
    Misconception(
        "no maximum",
        "exp(1000) is infinite, and infinity over infinity is no number: subtract the largest score "
        "of the row before you exponentiate.",
        no_maximum,
    ),
    Misconception(
        "one maximum for all rows",
        "A row whose scores are all far below the largest of the tensor has only weights of 0 left, "
        "and 0 / 0 is no number. Each row has its own maximum.",
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
)

# 2.2

_Grouping = Callable[[Tensor, int], Tensor]


def _in_groups(query: Tensor, kv_heads: int) -> Tensor:
    return query.unflatten(0, (kv_heads, -1))


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
    dealt = _state(
        query, key, value, scale, lambda q, kv: q.unflatten(0, (-1, kv)).transpose(0, 1)
    )
    return SoftmaxState(
        *(
            each.unflatten(0, (kv_heads, -1)).transpose(0, 1).flatten(0, 1)
            for each in (dealt.max_score, dealt.denominator, dealt.numerator)
        )
    )


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


PARTIAL = (
    Misconception(
        "heads dealt in turn",
        "Neighbouring query heads share a KV head: head h reads KV head h // group, not h modulo "
        "the number of KV heads.",
        dealt_in_turn,
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


def _factors(
    first: SoftmaxState, second: SoftmaxState, max_score: Tensor
) -> tuple[Tensor, Tensor]:
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


def upside_down(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    """Multiply by exp(larger maximum - own maximum)."""
    max_score = torch.maximum(first.max_score, second.max_score)
    a, b = _factors(first, second, max_score)
    return _merged(first, second, max_score, (torch.where(a > 0, 1 / a, 0.0), torch.where(b > 0, 1 / b, 0.0)))


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
        "-inf - (-inf) is no number. A state that has seen nothing gets the factor 0, also if the "
        "other one is empty, too.",
        two_empties_are_nan,
    ),
    Misconception(
        "the factor upside down",
        "The sums relative to the smaller maximum are the ones that shrink: the factor is "
        "exp(own maximum - larger maximum), at most 1.",
        upside_down,
    ),
    Misconception(
        "only the first is rescaled",
        "Either state may have the larger maximum. Where it is the first, the second one's sums "
        "shrink.",
        only_the_first,
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

# 2.4


def _over_blocks(
    query: Tensor,
    caches: tuple[Tensor, Tensor],
    spans: list[tuple[int, int]],
    scale: float | None,
) -> Tensor:
    """Attend over the first slots of some blocks; a span is a block and how many slots of it."""
    state = SoftmaxState.empty(query)
    for block, filled in spans:
        keys, values = (cache[block, :filled] for cache in caches)
        state = merge_states(state, partial_attention(query, keys, values, scale))
    return state.output().to(query.dtype)


def _spans(block_table: Tensor, context_len: int, block_size: int) -> list[tuple[int, int]]:
    starts = range(0, context_len, block_size)
    return [
        (int(block_table[logical]), min(block_size, context_len - start))
        for logical, start in enumerate(starts)
    ]


def whole_last_block(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None = None,
) -> Tensor:
    """Read every slot of every block."""
    size = key_cache.shape[1]
    spans = [(block, size) for block, _ in _spans(block_table, context_len, size)]
    return _over_blocks(query, (key_cache, value_cache), spans, scale)


def logical_for_physical(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None = None,
) -> Tensor:
    """Read block 0, 1, 2 ... of the cache."""
    spans = _spans(torch.arange(len(block_table)), context_len, key_cache.shape[1])
    return _over_blocks(query, (key_cache, value_cache), spans, scale)


def partial_block_dropped(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None = None,
) -> Tensor:
    """Read full blocks only."""
    size = key_cache.shape[1]
    spans = [span for span in _spans(block_table, context_len, size) if span[1] == size]
    return _over_blocks(query, (key_cache, value_cache), spans, scale)


def every_entry(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None = None,
) -> Tensor:
    """Go through the whole table, and through whole blocks."""
    spans = [(int(block), key_cache.shape[1]) for block in block_table]
    return _over_blocks(query, (key_cache, value_cache), spans if context_len else [], scale)


def remainder_for_filled(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None = None,
) -> Tensor:
    """Take context_len % block_size for what is in the last block, also where that is 0."""
    size = key_cache.shape[1]
    spans = _spans(block_table, context_len, size)
    if spans:
        spans[-1] = spans[-1][0], context_len % size
    return _over_blocks(query, (key_cache, value_cache), spans, scale)


def scale_left_out(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None = None,
) -> Tensor:
    """Do not hand the scale on."""
    spans = _spans(block_table, context_len, key_cache.shape[1])
    return _over_blocks(query, (key_cache, value_cache), spans, None)


def mean_of_blocks(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_table: Tensor,
    context_len: int,
    scale: float | None = None,
) -> Tensor:
    """Average the outputs of the blocks."""
    caches, size = (key_cache, value_cache), key_cache.shape[1]
    if context_len < 1:
        raise ValueError("empty")
    outputs = [
        _over_blocks(query, caches, [span], scale).double()
        for span in _spans(block_table, context_len, size)
    ]
    return torch.stack(outputs).mean(0).to(query.dtype)


ATTEND = (
    Misconception(
        "the whole last block",
        "Behind the context a block holds what somebody else left there, or nothing that was ever "
        "written: read only the slots that are filled.",
        whole_last_block,
    ),
    Misconception(
        "logical for physical",
        "The first block of the sequence is not block 0 of the cache: which one it is stands in "
        "the block table.",
        logical_for_physical,
    ),
    Misconception(
        "the last block is dropped",
        "A last block that is filled in part holds tokens of the context, too.",
        partial_block_dropped,
    ),
    Misconception(
        "every entry of the table",
        "A table may be longer than the context needs, and what stands behind means nothing: stop "
        "at the context.",
        every_entry,
    ),
    Misconception(
        "a remainder of 0",
        "context_len % block_size is 0 when the last block is full: then all of its slots count.",
        remainder_for_filled,
    ),
    Misconception(
        "the scale is left out",
        "The scale that is given has to reach the scores.",
        scale_left_out,
    ),
    Misconception(
        "mean of the blocks",
        "A block whose keys have more weight counts more; merge the states and divide once.",
        mean_of_blocks,
    ),
)


# 2.4b


def _decoded(
    query: Tensor,
    caches: tuple[Tensor, Tensor],
    tables: Iterable[Tensor],
    context_lens: Iterable[int],
    scale: float | None,
) -> Tensor:
    """Attend for each sequence by itself."""
    rows = zip(query, tables, context_lens, strict=True)
    outputs = [
        attend_blocks(asked, *caches, table, context_len, scale)
        for asked, table, context_len in rows
    ]
    return torch.stack(outputs)


def first_table_for_all(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: PagedBatch,
    scale: float | None = None,
) -> Tensor:
    """Look every sequence up in the first one's table."""
    check_decode(query, key_cache, value_cache, batch)
    tables = [batch.block_tables[0]] * len(query)
    lens = batch.context_lens.tolist()
    return _decoded(query, (key_cache, value_cache), tables, lens, scale)


def longest_for_all(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: PagedBatch,
    scale: float | None = None,
) -> Tensor:
    """Take the longest context for all."""
    check_decode(query, key_cache, value_cache, batch)
    lens = [batch.max_context_len] * len(query)
    return _decoded(query, (key_cache, value_cache), batch.block_tables, lens, scale)


def batch_scale_left_out(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: PagedBatch,
    scale: float | None = None,
) -> Tensor:
    """Do not hand the scale on."""
    check_decode(query, key_cache, value_cache, batch)
    lens = batch.context_lens.tolist()
    return _decoded(query, (key_cache, value_cache), batch.block_tables, lens, None)


DECODE = (
    Misconception(
        "the first table for all",
        "Each sequence has a row of its own in block_tables; through another one's it reads another "
        "one's text.",
        first_table_for_all,
    ),
    Misconception(
        "the longest context for all",
        "max_context_len is the longest of all sequences. A shorter one ends where its own "
        "context_lens says; its table is padded behind.",
        longest_for_all,
    ),
    Misconception(
        "the scale is left out",
        "The scale that is given has to reach the scores.",
        batch_scale_left_out,
    ),
)
