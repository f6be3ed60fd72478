"""Lesson 9: lives of queues that sort by a key: who comes before whom."""

from __future__ import annotations

from typing import Any

from autograder.checks.stateful import Life
from autograder.lessons.lesson09_lives import Script, come, request, returned, take
from course_lib.scheduling.watch.queue_lines import key_in_tokens, service_line


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
    ranks(("a", {}), ("B", {})),
    ranks(("a", {"arrival_time": 3.0}), ("b", {"arrival_time": 1.0})),
    ranks(("a", {"arrival_time": 2e-6}), ("b", {"arrival_time": 1e-6})),
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
    ranks(
        ("a", {"prompt": 2, "arrival_time": 1.0}),
        ("b", {"prompt": 2, "arrival_time": 0.0}),
    ),
    in_tokens(5, 2, 1),
    in_tokens(2, 5, 3),
    in_tokens(3000, 100_000),
    comes_back_with_tokens,
    allowed_less,
)
AGES = (
    ranks(("r9", {}), ("r10", {}), made_with=(8.0,)),
    ranks(
        ("a", {"priority": 1, "arrival_time": 0.0}),
        ("b", {"priority": 0, "arrival_time": 2.25}),
        made_with=(2.5,),
    ),
    ranks(("a", {"priority": -1}), ("b", {"priority": -2}), made_with=(8.0,)),
    ranks(("a", {}), ("B", {}), made_with=(8.0,)),
    ranks(
        ("a", {"priority": 1, "arrival_time": 0.0}),
        ("b", {"priority": 0, "arrival_time": 1000.0}),
        made_with=(10.0,),
    ),
    ranks(
        ("a", {"priority": 1, "arrival_time": 2e-6}),
        ("b", {"priority": 0, "arrival_time": 8.000001}),
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
    ranks(("a", {"deadline": 1.0}), ("b", {"deadline": 0.0})),
    ranks(("a", {"deadline": 7.0, "max_tokens": 5}), ("b", {"deadline": 6.0, "max_tokens": 2})),
    ranks(
        ("a", {"arrival_time": 5.0, "deadline": 9.0}), ("b", {"arrival_time": 5.0, "deadline": 4.0})
    ),
    ranks(
        ("a", {"arrival_time": 2e-6, "deadline": 9.0}),
        ("b", {"arrival_time": 1e-6, "deadline": 9.0}),
    ),
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
        ("a", {"arrival_time": 0.0, "deadline": 9.000002}),
        ("b", {"arrival_time": 1.0, "deadline": 9.000001}),
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
