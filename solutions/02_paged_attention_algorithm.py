# %% [markdown]
# # Lesson 2: Attention over memory in pieces
#
# **Time** 3 hours and a half (a little over 2½ for exercises, quiz and what you write, the rest to read, run and look),
# and 25 minutes more for the stretch; 45 minutes for the whole lesson if you read it and do no exercise ·
# **Difficulty** ●○○ to ●●● · **Points** 100, of which 8 are a stretch, and 23 need Triton, which the course installs on
# Linux (also without a GPU)
#
# Lesson 1 found out that a KV cache in one piece wastes most of the memory. The way out is to give a request its
# memory in blocks that may lie anywhere. But attention is one softmax over *all* tokens of a request. In this lesson
# you take it apart, block by block, put it together again in any order, and find that nothing is lost.
#
# **By the end you will have built** attention through a block table, which is called PagedAttention (Kwon et al., SOSP
# '23): in PyTorch, with which your engine generates text at the end of this lesson, and the step at the heart of the
# Triton kernels that do the same on a GPU. The sums that let it be done in one pass are older: the **online softmax**
# (Milakov and Gimelshein, 2018; for attention Rabe and Staats, 2021). In the map below the boxes of what you build have
# a thick outline, and an arrow means "uses".
#
# **You need** lesson 1: the KV cache, blocks, query heads and KV heads, memory-bound work. You need no GPU.
#
# **How this notebook works.** As lesson 1: write below `# YOUR CODE HERE`, run the cell with `check(...)`, and read what
# it says. `explain("2.1")` shows the solution afterwards. Write down your predictions, though they earn no points.

# %%
from __future__ import annotations

import functools
import inspect
import math
import random
from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from autograder.notebook import check, compare, explain, quiz
from course_lib import parts, viz
from course_lib.attention import PagedBatch, SoftmaxState, dense_attention, triton_state
from course_lib.attention.backends.guard import bounds_guard
from course_lib.attention.dense import require_heads, widened
from course_lib.attention.paged import gather
from course_lib.engine import LLM, EngineParts, SamplingParams
from course_lib.kv_cache import FirstFitAllocator
from course_lib.kv_cache.reservation import RESERVATIONS, Snapshot, replay_contiguous, replay_paged
from course_lib.simulation.workload import load_azure, lognormal_requests
from course_lib.specs import GPUS, MODELS, GiB

torch.set_num_threads(1)  # these tensors are small: several threads would wait for each other

# %%
viz.EngineMap(lesson=2)

# %% [markdown]
# ## 1. Warm-up
#
# Three questions on lesson 1. Answer in the cell; the check is immediate and earns no points.

# %% exercise="2.W1"
num_blocks = None  # blocks
### BEGIN SOLUTION
num_blocks = (1000 + 15) // 16
### END SOLUTION

# %% check="2.W1"
check("2.W1", num_blocks)
# %% exercise="2.W2"
block_bytes = None  # bytes
### BEGIN SOLUTION
block_bytes = 16 * 128 * 1024
### END SOLUTION

# %% check="2.W2"
check("2.W2", block_bytes)
# %% exercise="2.W3"
num_requests = None  # requests
### BEGIN SOLUTION
num_requests = 15_728 // 2048
### END SOLUTION

# %% check="2.W3"
check("2.W3", num_requests)
# %% [markdown]
# ## 2. The problem, seen first
#
# Operating systems solved this problem in the 1960s. A process sees one piece of memory, but it is made of **pages** of
# equal size, each of which lies in some **frame** of the real memory. A **page table** says in which. Any free frame
# will do for any page, so nothing has to be in one piece, and only the last page can be filled in part.
#
# Paging the KV cache is the same idea, and the words only change their names. A request sees its tokens in order. They
# are cut into **logical blocks**; each of these lies in some **physical block** of the cache; the request's **block
# table** says in which. Choose a token and follow it on both sides.

# %%
viz.paging_analogy()

# %% [markdown]
# The figure says where the comparison ends. Block 0, which is crossed out on the right, is the **null block**: no
# request's tokens are ever put there, so that a table can name it where it has nothing to name (section 9 has a use of
# it). Attention itself neither knows nor needs that rule: to the functions of this lesson block 0 is a block like any
# other.
#
# So memory can be handed out in blocks. Now a decode step needs attention over the whole request, and PyTorch's usual
# function for that, `scaled_dot_product_attention`, wants its keys, and its values, as one tensor, token after token.
# The simplest way is to copy the blocks side by side, and to attend over the copy.
#
# **Predict:** many requests are decoded at once, so no cache of the GPU holds anything until it is used again. If
# attention could read keys and values where they are, their bytes would cross the memory bus once. How often do they
# cross it if they are copied first?

# %%
predicted_crossings = None  # your prediction: crossings

# %%
compare(predicted_crossings, 3, "crossings")

# %% [markdown]
# Once to be read by the copy, once to be written, and once to be read by attention. (Section 6 counts them.) A decode
# step is memory-bound: the time of attention is the time to read the KV cache. To copy first is three times that, in
# each layer, for each token. So attention has to learn to read blocks where they lie. What stands in the way is the
# softmax, which wants all scores before it gives the first weight. (vLLM's first kernel kept them all.)

# %% [markdown]
# ## 3. A softmax that does not overflow
#
# A token's query $q$ gets a score with each key, $s_i = q \cdot k_i / \sqrt d$, where $d$ is `head_dim`. The output
# is the average of the values with weights that add to 1:
#
# $$o = \sum_i w_i v_i, \qquad w_i = \frac{e^{s_i}}{\sum_j e^{s_j}}$$
#
# Computed as it is written, this fails early. The largest float32 is about $3.4 \cdot 10^{38} = e^{88.7}$, so
# a score of 89 makes infinity, and infinity over infinity is NaN, *not a number*. In float16 a score of 11.1 is enough.
#
# **Predict:** a row of scores is 1,000 and 999. What is the weight of the first?

# %%
predicted_weight = None  # your prediction: between 0 and 1

# %%
compare(predicted_weight, 1 / (1 + math.exp(-1)), "")
as_written = torch.tensor([1000.0, 999.0]).exp()
print("as it is written:", as_written / as_written.sum())

# %% [markdown]
# Only differences count: a score that is higher by 1 weighs $e$ times as much, whatever the scores are. So any number
# may be subtracted from a whole row. The best choice is the one for which the largest exponent is 0.

# %% exercise="2.1"

# %% check="2.1"

# %% [markdown] solution="2.1"
# **Explained.** $e^{s_i - m} / \sum_j e^{s_j - m}$: the factor $e^{-m}$ stands above and below, and cancels. With $m$
# the largest score of the row, no exponent is positive, so nothing overflows; the largest weight before the division is
# exactly 1, so the sum is at least 1 and the quotient is sound. Scores far below $m$ get a weight of 0, which is what
# theirs is to the precision of the type. So does a score of −inf: that is how a mask hides a token. `keepdim=True`
# keeps the row's own maximum beside the row.

# %% [markdown]
# ## 4. Three numbers travel
#
# Subtracting the maximum seems to make things worse for us. Somebody who reads block 7 cannot know the largest score of
# all blocks. But nobody has to know it at once.
#
# Take a query whose scores with two keys are 2 and 1, and values 10 and 20 (numbers here, vectors in earnest). Whoever
# has seen only these keeps three things: the largest score $m$, the sum of the weights $l$, and the sum of the weighted
# values $acc$, both relative to $m$:
#
# $$m = \max_i s_i \qquad l = \sum_i e^{s_i - m} \qquad acc = \sum_i e^{s_i - m}\, v_i$$
#
# Here $m = 2$, $l = 1 + e^{-1} = 1.3679$, $acc = 10 + 20\, e^{-1} = 17.3576$. Attention over these two keys alone would
# be $acc / l = 12.689$. We call $(m, l, acc)$ the **state** of the softmax. In the library it is a `SoftmaxState`, with
# the fields `max_score`, `denominator` and `numerator`.
#
# A second worker has two other keys of the same query, with scores 3 and 0 and values 30 and 40. Its state is
# $(3,\ 1.0498,\ 31.9915)$, and its output $30.474$.
#
# **Predict:** what is the attention over all four keys? It must lie between 12.689 and 30.474.

