"""Lesson 3, block tables and address translation: its exercises."""

from __future__ import annotations

from hypothesis import strategies as st

from autograder.checks.budget import Bands
from autograder.checks.exercise import Exercise
from autograder.checks.function import Call, FunctionCheck, Large
from autograder.checks.kernel import KernelCheck
from autograder.checks.quiz import QuizCheck
from autograder.checks.reference import Method
from autograder.checks.stateful import LargeLife, StatefulCheck
from autograder.checks.trace import TraceCheck
from autograder.checks.values import value_exercise
from autograder.lessons import lesson03_batch_mistakes as batch_mistakes
from autograder.lessons import lesson03_given as given
from autograder.lessons import lesson03_lives as lives
from autograder.lessons import lesson03_memory_mistakes as memory_mistakes
from autograder.lessons import lesson03_mistakes as mistakes
from autograder.lessons.lesson03_hunt import EXPOSED, JUDGED, MEASURED, MENDED
from autograder.lessons.lesson03_work import BatchBudget, counted_costs
from course_lib.attention.paged import gather, reshape_and_cache
from course_lib.kv_cache.block_table import (
    BlockTable,
    CacheLayout,
    nhd_layout,
    row_major_strides,
    slot_mapping,
)

# 3.1

STATE_LINE = Exercise(
    id="3.1a",
    title="Print the state",
    asks="Return the free queue and the block tables as one line of the course's notation.",
    points=4,
    minutes=6,
    difficulty=1,
    check=FunctionCheck(
        reference=given.state_line,
        cases=given.states,
        probes=(
            Call([1, 4, 6, 8], {"r0": [7, 3, 5], "r1": [2, 9]}),
            Call([], {"r0": [3, 12]}),
            Call([8, 5], {"r1": [], "r0": [4]}),
            Call([2], {}),
            # What is wrong in an engine is to be seen as well: blocks that are there twice.
            Call([4, 4], {}),
            Call([], {"r0": [7, 7]}),
        ),
        misconceptions=mistakes.STATE_LINE,
    ),
    hints=(
        "Which parts has the line of the example, and what stands between two of them?",
        "Make a list of parts, the free queue first, then one for each table; then join them with "
        "two spaces.",
        "`'  '.join(parts)`, and a part is `name: ` with its ids joined by one space",
    ),
)

BY_HAND = Exercise(
    id="3.1b",
    title="By hand",
    asks="Write down the slots of three tokens, and the state as a sequence grows.",
    points=6,
    minutes=6,
    difficulty=1,
    check=TraceCheck(
        given.trace_by_hand, misconceptions=mistakes.BY_HAND, compare=given.same_state
    ),
    hints=(
        "How many full blocks lie before the token, and how far into the next one is it? And how "
        "many blocks do all tokens of r0 fill?",
        "Divide the position by 4. The quotient says which entry of the table to read, the "
        "remainder how far into that block to go. A state is the whole line: the free queue, r0 "
        "and r1.",
        "`slot = entry * 4 + remainder`, and 12 tokens need `ceil(12 / 4)` blocks",
    ),
)

# 3.2

SLOT = Exercise(
    id="3.2a",
    title="One slot",
    asks="Return the slot of the token at a position, or refuse a position that has none.",
    points=5,
    minutes=6,
    difficulty=1,
    check=StatefulCheck(
        reference=Method(BlockTable, "slot"),
        machine=lives.SlotLife,
        probes=(
            lives.two_blocks,
            lives.outside,
            lives.before_the_first,
            lives.far_before_the_first,
            lives.nothing_yet,
            lives.two_small_blocks,
            lives.asked_again,
            lives.beyond_32_bits,
            lives.beyond_53_bits,
            lives.copied,
        ),
        misconceptions=mistakes.SLOT,
        large=(
            LargeLife(
                lives.long_table,
                "a table of 50,000 blocks, for 160 positions (does each call copy the table, or go "
                "through it?)",
                seconds=0.03,
            ),
        ),
    ),
    hints=(
        "In which of its blocks is token 5, if blocks have 4 slots, and where in it?",
        "Split the position into logical block and offset, look the block up, glue them together. "
        "Before that, refuse what is negative and what is behind the last block.",
        "`self.ids[position // B] * B + position % B`",
    ),
)

