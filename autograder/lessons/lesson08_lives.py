"""Lesson 8: lives of cache managers, in which requests come, fork, write, share and end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from autograder.checks.stateful import Life, Pair, Twin
from autograder.proxy.recipes import Make
from course_lib.kv_cache.manager import PlainRequest
from course_lib.kv_cache.watch.manager_steps import run_step, state_of

BLOCK = ("block_id",)
"""What stands for a block."""

Script = Callable[[Life], None]
"""Lives a life: a probe."""

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
    fill(life, request, num_tokens, sampled)
    life.apply(state_of)


def room(life: Life, request: Any, num_tokens: int, *found: Any) -> Any:
    """Make room for tokens, with what was found; return the blocks that are taken."""
    return life.do("allocate_slots", request, num_tokens, *found, reads=BLOCK)


def fill(life: Life, request: Any, num_tokens: int, sampled: list[int] | None = None) -> None:
    """Make room for tokens and compute them; say what was copied."""
    room(life, request, num_tokens)
    life.apply(run_step, request, num_tokens, sampled or [])


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

    @initialize(
        num_blocks=st.integers(3, 9),
        block_size=st.integers(1, 3),
        watermark=st.sampled_from((0.0, 0.0, 0.3)),
    )
    def make_one(self, num_blocks: int, block_size: int, watermark: float) -> None:
        """Start with all blocks free."""
        self.create(num_blocks, block_size, True, watermark)
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
    @rule(place=_place, num_common=st.integers(1, 9), more=st.lists(_token, max_size=2))
    def fork(self, place: int, num_common: int, more: list[int]) -> None:
        """Fork a request into one that knows fewer tokens, or others behind the computed ones."""
        known = self.running[place % len(self.running)]
        common = known.tokens[:num_common]
        tokens = [*common, *more] if len(common) >= known.num_computed else common
        child = self.make_request(tokens, known.salt)
        self.do("fork", known.request, child)
        self.see("num_computed_tokens", of=child)
        num_computed = min(known.num_computed, len(tokens))
        self.running.append(Known(child, tokens, known.salt, num_computed))
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


# Lives in which blocks are replaced by hand


class ReplacingLife(Twin):
    """What may be done with the table of a child that shares all blocks of its parent."""

    @initialize(
        block_size=st.integers(1, 3), num_tokens=st.integers(1, 8), num_computed=st.integers(0, 8)
    )
    def share(self, block_size: int, num_tokens: int, num_computed: int) -> None:
        """Fork a request that may have room for more than it has computed."""
        tokens = list(range(num_tokens))
        self.num_computed = min(num_computed, num_tokens)
        self.create(18, block_size)
        parent = self.make(plain("p", tokens))
        self.blocks = self.do("allocate_slots", parent, num_tokens, reads=BLOCK)
        self.apply(run_step, parent, self.num_computed)
        self.do("fork", parent, self.make(plain("c", tokens)))
        self.left = list(range(-(-num_tokens // block_size)))

    @rule(num_passed=st.integers(0, 1), num_blocks=st.integers(1, 3))
    def replace(self, num_passed: int, num_blocks: int) -> None:
        """Replace the next blocks of the child's table, or those behind the next."""
        end = num_passed + num_blocks
        places, self.left = self.left[num_passed:end], self.left[end:]
        if not places or self.blocks[1] is None:  # all are replaced, or nothing comes back any more
            return
        held = self.do("holding", "c", reads=("num_cached_blocks",))
        new_blocks = self.do("block_pool.get_new_blocks", len(places), reads=BLOCK)
        shared = [self.blocks.at(place) for place in places]
        self.do("replace_shared", held, shared, new_blocks, self.num_computed)
        self.do("take_block_copies")
        self.see("num_copies")
        self.apply(state_of)
