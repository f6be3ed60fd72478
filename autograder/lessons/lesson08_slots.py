"""Lesson 8: what probes ask of ``allocate_slots``."""

from __future__ import annotations

from autograder.checks.stateful import LargeLife, Life
from autograder.lessons.lesson08_forks import half_full, thrice
from autograder.lessons.lesson08_lives import BLOCK, come, compute, fill, find, room
from course_lib.kv_cache.watch.manager_steps import kept_by, run_step, state_of

# Room for new tokens


def one_token(life: Life) -> None:
    """Let a request come; it is entered, and what it could have found is counted."""
    life.create(3, 1)
    request = come(life, "a", [1])
    room(life, request, 1)
    life.apply(state_of)
    life.see("metrics.queried_tokens")
    life.apply(run_step, request, 1, [2])
    room(life, request, 1)
    life.apply(kept_by)


def half_a_block(life: Life) -> None:
    """Compute three tokens in blocks of 2, then one that has a slot already, then one more."""
    life.create(4, 2)
    request = come(life, "a", [1, 2, 3])
    compute(life, request, 3, [4])
    compute(life, request, 1, [5])
    compute(life, request, 1)


def a_chunk_and_drafts(life: Life) -> None:
    """Compute a prompt in chunks, then a token with drafts behind it, which nobody may find."""
    life.create(12, 4)
    request = come(life, "a", list(range(8)))
    compute(life, request, 5)
    compute(life, request, 3, [8])
    room(life, request, 4)
    life.apply(state_of)
    life.apply(run_step, request, 1, [9, 10, 11, 12])
    compute(life, request, 4)
    find(life, come(life, "b", list(range(13))))


def many_drafts(life: Life) -> None:
    """Ask for room for a token and eleven guesses."""
    life.create(7, 2)
    room(life, come(life, "a", [1]), 12)
    life.apply(state_of)


def no_room(life: Life) -> None:
    """Ask for more than is free; nothing changes. Then for less."""
    life.create(3, 1)
    request = come(life, "a", [1, 2, 3])
    room(life, request, 3)
    life.apply(kept_by)
    fill(life, request, 2)
    room(life, request, 1)
    life.apply(state_of)


# Hits


def passing(life: Life) -> None:
    """Leave a pool of two blocks, both free and cached: [1] in block 1, [2] in block 2 behind."""
    life.create(3, 1)
    for name, tokens in (("a", [1]), ("b", [2])):
        request = come(life, name, tokens)
        room(life, request, 1)
        life.do("free", request)


def a_hit_at_the_front(life: Life) -> None:
    """Find the block that is the next to be handed out, and ask for another one."""
    passing(life)
    request = come(life, "c", [1, 7])
    room(life, request, 1, *find(life, request))
    life.apply(state_of)


def a_refusal_with_a_hit(life: Life) -> None:
    """Find a free block, and ask for one more than is left; the queue stays as it is."""
    passing(life)
    request = come(life, "c", [1, 7, 8])
    room(life, request, 2, *find(life, request))
    life.apply(state_of)


def one_hit_to_refuse(life: Life) -> None:
    """Find the only free block, and ask for another one."""
    life.create(2, 1)
    first, again = come(life, "a", [1]), come(life, "b", [1, 2])
    room(life, first, 1)
    life.do("free", first)
    room(life, again, 1, *find(life, again))
    life.apply(state_of)


def a_hit_that_is_held(life: Life) -> None:
    """Find a block that a running request holds: it costs nothing."""
    life.create(3, 1)
    first, again = come(life, "a", [1]), come(life, "b", [1, 2])
    room(life, first, 1)
    room(life, again, 1, *find(life, again))
    life.apply(state_of)


def some_held(life: Life) -> None:
    """Find two blocks, of which a running request holds the first."""
    life.create(5, 1)
    first, second = come(life, "a", [1, 2]), come(life, "b", [1, 5])
    room(life, first, 2)
    room(life, second, 1, *find(life, second))
    life.do("free", first)
    for name, num_new in (("c", 3), ("d", 2)):
        again = come(life, name, [1, 2, 7, 8, 9])
        room(life, again, num_new, *find(life, again))
        life.apply(state_of)


