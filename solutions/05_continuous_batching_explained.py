# %% [markdown]
# # Lesson 5: A seat for whoever is next
#
# **Time** 3 hours and a half: a little over 2½ for exercises, quiz and what you write, the rest for the text; 45 minutes in all if you only read · **Difficulty** ●○○ to ●●● · **Points** 100
#
# Four lessons were about where keys and values lie. This one is about time: who computes what, and when. A GPU runs a
# model in *iterations*, each of which computes some tokens of some requests. Who is in the next one? The answer that came
# first, a batch that stays together until its last member is done, leaves many of its seats idle and lets users wait for
# many seconds. The answer that replaced it is a loop of a dozen lines, and a rule for who may come in.
#
# **By the end you will have built** admission, the part of the scheduler that lets waiting requests into a running batch;
# static batching, to have something to compare it with; the measures of what users feel; and the layout that puts tokens
# of many requests into one forward pass. In the map below, the boxes with a thick outline are this lesson's.
#
# **You need** lesson 1 (prefill and decode, seats of a batch), lesson 3 (borders of a batch, blocks) and lesson 4 (what has
# no room must wait). You need no GPU.

# %%
from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

import numpy as np

from autograder.lessons.lesson05_hunt import Abort
from autograder.notebook import check, compare, explain, quiz
from course_lib import parts, viz
from course_lib.engine import LLM, EngineParts, SamplingParams
from course_lib.engine.flatten import FlatStep
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.kv_cache.sizing import num_kv_blocks
from course_lib.scheduling.decisions import why_waiting
from course_lib.scheduling.request import IllegalTransitionError, Request, RequestStatus
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig, SchedulerOutput
from course_lib.scheduling.variants.head_skipping import HeadSkippingScheduler
from course_lib.scheduling.variants.static_batching import StaticBatchingScheduler
from course_lib.scheduling.watch.guarded import guarded_by
from course_lib.scheduling.watch.iterations import run_iteration
from course_lib.simulation.cost_model import RooflineCostModel
from course_lib.simulation.experiments import Validation
from course_lib.simulation.loop import serve
from course_lib.simulation.measured import MeasuredRun, load_vllm_requests
from course_lib.simulation.result import SimulationResult
from course_lib.simulation.simulation_parts import SimulationParts
from course_lib.simulation.simulator import Simulator, simulate
from course_lib.simulation.workload import load_azure
from course_lib.specs import GPUS, MODELS
from course_lib.steps import IterationWork

# %%
viz.EngineMap(lesson=5)

# %% [markdown]
# ## 1. Warm-up
#
# Three questions on the lessons before. The check is immediate and earns no points.

# %% exercise="5.W1"
busy_share = None  # from 0 to 1
### BEGIN SOLUTION
busy_share = (2 + 7 + 3) / (3 * 7)
### END SOLUTION

# %% check="5.W1"
check("5.W1", busy_share)
# %% exercise="5.W2"
last_border = None
### BEGIN SOLUTION
last_border = 4 + 1 + 2
### END SOLUTION

# %% check="5.W2"
check("5.W2", last_border)
# %% exercise="5.W3"
num_served = None  # requests
### BEGIN SOLUTION
num_served = 10 // 4
### END SOLUTION

# %% check="5.W3"
check("5.W3", num_served)
# %% [markdown]
# ## 2. The problem, seen first
#
# 1,000 conversations arrive at a server that runs Llama-3.1-8B on an A100 with 80 GB, in batches of up to 32. The server
# batches *statically*: when all seats are empty, it takes those who wait, the first 32 if there are more, and runs until the
# last of them has ended. We simulate it: the scheduler is the one of the engine, the clock is virtual, and how long an
# iteration takes comes from the roofline of lesson 1.

# %%
conversation = load_azure("conversation")
requests = conversation[:1000]
model, gpu = MODELS["llama-3.1-8b"], GPUS["a100-80gb"]
all_prompts = sum(r.prompt_tokens + r.output_tokens for r in requests)  # tokens: no limit that anybody meets


def run(
    scheduler_class: type[Scheduler], budget: int = 2048, workload: Sequence = requests, **options: object
) -> SimulationResult:
    """Serve requests in batches of up to 32, on your own parts where there are any."""
    own = ("Scheduler", "StaticBatchingScheduler", "time_per_output_token", "inter_token_latencies")
    config = SchedulerConfig(max_num_seqs=32, max_num_batched_tokens=budget, **options)
    return simulate(
        workload,
        config,
        RooflineCostModel(model, gpu),
        num_kv_blocks(model, gpu),
        scheduler_class=scheduler_class,
        parts=SimulationParts.of({name: parts.get(name) for name in own}),
    )


static = run(StaticBatchingScheduler, budget=all_prompts)
num_arriving = len(requests) / requests[-1].arrival_time
num_served_statically = len(requests) / static.makespan
print(f"requests from: {conversation.source}")
mean_prompt = round(np.mean([r.prompt_tokens for r in requests]))
alone = RooflineCostModel(model, gpu).seconds(IterationWork.of_batch([(mean_prompt, 0)]))
print(f"they arrive at {num_arriving:.2f} a second, and are served at {num_served_statically:.2f} a second")
busy = sum(step.num_requests for step in static.steps) / (32 * len(static.steps))
print(f"of the 32 seats, {busy:.0%} are busy in an average iteration")
print(f"a prompt of mean length, {mean_prompt:,} tokens, takes {alone:.2f} s if it is computed alone")

# %% [markdown]
# The seats idle as in lesson 1: whoever is done leaves an empty seat beside the longest of the batch. (And where fewer than 32
# waited, a batch begins with empty ones.)
#
# A server with *continuous* batching fills a seat as soon as it falls empty, and keeps up with these arrivals. **Predict:**
# by what factor does the mean time from arrival to first token fall? Reason with the figures above before you write: how
# long does the last of the 1,000 wait? And who comes just after a batch has begun, for what must that one wait?

# %%
predicted_factor = None  # your prediction: how many times shorter

# %% [markdown]
# Look at the two ways, on twelve requests and four seats. Above, static batches; below, the same requests with a batch that
# changes in each iteration. An orange cell computes a prompt, from whose last part comes the first token of the answer (or,
# where blocks run out, what somebody lost); a green one computes one more token, and a hatched one is an idle seat. Play it
# from the start, and stop where the first request ends above: who may sit here, and what does the first of those that wait
# lack? Then move seats, budget and blocks (the film stays as far on as it was), and play it again. A click on a request tells
# what its user felt. The lower chart is made by the scheduler of *your* engine, as far as you have built it.

# %%
viz.batch_gantt(scheduler=parts.get("Scheduler"))

# %% [markdown]
# ## 3. A batch for each iteration
#
# Six requests generate 2, 7, 3, 5, 1 and 4 tokens, on three seats. Prompts are short, so each iteration gives everybody in
# it one token. Static batching runs {2, 7, 3} for seven iterations and {5, 1, 4} for five:
#
# $$T_{static} = \max(2, 7, 3) + \max(5, 1, 4) = 12 \text{ iterations}$$
#
# That is 12 · 3 = 36 cells of seat and iteration, for 22 tokens: 14 are idle. No schedule can be shorter than
# $\lceil 22 / 3 \rceil = 8$ iterations. Let the library's two schedulers play it.