# %%
predicted_output = None  # your prediction

# %%
four_scores, four_values = torch.tensor([2.0, 1.0, 3.0, 0.0]), torch.tensor([10.0, 20, 30, 40])
four_weights = parts.get("softmax")(four_scores)
compare(predicted_output, float(four_weights @ four_values), "")
print(f"the first two keys have {four_weights[:2].sum():.0%} of the weight")

# %% [markdown]
# Not the middle, 21.58, because the second worker's keys have two thirds of the weight. The outputs alone would not
# tell. The states do, and the next two exercises are to make and to merge them.
#
# ### Make a state
#
# A real query has one score with each key per *query head*, so `max_score` and `denominator` are [heads], and `numerator`
# is [heads, `head_dim`]. With grouped-query attention (lesson 1) neighbouring query heads share a KV head: with 8 query
# heads and 2 KV heads, heads 0 to 3 read KV head 0, and heads 4 to 7 read KV head 1.
#
# Three tools will be of use:
#
# - `widened(x)` turns 16-bit numbers into float32, so that sums over many keys do not lose their small terms;
# - `require_heads(queries, key, value)` raises the ValueError that is asked for if shapes do not fit; its queries are
#   [tokens, heads, `head_dim`], and `query[None]` is one token's in that shape;
# - `torch.einsum("kgd,nkd->kgn", a, b)` multiplies along equal letters and sums over those that the result lacks:
#   here over `d`, for each `k` (KV head), `g` (member of its group) and `n` (key). `query.unflatten(0, (KV, -1))` makes the
#   first dimension into two, neighbours staying together.

# %% exercise="2.2"

# %% check="2.2"

# %% [markdown] solution="2.2"
# **Explained.** `unflatten` puts head $h$ at KV head $h //$ group, because it cuts the row of heads into stretches, as
# neighbours share. (`unflatten(0, (-1, KV))` would deal them in turn, and give $h$ modulo KV.) The maximum and the sums are
# taken per head: each head is a softmax of its own. Nothing is divided. A quotient would be an average without
# its weight, and averages alone cannot be merged.

# %% [markdown]
# ### Merge two states
#
# Both sums of a state are relative to its own $m$. To add the sums of two states, bring them to a common maximum first.
# Relative to a larger one, the same weights are smaller numbers.
#
# A state that has seen no key is **empty**: $(-\infty, 0, 0)$. It will come up often, as the state before the first block,
# and from a worker for whom there was nothing left to do. Merged with any state $A$ it must give $A$, as 0 does in a sum.
# Merged with another empty state it must stay empty; look at what $-\infty - (-\infty)$ is.

# %% exercise="2.3"

# %% check="2.3"

# %% [markdown] solution="2.3"
# **Explained.** $e^{s_i - m_A} \cdot e^{m_A - m} = e^{s_i - m}$: one factor brings a whole sum to another maximum,
# without looking at its terms again. The larger maximum itself has the factor $e^0 = 1$. An empty state beside one that has
# seen something gets $e^{-\infty} = 0$ by itself. Two empty ones would get $e^{-\infty - (-\infty)}$, NaN, hence the
# `where`. It stands on `max_score` and not on `denominator`, but either will do.

# %%
make, merge = parts.get("partial_attention"), parts.get("merge_states")
one_query = torch.ones(1, 1)
four_keys = four_scores.reshape(4, 1, 1), four_values.reshape(4, 1, 1)
halves = slice(0, 2), slice(2, 4)
of_two, of_two_more = (make(one_query, *(each[half] for each in four_keys), 1.0) for half in halves)
merged = merge(of_two, of_two_more)
numbers = merged.max_score, merged.denominator, merged.numerator
print("merged:      m {:.0f}, l {:.4f}, acc {:.4f}".format(*(each.item() for each in numbers)))
print(f"output:      {merged.output().item():.4f}")
print(f"in one go:   {make(one_query, *four_keys, 1.0).output().item():.4f}")

# %% claims="Not the middle, 21.58, because the second worker's keys have two thirds of the weight."
middle = (of_two.output().item() + of_two_more.output().item()) / 2
assert round(middle, 2) == 21.58
assert 0.65 < four_weights[2:].sum() < 0.7
assert round(merged.output().item(), 4) == 24.7115

# %% [markdown]
# ### See it
#
# One query goes through the blocks of its request, with your two functions. The request has 11 tokens in blocks of 4
# slots, and its block table is 7, 3, 5. Step with the arrow keys. Watch *whose* sums shrink: in block 3 those of the new
# block, in block 5 all that was there before.

# %%
viz.attention_film(parts.get("partial_attention"), parts.get("merge_states"))

# %% [markdown]
# ### Any order, any grouping
#
# Merging is **commutative** ($A$ with $B$ is $B$ with $A$) and **associative** (it does not matter which of three are
# merged first), and the empty state is its **neutral element**: mathematicians call this a commutative monoid, and
# programmers know it from `sum` and `max`. So blocks may be visited in any order, and by any number of workers. Below,
# four workers share three blocks and merge what they have as a tree; the one without a block is idle. Change the
# grouping, and who has which block.

# %%
viz.merge_tree(parts.get("partial_attention"), parts.get("merge_states"))

# %% [markdown]
# In exact arithmetic all of them agree. In floating point a sum depends on its order, even if three states need not show
# it. Below are 1,000 random tokens, cut into pieces at random, and merged at random, with empty states thrown in.
#
# **Predict:** by about how much do the outputs of random orders differ, for outputs of a few hundredths: 1e-3, 1e-5 or
# 1e-7? (A float32 has 24 binary digits.)

# %%
predicted_difference = None  # your prediction


# %%
def merged_at_random(states: list[SoftmaxState], draw: random.Random) -> SoftmaxState:
    """Merge two states drawn at random, until one is left."""
    left = list(states)
    while len(left) > 1:
        a, b = (left.pop(draw.randrange(len(left))) for _ in range(2))
        left.append(merge(a, b))
    return left[0]


draw = random.Random(1)
torch.manual_seed(1)
query, keys, values = torch.randn(8, 64), torch.randn(1000, 2, 64), torch.randn(1000, 2, 64)
cuts = [0, *sorted(draw.sample(range(1, 1000), 62)), 1000]
pieces = [make(query, keys[a:b], values[a:b]) for a, b in zip(cuts, cuts[1:])]
pieces += [SoftmaxState.empty(query)] * 5
outputs = [merged_at_random(pieces, draw).output() for _ in range(20)]
in_one_go = dense_attention(query[None], keys, values)[0]
apart = (torch.stack(outputs).amax(dim=0) - torch.stack(outputs).amin(dim=0)).max().item()
furthest = max((output - in_one_go).abs().max().item() for output in outputs)
print(f"20 random ways to merge 68 states; outputs of about {in_one_go.abs().mean():.2f}")
print(f"largest difference of two orders: {apart:.1e}; to attention in one go: {furthest:.1e}")
compare(predicted_difference, apart, "")

# %% [markdown]
# That is rounding, some units in the last place of a float32. The algorithm is **exact**: it is not an approximation of
# attention, but attention in another order.

# %% claims="That is rounding, some units in the last place of a float32."
assert 1e-8 < apart < 1e-6
assert 0 < furthest < 1e-6

# %% [markdown]
# ## 5. Attention over blocks
#
# Now the cache itself. It holds keys in a tensor [blocks, slots of a block, KV heads, `head_dim`], and values in another
# one of the same shape. Token $p$ of a request is in its logical block $p // B$, where $B$ is the block size, and there in
# slot $p \bmod B$. Which physical block that is stands in the block table.
#
# The request of the film has 11 tokens, so its three blocks hold 4, 4 and 3 of them. The last slot of block 5 belongs to
# nobody. A new token will be written there in the next step; until then it holds whatever a former owner left, or what
# was in the memory before anybody wrote. Likewise the table may have more entries than the request needs. They mean
# nothing.
#
# ### What must hold, and what breaks
#
# | what must hold | what a user sees when it does not |
# |---|---|
# | All sums are relative to one maximum before they are added. | Fluent text that is slightly wrong, and no error anywhere. |
# | Where a request ends is said by its context length, not by its table or its blocks. | Answers that depend on who had the block before. |
# | A block is found through the table of its own request. | One user's text in another one's answer. |
# | Merging with the empty state changes nothing. | NaN as soon as two empty states meet, such as those of two idle workers. |
# | The division comes once, at the end, and not in each block. | Right answers while a request has one block, wrong ones from the second on. |
#
# Now the exercise with the least scaffold: a specification, and an empty body. You have all the pieces:
# `SoftmaxState.empty(query)` is the state that has seen nothing, and `state.output()` divides, numerator by denominator.

