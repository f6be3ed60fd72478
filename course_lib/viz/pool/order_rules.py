"""Lesson 7's second figure: the same requests under several orders of the free queue, and the hits.

A and B end; a stranger takes blocks; then A's prompt comes again. What of it is still there depends
on where the blocks went that A and B gave back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from course_lib.kv_cache.block_pool import BlockPool, KVCacheBlock
from course_lib.kv_cache.order_rules import ORDER_RULES
from course_lib.kv_cache.watch.notation import StateLine
from course_lib.viz.kit.controls import Slider
from course_lib.viz.kit.explorer import Explorer
from course_lib.viz.kit.layout import WIDE, legend
from course_lib.viz.kit.notation import strip
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import SMALL_SIZE, Rect, Shape, Text, states_in
from course_lib.viz.kit.words import counted

NUM_BLOCKS = 9
PROMPT = 4
"""Full blocks of A's prompt."""

_MARGIN = 14
_LABEL, _ROW = 26, 20
_FIRST_COLUMN = 424  # pixels; a queue of eight blocks needs no more


@dataclass(frozen=True)
class Outcome:
    """What comes of the story under one rule.

    Attributes:
        rule: What the rule is called.
        idle: The state when A and B have ended.
        end: The state when the stranger holds blocks, and A has come again.
        hits: Blocks of A's prompt that are found, from the first one on.
    """

    rule: str
    idle: StateLine
    end: StateLine
    hits: int


def outcome(rule: str, make_pool: type[BlockPool], taken: int) -> Outcome:
    """Let the story happen in a pool.

    Args:
        rule: What the pool's rule is called.
        make_pool: The pool's class.
        taken: Blocks that the stranger takes, 0 to 8.

    >>> told = outcome("the rule", BlockPool, taken=4)
    >>> print(told.idle)
    free [6 7 8 | 4* 3* 2* 1* 5*]
    >>> print(told.end, told.hits)
    free [5*]  S: 6 7 8 4  A: 1* 2* 3* 3
    """
    pool = make_pool(NUM_BLOCKS)
    first, second = pool.get_new_blocks(PROMPT), pool.get_new_blocks(2)
    hashes = [f"A{index}".encode() for index in range(PROMPT)]
    pool.cache_full_blocks(first, hashes)
    pool.cache_full_blocks(second[:1], [b"B0"])
    pool.free_blocks(first[::-1])
    pool.free_blocks(second[::-1])
    idle = StateLine.of(pool)
    stranger = pool.get_new_blocks(taken)
    found: list[KVCacheBlock] = []
    for block_hash in hashes:
        block = pool.get_cached_block(block_hash)
        if block is None:
            break
        found.append(block)
    pool.touch(found)
    tables = {"S": stranger, "A": found}
    named = {name: table for name, table in tables.items() if table}
    return Outcome(rule, idle, StateLine.of(pool, named), len(found))


def order_rules(rules: Mapping[str, type[BlockPool]] = ORDER_RULES) -> Explorer:
    """Return the figure: a row for each rule, and a control for how much the stranger takes.

    Args:
        rules: The class of each pool by what its rule is called; a learner's own may be among them.

    Raises:
        ValueError: There are no rules.

    >>> order_rules().scene.alt.split(". ")[0]
    'The stranger takes 0 blocks'
    """
    if not rules:
        raise ValueError("there is no rule to show; pass at least one pool class by its name")
    chosen = MappingProxyType(dict(rules))

    def build(taken: int, width: float = WIDE) -> Scene:
        return order_rules_scene(taken, chosen, width)

    control = Slider("A stranger takes", minimum=0, maximum=8, value=0, unit="blocks")
    return Explorer(build, {"taken": control}, precompute=True)


def order_rules_scene(
    taken: int, rules: Mapping[str, type[BlockPool]] = ORDER_RULES, width: float = WIDE
) -> Scene:
    """Draw the story under each rule.

    Args:
        taken: Blocks that the stranger takes, 0 to 8.
        rules: As for ``order_rules``.
        width: Width of the picture.

    >>> order_rules_scene(4).alt.split(". ")[1]
    'the rule: 3 of 4 blocks of A are found'
    """
    shapes: list[Shape] = []
    top: float = _MARGIN
    said = []
    is_wide = width >= WIDE
    for told in _outcomes(tuple(rules.items()), taken):
        result = f"{told.hits} of {PROMPT} blocks of A are found"
        said.append(f"{told.rule}: {result}")
        shapes.append(Text(_MARGIN, top + 18, f"{told.rule}: {result}", is_bold=True))
        top, left, lowest = top + _LABEL, float(_MARGIN), 0.0
        for moment, line in (("A and B have ended", told.idle), ("S, then A again", told.end)):
            shapes.append(Text(left, top + 14, moment, SMALL_SIZE, tone="muted"))
            prefix = f"{told.rule}/{moment}/"
            drawn, bottom = strip(line, left, top + _ROW, width - left - _MARGIN, prefix)
            shapes += drawn
            lowest = max(lowest, bottom)
            top, left = (top, left + _FIRST_COLUMN) if is_wide else (bottom + 6, left)
        top = lowest + 24
    named = legend(states_in(shapes), _MARGIN, top, width - 2 * _MARGIN)
    bottom = max((box.y + box.height for box in named if isinstance(box, Rect)), default=top)
    alt = ". ".join([f"The stranger takes {counted(taken, 'block')}", *said]) + "."
    title = "Where blocks go that come back"
    return Scene(width, bottom + _MARGIN, (*shapes, *named), title, alt)


@lru_cache(maxsize=64)
def _outcomes(rules: tuple[tuple[str, type[BlockPool]], ...], taken: int) -> tuple[Outcome, ...]:
    """Return what comes of the story under each rule, once for both forms of a picture."""
    return tuple(outcome(rule, make_pool, taken) for rule, make_pool in rules)
