# %% [markdown]
# # Lesson 8: Share what is equal, copy what is written
#
# **Time** 3 hours and a half (2 and a quarter for exercises, quiz and what you write, the rest to read, run and look),
# and an hour more for two stretches; 45 minutes for the whole lesson if you read it and do no exercise ·
# **Difficulty** ●○○ to ●●● · **Points** 100, of which 18 are the two stretches
#
# Lesson 7 made blocks that several may hold, and that keep what is in them after the last holder has gone. This
# lesson puts that to use. Two requests that begin alike share blocks; one request that becomes four shares all of
# them; and when one of the four writes, it gets a copy of the one block that it writes into.
#
# **By the end you will have built** the names by which blocks are found, the search for the longest prefix and a test
# of it, fork and copy-on-write, and the method that makes room for every token of the engine; with the stretches also
# the kernel that copies blocks, and a tree of prefixes. You will be able to say what a hit rate means, and what it does
# not. In the map below, the boxes with a thick outline are this lesson's.
#
# **You need** lesson 3 (block tables, and kernels with strides) and lesson 7: `get_new_blocks` takes blocks from the
# front of the free queue; `touch` adds a holder, and takes the block out of the queue if it had none; `free_blocks`
# takes a holder off, and queues a block without holders, at the back if it has a hash. From lessons 5 and 6 you need
# two sentences. The engine works in *steps*: in each one it asks, for every request that is served, for room for the
# next tokens. A request for which there is none waits, and is asked about again in the next step. You need no GPU.

# %%
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from autograder.notebook import check, compare, explain, quiz, task
from course_lib import parts, viz
from course_lib.engine import LLM, EngineParts, SamplingParams
from course_lib.kv_cache import (
    BlockPool,
    KVCacheBlock,
    KVCacheManager,
    PlainRequest,
    RequestBlocks,
    find_violations,
    infinite_cache_hit_rates,
    replay_prefix_cache,
    under_check,
)
from course_lib.kv_cache import RadixTree as LibraryTree
from course_lib.kv_cache.prefix import hash_block, root_hash
from course_lib.kv_cache.watch.manager_steps import RandomTraffic, run_step, state_of
from course_lib.roofline import forward_flops
from course_lib.simulation.workload import load_mooncake
from course_lib.specs import GPUS, MODELS
from course_lib.viz.kit.charts.axes import Axis, LogAxis
from course_lib.viz.kit.charts.curves import Curve, curve_chart

torch.set_num_threads(1)  # the model is small: several threads would wait for each other

# %%
viz.EngineMap(lesson=8)

# %% [markdown]
# ## 1. Warm-up
#
# Three questions on the lessons before. The check is immediate and earns no points.

# %% exercise="8.W1"
tokens_in_last_block = None  # tokens
### BEGIN SOLUTION
tokens_in_last_block = 1000 - 62 * 16
### END SOLUTION

# %% check="8.W1"
check("8.W1", tokens_in_last_block)
# %% exercise="8.W2"
block_bytes = None  # bytes
### BEGIN SOLUTION
block_bytes = 16 * 128 * 1024
### END SOLUTION

# %% check="8.W2"
check("8.W2", block_bytes)
# %% exercise="8.W3"
lost_block = None  # its id
### BEGIN SOLUTION
lost_block = 3
### END SOLUTION

# %% check="8.W3"
check("8.W3", lost_block)
# %% [markdown]
# ## 2. The problem, seen first
#
# Mooncake is the platform that serves the chatbot Kimi. Its authors published an hour of conversations (Qin et al.,
# FAST '25): no texts, but for each prompt a list of ids, one for each block of 512 tokens. Two prompts have the same
# id in the same place exactly if they are equal up to the end of that block.

# %%
mooncake = load_mooncake()
last_seen: dict[int, float] = {}
pauses = []
for request in mooncake:
    num_found = 0
    while num_found < len(request.hash_ids) and request.hash_ids[num_found] in last_seen:
        num_found += 1
    if num_found > 1:  # more than the block with which all begin
        pauses.append(request.arrival_time - last_seen[request.hash_ids[num_found - 1]])
    last_seen.update((hash_id, request.arrival_time) for hash_id in request.hash_ids)
mean_tokens = sum(r.prompt_tokens for r in mooncake) / len(mooncake)
mean_blocks = sum(len(r.hash_ids) for r in mooncake) / len(mooncake)
rate = len(mooncake) / (mooncake[-1].arrival_time - mooncake[0].arrival_time)
num_a100 = parts.get("num_kv_blocks")(MODELS["llama-3.1-8b"], GPUS["a100-80gb"], 512)
unlimited = infinite_cache_hit_rates(mooncake)
print(mooncake.source)
print(f"{len(mooncake):,} prompts, {rate:.1f} a second, {mean_tokens:,.0f} tokens on average", end=", ")
print(f"which is {mean_blocks:.0f} blocks of 512")
print(f"all begin with the same block; {len(pauses) / len(mooncake):.0%} go on with what was there before,", end=" ")
print(f"half of them after more than {sorted(pauses)[len(pauses) // 2]:.0f} s")
print(f"a cache that never forgets a prompt has {unlimited.token_weighted:.0%} of all prompt tokens")
print(f"beside Llama-3.1-8B, an A100 with 80 GB has room for {num_a100} such blocks")

# %% [markdown]
# More than a third of all prefill need not be done, by a cache without limit. **Predict:** what share of the prompt
# tokens does the cache of that one A100 have? You can reason it out: for how long does a prompt stay in 938 blocks?
# Write a number down. You will measure it yourself in section 9.

# %%
predicted_share = None  # your prediction: % of the prompt tokens

# %% [markdown]
# What it means to share, in a pool so small that you can see all of it. In the figure three prompts, A to C, lie in
# blocks of 4 tokens; the number of holders stands in brackets behind a block that has more than one. A further prompt,
# D, has just come. Choose another one, and try this: D begins like A; the same with its *first* token changed, then
# its last; D has exactly 8 tokens; D has a salt.

# %%
viz.prefix_tree()

# %% [markdown]
# Change the first token, and nothing is shared, though all other tokens are the same. Of a prompt of 8 tokens of
# which all 8 are cached, the second block is computed again. Section 3 says why, and you will write what decides it.
#
# ## 3. A name for what is in a block
#
# ### Equal tokens are not enough
#
# The key of a token is computed from what the layer below has made of it. In the first layer that is the token and its
# place alone. But attention adds to it what stands in front, so from the second layer on a key depends on *every token
# up to its own*. Whoever wants to reuse a block must know that all tokens from the first one on are equal, and not
# those of the block alone. (Equal beginnings also have equal places, which are part of every key: lesson 1.)
#
# To compare them all would take as long as the prompt is. A **hash** is a number of fixed length computed from data
# of any length, so that different data have, in practice, different numbers. The hash of a block is made of its own
# tokens and *the hash of the block in front of it*, which stands for everything before:
#
# $$h_0 = \operatorname{root}(\text{salt}), \qquad h_i = \operatorname{SHA256}(h_{i-1}, \text{ the tokens of block } i)$$
#
# Equal hashes then mean an equal beginning, block by block, and one dictionary from hash to block finds any prefix.
# SHA-256 has 256 bits; that two prefixes have the same by accident is out of the question, and nobody knows how to
# make two.
#
# ```text
# blocks of 2         [1 2] [3 4]          [7 8] [3 4]
# hashes               f(root, 1 2) = a     f(root, 7 8) = c
#                      f(a, 3 4)    = b     f(c, 3 4)    = d       b and d differ: another past
# ```
#
# Three details:
#
# - **What is hashed is the token, all of it.** One of the tables of `vllm-mlx` kept the low byte of each token. For it,
#   tokens 65 and 321 were the same, and a request could get the KV of another prompt (pull request #444, 2026).
# - **A block that is not full has no hash.** More tokens will come into it.
# - **A salt** is a text that a request may bring along. It goes into the root, so that requests with another salt
#   have other hashes throughout. Why would anybody *not* want to share? Because the first token comes sooner if a
#   prefix is cached. Whoever shares a cache with you can send a guess of your prompt and time the answer.
#
# `root_hash(cache_salt)` and `hash_block(parent_hash, token_ids)` were imported at the top. The chain is yours.

