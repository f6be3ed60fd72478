"""Lesson 7, the management of KV cache blocks: its exercises."""

from __future__ import annotations

from autograder.checks.answer import AnswerCheck
from autograder.checks.checker import CheckerCheck
from autograder.checks.exercise import Exercise
from autograder.checks.function import FunctionCheck
from autograder.checks.quiz import QuizCheck
from autograder.checks.reference import Method
from autograder.checks.stateful import StatefulCheck
from autograder.checks.trace import TraceCheck
from autograder.checks.values import value_exercise
from autograder.lessons import lesson07_books as books
from autograder.lessons import lesson07_books_mistakes as miscounts
from autograder.lessons import lesson07_free_lives as free_lives
from autograder.lessons import lesson07_free_mistakes as freeing
from autograder.lessons import lesson07_given as given
from autograder.lessons import lesson07_hunt as hunt
from autograder.lessons import lesson07_many_blocks as many_blocks
from autograder.lessons import lesson07_mistakes as mistakes
from autograder.lessons import lesson07_pool_lives as lives
from autograder.lessons import lesson07_pool_mistakes as pool_mistakes
from autograder.lessons import lesson07_pools as pools
from course_lib.kv_cache.block_pool import BlockPool, FreeKVCacheBlockQueue
from course_lib.kv_cache.metrics import CacheMetrics
from course_lib.kv_cache.watch.invariants import find_leaks, pool_violations
from course_lib.kv_cache.watch.notation import queue_line, state_line

# 7.1

BY_HAND = Exercise(
    id="7.1",
    title="A pool by hand",
    asks="Write the state of the pool and of the block tables after each of the six steps.",
    points=4,
    minutes=8,
    difficulty=1,
    check=TraceCheck(
        given.states_to_write,
        misconceptions=mistakes.TRACE,
        compare=given.same_state,
        form=given.form_of_a_state,
    ),
    hints=(
        "Who holds each block after this step, has it a star, and where does it stand if nobody "
        "holds it? A block that is claimed leaves the queue and keeps its star.",
        "Blocks are taken from the front. Of those that come back, the last block of the request "
        "first, the ones without a star go to the front and those with one to the back. A star "
        "goes when the block is handed out to somebody else.",
        "`free [5 6 | 3*]  A: 1* 4`, and A ends: `free [4 5 6 | 3* 1*]`",
    ),
)

# 7.2

QUEUE = Exercise(
    id="7.2",
    title="The free queue",
    asks="Write five methods of a doubly linked list: those that the others rest on, and those "
    "that need care.",
    points=11,
    minutes=18,
    difficulty=2,
    check=StatefulCheck(
        reference=FreeKVCacheBlockQueue,
        machine=given.QueueLife,
        probes=given.QUEUE_PROBES,
        misconceptions=mistakes.QUEUE,
        state_line=queue_line,
        large=given.MANY_FREE_BLOCKS,
    ),
    hints=(
        "Which two links of other blocks lead to the block that leaves, and which two have to lead "
        "to one that comes in?",
        "Let its two neighbours point at each other, set its own links to None, and count. To put "
        "a block in, four links change: two of its own, and one of each new neighbour.",
        "`previous.next_free_block = following; following.prev_free_block = previous`",
    ),
)

# 7.3

GET_NEW_BLOCKS = Exercise(
    id="7.3a",
    title="Hand blocks out",
    asks="Hand out blocks from the front of the free queue, and evict the prefixes in them.",
    points=7,
    minutes=14,
    difficulty=2,
    check=StatefulCheck(
        reference=Method(BlockPool, "get_new_blocks"),
        machine=lives.PoolLife,
        max_steps=14,
        probes=lives.GET_PROBES,
        misconceptions=pool_mistakes.GET,
        state_line=state_line,
        large=many_blocks.MANY_BLOCKS,
    ),
    hints=(
        "A block holds a prefix and is handed out. What does the next request find that looks for "
        "this prefix?",
        "Refuse a negative number, take the blocks from the queue, which refuses for itself if it "
        "is too short; then give each a holder, and let the pool forget what it held.",
        "`if block.block_hash is not None: self.forget(block)`, and count it",
    ),
)

TOUCH = Exercise(
    id="7.3b",
    title="Share a block",
    asks="Give each block one holder more; one that was free leaves the free queue.",
    points=5,
    minutes=8,
    difficulty=1,
    check=StatefulCheck(
        reference=Method(BlockPool, "touch"),
        machine=lives.PoolLife,
        max_steps=14,
        probes=lives.TOUCH_PROBES,
        misconceptions=pool_mistakes.TOUCH,
        state_line=state_line,
        large=many_blocks.MANY_TO_SHARE,
    ),
    hints=(
        "Where does each block stand afterwards, and what if one of them is refused? How often may "
        "one go through what was given?",
        "Go through the blocks twice: first refuse those whose `pool` is not this one, with the "
        "error of `self.foreign_block(block)`; then take out of the queue what nobody held so far, "
        "and count.",
        "`if block.ref_cnt == 0: self.free_block_queue.remove(block)`",
    ),
)

# 7.4

