"""What a request asks of a GPU: the time that it takes alone, and the part that is its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from course_lib.simulation.cost_model import IterationTime, RooflineCostModel
from course_lib.simulation.workload import TraceRequest
from course_lib.steps import IterationWork


class ServiceDemand(NamedTuple):
    """What requests ask of a GPU, one value per request, in seconds.

    Attributes:
        alone: How long it takes on an idle GPU, from its start to its last token (S).
        own: GPU time that nobody else shares (D): that of its prompt, and of the attention in the
            iterations in which it decodes. What is left of ``alone`` is reading the weights while
            it decodes, which all that decode in the same iteration share.
    """

    alone: NDArray[np.float64]
    own: NDArray[np.float64]


def service_demand(
    requests: Sequence[TraceRequest],
    cost_model: RooflineCostModel,
    max_num_batched_tokens: int = 2048,
) -> ServiceDemand:
    """Return what each request asks of a GPU.

    For a queue, the load of a GPU is not ρ = λ·S, as if requests were served one by one. It is λ·D,
    since the requests that are present share the rest. As long as memory suffices, their mean
    response is near S / (1 − λ·D): ``MG1PS(lam, D).mean_response_of(S)``.

    Args:
        requests: Requests; when they arrive does not matter.
        cost_model: Tells how long an iteration takes, and where the time goes.
        max_num_batched_tokens: Most tokens of a prompt in an iteration.

    Raises:
        ValueError: ``max_num_batched_tokens`` is less than 1.

    >>> from course_lib.specs import GPUS, MODELS
    >>> cost_model = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])
    >>> demand = service_demand([TraceRequest(0.0, 1000, 200)], cost_model)
    >>> round(float(demand.alone[0]), 3), round(float(demand.own[0]), 3)
    (1.766, 0.08)
    """
    if max_num_batched_tokens < 1:
        raise ValueError(
            f"max_num_batched_tokens is {max_num_batched_tokens}; it must be at least 1"
        )
    longest = max((r.prompt_tokens + r.output_tokens for r in requests), default=0)
    decodes = [cost_model.breakdown(IterationWork.of_batch([(1, n)])) for n in range(longest)]
    # Of the decodes behind fewer than n tokens, so that a difference is the sum over a request's.
    total = np.array(list(accumulate((time.total for time in decodes), initial=0.0)))
    slower = (max(time.move_kv, time.compute_attention) for time in decodes)
    attention = np.array(list(accumulate(slower, initial=0.0)))
    prompts = np.array([r.prompt_tokens for r in requests], dtype=np.int64)
    # The last output token is never computed.
    ends = prompts + np.array([r.output_tokens - 1 for r in requests], dtype=np.int64)
    prefills = np.array(
        [
            sum(time.total for time in _prefill(n, cost_model, max_num_batched_tokens))
            for n in prompts.tolist()
        ],
        dtype=np.float64,
    )
    return ServiceDemand(
        alone=prefills + total[ends] - total[prompts],
        own=prefills + attention[ends] - attention[prompts],
    )


def _prefill(
    prompt_tokens: int, cost_model: RooflineCostModel, max_num_batched_tokens: int
) -> list[IterationTime]:
    """Return the iterations that compute a prompt alone, in chunks."""
    return [
        cost_model.breakdown(
            IterationWork.of_batch([(min(max_num_batched_tokens, prompt_tokens - cached), cached)])
        )
        for cached in range(0, prompt_tokens, max_num_batched_tokens)
    ]
