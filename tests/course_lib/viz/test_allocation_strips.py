from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib import viz
from course_lib.kv_cache.allocators import (
    Allocator,
    BestFitAllocator,
    BuddyAllocator,
    FirstFitAllocator,
    Span,
)
from course_lib.kv_cache.reservation import (
    HasLengths,
    Snapshot,
    average_shares,
    replay_contiguous,
    replay_paged,
    reserve_oracle,
)
from course_lib.simulation.workload import synthetic_azure
from course_lib.viz import allocation_strips
from course_lib.viz.kit import player as player_module
from course_lib.viz.kit.player import Player
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Rect, Shape, Text, flatten
from course_lib.viz.strips.pieces import Piece
from course_lib.viz.strips.queue import (
    ALLOCATORS,
    colour_of,
    conversations,
    strips_scene,
)
from course_lib.viz.strips.rows import Instant, Memory, instants, make_rows


def requests_of(*lengths: tuple[int, int]) -> list[HasLengths]:
    return [SimpleNamespace(prompt_tokens=p, output_tokens=o) for p, o in lengths]


@pytest.fixture(scope="module")
def synthetic() -> list[HasLengths]:
    """The requests of the lesson where Azure's trace is not at hand."""
    short = [r for r in synthetic_azure()[:400] if r.prompt_tokens + r.output_tokens <= 1024]
    return list(short[:60])


@pytest.fixture(scope="module")
def film(synthetic: list[HasLengths]) -> Player:
    return allocation_strips(requests=synthetic)


few = st.lists(
    st.tuples(st.integers(1, 30), st.integers(1, 25)).map(lambda pair: requests_of(pair)[0]),
    min_size=1,
    max_size=25,
)


def replayed(
    requests: list[HasLengths], make: Callable[[int], Allocator]
) -> Iterator[tuple[Snapshot, Allocator]]:
    """Yield each iteration with a queue, and the allocator in it."""
    allocator = make(64)
    for each in replay_contiguous(requests, 64, reserve_oracle, 55, lambda _: allocator):
        yield each, allocator


class TestTheRows:
    @given(requests=few)
    @settings(deadline=None)
    def test_pieces_and_holes_are_the_memory_of_the_replay(
        self, requests: list[HasLengths]
    ) -> None:
        rows = make_rows(ALLOCATORS, requests, 64, 4)
        shown = {instant.step: instant for instant in instants(rows)}
        for name, make in ALLOCATORS.items():
            for snapshot, allocator in replayed(requests, make):
                memory = shown[snapshot.step].memories[name] if snapshot.step in shown else None
                if memory is None:
                    assert snapshot.step not in shown
                    continue
                assert list(memory.holes) == allocator.holes()
                blocks = [Span(piece.offset, piece.size) for piece in memory.pieces]
                assert blocks == allocator.blocks()
                placed = {(piece.request_id, piece.offset, piece.asked) for piece in memory.pieces}
                assert placed == {
                    (r.request_id, r.offset, r.reserved) for r in snapshot.reservations
                }
                assert (memory.first_waiting, memory.needed, memory.num_waiting) == (
                    snapshot.first_waiting,
                    snapshot.needed,
                    snapshot.num_waiting,
                )

    @given(requests=few)
    @settings(deadline=None)
    def test_paging_gives_each_request_its_blocks_and_no_slot_to_two(
        self, requests: list[HasLengths]
    ) -> None:
        rows = make_rows({}, requests, 64, 4)
        paged = {each.step: each for each in replay_paged(requests, 64, 4)}
        for instant in instants(rows):
            memory = instant.memories["paging"]
            assert (memory is None) == (instant.step not in paged)
            if memory is None:
                continue
            reserved = {r.request_id: r.reserved for r in paged[instant.step].reservations}
            slots = [s for p in memory.pieces for s in range(p.offset, p.offset + p.size)]
            slots += [slot for hole in memory.holes for slot in range(hole.offset, hole.end)]
            assert sorted(slots) == list(range(64))
            got = dict.fromkeys(reserved, 0)
            for piece in memory.pieces:
                got[piece.request_id] += piece.size
            assert got == reserved
            assert memory.free < memory.needed
            assert not memory.is_scattered

    @given(requests=few)
    @settings(deadline=None)
    def test_the_score_counts_what_the_replay_yields(self, requests: list[HasLengths]) -> None:
        rows = make_rows({"first fit": FirstFitAllocator}, requests, 64, 4)
        assert all(not instant.problems for instant in instants(rows))
        snapshots, num_scattered = [], 0
        for each, allocator in replayed(requests, FirstFitAllocator):
            snapshots.append(each)
            num_scattered += sum(hole.size for hole in allocator.holes()) >= each.needed
        paged = list(replay_paged(requests, 64, 4))
        for row, seen in zip(rows, (snapshots, paged), strict=True):
            score = row.score
            assert score.num_iterations == len(seen)
            assert score.used == (average_shares(seen)["used"] if seen else None)
        assert [row.num_scattered for row in rows] == [num_scattered, 0]

    def test_instants_are_those_in_which_something_happens(
        self, synthetic: list[HasLengths]
    ) -> None:
        seen = list(instants(make_rows(ALLOCATORS, synthetic, 4400, 16)))
        assert seen[0].step == 0
        for before, now in pairwise(seen):
            assert now.passed == now.step - before.step > 0
            running = [
                [memory and memory.running for memory in instant.memories.values()]
                for instant in (before, now)
            ]
            assert now.scattered or now.ended or running[0] != running[1]
        assert {name for instant in seen for name in instant.scattered} == set(ALLOCATORS)