# %% exercise="8.1"

# %% check="8.1"

# %% [markdown] solution="8.1"
# **Explained.** What is handed on from block to block is the whole point: `parent_hash` is the hash in front, and
# becomes the hash just made. If a parent is given, the tokens go on from there; a request that grows is hashed once,
# and not anew for every token. The library turns all tokens into bytes at once and cuts those, which saves a third of
# the time; a loop over slices of the list is as right. `cache_salt or ...` would take the salt `""` for none, so ask
# for `None` where you mean it.

# %%
hashes = parts.get("hash_blocks")
for tokens in ([1, 2, 3, 4], [7, 8, 3, 4]):
    print(tokens, [each.hex()[:8] for each in hashes(tokens, 2) or []])
for salt in (None, "", "tenant a"):
    print(f"salt {salt!r:<11}", [each.hex()[:8] for each in hashes([1, 2, 3, 4], 2, salt) or []])

# %% [markdown]
# ### How far a prompt follows the chain
#
# A **hit** is what a request can begin with: the cached blocks from its first one on. Two rules limit it.
#
# - **A hole ends it.** A request computes from one position on to the end, so a cached block behind a missing one is
#   computed all the same. (`llm-d-inference-sim`, which imitates vLLM, counted such blocks, and reported more hits
#   than vLLM would have: issue #705, 2026.)
# - **The last known token is never found.** Its output decides the next token, so at least that one must be computed:
#   of $n$ tokens at most $n - 1$ can be found. As only whole blocks are, that makes
#
# $$\text{at most } \left\lfloor \frac{n-1}{B} \right\rfloor \text{ blocks}$$
#
# With 64 tokens cached in blocks of 16, prompts of 63, 64 and 65 tokens find 48, 48 and 64. And if all your users
# share 240 tokens, and the model has blocks of 784, nothing is found. It has been reported as a bug, with blocks of
# 2,096 tokens and measured to the token (vLLM issue #53749, 2026). Section 10 says why a model has blocks so large.
#
# Here are the lines of the function, and three that do not belong. Put them in order.

# %% exercise="8.2a"

# %% check="8.2a"

# %% [markdown] solution="8.2a"
# **Explained.** The limit comes first, `max` only for a request without tokens; then the walk, which leaves at the
# first hash that is not in the dictionary. Nothing is changed on the way: who looks has not taken anything yet.

# %% [markdown]
# You know now what a right lookup does. Suppose that somebody sends you another one, to be merged. How would you find
# out whether it keeps both rules? Write the test. It gets a function `lookup` that is called like yours,
# `lookup(block_hashes, cached_blocks, num_tokens, block_size)`, and returns one text for each case on which it is
# wrong: a right one gets `[]`. Hashes are `bytes`, such as `b"a"`, and blocks may be plain numbers, as in `{b"a": 3,
# b"b": 7}`. The check has nine lookups that are wrong, each in its own way, and five that are right and look very
# different. Rejecting a right one earns nothing.


# %% exercise="8.2b"
def complaints(lookup: Callable[..., list[int]]) -> list[str]:
    """Return one text for each case on which a lookup of the longest cached prefix is wrong.

    Args:
        lookup: Called as lookup(block_hashes, cached_blocks, num_tokens, block_size), with the
            hashes of all full blocks. Returns the blocks found, in order.

    Returns:
        What is wrong, a text for each case; nothing for a lookup that is right.
    """
    ### BEGIN SOLUTION
    cached = {b"a": 3, b"b": 7, b"d": 5}
    cases = {
        "a token behind two blocks": ([b"a", b"b"], 33, 16, [3, 7]),
        "two whole blocks": ([b"a", b"b"], 32, 16, [3]),
        "a hole in the middle": ([b"a", b"c", b"b", b"d"], 65, 16, [3]),
        "a hole at the front": ([b"c", b"a", b"b"], 49, 16, []),
        "other blocks": ([b"a", b"b", b"d"], 7, 2, [3, 7, 5]),
    }
    wrong = []
    for name, (hashes, num_tokens, block_size, expected) in cases.items():
        found = lookup(hashes, cached, num_tokens, block_size)
        if found != expected:
            wrong.append(f"{name}: {found} instead of {expected}")
    return wrong
    ### END SOLUTION


# %% check="8.2b"

# %% [markdown] solution="8.2b"
# **Explained.** Five cases do it, because each is at an edge: a token more than whole blocks, and none; a hole with
# cached blocks behind it, in the middle and at the front; another block size. One of the nine looks for the first
# miss by *bisection*. In a cache that is kept well it is right, because a block is never there without those in front
# of it. Only a hole with cached blocks behind it gives it away. Which blocks, and in which order, matters as much as
# how many: the table is made of them.

# %% [markdown]
# ### Two blocks that hold the same
#
# The figure has shown it: a prompt of two full blocks that comes twice is found but for its last block, and then two
# blocks hold the same, under one hash: `a: 1*(2) 2*  b: 1*(2) 3*` while both run. One might merge them. vLLM, and your
# pool from lesson 7, keep both until they are free and needed. vLLM's reason is that the table of a request is meant to
# be appended to, and no entry of it exchanged. (SGLang merges: one call, `cache_unfinished_req`, gives the second block
# back and writes the first into the table.)
#
# ## 4. One request becomes four
#
# "Give me four answers to this" is one prompt and four requests that go on from it. At the **fork** the children take
# over the parent's block table: each block in it has four holders then, and no byte is moved. Then they write.
# **Predict:** the prompt has 10 tokens in blocks of 4. Each of the four writes one token. How many blocks are copied in
# all, and does it matter who is first? The figure shows the moment before the first write.

# %%
predicted_copies = None  # your prediction: blocks

# %%
viz.fork_film()

# %% [markdown]
# Choose the order of the writers, and a prompt of 8 tokens. This is **copy-on-write**: a block with several holders
# must not be written into, because the token would appear in the others' past. Who writes gets a new block with a
# copy of what is computed in the old one, and leaves the old one to the rest. The last of them has it to itself, and
# copies nothing. Full blocks are never written again, so they stay shared for good, and a prompt that ends with a
# full block costs no copy at all.
#
# Take $n$ samples of a prompt of $P$ tokens, with $G$ tokens generated for each, at least 2. The last of them is never
# written into the cache, since nothing is computed from it. So a sample has $P + G - 1$ slots, and
#
# $$\text{blocks} = \left\lfloor \frac{P}{B} \right\rfloor + n \left( \left\lceil \frac{P + G - 1}{B} \right\rceil - \left\lfloor \frac{P}{B} \right\rfloor \right),
# \qquad \text{copies} = \begin{cases} n - 1 & \text{if } B \text{ does not divide } P \\ 0 & \text{otherwise} \end{cases}$$
#
# For $n = 8$, $P = 1000$, $G = 200$ and $B = 16$: $62 + 8 \cdot (75 - 62) = 166$ blocks instead of $8 \cdot 75 =
# 600$, and 7 copies.
#
# Work one out on paper. In the states, `1*(3) 2(2)` is a table: block 1, which holds a cached prefix and has 3 holders,
# and block 2, which has 2.

# %%
compare(predicted_copies, 3, "blocks")

# %% exercise="8.3"
answer = {"seed": 1}
# Write answer["copy 1"] = [source, destination], answer["table 1"] = [...] and so on.
### BEGIN SOLUTION
answer["copy 1"] = [1, 8]
answer["table 1"] = [3, 5, 8]
answer["copy 2"] = [1, 6]
answer["table 2"] = [3, 5, 6]
answer["copy 3"] = []
answer["table 3"] = [3, 5, 1]
answer["copy 4"] = []
answer["table 4"] = [3, 5, 6, 2]
### END SOLUTION

