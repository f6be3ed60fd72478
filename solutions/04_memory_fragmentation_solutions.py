# %% [markdown]
# # Lesson 4: Enough memory, but in pieces
#
# **Time** 3 hours and a half: 2½ for exercises, quiz and what you write, the rest to read, run and look; half an
# hour more for the stretch; 45 minutes in all if you only read · **Difficulty** ●○○ to ●●● · **Points** 100, of
# which 8 are a stretch
#
# Lesson 1 measured what contiguous reservations lose. Lessons 2 and 3 took contiguity away: blocks, and a table that
# says where they are. This lesson asks what exactly that was worth. It builds the classical allocators of
# contiguous memory, gives them every advantage, and holds paging against them.
#
# **By the end you will have built** first fit, best fit and a buddy allocator; the measure of how scattered free
# memory is; and the calculation of what a block size wastes. You will be able to tell an allocator's losses apart, and
# to say why blocks have 16 slots. In the map below, the box with a thick outline is this lesson's.
#
# **You need** lesson 1 (the four states of a slot, what a buddy allocator rounds up), lesson 2 (blocks) and lesson 3
# (block tables). You need no GPU.

# %%
from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from typing import Any

from autograder.notebook import check, compare, explain, quiz, task
from course_lib import parts, viz
from course_lib.kv_cache.allocators import (
    BestFitAllocator,
    FirstFitAllocator,
    FitAllocator,
    Span,
    WorstFitAllocator,
)
from course_lib.kv_cache.fragmentation import (
    geometric_internal_waste,
    lifetime_internal_waste,
    lifetimes_in_batch,
    overhead_bytes,
    power_of_two_waste,
    replay,
)
from course_lib.kv_cache.reservation import (
    RESERVATIONS,
    average_shares,
    replay_contiguous,
    replay_paged,
)
from course_lib.kv_cache.watch.allocator_faults import (
    allocation_faults,
    refusal_faults,
    release_faults,
)
from course_lib.simulation.workload import load_azure
from course_lib.specs import GPUS, MODELS, GiB
from course_lib.viz.kit.charts.axes import DoublingAxis, LogAxis
from course_lib.viz.kit.charts.curves import Curve, curve_chart

# %%
viz.EngineMap(lesson=4)

# %% [markdown]
# ## 1. Warm-up
#
# Three questions on the lessons before. The check is immediate and earns no points.

# %% exercise="4.W1"
rounded_slots = None  # slots
### BEGIN SOLUTION
rounded_slots = 1024 - 612
### END SOLUTION

# %% check="4.W1"
check("4.W1", rounded_slots)
# %% exercise="4.W2"
empty_slots = None  # slots
### BEGIN SOLUTION
empty_slots = 7 * 16 - 100
### END SOLUTION

# %% check="4.W2"
check("4.W2", empty_slots)
# %% exercise="4.W3"
slot_of_9 = None
### BEGIN SOLUTION
slot_of_9 = 5 * 4 + 1
### END SOLUTION

# %% check="4.W3"
check("4.W3", slot_of_9)
# %% [markdown]
# ## 2. The problem, seen first
#
# Give contiguous memory every advantage. The set-up is lesson 1's: OPT-13B with 12 GiB for the KV cache, 15,728 slots,
# requests of at most 2,048 tokens from `load_azure("conversation")`, all in one queue, first come, first served. The
# policy is *Oracle*: every length is known beforehand, so nobody asks for a slot too many. The allocator is first fit,
# which rounds nothing up. Averaged over the iterations:

# %%
conversation = load_azure("conversation")
requests = [r for r in conversation[:500] if r.prompt_tokens + r.output_tokens <= 2048]
num_slots = 12 * GiB // parts.get("kv_bytes_per_token")(MODELS["opt-13b"])
in_full_pool = {
    "first fit": list(
        replay_contiguous(requests, num_slots, RESERVATIONS["Oracle"], 2048, FirstFitAllocator)
    )
}


def free_slots(snapshot: Any) -> int:
    """Return the slots of a snapshot that no request has reserved."""
    return snapshot.num_slots - sum(each.reserved for each in snapshot.reservations)


def hole_sizes(snapshot: Any) -> list[int]:
    """Return how large the pieces are in which the free slots of a snapshot lie."""
    taken = sorted((each.offset, each.offset + each.reserved) for each in snapshot.reservations)
    starts = [start for start, _ in taken] + [snapshot.num_slots]
    ends = [0] + [end for _, end in taken]
    return [start - end for start, end in zip(starts, ends) if start > end]


moments = in_full_pool["first fit"]
mean_free = sum(map(free_slots, moments)) / len(moments)
mean_holes = sum(len(hole_sizes(moment)) for moment in moments) / len(moments)
print(f"{len(requests)} requests from: {conversation.source}")
print(f"free: {mean_free / num_slots:.0%} of {num_slots:,} slots, in {mean_holes:.1f} pieces")

# %% [markdown]
# Only iterations in which somebody waits are counted. **Predict:** in how many of 100 of them are the free slots, taken
# together, enough for the first in the queue? Write a number down. You will measure it yourself in section 8.

# %%
predicted_enough = None  # your prediction: iterations, of 100

# %% [markdown]
# Now look at a smaller memory, of 4,400 slots, and at 60 requests of at most 1,024 tokens: few enough to see each of
# them. Each strip is the whole memory under one allocator, and all serve the same queue. Step with the arrow keys, the
# slider in focus. The marks on the bar lead to the start, to the first moment of each strip in which enough is free for
# the first in line and no piece is large enough for it, and to the end. The last strip, *paging*, hands out blocks of
# 16.

# %%
viz.allocation_strips()

# %% [markdown]
# The last frame has the score: paging waits least, and is further ahead of all the others than the three ways to choose a
# hole are apart. How those three rank says little: 60 requests are one sample. Section 8 compares
# them in the pool of 15,728 slots.

# %% claims="paging waits least, and is further ahead of all the others than the three ways to choose a hole are apart."
short = [r for r in conversation if r.prompt_tokens + r.output_tokens <= 1024][:60]
waits = {
    make.__name__: sum(1 for _ in replay_contiguous(short, 4400, RESERVATIONS["Oracle"], 1024, make))
    for make in (
        FirstFitAllocator,
        BestFitAllocator,
        WorstFitAllocator,
        parts.reference("BuddyAllocator"),
    )
}
paged = sum(1 for _ in replay_paged(short, 4400))
rules = [count for name, count in waits.items() if name != "BuddyAllocator"]
assert max(rules) - min(rules) < min(waits.values()) - paged

# %% [markdown]
# ## 3. Blocks and holes
#
# An **allocator** of contiguous memory keeps account of *blocks*, the pieces that are in use, and of **holes**, the
# pieces that are not. (A block here is as long as its request wants it. The blocks of a paged cache all have one size.)
# A hole is cut when a block is taken from it. When a block is given back, it becomes a hole, and if holes lie beside it,
# all of them become one. That is called **coalescing**. In this lesson a memory is written as a strip, with a sign for
# each slot: the letter of the block that it belongs to, or a dot if it is free.
#
# ```text
# A5 B3 C4    AAAAABBBCCCC....   three blocks of 5, 3 and 4 slots
# -B          AAAAA...CCCC....   B is given back
# D2          AAAAADD.CCCC....   D takes the front of the first hole that is large enough
# -A          .....DD.CCCC....   10 slots are free, in three holes
# E6          .....DD.CCCC....   and a request for 6 fails
# -D          ........CCCC....   5, 2 and 1 become one hole of 8
# E6          EEEEEE..CCCC....
# ```
#
# The line in which E fails is **external fragmentation**: enough is free, and it lies in pieces that are too small. Step
# through it:

# %%
viz.strip_film("A5 B3 C4 -B D2 -A E6 -D E6")

