# %% [markdown]
# # Lesson 3: Block tables and address translation
#
# **Time** 3 hours: 2¼ for exercises, quiz and what you write, the rest to read, run and look; half an hour more for the
# stretch; 45 minutes in all if you only read · **Difficulty** ●○○ to ●●● · **Points** 100, of which 10 are a stretch
#
# Lesson 2 let the blocks of a sequence lie anywhere, and took it for granted that somebody knows where. This lesson is
# about that somebody. In every step of an engine, for each token of each request, one number has to become another: the
# token's *position* in its text, 1,000 say, becomes the *byte* at which its key lies in the memory of a GPU.
#
# **By the end you will have built** the block table of a sequence, the function that finds the places of a whole batch
# in tens of microseconds, the two functions that write and read through it, the address in any memory layout, and
# the GPU kernel that does the writing. In the map below the boxes that you work on have a thick outline.
#
# **You need** blocks and the attention over them (lesson 2), and the size of a token's KV (lesson 1). You need no GPU.
#
# Two words from later lessons: a **chunk** is a piece of a prompt that is computed in one step (lesson 11), and a
# request is **preempted** when it has to give all its blocks back and wait (lesson 6).

# %%
from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch

from autograder.notebook import check, compare, explain, quiz, task
from course_lib import parts, viz
from course_lib.engine import LLM, EngineParts, SamplingParams
from course_lib.kv_cache import kv_bytes_per_block
from course_lib.kv_cache.block_table import (
    PositionError,
    hnd_layout,
    nhd_layout,
    pad_block_tables,
    split_layout,
)
from course_lib.simulation.workload import load_azure
from course_lib.specs import GPUS, MODELS, GiB

# %%
viz.EngineMap(lesson=3)

# %% [markdown]
# ## 1. Warm-up
#
# Three questions on lessons 1 and 2. Answer in the cell; the check is immediate and earns no points.

# %% exercise="3.W1"
block_bytes = None  # bytes
### BEGIN SOLUTION
block_bytes = 16 * 128 * 1024
### END SOLUTION

