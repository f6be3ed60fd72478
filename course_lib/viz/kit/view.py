"""What every figure in the notebook shares: the browser's drawing and its static twin."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from course_lib.viz.kit import static
from course_lib.viz.kit.scene import Scene

_HERE = Path(__file__).parent


def with_static_twin(bundle: Any, twin: static.StaticFigure) -> Any:
    """Return a widget's MIME bundle with a PNG beside the widget.

    JupyterLab shows the widget. GitHub, print, and an HTML page without saved widget state show the
    PNG.

    Args:
        bundle: What the widget's own ``_repr_mimebundle_`` returned: data, data and metadata, or
            None where it does not show itself.
        twin: The picture to add.
    """
    if bundle is None:
        return None
    data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
    return {**data, "image/png": b64encode(static.png(twin)).decode("ascii")}, metadata


class SceneView(anywidget.AnyWidget):
    """Draws frames in the browser; where there is more than one, with buttons to step through.

    Attributes:
        frames: ``{"scene": Scene.to_dict(), "caption": str}`` for each frame.
        index: The frame to show at first; setting it moves every open view there. Stepping in the
            browser does not change it here.
        message: When not empty, shown in place of the picture.
        interval: Milliseconds per frame while playing.
    """

    _esm = _HERE / "js" / "scene.js"
    _css = _HERE / "js" / "scene.css"

    frames = traitlets.List(traitlets.Dict()).tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)
    message = traitlets.Unicode("").tag(sync=True)
    interval = traitlets.Int(900).tag(sync=True)


class Picture(SceneView):
    """One scene, which can be replaced by another or by a message."""

    def __init__(self, scene: Scene, narrow: Scene | None = None) -> None:
        super().__init__()
        self.show(scene, narrow)

    def show(self, scene: Scene, narrow: Scene | None = None) -> None:
        """Draw ``scene``; boxes with the same keys glide from where they were."""
        self._scene = scene
        with self.hold_sync():
            self.frames = [{"scene": scene.to_dict(), "caption": ""}]
            self.message = ""

    def static(self) -> static.StaticFigure:
        """Return the scene drawn with matplotlib."""
        return static.figure(self._scene)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return with_static_twin(super()._repr_mimebundle_(**kwargs), self.static())
