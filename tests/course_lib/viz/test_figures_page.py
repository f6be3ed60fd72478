"""The authors' guide to figures: its examples run, can be read in both forms, and name it all."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from course_lib.viz.kit import charts
from course_lib.viz.kit.charts.chart import Chart
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.palette import PALETTE
from course_lib.viz.kit.scene import Scene

PAGE = Path(__file__).parents[3] / "docs" / "figures.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def drawn() -> tuple[list[Scene], dict[str, Any], str]:
    """What the examples draw, the names that they define, and what they print."""
    scenes: list[Scene] = []
    names: dict[str, Any] = {}
    printed: list[str] = []
    names["print"] = lambda *words: printed.append(" ".join(map(str, words)))
    for block in BLOCKS:
        names.pop("scene", None)
        exec(compile(block, str(PAGE), "exec"), names)
        scenes += [names["scene"]] if "scene" in names else []
    return [*scenes, *names["frames"], *names["scenes"]], names, "\n".join(printed)


def test_what_the_examples_draw_can_be_read(
    drawn: tuple[list[Scene], dict[str, Any], str], collisions: Callable[[Scene], list[str]]
) -> None:
    scenes, _, _ = drawn
    assert len(scenes) > 15
    for scene in scenes:
        assert collisions(scene) == []


def test_every_builder_of_the_examples_has_a_narrow_form(
    drawn: tuple[list[Scene], dict[str, Any], str], collisions: Callable[[Scene], list[str]]
) -> None:
    _, names, _ = drawn
    builders = [value for name, value in names.items() if name.endswith("_scene")]
    own = [build for build in builders if build.__module__ != "course_lib.viz.kit.notation"]
    assert len(own) >= 3
    for build in own:
        counts = {"held": 70, "free": 30} if "held" in inspect.signature(build).parameters else {}
        for width in (WIDE, NARROW):
            scene = build(**counts, width=width)
            assert scene.width == width
            assert collisions(scene) == []


def test_what_the_page_shows_as_printed_is_printed(
    drawn: tuple[list[Scene], dict[str, Any], str],
) -> None:
    shown = re.findall(r"^```text\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)
    assert "".join(shown) == drawn[2] + "\n"


def chart_functions() -> Iterator[str]:
    """Yield every function of the package that returns a chart."""
    for module in pkgutil.iter_modules(charts.__path__):
        loaded = importlib.import_module(f"{charts.__name__}.{module.name}")
        for name, value in vars(loaded).items():
            is_own = inspect.isfunction(value) and value.__module__ == loaded.__name__
            if is_own and inspect.signature(value).return_annotation == Chart.__name__:
                yield name


def test_every_chart_and_every_state_is_on_the_page() -> None:
    functions = set(chart_functions())
    assert {"curve_chart", "gantt", "heat_map"} <= functions
    assert [name for name in functions if f"`{name}" not in TEXT and f"{name}(" not in TEXT] == []
    listed = set(re.findall(r"`([a-z_]+)`", TEXT))
    states = {key for key in PALETTE if not key.startswith(("series-", "heat-"))}
    assert states <= listed


def test_every_file_that_the_page_names_is_there() -> None:
    root = PAGE.parents[1]
    named = re.findall(r"`((?:autograder|course_lib|tests)/[\w/.]+)`", TEXT)
    assert named
    assert [name for name in named if not (root / name).exists()] == []
