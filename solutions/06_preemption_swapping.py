# %% [markdown]
# # Lesson 6: Who gives way
#
# **Time** 3 hours, and half an hour for a stretch; 45 minutes in all if you only read · **Difficulty** ●○○ to ●●● ·
# **Points** 100, of which 5 are a stretch
#
# Lesson 5 let requests into the batch as long as they fit. But nobody knows how long an answer will be, and each token of
# it needs room for its keys and values. Sooner or later everybody who runs needs one more block, and there is none. Then
# somebody has to leave in the middle of a sentence, and come back. This lesson is about who, about what it costs, and
# about how to make it rare.
#
# **By the end you will have built** the step of the scheduler that takes a request's blocks away, the loop that decides
# how many have to go, the choice of the victim, and the account of blocks on the CPU. You will be able to say for a given
# model and machine whether it is better to copy what is lost or to compute it again. In the map below, the boxes with a
# thick outline are this lesson's.
#
# **You need** lesson 1 (bytes of a token, and the time that reading the weights takes), lesson 3 (block tables) and
# lesson 5 (the loop of the scheduler, its budget, its queues). You need no GPU.

# %%
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from autograder.lessons.lesson06_hunt import Pool, Running
from autograder.notebook import check, compare, explain, quiz, task
from course_lib import parts, viz
from course_lib.engine import LLM, EngineParts, SamplingParams
from course_lib.kv_cache import BlockPool, KVCacheManager
from course_lib.scheduling import (
    Request,
    Scheduler,
    SchedulerConfig,
    SchedulerOutput,
    recompute_seconds,
    recompute_window,
    swap_seconds,
)
from course_lib.scheduling.watch.preemptions import give_way, run_with_preemptions
from course_lib.simulation.cost_model import RooflineCostModel
from course_lib.simulation.experiments import Validation
from course_lib.simulation.measured import MeasuredRun, load_vllm_requests
from course_lib.simulation.result import SimulationResult
from course_lib.simulation.simulation_parts import SimulationParts
from course_lib.simulation.simulator import simulate
from course_lib.simulation.workload import load_azure
from course_lib.specs import GPUS, MODELS
from course_lib.viz.kit.charts.axes import Axis, LogAxis
from course_lib.viz.kit.charts.curves import Curve, curve_chart

torch.set_num_threads(1)  # the model is small: several threads would wait for each other

# %%
viz.EngineMap(lesson=6)

# %% [markdown]
# ## 1. Warm-up
#
# Three questions on the lessons before. The check is immediate and earns no points.

# %% exercise="6.W1"
request_mib = None  # MiB
### BEGIN SOLUTION
request_mib = 2000 * 128 / 1024
### END SOLUTION

# %% check="6.W1"
check("6.W1", request_mib)
# %% exercise="6.W2"
num_blocks_then = None  # blocks
### BEGIN SOLUTION
num_blocks_then = 30 + 1
### END SOLUTION

# %% check="6.W2"
check("6.W2", num_blocks_then)
# %% exercise="6.W3"
prompt_tokens_now = None  # tokens
### BEGIN SOLUTION
prompt_tokens_now = 1000 - 3
### END SOLUTION

# %% check="6.W3"
check("6.W3", prompt_tokens_now)
# %% [markdown]
# ## 2. The problem, seen first
#
# 500 conversations come to a server with Llama-3.1-8B on an A100. The rest of its memory is taken, so there are only 1,500
# blocks for keys and values. One of them is the null block, so there is room for 1,499 · 16 = 23,984 tokens. We simulate it
# with the scheduler of the engine, on a virtual clock, as in lesson 5, and *without a prefix cache*, which vLLM has on.
# Section 9 turns it on.

# %%
conversation = load_azure("conversation")
requests = conversation[:500]
model, gpu = MODELS["llama-3.1-8b"], GPUS["a100-80gb"]
NUM_BLOCKS = 1500
OWN = ("Scheduler", "SwapSpace", "num_blocks_freed", "least_important")


def run(
    bandwidth: float = 25e9,
    *,
    prefix_cache: bool = False,
    scheduler: type[Scheduler] | None = None,
    **options: Any,
) -> SimulationResult:
    """Serve the requests, on your own parts where there are any."""
    mine = {name: parts.get(name) for name in OWN}
    return simulate(
        requests,
        SchedulerConfig(max_num_seqs=256, **options),
        RooflineCostModel(model, gpu, pcie_bandwidth=bandwidth),
        NUM_BLOCKS,
        enable_caching=prefix_cache,
        parts=SimulationParts.of({**mine, "Scheduler": scheduler or mine["Scheduler"]}),
    )


recompute = run()
steps = recompute.steps
first = int((steps.column("num_preempted") > 0).argmax())
print(f"requests from: {conversation.source}")
print(f"{len(requests)} requests in {recompute.makespan:.0f} s; the first one has to give way at", end=" ")
print(f"{steps.column('start')[first]:.1f} s, when {steps.column('num_running')[first]} are left running")
print(f"{recompute.num_preemptions} times somebody has to go; {recompute.num_recomputed_tokens:,} tokens are computed", end=" ")
print(f"again, {recompute.num_recomputed_tokens / steps.column('num_tokens').sum():.0%} of all that is computed")

# %% [markdown]
# A request of 2,000 tokens has to leave and come back later. Keys and values of a token have 128 KiB. The bus between GPU
# and CPU carries 25 GB/s, and the GPU computes a prompt at 64 µs for each token. **Predict:** is it faster to copy the
# request out and in again, or to throw it away and compute it once more? How many times faster?

# %%
predicted_times = None  # your prediction: recomputing takes how many times as long as copying

# %% [markdown]
# The figure shows a small case: ten requests on 36 blocks, served by the scheduler of *your* engine as far as you have
# built it. The blocks in use climb to the line. There somebody needs *one* block, and somebody loses all of theirs.
# Choose who gives way, and what becomes of the blocks: copied to the CPU, or gone.

# %%
viz.memory_pressure()

# %% [markdown]
# ## 3. Who has to go, and what comes back
#
# Two things are needed here that later lessons build, and two sentences are enough. **A block has holders:** several
# requests may share one, and it is free when the last of them lets go (lesson 7). **A full block has a name:** made of all
# tokens up to its end, so that whoever has the same beginning can find it in the *prefix cache*, even when nobody holds it
# any more (lesson 8).
#
# ### Only who runs preempts
#
# To take the blocks of a running request away is to **preempt** it. In the scheduler of this course, as in vLLM's, memory
# leads to it in one case only: *a running request needs more blocks than are free.* Nobody is preempted for somebody who
# waits, however important. A waiting request that does not fit waits.
#
# That is a decision, and it could be another. A scheduler that preempts for arrivals serves an important request at once,
# and pays for it with work that is thrown away, whenever one finds no room.
#
# ### What comes back
#
# The victim lets go of all of its blocks. How many are free then? Here is one prompt of 330 tokens with four answers,
# which share its blocks; each answer has written one token, and for that the last block was copied until each had its own.

# %%
manager = KVCacheManager(num_blocks=101)
parent = Request("a", range(330), max_tokens=9)
manager.allocate_slots(parent, 330)
parent.num_computed_tokens = 330
answers = [parent, *(Request(name, range(330), max_tokens=9) for name in "bcd")]
for child in answers[1:]:
    manager.fork(parent, child)
for each in answers:
    each.append_output(7)
    manager.allocate_slots(each, 1)
table_of = manager.block_tables()
print(f"the four tables list {sum(map(len, table_of.values()))} blocks;", end=" ")
print(f"{100 - manager.block_pool.get_num_free_blocks()} are in use")
print(f"holders of the blocks of d: {[block.ref_cnt for block in table_of['d']]}")

