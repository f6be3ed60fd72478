"""Lesson 99, thrown away: one small exercise of every kind that a lesson may have."""

from __future__ import annotations

import random
from bisect import bisect_left

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from autograder.checks.answer import AnswerCheck
from autograder.checks.budget import Bands, Metered, OperationBudget, TimeBudget, calls, metered
from autograder.checks.checker import CheckerCheck
from autograder.checks.compare import within
from autograder.checks.exercise import Exercise
from autograder.checks.finding import Misconception
from autograder.checks.function import Call, FunctionCheck
from autograder.checks.kernel import Edited, KernelCase, KernelCheck
from autograder.checks.parsons import Distractor, ParsonsCheck
from autograder.checks.quiz import QuizCheck
from autograder.checks.reference import Method
from autograder.checks.scale import (
    ScaleCheck,
    UnusableAnswerError,
    at_most,
    between,
    decision,
)
from autograder.checks.stateful import StatefulCheck, Twin
from autograder.checks.trace import Instance, TraceCheck
from autograder.proxy.recipes import At, Callback, Make
from autograder.proxy.subject import Returned
from course_lib.attention import softmax
from course_lib.attention.paged import reshape_and_cache, side_by_side
from course_lib.kv_cache import BlockPool, BlockTable, KVCacheBlock, kv_bytes_per_token
from course_lib.kv_cache.watch.invariants import find_violations
from course_lib.scheduling.preemption import num_blocks_freed
from course_lib.specs import MODELS

# A value, a function, a faded function

VALUE = AnswerCheck(
    reference=lambda: 64,
    misconceptions=(Misconception("no last block", "A part of a block is a block.", 48),),
)

FUNCTION = FunctionCheck(
    reference=kv_bytes_per_token,
    cases=st.sampled_from([Call(model) for model in MODELS.values()]),
    probes=(Call(MODELS["llama-3.1-8b"]), Call(MODELS["opt-13b"])),
    misconceptions=(
        Misconception(
            "keys alone",
            "Each token leaves a key and a value.",
            lambda m: m.num_layers * m.num_kv_heads * m.head_dim * m.dtype_bytes,
        ),
    ),
)


def scores_of(rows: int, columns: int, seed: int) -> Call:
    """Return a call with random scores."""
    return Call(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)))


FADED = FunctionCheck(
    reference=softmax,
    cases=st.builds(scores_of, st.integers(1, 3), st.integers(1, 4), st.integers(0, 9)),
    probes=(Call(torch.tensor([[0.0, 1.0], [1000.0, 1001.0]])),),
    misconceptions=(
        Misconception(
            "no maximum",
            "exp(1000) is infinite.",
            lambda scores: scores.exp() / scores.exp().sum(-1, keepdim=True),
        ),
    ),
    compare=within(rel=1e-5),
)

# A class, and one method of a large one


class TableLife(Twin):
    """What may be done to a block table."""

    @initialize(block_size=st.sampled_from([1, 4]))
    def make(self, block_size):
        self.create(block_size)

    @rule(ids=st.lists(st.integers(0, 9), max_size=3))
    def append(self, ids):
        self.do("append", ids)

    @rule(position=st.integers(-1, 12))
    def slot(self, position):
        self.do("slot", position)


def three_blocks(life):
    """Fill a table and look up some slots."""
    life.create(4)
    life.do("append", [9, 2])
    for position in (0, 5, 8, -1):
        life.do("slot", position)


class Contiguous(BlockTable):
    """Asks the first block only."""

    def slot(self, position):
        first = super().slot(0)
        super().slot(position)
        return first + position


WHOLE_CLASS = StatefulCheck(
    reference=BlockTable,
    machine=TableLife,
    probes=(three_blocks,),
    misconceptions=(Misconception("contiguous", "Each block lies elsewhere.", Contiguous),),
)


class PoolLife(Twin):
    """What may be done to a pool."""

    @initialize()
    def make(self):
        self.create(6)
        self.blocks = self.do("get_new_blocks", 2, reads=("block_id", "ref_cnt"))

    @rule()
    def touch(self):
        self.do("touch", self.blocks)
        self.look()

    @rule()
    def free(self):
        self.do("free_blocks", self.blocks)
        self.look()

    def look(self):
        self.do("get_num_free_blocks")
        for number in (1, 2):
            self.see(f"blocks.{number}.ref_cnt")


def shared_and_freed(life):
    """Share two blocks, let one holder go, and share what is free."""
    life.create(6)
    blocks = life.do("get_new_blocks", 2, reads=("block_id",))
    for act in ("touch", "free_blocks", "free_blocks", "touch"):
        life.do(act, blocks)
        life.do("get_num_free_blocks")
        life.see("blocks.1.ref_cnt")


def stays_queued(self, blocks):
    """Count, and leave a free block in the queue."""
    for block in blocks:
        block.ref_cnt += 1


METHOD = StatefulCheck(
    reference=Method(BlockPool, "touch"),
    machine=PoolLife,
    probes=(shared_and_freed,),
    misconceptions=(
        Misconception("stays queued", "A held block must not be handed out.", stays_queued),
    ),
)

