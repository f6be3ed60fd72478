# %% [markdown]
# # Lesson 10: How long the line is
#
# **Time** 3 hours; 45 minutes in all if you only read · **Difficulty** ●○○ to ●●● · **Points** 100
#
# Lesson 9 chose who is next in the line. This lesson asks how long the line is: at which load people begin to wait, for how
# long, how many servers keep the wait short, and what bursts do. A hundred years of queueing theory answer that in formulas
# of one line. They are right, each under its conditions, and the most important thing to know of them is what happens
# where a condition does not hold: your engine breaks one of them by design.
#
# **By the end you will have built** Little's law on an event log; the p99 of one server, the wait where sizes differ, and the
# share that waits before thousands of servers; a simulator that takes ten million customers in a second or two and confirms
# the mean waits; arrivals in bursts; a load generator that keeps to its rate; and a planner that finds the fewest GPUs for a
# target. You will be able to say when each of them may be believed.
#
# **You need** lesson 1 (what an iteration reads), lesson 5 (what a batch shares, TTFT), lesson 9 (orders of service). Of
# statistics: mean, variance, the exponential distribution. You need no GPU.

# %%
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from autograder.lessons.lesson10_hunt import SECONDS_PER_SEND, mend_a, mend_b, rate_of, suspect_send_times
from autograder.lessons.lesson10_measure import COUNT
from autograder.notebook import check, compare, explain, quiz, task
from course_lib import parts, viz
from course_lib.engine import LLM, SamplingParams
from course_lib.queueing import GG1, MD1, MG1, MM1, FloatArray, MMc, erlang_c, inspected_gap, servers_for_wait
from course_lib.queueing.logs import LittlesLaw, number_in_system, time_average
from course_lib.scheduling import SchedulerConfig
from course_lib.simulation.cost_model import RooflineCostModel
from course_lib.simulation.demand import service_demand
from course_lib.simulation.result import SimulationResult
from course_lib.simulation.simulation_parts import SimulationParts
from course_lib.simulation.simulator import simulate
from course_lib.simulation.workload import (
    ClosedLoop,
    TraceRequest,
    Workload,
    at_times,
    load_azure,
    poisson_arrivals,
)
from course_lib.specs import GPUS, MODELS
from course_lib.viz.kit.charts.axes import Axis
from course_lib.viz.kit.charts.chart import grid, scene_of
from course_lib.viz.kit.charts.curves import Curve, curve_chart, stepped
from course_lib.viz.kit.charts.gantt import Span, gantt
from course_lib.viz.kit.layout import SLIM, WIDE

torch.set_num_threads(1)  # the model is small: several threads would wait for each other

# %%
viz.EngineMap(lesson=10)

# %% [markdown]
# ## 1. Warm-up
#
# Three questions on the lessons before. The check is immediate and earns no points.

# %% exercise="10.W1"
weights_ms = None  # ms
### BEGIN SOLUTION
weights_ms = 1000 * 16.1 / 2039
### END SOLUTION

# %% check="10.W1"
check("10.W1", weights_ms)
# %% exercise="10.W2"
iteration_ms = None  # ms
### BEGIN SOLUTION
iteration_ms = 7.9 + 20 * 0.05
### END SOLUTION

# %% check="10.W2"
check("10.W2", iteration_ms)
# %% exercise="10.W3"
mean_wait = None  # s
### BEGIN SOLUTION
mean_wait = (0 + 6 + 7) / 3
### END SOLUTION

# %% check="10.W3"
check("10.W3", mean_wait)
# %% [markdown]
# ## 2. The problem, seen first
#
# One GPU, an A100 with Llama-3.1-8B, serves conversations. The cell says what one of them asks of it: how long it takes when
# it has the GPU for itself, and which part of that is its **own** work, which the GPU does for nobody else: computing its
# prompt, and reading its own keys and values. The rest is reading the weights, once for each token of the answer but the
# first, which comes with the prompt.

# %%
azure = load_azure("conversation")
conversations = azure[:COUNT]
cost_model = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["a100-80gb"])
NUM_BLOCKS = 30_024
SECONDS_ALONE, SECONDS_OWN = service_demand(conversations, cost_model)

print(f"requests from: {conversations.source}")
print(f"alone on the GPU, one takes {SECONDS_ALONE.mean():.2f} s on average;", end=" ")
print(f"{SECONDS_OWN.mean():.3f} s of that are its own")

# %% [markdown]
# Two of them arrive per second, at random moments. Together they bring more than three seconds of "alone" into each second.
# **Predict:** how many times as long as alone does one take, on average? (Infinity is an answer too: `float("inf")`.)

# %%
predicted_ratio = None  # your prediction, from 1

# %% [markdown]
# The second prediction is for a plain queue: one server, one customer after the other, arrivals and service times at
# random. It is busy for 80% of the time, and one waits four service times on average. Traffic grows by an eighth, so that
# it is busy for 90%. **Predict:** how many service times does one wait now?

# %%
predicted_wait = None  # your prediction, in service times

# %% [markdown]
# Now turn the dial. Above is the work that is left, over a time of 60 services; as you turn it up the same customers come,
# only closer together. Below are the mean wait and the wait that 99% do not exceed (the **p99**), on an axis on which each
# step is ten times the last. Lines are formulas, dots are a simulator, yours as soon as you have built it. Then choose other
# sizes. Leave the arrivals for section 7, and the engine for section 10.

# %%
dial = viz.queueing_dial()
dial

# %%
own_parts = SimulationParts.of({name: parts.get(name) for name in ("Scheduler", "FCFSRequestQueue")})


@cache
def serve(rate: float, gpu: RooflineCostModel = cost_model, num_blocks: int = NUM_BLOCKS) -> SimulationResult:
    """Serve the conversations with your engine, at random moments, so many per second."""
    arriving = at_times(conversations, poisson_arrivals(rate, len(conversations)))
    return simulate(arriving, SchedulerConfig(), gpu, num_blocks, parts=own_parts)


two_per_second = serve(2.0)
stretched = two_per_second.e2e.mean() / SECONDS_ALONE.mean()
compare(predicted_ratio, stretched, "times as long as alone")
compare(predicted_wait, MM1(0.9, 1.0).mean_wait, "service times")

# %% [markdown]
# If you said infinity, or three or four times, you took the GPU for a server of one customer at a time. It is a bus: the trip is
# shared, and a passenger costs the others the time at the door. Two per second bring only two times the *own* work, a fifth
# of each second or a little less. That slows everybody down by about a fifth, and no more.
#
# And the plain queue: there is an eighth more work, and half of the slack that there was. So nine, not 4.5.
#
# The lesson goes from the plain queue to the bus. First one needs to count.

# %% claims="fifth, and no more."
assert 1.1 < stretched < 1.3
assert 0.1 < 2 * SECONDS_OWN.mean() < 0.22 and 2 * SECONDS_ALONE.mean() > 3
assert np.allclose([MM1(0.8, 1.0).mean_wait, MM1(0.9, 1.0).mean_wait], [4, 9])

# %% [markdown]
# ## 3. Little's law
#
# Six requests, in seconds. Each bar is one of them; below is how many are present.
#
# | request | arrives | leaves | is there for |
# |---|---|---|---|
# | 1 | 0 | 4 | 4 |
# | 2 | 3 | 9 | 6 |
# | 3 | 5 | 11 | 6 |
# | 4 | 6 | 15 | 9 |
# | 5 | 16 | 19 | 3 |
# | 6 | 17 | 20 | 3 |

# %%
six_arrivals, six_departures = [0, 3, 5, 6, 16, 17], [4, 9, 11, 15, 19, 20]
moments, present = number_in_system(six_arrivals, six_departures)
stays = {
    f"request {number}": [Span(*stay, "running", of=("request", str(number)))]
    for number, stay in enumerate(zip(six_arrivals, six_departures), 1)
}
present_curve = Curve("present", stepped(list(zip(moments.tolist(), present.tolist())), until=20))


def six_requests(width: float) -> viz.Scene:
    """Draw who is there, and how many."""
    time, inner = Axis("Time", "s", low=0, high=20), width - 24
    bars = gantt("Who is there", time, stays, inner)
    curve = curve_chart("How many", time, Axis("Requests"), [present_curve], inner, 110)
    return scene_of(grid([bars, curve], 1), "Six requests", "The area of the bars, and the area under the curve")