# %% [markdown]
# The 20 full blocks are the same for all four; only the last is each one's own: 20 + 4. (vLLM 0.33.0 comes to the same
# count without a copy: each answer is a request of its own, finds the full blocks in the prefix cache, and computes the
# rest itself.) Preempt d, and 20 of its 21 blocks stay where they are. Write the function that says what a preemption
# frees.

# %% exercise="6.1"

# %% check="6.1"

# %% [markdown] solution="6.1"
# **Explained.** A block comes back if the victim is its only holder. The victim itself is one of the holders, so the count
# to look for is 1, not 0. To iterate once is enough, and lets the function take a generator as well as a list.

# %%
freed = parts.get("num_blocks_freed")
print({name: freed(table) for name, table in table_of.items()}, "of 21 each")

# %% claims="Preempt d, and 20 of its 21 blocks stay where they are."
assert [len(table) for table in table_of.values()] == [21] * 4
assert sum(block.ref_cnt > 1 for block in table_of["d"]) == 20
assert 100 - manager.block_pool.get_num_free_blocks() == 24

# %% [markdown]
# "Preempting always frees memory" is the first thing that people believe about it, and it is not so.
#
# ### Who gives way
#
# A **victim policy** looks at the running requests and names one. Four of them:
#
# | policy | who goes | what speaks for it |
# |---|---|---|
# | last in | who was admitted last | those in front get done; what vLLM does under first come, first served |
# | least important | the largest (priority, time of arrival) | what vLLM does under priority |
# | most blocks | who holds most | one is usually enough |
# | least progress | who has computed least | least is lost |
#
# In vLLM **a lower priority value is more important.** Write the second.

# %% exercise="6.2"

# %% check="6.2"

# %% [markdown] solution="6.2"
# **Explained.** Tuples are compared from the left, so the pair says both rules at once: priority first, and among equals
# who came later. `max` keeps the first of several largest, which is what the specification asks for; an index as the third
# part of the key would take the last. A sum such as `10 * priority + arrival_time` works until two times of arrival lie
# 10 or more apart.

# %% [markdown]
# ### A decision by hand
#
# The following state was found in lecture notes. Something in it cannot be. Mend it, then decide: four requests, 100
# blocks, two of them free, and one urgent arrival. For the three policies imagine a scheduler that *does* preempt for
# arrivals; for the last line, ours, which does as vLLM's present engine, V1.

# %% exercise="6.3"
answer = {"seed": 1}
# Write answer["D holds"] = ..., answer["last in"] = ["..."] and so on.
### BEGIN SOLUTION
answer["D holds"] = 14
answer["U needs"] = 24
answer["last in"] = ["D", "C"]
answer["least important"] = ["D", "A"]
answer["most blocks"] = ["A"]
answer["lost"] = 488
answer["in V1"] = []
### END SOLUTION

# %% check="6.3"
check("6.3", answer)

# %% [markdown] solution="6.3"
# **Explained.** What is held and what is free add up to what there is; so D holds what the others and the two leave. (The
# state in the notes added up to more blocks than the pool has.) Last in, first out lets the small and young ones go, and
# needs two of them. The biggest alone is enough, and with seed 1 throws more away than those two: 580 tokens, and not 488.
# (Least important looks at arrival among equals only, at size never, and throws away 217 + 580.) In V1 nobody goes: the
# urgent request stands first in the queue and waits until enough blocks are free. The next preemption comes when a running
# request fills its last block and finds none, and then, under priority, the least important of those *who run* goes.

# %% [markdown]
# ## 4. Two ways to pay
#
# What a victim loses are keys and values. Prompt and answer so far are known, and a user has seen them; they stay. There
# are two ways to have keys and values again.
#
# **Swap.** Copy them to the CPU's memory and back. $n$ tokens of $k$ bytes cross a bus of $B$ bytes per second twice:
#
# $$T_{swap} = \frac{2 \, n \, k}{B}$$
#
# **Recompute.** Treat prompt and answer as one prompt and compute it. A model with $P$ parameters takes $2 P$ FLOP for a
# token, on a GPU that reaches $F$ FLOP per second (here 75% of the data sheet's, which is the course's guess; others are
# tried below). And however few tokens there are, all weights are read once: that is the floor, for a prefill that has the
# GPU to itself.
#
# $$T_{recompute} = \max\left(T_{weights}, \; \frac{2 P n}{F}\right)$$
#
# (Parameters of the input embedding are looked up, not multiplied with; the code leaves them out. It counts the output layer
# for each token, though a prefill needs it for its last one alone: for Llama-3.1-8B that is 7.5% too much. In the floor it
# counts the whole input embedding as read, which is 7% too much.)

# %%
cost_model = RooflineCostModel(model, gpu)
flops = gpu.peak_flops * cost_model.compute_efficiency
kv_bytes = parts.get("kv_bytes_per_token")(model)
multiplied = cost_model.linear_flops_per_token / 2  # parameters that a token is multiplied with
weight_seconds = model.weight_bytes / (gpu.memory_bandwidth * cost_model.memory_efficiency)
swap_token, recompute_token = swap_seconds(1, kv_bytes, 25e9), recompute_seconds(1, multiplied, flops)
print(f"a token: {1e6 * swap_token:.2f} µs out and in, {1e6 * recompute_token:.2f} µs to compute")
print(f"1,000 tokens: {1e3 * swap_seconds(1000, kv_bytes, 25e9):.1f} ms and", end=" ")
print(f"{1e3 * recompute_seconds(1000, multiplied, flops, weight_seconds=weight_seconds):.1f} ms;", end=" ")
print(f"the floor: {1e3 * weight_seconds:.1f} ms")
compare(predicted_times, recompute_token / swap_token, "times as long")

# %% claims="for each token, though a prefill needs it for its last one alone: for Llama-3.1-8B that is 7.5% too much."
assert model.embedding_params is not None  # the output layer is as large as the input embedding
assert 0.074 < model.embedding_params / (multiplied - model.embedding_params) < 0.076
assert 0.069 < model.embedding_params / multiplied < 0.071

# %% [markdown]
# On this bus copying is six times as fast (with one way only it would be twelve; what leaves has to come back). And vLLM
# throws keys and values away: its first engine (V0) those of most requests, the second (V1) those of all. Is it wrong?
#
# ### Who copies
#
# Some 25 GB/s is what a PCIe 4.0 bus of 16 lanes carries in one large piece (by `nvbandwidth` 24.8 into an A100; 52.8 out
# of an H100 on PCIe 5.0). A swap is many small ones: in V0 keys and values of every block in every layer lay apart, for
# Llama-3.1-8B 64 pieces of 32 KiB a block. (In 0.33.0 those of a layer lie together: 32 pieces of 64 KiB.) Of V0 says
# vLLM's pull request #12 of 2023, which brought recomputation: swapping "incurs significant overheads due to numerous
# small data transfers". Figures stand in #11531 (2024, A100; never merged, and silent on the size of a block): 1,250
# blocks came in at 3.1 GB/s piece by piece, and at 12.6 with one kernel for all. Since #38460 (2026) vLLM hands all
# pieces of these sizes to the driver in one call, with CUDA 12.8 or later.
#
# At which bandwidth are both equal? $2k/B = 2P/F$ gives
#
# $$B^{*} = \frac{k F}{P}$$

