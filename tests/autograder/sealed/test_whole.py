"""Bodies that come back into a course that was imported without them."""

from __future__ import annotations

import inspect
import linecache
import sys
from collections.abc import Iterator
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest

from autograder.sealed.bodies import Course
from autograder.sealed.box import stub
from autograder.sealed.box.whole import make_whole, put_in_place
from autograder.sealed.hollow import hollowed

MODULE = dedent(
    '''\
    from functools import cached_property, wraps

    def twice(x):
        return 2 * x

    def marked(function):
        @wraps(function)
        def call(*args):
            return function(*args)
        return call

    @marked
    def decorated(x):
        return twice(x) + 1

    class Base:
        def name(self):
            return "base"

    class Pool(Base):
        """Blocks."""

        @property
        def size(self):
            return self._size

        @size.setter
        def size(self, value):
            self._size = twice(value)

        @classmethod
        def made(cls):
            return cls()

        @staticmethod
        def limit():
            return 7

        @cached_property
        def once(self):
            return [self.limit()]

        def name(self):
            return f"pool on {super().name()}"

        class Part:
            def f(self):
                return 1
    '''
)
NAME = "course_lib.of_a_test"


@pytest.fixture
def course() -> Iterator[Any]:
    """A module without the bodies of ``twice``, ``decorated`` and ``Pool``."""
    module = ModuleType(NAME)
    asked = {"twice": "1.1", "decorated": "1.2", "Pool": "1.3"}
    exec(hollowed(MODULE, asked), module.__dict__)
    sys.modules[NAME] = module
    stub.met.clear()
    yield module
    del sys.modules[NAME]
    stub.met.clear()


def test_who_has_imported_a_function_has_it_with_its_body(course: Any) -> None:
    twice = course.twice
    with pytest.raises(NotImplementedError, match=r"exercise 1\.1 asks for twice"):
        twice(2)
    assert stub.met == {"1.1"}
    make_whole(NAME, ["twice"], hollowed(MODULE, {"decorated": "1.2", "Pool": "1.3"}))
    assert twice(2) == 4
    assert inspect.getsource(twice) == "def twice(x):\n    return 2 * x\n"
    with pytest.raises(NotImplementedError):
        course.decorated(2)


def test_all_kinds_of_methods_come_back(course: Any) -> None:
    pool = course.Pool()
    make_whole(NAME, ["twice", "decorated", "Pool"], MODULE)
    assert course.decorated(2) == 5
    pool.size = 3
    assert pool.size == 6
    assert (pool.limit(), pool.once, type(pool.made())) == (7, [7], course.Pool)
    assert (pool.name(), pool.Part().f()) == ("pool on base", 1)


def test_a_method_alone_comes_back(course: Any) -> None:
    make_whole(NAME, ["Pool.limit"], MODULE)
    assert course.Pool.limit() == 7
    with pytest.raises(NotImplementedError):
        course.Pool().name()


def test_what_the_box_has_no_module_of_is_made(course: Any) -> None:
    make_whole("course_lib.nowhere", ["twice"], "def twice(x):\n    return 2 * x")
    try:
        assert sys.modules["course_lib.nowhere"].twice(4) == 8
    finally:
        del sys.modules["course_lib.nowhere"]
    make_whole(NAME, ["third"], "LIMIT = 3\ndef third(x):\n    return x / LIMIT")
    assert course.third(6) == 2


def test_an_answer_is_the_method_of_the_librarys_own_objects(course: Any) -> None:
    make_whole(NAME, ["twice"], MODULE)
    pool = course.Pool()
    put_in_place(f"{NAME}:Pool.limit", lambda: 8)
    put_in_place(f"{NAME}:Pool.size", lambda self: 9)
    assert (pool.limit(), pool.size) == (8, 9)
    put_in_place("", lambda: 8)
    put_in_place(f"{NAME}:Pool.limit", [1, 2])
    assert pool.limit() == 8


def test_a_text_that_is_sent_has_no_body_that_is_not_judged() -> None:
    course = Course(1)
    (sent,) = course.by_now({"1.1"})
    assert (sent.module, sent.names) == ("course_lib.kv_cache.sizing", ("kv_bytes_per_token",))
    assert "return model.num_layers * numbers_per_layer" in sent.text
    assert 'raise asked_for("1.2", "num_kv_blocks")' in sent.text
    for each in course.but_for("1.1"):
        assert "kv_bytes_per_token" not in each.names
        if each.module == sent.module:
            assert 'raise asked_for("1.1", "kv_bytes_per_token")' in each.text


def test_what_stands_beside_an_answer_is_there_but_for_its_own_exercise() -> None:
    course = Course(4)
    assert course.is_judged_alone("4.10")
    assert not course.is_judged_alone("4.3")
    (first,) = course.by_now(())
    assert "FitAllocator" in first.names
    assert 'raise asked_for("4.3", "FitAllocator.free")' in first.text
    assert 'asked_for("4.10"' not in first.text
    (alone,) = [each for each in course.but_for("4.10") if each.module == first.module]
    assert 'raise asked_for("4.10", "FitAllocator")' in alone.text


def test_an_answer_of_the_course_stands_in_for_a_wrong_one() -> None:
    course = Course(1)
    source = course.in_place_of("1.1", "kv_bytes_per_token")
    assert source == "from course_lib.kv_cache.sizing import kv_bytes_per_token"
    assert course.in_place_of("1.5b", "memory_bound") is None
    assert Course(3).in_place_of("3.2b", "append") is None


def test_lines_of_a_text_are_at_hand(course: Any) -> None:
    make_whole(NAME, ["twice"], MODULE)
    file = course.twice.__code__.co_filename
    linecache.checkcache(file)
    assert linecache.getline(file, 4) == "    return 2 * x\n"
