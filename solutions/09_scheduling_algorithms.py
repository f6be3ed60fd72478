# %% [markdown]
# # Lesson 9: Who is next
#
# **Time** 3 hours, and a quarter of an hour for a stretch; 45 minutes in all if you only read · **Difficulty** ●○○ to ●●● ·
# **Points** 100, of which 3 are a stretch
#
# When more requests come than the server has room for, a line forms, and somebody decides who is next. Whoever came first?
# The shortest? The most important one, the one that is due, the client who has had least so far? Each of these is a queue of
# a few lines, each is right for somebody, and each hurts somebody else. This lesson is about writing them, and about seeing
# whom they hurt.
#
# **By the end you will have built** the queues of your engine: first come, first served; a heap that lets go of anybody at
# once; five keys for it; a queue that is fair to clients in tokens; an order that prefers what is in the cache. You will be
# able to say what an order of service can do and what it cannot, and to refuse a figure that hides who pays.
#
# **You need** lesson 5 (the loop of the scheduler, TTFT and TPOT), lesson 6 (who gives way), and of lesson 8 that a cached
# beginning need not be computed. You need no GPU.

# %%
from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from autograder.lessons.lesson09_contest import (
    LEVEL,
    longest,
    newest,
    waiting_counts,
)
from autograder.lessons.lesson09_contest import NUM_BLOCKS as CONTEST_BLOCKS
from autograder.lessons.lesson09_contest import workload as contest_workload
from autograder.lessons.lesson09_hunt import Session, SessionQueue
from autograder.notebook import check, compare, explain, quiz, task
from course_lib import parts, viz
from course_lib.engine import LLM, EngineParts, SamplingParams
from course_lib.queueing import MM1
from course_lib.queueing.orders import MM1SJF, MM1SRPT
from course_lib.scheduling import Request, Scheduler, SchedulerConfig, SortedRequestQueue
from course_lib.scheduling.variants.cache_aware import CacheAwareScheduler
from course_lib.scheduling.variants.even_split import EvenSplitScheduler
from course_lib.scheduling.variants.head_skipping import HeadSkippingScheduler
from course_lib.simulation.cost_model import RooflineCostModel
from course_lib.simulation.experiments import Validation
from course_lib.simulation.measured import MeasuredRun, load_vllm_requests
from course_lib.simulation.result import SimulationResult
from course_lib.simulation.simulation_parts import SimulationParts
from course_lib.simulation.simulator import simulate
from course_lib.simulation.single_server import response_times, response_times_with_interruptions
from course_lib.simulation.tournament import play_tournament, share_served_meanwhile
from course_lib.simulation.workload import TraceRequest, labelled, load_azure, load_mooncake
from course_lib.specs import GPUS, MODELS
from course_lib.viz.kit.charts.axes import Axis
from course_lib.viz.kit.charts.curves import Curve, curve_chart

torch.set_num_threads(1)  # the model is small: several threads would wait for each other

# %%
viz.EngineMap(lesson=9)

# %% [markdown]
# ## 1. Warm-up
#
# Three questions on the lessons before. The check is immediate and earns no points.

# %% exercise="9.W1"
tpot_ms = None  # ms
### BEGIN SOLUTION
tpot_ms = 1000 * (4.0 - 2.0) / 40
### END SOLUTION

# %% check="9.W1"
check("9.W1", tpot_ms)
# %% exercise="9.W2"
who_goes = None  # an index
### BEGIN SOLUTION
who_goes = 2
### END SOLUTION

# %% check="9.W2"
check("9.W2", who_goes)
# %% exercise="9.W3"
tokens_to_compute = None  # tokens
### BEGIN SOLUTION
tokens_to_compute = 1000 - 43 * 16
### END SOLUTION

# %% check="9.W3"
check("9.W3", tokens_to_compute)
# %% [markdown]
# ## 2. The problem, seen first
#
# 1,500 conversations come to the server of lesson 6: Llama-3.1-8B on an A100, with only 1,500 blocks of memory for keys and
# values. A request is **in time** if its first token comes within 2 s, and the others at 50 ms each or faster on average;
# requests in time per second are called **goodput**. (The length of each answer is known here as `max_tokens`. No server
# knows it; it flatters those orders that look at it, and we come back to that.)

# %%
conversation = load_azure("conversation")
workload = labelled(conversation[:1500])
cost_model = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])
NUM_BLOCKS = 1500
QUEUES = (
    "FCFSRequestQueue",
    "PriorityRequestQueue",
    "SJFRequestQueue",
    "SRPTRequestQueue",
    "AgeingRequestQueue",
    "EDFRequestQueue",
    "VTCRequestQueue",
    "WFQRequestQueue",
)
OWN = ("Scheduler", *QUEUES)


def run(policy: str | Callable[[], Any] = "fcfs", requests: Any = workload, **options: Any) -> SimulationResult:
    """Serve the requests in an order, on your own parts where there are any."""
    own = SimulationParts.of({name: parts.get(name) for name in OWN})
    return simulate(requests, SchedulerConfig(policy=policy), cost_model, NUM_BLOCKS, parts=own, **options)


def share_in_time(result: SimulationResult) -> float:
    """Return the share of the requests that are in time."""
    return float(np.mean(LEVEL.is_met(result.ttft, result.tpot, result.e2e)))


results = {"fcfs": run("fcfs")}
fcfs = results["fcfs"]
seconds = float(np.ptp(fcfs.arrival_times))
print(f"requests from: {workload.source}")
print(f"they come for {seconds:.1f} s, {len(workload) / seconds:.2f} per second;", end=" ")
print(f"the server is done after {fcfs.makespan:.1f} s, {len(workload) / fcfs.makespan:.2f} per second")
print(f"first come, first served: {share_in_time(fcfs):.0%} are in time")

# %% [markdown]
# More come than can be served, so not everybody can be in time. No order of service makes this server faster. **Predict:** in
# the best order that you can think of, what share of the requests could be in time? The two rates above are enough to
# reason with.

# %%
predicted_share = None  # your prediction, between 0 and 1

# %% [markdown]
# The figure has 300 of these requests. Above is the waiting line at its longest; a bar is a request, as long as its
# tokens. Choose an order, let a few be taken, and watch who is next and why. Below are everybody's times to the first
# token, sorted: a curve for the order you chose, one for first come, first served, and one more to compare with. The ten
# who wait longest in the one you chose are squares that you can point at. Then give the server more blocks.

# %%
viz.policy_race()

# %%
def by_key(key: Callable[[int, int, float], Any]) -> Callable[[], SortedRequestQueue]:
    """Return what makes a queue that sorts by prompt tokens, answer tokens, and arrival."""

    class Queue(parts.get("SortedRequestQueue")):
        """Serves the smallest key first, on the heap of section 4: yours, when you have built it."""

        def key(self, request: Request) -> Any:
            return key(request.num_prompt_tokens, request.max_tokens, request.arrival_time)

    return Queue


results |= {"sjf": run("sjf"), "last come, first served": run(by_key(newest))}
compare(predicted_share, share_served_meanwhile(fcfs), "of all")
for name, result in results.items():
    print(f"{name:<24} {share_in_time(result):.0%} in time")

# %% [markdown]
# While requests come, the server can serve as many as its rate allows: the ratio of the two rates. The others have to
# wait, whoever they are. First come, first served shares the lateness among all, so that most are late. Two very
# different orders come close to the ratio, and one of them, serving whoever came *last*, knows nothing of lengths. (The
# ratio is a mark, no limit. The shortest first may pass it a little, since short ones are cheap; and in a short run any order
# may, since the server was empty at the start.)
#
# So the share that is in time says little about an order. Ask who pays.

# %% claims="Two very"
mark = share_served_meanwhile(fcfs)
assert share_in_time(fcfs) < 0.3
for label in ("sjf", "last come, first served"):
    assert abs(share_in_time(results[label]) - mark) < 0.05

# %% [markdown]
# ## 3. What an order can do
#
# **It needs a line.** Where nobody waits, there is nothing to be ordered. Here are 200 of the requests with all of the GPU's
# blocks:

# %%
for policy in ("fcfs", "sjf"):
    roomy = simulate(workload[:200], SchedulerConfig(policy=policy), cost_model, 30_024)
    print(f"30,024 blocks, {policy:<4} mean TTFT {roomy.ttft.mean():.2f} s")

# %% [markdown]
# Before you tune a policy, look whether anybody waits.
#
# **It does not change the work, but who waits for it.** One job of 90 s and nine of 1 s come together. The long one first:
# it waits 0 s, the others 90, 91, ..., 98 s, on average over all ten 84.6 s. The long one last: 0, 1, ..., 9 s, on average
# 4.5 s. The same work is done in the same 99 s. (In a server nearly the same: another order preempts other requests. And
# section 7 has one that is made to save work.)
#
# Why is the shortest first best for the mean? Take any two neighbours in the line, $x$ before $y$, with $x > y$. Swap them:
# $y$ waits $x$ less, $x$ waits $y$ longer, and nobody else notices. So every such swap shortens the mean wait, until the line
# is sorted. This is called an **exchange argument**.
#
# ### A queue is six calls
#
# A scheduler needs little of a queue, and takes any that does it. (What else it may ask, such as who gives way when memory
# runs out, the base class `RequestQueue` answers.) Where there is nobody to be taken, or to be removed, a queue raises an
# error. Two given functions make it and leave the raising to you: `nobody_waits()` returns an IndexError,
# `not_in_queue(request)` a ValueError.
#
# | call | what it does |
# |---|---|
# | `add(request)` | somebody has arrived |
# | `put_back(request)` | somebody who ran was preempted, and waits again |
# | `peek()` | who is next? The scheduler looks whether there is room |
# | `pop()` | take that one |
# | `remove(request)` | a client has gone away; the request may be anywhere in the line |
# | `len(queue)`, and a loop over it | how many wait; who, in the order of service |
#
# The first queue is the one that vLLM has by default. Its idea is simple; its trouble is `remove`. A busy server has
# thousands waiting, and users close their windows. Each call should take the same time, however long the line is.

# %% exercise="9.1" holes="__init__,add,put_back,peek,pop,remove,__len__,__iter__"

# %% check="9.1"

# %% [markdown] solution="9.1"
# **Explained.** The two ends are easy in a deque (in a list the front is not: all the others move up). The middle is easy
# in neither: it has to be searched for. A dictionary finds a key at once and keeps the order in which keys came, and an
# `OrderedDict` can also put one at the front. (In vLLM 0.33.0 the queue is a `deque`, and when a client goes away the whole
# line is copied without that request.) An empty queue raises an `IndexError` and says so: None would be taken for a request
# somewhere else.

# %% [markdown]
# ## 4. A heap that lets go
#
# Most other orders say by a **key** who is next: the smallest first. A **heap** is a list in which each item is not larger
# than its two children, at places $2i + 1$ and $2i + 2$. So the smallest is at place 0, and to put one in or take the
# smallest out moves items along one path between top and bottom: $O(\log n)$. Python's `heapq.heappush` and `heapq.heappop` do
# that on a list that is a heap, as an empty one is; `heapq.heapify` makes a heap of any list in $O(n)$.
#
# Two things are missing. *Equal keys:* Python compares tuples from the left, so of `(5, request)` and `(5, other)` it
# compares the requests, which have no order: a TypeError, in the middle of a busy night. (It came to pass: vLLM's issue
# #29747 of 2025, when two answers to one prompt had the same priority and time.) *Leaving:* to find somebody in the
# middle of a heap takes $O(n)$.
#
# The cure for both is a number. Each entry of the heap is `(key, number, request)`, and no number is given twice. And a
# table `alive` says which number each waiting request has. Who leaves is taken out of the table only; the entry stays behind
# as a **ghost**, and is thrown away when it comes to the top.
#
# | attribute or call | what it is |
# |---|---|
# | `self.heap` | the entries, ghosts included |
# | `self.alive` | the number of each waiting request, by its id |
# | `self.num_entries` | how many entries were ever made |
# | `self.is_alive(entry)` | whether an entry is of a request that waits |
#
# Three methods make such a queue; `pop` is yours for nothing, since it is `peek` and then taking the top off.
#
# In the failing cases `service_line(obj)` says who waits, in the order of service; `leave_one_by_one(obj, 20)` lets 20
# requests come, and all of them go again, from the middle on; `entries_line(obj)` counts what is in the heap, and
# `ghost_line(obj)` says whether that is more than the docstring of `remove` allows; `top_line(obj)` says whether a ghost
# is on top. `same_or_copies(obj, 2)` says whether two requests that come are the very ones that come out: the scheduler
# writes on them, so a copy would not do.

# %% exercise="9.2a"

# %% check="9.2a"

# %% [markdown] solution="9.2a"
# **Explained.** A counter that only goes up gives each entry a number of its own. It decides between equal keys, in
# favour of who was put in first, so two requests are never compared. `len(self.alive)` would not do: it falls when somebody
# leaves, and then two entries have the same number.

# %% exercise="9.2b"

# %% check="9.2b"

# %% [markdown] solution="9.2b"
# **Explained.** Ghosts on top are taken off for good, all of them: `while`, not `if`. Each entry is taken off once, so on
# average the loop costs nothing beyond what `push` has paid for already. Then the top is alive, or the heap is empty.

# %% exercise="9.2c"

# %% check="9.2c"

# %% [markdown] solution="9.2c"
# **Explained.** To forget the number is enough. But in a line where many leave and few are served, ghosts would pile up.
# When there are over 16 more of them than of the living, the list is filtered and made a heap again, which costs $O(n)$. It
# can only happen again when as many have gone as are left then, and over 16 more: on average each `remove` costs a constant.

# %% [markdown]
# ### What must hold, and what breaks
#
# | what must hold | what a user sees when it does not |
# |---|---|
# | The key of a request does not change while it waits. | The heap serves in an order that nobody has promised (section 9). |
# | Two requests are never compared. | An error, on the day when two keys are equal. |
# | Everybody's key is at last smaller than those of all who come later. | Somebody waits for ever. |
# | A client that comes back has no credit. | It has the server for itself, and the others wait. |
# | `remove` reaches the middle of the line. | The server answers people who have gone. |
#
# ## 5. Five keys
#
# With the heap built, an order of service is one line. Here are five of them. Keys are made of what a request says of itself:
#
# | attribute | what it is |
# |---|---|
# | `priority` | the lower, the more important |
# | `arrival_time`, `deadline` | two moments on the same clock, in seconds; without a deadline it is infinity |
# | `num_prompt_tokens`, `max_tokens` | tokens of the prompt, and those that it may generate at most |
# | `num_output_tokens` | tokens that it has generated so far |

# %% exercise="9.3a"

# %% check="9.3a"

# %% exercise="9.3b"

# %% check="9.3b"

# %% exercise="9.3c"

# %% check="9.3c"

# %% [markdown]
# ### What theory says of them
#
# For a server that does one job at a time, with random arrivals and exponential sizes, the mean time in the system is known
# for each order (lesson 10 derives some of it). At 80% load, in units of a mean job: first come, first served 5; shortest
# first 2.882; shortest rest first, where an arrival may interrupt, 2.353. Your queues, 60,000 jobs:

# %%
rng = np.random.default_rng(0)
arrivals = np.cumsum(rng.exponential(1000 / 0.8, 60_000)).tolist()
sizes = np.maximum(2, rng.exponential(1000, 60_000).round()).astype(int).tolist()
single = {
    "FCFSRequestQueue": (response_times, MM1(0.8, 1.0).mean_response),
    "SJFRequestQueue": (response_times, MM1SJF(0.8, 1.0).mean_response),
    "SRPTRequestQueue": (response_times_with_interruptions, MM1SRPT(0.8, 1.0).mean_response),
}
errors = {}
for name, (serve_jobs, theory) in single.items():
    measured = float(np.mean(serve_jobs(parts.get(name)(), arrivals, sizes))) / 1000
    errors[name] = measured / theory - 1
    print(f"{name:<18} theory {theory:.3f}, yours {measured:.3f} ({errors[name]:+.1%})")

