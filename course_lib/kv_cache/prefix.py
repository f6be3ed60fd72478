"""Shared prefixes: how a cache recognises that it has computed the beginning of a prompt before.

Keys and values of a token depend on all tokens in front of it, so a block of the KV cache can be
reused only by a request whose tokens are the same *from the start*. Two ways to find such blocks:

- Block hashes (vLLM): the hash of a block covers its tokens and the hash of the block in front of
  it, so equal hashes mean equal prefixes, and one dictionary finds them all.
- A radix tree (SGLang): prefixes are paths from the root, and a path that nobody branches off is
  one node, however long it is.

How much a cache saves is told by its hit rate (``hit_rates.py``).
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from struct import iter_unpack
from typing import TypeVar

from course_lib.kv_cache.sizing import require_block_size

Block = TypeVar("Block")

TOKEN_BYTES = 4
"""Bytes in which a token id is hashed: vocabularies are far smaller than 2³²."""


def root_hash(cache_salt: str | None = None) -> bytes:
    """Return what stands for the block in front of the first one: 32 bytes.

    It depends on the salt, and all hashes of a request depend on it. So requests with different
    salts never share a block, even for equal prompts, and nobody can find out from a faster answer
    what somebody with another salt has asked.

    >>> root_hash("tenant a") == root_hash("tenant b")
    False
    """
    if cache_salt is None:
        return hashlib.sha256(b"unsalted").digest()
    return hashlib.sha256(b"salted:" + cache_salt.encode()).digest()


def hash_block(parent_hash: bytes, token_ids: Sequence[int]) -> bytes:
    """Return the hash of a block: SHA-256 over the hash in front of it and its own tokens.

    Args:
        parent_hash: The hash of the block in front of it, or ``root_hash`` for the first block.
        token_ids: The tokens of the block, each from 0 to 2³² − 1 and written as four bytes. An
            object of type ``bytes`` is taken for tokens that ``encode_tokens`` has written already.

    Returns:
        32 bytes. The same tokens behind another prefix give another hash.

    Raises:
        ValueError: A token id is not a whole number in that range.

    >>> hash_block(root_hash(), [1, 2]) == hash_block(hash_block(root_hash(), [3, 4]), [1, 2])
    False
    >>> hash_block(root_hash(), [1, 2]) == hash_block(root_hash(), encode_tokens([1, 2]))
    True
    """
    token_bytes = token_ids if isinstance(token_ids, bytes) else encode_tokens(token_ids)
    return hashlib.sha256(parent_hash + token_bytes).digest()


def hash_blocks(
    token_ids: Sequence[int],
    block_size: int,
    cache_salt: str | None = None,
    parent_hash: bytes | None = None,
) -> list[bytes]:
    """Return the chained hashes of all full blocks of a request.

    The first block's parent is ``root_hash(cache_salt)``, the parent of every other block is the
    block in front of it. The last block has no hash while it is not full.

    Args:
        token_ids: The tokens of the request, from the first.
        block_size: Tokens per block.
        cache_salt: Only requests with the same salt have the same hashes.
        parent_hash: If ``token_ids`` are only those behind a block that is hashed already, the hash
            of that block: a request grows, and what was hashed once is not hashed again.

    Returns:
        ``len(token_ids) // block_size`` hashes.

    Raises:
        ValueError: ``block_size`` is less than 1, or a token id in a full block is not a whole
            number from 0 to 2³² − 1. Behind the full blocks, such a token may be refused or not.

    >>> hashes = hash_blocks([1, 2, 3, 4, 5], block_size=2)
    >>> len(hashes), hashes[1] == hash_block(hashes[0], [3, 4])
    (2, True)
    >>> hash_blocks([5, 6], block_size=2, parent_hash=hashes[1])[0] == hash_block(hashes[1], [5, 6])
    True
    """
    require_block_size(block_size)
    if parent_hash is None:
        parent_hash = root_hash(cache_salt)
    token_bytes = encode_tokens(token_ids)  # all at once: block by block takes half as long again
    num_bytes = TOKEN_BYTES * block_size
    num_full = len(token_bytes) // num_bytes
    block_hashes: list[bytes] = []
    # This cuts the bytes into blocks. To slice them one by one takes a tenth longer.
    for (block_bytes,) in iter_unpack(f"{num_bytes}s", token_bytes[: num_full * num_bytes]):
        parent_hash = hash_block(parent_hash, block_bytes)
        block_hashes.append(parent_hash)
    return block_hashes


def encode_tokens(token_ids: Sequence[int]) -> bytes:
    """Return token ids as ``TOKEN_BYTES`` bytes each, in the byte order of the machine.

    Raises:
        ValueError: A token id is not a whole number from 0 to 2³² − 1.

    >>> len(encode_tokens([1, 2, 3]))
    12
    """
    try:
        return array("I", token_ids).tobytes()
    except (OverflowError, TypeError) as error:
        wrong = next((t for t in token_ids if not isinstance(t, int) or not 0 <= t < 2**32), None)
        raise ValueError(
            f"token id {wrong!r} cannot be hashed; token ids are whole numbers from 0 to 2**32 - 1"
        ) from error


def longest_cached_prefix(
    block_hashes: Sequence[bytes],
    cached_blocks: Mapping[bytes, Block],
    num_tokens: int,
    block_size: int,
) -> list[Block]:
    """Return the cached blocks that a request can reuse: the longest run from its first block on.

    A hit is whole blocks, and never covers the last known token: that one must be computed in any
    case, because its output decides the next token. So a request of n tokens reuses at most
    ⌊(n − 1) / block_size⌋ blocks.

    Args:
        block_hashes: The hashes of the request's full blocks, in order.
        cached_blocks: The block that holds a prefix, by the prefix's hash.
        num_tokens: Tokens of the request that are known.
        block_size: Tokens per block.

    Returns:
        The blocks found, in order. A block behind the first one that is missing is of no use.

    >>> cached = {b"a": "block 4", b"b": "block 9", b"d": "block 2"}
    >>> longest_cached_prefix([b"a", b"b", b"c", b"d"], cached, num_tokens=64, block_size=16)
    ['block 4', 'block 9']
    >>> longest_cached_prefix([b"a", b"b"], cached, num_tokens=32, block_size=16)
    ['block 4']
    """
    found: list[Block] = []
    for block_hash in block_hashes[: max(num_tokens - 1, 0) // block_size]:
        block = cached_blocks.get(block_hash)
        if block is None:
            break
        found.append(block)
    return found


@dataclass(slots=True, eq=False)
class _Node:
    """An edge of the radix tree together with the node at its end.

    Attributes:
        blocks: The tokens of each block along the edge.
        block_ids: Where the KV of each of them is.
        parent: The node at the edge's other end; None for the root.
        children: Edges that go on from here, by the tokens of their first block.
        last_used: When a request last came through, counted in calls.
        num_holders: How many hold the blocks of the edge.
    """

    blocks: list[tuple[int, ...]] = field(default_factory=list)
    block_ids: list[int] = field(default_factory=list)
    parent: _Node | None = None
    children: dict[tuple[int, ...], _Node] = field(default_factory=dict)
    last_used: int = 0
    num_holders: int = 0


class RadixTree:
    """Finds the longest cached prefix of a request by walking along its tokens.

    The alternative to a dictionary of block hashes. It needs no hashes, knows which prefixes belong
    together, and evicts a prefix from its end. In exchange, every request is compared token by
    token, and an edge is split when a request leaves it half-way.

    Invariant: the first blocks of two children of a node differ, so there is one way to walk; every
    node but the root has at least one block; a block never was used later than the ones in front
    of it, and never has more holders.

    Args:
        block_size: Tokens per block; 1 is SGLang's default. Only whole blocks are stored and found.

    Raises:
        ValueError: ``block_size`` is less than 1.

    >>> tree = RadixTree(block_size=2)
    >>> tree.insert([1, 2, 3, 4, 5, 6], block_ids=[10, 11, 12])
    3
    >>> tree.insert([1, 2, 3, 4, 7, 8], block_ids=[10, 11, 20])
    1
    >>> tree.longest_prefix([1, 2, 3, 4, 7, 9])
    [10, 11]
    >>> tree.evict(1)
    [12]
    """

    def __init__(self, block_size: int = 1) -> None:
        require_block_size(block_size)
        self.block_size = block_size
        self.num_blocks = 0
        self._root = _Node()
        self._clock = 0

    @property
    def num_nodes(self) -> int:
        """Nodes of the tree, without its root.

        >>> tree = RadixTree(block_size=2)
        >>> _ = tree.insert([1, 2, 3, 4], block_ids=[10, 11])
        >>> _ = tree.insert([1, 2, 7, 8], block_ids=[10, 20])
        >>> tree.num_blocks, tree.num_nodes
        (3, 3)
        """
        num_nodes, pending = 0, list(self._root.children.values())
        while pending:
            pending.extend(pending.pop().children.values())
            num_nodes += 1
        return num_nodes

    def longest_prefix(self, token_ids: Sequence[int]) -> list[int]:
        """Return the ids of the blocks that hold the longest cached prefix, and mark them used."""
        path, _, _ = self._walk(self._split_into_blocks(token_ids))
        self._mark_used(path)
        return [block_id for node in path for block_id in node.block_ids]

    def hold(self, token_ids: Sequence[int]) -> list[int]:
        """Give the blocks of the longest cached prefix one holder more: ``evict`` leaves them.

        Args:
            token_ids: The tokens of the request, from the first.

        Returns:
            The ids of these blocks. ``release`` takes the tokens that are in them.

        >>> tree = RadixTree(block_size=2)
        >>> _ = tree.insert([1, 2, 3, 4], block_ids=[10, 11])
        >>> tree.hold([1, 2, 7, 8])
        [10]
        >>> tree.evict(2)
        [11]
        >>> tree.release([1, 2])
        >>> tree.evict(2)
        [10]
        """
        path, _, _ = self._walk(self._split_into_blocks(token_ids))
        self._mark_used(path)
        for node in path:
            node.num_holders += 1
        return [block_id for node in path for block_id in node.block_ids]

    def release(self, token_ids: Sequence[int]) -> None:
        """Take a holder away from blocks. That does not count as a use of them.

        Args:
            token_ids: The tokens of blocks that somebody holds, from the first of the request.

        Raises:
            ValueError: A block is not in the tree, or nobody holds it; then nothing changes.
        """
        blocks = self._split_into_blocks(token_ids)
        path, _, num_found = self._walk(blocks)
        if num_found < len(blocks) or not all(node.num_holders for node in path):
            raise ValueError(
                f"nobody holds all {len(blocks)} blocks of these tokens; release what hold "
                "returned, once"
            )
        for node in path:
            node.num_holders -= 1

    def insert(self, token_ids: Sequence[int], block_ids: Sequence[int]) -> int:
        """Store where the KV of a request's full blocks is, and mark them used.

        What is in the tree already stays: then the given ids of those blocks are not looked at.

        Args:
            token_ids: The tokens of the request, from the first.
            block_ids: The block of each full block of tokens.

        Returns:
            How many blocks are new in the tree: always the last ones.

        Raises:
            ValueError: There are fewer block ids than full blocks.
        """
        blocks = self._split_into_blocks(token_ids)
        if len(block_ids) < len(blocks):
            raise ValueError(
                f"{len(blocks)} full blocks of tokens but {len(block_ids)} block ids; "
                "pass the id of each block"
            )
        path, node, num_known = self._walk(blocks)
        self._mark_used(path)
        new_blocks = blocks[num_known:]
        if new_blocks:
            leaf = _Node(new_blocks, list(block_ids[num_known : len(blocks)]), node)
            leaf.last_used = self._clock
            node.children[new_blocks[0]] = leaf
        self.num_blocks += len(new_blocks)
        return len(new_blocks)

    def evict(self, num_blocks: int) -> list[int]:
        """Forget the least recently used blocks that nobody holds, each prefix from its end.

        Args:
            num_blocks: How many; all that nobody holds if there are fewer.

        Returns:
            Their ids, in the order in which they were forgotten.
        """
        leaves = [(leaf.last_used, index, leaf) for index, leaf in enumerate(self._leaves())]
        heapify(leaves)
        num_pushed = len(leaves)
        evicted: list[int] = []
        while leaves and len(evicted) < num_blocks:
            _, _, leaf = heappop(leaves)
            while leaf.blocks and len(evicted) < num_blocks:
                first_block = leaf.blocks[0]
                leaf.blocks.pop()
                evicted.append(leaf.block_ids.pop())
            if leaf.blocks:
                break
            parent = leaf.parent
            assert parent is not None
            del parent.children[first_block]
            if not parent.children and parent is not self._root and not parent.num_holders:
                num_pushed += 1
                heappush(leaves, (parent.last_used, num_pushed, parent))
        self.num_blocks -= len(evicted)
        return evicted

    def _split_into_blocks(self, token_ids: Sequence[int]) -> list[tuple[int, ...]]:
        """Return the tokens of each full block."""
        size = self.block_size
        ends = range(size, len(token_ids) + 1, size)
        return [tuple(token_ids[end - size : end]) for end in ends]

    def _walk(self, blocks: list[tuple[int, ...]]) -> tuple[list[_Node], _Node, int]:
        """Go along the edges as far as they agree, and split the edge on which they part.

        Returns:
            The nodes passed, the last of them (or the root), and the number of blocks that agree.
        """
        node, path, done = self._root, [], 0
        while done < len(blocks) and (child := node.children.get(blocks[done])):
            common = 1
            longest = min(len(child.blocks), len(blocks) - done)
            while common < longest and child.blocks[common] == blocks[done + common]:
                common += 1
            if common < len(child.blocks):
                child = self._split(child, common)
            path.append(child)
            done += common
            node = child
        return path, node, done

    def _mark_used(self, path: list[_Node]) -> None:
        """Note that a request came through, now."""
        self._clock += 1
        for node in path:
            node.last_used = self._clock

    def _split(self, node: _Node, num_blocks: int) -> _Node:
        """Cut an edge behind its first ``num_blocks`` blocks; return the node in between."""
        parent = node.parent
        assert parent is not None
        upper = _Node(node.blocks[:num_blocks], node.block_ids[:num_blocks], parent)
        upper.last_used, upper.num_holders = node.last_used, node.num_holders
        parent.children[upper.blocks[0]] = upper
        node.blocks, node.block_ids = node.blocks[num_blocks:], node.block_ids[num_blocks:]
        node.parent = upper
        upper.children[node.blocks[0]] = node
        return upper

    def _leaves(self) -> list[_Node]:
        """Return all nodes from which nothing goes on and that nobody holds."""
        leaves, pending = [], list(self._root.children.values())
        while pending:
            node = pending.pop()
            pending.extend(node.children.values())
            if not node.children and not node.num_holders:
                leaves.append(node)
        return leaves
