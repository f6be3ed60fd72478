"""The executor: carries out the scheduler's plans with a model.

A plan says which requests compute how many tokens, and which blocks are to be moved first. The
executor makes one batch of it, runs the model once over all tokens, whether they are of prompts or
of answers, and samples the next token of every sequence that has come to its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from course_lib.attention.backends.backend import AttentionBackend
from course_lib.attention.batch import PagedBatch
from course_lib.engine.flatten import FlatStep, flatten_step
from course_lib.engine.kv_store import PagedKVStore
from course_lib.engine.model import LlamaModel
from course_lib.engine.request import EngineRequest
from course_lib.engine.sampler import SampledToken, SamplingRow, random_stream, sample
from course_lib.kv_cache.block_table import BlockTable, pad_block_tables, slot_mapping
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import SchedulerOutput

FEW_TOKENS = 16
"""Up to so many tokens are translated one by one, which is faster there: it takes two thirds of the
time for 16 sequences that decode, and the two ways meet between 24 and 32."""

Forks = Mapping[str, Sequence[EngineRequest]]
"""Requests that share another one's blocks from this step on, by the id of that one."""

SlotMapping = Callable[
    [NDArray[np.int32], NDArray[np.int32], NDArray[np.int64], int], NDArray[np.int64]
]
FlattenStep = Callable[[Sequence[int], Sequence[int], Sequence[int]], FlatStep]


class StepResult(NamedTuple):
    """What came of a plan.

    Attributes:
        sampled: The next token of each request that has one, by id.
        computed_at: When the model was done, and sampling began: seconds of ``time.monotonic``.
    """

    sampled: dict[str, SampledToken]
    computed_at: float


class Batch(NamedTuple):
    """A plan as tensors.

    Attributes:
        token_ids: int64 [num_tokens].
        positions: int64 [num_tokens].
        paged: Where the sequences are in the cache.
        sample_rows: The row of the last token of each sequence that is computed to its end, in the
            order of the plan.
    """

    token_ids: Tensor
    positions: Tensor
    paged: PagedBatch
    sample_rows: list[int]


@dataclass(slots=True, eq=False)
class LiveSequence:
    """What the executor keeps of a request that has blocks.

    Attributes:
        request: The request.
        stream: Its stream of random numbers.
        table: Its block table.
        block_ids: The same as an array.
        num_slots: Tokens for which the table has room.
        is_forked: Whether a block in its table may be replaced, and not only be added to it.
        seen: Which tokens are in it, bool [vocab_size]; None unless it has a repetition penalty.
        num_seen: How many of its tokens are marked in ``seen``.
    """

    request: EngineRequest
    stream: int
    table: BlockTable
    block_ids: NDArray[np.int32]
    num_slots: int = 0
    is_forked: bool = False
    seen: Tensor | None = None
    num_seen: int = 0

    @property
    def is_caught_up(self) -> bool:
        """Whether all its tokens are computed, so that the next one can be sampled."""
        return self.request.num_computed_tokens >= self.request.num_tokens


