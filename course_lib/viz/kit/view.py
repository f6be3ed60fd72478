"""The one widget that draws every figure, and the static twin that travels with it."""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from course_lib.viz.kit import bundle, static
from course_lib.viz.kit.page import FrontEnd, image_html, page_html, widget_html
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Thing

_ENTRY = "figure.js"

_IN_COLAB = (
    "<p>This picture stands for a figure that moves. If Colab shows no more than this, run "
    "<code>from google.colab import output; output.enable_custom_widget_manager()</code>, and then "
    "this cell again.</p>"
)


def with_static_twin(mime_bundle: Any, twin: bytes, description: str) -> Any:
    """Return a widget's MIME bundle with a picture beside the widget.

    JupyterLab shows the widget. GitHub, print, and an HTML page without saved widget state show the
    picture: the HTML with its description, which a PNG alone has no place for.

    Args:
        mime_bundle: What the widget's own ``_repr_mimebundle_`` returned: data, data and metadata,
            or None where it does not show itself.
        twin: The picture to add, a PNG file.
        description: What it shows, in words.
    """
    if mime_bundle is None:
        return None
    data, metadata = mime_bundle if isinstance(mime_bundle, tuple) else (mime_bundle, {})
    note = _IN_COLAB if "google.colab" in sys.modules else ""
    picture = {
        "text/plain": description,
        "text/html": image_html(twin, description) + note,
        "image/png": b64encode(twin).decode("ascii"),
    }
    return {**data, **picture}, metadata


class Figure(anywidget.AnyWidget):
    """Draws pictures in the browser: one, those of a film, or what its controls ask for.

    Everything that is shown comes from these traits, so a page without a kernel shows it too.

    Attributes:
        frames: The first pictures as they are, so that something is there at once: for each one
            ``scene`` (``Scene.to_dict()``), ``caption``, ``event``, and ``narrow``, the scene for
            narrow pages, where there is one. An explorer has one of the two only for a moment.
        chunks: All pictures, the first ones included, as ``encoding`` packs them; empty where
            ``frames`` has all.
        count: How many pictures there are.
        marks: Position and name of every event.
        runs: First position and length of stretches in which nothing happens; play passes over
            them.
        longest: The longest caption, for which room is kept.
        index: The picture to show at first; setting it moves every open view there. Stepping in the
            browser does not change it here.
        message: When not empty, shown in place of the picture.
        keeps: Whether the last picture stays below the message, dimmed.
        interval: Milliseconds per picture while playing.
        controls: The controls, as ``explorer`` describes them.
        values: What they say.
        grid: Answers that were computed before they are asked for.
        label: Name of the figure for those who do not see it; empty for the title of its picture.
        link: Films with the same name here move together; empty for none.
        picks: Whether a choice of the reader means something.
    """

    _esm = bundle.script(_ENTRY)
    _css = bundle.styles(_ENTRY)

    frames = traitlets.List(traitlets.Dict()).tag(sync=True)
    chunks = traitlets.List(traitlets.Bytes()).tag(sync=True)
    count = traitlets.Int(1).tag(sync=True)
    marks: Any = traitlets.List().tag(sync=True)
    runs: Any = traitlets.List().tag(sync=True)
    longest = traitlets.Unicode("").tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)
    message = traitlets.Unicode("").tag(sync=True)
    keeps = traitlets.Bool(False).tag(sync=True)
    interval = traitlets.Int(900).tag(sync=True)
    controls = traitlets.List(traitlets.Dict()).tag(sync=True)
    values = traitlets.Dict().tag(sync=True, echo_update=False)
    grid = traitlets.Dict().tag(sync=True)
    label = traitlets.Unicode("").tag(sync=True)
    link = traitlets.Unicode("").tag(sync=True)
    picks = traitlets.Bool(False).tag(sync=True)

    def on_pick(self, callback: Callable[[Thing], None]) -> None:
        """Have a function called with the thing that a reader chooses: ``("block", 7)``.

        Args:
            callback: Called for every choice, by click, Enter or Space.
        """

        def receive(_figure: Any, content: Any, _buffers: Any) -> None:
            if isinstance(content, dict) and "pick" in content:
                kind, name = content["pick"]
                callback((kind, name))

        self.on_msg(receive)
        self.picks = True

    @property
    def name(self) -> str:
        """What the figure is called: its label, or the title of its picture."""
        return self.label or str(self._first_scene["title"])

    @property
    def description(self) -> str:
        """What the figure shows, for whoever cannot see it."""
        text = f"{self.name}. {self._first_scene['alt']}"
        return text if self.count == 1 else f"{text} The first of {self.count:,} pictures."

    @property
    def _first_scene(self) -> dict[str, Any]:
        """The first picture, in a form that is there; title and description are those of any."""
        first = self.frames[0]
        scene: dict[str, Any] = first["scene"] if "scene" in first else first["narrow"]
        return scene

    def static(self) -> static.StaticFigure:
        """Return what the figure shows, drawn with matplotlib."""
        raise NotImplementedError

    def to_html(self, path: str | Path | None = None) -> str:
        """Return a page that shows the figure without a kernel and without a network.

        Args:
            path: Where to write the page too.
        """
        return self._page(path)

    @property
    def front_end(self) -> FrontEnd:
        """What draws the figure in a page."""
        return FrontEnd(str(self._esm), str(self._css))

    def to_widget(self, front_end: int, **traits: Any) -> str:
        """Return the figure's place in a page, see ``page.document_html``.

        Args:
            front_end: Which of the page's front ends draws it.
            traits: Others than it has now.
        """
        picture = image_html(static.png(self.static()), self.description)
        return widget_html({**self.get_state(), **traits}, front_end, picture)

    def _page(self, path: str | Path | None, **traits: Any) -> str:
        """Return the page, and write it if a path is given; ``traits`` are others in the page."""
        page = page_html(self.name, self.to_widget(0, **traits), self.front_end)
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        mime_bundle = super()._repr_mimebundle_(**kwargs)
        return with_static_twin(mime_bundle, static.png(self.static()), self.description)


class Picture(Figure):
    """One scene, which can be replaced by another or by a message.

    Args:
        scene: What to draw.
        narrow: The same for narrow pages; None to draw ``scene`` there too.
    """

    def __init__(self, scene: Scene, narrow: Scene | None = None) -> None:
        super().__init__()
        self.show(scene, narrow)

    def show(self, scene: Scene, narrow: Scene | None = None) -> None:
        """Draw ``scene``; boxes with the same keys glide from where they were."""
        self._scene = scene
        with self.hold_sync():
            self.frames = [frame_values(scene, narrow)]
            self.message = ""

    def static(self) -> static.StaticFigure:
        """Return the scene drawn with matplotlib."""
        return static.figure(self._scene)


def frame_values(
    scene: Scene | None, narrow: Scene | None = None, caption: str = "", event: str = ""
) -> dict[str, Any]:
    """Return one picture as JSON values, as ``Figure.frames`` has them, in the forms given.

    >>> sorted(frame_values(Scene(9, 9, (), "A title", "Words"), caption="Now"))
    ['caption', 'event', 'scene']
    """
    forms = {"scene": scene, "narrow": narrow}
    given = {name: form.to_dict() for name, form in forms.items() if form is not None}
    return {**given, "caption": caption, "event": event}