# %%
def some(prompts: Sequence[int], outputs: Sequence[int]) -> list[Request]:
    """Return requests a, b, c, ... with so many tokens each; no two share a token."""
    pairs = enumerate(zip(prompts, outputs, strict=True))
    return [Request("abcdef"[i], range(1000 * i, 1000 * i + prompt), output) for i, (prompt, output) in pairs]


outputs = [2, 7, 3, 5, 1, 4]
viz.batch_gantt(some([1] * 6, outputs), Scheduler, seats=3)

# %% [markdown]
# The lower one needs eight, the least that is possible, and the mean wait for a first token falls from 4.5 to 2.5 iterations.
# Neither knows beforehand how long an answer will be. The batch is **continuous**: its members change, it never ends.
# The idea is called *iteration-level scheduling*, and comes from Orca (Yu et al., OSDI 2022).
#
# So much for the iterations. Now the seconds of section 2:

# %%
continuous = run(Scheduler)
print(f"mean time to first token: static {static.ttft.mean():.1f} s, continuous {continuous.ttft.mean():.3f} s")
compare(predicted_factor, static.ttft.mean() / continuous.ttft.mean(), "times")

# %% [markdown]
# The factor is no 2 or 3, as the idle seats might suggest. It is more than fifty, and it has two reasons.
#
# **A closed door.** Who arrives while a static batch runs waits until its last member is done, which takes seconds, even if
# nobody else waits. At the other server the door is opened after each iteration.
#
# **A queue.** If $\lambda$ requests arrive each second and only $\mu < \lambda$ are served, the queue grows as long as they
# come. Request number $n$ arrives at $n / \lambda$, and by about $n / \mu$ so many have been served. But its first token comes
# when its batch begins, and with $B$ members in a batch that is half a batch earlier on average, $B / 2\mu$. So over $N$ requests
#
# $$W \approx \frac{N}{2} \left( \frac{1}{\mu} - \frac{1}{\lambda} \right) - \frac{B}{2 \mu}$$
#
# in seconds. That is no property of the server alone: with twice as many requests the first term would be twice as long.
#
# Which of the two makes more of the factor? Let the same requests arrive at half the rate: then the static server keeps up,
# no queue grows, and what is left is the door. **Predict:** what is left of the factor?

# %%
predicted_rest = None  # your prediction: how many times shorter, at half the rate of arrivals

# %%
queue = len(requests) / 2 * (1 / num_served_statically - 1 / num_arriving) - 32 / 2 / num_served_statically
print(f"the formula says {queue:.1f} s for the static server of section 2")
slowly = requests.at_rate(num_arriving / 2)
relaxed = {kind: run(kind, budget, slowly) for kind, budget in ((StaticBatchingScheduler, all_prompts), (Scheduler, 2048))}
print(f"half the rate: {num_arriving / 2:.2f} arrive a second")
for kind, outcome in relaxed.items():
    first, second = (half.mean() for half in np.array_split(outcome.ttft, 2))
    served = len(requests) / outcome.makespan
    print(f"{kind.__name__:<24} serves {served:.2f} a second; first token after {outcome.ttft.mean():.3f} s", end="")
    print(f" ({first:.3f} in the first half of the run, {second:.3f} in the second)")
rest = relaxed[StaticBatchingScheduler].ttft.mean() / relaxed[Scheduler].ttft.mean()
compare(predicted_rest, rest, "times")

# %% [markdown]
# The static server keeps up now, and still its users wait for seconds where the others wait for a tenth of one: the door alone
# makes a factor of more than thirty here. The queue makes the rest, which is a factor of two or three, and has no limit: it
# grows with each request that comes too fast.

# %% claims="The lower one needs eight, the least that is possible, and the mean wait for a first token falls from 4.5 to 2.5 iterations."
for kind, end, wait in ((StaticBatchingScheduler, 12, 4.5), (Scheduler, 8, 2.5)):
    scheduler = kind(SchedulerConfig(max_num_seqs=3), KVCacheManager(num_blocks=100))
    times = serve(scheduler, some([1] * 6, outputs))
    assert max(each[-1] for each in times.values()) == end
    assert np.mean([each[0] for each in times.values()]) == wait

# %% claims="It is more than fifty, and it has two reasons."
assert static.ttft.mean() / continuous.ttft.mean() > 50
assert num_served_statically < num_arriving
assert abs(queue / static.ttft.mean() - 1) < 0.1

# %% claims="The static server keeps up now, and still its users wait for seconds where the others wait for a tenth of one"
kept_up = relaxed[StaticBatchingScheduler]
assert len(requests) / kept_up.makespan > 0.95 * num_arriving / 2
assert kept_up.ttft[500:].mean() < 1.5 * kept_up.ttft[:500].mean()
assert kept_up.ttft.mean() > 3
assert relaxed[Scheduler].ttft.mean() < 0.12
assert rest > 30
assert 2 < static.ttft.mean() / continuous.ttft.mean() / rest < 3.5

# %% [markdown]
# ## 4. A life in states
#
# If anybody may come and go in each iteration, the scheduler must know of each request where it is in its life. A request
#
# - is `waiting` from its arrival on, until it is admitted;
# - is `running` while it has a seat in the batch and blocks in memory;
# - becomes `preempted` if it has to give its seat and its blocks to others (lesson 6). It stands in the waiting queue again,
#   and keeps this status until it is back in the batch, so that everybody can see that it is no newcomer;
# - ends as `finished_stopped`, by a token that ends answers; `finished_length_capped`, when it has as many tokens as it may
#   have; `finished_aborted`, when its client goes away; or `finished_ignored`, when its prompt is so long that it can never
#   be served here, which is found out as soon as it comes.
#
# Write down what may follow what, in these seven names. An eighth, `swapped`, is for lesson 6; leave it out. A table like
# this refuses everything else, which is its use: a request that ends twice, or runs after its end, has made a move that
# makes no sense, and somebody should say so at once.

# %% exercise="5.1"
moves = {}
# moves["waiting"] = {"running", ...}: for each status the set of those that may follow it; an empty one is set(), or is left out.
### BEGIN SOLUTION
moves["waiting"] = {"running", "finished_aborted", "finished_ignored"}
moves["running"] = {"preempted", "finished_stopped", "finished_length_capped", "finished_aborted"}
moves["preempted"] = {"running", "finished_aborted"}
for end in ("stopped", "length_capped", "aborted", "ignored"):
    moves[f"finished_{end}"] = set()
### END SOLUTION

# %% check="5.1"
check("5.1", moves)

# %% [markdown] solution="5.1"
# **Explained.** Nothing follows an end. To abort is possible from everywhere else, since clients know nothing of seats. To
# stop, or to reach a limit, takes a token, and only who runs gets one. Ignored is only who has never begun. The one way back
# is from preempted to running. (In a scheduler that plans ahead, of which lesson 12 has one, the last token of a request
# may still be on its way when it is preempted; there preempted may be followed by stopped and by length_capped. Such a table
# is accepted, too.)

# %% [markdown]
# Now let requests live by your table. Memory is so short here that some have to give way. Each move is looked up before it
# is made; one that is not in the table stops the run. (Where plans are made ahead, as in lesson 12, a last token may still be
# on its way to a request that is preempted. A table that lets such a request end by it is as right.)