# Objects that take part in a call


def held_by(*counts: int) -> Call:
    """Return a call with blocks that are held so often."""
    return Call([Make(KVCacheBlock, n, ref_cnt=count) for n, count in enumerate(counts, 1)])


COLLABORATORS = FunctionCheck(
    reference=num_blocks_freed,
    cases=st.lists(st.integers(1, 3), max_size=4).map(lambda counts: held_by(*counts)),
    probes=(held_by(4, 4, 1), held_by(2, 2), held_by(1, 1, 1)),
    misconceptions=(
        Misconception("all of them", "A shared block stays.", lambda blocks: len(list(blocks))),
    ),
)

# A Triton kernel


def writes(seed: int):
    """Two writes: three heads of four numbers, then two of eight, so that they share a factor."""
    generator = torch.Generator().manual_seed(seed)
    for heads, dim in ((3, 4), (2, 8)):
        key, value = (torch.randn(3, heads, dim, generator=generator) for _ in range(2))
        cache = torch.full((4, 2, heads, dim), torch.nan)
        slots = torch.tensor([5, -1, 2])
        expected = {"key_cache": cache.clone(), "value_cache": cache.clone()}
        reshape_and_cache(key, value, expected["key_cache"], expected["value_cache"], slots)
        arguments = {
            "key": key,
            "value": value,
            "key_cache": cache,
            "value_cache": cache.clone(),
            "slot_mapping": slots,
        }
        needed = {"key": 2 * heads * dim * 4}
        yield KernelCase(f"{heads} heads of {dim}, one padded token", arguments, expected, needed)


KERNEL = KernelCheck(
    kernel="course_lib.attention.triton_kernels:reshape_and_cache_kernel",
    operation="reshape_and_cache_launch",
    cases=writes,
    mistakes=(
        Misconception(
            "padding written",
            "A slot of -1 is nobody's.",
            Edited((("if slot >= 0:", "if slot >= -1:"),)),
        ),
        Misconception(
            "block and offset swapped",
            "The block is the larger step.",
            Edited(
                (
                    ("block = slot // BLOCK_SIZE", "offset = slot // BLOCK_SIZE"),
                    ("offset = slot % BLOCK_SIZE", "block = slot % BLOCK_SIZE"),
                )
            ),
        ),
    ),
    traffic_weight=0.2,
)

# A checker


def state(pool: BlockPool) -> str:
    """Show a pool by its queue and its counts."""
    queue = " ".join(str(block.block_id) for block in pool.free_block_queue)
    return f"free [{queue}], held {[block.ref_cnt for block in pool.blocks[1:]]}"


POOL = Make(BlockPool, 6)
CHECKER = CheckerCheck(
    reference=find_violations,
    faulty={
        "held and free": POOL.set("blocks.2.ref_cnt", 1),
        "negative": POOL.set("blocks.4.ref_cnt", -1),
        "lost": POOL.do("get_new_blocks", 1).set("blocks.1.ref_cnt", 0),
    },
    valid={
        "new": POOL,
        "some held": POOL.do("get_new_blocks", 2),
        "another order": POOL.do("get_new_blocks", 3).do(
            "free_blocks", [At("blocks.3"), At("blocks.1")]
        ),
    },
    shows=state,
    misconceptions=(
        Misconception(
            "negative overlooked",
            "A count below 0 is no free block.",
            lambda pool: [v for v in find_violations(pool) if "-1" not in v],
        ),
    ),
)

# By hand, and lines in order


def queue_after(seed: int, backwards: bool) -> dict[str, list[int]]:
    """Return the free queue of five blocks after each of three steps of one block."""
    queue = [1, 2, 3, 4, 5]
    states = {}
    draw = random.Random(seed)
    for step in (1, 2, 3):
        taken = draw.randint(1, 2)
        rest, front = queue[taken:], queue[:taken]
        queue = rest + (front[::-1] if backwards else front)
        states[f"after step {step}"] = queue
    return states


def rotation(seed: int) -> Instance:
    """Return the task of a seed: blocks are taken from the front and come back at the end."""
    draw = random.Random(seed)
    steps = ", ".join(str(draw.randint(1, 2)) for _ in range(3))
    return Instance(
        f"Seed {seed}: the free queue is 1 2 3 4 5. Three times blocks are taken from its front "
        f"and come back to its end, the last first: {steps}. Which queue is there after each?",
        queue_after(seed, backwards=True),
    )


BY_HAND = TraceCheck(
    rotation,
    misconceptions=(
        Misconception(
            "first come, first back",
            "They come back last first.",
            lambda seed: queue_after(seed, backwards=False),
        ),
    ),
)

PAIRS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), max_size=4)
PARSONS = ParsonsCheck(
    "99.10",
    FunctionCheck(
        reference=side_by_side,
        cases=st.builds(Call, PAIRS),
        probes=(Call([(1, 2), (1, 3), (5, 1), (7, 8)]), Call([(1, 2), (2, 3)])),
    ),
    distractors=(
        Distractor(
            "if not groups or source in read:",
            "if not groups or",
            "reading twice",
            "Two copies may read one block at once.",
        ),
    ),
)

