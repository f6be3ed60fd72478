"""Lesson 8: known wrong ways to make room, each written as what it differs in."""

from __future__ import annotations

from autograder.checks.finding import Misconception
from autograder.lessons.lesson08_manager_mistakes import changed
from course_lib.kv_cache.manager import KVCacheManager

_allocate = KVCacheManager.allocate_slots
_KEPT = (
    "kept = 0 if held.blocks else self.num_blocks_kept_free() + sum(not b.ref_cnt for b in hits)"
)
_SHARED = "held.shared_from(first)"
_NUM_NEW = "num_new = len(shared) + self.blocks_to_add(num_slots, num_known, self.block_size)"
_NUM_FULL = "num_full = min(num_slots, request.num_tokens) // self.block_size"
_TAKEN = "    new_blocks = self.block_pool.get_new_blocks(num_new) if num_new else []"
_HASHED = "self.hash_full_blocks(held, num_full)"
_CACHE_FULL = "self.cache_full_blocks(held, num_full)"
_COMPUTED = "num_computed = request.num_computed_tokens + num_new_computed_tokens"
_ADMIT = "    if not held.blocks:\n        self.admit(held, hits)\n"


ALLOCATE = (
    Misconception(
        "hits counted as free",
        "A hit that nobody holds is in the free queue, and leaves it when it is touched: the same "
        "block cannot be had as a new one, too.",
        changed(_allocate, (_KEPT, "kept = 0 if held.blocks else self.num_blocks_kept_free()")),
        hint="Of the free blocks, which are yours already, whatever you take?",
    ),
    Misconception(
        "every hit taken off",
        "A hit that somebody holds is not in the free queue, so it takes no room there. Who "
        "subtracts it turns away a request that fits.",
        changed(
            _allocate,
            (_KEPT, "kept = 0 if held.blocks else self.num_blocks_kept_free() + len(hits)"),
        ),
    ),
    Misconception(
        "touched before the check",
        "If there is no room, nothing may have changed. A request that waits is asked again in "
        "every step, and would add a holder each time that nobody takes off.",
        changed(
            _allocate,
            (_ADMIT, ""),
            (
                _KEPT,
                "kept = 0 if held.blocks else self.num_blocks_kept_free()\n"
                "    if not held.blocks:\n        self.admit(held, hits)",
            ),
        ),
    ),
    Misconception(
        "hashed and entered before the check",
        "Who is refused is still in request_blocks, and its hits have a holder more: count and "
        "refuse first, hash then, and admit at last.",
        changed(
            _allocate,
            (_ADMIT, ""),
            (
                _KEPT,
                "kept = 0 if held.blocks else self.num_blocks_kept_free()\n"
                f"    {_HASHED}\n"
                "    if not held.blocks:\n        self.admit(held, hits)",
            ),
        ),
    ),
    Misconception(
        "taken before the hits are touched",
        "Until they are touched, the hits that nobody holds are in the free queue: the request may "
        "be given one of them as a new block, and has it in its table twice.",
        changed(
            _allocate,
            (_ADMIT, ""),
            (_TAKEN, f"{_TAKEN}\n{_ADMIT.rstrip()}"),
        ),
        hint="What may get_new_blocks return while the hits are still in the free queue?",
    ),
    Misconception(
        "touched, and undone",
        "Put back at the end, the hits count as used just now, and in another order than they "
        "were: look first, and there is nothing to undo.",
        changed(
            _allocate,
            (
                "        return None\n",
                "        self.block_pool.touch(hits)\n"
                "        self.block_pool.free_blocks(list(hits)[::-1])\n"
                "        return None\n",
            ),
        ),
    ),
    Misconception(
        "only what others hold is replaced",
        "A block may be this request's alone by now and still be found by the tokens of the "
        "parent, which has cached it and ended. Who writes other tokens into it hands them to "
        "whoever looks for those.",
        changed(
            _allocate,
            (_SHARED, "[block for block in held.blocks[first:] if block.ref_cnt > 1]"),
        ),
        hint="Whose tokens does the block's hash promise?",
    ),
    Misconception(
        "the added blocks in front of the copies",
        "Of the blocks taken, the first are the copies, in the order of the table; those behind "
        "lengthen it.",
        changed(
            _allocate,
            ("new_blocks[: len(shared)]", "new_blocks[len(new_blocks) - len(shared) :]"),
            ("new_blocks[len(shared) :]", "new_blocks[: len(new_blocks) - len(shared)]"),
        ),
    ),
    Misconception(
        "the whole shared prefix replaced",
        "Only what is written must be one's own: the blocks from the first new token on. Those in "
        "front are read, and stay shared.",
        changed(_allocate, (_SHARED, "held.shared_from(0)")),
    ),
    Misconception(
        "shared blocks overlooked",
        "A block that others hold as well must not be written into: replace it first.",
        changed(_allocate, (_SHARED, "[]")),
    ),
    Misconception(
        "copies need no room",
        "A copy takes a block of the free queue like any other: count it before you refuse.",
        changed(
            _allocate, ("    num_needed = num_new\n", "    num_needed = num_new - len(shared)\n")
        ),
    ),
    Misconception(
        "drafts are cached",
        "Tokens beyond num_tokens are guesses that may be taken back: a block with a guess in it "
        "must not be found by others.",
        changed(_allocate, (_NUM_FULL, "num_full = num_slots // self.block_size")),
    ),
    Misconception(
        "the whole prompt is cached",
        "A block can be found from the moment on when its tokens are computed, with this step at "
        "the latest; what later chunks fill is empty now.",
        changed(_allocate, (_NUM_FULL, "num_full = request.num_tokens // self.block_size")),
    ),
    Misconception(
        "nothing is cached",
        "Blocks that these tokens fill can be found by later requests from now on.",
        changed(
            _allocate,
            (
                "    if num_full > held.num_cached_blocks:\n"
                "        self.cache_full_blocks(held, num_full)\n",
                "",
            ),
        ),
    ),
    Misconception(
        "hashed after the change",
        "A token that cannot be hashed raises an error, and nothing may have changed by then: hash "
        "before you admit and take.",
        changed(
            _allocate,
            (_HASHED, "pass"),
            (_CACHE_FULL, f"{_HASHED}\n        {_CACHE_FULL}"),
        ),
    ),
    Misconception(
        "room for the new tokens alone",
        "The computed tokens need slots as well: the table as a whole must be long enough.",
        changed(
            _allocate,
            (
                _NUM_NEW,
                "num_new = len(shared) + self.blocks_to_add(num_new_tokens, 0, self.block_size)",
            ),
        ),
    ),
    Misconception(
        "the tokens found are not counted",
        "The table needs a slot for each token that is computed, for each that was just found, and "
        "for the new ones behind them.",
        changed(_allocate, (_COMPUTED, "num_computed = request.num_computed_tokens")),
        hint="At which position do the new tokens begin, if some in front were found?",
    ),
    Misconception(
        "the blocks found are not counted",
        "The hits are the first blocks of the table: it lacks only what is behind them.",
        changed(
            _allocate, ("num_known = len(held.blocks) + len(hits)", "num_known = len(held.blocks)")
        ),
    ),
    Misconception(
        "room for all of it taken",
        "With full_sequence_must_fit, all of it must fit; taken are the blocks of the next tokens, "
        "and no others.",
        changed(
            _allocate,
            (
                "get_new_blocks(num_new) if num_new else []",
                "get_new_blocks(num_needed) if num_needed else []",
            ),
        ),
        hint="Of the two numbers that you count, which one do you compare, and which one take?",
    ),
    Misconception(
        "from the last block of the table on",
        "The request writes from its first new token on, and that may lie behind all blocks that "
        "it has: then none of them is replaced.",
        changed(_allocate, (_SHARED, "held.shared_from(max(len(held.blocks) - 1, 0))")),
        hint="In which block of the table is the first token that is not computed yet?",
    ),
    Misconception(
        "empty blocks are copied",
        "What is copied was computed before this step: replace_shared needs that number, and not "
        "the number of slots.",
        changed(
            _allocate,
            ("new_blocks[: len(shared)], num_computed)", "new_blocks[: len(shared)], num_slots)"),
        ),
    ),
    Misconception(
        "never entered",
        "Who is admitted gets an entry in request_blocks, also without hits: the entry that "
        "blocks_of returns for a new request is not in it.",
        changed(
            _allocate,
            (
                "        self.admit(held, hits)\n",
                "        self.block_pool.touch(hits)\n        held.blocks += hits\n",
            ),
        ),
        hint="Which helper enters a request that holds no blocks?",
    ),
    Misconception(
        "the share for everybody",
        "What stays free when somebody is admitted stays free for those who run: they may take it.",
        changed(_allocate, (_KEPT, _KEPT.replace("0 if held.blocks else ", ""))),
    ),
    Misconception(
        "no share kept free",
        "Who is admitted leaves watermark_blocks blocks to those who run already.",
        changed(_allocate, ("self.num_blocks_kept_free() + ", "")),
    ),
    Misconception(
        "a share kept free for nobody",
        "The share is for those who run. Where nobody does, a request that needs all blocks would "
        "wait for ever: num_blocks_kept_free knows that.",
        changed(_allocate, ("self.num_blocks_kept_free()", "self.watermark_blocks")),
    ),
    Misconception(
        "only the next tokens must fit",
        "With full_sequence_must_fit, a request is let in only if all of it would fit now.",
        changed(_allocate, ("if full_sequence_must_fit:", "if False:")),
    ),
    Misconception(
        "the whole table is returned",
        "Returned is what was taken from the free queue: copies first, then what was added.",
        changed(_allocate, ("    return new_blocks\n", "    return list(held.blocks)\n")),
    ),
)
