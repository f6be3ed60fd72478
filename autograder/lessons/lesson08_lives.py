"""Lesson 8: lives of cache managers, in which requests come, fork, write, share and end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from autograder.checks.stateful import LargeLife, Life, Pair, Twin
from autograder.proxy.recipes import Make
from course_lib.kv_cache.manager import PlainRequest
from course_lib.kv_cache.watch.manager_steps import run_step, state_of

BLOCK = ("block_id",)
"""What stands for a block."""

_token = st.integers(0, 1)
_place = st.integers(0, 9)


def plain(name: str, tokens: list[int], salt: str | None = None) -> Make:
    """Return the recipe of a request."""
    if salt is None:
        return Make(PlainRequest, name, tokens)
    return Make(PlainRequest, name, tokens, cache_salt=salt)


# What probes do


def come(life: Life, name: str, tokens: list[int], salt: str | None = None) -> Any:
    """Let a request come that has nothing yet."""
    return life.make(plain(name, tokens, salt))


def compute(life: Life, request: Any, num_tokens: int, sampled: list[int] | None = None) -> None:
    """Make room for tokens and compute them; say what was copied, and how things stand."""
    life.do("allocate_slots", request, num_tokens, reads=BLOCK)
    life.apply(run_step, request, num_tokens, sampled or [])
    life.apply(state_of)


def find(life: Life, request: Any) -> tuple[int, Any]:
    """Look a request up; return the tokens that it finds, and the blocks that hold them."""
    found = life.do("get_computed_blocks", request, reads=BLOCK)
    return (found[1], found[0]) if isinstance(found, (list, tuple)) else (0, [])


# Lives that are drawn


@dataclass
class Known:
    """What a life that is drawn knows of a request.

    Attributes:
        request: The request, on both sides.
        tokens: Its tokens.
        salt: Its salt.
        num_computed: Tokens that are computed.
    """

    request: Pair
    tokens: list[int]
    salt: str | None
    num_computed: int


class ManagerLife(Twin):
    """What may be done to a manager: requests come, compute, write, fork and end."""

    @initialize(num_blocks=st.integers(3, 9), watermark=st.sampled_from((0.0, 0.0, 0.3)))
    def make_one(self, num_blocks: int, watermark: float) -> None:
        """Start with all blocks free."""
        self.create(num_blocks, 2, True, watermark)
        self.num_made = 0
        self.running: list[Known] = []

    def make_request(self, tokens: list[int], salt: str | None) -> Pair:
        """Make a request with the next name."""
        self.num_made += 1
        return self.make(plain(f"r{self.num_made}", tokens, salt))

    @rule(
        tokens=st.lists(_token, min_size=1, max_size=7),
        salt=st.sampled_from((None, None, "x")),
        num_new=st.integers(1, 7),
        whole=st.booleans(),
    )
    def admit(self, tokens: list[int], salt: str | None, num_new: int, whole: bool) -> None:
        """Let a request come, with what it finds."""
        request = self.make_request(tokens, salt)
        found = self.do("get_computed_blocks", request, reads=BLOCK)
        if found[1] is None:  # nothing comes back any more
            return
        num_hits = found[0][1]
        num_new = min(num_new, len(tokens) - num_hits)
        given = (request, num_new, num_hits, found.at(0))
        options = {"full_sequence_must_fit": True} if whole else {}
        taken = self.do("allocate_slots", *given, reads=BLOCK, **options)
        if taken[0] is not None:
            self.apply(run_step, request, num_hits + num_new)
            self.running.append(Known(request, tokens, salt, num_hits + num_new))
        self.apply(state_of)

    @precondition(lambda self: self.running)
    @rule(place=_place, token=_token, num_new=st.integers(1, 5), drafts=st.integers(0, 2))
    def write(self, place: int, token: int, num_new: int, drafts: int) -> None:
        """Compute further tokens of a request, or a new one and perhaps drafts behind it."""
        known = self.running[place % len(self.running)]
        if known.num_computed == len(known.tokens):
            self.apply(run_step, known.request, 0, [token])
            known.tokens = [*known.tokens, token]
        left = len(known.tokens) - known.num_computed
        num_new = min(num_new, left)
        num_asked = num_new + (drafts if num_new == left else 0)
        taken = self.do("allocate_slots", known.request, num_asked, reads=BLOCK)
        if taken[0] is not None:
            self.apply(run_step, known.request, num_new)
            known.num_computed += num_new
        self.apply(state_of)

    @precondition(lambda self: self.running)
    @rule(place=_place, more=st.lists(_token, max_size=2))
    def fork(self, place: int, more: list[int]) -> None:
        """Fork a request into one that may know more tokens."""
        known = self.running[place % len(self.running)]
        tokens = [*known.tokens, *more]
        child = self.make_request(tokens, known.salt)
        self.do("fork", known.request, child)
        self.see("num_computed_tokens", of=child)
        self.running.append(Known(child, tokens, known.salt, known.num_computed))
        self.apply(state_of)

    @precondition(lambda self: self.running)
    @rule(place=_place)
    def end(self, place: int) -> None:
        """Let a request end."""
        known = self.running.pop(place % len(self.running))
        self.do("free", known.request)
        self.apply(state_of)

    @rule(num_new=st.integers(-1, 0))
    def ask_for_nothing(self, num_new: int) -> None:
        """Ask for no room."""
        self.do("allocate_slots", self.make_request([0], None), num_new)


class ForkingLife(ManagerLife):
    """The same, and now and then somebody is forked who must not be."""

    @precondition(lambda self: self.running)
    @rule(place=_place, cut=st.integers(1, 3), salt=st.sampled_from((None, "x")))
    def fork_into_another(self, place: int, cut: int, salt: str | None) -> None:
        """Fork into a request with another token, or another salt."""
        known = self.running[place % len(self.running)]
        at = max(0, len(known.tokens) - cut)
        if known.num_computed > at or salt != known.salt:
            other = [*known.tokens[:at], 1 - known.tokens[at], *known.tokens[at + 1 :]]
            self.do("fork", known.request, self.make_request(other, salt))
            self.apply(state_of)

    @precondition(lambda self: self.running)
    @rule(place=_place, other=_place)
    def fork_into_a_holder(self, place: int, other: int) -> None:
        """Fork into a request that holds blocks."""
        both = (self.running[number % len(self.running)].request for number in (place, other))
        self.do("fork", *both)
        self.apply(state_of)


# What probes do to forks


def forked_and_written(life: Life) -> None:
    """Fork a request whose last block is half full, and let both write."""
    life.create(8, 2)
    parent, child = come(life, "p", [5, 6, 7]), come(life, "c", [5, 6, 7])
    compute(life, parent, 3, [8])
    life.do("fork", parent, child)
    life.see("num_computed_tokens", of=child)
    life.see("num_tokens", of=child)
    life.see("num_forks")
    life.apply(state_of)
    life.apply(run_step, child, 0, [9])
    compute(life, child, 1)
    compute(life, parent, 1)
    life.do("free", parent)
    life.apply(state_of)
    life.do("free", child)
    life.apply(state_of)


def forked_full(life: Life) -> None:
    """Fork where all blocks are full; whoever finds them later finds the right ones."""
    life.create(10, 2)
    parent = come(life, "p", [1, 2, 3, 4])
    compute(life, parent, 4, [5])
    child = come(life, "c", [1, 2, 3, 4, 6, 7])
    life.do("fork", parent, child)
    life.see("num_computed_tokens", of=child)
    compute(life, child, 2, [8])
    compute(life, parent, 1, [6])
    compute(life, parent, 1)
    for name, tokens in (("d", [1, 2, 3, 4, 6, 7, 0]), ("e", [1, 2, 3, 4, 5, 6, 0])):
        find(life, come(life, name, tokens))


def forked_midway(life: Life) -> None:
    """Fork a request that has room for more than it has computed."""
    life.create(12, 2)
    parent = come(life, "p", [1, 2, 3, 4, 5, 6])
    life.do("allocate_slots", parent, 6, reads=BLOCK)
    life.apply(run_step, parent, 3)
    child = come(life, "c", [1, 2, 3, 4, 5, 6])
    life.do("fork", parent, child)
    life.apply(state_of)
    compute(life, child, 3)
    compute(life, parent, 3)
    find(life, come(life, "d", [1, 2, 3, 4, 5, 6, 7]))


def forked_short(life: Life) -> None:
    """Fork into a request that knows three of five computed tokens, and lets both go on."""
    life.create(8, 2)
    parent, child = come(life, "p", [1, 2, 3, 4, 5]), come(life, "c", [1, 2, 3])
    compute(life, parent, 5, [6])
    life.do("fork", parent, child)
    life.see("num_computed_tokens", of=child)
    life.apply(state_of)
    life.apply(run_step, child, 0, [9])
    compute(life, child, 1)
    life.do("free", parent)
    life.apply(state_of)


def forked_twice(life: Life) -> None:
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


def forked_wrongly(life: Life) -> None:
    """Fork a stranger, into a holder, with other tokens, and with another salt."""
    life.create(8, 2)
    parent = come(life, "p", [5, 6, 7], "x")
    compute(life, parent, 3)
    other = come(life, "o", [5], "x")
    compute(life, other, 1)
    life.do("fork", parent, other)
    for name, tokens, salt in (
        ("a", [5, 6, 7], None),
        ("b", [5, 6, 8], "x"),
        ("c", [6], "x"),
        ("d", [6, 6, 7], "x"),
    ):
        life.do("fork", parent, come(life, name, tokens, salt))
        life.apply(state_of)
    life.do("fork", come(life, "e", [5, 6, 7], "x"), come(life, "f", [5, 6, 7], "x"))
    life.see("num_forks")


# Lives in which blocks are replaced by hand


class ReplacingLife(Twin):
    """What may be done with the table of a child that shares all blocks of its parent."""

    @initialize(num_tokens=st.integers(1, 8), num_computed=st.integers(1, 8))
    def share(self, num_tokens: int, num_computed: int) -> None:
        """Fork a request that may have room for more than it has computed."""
        tokens = list(range(num_tokens))
        self.num_computed = min(num_computed, num_tokens)
        self.create(14, 2)
        parent = self.make(plain("p", tokens))
        self.blocks = self.do("allocate_slots", parent, num_tokens, reads=BLOCK)
        self.apply(run_step, parent, self.num_computed)
        self.do("fork", parent, self.make(plain("c", tokens)))
        self.left = list(range(self.num_computed // 2, (num_tokens + 1) // 2))

    @rule(num_blocks=st.integers(1, 3))
    def replace(self, num_blocks: int) -> None:
        """Replace the next blocks that the child is to write into."""
        places, self.left = self.left[:num_blocks], self.left[num_blocks:]
        if not places or self.blocks[1] is None:  # all are replaced, or nothing comes back any more
            return
        held = self.do("holding", "c", reads=("num_cached_blocks",))
        new_blocks = self.do("block_pool.get_new_blocks", len(places), reads=BLOCK)
        shared = [self.blocks.at(place) for place in places]
        self.do("replace_shared", held, shared, new_blocks, self.num_computed)
        self.do("take_block_copies")
        self.see("num_copies")
        self.apply(state_of)


def replaced(life: Life, num_tokens: int, num_computed: int, *places: int) -> None:
    """Fork a request, and replace some blocks of the child's table."""
    tokens = list(range(num_tokens))
    life.create(14, 2)
    parent = come(life, "p", tokens)
    blocks = life.do("allocate_slots", parent, num_tokens, reads=BLOCK)
    life.apply(run_step, parent, num_computed)
    life.do("fork", parent, come(life, "c", tokens))
    held = life.do("holding", "c", reads=("num_cached_blocks",))
    new_blocks = life.do("block_pool.get_new_blocks", len(places), reads=BLOCK)
    shared = [blocks[place] for place in places] if blocks else []
    life.do("replace_shared", held, shared, new_blocks, num_computed)
    life.do("take_block_copies")
    life.see("num_copies")
    life.apply(state_of)


