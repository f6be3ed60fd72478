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
    key_in_tokens,
    leave_one_by_one,
    preempted,
    same_or_copies,
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
    return Make(preempted, request(name, *sizes, **told))


# Lives that are drawn


class QueueLife(Twin):
    """What may be done to any queue. Requests come in all sizes, and some of them are equal."""

    is_free = True
    least: ClassVar[Mapping[str, int]] = {"key_in_tokens": 1}
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
    """Use a second queue: what belongs to the class, and not to the object, changes with it."""
    life.create()
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


def many_are_served(life: Life) -> None:
    """Many come, and half of them are served and come back."""
    life.create()
    life.apply(serve_one_by_one, 20_000)


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
    "20,000 come, and half of them are served and come back",
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
LEFT = (*HEAPS, as_many_as_may_stay, all_have_left(1), all_have_left(34))

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


def in_tokens(*sizes: int) -> Script:
    """Return a life in which the key itself is asked for, in tokens."""

    def life_of(life: Life) -> None:
        life.create()
        life.apply(key_in_tokens, *sizes)

    return life_of


def comes_back_with_tokens(life: Life) -> None:
    """One that was preempted comes back with a part of its answer, one with none."""
    life.create()
    for name, sizes in (("a", (2, 9, 6)), ("b", (2, 6, 0))):
        life.do("put_back", life.make(returned(name, *sizes)))
    come(life, "c", 3, 3)
    take(life, 3)


def allowed_less(life: Life) -> None:
    """A scheduler allows one of them fewer tokens than it declares."""
    life.create()
    life.do("add", life.make(request("a", 3, 9, 1).set("length_limit", 5)))
    come(life, "b", 5, 5)
    take(life, 2)


PRIORITIES = (
    ranks(
        ("b", {"priority": 0, "arrival_time": 1.0}),
        ("a", {"priority": 0, "arrival_time": 0.0}),
        ("c", {"priority": -1, "arrival_time": 9.0}),
    ),
    ranks(("c", {}), ("b", {}), ("a", {}), ("d", {"priority": 1})),
    ranks(("r9", {}), ("r10", {})),
    ranks(("a", {"arrival_time": 3.0}), ("b", {"arrival_time": 1.0})),
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
    in_tokens(5, 2, 1),
    in_tokens(2, 5, 3),
    comes_back_with_tokens,
    allowed_less,
)
AGES = (
    ranks(("r9", {}), ("r10", {}), made_with=(8.0,)),
    ranks(
        ("a", {"priority": 1, "arrival_time": 0.0}),
        ("b", {"priority": 0, "arrival_time": 1000.0}),
        made_with=(10.0,),
    ),
    ranks(
        ("a", {"priority": 1, "arrival_time": 0.0002}),
        ("b", {"priority": 0, "arrival_time": 8.0001}),
        made_with=(8.0,),
    ),
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
    ranks(("a", {"deadline": 10.0}), ("b", {"deadline": 9.0})),
    ranks(
        ("a", {"arrival_time": 1.0, "deadline": 5.0, "priority": 1}),
        ("b", {"arrival_time": 1.5, "deadline": 5.0}),
        ("c", {"arrival_time": 2.0, "deadline": 9.0, "priority": -1}),
    ),
    ranks(
        ("a", {"arrival_time": 1.7e9, "deadline": 1.7e9 + 30}),
        ("b", {"arrival_time": 1.7e9 + 1, "deadline": 1.7e9 + 20}),
        ("c", {"arrival_time": 1.7e9 - 5}),
    ),
    ranks(
        ("a", {"arrival_time": 0.0, "deadline": 9.0002}),
        ("b", {"arrival_time": 1.0, "deadline": 9.0001}),
    ),
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
