"""Films and size forms: what `figure.js`, `player.js` and `reel.js` do with a widget's traits."""

from __future__ import annotations

from typing import Any

import pytest

from course_lib.viz.kit.encoding import CHUNK
from course_lib.viz.kit.live import Live
from course_lib.viz.kit.player import Frame, Player
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Group, Rect, Shape, Text
from course_lib.viz.kit.view import Figure, Picture

pytestmark = pytest.mark.browser

EVENTS = {3: "A waits", 7: "A goes on"}


def scene(x: float, width: float = 960, *more: Shape) -> Scene:
    box = Rect(x, 10, 40, 30, "used", "box", key="box", of=("block", 7))
    return Scene(width, 120, (box, Text(20, 80, f"x = {x:g}"), *more), "A box", f"A box at {x:g}")


def film(count: int = 12, narrow: bool = False, **options: Any) -> Player:
    """Return a film with two events, in which the box stands still in frames 8 to 10."""
    places = [8 if number in (9, 10) else number for number in range(count)]
    return Player(
        [
            Frame(
                scene(10 * place),
                f"The box is at {10 * place}.",
                EVENTS.get(number, ""),
                scene(5 * place, 560) if narrow else None,
            )
            for number, place in enumerate(places)
        ],
        **options,
    )


def traits(figure: Figure) -> dict[str, Any]:
    """Return what the browser gets of a widget."""
    names = [name for name in figure.traits(sync=True) if not name.startswith("_")]
    skipped = {"layout", "tabbable", "tooltip"}
    return {name: getattr(figure, name) for name in names if name not in skipped}


def caption(kit: Any) -> str:
    return str(kit.page.locator(".caption-words").inner_text())


def wait_for_caption(kit: Any, text: str) -> None:
    script = "text => document.querySelector('.caption-words').textContent === text"
    kit.page.wait_for_function(script, arg=text)


def press(kit: Any, key: str) -> None:
    kit.page.keyboard.press(key)


def test_a_picture_has_no_bar_and_no_caption(kit: Any) -> None:
    kit.mount(traits(Picture(scene(50))))
    kit.page.locator("svg.scene").wait_for()
    assert not kit.page.locator(".scene-bar").is_visible()
    assert not kit.page.locator(".scene-caption").is_visible()
    assert kit.page.get_by_role("group", name="A box", exact=True).count() == 1


def test_the_keys_step_and_lead_to_events(kit: Any) -> None:
    kit.mount(traits(film()))
    wait_for_caption(kit, "The box is at 0.")
    kit.page.locator(".scene-root").focus()
    for key, place in (
        ("ArrowRight", 10),
        ("PageDown", 30),
        ("PageDown", 70),
        ("PageDown", 70),
        ("PageUp", 30),
        ("End", 110),
        ("ArrowRight", 110),
        ("ArrowLeft", 80),
        ("Home", 0),
    ):
        press(kit, key)
        wait_for_caption(kit, f"The box is at {place}.")


def test_after_a_click_on_a_button_the_arrow_keys_step(kit: Any) -> None:
    kit.mount(traits(film()))
    wait_for_caption(kit, "The box is at 0.")
    kit.page.get_by_role("button", name="One step forward").click()
    wait_for_caption(kit, "The box is at 10.")
    press(kit, "ArrowRight")
    wait_for_caption(kit, "The box is at 20.")
    press(kit, "ArrowLeft")
    wait_for_caption(kit, "The box is at 10.")


def test_buttons_and_scrubber_say_where_they_lead_and_where_the_film_is(kit: Any) -> None:
    kit.mount(traits(film()))
    wait_for_caption(kit, "The box is at 0.")
    kit.page.get_by_role("button", name="Next event: A waits (picture 4)").click()
    wait_for_caption(kit, "The box is at 30.")
    scrubber = kit.page.get_by_role("slider", name="Step")
    assert scrubber.get_attribute("aria-valuetext") == "picture 4 of 12: The box is at 30."
    assert kit.page.locator(".scene-counter").inner_text() == "4 / 12"
    scrubber.focus()
    press(kit, "ArrowRight")
    wait_for_caption(kit, "The box is at 40.")
    assert kit.page.get_by_role("button", name="Previous event: A waits (picture 4)").count() == 1
    # JupyterLab takes keys that come so far, to go from cell to cell.
    kit.run("window.addEventListener('keydown', (event) => event.preventDefault())")
    press(kit, "ArrowUp")
    wait_for_caption(kit, "The box is at 50.")
    press(kit, "ArrowDown")
    wait_for_caption(kit, "The box is at 40.")


def test_a_mark_on_the_scrubber_has_the_name_of_its_event_and_leads_there(kit: Any) -> None:
    kit.mount(traits(film()))
    marks = kit.page.locator(".bar-tick")
    assert [marks.nth(n).get_attribute("title") for n in range(2)] == [
        "A waits (picture 4)",
        "A goes on (picture 8)",
    ]
    marks.nth(1).click()
    wait_for_caption(kit, "The box is at 70.")


