"""What a tracer sees of an engine, how it tells it, and that it leaves no mark."""

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from course_lib.engine import LLM, EngineParts, Event, SamplingParams, Trace, Tracer
from course_lib.engine.tracing.blocks import BlockObserver
from course_lib.engine.tracing.log import TraceLog
from course_lib.kv_cache import KVCacheManager
from course_lib.kv_cache.watch.watching import Call
from course_lib.scheduling import Request, RequestStatus, Scheduler, SchedulerConfig
from course_lib.scheduling.decisions import DecisionLog

PROMPT = list(range(40, 51))
OTHERS = [list(range(start, start + 7)) for start in range(3, 30, 4)]

COMPONENTS = (
    "api",
    "tokenizer",
    "scheduler",
    "block manager",
    "executor",
    "sampler",
    "detokenizer",
)


def make_llm(**options: Any) -> LLM:
    options = {"num_blocks": 200, "block_size": 4, "parts": EngineParts.reference()} | options
    return LLM("course-tiny", **options)


def asking(max_tokens: int = 8, **params: Any) -> SamplingParams:
    """Ask for just so many tokens, and for different ones, however the model was trained."""
    return SamplingParams(temperature=1.5, seed=3, ignore_eos=True, max_tokens=max_tokens, **params)


def traced(llm: LLM, prompts: Any, params: SamplingParams) -> tuple[Trace, list[Any]]:
    with Tracer(llm) as tracer:
        outputs = llm.generate(prompts, params, use_tqdm=False)
    return tracer.trace, outputs


def actions(events: Any, component: str | None = None) -> list[str]:
    return [event.action for event in events if component in (None, event.component)]


def the(events: Any, action: str) -> Event:
    [event] = [event for event in events if event.action == action]
    return event


# What it sees


def test_a_request_is_seen_at_every_component_from_its_prompt_to_its_text() -> None:
    trace, [output] = traced(make_llm(), "The scheduler", asking(2))
    request = trace.request("0")
    assert {event.component for event in request} == set(COMPONENTS)
    num_tokens = len(output.prompt_token_ids)
    assert [(event.step, event.action) for event in request] == [
        (None, "encodes"),
        (None, "arrives"),
        (0, "starts"),
        (0, "takes"),
        (0, "computes"),
        (0, "chooses"),
        (0, "shows"),
        (1, "continues"),
        (1, "computes"),
        (1, "chooses"),
        (1, "frees"),
        (1, "shows"),
        (1, "finishes"),
    ]
    assert the(request, "encodes").text == the(request, "arrives").text == "The scheduler"
    assert the(request, "arrives").num_tokens == num_tokens
    first, second = (event for event in request if event.action == "computes")
    assert (first.position, first.num_tokens) == (0, num_tokens)
    assert (second.position, second.num_tokens) == (num_tokens, 1)
    assert the(request, "takes").blocks == the(request, "frees").blocks
    assert the(request, "finishes").reason == "length"


def test_times_follow_each_other_and_batches_take_time() -> None:
    trace, _ = traced(make_llm(), [PROMPT, *OTHERS], asking(4))
    assert [event.start for event in trace] == sorted(event.start for event in trace)
    assert all(event.start >= 0 and event.seconds >= 0 for event in trace)
    for number, step in enumerate(trace.steps):
        inside = [event for event in trace if event.step == number]
        assert all(event.start >= step.start for event in inside)
        assert all(event.end <= step.end + 1e-9 for event in inside)
        assert next(e for e in inside if e.action == "runs the model").seconds > 0


def test_tokens_and_texts_are_those_of_the_answers() -> None:
    trace, outputs = traced(make_llm(max_num_seqs=3), ["A block", "Queues", "é"], asking(12, n=3))
    for group, output in enumerate(outputs):
        for answer in output.outputs:
            name = f"{answer.index}_{group}" if answer.index else str(group)
            request = trace.request(name)
            chosen = [event.token_id for event in request if event.action == "chooses"]
            shown = "".join(event.text for event in request if event.action == "shows")
            assert (chosen, shown) == (answer.token_ids, answer.text)


