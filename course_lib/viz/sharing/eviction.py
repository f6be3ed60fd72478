"""Who falls first: prompts that gave their last blocks back first, beside the other order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from course_lib import parts
from course_lib.kv_cache.prefix import hash_blocks
from course_lib.viz.kit.layout import NARROW, WIDE, bottom_of, fitting, legend
from course_lib.viz.kit.palette import PALETTE
from course_lib.viz.kit.player import Frame, Player
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, Group, Shape, Text
from course_lib.viz.pool.board import Board
from course_lib.viz.pool.changes import Changes, effects_of
from course_lib.viz.pool.chips import Placed, follow
from course_lib.viz.pool.layout import MARGIN, Extent, PoolLayout
from course_lib.viz.sharing.falling import (
    CHAINS,
    MakePool,
    Moment,
    falling,
    hidden_text,
    tokens_of,
    whose,
)
from course_lib.viz.sharing.prompts import BLOCK_SIZE, num_blocks_of
from course_lib.viz.sharing.tree import Columns, Tile, Tree, edge
from course_lib.viz.sharing.trouble import trouble_of
from course_lib.viz.sharing.words import listed

_TITLE = "Leaves fall before stems"
_ORDERS = ("last block first", "first block first")
_REMARKS = (("as the rule has it", "the rule"), ("against the rule",))
_HIDDEN = "external"
_NAMES = {_HIDDEN: "cached, but not to be found for now"}
_NARROW_MARGIN = 8


@dataclass(frozen=True)
class _Side:
    """One pool: its moments, and where its queue stands.

    Attributes:
        name: In which order prompts give their blocks back.
        remarks: What is said of that.
        moments: What happens.
        placed: The same with the chips of the queue.
        extent: What the queue needs.
        tree: Where the blocks stand.
    """

    name: str
    remarks: Sequence[str]
    moments: Sequence[Moment]
    placed: Sequence[Placed]
    extent: Extent
    tree: Tree

    @classmethod
    def of(cls, name: str, remarks: Sequence[str], moments: Sequence[Moment]) -> _Side:
        placed = [
            _with_hidden(at, moment.unreachable)
            for at, moment in zip(follow(m.record for m in moments), moments, strict=True)
        ]
        extent = replace(Extent.of(placed), num_blocks=0, lanes=(), lines=frozenset())
        return cls(
            name, remarks, moments, placed, extent, Tree.of(list(moments[0].chains.values()))
        )

    def effects(self, number: int) -> str:
        """Say what a moment changed in this pool."""
        moment, before = self.moments[number], self.moments[number - 1]
        if moment.fell is not None:
            said = f"block {moment.fell} falls, {whose(moment.fell, moment.chains)}"
        else:
            said = "; ".join(effects_of(Changes.between(before.record, moment.record)))
        said = "; ".join(filter(None, (said or "nothing changes", hidden_text(moment))))
        return f"{self.name.capitalize()}: {said}."


def _with_hidden(at: Placed, unreachable: frozenset[int]) -> Placed:
    """Draw what nobody can find in its own state in the queue too."""
    chips = {
        holder: tuple(
            replace(chip, state=_HIDDEN) if chip.mark.block_id in unreachable else chip
            for chip in those
        )
        for holder, those in at.chips.items()
    }
    return replace(at, chips=chips)


def eviction_film(pool: MakePool | None = None) -> Player:
    """Return a film of two pools from which newcomers take block after block.

    The same three prompts have ended in both. In one each gave its last block back first, as is the
    rule; in the other its first. What is cached and cannot be found, because a block in front of it
    is gone, is grey: until somebody computes that one again, it serves nobody.

    Args:
        pool: Makes a pool from a number of blocks: a class, or a function. Errors that it raises
            stand in the picture in words. By default the library's, with the learner's own parts
            where there are any.

    >>> film = eviction_film()
    >>> print(film.film[7].caption.partition(" First")[0])
    A newcomer takes a block. Last block first: block 2 falls, A and B's second.
    >>> film.marks[0]
    [6, 'nobody finds 4']
    """
    make = pool or parts.rewired(parts.get("BlockPool"))
    return Player(_frames([falling(is_last_first, make) for is_last_first in (True, False)]))


def _frames(lives: Sequence[Sequence[Moment]]) -> Iterator[Frame]:
    """Yield the moments of both pools, until one of them fails."""
    count = min(map(len, lives))
    failed = next((life[-1] for life in lives if life[-1].problem), None)
    if failed is not None:
        count -= 1
    sides = [
        _Side.of(name, remarks, life[:count])
        for name, remarks, life in zip(_ORDERS, _REMARKS, lives, strict=True)
        if count
    ]
    for number in range(count):
        caption = _caption(sides, number)
        wide, narrow = (_scene(sides, number, caption, width) for width in (WIDE, NARROW))
        yield Frame(wide, caption, _event(sides, number), narrow)
    if failed is not None:
        wide, narrow = (
            trouble_of(_TITLE, failed.doing, failed.problem, width) for width in (WIDE, NARROW)
        )
        yield Frame(wide, f"{failed.doing}: {failed.problem}", "stopped", narrow)


def _caption(sides: Sequence[_Side], number: int) -> str:
    """Say what happened in both pools."""
    names = list(CHAINS)
    if number == 0:
        return (
            f"{listed(names)} run, and share the blocks of their common beginnings. When they end, "
            "one pool gets each one's last block first, the other one its first."
        )
    done = f"{names[number - 1]} ends" if number <= len(names) else "A newcomer takes a block"
    return f"{done}. {' '.join(side.effects(number) for side in sides)}"


def _event(sides: Sequence[_Side], number: int) -> str:
    """Say what a reader looks for."""
    if number == 0:
        return ""
    hidden = [
        each
        for side in sides
        for each in side.moments[number].unreachable - side.moments[number - 1].unreachable
    ]
    return f"nobody finds {listed(sorted(hidden))}" if hidden else ""


def _scene(sides: Sequence[_Side], number: int, caption: str, width: float) -> Scene:
    """Draw both pools, side by side."""
    shapes: list[Shape] = []
    said = []
    end = 0.0
    for place, side in enumerate(sides):
        panel, bottom = _panel(side, number, width / 2, place * width / 2)
        shapes += panel
        said.append(f"{side.name.capitalize()}, found again: {_found_again(side.moments[number])}")
        end = max(end, bottom)
    below = end + 12
    states = {state for side in sides for m in side.moments for state in _states(m)}
    shapes += legend(
        [state for state in PALETTE if state in states], MARGIN, below, width - 2 * MARGIN, _NAMES
    )
    alt = f"{caption} {'. '.join(said)}."
    return Scene(width, bottom_of(shapes) + 14, tuple(shapes), title=_TITLE, alt=alt)


def _states(moment: Moment) -> Iterator[str]:
    """Yield the states that blocks have at a moment."""
    for block in moment.record["blocks"][1:]:
        yield _HIDDEN if block["block_id"] in moment.unreachable else block["state"]


def _found_again(moment: Moment) -> str:
    """Say how much of each prompt would be found again."""
    found = (
        f"{name} {moment.num_found[name]} of {num_blocks_of(len(tokens))}"
        for name, tokens in CHAINS.items()
    )
    return f"{', '.join(found)} blocks"


def _found_in_short(moment: Moment) -> str:
    """Say the same with fewer letters."""
    found = (
        f"{name} {moment.num_found[name]}/{num_blocks_of(len(tokens))}"
        for name, tokens in CHAINS.items()
    )
    return f"Found: {', '.join(found)}"


def _panel(side: _Side, number: int, width: float, left: float) -> tuple[list[Shape], float]:
    """Draw one pool: the tree, what would be found again, and the free queue.

    Returns:
        The shapes, and where they end.
    """
    moment = side.moments[number]
    margin = MARGIN if width >= WIDE / 2 else _NARROW_MARGIN
    inner, start = width - 2 * margin, left + margin
    key, top = side.name, 14
    shapes: list[Shape] = [Text(start, top + 18, side.name.capitalize(), is_bold=True)]
    remark = fitting(inner - 170, *side.remarks)
    if remark:
        right = start + inner
        shapes.append(Text(right, top + 18, remark, SMALL_SIZE, "end", tone="muted"))
    columns = Columns.of(max(len(chain) for chain in moment.chains.values()), start, inner)
    tree, tree_top = side.tree, top + 32
    there = {block_id: _is_there(block_id, moment) for block_id in tree.places}
    for first, second in tree.edges:
        ends = tree.places[first], tree.places[second]
        name, is_cut = f"{key}-edge-{first}-{second}", not (there[first] and there[second])
        shapes.append(edge(columns, *ends, tree_top, name, is_dashed=is_cut))
    for block_id, (column, row) in tree.places.items():
        corner = columns.place(column, row, tree_top)
        shapes.append(_block(moment, block_id, columns, corner, key, there[block_id]))
    below = tree_top + tree.num_rows * columns.row
    again = fitting(inner, f"Found again: {_found_again(moment)}", _found_in_short(moment))
    shapes.append(Text(start, below + 14, again, SMALL_SIZE))
    # The board has a margin of its own.
    layout = PoolLayout(side.extent, inner + 2 * MARGIN, below + 32, start - MARGIN)
    shapes += Board(layout, prefix=f"{key}-").draw(side.placed[number])
    return shapes, layout.bottom


def _is_there(block_id: int, moment: Moment) -> bool:
    """Say whether a block still holds what a prompt had in it."""
    for name, chain in moment.chains.items():
        if block_id in chain:
            own = hash_blocks(CHAINS[name], BLOCK_SIZE)[chain.index(block_id)]
            return bool(moment.record["blocks"][block_id]["hash"] == own.hex()[:8])
    return False


def _block(
    moment: Moment,
    block_id: int,
    columns: Columns,
    corner: tuple[float, float],
    key: str,
    is_there: bool,
) -> Group:
    """Draw one block of the tree; in place of one that was handed out, its frame."""
    name, of = f"{key}-block-{block_id}", ("block", block_id)
    tokens = tokens_of(block_id, moment.chains)
    of_whom = f"of {' '.join(n for n, chain in moment.chains.items() if block_id in chain)}"
    if not is_there:
        said = f"block {block_id} was handed out; {whose(block_id, moment.chains)} is gone"
        heading = (f"block {block_id}",)
        tile = Tile(heading, (), "", of_whom, (), said, "dashed", ("handed out", "gone"))
        return tile.draw(columns, corner, name, of)
    block = moment.record["blocks"][block_id]
    is_hidden = block_id in moment.unreachable
    state = _HIDDEN if is_hidden else block["state"]
    owners = block["owners"]
    count = f" ({block['ref_cnt']})" if block["ref_cnt"] > 1 else ""
    tile = Tile(
        (f"block {block_id}{count}", f"{block_id}{count}"),
        tokens,
        state,
        left=of_whom,
        tooltip=f"block {block_id}: {_NAMES.get(state, PALETTE[state].label)}\n"
        f"{whose(block_id, moment.chains)}: {' '.join(map(str, tokens))}",
    )
    lights = tuple(("request", owner) for owner in owners)
    return tile.draw(columns, corner, name, of, lights)
