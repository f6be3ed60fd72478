# %% [markdown]
# # Final project: an engine of your own
#
# **Time** a day · **Difficulty** ●●● · **Points** 100: 40 for being right, 30 for what it costs, 20 for its code, 10 for its
# documentation
#
# In twelve lessons you have built block pool, block tables, prefix cache, queues, scheduler. Here they become one engine. You
# write what no lesson asked for: the step that ties them together, a tracker of memory, stop conditions, the refusal of a
# prompt that can never fit, abort. Then your engine has to say, token for token, what a model without any cache says, whatever
# it does with memory and time; and it serves a client over HTTP.
#
# **By the end you will have** an engine that generates text, on your own parts, and evidence that it is right, what it costs,
# and that somebody else can read it. You will be able to say which faults a test of tokens sees, and what sees the others.
#
# **You need** lessons 5 to 8 and 12. Missing parts are named below; the library stands in for them. You need no GPU.

# %%
from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

import torch
from autograder.lessons.lesson13_flawed import FLAWED
from autograder.notebook import check, compare, explain, progress, task
from course_lib import parts, viz
from course_lib.engine import LLM, EngineParts, MemoryReport, SamplingParams
from course_lib.engine.memory import model_spec
from course_lib.engine.serve.beside import served
from course_lib.engine.watch.agreement import SETTINGS, plain_tokens, run_setting
from course_lib.kv_cache.sizing import kv_bytes_per_block

torch.set_num_threads(1)  # the model is small: several threads would wait for each other

# %%
viz.EngineMap(lesson=13)

# %% [markdown]
# ## 1. Warm-up
#
# Three questions on the lessons before. The check is immediate and earns no points.

# %% exercise="13.W1"
computed_again = None  # tokens
### BEGIN SOLUTION
computed_again = 53 - 6 * 8
### END SOLUTION

# %% check="13.W1"
check("13.W1", computed_again)
# %% exercise="13.W2"
first_token_in = None  # a number of steps
### BEGIN SOLUTION
first_token_in = 3
### END SOLUTION

# %% check="13.W2"
check("13.W2", first_token_in)
# %% exercise="13.W3"
blocks_in_use = None  # blocks
### BEGIN SOLUTION
blocks_in_use = 7 + 4 + 6 - 3
### END SOLUTION

# %% check="13.W3"
check("13.W3", blocks_in_use)
# %% [markdown]
# ## 2. What you have, and what it runs on
#
# This is every part that an engine may use, by lesson. What is not yours is the library's: the engine runs all the same. Two
# pieces of this notebook are methods of `Scheduler`, which stands under lesson 5; `MemoryTracker` looks on, and no engine runs on it.
# **What that costs.** A part of lessons 1 to 12 earned its points there, and costs nothing here. A piece of *this* notebook
# that the library stands in for costs the points of its exercise; its share of the 16 points for equality (by its exercise's
# points, of 18); and its share (of 24) of what is counted for cost, code and documentation: 30, 20 and 5 points.
# `grading/rubric.toml` has it all.

# %%
print(EngineParts.load().table)

# %% [markdown]
# ## 3. The problem, seen first
#
# Three requests in a pool of 14 blocks of 8 tokens. Two of them begin with the same sentence, and the third comes after three
# steps. The model that ships with this course has read its lessons: watch the text of `followed`. **Predict:** how many times
# does somebody have to give way, in the whole run?

# %%
predicted_preemptions = None  # your prediction: a number of preemptions

# %%
CLERK = "You are the clerk of a small library. You answer every question in one short sentence, and you never guess. "
SMALL = {"num_blocks": 15, "block_size": 8, "max_num_batched_tokens": 12, "max_num_seqs": 3}


def run_three(llm: LLM) -> dict[str, Any]:
    """Serve the three requests; return what became of each."""
    others = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
    llm.add_request("other-0", CLERK + "A block table", others)
    llm.add_request("other-1", "In the morning the server wakes up and", others)
    outputs = {}
    while llm.has_unfinished_requests():
        outputs |= {output.request_id: output for output in llm.step()}
        if llm.metrics.num_steps == 3:
            params = SamplingParams(temperature=0, max_tokens=60, stop="\n\n")
            llm.add_request("followed", CLERK + "The scheduler", params)
    return outputs


