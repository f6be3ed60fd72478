# %% [markdown]
# # Final project: one request through the engine
#
# **Time** 2 hours · **Difficulty** ●●○ · **Points** 100
#
# A server answers thousands of requests, and one user asks: what happened to mine? Nobody can say it from a mean or from a
# counter. In this notebook you follow a single request through every component of the engine while others run beside it: it
# finds a shared prefix, is cut into chunks, is thrown out, comes back and is stopped. Then you use what you have learned to
# read there: two traces of one workload, both with the right texts, one with nearly four times the preemptions. Why?
#
# **By the end** you can read a trace line by line and say who decided what and from which numbers; you can find work that is
# done twice and that no text shows; you can write a file for a trace viewer and check it; and you have read, with the same
# tracer, what vLLM's own scheduler does with the same requests.
#
# **You need** lessons 3, 6, 8 and 12. You need no GPU.

# %%
from __future__ import annotations

import importlib.util
import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from autograder.lessons.lesson14_hunt import numbers_of
from autograder.lessons.lesson14_runs import FixA, FixB, Served, SuspectScheduler, mended, stranger
from autograder.notebook import check, compare, explain, task
from course_lib import parts, viz
from course_lib.engine import LLM, SamplingParams, Tracer
from course_lib.engine.tracing.recorded import vllm_runs
from course_lib.scheduling import AsyncScheduler, Request, RequestStatus, Scheduler, SchedulerOutput

torch.set_num_threads(1)  # the model is small: several threads would wait for each other

# %%
viz.EngineMap(lesson=13)

# %% [markdown]
# ## 1. Warm-up
#
# Two questions on the lessons before. The check is immediate and earns no points.

# %% exercise="14.W1"
found_tokens = None  # tokens
### BEGIN SOLUTION
found_tokens = 29 // 8 * 8
### END SOLUTION

# %% check="14.W1"
check("14.W1", found_tokens)
# %% exercise="14.W2"
slot = None  # a number of a slot
### BEGIN SOLUTION
slot = 9 * 8 + 37 % 8
### END SOLUTION

# %% check="14.W2"
check("14.W2", slot)
# %% [markdown]
# ## 2. Predict
#
# The engine has blocks of 8 tokens. A request knows 49 tokens, 48 of which are computed; they fill 6 blocks, 3 of which a
# neighbour has in its table as well. Now it needs a seventh block, none is free, and the request is **preempted by
# recompute**: it gives up its blocks and waits. One step later there is room, and it **resumes**. **Predict:** how many tokens
# are computed in that step for it?

# %%
predicted_again = None  # your prediction: a number of tokens

# %% [markdown]
# ## 3. The run
#
# Three requests, in an engine that is too small for them. Two of them begin with the same sentence. The one that is
# *followed* comes three steps later, and is to stop at an empty line. While they are served, a **tracer** stands in front of
# the methods by which the components talk to each other and writes down what each is asked and what it answers. The engine
# runs none of its code when it is taken off.

# %%
SYSTEM = "You are the clerk of a small library. You answer every question in one short sentence, and you never guess. "
twenty = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
llm = LLM("course-tiny", num_blocks=15, block_size=8, max_num_batched_tokens=12, max_num_seqs=3)
with Tracer(llm) as tracer:
    llm.add_request("other-0", SYSTEM + "A block table", twenty)
    llm.add_request("other-1", "In the morning the server wakes up and", twenty)
    for _ in range(3):
        llm.step()
    llm.add_request("followed", SYSTEM + "The scheduler", SamplingParams(temperature=0, max_tokens=60, stop=["\n\n"]))
    outputs = {}
    while llm.has_unfinished_requests():
        outputs |= {each.request_id: each.outputs[0] for each in llm.step() if each.finished}
story = tracer.request("followed")
print(outputs["followed"].text)

# %% [markdown]
# The model was trained on texts about its own kind. Read what it says, and then read what happened to it while it said so.
# (`llm` runs on your own parts, as far as you have built them.)

# %%
print(story.text())

# %% [markdown]
# The text tells of a victim whose blocks are given back; and a few tokens later, in mid-answer, that is what happens. Nothing
# of it can be seen in the answer. The model does not know of its own preemption, of course: it was trained on these words, and
# the settings were chosen so that it comes there.
#
# Here is your prediction beside what came out:

# %%
resumed = next(event for event in story if event.action == "resumes")
compare(predicted_again, resumed.num_tokens, "tokens")

# %% [markdown]
# One. It is called *recompute*, and next to nothing is computed again: a full block keeps its hash when it is freed, and
# nobody had taken these meanwhile. The six blocks were found like those of a shared prefix. Only the last known token has to
# be computed, always, since its output is what is wanted. (It can be more: when somebody else needs a block in between, as in
# section 4, and for another reason in section 7.)
#
# ### Seen
#
# This is the same trace as a picture. Each lane is a component, each column a step; below are the words of the step, the blocks that
# everybody holds when it is over, and the tokens of the answer. **Step with the arrow keys**, or use the bar, which leads to
# what happened. **Click a token**: its step opens, and says in which block and slot its keys and values are. Point at a block,
# and the tokens that are in it light up, with whoever else holds it.

# %%
viz.request_film(tracer.trace, "followed", block_size=8)

# %% [markdown]
# Go through it once with a question for each stop. The cell below says what the trace says.
#
# 1. **It arrives.** Which component sees text, and which only numbers?
# 2. **The hit.** How many tokens has it in common with *other-0*, how many of them were found, and why not all?
# 3. **The chunks.** Who took how much of the budget of 12 in these two steps? In which of them was some of it left?
# 4. **Preempted.** Who needed a block, who was chosen, and how many of its blocks came free?
# 5. **Held back.** Why does the user get nothing in the last two steps?

# %%
num_common = sum(a == b for a, b in zip(llm.tokenizer.encode(SYSTEM + "A block table"), llm.tokenizer.encode(SYSTEM + "The scheduler")))
print(f"tokens in common with other-0: {num_common}")
for event in story:
    if event.action in ("finds", "starts", "is preempted", "frees", "resumes", "finishes"):
        blocks = f", blocks {' '.join(map(str, event.blocks))}" if event.blocks else ""
        print(f"step {event.step:>2}  {event.component:<14} {event.action:<13} {event.num_tokens or ''} {event.reason}{blocks}")
chunks = [event for event in story if event.action == "computes" and event.num_tokens > 1]
for step in [event.step for event in chunks]:
    batch = [e for e in tracer.trace if e.step == step and e.component == "scheduler" and e.num_tokens and e.request_id]
    print(f"step {step}: " + ", ".join(f"{e.request_id} {e.action} with {e.num_tokens}" for e in batch))

# %% claims="How many tokens has it in common with *other-0*, how many of them were found, and why not all?"
assert num_common // 8 * 8 == 24 < num_common < 32 and [event.num_tokens for event in chunks] == [3, 5]
assert resumed.num_tokens == 1 and resumed.position == 48
preempted = next(event for event in story if event.action == "is preempted")
freed = [event for event in story if event.action == "frees"][0]
assert resumed.step == preempted.step + 1 and len(freed.blocks) == 6 and freed.num_free_blocks == 3
assert preempted.reason == "itself needs 1 block, 0 free"
last_two = [event.text for event in story if event.action == "shows"][-2:]
assert last_two == ["", ""] and "\n" not in outputs["followed"].text

# %% [markdown]
# ## 4. A trace with gaps
#
# Now without the engine, on paper. Each gap is a number that a component could only have from somewhere: from the table of
# the request, from what is left of the budget, from the hashes of blocks. Every gap earns 4 points. `task("14.1", seed=2)` shows
# another trace, and any seed counts.

# %% exercise="14.1"
answer = {"seed": 1}
# Write answer["found"] = ..., answer["chunk 1"] = ... and so on.
### BEGIN SOLUTION
answer["found"] = 24
answer["chunk 1"] = 8
answer["chunk 2"] = 4
answer["first token"] = 6
answer["held"] = 6
answer["come free"] = 3
answer["found again"] = 40
answer["again"] = 9
answer["kept back"] = "Q"
answer["shown"] = "It is FAQ or "
### END SOLUTION

# %% check="14.1"
check("14.1", answer)

