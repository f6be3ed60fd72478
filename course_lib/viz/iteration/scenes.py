"""A film of a few requests: one iteration under the microscope, decision by decision.

A request is a bar with two marks, the tokens that are computed and the tokens that are known; an
iteration moves the first. Above the requests stand the limits under which that happens: the token
budget, the places in the batch, and the free blocks. A decoding request is one that lacks one
token, and what a prompt, a chunk, a hit or a return is can be seen in the same two marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from course_lib.kv_cache.watch.notation import StateLine
from course_lib.scheduling.watch.moments import Happening, Moment
from course_lib.scheduling.watch.state import RequestState
from course_lib.viz.iteration.bars import BAR_NAMES, end_of, kind_of, outline_of, request_bar
from course_lib.viz.iteration.words import (
    captions,
    limit_of,
    num_blocks,
    num_free,
    share_text,
    summary,
    table_of,
)
from course_lib.viz.kit.layout import WIDE, bottom_of, fitting, legend
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import (
    HEADING_SIZE,
    SMALL_SIZE,
    Line,
    Rect,
    Shape,
    Text,
    Thing,
    states_in,
)
from course_lib.viz.kit.words import counted

_MARGIN = 24
_BAR, _TILE, _LIMIT = 20, 20, 26  # heights
_WIDEST_TILE, _NARROWEST_TILE = 38, 6
_LINE = 22  # from one line of text to the next
_MOST_RUNNING, _MOST_WAITING = 6, 4  # rows that are drawn; of more only the number is said


@dataclass(frozen=True)
class _Page:
    """Where things are, the same in all pictures of a film.

    Attributes:
        width: Width of the picture.
        most_tokens: What the bars of requests have room for.
    """

    width: float
    most_tokens: int

    @property
    def is_wide(self) -> bool:
        return self.width >= WIDE

    @property
    def left(self) -> float:
        """Where bars begin."""
        return 132 if self.is_wide else 44

    @property
    def right(self) -> float:
        """Where bars end at most."""
        return self.width - (228 if self.is_wide else _MARGIN)

    def token(self, count: int) -> float:
        """Return where a bar of so many tokens ends."""
        return self.left + (self.right - self.left) * count / self.most_tokens

    def beside(
        self, top: float, name: str, says: Sequence[str], key: str
    ) -> tuple[list[Shape], float]:
        """Write what stands beside a row, or above it where the page is narrow.

        Returns:
            The texts, and where the boxes of the row begin.
        """
        title = Text(_MARGIN, top + 15, name, SMALL_SIZE, is_bold=True, key=f"{key}-name")
        if not self.is_wide:
            says = [", ".join(filter(None, says))]
        x, anchor = (self.right + 20, "start") if self.is_wide else (self.right, "end")
        lines: list[Shape] = [
            Text(
                x,
                top + 15 + _LINE * number,
                line,
                SMALL_SIZE,
                "start" if anchor == "start" else "end",
                key=f"{key}-says-{number}",
            )
            for number, line in enumerate(says)
        ]
        return [title, *lines], top if self.is_wide else top + _LINE


def iteration_scenes(moments: Sequence[Moment], width: float = WIDE) -> list[Scene]:
    """Draw one picture for each moment of some iterations, all of the same size and scale.

    Args:
        moments: What ``watch_plans`` or ``run_moments`` recorded.
        width: Width of the pictures, in pixels: ``WIDE`` or ``NARROW``.

    Raises:
        ValueError: There are no moments.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import Request, Scheduler, SchedulerConfig
    >>> from course_lib.scheduling.watch.moments import watch_plans
    >>> scheduler = Scheduler(SchedulerConfig(), KVCacheManager(num_blocks=9))
    >>> scheduler.add_request(Request("a", range(20), max_tokens=2))
    >>> with watch_plans(scheduler) as moments:
    ...     output = scheduler.schedule()
    >>> scenes = iteration_scenes(moments)
    >>> len(scenes), scenes[1].alt.partition(". ")[0]
    (3, 'a is next in line and starts')
    """
    if not moments:
        raise ValueError("there are no moments to draw; let a scheduler plan an iteration first")
    page = _Page(width, max(map(_most_tokens, moments)))
    drawn = [_shapes(moment, page) for moment in moments]
    below = max(map(bottom_of, drawn)) + 20
    used = states_in(shape for shapes in drawn for shape in shapes)
    names = legend(used, _MARGIN, below, width - 2 * _MARGIN, BAR_NAMES)
    return [
        Scene(
            width,
            bottom_of(names) + 14,
            (*shapes, *names),
            title=f"Iteration {moment.step:,}, decision by decision",
            alt=f"{caption} {summary(moment)}",
        )
        for moment, shapes, caption in zip(moments, drawn, captions(moments), strict=True)
    ]


def _most_tokens(moment: Moment) -> int:
    """Return how many tokens the longest bar, or the longest row of blocks, has at a moment."""
    known = [end_of(request) for request in moment.state.requests.values()]
    slots = [len(table) * moment.block_size for table in moment.blocks["tables"].values()]
    return max([1, *known, *slots])


def _shapes(moment: Moment, page: _Page) -> list[Shape]:
    """Draw one moment: heading, limits, and a row for each request."""
    state = moment.state
    holding = limit_of(moment.reason)
    shapes: list[Shape] = [
        Text(_MARGIN, 30, _heading(moment), HEADING_SIZE, is_bold=True),
        Text(_MARGIN, 56, _state_line(moment, page), SMALL_SIZE, tone="muted", key="notation"),
    ]
    top: float = 72
    for draw in (_budget, _batch):
        row, top = draw(moment, page, top, holding)
        shapes += row
    queue, top = _free_blocks(moment, page, top, holding)
    top += 8
    for title, names, most in (
        ("running, in the order of service", state.running, _MOST_RUNNING),
        ("swapped out, who returns first in front", state.swapped, _MOST_WAITING),
        ("waiting, next in line first", state.waiting, _MOST_WAITING),
    ):
        if names:
            shapes.append(Text(_MARGIN, top + 14, title, SMALL_SIZE, tone="muted", key=title))
            top += 24
        shown = _shown(names, moment.request_id, most)
        for name in shown:
            row, top = _request(moment, page, top, state.requests[name])
            shapes += row
        if len(shown) < len(names):
            more = f"and {len(names) - len(shown):,} more"
            shapes.append(Text(page.left, top + 10, more, SMALL_SIZE, tone="muted"))
            top += 28
    return [*shapes, *queue]  # last, so that blocks that come back fly over what is between


def _shown(names: Sequence[str], current: str, most: int) -> list[str]:
    """Return whose rows are drawn: the first ones, and whoever it is about."""
    if len(names) <= most:
        return list(names)
    last = current if current in names[most - 1 :] else names[most - 1]
    return [*names[: most - 1], last]


def _state_line(moment: Moment, page: _Page) -> str:
    """Write pool and tables in the notation of the course, where there is room for it."""
    return fitting(page.width - 2 * _MARGIN, str(StateLine.of_frame(moment.blocks)))


def _heading(moment: Moment) -> str:
    """Say in a few words what has just happened."""
    name = moment.request_id
    are = "is" if moment.num_tokens == 1 else "are"
    says = {
        Happening.BEGINS: "nothing is planned yet",
        Happening.SERVES: f"{name} gets {moment.num_tokens}",
        Happening.LACKS_ROOM: f"no room for {name}",
        Happening.PREEMPTS: f"{name} gives way",
        Happening.ADMITS: f"{name} comes in and gets {moment.num_tokens}",
        Happening.WAITS: f"{name} has to wait",
        Happening.ENDS: f"{counted(moment.num_tokens, 'token')} {are} planned",
    }
    return f"Iteration {moment.step:,}: {says[moment.happening]}"


def _budget(moment: Moment, page: _Page, top: float, holding: str) -> tuple[list[Shape], float]:
    """Draw the token budget, which fills segment by segment in the order of service."""
    budget = moment.state.max_num_batched_tokens
    says = f"{moment.budget_left:,} of {budget:,} tokens left"
    shapes, top = _limit(page, top, "budget", "budget", says, holding)
    per_token = (page.right - page.left) / budget
    x = page.left
    for name, num_tokens in moment.plan.items():
        width = num_tokens * per_token
        shapes.append(
            Rect(
                x,
                top,
                width,
                _LIMIT,
                kind_of(moment, name),
                fitting(width + 2, f"{name}: {num_tokens}", f"{num_tokens}"),
                f"{name} computes {num_tokens:,} tokens in this iteration",
                key=f"grant-{name}",
                outline=outline_of(width),
                of=("request", name),
            )
        )
        x += width
    return shapes, top + _LIMIT + 12


def _batch(moment: Moment, page: _Page, top: float, holding: str) -> tuple[list[Shape], float]:
    """Draw the places of the batch and who has them, in order of admission."""
    running, places = moment.state.running, moment.state.max_num_seqs
    left = places - len(running)
    shapes, top = _limit(page, top, "batch", "batch", f"{left} of {places} places left", holding)
    width = min((page.right - page.left) / places, 64)
    for number, name in enumerate(running):
        shapes.append(
            Rect(
                page.left + number * width,
                top,
                width,
                _LIMIT,
                "in_use",
                fitting(width + 6, name),
                f"{name} runs",
                key=f"place-{name}",
                outline=outline_of(width),
                of=("request", name),
            )
        )
    return shapes, top + _LIMIT + 12


def _free_blocks(
    moment: Moment, page: _Page, top: float, holding: str
) -> tuple[list[Shape], float]:
    """Draw the free queue, the block that is handed out next in front."""
    says = f"{num_free(moment):,} of {num_blocks(moment):,} blocks free"
    shapes, top = _limit(page, top, "blocks", "free queue", says, holding)
    width = min((page.right - page.left) / num_blocks(moment), _WIDEST_TILE)
    shapes += _row_of_blocks(moment, moment.blocks["free_queue"], page.left, top + 3, width, "")
    return shapes, top + _LIMIT + 12


def _limit(
    page: _Page, top: float, limit: str, name: str, says: str, holding: str
) -> tuple[list[Shape], float]:
    """Draw the box of a limit; in bold if it is the one that holds somebody up."""
    thing: Thing = ("limit", limit)
    is_holding = limit == holding
    shapes, top = page.beside(top + 2, name, [says], f"limit-{limit}")
    shapes.append(
        Rect(
            page.left,
            top - 2,
            page.right - page.left,
            _LIMIT,
            tooltip=f"{name}: {says}",
            key=f"limit-{limit}",
            outline="bold" if is_holding else "thin",
            of=thing,
        )
    )
    return shapes, top - 2


def _row_of_blocks(
    moment: Moment, block_ids: Sequence[int], left: float, top: float, width: float, holder: str
) -> list[Shape]:
    """Draw blocks side by side: each by itself, or each run of equal ones if they are too thin."""
    states = [moment.blocks["blocks"][block_id]["state"] for block_id in block_ids]
    if width >= _NARROWEST_TILE:
        return [
            _tile(moment, block_id, left + place * width, top, width, state, holder)
            for place, (block_id, state) in enumerate(zip(block_ids, states, strict=True))
        ]
    shapes: list[Shape] = []
    start = 0
    for number, (state, run) in enumerate(groupby(states)):
        count = len(list(run))
        shapes.append(
            Rect(
                left + start * width,
                top,
                count * width,
                _TILE,
                state,
                tooltip=f"{count:,} blocks",
                key=f"blocks-{holder}-{number}",
            )
        )
        start += count
    return shapes


def _tile(
    moment: Moment, block_id: int, x: float, top: float, width: float, state: str, holder: str
) -> Rect:
    """Draw a block, in the free queue or in a table.

    A block that several hold is drawn for each; the first of them has the tile that was there.
    """
    block = moment.blocks["blocks"][block_id]
    star = "" if block["hash"] is None else "*"
    owners = block["owners"]
    is_first = not holder or not owners or owners[0] == holder
    says = f"held by {', '.join(owners)}" if owners else "free"
    return Rect(
        x,
        top,
        max(width - 2, 1),
        _TILE,
        state,
        fitting(width + 4, f"{block_id}{star}", str(block_id)),
        f"block {block_id}: {says}" + (", in the prefix cache" if star else ""),
        key=f"block-{block_id}" if is_first else f"block-{block_id}-{holder}",
        of=("block", block_id),
        lights=tuple(("request", owner) for owner in owners),
        origin="" if is_first else f"block-{block_id}",
    )


def _request(
    moment: Moment, page: _Page, top: float, request: RequestState
) -> tuple[list[Shape], float]:
    """Draw a request: what is computed and known, and below it its blocks or why it waits."""
    name = request.request_id
    ahead = end_of(request) - request.num_tokens
    known_and_ahead = f"{request.num_tokens:,}" + (f" + {ahead:,}" if ahead else "")
    says = [f"{request.num_computed_tokens:,} of {known_and_ahead} computed"]
    if name in moment.state.running:
        says.append(share_text(moment, request))
    shapes, bar_top = page.beside(top, name, says, f"request-{name}")
    if name == moment.request_id:
        y = bar_top + _BAR / 2
        hand = ((page.left - 24, y), (page.left - 4, y))
        shapes.append(Line(hand, thickness=3, has_arrow=True, key="hand"))
    shapes += _bar(moment, page, bar_top, request)
    below = bar_top + _BAR + 4
    width = page.token(moment.block_size) - page.left
    shapes += _row_of_blocks(moment, table_of(moment, name), page.left, below, width, name)
    shapes += _why(moment, page, below, name)
    return shapes, below + _TILE + 14


def _bar(moment: Moment, page: _Page, top: float, request: RequestState) -> list[Shape]:
    """Draw what a request has computed and what it knows, with what it computes now between."""
    lights = tuple(("block", block_id) for block_id in table_of(moment, request.request_id))
    return [
        replace(stretch, lights=lights)
        for stretch in request_bar(moment, request, page.token, top, _BAR)
    ]


def _why(moment: Moment, page: _Page, top: float, name: str) -> list[Shape]:
    """Write why a request that does not run has to wait, or why it had to give way."""
    if name in moment.state.running:
        return []
    reason = moment.reasons.get(name, "")
    if moment.happening is Happening.PREEMPTS and name == moment.request_id:
        reason = f"preempted: {moment.reason}"
    if not reason:
        return []
    limit = limit_of(reason)
    return [
        Text(
            page.left,
            top + 15,
            reason,
            SMALL_SIZE,
            tone="alert" if limit else "muted",
            key=f"{name}-why",
            of=("request", name),
            lights=(("limit", limit),) if limit else (),
        )
    ]
