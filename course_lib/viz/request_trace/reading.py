"""What a trace says of one request: its blocks, its tokens and who worked for it, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from course_lib.engine.tracing.events import Component, Event
from course_lib.engine.tracing.story import tell_step
from course_lib.engine.tracing.trace import Trace

_MARKS = {
    "waits": "waiting",
    "lacks room": "waiting",
    "is preempted": "preempted",
    "is swapped out": "preempted",
    "is aborted": "finished",
    "finishes": "finished",
    "finds": "cached",
    "shares": "shared",
    "frees": "free",
    "copies": "copied",
    "swaps out": "swapped",
    "swaps in": "swapped",
}
"""The state that stands for an action; others are a component's usual work, ``running``."""

_RANKS = {
    action: rank
    for rank, action in enumerate(
        ("takes", "lacks room", "finds", "frees", "finishes", "is aborted")
    )
}
"""Of several actions of a component in one step the one with the highest rank is drawn."""


@dataclass(frozen=True, slots=True)
class TokenTrace:
    """A token of an answer.

    Attributes:
        number: Its number in the answer, from 0.
        step: The step that chose it.
        text: The token as text.
        position: Its position in the sequence, from 0.
        computed_in: The step that computed its keys and values last; None if none did.
        block: The block that they were written to then; None if none or not known.
        slot: The slot of the cache: block × block size + place in the block.
    """

    number: int
    step: int
    text: str
    position: int
    computed_in: int | None
    block: int | None
    slot: int | None