# %% exercise="2.4a"

# %% check="2.4a"

# %% [markdown] solution="2.4a"
# **Explained.** The loop runs over the blocks of the *context*, so spare entries of the table are never looked at.
# `min(block_size, context_len - start)` is `block_size` for all blocks but the last, and for that one the rest, which is
# never 0. The slice `[physical, :filled]` leaves the other slots unread: they take part in nothing, whatever they hold.
# The empty state makes the first block like any other. And the division comes last, in `state.output()`.

# %%
attend = parts.get("attend_blocks")
num_blocks, block_size, length = 130, 16, 1000
key_cache, value_cache = torch.randn(2, num_blocks, block_size, 2, 64).half()
decode_query = torch.randn(8, 64).half()
table = 1 + torch.randperm(65)[:63]  # block 0 is the null block

in_blocks = attend(decode_query, key_cache, value_cache, table, length)
side_by_side = [gather(cache, table, length) for cache in (key_cache, value_cache)]
copied_first = dense_attention(decode_query[None], *side_by_side)[0]
print(f"1,000 tokens in {len(table)} blocks; the first five are {table[:5].tolist()}")
difference = (in_blocks - copied_first).abs().max()
print(f"largest difference to attention over a copy, both rounded to float16: {difference:.1e}")

# %% [markdown]
# An engine decodes for many requests in one step, and hands them over as a `PagedBatch`: a row of `block_tables` for
# each sequence, padded to the same length, and how many tokens it has in `context_lens` (a tensor; `.tolist()` makes
# numbers of Python of it). The query of sequence $i$ is `query[i]`, as each of them has one new token. `check_decode`
# raises the ValueError that is asked for; it takes all of your arguments but the scale.

# %% exercise="2.4b"

# %% check="2.4b"

# %% [markdown] solution="2.4b"
# **Explained.** Each sequence is a call of its own: its query, its row of the table, its context length. Nothing is
# shared, so a GPU can do all of them at once, and that is what the grid of the next section is for.

# %% [markdown]
# ## 6. On the GPU
#
# The function above is right everywhere and slow everywhere: it is a loop in Python. On a GPU the loop moves into a
# **kernel**, a program that the GPU starts many times, once for each point of a **grid**. This course writes kernels in
# **Triton**, a language inside Python. Without a GPU, Triton's **interpreter** runs them on the CPU, slowly; this
# course's kernel checks take up to 8 s. They also compile yours for three GPUs, which needs none of them. **Where the
# course has no Triton** (Windows, macOS), leave out exercises 2.5 to 2.7 (*Run All* stops at the first kernel of
# yours; go on below).
#
# Here is a whole kernel. Each of its programs collects what one sequence has in a cache, through the block table; for
# brevity a slot holds one number and not a row.

# %%
state = triton_state()
print(f"Triton here: {state.mode}. {state.reason}")
if state.mode != "unavailable":
    import triton
    import triton.language as tl

    @triton.jit
    def collect(
        out, cache, tables, lengths, table_stride, BLOCK_SIZE: tl.constexpr, LANES: tl.constexpr
    ):
        seq = tl.program_id(0)
        position = tl.arange(0, LANES)
        valid = position < tl.load(lengths + seq)
        entry = tables + seq * table_stride + position // BLOCK_SIZE
        block = tl.load(entry, mask=valid, other=0)
        slot = block * BLOCK_SIZE + position % BLOCK_SIZE
        tl.store(out + seq * LANES + position, tl.load(cache + slot, mask=valid, other=0.0))

# %% [markdown]
# - `tl.program_id(0)` says which program this is, here the number of its sequence.
# - A program works on small arrays of **lanes**: `tl.arange(0, LANES)` are the numbers 0 to LANES − 1. Their sizes are
#   powers of two, known when the kernel is compiled. That is what `tl.constexpr` says.
# - A tensor arrives as the **address** of its first element. A **stride** says how far neighbours along one dimension
#   are apart: the table of sequence `seq` begins at `tables + seq * table_stride`.
# - `tl.load(addresses, mask=..., other=...)` reads only the lanes for which the mask is true.
#
# Let it run on the request of the film, 11 tokens in blocks 7, 3 and 5, and on one of 5 tokens in blocks 1 and 6. Slot
# 0 of the cache holds 100, slot 1 holds 101, and so on.
#
# **Predict:** a program has 16 lanes, and the first sequence 11 tokens. Slot 23, the last one of block 5, holds 123.
# What does the program store for lane 11?

# %%
predicted_lane = None  # your prediction

# %%
if state.mode != "unavailable":
    where = "cuda" if state.mode == "compiled" else "cpu"
    slots = torch.arange(100.0, 132.0, device=where)
    two_tables = torch.tensor([[7, 3, 5], [1, 6, 0]], device=where)
    two_lengths = torch.tensor([11, 5], device=where)
    collected = torch.full((2, 16), -1.0, device=where)
    collect[(2,)](collected, slots, two_tables, two_lengths, 3, BLOCK_SIZE=4, LANES=16)
    for row in collected.tolist():
        print(*(f"{number:3.0f}" for number in row))
    compare(predicted_lane, collected[0, 11].item(), "in lane 11")

# %% [markdown]
# The mask is false from lane 11 on, so neither the table nor the cache is read there, and `other` is what such a lane
# gets. Without the mask, lane 12 would read an entry that belongs to the next sequence.
#
# A context has more tokens than a program has lanes. So a program goes **tile** after tile: a tile is `TILE` tokens,
# several blocks at once, so that many loads are under way together. What it knows so far goes from tile to tile. Here
# that is a sum per lane, and the number behind the loop is the total of what a sequence has in the cache:

# %%
if state.mode != "unavailable":

    @triton.jit
    def add_up(
        out, cache, tables, lengths, table_stride, BLOCK_SIZE: tl.constexpr, TILE: tl.constexpr
    ):
        seq = tl.program_id(0)
        length = tl.load(lengths + seq)
        so_far = tl.zeros([TILE], tl.float32)
        for start in range(0, length, TILE):
            position = start + tl.arange(0, TILE)
            valid = position < length
            entry = tables + seq * table_stride + position // BLOCK_SIZE
            block = tl.load(entry, mask=valid, other=0)
            slot = block * BLOCK_SIZE + position % BLOCK_SIZE
            so_far += tl.load(cache + slot, mask=valid, other=0.0)
        tl.store(out + seq, tl.sum(so_far, axis=0))

    totals = torch.zeros(2, device=where)
    add_up[(2,)](totals, slots, two_tables, two_lengths, 3, BLOCK_SIZE=4, TILE=8)
    print("in tiles of 8:", totals.tolist(), " all at once:", collected.sum(1).tolist())

# %% claims="the number behind the loop is the total of what a sequence has in the cache"
if state.mode != "unavailable":
    assert totals.tolist() == collected.sum(1).tolist()

# %% [markdown]
# ### The first kernel
#
# It is `attend_blocks` in that loop, with the state of the softmax in the place of the sum. Each program takes one
# sequence and one KV head, and attends for all query heads of its group, so that the keys that they share are read
# once. So the scores of a tile are a matrix:

# %%
viz.decode_tile()

# %% [markdown]
# The names in the kernel, from above:
#
# - `member` is the row of each query head in its group.
# - `GROUP_LANES` is the number of rows: at least 16, because the tensor-core instructions that Triton makes of a product
#   of 16-bit numbers on A100, H100 and B200 take at least 16 rows of the first factor: fewer would be padded all the same.
# - `load_rows` reads a key, or a value, of `head_dim` numbers for each valid column. `.to(tl.int64)` is there because
#   a block's number times its stride may pass $2^{31}$.
# - `tl.dot(a, b)` multiplies matrices, in the type `DOT_DTYPE`; `tl.trans(k)` is the transpose, and `"ieee"` forbids
#   shorter factors. `tl.where(mask, a, b)` takes `a` where the mask is true, and else `b`.
# - `scale_log2` is the scale times $\log_2 e$. Weights are powers of 2, for which a GPU has an instruction, and
#   $e^s = 2^{s \log_2 e}$.
# - `softmax_step` adds a tile to the state. You write it in the next exercise.

