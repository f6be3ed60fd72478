"""Lesson 8's figures say what the manager and the pool really did, and can be read throughout."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest

from course_lib import parts, viz
from course_lib.kv_cache import BlockPool, KVCacheManager, PlainRequest
from course_lib.kv_cache.manager import CacheableRequest
from course_lib.kv_cache.prefix import hash_blocks
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.sharing.copies import NAMES, fork_steps
from course_lib.viz.sharing.explorer import further_prompt, lookup_scene
from course_lib.viz.sharing.falling import CHAINS, falling, hidden_text
from course_lib.viz.sharing.prompts import BLOCK_SIZE, PROMPTS, look_up, right_hits
from course_lib.viz.sharing.tree import Tree
from course_lib.viz.sharing.words import complaints, reasons

CHANGES = ("none", "first", "sixth", "last", "256", "block")
SETTINGS = list(product(PROMPTS, range(1, 17), CHANGES, ("", "x")))


def unchained(
    token_ids: Sequence[int],
    block_size: int,
    cache_salt: str | None = None,
    parent_hash: bytes | None = None,
) -> list[bytes]:
    """Hash each block for itself."""
    starts = range(0, len(token_ids) - block_size + 1, block_size)
    return [hash_blocks(token_ids[s : s + block_size], block_size, cache_salt)[0] for s in starts]


def low_bytes(token_ids: Sequence[int], *rest: Any, **named: Any) -> list[bytes]:
    """Hash the lowest byte of each token."""
    return hash_blocks([token & 0xFF for token in token_ids], *rest, **named)


def unsalted(
    token_ids: Sequence[int], block_size: int, cache_salt: str | None = None, *rest: Any
) -> list[bytes]:
    """Forget the salt."""
    return hash_blocks(token_ids, block_size, None, *rest)


def one_less(block_hashes: Any, cached_blocks: Any, num_tokens: int, block_size: int) -> list[Any]:
    """Find one block less than there is."""
    most = max((num_tokens - 1) // block_size - 1, 0)
    return [cached_blocks[each] for each in block_hashes[:most] if each in cached_blocks]


def covering(block_hashes: Any, cached_blocks: Any, num_tokens: int, block_size: int) -> list[Any]:
    """Find all blocks, the last one of a whole prompt too."""
    return [cached_blocks[each] for each in block_hashes if each in cached_blocks]


# ---- the tree ----


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_the_tree_can_be_read_in_every_setting(
    crowding: Callable[[Scene], list[str]], width: float
) -> None:
    figure = viz.prefix_tree()
    for like, length, changed, salt in SETTINGS:
        setting = {"like": like, "length": length, "changed": changed, "salt": salt}
        assert crowding(figure._build(**setting, width=width)) == [], setting


@pytest.mark.parametrize(("like", "length", "changed", "salt"), SETTINGS[::11])
def test_a_prompt_shares_what_is_equal_and_nothing_else(
    like: str, length: int, changed: str, salt: str
) -> None:
    further = further_prompt(PROMPTS, like, length, changed, salt)
    found = look_up(PROMPTS, further)
    hashes = {each for tokens in PROMPTS.values() for each in hash_blocks(tokens, BLOCK_SIZE)}
    own = hash_blocks(further.all_token_ids, BLOCK_SIZE, salt or None)
    expected = 0
    while expected < (length - 1) // BLOCK_SIZE and own[expected] in hashes:
        expected += 1
    assert found.num_hits == expected == right_hits(PROMPTS, further)
    assert complaints(found) == []
    assert len(found.blocks) == -(-length // BLOCK_SIZE)
    computed = length - BLOCK_SIZE * expected
    alt = lookup_scene(found).alt
    assert f"{computed} computed" in alt or f"all {length} of its tokens are computed" in alt


def test_the_last_block_of_a_cached_prompt_is_computed_again() -> None:
    found = look_up(PROMPTS, PlainRequest("D", [1, 2, 3, 4, 5, 6, 7, 8]))
    assert found.num_hits == 1
    [said] = reasons(found)
    assert "the last one must be computed" in said
    assert "Blocks 2 and 8 then hold the same, with one hash" in said
    assert found.hash_of(2) == found.hash_of(8)


def test_equal_tokens_behind_another_beginning_have_another_hash() -> None:
    found = look_up(PROMPTS, further_prompt(PROMPTS, "A", 14, "first"))
    [said] = reasons(found)
    assert said.startswith("No prompt begins with the tokens 99 2 3 4: a miss.")
    assert "The second block of D has the tokens of block 2, but another hash" in said
    assert found.hash_of(2) != found.hash_of(found.blocks[1])


def test_a_block_that_nobody_holds_is_claimed() -> None:
    found = look_up(PROMPTS, further_prompt(PROMPTS, "C", 12, "none"))
    assert "Since C ended, nobody held block 7" in reasons(found)[1]
    assert found.record["blocks"][7]["owners"] == ["D"]


@pytest.mark.parametrize(
    ("faulty", "setting", "complaint"),
    [
        (
            {"hash_blocks": unchained},
            ("A", 9, "block", ""),
            "Wrong: block 2 holds these tokens behind 1 2 3 4, and D has nothing in front of them.",
        ),
        (
            {"hash_blocks": low_bytes},
            ("A", 6, "256", ""),
            "Wrong: block 1 holds 1 2 3 4, and D has 257 2 3 4 there.",
        ),
        (
            {"hash_blocks": unsalted},
            ("B", 9, "none", "x"),
            "Wrong: D has a salt of its own, and shares blocks of others.",
        ),
        (
            {"longest_cached_prefix": one_less},
            ("A", 10, "none", ""),
            "Wrong: 2 blocks of D could be shared, and 1 is.",
        ),
    ],
)
def test_what_a_faulty_part_shares_is_said(
    faulty: dict[str, Any], setting: tuple[str, int, str, str], complaint: str
) -> None:
    figure = viz.prefix_tree(manager=partial(KVCacheManager, **faulty))
    figure.set(**dict(zip(("like", "length", "changed", "salt"), setting, strict=True)))
    assert complaint in figure.scene.alt


def test_a_hash_that_is_not_chained_is_seen_before_anything_is_shared() -> None:
    further = further_prompt(PROMPTS, "A", 14, "first")
    [said] = reasons(look_up(PROMPTS, further, partial(KVCacheManager, hash_blocks=unchained)))
    assert "the tokens of block 2, and its hash, though not what stands in front of them" in said


def test_a_block_that_should_have_been_found_is_named() -> None:
    further = further_prompt(PROMPTS, "A", 14, "none")
    make = partial(KVCacheManager, longest_cached_prefix=one_less)
    [said] = reasons(look_up(PROMPTS, further, make))
    assert said == (
        "D's third block was not found, though block 3 holds just these tokens behind these."
    )


class Careless(KVCacheManager):
    """Takes in a request of which no token is left to compute."""

    def allocate_slots(self, request: Any, num_new_tokens: int, *rest: Any, **named: Any) -> Any:
        if num_new_tokens:
            return super().allocate_slots(request, num_new_tokens, *rest, **named)
        self.admit(self.blocks_of(request), rest[1])
        self.request_blocks[request.request_id].blocks = list(rest[1])
        return []


def test_a_prompt_of_which_nothing_is_computed_has_no_output() -> None:
    figure = viz.prefix_tree(manager=partial(Careless, longest_cached_prefix=covering))
    figure.set(length=8)
    assert figure.scene.alt.startswith(
        "D follows the chain for 2 blocks: 8 tokens are shared, 0 computed. Wrong: no token of D "
        "is left to compute, so there is no output to sample from. State: "
    )


def test_an_error_of_a_part_stands_in_place_of_the_tree() -> None:
    figure = viz.prefix_tree(manager=partial(KVCacheManager, longest_cached_prefix=covering))
    assert "Wrong" not in figure.scene.alt
    figure.set(length=8)
    assert figure.scene.alt.startswith(
        "D comes with 1 2 3 4 5 6 7 8: ValueError: num_new_tokens is 0; "
    )
    assert "Your part stopped here" in figure.scene.texts()


def test_a_page_without_a_kernel_has_the_pictures_that_the_lesson_speaks_of() -> None:
    figure = viz.prefix_tree()
    axes = {axis["name"]: axis["values"] for axis in figure.grid["axes"]}
    assert axes == {
        "like": ["A", "B", "C"],
        "length": [4, 8, 9, 14],
        "changed": ["none", "first", "block"],
        "salt": ["", "x"],
    }
    assert all(figure.values[name] in values for name, values in axes.items())
    assert figure.grid["messages"] == {}


def test_choosing_a_request_begins_like_it() -> None:
    figure = viz.prefix_tree()
    figure._handle_custom_msg({"pick": ["request", "C"]}, [])
    assert figure.values["like"] == "C"
    figure._handle_custom_msg({"pick": ["block", 1]}, [])
    assert figure.values["like"] == "C"


def test_own_prompts_make_a_tree(crowding: Callable[[Scene], list[str]]) -> None:
    prompts = {
        "q": [100] * 16,
        "D": [100] * 12 + [250, 251, 252, 253],
        "r1": [100] * 4 + [101] * 12,
        "r2": [102] * 16,
        "E": [103],
    }
    figure = viz.prefix_tree(prompts)
    for width in (WIDE, NARROW):
        assert crowding(figure._build(**figure.values, width=width)) == []
    assert figure.scene.alt.startswith("F follows the chain for 3 blocks")


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({}, "0 prompts; the tree has room for 1 to 5"),
        ({"A": []}, "prompt 'A' has 0 tokens; take 1 to 16"),
        ({"A": [1] * 17}, "prompt 'A' has 17 tokens; take 1 to 16"),
        ({"alice": [1]}, "a prompt is called 'alice'; take 1 to 3 letters"),
        ({"A": [1000]}, "prompt 'A' has token 1000; take 0 to 999"),
    ],
)
def test_prompts_without_room_are_refused(prompts: dict[str, list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        viz.prefix_tree(prompts)


@pytest.mark.parametrize("setting", SETTINGS[::7])
def test_no_way_through_the_tree_crosses_another(setting: tuple[str, int, str, str]) -> None:
    found = look_up(PROMPTS, further_prompt(PROMPTS, *setting))
    tree = Tree.of([chain for chain in found.chains.values() if chain])
    downward = [(tree.places[a], tree.places[b]) for a, b in tree.edges]
    for (column, top), (_, bottom) in downward:
        between = range(top + 1, bottom)
        straight = [row for (other, row), (_, end) in downward if other == column and row == end]
        assert not set(between) & set(straight)


# A laptop's window has some 650 pixels for a figure; its controls and frame take 150 of them.
TALLEST = 510


def test_figures_and_their_controls_fit_a_laptops_window() -> None:
    tree, fork, film = viz.prefix_tree(), viz.fork_film(), viz.eviction_film()
    for length in (4, 8, 14):
        tree.set(length=length)
        assert tree.scene.height <= TALLEST, length
    for step in range(1, 9):
        fork.set(step=step)
        assert fork.scene.height <= TALLEST, step
    for frame in film.film:
        assert frame.scene.height <= TALLEST
        assert any("Found" in text for text in frame.narrow.texts())


# ---- the fork ----


@pytest.mark.parametrize("order", list(permutations(NAMES)))
def test_all_but_the_last_writer_copy_the_block(order: tuple[str, ...]) -> None:
    writes = fork_steps(order, 10)[4:]
    assert [step.copies for step in writes] == [((3, 4),), ((3, 5),), ((3, 6),), ()]
    tables = writes[-1].record["tables"]
    assert {name: tables[name][-1] for name in order} == dict(zip(order, (4, 5, 6, 3), strict=True))
    assert not any(step.is_wrong for step in writes)
    assert writes[-1].said == (
        f"By its count {order[-1]} alone holds block 3, and writes into it: nothing is copied."
    )


def test_counts_go_up_with_each_fork_and_down_with_each_copy() -> None:
    steps = fork_steps(NAMES, 10)
    assert [step.record["blocks"][3]["ref_cnt"] for step in steps] == [1, 2, 3, 4, 3, 2, 1, 1]
    assert [step.record["blocks"][1]["ref_cnt"] for step in steps] == [1, 2, 3, 4, 4, 4, 4, 4]


@pytest.mark.parametrize("order", list(permutations(NAMES))[::5])
def test_a_prompt_of_whole_blocks_copies_nothing(order: tuple[str, ...]) -> None:
    steps = fork_steps(order, 8)
    assert [step.copies for step in steps] == [()] * 8
    assert all("it shares no block that it writes into" in step.said for step in steps[4:])


class Uncounted(KVCacheManager):
    """Counts no holder for a fork."""

    def fork(self, parent: CacheableRequest, child: CacheableRequest) -> None:
        super().fork(parent, child)
        for block in self.request_blocks[child.request_id].blocks:
            block.ref_cnt -= 1


class Eager(KVCacheManager):
    """Copies a whole table when it forks."""

    def fork(self, parent: CacheableRequest, child: CacheableRequest) -> None:
        super().fork(parent, child)
        held = self.request_blocks[child.request_id]
        shared, held.blocks = held.blocks, self.block_pool.get_new_blocks(len(held.blocks))
        self.block_copies += [
            (old.block_id, new.block_id) for old, new in zip(shared, held.blocks, strict=True)
        ]
        self.block_pool.free_blocks(shared)


class Unfinished(KVCacheManager):
    """Forks once, and then no more."""

    def fork(self, parent: CacheableRequest, child: CacheableRequest) -> None:
        if child.request_id == "c2":
            raise NotImplementedError("fork comes next")
        super().fork(parent, child)


def test_what_a_fork_without_holders_overwrites_is_seen() -> None:
    steps = fork_steps(["c1", "p", "c2", "c3"], 10, Uncounted)
    assert [step.is_wrong for step in steps] == [False] * 5 + [True] * 3
    assert steps[5].said.endswith("Wrong: c1 finds other tokens now than were computed.")
    assert steps[5].tokens[3] == (9, 10, 50, None)


def test_a_fork_that_copies_at_once_is_described_as_it_behaves(
    crowding: Callable[[Scene], list[str]],
) -> None:
    steps = fork_steps(NAMES, 10, Eager)
    assert steps[1].copies == ((1, 4), (2, 5), (3, 6))
    assert "its table is 4 5 6, copied are (1, 4) (2, 5) (3, 6)" in steps[1].said
    assert not any(step.is_wrong for step in steps)
    scene = viz.fork_film(Eager).scene
    assert {f"block {block_id}" for block_id in range(1, 13)} <= set(scene.texts())


def test_an_error_stands_where_the_picture_stood() -> None:
    figure = viz.fork_film(Unfinished)
    for step in (3, 4, 8):
        figure.set(step=step)
        assert figure.scene.alt.startswith("fork c2: NotImplementedError: fork comes next.")
    figure.set(step=2)
    assert figure.scene.alt.startswith("c1 is forked: its table is 1 2 3, nothing is copied.")


def test_a_manager_that_cannot_be_made_is_said() -> None:
    def broken(num_blocks: int, block_size: int) -> KVCacheManager:
        raise TypeError("no such manager")

    assert viz.fork_film(broken).scene.alt.startswith("a manager is made: TypeError: no such")


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("manager", [KVCacheManager, Uncounted])
def test_the_fork_can_be_read_in_every_setting(
    crowding: Callable[[Scene], list[str]], manager: type[KVCacheManager], width: float
) -> None:
    figure = viz.fork_film(manager)
    orders = figure.controls[1]["values"]
    for step, order, length in product(range(1, 9), orders, (8, 10)):
        scene = figure._build(step=step, order=order, length=length, width=width)
        assert crowding(scene) == [], (step, order, length)


def test_every_picture_of_the_fork_is_made_before() -> None:
    figure = viz.fork_film()
    assert figure.grid["count"] == 8 * 6 * 2
    assert figure.grid["messages"] == {}


def test_the_fork_on_paper_shows_both_sides_of_the_first_write(drawn: list[Scene]) -> None:
    viz.fork_film().static()
    assert [scene.alt.partition(" ")[0] for scene in drawn] == ["c3", "c1"]


def test_an_arrow_leads_from_the_block_to_its_copy() -> None:
    figure = viz.fork_film()
    assert figure.values["step"] == len(NAMES), "the moment before the first write"
    figure.set(step=len(NAMES) + 1)
    scene = figure.scene
    [line] = [shape for shape in scene.shapes if shape.key == "copy-3-4"]
    boxes = {
        name: shape.shapes[0]
        for name in ("block-3", "block-4")
        for shape in scene.shapes
        if shape.key == name
    }
    for point, box in zip((line.points[0], line.points[-1]), boxes.values(), strict=True):
        assert box.x < point[0] < box.x + box.width
    assert "copy (3, 4)" in scene.texts()


# ---- what falls ----


def test_leaves_fall_before_stems_under_the_rule() -> None:
    moments = falling(is_last_first=True)
    assert [moment.fell for moment in moments if moment.fell] == [3, 4, 2, 5, 1]
    assert not any(moment.unreachable for moment in moments)


def test_stems_that_fall_first_leave_blocks_that_nobody_finds() -> None:
    moments = falling(is_last_first=False)
    assert [moment.fell for moment in moments if moment.fell] == [3, 2, 4, 1, 5]
    assert [set(moment.unreachable) for moment in moments[6:9]] == [{4}, set(), {5}]
    for moment in moments:
        free = {b["block_id"] for b in moment.record["blocks"] if b["state"] == "cached"}
        assert moment.reachable | moment.unreachable == free
        assert moment.reachable.isdisjoint(moment.unreachable)
        assert bool(hidden_text(moment)) == bool(moment.unreachable)


def test_what_is_found_again_is_what_a_lookup_finds() -> None:
    for is_last_first in (True, False):
        for moment in falling(is_last_first):
            held = {b["hash"] for b in moment.record["blocks"] if b["hash"]}
            for name, tokens in CHAINS.items():
                there = [each.hex()[:8] in held for each in hash_blocks(tokens, BLOCK_SIZE)]
                expected = there.index(False) if False in there else len(there)
                assert moment.num_found[name] == expected


def test_the_film_of_falling_blocks_can_be_read(crowding: Callable[[Scene], list[str]]) -> None:
    film = viz.eviction_film()
    assert film.count == 10
    assert film.marks == [[6, "nobody finds 4"], [8, "nobody finds 5"]]
    for frame in film.film:
        assert crowding(frame.scene) == []
        assert frame.narrow is not None
        assert crowding(frame.narrow) == []
        assert {frame.scene.height} == {film.film[0].scene.height}


class FrontPool(BlockPool):
    """Puts freed blocks at the front of the queue, whatever is in them."""

    def free_blocks(self, ordered_blocks: Any) -> None:
        for block in list(ordered_blocks):
            block.ref_cnt -= 1
            if not block.ref_cnt:
                self.free_block_queue.prepend_n([block])


class StuckPool(BlockPool):
    """Hands out one block in all besides those of the prompts."""

    def get_new_blocks(self, num_blocks: int) -> Any:
        if self.num_evictions or self.get_num_free_blocks() == 5:
            raise RuntimeError("the pool is stuck")
        return super().get_new_blocks(num_blocks)


def test_a_pool_that_frees_to_the_front_loses_stems_under_the_rule() -> None:
    film = viz.eviction_film(FrontPool)
    assert "Last block first: block 1 falls, A, B and C's first" in film.film[4].caption
    assert "nobody finds 2, 3, 4 and 5" in [name for _, name in film.marks]


def test_a_pool_that_fails_ends_the_film_with_its_error() -> None:
    film = viz.eviction_film(StuckPool)
    last = film.film[-1]
    assert last.caption == "a newcomer takes a block: RuntimeError: the pool is stuck"
    assert "Your part stopped here" in last.scene.texts()
    assert film.count == 6
    assert json.dumps(last.scene.to_dict())


def test_a_pool_that_cannot_be_made_is_the_whole_film() -> None:
    def broken(num_blocks: int) -> BlockPool:
        raise TypeError("no such pool")

    film = viz.eviction_film(broken)
    assert [frame.caption for frame in film.film] == ["a pool is made: TypeError: no such pool"]


# ---- the learner's own parts ----

UNCHAINED = """
from course_lib.kv_cache.prefix import hash_block, root_hash

def hash_blocks(token_ids, block_size, cache_salt=None, parent_hash=None):
    starts = range(0, len(token_ids) - block_size + 1, block_size)
    return [hash_block(root_hash(cache_salt), token_ids[s : s + block_size]) for s in starts]
"""
NO_FORK = """
def fork(self, parent, child):
    raise NotImplementedError("fork comes next")
"""
STUCK = """
def free_blocks(self, ordered_blocks):
    raise NotImplementedError("free_blocks comes next")
"""


def test_the_figures_use_the_parts_that_there_are(workspace: Path) -> None:
    parts.save("KVCacheManager.fork", NO_FORK)
    parts.save("BlockPool.free_blocks", STUCK)
    assert viz.fork_film().scene.alt.startswith("fork c1: NotImplementedError: fork comes next.")
    film = viz.eviction_film()
    assert film.film[-1].caption == "A ends: NotImplementedError: free_blocks comes next"


def test_the_tree_is_that_of_ones_own_hashes(workspace: Path) -> None:
    parts.save("hash_blocks", UNCHAINED)
    tree = viz.prefix_tree()
    tree.set(length=9, changed="block")
    assert "Wrong: block 2 holds these tokens behind 1 2 3 4" in tree.scene.alt
