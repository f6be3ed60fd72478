"""Lesson 4, memory fragmentation and what is done about it: its exercises."""

from __future__ import annotations

from autograder.checks.answer import AnswerCheck
from autograder.checks.compare import within
from autograder.checks.exercise import Exercise
from autograder.checks.function import Call, FunctionCheck, Large
from autograder.checks.quiz import QuizCheck
from autograder.checks.reference import Method
from autograder.checks.scale import ScaleCheck
from autograder.checks.stateful import StatefulCheck
from autograder.checks.trace import TraceCheck
from autograder.checks.values import value_exercise
from autograder.lessons import lesson04_buddy_mistakes as buddy
from autograder.lessons import lesson04_contest as contest
from autograder.lessons import lesson04_frames as frames
from autograder.lessons import lesson04_given as given
from autograder.lessons import lesson04_lives as lives
from autograder.lessons import lesson04_mistakes as mistakes
from autograder.lessons import lesson04_waste_mistakes as waste
from course_lib.kv_cache.allocators import (
    BestFitAllocator,
    BuddyAllocator,
    FirstFitAllocator,
    FitAllocator,
)
from course_lib.kv_cache.fragmentation import (
    best_block_size,
    expected_internal_waste,
    external_fragmentation,
)
from course_lib.kv_cache.watch.notation import memory_line

# 4.1

BY_HAND = Exercise(
    id="4.1",
    title="First fit by hand",
    asks="Write the strip of the memory after each of the six steps.",
    points=5,
    minutes=8,
    difficulty=1,
    check=TraceCheck(
        given.strips_to_write,
        misconceptions=mistakes.TRACE,
        compare=given.same_strip,
        form=given.form_of_a_strip,
    ),
    hints=(
        "From slot 0 on, which is the first run of dots that is long enough?",
        "A request takes the front of the first run that is long enough, and nothing if there is "
        "none. A block that is freed turns into dots; dots side by side are one run.",
        "`..BB....` and a request for 3: `..BBAAA.`",
    ),
)

# 4.2

BEST_FIT = Exercise(
    id="4.2",
    title="Best fit",
    asks="Return the smallest hole that is large enough; of equal ones, that at the lowest offset.",
    points=5,
    minutes=6,
    difficulty=1,
    check=StatefulCheck(
        reference=Method(BestFitAllocator, "choose_hole"),
        machine=lives.ChoosingLife,
        probes=(
            *lives.BESIDE_A_HOLE,
            *lives.AMONG_THREE,
            lives.three_holes,
            lives.equal_holes,
            lives.best_at_the_front,
            lives.all_taken,
            lives.six_holes,
            lives.a_hundred_slots,
            lives.one_large_hole,
            lives.large_holes,
        ),
        misconceptions=mistakes.BEST_FIT,
        large=lives.LARGE_CHOICES,
        state_line=memory_line,
    ),
    hints=(
        "Holes of 5, 3 and 6 are there, and 3 slots are wanted. What does each choice leave over?",
        "Leave out the holes that are too small. Of the others take the smallest, and of equal "
        "ones the first.",
        "`min(fitting, key=lambda hole: (hole.size, hole.offset))`, or None where nothing fits",
    ),
)

# 4.3

COALESCE = Exercise(
    id="4.3",
    title="Give a block back",
    asks="Free the block at an offset: it becomes one hole with the holes that touch it.",
    points=12,
    minutes=20,
    difficulty=2,
    check=StatefulCheck(
        reference=Method(FitAllocator, "free", on=FirstFitAllocator),
        machine=lives.FitLife,
        probes=(
            lives.between_two_holes,
            lives.beside_one_hole,
            lives.freed_twice,
            lives.before_the_start,
            lives.behind_the_end,
            lives.many_holes,
            lives.one_beside_another,
        ),
        misconceptions=mistakes.COALESCE,
        large=lives.MANY_HOLES,
        state_line=memory_line,
    ),
    hints=(
        "What can lie just before the block, and what just behind it?",
        "Take the block out of `size_at`. Take each hole out of `sorted_holes` that ends where the "
        "block starts, or starts where it ends, and widen the block by it (a loop that does so "
        "goes through a copy). Put one hole back, in its place.",
        "`start, end = min(start, hole.offset), max(end, hole.end)`",
    ),
)

