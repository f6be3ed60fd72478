"""Explorers: what is drawn for which values, what the browser is told, and what is made before."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.viz import Choice, Explorer, Slider, Toggle
from course_lib.viz.kit import explorer as explorer_module
from course_lib.viz.kit.controls import AnyControl
from course_lib.viz.kit.encoding import read_chunk
from course_lib.viz.kit.grid import chosen_axes, precomputed, thinned_axes
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Rect, Text


def bar(length: int, state: str = "used") -> Scene:
    if length > 90:
        raise ValueError(f"{length} is too long; at most 90")
    shapes = (Rect(0, 0, length, 10, state, key="bar"), Text(0, 50, f"{length} px", key="text"))
    return Scene(100, 60, shapes, title="A bar", alt=f"{length} pixels, {state}")


CONTROLS: dict[str, AnyControl] = {
    "length": Slider("Length", 0, 100, 40, unit="px"),
    "state": Choice("State", {"in use": "used", "nobody's": "free"}, "used"),
}


def explorer(**options: Any) -> Explorer:
    return Explorer(bar, CONTROLS, **options)


def ask(figure: Explorer, number: int, **values: Any) -> None:
    """Send what the browser sends when a control has been moved."""
    figure.set_state({"values": {**figure.values, **values}, "asked": number})


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Collect which traits each message to the browser holds."""
    messages: list[set[str]] = []
    monkeypatch.setattr(
        Explorer,
        "_send",
        lambda _self, message, buffers=None: messages.append(set(message["state"])),
    )
    return messages


class TestMoving:
    def test_setting_a_value_redraws_with_it(self) -> None:
        figure = explorer()
        figure.set(length=70, state="free")
        assert figure.values == {"length": 70, "state": "free"}
        assert figure.frames[0]["scene"] == bar(70, "free").to_dict()
        assert figure.scene == bar(70, "free")

    def test_the_browser_is_answered_with_the_picture_of_the_values_it_sent(self) -> None:
        figure = explorer()
        ask(figure, 1, length=70)
        assert figure.answered == 1
        assert figure.frames[0]["scene"] == bar(70).to_dict()
        assert figure.scene == bar(70)

    def test_an_answer_is_one_message_and_does_not_move_the_controls(
        self, sent: list[set[str]]
    ) -> None:
        figure = explorer()
        sent.clear()
        ask(figure, 1, length=70)
        answers = [names for names in sent if "answered" in names]
        assert answers == [{"answered", "frames"}]

    @pytest.mark.parametrize(
        ("form", "name", "width"), [("wide", "scene", WIDE), ("narrow", "narrow", NARROW)]
    )
    def test_the_form_that_is_not_shown_is_built_when_the_controls_are_at_rest(
        self, monkeypatch: pytest.MonkeyPatch, form: str, name: str, width: float
    ) -> None:
        monkeypatch.setattr(explorer_module, "_REST", 0.05)
        built: list[tuple[int, float]] = []

        def formed_bar(length: int, width: float = WIDE) -> Scene:
            built.append((length, width))
            return Scene(width, 60, (), "A bar", f"{length} pixels")

        async def drag() -> None:
            for number, length in enumerate((10, 20, 30), 1):
                figure.set_state({"values": {"length": length}, "asked": number, "form": form})
                assert set(figure.frames[0]) & {"scene", "narrow"} == {name}
                assert figure.frames[0][name]["alt"] == f"{length} pixels"
                assert figure.description == f"A bar. {length} pixels"
            assert built == [(length, width) for length in (10, 20, 30)]
            await asyncio.sleep(0.2)

        figure = Explorer(formed_bar, {"length": CONTROLS["length"]})
        built.clear()
        asyncio.run(drag())
        assert built[3:] == [(30, NARROW + WIDE - width)]
        assert figure.frames[0]["scene"]["width"] == WIDE
        assert figure.frames[0]["narrow"]["width"] == NARROW

    def test_whoever_asks_python_for_the_scene_gets_the_wide_one_at_once(self) -> None:
        async def move() -> Scene:
            figure = Explorer(
                lambda length, width=WIDE: Scene(width, 9, (), "A bar", f"{length} pixels"),
                {"length": CONTROLS["length"]},
            )
            figure.set_state({"values": {"length": 7}, "asked": 1, "form": "narrow"})
            return figure.scene

        assert asyncio.run(move()) == Scene(WIDE, 9, (), "A bar", "7 pixels")

    def test_an_answer_comes_even_if_the_picture_is_the_same(self) -> None:
        figure = explorer()
        ask(figure, 1)
        assert figure.answered == 1

    def test_a_value_that_build_refuses_shows_its_message_until_the_next_good_one(self) -> None:
        figure = explorer()
        ask(figure, 1, length=95)
        assert (figure.answered, figure.message) == (1, "95 is too long; at most 90")
        assert figure.scene == bar(40)
        figure.set(length=60)
        assert figure.message == ""
        assert figure.frames[0]["scene"] == bar(60).to_dict()

    def test_what_no_control_can_say_is_answered_with_the_reason(self) -> None:
        figure = explorer()
        ask(figure, 1, length=101)
        assert figure.answered == 1
        assert figure.message == "Length: 101 is none of its values: 0 to 100 in steps of 1"

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"lenght": 3}, "no control 'lenght'; known: length, state"),
            ({"length": 101}, "Length: 101 is none"),
            ({"length": 3, "state": "broken"}, "State: 'broken' is none"),
        ],
    )
    def test_a_value_that_cannot_be_set_changes_nothing(
        self, values: dict[str, Any], message: str
    ) -> None:
        figure = explorer()
        with pytest.raises(ValueError, match=message):
            figure.set(**values)
        assert figure.values == {"length": 40, "state": "used"}

    def test_first_values_that_build_refuses_are_an_error(self) -> None:
        with pytest.raises(ValueError, match="95 is too long"):
            Explorer(bar, {"length": Slider("Length", 0, 100, 95)})


