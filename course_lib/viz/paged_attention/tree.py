"""Lesson 2's third figure: several workers attend to a part each, and their states are merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TypeAlias

from course_lib.attention.dense import SoftmaxState
from course_lib.attention.example import (
    BLOCK_TABLE,
    Functions,
    Merge,
    Numbers,
    OwnPartError,
    Partial,
    dense_answer,
    empty_state,
    is_close,
    merged_rightly,
    numbers_of,
    short,
    shown,
)
from course_lib.viz.kit.controls import Choice
from course_lib.viz.kit.explorer import Explorer
from course_lib.viz.kit.layout import WIDE, bottom_of, fitting, legend
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import (
    HEADING_SIZE,
    SMALL_SIZE,
    TEXT_SIZE,
    Line,
    Rect,
    Shape,
    Text,
    states_in,
)
from course_lib.viz.paged_attention.page import MARGIN, paragraphs
from course_lib.viz.paged_attention.routes import spread
from course_lib.viz.paged_attention.steps import factor
from course_lib.viz.paged_attention.words import gap_text, trouble_scene

Tree: TypeAlias = "int | tuple[Tree, Tree]"
"""A worker by its number, or what is merged: two trees."""

GROUPINGS: dict[str, Tree] = {
    "(1 2)(3 4)": ((0, 1), (2, 3)),
    "((1 2) 3) 4": (((0, 1), 2), 3),
    "(1 (2 3)) 4": ((0, (1, 2)), 3),
    "1 ((2 3) 4)": (0, ((1, 2), 3)),
    "1 (2 (3 4))": (0, (1, (2, 3))),
}
"""All ways to merge the states of four workers in their order."""

WORK: dict[str, tuple[tuple[int, ...], ...]] = {
    "7, 3, 5, –": ((0,), (1,), (2,), ()),
    "–, 7, 3, 5": ((), (0,), (1,), (2,)),
    "7, –, 3, 5": ((0,), (), (1,), (2,)),
    "7 and 3, 5, –, –": ((0, 1), (2,), (), ()),
    "–, –, 7 and 3, 5": ((), (), (0, 1), (2,)),
    "all, –, –, –": ((0, 1, 2), (), (), ()),
}
"""Which logical blocks each of the four workers has, by what the figure calls it."""

_TITLE = "A merge tree"
_TOP, _GAP, _HEAD, _LINE = 56, 50, 28, 22
_NAMES = {"used": "worker with blocks", "idle": "idle worker: the empty state"}


@dataclass(frozen=True)
class Node:
    """A state in the tree.

    Attributes:
        workers: Whose keys it is over.
        blocks: The physical blocks of these workers.
        numbers: The state.
        right: What the library makes of the two states below; the state itself for a worker.
        state: The same as tensors.
        children: The two nodes it was merged from; empty for a worker.
    """

    workers: tuple[int, ...]
    blocks: tuple[int, ...]
    numbers: Numbers
    right: Numbers
    state: SoftmaxState
    children: tuple[Node, ...] = ()

    @property
    def level(self) -> int:
        """How many merges it takes at most: 0 for a worker."""
        return 1 + max(child.level for child in self.children) if self.children else 0

    @property
    def key(self) -> str:
        """Its name in the scene."""
        return f"node-{'-'.join(str(worker + 1) for worker in self.workers)}"

    @property
    def is_right(self) -> bool:
        """Whether the state is what the library makes of the two below."""
        return self.numbers.agrees_with(self.right)


def merge_tree(
    partial_attention: Partial | None = None, merge_states: Merge | None = None
) -> Explorer:
    """Return a figure of four workers whose states are merged as a tree.

    The reader chooses the grouping, and who has which blocks; who has none is idle, and has the
    empty state. All pictures are made when the figure is, so it needs no kernel.

    Args:
        partial_attention: Makes the state of the query over a block; the library's if None.
        merge_states: Makes the state over both of two; the library's if None.

    >>> figure = merge_tree()
    >>> figure.set(grouping="1 (2 (3 4))", work="all, –, –, –")
    >>> figure.scene.alt.partition(". ")[0]
    'Four workers, merged as 1 (2 (3 4)), give 94.171'
    """
    functions = Functions.of(partial_attention, merge_states)
    try:
        pairs = product(GROUPINGS.values(), WORK.values())
        answers = [grown(tree, work, functions).numbers.output for tree, work in pairs]
    except OwnPartError:
        answers = []  # the picture of the setting that fails says so
    return Explorer(
        partial(_example_scene, functions, answers),
        {
            "grouping": Choice("Grouping", {name: name for name in GROUPINGS}, "(1 2)(3 4)"),
            "work": Choice("Blocks of workers 1 to 4", {name: name for name in WORK}, "7, 3, 5, –"),
        },
        precompute=True,
    )


def _example_scene(
    functions: Functions, answers: Sequence[float], grouping: str, work: str, width: float = WIDE
) -> Scene:
    """Draw ``tree_scene`` for what the controls say; in place of it, what went wrong."""
    try:
        root = grown(GROUPINGS[grouping], WORK[work], functions)
    except OwnPartError as error:
        return trouble_scene(_TITLE, str(error), width)
    return tree_scene(root, grouping, answers, width)


def grown(tree: Tree, work: Sequence[Sequence[int]], functions: Functions) -> Node:
    """Return the root of a tree of states.

    Args:
        tree: Which states are merged.
        work: The logical blocks of each worker.
        functions: What makes the states.

    Raises:
        OwnPartError: One of the functions failed.

    >>> root = grown(((0, 1), 2), [(0,), (1,), ()], Functions.of(None, None))
    >>> str(root.numbers), root.numbers == root.children[0].numbers
    ('m = 2, l = 2.878, acc = 94.972', True)
    """
    if isinstance(tree, int):
        return _worker(tree, work[tree], functions)
    first, second = (grown(each, work, functions) for each in tree)
    right = merged_rightly(first.state, second.state)
    state = functions.together(first.state, second.state)
    return Node(
        first.workers + second.workers,
        first.blocks + second.blocks,
        numbers_of(state),
        right,
        state,
        (first, second),
    )


def _worker(worker: int, work: Sequence[int], functions: Functions) -> Node:
    """Return the state of one worker over its blocks."""
    states = [functions.of_block(logical) for logical in work]
    state = states[0] if states else empty_state()
    for each in states[1:]:
        state = functions.together(state, each)
    numbers = numbers_of(state)
    blocks = tuple(BLOCK_TABLE[logical] for logical in work)
    return Node((worker,), blocks, numbers, numbers, state)


def tree_scene(
    root: Node, grouping: str, answers: Sequence[float] = (), width: float = WIDE
) -> Scene:
    """Draw a tree of states: the workers above, what they come to below.

    Args:
        root: The state over all keys.
        grouping: What the grouping is called.
        answers: The answers of other trees over the same keys.
        width: Width of the picture, in pixels: ``WIDE`` or ``NARROW``.
    """
    is_wide = width >= WIDE
    answer = shown(root.numbers.output)
    size = HEADING_SIZE if is_wide else TEXT_SIZE
    title = f"Four workers, merged as {grouping}, give {answer}"
    shapes: list[Shape] = [Text(MARGIN, 32, title, size, is_bold=True)]
    layout = _Layout(width, len(root.workers))
    for node in _nodes(root):
        shapes += _drawn(node, layout, is_root=node is root)
    lines = _words(root, answers)
    shapes += paragraphs(lines, bottom_of(shapes) + 14, width)
    shapes += legend(states_in(shapes), MARGIN, bottom_of(shapes) + 20, width - 2 * MARGIN, _NAMES)
    alt = f"{title}. {' '.join(lines)} {' '.join(_in_words(node) for node in _nodes(root))}"
    return Scene(width, bottom_of(shapes) + 14, tuple(shapes), title=_TITLE, alt=alt)


def _nodes(node: Node) -> list[Node]:
    """Return a node and all below it, the children first."""
    return [*(each for child in node.children for each in _nodes(child)), node]


@dataclass(frozen=True)
class _Layout:
    """Where nodes are."""

    width: float
    num_workers: int

    @property
    def is_wide(self) -> bool:
        return self.width >= WIDE

    @property
    def box(self) -> float:
        """Width of a node."""
        return self.step - (28 if self.is_wide else 6)

    @property
    def step(self) -> float:
        return (self.width - 2 * MARGIN + (28 if self.is_wide else 6)) / self.num_workers

    @property
    def height(self) -> float:
        return _HEAD + (3 if self.is_wide else 4) * _LINE + 8

    def top(self, node: Node) -> float:
        return _TOP + node.level * (self.height + _GAP)

    def middle(self, node: Node) -> float:
        if node.children:
            return sum(map(self.middle, node.children)) / len(node.children)
        return MARGIN + node.workers[0] * self.step + self.box / 2


def _drawn(node: Node, layout: _Layout, *, is_root: bool) -> list[Shape]:
    """Draw a node: whose it is, its numbers, and lines from the two that it was merged from."""
    left, top = layout.middle(node) - layout.box / 2, layout.top(node)
    state = "" if node.children else "used" if node.blocks else "idle"
    box = Rect(
        left,
        top,
        layout.box,
        layout.height,
        tooltip=f"{_name(node.workers)}: {'empty' if node.numbers.is_empty else node.numbers}",
        key=node.key,
        outline="bold" if is_root else "thin",
        of=("state", node.key),
        lights=tuple(("block", block_id) for block_id in node.blocks),
    )
    head = replace(
        box,
        height=_HEAD,
        state=state,
        label=fitting(layout.box + 6, *_heads(node, layout)),
        key=f"{node.key}-head",
        outline="thin" if state else "none",
    )
    return [*_edges(node, layout), box, head, *_numbers(node, layout, left, top)]


def _heads(node: Node, layout: _Layout) -> tuple[str, ...]:
    """Return wordings for the head of a node, the longest first."""
    if node.children:
        return _name(node.workers), f"{len(node.workers)} workers"
    number, blocks = node.workers[0] + 1, " ".join(map(str, node.blocks))
    work = f"{'block' if len(node.blocks) == 1 else 'blocks'} {blocks}" if blocks else "idle"
    shorter = f"{number}: {work}", f"{number}: {blocks}"
    return (f"worker {number}: {work}", *shorter) if layout.is_wide else shorter


def _name(workers: Sequence[int]) -> str:
    """Name workers, who are counted from 1."""
    numbers = [str(worker + 1) for worker in workers]
    if len(numbers) == 1:
        return f"worker {numbers[0]}"
    return f"workers {', '.join(numbers[:-1])} and {numbers[-1]}"


def _numbers(node: Node, layout: _Layout, left: float, top: float) -> list[Shape]:
    """Write m, l, acc and the output into a node."""
    m, total, acc = node.numbers.values()
    output = "none" if node.numbers.is_empty else shown(node.numbers.output)
    lines = [f"m {short(m)}", f"l {shown(total)}", f"acc {shown(acc)}", f"output {output}"]
    if layout.is_wide:
        lines[:2] = [f"m {short(m)}   l {shown(total)}"]
    shapes: list[Shape] = []
    for number, line in enumerate(lines):
        shapes.append(
            Text(
                left + 8,
                top + _HEAD + 18 + number * _LINE,
                fitting(layout.box, line, line.replace("output", "out")),
                SMALL_SIZE,
                tone="text" if node.is_right else "alert",
                key=f"{node.key}:{number}",
            )
        )
    return shapes


def _edges(node: Node, layout: _Layout) -> list[Shape]:
    """Draw the lines from the two states that were merged, and what their sums shrink by."""
    shapes: list[Shape] = []
    for side, child in zip((-1, 1), node.children, strict=False):
        x, bottom = layout.middle(child), layout.top(child) + layout.height
        end = layout.middle(node) + side * layout.box / 4, layout.top(node) - 3
        shrinks = factor(child.numbers.max_score, node.right.max_score)
        says = f"× {short(shrinks)}"
        thickness = 2.5 if shrinks == 1 else 1.5
        shapes += [
            Line(
                ((x, bottom), end),
                "text" if shrinks else "muted",
                thickness,
                has_arrow=True,
                is_dashed=not shrinks,
                key=f"{child.key}-edge",
                of=("state", child.key),
            ),
            Text(
                x + side * 10,
                bottom + 20,
                says,
                SMALL_SIZE,
                "start" if side > 0 else "end",
                key=f"{child.key}-factor",
            ),
        ]
    return shapes


def _words(root: Node, answers: Sequence[float]) -> list[str]:
    """Say how the answer compares, and what idle workers do."""
    dense, answer = dense_answer(), root.numbers.output
    verdict = "The root agrees" if is_close(answer, dense) else "The root does not agree"
    gap = gap_text(abs(answer - dense))
    lines = [
        f"{verdict} with dense attention, {shown(dense)}: the difference is {gap}. Beside each "
        "line stands what the sums are multiplied by before they are added."
    ]
    if answers:
        most = spread(answers)
        differ = f"differ by up to {gap_text(most)}" if most else "are the same to the last bit"
        lines.append(
            f"The answers of all {len(GROUPINGS)} groupings, with the blocks dealt out in all "
            f"{len(WORK)} ways, {differ}."
        )
    leaves = (node for node in _nodes(root) if not node.children)
    idle = [worker for node in leaves if not node.blocks for worker in node.workers]
    if idle:
        has = "has" if len(idle) == 1 else "have"
        lines.append(
            f"{_name(idle).capitalize()} {has} no block and {has} the empty state, m = −∞, l = 0, "
            f"acc = 0. {_of_empty(root)}"
        )
    wrong = [node for node in _nodes(root) if not node.is_right]
    if wrong:
        first = wrong[0]
        lines.append(
            f"merge_states is wrong at {_name(first.workers)}: it returned {first.numbers}, right "
            f"is {first.right}."
        )
    return lines


def _of_empty(root: Node) -> str:
    """Say what merging with an empty state does."""
    merged = [
        (node, first, second)
        for node in _nodes(root)
        if node.children
        for first, second in (node.children, node.children[::-1])
        if first.numbers.is_empty
    ]
    if all(node.numbers.agrees_with(second.numbers) for node, _, second in merged):
        return (
            "Merged with any other state, it leaves that one as it is: it is the neutral element."
        )
    return "Merged with another state it should leave that one as it is, and does not."


def _in_words(node: Node) -> str:
    """Say the numbers of a node."""
    if node.numbers.is_empty:
        return f"{_name(node.workers).capitalize()}: empty."
    return (
        f"{_name(node.workers).capitalize()}: {node.numbers}, output {shown(node.numbers.output)}."
    )