llm = LLM("course-tiny", **SMALL)
with viz.follow_engine(llm, share=1) as live:
    seen = run_three(llm)
print(seen["followed"].outputs[0].text)
compare(predicted_preemptions, llm.metrics.num_preemptions, "preemptions")

# %% claims="The text tells of its own preemption"
assert llm.metrics.num_preemptions == 1
assert "chooses a victim, and it is our request" in seen["followed"].outputs[0].text

# %% [markdown]
# The text tells of its own preemption: it was chosen in the step before the words "It goes to the front of the queue".
# The figure was drawn while it ran, and is a film now: blocks on the left, the batch on the right with what each request has
# written, the tokens of the step, and who waits. Go to the step that says *preempted*, and on to the next one: of 49
# known tokens it computes one, since 48 are in six full blocks, as in your first warm-up. Keep this run in mind; you write
# what drives it.
#
# ## 4. The step
#
# Everything an engine does, it does in steps:
#
# $$\text{plan} \to \text{fork} \to \text{move blocks} \to \text{model} \to \text{sample} \to \text{update} \to \text{answers}$$
#
# It is written at two levels. `EngineCore.step` knows scheduler, executor and answers. `Executor.execute` knows blocks, model
# and sampler, and nothing of texts. You write both; first the outer one. All that it calls:
#
# | call | what it does |
# |---|---|
# | `schedule()` of `self.scheduler` | returns the plan; the blocks are handed out |
# | `fork(...)` of `self`, with the plan | of prompts that end in this step and have several answers: the requests of the others, by id |
# | `execute(...)` of `self.executor`, with plan and forks | carries it out; a `StepResult`: `sampled` (tokens by id, each with `token_id`), `computed_at` |
# | `update_from_output(...)` of `self.scheduler`, with plan and tokens | tells the scheduler the token *ids*; requests may end here |
# | `take_in(...)` of `self`, with plan, result, and the time of the plan | tells the answers, and puts into `changed` who has something new; those that are over are forgotten |
# | `self.answers[name]` | a pair: the group of an answer, and the answer |
# | `StepRecord(...)` | the step, in this order: `index`, `output`, `sampled` (a token id by id), `answers` (an `Answer` by id), `forked` (a list of ids by id), `started`, `scheduled`, `computed`, `sampled_at`, `finished` |
#
# Two of them hear of each token, and their order matters: an answer asks its request whether it is over.

# %% exercise="13.1a"

# %% check="13.1a"

# %% [markdown] solution="13.1a"
# **Explained.** The plan is made with what is known; forks come before the model, since the other answers get their first token
# from the same logits. The scheduler hears of a token first: it appends it and may end the request, and only then can the
# answer say "length". The answers of this step are looked up between the two, before `take_in` forgets those that are over.

# %% [markdown]
# ### Carry a plan out
#
# A plan moves blocks before anybody computes. Three kinds of moves, and their order is not free. Say in which order, before
# you read on: *copy* block 1 to block 2; *swap out* block 2 to the CPU; *swap in* from the CPU to block 2.
#
# A place that is written in this step may be one that somebody still has to read. Whoever leaves is read first (swap out), then
# whoever comes back gets a place (swap in), then one is copied, which may be one that has just come back (copy). The blocks of
# the plan are all handed out when the executor sees them, and what is to be moved is on the old places still.
#
# Before that, who ended or was preempted is forgotten, *by id*: the same id may come back in this very plan. After that, who has
# just got blocks is taken in. Then the model runs **once** over the tokens of all, and whoever is caught up gets a token.
#
# | call | what it does |
# |---|---|
# | `self.sequences` | what is kept of each request that has blocks, by id; each has `request`, `is_caught_up` |
# | `self.kv_store.swap_out(pairs)`, `.swap_in(pairs)` | copies blocks to the CPU, and back |
# | `self.kv_store.copy(pairs, self.backend)` | copies blocks within the cache |
# | `enter(...)` of `self`, with a request | takes a request in, with an empty block table |
# | `update_table(...)` of `self`, with a sequence | brings a sequence's block table up to date, before a batch is made |
# | `self.make_batch(output)` | the plan as tensors; its `sample_rows`, a list, has the last row of each sequence that is caught up, in the order of the plan |
# | `self.with_forks(sequence, forks)` | the sequence, and those that begin with its blocks in this step |
# | `self.compute_logits(batch, rows)` | runs the model; logits of these rows, of which one may come several times |
# | `sample(logits, rows)` | a token for each row; a row is what `self.sampling_row(sequence)` returns |
# | `StepResult(sampled, computed_at)` | what `sample` returned, by request id; and the `time.monotonic()` at which the logits were there |
#
# Where nothing is scheduled there is nothing to compute. The check runs an engine whose model can be worked out by hand: a
# token's key is the token, and the next one is each token times its place, summed, modulo 97. Whoever moves a block too late
# gets another number.

