"""The pool of blocks as grid, free queue and block tables: any trace of a pool as a film.

``Recorder`` watches a pool or a manager, the learner's own included; ``pool_film`` plays what it
saw. Blocks travel between the queue and the tables; to point at one lights it everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from course_lib.viz.kit.layout import NARROW, WIDE, legend
from course_lib.viz.kit.palette import PALETTE
from course_lib.viz.kit.player import Frame, Player
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Shape
from course_lib.viz.pool.board import Board
from course_lib.viz.pool.changes import caption_of, event_of
from course_lib.viz.pool.chips import Placed, Record, follow
from course_lib.viz.pool.layout import MARGIN, Extent, PoolLayout

_LEGEND_ROOM = 34


def pool_film(records: Iterable[Record]) -> Player:
    """Return a film of a trace, one frame for each call.

    Events are evictions, shared blocks, claimed prefixes, refusals, and blocks that get lost.

    Args:
        records: The frames of a ``Recorder``.

    Raises:
        ValueError: There are no frames.

    >>> from course_lib.kv_cache import BlockPool, Recorder
    >>> pool = BlockPool(num_blocks=9)
    >>> with Recorder(pool) as recorder:
    ...     pool.free_blocks(pool.get_new_blocks(3))
    >>> [frame.caption for frame in pool_film(recorder.frames).film][1]
    'get_new_blocks(3): 1 2 3 are handed out.'
    """
    return Player(pool_frames(records))


def pool_frames(records: Iterable[Record]) -> Iterator[Frame]:
    """Yield the frames of the film, each in a wide and a narrow form."""
    film = list(follow(records))
    extent = Extent.of(film)
    before: Record | None = None
    for at in film:
        caption = caption_of(at.record, before)
        wide, narrow = (_scene(at, PoolLayout(extent, width), caption) for width in (WIDE, NARROW))
        yield Frame(wide, caption, event_of(at.record, before), narrow)
        before = at.record


def pool_scene(record: Record, width: float = WIDE) -> Scene:
    """Draw one state of a pool or a manager.

    Args:
        record: What ``snapshot_blocks`` returns, or a frame of a ``Recorder``.
        width: Width of the picture.

    >>> from course_lib.kv_cache import BlockPool, snapshot_blocks
    >>> pool = BlockPool(num_blocks=5)
    >>> blocks = pool.get_new_blocks(2)
    >>> pool_scene(snapshot_blocks(pool)).alt
    'State: free [3 4]  held: 1 2. Usage 50.0%.'
    """
    [at] = follow([record])
    return _scene(at, PoolLayout(Extent.of([at]), width), "")


def _scene(at: Placed, layout: PoolLayout, caption: str) -> Scene:
    """Return the board with a legend, and the state in words."""
    shapes: list[Shape] = list(Board(layout).draw(at))
    states = [state for state in PALETTE if state in layout.extent.states]
    named = legend(states, MARGIN, layout.bottom + 14, layout.inner)
    height = layout.bottom + 14 + _LEGEND_ROOM
    height = max(height, *(shape.y + 22 for shape in named))  # type: ignore[union-attr]
    said = f"{caption} State: {at.line}. Usage {at.record['usage']:.1%}."
    return Scene(layout.width, height, (*shapes, *named), "The pool of blocks", said.strip())
