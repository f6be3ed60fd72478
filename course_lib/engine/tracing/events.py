"""The events of a run: what a component of an engine did in some step, for one request or a batch.

They are one table, whichever engine it was.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args, overload

Component = Literal[
    "api", "tokenizer", "scheduler", "block manager", "executor", "sampler", "detokenizer"
]
"""Who does something, in the order in which a request comes to them."""

COMPONENTS: tuple[Component, ...] = get_args(Component)
"""All of them, in this order."""

BEHIND = "behind others"
"""Why a request waits that is not the first in line; whoever is first may change meanwhile."""


class Event(NamedTuple):
    """Something that a component did.

    Attributes:
        start: When it began, in seconds since the tracer was attached.
        seconds: How long it took. What was done for a whole batch at once took each of its requests
            as long as the batch.
        component: Who did it.
        action: What was done.
        step: The step of the engine, from 0; None between steps.
        request_id: For whom, by the scheduler's id; None for the whole batch.
        num_tokens: Tokens that it was about.
        position: Position of the first of these tokens in the sequence, from 0.
        blocks: Blocks that it was about, by id.
        pairs: (source, destination) of blocks that were copied.
        num_free_blocks: Blocks that were free afterwards.
        token_id: The token that was chosen.
        text: A prompt, a token, or a piece of an answer.
        reason: Why, in words.
        last_step: The last of the steps in a row in which it was so, if they were several.
    """

    start: float
    seconds: float
    component: Component
    action: str
    step: int | None = None
    request_id: str | None = None
    num_tokens: int | None = None
    position: int | None = None
    blocks: tuple[int, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    num_free_blocks: int | None = None
    token_id: int | None = None
    text: str = ""
    reason: str = ""
    last_step: int | None = None

    @property
    def steps(self) -> range:
        """The steps in which it was so; none if it was between steps."""
        if self.step is None:
            return range(0)
        return range(self.step, (self.step if self.last_step is None else self.last_step) + 1)

    @property
    def end(self) -> float:
        """When it was over, in seconds since the tracer was attached."""
        return self.start + self.seconds

    def row(self) -> dict[str, str | int | float | None]:
        """Return the event as plain values by name; blocks as ``"3 4"``, pairs as ``"3>4"``.

        >>> event = Event(0.5, 0.25, "block manager", "frees", 7, "a", blocks=(3, 4))
        >>> row = event.row()
        >>> row["component"], row["step"], row["blocks"], row["token_id"]
        ('block manager', 7, '3 4', None)
        """
        return self._asdict() | {
            "blocks": " ".join(map(str, self.blocks)),
            "pairs": " ".join(f"{source}>{destination}" for source, destination in self.pairs),
        }


class EventTable(Sequence[Event]):
    """Events in the order in which they began."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._events = tuple(sorted(events, key=lambda event: event.start))

    def __len__(self) -> int:
        return len(self._events)

    @overload
    def __getitem__(self, index: int) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> EventTable: ...

    def __getitem__(self, index: int | slice) -> Event | EventTable:
        if isinstance(index, slice):
            return EventTable(self._events[index])
        return self._events[index]

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} events)"

    def rows(self) -> list[dict[str, str | int | float | None]]:
        """Return the events as plain values by name: ``pandas.DataFrame(trace.rows())``."""
        return [event.row() for event in self._events]

    def to_csv(self, path: str | Path) -> None:
        """Write a CSV file with one line per event, under the names of ``Event``."""
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, Event._fields, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows())