def test_waits_for_one_reason_are_one_event_and_as_many_in_the_story_of_a_request() -> None:
    llm = make_llm(max_num_seqs=1)
    with Tracer(llm) as tracer:
        llm.generate([PROMPT, *OTHERS[:2]], asking(6), use_tqdm=False)
    trace = tracer.trace
    kept = [(e.request_id, e.steps, e.reason) for e in trace if e.action == "waits"]
    full = "the batch is full: 1 of 1 requests"
    assert kept == [
        ("1", range(6), full),
        ("2", range(6), "behind others"),
        ("2", range(6, 12), full),
    ]
    plans = [event for event in trace if event.action == "plans"]
    waits = [event for event in trace.request("2") if event.action == "waits"]
    assert [(e.start, e.end) for e in waits] == [(e.start, e.end) for e in plans[:12]]
    assert [(e.step, e.reason) for e in waits] == [
        (step, "behind '1'" if step < 6 else full) for step in range(12)
    ]
    assert all(event.last_step is None for event in waits)
    assert trace.text().count("'1'  waits: the batch is full") == 6
    assert trace.text().count("1 more wait behind that") == 6


def test_what_is_kept_does_not_grow_with_those_who_wait() -> None:
    llm = make_llm(max_num_seqs=1)
    with Tracer(llm) as tracer:
        llm.generate([PROMPT] * 40, asking(20), use_tqdm=False)
        assert llm.scheduler.log is not None
        assert len(llm.scheduler.log.decisions) <= 40
    num_steps = len(tracer.trace.steps)
    num_waits = sum(event.action == "waits" for event in tracer.trace)
    # Each waits behind others once, and once as the first in line.
    assert (num_steps, num_waits) == (800, 2 * 39 - 1)
    reasons = [event.reason for event in tracer.request("39") if event.action == "waits"]
    full = "the batch is full: 1 of 1 requests"
    assert reasons == [f"behind '{1 + step // 20}'" for step in range(760)] + [full] * 20


def test_who_waits_has_a_reason() -> None:
    trace, _ = traced(make_llm(max_num_seqs=1), OTHERS[:3], asking(2))
    waits = [(e.step, e.reason) for e in trace.request("2") if e.action == "waits"]
    assert waits == [
        *[(step, "behind '1'") for step in (0, 1)],
        *[(step, "the batch is full: 1 of 1 requests") for step in (2, 3)],
    ]
    trace, _ = traced(make_llm(num_blocks=6), [PROMPT, PROMPT[::-1]], asking(2))
    assert "needs 3 blocks, 2 free" in [event.reason for event in trace.request("1")]


def test_a_prompt_that_was_computed_before_is_found_and_only_that_is_told_as_a_hit() -> None:
    llm = make_llm()
    trace, _ = traced(llm, PROMPT, asking(2))
    table = the(trace.request("0"), "takes").blocks
    trace, _ = traced(llm, PROMPT, asking(2))
    found = the(trace.request("1"), "finds")
    assert (found.blocks, found.num_tokens) == (table[:2], 8)
    assert the(trace.request("1"), "starts").position == 8


def test_reasons_are_found_out_without_lookups_in_the_trace() -> None:
    llm = make_llm(num_blocks=9)
    llm.generate(PROMPT, asking(2), use_tqdm=False)
    trace, _ = traced(llm, [OTHERS[0], PROMPT], asking(20))
    # The scheduler looks once per step in which it can admit; the log's own lookup is not told.
    for step in range(len(trace.steps)):
        found = [e for e in trace.request("2") if e.step == step and e.action == "finds"]
        assert len(found) <= 1


def test_answers_share_blocks_and_copy_the_one_that_they_write_to() -> None:
    trace, _ = traced(make_llm(), PROMPT, asking(2, n=3))
    shared = the(trace.request("1_0"), "shares")
    assert shared.reason == "of '0'"
    taken = [event.blocks for event in trace.request("0") if event.action == "takes"]
    assert shared.blocks == taken[0]
    assert [e.reason for e in trace.request("0") if e.action == "shares"] == [
        "with '1_0'",
        "with '2_0'",
    ]
    # Three write into one block; the last of them has it for itself by then.
    copies = [event for event in trace if event.action == "copies"]
    assert len(copies) == 2
    for event in copies:
        [(source, destination)] = event.pairs
        assert source == shared.blocks[-1]
        assert destination in the(trace.request(event.request_id or ""), "frees").blocks


