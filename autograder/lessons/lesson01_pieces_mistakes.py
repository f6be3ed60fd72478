"""Lesson 1: known wrong answers to its last exercises, about what a buddy allocator hands out."""

from __future__ import annotations

from collections.abc import Callable

from autograder.checks.finding import Misconception
from autograder.lessons import lesson01_given as given
from course_lib.kv_cache.reservation import RESERVATIONS

# 1.7


def _wrong_pieces(
    size_of: Callable[[int, int, int], int] = RESERVATIONS["Pow2"],
    piece_of: Callable[[int], int] = given.next_power_of_two,
    pick: Callable[[list[int]], int] = min,
    keeps_halves: bool = True,
    goes_on: bool = False,
) -> Callable[..., list[tuple[int, int]]]:
    """Make an admission that is wrong in one step, or in several."""

    def admit_under_pow2(
        requests: given.Lengths, free_blocks: list[int], max_model_len: int
    ) -> list[tuple[int, int]]:
        free, pieces = list(free_blocks), []
        for prompt_tokens, output_tokens in requests:
            size = size_of(prompt_tokens, output_tokens, max_model_len)
            piece = piece_of(size)
            fitting = [block for block in free if block >= piece]
            if not fitting:
                if goes_on:
                    continue
                break
            block = pick(fitting)
            free.remove(block)
            while keeps_halves and block >= 2 * piece:
                block //= 2
                free.append(block)
            pieces.append((size, piece))
        return pieces

    return admit_under_pow2


def _rounded_output(output_tokens: int) -> int:
    return given.next_power_of_two(output_tokens)


def taken_from_the_sum(
    requests: given.Lengths, free_blocks: list[int], max_model_len: int
) -> list[tuple[int, int]]:
    """Admit while the sum of the free slots is large enough, in one piece or not."""
    pieces, free = [], sum(free_blocks)
    for prompt_tokens, output_tokens in requests:
        size = RESERVATIONS["Pow2"](prompt_tokens, output_tokens, max_model_len)
        piece = given.next_power_of_two(size)
        if piece > free:
            break
        free -= piece
        pieces.append((size, piece))
    return pieces


ADMIT = (
    Misconception(
        "prompt and output rounded together",
        "Pow2 rounds the output alone: the prompt's length is known on admission.",
        _wrong_pieces(lambda p, o, most: min(given.next_power_of_two(p + o), most)),
    ),
    Misconception(
        "the output not rounded",
        "That is Oracle. Pow2 knows the output only as the power of two above it.",
        _wrong_pieces(lambda p, o, most: p + o),
    ),
    Misconception(
        "no limit",
        "No request may be longer than max_model_len, so Pow2 never asks for more.",
        _wrong_pieces(lambda p, o, most: p + _rounded_output(o)),
    ),
    Misconception(
        "the next power, even of a power",
        "16 is a power of two already: 16 tokens are rounded up to 16, not to 32.",
        _wrong_pieces(lambda p, o, most: min(p + (1 << o.bit_length()), most)),
    ),
    Misconception(
        "the piece is what was asked for",
        "A buddy allocator hands out powers of two only: the piece is rounded up once more.",
        _wrong_pieces(piece_of=lambda size: size),
    ),
    Misconception(
        "the whole block is gone",
        "A block that is at least twice as large as the piece is halved, and the halves that are "
        "not needed stay free.",
        _wrong_pieces(keeps_halves=False),
    ),
    Misconception(
        "the largest block first",
        "The smallest block that is large enough is taken; otherwise small pieces use up the "
        "blocks that large ones will need.",
        _wrong_pieces(pick=max),
    ),
    Misconception(
        "first fit",
        "A buddy allocator takes the smallest free block that is large enough, not the first.",
        _wrong_pieces(pick=lambda fitting: fitting[0]),
    ),
    Misconception(
        "the piece rounded to the next power",
        "A sum that is a power of two already gets a piece of that size, not one twice as large.",
        _wrong_pieces(piece_of=lambda size: 1 << size.bit_length()),
    ),
    Misconception(
        "one sum of free slots",
        "A piece lies in one block: enough free slots in several blocks are not enough.",
        taken_from_the_sum,
    ),
    Misconception(
        "overtaking",
        "First come, first served: when one request does not fit, nobody behind it is tried.",
        _wrong_pieces(goes_on=True),
    ),
)


def _in_percent() -> dict[str, float]:
    return {name: 100 * share for name, share in given.rounded_shares().items()}


def _exchanged() -> dict[str, float]:
    right = given.rounded_shares()
    return {"Pow2": right["Oracle"], "Oracle": right["Pow2"]}


def _all_external() -> dict[str, float]:
    """Give all slots outside the reservations: rounded up, or free."""
    reserved = {
        name: given.mean_over_snapshots(name, lambda each: each.reserved)
        for name in given.rounded_shares()
    }
    return {name: 1 - share for name, share in reserved.items()}


def _free_blocks() -> dict[str, float]:
    """Give the slots in no piece."""
    external, rounded = _all_external(), given.rounded_shares()
    return {name: external[name] - rounded[name] for name in rounded}


def _summed_up() -> dict[str, float]:
    return {
        name: share * len(given.snapshots_under(name))
        for name, share in given.rounded_shares().items()
    }


def _slots() -> dict[str, float]:
    return {name: share * given.OPT_13B_SLOTS for name, share in given.rounded_shares().items()}


def _share_of_the_pieces() -> dict[str, float]:
    """Give the rounding as a share of the pieces that were handed out."""
    handed_out = {
        name: given.mean_over_snapshots(name, lambda each: given.next_power_of_two(each.reserved))
        for name in given.rounded_shares()
    }
    return {name: share / handed_out[name] for name, share in given.rounded_shares().items()}


def _share_of_the_reservations() -> dict[str, float]:
    """Give the rounding as a share of what was asked for."""
    return {
        name: share / given.mean_over_snapshots(name, lambda each: each.reserved)
        for name, share in given.rounded_shares().items()
    }


def _next_power_even_of_a_power() -> dict[str, float]:
    """Round 2,048 slots up to 4,096."""
    return {
        name: given.mean_over_snapshots(
            name, lambda each: (1 << each.reserved.bit_length()) - each.reserved
        )
        for name in given.rounded_shares()
    }


MEASURED = (
    Misconception("per cent", "Keep the shares between 0 and 1.", _in_percent),
    Misconception(
        "Pow2 and Oracle exchanged",
        "Each value stands under the name of the other policy.",
        _exchanged,
    ),
    Misconception(
        "all that is external",
        "That is everything outside the reservations, free blocks included.",
        _all_external,
    ),
    Misconception(
        "the free blocks",
        "Those slots are in no piece; the question is what a piece holds and nobody asked for.",
        _free_blocks,
    ),
    Misconception(
        "the sum over the iterations",
        "An average divides by the number of snapshots.",
        _summed_up,
    ),
    Misconception("slots, not a share", "Divide by the slots of the pool, used or not.", _slots),
    Misconception(
        "a share of the pieces",
        "The share is one of all slots of the pool, not of those that were handed out.",
        _share_of_the_pieces,
    ),
    Misconception(
        "a share of the reservations",
        "The share is one of all slots of the pool, not of those that were asked for.",
        _share_of_the_reservations,
    ),
    Misconception(
        "the next power, even of a power",
        "2,048 is a power of two already: a reservation of 2,048 slots is not rounded up.",
        _next_power_even_of_a_power,
    ),
)