# %% check="8.3"
check("8.3", answer)

# %% [markdown] solution="8.3"
# **Explained.** For each write ask one question: how many hold the block into which the token goes? More than one:
# take the first of the free queue, copy, and the old block has a holder less. One: write. That is the last of them to
# write, and whoever has copied before. If the last block is full, the token begins a block, and nothing is copied
# however many hold the full one.

# %% [markdown]
# ### What the manager keeps
#
# `KVCacheManager` keeps the account of who holds what. For each request that holds blocks, its `request_blocks` has
# an entry by the request's id, of this class. (One that was looked up, and holds nothing, has an entry without blocks.)

# %%
print(RequestBlocks.__doc__)

# %% [markdown]
# Of a request a manager reads `request_id`, `all_token_ids` and how many they are, `num_tokens`, furthermore
# `num_computed_tokens` and `cache_salt`. `self.holding(request_id)` returns the entry of a request that holds blocks,
# and raises the UnknownRequestError for another.
#
# In the failing cases of the next checks, `plainrequest1 = PlainRequest(...)` is a request with its id and its tokens;
# `run_step(obj, request, 3, [8])` stands for the model: it carries out the copies that are due, counts 3 more tokens
# as computed, and adds the sampled token 8. `state_of(obj)` is the line that you know; blocks that somebody holds and
# that are in no table stand behind `held`. `kept_by(obj)` is what stands in the entries of `request_blocks`, of each
# hash the first four digits. When a check fails, a button below it opens the case in the figure of lesson 7, and leads
# to the first state that is not as it should be.

# %% exercise="8.4a"

# %% check="8.4a"

# %% [markdown] solution="8.4a"
# **Explained.** A holder more for each block is all that happens in memory. The rest is account. The child's table is
# a list of its own: its first write will replace a block *in it*. Of the hashes it takes over those of blocks that its
# computed tokens fill, and no more: behind them it may go on with other tokens, and would cache them under the
# parent's names. The same holds for the count of cached blocks. `num_forks` is there for speed: as long as nobody
# was forked, no block that is written into can be shared, and `allocate_slots` need not look. The errors come first,
# so that after one nothing has changed.

# %% [markdown]
# The first write comes later, in `allocate_slots`, which section 5 is about. It finds out which blocks are shared and
# about to be written, takes as many new ones, and hands both to the method that you write now.

# %% exercise="8.4b"

# %% check="8.4b"

# %% [markdown] solution="8.4b"
# **Explained.** The new block takes the place of the shared one in *this* table; in the others the shared one stays.
# The pair is noted, not copied: the manager knows ids, and the memory is on the GPU. A block that begins at or behind
# `num_computed_tokens` has nothing in it yet (a fork in the middle of a prompt has such blocks), so a new block in
# its place is enough. Freeing takes one holder off. If the block has others, it stays in use. Section 5 shows one
# that has none left: that is free now, and can still be found.

# %% [markdown]
# ### What must hold, and what breaks
#
# | what must hold | what a user sees when it does not |
# |---|---|
# | Two blocks have the same hash exactly if all tokens from the first one on, and the salts, are equal. | An answer goes on from somebody else's prompt, or another tenant's. |
# | A hit ends before the last known token. | Nothing is computed, there is nothing to sample from, and the engine stops. |
# | Who writes into a block is its only holder. | A word of one answer appears in the middle of another. |
# | Copies are carried out before the step writes, each as if after the one before it. | A child reads what was never its own. |
# | A refusal changes nothing. | Memory is lost bit by bit, until nobody can be served. |
# | If a block has a hash, all in front of it can be found. | Memory is full of prefixes that nobody can reach, for now at least. |
#
# The last row has an exception here. A fork that knows fewer tokens than its parent gives up several shared blocks at
# once, the front one first, so the end of their chain may stay cached for a while where nobody finds it. Nothing wrong
# is read.
#
# ## 5. Room for the next tokens
#
# Every token that your engine computes needs a slot, and one method provides all of them: `allocate_slots`. vLLM calls
# it in every step for every request that is served; your engine leaves out calls that would change nothing (lesson
# 12). Here everything comes together: the table must be long enough; hits become the request's own; shared blocks that
# are about to be written are replaced; full blocks get their hashes; and if there is not enough room, the answer is
# None and *nothing has changed*.
#
# What is enough? Take `free [6 7 | 3* 2* 1*]`, and a request that finds 1, 2 and 3. Five blocks are free. If it needs
# two more, there is room: it takes 6 and 7. If it needs three more, there is not. The hits are in the free queue, and
# they leave it when they are touched; the same block cannot be had twice. A hit that somebody else holds is not in
# the queue, and takes nothing away.
#
# Which blocks must not be written into? Those that others hold as well, and one kind more. Blocks have 2 tokens here:

# %%
manager = KVCacheManager(num_blocks=7, block_size=2)
parent, child = PlainRequest("p", [5, 6, 7, 8, 9]), PlainRequest("c", [5, 6, 7])
manager.allocate_slots(parent, num_new_tokens=5)
run_step(manager, parent, 5)
print(f"{state_of(manager)}  p has computed 5 6 7 8 9")
manager.fork(parent, child)
manager.free(parent)
print(f"{state_of(manager)}  c, which goes on from 5 6 7, was forked, and p has ended")
run_step(manager, child, 0, [1])
manager.allocate_slots(child, num_new_tokens=1)
print(f"{state_of(manager)}  c makes room for the 1 behind its 7; copied: {manager.block_copies}")

# %% [markdown]
# In the second line nobody but c holds block 2. Still c must not write its 1 into it, because the hash of block 2
# promises 5 6 7 8 to whoever looks for that. So c gets a copy, and block 2 keeps its promise, in the free queue. You
# need not find such blocks yourself: `held.shared_from(index)` returns both kinds, from a place in the table on.
#
# Two rules concern a request that is *admitted*, which is one that holds no blocks yet. It must leave a share of the
# pool free, so that those who run can grow. And with `full_sequence_must_fit` there must be room for all of its tokens,
# although it takes blocks for the next ones only. So count twice; for the second count, here is the number of slots
# (`num_slots` is how many the table has to have after the call):
#
# ```python
# must_fit = max(num_slots, request.num_tokens) if full_sequence_must_fit else num_slots
# ```
#
# This exercise has the least scaffold and earns the most: the specification, and an empty cell. The manager has
# helpers for the parts that are not the point; `help(KVCacheManager.admit)` says more about one. `held` is the entry of
# the request, as `blocks_of` returns it.
#
# | helper | what it does |
# |---|---|
# | `self.blocks_of(request)` | returns the entry of a request; if it has none, a new one that is not entered yet |
# | `self.require_hits(held, hits, num_tokens)` | raises the ValueError if hits were passed that are none |
# | `self.blocks_to_add(num_tokens, num_blocks, self.block_size)` | lesson 3: how many blocks a table of `num_blocks` lacks for that many tokens |
# | `held.shared_from(index)` | the blocks from that place of the table on that must not be written into |
# | `self.block_pool.get_num_free_blocks()` | how many blocks are in the free queue |
# | `self.num_blocks_kept_free()` | how many of them a request that is admitted must leave free |
# | `self.hash_full_blocks(held, num_blocks)` | makes sure that the hashes of the first blocks are there; raises the ValueError for a token that cannot be hashed |
# | `self.admit(held, computed_blocks)` | touches these blocks, which are the hits, makes them the table of a request that holds no blocks, and enters it |
# | `self.block_pool.get_new_blocks(num_blocks)` | lesson 7: takes blocks from the front of the free queue |
# | `self.replace_shared(held, shared, new_blocks, num_computed_tokens)` | yours |
# | `self.cache_full_blocks(held, num_blocks)` | lets others find the first blocks, whose hashes are there |
#
# `held.blocks` is empty exactly if the request is new. *Drafts*, of which the specification speaks, are guesses at
# later tokens, which may be taken back (lesson 12): a request may ask for slots for more tokens than it knows. Write
# down first, on paper, in which order you do what.

