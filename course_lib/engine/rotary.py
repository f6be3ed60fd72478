"""Rotary position embeddings: a token's position, as angles by which queries and keys are turned.

The numbers of a head form head_dim / 2 pairs: number i and number i + head_dim / 2. At position p,
pair i is turned by p · f(i) radians, with f(i) = theta^(−2i / head_dim): the first pair about one
radian per token, the last one almost not at all. The product of a query and a key that are turned
so depends on their distance only (Su et al., 2021).

A model that is to read longer texts than those it was trained on gets smaller frequencies. Each way
to shrink them is a class here. What they have in common: a frequency is fixed for good, so a key in
the cache stays right however long its sequence becomes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class DynamicScaling:
    """Frequencies that shrink once a sequence is longer than ``max_position_embeddings``.

    Up to there they are what they would be without scaling. Beyond, they change with every token,
    and the keys that are in the cache already would have been turned by the wrong angles. The
    engine therefore stops at ``LlamaConfig.max_model_len``, and never gets there.

    Attributes:
        factor: How many times as long a text the model was to read.
    """

    rope_type: ClassVar[str] = "dynamic"
    attention_factor: ClassVar[float] = 1.0
    factor: float

    def scaled(self, frequencies: Tensor, theta: float) -> Tensor:
        """Return the frequencies as they are."""
        return frequencies

    def longest(self, max_position_embeddings: int) -> int:
        """Return the tokens up to which the frequencies are these."""
        return max_position_embeddings


@dataclass(frozen=True)
class LinearScaling:
    """All frequencies, divided by one number: as if positions were that much closer together.

    Attributes:
        factor: What they are divided by.
    """

    rope_type: ClassVar[str] = "linear"
    attention_factor: ClassVar[float] = 1.0
    factor: float

    def scaled(self, frequencies: Tensor, theta: float) -> Tensor:
        """Return the frequencies, divided.

        >>> LinearScaling(4.0).scaled(torch.tensor([1.0, 0.1]), theta=1e4)
        tensor([0.2500, 0.0250])
        """
        return frequencies / self.factor

    def longest(self, max_position_embeddings: int) -> int:
        """Return the tokens of the longest sequence: so much closer, so many times as many fit.

        >>> LinearScaling(4.0).longest(max_position_embeddings=2048)
        8192
        """
        return int(max_position_embeddings * self.factor)


@dataclass(frozen=True)
class Llama3Scaling:
    """The way of Llama 3.1: divide the low frequencies, keep the high ones.

    How often a pair turns full circle within the original context decides. Fewer than
    ``low_freq_factor`` times: its frequency is divided by ``factor``. More than
    ``high_freq_factor`` times: it stays. Between, the two are mixed.

    Attributes:
        factor: What the low frequencies are divided by.
        low_freq_factor: Turns below which a frequency is low.
        high_freq_factor: Turns above which it is high.
        original_max_position_embeddings: The context of the training, in tokens.
    """

    rope_type: ClassVar[str] = "llama3"
    attention_factor: ClassVar[float] = 1.0
    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def scaled(self, frequencies: Tensor, theta: float) -> Tensor:
        """Return the frequencies, the low ones divided.

        >>> scaling = Llama3Scaling(8.0, 1.0, 4.0, original_max_position_embeddings=8192)
        >>> scaling.scaled(torch.tensor([1.0, 1e-4]), theta=1e4)
        tensor([1.0000e+00, 1.2500e-05])
        """
        turns = self.original_max_position_embeddings * frequencies / (2 * math.pi)
        keep = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        return _mix(frequencies / self.factor, frequencies, keep.clamp(0, 1))

    def longest(self, max_position_embeddings: int) -> int:
        """Return the tokens of the longest sequence: the configuration has the scaled length."""
        return max_position_embeddings


@dataclass(frozen=True)
class YarnScaling:
    """YaRN: as Llama 3.1 does it, with a ramp over the pairs instead of the turns.

    The pairs between the one that turns ``beta_fast`` times within the original context and the one
    that turns ``beta_slow`` times are mixed, in proportion to their index. Attention over a longer
    context spreads more evenly; ``attention_factor`` makes up for it (Peng et al., 2023).

    Attributes:
        factor: What the low frequencies are divided by.
        original_max_position_embeddings: The context of the training, in tokens.
        attention_factor: What cosine and sine are multiplied by.
        beta_fast: Turns above which a frequency is high.
        beta_slow: Turns below which it is low.
        truncate: Whether the ramp begins and ends at whole pairs.
    """

    rope_type: ClassVar[str] = "yarn"
    factor: float
    original_max_position_embeddings: int
    attention_factor: float
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True

    def scaled(self, frequencies: Tensor, theta: float) -> Tensor:
        """Return the frequencies, the low ones divided.

        >>> scaling = YarnScaling(4.0, 4096, attention_factor=1.0)
        >>> scaling.scaled(torch.tensor([1.0, 1e-2, 1e-4]), theta=1e6)
        tensor([1.0000e+00, 6.2500e-03, 2.5000e-05])
        """
        num_pairs = len(frequencies)
        first = self._pair_that_turns(self.beta_fast, num_pairs, theta)
        last = self._pair_that_turns(self.beta_slow, num_pairs, theta)
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, 2 * num_pairs - 1)
        pairs = torch.arange(num_pairs, dtype=torch.float32, device=frequencies.device)
        # The ramp of no width is a step.
        divide = ((pairs - first) / (last - first or 0.001)).clamp(0, 1)
        return _mix(frequencies / self.factor, frequencies, 1 - divide)

    def longest(self, max_position_embeddings: int) -> int:
        """Return the tokens of the longest sequence, whichever length the configuration has.

        >>> yarn = YarnScaling(4.0, original_max_position_embeddings=32_768, attention_factor=1.0)
        >>> yarn.longest(max_position_embeddings=32_768)
        131072
        """
        return int(self.original_max_position_embeddings * self.factor)

    def _pair_that_turns(self, times: float, num_pairs: int, theta: float) -> float:
        """Return the index, with fraction, of the pair that turns so often in the context."""
        radians = 2 * math.pi * times / self.original_max_position_embeddings
        return -num_pairs * math.log(radians) / math.log(theta)


RopeScaling = DynamicScaling | LinearScaling | Llama3Scaling | YarnScaling
"""A way to shrink the frequencies.

