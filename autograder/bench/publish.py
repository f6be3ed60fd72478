"""``python -m autograder.bench.publish FOLDER``: ``BENCHMARKS.md``, from what ``.ci/gpu`` found."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from autograder.bench.engine import EngineTiming
from autograder.bench.gpu_engine import GPUEngineReport, ModelTiming
from autograder.bench.kernels import KernelReport, KernelTiming
from autograder.paths import course_root

HEADING = """# Benchmarks on a GPU

Written by `python -m autograder.bench.publish docs/benchmarks/h100` from what the commands below
wrote on the device, as `bash .ci/gpu FOLDER` starts them; do not edit it. Where a figure comes from
another call, a note says so.
"""


def read_kernels(path: Path) -> KernelReport:
    """Read what ``course bench kernels --json`` wrote."""
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = tuple(KernelTiming(**row) for row in found["rows"])
    return KernelReport(found["machine"], rows, tuple(found["notes"]))


def read_engine(path: Path) -> GPUEngineReport:
    """Read what ``course bench engine --json`` wrote on a GPU."""
    found = json.loads(path.read_text(encoding="utf-8"))
    models = tuple(
        ModelTiming(
            model["model"], model["dtype"], tuple(EngineTiming(**row) for row in model["rows"])
        )
        for model in found["models"]
    )
    return GPUEngineReport(**found | {"models": models, "notes": tuple(found["notes"])})


def kernels_section(report: KernelReport) -> str:
    """Return the kernels' figures as a section of Markdown.

    >>> copy = KernelTiming("copy of 1 GiB", "copy", 0.7, 2**31, 1.0)
    >>> print(kernels_section(KernelReport("a GPU", (copy,), ("a note",))))
    ## `course bench kernels`
    <BLANKLINE>
    a GPU. A note.
    <BLANKLINE>
    | case | implementation | ms | MB moved | GB/s | of a copy |
    | --- | --- | ---: | ---: | ---: | ---: |
    | copy of 1 GiB | copy | 0.700 | 2,147.484 | 3,068 | 100% |
    """
    head = ("case", "implementation", "ms", "MB moved", "GB/s", "of a copy")
    return _section(
        "kernels", report.machine, report.notes, head, 2, map(_kernel_cells, report.rows)
    )


def _kernel_cells(row: KernelTiming) -> tuple[str, ...]:
    moved, rate, share = row.bytes_moved, row.gigabytes_per_second, row.share_of_copy
    return (
        row.case,
        row.implementation,
        f"{row.milliseconds:.3f}",
        "" if moved is None else f"{moved / 1e6:,.3f}",
        "" if rate is None else f"{rate:,.0f}",
        "" if share is None else f"{share:.0%}",
    )


def engine_section(report: GPUEngineReport) -> str:
    """Return the engine's figures as a section of Markdown."""
    head = ("model", "", "tokens/s", "ratio", "ms/step", "% scheduler, model, sampler, rest")
    served = (
        f"{report.num_requests} requests, {report.num_prompt_tokens:,} tokens in and "
        f"{report.num_tokens:,} out"
    )
    rows = [
        (f"{model.model}, {model.dtype}", *row.cells())
        for model in report.models
        for row in model.rows
    ]
    return _section("engine", report.machine, (served, *report.notes), head, 2, rows)


def _section(
    suite: str,
    machine: str,
    notes: Sequence[str],
    head: Sequence[str],
    num_texts: int,
    rows: Iterable[Sequence[str]],
) -> str:
    """Return a section with its command, machine, notes and table; numbers stand at the right."""
    said = " ".join(f"{note[0].upper()}{note[1:]}." for note in notes)
    rule = ["---"] * num_texts + ["---:"] * (len(head) - num_texts)
    table = [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]
    return "\n".join([f"## `course bench {suite}`", "", f"{machine}. {said}", "", *table])


def main(arguments: Sequence[str] | None = None) -> None:
    """Write ``BENCHMARKS.md`` from a folder of figures, and say where it is.

    Args:
        arguments: Of the command line; the process's own if None.
    """
    parser = argparse.ArgumentParser(prog="python -m autograder.bench.publish", description=__doc__)
    parser.add_argument("folder", type=Path, help="holds kernels.json, engine.json or both")
    folder: Path = parser.parse_args(arguments).folder
    sections = []
    if (folder / "kernels.json").is_file():
        sections.append(kernels_section(read_kernels(folder / "kernels.json")))
    if (folder / "engine.json").is_file():
        sections.append(engine_section(read_engine(folder / "engine.json")))
    if not sections:
        parser.error(
            f"{folder} has neither kernels.json nor engine.json; run bash .ci/gpu {folder}"
        )
    target = course_root() / "BENCHMARKS.md"
    target.write_text("\n\n".join([HEADING.strip(), *sections]) + "\n", encoding="utf-8")
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