# %% [markdown] solution="14.1"
# **Explained.** Of 29 common tokens three full blocks are found: 24. Both others decode, so 8 of the budget of 10 are left, and
# 4 of the 36 tokens remain for the next step, which reaches the end of the prompt: step 6 gives the first token. In step 19 it
# has got 13 tokens, from steps 6 to 18: it knows 49, of which 48 are computed, in 6 blocks. Three of these are *other-0*'s as
# well, so three come free. One of its own is gone by step 22, the last of its table: 40 tokens are found, 9 are to be computed, and
# *other-0* leaves just as many of the budget. At the end a "Q" may be the beginning of "Q:". After the second piece that was so as
# well, and the blank behind it set it free: "FAQ".

# %% [markdown]
# ## 5. The hunt: nearly four times the preemptions
#
# > **An upstream bug.** `vllm-project/vllm-gaudi`, pull request #1794 (merged September 2026), which says of it that on a server of
# > eight cards the preemptions more than tripled, for the same delivered output. The code here is our own, and makes the same mistake.
#
# A server plans one step ahead, as in lesson 12: two plans are in flight. After an update it is slower under load. All requests
# succeed. The texts are right, token for token. The memory is the same, and so are the requests. Two traces are all that you
# have: from before the update, and from after it. Look at what is in them before you look for a cause.

# %%
before, after = Served(AsyncScheduler), Served(SuspectScheduler)
print("same answers:", before.answers == after.answers)
for label, run in (("before", before), ("after", after)):
    print(f"{label:<7} {run.num_steps} steps, {run.num_tokens:,} tokens computed, {dict(Counter(action for _, action, _ in run.told))}")
print()
print("\n".join(after.trace.request("r4").text().splitlines()[:24]))

# %% [markdown]
# A request that starts, is thrown out, comes back, is thrown out. Something makes it turn in a circle. Preemptions are not the
# cause, though: they are what is seen. The trace has lines for what was *chosen* by the sampler and for what was *shown* to the
# user. What should be true of the two?
#
# `run.told` has the trace as plain tuples, `(step, action, request)`. The step of `chooses` and `shows` is the step whose plan
# computed the token. With two plans in flight a token is shown when the next step has been planned already, so further down.

# %% claims="The texts are right, token for token."
assert before.answers == after.answers and len(before.answers) == 24
assert sum(a == "is preempted" for _, a, _ in after.told) > 3 * sum(a == "is preempted" for _, a, _ in before.told)


# %% exercise="14.2a"
def lost_tokens(told: list[tuple[int | None, str, str]]) -> list[tuple[int, str]]:
    """Return the step and the request of each token that was chosen and never shown.

    Args:
        told: What a trace tells, in order: step, action, request. A token is chosen in the step of a
            ``"chooses"``, and shown by the ``"shows"`` with the same step and the same request,
            wherever in the trace that is.

    Returns:
        Pairs of step and request, in the order of the choices.

    >>> lost_tokens([(0, "chooses", "a"), (1, "chooses", "a"), (0, "shows", "a")])
    [(1, 'a')]
    """
    ### BEGIN SOLUTION
    seen = {(step, name) for step, action, name in told if action == "shows"}
    return [
        (step, name)
        for step, action, name in told
        if action == "chooses" and step is not None and (step, name) not in seen
    ]
    ### END SOLUTION


# %% check="14.2a"
check("14.2a", lost_tokens)

# %% [markdown] solution="14.2a"
# **Explained.** A token of a trace has a name: its step and its request. What is shown is collected first, from the whole trace,
# since it comes later than the choice. A set answers in one step whether something is in it; a list would be gone through for
# each choice.

# %%
lost = lost_tokens(after.told)
if lost is not None:  # once it is written
    print(f"before: {len(lost_tokens(before.told))} lost; after: {len(lost)} lost, such as {lost[:4]}")

# %% [markdown]
# Now you know *what* is lost. Put it together with who is preempted, and when. Fill `found` from the trace `after.told`:
#
# - `preemptions`: how many there are
# - `lost`: how many tokens are lost
# - `at once`: how many of the preemptions hit a request that resumed in the step directly before
# - `who`: the request that is preempted most often, and `how often` that is

# %% exercise="14.2b"
found = {}  # "preemptions", "lost", "at once", "who", "how often"
### BEGIN SOLUTION
told = after.told
given_way = [(step, name) for step, action, name in told if action == "is preempted"]
back = {(step, name) for step, action, name in told if action == "resumes"}
who, how_often = Counter(name for _, name in given_way).most_common(1)[0]
found = {
    "preemptions": len(given_way),
    "lost": len(lost_tokens(told)),
    "at once": sum((step - 1, name) in back for step, name in given_way),
    "who": who,
    "how often": how_often,
}
### END SOLUTION