class TestTheLesson:
    """What the figure shows where Azure's trace is not at hand."""

    def test_enough_but_in_pieces(self, synthetic: list[HasLengths]) -> None:
        seen = instants(make_rows(ALLOCATORS, synthetic, 4400, 16))
        first = next(instant for instant in seen if instant.scattered)
        assert (first.step, first.scattered) == (89, ("first fit", "best fit", "worst fit"))
        memory = first.memories["first fit"]
        assert memory is not None
        assert [hole.size for hole in memory.holes] == [522, 653]
        assert (memory.first_waiting, memory.needed) == ("6", 1011)

    def test_the_scoreboard(self, film: Player) -> None:
        last = film.film[-1]
        assert last.caption == (
            "The end. Iterations with a queue: paging 1,341, best fit 1,683, first fit 1,830, "
            "worst fit 1,884 and buddy 1,912. Slots that held a token meanwhile: paging 91%, "
            "best fit 74%, first fit 68%, worst fit 67% and buddy 67%."
        )
        assert last.scene.alt == last.caption
        widths = {r.key: r.width for r in last.scene.rects() if r.key.endswith("/waiting")}
        assert widths["paging/waiting"] / widths["buddy/waiting"] == pytest.approx(1341 / 1912)

    def test_its_events(self, film: Player) -> None:
        assert [event for _, event in film.marks] == [
            "the first in line waits",
            "first fit, best fit and worst fit: enough, but in pieces",
            "buddy: enough, but in pieces",
            "the end",
        ]
        in_pieces = film.film[film.marks[1][0]]
        assert in_pieces.caption.endswith(
            ": first fit, best fit and worst fit: request 6 needs 1,011 slots, 1,175 are free, but "
            "the largest hole has 653."
        )
        assert "waits for 1,011: enough, but in pieces." in in_pieces.scene.alt

    def test_it_replays_short_conversations_of_the_trace(self) -> None:
        chosen = conversations(count=30, most_tokens=500)
        assert len(chosen) == 30
        assert all(each.prompt_tokens + each.output_tokens <= 500 for each in chosen)

    def test_nothing_is_crowded_and_all_pictures_are_of_one_size(
        self, film: Player, crowding: Callable[[Scene], list[str]]
    ) -> None:
        sizes = set()
        for frame in film.film:
            assert frame.narrow is not None
            assert crowding(frame.scene) == crowding(frame.narrow) == []
            sizes.add((frame.scene.height, frame.narrow.height))
        assert len(sizes) == 1

    def test_it_can_be_read_on_paper(
        self, film: Player, collisions: Callable[[Scene], list[str]]
    ) -> None:
        for position, _ in film.marks:
            frame = film.film[position]
            assert frame.narrow is not None
            assert collisions(frame.scene) == collisions(frame.narrow) == []