# %%
shares = (0.5, cost_model.compute_efficiency, 1.0)  # of the FLOP per second in the data sheet
print(f"{'swapping wins above, GB/s, if a prefill reaches':<47}" + "".join(f"{share:>8.0%}" for share in shares))
for name, spec in (("Llama-3.1-8B", model), ("OPT-13B", MODELS["opt-13b"])):
    for each in ("a100-80gb", "h100", "rtx-4090"):
        per_token = RooflineCostModel(spec, GPUS[each]).linear_flops_per_token / 2
        at_peak = parts.get("kv_bytes_per_token")(spec) * GPUS[each].peak_flops / per_token
        print(f"{name + ' on ' + each:<47}" + "".join(f"{share * at_peak / 1e9:>8.2f}" for share in shares))

# %% [markdown]
# For Llama-3.1-8B on the A100, swapping wins at 12.6 GB/s, whatever the share. At 3.1, piece by piece, recomputing wins if a
# prefill reaches 75% of peak, and loses if it reaches half. For OPT-13B, whose tokens have more than six times the bytes,
# it takes more than three and a half times the bandwidth. So neither is better as such: it depends on the model, on what
# the GPU really reaches, and most of all on *who copies*.

# %% claims="prefill reaches 75% of peak, and loses if it reaches half."
half, assumed, full = (kv_bytes * share * gpu.peak_flops / multiplied for share in shares)
assert half < 3.1e9 < assumed < full < 12.6e9
opt = RooflineCostModel(MODELS["opt-13b"], gpu).linear_flops_per_token / 2
opt_bytes = parts.get("kv_bytes_per_token")(MODELS["opt-13b"])
assert 6 < opt_bytes / kv_bytes < 6.5
assert 3.4 < (opt_bytes / opt) / (kv_bytes / multiplied) < 3.7

# %% [markdown]
# ### Short ones
#
# With the slow copies (and 75% of peak, from here on), recomputing wins for 1,000 tokens. For 10 tokens on an idle GPU it
# does not, because of the floor. Write down up to which length swapping is better. Draw both lines over the number of
# tokens before you start.

# %% exercise="6.4"

# %% check="6.4"

# %% [markdown] solution="6.4"
# **Explained.** Recomputing begins on the floor, swapping at 0. If swapping is not steeper than recomputing behind the
# floor, its line never comes above. If it is steeper, it meets the floor first: for `weight_seconds /
# swap_seconds_per_token` tokens both take as long. (To look where the floor meets the line of recomputing finds a length
# at which swapping is already slower.) In a busy server those who decode have the weights read in each step anyway, and a
# victim's tokens ride along: `weight_seconds` is 0, and so is the break-even, if swapping is the steeper one.

# %% [markdown]
# ### And very long ones
#
# One thing is still left out. Attention among the tokens themselves grows with the square of their number: $n$ tokens are
# $n^2/2$ pairs, and on this GPU a pair takes 2.2 ns. A copy knows nothing of pairs. So at great lengths, swapping wins
# again.

# %%
slow = swap_seconds(1, kv_bytes, 3.1e9)
pair_seconds = cost_model.attention_flops_per_pair / flops / 2
low, high = recompute_window(
    slow, recompute_token, attention_seconds=pair_seconds, weight_seconds=weight_seconds
)
print(f"piece by piece: recomputing wins from {low:.0f} to {high:,.0f} tokens")
print(f"yours says: swapping up to {parts.get('break_even_tokens')(slow, recompute_token, weight_seconds=weight_seconds)}")


def cost_by_length(width: float) -> viz.Scene:
    """Draw what both ways take over the number of tokens."""
    lengths = [10 ** (power / 8) for power in range(8, 41)]
    curves = [
        Curve("recompute", [(n, 1e3 * max(weight_seconds, n * recompute_token + n * n * pair_seconds)) for n in lengths]),
        Curve("swap at 3.1 GB/s", [(n, 1e3 * n * slow) for n in lengths]),
        Curve("swap at 25 GB/s", [(n, 1e3 * n * swap_token) for n in lengths]),
    ]
    axes = LogAxis("Tokens", ""), LogAxis("Time", "ms")
    return curve_chart("To leave and come back", *axes, curves, width - 24, height=320).scene()


viz.Picture(cost_by_length(viz.WIDE), narrow=cost_by_length(viz.NARROW))

# %% claims="A copy knows nothing of pairs. So at great lengths, swapping wins"
assert 90 < low < 110 and 17_000 < high < 19_500
assert 2.1e-9 < 2 * pair_seconds < 2.4e-9

# %% [markdown]
# That is one reason why copying to the CPU lives on, though not for victims: as *offloading*, for long beginnings that many
# requests share (section 10).
#
# ## 5. Blocks on the CPU
#
# For a swap, the CPU needs an account of its blocks: which are free, and who holds which. It is simpler than the pool of
# the GPU, because nobody shares here. Two rules. A request is swapped out *as a whole or not at all*: nobody goes on with
# half of a past. And who comes back gets its copies in the order in which they left.

# %% exercise="6.5" holes="__init__,reserve,release"

# %% check="6.5"

# %% [markdown] solution="6.5"
# **Explained.** The order once more: refuse, say None, and only then change anything. The list of free blocks is ascending,
# so the lowest are a slice at its front. What comes back may lie between others; sorting puts it there. A request that needs
# 0 blocks holds an empty list, and holds it: ask `in`, not whether the list is empty.

# %% [markdown]
# ### Three queues
#
# Who is swapped out is neither waiting nor running. So a scheduler that swaps has three queues, and has to say in which
# order they are served:
#
# 1. `running`: who has blocks gets its next token;
# 2. `swapped`: who left comes back, in the order of leaving (under priority, the more important first), if there is room for
#    all of its blocks, for the tokens that it lacks (for one that decodes: one token) and for the watermark of section 9;
# 3. `waiting`: who is new comes in, and who was preempted and is to be recomputed.
#
# Swapped ones come before waiting ones: they were chosen before, and their blocks on the CPU become free for others. There is one
# exception. Under priority, somebody who waits may be more important than somebody who was swapped out. If that one
# came back first, an important request would wait for an unimportant one. So the first of `swapped` is compared with the
# first of `waiting` (`next_in_line` of the scheduler). If the one who waits is more urgent, then nobody of `swapped` comes
# back in this step, even if that one comes in and there is still room: each queue is gone through once in a step.
#
# And in a step in which anybody was preempted, *nobody* comes in, from either queue. A newcomer would take what is left of
# the victim's blocks, which those who run need next.
#
# ## 6. The step that makes room
#
# In the loop of lesson 5 there was a line "if a block is missing, somebody gives way". Here it is. `serve_running` asks the
# manager for the slots that a request lacks; where it says no, `preempt_for` makes room: it asks the policy for a victim, takes it
# out of `running`, preempts it, and asks the manager again. It may come to pass that the victim is the very request that
# needed room. Put its lines in order. One rule: the decision is logged while the victim is still in the batch.

# %% exercise="6.6"

# %% check="6.6"

# %% [markdown] solution="6.6"
# **Explained.** The manager is asked at the top of the loop, each time anew, because the loop does not ask beforehand how
# much a victim frees. There are two ways out: there is room, or the request has gone itself. What each victim had got in
# this step is added up; it goes back to the budget. That the loop ends follows from the second way out: in each round
# `running` becomes shorter by one, and the request is in it.