# %% claims="first come, first served 5; shortest"
assert [round(theory, 3) for _, theory in single.values()] == [5.0, 2.882, 2.353]
assert all(abs(error) < 0.05 for error in errors.values())

# %% [markdown]
# ### Who pays
#
# A mean can be halved at somebody's expense. **Predict:** under the shortest first, compared with first come, first served,
# how many times as long does the unluckiest hundredth wait (the p99 of TTFT)?

# %%
predicted_tail = None  # your prediction: p99 with SJF over p99 with FCFS

# %%
results |= {name: run(name) for name in ("srpt", "priority", "ageing", "edf", "vtc")}
row_of = {name: result.summary() for name, result in results.items()}


def print_waits(*names: str) -> None:
    """Print the times to first token of some orders, in seconds."""
    print(f"{'TTFT in s':<26}{'mean':>8}{'median':>8}{'p99':>8}{'longest':>9}")
    for name in names:
        cells = [row_of[name][f"ttft_{what}"] for what in ("mean", "p50", "p99", "max")]
        print(f"{name:<26}{cells[0]:>8.2f}{cells[1]:>8.2f}{cells[2]:>8.1f}{cells[3]:>9.1f}")


print_waits("fcfs", "sjf", "srpt", "last come, first served")
compare(predicted_tail, row_of["sjf"]["ttft_p99"] / row_of["fcfs"]["ttft_p99"], "times")
late = results["sjf"].ttft > 60
tokens = np.array([request.prompt_tokens + request.output_tokens for request in workload])
print(f"who waits more than a minute under SJF: {late.sum()} requests, with", end=" ")
print(f"{np.median(tokens[late]):,.0f} tokens (median); everybody: {np.median(tokens):,.0f}")

# %% [markdown]
# The shortest first cuts the mean by over a third and the median by far more, and more than triples the p99. Those who wait are
# the long ones: for each of them there is always somebody shorter. That is **starvation**: a request may wait as long as
# others keep coming. A dashboard that shows means calls it a success.
#
# SRPT has nothing to show for itself here, since a running request never gives way to a shorter one. It differs from SJF only
# for those who come back after a preemption: it leaves out the tokens that they have generated, though all of these have to
# be computed then.

# %% claims="The shortest first cuts the mean by over a third and the median by far more, and more than triples the p99."
assert row_of["sjf"]["ttft_mean"] < 0.66 * row_of["fcfs"]["ttft_mean"]
assert row_of["sjf"]["ttft_p50"] < 0.05 * row_of["fcfs"]["ttft_p50"]
assert row_of["sjf"]["ttft_p99"] > 3 * row_of["fcfs"]["ttft_p99"]
assert np.median(tokens[late]) > 1.5 * np.median(tokens)
assert 1 < row_of["srpt"]["ttft_mean"] / row_of["sjf"]["ttft_mean"] < 1.1  # "nothing to show for itself"

# %% [markdown]
# ### Ageing
#
# With priorities it is the same: the unimportant wait for as long as important ones come. The cure is to let waiting count.
# At time $t$, a request with priority $p$ that arrived at $a$ has the aged priority
#
# $$p - \frac{t - a}{A}$$
#
# so that every $A$ seconds of waiting make it more important by one. With $A$ = 10 s, at $t$ = 20 s: who has priority 1 and
# came at 0 s has 1 − 2 = −1; who has priority 0 and has just come has 0. The first one is next.
#
# That looks like a heap that has to be sorted again all the time. It has not. Write it down for two requests, and look at
# what they have in common.

# %% exercise="9.3d"

# %% check="9.3d"

# %% [markdown] solution="9.3d"
# **Explained.** $p - (t - a)/A = p + a/A - t/A$, and the last term is the same for all who wait. What is left does not
# change, so the heap stays in order without a clock. Multiplied by $A$ it is a time, $pA + a$: when a request of priority 0
# would have had to come to rank like it. For whole $p$, $A$ and $a$ that is exact, where a division would round, and two that
# tie on paper might not tie in the heap. (A *ratio* of waiting to size, as in "highest response ratio next", does not cancel
# like this. sglang, which has it since 2026, pull request #32911, works it out anew for all who wait; when more than 128
# do, it goes back to first come, first served.)

# %% exercise="9.3e"

# %% check="9.3e"

# %%
labels = {
    "important": np.array([request.priority == 0 for request in workload]),
    "unimportant": np.array([request.priority == 1 for request in workload]),
}
pace = {}
for name in ("fcfs", "priority", "ageing"):
    result = results[name]
    gave_way = np.array([outcome.num_preemptions > 0 for outcome in result.requests])
    for who, mask in labels.items():
        pace[name, who] = 1e3 * np.nanmean(result.tpot[mask & ~gave_way])
        print(f"{name:<9}{who:<12} mean TTFT {result.ttft[mask].mean():6.2f} s; {gave_way[mask].mean():4.0%} gave way,", end=" ")
        print(f"TPOT of the others {pace[name, who]:.1f} ms")
due = np.array([request.deadline for request in workload])
for name in ("fcfs", "edf", "sjf"):
    met = np.mean(results[name].arrival_times + results[name].e2e <= due)
    print(f"{name:<9} deadlines met: {met:.1%}")

# %% [markdown]
# Three of ten requests are unimportant here. (No trace has such labels; they are made by rule, and the printed source says
# so.) Priority serves the important ones almost at once, and lets the others wait for half a minute or more on average. Ageing
# by ten seconds more than halves that, and the important ones pay for it.
#
# Look at TPOT as well. **Priority buys the place in the line, not the pace.** Who runs gets a token in each iteration,
# whatever its priority. (In two issues of vLLM, #11361 of 2024 and #24365 of 2025, people wonder why an important request
# is no faster among others.) What it does say is who gives way when memory runs out: under priority about a third of the
# unimportant ones have to, and the pause counts in their TPOT.
#
# The earliest deadline first meets all deadlines here, half of which are 90 s away or more: there is slack to be traded.
# If *any* order of jobs that are all there meets all deadlines on one server, this one does. But when they cannot all be
# met, it is a poor choice. Four jobs take 4 s each and are due at 4, 7, 10 and 13 s. Earliest first: they end at 4, 8, 12,
# 16 s, and one is in time. Drop the second, and the other three are. It keeps serving who is late already, and makes the
# next one late.

# %% claims="Ageing by ten"
unimportant = {name: results[name].ttft[labels["unimportant"]].mean() for name in results}
important = {name: results[name].ttft[labels["important"]].mean() for name in results}
assert important["priority"] < 1.0 and unimportant["priority"] > 30
assert unimportant["ageing"] < 0.5 * unimportant["priority"]
assert important["ageing"] > 5 * important["priority"]
assert all(abs(pace[name, "important"] / pace[name, "unimportant"] - 1) < 0.06 for name in ("fcfs", "priority", "ageing"))
paused = np.array([outcome.num_preemptions > 0 for outcome in results["priority"].requests])
assert 0.28 < paused[labels["unimportant"]].mean() < 0.36 and paused[labels["important"]].mean() < 0.07

# %% claims="The earliest deadline first meets all deadlines here"
met = {name: np.mean(results[name].arrival_times + results[name].e2e <= due) for name in ("fcfs", "edf", "sjf")}
assert met["edf"] == 1.0 and 0.98 > met["sjf"] > met["fcfs"]

# %% [markdown]
# **Nobody knows the lengths.** Two of our keys read `max_tokens`, which is the true length in this simulation. In earnest users
# set it to the maximum, or not at all. The prompt is known; the answer has to be guessed. Let each guess be off by a random
# factor, $e$ (2.7) or more for a third of them. **Predict:** which share of what the shortest first gains in the mean TTFT
# is left?

# %%
predicted_gain = None  # your prediction, between 0 and 1

