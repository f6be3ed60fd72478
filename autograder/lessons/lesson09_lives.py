"""Lesson 9: lives of queues, in which requests come, are looked at, taken, put back, and leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from autograder.checks.stateful import LargeLife, Life, Twin
from autograder.lessons.lesson05_lives import SchedulerLife, add, run
from autograder.proxy.recipes import Make
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import SchedulerConfig
from course_lib.scheduling.watch.queue_lines import (
    CachedTokens,
    cache_tokens,
    keeps_few_ghosts,
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
        self.apply(keeps_few_ghosts)
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


class ClientLife(QueueLife):
    """The same with clients, whose tokens are charged."""

    @initialize(weights=st.sampled_from(((), (1.0, 2.0), (3.0, 1.0))))
    def make_one(self, weights: tuple[float, ...] = ()) -> None:
        """Start with nobody in line."""
        self.create(*weights)
        self.made = {}
        self.running: list[Any] = []

    @rule(
        prompt=st.integers(1, 9),
        client_id=st.sampled_from("abc"),
        put_back=st.booleans(),
    )
    def arrive(self, put_back: bool, **told: Any) -> None:
        """Let a client send something, or something of it come back."""
        self.new(put_back, told)
        self.see("counters")

    @rule()
    def pop(self) -> None:
        """Serve the next one."""
        self.do("pop", reads=NAME)
        self.see("counters")
        self.apply(service_line)

    @precondition(lambda self: self.num_made)
    @rule(places=st.lists(st.integers(0, 9), max_size=4))
    def charge(self, places: list[int]) -> None:
        """Let some requests generate a token."""
        made = list(self.made.values())
        self.do("charge", [made[place % len(made)] for place in places])
        self.see("counters")


class WeightsLife(QueueLife):
    """The same with weights, of clients that send much or little."""

    @initialize(weight=st.sampled_from((0.5, 2.0, 4.0)))
    def make_one(self, weight: float = 2.0) -> None:
        """Start with nobody in line."""
        self.create({"a": weight})
        self.made = {}

    @rule(
        prompt=st.integers(1, 4),
        max_tokens=st.integers(1, 8),
        client_id=st.sampled_from("abc"),
    )
    def arrive(self, **told: Any) -> None:
        """Let a client send something."""
        self.new(False, told)


class CacheLife(QueueLife):
    """The same with a cache that changes while requests wait."""

    @initialize(max_passes=st.integers(0, 3))
    def make_one(self, max_passes: int = 2) -> None:
        """Start with nobody in line and nothing cached."""
        self.create(Make(CachedTokens, {}), max_passes=max_passes)
        self.made = {}

    @rule(num_tokens=st.sampled_from((0, 16, 32)), put_back=st.booleans())
    def arrive(self, num_tokens: int, put_back: bool) -> None:
        """Let somebody come of whom something is cached."""
        self.new(put_back, {})
        self.apply(cache_tokens, list(self.made)[-1], num_tokens)
        self.apply(service_line)

    @precondition(lambda self: self.num_made)
    @rule(place=st.integers(0, 9), num_tokens=st.sampled_from((0, 16, 32)))
    def change(self, place: int, num_tokens: int) -> None:
        """Let the cache gain or lose what somebody needs."""
        self.apply(cache_tokens, list(self.made)[place % len(self.made)], num_tokens)
        self.apply(service_line)


class SplitLife(SchedulerLife):
    """What may be done to a scheduler that splits its budget."""

    @precondition(lambda self: self.num_made)
    @rule(num_new_tokens=st.integers(1, 9), budget=st.integers(1, 9))
    def ask(self, num_new_tokens: int, budget: int) -> None:
        """Ask for the share of somebody who lacks so many, with so much left of the budget."""
        self.do("limit_chunk", request("asks"), num_new_tokens, budget)


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
    life.apply(leave_one_by_one, 12_000)


def many_are_served(life: Life) -> None:
    """Many come, and half of them are served."""
    life.create()
    life.apply(serve_one_by_one, 4_000)


MANY = (
    LargeLife(many_leave, "12,000 come, and leave from the middle on"),
    LargeLife(many_are_served, "4,000 come, and half of them are served"),
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
        life.apply(keeps_few_ghosts)
    take(life, 4)
    life.apply(service_line)


def a_heap_all_the_same(life: Life) -> None:
    """All but those in front of the heap leave, until ghosts are thrown out."""
    life.create()
    made = [come(life, f"r{number}", 1 + number * 7 % 40) for number in range(40)]
    for number in range(1, 40):
        if number % 40 not in (5, 11, 17, 22, 28, 33, 39, 2):
            life.do("remove", made[number])
    life.apply(keeps_few_ghosts)
    come(life, "last", 2)
    take(life, 10)


HEAPS: tuple[Script, ...] = (
    equal_keys,
    ghosts,
    same_number,
    leaves_and_is_first,
    nobody,
    many_ghosts,
    a_heap_all_the_same,
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

# Token-fair


def _client(life: Life, name: str, prompt: int) -> Any:
    return come(life, name, prompt, client_id=name[0])


def tokens(life: Life, whose: Any, num_tokens: int) -> None:
    """Charge for so many tokens of a request."""
    life.do("charge", [whose] * num_tokens)


def as_in_the_lesson(life: Life) -> None:
    """Two clients take turns by what they were served; a third one comes late, b comes back."""
    life.create()
    a1 = _client(life, "a1", 8)
    _client(life, "a2", 8)
    b1 = _client(life, "b1", 4)
    take(life)
    tokens(life, a1, 3)
    take(life)
    tokens(life, b1, 1)
    _client(life, "c1", 2)
    _client(life, "b2", 4)
    life.see("counters")
    take(life, 3)
    life.see("counters")
    _client(life, "d1", 1)
    life.see("counters")


def three_of_two(life: Life) -> None:
    """Equal counters go by name; within a client it is first come, first served."""
    life.create(2.0, 1.0)
    made = [_client(life, name, n) for name, n in (("b1", 2), ("a1", 3), ("a2", 1), ("b2", 1))]
    life.apply(service_line)
    take(life, 2)
    tokens(life, made[0], 5)
    life.see("counters")
    _client(life, "c1", 4)
    life.see("counters")
    take(life, 4)


def who_comes_back(life: Life) -> None:
    """One that was preempted comes back, in front of its client's, and pays nothing again."""
    life.create()
    _client(life, "a1", 9)
    _client(life, "a2", 5)
    _client(life, "b1", 3)
    take(life, 2)
    life.do("put_back", life.make(returned("b0", 7, client_id="b")))
    life.see("counters")
    life.apply(service_line)
    take(life, 2)
    life.see("counters")