# %% exercise="13.1b"

# %% check="13.1b"

# %% [markdown] solution="13.1b"
# **Explained.** Out, in, copy: what leaves is read before its place is written, and what comes back is there before it is
# copied. Tables are renewed before the batch is made, since a
# table may have grown, and after a fork blocks may have been replaced. One request gives one row, or as many as it has forks:
# their logits are equal, their random numbers are not. The rows are collected before the model runs, so it runs once.

# %% [markdown]
# ### What must hold, and what breaks
#
# | what must hold | what a user sees when it does not |
# |---|---|
# | The tokens are those of a model without a cache. | Wrong text, silently. |
# | Blocks in use are the union of the block tables. | A leak: after hours nobody is admitted. |
# | A slot is written before it is read. | A neighbour's words. |
# | Text that was shown is never taken back. | Half a stop word on the screen. |
# | Every request ends. | A queue that hangs. |
# | An error names whose part it was. | A day of search. |
#
# ## 5. The memory tracker
#
# The picture first: go to *Step 20* of the film above. The three requests hold 7, 4 and 6 blocks, three of them are in two tables, 14
# blocks are in use. A block of 8 tokens has 16,384 bytes here. **By owner**, a block counts for each holder: that is the answer
# to "who must go so that there is room?", and it is too large. **In use**, it counts once: that is what the tables
# take from the pool.
#
# $$\text{in use} = \Bigl|\bigcup_r \text{table}(r)\Bigr| \cdot \text{bytes per block} \;\le\; \sum_r |\text{table}(r)| \cdot \text{bytes per block}$$
#
# The **high-water mark** is the most that was in use whenever `observe` was called, and never falls. A **leak** is what is held
# and should not be: by a request that is not live, or by nobody at all (a block with `ref_cnt` above 0 that is in no table, reported
# under the name `NOBODY`). A block that is free and can still be found in the prefix cache is neither.
#
# | call | what it does |
# |---|---|
# | `self.manager.block_tables()` | the blocks of each request that holds any, by its id; a block has `block_id` and `ref_cnt` |
# | `self.manager.block_pool.blocks` | all blocks there are, free ones and the null block among them |
# | `MemoryReport(in_use, high_water, shared, leaked)` | the report: bytes in use, the mark, bytes of the blocks that more than one request holds (each once), and who has leaked how many bytes, by name |

# %% exercise="13.2" holes="by_owner,in_use,observe,report"

# %% check="13.2"

# %% [markdown] solution="13.2"
# **Explained.** Tables say who holds what; a set of block ids counts each once. Two different things can go wrong at the end of a
# request: its table stays (then the owner is known, and is not live), or its table goes and the count of its blocks does not
# (then nobody is left to ask, and only the pool knows). One looks at both.

# %%
llm = LLM("course-tiny", **SMALL)
block_bytes = kv_bytes_per_block(model_spec(llm.model), llm.kv_cache_manager.block_size)
tracker = MemoryTracker(llm.kv_cache_manager, block_bytes)
in_steps: list[int] = []


class Watched:
    """A log of the scheduler that lets the tracker look at each plan."""

    def record_preemption(self, *told: Any) -> None:
        """Pass it over."""

    def record_step(self, scheduler: Any, output: Any) -> None:
        """Look at the memory."""
        tracker.observe()
        in_steps.append(tracker.in_use or 0)