class RequestReading:
    """One request of a trace, step by step.

    Args:
        trace: The trace.
        request_id: The request.
        block_size: Tokens per block of the cache.

    Raises:
        ValueError: The trace has no such request, or it was in no step.

    >>> from course_lib.engine.tracing.recorded import vllm_runs
    >>> reading = RequestReading(vllm_runs()["in turn"], "followed", block_size=8)
    >>> reading.steps, reading.tables[20], reading.tables[21]
    (range(3, 46), (1, 2, 3, 8, 9, 12), ())
    >>> reading.tokens[0]
    TokenTrace(number=0, step=4, text=' chooses', position=32, computed_in=5, block=9, slot=72)
    """

    def __init__(self, trace: Trace, request_id: str, block_size: int) -> None:
        self.request_id = request_id
        self.block_size = block_size
        self._trace = trace
        self._events = tuple(trace.request(request_id))
        numbers = [event.step for event in self._events if event.step is not None]
        if not numbers:
            raise ValueError(f"request {request_id!r} was in no step of the trace")
        self.steps = range(min(numbers), max(numbers) + 1)
        self._of_step: dict[int, list[Event]] = {step: [] for step in self.steps}
        place = self.steps.start
        for event in self._events:
            # What is between steps stands with the step that comes next, or with the last one.
            place = place if event.step is None else event.step
            self._of_step[place].append(event)

    @cached_property
    def num_prompt_tokens(self) -> int:
        """Tokens of its prompt."""
        return next((e.num_tokens or 0 for e in self._events if e.action == "arrives"), 0)

    @cached_property
    def tables(self) -> Mapping[int, tuple[int, ...]]:
        """The blocks that it holds at the end of each step."""
        return self._books[0]

    @cached_property
    def used_tables(self) -> Mapping[int, tuple[int, ...]]:
        """The blocks that it holds while the model runs in each step."""
        return self._books[1]

    @cached_property
    def tokens(self) -> Sequence[TokenTrace]:
        """The tokens of its answer."""
        chosen = [event for event in self._events if event.action == "chooses"]
        computed: dict[int, tuple[int, int | None]] = {}
        for event in self._events:
            if event.action == "computes" and event.step is not None:
                table = self.used_tables[event.step]
                first = event.position or 0
                for position in range(first, first + (event.num_tokens or 0)):
                    place = position // self.block_size
                    computed[position] = event.step, table[place] if place < len(table) else None
        return [self._token(number, event, computed) for number, event in enumerate(chosen)]

    def _token(
        self, number: int, chosen: Event, computed: Mapping[int, tuple[int, int | None]]
    ) -> TokenTrace:
        position = self.num_prompt_tokens + number
        step, block = computed.get(position, (None, None))
        slot = None if block is None else block * self.block_size + position % self.block_size
        assert chosen.step is not None, "tokens are chosen in steps"
        return TokenTrace(number, chosen.step, chosen.text, position, step, block, slot)

    @cached_property
    def _books(self) -> tuple[dict[int, tuple[int, ...]], dict[int, tuple[int, ...]]]:
        """The table of each step at its end, and while the model ran."""
        table: tuple[int, ...] = ()
        at_end, in_use = {}, {}
        for step in self.steps:
            found: tuple[int, ...] = ()
            is_freed = False
            for event in self._of_step[step]:
                if event.action == "finds":
                    found = event.blocks
                elif event.action == "takes":
                    table, found = (table or found) + event.blocks, ()
                elif event.action == "shares":
                    table = event.blocks
                elif event.action in ("copies", "swaps in"):
                    moved = dict(event.pairs)
                    table = tuple(moved.get(each, each) for each in table or moved)
                elif event.action == "lacks room":
                    found = ()
                elif event.action == "frees":
                    in_use[step] = table
                    table, is_freed = (), True
            if found and not is_freed:
                table = table or found
            in_use.setdefault(step, table)
            at_end[step] = table
        return at_end, in_use

    def known_at(self, step: int) -> int:
        """Return how many tokens are known at the end of a step: the prompt and what was chosen."""
        return self.num_prompt_tokens + sum(token.step <= step for token in self.tokens)

    def computed_at(self, step: int) -> int:
        """Return how many of its tokens are in blocks that it holds at the end of a step."""
        if not self.tables[step]:
            return 0
        ends = [
            (event.position or 0) + (event.num_tokens or 0)
            for each in range(self.steps.start, step + 1)
            for event in self._of_step[each]
            if event.action == "computes"
        ]
        return ends[-1] if ends else 0

    def shown_at(self, step: int) -> str:
        """Return the text that the user has at the end of a step.

        An engine of which no text was recorded has the text of the tokens.
        """
        is_told = any(event.action == "shows" for event in self._events)
        if is_told:
            pieces = [e for e in self._events if e.action == "shows" and (e.step or 0) <= step]
            return "".join(event.text for event in pieces)
        return "".join(token.text for token in self.tokens if token.step <= step)

    def mark(self, component: Component, step: int) -> str:
        """Return the state that stands for what a component did in a step; "" if it did nothing."""
        of_it = [event for event in self._of_step[step] if event.component == component]
        if not of_it:
            return ""
        telling = max(of_it, key=lambda event: _RANKS.get(event.action, -1))
        if telling.action == "computes":
            return "prefill" if (telling.position or 0) < self._decodes_from(step) else "decode"
        if telling.action == "shows" and not telling.text:
            return "waiting"
        return _MARKS.get(telling.action, "running")

    def _decodes_from(self, step: int) -> int:
        """Return the position of the last known token, the one that a decode computes."""
        return self.num_prompt_tokens + sum(token.step < step for token in self.tokens) - 1

    def words(self, step: int) -> list[str]:
        """Tell a step, line by line."""
        return tell_step(self._of_step[step])

    def events(self, step: int) -> Sequence[Event]:
        """Return what was done for it in a step."""
        return tuple(self._of_step[step])

    @cached_property
    def _other_readings(self) -> Sequence[RequestReading]:
        """The other requests, step by step."""
        return [RequestReading(self._trace, name, self.block_size) for name in self.others]

    def tables_of_others(self, step: int) -> dict[str, tuple[int, ...]]:
        """Return the blocks that the others hold at the end of a step."""
        return {each.request_id: each.tables.get(step, ()) for each in self._other_readings}

    @cached_property
    def others(self) -> Mapping[str, Mapping[int, str]]:
        """What other requests were in each step: a state of the palette, by request and step."""
        return {
            name: phases
            for name in self._trace.request_ids
            if name != self.request_id and (phases := dict(_phases(self._trace, name)))
        }


def _phases(trace: Trace, request_id: str) -> Iterator[tuple[int, str]]:
    """Yield a request's state in each of its steps."""
    for event in trace.request(request_id):
        if event.step is None or event.component != "scheduler":
            continue
        yield from ((step, _MARKS.get(event.action, "running")) for step in event.steps)