# %% exercise="8.5"

# %% check="8.5"

# %% [markdown] solution="8.5"
# **Explained.** The order is everything: *check the arguments, count, refuse, hash, and only then change.*
# `num_slots` is how many tokens the table must have room for. `shared_from` begins at `num_computed // block_size`,
# where the first new token goes: what lies in front is only read. Copies count as new blocks, like those behind the
# end. Of the hits, those with no holder come off the free blocks. Hashing stands behind the refusal because it costs
# time, and in front of every change because it may raise an error. A block is cached as soon as this step fills it,
# and never for a draft: `min(num_slots, request.num_tokens)`. The library looks for shared blocks only if there were
# forks, which makes a call a tenth faster; you need not.

# %% [markdown]
# ## 6. What a copy costs, and why vLLM does without
#
# Four samples of a prompt of 1,000 tokens, of Llama-3.1-8B on an RTX 4090. With copy-on-write three blocks are copied.
# Without, four requests come together with the same prompt. Three of them find the 62 full blocks of the first, and
# compute the 8 tokens of the last block again, each. Here is the first step of your engine with four such requests:

# %%
system_prompt = [7 + position % 900 for position in range(1000)]
llm = LLM()
for name in ("a", "b", "c", "d"):
    llm.add_request(name, system_prompt, SamplingParams(max_tokens=2))
llm.step()
print("tokens computed for each:", dict(llm.last_step.output.num_scheduled_tokens))

# %% [markdown]
# **Predict:** by how many per cent do the 24 tokens lengthen this step? A GPU that computes a thousand tokens at once
# is limited by its arithmetic (lesson 1).

# %%
predicted_longer = None  # your prediction, in %

# %%
llama, rtx = MODELS["llama-3.1-8b"], GPUS["rtx-4090"]
block_bytes_8b = 16 * parts.get("kv_bytes_per_token")(llama)
copy_us = 1e6 * 3 * 2 * block_bytes_8b / rtx.memory_bandwidth  # each block is read and written
weights_ms = 1e3 * llama.weight_bytes / rtx.memory_bandwidth
token_ms = 1e3 * 2 * llama.num_params / rtx.peak_flops
print(f"to read the weights takes {weights_ms:.1f} ms, whatever a step computes")
print(f"the arithmetic of 1,000 tokens takes {1000 * token_ms:.1f} ms, of 1,024 {1024 * token_ms:.1f} ms")
times_copies = 1000 * 24 * token_ms / copy_us
print(f"the 24 tokens alone: {24 * token_ms:.1f} ms, {times_copies:.0f} times three copies ({copy_us:.0f} µs)")
compare(predicted_longer, 100 * 24 / 1000, "%")

# %% [markdown]
# A copy is some two hundred times as cheap, and it hardly matters: 2% of a prefill, once for a prompt. (In a decode
# step of a few requests the 24 tokens would take hardly any time, for such a step waits for its weights.) That is not
# worth a second mechanism where there is a prefix cache, and for ordinary models, all of whose layers keep keys and
# values, vLLM 0.33.0 has none: several samples become *child requests* that find each other's blocks, as in the step
# above. It does the same for beam search, which forks in every step: a beam is a request of one token that finds its
# past in the cache. Section 8 compares both ways in your engine. Copying is left for models some of whose layers keep a
# running state in the place of a cache (section 10).

# %% claims="A copy is some two hundred times as cheap, and it hardly matters: 2% of a prefill"
assert 150 < times_copies < 250
assert weights_ms < 1000 * token_ms and 24 * token_ms < weights_ms
assert dict(llm.last_step.output.num_scheduled_tokens) == {"a": 1000, "b": 8, "c": 8, "d": 8}

# %% [markdown]
# ### Copies on the GPU (stretch)
#
# Nothing later needs these three exercises, half an hour in all.
#
# `take_block_copies` returns the pairs of a step in the order in which they arose. They are meant one after the
# other. That order is not idle: within one step a block may be copied, given back, and be the destination of another
# copy. A kernel, however, runs its copies all at once, in no order. So the list is cut into groups:
#
# ```text
# [(1, 2), (1, 3), (5, 1), (7, 8)]
#  (1, 2) and (1, 3)     both only read 1: at once
#  (5, 1)                writes 1, which the two have to read first: a new group begins
#  (7, 8)                concerns nobody: it joins the group that is open
# ```

# %% exercise="8.6a"

# %% check="8.6a"

# %% [markdown] solution="8.6a"
# **Explained.** Three orders matter, and compilers have names for them: read after write, write after read, write
# after write. Two reads never do. The first condition is `source in written`, the other two are `destination in read
# | written`. Only the open group counts: when a new one begins, the one before it is done. To move a copy *forward*,
# past others, would save a group now and then; that changes the order, and is right only if the copy agrees with all
# that it passes.

# %% [markdown]
# In PyTorch, a group is one indexing of each cache. `check_copies` takes the same three arguments and raises the
# ValueError.

# %% exercise="8.6b"

# %% check="8.6b"

# %% [markdown] solution="8.6b"
# **Explained.** With a list of destinations on the left and a list of sources on the right, PyTorch reads first and
# writes then, in no order among themselves. That is just what a group allows, and why the groups come one by one.

# %% [markdown]
# And the kernel. Its grid has two axes: the first is the copy, the second says which part of the block a program
# copies. Keys and values are two tensors, each with its own strides (lesson 3); the numbers of one head are neighbours.
# It may take 8 s to check.

# %% exercise="8.6c"

# %% check="8.6c"

# %% [markdown] solution="8.6c"
# **Explained.** A lane stands for one number of the block, counted through slots, heads and numbers of a head; `//`
# and `%` take it apart. The same `place` serves source and destination, because both lie in the same tensor. The mask
# is for the last program, and 64 bits are for a cache of more than $2^{31}$ numbers: in a layer of Llama-3.1-8B a
# block has $16 \cdot 8 \cdot 128 = 2^{14}$, and block 131,072 begins at $2^{31}$, which does not fit into 32.

# %% [markdown]
# ## 7. Bug hunt
#
# > **An upstream bug.** `vllm-project/vllm`, issue #11562 and pull request #11565 (2024). The code below is our own,
# > and makes the same mistake.
#
# An engine in production stops with `assert total_num_scheduled_tokens > 0`: requests wait, nothing runs, and nothing
# can be scheduled. Below is how such an engine admits a request, reduced to its core. The free queue is a list of
# ids, front first; `holders` says how many hold each block. Two helpers, which are right:

# %% shows="autograder.lessons.lesson08_hunt:touch"

# %% shows="autograder.lessons.lesson08_hunt:take"

# %% [markdown]
# And the suspect. "It has run for weeks. Requests that fit are admitted, those that do not fit wait, and no block was
# ever handed out twice."

# %% shows="autograder.lessons.lesson08_hunt:suspect_admit"
free, holders = [6, 7, 3, 2, 1], {1: 0, 2: 0, 3: 0, 4: 1, 5: 1, 6: 0, 7: 0}
print(suspect_admit(free, holders, hits=[1, 2, 3], num_new=2), free, holders)

# %% [markdown]
# Find a case that shows what is wrong: a pool, the hits of a request, and how many new blocks it needs.

# %% exercise="8.7a"
exposing_case = None  # {"free": [...], "holders": {...}, "hits": [...], "num_new": ...}
### BEGIN SOLUTION
exposing_case = {
    "free": [6, 7, 3, 2, 1],
    "holders": {1: 0, 2: 0, 3: 0, 4: 1, 5: 1, 6: 0, 7: 0},
    "hits": [1, 2, 3],
    "num_new": 3,
}
### END SOLUTION

# %% check="8.7a"
check("8.7a", exposing_case)