Each has a ``rope_type``, its name in a Hugging Face ``config.json``; an ``attention_factor``, by
which cosine and sine are multiplied; and ``scaled(frequencies, theta)``, which takes and returns
float32 [head_dim / 2], in radians per token, largest first. ``theta`` is what they were made from.
``longest(max_position_embeddings)`` says how many tokens a sequence may have.
"""


def _mix(low: Tensor, high: Tensor, share_of_high: Tensor) -> Tensor:
    return low * (1 - share_of_high) + high * share_of_high


@lru_cache(maxsize=32)
def rope_frequencies(
    head_dim: int,
    theta: float,
    scaling: RopeScaling | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return by how many radians each pair of a head turns per token.

    They depend on nothing that a step changes, so they are computed once. Do not write to them.

    Args:
        head_dim: Numbers in a head; even.
        theta: The base; the larger, the slower the last pairs turn.
        scaling: How the frequencies are shrunk, if they are.
        device: Where they go.

    Returns:
        float32 [head_dim / 2], largest first.

    >>> rope_frequencies(head_dim=4, theta=10_000.0)
    tensor([1.0000, 0.0100])
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    frequencies = 1.0 / theta**exponents
    if scaling is not None:
        frequencies = scaling.scaled(frequencies, theta)
    return frequencies.to(device)


@dataclass(frozen=True, eq=False)
class Rotation:
    """By how much to turn each token of a step: computed once, used by every layer.

    Attributes:
        cos: [num_tokens, 1, head_dim], of each number's angle.
        sin: [num_tokens, 1, head_dim], with the sign that the other number of the pair gets.
    """

    cos: Tensor
    sin: Tensor

    @classmethod
    def of(
        cls, positions: Tensor, frequencies: Tensor, scaling: RopeScaling | None = None
    ) -> Rotation:
        """Compute the rotation of tokens at these positions.

        Args:
            positions: int64 [num_tokens].
            frequencies: float32 [head_dim / 2], from ``rope_frequencies``.
            scaling: What was given to that.
        """
        angles = positions[:, None, None].float() * frequencies
        length = 1.0 if scaling is None else scaling.attention_factor
        cos, sin = angles.cos() * length, angles.sin() * length
        return cls(torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1))

    def to(self, dtype: torch.dtype) -> Rotation:
        """Return this rotation for queries and keys of a type.

        The angles themselves need 32 bits: in 16, position 4,097 is the same as 4,096.
        """
        return Rotation(self.cos.to(dtype), self.sin.to(dtype))

    def apply(self, heads: Tensor) -> Tensor:
        """Return queries or keys, turned.

        Args:
            heads: [num_tokens, any number of heads, head_dim].

        Returns:
            The same shape.

        >>> quarter_turn = Rotation.of(torch.tensor([1]), torch.tensor([torch.pi / 2]))
        >>> quarter_turn.apply(torch.tensor([[[3.0, 4.0]]])).round()
        tensor([[[-4.,  3.]]])
        """
        # Rolling half the list brings each number's partner to its place. A third of the time that
        # cutting the pairs apart and joining them again takes (10 against 28 µs for 64 tokens of 6
        # heads on a CPU).
        partners = heads.roll(heads.shape[-1] // 2, dims=-1)
        return torch.addcmul(heads * self.cos, partners, self.sin)
