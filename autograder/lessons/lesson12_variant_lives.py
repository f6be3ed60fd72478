"""Lesson 12: lives with drafts, with placeholders, with adapters, and of a limit that moves."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from autograder.checks.compare import exactly
from autograder.checks.stateful import Life, Twin
from autograder.proxy.recipes import Make
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig, SchedulerOutput
from course_lib.scheduling.watch.ahead import placed, plan_ahead, taken_back, verify
from course_lib.scheduling.watch.iterations import queues_of, run_iteration


def prompt(number: int, num_tokens: int) -> list[int]:
    """Return tokens that no other request has."""
    return list(range(100 * number, 100 * number + num_tokens))


def request(name: str, num_tokens: int, max_tokens: int = 20, **told: Any) -> Make:
    """Return the recipe of a request."""
    return Make(Request, name, prompt(ord(name[0]), num_tokens), max_tokens, **told)


def make(life: Life, num_blocks: int = 20, *, limits: SchedulerConfig | None = None) -> None:
    """Make a scheduler with blocks of four slots."""
    life.create(limits or SchedulerConfig(), Make(KVCacheManager, num_blocks, 4))


# 12.4, drafts


class DraftLife(Twin):
    """What may become of drafts."""

    num_made = 0

    @initialize(budget=st.sampled_from((4, 9, 64)))
    def make_one(self, budget: int) -> None:
        """Start with one request, which has its first token."""
        self.create(SchedulerConfig(max_num_batched_tokens=budget), Make(KVCacheManager, 30, 4))
        self.come()
        self.apply(verify, {}, {})

    @precondition(lambda self: self.num_made < 3)
    @rule()
    def come(self) -> None:
        """Let a request come."""
        self.num_made += 1
        name = f"r{self.num_made}"
        self.do("add_request", Make(Request, name, prompt(self.num_made, 3), 30))

    @rule(
        num_drafts=st.lists(st.integers(0, 3), min_size=3, max_size=3),
        num_tokens=st.lists(st.sampled_from((1, 1, 2, 2, 3, 4, 0, 5)), min_size=3, max_size=3),
        alone=st.booleans(),
    )
    def verify(self, num_drafts: list[int], num_tokens: list[int], alone: bool) -> None:
        """Give drafts and answer, with as many tokens as may come, or not."""
        names = [f"r{number}" for number in range(1, 4)]
        drafts = {name: [8] * num for name, num in zip(names, num_drafts, strict=True) if num}
        sampled = {
            name: 9 if alone and num == 1 else [9] * num
            for name, num in zip(names, num_tokens, strict=True)
            if name in drafts
        }
        self.apply(verify, drafts, sampled)
        self.apply(queues_of)


def _begun(life: Life, *names: str) -> None:
    """Make a scheduler with requests that have their first tokens."""
    make(life)
    for name in names:
        life.do("add_request", request(name, 3))
    life.apply(verify, {}, {})


def all_accepted(life: Life) -> None:
    """All drafts are right."""
    _begun(life, "a")
    life.apply(verify, {"a": [8, 9, 10]}, {"a": [8, 9, 10, 4]})
    life.apply(verify, {}, {})


def some_accepted(life: Life) -> None:
    """Two of three drafts are right, then one, then none."""
    _begun(life, "a")
    life.apply(verify, {"a": [8, 9, 10]}, {"a": [8, 9, 5]})
    life.apply(verify, {"a": [8, 9, 10]}, {"a": [8, 5]})
    life.apply(verify, {"a": [8, 9, 10]}, {"a": [5]})
    life.apply(verify, {"a": [8, 9, 10]}, {"a": 5})


def two_with_drafts(life: Life) -> None:
    """Two have drafts, and one has none."""
    _begun(life, "a", "b", "c")
    life.apply(verify, {"a": [8, 9], "b": [8]}, {"a": [8, 5], "b": [5]})
    life.apply(verify, {"b": [8, 9, 10]}, {"b": [8, 9, 5]})


def too_few_or_too_many(life: Life) -> None:
    """The second of two gets what no step can give."""
    for wrong in ([], [8, 9, 10, 11]):
        _begun(life, "a", "b")
        life.apply(verify, {"a": [8, 9], "b": [8, 9]}, {"a": [5], "b": wrong})
        life.apply(queues_of)


def one_leaves(life: Life) -> None:
    """A client goes away while the step runs."""
    _begun(life, "a", "b")
    life.apply(verify, {"a": [8, 9], "b": [8, 9]}, {"a": [5], "b": [8, 5]}, "a")
    life.apply(queues_of)


def one_comes_again(life: Life) -> None:
    """Another request comes under the name of one that went away while the step ran."""
    _begun(life, "a", "b")
    life.apply(verify, {"a": [8, 9], "b": [8, 9]}, {"a": [5], "b": [5]}, "a", True)
    life.apply(queues_of)


def nothing_to_take_back(life: Life) -> None:
    """It is called for a request that is not ahead of what it knows, and for nobody."""
    _begun(life, "a")
    for drafts, sampled in (({"a": [8, 9]}, {"a": [5]}), ({"a": [8]}, {}), ({}, {"a": 5})):
        plan = Make(SchedulerOutput, scheduled_spec_decode_tokens=drafts)
        life.do("take_back_rejected", plan, sampled)
        life.apply(queues_of)


def a_namesake_is_planned(life: Life) -> None:
    """Another request under the name is planned whole when the tokens of an old plan come."""
    make(life)
    life.do("add_request", request("a", 3))
    life.do("schedule", reads=("total_num_scheduled_tokens",))
    plan = Make(SchedulerOutput, scheduled_spec_decode_tokens={"a": [8, 9]})
    life.do("take_back_rejected", plan, {"a": [5]})
    life.apply(queues_of)


def what_it_is_given(life: Life) -> None:
    """The plan and the tokens are still needed."""
    _begun(life, "a")
    life.apply(taken_back, {"a": [8, 9]}, {"a": [8, 5]})


DRAFTS = (
    some_accepted,
    all_accepted,
    two_with_drafts,
    too_few_or_too_many,
    one_leaves,
    one_comes_again,
    nothing_to_take_back,
    a_namesake_is_planned,
    what_it_is_given,
)

# 12.5, placeholders


def planned(
    known: int, ahead: int, computed: int, room: int, asked: int = 0
) -> tuple[int, int, int, int, int]:
    """Return the state of a request of a plan, as ``placed`` takes it.

    Args:
        known: Tokens of its prompt.
        ahead: Placeholders.
        computed: Tokens computed, this plan's included.
        room: Tokens that it may still come to have, behind known ones and placeholders.
        asked: Tokens that it asks for beyond these.
    """
    return known, ahead, computed, known + ahead + room, ahead + room + asked


class AheadLife(Twin):
    """What a placeholder may have to be put for."""

    @initialize()
    def make_one(self) -> None:
        """Start with nobody in it."""
        self.create(SchedulerConfig(), Make(KVCacheManager, 20, 4))

    @rule(
        known=st.integers(1, 4),
        ahead=st.integers(0, 1),
        lacking=st.integers(0, 3),
        room=st.integers(1, 4),
        asked=st.sampled_from((0, 0, 3)),
    )
    def place(self, known: int, ahead: int, lacking: int, room: int, asked: int) -> None:
        """Put one, or none."""
        computed = max(known + ahead - lacking, 1)
        self.apply(placed, *planned(known, ahead, computed, room, asked))


def _placed(life: Life, *states: tuple[int, int, int, int, int]) -> None:
    make(life)
    for state in states:
        life.apply(placed, *state)


def caught_up(life: Life) -> None:
    """A request is computed to its end, and goes on."""
    _placed(life, planned(3, 0, 3, room=3))


def in_mid_prompt(life: Life) -> None:
    """A prompt is cut."""
    _placed(life, planned(4, 0, 2, room=3))


def the_end_is_near(life: Life) -> None:
    """The token on its way is the last one, or the one before it."""
    _placed(life, planned(3, 0, 3, room=1), planned(3, 0, 3, room=2))


def one_is_there(life: Life) -> None:
    """A placeholder is there, and is computed by this step, or not."""
    _placed(life, planned(3, 1, 4, room=3), planned(3, 1, 3, room=3), planned(3, 1, 4, room=1))


def the_scheduler_allows_less(life: Life) -> None:
    """The request asks for more than the scheduler allows."""
    _placed(life, planned(3, 0, 3, room=1, asked=5))


def returns_nothing(life: Life) -> None:
    """It is called by itself for a request that has caught up."""
    make(life)
    state = Make(Request, "a", [1, 2, 3], 4).set("num_computed_tokens", 3)
    life.do("place_ahead", life.make(state))


def two_steps(life: Life) -> None:
    """Steps are planned ahead, with a prompt that is cut among them."""
    make(life, limits=SchedulerConfig(max_num_batched_tokens=6))
    life.do("add_request", request("a", 3, 4))
    life.do("add_request", request("b", 8, 2))
    for _ in range(3):
        life.apply(plan_ahead, "ppup")


AHEAD = (
    caught_up,
    in_mid_prompt,
    the_end_is_near,
    one_is_there,
    the_scheduler_allows_less,
    two_steps,
    returns_nothing,
)

# 12.6a, adapters


def same_meaning(expected: Any, got: Any) -> str | None:
    """Agree on any two reasons, and on none; on all else if it is the same."""
    if isinstance(expected, str) and isinstance(got, str):
        return None if bool(expected) == bool(got) else ""
    return exactly(expected, got)


class AdapterLife(Twin):
    """Who may come with which adapter."""

    num_made = 0

    @initialize(max_loras=st.integers(1, 3), max_num_seqs=st.sampled_from((4, 8)))
    def make_one(self, max_loras: int, max_num_seqs: int) -> None:
        """Start with nobody in it."""
        self.create(
            SchedulerConfig(max_num_seqs=max_num_seqs),
            Make(KVCacheManager, 40, 4),
            max_loras=max_loras,
        )

    @rule(adapter=st.sampled_from((None, "sql", "poems", "law")), max_tokens=st.integers(1, 3))
    def come(self, adapter: str | None, max_tokens: int) -> None:
        """Let a request come; ask whether it may start now."""
        self.num_made += 1
        name = f"r{self.num_made}"
        made = self.make(Make(Request, name, prompt(self.num_made, 2), max_tokens, lora_id=adapter))
        self.do("why_not_now", made)
        self.do("add_request", made)

    @rule()
    def run(self) -> None:
        """Plan and answer an iteration."""
        self.apply(run_iteration)


def adapters(life: Life, max_loras: int, *loras: str | None) -> None:
    """Let requests come with these adapters, one after the other, and run an iteration after each.

    Each is asked for beforehand.
    """
    life.create(SchedulerConfig(), Make(KVCacheManager, 40, 4), max_loras=max_loras)
    for number, adapter in enumerate(loras):
        made = life.make(Make(Request, "abcdefgh"[number], [number] * 2, 9, lora_id=adapter))
        life.do("why_not_now", made)
        life.do("add_request", made)
        life.apply(run_iteration)


def one_slot(life: Life) -> None:
    """One slot, three adapters, and two who need none."""
    adapters(life, 1, "sql", "sql", None, "poems", None, "law")


def two_slots(life: Life) -> None:
    """Two share an adapter, so there is a slot left."""
    adapters(life, 2, "sql", "sql", "poems", "law", "sql")


def base_first(life: Life) -> None:
    """Who needs no adapter runs already."""
    adapters(life, 1, None, "sql", None, "poems")


def some_wait(life: Life) -> None:
    """Somebody waits for a place in the batch, with an adapter of its own."""
    life.create(SchedulerConfig(max_num_seqs=1), Make(KVCacheManager, 40, 4), max_loras=2)
    for name, adapter in (("a", "sql"), ("b", "poems"), ("c", "law")):
        life.do("add_request", Make(Request, name, [ord(name)] * 2, 2, lora_id=adapter))
    life.apply(run_iteration)
    life.do("why_not_now", life.make(Make(Request, "d", [1], 2, lora_id="french")))
    for _ in range(6):
        life.apply(run_iteration)


ADAPTERS = (one_slot, two_slots, base_first, some_wait)

# 12.6b, a limit that moves


def controlled(life: Any, target: float, budget: int, seats: int, **options: Any) -> None:
    """Make a controller of a scheduler."""
    config = SchedulerConfig(max_num_batched_tokens=budget, max_num_seqs=seats)
    life.create(Make(Scheduler, config, Make(KVCacheManager, 10, 4)), target, **options)


def limits_seen(life: Any) -> None:
    """Compare both limits."""
    life.see("scheduler.max_num_batched_tokens")
    life.see("scheduler.max_num_seqs")


class ControllerLife(Twin):
    """How long steps may take."""

    @initialize(
        budget=st.integers(40, 2048),
        seats=st.integers(8, 39),
        limit=st.sampled_from(("max_num_batched_tokens", "max_num_seqs")),
        minimum=st.integers(1, 8),
        increase=st.integers(1, 16),
        decrease=st.sampled_from((0.5, 0.8, 0.9)),
    )
    def make_one(self, budget: int, seats: int, **options: Any) -> None:
        """Start with the limits of the configuration."""
        controlled(self, 0.05, budget, seats, **options)

    @rule(seconds=st.sampled_from((0.01, 0.05, 0.06, 0.2)), times=st.integers(1, 4))
    def observe(self, seconds: float, times: int) -> None:
        """Let steps take so long."""
        for _ in range(times):
            self.do("observe", seconds)
            limits_seen(self)


def _observed(life: Life, *seconds: float) -> None:
    for each in seconds:
        life.do("observe", each)
        limits_seen(life)


def long_and_short(life: Life) -> None:
    """Some steps are too long, some are not, one takes just the target."""
    controlled(life, 0.05, 2048, 128)
    _observed(life, 0.08, 0.04, 0.05, 0.2, 0.06)


def at_the_bottom(life: Life) -> None:
    """The limit comes to its minimum."""
    controlled(life, 0.05, 32, 8, minimum=20)
    _observed(life, 0.08, 0.08, 0.08, 0.08, 0.01)


def at_the_top(life: Life) -> None:
    """The limit comes to what the configuration says."""
    controlled(life, 0.05, 30, 8, increase=7)
    _observed(life, 0.01, 0.08, 0.01, 0.01)


def the_seats(life: Life) -> None:
    """The number of sequences is moved."""
    controlled(life, 0.05, 100, 13, limit="max_num_seqs", increase=2, decrease=0.9)
    _observed(life, 0.08, 0.08, 0.08, 0.08, 0.08, 0.08, 0.01, 0.01)


CONTROLLED = (long_and_short, at_the_bottom, at_the_top, the_seats)