# %%
seen: Counter[str] = Counter()
Guarded = guarded_by(moves, seen)
crowd = [Guarded(f"r{i}", range(100 * i, 100 * i + 5 + i % 7), max_tokens=3 + i % 17) for i in range(200)]
crowd.append(Guarded("endless", range(500), max_tokens=1))
try:
    serve(Scheduler(SchedulerConfig(max_num_seqs=8), KVCacheManager(num_blocks=9, block_size=8)), crowd)
except IllegalTransitionError as error:
    print(error)
for move, times in seen.items():
    print(f"{times:4}  {move}")

# %% claims="Memory is so short here that some have to give way."
assert seen["running to preempted"] > 10
assert seen["running to preempted"] == seen["preempted to running"]
assert seen["waiting to finished_ignored"] == 1
assert seen["running to finished_length_capped"] == 200

# %% [markdown]
# ## 5. The loop
#
# Here is a serving engine, on one screen.
#
# ```text
# while anybody is there, or still to come:
#     hand over who has arrived                                   add_request
#     plan: who computes how many tokens?                         schedule
#         those who run, in order: each its next token,
#             or the next part of its prompt                      (lesson 12)
#         if a block is missing, somebody gives way,
#             and nobody is admitted in this iteration            (lesson 6)
#         then those who wait, as long as they fit                admit_waiting, section 7
#     run the model: this takes its time
#     who is computed up to the last known token gets a new one
#     take the tokens in, let go of who has ended                 update_from_output
# ```
#
# There is no phase of prefill and none of decode. A request has tokens that are *known*, prompt and output so far, and
# tokens that are *computed*, whose keys and values are in the cache. It lacks the difference. A decode lacks one; a prompt
# that has just come lacks all. A long prompt may be computed in parts, over several iterations: those are **chunks**, and to
# cut a prompt so is called *chunked prefill*. As long as a request lacks something after an iteration, there is nothing to
# sample: the next token is known.
#
# Put the lines of `serve(scheduler, requests, seconds)` in order: an iteration takes so many `seconds`, and what comes back is
# when the tokens of each request came, by its id. `scheduler.generating(output)` yields the requests that a plan computes up to their last
# known token; the token 7 stands for what a model would say.

# %% exercise="5.2"

# %% check="5.2"

# %% [markdown] solution="5.2"
# **Explained.** The clock moves between the plan and the tokens, because a token comes when its iteration has run; noted
# before, each token would come an iteration too early. All who have come while an iteration ran are handed over before the
# next one. And whoever is scheduled is not yet somebody who gets a token: with prompts of 9, 7, 5 and 3 tokens and 10 tokens
# for each iteration, first tokens come in iterations 1, 2, 3 and 3; if everybody scheduled were answered, the second request
# would have its first token in iteration 1, from the middle of its prompt.

# %% [markdown]
# ## 6. Static batching is a rule of admission
#
# Nothing in the loop says when requests may join. That is the scheduler's `admit_waiting`, which gets the plan so far and
# what is left of the budget of tokens, and returns what is left after it. So static batching needs no loop of its own: it is
# the same scheduler, with another rule of admission. Write it as a method of `StaticBatchingScheduler`, which is a
# `Scheduler` in everything else. `self.running` are the requests in the batch. In the cell the method is a
# function outside its class, so there is no `super()`: what a `Scheduler` does is `Scheduler.admit_waiting(self, output, budget)`.

# %% exercise="5.3"

# %% check="5.3"

# %% [markdown] solution="5.3"
# **Explained.** A batch is over when nobody runs. While somebody does, nobody joins, and as nothing is spent, the whole
# budget comes back. When nobody does, the next batch is what the other scheduler would let in at once.

# %% [markdown]
# Section 2 flattered static batching: its budget had no limit, so all prompts of a batch were computed in its first iteration.
# With 2,048 tokens for an iteration, a batch is what *one* iteration lets in, since who computes a prompt closes the door:

# %%
narrow = run(StaticBatchingScheduler, budget=2048)
members = len(requests) / sum(step.num_admitted > 0 for step in narrow.steps)
print(f"{members:.1f} requests in a batch on average; mean time to first token {narrow.ttft.mean():.0f} s", end="")
print(f", {narrow.ttft.mean() / static.ttft.mean():.0f} times as long as without a limit")

# %% [markdown]
# Two or three prompts fill the budget, and then they decode for themselves, beside some thirty empty seats.

# %% claims="Two or three prompts fill the budget, and then they decode for themselves"
assert 2 < members < 3.5

# %% [markdown]
# ## 7. Admission
#
# Who waits may come in as long as three things last.
#
# | limit | what it counts | what breaks without it |
# |---|---|---|
# | **seats**, `max_num_seqs` | requests in the batch | buffers and sampler are made for so many |
# | **budget**, `max_num_batched_tokens` | tokens that *this iteration* computes, over all requests | one long prompt makes everybody wait for the whole of it |
# | **blocks** | room for keys and values | there is nowhere to write |
#
# The budget is the one that is got wrong. A decode with a context of 1,000 tokens computes *one*. Take four prompts of 900,
# 700, 500 and 300 tokens, a budget of 1,000 and seats enough. Before you run the cell: who computes how many tokens in the
# first three iterations? In the notation of a plan, `x:60(160/400)` says that x computes 60 tokens and has 160 of 400
# then; a star marks the end of a prompt, and behind the bar stands who waits.

# %%
scheduler = parts.get("Scheduler")(SchedulerConfig(max_num_batched_tokens=1000), KVCacheManager(num_blocks=1000))
for request in some([900, 700, 500, 300], [9] * 4):
    scheduler.add_request(request)
for _ in range(3):
    print(run_iteration(scheduler)["plan"])

# %% [markdown]
# In the second iteration a costs 1, so 999 are left, and not 1,000 − 901 = 99: its 900 tokens are in the cache.
#
# And if the next one does not fit? Memory has ten blocks of 16 here (an eleventh, block 0, stands for "no block" and is never
# handed out). Prompts of 100, 100 and 30 tokens need 7, 7 and 2 of them.

# %%
for kind in (parts.get("Scheduler"), HeadSkippingScheduler):
    scheduler = kind(SchedulerConfig(), KVCacheManager(num_blocks=11))
    for request in some([100, 100, 30], [9] * 3):
        scheduler.add_request(request)
    print(f"{kind.__name__:<24} {run_iteration(scheduler)['plan']}")

