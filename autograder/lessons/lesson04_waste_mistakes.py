"""Lesson 4: known wrong answers about what a block size wastes, and about what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from autograder.checks.finding import Misconception
from autograder.lessons import lesson04_given as given
from autograder.lessons.lesson01_given import experiment_requests
from course_lib.kv_cache.fragmentation import (
    InternalWaste,
    LengthDistribution,
    expected_internal_waste,
    length_weights,
)
from course_lib.kv_cache.reservation import Snapshot
from course_lib.kv_cache.sizing import require_block_size

# 4.6


def _averaged(
    blocks_of: Callable[[int, int], float],
) -> Callable[[LengthDistribution, int], InternalWaste]:
    """Make an average in which the slots of a length are counted another way."""

    def expected_internal_waste(lengths: LengthDistribution, block_size: int) -> InternalWaste:
        require_block_size(block_size)
        weights = length_weights(lengths)
        total = math.fsum(weights.values())
        stored = math.fsum(weight * length for length, weight in weights.items())
        allocated = math.fsum(w * blocks_of(length, block_size) for length, w in weights.items())
        return InternalWaste(stored / total, allocated / total)

    return expected_internal_waste


def every_length_once(lengths: LengthDistribution, block_size: int) -> InternalWaste:
    """Forget how often a length counts in both sums, which the last line divides all the same."""
    require_block_size(block_size)
    weights = length_weights(lengths)
    total = math.fsum(weights.values())
    slots = sum(-(-length // block_size) * block_size for length in weights)
    return InternalWaste(sum(weights) / total, slots / total)


def of_the_mean(lengths: LengthDistribution, block_size: int) -> InternalWaste:
    """Round the mean length up, and not each length."""
    stored = expected_internal_waste(lengths, block_size).stored
    return InternalWaste(stored, math.ceil(stored / block_size) * block_size)


def of_the_total(lengths: LengthDistribution, block_size: int) -> InternalWaste:
    """Round the tokens of all requests up together."""
    stored = expected_internal_waste(lengths, block_size).stored
    total = math.fsum(length_weights(lengths).values())
    return InternalWaste(stored, math.ceil(stored * total / block_size) * block_size / total)


def _without_weights(in_both: bool) -> Callable[[LengthDistribution, int], InternalWaste]:
    """Go through the lengths as they were given: a mapping has each of them once."""

    def waste(lengths: LengthDistribution, block_size: int) -> InternalWaste:
        right = expected_internal_waste(lengths, block_size)
        total = math.fsum(length_weights(lengths).values())
        once = list(lengths)
        slots = sum(-(-length // block_size) * block_size for length in once)
        return InternalWaste(sum(once) / total, slots / total if in_both else right.allocated)

    return waste


def exchanged(lengths: LengthDistribution, block_size: int) -> InternalWaste:
    """Round the weights up to whole blocks, and not the lengths."""
    stored = expected_internal_waste(lengths, block_size).stored
    weights = length_weights(lengths)
    slots = math.fsum(n * (-(-w // block_size) * block_size) for n, w in weights.items())
    return InternalWaste(stored, slots / math.fsum(weights.values()))


def in_blocks(lengths: LengthDistribution, block_size: int) -> InternalWaste:
    """Count blocks, and not their slots."""
    right = expected_internal_waste(lengths, block_size)
    return InternalWaste(right.stored, right.allocated / block_size)


def totals(lengths: LengthDistribution, block_size: int) -> InternalWaste:
    """Return sums that were never divided, as the two sums before the division would be twice."""
    right = expected_internal_waste(lengths, block_size)
    weights: Mapping[int, float] | Iterable[int] = length_weights(lengths)
    total = math.fsum(weights.values())  # type: ignore[union-attr]
    return InternalWaste(right.stored / total, right.allocated / total)


WASTE = (
    Misconception(
        "always half a block",
        "The rest of a length by the block size is anything from 0 on; only on average over many "
        "lengths is about half a block empty.",
        _averaged(lambda length, block_size: length + block_size / 2),
    ),
    Misconception(
        "always (B − 1)/2",
        "That is the average if all remainders are equally likely; here each length has its own.",
        _averaged(lambda length, block_size: length + (block_size - 1) / 2),
    ),
    Misconception(
        "a full block wastes a block",
        "16 tokens fill one block of 16 and need no second one: round up, do not add one.",
        _averaged(lambda length, block_size: (length // block_size + 1) * block_size),
    ),
    Misconception(
        "rounded down",
        "The tokens that do not fill a block need one, too: round up.",
        _averaged(lambda length, block_size: length // block_size * block_size),
    ),
    Misconception(
        "every length once",
        "A length counts as often as it occurs, or as much as its weight says.",
        every_length_once,
    ),
    Misconception(
        "the mean rounded up",
        "Each request has its own last block. Round each length up, then average; the other way "
        "round is another number.",
        of_the_mean,
    ),
    Misconception(
        "the total rounded up",
        "Each request has its own last block. Round each length up, then add; the tokens of two "
        "requests share no block.",
        of_the_total,
    ),
    Misconception(
        "a mapping's lengths, each once",
        "Whoever goes through a mapping gets each length once, however much it counts: `weights` "
        "holds the weight of each.",
        _without_weights(in_both=True),
    ),
    Misconception(
        "`stored` without the weights",
        "Whoever goes through a mapping gets each length once, however much it counts: the tokens "
        "of a length are the length times its weight.",
        _without_weights(in_both=False),
    ),
    Misconception(
        "length and weight exchanged",
        "A length is rounded up to whole blocks; its weight says how much they count.",
        exchanged,
    ),
    Misconception(
        "blocks, not slots",
        "`allocated` counts slots: a block has `block_size` of them.",
        in_blocks,
    ),
    Misconception(
        "divided twice",
        "The last line divides by the total of the weights already: add up, do not average.",
        totals,
    ),
)

# 4.7


def _best(formula: Callable[[float, float, float], float]) -> Callable[..., float]:
    def best_block_size(mean_length: float, entry_bytes: float, token_bytes: float) -> float:
        if not all(0 < value < math.inf for value in (mean_length, entry_bytes, token_bytes)):
            raise ValueError("each must be finite and above 0")
        return formula(mean_length, entry_bytes, token_bytes)

    return best_block_size


BEST_BLOCK = (
    Misconception(
        "a whole block wasted",
        "A request wastes half of its last block on average, so the slots cost B·t/2 and not B·t.",
        _best(lambda length, entry, token: math.sqrt(entry * length / token)),
    ),
    Misconception(
        "half of it",
        "From t/2 = h·L/B² follows B² = 2·h·L/t: the 2 goes above the line.",
        _best(lambda length, entry, token: math.sqrt(entry * length / (2 * token))),
    ),
    Misconception(
        "without the root",
        "The derivative has B²: take the square root.",
        _best(lambda length, entry, token: 2 * entry * length / token),
    ),
    Misconception(
        "entries and tokens exchanged",
        "Dear entries ask for large blocks, dear tokens for small ones: h stands above, t below.",
        _best(lambda length, entry, token: math.sqrt(2 * token * length / entry)),
    ),
    Misconception(
        "rounded to a whole number",
        "The result is a real number; that it may be below 1 says something.",
        _best(lambda length, entry, token: float(round(math.sqrt(2 * entry * length / token)))),
    ),
    Misconception(
        "at least one",
        "Below 1 the table never matters; the function says so by its value, and does not clip it.",
        _best(lambda length, entry, token: max(1.0, math.sqrt(2 * entry * length / token))),
    ),
    Misconception(
        "the least cost",
        "That is what the best block size costs, in bytes; asked for is the size itself.",
        _best(lambda length, entry, token: math.sqrt(2 * entry * length * token)),
    ),
)

# 4.9


def _enough(holds: Callable[[int, int], bool]) -> Callable[[], dict[str, float]]:
    return lambda: {fit: given.share_of_moments(fit, holds) for fit in given.FITS}


def _in_percent() -> dict[str, float]:
    return {fit: 100 * share for fit, share in given.shares_with_enough().items()}


def _moments() -> dict[str, float]:
    return {
        fit: share * len(given.snapshots_under(fit))
        for fit, share in given.shares_with_enough().items()
    }


def _share(is_enough: Callable[[Snapshot], bool]) -> dict[str, float]:
    """Return the share of the moments in which something holds."""
    return {
        fit: sum(map(is_enough, given.snapshots_under(fit))) / len(given.snapshots_under(fit))
        for fit in given.FITS
    }


def _other_head(place_of: Callable[[int, int], int]) -> dict[str, float]:
    """Look at another request than the first in the queue.

    Args:
        place_of: Its place among all, from how many these are and how many of them wait.
    """
    requests = experiment_requests()

    def is_enough(moment: Snapshot) -> bool:
        place = min(place_of(len(requests), moment.num_waiting), len(requests) - 1)
        asked = requests[place].prompt_tokens + requests[place].output_tokens
        return given.free_and_needed(moment)[0] >= asked

    return _share(is_enough)


def _prompt_alone() -> dict[str, float]:
    """Let the first in the queue ask for its prompt only."""
    requests = experiment_requests()

    def is_enough(moment: Snapshot) -> bool:
        head = requests[len(requests) - moment.num_waiting]
        return given.free_and_needed(moment)[0] >= head.prompt_tokens

    return _share(is_enough)


def _more_than_enough() -> dict[str, float]:
    """Want something to be left over; nobody is told of it where that never makes a difference."""
    wrong = {
        fit: given.share_of_moments(fit, lambda free, needed: free > needed) for fit in given.FITS
    }
    return wrong if wrong != given.shares_with_enough() else dict.fromkeys(given.FITS, math.nan)


MEASURED = (
    Misconception(
        "just enough is too few",
        "As many slots as are asked for are enough: at least as many, `>=`.",
        _more_than_enough,
        hint="A request asks for 7 slots, and 7 are free. Are they enough?",
    ),
    Misconception(
        "never enough",
        "So it must be if the largest hole stands for all that is free: whoever fits there is "
        "admitted at once. Add up all that is free, in whatever pieces. And so it must be if a "
        "share is cut to a whole number: divide with `/`.",
        given.NEVER,
        hint="How many slots are free in all, if 9 of 12 are reserved?",
    ),
    Misconception("per cent", "Keep the shares between 0 and 1.", _in_percent),
    Misconception("iterations, not a share", "Divide by the number of snapshots.", _moments),
    Misconception(
        "the share that is too few",
        "Those are the moments in which memory was really short; asked for are the others.",
        _enough(lambda free, needed: free < needed),
    ),
    Misconception(
        "the last that was admitted",
        "That request runs already. The first in the queue is the next one.",
        lambda: _other_head(lambda num_requests, num_waiting: num_requests - num_waiting - 1),
    ),
    Misconception(
        "the second in the queue",
        "Of 5 requests of which 2 wait, the first that waits has index 3, that is 5 − 2.",
        lambda: _other_head(lambda num_requests, num_waiting: num_requests - num_waiting + 1),
    ),
    Misconception(
        "the queue counted from the front",
        "Of 5 requests of which 2 wait, 3 have been admitted: the first that waits has index 3, "
        "that is 5 − 2, and not 2.",
        lambda: _other_head(lambda _, num_waiting: num_waiting),
    ),
    Misconception(
        "the prompt alone",
        "Under Oracle a request asks for its prompt and its whole output at once.",
        _prompt_alone,
    ),
)
