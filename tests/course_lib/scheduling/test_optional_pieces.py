"""Drafts, adapters, planning ahead, batch size under an SLO, and the log of decisions."""

import importlib
import itertools
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.kv_cache import KVCacheManager
from course_lib.scheduling import (
    Action,
    AsyncScheduler,
    CacheAwareRequestQueue,
    CacheAwareScheduler,
    DecisionLog,
    EvenSplitScheduler,
    HeadSkippingScheduler,
    LoRAScheduler,
    Request,
    RequestStatus,
    Scheduler,
    SchedulerConfig,
    SpeculativeScheduler,
    StaticBatchingScheduler,
    StepTimeController,
    variants,
)
from course_lib.scheduling.timing import decoding_scheduler, scheduler_steps

ABORTED = RequestStatus.FINISHED_ABORTED


def manager(num_blocks: int = 50, *, enable_caching: bool = False) -> KVCacheManager:
    return KVCacheManager(num_blocks, 4, enable_caching)


def request(name: str, num_tokens: int = 4, max_tokens: int = 50, **settings: object) -> Request:
    prompt = [1000 * ord(name[0]) + index for index in range(num_tokens)]
    return Request(name, prompt, max_tokens, **settings)  # type: ignore[arg-type]


def step(scheduler: Scheduler, token: int = 7) -> dict[str, int]:
    output = scheduler.schedule()
    caught_up = [
        name
        for name in output.num_scheduled_tokens
        if scheduler.requests[name].num_computed_tokens == scheduler.requests[name].num_tokens
    ]
    scheduler.update_from_output(output, dict.fromkeys(caught_up, token))
    return output.num_scheduled_tokens