def test_play_passes_over_steps_in_which_nothing_happens(kit: Any) -> None:
    kit.mount(traits(film(interval=20)) | {"index": 8})
    wait_for_caption(kit, "The box is at 80.")
    kit.page.get_by_role("button", name="Play").click()
    wait_for_caption(kit, "+2 steps The box is at 110.")
    assert kit.page.get_by_role("button", name="Play").count() == 1  # it has come to its end


def test_speed_is_a_choice_that_keeps_its_own_keys(kit: Any) -> None:
    kit.mount(traits(film()))
    wait_for_caption(kit, "The box is at 0.")
    speed = kit.page.get_by_role("combobox", name="Speed")
    speed.focus()
    press(kit, "ArrowDown")
    assert speed.input_value() == "2"
    assert caption(kit) == "The box is at 0."


def test_space_plays_and_pauses_at_the_chosen_speed(kit: Any) -> None:
    kit.open()
    kit.page.clock.install()
    # The page's clock goes on by itself, too: what the test takes must not matter.
    kit.mount(traits(film(interval=400_000)))
    wait_for_caption(kit, "The box is at 0.")
    kit.page.get_by_role("combobox", name="Speed").select_option("4")
    kit.page.locator(".scene-root").focus()
    press(kit, " ")
    kit.page.get_by_role("button", name="Pause").wait_for()
    kit.page.clock.run_for(80_000)
    assert caption(kit) == "The box is at 0."
    kit.page.clock.run_for(20_000)
    wait_for_caption(kit, "The box is at 10.")
    press(kit, " ")
    kit.page.clock.run_for(400_000)
    assert caption(kit) == "The box is at 10."


SHORTCUTS = """
  window.heard = [];
  document.addEventListener("keydown", (event) => window.heard.push(event.key));
"""


def test_only_keys_that_the_figure_uses_are_kept_from_the_page(kit: Any) -> None:
    kit.mount(traits(film()))
    wait_for_caption(kit, "The box is at 0.")
    kit.run(SHORTCUTS)
    kit.page.locator(".scene-root").focus()
    for key in ("ArrowRight", "Control+s", "Home", "x", "Control+ArrowRight"):
        press(kit, key)
    wait_for_caption(kit, "The box is at 0.")
    assert kit.run("return window.heard") == ["Control", "s", "x", "Control", "ArrowRight"]


def test_captions_of_other_lengths_do_not_move_the_picture(kit: Any) -> None:
    long = "A sentence that goes on and on, " * 12
    frames = [Frame(scene(n), long if n == 2 else "Short.") for n in range(4)]
    kit.mount(traits(Player(frames)))
    wait_for_caption(kit, "Short.")
    top = kit.page.locator("svg.scene").bounding_box()["y"]
    kit.set(index=2)
    wait_for_caption(kit, long)
    assert kit.page.locator("svg.scene").bounding_box()["y"] == top


LINKED = """
  const { default: figure } = await import("/js/figure.js");
  const models = argument.map((traits) => new page.FakeModel(traits));
  for (const model of models) {
    const el = document.createElement("div");
    document.body.append(el);
    figure.render({ model, el });
  }
  page.models = models;
"""


def test_players_with_the_same_link_move_together(kit: Any) -> None:
    kit.open()
    films = [film(link="a"), film(5, link="a"), film(link="b"), film()]
    kit.run(LINKED, [traits(each) for each in films])
    kit.page.locator(".scene-root").first.focus()
    press(kit, "PageDown")
    press(kit, "ArrowRight")
    kit.page.wait_for_function("() => window.kitPage.models[0].get('index') === 4")
    assert kit.run("return page.models.map((model) => model.get('index'))") == [4, 4, 0, 0]


def test_the_form_follows_the_width_of_the_page(kit: Any) -> None:
    kit.mount(traits(film(narrow=True)))
    for width, box in ((1100, "0 0 960 120"), (600, "0 0 560 120"), (1100, "0 0 960 120")):
        kit.page.set_viewport_size({"width": width, "height": 700})
        script = "box => document.querySelector('svg.scene').getAttribute('viewBox') === box"
        kit.page.wait_for_function(script, arg=box)


def test_a_picture_too_wide_for_the_page_scrolls_and_its_bar_does_not(kit: Any) -> None:
    kit.open(width=480)
    kit.mount(traits(film()))
    picture = kit.page.locator("svg.scene")
    picture.wait_for()
    assert picture.bounding_box()["width"] == pytest.approx(0.75 * 960, abs=1)
    for control in kit.page.locator(".scene-bar button, .scene-bar input, .scene-bar select").all():
        if control.is_visible():
            box = control.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 480
    assert kit.run("return document.documentElement.scrollWidth") <= 480


EDGES = """
  const { classList } = document.querySelector(".scene-stage");
  return ["left", "right"].filter((side) => classList.contains(`scene-more-${side}`));
"""


