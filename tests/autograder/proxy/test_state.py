"""Whether objects of the library have changed."""

import functools
from collections import deque

import pytest

from autograder.proxy.state import state_of


class Box:
    """Stands for a class of the library."""

    __slots__ = ("__dict__", "number")

    def __init__(self):
        self.number = 1
        self.text, self.items, self.by_name = "a", [1, [2]], {"x": {3}}
        self.queue, self.me = deque([4]), self

    @functools.cached_property
    def area(self):
        return 4


Box.__module__ = "course_lib.boxes"
Foreign = type("Foreign", (Box,), {"__module__": "submission", "__slots__": ()})


@pytest.mark.parametrize(
    "change",
    [
        lambda box: setattr(box, "number", 2),
        lambda box: setattr(box, "text", "b"),
        lambda box: delattr(box, "text"),
        lambda box: setattr(box, "number", True),
        lambda box: box.items[1].append(3),
        lambda box: box.by_name["x"].add(5),
        lambda box: box.queue.rotate() or box.queue.append(4),
        lambda box: box.by_name.pop("x"),
    ],
)
def test_every_change_is_seen(change):
    box = Box()
    state = state_of([(box,)])
    assert not state.has_changed()
    change(box)
    assert state.has_changed()


@pytest.mark.parametrize(
    "act",
    [
        lambda box: box.area,
        lambda box: setattr(box, "another", 1),
        lambda box: setattr(box, "text", "".join(["", "a"])),
    ],
)
def test_what_is_new_or_the_same_is_no_change(act):
    box = Box()
    state = state_of(box)
    act(box)
    assert not state.has_changed()


def test_objects_of_others_are_not_looked_into():
    box, items = Foreign(), [1]
    state = state_of([box, items])
    box.number = 2
    items.append(2)
    assert not state.has_changed()
