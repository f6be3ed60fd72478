<<<<<<< HEAD
"""Explorer and Quiz: what reaches the browser, and the static twin beside it."""
=======
"""Player and Quiz: what reaches the browser, and the static twin beside it."""
>>>>>>> 8209ccd (Figures: explorers, controls and grids are tested)

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import course_lib.viz
<<<<<<< HEAD
from course_lib.viz import Choice, Explorer, PowerOfTwo, Quiz, Slider
=======
from course_lib.viz import Frame, Player, Quiz
>>>>>>> 8209ccd (Figures: explorers, controls and grids are tested)
from course_lib.viz.kit import static
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Rect, Text

PNG = b"\x89PNG"


def bar(length: int, state: str = "used") -> Scene:
    if length > 90:
        raise ValueError(f"{length} is too long; at most 90")
    shapes = (Rect(0, 0, length, 10, state, key="bar"), Text(0, 50, f"{length} px"))
    return Scene(100, 60, shapes, title="A bar", alt=f"{length} pixels, {state}")


def png_of(bundle: Any) -> bytes:
    data, _metadata = bundle
    assert "application/vnd.jupyter.widget-view+json" in data
    return b64decode(data["image/png"])


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Scene]:
    """Collect the scenes that matplotlib draws."""
    scenes: list[Scene] = []
    draw: Callable[..., None] = static.draw

    def spy(scene: Scene, axes: Any) -> None:
        scenes.append(scene)
        draw(scene, axes)

    monkeypatch.setattr(static, "draw", spy)
    return scenes


<<<<<<< HEAD
class TestExplorer:
    def test_moving_a_control_redraws_with_its_value(self) -> None:
        figure = explorer()
        figure.set(length=70, state="free")
        assert figure.values == {"length": 70, "state": "free"}
        assert figure.picture.frames[0]["scene"] == bar(70, "free").to_dict()

    def test_the_controls_are_real_widgets_with_labels_and_units(self) -> None:
        slider, dropdown = explorer().children[0].children
        assert isinstance(slider, ipywidgets.IntSlider)
        assert isinstance(dropdown, ipywidgets.Dropdown)
        assert slider.description == "Length (px)"
        slider.value = 41
        assert dropdown.options == (("in use", "used"), ("nobody's", "free"))

    def test_a_value_that_build_refuses_shows_its_message_until_the_next_good_one(self) -> None:
        figure = explorer()
        figure.set(length=95)
        assert figure.picture.message == "95 is too long; at most 90"
        figure.set(length=60)
        assert figure.picture.message == ""
        assert figure.picture.frames[0]["scene"] == bar(60).to_dict()

    def test_browser_and_static_twin_get_the_same_scene(self, drawn: list[Scene]) -> None:
        figure = explorer()
        figure.set(length=70)
        figure.static()
        assert drawn[-1].to_dict() == figure.picture.frames[0]["scene"]

    def test_the_static_twin_takes_other_values_without_moving_the_controls(
        self, drawn: list[Scene]
    ) -> None:
        figure = explorer()
        figure.static(state="free")
        assert drawn == [bar(40, "free")]
        assert figure.values["state"] == "used"

    def test_a_png_travels_with_the_widget(self) -> None:
        assert png_of(explorer()._repr_mimebundle_()).startswith(PNG)

    def test_an_unknown_control_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no control 'lenght'; known: length, state"):
            explorer().set(lenght=3)


class TestPowerOfTwo:
    def test_offers_every_power_between_its_bounds(self) -> None:
        slider = PowerOfTwo("Length", 256, 2048, 512, unit="tokens").widget()
        assert [value for _, value in slider.options] == [256, 512, 1024, 2048]
        assert slider.value == 512

    @pytest.mark.parametrize(("low", "high", "value"), [(3, 8, 4), (4, 8, 16), (0, 8, 4)])
    def test_refuses_other_numbers(self, low: int, high: int, value: int) -> None:
        with pytest.raises(ValueError, match=r"power of two|minimum <= value"):
            PowerOfTwo("Length", low, high, value)
=======
class TestPlayer:
    FILM = tuple(Frame(bar(length), f"now {length}") for length in range(10, 80, 10))

    def test_sends_all_frames_at_once_so_that_stepping_needs_no_kernel(self) -> None:
        frames = Player(self.FILM).frames
        assert [frame["caption"] for frame in frames] == [frame.caption for frame in self.FILM]
        assert [frame["scene"] for frame in frames] == [f.scene.to_dict() for f in self.FILM]

    def test_the_static_twin_shows_the_chosen_frames(self, drawn: list[Scene]) -> None:
        sheet = Player(self.FILM).static([1, 4])
        assert drawn == [self.FILM[1].scene, self.FILM[4].scene]
        assert [text.get_text().split() for text in sheet.texts] == [["now", "20"], ["now", "50"]]

    def test_by_default_the_sheet_runs_from_the_first_frame_to_the_last(
        self, drawn: list[Scene]
    ) -> None:
        Player(self.FILM).static()
        assert (drawn[0], drawn[-1]) == (self.FILM[0].scene, self.FILM[-1].scene)

    def test_a_png_travels_with_the_widget(self) -> None:
        assert png_of(Player(self.FILM[:1])._repr_mimebundle_()).startswith(PNG)

    def test_a_film_has_a_frame(self) -> None:
        with pytest.raises(ValueError, match="at least one frame"):
            Player([])
>>>>>>> 8209ccd (Figures: explorers, controls and grids are tested)


def question(**changes: Any) -> dict[str, Any]:
    return {
        "id": "kv",
        "prompt": "Is `2 < 3`?",
        "choices": [
            {"text": "yes", "correct": True, "feedback": "Two is less."},
            {"text": "<b>no</b>", "correct": False, "feedback": "It is."},
        ],
        **changes,
    }


class TestQuiz:
    def test_the_static_listing_does_not_give_the_answer_away(self) -> None:
        data, _ = Quiz([question()])._repr_mimebundle_()
        mirrored = question(
            choices=[{**c, "correct": not c["correct"]} for c in question()["choices"]]
        )
        other, _ = Quiz([mirrored])._repr_mimebundle_()
        for kind in ("text/plain", "text/html"):
            assert data[kind] == other[kind]
            assert "Two is less" not in data[kind]

    def test_the_static_listing_is_escaped(self) -> None:
        data, _ = Quiz([question()])._repr_mimebundle_()
        assert "&lt;b&gt;no&lt;/b&gt;" in data["text/html"]

    @pytest.mark.parametrize(
        ("questions", "message"),
        [
            ([], "at least one question"),
            ([question(), question()], "two questions have the id 'kv'"),
            ([{"id": "kv", "prompt": "?"}], "question 'kv' has no 'choices'"),
            ([question(choices=question()["choices"][:1])], "1 choices"),
            ([question(choices=question()["choices"][1:] * 2)], "0 correct choices"),
            ([question(choices=[{"text": "a", "correct": True}] * 2)], "has no 'feedback'"),
        ],
    )
    def test_questions_that_cannot_be_asked_are_refused(
        self, questions: list[dict[str, Any]], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            Quiz(questions)


def test_text_from_python_never_becomes_markup_in_the_browser() -> None:
    folder = Path(course_lib.viz.__file__).parent
    for module in [folder / "quiz.js", *folder.glob("kit/js/*.js")]:
        source = module.read_text(encoding="utf-8")
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML"):
            assert word not in source, module.name