viz.Picture(six_requests(WIDE), narrow=six_requests(SLIM))

# %% [markdown]
# Count the area of the bars: 4 + 6 + 6 + 9 + 3 + 3 = 31 request-seconds. Count the area under the curve: it must be the same
# 31, since each request adds one to the curve for as long as it is there. Now divide by the 20 s that the log lasts.
#
# - By the curve: 31 / 20 = 1.55 requests are present, averaged **over time**. Call it $L$.
# - By the bars: 31 / 20 = (6 / 20) · (31 / 6): requests per second, $\lambda$ = 0.3/s, times the mean time that a request is
#   there, **over requests**, $W$ = 5.167 s.
#
# $$L = \lambda W$$
#
# is **Little's law** (1961). It is one area, counted twice. So it does not matter who is served first, how arrivals come,
# how long requests are, or what the box is: a server, its waiting line alone, the seats of a batch. All that it needs is
# that the window holds requests as a whole. And one of the three numbers can be had from the other two. In the run of vLLM on
# an RTX 4090 that lessons 6 and 9 measured against, 1.634 requests per second stayed for 86.58 s each: 141 in the system,
# whatever a dashboard says.
#
# Mind the averages. $L$ averages over time, $W$ over requests. The plain mean of the counts above is another number, since
# it takes each piece of time for equally long. (`time_average` weights each by how long it lasts.)

# %% exercise="10.1"

# %% check="10.1"

# %% [markdown] solution="10.1"
# **Explained.** `number_in_system` checks the log, and gives the curve: the moments at which it changes, and the number from
# each of them on. The last number is 0 and lasts for nothing, so it is left out. The window is from the first moment to the
# last, which are the earliest arrival and the latest departure, in whatever order the log is. To work out $L$ as
# $\lambda W$ gives the same number, that is the law; but then a mistake in either would never be noticed.

# %%
own_littles_law = parts.get("littles_law")
measured_law = own_littles_law(
    two_per_second.arrival_times, two_per_second.arrival_times + two_per_second.e2e
)
print(measured_law)
print(f"λ · W = {measured_law.arrival_rate * measured_law.mean_response:.6f}")

# %% [markdown]
# (The rate is a little below the two per second that were asked for: 600 random gaps came to a little more than 300 s, and
# the window goes on until the last one has left.)

# %% claims="(The rate is a little below the two per second that were asked for"
assert 1.8 < measured_law.arrival_rate < 1.95 and np.ptp(two_per_second.arrival_times) > 300

# %% claims="is **Little's law** (1961)."
assert own_littles_law(six_arrivals, six_departures) == LittlesLaw(0.3, 31 / 6, 1.55)
assert np.isclose(measured_law.mean_in_system, measured_law.arrival_rate * measured_law.mean_response, rtol=1e-9)

# %% [markdown]
# ### Averages of what?
#
# Two more that look harmless. You measure the speed of an answer in tokens per second. One answer has 90 tokens in 9 s, one
# has 100 tokens in 1 s. Is the mean speed $(10 + 100)/2 = 55$? A look at the clock shows 10 for nine seconds and 100 for one:
# 19 tokens per second, and that is what was generated: 190 tokens in 10 s. A mean over requests gives each *request* a vote.
#
# And: buses come every 10 minutes on average. You come at a random moment; how long is the gap you look into? Longer, unless
# all are equal: a gap is met in proportion to its length. Its mean is $E[X^2]/E[X]$, the mean of the gaps weighted by their
# length. For gaps of 1 and 9 that is $(1 + 81)/(1 + 9) = 8.2$, where the plain mean is 5. This is the **inspection
# paradox**. Azure's requests for code:

# %%
code = load_azure("code")
code_gaps = np.diff([request.arrival_time for request in code])
long_ones = code_gaps[code_gaps > 10]
print(f"{code.source}\n{len(code_gaps):,} gaps, {code_gaps.mean():.3f} s on average")
print(f"the gap that one looks into at a random moment: {inspected_gap(code_gaps):.1f} s")
print(f"{len(long_ones)} gaps are longer than 10 s, and hold {long_ones.sum() / code_gaps.sum():.0%} of all time")

# %% [markdown]
# A dashboard that looks once a minute sees an idle service most of the time. The requests come in the rest of the time, and
# meet each other there. Both are right, each about its own average.

# %% claims="A dashboard that looks once a minute sees an idle service most of the time."
assert inspected_gap(code_gaps) > 50 * code_gaps.mean()
assert long_ones.sum() > 0.5 * code_gaps.sum() and len(long_ones) < 0.02 * len(code_gaps)

# %% [markdown]
# ## 4. One server
#
# ### M/M/1: slack sets the wait
#
# Names first. $\lambda$ requests arrive per second. A server that is busy finishes $\mu$ per second, so a service takes
# $1/\mu$ on average. The **utilisation** or load is $\rho = \lambda/\mu$, the share of time that the server is busy; it has
# to be below 1. In "M/M/1" the first M says that arrivals are memoryless: a **Poisson process**, in which each moment is as
# likely as any other, and gaps are exponential. The second says that service times are exponential. And there is 1 server.
#
# | $\rho$ | 0.5 | 0.8 | 0.9 | 0.95 |
# |---|---|---|---|---|
# | mean wait, in services: $\rho/(1-\rho)$ | 1 | 4 | 9 | 19 |
# | mean response, wait and service: $1/(1-\rho)$ | 2 | 5 | 10 | 20 |
# | p99 of the response, in services | 9.2 | 23.0 | 46.1 | 92.1 |
#
# It is no cliff; it is one over the slack. Each time that you halve the slack, the response doubles, and the wait more
# than doubles. And there is no load at which nobody waits.
#
# Why $1/(1-\rho)$? A request that arrives finds $L$ others, on average; that a Poisson arrival sees what an average over time
# sees is a theorem (PASTA: Poisson arrivals see time averages). Each of them takes a service, also the one being served, for
# something memoryless has as much to go as if it were new; and so does it itself. With $W$ for the response, in services,
# $W = L + 1$. Little says $L = \lambda W = \rho W$. So $W = \rho W + 1$, and $W = 1/(1-\rho)$.
#
# The mean is not what users complain about. In M/M/1 the response is itself exponential, with the rate $\mu - \lambda$:
#
# $$P(\text{response} > t) = e^{-(\mu - \lambda)t}$$
#
# Write the method of `MM1` that turns this around; the object has `self.lam` and `self.mu`. (What is imported above a stub
# is what the library's own answer uses. `require_quantile` refuses arguments; `help(require_quantile)` says how
# it is called. You may refuse them yourself.)

# %% exercise="10.2a"

# %% check="10.2a"

# %% [markdown] solution="10.2a"
# **Explained.** A share $q$ is done by $t$ if $e^{-(\mu-\lambda)t} = 1 - q$, so $t = -\ln(1-q)/(\mu-\lambda)$. For the p99 that
# is 4.6 means, at any load: $\ln 100$ = 4.6. (`log1p(-q)` is the same as `log(1 - q)`, and exact where $q$ is tiny.)

# %% [markdown]
# ### M/G/1: what is left of a service
#
# Ten services: nine of 1 s, one of 11 s, so 2 s on average. They follow each other without a pause, and you come at a random
# moment. **Predict:** how many seconds are left of the one in progress, on average?

# %%
predicted_rest = None  # your prediction, in seconds

# %%
compare(predicted_rest, (9 * 1**2 + 11**2) / 10 / (2 * 2), "s")

# %% [markdown]
# Hardly any service time is exponential. Let sizes have any distribution (G, for general), and ask again what an arrival
# waits for. With the probability $\rho$ somebody is being served, and what is *left* of that service has to be waited for; call its
# mean $R$. And then for those in the line; with $W$ for the wait alone, these are $\lambda W$, by Little for the line alone. A
# whole service each, together $\lambda W \cdot E[S] = \rho W$:
#
# $$W = \rho R + \rho W$$
#
# What is $R$? Half a service, one would say. But an arrival falls into a long service more often than into a short one, as
# with the buses. The service that it falls into has the mean $E[S^2]/E[S]$, and half of that is left. The spread of a
# distribution is told by its **squared coefficient of variation**, SCV: variance over mean squared. It is 0 if all are equal
# and 1 for the exponential. Since $E[S^2]$ is variance plus mean squared, that is all one needs to know.
#
# For the ten services, half of the mean is 1 s. But $E[S^2]$ = (9 + 121)/10 = 13, so $R$ = 13/4 = 3.25 s: more than a mean
# service, since most of the time it is the long one that runs. Write $R$, then $W$: an `MG1` has `self.lam`, `self.mean`,
# `self.scv` and `self.rho`. (Both are properties of it. Write them as the stubs are, without `@property`; you get a property
# back, which is read without brackets: `self.mean_residual_service`.)

