"""Turns any run of a pool or a manager into a trace that a figure can play.

A trace is a list of frames, one per call. A frame is made of dictionaries, lists, numbers and
strings only, so it can be written as JSON and shown in another process.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import AbstractContextManager
from typing import Any

from course_lib.kv_cache.block_pool import BlockPool, KVCacheBlock
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.kv_cache.watch.watching import Call, pool_of, table_ids, watch

Frame = dict[str, Any]
"""One moment of a run, as plain data; ``snapshot_blocks`` and ``Recorder`` say what is in it."""


def snapshot_blocks(subject: BlockPool | KVCacheManager) -> Frame:
    """Return the state of a pool or a manager as plain data.

    Returns:
        - ``blocks``: for each block, in order of ids, its ``block_id``, ``state`` ("null",
          "in_use", "shared", "cached" or "free"), ``ref_cnt``, ``hash`` (its first eight
          hexadecimal digits, or None) and ``owners`` (ids of the requests that hold it);
        - ``free_queue``: ids from front to back;
        - ``tables``: the block ids of each request, by its id; empty for a pool;
        - ``usage``: the share of blocks in use, from 0.0 to 1.0.

    >>> pool = BlockPool(num_blocks=3)
    >>> _ = pool.get_new_blocks(1)
    >>> frame = snapshot_blocks(pool)
    >>> [block["state"] for block in frame["blocks"]], frame["free_queue"], frame["usage"]
    (['null', 'in_use', 'free'], [2], 0.5)
    """
    pool, tables = pool_of(subject), table_ids(subject)
    owners: defaultdict[int, list[str]] = defaultdict(list)
    for name, block_ids in tables.items():
        for block_id in block_ids:
            owners[block_id].append(name)
    return {
        "blocks": [
            {
                "block_id": block.block_id,
                "state": _state(block),
                "ref_cnt": block.ref_cnt,
                "hash": None if block.block_hash is None else block.block_hash.hex()[:8],
                "owners": owners[block.block_id],
            }
            for block in pool.blocks
        ],
        "free_queue": [block.block_id for block in pool.free_block_queue],
        "tables": tables,
        "usage": pool.get_usage(),
    }


class Recorder:
    """Records a frame for the state at the beginning, and one after every call.

    Attributes:
        frames: The trace. Besides what ``snapshot_blocks`` returns, a frame has ``step`` (from 0),
            ``operation`` ("start" in the first one), ``arguments`` and ``result`` of the call as
            plain data (requests and blocks as their ids), and ``error`` (the message, or None).

    Args:
        subject: The pool or manager to watch. Use the recorder in a ``with`` statement.

    >>> pool = BlockPool(num_blocks=4)
    >>> with Recorder(pool) as recorder:
    ...     pool.free_blocks(pool.get_new_blocks(2))
    >>> [(frame["operation"], frame["free_queue"]) for frame in recorder.frames]
    [('start', [1, 2, 3]), ('get_new_blocks', [3]), ('free_blocks', [1, 2, 3])]
    """

    def __init__(self, subject: BlockPool | KVCacheManager) -> None:
        self.frames: list[Frame] = []
        self._subject = subject
        self._watching: AbstractContextManager[None] = watch(subject, self)

    def __enter__(self) -> Recorder:
        self._watching.__enter__()
        self._append("start", arguments=[], result=None, error=None)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._watching.__exit__(*exception)

    def before(self) -> None:
        """Do nothing: a frame shows what came of a call."""

    def after(self, call: Call) -> None:
        """Record a call."""
        self._append(
            call.operation,
            arguments=_plain([*call.arguments, *call.keywords.values()]),
            result=_plain(call.result),
            error=None if call.error is None else str(call.error),
        )

    def _append(self, operation: str, **outcome: Any) -> None:
        """Add a frame."""
        frame = {"step": len(self.frames), "operation": operation}
        self.frames.append(frame | outcome | snapshot_blocks(self._subject))


def _state(block: KVCacheBlock) -> str:
    """Name the state of a block as the figures do."""
    if block.block_id == 0:
        return "null"
    if block.ref_cnt:
        return "in_use" if block.ref_cnt == 1 else "shared"
    return "free" if block.block_hash is None else "cached"


def _plain(value: Any) -> Any:
    """Return a value as plain data."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        return value.hex()[:8]
    if hasattr(value, "block_id"):
        return value.block_id
    if hasattr(value, "request_id"):
        return value.request_id
    return [_plain(each) for each in value]