class TestSpeculativeTokens:
    def decoding(self, num_blocks: int = 50, **settings: object) -> SpeculativeScheduler:
        """Return a scheduler with a request a of 5 known tokens, of which 4 are computed."""
        max_tokens = settings.pop("max_tokens", 50)
        config = SchedulerConfig(**settings)  # type: ignore[arg-type]
        scheduler = SpeculativeScheduler(config, manager(num_blocks))
        scheduler.add_request(request("a", 4, max_tokens=max_tokens))  # type: ignore[arg-type]
        step(scheduler)
        return scheduler

    @pytest.mark.parametrize(
        ("sampled", "num_computed"), [([1, 2, 3, 9], 8), ([1, 2, 9], 7), ([9], 5), (9, 5)]
    )
    def test_what_was_computed_for_rejected_drafts_is_taken_back(
        self, sampled: int | list[int], num_computed: int
    ) -> None:
        scheduler = self.decoding()
        a = scheduler.requests["a"]
        scheduler.add_drafts({"a": [1, 2, 3]})
        output = scheduler.schedule()
        assert output.num_scheduled_tokens == {"a": 4}
        assert output.scheduled_spec_decode_tokens == {"a": [1, 2, 3]}
        assert a.num_computed_tokens == 8
        scheduler.update_from_output(output, {"a": sampled})
        assert a.num_computed_tokens == num_computed
        assert a.num_tokens == num_computed + 1
        assert step(scheduler) == {"a": 1}

    def test_drafts_are_cut_to_the_budget(self) -> None:
        scheduler = self.decoding()
        scheduler.max_num_batched_tokens = 3
        scheduler.add_drafts({"a": [1, 2, 3]})
        output = scheduler.schedule()
        assert output.num_scheduled_tokens == {"a": 3}
        assert output.scheduled_spec_decode_tokens == {"a": [1, 2]}
        scheduler.update_from_output(output, {"a": [9]})
        assert scheduler.requests["a"].num_computed_tokens == 5

    def test_no_draft_goes_beyond_what_the_request_may_have(self) -> None:
        # 5 tokens are known and 8 allowed: two drafts and one token more.
        scheduler = self.decoding(max_tokens=4)
        scheduler.add_drafts({"a": [1, 2, 3, 4]})
        assert scheduler.schedule().scheduled_spec_decode_tokens == {"a": [1, 2]}

    def test_nor_beyond_what_the_pool_holds(self) -> None:
        scheduler = self.decoding(num_blocks=3)
        scheduler.add_drafts({"a": [1, 2, 3, 4]})
        output = scheduler.schedule()
        assert output.num_scheduled_tokens == {"a": 3}
        finished = scheduler.update_from_output(output, {"a": [1, 2, 9]})
        assert [each.num_tokens for each in finished] == [8]

    def test_drafts_are_good_for_one_step(self) -> None:
        scheduler = self.decoding()
        scheduler.add_request(request("b", 3))
        scheduler.max_num_batched_tokens = 1
        scheduler.add_drafts({"a": [1, 2]})
        assert step(scheduler) == {"a": 1}
        scheduler.max_num_batched_tokens = 99
        assert step(scheduler) == {"a": 1, "b": 3}

    def test_only_decoding_requests_take_drafts(self) -> None:
        scheduler = SpeculativeScheduler(SchedulerConfig(max_num_batched_tokens=4), manager())
        scheduler.add_request(request("a", 7))
        scheduler.add_request(request("b", 7))
        step(scheduler)
        scheduler.add_drafts({"a": [1], "b": [1], "nobody": [1]})
        assert step(scheduler) == {"a": 3, "b": 1}

    def test_a_block_with_drafts_in_it_is_not_cached(self) -> None:
        scheduler = SpeculativeScheduler(SchedulerConfig(), manager(enable_caching=True))
        scheduler.add_request(Request("a", [1, 2, 3], 50))
        step(scheduler, token=4)
        scheduler.add_drafts({"a": [5, 6, 7, 8]})
        output = scheduler.schedule()
        same = Request("same", [1, 2, 3, 4, 5, 6, 7, 8, 9], 50)
        _, num_hits = scheduler.kv_cache_manager.get_computed_blocks(same)
        assert num_hits == 4
        scheduler.update_from_output(output, {"a": [5, 6, 99]})

    def test_a_wrong_number_of_tokens_is_refused(self) -> None:
        scheduler = self.decoding()
        scheduler.add_drafts({"a": [1, 2]})
        output = scheduler.schedule()
        for tokens in ([], [1, 2, 3, 4]):
            with pytest.raises(ValueError, match="had 2 drafts and got"):
                scheduler.update_from_output(output, {"a": tokens})
        assert scheduler.requests["a"].num_computed_tokens == 7

    def test_an_answer_to_an_aborted_request_does_not_hurt_the_next_of_its_name(self) -> None:
        scheduler = self.decoding()
        scheduler.add_drafts({"a": [1, 2]})
        output = scheduler.schedule()
        scheduler.finish_requests("a", ABORTED)
        again = request("a")
        scheduler.add_request(again)
        scheduler.update_from_output(output, {"a": [1, 9]})
        assert (again.num_computed_tokens, again.num_tokens) == (0, 4)


class TestPassingOverTheHead:
    def test_small_ones_pass_and_the_large_one_stays_in_front(self) -> None:
        scheduler = HeadSkippingScheduler(SchedulerConfig(max_num_seqs=3), manager(6))
        for name, num_tokens in (("a", 8), ("long", 16), ("wide", 13), ("b", 4), ("c", 4)):
            scheduler.add_request(request(name, num_tokens))
        scheduler.add_request(request("d", 4))
        assert step(scheduler) == {"a": 8, "b": 4, "c": 4}
        assert [each.request_id for each in scheduler.waiting] == ["long", "wide", "d"]

    def test_where_all_fit_it_is_like_any_other(self) -> None:
        schedules = []
        for make in (Scheduler, HeadSkippingScheduler):
            scheduler = make(SchedulerConfig(max_num_batched_tokens=10), manager())
            for name in "abcd":
                scheduler.add_request(request(name, 7, max_tokens=3))
            schedules.append([step(scheduler) for _ in range(9)])
        assert schedules[0] == schedules[1]

    def test_nobody_passes_those_that_are_swapped_out(self) -> None:
        config = SchedulerConfig(preemption_mode="swap", num_cpu_blocks=10)
        scheduler = HeadSkippingScheduler(config, manager(4))
        for name in "ab":
            scheduler.add_request(request(name, 4))
        while not scheduler.swapped:
            step(scheduler)
        scheduler.add_request(request("c", 1))
        scheduler.add_request(request("d", 1))
        assert list(step(scheduler)) == ["a"]
        assert [each.request_id for each in scheduler.waiting] == ["c", "d"]