# %%
error = np.random.default_rng(9).lognormal(0.0, 1.0, len(workload))
sizes_told = {
    "answers guessed": [r.prompt_tokens + r.output_tokens * by for r, by in zip(workload, error)],
    "prompts alone": [r.prompt_tokens for r in workload],
    "all guessed": tokens * error,
}
gain = row_of["fcfs"]["ttft_mean"] - row_of["sjf"]["ttft_mean"]
left = {"sjf": 1.0}
for name, told in sizes_told.items():
    size_of = {(r.arrival_time, r.prompt_tokens, r.output_tokens): size for r, size in zip(workload, told)}
    row_of[name] = run(by_key(lambda prompt, answer, arrival: size_of[arrival, prompt, answer])).summary()
    left[name] = (row_of["fcfs"]["ttft_mean"] - row_of[name]["ttft_mean"]) / gain
print_waits("fcfs", *left)
compare(predicted_gain, left["answers guessed"], "of the gain")
print("left of the gain:", ", ".join(f"{name} {share:.0%}" for name, share in left.items()))
prompt_share = sum(r.prompt_tokens for r in workload) / tokens.sum()
print(f"prompts are {prompt_share:.0%} of all tokens")

# %% [markdown]
# Guessed answers keep most of the gain. Does that show that bad guesses will do? An experiment shows something only if it
# could have come out otherwise, so look at the other rows. To tell the *prompts alone*, with no guess at all, keeps most of
# it, too. They are most of the tokens, as the last line says, so most of the order was never up to the guesses. Guess the
# *whole* size as badly, and about a third of the gain is lost, or more. So where answers are most of the work, guesses have
# to be better than these; and whoever sells you a predictor should be asked what the prompt alone would do.

# %% claims="Guessed answers keep most of the gain."
assert 0.25 < np.mean(np.abs(np.log(error)) > 1) < 0.4
assert left["answers guessed"] > 0.8 and left["prompts alone"] > 0.8
assert 0.2 < left["all guessed"] < 0.68
assert 0.78 < prompt_share < 0.87 and tokens.max() > 10 * tokens.min()

# %% [markdown]
# ## 6. Fair to clients
#
# All these orders look at requests. Users are not requests: who sends a hundred of them gets a hundred turns under first
# come, first served. What would be fair? That of two clients who both have something waiting, each gets as much *service*,
# whatever the number and size of their requests.
#
# The **virtual token counter** (VTC; Sheng and others, OSDI 2024) keeps an account for each client: what it was served so
# far, in weighted tokens. A token of a prompt counts 1, a generated one 2, as in the paper's experiments. The
# next request comes from the waiting client with the smallest counter. Nobody has to know lengths, since each token is
# charged when it comes.
#
# One rule is easily forgotten. A client that was away for an hour has a small counter. If it kept it, it would be served
# alone until it had caught up with the others. So a client that has nothing waiting and sends something is **lifted**: its
# counter is raised to the smallest counter of the clients that wait, or, when nobody waits, to that of the client taken
# last. Absence is no credit.
#
# ### Your token-fair queue
#
# This exercise has the least scaffold and earns the most. The constructor is given, and what is the same in any queue;
# five methods are yours. In the failing cases a request is named for how it was made, and its client stands beside it.

# %% exercise="9.4" holes="add,lift,least_served,pop,charge"

# %% check="9.4"

# %% [markdown] solution="9.4"
# **Explained.** The order within `add` matters: lift first, while the client is not among those that wait, or it would be
# compared with itself. A counter is only raised, never lowered: who has had much cannot shed it by leaving for a moment.
# When nobody waits, others may still run, and are charged for each token; the level is then that of the client taken
# last. `pop` charges the prompt unless the request was preempted, because the client has paid for it already. And the tie
# by name is there so that a run can be repeated.

# %% exercise="9.5"
answer = {"seed": 1}
# Write answer["step 4"] = "..." and so on, and answer["a"] = ... for each client.
### BEGIN SOLUTION
answer["step 4"] = "a1"
answer["step 5"] = "b1"
answer["step 8"] = "a2"
answer["step 11"] = "c1"
answer["a"] = 19
answer["b"] = 12
answer["c"] = 23
### END SOLUTION

# %% check="9.5"
check("9.5", answer)

# %% [markdown] solution="9.5"
# **Explained.** One number for each client, and one question at each `add`: does it have anything waiting? If it has,
# nothing happens to its counter. If it has not, the counter is raised to the smallest counter of the clients that wait, or
# to that of the client taken last when nobody waits, which may leave it where it is.

# %% [markdown]
# ### The bound, and an adversary
#
# How far can the services of two clients drift apart while both have something waiting? In VTC at most
#
# $$2 \max(w_p L, \; w_q M)$$
#
# with the weights $w_p$ and $w_q$, the longest prompt $L$, and the tokens $M$ that fit into the running batch. It is not 0,
# because who has been admitted stays, and its answer is charged only as it comes. Here $M$ is 23,984 tokens, 1,499 blocks
# of 16. Under first come, first served there is no bound.
#
# Three adversaries try: client a sends 250 requests at once and b has 250 right behind them; a sends long prompts and b
# short ones; b sends a burst, is away for 20 s, and comes back with all the rest. **Predict:** how near to its bound does
# VTC come in the worst of the three?

# %%
predicted_nearness = None  # your prediction, as a share of the bound

# %%
lengths = [(request.prompt_tokens, request.output_tokens) for request in conversation[:500]]


def arriving(sent: list[tuple[str, float, tuple[int, int]]]) -> list[TraceRequest]:
    """Return requests of clients: whose, when, and the tokens of prompt and answer."""
    return [
        TraceRequest(when, *size, client_id=client) for client, when, size in sorted(sent, key=lambda each: each[1])
    ]


by_size = sorted(lengths)
attacks = {
    "a flood in front": arriving([("a" if i < 250 else "b", 1e-3 * i, size) for i, size in enumerate(lengths)]),
    "long against short": arriving([("b" if i < 250 else "a", 0.0, size) for i, size in enumerate(by_size)]),
    "away, then back": arriving(
        [("b", 0.0, size) for size in lengths[:20]]
        + [("a", 0.0, size) for size in lengths[20:300]]
        + [("b", 20.0, size) for size in lengths[300:]]
    ),
}


def gap_of(policy: str, requests: list[TraceRequest], since: float) -> list[tuple[float, float]]:
    """Return (time, service of a less service of b since then), while both have requests waiting."""
    result = run(policy, requests)
    admitted = {client: 0.0 for client in "ab"}
    for request, seconds_to_first in zip(requests, result.ttft, strict=True):
        start = request.arrival_time + seconds_to_first
        admitted[request.client_id] = max(admitted[request.client_id], start)
    curves = result.service_curves()
    a, b = (curves.service[curves.clients.index(client)] for client in "ab")
    both = (curves.times >= since) & (curves.times <= min(admitted.values()))
    difference = (a - b)[both]
    return list(zip(curves.times[both].tolist(), (difference - difference[0]).tolist(), strict=True))


longest_prompt = max(prompt for prompt, _ in lengths)
vtc_bound = 2 * max(1.0 * longest_prompt, 2.0 * 16 * (NUM_BLOCKS - 1))
gaps, drift = {}, {}
for attack, requests in attacks.items():
    since = 20.0 if attack.startswith("away") else 0.0
    for policy in ("fcfs", "vtc"):
        gaps[attack, policy] = gap_of(policy, requests, since)
        values = [gap for _, gap in gaps[attack, policy]]
        drift[attack, policy] = (max(values) - min(values)) / vtc_bound  # between any two moments
        print(f"{attack:<20}{policy:<6}apart by {max(values) - min(values):>9,.0f} weighted tokens,", end=" ")
        print(f"{drift[attack, policy]:>4.0%} of VTC's bound")
compare(predicted_nearness, max(share for (_, policy), share in drift.items() if policy == "vtc"), "of the bound")


def gap_chart(width: float) -> viz.Scene:
    """Draw the first attack over time."""
    curves = [Curve(policy, gaps["a flood in front", policy][::20]) for policy in ("fcfs", "vtc")]
    most = max(time for curve in curves for time, _ in curve.points)
    curves.append(Curve("bound of VTC", [(0.0, vtc_bound), (most, vtc_bound)]))
    axes = Axis("Time", "s"), Axis("a less b", "weighted tokens")
    return curve_chart("A flood in front: how far two clients are apart", *axes, curves, width - 24, height=320).scene()