# %% exercise="10.2b"

# %% check="10.2b"

# %% exercise="10.2c"

# %% check="10.2c"

# %% [markdown] solution="10.2c"
# **Explained.** $W(1 - \rho) = \rho R$. So the wait has two factors: $\rho/(1-\rho)$, the load, and $R = E[S](1 + \text{SCV})/2$,
# the sizes. With exponential sizes $R = E[S]$, as it must be for something memoryless: however long it has lasted, as much is
# still to come. With equal sizes it is half of that. Pollaczek found the formula in 1930, Khinchine in 1932.

# %% [markdown]
# Your formula for requests like these on a server that takes one at a time, with the time that each takes alone:

# %%
mean_alone = float(SECONDS_ALONE.mean())
scv_alone = float(SECONDS_ALONE.var()) / mean_alone**2
own_mg1 = parts.get("MG1")
print(f"E[S] = {mean_alone:.2f} s, SCV = {scv_alone:.2f}")
for rate in (0.1, 0.2, 0.3, 0.4):
    one_by_one = own_mg1(rate, mean_alone, scv_alone)
    print(f"{rate:.1f} per second: load {one_by_one.rho:.0%}, mean wait {one_by_one.mean_wait:5.2f} s")

# %% [markdown]
# A server that takes one request at a time is in trouble at one request in two seconds. That is why your engine batches.
#
# ## 5. Many servers
#
# Four servers at 80% load. Each with a line of its own: four times M/M/1, and one waits 4 services. With **one line** for
# all four, nobody waits beside an idle server. **Predict:** how many services does one wait then?

# %%
predicted_pooled = None  # your prediction, in services

# %% [markdown]
# In such a queue (M/M/c, $c$ servers) one waits if all servers are busy, with a probability $C$. Erlang worked it out in
# 1917, for telephone lines, in two steps. First let nobody wait: who finds all lines busy is lost. Let $a = \lambda E[S]$ be
# the traffic: as many servers would be busy on average if there were enough. Its unit is the erlang. A share $B(c)$ is lost;
# textbooks write it as
#
# $$B(c) = \frac{a^c/c!}{\sum_{n=0}^{c} a^n/n!}$$
#
# With $c$ = 300 and $a$ = 290, $a^c$ has 739 digits and $c!$ has 615, though $B$ is 0.03; no 64-bit float holds them. Do not
# compute what cancels. Add the servers one by one:
#
# $$B(0) = 1, \qquad B(n) = \frac{a\,B(n-1)}{n + a\,B(n-1)}$$
#
# By hand, $a$ = 1: $B(1)$ = 1/(1 + 1) = 0.5, and $B(2)$ = 0.5/(2 + 0.5) = 0.2.

# %% exercise="10.3a"

# %% check="10.3a"

# %% [markdown] solution="10.3a"
# **Explained.** Every intermediate value is a probability, so nothing overflows, and nothing cancels, since all terms are
# positive: 5,000 servers are as exact as two. A logarithm of each factor (`math.lgamma`) works too, at the price of a sum of
# exponentials. A recursion in Python ends at a thousand servers.

# %% [markdown]
# The second step: let people wait. Who is not lost keeps servers busy for others, so more find all of them busy than were
# lost before:
#
# $$C = \frac{B}{1 - \rho\,(1 - B)}, \qquad \rho = a/c$$
#
# With two servers and $a$ = 1: 0.2/(1 − 0.5 · 0.8) = 1/3.

# %% exercise="10.3b"

# %% check="10.3b"

# %% [markdown] solution="10.3b"
# **Explained.** The formula means nothing at $\rho \ge 1$, where the line only grows, and would return something all the same:
# beyond $\rho = 1$ a probability above 1, and with it a negative wait. So refuse first. The mean wait follows: who waits, waits
# $1/(c\mu - \lambda)$ on average, where $c\mu$ is the pace of all servers together: $W = C/(c\mu - \lambda)$.

# %%
print("at 80% load: who waits, and the mean wait in services")
print("servers   share that waits   one line   a line each")
for servers in (1, 2, 4, 16, 64, 256):
    share_that_waits = parts.get("erlang_c")(servers, 0.8 * servers)
    one_line = share_that_waits / (servers - 0.8 * servers)
    print(f"{servers:>7}{share_that_waits:>19.3%}{one_line:>11.4f}{MM1(0.8, 1.0).mean_wait:>14.1f}")
compare(predicted_pooled, MMc(3.2, 1.0, 4).mean_wait, "services")

# %% [markdown]
# Pooling is the cheapest capacity there is: four servers wait a fifth as long, and with hundreds hardly anybody waits at a
# load at which a single one is miserable. That is an argument for one line in front of all replicas, where these have
# no seat free, and for large machines. It also says that a "safe utilisation" of 80% depends on how many servers you have.

# %% claims="Pooling is the cheapest capacity there is: four servers wait a fifth as long"
assert 0.18 < MMc(3.2, 1.0, 4).mean_wait / MM1(0.8, 1.0).mean_wait < 0.2
assert erlang_c(256, 204.8) < 0.001

# %% [markdown]
# ## 6. Simulate it
#
# Formulas have conditions; a simulation has fewer. One recursion does it (Lindley, 1952). A customer waits as long as the one
# in front did, plus that one's service, minus the time that went by between the two arrivals; or not at all:
#
# $$W_n = \max(0,\; W_{n-1} + \underbrace{S_{n-1} - (A_n - A_{n-1})}_{\text{step}_n})$$
#
# Do it by hand once. Write down the running sums of the steps too (the first customer's is 0), and compare.

# %% exercise="10.4a"
answer = {"seed": 1}
# Write answer["sums"] = [0, ...] and answer["waits"] = [0, ...].
### BEGIN SOLUTION
answer["sums"] = [0, 3, -1, 3, 5, 7]
answer["waits"] = [0, 3, 0, 4, 6, 8]
### END SOLUTION

# %% check="10.4a"
check("10.4a", answer)

# %% [markdown] solution="10.4a"
# **Explained.** Where the sum reaches a new low, the server was idle; from there on the wait is how far the sum stands above
# that low. So no recursion is needed: the wait is the sum, minus the least that it, or 0, has been so far.

# %% [markdown]
# A loop in Python takes some tenths of a microsecond for each customer, arrays a few hundredths of that. What is given checks
# the arguments and sees to several servers. The part for one server is yours. You have seen in the sums by hand how to do
# without a loop; `np.cumsum` and `np.minimum.accumulate` are running sums and running minima.

# %% exercise="10.4b" steps="One server"

# %% check="10.4b"

# %% [markdown] solution="10.4b"
# **Explained.** The whole queue in two running operations: `sums` are the running sums of the steps with a 0 in front, and
# the waits are `sums` minus their running minimum; with the 0 in front, the least so far is at most 0 by itself. That much is
# as right for a million customers. The library starts afresh every 8,192 of them, from the last wait, so that the arrays
# stay in the CPU's cache. (Sums that fall without end also lose digits of the waits, which are their differences. At minus a
# million some ten digits are left, which is enough.)

# %% [markdown]
# ### It confirms the formulas
#
# Ten million customers. How exact is a mean wait? Waits are no independent draws: if you wait long, so does the one behind
# you. So the run is cut into 20 blocks, whose means are nearly independent, and the **standard error** of the whole is the
# standard deviation of the 20 means over $\sqrt{20}$.

# %%
own_simulate_queue = parts.get("simulate_queue")
rng = np.random.default_rng(10)