def test_a_picture_that_goes_on_beyond_the_edge_says_so_and_the_keyboard_gets_there(
    kit: Any,
) -> None:
    kit.open(width=480)
    kit.mount(traits(film()))
    rest = kit.page.get_by_role("group", name="Part of the picture")
    rest.wait_for()
    assert kit.run(EDGES) == ["right"]
    hint = "return getComputedStyle(document.querySelector('.scene-stage'), '::after').content"
    assert "\u203a" in kit.run(hint)
    # A browser that is driven by tests shows no bars; their style makes those of others stay.
    bar = "getComputedStyle(document.querySelector('.scene-scroller'), '::-webkit-scrollbar')"
    assert kit.run(f"return {bar}.height") == "14px"
    rest.focus()
    kit.page.keyboard.press("ArrowRight")
    kit.page.wait_for_function("() => document.querySelector('.scene-scroller').scrollLeft > 1")
    assert kit.model("index") == 0
    kit.run("document.querySelector('.scene-scroller').scrollLeft = 1000")
    kit.page.wait_for_function("() => !document.querySelector('.scene-more-right')")
    assert kit.run(EDGES) == ["left"]
    kit.page.set_viewport_size({"width": 1100, "height": 700})
    kit.page.wait_for_function("() => !document.querySelector('.scene-more-left')")
    assert rest.count() == 0


SCENES = """
  const { createReel } = await import("/js/reel.js");
  const reel = createReel(argument);
  const scenes = [];
  for (let index = 0; index < reel.count; index++) scenes.push(await reel.frame(index, "wide"));
  return scenes;
"""


def grouped(number: int) -> Scene:
    inside = Group((Rect(number % 7, 0, 5, 5, "used", key="inner"), Text(0, 9, "a")), key="group")
    more = [Rect(n, 50, 5, 5, "free", key=f"r{n}") for n in range(number % 5)]
    return scene(number % 3, 960, inside, *more)


def test_the_browser_reads_a_film_as_python_wrote_it(kit: Any) -> None:
    frames = [Frame(grouped(n), f"{n}", "now" if n == 9 else "") for n in range(CHUNK + 20)]
    kit.open()
    read = kit.run(SCENES, traits(Player(frames)))
    for frame, got in zip(frames, read, strict=True):
        expected = frame.scene.to_dict()
        got["scene"].pop("states")
        expected.pop("states")
        assert got == {"scene": expected, "caption": frame.caption, "event": frame.event}


IDENTITY = """
  const { createReel } = await import("/js/reel.js");
  const reel = createReel(argument);
  const shapes = async (index) => (await reel.frame(index, "wide")).scene.shapes;
  const [before, after, again] = [await shapes(5), await shapes(6), await shapes(5)];
  const kept = after.filter((shape) => before.includes(shape)).map((shape) => shape.id);
  return [kept, before.every((shape, n) => shape === again[n])];
"""


def test_shapes_that_did_not_change_are_the_same_objects(kit: Any) -> None:
    frames = [Frame(scene(n, 960, Text(0, 100, "still", key="still")), "") for n in range(9)]
    kit.open()
    assert kit.run(IDENTITY, traits(Player(frames))) == [["still"], True]


def test_a_film_that_grows_keeps_its_place(kit: Any) -> None:
    whole = traits(film(300))
    short = traits(film(20))
    kit.mount(short | {"index": 15})
    wait_for_caption(kit, "The box is at 150.")
    kit.set(**{name: whole[name] for name in ("chunks", "count", "marks", "runs", "longest")})
    kit.page.locator(".scene-counter", has_text="16 / 300").wait_for()
    kit.set(index=299)
    wait_for_caption(kit, "The box is at 2990.")


def test_a_message_stands_in_place_of_the_picture(kit: Any) -> None:
    kit.mount(traits(Picture(scene(50))))
    kit.page.locator("svg.scene").wait_for()
    kit.set(message="95 is too long; at most 90")
    kit.page.get_by_role("alert").get_by_text("95 is too long").wait_for()
    assert not kit.page.locator("svg.scene").is_visible()
    kit.set(message="")
    kit.page.locator("svg.scene").wait_for()


def test_a_choice_is_told_to_python_where_it_listens(kit: Any) -> None:
    figure = Picture(scene(50))
    kit.mount(traits(figure))
    box = kit.page.locator("[data-key=box]")
    box.click()
    assert kit.sent() == []
    figure.on_pick(lambda thing: None)
    kit.set(picks=figure.picks)
    box.click()
    assert kit.sent() == [{"pick": ["block", 7]}]


def test_a_live_figure_shows_what_is_new_and_then_its_film(kit: Any) -> None:
    def draw(place: int) -> Frame:
        return Frame(scene(place), f"The box is at {place}.")

    live = Live(draw)
    kit.mount(traits(live))
    kit.page.locator("svg.scene").get_by_text("Nothing has happened yet.").wait_for()
    with live:
        for place in (10, 20):
            live._next_picture = 0
            live.show(place)
            kit.set(**traits(live))
            wait_for_caption(kit, f"The box is at {place}.")
            assert not kit.page.locator(".scene-bar").is_visible()
    kit.set(**traits(live))
    kit.page.locator(".scene-counter", has_text="2 / 2").wait_for()
    kit.page.locator(".scene-root").focus()
    press(kit, "ArrowLeft")
    wait_for_caption(kit, "The box is at 10.")