# %% [markdown]
# The second scheduler passes over whoever does not fit. It fills two blocks more, and b may wait for ever: what falls free
# goes to small ones as long as such come. So admission **stops at the first who does not fit**, and the order of the queue
# is kept. (Lesson 9 measures what either costs.)
#
# Write admission. This exercise has the least scaffold and earns the most. What is given:
#
# | call | what it does |
# |---|---|
# | `self.waiting.peek()`, `.pop()` | the first who waits, looked at or taken out; an empty queue is false |
# | `self.may_start(request)` | False if it is not the first of the queue, or somebody else is to come before it (who was swapped out, in lesson 6), or if a variant of the scheduler has a reason |
# | `self.find_hits(request)` | `(blocks, number of tokens)` with which the request can begin, because another one, or itself before a preemption, has computed the same beginning; `([], 0)` without such. Lesson 8 is about it; here it is enough that those tokens need not be computed |
# | `self.first_chunk(request, num_new_tokens, budget)` | how many of the tokens that it lacks it may compute now: at most the budget; 0 if it must not be cut and is too long for what is left |
# | `self.take_room(request, num_new_tokens, hits, num_hit_tokens)` | takes blocks for so many tokens, behind those that were found: the last two are what `find_hits` gave; False, with nothing changed, if there is no room. By default there is room only if *all* of its known tokens would fit, not just this chunk |
# | `self.start(request, num_new_tokens, output)` | makes it the last of `running`, with the status RUNNING, enters it into `output.num_scheduled_tokens`, and adds the tokens to its `num_computed_tokens` |
# | `output.scheduled_new_reqs`, `output.scheduled_resumed_reqs` | lists of the requests themselves, not of their ids: those that run for the first time, and those that come back |
#
# A request that comes back after a preemption may have output tokens, whose keys and values are lost as well. So it lacks
# `num_tokens`, less what is found, and not `num_prompt_tokens`. Leave it in the queue until all has been asked.

# %% exercise="5.4"

# %% check="5.4"

# %% [markdown] solution="5.4"
# **Explained.** Seats and budget can be asked without looking at anybody, so they are conditions of the loop. Then three
# questions to the first in line, each of which may be the end: its turn, its tokens (less its hits), its room. It is taken out of
# the queue only after the last yes, since whoever was taken out and then finds no room is in no queue at all. Whether it is
# new or comes back is asked before `start`, which changes its status. Each plan is made anew from what is there: nothing is
# remembered from the iteration before, neither that the batch was full nor who was refused.

# %% [markdown]
# Which of the three limits is it that lets people wait? Ask, after each plan, why the first in line was not admitted. Two
# servers: the one of section 2, and a smaller GPU with many seats.


# %%
class Reasons:
    """A log that counts why somebody had to wait."""

    words = {"seats": "batch is full", "budget": "budget of", "blocks": "block", "a preemption": "preempts"}

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def record_preemption(self, *_: object) -> None:
        """Take no note of preemptions; lesson 6 does."""

    def record_step(self, scheduler: Scheduler, output: SchedulerOutput) -> None:
        if scheduler.waiting:
            said = why_waiting(scheduler, output)
            self.counts[next((name for name, word in self.words.items() if word in said), said)] += 1


servers = {
    "A100 80 GB, 32 seats": (requests, 32, "a100-80gb", num_kv_blocks(model, gpu)),
    "RTX 4090, 256 seats": (requests[:400], 256, "rtx-4090", 2588),  # blocks as in lesson 1
}
reasons = {}
for name, (workload, num_seats, gpu_name, num_blocks) in servers.items():
    simulator = Simulator(
        workload,
        SchedulerConfig(max_num_seqs=num_seats),
        RooflineCostModel(model, GPUS[gpu_name]),
        num_blocks,
        parts=SimulationParts.of({"Scheduler": parts.get("Scheduler")}),
    )
    simulator.scheduler.log = reasons[name] = Reasons()
    while simulator.step() is not None:
        pass
    total = reasons[name].counts.total()
    shares = ", ".join(f"{reason} {count / total:.0%}" for reason, count in reasons[name].counts.most_common())
    print(f"{name}: somebody waits in {total:,} iterations, for {shares}")

# %% [markdown]
# On the large GPU the seats run out, on the small one the blocks; the budget binds in few iterations on either. Whoever wants fewer to wait must know which: more seats on the small
# GPU would change nothing. On the large one they do:

# %%
with_64 = simulate(requests, SchedulerConfig(max_num_seqs=64), RooflineCostModel(model, gpu), num_kv_blocks(model, gpu))
for num_seats, outcome in ((32, continuous), (64, with_64)):
    quarter = np.quantile(outcome.ttft, 0.75)
    print(f"{num_seats} seats: first token after {outcome.ttft.mean():.2f} s on average, three in four within {quarter:.2f} s")

# %% claims="On the large one they do:"
assert with_64.ttft.mean() < 0.75 * continuous.ttft.mean()

# %% claims="On the large GPU the seats run out, on the small one the blocks; the budget binds in few iterations on either."
for counts, most in zip((each.counts for each in reasons.values()), ("seats", "blocks"), strict=True):
    assert counts[most] > 0.85 * counts.total()
    assert counts["budget"] < 0.1 * counts.total()

# %% [markdown]
# ### What must hold, and what breaks
#
# | what must hold | what a user sees when it does not |
# |---|---|
# | Only a request that is computed up to its last known token gets a new one. | An answer to half of the question. |
# | A request is in exactly one queue. | Answered twice, or never. |
# | Nobody overtakes a request that does not fit. | Long prompts wait for ever while short ones pass. |
#
# ## 8. What users feel
#
# All that a user notices is in an *event log*: when the request came, and when each of its tokens came. Four measures, in
# seconds:
#
# - **TTFT**, time to first token: from arrival to the first token.
# - **ITL**, inter-token latency: *each* gap between two tokens that follow each other.
# - **TPOT**, time per output token: the mean gap of *one request*.
# - **e2e**, end-to-end latency: from arrival to the last token.
#
# A request that arrives at 0.5 s and gets tokens at 1.0, 1.5 and 4.0 s has TTFT 0.5, gaps of 0.5 and 2.5, TPOT 1.5 and e2e
# 3.5 s. With $n$ tokens at $t_1, \dots, t_n$ and arrival $a$:
#
# $$\text{TTFT} = t_1 - a \qquad \text{TPOT} = \frac{t_n - t_1}{n - 1} \qquad
# \text{e2e} = \text{TTFT} + (n - 1) \cdot \text{TPOT}$$
#
# TPOT and ITL are often taken for the same. The *means* may be close; but whoever has 200 gaps of 10 ms and one of a
# second has a TPOT of 15 ms, and sees the answer stop. Stalls are in the tail of ITL, which TPOT has averaged away. Look at one:
# in the figure of section 2, set the clock to milliseconds and choose request g. What are its TPOT and its longest gap in either
# chart? Below, TPOT is about twice as long and the longest gap more than four times: g runs, and in its iterations the prompts
# of others (orange) are computed. Not everybody gains by that: a, b and c have their last token later below, though the mean
# e2e falls.
#
# The last measure is the provider's. **Throughput** is what all users get together, in requests or tokens per second of
# makespan, the time from the first arrival to the last token. As long as a server keeps up, it is the rate of arrivals,
# however good the server is: compare throughput where the server is the limit.
#
# Write TPOT and ITL from plain lists: the times of each request's tokens.

# %% claims="Below, TPOT is about twice as long and the longest gap more than four times"
from course_lib.viz.batching.figure import example_requests

twice = [
    simulate(
        example_requests(),
        SchedulerConfig(max_num_seqs=4, max_num_batched_tokens=8192),
        RooflineCostModel(model, gpu),
        num_kv_blocks(model, gpu),
        scheduler_class=kind,
    )
    for kind in (StaticBatchingScheduler, Scheduler)
]
assert 1.8 < twice[1].tpot[6] / twice[0].tpot[6] < 2.3
assert twice[1].longest_gap[6] > 4 * twice[0].longest_gap[6]
assert all(twice[1].e2e[:3] > twice[0].e2e[:3])
assert twice[1].e2e.mean() < twice[0].e2e.mean()

# %% exercise="5.5a"