llm.scheduler.log = Watched()
seen = run_three(llm)
print(f"in use, at most: {max(in_steps):,} bytes; the mark: {tracker.high_water:,} bytes; at the end: {tracker.report(live=[])}")

# %% claims="14 blocks are in use. A block of 8 tokens has 16,384 bytes here."
assert block_bytes == 16_384
assert in_steps[20] == max(in_steps) == tracker.high_water == 14 * 16_384
assert tracker.report(live=[]) == MemoryReport(0, 229_376, 0, {})

# %% [markdown]
# ## 6. Text that never shrinks
#
# A user reads along. Whatever was shown has been read; an engine that takes a letter back shows that it does not know what it
# is doing, and a client that only appends cannot do it at all. Now let the stop string be `END`, and the model says
# "an E", then "ND of it". After the first piece nobody knows whether the E is the beginning of the end. **Predict:** which
# pieces may be shown, and when?
#
# Only an "E" at the *end* of the text can become `END`; "an " can be shown at once. The second piece decides: the text ends in
# front of the E, which was never shown. Had it been "Nd", then "ENd" would have come out in one go. What waits is the *longest*
# end of the text with which a stop string begins, and that is what `overlap(text, string)` measures.
#
# Which of two stop strings counts? What is shown may not depend on how the text happens to be cut. So it is as if it
# came letter by letter: the first that is *complete*.
#
# | call | what it does |
# |---|---|
# | `self.strings` | the stop strings, in order |
# | `self.kept_back` | the end of the text that waits; yours to read, and to write |
# | `self.found` | the stop string that came, None before; yours to write. Behind it nothing is passed on |
# | `overlap(text, string)` | how many letters at the end of `text` a longer `string` begins with |

# %% exercise="13.3a"

# %% check="13.3a"

# %% [markdown] solution="13.3a"
# **Explained.** What was kept back goes in front of what is new, and then there is one text to look at. A complete string decides
# by where it *ends*; equal ends go to the first in the list, since `min` takes the first of equals. With none complete, the
# longest overlap of all strings waits.

# %% [markdown]
# Tokens come before text. A stop *token* ends the answer and has no text. Then text, with its stop strings. The length comes
# last: if the last token that is allowed completes a stop string, the answer has stopped. And however it ends, what was kept
# back is shown at the end, except behind a stop string: that has been cut already.
#
# | call | what it does |
# |---|---|
# | `append_logprobs(...)` of `self`, with the token | keeps what was asked for of the position; first of all |
# | `self.stop_token_ids` | tokens that end this answer; one of them may be `self.request.eos_token_id`, the model's own end, which is no `stop_reason` |
# | `self.detokenizer.append(token_id)` | the letters that are complete now; `detokenizer` is None for an answer without text |
# | `self.stop_strings.push(text)`, `.found` | yours |
# | `self.text` | what is final of the text so far; yours to add to |
# | `self.finish(finish_reason, stop_reason)` | ends it, with all that is still kept back |
# | `self.request.is_finished` | whether the scheduler has ended it |

# %% exercise="13.3b"

# %% check="13.3b"

# %% [markdown] solution="13.3b"
# **Explained.** Three questions in this order: is it a stop token, did a stop string come, is the request over? `finish` pushes
# what the detokenizer still has, and flushes; behind a stop string nothing of it is left to show, so the two attributes are set
# directly. Log-probabilities come first: whoever asked for them gets those of the token that ends the answer, too.

# %%
llm = LLM("course-tiny", **SMALL)
shown = [""]
for output in llm.generate_stream("The scheduler", SamplingParams(temperature=0, max_tokens=24, stop="first served")):
    text = output.outputs[0].text
    if text != shown[-1]:
        shown.append(text)
answer = output.outputs[0]
print(f"{len(shown) - 1} pieces; it ends with {shown[-1][-20:]!r}, because of {answer.finish_reason}: {answer.stop_reason!r}")
print("each begins with the one before:", all(later.startswith(earlier) for earlier, later in zip(shown, shown[1:])))

