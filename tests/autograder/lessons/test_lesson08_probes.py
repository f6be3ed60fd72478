"""Lesson 8: its probes find these mistakes without any search, which a busy machine cuts short."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autograder import lessons
from autograder.checks import search
from autograder.lessons import lesson08_trees as trees
from autograder.lessons.lesson08_manager_mistakes import changed
from autograder.proxy.subject import LocalSubject
from course_lib.kv_cache import KVCacheManager

FORK = {
    "one fork at most": ("self.num_forks += 1", "self.num_forks = 1"),
    "a fork for each block": ("self.num_forks += 1", "self.num_forks += len(held.blocks)"),
    "no hashes": ("held.block_hashes[:num_full]", "[]"),
    "a hash of a block that is begun": (
        "held.block_hashes[:num_full]",
        "held.block_hashes[: -(-num_shared_tokens // self.block_size)]",
    ),
    "nothing cached": ("min(held.num_cached_blocks, num_full)", "0"),
    "all that is full cached": ("min(held.num_cached_blocks, num_full)", "num_full"),
    "the parent's hashes cut": (
        "    self.block_pool.touch(held.blocks)\n",
        "    self.block_pool.touch(held.blocks)\n"
        "    del held.block_hashes[num_shared_tokens // self.block_size :]\n",
    ),
    "the order of tokens overlooked": (
        "list(child.all_token_ids[tokens]) != list(",
        "sorted(child.all_token_ids[tokens]) != sorted(",
    ),
}
REPLACE = {
    "the pair in front": ("block_copies.append(", "block_copies.insert(0, "),
    "the last block first": (
        "in zip(shared, new_blocks, strict=True)",
        "in list(zip(shared, new_blocks, strict=True))[::-1]",
    ),
    "other copies forgotten": (
        "    for source, copy",
        "    self.block_copies.clear()\n    for source, copy",
    ),
    "one copy at most": ("self.num_copies += 1", "self.num_copies = 1"),
    "copies that are due": ("self.num_copies += 1", "self.num_copies = len(self.block_copies)"),
    "blocks of 2": ("index * self.block_size", "index * 2"),
    "blocks of 4": ("index * self.block_size", "index * 4"),
    "a full block is not copied": (
        "if index * self.block_size < num_computed_tokens",
        "if index * self.block_size < num_computed_tokens < (index + 1) * self.block_size",
    ),
    "nothing computed, nothing replaced": (
        "    for source, copy",
        "    if not num_computed_tokens:\n        return\n    for source, copy",
    ),
    "a source is copied once": (
        "if index * self.block_size < num_computed_tokens",
        "if source.block_id not in [a for a, _ in self.block_copies]"
        " and index * self.block_size < num_computed_tokens",
    ),
    "the end of the table": (
        "held.blocks.index(source)",
        "len(held.blocks) - len(shared) + list(shared).index(source)",
    ),
    "the count of cached blocks lost": (
        "    for source, copy",
        "    held.num_cached_blocks = 0\n    for source, copy",
    ),
}
_KEPT = "self.num_blocks_kept_free() + "
_REQUIRE = "self.require_hits(held, hits, num_new_computed_tokens)"
_SHARED = "held.shared_from(first) if self.num_forks else []"
SLOTS = {
    "hits looked at if there are any": (_REQUIRE, f"if hits:\n        {_REQUIRE}"),
    "hits looked at if they have tokens": (
        _REQUIRE,
        f"if num_new_computed_tokens:\n        {_REQUIRE}",
    ),
    "no share beside hits": (_KEPT, "(0 if hits else self.num_blocks_kept_free()) + "),
    "no share where all must fit": (
        _KEPT,
        "(0 if full_sequence_must_fit else self.num_blocks_kept_free()) + ",
    ),
    "drafts need not fit": ("max(num_slots, request.num_tokens)", "request.num_tokens"),
    "hits must fit again": (
        "self.blocks_to_add(num_all, num_known, self.block_size)",
        "self.blocks_to_add(num_all, 0, self.block_size)",
    ),
    "one token more must fit": (
        "max(num_slots, request.num_tokens)",
        "max(num_slots, request.num_tokens + 1)",
    ),
    "the added blocks returned first": (
        "    return new_blocks\n",
        "    return new_blocks[len(shared) :] + new_blocks[: len(shared)]\n",
    ),
    "shared only where a block is begun": (
        _SHARED,
        "held.shared_from(first) if self.num_forks and num_computed % self.block_size else []",
    ),
    "shared only if something is computed": (
        _SHARED,
        "held.shared_from(first) if self.num_forks and num_computed else []",
    ),
    "shared up to the last token": (
        _SHARED,
        "held.shared_from(first)[: -(-num_slots // self.block_size) - first]"
        " if self.num_forks else []",
    ),
    "admitted with hits alone": (
        "        self.admit(held, hits)\n",
        "        if hits:\n            self.admit(held, hits)\n"
        "        self.request_blocks[request.request_id] = held\n",
    ),
    "entered by a refusal": (
        "        return None\n",
        "        self.request_blocks[request.request_id] = held\n        return None\n",
    ),
    "admitted before a token is looked at": (
        "    if num_full > held.num_cached_blocks:\n        self.hash_full_blocks",
        "    if not held.blocks:\n        self.admit(held, hits)\n"
        "    if num_full > held.num_cached_blocks:\n        self.hash_full_blocks",
    ),
    "eight drafts at most": (
        "    hits = new_computed_blocks or ()\n",
        "    hits = new_computed_blocks or ()\n"
        "    if request.num_computed_tokens + num_new_tokens > request.num_tokens + 8:\n"
        "        raise ValueError\n",
    ),
}
METHODS = [
    *(("8.4a", name, KVCacheManager.fork, edit) for name, edit in FORK.items()),
    *(("8.4b", name, KVCacheManager.replace_shared, edit) for name, edit in REPLACE.items()),
    *(("8.5", name, KVCacheManager.allocate_slots, edit) for name, edit in SLOTS.items()),
]


class LowBytes(trees.Tree):
    """Takes 1 and 257 for the same token."""

    def keys(self, token_ids):
        return super().keys([token & 0xFF for token in token_ids])


class JoinedText(trees.Tree):
    """Takes (1, 12) and (11, 2) for the same block."""

    def keys(self, token_ids):
        return [("".join(map(str, key)),) for key in super().keys(token_ids)]


class SetsOfTokens(trees.Tree):
    """Takes (1, 2) and (2, 1) for the same block."""

    def keys(self, token_ids):
        return [tuple(sorted(key)) for key in super().keys(token_ids)]


class AnyBlockSize(trees.Tree):
    """Refuses no block size."""

    def __init__(self, block_size=1):
        super().__init__(max(block_size, 1))


class AnotherError(trees.Tree):
    """Refuses a block size by another error."""

    def __init__(self, block_size=1):
        if block_size < 1:
            raise TypeError(block_size)
        super().__init__(block_size)


class StoresFirst(trees.Tree):
    """Stores what there are ids for, and refuses then."""

    def insert(self, token_ids, block_ids):
        num_there = min(len(self.keys(token_ids)), len(block_ids))
        num_new = super().insert(token_ids[: num_there * self.block_size], block_ids)
        if num_there < len(self.keys(token_ids)):
            raise ValueError(block_ids)
        return num_new


class MarksFirst(trees.Tree):
    """Marks the way used, and refuses then."""

    def insert(self, token_ids, block_ids):
        self.walk(token_ids)
        return super().insert(token_ids, block_ids)


class ByOwnTokens(trees.Tree):
    """Finds a block by its own tokens, whatever stands in front of it."""

    def longest_prefix(self, token_ids):
        nodes = {node.key: node.block_id for node in self.nodes()}
        super().longest_prefix(token_ids)
        found = []
        for key in self.keys(token_ids):
            if key not in nodes:
                break
            found.append(nodes[key])
        return found


class ParentAtOnce(trees.Tree):
    """Evicts a block right after the last one behind it."""

    def evict(self, num_blocks):
        evicted = []
        while len(evicted) < num_blocks and self.num_blocks:
            node = self.victim()
            while node is not self.root and not node.children and len(evicted) < num_blocks:
                del node.parent.children[node.key]
                evicted.append(node.block_id)
                self.num_blocks -= 1
                node = node.parent
        return evicted


class NeverFewer(trees.Tree):
    """Counts an evicted block all the same."""

    def evict(self, num_blocks):
        before = self.num_blocks
        evicted = super().evict(num_blocks)
        self.num_blocks = before
        return evicted


TREES = (
    LowBytes,
    JoinedText,
    SetsOfTokens,
    AnyBlockSize,
    AnotherError,
    StoresFirst,
    MarksFirst,
    trees.OnlyNewOnesMarked,
    ByOwnTokens,
    ParentAtOnce,
    NeverFewer,
)


@pytest.fixture(autouse=True)
def no_search(monkeypatch):
    """Nothing is drawn."""
    monkeypatch.setattr(search, "SECONDS", 0.0)


def examine(exercise_id, answer):
    """Return what the probes alone find; that no known mistake fits is not asked for."""
    check = replace(lessons.find(exercise_id).check, misconceptions=(), state_line=None, large=())
    return check.examine(LocalSubject(answer, 3.0), seed=1, max_examples=1)


@pytest.mark.parametrize("case", METHODS, ids=lambda case: f"{case[0]} {case[1]}")
def test_a_probe_finds_a_method_that_is_wrong_in_one_place(case):
    exercise_id, _, method, edit = case
    finding = examine(exercise_id, changed(method, edit))
    assert finding.fraction == 0


@pytest.mark.parametrize("tree", TREES)
def test_a_probe_finds_a_tree_that_is_wrong_in_one_place(tree):
    finding = examine("8.9", tree)
    assert finding.fraction == 0


@pytest.mark.parametrize(
    ("exercise_id", "name", "lines"),
    [("8.4a", "no holder counted", 7), ("8.5", "hits counted as free", 7)],
)
def test_a_case_that_a_probe_finds_is_small(exercise_id, name, lines):
    (mistake,) = (
        each for each in lessons.find(exercise_id).check.misconceptions if each.name == name
    )
    case = examine(exercise_id, mistake.wrong).counterexample.case
    assert len(case.split("\n")) <= lines
