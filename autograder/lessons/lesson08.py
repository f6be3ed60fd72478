"""Lesson 8, prefix sharing and copy-on-write: its exercises."""

from __future__ import annotations

from autograder.checks.answer import AnswerCheck
from autograder.checks.checker import CheckerCheck
from autograder.checks.exercise import Exercise
from autograder.checks.function import FunctionCheck
from autograder.checks.kernel import KernelCheck
from autograder.checks.parsons import ParsonsCheck
from autograder.checks.quiz import QuizCheck
from autograder.checks.reference import Method
from autograder.checks.stateful import StatefulCheck
from autograder.checks.trace import TraceCheck
from autograder.checks.values import value_exercise
from autograder.lessons import lesson08_forks as forks
from autograder.lessons import lesson08_given as given
from autograder.lessons import lesson08_hash_mistakes as hash_mistakes
from autograder.lessons import lesson08_hunt as hunt
from autograder.lessons import lesson08_lives as lives
from autograder.lessons import lesson08_lookups as lookups
from autograder.lessons import lesson08_manager_mistakes as manager_mistakes
from autograder.lessons import lesson08_measure as measure
from autograder.lessons import lesson08_mistakes as mistakes
from autograder.lessons import lesson08_slot_mistakes as slot_mistakes
from autograder.lessons import lesson08_slots as slots
from autograder.lessons import lesson08_trees as trees
from course_lib.attention.paged import copy_blocks, side_by_side
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.kv_cache.prefix import RadixTree, hash_blocks, longest_cached_prefix
from course_lib.kv_cache.watch.manager_steps import state_of

# 8.1

HASH = Exercise(
    id="8.1",
    title="Hashes in a chain",
    asks="Return the hash of each full block, chained to the one in front of it.",
    points=7,
    minutes=12,
    difficulty=2,
    check=FunctionCheck(
        reference=hash_blocks,
        cases=given.hashings(),
        probes=given.HASHINGS,
        refusals=given.REFUSED_HASHINGS,
        large=(given.LONG_PROMPT,),
        misconceptions=hash_mistakes.HASH,
    ),
    hints=(
        "On which tokens do the keys and values in block 2 depend?",
        "Go from block to block. Each hash is made of the one before it and the tokens of the "
        "block; in front of the first stands the hash of the root, or the parent that is given.",
        "`parent = hash_block(parent, tokens of the block)`, and keep it",
    ),
)

# 8.2

ORDER = Exercise(
    id="8.2a",
    title="The longest cached prefix",
    asks="Put the lines of `longest_cached_prefix` in order. Three of them do not belong.",
    points=4,
    minutes=6,
    difficulty=1,
    check=ParsonsCheck(
        "8.2a",
        FunctionCheck(reference=longest_cached_prefix, cases=given.lookups(), probes=given.LOOKUPS),
        distractors=mistakes.LOOKUP_LINES,
    ),
    hints=(
        "What may be reused of a prompt of 32 tokens in blocks of 16, all of them cached?",
        "Look at no more blocks than leave a token to compute. Stop at the first that is missing.",
        "`nothing found yet; for each usable hash: look it up, test, leave, keep; return`",
    ),
)

TEST = Exercise(
    id="8.2b",
    title="A test of prefix lookup",
    asks="Return one text for each case on which a given `lookup` is wrong.",
    points=7,
    minutes=14,
    difficulty=2,
    check=CheckerCheck(
        reference=lookups.complaints,
        faulty=lookups.FAULTY,
        valid=lookups.VALID,
        shows=lookups.shown,
        misconceptions=lookups.POOR_TESTS,
    ),
    hints=(
        "Which prompt would show that a lookup counts a block behind a hole?",
        "Choose cases at the edges: a prompt that ends with a full block, one with a token more; "
        "a hole at the front, one in the middle with cached blocks behind it; blocks of another "
        "size.",
        "`[text for each case if lookup(*case) != what you expect of it]`",
    ),
)

# 8.3

BY_HAND = Exercise(
    id="8.3",
    title="Who copies?",
    asks="Write the copy that each write needs, and the writer's table after it.",
    points=5,
    minutes=8,
    difficulty=1,
    check=TraceCheck(
        given.copies_to_write, misconceptions=mistakes.BY_HAND, form=given.form_of_a_copy
    ),
    hints=(
        "How many hold the block into which the token goes?",
        "A token goes into the last block if that has a free slot, and else into a new one, the "
        "first of the free queue. If others hold the last block as well, the writer takes the "
        "first free block, copies, and lets the old one go: one holder less.",
        "`more than one holder: copy [old, new]; one holder, or a new block: []`",
    ),
)

