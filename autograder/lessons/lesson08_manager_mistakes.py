"""Lesson 8: known wrong ways to fork and to copy on write.

Most differ from the library's method in a line or two, and are written as that difference.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from autograder.checks.finding import CheckError, Misconception
from course_lib.kv_cache import manager
from course_lib.kv_cache.manager import KVCacheManager


def changed(method: Callable[..., Any], *edits: tuple[str, str]) -> Callable[..., Any]:
    """Return a method of the manager with other text in some places.

    Raises:
        CheckError: An old text is not in the method exactly once.
    """
    source = textwrap.dedent(inspect.getsource(method))
    for old, new in edits:
        if source.count(old) != 1:
            raise CheckError(f"{old!r} is not in {method.__name__} exactly once")
        source = source.replace(old, new)
    scope = dict(vars(manager))
    exec(compile(f"from __future__ import annotations\n{source}", "<changed>", "exec"), scope)
    made: Callable[..., Any] = scope[method.__name__]
    return made


# 8.4a

_fork = KVCacheManager.fork
_HASHES = "held.block_hashes[:num_full]"
_CACHED = "min(held.num_cached_blocks, num_full)"

FORK = (
    Misconception(
        "copied at once",
        "Most blocks of a fork are full and never written again: copy a block when somebody "
        "writes into it, and only then.",
        changed(
            _fork,
            (
                "self.block_pool.touch(held.blocks)",
                "new = self.block_pool.get_new_blocks(len(held.blocks))",
            ),
            ("list(held.blocks)", "new"),
        ),
        hint="How many blocks of the free queue does a fork take?",
    ),
    Misconception(
        "no holder counted",
        "The blocks are in two tables now. If only one holder is counted, the first of the two "
        "that ends gives away what the other still reads.",
        changed(_fork, ("self.block_pool.touch(held.blocks)", "pass")),
    ),
    Misconception(
        "one table for both",
        "Parent and child share blocks, not the list: what one of them adds to the list or "
        "replaces in it is no business of the other.",
        changed(_fork, ("list(held.blocks)", "held.blocks")),
    ),
    Misconception(
        "the child starts at 0",
        "What the parent has computed is computed for the child as well; otherwise it would do "
        "all the work again.",
        changed(_fork, ("child.num_computed_tokens = num_shared_tokens", "pass")),
    ),
    Misconception(
        "all known tokens count as computed",
        "Shared is what is in the cache: the tokens that the parent has computed. What it only "
        "knows, each of the two computes.",
        changed(
            _fork,
            (
                "num_shared_tokens = min(parent.num_computed_tokens, child.num_tokens)",
                "num_shared_tokens = min(parent.num_tokens, child.num_tokens)",
            ),
        ),
    ),
    Misconception(
        "full blocks only",
        "The last block is shared as well, though it is not full: whoever writes into it while "
        "others hold it gets a copy then.",
        changed(
            _fork,
            (
                "self.block_pool.touch(held.blocks)",
                "blocks = held.blocks[: num_shared_tokens // self.block_size]\n"
                "    self.block_pool.touch(blocks)",
            ),
            ("list(held.blocks)", "blocks"),
        ),
    ),
    Misconception(
        "the salt overlooked",
        "With another salt, nothing may be shared, by a fork as little as by the cache.",
        changed(_fork, ("child.cache_salt != parent.cache_salt or ", "")),
    ),
    Misconception(
        "the tokens overlooked",
        "A child with other tokens would take the parent's keys and values for its own past.",
        changed(
            _fork,
            (
                " or list(child.all_token_ids[tokens]) != list(\n"
                "        parent.all_token_ids[tokens]\n    )",
                "",
            ),
        ),
    ),
    Misconception(
        "the end of the child overlooked",
        "The child may know fewer tokens than the parent has computed: it shares what both have, "
        "and goes on from there.",
        changed(
            _fork,
            (
                "num_shared_tokens = min(parent.num_computed_tokens, child.num_tokens)",
                "num_shared_tokens = parent.num_computed_tokens",
            ),
        ),
        hint="How many tokens can be compared, if the child knows one and the parent has two?",
    ),
    Misconception(
        "all tokens compared",
        "Equal must be what is shared, the tokens that the parent has computed and the child "
        "knows. Behind them each goes its own way.",
        changed(_fork, ("tokens = slice(num_shared_tokens)", "tokens = slice(None)")),
    ),
    Misconception(
        "all hashes handed down",
        "Hashes of blocks that are not computed yet are the parent's business: the child may go "
        "on with other tokens there.",
        changed(_fork, (_HASHES, "list(held.block_hashes)")),
    ),
    Misconception(
        "one list of hashes for both",
        "The child goes on with tokens of its own, and so do its hashes: it needs a list of its "
        "own, with those of the blocks that its computed tokens fill.",
        changed(_fork, (_HASHES, "held.block_hashes")),
    ),
    Misconception(
        "all counted as cached",
        "The parent may have offered blocks to the cache that the child has not computed: those "
        "the child will fill, and offer, itself.",
        changed(_fork, (_CACHED, "held.num_cached_blocks")),
    ),
    Misconception(
        "the parent's hashes and count as they are",
        "Both go on behind what is computed, where the child may have other tokens: cut the "
        "hashes, and the count, at the last block that its computed tokens fill.",
        changed(
            _fork,
            (_HASHES, "list(held.block_hashes)"),
            (_CACHED, "held.num_cached_blocks"),
        ),
    ),
    Misconception(
        "an empty salt is no salt",
        'A salt of "" is a salt, and None is none: whoever has the one must not share with the '
        "other.",
        changed(
            _fork,
            (
                "child.cache_salt != parent.cache_salt",
                "(child.cache_salt or None) != (parent.cache_salt or None)",
            ),
        ),
    ),
    Misconception(
        "nothing computed, nothing held",
        "A request holds blocks from allocate_slots on, before anything in them is computed. They "
        "would be lost with its old entry.",
        changed(_fork, ("known.blocks:", "child.num_computed_tokens:")),
    ),
    Misconception(
        "looked up, so it holds",
        "A request that was looked up has an entry, too, and holds no block yet: ask whether its "
        "entry has blocks.",
        changed(_fork, (" and known.blocks:", ":")),
    ),
    Misconception(
        "the fork is not counted",
        "As long as num_forks is 0, nobody looks for shared blocks, and both write into the same.",
        changed(_fork, ("self.num_forks += 1", "pass")),
    ),
)

# 8.4b

_replace = KVCacheManager.replace_shared
_IS_BEGUN = "index * self.block_size < num_computed_tokens"

REPLACE = (
    Misconception(
        "empty blocks are copied",
        "A block behind the computed tokens holds nothing that anybody needs: it is replaced, and "
        "nothing is copied.",
        changed(_replace, (_IS_BEGUN, "True")),
    ),
    Misconception(
        "the pair the wrong way round",
        "A pair is (source, destination): from the shared block to the new one.",
        changed(
            _replace,
            ("(source.block_id, copy.block_id)", "(copy.block_id, source.block_id)"),
        ),
    ),
    Misconception(
        "the old block is kept",
        "The writer no longer uses the shared block, so it has a holder less. Otherwise it is "
        "never free again.",
        changed(_replace, ("self.block_pool.free_blocks([source])", "pass")),
    ),
    Misconception(
        "counted down, and not free",
        "A block that nobody holds any more belongs in the free queue. `free_blocks` of the pool "
        "takes a holder off, and queues it if that was the last.",
        changed(_replace, ("self.block_pool.free_blocks([source])", "source.ref_cnt -= 1")),
        hint="Where must a block be that nobody holds?",
    ),
    Misconception(
        "put at the end of the table",
        "Block i of a table holds the tokens from i times block_size on: the new block takes the "
        "very place of the shared one.",
        changed(
            _replace,
            (
                "held.blocks[index] = copy",
                "held.blocks.remove(source)\n        held.blocks.append(copy)",
            ),
        ),
    ),
    Misconception(
        "nothing is copied",
        "The new block needs what the writer has computed in the old one, so the copy must be "
        "noted: the model carries it out before the step.",
        changed(_replace, (_IS_BEGUN, "False")),
    ),
    Misconception(
        "counted, and not noted",
        "The model copies what stands in block_copies, before the step; a count alone moves "
        "nothing.",
        changed(
            _replace,
            ("self.block_copies.append((source.block_id, copy.block_id))", "pass"),
        ),
    ),
    Misconception(
        "only the last pair is kept",
        "Other copies may be due already, of this request or of another: add the pair to them.",
        changed(
            _replace,
            (
                "self.block_copies.append((source.block_id, copy.block_id))",
                "self.block_copies = [(source.block_id, copy.block_id)]",
            ),
        ),
    ),
    Misconception(
        "blocks compared with tokens",
        "num_computed_tokens counts tokens: a block begins at its index times block_size.",
        changed(_replace, (_IS_BEGUN, "index < num_computed_tokens")),
    ),
    Misconception(
        "the block behind the last token, too",
        "A block that begins where the computed tokens end is empty: there is nothing to copy.",
        changed(_replace, (_IS_BEGUN, _IS_BEGUN.replace("<", "<="))),
    ),
    Misconception(
        "half a block needs no copy",
        "A block that is filled in part holds computed tokens, too. Only one that begins behind "
        "them is empty.",
        changed(
            _replace,
            (_IS_BEGUN, "(index + 1) * self.block_size <= num_computed_tokens"),
        ),
    ),
    Misconception(
        "copies are not counted",
        "num_copies says how many blocks were copied: it goes up with each pair.",
        changed(_replace, ("self.num_copies += 1", "pass")),
    ),
    Misconception(
        "the table stays as it was",
        "The new block takes the place of the shared one in the writer's table; there the step "
        "writes.",
        changed(_replace, ("held.blocks[index] = copy", "pass")),
    ),
)