def half_a_block(life: Life) -> None:
    """Replace a block that is filled in part."""
    replaced(life, 3, 3, 1)


def half_and_empty(life: Life) -> None:
    """Replace a block that is filled in part, and one that is empty."""
    replaced(life, 6, 3, 1, 2)


def empty_alone(life: Life) -> None:
    """Replace blocks of which the first begins where the computed tokens end."""
    replaced(life, 7, 4, 2, 3)


REPLACED = (half_a_block, half_and_empty, empty_alone)

# What probes do to slots


def held_prefix(life: Life, num_blocks: int, num_others: int) -> None:
    """Leave three cached blocks behind, while somebody else holds some."""
    life.create(num_blocks, 2)
    first = come(life, "a", [1, 2, 3, 4, 5, 6])
    other = come(life, "b", list(range(10, 10 + 2 * num_others)))
    compute(life, first, 6)
    compute(life, other, 2 * num_others)
    life.do("free", first)
    life.apply(state_of)


def hits_and_two_more(life: Life) -> None:
    """Find three blocks of the free queue, where two more are free besides."""
    held_prefix(life, 8, 2)
    for name, num_new in (("c", 6), ("d", 4)):
        request = come(life, name, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
        found = find(life, request)
        life.do("allocate_slots", request, num_new, *found, reads=BLOCK)
        life.apply(state_of)
    life.apply(run_step, request, 10)
    compute(life, request, 1)


def hits_that_others_hold(life: Life) -> None:
    """Find blocks that a running request holds: they cost nothing."""
    life.create(7, 2)
    first = come(life, "a", [1, 2, 3, 4, 5])
    compute(life, first, 5)
    again = come(life, "b", [1, 2, 3, 4, 6, 7, 8, 9, 10])
    found = find(life, again)
    life.do("allocate_slots", again, 5, *found, reads=BLOCK)
    life.apply(state_of)


def a_chunk_and_drafts(life: Life) -> None:
    """Compute a prompt in chunks, then a token with drafts behind it, which nobody may find."""
    life.create(12, 4)
    request = come(life, "a", list(range(8)))
    compute(life, request, 5)
    compute(life, request, 3, [8])
    life.do("allocate_slots", request, 4, reads=BLOCK)
    life.apply(state_of)
    life.apply(run_step, request, 1, [9, 10, 11, 12])
    compute(life, request, 4)
    find(life, come(life, "b", list(range(13))))


def little_room(life: Life) -> None:
    """Refuse what does not fit: now, in all, and where a share is to stay free."""
    life.create(6, 2, True, 0.4)
    first = come(life, "a", [1, 2, 3])
    compute(life, first, 3)
    for name, num_new in (("b", 4), ("c", 2)):
        life.do("allocate_slots", come(life, name, [7, 8, 9, 7]), num_new, reads=BLOCK)
        life.apply(state_of)
    life.apply(run_step, first, 0, [4, 5, 6, 7])
    compute(life, first, 4)
    compute(life, first, 5)


def all_must_fit(life: Life) -> None:
    """Ask for a chunk, on condition that the whole prompt would fit."""
    life.create(5, 2)
    for name, num_tokens in (("a", 9), ("b", 7)):
        request = come(life, name, list(range(num_tokens)))
        options = {"full_sequence_must_fit": True}
        life.do("allocate_slots", request, 2, reads=BLOCK, **options)
        life.apply(state_of)


def no_room_for_a_copy(life: Life) -> None:
    """Let a child write where no block is left for its copy; then one is."""
    life.create(5, 2)
    parent, child, other = (come(life, name, [1, 2, 3]) for name in ("p", "c", "o"))
    compute(life, parent, 3)
    life.do("fork", parent, child)
    life.do("allocate_slots", other, 3, reads=BLOCK)
    life.apply(run_step, child, 0, [4])
    compute(life, child, 1)
    life.do("free", other)
    compute(life, child, 1)


def asked_wrongly(life: Life) -> None:
    """Ask for nothing, with hits that are no hits, with a token that nobody can hash."""
    life.create(9, 2)
    first = come(life, "a", [1, 2, 3, 4])
    life.do("allocate_slots", first, 0)
    compute(life, first, 4)
    again = come(life, "b", [1, 2, 5])
    found = find(life, again)
    life.do("allocate_slots", again, 1, 1, found[1])
    life.do("allocate_slots", first, 1, *found)
    life.apply(state_of)
    life.do("allocate_slots", come(life, "c", [1, -1, 3]), 3)
    life.apply(state_of)


def without_a_cache(life: Life) -> None:
    """Do without a cache."""
    life.create(8, 2, False)
    parent, child = come(life, "p", [1, 2, 3]), come(life, "c", [1, 2, 3])
    compute(life, parent, 3)
    life.do("fork", parent, child)
    life.apply(run_step, child, 0, [4])
    compute(life, child, 1)


FORKS = (
    forked_and_written,
    forked_full,
    forked_midway,
    forked_short,
    forked_twice,
    forked_wrongly,
)
SLOTS = (
    hits_and_two_more,
    hits_that_others_hold,
    a_chunk_and_drafts,
    little_room,
    all_must_fit,
    no_room_for_a_copy,
    asked_wrongly,
    without_a_cache,
    forked_and_written,
    forked_midway,
    forked_twice,
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
