"""What one step of an engine asks of attention, checked once and used by every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PagedBatch:
    """The sequences of one step: where their keys and values are, and which tokens are queries.

    Sequences stand one after the other in the queries, without padding ("ragged"). The queries of
    sequence i are tokens ``query_starts[i]`` to ``query_starts[i + 1]`` − 1; they are the *last*
    tokens of its context. A sequence with one query decodes, or prefills a chunk of one token; one
    with more prefills a chunk.

    Make one with ``PagedBatch.of``, which checks the numbers while they are still on the host: a
    check on a GPU would wait for everything that was queued there before, in every layer.

    Attributes:
        block_tables: int32 [num_seqs, max_blocks], the physical block of each logical block; after
            the last, 0: the null block, which holds nobody's keys.
        context_lens: int32 [num_seqs], tokens whose keys and values are in the cache, those of the
            queries included.
        query_starts: int32 [num_seqs + 1], from 0 to the number of query tokens.
        slot_mapping: int64 [num_tokens], the slot of each query token's own key and value.
        num_blocks: Blocks of the cache that the tables point into.
        block_size: Tokens per block.
        max_query_len: The most queries that a sequence has; 0 in an empty batch.
        max_context_len: The longest context; 0 in an empty batch.
    """

    block_tables: Tensor
    context_lens: Tensor
    query_starts: Tensor
    slot_mapping: Tensor
    num_blocks: int
    block_size: int
    max_query_len: int
    max_context_len: int

    @classmethod
    def of(
        cls,
        block_tables: Sequence[Sequence[int]],
        context_lens: Sequence[int],
        query_lens: Sequence[int] | None = None,
        *,
        num_blocks: int,
        block_size: int,
        device: torch.device | str = "cpu",
    ) -> PagedBatch:
        """Check the numbers of a step and lay them out as tensors.

        Args:
            block_tables: The block ids of each sequence, in order. More blocks than the context
                needs are allowed.
            context_lens: Tokens of each sequence that are in the cache when it is attended to.
            query_lens: How many of them, the last ones, are queries; 1 each if None.
            num_blocks: Blocks of the cache.
            block_size: Tokens per block.
            device: Where the tensors go.

        Raises:
            ValueError: The three do not have the same length, a sequence has no query or more
                queries than tokens, a context is longer than its table, or a block id is outside
                the cache.

        >>> batch = PagedBatch.of([[7, 3], [5]], [5, 2], [2, 1], num_blocks=8, block_size=4)
        >>> batch.query_starts.tolist(), batch.slot_mapping.tolist()
        ([0, 2, 3], [31, 12, 21])
        """
        if query_lens is None:
            query_lens = [1] * len(context_lens)
        if not len(block_tables) == len(context_lens) == len(query_lens):
            raise ValueError(
                f"{len(block_tables)} block tables, {len(context_lens)} context lengths and "
                f"{len(query_lens)} query lengths; there is one of each per sequence"
            )
        if block_size < 1:
            raise ValueError(f"block_size is {block_size}; a block holds at least 1 token")
        slots: list[int] = []
        starts = [0]
        for index, (table, context_len, query_len) in enumerate(
            zip(block_tables, context_lens, query_lens, strict=True)
        ):
            _require_sequence(index, table, context_len, query_len, num_blocks, block_size)
            positions = range(context_len - query_len, context_len)
            slots += (table[p // block_size] * block_size + p % block_size for p in positions)
            starts.append(len(slots))
        width = max(map(len, block_tables), default=0)
        padded = [[*table, *[0] * (width - len(table))] for table in block_tables]
        return cls(
            torch.tensor(padded, dtype=torch.int32).reshape(len(padded), width).to(device),
            torch.tensor(context_lens, dtype=torch.int32, device=device),
            torch.tensor(starts, dtype=torch.int32, device=device),
            torch.tensor(slots, dtype=torch.int64, device=device),
            num_blocks,
            block_size,
            max(query_lens, default=0),
            max(context_lens, default=0),
        )

    @property
    def num_seqs(self) -> int:
        """Sequences in the batch."""
        return len(self.context_lens)

    @property
    def num_tokens(self) -> int:
        """Query tokens of all sequences."""
        return len(self.slot_mapping)


def _require_sequence(
    index: int,
    table: Sequence[int],
    context_len: int,
    query_len: int,
    num_blocks: int,
    block_size: int,
) -> None:
    """Raise ValueError unless the numbers of one sequence fit together."""
    if not 1 <= query_len <= context_len:
        raise ValueError(
            f"sequence {index} has {query_len} queries and a context of {context_len}; the queries "
            "are the last tokens of the context, at least 1"
        )
    if context_len > len(table) * block_size:
        raise ValueError(
            f"sequence {index} has a context of {context_len} tokens, but its {len(table)} blocks "
            f"of {block_size} hold {len(table) * block_size}; append blocks to its table first"
        )
    for block_id in table:
        if not 0 <= block_id < num_blocks:
            raise ValueError(
                f"sequence {index} has block {block_id} in its table; the cache has blocks 0 to "
                f"{num_blocks - 1}"
            )
