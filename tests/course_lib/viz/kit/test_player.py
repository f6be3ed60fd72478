"""Player: what reaches the browser and when, and the contact sheet beside it."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from course_lib.viz import Frame, Picture, Player
from course_lib.viz.kit import player as player_module
from course_lib.viz.kit.encoding import read_chunk
from course_lib.viz.kit.player import sheet_positions
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Rect, Text


def bar(length: int) -> Scene:
    shapes = (Rect(0, 0, length, 10, "used", key="bar"), Text(0, 50, f"{length} px"))
    return Scene(100, 60, shapes, title="A bar", alt=f"{length} pixels")


T = TypeVar("T")

FILM = tuple(Frame(bar(length), f"now {length}") for length in range(10, 80, 10))


def captions(film: Player) -> list[str]:
    return [caption for chunk in film.chunks for caption in read_chunk(chunk)["captions"]]


def test_the_first_frame_is_sent_as_it_is_and_all_of_them_packed() -> None:
    film = Player(FILM)
    assert film.frames == [{"scene": bar(10).to_dict(), "caption": "now 10", "event": ""}]
    assert film.count == len(FILM)
    assert captions(film) == [frame.caption for frame in FILM]


def test_events_and_the_longest_caption_are_told_beforehand() -> None:
    film = Player([Frame(bar(1), "short"), Frame(bar(2), "much longer", "it happens")])
    assert film.marks == [[1, "it happens"]]
    assert film.longest == "much longer"


def test_the_static_twin_shows_the_chosen_frames(drawn: list[Scene]) -> None:
    sheet = Player(FILM).static([1, 4])
    assert drawn == [FILM[1].scene, FILM[4].scene]
    texts = [" ".join(text.get_text().split()) for text in sheet.texts]
    assert texts == ["Step 2 of 7: now 20", "Step 5 of 7: now 50"]


def test_by_default_the_sheet_runs_from_the_first_frame_to_the_last(drawn: list[Scene]) -> None:
    Player(FILM).static()
    assert (drawn[0], drawn[-1]) == (FILM[0].scene, FILM[-1].scene)


def test_the_sheet_of_a_film_with_events_shows_them(drawn: list[Scene]) -> None:
    film = Player(Frame(bar(n), "now", "halt" if n in (7, 40) else "") for n in range(90))
    film.static()
    assert drawn == [bar(0), bar(7), bar(40), bar(89)]


def test_of_many_events_the_sheet_shows_some_from_beginning_to_end() -> None:
    positions = sheet_positions(1000, range(100, 900), at_most=6)
    assert positions == [0, 100, 366, 633, 899, 999]


def test_a_png_travels_with_the_widget() -> None:
    data, _metadata = Player(FILM[:1])._repr_mimebundle_()
    assert b64decode(data["image/png"]).startswith(b"\x89PNG")


def test_a_film_has_a_frame() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        Player([])


def in_thread(work: Callable[[], T]) -> T:
    """Do something where no event loop runs; in the main thread, that of a browser may."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def moments(count: int) -> Iterator[Frame]:
    for number in range(count):
        yield Frame(bar(number % 90), f"now {number}")


def test_without_a_kernel_a_slow_film_is_complete_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player_module, "_PATIENCE", 0)
    film = in_thread(lambda: Player(moments(600)))
    assert captions(film) == [f"now {n}" for n in range(600)]


def test_in_a_kernel_a_slow_film_appears_at_once_and_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player_module, "_PATIENCE", 0)
    monkeypatch.setattr(player_module, "_SLICE", 0)

    async def show() -> tuple[list[int], Player]:
        film = Player(moments(600))
        counts = [film.count]
        film.observe(lambda change: counts.append(change.new), names="count")
        while film.count < 600:
            await asyncio.sleep(0)
        return counts, film

    counts, film = in_thread(lambda: asyncio.run(asyncio.wait_for(show(), 20)))
    assert counts[0] < 10
    assert len(counts) < 12, "all of it is sent each time, so it must not be sent too often"
    assert captions(film) == [f"now {n}" for n in range(600)]
    assert len(film.film) == 600


def test_the_sheet_of_a_film_that_is_still_being_made_says_that_it_is_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(player_module, "_PATIENCE", 0)
    monkeypatch.setattr(player_module, "_SLICE", 0)

    async def show() -> tuple[list[str], str, Player]:
        film = Player(moments(60))
        while len(film.film) < 10:
            await asyncio.sleep(0)
        texts = [" ".join(text.get_text().split()) for text in film.static().texts]
        return texts, film.description, film

    texts, description, film = in_thread(lambda: asyncio.run(show()))
    assert texts == ["Step 1: now 0", "Step 10: now 9"]
    assert description == "A bar. 0 pixels The beginning of a longer film."
    film.to_html()
    assert film.description == "A bar. 0 pixels The first of 60 pictures."


def test_a_choice_of_the_reader_reaches_python() -> None:
    picture, chosen = Picture(bar(10)), []
    picture.on_pick(chosen.append)
    picture._handle_custom_msg({"pick": ["block", 7]}, [])
    picture._handle_custom_msg({"other": 1}, [])
    assert chosen == [("block", 7)]


def test_a_picture_takes_a_narrow_form() -> None:
    picture = Picture(bar(10), narrow=bar(5))
    assert picture.frames[0]["narrow"] == bar(5).to_dict()
    picture.show(bar(20))
    assert "narrow" not in picture.frames[0]