# %% [markdown] solution="8.7a"
# **Explained.** The suspect touched first, for a good reason: nobody may take the hits away. But a refusal left the
# holders on them. A request that waits is tried again in every step; each time the hits have a holder more, whom
# nobody takes off. Others may still find them, but their room is lost for good, however many requests end: a block
# comes back to the queue when its last holder has gone. In the end nothing fits. The mend is a line that you have
# written already, in 8.5.

# %% [markdown]
# ### Judge two fixes
#
# Two people have sent a repair. Ask for far too much, and both refuse and leave everything as it was:

# %% shows="autograder.lessons.lesson08_hunt:admit_a"

# %% shows="autograder.lessons.lesson08_hunt:admit_b"
for repaired in (admit_a, admit_b):
    free, holders = [6, 7, 3, 2, 1], {1: 0, 2: 0, 3: 0, 4: 1, 5: 1, 6: 0, 7: 0}
    print(repaired.__name__, repaired(free, holders, hits=[1, 2, 3], num_new=6), free, holders)

# %% [markdown]
# Neither is right. In four to seven sentences: for each of them, give a case (free queue, holders, hits, new blocks),
# what it does there, and what a user sees. Which one would you rather have in production until yours is merged, and
# why? You can try cases in a cell of your own.
#
# 5 points, about 10 minutes, marked by hand: 2 for each fix (a case with what happens; what a user sees), 1 for the
# choice with a reason.

# %% [markdown] answer="8.7" points=5
# **A** counts the hits among the free blocks. With `free [6 7 3 2 1]`, hits 1, 2, 3 and three new blocks, it finds 3
# ≤ 5, touches the hits, and then two blocks are left: `take` raises an error, in the middle of a step, with a holder
# on each hit already. The engine stops, or goes on with three blocks that never come back. **B** takes every hit off,
# also those that somebody holds. With `free [6 7]`, blocks 1, 2, 3 held by a running request, hits 1, 2, 3 and one new
# block, it finds 1 > 2 − 3 and refuses, though two blocks are free and one is needed. A user waits for no reason, most
# of all where much is shared, which is what the cache is for, and memory idles. I would rather have B: it never
# breaks an invariant, and what it does wrong costs time. A breaks the pool. (The review of the pull
# request objected to both: "required block is 4 and free block is 5 (but 2 of them will be touched)", and that not
# every computed block is in the free queue, so that their number cannot just be subtracted. Right is the number of
# hits without a holder.)
#
# **Mark scheme.** A: 1 for a case in which the hits are free and too little is left, with the error; 1 for the engine
# that stops or the holders that stay. B: 1 for a case with a hit that is held, and the refusal; 1 for waiting or idle
# memory. 1 for B with a reason such as "refusing wrongly is safe, taking wrongly is not". (A with a good reason, such
# as "an error is seen and a slow engine is not", counts as well.)

# %% [markdown] criteria="8.7"
# - For A: hits that are free, and a number of new blocks between what is left and what is free in all. What state
#   remains.
# - For B: a hit that somebody holds. How many blocks were free, and how many were needed.
# - What a user notices in each case, and which of the two errors is the safer one.

# %% [markdown]
# ## 8. It runs in your engine
#
# ### A manager made of your methods
#
# `parts.get("KVCacheManager")` is the manager with your `fork`, `replace_shared` and `allocate_slots` on it; your
# `hash_blocks` and `longest_cached_prefix` are handed to it. `RandomTraffic` lets requests come, write, fork and end
# at random. In the place of keys and values its memory keeps, in each slot, the whole text up to there, and before a
# request writes, everything in front is read through its table. `under_check` looks for violations of every invariant
# after every call.

# %%
names = ("hash_blocks", "longest_cached_prefix")
manager = parts.get("KVCacheManager")(
    24, 4, block_pool=parts.get("BlockPool"), **{name: parts.get(name) for name in names}
)
traffic = RandomTraffic(manager, seed=8)
with under_check(manager):
    for _ in range(1_500):
        traffic.step()
    traffic.end_all()
print(f"1,500 operations, {manager.num_forks} forks, {traffic.num_copied_blocks} blocks copied,", end=" ")
print(f"{traffic.num_hit_tokens:,} tokens found; violations: {find_violations(manager)}")
print(f"when all have ended, {manager.block_pool.get_num_free_blocks()} of 23 blocks are free")

# %% [markdown]
# ### Four samples, and a system prompt
#
# Now text. A prompt of 1,000 tokens, four samples of 32 tokens each, in three ways: by your fork; as four requests
# that find each other in the prefix cache, as vLLM does it; and as four requests without a cache. **Predict:** how
# many blocks are in use at most, in each?

# %%
# your predictions, in blocks
predicted_blocks = {"by fork": None, "four requests": None, "without a cache": None}

# %%
mine = {name: parts.get(name) for name in ("KVCacheManager", *names)}
four_at_once = SamplingParams(n=4, temperature=1.0, seed=1, max_tokens=32, ignore_eos=True)
engines = {
    "by fork": LLM(parts=EngineParts.of(mine)),
    "four requests": LLM(parts=EngineParts.of(mine)),
    "without a cache": LLM(parts=EngineParts.of(mine), enable_prefix_caching=False),
}


def served(name: str, prompts: Sequence[list[int]], params: SamplingParams) -> Any:
    """Generate; return what the cache says then, the prompt tokens computed, and the answers."""
    llm = engines[name]
    found_before = llm.kv_cache_manager.stats().hit_tokens
    answers = [each.token_ids for out in llm.generate(prompts, params) for each in out.outputs]
    stats = llm.kv_cache_manager.stats()
    return stats, sum(map(len, prompts)) - stats.hit_tokens + found_before, answers


blocks_in_use = {}
for name, llm in engines.items():
    once = name == "by fork"
    prompts = [system_prompt] if once else [system_prompt] * 4
    stats, computed, _ = served(name, prompts, four_at_once if once else replace(four_at_once, n=1))
    blocks_in_use[name] = stats.high_water
    print(f"{name:<16} {llm.kv_cache_manager.num_forks} forks, {stats.copies} copies,", end=" ")
    print(f"{stats.high_water:4} blocks, {computed:,} prompt tokens computed")
for name, predicted in predicted_blocks.items():
    compare(predicted, blocks_in_use[name], f"blocks {name}")

# %% [markdown]
# Forking and finding use the same number of blocks. Three copies on one side, 24 tokens computed again on the other:
# that is all the difference, and it is why one mechanism is enough for an engine that has the second one anyway.
#
# Then eight questions behind the same 1,000 tokens, to the two engines with and without a cache, which have seen these
# tokens before. The answers are greedy, and here they are the same with a cache and without. (On a GPU, kernels compute
# other shapes when a prefix is cached; sums may be rounded in another way, and now and then a token differs.)

# %% claims="Forking and finding use the same number of blocks."
assert blocks_in_use == {"by fork": 74, "four requests": 74, "without a cache": 260}
assert engines["by fork"].kv_cache_manager.num_forks == 3
assert engines["by fork"].kv_cache_manager.num_copies == 3
assert engines["four requests"].kv_cache_manager.num_copies == 0

# %%
questions = [system_prompt + [5 + number] * (10 + number) for number in range(8)]
greedy = SamplingParams(temperature=0, max_tokens=8)
_, computed, answers = served("four requests", questions, greedy)
_, computed_alone, expected = served("without a cache", questions, greedy)
print(f"{computed:,} prompt tokens computed instead of {computed_alone:,}; same answers: {answers == expected}")

# %% claims="The answers are greedy, and here they are the same with a cache and without."
assert answers == expected
assert (computed, computed_alone) == (172, 8108)

