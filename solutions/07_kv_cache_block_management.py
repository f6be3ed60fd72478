# %% [markdown]
# # Lesson 7: Who holds it, what is in it, when does it go
#
# **Time** 3 hours and a quarter: 2½ for exercises, quiz and what you write, the rest to read, run and look; half an
# hour more for two stretches; 45 minutes in all if you only read · **Difficulty** ●○○ to ●●● · **Points** 100, of which
# 12 are the stretches
#
# Since lesson 2 your requests have taken blocks "from the free queue", and nobody has asked who keeps it. This lesson
# builds the keeper. It hands blocks out, lets requests share them, takes them back, and decides what is forgotten first,
# in steps whose cost does not grow with the pool. Then you write down its laws as code, and use them to find out who
# leaked a block and who freed one twice.
#
# **By the end you will have built** the block pool of the engine: the free queue, `get_new_blocks`, `touch`,
# `free_blocks`; and a checker that catches faulty pools. Stretches are a finder of leaks and the counters. In the map
# below, the box with a thick outline is this lesson's.
#
# **You need** lesson 2 (blocks), lesson 3 (block tables, and the notation of states) and lesson 4 (what blocks of one
# size leave to decide). Of lesson 5 you need that requests come and go while others run; of lesson 6, that a request
# may be **preempted**: it loses its blocks to others and starts over later. You need no GPU.

# %%
from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

from autograder.lessons.lesson07_hunt import play
from autograder.lessons.lesson07_pools import caught_by_the_sum
from autograder.lessons.lesson07_runs import counting, live, timing
from autograder.notebook import check, compare, explain, quiz, task
from course_lib import parts, viz
from course_lib.engine import LLM, EngineParts, SamplingParams
from course_lib.kv_cache.block_pool import BlockPool, KVCacheBlock, TwoPartFreeQueue
from course_lib.kv_cache.manager import KVCacheManager, PlainRequest
from course_lib.kv_cache.order_rules import ORDER_RULES, AllToTheBack
from course_lib.kv_cache.watch.invariants import LeakFinder, find_violations
from course_lib.kv_cache.watch.notation import StateLine, state_line
from course_lib.kv_cache.watch.recorder import Recorder
from course_lib.scheduling.scheduler import SchedulerConfig
from course_lib.simulation.cost_model import RooflineCostModel
from course_lib.simulation.simulation_parts import SimulationParts
from course_lib.simulation.simulator import Simulator
from course_lib.simulation.workload import load_azure
from course_lib.specs import GPUS, MODELS

# %%
viz.EngineMap(lesson=7)

# %% [markdown]
# ## 1. Warm-up
#
# Three questions on the lessons before. The check is immediate and earns no points.

# %% exercise="7.W1"
most_tokens = None  # tokens
### BEGIN SOLUTION
most_tokens = 2587 * 16
### END SOLUTION

# %% check="7.W1"
check("7.W1", most_tokens)
# %% exercise="7.W2"
ninth_slot = None
### BEGIN SOLUTION
ninth_slot = 5 * 4
### END SOLUTION

# %% check="7.W2"
check("7.W2", ninth_slot)
# %% exercise="7.W3"
empty_slots = None  # slots
### BEGIN SOLUTION
empty_slots = 40 * 7.5
### END SOLUTION

# %% check="7.W3"
check("7.W3", empty_slots)
# %% [markdown]
# ## 2. The problem, seen first
#
# A server runs Llama-3.1-8B on an RTX 4090, with 2,588 blocks of 16 slots. Block 0 is the **null block**: it stands for
# "no block", and nobody ever gets it, so 2,587 are of use. 500 conversations go through it. No two of their prompts share
# a token.

# %%
conversation = load_azure("conversation")
requests = conversation[:500]
lengths = [r.prompt_tokens + r.output_tokens for r in requests]
print(f"{len(requests)} requests from: {conversation.source}")
print(f"{sum(lengths):,} tokens, in {sum(-(-length // 16) for length in lengths):,} blocks of 16", end=" ")
print("if each were used once")

# %% [markdown]
# The last request has ended. The dashboard says *KV cache usage 0.0%*, which is right.
#
# **Predict:** in how many of the 2,587 blocks is there still something that a later request could use, if its prompt
# began with the same words? Write a number down. You will measure it in section 9.

# %%
predicted_cached = None  # your prediction: blocks

# %% [markdown]
# Look at a pool of nine blocks first, and blocks of four slots. The film below runs on the pool of *your* engine: the
# library's until you have built your own, then yours. The block tables are kept by the *manager*, which lesson 8 builds.
# It finds a full block by its **hash**, a number worked out from all tokens up to the block's end; here it is enough that
# equal beginnings have equal hashes. (Below, `get_computed_blocks` finds what is cached of a prompt, and `allocate_slots`
# takes the blocks that are missing, or returns None if there are too few.)
#
# In the notation, a star marks a block with a hash: it is **cached**, which says that its contents can be found. The
# bar in the free queue stands before the cached blocks at its end. Step through it with the arrow keys, and watch *usage*.

# %%
manager = KVCacheManager(9, block_size=4, block_pool=parts.get("BlockPool"))
prompts = {"A": list(range(12)), "B": list(range(100, 106)), "C": list(range(9)), "D": list(range(200, 217))}
story = {name: PlainRequest(name, tokens) for name, tokens in prompts.items()}


def serve(request: PlainRequest) -> None:
    """Find what is cached of a request, and make room for the rest."""
    found, num_found = manager.get_computed_blocks(request)
    if manager.allocate_slots(request, request.num_tokens - num_found, num_found, found) is not None:
        request.num_computed_tokens = request.num_tokens


with Recorder(manager) as recorder:
    serve(story["A"])
    serve(story["B"])
    manager.free(story["A"])
    manager.free(story["B"])
    serve(story["C"])
    serve(story["D"])
viz.pool_film(recorder.frames)