@pytest.mark.parametrize("mode", ["recompute", "swap"])
def test_a_preemption_is_told_with_its_reason_and_its_blocks(mode: str) -> None:
    llm = make_llm(num_blocks=9, preemption_mode=mode, num_cpu_blocks=8, debug=True)
    # The victim is in the middle of a block when it gives way.
    trace, outputs = traced(llm, [PROMPT, PROMPT[:1:-1]], asking(12))
    victim = trace.request("1")
    lost = "is swapped out" if mode == "swap" else "is preempted"
    assert the(victim, lost).reason == "'0' needs 1 block, 0 free"
    assert (the(victim, "resumes").step or 0) > (the(victim, lost).step or 0) + 1
    assert trace.request("0").text().count("has too little room, 0 blocks free") == 1
    assert outputs[1].metrics.num_preemptions == 1
    if mode == "swap":
        out, back = the(victim, "swaps out").pairs, the(victim, "swaps in").pairs
        assert [cpu for _, cpu in out] == [cpu for cpu, _ in back]
        freed = [event.blocks for event in victim if event.action == "frees"]
        assert {gpu for gpu, _ in out} <= set(freed[0])
        assert {gpu for _, gpu in back} <= set(freed[1])
        assert sum(step.num_swapped_blocks for step in trace.steps) == len(out) + len(back)


def test_aborted_and_refused_requests_say_so() -> None:
    llm = make_llm()
    with Tracer(llm) as tracer:
        llm.add_request("a", PROMPT, asking(9))
        llm.step()
        llm.abort_request("a")
        with pytest.raises(ValueError, match="the prompt has 900 tokens"):
            llm.add_request("b", [5] * 900, asking())
        llm.add_request("w", PROMPT)
        llm.abort_request("w")
    assert actions(tracer.request("w")) == ["arrives", "is aborted"]
    events = list(tracer.request("a"))
    assert actions(events)[-3:] == ["shows", "is aborted", "frees"]
    assert events[-1].step is None
    reasons = [event.reason for event in tracer.trace if event.action == "add_request"]
    assert reasons[0] == ""
    assert reasons[1].startswith("raises PromptError: the prompt has 900 tokens")


def test_a_stop_string_is_told_as_the_reason() -> None:
    llm = make_llm()
    [output] = llm.generate("Blocks", asking(10), use_tqdm=False)
    stop = output.outputs[0].text[2:5]
    trace, _ = traced(llm, "Blocks", asking(10, stop=stop))
    assert the(trace.request("1"), "finishes").reason == f"stop ({stop!r})"


def test_the_steps_are_the_table_that_the_simulator_keeps() -> None:
    trace, _ = traced(make_llm(max_num_seqs=3), [PROMPT, *OTHERS], asking(5))
    for number, step in enumerate(trace.steps):
        computed = [e for e in trace if e.step == number and e.action == "computes"]
        assert step.num_requests == len(computed) <= 3
        assert step.num_tokens == sum(event.num_tokens or 0 for event in computed)
        assert step.context_tokens == sum((e.position or 0) + (e.num_tokens or 0) for e in computed)
    assert trace.steps.column("num_finished").sum() == trace.steps.column("num_admitted").sum() == 8
    assert trace.steps[0].num_waiting == 5
    assert trace.steps[0].kv_usage == pytest.approx((3 + 2 + 2) / 199)


# Attaching and taking off


def test_the_answers_are_the_same_and_no_mark_is_left() -> None:
    llm = make_llm()
    before = [
        dict(vars(subject)).keys() for subject in (llm, llm.scheduler, llm.executor, llm.tokenizer)
    ]
    expected = llm.generate("A queue", asking(), use_tqdm=False)[0].outputs
    trace, [output] = traced(llm, "A queue", asking())
    assert output.outputs == expected
    after = [
        dict(vars(subject)).keys() for subject in (llm, llm.scheduler, llm.executor, llm.tokenizer)
    ]
    assert after == before
    assert llm.scheduler.log is None
    assert "free" not in vars(llm.kv_cache_manager)
    num_events = len(trace)
    llm.generate(PROMPT, asking(), use_tqdm=False)
    assert len(trace) == num_events


