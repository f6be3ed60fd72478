"""Films as changes: what is read back is what was put in, whatever came and went."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from course_lib.viz.kit.encoding import CHUNK, FilmEncoder, FormEncoder, read_chunk
from course_lib.viz.kit.scene import Scene
from course_lib.viz.kit.shapes import Cells, Group, Line, Rect, Shape, Text

STATES = ("used", "free", "cached", "shared")


def applied(changes: list[dict[str, Any]], states: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Read a chunk by the words in the head of ``encoding``: the scenes as ``to_dict`` has them."""
    head: dict[str, Any] = {}
    shapes: dict[str, dict[str, Any]] = {}
    order: list[str] = []

    def built(shape_id: str) -> dict[str, Any]:
        shape = {"id": shape_id, **shapes[shape_id]}
        if shape["kind"] == "group":
            shape["shapes"] = [built(member) for member in shape.pop("members")]
        return shape

    for change in changes:
        head = {**head, **change.get("head", {})}
        for shape_id in change.get("drop", ()):
            del shapes[shape_id]
        for shape_id, values in change.get("set", {}).items():
            before = {} if "kind" in values else shapes[shape_id]
            shape = {**before, **values}
            moved = shape.pop("cellsAt", ())
            if moved:
                shape["cells"] = list(shape["cells"])
                for n, cell in zip(moved[::2], moved[1::2], strict=True):
                    shape["cells"][n] = cell
            shapes[shape_id] = shape
        if "order" in change:
            start, length, ids = change["order"]
            order[start : start + length] = ids
        yield {**head, "states": states, "shapes": [built(shape_id) for shape_id in order]}


def read_film(chunks: list[bytes], form: str = "wide") -> list[dict[str, Any]]:
    read = [read_chunk(chunk) for chunk in chunks]
    return [scene for chunk in read for scene in applied(chunk[form], chunk["states"])]


def without_looks(scene: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in scene.items() if name != "states"}


def random_shape(chance: random.Random, key: str) -> Shape:
    x, kind = chance.randrange(9), chance.randrange(4)
    if kind == 0:
        return Rect(x, 0, 5, 5, chance.choice(STATES), key=key)
    if kind == 1:
        return Text(x, 9, chance.choice("ab"), key=key)
    if kind == 2:
        return Line(((0, 0), (x, 1)), key=key)
    cells = [chance.choice(STATES[:2]) for _ in range(40)]
    return Cells(0, 0, 8, 3, tuple(cells), "block", key or f"grid{x}")


def random_scenes(seed: int, count: int) -> list[Scene]:
    """Return pictures in which shapes come, go, change their kind, and move among each other."""
    chance = random.Random(seed)
    shapes: dict[str, Shape] = {}
    scenes = []
    for number in range(count):
        for _ in range(chance.randrange(4)):
            key = f"s{chance.randrange(12)}"
            if chance.random() < 0.3:
                shapes.pop(key, None)
            else:
                shapes[key] = random_shape(chance, key)
        listed = list(shapes.items())
        if chance.random() < 0.2:
            chance.shuffle(listed)
            shapes = dict(listed)
        inside = [shape for key, shape in listed if int(key[1:]) % 3 == 0]
        outside = [shape for key, shape in listed if int(key[1:]) % 3]
        words = Text(0, 9, f"step {number}")
        group = Group((*inside, Text(1, 1, "in the group")), key="group")
        scene = (*outside, group, words)
        scenes.append(Scene(90 + number % 2, 20, scene, "A title", f"Words {number // 3}"))
    return scenes


@pytest.mark.parametrize("seed", range(5))
def test_a_film_is_read_back_as_it_was(seed: int) -> None:
    wide = random_scenes(seed, CHUNK + 30)
    narrow = random_scenes(seed + 100, CHUNK + 30)
    encoder = FilmEncoder(has_narrow=True)
    for number, (scene, small) in enumerate(zip(wide, narrow, strict=True)):
        encoder.add(scene, small, f"caption {number}", "event" if number == 7 else "")
    chunks = encoder.chunks()
    for form, scenes in (("wide", wide), ("narrow", narrow)):
        read = [without_looks(scene) for scene in read_film(chunks, form)]
        assert read == [without_looks(scene.to_dict()) for scene in scenes]
    captions = [caption for chunk in chunks for caption in read_chunk(chunk)["captions"]]
    assert captions == [f"caption {number}" for number in range(CHUNK + 30)]
    assert [len(read_chunk(chunk)["events"]) for chunk in chunks] == [CHUNK, 30]
    assert encoder.marks == [[7, "event"]]


def test_a_chunk_has_the_looks_of_every_state_in_it_and_of_no_other() -> None:
    scenes = [
        Scene(90, 20, (Rect(0, 0, 5, 5, state, key="box"), grid), "A title", "Words")
        for state, grid in (
            ("used", Cells(0, 9, 2, 3, ("free", "free"), "block", "grid")),
            ("reserved", Cells(0, 9, 2, 3, ("free", "in_use"), "block", "grid")),
        )
    ]
    encoder = FilmEncoder(has_narrow=False)
    for scene in scenes:
        encoder.add(scene, None, "", "")
    looks = read_chunk(encoder.chunks()[0])["states"]
    assert set(looks) == {"used", "reserved", "free", "in_use"}
    assert looks["used"] == scenes[0].to_dict()["states"]["used"]


def picture(x: float, words: str = "", cells: tuple[str, ...] = ("free",) * 40) -> Scene:
    shapes = (
        Rect(x, 0, 5, 5, "used", key="box"),
        Text(0, 9, words),
        Cells(0, 10, 8, 3, cells, "block", "grid"),
    )
    return Scene(90, 40, shapes, "A title", "Words")


def test_only_what_changed_is_sent() -> None:
    encoder = FormEncoder()
    encoder.change(picture(1))
    assert encoder.change(picture(2)) == {"set": {"box": {"x": 2}}}
    assert encoder.change(picture(2)) == {}


def test_a_few_cells_are_sent_one_by_one_and_many_as_a_grid() -> None:
    encoder = FormEncoder()
    states = ["free", "used"] * 20
    encoder.change(picture(1, cells=tuple(states)))
    states[4] = "used"
    few = encoder.change(picture(1, cells=tuple(states)))
    assert list(few["set"]["grid"]) == ["cellsAt"]
    assert few["set"]["grid"]["cellsAt"][0] == 4
    many = encoder.change(picture(1, cells=tuple(reversed(states))))
    assert list(many["set"]["grid"]) == ["cells"]


def test_stretches_in_which_nothing_happens_are_known() -> None:
    encoder = FilmEncoder(has_narrow=False)
    moments = [1, 1, 1, 2, 2, 3, 3, 3, 3]
    for number, x in enumerate(moments):
        # Words without a key may change: the number of the step.
        encoder.add(picture(x, f"step {number}"), None, "", "an event" if number == 7 else "")
    assert encoder.runs == [[1, 2]]  # one picture alone is no stretch; an event ends one


def test_a_narrow_form_for_some_frames_only_is_refused() -> None:
    encoder = FilmEncoder(has_narrow=False)
    with pytest.raises(ValueError, match="frame 0 has a narrow form"):
        encoder.add(picture(1), picture(1), "", "")
