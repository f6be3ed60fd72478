"""Traces as plain data: what is written is read back, and what is damaged is refused by name."""

import copy
import json
from typing import Any

import pytest

from course_lib.engine import LLM, EngineParts, SamplingParams, Trace, Tracer
from course_lib.engine.tracing.recorded import as_data, from_data, vllm_runs


@pytest.fixture(scope="module")
def trace() -> Trace:
    """Five requests with one prompt, of whom two find a seat; then two answers share a block."""
    llm = LLM(
        "course-tiny", parts=EngineParts.reference(), num_blocks=9, block_size=4, max_num_seqs=2
    )
    params = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)
    with Tracer(llm) as tracer:
        llm.generate([list(range(40, 51))] * 5, params, use_tqdm=False)
        llm.generate(list(range(60, 66)), SamplingParams(max_tokens=2, n=2), use_tqdm=False)
    return tracer.trace


def to_the_microsecond(trace: Trace) -> list[Any]:
    times = [(round(1e6 * event.start), round(1e6 * event.seconds)) for event in trace]
    return [(each[2:], time) for each, time in zip(trace, times, strict=True)]


def test_a_trace_comes_back_through_json_as_it_was(trace: Trace) -> None:
    actions = {event.action for event in trace}
    assert {"waits", "copies", "shares", "frees", "shows"} <= actions
    read = from_data(json.loads(json.dumps(as_data(trace))))
    assert to_the_microsecond(read) == to_the_microsecond(trace)
    assert [step[2:] for step in read.steps] == [step[2:] for step in trace.steps]
    assert read.queues == trace.queues
    assert read.queues != {}
    assert all(type(event.blocks) is tuple and type(event.pairs) is tuple for event in read)


def test_what_is_read_of_vllm_is_whole() -> None:
    for name, recorded in vllm_runs().items():
        assert recorded.request_ids == ("other-0", "other-1", "followed"), name
        assert {event.step for event in recorded if event.step is not None} == set(
            range(len(recorded.steps))
        )
        for request_id in recorded.request_ids:
            ends = [e.action for e in recorded.request(request_id) if e.component != "detokenizer"]
            assert ends[1] == "arrives"
            assert {"finishes", "is aborted"} & set(ends)
        computed = [event.num_tokens or 0 for event in recorded if event.action == "computes"]
        assert sum(computed) == recorded.steps.column("num_tokens").sum()


def _without_a_start(data: dict[str, Any]) -> None:
    del data["events"][0]["start"]


def _with_a_field_too_many(data: dict[str, Any]) -> None:
    data["steps"][0]["colour"] = "red"


def _of_a_stranger(data: dict[str, Any]) -> None:
    data["events"][0]["component"] = "postman"


def _with_half_a_block(data: dict[str, Any]) -> None:
    data["events"][0]["blocks"] = [1, 2.5]


def _cut_off(data: dict[str, Any]) -> None:
    del data["queues"]


def _with_a_table_too_many(data: dict[str, Any]) -> None:
    data["requests"] = []


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (_without_a_start, r"events\.0\.start"),
        (_with_a_field_too_many, r"steps\.0\.colour"),
        (_of_a_stranger, r"events\.0\.component(.|\n)*'block manager'"),
        (_with_half_a_block, r"events\.0\.blocks\.1"),
        (_cut_off, r"queues"),
        (_with_a_table_too_many, r"requests"),
    ],
)
def test_damaged_data_are_refused_and_the_place_is_named(
    trace: Trace, damage: Any, named: str
) -> None:
    data = copy.deepcopy(as_data(trace))
    damage(data)
    with pytest.raises(ValueError, match=named):
        from_data(data)
