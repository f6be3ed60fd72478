"""Lesson 1: known wrong answers to 1.7a, about what a buddy allocator hands out."""

from __future__ import annotations

from collections.abc import Callable

from autograder.checks.finding import Misconception
from autograder.lessons import lesson01_given as given
from course_lib.kv_cache.reservation import RESERVATIONS

# 1.7


def _halves(block: int, piece: int) -> list[int]:
    """Return what stays free when a block is halved down to a piece, the largest first."""
    halves = []
    while block >= 2 * piece:
        block //= 2
        halves.append(block)
    return halves


def _wrong_pieces(
    size_of: Callable[[int, int, int], int] = RESERVATIONS["Pow2"],
    piece_of: Callable[[int], int] = given.next_power_of_two,
    pick: Callable[[list[int], int], int] = lambda fitting, piece: min(fitting),
    rest_of: Callable[[int, int, int], list[int]] = lambda block, piece, size: _halves(
        block, piece
    ),
    tidy: Callable[[list[int]], list[int]] = lambda free: free,
    goes_on: bool = False,
    needs: Callable[[int, int], int] = lambda size, piece: piece,
) -> Callable[..., list[tuple[int, int]]]:
    """Make an admission that is wrong in one step, or in several."""

    def admit_under_pow2(
        requests: given.Lengths, free_blocks: list[int], max_model_len: int
    ) -> list[tuple[int, int]]:
        free, pieces = list(free_blocks), []
        for prompt_tokens, output_tokens in requests:
            size = size_of(prompt_tokens, output_tokens, max_model_len)
            piece = piece_of(size)
            fitting = [block for block in free if block >= needs(size, piece)]
            if not fitting:
                if goes_on:
                    continue
                break
            block = pick(fitting, piece)
            free.remove(block)
            free = tidy(free + rest_of(block, piece, size))
            pieces.append((size, piece))
        return pieces

    return admit_under_pow2


_rounded_output = given.next_power_of_two


def _next_power_for_the_output(prompt: int, output: int, most: int) -> int:
    return min(prompt + (1 << output.bit_length()), most)


def halved_too_little(
    requests: given.Lengths, free_blocks: list[int], max_model_len: int
) -> list[tuple[int, int]]:
    """Stop halving when half a block would be just the piece."""
    free, pieces = list(free_blocks), []
    for prompt_tokens, output_tokens in requests:
        size = RESERVATIONS["Pow2"](prompt_tokens, output_tokens, max_model_len)
        piece = given.next_power_of_two(size)
        block = min((block for block in free if block >= piece), default=None)
        if block is None:
            break
        free.remove(block)
        while block > 2 * piece:
            block //= 2
            free.append(block)
        pieces.append((size, block))
    return pieces