# %% check="5.5a"

# %% [markdown] solution="5.5a"
# **Explained.** The gaps of a request add up to the time from its first to its last token, so none of them need be known.
# n tokens have n − 1 gaps; with one token there is none, and 0/0 is not a number. A 0 in its place would be a lie that lowers
# every mean: vLLM's benchmark leaves such requests out of its mean TPOT.

# %% exercise="5.5b"

# %% check="5.5b"

# %% [markdown] solution="5.5b"
# **Explained.** Each request by itself, each token with the one before it. The time before the first token is no gap, and
# neither is the time between two users.

# %% [markdown]
# > **An upstream bug.** vLLM, issue #7242 and pull request #7372 (August 2024): in the benchmark client, for the completions
# > API, an `else` was missing, so the time to first token of each request was filed as a gap as well. SGLang's client had
# > the same line (#1005).
#
# One value too many for each request, among hundreds that are right. What does it do to the mean of all gaps? Take the
# small GPU of section 7, where people wait for their first token:

# %%
own_itl = parts.get("inter_token_latencies")
result = simulator.result()
gaps, filed = own_itl(result.token_log), [*own_itl(result.token_log), *result.ttft]
print(f"{len(gaps):,} gaps, mean {1e3 * np.mean(gaps):.1f} ms; with {len(result.ttft)} first tokens among them ", end="")
print(f"{1e3 * np.mean(filed):.1f} ms, {np.mean(filed) / np.mean(gaps):.1f} times as much")

# %% [markdown]
# A mean can be wrong by a large factor because of one value in a few hundred, if that value is of another kind: here a wait
# of many seconds for blocks. Where nobody queues, the same mistake would hardly show. Look at the whole distribution before you
# believe a mean.

# %% claims="A mean can be wrong by a large factor because of one value in a few hundred"
assert np.mean(filed) > 1.5 * np.mean(gaps)
assert np.mean(result.ttft) > 10
assert np.mean([*continuous.itl, *continuous.ttft]) < 1.1 * np.mean(continuous.itl)
assert 200 < len(gaps) / len(result.ttft) < 400

# %% [markdown]
# ## 9. Many lengths, one forward pass
#
# In the second iteration above, a computes one token behind 900, b computes 600 behind 100, and c computes 399 from its
# beginning. How can they be in one matrix product? Servers before Orca put only requests in one batch that were at the same
# point, and padded prompts to the longest of them; a decode beside a prompt of 600 tokens would have had to become 600 rows.
# Orca's second idea does without: **selective batching**. Ask of each operation of a layer whether it looks at more than one row:
#
# | operation | looks at | so it needs |
# |---|---|---|
# | embedding, norms, projections, MLP | one row | rows, whosever they are |
# | rotary embedding | one row and its position | `positions` |
# | attention | a token, and all before it *of its own request* | whose row it is, the block table (lesson 2) |
# | sampling | the last row of who is caught up | `sample_rows` |
#
# So all tokens of an iteration are rows of one matrix, request after request, and three small arrays say the rest. Example:
# a decodes behind 999 tokens; b computes the first 5 of a prompt of 12; c computes its prompt of 3.
#
# ```text
# row            0    1 2 3 4 5    6 7 8
# whose          a    b b b b b    c c c
# positions    999    0 1 2 3 4    0 1 2        its place in its own sequence
# query_starts   0    1            6        9   where each one begins, and the end
# sample_rows    0                     8        b is in the middle of its prompt
# ```
#
# Write it. `context_lens` are the tokens of each sequence that are computed *when the step is over*, `known_lens` those that
# are known. What comes back is a `FlatStep` of three arrays: `positions` and
# `sample_rows` of int64, `query_starts` of int32.

# %% exercise="5.6"

# %% check="5.6"

# %% [markdown] solution="5.6"
# **Explained.** The borders are a running sum. The tokens of a step are the last ones of the context, so the last of them
# stands at `context - 1`, and row r of a sequence whose rows end at e has position r + context − e: one `repeat` of a
# difference for each sequence, and one addition. A loop over sequences with `range(context - query, context)` is right as well,
# and slower for large batches. Sampled are the last rows, `ends - 1`, of those whose context is all that is known.

# %% [markdown]
# ## 10. Bug hunt
#
# > **An upstream bug.** SGLang, issue #35537 (August 2026, open when this was written). The code below is our own, and makes
# > the same mistake.
#
# A user starts a server with four seats and sends four requests. Three run. The fourth waits, with memory, budget and a seat
# to spare, until one of the three is done. Here is a small scheduler that behaves so. It admits requests in order, cuts at
# most one prompt to the budget, and returns in which step each request starts.

# %% shows="autograder.lessons.lesson05_hunt:first_steps_suspect"

# %% [markdown]
# With short prompts all is well: the fifth starts when the first two have ended.

# %%
print(first_steps_suspect([("a", 30, 3), ("b", 30, 3), ("c", 30, 9), ("d", 30, 9), ("e", 30, 9)], seats=4, budget=2048))

# %% [markdown]
# Give a workload, without aborts, in which somebody waits although there is a seat and budget.

# %% exercise="5.7a"
exposing = None  # {"requests": [("a", 30, 3), ...], "seats": 4, "budget": 2048}
### BEGIN SOLUTION
exposing = {
    "requests": [("a", 3000, 20), ("b", 500, 20), ("c", 400, 12), ("d", 300, 20)],
    "seats": 4,
    "budget": 2048,
}
### END SOLUTION

# %% check="5.7a"
check("5.7a", exposing)

# %% [markdown] solution="5.7a"
# **Explained.** It takes a prompt that is cut. In the step in which it goes on, it is in `joining`, and `chunked` is not None
# either: it counts twice, so three requests look like four. That alone would cost one step. But the flag remembers it, and is
# taken back only when somebody ends. With prompts of 3,000, 500, 400 and 300 tokens, c's answer of 12 tokens and the others' of 20,
# four seats and a budget of 2,048, d starts in step 13, when c has had its 12 tokens, and not in step 1.

# %% [markdown]
# Mend it. The code around the hole is the suspect's; how requests come in is yours. Who is in `running` may go away at the
# end of a step: `aborts` has pairs of a name and that step. (Who waits then, or is in the middle of a prompt, stays.) The check
# asks about those, too.

# %% exercise="5.7b"
def first_steps(
    requests: Sequence[tuple[str, int, int]], seats: int, budget: int, aborts: Sequence[Abort] = ()
) -> dict[str, int]:
    """Return the step, from 0, in which each request starts.

    In each step those who run get a token each, which costs one token of the budget. The prompt that
    was cut goes on. Then requests come in, in order, as long as there are a seat and budget; the last
    of them may be cut. A seat is taken by whoever runs or computes a prompt in this step.

    Args:
        requests: Name, tokens of the prompt, tokens to generate. All are there from the beginning.
        seats: Most requests at the same time.
        budget: Most tokens of a step; at least one for each seat.
        aborts: Pairs of a name and the step at whose end it goes away, if it is in ``running`` then.

    >>> first_steps([("a", 5, 2), ("b", 4, 1), ("c", 1, 1)], seats=2, budget=8)
    {'a': 0, 'b': 0, 'c': 2}
    """
    waiting, chunked = list(requests), None
    running: dict[str, int] = {}  # name: tokens to generate
    started: dict[str, int] = {}
    for step in range(400):
        tokens = budget - len(running)
        joining: dict[str, tuple[int, int, int]] = {}  # name: tokens now, tokens lacking, output
        if chunked is not None:
            name, left, output = chunked
            computed = min(left, tokens)
            joining[name] = computed, left, output
            tokens -= computed
        ### BEGIN SOLUTION
        while waiting and tokens > 0 and len(running) + len(joining) < seats:
            name, prompt, output = waiting.pop(0)
            started[name] = step
            joining[name] = min(prompt, tokens), prompt, output
            tokens -= joining[name][0]
        ### END SOLUTION
        chunked = None
        for name, (computed, left, output) in joining.items():
            if computed < left:
                chunked = name, left - computed, output
            else:
                running[name] = output
        running = {name: left - 1 for name, left in running.items() if left > 1}
        for name, last_step in aborts:
            if last_step == step:
                running.pop(name, None)
    return started


