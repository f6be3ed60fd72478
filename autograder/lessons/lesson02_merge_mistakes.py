"""Lesson 2: the wrong answers that people are known to give where two softmax states are merged."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from autograder.checks.finding import Misconception
from course_lib.attention.dense import SoftmaxState, merge_states


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