# %% [markdown]
# Which hole does a request get, if several are large enough?
#
# - **First fit**: the one with the lowest offset.
# - **Best fit**: the smallest.
# - **Worst fit**: the largest, so that what is left of it stays useful.
#
# In each case the block is cut from the front of the hole. Work through an example on paper first. Its task comes from a
# seed: if you want another one, call `task("4.1", seed=2)` and write that seed into your answer.

# %% exercise="4.1"
answer = {"seed": 1}
# Write answer["step 1"] = "..." and so on, a strip of 16 signs each.
### BEGIN SOLUTION
answer["step 1"] = "...AA..B...CCCC."
answer["step 2"] = "...AA..B...CCCC."
answer["step 3"] = ".......B...CCCC."
answer["step 4"] = "FFF....B...CCCC."
answer["step 5"] = "FFF....B........"
answer["step 6"] = "FFFGGGGB........"
### END SOLUTION

# %% check="4.1"
check("4.1", answer)

# %% [markdown] solution="4.1"
# **Explained.** First fit reads the strip from the left and stops at the first run of dots that is long enough. Where
# no run is long enough, the request fails, however many dots there are in all. A release that joins two holes with the block
# between them is what later requests live on: without it, the last step of the task of seed 1 has another answer.

# %% [markdown]
# The library has an allocator for each of these rules. They share everything but the choice of the hole. What follows is
# first fit's, to be read; best fit's is yours.

# %% shows="course_lib.kv_cache.allocators:FirstFitAllocator"

# %% [markdown]
# `sorted_holes` is a list of `Span`s, each with `offset`, `size` and `end` (the first slot behind it), in order of
# offset. A `Span` is a tuple of offset and size, so spans sort by offset, and `bisect` finds a place among them. In a
# failing case, the strip behind a call names each block by where it starts: A at slot 0, B at slot 1, C at slot 2.

# %% exercise="4.2"

# %% check="4.2"

# %% [markdown] solution="4.2"
# **Explained.** Holes that are too small are left out before the smallest is looked for; the other way round, a hole of
# one slot would hide all others. A hole of exactly the size asked for is the best one: nothing is left of it. The second
# part of the key settles ties. (As `sorted_holes` is in order, `min` with the size alone would do the same.)

# %% [markdown]
# Now the other half, which all of them share: a block is given back. After every call, blocks and holes together cover
# the memory without overlap, and no two holes touch. `block_size(offset)` returns how many slots the block at an offset
# has, or raises the ValueError if there is none. The library's function finds the neighbours in O(log n) steps, as its
# documentation says; to go through all holes earns as much here. A step for each *slot* is too much, for the check has a
# memory of millions. You find the class's attributes in its documentation:

# %%
print(FitAllocator.__doc__)

# %% exercise="4.3"

# %% check="4.3"

# %% [markdown] solution="4.3"
# **Explained.** A block has two neighbours, and either, both or none may be a hole. `bisect_left` finds the place of
# the block among the sorted holes; only the hole before that place can end where the block starts, and only the one at
# that place can start where it ends. Between zero and two holes leave the list, and one goes in. To go through all holes
# and keep those that do not touch earns as much, and takes longer the more holes there are. The error comes first, so
# that a wrong offset changes nothing.

# %% [markdown]
# ### Does the choice matter?
#
# Take holes of 13 and 12 slots. Three requests come and stay.

# %%
def put_together() -> tuple[Any, Any, Any]:
    """Return first, best and worst fit, with those of your methods in them that have passed."""
    fit, choosing_best = parts.get("FitAllocator"), parts.get("BestFitAllocator")
    return (
        type("FirstFit", (FirstFitAllocator, fit), {}),
        type("BestFit", (choosing_best, fit), {}),
        type("WorstFit", (WorstFitAllocator, fit), {}),
    )


first_fit, best_fit, worst_fit = put_together()
for sizes in ((10, 11, 3), (11, 10, 3)):
    for make in (first_fit, best_fit):
        allocator = make(26)
        for size in (13, 1, 12):
            allocator.allocate(size)
        for offset in (0, 14):
            allocator.free(offset)
        print(f"{sizes}: {make.__name__:<9}{[allocator.allocate(size) for size in sizes]}")

# %% [markdown]
# Each of the two serves everybody in one case, and turns the last one away in the other. So neither is better for
# *every* sequence of requests. What they do on average, only a workload can say: section 8 has one.
#
# ### How many holes are there?
#
# Let 100 blocks be in use all the time. Whenever one is given back, another one is taken, from a memory without limit,
# so that nothing is ever refused. **Predict:** in the long run, how many holes lie between the 100 blocks?

# %%
predicted_holes = None  # your prediction: holes

# %%
holes_per_block = {}
for num_blocks in (10, 30, 100, 300):
    lifetimes = lifetimes_in_batch(conversation[: max(2000, 10 * num_blocks)], num_blocks)
    holes_per_block[num_blocks] = replay(lifetimes, first_fit(2**40)).holes_per_block
    print(f"first fit, {num_blocks:3} blocks: {num_blocks * holes_per_block[num_blocks]:5.1f} holes")
lifetimes = lifetimes_in_batch(conversation[:2000], 100)
by_rule = {
    name: replay(lifetimes, make(2**40))
    for name, make in (("first fit", first_fit), ("best fit", best_fit), ("worst fit", worst_fit))
}
for name in ("best fit", "worst fit"):
    print(f"{name}, 100 blocks: {100 * by_rule[name].holes_per_block:.1f} holes")
compare(predicted_holes, 100 * holes_per_block[100], "holes")

# %% [markdown]
# Under first fit, about half as many holes as blocks, whatever the number. This is Knuth's **fifty-per-cent rule** (*The Art of Computer
# Programming*, volume 1, section 2.5), and four lines derive it. Let there be $n$ blocks and $m$ holes. Of the blocks,
# let $a$ lie between two holes, $b$ beside one, $c$ beside none.
#
# - Each hole has a block on both sides, but for the ends of the memory. Count these contacts from the holes and from the
#   blocks: $2m = 2a + b$, and $n = a + b + c$, so $c - a = n - 2m$.
# - A release takes a hole away if the block lies between two (three pieces become one), and adds one if it lies beside
#   none. If each block is equally likely to be the next that goes, the number of holes changes by $(c - a)/n$ on average.
# - An allocation takes a hole away only if it fits exactly. If that happens with probability $1 - p$, the number changes
#   by $-(1 - p)$ on average.
# - In balance the two cancel: $(n - 2m)/n = 1 - p$, hence
#
# $$m = \frac{p\,n}{2}$$
#
# With lengths as varied as these an exact fit is rare, so $p$ is near 1. Coalescing does not make holes vanish: it keeps
# them near half the number of blocks, under first fit and best fit alike. Worst fit has fewer, since neighbours leave
# together there (see the appendix). In the pool of section 2 some ten requests run at a time, and there are about five
# holes.

# %% claims="In the pool of section 2 some ten requests run at a time, and there are about five holes."
assert 10 < sum(len(moment.reservations) for moment in moments) / len(moments) < 10.5
assert 5 < mean_holes < 5.6

# %% claims="Under first fit, about half as many holes as blocks, whatever the number."
assert all(0.42 < ratio < 0.52 for ratio in holes_per_block.values())

# %% claims="near half the number of blocks, under first fit and best fit alike. Worst fit has fewer"
holes = {name: outcome.holes_per_block for name, outcome in by_rule.items()}
assert all(0.45 < holes[name] < 0.52 for name in ("first fit", "best fit"))
assert holes["worst fit"] < 0.43