APPEND = Exercise(
    id="3.2b",
    title="A table grows",
    asks="Add physical blocks at the end of the table: all of them, or none.",
    points=5,
    minutes=8,
    difficulty=1,
    check=StatefulCheck(
        reference=Method(BlockTable, "append"),
        machine=lives.AppendLife,
        probes=(
            lives.twice,
            lives.once,
            lives.half_negative,
            lives.half_whole,
            lives.half_in_64_bits,
            lives.the_same_twice,
            lives.far_block,
            lives.farthest_block,
            lives.whole_numbers_of_numpy,
            lives.an_array,
            lives.as_float,
            lives.refused,
        ),
        misconceptions=mistakes.APPEND,
        large=(LargeLife(lives.many_blocks, "100,000 blocks at once"),),
    ),
    hints=(
        "What is in the table after an error, if each id is added when its turn comes?",
        "First look at all ids and refuse what is negative, not whole or too large; then add them "
        "at once.",
        "`self.ids.extend(checked)`, where `checked` is an `array('q', ...)` of all ids that has "
        "passed: into one of those nothing goes that is not whole or too large",
    ),
)

# 3.3

SLOT_MAPPING = Exercise(
    id="3.3",
    title="The slots of a batch",
    asks="Return the slots of all tokens of a ragged batch, without a loop in Python.",
    points=18,
    minutes=30,
    difficulty=3,
    check=BatchBudget(
        inner=FunctionCheck(
            reference=slot_mapping,
            cases=given.batches(),
            probes=given.BATCHES,
            refusals=given.REFUSED_BATCHES,
            misconceptions=batch_mistakes.SLOT_MAPPING,
        ),
        count=counted_costs,
        bands=Bands(((1.0, 1.0),)),
        weight=0.5,
        known=(batch_mistakes.LOOP,),
        loop=batch_mistakes.LOOP,
        pairs=given.PAIRS,
    ),
    hints=(
        "Which row of the tables does token 3 of the example read, and which entry of it?",
        "Repeat each row's number as often as its sequence has tokens; divide all positions at "
        "once; read all entries with one index of two arrays. Go over to 64 bits before you "
        "multiply.",
        "`blocks = tables[np.repeat(rows, query_lens), tokens // block_size]`",
    ),
)

# 3.4

RESHAPE = Exercise(
    id="3.4a",
    title="Write through slots",
    asks="Complete the two steps that write keys and values into their slots, and padding nowhere.",
    points=6,
    minutes=8,
    difficulty=2,
    check=FunctionCheck(
        reference=reshape_and_cache,
        cases=given.writes(),
        probes=(
            given.write([9, -1]),
            given.write([-1, 6, 2]),
            given.write([4, 5], is_head_major=True),
            given.write([-1]),
            given.write([-1], is_head_major=True),
            given.write([150, -1], block_size=64),
        ),
        refusals=(given.write([12]), given.write([3, 3])),
        writes=("key_cache", "value_cache"),
        misconceptions=memory_mistakes.RESHAPE,
        large=(Large(given.large_write, "400 tokens of 8 heads of 128"),),
    ),
    hints=(
        "Of the slots 6, -1 and 2, which tokens are written, and into which block and offset?",
        "Keep the slots that are not negative, and the tokens at their places. Then split the "
        "slots into blocks and offsets, and index the cache with both.",
        "`cache[block of each slot, offset of each slot] = tokens[is real]`",
    ),
)

GATHER = Exercise(
    id="3.4b",
    title="Read through a table",
    asks="Return the keys of one sequence side by side, in the order of its tokens.",
    points=4,
    minutes=6,
    difficulty=1,
    check=FunctionCheck(
        reference=gather,
        cases=given.reads(),
        probes=(
            given.read([2, 5], 6),
            given.read([4, 1], 8),
            given.read([3, 0, -1], 5),
            given.read([1, 2, 4], 3, block_size=1),
            given.read([1, 0], 3, block_size=2, num_blocks=2),
            given.read([0], 1, block_size=1, num_blocks=1, dtype="float16"),
            given.read([1, 0], 3, block_size=2, num_blocks=2, is_head_major=True),
        ),
        misconceptions=memory_mistakes.GATHER,
        large=(Large(given.large_read, "8,191 tokens of 8 heads of 128"),),
    ),
    hints=(
        "How many blocks do 6 tokens need, and how many slots have those?",
        "Index the cache with the entries that are needed; join blocks and slots into one axis; "
        "cut it at the context.",
        "`cache[entries].flatten(0, 1)`, cut to the tokens that there are",
    ),
)

