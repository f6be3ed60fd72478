"""Scenes drawn with matplotlib: for print, for HTML pages, and wherever no widget can run."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch, Polygon
from matplotlib.path import Path
from matplotlib.patheffects import withStroke

from course_lib.viz.kit.collector import collector_paused
from course_lib.viz.kit.layout import text_width
from course_lib.viz.kit.page import image_html
from course_lib.viz.kit.palette import PALETTE, TONES, State
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Area, Cells, Line, Rect, Text, flatten

_PIXELS_PER_INCH = 100
_POINTS_PER_PIXEL = 72 / _PIXELS_PER_INCH
_CAPTION_SIZE, _CAPTION_INDENT = 17, 24
_ALIGNMENT = {"start": "left", "middle": "center", "end": "right"}
_DASHED = (7, 5)
_SMALLEST_HATCHED = 16  # pixels; in a smaller shape a hatch is a blot
_THICKNESS = {"thin": 0.8, "bold": 2.8, "dashed": 1.0, "none": 0.0}


_QUARTER_CIRCLE = 0.5523  # how far a cubic's control points reach so that it looks like a circle


class StaticFigure(Figure):
    """A matplotlib figure that shows itself in a notebook without pyplot and its global state.

    Attributes:
        description: What it shows, for whoever cannot see it.
    """

    description = ""

    def _repr_png_(self) -> bytes:
        return png(self)

    def _repr_html_(self) -> str:
        return image_html(png(self), self.description)


def figure(scene: Scene) -> StaticFigure:
    """Return the scene as a figure of the same proportions, 100 pixels to the inch."""
    return contact_sheet([scene], [""], columns=1)


@collector_paused()
def contact_sheet(
    scenes: Sequence[Scene], captions: Sequence[str], columns: int = 2
) -> StaticFigure:
    """Return several scenes on one figure, row by row, each under its caption.

    Args:
        scenes: The pictures; the largest sets the size of the cells.
        captions: One line for each; an empty one takes no room.
        columns: Pictures in a row.

    Raises:
        ValueError: There is no scene, or not one caption for each.
    """
    if not scenes or len(scenes) != len(captions):
        raise ValueError(f"{len(scenes)} scenes and {len(captions)} captions; need one each")
    columns = min(columns, len(scenes))
    rows = -(-len(scenes) // columns)
    width = max(scene.width for scene in scenes)
    letters = max(1, int((width - 2 * _CAPTION_INDENT) / (0.54 * _CAPTION_SIZE)))
    wrapped = [textwrap.fill(caption, width=letters) for caption in captions]
    caption_height = max(26 * (text.count("\n") + 1) if text else 0 for text in wrapped)
    gap = 20 if len(scenes) > 1 else 0
    height = max(scene.height for scene in scenes) + caption_height
    total_width, total_height = columns * (width + gap) - gap, rows * (height + gap) - gap
    sheet = StaticFigure(
        figsize=(total_width / _PIXELS_PER_INCH, total_height / _PIXELS_PER_INCH),
        dpi=_PIXELS_PER_INCH,
    )
    # A caption says what happens in its picture; a picture without one speaks for itself.
    said = [caption or scene.alt for scene, caption in zip(scenes, captions, strict=True)]
    sheet.description = " ".join([f"{scenes[0].title}.", *said])
    for number, (scene, caption) in enumerate(zip(scenes, wrapped, strict=True)):
        row, column = divmod(number, columns)
        left = column * (width + gap)
        top = total_height - row * (height + gap)
        axes = sheet.add_axes(
            (
                left / total_width,
                (top - caption_height - scene.height) / total_height,
                scene.width / total_width,
                scene.height / total_height,
            )
        )
        draw(scene, axes)
        sheet.text(
            (left + _CAPTION_INDENT) / total_width,
            (top - 4) / total_height,
            caption,
            fontsize=_CAPTION_SIZE * _POINTS_PER_PIXEL,
            verticalalignment="top",
        )
    return sheet


@collector_paused()
def png(drawing: Figure) -> bytes:
    """Return the figure as a PNG file."""
    buffer = BytesIO()
    drawing.savefig(buffer, format="png", facecolor="white")
    return buffer.getvalue()


def draw(scene: Scene, axes: Axes) -> None:
    """Draw the scene into the axes, whose units become the scene's pixels."""
    axes.set_xlim(0, scene.width)
    axes.set_ylim(scene.height, 0)
    axes.set_axis_off()
    for layer, shape in enumerate(flatten(scene.shapes)):
        if isinstance(shape, Rect):
            _draw_rect(shape, axes, layer)
        elif isinstance(shape, Text):
            _draw_text(shape, axes, layer)
        elif isinstance(shape, Area):
            _draw_area(shape, axes, layer)
        elif isinstance(shape, Cells):
            _draw_cells(shape, axes, layer)
        else:
            _draw_line(shape, axes, layer)


def _draw_rect(rect: Rect, axes: Axes, layer: int) -> None:
    patch = _outline_of(rect)
    patch.set_zorder(layer)
    patch.set_linewidth(_THICKNESS[rect.outline])
    patch.set_edgecolor(TONES["text" if rect.state or rect.outline == "bold" else "muted"])
    patch.set_linestyle("dashed" if rect.outline == "dashed" else "solid")
    patch.set_facecolor("none")
    if rect.state:
        _fill(patch, PALETTE[rect.state], max(rect.width, rect.height))
    axes.add_artist(patch)
    if rect.label:
        _draw_label(rect, axes, layer)


