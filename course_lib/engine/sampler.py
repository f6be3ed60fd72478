"""The sampler: from logits to tokens, for a whole batch at once.

Every row of a batch may ask for something else, and what a request gets must not depend on who is
in the batch beside it. So the random numbers do not come from a generator that runs on from one
draw to the next. They are computed from (seed, number of the answer, position of the token): who
asks again gets the same ones, in another batch, after a preemption, or on another device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from course_lib.engine.sampling_params import SamplingParams

_MASK = 2**64 - 1
_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class TokenLogprobs(NamedTuple):
    """The log-probabilities that were asked for at one position.

    Attributes:
        token_ids: The sampled token, then the most probable ones, the most probable first. Of
            equals the sampled one comes first.
        logprobs: The log-probability of each.
        ranks: The rank of each, 1 for the most probable.
    """

    token_ids: list[int]
    logprobs: list[float]
    ranks: list[int]


class SampledToken(NamedTuple):
    """What was chosen for one row.

    Attributes:
        token_id: The token.
        logprobs: What ``SamplingParams.logprobs`` asked for; None if nothing.
    """

    token_id: int
    logprobs: TokenLogprobs | None


@dataclass(frozen=True, slots=True)
class SamplingRow:
    """What has to be known of a sequence to choose its next token.

    Attributes:
        params: What the request asks for.
        stream: The sequence's own stream of random numbers: ``random_stream(seed, index)``.
        position: How many tokens were generated before this one.
        seen: bool [vocab_size], the tokens of prompt and output; None unless there is a penalty.
    """

    params: SamplingParams
    stream: int = 0
    position: int = 0
    seen: Tensor | None = None


@torch.inference_mode()
def sample(logits: Tensor, rows: Sequence[SamplingRow]) -> list[SampledToken]:
    """Choose the next token of each sequence.

    Args:
        logits: float32 [num_rows, vocab_size].
        rows: What each row asks for.

    >>> logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 0.0, 9.0]])
    >>> greedy, random = SamplingParams(temperature=0), SamplingParams(top_k=1, logprobs=0)
    >>> [token.token_id for token in sample(logits, [SamplingRow(greedy), SamplingRow(random)])]
    [1, 2]
    """
    penalised = penalise(logits, rows)
    tokens = penalised.argmax(dim=-1)
    random = [index for index, row in enumerate(rows) if not row.params.is_greedy]
    if random:
        is_whole_batch = len(random) == len(rows)
        chosen = penalised if is_whole_batch else penalised[random]
        tokens[random] = _draw(chosen, [rows[index] for index in random])
    token_ids: list[int] = tokens.tolist()
    logprobs = _logprobs(logits, tokens, rows)
    return [
        SampledToken(token, logprobs.get(index) if logprobs else None)
        for index, token in enumerate(token_ids)
    ]


def penalise(logits: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
    """Return the logits after the repetition penalty: the same tensor if nobody has one.

    Args:
        logits: [num_rows, vocab_size]; left as it is.
        rows: ``seen`` is set where ``params.repetition_penalty`` is not 1.

    >>> row = SamplingRow(SamplingParams(repetition_penalty=2.0),
    ...                   seen=torch.tensor([True, True, False]))
    >>> penalise(torch.tensor([[4.0, -4.0, 4.0]]), [row])
    tensor([[ 2., -8.,  4.]])
    """
    index = [i for i, row in enumerate(rows) if row.params.repetition_penalty != 1.0]
    if not index:
        return logits
    seen = torch.stack([seen for i in index if (seen := rows[i].seen) is not None])
    penalty = _column([rows[i].params.repetition_penalty for i in index], logits)
    before = logits[index]
    after = torch.where(before > 0, before / penalty, before * penalty)
    penalised = logits.clone()
    penalised[index] = torch.where(seen, after, before)
    return penalised


def restrict(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Return the logits after ``min_p``, ``top_k`` and ``top_p``, −inf where a token is out.

    Tokens as probable as the last one that is kept are kept, too: which of several equals is out
    must not depend on how a device sorts.

    Args:
        logits: [num_rows, vocab_size], divided by the temperature.
        params: What each row asks for.

    >>> logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    >>> restrict(logits, [SamplingParams(top_p=0.8)]).exp()
    tensor([[0.5000, 0.3000, 0.0000, 0.0000]])
    """
    if any(p.min_p > 0 for p in params):
        allowance = [-math.log(p.min_p) if p.min_p > 0 else math.inf for p in params]
        lowest = logits.amax(dim=-1, keepdim=True) - _column(allowance, logits)
        logits = logits.masked_fill(logits < lowest, -math.inf)
    index = [i for i, p in enumerate(params) if p.top_k > 0 or p.top_p < 1]
    if index:
        chosen = logits if len(index) == len(params) else logits[index]
        lowest = _smallest_kept(chosen, [params[i] for i in index])
        kept = chosen.masked_fill(chosen < lowest, -math.inf)
        if len(index) == len(params):
            return kept
        logits = logits.clone()
        logits[index] = kept
    return logits