class Executor:
    """Runs a model over the sequences that a scheduler chooses, step by step.

    Invariant: of every request that has blocks it keeps a block table, which equals the cache
    manager's as soon as the request is computed; of the others it keeps nothing.

    Args:
        model: The model.
        kv_store: Its keys and values.
        backend: The operations on them.
        get_block_ids: Returns the block table of a request: ``KVCacheManager.get_block_ids``.
        block_table: Makes a block table, from the block size.
        slot_mapping: Finds the slots of all tokens of a batch.
        flatten_step: Lays the tokens of a step out.

    Attributes:
        model: The model.
        kv_store: Its keys and values.
        backend: The operations on them.
        sequences: What it keeps of each request that has blocks, by id.
    """

    def __init__(
        self,
        model: LlamaModel,
        kv_store: PagedKVStore,
        backend: AttentionBackend,
        get_block_ids: Callable[[str], list[int]],
        *,
        block_table: Callable[[int], BlockTable] = BlockTable,
        slot_mapping: SlotMapping = slot_mapping,
        flatten_step: FlattenStep = flatten_step,
    ) -> None:
        self.model = model
        self.kv_store = kv_store
        self.backend = backend
        self.sequences: dict[str, LiveSequence] = {}
        self._get_block_ids = get_block_ids
        self._make_block_table = block_table
        self._slot_mapping = slot_mapping
        self._flatten_step = flatten_step

    def execute(self, output: SchedulerOutput, forks: Forks | None = None) -> StepResult:
        """Carry out a plan.

        First the blocks: who ended or lost its blocks is forgotten, then blocks are copied to the
        CPU, from it, and within the cache. In any other order something could be overwritten before
        it is read, or read before it is there. Then who has just got blocks is taken in, the model
        runs once over the tokens of all requests, and whoever is computed to its end gets a token.

        Args:
            output: The plan.
            forks: Requests that share a scheduled one's blocks from this step on, by its id. It
                must be computed to its end in this step; each of them gets a token of its own.

        Returns:
            The sampled tokens, by request id.
        """
        for request_id in (*output.finished_req_ids, *output.preempted_req_ids):
            self.sequences.pop(request_id, None)
        self.kv_store.swap_out(output.blocks_to_swap_out)
        self.kv_store.swap_in(output.blocks_to_swap_in)
        if output.blocks_to_copy:
            self.kv_store.copy(output.blocks_to_copy, self.backend)
        for request in (*output.scheduled_new_reqs, *output.scheduled_resumed_reqs):
            self.enter(request)
        if not output.num_scheduled_tokens:
            return StepResult({}, time.monotonic())
        scheduled = [self.sequences[name] for name in output.num_scheduled_tokens]
        for sequence in scheduled:
            self.update_table(sequence)
        batch = self.make_batch(output)
        rows: list[int] = []
        generating: list[LiveSequence] = []
        caught_up = [sequence for sequence in scheduled if sequence.is_caught_up]
        for sequence, row in zip(caught_up, batch.sample_rows, strict=True):
            family = self.with_forks(sequence, forks or {})
            generating += family
            rows += [row] * len(family)
        logits = self.compute_logits(batch, rows)
        computed_at = time.monotonic()
        tokens = sample(logits, [self.sampling_row(sequence) for sequence in generating])
        names = [sequence.request.request_id for sequence in generating]
        return StepResult(dict(zip(names, tokens, strict=True)), computed_at)

    def enter(self, request: Request) -> LiveSequence:
        """Take in a request that has just got blocks.

        Args:
            request: An ``EngineRequest``.

        Returns:
            What is kept of it, with an empty block table.
        """
        assert isinstance(request, EngineRequest)
        stream = random_stream(request.seed, request.index)
        table = self._make_block_table(self.kv_store.block_size)
        sequence = LiveSequence(request, stream, table, np.empty(0, dtype=np.int32))
        if request.params.repetition_penalty != 1.0:
            sequence.seen = torch.zeros(
                self.model.config.vocab_size, dtype=torch.bool, device=self.model.device
            )
        self.sequences[request.request_id] = sequence
        return sequence

    def update_table(self, sequence: LiveSequence) -> None:
        """Bring a block table up to what the manager says, if it can have changed."""
        request = sequence.request
        if request.num_computed_tokens <= sequence.num_slots and not sequence.is_forked:
            return
        block_ids = self._get_block_ids(request.request_id)
        if sequence.is_forked:
            # By its first write after a fork, a sequence has its own copy of what it shared.
            sequence.table = self._make_block_table(self.kv_store.block_size)
            sequence.is_forked = False
        sequence.table.append(block_ids[len(sequence.table) :])
        sequence.block_ids = np.array(sequence.table.block_ids, dtype=np.int32)
        sequence.num_slots = len(sequence.block_ids) * self.kv_store.block_size
        if request.num_computed_tokens > sequence.num_slots:
            raise ValueError(
                f"request {request.request_id!r} is computed up to token "
                f"{request.num_computed_tokens}, but its block table has room for "
                f"{sequence.num_slots}; allocate_slots comes before a token is computed"
            )

    def _slots(
        self,
        sequences: Sequence[LiveSequence],
        tables: NDArray[np.int32],
        starts: NDArray[np.int32],
        positions: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Return the slots of a batch's tokens."""
        if len(positions) > FEW_TOKENS:
            return self._slot_mapping(tables, starts, positions, self.kv_store.block_size)
        spans = zip(sequences, starts[:-1], starts[1:], strict=True)
        return np.array(
            [
                sequence.table.slot(position)
                for sequence, start, end in spans
                for position in positions[start:end].tolist()
            ],
            dtype=np.int64,
        )

    def with_forks(self, sequence: LiveSequence, forks: Forks) -> list[LiveSequence]:
        """Return a sequence and those that share its blocks from this step on, taken in.

        Args:
            sequence: A sequence that is computed to its end.
            forks: The requests that share another one's blocks, by its id.
        """
        children = [self.enter(child) for child in forks.get(sequence.request.request_id, ())]
        family = [sequence, *children]
        if children:
            for each in family:
                each.is_forked = True
        return family

    def make_batch(self, output: SchedulerOutput) -> Batch:
        """Lay a plan out as tensors, sequence after sequence, in the order of the plan.

        Args:
            output: A plan that computes at least one token.
        """
        sequences = [self.sequences[name] for name in output.num_scheduled_tokens]
        query_lens = list(output.num_scheduled_tokens.values())
        context_lens = [sequence.request.num_computed_tokens for sequence in sequences]
        known_lens = [sequence.request.num_tokens for sequence in sequences]
        token_ids: list[int] = []
        for sequence, end, length in zip(sequences, context_lens, query_lens, strict=True):
            token_ids += sequence.request.all_token_ids[end - length : end]
        positions, starts, sample_rows = self._flatten_step(query_lens, context_lens, known_lens)
        tables = pad_block_tables([sequence.block_ids for sequence in sequences])
        size, device = self.kv_store.block_size, self.model.device
        slots = self._slots(sequences, tables, starts, positions)
        paged = PagedBatch(
            block_tables=torch.from_numpy(tables).to(device),
            context_lens=torch.tensor(context_lens, dtype=torch.int32, device=device),
            query_starts=torch.from_numpy(starts).to(device),
            slot_mapping=torch.from_numpy(slots).to(device),
            num_blocks=self.kv_store.num_blocks,
            block_size=size,
            max_query_len=max(query_lens),
            max_context_len=max(context_lens),
        )
        return Batch(
            torch.tensor(token_ids, device=device),
            torch.from_numpy(positions).to(device),
            paged,
            sample_rows.tolist(),
        )

    def compute_logits(self, batch: Batch, rows: Sequence[int]) -> Tensor:
        """Run the model once over all tokens of a batch, and wait for it.

        Args:
            batch: The tokens. Their keys and values are in the cache afterwards.
            rows: Tokens whose successors are asked for, by row; one may come several times.

        Returns:
            Logits, [len(rows), vocab_size].
        """
        with torch.inference_mode():
            attend = self.kv_store.attend(batch.paged, self.backend)
            hidden = self.model(batch.token_ids, batch.positions, attend)
            logits = self.model.logits(hidden[rows])
        if self.model.device.type == "cuda":
            # So that a timestamp means something.
            torch.cuda.synchronize(self.model.device)
        return logits

    def sampling_row(self, sequence: LiveSequence) -> SamplingRow:
        """Return what the sampler has to know of a sequence."""
        request = sequence.request
        if sequence.seen is not None:
            sequence.seen[request.all_token_ids[sequence.num_seen :]] = True
            sequence.num_seen = request.num_tokens
        return SamplingRow(
            request.params, sequence.stream, len(request.output_token_ids), sequence.seen
        )

    def block_tables(self) -> dict[str, list[int]]:
        """Return the block table of every sequence, by request id."""
        return {name: sequence.table.block_ids for name, sequence in self.sequences.items()}
