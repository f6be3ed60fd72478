"""What one iteration costs: the roofline of a forward pass over a mixed batch.

An iteration is described by a few totals, ``course_lib.steps.IterationWork``, whoever is in the
batch. A cost model turns them into seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

from course_lib.kv_cache.sizing import kv_bytes_per_token
from course_lib.specs import GPUSpec, ModelSpec
from course_lib.steps import IterationWork


class CostModel(Protocol):
    """Tells how long an iteration takes."""

    def seconds(self, work: IterationWork) -> float:
        """Return the duration of an iteration in seconds."""


@dataclass(frozen=True)
class ConstantCostModel:
    """Every iteration takes the same time: for drawings and worked examples.

    >>> ConstantCostModel(0.02).seconds(IterationWork.of_batch([(500, 0)]))
    0.02
    """

    seconds_per_iteration: float = 1.0

    def __post_init__(self) -> None:
        if not self.seconds_per_iteration > 0:
            raise ValueError(
                f"seconds_per_iteration is {self.seconds_per_iteration}; it must be greater than 0"
            )

    def seconds(self, work: IterationWork) -> float:
        """Return the constant, whatever there is to do."""
        return self.seconds_per_iteration


@dataclass(frozen=True)
class FunctionCostModel:
    """Every iteration takes what a function says: times that were measured, or a formula.

    Attributes:
        function: Takes the four totals of ``IterationWork``, in their order, and returns seconds.

    >>> by_token = FunctionCostModel(lambda tokens, *others: max(128, tokens) / 8192)
    >>> by_token.seconds(IterationWork.of_batch([(1, 500)] * 64 + [(192, 0)]))
    0.03125
    """

    function: Callable[..., float]

    def seconds(self, work: IterationWork) -> float:
        """Return what the function says."""
        return self.function(*work)


def token_budget(
    cost_model: CostModel,
    target_seconds: float,
    num_decodes: int,
    context: int,
    cached: int,
    at_most: int = 16384,
) -> int:
    """Return the largest token budget of an iteration that does not take longer than a target.

    Such an iteration computes a token for each of the requests that decode, and one chunk of a
    prompt with the tokens that are left. A longer chunk is never faster. The promise holds for the
    batch that is described, and for one with no more of anything. Where fewer decode, the budget
    leaves a longer chunk, which may take longer: describe the worst that you expect.

    Args:
        cost_model: Tells how long an iteration takes. It is asked at most 2·log₂(``at_most``)
            times, from ``at_most`` = 4 on.
        target_seconds: The most that the iteration may take.
        num_decodes: Requests that decode, from 0.
        context: Tokens that are cached of each of them, from 0.
        cached: Tokens of the prompt in front of the chunk that are cached, from 0.
        at_most: The longest chunk to consider, from 1.

    Returns:
        Tokens of the iteration: one for each decode and those of the chunk, which may be 0.

    Raises:
        ValueError: A number is out of range, or an iteration of the decodes alone, or of nothing
            if there are none, takes longer than the target.

    >>> from course_lib.specs import GPUS, MODELS
    >>> cost_model = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])
    >>> token_budget(cost_model, 0.05, num_decodes=64, context=1500, cached=8000)
    616
    """
    if num_decodes < 0 or context < 0 or cached < 0 or at_most < 1:
        raise ValueError(
            f"num_decodes is {num_decodes}, context {context}, cached {cached} and at_most "
            f"{at_most}; at_most must be at least 1, the others at least 0"
        )
    decodes = [(1, context)] * num_decodes
    seconds = cost_model.seconds(IterationWork.of_batch(decodes))
    if not seconds <= target_seconds:
        raise ValueError(
            f"{num_decodes} decodes behind {context} tokens take {seconds:.6g} s alone, longer "
            f"than {target_seconds:.6g} s; allow more time, or fewer requests"
        )
    enough, too_long = 0, at_most + 1
    while too_long - enough > 1:
        chunk = (enough + too_long) // 2
        work = IterationWork.of_batch([*decodes, (chunk, cached)])
        if cost_model.seconds(work) <= target_seconds:
            enough = chunk
        else:
            too_long = chunk
    return num_decodes + enough


class IterationTime(NamedTuple):
    """Where the time of an iteration goes, in seconds.

    Attributes:
        read_weights: What reading the weights takes.
        compute_linear: What multiplying with the weights takes.
        move_kv: What reading and writing the KV cache takes.
        compute_attention: What the attention among tokens takes.
        swap: What copying between GPU and CPU takes.
    """

    read_weights: float
    compute_linear: float
    move_kv: float
    compute_attention: float
    swap: float

    @property
    def total(self) -> float:
        """The whole iteration: linear and attention layers alternate, and swapping comes first.

        Layers of one kind never run beside those of the other, and nothing is computed while blocks
        are copied: the three add up. Only within a kind of layer do memory and compute units work
        at the same time.

        >>> IterationTime(7.0, 3.0, 2.0, 5.0, 11.0).total
        23.0
        """
        # In the layers of a kind, memory and compute units work at once: the slower one counts.
        linear = max(self.read_weights, self.compute_linear)
        attention = max(self.move_kv, self.compute_attention)
        return linear + attention + self.swap

    @property
    def is_memory_bound(self) -> bool:
        """Whether the linear layers wait for the weights rather than for arithmetic."""
        return self.read_weights >= self.compute_linear


@dataclass(frozen=True)
class RooflineCostModel:
    """Time of an iteration from FLOP and bytes alone.

    The layers of a transformer run one after the other, in two kinds:

    - linear layers read all weights once, however many tokens there are, and compute
      2 × parameters FLOP per token (without those of the input embedding, which is looked up);
    - attention layers move the keys and values of every token in the context of the batch, and
      compute 4 × layers × query heads × head_dim FLOP per attended pair.

    Within a kind, memory and compute units work at the same time, so the slower one counts. Numbers
    are those of ``course_lib.roofline``. Each unit reaches a fixed share of its peak. Both shares
    are guesses from experience: large copies come close to the memory's peak, and large matrix
    products reach some three quarters of the peak of the tensor cores.

    What is left out: launching kernels, sampling and everything else that the CPU does, which an
    engine hides behind the GPU by planning a step ahead; norms, activations and logits, of which
    only requests that sample need any; the fact that small batches fill the tensor cores badly.
    The input embedding counts as read, and the output layer as multiplied for every token, though
    only requests that sample need it.

    In a mixture of experts a token is multiplied with the experts that it is routed to, the share s
    of all. An iteration of n tokens reads the experts that any of them is routed to: the share
    1 − (1 − s)ⁿ, if tokens choose independently and none is preferred. It is near 1 for some dozens
    of tokens, so such a model computes like a small one and reads like a large one.

    Args:
        model: The model's shape.
        gpu: Bandwidth and peak of the GPU. For tensor parallelism over several, multiply both.
        memory_efficiency: Share of the memory bandwidth that is reached, above 0 and at most 1.
        compute_efficiency: Share of the peak FLOP per second that is reached, likewise.
        pcie_bandwidth: Bytes per second between GPU and CPU, in one direction at a time. About
            25e9 is what PCIe 4.0 with 16 lanes reaches of its 31.5e9. Copies never overlap with
            computing, nor a copy in one direction with one in the other.
        iteration_time: Adds up where the time goes, for a class of one's own.

    Raises:
        ValueError: An efficiency is outside (0, 1], or the bandwidth is not positive.

    >>> from course_lib.specs import GPUS, MODELS
    >>> cost_model = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["rtx-4090"])
    >>> decode = IterationWork.of_batch([(1, 999)] * 32)
    >>> print(f"{1000 * cost_model.seconds(decode):.1f} ms")
    21.6 ms
    >>> prefill = IterationWork.of_batch([(2048, 0)])
    >>> print(f"{1000 * cost_model.seconds(prefill):.0f} ms")
    257 ms
    """

    model: ModelSpec
    gpu: GPUSpec
    memory_efficiency: float = 0.93
    compute_efficiency: float = 0.75
    pcie_bandwidth: float = 25e9
    iteration_time: type[IterationTime] = IterationTime

    def __post_init__(self) -> None:
        for name in ("memory_efficiency", "compute_efficiency"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it is a share above 0 and at most 1"
                )
        if not self.pcie_bandwidth > 0:
            raise ValueError(f"pcie_bandwidth is {self.pcie_bandwidth}; it must be greater than 0")

    def seconds(self, work: IterationWork) -> float:
        """Return the duration of an iteration in seconds.

        It is ``breakdown(work).total``.
        """
        return self.breakdown(work).total

    def breakdown(self, work: IterationWork) -> IterationTime:
        """Return where the time goes.

        An iteration that computes no token (one that only swaps) reads no weights.

        >>> from course_lib.specs import GPUS, MODELS
        >>> cost_model = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])
        >>> one_token, many = (IterationWork.of_batch([(n, 0)]) for n in (1, 1000))
        >>> [cost_model.breakdown(work).is_memory_bound for work in (one_token, many)]
        [True, False]
        """
        bandwidth = self.gpu.memory_bandwidth * self.memory_efficiency
        flops = self.gpu.peak_flops * self.compute_efficiency
        kv_bytes = kv_bytes_per_token(self.model)
        return self.iteration_time(
            read_weights=self.weight_bytes_read(work.num_tokens) / bandwidth,
            compute_linear=self.linear_flops_per_token * work.num_tokens / flops,
            move_kv=kv_bytes * work.context_tokens / bandwidth,
            compute_attention=self.attention_flops_per_pair * work.attended_tokens / flops,
            swap=kv_bytes * work.swapped_tokens / self.pcie_bandwidth,
        )

    def weight_bytes_read(self, num_tokens: int) -> float:
        """Return the bytes of all weights that so many tokens need.

        >>> from course_lib.specs import GPUS, MODELS
        >>> cost_model = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])
        >>> cost_model.weight_bytes_read(0), cost_model.weight_bytes_read(1)
        (0.0, 16060522496)
        """
        if num_tokens == 0:
            return 0.0
        model = self.model
        if model.expert_params is None or model.expert_share is None:
            return model.weight_bytes
        share_not_chosen = (1 - model.expert_share) ** num_tokens
        return model.weight_bytes - share_not_chosen * model.expert_params * model.dtype_bytes

    @cached_property
    def linear_flops_per_token(self) -> float:
        """FLOP of the linear layers per token: 2 for each parameter that it is multiplied with.

        The input embedding is looked up, and of the experts only some are chosen.
        """
        idle_params = float(self.model.embedding_params or 0)
        if self.model.expert_params is not None and self.model.expert_share is not None:
            idle_params += self.model.expert_params * (1 - self.model.expert_share)
        return 2 * (self.model.num_params - idle_params)

    @cached_property
    def attention_flops_per_pair(self) -> int:
        """FLOP per attended pair: scores and weighted values, in all layers and query heads."""
        return 4 * self.model.num_layers * self.model.num_attention_heads * self.model.head_dim