# %% [markdown]
# ### What must hold, and what breaks
#
# | what must hold | what a user sees when it does not |
# |---|---|
# | A preemption should free blocks. | Everybody is thrown out, one after the other, and nobody gains anything (section 8, where it does not hold). |
# | The victim keeps its tokens, prompt and answer. | Words appear twice, or the answer starts again. |
# | Only what was computed *before* this step counts as computed. | Copies of empty blocks, or others find blocks in the cache that were never filled: garbage in the middle of an answer. |
# | What the victim had got in this step goes back to the budget. | Steps are too short, for no visible reason. |
# | In a step that preempts, nobody comes in. | A newcomer takes the blocks, and the next step preempts again. |
# | The victim goes back where the queue's order has it: under first come, first served in front. | Who came first waits behind those who came later. |
#
# (One thing is *not* promised: that the answer is bit by bit the one that would have come without a preemption. A prompt
# computed in one go adds its numbers in another order than a hundred steps of decoding.)
#
# ### Preempt
#
# Now the method itself. It gets a request that has just been taken out of `running`, and the plan so far. This exercise
# has the least scaffold and earns the most. What is given:
#
# | call | what it does |
# |---|---|
# | `output.num_scheduled_tokens` | a dict: how many tokens each request computes in this step. Those who were served before are in it |
# | `output.preempted_req_ids` | a set of the ids of those that were preempted in this step; add to this very set, which others look at |
# | `self.swap_out(request, num_valid_tokens, output)` | True if the victim is on the CPU now, with status SWAPPED, in `self.swapped`, its pairs of blocks noted and `num_computed_tokens` set; False, with nothing changed, if it is not to be swapped or there is no room |
# | `self.waiting.put_back(request)` | puts it into the waiting queue where a victim belongs |
# | `self.kv_cache_manager.free(request, num_valid_tokens=n)` | takes its blocks back; only blocks that the first n tokens fill stay to be found in the prefix cache |
# | `RequestStatus.PREEMPTED` | the status of a request that waits to be recomputed |
#
# The one thing that is easily got wrong: `num_computed_tokens` was moved ahead when the request was served in this step,
# *as if* the step had run. It has not. (Where the last one in gives way, it is served last, so this cannot occur;
# under priority the victim may stand in front.) In the failing cases, `give_way(obj, "a")` serves all who run, then takes a
# out and calls your method; the line says what came of it, with a star on free blocks that can still be found.

# %% exercise="6.7"

# %% check="6.7"

# %% [markdown] solution="6.7"
# **Explained.** Take the victim out of the plan first: `pop` with a 0 says at once what goes back to the budget, and 0 for
# somebody who had not been served yet. Valid is what was computed before. Then the swap is asked, which needs the block
# table, so freeing comes last; it says itself whether it took place. If not, nothing stays computed: the count is 0, and
# when the request is admitted again, it lacks all of its known tokens that are not in the prefix cache, prompt and answer
# alike. `num_tokens_ahead` is for schedulers that plan ahead (lesson 12). The status is set before `put_back`, since a queue
# may order by what it sees.

# %%
scheduler = parts.get("Scheduler")(SchedulerConfig(), KVCacheManager(num_blocks=12, block_size=2))
for name, prompt in (("a", range(3)), ("b", range(10, 15))):
    scheduler.add_request(Request(name, prompt, max_tokens=9))
run_with_preemptions(scheduler)
for what, said in give_way(scheduler, "b").items():
    print(f"{what}: {said}")

# %% [markdown]
# ### Six steps by hand
#
# Now let the whole play by itself, on paper. U is more important than the other four, and has to wait all the same.

# %% exercise="6.8"
answer = {"seed": 1}
# Write answer["when"] = ..., answer["who"] = "...", answer["recompute 4"] = [...] and so on.
### BEGIN SOLUTION
answer["when"] = 2
answer["who"] = "D"
answer["recompute 4"] = [7, "ABC", "UD"]
answer["recompute 5"] = [7, "ABC", "UD"]
answer["recompute 6"] = [6, "ABUD", ""]
answer["swap 4"] = [7, "ABC", "U", "D"]
answer["swap 5"] = [7, "ABC", "U", "D"]
answer["swap 6"] = [14, "ABU", "", "D"]
### END SOLUTION

# %% check="6.8"
check("6.8", answer)

# %% [markdown] solution="6.8"
# **Explained.** A block is needed when a request's tokens are a multiple of 16 and one more comes. As long as blocks are
# free, they go one by one. When there is none, the largest (priority, time of arrival) goes, D, with all of its blocks. More
# are free then than were needed, but not enough for U, who is first in line. (Nor for D: all blocks were taken, and of what
# D gave back somebody has one, or D itself lacks one more.) When C has ended, U comes in. Recomputed, D stands behind U in
# the same queue and comes in the same step if it fits. Swapped, D comes a step later at the earliest: `swapped` is looked at
# before `waiting`, and at that moment U, who is more urgent, has not come in yet.

# %% [markdown]
# And here is a preemption by *your* scheduler, decision by decision: three requests on nine blocks of 4 tokens, with
# room on the CPU for eight.

# %%
viz.iteration_film("swap")

# %% [markdown]
# ## 7. It runs in your engine
#
# First in text: eight prompts, each a step after the one before and more important than it, for an engine that has plenty
# of blocks, then for one with 14, by recomputing and by swapping. Answers are greedy. Who came early is the least important,
# so a victim often stands *in front of* the one in need, and has been served already. **Predict:** are the texts of all
# three engines the same?

# %%
predicted_same = None  # your prediction: True if all texts are the same

# %%
calls: Counter[str] = Counter()


def counting() -> EngineParts:
    """Return engine parts of yours that count."""
    mine = {name: parts.get(name) for name in OWN}

    def counted_choice(running: Sequence[Request]) -> int:
        calls["least_important"] += 1
        return mine["least_important"](running)

    class Counted(mine["Scheduler"]):
        """Your scheduler, counting."""

        def preempt(self, victim: Request, output: SchedulerOutput) -> int:
            calls["preempt"] += 1
            calls["served already"] += victim.request_id in output.num_scheduled_tokens
            num_planned = output.num_scheduled_tokens.get(victim.request_id, 0)
            calls["tokens taken"] += victim.num_computed_tokens - num_planned
            return super().preempt(victim, output)

        def preempt_for(self, request: Request, num_new_tokens: int, output: SchedulerOutput) -> int:
            calls["preempt_for"] += 1
            return super().preempt_for(request, num_new_tokens, output)

    class CountedSpace(mine["SwapSpace"]):
        """Your account of the CPU's blocks, counting."""

        def reserve(self, request_id: str, num_blocks: int) -> list[int] | None:
            calls["blocks reserved"] += num_blocks
            return super().reserve(request_id, num_blocks)

        def release(self, request_id: str) -> list[int]:
            blocks = super().release(request_id)
            calls["blocks released"] += len(blocks)
            return blocks

    own = {"Scheduler": Counted, "SwapSpace": CountedSpace, "least_important": counted_choice}
    return EngineParts.of({**mine, **own})


prompts = [f"{word} is who" for word in ("A request", "A seat", "A block", "A token", "A batch", "A queue", "A page", "A step")]
greedy = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)
engines: dict[str, dict[str, Any]] = {
    "plenty": {"num_blocks": 100},
    "recompute": {"num_blocks": 14},
    "swap": {"num_blocks": 14, "preemption_mode": "swap", "num_cpu_blocks": 40},
}
texts: dict[str, dict[str, str]] = {}
counted = {}
for kind, options in engines.items():
    calls.clear()
    llm = LLM(parts=counting(), policy="priority", enable_prefix_caching=False, **options)
    texts[kind] = {}
    for number, prompt in enumerate(prompts):
        llm.add_request(prompt, prompt, greedy, priority=-number)
        llm.step()
    while llm.has_unfinished_requests():
        texts[kind] |= {output.request_id: output.outputs[0].text for output in llm.step()}
    counted[kind] = dict(calls)
    print(f"{kind:<10} {counted[kind]}")
