"""Lesson 1: known wrong answers to 1.7b, how much of the memory is lost by rounding up."""

from __future__ import annotations

from functools import cache
from statistics import fmean

from autograder.checks.finding import Misconception
from autograder.lessons import lesson01_given as given
from course_lib.kv_cache.reservation import Snapshot


@cache
def _in_percent() -> dict[str, float]:
    return {name: 100 * share for name, share in given.rounded_shares().items()}


@cache
def _exchanged() -> dict[str, float]:
    right = given.rounded_shares()
    return {"Pow2": right["Oracle"], "Oracle": right["Pow2"]}


@cache
def _all_external() -> dict[str, float]:
    """Give all slots outside the reservations: rounded up, or free."""
    reserved = {
        name: given.mean_over_snapshots(name, lambda each: each.reserved)
        for name in given.rounded_shares()
    }
    return {name: 1 - share for name, share in reserved.items()}


@cache
def _share_of_the_external() -> dict[str, float]:
    """Give the rounding as a share of all that is external."""
    external = _all_external()
    return {name: share / external[name] for name, share in given.rounded_shares().items()}


@cache
def _free_blocks() -> dict[str, float]:
    """Give the slots in no piece."""
    external, rounded = _all_external(), given.rounded_shares()
    return {name: external[name] - rounded[name] for name in rounded}


@cache
def _summed_up() -> dict[str, float]:
    return {
        name: share * len(given.snapshots_under(name))
        for name, share in given.rounded_shares().items()
    }


@cache
def _slots() -> dict[str, float]:
    return {name: share * given.OPT_13B_SLOTS for name, share in given.rounded_shares().items()}


@cache
def _share_of_the_pieces() -> dict[str, float]:
    """Give the rounding as a share of the pieces that were handed out."""
    handed_out = _all_that_is_handed_out()
    return {name: share / handed_out[name] for name, share in given.rounded_shares().items()}


@cache
def _share_of_the_reservations() -> dict[str, float]:
    """Give the rounding as a share of what was asked for."""
    return {
        name: share / given.mean_over_snapshots(name, lambda each: each.reserved)
        for name, share in given.rounded_shares().items()
    }


@cache
def _share_of_the_reservations_each_time() -> dict[str, float]:
    """Divide in each snapshot by what is asked for there, and average."""

    def share(snapshot: Snapshot) -> float:
        asked_for = sum(each.reserved for each in snapshot.reservations)
        return _behind(snapshot) * given.OPT_13B_SLOTS / asked_for

    return {
        name: fmean(share(each) for each in given.snapshots_under(name) if each.reservations)
        for name in given.rounded_shares()
    }


@cache
def _empty_in_the_pieces() -> dict[str, float]:
    """Count all that a piece holds no token in, reserved or not."""
    return {
        name: given.mean_over_snapshots(
            name, lambda each: given.next_power_of_two(each.reserved) - each.written
        )
        for name in given.rounded_shares()
    }


@cache
def _next_power_even_of_a_power() -> dict[str, float]:
    """Round 2,048 slots up to 4,096."""
    return {
        name: given.mean_over_snapshots(
            name, lambda each: (1 << each.reserved.bit_length()) - each.reserved
        )
        for name in given.rounded_shares()
    }


@cache
def _in_rounded_percent() -> dict[str, float]:
    return {name: round(100 * share, 1) for name, share in given.rounded_shares().items()}


@cache
def _of_the_length_in_the_end() -> dict[str, float]:
    """Round up what the request will hold, and not what it asked for."""
    return {
        name: given.mean_over_snapshots(
            name, lambda each: given.next_power_of_two(each.final) - each.final
        )
        for name in given.rounded_shares()
    }


@cache
def _of_what_is_written() -> dict[str, float]:
    """Round up what the request has written so far."""
    return {
        name: given.mean_over_snapshots(
            name, lambda each: given.next_power_of_two(each.written) - each.written
        )
        for name in given.rounded_shares()
    }


@cache
def _never_written_in_the_pieces() -> dict[str, float]:
    """Count all that a request never writes into, reserved or not."""
    return {
        name: given.mean_over_snapshots(
            name, lambda each: given.next_power_of_two(each.reserved) - each.final
        )
        for name in given.rounded_shares()
    }


@cache
def _all_that_is_handed_out() -> dict[str, float]:
    """Give the pieces, with what was asked for."""
    return {
        name: given.mean_over_snapshots(name, lambda each: given.next_power_of_two(each.reserved))
        for name in given.rounded_shares()
    }


