"""One's own workload: a CSV file with a line per request."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from course_lib.simulation.trace_files import csv_cells, filled_lines, moment, seconds_since
from course_lib.simulation.workload import TraceRequest, Workload

CSV_SUFFIX = ".csv"

_REQUIRED = {
    "arrival_time": ("timestamp",),
    "prompt_tokens": ("contexttokens", "input_length"),
    "output_tokens": ("generatedtokens", "output_length"),
}
"""The columns that must be there, and what else Azure's and Mooncake's traces call them."""

_OPTIONAL = ("client_id", "priority", "deadline")

_EXAMPLE = "arrival_time,prompt_tokens,output_tokens"

_LONGEST_QUOTE = 80
"""Characters of a line that a message quotes."""


def is_csv(workload: str) -> bool:
    """Say whether the name of a workload is that of a file.

    >>> is_csv("my_requests.csv"), is_csv("poisson")
    (True, False)
    """
    return workload.lower().endswith(CSV_SUFFIX)


def load_csv(path: str | Path) -> Workload:
    r"""Read a workload from a CSV file, with a line per request below a line of names.

    ``arrival_time`` (seconds from anywhere, or dates), ``prompt_tokens`` and ``output_tokens`` must
    be there, in any order and in capitals or not; the names of Azure's traces will do as well
    (``TIMESTAMP,ContextTokens,GeneratedTokens``). ``client_id``, ``priority`` (lower is more
    important) and ``deadline`` (on the clock of the arrivals) may be. Other columns are passed
    over. Lines need not be in order of arrival.

    Args:
        path: The file.

    Returns:
        The requests in order of arrival; the first one arrives at 0.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, lacks a column, has no request, or a line is malformed. The
            message names the line, the value, the rule and the remedy.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "two.csv")
    ...     _ = path.write_text("arrival_time,prompt_tokens,output_tokens\n7.5,90,9\n5,374,44\n")
    ...     [request.arrival_time for request in load_csv(path)]
    [0.0, 2.5]
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"there is no file {path}; give the path of a CSV file with the columns {_EXAMPLE}"
        )
    try:
        lines = list(filled_lines(path))
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}); give the path of a CSV file"
        ) from error
    if len(lines) < 2:
        raise ValueError(
            f"{path} has {len(lines)} lines; it needs a line of names, {_EXAMPLE}, and one for "
            "each request"
        )
    places = _places(path, *lines[0])
    rows = [_Row(path, number, line, places) for number, line in lines[1:]]
    start = rows[0].moment("arrival_time")
    requests = [row.request(start) for row in rows]
    first = min(arrival for arrival, _ in requests)
    made = [make(first) for _, make in sorted(requests, key=lambda each: each[0])]
    return Workload(path.stem, f"Your file {path.name}", is_synthetic=False, requests=tuple(made))


def _places(path: Path, number: int, header: str) -> dict[str, int]:
    """Return where each known column is."""
    names = [cell.lower() for cell in csv_cells(header)]
    found: dict[str, int] = {}
    for column, others in _REQUIRED.items():
        place = next((names.index(name) for name in (column, *others) if name in names), None)
        if place is None:
            raise ValueError(
                f"{path}, line {number}: there is no column {column}, only "
                f"{header[:_LONGEST_QUOTE]!r}; the first line names the columns, separated by "
                f"commas, as in {_EXAMPLE}"
            )
        found[column] = place
    return found | {column: names.index(column) for column in _OPTIONAL if column in names}


class _Row:
    """One line, and what stands in its columns."""

    def __init__(self, path: Path, number: int, line: str, places: Mapping[str, int]) -> None:
        self._where = f"{path}, line {number}"
        self._places = places
        try:
            self._cells = csv_cells(line)
        except csv.Error as error:
            raise ValueError(
                f"{self._where}: {line[:_LONGEST_QUOTE]!r} is no line of a CSV file ({error}): "
                "correct the line, or take it out"
            ) from error
        if len(self._cells) <= max(places.values()):
            raise ValueError(
                f"{self._where}: {line[:_LONGEST_QUOTE]!r} has {len(self._cells)} values; the "
                f"columns need {max(places.values()) + 1}, separated by commas: complete the line, "
                "or take it out"
            )

    def request(self, start: float | datetime) -> tuple[float, Callable[[float], TraceRequest]]:
        """Return the arrival after ``start``, and what makes the request once the first is known.

        Raises:
            ValueError: A value is not what its column holds.
        """
        arrival = self._seconds("arrival_time", start)
        prompt, output = self._count("prompt_tokens"), self._count("output_tokens")
        priority = self._whole("priority") if self._text("priority") else 0
        deadline = self._seconds("deadline", start) if self._text("deadline") else math.inf
        client = self._text("client_id")

        def make(first: float) -> TraceRequest:
            return TraceRequest(
                arrival - first, prompt, output, (), client, priority, deadline - first
            )

        return arrival, make

    def moment(self, column: str) -> float | datetime:
        """Return the time in a column."""
        try:
            return moment(self._text(column))
        except ValueError as error:
            raise self._refusal(column, "a number of seconds, or a date") from error

    def _seconds(self, column: str, start: float | datetime) -> float:
        """Return how much later than ``start`` the time in a column is."""
        now = self.moment(column)
        try:
            return seconds_since(start, now)
        except TypeError as error:
            rule = "like the other times: all numbers, or all dates of one kind"
            raise self._refusal(column, rule) from error

    def _count(self, column: str) -> int:
        count = self._whole(column)
        if count < 1:
            raise self._refusal(column, "1 or more")
        return count

    def _whole(self, column: str) -> int:
        try:
            number = float(self._text(column))
            if number.is_integer():
                return int(number)
        except ValueError:
            pass
        raise self._refusal(column, "a whole number")

    def _text(self, column: str) -> str:
        return self._cells[self._places[column]] if column in self._places else ""

    def _refusal(self, column: str, rule: str) -> ValueError:
        return ValueError(
            f"{self._where}: {column} is {self._text(column)[:_LONGEST_QUOTE]!r}; it must be "
            f"{rule}: correct the line, or take it out"
        )


def tells(workload: Sequence[TraceRequest], attribute: str) -> bool:
    """Say whether the requests differ in an attribute that a policy looks at.

    Args:
        workload: The requests.
        attribute: ``client_id``, ``priority`` or ``deadline``.

    >>> tells([TraceRequest(0.0, 9, 9, client_id="a"), TraceRequest(1.0, 9, 9)], "client_id")
    True
    """
    return len({getattr(request, attribute) for request in workload}) > 1