class TestCacheAwareOrder:
    def test_who_shares_a_cached_prefix_is_served_before_it_is_evicted(self) -> None:
        config = SchedulerConfig(max_num_seqs=1)
        scheduler = CacheAwareScheduler(config, manager(enable_caching=True))
        for name, first in (("a1", "a"), ("b1", "b"), ("a2", "a"), ("c1", "c"), ("b2", "b")):
            prompt = [1000 * ord(first) + index for index in range(12)]
            scheduler.add_request(Request(name, prompt, max_tokens=1))
        served = [list(step(scheduler)) for _ in range(5)]
        assert served == [["a1"], ["a2"], ["b1"], ["b2"], ["c1"]]

    @given(
        st.lists(st.integers(0, 3), min_size=1, max_size=12),
        st.integers(0, 4),
        st.lists(st.booleans(), max_size=30),
    )
    def test_nobody_is_passed_over_more_often_than_that(
        self, cached: list[int], max_passes: int, calls: list[bool]
    ) -> None:
        hits: dict[str, int] = {}
        queue = CacheAwareRequestQueue(lambda r: hits[r.request_id], max_passes=max_passes)
        line: list[str] = []
        passes: Counter[str] = Counter()
        numbers = itertools.cycle(cached)
        for index, is_arrival in enumerate([*calls, *[False] * 30]):
            if is_arrival:
                hits[str(index)] = next(numbers)
                queue.add(request(str(index)))
                line.append(str(index))
            elif line:
                expected = [each.request_id for each in queue]
                assert sorted(expected) == sorted(line)
                assert queue.peek().request_id == expected[0]
                taken = queue.pop().request_id
                assert taken == expected[0]
                passes.update(line[: line.index(taken)])
                line.remove(taken)
        assert not line
        assert max(passes.values(), default=0) <= max_passes

    def test_what_is_taken_is_what_was_looked_at(self) -> None:
        hits = {"a": 0, "b": 16}
        queue = CacheAwareRequestQueue(lambda r: hits[r.request_id])
        for name in "ab":
            queue.add(request(name))
        assert queue.peek().request_id == "b"
        hits["b"] = 0  # its blocks were handed out for itself
        assert queue.pop().request_id == "b"

    def test_an_empty_queue_has_nothing_to_give(self) -> None:
        queue = CacheAwareRequestQueue(lambda r: 0)
        for call in (queue.peek, queue.pop):
            with pytest.raises(IndexError, match="no request is waiting"):
                call()
        with pytest.raises(ValueError, match="max_passes is -1; it must be 0 or more"):
            CacheAwareRequestQueue(lambda r: 0, max_passes=-1)


class TestAnEvenSplit:
    def test_each_request_has_its_share_and_what_decodes_leave_is_nobodys(self) -> None:
        config = SchedulerConfig(max_num_batched_tokens=12)
        scheduler = EvenSplitScheduler(config, manager())
        scheduler.add_request(request("a", 6))
        assert step(scheduler) == {"a": 6}
        scheduler.add_request(request("b", 30))
        assert step(scheduler) == {"a": 1, "b": 6}

    def test_who_sends_more_requests_has_more_shares(self) -> None:
        config = SchedulerConfig(max_num_batched_tokens=12)
        scheduler = EvenSplitScheduler(config, manager())
        for name in ("a1", "a2", "b"):
            scheduler.add_request(request(name, 40, client_id=name[0]))
        assert step(scheduler) == {"a1": 4, "a2": 4, "b": 4}

    def test_a_share_is_at_least_a_token(self) -> None:
        scheduler = EvenSplitScheduler(SchedulerConfig(max_num_batched_tokens=2), manager())
        for name in "abc":
            scheduler.add_request(request(name, 3))
        assert step(scheduler) == {"a": 1, "b": 1}