# %% claims="(For code of at most 2,048 tokens it moves more: up to ten on the real trace, some six on the synthetic one.)"
moves = []
for start in (0, 8100):
    code = [r for r in load_azure("code")[start : start + 500] if r.prompt_tokens + r.output_tokens <= 2048]
    in_use = [
        average_shares(
            list(replay_contiguous(code, num_slots, RESERVATIONS["Oracle"], 2048, make)),
            parts.get("classify_slots"),
        )["used"]
        for make in (first_fit, best_fit, worst_fit)
    ]
    moves.append(max(in_use) - min(in_use))
assert 0.06 < max(moves) < 0.105

# %% claims="Draw at random who goes next, and worst fit has its fifty holes to 100 blocks."
from random import Random

rng, drawn, here, counts = Random(0), worst_fit(2**40), [], []
for number, request in enumerate(conversation[:2000]):
    if len(here) == 100:
        drawn.free(here.pop(rng.randrange(100)))
    here.append(drawn.allocate(request.prompt_tokens + request.output_tokens))
    counts.append(len(drawn.holes()) - 1)
assert 47 < sum(counts[500:]) / len(counts[500:]) < 53

# %% [markdown]
# ### How far up do the blocks reach?
#
# Allocators are often compared in this very set-up: a memory without limit, in which nobody ever waits. Then the question
# is: of the slots below the highest end of a block, how many are in use when most are? Under first fit:

# %%
in_endless = {name: outcome.utilization for name, outcome in by_rule.items()}
print(f"first fit: {in_endless['first fit']:.0%} are in use")

# %% [markdown]
# **Predict:** how many per cent are in use under worst fit, which takes the largest hole there is?

# %%
predicted_worst = None  # your prediction, in %

# %%
for name in ("best fit", "worst fit"):
    print(f"{name}: {in_endless[name]:.0%}")
compare(predicted_worst, 100 * in_endless["worst fit"], "%")

# %% [markdown]
# Here, worst fit looks like a catastrophe. But only because the largest hole is always the endless rest behind the last
# block: it takes fresh memory for every request and never comes back. An engine has a pool that ends.

# %% claims="Here, worst fit looks like a catastrophe."
assert in_endless["worst fit"] < 0.1
assert min(in_endless["first fit"], in_endless["best fit"]) > 0.8

# %% [markdown]
# ## 4. Buddies: order in exchange for memory
#
# In lesson 1 you wrote what a buddy allocator hands out of a row of free blocks. Nothing ever came back. The point of
# buddies is in the way back: how does it find, quickly, what a free block may be joined with?
#
# All its blocks have a power of two of slots, $2^k$, where $k$ is called the **order**, and each starts at a multiple of
# its own size. A block of order $k$ that is too large is halved into two of order $k - 1$: these two are **buddies**.
# Only buddies are ever joined again. Take a block of 4 slots, and write where it starts as a binary number:
#
# ```text
# starts at     8 = 01000     its buddy at    12 = 01100      together: 8 slots at 8
# starts at    20 = 10100     its buddy at    16 = 10000      together: 8 slots at 16
# ```
#
# A look at the neighbours is not needed, and would mislead: the block at 12 touches the one at 16, and together they
# are no block, for 12 is no multiple of 8. Step through one, with its tree of halves. Watch which free blocks touch and
# stay apart, and what the XOR of offset and size has to do with it:

# %%
viz.strip_film("A3 B4 C4 D4 -B -C E8 -A -D", parts.reference("BuddyAllocator"))

# %% [markdown]
# A memory whose size is no power of two is a row of blocks, the largest in front: 12 slots start as 8 at 0 and 4 at 8.
#
# This is the exercise of this lesson with the least scaffold: you get the specification of a class, and the three
# methods that matter are empty. Which of several free blocks of the right size you take is up to you; the check judges by
# what was free before each call. So a failing case lists what is wrong with a step, and names each block in its strip by
# where it starts, A at slot 0, B at slot 1:
#
# ```text
# allocation_faults(obj, 3)    obj.allocate(3)
# release_faults(obj, 0)       obj.free of the first block (1: of the second; behind the last, of the first again)
# refusal_faults(obj, 0)       obj.free where no block starts
# sharing_faults(obj, 1)       the same calls of a second object, which obj knows nothing of
# ```

# %% exercise="4.4" holes="__init__,allocate,free"

# %% check="4.4"

# %% [markdown] solution="4.4"
# **Explained.** The bits of `num_slots` say which blocks there are at the start. To allocate, go *up* through the orders
# until a free block is found, then *down* again, and leave the upper half free at each step. To free, look for the buddy
# among the free blocks of the same order: two blocks of order $k$ that were halves of one differ in bit $k$ of their
# offsets, and `offset ^ (1 << order)` turns that bit over, whichever half this one is. If the buddy is there, the two
# become one block of the next order, which may find its own buddy in turn; hence the loop. That every block starts at a
# multiple of its size makes the XOR right: started anywhere else, it would find a stranger.
#
# A set for each order makes each step cost the same, however many blocks there are, and a memory of 15,728 slots has
# no more than 14 orders to go through.

# %% [markdown]
# ### What the order costs
#
# A request gets the next power of two: one of 1,025 slots nearly twice what it needs, and one of 2,048 just that.
# **Predict:** of all that is handed out to the requests of section 2, how many per cent did nobody ask for?

# %%
predicted_rounding = None  # your prediction, in %

# %%
rounding = power_of_two_waste([r.prompt_tokens + r.output_tokens for r in requests])
log_uniform = power_of_two_waste({length: 1 / length for length in range(2**16 + 1, 2**17 + 1)})
compare(predicted_rounding, 100 * rounding.share, "%")
print(f"rounded up, of what is handed out: {rounding.share:.1%}; log-uniform: {log_uniform.share:.1%}")

# %% [markdown]
# *Log-uniform* lengths are spread evenly on a logarithmic scale, as many between 128 and 256 as between 256 and 512. For
# them the share is $1 - 1/(2 \ln 2) = 27.9\%$. It would be a quarter if the lengths between two powers of two were all
# equally frequent; on a logarithmic scale the shorter of them, which lose more, are more frequent. Our requests, none
# above 2,048 tokens, come close to those 27.9%.

# %% claims="Our requests, none above 2,048 tokens, come close to those 27.9%."
assert 0.26 < rounding.share < 0.29
assert round(log_uniform.share, 3) == 0.279

# %% [markdown]
# ### What must hold, and what breaks
#
# | what must hold | what a user sees when it does not |
# |---|---|
# | Blocks and holes together cover the memory, without overlap. | Two requests write one slot: an answer goes on with somebody else's context. |
# | No two holes touch (first, best, worst fit). | A request waits beside neighbours that would be enough for it. |
# | A buddy starts at a multiple of its size, and no two buddies are both free. | XOR finds a stranger: blocks become one at places that are no multiple of their size, true halves never meet, and a large request is refused in an empty memory. |
# | A block is freed once, by the offset at which it starts. | If the second time puts its slots among the holes again, they have two owners in the end; if it is silent, the mistake of the caller stays hidden. |
#
# ### How scattered?
#
# Even where no two holes touch, free memory may lie in few pieces or in many. A measure of that: of the slots that are
# free, which share lies outside the largest hole?

# %% exercise="4.5"

# %% check="4.5"

# %% [markdown] solution="4.5"
# **Explained.** The largest hole is what one request can have; everything else that is free is a share
# `1 - max / sum` of it. The number of holes says little, since one of 2,000 slots beside three of 5 is hardly scattered.
# A buddy allocator's free blocks count one by one even where they touch: nobody can have two of them. If nothing is
# free, nothing is scattered, and there is no division by zero.

# %% [markdown]
# ## 5. Pages: any free block will do
#
# If all blocks have one size, a free block fits every request, and there is no external fragmentation between them.
# What remains is *internal*: the rest of the last block.
#
# **Predict:** requests have 1 to 100 tokens, each length as likely as another, and blocks have 16 slots. How many slots
# does a request waste on average?

# %%
predicted_waste = None  # your prediction: slots

