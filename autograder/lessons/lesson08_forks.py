"""Lesson 8: what probes do to forks, and to tables in which shared blocks are replaced."""

from __future__ import annotations

from autograder.checks.stateful import Life
from autograder.lessons.lesson08_lives import BLOCK, Script, come, compute, fill, find, room
from course_lib.kv_cache.watch.manager_steps import kept_by, run_step, state_of

# 8.4a


def one_block(life: Life) -> None:
    """Fork a request of one block, into two children."""
    life.create(3, 1)
    parent, child = come(life, "p", [1]), come(life, "c", [1])
    fill(life, parent, 1)
    life.do("fork", parent, child)
    life.apply(state_of)
    life.see("num_computed_tokens", of=child)
    life.see("num_tokens", of=child)
    life.see("num_forks")
    life.do("fork", parent, come(life, "d", [1]))
    life.see("num_forks")


def into_less(life: Life) -> None:
    """Fork into a request that knows one of two computed tokens, and goes on in its own way."""
    life.create(5, 1)
    parent, child = come(life, "p", [1, 2]), come(life, "c", [1])
    fill(life, parent, 2)
    life.do("fork", parent, child)
    life.see("num_computed_tokens", of=child)
    life.see("num_forks")
    life.apply(kept_by)
    life.apply(run_step, child, 0, [9])
    compute(life, child, 1)
    for name, tokens in (("d", [1, 9, 0]), ("e", [1, 2, 0])):
        find(life, come(life, name, tokens))


def midway(life: Life) -> None:
    """Fork a request with room for a token that it has not computed, and compute another one."""
    life.create(4, 1)
    parent, child = come(life, "p", [1, 2]), come(life, "c", [1, 9])
    room(life, parent, 2)
    life.apply(run_step, parent, 1)
    life.do("fork", parent, child)
    life.see("num_computed_tokens", of=child)
    life.apply(kept_by)
    compute(life, child, 1)
    find(life, come(life, "d", [1, 9, 0]))


def in_a_block(life: Life) -> None:
    """Fork in the middle of a block that is cached for the parent: the child has no full one."""
    life.create(4, 2)
    parent, child = come(life, "p", [1, 2]), come(life, "c", [1, 9])
    room(life, parent, 2)
    life.apply(run_step, parent, 1)
    life.do("fork", parent, child)
    life.apply(kept_by)
    compute(life, child, 1)


def after_a_draft(life: Life) -> None:
    """Fork when a guessed token was right: its block is full, and not cached yet."""
    life.create(5, 1)
    parent, child = come(life, "p", [1]), come(life, "c", [1, 2])
    room(life, parent, 2)
    life.apply(run_step, parent, 2, [2, 3])
    life.do("fork", parent, child)
    life.apply(state_of)
    life.apply(kept_by)
    life.apply(run_step, child, 0, [4])
    compute(life, child, 1)


def apart(life: Life) -> None:
    """Fork, and let the child go on: nothing of that concerns the parent."""
    life.create(4, 1)
    parent, child = come(life, "p", [1]), come(life, "c", [1, 2])
    fill(life, parent, 1)
    life.do("fork", parent, child)
    room(life, child, 1)
    life.apply(kept_by)


def half_full(life: Life) -> None:
    """Fork a request whose last block is half full, and let both write."""
    life.create(8, 2)
    parent, child = come(life, "p", [5, 6, 7]), come(life, "c", [5, 6, 7])
    compute(life, parent, 3, [8])
    life.do("fork", parent, child)
    life.apply(state_of)
    life.apply(run_step, child, 0, [9])
    compute(life, child, 1)
    compute(life, parent, 1)
    life.do("free", parent)
    life.apply(state_of)
    life.do("free", child)
    life.apply(state_of)


def thrice(life: Life) -> None:
    """Fork a request three times, and let all write, the parent second."""
    life.create(12, 4)
    tokens = [1, 2, 3, 4, 5, 6]
    parent, *children = (come(life, name, tokens) for name in ("p", "c1", "c2", "c3"))
    compute(life, parent, 6, [7])
    for child in children:
        life.do("fork", parent, child)
        life.apply(run_step, child, 0, [8])
    life.apply(state_of)
    for writer in (children[0], parent, *children[1:]):
        compute(life, writer, 1)
    life.see("num_copies")


def refused(
    block_size: int,
    tokens: list[int],
    others: list[int],
    salt: str | None = None,
    other_salt: str | None = None,
) -> Script:
    """Return what forks a request into one with another beginning, or another salt."""

    def fork(life: Life) -> None:
        life.create(5, block_size)
        parent, child = come(life, "p", tokens, salt), come(life, "c", others, other_salt)
        fill(life, parent, len(tokens))
        life.do("fork", parent, child)
        life.apply(state_of)
        life.see("num_forks")

    return fork


