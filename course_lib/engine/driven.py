"""Engines that somebody drives from outside: with a model and a memory of the driver's, or a clock.

The parts of the engine decide what is computed, where its keys and values go and which blocks are
moved; the driver computes and moves, and is handed every answer as it grows. So what an engine
costs is known to whoever drives it, whatever the engine says of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from course_lib.attention.backends.arguments import BlockCopies
from course_lib.attention.backends.backend import AttentionBackend
from course_lib.attention.backends.own_operations import PYTORCH_PARTS, TRITON_PARTS
from course_lib.attention.batch import PagedBatch
from course_lib.engine.engine import LLM
from course_lib.engine.engine_parts import EngineParts
from course_lib.engine.kv_store import PagedKVStore
from course_lib.engine.model import LlamaModel
from course_lib.engine.sampling_params import SamplingParams
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import SchedulerConfig

Move = Literal["swap_out", "swap_in", "copy"]
"""From the device to the CPU, back, or within the device."""

Compute = Callable[..., NDArray[np.float32]]
"""Runs the model once. Called with token ids, positions, slots (int64 [num_tokens]), block tables,
context lengths and query starts as in ``PagedBatch``; returns the last hidden states, float32
[num_tokens, hidden_size]."""

Report = Callable[[list[tuple[str, int, list[int]]]], object]
"""Takes in what a step delivered: request, number of the answer, all its tokens so far."""


class DrivenRequest(NamedTuple):
    """One request of a driven run: greedy, and not ended by a token.

    Attributes:
        prompt: Its tokens.
        max_tokens: Tokens of each answer.
        n: How many answers.
    """

    prompt: list[int]
    max_tokens: int
    n: int = 1


class DrivenModel:
    """Stands for a model that a driver runs.

    Args:
        model: A model of the same shape; its output layer is used.
        compute: Runs the driver's.

    Attributes:
        config: Its shape.
        device: The CPU.
    """

    def __init__(self, model: LlamaModel, compute: Compute) -> None:
        self.config = model.config
        self.device = torch.device("cpu")
        self._model = model
        self._compute = compute

    def __call__(self, token_ids: Tensor, positions: Tensor, attend: Any) -> Tensor:
        """Return the last hidden states of a batch, [num_tokens, hidden_size].

        Args:
            token_ids: int64 [num_tokens].
            positions: int64 [num_tokens].
            attend: What ``DrivenStore.attend`` returned.
        """
        batch: PagedBatch = attend
        where = (batch.slot_mapping, batch.block_tables, batch.context_lens, batch.query_starts)
        asked = [each.numpy() for each in (token_ids, positions, *where)]
        return torch.from_numpy(self._compute(*asked))

    def logits(self, hidden: Tensor) -> Tensor:
        """Return logits, [num_tokens, vocab_size]."""
        return self._model.logits(hidden)


class DrivenStore:
    """Stands for keys and values that a driver keeps.

    Args:
        store: A store of the same shape.
        move: Moves the driver's blocks: what to do, and pairs of source and destination.

    Attributes:
        num_blocks: Blocks on the device, the null block included.
        block_size: Tokens per block.
        num_cpu_blocks: Blocks in CPU memory.
    """

    def __init__(self, store: PagedKVStore, move: Callable[[Move, BlockCopies], object]) -> None:
        self.num_blocks = store.num_blocks
        self.block_size = store.block_size
        self.num_cpu_blocks = store.num_cpu_blocks
        self._move = move

    def attend(self, batch: PagedBatch, backend: AttentionBackend) -> PagedBatch:
        """Return what the model has to know to attend: the batch."""
        return batch

    def swap_out(self, pairs: BlockCopies) -> None:
        """Copy blocks to CPU memory: (device block, CPU block)."""
        self._pass_on("swap_out", pairs)

    def swap_in(self, pairs: BlockCopies) -> None:
        """Copy blocks back from CPU memory: (CPU block, device block)."""
        self._pass_on("swap_in", pairs)

    def copy(self, pairs: BlockCopies, backend: AttentionBackend) -> None:
        """Copy blocks within the device: (source, destination)."""
        self._pass_on("copy", pairs)

    def _pass_on(self, move: Move, pairs: BlockCopies) -> None:
        if pairs:
            self._move(move, [(int(source), int(destination)) for source, destination in pairs])


def run_driven(
    llm: LLM,
    requests: Sequence[DrivenRequest | Sequence[Any]],
    compute: Compute,
    move: Callable[[Move, BlockCopies], object],
    report: Report,
) -> int:
    """Serve requests, all at once, with a driver's model and memory.

    Args:
        llm: The engine. It has no model of its own any more afterwards.
        requests: The requests; they are called "0", "1" and so on.
        compute: Runs the driver's model.
        move: Moves the driver's blocks.
        report: Takes in what a step delivered, after each step.

    Returns:
        The number of steps.

    >>> llm = LLM("course-tiny")
    >>> grown = []
    >>> def compute(token_ids, *where): return np.zeros((len(token_ids), 160), dtype=np.float32)
    >>> run_driven(llm, [DrivenRequest([5, 6, 7], max_tokens=2)], compute, print, grown.append)
    2
    >>> grown
    [[('0', 0, [0])], [('0', 0, [0, 0])]]
    """
    llm.executor.model = cast(LlamaModel, DrivenModel(llm.model, compute))
    llm.executor.kv_store = cast(PagedKVStore, DrivenStore(llm.executor.kv_store, move))
    for number, (prompt, params) in enumerate(map(_asked, requests)):
        llm.add_request(str(number), prompt, params)
    steps = 0
    while llm.has_unfinished_requests():
        outputs = llm.step()
        steps += 1
        report(
            [
                (output.request_id, answer.index, list(answer.token_ids))
                for output in outputs
                for answer in output.outputs
            ]
        )
    return steps


def answers_of(
    llm: LLM, requests: Sequence[DrivenRequest | Sequence[Any]]
) -> list[list[list[int]]]:
    """Return the tokens of every answer to each of some requests.

    Args:
        llm: The engine, with its own model and memory.
        requests: The requests, served all at once.

    >>> [[first, second]] = answers_of(LLM("course-tiny"), [DrivenRequest([5, 6], 3, n=2)])
    >>> len(first), first == second
    (3, True)
    """
    asked = [_asked(request) for request in requests]
    prompts, params = [prompt for prompt, _ in asked], [each for _, each in asked]
    outputs = llm.generate(prompts, params, use_tqdm=False)
    return [[list(answer.token_ids) for answer in output.outputs] for output in outputs]


def serve_queue(pieces: dict[str, Any], prompt_lens: Sequence[int], first: int) -> int:
    """Have a scheduler serve many requests that all wait at first; no model is run.

    Args:
        pieces: As for ``EngineParts.of_pieces``.
        prompt_lens: The length of each request's prompt. Each wants two tokens.
        first: Its prompts begin here: no two requests share one.

    Returns:
        How many were served to their end.

    >>> serve_queue({}, [3, 1, 2], first=7)
    3
    """
    engine_parts = EngineParts.of_pieces(pieces)
    blocks, size = 16 * (max(prompt_lens) + 2) + 1, 4
    manager = engine_parts.make_manager(blocks, size, enable_caching=False)
    config = SchedulerConfig(max_num_seqs=16, max_num_batched_tokens=64)
    scheduler = engine_parts.make_scheduler(config, manager)
    requests = {
        str(number): Request(
            str(number), list(range(first + number, first + number + length)), max_tokens=2
        )
        for number, length in enumerate(prompt_lens)
    }
    for request in requests.values():
        scheduler.add_request(request)
    while scheduler.has_unfinished_requests():
        output = scheduler.schedule()
        planned = (requests[name] for name in output.num_scheduled_tokens)
        complete = [each for each in planned if each.num_computed_tokens >= each.num_tokens]
        sampled = {each.request_id: first for each in complete}
        scheduler.update_from_output(output, sampled)
    return sum(len(each.output_token_ids) == each.max_tokens for each in requests.values())


def _asked(request: DrivenRequest | Sequence[Any]) -> tuple[list[int], SamplingParams]:
    """Return the prompt of a request, and what it asks of the sampler."""
    prompt, max_tokens, n = DrivenRequest(*request)
    return prompt, SamplingParams(temperature=0, max_tokens=max_tokens, n=n, ignore_eos=True)


def engine_of(pieces: dict[str, Any], options: dict[str, Any]) -> LLM:
    """Return an engine with course-tiny on the CPU, on some parts of one's own.

    Its operations on the cache, such as attention, are the library's: who measures an engine
    measures how it serves, and a learner's attention is written to be read.

    Args:
        pieces: As for ``EngineParts.of_pieces``. Operations among them are passed over.
        options: Options of ``LLM``.

    >>> engine_of({}, {"num_blocks": 9}).kv_cache_manager.block_pool.num_blocks
    9
    >>> def slow(first, second): raise NotImplementedError
    >>> engine_of({"merge_states": slow}, {"num_blocks": 9}).parts.own_names
    ()
    """
    operations = {*PYTORCH_PARTS, *TRITON_PARTS}
    served = {name: piece for name, piece in pieces.items() if name not in operations}
    parts = EngineParts.of_pieces(served)
    return LLM("course-tiny", device="cpu", dtype=torch.float32, parts=parts, **options)