# %% [markdown]
# C's prompt is A's first nine tokens, and eight of them fill two blocks. When A and B have ended, usage is 0, and four
# blocks hold something that can still be found. D is handed blocks 3 and 4 with the others, and what A and B had left in
# them is lost; that 3 has a star again afterwards says that D has filled it with tokens of its own. So two different
# things are called "free" in a cache, and a dashboard shows one of them.
#
# ## 3. Three questions about a block
#
# A pool answers three questions about each block.
#
# 1. **Who holds it?** A count, `ref_cnt`: in how many block tables it is. Not who; that is in the tables.
# 2. **What is in it?** `block_hash`, or None: it is not full yet, or caching is off. An index leads from a hash to the block.
# 3. **When does it go?** A block that nobody holds stands in the **free queue**, once. The front is handed out next.
#
# A free block is not emptied. It keeps its hash until it is handed out to somebody else; then the hash comes off the
# block and out of the index, which is called **eviction**. Nothing is given up before its room is needed. And a block that
# is found by its hash and claimed leaves the queue, wherever it stands, and keeps its star.
#
# So the order of the free queue decides what is forgotten. Two things go into it:
#
# - *Where* a block goes that comes back. A block with a hash goes to the **back**, one without to the **front**: nobody
#   can ever claim what is in that one, so reusing it loses nothing.
# - *In which order* a request gives its blocks back: **its last block first**. A prefix is found from its beginning on,
#   so without its first block the others are of no use, and the beginning is what most requests share.
#
# Does it matter? A's prompt fills four blocks, B's one and a half. Both end. A stranger, S, takes four blocks, and then A's
# prompt comes again, with more behind it. **Predict:** how many of A's four blocks are found if everything is as above,
# but requests give their *first* block back first?

# %%
predicted_found = None  # your prediction: blocks, 0 to 4

# %% [markdown]
# Now compare with the third row. Move the control: when does it begin to matter?

# %%
viz.order_rules()

# %% [markdown]
# With a stranger who takes four blocks, *the rule* finds three of A's blocks, and *first block first* none, though three
# of the four are still in the cache: the one that is missing is the first. *All to the back* keeps block 6, which nobody
# can use, and gives up block 3 in its place. *All to the front* is a stack of requests: the blocks of B, which ended
# last, go first, in the order in which it gave them back.

# %% claims="With a stranger who takes four blocks, *the rule* finds three of A's blocks, and *first block first* none"
from course_lib.viz.pool.order_rules import outcome

assert outcome("", ORDER_RULES["the rule"], 4).hits == 3
assert outcome("", ORDER_RULES["first block first"], 4).hits == 0
assert str(outcome("", ORDER_RULES["first block first"], 4).end).count("*") == 4

# %%
compare(predicted_found, 0, "blocks")

# %% [markdown]
# This is *least recently used* without a clock: the queue itself remembers who came back when. And how long does a
# prefix live that nobody claims? Run the server of section 2, and look at two numbers:


# %%
def run(requests: Sequence, **own: type) -> tuple[Simulator, list[float], list[float]]:
    """Serve requests with Llama-3.1-8B on an RTX 4090, with your parts and those that are given.

    Return the simulation, for how many seconds each that was preempted was without blocks, and for
    how many the first block of each prefix stayed in the cache until it was handed out.
    """
    mine = {name: parts.get(name) for name in ("BlockPool", "CacheMetrics")} | own
    lives: list[float] = []
    mine["BlockPool"] = timing(mine["BlockPool"], lambda: simulator.clock, lives)
    simulator = Simulator(
        requests,
        SchedulerConfig(max_num_seqs=256),
        RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["rtx-4090"]),
        num_blocks=2588,
        enable_caching=True,
        parts=SimulationParts.of(mine),
    )
    lost_at: dict[str, float] = {}
    pauses: list[float] = []
    while True:
        now = simulator.clock
        if simulator.step() is None:
            return simulator, pauses, lives
        without = {r.request_id for r in simulator.scheduler.waiting if r.num_preemptions}
        pauses += [now - lost_at.pop(name) for name in lost_at.keys() - without]
        lost_at |= dict.fromkeys(without - lost_at.keys(), now)


