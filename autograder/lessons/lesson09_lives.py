"""Lesson 9: lives of queues, in which requests come, are looked at, taken, put back, and leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from autograder.checks.acts import Act
from autograder.checks.stateful import LargeLife, Life, Twin
from autograder.proxy.recipes import Make
from course_lib.scheduling.request import Request
from course_lib.scheduling.watch.queue_lines import (
    beside_another,
    entries_line,
    ghost_line,
    leave_one_by_one,
    preempted,
    same_or_copies,
    serve_one_by_one,
    service_line,
    top_line,
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
    return Make(preempted, request(name, *sizes, **told))


# Lives that are drawn


class QueueLife(Twin):
    """What may be done to any queue. Requests come in all sizes, and some of them are equal."""

    is_free = True
    least: ClassVar[Mapping[str, int]] = {"key_in_tokens": 1}
    # Without any probe, fifty lives find all known mistakes but one that a hundred find.
    most_lives = 50
    num_made = 0

    @staticmethod
    def is_sound(acts: Sequence[Act]) -> bool:
        """Say whether nobody comes who may be waiting already."""
        waiting: set[int] = set()
        for act in acts:
            if act.name in ("add", "put_back", "push"):
                comes = act.args[-1].step
                if comes in waiting:
                    return False
                waiting.add(comes)
            elif act.name == "remove":
                waiting.discard(act.args[1].step)
        return True

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

    @rule()
    def peek(self) -> None:
        """Look who is next: the ghosts before it are gone then."""
        super().peek()
        self.apply(top_line)


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
        priority=st.integers(0, 1),
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


def the_very_requests(life: Life) -> None:
    """What comes out is what went in, and no copy of it: the scheduler changes it."""
    life.create()
    life.apply(same_or_copies, 1)


def two_lines(life: Life) -> None:
    """Use a second queue: what belongs to the class, and not to the object, changes with it.

    Whoever serves nobody at all learns that of one queue first.
    """
    life.create()
    come(life, "a")
    take(life)
    life.apply(beside_another)


FIRST_COME: tuple[Script, ...] = (
    front_and_middle,
    two_come_back,
    nobody,
    the_very_requests,
    two_lines,
)


def many_leave(life: Life) -> None:
    """Many come, and leave from the middle on."""
    life.create()
    life.apply(leave_one_by_one, 30_000)


def many_are_served(num_requests: int) -> Script:
    """Return a life in which many come, and half of them are served and come back."""

    def life_of(life: Life) -> None:
        life.create()
        life.apply(serve_one_by_one, num_requests)

    return life_of


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
    many_are_served(40_000),
    "40,000 come, and half of them are served and come back",
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


def no_ghost_on_top(life: Life) -> None:
    """The one in front leaves, and is a ghost until somebody looks."""
    life.create()
    leaves = come(life, "a", 1)
    come(life, "b", 2)
    life.do("remove", leaves)
    life.do("peek", reads=NAME)
    life.apply(top_line)


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


def small_ones_below_a_large_one(life: Life) -> None:
    """Guests leave between a large one and small ones further down: as they lie, they are no heap.

    The first guests come to lie above those who stay, and these sink by different branches.
    """
    life.create()
    for name, size in (("a", 2), ("b", 3), ("c", 2)):
        come(life, name, size)
    life.apply(leave_one_by_one, 21)
    take(life, 3)


def a_small_one_behind(life: Life) -> None:
    """Guests leave before and after a large one and a small one."""
    life.create()
    life.apply(leave_one_by_one, 16)
    for name, size in (("a", 2), ("b", 1)):
        come(life, name, size)
    life.apply(leave_one_by_one, 14)
    take(life, 2)


def equals_stay_in_order(life: Life) -> None:
    """Two of equal keys stay when the ghosts are thrown out, and keep their order."""
    life.create()
    for name in "ab":
        come(life, name, 2)
    life.apply(leave_one_by_one, 22)
    life.apply(service_line)
    take(life, 2)


def one_more_than_few(life: Life) -> None:
    """As many leave as may stay in the heap, and one more."""
    life.create()
    life.do("remove", come(life, "a"))
    for number in (16, 1):
        life.apply(leave_one_by_one, number)
        life.apply(ghost_line)


def as_many_as_may_stay(life: Life) -> None:
    """The heap has 16 entries beyond twice the living, which stay; then one more leaves.

    One of them is a ghost of somebody who waits again.
    """
    life.create()
    comes_again = come(life, "a")
    life.do("remove", comes_again)
    life.do("add", comes_again)
    for number in (16, 1):
        life.apply(leave_one_by_one, number)
        life.apply(entries_line)


def all_have_left(num_requests: int) -> Script:
    """Return a life in which so many come and go, and counted is what is left in the heap."""

    def life_of(life: Life) -> None:
        life.create()
        life.apply(leave_one_by_one, num_requests)
        life.apply(entries_line)

    return life_of


def other_keys(life: Life) -> None:
    """Entered are keys that the queue would not name itself, and some that are no whole numbers."""
    life.create()
    made = [life.make(request(name, size)) for name, size in (("a", 1), ("b", 2), ("c", 3))]
    for key, each in zip((9, 5.5, 5.25), made, strict=True):
        life.do("push", key, each)
    life.apply(service_line)
    take(life, 3)


def keys_stay(life: Life) -> None:
    """Two have come under keys that the queue would not name itself, and keep them."""
    life.create()
    for key, name in ((9, "a"), (5, "b")):
        life.do("push", key, life.make(request(name)))
    life.apply(leave_one_by_one, 22)
    life.apply(service_line)
    take(life, 2)


HEAPS: tuple[Script, ...] = (
    equal_keys,
    ghosts,
    same_number,
    leaves_and_is_first,
    nobody,
    many_ghosts,
    small_ones_below_a_large_one,
    a_small_one_behind,
    one_more_than_few,
    the_very_requests,
)
ENTERED = (*HEAPS, other_keys)
LOOKED_AT = (*HEAPS, no_ghost_on_top)
LEFT = (
    *HEAPS,
    equals_stay_in_order,
    keys_stay,
    as_many_as_may_stay,
    all_have_left(1),
    all_have_left(20),
    all_have_left(34),
)
