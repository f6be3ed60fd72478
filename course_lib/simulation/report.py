"""A simulation as a folder of files: tables, a trace for ui.perfetto.dev, and figures.

The figures are drawn elsewhere (``course_lib.viz.simulation``): whatever can save itself as a file
is taken, so nothing here depends on how they are drawn.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from course_lib.simulation.experiments import Comparison
from course_lib.simulation.result import SimulationResult
from course_lib.simulation.setup import Setup
from course_lib.simulation.sweep import SweepPoint

_LATENCIES = ("ttft", "tpot", "itl", "longest_gap", "e2e", "queue_time")
_STATISTICS = ("mean", "p50", "p90", "p99", "max")


class Drawing(Protocol):
    """A figure that can be saved, such as one of matplotlib."""

    def savefig(self, fname: Path, *, dpi: float) -> object:
        """Write the figure to a file whose ending tells the format."""


def write_report(
    folder: Path,
    setup: Setup,
    source: str,
    result: SimulationResult,
    numbers: dict[str, float],
    drawings: Mapping[str, Drawing],
) -> None:
    """Write what one simulation gave.

    The folder gets ``report.md``, ``summary.json``, ``requests.csv``, ``steps.csv``, ``trace.json``
    for ui.perfetto.dev, and the figures.

    Args:
        folder: Where to; it must not exist.
        setup: What was simulated.
        source: Where its requests come from.
        result: What was measured.
        numbers: Its figures.
        drawings: What else to save, by file name; the page shows them in this order.

    Raises:
        FileExistsError: The folder exists.
        OSError: It cannot be written. Then nothing is left of it.
    """

    def fill(folder: Path) -> None:
        _write_json(
            folder / "summary.json",
            {"setup": asdict(setup), "source": source, "figures": numbers},
        )
        result.steps.to_csv(folder / "steps.csv")
        result.to_chrome_trace(folder / "trace.json")
        _write_requests(folder / "requests.csv", result)
        _save(drawings, folder)
        page = _report_text(setup, source, numbers, list(drawings))
        (folder / "report.md").write_text(page, encoding="utf-8")

    _write_folder(folder, fill)


def write_sweep_report(
    folder: Path, name: str, points: Sequence[SweepPoint], drawings: Mapping[str, Drawing]
) -> None:
    """Write what a sweep gave: ``sweep.csv``, ``summary.json`` and figures.

    Args:
        folder: Where to; it must not exist.
        name: The parameter that was swept over.
        points: What was measured for each of its values.
        drawings: What else to save, by file name.

    Raises:
        FileExistsError: The folder exists.
        OSError: It cannot be written. Then nothing is left of it.
    """

    def fill(folder: Path) -> None:
        _write_json(
            folder / "summary.json", {"parameter": name, "points": [asdict(p) for p in points]}
        )
        columns = next((list(point.figures) for point in points if point.figures), [])
        with (folder / "sweep.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([name, *columns, "error"])
            for point in points:
                values = [point.figures.get(column, "") for column in columns]
                writer.writerow([getattr(point.setup, name), *values, point.error])
        _save(drawings, folder)

    _write_folder(folder, fill)


def write_comparison_report(
    folder: Path, comparison: Comparison, drawings: Mapping[str, Drawing]
) -> None:
    """Write what an experiment gave: ``comparison.csv``, ``summary.json`` and figures.

    Args:
        folder: Where to; it must not exist.
        comparison: What was measured in each set-up.
        drawings: What else to save, by file name.

    Raises:
        FileExistsError: The folder exists.
        OSError: It cannot be written. Then nothing is left of it.
    """

    def fill(folder: Path) -> None:
        rows = comparison.rows()
        summaries = {name: result.summary() for name, result in comparison.results.items()}
        _write_json(
            folder / "summary.json",
            {"title": comparison.title, "setup": comparison.setup, "results": summaries},
        )
        with (folder / "comparison.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["set-up", *comparison.figures])
            writer.writerows([name, *row.values()] for name, row in rows.items())
        _save(drawings, folder)

    _write_folder(folder, fill)


def _write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder that is not seen under its name before it is complete."""
    if folder.exists():
        raise FileExistsError(f"{folder} is there already; remove it, or choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        fill(unfinished)
        unfinished.chmod(0o755)  # mkdtemp makes it private
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _save(drawings: Mapping[str, Drawing], folder: Path) -> None:
    """Save each figure under its name."""
    for name, drawing in drawings.items():
        drawing.savefig(folder / name, dpi=120)


def _write_json(path: Path, document: object) -> None:
    """Write a JSON file; NaN and infinity, which JSON does not know, become null."""
    text = json.dumps(_without_nan(document), indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _without_nan(value: object) -> object:
    """Replace every float that is not a finite number by None."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _write_requests(path: Path, result: SimulationResult) -> None:
    """Write one line per request."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not result.requests:
            return
        writer.writerow([*result.requests[0]._fields, "ttft", "tpot", "e2e"])
        latencies = zip(
            result.ttft.tolist(), result.tpot.tolist(), result.e2e.tolist(), strict=True
        )
        for request, times in zip(result.requests, latencies, strict=True):
            row = request._replace(status=request.status.value)  # type: ignore[arg-type]
            writer.writerow([*row, *times])


def totals_line(setup: Setup, numbers: dict[str, float]) -> str:
    """Return the figures that are not latencies, in two sentences."""
    ignored = f", {numbers['num_ignored']:.0f} refused" if numbers["num_ignored"] else ""
    return (
        f"{numbers['num_finished']:,.0f} requests in {numbers['makespan']:,.1f} s "
        f"({numbers['num_steps']:,.0f} iterations{ignored}): "
        f"{numbers['requests_per_second']:.2f} requests/s, "
        f"{numbers['output_tokens_per_second']:,.0f} output tokens/s, goodput "
        f"{numbers['goodput']:.2f} requests/s (TTFT <= {setup.slo_ttft:g} s, "
        f"TPOT <= {setup.slo_tpot:g} s). "
        f"{numbers['num_preemptions']:,.0f} preemptions, "
        f"{numbers['num_recomputed_tokens']:,.0f} tokens recomputed, KV cache "
        f"{numbers['kv_usage_mean']:.0%} in use on average, {numbers['kv_usage_max']:.0%} at most."
    )


def _report_text(
    setup: Setup, source: str, numbers: dict[str, float], drawings: Sequence[str]
) -> str:
    """Write the page that a reader opens first."""
    lines = [
        f"# Simulation of {setup.workload}",
        "",
        f"Requests: {source}.",
        "",
        totals_line(setup, numbers),
        "",
        "| seconds | " + " | ".join(_STATISTICS) + " |",
        "|---|" + "---:|" * len(_STATISTICS),
    ]
    for name in _LATENCIES:
        cells = " | ".join(f"{numbers[f'{name}_{statistic}']:.4g}" for statistic in _STATISTICS)
        lines.append(f"| {name} | {cells} |")
    for name in drawings:
        lines += ["", f"![{Path(name).stem}]({name})"]
    lines += [
        "",
        "`summary.json` has every figure and the set-up, `requests.csv` a line per request, "
        "`steps.csv` a line per iteration. Open `trace.json` at ui.perfetto.dev.",
        "",
    ]
    return "\n".join(lines)
