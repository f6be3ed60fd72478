"""Notebooks as HTML pages whose widgets work without a kernel and without a network.

nbconvert's own pages fetch the code of widgets from the network and run it beside a manager of
widgets that asks nobody: a slider moves, and the picture does not. Where the notebook has saved the
state of a widget, nbconvert leaves out all that stands beside the widget, so a reader without a
network sees nothing, and no output of a figure could change that. ``jupyter_config.json`` therefore
has ``SelfContainedWidgets`` take part in every HTML page. It is installed with the course where
Jupyter's programs look for settings, and ``course lab`` has a copy.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode

from course_lib.viz.kit.page import FrontEnd, scripts_html, widget_html

_VIEW = "application/vnd.jupyter.widget-view+json"
_STATE = "application/vnd.jupyter.widget-state+json"


class SelfContainedWidgets(Preprocessor):
    """Puts the widgets that anywidget draws, figures and quizzes, into the page as they are.

    It needs the notebook's saved widget state. A figure without one stays what it is in the
    notebook: a picture with its description.

    >>> from course_lib.viz.kit.exported_notebook import SelfContainedWidgets
    >>> notebook = NotebookNode(cells=[], metadata={})
    >>> SelfContainedWidgets()(notebook, {})[0].cells
    []
    """

    enabled = True

    def preprocess(
        self, nb: NotebookNode, resources: dict[str, Any]
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Replace the outputs of a notebook that show such widgets.

        Args:
            nb: The notebook; it is changed.
            resources: What nbconvert hands from step to step.
        """
        models = nb.metadata.get("widgets", {}).get(_STATE, {}).get("state", {})
        shown = [
            (output, models[output["data"][_VIEW]["model_id"]])
            for cell in nb.cells
            for output in cell.get("outputs", [])
            if output.get("data", {}).get(_VIEW, {}).get("model_id") in models
        ]
        own = [(output, model) for output, model in shown if "_esm" in model["state"]]
        front_ends: list[FrontEnd] = []
        for output, model in own:
            _replace(output, model, front_ends)
        if own:
            last, _ = own[-1]
            last.data["text/html"] += scripts_html(front_ends)
        if len(own) == len(shown):
            nb.metadata.pop("widgets", None)  # else the page asks the network for a manager
        return nb, resources


def _replace(output: NotebookNode, model: Mapping[str, Any], front_ends: list[FrontEnd]) -> None:
    """Put a widget in the place of an output; take note of its front end if it is a new one."""
    front_end = FrontEnd(model["state"]["_esm"], model["state"].get("_css", ""))
    if front_end not in front_ends:
        front_ends.append(front_end)
    fallback = output.data.get("text/html", "")
    html = widget_html(_with_buffers(model), front_ends.index(front_end), fallback)
    output.data = NotebookNode({"text/html": html})


def _with_buffers(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a saved state with its bytes, which are saved beside it, where they belong."""
    state: dict[str, Any] = _copied(model["state"])
    for buffer in model.get("buffers", []):
        *path, last = buffer["path"]
        place: Any = state
        for step in path:
            place = place[step]
        place[last] = b64decode(buffer["data"])
    return state


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copied(each) for name, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value
