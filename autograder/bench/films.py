"""How large a long film of the figure kit is, and how soon each of its steps is there.

The film shows a pool of 64 blocks as tiles, its free queue, and the tables of the requests, one
frame for each call that a scheduler under load makes of its cache manager. ``Recorder`` records
the calls as it does for every figure. ``course bench figures`` measures it.
"""

from __future__ import annotations

import random
import statistics
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from autograder.bench.times import best_round
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.kv_cache.watch.recorder import Recorder
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig
from course_lib.viz.kit import bundle
from course_lib.viz.kit.page import front_end_state
from course_lib.viz.kit.player import Frame, Player
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Rect, Shape, Text

STEPS = 10_000
ROUNDS = 3
"""How often it is shown; the best round counts, since others use the machine as well."""

_BLOCKS, _COLUMNS, _TILE = 64, 16, 52
_QUEUE_TOP, _TABLES_TOP, _ROW, _SMALL = 268, 330, 28, 24
_ROWS = 8
_PROBE = Path(__file__).with_suffix(".js")


@dataclass(frozen=True)
class FilmReport:
    """What a long film costs, in the best of all rounds.

    Attributes:
        steps: Frames of the film.
        megabytes: What is sent to the browser for it.
        build_seconds: Until Python had recorded, drawn and encoded all of it.
        appear_ms: Until the browser shows the first frame, from the moment that it has the data.
        next_ms: For each step to the next frame, until the picture is there.
        jump_ms: The same for jumps to any frame.
    """

    steps: int
    megabytes: float
    build_seconds: float
    appear_ms: float
    next_ms: tuple[float, ...]
    jump_ms: tuple[float, ...]

    def __str__(self) -> str:
        return (
            f"{self.steps:,} steps, {self.megabytes:.2f} MB, built in {self.build_seconds:.1f} s; "
            f"appears in {self.appear_ms:.0f} ms; a step takes "
            f"{statistics.median(self.next_ms):.1f} ms (at most {max(self.next_ms):.1f}), a jump "
            f"{statistics.median(self.jump_ms):.1f} ms (at most {max(self.jump_ms):.1f})"
        )


