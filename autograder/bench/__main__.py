"""``python -m autograder.bench``: a suite of ``course bench`` where the course is not installed."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from autograder.bench.suites import SUITES, measure, write_json
from autograder.errors import CourseError


def main() -> None:
    """Run a suite, show its table, and write its figures to a file if one is named."""
    parser = argparse.ArgumentParser(prog="python -m autograder.bench", description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    start = time.monotonic()

    def tell(done: int, total: int) -> None:
        seconds = time.monotonic() - start
        print(f"{done} of {total} after {seconds:.0f} s", file=sys.stderr)

    try:
        report = measure(arguments.suite, tell)
    except CourseError as error:
        parser.exit(1, f"{error}\n")
    # As wide as the widest table: the output of a machine elsewhere is read in a log.
    Console(width=160).print(report.table())
    if arguments.json is not None:
        write_json(report, arguments.json)


if __name__ == "__main__":
    main()