# %% check="5.7b"

# %% [markdown] solution="5.7b"
# **Explained.** Who has a seat is in `running` or in `joining`, and nobody is in both. So the number of seats that are taken
# is the sum of two lengths, asked anew for each request. There is no flag that somebody must remember to take back: not when
# a request ends, not when one is aborted, not when a limit is changed.

# %% [markdown]
# ### Judge two fixes
#
# Two of the repairs that were open when this was written: one for this report, one for an earlier report of the same count. Translated to
# our code:
#
# - **A** (after pull request #35609) sets `batch_is_full = False` at the beginning of each step, and changes nothing else.
# - **B** (after pull request #30295) counts the prompt that was cut once, `len(running) + len(joining) >= seats`, and leaves the flag.
#
# Two workloads, each with four seats and a budget of 2,048. First a, b, c and d, with prompts of 3,000, 500, 400 and 300
# tokens, of which c generates 12 and the others 20 each. Then five requests, a to e, of 300 tokens of prompt and 20 of output,
# where b is aborted at the end of step 3. In four to seven sentences: say in which step d starts in the first, by A, by B and
# by your own, and in which step e starts in the second. Which of the two would you merge if you had to choose, and what would you tell its author is still missing?
#
# 6 points, about 10 minutes, marked by hand: 2 for d, 2 for e, 2 for the choice with its reason.

# %% [markdown] answer="5.7" points=6
# d starts in step 2 by A, in step 1 by B; without a flag, in step 1. A looks anew in each step, but counts a's prompt twice
# in step 1, so a seat stays empty for that step. B counts rightly. With the abort, the flag is set in step 0, when e finds
# four seats taken. By A it is gone in the next step, so e starts in step 4; so it does without a flag. By B nobody takes it
# back, since an abort is no finish: e starts in step 20, when the others have had their 20 tokens. I would merge A. What is
# left of the mistake costs a seat in each step in which the last chunk of a prompt is computed; what B leaves costs a seat
# until the next of the others ends, which may be long, and comes back with each new way to lose a seat. A's author should
# count the cut prompt once, and then the flag has no use any more: it is the comparison itself.
#
# **Mark scheme.** d: 1 for step 2 by A, 1 for step 1 by B. e: 1 for step 4 by A and by a count, 1 for step 20 by B. 2 for A
# with a reason that compares what each leaves (one step against a latch), or for B with a demand that the flag go as well.

# %% [markdown] criteria="5.7"
# - The step in which d starts, for each, and why one of them is a step late.
# - The step in which e starts, for each, and who should have taken the flag back.
# - A choice that says what the mistake costs that is left.

# %% [markdown]
# ## 11. It runs in your engine
#
# The scheduler of `parts.get("Scheduler")` has your admission in it. Let it serve text, with your flat steps under it: six
# prompts on three seats, with answers of 2, 7, 3, 5, 1 and 4 tokens, as in section 3. Count flat steps and sampled rows, then do
# the same with your rule of static batching.

# %%
own_flatten = parts.get("flatten_step")
calls: dict[str, Counter[str]] = {}
texts: dict[str, list[str]] = {}


def counting(kind: str) -> EngineParts:
    """Return engine parts: a scheduler of yours, and your flat steps, counted."""
    counts = calls[kind] = Counter()

    def flatten(query_lens: Sequence[int], context_lens: Sequence[int], known_lens: Sequence[int]) -> FlatStep:
        step = own_flatten(query_lens, context_lens, known_lens)
        counts["flatten_step"] += 1
        counts["rows sampled"] += len(step.sample_rows)
        return step

    return EngineParts.of({"Scheduler": parts.get(kind), "flatten_step": flatten})


prompts = [f"{word} is who" for word in ("A request", "A seat", "A block", "A token", "A batch", "A queue")]
greedy = [SamplingParams(temperature=0, max_tokens=length, ignore_eos=True) for length in outputs]
for kind in ("Scheduler", "StaticBatchingScheduler"):
    llm = LLM(parts=counting(kind), max_num_seqs=3)
    texts[kind] = [output.outputs[0].text for output in llm.generate(prompts, greedy)]
    print(f"{kind}: {dict(calls[kind])}")
print(f"the same text from both: {texts['Scheduler'] == texts['StaticBatchingScheduler']}")

# %% [markdown]
# Each flat step is a forward pass of the model. Eight and twelve of them: the figures of section 3, in an engine that writes
# text. Each of the 22 tokens came from one sampled row, and with whom a request shared a batch changed nothing in its text.
# (On a GPU it may change a token: with other requests beside it, sums may be added in another order and rounded otherwise.
# vLLM has a switch against that, `VLLM_BATCH_INVARIANT`, which is off by default.)

# %% claims="Eight and twelve of them: the figures of section 3, in an engine that writes"
assert calls["Scheduler"]["flatten_step"] == 8
assert calls["StaticBatchingScheduler"]["flatten_step"] == 12

# %% claims="Each of the 22 tokens came from one sampled row, and with whom a request shared a batch changed nothing in its text."
assert all(counts["rows sampled"] == sum(outputs) == 22 for counts in calls.values())
assert texts["Scheduler"] == texts["StaticBatchingScheduler"]

# %% [markdown]
# How near does it come to a real server? The course has the log of a run of vLLM 0.19.0 with Llama-3.1-8B on an RTX 4090: 300
# requests that come about six times as fast as they are served, each with its measured times. Your scheduler gets the same
# requests and the same limits, on the virtual clock, whose roofline rests on two guessed efficiencies. Beside it stands the
# scheduler of section 7 that passes over whoever does not fit. (Without the folder of traces the requests are synthetic ones of
# the same kind, and only the two simulations are printed: what is said of vLLM below holds of the measured run.)

# %%
measured_run = load_vllm_requests()
own = {name: parts.get(name) for name in ("Scheduler", "time_per_output_token", "inter_token_latencies")}
print(measured_run.source)
errors = {}
for kind in ("yours", "head skipping"):
    simulated = simulate(
        measured_run,
        measured_run.scheduler_config,
        RooflineCostModel(measured_run.model, measured_run.gpu),
        measured_run.num_blocks,
        measured_run.block_size,
        measured_run.enable_caching,
        scheduler_class=HeadSkippingScheduler if kind == "head skipping" else None,
        parts=SimulationParts.of(own) if kind == "yours" else None,
    )
    summary = simulated.summary()
    means = {name: summary[name] for name in ("ttft_mean", "tpot_mean", "e2e_mean", "makespan")}
    print(f"{kind:<14}", ", ".join(f"{name} {seconds:.3f} s" for name, seconds in means.items()))
    if isinstance(measured_run, MeasuredRun):
        rows = Validation(measured_run, simulated).rows()
        errors[kind] = {name: rows[name][2] for name in means}
        print(" " * 14, "against vLLM:", ", ".join(f"{name} {error:+.1%}" for name, error in errors[kind].items()))

