# %% [markdown]
# # Lesson 1: What attention costs in memory
#
# **Time** 3 hours and a quarter: 2 hours for exercises and quiz, the rest for the text and what you write; 45 minutes
# in all if you only read ·
# **Difficulty** ●○○ to ●●● · **Points** 100, of which 5 are a stretch of 10 minutes more
#
# While it generates text for many users at once, a language model is rarely short of arithmetic. It is
# short of memory, and of the time it takes to read memory. This lesson finds out where the memory goes.
#
# **By the end you will have built** the calculator that tells an engine how many requests it can hold,
# the instrument that tells you how much of that memory does nothing, and the estimate of what limits a
# step's speed. They are parts of the engine that you assemble in this course. In the map below their
# boxes have a thick outline, and an arrow means "uses".
#
# **You need** Python, and the idea of attention: a query is compared with the keys of all earlier
# tokens, and the result weighs their values. You need no GPU.
#
# Two names come up all the time. **vLLM** is the open engine whose design this course follows. **The paper** is the one
# that presented it: Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention"
# (SOSP '23).
#
# **How this notebook works.** Run the cells from top to bottom. Where a cell says `# YOUR CODE HERE`,
# write below that line; nothing has to be deleted. The cell with `check(...)` tells you at once
# whether it is right, and shows a small case in which it is not. When you have passed it, or tried
# three times, `explain("1.1")` shows the solution where your copy of the course has one. Where you are asked
# to predict, do: a guess that was wrong teaches more than a sentence that you agreed with. Where a figure is cut off at
# the right, Ctrl+B closes JupyterLab's file browser and makes room.

# %%
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from autograder.notebook import check, compare, explain, quiz
from course_lib import parts, viz
from course_lib.kv_cache import (
    cost_per_million_tokens,
    kv_bytes_per_block,
    max_concurrent_sequences,
)
from course_lib.kv_cache.allocators import FirstFitAllocator
from course_lib.kv_cache.reservation import (
    RESERVATIONS,
    Reservation,
    SlotUse,
    average_shares,
    expected_static_utilization,
    replay_contiguous,
    replay_paged,
)
from course_lib.roofline import forward_flops, is_memory_bound, kv_bytes_moved
from course_lib.simulation.workload import load_azure, lognormal_requests
from course_lib.specs import GPUS, MODELS, GiB, GPUSpec, ModelSpec
from course_lib.viz.kit.charts.axes import Axis, LogAxis
from course_lib.viz.kit.charts.curves import Curve, Dots, curve_chart

# %%
viz.EngineMap(lesson=1)

# %% [markdown]
# ## 1. Warm-up
#
# Three questions on what this lesson builds on. Answer in the cell; the check is immediate and earns
# no points.

# %% exercise="1.W1"
vector_bytes = None  # bytes
### BEGIN SOLUTION
vector_bytes = 4096 * 2
### END SOLUTION

# %% check="1.W1"
check("1.W1", vector_bytes)
# %% exercise="1.W2"
gpu_bytes = None  # bytes
### BEGIN SOLUTION
gpu_bytes = 24 * 2**30
### END SOLUTION

# %% check="1.W2"
check("1.W2", gpu_bytes)
# %% exercise="1.W3"
projection_flop = None  # FLOP
### BEGIN SOLUTION
projection_flop = 2 * 4096 * 4096
### END SOLUTION

# %% check="1.W3"
check("1.W3", projection_flop)
# %% [markdown]
# ## 2. The problem, seen first
#
# A server has one RTX 4090 with 24 GiB and runs Llama-3.1-8B. Sixteen users send a request each. A
# request may grow to 4,096 tokens; on average it holds 500. An engine from before 2023 sets
# aside room for 4,096 tokens per request, because it cannot know which of them will grow.
#
# **Predict before you look:** another engine takes memory in small blocks, just as many as the tokens that are
# really there need. How many times as many of these requests does the same memory hold? And do the sixteen
# reservations fit beside the weights? Write a number, then run the cell.

# %%
predicted_times_as_many = None  # your prediction: requests in blocks / requests with reservations

# %% [markdown]
# Now look. The upper bar is one GPU under reservations; the lower one is the same GPU with the same
# requests, taking memory in small blocks as they need it. Move the controls:
#
# - At the start three of the sixteen do not fit above. Raise *Sequences* until one does not fit below.
# - Halve *Maximum length*. What is empty in each reservation shrinks by more than half. Who pays: a request that
#   needs more than 2,048 tokens, because it is cut off or refused.
# - Choose Llama-2-7B. The weights shrink, and yet fewer sequences fit. Section 3 finds out why.
#
# *Kept out of the engine* is memory that it must not use (section 3), *external fragmentation* what is free and too
# small for one more reservation (section 4, which also splits what is reserved and empty).

# %%
viz.gpu_memory()

# %%
compare(predicted_times_as_many, 111 / 13, "times")

# %% [markdown]
# Of the room for 4,096 tokens, 500 are there, in 32 blocks of 16: about one in eight. (In the figure 111 fit below and
# 13 above, 8.5 times as many: beside the 13, most of a fourteenth place is left over, too small to be one.) The rest is
# reserved and empty, and while it is, no other request can have it: three of the sixteen users have to wait, beside
# gibibytes of memory that hold nothing. That is the problem that paged attention solves in lesson 2. To solve it you
# first have to be able to say exactly how large the problem is.

# %% claims="(In the figure 111 fit below and 13 above, 8.5 times as many: beside the 13, most of a fourteenth place is left over"
assert round(111 / 13, 1) == 8.5
assert 13.5 < 111 * 32 * 16 / 4096 < 14
page = list(viz.gpu_memory_scene("llama-3.1-8b", "rtx-4090", 4096, 16, 500).texts())
assert "13 of 16 sequences fit; the other 3 need 1.5 GiB" in page
assert "All 16 sequences fit, and 95 more would" in page

# %% [markdown]
# ## 3. How large is the KV cache?
#
# ### Why there is a cache at all
#
# A decoder produces one token at a time. To choose the token after token $t$, each layer forms a query $q_t$ from
# token $t$ and attends over the keys and values of all tokens so far:
#
# $$o_t = \sum_{i \le t} \frac{\exp(q_t \cdot k_i / \sqrt{d})}{\sum_{j \le t} \exp(q_t \cdot k_j / \sqrt{d})}\, v_i$$
#
# The keys and values of the tokens before $t$ are the same as in the step before: they depend only on
# those tokens, because attention is causal. An engine that computed them again would put $t$ tokens
# through the whole model in step $t$, about $n^2/2$ tokens for an output of $n$. So it keeps them.
# That store is the **KV cache**. It trades memory for arithmetic, and the trade is a good one: for 500
# tokens it saves a factor of about 250.
#
# ### What one token leaves behind
#
# In each layer the token comes in as `hidden_size` numbers. Three matrices make of it
#
# - `num_attention_heads` query vectors,
# - `num_kv_heads` key vectors,
# - `num_kv_heads` value vectors,
#
# all of `head_dim` numbers. Look at the formula above as *a later token* sees it: the sum runs over $i$, and
# token $t$ comes with a query of its own. Which of the three does it need again of every earlier token? That is
# what is stored, in every layer, and nothing else. A stored number takes `dtype_bytes` bytes.
#
# In the original **multi-head attention** (MHA) each query head has a KV head of its own. **Grouped-query
# attention** (GQA) lets several query heads share one. (Ainslie et al., 2023, measured quality close to MHA.)
# With one KV head for all it is called multi-query attention (MQA).

# %%
for key in ("opt-13b", "llama-2-7b", "llama-3.1-8b", "llama-3.1-70b", "qwen3-32b"):
    spec = MODELS[key]
    print(
        f"{spec.name:<14} {spec.num_layers} layers, {spec.num_attention_heads} query heads, "
        f"{spec.num_kv_heads:>2} KV heads of {spec.head_dim}, hidden size {spec.hidden_size}"
    )

# %% [markdown]
# **Predict from these five lines:** how many times as much KV cache does one token of OPT-13B take as one of
# Qwen3-32B, which has more than twice the parameters? All five models store 16-bit numbers.

# %%
predicted_ratio = None  # your prediction: OPT-13B / Qwen3-32B

# %% [markdown]
# Now find the formula. No line of this notebook has it so far; all that goes into it stands above. Its first
# test is a figure from the literature: OPT-13B takes 819,200 bytes, 800 KiB, for a single token (Kwon et al., SOSP
# '23, section 3).

# %% exercise="1.1"

# %% check="1.1"

# %% [markdown] solution="1.1"
# **Explained.** Two vectors (K and V) per KV head and layer, `head_dim` numbers each, `dtype_bytes` for a number:
#
# $$\text{bytes per token} = 2 \times \text{layers} \times \text{KV heads} \times \text{head\_dim} \times \text{bytes per number}$$
#
# Every other field of `ModelSpec` is a distraction: `num_attention_heads` and `hidden_size` shape the queries and
# the residual stream, which are not cached.

# %%
sizes = {key: parts.get("kv_bytes_per_token")(MODELS[key]) for key in MODELS}
compare(predicted_ratio, sizes["opt-13b"] / sizes["qwen3-32b"], "times")
listed = ("opt-13b", "llama-2-7b", "llama-3.1-8b", "llama-3.1-70b", "qwen2.5-7b", "qwen3-32b")
for key in listed if predicted_ratio is not None else ():
    print(
        f"{MODELS[key].name:<14} {sizes[key] / 1024:5.0f} KiB per token, "
        f"{4096 * sizes[key] / GiB:.2f} GiB for 4,096 tokens"
    )

