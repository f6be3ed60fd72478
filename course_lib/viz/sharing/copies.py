"""A prompt, three forks of it, and a write of each: what a manager does, and what is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from course_lib.kv_cache.manager import KVCacheManager, PlainRequest
from course_lib.kv_cache.watch.recorder import Frame, snapshot_blocks
from course_lib.viz.kit.words import counted
from course_lib.viz.sharing.prompts import (
    BLOCK_SIZE,
    MakeManager,
    num_blocks_of,
    take_in,
)
from course_lib.viz.sharing.trouble import error_in_words
from course_lib.viz.sharing.words import listed

NAMES = ("p", "c1", "c2", "c3")
"""The parent and its children."""

_FIRST_WRITTEN = 50
"""The token that the parent writes; each child writes another one."""


@dataclass(frozen=True)
class Step:
    """One moment.

    Attributes:
        said: What has just happened, in a sentence.
        record: The state afterwards.
        copies: Pairs (source, destination) of the blocks that are copied for it.
        contents: The token in each slot of each block; None in one that is empty.
        written: The slot that has just been written: a block and an offset. None if none was.
        is_wrong: Whether a request lost what it had computed.
        problem: The error that came instead, in words; then the record is the one before it.
    """

    said: str
    record: Frame
    copies: tuple[tuple[int, int], ...] = ()
    contents: Mapping[int, tuple[int | None, ...]] | None = None
    written: tuple[int, int] | None = None
    is_wrong: bool = False
    problem: str = ""

    @property
    def tokens(self) -> Mapping[int, tuple[int | None, ...]]:
        """The token in each slot of each block that was ever written."""
        return self.contents or {}


class Memory:
    """What the KV cache holds when the copies of a manager are carried out."""

    def __init__(self) -> None:
        self._blocks: dict[int, list[int | None]] = {}

    def copy(self, source: int, destination: int) -> None:
        """Copy a block."""
        self._blocks[destination] = list(self._blocks.get(source, [None] * BLOCK_SIZE))

    def write(self, table: Sequence[int], position: int, token: int) -> tuple[int, int]:
        """Write a token of a request, and return its block and its offset there.

        Raises:
            ValueError: The table is too short.
        """
        number, offset = divmod(position, BLOCK_SIZE)
        if number >= len(table):
            raise ValueError(
                f"a table of {counted(len(table), 'block')} has no slot for token {position + 1}"
            )
        slots = self._blocks.setdefault(table[number], [None] * BLOCK_SIZE)
        if offset == 0:
            slots[:] = [None] * BLOCK_SIZE  # what its last owner left there is not drawn
        slots[offset] = token
        return table[number], offset

    def read(self, table: Sequence[int], num_tokens: int) -> list[int | None]:
        """Return the first tokens that a request finds in its blocks."""
        slots = [slot for each in table for slot in self._blocks.get(each, [None] * BLOCK_SIZE)]
        return slots[:num_tokens]

    def picture(self) -> dict[int, tuple[int | None, ...]]:
        """Return what is in each block."""
        return {block_id: tuple(slots) for block_id, slots in self._blocks.items()}


def fork_steps(
    order: Sequence[str], num_tokens: int, make: MakeManager = KVCacheManager
) -> list[Step]:
    """Let a manager fork a prompt into three, and let each of the four write a token.

    Args:
        order: Who writes first, second, third, fourth.
        num_tokens: Tokens of the prompt.
        make: Makes the manager.

    Returns:
        A step for the prompt, one for each fork, one for each write. If the manager raises an
        error, the steps up to it, and it in words.

    >>> [step.copies for step in fork_steps(["c1", "p", "c2", "c3"], 10)[4:]]
    [((3, 4),), ((3, 5),), ((3, 6),), ()]
    """
    return list(_Forks(num_tokens, make).steps(order))


class _Forks:
    """The manager, its requests, and the memory."""

    def __init__(self, num_tokens: int, make: MakeManager) -> None:
        tokens = list(range(1, num_tokens + 1))
        self._make = make
        # Enough for a manager that copies whole tables at once: the figure shows that it does.
        self._num_blocks = len(NAMES) * num_blocks_of(num_tokens + 1) + 1
        self._requests = {name: PlainRequest(name, list(tokens)) for name in NAMES}
        self._memory = Memory()

    def steps(self, order: Sequence[str]) -> Iterator[Step]:
        """Yield what happens."""
        parent, *children = NAMES
        doings = [(f"{parent} comes", parent, ""), *((f"fork {c}", c, "fork") for c in children)]
        doings += [(f"{name} writes", name, "write") for name in order]
        last: Step | None = None
        doing = "a manager is made"
        try:
            self._manager = self._make(self._num_blocks, BLOCK_SIZE)
            last = Step("Nothing has come yet.", snapshot_blocks(self._manager))
            for said, name, kind in doings:
                doing = said
                last = self._do(kind, name, last)
                yield last
        except Exception as error:
            # Whatever a learner's manager raises is what the figure has to tell.
            record = last.record if last else {"blocks": [], "free_queue": [], "tables": {}}
            yield Step(doing, record, problem=error_in_words(error))

    def _do(self, kind: str, name: str, last: Step) -> Step:
        if kind == "fork":
            return self._fork(name, last)
        return self._write(name, last) if kind == "write" else self._prompt(name)

    def _prompt(self, name: str) -> Step:
        request = self._requests[name]
        take_in(self._manager, request)
        table = self._manager.get_block_ids(name)
        for position, token in enumerate(request.all_token_ids):
            self._memory.write(table, position, token)
        record = snapshot_blocks(self._manager)
        said = (
            f"{name} computes its {request.num_tokens} tokens, in {counted(len(table), 'block')}."
        )
        return Step(said, record, contents=self._memory.picture())

    def _fork(self, name: str, last: Step) -> Step:
        self._manager.fork(self._requests[NAMES[0]], self._requests[name])
        copies = self._carry_out()
        record = snapshot_blocks(self._manager)
        table = record["tables"].get(name, [])
        copied = f"copied are {_pairs(copies)}" if copies else "nothing is copied"
        said = f"{name} is forked: its table is {' '.join(map(str, table))}, {copied}."
        most = max((record["blocks"][each]["ref_cnt"] for each in table), default=0)
        has = "has" if len(table) == 1 else "have"
        said += f" Its {counted(len(table), 'block')} {has} up to {counted(most, 'holder')} now."
        return Step(said, record, copies, self._memory.picture())

    def _write(self, name: str, last: Step) -> Step:
        request = self._requests[name]
        token, position = _FIRST_WRITTEN + NAMES.index(name), request.num_computed_tokens
        request.all_token_ids.append(token)
        if self._manager.allocate_slots(request, 1) is None:
            raise ValueError(f"allocate_slots finds no room for {name}'s token, though there is")
        copies = self._carry_out()
        table = self._manager.get_block_ids(name)
        written = self._memory.write(table, position, token)
        request.num_computed_tokens += 1
        record = snapshot_blocks(self._manager)
        lost = self._losers()
        said = _told(name, last.record, record, written[0], copies)
        if lost:
            said += f" Wrong: {listed(lost)} {'finds' if len(lost) == 1 else 'find'} other tokens "
            said += "now than were computed."
        return Step(said, record, copies, self._memory.picture(), written, bool(lost))

    def _carry_out(self) -> tuple[tuple[int, int], ...]:
        """Carry out the copies that are due, one after the other."""
        copies = tuple(
            (source, destination) for source, destination in self._manager.take_block_copies()
        )
        for source, destination in copies:
            self._memory.copy(source, destination)
        return copies

    def _losers(self) -> list[str]:
        """Return who does not find what it has computed."""
        tables = self._manager.block_tables()
        return [
            name
            for name, request in self._requests.items()
            if name in tables
            and self._memory.read(self._manager.get_block_ids(name), request.num_computed_tokens)
            != request.all_token_ids[: request.num_computed_tokens]
        ]


def _told(
    name: str, before: Frame, after: Frame, block_id: int, copies: Sequence[tuple[int, int]]
) -> str:
    """Say what a write did: which block it went into, and what was copied for it."""
    was, now = before["tables"].get(name, []), after["tables"].get(name, [])
    if copies:
        holders = before["blocks"][copies[0][0]]["ref_cnt"]
        others = "the other one keeps" if holders == 2 else "the others keep"
        return (
            f"{name} writes into block {copies[0][0]}, which {holders} hold: it gets a copy, "
            f"{_pairs(copies)}, and {others} the block."
        )
    if len(now) > len(was):
        return (
            f"{name} takes block {block_id} for its token: it shares no block that it writes into."
        )
    holders = before["blocks"][block_id]["ref_cnt"]
    if was == now and holders == 1:
        return (
            f"By its count {name} alone holds block {block_id}, and writes into it: nothing is "
            "copied."
        )
    if was == now:
        return f"{name} writes into block {block_id}, which {holders} hold, and nothing is copied."
    return f"{name} writes into block {block_id}, which is new in its table, and nothing is copied."


def _pairs(copies: Sequence[tuple[int, int]]) -> str:
    """Write down copies.

    >>> _pairs([(3, 4), (3, 5)])
    '(3, 4) (3, 5)'
    """
    return " ".join(f"({source}, {destination})" for source, destination in copies)