def test_variants_override_public_methods_only() -> None:
    names = [path.stem for path in Path(variants.__file__).parent.glob("*.py")]
    modules = [importlib.import_module(f"{variants.__name__}.{name}") for name in names]
    classes = {
        each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, type) and each.__module__ == module.__name__
    }
    assert len(classes) > 8
    for each in classes:
        for base in each.__mro__[1:-1]:
            private = {name for name in vars(base) if name.startswith("_") and name[1:2] != "_"}
            assert not private & vars(each).keys() - {"_abc_impl", "_is_protocol"}


class TestAdapters:
    def add(self, scheduler: Scheduler, *loras: str | None) -> None:
        for index, lora_id in enumerate(loras):
            scheduler.add_request(request("abcdefg"[index], lora_id=lora_id))

    def test_admission_stops_at_one_adapter_too_many(self) -> None:
        scheduler = LoRAScheduler(SchedulerConfig(), manager(), max_loras=2)
        self.add(scheduler, "x", None, "y", "x", "z", "x")
        assert list(step(scheduler)) == ["a", "b", "c", "d"]
        scheduler.finish_requests("c", ABORTED)  # the only one with y
        assert list(step(scheduler)) == ["a", "b", "d", "e", "f"]

    def test_a_swapped_request_needs_a_slot_to_come_back(self) -> None:
        config = SchedulerConfig(preemption_mode="swap", num_cpu_blocks=9)
        scheduler = LoRAScheduler(config, manager(4), max_loras=2)
        self.add(scheduler, "x", "y", "y")
        step(scheduler)
        step(scheduler)
        assert [each.request_id for each in scheduler.swapped] == ["c", "b"]
        scheduler.max_loras = 1
        scheduler.finish_requests("c", ABORTED)
        assert step(scheduler) == {"a": 1}
        scheduler.finish_requests("a", ABORTED)
        assert list(step(scheduler)) == ["b"]

    def test_there_is_at_least_one_slot(self) -> None:
        with pytest.raises(ValueError, match="max_loras is 0"):
            LoRAScheduler(SchedulerConfig(), manager(), max_loras=0)


class TestPlanningAhead:
    def scheduler(self, num_blocks: int = 50, **settings: object) -> AsyncScheduler:
        return AsyncScheduler(SchedulerConfig(**settings), manager(num_blocks))  # type: ignore[arg-type]

    def test_a_step_is_planned_before_the_tokens_of_the_last_are_known(self) -> None:
        scheduler = self.scheduler()
        a = request("a", 6)
        scheduler.add_request(a)
        plans = [scheduler.schedule(), scheduler.schedule()]
        assert [plan.num_scheduled_tokens for plan in plans] == [{"a": 6}, {"a": 1}]
        assert (a.num_tokens, a.num_computed_tokens, a.num_tokens_ahead) == (6, 7, 2)
        scheduler.update_from_output(plans[0], {"a": 10})
        plans.append(scheduler.schedule())
        assert plans[2].num_scheduled_tokens == {"a": 1}
        scheduler.update_from_output(plans[1], {"a": 11})
        assert a.output_token_ids == [10, 11]
        assert (a.num_tokens, a.num_computed_tokens, a.num_tokens_ahead) == (8, 8, 1)

    def test_a_length_that_is_reached_for_certain_is_not_exceeded(self) -> None:
        scheduler = self.scheduler()
        scheduler.add_request(request("a", 4, max_tokens=2))
        first, second = scheduler.schedule(), scheduler.schedule()
        scheduler.update_from_output(first, {"a": 1})
        third = scheduler.schedule()
        assert third.num_scheduled_tokens == {}
        (a,) = scheduler.update_from_output(second, {"a": 2})
        assert a.output_token_ids == [1, 2]

    def test_eos_is_seen_one_step_late(self) -> None:
        scheduler = self.scheduler()
        scheduler.add_request(request("a", 4, eos_token_id=9))
        first, second = scheduler.schedule(), scheduler.schedule()
        (a,) = scheduler.update_from_output(first, {"a": 9})
        assert a.status is RequestStatus.FINISHED_STOPPED
        assert scheduler.update_from_output(second, {"a": 5}) == []
        assert a.output_token_ids == [9]

    @pytest.mark.parametrize("mode", ["recompute", "swap"])
    def test_a_token_that_was_on_its_way_counts_after_a_preemption(self, mode: str) -> None:
        scheduler = self.scheduler(num_blocks=3, preemption_mode=mode, num_cpu_blocks=4)
        scheduler.add_request(request("a", 4))
        scheduler.add_request(request("b", 4, max_tokens=1))
        scheduler.add_request(request("c", 4))
        first = scheduler.schedule()
        assert first.num_scheduled_tokens == {"a": 4, "b": 4}
        second = scheduler.schedule()
        assert second.preempted_req_ids == {"b"}
        (b,) = scheduler.update_from_output(first, {"a": 1, "b": 2})
        assert (b.status, b.output_token_ids) == (RequestStatus.FINISHED_LENGTH_CAPPED, [2])
        assert [each.request_id for each in scheduler.waiting] == ["c"]
        assert not scheduler.swapped
        assert scheduler.schedule().finished_req_ids == {"b"}

    def test_an_id_used_again_does_not_get_the_old_ones_token(self) -> None:
        scheduler = self.scheduler()
        scheduler.add_request(request("a", 4))
        first = scheduler.schedule()
        scheduler.finish_requests("a", ABORTED)
        again = request("a", 3)
        scheduler.add_request(again)
        second = scheduler.schedule()
        assert second.num_scheduled_tokens == {"a": 3}
        scheduler.update_from_output(first, {"a": 5})
        assert again.output_token_ids == []
        scheduler.update_from_output(second, {"a": 6})
        assert again.output_token_ids == [6]

    def test_updates_come_in_order_and_not_more_than_one_late(self) -> None:
        scheduler = self.scheduler()
        scheduler.add_request(request("a", 4))
        first, second = scheduler.schedule(), scheduler.schedule()
        with pytest.raises(ValueError, match="2 plans are in flight"):
            scheduler.schedule()
        with pytest.raises(ValueError, match="not the oldest plan in flight"):
            scheduler.update_from_output(second, {"a": 1})
        scheduler.update_from_output(first, {"a": 1})
        with pytest.raises(ValueError, match="not the oldest plan in flight"):
            scheduler.update_from_output(first, {"a": 1})