def confirmed(name: str, theory: float, services: Any, servers: int = 1, rate: float = 0.8, count: int = 2_500_000) -> float:
    """Print theory and simulation of a mean wait; return how many standard errors lie between them."""
    arrivals = np.cumsum(rng.exponential(1 / rate, count))
    waits = own_simulate_queue(arrivals, services(count), servers)
    blocks = np.array_split(waits, 20)
    error = np.std([block.mean() for block in blocks], ddof=1) / np.sqrt(20)
    away = (waits.mean() - theory) / error
    print(f"{name:<34} theory {theory:.4f}, simulated {waits.mean():.4f} ± {error:.4f} ({away:+.1f})")
    return float(away)


def hyperexponential(count: int) -> FloatArray:
    """Return times with mean 1 and SCV 4: a mixture of short and long exponentials."""
    share = (1 + np.sqrt(0.6)) / 2
    means = np.where(rng.random(count) < share, 1 / (2 * share), 1 / (2 * (1 - share)))
    return rng.exponential(means)


distances = [
    confirmed("M/M/1, exponential sizes", MM1(0.8, 1.0).mean_wait, lambda n: rng.exponential(1.0, n)),
    confirmed("M/D/1, equal sizes", MD1(0.8, 1.0).mean_wait, np.ones),
    confirmed("M/G/1, SCV 4", own_mg1(0.8, 1.0, 4.0).mean_wait, hyperexponential),
    confirmed("M/M/1 at half the load", MM1(0.4, 1.0).mean_wait, lambda n: rng.exponential(1.0, n), rate=0.4),
    confirmed("M/M/4, one line", MMc(3.2, 1.0, 4).mean_wait, lambda n: rng.exponential(1.0, n), 4, 3.2, 400_000),
]

# %% [markdown]
# In brackets is the distance in standard errors. All are within three.

# %% claims="All are within three."
assert all(abs(away) < 3 for away in distances)

# %% [markdown]
# **How long to simulate?** Longer than one thinks, near full load. The same queue for 100,000 customers, twenty times:

# %%
for rho in (0.5, 0.8, 0.9, 0.95):
    means = []
    for seed in range(20):
        draw = np.random.default_rng(seed)
        arrivals, services = np.cumsum(draw.exponential(1 / rho, 100_000)), draw.exponential(1.0, 100_000)
        means.append(own_simulate_queue(arrivals, services).mean())
    print(f"load {rho:.0%}: mean wait {MM1(rho, 1.0).mean_wait:5.1f} services, one run is off by {np.std(means) / np.mean(means):.1%}")

# %% [markdown]
# At 95% a run of a hundred thousand requests is off by about a tenth. Whoever benchmarks a server near
# its limit with a thousand requests measures luck.

# %% claims="At 95% a run of a hundred thousand requests is off by about a tenth."
assert 0.08 < np.std(means) / np.mean(means) < 0.12

# %% [markdown]
# ## 7. Bursts
#
# Real arrivals need not be Poisson. The simplest measure of it is the **coefficient of variation** (CV) of the gaps, standard
# deviation over mean: 1 for Poisson, 0 for a metronome, above 1 for bursts. A **gamma distribution** can have any CV. With
# shape $k$ and scale $s$ its mean is $ks$ and its CV is $1/\sqrt{k}$.

# %% exercise="10.5"

# %% check="10.5"

# %% [markdown] solution="10.5"
# **Explained.** From the CV the shape, $k = 1/\text{CV}^2$; then from the mean the scale, $s = \text{CV}^2/\text{rate}$. A CV of 2
# has the shape 1/4: most gaps are tiny and a few are long, and that is a burst. vLLM's benchmark client does the same and calls
# the shape *burstiness*; a **lower** burstiness is burstier.

# %% [markdown]
# One server at 80% load, exponential sizes, and now gaps with a CV of 4 in place of 1. **Predict:** how many times as long does
# one wait, at the same load?

# %%
predicted_burst = None  # your prediction

# %% [markdown]
# There is no exact formula for bursty arrivals that needs the CV alone. There is an approximation (often called Kingman's, or
# VUT for variation, utilisation, time):
#
# $$W \approx \frac{c_a^2 + c_s^2}{2} \cdot \frac{\rho}{1-\rho} \cdot E[S]$$
#
# with the SCV of the gaps and that of the sizes. Kingman proved that it is right as the load nears 1 (1961), and an upper
# bound, which is another formula (1962). At 80% load, exponential sizes, two million customers:

# %%
own_gamma_arrivals = parts.get("gamma_arrivals")
wait_at = {}
for cv in (0.5, 1.0, 2.0, 4.0):
    arrivals = own_gamma_arrivals(0.8, cv, 2_000_000, 1)
    wait_at[cv] = own_simulate_queue(arrivals, rng.exponential(1.0, len(arrivals))).mean()
    model = GG1(0.8, 1.0, cv**2, 1.0)
    print(f"CV {cv:.1f}: simulated {wait_at[cv]:6.2f} services, VUT {model.mean_wait:6.2f}, never above {model.kingman_bound:6.2f}")
compare(predicted_burst, wait_at[4.0] / wait_at[1.0], "times")

# %% [markdown]
# Bursts cost as much as load does: at a CV of 4 one waits eight times as long or more, at the same utilisation. (The dial at
# the top shows other loads: choose a CV there.) And it gets worse: the formula knows how gaps are *spread*, not in which
# *order* they come. Below, Azure's code requests go through one engine: as they came, with the same gaps in another order,
# and as a Poisson process of the same rate. **Predict:** how many times as long is the mean TTFT as they came, compared with
# the Poisson process?

# %%
predicted_bursty = None  # your prediction

# %%
burst_mix = code[:2000]
burst_gaps = np.diff([request.arrival_time for request in burst_mix], prepend=0.0)
arrivals_of = {
    "as they came": [request.arrival_time for request in burst_mix],
    "gaps shuffled": np.cumsum(np.random.default_rng(0).permutation(burst_gaps)),
    "Poisson": poisson_arrivals(len(burst_mix) / burst_gaps.sum(), len(burst_mix)),
}
burst_ttft, busy = {}, {}
for name, times in arrivals_of.items():
    result = simulate(at_times(burst_mix, times), SchedulerConfig(), cost_model, NUM_BLOCKS)
    burst_ttft[name], busy[name] = result.ttft.mean(), result.steps.column("seconds").sum() / result.makespan
    print(f"{name:<14} busy for {busy[name]:.0%} of the time; mean TTFT {burst_ttft[name]:6.2f} s,", end=" ")
    print(f"p99 {np.quantile(result.ttft, 0.99):6.2f} s")
compare(predicted_bursty, burst_ttft["as they came"] / burst_ttft["Poisson"], "times")

# %% [markdown]
# The same requests at the same rate, and a factor of tens between the first line and the last. If you have only a rate, you do
# not know the wait. Nor do you if you know how busy the GPU is: in bursts requests share their iterations, and it is idle for
# most of the time; one by one they keep it busy for longer, and a first token takes less than 0.3 s on average.
#
# And the order of the gaps? One shuffle is one draw, and proves little. An engine is too slow for a thousand of them, but your
# `simulate_queue` is not. As a stand-in take one server with each request's own work as its service:

# %%
burst_own = service_demand(burst_mix, cost_model).own
draw = np.random.default_rng(0)
in_order = own_simulate_queue(np.cumsum(burst_gaps), burst_own).mean()
shuffled = [own_simulate_queue(np.cumsum(draw.permutation(burst_gaps)), burst_own).mean() for _ in range(1000)]
as_bad = np.mean(np.array(shuffled) >= in_order)
print(f"as they came: mean wait {in_order:.1f} s; half of the shuffles: up to {np.median(shuffled):.1f} s")
print(f"{as_bad:.1%} of a thousand shuffles are as bad as the order in which they came")

# %% [markdown]
# With Azure's own trace hardly any shuffle is as bad: there the order counts as well, and it is in no formula above. (Without
# the folder of traces each gap is drawn by itself, and the order is luck; so some shuffles are worse.) Test with arrivals as
# they are.

# %% claims="The same requests at the same rate, and a factor of tens between the first line and the last."
assert burst_ttft["as they came"] > 20 * burst_ttft["Poisson"]
assert burst_ttft["gaps shuffled"] > 20 * burst_ttft["Poisson"]
assert 0.3 < busy["as they came"] < 0.4 and 0.3 < busy["gaps shuffled"] < 0.4 and busy["Poisson"] > 0.6
assert burst_ttft["as they came"] > 10 and burst_ttft["Poisson"] < 0.3

