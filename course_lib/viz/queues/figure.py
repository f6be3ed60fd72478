"""Lesson 10's figure: turn up the utilisation, and see who waits."""

from __future__ import annotations

from functools import lru_cache

from course_lib import parts
from course_lib.kv_cache.sizing import num_kv_blocks
from course_lib.simulation.cost_model import RooflineCostModel
from course_lib.simulation.simulation_parts import SimulationParts
from course_lib.simulation.workload import Workload, load_azure
from course_lib.specs import GPUS, MODELS
from course_lib.viz.kit.charts.axes import Axis, LogAxis
from course_lib.viz.kit.charts.chart import Chart
from course_lib.viz.kit.charts.curves import Curve, Dots, curve_chart, with_cursor
from course_lib.viz.kit.charts.words import number, quantity
from course_lib.viz.kit.controls import Choice, Slider
from course_lib.viz.kit.explorer import Explorer
from course_lib.viz.kit.layout import SLIM, WIDE, bottom_of, wrapped
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, Shape, Text, Tone
from course_lib.viz.queues.dial import Dial, Waits, until

MARGIN = 12
_MODEL, _GPU = MODELS["llama-3.1-8b"], GPUS["a100-80gb"]
_NUM_REQUESTS = 300
_OWN = ("Scheduler", "FCFSRequestQueue")
_SHOWN_SERVICES = 60
_SIZE_NAMES = {"exponential": "exponential", "all equal": "equal", "of the trace": "trace"}
_SIZE_WORDS = {
    "exponential": "exponential sizes",
    "equal": "equal sizes",
    "trace": "sizes of the trace",
}
_ENGINE_NAMES = {"not shown": "none", "load as λS": "time", "load as λD": "work"}


def queueing_dial(
    requests: Workload | None = None, *, simulate_waits: Waits | None = None
) -> Explorer:
    """Return a figure of one server, with a dial for its utilisation.

    Above is the work that is left, over a time of 60 services, as the simulator has it. Below are
    the mean and the p99 of the wait at all loads: by theory, where there is a formula, and by
    simulation of 100,000 customers. The sizes and the arrivals can be chosen. And the same axes
    take an engine: its load is either counted as if requests were served one by one, or by the work
    that they do not share.

    Args:
        requests: What the engine serves, and whose times alone are the sizes "of the trace"; by
            default 300 of the Azure conversation trace.
        simulate_waits: The simulator; by default the learner's own ``simulate_queue`` where there
            is one.

    Raises:
        ValueError: There are no requests.

    >>> figure = queueing_dial(load_azure()[:50])
    >>> figure.set(rho=80)
    >>> "waits 4 services on average" in figure.scene.alt
    True
    """
    workload = load_azure()[:_NUM_REQUESTS] if requests is None else requests
    if not len(workload):
        raise ValueError("there are no requests; give at least one, or leave them out")
    dial = Dial(
        workload,
        simulate_waits or parts.get("simulate_queue"),
        RooflineCostModel(_MODEL, _GPU),
        num_kv_blocks(_MODEL, _GPU),
        SimulationParts.of({name: parts.get(name) for name in _OWN}),
    )

    def build(rho: int, sizes: str, cv: int, engine: str, width: float = WIDE) -> Scene:
        return dial_scene(dial, rho, sizes, cv, engine, width)

    return Explorer(
        build,
        {
            "rho": Slider("Utilisation", 10, 98, 50, unit="%"),
            "sizes": Choice("Sizes", _SIZE_NAMES, "exponential"),
            "cv": Choice("Arrivals, CV of the gaps", {"1 (Poisson)": 1, "2": 2, "4": 4}, 1),
            "engine": Choice("An engine", _ENGINE_NAMES, "none"),
        },
        narrow=SLIM,
    )


def dial_scene(
    dial: Dial, rho: int, sizes: str, cv: int, engine: str, width: float = WIDE
) -> Scene:
    """Draw the backlog at a load, and the waits at all loads.

    Args:
        dial: What is shown.
        rho: The load, in percent.
        sizes: One of ``SIZES``.
        cv: Coefficient of variation of the gaps between arrivals.
        engine: ``"none"``, or how its load is counted: ``"time"`` or ``"work"``.
        width: ``WIDE`` or ``SLIM``.
    """
    inner = width - 2 * MARGIN
    backlog = _backlog_chart(dial, rho, sizes, cv, inner).moved(MARGIN, 8)
    shapes: list[Shape] = list(backlog.shapes)
    chart, curves = _waits_chart(dial, sizes, cv, engine, inner)
    chart = with_cursor(chart, rho / 100, [], f"{rho}%").moved(MARGIN, bottom_of(shapes) + 14)
    shapes += chart.shapes
    words = " ".join([*_words(dial, rho, sizes, cv), *_engine_words(dial, engine)])
    source = f"{dial.workload.name}, {len(dial.workload)} requests."
    y = bottom_of(shapes) + 28
    for text in (words, source):
        tone: Tone = "text" if text is words else "muted"
        for row in wrapped(text, inner, SMALL_SIZE):
            shapes.append(Text(MARGIN, y, row, SMALL_SIZE, tone=tone))
            y += 21
    names = ", ".join(curve.name for curve in curves)
    return Scene(
        width,
        bottom_of(shapes) + 12,
        tuple(shapes),
        title="One server, and how long one waits for it",
        alt=f"{words} {chart.title}: {names}. {backlog.title}: {backlog.alt}",
    )