# 4.4

BUDDY = Exercise(
    id="4.4",
    title="A buddy allocator",
    asks="Write a buddy allocator: how it starts, how it hands out a block, how it takes one back.",
    points=20,
    minutes=35,
    difficulty=3,
    check=StatefulCheck(
        reference=BuddyAllocator,
        machine=lives.BuddyLife,
        probes=(
            lives.fewer_than_no_slots,
            lives.no_slots,
            lives.two_that_share_nothing,
            lives.one_slot,
            lives.one_slot_beside_two,
            lives.six_merges,
            lives.filled_and_emptied,
            lives.neighbours_that_are_no_buddies,
            lives.both_orders,
            lives.sizes_that_differ,
            lives.larger_than_the_largest,
            lives.refused,
        ),
        misconceptions=buddy.BUDDY,
        compare=given.no_faults,
        large=lives.MANY_BLOCKS,
        state_line=memory_line,
        first=lives.two_that_share_nothing,
    ),
    hints=(
        "A block of 4 slots starts at 8. Where is the half that it was split from, and where would "
        "that be if the block started at 12?",
        "Keep the offsets of the free blocks of each order. To allocate, find the lowest order "
        "that has one, and halve on the way down. To free, look for the buddy among the free "
        "blocks of the same order; if it is there, take it out, go one order up and look again.",
        "`buddy = offset ^ (1 << order)`",
    ),
)

# 4.5

SCATTERED = Exercise(
    id="4.5",
    title="How scattered",
    asks="Return the share of the free slots that lies outside the largest hole.",
    points=4,
    minutes=5,
    difficulty=1,
    check=FunctionCheck(
        reference=external_fragmentation,
        cases=given.fragmented(),
        probes=given.FRAGMENTED,
        compare=within(rel=1e-9, absolute=1e-12),
        large=(given.MOSTLY_FREE, given.MANY_HOLES),
        typed=given.typed,
        misconceptions=mistakes.SCATTERED,
    ),
    hints=(
        "Holes of 5 and 2 slots: how large is the largest request that still fits?",
        "What one request can have is the largest hole; the share of all the others together is "
        "asked for.",
        "`1 - max(sizes) / sum(sizes)`",
    ),
)

# 4.6

WASTE = Exercise(
    id="4.6",
    title="The exact waste of a block size",
    asks=(
        "Complete two sums over a distribution of lengths: of the tokens, and of the slots of the "
        "blocks that hold them."
    ),
    points=10,
    minutes=12,
    difficulty=2,
    check=FunctionCheck(
        reference=expected_internal_waste,
        cases=given.distributions(),
        probes=given.DISTRIBUTIONS,
        refusals=(Call([16], 0), Call([], 16), Call([0], 16), Call({16: -1.0}, 16)),
        compare=within(rel=1e-9),
        large=given.MANY_LENGTHS,
        misconceptions=waste.WASTE,
    ),
    hints=(
        "How many slots do 17 tokens take in blocks of 16, and what do three such requests add to "
        "each of the two sums?",
        "For each length: its blocks, rounded up, times the slots of a block, times its weight. "
        "`weights` holds the weight of each length.",
        "`weight * (-(-length // block_size) * block_size)`",
    ),
)

# 4.7

BEST_BLOCK = Exercise(
    id="4.7",
    title="The best block size",
    asks="Return the block size for which the last block and the bookkeeping together cost least.",
    points=4,
    minutes=8,
    difficulty=2,
    check=FunctionCheck(
        reference=best_block_size,
        cases=given.COSTS,
        probes=given.SOME_COSTS,
        refusals=(
            Call(0, 8, 1000),
            Call(1366, 0, 1000),
            Call(1366, 8, 0),  # who divides first has another error
            Call(1366, 8, -1),
            *given.TWO_BELOW_0,
            *given.NOT_FINITE,
        ),
        # A search for the least cost gets no closer: near it, the costs of two sizes are equal.
        compare=within(rel=1e-6),
        misconceptions=waste.BEST_BLOCK,
        is_telling=True,
    ),
    hints=(
        "With blocks of B slots, how many bytes does the last block of a request waste on average, "
        "and how many do the entries of its table take?",
        "The sum of the two is least where its derivative with respect to B is zero.",
        "`token_bytes / 2 == entry_bytes * mean_length / B**2`",
    ),
)

