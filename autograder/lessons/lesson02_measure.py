"""Lesson 2: its measurement. Tokens per second of two ways to lay out the KV cache."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from autograder.checks.compare import within
from autograder.checks.finding import Misconception
from course_lib.kv_cache import kv_bytes_per_token
from course_lib.kv_cache.reservation import (
    RESERVATIONS,
    Reservation,
    Snapshot,
    replay_contiguous,
    replay_paged,
)
from course_lib.simulation.workload import load_azure
from course_lib.specs import GPUS, MODELS, GiB

SLOWDOWN = 1.26
"""How much longer paged attention takes for the same keys (Kwon et al., SOSP '23, section 7.1)."""

_MODEL, _GPU = MODELS["opt-13b"], GPUS["a100-40gb"]
_MAX_MODEL_LEN = 2048

closely = within(rel=2e-4)
"""Apart from what is rounded; the mean of the steps' rates is off by twice as much."""

_Slots = Callable[[Reservation], int]


def measured() -> dict[str, float]:
    """Return tokens per second of Oracle and of Paged, and the slowdown at which they are equal."""
    rates = {"Oracle": _rate("Oracle"), "Paged": _rate("Paged", SLOWDOWN)}
    return {**rates, "break-even": _break_even()}


def same_rates(wrong: Any, got: Any) -> str | None:
    """Agree where both rates do, and the break-evens if it is in that one that the mistake is."""
    names: tuple[str, ...] = ("Oracle", "Paged")
    if not isinstance(got, dict) or not set(names) <= got.keys():
        return ""
    if wrong["break-even"] != _break_even():
        names = (*names, "break-even")
    complaints = (closely(wrong[name], got.get(name)) for name in names)
    return next((each for each in complaints if each is not None), None)


def _used(reservation: Reservation) -> int:
    return reservation.written


def _reserved(reservation: Reservation) -> int:
    return reservation.reserved


@cache
def _rate(name: str, slowdown: float = 1.0, slots: _Slots = _used) -> float:
    """Return tokens per second: all tokens divided by the time of all steps."""
    moments = _snapshots(name)
    seconds = sum(_step_seconds(moment, slowdown, slots) for moment in moments)
    return sum(len(moment.reservations) for moment in moments) / seconds


def _step_seconds(moment: Snapshot, slowdown: float, slots: _Slots = _used) -> float:
    kv_bytes = sum(map(slots, moment.reservations)) * kv_bytes_per_token(_MODEL)
    return (_MODEL.weight_bytes + slowdown * kv_bytes) / _GPU.memory_bandwidth


@cache
def _break_even() -> float:
    """Return the slowdown at which Paged delivers as many tokens per second as Oracle."""
    moments = _snapshots("Paged")
    seconds = sum(len(moment.reservations) for moment in moments) / _rate("Oracle")
    without, once = (sum(_step_seconds(each, s) for each in moments) for s in (0.0, 1.0))
    return (seconds - without) / (once - without)


@cache
def _snapshots(name: str) -> list[Snapshot]:
    conversation = load_azure("conversation")[:500]
    requests = [r for r in conversation if r.prompt_tokens + r.output_tokens <= _MAX_MODEL_LEN]
    num_slots = 12 * GiB // kv_bytes_per_token(_MODEL)
    if name == "Paged":
        return list(replay_paged(requests, num_slots))
    return list(replay_contiguous(requests, num_slots, RESERVATIONS[name], _MAX_MODEL_LEN))


@cache
def _steps(name: str, slowdown: float = 1.0) -> float:
    """Return steps per second."""
    moments = _snapshots(name)
    return len(moments) / sum(_step_seconds(moment, slowdown) for moment in moments)


@cache
def _mean_of_steps(name: str, slowdown: float = 1.0) -> float:
    moments = _snapshots(name)
    rates = (len(each.reservations) / _step_seconds(each, slowdown) for each in moments)
    return sum(rates) / len(moments)


def _wrong(oracle: float, paged: float) -> dict[str, float]:
    return {"Oracle": oracle, "Paged": paged, "break-even": _break_even()}


@cache
def _equal_seconds() -> float:
    """Return the slowdown at which all steps of Paged take as long as all of Oracle."""
    moments = _snapshots("Paged")
    seconds = sum(_step_seconds(each, 1.0) for each in _snapshots("Oracle"))
    without, once = (sum(_step_seconds(each, s) for each in moments) for s in (0.0, 1.0))
    return (seconds - without) / (once - without)


def _wrong_break_even(slowdown: float) -> dict[str, float]:
    """Return the right rates, with the break-even of who takes rates for proportional to it."""
    right = measured()
    return {**right, "break-even": slowdown * right["Paged"] / right["Oracle"]}


MEASURED = (
    Misconception(
        "reserved for used",
        "A step reads the keys and values of tokens that are there, not the empty slots that are "
        "reserved beside them.",
        lambda: _wrong(_rate("Oracle", slots=_reserved), _rate("Paged", SLOWDOWN, slots=_reserved)),
    ),
    Misconception(
        "attention is faster",
        "26% slower means that reading the same KV bytes takes 1.26 times as long.",
        lambda: _wrong(_rate("Oracle"), _rate("Paged", 1 / SLOWDOWN)),
    ),
    Misconception(
        "the whole step is slower",
        "Only attention pays for paging; the weights are read as before.",
        lambda: _wrong(_rate("Oracle"), _rate("Paged") / SLOWDOWN),
    ),
    Misconception(
        "nobody is slower",
        "The keys and values of Paged take 1.26 times as long to read.",
        lambda: _wrong(_rate("Oracle"), _rate("Paged")),
    ),
    Misconception(
        "both are slower",
        "Oracle keeps each request in one piece, so its attention runs at full speed.",
        lambda: _wrong(_rate("Oracle", SLOWDOWN), _rate("Paged", SLOWDOWN)),
    ),
    Misconception(
        "the mean of the steps' rates",
        "Long steps deliver for longer: divide all tokens by the time of all steps.",
        lambda: _wrong(_mean_of_steps("Oracle"), _mean_of_steps("Paged", SLOWDOWN)),
    ),
    Misconception(
        "steps per second",
        "A step gives each running request a token: count the running requests of all steps, not "
        "the steps.",
        lambda: _wrong(_steps("Oracle"), _steps("Paged", SLOWDOWN)),
    ),
    Misconception(
        "a rate in proportion to the slowdown",
        "Only the KV bytes take longer: the weights do not slow down, so a slowdown of attention "
        "costs less than its share. Solve a + b x slowdown for it.",
        lambda: _wrong_break_even(SLOWDOWN),
    ),
    Misconception(
        "a surcharge for a slowdown",
        "That is by how much longer attention may take. The break-even is the s of the formula, "
        "how many times as long: 1 more.",
        lambda: {**measured(), "break-even": _break_even() - 1},
    ),
    Misconception(
        "relative to 1.26",
        "The break-even is itself a slowdown, of which 1 is none: not how many times 1.26.",
        lambda: {**measured(), "break-even": _break_even() / SLOWDOWN},
    ),
    Misconception(
        "equal seconds for equal rates",
        "At the break-even both deliver as many tokens per second; they need not take the same "
        "seconds. Compare rates: the tokens of all steps divided by their seconds.",
        lambda: {**measured(), "break-even": _equal_seconds()},
    ),
    Misconception(
        "the quotient of the rates",
        "By so much a whole step may become longer. Attention is only a part of it: the weights do "
        "not slow down, and Paged's rate has a slowdown of 1.26 in it.",
        lambda: _wrong_break_even(1.0),
    ),
)
