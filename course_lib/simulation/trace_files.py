"""Reading the files that workloads are published in, however they were saved.

Traces pass through editors, spreadsheets and scripts: a byte-order mark in front, blank lines,
another operating system's line ends, times that count from 1970 or from some other moment. None of
that changes what was measured, so none of it may change what is read.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

_SINCE_1970 = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3), (1e9, 1.0))
"""From which number on a time counts from 1970, and how many of its units a second has.

From 1e9, which was in 2001, it is in seconds; from 1e11, which would be the year 5138, in
milliseconds; and so on.
"""


def filled_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number, text) of the lines that are not blank, counted from 1.

    A byte-order mark and line ends are no part of a line. Bytes that are no UTF-8 arrive as
    U+FFFD, so that whoever reads the line can name it.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if text := line.strip():
                yield number, text


def csv_cells(line: str) -> list[str]:
    """Return the cells of a line; a spreadsheet puts them in quotes, and some put spaces between.

    >>> csv_cells('"2023-11-16 18:17:03", 12,"7"')
    ['2023-11-16 18:17:03', '12', '7']
    """
    return [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True))]


def seconds_since(first: float | datetime, now: float | datetime) -> float:
    """Return how much later the second of two times is, in seconds.

    Raises:
        TypeError: One is a number and the other a date, or one date tells its distance to UTC and
            the other does not: nobody knows how far they are apart.

    >>> seconds_since(moment("2023-11-16T23:59:59Z"), moment("2023-11-17 01:00:00+01:00"))
    1.0
    """
    if isinstance(first, datetime) and isinstance(now, datetime):
        return (now - first).total_seconds()
    if isinstance(first, datetime) or isinstance(now, datetime):
        raise TypeError("one time is a date and another a number")
    return now - first


def moment(written: object, per_second: float = 1.0) -> float | datetime:
    """Return the time that a trace writes as a date, or as a number.

    A date is in ISO 8601, with or without a distance to UTC. A number counts from anywhere; one so
    large that it must count from 1970 may be in seconds, milliseconds, microseconds or nanoseconds.

    Args:
        written: What stands in the trace.
        per_second: How many units of other numbers a second has there.

    Raises:
        TypeError: It is neither text nor a number.
        ValueError: It is neither a date nor a finite number.

    >>> moment("1700000000250"), moment(1500, per_second=1e3)
    (1700000000.25, 1.5)
    >>> moment("2023-11-16 18:17:03.9799600")
    datetime.datetime(2023, 11, 16, 18, 17, 3, 979960)
    """
    if isinstance(written, bool) or not isinstance(written, (str, int, float)):
        raise TypeError(f"{written!r} is not a time")
    try:
        number = float(written)
    except ValueError:
        return datetime.fromisoformat(str(written).strip())
    if not math.isfinite(number):
        raise ValueError(f"{written!r} is not a finite number")
    for least, units in _SINCE_1970:
        if number >= least:
            return number / units
    return number / per_second
