"""Pointing, focusing and choosing: what stands for one thing lights together, and has a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from course_lib.viz.kit.shapes import Cells, Group, Line, Rect, Shape, Text, Thing

pytestmark = pytest.mark.browser

LISTEN = """
  page.heard = [];
  page.stage.onPick((thing) => page.heard.push(["pick", thing]));
  page.stage.onPoint((things) => page.heard.push(["point", things]));
"""


def tile(x: float, y: float, of: Thing | None, key: str, **more: Any) -> Rect:
    return Rect(x, y, 60, 30, "in_use", key=key, of=of, **more)


POOL: tuple[Shape, ...] = (
    tile(10, 10, ("block", 1), "grid-1"),
    tile(80, 10, ("block", 2), "grid-2"),
    tile(150, 10, ("block", 3), "grid-3"),
    Rect(0, 0, 390, 60, key="frame", outline="bold"),
    tile(80, 110, ("block", 2), "table-2", lights=(("request", "A"),), tooltip="<b>page</b> 0"),
    Text(10, 200, "request A", key="name", of=("request", "A")),
    Line(((10, 220), (200, 220)), key="line", of=("request", "A")),
    Group((Rect(300, 200, 20, 20, "free"),), key="queue", of=("block", 3)),
    Rect(200, 110, 60, 30, "used", key="note", tooltip="only a note"),
)


def lit(stage: Any) -> list[str]:
    """Return the keys of what is lit."""
    return list(
        stage.page.locator(".scene-lit").evaluate_all("(all) => all.map((g) => g.dataset.key)")
    )


def focused(stage: Any) -> str:
    """Return the key of the item that has the focus, or the name of another node."""
    return str(
        stage.page.evaluate(
            "(({ dataset, tagName }) => dataset.key ?? tagName)(document.activeElement)"
        )
    )


@pytest.fixture
def pool(stage: Any) -> Any:
    stage.show(*POOL)
    return stage


class TestPointer:
    def test_all_shapes_of_a_thing_light_together_and_what_they_light(self, pool: Any) -> None:
        pool.page.mouse.move(*middle(pool, "grid-2"))
        assert lit(pool) == ["grid-2", "table-2", "name", "line"]
        assert pool.count("[data-key=grid-2] .scene-ring") == 1
        assert pool.count("[data-key=line] .scene-ring") == 0
        width = "(node) => getComputedStyle(node).strokeWidth"
        line = pool.page.locator("polyline")
        assert line.evaluate(width) == "4px", "a line is drawn heavier instead"
        words = pool.page.locator("[data-key=name] text").bounding_box()
        ring = pool.page.locator("[data-key=name] .scene-ring").bounding_box()
        assert ring["x"] < words["x"]
        assert ring["width"] > words["width"] + 6
        pool.page.mouse.move(*middle(pool, "queue"))
        assert lit(pool) == ["grid-3", "queue"]
        assert line.evaluate(width) == "1.5px"
        pool.page.mouse.move(390, 290)
        assert lit(pool) == []
        assert pool.count(".scene-ring") == 0

    def test_what_is_no_item_does_not_hide_one(self, pool: Any) -> None:
        """The frame lies over the tiles of the grid."""
        pool.page.mouse.move(*middle(pool, "grid-1"))
        assert lit(pool) == ["grid-1"]

    def test_a_name_is_shown_as_text(self, pool: Any) -> None:
        tooltip = pool.page.locator(".scene-tooltip")
        assert not tooltip.is_visible()
        pool.page.mouse.move(*middle(pool, "table-2"))
        assert tooltip.text_content() == "<b>page</b> 0"
        assert tooltip.locator("b").count() == 0
        pool.page.mouse.move(*middle(pool, "grid-1"))
        assert tooltip.text_content() == "block 1: in use"
        pool.page.mouse.move(*middle(pool, "note"))
        assert tooltip.text_content() == "only a note"
        assert lit(pool) == [], "a note stands for nothing"
        pool.page.mouse.move(390, 290)
        assert not tooltip.is_visible()

    def test_a_tooltip_stays_in_the_figure(self, open_stage: Callable[..., Any]) -> None:
        stage = open_stage(width=330)
        corner = tile(330, 0, None, "corner", tooltip="a long explanation " * 5)
        stage.show(corner, tile(0, 250, None, "low", tooltip="short"))
        root = stage.page.locator(".scene-stage").bounding_box()
        for key in ("low", "corner"):
            stage.page.locator(f"[data-key={key}]").hover()
            box = stage.page.locator(".scene-tooltip").bounding_box()
            assert root["x"] <= box["x"]
            assert box["x"] + box["width"] <= root["x"] + root["width"]
            assert box["y"] >= 0

    def test_what_is_lit_stays_lit_in_the_next_frame(self, pool: Any) -> None:
        pool.page.mouse.move(*middle(pool, "grid-2"))
        wider = Rect(80, 110, 90, 30, "free", key="table-2", of=("block", 2))
        pool.show(*POOL[:4], wider)
        assert lit(pool) == ["grid-2", "table-2"]
        assert pool.attribute("[data-key=table-2] .scene-ring rect", "width") == "85"
        pool.show(*POOL[2:4])
        assert lit(pool) == []
        assert not pool.page.locator(".scene-tooltip").is_visible()

    def test_choosing_tells_which_thing(self, pool: Any) -> None:
        pool.kit.run(LISTEN)
        pool.page.mouse.click(*middle(pool, "grid-3"))
        assert pool.kit.run("return page.heard") == [
            ["point", [["block", 3]]],
            ["pick", ["block", 3]],
        ]
        pool.page.mouse.click(*middle(pool, "note"))
        assert pool.kit.run("return page.heard.at(-1)") == ["point", []]

    def test_another_figure_can_light_things(self, pool: Any) -> None:
        pool.kit.run('page.stage.light([["request", "A"]])')
        assert lit(pool) == ["name", "line"]
        pool.page.mouse.move(*middle(pool, "grid-1"))
        assert lit(pool) == ["grid-1"]
        pool.kit.run("page.stage.light([])")
        pool.page.mouse.move(390, 290)
        assert lit(pool) == []


def middle(stage: Any, key: str) -> tuple[float, float]:
    """Return the middle of what has a key, in the window."""
    box = stage.page.locator(f".scene-shapes [data-key={key}]").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


class TestKeyboard:
    def test_all_items_are_one_stop_of_the_tab_key(self, pool: Any) -> None:
        pool.kit.run("document.querySelector('#figure').after(document.createElement('button'))")
        pool.page.keyboard.press("Tab")
        assert focused(pool) == "grid-1"
        assert lit(pool) == ["grid-1"]
        assert pool.page.locator(".scene-tooltip").text_content() == "block 1: in use"
        pool.page.keyboard.press("ArrowRight")
        pool.page.keyboard.press("Tab")
        assert focused(pool) == "BUTTON"
        assert lit(pool) == []
        pool.page.keyboard.press("Shift+Tab")
        assert focused(pool) == "grid-2", "Tab comes back to where it left"

    def test_arrows_go_to_the_neighbours(self, pool: Any) -> None:
        pool.page.keyboard.press("Tab")
        way = ["ArrowRight", "ArrowRight", "ArrowLeft", "ArrowDown", "ArrowRight", "ArrowRight"]
        seen = []
        for key in way:
            pool.page.keyboard.press(key)
            seen.append(focused(pool))
        assert seen == ["grid-2", "grid-3", "grid-2", "table-2", "note", "queue"]
        pool.page.keyboard.press("ArrowRight")
        assert focused(pool) == "queue", "there is nothing further"
        pool.page.keyboard.press("Home")
        assert focused(pool) == "grid-1"
        pool.page.keyboard.press("End")
        assert focused(pool) == "note"

    @pytest.mark.parametrize("key", ["Enter", " "])
    def test_enter_and_space_choose(self, pool: Any, key: str) -> None:
        pool.kit.run(LISTEN)
        pool.page.keyboard.press("Tab")
        pool.page.keyboard.press(key)
        assert pool.kit.run("return page.heard.at(-1)") == ["pick", ["block", 1]]

    def test_escape_leaves_for_the_figure_around(self, pool: Any) -> None:
        pool.kit.run("document.querySelector('#figure').tabIndex = 0")
        for _ in range(2):
            pool.page.keyboard.press("Tab")
        assert focused(pool) == "grid-1"
        pool.page.keyboard.press("Escape")
        assert pool.page.evaluate("document.activeElement.id") == "figure"
        assert lit(pool) == []

    def test_escape_leaves_where_nothing_is_around(self, pool: Any) -> None:
        pool.page.keyboard.press("Tab")
        pool.page.keyboard.press("Escape")
        assert focused(pool) == "BODY"

    def test_other_keys_are_left_to_the_page(self, pool: Any) -> None:
        script = """
          page.keys = [];
          const note = (event) => page.keys.push(event.key);
          document.addEventListener("keydown", note);
        """
        pool.kit.run(script)
        pool.page.keyboard.press("Tab")
        for key in ("Control+s", "ArrowRight", "Control+ArrowRight", "j", "Enter", "Home"):
            pool.page.keyboard.press(key)
        # Enter is of no use where nothing can be chosen.
        assert pool.kit.run("return page.keys.filter((key) => key !== 'Control')") == [
            "Tab",
            "s",
            "ArrowRight",
            "j",
            "Enter",
        ]

    def test_the_focus_stays_with_its_thing(self, pool: Any) -> None:
        pool.page.keyboard.press("Tab")
        pool.page.keyboard.press("ArrowRight")
        pool.remember("[data-key=grid-2]")
        pool.show(*POOL[2:], *POOL[:2])  # the node moves within the picture
        assert focused(pool) == "grid-2"
        assert pool.is_same("[data-key=grid-2]")
        assert lit(pool) == ["table-2", "name", "line", "grid-2"]
        pool.show(*POOL[2:])
        assert focused(pool) == "table-2", "the same block, elsewhere"
        pool.show(*POOL[2:4])
        assert focused(pool) == "grid-3", "where Tab would come to"
        pool.show(POOL[3])
        assert focused(pool) == "BODY"

    def test_the_ring_of_the_focus_is_not_clipped(self, stage: Any) -> None:
        stage.show(tile(0, 0, ("block", 1), "corner"))
        stage.page.keyboard.press("Tab")
        style = (
            "(node) => [getComputedStyle(node).outlineStyle, getComputedStyle(node).outlineWidth]"
        )
        assert stage.page.locator("[data-key=corner]").evaluate(style) == ["solid", "3px"]
        room = stage.page.locator(".scene-scroller").bounding_box()
        box = stage.page.locator("[data-key=corner] .scene-box").bounding_box()
        assert min(box["x"] - room["x"], box["y"] - room["y"]) >= 5


class TestNames:
    def tree(self, stage: Any) -> str:
        """Return what the browser tells a screen reader."""
        return str(stage.page.locator("#figure").aria_snapshot()).replace("'", "")

    def test_a_picture_without_items_is_an_image(self, stage: Any) -> None:
        stage.show(Rect(0, 0, 9, 9, "free", key="box"), Text(0, 30, "words"))
        assert self.tree(stage) == '- img "Blocks. What blocks do": words'

    def test_a_picture_with_items_is_a_list_of_them(self, pool: Any) -> None:
        assert self.tree(pool).splitlines()[:6] == [
            '- list "Blocks. What blocks do":',
            '  - listitem "block 1: in use"',
            '  - listitem "block 2: in use"',
            '  - listitem "block 3: in use"',
            '  - listitem "<b>page</b> 0"',
            '  - listitem "request A"',
        ]

    def roles(self, stage: Any) -> list[str]:
        """Return the roles in chromium's own tree, from the picture on."""
        session = stage.page.context.new_cdp_session(stage.page)
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
        roles = [node["role"]["value"] for node in nodes if not node["ignored"]]
        return roles[next(at for at, role in enumerate(roles) if role.startswith("list")) :]

    def test_the_browser_takes_items_for_items(self, pool: Any) -> None:
        """Its rules are stricter than those of Playwright's tree."""
        group = Group((tile(200, 250, ("block", 8), "inner"),), key="outer")
        pool.show(*POOL, group)
        words = self.roles(pool).count("StaticText")
        assert self.roles(pool).count("listitem") == 9
        pool.kit.run(LISTEN)
        assert self.roles(pool).count("option") == 9
        assert self.roles(pool).count("group") == 0
        assert self.roles(pool).count("StaticText") == words

    def test_what_can_be_chosen_is_an_option(self, pool: Any) -> None:
        pool.kit.run(LISTEN)
        assert self.tree(pool).splitlines()[:2] == [
            '- listbox "Blocks. What blocks do":',
            '  - option "block 1: in use"',
        ]
        pool.show(tile(10, 10, ("block", 9), "new"))
        assert self.tree(pool).splitlines()[1] == '  - option "block 9: in use"'

    def test_a_name_follows_the_state(self, pool: Any) -> None:
        pool.show(Rect(0, 0, 60, 30, "cached", key="grid-1", of=("block", 1)))
        assert '- listitem "block 1: free, still cached"' in self.tree(pool)
        pool.show(Rect(0, 0, 60, 30, "cached", key="grid-1"))
        assert self.tree(pool) == '- img "Blocks. What blocks do"'