# %% [markdown]
# With the measured run at hand, yours is within five per cent in all four. The other one is far off in three, and its e2e
# hides it: a shorter wait and a slower stream cancel. So look at more than one measure. Nor do these say everything:
# requests queue for most of the run, so TTFT is throughput here, and throughput is the two efficiencies; a scheduler that
# admits only one request in each iteration comes out within six per cent. Ask of each comparison what it can refuse.

# %% claims="With the measured run at hand, yours is within five per cent in all four."
if isinstance(measured_run, MeasuredRun):
    assert max(map(abs, errors["yours"].values())) < 0.05
    assert all(abs(error) > 0.09 for name, error in errors["head skipping"].items() if name != "e2e_mean")
    assert abs(errors["head skipping"]["e2e_mean"]) < 0.05
    assert 5 < simulated.makespan / measured_run[-1].arrival_time < 8

    class OneEach(Scheduler):
        def admit_waiting(self, output: SchedulerOutput, budget: int) -> int:
            num_seats, self.max_num_seqs = self.max_num_seqs, min(self.max_num_seqs, len(self.running) + 1)
            left = super().admit_waiting(output, budget)
            self.max_num_seqs = num_seats
            return left

    one_each = simulate(
        measured_run,
        measured_run.scheduler_config,
        RooflineCostModel(measured_run.model, measured_run.gpu),
        measured_run.num_blocks,
        measured_run.block_size,
        measured_run.enable_caching,
        scheduler_class=OneEach,
    )
    rows = Validation(measured_run, one_each).rows()
    assert max(abs(rows[name][2]) for name in means) < 0.06

# %% [markdown]
# ### Measure: what it gains and costs
#
# Back to section 2. `static` and `continuous` are two results; each has `ttft`, `tpot`, `e2e` and `longest_gap`, an array with
# one value for each request (NaN where there is none), and `makespan`. **Predict** first: does the mean TPOT get better or
# worse, and by what factor?

# %%
predicted_tpot = None  # your prediction: TPOT of continuous over TPOT of static batching

# %% exercise="5.8"
measured = {}
# "TTFT": the mean, static over continuous; "TPOT": the mean, continuous over static; "longest gap, p99":
# the 99th percentile over the requests, continuous over static; "throughput": continuous over static.
# Four plain numbers; do not round.
### BEGIN SOLUTION
measured["TTFT"] = np.nanmean(static.ttft) / np.nanmean(continuous.ttft)
measured["TPOT"] = np.nanmean(continuous.tpot) / np.nanmean(static.tpot)
worst = [np.nanpercentile(outcome.longest_gap, 99) for outcome in (continuous, static)]
measured["longest gap, p99"] = worst[0] / worst[1]
measured["throughput"] = static.makespan / continuous.makespan
### END SOLUTION

# %% check="5.8"
check("5.8", measured)

# %%
for name, factor in measured.items():
    print(f"{name:<18} {factor:6.2f} times")
compare(predicted_tpot, np.nanmean(continuous.tpot) / np.nanmean(static.tpot), "times")

# %% [markdown]
# Where do the seconds go? Take the iterations apart: those that compute tokens of prompts, and those that only decode. And
# compare once more with the first 500 all there at the beginning, so that no arrival sets the pace.


# %%
def take_apart(name: str, outcome: SimulationResult) -> tuple[float, float]:
    """Print iterations with and without prompts, and return the seconds of either."""
    spent = {
        with_prompts: np.array([step.seconds for step in outcome.steps if bool(step.num_prefill_tokens) == with_prompts])
        for with_prompts in (True, False)
    }
    print(f"{name:<22}{len(outcome.steps):>7,} iterations, {outcome.makespan:4.0f} s")
    for with_prompts, seconds in spent.items():
        kind = "with prompts" if with_prompts else "decode only"
        print(f"{kind:>22}{len(seconds):>7,} of {1e3 * seconds.mean():7.1f} ms, {seconds.sum():4.0f} s in all")
    return spent[True].sum(), spent[False].sum()


def at_once() -> list[Request]:
    """Return the first 500 requests, all there at the beginning."""
    return [Request(f"r{i}", range(r.prompt_tokens), r.output_tokens) for i, r in enumerate(requests[:500])]


runs = {"static": static, "continuous": continuous}
runs["static, offline"] = many = run(StaticBatchingScheduler, all_prompts, at_once())
runs["continuous, offline"] = few = run(Scheduler, workload=at_once())
spent = {name: take_apart(name, outcome) for name, outcome in runs.items()}
print(f"offline: {len(many.steps) / len(few.steps):.2f} times fewer iterations, ", end="")
print(f"{many.makespan / few.makespan:.2f} times less time")
slow_tpot = [np.nanmean(relaxed[kind].tpot) for kind in (Scheduler, StaticBatchingScheduler)]
print(f"at half the rate of arrivals, mean TPOT is {slow_tpot[0] / slow_tpot[1]:.2f} times that of static batching")
for name in ("static", "continuous"):
    half, last = np.nanpercentile(runs[name].longest_gap, [50, 99])
    share = np.mean(runs[name].itl > 0.05)
    print(f"{name}: longest gap, median {1e3 * half:.0f} ms, p99 {1e3 * last:.0f} ms; {share:.0%} of all gaps exceed 50 ms")

# %% claims="so that no arrival sets the pace."
assert len(many.steps) / len(few.steps) > 1.5
assert 1.2 < many.makespan / few.makespan < 0.9 * len(many.steps) / len(few.steps)
prompts, decodes = (spent["static, offline"][i] / spent["continuous, offline"][i] for i in (0, 1))
assert 0.9 < prompts < 1.1
assert decodes > 0.95 * len(many.steps) / len(few.steps)
alike = [[step for step in each.steps if not step.num_prefill_tokens] for each in (continuous, static)]
weighted = [sum(s.seconds * s.num_requests for s in steps) / sum(s.num_requests for s in steps) for steps in alike]
assert 1 < weighted[0] / weighted[1] < 1.06
assert np.mean(continuous.longest_gap > 0.1) > 0.7
assert np.mean(continuous.itl > 0.05) < 0.1

# %% [markdown]
# ### Explain what you measured
#
# In six to nine sentences: (a) Why does TTFT fall by a factor that has little to do with the share of idle seats? Give two reasons
# and say which of them depends on how long the requests come. (b) TPOT and the longest gap get worse. Which iterations are to
# blame, and why do most users meet one, although few gaps are long? (c) Offline, the iterations fall by more than the time. Why?
# (d) Throughput under the arrivals of section 2 improves by less than offline. Why, and which of the two would you quote?
#
# 10 points, about 15 minutes, marked by hand: 3 for (a), 3 for (b), 2 for (c), 2 for (d).

