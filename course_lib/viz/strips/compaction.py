"""What compaction costs: blocks slide together until what was refused fits; tokens are counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from course_lib.kv_cache.allocators import FirstFitAllocator, Span
from course_lib.kv_cache.reservation import HasLengths
from course_lib.viz.kit.player import Player
from course_lib.viz.strips.by_hand import strip_frames
from course_lib.viz.strips.drawing import StripFigure
from course_lib.viz.strips.pieces import MakeAllocator, Piece, Strip, named
from course_lib.viz.strips.queue import conversations
from course_lib.viz.strips.rows import Row, instants, make_rows
from course_lib.viz.strips.steps import StripStep, parse_operations, steps_of


def compaction_film(
    operations: str | Sequence[str],
    allocator: MakeAllocator = FirstFitAllocator,
    num_slots: int = 16,
) -> Player:
    """Play what compaction would cost: blocks slide together until what was refused fits.

    Args:
        operations: What happens first. The last one asks in vain, though enough is free.
        allocator: Makes the allocator from ``num_slots``; one that does not round up.
        num_slots: Slots in all.

    Raises:
        ValueError: An operation cannot be read, the last one is not refused for want of a hole, or
            a block was rounded up, so that it must not start anywhere.

    >>> film = compaction_film("A5 B3 C4 -B D2 -A E6")
    >>> film.film[-1].caption
    'E fits: it gets slots 2 to 7. 2 tokens were moved for it.'
    """
    read = parse_operations(operations)
    refused = list(steps_of(read, allocator, num_slots))[-1]
    _require_compactable(refused)
    return _film(refused, {piece.request_id: piece.size for piece in refused.strip.pieces})


def queue_compaction_film(
    requests: Sequence[HasLengths] | None = None,
    num_slots: int = 4400,
    allocator: MakeAllocator = FirstFitAllocator,
) -> Player:
    """Play compaction at the moment at which ``allocation_strips`` has enough in pieces first.

    The queue is replayed up to there. Only tokens that are written are copied, so a request that is
    young costs less than its slots.

    Args:
        requests: Prompt and output lengths; by default those of ``allocation_strips``.
        num_slots: Slots in all.
        allocator: Makes the allocator from ``num_slots``; one that does not round up.

    Raises:
        ValueError: Enough is never free in pieces, or a block was rounded up.

    >>> queue_compaction_film().marks[0][1].endswith("enough, but in pieces")
    True
    """
    requests = conversations() if requests is None else requests
    (row,) = make_rows({"": allocator}, requests, num_slots, None)
    refused = _first_in_pieces(row, num_slots)
    _require_compactable(refused)
    return _film(refused, {each.request_id: each.written for each in row.seen[-1].reservations})


def _first_in_pieces(row: Row, num_slots: int) -> StripStep:
    """Return the first moment at which enough is free, but in pieces."""
    for instant in instants([row]):
        memory = instant.memories[row.name]
        if memory is not None and instant.scattered:
            name = memory.first_waiting
            said = (
                f"Iteration {instant.step:,}: {named(name)} needs {memory.needed:,} slots; "
                f"{memory.in_words()}."
            )
            event = f"{named(name)}: enough, but in pieces"
            return StripStep(0, memory, said, event, wanted=name, num_wanted=memory.needed)
    wrong = f" (the allocator goes wrong: {row.problem})" if row.problem else ""
    raise ValueError(
        f"enough is never free in pieces in {num_slots} slots{wrong}; take other requests, or a "
        "memory of another size"
    )


def _film(refused: StripStep, tokens: Mapping[str, int]) -> Player:
    """Play what follows a refusal, where each request has so many tokens to copy."""
    steps = [replace(refused, moved=0), *_slides(refused, tokens)]
    figure = StripFigure.of(f"Compaction, {refused.strip.num_slots:,} slots", steps)
    return Player(strip_frames(figure, steps))


def _require_compactable(refused: StripStep) -> None:
    """Raise ValueError if sliding blocks together is not what is needed."""
    strip, size = refused.strip, refused.num_wanted
    if refused.problem:
        raise ValueError(f"the allocator goes wrong: {refused.problem}; mend it first")
    if not strip.largest < size <= strip.free:
        raise ValueError(
            f"{refused.said} The last operation must ask for more than the largest hole "
            f"({strip.largest}) and at most for what is free ({strip.free})"
        )
    if any(piece.size > piece.asked for piece in strip.pieces):
        raise ValueError(
            "a block was rounded up, so it cannot start anywhere; take an allocator that hands out "
            "what it is asked for"
        )


def _slides(refused: StripStep, tokens: Mapping[str, int]) -> Iterator[StripStep]:
    """Slide blocks to the front, one by one, until the refused one fits; then put it there."""
    size, name, moved, end = refused.num_wanted, refused.wanted, 0, 0
    num_slots = refused.strip.num_slots
    pieces = list(refused.strip.pieces)
    # Holes that touch are one here, whatever the allocator makes of them.
    strip = _packed(pieces, num_slots)
    for number, piece in enumerate(pieces):
        if strip.largest >= size:
            break
        if piece.offset > end:
            pieces[number] = piece._replace(offset=end)
            copied = tokens[piece.request_id]
            moved += copied
            strip = _packed(pieces, num_slots)
            said = (
                f"{_at_start(piece.request_id)} slides from slot {piece.offset:,} to {end:,}: "
                f"{copied:,} tokens are copied, {moved:,} so far. "
                f"The largest hole now has {strip.largest:,}."
            )
            yield replace(refused, strip=strip, said=said, event="", moved=moved)
        end += piece.size
    hole = next(each for each in strip.holes if each.size >= size)
    pieces.append(Piece(name, hole.offset, size, size))
    said = (
        f"{_at_start(name)} fits: it gets slots {hole.offset:,} to {hole.offset + size - 1:,}. "
        f"{moved:,} tokens were moved for it."
    )
    strip = _packed(sorted(pieces, key=lambda piece: piece.offset), num_slots)
    event = f"{named(name)} fits, {moved:,} tokens moved"
    yield StripStep(refused.number, strip, said, event, moved=moved)


def _at_start(request_id: str) -> str:
    """Return what a request is called at the start of a sentence."""
    name = named(request_id)
    return f"{name[0].upper()}{name[1:]}"


def _packed(pieces: Sequence[Piece], num_slots: int) -> Strip:
    """Return the memory with these pieces and what is free between them."""
    holes = []
    end = 0
    for piece in pieces:
        if piece.offset > end:
            holes.append(Span(end, piece.offset - end))
        end = piece.offset + piece.size
    if end < num_slots:
        holes.append(Span(end, num_slots - end))
    return Strip(num_slots, tuple(pieces), tuple(holes))