# %% [markdown]
# A request of $L$ tokens takes $\lceil L/B \rceil$ blocks of $B$ slots. Over all requests, with $E[\cdot]$ for the mean:
#
# $$\text{waste} = B \cdot E\lceil L/B \rceil - E[L]$$
#
# Most of the function is there. The two sums under the comments are yours.

# %% exercise="4.6" steps="Add up the tokens|Add up the slots"

# %% check="4.6"

# %% [markdown] solution="4.6"
# **Explained.** `weights` maps each length to how much it counts. Both sums run over it, one with the tokens of a
# length, the other with the slots of its whole blocks; `-(-length // block_size)` is division rounded up, without a
# float. To round the *mean* length up instead would be another number: every request has a last block of its own.

# %%
exact_waste = parts.get("expected_internal_waste")
uniform = exact_waste(range(1, 101), block_size=16)
compare(predicted_waste, uniform.tokens, "slots")
print(f"L from 1 to 100: {uniform.allocated:.2f} slots for {uniform.stored:.2f} tokens", end=", ")
print(f"{uniform.share:.1%} of them empty")
for mean in (50, 300):
    waste = geometric_internal_waste(mean_length=mean, block_size=16)
    print(f"geometric with mean {mean}: {waste.tokens:.4f} slots, {waste.share:.2%} of what is held")

# %% [markdown]
# It is not 8, half a block. If all remainders of $L$ by $B$ are equally likely, the rest of the last block is 0 to
# $B - 1$, each as likely, and averages $(B - 1)/2$: 7.5 slots for 16. Lengths of 1 to 100 miss that a little, since 100
# is no multiple of 16. Geometric lengths (a request may end after each token with the same probability, $1/m$ for a mean
# of $m$) come closer the longer they are. As a *share*, 7.5 slots are nothing beside 1,300 tokens and a lot beside 50. So "paging
# wastes under 4%" is a sentence about long requests.
#
# On the trace, averaged over the life of each request, while it grows:

# %%
block_sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256]
in_life = {size: lifetime_internal_waste(conversation, size) for size in block_sizes}
print(f"{conversation.name}: {in_life[16].stored:,.0f} tokens are held on average")
for size in (16, 64, 256):
    print(
        f"blocks of {size:3}: {in_life[size].tokens:6.2f} slots empty, (B - 1)/2 = {(size - 1) / 2:5.1f};"
        f" {in_life[size].share:5.2%} of what is held"
    )

# %% [markdown]
# For these lengths the rule $(B - 1)/2$ holds within a few per cent, and the waste grows in proportion to the block.

# %% claims="For these lengths the rule $(B - 1)/2$ holds within a few per cent, and the waste grows in proportion to the block."
for size in (16, 32, 64, 128, 256):
    assert abs(in_life[size].tokens / ((size - 1) / 2) - 1) < 0.04
assert 0.004 < in_life[16].share < 0.008
assert 0.08 < in_life[256].share < 0.10

# %% [markdown]
# ### Then why not blocks of one slot?
#
# A small block wastes less, and has a price: each block has an entry in a table, and somebody has to keep it. Say a
# token takes $t$ bytes of KV, an entry $h$ bytes, and a request has $L$ tokens on average. Blocks of $B$ slots waste
# $(B - 1)/2$ slots for each request, and need about $L/B$ entries. One rises with $B$, the other falls. Which $B$ is best
# does not depend on the half slot, so leave it out and write $B/2$.
#
# **Predict:** a table entry has 4 bytes, a token of Llama-3.1-8B 128 KiB, a request 1,366 tokens. Which block size
# costs the fewest bytes?

# %%
predicted_best = None  # your prediction: slots per block

# %% [markdown]
# Find the formula.

# %% exercise="4.7"

# %% check="4.7"

# %% [markdown] solution="4.7"
# **Explained.** A request costs $f(B) = \tfrac{B}{2}\,t + \tfrac{L}{B}\,h$ bytes. Where the derivative is zero,
# $t/2 = hL/B^2$, and so
#
# $$B^* = \sqrt{\frac{2hL}{t}}$$
#
# There both terms are equal. A result below 1 is no mistake: it says that the table never matters.

# %%
token_bytes = parts.get("kv_bytes_per_token")(MODELS["llama-3.1-8b"])
lengths = [r.prompt_tokens + r.output_tokens for r in conversation]
mean_tokens = sum(lengths) / len(lengths)
best = best_block_size(mean_tokens, 4, token_bytes)
if best:
    print(f"by the formula {best:.2f} slots, and no block is smaller than 1")
    compare(predicted_best, max(1.0, best), "slots")
at_16 = exact_waste(lengths, 16)
print(f"blocks of 16: the last block of a request wastes {at_16.tokens * token_bytes / 1024:,.0f} KiB,")
print(f"its table has {4 * at_16.allocated / 16:,.0f} bytes")

# %% [markdown]
# Thousands of bytes in the last block for each byte of table. As far as memory goes, blocks of one slot are best, and 16
# would be the best choice only if an entry took about 12 KiB:

# %% claims="Thousands of bytes in the last block for each byte of table."
assert 2500 < at_16.tokens * token_bytes / (4 * at_16.allocated / 16) < 3500
assert 0.28 < best < 0.30

# %% claims="16 would be the best choice only if an entry took about 12 KiB"
assert 11.5 * 1024 < 16**2 * token_bytes / (2 * mean_tokens) < 12.5 * 1024


# %%
def overhead(width: float) -> viz.Scene:
    """Draw what a request wastes over the block size, for entries of several sizes."""
    curves = [
        Curve(
            f"an entry of {name}",
            [(b, overhead_bytes(lengths, b, entry, token_bytes) / 1024) for b in block_sizes],
        )
        for name, entry in (("4 bytes", 4), ("256 bytes", 256), ("4 KiB", 4096), ("12 KiB", 12288))
    ]
    size, wasted = DoublingAxis("Block size", "slots"), LogAxis("Wasted by a request", "KiB")
    return curve_chart(
        "Last block and table together", size, wasted, curves, width - 24, height=300
    ).scene()


viz.Picture(overhead(viz.WIDE), narrow=overhead(viz.NARROW))

# %% [markdown]
# So why 16? Something other than the table's bytes must pull upwards, as hard as 12 KiB for each block would. What else
# changes with the block size, for the requests of the trace:

# %%
print("slots   of what is held,   entries that a kernel looks up    new blocks in 1,000 steps")
print("        empty in life      in each layer, for a request      of a request that decodes")
for size in (1, 4, 16, 64, 256):
    entries = exact_waste(lengths, size).allocated / size
    print(f"{size:5} {in_life[size].share:17.2%} {entries:28,.0f} {1000 / size:32,.0f}")

# %% [markdown]
# | what pulls | where | how you can tell |
# |---|---|---|
# | the last block | down | $(B - 1)/2$ slots: little at 16, and at 256 a share that hurts |
# | shared prefixes | down | prefixes are shared block by block (lesson 8): the larger the blocks, the fewer are the same |
# | kernels | up | an entry must have come back before the keys of its block can be asked for: the fewer, the better. vLLM's FlashAttention backend takes multiples of 16 only |
# | the host | up | with one slot in each block, every request needs a new block in every step |
#
# Of these four, only the first is measured above. The PagedAttention paper measured all but shared prefixes together, end
# to end (section 7.2; one sample for each prompt, so nothing was shared): sizes from 16 to 128 did best on long
# conversations (ShareGPT), and 16 and 32 on short instructions (Alpaca), whose sequences are shorter than a larger block. With
# blocks too small, the GPU's parallelism may not be put to full use. The authors chose 16, the smallest of those that did
# well on both.
#
# ## 6. Then why not just compact?
#
# There is another way out of the holes: push blocks together, from the lowest on, until the request fits.

# %%
viz.compaction_film("A5 B3 C4 -B D2 -A E6")

