"""The live figure of an engine and a simulation: what it records is what the scheduler did."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from course_lib.engine import LLM, EngineParts, SamplingParams
from course_lib.kv_cache.watch.recorder import snapshot_blocks
from course_lib.scheduling import DecisionLog, SchedulerConfig
from course_lib.simulation import ConstantCostModel, Simulator, TraceRequest
from course_lib.viz import follow_engine
from course_lib.viz.engine.live import engine_frame, engine_scene, step_caption, step_event
from course_lib.viz.engine.moments import BLOCK_STATES, Moment, Served
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, Cells, Text, flatten


def simulator(num_blocks: int = 40, **options: object) -> Simulator:
    chance = random.Random(3)
    requests = [
        TraceRequest(0.3 * n, chance.randrange(10, 150), chance.randrange(5, 40)) for n in range(12)
    ]
    config = SchedulerConfig(max_num_seqs=6, max_num_batched_tokens=128, **options)
    return Simulator(requests, config, ConstantCostModel(0.1), num_blocks, enable_caching=True)


def followed(simulator: Simulator) -> list[Moment]:
    with follow_engine(simulator, share=1) as live:
        while simulator.step() is not None:
            pass
    return live.states


def test_every_step_of_a_simulation_is_recorded_and_its_result_stays_the_same() -> None:
    plain = simulator()
    steps = []
    while (step := plain.step()) is not None:
        steps.append(step)
    moments = followed(simulator())
    *planned, last = moments
    assert [sum(each.num_scheduled for each in moment.served) for moment in planned] == [
        step.num_tokens for step in steps
    ]
    assert sum(len(moment.preempted) for moment in planned) == sum(s.num_preempted for s in steps)
    assert [moment.num_waiting for moment in planned] == [step.num_waiting for step in steps]
    assert not last.served
    assert last.num_free == last.num_blocks


def test_blocks_are_as_the_recorder_of_pools_has_them() -> None:
    running = simulator()
    with follow_engine(running, share=1) as live:
        for _ in range(30):
            running.step()
            running.scheduler.log.record_end(running.scheduler)
            blocks = snapshot_blocks(running.scheduler.kv_cache_manager)["blocks"]
            recorded = [BLOCK_STATES[number] for number in live.states[-1].blocks]
            assert recorded == [block["state"] for block in blocks]


def test_who_starts_and_who_is_done_is_told_once() -> None:
    moments = followed(simulator())
    for told in (lambda moment: moment.started, lambda moment: moment.ended):
        names = [name for moment in moments for name in told(moment)]
        assert sorted(names, key=int) == [str(number) for number in range(12)]


def test_a_log_that_the_scheduler_has_is_told_everything_and_comes_back() -> None:
    running = simulator()
    log = running.scheduler.log = DecisionLog()
    moments = followed(running)
    assert running.scheduler.log is log
    assert log.num_steps >= len(moments) - 1
    preempted = [d.request_id for d in log.decisions if d.action.value == "is preempted"]
    assert preempted == [name for moment in moments for name in moment.preempted] != []


def test_an_engine_generates_the_same_texts_and_the_figure_shows_their_ends() -> None:
    llm = LLM("course-tiny", parts=EngineParts.reference(), num_blocks=20, block_size=8)
    prompts, params = ["A block", "The queue"], SamplingParams(temperature=0, max_tokens=12)
    expected = [out.outputs[0].text for out in llm.generate(prompts, params)]
    num_steps = llm.metrics.num_steps
    with follow_engine(llm) as live:
        texts = [out.outputs[0].text for out in llm.generate(prompts, params)]
    assert texts == expected
    assert live.count == llm.metrics.num_steps - num_steps + 1
    tails = [each.tail for state in live.states for each in state.served]
    words = [llm.tokenizer.decode(tail) for tail in tails]
    for text in texts:
        # When a step is planned, the token that it is to give is not known yet.
        assert any(len(text) > len(known) > 10 and text.startswith(known) for known in words)
    last_words = list(live.film[-2].scene.texts())
    assert any(text.startswith("…") and text[1:] in " ".join(texts) for text in last_words)


def served(name: str, **changes: object) -> Served:
    request = Served(name, "decode", 1, 31, 31, 20, (1, 2), tuple(range(11)))
    return replace(request, **changes)


def moment(**changes: object) -> Moment:
    empty = Moment(3, (), (), 0, (), (), (), (), bytes([0, 1, 1, 2, 3, 4]), 5, 2, 2048, 128)
    return replace(empty, **changes)


MOMENTS = {
    "idle": moment(),
    "one decode": moment(served=(served("a"),)),
    "one token of many": moment(served=(served("a", num_computed=4000, num_tokens=4000),)),
    "long names": moment(
        served=(served("cmpl-0123456789"), served("cmpl-9876543210")),
        waiting=tuple(f"cmpl-waiting-{n}" for n in range(40)),
        num_waiting=12_345,
        swapped=("cmpl-swapped",),
        preempted=("cmpl-waiting-0",),
    ),
    "a full batch": moment(
        served=tuple(
            served(f"r{n}", state="prefill", num_scheduled=12 + n // 16, num_computed=900 - 6 * n)
            for n in range(128)
        ),
        blocks=bytes([n % 5 for n in range(2048)]),
        num_blocks=32_767,
        num_free=12_000,
    ),
    "two seats": moment(served=(served("a"), served("b")), max_num_seqs=2, blocks=bytes(512)),
}


def decode(tokens: object) -> str:
    return "The words that a request has\nsaid last, and more of them than there is room for, " * 2


@pytest.mark.parametrize("name", MOMENTS)
@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("text_of", [None, decode], ids=["simulation", "engine"])
def test_every_moment_can_be_read(
    name: str,
    width: float,
    text_of: Callable[[object], str] | None,
    collisions: Callable[[Scene], list[str]],
) -> None:
    scene = engine_scene(MOMENTS[name], width, text_of)
    assert collisions(scene) == []
    assert scene.width == width
    for shape in flatten(scene.shapes):
        if isinstance(shape, Text):
            assert shape.size >= SMALL_SIZE


def test_pictures_of_one_run_are_equally_high_so_that_nothing_jumps() -> None:
    moments = followed(simulator())
    for width in (WIDE, NARROW):
        assert len({engine_scene(each, width).height for each in moments}) == 1


def test_a_request_lights_its_blocks_and_its_place_in_the_other_views() -> None:
    scene = engine_scene(moment(served=(served("a"),)))
    things = [shape for shape in scene.shapes if getattr(shape, "of", None) == ("request", "a")]
    assert [shape.key for shape in things] == ["batch-a", "tokens-a"]
    assert things[0].lights == (("block", 1), ("block", 2))
    [grid] = [shape for shape in flatten(scene.shapes) if isinstance(shape, Cells)]
    assert (grid.kind, len(grid.states)) == ("block", 6)


def test_a_preempted_request_comes_to_the_queue_from_the_batch() -> None:
    before = engine_scene(moment(served=(served("a"),)))
    after = engine_scene(moment(waiting=("a",), num_waiting=1, preempted=("a",)))
    [queued] = [box for box in after.rects() if box.key == "queue-a"]
    assert queued.state == "preempted"
    assert queued.origin in {box.key for box in before.rects()}


@pytest.mark.parametrize(
    ("changes", "event"),
    [
        ({}, ""),
        ({"started": ("a", "b")}, "a and b start"),
        ({"ended": ("a",), "preempted": ("b",)}, "preempted b; a is done"),
        ({"started": ("a", "b", "c", "d", "e")}, "a, b and 3 more start"),
    ],
)
def test_events_are_what_a_reader_looks_for(changes: dict[str, object], event: str) -> None:
    assert step_event(moment(**changes)) == event
    assert engine_frame(moment(**changes)).event == event


def test_captions_count_in_good_english() -> None:
    one = moment(served=(served("a"),), num_waiting=1)
    assert step_caption(one) == (
        "Step 3: 1 request computes 1 token, 3 of 5 blocks are taken, 1 request waits."
    )