FREE_BLOCKS = Exercise(
    id="7.4",
    title="Give blocks back",
    asks="Take one holder from each block; queue those that nobody holds now, each at its end.",
    points=16,
    minutes=28,
    difficulty=3,
    check=StatefulCheck(
        reference=Method(BlockPool, "free_blocks"),
        machine=lives.PoolLife,
        max_steps=14,
        probes=free_lives.FREE_PROBES,
        misconceptions=freeing.FREE,
        state_line=state_line,
        large=many_blocks.MANY_BLOCKS,
    ),
    hints=(
        "What is to be refused before anything changes? Of what is left: who still holds each "
        "block, and to which end does it go? How often may one go through what was given?",
        "First count how often each block is named, and refuse. Then lower the counts, and collect "
        "those that arrive at 0 in two lists, in the order in which they come. Each list goes to "
        "its end of the queue at once.",
        "`self.free_block_queue.prepend_n(without_hash)`, then `append_n(with_hash)`",
    ),
)

# 7.5

CHECKER = Exercise(
    id="7.5",
    title="The laws of a pool",
    asks="Return one sentence for each law that a block pool breaks, or an empty list.",
    points=14,
    minutes=28,
    difficulty=3,
    check=CheckerCheck(
        reference=pool_violations,
        faulty={**pools.FAULTY, **pools.MORE_FAULTY},
        drawn=pools.drawn,
        valid=pools.VALID,
        shows=pools.shown,
        typed=pools.typed,
        misconceptions=pools.CHECKER,
    ),
    hints=(
        "In which ways can the count of a block and its places in the queue contradict each other?",
        "Count first how often each block is in the queue. Then take one law after the other: the "
        "length, the null block, each other block, each entry of the index, each hash.",
        "`Counter(block.block_id for block in pool.free_block_queue)`",
    ),
)

# 7.6

LEAKS = Exercise(
    id="7.6",
    title="Who leaks (stretch)",
    asks="Name the requests that hold blocks though they have ended, and the blocks of nobody.",
    points=6,
    minutes=12,
    difficulty=2,
    check=FunctionCheck(
        reference=find_leaks,
        cases=books.leaking(),
        probes=books.LEAKS,
        misconceptions=miscounts.LEAKS,
        typed=books.typed,
    ),
    hints=(
        "Block 1 is in one table and has a count of 2. Who holds it besides?",
        "First the tables of requests that are not live. Then, for each block, its count less the "
        "number of places that it has in tables.",
        "`Leak('nobody', tuple(lost))`, a block in it as often as it has holders too many",
    ),
)

# 7.7

COUNTERS = Exercise(
    id="7.7",
    title="Counters (stretch)",
    asks="Write what counts lookups and usage, and the two shares that a dashboard shows of them.",
    points=6,
    minutes=12,
    difficulty=1,
    check=StatefulCheck(
        reference=CacheMetrics,
        machine=books.MetricsLife,
        probes=books.METRICS_PROBES,
        misconceptions=miscounts.METRICS,
    ),
    hints=(
        "Whose lookups does a hit rate speak of, and how many blocks can be in use at most?",
        "Refuse what cannot be before anything is counted. A lookup raises one of two pairs of "
        "counters; usage is set, the high water mark only rises, evictions add up.",
        "`usage = num_used_blocks / max(num_blocks - 1, 1)`",
    ),
)

# 7.8, the bug hunt

BUG_EXPOSED = Exercise(
    id="7.8a",
    title="Bug hunt: tell them apart",
    asks="Give a trace on a pool of 9 blocks in which the two ways hand out different blocks.",
    points=4,
    minutes=6,
    difficulty=2,
    check=AnswerCheck(
        reference=lambda: hunt.EXPOSING,
        question="your trace",
        wanted="a trace in which a take gets other blocks after the clean-up than before it",
        compare=hunt.tells_them_apart,
        alike=hunt.tells_as_little,
        misconceptions=hunt.EXPOSED,
    ),
    hints=(
        "For which setting is the new condition another one than the old?",
        "Take some blocks, give them back, and take again: where they went shows in what comes.",
        '`{"caching": ..., "steps": [n, [ids to give back], n]}`',
    ),
)

# 7.9, the measurement

MEASURED = Exercise(
    id="7.9",
    title="Measure: an idle cache",
    asks='Fill `measured` with four shares, 0 to 1: "usage", "cached", "found, of all" and '
    '"found, after a preemption".',
    points=3,
    minutes=8,
    difficulty=1,
    check=AnswerCheck(
        reference=hunt.shares_measured,
        question="measured",
        compare=hunt.close_enough,
        misconceptions=hunt.MEASURED,
    ),
    hints=(
        "What is counted in each of the four, and what is it a share of? Block 0 and the requests "
        "that come back are easily forgotten.",
        "Take usage as it is. For the other three divide counts of `stats` by what there could be "
        "of them: blocks that can be lent, tokens of all lookups, tokens of the lookups after a "
        "preemption.",
        "`(hit + preempted hit) / (queried + preempted queried)`",
    ),
)

QUIZ = Exercise(
    id="7.Q",
    title="Quiz",
    asks="Answer each question with a letter. Eight of the ten right, 80%, is a pass.",
    points=10,
    minutes=10,
    difficulty=1,
    check=QuizCheck(lesson=7),
)

EXERCISES = (
    *(value_exercise(7, f"7.W{number}") for number in (1, 2, 3)),
    BY_HAND,
    QUEUE,
    GET_NEW_BLOCKS,
    TOUCH,
    FREE_BLOCKS,
    CHECKER,
    LEAKS,
    COUNTERS,
    BUG_EXPOSED,
    MEASURED,
    QUIZ,
)