class TestForms:
    def test_a_builder_that_takes_a_width_is_asked_for_both_forms(self) -> None:
        def strip(count: int, width: float = WIDE) -> Scene:
            return Scene(width, 9, (), "A strip", f"{count} on {width:g}")

        figure = Explorer(strip, {"count": Slider("Count", 1, 9, 3)})
        figure.set(count=4)
        frame = figure.frames[0]
        assert (frame["scene"]["alt"], frame["narrow"]["alt"]) == (
            f"4 on {WIDE:g}",
            f"4 on {NARROW:g}",
        )

    def test_the_narrow_form_may_be_narrower(self) -> None:
        def strip(count: int, width: float = WIDE) -> Scene:
            return Scene(width, 9, (), "A strip", f"{count} on {width:g}")

        figure = Explorer(strip, {"count": Slider("Count", 1, 9, 3)}, narrow=400)
        assert figure.frames[0]["narrow"]["alt"] == "3 on 400"

    def test_a_width_that_a_control_sets_is_the_controls(self) -> None:
        def strip(width: int) -> Scene:
            return Scene(width, 9, (), "A strip", f"{width} wide")

        figure = Explorer(strip, {"width": Slider("Width", 1, 9, 3)})
        assert "narrow" not in figure.frames[0]


class TestTwin:
    def test_browser_and_static_twin_get_the_same_scene(self, drawn: list[Scene]) -> None:
        figure = explorer()
        figure.set(length=70)
        figure.static()
        assert drawn[-1].to_dict() == figure.frames[0]["scene"]

    def test_the_static_twin_takes_other_values_without_moving_the_controls(
        self, drawn: list[Scene]
    ) -> None:
        figure = explorer()
        figure.static(state="free")
        assert drawn == [bar(40, "free")]
        assert figure.values["state"] == "used"

    def test_a_picture_with_its_description_travels_with_the_widget(self) -> None:
        data, _metadata = explorer()._repr_mimebundle_()
        assert b64decode(data["image/png"]).startswith(b"\x89PNG")
        assert data["text/html"].startswith('<img alt="A bar. 40 pixels, used" src="data:image/png')