# %%
if state.mode != "unavailable":
    from course_lib.attention import triton_kernels

    print(inspect.getsource(triton_kernels.load_rows.fn))
    print("def paged_decode_kernel:", inspect.getdoc(triton_kernels.paged_decode_kernel.fn))

# %% [markdown]
# Put the lines in order. The check takes about 5 s.

# %% exercise="2.5"

# %% check="2.5"

# %% [markdown] solution="2.5"
# **Explained.** What does not depend on the tile stands before the loop, what needs all tiles behind it. In the loop each
# line needs the one before: positions give entries of the table, those give blocks, blocks and slots give addresses, and
# keys give scores. The scores of lanes behind the context are set to −inf, so their weight is 0. And their keys and
# values are not read: `load_rows` gets `valid`, and puts zeros there.

# %% [markdown]
# A kernel that is right may still read too much. The guard under which checks run counts every byte that a lane asks
# for, so watch *your* kernel at work on the 1,000 tokens from above, in place and with a copy first. (The step in it is
# the library's until you have written yours.)
#
# **Predict:** each lane looks up its own block, in blocks of 16 slots. How many times as many bytes do the lanes of a
# program ask the table for as there are in the entries that it needs? That is: how many lanes ask for one entry?

# %%
predicted_repeats = None  # your prediction: lanes per entry


# %%
def traffic_of(copy_first: bool, num_splits: int = 1) -> dict[str, int]:
    """Return the bytes that decoding moves, by tensor: in place, or from a copy made before."""
    from course_lib.attention.backends.triton_ops import TritonOperations

    names = ("paged_decode_kernel", "softmax_step", "split_decode_kernel", "combine_splits_kernel")
    operations = TritonOperations({name: parts.get(name) for name in names})
    tables = [table.tolist()]
    with bounds_guard() as traffic:
        if copy_first:
            copies = [(block, 66 + place) for place, block in enumerate(tables[0])]
            operations.copy_blocks(key_cache, value_cache, copies)
            tables = [[target for _, target in copies]]
        batch = PagedBatch.of(tables, [length], num_blocks=num_blocks, block_size=block_size)
        operations.paged_decode(
            decode_query[None], key_cache, value_cache, batch, num_splits=num_splits
        )
    return dict(traffic.loaded + traffic.stored)


kv_bytes = 2 * length * 2 * 64 * 2  # keys and values, tokens, KV heads, head_dim, bytes
traffic: dict[str, dict[str, int]] = {}
if state.mode == "interpreted":
    traffic = {"in place": traffic_of(False), "copy first": traffic_of(True)}
for way, moved in traffic.items():
    total = sum(moved.values())
    print(f"{way}: {total:,} bytes, {total / kv_bytes:.4f} times the KV cache of the request")
    print("   " + ", ".join(f"{name} {count:,}" for name, count in sorted(moved.items())))
if traffic:
    asked_for, distinct = traffic["in place"]["block_tables"], 2 * 4 * len(table)
    print(f"of the table: {asked_for:,} bytes asked for, {asked_for / kv_bytes:.1%} of the KV;")
    print(
        f"   {distinct:,} in the entries, for 2 programs (one a KV head): {distinct / kv_bytes:.1%}"
    )
    compare(predicted_repeats, block_size, "lanes per entry")
else:
    print(f"Nobody counts bytes here: {state.reason}")

# %% [markdown]
# An entry is asked for by 16 lanes, one for each slot of its block (the last one by 8, as that block is half full). Lanes
# that ask for the same entry at the same time are neighbours here, and a GPU fetches it from memory once for all of
# them. So the lanes ask for 1.6% more than the keys and values, but only about 0.1% more crosses the bus: the price of the table.
# (The other 0.4% are the query and the output.) With a copy first the keys and values cross three times, and the copy
# moves whole blocks.

# %% claims="the lanes ask for 1.6% more than the keys and values, but only about 0.1% more crosses the bus"
if traffic:
    assert round(sum(traffic["in place"].values()) / kv_bytes, 4) == 1.0196
    assert 3.0 < sum(traffic["copy first"].values()) / kv_bytes < 3.05
    assert traffic["in place"]["block_tables"] == 4 * length * 2 == round(0.015625 * kv_bytes)
    assert 0.0005 < 2 * 4 * len(table) / kv_bytes < 0.0015
    assert round((traffic["in place"]["query"] + traffic["in place"]["out"]) / kv_bytes, 3) == 0.004

# %% [markdown]
# ### The step that all kernels share
#
# Every kernel of this course that attends calls `softmax_step`, for decodes as for prompts (lesson 11). It is
# `merge_states` with the state of the tile made on the way: per row, in a decode a query head, the sums so far are brought
# to the new maximum, and the tile's share is added. `tl.max(x, axis=1)` and `tl.sum(x, axis=1)` reduce rows, and
# `tl.maximum(a, b)` takes the larger of two in each lane; `x[:, None]` puts a number per row beside the columns. The
# scores come multiplied by $\log_2 e$, so weights are `tl.exp2(...)`. The check takes about 3 s.

# %% exercise="2.6" steps="The largest score of each row|What the old sums shrink|The denominator over all"

# %% check="2.6"

# %% [markdown] solution="2.6"
# **Explained.** Before the first tile `max_score` is −inf, so `rescale` is $2^{-\infty} = 0$, which multiplies sums of
# 0. A row that sees no key of this tile has scores of −inf: the maximum stays, `rescale` is 1, and all weights are 0.
# That is why the docstring asks that a row has seen a key: without one the exponent would be $-\infty - (-\infty)$
# here, too. And the numerator must be rescaled *before* `tl.dot` adds to it. A test whose context fits one tile never
# notices when it is not.

# %% [markdown]
# ### Several programs for one sequence
#
# **Predict:** a single user decodes with Llama-3.1-8B (8 KV heads) on an H100 (SXM), which has 132 multiprocessors. A
# multiprocessor runs one or more programs at a time. How many per cent of the multiprocessors have anything to do in
# attention?

# %%
predicted_busy = None  # your prediction, in %

# %%
compare(predicted_busy, 100 * 8 / 132, "%")

# %% [markdown]
# One program per sequence and KV head is 8 programs, and each of them reads all keys of its KV head alone. **Split-KV**
# (Dao et al., "Flash-Decoding", 2023) lets several programs share a sequence: each attends over a stretch of it, and
# leaves its state $(m, l, acc)$ in memory. A second kernel merges the states.

# %%
if state.mode != "unavailable":
    from course_lib.attention.backends.triton_ops import choose_num_splits

    for num_seqs, context in ((1, 4096), (1, 100_000), (16, 4096), (256, 1000)):
        splits = choose_num_splits(8 * num_seqs, context, num_multiprocessors=132)
        print(f"sequences: {num_seqs:>3}, tokens of each: {context:>7,}", end=" -> ")
        print(f"splits of each: {splits:>2}, programs: {8 * num_seqs * splits:,}")
if state.mode == "interpreted":
    traffic["4 splits"] = traffic_of(False, num_splits=4)
    for way in ("in place", "4 splits"):
        print(f"{way}: {sum(traffic[way].values()) / kv_bytes:.4f} times the KV cache")

# %% [markdown]
# Splitting is not free: 4 splits write and read their states in 32 bits, and load the query each. So the
# library splits only where there would be at most two programs a multiprocessor without it, and the context is long.
#
# Both kernels are a stretch exercise. The first is your decode kernel again, with other bounds, and it stores a state
# in the place of an output. `tl.minimum(a, b)` takes the smaller of two, `tl.store(addresses, numbers, mask=...)`
# writes one number per lane, and `store_rows(tensor, row, numbers, valid, HEAD_DIM, DIM_LANES)` a row per lane, as
# `load_rows` reads them. `split_max` and `split_denominator` hold `num_splits` numbers for each sequence and head,
# side by side; `split_numerator` has as many rows of `head_dim`. A stretch that begins behind the context leaves the
# empty state. The checks take about 5 and 2 s.