# %% [markdown]
# Perhaps because copying costs too much. Does it? Take an A100 with 1.555 TB/s. A step reads all weights, 26 GB, and the KV
# that has been written (prefill calculates besides, which is left out). A push reads at most the 12 GiB of the cache, and
# writes as much, and in the queue of section 2 it takes one in 36 steps (one in 63 on Azure's own trace). **Predict:** how
# many per cent of the time of the steps would the pushes take?

# %%
predicted_price = None  # your prediction, in %

# %% [markdown]
# First fit that does what the film shows, and counts the slots that it moves. (In the film each slot holds a token. Here
# every slot of a block is moved, whether a token is in it or not.) To move a block is to free it and to allocate it again: `free` joins it with the hole in front
# of it, and all that lies further in front is full already. Nothing in the next cell is to be written, so it is folded: run
# it, and click on the three dots if you want to read it.


# %% folds="Compacting"
class Compacting:
    """First fit that pushes blocks together when a request fits in no hole, but in all of them.

    Blocks move, so what it hands out is no offset but a ticket, and a table says where the block is.
    """

    def __init__(self, num_slots: int) -> None:
        self.num_slots, self.memory = num_slots, first_fit(num_slots)
        self.offset_of: dict[int, int] = {}
        self.slots_moved: list[int] = []
        self.num_tickets = 0

    def holes(self) -> list[Span]:
        return self.memory.holes()

    def allocate(self, size: int) -> int | None:
        if sum(hole.size for hole in self.holes()) < size:
            return None
        if max(hole.size for hole in self.holes()) < size:
            self.slots_moved.append(self.push_together(size))
        self.num_tickets += 1
        self.offset_of[self.num_tickets] = self.memory.allocate(size)
        return self.num_tickets

    def free(self, ticket: int) -> None:
        self.memory.free(self.offset_of.pop(ticket))

    def push_together(self, wanted: int) -> int:
        moved = 0
        for ticket, offset in sorted(self.offset_of.items(), key=lambda item: item[1]):
            if max(hole.size for hole in self.holes()) >= wanted:
                break
            size = self.memory.block_size(offset)
            self.memory.free(offset)
            self.offset_of[ticket] = self.memory.allocate(size)
            moved += size if self.offset_of[ticket] != offset else 0
        return moved


# %%
compacting: list[Compacting] = []


def make_compacting(num_slots: int) -> Any:
    """Make one, and keep it, so that it can be asked what it moved."""
    compacting.append(Compacting(num_slots))
    return compacting[-1]


in_full_pool["compacted"] = list(
    replay_contiguous(requests, num_slots, RESERVATIONS["Oracle"], 2048, make_compacting)
)
opt_13b, a100 = MODELS["opt-13b"], GPUS["a100-40gb"]
opt_token = parts.get("kv_bytes_per_token")(opt_13b)
moved = compacting[0].slots_moved
stop = 2 * sum(moved) / len(moved) * opt_token / a100.memory_bandwidth  # read and written
print(f"{len(moved)} times in {len(in_full_pool['compacted']):,} iterations it pushes", end=" ")
print(f"{sum(moved) / len(moved):,.0f} slots together: {1000 * stop:.1f} ms on an {a100.name}")
written = sum(each.written for moment in in_full_pool["compacted"] for each in moment.reservations)
steps = len(in_full_pool["compacted"]) * opt_13b.weight_bytes + written * opt_token
share_of_time = len(moved) * stop / (steps / a100.memory_bandwidth)
print(f"that is {share_of_time:.2%} of the time in which the steps read weights and KV")
compare(predicted_price, 100 * share_of_time, "%")

# %% [markdown]
# Less than one per cent, at the bandwidth on the box, and rather less with prefill counted. Bandwidth is not the reason.
# What does one get for it? Beside first fit as it was, and beside paging:

# %%
in_full_pool["paged"] = list(replay_paged(requests, num_slots))
shares = {
    name: average_shares(in_full_pool[name], parts.get("classify_slots"))
    for name in ("first fit", "compacted", "paged")
}
for name, each in shares.items():
    print(f"{name:<10}used {each['used']:.1%}, for later {each['later']:.1%}, free {each['external']:.1%}")

# %% [markdown]
# Now the reasons, the measured one first.
#
# - **Compaction closes holes, and nothing else.** Of the slots that paging puts to use and first fit does not, it wins
#   not quite half. What is reserved for later stays reserved, and even grows, since more requests run. And the lengths
#   must still be known.
# - **It takes a table anyway.** `Compacting` had to hand out tickets, and to look up where each block is now. For a kernel
#   that is one offset for each request, which costs nothing like a look-up for each block. But whoever has a table can
#   have one with more entries, and with those nothing need ever move, and nothing need be reserved. llama.cpp went this
#   way: it compacted until 2025, when tokens of a batch could lie anywhere in its cache (see the appendix).
# - **Whoever holds an address must wait, or be told**: steps under way on the GPU, and network cards with which the memory
#   is registered. Section 9 has such a case.

# %% claims="Less than one per cent, at the bandwidth on the box"
assert 0.004 < share_of_time < 0.009

# %% claims="in the queue of section 2 it takes one in 36 steps (one in 63 on Azure's own trace)."
is_synthetic = conversation.source.startswith("Synthetic")
assert round(len(in_full_pool["compacted"]) / len(moved)) == (36 if is_synthetic else 63)
assert 25e9 < opt_13b.weight_bytes < 26.5e9

# %% claims="it wins not quite half. What is reserved for later stays reserved, and even grows, since more requests run."
first, packed, paged = (shares[name] for name in ("first fit", "compacted", "paged"))
assert 0.42 < (packed["used"] - first["used"]) / (paged["used"] - first["used"]) < 0.5
assert packed["later"] > first["later"] + 0.01 and packed["later"] > 0.11

# %% [markdown]
# ## 7. Bug hunt
#
# > **An upstream bug.** `rcore-os/buddy_system_allocator`, a crate for operating-system kernels in Rust, issues #50 and #51
# > (2026). The code below is our own, and makes the same mistake.
#
# When such a kernel starts, it learns of its memory range by range: here some frames are free, there some more. (A *frame*
# is a page of physical memory.) Each range is added to a buddy allocator. Its free blocks are a set of pairs, the first
# frame and the number of frames. Two helpers, which are right:

# %% shows="autograder.lessons.lesson04_frames:largest_block"

# %% shows="autograder.lessons.lesson04_frames:release"

# %% [markdown]
# And the suspect. "I have added ranges of every size and offset, and each time the blocks were as large as they can be."

# %% shows="autograder.lessons.lesson04_frames:suspect_add_range"
print("0 to 4: ", suspect_add_range(set(), 0, 4))
print("3 to 11:", sorted(suspect_add_range(set(), 3, 11)))

# %% [markdown]
# Show that it is wrong: give ranges, as pairs (start, end) in the order in which they are added to an empty memory, and
# a number of frames, a power of two, for which there should be a block in the end and is none. No frame is added twice,
# and frames are numbered from 0 to 2⁶² − 1.

# %% exercise="4.8a"
exposing_case = None  # {"ranges": [(start, end), ...], "frames": ...}
### BEGIN SOLUTION
exposing_case = {"ranges": [(0, 2), (2, 4)], "frames": 4}
### END SOLUTION

# %% check="4.8a"
check("4.8a", exposing_case)

# %% [markdown] solution="4.8a"
# **Explained.** Within one call the suspect cuts a range into the largest blocks that there are, none of which are
# buddies. Two calls can bring the two halves of one block, and nobody looks for the first when the second comes. The
# halves must be buddies: 2 to 4 and 4 to 6 touch, and are right to stay apart. A test that adds one range sees none of it.

# %% [markdown]
# Now mend it. Write the whole function again; you may copy lines, and call both helpers. A range may have 2³⁰ frames: a
# step for each frame would be right, and too slow.


