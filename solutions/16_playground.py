# %% [markdown]
# # Final project: the playground
#
# **Time** as long as you like · **Points** none
#
# Everything that you have built decides something about a serving system: who is admitted, who gives way, how long a chunk may
# be, which blocks are kept. Here all of it has a control. Choose a workload, a model, a GPU and a scheduler, and see at once what
# the users would notice. Nothing is asked, and nothing can be broken.
#
# It is the simulator of `course simulate`: the course's scheduler and KV cache manager, the reference or *your own*, on a virtual
# clock. How long a step takes is computed by the cost model of lesson 11, so what you see here holds as far as that model
# does. On the one run of vLLM that it was compared with, mean TTFT, TPOT, end-to-end latency and makespan came out within 4%.
#
# **You need** lessons 5 to 12 to know what the words mean. You need no GPU.

# %%
from __future__ import annotations

from autograder.notebook import progress
from course_lib import viz

# %% [markdown]
# ## 1. One set-up
#
# Before you run the cell, say what you expect of 200 requests at 8 per second, on an A100 that has a tenth of its usual KV cache:
# will anybody lose their place? Then run it and look at *KV cache*, *Preemptions*, and the red stretches at the bottom.
#
# Every control works with the mouse and with the arrow keys; Tab leads from one to the next. From top to bottom the picture has
#
# - **where latencies lie:** the time to first token, the gap between two tokens of a request, and end to end;
# - **what happens over time:** the share of the blocks in use, who waits, who runs;
# - **what a step computes:** prompts and outputs, a mean over short stretches of time;
# - **throughput and goodput:** all requests per second, and those that keep the service level;
# - **a window of the run:** the requests to which most happens in it. *Window from* moves it.
#
# *KV pool* is the share of the blocks that fit behind the weights. *Rate as recorded* keeps the arrivals of a trace as they are.
# *Parts: your own* runs on what is in your `my_engine`, with the reference for what is missing; the line above the charts says
# which are yours.

# %%
playground = viz.Playground()
playground

# %% [markdown]
# A setting that cannot be, such as a model that is larger than the GPU, is refused in words above the picture, and the picture
# stays as it was.
#
# ## 2. Two set-ups on one axis
#
# Tick **Keep to compare**. What you see is kept; move another control, and both are drawn on the same axes, with what tells them
# apart below the heading. Untick it to go back to one.
#
# Some that are worth ten minutes each. Write down what you expect first, with a number:
#
# | change | question | where you met it |
# |---|---|---|
# | token budget 2,048 to 256 | Which latency gets better, which one pays for it? | lesson 11 |
# | policy fcfs to sjf | Who wins, and what becomes of the slowest in a hundred? | lesson 9 |
# | preemption from computing again to swapping | On which GPU does it change anything? | lesson 6 |
# | prefix caching, with Mooncake's requests | How much of the prompts is found? With how small a pool is it lost? | lesson 8 |
# | victim: most tokens | Are fewer requests hit, and does each lose more? | lesson 6 |
# | Poisson arrivals to bursts, same rate | What does the mean hide? | lesson 10 |
# | most in a batch: 8 | When is a seat scarcer than a block? | lesson 12 |
# | the reference to your own parts | Is anything different? It should not be. | all |
#
# The same in a terminal, to be repeated or given to somebody else:

# %%
print(playground.command)

# %% [markdown]
# ## 3. Your own requests
#
# Put a CSV file into the folder of this notebook and run the cell of section 1 again: it is then among the workloads. The first
# line names the columns:
#
# ```text
# arrival_time,prompt_tokens,output_tokens,client_id,priority,deadline
# 0.0,374,44,search,0,5.0
# 4.3,396,109,batch,1,90.0
# ```
#
# The first three must be there; times are seconds or dates. The others make sense of the policies that look at them: `vtc` and
# `wfq` at clients, `priority` and `ageing` at priorities, `edf` at deadlines. A line that cannot be read is named, with what is wrong
# with it. `course simulate my_requests.csv` takes the same file.
#
# ## 4. A sweep
#
# One parameter over several values, one simulation for each, on all processors of this machine (a dask cluster, which ends with
# the sweep). It starts from what the controls say. The parameters are those of `course simulate --set`.

# %%
sweep = playground.sweep("rate", [2, 4, 6, 8, 12, 16]).run()

# %% [markdown]
# Where does goodput part from throughput? And is it the first token that comes too late there, or the next ones? Lesson 10 says
# where the bend must lie: the rate at which the work that arrives in a second takes a second.
#
# ## 5. Write it down
#
# A report is one HTML file that needs neither a notebook nor a network: what the playground shows, what the sweep gave, every
# number, and the commands that repeat it. It is replaced if it is there.

# %%
playground.save("playground.html", sweep)

# %% [markdown]
# When you are done with the course, `course progress --certificate certificate.html` writes a page of what you built: the map of
# the engine with your parts, and what they did when they were measured. What is left:

# %%
progress()