def scenes_of(grid: dict[str, Any]) -> list[dict[str, Any]]:
    """Return, for each setting of a grid, width and text of the bar."""
    shapes: dict[str, Any] = {}
    found = []
    for chunk in map(read_chunk, grid["chunks"]):
        for change in chunk["wide"]:
            for name, values in change.get("set", {}).items():
                shapes[name] = {**shapes.get(name, {}), **values}
            bar_now, text_now = shapes["bar"], shapes["text"]
            found.append(
                {"width": bar_now["width"], "state": bar_now["state"], "text": text_now["text"]}
            )
    return found


class TestGrid:
    def test_holds_the_picture_of_every_setting_the_last_control_running_fastest(self) -> None:
        grid = explorer(precompute={"length": range(0, 91, 9)}).grid
        axes = [axis["values"] for axis in grid["axes"]]
        assert axes == [list(range(0, 91, 9)), ["used", "free"]]
        assert grid["count"] == 22
        assert scenes_of(grid) == [
            {"width": length, "state": state, "text": f"{length} px"}
            for length, state in product(*axes)
        ]

    def test_more_settings_than_a_chunk_holds(self) -> None:
        grid = explorer(precompute=True).grid
        assert grid["count"] == 202
        long = Explorer(bar, {"length": Slider("Length", 0, 1000, 9)}, precompute=True).grid
        assert long["count"] == 1001
        assert len(long["chunks"]) > 1
        assert [each["width"] for each in scenes_of(long)][:91] == list(range(91))

    def test_settings_that_build_refuses_keep_their_message(self) -> None:
        grid = explorer(precompute={"length": [0, 90, 91]}).grid
        refused = "91 is too long; at most 90"
        assert grid["messages"] == {"4": refused, "5": refused}

    def test_a_grid_without_a_single_picture_is_refused(self) -> None:
        with pytest.raises(ValueError, match="none of the 2 settings has a picture: 91 is too"):
            precomputed(lambda **values: (bar(**values), None), {"length": [91, 92]})

    @pytest.mark.parametrize(
        ("chosen", "message"),
        [
            ({"size": [1]}, "no control 'size'; known: length, state"),
            ({"length": []}, "'length' has no value to precompute"),
            ({"length": [101]}, "Length: 101 is none"),
        ],
    )
    def test_a_choice_that_does_not_fit_the_controls_is_refused(
        self, chosen: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            explorer(precompute=chosen)

    @given(
        ends=st.lists(st.integers(1, 60), min_size=1, max_size=5),
        at_most=st.integers(1, 200),
        data=st.data(),
    )
    def test_thinning_keeps_within_the_limit_and_keeps_what_the_controls_say(
        self, ends: list[int], at_most: int, data: st.DataObject
    ) -> None:
        values = {f"c{n}": data.draw(st.integers(1, end)) for n, end in enumerate(ends)}
        controls: dict[str, AnyControl] = {
            name: Slider(name, 1, end, values[name])
            for (name, end) in zip(values, ends, strict=True)
        }
        axes = thinned_axes(controls, values, at_most)
        count = 1
        for name, chosen in axes.items():
            assert values[name] in chosen
            assert list(chosen) == sorted(set(chosen))
            controls[name].accept(chosen[0])
            count *= len(chosen)
        assert count <= at_most
        whole = 1
        for end in ends:
            whole *= end
        if whole <= at_most:
            assert axes == chosen_axes(controls)

    def test_few_values_stay_whole_where_others_are_thinned(self) -> None:
        controls: dict[str, AnyControl] = {
            "filled": Toggle("Filled", value=True),
            "side": Slider("Side", 1, 1000, 30),
        }
        axes = thinned_axes(controls, {"filled": True, "side": 30}, at_most=20)
        assert axes["filled"] == (False, True)
        assert len(axes["side"]) == 10
