"""Text without the bodies that are asked for, and without what nobody needs."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest

from autograder.errors import CourseError
from autograder.sealed.hollow import definition, hollowed, sliced, text_of_definition

MODULE = dedent(
    '''\
    import math
    from os import getpid, sep

    LIMIT = 3

    def free(x):
        return helper(x) + LIMIT

    def asked(
        x: int,  # bytes
    ) -> int:
        # Above.
        def inner():
            return x
        return inner()

    def helper(x):
        """Say."""
        return math.floor(x)

    @staticmethod
    class Pool:
        """Blocks."""

        size: int = 4

        @property
        def room(self):
            """Tell."""

            return self.size

        def grow(self):
            super().grow()
            return __class__

        class Part:
            def f(self):
                return 1

        def empty(self):
            """Say nothing."""
    '''
)


def run(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(source.replace("@staticmethod\nclass", "class"), names)
    return names


def test_a_function_without_its_body() -> None:
    cut = hollowed(MODULE, {"asked": "1.2"})
    assert "Above" not in cut
    assert "inner" not in cut
    names = run(cut)
    assert names["free"](2.5) == 5
    with pytest.raises(NotImplementedError, match=r"exercise 1\.2 asks for asked"):
        names["asked"](1)


def test_a_method_leaves_the_others() -> None:
    pool = run(hollowed(MODULE, {"Pool.room": "1.3"}))["Pool"]()
    assert pool.Part().f() == 1
    with pytest.raises(NotImplementedError, match=r"asks for Pool\.room"):
        _ = pool.room
    assert type(pool).room.__doc__ == "Tell."


def test_a_class_loses_all_bodies_and_keeps_its_fields() -> None:
    kind = run(hollowed(MODULE, {"Pool": "1.4"}))["Pool"]
    assert (kind.size, kind.__doc__) == (4, "Blocks.")
    for call in (lambda: kind().room, lambda: kind().grow(), lambda: kind.Part().f()):
        with pytest.raises(NotImplementedError):
            call()
    assert kind().empty() is None


def test_a_body_that_takes_its_place_fits() -> None:
    stub = run(hollowed(MODULE, {"Pool": "1.4"}))["Pool"]
    right = run(MODULE)["Pool"]
    stub.grow.__code__ = right.grow.__code__
    with pytest.raises(AttributeError, match="grow"):
        stub().grow()


def test_several_at_once() -> None:
    cut = hollowed(MODULE, {"asked": "1.1", "helper": "1.2", "Pool.Part": "1.3"})
    assert cut.count("raise asked_for(") == 3


@pytest.mark.parametrize("name", ["absent", "Pool.absent", "free.x"])
def test_a_name_that_is_not_there(name: str) -> None:
    with pytest.raises(CourseError, match=f"there is no {name}"):
        hollowed(MODULE, {name: "1.1"})


def test_a_body_beside_its_def_is_refused() -> None:
    with pytest.raises(CourseError, match="f has its body beside its def"):
        hollowed("def f(x): return x", {"f": "1.1"})


def test_the_text_of_a_definition() -> None:
    assert text_of_definition(MODULE, "Pool.room").startswith("@property\ndef room(self):\n")
    assert text_of_definition(MODULE, "Pool").startswith("@staticmethod\nclass Pool:")
    assert definition(MODULE, "Pool.Part.f").name == "f"


def test_a_slice_has_what_it_needs_and_no_more() -> None:
    kept = sliced(MODULE, ["free"])
    assert run(kept)["free"](2.5) == 5
    for gone in ("Pool", "asked", "getpid"):
        assert gone not in kept


def test_an_import_of_several_names_keeps_those_that_are_needed() -> None:
    assert (
        sliced("from os import getpid, sep as s\nx = s", ["x"]) == "from os import sep as s\nx = s"
    )


def test_a_slice_of_a_name_that_is_not_there() -> None:
    with pytest.raises(CourseError, match="does not define absent"):
        sliced(MODULE, ["free", "absent"])