def debts_stay(life: Life) -> None:
    """A client that was served much comes back while another one waits that was served little."""
    life.create()
    busy = _client(life, "a1", 9)
    _client(life, "b1", 2)
    _client(life, "b2", 2)
    take(life)
    tokens(life, busy, 4)
    take(life)
    _client(life, "a2", 1)
    life.see("counters")
    take(life, 2)


def after_an_empty_line(life: Life) -> None:
    """Nobody waits any more; who comes then is lifted to who was taken last, and never lowered."""
    life.create()
    busy = _client(life, "a1", 2)
    take(life)
    tokens(life, busy, 6)
    _client(life, "b1", 5)
    life.see("counters")
    take(life)
    _client(life, "a2", 1)
    life.see("counters")
    leaves = _client(life, "c1", 1)
    life.do("remove", leaves)
    life.do("remove", leaves)
    life.see("counters")
    _client(life, "c2", 1)
    take(life, 2)
    life.see("counters")
    life.do("peek", reads=NAME)


FAIR: tuple[Script, ...] = (
    as_in_the_lesson,
    three_of_two,
    who_comes_back,
    debts_stay,
    after_an_empty_line,
    nobody,
)

# Cached prefixes


def _cached(max_passes: int, *cached: int) -> Callable[[Life], None]:
    """Return how those begin of whom so much is cached, in this order, with a bound."""

    def begin(life: Life) -> None:
        names = [f"r{number}" for number in range(len(cached))]
        life.create(
            Make(CachedTokens, dict(zip(names, cached, strict=True))), max_passes=max_passes
        )
        for name in names:
            come(life, name)

    return begin