viz.Picture(gap_chart(viz.WIDE), narrow=gap_chart(viz.NARROW))

# %% claims="Under first come,"
assert all(share <= 0.3 for (_, policy), share in drift.items() if policy == "vtc")
assert drift["a flood in front", "fcfs"] > 2

# %% [markdown]
# Fairness costs no throughput, but it is not free: who sends most waits longer than before. In the 1,500
# requests client b has every sixth one. Under first come, first served both clients wait alike; under VTC b hardly waits,
# and a waits longer.

# %%
of_b = np.array([request.client_id == "b" for request in workload])
for name in ("fcfs", "vtc"):
    ttft = results[name].ttft
    print(f"{name:<5} mean TTFT of a {ttft[~of_b].mean():5.2f} s, of b {ttft[of_b].mean():5.2f} s;", end=" ")
    print(f"all done after {results[name].makespan:.1f} s")

# %% claims="under VTC b hardly waits,"
assert results["vtc"].ttft[of_b].mean() < 0.5 < 10 < results["fcfs"].ttft[of_b].mean()
assert abs(results["fcfs"].ttft[of_b].mean() / results["fcfs"].ttft[~of_b].mean() - 1) < 0.05  # "alike"
assert results["vtc"].ttft[~of_b].mean() > results["fcfs"].ttft[~of_b].mean()
assert abs(results["vtc"].makespan / fcfs.makespan - 1) < 0.02

# %% [markdown]
# ## 7. What is in the cache
#
# Lesson 8 found the beginnings of prompts in the prefix cache. What is cached may be evicted while a request waits. So why not
# serve first who would find most? By now you may guess the danger: who has nothing cached would wait for as long as others
# come who have. So count: whoever has been **passed over** `max_passes` times is next. Write the choice; the counting is done
# for you. `self.num_cached_tokens(request)` says what is in the cache now.
#
# In the failing cases `# a:32/1` beside a step says that a waits, has 32 tokens in the cache, and has been passed over once.
# `cache_tokens(obj, "a", 32)` puts them there, and `choose_among(obj, {"a": 1, "b": 2})` asks which position is chosen
# among these, passed over so often, with nothing cached.

# %% exercise="9.6"

# %% check="9.6"

# %% [markdown] solution="9.6"
# **Explained.** The bound is asked first, for everybody in line and not only for the one in front: somebody who has come
# back may stand there, and those who are due behind it. Of several that are due, the first in line goes. Only then the
# cache decides, and of equals `max` returns the first. With `max_passes` 0 everybody is due at once:
# first come, first served again.

# %%
mooncake = load_mooncake()[:180]
print(f"requests from: {mooncake.source}")
cache_parts = SimulationParts.of({"CacheAwareRequestQueue": parts.get("CacheAwareRequestQueue")})
cached = {}
orders = {"fcfs": Scheduler, "8 passes": CacheAwareScheduler}
for name, make_scheduler in orders.items():
    config = SchedulerConfig(max_num_batched_tokens=8192)
    cached[name] = simulate(
        mooncake, config, cost_model, 30_024, enable_caching=True, scheduler_class=make_scheduler, parts=cache_parts
    )
    row = cached[name].summary()
    print(f"{name:<11} hit rate {cached[name].prefix_hit_rate:5.1%}, TTFT mean {row['ttft_mean']:6.1f} s,", end=" ")
    print(f"p99 {row['ttft_p99']:6.1f} s, longest {row['ttft_max']:6.1f} s")

# %% [markdown]
# Where some may be passed over, more is found, and less has to be computed. So this order does change the work. And nobody
# seems to pay here: neither the mean wait nor the longest one suffers. Now make up two clients that differ: a's requests all
# begin with the same 4,096 tokens, and every eighth request is b's, who shares nothing with anybody. They send for 22 s or so.
# **Predict:** if b may be passed over without end, how many times as long as under first come, first served does it wait, on
# average?

# %%
predicted_patience = None  # your prediction: mean TTFT of b without a bound, over that under FCFS

# %%
shared, comes = tuple(range(8)), np.cumsum(np.random.default_rng(0).exponential(0.1, 200))
two_clients = []
for number, when in enumerate(comes.tolist()):
    own = tuple(range(100 * number + 100, 100 * number + 104))  # a hash for each 512 tokens, as in Mooncake's trace
    is_b = number % 8 == 7
    two_clients.append(
        TraceRequest(when, 2000 if is_b else 4296, 200, own if is_b else (*shared, own[0]), client_id="b" if is_b else "a")
    )
is_of_b = np.array([request.client_id == "b" for request in two_clients])
cached_of = {}
for name, passes in (("fcfs", 0), ("8 passes", 8), ("40 passes", 40), ("no bound", 10**9)):
    cached_of[name] = simulate(
        two_clients,
        SchedulerConfig(max_num_batched_tokens=8192),
        cost_model,
        1000,
        enable_caching=True,
        scheduler_class=partial(CacheAwareScheduler, max_passes=passes),
        parts=cache_parts,
    )
    ttft = cached_of[name].ttft
    print(f"{name:<11} mean TTFT {ttft.mean():5.2f} s: a {ttft[~is_of_b].mean():5.2f} s, b {ttft[is_of_b].mean():5.2f} s;", end=" ")
    print(f"p99 of all {np.quantile(ttft, 0.99):5.1f} s")
patience = {name: result.ttft[is_of_b].mean() for name, result in cached_of.items()}
compare(predicted_patience, patience["no bound"] / patience["fcfs"], "times")

# %% [markdown]
# Without a bound the mean of all is best, a hardly waits, and most of b's requests wait until a has stopped sending. It is
# starvation again, under another name. The bound is a dial: with 8 passes hardly anything is left of the gain, because in a
# line of two dozen everybody has soon been passed over 8 times, and then it is first come, first served. (sglang has such an
# order, "longest prefix match", without a bound while no more than 128 wait. Its pull request #32911 measured it: on
# average TTFT is a third shorter than under first come, first served, and the p99 is 213.3 s instead of 60.5, on its own
# traffic and machines.)

# %% claims="Where some may be passed over, more is found, and less has to be computed."
rates = [result.prefix_hit_rate for result in cached.values()]
waits = [result.ttft.mean() for result in cached.values()]
assert rates[0] < 0.9 * rates[1]
assert waits[1] < 1.05 * waits[0]
assert cached["8 passes"].ttft.max() < 1.05 * cached["fcfs"].ttft.max()

# %% claims="Without a bound the mean of all is best"
means = [result.ttft.mean() for result in cached_of.values()]
tails = [np.quantile(result.ttft, 0.99) for result in cached_of.values()]
assert means == sorted(means, reverse=True) and means[3] < 0.5 * means[0] and means[1] > 0.9 * means[0]
assert tails == sorted(tails) and patience["no bound"] > 2 * patience["fcfs"]
assert cached_of["no bound"].ttft[~is_of_b].mean() < 0.6 and 22 < comes[-1] < 23
assert np.mean((comes + cached_of["no bound"].ttft)[is_of_b] > comes[-1]) > 0.6  # "most of b's requests"
assert 20 < cached_of["fcfs"].summary()["num_waiting_mean"] < 30

# %% [markdown]
# ## 8. Two obvious ideas
#
# ### The budget, split evenly
#
# Another idea of "fair": each request may compute the same number of tokens in each iteration. The share is the budget over
# the number of requests that could be in the iteration. Write it, a method of the scheduler, then see what it does. `self`
# has `requests`, all that are not finished, by id; `max_num_seqs`, the seats; and `max_num_batched_tokens`, the budget of a
# whole iteration.

# %% exercise="9.7"

# %% check="9.7"

# %% [markdown] solution="9.7"
# **Explained.** `min(len(self.requests), self.max_num_seqs)` is how many could be in the batch. The share is rounded down, but
# with more requests than tokens it must not be 0, or nobody would ever get anything. And what is left of the budget is
# still a limit.

# %% [markdown]
# **Predict:** how many times as long is the mean TTFT with it? Below 1 is shorter.