# %% [markdown]
# Watch the map at the top: the box *Sizing* has changed, because your function is now a part of your
# engine. It is a plain file, `my_engine/kv_bytes_per_token.py` in your workspace, and later lessons use it. (A
# `print` that is left in a part prints wherever the part is used: take it out and run its check again.)
#
# In the paper's set-up, OPT-13B with at most 2,048 tokens, one request takes 1.68 GB, or 1.56 GiB. (The paper
# writes 1.6 GB.) Sixteen of those outweigh the model.
#
# A formula that is right for one model may be wrong for the next, and published calculators have been: section 7 hunts
# such a bug.
#
# The formula of 1.1 is wrong for multi-head *latent* attention (DeepSeek), which caches one compressed vector and one short
# positional key per token and layer, for all heads together. `ModelSpec.from_hf_config` refuses such a model.

# %% [markdown]
# ### What fits on a GPU
#
# An engine decides once, when it starts, how much memory the cache gets. It may use a share of the GPU
# (`gpu_memory_utilization`; the rest is for what it does not count: the CUDA context, communication buffers, other
# programs). From that share it takes the weights, which never leave, and the **activations**, the intermediate
# results of the largest forward pass. What is left is cut into **blocks**: a block is room for the KV
# of `block_size` tokens, 16 by default, and takes `kv_bytes_per_block(model, block_size)` bytes. Why blocks,
# and why 16, are the subjects of lessons 2 and 4. Here a block is just a unit of account.
#
# **A worked example.** Of 10 GiB an engine may use the share 0.8, so 8 GiB. Weights take 5 GiB and activations 1. The
# 2 GiB that are left make 1,024 blocks of 2 MiB.

# %% exercise="1.2"

# %% check="1.2"

# %% [markdown] solution="1.2"
# **Explained.** The share is taken of the whole memory, before anything else is subtracted: 0.9 means nine tenths
# of the GPU, whatever the model. (It does not bound the process. The CUDA context and the communication buffers come
# on top, see section 9.) Flooring twice (bytes, then blocks) keeps the result a whole number that is never too large.
# (vLLM 0.33.0 rounds the bytes up; a byte more or less makes a block more only where the rest is
# an exact number of blocks.)

# %% [markdown]
# A measured run lets you hold this against reality. vLLM 0.19.0 served Llama-3.1-8B on an RTX 4090 with
# `gpu_memory_utilization` 0.9 and reported 2,588 blocks of 16 tokens. The driver showed it 25,250,627,584
# bytes, a little less than the 24 GiB on the box. (Source: the run published with LLMServingSim,
# `bench/examples`.) What does your function say, before any activations?

# %%
llama_8b = MODELS["llama-3.1-8b"]
measured_gpu = replace(GPUS["rtx-4090"], memory_bytes=25_250_627_584)
blocks = parts.get("num_kv_blocks")(llama_8b, measured_gpu, gpu_memory_utilization=0.9)
missing = (blocks - 2588) * kv_bytes_per_block(llama_8b, 16)
print(f"{blocks:,} blocks by our formula, 2,588 measured: {missing / GiB:.2f} GiB went elsewhere")
print(f"2,588 blocks hold {2588 * 16:,} tokens:")
print(f"  {max_concurrent_sequences(2588, 16, 4096)} sequences of 4,096 tokens")
print(f"  {max_concurrent_sequences(2588, 16, 500)} sequences of 500 tokens")

# %% [markdown]
# What went elsewhere are the activations and whatever else grew while vLLM started: that is
# what `peak_activation_bytes` is for.
#
# The same memory holds 10 requests or 80, depending on whether you count what they might need or what
# they have. (The figure in section 2 has 13 for the former: it uses 92% of 24 GiB and a small estimate for the
# activations.) Everything that follows is about that factor.

# %% [markdown]
# ## 4. Where the memory goes
#
# Before vLLM, the KV cache of a request was one contiguous tensor, as most operators of deep-learning frameworks
# require. A contiguous tensor cannot grow in place when its neighbour is taken. So either it is copied at each growth,
# or its full length is **reserved** on admission, for a length that nobody knows yet. Call the room for one token's KV
# a **slot**. While a request waits for room, every slot of the cache is in one of four states (Kwon et al., section 3.1):
#
# | state | is there a reservation that asked for it? | will its request write it? | what is to blame |
# |---|---|---|---|
# | **used** | yes | has done so: it holds a token | |
# | **later** | yes | yes, in the end | early reservation |
# | **internal** fragmentation | yes | never | the length is unknown |
# | **external** fragmentation | no, and the next request in the queue cannot have it | | the allocator: what it rounds up, free pieces that are too small, or free blocks that are too few |
#
# The paper compares three ways to choose the length of a reservation, in its authors' own version of Orca, a serving
# system of 2022 (OSDI '22) that was not public:
#
# - **Max**: the longest that the model allows. No knowledge is needed.
# - **Pow2**: the prompt, and the output length rounded up to a power of two, as if it were known to within a factor
#   of two; never more than the longest that the model allows.
# - **Oracle**: exactly the length that the request will have. No real system knows it.
#
# **A worked example.** A request with a prompt of 100 tokens will generate 300. It has written 130 tokens
# so far. Under *Max* with 2,048 slots: 130 used, 400 − 130 = 270 later, 2,048 − 400 = 1,648 internal. Under
# *Pow2* it asks for 100 + 512 = 612 slots: 130 used, 270 later, 612 − 400 = 212 internal.
#
# Watch it happen under *Max* in a small memory of 4,400 slots, where no request may be longer than 1,024 tokens. The
# allocator of this film hands out pieces of a power of two only; section 8 says why. (An *iteration* is one pass
# through the model: one more token for each running request.) While the same requests run, a step of the film is at
# most 20 iterations; whenever one leaves and another comes, you see both moments. A tick above the slider marks each
# such change. Press play, or step with the buttons (once you have clicked one, the arrow keys step, too).

# %%
conversation = load_azure("conversation")
small = [r for r in conversation[:400] if r.prompt_tokens + r.output_tokens <= 1024]
frames = list(islice(replay_contiguous(small, 4400, RESERVATIONS["Max"], max_model_len=1024), 600))
print(f"{len(small)} short requests from: {conversation.source}")
viz.reservation_film(frames)

# %% [markdown]
# Four reservations of 1,024 slots, 304 slots that are too few for a fifth, and a queue outside.
#
# **Predict:** under *Pow2* the same requests ask for less, so fewer slots are internal. Of every 100 slots that are no
# longer internal, how many hold a token instead?

# %%
predicted_gain = None  # your prediction: slots, of 100

# %% claims="Four reservations of 1,024 slots, 304 slots that are too few for a fifth, and a queue outside."
for frame in frames:
    assert [each.reserved for each in frame.reservations] == [1024] * 4
    assert frame.num_slots - 4 * 1024 == 304
    assert frame.num_waiting > 0

# %% [markdown]
# To find out, write the instrument that counts these kinds. Most of it is there; the three steps under the comments
# are yours.

# %% exercise="1.3" steps="Count the slots that hold|Count the reserved slots into|Count the reserved slots that"

# %% check="1.3"

# %% [markdown] solution="1.3"
# **Explained.** Each reservation is cut at two points, `written` and `final`. If less is reserved than
# the request will need in the end, as under paging, the second cut falls outside, and nothing is internal:
# hence the `min` and the `max`. With what is outside the reservations the four counts add up to `num_slots`; if yours
# do not, a slot was counted twice, or not at all.

# %% [markdown]
# Use it on the request of the worked example, in a memory of 1,024 slots, and on the same request under paging: nine
# blocks of 16 slots, so 144 slots, for the 130 tokens. (Nobody waits there: what it counts as external is simply free.)
# Then on the small memory, until the queue is empty.

# %%
for reserved in (612, 144):
    moment = [Reservation("r0", reserved=reserved, written=130, final=400)]
    print(parts.get("classify_slots")(moment, num_slots=1024))

in_small, in_small_run = {}, {}
for name in ("Max", "Pow2"):
    moments = list(replay_contiguous(small, 4400, RESERVATIONS[name], 1024))
    in_small[name] = average_shares(moments, parts.get("classify_slots"))
    in_small_run[name] = np.mean([len(moment.reservations) for moment in moments])
saved = in_small["Max"]["internal"] - in_small["Pow2"]["internal"]
gained = {kind: in_small["Pow2"][kind] - in_small["Max"][kind] for kind in in_small["Max"]}
became = {kind: 100 * gained[kind] / saved for kind in ("used", "later", "external")}
compare(predicted_gain, became["used"], "slots of 100")
if predicted_gain is not None:
    print("of 100 slots that are no longer internal", end=" ")
    print(", ".join(f"{slots:.0f} are {kind}" for kind, slots in became.items()))
    for name, shares_of in in_small.items():
        kinds = ", ".join(f"{kind} {share:5.1%}" for kind, share in shares_of.items())
        print(f"{name:<5}{kinds}; {in_small_run[name]:.1f} requests run")

# %% [markdown]
# Far from all: nearly a third in the real conversations, next to none in the synthetic ones. A freed slot holds a
# token, now or later, only if it lets one more request in. Otherwise it turns up as external: outside the reservations,
# and still not in a piece that the next request could have. Pieces are powers of two here, and most of the synthetic
# requests still need the largest under *Pow2*, where most of the real ones do with a smaller one. So to shorten a
# reservation is not enough. It depends on who hands out the pieces, and how; section 8 takes that apart.
# (`RESERVATIONS["Pow2"]` in the cell of the film lets you watch.)

