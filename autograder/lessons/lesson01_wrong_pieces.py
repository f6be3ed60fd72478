"""Lesson 1: admissions under Pow2 and a buddy allocator that are wrong in some of their steps."""

from __future__ import annotations

from collections.abc import Callable

from autograder.lessons import lesson01_given as given
from course_lib.kv_cache.reservation import RESERVATIONS


def halves(block: int, piece: int) -> list[int]:
    """Return what stays free when a block is halved down to a piece, the largest first."""
    halves = []
    while block >= 2 * piece:
        block //= 2
        halves.append(block)
    return halves


def admission(
    size_of: Callable[[int, int, int], int] = RESERVATIONS["Pow2"],
    piece_of: Callable[[int], int] = given.next_power_of_two,
    pick: Callable[[list[int], int], int] = lambda fitting, piece: min(fitting),
    rest_of: Callable[[int, int, int], list[int]] = lambda block, piece, size: halves(block, piece),
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


rounded_output = given.next_power_of_two


def next_power_for_the_output(prompt: int, output: int, most: int) -> int:
    """Return what is asked for if an output that is a power of two is rounded up, too."""
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
    fits = [p + rounded_output(o) <= max_model_len for p, o in requests]
    admitted = requests[: [*fits, False].index(False)]
    return given.admit_under_pow2(admitted, free_blocks, max_model_len)


def merged(free: list[int]) -> list[int]:
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
    first_fit = admission(pick=lambda fitting, piece: fitting[0])
    return first_fit(requests, sorted(free_blocks), max_model_len)


def sorted_once_downwards(
    requests: given.Lengths, free_blocks: list[int], max_model_len: int
) -> list[tuple[int, int]]:
    """Sort the blocks at the start, the largest first, and take the last that is large enough."""
    last_fit = admission(pick=lambda fitting, piece: fitting[-1])
    return last_fit(requests, sorted(free_blocks, reverse=True), max_model_len)


def _each_size_once(free: list[int]) -> list[int]:
    return sorted(set(free))


def kept_in_a_set(
    requests: given.Lengths, free_blocks: list[int], max_model_len: int
) -> list[tuple[int, int]]:
    """Keep the free blocks in a set, in which no size stands twice."""
    admit = admission(tidy=_each_size_once)
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
        heap = sorted([*heap[1:], *halves(heap[0], piece)])
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