# %%
predicted_split = None  # your prediction: mean TTFT evenly split, over that as before

# %%
half = conversation[:700]
split = SimulationParts.of({"EvenSplitScheduler": parts.get("EvenSplitScheduler")})
backfire = {}
for name, make_scheduler in (("as before", Scheduler), ("evenly split", EvenSplitScheduler)):
    backfire[name] = simulate(half, SchedulerConfig(), cost_model, NUM_BLOCKS, scheduler_class=make_scheduler, parts=split)
    row = backfire[name].summary()
    print(f"{name:<13} TTFT mean {row['ttft_mean']:6.2f} s, p99 {row['ttft_p99']:5.1f} s;", end=" ")
    print(f"gap between tokens, p99 {1e3 * row['itl_p99']:4.0f} ms; {backfire[name].num_preemptions:,} preemptions")
compare(predicted_split, backfire["evenly split"].ttft.mean() / backfire["as before"].ttft.mean(), "times")

# %% [markdown]
# A decode needs one token and not its share, and what it leaves is nobody's. A prompt gets crumbs, so it needs few blocks at
# first, and many more are let in than can be finished. Then all of them grow, the memory runs out, and what was computed is
# thrown away. The gaps between tokens do become shorter, since no iteration computes much; lesson 11 gets that at a lower
# price. And clients are no better off: who sends ten requests has ten shares. (vLLM 0.33.0 can work out such a share, the
# budget over all who run or wait: `long_prefill_token_threshold_adaptive`. There it is no limit: it keeps the limit on long
# prompts from falling below it.)
#
# ### Passing over the head
#
# The first in line does not fit, and a small one behind it would. Admission stops at the head: **head-of-line blocking**.
# Why not let the small one pass?

# %%
backfire["passing over"] = simulate(half, SchedulerConfig(), cost_model, NUM_BLOCKS, scheduler_class=HeadSkippingScheduler)
for name in ("as before", "passing over"):
    row = backfire[name].summary()
    print(f"{name:<13} TTFT mean {row['ttft_mean']:6.2f} s, median {row['ttft_p50']:5.2f} s, p99 {row['ttft_p99']:6.1f} s;", end=" ")
    print(f"{backfire[name].num_preemptions} preemptions, done after {row['makespan']:.0f} s")

# %% [markdown]
# The memory in front of the head was not idle, it was about to become large enough. Now whatever is freed goes to small ones
# at once, and the large one waits until there are none. It is the shortest first in disguise, with its median and its
# tail, but with little of its gain in the mean, if any: a fuller batch runs out of memory more often, and what was computed
# is thrown away. vLLM 0.33.0 stops at a head that finds no blocks.

# %% claims="first, and many more are let in than can be finished."
base, even = backfire["as before"], backfire["evenly split"]
assert even.num_preemptions > 5 * base.num_preemptions
assert even.ttft.mean() > 1.3 * base.ttft.mean()
assert even.summary()["itl_p99"] < 0.8 * base.summary()["itl_p99"]

# %% claims="It is the shortest first in disguise, with its median and its"
skipping = backfire["passing over"].summary()
assert skipping["ttft_p99"] > 2 * base.summary()["ttft_p99"]
assert skipping["ttft_mean"] > 0.85 * base.summary()["ttft_mean"]
assert skipping["ttft_p50"] < 0.5 * base.summary()["ttft_p50"]
assert backfire["passing over"].num_preemptions > 1.5 * base.num_preemptions

# %% [markdown]
# ## 9. Read, then hunt
#
# ### What really happens
#
# Two policies, as they were found. Do not run them yet. Read what they *do*.

# %% shows="autograder.lessons.lesson09_readings:insert_shortest_first"

# %% shows="autograder.lessons.lesson09_readings:weighted_fair"

# %% exercise="9.8"
answer = {"seed": 1}
# Write answer["line"] = ["...", ...], answer["shortest first"] = [...], answer["a is promised"] = ..., answer["a gets"] = ...
### BEGIN SOLUTION
answer["line"] = ["D", "E", "C", "B", "A"]
answer["shortest first"] = ["D", "B", "A", "E", "C"]
answer["a is promised"] = 4
answer["a gets"] = 3
### END SOLUTION

# %% check="9.8"
check("9.8", answer)

# %% [markdown] solution="9.8"
# **Explained.** `place` begins at 0, and stays there when nobody in the line is longer: who is the longest of all is put in
# *front*. With two jobs in line it is right half of the time, enough to pass for a moment. (`place = len(line)` is the
# mend.) The other one works the shares out, with care, and never reads them: `for client in shares` takes the names alone,
# so it is one by one, whatever the weights. Nothing fails and nothing is logged; one has to look at what comes out.

# %% [markdown]
# ### Bug hunt
#
# > **An upstream bug.** `vllm-project/vllm`, pull request #55162 (September 2026, open when this was written; 0.33.0 has the
# > bug). The code below is our own, and makes the same mistake.
#
# A service holds conversations open. A conversation waits until it is its turn to be served, the one whose *latest* message
# came first in front; who writes again while it waits, is due as of the new message. Users report that sometimes
# the wrong one is next. The service's own test, a message to a conversation that stands behind all others, passes.

# %% shows="autograder.lessons.lesson09_hunt:Session"

# %% shows="autograder.lessons.lesson09_hunt:SessionQueue"
queue = SessionQueue()
queue.add("A", 0.0)
queue.add("B", 1.0)
queue.message("B", 2.0)
print(queue.pop(), queue.pop())

# %% [markdown]
# Give a life of this queue in which somebody is served out of turn: a list of at most 50 steps
# `("add", name, time)`, `("message", name, time)` and `("pop",)`. Times do not decrease.

# %% exercise="9.9a"
exposing_life = None  # [("add", "A", 0), ("add", "B", 1), ...]
### BEGIN SOLUTION
exposing_life = [("add", "A", 0), ("add", "B", 1), ("message", "A", 10), ("pop",), ("pop",)]
### END SOLUTION

# %% check="9.9a"
check("9.9a", exposing_life)

# %% [markdown] solution="9.9a"
# **Explained.** The session lies in the heap while its `arrival` changes. Nothing tells the heap. A, with 10 now, stays on
# top of B, with 1, and is taken first. A message to the one that stands last changes nothing in the order, and that is all
# that the service's own test does.

# %% [markdown]
# Mend it. Write the whole service as a function of its steps, in any way you like; of sessions whose latest messages came
# at the same moment, the first by name is next.


# %% exercise="9.9b"
def serve(steps: list[tuple[Any, ...]]) -> list[str]:
    """Return who is served by each ``("pop",)``, in order.

    Args:
        steps: ``("add", name, time)``, a session with its first message; ``("message", name,
            time)``, a further one of a session that waits; ``("pop",)``, the next one is served,
            and no longer waits. Times do not decrease.

    >>> serve([("add", "A", 0), ("add", "B", 1), ("message", "B", 2), ("pop",), ("pop",)])
    ['A', 'B']
    """
    ### BEGIN SOLUTION
    waiting: dict[str, float] = {}
    served = []
    for step in steps:
        if step[0] == "pop":
            name = min(waiting, key=lambda each: (waiting[each], each))
            del waiting[name]
            served.append(name)
        else:
            waiting[step[1]] = step[2]
    return served
    ### END SOLUTION


# %% check="9.9b"

# %% [markdown] solution="9.9b"
# **Explained.** With a dictionary and `min` there is no heap that could be out of order, at $O(n)$ for each `pop`. With a
# heap three ways are right: take the session out, change it, put it in, as the pull request does, at $O(n)$ for each message,
# since the heap is searched for it; call `heapify` after each change, which costs $O(n)$ as well; or leave the old entry as a
# ghost and push a new one, as your heap of section 4 would, at $O(\log n)$. To push it once more, and no more than that, is
# wrong: it is served twice. Your heap keeps the *key* that a request had when it came: it can never be out of order, but it
# would be out of date.