def longest_first(life: Life) -> None:
    """The longest cached prefix first; of equals the first in line."""
    _cached(9, 0, 32, 64, 16, 64)(life)
    take(life, 5)


def passed_over(life: Life) -> None:
    """The first in line is passed over twice, and no more."""
    _cached(2, 0, 16, 32, 48, 64)(life)
    life.apply(service_line)
    take(life, 5)


def two_are_due(life: Life) -> None:
    """Two have been passed over often enough: the first in line of them goes."""
    _cached(1, 0, 16, 32, 64)(life)
    take(life)
    life.apply(cache_tokens, "late", 96)
    come(life, "late")
    take(life, 4)


def more_than_enough(life: Life) -> None:
    """Two are due, and somebody comes back in front of them; the cache changes meanwhile."""
    _cached(1, 16, 0, 32)(life)
    take(life)
    life.do("put_back", life.make(returned("back")))
    life.apply(cache_tokens, "r1", 48)
    take(life, 3)


def no_passing(life: Life) -> None:
    """With no passes allowed it is first come, first served."""
    _cached(0, 0, 16, 32)(life)
    take(life, 3)


CACHED: tuple[Script, ...] = (
    longest_first,
    passed_over,
    two_are_due,
    more_than_enough,
    no_passing,
)

# The budget, split


def _split(life: Life, budget: int, seats: int = 8, **limits: Any) -> None:
    config = SchedulerConfig(max_num_seqs=seats, max_num_batched_tokens=budget, **limits)
    life.create(config, Make(KVCacheManager, 200, 2, False))


def three_share(life: Life) -> None:
    """Three share 30 tokens, of which one needs two."""
    _split(life, 30)
    for name, prompt in (("a", 25), ("b", 2), ("c", 25)):
        add(life, name, prompt)
    run(life, 3)


def more_than_seats(life: Life) -> None:
    """Five for two seats: only those share who could be in the batch."""
    _split(life, 21, seats=2)
    for name, prompt in (("a", 40), ("b", 40), ("c", 5), ("d", 5), ("e", 9)):
        add(life, name, prompt)
    run(life, 3)


def more_than_tokens(life: Life) -> None:
    """More requests than tokens: a share is a token, until the budget is gone."""
    _split(life, 3)
    for name in "abcde":
        add(life, name, 3)
    run(life, 3)


def little_is_left(life: Life) -> None:
    """Two of the iteration's tokens are left, and the share is ten."""
    _split(life, 30)
    for name in "abc":
        add(life, name, 3)
    asks = life.make(request("asks"))
    life.do("limit_chunk", asks, 25, 30)
    life.do("limit_chunk", asks, 25, 2)
    life.do("limit_chunk", asks, 1, 30)


SPLITS: tuple[Script, ...] = (three_share, more_than_seats, more_than_tokens, little_is_left)

# Weighted fair queueing


def _weighted(*sent: tuple[str, int], taken: int = 0) -> Script:
    """Return a life in which these come, some are served, and the last two come after that."""

    def life_of(life: Life) -> None:
        life.create({"a": 2.0})
        for name, tokens_declared in sent[:-2]:
            come(life, name, 1, tokens_declared - 1, client_id=name[0])
        take(life, taken)
        for name, tokens_declared in sent[-2:]:
            come(life, name, 1, tokens_declared - 1, client_id=name[0])
        life.see("last_finish")
        life.apply(service_line)
        take(life, len(sent) - taken)
        life.see("virtual_time")

    return life_of


WEIGHTS = (
    _weighted(("a1", 20), ("b1", 20), ("a2", 20), ("b2", 20), ("a3", 20), ("b3", 20)),
    _weighted(("a1", 8), ("a2", 12), ("b1", 6), ("c1", 30), ("b2", 4), ("a3", 10), taken=3),
    _weighted(("b1", 50), ("b2", 50), ("c1", 5), ("a1", 40), taken=2),
)