def _wrong_halving(
    is_enough: Callable[[int, int], bool],
    behind: Callable[[int, int], list[int]] = lambda block, size: [],
) -> Callable[..., list[tuple[int, int]]]:
    """Make an admission whose piece is what is left of a block after some halving."""

    def admit_under_pow2(
        requests: given.Lengths, free_blocks: list[int], max_model_len: int
    ) -> list[tuple[int, int]]:
        free, pieces = list(free_blocks), []
        for prompt_tokens, output_tokens in requests:
            size = RESERVATIONS["Pow2"](prompt_tokens, output_tokens, max_model_len)
            block = min((block for block in free if block >= size), default=None)
            if block is None:
                break
            free.remove(block)
            while is_enough(block // 2, size):
                block //= 2
                free.append(block)
            free += behind(block, size)
            pieces.append((size, block))
        return pieces

    return admit_under_pow2


behind_is_free = _wrong_halving(
    lambda half, size: half >= size, lambda block, size: [block - size] * (block > size)
)
half_must_be_more = _wrong_halving(lambda half, size: half > size)
halved_once_more = _wrong_halving(lambda half, size: 2 * half >= size)
never_halved = _wrong_halving(lambda half, size: False)


def halved_once(
    requests: given.Lengths, free_blocks: list[int], max_model_len: int
) -> list[tuple[int, int]]:
    """Halve a block once, however much larger it is."""
    free, pieces = list(free_blocks), []
    for prompt_tokens, output_tokens in requests:
        size = RESERVATIONS["Pow2"](prompt_tokens, output_tokens, max_model_len)
        block = min((block for block in free if block >= size), default=None)
        if block is None:
            break
        free.remove(block)
        if block // 2 >= size:
            block //= 2
            free.append(block)
        pieces.append((size, block))
    return pieces


def handed_out_again(
    requests: given.Lengths, free_blocks: list[int], max_model_len: int
) -> list[tuple[int, int]]:
    """Leave what is handed out among the free blocks."""
    pieces = []
    for prompt_tokens, output_tokens in requests:
        size = RESERVATIONS["Pow2"](prompt_tokens, output_tokens, max_model_len)
        if not any(block >= size for block in free_blocks):
            break
        pieces.append((size, given.next_power_of_two(size)))
    return pieces


def exactly_as_large_is_too_small(
    requests: given.Lengths, free_blocks: list[int], max_model_len: int
) -> list[tuple[int, int]]:
    """Take blocks only that are larger than what was asked for."""
    free, pieces = list(free_blocks), []
    for prompt_tokens, output_tokens in requests:
        size = RESERVATIONS["Pow2"](prompt_tokens, output_tokens, max_model_len)
        block = min((block for block in free if block > size), default=None)
        if block is None:
            break
        free.remove(block)
        while block // 2 >= size:
            block //= 2
            free.append(block)
        pieces.append((size, block))
    return pieces


def refused_near_the_limit(
    requests: given.Lengths, free_blocks: list[int], max_model_len: int
) -> list[tuple[int, int]]:
    """Stop at a request whose rounded length exceeds the limit."""
    fits = [p + _rounded_output(o) <= max_model_len for p, o in requests]
    admitted = requests[: [*fits, False].index(False)]
    return given.admit_under_pow2(admitted, free_blocks, max_model_len)


def _merged(free: list[int]) -> list[int]:
    """Make one block of two that are equally large, as long as there are two."""
    blocks: list[int] = []
    for block in sorted(free):
        while block in blocks:
            blocks.remove(block)
            block *= 2
        blocks.append(block)
    return blocks


def sorted_once(
    requests: given.Lengths, free_blocks: list[int], max_model_len: int
) -> list[tuple[int, int]]:
    """Sort the blocks at the start, and take the first that is large enough."""
    first_fit = _wrong_pieces(pick=lambda fitting, piece: fitting[0])
    return first_fit(requests, sorted(free_blocks), max_model_len)


def sorted_once_downwards(
    requests: given.Lengths, free_blocks: list[int], max_model_len: int
) -> list[tuple[int, int]]:
    """Sort the blocks at the start, the largest first, and take the last that is large enough."""
    last_fit = _wrong_pieces(pick=lambda fitting, piece: fitting[-1])
    return last_fit(requests, sorted(free_blocks, reverse=True), max_model_len)


def _each_size_once(free: list[int]) -> list[int]:
    return sorted(set(free))


def kept_in_a_set(
    requests: given.Lengths, free_blocks: list[int], max_model_len: int
) -> list[tuple[int, int]]:
    """Keep the free blocks in a set, in which no size stands twice."""
    admit = _wrong_pieces(tidy=_each_size_once)
    return admit(requests, _each_size_once(free_blocks), max_model_len)


def small_ones_thrown_away(
    requests: given.Lengths, free_blocks: list[int], max_model_len: int
) -> list[tuple[int, int]]:
    """Take blocks from a heap until one is large enough, and forget the others."""
    heap, pieces = sorted(free_blocks), []
    for prompt_tokens, output_tokens in requests:
        size = RESERVATIONS["Pow2"](prompt_tokens, output_tokens, max_model_len)
        piece = given.next_power_of_two(size)
        heap = [block for block in heap if block >= piece]
        if not heap:
            break
        heap = sorted([*heap[1:], *_halves(heap[0], piece)])
        pieces.append((size, piece))
    return pieces


def taken_from_the_sum(
    requests: given.Lengths, free_blocks: list[int], max_model_len: int
) -> list[tuple[int, int]]:
    """Admit while the sum of the free slots is large enough, in one piece or not."""
    pieces, free = [], sum(free_blocks)
    for prompt_tokens, output_tokens in requests:
        size = RESERVATIONS["Pow2"](prompt_tokens, output_tokens, max_model_len)
        piece = given.next_power_of_two(size)
        if piece > free:
            break
        free -= piece
        pieces.append((size, piece))
    return pieces


ADMIT = (
    Misconception(
        "prompt and output rounded together",
        "Pow2 rounds the output alone: the prompt's length is known on admission.",
        _wrong_pieces(lambda p, o, most: min(given.next_power_of_two(p + o), most)),
    ),
    Misconception(
        "the prompt rounded, too",
        "Pow2 rounds the output alone: the prompt's length is known on admission.",
        _wrong_pieces(
            lambda p, o, most: min(given.next_power_of_two(p) + _rounded_output(o), most)
        ),
    ),
    Misconception(
        "the prompt rounded in place of the output",
        "It is the other way round: the prompt's length is known on admission, and the output "
        "alone is rounded up.",
        _wrong_pieces(lambda p, o, most: min(given.next_power_of_two(p) + o, most)),
    ),
    Misconception(
        "the output not rounded",
        "That is Oracle. Pow2 knows the output only as the power of two above it.",
        _wrong_pieces(lambda p, o, most: p + o),
    ),
    Misconception(
        "no limit",
        "No request may be longer than max_model_len, so Pow2 never asks for more.",
        _wrong_pieces(lambda p, o, most: p + _rounded_output(o)),
    ),
    Misconception(
        "the limit for the output alone",
        "Prompt and output together are at most max_model_len.",
        _wrong_pieces(lambda p, o, most: p + min(_rounded_output(o), most)),
    ),
    Misconception(
        "not rounded where the limit is near",
        "Where prompt and rounded output exceed max_model_len, Pow2 asks for max_model_len: it "
        "does not know the output any better there.",
        _wrong_pieces(
            lambda p, o, most: p + (o if p + _rounded_output(o) > most else _rounded_output(o))
        ),
    ),
    Misconception(
        "the next power, even of a power",
        "16 is a power of two already: 16 tokens are rounded up to 16, not to 32.",
        _wrong_pieces(_next_power_for_the_output),
    ),
    Misconception(
        "the next power, even of a power, for output and piece",
        "16 is a power of two already: neither an output nor a piece of 16 is rounded up to 32.",
        _wrong_pieces(_next_power_for_the_output, lambda size: 1 << size.bit_length()),
    ),
    Misconception(
        "the output rounded down",
        "The output is rounded up: five tokens need room for eight, and do not fit into four.",
        _wrong_pieces(lambda p, o, most: min(p + (1 << o.bit_length() - 1), most)),
    ),
    Misconception(
        "refused where the limit is near",
        "Where prompt and rounded output exceed max_model_len, Pow2 asks for max_model_len: the "
        "request itself is no longer than that, so it is admitted.",
        refused_near_the_limit,
    ),
    Misconception(
        "the piece is what was asked for",
        "A buddy allocator hands out powers of two only: the piece is rounded up once more.",
        _wrong_pieces(piece_of=lambda size: size),
    ),
    Misconception(
        "the whole block is gone",
        "A block that is at least twice as large as the piece is halved, and the halves that are "
        "not needed stay free.",
        _wrong_pieces(rest_of=lambda block, piece, size: []),
    ),
    Misconception(
        "halved too little",
        "A block of twice the piece is halved once more: it goes on as long as half is enough.",
        halved_too_little,
    ),
    Misconception(
        "halved once",
        "A block is halved as long as half is enough, not only once.",
        halved_once,
    ),
    Misconception(
        "handed out again",
        "A block that is handed out is free no longer: take it out of the free blocks.",
        handed_out_again,
    ),
    Misconception(
        "a block must be larger than what is asked for",
        "A block that is exactly as large as what was asked for is large enough.",
        exactly_as_large_is_too_small,
    ),
    Misconception(
        "half must be more than enough",
        "Half a block that is exactly as large as what was asked for is enough: it is halved then, "
        "too.",
        half_must_be_more,
    ),
    Misconception(
        "the whole block is the piece",
        "A block is halved as long as half is enough; the piece is what is left then, and the "
        "other halves stay free.",
        never_halved,
    ),
    Misconception(
        "the slots behind are given back",
        "What was rounded up belongs to the piece until the request ends: nobody else can have "
        "it, which is why it is lost.",
        behind_is_free,
    ),
    Misconception(
        "the slots behind are a free block",
        "What was rounded up belongs to the piece until the request ends: nobody else can have "
        "it, which is why it is lost.",
        _wrong_pieces(
            rest_of=lambda block, piece, size: (
                _halves(block, piece) + [piece - size] * (piece > size)
            )
        ),
    ),
    Misconception(
        "the rest in one block",
        "What was rounded up belongs to the piece, and the rest of the block stays free as halves: "
        "a buddy allocator knows powers of two only.",
        _wrong_pieces(rest_of=lambda block, piece, size: [block - size] * (block > size)),
    ),
    Misconception(
        "the rest in one block, fit by what is asked for",
        "A piece that was rounded up must fit into its block, too; the rest of a block stays free "
        "as halves, each a power of two.",
        _wrong_pieces(
            needs=lambda size, piece: size,
            rest_of=lambda block, piece, size: [block - piece] * (block > piece),
        ),
    ),
    Misconception(
        "equal blocks merged",
        "Two free blocks of the same size are not one of twice the size: they need not be "
        "neighbours, and while no request ends nothing is put together again.",
        _wrong_pieces(tidy=_merged),
    ),
    Misconception(
        "only the last half is kept",
        "Each time that a block is halved, one half stays free, not only the last time.",
        _wrong_pieces(rest_of=lambda block, piece, size: _halves(block, piece)[-1:]),
    ),
    Misconception(
        "only the largest half is kept",
        "What is left of a block is a half for each time that it was halved, not the first alone.",
        _wrong_pieces(rest_of=lambda block, piece, size: _halves(block, piece)[:1]),
    ),
    Misconception(
        "the rest in equal pieces",
        "Halves that are not needed stay whole; a later request may need the larger ones.",
        _wrong_pieces(rest_of=lambda block, piece, size: [piece] * (block // piece - 1)),
    ),
    Misconception(
        "sorted only once",
        "The halves that come back are free blocks, too, and may be the smallest that are large "
        "enough: look at all of them each time.",
        sorted_once,
    ),
    Misconception(
        "sorted only once, the largest in front",
        "The halves that come back are free blocks, too, and may be the smallest that are large "
        "enough: look at all of them each time.",
        sorted_once_downwards,
    ),
    Misconception(
        "equal blocks count once",
        "Two free blocks of the same size are two blocks, as in a list; a set keeps one of them.",
        kept_in_a_set,
    ),
    Misconception(
        "what is too small is gone",
        "A block that is too small for one request stays free, for a later one.",
        small_ones_thrown_away,
    ),
    Misconception(
        "halved once too often",
        "The piece must still hold what was asked for: look at the half before you halve.",
        halved_once_more,
    ),
    Misconception(
        "exactly as large, or the first",
        "Where no block is exactly as large as the piece, the smallest that is larger is taken, "
        "not the first.",
        _wrong_pieces(pick=lambda fitting, piece: piece if piece in fitting else fitting[0]),
    ),
    Misconception(
        "exactly as large, or the last",
        "Where no block is exactly as large as the piece, the smallest that is larger is taken.",
        _wrong_pieces(pick=lambda fitting, piece: piece if piece in fitting else fitting[-1]),
    ),
    Misconception(
        "the largest block first",
        "The smallest block that is large enough is taken; otherwise small pieces use up the "
        "blocks that large ones will need.",
        _wrong_pieces(pick=lambda fitting, piece: max(fitting)),
    ),
    Misconception(
        "first fit",
        "A buddy allocator takes the smallest free block that is large enough, not the first.",
        _wrong_pieces(pick=lambda fitting, piece: fitting[0]),
    ),
    Misconception(
        "the piece rounded to the next power",
        "A sum that is a power of two already gets a piece of that size, not one twice as large.",
        _wrong_pieces(piece_of=lambda size: 1 << size.bit_length()),
    ),
    Misconception(
        "free blocks put together",
        "A piece lies in one block: enough free slots in several blocks are not enough, and two "
        "blocks of the same size are not one of twice the size, as they need not be neighbours.",
        taken_from_the_sum,
    ),
    Misconception(
        "overtaking",
        "First come, first served: when one request does not fit, nobody behind it is tried.",
        _wrong_pieces(goes_on=True),
    ),
)