def measure_film(browser: Any, steps: int = STEPS) -> FilmReport:
    """Make a long film and step through it in a browser.

    Args:
        browser: A chromium that Playwright drives.
        steps: How many frames the film has.
    """
    start = time.perf_counter()
    # In Playwright's thread an event loop runs, and a film would be made bit by bit.
    with ThreadPoolExecutor(1) as pool:
        film = pool.submit(lambda: Player(pool_film(steps))).result()
    build_seconds = time.perf_counter() - start
    chance = random.Random(3)
    neighbours = list(range(steps // 2, min(steps, steps // 2 + 300)))
    jumps = chance.sample(range(steps), 60)
    traits = front_end_state(film.get_state())
    traits["chunks"] = [b64encode(chunk).decode("ascii") for chunk in film.chunks]
    shown = {
        "script": bundle.script("figure.js"),
        "traits": traits,
        "places": [[n, film.film[n].caption] for n in (0, *neighbours, *jumps)],
    }
    found = [_watched(browser, shown) for _ in range(ROUNDS)]
    last = len(neighbours)
    return FilmReport(
        steps,
        sum(map(len, film.chunks)) / 1e6,
        build_seconds,
        min(measured["appearMs"] for measured in found),
        # The first of them is a jump.
        best_round(tuple(measured["stepMs"][1:last]) for measured in found),
        best_round(tuple(measured["stepMs"][last:]) for measured in found),
    )


def _watched(browser: Any, shown: dict[str, Any]) -> dict[str, Any]:
    """Show a film in a page of its own; return what films.js has measured."""
    page = browser.new_page()
    page.goto("about:blank")
    page.add_style_tag(content=bundle.styles("figure.js"))
    measured: dict[str, Any] = page.evaluate(_PROBE.read_text(encoding="utf-8"), shown)
    page.close()
    return measured


def pool_film(steps: int = STEPS) -> Iterator[Frame]:
    """Yield a film of a pool at work, one frame for each call.

    Args:
        steps: How many frames.

    >>> frames = list(pool_film(20))
    >>> len(frames), frames[0].caption
    (20, 'Call 0: start')
    """
    manager = KVCacheManager(num_blocks=_BLOCKS, block_size=4)
    scheduler = Scheduler(SchedulerConfig(max_num_seqs=_ROWS), manager)
    chance = random.Random(7)
    number = 0
    with Recorder(manager) as recorder:
        yield _frame(recorder.frames.pop(), 0)
        while number < steps - 1:
            _run_step(scheduler, chance)
            for record in recorder.frames[: steps - 1 - number]:
                number += 1
                yield _frame(record, number)
            recorder.frames.clear()


def _run_step(scheduler: Scheduler, chance: random.Random) -> None:
    """Let some requests come, and serve all of them for one step."""
    while len(scheduler.requests) < _ROWS + 2:
        name = f"r{chance.randrange(10**6)}"
        prompt = [chance.randrange(3) for _ in range(chance.randrange(4, 40))]
        scheduler.add_request(Request(name, prompt, max_tokens=chance.randrange(4, 40)))
    output = scheduler.schedule()
    sampled = {
        name: chance.randrange(3)
        for name in output.num_scheduled_tokens
        if scheduler.requests[name].num_computed_tokens >= scheduler.requests[name].num_tokens
    }
    scheduler.update_from_output(output, sampled)


def _frame(record: dict[str, Any], number: int) -> Frame:
    """Draw the pool after a call."""
    caption = f"Call {number:,}: {record['operation']}"
    shapes: list[Shape] = [Text(24, 34, f"{record['usage']:.0%} of the blocks in use")]
    for block in record["blocks"]:
        shapes.append(_tile(block["block_id"], block["state"], block["ref_cnt"]))
    for place, block_id in enumerate(record["free_queue"]):
        shapes.append(_queued(block_id, place))
    for row, (name, table) in enumerate(record["tables"].items()):
        shapes.append(_owner(name, row))
        shapes.extend(_entry(name, row, place, block_id) for place, block_id in enumerate(table))
    event = f"freed {record['arguments'][0]}" if record["operation"] == "free" else ""
    height = _TABLES_TOP + (_ROWS + 2) * _ROW
    return Frame(Scene(960, height, tuple(shapes), "A pool at work", caption), caption, event)


# Cached, so that what did not change is the same object in the next frame: the encoder then has
# nothing to compare.


@cache
def _tile(block_id: int, state: str, ref_cnt: int) -> Rect:
    row, column = divmod(block_id, _COLUMNS)
    return Rect(
        24 + column * _TILE,
        48 + row * _TILE,
        _TILE - 4,
        _TILE - 4,
        state,
        str(block_id),
        tooltip=f"block {block_id}: {state}, {ref_cnt} references",
        key=f"block-{block_id}",
        of=("block", block_id),
    )


@cache
def _queued(block_id: int, place: int) -> Rect:
    row, column = divmod(place, _BLOCKS // 2)
    left, top = 24 + column * _SMALL, _QUEUE_TOP + row * _SMALL
    key = f"queue-{block_id}"
    return Rect(left, top, 22, 22, "free", str(block_id), key=key, of=("block", block_id))


@cache
def _owner(name: str, row: int) -> Text:
    return Text(24, _TABLES_TOP + row * _ROW + 17, name, key=f"name-{name}", of=("request", name))


@cache
def _entry(name: str, row: int, place: int, block_id: int) -> Rect:
    return Rect(
        110 + place * _SMALL,
        _TABLES_TOP + row * _ROW,
        22,
        22,
        "in_use",
        str(block_id),
        key=f"{name}-{place}",
        of=("block", block_id),
    )
