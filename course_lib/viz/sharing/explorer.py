"""A tree of prompts over the blocks of a pool, and how far one more prompt follows it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from course_lib import parts
from course_lib.kv_cache.manager import PlainRequest
from course_lib.kv_cache.watch.notation import StateLine
from course_lib.viz.kit.controls import Choice, Slider
from course_lib.viz.kit.explorer import Explorer
from course_lib.viz.kit.layout import WIDE, bottom_of, legend, text_width, wrapped
from course_lib.viz.kit.palette import PALETTE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import (
    HEADING_SIZE,
    SMALL_SIZE,
    TEXT_SIZE,
    Group,
    Shape,
    Text,
    Thing,
    states_in,
)
from course_lib.viz.kit.words import counted
from course_lib.viz.pool.layout import MARGIN
from course_lib.viz.sharing.prompts import (
    BLOCK_SIZE,
    PROMPTS,
    Lookup,
    MakeManager,
    Prompts,
    block_of,
    look_up,
    num_blocks_of,
)
from course_lib.viz.sharing.tree import Columns, Tile, Tree, edge
from course_lib.viz.sharing.trouble import error_in_words, trouble_of
from course_lib.viz.sharing.words import complaints, headline, listed, reasons

_TITLE = "A tree of prompts over shared blocks"
_MOST_PROMPTS, _MOST_BLOCKS, _LONGEST_NAME, _MOST_TOKEN = 5, 4, 3, 999
_NEW_TOKEN = 91
"""Tokens behind the end of the prompt that a further one begins like count up from here."""

_MADE_BEFORE = (4, 8, 9, 14)
"""Lengths whose pictures a page without a kernel has."""

_CHANGED = 99
_CHANGES = {
    "none": "none",
    "the first token": "first",
    "the sixth token": "sixth",
    "the last token": "last",
    "the first token, by 256": "256",
    "the first block is left out": "block",
}
_NAMES = {"prefill": "computed for the further prompt"}


def prefix_tree(prompts: Prompts | None = None, manager: MakeManager | None = None) -> Explorer:
    """Return a figure of prompts over shared blocks, in which the reader sends one more.

    Blocks have 4 tokens. The prompts are taken in one after the other, and the last of them ends;
    then comes the further one: the reader chooses whose beginning it has, how long it is, which
    token is another one, and whether it has a salt. The picture shows its blocks with their
    hashes, which of them are found, and the tree with its counts, read off the manager's own state.
    Some pictures are made when the figure is; for the others it asks the kernel.

    Args:
        prompts: Token ids by name; at most 5 prompts of at most 16 tokens. By default three that
            part after two blocks, and after one.
        manager: Makes the manager from a number of blocks and the block size: a class, or a
            function. What it does wrong stands in the picture in words. By default the library's,
            with the learner's own parts where there are any.

    Raises:
        ValueError: The prompts do not fit into the picture.

    >>> figure = prefix_tree()
    >>> figure.set(like="A", length=8)
    >>> figure.scene.alt.partition(". ")[0]
    'D follows the chain for 1 block: 4 tokens are shared, 4 computed'
    """
    prompts = PROMPTS if prompts is None else prompts
    _require_room(prompts)
    longest = BLOCK_SIZE * max(num_blocks_of(len(tokens)) for tokens in prompts.values())
    names = {name: name for name in prompts}
    figure = Explorer(
        partial(_example_scene, prompts, manager or parts.rewired(parts.get("KVCacheManager"))),
        {
            "like": Choice("Begins like", names, next(iter(names))),
            "length": Slider("Length", 1, longest, min(14, longest), unit="tokens"),
            "changed": Choice("Changed", _CHANGES, "none"),
            "salt": Choice("Salt", {"none": "", "x": "x"}, ""),
        },
        precompute={
            "length": [each for each in _MADE_BEFORE if each <= longest],
            "changed": ["none", "first", "block"],
        },
    )

    def choose(thing: Thing) -> None:
        kind, name = thing
        if kind == "request" and name in prompts:
            figure.set(like=name)

    figure.on_pick(choose)
    return figure


def _require_room(prompts: Prompts) -> None:
    """Raise ValueError for prompts that the picture has no room for."""
    if not 1 <= len(prompts) <= _MOST_PROMPTS:
        raise ValueError(f"{len(prompts)} prompts; the tree has room for 1 to {_MOST_PROMPTS}")
    most = _MOST_BLOCKS * BLOCK_SIZE
    for name, tokens in prompts.items():
        if not 1 <= len(tokens) <= most:
            raise ValueError(f"prompt {name!r} has {len(tokens)} tokens; take 1 to {most}")
        if not 1 <= len(name) <= _LONGEST_NAME:
            raise ValueError(f"a prompt is called {name!r}; take 1 to {_LONGEST_NAME} letters")
        wrong = next((each for each in tokens if not 0 <= each <= _MOST_TOKEN), None)
        if wrong is not None:
            raise ValueError(f"prompt {name!r} has token {wrong}; take 0 to {_MOST_TOKEN}")


def further_prompt(
    prompts: Prompts, like: str, length: int, changed: str, salt: str = ""
) -> PlainRequest:
    """Return the request that the controls describe; its name is the next letter that is free.

    Args:
        prompts: The prompts in front of it.
        like: Whose beginning it has.
        length: How many tokens.
        changed: Which token is another one: "none", "first", "sixth" or "last"; "256" if the first
            one is raised by 256, so that its lowest byte stays; "block" if the first block is
            missing.
        salt: Its salt; empty for none.

    >>> further_prompt(PROMPTS, "C", 10, "first").all_token_ids
    [99, 2, 3, 4, 31, 32, 33, 34, 35, 91]
    """
    start = BLOCK_SIZE if changed == "block" else 0
    tokens = list(prompts[like][start : start + length])
    tokens += range(_NEW_TOKEN, _NEW_TOKEN + length - len(tokens))
    if changed == "256":
        tokens[0] += 256
    elif changed in ("first", "sixth", "last"):
        place = {"first": 0, "sixth": 5, "last": length - 1}[changed]
        if place < length:
            tokens[place] = _CHANGED
    name = next(letter for letter in "DEFGHIJKLM" if letter not in prompts)
    return PlainRequest(name, tokens, cache_salt=salt or None)


def _example_scene(
    prompts: Prompts,
    make: MakeManager,
    like: str,
    length: int,
    changed: str,
    salt: str,
    width: float = WIDE,
) -> Scene:
    """Draw ``lookup_scene`` for what the controls say; in place of it, what went wrong."""
    further = further_prompt(prompts, like, length, changed, salt)
    tokens = " ".join(map(str, further.all_token_ids))
    step = f"{further.request_id} comes with {tokens}"
    try:
        found = look_up(prompts, further, make)
    except Exception as error:
        # Whatever a learner's manager raises is what the figure has to tell.
        return trouble_of(_TITLE, step, error_in_words(error), width)
    return lookup_scene(found, width)


def lookup_scene(found: Lookup, width: float = WIDE) -> Scene:
    """Draw what came of one more prompt: its blocks, the tree, and why it comes no further.

    Args:
        found: What came of it.
        width: Width of the picture, in pixels: ``WIDE`` or ``NARROW``.

    >>> found = look_up(PROMPTS, PlainRequest("D", [1, 2, 3, 4, 9]))
    >>> lookup_scene(found).title
    'A tree of prompts over shared blocks'
    """
    inner = width - 2 * MARGIN
    lengths = [len(tokens) for tokens in found.prompts.values()] + [found.further.num_tokens]
    columns = Columns.of(num_blocks_of(max(lengths)), MARGIN, inner)
    says = headline(found)
    size = HEADING_SIZE if width >= WIDE else TEXT_SIZE
    shapes: list[Shape] = [
        Text(MARGIN, 32 + 26 * number, line, size, is_bold=True)
        for number, line in enumerate(wrapped(says, inner * 0.94, size))
    ]
    shapes += _further_row(found, columns, bottom_of(shapes) + 8)
    shapes += _tree(found, columns, bottom_of(shapes) + 12, inner)
    shapes += legend(states_in(shapes), MARGIN, bottom_of(shapes) + 12, inner, _NAMES)
    lines = [(line, True) for line in complaints(found)]
    lines += [(line, False) for line in reasons(found)]
    for line, is_wrong in lines:
        shapes += _paragraph(line, bottom_of(shapes) + 5, inner, is_wrong)
    state = StateLine.of_frame(found.record)
    alt = f"{says}. {' '.join(line for line, _ in lines)} State: {state}."
    return Scene(width, bottom_of(shapes) + 16, tuple(shapes), title=_TITLE, alt=alt)


def _paragraph(line: str, top: float, inner: float, is_wrong: bool) -> list[Shape]:
    """Write a sentence in as many lines as it takes."""
    return [
        Text(
            MARGIN,
            top + 15 + 22 * number,
            text,
            SMALL_SIZE,
            tone="alert" if is_wrong else "text",
            is_bold=is_wrong,
        )
        for number, text in enumerate(wrapped(line, inner * (0.9 if is_wrong else 1), SMALL_SIZE))
    ]


def _heading(y: float, title: str, inner: float, remark: str) -> list[Shape]:
    """Write a title, and a remark beside it, or below it where there is no room."""
    shapes: list[Shape] = [Text(MARGIN, y + 16, title, is_bold=True)]
    if text_width(title) + text_width(remark, SMALL_SIZE) < 0.95 * inner:
        return [*shapes, Text(MARGIN + inner, y + 16, remark, SMALL_SIZE, "end", tone="muted")]
    return [*shapes, Text(MARGIN, y + 38, remark, SMALL_SIZE, tone="muted")]


def _further_row(found: Lookup, columns: Columns, top: float) -> list[Shape]:
    """Draw the blocks of the further prompt, in the columns of the tree."""
    request = found.further
    name = request.request_id
    salt = f", salt {request.cache_salt!r}" if request.cache_salt else ""
    title = f"{name}: {counted(request.num_tokens, 'token')}{salt}"
    shapes: list[Shape] = [Text(MARGIN, top + 16, title, is_bold=True)]
    for number, block_id in enumerate(found.blocks):
        is_hit = number < found.num_hits
        said = found.hash_of(block_id)
        tokens = block_of(request.all_token_ids, number)
        tile = Tile(
            (f"found: block {block_id}", f"found: {block_id}") if is_hit else ("computed",),
            tokens,
            "shared" if is_hit else "prefill",
            left=f"#{said}" if said else "",
            right=() if said else ("not full: no hash", "no hash"),
            tooltip=f"{name}'s tokens {_numbers(number, tokens)}: {' '.join(map(str, tokens))}\n"
            + (f"found in block {block_id}" if is_hit else f"computed, into block {block_id}"),
        )
        corner = columns.place(number, 0, top + 26)
        shapes.append(tile.draw(columns, corner, f"further-{number}", ("block", block_id)))
    return shapes


def _numbers(number: int, tokens: Sequence[int]) -> str:
    """Say which tokens of a prompt stand in one of its blocks, from 1."""
    first = number * BLOCK_SIZE + 1
    last = first + len(tokens) - 1
    return f"{first} to {last}" if last > first else str(first)


def _tree(found: Lookup, columns: Columns, top: float, inner: float) -> list[Shape]:
    """Draw the blocks as a tree; the further prompt's way through it is bold."""
    tree = Tree.of([chain for chain in found.chains.values() if chain])
    ended = f"; {found.ended} has ended" if found.ended else ""
    remark = f"in brackets how many hold it, below right who{ended}"
    shapes = _heading(top, "Blocks, by what they hold", inner, remark)
    top = bottom_of(shapes) + 8
    own = list(found.blocks)
    way = set(pairwise(own))
    for start, end in tree.edges:
        if tree.places[start][0] < tree.places[end][0]:
            key = f"edge-{start}-{end}"
            ends = tree.places[start], tree.places[end]
            shapes.append(edge(columns, *ends, top, key, is_bold=(start, end) in way))
    for block_id, (column, row) in tree.places.items():
        shapes.append(_block(found, block_id, columns, columns.place(column, row, top)))
    # The tree keeps its height, so that nothing below it jumps.
    rows = len(found.chains)
    shapes.append(Text(MARGIN, top + (rows - 1) * columns.row + columns.tile_height, ""))
    return shapes


def _block(found: Lookup, block_id: int, columns: Columns, corner: tuple[float, float]) -> Group:
    """Draw one block of the tree."""
    block = found.record["blocks"][block_id]
    holders, said = block["owners"], found.hash_of(block_id)
    tokens = found.tokens_in(block_id)
    count = f" ({block['ref_cnt']})" if block["ref_cnt"] > 1 else ""
    held = f"held by {listed(holders)}" if holders else "held by nobody"
    tile = Tile(
        (f"block {block_id}{count}", f"{block_id}{count}"),
        tokens,
        block["state"],
        left=f"#{said}" if said else "",
        right=(" ".join(holders), f"{len(holders)}") if holders else ("nobody", "–"),
        tooltip=f"block {block_id}: {PALETTE[block['state']].label}, {held}\n"
        f"tokens {' '.join(map(str, tokens))}, "
        + (f"hash {block['hash']}" if said else "not full: no hash"),
        outline="bold" if block_id in found.blocks else "thin",
    )
    lights: tuple[Thing, ...] = tuple(("request", owner) for owner in holders)
    return tile.draw(columns, corner, f"block-{block_id}", ("block", block_id), lights)