# %% [markdown]
# ## 10. An order of your own
#
# Now write an order yourself. Played are 400 requests with lengths of the trace, which come about one and a half times to
# twice as fast as they can be served; the grader draws others. Your function sees the tokens of the prompt, the tokens that
# are declared for the answer, and the time of arrival, and returns the key: the smallest is served first.
#
# What counts is your **place** between first come, first served (0) and the ratio of section 2 (1 there, and beyond it), by
# the share in time. But that alone rewards starving: last come, first served has a place near 1. So there is a penalty. The
# **tail** is your p99 of TTFT over that of first come, first served. Up to 1.5 the place counts in full, from there on
# less, and from 1.75 on nothing at all. Four of the five points are for what the place is worth then: all four from 0.6 of
# what our own answer is worth on; the check says where that is. Who earns any of them has the fifth for a tail of at most
# 1.5. Not much scaffold: you have the idea of ageing, and all of these tables.


# %% exercise="9.10"
def my_key(prompt_tokens: int, max_tokens: int, arrival_time: float) -> float:
    """Return the key of a request; the smallest is served first.

    Args:
        prompt_tokens: Tokens of the prompt.
        max_tokens: Tokens that it will generate.
        arrival_time: When it came, in seconds.

    Returns:
        A number, an int or a float, or a tuple of numbers.

    >>> my_key(100, 100, 1.0) < my_key(100, 100, 500.0)
    True
    """
    ### BEGIN SOLUTION
    is_large = prompt_tokens + max_tokens > 1500
    return arrival_time + 30.0 * is_large
    ### END SOLUTION


# %% check="9.10"
check("9.10", my_key)

# %% [markdown] solution="9.10"
# **Explained.** Two ideas meet here. Size has to count, or nobody is in time; waiting has to count, or somebody starves.
# `tokens + r * arrival_time` does both: with $r$ = 100, a second of waiting is worth 100 tokens, and it earns a part of the
# points or all, as the requests fall. The answer here does better by asking less of size: most requests are served in the
# order of arrival, and only the large ones, which take about half of the memory over time (the table below prints how many
# they are), stand 30 s further back. Everybody is reached at last, since nobody is moved back by more than 30 s. There are
# better ones.

# %%
entrants = {
    "sjf": parts.get("SJFRequestQueue"),
    "last come": by_key(newest),
    "longest first": by_key(longest),
    "100 tokens a second": by_key(waiting_counts),
    "yours": by_key(my_key),
}
played = play_tournament(entrants, contest_workload(1), LEVEL, CONTEST_BLOCKS)
print(played)
played_tokens = np.array([request.prompt_tokens + request.output_tokens for request in contest_workload(1)])
is_large = played_tokens > 1500
print(f"\nmean TTFT in s of those with more than 1,500 tokens ({is_large.mean():.0%}), and of the others:")
for name, result in played.results.items():
    print(f"{name:<20} {result.ttft[is_large].mean():6.1f} {result.ttft[~is_large].mean():6.1f}")

# %% claims="An order may pass the ratio by a good deal"
held = played_tokens * np.array([request.output_tokens for request in contest_workload(1)])
assert 0.25 < is_large.mean() < 0.42 and 0.45 < held[is_large].sum() / held.sum() < 0.6
rows = played.rows()
assert rows["yours"]["tail"] < 1.5 < 1.7 < rows["last come"]["tail"]
own, first = played.results["yours"].ttft, played.results["fcfs"].ttft
assert own[is_large].mean() > 1.5 * first[is_large].mean() and own[~is_large].mean() < 0.3 * first[~is_large].mean()

# %% [markdown]
# An order may pass the ratio by a good deal: with 400 requests it counts that the server was empty when the first came, and
# that the last ones are served in a batch that is no longer full.

# %% [markdown]
# ### Explain what you measured
#
# In five to eight sentences, with figures from the table above or from sections 5 and 10, with their units: (a) Whom does
# your order hurt, compared with first come, first served, and by how much? How do you know? (b) Last come, first served
# has more in time than yours, perhaps. Why would you not run it? (c) Nobody knows `max_tokens` in earnest. What would you
# do to your key, and what do you expect to lose?
#
# 5 points, about 8 minutes, marked by hand: 2 each for (a) and (b), 1 for (c).

# %% [markdown] answer="9.10" points=5
# **(a)** Mine hurts those with more than 1,500 tokens: they stand behind all smaller ones that come within 30 s after them.
# Their mean TTFT under the table says so: 42.8 s, where it was 26.6 s under first come, first served (without the folder of
# traces: 26.2 and 13.6 s); the others wait 6.6 s and not 29.8 (1.2 and 14.2). The p99 of all is 1.1 times what it was (1.3
# times), and the mean over all falls, so neither would have told me. **(b)** It gives up whoever has waited for 2 s, and
# serves them when nobody else is left: its p99 is 2.0 times that of first come, first served (3.0 times), 115 s (86 s). A
# user who waits sees others being served, and the longer one has waited the less hope there is. Goodput does not see it,
# since late is late. **(c)** I would take the prompt alone, which is known: in section 5 it keeps 89% of the gain (87%). A
# guess of the answer adds little there. My threshold asks only whether a request is large, which is easier still, but where
# answers are most of the tokens a bad guess costs more: with the whole size guessed, 67% of the gain was left (36%).
#
# **Mark scheme.** (a) 1 for who, by size or class and not only "some", 1 for a figure with its unit. (b) 1 for those who
# are given up, 1 for a figure of the tail. (c) 1 for something that is known beforehand, with what is lost.

# %% claims="with figures from the table above or from sections 5 and 10"
told = [times[mask].mean() for mask in (is_large, ~is_large) for times in (first, own)]
told += [rows["yours"]["tail"], rows["last come"]["tail"]]
real = not conversation.is_synthetic
assert [round(float(each), 1) for each in told] == (
    [26.6, 42.8, 29.8, 6.6, 1.1, 2.0] if real else [13.6, 26.2, 14.2, 1.2, 1.3, 3.0]
)
assert round(rows["last come"]["ttft_p99"]) == (115 if real else 86)
assert [round(100 * left[name]) for name in ("prompts alone", "all guessed")] == ([89, 67] if real else [87, 36])

# %% [markdown] criteria="9.10"
# - (a) A class of requests, and a figure that shows it: p99, longest wait, or a mean of that class alone.
# - (b) What becomes of a request that has missed its 2 s, and a figure for it.
# - (c) A key made of what is known on arrival, and evidence from section 5.

# %% [markdown]
# ## 11. Weights (stretch)
#
# Some clients pay for more. **Weighted fair queueing** imagines a server that serves all clients at once, each at a rate in
# proportion to its weight, and serves for real in the order in which the requests would be done there. A request begins
# when the client's one before it ends, or now, if that is later; it takes its tokens over the weight. "Now" is
# **virtual time**: how far the imagined server has come. Here it is told by the end of the request that was taken last
# (self-clocked fair queueing; Golestani, 1994).
#
# A has weight 2, b weight 1, and both send two requests of 20 tokens. In virtual time a1 would be done at 10, a2 at 20; b1
# at 20, b2 at 40.
# Unlike VTC, it has to know the length beforehand.

# %% exercise="9.11"

# %% check="9.11"

# %% [markdown] solution="9.11"
# **Explained.** `max` is what makes it fair: without the virtual time a client that was idle would begin in the past, and be
# served alone until it has caught up, the lift of VTC in another form. Without `last_finish` all requests of a client would
# begin at once, and who sends more would get more.

# %% [markdown]
# ## 12. It runs in your engine
#
# Your queues at work in the engine, in text. A chat client and a batch client send to an engine with few seats; the batch
# came first. Only the queue differs. **Predict:** do the texts differ?

# %%
predicted_same = None  # your prediction: True if all texts are the same

# %%
calls: Counter[str] = Counter()


def counting(name: str) -> EngineParts:
    """Return engine parts of yours, with a queue that counts."""
    mine = {each: parts.get(each) for each in OWN}

    class Counted(mine[name]):
        """Your queue, counting."""

        def add(self, request: Request) -> None:
            calls["add"] += 1
            super().add(request)

        def pop(self) -> Request:
            calls["pop"] += 1
            return super().pop()

        def put_back(self, request: Request) -> None:
            calls["put_back"] += 1
            super().put_back(request)

        def charge(self, generating: Any) -> None:
            generating = list(generating)
            calls["tokens charged"] += len(generating)
            super().charge(generating)

    return EngineParts.of({**mine, name: Counted})