class TestBatchSizeUnderAnSLO:
    def test_down_fast_and_up_slowly_between_its_limits(self) -> None:
        config = SchedulerConfig(max_num_batched_tokens=100)
        scheduler = Scheduler(config, manager())
        controller = StepTimeController(scheduler, 0.05, minimum=40, increase=10, decrease=0.5)
        seen = []
        for seconds in (0.04, 0.06, 0.06, 0.05, 0.05, 0.01, 0.01, 0.01, 0.01):
            controller.observe(seconds)
            seen.append(scheduler.max_num_batched_tokens)
        assert seen == [100, 50, 40, 50, 60, 70, 80, 90, 100]

    def test_it_holds_the_step_time_of_a_model_near_the_target(self) -> None:
        # 10 ms and 0.1 ms per token: 50 ms is 400 tokens.
        scheduler = Scheduler(SchedulerConfig(), manager())
        controller = StepTimeController(scheduler, 0.050)
        times = []
        for _ in range(500):
            times.append(0.010 + 0.0001 * scheduler.max_num_batched_tokens)
            controller.observe(times[-1])
        settled = times[100:]
        assert 0.035 < sum(settled) / len(settled) < 0.050
        assert max(settled) < 0.052

    def test_nobody_is_preempted_when_the_batch_is_to_shrink(self) -> None:
        scheduler = Scheduler(SchedulerConfig(max_num_seqs=4), manager())
        for name in "abcde":
            scheduler.add_request(request(name))
        step(scheduler)
        StepTimeController(scheduler, 0.05, limit="max_num_seqs", decrease=0.5).observe(1.0)
        assert scheduler.max_num_seqs == 2
        assert list(step(scheduler)) == ["a", "b", "c", "d"]
        scheduler.finish_requests(["a", "b"], ABORTED)
        assert list(step(scheduler)) == ["c", "d"]
        scheduler.finish_requests("c", ABORTED)
        assert list(step(scheduler)) == ["d", "e"]

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"target_seconds": 0.0}, "target_seconds is 0.0"),
            ({"minimum": 0}, "minimum is 0"),
            ({"minimum": 3000}, "from 1 to max_num_batched_tokens, 2048"),
            ({"increase": 0}, "increase is 0"),
            ({"decrease": 1.0}, "decrease 1.0"),
            ({"limit": "watermark"}, "limit is 'watermark'"),
        ],
    )
    def test_what_cannot_work_is_refused(self, settings: dict[str, object], message: str) -> None:
        arguments = {"target_seconds": 0.05} | settings
        with pytest.raises(ValueError, match=message):
            StepTimeController(Scheduler(SchedulerConfig(), manager()), **arguments)  # type: ignore[arg-type]

    def test_without_chunked_prefill_the_budget_stays_as_it_is(self) -> None:
        scheduler = Scheduler(SchedulerConfig(enable_chunked_prefill=False), manager())
        with pytest.raises(ValueError, match="may shut a prompt out"):
            StepTimeController(scheduler, 0.05)


