"""Pages of their own: all that a figure needs is inside, and nothing of it is taken for markup."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from course_lib.viz import EngineMap, Explorer, Frame, Picture, Player, Slider, gpu_memory
from course_lib.viz.kit import player as player_module
from course_lib.viz.kit.page import FrontEnd, scripts_html, widget_html
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Text
from course_lib.viz.kit.view import Figure

MARKUP = "</script><!-- <script> <b>"


def moment(number: int) -> Scene:
    return Scene(90, 20, (Text(0, 9, f"at {number}"),), f"Moment {MARKUP}", f"At {number} {MARKUP}")


def moments(count: int) -> Iterator[Frame]:
    return (Frame(moment(number), f"now {number}") for number in range(count))


class Elements(HTMLParser):
    """Collects the elements of a page, and the text of each script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data


def state_in(page: str) -> Any:
    """Return the state of the one widget of a page."""
    return json.loads(Elements(page).scripts[0])["state"]


FIGURES: dict[str, Callable[[], Figure]] = {
    "picture": lambda: Picture(moment(7)),
    "film": lambda: Player(moments(3)),
    "explorer": lambda: Explorer(moment, {"number": Slider("Number", 0, 9, 7)}),
    "map": lambda: EngineMap(1),
}


@pytest.mark.parametrize("kind", FIGURES)
def test_a_page_asks_for_nothing_and_has_a_picture_with_words(kind: str) -> None:
    figure = FIGURES[kind]()
    page = figure.to_html()
    elements = Elements(page).elements
    assert not [tag for tag, named in elements if "href" in named or tag in ("link", "iframe")]
    sources = [named["src"] for _, named in elements if "src" in named]
    assert len(sources) == 1
    assert str(sources[0]).startswith("data:image/png;base64,")
    [image] = [named for tag, named in elements if tag == "img"]
    assert image["alt"] == figure.description
    assert [tag for tag, _ in elements].count("script") == 4


def test_text_that_looks_like_markup_stays_text() -> None:
    page = Player(moments(3)).to_html()
    state = state_in(page)
    assert state["frames"][0]["scene"]["title"] == f"Moment {MARKUP}"
    assert "<b>" not in page
    assert page.count("<!--") == 0


def test_a_front_end_cannot_end_its_element() -> None:
    front_end = FrontEnd('const end = "</script>";', "a::after { content: '<!--'; }")
    page = scripts_html([front_end])
    scripts = Elements(page).scripts
    assert scripts[0] == 'const end = "<\\/script>";'
    assert scripts[1] == "a::after { content: '<\\!--'; }"


def test_bytes_of_the_state_are_marked() -> None:
    html = widget_html({"grid": {"chunks": [b"ab", memoryview(b"cd")]}, "_esm": "no"}, 0, "")
    assert state_in(html) == {"grid": {"chunks": [{"$bytes": "YWI="}, {"$bytes": "Y2Q="}]}}


def test_the_page_is_written_where_it_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "picture.html"
    page = Picture(moment(7)).to_html(path)
    assert path.read_text(encoding="utf-8") == page


def test_a_page_has_all_frames_of_a_film_that_is_still_in_the_making(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(player_module, "_PATIENCE", 0)
    monkeypatch.setattr(player_module, "_SLICE", 0)

    async def export() -> tuple[str, Player]:
        film = Player(moments(600))
        page = film.to_html()
        await asyncio.sleep(0.01)  # what was to be done later finds it done
        return page, film

    with ThreadPoolExecutor(1) as pool:  # where no event loop of a browser runs
        page, film = pool.submit(asyncio.run, export()).result()
    assert state_in(page)["count"] == film.count == len(film.film) == 600


def test_an_explorer_without_a_grid_gets_one_that_holds_what_its_controls_say() -> None:
    figure = gpu_memory()
    figure.set(num_sequences=37)
    grid = state_in(figure.to_html())["grid"]
    axes = {axis["name"]: axis["values"] for axis in grid["axes"]}
    assert grid["count"] <= 1000
    assert all(figure.values[name] in values for name, values in axes.items())
    assert figure.grid == {}, "the figure itself stays as it was"


def test_the_settings_of_a_page_can_be_chosen() -> None:
    figure = Explorer(moment, {"number": Slider("Number", 0, 9, 7)}, precompute=True)
    assert state_in(figure.to_html())["grid"]["count"] == 10
    chosen = state_in(figure.to_html(precompute={"number": [7, 9]}))["grid"]
    assert chosen["axes"] == [{"name": "number", "values": [7, 9]}]


@pytest.mark.parametrize("kind", FIGURES)
def test_the_picture_beside_the_widget_has_words(kind: str) -> None:
    figure = FIGURES[kind]()
    data, _metadata = figure._repr_mimebundle_()
    [image] = re.findall(r"<img alt=.*?>", data["text/html"], re.DOTALL)
    assert Elements(image).elements[0][1]["alt"] == figure.description
    assert data["text/plain"] == figure.description
    assert data["image/png"] in data["text/html"]


def test_in_colab_the_picture_says_what_the_widget_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = Picture(moment(7))
    outside, _metadata = figure._repr_mimebundle_()
    assert "colab" not in outside["text/html"]
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    inside, _metadata = figure._repr_mimebundle_()
    assert "output.enable_custom_widget_manager()" in inside["text/html"]


def test_the_description_of_a_film_says_how_many_pictures_there_are() -> None:
    assert Player(moments(3)).description.endswith("The first of 3 pictures.")