# %% claims="Far from all: nearly a third in the real conversations, next to none in the synthetic ones."
assert saved > 0.1
assert became["used"] < 5 if conversation.is_synthetic else 28 < became["used"] < 33
assert became["external"] > 55
assert (became["used"] > 5) == (in_small_run["Pow2"] > in_small_run["Max"] + 1)

# %% claims="most of the synthetic requests still need the largest under *Pow2*, where most of the real ones do with a smaller one."
in_largest = [RESERVATIONS["Pow2"](r.prompt_tokens, r.output_tokens, 1024) > 512 for r in small]
assert np.mean(in_largest) > 0.9 if conversation.is_synthetic else np.mean(in_largest) < 0.4

# %% [markdown]
# ### What must hold, and what breaks
#
# | what must hold | what a user sees when it does not |
# |---|---|
# | A token's KV is counted with the model's own KV heads and its own `head_dim`. | The engine promises tokens that do not fit, or serves an eighth of the users that it could. |
# | Weights, activations and cache together stay within the share of the memory. | It starts, and dies of "out of memory" in the first large step. |
# | Every slot is counted as exactly one of the four. | Shares that do not add up to 100%, and a dashboard that shows waste which is not there. |
# | No slot belongs to two requests. | One user's answer goes on with another user's context. |

# %% [markdown]
# ## 5. The other way to waste: waiting for the slowest
#
# Memory is wasted in space. Engines before Orca, such as FasterTransformer, also wasted it in time. **Static
# batching** takes $B$ requests, runs them together until the *longest* is done, and only then takes the next $B$. A
# request that finishes early leaves its seat in the batch idle, with its reservation still held.
#
# Take output lengths that are exponentially distributed: many short ones, few long ones. Alone, a request keeps
# its one seat busy all the time. In batches of 2, two thirds of the seats are busy; in batches of 4, 48%.
#
# **Predict:** with batches of 32, how many per cent of the seats are busy?

# %%
predicted_percent = None  # your prediction, in %

# %%
compare(predicted_percent, 100 * expected_static_utilization(32), "%")

# %% [markdown]
# It falls, and ever more slowly. The argument is short. A batch lasts as long as the longest of $B$ outputs, while
# its seats are busy for the mean $m$ of them. While $k$ requests are still running, the next one finishes after $m/k$ on
# average: the shortest of $k$ exponential times has mean $m/k$, and the others, which have no memory, start afresh. Then
# $k - 1$ are left. So the batch lasts $m/B + \dots + m/2 + m = m H_B$, where $H_B = 1 + \tfrac12 + \dots + \tfrac1B$,
# and
#
# $$\text{utilisation} = \frac{m}{m H_B} = \frac{1}{H_B}$$
#
# Real lengths are not exponential. The next exercise measures them; it is a stretch, and lesson 5 comes back to it.

# %% exercise="1.4"

# %% check="1.4"

# %% [markdown] solution="1.4"
# **Explained.** Numerator: one token per request and iteration. Denominator: all cells of the picture,
# `batch_size` seats over the lifetimes of all batches. Dividing the sums, rather than averaging each
# batch's quotient, gives a batch that runs ten times as long ten times the weight, which is what it costs.

# %%
utilization = parts.get("static_batch_utilization")
lengths = [request.output_tokens for request in conversation]
batch_sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256]
curves = [
    Curve(conversation.name, [(b, 100 * utilization(lengths, b)) for b in batch_sizes]),
    Curve(
        "exponential lengths, 1/H",
        [(b, 100 * expected_static_utilization(b)) for b in batch_sizes],
    ),
]


def busy_seats(width: float) -> viz.Scene:
    """Draw the share of busy seats over the size of the batch."""
    size, busy = LogAxis("Batch size", "requests"), Axis("Busy seats", "%", high=100)
    return curve_chart("Busy seats under static batching", size, busy, curves, width - 24).scene()


print(
    f"at 32 requests: {100 * utilization(lengths, 32):.0f}% of the seats are busy, "
    f"{100 * expected_static_utilization(32):.0f}% with exponential lengths"
)
print(f"outputs: mean {np.mean(lengths):.0f} tokens, standard deviation {np.std(lengths):.0f}")
viz.Picture(busy_seats(viz.WIDE), narrow=busy_seats(viz.NARROW))

# %% [markdown]
# A larger batch is what the GPU wants, and static batching punishes it. **Continuous batching**, which Orca brought to
# language models as iteration-level scheduling, fills a seat as soon as it falls idle (lesson 5). These outputs do better
# than exponential ones, because they spread less widely: by less than their mean, where exponential lengths spread by all
# of it. The direction is the same.

# %% claims="These outputs do better than exponential ones, because they spread less widely: by less than their mean, where exponential lengths spread by all of it. The direction is the same."
assert utilization(lengths, 32) > 1.2 * expected_static_utilization(32)
assert np.std(lengths) < 0.9 * np.mean(lengths)
assert sorted(batch_sizes, key=lambda size: utilization(lengths, size)) == batch_sizes[::-1]

# %% [markdown]
# ## 6. Why the batch matters so much: the roofline
#
# An H100 reads 3.35 TB per second from its memory, and does 989 TFLOP per second of dense bf16 arithmetic. The
# weights of Llama-3.1-8B take 16 GB. A step that computes the next token of one sequence, a **decode** step, reads them
# once and does about 2 FLOP per parameter. One that computes a prompt of 1,000 tokens, a **prefill**, reads them once,
# too, and does a thousand times the arithmetic.
#
# **Predict:** a GPU reads and computes at the same time, at best at these rates. How many times as long as the decode
# step does the prefill take, if every parameter counts, for every token?

# %%
predicted_times = None  # your prediction: time of the prefill / time of the decode step

# %%
llama_8b, h100 = MODELS["llama-3.1-8b"], GPUS["h100"]
read_seconds = llama_8b.weight_bytes / h100.memory_bandwidth
compute_seconds = forward_flops(llama_8b, 1000) / h100.peak_flops
compare(predicted_times, compute_seconds / read_seconds, "times")
if predicted_times is not None:
    print(f"decode step: {1000 * read_seconds:.1f} ms to read the weights")
    print(f"prefill of 1,000 tokens: {1000 * compute_seconds:.1f} ms to compute")

# %% [markdown]
# A forward pass takes about as long as the slower of two things, reading and computing. Which one it is depends on
# the **arithmetic intensity** of the work, the FLOP that it does for each byte that it moves, and on the **ridge
# point** of the GPU, its peak FLOP per second divided by its bytes per second (Williams, Waterman and Patterson, 2009).
#
# $$\text{intensity} = \frac{\text{FLOP}}{\text{bytes moved}} \qquad \text{ridge point} = \frac{\text{peak FLOP/s}}{\text{bandwidth in B/s}}$$
#
# Below the ridge point the work is **memory-bound**: the arithmetic units wait. Above, it is **compute-bound**. The
# figures of the GPUs are NVIDIA's, for dense bf16; the headline on the box is often twice that, for sparse matrices.

# %%
for spec in GPUS.values():
    print(
        f"{spec.name:<12} {spec.peak_flops / 1e12:5.0f} TFLOP/s, {spec.memory_bandwidth / 1e12:.3f} TB/s, "
        f"ridge point {spec.ridge_point:4.0f} FLOP per byte"
    )

# %% [markdown]
# - **Decode, one sequence.** A parameter is read (2 bytes) and takes part in one multiplication and one addition
#   (2 FLOP). So the intensity is about 1, from 150 to 400 times below the ridge points in the list.
# - **Prefill.** The weights are read once for all tokens of the prompt: with 1,000 tokens the intensity is about 1,000.
# - **Decode, a batch.** The weights are read once for the whole batch. But each sequence brings a KV cache, which has to
#   be read in every step, and which we take to be its own.
#
# Attention does little with a cached token: for each query head a score and a weighted value, 4 × `head_dim` FLOP. The key
# and the value of a KV head take 4 × `head_dim` bytes. So it does 1 FLOP per byte where each query head has a KV head of
# its own, and 4 where four share one, as here.
#
# The library counts both for *one* sequence of the batch: `forward_flops(model, new_tokens, cached_tokens)` and
# `kv_bytes_moved(model, new_tokens, cached_tokens)`, which counts the cached tokens that are read and the new ones that
# are written. You put them together for a batch.

# %% claims="So the intensity is about 1, from 150 to 400 times below the ridge points in the list."
ridge_points = [spec.ridge_point for spec in GPUS.values()]
assert 150 < min(ridge_points) < 160
assert 395 < max(ridge_points) < 410

# %% claims="So it does 1 FLOP per byte where each query head has a KV head of its own, and 4 where four share one, as here."
for key, per_byte in (("llama-2-7b", 1), ("llama-3.1-8b", 4)):
    of_one_more = forward_flops(MODELS[key], 1, 1) - forward_flops(MODELS[key], 1)
    assert of_one_more == per_byte * sizes[key]

# %%
one_step = {"new_tokens": 1, "cached_tokens": 1000}
print(f"FLOP of one decode step: {forward_flops(llama_8b, **one_step):.3g}")
print(f"KV bytes it moves:       {kv_bytes_moved(llama_8b, **one_step):.3g}")
print(f"bytes of the weights:    {llama_8b.weight_bytes:.3g}")

# %% exercise="1.5a"

# %% check="1.5a"

# %% [markdown] solution="1.5a"
# **Explained.** Weights once, everything else once per sequence. As the batch grows the weights' share of
# the traffic vanishes, and intensity approaches `forward_flops / kv_bytes_moved` of one sequence: a ceiling
# set by the context length that no batch size can lift.

