"""Lesson 8: a tree of prefixes. Its lives, and known wrong ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from autograder.checks.finding import Misconception
from autograder.checks.stateful import Life, Twin

_tokens = st.lists(st.integers(1, 2), max_size=7)


class TreeLife(Twin):
    """What may be done to a tree of prefixes."""

    is_free = True

    @initialize(block_size=st.integers(1, 3))
    def make_one(self, block_size: int) -> None:
        """Start with nothing."""
        self.create(block_size)
        self.next_id = 10

    @rule(tokens=_tokens)
    def insert(self, tokens: list[int]) -> None:
        """Store a request."""
        self.do("insert", tokens, list(range(self.next_id, self.next_id + len(tokens))))
        self.next_id += 10
        self.see("num_blocks")

    @rule(tokens=_tokens)
    def look_up(self, tokens: list[int]) -> None:
        """Look a request up."""
        self.do("longest_prefix", tokens)

    @rule(num_blocks=st.integers(0, 3))
    def evict(self, num_blocks: int) -> None:
        """Make room."""
        self.do("evict", num_blocks)
        self.see("num_blocks")


def two_branches(life: Life) -> None:
    """Store two requests with a common beginning, and evict all of it, block by block."""
    life.create(2)
    life.do("insert", [1, 2, 3, 4, 5, 6], [10, 11, 12])
    life.do("insert", [1, 2, 3, 4, 7, 8], [20, 21, 22])
    for tokens in ([1, 2, 3, 4, 7, 9], [1, 2, 3, 4, 5, 6, 9], [9, 2], [1, 2, 9, 9]):
        life.do("longest_prefix", tokens)
    life.see("num_blocks")
    for _ in range(5):
        life.do("evict", 1)
        life.see("num_blocks")


def looked_up_between(life: Life) -> None:
    """Use the older of two requests again before room is made."""
    life.create(1)
    life.do("insert", [1, 2], [10, 11])
    life.do("insert", [5, 6, 7], [20, 21, 22])
    life.do("longest_prefix", [1, 2, 9])
    life.do("evict", 2)
    life.do("insert", [5, 8], [30, 31])
    life.do("longest_prefix", [5, 6])
    life.do("evict", 2)
    life.do("evict", 9)


def not_full(life: Life) -> None:
    """Store and look up requests whose last block is not full; store one a second time."""
    life.create(3)
    life.do("insert", [1, 2, 3, 4], [10, 11])
    life.do("insert", [1, 2, 3, 4, 5, 6], [20, 21])
    life.do("insert", [1, 2, 3, 4, 5, 6], [30, 31])
    life.do("longest_prefix", [1, 2, 3, 4, 5])
    life.do("longest_prefix", [1, 2, 3, 4, 5, 6])
    life.do("insert", [1, 2], [])
    life.do("evict", 3)


def stored_again(life: Life) -> None:
    """Store the older of two requests again: that is a use of it."""
    life.create(1)
    life.do("insert", [1], [10])
    life.do("insert", [2], [20])
    life.do("insert", [1], [30])
    life.do("evict", 1)


def a_stem_that_is_left(life: Life) -> None:
    """Use the beginning of a request again: it outlives what is older, its own end too."""
    life.create(1)
    life.do("insert", [1, 2], [10, 11])
    life.do("insert", [3], [20])
    life.do("insert", [1], [30])
    life.do("evict", 3)


def the_same_block_again(life: Life) -> None:
    """Look for a block behind itself, where it is not stored."""
    life.create(1)
    life.do("insert", [2], [10])
    life.do("longest_prefix", [2, 2])
    life.do("longest_prefix", [1, 2])


def the_same_low_byte(life: Life) -> None:
    """Look for a token whose low byte is that of a stored one."""
    life.create(1)
    life.do("insert", [1], [10])
    life.do("longest_prefix", [257])
    life.do("longest_prefix", [65537])


def the_same_digits(life: Life) -> None:
    """Look for tokens that look like the stored ones when they are written one after the other."""
    life.create(2)
    life.do("insert", [1, 12], [10])
    life.do("longest_prefix", [11, 2])
    life.do("longest_prefix", [12, 1])


def too_few_ids(life: Life) -> None:
    """Store a request with too few ids; nothing is stored, and nothing is used."""
    life.create(1)
    life.do("insert", [1, 2], [10])
    life.see("num_blocks")
    life.do("longest_prefix", [1])


def too_few_ids_behind_a_stored_block(life: Life) -> None:
    """Store the older of two requests again, with one more block and too few ids; no use of it."""
    life.create(1)
    life.do("insert", [1], [10])
    life.do("insert", [2], [20])
    life.do("insert", [1, 3], [30])
    life.do("evict", 1)


def no_block(life: Life) -> None:
    """Make a tree whose blocks have no token."""
    life.create(0)


def less_than_no_block(life: Life) -> None:
    """Make a tree whose blocks have fewer tokens than none."""
    life.create(-1)


PROBES = (
    two_branches,
    looked_up_between,
    not_full,
    stored_again,
    a_stem_that_is_left,
    the_same_block_again,
    the_same_low_byte,
    the_same_digits,
    too_few_ids,
    too_few_ids_behind_a_stored_block,
    no_block,
    less_than_no_block,
)


@dataclass(eq=False)
class Node:
    """A block in the tree."""

    parent: Node | None = None
    key: tuple[int, ...] = ()
    block_id: int = -1
    last_used: int = 0
    children: dict[tuple[int, ...], Node] = field(default_factory=dict)


class Tree:
    """A tree with a node for each block; the wrong ones below change a method of it."""

    def __init__(self, block_size: int = 1) -> None:
        if block_size < 1:
            raise ValueError(f"block_size is {block_size}; a block has at least 1 token")
        self.block_size = block_size
        self.num_blocks = 0
        self.clock = 0
        self.root = Node()

    def keys(self, token_ids: Sequence[int]) -> list[tuple[int, ...]]:
        """Return the tokens of each full block."""
        size = self.block_size
        ends = range(size, len(token_ids) + 1, size)
        return [tuple(token_ids[end - size : end]) for end in ends]

    def walk(self, token_ids: Sequence[int]) -> list[Node]:
        """Follow a request as far as it is stored, and mark the way used."""
        self.clock += 1
        node, path = self.root, []
        for key in self.keys(token_ids):
            if key not in node.children:
                break
            node = node.children[key]
            path.append(node)
        for each in path:
            each.last_used = self.clock
        return path

    def longest_prefix(self, token_ids: Sequence[int]) -> list[int]:
        """Return the blocks of the longest stored prefix."""
        return [node.block_id for node in self.walk(token_ids)]

    def insert(self, token_ids: Sequence[int], block_ids: Sequence[int]) -> int:
        """Store a request; return how many blocks are new."""
        keys = self.keys(token_ids)
        if len(block_ids) < len(keys):
            raise ValueError(f"{len(keys)} full blocks, but {len(block_ids)} block ids")
        path = self.walk(token_ids)
        node = path[-1] if path else self.root
        for key, block_id in list(zip(keys, block_ids, strict=False))[len(path) :]:
            node.children[key] = Node(node, key, block_id, self.clock)
            node = node.children[key]
        self.num_blocks += len(keys) - len(path)
        return len(keys) - len(path)

    def nodes(self) -> Iterator[Node]:
        """Yield all blocks."""
        pending = list(self.root.children.values())
        while pending:
            node = pending.pop()
            pending.extend(node.children.values())
            yield node

    def victim(self) -> Node:
        """Return the least recently used leaf."""
        leaves = (node for node in self.nodes() if not node.children)
        return min(leaves, key=lambda node: node.last_used)

    def evict(self, num_blocks: int) -> list[int]:
        """Forget blocks, one leaf after the other."""
        evicted: list[int] = []
        while len(evicted) < num_blocks and self.num_blocks:
            leaf = self.victim()
            assert leaf.parent is not None
            del leaf.parent.children[leaf.key]
            evicted.append(leaf.block_id)
            self.num_blocks -= 1
        return evicted


class NoUseByLookup(Tree):
    """Only what is stored counts as used."""

    def longest_prefix(self, token_ids: Sequence[int]) -> list[int]:
        """Look up, and leave the times as they were."""
        before = {node: node.last_used for node in self.nodes()}
        found = super().longest_prefix(token_ids)
        for node, last_used in before.items():
            node.last_used = last_used
        return found


class OnlyNewOnesMarked(Tree):
    """Marks only the blocks that are new when a request is stored."""

    def insert(self, token_ids: Sequence[int], block_ids: Sequence[int]) -> int:
        """Store a request, and leave the times of what was there as they were."""
        before = {node: node.last_used for node in self.nodes()}
        num_new = super().insert(token_ids, block_ids)
        for node, last_used in before.items():
            node.last_used = last_used
        return num_new


class StemsFirst(Tree):
    """Evicts the block that was used least recently, wherever it is, with all behind it lost."""

    def victim(self) -> Node:
        """Return the block that was used least recently, nearest to the root."""
        return min(self.nodes(), key=lambda node: (node.last_used, len(self.path_of(node))))

    def path_of(self, node: Node) -> list[Node]:
        """Return a block and those in front of it."""
        path = []
        while node.parent is not None:
            path.append(node)
            node = node.parent
        return path

    def evict(self, num_blocks: int) -> list[int]:
        """Forget blocks, each with all that follows it."""
        evicted: list[int] = []
        while len(evicted) < num_blocks and next(self.nodes(), None) is not None:
            node = self.victim()
            assert node.parent is not None
            del node.parent.children[node.key]
            evicted.append(node.block_id)
            self.num_blocks = sum(1 for _ in self.nodes())
        return evicted


class MostRecent(Tree):
    """Evicts the leaf that was used last."""

    def victim(self) -> Node:
        """Return the leaf that was used last."""
        leaves = (node for node in self.nodes() if not node.children)
        return max(leaves, key=lambda node: node.last_used)


class NewIds(Tree):
    """Takes over the ids of a request for blocks that are stored already."""

    def insert(self, token_ids: Sequence[int], block_ids: Sequence[int]) -> int:
        """Store a request, with the new ids everywhere."""
        num_new = super().insert(token_ids, block_ids)
        for node, block_id in zip(self.walk(token_ids), block_ids, strict=False):
            node.block_id = block_id
        return num_new


class PartialBlocks(Tree):
    """Stores and finds the last block as well if it is not full."""

    def keys(self, token_ids: Sequence[int]) -> list[tuple[int, ...]]:
        """Return the tokens of each block, the last one full or not."""
        starts = range(0, len(token_ids), self.block_size)
        return [tuple(token_ids[start : start + self.block_size]) for start in starts]


class AllCounted(Tree):
    """Returns how many blocks a request has, not how many are new."""

    def insert(self, token_ids: Sequence[int], block_ids: Sequence[int]) -> int:
        """Store a request; return how many blocks it has."""
        super().insert(token_ids, block_ids)
        return len(self.keys(token_ids))


MISTAKES = (
    Misconception(
        "a lookup is no use",
        "Who is looked up is about to be used. If that does not count, what was stored first is "
        "lost first: first in, first out.",
        NoUseByLookup,
    ),
    Misconception(
        "only new blocks are marked",
        "Who is stored again is in use again: mark all blocks on the way, those that were there "
        "as well.",
        OnlyNewOnesMarked,
    ),
    Misconception(
        "stems before leaves",
        "Whoever loses the beginning of a prefix has lost all of it: what is behind is still in "
        "memory, and nobody can reach it.",
        StemsFirst,
    ),
    Misconception(
        "the most recent first",
        "What was not used for longest is taken to be the least likely to come next: evict that.",
        MostRecent,
    ),
    Misconception(
        "new ids for old blocks",
        "What is in the tree stays where it is: other requests have the old ids in their tables.",
        NewIds,
    ),
    Misconception(
        "blocks that are not full",
        "Only whole blocks are stored and found: one that is not full is written again.",
        PartialBlocks,
    ),
    Misconception(
        "all blocks counted",
        "Returned is how many blocks are new in the tree; the others were there.",
        AllCounted,
    ),
)