# %% exercise="4.8b"
def add_range(
    free: set[tuple[int, int]], start: int, end: int
) -> set[tuple[int, int]]:
    """Return the free blocks once frames start to end - 1 are added to the memory.

    Args:
        free: The free blocks, as pairs of the first frame and the number of frames. No two of them
            are buddies. It is not changed.
        start: The first frame of the range.
        end: The first frame behind it, above start. No frame of the range is in a free block.

    Returns:
        The free blocks, each a power of two of frames that starts at a multiple of its size. No two
        of them are buddies.

    >>> sorted(add_range({(0, 2)}, 2, 4))
    [(0, 4)]
    """
    ### BEGIN SOLUTION
    free = set(free)
    while start < end:
        size = largest_block(start, end)
        free = release(free, start, size)
        start += size
    return free
    ### END SOLUTION


# %% check="4.8b"

# %% [markdown] solution="4.8b"
# **Explained.** A range that is added is a range that becomes free, so what adds must do what frees. `release` looks for
# the buddy, and goes on with what they become; the suspect put its blocks straight into the set. The report upstream
# asks for the same repair, one routine that both use. To release frame by frame gives the same blocks, in as many steps
# as there are frames; the blocks of `largest_block` are at most two for each order.

# %% [markdown]
# ### Judge two fixes
#
# Two people have sent a repair. Both pass the test of the report: add 0 to 2, then 2 to 4, and there is a block of 4.

# %% shows="autograder.lessons.lesson04_frames:add_range_a"

# %% shows="autograder.lessons.lesson04_frames:add_range_b"

# %% [markdown]
# In three to six sentences: which one would you merge, and why is the other one wrong? Give ranges for which it goes
# wrong, the free blocks that come of them, and what a user of the allocator would see. Then name what the right one
# costs. You can try ranges in a cell of your own.
#
# 5 points, about 10 minutes, marked by hand: 1 for the choice, 2 for a case that shows the error with its blocks, 1 for
# what a user sees, 1 for the cost.

# %% [markdown] answer="4.8" points=5
# B is right, A is wrong. A joins a new block with an equal one that ends where it starts; whether the two are halves of
# one block it does not ask. Add 2 to 4, 4 to 6, 0 to 2 and 6 to 8: all of 0 to 7 is free, and by B it is one block of 8.
# By A the second range makes one block of 4 at 2, which is no multiple of 4, and the halves at 0 and 6 never find theirs:
# a request for 8 frames is refused in an empty memory. A request for 4 gets frames 2 to 5, where it may rely on a multiple
# of 4. A also never joins with a buddy *behind* the new block: add 2 to 4, then 0 to 2, and there is no block of 4. B
# looks for true buddies (`first & size == 0`: the lower half) and goes on until there are none. For that it sorts and
# sweeps all free blocks, and does so again after each merge, of which a call has at most about two for each order;
# looking up the one possible buddy takes a step for each order, however many blocks are free.
#
# **Mark scheme.** 1 for B. 2 for a case: ranges (1) and the blocks that A makes of them (1); either the misaligned block
# or the buddy behind counts. 1 for misaligned memory or a request that is refused, matching the case. (No frame is
# handed out twice: A joins what is free with what is free.) 1 for the cost of B: a sweep over all free blocks for each
# merge.

# %% [markdown] criteria="4.8"
# - Which fix, and the property of buddies that the other one leaves out.
# - A case: ranges in the order in which they are added, and the free blocks after them, by the wrong fix and by the
#   right one.
# - What a user of the allocator notices in this very case.
# - What the right fix does that `release` does without.

# %% [markdown]
# ## 8. It runs in your engine
#
# The classes of section 3 are put together once more, from what has passed by now; the buddy allocator is a part of its
# own. Let them serve the queue of section 2, beside compaction and paging. As in lesson 1, *external* is every slot
# that no request has asked for: what is *rounded up* behind a block (textbooks call that internal), and what is *free*. The rest of a last block that its
# request will still fill counts as *later*. **Predict:** of all slots, how many points more are in use under the best of
# first, best and worst fit than under the worst of them?

# %%
predicted_points = None  # your prediction: points

# %%
first_fit, best_fit, worst_fit = put_together()
buddies = parts.get("BuddyAllocator")
for name, make in (("first fit", first_fit), ("best fit", best_fit), ("worst fit", worst_fit), ("buddy", buddies)):
    in_full_pool[name] = list(
        replay_contiguous(requests, num_slots, RESERVATIONS["Oracle"], 2048, make)
    )
    shares[name] = average_shares(in_full_pool[name], parts.get("classify_slots"))
rounded = dict.fromkeys(shares, 0.0)
rounded["buddy"] = sum(
    (1 << (each.reserved - 1).bit_length()) - each.reserved
    for moment in in_full_pool["buddy"]
    for each in moment.reservations
) / (num_slots * len(in_full_pool["buddy"]))
print(f"{'':<11}{'used':>7}{'later':>7}{'internal':>10}{'rounded up':>12}{'free':>7}{'iterations':>12}")
for name in ("first fit", "best fit", "worst fit", "buddy", "compacted", "paged"):
    each = shares[name]
    print(f"{name:<11}{each['used']:7.1%}{each['later']:7.1%}{each['internal']:10.2%}", end="")
    print(f"{rounded[name]:12.1%}{each['external'] - rounded[name]:7.1%}{len(in_full_pool[name]):12,}")
fits = [shares[name]["used"] for name in ("first fit", "best fit", "worst fit")]
compare(predicted_points, 100 * (max(fits) - min(fits)), "points")
print(f"paging is ahead of all three by {100 * (shares['paged']['used'] - max(fits)):.1f}")

# %% [markdown]
# In this pool the three rules differ by less than three points, and the gap to paging is more than twenty. So *first fit
# is not the culprit*, nor any other rule: contiguity is. Worst fit, hopeless in endless memory, is hardly behind here, where
# the largest hole is one among others: an experiment answers the question that its set-up asks. The buddy allocator leaves
# about half as much in holes, and loses a quarter of the memory to rounding instead. What paging has free are blocks that
# the next request needs more of; none of them is in the wrong place.

# %% claims="In this pool the three rules differ by less than three points, and the gap to paging is more than twenty."
assert max(fits) - min(fits) < 0.03
assert 0.20 < shares["paged"]["used"] - max(fits) < 0.26
assert shares["buddy"]["used"] < min(fits) - 0.10

# %% claims="leaves about half as much in holes, and loses a quarter of the memory to rounding instead."
holes_of_buddies = shares["buddy"]["external"] - rounded["buddy"]
assert 0.43 < holes_of_buddies / shares["first fit"]["external"] < 0.55
assert 0.22 < rounded["buddy"] < 0.28

# %% [markdown]
# And `free` at work. How often did it find no hole beside the block, how often one, how often two?


# %%
changes: Counter[int] = Counter()


class Counted(first_fit):  # type: ignore[misc, valid-type]
    """First fit that counts what a release does to the number of holes."""

    def free(self, offset: int) -> None:
        before = len(self.holes())
        super().free(offset)
        changes[len(self.holes()) - before] += 1


for moment in replay_contiguous(requests, num_slots, RESERVATIONS["Oracle"], 2048, Counted):
    pass
whose = "your" if "my_engine" in first_fit.free.__code__.co_filename else "the library's"
print(f"{whose} free was called {changes.total()} times: {changes[1]} times a hole appeared,", end=" ")
print(f"{changes[0]} times one grew, {changes[-1]} times two became one")

# %% [markdown]
# Holes appear about as often as two become one. That is the balance of the fifty-per-cent rule, at work: with exact fits
# so rare, only releases change the number of holes, and in the long run they must cancel.

# %% claims="Holes appear about as often as two become one."
assert abs(changes[1] - changes[-1]) <= 5 < changes[1]