class TestCells:
    GRID = Cells(20, 20, 8, 30, ("in_use", "free", "cached") * 10, "block", "pool", first=100)

    @pytest.fixture
    def grid(self, stage: Any) -> Any:
        table = tile(300, 100, ("block", 109), "table", lights=(("block", 102), ("block", 104)))
        stage.show(self.GRID, table)
        return stage

    def point(self, stage: Any, x: float, y: float) -> None:
        origin = stage.page.locator(".scene").bounding_box()
        stage.page.mouse.move(origin["x"] + x, origin["y"] + y)

    def test_the_cell_under_the_pointer_is_named_and_lit(self, grid: Any) -> None:
        self.point(grid, 20 + 30 + 14, 20 + 30 + 14)
        assert grid.page.locator(".scene-tooltip").text_content() == "block 109: in use"
        assert lit(grid) == ["pool", "table"]
        ring = [grid.attribute("[data-key=pool] .scene-ring rect", name) for name in "xy"]
        assert ring == ["32.5", "32.5"]
        self.point(grid, 20 + 7 * 30 + 5, 20 + 3 * 30 + 5)
        assert not grid.page.locator(".scene-tooltip").is_visible(), "the last row is not full"

    def test_a_shape_lights_its_cells(self, grid: Any) -> None:
        grid.page.mouse.move(*middle(grid, "table"))
        assert grid.count("[data-key=pool] .scene-ring") == 3

    def test_the_keyboard_goes_from_cell_to_cell_and_out(self, grid: Any) -> None:
        tooltip = grid.page.locator(".scene-tooltip")
        grid.page.keyboard.press("Tab")
        assert tooltip.text_content() == "block 100: in use"
        names = []
        for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft", "ArrowUp"):
            grid.page.keyboard.press(key)
            names.append(str(tooltip.text_content()).partition(":")[0])
        assert names == ["block 101", "block 109", "block 117", "block 116", "block 108"]
        for _ in range(8):
            grid.page.keyboard.press("ArrowRight")
        assert focused(grid) == "table"
        grid.page.keyboard.press("ArrowLeft")
        assert tooltip.text_content() == "block 129: free, still cached", "the nearest cell"
        tree = grid.page.locator("#figure").aria_snapshot()
        assert 'listitem "block 129: free, still cached"' in tree

    def test_a_cell_is_chosen_with_mouse_and_keyboard(self, grid: Any) -> None:
        grid.kit.run(LISTEN)
        self.point(grid, 25, 25)
        grid.page.mouse.down()
        grid.page.mouse.up()
        grid.page.keyboard.press("ArrowRight")
        grid.page.keyboard.press("Enter")
        heard = grid.kit.run("return page.heard.filter(([what]) => what === 'pick')")
        assert heard == [["pick", ["block", 100]], ["pick", ["block", 101]]]