def test_it_may_come_late_and_be_read_before_it_goes() -> None:
    llm = make_llm()
    llm.add_request("a", "A block", asking(5))
    llm.step()
    with Tracer(llm) as tracer:
        llm.step()
        assert actions(tracer.request("a"), "detokenizer") == ["shows"]
        while llm.has_unfinished_requests():
            llm.step()
    request = tracer.request("a")
    assert [event.step for event in request if event.action == "chooses"] == [0, 1, 2, 3]
    assert len(the(request, "frees").blocks) > 0
    assert "Request 'a': 4 out, steps 0 to 3" in request.text()


def test_two_tracers_see_the_same() -> None:
    llm = make_llm()
    with Tracer(llm) as outer, Tracer(llm) as inner:
        llm.generate([PROMPT, *OTHERS[:2]], asking(3), use_tqdm=False)
    both = [
        [(e.step, e.request_id, e.action) for e in t.trace.request("1")] for t in (outer, inner)
    ]
    assert both[0] == both[1]


def test_a_tracer_is_attached_once() -> None:
    tracer = Tracer(make_llm())
    with tracer, pytest.raises(RuntimeError, match="attached already"), tracer:
        pass


def test_a_log_that_the_scheduler_has_goes_on() -> None:
    llm = make_llm()
    llm.scheduler.log = log = DecisionLog()
    llm.generate(PROMPT, asking(2), use_tqdm=False)
    trace, _ = traced(llm, PROMPT, asking(2))
    assert llm.scheduler.log is log
    assert len(log.decisions) == 4
    assert actions(trace.request("1"), "scheduler") == ["starts", "continues"]


class Forgetful(Scheduler):
    """A scheduler of one's own that keeps no log."""

    def schedule(self) -> Any:
        log, self.log = self.log, None
        output = super().schedule()
        self.log = log
        return output


def test_a_scheduler_that_keeps_no_log_is_followed_too() -> None:
    llm = make_llm(parts=EngineParts.of({"Scheduler": Forgetful}), max_num_seqs=1)
    trace, _ = traced(llm, OTHERS[:2], asking(2))
    assert actions(trace.request("1"), "scheduler") == ["waits", "waits", "starts", "continues"]


def test_a_step_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = make_llm()

    def break_down(*arguments: Any) -> None:
        raise OSError("out of power")

    llm.add_request("a", PROMPT)
    monkeypatch.setattr(llm.executor.kv_store, "attend", break_down)
    with Tracer(llm) as tracer, pytest.raises(OSError, match="out of power"):
        llm.step()
    failed = the(tracer.trace, "runs the model")
    assert failed.reason == "raises OSError: out of power"
    assert "step 0 was not completed" in tracer.trace.text()
    assert tracer.request("a").text()


def test_without_a_tokenizer_there_are_no_texts(hf_checkpoint: Callable[..., Path]) -> None:
    llm = LLM(hf_checkpoint("llama"), num_blocks=50, parts=EngineParts.reference())
    trace, _ = traced(llm, PROMPT, asking(2))
    assert {event.text for event in trace} == {""}
    assert "chooses token" in trace.request("0").text()


# Telling it


def test_a_story_has_a_line_for_waiting_for_a_token_and_a_paragraph_for_more() -> None:
    llm = make_llm(max_num_seqs=1)
    trace, outputs = traced(llm, ["A block", "The queue"], asking(3))
    lines = trace.request("1").text().splitlines()
    num_tokens = len(outputs[1].prompt_token_ids)
    assert lines[0].startswith(f"Request '1': {num_tokens} tokens in, 3 out, steps 0 to 5, ")
    assert lines[1] == '    "The queue"'
    assert lines[4].startswith("steps 0-2 ")
    assert lines[4].endswith("waits: the batch is full: 1 of 1 requests")
    assert lines[5].startswith("step 3 ")
    assert lines[5].endswith(f"starts with {num_tokens} tokens from position 0")
    assert [line.split()[0] for line in lines[6:10]] == [
        "block",
        "executor",
        "sampler",
        "detokenizer",
    ]
    assert all(line.isprintable() for line in lines)