def _draw_label(rect: Rect, axes: Axes, layer: int) -> None:
    state = PALETTE.get(rect.state)
    label = axes.text(
        rect.x + rect.width / 2,
        rect.y + rect.height / 2,
        rect.label,
        fontsize=rect.label_size * _POINTS_PER_PIXEL,
        fontweight="bold",
        color=state.ink if state else TONES["text"],
        horizontalalignment="center",
        verticalalignment="center_baseline",
        parse_math=False,
        zorder=layer,
    )
    if state is None or state.hatch or text_width(rect.label, rect.label_size) > rect.width:
        # Over an even ground of its own it would not be seen, and takes time for each letter.
        halo = state.colour if state else "#FFFFFF"
        label.set_path_effects([withStroke(linewidth=4, foreground=halo)])


def _outline_of(rect: Rect) -> Patch:
    """Return the box as a patch: straight edges, joined by quarter circles if it has a radius."""
    left, top, right, bottom = rect.x, rect.y, rect.x + rect.width, rect.y + rect.height
    if not rect.radius:
        # matplotlib's own Rectangle works out its transformation each time that it is asked for.
        corners = (left, top), (right, top), (right, bottom), (left, bottom), (left, top)
        return PathPatch(Path(corners, closed=True))
    vertices: list[tuple[float, float]] = []
    for (x, y), (from_x, from_y), (to_x, to_y) in (  # a corner, where its curve begins and ends
        ((left, top), (0, 1), (1, 0)),
        ((right, top), (-1, 0), (0, 1)),
        ((right, bottom), (0, -1), (-1, 0)),
        ((left, bottom), (1, 0), (0, -1)),
    ):
        far, near = rect.radius, rect.radius * (1 - _QUARTER_CIRCLE)
        vertices += [
            (x + far * from_x, y + far * from_y),
            (x + near * from_x, y + near * from_y),
            (x + near * to_x, y + near * to_y),
            (x + far * to_x, y + far * to_y),
        ]
    curve = [Path.CURVE4] * 3
    codes = [Path.MOVETO, *curve, *[Path.LINETO, *curve] * 3, Path.CLOSEPOLY]
    return PathPatch(Path([*vertices, vertices[0]], codes))


def _draw_text(text: Text, axes: Axes, layer: int) -> None:
    axes.text(
        text.x,
        text.y,
        text.text,
        fontsize=text.size * _POINTS_PER_PIXEL,
        fontweight="bold" if text.is_bold else "normal",
        color=TONES[text.tone],
        horizontalalignment=_ALIGNMENT[text.anchor],
        verticalalignment="baseline",
        parse_math=False,
        zorder=layer,
    )


def _draw_area(area: Area, axes: Axes, layer: int) -> None:
    patch = Polygon(area.points, closed=True, linewidth=0, zorder=layer)
    xs, ys = zip(*area.points, strict=True)
    _fill(patch, PALETTE[area.state], max(max(xs) - min(xs), max(ys) - min(ys)))
    axes.add_patch(patch)


def _draw_cells(cells: Cells, axes: Axes, layer: int) -> None:
    """Draw the cells of one state together: a patch for each would take a second for 8,192."""
    side = cells.size - cells.gap
    corners: dict[str, list[list[tuple[float, float]]]] = {}
    for number, state in enumerate(cells.states):
        row, column = divmod(number, cells.columns)
        x, y = cells.x + column * cells.size, cells.y + row * cells.size
        corners.setdefault(state, []).append(
            [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]
        )
    for state, squares in corners.items():
        squares_of_state = PolyCollection(squares, linewidth=0.3, zorder=layer)
        squares_of_state.set_edgecolor(TONES["muted"])
        _fill(squares_of_state, PALETTE[state], side)
        axes.add_collection(squares_of_state, autolim=False)


def _fill(drawn: Patch | PolyCollection, state: State, extent: float) -> None:
    """Give colour and hatch of a state to what is drawn; the hatch only where it can be seen."""
    drawn.set_facecolor(state.colour)
    if extent >= _SMALLEST_HATCHED:
        drawn.set_hatch(2 * state.hatch)
        drawn.set_hatchcolor(to_rgba(state.ink, 0.4))


def _draw_line(line: Line, axes: Axes, layer: int) -> None:
    state = PALETTE.get(line.state)
    colour = state.colour if state else TONES[line.tone]
    dash = state.dash if state else _DASHED if line.is_dashed else ()
    lengths = tuple(length / line.thickness for length in dash)  # matplotlib counts in line widths
    axes.plot(
        [x for x, _ in line.points],
        [y for _, y in line.points],
        color=colour,
        linewidth=line.thickness * _POINTS_PER_PIXEL,
        linestyle=(0, lengths) if lengths else "solid",
        solid_capstyle="butt",
        scalex=False,
        scaley=False,
        zorder=layer,
    )
    if line.head:
        axes.add_patch(Polygon(line.head, closed=True, color=colour, zorder=layer))