# %% [markdown]
# ### Measure: enough in pieces
#
# Back to the prediction of section 2. A snapshot has `num_slots`, `reservations` (each with what it has `reserved`) and
# `num_waiting`. Requests are admitted in the order of `requests`, so the first in the queue is known.

# %% exercise="4.9"
enough = {}
# For "first", "best" and "worst": the share of the snapshots in in_full_pool["first fit"] and so on
# in which all free slots together are at least as many as the first in the queue asks for, for
# prompt and output.
# For example: enough["first"] = ...
### BEGIN SOLUTION
for rule in ("first", "best", "worst"):
    num_enough = 0
    for snapshot in in_full_pool[f"{rule} fit"]:
        head = requests[len(requests) - snapshot.num_waiting]
        num_enough += free_slots(snapshot) >= head.prompt_tokens + head.output_tokens
    enough[rule] = num_enough / len(in_full_pool[f"{rule} fit"])
### END SOLUTION

# %% check="4.9"
check("4.9", enough)

# %% [markdown] solution="4.9"
# **Explained.** Of `len(requests)` requests, admitted in order, the last `num_waiting` still wait, so the first of them is
# at `len(requests) - num_waiting`. Free is what nobody has reserved, written or not. Just as many as are asked for are
# enough: hence `>=`. That the free slots would be enough, and yet nobody was admitted, is what makes them fragmented.

# %%
for rule, share in enough.items():
    print(f"{rule:<6} fit: in {share:.1%} of the iterations")
if enough.get("first"):
    compare(predicted_enough, 100 * enough["first"], "iterations of 100")

# %% [markdown]
# In more than eight of ten iterations enough is free. The intuition "it waits, so memory must be full" is wrong. Then who
# waits there, and beside what?

# %%
holes = [sorted(hole_sizes(moment)) for moment in moments]
largest = sum(sizes[-1] for sizes in holes if sizes) / len(moments)
others = [size for sizes in holes for size in sizes[:-1]]
head = sum(moment.needed for moment in moments) / len(moments)
mean_length = sum(r.prompt_tokens + r.output_tokens for r in requests) / len(requests)
print(f"{mean_free:,.0f} of {num_slots:,} slots are free: the largest hole has {largest:,.0f},", end=" ")
print(f"the {len(others) / len(moments):.1f} others {sum(others) / len(others):,.0f} each")
print(f"a request asks for {mean_length:,.0f} slots; the first in the queue for {head:,.0f}")

# %% [markdown]
# The holes are not tiny. The largest would do for about four in ten of all requests, but *the one that waits is long*: a
# short one is let in as soon as it comes first, and the queue stops at the first that asks for more than the largest hole.
# All behind it wait with it, the short ones too. That is what external fragmentation costs: not that nothing fits, but
# that the next one does not.

# %% claims="In more than eight of ten iterations enough is free."
assert all(0.84 < share < 0.94 for share in enough.values())

# %% claims="The largest would do for about four in ten of all requests, but *the one that waits is long*"
fitting = sum(r.prompt_tokens + r.output_tokens <= largest for r in requests) / len(requests)
assert 0.34 < fitting < 0.45
assert head > 1.2 * mean_length and head > 1.3 * largest
assert head < mean_free

# %% [markdown]
# ### Explain what you measured
#
# In five to eight sentences: (a) With first fit and every length known, where do the slots go that paging puts to use?
# Name the two losses, each with your figure. (b) Which of the two does compaction give back, by the figures of section 6,
# and which not? Why do engines leave it all the same? (c) A colleague proposes best fit, "since it fragments least". What
# do this pool and the endless memory of section 3 say, and why do they disagree about worst fit?
#
# 5 points, about 12 minutes, marked by hand: 2 each for (a) and (b), 1 for (c).

# %% [markdown] answer="4.9" points=5
# **(a)** External fragmentation, 17% of all slots: free, and in nearly nine of ten iterations enough for the first in the
# queue, but in about five pieces. And reserving ahead, 10 to 12%: slots for tokens that come later. Paging has 0.6% for
# later and 3 to 4% that are free because the next request needs more than that. **(b)** Compaction gives back most of the
# external share: it falls from 17 to about 4%, and the used share rises from 71 to 73% to 82 to 84%. What is reserved
# ahead it cannot touch; that even grows (to 12 to 14%), since more requests run, so it stays 12 to 14 points behind
# paging. It costs less than 1% of the time, so it is not bandwidth: it wins not quite half of what a block table wins,
# takes a table anyway, needs the lengths in advance, and must wait for the steps and peers that hold addresses. **(c)** In
# the pool of 15,728 slots best fit uses less than a point more than first fit here (up to about four on other requests of
# the trace): hardly worth a choice. Worst fit looks terrible in endless memory (6% in use) because the largest hole is the rest of the memory, and
# ordinary in a full pool, where there is no such rest.
#
# **Mark scheme.** (a) 1 for external with its share, 1 for reserved ahead with its share. (b) 1 for what comes back with a
# figure and what does not, 1 for a reason that is not bandwidth. (c) 1 for the size of the difference and the reason why
# the experiments disagree.

# %% [markdown] criteria="4.9"
# - (a) Two losses, each with a figure of your own, and what is left of each under paging.
# - (b) Which loss compaction touches and which it cannot, with the shares before and after; one reason against it that
#   is not the time that it takes.
# - (c) How large the difference between the rules is in a pool that ends, and what the endless memory changes for worst
#   fit.

# %% [markdown]
# ### An open problem: an allocator of your own (stretch)
#
# The malloc lab of *Computer Systems: A Programmer's Perspective* (Bryant and O'Hallaron) grades allocators by one index
# for memory and speed. So does this exercise: up to 75 for utilisation and 25 for speed. (The lab's handout weighs them 60 and 40. A
# KV cache has milliseconds to spare and no memory.) 300 requests with lengths from the trace come and go, 40 at a time, in
# a memory without limit; that is played three times. In all, your allocator may compute for 10 s; the check takes
# about 3 s where yours is as fast as the course's. *Utilisation* is the most slots that were in use at a
# time, by the slots below the highest end of a block. *Speed* is full up to twice the CPU time of the course's own best
# fit, and half at four times. Points are earned in proportion, from an allocator that never reuses anything (no points) up to nine
# tenths of the way to best fit (all of them). There is no single right answer.


# %% exercise="4.10"
class MyAllocator:
    """Hands out runs of neighbouring slots, and takes them back."""

    def __init__(self, num_slots: int) -> None:
        """Start with all slots free; there are so many that nothing is ever refused."""
        ### BEGIN SOLUTION
        self.size_at: dict[int, int] = {}  # of each block
        self.hole_from = {0: num_slots}  # size of each hole, by where it starts
        self.hole_until = {num_slots: 0}  # where each hole starts, by where it ends
        self.by_size = [(num_slots, 0)]
        ### END SOLUTION

    def allocate(self, size: int) -> int:
        """Return the first of `size` neighbouring slots, which were free and are now in use."""
        ### BEGIN SOLUTION
        _, offset = self.by_size[bisect_left(self.by_size, (size, 0))]
        hole = self.take_out(offset)
        if hole > size:
            self.put_in(offset + size, hole - size)
        self.size_at[offset] = size
        return offset
        ### END SOLUTION

    def free(self, offset: int) -> None:
        """Take back the slots that `allocate` handed out at this offset."""
        ### BEGIN SOLUTION
        start, end = offset, offset + self.size_at.pop(offset)
        if start in self.hole_until:
            start = self.hole_until[start]
            self.take_out(start)
        if end in self.hole_from:
            end += self.take_out(end)
        self.put_in(start, end - start)

    def take_out(self, offset: int) -> int:
        size = self.hole_from.pop(offset)
        del self.hole_until[offset + size]
        del self.by_size[bisect_left(self.by_size, (size, offset))]
        return size

    def put_in(self, offset: int, size: int) -> None:
        self.hole_from[offset] = size
        self.hole_until[offset + size] = offset
        insort(self.by_size, (size, offset))
        ### END SOLUTION