class TestDecisionLog:
    def logged(
        self, *requests: Request, num_blocks: int = 50, **settings: object
    ) -> tuple[Scheduler, DecisionLog]:
        log = DecisionLog()
        config = SchedulerConfig(**settings)  # type: ignore[arg-type]
        scheduler = Scheduler(config, manager(num_blocks), log=log)
        for each in requests:
            scheduler.add_request(each)
        return scheduler, log

    def rows(self, log: DecisionLog, number: int = -1) -> list[tuple[str, Action, int, str]]:
        number = log.num_steps - 1 if number == -1 else number
        return [(d.request_id, d.action, d.num_tokens, d.reason) for d in log.of_step(number)]

    def test_who_got_how_many_tokens(self) -> None:
        scheduler, log = self.logged(request("a", 6), request("b", 3), max_num_batched_tokens=8)
        step(scheduler)
        step(scheduler)
        assert self.rows(log, 0) == [("a", Action.STARTS, 6, ""), ("b", Action.STARTS, 2, "")]
        assert self.rows(log, 1) == [("a", Action.CONTINUES, 1, ""), ("b", Action.CONTINUES, 1, "")]
        assert [d.num_tokens for d in log.of_request("a")] == [6, 1]

    def test_budget_spent(self) -> None:
        scheduler, log = self.logged(
            request("a", 8), request("b"), request("c"), max_num_batched_tokens=8
        )
        step(scheduler)
        assert self.rows(log)[1:] == [
            ("b", Action.WAITS, 0, "the budget of 8 tokens is spent"),
            ("c", Action.WAITS, 0, "behind 'b'"),
        ]

    def test_running_but_behind_a_spent_budget(self) -> None:
        scheduler, log = self.logged(request("a"), request("b"))
        step(scheduler)
        scheduler.max_num_batched_tokens = 1
        step(scheduler)
        assert self.rows(log)[1:] == [("b", Action.WAITS, 0, "the budget of 1 tokens is spent")]

    def test_batch_full(self) -> None:
        scheduler, log = self.logged(request("a"), request("b"), max_num_seqs=1)
        step(scheduler)
        assert self.rows(log)[1:] == [("b", Action.WAITS, 0, "the batch is full: 1 of 1 requests")]

    def test_not_enough_blocks(self) -> None:
        scheduler, log = self.logged(request("a", 8), request("b", 12), num_blocks=5)
        step(scheduler)
        assert self.rows(log)[1:] == [("b", Action.WAITS, 0, "needs 3 blocks, 2 free")]

    def test_watermark(self) -> None:
        scheduler, log = self.logged(request("a", 8), request("b", 8), num_blocks=6, watermark=0.4)
        step(scheduler)
        assert self.rows(log)[1:] == [
            ("b", Action.WAITS, 0, "needs 2 blocks, 3 free, 2 of them kept back")
        ]
        for _ in range(5):  # who runs may take of what is kept back
            step(scheduler)
        assert self.rows(log)[1:] == [
            ("b", Action.WAITS, 0, "needs 2 blocks, 1 free, 1 of them kept back")
        ]

    def test_a_prompt_that_may_not_be_cut(self) -> None:
        scheduler, log = self.logged(
            request("a", 5), request("b", 6), max_num_batched_tokens=8, enable_chunked_prefill=False
        )
        step(scheduler)
        assert self.rows(log)[1:] == [("b", Action.WAITS, 0, "needs 6 tokens in one step, 3 left")]

    def test_who_gave_way_and_for_whom(self) -> None:
        scheduler, log = self.logged(*(request(name) for name in "abcd"), num_blocks=4)
        step(scheduler)
        step(scheduler)
        assert self.rows(log) == [
            ("c", Action.IS_PREEMPTED, 0, "'a' needs 1 block, 0 free"),
            ("b", Action.IS_PREEMPTED, 0, "itself needs 1 block, 0 free"),
            ("a", Action.CONTINUES, 1, ""),
            ("d", Action.WAITS, 0, "nobody starts in a step that preempts"),
        ]

    def test_swapped_out_and_back(self) -> None:
        scheduler, log = self.logged(
            request("a", 4, max_tokens=3),
            request("b", 8),
            num_blocks=4,
            preemption_mode="swap",
            num_cpu_blocks=4,
        )
        for _ in range(4):
            step(scheduler)
        assert [(d.action, d.reason) for d in log.of_request("b")] == [
            (Action.STARTS, ""),
            (Action.IS_SWAPPED_OUT, "'a' needs 1 block, 0 free"),
            (Action.WAITS, "needs 3 blocks, 1 free"),
            (Action.RESUMES, ""),
        ]

    def test_a_block_that_is_shared_has_to_be_copied(self) -> None:
        scheduler, log = self.logged(request("a", 6), request("c"), num_blocks=4)
        output = scheduler.schedule()
        scheduler.fork_request("a", request("another", 6))
        scheduler.update_from_output(output, dict.fromkeys(["a", "c", "another"], 7))
        step(scheduler)
        assert self.rows(log)[0] == (
            "another",
            Action.IS_PREEMPTED,
            0,
            "'a' needs 1 block, 0 free",
        )

    def test_one_on_the_cpu_waits_for_one_that_is_more_urgent(self) -> None:
        scheduler, log = self.logged(
            request("a", 12, max_tokens=5),
            request("v", 12, priority=5),
            num_blocks=8,
            policy="priority",
            preemption_mode="swap",
            num_cpu_blocks=8,
        )
        for _ in range(5):
            step(scheduler)
        scheduler.add_request(request("u"))
        step(scheduler)
        assert self.rows(log) == [
            ("u", Action.STARTS, 4, ""),
            ("v", Action.WAITS, 0, "there is room, but it does not start in this step"),
        ]

    def test_a_batch_that_nobody_joins(self) -> None:
        log = DecisionLog()
        scheduler = StaticBatchingScheduler(SchedulerConfig(), manager(), log=log)
        scheduler.add_request(request("a"))
        step(scheduler)
        scheduler.add_request(request("b"))
        step(scheduler)
        (decision,) = log.of_request("b")
        assert decision.reason == "there is room, but it does not start in this step"

    def test_no_slot_for_the_adapter(self) -> None:
        log = DecisionLog()
        scheduler = LoRAScheduler(SchedulerConfig(), manager(), max_loras=1, log=log)
        scheduler.add_request(request("a", lora_id="x"))
        scheduler.add_request(request("b", lora_id="y"))
        step(scheduler)
        assert self.rows(log)[1:] == [("b", Action.WAITS, 0, "all 1 LoRA slots are taken by x")]

    def test_keeping_a_log_changes_no_decision(self) -> None:
        schedules = []
        for log in (None, DecisionLog()):
            scheduler = Scheduler(SchedulerConfig(), manager(8), log=log)
            for index, name in enumerate("abcdef"):
                scheduler.add_request(request(name, 3 + index, max_tokens=9))
            schedules.append([step(scheduler) for _ in range(40)])
        assert schedules[0] == schedules[1]


class TestTiming:
    def test_only_decodes_are_measured(self) -> None:
        scheduler = decoding_scheduler(num_running=20, num_steps=16)
        assert [step(scheduler) for _ in range(16)] == [{str(i): 1 for i in range(20)}] * 16
        assert scheduler_steps(num_running=4, num_steps=16) > 0
