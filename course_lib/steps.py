"""What an iteration does: the same description for a simulation and for a real engine.

``IterationWork`` is what a batch asks of the GPU, in a few totals. ``Step`` is what came of an
iteration, and ``StepTable`` a log of them, for tables, plots and trace viewers.
"""

from __future__ import annotations

import csv
import importlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

_MICROSECONDS = 1e6


class IterationWork(NamedTuple):
    """What one iteration has to do, summed over the requests in its batch.

    Attributes:
        num_tokens: Tokens that are computed.
        attended_tokens: Pairs of a computed token and a token that it attends to, itself included.
        context_tokens: Tokens whose keys and values are read from the cache or written to it.
        swapped_tokens: Tokens whose keys and values are copied between GPU and CPU, either way.
    """

    num_tokens: int
    attended_tokens: int
    context_tokens: int
    swapped_tokens: int = 0

    @classmethod
    def of_batch(cls, rows: Iterable[tuple[int, int]], swapped_tokens: int = 0) -> IterationWork:
        """Add up a batch.

        A request that computes n tokens behind c cached ones attends to c + 1 tokens with the first
        of them, to c + 2 with the second, and so on. It moves the keys and values of all tokens
        that it knows then, each once.

        Args:
            rows: For each request in the batch, the tokens that it computes and the tokens of it
                that are cached already. They may be given one by one, as by a generator.
            swapped_tokens: As in the class.

        A prompt's first chunk of 100 tokens, and a request that decodes behind 999:

        >>> IterationWork.of_batch([(100, 0), (1, 999)])
        IterationWork(num_tokens=101, attended_tokens=6050, context_tokens=1100, swapped_tokens=0)
        """
        num_tokens = attended_tokens = context_tokens = 0
        for new, cached in rows:
            num_tokens += new
            attended_tokens += new * cached + new * (new + 1) // 2
            context_tokens += cached + new
        return cls(num_tokens, attended_tokens, context_tokens, swapped_tokens)


def is_prefill(num_new_tokens: int, num_computed_tokens: int, num_prompt_tokens: int) -> bool:
    """Say whether a request still reads, rather than decodes, in an iteration.

    It reads while the first token that it computes belongs to its prompt: also in the last chunk of
    a prompt, which may be a single token. It also reads, whatever the token, if it computes several
    at once: so it does after a preemption, which makes it compute its output again.

    Args:
        num_new_tokens: Tokens that it computes.
        num_computed_tokens: Tokens of it that were computed before.
        num_prompt_tokens: Length of its prompt.

    >>> is_prefill(1, 99, num_prompt_tokens=100), is_prefill(1, 100, num_prompt_tokens=100)
    (True, False)
    """
    return num_new_tokens > 1 or num_computed_tokens < num_prompt_tokens


class Step(NamedTuple):
    """One iteration.

    Attributes:
        start: When it began, in seconds on the virtual clock.
        seconds: How long it took.
        num_tokens: Tokens computed.
        num_requests: Requests that they were computed for.
        num_sampled: Requests that got an output token.
        num_prefill_tokens: Tokens computed for requests that were not decoding, see ``is_prefill``.
        num_running: Requests that hold a place in the batch.
        num_waiting: Requests that wait to be admitted, preempted ones included.
        num_swapped: Requests whose blocks are on the CPU.
        num_admitted: Requests that joined the batch.
        num_preempted: Requests that lost their place.
        num_finished: Requests that ended with this iteration.
        num_swapped_blocks: Blocks copied between GPU and CPU.
        attended_tokens: Pairs of a computed token and one that it attends to.
        context_tokens: Tokens whose keys and values were moved.
        kv_usage: Share of the blocks that requests held, from 0.0 to 1.0; NaN if there are none.
    """

    start: float
    seconds: float
    num_tokens: int = 0
    num_requests: int = 0
    num_sampled: int = 0
    num_prefill_tokens: int = 0
    num_running: int = 0
    num_waiting: int = 0
    num_swapped: int = 0
    num_admitted: int = 0
    num_preempted: int = 0
    num_finished: int = 0
    num_swapped_blocks: int = 0
    attended_tokens: int = 0
    context_tokens: int = 0
    kv_usage: float = 0.0

    @property
    def end(self) -> float:
        """When it ended, in seconds."""
        return self.start + self.seconds


