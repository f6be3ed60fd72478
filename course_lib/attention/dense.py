"""Attention over keys and values that lie side by side, and the state that lets it be taken apart.

Shapes: one sequence's queries are [num_queries, num_heads, head_dim], its keys and values
[num_keys, num_kv_heads, head_dim]. With grouped-query attention (GQA), ``num_heads / num_kv_heads``
neighbouring query heads share one KV head: query head h reads KV head h // group.

Numbers narrower than 32 bits are widened for the arithmetic, so that sums over thousands of keys do
not lose their small terms; results have the type of the query.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def softmax(scores: Tensor) -> Tensor:
    """Return exp(scores), divided by its sum over the last dimension, without overflow.

    exp(1000) is infinite, and infinity over infinity is no number. Subtracting the same number from
    all scores does not change the quotient; subtracting the largest makes every exponent at most 0.

    Args:
        scores: Any shape, floating point, no dimension empty. A score of −inf gets weight 0; a row
            needs at least one that is finite.

    Returns:
        The shape and type of ``scores``; the last dimension adds to 1. The scores stay as they are.

    >>> softmax(torch.tensor([1000.0, 1000.0, float("-inf")]))
    tensor([0.5000, 0.5000, 0.0000])
    """
    # The largest score of a row becomes 0, so no exponent is positive.
    shifted = scores - scores.amax(dim=-1, keepdim=True)

    # Weights between 0 and 1, and at least one of them is 1.
    weights = shifted.exp()
    return weights / weights.sum(dim=-1, keepdim=True)


def dense_attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None
) -> Tensor:
    """Return causal attention of the last tokens of a sequence over the whole of it.

    The queries belong to the last ``num_queries`` of the ``num_keys`` tokens: query i stands at
    position ``num_keys - num_queries + i`` and sees the keys at positions up to its own. A whole
    prompt has as many queries as keys, a decode step one query, a chunk of a prompt some number
    between.

    Args:
        query: [num_queries, num_heads, head_dim].
        key: [num_keys, num_kv_heads, head_dim].
        value: The shape of ``key``.
        scale: What the scores are multiplied by; 1/√head_dim if None.

    Returns:
        The shape and type of ``query``.

    Raises:
        ValueError: The shapes do not fit together, or there are more queries than keys.

    >>> query, key, value = torch.zeros(2, 1, 4), torch.zeros(3, 1, 4), torch.zeros(3, 1, 4)
    >>> value[:, 0, 0] = torch.tensor([0.0, 2.0, 4.0])
    >>> dense_attention(query, key, value)[:, 0, 0]  # the mean of 2 tokens, and of all 3
    tensor([1., 2.])
    """
    require_heads(query, key, value)
    num_queries, num_keys = len(query), len(key)
    if num_queries > num_keys:
        raise ValueError(
            f"{num_queries} queries but only {num_keys} keys; every query token is also a key, "
            "so write the new tokens' keys before you attend"
        )
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1])

    # Scores of every query with every key: [num_kv_heads, group, num_queries, num_keys].
    grouped = widened(query).unflatten(1, (key.shape[1], -1))
    scores = torch.einsum("qkgd,nkd->kgqn", grouped, widened(key)) * scale

    # Hide the keys that come after the query.
    query_positions = torch.arange(num_keys - num_queries, num_keys, device=query.device)
    key_positions = torch.arange(num_keys, device=query.device)
    hidden = key_positions[None, :] > query_positions[:, None]
    scores = scores.masked_fill(hidden, -math.inf)

    output = torch.einsum("kgqn,nkd->qkgd", softmax(scores), widened(value))
    return output.flatten(1, 2).to(query.dtype)


@dataclass(frozen=True, eq=False)
class SoftmaxState:
    """What attention over some of the keys leaves behind, so that other keys can be added later.

    With the scores s of the keys seen so far and their values v, per query head:

    - ``max_score`` = max s, called m in the papers;
    - ``denominator`` = Σ exp(s − m), called l;
    - ``numerator`` = Σ exp(s − m) · v, called acc.

    The attention over exactly these keys is ``numerator / denominator`` (Milakov and Gimelshein,
    2018; Rabe and Staats, 2021).

    Attributes:
        max_score: [num_heads]; −inf where no key was seen.
        denominator: [num_heads].
        numerator: [num_heads, head_dim].
    """

    max_score: Tensor
    denominator: Tensor
    numerator: Tensor

    @classmethod
    def empty(cls, query: Tensor) -> SoftmaxState:
        """Return the state of a query [num_heads, head_dim] that has seen no key yet.

        >>> SoftmaxState.empty(torch.zeros(2, 4)).max_score
        tensor([-inf, -inf])
        """
        zeros = torch.zeros_like(widened(query))
        return cls(zeros[:, 0] - math.inf, zeros[:, 0], zeros)

    def output(self) -> Tensor:
        """Return the attention over the keys seen so far, [num_heads, head_dim].

        Raises:
            ValueError: A head has seen no key.

        >>> SoftmaxState(torch.zeros(1), torch.full((1,), 4.0), torch.full((1, 2), 6.0)).output()
        tensor([[1.5000, 1.5000]])
        """
        if bool((self.denominator == 0).any()):
            raise ValueError("no key was seen, so there is no average of values; attend first")
        return self.numerator / self.denominator[:, None]


def partial_attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None
) -> SoftmaxState:
    """Return the state of one token's query after these keys, all of which it may see.

    Args:
        query: [num_heads, head_dim].
        key: [num_keys, num_kv_heads, head_dim], at least one key.
        value: The shape of ``key``.
        scale: What the scores are multiplied by; 1/√head_dim if None.

    Returns:
        The state over exactly these keys: max_score and denominator [num_heads], numerator
        [num_heads, head_dim], all computed in float32; in float64 if the query is. A NaN in a key
        or value shows in the state.

    Raises:
        ValueError: The shapes do not fit together, or there is no key.

    >>> key = torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]]])
    >>> state = partial_attention(torch.ones(1, 2), key, value=key + 3)
    >>> state.denominator, state.numerator
    (tensor([2.]), tensor([[6., 6.]]))
    """
    require_heads(query[None], key, value)
    if len(key) == 0:
        raise ValueError("there are no keys; SoftmaxState.empty is the state before the first")
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1])

    # Scores of this token with every key: [num_kv_heads, group, num_keys].
    grouped = widened(query).unflatten(0, (key.shape[1], -1))
    scores = torch.einsum("kgd,nkd->kgn", grouped, widened(key)) * scale

    # The largest score of each head, and the sums relative to it.
    max_score = scores.amax(dim=-1)
    weights = (scores - max_score[..., None]).exp()
    numerator = torch.einsum("kgn,nkd->kgd", weights, widened(value))
    return SoftmaxState(max_score.flatten(), weights.sum(dim=-1).flatten(), numerator.flatten(0, 1))


def merge_states(first: SoftmaxState, second: SoftmaxState) -> SoftmaxState:
    """Return the state over the keys of both, as if they had been seen together.

    The sums of the two are relative to different maxima. Each is brought to the larger one by the
    factor exp(own maximum − larger maximum), which is at most 1. A state that has seen nothing
    changes nothing, also if both are such. A NaN that a state came with shows in the result.

    Merging is associative and commutative. So the blocks of a sequence can be visited in any order,
    and by several workers at once.

    Args:
        first: The state over some keys. It stays as it is.
        second: The state of the same query over other keys, of the same shapes; likewise.

    Returns:
        A state of the same shapes and type.

    >>> a = SoftmaxState(torch.tensor([0.0]), torch.tensor([1.0]), torch.tensor([[1.0]]))
    >>> b = SoftmaxState(torch.tensor([0.0]), torch.tensor([3.0]), torch.tensor([[11.0]]))
    >>> merge_states(a, b).output()
    tensor([[3.]])
    """
    max_score = torch.maximum(first.max_score, second.max_score)

    # What each state's sums shrink by. Nothing seen means weight 0; −inf − (−inf) is no number.
    factors = [
        torch.where(state.max_score == -math.inf, 0.0, (state.max_score - max_score).exp())
        for state in (first, second)
    ]

    # Both sums, relative to the common maximum.
    denominator = factors[0] * first.denominator + factors[1] * second.denominator
    numerator = factors[0][:, None] * first.numerator + factors[1][:, None] * second.numerator
    return SoftmaxState(max_score, denominator, numerator)


def widened(numbers: Tensor) -> Tensor:
    """Return the numbers in at least 32 bits: 16-bit ones become float32, others stay.

    >>> widened(torch.ones(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def require_heads(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Raise ValueError unless queries, keys and values fit together.

    Args:
        query: [num_queries, num_heads, head_dim].
        key: [num_keys, num_kv_heads, head_dim].
        value: The shape of ``key``.

    >>> require_heads(torch.zeros(1, 3, 8), torch.zeros(5, 2, 8), torch.zeros(5, 2, 8))
    Traceback (most recent call last):
    ValueError: a query of [3, 8] cannot read keys of [2, 8]: ...
    """
    if key.dim() != 3 or key.shape != value.shape:
        raise ValueError(
            f"key is {list(key.shape)} and value {list(value.shape)}; both are "
            "[num_keys, num_kv_heads, head_dim]"
        )
    if query.dim() != 3 or query.shape[2] != key.shape[2] or query.shape[1] % key.shape[1]:
        raise ValueError(
            f"a query of {list(query.shape[1:])} cannot read keys of {list(key.shape[1:])}: the "
            "head_dim must be equal, and the query heads a multiple of the KV heads"
        )