# %% [markdown] answer="5.8" points=10
# (a) TTFT falls from 16.3 to 0.20 s, 81 times (synthetic trace: 38.1 to 0.27 s, 139 times). First, a static server's door is
# closed while a batch runs, so who arrives waits for seconds, where the other server admits in the next iteration: at half the
# arrivals, where nobody queues for long, that alone is a factor of 39 (45). Second, the static server serves 3.9 requests a
# second and 4.6 arrive (4.0 and 6.0), so its queue grows as long as they come, and the mean wait would about double with twice as
# many; that makes the rest, a factor of 2 (3). Idle seats decide only that the server is on the wrong side of the arrivals.
# (b) TPOT is 1.49 times (1.74 times) as long. Nearly all of it is prompts that are computed in the iterations in which others
# decode: an iteration that only decodes takes 9.7 ms (10.3), hardly more than the 9.5 of the static server, although more seats
# are busy; one with prompts takes 68 (81), and up to 145 ms with 2,048 tokens. Only 5% (8%) of the gaps exceed 50 ms, but an
# answer has some two hundred gaps, so that most users meet a long one: the median of the longest gap is 145 ms (136), against
# 11. (c) The prompts cost about the same in both, 31 and 33 of 110 and 75 seconds (38 and 40 of 123 and 72). Only the rest, the
# decodes, falls as the iterations do. (d) While the server keeps up, its throughput is the arrivals': it cannot serve who has not
# come. Offline the server is the limit, so that is the figure that compares servers; quoted with the lengths that were used.
#
# **Mark scheme.** (a) 1 for the closed door (a batch against an iteration), 1 for the queue with its two rates, 1 for: the queue
# depends on how long they come, or for figures of both. (b) 1 for prompts in the iterations of those who decode, 1 for figures of
# iterations with and without prompts, 1 for: seldom by gap, usual by user, since an answer has many gaps. That fuller iterations
# read more is true and adds 1 to 5% here; alone it earns nothing. (c) 1 for prompts that cost the same in both, 1 for decodes
# that fall as the iterations do. (d) 1 for arrivals as the limit, 1 for offline, since there
# the server sets the pace and no arrival does.

# %% [markdown] criteria="5.8"
# - (a) Who waits for what, even with no queue; two rates with your figures, and what happens to a queue between them.
# - (b) What an iteration takes with and without prompts, and how often a user meets either.
# - (c) Which seconds fall with the iterations, and which do not.
# - (d) What limits throughput in each case.

# %%
parts.table(lesson=5)

# %% [markdown]
# ## 12. In vLLM
#
# | here | in vLLM 0.33.0 (`vllm/`) |
# |---|---|
# | the loop, `serve` | `EngineCore.step` in `v1/engine/core.py`: schedule, execute, update; aborts that came meanwhile are taken in before the tokens are. By default `step_with_batch_queue` runs instead, which plans ahead |
# | known and computed tokens | `Scheduler.schedule` in `v1/core/sched/scheduler.py`, whose first comment says that there is no decoding phase and no prefill phase |
# | `admit_waiting` | the second loop of the same method, over the waiting requests |
# | `time_per_output_token`, `inter_token_latencies` | `IterationStats` in `v1/metrics/stats.py`, where a request of a single token has a TPOT of 0; the benchmark client in `benchmarks/serve.py`, which leaves it out of the mean |
# | `flatten_step` | `query_start_loc`, `positions` and `logits_indices` in `v1/worker/gpu/input_batch.py`. The latter are the last rows of *all* requests, caught up or not (several of one that has drafts); what comes of a prompt's middle is dropped |
#
# **What production code does beyond this, and why.**
#
# - *Some are passed over after all.* A request that waits for a grammar to be compiled, for keys and values from another
#   machine, for room in the encoder's cache or budget (for images, say), or for a LoRA adapter's turn is skipped and put back
#   in order. The first two wait for something that admitting others does not take away. Not so the other two: whoever is admitted
#   meanwhile may take the room in the encoder's cache, and while requests for the adapters in the batch keep coming, another
#   adapter may wait without end. As a rule, who lacks a seat, token budget or blocks ends admission.
# - *The next step is planned before this one's tokens are known*, so that the GPU need not wait for the scheduler. Lesson 12
#   does it.

# %% [markdown]
# ## 13. Quiz
#
# Practise in the widget first: it says at once what each choice means. Then write your letters into the cell below it,
# which is what counts. There are ten questions, a point each; eight right, 80%, is a pass.

# %% quiz="5"

# %% [markdown]
# ## 14. Interview corner
#
# Answer aloud, in two minutes each, before you unfold what a strong answer holds.

# %% [markdown] interview="5"

# %% [markdown]
# ## 15. Takeaways
#
# - A batch is planned anew for each iteration. Who has ended is gone, who fits comes in, and nobody needs to know how long an
#   answer will be.
# - Three limits let people wait: seats, tokens of this iteration, blocks. Which one binds can be asked, and differs.
# - Admission stops at the first who does not fit, and remembers nothing.
# - Static batching is a rule of admission. Its door is closed for a whole batch, which costs whoever comes meanwhile seconds,
#   even where the server keeps up; where arrivals come faster than it serves, a queue grows besides.
# - TPOT is a mean, ITL is all gaps. To mix prompts into the batch buys TTFT with TPOT, less of it at a lower load; few gaps are
#   long, but most users meet one.
#
# **Lesson 6 needs** this scheduler, at the moment at which memory runs out: a running request needs a block, and there is none.
# Somebody has to give way. Who, and what becomes of what they have computed?

# %% claims="less of it at a lower load"
at_half = slow_tpot[0] / slow_tpot[1]
assert 1 < at_half < 0.85 * np.nanmean(continuous.tpot) / np.nanmean(static.tpot)

# %% [markdown]
# ## Appendix
#
# <details><summary>Guided reading: admission in production (10 minutes)</summary>
#
# In [vLLM](https://github.com/vllm-project/vllm) at tag `v0.33.0`, find the second loop of `schedule` in
# `vllm/v1/core/sched/scheduler.py`, and `step` in `vllm/v1/engine/core.py`.
#
# 1. Which refusals end admission (`break`), and which pass a request over? Section 12 names both kinds.
# 2. Why are aborts taken in between the model's output and `update_from_output`?
#
# *What to find there.* A client may go away while the model runs. If the token that comes is the last of its request, that
# would end as finished and not as aborted; and where another machine is to fetch its keys and values, its blocks would be
# kept for somebody who never comes (#29987). The next plan would not need it: each abort is put into the input queue too,
# which is emptied before a plan is made.
#
# </details>
#
# <details><summary>What older material says differently</summary>
#
# - "Continuous batching is 23 times faster" (a blog post of 2023): that figure compares with static batching *and* includes paged
#   memory. Orca's own 36.9 times is against a static system, at the same latency per token, for a model of 175 billion parameters.
# - "Prefill and decode alternate." In vLLM's first scheduler an iteration computed prompts or decoded. Today both are in one
#   iteration, as they were in Orca, and under one budget of tokens, which Orca had not.
# - "TPOT is the same as ITL." vLLM's server once had its gaps under the name `vllm:time_per_output_token_seconds`; since
#   0.10.2 (#24110, September 2025) they are `vllm:inter_token_latency_seconds`. Look at how many values there are: one for
#   each request or for each gap.
#
# </details>
