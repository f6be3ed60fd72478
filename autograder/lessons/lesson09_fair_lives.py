"""Lesson 9: lives of queues that keep accounts, look at the cache, or split a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from autograder.checks.acts import Act
from autograder.checks.stateful import LargeLife, Life
from autograder.lessons.lesson05_lives import SchedulerLife, add, all_have_come, run
from autograder.lessons.lesson09_lives import (
    NAME,
    QueueLife,
    Script,
    come,
    many_are_served,
    nobody,
    request,
    returned,
    take,
)
from autograder.proxy.recipes import Make
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.scheduler import SchedulerConfig
from course_lib.scheduling.watch.queue_lines import (
    CachedTokens,
    accounts,
    ask_among_many,
    cache_tokens,
    charge_one_after_the_other,
    choose_among,
    choose_in_a_long_line,
    come_and_go,
    service_line,
)


class ClientLife(QueueLife):
    """The same with clients, whose tokens are charged."""

    @initialize(weights=st.sampled_from(((), (1.0, 2.0), (3.0, 1.0), (0.25, 1.5))))
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
        self.apply(accounts)

    @rule()
    def pop(self) -> None:
        """Serve the next one."""
        self.do("pop", reads=NAME)
        self.apply(accounts)
        self.apply(service_line)

    @precondition(lambda self: self.num_made)
    @rule(places=st.lists(st.integers(0, 9), max_size=4))
    def charge(self, places: list[int]) -> None:
        """Let some requests generate a token."""
        made = list(self.made.values())
        self.do("charge", [made[place % len(made)] for place in places])
        self.apply(accounts)


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
        arrival_time=st.sampled_from((0.0, 50.0)),
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
    """What may be done to a scheduler that splits its budget; asked for is one of its requests."""

    least: ClassVar = {"setattr": 1, "limit_chunk": 1}

    @staticmethod
    def is_sound(acts: Sequence[Act]) -> bool:
        """Say whether all who ask have come, and never more is left than an iteration has."""
        whole = acts[0].args[0].max_num_batched_tokens
        return all_have_come(acts) and all(
            act.args[3] <= whole for act in acts if act.name == "limit_chunk"
        )

    def create(self, config: SchedulerConfig, *others: Any) -> None:
        """Make both schedulers, and note how many tokens a whole iteration has."""
        self.whole_budget = config.max_num_batched_tokens
        super().create(config, *others)

    @rule(num_new_tokens=st.integers(1, 9), budget=st.integers(1, 9))
    def ask(self, num_new_tokens: int, budget: int) -> None:
        """Let somebody come, and ask for the share of who lacks so many, with so much left."""
        budget = min(budget, self.whole_budget)
        self.num_made += 1
        asks = self.make(request(f"r{self.num_made}"))
        self.do("add_request", asks)
        self.do("limit_chunk", asks, num_new_tokens, budget)


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
    life.apply(accounts)
    take(life, 3)
    life.apply(accounts)
    _client(life, "d1", 1)
    life.apply(accounts)


def three_of_two(life: Life) -> None:
    """Equal counters go by name; within a client it is first come, first served."""
    life.create(2.0, 1.0)
    made = [_client(life, name, n) for name, n in (("b1", 2), ("a1", 3), ("a2", 1), ("b2", 1))]
    life.apply(service_line)
    take(life, 2)
    tokens(life, made[0], 5)
    life.apply(accounts)
    _client(life, "c1", 4)
    life.apply(accounts)
    take(life, 4)


def who_comes_back(life: Life) -> None:
    """One that was preempted comes back, in front of its client's, and pays nothing again."""
    life.create()
    _client(life, "a1", 9)
    _client(life, "a2", 5)
    _client(life, "b1", 3)
    take(life, 2)
    life.do("put_back", life.make(returned("b0", 7, client_id="b")))
    life.apply(accounts)
    life.apply(service_line)
    take(life, 2)
    life.apply(accounts)


