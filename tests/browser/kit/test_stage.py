"""What is drawn, and how one frame becomes the next: nodes stay, and only what differs changes."""

from __future__ import annotations

from typing import Any

import pytest

from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Area, Cells, Group, Line, Rect, Text

pytestmark = pytest.mark.browser


def block(n: int, x: float = 0, y: float = 0, state: str = "free", **more: Any) -> Rect:
    return Rect(x, y, 40, 20, state, key=f"block-{n}", of=("block", n), **more)


class TestPatch:
    def test_every_kind_of_shape_is_drawn(self, still: Any) -> None:
        still.show(
            Rect(1, 2, 30, 20, "in_use", "A", key="box", radius=3, outline="bold"),
            Text(10, 60, "words", tone="muted", anchor="end", is_bold=True, key="text"),
            Line(((0, 80), (50, 80)), has_arrow=True, is_dashed=True, key="line"),
            Area(((0, 100), (50, 100), (50, 120)), "used", key="area"),
            Group((Rect(0, 130, 10, 10, "free"),), data=(("part", "pool"),), key="group"),
            Cells(0, 150, 4, 10, ("free", "in_use") * 4, "block", "grid"),
        )
        assert still.attribute("[data-key=box]", "transform") == "translate(1 2)"
        assert still.attribute("[data-key=box]", "data-state") == "in_use"
        assert still.attribute("[data-key=box] rect", "fill") == "#0072B2"
        assert still.attribute("[data-key=box] rect", "class").split() == [
            "scene-box",
            "scene-outline-bold",
        ]
        assert still.page.locator(".scene-label").text_content() == "A"
        assert still.attribute("[data-key=text] text", "text-anchor") == "end"
        assert still.attribute("[data-key=text] text", "class") == "scene-fill-muted"
        assert still.attribute("polyline", "points") == "0 80 50 80"
        assert still.attribute("polyline", "stroke-dasharray") == "7 5"
        assert still.attribute("[data-key=line] polygon", "points").startswith("50 80 ")
        assert still.attribute("[data-key=area] polygon", "fill") == "#0072B2"
        assert still.attribute("[data-part=pool] rect", "class").endswith("scene-paper")
        assert still.attribute("foreignObject", "width") == "40"
        assert still.attribute("[data-key=grid]", "transform") == "translate(0 150)"

    def test_a_line_takes_colour_and_dashes_from_its_state(self, still: Any) -> None:
        still.show(Line(((0, 0), (9, 9)), state="cached", key="line"))
        assert still.attribute("polyline", "stroke") == "#56B4E9"
        assert still.attribute("polyline", "class") == "scene-line"
        still.show(Line(((0, 0), (9, 9)), tone="alert", key="line"))
        assert still.attribute("polyline", "stroke") is None
        assert still.attribute("polyline", "class") == "scene-line scene-stroke-alert"

    @pytest.mark.parametrize("motion", ["stage", "still"])
    def test_a_shape_keeps_its_node_wherever_it_goes(
        self, motion: str, request: pytest.FixtureRequest
    ) -> None:
        stage = request.getfixturevalue(motion)
        stage.show(block(1), block(2, 50), Text(0, 90, "one", key="one"))
        for key in ("block-1", "block-2"):
            stage.remember(f"[data-key={key}]")
        moved = block(1, 200, 100, "in_use", label="A")
        stage.show(block(2, 50), block(3, 9), moved, Text(5, 99, "two", key="two"))
        assert stage.is_same("[data-key=block-1]")
        assert stage.is_same("[data-key=block-2]")
        stage.page.locator("[data-key=block-1][transform='translate(200 100)']").wait_for()
        assert stage.attribute("[data-key=block-1]", "data-state") == "in_use"
        order = stage.page.locator(".scene-shapes > g").evaluate_all(
            "(nodes) => nodes.map((node) => node.dataset.key)"
        )
        assert order == ["block-2", "block-3", "block-1", "two"]

    def test_what_did_not_change_is_not_touched(self, still: Any) -> None:
        curve = Line(((0, 0), (9, 9)), state="used", key="curve")
        area = Area(((0, 0), (9, 9), (9, 0)), "cached", key="area")
        grid = Cells(0, 150, 4, 10, ("free", "in_use") * 4, "block", "grid")
        members = Group((block(2), Text(0, 90, "words", key="text")), key="members")
        frame = (block(1, label="A", tooltip="one"), members, curve, area, grid)
        still.show(*frame)
        changes = """
          const changes = [];
          const observer = new MutationObserver((found) => changes.push(...found));
          const options = { subtree: true, childList: true, attributes: true, characterData: true };
          observer.observe(document.querySelector(".scene-shapes"), options);
          page.stage.show(argument.scene, {});
          changes.push(...observer.takeRecords());
          observer.disconnect();
          return changes.map((change) => change.target.closest("[data-key]").dataset.key);
        """
        scene = Scene(400, 300, frame, "Blocks", "The same").to_dict()
        assert still.kit.run(changes, {"scene": scene}) == []
        other = (block(1, y=7, label="A", tooltip="one"), *frame[1:])
        moved = Scene(400, 300, other, "Blocks", "Moved").to_dict()
        assert still.kit.run(changes, {"scene": moved}) == ["block-1"]

    def test_an_object_of_the_frame_before_is_not_looked_at(self, still: Any) -> None:
        script = """
          const scene = argument;
          page.stage.show(scene);
          const [first, second] = scene.shapes;
          Object.defineProperty(first, "x", { get() { throw new Error("looked at"); } });
          page.stage.show({ ...scene, shapes: [first, { ...second, x: 70 }] });
          return document.querySelector("[data-key=block-2]").getAttribute("transform");
        """
        scene = Scene(400, 300, (block(1), block(2, 50)), "Blocks", "Two").to_dict()
        assert still.kit.run(script, scene) == "translate(70 0)"

    def test_members_of_a_group_come_and_go(self, still: Any) -> None:
        still.show(Group((block(1), block(2, 50)), data=(("owner", "A"),), key="group"))
        still.remember("[data-key=block-2]")
        still.show(Group((block(2, 50), block(3, 90)), data=(("chosen", "yes"),), key="group"))
        assert still.is_same("[data-key=block-2]")
        assert still.count("[data-key=group] > g") == 2
        assert still.count("[data-key=block-1]") == 0
        assert still.attribute("[data-key=group]", "data-owner") is None
        assert still.attribute("[data-key=group]", "data-chosen") == "yes"

    def test_a_box_that_loses_its_label_and_state_is_empty(self, still: Any) -> None:
        still.show(block(1, state="cached", label="7", outline="dashed"))
        assert still.attribute("[data-key=block-1] rect", "fill").startswith("url(#scene-")
        still.show(Rect(0, 0, 40, 20, key="block-1"))
        assert still.attribute("[data-key=block-1] rect", "fill") is None
        assert still.attribute("[data-key=block-1] rect", "class").split()[1:] == [
            "scene-outline-thin",
            "scene-hollow",
        ]
        assert still.count(".scene-label") == 0
        assert still.attribute("[data-key=block-1]", "data-state") is None

    def test_every_hatch_is_drawn_by_its_own_picture(self, still: Any) -> None:
        """A fill that belongs to another figure is not painted while that is out of view."""
        script = """
          const { createStage } = await import("/js/stage.js");
          const pictures = [createStage(), createStage()].map((stage) => {
            document.querySelector("#figure").append(stage.element);
            stage.show(argument);
            return stage.element;
          });
          return pictures.map((picture) => {
            const fill = picture.querySelector(".scene-box").getAttribute("fill");
            const pattern = document.getElementById(fill.slice("url(#".length, -1));
            return pictures.findIndex((each) => each.contains(pattern));
          });
        """
        scene = Scene(400, 300, (block(1, state="cached"),), "Blocks", "One cached").to_dict()
        assert still.kit.run(script, scene) == [0, 1]


