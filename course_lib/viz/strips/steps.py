"""Operations on one small contiguous memory, such as ``A5 B3 -A``: what each does, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from course_lib.kv_cache.allocators import Allocator, Span
from course_lib.viz.strips.pieces import MakeAllocator, Strip, contradiction


@dataclass(frozen=True, slots=True)
class StripStep:
    """A moment of a small memory.

    Attributes:
        number: Which operation has just happened, from 0; -1 before the first.
        strip: The memory now.
        said: What has happened, in a sentence.
        event: A few words, if it is something that a reader looks for.
        parts: For a hole, the sizes of what has just become one, from left to right.
        wanted: Who wants how many slots and does not get them; empty for nobody.
        num_wanted: How many slots that are.
        moved: Tokens that have been moved so far; None where nothing moves.
        problem: What an allocator did wrong; nothing comes after it.
    """

    number: int
    strip: Strip
    said: str
    event: str = ""
    parts: Mapping[Span, tuple[int, ...]] = field(default_factory=dict)
    wanted: str = ""
    num_wanted: int = 0
    moved: int | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation on a small memory.

    Attributes:
        name: The letter of the block.
        size: Slots that it asks for; 0 if it is freed.

    >>> [str(operation) for operation in parse_operations("A5 −A")]
    ['A5', '−A']
    """

    name: str
    size: int

    def __str__(self) -> str:
        return f"{self.name}{self.size}" if self.size else f"−{self.name}"


def parse_operations(operations: str | Sequence[str]) -> list[Operation]:
    """Read operations, such as ``A5 B3 -A``.

    Raises:
        ValueError: There are none, one cannot be read, or it frees what never asked for anything.
            (Who was refused may ask again, and whether one is refused is not known here.)

    >>> parse_operations("A5 B3 -A")[2]
    Operation(name='A', size=0)
    """
    words = operations.split() if isinstance(operations, str) else list(operations)
    if not words:
        raise ValueError("there are no operations; write for example 'A5 B3 -A'")
    found = []
    known: set[str] = set()
    for word in words:
        read = re.fullmatch(r"([A-Z])([1-9]\d*)|[-−]([A-Z])", word.strip())
        if read is None:
            raise ValueError(
                f"{word!r} is no operation; write A5 to allocate 5 slots for A, and -A to free them"
            )
        name, size, freed = read.groups()
        if freed and freed not in known:
            raise ValueError(f"{word!r} frees {freed}, which has asked for nothing before")
        known.add(name or freed)
        found.append(Operation(name or freed, int(size or 0)))
    return found


def steps_of(
    operations: Sequence[Operation], make_allocator: MakeAllocator, num_slots: int
) -> Iterator[StripStep]:
    """Yield the memory before the first operation, and after each of them.

    If the allocator raises an error, or says what cannot be, that is the last step.

    Args:
        operations: What to do.
        make_allocator: Makes the allocator.
        num_slots: Slots in all.

    Raises:
        ValueError: ``num_slots`` is less than 1.

    >>> from course_lib.kv_cache.allocators import FirstFitAllocator
    >>> operations = parse_operations("A5 B3 C8 -B -A")
    >>> steps = list(steps_of(operations, FirstFitAllocator, 16))
    >>> steps[-1].said
    'A is freed. Its 5 slots become one hole with the 3 beside them: 5 + 3 = 8.'
    """
    if num_slots < 1:
        raise ValueError(f"num_slots is {num_slots}; a strip has at least 1 slot")
    before = Strip(num_slots, (), ())
    number = -1
    try:
        memory = _SmallMemory(make_allocator(num_slots))
        before = memory.look()
        yield StripStep(-1, before, f"Before the first operation: {before.in_words()}.")
        for number, operation in enumerate(operations):
            memory.apply(operation)
            after = memory.look()
            yield _told(StripStep(number, after, ""), operation, before)
            before = after
    except Exception as error:
        # Whatever a learner's allocator raises is theirs to read.
        kind = "" if isinstance(error, _ImpossibleStripError) else f"{type(error).__name__}: "
        problem = " ".join(f"{kind}{error}".split())
        doing = f"{operations[number]}: " if number >= 0 else ""
        said = f"{doing}the allocator goes wrong: {problem}."
        yield StripStep(number, before, said, "goes wrong", problem=problem)


class _ImpossibleStripError(Exception):
    """An allocator says of its memory what cannot be."""