# %% [markdown]
# ## 7. A prompt that can never fit
#
# A request that has to wait is normal. One that waits for what can never be, stands at the head of the line for ever, and
# everybody behind it. So it is refused when it comes. What is never? Not "there are no free blocks": others give theirs
# back. Think of the emptiest engine that there can be, with this pool, this model, this budget: could the prompt be computed
# there? The answer need not fit; it may end at the limit.
#
# Whoever is refused will ask by how much. So your sentence has the prompt's tokens and the limit in it, as numbers, and the check
# looks for both. The words are yours; no check reads them.
#
# `self.max_model_len` is the longest sequence here: no longer than the model allows, and no longer than all blocks but the null
# block hold. `self.config` has the rest.

# %% exercise="13.4"

# %% check="13.4"

# %% [markdown] solution="13.4"
# **Explained.** `max_model_len` has the pool in it, so one comparison does for both. With chunked prefill a prompt takes as many
# steps as it takes; without, it must be computed in one, and a step has a budget. A reason is more useful than a bool: it
# names the number, the rule and the remedy.

# %% [markdown]
# ## 8. Abort
#
# A client closes its window. The request may wait, run, be swapped out, be in the plan that runs right now, or have ended while
# the message was under way. Wherever it is, it leaves its queue, what it holds is given back, here and on the CPU, and the
# executor hears of it with the next plan. Several may be named: all that are there end, or, if one of them cannot end in this
# way, none. (One that has not begun cannot have *stopped*.)
#
# | call | what it does |
# |---|---|
# | `status.is_finished` | whether it is a way to end |
# | `self.requests` | who is here, by id |
# | `require_transition(...)` of a request | raises if the request cannot end so; changes nothing |
# | `leave_queue(...)` of `self` | takes a request out of `waiting`, or out of `swapped` with its CPU blocks |
# | `self.let_go(requests)` | frees, forgets, tells the executor, and takes them out of `running` |

# %% exercise="13.5"

# %% check="13.5"

# %% [markdown] solution="13.5"
# **Explained.** First the questions, then the changes: with one loop, a request that cannot end would leave those before it
# ended. `dict.fromkeys` names each once, in order. Who is not in `requests` is passed over, because messages cross. The status
# is set after the queue is left, since the old status says which queue it is.

# %% [markdown]
# ## 9. Your engine
#
# Now assemble it: `my_engine` has your pieces by name. `EngineParts.load().own` has those of lessons 1 to 12 (and what you have
# won above, if it is kept already). Add the seven pieces of this notebook: `"EngineCore.step"`, `"Executor.execute"`,
# `"MemoryTracker"`, `"StopStrings.push"`, `"Answer.append"`, `"Scheduler.why_never"`, `"Scheduler.finish_requests"`. What you
# leave out, the library does.
#
# The check serves six prompts with `course-tiny` and compares every token with a plain model: no blocks, no cache, each token
# computed from all before it. 24 times: whole prompts or chunks × with and without prefix caching × ample memory, a small
# pool that recomputes, a small pool that swaps × with and without others that come and go. Each setting is a 24th of the
# points. If tokens are wrong, it says with which piece replaced they are right, if one is enough.
#
# One promise it cannot see. In this scheduler nobody comes back in a step in which somebody has to go, so no plan swaps out *and*
# in, and no token depends on which of the two is done first. 13.1b asks for that order with plans made by hand.

# %% exercise="13.6"
my_engine: dict[str, Any] = {}  # name of a piece -> your function or class
### BEGIN SOLUTION
my_engine = {
    **EngineParts.load().own,
    "EngineCore.step": step,
    "Executor.execute": execute,
    "MemoryTracker": MemoryTracker,
    "StopStrings.push": push,
    "Answer.append": append,
    "Scheduler.why_never": why_never,
    "Scheduler.finish_requests": finish_requests,
}
### END SOLUTION

# %% check="13.6"
check("13.6", my_engine)

# %% [markdown] solution="13.6"
# **Explained.** Nothing in it is new; that is the point. Equality holds because each part keeps its promise: blocks that are named
# hold what their name says, a slot is written before it is read, who lost its blocks computes them again, and a request's
# tokens never depend on who is beside it.

# %% [markdown]
# Your engine at work, with the figure on: fourteen requests in a pool that is too small for them. It is drawn while it runs.