# 3.5

STRIDES = Exercise(
    id="3.5a",
    title="Strides",
    asks="Return how far apart neighbours along each axis of a contiguous array are, in elements.",
    points=3,
    minutes=4,
    difficulty=1,
    check=FunctionCheck(
        reference=row_major_strides,
        cases=st.builds(Call, st.lists(st.integers(1, 5), min_size=1, max_size=4)),
        probes=(
            Call([2, 3, 4]),
            Call([7]),
            Call([2, 10, 16, 8, 128]),
            # With more axes than a wrong product needs: of that one is told first.
            Call([0, 1, 1, 1]),
            Call([1, 1, 1, -1]),
            Call([1, 0, 1, 2]),
        ),
        # The last one is right, but a case that leads to a rule of its own.
        refusals=(
            *map(Call, ([0], [-1], [0, 3], [3, 0], [2, 0], [0, 0, 3], [-1, -1], [1, 1, 0], [])),
        ),
        misconceptions=memory_mistakes.STRIDES,
        large=(Large(lambda: Call([2, 200_000, 16, 8, 128]), "a layer of 200,000 blocks"),),
    ),
    hints=(
        "How many elements further on than [0, 0] is [1, 0] in an array of shape (2, 3)?",
        "Go from the last axis to the first, and keep the product of the sizes behind.",
        "`stride of an axis = product of the sizes behind it`",
    ),
)

ADDRESS = Exercise(
    id="3.5b",
    title="From slot to byte",
    asks="Return the byte at which one element of a key or a value lies, in any layout.",
    points=7,
    minutes=12,
    difficulty=2,
    check=FunctionCheck(
        reference=Method(CacheLayout, "address"),
        cases=given.elements(),
        probes=given.ELEMENTS,
        refusals=given.OUTSIDE,
        misconceptions=memory_mistakes.ADDRESS,
        large=(
            Large(
                lambda: Call(nhd_layout(200_000, 16, 8, 128), 1, 16 * 131_072 + 1, 2, 5),
                "a layer of 200,000 blocks",
            ),
        ),
    ),
    hints=(
        "In which place on each axis of `self.axes` is the element, and is that inside the axis?",
        "Work out the place on every axis that there may be: the slot gives block and token, dim "
        "gives vector and item. Refuse a place outside its axis. Then weigh each by its stride.",
        "`sum(place[axis] * stride for each axis of this layout) * self.dtype_bytes`",
    ),
)

# 3.6

KERNEL = Exercise(
    id="3.6",
    title="Write on the GPU (stretch)",
    asks="Write the Triton kernel that puts one token's key and value into its slot.",
    points=10,
    minutes=20,
    difficulty=2,
    check=KernelCheck(
        kernel="course_lib.attention.triton_kernels:reshape_and_cache_kernel",
        operation="reshape_and_cache_launch",
        cases=given.kernel_cases,
        mistakes=batch_mistakes.KERNEL,
        rel=0.0,
        traffic_weight=0.2,
    ),
    hints=(
        "Program 1 writes token 1. With 2 heads of 4 numbers, what is lane 6: which head, which "
        "number of it?",
        "Load the slot in 64 bits, and do nothing if it is padding. Split it into block and "
        "offset. Give each lane a head and a number, mask the lanes that are too many, and weigh "
        "everything by the strides: first for the key, then for the value.",
        "`head, dim = lane // HEAD_DIM, lane % HEAD_DIM`, and each is weighed by its own stride",
    ),
)

# The quiz

QUIZ = Exercise(
    id="3.Q",
    title="Quiz",
    asks="Answer each question with a letter. Eight of the ten right, 80%, is a pass.",
    points=10,
    minutes=8,
    difficulty=1,
    check=QuizCheck(lesson=3),
)

EXERCISES = (
    *(value_exercise(3, f"3.W{number}") for number in (1, 2, 3)),
    STATE_LINE,
    BY_HAND,
    SLOT,
    APPEND,
    SLOT_MAPPING,
    RESHAPE,
    GATHER,
    STRIDES,
    ADDRESS,
    KERNEL,
    EXPOSED,
    MENDED,
    JUDGED,
    MEASURED,
    QUIZ,
)
