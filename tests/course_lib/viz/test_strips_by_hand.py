from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.kv_cache.allocators import (
    Allocator,
    BestFitAllocator,
    BuddyAllocator,
    FirstFitAllocator,
    Span,
    WorstFitAllocator,
)
from course_lib.kv_cache.watch.notation import strip_text
from course_lib.viz import compaction_film, queue_compaction_film, strip_film, strip_scene
from course_lib.viz.kit.layout import NARROW, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Rect
from course_lib.viz.strips.queue import conversations
from course_lib.viz.strips.steps import parse_operations, steps_of

LESSON = "A5 B3 C4 -B D2 -A E6 -D E6"
BUDDIES = "A3 B4 C4 D4 -B -C E8 -A -D"
KINDS = [FirstFitAllocator, BestFitAllocator, WorstFitAllocator, BuddyAllocator]


@st.composite
def operations(draw: st.DrawFn) -> str:
    """Draw operations of which some are refused, and some free what was refused."""
    words: list[str] = []
    asked: list[str] = []
    for letter in "ABCDEFGHIJ"[: draw(st.integers(1, 10))]:
        words.append(f"{letter}{draw(st.integers(1, 9))}")
        asked.append(letter)
        if draw(st.booleans()):
            words.append(f"-{asked.pop(draw(st.integers(0, len(asked) - 1)))}")
    return " ".join(words)


def _random_words(seed: int) -> str:
    """Return some of these operations, the same for the same seed."""
    draw = random.Random(seed)
    words: list[str] = []
    asked: list[str] = []
    for letter in "ABCDEFGHIJ":
        words.append(f"{letter}{draw.randint(1, 9)}")
        asked.append(letter)
        if draw.random() < 0.5:
            words.append(f"-{asked.pop(draw.randrange(len(asked)))}")
    return " ".join(words)


def boxes(scene: Scene, start: str) -> dict[str, Rect]:
    return {rect.key: rect for rect in scene.rects() if rect.key.startswith(start)}


