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
from course_lib.engine.kv_store import PagedKVStore
from course_lib.engine.model import LlamaModel
from course_lib.engine.sampler import SampledToken, SamplingRow, random_stream, sample
from course_lib.engine.sampling_params import SamplingParams
from course_lib.kv_cache.block_table import BlockTable, pad_block_tables, slot_mapping
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import SchedulerOutput

FEW_TOKENS = 16
"""Up to so many tokens are translated one by one, which takes a third of the time then."""

SlotMapping = Callable[
    [NDArray[np.int32], NDArray[np.int32], NDArray[np.int64], int], NDArray[np.int64]
]


class EngineRequest(Request):
    """A request of the scheduler that also says how its tokens are chosen.

    Args:
        request_id: As in ``Request``.
        prompt_token_ids: As in ``Request``.
        params: What it asks of the sampler.
        seed: Where its random numbers start.
        index: Which answer to its prompt it is, from 0.
        priority: As in ``Request``.
        arrival_time: As in ``Request``.
        eos_token_id: As in ``Request``.
        cache_salt: As in ``Request``.
        client_id: As in ``Request``.

    Attributes:
        params: What it asks of the sampler.
        seed: Where its random numbers start.
        index: Which answer to its prompt it is.

    >>> EngineRequest("a", [5, 6], SamplingParams(max_tokens=3), seed=0)
    Request('a', waiting, 2 + 0 tokens, 0 computed)
    """

    __slots__ = ("index", "params", "seed")

    def __init__(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        params: SamplingParams,
        seed: int,
        index: int = 0,
        *,
        priority: int = 0,
        arrival_time: float = 0.0,
        eos_token_id: int | None = None,
        cache_salt: str | None = None,
        client_id: str = "",
    ) -> None:
        super().__init__(
            request_id,
            prompt_token_ids,
            params.max_tokens,
            priority,
            arrival_time,
            eos_token_id,
            cache_salt,
            client_id=client_id,
        )
        self.params = params
        self.seed = seed
        self.index = index


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
    """

    token_ids: Tensor
    positions: Tensor
    paged: PagedBatch


@dataclass(slots=True, eq=False)
class _Sequence:
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
    ) -> None:
        self.model = model
        self.kv_store = kv_store
        self.backend = backend
        self._get_block_ids = get_block_ids
        self._make_block_table = block_table
        self._slot_mapping = slot_mapping
        self._sequences: dict[str, _Sequence] = {}

    def execute(
        self, output: SchedulerOutput, forks: Mapping[str, Sequence[EngineRequest]] | None = None
    ) -> StepResult:
        """Carry out a plan.

        Args:
            output: The plan.
            forks: Requests that share a scheduled one's blocks from this step on, by its id. It
                must be computed to its end in this step; each of them gets a token of its own.
        """
        forks = forks or {}
        with torch.inference_mode():
            self._forget(output)
            self._move_blocks(output)
            for request in (*output.scheduled_new_reqs, *output.scheduled_resumed_reqs):
                self._enter(request)
            if not output.num_scheduled_tokens:
                return StepResult({}, time.monotonic())
            sequences = [self._sequences[name] for name in output.num_scheduled_tokens]
            for sequence in sequences:
                self._update_table(sequence)
            batch = self.make_batch(output)
            attend = self.kv_store.attend(batch.paged, self.backend)
            hidden = self.model(batch.token_ids, batch.positions, attend)
            hidden, generating = self._last_tokens(hidden, sequences, batch.paged, forks)
            logits = self.model.logits(hidden)
            self._synchronize()
            computed_at = time.monotonic()
            tokens = sample(logits, [self._row(sequence) for sequence in generating])
        names = (sequence.request.request_id for sequence in generating)
        return StepResult(dict(zip(names, tokens, strict=True)), computed_at)

    def make_batch(self, output: SchedulerOutput) -> Batch:
        """Lay a plan out as tensors, sequence after sequence, in the order of the plan."""
        sequences = [self._sequences[name] for name in output.num_scheduled_tokens]
        query_lens = list(output.num_scheduled_tokens.values())
        context_lens = [sequence.request.num_computed_tokens for sequence in sequences]
        token_ids: list[int] = []
        for sequence, end, length in zip(sequences, context_lens, query_lens, strict=True):
            token_ids += sequence.request.all_token_ids[end - length : end]
        starts = np.zeros(len(sequences) + 1, dtype=np.int32)
        np.cumsum(query_lens, out=starts[1:])
        # A sequence's queries are the last tokens of its context.
        shifts = np.asarray(context_lens, dtype=np.int64) - starts[1:]
        positions = np.arange(len(token_ids)) + shifts.repeat(query_lens)
        tables = pad_block_tables([sequence.block_ids for sequence in sequences])
        size, device = self.kv_store.block_size, self.model.device
        paged = PagedBatch(
            block_tables=torch.from_numpy(tables).to(device),
            context_lens=torch.tensor(context_lens, dtype=torch.int32, device=device),
            query_starts=torch.from_numpy(starts).to(device),
            slot_mapping=torch.from_numpy(self._slots(sequences, tables, starts, positions)).to(
                device
            ),
            num_blocks=self.kv_store.num_blocks,
            block_size=size,
            max_query_len=max(query_lens),
            max_context_len=max(context_lens),
        )
        return Batch(
            torch.tensor(token_ids, device=device), torch.from_numpy(positions).to(device), paged
        )

    def block_tables(self) -> dict[str, list[int]]:
        """Return the block table of every sequence, by request id."""
        return {name: sequence.table.block_ids for name, sequence in self._sequences.items()}

    def _forget(self, output: SchedulerOutput) -> None:
        """Drop the sequences that have lost their blocks."""
        for request_id in (*output.finished_req_ids, *output.preempted_req_ids):
            self._sequences.pop(request_id, None)

    def _move_blocks(self, output: SchedulerOutput) -> None:
        """Copy blocks to the CPU, from it, and within the cache; the order matters."""
        if output.blocks_to_swap_out:
            self.kv_store.swap_out(output.blocks_to_swap_out)
        if output.blocks_to_swap_in:
            self.kv_store.swap_in(output.blocks_to_swap_in)
        if output.blocks_to_copy:
            self.kv_store.copy(output.blocks_to_copy, self.backend)

    def _enter(self, request: Request) -> _Sequence:
        """Take in a request that has just got blocks."""
        assert isinstance(request, EngineRequest)
        stream = random_stream(request.seed, request.index)
        table = self._make_block_table(self.kv_store.block_size)
        sequence = _Sequence(request, stream, table, np.empty(0, dtype=np.int32))
        if request.params.repetition_penalty != 1.0:
            sequence.seen = torch.zeros(
                self.model.config.vocab_size, dtype=torch.bool, device=self.model.device
            )
        self._sequences[request.request_id] = sequence
        return sequence

    def _update_table(self, sequence: _Sequence) -> None:
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
        sequences: Sequence[_Sequence],
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

    def _last_tokens(
        self,
        hidden: Tensor,
        sequences: Sequence[_Sequence],
        batch: PagedBatch,
        forks: Mapping[str, Sequence[EngineRequest]],
    ) -> tuple[Tensor, list[_Sequence]]:
        """Return the hidden states from which tokens are sampled, and the sequences they are of."""
        rows: list[int] = []
        generating: list[_Sequence] = []
        ends = batch.query_starts.tolist()[1:]
        for sequence, end in zip(sequences, ends, strict=True):
            request = sequence.request
            if request.num_computed_tokens < len(request.all_token_ids):
                continue
            children = [self._enter(child) for child in forks.get(request.request_id, ())]
            for each in children and (sequence, *children):
                each.is_forked = True
            generating += (sequence, *children)
            rows += [end - 1] * (1 + len(children))
        if len(rows) == len(hidden) == len(sequences):
            return hidden, generating
        return hidden[rows], generating

    def _row(self, sequence: _Sequence) -> SamplingRow:
        """Return what the sampler has to know of a sequence."""
        request = sequence.request
        if sequence.seen is not None:
            sequence.seen[request.all_token_ids[sequence.num_seen :]] = True
            sequence.num_seen = request.num_tokens
        return SamplingRow(
            request.params, sequence.stream, len(request.output_token_ids), sequence.seen
        )

    def _synchronize(self) -> None:
        """Wait for the device, so that a timestamp means something."""
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
