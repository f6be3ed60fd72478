"""Live: what is kept, how seldom it draws, and the film that it becomes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from course_lib.viz.kit import live as live_module
from course_lib.viz.kit.live import Live
from course_lib.viz.kit.player import Frame
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Rect


def draw(width: int) -> Frame:
    scene = Scene(200, 40, (Rect(0, 0, width, 9, "used", key="bar"),), "A bar", f"{width} wide")
    return Frame(scene, scene.alt, "wide" if width == 7 else "")


class Clock:
    """Time that passes only when somebody lets it."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(live_module, "time", clock)
    return clock


def test_afterwards_it_is_a_film_of_every_state_and_stands_at_its_end() -> None:
    with Live(draw) as live:
        for width in range(20):
            live.show(width)
    assert [frame.caption for frame in live.film] == [f"{width} wide" for width in range(20)]
    assert (live.count, live.index, live.marks) == (20, 19, [[7, "wide"]])


def test_it_draws_ten_times_a_second_at_most(clock: Clock) -> None:
    drawn: list[int] = []
    with Live(lambda width: drawn.append(width) or draw(width)) as live:
        for width in range(30):
            live.show(width)
            clock.now += 0.03
        assert drawn == [0, 4, 8, 12, 16, 20, 24, 28]
        assert live.frames[0]["caption"] == "28 wide"


def test_a_costly_picture_is_drawn_seldom(clock: Clock) -> None:
    def draw_slowly(width: int) -> Frame:
        clock.now += 0.03
        return draw(width)

    live = Live(draw_slowly, share=0.1)
    with live:
        started = clock.now
        for width in range(200):
            live.show(width)
            clock.now += 0.01
        passed = clock.now - started
        drawn_seconds = passed - 200 * 0.01
        assert drawn_seconds <= 0.1 * passed + 0.03


def test_states_that_there_is_no_time_for_are_not_even_made(clock: Clock) -> None:
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        clock.now += 0.001
        return number % 100

    with Live(draw, share=0.1) as live:
        for number in range(2000):
            live.offer(lambda number=number: make(number))
            clock.now += 0.001
    # A tenth of the time and the first 50 ms, but for the last state.
    assert 0.1 * 2000 <= len(made) <= 0.1 * (2000 + len(made)) + 52
    assert live.states == [number % 100 for number in made]


class Counter:
    """Something that runs and tells of its states."""

    def __init__(self) -> None:
        self.live: Live[int] | None = None

    @contextmanager
    def followed(self, live: Live[Any]) -> Iterator[None]:
        self.live = live
        yield
        self.live = None

    def run(self, steps: int) -> None:
        for step in range(steps):
            if self.live is not None:
                self.live.show(step)


def test_a_source_is_followed_inside_the_block_only() -> None:
    counter = Counter()
    live = Live(draw, counter)
    counter.run(3)
    with live:
        counter.run(5)
    counter.run(3)
    assert live.states == list(range(5))


def test_a_second_run_is_another_film() -> None:
    counter = Counter()
    live = Live(draw, counter)
    for steps in (9, 4):
        with live:
            assert live.frames[0]["caption"] == ""
            counter.run(steps)
    assert (live.count, live.index) == (4, 3)


def test_what_fails_is_a_film_up_to_there() -> None:
    live = Live(draw)

    def run() -> None:
        with live:
            live.show(1)
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        run()
    assert live.film == (draw(1),)


def test_without_a_state_it_says_that_nothing_has_happened() -> None:
    with Live(draw) as live:
        pass
    assert live.description.startswith("A live figure. Nothing has happened yet.")


def test_its_static_twin_tells_the_run() -> None:
    with Live(draw) as live:
        assert live.static().description == "A live figure. Nothing has happened yet."
        for width in range(20):
            live.show(width)
        assert live.description == "A bar. The last of 20 pictures: 19 wide"
    assert live.description == "A bar. The last of 20 pictures: 19 wide"
    expected = [f"Step {width + 1} of 20: {width} wide" for width in (0, 7, 19)]
    assert live.static().description == " ".join(["A bar.", *expected])


def test_its_static_twin_does_not_wait_for_a_long_film(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Live, "_take", lambda self, seconds: False)
    monkeypatch.setattr(Live, "_go_on_later", lambda self: None)
    with Live(draw) as live:
        for width in range(1000):
            live.show(width)
    assert len(live.film) == 1
    told = live.static().description
    assert told.startswith("A bar. Step 1 of 1,000: 0 wide Step 201 of 1,000: 200 wide")
    assert told.endswith("Step 1,000 of 1,000: 999 wide")
    assert live.description == "A bar. The last of 1,000 pictures: 999 wide"


CELLS = (
    """
from course_lib.viz.kit.live import Live
from course_lib.viz.kit.player import Frame
from course_lib.viz.kit.scene import Scene

def draw(number):
    return Frame(Scene(99, 20, (), "A count", f"It is {number}."), f"It is {number}.")

def run(live, steps):
    with live:
        for number in range(steps):
            live.show(number)
""",
    "run(Live(draw), 3)",
    "asked_for = Live(draw)\nasked_for",
    "run(asked_for, 4)",
    "again = Live(draw)\nrun(again, 2)",
    "run(again, 5)",
)


def test_in_a_notebook_the_picture_beside_the_widget_is_that_of_the_run() -> None:
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in CELLS],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    NotebookClient(notebook).execute()
    shown = [[output.data["text/plain"] for output in cell.outputs] for cell in notebook.cells]

    def told(steps: int) -> str:
        return f"A count. The last of {steps} pictures: It is {steps - 1}."

    # Where a cell has shown it already, it appears nowhere else.
    assert shown == [[], [told(3)], [told(4)], [], [told(2)], [told(5)]]
    views = [output.data for cell in notebook.cells for output in cell.outputs]
    assert all("application/vnd.jupyter.widget-view+json" in data for data in views)