class TestMotion:
    """Where things are on the way, seen by a clock that the test moves."""

    CLOCK = """
      const waiting = [];
      page.now = 0;
      window.requestAnimationFrame = (callback) => waiting.push(callback);
      page.tick = (milliseconds) => {
        page.now += milliseconds;
        for (const callback of waiting.splice(0)) callback(page.now);
        return waiting.length;
      };
      page.tick(0);
    """

    @pytest.fixture
    def slow(self, stage: Any) -> Any:
        stage.kit.run(self.CLOCK)
        return stage

    def tick(self, stage: Any, milliseconds: int) -> int:
        """Let time pass; return how many callbacks wait for the next frame."""
        stage.kit.run("page.tick(0)")
        return int(stage.kit.run("return page.tick(argument)", milliseconds))

    def test_all_that_moves_moves_in_one_loop(self, slow: Any) -> None:
        slow.show(*(block(n, 50 * n) for n in range(5)))
        slow.show(*(block(n, 50 * n, 100) for n in range(5)), duration=100)
        assert self.tick(slow, 50) == 1
        assert slow.attribute("[data-key=block-3]", "transform") == "translate(150 50)"
        assert self.tick(slow, 50) == 0
        assert slow.attribute("[data-key=block-3]", "transform") == "translate(150 100)"

    def test_sizes_points_and_states_change_smoothly(self, slow: Any) -> None:
        slow.show(Rect(0, 0, 10, 10, "free", key="bar"), Line(((0, 0), (10, 0)), key="line"))
        bar = Rect(0, 0, 30, 10, "in_use", key="bar")
        slow.show(bar, Line(((0, 0), (10, 40)), key="line"), duration=100)
        self.tick(slow, 50)
        assert slow.attribute("[data-key=bar] .scene-box", "width") == "20"
        assert slow.attribute("[data-key=bar] .scene-ghost", "width") == "20"
        assert slow.attribute("[data-key=bar] .scene-ghost", "fill-opacity") == "0.5"
        assert slow.attribute("polyline", "points") == "0 0 10 20"
        self.tick(slow, 60)
        assert slow.count(".scene-ghost") == 0

    def test_what_is_new_fades_in_and_what_is_gone_fades_out(self, slow: Any) -> None:
        slow.show(block(1, tooltip="one"))
        slow.remember("[data-key=block-1]")
        slow.show(block(2), duration=100)
        self.tick(slow, 50)
        assert slow.attribute("[data-key=block-2]", "opacity") == "0.5"
        assert slow.attribute(".scene-exits > g", "opacity") == "0.5"
        assert slow.count("[data-key=block-1]") == 0, "what fades is no longer that block"
        assert slow.count(".scene-exits [data-item]") == 0
        slow.show(block(1), block(2), duration=100)
        assert not slow.is_same("[data-key=block-1]")
        self.tick(slow, 120)
        assert slow.count(".scene-exits > g") == 0
        assert slow.attribute("[data-key=block-2]", "opacity") is None

    def test_a_copy_starts_where_its_origin_was(self, slow: Any) -> None:
        slow.show(block(1, 0, 0))
        # The original moves and the copy takes another place, in the same frame.
        copy = block(2, 200, 100, origin="block-1")
        slow.show(block(1, 0, 200), copy, duration=100)
        assert slow.attribute("[data-key=block-2]", "transform") == "translate(0 0)"
        assert slow.attribute("[data-key=block-2]", "opacity") is None
        self.tick(slow, 50)
        assert slow.attribute("[data-key=block-2]", "transform") == "translate(100 50)"
        slow.show(copy, block(3, 0, 0, origin="block-1"), duration=100)
        assert slow.attribute("[data-key=block-3]", "transform") == "translate(0 100)"

    def test_a_box_that_is_sent_elsewhere_turns_on_its_way(self, slow: Any) -> None:
        slow.show(block(1, 0))
        slow.show(block(1, 100), duration=100)
        self.tick(slow, 50)
        slow.show(block(1, 0), duration=100)
        assert slow.attribute("[data-key=block-1]", "transform") == "translate(50 0)"
        self.tick(slow, 50)
        assert slow.attribute("[data-key=block-1]", "transform") == "translate(25 0)"

    def test_settling_ends_all_motion(self, slow: Any) -> None:
        slow.show(block(1), block(2, 50))
        slow.show(block(1, 100, state="cached"), duration=100)
        slow.kit.run("page.stage.settle()")
        assert slow.attribute("[data-key=block-1]", "transform") == "translate(100 0)"
        assert slow.count(".scene-exits > g") == 0
        assert slow.count(".scene-ghost") == 0

    @pytest.mark.parametrize("why", ["the reader", "the caller"])
    def test_nothing_moves_where_motion_is_not_wanted(
        self, why: str, request: pytest.FixtureRequest
    ) -> None:
        stage = request.getfixturevalue("still" if why == "the reader" else "stage")
        is_asked = why == "the reader"
        stage.kit.run(self.CLOCK)
        stage.show(block(1), block(2, 50))
        copy = block(3, 200, origin="block-1")
        stage.show(block(1, 100, state="in_use"), copy, animate=is_asked)
        assert stage.attribute("[data-key=block-1]", "transform") == "translate(100 0)"
        assert stage.attribute("[data-key=block-3]", "transform") == "translate(200 0)"
        assert stage.count(".scene-ghost") == stage.count(".scene-exits > g") == 0
        assert stage.kit.run("return page.tick(0)") == 0


class TestSize:
    def test_a_picture_is_never_enlarged_nor_made_unreadable(self, stage: Any) -> None:
        stage.show(block(1))
        widths = []
        for width in (1100, 340, 200):
            stage.page.set_viewport_size({"width": width, "height": 500})
            widths.append(stage.page.locator(".scene").bounding_box()["width"])
        room_at_340 = 340 - 2 * 8 - 2 * 6  # the page's margin and the ring's room
        assert widths == [400, max(300, room_at_340), 300]
        is_scrolled = "node => node.scrollWidth > node.clientWidth"
        assert stage.page.locator(".scene-scroller").evaluate(is_scrolled)
        assert stage.page.evaluate("document.documentElement.scrollWidth") == 200