# %%
mine = EngineParts.of_pieces(my_engine)
llm = LLM("course-tiny", parts=mine, num_blocks=40, block_size=8, max_num_batched_tokens=48)
topics = ("The scheduler", "A block table", "The cache", "A request", "The queue", "Memory", "A token")
prompts = [f"{CLERK}{topic}" for topic in topics] + list(topics)
with viz.follow_engine(llm, share=1) as live:
    outputs = llm.generate(prompts, SamplingParams(temperature=0, max_tokens=24, ignore_eos=True), use_tqdm=False)
print(outputs[0].outputs[0].text)
print(f"{llm.metrics.num_steps} steps, {llm.metrics.num_preemptions} preemptions, {llm.metrics.prefix_cache_hits} tokens were hits")

# %% [markdown]
# ## 10. What token equality sees
#
# Ten engines, each with one flaw. **Predict:** how many of the ten give right tokens in all of six settings (with caching and
# with aborts)?

# %%
predicted_right = None  # your prediction: a number of engines

# %%
tried = [setting for setting in SETTINGS if setting.has_caching and setting.has_aborts]
seen_right: dict[str, int] = {}
print(f"{'flaw':<26}{'settings right':>15}{'blocks held at the end':>24}")
for flaw, pieces in FLAWED.items():
    num_right, num_held, stopped = 0, 0, ""
    for setting in tried:
        try:
            run = run_setting(pieces, setting, seed=1)
        except Exception as error:
            stopped = str(error).partition(". These parts")[0][:76]
            continue
        num_right += run.tokens == plain_tokens(setting, seed=1)
        num_held = max(num_held, run.num_held)
    seen_right[flaw] = num_right
    print(f"{flaw:<26}{num_right:>10} of {len(tried)}{num_held:>24}   {stopped}")
flawless = sum(num == len(tried) for flaw, num in seen_right.items() if flaw != "no flaw")
compare(predicted_right, flawless, "engines")

# %% [markdown]
# Half of them are right to the last token. Whoever serves in another order, computes everything anew or twice, dawdles, or keeps
# a table for everybody who ever came, says the same words. And one that leaks is right as long as there is memory: where it is
# ample nothing shows but the blocks that are held when everybody has gone.
#
# | flaw | what sees it |
# |---|---|
# | leak on abort | the tracker's report at the end; later, a queue that hangs |
# | last come, first served | who waited how long: the trace, or the law that the order of service is the order of arrival |
# | hits are not used | tokens computed per token delivered |
# | each step computed twice | model calls per step |
# | a slow step | CPU time, as a ratio to the reference, in turns in one run |
# | tables kept for ever | what the executor keeps, against who is live |
#
# That is why the next points are given for counted work, then for time.

# %% claims="Half of them are right to the last token."
assert flawless == 5 and seen_right["no flaw"] == len(tried)
assert 0 < seen_right["leak on abort"] < len(tried)
right = {flaw for flaw, num in seen_right.items() if num == len(tried)}
assert right == {
    "no flaw", "last come, first served", "hits are not used", "each step computed twice", "a slow step", "tables are kept for ever"
}

# %% [markdown]
# ## 11. What it costs
#
# A driver serves a mix of requests with your engine and with the library's, and counts: blocks handed out, bytes of KV written,
# model calls, tokens computed per token delivered. Only then it takes CPU time, as a ratio, in turns: where requests are served,
# where many wait, and where clients come and go. There the model costs next to nothing, and what your answers, refusals, aborts and
# a tracker that looks at each plan cost shows. The worst of the three decides. Model and attention
# are the library's in both: operations that you wrote in lessons 2, 3 and 8 are not timed. Bands are wide, and published in
# `grading/rubric.toml`. Nothing is earned by an engine whose tokens are wrong. Usually this is `my_engine`; if you have a faster
# version of a piece, under the same name, hand in that one.

# %% exercise="13.P"
counted_engine: dict[str, Any] = {}  # the engine whose work is counted
### BEGIN SOLUTION
counted_engine = my_engine
### END SOLUTION

# %% check="13.P"
check("13.P", counted_engine)

# %% [markdown]
# Together or one by one: what continuous batching is worth on your engine, on this machine, at this moment.