def on_with_the_answer(life: Life) -> None:
    """One comes back in the middle of its answer, another before its first token; both go on."""
    life.create()
    back = [
        life.make(returned("a1", 4, 9, 3, client_id="a")),
        life.make(returned("a2", 4, 9, client_id="a")),
    ]
    for who in reversed(back):
        life.do("put_back", who)
    take(life, 2)
    life.apply(accounts)
    life.do("charge", back)
    life.apply(accounts)
    life.do("charge", back[:1])
    life.apply(accounts)


def parts_of_a_token(life: Life) -> None:
    """Weights need not be whole numbers."""
    life.create(0.25, 1.5)
    whose, *_ = (_client(life, name, n) for name, n in (("a1", 2), ("b1", 1), ("a2", 1), ("b2", 1)))
    take(life, 3)
    tokens(life, whose, 1)
    life.apply(accounts)


def told_by_a_generator(life: Life) -> None:
    """The requests that get a token are told one after the other, and only once."""
    life.create()
    life.apply(charge_one_after_the_other, "aba")


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
    life.apply(accounts)
    take(life, 2)


def after_an_empty_line(life: Life) -> None:
    """Nobody waits any more; who comes then is lifted to who was taken last, and never lowered."""
    life.create()
    busy = _client(life, "a1", 2)
    take(life)
    tokens(life, busy, 6)
    _client(life, "b1", 5)
    life.apply(accounts)
    take(life)
    _client(life, "a2", 1)
    life.apply(accounts)
    leaves = _client(life, "c1", 1)
    life.do("remove", leaves)
    life.do("remove", leaves)
    life.apply(accounts)
    _client(life, "c2", 1)
    take(life, 2)
    life.apply(accounts)
    life.do("peek", reads=NAME)


def preempted_and_taken_last(life: Life) -> None:
    """Who was taken last had been preempted; who comes when nobody waits is lifted to it."""
    life.create()
    busy = _client(life, "a1", 2)
    take(life)
    tokens(life, busy, 2)
    came_back = life.make(returned("b1", 3, client_id="b"))
    life.do("put_back", came_back)
    take(life)
    tokens(life, came_back, 9)
    _client(life, "c1", 1)
    life.apply(accounts)
    take(life)


def the_rest_leaves(life: Life) -> None:
    """Who was taken last had more waiting, which leaves; then nobody waits."""
    life.create()
    _client(life, "a1", 5)
    leaves = _client(life, "a2", 1)
    take(life)
    life.do("remove", leaves)
    _client(life, "c1", 1)
    life.apply(accounts)


def only_looked_at(life: Life) -> None:
    """Somebody is looked at, and leaves before it is taken."""
    life.create()
    busy = _client(life, "a1", 5)
    take(life)
    leaves = _client(life, "b1", 1)
    life.do("peek", reads=NAME)
    life.do("remove", leaves)
    tokens(life, busy, 1)
    _client(life, "c1", 1)
    life.apply(accounts)


def equal_counters(life: Life) -> None:
    """Of equal counters the first by name is next, whoever came first."""
    life.create()
    for name, client_id, arrival_time in (("b1", "b", 0.0), ("a1", "ab", 1.0)):
        come(life, name, client_id=client_id, arrival_time=arrival_time)
    take(life, 2)


FAIR: tuple[Script, ...] = (
    as_in_the_lesson,
    three_of_two,
    who_comes_back,
    on_with_the_answer,
    debts_stay,
    after_an_empty_line,
    preempted_and_taken_last,
    the_rest_leaves,
    only_looked_at,
    equal_counters,
    parts_of_a_token,
    told_by_a_generator,
    nobody,
)


def many_of_one_client(life: Life) -> None:
    """A client has many waiting, and another one comes and goes."""
    life.create()
    life.apply(come_and_go, 10_000)