class TestTheSteps:
    @pytest.mark.parametrize("make", KINDS)
    @given(words=operations())
    def test_each_shows_the_memory_as_it_is(
        self, make: Callable[[int], Allocator], words: str
    ) -> None:
        allocator = make(16)
        name_at: dict[int, str] = {}
        read = parse_operations(words)
        first, *others = steps_of(read, make, 16)
        assert first.strip.text == "." * 16
        for operation, step in zip(read, others, strict=True):
            num_holes = len(allocator.holes())
            offset = next((at for at, name in name_at.items() if name == operation.name), None)
            place = None
            if operation.size:
                place = allocator.allocate(operation.size)
                if place is not None:
                    name_at[place] = operation.name
            elif offset is not None:
                allocator.free(offset)
                del name_at[offset]
            assert step.strip.text == strip_text(allocator, name_at)
            assert list(step.strip.holes) == allocator.holes()
            assert list(step.strip.spans) == sorted(allocator.holes() + allocator.blocks())
            assert bool(step.wanted) == bool(operation.size and place is None)
            joined = sum(len(parts) for parts in step.parts.values())
            if offset is not None:
                assert len(allocator.holes()) == num_holes + 1 - max(joined - 1, 0)
            assert all(sum(parts) == hole.size for hole, parts in step.parts.items())

    def test_the_trace_of_the_lesson(self) -> None:
        steps = list(steps_of(parse_operations(LESSON), FirstFitAllocator, 16))
        assert [step.strip.text for step in steps[1:]] == [
            "AAAAA...........",
            "AAAAABBB........",
            "AAAAABBBCCCC....",
            "AAAAA...CCCC....",
            "AAAAADD.CCCC....",
            ".....DD.CCCC....",
            ".....DD.CCCC....",
            "........CCCC....",
            "EEEEEE..CCCC....",
        ]
        assert steps[8].said == (
            "D is freed. Its 2 slots become one hole with the 5 and the 1 beside them: "
            "5 + 2 + 1 = 8."
        )
        assert steps[8].parts == {Span(0, 8): (5, 2, 1)}

    def test_who_was_refused_may_be_freed_and_who_has_slots_asks_in_vain(self) -> None:
        steps = list(steps_of(parse_operations("A9 B9 -B A3"), FirstFitAllocator, 16))
        assert [step.said for step in steps[3:]] == [
            "B holds nothing, so nothing happens.",
            "A has its slots already, so nothing happens.",
        ]
        assert len({step.strip for step in steps[1:]}) == 1

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("", "no operations"),
            ("A5 b3", "'b3' is no operation"),
            ("A0", "'A0' is no operation"),
            ("A5 -B", "'-B' frees B, which has asked for nothing before"),
        ],
    )
    def test_what_cannot_be_read_is_refused(self, words: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            strip_film(words)


class TestTheFilm:
    def test_a_memory_has_slots(self) -> None:
        with pytest.raises(ValueError, match="num_slots is 0"):
            strip_film("A1", num_slots=0)

    def test_its_events(self) -> None:
        assert strip_film(LESSON).marks == [
            [7, "E6: enough, but in pieces"],
            [8, "−D: 3 become one"],
        ]
        assert strip_film("A16 B1").marks == [[2, "B1: too few are free"]]

    def test_every_slot_is_drawn_once_where_it_is(self) -> None:
        scene = strip_film(LESSON).film[6].scene
        found = {**boxes(scene, "block "), **boxes(scene, "hole ")}
        per_slot = found["block C"].width / 4
        left = found["hole 0"].x
        assert {
            key: (round((box.x - left) / per_slot, 6), round(box.width / per_slot, 6))
            for key, box in found.items()
        } == {
            "hole 0": (0, 5),
            "block D": (5, 2),
            "hole 7": (7, 1),
            "block C": (8, 4),
            "hole 12": (12, 4),
        }

    def test_what_has_become_one_hole_is_framed_with_its_sum(self) -> None:
        scene = strip_film(LESSON).film[8].scene
        holes = boxes(scene, "hole ")
        assert holes["hole 0"].label == "5 + 2 + 1 = 8"
        assert holes["hole 0"].outline == "bold"
        assert holes["hole 12"].outline == "thin"

    def test_what_is_refused_is_drawn_as_long_as_it_is(self) -> None:
        scene = strip_film(LESSON).film[7].scene
        (wanted,) = boxes(scene, "wanted").values()
        assert wanted.width / boxes(scene, "block C")["block C"].width == pytest.approx(6 / 4)
        assert scene.alt == (
            "E asks for 6 and gets nothing: 10 of 16 slots are free, in 3 holes; the largest has 5."
            " As text: .....DD.CCCC...."
        )

    def test_a_buddy_allocator_has_a_row_for_each_size(self) -> None:
        film = strip_film(BUDDIES, BuddyAllocator)
        rows = [
            {key: (box.y, box.outline) for key, box in boxes(frame.scene, "node ").items()}
            for frame in film.film
        ]
        assert list(rows[0]) == ["node 0/16"]
        assert set(rows[1]) == {"node 0/16", "node 0/8", "node 0/4", "node 4/4", "node 8/8"}
        split = {key for key, (_, outline) in rows[1].items() if outline == "dashed"}
        assert split == {"node 0/16", "node 0/8"}
        assert rows[1]["node 0/16"][0] < rows[1]["node 8/8"][0] < rows[1]["node 4/4"][0]
        # The holes 4 to 7 and 8 to 11 touch and are not buddies.
        assert {"node 4/4", "node 8/4"} <= set(rows[6])
        assert film.film[6].caption == (
            "−C: C is freed: a block of 4 at 8. Its buddy at 8 XOR 4 = 12 is in use. "
            "The free block at 4 touches it, and is not its buddy."
        )
        assert rows[-1] == rows[0]

    def test_buddies_become_one_merge_by_merge(self) -> None:
        film = strip_film(BUDDIES, BuddyAllocator)
        assert [frame.caption for frame in film.film[8:]] == [
            "−A: A is freed: a block of 4 at 0. Its buddy at 0 XOR 4 = 4 is free: 4 + 4 = 8, at 0. "
            "Its buddy at 0 XOR 8 = 8 is in use in part. "
            "The free block at 8 touches it, and is not its buddy.",
            "−D: D is freed: a block of 4 at 12. Its buddy at 12 XOR 4 = 8 is free: 4 + 4 = 8, "
            "at 8. Its buddy at 8 XOR 8 = 0 is free: 8 + 8 = 16, at 0.",
        ]
        assert film.marks[1:] == [[8, "−A: 4 + 4 = 8"], [9, "−D: 4 + 4 = 8, 8 + 8 = 16"]]

    def test_buddies_that_stay_apart_are_told(self) -> None:
        film = strip_film("A4 B4 C8 -A -B", NeverMerges)
        assert film.film[-1].caption == (
            "−B: B is freed: a block of 4 at 4. "
            "Its buddy at 4 XOR 4 = 0 is free as well, and the two stay apart."
        )

    def test_a_memory_of_another_size_has_blocks_without_a_buddy(self) -> None:
        film = strip_film("A8 B4 -B", BuddyAllocator, num_slots=12)
        assert film.film[-1].caption == "−B: B is freed: a block of 4 at 8."

    def test_a_memory_of_another_size_begins_with_several_trees(self) -> None:
        film = strip_film("A4 B3", BuddyAllocator, num_slots=12)
        assert set(boxes(film.film[0].scene, "node ")) == {"node 0/8", "node 8/4"}
        assert boxes(film.film[2].scene, "block B/rounded")

    def test_another_allocator_has_no_tree(self) -> None:
        assert not any(boxes(frame.scene, "node ") for frame in strip_film(LESSON).film)

    @pytest.mark.parametrize("make", KINDS)
    @pytest.mark.parametrize("num_slots", [12, 16, 40])
    def test_nothing_is_crowded_whatever_happens(
        self,
        make: Callable[[int], Allocator],
        num_slots: int,
        crowding: Callable[[Scene], list[str]],
    ) -> None:
        for seed in range(6):
            sizes = set()
            for frame in strip_film(_random_words(seed), make, num_slots).film:
                assert frame.narrow is not None
                assert crowding(frame.scene) == crowding(frame.narrow) == []
                sizes.add((frame.scene.height, frame.narrow.height))
            assert len(sizes) == 1

    @pytest.mark.parametrize("width", [WIDE, NARROW])
    def test_it_can_be_read_on_paper(
        self, width: float, collisions: Callable[[Scene], list[str]]
    ) -> None:
        for film in (strip_film(LESSON), strip_film(BUDDIES, BuddyAllocator)):
            for frame in film.film[-3:]:
                scene = frame.scene if width == WIDE else frame.narrow
                assert scene is not None
                assert collisions(scene) == []


class GivesTwice(FirstFitAllocator):
    """Does not look."""

    def allocate(self, size: int) -> int | None:
        return None if super().allocate(size) is None else 0


class Unfinished(FirstFitAllocator):
    """Has no ``free`` yet, and says so at length."""

    def free(self, offset: int) -> None:
        raise NotImplementedError("write the body of this method and then run the cell again " * 4)


class KeepsApart(FirstFitAllocator):
    """Does not coalesce."""

    def free(self, offset: int) -> None:
        self.sorted_holes.append(Span(offset, self.size_at.pop(offset)))
        self.sorted_holes.sort()


class NeverMerges(BuddyAllocator):
    """Files what is freed as it is."""

    def free(self, offset: int) -> None:
        order = self.order_at.pop(offset)
        self.free_offsets[order].add(offset)


class TestLearners:
    @pytest.mark.parametrize(
        ("make", "words", "problem"),
        [
            (GivesTwice, "A5 B3 C4", "A and B both got slot 0"),
            (Unfinished, "A5 B3 -A", "NotImplementedError: write the body"),
        ],
    )
    def test_what_goes_wrong_stands_where_the_strip_stood(
        self,
        make: Callable[[int], Allocator],
        words: str,
        problem: str,
        crowding: Callable[[Scene], list[str]],
    ) -> None:
        last = strip_film(words, make).film[-1]
        assert last.event == "goes wrong"
        assert f"the allocator goes wrong: {problem}" in last.caption
        assert any(text.startswith(problem) for text in last.scene.texts())
        assert not boxes(last.scene, "block ")
        assert last.narrow is not None
        assert crowding(last.scene) == crowding(last.narrow) == []

    def test_an_allocator_that_cannot_be_made_is_a_picture_too(self) -> None:
        def fails(num_slots: int) -> Allocator:
            raise TypeError(f"no memory of {num_slots}")

        (frame,) = strip_film("A5", fails).film
        assert frame.caption == "the allocator goes wrong: TypeError: no memory of 16."

    def test_holes_that_stay_apart_are_told(self) -> None:
        film = strip_film(LESSON, KeepsApart)
        assert film.film[8].caption == (
            "−D: D is freed. Its 2 slots become a hole; "
            "the holes at 0 and 7 touch it and stay apart."
        )
        assert set(boxes(film.film[8].scene, "hole ")) == {"hole 0", "hole 5", "hole 7", "hole 12"}


def test_a_scene_shows_an_allocator_and_its_text() -> None:
    allocator = FirstFitAllocator(16)
    name_at = {allocator.allocate(size) or 0: name for name, size in (("A", 5), ("B", 3))}
    scene = strip_scene(allocator, name_at, NARROW)
    assert scene.width == NARROW
    assert scene.alt == "8 of 16 slots are free, in 1 hole. As text: AAAAABBB........"
    assert "".join(text for text in scene.texts() if text in {"A", "B", "."}) == (
        "AAAAABBB........"
    )


class TestCompaction:
    def test_the_lesson(self) -> None:
        film = compaction_film("A5 B3 C4 -B D2 -A E6")
        assert [frame.caption for frame in film.film[1:]] == [
            "D slides from slot 5 to 0: 2 tokens are copied, 2 so far. The largest hole now has 6.",
            "E fits: it gets slots 2 to 7. 2 tokens were moved for it.",
        ]
        assert film.marks[-1] == [2, "E fits, 2 tokens moved"]

    @given(words=operations(), size=st.integers(1, 16))
    @settings(deadline=None)
    def test_blocks_keep_their_order_and_move_as_little_as_needed(
        self, words: str, size: int
    ) -> None:
        words = f"{words} Z{size}"
        last = list(steps_of(parse_operations(words), FirstFitAllocator, 16))[-1]
        if not last.strip.largest < last.num_wanted <= last.strip.free:
            with pytest.raises(ValueError, match="must ask for more than the largest hole"):
                compaction_film(words)
            return
        film = compaction_film(words).film
        places = [_places(frame.scene) for frame in film]
        moved = 0
        for before, now in pairwise(places[:-1]):
            assert list(now) == list(before)
            (name,) = [each for each in now if now[each] != before[each]]
            start, length = now[name]
            assert start < before[name][0]
            moved += length
            assert f"{moved} so far" in film[places.index(now)].caption
        assert places[-1]["Z"][1] == size
        assert {name: each for name, each in places[-1].items() if name != "Z"} == places[-2]
        assert f"{moved} tokens were moved" in film[-1].caption

    def test_holes_that_only_touch_need_no_move(self) -> None:
        film = compaction_film("A5 B3 -A -B C12", KeepsApart)
        assert [frame.caption for frame in film.film[1:]] == [
            "C fits: it gets slots 0 to 11. 0 tokens were moved for it."
        ]

    def test_large_memories_have_an_axis(self, crowding: Callable[[Scene], list[str]]) -> None:
        film = compaction_film("A900 B600 C500 D700 E453 -B -D F1100", num_slots=3600)
        for frame in film.film:
            assert frame.narrow is not None
            assert crowding(frame.scene) == crowding(frame.narrow) == []
        assert "slots, one token each" in set(film.film[0].scene.texts())

    @pytest.mark.parametrize(
        ("words", "make", "message"),
        [
            ("A5 B3", FirstFitAllocator, "must ask for more than the largest hole"),
            (BUDDIES.removesuffix(" -A -D"), BuddyAllocator, "a block was rounded up"),
            ("A5 B3", GivesTwice, "both got slot 0; mend it first"),
        ],
    )
    def test_what_cannot_be_compacted_is_refused(
        self, words: str, make: Callable[[int], Allocator], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            compaction_film(words, make)


class TestCompactionInTheQueue:
    """A queue in which two requests of 30 and 20 slots leave holes, and the next one needs 45."""

    REQUESTS = tuple(
        SimpleNamespace(prompt_tokens=prompt, output_tokens=output)
        for prompt, output in ((28, 2), (20, 10), (18, 2), (20, 10), (40, 5))
    )

    def test_only_what_is_written_is_copied(self) -> None:
        film = queue_compaction_film(self.REQUESTS, num_slots=110)
        assert [frame.caption for frame in film.film] == [
            "Iteration 2: request 4 needs 45 slots; 50 of 110 slots are free, in 2 holes; "
            "the largest has 30.",
            "Request 1 slides from slot 30 to 0: 23 tokens are copied, 23 so far. "
            "The largest hole now has 50.",
            "Request 4 fits: it gets slots 30 to 74. 23 tokens were moved for it.",
        ]
        assert film.marks == [
            [0, "request 4: enough, but in pieces"],
            [2, "request 4 fits, 23 tokens moved"],
        ]

    def test_the_lesson(self, crowding: Callable[[Scene], list[str]]) -> None:
        film = queue_compaction_film(conversations())
        for frame in film.film:
            assert frame.narrow is not None
            assert crowding(frame.scene) == crowding(frame.narrow) == []

    @pytest.mark.parametrize(
        ("num_slots", "make", "message"),
        [
            (200, FirstFitAllocator, "never free in pieces in 200 slots"),
            (160, BuddyAllocator, "a block was rounded up"),
            (110, GivesTwice, "request 0 and request 1 both got slot 0"),
        ],
    )
    def test_what_cannot_be_compacted_is_refused(
        self, num_slots: int, make: Callable[[int], Allocator], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            queue_compaction_film(self.REQUESTS, num_slots, make)


def _places(scene: Scene) -> dict[str, tuple[int, int]]:
    """Return where each block starts and how long it is, in slots, from left to right."""
    per_slot = (scene.width - 48) / 16
    found = boxes(scene, "block ").items()
    return {
        key.removeprefix("block "): (round((box.x - 24) / per_slot), round(box.width / per_slot))
        for key, box in sorted(found, key=lambda each: each[1].x)
    }
