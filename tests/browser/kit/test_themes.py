"""Figures on pages of other makers: their colours are taken where they are known."""

from __future__ import annotations

from typing import Any

import pytest

from browser_lab import FAINT_TEXTS, LEAST_CONTRAST
from course_lib.viz import Explorer, Slider, Toggle
from course_lib.viz.kit.page import front_end_state
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Rect, Text

pytestmark = pytest.mark.browser

LIGHT_LAB = "--jp-ui-font-color0: rgb(0, 0, 0); --jp-layout-color0: rgb(255, 255, 255);"
"""VS Code and Colab set these too, whatever their own theme."""

DARK_LAB = "--jp-ui-font-color0: rgb(255, 255, 255); --jp-layout-color0: rgb(17, 17, 17);"
DARK_CODE = (
    "--vscode-editor-foreground: rgb(212, 212, 212); --vscode-editor-background: rgb(30, 30, 30);"
)
LIGHT_CODE = (
    "--vscode-editor-foreground: rgb(59, 59, 59); --vscode-editor-background: rgb(255, 255, 255);"
)
HIGH_CONTRAST_CODE = (
    "--vscode-editor-foreground: rgb(255, 255, 255); --vscode-editor-background: rgb(0, 0, 0);"
)
DARK_COLAB = (
    "--colab-primary-text-color: rgb(210, 210, 210);--colab-primary-surface-color: rgb(56, 56, 56);"
)
UNKNOWN = "background: rgb(8, 8, 8); color: rgb(230, 230, 230);"

BLACK, WHITE = "rgb(0, 0, 0)", "rgb(255, 255, 255)"

HOSTS = [
    pytest.param("data-jp-theme-light", "true", LIGHT_LAB, [BLACK, WHITE, "light"], id="lab"),
    pytest.param(
        "data-jp-theme-light", "false", DARK_LAB, [WHITE, "rgb(17, 17, 17)", "dark"], id="dark lab"
    ),
    pytest.param(
        "class",
        "vscode-dark",
        LIGHT_LAB + DARK_CODE,
        ["rgb(212, 212, 212)", "rgb(30, 30, 30)", "dark"],
        id="VS Code",
    ),
    pytest.param(
        "class",
        "vscode-dark",
        DARK_CODE,
        ["rgb(212, 212, 212)", "rgb(30, 30, 30)", "dark"],
        id="VS Code without JupyterLab's variables",
    ),
    pytest.param(
        "class",
        "vscode-light",
        LIGHT_CODE,
        ["rgb(59, 59, 59)", WHITE, "light"],
        id="light VS Code without them",
    ),
    pytest.param(
        "class",
        "vscode-high-contrast",
        HIGH_CONTRAST_CODE,
        [WHITE, BLACK, "dark"],
        id="VS Code of high contrast without them",
    ),
    pytest.param(
        "theme",
        "dark",
        LIGHT_LAB + DARK_COLAB,
        ["rgb(210, 210, 210)", "rgb(56, 56, 56)", "dark"],
        id="Colab",
    ),
    pytest.param("class", "", UNKNOWN, [BLACK, WHITE, "light dark"], id="unknown"),
]


def moment(number: int, loud: bool) -> Scene:
    box = Rect(20, 20, 20 + 10 * number, 40, "free", "free", key="box")
    tone = "alert" if loud else "muted"
    return Scene(500, 100, (box, Text(20, 90, f"at {number}", tone=tone)), "A box", "A box")


@pytest.mark.parametrize(("name", "value", "style", "look"), HOSTS)
def test_a_figure_takes_the_pages_colours_and_can_be_read(
    kit: Any, name: str, value: str, style: str, look: list[str]
) -> None:
    controls = {"number": Slider("Number", 0, 9, 3), "loud": Toggle("Loud", value=True)}
    kit.open()
    kit.page.evaluate(
        "([name, value, style]) => { const { body } = document;"
        " body.setAttribute(name, value); body.style = style; }",
        [name, value, style],
    )
    kit.mount(front_end_state(Explorer(moment, controls).get_state()))
    kit.page.get_by_text("at 3").wait_for()
    found = kit.page.locator(".scene-root").evaluate(
        "(root) => { const { color, backgroundColor, colorScheme } = getComputedStyle(root);"
        " return [color, backgroundColor, colorScheme]; }"
    )
    assert found == look
    assert kit.page.evaluate(FAINT_TEXTS, LEAST_CONTRAST) == []
