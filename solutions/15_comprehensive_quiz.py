# %% [markdown]
# # Final project: sixty questions
#
# **Time** 90 minutes · **Difficulty** ●○○ to ●●● · **Points** 100
#
# You have built an engine part by part. This notebook asks what you make of it as a whole: twenty questions on its
# foundations, twenty-five that join two or three parts and mostly end in a number that you compute, fifteen on design. Before
# them you say how sure you are of each concept; behind them stand both, side by side, with what to read again.
#
# **How to work.** Close the lessons. Take a sheet of paper and a pocket calculator, or a cell of Python for the arithmetic.
# Work an answer out before you look at the choices: each wrong one is what somebody gets who makes a mistake that people
# make, with these very numbers. Lengths and letters tell you nothing; the order of the choices is drawn.
#
# **Seeds.** Numbers and the order of the choices come from a **seed**. Below are the questions of seed 1. Any seed counts:
# `task("15.F", seed=2)` shows the same questions with other numbers, and you write `"seed": 2` beside your letters.
#
# **You need** lessons 1 to 12. You need no GPU.

# %%
from __future__ import annotations

from autograder.notebook import assess, check, practise, progress, task
from course_lib import viz

# %%
viz.EngineMap(lesson=13)

# %% [markdown]
# ## 1. How sure are you?
#
# Rate each concept before you read a question: three numbers from 1 (not at all) to 5 (without a doubt), for how well you
#
# - **understand** it: you could say what it is for, and what breaks without it;
# - could **explain** it to a colleague, with a drawing and a number;
# - could **implement** it in an empty file, without looking it up.
#
# Aim for 4, 3 and 2. An example: `"Fragmentation": (4, 3, 2)`. These numbers earn nothing, and no report lists them; they are in
# the notebook if you hand it in. What you learn from is the difference between them and your answers.

# %%
confidence = {
    # understand, explain, implement
    "Sizes and the roofline": (),
    "Attention over blocks, tables and slots": (),
    "Fragmentation": (),
    "Continuous batching and its figures": (),
    "Preemption": (),
    "Block management": (),
    "Prefix caching": (),
    "Scheduling policies and fairness": (),
    "Queues and capacity": (),
    "The step: chunks, plan, update": (),
    "Planning ahead, drafts, adapters, batch size": (),
}

# %% [markdown]
# ## 2. Fundamentals
#
# What the parts are and what they do. If one of these is new to you, stop here and read its lesson first.

# %% exercise="15.F"

# %% check="15.F"

# %% [markdown]
# ## 3. Integration and problem solving
#
# Here parts meet. Most answers are numbers: write down what is asked for, in which unit, and which of the given numbers it
# takes; some are given and not needed.

# %% exercise="15.I"

# %% check="15.I"

# %% [markdown]
# ## 4. Design
#
# Choices that you would have to defend. More than one of them may work; one holds up to the reasons that the course gave.

# %% exercise="15.D"

# %% check="15.D"

# %% [markdown]
# ## 5. What you know, and what you think you know
#
# The table has your ratings beside your answers. Where fewer than 80% of a concept's questions are right, it names the
# lessons to read again, with the questions that sent you there. Two rows are worth more than the others: one that says
# *surer than your answers*, for there you would not have looked anything up; and one that says *better than you think*.

# %%
assess(confidence, fundamentals, integration, design)

# %% [markdown]
# Then practise. The widget asks with other numbers, and says of each choice, right or wrong, what it means; read that of
# the choices that you did not take as well. Change the part and the seed as often as you like.

# %%
practise("15.F", seed=2)

# %%
practise("15.I", seed=2)

# %%
practise("15.D", seed=2)

# %% [markdown]
# What you have done of the whole course, and what is left of it, is kept in your workspace: `progress()` shows it here,
# `course progress` in a terminal. `course journal 12 --confidence 4 --hours 3.5 --hard "planning ahead"` adds how it went.

# %%
progress()

# %% [markdown]
# ## 6. In your own words
#
# Your engine serves 30 chat users on one GPU, first come first served, with a token budget of 8,192, prefix caching on, and
# memory that is about full. A second team begins to send documents of 30,000 tokens, several questions on each. The chat
# users complain of answers that stand still for a second; the second team complains of nothing.
#
# (a) Which two settings or parts would you change, and what does each of them do to the step, to memory and to the two
# teams? (b) Which change that sounds right would make it worse, and by which figure would you notice? (c) What do you
# measure before and after, and under which load, to know that it was your change that helped?
#
# 10 points, about 15 minutes, marked by hand: 4 for (a), 3 for (b), 3 for (c).

# %% [markdown] answer="15.1" points=10
# (a) The gap is the length of the longest step: 8,192 tokens of a document are computed beside the decodes. A smaller budget
# (512, say) bounds the step for everybody; the documents' first token comes a little later, and no more tokens are computed. And
# the documents must not crowd out the chats: charge tokens per team and serve the one that has been charged least, or put
# the chats before them by priority, with ageing. Several questions on one document share its prefix; served soon after one
# another they are hits, as long as its 1,875 blocks stay in the cache, so a salt for each user is not wanted here.
#
# (b) A threshold that cuts long prompts into small chunks so that several run side by side: each passes the test of fitting
# by itself, together they do not fit, and preemptions multiply; one notices by the counter of preemptions and the recomputed
# tokens, while the gap looks better. (Or: more sequences at once; passing over the head of the line; swapping in small
# pieces.)
#
# (c) Per team: p99 of the longest gap, TTFT (mean and p99), and for the engine preemptions, recomputed tokens, hit rate, step
# time. The same recorded arrivals before and after, open loop, at the load of the complaint and a little above; one change at
# a time; the mean TPOT hardly shows a stall.
#
# **Mark scheme.** (a) 2 for each change with its effect on the step or memory *and* on both teams; 1 where an effect is
# missing. A budget or chunk size must be among them for full marks. (b) 1 for a change that is plausible, 1 for why it is
# worse, 1 for the figure. (c) 1 for the longest gap or its p99 per team, 1 for a counter of the engine, 1 for the same load,
# open loop, one change at a time.

# %% [markdown] criteria="15.1"
# - What a step of the engine is made of when a document comes in, with a number.
# - For each change: who gains, who pays, and where the memory is meanwhile.
# - A change that a colleague might propose, and the counter that would give it away.
# - Figures that show a stall, by team, and a comparison in which only one thing differs.

# %% [markdown]
# ## 7. Takeaways
#
# - Two numbers run the engine: what is known and what is computed. Chunks, hits, drafts and resumptions are their difference.
# - Blocks have an owner at every moment, or they leak. Answers do not show it.
# - A figure belongs to a workload, a baseline and a limit. Without them it is folklore.
# - What you rated high and answered wrong is the most valuable page of this notebook.
#
# **Next:** read the lessons that the table names, practise with another seed, and rate yourself again in a week.