def random_stream(seed: int, index: int) -> int:
    """Return the stream of random numbers of one answer of a request, as a 64-bit number.

    Args:
        seed: Seed of the request; any whole number.
        index: Number of the answer, from 0.

    >>> random_stream(7, 0) != random_stream(7, 1) != random_stream(8, 0)
    True
    """
    return _split_mix_64(_split_mix_64(seed & _MASK) + index & _MASK)


def gumbel_noise(streams: Sequence[int], positions: Sequence[int], like: Tensor) -> Tensor:
    """Return noise whose addition to the logits makes the largest a sample of their softmax.

    If g is distributed as −log(−log(uniform)), independently for each token, then token t has the
    largest logit + g with the probability that softmax gives it (the Gumbel-max trick). A token's
    number is output ``token`` of the SplitMix64 generator with the key of (stream, position) as its
    state, so any of them can be computed without those in front of it. (Steele, Lea and Flood,
    *Fast splittable pseudorandom number generators*, OOPSLA 2014.)

    Args:
        streams: Stream of each row, 64 bits.
        positions: Position of each row in its stream.
        like: [num_rows, vocab_size]; gives the shape and the device.

    Returns:
        float32, the shape of ``like``.
    """
    # int64 is what PyTorch can multiply: the same bits as unsigned, and overflow wraps around.
    state = _int64(streams, like).add_(_int64(positions, like).mul_(_signed(_GOLDEN)))
    state = _mix_in_place(state)
    step = torch.arange(1, like.shape[1] + 1, device=like.device).mul_(_signed(_GOLDEN))
    bits = _mix_in_place(state[:, None] + step)
    # The upper 32 bits, as the middle of one of 2³² equal parts of (0, 1). The small ones make the
    # large noise, and are exact in 32 bits; the largest would be rounded to 1.
    uniform = bits.bitwise_right_shift_(32).bitwise_and_(2**32 - 1).to(torch.float32)
    uniform = uniform.add_(0.5).mul_(2.0**-32).clamp_(max=1 - 2.0**-24)
    exponential = uniform.neg_().log1p_().neg_()
    return exponential.log_().neg_()