def into_a_holder(life: Life) -> None:
    """Fork into a request that holds a block, with nothing computed in it yet; into itself."""
    life.create(4, 1)
    parent, child = come(life, "p", [1]), come(life, "c", [1])
    fill(life, parent, 1)
    room(life, child, 1)
    life.do("fork", parent, child)
    life.do("fork", parent, parent)
    life.apply(state_of)


def into_one_looked_up(life: Life) -> None:
    """Fork into a request that was looked up, and holds nothing: its entry has no blocks."""
    life.create(3, 1)
    parent, child = come(life, "p", [1]), come(life, "c", [1])
    fill(life, parent, 1)
    find(life, child)
    life.do("fork", parent, child)
    life.apply(state_of)
    life.apply(kept_by)


def from_a_stranger(life: Life) -> None:
    """Fork a request that holds nothing; one that was only looked up, too."""
    life.create(3, 1)
    parent, child = come(life, "p", [1]), come(life, "c", [1])
    life.do("fork", parent, child)
    find(life, parent)
    life.do("fork", parent, child)
    life.apply(state_of)


FORKS = (
    one_block,
    into_less,
    midway,
    in_a_block,
    after_a_draft,
    apart,
    half_full,
    thrice,
    refused(1, [1], [2]),
    refused(2, [1], [2]),
    refused(1, [1, 2], [2, 1]),
    refused(1, [1, 2], [1, 3]),
    refused(1, [1, 2], [3, 2]),
    refused(1, [1], [1], "x", None),
    refused(1, [1], [1], None, "x"),
    refused(1, [1], [1], "x", "y"),
    refused(1, [1], [1], "", None),
    refused(1, [1], [1], None, ""),
    into_a_holder,
    into_one_looked_up,
    from_a_stranger,
)

# 8.4b


def replacing(block_size: int, num_tokens: int, num_computed: int, *places: int) -> Script:
    """Return what forks a request, and replaces blocks of the child's table.

    Args:
        block_size: Tokens per block.
        num_tokens: Tokens for which the parent has room.
        num_computed: How many of them it has computed.
        places: Which blocks of the child are replaced.
    """
    tokens = list(range(num_tokens))
    num_blocks = -(-num_tokens // block_size)

    def replace(life: Life) -> None:
        life.create(1 + num_blocks + len(places), block_size)
        parent = come(life, "p", tokens)
        blocks = room(life, parent, num_tokens)
        life.apply(run_step, parent, num_computed)
        life.do("fork", parent, come(life, "c", tokens))
        one_time(life, "c", blocks and [blocks[place] for place in places], num_computed)
        life.apply(state_of)
        life.do("take_block_copies")
        life.see("num_copies")
        life.apply(kept_by)

    return replace


def one_time(life: Life, name: str, shared: list[object] | None, num_computed: int) -> None:
    """Replace blocks in the table of a child; none of them if nothing comes back any more."""
    shared = shared or []
    held = life.do("holding", name, reads=("num_cached_blocks",))
    new_blocks = life.do("block_pool.get_new_blocks", len(shared), reads=BLOCK)
    life.do("replace_shared", held, shared, new_blocks, num_computed)


def after_the_parent(life: Life) -> None:
    """Replace a block that the parent has left by then: nobody holds it any more."""
    life.create(3, 1)
    parent, child = come(life, "p", [0]), come(life, "c", [0])
    blocks = room(life, parent, 1)
    life.do("fork", parent, child)
    life.do("free", parent)
    one_time(life, "c", blocks, 0)
    life.apply(state_of)


def two_children(life: Life) -> None:
    """Replace a block in the tables of two children before the copies are taken; then in a third.

    The copies of both are due, and all are counted.
    """
    life.create(5, 1)
    parent = come(life, "p", [0])
    blocks = room(life, parent, 1)
    life.apply(run_step, parent, 1)
    for name in ("c", "d", "e"):
        life.do("fork", parent, come(life, name, [0]))
    for name in ("c", "d"):
        one_time(life, name, blocks, 1)
        life.apply(state_of)
    life.do("take_block_copies")
    one_time(life, "e", blocks, 1)
    life.do("take_block_copies")
    life.see("num_copies")


REPLACED = (
    replacing(1, 1, 1, 0),  # full
    replacing(2, 1, 1, 0),  # half full
    replacing(1, 1, 0, 0),  # empty
    replacing(1, 2, 1, 1),  # where the computed tokens end
    replacing(1, 2, 2, 1),  # full, behind another
    replacing(1, 2, 2, 0, 1),  # two
    replacing(2, 3, 1, 1),  # empty, behind one that is half full
    replacing(2, 3, 3, 1),  # half full, behind a full one
    replacing(2, 4, 2, 1),
    replacing(2, 6, 3, 1, 2),  # half full, and an empty one
    replacing(1, 3, 3, 0, 2),  # not the one between
    replacing(1, 3, 3, 0),  # not the last
    replacing(3, 7, 5, 1, 2),
    after_the_parent,
    two_children,
)