# 8.4

FORK = Exercise(
    id="8.4a",
    title="Fork",
    asks="Let a child share all blocks of its parent, without a copy.",
    points=6,
    minutes=12,
    difficulty=2,
    check=StatefulCheck(
        reference=Method(KVCacheManager, "fork"),
        machine=lives.ForkingLife,
        max_steps=6,
        probes=forks.FORKS,
        misconceptions=manager_mistakes.FORK,
        state_line=state_of,
    ),
    hints=(
        "What changes in the memory of the GPU when a request is forked?",
        "Refuse first. Then count a holder more for each block, and enter the child: a table of "
        "its own with the same blocks, the hashes of what is computed, and how many of those are "
        "cached.",
        "`self.request_blocks[child.request_id] = RequestBlocks(child, list(held.blocks), ...)`",
    ),
)

REPLACE = Exercise(
    id="8.4b",
    title="Copy on write",
    asks="Put new blocks in the place of shared ones, and note what has to be copied.",
    points=6,
    minutes=10,
    difficulty=2,
    check=StatefulCheck(
        reference=Method(KVCacheManager, "replace_shared"),
        machine=lives.ReplacingLife,
        max_steps=4,
        probes=forks.REPLACED,
        misconceptions=manager_mistakes.REPLACE,
        state_line=state_of,
    ),
    hints=(
        "Who holds the old block before, and who after?",
        "For each shared block and its new one: find its place in the table, put the new one "
        "there, note the pair unless the block begins behind the computed tokens, give the old one "
        "back.",
        "`index = held.blocks.index(source)`; the block begins at token `index * block_size`",
    ),
)

# 8.5

SLOTS = Exercise(
    id="8.5",
    title="Make room",
    asks="Make room for the next tokens of a request: with hits, with copies, or not at all.",
    points=20,
    minutes=30,
    difficulty=3,
    check=StatefulCheck(
        reference=Method(KVCacheManager, "allocate_slots"),
        machine=lives.ManagerLife,
        max_steps=6,
        probes=slots.SLOTS,
        misconceptions=slot_mistakes.ALLOCATE,
        large=(slots.LONG_PROMPT,),
        state_line=state_of,
    ),
    hints=(
        "Which of the free blocks are the request's already, before it has taken one?",
        "First count: shared blocks from the first one written on, and blocks that the table "
        "lacks. Then refuse: against the free blocks, without the hits that nobody holds, and "
        "without the "
        "share kept free if the request is new. Only then change anything: admit, take, replace, "
        "add to the table, cache what is full up to num_tokens.",
        "`room = free blocks - sum(hit.ref_cnt == 0 for hit in hits) - share kept free`",
    ),
)

# 8.6, a stretch

GROUPS = Exercise(
    id="8.6a",
    title="Copies side by side (stretch)",
    asks=(
        "Cut a list of copies, without changing its order, into as few groups as can be made at "
        "once."
    ),
    points=4,
    minutes=10,
    difficulty=2,
    check=FunctionCheck(
        reference=side_by_side,
        cases=given.COPIES,
        probes=given.SOME_COPIES,
        misconceptions=mistakes.GROUPS,
    ),
    hints=(
        "Which of the copies (1, 2), (1, 3), (5, 1) must not run before which?",
        "Keep two sets for the group: blocks that are read in it, and blocks that are written. A "
        "copy begins a new group if it reads a written block, or writes one that is in either set.",
        "`if source in written or destination in read | written: begin a new group`",
    ),
)

BY_GROUPS = Exercise(
    id="8.6b",
    title="Copy group by group (stretch)",
    asks="Copy whole blocks within both caches, as if one copy were made after the other.",
    points=2,
    minutes=5,
    difficulty=1,
    check=FunctionCheck(
        reference=copy_blocks,
        cases=given.CACHES,
        probes=given.SOME_CACHES,
        refusals=given.REFUSED_COPIES,
        writes=("key_cache", "value_cache"),
        misconceptions=mistakes.COPIES,
    ),
    hints=(
        "What is in block 2 after the copies (0, 1) and (1, 2)?",
        "Check the ids. Then make the copies of one group at once, and the groups one after the "
        "other, for keys and for values.",
        "`key_cache[destinations] = key_cache[sources]`, for each group",
    ),
)