# Budgets


def digit_counts(digits: np.ndarray) -> np.ndarray:
    """Return how often each of the digits 0 to 9 occurs."""
    return np.bincount(digits, minlength=10)


def counts_in_a_loop(digits: np.ndarray) -> np.ndarray:
    """Return the same, in a loop."""
    counts = np.zeros(10, dtype=np.int64)
    for digit in digits.tolist():
        counts[digit] += 1
    return counts


def long_array(number: int) -> Call:
    """Return a call with an array of numbers that nobody has seen."""
    return Call(np.random.default_rng(number).integers(0, 9, 200_000))


CPU_TIME = TimeBudget(
    inner=FunctionCheck(
        reference=digit_counts,
        cases=st.builds(lambda n: Call(np.arange(n)), st.integers(1, 9)),
        probes=(Call(np.array([1, 2, 2])),),
    ),
    play=calls(long_array),
    bands=Bands(((6.0, 1.0), (10.0, 0.5))),
    weight=0.5,
    known=(
        Misconception("a loop", "Python counts one by one.", counts_in_a_loop, r"for .*\n.*\+="),
    ),
)


def largest(fits, at_most=64):
    """Return the largest number that fits; if a number fits, all smaller ones do."""
    return bisect_left(range(1, at_most + 1), True, key=lambda number: not fits(number))


def upwards(fits, at_most=64):
    """Return the same, asking for every number."""
    return next((n - 1 for n in range(1, at_most + 1) if not fits(n)), at_most)


def room(size: int) -> Callback:
    """Return the question whether something fits into a room."""
    return Callback(lambda number: number <= size)


def rooms(seed: int):
    """Yield three rooms, each with the questions that are allowed."""
    for size in (0, 20 + seed % 40, 64):
        fits = room(size)
        yield Metered(Call(fits), fits, allowed=7)


OPERATIONS = OperationBudget(
    inner=FunctionCheck(
        reference=largest,
        cases=st.integers(0, 64).map(lambda size: Call(room(size))),
        probes=(Call(room(10)),),
    ),
    count=metered("largest", "fits", rooms),
    known=(Misconception("upwards", "Halve what is left.", upwards),),
)

# A policy


def shorter(left, right):
    """Join the shorter line."""
    return int(right < left)


def always_left(left, right):
    """Join the left line."""
    return 0


def two_lines(subject, seed):
    """Send sixty customers to one of two lines; measure the work in front of them, in minutes."""
    draw = random.Random(seed)
    lines, waits = [0, 0], []
    for _ in range(60):
        asked = f"choose{tuple(lines)}"
        side = decision(subject, asked, *lines)
        if type(side) is not int or side not in (0, 1):
            raise UnusableAnswerError(asked, Returned(side), "the lines are 0 and 1")
        waits.append(lines[side])
        lines[side] += draw.randint(1, 3)
        lines = [max(0, minutes - 1) for minutes in lines]
    return {"mean": sum(waits) / len(waits), "longest": max(waits)}


SCALE = ScaleCheck(
    reference=shorter,
    floor=always_left,
    play=two_lines,
    conditions=(
        between("mean", "a mean wait below that of one line", 0.8, reach=0.9, unit="min"),
        at_most("longest", lambda scores: scores.floor["longest"], "no longer one", 0.2, "min"),
    ),
    misconceptions=(
        Misconception(
            "the longer line", "It waits longest.", lambda left, right: int(right > left)
        ),
    ),
)

KINDS = {
    "99.1": ("A value", "How many slots do 4 blocks of 16 have?", VALUE),
    "99.2": ("A function", "Write `kv_bytes_per_token`.", FUNCTION),
    "99.3": ("A faded function", "Fill in `softmax`.", FADED),
    "99.4": ("A class", "Write `BlockTable`.", WHOLE_CLASS),
    "99.5": ("A method", "Write `BlockPool.touch`.", METHOD),
    "99.6": ("Collaborators", "Write `num_blocks_freed`.", COLLABORATORS),
    "99.7": ("A kernel", "Fill in `reshape_and_cache_kernel`.", KERNEL),
    "99.8": ("A checker", "Write `find_violations` for a pool.", CHECKER),
    "99.9": ("By hand", "Write down the free queue after each step.", BY_HAND),
    "99.10": ("Lines in order", "Put the lines of `side_by_side` in order.", PARSONS),
    "99.11": ("CPU time", "Write `digit_counts` without a loop.", CPU_TIME),
    "99.12": ("Questions", "Write `largest` with at most 7 questions.", OPERATIONS),
    "99.13": ("A policy", "Write `choose`, which joins a line.", SCALE),
    "99.Q": ("Quiz", "Answer eight questions.", QuizCheck(99)),
}
EXERCISES = tuple(
    Exercise(id_, title, asks, check, points=5, hints=("Read the specification again.",))
    for id_, (title, asks, check) in KINDS.items()
)