# %% claims="splits only where there would be at most two programs a multiprocessor without it, and the context is long"
if state.mode != "unavailable":
    assert (
        choose_num_splits(2 * 132, 100_000, 132) > 1 == choose_num_splits(2 * 132 + 1, 100_000, 132)
    )
    assert choose_num_splits(8, 256, 132) == 1

# %% claims="Splitting is not free: 4 splits write and read their states in 32 bits, and load the query each."
if traffic:
    assert round(sum(traffic["4 splits"].values()) / kv_bytes, 4) == 1.0587
    assert traffic["4 splits"]["query"] == 4 * traffic["in place"]["query"]

# %% exercise="2.7a" steps="The stretch that is|The state as it is"

# %% check="2.7a"

# %% [markdown] solution="2.7a"
# **Explained.** The end is the smaller of two: of the stretch, and of the context. Where the stretch begins behind the
# context, `end` is not above `first`, the loop does not run, and what is stored is the state from before the first
# tile: the empty one. The mask `member < GROUP` keeps the padded lanes from writing over the heads of the next group.

# %% [markdown]
# The second kernel reads the states of all splits of a head at once. There may be fewer splits than lanes; what a lane
# gets that reads nothing may be `other=float("-inf")`, too. Nobody tells it the number of heads, but the grid has a
# program for each: `tl.num_programs(1)` is the size of the grid's dimension 1. With `axis=0`, `tl.max` and `tl.sum`
# reduce a row to a number, and a matrix to a row, which `tl.store` writes.

# %% exercise="2.7b"

# %% check="2.7b"

# %% [markdown] solution="2.7b"
# **Explained.** All states at once instead of two at a time: since any grouping will do, so does the flat one. Lanes behind
# the last split hold the empty state (`other=float("-inf")` and 0), and drop out like splits that had nothing to read. The
# common maximum is finite because the first split has always seen a key.

# %% [markdown]
# ## 7. Bug hunt
#
# **An upstream bug**: `vllm-project/vllm`, 2026. Which pull request mended it stands below, when you have hunted.
#
# A colleague has written a decode that is shorter than yours. It gathers the blocks, attends over all of them at once, and
# hides what is behind the context. "It agrees with dense attention on every sequence that I tried, to the last digit."
# (Each query head has a KV head of its own here. That is not the bug.)

# %% shows="autograder.lessons.lesson02_hunt:suspect_decode"

# %% [markdown]
# Below is a pool of three blocks of two slots. A sequence lies in blocks 2 and 0. All keys are 0, so each of its tokens has
# the same weight, and the right answer is the mean of its values. With a context of 3 that is the mean of 1, 2 and 6.


# %%
def tried_on(values: list[float], context_len: int) -> None:
    """Print what the suspect says of a pool, and what attention over blocks does."""
    cache = torch.tensor(values, dtype=torch.float32).reshape(3, 2, 1, 1)
    arguments = torch.ones(1, 1), torch.zeros_like(cache), cache, torch.tensor([2, 0]), context_len
    print(f"the suspect: {suspect_decode(*arguments).item():.4g}", end=", ")
    print(f"over blocks: {parts.get('attend_blocks')(*arguments).item():.4g}")


tried_on([6, 0, 0, 0, 1, 2], context_len=3)
tried_on([6, 1000, 0, 0, 1, 2], context_len=3)

# %% [markdown]
# Not even 1,000 in the slot behind the context disturbs it. Show that it is wrong: give the values of a pool (two for
# each of the blocks 0, 1 and 2) and a context length for which a sequence that is itself sound gets a wrong answer.

# %% claims="Not even 1,000 in the slot behind the context disturbs it."
some_values = torch.tensor([6.0, 1000, 0, 0, 1, 2]).reshape(3, 2, 1, 1)
no_keys = torch.ones(1, 1), torch.zeros_like(some_values)
assert suspect_decode(*no_keys, some_values, torch.tensor([2, 0]), 3).item() == 3

# %% exercise="2.8a"
pool = None
# For example: pool = {"values": [6.0, 1000.0, 0.0, 0.0, 1.0, 2.0], "context_len": 3}
### BEGIN SOLUTION
pool = {"values": [6.0, float("nan"), 0.0, 0.0, 1.0, 2.0], "context_len": 3}
### END SOLUTION

# %% check="2.8a"
check("2.8a", pool)

# %% [markdown]
# Now mend it. Write the function again; you may copy lines from above.