def test_the_story_of_all_has_every_step_and_counts_those_behind() -> None:
    trace, _ = traced(make_llm(max_num_seqs=1), OTHERS, asking(1))
    text = trace.text()
    assert f"step {len(trace.steps) - 1}, " in text
    assert "    5 more wait behind that" in text
    assert "7 tokens of 1 requests; 1 run, 6 wait, 1% of the blocks in use" in text


def test_rows_are_plain_and_a_csv_file_holds_them(tmp_path: Path) -> None:
    trace, _ = traced(make_llm(), PROMPT, asking(2, n=2))
    trace.to_csv(tmp_path / "trace.csv")
    with (tmp_path / "trace.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    rows = trace.rows()
    assert len(read) == len(rows) == len(trace)
    assert list(read[0]) == list(Event._fields)
    assert {type(value) for row in rows for value in row.values()} <= {
        str,
        int,
        float,
        type(None),
    }
    assert {row["blocks"] for row in read if row["action"] == "shares"} == {"1 2 3"}
    assert json.loads(json.dumps(rows)) == rows


def test_an_unknown_request_is_named() -> None:
    trace, _ = traced(make_llm(), [PROMPT, PROMPT], asking(1))
    with pytest.raises(ValueError, match="no request 'x' in this trace; there are: '0', '1'"):
        trace.request("x")


# The time line


@pytest.fixture(scope="module")
def chrome() -> list[dict[str, Any]]:
    llm = make_llm(num_blocks=20, max_num_seqs=4, preemption_mode="swap", num_cpu_blocks=9)
    trace, _ = traced(llm, ["A block table", *OTHERS], asking(20))
    assert trace.steps.column("num_preempted").sum() > 0
    return trace.chrome_events()


def test_bars_on_a_track_are_beside_or_inside_each_other(chrome: list[dict[str, Any]]) -> None:
    tracks: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
    for event in chrome:
        if event["ph"] == "X":
            tracks[event["tid"]].append((event["ts"], -event["dur"]))
    assert set(tracks) == set(range(8))
    for bars in tracks.values():
        ends: list[float] = []
        for start, minus_seconds in sorted(bars):
            while ends and ends[-1] <= start + 1e-3:
                ends.pop()
            end = start - minus_seconds
            assert not ends or end <= ends[-1] + 1e-3
            ends.append(end)


def test_every_arrow_begins_and_ends_in_a_bar_of_its_track(chrome: list[dict[str, Any]]) -> None:
    bars = [event for event in chrome if event["ph"] == "X"]
    arrows: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in chrome:
        if event["ph"] in "stf":
            arrows[event["id"]].append(event)
    assert len(arrows) == 1 + len(OTHERS)
    for stops in arrows.values():
        assert [event["ph"] for event in stops] == ["s", *["t"] * (len(stops) - 2), "f"]
        assert {event["bp"] for event in stops} == {"e"}  # the bar around it, not the next one
        assert [e["ts"] for e in stops] == sorted(event["ts"] for event in stops)
        for stop in stops:
            assert any(
                bar["tid"] == stop["tid"] and bar["ts"] <= stop["ts"] <= bar["ts"] + bar["dur"]
                for bar in bars
            )


def test_phases_of_a_request_end_before_the_next_begins(chrome: list[dict[str, Any]]) -> None:
    phases: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in chrome:
        if event["ph"] in "be":
            phases[event["id"]].append(event)
    assert len(phases) == 1 + len(OTHERS)
    for events in phases.values():
        marks = [(event["ph"], event["name"]) for event in events]
        assert marks[0] == ("b", "waiting")
        assert marks[-1] == ("e", "running")
        assert all(
            (opened[0], closed[0]) == ("b", "e") and opened[1] == closed[1]
            for opened, closed in zip(marks[::2], marks[1::2], strict=True)
        )
    names = {event["name"] for events in phases.values() for event in events}
    assert names == {"waiting", "running", "swapped"}


def test_what_a_request_goes_on_with_is_one_phase_and_waiting_draws_no_arrow() -> None:
    llm = make_llm(max_num_seqs=2, max_num_batched_tokens=len(PROMPT))
    trace, _ = traced(llm, [PROMPT, PROMPT[::-1]], asking(3, n=2))
    events = trace.chrome_events()
    marks = [(e["ph"], e["name"]) for e in events if e["ph"] in "be" and e["id"] == "0"]
    assert marks == [(mark, name) for name in ("waiting", "running") for mark in "be"]
    assert "shares" in actions(trace.request("0"))
    stops = [e for e in events if e["ph"] in "stf" and e["name"] == "request 1"]
    assert "waits" in actions(trace.request("1"))
    assert sum(stop["tid"] == 1 + COMPONENTS.index("scheduler") for stop in stops) == 3


def test_curves_show_requests_and_memory(chrome: list[dict[str, Any]]) -> None:
    curves = [event for event in chrome if event["ph"] == "C"]
    assert {event["name"] for event in curves} == {"requests", "KV cache"}
    used = [event["args"]["used"] for event in curves if event["name"] == "KV cache"]
    assert 0.9 < max(used) <= 1.0


def test_tracks_have_the_names_of_the_components(chrome: list[dict[str, Any]]) -> None:
    names = [event["args"]["name"] for event in chrome if event["name"] == "thread_name"]
    assert names == ["steps", *COMPONENTS]


def test_a_file_follows_one_request_or_all(tmp_path: Path) -> None:
    trace, _ = traced(make_llm(), [PROMPT, PROMPT], asking(2))
    for name, told in (("one.json", trace.request("1")), ("all.json", trace)):
        told.to_chrome_trace(tmp_path / name)
    read = [
        json.loads((tmp_path / name).read_text())["traceEvents"]
        for name in ("one.json", "all.json")
    ]
    followed = [{e["name"] for e in events if e["ph"] in "stf"} for events in read]
    assert followed == [{"request 1"}, {"request 0", "request 1"}]


# vLLM


class Groups:
    """What vLLM's manager returns: blocks in groups."""

    def __init__(self, blocks: list[Any]) -> None:
        self.blocks = blocks

    def get_block_ids(self) -> tuple[list[int], ...]:
        return ([block.block_id for block in self.blocks],)


class VLLMManager(KVCacheManager):
    """The manager of this course, as vLLM's looks."""

    def get_computed_blocks(self, request: Any) -> Any:
        blocks, num_tokens = super().get_computed_blocks(request)
        return Groups(blocks), num_tokens

    def allocate_slots(
        self, request: Any, num_new: int, num_hits: int = 0, hits: Any = (), **keywords: Any
    ) -> Any:
        found = getattr(hits, "blocks", hits)
        blocks = super().allocate_slots(request, num_new, num_hits, found, **keywords)
        return None if blocks is None else Groups(blocks)

    def get_block_ids(self, request_id: str) -> Any:
        return (super().get_block_ids(request_id),)

    block_tables = property()  # it has none: hasattr says no


class VLLMScheduler(Scheduler):
    """The scheduler of this course, as vLLM's looks."""

    def schedule(self, throttle_prefills: bool = False) -> Any:
        output = super().schedule()
        new = [SimpleNamespace(req_id=request.request_id) for request in output.scheduled_new_reqs]
        resumed = {request.request_id for request in output.scheduled_resumed_reqs}
        return SimpleNamespace(
            num_scheduled_tokens=output.num_scheduled_tokens,
            total_num_scheduled_tokens=output.total_num_scheduled_tokens,
            scheduled_new_reqs=new,
            scheduled_cached_reqs=SimpleNamespace(resumed_req_ids=resumed),
            preempted_req_ids=output.preempted_req_ids or None,
            own=output,
        )

    def update_from_output(self, plan: Any, model_output: Any) -> Any:
        super().update_from_output(plan.own, model_output)
        outputs = [
            SimpleNamespace(
                request_id=name,
                new_token_ids=[token],
                finish_reason=None if name in self.requests else "length",
            )
            for name, token in model_output.items()
        ]
        return {0: SimpleNamespace(outputs=outputs)} if outputs else {}


class NewerVLLMScheduler(VLLMScheduler):
    """One that tells of who comes back as of who is new, as vLLM's newer model runner wants it."""

    def schedule(self, throttle_prefills: bool = False) -> Any:
        plan = super().schedule(throttle_prefills)
        resumed = plan.scheduled_cached_reqs.resumed_req_ids
        plan.scheduled_new_reqs += [SimpleNamespace(req_id=name) for name in sorted(resumed)]
        plan.scheduled_cached_reqs = SimpleNamespace(resumed_req_ids=set())
        return plan


class VLLM:
    """An engine with the attributes of vLLM 0.33.0 that the tracer uses, in its place and order."""

    def __init__(self, num_blocks: int = 100, kind: type[VLLMScheduler] = VLLMScheduler) -> None:
        manager = VLLMManager(num_blocks, 4)
        self.scheduler = kind(SchedulerConfig(max_num_seqs=2), manager)
        executor = SimpleNamespace(execute_model=self._execute)
        core = SimpleNamespace(scheduler=self.scheduler, model_executor=executor)
        self.core = core
        self.llm_engine = SimpleNamespace(
            input_processor=SimpleNamespace(process_inputs=self._process),
            output_processor=SimpleNamespace(process_outputs=lambda outputs: outputs),
            engine_core=SimpleNamespace(engine_core=core),
        )

    def get_tokenizer(self) -> Any:
        return SimpleNamespace(decode=lambda token_ids: "".join(map(chr, token_ids)))

    def _process(self, request_id: str, prompt: str, params: Any) -> Request:
        return Request(request_id, [ord(letter) for letter in prompt], max_tokens=params)

    def _execute(self, plan: Any, non_block: bool = False) -> dict[str, int]:
        requests = self.scheduler.requests
        done = [n for n in plan.num_scheduled_tokens if not requests[n].num_tokens_ahead]
        return {
            name: ord("a") + requests[name].num_output_tokens
            for name in done
            if requests[name].num_computed_tokens >= requests[name].num_tokens
        }

    def add(self, request_id: str, prompt: str, max_tokens: int) -> None:
        request = self.llm_engine.input_processor.process_inputs(request_id, prompt, max_tokens)
        self.scheduler.add_request(request)

    def run(self) -> None:
        while self.scheduler.has_unfinished_requests():
            plan = self.scheduler.schedule(False)
            output = self.core.model_executor.execute_model(plan, non_block=True)
            found = self.scheduler.update_from_output(plan, output)
            self.llm_engine.output_processor.process_outputs(
                [each for group in found.values() for each in group.outputs]
            )


@pytest.fixture
def vllm_trace() -> Iterator[tuple[VLLM, Tracer]]:
    engine = VLLM()
    tracer = Tracer(engine)
    with tracer:
        yield engine, tracer


def test_vllm_returns_more_than_blocks_and_tokens_of_a_prefix_hit() -> None:
    log = TraceLog()
    observer = BlockObserver(VLLMManager(8, 4), log)
    request = Request("0", [1, 2, 3, 4, 5], max_tokens=1)
    observer.before()
    found = (Groups([SimpleNamespace(block_id=3)]), 4, 0)
    observer.after(Call("get_computed_blocks", (request,), {}, found))
    assert [(event.action, event.blocks, event.num_tokens) for event in log.events] == [
        ("finds", (3,), 4)
    ]


def test_vllm_is_told_in_the_same_words(vllm_trace: tuple[VLLM, Tracer]) -> None:
    engine, tracer = vllm_trace
    engine.add("0", "the queue", 2)
    engine.add("1", "the queue", 2)
    engine.add("2", "a block", 1)
    engine.run()
    assert [(event.step, event.action) for event in tracer.request("1")] == [
        (None, "encodes"),
        (None, "arrives"),
        (0, "starts"),
        (0, "finds"),
        (0, "takes"),
        (0, "computes"),
        (0, "chooses"),
        (1, "continues"),
        (1, "computes"),
        (1, "chooses"),
        (1, "frees"),
        (1, "finishes"),
    ]
    assert [e.text for e in tracer.request("1") if e.action == "chooses"] == ["a", "b"]
    assert the(tracer.request("1"), "arrives").text == "the queue"
    assert the(tracer.request("1"), "frees").blocks == (1, 2, 4)
    assert actions(tracer.request("2"), "scheduler") == ["waits", "waits", "starts", "finishes"]
    steps = tracer.trace.steps
    assert steps.column("num_tokens").tolist() == [9 + 1, 2, 7]
    assert steps.column("num_waiting").tolist() == [1, 1, 0]
    assert steps.column("num_finished").tolist() == [0, 2, 1]
    assert {event["ph"] for event in tracer.trace.chrome_events()} >= set("XCMstfbe")
    assert "waits" in tracer.request("2").text()


def test_vllm_may_plan_a_step_before_the_last_one_is_over(
    vllm_trace: tuple[VLLM, Tracer],
) -> None:
    engine, tracer = vllm_trace
    engine.add("0", "the queue", 1)
    first = engine.scheduler.schedule()
    tokens = engine.core.model_executor.execute_model(first)
    engine.add("1", "a block", 1)
    second = engine.scheduler.schedule()
    more = engine.core.model_executor.execute_model(second)
    engine.scheduler.update_from_output(first, tokens)
    engine.scheduler.update_from_output(second, more)
    trace = tracer.trace
    assert [the(trace.request(name), "chooses").step for name in "01"] == [0, 1]
    runs = [event for event in trace if event.action == "runs the model"]
    for earlier, later in (runs, trace.steps):
        assert earlier.end <= later.start + 1e-9


@pytest.mark.parametrize("kind", [VLLMScheduler, NewerVLLMScheduler])
def test_who_has_started_before_resumes_however_vllm_tells_of_it(
    kind: type[VLLMScheduler],
) -> None:
    engine = VLLM(num_blocks=6, kind=kind)
    with Tracer(engine) as tracer:
        engine.add("0", "a queue", 8)
        engine.add("1", "the block", 4)
        engine.run()
    victim = actions(tracer.request("1"), "scheduler")
    told = [action for action in victim if action not in ("waits", "continues")]
    assert told == ["starts", "is preempted", "resumes", "finishes"]
    assert actions(tracer.request("0"), "scheduler").count("resumes") == 0
    assert tracer.trace.steps.column("num_admitted").sum() == 3


@pytest.mark.parametrize("is_aborted", [False, True])
def test_an_id_that_comes_again_after_its_end_starts(is_aborted: bool) -> None:
    engine = VLLM(kind=NewerVLLMScheduler)
    with Tracer(engine) as tracer:
        engine.add("0", "a queue", 1)
        if is_aborted:
            engine.scheduler.schedule()
            engine.scheduler.finish_requests("0", RequestStatus.FINISHED_ABORTED)
        else:
            engine.run()
        engine.add("0", "a block", 1)
        engine.run()
    told = actions(tracer.request("0"), "scheduler")
    assert told.count("starts") == 2
    assert "resumes" not in told


def test_vllm_is_left_as_it_was() -> None:
    engine = VLLM()
    subjects = (engine.scheduler, engine.core.model_executor, engine.scheduler.kv_cache_manager)
    before = [dict(vars(subject)) for subject in subjects]
    with Tracer(engine.llm_engine):
        assert vars(engine.scheduler) != before[0]
    assert [dict(vars(subject)) for subject in subjects] == before


def test_aborts_of_vllm_are_told(vllm_trace: tuple[VLLM, Tracer]) -> None:
    engine, tracer = vllm_trace
    engine.add("0", "the queue", 2)
    engine.scheduler.finish_requests(["0", "9"], RequestStatus.FINISHED_ABORTED)
    assert actions(tracer.trace) == ["encodes", "arrives", "is aborted"]


@pytest.mark.parametrize(
    ("break_it", "missing"),
    [
        (lambda engine: delattr(engine, "output_processor"), "output_processor.process_outputs"),
        (
            lambda engine: setattr(engine, "engine_core", object()),
            "engine_core.engine_core.scheduler.add_request",
        ),
    ],
)
def test_an_engine_that_cannot_be_followed_is_refused(
    break_it: Callable[[Any], None], missing: str
) -> None:
    engine = VLLM().llm_engine
    break_it(engine)
    with pytest.raises(TypeError, match=rf"it has no {missing}\..*0\.33\.0.*MULTIPROCESSING=0"):
        Tracer(engine)