# %% [markdown]
# Call the cached tokens of a sequence and the new one together its **context**: a context of 4,096 are 4,095 cached tokens
# and one more.
#
# **Predict:** at a context of 4,096 tokens the batch grows from one sequence to 1,024. How many times as high does the
# intensity become?

# %%
predicted_rise = None  # your prediction: intensity with 1,024 sequences / with 1

# %%
intensity = parts.get("arithmetic_intensity")
batches = [2**k for k in range(11)]
decodes = [
    Curve(
        f"decode, context {context:,}",
        [(b, intensity(llama_8b, 1, context - 1, batch_size=b)) for b in batches],
    )
    for context in (256, 1024, 4096, 16384)
]
ends = [(batch, h100.ridge_point) for batch in (batches[0], batches[-1])]
ridge = Curve("ridge point of an H100", ends, state="series-6")
at_ridge = next(b for b in range(1, 1025) if intensity(llama_8b, 1, 255, b) >= h100.ridge_point)
reached = Dots(f"reached, with {at_ridge:,} sequences", [(at_ridge, h100.ridge_point)], state="series-5")


def intensities(width: float) -> viz.Scene:
    """Draw the intensity of decode steps over the size of the batch."""
    size, intensity_axis = LogAxis("Batch size", "sequences"), LogAxis("Intensity", "FLOP/byte")
    title = f"{llama_8b.name}: compute-bound above the ridge point"
    chart = curve_chart(title, size, intensity_axis, [*decodes, ridge, reached], width - 24, height=300)
    return chart.scene()


prefill = intensity(llama_8b, 1000)
print(
    f"prefill of 1,000 tokens: {prefill:.0f} FLOP/byte, memory-bound: {is_memory_bound(prefill, h100)}"
)
rise = intensity(llama_8b, 1, 4095, 1024) / intensity(llama_8b, 1, 4095, 1)
compare(predicted_rise, rise, "times")
plot = viz.Picture(intensities(viz.WIDE), narrow=intensities(viz.NARROW))
plot if predicted_rise is not None else None

# %% [markdown]
# At the left, with one sequence, the longest context is highest, as attention's 4 FLOP per byte are more than the
# weights' 1. At the right it is lowest: the weights are shared, the cache is not. Each curve flattens towards a
# **ceiling**, the FLOP of one sequence divided by its own KV bytes. Of these contexts only the one of 256 tokens crosses the
# line, and not before some hundreds of sequences. At 1,024 tokens and more, decoding never reaches the ridge point on this
# GPU, whatever the batch.
#
# So the way to more tokens per second is a larger batch, up to where the curve flattens or meets the ridge point.
#
# **Predict:** this GPU has 80 GiB, of which 92% may be used. Beside the weights that leaves room for a cache of nearly four
# times their size (activations, for once, not counted), so in a step whose batch fills the memory about four fifths of the
# bytes read are KV. From how many tokens of context on does the memory end before the ridge point is reached?

# %%
predicted_context = None  # your prediction, in tokens

# %%
h100_blocks = parts.get("num_kv_blocks")(llama_8b, h100)


def step_seconds(context: int, batch_size: int, kv_share: float = 1) -> float:
    """Return how long a decode step takes at best, if KV takes kv_share of its bytes."""
    flops = batch_size * forward_flops(llama_8b, 1, context - 1)
    kv_bytes = kv_share * batch_size * kv_bytes_moved(llama_8b, 1, context - 1)
    reading = (llama_8b.weight_bytes + kv_bytes) / h100.memory_bandwidth
    return max(flops / h100.peak_flops, reading)


def ceiling(context: int) -> float:
    """Return the intensity that an endless batch comes near."""
    return forward_flops(llama_8b, 1, context - 1) / kv_bytes_moved(llama_8b, 1, context - 1)


def sequences_that_fit(context: int) -> int:
    """Return how many sequences of so many tokens the GPU holds beside the weights."""
    return max_concurrent_sequences(h100_blocks, 16, context)


def ends_before_the_ridge_point(context: int) -> bool:
    """Return whether as many sequences as fit are still memory-bound."""
    reached = intensity(llama_8b, 1, context - 1, sequences_that_fit(context))
    return is_memory_bound(reached, h100)


def row(context: int) -> str:
    """Return what a step does at a context, with one sequence and with all that fit."""
    fit = sequences_that_fit(context)
    limit = "memory" if ends_before_the_ridge_point(context) else "arithmetic"
    return (
        f"{context:7,}   {fit:9,}   {of_ceiling[context]:12.0%}   "
        f"{1000 * step_seconds(context, 1):7.1f} ms   {1000 * full_steps[context]:8.1f} ms   {limit}"
    )


shown = (256, 1024, 4096, 16384)
full_steps = {context: step_seconds(context, sequences_that_fit(context)) for context in shown}
of_ceiling = {
    context: intensity(llama_8b, 1, context - 1, sequences_that_fit(context)) / ceiling(context)
    for context in shown
}
memory_first = next(context for context in range(1, 4097) if ends_before_the_ridge_point(context))
never = next(context for context in range(1, 4097) if is_memory_bound(ceiling(context), h100))
compare(predicted_context, memory_first, "tokens")
if predicted_context is not None:
    print(f"from {never} tokens on no batch reaches the ridge point")
    print("context   sequences   share of the   step with    step with     bound by")
    print("          that fit    ceiling        1 sequence   all of them")
    print("\n".join(map(row, shown)))

# %% [markdown]
# The two thresholds in a plot. One curve falls as sequences grow and fewer of them fit. The other one rises, as the caches
# that a step has to read put the ridge point further and further away, up to a context from which on no batch reaches it.

# %%
contexts = [64 * 2 ** (k / 16) for k in range(129)]
fitting = [(c, sequences_that_fit(round(c))) for c in contexts]


def sequences_to_the_ridge_point(context: float) -> float:
    """Return the batch at which FLOP / (weights + KV bytes) is the ridge point."""
    flops = forward_flops(llama_8b, 1, round(context) - 1)
    spare = flops - h100.ridge_point * kv_bytes_moved(llama_8b, 1, round(context) - 1)
    return h100.ridge_point * llama_8b.weight_bytes / spare


within_reach = [(c, sequences_to_the_ridge_point(c)) for c in contexts if c < 0.98 * never]
lowest, highest = fitting[-1][1], within_reach[-1][1]
thresholds = [
    Dots(
        f"from {memory_first} tokens on the memory ends first",
        [(memory_first, sequences_that_fit(memory_first))],
    ),
    Curve("sequences that fit", fitting),
    Curve("sequences that reach the ridge point", within_reach),
    Curve(f"from {never} tokens on no batch reaches the ridge point", [(never, lowest), (never, highest)]),
]


def ends_of_the_batch(width: float) -> viz.Scene:
    """Draw what ends the batch over the context."""
    size, sequences = LogAxis("Context", "tokens"), LogAxis("Batch size", "sequences")
    title = "What ends the batch first: memory or arithmetic"
    return curve_chart(title, size, sequences, thresholds, width - 24, height=260).scene()


if predicted_context is None:
    print("The plot shows the context that you are asked for above: it waits for your prediction.")
plot = viz.Picture(ends_of_the_batch(viz.WIDE), narrow=ends_of_the_batch(viz.NARROW))
plot if predicted_context is not None else None

# %% [markdown]
# Except at short contexts it is *room for KV caches* that ends the batch. And a larger batch is not free: a step that fills
# the memory reads all of it: in the table, from 1,024 tokens on, in the same 23 to 24 ms, where one sequence takes 5. (At
# the longest contexts few sequences fit, so that less of the memory is filled, and one alone takes longer.)
#
# **Predict:** how many times as many tokens per second does this GPU make at 4,096 tokens, if it has twice the room for
# caches, and fills it?

# %%
predicted_throughput = None  # your prediction: tokens per second with twice the room / as it is

# %%
fit = sequences_that_fit(4096)
rate = fit / step_seconds(4096, fit)  # tokens per second
twice_the_room = 2 * fit / step_seconds(4096, 2 * fit) / rate
half_in_use = fit // 2 / step_seconds(4096, fit // 2) / rate
half_the_bytes = 2 * fit / step_seconds(4096, 2 * fit, kv_share=0.5) / rate
compare(predicted_throughput, twice_the_room, "times")
if predicted_throughput is not None:
    print(f"twice the room: {twice_the_room:.2f} times the tokens per second")
    print(f"half of the room reserved and empty: {half_in_use:.2f} times")
    print(f"half the KV bytes per token, so twice the sequences: {half_the_bytes:.2f} times")

# %% [markdown]
# Of what a full step reads 80% are cache already, so with twice the room it lasts 1.8 times as long. With half
# the bytes per token, twice the sequences take no longer to read, and make twice the tokens. Half of the room reserved and
# empty costs a sixth of the tokens here, and more where the weights fill more of the GPU, as in the paper's set-up
# (section 8).

# %% claims="At 1,024 tokens and more, decoding never reaches the ridge point on this GPU, whatever the batch."
for context in (1024, 4096, 16384):
    assert intensity(llama_8b, 1, context - 1, batch_size=10**6) < ceiling(context) < h100.ridge_point
assert at_ridge == 754

# %% claims="At the left, with one sequence, the longest context is highest"
alone = [intensity(llama_8b, 1, context - 1) for context in (256, 1024, 4096, 16384)]
assert alone == sorted(alone)
crowded = [intensity(llama_8b, 1, context - 1, 1024) for context in (256, 1024, 4096, 16384)]
assert crowded == sorted(crowded, reverse=True)