# %% exercise="2.8b"
def decode(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, block_table: Tensor, context_len: int
) -> Tensor:
    """Return the attention of one token over its sequence, all of its blocks at once.

    What is in slots that the sequence does not own, be it in keys or in values, changes nothing.
    What the sequence itself holds counts as it is, NaN included.

    Args:
        query: [num_heads, head_dim].
        key_cache: [num_blocks, block_size, num_heads, head_dim].
        value_cache: The shape of `key_cache`.
        block_table: [max_blocks], the block ids of the sequence in order. Entries after the last
            block of the context mean nothing.
        context_len: Tokens of the sequence, at least 1.
    """
    ### BEGIN SOLUTION
    num_blocks = -(-context_len // key_cache.shape[1])
    blocks = block_table[:num_blocks]
    keys = key_cache[blocks].flatten(0, 1)[:context_len]
    values = value_cache[blocks].flatten(0, 1)[:context_len]
    scores = torch.einsum("hd,nhd->hn", query, keys) / math.sqrt(query.shape[-1])
    return torch.einsum("hn,nhd->hd", torch.softmax(scores, dim=-1), values)
    ### END SOLUTION


# %% check="2.8b"
check("2.8b", decode)

# %% [markdown] solution="2.8b"
# **Explained.** The mask hides a *score*. The weight that comes of it is exactly 0, and 0 times any finite number is 0:
# 1,000 did no harm, nor would $10^{30}$. But 0 times NaN is NaN, and 0 times infinity as well, and a sum with one NaN in it
# is NaN. What must not count must not be multiplied. Cut at the context, the stale slots are gone from keys and values alike,
# and nothing is left that would have to be hidden.
#
# A stale NaN in a *key* did no harm here, because `masked_fill` replaces its score. Where a mask is *added* to
# the scores, NaN − inf is NaN, and that does harm, too.

# %% [markdown]
# vLLM has had this bug more than once. In 2023 it was in its first CUDA kernel, which from then on put 0 in the place
# of values behind the context (PR #936; the kernel itself is gone by now). In July 2026 it was in two Triton kernels,
# after a warm-up run of a speech model on AMD GPUs had left NaN in blocks; **PR #47305** bounds what they read. In
# August 2026 it was in kernels for AMD GPUs that are not written in Triton, and the slots had never been written to
# (PR #53856). Elsewhere, says #47305, such slots held zeros, and nothing showed.
#
# ### Judge three more fixes
#
# Others would have mended it elsewhere:
#
# - **A** multiplies the values by 1 inside the context and by 0 behind it, before the last line.
# - **B** leaves the suspect as it is, and fills a block with zeros whenever it is handed out to a request (proposed in
#   PR #39283).
# - **C** leaves the suspect as it is, and replaces NaN in its output by 0 (`nan_to_num`).
#
# Which of them give the right answer? Take a NaN that somebody else has left in the block (all three), and for B also a NaN
# of one's own: with speculative decoding (lesson 12) a request writes keys and values of guessed tokens behind its context,
# and forgets them if the guess was wrong. The text of these *draft tokens* is dropped; the numbers stay in the block.

# %% exercise="2.8c"
verdict = {}
# The names: "A", "B, somebody else's NaN", "B, one's own NaN", "C".
# For each: is the answer right? For example: verdict["A"] = True
### BEGIN SOLUTION
verdict["A"] = False
verdict["B, somebody else's NaN"] = True
verdict["B, one's own NaN"] = False
verdict["C"] = False
### END SOLUTION

# %% check="2.8c"
check("2.8c", verdict)

# %% [markdown] solution="2.8c"
# **Explained.** A multiplies NaN by 0 once more, with the same result. B works against what others left, at the price
# of a write for each block that is handed out; what the request itself leaves behind its context comes later, and
# stays. C turns NaN into 0, where the right answer was 3: the error is still there, and now nobody can see it. The
# scheduler of vLLM 0.33.0 has new blocks zeroed only for two special kinds of cache, of models with Mamba layers and of
# mixed precision (`needs_kv_cache_zeroing` in `vllm/v1/kv_cache_interface.py`). On NVIDIA and AMD GPUs the two kernels of PR #47305 do
# not read what is in slots behind the context, unless `VLLM_TRITON_USE_TD=1` asks for the way of Intel's GPUs.
#
# A bound has a price, too. In one of the two kernels of PR #47305, loop and mask now end with the context at the latest;
# the other, `kernel_paged_attention_2d`, got a mask on the loads of every tile, with which it took 1.33 times as long for
# one model (PR #50017). Only the last tile can reach beyond the context, so only there do loads need a mask, and only
# there does 0.33.0 bound them in that kernel. Yours masks the loads of every tile, as `kernel_unified_attention` does in
# 0.33.0 where it does not go the way of Intel's GPUs.

# %% [markdown]
# The figure below is your own code on the request of the film. Its stale slot holds NaN: let it be read, its score
# masked, and see where the answer goes. Then set it back to *not read*, leave out the rescaling, and look at all six
# orders: they agree with each other, and not with dense attention. That orders agree proves nothing by itself.

# %%
viz.attention_explorer(parts.get("partial_attention"), parts.get("merge_states"))

# %% [markdown]
# ### Explain the bug
#
# In three to six sentences: (a) What has to come together for this bug to show, and why did tests not find it?
# (b) Why does a mask on the scores not protect the output? (c) You may ship your own fix or fix B. Which one, and for
# what reason that the other one's author would have to accept?
#
# 4 points, about 10 minutes, marked by hand: 1 for (a), 1 for (b), 2 for (c).

# %% [markdown] answer="2.8" points=4
# **(a)** The last block must be filled in part, and what lies behind the context in that very block must be NaN or
# infinite: left there by a former owner, a warm-up run or a rejected draft, or in memory that was never written to at
# all. Tests start from zeros, or from finite random numbers, and there a weight of 0 erases everything. **(b)** The
# mask acts on the score, so the weight is 0. The value takes part in the second product all the same, and 0 · NaN =
# NaN, which no sum ever loses again. **(c)** The bounded load. It is right whatever is in the slot and whoever left it,
# because nothing is read, and it costs next to nothing if only the last tile is masked. Zeroing costs a write per
# block, and it protects only against what was there when the block was handed out: a rejected draft token of the
# request itself comes later. (In favour of B, also accepted if this is weighed: it protects all kernels at once, also
# those that somebody will write next year.)
#
# **Mark scheme.** (a) 1 for a part-filled last block and a source of NaN or inf. (b) 1 for 0 · NaN = NaN. (c) 1 for a
# choice with a reason about *when* or *whose*, 1 for a case in which the other one fails, or its cost.

# %% [markdown] criteria="2.8"
# - (a) Which slot, filled by whom, with which kind of number; and what test data usually hold there.
# - (b) The two products of attention, and in which of them the stale slot still takes part.
# - (c) A choice; a case that tells the two fixes apart; what each of them costs.

# %% [markdown]
# The same trap has a second entrance, and you have passed it in exercise 2.3: two *empty* states. That merging them gives
# NaN was reported for vLLM in 2025 (issue #27491, mended in PR #28181), in 2026 again for its Triton kernel (PR #39148),
# and for a library of kernels (flashinfer #4051). A neutral element is easily forgotten, since small tests rarely meet it.

# %% [markdown]
# ## 8. It runs in your engine
#
# The course's tiny model has 4 layers; it generates 24 tokens for each of two prompts. Each of your functions is put in
# the place of the library's, wrapped so that its calls are counted.
#
# **Predict:** how often is `attend_blocks` called? A prompt is computed in one step that also gives the first token; all other
# tokens come from decode steps, and only those go through `attend_blocks`.

# %%
predicted_calls = None  # your prediction


# %%
def generated(own: dict[str, Any]) -> list[str]:
    """Let the engine generate text on some parts of one's own."""
    llm = LLM("course-tiny", parts=EngineParts.of(own), attention_backend="pytorch", num_blocks=40)
    params = SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True)
    prompts = ["A block table maps", "The scheduler"]
    answers = llm.generate(prompts, params, use_tqdm=False)
    return [answer.outputs[0].text for answer in answers]


calls: Counter[str] = Counter()


def counted(name: str) -> Any:
    """Return a part that counts its calls."""
    part = parts.get(name)

    @functools.wraps(part)
    def call(*arguments: Any, **keywords: Any) -> Any:
        calls[name] += 1
        return part(*arguments, **keywords)

    return call


expected = generated({})
for name in ("paged_decode", "attend_blocks", "partial_attention", "merge_states", "softmax"):
    texts = generated({name: counted(name)})
    agrees = "the same text" if texts == expected else "another text"
    print(f"{name:<18} called {calls[name]:>4} times, {agrees} as with the library's")
print(*expected, sep="\n")
compare(predicted_calls, calls["attend_blocks"], "calls")

# %% [markdown]
# 4 layers, 2 sequences, 23 decode steps: 184 calls, and half as many of `paged_decode`, which has both sequences at
# once. `partial_attention` and `merge_states` are called once for each block of
# each of these. `softmax` works in the prefill, which attends over a copy; lesson 11 replaces that.

# %% claims="4 layers, 2 sequences, 23 decode steps: 184 calls, and half as many of `paged_decode`"
assert calls["attend_blocks"] == 2 * calls["paged_decode"] == 4 * 2 * 23 == 184
assert calls["partial_attention"] == calls["merge_states"] > 184
assert texts == expected

# %% [markdown]
# ### What paging is worth, and what it costs
#
# The price first. In the paper's own measurement, attention through a block table took 20 to 26% longer than attention
# over contiguous memory (Kwon et al., section 7.1; its kernel was one of 2023). And yet vLLM served 1.7 to 2.7 times
# the requests per second of Orca with Oracle's knowledge, on conversations from ShareGPT and at similar latency
# (section 6.2). How does a slower kernel make a faster server?
#
# Take lesson 1's set-up: OPT-13B on an A100 with 40 GB, 15,728 slots for the KV cache, conversations of at most 2,048
# tokens, and always a queue. **Oracle** is the paper's, with a buddy allocator, which rounds each reservation up to a
# power of two. Lesson 1 also had an allocator that rounds nothing, first fit. How many requests run at a time?

# %%
opt_13b, a100 = MODELS["opt-13b"], GPUS["a100-40gb"]
kv_bytes_per_token = parts.get("kv_bytes_per_token")(opt_13b)
num_slots = 12 * GiB // kv_bytes_per_token


def replayed(requests: Sequence[Any]) -> dict[str, list[Snapshot]]:
    """Run requests under three layouts of the KV cache; return a snapshot for each step."""
    arguments = requests, num_slots, RESERVATIONS["Oracle"], 2048
    return {
        "Oracle": list(replay_contiguous(*arguments)),
        "Oracle, first fit": list(replay_contiguous(*arguments, FirstFitAllocator)),
        "Paged": list(replay_paged(requests, num_slots)),
    }


def running_in(moments: list[Snapshot]) -> float:
    """Return how many requests run in a step on average."""
    return sum(len(moment.reservations) for moment in moments) / len(moments)


conversation = load_azure("conversation")
requests = [r for r in conversation[:500] if r.prompt_tokens + r.output_tokens <= 2048]
snapshots = replayed(requests)
print(f"{len(requests)} requests from: {conversation.source}")
for name, moments in snapshots.items():
    print(f"{name}: on average {running_in(moments):.1f} requests in a step")

# %% [markdown]
# **Predict:** each running request gets one token from a step, and a step takes as long as it reads the weights once,
# and the keys and values of all running requests. For the latter Paged takes 1.26 times as long. By which factor do the
# tokens per second change, Paged over Oracle?

# %%
predicted_ratio = None  # your prediction: tokens/s under Paged / tokens/s under Oracle

