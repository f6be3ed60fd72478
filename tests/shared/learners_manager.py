"""Lesson 8 as somebody may solve it who has not seen the library's code; tests put it to use."""

import inspect
from collections.abc import Callable
from typing import Any

from course_lib.kv_cache.manager import RequestBlocks
from course_lib.kv_cache.prefix import hash_block, root_hash

IMPORTS = (
    "from course_lib.kv_cache.manager import RequestBlocks\n"
    "from course_lib.kv_cache.prefix import hash_block, root_hash\n\n\n"
)
"""What the functions below need to stand alone."""


def hash_blocks(token_ids, block_size, cache_salt=None, parent_hash=None):
    if block_size < 1:
        raise ValueError("a block has at least 1 token")
    parent = parent_hash
    if parent is None:
        parent = root_hash(cache_salt)
    hashes = []
    start = 0
    while start + block_size <= len(token_ids):
        parent = hash_block(parent, list(token_ids[start : start + block_size]))
        hashes.append(parent)
        start += block_size
    return hashes


def longest_cached_prefix(block_hashes, cached_blocks, num_tokens, block_size):
    found = []
    for number, block_hash in enumerate(block_hashes, 1):
        if block_hash not in cached_blocks or number * block_size >= num_tokens:
            break
        found.append(cached_blocks[block_hash])
    return found


def fork(self, parent, child):
    held = self.holding(parent.request_id)
    if child.request_id in self.request_blocks and self.request_blocks[child.request_id].blocks:
        raise ValueError("the child holds blocks")
    n = min(parent.num_computed_tokens, child.num_tokens)
    if child.cache_salt != parent.cache_salt:
        raise ValueError("another salt")
    if child.all_token_ids[:n] != parent.all_token_ids[:n]:
        raise ValueError("other tokens")
    for block in held.blocks:
        self.block_pool.touch([block])
    entry = RequestBlocks(child)
    entry.blocks = held.blocks[:]
    entry.block_hashes = held.block_hashes[: n // self.block_size]
    entry.num_cached_blocks = min(n // self.block_size, held.num_cached_blocks)
    self.request_blocks[child.request_id] = entry
    child.num_computed_tokens = n
    self.num_forks = self.num_forks + 1


def replace_shared(self, held, shared, new_blocks, num_computed_tokens):
    new_table = []
    replaced = list(zip(shared, new_blocks, strict=True))
    for place, block in enumerate(held.blocks):
        for old, new in replaced:
            if old is block:
                if num_computed_tokens > place * self.block_size:
                    self.block_copies += [(old.block_id, new.block_id)]
                    self.num_copies += 1
                block = new
                break
        new_table.append(block)
    held.blocks = new_table
    self.block_pool.free_blocks(old for old, _ in replaced)


def allocate_slots(
    self,
    request,
    num_new_tokens,
    num_new_computed_tokens=0,
    new_computed_blocks=None,
    *,
    full_sequence_must_fit=False,
):
    if num_new_tokens <= 0:
        raise ValueError("at least one token")
    hits = list(new_computed_blocks or [])
    held = self.blocks_of(request)
    self.require_hits(held, hits, num_new_computed_tokens)
    is_new = len(held.blocks) == 0

    computed = request.num_computed_tokens + num_new_computed_tokens
    until = computed + num_new_tokens
    shared = []
    for place, block in enumerate(held.blocks):
        is_anothers = block.block_hash is not None and place >= held.num_cached_blocks
        if place >= computed // self.block_size and (block.ref_cnt > 1 or is_anothers):
            shared.append(block)
    there = len(held.blocks) + len(hits)
    added = self.blocks_to_add(until, there, self.block_size)
    needed = added
    if full_sequence_must_fit:
        needed = max(added, self.blocks_to_add(request.num_tokens, there, self.block_size))
    room = self.block_pool.get_num_free_blocks()
    for hit in hits:
        if hit.ref_cnt == 0:
            room -= 1
    if is_new:
        room -= self.num_blocks_kept_free()
    if len(shared) + needed > max(room, 0) and len(shared) + needed > 0:
        return None
    full = min(until, request.num_tokens) // self.block_size
    self.hash_full_blocks(held, full)

    if is_new:
        self.admit(held, hits)
    new = self.block_pool.get_new_blocks(len(shared) + added)
    self.replace_shared(held, shared, new[: len(shared)], computed)
    held.blocks.extend(new[len(shared) :])
    if full > held.num_cached_blocks:
        self.cache_full_blocks(held, full)
    return new


METHODS = (fork, replace_shared, allocate_slots)
FUNCTIONS = (hash_blocks, longest_cached_prefix)


def source_of(function: Callable[..., Any]) -> str:
    """Return a module that defines the function and all that it needs."""
    return IMPORTS + inspect.getsource(function)