def _draw(logits: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
    """Return a random token for each row, int64 [num_rows]."""
    temperatures = _column([row.params.temperature for row in rows], logits)
    scores = restrict(logits / temperatures, [row.params for row in rows])
    noise = gumbel_noise([row.stream for row in rows], [row.position for row in rows], scores)
    return noise.add_(scores).argmax(dim=-1)


def _smallest_kept(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Return the smallest logit of each row that ``top_k`` and ``top_p`` keep, [num_rows, 1]."""
    ordered = _descending(logits)
    vocab_size = logits.shape[1]
    num_kept = [min(p.top_k, vocab_size) if p.top_k > 0 else vocab_size for p in params]
    places = torch.arange(1, vocab_size + 1, device=logits.device)
    is_kept = places <= torch.tensor(num_kept, device=logits.device)[:, None]
    if any(p.top_p < 1 for p in params):
        probabilities = ordered.masked_fill(~is_kept, -math.inf).softmax(dim=-1)
        # Kept are those in front of which top_p is not reached yet; so the first one always is.
        in_front = probabilities.cumsum(dim=-1) - probabilities
        # Rounded sums reach 1 before the last token: where all are wanted, no sum is too large.
        top_p = _column([p.top_p if p.top_p < 1 else math.inf for p in params], logits)
        is_kept &= in_front < top_p
    # At least one: rounding must not make the sum in front of the first one less than nothing.
    num_kept_now = is_kept.sum(dim=-1, keepdim=True).clamp_(min=1)
    return ordered.gather(1, num_kept_now - 1)


def _descending(logits: Tensor) -> Tensor:
    """Return the logits of each row, the largest first."""
    if logits.device.type == "cpu":
        # 64 rows of 2,048 take NumPy 0.2 ms and PyTorch 7 ms: NumPy's sort is vectorised.
        return torch.from_numpy(np.sort(logits.numpy(), axis=-1)).flip(-1)
    return logits.sort(dim=-1, descending=True).values


def _logprobs(
    logits: Tensor, tokens: Tensor, rows: Sequence[SamplingRow]
) -> dict[int, TokenLogprobs]:
    """Return the log-probabilities of the rows that ask for them, by the index of the row."""
    index = [i for i, row in enumerate(rows) if row.params.logprobs is not None]
    if not index:
        return {}
    wanted = [min(rows[i].params.logprobs or 0, logits.shape[1]) for i in index]
    logprobs = logits[index].log_softmax(dim=-1)
    sampled = logprobs.gather(1, tokens[index, None])
    ranks = (logprobs > sampled).sum(dim=-1) + 1
    best, best_ids = logprobs.topk(max(wanted), dim=-1)
    columns = (tokens[index], sampled[:, 0], ranks, best_ids, best)
    return {
        i: TokenLogprobs(
            [token, *_in_its_place(token, rank, ids)[:count]],
            [logprob, *top[:count]],
            [rank, *range(1, count + 1)],
        )
        for i, count, token, logprob, rank, ids, top in zip(
            index, wanted, *(column.tolist() for column in columns), strict=True
        )
    }


def _in_its_place(token: int, rank: int, best_ids: list[int]) -> list[int]:
    """Return the most probable tokens, with the sampled one as the first of its equals.

    Which of several equals a device lists, and in which order, is chance. Otherwise there would at
    times be one entry more than was asked for.

    >>> _in_its_place(9, 2, [4, 5, 6]), _in_its_place(6, 2, [4, 5, 6]), _in_its_place(9, 4, [4, 5])
    ([4, 9, 5], [4, 6, 5], [4, 5])
    """
    in_front, equal_or_less = best_ids[: rank - 1], best_ids[rank - 1 :]
    behind = [token_id for token_id in equal_or_less if token_id != token]
    return [*in_front, token, *behind][: len(best_ids)]


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    """Return one number per row, float32 [num_rows, 1]."""
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]


def _split_mix_64(state: int) -> int:
    """Return the first output of SplitMix64 from a state."""
    x = state + _GOLDEN & _MASK
    x = (x ^ x >> 30) * _MIX_1 & _MASK
    x = (x ^ x >> 27) * _MIX_2 & _MASK
    return x ^ x >> 31


def _mix_in_place(x: Tensor) -> Tensor:
    """Scramble 64-bit states as SplitMix64 does, int64 of any shape."""
    # Shifting a signed number copies its sign into the upper bits, where zeros belong.
    x.bitwise_xor_((x >> 30).bitwise_and_(2**34 - 1)).mul_(_signed(_MIX_1))
    x.bitwise_xor_((x >> 27).bitwise_and_(2**37 - 1)).mul_(_signed(_MIX_2))
    return x.bitwise_xor_((x >> 31).bitwise_and_(2**33 - 1))


def _int64(values: Sequence[int], like: Tensor) -> Tensor:
    """Return 64-bit numbers as a tensor of the same bits."""
    return torch.tensor([_signed(value) for value in values], device=like.device)


def _signed(value: int) -> int:
    """Return the signed number with the bits of an unsigned 64-bit one."""
    return value - 2**64 if value >= 2**63 else value