# %% check="14.2b"
check("14.2b", found)

# %% [markdown] solution="14.2b"
# **Explained.** One token is lost for each preemption: the one that was on its way when its request was thrown out. The request
# comes back, computes the same position again, chooses the same token again, which is why no text is wrong; and as it
# needs its next block in the very next step, it is thrown out again, with the new token on its way. Two thirds of the
# preemptions hit somebody who had come back in the step before.

# %% claims="Two thirds of the preemptions hit somebody who had come back in the step before."
assert 3 * found["at once"] == 2 * found["preemptions"] > 0

# %%
print(found)
gave_way = [step for step, action, name in after.told if action == "is preempted" and name == "r4"]
for step in gave_way if lost is not None else []:
    print(f"step {step}: r4 is preempted; lost: {[each for each in lost if tuple(each) == (step - 1, 'r4')]}")

# %% [markdown]
# ### The code
#
# This is what came with the update. When the tokens of a step arrive, the scheduler asks of each whether its request is still
# there, still the same one (another may have come under its name), and still running.

# %% shows="autograder.lessons.lesson14_runs:SuspectScheduler"

# %% [markdown]
# Which of the three questions is one too many? Write the decision anew, on plain data: `planned` has for each request of the
# plan its number, `alive` for each unfinished request its number and its status, and two requests that have the same name
# after one another have different numbers. Tokens of who runs come *in time*: each takes the place of a placeholder. Tokens
# of who lives and does not run come *late*: they are appended to the answer and need no blocks.


