"""Lesson 6's figure: memory climbs to a line, somebody gives way, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from course_lib.kv_cache.manager import KVCacheManager
from course_lib.kv_cache.sizing import kv_bytes_per_token
from course_lib.scheduling.preemption import recompute_seconds, swap_seconds
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig
from course_lib.simulation.cost_model import RooflineCostModel
from course_lib.specs import GPUS, MODELS
from course_lib.viz.kit.charts.axes import Scale, horizontal_axis, vertical_axis
from course_lib.viz.kit.controls import Choice
from course_lib.viz.kit.explorer import Explorer
from course_lib.viz.kit.layout import WIDE, bottom_of, legend, text_width, wrapped
from course_lib.viz.kit.own_parts import with_note, with_own_parts
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, TEXT_SIZE, Line, Rect, Shape, Text

NUM_BLOCKS = 36
"""Blocks that requests may hold."""

_BLOCK_SIZE = 16
_SEATS = 16
_BANDWIDTH = 25e9
_FEW_BLOCKS = 12
"""Blocks on the CPU for which its lane has room at least."""
_MODEL, _GPU = MODELS["llama-3.1-8b"], GPUS["a100-80gb"]

_REQUESTS = (
    # name, tokens of the prompt, tokens of the answer, the step before which it comes
    ("A", 73, 53, 0),
    ("B", 123, 49, 3),
    ("C", 68, 76, 6),
    ("D", 56, 39, 9),
    ("E", 77, 36, 13),
    ("F", 56, 78, 20),
    ("G", 75, 44, 21),
    ("H", 73, 63, 23),
    ("I", 57, 51, 30),
    ("J", 69, 66, 36),
)
_MOST_STEPS = 400

POLICIES = {
    "last in": "last_in",
    "most tokens": "most_tokens",
    "least progress": "least_computed",
}
"""Who may be chosen to give way, by what the reader sees."""
MODES = {"gone, to be computed again": "recompute", "copied to the CPU": "swap"}
WATERMARKS = {"none": 0.0, "1 block": 0.05, "7 blocks": 0.2}

_MARGIN, _TOP, _HEIGHT, _LANE = 24, 88, 300, 90
_NAMES = {"running": "runs", "prefill": "computes again", "swapped": "on the CPU"}


@dataclass(frozen=True)
class Moment:
    """One step, as the figure shows it.

    Attributes:
        running: Who runs, in order of admission: name, blocks, and whether it computes again what
            it has lost.
        swapped: Who is on the CPU, with how many blocks.
        preempted: Who gave way in this step: name, and the tokens that were computed of it.
        num_waiting: Who waits.
    """

    running: tuple[tuple[str, int, bool], ...]
    swapped: tuple[tuple[str, int], ...]
    preempted: tuple[tuple[str, int], ...]
    num_waiting: int


def record(victim: str, mode: str, watermark: float) -> list[Moment]:
    """Let a scheduler serve the figure's requests, and return what is to be seen in each step.

    Args:
        victim: The name of a victim policy.
        mode: ``"recompute"`` or ``"swap"``.
        watermark: Share of the blocks that stays free at admission.

    >>> moments = record("last_in", "recompute", 0.0)
    >>> [name for moment in moments for name, _ in moment.preempted][0]
    'F'
    """
    config = SchedulerConfig(
        max_num_seqs=_SEATS,
        preemption_mode="swap" if mode == "swap" else "recompute",
        num_cpu_blocks=NUM_BLOCKS,
        watermark=watermark,
        victim_policy=victim,
    )
    manager = KVCacheManager(NUM_BLOCKS + 1, _BLOCK_SIZE, False)
    scheduler = Scheduler(config, manager)
    lost: dict[str, int] = {}
    moments: list[Moment] = []
    while len(moments) < _MOST_STEPS:
        for index, (name, prompt, answer, step) in enumerate(_REQUESTS):
            if step == len(moments):
                tokens = range(1000 * index, 1000 * index + prompt)
                scheduler.add_request(Request(name, tokens, answer, arrival_time=float(step)))
        if not scheduler.has_unfinished_requests():
            break
        before = {r.request_id: r.num_computed_tokens for r in scheduler.running}
        output = scheduler.schedule()
        gone = tuple((name, before[name]) for name in before if name in output.preempted_req_ids)
        again = {r.request_id for r in scheduler.running if _computes_again(r, lost, mode)}
        lost.update(gone)
        space = scheduler.swap_space.held_blocks
        moments.append(
            Moment(
                tuple(
                    (r.request_id, len(manager.get_block_ids(r.request_id)), r.request_id in again)
                    for r in scheduler.running
                ),
                tuple((r.request_id, len(space[r.request_id])) for r in scheduler.swapped),
                gone,
                len(scheduler.waiting),
            )
        )
        caught_up = {r.request_id: 7 for r in scheduler.generating(output)}
        scheduler.update_from_output(output, caught_up)
    return moments


def _computes_again(request: Request, lost: dict[str, int], mode: str) -> bool:
    """Say whether a request computes in this step what it had lost; it has then paid."""
    if mode != "recompute" or request.request_id not in lost:
        return False
    if request.num_computed_tokens >= lost[request.request_id]:
        del lost[request.request_id]
    return True


def costs(moments: Sequence[Moment], mode: str) -> tuple[int, int, float]:
    """Return how often somebody gave way, the tokens that were lost or copied, and the time.

    Args:
        moments: What ``record`` returned.
        mode: ``"recompute"`` or ``"swap"``.

    Returns:
        Preemptions, tokens, and the milliseconds that Llama-3.1-8B on an A100 takes for them.

    >>> costs([Moment((), (), (("a", 1000),), 0)], "swap")
    (1, 1000, 10.48576)
    """
    gone = [num_tokens for moment in moments for _, num_tokens in moment.preempted]
    if mode == "swap":
        seconds = [swap_seconds(n, kv_bytes_per_token(_MODEL), _BANDWIDTH) for n in gone]
    else:
        roofline = RooflineCostModel(_MODEL, _GPU)
        flops = _GPU.peak_flops * roofline.compute_efficiency
        params = round(roofline.linear_flops_per_token / 2)
        seconds = [recompute_seconds(n, params, flops) for n in gone]
    return len(gone), sum(gone), 1000 * sum(seconds)


def pressure_scene(victim: str, mode: str, watermark: float, width: float = WIDE) -> Scene:
    """Draw the memory over time, request by request, with who gave way and what it cost.

    It shows the learner's own scheduler and policies, where there are any.

    Args:
        victim: The name of a victim policy.
        mode: ``"recompute"`` or ``"swap"``.
        watermark: Share of the blocks that stays free at admission.
        width: ``WIDE`` or ``NARROW``.
    """
    moments, problem = with_own_parts(record)(victim, mode, watermark)
    sentence = _in_words(moments, mode)
    lines = wrapped(sentence, width - 2 * _MARGIN)
    top = _TOP + 22 * len(lines)
    x = Scale(0, max(len(moments), 1), _MARGIN + 36, width - _MARGIN)
    y = Scale(0, NUM_BLOCKS, top + _HEIGHT, top)
    shapes: list[Shape] = [
        Text(_MARGIN, 34, "Blocks in use, newest on top", TEXT_SIZE, is_bold=True)
    ]
    shapes += [Text(_MARGIN, 60 + 22 * i, line, key=f"words-{i}") for i, line in enumerate(lines)]
    shapes += vertical_axis(y, x.start, "Blocks", x.end)
    shapes += _bands(moments, x, y)
    shapes.append(Line(((x.start, top), (x.end, top)), thickness=3, state="preempted", key="line"))
    shapes += _departures(moments, x, y)
    lane = top + _HEIGHT + 62
    shapes += horizontal_axis(x, top + _HEIGHT, "Step")
    if mode == "swap":
        most = max(sum(num_blocks for _, num_blocks in moment.swapped) for moment in moments)
        cpu = Scale(0, max(most, _FEW_BLOCKS), lane + 24 + _LANE, lane + 24)
        shapes.append(Text(_MARGIN, lane + 14, "Blocks on the CPU", TEXT_SIZE, is_bold=True))
        shapes += _lane(moments, x, cpu)
        lane += 24 + _LANE
    states = ["running", "swapped" if mode == "swap" else "prefill", "preempted"]
    names = {**_NAMES, "preempted": "the line, and who gives way"}
    shapes += legend(states, _MARGIN, lane + 16, width - 2 * _MARGIN, names)
    scene = Scene(
        width,
        bottom_of(shapes) + 14,
        tuple(shapes),
        title="Memory under pressure",
        alt=f"{sentence} {_departures_in_words(moments)}",
    )
    return with_note(scene, problem) if problem else scene


def memory_pressure() -> Explorer:
    """Return the figure with controls for the victim, what becomes of its blocks, and a watermark.

    >>> memory_pressure().values["mode"]
    'recompute'
    """
    return Explorer(
        pressure_scene,
        {
            "victim": Choice("Who gives way", POLICIES, "last_in"),
            "mode": Choice("Its blocks are", MODES, "recompute"),
            "watermark": Choice("Kept free at admission", WATERMARKS, 0.0),
        },
        precompute=True,
    )


def _bands(moments: Sequence[Moment], x: Scale, y: Scale) -> Iterator[Shape]:
    """Draw for each request the blocks that it holds, on top of those of earlier ones."""
    rows: dict[tuple[str, int, int, bool], list[int]] = {}
    for step, moment in enumerate(moments):
        base = 0
        for name, num_blocks, again in moment.running:
            rows.setdefault((name, base, num_blocks, again), []).append(step)
            base += num_blocks
    for (name, base, num_blocks, again), in_steps in rows.items():
        for first, last in _stretches(in_steps):
            state = "prefill" if again else "running"
            yield _band(name, (base, num_blocks), (first, last), state, x, y)


def _band(
    name: str, blocks: tuple[int, int], steps: tuple[int, int], state: str, x: Scale, y: Scale
) -> Rect:
    """Draw the blocks of a request over a stretch of steps in which nothing changes."""
    (base, num_blocks), (first, last) = blocks, steps
    left, right = x(first), x(last + 1)
    upper, lower = y(base + num_blocks), y(base)
    has_room = right - left > text_width(name, SMALL_SIZE) + 6 and lower - upper > SMALL_SIZE + 3
    when = f"step {first}" if first == last else f"steps {first} to {last}"
    return Rect(
        left,
        upper,
        right - left,
        lower - upper,
        state,
        name if has_room else "",
        tooltip=f"{name}, {when}: {num_blocks} blocks, {_NAMES[state]}",
        of=("request", name),
        lights=(("request", name),),
    )


def _lane(moments: Sequence[Moment], x: Scale, y: Scale) -> Iterator[Shape]:
    """Draw who is on the CPU."""
    yield Line(((x.start, y.start), (x.end, y.start)))
    rows: dict[tuple[str, int, int], list[int]] = {}
    for step, moment in enumerate(moments):
        base = 0
        for name, num_blocks in moment.swapped:
            rows.setdefault((name, base, num_blocks), []).append(step)
            base += num_blocks
    for (name, base, num_blocks), in_steps in rows.items():
        for first, last in _stretches(in_steps):
            yield _band(name, (base, num_blocks), (first, last), "swapped", x, y)


def _departures(moments: Sequence[Moment], x: Scale, y: Scale) -> Iterator[Shape]:
    """Mark above the line who gives way, where there is room for the name."""
    taken = -1e9
    for step, moment in enumerate(moments):
        for name, num_tokens in moment.preempted:
            at = x(step)
            tip = f"step {step}: {name} gives way with {num_tokens} computed tokens"
            yield Rect(at - 2, y.end - 5, 4, 10, "preempted", tooltip=tip, of=("request", name))
            if at - taken > text_width(name, SMALL_SIZE) + 6:
                yield Text(at, y.end - 9, name, SMALL_SIZE, "middle", is_bold=True, tooltip=tip)
                taken = at


def _stretches(steps: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of each run of successive steps.

    >>> list(_stretches([1, 2, 3, 7, 9, 10]))
    [(1, 3), (7, 7), (9, 10)]
    """
    first = last = steps[0]
    for step in steps[1:]:
        if step > last + 1:
            yield first, last
            first = step
        last = step
    yield first, last


def _in_words(moments: Sequence[Moment], mode: str) -> str:
    """Say what it cost."""
    times, num_tokens, milliseconds = costs(moments, mode)
    end = f"All have their answers after {len(moments)} steps."
    if not times:
        return f"Nobody has to give way. {end}"
    how = "are copied out and in" if mode == "swap" else "are computed again"
    often = "Once somebody gives way" if times == 1 else f"{times} times somebody gives way"
    return (
        f"{often}; {num_tokens:,} tokens {how}, which takes Llama-3.1-8B on an A100 "
        f"{milliseconds:.1f} ms. {end}"
    )


def _departures_in_words(moments: Sequence[Moment]) -> str:
    """List who gives way when."""
    gone: Mapping[int, tuple[tuple[str, int], ...]] = {
        step: moment.preempted for step, moment in enumerate(moments) if moment.preempted
    }
    listed = (
        f"step {step}: {name} with {num_tokens} tokens"
        for step, each in gone.items()
        for name, num_tokens in each
    )
    return "; ".join(listed)