# %% [markdown]
# Now work it out. With $s = 1.26$ under Paged and $s = 1$ under Oracle,
#
# $$\text{seconds of a step} = \frac{\text{weight bytes} + s \cdot \text{slots in use} \cdot \text{KV bytes per token}}{\text{bandwidth}}$$
#
# `snapshots[name]` has one snapshot for each step, and its `reservations` are the running requests; each of those says
# in `written` how many slots it uses. The rate is all tokens of all steps divided by the seconds of all steps. Then
# find the **break-even**: the $s$ with which Paged would be as fast as Oracle.

# %% exercise="2.9"
measured = {}
# measured["Oracle"] = ...      tokens per second, s = 1
# measured["Paged"] = ...       tokens per second, s = 1.26
# measured["break-even"] = ...  the s with which Paged delivers as much as Oracle
### BEGIN SOLUTION
tokens, weight_seconds, kv_seconds = {}, {}, {}
for layout, steps in snapshots.items():
    tokens[layout] = sum(len(step.reservations) for step in steps)
    slots_in_use = sum(each.written for step in steps for each in step.reservations)
    weight_seconds[layout] = len(steps) * opt_13b.weight_bytes / a100.memory_bandwidth
    kv_seconds[layout] = slots_in_use * kv_bytes_per_token / a100.memory_bandwidth
measured["Oracle"] = tokens["Oracle"] / (weight_seconds["Oracle"] + kv_seconds["Oracle"])
measured["Paged"] = tokens["Paged"] / (weight_seconds["Paged"] + 1.26 * kv_seconds["Paged"])
allowed_seconds = tokens["Paged"] / measured["Oracle"]
measured["break-even"] = (allowed_seconds - weight_seconds["Paged"]) / kv_seconds["Paged"]
### END SOLUTION

# %% check="2.9"
check("2.9", measured)

# %% [markdown] solution="2.9"
# **Explained.** A step reads the weights once, whoever runs, and each request shares in that. So what counts is how
# many requests share, and with Paged more do, since memory that was reserved for later, or rounded up by the allocator,
# now holds somebody's tokens. The step takes longer, but not that much longer, because the weights are the larger part
# of it. The seconds are linear in $s$, so the break-even needs no search.

# %%
if {"Oracle", "Paged", "break-even"} <= measured.keys():
    for name in ("Oracle", "Paged"):
        step_ms = 1000 * running_in(snapshots[name]) / measured[name]
        print(f"{name:<7}{step_ms:5.1f} ms a step,{measured[name]:4.0f} tokens/s")
    print(f"as fast as Oracle if attention takes {measured['break-even']:.2f} times as long")
    compare(predicted_ratio, measured["Paged"] / measured["Oracle"], "times Oracle's rate")

# %% [markdown]
# Paging runs 1.6 to 1.7 times as many requests, in steps that are about a quarter longer, and so it delivers 30 to 35%
# more tokens per second than the paper's Oracle. Its attention takes 1.26 times as long as attention over contiguous
# keys, and could take more than twice as long as that before the gain was gone.
#
# **Predict:** how much of that is paging's own? Take Oracle with first fit in the place of the buddy allocator; above
# stands how many requests it runs. Paged over that one: by which factor do the tokens per second differ?

# %% claims="Paging runs 1.6 to 1.7 times as many requests, in steps that are about a quarter longer, and so it delivers 30 to 35% more tokens per second than the paper's Oracle."
running = {name: running_in(moments) for name, moments in snapshots.items()}
assert 1.6 <= round(running["Paged"] / running["Oracle"], 1) <= 1.7
assert 1.25 < running["Paged"] / running["Oracle, first fit"] < 1.4  # the quiz says a third
longer = running["Paged"] / running["Oracle"] * measured["Oracle"] / measured["Paged"]
assert 1.2 < longer < 1.3
assert 1.295 < measured["Paged"] / measured["Oracle"] < 1.355

# %% claims="Its attention takes 1.26 times as long as attention over contiguous keys, and could take more than twice as long as that"
assert measured["break-even"] > 2

# %%
predicted_rest = None  # your prediction: tokens/s under Paged / tokens/s under first fit

# %% [markdown]
# The cell below says it, and what happens where lengths are others: with prompts and outputs like those of ShareGPT, 161
# and 338 tokens on average (lesson 1; how widely they spread is assumed), and where each request has a prompt of 1,000
# tokens and an output of 25.

# %%
like_sharegpt = lognormal_requests((161.31, 337.99), (1.2, 1.0), 500, max_model_len=2048, seed=1)
short_outputs = [SimpleNamespace(prompt_tokens=1000, output_tokens=25)] * 200
layouts_of = {
    "Azure": snapshots,
    "ShareGPT": replayed(like_sharegpt),
    "1,000 in, 25 out": replayed(short_outputs),
}


def rate_of(moments: list[Snapshot], slowdown: float) -> float:
    """Return tokens per second."""
    in_use = sum(each.written for moment in moments for each in moment.reservations)
    kv_read = slowdown * in_use * kv_bytes_per_token
    seconds = (len(moments) * opt_13b.weight_bytes + kv_read) / a100.memory_bandwidth
    return running_in(moments) * len(moments) / seconds


def worth(lengths: str, name: str) -> float:
    """Return the rate of Paged over that of another layout."""
    return rate_of(layouts_of[lengths]["Paged"], 1.26) / rate_of(layouts_of[lengths][name], 1.0)


for lengths, layouts in layouts_of.items():
    print(
        f"{lengths}: on average {running_in(layouts['Paged']):.1f} requests in a step under Paged"
    )
    for name in ("Oracle", "Oracle, first fit"):
        print(f"  {name:<18}{running_in(layouts[name]):5.1f}", end="; ")
        print(f"Paged delivers {worth(lengths, name):.2f} times as much")
compare(predicted_rest, worth("Azure", "Oracle, first fit"), "times the rate of first fit")

# %% [markdown]
# With Azure's conversations more than half of the gain was the buddy allocator's rounding; over first fit 10 to 15%
# remain. Those are paging's own: slots that are reserved for *later* stand empty even if all lengths are known, and
# free pieces may be too small for the next request. All in all, Azure's prompts are at least two and a half times as
# long as their outputs, so little is reserved for later. Where outputs are the longer part, as in ShareGPT, Paged
# delivers almost twice as much as Oracle, and 1.5 times as much as first fit. (The paper's 1.7 to 2.7 are for those
# lengths, and at similar latency.) Where hardly anything is generated, all of the gain is rounding, as a buddy
# allocator takes 2,048 slots for 1,025: over first fit, paging loses.
#
# Nor does room for more requests help without a queue: nobody waits for the memory then, and attention is only slower.
# (Something else that blocks make possible does: requests that begin alike can share them. See lessons 7 and 8.)

# %% claims="With Azure's conversations more than half of the gain was the buddy allocator's rounding; over first fit 10 to 15% remain."
assert 1.1 < worth("Azure", "Oracle, first fit") < 1.15
assert worth("Azure", "Oracle") - 1 > 2 * (worth("Azure", "Oracle, first fit") - 1)

# %% claims="Azure's prompts are at least two and a half times as long as their outputs"
assert sum(r.prompt_tokens for r in requests) > 2.5 * sum(r.output_tokens for r in requests)

# %% claims="Paged delivers almost twice as much as Oracle, and 1.5 times as much as first fit."
assert 1.9 < worth("ShareGPT", "Oracle") < 2
assert round(worth("ShareGPT", "Oracle, first fit"), 1) == 1.5

# %% claims="Where hardly anything is generated, all of the gain is rounding, as a buddy allocator takes 2,048 slots for 1,025: over first fit, paging loses."
short = layouts_of["1,000 in, 25 out"]
assert worth("1,000 in, 25 out", "Oracle") > 1.5
assert worth("1,000 in, 25 out", "Oracle, first fit") < 0.95
assert running_in(short["Paged"]) == running_in(short["Oracle, first fit"])
assert not any(each.offset % 2048 for moment in short["Oracle"] for each in moment.reservations)

# %% [markdown]
# ### Explain what you measured
#
# In five to eight sentences: (a) Why does a server with the slower kernel deliver more tokens per second? Use figures of
# yours, with units. (b) When would it not? Give one situation, and say what is different in it. (c) Name one
# assumption of this calculation that a real service does not meet, and say in which direction it errs.
#
# 6 points, about 15 minutes, marked by hand: 2 for each.