# %% claims="With Azure's own trace hardly any shuffle is as bad"
assert as_bad > 0.01 if code.is_synthetic else as_bad < 0.01

# %% [markdown]
# ### What must hold, and what breaks
#
# | what must hold | what one sees when it does not |
# |---|---|
# | The load is below 1, on the work that is nobody else's. | Waits depend on how long one has watched. |
# | The window holds whole requests. | $L$ is not $\lambda W$. |
# | $L$ is averaged over time, $W$ over requests. | Two dashboards disagree, and both are right. |
# | Arrivals do not wait for the server. | The overload is hidden by the test (section 11). |
# | Gaps are those of a Poisson process. | Ten seconds of waiting and more, at a GPU that is busy for a third of the time. |
# | Nothing else runs out: memory, seats. | A queue where the formula has none. |
#
# ## 8. A load generator
#
# > **An upstream bug.** `vllm-project/vllm`, issue #21104 (July 2025), mended by pull request #21108. The code below is our
# > own, and makes the same mistake.
#
# A benchmark client was told to send 200 requests per second, 10,000 in all, and the server was found to do 183.52 per
# second. It looked a little slow. Here is a generator like that, on a clock of its own: to sleep and to work moves `now` on.

# %% shows="autograder.lessons.lesson10_hunt:suspect_send_times"

# %% [markdown]
# It sends 183.52 per second if building and sending a request takes 0.449 ms. **Predict:** the plan asks for 400 per second.
# How many does it send?

# %%
predicted_rate = None  # your prediction, requests per second

# %%
asked = [200, 400, 600]
got = {rate: rate_of(suspect_send_times([1 / rate] * 2000, SECONDS_PER_SEND)) for rate in asked}
compare(predicted_rate, got[400], "per second")
print({rate: round(sent, 1) for rate, sent in got.items()})

# %% [markdown]
# Show that it is wrong beyond excuse. Give a rate that *could* be reached, by somebody who needs 0.449 ms for a request, and
# of which this one sends less than three quarters.

# %% exercise="10.6a"
exposing_rate = None  # requests per second
### BEGIN SOLUTION
exposing_rate = 1000
### END SOLUTION

# %% check="10.6a"
check("10.6a", exposing_rate)

# %% [markdown] solution="10.6a"
# **Explained.** From one send to the next it takes the gap *and* the work, $1/\lambda + w$. It sends $1/(1/\lambda + w)$, which
# is three quarters of $\lambda$ when $w$ is a third of the gap, at 742/s. Above $1/w$ = 2,227/s it would be late whatever it
# does. At 200/s: $1/(0.005 + 0.000449)$ = 183.5, from which we have the 0.449 ms. At 1,000/s it says 690. In pull request
# #21209, which brings the repair to an older script of vLLM's, 688 per second were measured before and 772 after: a model has
# one cause, and a client has others besides.

# %% [markdown]
# Now mend it. The gaps are the plan: request $n$ is due at their running sum.

# %% exercise="10.6b"

# %% check="10.6b"

# %% [markdown] solution="10.6b"
# **Explained.** When a request is *due* depends on the plan alone; only when it is *sent* depends on what the generator can
# do. A delay is caught up with in the next long gap, and does not move the whole rest of the plan. vLLM 0.33.0 does it like
# that: it adds the gaps up beforehand, and sleeps until the start plus that sum.

# %% [markdown]
# ### Judge two fixes
#
# Two colleagues have mended it before you.

# %% shows="autograder.lessons.lesson10_hunt:mend_a"

# %% shows="autograder.lessons.lesson10_hunt:mend_b"

# %%
fixes = {"suspect": suspect_send_times, "fix A": mend_a, "fix B": mend_b, "yours": parts.get("send_times")}
judged = {}
for cv in (1.0, 3.0):
    plan = np.diff(own_gamma_arrivals(200.0, cv, 20_000, 1), prepend=0.0)
    plan *= 100 / plan.sum()  # 20,000 requests in 100 s
    due = np.cumsum(plan)
    for name, generate in fixes.items():
        sent = np.array(generate(plan.tolist(), SECONDS_PER_SEND))
        sent_gaps = np.diff(sent)
        judged[cv, name] = rate_of(sent), sent_gaps.std() / sent_gaps.mean(), (sent - due).max(), (due - sent).max()
        row = judged[cv, name]
        print(
            f"plan with CV {cv:.0f}, {name:<8} {row[0]:6.1f}/s, gaps sent with CV {row[1]:.2f};", end=" "
        )
        print(f"latest send {1e3 * row[2]:7.1f} ms after, earliest {1e3 * max(row[3], 0):6.1f} ms before it is due")

# %% [markdown]
# In four to six sentences: what is wrong with fix A, and what with fix B? Give for each the kind of plan that shows it, and a
# figure from the table with its unit. Say what somebody would wrongly conclude about a server that was tested with it.
#
# 5 points, about 7 minutes, marked by hand: 2 for each fix, 1 for the wrong conclusion.

# %% [markdown] answer="10.6" points=5
# **A** pays for the work of a send out of the next gap only. A gap that is shorter than 0.449 ms cannot pay, and the rest of
# the debt is forgotten. Bursty plans show it: with a CV of 3 it sends 190.2/s in place of 200, and the last requests come five
# seconds late; with Poisson it is 199.2/s, which looks right. **B** has the right rate, 200.0/s, on both plans. But it shortens
# long gaps to pay for short ones, so requests leave before they are due, up to 181 ms with a CV of 3, and the gaps that it
# sends have a CV of 2.68. It shows in the times or in the spread, not in the rate. Whoever tests with either sends milder
# bursts than were asked for, and concludes that the server copes with bursts that it has not seen.
#
# **Mark scheme.** A: 1 for gaps shorter than the work, or debt that is forgotten; 1 for a figure of the bursty plan. B: 1 for
# times that are not those of the plan although the rate is right; 1 for a figure (CV, or early sends). 1 for a conclusion about
# the server: waits too short, a capacity that is too high, or too low with the suspect.

# %% [markdown] criteria="10.6"
# - Fix A: which gaps cannot pay, and a figure for the plan with CV 3.
# - Fix B: what is right although the fix is wrong, and what is not, with a figure.
# - What one would believe of the server, and in which direction it is wrong.

# %% claims="Two colleagues have mended it before you."
assert [round(judged[1.0, name][0], 1) for name in fixes] == [183.5, 199.2, 200.0, 200.0]
assert round(judged[3.0, "fix A"][0], 1) == 190.2 and judged[3.0, "fix A"][2] > 5
assert round(judged[3.0, "fix B"][1], 2) == 2.68 and 0.18 < judged[3.0, "fix B"][3] < 0.182
assert judged[3.0, "yours"][2] < 0.02 and abs(judged[3.0, "yours"][3]) < 1e-9

# %% [markdown]
# ## 9. How many servers?
#
# The question behind all of this. The answer is a search: for a number of servers one can *measure* what users get, with a
# formula in microseconds or with a simulation in seconds, and more servers never make it worse. Which is the smallest number
# that meets the target? Each measurement is expensive, and one with thousands of servers is out of the question if the answer
# is nine. This exercise has the least scaffold and earns the most. What comes back is a
# `CapacityPlan(servers, achieved, tried)`, with the evidence in the dictionary `tried`.

# %% exercise="10.7"

# %% check="10.7"

# %% [markdown] solution="10.7"
# **Explained.** Two phases. *Find an upper end:* from `at_least`, in steps of 1, 2, 4, and so on, until a number is enough, and
# never past `at_most`. About $\log_2 A$ measures, the largest of them below $2A$. *Halve:* `too_few` is known to miss, `enough`
# is known to meet the target; both stay true, and when they are neighbours, `enough` is the answer. Another $\log_2 A$. To
# begin with, `too_few` is `at_least - 1`, which was never measured and never will be. Bisecting from 1 to `at_most` needs no
# first phase, and measures a number of servers first that nobody has.

# %% [markdown]
# Put it to work. 40 conversations per second, a p99 of TTFT of at most 0.5 s. They are dealt to the GPUs at random,
# so that each gets a Poisson process again. Two formulas for $c$ servers with one line (they say how long one *waits*, and
# leave out the prompt's own time), and one simulation, which begins at the number of GPUs that can do the own work at all.

