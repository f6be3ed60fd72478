"""Lives in which a batch that is formed once is told from one that others join."""

from __future__ import annotations

from autograder.checks.stateful import Life
from autograder.lessons.lesson05_lives import add, run, scheduler
from course_lib.scheduling.watch.iterations import abort, admit


def static_two_seats(life: Life) -> None:
    """The third of three starts when both others have ended."""
    scheduler(life, max_num_seqs=2)
    for name, max_tokens in (("a", 1), ("b", 3), ("c", 1)):
        add(life, name, 1, max_tokens)
    run(life, 4)


def static_three_batches(life: Life) -> None:
    """Batches of two, one after the other; who comes later joins the next one."""
    scheduler(life, max_num_seqs=2)
    for name, max_tokens in (("a", 2), ("b", 2), ("c", 1), ("d", 2)):
        add(life, name, 2, max_tokens)
    run(life, 2)
    add(life, "e", 1, 1)
    run(life, 4)


def static_small_budget(life: Life) -> None:
    """A batch is what one iteration admits."""
    scheduler(life, max_num_batched_tokens=6)
    for name, prompt in (("a", 4), ("b", 4), ("c", 2)):
        add(life, name, prompt, 2)
    run(life, 6)


def static_left(life: Life) -> None:
    """What is left of the budget: all of it while somebody runs."""
    scheduler(life)
    for name, prompt in (("a", 4), ("b", 3), ("c", 2)):
        add(life, name, prompt)
    for budget in (5, 9):
        life.apply(admit, budget)


def static_after_an_abort(life: Life) -> None:
    """When the last of a batch goes away, the next one forms."""
    scheduler(life, max_num_seqs=2)
    for name in "abc":
        add(life, name, 2, 5)
    run(life, 1)
    life.apply(abort, "a")
    run(life, 1)
    life.apply(abort, "b")
    run(life, 2)


def static_one_gave_way(life: Life) -> None:
    """One of a batch gives way, and comes back with the next one."""
    scheduler(life, 3)
    add(life, "a", [9, 8], 2)
    add(life, "b", [9], 2)
    run(life, 3)


def static_nobody_comes_back_into_it(life: Life) -> None:
    """One gives way, and the next batch, in which it has no room, is closed to it too."""
    scheduler(life, 6, policy="priority")
    add(life, "a", 6, 2)
    add(life, "b", 2, 2, priority=1)
    run(life, 1)
    add(life, "c", 3, 2)
    run(life, 1)
    add(life, "d", 5, 1)
    run(life, 2)


def static_a_cut_prompt(life: Life) -> None:
    """The batch is in the middle of a prompt."""
    scheduler(life, long_prefill_token_threshold=2)
    add(life, "a", [1], 1)
    add(life, "b", 5, 1)
    run(life, 1)
    add(life, "c", [1], 1)
    run(life, 3)


def static_one_who_waits_goes_away(life: Life) -> None:
    """One goes away that waits: the batch is as it was."""
    scheduler(life)
    add(life, "a", [1], 3)
    run(life, 1)
    for name in "bc":
        add(life, name, [1])
    life.apply(abort, "c")
    run(life, 1)


def static_fewer_seats(life: Life) -> None:
    """The limit of seats is changed before the batch forms."""
    scheduler(life)
    for name in "abc":
        add(life, name, [1], 1)
    life.apply(setattr, "max_num_seqs", 1)
    run(life, 2)


BATCHES = (
    static_two_seats,
    static_three_batches,
    static_small_budget,
    static_left,
    static_after_an_abort,
    static_one_gave_way,
    static_nobody_comes_back_into_it,
    static_a_cut_prompt,
    static_one_who_waits_goes_away,
    static_fewer_seats,
)