# 4.8, the bug hunt

BUG_EXPOSED = Exercise(
    id="4.8a",
    title="Bug hunt: show that it is wrong",
    asks=(
        "Give ranges, none of which overlaps another, and a number of frames that is refused once "
        "they are added, and should not be."
    ),
    points=4,
    minutes=5,
    difficulty=1,
    check=AnswerCheck(
        reference=lambda: frames.EXPOSING,
        question="your case",
        wanted="ranges after which a request is refused that could be served",
        compare=frames.exposes_the_bug,
        alike=frames.is_refused_rightly,
        misconceptions=frames.EXPOSED,
    ),
    hints=(
        "In which of two ways can the same frames come to be free?",
        "Add in two calls what would be one block if it were added in one.",
        '`{"ranges": [(0, n), (n, 2 * n)], "frames": ...}`',
    ),
)

BUG_MENDED = Exercise(
    id="4.8b",
    title="Bug hunt: mend it",
    asks=(
        "Return the free blocks once a range is added, with no two free buddies among them. A "
        "range may have 2³⁰ frames, so frame by frame is too slow."
    ),
    points=4,
    minutes=8,
    difficulty=2,
    check=FunctionCheck(
        reference=frames.add_range,
        cases=frames.additions(),
        probes=frames.ADDITIONS,
        large=(Large(lambda: Call({(0, 2**30)}, 2**30, 2**31), "2³⁰ frames"),),
        misconceptions=frames.MENDED,
    ),
    hints=(
        "Which of the functions above already does what is missing here?",
        "To add a block of free frames is to release it.",
        "`free = release(free, start, size)`",
    ),
)

# 4.9, the measurement

MEASURED = Exercise(
    id="4.9",
    title="Measure: enough in pieces",
    asks=(
        'Fill `enough`: for "first", "best" and "worst", the share of the iterations in which the '
        "free slots together are at least as many as the first in the queue asks for."
    ),
    points=4,
    minutes=8,
    difficulty=2,
    check=AnswerCheck(
        reference=given.shares_with_enough,
        question="enough",
        compare=given.close_enough,
        alike=given.alike_where_it_tells,
        misconceptions=waste.MEASURED,
    ),
    hints=(
        "How many slots are free in a snapshot, and how many does the first that waits ask for?",
        "In each snapshot, take all reservations off the slots, and hold the rest against prompt "
        "and output of the first that waits: of 5 requests, admitted in order, of which 2 wait, "
        "that is the one at index 3. Count the snapshots in which the rest is at least as much.",
        "`head = requests[len(requests) - snapshot.num_waiting]`",
    ),
)

# 4.10, the contest

CONTEST = Exercise(
    id="4.10",
    title="An allocator of your own (stretch)",
    asks=(
        "Write an allocator that needs little memory, and little time, for requests that come and "
        "go. In the whole game it may compute for 10 s."
    ),
    points=8,
    minutes=30,
    difficulty=3,
    check=ScaleCheck(
        reference=contest.CoursesBestFit,
        floor=contest.NeverReuses,
        play=contest.contest,
        others=(FitAllocator, BuddyAllocator),
        conditions=(contest.INDEX,),
    ),
    hints=(
        "Who never reuses anything is fast. What does it take to find again what was given back?",
        "Keep the free pieces by place, so that neighbours are found, or by size, so that one that "
        "fits is found; both, if you can keep them in step.",
        "`holes_by_size = sorted((size, offset) for each hole)`, kept in order with "
        "`bisect.insort`",
    ),
)

QUIZ = Exercise(
    id="4.Q",
    title="Quiz",
    asks="Answer each question with a letter. Eight of the ten right, 80%, is a pass.",
    points=10,
    minutes=10,
    difficulty=1,
    check=QuizCheck(lesson=4),
)

EXERCISES = (
    *(value_exercise(4, f"4.W{number}") for number in (1, 2, 3)),
    BY_HAND,
    BEST_FIT,
    COALESCE,
    BUDDY,
    SCATTERED,
    WASTE,
    BEST_BLOCK,
    BUG_EXPOSED,
    BUG_MENDED,
    MEASURED,
    CONTEST,
    QUIZ,
)