class StepTable(Sequence[Step]):
    """The iterations of a simulation, in order: a sequence of ``Step``.

    >>> steps = StepTable([Step(start=0.0, seconds=0.5, num_tokens=7),
    ...                    Step(start=0.5, seconds=0.25, num_tokens=1)])
    >>> steps[1].end, steps.column("num_tokens").tolist(), steps.time_average("num_tokens")
    (0.75, [7, 1], 5.0)
    """

    def __init__(self, steps: Iterable[Step]) -> None:
        self._steps = tuple(steps)

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, index: int) -> Step: ...

    @overload
    def __getitem__(self, index: slice) -> StepTable: ...

    def __getitem__(self, index: int | slice) -> Step | StepTable:
        if isinstance(index, slice):
            return StepTable(self._steps[index])
        return self._steps[index]

    def __iter__(self) -> Iterator[Step]:
        return iter(self._steps)

    def __repr__(self) -> str:
        return f"StepTable({len(self)} steps)"

    def column(self, name: str) -> NDArray[Any]:
        """Return one attribute of all steps, shape ``(number of steps,)``.

        Raises:
            ValueError: There is no such attribute.
        """
        if name not in Step._fields:
            raise ValueError(f"no column {name!r}; known: {', '.join(Step._fields)}")
        position = Step._fields.index(name)
        return np.array([step[position] for step in self._steps])

    def places(self) -> NDArray[Any]:
        """Return the places in the batch of each step, shape ``(number of steps,)``.

        They are those that were taken when a request was last admitted. A place that has fallen
        empty since then counts: somebody might sit there.

        >>> StepTable([Step(0.0, 1.0, num_running=2, num_admitted=2),
        ...            Step(1.0, 1.0, num_running=1)]).places().tolist()
        [2, 2]
        """
        places: list[int] = []
        for step in self._steps:
            is_kept = bool(places) and not step.num_admitted
            places.append(max(step.num_running, places[-1]) if is_kept else step.num_running)
        return np.array(places, dtype=np.int64)

    def time_average(self, name: str) -> float:
        """Return the mean of a column over the time from first to last iteration; NaN without any.

        A long iteration counts more than a short one. Between two iterations nothing runs, and the
        column counts as 0 there.

        >>> idle_in_between = [Step(start=0.0, seconds=1.0, num_running=6), Step(2.0, 1.0)]
        >>> StepTable(idle_in_between).time_average("num_running")
        2.0
        """
        if not self._steps:
            return math.nan
        window = self._steps[-1].end - self._steps[0].start
        return float(self.column(name) @ self.column("seconds")) / window

    def to_csv(self, path: str | Path) -> None:
        """Write a CSV file with one line per step, under the names of ``Step``."""
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(Step._fields)
            writer.writerows(self._steps)

    def to_pandas(self) -> Any:
        """Return a pandas.DataFrame with one row per step.

        Raises:
            ImportError: pandas is not installed; the course does not need it otherwise.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise ImportError(
                "pandas is not installed; run `pip install pandas`, or use to_csv"
            ) from error
        return pandas.DataFrame(list(self._steps), columns=list(Step._fields))

    def chrome_events(self) -> list[dict[str, Any]]:
        """Return the steps as trace events: a bar for each step, curves for queue, batch and KV.

        The format is that of chrome://tracing and ui.perfetto.dev; times are in microseconds.

        >>> StepTable([Step(0.5, 0.25, num_tokens=7, num_waiting=2)]).chrome_events()[0]["dur"]
        250000.0
        """
        events: list[dict[str, Any]] = []
        for number, step in enumerate(self._steps):
            here = {"pid": 0, "tid": 0, "ts": step.start * _MICROSECONDS}
            events.append(
                {
                    **here,
                    "ph": "X",
                    "name": f"{step.num_tokens} tokens",
                    "dur": step.seconds * _MICROSECONDS,
                    "args": {"step": number, **_plain(step)},
                }
            )
            counters = {
                "requests": {"running": step.num_running, "waiting": step.num_waiting},
                "KV cache": {"used": _or_zero(step.kv_usage)},
            }
            for name, values in counters.items():
                events.append({**here, "ph": "C", "name": name, "args": values})
        return events

    def to_chrome_trace(self, path: str | Path) -> None:
        """Write a JSON file for chrome://tracing or ui.perfetto.dev."""
        write_chrome_trace(path, self.chrome_events())


def write_chrome_trace(path: str | Path, events: Sequence[dict[str, Any]]) -> None:
    """Write trace events to a JSON file that chrome://tracing and ui.perfetto.dev open."""
    document = {"displayTimeUnit": "ms", "traceEvents": list(events)}
    Path(path).write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")


def _plain(step: Step) -> dict[str, float]:
    """Return the counts of a step."""
    return {
        name: _or_zero(value)
        for name, value in step._asdict().items()
        if name not in ("start", "seconds")
    }


def _or_zero(value: float) -> float:
    """Return the value, or 0 for NaN, which JSON does not know."""
    return 0.0 if value != value else value