simulator, pauses, lives = run(requests)
summary = simulator.result().summary()
free_on_average = (1 - summary["kv_usage_mean"]) * 2587
handed_out = sum(-(-length // 16) for length in lengths) / summary["makespan"]
print(f"on average {free_on_average:,.0f} blocks are free, and at least {handed_out:.0f} a second are handed out")

# %% [markdown]
# **Predict:** for how long does a prefix stay in the cache after its request has ended, in the median? Its blocks have
# just come in at the back, and everything in front of them goes first.

# %%
predicted_life = None  # your prediction, in seconds

# %% [markdown]
# If $F$ blocks are free on average and $\lambda$ blocks a second are handed out, then a block that comes in at the back
# waits until about $F$ others have left:
#
# $$T \approx \frac{F}{\lambda}$$

# %%
estimate, life = free_on_average / handed_out, sorted(lives)[len(lives) // 2]
usage, seconds = (simulator.result().steps.column(name) for name in ("kv_usage", "seconds"))
print(f"estimated from means: {estimate:.1f} s; measured: {life:.2f} s (median), {max(lives):.1f} s at most")
print(f"usage is above 90% for {seconds[usage > 0.9].sum() / summary['makespan']:.0%} of the time")
compare(predicted_life, life, "s")

# %% [markdown]
# The estimate is for a server that is evenly busy, and this one is not: it is nearly full for most of the time, and the
# mean of $F$ comes from the quiet rest. Most prefixes come back when few blocks are free, and are gone in a fraction of a
# second. Put in the $F$ and $\lambda$ of the moment, not of the whole run. By either figure, a chat user who reads the
# answer for half a minute before writing again finds nothing, as long as others keep coming.

# %% claims="it is nearly full for most of the time"
assert seconds[usage > 0.9].sum() > 0.6 * summary["makespan"]
assert ((1 - usage) * seconds)[usage <= 0.9].sum() > 0.5 * (1 - summary["kv_usage_mean"]) * summary["makespan"]

# %% claims="gone in a fraction of a"
assert life < min(0.5, estimate / 2)

# %% claims="By either figure, a chat user"
assert estimate < 6
assert max(lives) < 30

# %% [markdown]
# Work one out on paper. A request that *begins with* blocks of another claims those, and takes none of its own. If you want another task, call `task("7.1", seed=2)` and write that seed into your answer.

# %% exercise="7.1"
answer = {"seed": 1}
# Write answer["step 1"] = "free [...]  A: ..." and so on, for six steps.
### BEGIN SOLUTION
answer["step 1"] = "free [4 5 6 7 8]  A: 1* 2* 3"
answer["step 2"] = "free [6 7 8]  A: 1* 2* 3  B: 4* 5"
answer["step 3"] = "free [3 6 7 8 | 2* 1*]  B: 4* 5"
answer["step 4"] = "free [5 3 6 7 8 | 2* 1* 4*]"
answer["step 5"] = "free [5 3 6 7 8 | 4*]  C: 1* 2*"
answer["step 6"] = "free []  C: 1* 2*  D: 5 3 6 7 8 4"
### END SOLUTION

# %% check="7.1"
check("7.1", answer)

# %% [markdown] solution="7.1"
# **Explained.** Each release splits a request's blocks in two: the last one, if it is not full, goes to the front, and
# the others to the back, in the order in which they are given. C takes its blocks out of the queue, wherever they stand;
# the rest closes up, and the stars stay. D is handed what is in front, and one cached block, which loses its star.

# %% [markdown]
# ## 4. A queue with a middle
#
# A hit takes a block out of the middle of the free queue. A Python list has to look for it, and then move everything
# behind it. A `deque`, whose ends are cheap, has to look for it too. **Predict:** the pool has 100,000 free blocks.
# How many microseconds does it take to take one out of the middle of a list and put it at the end?

# %%
predicted_middle = None  # your prediction, in µs

# %%
blocks = [KVCacheBlock(block_id) for block_id in range(100_000)]
middle = blocks[50_000:50_050]


def microseconds(move: Callable, moved: Iterable) -> float:
    """Return how long a move takes, in the median: a pause of the machine in one of them is left out."""
    taken = []
    for each in moved:
        begun = time.perf_counter()
        move(each)
        taken.append(time.perf_counter() - begun)
    return 1e6 * sorted(taken)[len(taken) // 2]


def move_in(queue: list | deque) -> Callable[[KVCacheBlock], None]:
    """Return what moves a block to the end of a container."""
    return lambda block: (queue.remove(block), queue.append(block))


times_to_move = {
    "list": microseconds(move_in(list(blocks)), middle),
    "deque": microseconds(move_in(deque(blocks)), middle),
}
for name, taken in times_to_move.items():
    print(f"{name}: {taken:.0f} µs")
compare(predicted_middle, times_to_move["list"], "µs")

# %% [markdown]
# So long for each block of a hit; and a prompt may hit a hundred blocks. A **doubly linked list** does
# without the search. Each block knows its two neighbours: `prev_free_block` and `next_free_block` are fields of the block
# itself, so nothing is allocated either. To take a block out is to introduce its neighbours to each other.
#
# ```text
# before     ... ⇄ 1 ⇄ 2 ⇄ 3 ⇄ ...
# remove 2   ... ⇄ 1 ⇄ 3 ⇄ ...          1.next is 3, 3.prev is 1; 2.prev and 2.next are None
# ```
#
# Four links are written, however long the queue is. What of the ends, where a neighbour is missing? A **sentinel**, a block
# that is no part of the pool, stands between the back and the front, and makes a ring of the list. So every block in the
# queue has two neighbours, and no method needs a special case for the ends. In an empty queue the sentinel is its own neighbour. And
# a block outside of the queue has none: None in its links is how one sees that it is not queued.
#
# Write five methods; the others are there, and rest on yours. `insert_before` is the opposite of `remove`.
# `out_of_blocks` and `not_in_queue` are imported above the class: they return the errors to raise, and the sentinel's
# links are set already. In a failing case, `queue_line(obj)` is the queue as text. Below it there is a button: *Replay
# this case in the figure* shows step by step what should happen beside what your object does, the links of the ring
# among it, and marks the first state that differs.

# %% exercise="7.2" holes="remove,popleft_n,append_n,prepend_n,insert_before"

# %% check="7.2"

# %% [markdown] solution="7.2"
# **Explained.** `remove` and `insert_before` do all the work, the one undoing the other: two links of the block, one of
# each neighbour, and the number. To append is to insert before the sentinel, to prepend is to insert before the one behind
# it. `popleft_n` looks at the number first, so that a refusal
# changes nothing. `prepend_n` goes through its blocks from the last to the first: whoever is put in front last is first. To
# go from the first to the last and insert each before the *old* front is right as well.

# %%
Linked = parts.get("FreeKVCacheBlockQueue")
times_of_64 = {}
for name, make in (("linked", Linked), ("two containers", TwoPartFreeQueue)):
    queue = make(blocks)
    if name == "two containers":  # the middle of a pool's queue is its cached part
        queue = make([])
        queue.append_n(blocks)

    def move(block: KVCacheBlock) -> None:
        """Take a block out, and put it at the back."""
        queue.remove(block)
        queue.append_n([block])

    def move_64(put: Callable[[Sequence[KVCacheBlock]], None]) -> None:
        """Take 64 blocks from the front, and put them at an end."""
        put(queue.popleft_n(64))

    times_to_move[name] = microseconds(move, middle)
    for end, put in (("back", queue.append_n), ("front", queue.prepend_n)):
        times_of_64[name, end] = microseconds(move_64, [put] * 200)
    print(f"{name:<14} from the middle to the back: {times_to_move[name]:5.2f} µs; 64 taken and put", end=" ")
    print(f"at the back: {times_of_64[name, 'back']:4.1f} µs, in front again: {times_of_64[name, 'front']:4.1f} µs")

# %% [markdown]
# The last row is what the pool of this course runs on. A pool asks its queue for `popleft_n`, `append_n`, `prepend_n`
# and `remove`, and is handed the same blocks by either. *Two containers*: a list for the front part, which is a stack,
# and an `OrderedDict` for the back part, which is a doubly linked list with an index, written in C. From the middle both
# are fast. (For the second that is the middle of its back part. In its front part it has to search; but what requests
# claim out of turn are cached blocks, and those are at the back.) Take 64 blocks and put them in front again: in the
# linked list the interpreter sets the links of each, and in the front part they are one slice of a list. Those of the
# back part leave it and come into it one by one, as in the linked list. vLLM 0.33.0 runs the linked list, in Python.
# Which of the two is faster is less a question of the idea than of who interprets it.

# %% claims="From the middle both are fast."
assert min(times_to_move["list"], times_to_move["deque"]) > 20 * times_to_move["linked"]
assert min(times_to_move["list"], times_to_move["deque"]) > 20 * times_to_move["two containers"]

# %% claims="linked list the interpreter sets the links of each, and in the front part they are one slice of a list."
assert times_of_64["linked", "front"] > 5 * times_of_64["two containers", "front"]

# %% [markdown]
# ## 5. Hand out, share
#
# Now the pool itself. It has `blocks` (all of them, by id), `free_block_queue` (any queue with `popleft_n`,
# `append_n`, `prepend_n`, `remove` and a length), and `num_evictions`. `forget(block)` takes the hash off a block that has one, and
# out of the index. `foreign_block(block)` returns the error to raise for a block that the pool does not lend out: each
# block knows its pool, as `block.pool`, which is None for the null block. Your functions are methods of it, written one by one: `self` is the pool. In a failing case,
# `state_line(obj)` is the state as text; *held* are blocks in use.
#
# Every error comes before the first change. Whoever refuses half-way has taken blocks for nobody.

# %% exercise="7.3a"

# %% check="7.3a"

# %% [markdown] solution="7.3a"
# **Explained.** The queue refuses by itself if it is too short, and changes nothing then; only the negative number has
# to be caught. A block that is handed out will be overwritten, so whatever it held must not be found any more: `forget`
# knows that another block may hold the same, and lets that one be found from now on. Only a block that had a hash counts
# as an eviction.

# %% [markdown]
# A hit is the other way to get a block. It may be in use by somebody else, or free and cached; in both cases it has one
# holder more from now on.

# %% exercise="7.3b"

# %% check="7.3b"

# %% [markdown] solution="7.3b"
# **Explained.** A count of 0 says that the block is in the queue, so it is the only one that has to leave it. A block
# that is given twice is free the first time and in use the second, which the loop gets right by itself. `block.pool` is
# the pool that lends a block out, and None for the null block: one comparison refuses strangers and the null block alike.
# To look at all blocks before the first is changed takes a list, since an iterator can be gone through once only.

# %% [markdown]
# The two belong together, in this order: **touch first, then take.** A request hits blocks 1 and 2 and needs seven new
# ones. Eight blocks are free, so there seems to be room. (`cache_full_blocks` gives blocks their hashes, as the engine
# does when they are full; `get_cached_block` returns the block that is found by one.)

# %%
for order in ("touch, take", "take, touch"):
    pool = parts.get("BlockPool")(9)
    held = pool.get_new_blocks(7)
    pool.cache_full_blocks(held[:2], [b"first", b"second"])
    pool.free_blocks(held[::-1])
    hits = [pool.get_cached_block(block_hash) for block_hash in (b"first", b"second")]
    if order == "touch, take":
        pool.touch(hits)
        try:
            new = pool.get_new_blocks(7)
        except ValueError as error:
            print(f"{order}: {error}")
    else:
        new = pool.get_new_blocks(7)
        pool.touch(hits)
        print(f"{order}: {StateLine.of(pool, {'hits': hits, 'new': new})}")

# %% [markdown]
# The hits were among the eight, and cannot be had twice: the first line says so. In the second line the request is served,
# and block 2 is in its table twice, without its star: it reads, as the end of its prefix, what it writes itself.
#
# ## 6. Give back
#
# This exercise has the least scaffold and earns the most: a specification, and an empty function. Take your time for the
# list of what can be wrong with it before you write; the check has lives for many of them. (`double_free(block)` returns
# the error to raise for it, as `self.foreign_block(block)` does.)

# %% exercise="7.4"

# %% check="7.4"

# %% [markdown] solution="7.4"
# **Explained.** Three things in this order. *Refuse*: each block must be of this pool, and have at least as many holders
# as it is named times. `Counter` counts that in one pass; to ask `list.count` for each block would take time that grows
# with the square of their number. *Lower*: a block that still has a holder is done. *Queue*: those that arrived at 0, in
# two lists that keep the given order, each put at its end at once.
#
# The code above is the library's, made fast: if nobody else holds any of the blocks and none is cached, it puts all in
# front as they are, which saves time where caching is off. The plain version is as right: look through
# `Counter(blocks).items()` for what is to be refused; then one loop over the blocks, with `block.ref_cnt -= 1` and, at 0,
# `(front if block.block_hash is None else back).append(block)`; last `prepend_n(front)` and `append_n(back)`.

# %% [markdown]
# ### What must hold, and what breaks
#
# | what must hold | what a user sees when it does not |
# |---|---|
# | A block is either held or in the queue, and in the queue once. | Two requests own one block: wrong words, no error. |
# | `ref_cnt` is the number of block tables that the block is in. | Too low: freed under a reader. Too high: never free again. |
# | Hits are touched before new blocks are taken. | A request evicts its own prefix, and reads what it has just written. |
# | What is found by a hash holds what the hash says. | Another prompt's KV: a fluent answer to somebody else's question. |
# | A refusal changes nothing. | Each refusal leaks a little, and the server slows down over days. |
#
# ## 7. Laws as code
#
# Such a table is worth more if a machine reads it after every call. The obvious law is conservation: with $N$ blocks,
# the null block included,
#
# $$\text{free} + \text{held} = N - 1$$
#
# **Predict:** 14 faulty pools, each with one or two mistakes, are shown to a checker that knows this equation alone. How
# many does it catch?

# %%
predicted_caught = None  # your prediction, of 14

# %% [markdown]
# Write a checker that catches them all, and others: the check adds some that need more care, and some that it draws.
# `pool_violations(pool)` looks at a pool and returns a list of sentences, one for
# each thing that is wrong; in a pool that is in order, an empty list. What you write in the sentences is up to you.
# Go law by law, and run the check after each: every faulty pool that is caught earns its share. But it must spare what is
# only unusual; a checker that rejects a valid pool earns nothing.

# %% exercise="7.5"
def pool_violations(pool: BlockPool) -> list[str]:
    """Return one sentence for each law that a block pool breaks, or an empty list.

    - `pool.get_num_free_blocks()` is the length of the free queue.
    - The null block, `pool.null_block`, is never held, never in the queue, and has no hash.
    - Every other block of `pool.blocks` is either held (`ref_cnt` above 0) and not in
      `pool.free_block_queue`, or free (`ref_cnt` 0) and in it, once. No count is negative.
    - Each block in the index, `pool.cached_block_hash_to_block`, has the hash that it is found by.
    - Each hash on a block is in the index, and without `pool.enable_caching` no block has one.

    The order of the free queue is no law. Several blocks may have the same hash, of which one is in
    the index. The pool is only looked at.

    >>> pool = BlockPool(num_blocks=4)
    >>> len(pool_violations(pool))
    0
    >>> pool.blocks[2].ref_cnt = 1
    >>> len(pool_violations(pool))
    1
    """
    ### BEGIN SOLUTION
    queued = Counter(block.block_id for block in pool.free_block_queue)
    found, null, said = pool.cached_block_hash_to_block, pool.null_block, []
    if pool.get_num_free_blocks() != queued.total():
        said.append(f"{queued.total()} blocks are queued, not {pool.get_num_free_blocks()}")
    if null.ref_cnt or null.block_hash is not None or queued[0]:
        said.append("the null block is in use, cached or queued")
    for block in pool.blocks[1:]:
        if block.ref_cnt < 0 or queued[block.block_id] != (block.ref_cnt == 0):
            said.append(f"block {block.block_id}: count {block.ref_cnt}, queued {queued[block.block_id]}x")
        if block.block_hash is not None and (not pool.enable_caching or block.block_hash not in found):
            said.append(f"block {block.block_id} has a hash that it must not have")
    for block_hash, block in found.items():
        if block.block_hash != block_hash:
            said.append(f"block {block.block_id} is found by a hash that is not its own")
    return said
    ### END SOLUTION


# %% check="7.5"
check("7.5", pool_violations)

# %% [markdown] solution="7.5"
# **Explained.** To count how often each block is queued costs one pass, and turns the law of places into one comparison:
# `queued == (ref_cnt == 0)`, in which True counts as 1. A negative count needs a word of its own, since it is neither 0
# nor a holder. Index and blocks are two directions, and each has mistakes that the other does not see. What is *not*
# asked is as much a decision: the order, whether a cached block is held, whether two blocks hold the same.

# %% [markdown]
# The sum catches those in which something is missing or too many. It is silent where two mistakes cancel, and about
# hashes, and about a count below 0 of a block that is queued:

# %%
caught, of_all = caught_by_the_sum()
print(f"the sum catches {caught} of {of_all}")
compare(predicted_caught, caught, f"of {of_all}")

# %% [markdown]
# A pool that queues one block twice and loses another works on for a while, with the sum in order, until the one is handed
# out for the second time.
#
# ### A leak breaks no law
#
# And one mistake no checker of pools can see. Let 200 requests pass through a pool. Every tenth is aborted, because its
# user has closed the window, and whoever wrote the abort forgot to free.

# %%
leaky = KVCacheManager(2588, block_size=16, block_pool=parts.get("BlockPool"))
running: deque[PlainRequest] = deque()
for number, traced in enumerate(conversation[:200]):
    tokens = range(100_000 * number, 100_000 * number + traced.prompt_tokens + traced.output_tokens)
    request = PlainRequest(f"r{number}", list(tokens))
    while leaky.allocate_slots(request, request.num_tokens) is None:
        leaky.free(running.popleft())
    request.num_computed_tokens = request.num_tokens
    if number % 10 != 9:
        running.append(request)
for request in running:
    leaky.free(request)
print(f"all have ended; usage {leaky.usage:.1%}, violations: {parts.get('pool_violations')(leaky.block_pool)}")

# %% [markdown]
# Nobody runs, and a large part of the memory is in use. For the pool these blocks are held, which is a good state. Only
# who knows *the living* can tell, by holding the tables against them.
#
# ### Who leaks (stretch)
#
# Write what does that: `manager.block_tables()` returns the blocks of each request, by its id, in the order in which they
# were admitted. The exercise earns 6 points; without it, the next cell runs with the library's.

# %% claims="Nobody runs, and a large part of the memory is in use."
assert 0.3 < leaky.usage < 0.8
assert parts.get("pool_violations")(leaky.block_pool) == []
assert 0.97 < leaky.usage + leaky.stats().num_cached_blocks / 2587 <= 1

# %% exercise="7.6"

# %% check="7.6"

# %% [markdown] solution="7.6"
# **Explained.** Two kinds of leak. A table of somebody who has ended: its owner has a name. And a count that is higher
# than the number of places the block has in tables: somebody touched it, or took it, and never put it into a table. Their
# owner is nobody, and the number of missing releases is the difference, so a block may be named twice. A living request
# that shares a block with a dead one changes nothing: the dead one's count is still there.

# %%
leaks = parts.get("find_leaks")(leaky, [])
print(f"{len(leaks)} owners leak {sum(len(leak.block_ids) for leak in leaks):,} blocks:", end=" ")
print(", ".join(leak.owner for leak in leaks[:5]), "...")

# %% [markdown]
# Nine, nineteen, twenty-nine: the names tell where to look. (`LLM(..., debug=True)` checks the laws after
# every call of the cache manager, and looks for leaks after every step, with your `find_leaks` if you have one.)
#
# ### A double free has two victims
#
# The opposite mistake: A's blocks are given back when A ends, and once more when it is aborted. Your pool refuses that,
# as long as nobody holds the block. But what if somebody takes it between the two releases? This is your own pool:

# %%
laws = parts.get("pool_violations")
pool = parts.get("BlockPool")(4)
of_a = pool.get_new_blocks(1)
pool.free_blocks(of_a)
try:
    pool.free_blocks(of_a)
except ValueError as error:
    print(f"refused: {error}")
of_b = pool.get_new_blocks(1)
print(f"after a take:       {state_line(pool)}  {laws(pool)}")
pool.free_blocks(of_a)
print(f"after a release:    {state_line(pool)}  {laws(pool)}")
of_c = pool.get_new_blocks(1)
print(f"after a take:       {state_line(pool)}  {laws(pool)}")
print(f"B holds {of_b[0].block_id}, C holds {of_c[0].block_id}")

# %% [markdown]
# B and C write into one block, and your checker finds nothing in any line. You see in the code who is to blame; a pool sees the
# three states alone, in which nobody has a name. **Could it tell?** Look at the three lines before you read on. It cannot:
# B's count covers A's release, and a pool never knew whose the block was. That takes books on who took what and who gave
# it back. `LeakFinder` keeps them: it is told for whom the calls are made
# (`acting_for`), and lists under `misfreed` what somebody gave back who did not hold it. The same calls once more:

# %%
watched = parts.get("BlockPool")(4)
with LeakFinder(watched) as books:
    with books.acting_for("A"):
        of_a = watched.get_new_blocks(1)
        watched.free_blocks(of_a)
    with books.acting_for("B"):
        watched.get_new_blocks(1)
    with books.acting_for("A"):
        watched.free_blocks(of_a)
for wrong in books.misfreed:
    print(f"{wrong.owner} gave back {list(wrong.block_ids)} without holding it")

# %% [markdown]
# The culprit is neither B nor C, who share a block and notice it by wrong words, but A, who has long gone. That is why an
# engine frees a request in one place, by its name, and forgets it there. (Of LMCache, a store for KV caches, issue #5005,
# 2026, reports that a count which falls below zero is set back to zero, with a warning in the log, *and the memory is
# released again*; one of its allocators then hands one page out twice. A pool that refuses at least lets nobody do it twice in a row.)

# %% claims="B and C write into one block, and your checker finds nothing in any line."
assert of_b[0] is of_c[0]
assert laws(pool) == []
assert [leak.owner for leak in books.misfreed] == ["A"]

# %% [markdown]
# ### Counters (stretch)
#
# A dashboard shows usage and a hit rate. Write what they are worked out from: counters of lookups and of blocks, and
# the two shares. The exercise earns 6 points, and no later section needs it.

# %% exercise="7.7" holes="usage,hit_rate,record_lookup,record_usage"

# %% check="7.7"

# %% [markdown] solution="7.7"
# **Explained.** Usage divides by what can be used, one block less than there are; a pool of the null block alone has
# usage 0. A hit rate is a ratio of sums, not a mean of ratios: what prefill saves is tokens. Returns after a preemption
# are counted apart, since what they find they had computed before. Each method refuses before it counts.

# %% [markdown]
# ## 8. Bug hunt
#
# > **An upstream bug.** vLLM, pull requests #48017 (July 2026) and #51482 (August 2026). The code below is our own, and
# > makes the same mistake.
#
# With prefix caching off, no block ever has a hash. Then why sort the blocks that come back by their hashes? Somebody
# proposed to skip that: it is "a pure no-op". Here is a way to give blocks back, by their ids, as it was before:

# %% shows="autograder.lessons.lesson07_hunt:free_as_before"

# %% [markdown]
# And cleaned up:

# %% shows="autograder.lessons.lesson07_hunt:free_cleaned_up"

# %% [markdown]
# The test suite takes either of them as an argument:

# %% shows="autograder.lessons.lesson07_hunt:run_suite"
for free in (free_as_before, free_cleaned_up):
    print(f"{free.__name__}: {run_suite(free) or 'passes the suite'}")

# %% [markdown]
# Both pass. Write a trace that tells them apart: on a pool of nine blocks, a number takes so many blocks, a list of ids
# gives those back. `play(free, trace)` returns what each take got.

# %%
play(free_as_before, {"caching": True, "steps": [2, 1, [3, 1]]})

# %% exercise="7.8a"
exposing_trace = None  # {"caching": ..., "steps": [...]}
### BEGIN SOLUTION
exposing_trace = {"caching": False, "steps": [3, [3, 2, 1], 3]}
### END SOLUTION

# %% check="7.8a"
check("7.8a", exposing_trace)

# %% [markdown] solution="7.8a"
# **Explained.** The two conditions differ where a block has no hash and caching is off, which is every block there. The
# clean-up sends it to the back. Before, the blocks 3 2 1 come again at once; after it, 4 5 6 come, and a server goes round
# all its memory before it uses a block again. With caching on nothing changes, and there the suite looked at the order.

# %% [markdown]
# Why should anybody care which of two blocks without a prefix comes next? A comment in vLLM's `free_blocks` says "for
# better GPU locality" and gives no measurement of it; this course has none either. What #51482 reports is a crash: on one
# kind of accelerator (TPU v7x), servers stopped within minutes, and it took twenty runs or more to find out which
# change it was. What you can count is how much of the memory is touched, with caching off. **Predict:** 300 requests go
# through 5,999 blocks, and never need all of them at once. How many different blocks are handed out over time, if what
# comes back goes to the front?

# %%
predicted_used = None  # your prediction: blocks, of 5,999

# %%
def blocks_used(pool: type[BlockPool]) -> tuple[int, int]:
    """Return how many different blocks a run hands out, and how many are in use at most."""
    used: set[int] = set()
    in_use = [0]

    class Noting(pool):  # type: ignore[misc, valid-type]
        """A pool that notes which blocks it hands out."""

        def get_new_blocks(self, num_blocks: int) -> list[KVCacheBlock]:
            new = super().get_new_blocks(num_blocks)
            used.update(block.block_id for block in new)
            in_use.append(self.num_blocks - 1 - self.get_num_free_blocks())
            return new

    simulator = Simulator(
        conversation[:300],
        SchedulerConfig(max_num_seqs=256),
        RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-40gb"]),
        num_blocks=6000,
        parts=SimulationParts.of({"BlockPool": Noting}),
    )
    while simulator.step() is not None:
        pass
    return len(used), max(in_use)


for place, pool_class in (("front", parts.get("BlockPool")), ("back", AllToTheBack)):
    num_used, most = blocks_used(pool_class)
    print(f"to the {place}: {most:,} of 5,999 blocks are in use at most, {num_used:,} different ones over time")
    if place == "front":
        compare(predicted_used, num_used, "blocks")

# %% [markdown]
# To the front, it is a stack, and a stack reaches no deeper than it was ever needed: as many different blocks as were in
# use at the worst moment, and not one more. To the back, it is all of them.

# %% claims="as many different blocks as were in"
assert num_used == 5999 > most
of_the_stack, most_of_the_stack = blocks_used(parts.get("BlockPool"))
assert of_the_stack == most_of_the_stack

# %% [markdown]
# ### Judge two fixes
#
# The mend is the function as it was before. But two people have sent a repair of their own. Both pass the suite, and
# your trace.

# %% shows="autograder.lessons.lesson07_hunt:free_blocks_a"

# %% shows="autograder.lessons.lesson07_hunt:free_blocks_b"

# %% [markdown]
# In three to six sentences: which one would you merge, and why is the other one wrong? Give the calls and the state in
# which it goes wrong (in this course's engine `touch` shares a block with caching off as well, between the answers to one prompt), say
# which law your checker reports, and what a user sees in the end. Then say what was missing in the suite, so that it let
# the clean-up pass. You can try calls in a cell of your own.
#
# 8 points, about 12 minutes, marked by hand: 1 for the choice, 3 for a case with its state and the law, 2 for what a user
# sees and when, 2 for the suite.

# %% [markdown] answer="7.8" points=8
# B is right. A lowers all counts and then, with caching off, queues all blocks, whether somebody still holds them or not.
# On a pool of nine blocks without caching, take 2, touch block 1, and free [2, 1]: by A the state is
# `free [2 1 3 4 5 6 7 8]  held: 1`, by B `free [2 3 4 5 6 7 8]  held: 1`. The checker says of A's pool that block 1 is held
# and in the queue. The next two blocks that are handed out are 2 and 1, so a newcomer writes into the block that the
# other copy still reads: wrong words, no error, and in this engine only where a request asks for several answers. The suite looked at the
# order of the queue, and shared blocks, with caching on only. Whoever changes the branch for caching off has to pin down
# what happens there first: which ids are handed out next is behaviour, too.
#
# **Mark scheme.** 1 for B. 3 for a case: calls with a shared block and caching off (1), the state afterwards (1), the law
# that it breaks (1). 2 for two owners of a block, or the like (1), and that it shows only when somebody takes the block
# (1). 2 for: the order was tested with caching on only, or no test takes blocks after a release (1); shared blocks were,
# too (1).

# %% [markdown] criteria="7.8"
# - Which fix, and what the other one forgets to ask before it queues a block.
# - Calls that show it, with the state afterwards in the notation, and the law that is broken.
# - What a user notices, and when.
# - Which behaviour the suite never looked at.

# %% [markdown]
# ## 9. It runs in your engine
#
# The pool of `parts.get("BlockPool")` is put together from your methods. Let it live through random operations, with your
# linked queue in it and your checker behind each call:

# %%
mine = parts.get("BlockPool")(9, free_queue=parts.get("FreeKVCacheBlockQueue"))
print(dict(live(mine, parts.get("pool_violations"), 4000)))
print(state_line(mine), f" evictions: {mine.num_evictions}")

# %% [markdown]
# And text. Four prompts begin alike; the first has ended when the others come. Watch what your pool is asked for:

# %%
calls: Counter[str] = Counter()
beginning = "A block pool hands out blocks, takes them back, and keeps what is in them for as long as it can. "
prompts = [beginning + rest for rest in ("The free queue", "A prefix", "The last block", "Usage")]
greedy = SamplingParams(temperature=0, max_tokens=16)
llm = LLM(parts=EngineParts.of({"BlockPool": counting(parts.get("BlockPool"), calls)}))
texts = [output.outputs[0].text for part in (prompts[:1], prompts[1:]) for output in llm.generate(part, greedy)]
expected = [o.outputs[0].text for o in LLM(parts=EngineParts.reference()).generate(prompts, greedy)]
for name, times in calls.items():
    print(f"{name:<18} {times:3}")
print(f"the text of the library's parts: {texts == expected}; usage now: {llm.kv_cache_manager.usage:.1%}")
print(f"the end of the free queue: ... {state_line(llm.kv_cache_manager.block_pool)[-50:]}")

# %% [markdown]
# The three that came later claimed the block of the common beginning instead of computing it, and the text is the same.
# (The beginning is longer than one block and shorter than two.) When all have ended, every block is back: usage is 0. The
# blocks with a star stand at the end of the queue, and the common one among them.

# %% claims="The three that came later claimed the block of the common beginning instead of computing it, and the text is the same."
assert texts == expected
assert calls["blocks claimed"] == 3
assert calls["free_blocks"] == 4
assert llm.kv_cache_manager.usage == 0

# %% [markdown]
# ### Measure: an idle cache
#
# Back to the server of section 2. `stats` is what its dashboard knows after the last request: `usage`,
# `num_cached_blocks`, `hit_rate`, `queried_tokens` and `hit_tokens` (lookups of requests that came for the first time),
# `preempted_queried_tokens` and `preempted_hit_tokens` (lookups of requests that came back after a preemption). A hit rate
# is to say how much work the prompts of users have in common; `hit_rate` is worked out from the first pair alone.

# %%
stats = simulator.scheduler.kv_cache_manager.stats()
print(f"evictions: {stats.evictions:,}; preemptions: {summary['num_preemptions']}", end="; ")
print(f"most blocks ever in use: {stats.high_water:,}; hit rate: {stats.hit_rate:.1%}")

# %% exercise="7.9"
measured = {}
# Four shares, 0 to 1: "usage"; "cached", of the blocks that can hold something; "found, of all",
# of the tokens of all lookups; "found, after a preemption", of the tokens of the lookups after one.
### BEGIN SOLUTION
measured["usage"] = stats.usage
measured["cached"] = stats.num_cached_blocks / 2587
all_found = stats.hit_tokens + stats.preempted_hit_tokens
measured["found, of all"] = all_found / (stats.queried_tokens + stats.preempted_queried_tokens)
measured["found, after a preemption"] = stats.preempted_hit_tokens / stats.preempted_queried_tokens
### END SOLUTION

# %% check="7.9"
check("7.9", measured)

# %%
for name, share in measured.items():
    print(f"{name:<25} {share:7.2%}")
compare(predicted_cached, stats.num_cached_blocks, "blocks")
print(f"who was preempted was without blocks for {sorted(pauses)[len(pauses) // 2]:.2f} s (median);", end=" ")
print(f"a prefix is gone after {life:.2f} s (median)")

# %% [markdown]
# Usage is zero, and nearly every block holds something. And though no two prompts share a token, a tenth or more of what
# was looked up was found: of what the preempted looked up, most.

# %% claims="Usage is zero, and nearly every block holds something."
assert stats.usage == 0
assert stats.num_cached_blocks > 0.99 * 2587
assert stats.hit_tokens == 0

# %% claims="a tenth or more of what"
found_of_all = stats.preempted_hit_tokens / (stats.queried_tokens + stats.preempted_queried_tokens)
assert 0.1 < found_of_all < 0.15
assert len(pauses) == summary["num_preemptions"] and sorted(pauses)[len(pauses) // 2] < 0.6 * life
assert 0.6 < stats.preempted_hit_tokens / stats.preempted_queried_tokens < 0.9

# %% [markdown]
# ### Explain what you measured
#
# In four to six sentences: (a) Why is nearly every block cached while usage is 0, and what is different with the others?
# (b) Whose are these hits, why do they find anything after a preemption, and why does vLLM keep them out of its hit rate?
#
# 6 points, about 10 minutes, marked by hand: 2 for (a), 4 for (b).

# %% [markdown] answer="7.9" points=6
# (a) Usage counts blocks with holders, and nobody runs. Freeing does not empty: a full block keeps its hash until it is
# handed out again, and tens of thousands of full blocks have gone through 2,587. Not cached are the one or two blocks at the
# front that were not full when their request ended; with each request such a block is used again first, so they stay few.
# (b) The preempted requests' own: 104 preemptions on the real trace, 74 on the synthetic one. A request that is preempted
# frees its blocks, with their hashes, to the back of the queue. It comes back after 0.16 s (0.11 s) in the median, and
# a prefix is gone after 0.34 s (0.28 s), so most are still there: 13% (10%) of all tokens looked up. It saves
# recomputation, but nothing that was not thrown away before; mixed into the hit rate it would look as if users shared
# prompts, and would rise the more the server is overloaded. At first admission the rate is 0.
#
# **Mark scheme.** (a) 1 for lazy eviction, 1 for the blocks that are not full. (b) 1 for preempted requests and their own
# blocks, 1 for blocks that were freed with their hashes and not yet handed out, 1 for the time that is shorter than a
# prefix lives or for the figure, 1 for why they are kept apart.

# %% [markdown] criteria="7.9"
# - (a) What freeing changes in a block and what it leaves, with your figure; which blocks never have a hash.
# - (b) Who looks up for the second time, where their blocks were meanwhile, with your figures; what a hit rate is for.

# %%
parts.table(lesson=7)

# %% [markdown]
# ## 10. In vLLM
#
# | here | in vLLM 0.33.0 (`vllm/v1/core/`) |
# |---|---|
# | `FreeKVCacheBlockQueue` | the same name in `kv_cache_utils.py`, with two fake blocks at the ends in the place of one sentinel |
# | `get_new_blocks`, `touch`, `free_blocks` | the same names in `block_pool.py`; the order rule is two lists in `free_blocks` |
# | `forget` | `_maybe_evict_cached_block` in the same file |
# | the refusal of a double free | none: `free_blocks` lowers the count below 0, and an `assert block.ref_cnt == 0` in `get_new_blocks` fails when somebody takes the block, unless a hit in between has brought the count back to 0 |
# | the refusal of the null block | `touch` and `free_blocks` pass over it: tables of sliding-window layers can hold many of it |
# | returns counted apart | `PrefixCacheStats.record` in `vllm/v1/metrics/stats.py`, `preempted_queries` and `preempted_hits`; who calls it decides (`num_preemptions > 0`, in `kv_cache_manager.py`) |
#
# Production code does more than this. Where a KV connector fills blocks from elsewhere while more than one step is under
# way, vLLM does not always free at once: such a step may still write into the blocks of a request that has ended, so
# `deferred_frees` in `sched/scheduler.py` holds them back until the step is over. And with `--kv-cache-metrics` it
# measures on a sample of blocks how long contents live (`kv_cache_metrics.py`). A lifetime counts from the allocation
# there, the $T$ of section 3 from the release; both are worth a look when a hit rate is low.

# %% [markdown]
# ## 11. Quiz
#
# Practise in the widget first: it says at once what each choice means. Then write your letters into the cell below it,
# which is what counts. There are ten questions, a point each; eight right, 80%, is a pass.

# %% quiz="7"

# %% [markdown]
# ## 12. Interview corner
#
# Answer aloud, in two minutes each, before you unfold what a strong answer holds.

# %% [markdown] interview="7"

# %% [markdown]
# ## 13. Takeaways
#
# - A pool knows of each block how many hold it, what is in it, and, if nobody holds it, its place in one queue. Usage
#   speaks of the first alone: 0% with a cache full of prefixes is the normal state of an idle server.
# - Freeing empties nothing. A block is evicted when it is handed out, and the order of the queue decides which: what
#   nobody can claim first, then the longest unused, each prefix from its end.
# - Links in the blocks make every move constant in the length of the queue. Who interprets the links decides how fast it
#   is.
# - Touch, then take. Refuse, then change.
# - A sum that is right proves little, and a checker of pools sees neither a leak nor who was robbed: that takes the list
#   of the living, and books on who took what.
# - Which block comes next is behaviour. A clean-up that changes it is no clean-up.
#
# **Lesson 8 needs** all of this pool. It says where hashes come from, finds the longest prefix that is cached, and lets
# requests share blocks into which they still write.

# %% [markdown]
# ## Appendix
#
# <details><summary>Guided reading: the pool in production (20 minutes)</summary>
#
# Open `vllm/v1/core/block_pool.py` and `vllm/v1/core/sched/scheduler.py` at tag `v0.33.0` in
# [the repository](https://github.com/vllm-project/vllm).
#
# 1. In which line does a double free come to light, and when? How can it get past that line?
# 2. Read `free_blocks`. Under which condition does a block go to the front? Compare with the two fixes of section 8.
# 3. Where is `defer_block_free` set, and what are the two things that have to come together?
# 4. What does `reset_prefix_cache` do to the order of the free queue?
#
# *What to find there.*
#
# 1. In `get_new_blocks`, `assert block.ref_cnt == 0`: at the earliest when somebody is handed the block, which may be long
#    after, and in another request's step. The count was −1 since the second release. If a request *hits* the block first,
#    `touch` takes −1 for held: it leaves the block in the queue and makes the count 0, and the next one who is handed it
#    passes the assertion. Then two requests have it, and the count says one. The assertion fails, if at all, only when all
#    of them have given the block back and it is handed out once more; until then there are wrong words, and no error.
# 2. `block.block_hash is None or not self.enable_caching`. It is fix B.
# 3. In the scheduler's constructor: more than one batch may be in flight, and the KV connector is a consumer, which fills
#    blocks that are allocated. With either alone it stays False.
# 4. Nothing. After days of traffic the queue is in no order of ids, and new requests get blocks from all over memory.
#    Issue #40244 (2026) asks for a way to restore it, for training runs that reset the cache between rounds. Whether the
#    order costs anything is open there: its author found the slowdown hard to reproduce on a later version.
#
# </details>
#
# <details><summary>What older material says differently</summary>
#
# - "Freed blocks go to the tail of the queue." In `free_blocks` those with a hash do, and the others go to the front.
#   (The documentation in the class of vLLM's queue, `kv_cache_utils.py`, line 267, still describes the tail alone.)
# - "Evict by a timestamp" (vLLM's first prefix cache kept one for each block). The queue's order does it.
# - "The cache is full, so requests must wait." Cached blocks that nobody holds are free blocks.
#
# </details>