# %% [markdown] answer="2.9" points=6
# **(a)** A step reads 25.7 GB of weights however many requests run, so more requests in a step means more tokens for
# the same reading. Paged runs 13.5 requests at a time where Oracle runs 8.4, because slots are taken when a token needs
# them, and no allocator rounds a reservation up to a power of two. Its step takes about a quarter longer (26.5 instead
# of 21.5 ms), since more keys and values are read, and each takes 1.26 times as long; 1.6 times the tokens in 1.23
# times the time is 1.3 times the rate. Attention is only about a third of the step, so 26% on it is 8% on the step.
# (Figures of the synthetic trace.) **(b)** When requests do not wait for memory: at low load the batch is what has
# arrived, with paging or without, and each step is slower. Also beside an allocator that rounds nothing (first fit),
# where outputs are so short that hardly anything is reserved for later: with 1,000 and 25 tokens Paged delivers 0.92
# times as much. **(c)** Prefill is free here: the step that admits a request reads its prompt in no time. It is
# compute-bound, takes as long with either layout, and so dilutes the gain: the true ratio is smaller. (Also accepted:
# recomputation after preemption is free here, which flatters Paged; 1.26 is a kernel of 2023, which does not; the queue
# is never empty, which flatters Paged.)
#
# **Mark scheme.** (a) 1 for weights shared by more requests, 1 for two figures with units that belong together. (b) 1 for the
# situation, 1 for what differs. (c) 1 for the assumption, 1 for its direction with a reason.

# %% [markdown] criteria="2.9"
# - (a) What is read once per step and what once per request; your requests per step and milliseconds per step, both ways.
# - (b) Who waits for what; what the batch is then.
# - (c) What the formula of a step leaves out, whether that is the same under both layouts, and what follows for the ratio.

# %%
parts.table()

# %% [markdown]
# ## 9. In vLLM
#
# | here | in vLLM 0.33.0, below `vllm/v1/attention/` |
# |---|---|
# | `softmax_step` | `softmax_step` in `ops/triton_attention_helpers.py`: with `tl.exp`, and a guard (below); it returns the factor, and the caller rescales the numerator |
# | `paged_decode_kernel` | `kernel_unified_attention` in `ops/triton_unified_attention.py`: one kernel for decodes and prompts; keys and values are loaded under a mask that ends at the context (Intel GPUs have a way of their own) |
# | `split_decode_kernel`, `combine_splits_kernel` | the same kernel with `IS_3D`, and `reduce_segments`: as a rule 16 segments a sequence, where the batch is small (`backends/triton_attn.py`) |
# | `merge_states` | `ops/merge_attn_states.py` and a kernel of that name: it merges *outputs*, each with its $m + \ln l$, which is the same state in two parts: an average and the logarithm of its weight |
# | `context_lens` | `seq_lens`: all tokens of a sequence, the new ones included. What `kernel_unified_attention` calls `context_len` leaves the new ones out |
# | `attend_blocks` | on NVIDIA GPUs mostly the kernels of FlashAttention and FlashInfer, which read block tables, too |
#
# **One line to look at.** vLLM's `softmax_step` has a line that yours has not:
#
# ```python
# safe_m_j = tl.where(m_j > float("-inf"), m_j, 0.0)
# ```
#
# `m_j` is the new maximum of each row, and what is subtracted from the scores, and from the old maximum, is `safe_m_j`.
# Which rows need that, what would become of them without it, and why do yours do well without?
#
# <details><summary>What to see there</summary>
#
# A row that has seen no key, and sees none in this tile. Its maximum is −inf, and −inf − (−inf) is NaN: the two empty
# states of exercise 2.3. With 0 in its place the weights and the factor are 0, and the state stays empty. A row of
# vLLM's kernel is a token and a query head. With several tokens, the first tile of a sliding window can lie before the
# window of the later rows, and a segment can lie behind the tokens of the earlier ones. Your docstring leaves that to
# the caller: "A row sees a key in this tile, or has seen one before." In a decode all rows see all keys, and each tile
# has one.
#
# (Rows of padding see no key there either, but a NaN in them would be stored nowhere.)
#
# </details>
#
# **What production code does beyond this.** A *sink* (a learned score that takes weight and has no value) changes the
# first state. Where a sliding window has left a block behind, the default model runner puts the null block in its place
# in the table (`gather_block_tables` in `vllm/v1/worker/gpu/block_table.py`; not where several GPUs share the context),
# against the very NaN that you have hunted.

# %% [markdown]
# ## 10. Quiz
#
# Practise in the widget first: it says at once what each choice means. Then write your letters into the cell below it,
# which is what counts. There are ten questions, a point each; eight right, 80%, is a pass.

# %% quiz="2"

# %% [markdown]
# ## 11. Interview corner
#
# Answer aloud, in two minutes each, before you unfold what a strong answer holds.

# %% [markdown] interview="2"

# %% [markdown]
# ## 12. Takeaways
#
# - Attention over any set of keys leaves a state of three things: $m$, $l$ and $acc$. States can be merged in any order
#   and any grouping; the empty state is neutral. Divide once, at the end.
# - So keys may lie in blocks anywhere, and several programs may share a sequence. The result is exact.
# - Where a request ends is said by its context length. What lies behind must not be multiplied: a weight of 0 does not
#   erase NaN.
# - In place the KV cache crosses the memory bus once, with a copy three times.
# - A slower kernel can make a faster server: where requests wait for memory, it may let more of them share the weights.
#
# **Lesson 3 needs** the block table: here it was given. There you build it, token by token, and turn positions into slots
# and slots into addresses, for whole batches at once.

# %% [markdown]
# ## Appendix
#
# <details><summary>Guided reading: one kernel of vLLM (20 minutes)</summary>
#
# Open `vllm/v1/attention/ops/triton_unified_attention.py` at tag `v0.33.0` in
# [the repository](https://github.com/vllm-project/vllm) and find `kernel_unified_attention`.
#
# 1. Find the loop over tiles. Which lines are your kernel's, in another order or with other names?
# 2. `L` starts at 1.0, not at 0, beside `M` at −inf. Is that a bug?
# 3. The table is loaded without a mask. Why is that safe there, and what would have to be true of the table here?
# 4. Find `reduce_segments`. Which lanes does it leave out, and why does it look at the maximum to decide?
#
# *What to find there.*
#
# 1. `seq_offset` is the position, `physical_block_idx` the block, `tile_mask` what is valid; then keys, values, scores,
#    mask, step, and the second product.
# 2. No. At the first tile alpha is 0 and multiplies it away, whether the row sees a key there or not: exp(−inf − m), or
#    with the guard exp(−inf − 0). With a sink, `M` starts as the sink's score, and its weight relative to that is
#    exactly 1. The price: where the loop never runs L stays 1, so that the sum of weights does not tell whether a
#    segment is empty.
# 3. An entry behind the context is read, and its block id is used for an address that the mask then leaves out. The
#    read itself stays inside the table, because its rows are padded to a multiple of 128 tokens
#    (`get_block_table_width` in `vllm/v1/worker/block_table.py`). Ours may end with the last block.
# 4. Segments behind the context, and those whose maximum is −inf, for the reason of question 2.
#
# </details>
#
# <details><summary>What older material says differently</summary>
#
# - "PagedAttention is in `csrc/attention`, as v1 and v2": those CUDA kernels are gone (for ROCm, `paged_attention_rocm` remains).
#   They kept all scores of a sequence, or of a partition of it, in shared memory, and no running sums; v2 left the
#   average of each partition with its $m$ and $l$, and a second kernel merged them, as in exercise 2.7. On NVIDIA GPUs
#   0.33.0 mostly uses the kernels of FlashAttention, of FlashInfer and its own in Triton, which read block tables and
#   carry the state of this lesson from tile to tile.
# - "Paging makes attention 20 to 26% slower" was one kernel in 2023 against FasterTransformer's (section 7.1 of the
#   paper). Of another kernel it has to be measured: the bytes of the table, 0.1% in yours, are not the whole price.
# - "FlashAttention is an approximation": it is the state of this lesson, and exact. So is PagedAttention.
#
# </details>