def hits_and_two_more(life: Life) -> None:
    """Find three blocks of the free queue, where two more are free besides."""
    life.create(8, 2)
    first, other = come(life, "a", [1, 2, 3, 4, 5, 6]), come(life, "b", [10, 11, 12, 13])
    fill(life, first, 6)
    fill(life, other, 4)
    life.do("free", first)
    for name, num_new in (("c", 6), ("d", 4)):
        request = come(life, name, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
        room(life, request, num_new, *find(life, request))
        life.apply(state_of)
    life.apply(run_step, request, 10)
    compute(life, request, 1)


def no_hits(life: Life) -> None:
    """Pass on what is not what was found: tokens without blocks, blocks without tokens."""
    life.create(4, 1)
    first, again = come(life, "a", [1]), come(life, "b", [1, 2])
    room(life, again, 1, 1, [])
    room(life, first, 1)
    _, hits = find(life, again)
    room(life, again, 1, 0, hits)
    room(life, come(life, "c", [3, 4]), 1, 1, hits)
    life.apply(state_of)


def no_hits_and_no_room(life: Life) -> None:
    """Pass on blocks without their tokens where there is no room, either."""
    life.create(2, 1)
    first, again = come(life, "a", [1]), come(life, "b", [1, 2])
    room(life, first, 1)
    _, hits = find(life, again)
    room(life, again, 2, 0, hits)


def hits_in_the_middle(life: Life) -> None:
    """Pass hits on for a request that runs."""
    life.create(4, 1)
    first, again = come(life, "a", [1]), come(life, "b", [1, 2])
    room(life, first, 1)
    found = find(life, again)
    room(life, first, 1, *found)
    life.apply(state_of)


# The share kept free


def alone(life: Life) -> None:
    """Ask for all blocks while nobody else has any: none need stay free."""
    life.create(3, 1, True, 0.4)
    room(life, come(life, "a", [1, 2]), 2)


def not_alone(life: Life) -> None:
    """Ask for the last block while somebody runs: refused. Whoever runs gets it."""
    life.create(3, 1, True, 0.4)
    first = come(life, "a", [1])
    fill(life, first, 1, [2])
    room(life, come(life, "b", [3]), 1)
    room(life, first, 1)
    life.apply(state_of)


def not_alone_with_a_hit(life: Life) -> None:
    """Find a block, and ask for the last free one while somebody runs."""
    life.create(3, 1, True, 0.4)
    first, again = come(life, "a", [1]), come(life, "b", [1, 2])
    room(life, first, 1)
    room(life, again, 1, *find(life, again))
    life.apply(state_of)


def two_to_stay(life: Life) -> None:
    """Ask for two of three free blocks where two are to stay free; then for one."""
    life.create(5, 1, True, 0.4)
    room(life, come(life, "a", [1]), 1)
    room(life, come(life, "b", [2, 3]), 2)
    room(life, come(life, "c", [2]), 1)
    life.apply(state_of)


# All of it must fit


def whole(life: Life, name: str, tokens: list[int], num_new: int) -> None:
    """Ask for a part of a request, with what it finds, on condition that all of it fits."""
    request = come(life, name, tokens)
    given = request, num_new, *find(life, request)
    life.do("allocate_slots", *given, reads=BLOCK, full_sequence_must_fit=True)
    life.apply(state_of)


def all_must_fit(life: Life) -> None:
    """Ask for one block of a request of four where three are free; then of three."""
    life.create(4, 1)
    whole(life, "a", [1, 2, 3, 4], 1)
    whole(life, "b", [1, 2, 3], 1)


def all_must_fit_with_hits(life: Life) -> None:
    """Ask for the rest of a request of which two blocks are held by another."""
    life.create(4, 1)
    room(life, come(life, "a", [1, 2]), 2)
    whole(life, "b", [1, 2, 3], 1)


def all_must_fit_with_drafts(life: Life) -> None:
    """Ask for more than all tokens: the guesses must fit as well."""
    life.create(3, 1)
    whole(life, "a", [1], 3)


def all_must_fit_and_a_share(life: Life) -> None:
    """Ask on condition that all fits, while a share is to stay free."""
    life.create(4, 1, True, 0.3)
    room(life, come(life, "a", [1]), 1)
    whole(life, "b", [2, 3], 1)


# Copies


def an_empty_block(life: Life) -> None:
    """Fork before anything is computed: the child's block is replaced, and nothing copied."""
    life.create(3, 1)
    parent, child = come(life, "p", [1]), come(life, "c", [1])
    room(life, parent, 1)
    life.do("fork", parent, child)
    compute(life, child, 1)


def where_a_block_ends(life: Life) -> None:
    """Fork where the computed tokens end with a block, and an empty one is shared behind it."""
    life.create(4, 1)
    parent, child = come(life, "p", [1, 2]), come(life, "c", [1, 9])
    room(life, parent, 2)
    life.apply(run_step, parent, 1)
    life.do("fork", parent, child)
    compute(life, child, 1)


def a_copy_and_one_more(life: Life) -> None:
    """Let a child write that needs a copy, and a block behind it."""
    life.create(4, 2)
    parent, child = come(life, "p", [1]), come(life, "c", [1, 2, 3])
    fill(life, parent, 1)
    life.do("fork", parent, child)
    compute(life, child, 2)


def left_by_the_parent(life: Life) -> None:
    """Fork in the middle of a block that is cached for the parent, which then ends."""
    life.create(3, 2)
    parent, child = come(life, "p", [1, 2]), come(life, "c", [1, 9])
    room(life, parent, 2)
    life.apply(run_step, parent, 1)
    life.do("fork", parent, child)
    life.do("free", parent)
    compute(life, child, 1)
    for name, tokens in (("d", [1, 2, 0]), ("e", [1, 9, 0])):
        find(life, come(life, name, tokens))


def left_and_not_cached(life: Life) -> None:
    """Let a child go on in a block that is its own by now: it is not replaced."""
    life.create(3, 2)
    parent, child = come(life, "p", [1]), come(life, "c", [1, 2])
    fill(life, parent, 1)
    life.do("fork", parent, child)
    life.do("free", parent)
    compute(life, child, 1)


def all_behind(life: Life) -> None:
    """Fork where two empty blocks are shared, and write into the first: both are replaced."""
    life.create(6, 1)
    parent, child = come(life, "p", [1, 2, 3]), come(life, "c", [1, 2, 3])
    room(life, parent, 3)
    life.apply(run_step, parent, 1)
    life.do("fork", parent, child)
    compute(life, child, 1)
    compute(life, parent, 2)


def no_room_for_a_copy(life: Life) -> None:
    """Let a child write where no block is left for its copy; then one is."""
    life.create(3, 2)
    parent, child, other = come(life, "p", [1]), come(life, "c", [1, 2]), come(life, "o", [5])
    fill(life, parent, 1)
    life.do("fork", parent, child)
    room(life, other, 1)
    room(life, child, 1)
    life.apply(state_of)
    life.do("free", other)
    compute(life, child, 1)


def behind_a_shared_prefix(life: Life) -> None:
    """Fork where all blocks are full: they stay shared."""
    life.create(4, 1)
    parent, child = come(life, "p", [1]), come(life, "c", [1, 2])
    fill(life, parent, 1)
    life.do("fork", parent, child)
    compute(life, child, 1)


# What is refused, and what is not cached


def nothing_asked(life: Life) -> None:
    """Ask for no token, and for less."""
    life.create(2, 1)
    request = come(life, "a", [1])
    room(life, request, 0)
    room(life, request, -1)
    life.apply(kept_by)


def no_token(life: Life) -> None:
    """Ask with a token that nobody can hash; nothing changes."""
    life.create(2, 1)
    room(life, come(life, "a", [-1]), 1)
    life.apply(kept_by)
    life.apply(state_of)


def without_a_cache(life: Life) -> None:
    """Do without a cache."""
    life.create(8, 2, False)
    parent, child = come(life, "p", [1, 2, 3]), come(life, "c", [1, 2, 3])
    compute(life, parent, 3)
    life.do("fork", parent, child)
    life.apply(run_step, child, 0, [4])
    compute(life, child, 1)


SLOTS = (
    one_token,
    half_a_block,
    a_chunk_and_drafts,
    many_drafts,
    no_room,
    a_hit_at_the_front,
    a_refusal_with_a_hit,
    one_hit_to_refuse,
    a_hit_that_is_held,
    some_held,
    hits_and_two_more,
    no_hits,
    no_hits_and_no_room,
    hits_in_the_middle,
    alone,
    not_alone,
    not_alone_with_a_hit,
    two_to_stay,
    all_must_fit,
    all_must_fit_with_hits,
    all_must_fit_with_drafts,
    all_must_fit_and_a_share,
    an_empty_block,
    where_a_block_ends,
    a_copy_and_one_more,
    left_by_the_parent,
    left_and_not_cached,
    all_behind,
    no_room_for_a_copy,
    behind_a_shared_prefix,
    half_full,
    thrice,
    nothing_asked,
    no_token,
    without_a_cache,
)


def a_long_prompt(life: Life) -> None:
    """Compute a prompt of 16,000 tokens, and write behind it."""
    life.create(1_100, 16)
    request = come(life, "a", list(range(16_000)))
    life.do("allocate_slots", request, 16_000, reads=BLOCK)
    life.apply(run_step, request, 16_000)
    for token in range(200):
        life.apply(run_step, request, 0, [token])
        life.do("allocate_slots", request, 1, reads=BLOCK)
        life.apply(run_step, request, 1)


LONG_PROMPT = LargeLife(a_long_prompt, "a prompt of 16,000 tokens and 200 more", seconds=2.0)
