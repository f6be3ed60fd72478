"""How the tokens of a request are chosen, and when it ends. Names and defaults are vLLM's."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

GREEDY_BELOW = 1e-5
"""A temperature below this one means the most probable token. Dividing by less overflows."""


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """What a request asks of the sampler.

    A token is chosen in this order: ``repetition_penalty``, ``temperature``, ``min_p``, ``top_k``,
    ``top_p``, and then chance decides among what is left. It is vLLM's order; another one gives
    other probabilities, because ``top_p`` counts only what is still there.

    Attributes:
        n: Answers to one prompt. They share the cache of the prompt.
        temperature: What the logits are divided by. 0 for the most probable token.
        top_p: Keep the fewest most probable tokens that have this probability together.
        top_k: Keep this many of the most probable tokens; 0 or −1 for all.
        min_p: Keep tokens at least this probable, relative to the most probable one.
        repetition_penalty: Makes tokens of the prompt and the output less probable if above 1, and
            more probable if below: positive logits are divided by it, negative ones multiplied.
        max_tokens: Most tokens of each answer. None for as many as fit into the model's context
            behind the prompt.
        stop: Strings that end an answer. The answer's text ends in front of the string.
        stop_token_ids: Tokens that end an answer, besides those that end every answer of the model.
        seed: Where this request's random numbers start, so that the answer can be had again. None
            for numbers that follow from the engine's seed and from how many requests came before.
        logprobs: For each token, report the log-probability of it and of this many of the most
            probable ones. None for none. They are those of the model, before all of the above.
        ignore_eos: Whether to go on where the model says that it is done.

    Raises:
        ValueError: A parameter is out of range.

    >>> SamplingParams(temperature=0, stop="END").stop_strings
    ('END',)
    >>> SamplingParams(top_p=0)
    Traceback (most recent call last):
        ...
    ValueError: top_p is 0; it must be above 0 and at most 1
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int | None = 16
    stop: str | Iterable[str] | None = None
    stop_token_ids: Iterable[int] | None = None
    seed: int | None = None
    logprobs: int | None = None
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        for name in ("n", "top_k", "max_tokens", "seed", "logprobs"):
            value = getattr(self, name)
            if value is not None or name not in _MAY_BE_NONE:
                object.__setattr__(self, name, _whole_number(name, value))
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
            _require_number(name, getattr(self, name))
        # Tuples, so that a list that the caller changes later changes nothing here.
        stop = (self.stop,) if isinstance(self.stop, str) else _tuple("stop", self.stop)
        token_ids = _tuple("stop_token_ids", self.stop_token_ids)
        numbers = tuple(_whole_number("stop_token_ids", token_id) for token_id in token_ids)
        object.__setattr__(self, "stop", stop)
        object.__setattr__(self, "stop_token_ids", numbers)
        for name, is_right, rule in (
            ("n", self.n >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature < float("inf"), "0 or more, and finite"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= -1, "at least 1, or 0 or -1 for all tokens"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("repetition_penalty", 0 < self.repetition_penalty < float("inf"), "above 0"),
            (
                "max_tokens",
                self.max_tokens is None or self.max_tokens >= 1,
                "at least 1, or None for as many as fit",
            ),
            ("logprobs", self.logprobs is None or self.logprobs >= 0, "0 or more, or None"),
            ("stop", all(isinstance(s, str) and s for s in stop), "strings that are not empty"),
        ):
            if not is_right:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {rule}")

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The strings that end an answer."""
        assert isinstance(self.stop, tuple)
        return self.stop

    @property
    def stop_tokens(self) -> frozenset[int]:
        """The tokens that end an answer, as a set."""
        return frozenset(self.stop_token_ids or ())

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is taken, and nothing left to chance."""
        return self.temperature < GREEDY_BELOW


_MAY_BE_NONE = ("max_tokens", "seed", "logprobs")
"""Whole numbers that may be left unsaid."""


def _tuple(name: str, values: Iterable[Any] | None) -> tuple[Any, ...]:
    """Return what a parameter lists; None lists nothing."""
    try:
        return () if values is None else tuple(values)
    except TypeError:
        raise ValueError(f"{name} is {values!r}; it must be a list") from None


def _require_number(name: str, value: object) -> None:
    """Raise ValueError unless a value can be compared with numbers, as those of NumPy can."""
    try:
        float(value)  # type: ignore[arg-type]  # that is the question
    except (TypeError, ValueError, OverflowError):
        is_number = False
    else:
        is_number = not isinstance(value, (str, bytes))
    if not is_number:
        raise ValueError(f"{name} is {value!r}; it must be a number")


def _whole_number(name: str, value: object) -> int:
    """Return a number as an int, also one of NumPy's."""
    try:
        return operator.index(value)  # type: ignore[arg-type]  # that is the question
    except TypeError:
        raise ValueError(f"{name} is {value!r}; it must be a whole number") from None