def test_its_sheet_has_the_end_while_it_is_still_being_drawn(
    synthetic: list[HasLengths], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(player_module, "_PATIENCE", 0)
    monkeypatch.setattr(player_module, "_SLICE", 0)

    async def show() -> tuple[int, list[str], str]:
        film = allocation_strips(requests=synthetic)
        texts = [" ".join(text.get_text().split()) for text in film.static().texts]
        return len(film.film), texts, film.description

    with ThreadPoolExecutor(1) as pool:  # no event loop runs there, that of a browser may here
        drawn, texts, description = pool.submit(lambda: asyncio.run(show())).result()
    assert drawn < 10
    assert texts[0].startswith("Step 1 of 106: Iteration 0: ")
    assert texts[1].startswith("Step 4 of 106: Iteration 89 ")
    assert texts[-1].startswith("Step 106 of 106: The end. Iterations with a queue: paging 1,341, ")
    assert "The first of 106 pictures. The end. Iterations with a queue: paging" in description


MEMORY = Memory(
    num_slots=1000,
    pieces=(Piece("3", 0, 300, 512), Piece("4", 600, 100, 100)),
    holes=(Span(512, 88), Span(700, 300)),
    running=("4", "3"),
    num_waiting=2,
    first_waiting="8",
    needed=350,
)
INSTANT = Instant(7, 2, {"first": MEMORY, "second": MEMORY}, {}, ("first", "second"))


def shapes_of(scene: Scene, kind: str, name: str) -> list[Shape]:
    return [s for s in flatten(scene.shapes) if getattr(s, "of", None) == (kind, name)]


class TestThePicture:
    def test_pieces_stand_where_they_are(self) -> None:
        scene = strips_scene(INSTANT, 1000)
        boxes = {rect.key: rect for rect in scene.rects() if rect.key}
        strip = boxes["first/memory"]
        per_slot = strip.width / 1000
        found = {
            key: (round((box.x - strip.x) / per_slot, 6), round(box.width / per_slot, 6), box.state)
            for key, box in boxes.items()
            if key.startswith("first/") and key != "first/memory"
        }
        assert found == {
            "first/3/0": (0, 300, colour_of("3")),
            "first/3/0/rounded": (300, 212, "internal"),
            "first/4/0": (600, 100, colour_of("4")),
        }

    def test_a_request_has_one_colour_and_lights_in_all_rows(self) -> None:
        scene = strips_scene(INSTANT, 1000)
        shapes = shapes_of(scene, "request", "4")
        assert len(shapes) == 2
        assert {shape.state for shape in shapes if isinstance(shape, Rect)} == {colour_of("4")}
        assert colour_of("3") != colour_of("4")

    def test_a_hole_tells_its_size_and_the_sum_lights_all_of_them(self) -> None:
        scene = strips_scene(INSTANT, 1000)
        (hole,) = shapes_of(scene, "hole", "first 700")
        assert isinstance(hole, Rect)
        assert hole.tooltip == "hole of 300 slots: 700 to 999"
        sums = [s for s in flatten(scene.shapes) if isinstance(s, Text) and s.text == "388 free"]
        assert sums[0].tooltip == "88 + 300 = 388 slots"
        assert sums[0].lights == (("hole", "first 512"), ("hole", "first 700"))

    def test_what_is_needed_is_drawn_to_scale(self) -> None:
        scene = strips_scene(INSTANT, 1000)
        need = next(s for s in shapes_of(scene, "request", "8") if isinstance(s, Rect))
        strip = next(rect for rect in scene.rects() if rect.key == "first/memory")
        assert need.width / strip.width == pytest.approx(0.35)
        assert {"waits: enough, but in pieces", "largest hole 300"} <= set(scene.texts())

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"needed": 389}, "waits: too few are free"),
            ({"needed": 300}, "waits, though a hole is large enough"),
            ({"needed": 400, "is_paged": True}, "any block will do"),
        ],
    )
    def test_why_somebody_waits(self, change: dict[str, int], said: str) -> None:
        memory = replace(MEMORY, **change)
        assert said in set(strips_scene(Instant(7, 2, {"one": memory}, {}), 1000).texts())


class Raises(FirstFitAllocator):
    """Works for a while."""

    def free(self, offset: int) -> None:
        raise KeyError(offset)


class GivesTwice(FirstFitAllocator):
    """Does not look."""

    def allocate(self, size: int) -> int | None:
        return None if super().allocate(size) is None else 0


class GivesOutside(FirstFitAllocator):
    """Counts from 1."""

    def allocate(self, size: int) -> int | None:
        offset = super().allocate(size)
        if offset is None:
            return None
        self.size_at[offset + 50] = self.size_at.pop(offset)
        return offset + 50


class Loses(FirstFitAllocator):
    """Forgets what is given back."""

    def free(self, offset: int) -> None:
        del self.size_at[offset]


class Refuses(FirstFitAllocator):
    """Has no room for anybody."""

    def allocate(self, size: int) -> int | None:
        return None


