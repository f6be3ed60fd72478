"""Lesson 1: known wrong answers to 1.7a, about what a buddy allocator hands out."""

from __future__ import annotations

from autograder.checks.finding import Misconception
from autograder.lessons import lesson01_given as given
from autograder.lessons import lesson01_wrong_pieces as wrong

ADMIT = (
    Misconception(
        "prompt and output rounded together",
        "Pow2 rounds the output alone: the prompt's length is known on admission.",
        wrong.admission(lambda p, o, most: min(given.next_power_of_two(p + o), most)),
    ),
    Misconception(
        "the prompt rounded, too",
        "Pow2 rounds the output alone: the prompt's length is known on admission.",
        wrong.admission(
            lambda p, o, most: min(given.next_power_of_two(p) + wrong.rounded_output(o), most)
        ),
    ),
    Misconception(
        "the prompt rounded in place of the output",
        "It is the other way round: the prompt's length is known on admission, and the output "
        "alone is rounded up.",
        wrong.admission(lambda p, o, most: min(given.next_power_of_two(p) + o, most)),
    ),
    Misconception(
        "the output not rounded",
        "That is Oracle. Pow2 knows the output only as the power of two above it.",
        wrong.admission(lambda p, o, most: p + o),
    ),
    Misconception(
        "no limit",
        "No request may be longer than max_model_len, so Pow2 never asks for more.",
        wrong.admission(lambda p, o, most: p + wrong.rounded_output(o)),
    ),
    Misconception(
        "the limit for the output alone",
        "Prompt and output together are at most max_model_len.",
        wrong.admission(lambda p, o, most: p + min(wrong.rounded_output(o), most)),
    ),
    Misconception(
        "not rounded where the limit is near",
        "Where prompt and rounded output exceed max_model_len, Pow2 asks for max_model_len: it "
        "does not know the output any better there.",
        wrong.admission(
            lambda p, o, most: (
                p + (o if p + wrong.rounded_output(o) > most else wrong.rounded_output(o))
            )
        ),
    ),
    Misconception(
        "the next power, even of a power",
        "16 is a power of two already: 16 tokens are rounded up to 16, not to 32.",
        wrong.admission(wrong.next_power_for_the_output),
    ),
    Misconception(
        "the next power, even of a power, for output and piece",
        "16 is a power of two already: neither an output nor a piece of 16 is rounded up to 32.",
        wrong.admission(wrong.next_power_for_the_output, lambda size: 1 << size.bit_length()),
    ),
    Misconception(
        "the output rounded down",
        "The output is rounded up: five tokens need room for eight, and do not fit into four.",
        wrong.admission(lambda p, o, most: min(p + (1 << o.bit_length() - 1), most)),
    ),
    Misconception(
        "refused where the limit is near",
        "Where prompt and rounded output exceed max_model_len, Pow2 asks for max_model_len: the "
        "request itself is no longer than that, so it is admitted.",
        wrong.refused_near_the_limit,
    ),
    Misconception(
        "the piece is what was asked for",
        "A buddy allocator hands out powers of two only: the piece is rounded up once more.",
        wrong.admission(piece_of=lambda size: size),
    ),
    Misconception(
        "the whole block is gone",
        "A block that is at least twice as large as the piece is halved, and the halves that are "
        "not needed stay free.",
        wrong.admission(rest_of=lambda block, piece, size: []),
    ),
    Misconception(
        "halved too little",
        "A block of twice the piece is halved once more: it goes on as long as half is enough.",
        wrong.halved_too_little,
    ),
    Misconception(
        "halved too little, the piece as it should be",
        "A block of twice the piece is halved once more: half of it is the piece, and the other "
        "half stays free.",
        wrong.admission(rest_of=lambda block, piece, size: wrong.halves(block, piece)[:-1]),
    ),
    Misconception(
        "halved once",
        "A block is halved as long as half is enough, not only once.",
        wrong.halved_once,
    ),
    Misconception(
        "handed out again",
        "A block that is handed out is free no longer: take it out of the free blocks.",
        wrong.handed_out_again,
    ),
    Misconception(
        "a block must be larger than what is asked for",
        "A block that is exactly as large as what was asked for is large enough.",
        wrong.exactly_as_large_is_too_small,
    ),
    Misconception(
        "a block must be larger than the piece",
        "A block that is exactly as large as the piece is large enough.",
        wrong.admission(needs=lambda size, piece: piece + 1),
    ),
    Misconception(
        "half must be more than enough",
        "Half a block that is exactly as large as what was asked for is enough: it is halved then, "
        "too.",
        wrong.half_must_be_more,
    ),
    Misconception(
        "the whole block is the piece",
        "A block is halved as long as half is enough; the piece is what is left then, and the "
        "other halves stay free.",
        wrong.never_halved,
    ),
    Misconception(
        "the slots behind are given back",
        "What was rounded up belongs to the piece until the request ends: nobody else can have "
        "it, which is why it is lost.",
        wrong.behind_is_free,
    ),
    Misconception(
        "the slots behind are a free block",
        "What was rounded up belongs to the piece until the request ends: nobody else can have "
        "it, which is why it is lost.",
        wrong.admission(
            rest_of=lambda block, piece, size: (
                wrong.halves(block, piece) + [piece - size] * (piece > size)
            )
        ),
    ),
    Misconception(
        "the rest in one block",
        "What was rounded up belongs to the piece, and the rest of the block stays free as halves: "
        "a buddy allocator knows powers of two only.",
        wrong.admission(rest_of=lambda block, piece, size: [block - size] * (block > size)),
    ),
    Misconception(
        "the rest in one block, fit by what is asked for",
        "A piece that was rounded up must fit into its block, too; the rest of a block stays free "
        "as halves, each a power of two.",
        wrong.admission(
            needs=lambda size, piece: size,
            rest_of=lambda block, piece, size: [block - piece] * (block > piece),
        ),
    ),
    Misconception(
        "equal blocks merged",
        "Two free blocks of the same size are not one of twice the size: they need not be "
        "neighbours, and while no request ends nothing is put together again.",
        wrong.admission(tidy=wrong.merged),
    ),
    Misconception(
        "only the last half is kept",
        "Each time that a block is halved, one half stays free, not only the last time.",
        wrong.admission(rest_of=lambda block, piece, size: wrong.halves(block, piece)[-1:]),
    ),
    Misconception(
        "only the largest half is kept",
        "What is left of a block is a half for each time that it was halved, not the first alone.",
        wrong.admission(rest_of=lambda block, piece, size: wrong.halves(block, piece)[:1]),
    ),
    Misconception(
        "the rest in equal pieces",
        "Halves that are not needed stay whole; a later request may need the larger ones.",
        wrong.admission(rest_of=lambda block, piece, size: [piece] * (block // piece - 1)),
    ),
    Misconception(
        "sorted only once",
        "The halves that come back are free blocks, too, and may be the smallest that are large "
        "enough: look at all of them each time.",
        wrong.sorted_once,
    ),
    Misconception(
        "sorted only once, the largest in front",
        "The halves that come back are free blocks, too, and may be the smallest that are large "
        "enough: look at all of them each time.",
        wrong.sorted_once_downwards,
    ),
    Misconception(
        "equal blocks count once",
        "Two free blocks of the same size are two blocks, as in a list; a set keeps one of them.",
        wrong.kept_in_a_set,
    ),
    Misconception(
        "what is too small is gone",
        "A block that is too small for one request stays free, for a later one.",
        wrong.small_ones_thrown_away,
    ),
    Misconception(
        "halved once too often",
        "The piece must still hold what was asked for: look at the half before you halve.",
        wrong.halved_once_more,
    ),
    Misconception(
        "exactly as large, or the first",
        "Where no block is exactly as large as the piece, the smallest that is larger is taken, "
        "not the first.",
        wrong.admission(pick=lambda fitting, piece: piece if piece in fitting else fitting[0]),
    ),
    Misconception(
        "exactly as large, or the last",
        "Where no block is exactly as large as the piece, the smallest that is larger is taken.",
        wrong.admission(pick=lambda fitting, piece: piece if piece in fitting else fitting[-1]),
    ),
    Misconception(
        "the largest block first",
        "The smallest block that is large enough is taken; otherwise small pieces use up the "
        "blocks that large ones will need.",
        wrong.admission(pick=lambda fitting, piece: max(fitting)),
    ),
    Misconception(
        "first fit",
        "A buddy allocator takes the smallest free block that is large enough, not the first.",
        wrong.admission(pick=lambda fitting, piece: fitting[0]),
    ),
    Misconception(
        "the piece rounded to the next power",
        "A sum that is a power of two already gets a piece of that size, not one twice as large.",
        wrong.admission(piece_of=lambda size: 1 << size.bit_length()),
    ),
    Misconception(
        "free blocks put together",
        "A piece lies in one block: enough free slots in several blocks are not enough, and two "
        "blocks of the same size are not one of twice the size, as they need not be neighbours.",
        wrong.taken_from_the_sum,
    ),
    Misconception(
        "overtaking",
        "First come, first served: when one request does not fit, nobody behind it is tried.",
        wrong.admission(goes_on=True),
    ),
)
