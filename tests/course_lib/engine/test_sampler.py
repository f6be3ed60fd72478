"""The sampler: the right distribution, the same draw in every company, the model's own logprobs."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from course_lib.engine.sampler import (
    SamplingRow,
    gumbel_noise,
    penalise,
    random_stream,
    restrict,
    sample,
)
from course_lib.engine.sampling_params import SamplingParams


def logits(num_rows: int, vocab_size: int = 50, seed: int = 0) -> Tensor:
    return 3 * torch.randn(num_rows, vocab_size, generator=torch.Generator().manual_seed(seed))


def row(index: int = 0, position: int = 0, seed: int = 7, **params: Any) -> SamplingRow:
    chosen = SamplingParams(**params)
    seen = None
    if chosen.repetition_penalty != 1:
        seen = torch.arange(50) % 3 == index % 3
    return SamplingRow(chosen, random_stream(seed, index), position, seen)


def tokens(values: Tensor, rows: list[SamplingRow]) -> list[int]:
    return [token.token_id for token in sample(values, rows)]


# Parameters

DEFAULTS = {
    "n": 1,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "max_tokens": 16,
    "seed": None,
    "logprobs": None,
    "ignore_eos": False,
}


def test_the_defaults_are_vllms() -> None:
    params = SamplingParams()
    assert {name: getattr(params, name) for name in DEFAULTS} == DEFAULTS
    assert (params.stop_strings, params.stop_tokens) == ((), frozenset())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 0),
        ("temperature", -0.1),
        ("temperature", math.inf),
        ("temperature", math.nan),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -2),
        ("min_p", 1.5),
        ("repetition_penalty", 0.0),
        ("max_tokens", 0),
        ("logprobs", -1),
        ("stop", ["fine", ""]),
        ("stop", [5]),
        ("stop", b"end"),
        ("stop", ["fine", None]),
        ("stop", 5),
        ("stop_token_ids", 5),
        ("stop_token_ids", "12"),
        ("n", None),
        ("top_k", None),
        ("temperature", None),
        ("temperature", "0.5"),
        ("temperature", 10**400),
        ("top_p", math.nan),
        ("top_p", None),
        ("min_p", math.nan),
        ("min_p", [0.1]),
        ("repetition_penalty", math.nan),
        ("repetition_penalty", 1 + 0j),
    ],
)
def test_a_parameter_out_of_range_is_named_with_its_rule(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} is .*; it must be "):
        SamplingParams(**{name: value})


def test_a_list_of_stops_may_be_changed_afterwards() -> None:
    stop, stop_token_ids = ["a"], [3]
    params = SamplingParams(stop=stop, stop_token_ids=stop_token_ids)
    stop.append("b")
    stop_token_ids.append(4)
    assert (params.stop_strings, params.stop_tokens) == (("a",), frozenset({3}))
    assert hash(params) == hash(SamplingParams(stop="a", stop_token_ids=(3,)))


# Greedy


def test_greedy_is_the_largest_logit_and_the_first_of_equals() -> None:
    values = torch.tensor([[1.0, 5.0, 5.0], [0.0, -1.0, -2.0]])
    assert tokens(values, [row(temperature=0), row(temperature=1e-6)]) == [1, 0]


def test_chance_does_not_touch_the_greedy_rows_of_a_batch() -> None:
    values = logits(6)
    rows = [row(i, temperature=i % 2, top_k=5, min_p=0.01) for i in range(6)]
    assert tokens(values, rows)[::2] == values.argmax(dim=-1).tolist()[::2]


# Which tokens are left: transformers has the same filters, here in vLLM's order


def warped(values: Tensor, params: SamplingParams) -> Tensor:
    """Return what the filters of transformers leave, −inf where a token is out."""
    hf = pytest.importorskip("transformers.generation.logits_process")
    warpers = [hf.TemperatureLogitsWarper(params.temperature)]
    if params.min_p > 0:
        warpers.append(hf.MinPLogitsWarper(params.min_p))
    if params.top_k > 0:
        warpers.append(hf.TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        warpers.append(hf.TopPLogitsWarper(params.top_p))
    for warper in warpers:
        values = warper(None, values)
    return values


FILTERS = [
    {},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 1000},
    {"top_k": -1},
    {"top_p": 1e-6},
    {"top_p": 0.3},
    {"top_p": 0.95},
    {"min_p": 0.05},
    {"min_p": 1.0},
    {"top_k": 9, "top_p": 0.8},
    {"min_p": 0.02, "top_p": 0.7},
    {"min_p": 0.01, "top_k": 12, "top_p": 0.9},
]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_the_filters_leave_what_those_of_transformers_leave(temperature: float) -> None:
    """All of them in one batch: what one row asks for changes nothing for the others."""
    params = [SamplingParams(temperature=temperature, **kind) for kind in FILTERS * 8]
    values = logits(len(params), seed=1)
    left = restrict(values / temperature, params)
    for index, each in enumerate(params):
        expected = warped(values[index : index + 1], each)[0]
        assert torch.equal(left[index].isinf(), expected.isinf()), each
        kept = ~expected.isinf()
        torch.testing.assert_close(left[index][kept], expected[kept])


def test_equals_of_the_last_token_that_is_kept_are_kept() -> None:
    values = torch.tensor([[2.0, 1.0, 1.0, 0.0]])
    assert restrict(values, [SamplingParams(top_k=2)]).isinf().tolist()[0] == [0, 0, 0, 1]


def test_the_repetition_penalty_is_that_of_transformers() -> None:
    hf = pytest.importorskip("transformers.generation.logits_process")
    values = logits(4)
    rows = [row(index, repetition_penalty=1.5 if index else 1.0) for index in range(4)]
    found = penalise(values, rows)
    for index, each in enumerate(rows):
        expected = values[index]
        if each.seen is not None:
            seen = each.seen.nonzero().T
            expected = hf.RepetitionPenaltyLogitsProcessor(1.5)(seen, values[index : index + 1])[0]
        torch.testing.assert_close(found[index], expected)
    assert torch.equal(values, logits(4)), "the model's own logits are reported as logprobs"


def test_a_penalty_changes_what_greedy_chooses() -> None:
    values = torch.tensor([[3.0, 2.0, 0.0]])
    penalised = SamplingRow(
        SamplingParams(temperature=0, repetition_penalty=2.0),
        seen=torch.tensor([True, False, False]),
    )
    assert tokens(values, [penalised]) == [1]


# Chance


def test_tokens_come_as_often_as_softmax_says() -> None:
    values = logits(1, vocab_size=8, seed=3) / 2
    count = 40_000
    rows = [row(position=position, temperature=0.8) for position in range(count)]
    found = torch.bincount(torch.tensor(tokens(values.expand(count, 8), rows)), minlength=8)
    expected = (values[0] / 0.8).softmax(dim=-1) * count
    # Chi-squared with 7 degrees of freedom is below 24.3 with a probability of 99.9%.
    assert float(((found - expected) ** 2 / expected).sum()) < 24.3


def test_the_noise_is_that_of_gumbel_and_independent() -> None:
    shape = torch.empty(400, 1000)
    noise = gumbel_noise([random_stream(1, i) for i in range(400)], [0] * 400, shape)
    assert noise.isfinite().all()
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.01)
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, abs=0.02)
    for other in (noise.roll(1, 0), noise.roll(1, 1)):
        assert abs(float(torch.corrcoef(torch.stack([noise.flatten(), other.flatten()]))[0, 1])) < (
            0.01
        )


def test_the_bits_are_those_of_splitmix64() -> None:
    """Published outputs of the generator for the state 1234567."""
    from course_lib.engine.sampler import _mix_in_place, _signed, _split_mix_64

    assert _split_mix_64(1234567) == 6457827717110365317
    golden = 0x9E3779B97F4A7C15
    states = torch.tensor([_signed((1234567 + k * golden) % 2**64) for k in range(1, 6)])
    assert [value % 2**64 for value in _mix_in_place(states).tolist()] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_a_draw_depends_on_seed_answer_and_position_and_on_nothing_else() -> None:
    values = logits(1).expand(64, 50)
    rows = [row(index % 4, index // 4, temperature=1.5) for index in range(64)]
    together = tokens(values, rows)
    alone = [tokens(values[:1], [each])[0] for each in rows]
    backwards = tokens(values, rows[::-1])[::-1]
    mixed = [row(temperature=0), *rows[:5], row(9, top_k=3, repetition_penalty=1.1)]
    assert together == alone == backwards
    assert tokens(values[:7], mixed)[1:6] == together[:5]
    for changed in ({"seed": 8}, {"index": 5}, {"position": 99}):
        others = [row(**{"index": i % 4, "position": i // 4} | changed) for i in range(64)]
        assert tokens(values, others) != together


def test_negative_and_huge_seeds_are_seeds() -> None:
    streams = {random_stream(seed, 0) for seed in (-1, 0, 1, 2**63, 2**64 - 2, 10**30)}
    assert len(streams) == 6
    assert all(0 <= stream < 2**64 for stream in streams)


# Log-probabilities


def test_logprobs_are_those_of_the_model_with_ranks() -> None:
    values = logits(3)
    rows = [
        row(0, temperature=0.5, top_k=4, repetition_penalty=1.7, logprobs=5),
        row(1, temperature=0),
        row(2, temperature=0, logprobs=0),
    ]
    first, second, third = sample(values, rows)
    assert second.logprobs is None
    assert third.logprobs is not None
    assert (third.logprobs.token_ids, third.logprobs.ranks) == ([third.token_id], [1])
    assert first.logprobs is not None
    assert first.logprobs.token_ids[0] == first.token_id
    expected = values[0].log_softmax(dim=-1)
    assert first.logprobs.token_ids[1:] == expected.topk(5).indices.tolist()
    assert first.logprobs.ranks[1:] == [1, 2, 3, 4, 5]
    for token_id, logprob, rank in zip(*first.logprobs, strict=True):
        assert logprob == pytest.approx(float(expected[token_id]))
        assert rank == int((expected > expected[token_id]).sum()) + 1


@pytest.mark.parametrize("count", [0, 1, 3, 6])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_of_equals_exactly_as_many_are_reported_as_were_asked_for(
    count: int, temperature: float
) -> None:
    # Tokens 2 to 5 are equals in front of all others: any of them may be sampled.
    scores = torch.tensor([0.0, 0.0, 5.0, 5.0, 5.0, 5.0]).repeat(32, 1)
    rows = [row(i, temperature=temperature, top_k=4, logprobs=count) for i in range(32)]
    for token in sample(scores, rows):
        assert token.logprobs is not None
        known = dict(zip(token.logprobs.token_ids, token.logprobs.ranks, strict=True))
        assert len(known) == max(count, 1)
        assert known[token.token_id] == 1
        assert sorted(known.values()) == list(range(1, len(known) + 1))


def test_a_sampled_token_behind_those_asked_for_is_one_more() -> None:
    scores = torch.tensor([[3.0, 3.0, 2.0, 1.0]])
    rows = [row(i, temperature=50.0, logprobs=1) for i in range(64)]
    for token in sample(scores.repeat(64, 1), rows):
        assert token.logprobs is not None
        in_front = 2 if token.token_id >= 2 else 1
        assert len(set(token.logprobs.token_ids)) == in_front


def test_more_logprobs_than_tokens_are_all_of_them() -> None:
    [token] = sample(logits(1, vocab_size=4), [row(logprobs=100)])
    assert token.logprobs is not None
    assert sorted(token.logprobs.token_ids[1:]) == [0, 1, 2, 3]


@pytest.mark.gpu
def test_on_a_gpu_the_same_tokens_are_drawn() -> None:
    kinds: list[dict[str, Any]] = [
        {"temperature": 0},
        {"temperature": 0.7, "top_p": 0.9},
        {"top_k": 5, "logprobs": 3},
        {"min_p": 0.1, "repetition_penalty": 1.3},
    ]
    rows = [row(index, index, **kinds[index % 4]) for index in range(64)]
    on_gpu = [replace(each, seen=None if each.seen is None else each.seen.cuda()) for each in rows]
    assert tokens(logits(64).cuda(), on_gpu) == tokens(logits(64), rows)