class KeepsApart(FirstFitAllocator):
    """Does not coalesce, which is no contradiction."""

    def free(self, offset: int) -> None:
        self.sorted_holes.append(Span(offset, self.size_at.pop(offset)))
        self.sorted_holes.sort()


def unfinished(num_slots: int) -> Allocator:
    raise NotImplementedError("write __init__")


SMALL = requests_of((30, 3), (30, 5), (35, 4), (40, 2), (20, 6), (10, 9))


class TestLearners:
    @pytest.mark.parametrize(
        ("make", "problem"),
        [
            (Raises, "KeyError: 0"),
            (GivesTwice, "request 0 and request 1 both got slot 0"),
            (GivesOutside, "request 1 got slots 83 to 117; there are slots 0 to 99"),
            (Loses, "slots 0 to 32 are in no block and in no hole"),
            (Refuses, "request 0 still does not get its 33 slots; the largest hole has 100"),
            (unfinished, "NotImplementedError: write __init__"),
        ],
    )
    def test_what_goes_wrong_is_said_and_the_others_go_on(
        self,
        make: Callable[[int], Allocator],
        problem: str,
        crowding: Callable[[Scene], list[str]],
    ) -> None:
        film = allocation_strips({"yours": make, "best fit": BestFitAllocator}, SMALL, 100)
        alone = allocation_strips({"best fit": BestFitAllocator}, SMALL, 100)
        wrong = [frame for frame in film.film if "yours: went wrong" in frame.event]
        assert len(wrong) == 1
        assert problem in wrong[0].caption
        assert problem in wrong[0].scene.alt
        said = "stuck: nothing runs any more" if make is Refuses else problem
        assert said in set(wrong[0].scene.texts())
        assert problem in film.film[-1].caption
        counted = alone.film[-1].caption.split("queue: ")[1].split(" and ")[0].split(".")[0]
        assert counted in film.film[-1].caption
        for frame in film.film:
            assert crowding(frame.scene) == []

    def test_holes_that_do_not_become_one_are_drawn_as_they_are(self) -> None:
        rows = make_rows({"yours": KeepsApart}, SMALL, 100, None)
        memory = list(instants(rows))[-1].memories["yours"]
        assert memory is not None
        assert [hole.size for hole in memory.holes] == [33, 35, 32]
        assert (memory.first_waiting, memory.needed, memory.is_scattered) == ("2", 39, True)
        assert rows[0].problem == (
            "nothing runs, and request 2 still does not get its 39 slots; the largest hole has 35"
        )

    def test_a_long_error_and_a_long_name_are_cut(
        self, crowding: Callable[[Scene], list[str]]
    ) -> None:
        def fails(num_slots: int) -> Allocator:
            raise ValueError("the memory that was asked for is not one that I can make " * 5)

        film = allocation_strips({"an allocator with a very long name " * 3: fails}, SMALL, 100)
        for frame in film.film:
            assert frame.narrow is not None
            assert crowding(frame.scene) == crowding(frame.narrow) == []


def test_a_set_for_which_nobody_waits_is_told(crowding: Callable[[Scene], list[str]]) -> None:
    film = allocation_strips(requests=SMALL[:2], num_slots=200)
    assert film.film[-1].caption.startswith("The end. Iterations with a queue: first fit 0,")
    assert "token" not in film.film[-1].caption
    assert all(crowding(frame.scene) == [] for frame in film.film)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"requests": []}, "no requests"),
        ({"allocators": {}, "block_size": None}, "no allocator and no paging"),
        ({"allocators": {"paging": BuddyAllocator}}, "rename it"),
        ({"block_size": 0}, "block_size is 0"),
        ({"num_slots": 40}, "a request has 42 tokens, but the memory has 40 slots"),
    ],
)
def test_what_makes_no_figure_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        allocation_strips(**{"requests": SMALL, **arguments})  # type: ignore[arg-type]


def test_the_figure_is_found_where_its_modules_have_been_loaded() -> None:
    assert viz.allocation_strips is allocation_strips


def captions(film: Player) -> Sequence[str]:
    return [frame.caption for frame in film.film]


def test_captions_group_rows_that_do_the_same() -> None:
    film = allocation_strips({"a": FirstFitAllocator, "b": FirstFitAllocator}, SMALL, 100, None)
    assert captions(film)[0] == "Iteration 0: a and b: 2 run, 4 wait."
    assert all("a and b" in caption for caption in captions(film)[:-1])