# %% claims="in the table, from 1,024 tokens on, in the same 23 to 24 ms, where one sequence takes 5. (At the longest contexts few sequences fit, so that less of the memory is filled, and one alone takes longer.)"
assert all(0.023 < full_steps[context] < 0.024 for context in shown if context >= 1024)
assert all(0.0048 < step_seconds(context, 1) < 0.0055 for context in shown)
longest = 131_072  # of Llama-3.1
assert sequences_that_fit(longest) == 3
assert step_seconds(longest, 3) < 0.021 and step_seconds(longest, 1) > 0.0095

# %% claims="Of what a full step reads 80% are cache already, so with twice the room it lasts 1.8 times as long."
kv_read = fit * kv_bytes_moved(llama_8b, 1, 4095)
assert round(kv_read / (kv_read + llama_8b.weight_bytes), 2) == 0.80
assert round(step_seconds(4096, 2 * fit) / step_seconds(4096, fit), 1) == 1.8
assert 0.79 < min(of_ceiling.values()) <= max(of_ceiling.values()) < 0.80

# %% claims="With half the bytes per token, twice the sequences take no longer to read, and make twice the tokens. Half of the room reserved and empty costs a sixth of the tokens here"
assert round(twice_the_room, 2) == 1.11
assert half_the_bytes == 2
assert abs(1 - half_in_use - 1 / 6) < 0.01

# %% exercise="1.5b"
memory_bound = {}
# One line for each, such as: memory_bound["prefill of 100 tokens"] = ...
# The names: "decode, 1 sequence, context 1,000", "decode, 512 sequences, context 4,096",
# "prefill of 100 tokens", "prefill of 2,000 tokens". The model is Llama-3.1-8B, the GPU an H100.
# (As the table above says, 512 sequences of 4,096 tokens do not fit on one. Which side would it be if they did?)
### BEGIN SOLUTION
memory_bound["decode, 1 sequence, context 1,000"] = is_memory_bound(
    intensity(llama_8b, 1, 999), h100
)
memory_bound["decode, 512 sequences, context 4,096"] = is_memory_bound(
    intensity(llama_8b, 1, 4095, batch_size=512), h100
)
memory_bound["prefill of 100 tokens"] = is_memory_bound(intensity(llama_8b, 100), h100)
memory_bound["prefill of 2,000 tokens"] = is_memory_bound(intensity(llama_8b, 2000), h100)
### END SOLUTION

# %% check="1.5b"
check("1.5b", memory_bound)

# %% [markdown] solution="1.5b"
# **Explained.** Decode is memory-bound in both cases: alone because nothing shares the weights, in the large batch
# because each sequence reads a long cache of its own. A prefill has an intensity of about its length, so 100 tokens
# stay below the ridge point of 295 and 2,000 are far above. A short prefill is memory-bound, too, but by a factor of 3,
# where one decode is by a factor of nearly 300.

# %% [markdown]
# ## 7. Bug hunt
#
# **An upstream bug**, written afresh. One of the two mistakes below was reported of LMCache's KV cache calculator
# (LMCache #688, 2025) and of a memory estimate in NVIDIA's Model-Optimizer (#2482, 2026), and both of another calculator
# (KolosalAI/model-memory-calculator #2, 2025). Look the threads up afterwards.
#
# A colleague has sent you this calculator. "It gives 2,048 tokens per GiB for Llama-2-7B, which is right. I
# have used it for months."

# %% shows="autograder.lessons.lesson01_given:suspect_tokens_that_fit"
LLAMA_2_7B = {
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "torch_dtype": "float16",
}
print(f"{suspect_tokens_that_fit(LLAMA_2_7B, GiB):,} tokens per GiB")

# %% [markdown]
# It is meant for models in float32, float16 and bfloat16, and is right about the bytes of these, as long as the file calls
# the type `torch_dtype`. (Files that transformers has written since 4.56 call it `dtype`; that is not the bug.)
#
# The first thing to do with a suspected bug is to show it: find an input for which the answer is wrong. It
# convinces your colleague, and it is a test once the bug is mended. In a `config.json` the
# KV heads are `num_key_value_heads`, which older files lack. Many files do not give the head size; where they do, it is
# `head_dim`. (A few, such as Falcon's,
# have words of their own, which we leave out.) A whole `config.json` will do, with whatever else stands in it.

# %% exercise="1.6a"
exposing_config = None
### BEGIN SOLUTION
exposing_config = {**LLAMA_2_7B, "num_key_value_heads": 8}
### END SOLUTION

# %% check="1.6a"
check("1.6a", exposing_config)

# %% [markdown]
# Now mend it. There are two bugs, and one configuration may show one of them only. Write the whole function again,
# below the docstring; you may copy lines from above.