# %%
greedy = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
speeds, num_steps = {}, {}
for label, batch in (("together", [list(topics)]), ("one by one", [[topic] for topic in topics])):
    llm = LLM("course-tiny", parts=mine, num_blocks=200)
    start = time.process_time()
    for some in batch:
        llm.generate(some, greedy, use_tqdm=False)
    speeds[label] = llm.metrics.generation_tokens / (time.process_time() - start)
    num_steps[label] = llm.metrics.num_steps
    print(f"{label:<11}{num_steps[label]:>5} steps, {speeds[label]:>7,.0f} tokens per second of CPU time")

# %% claims="what continuous batching is worth on your engine"
assert num_steps["one by one"] == len(topics) * num_steps["together"]

# %% [markdown]
# ## 12. Whether somebody else can read it
#
# Code is read more often than it is written. The rules are those of `ruff` and `radon` in versions that are pinned, on your cells
# alone; each rule's penalty flattens out, and `noqa` is not heard. Wrong code earns nothing here.

# %% exercise="13.Q"
read_engine: dict[str, Any] = {}  # the engine whose code is read
### BEGIN SOLUTION
read_engine = my_engine
### END SOLUTION

# %% check="13.Q"
check("13.Q", read_engine)

# %% [markdown]
# Documentation says what a caller must know and cannot see: units, shapes, what is refused, what does not change. Half of its
# points are counted: docstrings that say something, with each argument, what is returned and the unit, and examples that run.
# The check reads their form; whether a sentence is true it cannot tell, and whoever calls your part finds out.

# %% exercise="13.D"
documented_engine: dict[str, Any] = {}  # the engine whose docstrings are read
### BEGIN SOLUTION
documented_engine = my_engine
### END SOLUTION

# %% check="13.D"
check("13.D", documented_engine)

# %% [markdown]
# The other half is for a reader. Somebody takes over your engine tomorrow and has to change how a step is carried out. Write the
# page that you would want to find: (a) what happens in a step, in which order, and for each pair of neighbours what would
# break if they were swapped; (b) which three laws must hold after every step, and how one checks each; (c) what does your
# engine not do, that a user of vLLM would expect?
#
# 5 points, about 20 minutes, marked by hand: 2 each for (a) and (b), 1 for (c).

# %% [markdown] answer="13.7" points=5
# **(a)** Plan, fork, forget, swap out, swap in, copy, take in, renew tables, model, sample, update, answers. Forks after the
# model would miss the logits that end the prompt. Forget after take-in would drop a newcomer under an old id. Swap-in before
# swap-out overwrites what leaves; copy before swap-in copies a block that is not back. Answers before update do not see that
# the length is reached. **(b)** Blocks in use are the union of the tables (tracker, `find_leaks`); the executor's tables equal
# the manager's for all who are computed (`debug=True`); every computed token has a slot that was written in this or an earlier
# step (token equality in small pools). **(c)** For instance: no plan ahead while the model runs, no beam search, no tensor
# parallelism; one process, so making text of one answer's tokens holds up everybody.
#
# **Mark scheme.** (a) 1 for the order, 1 for at least three pairs with what breaks. (b) 1 for three laws, 1 for how each is
# checked. (c) 1 for something true of this engine.

# %% [markdown] criteria="13.7"
# - (a) All moves of blocks have their place; what breaks is something that a user or a counter shows.
# - (b) Laws that can be false, each with a call or a test that would notice.
# - (c) A thing that can be looked up in vLLM's documentation, and is not in your engine.

# %% [markdown]
# ## 13. It serves
#
# Your engine behind an HTTP server that speaks OpenAI's protocol, on a free port of this machine, for as long as the cell runs.
# The client asks for a stream, so each line is a piece that your `push` has let through. However the cell ends, also if you
# interrupt it, the server is closed with it.