# %%
TARGET, PEAK = 0.5, 40.0
own_fewest_servers = parts.get("fewest_servers")


def p99_ttft(servers: int, requests: Workload = conversations, seed: int = 0) -> float:
    """Return the p99 of TTFT of one of so many GPUs, in seconds, by simulation."""
    arriving = at_times(requests, poisson_arrivals(PEAK / servers, len(requests), seed))
    ttft = simulate(arriving, SchedulerConfig(), cost_model, NUM_BLOCKS, parts=own_parts).ttft
    return float(np.quantile(ttft, 0.99, method="inverted_cdf"))


mean_own = float(SECONDS_OWN.mean())
at_least = int(PEAK * mean_own) + 1
by_time = servers_for_wait(PEAK, 1 / mean_alone, 0.99, TARGET).servers
by_work = servers_for_wait(PEAK, 1 / mean_own, 0.99, TARGET).servers
simulated_plan = own_fewest_servers(p99_ttft, TARGET, at_least=at_least)
print(f"M/M/c, service time S = {mean_alone:.2f} s: {by_time} GPUs")
print(f"M/M/c, service time D = {mean_own:.3f} s: {by_work} GPUs")
print(f"simulated: {simulated_plan.servers} GPUs, p99 {simulated_plan.achieved:.3f} s")
print("tried:", {servers: round(seconds, 2) for servers, seconds in simulated_plan.tried.items()})

# %% [markdown]
# The textbook with $S$ as the service time buys many times too many GPUs. With $D$ it buys too few: it has one line for all
# GPUs, and here each has a line of its own. (M/M/1 with $D$, a line each, buys more than the simulation.) Neither is the
# formula for this machine.
#
# Would you sign for the simulated number? Its p99 is the seventh slowest of 600 requests, and these are the first 600 of
# thousands. Take as many from a longer stretch: every fifth of the first 3,000. **Predict:** how many GPUs now?

# %%
predicted_gpus = None  # your prediction

# %%
every_fifth = azure[:3000:5]
own_of_fifth = float(service_demand(every_fifth, cost_model).own.mean())
spread_plan = own_fewest_servers(lambda servers: p99_ttft(servers, every_fifth), TARGET, at_least=at_least)
compare(predicted_gpus, spread_plan.servers, "GPUs")
print(f"own work per request: {mean_own:.3f} s of the first 600, {own_of_fifth:.3f} s of every fifth")
print("tried:", {servers: round(seconds, 2) for servers, seconds in spread_plan.tried.items()})
again = [p99_ttft(spread_plan.servers, every_fifth, seed) for seed in (1, 2)]
print(f"at {spread_plan.servers} GPUs with other arrivals: p99 {again[0]:.2f} and {again[1]:.2f} s")
alone_4000 = float(service_demand([TraceRequest(0.0, 4000, 1)], cost_model).alone[0])
print(f"a prompt of 4,000 tokens alone: {alone_4000:.2f} s to its first token")

# %% [markdown]
# With Azure's own trace nearly twice as many: its first minutes are milder than what follows. (Without the folder of traces one
# stretch is as good as another, and the number stays.) And the p99 is a random number itself: see what other arrivals make of
# it, with as many GPUs. A prompt of 4,000 tokens needs half of the 0.5 s for itself, which no further GPU makes shorter; the
# nearer a target is to such a floor, the less each further GPU brings, and the more GPUs a small error costs. Do not quote
# such a number without its range. Section 10 looks for a better formula; lesson 11 is about long prompts.

# %% claims="The textbook with $S$ as the service time buys many times too many GPUs."
assert by_time > 5 * simulated_plan.servers > 5 * by_work
by_lines = own_fewest_servers(lambda c: MM1(PEAK / c, 1 / mean_own).wait_quantile(0.99), TARGET, at_least=at_least).servers
assert by_lines > simulated_plan.servers

# %% claims="With Azure's own trace nearly twice as many"
assert (simulated_plan.servers, spread_plan.servers) == ((6, 6) if conversations.is_synthetic else (6, 11))
assert max(abs(each - spread_plan.achieved) for each in again) > 0.05
assert 0.25 < alone_4000 < 0.3
p99_of = sorted(spread_plan.tried.items())
slopes = [(second[1] - first[1]) / (second[0] - first[0]) for first, second in zip(p99_of, p99_of[1:])]
assert slopes[0] < 4 * slopes[-1] < 0

# %% [markdown]
# ## 10. Where theory stops
#
# ### What a passenger costs
#
# Now the engine. All that are present share an iteration, so nobody waits in line and everybody is slowed down a little.
# Let a token of yours take $\tau$ on average. In that time, the GPU reads the weights and your own keys and values, which takes
# $\tau_1$, as when you are alone; reads the keys and values of the others; and computes the prompts of those who arrive
# meanwhile. The last two are the own work of the others. Requests arrive at $\lambda$, each brings $D$ seconds of it, so in a
# time $\tau$ the GPU has $\lambda D \tau$ of it to do, and
#
# $$\tau = \tau_1 + \lambda D\,\tau \quad\Rightarrow\quad \tau = \frac{\tau_1}{1 - \lambda D}$$
#
# Everything is stretched by the same factor, and with it the whole request:
#
# $$W = \frac{S}{1 - \lambda D}$$
#
# That is what a request of size $S$ takes, on average, at a server that divides itself equally among those who are present
# (**processor sharing**, M/G/1-PS) at the load $\lambda D$. There the variation of the sizes plays no part: a long request
# blocks nobody. The load of an engine is not $\lambda S$. It is $\lambda D$, and with seats and memory enough $S/D$ is how
# many times more it can take than a server that takes one at a time. (With 128 seats they run out a little earlier: by Little
# at $1/(D + S/128)$.)
#
# Here is the dial again, with the engine's dots by $\lambda S$, where they walk through the wall. Choose "load as λD", and
# they lie down on the curve of exponential sizes and Poisson arrivals, $\rho/(1-\rho)$.

# %%
dial.set(rho=80, sizes="exponential", cv=1, engine="time")
dial

# %% [markdown]
# ### Measure
#
# Hold two formulas against the engine. `service_demand` gave $S$ and $D$ for each request (`SECONDS_ALONE`,
# `SECONDS_OWN`), and `serve(rate)` runs the engine; its result has `e2e`, the response of each request in seconds. The
# variance over the mean squared is the SCV, and `MG1(lam, mean, scv)` has a `mean_response`. All
# values are means, in seconds, and not rounded.

# %% exercise="10.8"
measured: dict[str, float] = {}
### BEGIN SOLUTION
measured["S"] = float(SECONDS_ALONE.mean())
measured["D"] = float(SECONDS_OWN.mean())
measured["M/G/1 at 0.25"] = MG1(0.25, measured["S"], SECONDS_ALONE.var() / measured["S"] ** 2).mean_response
measured["engine at 0.25"] = float(serve(0.25).e2e.mean())
measured["shared at 4"] = measured["S"] / (1 - 4 * measured["D"])
measured["engine at 4"] = float(serve(4.0).e2e.mean())
### END SOLUTION

# %% check="10.8"
check("10.8", measured)

# %%
print(f"{'per second':>10} {'λS':>6} {'λD':>6} {'engine':>9} {'S/(1−λD)':>9} {'M/G/1':>9}")
stretches = {}
for rate in (0.25, 1.0, 2.0, 4.0, 6.0):
    engine = serve(rate).e2e.mean()
    shared = mean_alone / (1 - rate * mean_own)
    stretches[rate] = shared / engine
    says = f"{MG1(rate, mean_alone, scv_alone).mean_response:.2f} s" if rate * mean_alone < 1 else "for ever"
    print(f"{rate:>10} {rate * mean_alone:>6.2f} {rate * mean_own:>6.3f} {engine:>7.2f} s {shared:>7.2f} s {says:>9}")

# %% [markdown]
# Up to 4/s the shared formula is within a tenth, and too high. Pollaczek and Khinchine are off by more than half at
# 0.25/s, and from 1/s on they have no answer. One line of algebra that knows what is shared beats a theorem that does not. It
# is not exact: some of the difference goes when more than 600 requests are served, and some stays.