compare(predicted_same, texts["plenty"] == texts["recompute"] == texts["swap"], "")
print(texts["swap"][prompts[0]])

# %% [markdown]
# Eight requests that come to need four blocks each, on thirteen: your loop, your choice and your method are called again
# and again, most victims had been served in the same step, and nobody who reads the answers can tell. Whatever went to the
# CPU has come back. (`num_blocks_freed` gets its turn below.)

# %% claims="Eight requests that come to need four blocks each, on thirteen"
assert len(texts["plenty"]) == 8
known = [len(llm.tokenizer.encode(prompt)) + greedy.max_tokens for prompt in prompts]  # the last one is never computed
assert {-(-(num_tokens - 1) // llm.kv_cache_manager.block_size) for num_tokens in known} == {4}
assert texts["plenty"] == texts["recompute"] == texts["swap"]
assert not counted["plenty"]
for counts in (counted["recompute"], counted["swap"]):
    assert counts["preempt"] == counts["least_important"] >= counts["preempt_for"] >= 4
    assert 2 * counts["served already"] > counts["preempt"]
assert counted["swap"]["blocks reserved"] == counted["swap"]["blocks released"] > 8

# %% [markdown]
# Second, on the clock of a real server. The course has the log of a run of vLLM with Llama-3.1-8B on an RTX 4090, 300
# requests at about ten a second, under such pressure that requests have to give way over and over. Your scheduler gets the
# same requests and limits. So do three others: in one the request with the most blocks gives way, and two swap, at 25 and at
# 3.1 GB/s. Which of the four can the log refuse? (Without the folder of traces the requests are synthetic ones, and there
# is nothing measured to compare with.)

# %%
measured_run = load_vllm_requests()


def replay(bandwidth: float = 25e9, **options: Any) -> SimulationResult:
    """Serve the requests of the log in another set-up, on your own parts where there are any."""
    return simulate(
        measured_run,
        replace(measured_run.scheduler_config, **options),
        RooflineCostModel(measured_run.model, measured_run.gpu, pcie_bandwidth=bandwidth),
        measured_run.num_blocks,
        measured_run.block_size,
        measured_run.enable_caching,
        parts=SimulationParts.of({name: parts.get(name) for name in OWN}),
    )


replays = {
    "yours": replay(),
    "most blocks": replay(victim_policy="frees_most_blocks"),
    "swap at 25 GB/s": replay(preemption_mode="swap", num_cpu_blocks=5000),
    "swap at 3.1 GB/s": replay(3.1e9, preemption_mode="swap", num_cpu_blocks=5000),
}
errors: dict[str, dict[str, float]] = {}
print(measured_run.source)
for name, replayed in replays.items():
    if isinstance(measured_run, MeasuredRun):
        rows = Validation(measured_run, replayed).rows()
        errors[name] = {key: rows[key][2] for key in ("ttft_mean", "tpot_mean", "e2e_mean", "makespan")}
    beside = "".join(f"  {key.removesuffix('_mean')} {error:+.1%}" for key, error in errors.get(name, {}).items())
    print(f"{name:<17}{replayed.num_preemptions:>4} times{beside}")

# %% [markdown]
# Beside the measured run, swapping at 25 GB/s is too fast in all four figures, by more than 7%. If the simulator's guesses are
# right (a GPU reaches 75% of its FLOP per second, and 93% of its memory's bandwidth), that server did not copy at such a
# speed. At 3.1 GB/s all four are within 5%, as yours are. So the log cannot tell slow copies from recomputing (the source of
# that vLLM, 0.19.0, says that it recomputes). Nor does it tell who gave way: with the wrong victims three of the four errors
# are even smaller than yours, and only that of TPOT is larger.

# %% claims="Beside the measured run, swapping at 25 GB/s is too fast in all four figures, by more than 7%"
if errors:
    assert all(error < -0.07 for error in errors["swap at 25 GB/s"].values())
    for name in ("yours", "swap at 3.1 GB/s"):
        assert all(abs(error) < 0.05 for error in errors[name].values())
    larger = [key for key, error in errors["yours"].items() if abs(errors["most blocks"][key]) >= abs(error)]
    assert larger == ["tpot_mean"]
    assert replays["yours"].num_preemptions > 100

# %% [markdown]
# ## 8. Bug hunt
#
# > **An upstream bug.** `vllm-project/vllm`, issue #49674 of July 2026, mended by pull request #49675 (in 0.33.0). The code
# > below is our own, and makes the same mistake.
#
# Under load, a server that keeps blocks outside the GPU too preempts one request after the other, and no block comes of
# it. No error is raised. (In vLLM it costs work; with vllm-ascend and a pool of memory across machines, issue #16315, the
# server stood still.) Here is the loop that makes room, reduced to its core, with the pool that it works on. A request is its
# name, how many blocks it holds alone, and whether they are just being copied to the CPU. The code is given; what is asked
# for is where it goes wrong.

# %% shows="autograder.lessons.lesson06_hunt:Pool"

# %% shows="autograder.lessons.lesson06_hunt:make_room_suspect"
running: list[Running] = [("a", 2, False), ("b", 2, False), ("c", 1, False), ("d", 1, False)]
print(make_room_suspect(Pool(free=0), running, need=2), running)

# %% [markdown]
# d and c go, two blocks are free, and nobody else has to. Give a case in which somebody is preempted for nothing.

# %% exercise="6.9a"
exposing_case = None  # {"free": 0, "running": [("a", 2, False), ...], "need": 2}
### BEGIN SOLUTION
exposing_case = {
    "free": 0,
    "running": [("a", 2, True), ("b", 2, True), ("c", 2, True), ("d", 2, True)],
    "need": 1,
}
### END SOLUTION

# %% check="6.9a"
check("6.9a", exposing_case)

# %% [markdown] solution="6.9a"
# **Explained.** Blocks that are being copied must not be handed out before the copy has ended, so they become `pending`.
# The loop asks whether enough are free; they are not, so the next one goes, and the next. Four requests have lost their
# place for a block that none of them could give. In vLLM blocks are held back by a step under way, which may still write
# them, while a connector (it moves keys and values between the GPU and other memory) could load something else into them.
# Shared blocks do much the same: of four answers that have just begun, the first three to go free a block or two each.

# %% [markdown]
# Mend it. Preempt from the end, one by one, *as long as each one that goes frees blocks at once*. Where the next one
# would free nothing now, stop: the request that needs room waits for a step (and so do those behind it), and nobody has
# paid for nothing. Then every round makes progress, and one could say so in an assertion.


# %% exercise="6.9b"
def make_room(free: int, running: list[tuple[str, int, bool]], need: int) -> tuple[list[str], int]:
    """Preempt the last in until enough blocks are free, or the next one would free none.

    Args:
        free: Blocks that are free.
        running: Name, number of blocks that only this request holds, and whether these are being
            copied, in order of admission. Who is preempted is taken out.
        need: Blocks that are to be free.

    Returns:
        The names of those who were preempted, in order, and how many blocks are free then. Blocks
        that are being copied are not free.

    >>> make_room(0, [("a", 2, False), ("b", 1, False)], need=1)
    (['b'], 1)
    >>> make_room(0, [("a", 2, False), ("b", 3, True)], need=1)
    ([], 0)
    """
    ### BEGIN SOLUTION
    preempted = []
    while free < need and running:
        name, num_blocks, is_copied = running[-1]
        if is_copied or num_blocks == 0:
            break
        running.pop()
        preempted.append(name)
        before, free = free, free + num_blocks
        assert free > before, "a preemption frees blocks"
    return preempted, free
    ### END SOLUTION


# %% check="6.9b"

# %% [markdown] solution="6.9b"
# **Explained.** The last one is looked at before it is taken. vLLM's mend does the first half of this: "A deferred free will
# not help with immediate allocation", says the comment in 0.33.0, and the loop breaks before the victim leaves `running`.
# It does not ask whether blocks are shared, and `preempt_for` of section 6 asks for neither: there, four answers to one
# prompt still give way one after the other. An older request is *not* taken in the place of the last one: the order of
# victims is a promise to those who came first, and the copy will soon be over.

# %% [markdown]
# ### Judge two fixes
#
# Two people have sent a repair for the suspect.

# %% shows="autograder.lessons.lesson06_hunt:make_room_a"

# %% shows="autograder.lessons.lesson06_hunt:make_room_b"

# %% [markdown]
# In four to seven sentences: what does each of them do with `[("a", 2, True), ("b", 2, True)]`, nothing free and one block
# needed? What does a user see? When in the loop does a copy end, so that B's question could get another answer? Which of
# the two would you rather have in production until yours is merged, and why? (Before you run B: how would you stop it?)
#
# 5 points, about 10 minutes, marked by hand: 2 for each fix (what it does; what a user sees), 1 for the choice with a
# reason.

# %% [markdown] answer="6.9" points=5
# **A** preempts b, sees that nothing has become free, and stops. b has lost its place and its blocks, and nobody has
# gained one: b pays for nothing, and perhaps a in the next step. A user of b waits longer for no reason; the server goes
# on. **B** puts b back and asks again. But a copy ends when the GPU has done it and the engine takes note of
# that, after this step has been planned; inside the loop nothing ever changes. So it asks for ever: the engine hangs, with
# no error and a busy CPU, and all users wait. I would rather have A. It is incomplete, and what it does wrong costs one
# request per step; B stops everybody. (nano-vllm has the question for a request that is larger than the pool and alone:
# issue #274 of September 2026 proposes to try again where it preempts itself; pull request #277 finds that this hangs, and
# raises an error.)
#
# **Mark scheme.** A: 1 for [b] preempted with nothing free, 1 for a victim that pays for nothing. B: 1 for the loop that
# never ends, 1 for the reason (nothing changes in the loop) or for what users see. 1 for A, with a reason that compares.

# %% [markdown] criteria="6.9"
# - For A: who goes, how many blocks are free then, and what that one loses.
# - For B: what changes between two rounds of the loop.
# - What users see in each case, and which of the two errors is smaller.

# %% [markdown]
# ## 9. Cure and prevention
#
# ### Measure: what it costs
#
# Back to the 500 requests, still without a prefix cache. `run(**options)` of section 2 serves them in another set-up and
# returns a result with `ttft` (an array of one time to the first token for each request, in seconds), `num_preemptions`,
# `num_recomputed_tokens`, and `steps.column("num_tokens")`, the tokens computed in each step. A **watermark** is a share of
# the blocks that stays free at admission: while others run, a request is admitted only if that many are left afterwards.
# Those who run may use them.
#
# 2% are 30 blocks, and about twenty requests run when somebody has to go. How many steps of decoding do the 30 last?
# **Predict** with that: does a watermark of 2% make the mean time to the first token longer or shorter, and one of 40%?

# %%
predicted_watermark = None  # your prediction: TTFT with 2% over TTFT without

# %% claims="2% are 30 blocks, and about twenty requests run when somebody has to go."
assert int(0.02 * NUM_BLOCKS) == 30
assert 15 < steps.column("num_running")[steps.column("num_preempted") > 0].mean() + 1 < 24

# %%
results = {
    "recompute": recompute,
    "swap at 25 GB/s": run(preemption_mode="swap", num_cpu_blocks=500),
    "swap at 3.1 GB/s": run(bandwidth=3.1e9, preemption_mode="swap", num_cpu_blocks=500),
    "biggest victim": run(victim_policy="frees_most_blocks"),  # "most blocks"; asks your num_blocks_freed
    "watermark 2%": run(watermark=0.02),
    "watermark 40%": run(watermark=0.4),
}

# %% [markdown]
# Fill `measured`. For each of the last five names: the mean TTFT over the mean TTFT of `recompute`. For `"recomputed"` and
# `"recomputed, biggest"`: the tokens computed again as a share of all tokens computed, with `recompute` and with `biggest
# victim`.

# %% exercise="6.10"
measured = {}  # measured["swap at 25 GB/s"] = ..., and so on: seven plain numbers; do not round
### BEGIN SOLUTION
for setup, outcome in results.items():
    if setup != "recompute":
        measured[setup] = outcome.ttft.mean() / recompute.ttft.mean()
for share, outcome in (("recomputed", recompute), ("recomputed, biggest", results["biggest victim"])):
    measured[share] = outcome.num_recomputed_tokens / outcome.steps.column("num_tokens").sum()
### END SOLUTION

# %% check="6.10"
check("6.10", measured)

# %% [markdown]
# Three more, two of them with the prefix cache of vLLM:

# %%
results |= {
    "least progress": run(victim_policy="least_computed"),
    "prefix cache": run(prefix_cache=True),
    "biggest, cache": run(prefix_cache=True, victim_policy="frees_most_blocks"),
}
print(f"{'seconds:':<18}{'mean':>6}{'longest':>9}{'all':>8}{'preemp-':>9}{'tokens':>9}")
print(f"{'':<18}{'TTFT':>6}{'gap, p99':>9}{'done':>8}{'tions':>9}{'again':>9}")
for name, result in results.items():
    row = result.summary()
    print(f"{name:<18}{row['ttft_mean']:>6.2f}{row['longest_gap_p99']:>9.2f}{result.makespan:>8.1f}", end="")
    print(f"{result.num_preemptions:>9}{result.num_recomputed_tokens:>9,}")
compare(predicted_watermark, results["watermark 2%"].ttft.mean() / recompute.ttft.mean(), "times")

# %% [markdown]
# **Without a prefix cache** a fast bus helps, a slow one harms, as the formula of section 4 says for a bandwidth above and
# below 4.09 GB/s. (Here all who run wait for a copy; one beside the work, as in vLLM's offloading, would look better.) The
# biggest victim is the dearest: on these requests more than twice as many tokens are computed again. Least progress is
# cheaper than last in, though its longest gaps are no shorter (the stretch below says why). And 2% of empty memory is worth
# about as much as the fast bus: most preemptions do not take place. With 40% none does, and everybody waits in front of
# empty memory.
#
# How can 10 to 16% more work lengthen a wait so much? This server is just at its limit, where a queue makes much of little;
# at half the rate of arrivals nobody gives way at all. And the victim's own user sees a gap in the answer rather than a
# late first token. There the watermark does more than the fast bus.
#
# **With the prefix cache**, less than a quarter of that is computed again. No two of these requests have a block in common:
# what is found is the victim's own. The mean TTFT is about that of the fast bus, and it matters little who goes. *The cache
# does what the swap was for.*

# %% claims="**Without a prefix cache** a fast bus helps, a slow one harms"
ttft = {name: result.ttft.mean() for name, result in results.items()}
again = {name: result.num_recomputed_tokens for name, result in results.items()}
assert ttft["swap at 25 GB/s"] < 0.9 * ttft["recompute"] < ttft["recompute"] < ttft["swap at 3.1 GB/s"]
assert 4.08e9 < kv_bytes * flops / multiplied < 4.10e9
assert again["biggest victim"] > 2 * again["recompute"] > 2 * again["least progress"]
assert ttft["biggest victim"] > 1.5 * ttft["recompute"] > 1.5 * ttft["least progress"]
assert abs(ttft["watermark 2%"] / ttft["swap at 25 GB/s"] - 1) < 0.12
assert results["watermark 2%"].num_preemptions < 0.2 * recompute.num_preemptions
assert results["watermark 40%"].num_preemptions == 0
assert ttft["watermark 40%"] > 3 * ttft["recompute"]

# %% claims="How can 10 to 16% more work lengthen a wait so much?"
half_rate = requests.at_rate((len(requests) - 1) / (2 * requests[-1].arrival_time))
rare = simulate(half_rate, SchedulerConfig(max_num_seqs=256), cost_model, NUM_BLOCKS)
assert rare.num_preemptions == 0
computed_once = recompute.steps.column("num_tokens").sum() - again["recompute"]
assert 0.095 < again["recompute"] / computed_once < 0.165
gap = {name: result.summary()["longest_gap_p99"] for name, result in results.items()}
assert all(gap["watermark 2%"] < 0.6 * gap[name] for name in ("swap at 25 GB/s", "prefix cache"))
assert gap["least progress"] >= gap["recompute"]

# %% claims="**With the prefix cache**, less than a quarter of that is computed again."
assert again["prefix cache"] < again["recompute"] / 4
assert not any(request.hash_ids for request in requests)
assert abs(ttft["prefix cache"] / ttft["swap at 25 GB/s"] - 1) < 0.12
assert 1 < ttft["biggest, cache"] / ttft["prefix cache"] < 1.2

# %% [markdown]
# How large should a watermark be?

# %%
watermarks = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
swept = {cached: [run(watermark=share, prefix_cache=cached) for share in watermarks] for cached in (False, True)}
for cached, (nothing, _, two, *_) in swept.items():
    gaps = [result.summary()["longest_gap_p99"] for result in (nothing, two)]
    print(f"prefix cache {'on:' if cached else 'off:':<5}the longest gap (p99) is {gaps[0]:.2f} s, with 2% {gaps[1]:.2f} s")


def ttft_by_watermark(width: float) -> viz.Scene:
    """Draw the mean TTFT over the watermark."""
    curves = [
        Curve(
            f"prefix cache {'on' if cached else 'off'}",
            [(100 * share, float(result.ttft.mean())) for share, result in zip(watermarks, row, strict=True)],
        )
        for cached, row in swept.items()
    ]
    axes = Axis("Blocks kept free at admission", "%"), Axis("Mean TTFT", "s")
    return curve_chart("A watermark", *axes, curves, width - 24).scene()


viz.Picture(ttft_by_watermark(viz.WIDE), narrow=ttft_by_watermark(viz.NARROW))

# %% [markdown]
# Without the cache the best value lies at 1 to 5%, and 20% are worse than none. With the cache the mean hardly moves up to 2%;
# what the watermark still buys is shorter gaps. From 5% on hardly anybody gives way, and the two curves are one.

# %% claims="Without the cache the best value lies at 1 to 5%, and 20% are worse than none."
off, on = ([float(result.ttft.mean()) for result in swept[cached]] for cached in (False, True))
assert min(off) in off[1:4] and off[5] > 1.5 * off[0]
assert all(abs(each / on[0] - 1) < 0.08 for each in on[:3])
assert all(abs(one / other - 1) < 0.02 for one, other in zip(off[3:], on[3:], strict=True))
assert all(result.num_preemptions <= 5 for row in swept.values() for result in row[3:])
nothing, _, two = (result.summary()["longest_gap_p99"] for result in swept[True][:3])
assert two < 0.6 * nothing

# %% [markdown]
# ### Thrash
#
# Why does admission ask for room for the *whole* prompt, even where only the first part of it is computed in this step?
# Let it ask for that part alone, and requests come in that cannot stay:

# %%
whom: Counter[str] = Counter()


class Watched(parts.get("Scheduler")):
    """Your scheduler, counting whom your loop takes."""

    def preempt_for(self, request: Request, num_new_tokens: int, output: SchedulerOutput) -> int:
        before = list(self.running)
        unspent = super().preempt_for(request, num_new_tokens, output)
        for victim in before:
            if victim not in self.running:
                whom["by themselves"] += victim is request
                whom["of these before their first token"] += victim is request and not victim.num_output_tokens
        return unspent


admissions: dict[str, dict[str, Any]] = {
    "whole prompt": {},
    "first part": {"reserve_full_prompt": False},
    "first part, cache": {"reserve_full_prompt": False, "prefix_cache": True},
}
taken = {}
for name, options in admissions.items():
    whom.clear()
    results[name] = run(scheduler=Watched, **options)
    taken[name] = dict(whom)
    print(f"{name}: mean TTFT {results[name].ttft.mean():.2f} s, {results[name].num_preemptions} preemptions;", end=" ")
    print(", ".join(f"{number} {how}" for how, number in whom.items()))

# %% [markdown]
# More than three times as many preemptions, and most of them of one kind: a newcomer begins a prompt that it cannot finish, finds
# too few blocks for the next part, and throws *itself* out. What it computed is lost; it comes back, and begins anew. The name for
# this is **thrash**: the machine is busy, and little comes of it. (vLLM issue #25538, of 2025, describes it; vLLM 0.33.0
# asks for room for the whole prompt.) With the prefix cache the mean TTFT hardly suffers.

# %% claims="More than three times as many preemptions, and most of them of one kind"
first_part, cached = results["first part"], results["first part, cache"]
assert first_part.num_preemptions > 3 * recompute.num_preemptions
assert first_part.ttft.mean() > 2 * recompute.ttft.mean()
assert taken["first part"]["of these before their first token"] > 0.5 * first_part.num_preemptions
assert taken["whole prompt"]["of these before their first token"] < 0.1 * recompute.num_preemptions
assert cached.num_preemptions < 0.5 * first_part.num_preemptions
assert cached.ttft.mean() < 1.1 * results["prefix cache"].ttft.mean()

# %% [markdown]
# ### Explain what you measured
#
# In five to eight sentences, with figures of yours and their units: (a) Without a prefix cache, why does the biggest victim
# cost so much more than the last one in, though each time it frees more? (b) Why do 2% of the blocks avoid most preemptions,
# and what is it that 40% cost? Say what the 2% are in blocks, and how long the running requests take to need them. (c) vLLM
# recomputes, without a comparison of costs. What in your figures speaks for it, and what do you not need then?
#
# 5 points, about 12 minutes, marked by hand: 2 each for (a) and (b), 1 for (c).

# %% [markdown] answer="6.10" points=5
# **(a)** The biggest has most to compute again: with it 201,000 (190,000) tokens are computed again instead of 96,000
# (68,000), with 92 (71) preemptions instead of 101 (59). It is also often more than half done, and would have given its
# blocks back by itself soon. So the mean TTFT is 2.3 (1.8) times as long. The last one in has just begun. **(b)** 2% are 30
# blocks. About twenty requests run, and each needs a block every 16 tokens: 20/16 = 1.25 blocks a step, so 30 last for some
# 24 steps, and in the meantime somebody ends. Preemptions fall from 101 to 11 (59 to 5), the mean TTFT from 1.8 to 1.0 s (3.5
# to 2.5). 40% are 600 blocks, most of which stand empty while others wait: fewer run at the same time, and the mean TTFT is
# 13 (15) s. **(c)** With the prefix cache a victim finds most of its blocks again: 22,000 (10,000) tokens are computed again
# instead of 96,000 (68,000), and the mean TTFT is 1.00 (2.43) s, about that of a swap at 25 GB/s, 0.90 (2.49) s. And there is no second
# account, no third queue, and no order between queues.
#
# (Figures of the real trace, in brackets of the synthetic one.)
#
# **Mark scheme.** (a) 1 for tokens computed again with figures, 1 for what a large victim has lost or how near it was to
# its end. (b) 1 for 30 blocks as what running requests grow into, with the number of steps, 1 for idle memory with a figure.
# (c) 1 for a figure (the prefix cache, or how little is left with a small watermark) and something that is not needed.

# %% [markdown] criteria="6.10"
# - (a) Tokens computed again in both runs, and how many victims there were.
# - (b) The watermark in blocks, how fast the running requests grow, and what stands empty with 40%.
# - (c) A figure that says how little is left to be saved by swapping, and something that recomputing does not need.

# %% [markdown]
# ### A victim policy of your own (stretch)
#
# Last in, first out is simple, and not the best, as the row "least progress" shows. Write a policy. For each running request, in order of admission, it sees
# two numbers: how many tokens are computed, and how often the request was preempted. It returns the index of the one that
# gives way. Played are 250 requests with lengths of the trace, which come faster than the memory has room; the grader draws others.
# It earns by tokens that need *not* be computed again, against last in, first out, and loses a share if anybody is
# preempted more than twice.


# %% exercise="6.11"
def choose_victim(running: list[tuple[int, int]]) -> int:
    """Return the index of the request that gives way.

    Args:
        running: For each running request, in order of admission, the tokens that are computed and
            how often it was preempted before. At least one.

    >>> choose_victim([(500, 0)])
    0
    """
    ### BEGIN SOLUTION
    return min(range(len(running)), key=lambda index: (running[index][1], running[index][0]))
    ### END SOLUTION


# %% check="6.11"
check("6.11", choose_victim)

# %% [markdown] solution="6.11"
# **Explained.** Who has computed least loses least. By itself that rule goes wrong: whoever has the fewest tokens often
# still has when it is back, so it is the victim again, three to nine times in our draws. To look first at how often
# somebody has paid, and then at what it would lose, often costs some tokens, and nobody pays more than once or twice. vLLM
# 0.33.0 has neither: it keeps to the order of admission, or to the priorities. The proposal #54644 (2026, open) is to add
# "least computed first", with 20 to 59% fewer tokens computed in vain in most of its runs.

# %%
parts.table(lesson=6)

# %% [markdown]
# ## 10. In vLLM
#
# | here | in vLLM 0.33.0, `vllm/v1/` |
# |---|---|
# | `preempt_for` | the loop `while True` around `allocate_slots` in `schedule`, `core/sched/scheduler.py` |
# | `least_important` | `max(self.running, key=lambda r: (r.priority, r.arrival_time))` in that loop; otherwise `self.running[-1]` |
# | asking before taking | `_request_blocks_can_be_freed`, and the `break` in front of the victim's removal; whether blocks are shared is not asked |
# | `preempt` | `_preempt_request`: frees, sets PREEMPTED and 0 computed tokens, `waiting.prepend_request`, which under priority is plain `add_request` |
# | nobody comes in after a preemption | `if not preempted_reqs and ...` in front of the loop over those who wait |
# | watermark, whole prompt | `watermark_blocks` and `full_sequence_must_fit` in `core/kv_cache_manager.py`; `watermark` and `scheduler_reserve_full_isl` in `vllm/config/scheduler.py` |
# | swapping | gone; CPU offloading is in `kv_offload/`, switched on by `--kv-offloading-size` |
#
# **What production code does beyond this, and why.**
#
# - With several steps under way, blocks that are given back may still be written by one. Work on the GPU goes in order, so
#   that is harmless, unless a connector may load into freed blocks out of order: only then are they parked
#   (`deferred_frees`) until the step has come back. Our hunt is about what follows from it: now a victim whose blocks
#   would be parked stays where it is.
# - Offloading keeps *contents*, not victims: full blocks are stored on the CPU under their hashes, and found again by
#   whoever has that prefix, be it the victim or somebody else. With CUDA, what comes in from pinned memory
#   is copied by a kernel if its pieces are below 28 KiB and there are at least 16 of them, all else by the copy engine
#   (`kv_offload/cpu/gpu_worker.py`): the 64 KiB of section 4 never see the kernel.
# - Under first come, first served a request that preempts itself ends the loop over those who run, since nobody stands
#   behind it; under priority the loop goes on with those behind. Where it stops to wait for blocks, they are not served.
# - Images are computed by an encoder under a budget of its own; a victim gives that back as well.
#
# ## 11. Quiz
#
# Practise in the widget first: it says at once what each choice means. Then write your letters into the cell below
# it, which is what counts. There are ten questions, a point each; eight right, 80%, is a pass.

# %% quiz="6"

# %% [markdown]
# ## 12. Interview corner
#
# Answer aloud, in two minutes each, before you unfold what a strong answer holds.

# %% [markdown] interview="6"

# %% [markdown]
# ## 13. Takeaways
#
# - Only who runs and finds too few blocks preempts. Who arrives waits, however important.
# - A victim frees the blocks that it holds alone, which may be none. Neither vLLM's loop nor this one asks how many.
# - It loses keys and values, never its tokens. What it had got in this step was not computed, and goes back to the budget.
# - Copying costs $2nk/B$, computing $2Pn/F$, with a floor on an idle GPU. They are equal at $B^{*} = kF/P$, and what $B$ is
#   depends on who copies. Very long requests are better copied; so are very short ones where nothing else runs.
# - Without a prefix cache, the last one in lost less than the biggest here, and more than who had computed least.
# - The prefix cache does what the swap was for: a victim that comes back soon finds its own blocks.
# - Two per cent of the blocks kept free at admission made preemptions rare here; 20% cost more than they saved.
#
# **Lesson 7 needs** the two sentences of section 3: a block has holders, and a full block has a name. It builds the pool
# that counts the ones and keeps the others.

# %% [markdown]
# ## Appendix
#
# <details><summary>Guided reading: the loop that makes room (20 minutes)</summary>
#
# Open `vllm/v1/core/sched/scheduler.py` at tag `v0.33.0` in [the repository](https://github.com/vllm-project/vllm) and find
# the comment "Schedule newly needed KV blocks for the request".
#
# 1. Three `break`s stand before a victim is removed from `running`. The first is taken when there is room. What does each of
#    the other two wait for?
# 2. Why does the loop not go on to an older victim where the first one cannot be freed?
# 3. Under priority a victim may stand *in front of* the request that is being served. Which variable is corrected for it,
#    and what would happen otherwise?
# 4. After the loop there is a `continue` under priority if the request has preempted itself, and a `break` otherwise. Why?
#
# *What to find there.*
#
# 1. For blocks that a connector is about to free, and for a step that is under way and may still write the victim's blocks.
# 2. The order of victims is the policy's. A victim's blocks can be freed when the last step with it has come back, and then
#    the same one can go.
# 3. `req_index`. The list has become shorter in front of it, so a request would be skipped.
# 4. Under first come, first served a request that preempts itself is the last in `running`: nobody is behind it. Under
#    priority others are, and they may still find room. After one of those two `break`s nobody behind is served, under
#    priority too: that is the price of waiting for blocks.
#
# </details>
#
# <details><summary>What older material says differently</summary>
#
# - "vLLM swaps requests with several sequences, and recomputes the others." So did the first engine (V0). V1 has one mode,
#   recomputation, and no `swapped` queue; `--swap-space` (issue #27984 found that it did nothing) and `--preemption-mode`
#   (#18115: it led back to V0) are gone.
# - "All sequences of a group are preempted together." So in the paper (section 4.5). In V1 each answer is a request of its
#   own.
# - "Recomputing costs as much as the first time." Mostly less. Prompt and answer are one prompt now, computed in few steps,
#   and what is left in the prefix cache is found.
#
# </details>