# %%
llm = LLM("course-tiny", parts=mine, num_blocks=100)
body = {"model": "course-tiny", "prompt": "The scheduler", "max_tokens": 24, "temperature": 0, "stream": True, "stop": ["\n\n"]}
received: list[str] = []
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # straight to this machine, past any proxy
with served(llm) as address:
    request = urllib.request.Request(
        f"{address}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with opener.open(request, timeout=60) as stream:
        for line in stream:
            data = line.decode().removeprefix("data: ").strip()
            if data and data != "[DONE]":
                received += [choice["text"] for choice in json.loads(data)["choices"]]
print("".join(received))
print(f"{len(received)} pieces")

# %% claims="each line is a piece that your"
[direct] = LLM("course-tiny").generate("The scheduler", SamplingParams(temperature=0, max_tokens=24, stop="\n\n"))
assert len(received) > 5 and "".join(received) == direct.outputs[0].text

# %% [markdown]
# OpenAI's own client knows nothing of this course; it is only told another address. It asks an engine on the parts of your
# workspace here, which is what `course serve --parts own` serves from a terminal, at port 8000 and until Ctrl-C.

# %%
from openai import DefaultHttpxClient, OpenAI

with (
    served(LLM("course-tiny", num_blocks=100)) as address,
    OpenAI(base_url=f"{address}/v1", api_key="none", http_client=DefaultHttpxClient(trust_env=False)) as client,
):
    completion = client.completions.create(
        model="course-tiny", prompt="The scheduler", max_tokens=24, temperature=0, stop="\n\n"
    )
print(completion.choices[0].text)
print(f"{completion.usage.completion_tokens} tokens, finish_reason {completion.choices[0].finish_reason!r}")

# %% claims="it is only told another address"
assert completion.choices[0].text == direct.outputs[0].text

# %% [markdown]
# ## 14. What you have built
#
# The map once more, with what is yours by now; and what is left of the course.

# %%
viz.EngineMap(lesson=13)

# %%
progress()

# %% [markdown]
# ## 15. Interview corner
#
# Answer aloud, in two minutes each, before you unfold what a strong answer holds.

# %% [markdown] interview="13"

# %% [markdown]
# ## 16. Takeaways
#
# - A step is an order: plan, fork, move, compute, sample, update, answer. Each neighbour has a reason to stand where it stands.
# - Out, in, copy: what leaves is read before its place is written, what comes back is there before it is copied.
# - A shared block is held by two and in memory once. A leak has an owner who is gone, or none.
# - Text may wait and may not shrink.
# - Never is about the emptiest engine, not about this moment.
# - Abort asks all before it touches one, and is told to everybody who keeps something.
# - Right tokens are necessary, and blind to leaks, order and waste: count these.
#
# **Next:** follow one request through all of it in `request_trace`, and answer the sixty questions of `comprehensive_quiz`.

# %% [markdown]
# ## Appendix
#
# <details><summary>Guided reading: the step in vLLM 0.33.0 (30 minutes)</summary>
#
# Open the files below `vllm/v1/` at tag `v0.33.0` in [the repository](https://github.com/vllm-project/vllm).
#
# 1. `engine/core.py`, `def step`: find plan, execution and update. Where are aborts taken in, and why between the model and the
#    update?
# 2. `core/sched/scheduler.py`, `def finish_requests`: which two passes does it make, and which queue does each request leave?
# 3. `engine/detokenizer.py`: how many characters are held back for stop strings, and how does that differ from yours?
# 4. `engine/input_processor.py`: which prompts are refused before the scheduler sees them?
#
# *What to find there.*
#
# 1. Tokens of who has gone must not be delivered, and its blocks are free a plan earlier.
# 2. It collects those that are valid and takes them out of their queues, then sets the status and frees. Yours asks all before it
#    changes one, too.
# 3. The longest stop string's length less one until the answer ends (none if stop strings are to be shown): one subtraction,
#    and text that comes later than need be. Yours holds back the longest overlap.
# 4. Among others those as long as the model's context or longer, so that at least one token of answer fits.
#
# </details>
#
# <details><summary>What older material says differently</summary>
#
# - "The engine swaps by default when memory runs out." V0 could; V1 recomputes, and has no swap of running requests.
# - "Greedy decoding is deterministic." In one batch on one machine. Kernels may add in another order for another batch: in
#   float32 that decides between tokens that are as likely to the last digit, in half precision between near ones, too.
# - "Stop strings are checked by the model." They are checked where text is made, and the scheduler hears of them only
#   when it has taken the token in.
#
# </details>
