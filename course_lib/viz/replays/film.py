"""A failing case as a film: what should happen beside what the learner's object does.

It is drawn with the board that taught the idea: pools, tables, queues and schedules look as they do
in their lessons. The first state that differs is marked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from course_lib.kv_cache.watch.recorder import Frame as State
from course_lib.viz.kit.layout import NARROW, WIDE, legend, text_width
from course_lib.viz.kit.palette import PALETTE
from course_lib.viz.kit.player import Frame, Player
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, Line, Rect, Shape, Text, Thing, states_in
from course_lib.viz.pool.board import FACTS, FREE_QUEUE, Board
from course_lib.viz.pool.chips import Placed, follow
from course_lib.viz.pool.layout import MARGIN, Extent, PoolLayout
from course_lib.viz.replays.failing_case import CaseStep, FailingCase

_HEADER = 66
"""Room above a board: whose it is, and what the call returned."""

_Key = TypeVar("_Key", int, str)

_SIDES = ("Expected", "Yours")


def replay(case: FailingCase) -> Player:
    """Return the film of a failing case, one frame for each call.

    It opens where the two sides part, or at the call that fails.

    Args:
        case: What a failed check hands out.

    Raises:
        ValueError: The case has no steps.

    >>> from course_lib.kv_cache import BlockPool, snapshot_blocks
    >>> state = snapshot_blocks(BlockPool(num_blocks=3))
    >>> step = CaseStep("obj = BlockPool(3)", "a pool", "a pool", state, state)
    >>> replay(FailingCase((step,))).film[0].caption
    'obj = BlockPool(3): what is drawn here agrees.'
    """
    film = Player(replay_frames(case))
    parted = _parting(case)
    film.index = min(len(case.steps) if parted is None else parted, film.count - 1)
    return film


def replay_frames(case: FailingCase) -> Iterator[Frame]:
    """Yield the frames of the film, each in a wide and a narrow form."""
    boards = _Boards.of(case)
    parted = _parting(case)
    for number, step in enumerate(case.steps):
        is_last = number == len(case.steps) - 1
        marked = differences(step)
        caption = _caption(step, _verdict(case) if is_last else "", marked)
        event = "the states part" if number == parted else "fails here" if is_last else ""
        wide, narrow = (boards.scene(number, width, marked, caption) for width in (WIDE, NARROW))
        yield Frame(wide, caption, event, narrow)


def _parting(case: FailingCase) -> int | None:
    """Return the first step after which the states differ."""
    return next((n for n, step in enumerate(case.steps) if differences(step)), None)


def differences(step: CaseStep) -> frozenset[Thing]:
    """Return what is not as it should be after a step, as things of a board.

    >>> yours = {"free_queue": [2, 1], "tables": {}}
    >>> step = CaseStep("f()", "None", "None", {"free_queue": [1, 2], "tables": {}}, yours)
    >>> differences(step)
    frozenset({('queue', 'free')})
    """
    expected, got = step.expected_state or {}, step.state or {}
    if not expected or not got:
        return frozenset()
    found: set[Thing] = set()
    found |= {("block", each) for each in _unequal(_blocks(expected), _blocks(got))}
    if expected.get("free_queue") != got.get("free_queue"):
        found.add(FREE_QUEUE)
    for part, kind in (("tables", "request"), ("requests", "list"), ("facts", "fact")):
        found |= {(kind, name) for name in _unequal(expected.get(part, {}), got.get(part, {}))}
    return frozenset(found)


def _blocks(state: State) -> dict[int, tuple[int, str | None]]:
    """Return how many hold each block, and its hash."""
    return {
        block["block_id"]: (block["ref_cnt"], block["hash"]) for block in state.get("blocks", ())
    }


def _unequal(expected: Mapping[_Key, object], got: Mapping[_Key, object]) -> list[_Key]:
    """Return the keys under which two dictionaries differ."""
    names = list(expected) + [name for name in got if name not in expected]
    return [name for name in names if expected.get(name) != got.get(name)]


@dataclass(frozen=True)
class _Boards:
    """Both sides of a failing case, with room for every state of either.

    Attributes:
        case: The failing case.
        sides: The states of each side with their chips; None where there is none to show.
        extent: What holds all of them.
    """

    case: FailingCase
    sides: tuple[tuple[Placed | None, ...], tuple[Placed | None, ...]]
    extent: Extent

    @classmethod
    def of(cls, case: FailingCase) -> _Boards:
        """Follow the chips of both sides."""
        expected = _followed([step.expected_state for step in case.steps])
        got = _followed([step.state for step in case.steps])
        return cls(case, (expected, got), Extent.of(at for at in (*expected, *got) if at))

    @cached_property
    def _states(self) -> list[str]:
        """The states that a legend has to name, over the whole film."""
        named = set(self.extent.states)
        for at in (*self.sides[0], *self.sides[1]):
            if at is not None:
                named.update(states_in(Board(PoolLayout(self.extent)).draw(at)))
        return [state for state in PALETTE if state in named]

    def scene(self, number: int, width: float, marked: frozenset[Thing], caption: str) -> Scene:
        """Draw one step: both sides beside each other, or below each other on a narrow page."""
        step = self.case.steps[number]
        is_wide = width >= WIDE
        side_width = width / 2 if is_wide else width
        shapes: list[Shape] = []
        top, bottom = 14.0, 0.0
        for side, title, said, states in zip(
            ("expected", "yours"), _SIDES, (step.expected, step.got), self.sides, strict=True
        ):
            left = side_width if is_wide and side == "yours" else 0
            layout = PoolLayout(self.extent, side_width, top + _HEADER, left)
            shapes += _header(layout, title, said, top)
            at = states[number]
            if at is None:
                shapes.append(Text(layout.start, layout.top + 20, "no state to show", tone="muted"))
            else:
                shapes += Board(layout, f"{side}-").draw(at, marked)
            bottom = layout.bottom
            if not is_wide:
                top = bottom + 26
        if is_wide:
            middle = width / 2
            shapes.append(Line(((middle, 20), (middle, bottom)), "muted"))
        named = legend(self._states, MARGIN, bottom + 18, width - 2 * MARGIN)
        height = max((box.y + box.height for box in named if isinstance(box, Rect)), default=bottom)
        title = "A failing case, step by step"
        return Scene(width, height + 14, (*shapes, *named), title, self._alt(number, caption))

    def _alt(self, number: int, caption: str) -> str:
        """Return the caption and both states in words."""
        said = [caption]
        for title, states in zip(_SIDES, self.sides, strict=True):
            at = states[number]
            said.append(f"{title}: {at.line or 'nothing' if at else 'no state'}.")
        return " ".join(said)


def _followed(states: list[State | None]) -> tuple[Placed | None, ...]:
    """Return the states with their chips; what cannot be shown stays None."""
    placed = follow(state for state in states if state is not None)
    return tuple(None if state is None else next(placed) for state in states)


def _header(layout: PoolLayout, title: str, said: str, top: float) -> Iterator[Shape]:
    """Yield whose side it is, and what the call returned."""
    yield Text(layout.start, top + 20, title, 21, is_bold=True)
    line = f"the call gives {' '.join(said.split())}"
    while text_width(line, SMALL_SIZE) > layout.inner:
        line = f"{line[:-2]}…"
    yield Text(layout.start, top + 46, line, SMALL_SIZE)


def _verdict(case: FailingCase) -> str:
    """Say what is wrong with the last answer."""
    last = case.steps[-1]
    said = f"it should give {last.expected}, and gives {last.got}" * (last.expected != last.got)
    return "; ".join(filter(None, (said, case.complaint)))


def _caption(step: CaseStep, verdict: str, marked: frozenset[Thing]) -> str:
    """Say how the two sides differ, which is what a reader looks for, and what was called."""
    if marked:
        after = ": ".join(filter(None, (step.call, verdict)))
        return f"Different: {', '.join(_named(marked))}; after {after}."
    said = [verdict] if verdict else []
    if step.state is None or step.expected_state is None:
        said.append("no state to compare")
    else:
        said.append("what is drawn here agrees")
    return f"{step.call}: {'; '.join(said)}."


def _named(marked: frozenset[Thing]) -> list[str]:
    """Name what differs, blocks first."""
    blocks = sorted(name for kind, name in marked if kind == "block")
    words = {
        "request": "the table of {}",
        "list": "the list {}",
        "queue": "the free queue",
        "fact": "{}",
    }
    said = [f"block{'s' * (len(blocks) > 1)} {' '.join(map(str, blocks))}"] if blocks else []
    return said + [
        words[kind].format(FACTS.get(str(name), name))
        for kind, name in sorted(marked)
        if kind != "block"
    ]