# %% claims="Up to 4/s the shared formula is within a tenth"
assert all(1 <= ratio < 1.1 for rate, ratio in stretches.items() if rate <= 4)
assert MG1(0.25, mean_alone, scv_alone).mean_response > 1.5 * serve(0.25).e2e.mean()
assert mean_alone > 1

# %% [markdown]
# ### And where this one stops
#
# The same requests, 3 per second, on an RTX 4090: once with the 2,588 blocks of the measured run (lesson 1), once with 1,500.
# The formula knows nothing of memory, but Little does. While a request is there it holds the blocks of its prompt and, on
# average, of half its answer; so much of the memory is needed at a time, on average, *if* the formula is right. The cell
# prints that first. **Predict:** with which of the two does the formula hold, to a fifth?

# %%
small_gpu = RooflineCostModel(MODELS["llama-3.1-8b"], GPUS["rtx-4090"])
small_alone, small_own = service_demand(conversations, small_gpu)
stretch = 1 / (1 - 3 * small_own.mean())
held_tokens = np.array([request.prompt_tokens + request.output_tokens / 2 for request in conversations])
needed_blocks = 3 * stretch * (small_alone * held_tokens).mean() / 16
print(f"λD = {3 * small_own.mean():.2f}; by Little {needed_blocks:,.0f} blocks are in use, on average")

# %%
predicted_holds = None  # your prediction: [2588], [1500], or [1500, 2588]

# %%
says = small_alone.mean() * stretch
small_memory = {blocks: serve(3.0, small_gpu, blocks) for blocks in (2588, 1500)}
for blocks, result in small_memory.items():
    print(f"{blocks:,} blocks: S/(1−λD) = {says:.1f} s; engine {result.e2e.mean():.1f} s, {result.num_preemptions} preemptions")
holds = [blocks for blocks, result in small_memory.items() if abs(result.e2e.mean() / says - 1) < 0.2]
print(f"You predicted {predicted_holds}. It holds to a fifth with {holds}.")
for rho in (0.1, 0.5, 0.8, 0.95):
    true, believed = MM1(rho, 1.0), MM1(rho, 1.2)
    too_low = true.mean_wait / believed.mean_wait
    print(f"true load {rho:.0%}, a model 20% too fast sees {believed.rho:.0%}: waits {too_low:.1f} times too low")

# %% [markdown]
# Two ways out of the formula. *Something else runs out.* When the memory is full, requests wait in front of the engine, are
# preempted, and compute again (lesson 6): a queue where the formula has none. Where Little asks for more blocks than there are,
# it must fail. *Errors explode near 1.* One server (M/M/1), and a model of it that is 20% too fast: its services are 1.2 times
# too short, and its waits, in seconds, 1.5 times too low at 10% load and 6 times at 95%. In 2026 the authors of the simulator
# inference-sim held it against runs of vLLM (its pull request #480). In one of them it took the server for 22% faster than it
# was, and so a real load of 124% for one of 102%, and a TTFT of 120 s for 64 ms.

# %% claims="Two ways out of the formula."
assert 1500 < needed_blocks < 2588
assert small_memory[1500].num_preemptions > 50 and small_memory[2588].num_preemptions < 20
assert small_memory[1500].e2e.mean() > 1.2 * says and 0.8 < small_memory[2588].e2e.mean() / says < 1
assert holds == [2588]
assert [round(MM1(rho, 1.0).mean_wait / MM1(rho, 1.2).mean_wait, 1) for rho in (0.1, 0.95)] == [1.5, 6.0]

# %% [markdown]
# ### Explain what you measured
#
# In six to nine sentences, with figures and their units: (a) In which direction does M/G/1 on $S$ err, by how much at 0.25
# per second, and which of its assumptions does the engine break? (b) Why does the variation of the sizes matter for M/G/1 and
# not for the shared formula? (c) You have to say how many GPUs a service needs. Which of the formulas of this lesson do you
# use for a first number, what do you do before you sign the order, and what could still go wrong?
#
# 8 points, about 12 minutes, marked by hand: 3 for (a), 2 for (b), 3 for (c).

# %% [markdown] answer="10.8" points=8
# **(a)** M/G/1 says far too much: at 0.25 per second it expects 2.8 s (4.4 s on the real trace), more than half above what the
# engine takes, which is hardly more than a request takes alone, about 2 s; and at 1/s it says that the line grows for
# ever, where the engine needs less than a tenth more than alone. It assumes that a server takes one request at a time. The
# engine reads the weights once for all that are present, so each costs the others only $D$, less than a fifteenth of $S$. **(b)**
# In M/G/1 one waits for the service in progress to end, and falls into long ones more often, so $E[S^2]$ counts. When a server
# is shared nobody waits for anybody's end; a long request slows the others down while it is there, by the same share as a
# short one, and only the total of the work counts. **(c)** $\lambda D$ below 1 gives the number below which it cannot work,
# and $S/(1-\lambda D)$ a mean. Then I simulate with the real scheduler, with arrivals as they were recorded, bursts and all,
# and look for the fewest GPUs by `fewest_servers`, over several stretches of the trace and several arrivals: section 9 found 6
# GPUs in one stretch and 11 in another (6 in both without the folder of traces). Before I sign I hold the cost model against a
# measured run near the load that I plan for, because an error of 20% there may be a factor. What could still go wrong: memory
# that fills up, correlated bursts, a GPU that fails.
#
# **Mark scheme.** (a) 1 for too high, 1 for a figure with its unit at 0.25/s, 1 for one at a time against sharing the weights.
# (b) 1 for waiting for the service in progress, 1 for nobody waiting in a shared server. (c) 1 for $\lambda D$ or the shared
# formula as a start, 1 for a simulation or a load test with real arrivals, 1 for memory, bursts, a GPU that fails,
# or errors near full load.

# %% [markdown] criteria="10.8"
# - (a) The direction, a figure at 0.25 per second with its unit, and the assumption that fails.
# - (b) What one waits for in M/G/1, and what in a shared server.
# - (c) A first number from $\lambda D$; what confirms it; and one thing that is in no formula here.

# %% [markdown]
# ## 11. Open and closed
#
# One last trap, in the test itself. Many load tests have $n$ clients, each of which waits for its answer and asks again: a
# **closed loop**. Users are an **open** one: they do not know how the others fare. The GPU becomes half as fast, by mistake, in
# a new release. **Predict:** by what factor does the p99 of TTFT rise in a test with 32 clients?

# %%
predicted_factor = None  # your prediction

# %%
half_as_fast = RooflineCostModel(
    cost_model.model, cost_model.gpu, memory_efficiency=0.465, compute_efficiency=0.375
)
loops = {}
for name, model in (("as it was", cost_model), ("half as fast", half_as_fast)):
    closed = simulate(ClosedLoop(conversations, 32), SchedulerConfig(), model, NUM_BLOCKS)
    opened = serve(6.0, model)
    settled = closed.ttft[32:]  # without the 32 that all come at time 0
    loops[name] = np.quantile(settled, 0.99), len(conversations) / closed.makespan, np.quantile(opened.ttft, 0.99)
    print(f"{name:<13} closed, 32 clients: p99 TTFT {loops[name][0]:6.2f} s, {loops[name][1]:5.2f} per second;", end=" ")
    load = 6 * service_demand(conversations, model).own.mean()
    print(f"open, 6 per second, λD = {load:.2f}: p99 TTFT {loops[name][2]:6.2f} s")
compare(predicted_factor, loops["half as fast"][0] / loops["as it was"][0], "times")

# %% [markdown]
# In the closed loop everything takes twice as long, and half as many come: $n = \lambda W$ again, and the clients slow down with
# the server. It cannot be overloaded. In the open loop the own work doubles, $\lambda D$ is near 1 or above it, and the p99
# grows more than twentyfold; that is what users would see. A test that leaves out the requests which a slow server kept from being
# sent has a name, **coordinated omission**: server and generator agree to leave out those that would have waited. vLLM's own
# client has both: `--request-rate` is open, `--max-concurrency` closes the loop.

# %% claims="In the closed loop everything takes twice as long, and half as many come"
assert 1.7 < loops["half as fast"][0] / loops["as it was"][0] < 2.3
assert 0.45 < loops["half as fast"][1] / loops["as it was"][1] < 0.55
assert loops["half as fast"][2] > 20 * loops["as it was"][2]
assert 0.95 < 6 * service_demand(conversations, half_as_fast).own.mean() < 1.2