def _shares_of_each_piece(snapshot: Snapshot) -> list[float]:
    pieces = [given.next_power_of_two(each.reserved) for each in snapshot.reservations]
    return [
        (piece - each.reserved) / piece
        for piece, each in zip(pieces, snapshot.reservations, strict=True)
    ]


@cache
def _mean_share_of_a_piece_each_time() -> dict[str, float]:
    """Average each piece's own share in a snapshot, and then over the snapshots."""
    return {
        name: fmean(
            fmean(_shares_of_each_piece(each))
            for each in given.snapshots_under(name)
            if each.reservations
        )
        for name in given.rounded_shares()
    }


@cache
def _mean_share_of_a_piece() -> dict[str, float]:
    """Average each piece's own share over all snapshots at once."""
    return {
        name: fmean(
            share for each in given.snapshots_under(name) for share in _shares_of_each_piece(each)
        )
        for name in given.rounded_shares()
    }


@cache
def _in_the_first_snapshot() -> dict[str, float]:
    """Look at one moment, the first."""
    return {name: _behind(given.snapshots_under(name)[0]) for name in given.rounded_shares()}


@cache
def _per_request() -> dict[str, float]:
    """Average over all requests of all snapshots."""
    numbers = {
        name: sum(len(each.reservations) for each in given.snapshots_under(name))
        for name in given.rounded_shares()
    }
    return {name: total / numbers[name] for name, total in _summed_up().items()}


def _behind(snapshot: Snapshot) -> float:
    """Return the share of the slots that is rounded up at one moment."""
    pieces = sum(given.next_power_of_two(each.reserved) for each in snapshot.reservations)
    reserved = sum(each.reserved for each in snapshot.reservations)
    return (pieces - reserved) / given.OPT_13B_SLOTS


MEASURED = (
    Misconception("per cent", "Keep the shares between 0 and 1.", _in_percent),
    Misconception("per cent, rounded", "Keep the shares between 0 and 1.", _in_rounded_percent),
    Misconception(
        "the length in the end",
        "A piece is as large as what was asked for, rounded up: `reserved`, and not `final`.",
        _of_the_length_in_the_end,
    ),
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
        "a share of what is external",
        "The share is one of all slots of the memory, not of those that are external.",
        _share_of_the_external,
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
    Misconception(
        "the first snapshot only",
        "An average goes over all snapshots; the first shows only what the first requests got.",
        _in_the_first_snapshot,
    ),
    Misconception(
        "an average over the requests",
        "Add up within a snapshot, over all its requests, and average over the snapshots.",
        _per_request,
    ),
    Misconception("slots, not a share", "Divide by the slots of the memory, used or not.", _slots),
    Misconception(
        "a share of the pieces",
        "The share is one of all slots of the memory, not of those that were handed out.",
        _share_of_the_pieces,
    ),
    Misconception(
        "a share of the reservations",
        "The share is one of all slots of the memory, not of those that were asked for.",
        _share_of_the_reservations,
    ),
    Misconception(
        "a share of the reservations, in each snapshot",
        "The share is one of all slots of the memory, not of those that were asked for.",
        _share_of_the_reservations_each_time,
    ),
    Misconception(
        "all that is empty in the pieces",
        "That counts slots that were asked for, too: rounding is what a piece has beyond "
        "`reserved`, written or not.",
        _empty_in_the_pieces,
    ),
    Misconception(
        "what is written, rounded up",
        "A piece is as large as what was asked for, rounded up: `reserved`, and not `written`.",
        _of_what_is_written,
    ),
    Misconception(
        "all that is never written in the pieces",
        "That counts what a policy asks for too much, which is internal: rounding is what a piece "
        "has beyond `reserved`.",
        _never_written_in_the_pieces,
    ),
    Misconception(
        "all that is handed out",
        "That counts what was asked for, too: rounding is what a piece has beyond `reserved`.",
        _all_that_is_handed_out,
    ),
    Misconception(
        "a mean over the pieces, in each snapshot",
        "Add up the slots within a snapshot and divide by all slots of the memory: a mean of the "
        "pieces' own shares counts a small piece like a large one.",
        _mean_share_of_a_piece_each_time,
    ),
    Misconception(
        "a mean over the pieces",
        "Add up the slots within a snapshot and divide by all slots of the memory: a mean of the "
        "pieces' own shares counts a small piece like a large one.",
        _mean_share_of_a_piece,
    ),
    Misconception(
        "the next power, even of a power",
        "2,048 is a power of two already: a reservation of 2,048 slots is not rounded up.",
        _next_power_even_of_a_power,
    ),
)
