"""The block manager's part of a trace: who finds, takes, shares and frees which blocks."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from course_lib.engine.tracing.log import TraceLog
from course_lib.kv_cache.manager import UnknownRequestError
from course_lib.kv_cache.watch.watching import Call


class BlockObserver:
    """Writes down what is asked of a cache manager; give it to ``kv_cache.watching.watch``.

    It knows managers of this course, a learner's own, and vLLM's, which return blocks in groups.

    Args:
        manager: The manager.
        log: Where to write.

    Attributes:
        is_muted: Whether calls are passed over.
        taken_by: Who was the last to take a block, by the block's id.
    """

    def __init__(self, manager: Any, log: TraceLog) -> None:
        self.is_muted = False
        self.taken_by: dict[int, str] = {}
        self._manager = manager
        self._log = log
        self._start = 0.0
        # What a request had is asked for when it has been freed.
        self._tables: dict[str, tuple[int, ...]] = {}
        if hasattr(manager, "block_tables"):
            self._tables = {name: block_ids(t) for name, t in manager.block_tables().items()}

    def before(self) -> None:
        """Take the time."""
        self._start = self._log.now()

    def after(self, call: Call) -> None:
        """Write down a call."""
        if self.is_muted or not call.arguments:
            return
        name = call.arguments[0].request_id
        if isinstance(call.error, UnknownRequestError):
            return  # A scheduler frees whoever ends, also those who hold nothing.
        if call.error is not None:
            reason = f"{type(call.error).__name__}: {call.error}"
            self._add("raises", name, reason=reason)
        elif call.operation == "get_computed_blocks":
            blocks, num_tokens = call.result[:2]  # vLLM returns more
            if num_tokens:
                self._add("finds", name, blocks=block_ids(blocks), num_tokens=num_tokens)
        elif call.operation == "allocate_slots":
            self._after_allocation(name, call.result)
        elif call.operation == "free":
            self._add("frees", name, blocks=self._tables.pop(name, ()))
        elif call.operation == "fork":
            self._after_fork(name, call.arguments[1].request_id)

    def _after_allocation(self, name: str, result: Any) -> None:
        """Write down which blocks a request got, if any."""
        if result is None:
            self._add("lacks room", name)
            return
        taken = block_ids(result)
        self._tables[name] = self._table(name)
        self.taken_by |= dict.fromkeys(taken, name)
        if taken:
            self._add("takes", name, blocks=taken)

    def _after_fork(self, parent: str, child: str) -> None:
        """Write down at both sides what they share."""
        table = self._tables[child] = self._table(child)
        self._add("shares", parent, blocks=table, reason=f"with {child!r}")
        self._add("shares", child, blocks=table, reason=f"of {parent!r}")

    def _table(self, name: str) -> tuple[int, ...]:
        """Return the block table of a request."""
        return flat(self._manager.get_block_ids(name))

    def _add(self, action: str, name: str, **known: Any) -> None:
        """Write down what the call under way did for a request."""
        self._log.add(
            "block manager",
            action,
            self._start,
            self._log.now(),
            request_id=name,
            num_free_blocks=self._manager.block_pool.get_num_free_blocks(),
            **known,
        )


def block_ids(blocks: Any) -> tuple[int, ...]:
    """Return the ids of blocks: of a list of them, or of vLLM's ``KVCacheBlocks``."""
    if hasattr(blocks, "get_block_ids"):
        return flat(blocks.get_block_ids())
    return tuple(block.block_id for block in blocks)


def flat(ids: Iterable[Any]) -> tuple[int, ...]:
    """Return ids, or lists of ids, as one row.

    >>> flat([3, 4]), flat(([3, 4], [5]))
    ((3, 4), (3, 4, 5))
    """
    return tuple(chain.from_iterable(each if isinstance(each, list) else [each] for each in ids))