# %% exercise="14.2c"
def sort_tokens(
    planned: dict[str, int], alive: dict[str, tuple[int, str]], sampled: dict[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the tokens that come in time, and those that come late, by request.

    Args:
        planned: The number of each request of the plan.
        alive: Number and status of each unfinished request, by name: ``"RUNNING"``,
            ``"PREEMPTED"``, ``"SWAPPED"`` or ``"WAITING"``.
        sampled: The tokens of the plan, by name.

    Returns:
        The tokens of those who run; and of those who live and do not run. A token whose request is
        gone, or is another one by now, is in neither.

    >>> sort_tokens({"a": 1, "b": 2}, {"a": (1, "RUNNING"), "b": (2, "PREEMPTED")}, {"a": 7, "b": 8})
    ({'a': 7}, {'b': 8})
    """
    ### BEGIN SOLUTION
    in_time, too_late = {}, {}
    for name, token in sampled.items():
        if name not in alive or alive[name][0] != planned.get(name):
            continue
        wanted = in_time if alive[name][1] == "RUNNING" else too_late
        wanted[name] = token
    return in_time, too_late
    ### END SOLUTION


# %% check="14.2c"
check("14.2c", sort_tokens)

# %% [markdown] solution="14.2c"
# **Explained.** The answer of a request goes on as long as it lives; that it does not run for the moment is the scheduler's
# business, not the user's. A request may know more than it has computed: two numbers, once more. What must be asked is whether
# it is there and whether it is the same.

# %% [markdown]
# ### Judge two repairs
#
# Two others were proposed. **Repair A**: nobody starts in the step behind one that preempts, so that the circle is broken.
# **Repair B**: a token goes to whoever has its name, running or not. Here they run, yours beside them, on the same workload; and
# then in another situation: a request *a* is aborted while its token, 666, is on its way, and a new one comes under the same
# name at once. Its own two tokens are 1 and 2.

# %% shows="autograder.lessons.lesson14_runs:FixA"

# %% shows="autograder.lessons.lesson14_runs:FixB"
repairs = {"before": AsyncScheduler, "after": SuspectScheduler, "repair A": FixA, "repair B": FixB}
if sort_tokens({}, {}, {}) is not None:  # once it is written
    repairs["yours"] = mended(sort_tokens)
runs = {label: Served(kind) for label, kind in repairs.items()}
print("\n".join(numbers_of(runs)))
for label, kind in repairs.items():
    print(f"{label:<10} same answers: {runs[label].answers == before.answers}; the newcomer gets {stranger(kind)}")

# %% [markdown]
# In four to six sentences, with figures from the cell above: (a) What does repair A make better, and what does it leave as it
# was? (b) What does repair B get right, who pays for the rest, and why has no figure of the first table shown it? (c) Which
# figure, kept for every run, would have shown the bug on the day of the update?
#
# 6 points, about 10 minutes, marked by hand: 2 for each of (a), (b) and (c).

# %% [markdown] answer="14.2" points=6
# **(a)** It takes the preemptions from 27 to 19 and the tokens computed from 4,348 to 4,204, but 19 tokens are still lost, one
# for each preemption: the cause is untouched, and the run has 579 steps in place of 576, since an empty place in the batch
# stays empty for a step. **(b)** On this workload it is right, with 7 preemptions and nothing lost. But a request that comes
# under the name of an aborted one gets its token, 666: a stranger's text. In the workload nobody is aborted, and all names
# differ, so none of its figures can show it. **(c)** Tokens chosen less tokens delivered, which should be 0 (or the number of
# those whose request has ended or was aborted); or tokens computed per token delivered.
#
# **Mark scheme.** (a) 1 for fewer preemptions with figures, 1 for tokens that are still lost. (b) 1 for the stranger's token, 1 for
# why the workload does not show it. (c) 2 for a count of what is chosen against what is delivered, or computed against
# delivered; 1 for preemptions alone, which also rise for good reasons.

# %% [markdown] criteria="14.2"
# - (a) What is better, and what is not, in numbers of preemptions and of lost tokens.
# - (b) What happens to the newcomer, and what the workload has none of.
# - (c) A figure that is 0, or known, when all is well, and needs no second run to compare with.

# %% claims="Here they run, yours beside them, on the same workload"
assert all(run.answers == before.answers for run in runs.values())
lost_in = {label: len(lost_tokens(run.told)) for label, run in runs.items()}
assert lost_in == {"before": 0, "after": 27, "repair A": 19, "repair B": 0, "yours": 0}
assert runs["yours"].num_tokens == runs["before"].num_tokens == 4005 and runs["after"].num_tokens == 4348
assert [runs[label].num_steps for label in ("before", "after", "repair A")] == [572, 576, 579]
assert stranger(FixB)[0] == 666 and stranger(repairs["yours"]) == [1, 2]

# %% [markdown]
# ## 6. A file for a trace viewer
#
# A story is for one request. To see a whole run, write it as **Trace Event JSON**, which [ui.perfetto.dev](https://ui.perfetto.dev)
# and `chrome://tracing` draw as a time line: the file is read in your browser and sent nowhere. Each event has a mark, `ph`:
#
# | `ph` | what it is | what it needs |
# |---|---|---|
# | `M` | a name for a track: `thread_name` of `tid` | `name`, `tid`, `args` |
# | `X` | a bar on a track: begins at `ts`, lasts `dur` | `ts` and `dur`, microseconds |
# | `b`, `e` | a phase begins, and ends; phases may overlap | the same `cat`, `id` and `name` in both |
# | `s`, `t`, `f` | an arrow starts, goes on, and ends | the same `id` in all |
# | `C` | a value of a curve | `ts`, `args` |
#
# A viewer does not complain. What it cannot pair it leaves out, or draws to the end of the run; and then somebody looks for a
# request that "hung". So check a file before you believe the picture.
#
# Your function says a sentence for each rule that is broken, to whoever looks for the fault. The check asks for which files it says
# anything at all; it does not read the sentences, nor count them.


# %% exercise="14.3"
def time_line_violations(events: list[dict]) -> list[str]:
    """Return one sentence for each rule of the trace event format that is broken, or an empty list.

    - A bar (``ph`` is ``"X"``) has a ``dur`` of at least 0, and its ``tid`` is named by an event
      ``"M"`` whose ``name`` is ``"thread_name"``.
    - In the order of time, each phase that ends (``"e"``) has begun before (``"b"``, with the same
      ``cat``, ``id`` and ``name``) and has not ended since. At the end of the file none is open.
    - The marks of an arrow, all with the same ``id``, are in the order of time one ``"s"``, any
      number of ``"t"``, and one ``"f"``.

    Args:
        events: The events, in any order; of equal times, the first in the list comes first.

    >>> time_line_violations([{"ph": "b", "cat": "request", "id": "a", "name": "waiting", "ts": 0.0}])
    ['waiting of a is still open']
    """
    ### BEGIN SOLUTION
    said: list[str] = []
    named = {event["tid"] for event in events if event["ph"] == "M" and event["name"] == "thread_name"}
    is_open: Counter[tuple] = Counter()
    arrows: dict[object, str] = {}
    for event in sorted(events, key=lambda event: event.get("ts", 0)):
        phase = tuple(event.get(key) for key in ("name", "id", "cat"))
        if event["ph"] == "X":
            if event.get("dur", -1) < 0 or event.get("tid") not in named:
                said.append(f"the bar {event['name']} has no length or no track")
        elif event["ph"] == "b":
            is_open[phase] += 1
        elif event["ph"] == "e":
            is_open[phase] -= 1
            if is_open[phase] < 0:
                said.append(f"{phase[0]} of {phase[1]} has not begun")
        elif event["ph"] in "stf":
            arrows[event["id"]] = arrows.get(event["id"], "") + event["ph"]
    said += [f"{phase[0]} of {phase[1]} is still open" for phase, count in is_open.items() if count > 0]
    for number, marks in arrows.items():
        if marks != "s" + "t" * (len(marks) - 2) + "f":
            said.append(f"arrow {number} is {marks}")
    return said
    ### END SOLUTION


# %% check="14.3"
check("14.3", time_line_violations)

# %% [markdown] solution="14.3"
# **Explained.** Bars can be looked at one by one. Phases and arrows are pairs, so something has to be remembered: how often each
# phase is open, and the marks of each arrow so far. Both only make sense in the order of time, which need not be the order of the
# file. A count that falls below 0 is an end without a beginning; one above 0 at the end is a phase that was left open.

# %%
path = Path(tempfile.gettempdir()) / "request_trace.json"
story.to_chrome_trace(path)
data = json.loads(path.read_text(encoding="utf-8"))
events = data["traceEvents"] if isinstance(data, dict) else data
print(f"{path}: {path.stat().st_size / 1024:.0f} KiB, {len(events):,} events, marks {dict(Counter(event['ph'] for event in events))}")
broken = time_line_violations(events)
print("rules broken:", "nobody has looked yet" if broken is None else broken or "none")
print("with its ends left out:", time_line_violations([e for e in events if not (e["ph"] == "e" and e["id"] == "followed")]))

# %% claims="So check a file before you believe the picture."
assert time_line_violations(events) == [] and len(events) > 500
assert time_line_violations([e for e in events if not (e["ph"] == "e" and e["id"] == "followed")])

# %% [markdown]
# Open the file in the viewer. Find the track of the block manager, and follow the arrows of *followed* from its first bar to its
# last one: down through the components, and on to the next step. The phases above say when it waited.
#
# ## 7. vLLM, with the same tracer
#
# The same `Tracer` follows vLLM 0.33.0. Two runs of it were recorded with the three requests of section 3, the same blocks,
# budget and seats. **What ran:** vLLM's own scheduler, block manager, output processor and detokenizer, in one process on a CPU. **What
# did not:** its model, its API server and its tokenizer. Each request is handed the tokens that course-tiny gives; so all
# *decisions* are vLLM's, and times mean nothing. The first run plans its steps in turn. The second plans ahead, as vLLM does by default.
#
# **Predict:** the first run has the same memory and the same rules. In how many of its steps does the plan differ from your engine's?

# %%
predicted_differing = None  # your prediction: a number of steps

# %%
def plans_of(trace) -> dict[int, dict[str, int]]:
    """Return who computes how many tokens, step by step."""
    plans: dict[int, dict[str, int]] = {}
    for event in trace:
        if event.component == "executor" and event.request_id is not None:
            plans.setdefault(event.step, {})[event.request_id] = event.num_tokens
    return plans


recorded = vllm_runs()
ours, in_turn, ahead = plans_of(tracer.trace), plans_of(recorded["in turn"]), plans_of(recorded["ahead"])
differing = [step for step in ours if ours[step] != in_turn.get(step)]
compare(predicted_differing, len(differing), "steps")
for label, plans in (("yours", ours), ("vLLM, in turn", in_turn), ("vLLM, ahead", ahead)):
    print(f"{label:<14} {len(plans)} steps that compute, {sum(sum(plan.values()) for plan in plans.values())} tokens")

# %% [markdown]
# None. The same tokens for the same requests in the same steps, the same hits, even the same blocks: you have built that
# scheduler. But the traces are not the same. Here are the lines that only one of the two has, for *followed*:

# %% claims="None. The same tokens for the same requests in the same steps, the same hits, even the same blocks"
assert differing == [] and list(ours) == list(in_turn)
vllm_story = recorded["in turn"].request("followed")
for action in ("finds", "takes", "frees"):
    assert [(e.step, e.blocks) for e in story if e.action == action and e.step != 45] == [
        (e.step, e.blocks) for e in vllm_story if e.action == action and e.step is not None
    ], action

# %%
def lines_of(trace) -> list[str]:
    """Return what was done for the request, without times, blocks and text."""
    wanted = [event for event in trace.request("followed") if event.component in ("api", "scheduler", "detokenizer")]
    told = [(e.component, e.action, e.reason, f"in step {e.step}" if e.step is not None else "") for e in wanted]
    return [" ".join(filter(None, each)) for each in told if each[1] not in ("shows", "continues")]


for first, second, label in ((tracer.trace, recorded["in turn"], "yours alone"), (recorded["in turn"], tracer.trace, "vLLM alone")):
    others = set(lines_of(second))
    print(f"{label}: {[line for line in lines_of(first) if line not in others]}")

# %% [markdown]
# And the run that plans ahead, in words, from the preemption to the return, and at its end. (vLLM makes text of all that a step
# has sampled in one go, so its detokenizer names no request, and its lane in the film below is empty.)

# %%
for line in recorded["ahead"].request("followed").text().splitlines():
    if line.startswith(tuple(f"step {n} " for n in (19, 20, 21, 22, 23, 46, 47))) or "abort" in line or "frees" in line or "finds" in line:
        print(line)

# %%
viz.request_film(recorded["ahead"], "followed", block_size=8)

# %% [markdown]
# ### Live
#
# Where vLLM is installed, with a GPU, the same tracer follows it while it serves. The course does not install it, and these lines are
# not run here; the cell below says whether you could.
#
#     import os
#     os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"      # before vllm is imported: the tracer has to be in its process
#     from vllm import LLM
#     vllm_llm = LLM("a model of yours")
#     with Tracer(vllm_llm) as live:
#         vllm_llm.generate(["The scheduler"])
#     print(live.trace.request(live.trace.request_ids[0]).text())

# %%
has_vllm = importlib.util.find_spec("vllm") is not None
print("vLLM is installed here: try it live." if has_vllm else "vLLM is not installed here: what you see is the recording.")

# %% [markdown]
# ### Read and compare
#
# In six to nine sentences, with steps and numbers from the traces above: (a) Your trace says why the request was preempted, and
# vLLM's does not. From which lines of vLLM's trace can you still tell it? (b) At the end one engine says *finishes* and the other
# *is aborted*. Who notices the stop string in vLLM, who is told by whom, and why does the engine core not see it itself? (c) The run
# that plans ahead computes more tokens than the other two. Account for every one of them: in which step, for what, and what
# has planning ahead to do with it? What does one get for that price? (A full block gets its name, the hash of its tokens, in a
# call of `allocate_slots` in which all of its tokens are known. Nobody took one of the six blocks in between.)
#
# 10 points, about 15 minutes, marked by hand: 2 for (a), 3 for (b), 5 for (c).

# %% [markdown] answer="14.4" points=10
# **(a)** The block manager's line of step 21: it has too little room, with 0 blocks free, and the six blocks of *followed* are freed in
# the same step; *followed* was the last to be admitted. **(b)** The detokenizer in the output processor: it is the only one that has
# text. It tells the scheduler by an abort, as if the user had gone away, after the tokens of step 45 have been taken in. The engine core
# works on token ids, in a process of its own, and a stop string may be spread over tokens, or lie within one; so only where text
# is made can it be seen. In our engine the answer is part of the same step, so it is an ordinary end. **(c)** 9 tokens: 139 against
# 130. Eight of them in step 23. When step 20 was planned, to compute position 47, the token at that position was still on its
# way: step 19 chooses it further down in the trace. So the sixth block was full and had no name yet; it would have got one in
# the plan of step 21, and there was no room. Therefore 40 tokens are found in place of 48, and 9 are computed
# in place of 1. One in step 47, at position 72: when it was planned, the second line break of step 46 was not known, so nobody knew
# that the request ends; its token is thrown away. In return the GPU does not wait for the scheduler between two steps.
#
# **Mark scheme.** (a) 1 for the lack of room with 0 free, 1 for who holds or was admitted last. (b) 1 for the detokenizer or output
# processor, 1 for the abort, 1 for text against token ids. (c) 1 for 9, 2 for the eight (40 found in place of 48; the block
# without a name), 1 for the one behind the stop, 1 for what it buys.

# %% [markdown] criteria="14.4"
# - (a) A line of the block manager, and who stands last.
# - (b) Who has text, who has only ids, and what the message between them is called in the trace.
# - (c) A sum that comes out; the step of each part; the plan that was made before a token was known.

# %% claims="Account for every one of them: in which step, for what, and what"
tokens_of = {label: sum(sum(plan.values()) for plan in plans.values()) for label, plans in (("ours", ours), ("turn", in_turn), ("ahead", ahead))}
assert tokens_of == {"ours": 130, "turn": 130, "ahead": 139}
assert ahead[23]["followed"] == 9 and in_turn[22]["followed"] == 1 and ahead[47]["followed"] == 1

# %% [markdown]
# ## 8. For whoever asks
#
# The user of *followed* writes: "My answer stood still for a moment in the middle. Are you overloaded? Did I lose anything?" Write
# the reply of an engineer on call to a colleague who knows what a token is and nothing of your engine, in eight to ten sentences: (a)
# what happened, step by step, with who decided it and from which number; (b) what it cost, in tokens computed and in steps
# without a token, and what it did *not* cost; (c) what you would change if it happened often, with one setting and one part, and
# which line of a trace would tell you that it had helped.
#
# 10 points, about 15 minutes, marked by hand: 4 for (a), 3 for (b), 3 for (c).

# %% [markdown] answer="14.5" points=10
# **(a)** The request arrived before step 3 with 32 tokens, 24 of which were in the cache because another one begins with the same
# sentence. It computed the other 8 in two steps, 3 of them and then 5, since the others used the rest of the budget of 12, and had its first
# token in step 4. In step 21 it needed a seventh block and none of the 14 was free; the scheduler takes the one that was admitted
# last, which was the request itself. Its six blocks were given back, of which three came free, as the first three are shared.
# In step 22 another request had ended, and it came back. **(b)** It cost one step without a token, 21. No token was computed
# twice: 48 of 49 were found, and the last one had to be computed anyway. Nothing of the text was lost or changed. **(c)** More blocks, or
# fewer seats (`max_num_seqs` of 2), so that three that grow do not meet in 14 blocks; or a reserve of blocks at admission (a
# watermark), which lets a newcomer wait at the door. It has helped when there is no line "is preempted" and the waits before
# the first token have not grown by as much.
#
# **Mark scheme.** (a) 1 each for the hit, the chunks, the preemption with its number, the return. (b) 1 for the step without a token, 1 for
# no or hardly any computing again with figures, 1 for the text. (c) 1 for a setting, 1 for a part or rule, 1 for the line and what
# to look at beside it.

# %% [markdown] criteria="14.5"
# - (a) Hit, chunks, preemption, return: each with its step, its number and who decided.
# - (b) The price in steps and tokens, and what the text says of it.
# - (c) A change, where it acts, and two lines of a trace: one that should vanish, one that should not get worse.

# %% [markdown]
# ## 9. Interview corner
#
# Answer aloud, in two minutes each, before you unfold what a strong answer holds.

# %% [markdown] interview="14"

# %% [markdown]
# ## 10. Takeaways
#
# - A request is told by seven components, and each knows something else: text, ids, numbers of tokens, blocks, probabilities.
# - A hit is of full blocks, whoever filled them. A preempted request finds its own, until somebody needs them.
# - Right text proves little. What is chosen has to be delivered, and what is computed wanted: count both.
# - A token belongs to a request, not to a name.
# - A time line is only as good as its pairs. Check the file, then believe the picture.
# - Planning ahead buys a busy GPU, and pays in a step of delay for whoever is thrown out and a token for whoever stops.
#
# **Next:** the sixty questions, or your own engine under your own requests: `course trace --help`.

# %%
parts.table(lesson=13)