# %% [markdown]
# ## 9. What a cache finds
#
# ### Measure: hit rates
#
# Back to the conversations of section 2. `infinite_cache_hit_rates(mooncake)` replays them in a cache that never
# forgets; `replay_prefix_cache(mooncake, num_blocks, in_flight=16)` in one with that many blocks of 512, which gives up
# the least recently used first. (`in_flight` is how many requests hold their blocks at a time. Here that changes
# nothing: with 1 in the place of 16 the rates are the same.) Both return a `HitRates`. Fill `rates`: for the cache
# without limit the three weightings, `"blocks"` (blocks found over blocks looked up), `"tokens"`, and `"requests"` (the
# mean over requests of each one's share of its tokens), which are the fields `block_weighted`, `token_weighted` and
# `mean_per_request`; for `"one A100"` (938 blocks) and `"four A100"` (3,752) the share of the tokens.

# %% claims="Here that changes nothing: with 1 in the place of 16 the rates are the same."
assert replay_prefix_cache(mooncake, 938, in_flight=1) == replay_prefix_cache(mooncake, 938, 16)

# %% exercise="8.8"
rates = {}  # rates["blocks"] = ..., a share from 0 to 1, as it comes: not rounded
### BEGIN SOLUTION
without_limit = infinite_cache_hit_rates(mooncake)
rates["blocks"] = without_limit.block_weighted
rates["tokens"] = without_limit.token_weighted
rates["requests"] = without_limit.mean_per_request
rates["one A100"] = replay_prefix_cache(mooncake, 938, in_flight=16).token_weighted
rates["four A100"] = replay_prefix_cache(mooncake, 3_752, in_flight=16).token_weighted
### END SOLUTION

# %% check="8.8"
check("8.8", rates)

# %%
for name, found in rates.items():
    print(f"{name:<10} {found:.2%}")
if rates.get("one A100"):
    compare(predicted_share, 100 * rates["one A100"], "%")
print(f"the block with which all begin: {512 / mean_tokens:.1%} of the tokens")
print(f"938 blocks are {938 / mean_blocks:.0f} prompts, or {938 / mean_blocks / rate:.0f} s of arrivals;", end=" ")
in_time = sum(pause < 938 / mean_blocks / rate for pause in pauses) / len(pauses)
print(f"{in_time:.1%} of those who go on with something do so within that time")
by_requests = replay_prefix_cache(mooncake, 938, in_flight=16).mean_per_request
common = sum(min(512, r.prompt_tokens) / r.prompt_tokens for r in mooncake) / len(mooncake)
print(f"as a mean over requests, one A100 finds {by_requests:.1%}, and that block is {common:.1%}")

# %% [markdown]
# One A100 finds hardly more than the block with which all begin. Who comes back mostly does so after more than a
# minute, and by then what they wrote is gone. As a mean over requests the same cache finds more than three times as
# much, and again it is that one block, which is a large part of a short prompt. A rate without its weighting says
# nothing. (The rates of an engine differ a little. It also caches what it has answered, which the next prompt of a
# conversation repeats; to a hundred prompt tokens there are three of output here. And of a prompt that was there
# before as a whole the replay counts all, its last block included, full or not. An engine would compute that block
# again.)

# %% claims="One A100 finds hardly more than the block with which all begin."
assert 0 < rates["one A100"] - 512 / mean_tokens < 0.01
assert sum(pause > 60 for pause in pauses) > 0.7 * len(pauses)
assert rates["one A100"] < unlimited.token_weighted / 7
assert 3 * rates["one A100"] < by_requests < 4 * rates["one A100"]
assert 0 < by_requests - common < 0.01
assert 0.025 < sum(r.output_tokens for r in mooncake) / len(mooncake) / mean_tokens < 0.035

# %% [markdown]
# ### One server, or many
#
# There is a catch: no single A100 could compute all this, so the requests are shared out among servers. (Behind your
# predictions it is printed how many the arithmetic of the prompts would keep busy if nothing were found.) Say there are
# sixteen, with 938 blocks each, and each request goes to the next one in turn. **Predict:** what share of the tokens do
# they find? And if all requests that have the same second block, which are those of a conversation as far as ids can
# tell, go to the same server?

# %%
predicted_in_turn = None  # your prediction: % of the prompt tokens
predicted_by_conversation = None  # the same

# %%
needed = sum(forward_flops(llama, r.prompt_tokens) for r in mooncake) / len(mooncake) * rate
num_busy = needed / GPUS["a100-80gb"].peak_flops
print(f"arithmetic of the prompts, if nothing is found: {num_busy:.1f} A100s that reach their peak")


def shared_out(num_servers: int, key: Callable[[int, Any], int]) -> float:
    """Return the share of tokens found by servers of 938 blocks; the key says who serves whom."""
    served_by = defaultdict(list)
    for number, request in enumerate(mooncake):
        served_by[key(number, request) % num_servers].append(request)
    num_found = 0.0
    for requests in served_by.values():
        found = replay_prefix_cache(requests, 938, in_flight=16)
        num_found += found.token_weighted * sum(r.prompt_tokens for r in requests)
    return num_found / mean_tokens / len(mooncake)


numbers = (1, 4, 16)
in_turn = {n: shared_out(n, lambda number, request: number) for n in numbers}
by_talk = {n: shared_out(n, lambda number, request: request.hash_ids[:2][-1]) for n in numbers}
compare(predicted_in_turn, 100 * in_turn[16], "%, in turn")
compare(predicted_by_conversation, 100 * by_talk[16], "%, by conversation")


def rates_by_servers(width: float) -> viz.Scene:
    """Draw the hit rate over the number of servers, for both ways to choose one."""
    curves = [
        Curve("by conversation", [(n, 100 * by_talk[n]) for n in numbers]),
        Curve("in turn", [(n, 100 * in_turn[n]) for n in numbers]),
    ]
    servers, found = LogAxis("Servers of 938 blocks", ""), Axis("Tokens found", "%")
    title = "The same memory, shared out in two ways"
    return curve_chart(title, servers, found, curves, width - 24, height=300).scene()


viz.Picture(rates_by_servers(viz.WIDE), narrow=rates_by_servers(viz.NARROW))

# %% [markdown]
# The two curves begin together, and sixteen servers find more than four times as much if each keeps its own
# conversations. In turn, each server sees a sixteenth of the load and remembers sixteen times as long, but of sixteen
# who come back fifteen come to another server than the time before. (The replay knows the order of the requests, and not
# how long each is served.)
#
# Beside the workload, rates that papers quote differ by three things: the weighting, the size of the cache in relation
# to what arrives, and the *unit* in which prefixes are matched. Of two blocks of 512 make one of 1,024: then a prefix counts only up to the
# last even block. **Predict** from what was printed in section 2: what share of the *requests* then finds nothing?

# %% claims="sixteen servers find more than four times as much"
assert in_turn[1] == by_talk[1] and 4 < by_talk[16] / in_turn[16] < 5
assert num_busy * (1 - unlimited.token_weighted) > 1.5 and by_talk[4] > 1.8 * by_talk[1]

# %%
predicted_without_hit = None  # your prediction: % of the requests


# %%
def paired(request: Any) -> Any:
    """Return the request with blocks of 1,024 tokens, each named after its second half."""
    ids = request.hash_ids
    last = (-1 - ids[-1],) if len(ids) % 2 else ()  # half a block is another block than a whole one
    return replace(request, hash_ids=ids[1::2] + last)


def without_any_hit(requests: Sequence[Any]) -> float:
    """Return the share of the requests whose first block was never seen before."""
    seen: set[int] = set()
    num_without = 0
    for request in requests:
        num_without += request.hash_ids[0] not in seen
        seen.update(request.hash_ids)
    return num_without / len(requests)


coarse = [paired(request) for request in mooncake]
in_coarse = infinite_cache_hit_rates(coarse, block_size=1024)
print("unit    tokens found   requests that find nothing")
print(f"  512 {unlimited.token_weighted:14.1%} {without_any_hit(mooncake):21.1%}")
print(f"1,024 {in_coarse.token_weighted:14.1%} {without_any_hit(coarse):21.1%}")
compare(predicted_without_hit, 100 * without_any_hit(coarse), "%")