greedy = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
sent = [(f"batch {i}", "batch", "A request that waits " * 3) for i in range(6)]
sent += [(f"chat {i}", "chat", f"Question {i}") for i in range(3)]
texts, served, counted = {}, {}, {}
for policy, name in (("fcfs", "FCFSRequestQueue"), ("sjf", "SJFRequestQueue"), ("vtc", "VTCRequestQueue")):
    calls.clear()
    llm = LLM(parts=counting(name), policy=policy, max_num_seqs=2, num_blocks=16)
    for request_id, client, prompt in sent:
        llm.add_request(request_id, prompt, greedy, client_id=client)
    done = {}
    while llm.has_unfinished_requests():
        done |= {output.request_id: output.outputs[0].text for output in llm.step() if output.finished}
    texts[policy], served[policy], counted[policy] = done, list(done), dict(calls)
    print(f"{policy:<5} {' > '.join(served[policy])}\n      {counted[policy]}")
compare(predicted_same, texts["fcfs"] == texts["sjf"] == texts["vtc"], "")

# %% [markdown]
# An order of service changes when a text comes, and here never what it says. Each of the nine was added once and taken at least
# once, by the queue that you have written. (On a GPU the last digits of a sum may depend on who shares the batch, and where two
# tokens are nearly as likely, they decide. `VLLM_BATCH_INVARIANT=1` is vLLM's answer for those who cannot have that.)

# %% claims="An order of service changes when a text comes, and here never what it says."
assert texts["fcfs"] == texts["sjf"] == texts["vtc"]
assert all(each["add"] == 9 <= each["pop"] == 9 + each.get("put_back", 0) for each in counted.values())
assert counted["vtc"]["tokens charged"] >= 9 * 12
assert served["sjf"].index("chat 2") < 6 > served["vtc"].index("chat 2") and served["fcfs"][-1] == "chat 2"

# %% [markdown]
# Second, on the clock of a real server: the run of vLLM that lesson 6 used, 300 requests on an RTX 4090, now with your
# queue in your scheduler. (Without the folder of traces the requests are synthetic ones, and there is nothing measured to
# compare with.)

# %%
measured_run = load_vllm_requests()
simulated = simulate(
    measured_run,
    measured_run.scheduler_config,
    RooflineCostModel(measured_run.model, measured_run.gpu),
    measured_run.num_blocks,
    measured_run.block_size,
    measured_run.enable_caching,
    parts=SimulationParts.of({name: parts.get(name) for name in OWN}),
)
print(measured_run.source)
if isinstance(measured_run, MeasuredRun):
    for name, (measured_seconds, yours, error) in Validation(measured_run, simulated).rows().items():
        if name.endswith(("mean", "makespan")):
            print(f"{name:<10} measured {measured_seconds:8.3f} s, yours {yours:8.3f} s, {error:+.1%}")

# %% claims="queue in your scheduler."
if isinstance(measured_run, MeasuredRun):
    rows = Validation(measured_run, simulated).rows()
    assert all(abs(rows[name][2]) < 0.05 for name in ("ttft_mean", "tpot_mean", "e2e_mean", "makespan"))

# %% [markdown]
# Third, in the figure: the race of section 2 once more, with your own order in it.

# %%
viz.policy_race(conversation[:300], {"sjf": parts.get("SJFRequestQueue"), "yours": by_key(my_key)})

# %%
parts.table(lesson=9)

# %% [markdown]
# ## 13. In vLLM
#
# | here | in vLLM 0.33.0, `vllm/v1/` |
# |---|---|
# | `FCFSRequestQueue` | `FCFSRequestQueue` in `core/sched/request_queue.py`: a `deque` |
# | `SortedRequestQueue`, `PriorityRequestQueue` | `PriorityRequestQueue` there: a heap of the requests themselves |
# | `remove` | `remove_requests` there, called by `finish_requests` of the scheduler: both copy the whole line, even for one request |
# | the key, and the number between equals | `Request.__lt__` in `request.py`: priority, arrival, id, and at last `id(self)` |
# | `put_back` | `prepend_request`; under priority it is `add_request`, since the key decides the place |
# | who stops at the head | the `break` in `schedule`, `core/sched/scheduler.py`, where `allocate_slots` finds no blocks |
# | `POLICIES` | `policy` in `config/scheduler.py`: "fcfs" or "priority", and no other |
#
# **What production code does beyond this, and why.**
#
# - Who cannot start for a reason of its own, such as a grammar that is still being compiled or an adapter (LoRA) that
#   has no place in this step, is passed over (`skip_request`) and put back in front for the next step.
# - An order of your own is a scheduler of your own: `--scheduler-cls`.
# - Fairness between clients and deadlines can be made in front of the engine, in a gateway that sees all replicas: an
#   engine sees only its own line.
# - A line may be too long to be worth joining. With `--max-num-queued-reqs` or `--max-num-queued-tokens` (both off by default)
#   a server refuses early, with a 503, and a client can try elsewhere.
#
# ## 14. Quiz
#
# Practise in the widget first: it says at once what each choice means. Then write your letters into the cell below
# it, which is what counts. There are ten questions, a point each; eight right, 80%, is a pass.

# %% quiz="9"

# %% [markdown]
# ## 15. Interview corner
#
# Answer aloud, in two minutes each, before you unfold what a strong answer holds.

# %% [markdown] interview="9"

# %% [markdown]
# ## 16. Takeaways
#
# - An order needs a line, and says who waits. It makes no capacity, unless it saves work, as the cache-aware one does.
# - A heap entry is key, number, request: the number decides ties and tells the living from ghosts. A key does not change
#   while it lies in the heap.
# - The shortest first is best for the mean, and the longest pay. Ageing costs one line: $pA + a$, without a clock.
# - Priority buys the place in the line and safety from preemption, not the pace.
# - Fair to clients is fair in tokens. Who comes back is lifted: absence is no credit. While both wait, the gap is at most
#   $2 \max(w_p L, w_q M)$.
# - Under overload almost anything beats first come, first served on goodput. Look at the tail, and at who is in it.
#
# **Lesson 10 needs** the line itself: how long it is at a given load, why it explodes near 100%, and how many servers keep it
# short.

# %% [markdown]
# ## Appendix
#
# <details><summary>Guided reading: a queue of some 200 lines (20 minutes)</summary>
#
# Open `vllm/v1/core/sched/request_queue.py` and `vllm/v1/request.py` at tag `v0.33.0` in
# [the repository](https://github.com/vllm-project/vllm).
#
# 1. Why does `Request.__lt__` end in `id(self) < id(other)`?
# 2. What does `prepend_request` do in a priority queue, and what follows for a request that was preempted?
# 3. What do `remove_requests` of the two queues cost for $k$ of $n$ requests, and what would yours cost?
# 4. In `__iter__` of the priority queue, why is the heap copied?
#
# *What to find there.*
#
# 1. A heap needs an order between any two. Ids are nearly always different (also those of several answers to one prompt:
#    `0_ID`, `1_ID`, in `parallel_sampling.py`); where they are not, something has to decide all the same.
# 2. It adds it like any other: its place is where its key says, perhaps behind those who are equal and older.
# 3. Both go through the whole line once, $O(n)$. Yours: $O(k)$ on average.
# 4. To see the order of service one has to pop, and that would empty the queue.
#
# </details>
#
# <details><summary>What older material says differently</summary>
#
# - "Shortest job first is optimal." For the mean wait, on one server, if all are there and lengths are known. It says
#   nothing about the longest.
# - "Fair means a round robin." Among requests of one size. Here the longest have more than ten times the tokens of the
#   shortest.
# - "vLLM supports fair scheduling." It has first come, first served and priority; the rest is research and gateways.
# - "Ageing needs a timer that raises priorities." It needs a key with the time of arrival in it.
# - "A high priority request preempts at once." In V1 it goes to the front of the line (lesson 6).
#
# </details>