# %% exercise="1.6b"
def tokens_that_fit(config: dict[str, Any], free_bytes: int) -> int:
    """Return how many tokens of KV cache fit into free_bytes.

    Args:
        config: A Hugging Face config.json, parsed. `num_key_value_heads` and `head_dim` may be missing:
            then there is a KV head for each query head, and the query heads share `hidden_size`
            evenly. `torch_dtype` is float32, float16 or bfloat16.
        free_bytes: Bytes of memory for the cache.
    """
    ### BEGIN SOLUTION
    layers = config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads", heads)
    head_dim = config.get("head_dim", config["hidden_size"] // heads)
    bytes_per_number = 4 if config.get("torch_dtype") == "float32" else 2
    return free_bytes // (2 * layers * kv_heads * head_dim * bytes_per_number)
    ### END SOLUTION


# %% check="1.6b"

# %% [markdown] solution="1.6b"
# **Explained.** For Llama-2-7B both bugs are invisible, because its KV heads are its query heads, and heads times
# `head_dim` is its hidden size. Llama-3.1-70B exposes the first (64 query heads, 8 KV heads: eight times too
# few tokens). `head_dim` is not always `hidden_size / num_attention_heads`: Qwen3-32B has 64 heads of 128 numbers on a
# hidden size of 5,120, where division gives 80. (Qwen3-14B, with 40 heads, does not show the mistake.) There both errors
# meet: eight times as many heads, each 80/128 as wide, so five times too few tokens (819 per GiB for 4,096). The
# second alone shows in a model with wide heads and a KV head for each: of Gemma-7B's shape the calculator promises
# 3,120 tokens per GiB where 2,340 fit. Where heads are narrower than the quotient it errs the other way: Mistral-Nemo has
# 128 where division gives 160.
#
# A test on one model proves little about a formula with five factors. LMCache's calculator was mended for Qwen3 (PR #694),
# which it then knew by its name; seven months later GLM-4.5 showed the same mistake (#2248). Since January 2026 the copy in
# its documentation looks for `head_dim` itself (PR #2359); in April a review found the other copy still going by names
# (#3080).

# %% [markdown]
# ### Explain the bugs
#
# In two to five sentences: which two assumptions does the calculator make, for which models does each one hold, for
# which (name one) does it not, and in which direction, or directions, does each one, taken alone, make the answer wrong
# where it does not? 5 points, about 5 minutes, marked by hand: 2 for each bug, 1 for the directions.

# %% [markdown] answer="1.6" points=5
# It takes every query head for a KV head. That holds for multi-head attention (Llama-2-7B) and not for GQA
# (Llama-3.1-70B: 64 against 8): there it counts too many bytes per token and reports too few tokens, an eighth. And it
# takes `hidden_size / num_attention_heads` for the width of a head. That holds for most models and not where the
# configuration gives another `head_dim`. The direction depends on which is wider. Qwen3-32B: 80 against 128, so this error
# alone makes 80/128 of the bytes and would promise tokens that do not fit; but there the first error outweighs it, and the
# calculator says 819 tokens per GiB instead of 4,096. In Gemma-7B, where each query head has a KV head, it stands
# alone: 192 against 256, 3,120 tokens promised for 2,340. Mistral-Nemo errs the other way, 160 against 128.
#
# **Mark scheme.** 2 for each bug with a model or kind of model for which it shows; 1 for the directions, each bug taken
# alone: the first gives too few tokens; the second too many where heads are wider than the quotient, or too few where
# they are narrower. "Too few both times", because Qwen3-32B as a whole gets too few, does not earn this point: there the
# first bug outweighs the second.

# %% [markdown] criteria="1.6"
# - For each of the two bugs: the quantity that is taken for another one.
# - For each: a model for which the assumption holds, and one from the list in section 3 for which it does not.
# - For each, taken alone: whether it promises too many or too few tokens, and why. In a model that shows both, which
#   one outweighs the other.

# %% [markdown]
# ## 8. It runs in your engine: what the waste costs
#
# ### The allocator that hands out the pieces
#
# The paper assumes that Orca takes its slots from a **buddy allocator** (Knowlton, 1965; Kwon et al., section 6.1). Its
# blocks are runs of adjacent slots, not the KV blocks of section 3, and their sizes are powers of two. It takes the
# smallest free block that is large enough, halves it as long as half is enough, and hands out the piece that is left. The
# other halves stay free.
#
# ```text
# free [4096]                 612 slots are asked for: half of 1024 would be too few, so the piece has 1024
# free [2048 2048]            halved
# free [1024 1024 2048]       halved again
# free [1024 2048]            handed out: a piece of 1024, of which 612 were asked for
# ```
#
# The 412 slots behind the 612 are nobody's: no request has asked for them, and no other can have them. Textbooks call them
# *internal*. This lesson counts them as **external**, as the paper does: in its figure 2 the policy Oracle, which rounds by a
# buddy allocator, has no internal waste at all. There external fragmentation comes "from the
# memory allocator like the buddy allocator" and "is known before serving a request"; internal "is only realized after a
# request has finished" (section 3.1). So here, *what a policy asks for too much is internal, what the allocator adds is
# external.*
#
# ### Admit a queue
#
# The exercise with the least scaffold: from a specification alone, admit a queue of requests into a memory that a buddy
# allocator hands out, with reservations under *Pow2*. A memory in which requests have come and gone is in pieces:
#
# ```text
# free [2 16 4]     (prompt 3, output 5) asks for 3 + 8 = 11 and gets 16:   free [2 4]
# free [2 4]        (prompt 1, output 1) asks for 1 + 1 = 2 and gets 2:     free [4]
# free [4]          (prompt 2, output 3) asks for 2 + 4 = 6 and needs 8:    it waits, and so do all behind it
# ```


# %% exercise="1.7a"
def admit_under_pow2(
    requests: list[tuple[int, int]], free_blocks: list[int], max_model_len: int
) -> list[tuple[int, int]]:
    """Return what each admitted request asks for under Pow2, and the piece that it gets.

    Pow2 asks for the prompt and for the output rounded up to a power of two, together at most
    max_model_len. Requests are admitted in order. The first for which no free block is large enough ends the
    admission, whatever stands behind it. From the smallest free block that is large enough the
    allocator takes a piece, halving as long as half is enough. A queue may hold tens of thousands of requests:
    for each one look at the free blocks, not at all other requests once more.

    Args:
        requests: Prompt and output tokens of each request, each at least 1 and together at most
            max_model_len.
        free_blocks: Slots of each free block: powers of two, in any order. It is not changed.
        max_model_len: The most slots that a request may ask for.

    Returns:
        (slots asked for, slots of the piece) for each admitted request, in order.

    >>> admit_under_pow2([(3, 5), (1, 1), (2, 3)], free_blocks=[2, 16, 4], max_model_len=64)
    [(11, 16), (2, 2)]
    """
    ### BEGIN SOLUTION
    free = list(free_blocks)
    admitted = []
    for prompt_tokens, output_tokens in requests:
        output_room = 1
        while output_room < output_tokens:
            output_room *= 2
        asked = min(prompt_tokens + output_room, max_model_len)
        fitting = [block for block in free if block >= asked]
        if not fitting:
            break
        block = min(fitting)
        free.remove(block)
        while block // 2 >= asked:
            block //= 2
            free.append(block)
        admitted.append((asked, block))
    return admitted
    ### END SOLUTION


# %% check="1.7a"
check("1.7a", admit_under_pow2)

# %% [markdown] solution="1.7a"
# **Explained.** Two roundings, for two reasons: the policy rounds the output because it does not know it, the
# allocator rounds the sum because its blocks are powers of two. The piece need not be computed before the search: a block
# is large enough for the piece exactly when it is large enough for what was asked, as both are compared with powers of
# two. In an empty memory of one block, the free blocks always differ in size, and their sum alone would tell whether a
# piece fits. It no longer does once requests have come and gone.

# %% [markdown]
# ### Where the memory of real requests goes
#
# The workload is `load_azure("conversation")`, lengths measured in a production service, or drawn with the same published
# statistics where the trace is not at hand. The set-up is the paper's: OPT-13B with 12 GiB for the KV cache, and no
# request longer than 2,048 tokens. All requests wait in one queue from the start, so that free memory is
# always memory that the next request could not use.
#
# Your function admits the first of them into the empty memory. The library's replay begins the same way, as you will
# see, and goes on: whenever a request has finished, its piece becomes free, and the next ones are admitted.

# %%
requests = [r for r in conversation[:500] if r.prompt_tokens + r.output_tokens <= 2048]
num_slots = 12 * GiB // parts.get("kv_bytes_per_token")(MODELS["opt-13b"])
print(f"{len(requests)} requests from: {conversation.source}")
print(f"{num_slots:,} slots (the paper's table 1 says 15.7K)")

# An empty memory is as many free blocks as its number of slots has ones in binary: 12 = 8 + 4.
powers = [2**k for k in range(num_slots.bit_length()) if num_slots & 2**k]
queue = [(r.prompt_tokens, r.output_tokens) for r in requests]
first_in = admit_under_pow2(queue, powers, 2048) or []
print(f"admitted at first: {len(first_in)} requests, (asked for, piece): {first_in}")

# %% [markdown]
# **Predict:** *Oracle* knows every length in advance, so nothing is internal. What does the allocator round up? A piece is a
# power of two, and what was asked for lies anywhere between half of it and all. How many per cent of all slots is that?

# %%
predicted_rounding = None  # your prediction: slots rounded up, in % of all slots

# %% [markdown]
# `replay_contiguous(requests, num_slots, policy, max_model_len)` yields one snapshot per iteration;
# `RESERVATIONS` holds the three policies by name; `average_shares(snapshots, classify)` runs your classifier on
# every snapshot and averages. `replay_paged(requests, num_slots)` does the same for blocks of 16 tokens
# taken on demand. When a request needs a block and none is free, the one admitted last is **preempted**: it gives back its
# blocks and waits again. Its tokens are not lost, but their KV is, and has to be computed again.

# %%
snapshots = {
    name: list(replay_contiguous(requests, num_slots, policy, 2048))
    for name, policy in RESERVATIONS.items()
}
snapshots["Paged"] = list(replay_paged(requests, num_slots))
first_moment = [request.reserved for request in snapshots["Pow2"][0].reservations]
same = "the same" if first_moment == [asked for asked, _ in first_in] else "not the same"
print(f"Pow2 begins with {len(first_moment)} requests: {same} as your function admits")
shares = {
    name: average_shares(moments, parts.get("classify_slots"))
    for name, moments in snapshots.items()
}
for name, share in shares.items():
    print(f"{name:<7}" + ", ".join(f"{kind} {value:6.2%}" for kind, value in share.items()))
preempted = [tokens for snapshot in snapshots["Paged"] for tokens in snapshot.preempted]
all_tokens = sum(r.prompt_tokens + r.output_tokens for r in requests)
print(f"Paged: {len(preempted)} preemptions, {sum(preempted):,} tokens computed again,", end=" ")
print(f"{sum(preempted) / all_tokens:.0%} of the {all_tokens:,} that all requests have")
viz.Picture(viz.share_bars(shares), narrow=viz.share_bars(shares, viz.NARROW))

# %% [markdown]
# Under paging what is external are free blocks, fewer than the first in the queue needs to come in. And paging has a price
# that no bar shows: it admits on what is there now, and pays in preemptions when requests grow (lesson 6).
#
# Under *Pow2* and *Oracle* external hides two causes. Take them apart. A snapshot has `reservations`, and each of
# those says in `reserved` what was asked for; the piece that it got is a power of two.

# %% claims="it admits on what is there now, and pays in preemptions when requests grow"
assert sum(preempted) > 0.1 * all_tokens
assert len(preempted) > 50
assert not any(moment.preempted for name in RESERVATIONS for moment in snapshots[name])
assert all(
    moment.num_slots - sum(each.reserved for each in moment.reservations) < moment.needed
    for moment in snapshots["Paged"]
)

# %% exercise="1.7b"
rounded = {}
# For "Pow2" and for "Oracle": of all num_slots slots, the share that is in some piece but that
# nobody asked for, averaged over snapshots[...]. For example: rounded["Pow2"] = ...
### BEGIN SOLUTION
for name in ("Pow2", "Oracle"):
    behind = 0
    for snapshot in snapshots[name]:
        for request in snapshot.reservations:
            piece = 2 ** (request.reserved - 1).bit_length()
            behind += piece - request.reserved
    rounded[name] = behind / len(snapshots[name]) / num_slots
### END SOLUTION

# %% check="1.7b"
check("1.7b", rounded)

# %%
for name, share in rounded.items() if predicted_rounding is not None else ():
    free = shares[name]["external"] - share
    print(
        f"{name:<7}external {shares[name]['external']:.1%}: {share:.1%} rounded up, {free:.1%} free"
    )
if rounded.get("Oracle"):
    compare(predicted_rounding, 100 * rounded["Oracle"], "% of all slots")
    asked_for = 1 - shares["Oracle"]["external"]
    filled = asked_for / (asked_for + rounded["Oracle"])
    if predicted_rounding is not None:
        print(f"Oracle: a piece is on average {filled:.0%} full, when its request has written all")
else:
    print('`rounded` has nothing for "Oracle" yet: fill it in 1.7b, then run this cell again.')

# %% [markdown]
# A length anywhere between half of a piece and all of it fills three quarters of it: a quarter of the pieces is rounding.
# Under both policies the allocator rounds up more than twice as many slots as it leaves free. Is rounding the price of
# *this* allocator then, and not of contiguity? Another one, **first fit**, hands out exactly what was asked for, from
# the first free piece that is large enough, whatever its size.
#
# **Predict:** *Oracle* with first fit rounds nothing up. Of all slots, how many per cent are external now?

# %% claims="A length anywhere between half of a piece and all of it fills three quarters of it: a quarter of the pieces is rounding."
assert 0.70 < filled < 0.80

# %% claims="Under both policies the allocator rounds up more than twice as many slots as it leaves free."
for name in ("Pow2", "Oracle"):
    assert rounded[name] > 2 * (shares[name]["external"] - rounded[name]) > 0

# %%
predicted_external = None  # your prediction, in % of all slots

# %%
under_first_fit = average_shares(
    replay_contiguous(requests, num_slots, RESERVATIONS["Oracle"], 2048, FirstFitAllocator),
    parts.get("classify_slots"),
)
compare(predicted_external, 100 * under_first_fit["external"], "% of all slots")
side_by_side = (("buddy", shares["Oracle"]), ("first fit", under_first_fit))
for name, share in side_by_side if predicted_external is not None else ():
    print(f"{name:<10}" + ", ".join(f"{kind} {value:6.2%}" for kind, value in share.items()))

# %% [markdown]
# Rounding is gone, and what lies in free pieces has about doubled: they now have any size, and only by chance that of the
# next request. Of the slots that were rounded up little more than half are used in the end. So part of the loss belonged to
# the buddy allocator, and part comes back with first fit, too: a piece must still be contiguous. (Lesson 4 tries others.)

# %% claims="Rounding is gone, and what lies in free pieces has about doubled"
free_pieces = shares["Oracle"]["external"] - rounded["Oracle"]
assert 1.7 < under_first_fit["external"] / free_pieces < 2.5

# %% claims="Of the slots that were rounded up little more than half are used in the end."
more_used = under_first_fit["used"] - shares["Oracle"]["used"]
assert 0.5 < more_used / rounded["Oracle"] < 0.6

# %% [markdown]
# ### In money
#
# What does that cost? The paper ran OPT-13B on an A100 with 40 GB; say it costs 2.00 dollars an hour. A step yields a token
# for each request that runs, and it is memory-bound, so it lasts as long as it reads. The first column of prices takes that
# to be the weights alone, the second the weights and the slots in use:

# %%
a100, weights = GPUS["a100-40gb"], MODELS["opt-13b"].weight_bytes
full_cache = num_slots * parts.get("kv_bytes_per_token")(MODELS["opt-13b"])
for what, num_bytes in (("the weights", weights), ("weights and full cache", weights + full_cache)):
    read_ms = 1000 * num_bytes / a100.memory_bandwidth
    print(f"{what}: {num_bytes / 1e9:.1f} GB, read in {read_ms:.1f} ms")
print("dollars per million tokens, a step reading    weights alone   weights and KV")
dollars = {}
for name, share in shares.items():
    running = np.mean([len(moment.reservations) for moment in snapshots[name]])
    read = (weights, weights + share["used"] * full_cache)  # bytes in a step
    rates = [running * a100.memory_bandwidth / num_bytes for num_bytes in read]  # tokens per second
    dollars[name] = [cost_per_million_tokens(2.00, rate) for rate in rates]
    print(f"{name:<7}{running:5.1f} requests run {dollars[name][0]:32.2f} {dollars[name][1]:16.2f}")
again = sum(preempted) * 2 * MODELS["opt-13b"].num_params / a100.peak_flops  # seconds, at best
decoding = len(snapshots["Paged"]) * (weights + full_cache) / a100.memory_bandwidth
times = [dear / cheap for dear, cheap in zip(dollars["Max"], dollars["Paged"])]
print(f"Max costs {times[0]:.2f} times as much as Paged, {times[1]:.2f} times where KV is read, too")
print(f"computing preempted tokens again would take Paged about {again / decoding:.0%} longer, at best")
used_kv = shares["Paged"]["used"] * full_cache
longer = (weights + 1.26 * used_kv) / (weights + used_kv) * (1 + again / decoding)
print(f"with that, and 26% more for reading KV, Max costs {times[1] / longer:.2f} times as much")

# %% [markdown]
# Both columns flatter paging. Neither charges the tokens that it computes again: they are many, but a prefill
# is compute-bound, and does hundreds of tokens in the time of one decode step. Nor does either charge its attention
# kernel, which took 20 to 26% longer than FasterTransformer's (section 7.1 of the paper). But where the cache is full,
# only a third of a step reads KV, so such a kernel makes the step 7 to 9% longer. With both charged, a good part of the
# advantage is gone, and most of it stays: the last line.

# %% claims="Both columns flatter paging."
assert 1.9 < times[0] < 2 and 1.6 < times[1] < 1.7
assert 0.2 * (times[1] - 1) < times[1] - times[1] / longer < 0.4 * (times[1] - 1)
kv_share = full_cache / (weights + full_cache)
assert 0.065 < 0.20 * kv_share < 0.075 and 0.085 < 0.26 * kv_share < 0.095
assert 0.02 < again / decoding < 0.06
assert a100.ridge_point > 200  # a prefill of as many tokens takes as long as reading the weights
assert round(3 * full_cache / (weights + full_cache), 2) == 1

# %% [markdown]
# ### Explain what you measured
#
# In five to eight sentences: (a) Under *Oracle* nothing is lost to internal fragmentation, and yet a large
# part of the memory does nothing. Which mechanisms remain, and which figures of yours show them?
# (b) What does paging do to each of the three losses, and what is it that remains of each? (c) Which of the two columns
# makes waste look dearer, and why? Then name one more assumption that both make and a real service would not meet, and
# say whether it makes the difference between Max and Paged look too large or too small.
#
# 5 points, about 15 minutes, marked by hand: 2 each for (a) and (b), 1 for (c).

# %% [markdown] answer="1.7" points=5
# **(a)** Slots are reserved for tokens that come only later (8 to 10% here): exact knowledge of the final length does not
# help while the request is still short. And pieces must be contiguous: the buddy allocator rounds each one up to a power
# of two (about a quarter of all slots), and the free blocks between them are too small for the next request (about 8%).
# Not all of that quarter is the rounding's fault: with first fit, which rounds nothing up, about 17% of all slots still
# lie in pieces that are too small. **(b)** Later and internal shrink to at most one block per request: the rest of its
# last block (0.6 to 0.7% later, and for a block that is never filled, 0.01 to 0.02% internal). External fragmentation by
# contiguity is gone, because any free block will do. The 3 to 4% that are counted there are free blocks too few for the
# next in the queue: for a prompt, or for the tokens of a request that was preempted. **(c)** The first column, in which
# Max costs almost twice as much as paging. It leaves out that more requests in the batch bring more KV to read: with
# OPT-13B's 26 GB of weights a full cache makes a step half as long again, so 1.6 to 1.7 times is left. Both take it that
# requests always wait. At low load waste costs nothing, so the difference looks too large. (Also accepted: prefill is
# compute-bound and does not profit; too large as well. Or: that recomputed tokens and the slower kernel cost nothing;
# too large, too.)
#
# **Mark scheme.** (a) 1 for early reservation, 1 for contiguity or rounding, each with a matching figure. (b) 1 for
# external, 1 for internal and later. (c) 1 for two of these three: the column, its reason, an assumption with its
# direction.

# %% [markdown] criteria="1.7"
# - (a) The mechanisms that are not internal fragmentation, each with a figure of your own that shows it.
# - (b) What becomes of *external*, *internal* and *later*, one by one, and where each remainder comes from: the last
#   block of a request, or blocks that are free.
# - (c) What the first column leaves out, and what that does to the difference between the policies. One more assumption
#   that both make, a situation in which it fails, and whether the difference between Max and Paged is then smaller or larger.
# - Every figure has its unit.

# %% [markdown]
# Are these the paper's percentages? No: with the same three policies its figure 2 has 20.4%, 26.8% and 38.2% used, where
# you measured far more. A percentage of waste belongs to a workload. (The appendix looks for theirs.)

# %% claims="with the same three policies its figure 2 has 20.4%, 26.8% and 38.2% used, where you measured far more."
for name, in_figure_2 in (("Max", 20.4), ("Pow2", 26.8), ("Oracle", 38.2)):
    assert 100 * shares[name]["used"] > in_figure_2 + 15

# %%
parts.table(lesson=1)

# %% [markdown]
# ## 9. In vLLM
#
# You have built what vLLM 0.33.0 does when it starts:
#
# | here | in vLLM 0.33.0 |
# |---|---|
# | `kv_bytes_per_token`, `kv_bytes_per_block` | `page_size_bytes` of a layer's spec, in `vllm/v1/kv_cache_interface.py`: one block of one layer |
# | `num_kv_blocks` | `get_kv_cache_config_from_groups` in `vllm/v1/core/kv_cache_planning.py`: `num_blocks = available_memory // bytes_per_block` |
# | `int(memory_bytes * gpu_memory_utilization)` | `request_memory` in `vllm/v1/worker/utils.py`: the same product, rounded up; the default share is 0.92 |
# | `peak_activation_bytes` | measured, not given: `determine_available_memory` in `vllm/v1/worker/gpu_worker.py` runs the model once on the largest step, and adds an estimate for CUDA graphs |
# | blocks × block size | nearly what the log line "GPU KV cache size: ... tokens" says: `int(max_concurrency * max_model_len)`, in `vllm/v1/core/kv_cache_utils.py`. It is the same where one group of layers shares the pool and `max_model_len` fills whole blocks |
#
# **What production code does beyond this, and why.**
#
# - It measures, because a formula would have to know every kernel's workspace. What is set up before the first look at the
#   memory, such as the CUDA context, is not subtracted: it has to fit into the rest that `gpu_memory_utilization` leaves.
#   (The appendix reads the code.)
# - The cache may have a type of number of its own: with `--kv-cache-dtype fp8` a cached number takes one byte beside
#   weights of two. Our `ModelSpec` has one `dtype_bytes` for both.
# - It refuses to start if less memory is free than it may use, and if not even one request of `max_model_len` fits, for
#   the same reason that your function raises a ValueError: a clear error at the start beats a stuck queue later.
# - Under tensor parallelism it splits KV heads over the GPUs, so that each holds its share; with more GPUs than KV heads
#   it replicates them.
# - Where layers cache differently (some keep only a window of recent tokens) one formula for all layers no longer holds.
#   So such layers form groups. Normally all groups take their blocks from one pool, and a request holds blocks of each group.

# %% [markdown]
# ## 10. Quiz
#
# Practise in the widget first: it says at once what each choice means. Then write your letters into the cell below it,
# which is what counts. There are ten questions, a point each; eight right, 80%, is a pass.

# %% quiz="1"

# %% [markdown]
# ## 11. Interview corner
#
# Answer aloud, in two minutes each, before you unfold what a strong answer holds.

# %% [markdown] interview="1"

# %% [markdown]
# ## 12. Takeaways
#
# - One token's KV cache takes 2 × layers × KV heads × `head_dim` × bytes per number: KV heads, not query heads,
#   and `head_dim` as configured.
# - The cache gets what weights and activations leave. Except at short contexts, how many requests fit in it sets the
#   batch, and the batch sets the throughput, because decode is memory-bound.
# - Contiguous reservations lose memory in three ways: for later, internal, external. Knowing the length removes
#   only one of them.
# - As the paper counts, what a policy asks for too much is internal, and what the allocator rounds up or leaves in
#   pieces is external. (Textbooks call rounding internal.)
# - Static batching wastes the GPU in time as well: $1/H_B$ of the batch's seats are busy for exponential lengths.
# - A percentage of waste belongs to a workload. Quote it with its trace, its limit and its policy.
#
# **Lesson 2 needs** the idea of a block as room for 16 tokens' KV, the running example of 15,728 slots, and the
# observation of section 6 that a decode step must read the whole cache of each sequence once. There you let the
# blocks lie anywhere, and compute attention over them all the same.

# %% [markdown]
# ## Appendix
#
# ### Whose requests are in the paper's figure 2? (5 minutes)
#
# Figure 2 of the PagedAttention paper has the same order of what is *used* as section 8, and other sizes. Even the order
# of what is external is another one: there Pow2 has more of it than Oracle. Whose requests were they? The caption names
# section 6.2, which has three models and two sets of requests. One figure is the same in both, 8.9% external under Max,
# because it follows from the pool alone: seven reservations of 2,048 fit into the 15,728 slots of OPT-13B, and what is
# left is too small for an eighth. In seven requests of Alpaca, 78 tokens long on average (figure 11), there would be
# nothing like the 20.4% that are used. So take ShareGPT's: 161 and 338 tokens on average for prompt and output. How widely
# they spread the paper only draws. Coefficients of variation of 1.2 and 1.0, before what is longer than 2,048 tokens is
# left out, are a guess:

# %% claims="Even the order of what is external is another one: there Pow2 has more of it than Oracle."
used = [shares[name]["used"] for name in ("Max", "Pow2", "Oracle", "Paged")]
assert used == sorted(used)
external = [shares[name]["external"] for name in ("Max", "Pow2", "Oracle")]
assert external == sorted(external)
assert round(shares["Max"]["external"], 3) == 0.089
assert 7 * (19.31 + 58.45) / num_slots < 0.04

# %%
like_sharegpt = lognormal_requests((161.31, 337.99), (1.2, 1.0), 1000, max_model_len=2048, seed=1)
theirs = {
    name: list(replay_contiguous(like_sharegpt, num_slots, policy, 2048))
    for name, policy in RESERVATIONS.items()
}
theirs["Paged"] = list(replay_paged(like_sharegpt, num_slots))
in_the_paper = {  # figure 2, in %, and figure 13 (a), requests that run
    "Max": ((20.4, 13.3, 57.3, 8.9), 7.00),
    "Pow2": ((26.8, 17.9, 13.6, 41.6), 9.81),
    "Oracle": ((38.2, 25.2, 0.0, 36.6), 13.62),
    "Paged": ((96.3,), 30.42),
}
print("                used   later  internal  external   requests that run")
their_shares, their_running = {}, {}
for name, (percentages, running) in in_the_paper.items():
    average = average_shares(theirs[name], parts.get("classify_slots"))
    their_shares[name] = [100 * share for share in average.values()]
    their_running[name] = np.mean([len(moment.reservations) for moment in theirs[name]])
    for whose, row, run in (
        ("here", their_shares[name], their_running[name]),
        ("paper", percentages, running),
    ):
        cells = [f"{each:.1f}%" for each in row] + [""] * (4 - len(row))
        print(
            f"{name:<7}{whose:<6}{cells[0]:>7} {cells[1]:>7} {cells[2]:>9} {cells[3]:>9} {run:19.2f}"
        )

# %% [markdown]
# The three policies of Orca come within four points of the paper's shares (its last kind is "External frag. & Others"), and
# within a twentieth of the requests that run. So it is probably this run. Paging does not fit as well: 35.7 requests run,
# where figure 13 has 30.4. Its run got two requests a second; if vLLM kept up with them, its queue was empty now and then,
# and ours never is. (Then its 96.3% are a share of the blocks in use: 30.4 requests of this length fill some 83% of the
# pool.)

# %% claims="The three policies of Orca come within four points of the paper's shares"
for name in RESERVATIONS:
    percentages, running = in_the_paper[name]
    assert np.allclose(their_shares[name], percentages, atol=4)
    assert abs(their_running[name] / running - 1) < 0.05
drawn = np.array([(r.prompt_tokens, r.output_tokens) for r in like_sharegpt])
assert np.allclose(drawn.mean(axis=0), (161.31, 337.99), atol=1)

# %% claims="Paging does not fit as well: 35.7 requests run, where figure 13 has 30.4."
assert round(their_running["Paged"], 1) == 35.7

# %% [markdown]
# <details><summary>Guided reading: where vLLM decides how much memory the cache gets (20 minutes)</summary>
#
# Open `vllm/v1/worker/gpu_worker.py` at tag `v0.33.0` in
# [the repository](https://github.com/vllm-project/vllm) and find `determine_available_memory`.
#
# 1. What is taken off the requested memory, and which of it does our `num_kv_blocks` not know?
# 2. Why is the trial run made with the largest number of batched tokens and not with the longest request?
# 3. Find `init_snapshot`. What has been set up before it is taken, and what follows for the memory that counts?
# 4. The measured run of section 3 had 2,588 blocks where our formula says 3,178. In a simulation of it, the larger cache
#    shortens the mean time to first token by about 15% (`course simulate vllm-run --gpu rtx-4090 --blocks 3178`, then
#    2588). Where would you look first if vLLM reported fewer blocks than you computed?
#
# *What to find there.*
#
# 1. What the process has taken since the first snapshot, weights included; the peak of a trial run above that; and, unless
#    it is switched off, an estimate for CUDA graphs. Ours knows weights and, if you tell it, activations.
# 2. Activations grow with the tokens of one step, and `max_num_batched_tokens` is the most that a step ever has. A long
#    request is computed in several steps. (`profile_run` of either model runner leaves attention out.)
# 3. The CUDA context, the communication buffers (NCCL), and the handles of cuBLAS and cuBLASLt: a long comment says why
#    these are made early. None of the three is counted, so they need room in what `gpu_memory_utilization` leaves.
#    Memory that another process holds throughout cancels in the difference. If it *gives back* memory meanwhile, vLLM
#    seems to have taken that much less: the cache becomes larger than its share, silently, and that memory is missed
#    when the other process wants it back. Only if it gives back more than vLLM has
#    taken since `init_snapshot`, so that more is free than at the start, an assertion fails.
# 4. At the largest step first (`max_num_batched_tokens`), then at the memory that the driver really reports. (Since
#    0.21.0 also at CUDA graphs; in 0.19.0, which made this run, their estimate was not yet taken off by default.)
#
# </details>
#
# <details><summary>What older material says differently</summary>
#
# - "60 to 80% of KV memory is wasted" is one experiment: 100 minus the used shares 20.4 to 38.2% in the paper's
#   figure 2, with the authors' own version of Orca. In section 8 you have measured other figures on other requests.
# - "Under 4% waste with paging" is the same experiment. Short sequences waste more, because the last block
#   weighs more; lesson 4 derives how much.
# - "Continuous batching makes it 23 times faster" (Anyscale's blog, 2023) is vLLM's figure and includes paged memory. They
#   are two ideas, and this course keeps them apart.
# - "vLLM subtracts the CUDA context": not in 0.33.0, see section 9.
# - "Llama 2 uses GQA": only the 70B model does, and a 34B one that was never released.
#
# </details>
#
# <details><summary>What <code>forward_flops</code> counts too high</summary>
#
# It counts every parameter for every token. But a token only looks up one row of the input embedding, 7% of
# Llama-3.1-8B. In decoding that falls out of the FLOP and of the bytes alike, so that the quotient hardly changes. In a
# prefill the output layer, as large, is needed for the last token alone: at 1,000 tokens the FLOP are counted too high by
# about 15%. At best the decode step of section 6 takes 4.5 ms, and the prefill 14.4 ms: 3.2 times as long, not 3.4.
#
# </details>

# %% claims="In decoding that falls out of the FLOP and of the bytes alike, so that the quotient hardly changes."
embedding = llama_8b.embedding_params
assert 0.065 < embedding / llama_8b.num_params < 0.075
counted = forward_flops(llama_8b, 1) / llama_8b.weight_bytes
multiplied = (forward_flops(llama_8b, 1) - 2 * embedding) / (llama_8b.weight_bytes - 2 * embedding)
assert abs(counted / multiplied - 1) < 0.001

# %% claims="At best the decode step of section 6 takes 4.5 ms, and the prefill 14.4 ms: 3.2 times as long, not 3.4."
least_read = (llama_8b.weight_bytes - 2 * embedding) / h100.memory_bandwidth
spared = 2 * embedding * 1000 + 2 * embedding * 999  # FLOP
least_compute = (forward_flops(llama_8b, 1000) - spared) / h100.peak_flops
assert (round(1000 * least_read, 1), round(1000 * least_compute, 1)) == (4.5, 14.4)
assert round(least_compute / least_read, 1) == 3.2
assert round(compute_seconds / read_seconds, 1) == 3.4
assert 1.14 < compute_seconds / least_compute < 1.16