@lru_cache(maxsize=64)
def _backlog_chart(dial: Dial, rho: int, sizes: str, cv: int, width: float) -> Chart:
    """Draw the work that is left over time."""
    corners = until(_SHOWN_SERVICES, dial.backlog(sizes, cv, rho / 100))
    return curve_chart(
        f"Work that is left, at {rho}% utilisation",
        Axis("Time", "services", low=0, high=_SHOWN_SERVICES),
        Axis("Work", "services", low=0, high=None if corners else 1),
        [Curve("work that is left", corners, "series-1")],
        width,
        76 if width > SLIM else 50,
    )


@lru_cache(maxsize=64)
def _waits_chart(
    dial: Dial, sizes: str, cv: int, engine: str, width: float
) -> tuple[Chart, tuple[Curve, ...]]:
    """Draw the waits at all loads."""
    loads = dial.simulated(sizes, cv).loads
    kind = "theory" if cv == 1 else "approximation"
    curves: list[Curve] = [Curve(f"mean, {kind}", dial.mean_curve(sizes, cv), "series-1")]
    p99 = dial.p99_curve(sizes, cv)
    if p99:
        curves.append(Curve("p99, theory", p99, "series-2"))
    if loads:
        curves += [
            Dots("mean, simulated", [(each.rho, each.mean) for each in loads], "series-3"),
            Dots("p99, simulated", [(each.rho, each.p99) for each in loads], "series-4"),
        ]
    high = 1.0
    if engine != "none":
        points = [
            (each.by_time if engine == "time" else each.by_work, each.wait) for each in dial.engine
        ]
        high = max(high, *(load for load, _ in points))
        curves.append(Dots("engine, mean", points, "series-5"))
    label = "Utilisation ρ" if engine == "none" else "Utilisation ρ; of the engine λS"
    if engine == "work":
        label = "Utilisation ρ; of the engine λD"
    chart = curve_chart(
        "How long one waits",
        Axis(label, low=0, high=high if high == 1 else None),
        LogAxis("Wait", "services", low=0.01, high=2000 if cv > 1 else 200),
        [_inside(curve) for curve in curves],
        width,
        215 if width > SLIM else 140,
    )
    return chart, tuple(curves)


def _inside(curve: Curve) -> Curve:
    """Return the curve without the points that lie below the axis."""
    points = [point for point in curve.points if point[1] >= 0.01]
    return type(curve)(curve.name, points, curve.state)


def _words(dial: Dial, rho: int, sizes: str, cv: int) -> list[str]:
    """Say what theory and simulation say at the load."""
    mean, p99 = dial.theory(sizes, cv, rho / 100), dial.theory_p99(sizes, cv, rho / 100)
    arrivals = "Poisson arrivals" if cv == 1 else f"gaps with CV {cv}"
    by = "" if cv == 1 else "by the approximation "
    said = [
        f"At {rho}%, {arrivals}, {_SIZE_WORDS[sizes]}: {by}one waits "
        f"{quantity(mean, 'services')} on average"
        + (f", 99% at most {number(p99)}." if p99 is not None else ".")
    ]
    found = dial.simulated(sizes, cv)
    if found.problem:
        said.append(f"There are no simulated ones: {found.problem}.")
        return said
    nearest = min(found.loads, key=lambda load: abs(load.rho - rho / 100))
    said.append(
        f"Simulated at {nearest.rho:.0%}: {number(nearest.mean)}, 99% at most "
        f"{number(nearest.p99)}."
    )
    return said


def _engine_words(dial: Dial, engine: str) -> list[str]:
    """Say where the engine's dots lie."""
    if engine == "none":
        return []
    last = dial.engine[-1]
    stretch = f"one waits {number(last.wait)} times its time alone"
    begin = f"The engine, {last.rate:g} requests/s: {stretch}; "
    if engine == "time":
        beyond = sum(point.by_time > 1 for point in dial.engine)
        return [
            f"{begin}λS is {number(last.by_time)}. {beyond} of {len(dial.engine)} dots lie beyond "
            "the wall at 1, where a queue would grow for ever."
        ]
    theory = last.by_work / (1 - last.by_work)
    return [f"{begin}λD is {number(last.by_work)}, ρ/(1−ρ) is {number(theory)}."]