class _SmallMemory:
    """An allocator, and the letters of its blocks."""

    def __init__(self, allocator: Allocator) -> None:
        self._allocator = allocator
        self._offset_of: dict[str, int] = {}
        self._asked: dict[str, int] = {}

    def apply(self, operation: Operation) -> None:
        """Allocate or free, unless that has been done already."""
        name, size = operation.name, operation.size
        if not size and name in self._offset_of:
            self._allocator.free(self._offset_of.pop(name))
        elif size and name not in self._offset_of:
            offset = self._allocator.allocate(size)
            if offset is not None:
                self._offset_of[name], self._asked[name] = offset, size

    def look(self) -> Strip:
        """Return the memory now.

        Raises:
            _ImpossibleStripError: It cannot be so.
        """
        strip = Strip.of(self._allocator, self._offset_of, self._asked)
        if complaint := contradiction(strip.pieces, strip.holes, strip.num_slots):
            raise _ImpossibleStripError(complaint)
        return strip


def _told(step: StripStep, operation: Operation, before: Strip) -> StripStep:
    """Say what an operation has done."""
    name = operation.name
    had = any(piece.request_id == name for piece in before.pieces)
    has = any(piece.request_id == name for piece in step.strip.pieces)
    if operation.size:
        if had:
            return replace(step, said=f"{name} has its slots already, so nothing happens.")
        return (_allocated if has else _failed)(step, operation, before)
    if not had:
        return replace(step, said=f"{name} holds nothing, so nothing happens.")
    return _freed(step, operation, before)


def _allocated(step: StripStep, operation: Operation, before: Strip) -> StripStep:
    """Say where a block was cut from."""
    piece = next(each for each in step.strip.pieces if each.request_id == operation.name)
    last = piece.offset + piece.size - 1
    hole = next(each for each in before.holes if each.offset <= piece.offset < each.end)
    got = f"gets slots {piece.offset:,} to {last:,}" if piece.size > 1 else f"gets slot {last:,}"
    said = f"{operation.name} asks for {piece.asked:,} and {got}"
    if piece.size > piece.asked:
        said += f"; with {piece.asked:,} rounded up to {piece.size:,}"
    left = [each.size for each in step.strip.holes if hole.offset <= each.offset < hole.end]
    if left:
        verb = "stays" if left == [1] else "stay"
        said += f". Of the hole of {hole.size:,}, {' + '.join(map(str, left))} {verb} free"
    else:
        said += f". It fills the hole of {hole.size:,}"
    return replace(step, said=f"{said}.")


def _failed(step: StripStep, operation: Operation, _: Strip) -> StripStep:
    """Say why a block was not to be had."""
    strip, size = step.strip, operation.size
    if strip.largest >= size:
        why, event = f"a hole of {strip.largest:,} would be large enough", "is refused"
    elif strip.free >= size:
        why, event = strip.in_words(), "enough, but in pieces"
    else:
        why, event = strip.in_words(), "too few are free"
    said = f"{operation.name} asks for {size:,} and gets nothing: {why}."
    return replace(
        step, said=said, event=f"{operation}: {event}", wanted=operation.name, num_wanted=size
    )


def _freed(step: StripStep, operation: Operation, before: Strip) -> StripStep:
    """Say with which holes a block has become one, and which it touches."""
    piece = next(each for each in before.pieces if each.request_id == operation.name)
    block = Span(piece.offset, piece.size)
    hole = next(each for each in step.strip.holes if each.offset <= block.offset < each.end)
    parts = sorted(
        [block, *(each for each in before.holes if hole.offset <= each.offset < hole.end)]
    )
    said = f"{operation.name} is freed. Its {_slots(block.size)}"
    others = [each.size for each in parts if each != block]
    sizes = tuple(each.size for each in parts)
    event = ""
    if others:
        beside = " and the ".join(f"{size:,}" for size in others)
        sum_of = " + ".join(f"{size:,}" for size in sizes)
        said += f" become one hole with the {beside} beside them: {sum_of} = {hole.size:,}"
        event = f"{operation}: {len(parts):,} become one"
    else:
        said += f" become{'s' if block.size == 1 else ''} a hole"
    touching = [each for each in step.strip.holes if each.end == hole.offset]
    touching += [each for each in step.strip.holes if each.offset == hole.end]
    if touching:
        places = " and ".join(f"{each.offset:,}" for each in touching)
        does = (
            "holes at {} touch it and stay" if touching[1:] else "hole at {} touches it and stays"
        )
        said += f"; the {does.format(places)} apart"
    return replace(step, said=f"{said}.", event=event, parts={hole: sizes} if others else {})


def _slots(count: int) -> str:
    return "1 slot" if count == 1 else f"{count:,} slots"