# %% check="3.W1"
check("3.W1", block_bytes)
# %% exercise="3.W2"
blocks_held = None  # blocks
### BEGIN SOLUTION
blocks_held = -(-100 // 16)
### END SOLUTION

# %% check="3.W2"
check("3.W2", blocks_held)
# %% exercise="3.W3"
slots_left_out = None  # slots
### BEGIN SOLUTION
slots_left_out = 7 * 16 - 100
### END SOLUTION

# %% check="3.W3"
check("3.W3", slots_left_out)
# %% [markdown]
# ## 2. The problem, seen first
#
# A sequence's tokens stand in order: position 0, 1, 2, ... The blocks that hold their keys and values lie anywhere in
# the pool. The **block table** of a sequence says where: entry 0 is the block of its first tokens, entry 1 that of the
# next ones. An operating system does the same for the pages of a process. Its page tables (on x86-64, say) take 8 bytes
# for each page of 4 KiB: 1/512 of the memory that they describe.
#
# **Predict:** an entry of a block table, as a GPU reads it, takes 4 bytes, and stands for a block of 16 tokens of
# Llama-3.1-8B, 128 KiB each. Its tables are a share of the KV that they describe, too. How many times smaller than 1/512
# is that share?

# %%
predicted_times = None  # your prediction: times smaller than 1/512

# %%
llama_8b = MODELS["llama-3.1-8b"]
bytes_per_block = kv_bytes_per_block(llama_8b, 16)
compare(predicted_times, bytes_per_block / 4 / 512, "times smaller")

# %% [markdown]
# A block of KV is five hundred times as large as a page, and its entry half as wide. For 256 requests:

# %%
conversation = load_azure("conversation")
contexts = [r.prompt_tokens + r.output_tokens // 2 for r in conversation[:256]]
num_blocks = sum(-(-context // 16) for context in contexts)
print(f"256 requests in the middle of their output, from: {conversation.source}")
print(f"their KV {num_blocks * bytes_per_block / GiB:.1f} GiB, their tables {num_blocks * 4 / 1024:.1f} KiB")
print(f"one to {bytes_per_block // 4:,}")

# %% [markdown]
# So memory is no concern. What costs is *using* the tables: every step asks them about each of its tokens, and a single
# wrong entry is not an error message but somebody else's text.
#
# A **slot** is the place of one token. Slots are numbered through the whole pool: if blocks have 16 slots, block 0 has the
# slots 0 to 15, block 1 has 16 to 31, and so on.
#
# **Predict:** blocks have 16 slots, and the table of a sequence is [7, 3]. In which slot is its token at position 17?

# %%
predicted_place = None  # your prediction: a slot


# %%
def show_place(prediction: int | None, slot: int) -> None:
    """Hold a predicted slot against the right one."""
    if prediction is None:
        print("Write your prediction first.")
    else:
        print(f"You predicted slot {prediction}. It is slot {slot}.")


table_of_two = parts.reference("BlockTable")(16)
table_of_two.append([7, 3])
show_place(predicted_place, table_of_two.slot(17))

# %% [markdown]
# 17 is 16 + 1, so the token is the second one of the sequence's second block. Entry 1 says that this is block 3, whose slots
# begin at 48. Now look at such translations in a picture. It has two sequences, r0 with 10 tokens and r1 with 6, in blocks of 4 slots.
#
# - Follow position 9 down: it splits into two numbers, an arrow leads through the table, and the two are glued again.
# - Set *Position* to 3, then to 4. Where do the two neighbours lie? Order in memory is not order in time.
# - Set it to 12. The picture gives way to an error: there is no slot, and it must not be made up.
#
# As soon as you have passed the exercises, the figure runs on your `BlockTable` and your `slot_mapping`.

# %%
viz.token_slot()

# %% [markdown]
# ### One line for the state
#
# Below the figure's title stands `free [1 4 6 8]  r0: 7 3 5  r1: 2 9`. From here to lesson 12 the course writes a state
# this way: in brackets behind `free` the blocks that can be handed out, the next one in front; then, for each request,
# its name and its block table. Two spaces stand between the parts. (Lessons 7 and 8 add a star for cached blocks and a
# bracket for shared ones.) The null block, 0, is in neither part: it is never handed out, and you will meet it in
# section 4.
#
# Whoever debugs an operating system prints the page table. Write your printer now; you will need it soon.


# %% exercise="3.1a"
def state_line(free: Sequence[int], tables: dict[str, Iterable[int]]) -> str:
    """Return the state of a pool and its block tables in one line.

    Args:
        free: The free blocks, the one that is handed out next in front.
        tables: The block table of each request, by its name, in the order to print.

    >>> state_line([1, 4, 6, 8], {"r0": [7, 3, 5], "r1": [2, 9]})
    'free [1 4 6 8]  r0: 7 3 5  r1: 2 9'
    >>> state_line([], {"r0": []})  # no space behind the colon
    'free []  r0:'
    """
    ### BEGIN SOLUTION
    line = [f"free [{' '.join(map(str, free))}]"]
    for name, table in tables.items():
        line.append(" ".join([f"{name}:", *map(str, table)]))
    return "  ".join(line)
    ### END SOLUTION


# %% check="3.1a"
check("3.1a", state_line)

# %% [markdown] solution="3.1a"
# **Explained.** `name:` is itself the first word of its part, so joining with one space leaves none behind an empty
# table. That the order of the ids is kept is the point of the line: the first free block is the one that comes next,
# and the place in a table *is* the logical block.

# %% [markdown]
# ## 3. One number splits, and is glued again
#
# What the figure does, you can do with a pencil. Positions, entries, blocks and slots all count from 0. Work one
# instance out. Another seed makes another one: `task("3.1b", seed=2)`. Any seed counts.

# %%
task("3.1b", seed=1)

# %% exercise="3.1b"
answer = {"seed": 1}
# Write answer["slot a"] = ..., and so on, and the states in the form
# answer["state at 12 tokens"] = "free [...]  r0: ...  r1: ...".
### BEGIN SOLUTION
answer["slot a"] = 37
answer["slot b"] = 11
answer["slot c"] = 19
answer["state at 12 tokens"] = "free [5 6 7 8]  r0: 3 2 9  r1: 1 4"
answer["state at 13 tokens"] = "free [6 7 8]  r0: 3 2 9 5  r1: 1 4"
### END SOLUTION

# %% check="3.1b"
check("3.1b", answer)

# %% [markdown] solution="3.1b"
# **Explained.** At 12 tokens r0's three blocks are full, and that is all: a block is taken for a token, not for the
# feeling that there might be one. The 13th token, at position 12, is the first in logical block 3.

# %% [markdown]
# Now write it for any token. Three names help. The number of a block *in its sequence* is its **logical block**: entry 7
# of the table belongs to logical block 7. What the entry says, the number of a block *in the pool*, is the **physical
# block**. And how far into the block a token is, is its **offset**. All three count from 0, too.
#
# `BlockTable` keeps its physical blocks in `self.ids`, an array of whole numbers that works
# like a list, and knows its `self.block_size`; `self.num_slots` is how many positions it covers. A position that it
# does not cover is refused with a `PositionError`, which exists for this purpose, and is both a ValueError and an
# IndexError. Why so strict? Because Python is not: an index of -1 is the *last* entry, so a wrong position would get a
# slot of the sequence's own last block, which may hold a token.

# %% exercise="3.2a"

# %% check="3.2a"

# %% [markdown] solution="3.2a"
# **Explained.** For a position $p$, and blocks of $B$ slots:
#
# $$p = \ell \cdot B + o \quad\text{with}\quad \ell = \lfloor p / B \rfloor,\; o = p \bmod B
# \qquad\qquad \text{slot} = \text{table}[\ell] \cdot B + o$$
#
# `divmod` splits, the table looks up, a product and a sum glue. One comparison on the logical block
# refuses both kinds of wrong position, because rounding down makes every negative position a negative logical block.
# The check must come first: `self.ids[-1]` raises nothing.

# %% [markdown]
# Note what is *not* asked for: the layer, and whether we want the key or the value. Each layer has a cache of its own, but
# block 3 is block 3 in all of them. So an engine finds the slots once per step, and all 32 layers use them, for keys
# and for values. (A model in which some layers attend to the last tokens alone may have a table, and slots, for each
# kind of layer.)

# %% [markdown]
# ### A table grows at its end
#
# Only the last block of a sequence may be partly filled. So a sequence that grows adds to its table at the end, when its
# tokens have filled their last slot and another one comes: once in 16 steps, if blocks have 16 slots.

# %%
steps = grown = 0
for request in conversation[:2000]:
    # The last token that is sampled is never computed, so it needs no slot.
    written = range(request.prompt_tokens, request.prompt_tokens + request.output_tokens - 1)
    steps += len(written)
    grown += sum(position % 16 == 0 for position in written)
print(f"2,000 conversations: a table grows in {1000 * grown / steps:.1f} of 1,000 steps")

# %% [markdown]
# **Predict:** sixteen sequences decode side by side. In how many of 1,000 steps does *none* of their tables grow?

# %%
predicted_quiet = None  # your prediction: steps of 1,000

# %%
quiet = []
for first in range(0, 2000, 16):
    lengths = [request.prompt_tokens for request in conversation[first : first + 16]]
    quiet += [all((length + step) % 16 for length in lengths) for step in range(16)]
compare(predicted_quiet, 1000 * np.mean(quiet), "steps of 1,000")

# %% [markdown]
# That is about $(15/16)^{16}$, a good third of the steps, although one table is due in every step on average.
#
# Whoever adds blocks to a table does it in two stages: first see that all is well, then change something. For if `append`
# fails half-way, its caller believes that nothing was added, and gives the blocks to another request, while they stand in
# this table. `array("q", ids)` makes such an array as `self.ids` is, and refuses by itself what is not a whole number,
# with a TypeError, and what does not fit into 64 bits, with an OverflowError.

# %% claims="That is about $(15/16)^{16}$, a good third of the steps, although one table is due in every step on average."
assert abs(1000 * grown / steps - 62.5) < 1
assert abs(np.mean(quiet) - (15 / 16) ** 16) < 0.04

# %% exercise="3.2b"

# %% check="3.2b"

# %% [markdown] solution="3.2b"
# **Explained.** The new ids are collected and looked at before the table is touched. `array("q", ...)` has refused what is
# no whole number of 64 bits; that none is negative is ours to check. `self.ids.extend(block_ids)` alone would keep what
# stands before a bad one. `list(...)` stands inside because `array` takes *bytes* for raw memory: of `b"12345678"` it
# would make one id, a very large one.

# %%
BlockTable = parts.get("BlockTable")
tables, free = {"r0": BlockTable(4), "r1": BlockTable(4)}, [7, 2, 3, 9, 5, 1, 4, 6, 8]
for name, num_more in (("r0", 1), ("r1", 1), ("r0", 1), ("r1", 1), ("r0", 1)):
    tables[name].append([free.pop(0) for _ in range(num_more)])
    print(state_line(free, tables) or "(exercise 3.1a prints the state here)")
print("position 9 of r0 is in slot", tables["r0"].slot(9))

# %% [markdown]
# ### What must hold, and what breaks
#
# | what must hold | what a user sees when it does not |
# |---|---|
# | Position p is in the block that entry p // B of *its own* table names. | Fluent nonsense: attention reads other tokens, and nothing crashes. |
# | No two tokens of a step get the same slot. | One of the keys is lost. The text goes wrong, at once or some tokens later. |
# | The block is in the table before its first token is written. | At best an IndexError. At worst the write lands in a stranger's block. |
# | Padding is written nowhere. | Somebody's token is overwritten, in every layer (section 4). |
# | block × stride is computed in 64 bits. | On a large GPU the kernel reads gibibytes in front of the cache, or another block (section 5). |

# %% [markdown]
# ## 4. A whole batch
#
# ### All tokens at once
#
# A step computes tokens of many requests together: one each for those that decode, hundreds for a chunk of a prompt.
# Such a batch is **ragged**: its rows are of different lengths. It is stored without gaps, all tokens behind each other,
# with `query_starts` saying where each sequence begins. Behind the last token there may be **padding**: GPUs run
# fastest when the work was recorded beforehand (a *CUDA graph*), and work is recorded for some sizes only, so a batch of
# 11 tokens is filled up to 16. Padding has no slot. By agreement it gets **-1**.
#
# The tables of the sequences become one rectangle. Behind the end of a shorter one stands the **null block**, 0: a block
# that no request is ever given. Whoever reads such an entry by mistake stays inside the cache and meets nobody's keys.
#
# **Predict:** the figure below maps one token of r0 and the last three of r1. Set *Tokens of r1* to 4: its token at
# position 2 joins the batch. Which slot will it get, and does any of the other slots change?

# %%
viz.token_batch()

# %% [markdown]
# It is slot 10: position 2 is in r1's first block, which is 2, at offset 2. The tokens behind it move up by one in the
# batch, and keep their slots: where a token stands in the batch has no part in where its KV lies.
#
# You could call `slot` in a loop. For a chunk of 2,048 tokens that takes some hundreds of microseconds, and the step, with
# the GPU, waits for it. The next exercise has little scaffold: a specification, and a blank cell. It is
# worth 18 points, half of them for a result without a loop in Python, neither over tokens nor over sequences, and without
# an array far larger than the batch and its tables, such as one with a number for each pair of a token and a sequence.
# NumPy does the same to a million numbers with one call: `np.repeat(numbers, times)` repeats each number as often as you
# say, and `array[rows, columns]` with two arrays takes one element for each pair.
#
# Three helpers are imported above the stub, if you want them:
#
# - `require_block_size` takes a block size, and refuses one below 1 (`checked_batch` does not see it).
# - `checked_batch(block_tables, query_starts, positions)` looks at shapes and types, and raises the ValueErrors. It
#   returns three arrays: the block tables; the number of tokens of each sequence, which you will need more often than
#   `query_starts`; and the positions, those of the padding still among them. Tables and positions keep the type that
#   they came in, which may be 32 bits wide.
# - `token_without_slot(block_tables, query_lens, tokens, block_size)` makes a PositionError that names the first token at
#   fault; `tokens` are the positions without the padding. (`PositionError("no slot")` is fine as well: the class counts.)
#
# The result has 64 bits, and it has to be right for every block id of 32.

# %% exercise="3.3"

# %% check="3.3"

# %% [markdown] solution="3.3"
# **Explained.** Four things make it right. *Each token its own row*: the rows' starts are repeated by the lengths of the
# queries. *64 bits before the product*: the tables come in 32 bits, as the GPU reads them, and block × B need not fit. (It
# takes 2^31 slots to see that, 256 TiB of KV at 128 KiB each, so here it is a habit; section 5 has a product for which it is
# none.)
# *Two refusals*: a position outside the columns would read the next row, silently, where the rectangle is read as one
# row, and a negative entry would become a slot in front of the cache. *Padding stays -1*, because the result begins as -1
# everywhere. And one thing makes it fast: every line works on all tokens, so the number of NumPy calls does not depend
# on the batch. (block − logical) · B + position is the same as block · B + offset and saves the remainder, as
# division is the slowest of these operations. (The import is the library's. Your notebook has imported NumPy.)

# %%
slot_mapping = parts.get("slot_mapping")
rectangle = pad_block_tables([[7, 3, 5], [2, 9]])
print(rectangle)
batch_positions = np.array([9, 3, 4, 5, 0, 0])
slots = slot_mapping(rectangle, np.array([0, 1, 4]), batch_positions, block_size=4)
print("slots:", slots)

# %% [markdown]
# ### Writing, and what -1 does to those who do not look
#
# The cache of one layer's keys is a tensor `[num_blocks, block_size, num_kv_heads, head_dim]`. To write a token is to
# split its slot once more: block `slot // B`, offset `slot % B`.
#
# **Predict:** a cache has 3 blocks of 4 slots, 0 to 11. Somebody writes a batch with the line
# `key_cache[slots // 4, slots % 4] = key` and forgets that one of the slots is -1. Nothing is raised. Which slot is
# overwritten?

# %%
predicted_slot = None  # your prediction: a slot, 0 to 11

# %%
key_cache = torch.zeros(3, 4, 1, 1)
unfiltered = torch.tensor([-1])
key_cache[unfiltered // 4, unfiltered % 4] = 99.0
show_place(predicted_slot, int(key_cache.flatten().argmax()))

# %% [markdown]
# In C, and in Triton (unless both numbers are `tl.constexpr`), division rounds towards zero, and the remainder has the
# sign of the dividend. Side by side:

# %%
print("PyTorch:", (unfiltered // 4).item(), "is the block,", (unfiltered % 4).item(), "the offset")
block = torch.div(unfiltered, 4, rounding_mode="trunc").item()
offset = torch.fmod(unfiltered, 4).item()
print("as Triton rounds:", block, "is the block,", offset, "the offset")

# %% [markdown]
# Python rounds down, so that -1 is the last slot of the last block: a live one, on a busy server. Triton rounds towards
# zero. There -1 is one slot *in front of* a cache that lies token after token, as this one does. Our engine keeps all
# layers in one piece of memory, first their keys, then their values, so that is the last slot of the layer in front, and
# for the values of the first layer the last slot of the last layer's keys; only the first layer's keys have nothing in
# front of them.
# Neither of the two raises anything. So -1 does harm, and everyone who writes has to leave it out.
#
# Most of the next function is given. Two steps under the comments are yours.

# %% exercise="3.4a" steps="Leave the padding out|Where each slot is in the cache"

# %% check="3.4a"

# %% [markdown] solution="3.4a"
# **Explained.** A mask keeps slots *and tokens*: padding may stand anywhere, so `key[: len(slots)]` would take the wrong
# tokens. Indexing with two arrays writes into the tensor itself, whatever its strides. `key_cache.reshape(-1, ...)[slots]
# = ...` looks equal and is not: where the axes lie in another order in memory, `reshape` makes a copy, and the cache
# is unchanged.

# %% [markdown]
# And back: the keys of one sequence, side by side, as `dense_attention` in lesson 2 wants them. It serves as the reference
# that every kernel is held against.

# %% exercise="3.4b"

# %% check="3.4b"

# %% [markdown] solution="3.4b"
# **Explained.** Round up, or the block that is filled in part is lost; then cut, or what was left in it by somebody else
# comes along. Indexing with a tensor copies, so the result is the caller's own.

# %% [markdown]
# ## 5. From slot to byte
#
# ### Strides
#
# Memory has one axis. An array of five has to be laid out along it, and the rule is the same for NumPy, PyTorch and C:
# the *last* axis varies fastest. How far apart two neighbours along an axis are is called the **stride** of that axis.
# In an array of shape (2, 3, 4) the last axis has stride 1; a step along the middle one passes over 4 elements, and one
# along the first over 3 · 4 = 12.

# %% exercise="3.5a"

# %% check="3.5a"

# %% [markdown] solution="3.5a"
# **Explained.** The stride of an axis is the product of the sizes *behind* it: what a step has to pass over. The empty
# product is 1, so the last axis needs no case of its own, nor does an array without axes.

# %% [markdown]
# ### Three orders of the same numbers
#
# One layer's keys and values have the axes kv (key or value), block, token (the offset in the block), head and dim. Only
# their order is open, and it decides what lies side by side:
#
# | layout | axes, the slowest first | the idea |
# |---|---|---|
# | NHD | kv · block · token · head · dim | all heads of a token are neighbours, so a new token is written in one piece |
# | HND | kv · block · head · token · dim | all tokens of a block are neighbours within a head, so a program that works on one head reads in one piece |
# | split | kv · block · head · vector · token · item | dim is cut into vectors of 16 bytes, which one thread, or a small group of them, loads at once; the next ones read the next token |
#
# In the third one a number of a head has two coordinates, dim = vector · items + item, with 8 items of 2 bytes in 16.
#
# **Predict:** blocks have 16 slots, and there are 8 heads of 128 numbers. In how many pieces of memory does the key of one
# token lie in HND, all its heads together? In how many do the keys of one head of a block lie in NHD?

# %%
predicted_pieces = {"a token's key in HND": None, "a head of a block in NHD": None}  # your prediction

# %% [markdown]
# The figure has r0's position 9 again, from its slot on. Follow slot 21 to its byte in NHD, then choose HND: the slot
# stays, the places are weighed otherwise, and so the two strips at the bottom change. The upper one is what has to be
# written for a token, the lower one what a program reads that works on one head.

# %%
viz.token_address()

# %% [markdown]
# **A worked example.** 100 blocks of 16 slots, 8 heads of 128 numbers of 2 bytes, NHD. Where is number 5 of head 2 of the
# key in slot 49? Slot 49 is block 3, token 1. The strides of (2, 100, 16, 8, 128) are 1,638,400, 16,384, 1,024, 128 and 1
# elements, so it is element 0 · 1,638,400 + 3 · 16,384 + 1 · 1,024 + 2 · 128 + 5 = 50,437, and byte **100,874**.
#
# A `CacheLayout` knows `self.axes` (the names, as above), `self.shape`, `self.strides` (in elements)
# and `self.dtype_bytes`. Your function must serve all three layouts, and any other order of these axes. So ask for an axis by
# its name: `sizes = dict(zip(self.axes, self.shape))` has the block size as `sizes["token"]`, and "item" only in a layout
# that has such an axis.

# %% exercise="3.5b"

# %% check="3.5b"

# %% [markdown] solution="3.5b"
# **Explained.** It works out every coordinate that a layout might ask for, and then lets the layout say which it wants and
# what each weighs. That is all there is to layouts: the same sum with other weights. Where there is no axis "item",
# `dim` is divided by 1. The bounds are checked axis by axis, because the sum cannot tell: head 8 of 8 is a valid byte, in
# NHD one of the next token.

# %%
address = parts.get("CacheLayout").address
layouts = {
    name: make(num_blocks=100, block_size=16, num_kv_heads=8, head_dim=128)
    for name, make in (("NHD", nhd_layout), ("HND", hnd_layout), ("split", split_layout))
}


def pieces(places: Iterable[int], width: int = 2) -> tuple[int, int]:
    """Return in how many pieces some numbers of ``width`` bytes lie in memory, and the bytes of each."""
    ordered = sorted(places)
    num_pieces = 1 + sum(later - earlier > width for earlier, later in zip(ordered, ordered[1:]))
    return num_pieces, width * len(ordered) // num_pieces


written, read = {}, {}
for name, layout in layouts.items():
    find = partial(address, layout, 0)
    written[name] = pieces(find(49, head, dim) for head in range(8) for dim in range(128))
    read[name] = pieces(find(slot, 2, dim) for slot in range(48, 64) for dim in range(128))
found = {"a token's key in HND": written["HND"], "a head of a block in NHD": read["NHD"]}
for what, (count_of_pieces, _) in found.items():
    print(f"{what}:", end=" ")
    compare(predicted_pieces[what], count_of_pieces, "pieces")

# %%
predicted = None not in predicted_pieces.values()
if predicted:
    print("layout   slot 49, head 2, number 5   to slot 50   a token's key    a head of a block")
for name, layout in layouts.items() if predicted else ():
    here, after = address(layout, 0, 49, 2, 5), address(layout, 0, 50, 2, 5)
    token, head = (f"{many:3} x {size:5,} B" for many, size in (written[name], read[name]))
    print(f"{name:<6} {here:27,} B {after - here:+10,} B   {token:>14} {head:>18}")

# %% [markdown]
# NHD writes a token in one piece, and reads a head of a block in 16. HND writes in 8 pieces, and reads in one. The split
# layout reads in one piece as well, and pays with 128 when it writes. With blocks of more than one slot none of the three
# does both in one piece, except with a single KV head, where NHD and HND are the same.
#
# Decoding reads the whole context, hundreds or thousands of tokens, for each token that it writes, which speaks for HND.
# But the 16 pieces of NHD are 256 bytes each, two whole cache lines of an NVIDIA GPU, so no byte of a line is wasted. What
# decides is the attention kernel at hand.
#
# vLLM 0.33.0 as a rule lays key and value of a head side by side: what is one piece here is one there as well, of both
# together. It takes NHD, unless a kernel, the user, or the code that moves KV to other memory asks for another order.

# %% claims="none of the three does both in one piece, except with a single KV head, where NHD and HND are the same."
assert written == {"NHD": (1, 2048), "HND": (8, 256), "split": (128, 16)}
assert read == {"NHD": (16, 256), "HND": (1, 4096), "split": (1, 4096)}
single = [make(100, 16, num_kv_heads=1, head_dim=128) for make in (nhd_layout, hnd_layout)]
places = [(slot, 0, dim) for slot in range(1600) for dim in range(128)]
assert len({tuple(address(layout, 0, *place) for place in places) for layout in single}) == 1

# %% [markdown]
# ### Where 32 bits end
#
# A block id fits into 32 bits, and so does a stride. Their product need not: the largest number of a signed 32-bit integer
# is $2^{31} - 1$. What is larger wraps: from $2^{31}$ on to a negative number, and the kernel reads in front of the cache;
# at $2^{32}$ it begins again at 0, and the kernel reads another block.
#
# **Predict:** a kernel works out block × stride in 32 bits, in elements, for the keys of one layer of Llama-3.1-8B in NHD,
# 16 · 8 · 128 = $2^{14}$ for each block. How many blocks come before the first that goes wrong?

# %%
predicted_blocks = None  # your prediction: blocks

# %%
elements_per_block = 16 * llama_8b.num_kv_heads * llama_8b.head_dim  # of one layer's keys
first_wrong = 2**31 // elements_per_block
compare(predicted_blocks, first_wrong, "blocks")
large = nhd_layout(num_blocks=2**18, block_size=16, num_kv_heads=8, head_dim=128)
for block in (first_wrong - 1, first_wrong) if predicted_blocks is not None else ():
    element = address(large, 0, 16 * block, 0, 0) // 2
    print(f"block {block:,} begins at element {element:,}: 2^31 {'+' if element >= 2**31 else '-'} {abs(element - 2**31):,}")

# %% [markdown]
# How large is such a pool? $2^{31}$ elements of 2 bytes are 4 GiB, and that is how much the one tensor may hold that the
# kernel strides through. Block size, heads and head size drop out; what is left is the number of layers, and what lies in
# the tensor together:

# %%
for what, keys in (  # what a block has in one tensor, in keys of one layer
    ("keys of one layer", 1),
    ("keys and values side by side", 2),
    ("all layers in a block", 2 * llama_8b.num_layers),
):
    first = 2**31 // (keys * elements_per_block)
    print(f"{what:<29} block {first:7,}, in pools of more than {first * bytes_per_block // GiB:4} GiB")
with np.errstate(over="ignore"):
    print("in 32 bits:", np.array([first_wrong], dtype=np.int32) * np.int32(elements_per_block))

# %% [markdown]
# A test with ten blocks never sees it; a server with much memory does, and only when its high block ids are in use. vLLM met
# it in 2023 (issue #1486, mended by PR #1514), and again in 2026: in its Triton kernel for decoding, which crashed
# (PR #47671), and where it uses PyTorch's FlexAttention, which crashed, or went wrong without an error (issue #50427;
# there the product is PyTorch's). The remedy is to widen the block id *before* the product.

# %% [markdown]
# ## 6. On the GPU (stretch)
#
# On a GPU one program writes one token, and all of a step's tokens are written at the same time. The words are those of
# lesson 2, section 6: programs, **lanes**, loads, and a mask. New is `tl.store`. This program copies one row of a table, of
# WIDTH numbers, to the same row of another:
#
# ```python
# row = tl.program_id(0)
# column = tl.arange(0, COLUMNS)  # COLUMNS is a power of two, so perhaps more than WIDTH
# numbers = tl.load(source + row * source_stride + column, mask=column < WIDTH)
# tl.store(target + row * target_stride + column, numbers, mask=column < WIDTH)
# ```
#
# In yours a lane is one number of the token's key, of all its heads together. A condition on a single number, such as a
# slot, goes into an `if`; one on lanes goes into a mask. (A GPU takes a mask of both, too. The interpreter does not: there
# it is `tl.where(number > 5, lane < n, False)`.) The slots may come in 32 bits, as block ids do, and `.to(tl.int64)` makes
# 64 of them, before anything is multiplied. You are given strides for everything, in
# elements: tokens and heads of the input may lie apart, and the cache may be in any of the orders above, as long as the
# numbers of one head are neighbours.
#
# The check runs it in Triton's interpreter, under a guard that stops it at the first access outside a tensor, and then
# compiles it for three GPUs. Two of the ten points are for reading no more than is written, and for moving a head or more
# at a time. It takes up to 8 seconds, longer on a busy machine. (Without Triton, on macOS or Windows, it says so; the
# rest of the lesson does not need it.)

# %% exercise="3.6"

# %% check="3.6"

# %% [markdown] solution="3.6"
# **Explained.** The same three steps as ever: look at the sign, split the slot, weigh by strides. `lane // HEAD_DIM`
# is the head because the numbers of a head are neighbours. (`lane % NUM_KV_HEADS` as the head, with `lane % HEAD_DIM`,
# happens to meet every number once if the two sizes have no common factor, and the check also uses sizes that have one.)
# `token` and `slot` are widened to 64 bits before anything is multiplied.

# %% [markdown]
# ## 7. Bug hunt
#
# **An upstream bug**, and one that was none. In nano-vllm, a small engine written to be read, a sequence takes a new
# block where `len(seq) % block_size == 1`. Reader after reader has reported that as an error, or sent a repair
# (GeeeekExplorer/nano-vllm, from issue #30 in 2025 to issue #240 in 2026); one of them took it back the next day (pull
# request #152). In another such engine a condition of this kind really was wrong (Wenyueh/MinivLLM, issue #75,
# pull request #85; 2026). Here are two engines in a dozen lines each, with blocks of 4. Both have computed a prompt. In
# both, a step writes the newest token of the sequence into its slot. They return the slots that they have written.

# %% shows="autograder.lessons.lesson03_hunt:engine_a"
print("A:", engine_a(prompt_tokens=5, num_steps=6))

# %% shows="autograder.lessons.lesson03_hunt:engine_b"
print("B:", engine_b(prompt_tokens=5, num_steps=6))

# %% [markdown]
# The same condition, the same slots for this prompt. One of the two engines is wrong: for other prompts it stops with an
# IndexError, as its table has no entry for the token. Which one, and for which prompt? (Leave `rest`, with which the
# condition compares, at 1 for now.)

# %% exercise="3.7a"
exposed = None  # {"engine": "A" or "B", "prompt": a number of tokens}
### BEGIN SOLUTION
exposed = {"engine": "B", "prompt": 4}
### END SOLUTION

# %% check="3.7a"
check("3.7a", exposed)

# %% [markdown]
# A remainder can be right, then, but it takes a pencil to see whether it is. Better to say what is meant. Write the
# function that does.

# %% exercise="3.7b"

# %% check="3.7b"

# %% [markdown] solution="3.7b"
# **Explained.** Needed minus there, and never less than none. `-(-n // b)` rounds up in whole numbers. It serves the
# first block as well as the next one, a prompt, a chunk, or a decode, and after a preemption, when the table is
# empty and the sequence long. It is what vLLM does.

# %% [markdown]
# Now you are the reviewer. Two pull requests come in. Both say that a block is full at a remainder of 0, and change the
# condition to `rest=0`: one in engine A, the other in engine B. Judge each: give a prompt with which the changed engine
# stops within 8 steps, or None if there is no such prompt.

# %% exercise="3.7c"
judged = {}  # judged["A"] = ..., judged["B"] = ...: a number of tokens, or None
### BEGIN SOLUTION
judged["A"] = 4
judged["B"] = None
### END SOLUTION

# %% check="3.7c"
check("3.7c", judged)

# %% [markdown] solution="3.7c"
# **Explained.** In A only prompts that are a multiple of 4 tell, a quarter of them; with blocks of 16 it is one prompt in
# sixteen. With the others each block is taken one step before it is needed, and is there when it is. That is why such
# repairs look right when they are tried. (MinivLLM compared with 0 where 1 was right, as A does now, though not where it
# takes a block: where it asks whether one is free.) All eight prompts; the number is the step in which an engine stops:
#
# | prompt | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 |
# |---|---|---|---|---|---|---|---|---|
# | A, remainder 1 | – | – | – | – | – | – | – | – |
# | B, remainder 1 | – | 3 | 2 | 1 | – | 3 | 2 | 1 |
# | A, remainder 0 | – | – | – | 1 | – | – | – | 1 |
# | B, remainder 0 | – | – | – | – | – | – | – | – |

# %% [markdown]
# ### Explain the bug
#
# In three to six sentences: (a) What does the length count in engine A, and what in engine B, at the moment of the
# comparison? (b) Why does the wrong engine survive some prompts? (c) What becomes of either condition in an engine that
# writes several tokens of a sequence in one step?
#
# 5 points, about 10 minutes, marked by hand: 2 for (a), 2 for (b), 1 for (c).

# %% [markdown] answer="3.7" points=5
# (a) In A the token that this step will write is in the length already: the prefill, or the step before, has
# counted what it sampled. So the length is one more than the tokens that have a slot, and the token to be written is the first of
# a new block exactly when the length is 1 more than a multiple of 4. In B the length counts the tokens that have a slot, and the new one
# is added after the comparison: there a remainder of 0 is the sign. (b) With a prompt of 1 more than a multiple of 4, B takes a
# block in its first step although its last block has three empty slots. When those are filled, the block is there, and in the
# step after B takes the next one: every block comes three steps early. It is used in the end, and nothing stops.
# (c) A step of several tokens can jump over the remainder,
# so no block is taken, or needs more than one block at once. Comparing needed with present blocks is right in any case.
#
# **Mark scheme.** (a) 1 for each engine. (b) 1 for the class of prompts, 1 for blocks that come early. (c) 1 for either of the two
# consequences.

# %% [markdown] criteria="3.7"
# - (a) For each engine: is the token that is about to be written in the length or not?
# - (b) Which prompts, and when each block comes, compared with the step that needs it.
# - (c) What a remainder cannot see when the length grows by more than one.

# %% [markdown]
# ## 8. It runs in your engine
#
# ### Text from your tables
#
# The engine of this course now finds every token through your functions. Count how often it asks.

# %%
calls: Counter[str] = Counter()


def counted(name: str) -> Callable[..., Any]:
    """Return your part of that name, or the library's, counting its calls."""
    part = parts.get(name)

    def call(*args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        return part(*args, **kwargs)

    return call


class CountedTable(parts.get("BlockTable")):
    """Your block table, counting what it is asked."""

    def append(self, block_ids: Iterable[int]) -> None:
        calls["BlockTable.append"] += 1
        super().append(block_ids)

    def slot(self, position: int) -> int:
        calls["BlockTable.slot"] += 1
        return super().slot(position)


mine = {"BlockTable": CountedTable, "slot_mapping": counted("slot_mapping")}
mine["reshape_and_cache"] = counted("reshape_and_cache")
prompts = ["A slot is", "The cache", "Paged attention", "The free queue", "Blocks of"]
greedy = SamplingParams(temperature=0, max_tokens=16)
llm = LLM(parts=EngineParts.of(mine))
texts = [output.outputs[0].text for output in llm.generate(prompts, greedy)]
expected = [
    output.outputs[0].text
    for output in LLM(parts=EngineParts.reference()).generate(prompts, greedy)
]
for prompt, text in zip(prompts, texts):
    print(f"{prompt} |{text!r}")
for name, times in calls.items():
    print(f"{name:<20} {times:4} calls")
print(f"{llm.model_config.num_layers} layers; the same text as with the library's parts: {texts == expected}")

# %% [markdown]
# `reshape_and_cache` is called once for each layer and step: 16 steps make 16 tokens of each text. The slots are found
# once for each step, because a slot is the same in all layers: by `slot_mapping` where a step has more than 16 tokens,
# as the first has, which computes the prompts, and by `slot` in a loop for 16 and fewer, 5 in each of the other 15
# steps. `append` is called twice for each request, for its first block and for its second. Why would the engine not
# always take the fast function?

# %% claims="16 steps make 16 tokens of each text"
steps_taken = calls["reshape_and_cache"] / llm.model_config.num_layers
assert texts == expected
assert steps_taken == 16
assert calls["slot_mapping"] == 1
assert calls["BlockTable.slot"] == 5 * 15
assert calls["BlockTable.append"] == 2 * 5

# %% [markdown]
# ### Measure: the loop and the array
#
# `microseconds(function)` calls a function without arguments again and again, and returns the shortest time. There are two
# batches from the conversations, 16 requests that decode and 256 that decode, and a made-up one, a chunk of 2,048 tokens
# of one request. `work` holds two functions for each of them: `loop` calls your `slot` for each token, `array` your `slot_mapping` once.

# %%
def microseconds(function: Callable[[], object], budget: float = 0.15) -> float:
    """Return the shortest time of a call out of five or more, in microseconds."""
    times, end = [], time.perf_counter() + budget
    while len(times) < 5 or time.perf_counter() < end:
        begun = time.perf_counter()
        function()
        times.append(time.perf_counter() - begun)
    return 1e6 * min(times)


def translation(contexts: Sequence[int], new_tokens: int) -> dict[str, Callable[[], object]]:
    """Return both ways to find the slots of the newest tokens of some sequences."""
    pool = iter(random.Random(0).sample(range(1, 40_000), 39_999))
    tables = [BlockTable(16) for _ in contexts]
    for table, context in zip(tables, contexts):
        table.append([next(pool) for _ in range(-(-context // 16))])
    spans = [range(context - new_tokens, context) for context in contexts]
    pairs = [(table, position) for table, span in zip(tables, spans) for position in span]
    rectangle = pad_block_tables([table.ids for table in tables])
    starts = np.arange(len(contexts) + 1) * new_tokens
    positions = np.array([position for _, position in pairs])
    return {
        "loop": lambda: [table.slot(position) for table, position in pairs],
        "array": lambda: slot_mapping(rectangle, starts, positions, 16),
    }


work = {f"{size} decodes": translation(contexts[:size], 1) for size in (16, 256)}
work["a chunk of 2,048"] = translation([2048], 2048)

one_slot = microseconds(lambda: tables["r0"].slot(9))
sixteen = np.arange(16)
one_operation = microseconds(lambda: sixteen // 16)
print(f"one call of slot: {one_slot:.2f} µs; one operation of NumPy on 16 numbers: {one_operation:.2f} µs")

# %% [markdown]
# A vectorised function like the library's makes about twenty such operations.
#
# **Predict:** for 16 decodes, how many times as long does the loop take as the array? (Below 1: the loop is faster.)

# %%
predicted_ratio = None  # your prediction: loop / array, for 16 decodes

# %% exercise="3.8"
def loop_over_array(ways: dict[str, Callable[[], object]]) -> float:
    """Measure, with ``microseconds``, how many times as long the loop takes as the array.

    Args:
        ways: Two functions without arguments that do the same work: ``ways["loop"]`` and
            ``ways["array"]``.
    """
    ### BEGIN SOLUTION
    return microseconds(ways["loop"]) / microseconds(ways["array"])
    ### END SOLUTION


# %% check="3.8"
check("3.8", loop_over_array)

# %% [markdown] solution="3.8"
# **Explained.** What you measure depends on the machine, so the check hands your function two ways of its own, of which it
# knows how long they take. As a rule the loop is ahead for 16 decodes, behind for 256, and far behind for a chunk.

# %%
ratios = {name: loop_over_array(ways) for name, ways in work.items()}
if all(ratios.values()):
    compare(predicted_ratio, ratios["16 decodes"], "times")
if all(ratios.values()) and predicted_ratio is not None:
    print("loop / array:", ", ".join(f"{name} {ratio:.2g}" for name, ratio in ratios.items()))

# %%
print("decodes   loop, µs   array, µs")
for size in (16, 32, 64, 128, 256):
    ways = translation(contexts[:size], 1)
    times = {name: microseconds(way, 0.1) for name, way in ways.items()}
    ahead = min(times, key=lambda name: times[name])
    print(f"{size:7} {times['loop']:10.1f} {times['array']:11.1f}   the {ahead} is ahead")
ways = work["a chunk of 2,048"]
print(f"a chunk: {microseconds(ways['loop']):6.1f} {microseconds(ways['array']):11.1f}")

ids_of_all = [np.arange(-(-context // 16), dtype=np.int32) for context in contexts]  # as the engine has them
whole = microseconds(lambda: pad_block_tables(ids_of_all))
kept, changed = pad_block_tables(ids_of_all), np.arange(16)
last = np.array([len(ids) - 1 for ids in ids_of_all[:16]])


def sixteen_new_entries() -> None:
    """Write the entries that are new in a step into a table that is kept."""
    kept[changed, last] = 7


print(f"the rectangle of 256 tables: {whole:.0f} µs anew; 16 new entries in a kept one: ", end="")
print(f"{microseconds(sixteen_new_entries):.1f} µs")
looked_up = llama_8b.embedding_params  # a token needs one row; the output layer has as many, for the last token alone
weights_ms = 1000 * (llama_8b.weight_bytes - 2 * looked_up) / GPUS["h100"].memory_bandwidth
multiplied = (llama_8b.num_params - 2 * looked_up) * 2048 + looked_up  # each is 2 operations
chunk_ms = 1000 * 2 * multiplied / GPUS["h100"].peak_flops
print(f"Llama-3.1-8B on an H100, at best: a decode step reads the weights in {weights_ms:.1f} ms,")
print(f"and a step with a chunk of 2,048 tokens calculates for {chunk_ms:.0f} ms")

# %% [markdown]
# What follows holds of the library's two functions, and of yours if they earned full marks. The array's time hardly
# grows from 16 decodes to 256: nearly all of it is the price of calling NumPy. So the fast function loses where there is
# little to do, and an engine that serves one user takes the loop.
#
# Where would *you* switch, by your figures? The engine's own loop has more to do than this one, as it takes the
# positions out of an array, row by row, and puts the slots into one. When the engine was written the two were measured to
# meet there between 24 and 32, so 16 is the last of the sizes above at which its loop wins, and up to 16 it takes the loop.
#
# For 256 decodes the array takes less than the rectangle, which the engine builds anew in each step because that is
# simple: vLLM keeps its table on the GPU, and sends only the entries that are new.
#
# ### Explain what you measured
#
# In three to six sentences, with figures of yours and their units: (a) Where do loop and array cross, and what is
# the array's time made of, at 16 decodes and for the chunk? (b) What share of its step is the translation, for the
# decodes and for the chunk? Does it matter which way is taken?
#
# 4 points, about 8 minutes, marked by hand: 2 for (a), 2 for (b).

# %% [markdown] answer="3.8" points=4
# (a) They cross between 64 and 128 decodes, as measured here. At 16 decodes the array's eleven microseconds are calls: fifteen to
# twenty NumPy operations of half a microsecond to one each, hardly any arithmetic; the loop pays 0.1 to 0.25 µs for a token
# and nothing beforehand, 2 to 4 µs in all. For the chunk of 2,048 the array takes not even twice its flat price, and the loop a hundred
# times what it took for 16 tokens, as it has more than a hundred times as many. (b) A decode step takes 4.5 ms at least, for
# reading the weights, so 2 or 11 µs are less than 0.3% of it. The step with the chunk calculates for 29 ms at least, so the array's
# 15 to 20 µs are less than 0.1% of it, and the loop's 200 to 500 µs 0.7 to 1.7%. That is on the CPU, and the GPU waits for it
# unless steps overlap; the array takes it away, the choice at 16 decodes hardly matters.
#
# **Mark scheme.** (a) 1 for the crossing with figures, 1 for calls against arithmetic. (b) 1 for two shares, each of its own step: the
# chunk's translation belongs to a step of 29 ms, not of 4.5; 1 for where the choice matters.

# %% [markdown] criteria="3.8"
# - (a) Between which two sizes the order changes. What the array pays whatever the size, and what grows with it.
# - (b) Each time against that of its own step, in the same unit, and whether the GPU has to wait for the CPU.

# %%
parts.table(lesson=3)

# %% [markdown]
# ## 9. In vLLM 0.33.0
#
# | here | in vLLM 0.33.0, `vllm/v1/` |
# |---|---|
# | `BlockTable`, `pad_block_tables` | `BlockTables` in `worker/gpu/block_table.py`: a table on the GPU for all requests is kept from step to step, and `append_block_ids` stages what is new; the rows of those that a step serves are gathered from it into a second one |
# | `slot_mapping` | `_compute_slot_mappings_kernel`, in the same file: one program for each sequence and one for the padding, in each group of layers that has tables of its own |
# | -1, and the null block | `PAD_SLOT_ID` and `NULL_BLOCK_ID` in `attention/backends/utils.py` |
# | `reshape_and_cache_kernel` | `reshape_and_cache_kernel_flash` in `attention/ops/triton_reshape_and_cache_flash.py`, for its Triton attention; FlashAttention and FlashInfer call the CUDA operation `reshape_and_cache_flash` |
# | `nhd_layout`, `hnd_layout` | `KVCacheLayout` in `kv_cache_layout.py`: six orders of layer, block, head, token and content, as a rule key and value of a head side by side; NHD and HND are names for two of them |
# | `split_layout` | `split_kv_cache` in `attention/ops/paged_attn.py`, for keys, which `rocm_attn.py` uses; two backends for AITER, AMD's library of kernels, have this order of their own, as an option |
# | `blocks_to_add` | `allocate_new_blocks` in `core/single_type_kv_cache_manager.py`: `cdiv(num_tokens, block_size) - len(req_blocks)` |
#
# **What production code does beyond this, and why.**
#
# - It translates on the GPU, where tables and positions are. Then nothing has to be waited for, and the CPU may already plan
#   the next step.
# - It pads slots from the *true* number of tokens on. Its buffers are used again in each step, and behind the tokens stand
#   slots of an earlier, longer chunk: valid ones. Whoever began at the size of the CUDA graph would leave those in
#   between, and padding would be written over live keys.
# - It sets the rows of block tables that have no request to the null block, and *only* those. Behind the end of a request's
#   row stands what an earlier, longer row has left, and some of it is somebody's by now. What protects it is the length
#   alone: a kernel may load such an entry, and must mask what it leads to before it counts.
# - Its tables also change elsewhere than at the end: below a sliding window, entries become the null block.
# - A backend may say which orders it can read (`supported_kv_cache_layouts`). FlashAttention and Triton say nothing, which
#   means any; FlashInfer on GPUs of compute capability 10 (such as B200), and vLLM's own backend for CPUs, read only HND.

# %% [markdown]
# ## 10. Quiz
#
# Practise in the widget first: it says at once what each choice means. Then write your letters into the cell below it,
# which is what counts. There are ten questions, a point each; eight right, 80%, is a pass.

# %% quiz="3"

# %% [markdown]
# ## 11. Interview corner
#
# Answer aloud, in two minutes each, before you unfold what a strong answer holds.

# %% [markdown] interview="3"

# %% [markdown]
# ## 12. Takeaways
#
# - Position → (logical block, offset) → physical block → slot → byte. The table is the only step that remembers anything.
# - slot = table[p // B] · B + p % B, the same number in every layer, for keys and values. One mapping per step.
# - Tables are padded with the null block, slot mappings with -1. Everybody who writes has to leave -1 out: it is the last slot
#   in Python, and in Triton, with NHD, one in front of the cache.
# - A layout is a set of strides. NHD writes a token in one piece, HND reads a head of a block in one piece; with several
#   heads, none does both.
# - block × stride in 64 bits.
# - Ask how many blocks are needed and how many are there. A remainder is right or wrong by the order of two other lines.
# - Vectorised code pays for each call, a loop for each token. Measure where they cross.
#
# **Lesson 4 needs** the block as the unit of allocation, and the rest of the last block, which you have seen empty in every
# figure. How much memory does it waste, and what would other allocators waste?

# %% [markdown]
# ## Appendix
#
# <details><summary>Guided reading: the mapping kernel of vLLM (20 minutes)</summary>
#
# Open `vllm/v1/worker/gpu/block_table.py` at tag `v0.33.0` in
# [the repository](https://github.com/vllm-project/vllm) and find `_compute_slot_mappings_kernel`.
#
# 1. Which program writes the padding, and why does it start where it does?
# 2. What happens to a request whose `idx_mapping` is -1?
# 3. `append_block_ids` raises a RuntimeError. What does it guard? And which invariant of section 3 does the mapping kernel
#    take on trust where it loads an entry of the table?
# 4. Block ids are loaded as 32-bit numbers and multiplied by the block size as they are. In `vllm/v1/worker/block_table.py`, an
#    older class does the same and widens them first. Is the new one a bug?
#
# *What to find there.*
#
# 1. The last one. It starts at the true number of tokens, "to cover the gap between actual tokens and padded tokens that can
#    contain stale valid slot IDs from previous chunks".
# 2. It is a dummy, or padding up to a graph's size: its row of the table is never read, and its tokens get -1.
# 3. That the row has room, which our tables need not ask, as they grow. The kernel trusts that the block is in the table
#    before its first token is written: it does not look whether the position lies inside the row, and a position beyond it
#    reads an id of the next row (issue #53982 and PR #54296, both open when this was written).
# 4. No: a *slot* stays below $2^{31}$ as long as the pool has fewer tokens. What must be widened is
#    the product of a block and a stride, and the attention kernel does that (`physical_block_idx ... .to(tl.int64)` in
#    `triton_unified_attention.py`).
#
# </details>
#
# <details><summary>What older material says differently</summary>
#
# - "The KV cache has shape [num_blocks, num_heads, head_size/x, block_size, x]": the keys of vLLM's first kernels. Today that is
#   the layout of some backends for AMD's GPUs.
# - "Block tables are padded with -1": so vLLM's older runner filled the rows without a request until PR #35431 (2026).
# - "`len(seq) % block_size == 1` is off by one": it depends, see section 7.
# - "The indirection costs nothing": it is one more load per block, and the keys cannot be asked for before it has come back.
#
# </details>