# %% [markdown]
# ## 12. It runs in your engine
#
# First, Little's law on the engine that writes text. Twelve prompts are added at moments that your `gamma_arrivals` drew;
# the clock is the number of iterations. On the way, count before each iteration how many are unfinished.

# %%
llm = LLM(max_num_seqs=4, num_blocks=64)
short_answers = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
comes_at = np.floor(own_gamma_arrivals(0.5, 2.0, 12, 3)).astype(int)
leaves_at = np.zeros(12)
counts: list[int] = []
step, sent_so_far, calls = 0, 0, Counter()
while sent_so_far < 12 or llm.has_unfinished_requests():
    for number in np.flatnonzero(comes_at == step):
        llm.add_request(str(number), f"Request {number}", short_answers)
        calls["added"] += 1
        sent_so_far += 1
    counts.append(sent_so_far - calls["finished"])
    for output in llm.step() if llm.has_unfinished_requests() else ():
        if output.finished:
            leaves_at[int(output.request_id)] = step + 1
            calls["finished"] += 1
    step += 1
law = own_littles_law(comes_at, leaves_at)
counted = sum(counts) / (leaves_at.max() - comes_at.min())
print(dict(calls), f"in {step} iterations")
print(f"{law.arrival_rate:.4f} requests per iteration stay {law.mean_response:.4f} iterations each: {law.mean_in_system:.4f}")
print(f"counted while it ran: {counted:.4f} in the system")

# %% [markdown]
# You counted something else, in another place of the program, and it is the same number.

# %% claims="You counted something else, in another place of the program, and it is the same number."
assert np.isclose(counted, law.mean_in_system) and np.isclose(law.arrival_rate * law.mean_response, counted)
assert calls["added"] == calls["finished"] == 12

# %% [markdown]
# Second, the generator. A slow client takes 50 ms to build a request. Some six per second are planned, in bursts; the suspect
# and your `send_times` send the same plan to the engine. TTFT is counted twice: from when a request was sent, and from when it
# was due, as a user would count.

# %%
rush = own_gamma_arrivals(6.0, 3.0, len(conversations), 5)
rush_gaps = np.diff(rush, prepend=0.0).tolist()
rushed = {}
for name in ("suspect", "yours"):
    sent = fixes[name](rush_gaps, 0.05)
    ttft = simulate(at_times(conversations, sent), SchedulerConfig(), cost_model, NUM_BLOCKS, parts=own_parts).ttft
    late = np.array(sent) - rush
    rushed[name] = rate_of(sent), np.quantile(ttft, 0.99), np.quantile(ttft + late, 0.99)
    print(f"{name:<8} {rushed[name][0]:.2f} requests/s of {len(rush) / rush[-1]:.2f} planned;", end=" ")
    print(f"p99 TTFT {rushed[name][1]:5.2f} s from when it was sent, {rushed[name][2]:5.2f} s from when it was due")

# %% [markdown]
# The suspect's server looks better, because less was asked of it. Counted from when they were due, its last requests are half
# a minute late.

# %% claims="The suspect's server looks better, because less was asked of it."
assert rushed["suspect"][0] < 0.85 * rushed["yours"][0]
assert rushed["suspect"][1] < rushed["yours"][1]
assert rushed["yours"][2] < 3 < 25 < rushed["suspect"][2] < 35

# %% [markdown]
# Third, your simulator and your engine in one figure: the dial at the top of the lesson was first built before you had written
# anything. Build it again, and the dots are yours.

# %%
viz.queueing_dial()

# %%
parts.table(lesson=10)

# %% [markdown]
# ## 13. In vLLM
#
# | here | in vLLM 0.33.0, `vllm/` |
# |---|---|
# | `gamma_arrivals` | `get_request` in `benchmarks/serve.py`: gaps by `np.random.gamma`, the shape is `--burstiness` |
# | `send_times` | the end of `get_request`: it sleeps until `start_ts + delay_ts[i]`, and not at all if it is late |
# | rates that are exact | there too, at a fixed rate: times are stretched so that the last one is due at n / rate |
# | closed loop | `--max-concurrency`; the wait for a place is kept as `client_queue_time`, and is not part of TTFT |
# | wait and service | `queued_time` in `v1/metrics/stats.py`: from the engine core's queue to the *first* scheduling; preemptions do not count |
# | Little, as a limit | `max_num_queued_tokens` in `config/scheduler.py`: when the prompts that are not computed yet, waiting or begun, hold so many tokens, the next request is refused (`v1/engine/async_llm.py`) |
#
# **What production code does beyond this, and why.**
#
# - With that limit set (it is off by default), a request that finds it reached is refused at once with a 503, so that a client
#   can try elsewhere. The limit is the TTFT that is wanted, times the prompt tokens per second: $L = \lambda W$, in tokens.
# - The GPU's utilisation is near 100% with one request, and says nothing of the load. vLLM's metrics say more:
#   `vllm:num_requests_waiting`, `vllm:kv_cache_usage_perc` (`v1/metrics/loggers.py`).
# - Capacity is planned by load tests on the real machine. Formulas say where to begin, and when a result cannot be right.
#
# ## 14. Quiz
#
# Practise in the widget first: it says at once what each choice means. Then write your letters into the cell below
# it, which is what counts. There are ten questions, a point each; eight right, 80%, is a pass.

# %% quiz="10"

# %% [markdown]
# ## 15. Interview corner
#
# Answer aloud, in two minutes each, before you unfold what a strong answer holds.

# %% [markdown] interview="10"

# %% [markdown]
# ## 16. Takeaways
#
# - $L = \lambda W$: one area counted twice. It needs whole requests, and nothing else.
# - In M/M/1 the response is one over the slack. Halve the slack, double the response; its p99 is 4.6 means.
# - One falls into long services, and looks into long gaps: $E[X^2]/E[X]$.
# - Pooling is the cheapest capacity. Bursts cost as much as load, and their order is in no formula here.
# - A p99 is a random number, and a stretch of a trace is one draw. Give a number of GPUs with its range.
# - An engine's load is $\lambda D$, the work that nobody shares, and its mean response near $S/(1-\lambda D)$, while memory lasts.
# - Send by the clock, open loop, and check your generator before you blame the server.
#
# **Lesson 11 needs** the own work $D$: most of it is prompts, and a long prompt holds up the iteration of everybody else.

# %% [markdown]
# ## Appendix
#
# <details><summary>Guided reading: how a benchmark sends (20 minutes)</summary>
#
# Open `vllm/benchmarks/serve.py` at tag `v0.33.0` in [the repository](https://github.com/vllm-project/vllm), and read
# `get_request`; then `check_admission` in `vllm/v1/engine/async_llm.py`.
#
# 1. Which CV have the gaps with `--burstiness 0.25`?
# 2. Why are the times stretched by `normalize_factor`, and what does that do to the CV?
# 3. What happens to the plan when the client is late by a second?
# 4. With one API process the count of queued tokens in `async_llm.py` is on the high side. What does that process not know?
#
# *What to find there.*
#
# 1. The shape is 1/CV², so the CV is 2.
# 2. The sum of n random gaps is off by CV/√n (standard deviation over mean): by 3% for the default of 1,000 Poisson gaps, and
#    the throughput with it. All gaps get the same factor: the CV stays.
# 3. It sends without sleeping until it has caught up: the plan stays where it is.
# 4. Which parts of a prompt have been computed already, and what will be found in the prefix cache. So it refuses early.
#
# </details>
#
# <details><summary>What older material says differently</summary>
#
# - "Keep utilisation below 80%." Of what, with how many servers, and with which arrivals? With 256 servers hardly anybody
#   waits at 80%; one with exponential sizes and gaps of a CV of 4 has a wait of 8.5 services at 50%, by section 7's formula.
# - "Model the LLM server as M/G/1 (or M/M/c) with the request's latency as service time." Requests share iterations; section 10.
# - "GPU utilisation is the load." It says that some kernel is running, which one request sees to.
# - "Kingman's formula." It is right near full load, and no bound: the wait may exceed it. His bound is another formula.
# - "Throughput is the mean of the requests' speeds." It is tokens over time; section 3.
#
# </details>
