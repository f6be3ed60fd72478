"""Lesson 9: lives of queues, in which requests come, are looked at, taken, put back, and leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from autograder.checks.stateful import LargeLife, Life, Twin
from autograder.proxy.recipes import Make
from course_lib.scheduling.request import Request
from course_lib.scheduling.watch.queue_lines import (
    ghost_line,
    leave_one_by_one,
    serve_one_by_one,
    service_line,
)

NAME = ("request_id",)
"""What stands for a request."""
Script = Callable[[Life], None]
"""Lives a life: a probe."""


def request(name: str, prompt: int = 1, max_tokens: int = 1, output: int = 0, **told: Any) -> Make:
    """Return the recipe of a request that has generated so many tokens."""
    recipe = Make(Request, name, [1] * prompt, max_tokens, **told)
    for _ in range(output):
        recipe = recipe.do("append_output", 7)
    return recipe


def come(life: Life, name: str, *sizes: int, **told: Any) -> Any:
    """Let a request come; return it."""
    made = life.make(request(name, *sizes, **told))
    life.do("add", made)
    return made


def take(life: Life, num_requests: int = 1) -> None:
    """Take the next ones."""
    for _ in range(num_requests):
        life.do("pop", reads=NAME)


def returned(name: str, *sizes: int, **told: Any) -> Make:
    """Return the recipe of a request that was preempted once."""
    return request(name, *sizes, **told).set("num_preemptions", 1)


# Lives that are drawn


class QueueLife(Twin):
    """What may be done to any queue. Requests come in all sizes, and some of them are equal."""

    num_made = 0

    @initialize()
    def make_one(self) -> None:
        """Start with nobody in line."""
        self.create()
        self.made: dict[str, Any] = {}

    def new(self, put_back: bool, told: dict[str, Any]) -> None:
        """Let somebody come, or come back."""
        self.num_made += 1
        name = "bdaceghf"[self.num_made % 8] + str(self.num_made)
        recipe = returned(name, **told) if put_back else request(name, **told)
        self.made[name] = self.make(recipe)
        self.do("put_back" if put_back else "add", self.made[name])
        self.apply(service_line)

    @rule(
        prompt=st.integers(1, 4),
        max_tokens=st.integers(1, 4),
        output=st.integers(0, 3),
        arrival_time=st.sampled_from((0.0, 1.0, 2.0, 5.0, 16.0)),
        priority=st.integers(-1, 2),
        put_back=st.booleans(),
    )
    def arrive(self, put_back: bool, output: int, **told: Any) -> None:
        """Let somebody come, or come back who was preempted."""
        told["output"] = min(output, told["max_tokens"] - 1)
        self.new(put_back, told)

    @rule()
    def pop(self) -> None:
        """Take the next one, or find that nobody waits."""
        self.do("pop", reads=NAME)
        self.apply(service_line)

    @rule()
    def peek(self) -> None:
        """Look who is next."""
        self.do("peek", reads=NAME)
        self.do("__len__")

    @precondition(lambda self: self.num_made)
    @rule(place=st.integers(0, 9), comes_again=st.booleans())
    def leave(self, place: int, comes_again: bool) -> None:
        """Let somebody go, who may be gone already, and perhaps come again at once."""
        who = list(self.made.values())[place % len(self.made)]
        self.do("remove", who)
        if comes_again:
            self.do("add", who)
        self.apply(service_line)


class HeapLife(QueueLife):
    """The same for a heap, in which ghosts must not pile up."""

    @rule(num_requests=st.integers(20, 60))
    def many_leave(self, num_requests: int) -> None:
        """Let many come, and all of them go."""
        self.apply(leave_one_by_one, num_requests)
        self.apply(ghost_line)
        self.apply(service_line)


class AgeingLife(QueueLife):
    """The same with a rate of ageing."""

    @initialize(ageing_seconds=st.sampled_from((1.0, 4.0, 8.0)))
    def make_one(self, ageing_seconds: float = 8.0) -> None:
        """Start with nobody in line."""
        self.create(ageing_seconds)
        self.made = {}


class DeadlineLife(QueueLife):
    """The same with deadlines."""

    @rule(
        deadline=st.sampled_from((3.0, 6.0, 9.0, float("inf"))),
        arrival_time=st.sampled_from((0.0, 1.0, 2.0)),
    )
    def arrive(self, **told: Any) -> None:
        """Let somebody come who is due, or who is not."""
        # No two arrive at once: who goes first then is nobody's business here.
        told["arrival_time"] += self.num_made / 64
        self.new(False, told)


# First come


def front_and_middle(life: Life) -> None:
    """Somebody comes back, and somebody in the middle leaves."""
    life.create()
    first = come(life, "a")
    come(life, "b")
    life.do("put_back", life.make(returned("c")))
    life.apply(service_line)
    life.do("remove", first)
    life.apply(service_line)
    life.do("__len__")
    life.do("remove", first)
    life.do("peek", reads=NAME)
    take(life, 3)


def two_come_back(life: Life) -> None:
    """Two come back, the last one to the very front; one leaves and comes again."""
    life.create()
    for name in "ab":
        come(life, name)
    again = come(life, "c")
    for name in "de":
        life.do("put_back", life.make(returned(name)))
    life.do("remove", again)
    life.do("add", again)
    life.do("peek", reads=NAME)
    life.apply(service_line)
    take(life, 6)


def nobody(life: Life) -> None:
    """Nobody waits."""
    life.create()
    life.do("__len__")
    life.do("peek", reads=NAME)
    life.do("pop", reads=NAME)
    life.apply(service_line)
    life.do("remove", life.make(request("a")))


FIRST_COME: tuple[Script, ...] = (front_and_middle, two_come_back, nobody)


def many_leave(life: Life) -> None:
    """Many come, and leave from the middle on."""
    life.create()
    life.apply(leave_one_by_one, 30_000)


def many_are_served(life: Life) -> None:
    """Many come, and half of them are served."""
    life.create()
    life.apply(serve_one_by_one, 4_000)


LEAVING = LargeLife(
    many_leave,
    "30,000 come, and leave from the middle on",
    slow="Whoever leaves must not cost time in proportion to those who wait",
)
GHOSTS_LEAVING = replace(
    LEAVING,
    slow="A `remove` may go through the heap only when it has over 16 entries beyond twice the "
    "living",
)
SERVED = LargeLife(
    many_are_served,
    "4,000 come, and half of them are served",
    slow="No call may go through all who wait, nor sort them",
)

# The heap, on keys that are numbers of tokens


def equal_keys(life: Life) -> None:
    """Equal keys: who was put in first is served first."""
    life.create()
    for name, size in (("d", 3), ("b", 2), ("c", 2), ("a", 2)):
        come(life, name, size)
        life.apply(service_line)
    life.do("put_back", life.make(returned("e", 2)))
    life.apply(service_line)
    take(life, 5)


def ghosts(life: Life) -> None:
    """The next one leaves, and another one; one of them comes again."""
    life.create()
    leaves = come(life, "a", 1)
    come(life, "b", 2)
    comes_again = come(life, "c", 3)
    come(life, "d", 3)
    life.do("remove", leaves)
    life.do("remove", comes_again)
    life.do("peek", reads=NAME)
    life.do("__len__")
    life.do("add", comes_again)
    life.apply(service_line)
    life.do("remove", leaves)
    life.do("peek", reads=NAME)
    take(life, 4)


def same_number(life: Life) -> None:
    """One comes after others have been served: its number must be new all the same."""
    life.create()
    for name in "ab":
        come(life, name, 2)
    take(life)
    again = come(life, "c", 2)
    life.do("remove", again)
    come(life, "d", 2)
    life.do("add", again)
    life.apply(service_line)
    take(life, 3)


def leaves_and_is_first(life: Life) -> None:
    """Those in front leave, two at once."""
    life.create()
    leaving = [come(life, name, size) for name, size in (("a", 1), ("b", 1))]
    come(life, "c", 3)
    for each in leaving:
        life.do("remove", each)
    life.do("peek", reads=NAME)
    life.do("peek", reads=NAME)
    life.do("__len__")
    take(life, 2)
    life.do("peek", reads=NAME)


def many_ghosts(life: Life) -> None:
    """Many leave; the heap must stay small, and a heap."""
    life.create()
    for place, size in enumerate((9, 4, 7, 2, 8, 3)):
        come(life, "fcabed"[place], size)
    for _ in range(3):
        life.apply(leave_one_by_one, 60)
        life.apply(ghost_line)
    take(life, 4)
    life.apply(service_line)


def a_heap_all_the_same(life: Life) -> None:
    """All but those in front of the heap leave, until ghosts are thrown out."""
    life.create()
    made = [come(life, f"r{number}", 1 + number * 7 % 40) for number in range(40)]
    for number in range(1, 40):
        if number % 40 not in (5, 11, 17, 22, 28, 33, 39, 2):
            life.do("remove", made[number])
    life.apply(ghost_line)
    come(life, "last", 2)
    take(life, 10)


def one_small_below_a_large_one(life: Life) -> None:
    """All leave but a large one and a small one further down: as they lie, they are no heap.

    The large ones are those below the left child of the root, so each stays where it is put.
    """
    life.create()
    made = []
    for number in range(21):
        is_left = bin(number + 1)[3:4] == "0"
        made.append(come(life, f"r{number}", 3 if is_left else 2))
    for number in (*range(14, 21), *range(2, 13), 0):
        life.do("remove", made[number])
    take(life, 2)


def one_more_than_few(life: Life) -> None:
    """As many leave as may stay in the heap, and one more."""
    life.create()
    life.do("remove", come(life, "a"))
    for number in (16, 1):
        life.apply(leave_one_by_one, number)
        life.apply(ghost_line)


HEAPS: tuple[Script, ...] = (
    equal_keys,
    ghosts,
    same_number,
    leaves_and_is_first,
    nobody,
    many_ghosts,
    a_heap_all_the_same,
    one_small_below_a_large_one,
    one_more_than_few,
)

# Keys


def ranks(*told: tuple[str, dict[str, Any]], made_with: tuple[Any, ...] = ()) -> Script:
    """Return a life in which these come, and all are served."""

    def life_of(life: Life) -> None:
        life.create(*made_with)
        for name, each in told:
            come(life, name, **each)
        life.apply(service_line)
        take(life, len(told))

    return life_of


PRIORITIES = (
    ranks(
        ("b", {"priority": 0, "arrival_time": 1.0}),
        ("a", {"priority": 0, "arrival_time": 0.0}),
        ("c", {"priority": -1, "arrival_time": 9.0}),
    ),
    ranks(("c", {}), ("b", {}), ("a", {}), ("d", {"priority": 1})),
    ranks(
        ("a", {"priority": 1, "arrival_time": 0.0}),
        ("z", {"priority": 0, "arrival_time": 1.7e9}),
        ("b", {"priority": 0, "arrival_time": 1.7e9 + 0.25}),
    ),
)
SIZES = (
    ranks(
        ("a", {"prompt": 3, "max_tokens": 9}),
        ("b", {"prompt": 5, "max_tokens": 2}),
        ("c", {"prompt": 1, "max_tokens": 12}),
        ("d", {"prompt": 6, "max_tokens": 5}),
    ),
    ranks(
        ("a", {"prompt": 9, "max_tokens": 20, "output": 18}),
        ("b", {"prompt": 5, "max_tokens": 8}),
        ("c", {"prompt": 2, "max_tokens": 17, "output": 6}),
        ("d", {"prompt": 1, "max_tokens": 11}),
        ("e", {"prompt": 4, "max_tokens": 6, "output": 5}),
    ),
)
AGES = (
    ranks(
        ("b", {"priority": 0, "arrival_time": 16.0}),
        ("a", {"priority": 1, "arrival_time": 0.0}),
        made_with=(8.0,),
    ),
    ranks(
        ("a", {"priority": 0, "arrival_time": 8.0}),
        ("b", {"priority": 1, "arrival_time": 0.0}),
        ("c", {"priority": 0, "arrival_time": 8.0}),
        ("d", {"priority": -1, "arrival_time": 12.0}),
        made_with=(8.0,),
    ),
    ranks(
        ("c", {"priority": 2, "arrival_time": 1.0}),
        ("b", {"priority": 2, "arrival_time": 1.0}),
        ("a", {"priority": 0, "arrival_time": 5.0}),
        ("d", {"priority": 0, "arrival_time": 2.0}),
        made_with=(1.0,),
    ),
    ranks(
        ("a", {"priority": -2, "arrival_time": 33.0}),
        ("b", {"priority": 0, "arrival_time": 13.0}),
        made_with=(10.0,),
    ),
    ranks(
        ("a", {"priority": 1, "arrival_time": 0.0}),
        ("b", {"priority": 1, "arrival_time": 4.0}),
        made_with=(8.0,),
    ),
    ranks(
        ("a", {"priority": 2, "arrival_time": 0.0}),
        ("b", {"priority": 0, "arrival_time": 1.0}),
        made_with=(4.0,),
    ),
)
DUE = (
    ranks(
        ("a", {"arrival_time": 0.0}),
        ("b", {"arrival_time": 2.0, "deadline": 9.0}),
        ("c", {"arrival_time": 1.0, "deadline": 9.0}),
        ("d", {"arrival_time": 5.0, "deadline": 6.0}),
    ),
    ranks(
        ("a", {"arrival_time": 4.0, "deadline": 8.0}),
        ("b", {"arrival_time": 0.0, "deadline": 7.0}),
        ("c", {"arrival_time": 3.0}),
        ("d", {"arrival_time": 2.0}),
    ),
)