# %% check="4.10"
check("4.10", MyAllocator)

# %% [markdown] solution="4.10"
# **Explained.** Best fit with holes that are kept three times: by start and by end, so that both neighbours are found in
# one step, and by size, so that the smallest that fits is found by bisection. The three must be kept in step, hence the
# two helpers. With 20 holes this hardly matters; with 20,000 it is the difference between microseconds and milliseconds.
# Real allocators go the same way: glibc's malloc keeps the size at both ends of a free piece (Knuth's *boundary tags*), and bins
# by size.

# %%
parts.table(lesson=4)

# %% [markdown]
# ## 9. In vLLM
#
# | here | in vLLM 0.33.0 |
# |---|---|
# | `allocate` of all four allocators | `BlockPool.get_new_blocks` in `vllm/v1/core/block_pool.py`: compares a number with the number of free blocks, and takes that many from the front of a queue. It never looks where they are. |
# | `free`, coalescing, buddies | `BlockPool.free_blocks`: to the front or to the back of that queue. A block has no neighbours. |
# | the block size | `CacheConfig.DEFAULT_BLOCK_SIZE = 16` in `vllm/config/cache.py`; what a backend's kernels support, such as `MultipleOf(16)` in `get_supported_kernel_block_sizes` of `vllm/v1/attention/backends/flash_attn.py`, narrows the choice, and `get_preferred_block_size` there sometimes raises it |
# | internal waste, to avoid external | `unify_kv_cache_spec_page_size` in `vllm/v1/core/kv_cache_planning.py`: layers of different kinds (full attention, sliding window) whose pages differ in size get equal ones, unless the layout lets them be packed. Attention layers get larger blocks or, where that does not come out even, padding; Mamba layers (they keep a state of fixed size, and no keys and values) get padding alone |
#
# **What production code does beyond this, and why.**
#
# - As a rule it keeps one pool for all kinds of layers (`free_blocks` knows that there can be others). Two pools of pages of different size would be two kinds of memory
#   of which one can be empty while the other is full: external fragmentation again. Padding wastes a little inside each page, and
#   any free page serves any layer.
# - It has a reason of its own why memory must not move: `vllm/config/vllm.py` refuses to start with a KV connector (which carries
#   KV to other machines, or to CPU memory) and PyTorch's `expandable_segments` (in `PYTORCH_CUDA_ALLOC_CONF`) together, since that allocator may remap addresses
#   to other physical pages, and the network card's registrations would point at the old ones. (With vLLM's own
#   `CuMemAllocator` for the cache, the two go together.)
# - What lies outside the cache, activations and workspaces, still comes from a classical allocator: PyTorch's caching
#   allocator, which rounds sizes, splits and joins blocks, and does fragment.

# %% [markdown]
# ## 10. Quiz
#
# Practise in the widget first: it says at once what each choice means. Then write your letters into the cell below it,
# which is what counts. There are ten questions, a point each; eight right, 80%, is a pass.

# %% quiz="4"

# %% [markdown]
# ## 11. Interview corner
#
# Answer aloud, in two minutes each, before you unfold what a strong answer holds.

# %% [markdown] interview="4"

# %% [markdown]
# ## 12. Takeaways
#
# - External fragmentation is free memory in the wrong pieces. In the queue of this lesson, with every length
#   known, a sixth of a contiguous pool was free on average, in nearly nine of ten iterations enough for the request that
#   waited: a long one.
# - Which hole is chosen hardly matters in a pool of 15,728 slots: contiguity costs more than twenty points of use, the
#   choice under five, for conversations. Under first fit and best fit, holes settle near half the
#   number of blocks, because of who comes and goes.
# - Buddies are found by one XOR, and joined level by level. The price is rounding: more than a quarter of what is handed out.
# - Blocks of one size leave internal waste only, $(B - 1)/2$ slots for each request where remainders are equally likely:
#   a share that is small for long requests and large for short ones.
# - For memory's sake blocks would have one slot. Kernels and the host pull upwards, the last block and shared prefixes
#   downwards. In the paper's measurement, in which nothing was shared, 16 did well on long and on short requests.
# - Compaction would be cheap. It wins not quite half of what paging wins, since what is reserved ahead stays reserved, and the table
#   that it takes makes it unnecessary.
#
# **Lesson 5 needs** none of these allocators, and all of what they lead to: from now on memory is a number of free
# blocks, and whether a request fits is a comparison. What is then left to decide is *who* runs, in every single step.

# %% [markdown]
# ## Appendix
#
# <details><summary>Guided reading: where an allocator used to be (20 minutes)</summary>
#
# Open `vllm/v1/core/block_pool.py` and `vllm/v1/core/kv_cache_planning.py` at tag `v0.33.0` in
# [the repository](https://github.com/vllm-project/vllm).
#
# 1. When does `get_new_blocks(n)` raise an error? Which of the failures of this lesson can it not have?
# 2. Read `unify_kv_cache_spec_page_size`. A model has full-attention layers with pages of 64 KiB and sliding-window layers
#    with pages of 48 KiB. Which page size do they get, and by what means? Which fragmentation is that, and which does it avoid?
# 3. In `free_blocks`, some blocks go to the front of the queue and some to the back. Does that have to do with
#    fragmentation?
#
# *What to find there.*
#
# 1. When fewer than n blocks are free, and for no other reason. It cannot fail beside enough free memory.
# 2. 64 KiB for all. 64 is no multiple of 48, so larger blocks do not come out even: the page is padded to 64 KiB
#    (attention layers may be. For multi-head latent attention an error is raised. The caller catches it and tries
#    `_try_get_full_allocation_fallback_groups`, which helps only beside sliding-window layers). A quarter of such a page is internal
#    fragmentation; it avoids that pages of one kind are of no use to the other, external fragmentation. (Layers of *one*
#    kind share a block table, so there unequal pages do no harm, and `get_kv_cache_groups` leaves them as they are.)
# 3. No. Blocks that hold a cached prefix go to the back, so that it survives for long (lesson 7). The others go to the
#    front, and what was used last is used next: "for better GPU locality". Any order serves any request.
#
# </details>
#
# <details><summary>What older material says differently</summary>
#
# - "First fit causes the fragmentation." For conversations, in the pool of 15,728 slots, the rule moves under five points;
#   contiguity and reserving ahead cost more than twenty. (For code of at most 2,048 tokens it moves more: up to ten on the real trace, some six on the synthetic one.)
# - "Best fit wastes least." In that pool, over stretches of 500 conversations, one from every 50th on, real and made up, it is mostly ahead of
#   first fit, by about four points at most, and in about a quarter of them behind. There are sequences for which it fails and first fit
#   does not: section 3 has one.
# - "Half as many holes as blocks, whatever the rule." Worst fit has fewer, and not by its exact fits: under it, blocks that
#   lie side by side tend to go at similar times, so not each is equally likely to be the next (the second step of the
#   derivation). Draw at random who goes next, and worst fit has its fifty holes to 100 blocks.
# - "Paging has no fragmentation." No external one between blocks of one size. Internal, it has: the last block.
# - "Compaction is too expensive on a GPU." See section 6. llama.cpp had it, and removed it in August 2025 (pull request
#   #15473) as no longer needed, since the data of a batch may now lie anywhere in the cache. vLLM does copy blocks between two steps
#   (`copy_kv_cache_blocks_inplace`: among others, in models with Mamba layers, for their states and where a prefix hit ends inside a block), but
#   into blocks that nobody reads yet. CUDA graphs are no obstacle: they read the places from tables that each step fills.
#
# </details>