SLOW = (
    "No call may go through all requests that wait: `lift` and `least_served` look at their "
    "clients alone, and each client has a queue"
)
FAIR_AT_SIZE = (
    LargeLife(
        many_are_served(20_000), "20,000 come, and half of them are served and come back", slow=SLOW
    ),
    LargeLife(many_of_one_client, "10,000 of a wait, and b comes and goes as often", slow=SLOW),
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


def long_and_short_prompts(life: Life) -> None:
    """Counted are tokens that are cached, not their share of the prompt, nor those that are not."""
    life.create(Make(CachedTokens, {"r0": 16, "r1": 32}), max_passes=9)
    for name, prompt in (("r0", 20), ("r1", 90)):
        come(life, name, prompt)
    take(life, 2)


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


def looked_at_twice(life: Life) -> None:
    """Somebody is due, and is looked at twice, as when there is no room: it stays due."""
    _cached(1, 0, 16)(life)
    take(life)
    life.apply(cache_tokens, "late", 96)
    come(life, "late")
    for _ in range(2):
        life.do("peek", reads=NAME)


def no_passing(life: Life) -> None:
    """With no passes allowed it is first come, first served."""
    _cached(0, 0, 16, 32)(life)
    take(life, 3)


def _asked(max_passes: int, **passes: int) -> Script:
    """Return a life in which the choice itself is asked for, among those passed over so often."""

    def life_of(life: Life) -> None:
        life.create(Make(CachedTokens, {}), max_passes=max_passes)
        life.apply(choose_among, passes)

    return life_of


CACHED: tuple[Script, ...] = (
    longest_first,
    long_and_short_prompts,
    passed_over,
    two_are_due,
    more_than_enough,
    looked_at_twice,
    no_passing,
    _asked(0, r0=0),
    _asked(2, r0=1, r1=2, r2=3),
    _asked(2, r0=1, r1=8),
    _asked(2, r0=0, r1=1, r2=0, r3=2),
)


def long_line(life: Life) -> None:
    """Choose among many."""
    life.create(Make(CachedTokens, {}), max_passes=2)
    life.apply(choose_in_a_long_line, 20_000)


LONG_LINE = LargeLife(
    long_line,
    "a line of 20,000",
    slow="Go through the line once for somebody who is due, and once for the most cached tokens, "
    "not once for each who waits",
)

# The budget, split


def _split(life: Life, budget: int, seats: int = 8, **limits: Any) -> None:
    config = SchedulerConfig(max_num_seqs=seats, max_num_batched_tokens=budget, **limits)
    life.create(config, Make(KVCacheManager, 200, 2, enable_caching=False))


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
    for name in "ab":
        add(life, name, 3)
    asks = life.make(request("asks"))
    life.do("add_request", asks)
    life.do("limit_chunk", asks, 25, 30)
    life.do("limit_chunk", asks, 25, 2)
    life.do("limit_chunk", asks, 1, 30)


def many_share(life: Life) -> None:
    """Many share, and somebody asks."""
    _split(life, 30_000, seats=10_000)
    life.apply(ask_among_many, 5_000)


MANY_SHARE = LargeLife(
    many_share,
    "5,000 requests, one of which asks ten times",
    slow="`len(self.requests)` says at once how many there are",
)
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


def late_on_another_clock(life: Life) -> None:
    """Virtual time is not that of the arrivals."""
    life.create()
    come(life, "a1", 1, 1, client_id="a", arrival_time=30.0)
    life.see("last_finish")


WEIGHTS = (
    _weighted(("a1", 20), ("b1", 20), ("a2", 20), ("b2", 20), ("a3", 20), ("b3", 20)),
    _weighted(("a1", 8), ("a2", 12), ("b1", 6), ("c1", 30), ("b2", 4), ("a3", 10), taken=3),
    _weighted(("b1", 50), ("b2", 50), ("c1", 5), ("a1", 40), taken=2),
    late_on_another_clock,
)
