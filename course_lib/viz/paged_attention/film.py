"""Lesson 2's film: three numbers travel through a request's blocks, and the answer is exact."""

from __future__ import annotations

from collections.abc import Iterator

from course_lib.attention.example import Functions, Merge, OwnPartError, Partial
from course_lib.viz.kit.layout import NARROW, WIDE, bottom_of, legend
from course_lib.viz.kit.player import Frame, Player
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import HEADING_SIZE, SMALL_SIZE, TEXT_SIZE, Shape, Text
from course_lib.viz.paged_attention.bars import IN_HAND, SO_FAR, scales, state_panels
from course_lib.viz.paged_attention.board import block_in_hand, query_tag, request_rows
from course_lib.viz.paged_attention.page import MARGIN, Page
from course_lib.viz.paged_attention.steps import Step, caption, event, heading, steps
from course_lib.viz.paged_attention.words import trouble_scene

_TITLE = "Attention, block by block"
_LEGEND = {
    "decode": "query",
    "used": "token of the request",
    "stale": "stale, left by others",
    "null": "null block",
    "free": "free",
    SO_FAR: "over the blocks so far",
    IN_HAND: "of the block in hand",
}
"""What the legend of every frame names, so that it stays where it is."""


def attention_film(
    partial_attention: Partial | None = None, merge_states: Merge | None = None
) -> Player:
    """Return a film of one query that goes through the blocks of its request.

    It shows the numbers that the two functions return, right or wrong. If one of them fails, the
    film ends there and says how.

    Args:
        partial_attention: Makes the state of the query over a block; the library's if None.
        merge_states: Makes the state over both of two; the library's if None.

    >>> film = attention_film()
    >>> film.count, [name for _, name in film.marks]
    (8, ['it is the first', 'its own sums shrink', 'the sums so far shrink', 'the answer'])
    """
    return Player(_frames(Functions.of(partial_attention, merge_states)), interval=2500)


def _frames(functions: Functions) -> Iterator[Frame]:
    """Yield the frames; a function that fails ends the film with its error in words."""
    moments: list[Step] = []
    problem = ""
    try:
        moments.extend(steps(functions))
    except OwnPartError as error:
        problem = str(error)
    most = scales(moments)
    for step in moments:
        wide, narrow = (step_scene(step, Page(width, most)) for width in (WIDE, NARROW))
        yield Frame(wide, caption(step), event(step), narrow)
    if problem:
        wide, narrow = (trouble_scene(_TITLE, problem, width) for width in (WIDE, NARROW))
        yield Frame(wide, f"The film ends here: {problem}.", "an error", narrow)


def step_scene(step: Step, page: Page) -> Scene:
    """Draw one moment: the request's blocks, the block in hand, and the three numbers.

    Args:
        step: The moment.
        page: Where things are.
    """
    size = HEADING_SIZE if page.is_wide else TEXT_SIZE
    shapes: list[Shape] = [
        Text(MARGIN, 32, heading(step), size, is_bold=True),
        *request_rows(step, page),
        *block_in_hand(step, page),
        query_tag(step, page),  # above the lines that lead to the block in hand
        *state_panels(step, page, 352 if page.is_wide else 402),
    ]
    below = 536 if page.is_wide else 768
    shapes += legend(_LEGEND, MARGIN, below, page.width - 2 * MARGIN, _LEGEND)
    dashed = "Dashed: the sums before they shrink."
    shapes.append(Text(MARGIN, bottom_of(shapes) + 26, dashed, SMALL_SIZE, tone="muted"))
    return Scene(page.width, bottom_of(shapes) + 14, tuple(shapes), title=_TITLE, alt=caption(step))