# %% [markdown]
# The tokens lose three or four points. Of the requests, more than half find nothing any more: all that they shared was
# the block with which all begin, and that is half of the new unit.

# %% claims="The tokens lose three or four points. Of the requests, more than half find nothing any more"
assert 0.025 < unlimited.token_weighted - in_coarse.token_weighted < 0.045
assert without_any_hit(mooncake) < 0.03 and without_any_hit(coarse) > 0.55

# %% [markdown]
# ### Explain what you measured
#
# In five to eight sentences, with figures of yours and their units: (a) Why does one A100 find so little of what
# there is? Name what is left, and which of three remedies you would look at first: more memory, another choice of who
# serves whom, or an order of service. (b) Which weighting tells how much prefill is saved, and which tells what users
# notice? Compare the two for one A100 and for the cache without limit, and say who is hit in each. What do you
# conclude about a rate that is quoted alone?
#
# 5 points, about 9 minutes, marked by hand: 3 for (a), 2 for (b).

# %% [markdown] answer="8.8" points=5
# **(a)** 938 blocks are about 39 prompts, or 11 s of arrivals, and half of those who go on with a conversation come
# after some two minutes; under 2% come in time. What is left is the block with which every prompt begins, 4.3% of the
# tokens (4.0 on the synthetic trace). First I would send the requests of a conversation to the same server: with the
# same memory, sixteen servers then find 26 (28)% in the place of 6%. More memory on one server helps little at first,
# 8 (11)% for four times as much, because that is still less than a minute; CPU memory is large enough to help. An order
# of service that takes those first whose prefix is there helps only among those who wait at the same time. **(b)**
# Token-weighted: prefill goes by tokens, roughly. What users notice is the mean over requests, where everybody counts
# alike. For one A100 they are 4.5 (4.6)% and 16 (15)%: what is found is one block, which is much of a short prompt and
# little of a long one. Without limit they are 37.4 (39.8)% and 40.9 (40.1)%, near each other: the short ones still have
# the common block, and the long ones are those that go on with something. So a rate alone tells neither the work nor
# who is spared it.
#
# **Mark scheme.** (a) 1 for the time that a prompt survives against the pause, with figures; 1 for the common block as
# what is left; 1 for a remedy with its reason. (b) 1 for both weightings, 1 for who is hit, with figures. (Somebody may
# leave the common block out, and find that the long prompts are hit more. That is right.)

# %% [markdown] criteria="8.8"
# - (a) How long a prompt stays in the cache, and how long those who come back stay away, both in seconds.
# - (b) What each weighting divides by what, and for which prompts one common block is much.

# %% [markdown]
# ### Who falls first
#
# When room is needed, the front of the free queue goes. A request that ends gives its blocks back *last block first*,
# so the end of a prefix is lost before its beginning. Try the other order on paper. Three prompts A, B and C lie in
# blocks 1 2 3, 1 2 4 and 1 5, all full; block 6 is free. A ends, then B, then C, and each gives its *first* block back
# first. Then newcomers take one block after another. **Predict:** which is the first block that is still cached and
# that nobody can find?

# %%
predicted_lost = None  # your prediction: the id of a block

# %%
viz.eviction_film()

# %%
compare(predicted_lost, 4, "", ratio=False)

# %% [markdown]
# First block first leaves blocks that are in memory and have a hash, but cannot be found until somebody computes again
# what stood in front of them. In the right order that does not happen (but for the fork of section 4 that knows fewer
# tokens), although nobody keeps account of which block follows which. The order of the queue does it.
#
# ### A tree of prefixes (stretch)
#
# SGLang keeps prefixes in a **radix tree**: a path from the root for each of them, which part where the tokens do. It
# needs no hashes, and knows which block is a leaf. Write one, with a node for each block. (A true radix tree has one
# node for a whole stretch that nobody branches off from. That saves nodes. The library's `RadixTree` does it, and
# answers as yours does; SGLang's gives up whole nodes, and so perhaps more than was asked for.) You get the node; the
# rest is up to you. Whoever calls the methods below, or reads `num_blocks`, must not be able to tell your tree from
# `course_lib.kv_cache.RadixTree`.


# %%
@dataclass(eq=False)
class Node:
    """A block in the tree: its tokens are the key under which the parent has it."""

    parent: Node | None = None
    key: tuple[int, ...] = ()
    block_id: int = -1
    last_used: int = 0
    children: dict[tuple[int, ...], Node] = field(default_factory=dict)


# %% exercise="8.9"
class RadixTree:
    """Stores where the KV of prefixes is, finds the longest one, and gives up leaves first."""

    def __init__(self, block_size: int = 1) -> None:
        """Start with nothing; ValueError if block_size is less than 1.

        `num_blocks` is how many blocks are in the tree. Only whole blocks are stored and found.
        """
        ### BEGIN SOLUTION
        if block_size < 1:
            raise ValueError(f"block_size is {block_size}; a block has at least 1 token")
        self.block_size, self.num_blocks, self.clock = block_size, 0, 0
        self.root = Node()
        ### END SOLUTION

    def longest_prefix(self, token_ids: Sequence[int]) -> list[int]:
        """Return the ids of the blocks that hold the longest stored prefix, and mark them used."""
        ### BEGIN SOLUTION
        return [node.block_id for node in self.walk(token_ids)]
        ### END SOLUTION

    def insert(self, token_ids: Sequence[int], block_ids: Sequence[int]) -> int:
        """Store where each full block of a request is, mark all of them used, and count new ones.

        What is in the tree already keeps its id. Return how many blocks are new.
        ValueError if there are fewer ids than full blocks; then nothing changes.
        """
        ### BEGIN SOLUTION
        keys = self.keys(token_ids)
        if len(block_ids) < len(keys):
            raise ValueError(f"{len(keys)} full blocks, but {len(block_ids)} block ids")
        path = self.walk(token_ids)
        node = path[-1] if path else self.root
        for number in range(len(path), len(keys)):
            key = keys[number]
            node.children[key] = Node(node, key, block_ids[number], self.clock)
            node = node.children[key]
        self.num_blocks += len(keys) - len(path)
        return len(keys) - len(path)
        ### END SOLUTION

    def evict(self, num_blocks: int) -> list[int]:
        """Forget blocks one by one, always the least recently used of those that nothing follows.

        Return their ids in this order: num_blocks of them, or all if there are fewer.
        """
        ### BEGIN SOLUTION
        evicted: list[int] = []
        while len(evicted) < num_blocks and self.num_blocks:
            leaf = min(self.leaves(), key=lambda node: node.last_used)
            del leaf.parent.children[leaf.key]
            self.num_blocks -= 1
            evicted.append(leaf.block_id)
        return evicted

    def keys(self, token_ids: Sequence[int]) -> list[tuple[int, ...]]:
        size = self.block_size
        ends = range(size, len(token_ids) + 1, size)
        return [tuple(token_ids[end - size : end]) for end in ends]

    def walk(self, token_ids: Sequence[int]) -> list[Node]:
        self.clock += 1
        path, node = [], self.root
        for key in self.keys(token_ids):
            if key not in node.children:
                break
            node = node.children[key]
            node.last_used = self.clock
            path.append(node)
        return path

    def leaves(self) -> list[Node]:
        found, pending = [], [self.root]
        while pending:
            node = pending.pop()
            pending.extend(node.children.values())
            if node is not self.root and not node.children:
                found.append(node)
        return found
        ### END SOLUTION


# %% check="8.9"
check("8.9", RadixTree)

# %% [markdown] solution="8.9"
# **Explained.** `walk` is the hit: down from the root as long as there is a child for the next block. It marks what
# it passes, so a stem is never older than its leaves: every use of a leaf is a use of its stem. Therefore "the least
# recently used of the *leaves*" is all that eviction needs; a parent becomes a leaf when its last child goes. Two
# leaves are never equally old, since each walk ends in one place. To look for the leaf anew each time takes as long
# as the tree is large; a heap, as in the library, does it once.