KERNEL = Exercise(
    id="8.6c",
    title="Copy on the GPU (stretch)",
    asks="Write the Triton kernel that copies a part of a block's keys and values.",
    points=6,
    minutes=15,
    difficulty=2,
    check=KernelCheck(
        kernel="course_lib.attention.triton_kernels:copy_blocks_kernel",
        operation="copy_blocks_launch",
        cases=given.kernel_cases,
        mistakes=mistakes.KERNEL,
        rel=0.0,
        traffic_weight=0.2,
    ),
    hints=(
        "Program (1, 2) belongs to the second copy. Which numbers of the block are its own?",
        "Load the two ids and widen them to 64 bits. Give each lane a slot, a head and a number of "
        "the block, counted over all programs of the copy, and mask those that are too many. Read "
        "the place in the source and write it in the destination, for keys, then for values.",
        "`lane = tl.program_id(1) * LANES + tl.arange(0, LANES)`",
    ),
)

# 8.7, the bug hunt

EXPOSED = Exercise(
    id="8.7a",
    title="Bug hunt: show that it is wrong",
    asks="Give blocks, hits and a number of new blocks for which a refusal changes something.",
    points=3,
    minutes=5,
    difficulty=1,
    check=AnswerCheck(
        reference=lambda: hunt.EXPOSING,
        question="your case",
        wanted="a pool and a request that is refused, after which the pool is not as it was",
        compare=hunt.exposes_the_bug,
        alike=hunt.harmless_alike,
        misconceptions=hunt.EXPOSED,
    ),
    hints=(
        "What has happened by the time at which the function says None?",
        "Let the request find blocks that are free, and ask for more than is left besides.",
        '`{"free": [...], "holders": {...}, "hits": [...], "num_new": ...}` with more new blocks '
        "than are free without the hits",
    ),
)

# 8.8, the measurement

MEASURED = Exercise(
    id="8.8",
    title="Measure: hit rates",
    asks=(
        'Fill `rates`: "blocks", "tokens" and "requests" for a cache without limit, and the share '
        'of the tokens for "one A100" and "four A100".'
    ),
    points=4,
    minutes=8,
    difficulty=1,
    check=AnswerCheck(
        reference=measure.measured,
        question="rates",
        compare=measure.close_enough,
        alike=measure.alike,
        misconceptions=measure.MEASURED,
    ),
    hints=(
        "What do the three fields of a `HitRates` divide by what?",
        "Call `infinite_cache_hit_rates` once and take three fields of it; call "
        "`replay_prefix_cache` for each size.",
        "`replay_prefix_cache(mooncake, num_blocks, in_flight=16).token_weighted`",
    ),
)

# 8.9, the other stretch

TREE = Exercise(
    id="8.9",
    title="A tree of prefixes (stretch)",
    asks="Write a tree that stores prefixes, finds the longest one, and gives up leaves first.",
    points=6,
    minutes=30,
    difficulty=3,
    check=StatefulCheck(
        reference=RadixTree,
        machine=trees.TreeLife,
        probes=trees.PROBES,
        misconceptions=trees.MISTAKES,
    ),
    hints=(
        "Two requests begin alike and end differently. What do they share in the tree, and which "
        "of their blocks may go first?",
        "A node for each block, with its children by the tokens of their block. Walk down as long "
        "as there is a child, and note the time on every node that you pass. To evict, take the "
        "leaf "
        "with the earliest time, again and again.",
        "`leaf = min(leaves, key=lambda node: node.last_used)`",
    ),
)

QUIZ = Exercise(
    id="8.Q",
    title="Quiz",
    asks="Answer each question with a letter. Eight of the ten right, 80%, is a pass.",
    points=10,
    minutes=10,
    difficulty=1,
    check=QuizCheck(lesson=8),
)

EXERCISES = (
    *(value_exercise(8, f"8.W{number}") for number in (1, 2, 3)),
    HASH,
    ORDER,
    TEST,
    BY_HAND,
    FORK,
    REPLACE,
    SLOTS,
    GROUPS,
    BY_GROUPS,
    KERNEL,
    EXPOSED,
    MEASURED,
    TREE,
    QUIZ,
)
