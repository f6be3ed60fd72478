"""Lesson 9's figure: one workload, several orders of service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from course_lib import parts
from course_lib.kv_cache.sizing import num_kv_blocks
from course_lib.scheduling.policies import POLICIES, FCFSRequestQueue
from course_lib.simulation.cost_model import CostModel, RooflineCostModel
from course_lib.simulation.tournament import Policy
from course_lib.simulation.workload import TraceRequest, Workload, labelled, load_azure
from course_lib.specs import GPUS, MODELS
from course_lib.viz.kit.controls import Choice, Slider
from course_lib.viz.kit.explorer import Explorer
from course_lib.viz.kit.layout import SLIM, WIDE, bottom_of, wrapped
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, Shape, Text, Tone
from course_lib.viz.policies.line import MARGIN, draw_line, line_words
from course_lib.viz.policies.race import BASE, Race
from course_lib.viz.policies.reasons import label
from course_lib.viz.policies.waits import compared, gap_chart, waits_chart

_MODEL, _GPU = MODELS["llama-3.1-8b"], GPUS["a100-80gb"]
_ORDERS = ("fcfs", "priority", "sjf", "srpt", "ageing", "vtc", "edf")
_NUM_REQUESTS = 300
_FEW_BLOCKS, _BLOCKS_OF_MANY = 800, 1500
_MOST_TAKEN = 30


def policy_race(
    requests: Sequence[TraceRequest] | None = None,
    policies: Mapping[str, Policy] | None = None,
    *,
    num_blocks: int | None = None,
    cost_model: CostModel | None = None,
) -> Explorer:
    """Return a figure of one workload, served in several orders.

    Above is the waiting line of first come, first served when it is longest, put in the order that
    the reader picks: who is next, and why. Below are everybody's times to first token, sorted, of
    first come, first served and two orders more; or how far two clients' services are apart, with
    the bound of VTC. With more blocks the line empties, and the order does not matter.

    Args:
        requests: The requests, by arrival; by default 300 of the Azure conversation trace. Where
            none has a client, a priority or a deadline, all get those of ``labelled``.
        policies: Orders of service by the name under which they appear: a name in ``POLICIES``, a
            queue class, or what makes a queue; "fcfs" is always there. What a queue does wrong
            stands in the picture in words. By default seven of the library, with the learner's own
            parts where there are any.
        num_blocks: Blocks of the KV cache at first, the null block included; by default 800 for
            up to 300 requests, and 1,500 for more, so that there is a line.
        cost_model: Tells how long an iteration takes; Llama-3.1-8B on an A100 by default.

    Raises:
        ValueError: There are fewer than two requests, no policy of a name, or no blocks.

    >>> figure = policy_race(load_azure()[:40], {"sjf": "sjf"}, num_blocks=400)
    >>> figure.set(order="sjf", served=1)
    >>> figure.scene.alt.startswith("The line in the order of SJF.")
    True
    """
    workload = _workload(requests)
    if num_blocks is None:
        num_blocks = _FEW_BLOCKS if len(workload) <= _NUM_REQUESTS else _BLOCKS_OF_MANY
    if num_blocks < 2:
        raise ValueError(f"num_blocks is {num_blocks}; take at least 2, one of them is null")
    entries = _entries(policies)
    race = Race(workload, entries, num_blocks, cost_model or RooflineCostModel(_MODEL, _GPU))

    def build(
        order: str, beside: str, served: int, blocks: int, below: str, width: float = WIDE
    ) -> Scene:
        return race_scene(race, order, beside, served, blocks, below, width)

    names = {label(name): name for name in entries}
    first = "ageing" if "ageing" in entries else list(entries)[-1]
    beside = "sjf" if "sjf" in entries else list(entries)[min(1, len(entries) - 1)]
    return Explorer(
        build,
        {
            "order": Choice("Order", names, first),
            "served": Slider("Taken from the line", 0, _MOST_TAKEN, 0, unit="requests"),
            "beside": Choice("Compared with", names, beside),
            "below": Choice("Below", {"everybody's wait": "waits", "fairness": "gap"}, "waits"),
            "blocks": Choice("KV cache", _sizes(num_blocks), num_blocks),
        },
        narrow=SLIM,
    )


def race_scene(
    race: Race,
    order: str,
    beside: str,
    served: int,
    blocks: int,
    below: str,
    width: float = WIDE,
) -> Scene:
    """Draw the line in an order, and below it what becomes of everybody.

    Args:
        race: What is shown.
        order: The order of the line.
        beside: The order whose curve is drawn too.
        served: How many of the line have been taken.
        blocks: Blocks of the KV cache.
        below: ``"waits"`` or ``"gap"``.
        width: ``WIDE`` or ``SLIM``.
    """
    shapes: list[Shape] = list(draw_line(race, order, blocks, served, width))
    names, inner = compared(order, beside), width - 2 * MARGIN
    if below == "gap":
        chart, words = gap_chart(race, names, blocks, inner)
    else:
        chart, words = waits_chart(race, names, order, blocks, inner)
    chart = chart.moved(MARGIN, bottom_of(shapes) + 28)
    shapes += chart.shapes
    y = bottom_of(shapes) + 30
    source = f"{race.workload.name}, {len(race.workload)} requests: {race.workload.source}."
    for text in (words, source):
        tone: Tone = "text" if text is words else "muted"
        for row in wrapped(text, inner, SMALL_SIZE):
            shapes.append(Text(MARGIN, y, row, SMALL_SIZE, tone=tone))
            y += 21
        y += 4
    said = line_words(race, order, blocks, served)
    return Scene(
        width,
        bottom_of(shapes) + 12,
        tuple(shapes),
        title="One workload, several orders of service",
        alt=f"The line in the order of {label(order)}. {said} {chart.title}. {words}",
    )


def _workload(requests: Sequence[TraceRequest] | None) -> Workload:
    """Return the requests as a workload in which policies have something to look at."""
    if requests is None:
        requests = load_azure()[:_NUM_REQUESTS]
    if len(requests) < 2:
        raise ValueError(f"{len(requests)} requests make no line; give at least 2")
    if not isinstance(requests, Workload):
        requests = Workload("requests", "as given", is_synthetic=True, requests=tuple(requests))
    plain = {(each.client_id, each.priority, each.deadline) for each in requests}
    return labelled(requests) if len(plain) == 1 else requests


def _entries(policies: Mapping[str, Policy] | None) -> dict[str, Policy]:
    """Return what makes the queue of each order, first come, first served first.

    Raises:
        ValueError: There is no policy of a name.
    """
    if policies is None:
        return {name: parts.get(POLICIES[name].__name__) for name in _ORDERS}
    entries: dict[str, Policy] = {BASE: FCFSRequestQueue}
    for name, policy in policies.items():
        if isinstance(policy, str):
            if policy not in POLICIES:
                known = ", ".join(POLICIES)
                raise ValueError(f"no policy {policy!r}; known: {known}, or pass a queue class")
            policy = POLICIES[policy]
        entries[name] = policy
    return entries


def _sizes(num_blocks: int) -> dict[str, int]:
    """Return the sizes of the KV cache that can be chosen, by what the reader sees."""
    whole = num_kv_blocks(_MODEL, _GPU)
    sizes = sorted({num_blocks, 2 * num_blocks, 4 * num_blocks, max(whole, num_blocks)})
    return {f"{size:,} blocks": size for size in sizes}