# %% [markdown]
# ### Tree or table
#
# Both find the same prefixes, so what differs is what they keep. Here are the library's tree and a set of hashes, with
# the first 3,000 prompts; an id of Mooncake's stands for the hash of a block.

# %%
tree, table = LibraryTree(block_size=1), set()
in_tree = in_table = 0
for request in mooncake[:3_000]:
    ids = request.hash_ids
    in_tree += len(tree.longest_prefix(ids))
    while_found = 0
    while while_found < len(ids) and ids[while_found] in table:
        while_found += 1
    in_table += while_found
    tree.insert(ids, ids)
    table.update(ids)
print(f"blocks found: {in_tree:,} in the tree, {in_table:,} in the table")
print(f"kept: {len(table):,} entries in the table, {tree.num_nodes:,} nodes in the tree")

# %% [markdown]
# The same hits, and less than a tenth of the objects. That is not less memory: a node keeps the tokens and the ids of
# all its blocks, and 512 tokens of 4 bytes are 2 KiB, where a hash has 32 bytes. What decides is something else. A tree
# knows what hangs together. An entry of the table does not know of any other, so nothing has to be split or joined;
# whatever else must be equal (a salt, an adapter, an image) is one more input of the hash; and a hash can be sent to
# another machine and asked about there.

# %% claims="The same hits, and less than a tenth of the objects."
assert in_tree == in_table
assert 0.05 < tree.num_nodes / len(table) < 0.1

# %%
parts.table(lesson=8)

# %% [markdown]
# ## 10. In vLLM
#
# | here | in vLLM 0.33.0, `vllm/v1/` |
# |---|---|
# | `hash_block` | `hash_block_tokens` in `core/kv_cache_utils.py`: a hash of (parent, tokens, extra keys) |
# | the salt in the root | `generate_block_hash_extra_keys`, in the same file: the salt is an extra key of the *first* block, from which all others follow; adapter and images are extra keys of the blocks they concern |
# | `num_tokens - 1` | `get_computed_blocks` in `core/kv_cache_manager.py`: "When all tokens hit the cache, we must recompute the last token to obtain logits." |
# | `longest_cached_prefix` | `FullAttentionManager.find_longest_cache_hit` in `core/single_type_kv_cache_manager.py`: a walk that ends at the first miss |
# | hits that nobody holds | `num_evictable_blocks` in `get_num_blocks_to_allocate`, in the same file |
# | `fork` | `ParentRequest` in `engine/parallel_sampling.py`: each sample is a child request |
# | copy-on-write | `_apply_cow` in `core/single_type_kv_cache_manager.py`, for a hit that ends inside a block; `copy_kv_cache_blocks_inplace` in `worker/utils.py` copies: `blocks[dst] = blocks[src]` |
#
# **What production code does beyond this, and why.**
#
# - Some models mix attention with layers that keep a running state. Their blocks are large (2,096 tokens in the report
#   of section 3), for a block of keys and values must not be smaller than such a state. Whole blocks are shared more
#   rarely then. With `--prefix-match-unit` vLLM hashes their prompts in finer units than a block. It finds a *part* of a
#   block where an earlier prompt ended, and copies the block before the request writes on: copy-on-write is back, for
#   these. Of the units inside a block it enters the last one of a prompt and no other (`_cache_partial_tail_block`), so
#   prompts that share 240 tokens and then go on in different ways, for more than a unit, still find nothing. The block
#   size and the unit, if one was set, are the labels `block_size` and `prefix_match_unit` of the metric
#   `vllm:cache_config_info`.
# - An empty salt counts as none (`if ... and request.cache_salt`), and the server's chat and completion endpoints refuse
#   it (`validate_cache_salt`). Yours takes `""` for a salt like any other.
# - Layers with a sliding window need only the last tokens, so for them a hit is a run in front of the point at which
#   the request goes on. With several kinds of layers a request goes on from a point at which each kind can.

# %% [markdown]
# ## 11. Quiz
#
# Practise in the widget first: it says at once what each choice means. Then write your letters into the cell below
# it, which is what counts. There are ten questions, a point each; eight right, 80%, is a pass.

# %% quiz="8"

# %% [markdown]
# ## 12. Interview corner
#
# Answer aloud, in two minutes each, before you unfold what a strong answer holds.

# %% [markdown] interview="8"

# %% [markdown]
# ## 13. Takeaways
#
# - The KV of a token depends on all tokens in front of it. A hash that is chained says so in 32 bytes.
# - A hit is whole blocks from the first one on, and never the last known token.
# - A fork moves nothing. Whoever writes into a block that others hold gets a copy of that one block; the last of them
#   needs none.
# - Count, refuse, then change. Hits that nobody holds are among the free blocks, and cannot be had twice.
# - Copies are meant one after the other: read after write, write after read and write after write must not be
#   exchanged.
# - Last block first, and leaves fall before stems, without any account of who follows whom.
# - A hit rate needs its weighting, the size of the cache beside what arrives, and the unit. What a server finds
#   depends on whether those who come back come back to it.
#
# **Lesson 9 needs** `get_computed_blocks`: once it is known how much of a waiting request is in the cache, a
# scheduler may serve first those who find most. Who then waits, and for how long?

# %% [markdown]
# ## Appendix
#
# <details><summary>Guided reading: hits that end inside a block (20 minutes)</summary>
#
# Open `vllm/v1/core/single_type_kv_cache_manager.py` and `vllm/v1/core/kv_cache_utils.py` at tag `v0.33.0` in [the
# repository](https://github.com/vllm-project/vllm).
#
# 1. `hash_block_tokens` takes `parent_block_hash: BlockHash | None`. What stands in front of the first block, and in
#    which processes is it the same?
# 2. In `get_num_blocks_to_allocate`, find what a *partial* hit adds to the number of blocks. Which block is that?
# 3. Why does `_apply_cow` add a holder to the new block, and keep that of the source? And what does the manager of
#    running states (`move_block_hashes`) do in its place for a request that is running?
# 4. `find_longest_cache_hit` of `FullAttentionManager` drops a piece of the hit for some speculative decoders. Which
#    piece?
#
# *What to find there.*
#
# 1. `NONE_HASH` (`resolve_none_hash_seed`). It is made from `PYTHONHASHSEED` if that is set. Else it comes from a fixed
#    word, so that processes on several machines can agree on the names of blocks; but with xxhash, for which somebody
#    can make two texts with one hash, from random bytes, other ones in each process.
# 2. `num_new_blocks += 1`: the block into which the copy goes.
# 3. The copy is carried out by the worker, later than the account. Until then, a request that ends in the same step
#    must not make either end of it a free block. (Ours orders the copies instead.) Of a running request the worker has a
#    table already, which is only appended to, as a comment says there. So the request stays on its block and writes into
#    it, and the *cache entry* moves to the copy: the reverse of what you have built.
# 4. The last one: a unit, if hits may end inside a block, and else a block. Those decoders need what the model made of
#    the tokens right before the point at which generation goes on, and must compute them again.
#
# </details>
#
# <details><summary>What older material says differently</summary>
#
# - "vLLM shares the blocks of parallel samples by copy-on-write." So it was in the paper (section 4.4), and in the
#   first engine (V0). Since the second (V1) it is the prefix cache, for ordinary models; see section 6.
# - "Copy-on-write is gone from vLLM." It is back for hits that end inside a block, in models with a running state.
# - "Prefix caching gives a hit rate of 50 to 99%." That is the range over SGLang's own benchmarks, many of which
#   share one long prompt. On the conversations of this lesson a cache without limit finds 40% of the tokens at most, and
#   that of one A100 under 5%.
# - "A prefix cache needs a tree." A table with chained hashes finds the same, and eviction from the end is a matter
#   of order.
# - "Sharing saves up to 55% of memory." For beam search on Alpaca; up to 66% on ShareGPT, and 6.1 to 30.5% for parallel
#   sampling (section 6.3 of the paper).
#
# </details>
