"""The scheduler in small scenarios worked by hand: who gets how many tokens, and which blocks.

Blocks hold 4 tokens here, and block 0 is the null block, so ids start at 1.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.kv_cache import KVCacheManager
from course_lib.scheduling import (
    IllegalTransitionError,
    Request,
    RequestStatus,
    Scheduler,
    SchedulerConfig,
    SchedulerOutput,
    VictimPolicy,
    least_computed,
    most_tokens,
)
from course_lib.scheduling.policies import FCFSRequestQueue

ABORTED = RequestStatus.FINISHED_ABORTED


def scheduler_with(
    num_blocks: int = 100, *, enable_caching: bool = False, **settings: object
) -> Scheduler:
    config = replace(SchedulerConfig(), **settings)  # type: ignore[arg-type]
    return Scheduler(config, KVCacheManager(num_blocks, 4, enable_caching))


def request(name: str, num_tokens: int = 4, max_tokens: int = 50, **settings: object) -> Request:
    """Return a request whose prompt is like nobody else's."""
    prompt = [1000 * ord(name[0]) + index for index in range(num_tokens)]
    return Request(name, prompt, max_tokens, **settings)  # type: ignore[arg-type]


def add(scheduler: Scheduler, *requests: Request) -> list[Request]:
    for each in requests:
        scheduler.add_request(each)
    return list(requests)


def answers(scheduler: Scheduler, output: SchedulerOutput, token: int = 7) -> dict[str, int]:
    """Return what a model would: a token for each request that is computed to its end."""
    return {
        name: token
        for name in output.num_scheduled_tokens
        if (r := scheduler.requests[name]).num_computed_tokens == r.num_tokens
    }


def step(scheduler: Scheduler, token: int = 7) -> dict[str, int]:
    """Run one whole iteration; return who computed how many tokens."""
    output = scheduler.schedule()
    scheduler.update_from_output(output, answers(scheduler, output, token))
    return output.num_scheduled_tokens


def blocks(scheduler: Scheduler, name: str) -> list[int]:
    return scheduler.kv_cache_manager.get_block_ids(name)


def names(requests: object) -> list[str]:
    return [each.request_id for each in requests]  # type: ignore[attr-defined]


class TestBudgets:
    def test_every_request_gets_what_it_lacks(self) -> None:
        scheduler = scheduler_with()
        a, b = add(scheduler, request("a", 6), request("b", 3))
        output = scheduler.schedule()
        assert output.num_scheduled_tokens == {"a": 6, "b": 3}
        assert output.total_num_scheduled_tokens == 9
        assert output.scheduled_new_reqs == [a, b]
        assert (blocks(scheduler, "a"), blocks(scheduler, "b")) == ([1, 2], [3])
        scheduler.update_from_output(output, {"a": 7, "b": 8})
        assert step(scheduler) == {"a": 1, "b": 1}
        assert a.output_token_ids == [7, 7]
        assert b.output_token_ids == [8, 7]

    def test_computed_tokens_move_ahead_when_the_step_is_planned(self) -> None:
        scheduler = scheduler_with(max_num_batched_tokens=4)
        (a,) = add(scheduler, request("a", 6))
        scheduler.schedule()
        assert a.num_computed_tokens == 4

    def test_the_token_budget_counts_this_step_only(self) -> None:
        scheduler = scheduler_with(max_num_batched_tokens=8)
        add(scheduler, request("a", 8), request("b", 8))
        assert step(scheduler) == {"a": 8}
        # a has 9 tokens by now, of which one is computed in this step.
        assert step(scheduler) == {"a": 1, "b": 7}
        assert step(scheduler) == {"a": 1, "b": 1}

    def test_no_more_requests_run_than_max_num_seqs(self) -> None:
        scheduler = scheduler_with(max_num_seqs=2)
        add(scheduler, request("a"), request("b"), request("c"))
        assert step(scheduler) == {"a": 4, "b": 4}
        scheduler.finish_requests("a", ABORTED)
        assert step(scheduler) == {"b": 1, "c": 4}

    def test_running_requests_come_before_waiting_ones(self) -> None:
        scheduler = scheduler_with(max_num_batched_tokens=3)
        add(scheduler, request("a", 2))
        step(scheduler)
        add(scheduler, request("b", 9))
        assert step(scheduler) == {"a": 1, "b": 2}
        assert list(step(scheduler)) == ["a", "b"]

    def test_those_behind_a_spent_budget_wait_and_lose_nothing(self) -> None:
        scheduler = scheduler_with()
        add(scheduler, request("a"), request("b"), request("c"))
        step(scheduler)
        scheduler.max_num_batched_tokens = 2
        assert step(scheduler) == {"a": 1, "b": 1}
        assert names(scheduler.running) == ["a", "b", "c"]

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"max_num_seqs": 0}, "max_num_seqs is 0; it must be at least 1"),
            ({"max_num_batched_tokens": 0}, "max_num_batched_tokens is 0"),
            ({"long_prefill_token_threshold": -1}, "it must be 0 or more"),
            ({"num_cpu_blocks": -1}, "it must be 0 or more"),
            ({"watermark": 1.0}, "a share from 0 to below 1"),
            ({"preemption_mode": "drop"}, "'recompute' or 'swap'"),
            ({"max_model_len": 0}, "max_model_len is 0"),
            ({"victim_policy": "youngest"}, "no victim policy 'youngest'; known: last_in"),
            ({"policy": "lifo"}, "no policy 'lifo'; known: fcfs"),
        ],
    )
    def test_what_no_scheduler_can_keep_is_refused(
        self, settings: dict[str, object], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            scheduler_with(**settings)  # type: ignore[arg-type]


class TestChunkedPrefill:
    def test_a_prompt_is_cut_to_the_budget_and_gets_no_token_before_its_end(self) -> None:
        scheduler = scheduler_with(max_num_batched_tokens=4)
        (a,) = add(scheduler, request("a", 10))
        assert [step(scheduler) for _ in range(4)] == [{"a": 4}, {"a": 4}, {"a": 2}, {"a": 1}]
        assert a.num_output_tokens == 2

    def test_a_token_for_an_unfinished_prompt_is_passed_over(self) -> None:
        scheduler = scheduler_with(max_num_batched_tokens=4)
        (a,) = add(scheduler, request("a", 10))
        scheduler.update_from_output(scheduler.schedule(), {"a": 7})
        assert a.num_tokens == 10

    def test_without_it_a_prompt_waits_until_it_fits_whole(self) -> None:
        scheduler = scheduler_with(max_num_batched_tokens=8, enable_chunked_prefill=False)
        add(scheduler, request("a", 5), request("b", 8, max_tokens=1), request("c", 1))
        assert step(scheduler) == {"a": 5}
        assert step(scheduler) == {"a": 1}  # b needs 8 of the 7 left, and c is behind it
        scheduler.finish_requests("a", ABORTED)
        assert step(scheduler) == {"b": 8}

    def test_without_it_a_prompt_above_the_budget_is_ignored(self) -> None:
        scheduler = scheduler_with(max_num_batched_tokens=8, enable_chunked_prefill=False)
        a, _ = add(scheduler, request("a", 9), request("b", 8))
        assert a.status is RequestStatus.FINISHED_IGNORED
        assert "the prompt has 9 tokens and a step has 8" in a.finish_reason
        assert step(scheduler) == {"b": 8}

    def test_without_it_a_preempted_request_waits_like_others(self) -> None:
        scheduler = scheduler_with(num_blocks=7, enable_chunked_prefill=False)
        *_, c = add(scheduler, request("a", 5), request("b", 4), request("c", 4))
        for _ in range(5):
            step(scheduler)
        assert (c.status, c.num_tokens) == (RequestStatus.PREEMPTED, 8)
        scheduler.finish_requests("b", ABORTED)
        scheduler.max_num_batched_tokens = 8
        assert step(scheduler) == {"a": 1}  # c needs 8 of the 7 left
        scheduler.finish_requests("a", ABORTED)
        assert step(scheduler) == {"c": 8}

    def test_without_it_what_is_longer_than_an_iteration_is_cut(self) -> None:
        scheduler = scheduler_with(num_blocks=7, enable_chunked_prefill=False)
        *_, c = add(scheduler, request("a", 5), request("b", 5), request("c", 5))
        for _ in range(5):
            step(scheduler)
        assert (c.status, c.num_tokens) == (RequestStatus.PREEMPTED, 9)
        scheduler.finish_requests("b", ABORTED)
        scheduler.max_num_batched_tokens = 8
        assert step(scheduler) == {"a": 1, "c": 7}
        assert step(scheduler) == {"a": 1, "c": 2}

    def test_a_long_prompt_takes_no_more_than_the_threshold(self) -> None:
        scheduler = scheduler_with(max_num_batched_tokens=20, long_prefill_token_threshold=6)
        add(scheduler, request("a", 14), request("b", 6), request("c", 10))
        assert step(scheduler) == {"a": 6, "b": 6, "c": 6}
        assert step(scheduler) == {"a": 6, "b": 1, "c": 4}

    def test_the_threshold_cuts_without_chunked_prefill_too(self) -> None:
        scheduler = scheduler_with(
            max_num_batched_tokens=128,
            long_prefill_token_threshold=24,
            enable_chunked_prefill=False,
        )
        add(scheduler, request("a", 100), request("b", 100))
        assert step(scheduler) == {"a": 24, "b": 24}

    def test_whether_an_uncut_prompt_fits_is_asked_behind_the_threshold(self) -> None:
        scheduler = scheduler_with(
            max_num_batched_tokens=40, long_prefill_token_threshold=24, enable_chunked_prefill=False
        )
        add(scheduler, request("a", 30), request("b", 30), request("c", 1))
        assert step(scheduler) == {"a": 24}  # b needs 24 of the 16 left
        assert step(scheduler) == {"a": 6, "b": 24, "c": 1}

    def test_without_chunked_prefill_a_request_that_is_alone_is_computed_whole(self) -> None:
        scheduler = scheduler_with(long_prefill_token_threshold=24, enable_chunked_prefill=False)
        add(scheduler, request("a", 100))
        assert step(scheduler) == {"a": 100}

    def test_the_threshold_is_ignored_for_a_request_that_is_alone(self) -> None:
        scheduler = scheduler_with(max_num_batched_tokens=20, long_prefill_token_threshold=6)
        add(scheduler, request("a", 40))
        assert step(scheduler) == {"a": 20}
        add(scheduler, request("b", 40))
        assert step(scheduler) == {"a": 6, "b": 6}


class TestPrefixHits:
    def test_cached_blocks_cost_no_budget_and_are_shared(self) -> None:
        scheduler = scheduler_with(max_num_batched_tokens=10, enable_caching=True)
        a, b = request("a", 10), Request("b", request("a", 10).prompt_token_ids, 50)
        add(scheduler, a)
        step(scheduler)
        add(scheduler, b)
        assert step(scheduler) == {"a": 1, "b": 2}
        assert blocks(scheduler, "a") == [1, 2, 3]
        assert blocks(scheduler, "b") == [1, 2, 4]
        assert b.num_computed_tokens == 10

    def test_a_hit_never_covers_the_last_known_token(self) -> None:
        scheduler = scheduler_with(enable_caching=True)
        add(scheduler, request("a", 8, max_tokens=1))
        step(scheduler)
        add(scheduler, Request("b", request("a", 8).prompt_token_ids, 50))
        assert step(scheduler) == {"b": 4}

    def test_nor_does_it_on_resumption(self) -> None:
        scheduler = scheduler_with(num_blocks=5, enable_caching=True)
        _, b = add(scheduler, request("a", 7, max_tokens=6), request("b", 6, max_tokens=20))
        step(scheduler)
        step(scheduler)  # a has 9 tokens, b 8, and all four blocks are taken
        output = scheduler.schedule()
        assert (output.num_scheduled_tokens, output.preempted_req_ids) == ({"a": 1}, {"b"})
        assert (b.num_tokens, b.num_computed_tokens) == (8, 0)
        scheduler.update_from_output(output, {"a": 7})
        scheduler.finish_requests("a", ABORTED)
        # b's first block is still in the cache. Its second would hold the last known token.
        output = scheduler.schedule()
        assert output.num_scheduled_tokens == {"b": 4}
        assert output.scheduled_resumed_reqs == [b]

    def test_a_block_can_be_found_as_soon_as_a_decode_fills_it(self) -> None:
        scheduler = scheduler_with(enable_caching=True)
        (a,) = add(scheduler, request("a", 6))
        found = []
        for _ in range(3):
            step(scheduler)
            same = Request("same", [*a.all_token_ids, 1, 2, 3], 50)
            found.append(scheduler.kv_cache_manager.get_computed_blocks(same)[1])
        # Tokens 0 to 5, then the 7th, then the 8th, which fills the second block.
        assert found == [4, 4, 8]

    def test_requests_of_one_step_share_too(self) -> None:
        scheduler = scheduler_with(enable_caching=True)
        add(scheduler, request("a", 9), Request("b", request("a", 9).prompt_token_ids, 50))
        assert step(scheduler) == {"a": 9, "b": 1}


class TestAdmission:
    def test_it_stops_at_the_first_request_that_does_not_fit(self) -> None:
        scheduler = scheduler_with(num_blocks=6)
        add(scheduler, request("a", 9), request("b", 9), request("c", 1))
        assert step(scheduler) == {"a": 9}
        assert names(scheduler.waiting) == ["b", "c"]

    def test_a_prompt_is_admitted_only_if_all_of_it_would_fit(self) -> None:
        scheduler = scheduler_with(num_blocks=6, max_num_batched_tokens=12)
        add(scheduler, request("a", 10), request("b", 12))
        assert step(scheduler) == {"a": 10}

    def test_or_on_its_first_chunk_if_so_configured(self) -> None:
        scheduler = scheduler_with(
            num_blocks=6, max_num_batched_tokens=12, reserve_full_prompt=False
        )
        add(scheduler, request("a", 10), request("b", 12))
        assert step(scheduler) == {"a": 10, "b": 2}

    @pytest.mark.parametrize(("watermark", "admitted"), [(0.19, ["a", "b"]), (0.2, ["a"])])
    def test_the_watermark_stays_free(self, watermark: float, admitted: list[str]) -> None:
        # int(0.19 * 10) is 1 and int(0.2 * 10) is 2; a and b leave 1 of 9 blocks free.
        scheduler = scheduler_with(num_blocks=10, watermark=watermark)
        add(scheduler, request("a", 16), request("b", 16))
        assert list(step(scheduler)) == admitted

    def test_the_watermark_is_ignored_when_nothing_runs(self) -> None:
        scheduler = scheduler_with(num_blocks=10, watermark=0.9)
        add(scheduler, request("a", 36, max_tokens=1), request("b", 36, max_tokens=1))
        assert step(scheduler) == {"a": 36}
        assert step(scheduler) == {"b": 36}

    def test_running_requests_may_use_what_the_watermark_keeps(self) -> None:
        scheduler = scheduler_with(num_blocks=4, watermark=0.5)
        add(scheduler, request("a", 8))
        step(scheduler)
        assert step(scheduler) == {"a": 1}
        assert blocks(scheduler, "a") == [1, 2, 3]

    def test_a_queue_of_ones_own(self) -> None:
        class LastComeFirstServed(FCFSRequestQueue):
            def add(self, request: Request) -> None:
                self.put_back(request)

        for policy in (LastComeFirstServed, LastComeFirstServed()):
            scheduler = scheduler_with(policy=policy)
            add(scheduler, request("a"), request("b"))
            assert list(step(scheduler)) == ["b", "a"]


class TestPreemption:
    def test_the_last_in_gives_way_and_comes_back_first(self) -> None:
        scheduler = scheduler_with(num_blocks=4)
        a, b, c = add(scheduler, request("a", 4), request("b", 4), request("c", 4))
        assert step(scheduler) == {"a": 4, "b": 4, "c": 4}
        output = scheduler.schedule()
        assert output.num_scheduled_tokens == {"a": 1}
        # c gave way to a. Then b found no room, was the last itself, and gave way too.
        assert output.preempted_req_ids == {"b", "c"}
        assert names(scheduler.waiting) == ["b", "c"]
        assert [r.status for r in (a, b, c)] == [
            RequestStatus.RUNNING,
            RequestStatus.PREEMPTED,
            RequestStatus.PREEMPTED,
        ]
        assert (b.num_computed_tokens, b.num_preemptions) == (0, 1)
        assert blocks(scheduler, "a") == [1, 3]

    def test_nobody_is_admitted_in_a_step_that_preempts(self) -> None:
        scheduler = scheduler_with(num_blocks=4)
        add(scheduler, request("a", 4), request("b", 8), request("c", 1))
        step(scheduler)
        output = scheduler.schedule()
        assert output.num_scheduled_tokens == {"a": 1}
        assert output.preempted_req_ids == {"b"}
        assert names(scheduler.waiting) == ["b", "c"]

    def test_what_was_generated_is_kept_and_computed_again(self) -> None:
        scheduler = scheduler_with(num_blocks=4)
        _, b = add(scheduler, request("a", 4, max_tokens=3), request("b", 8, max_tokens=5))
        step(scheduler)
        step(scheduler)
        assert b.output_token_ids == [7]
        step(scheduler)  # a ends
        output = scheduler.schedule()
        assert output.num_scheduled_tokens == {"b": 9}
        assert (output.scheduled_new_reqs, output.scheduled_resumed_reqs) == ([], [b])

    def test_by_priority_the_least_important_gives_way_the_first_of_equals(self) -> None:
        scheduler = scheduler_with(num_blocks=5, policy="priority")
        low = {"priority": 2, "arrival_time": 1.0}
        add(scheduler, request("a", 4, **low), request("b", 4, **low), request("c", 4))
        add(scheduler, request("d", 4, priority=1))
        assert step(scheduler) == {"c": 4, "d": 4, "a": 4, "b": 4}
        output = scheduler.schedule()
        # c takes a's block, d takes b's.
        assert output.num_scheduled_tokens == {"c": 1, "d": 1}
        assert output.preempted_req_ids == {"a", "b"}
        assert names(scheduler.waiting) == ["a", "b"]

    def test_an_important_arrival_does_not_take_the_slot_of_a_running_request(self) -> None:
        scheduler = scheduler_with(max_num_seqs=1, policy="priority")
        add(scheduler, request("a", priority=5))
        step(scheduler)
        add(scheduler, request("b", priority=0))
        assert step(scheduler) == {"a": 1}

    def about_to_preempt_who_was_served(self) -> Scheduler:
        """v and a hold all five blocks; v fills its block in the next step, a needs a fifth."""
        scheduler = scheduler_with(num_blocks=6, enable_caching=True, policy="priority")
        add(scheduler, request("v", 1, priority=9))
        assert step(scheduler) == {"v": 1}
        add(scheduler, request("a", 15, priority=0))
        assert step(scheduler) == {"v": 1, "a": 15}
        assert step(scheduler) == {"v": 1, "a": 1}
        return scheduler

    def test_a_victim_served_in_this_step_gives_its_tokens_back_to_the_budget(self) -> None:
        scheduler = self.about_to_preempt_who_was_served()
        scheduler.max_num_batched_tokens = 2
        output = scheduler.schedule()
        assert output.num_scheduled_tokens == {"a": 1}
        assert output.total_num_scheduled_tokens == 1
        assert output.preempted_req_ids == {"v"}

    def test_those_behind_are_served_although_the_victim_was_in_front_of_them(self) -> None:
        scheduler = scheduler_with(num_blocks=5, policy="priority")
        add(scheduler, request("v", 1, priority=9))
        step(scheduler)
        add(scheduler, request("a", 8), request("c", 3))
        assert step(scheduler) == {"v": 1, "a": 8, "c": 3}
        # a takes v's block, and c still gets its token.
        output = scheduler.schedule()
        assert output.preempted_req_ids == {"v"}
        assert output.num_scheduled_tokens == {"a": 1, "c": 1}

    def test_those_behind_are_served_although_the_one_in_front_gave_way_itself(self) -> None:
        scheduler = scheduler_with(num_blocks=4, policy="priority")
        add(scheduler, request("u", 7, priority=9))
        step(scheduler)
        add(scheduler, request("a", 3))
        assert step(scheduler) == {"u": 1, "a": 3}
        output = scheduler.schedule()
        assert output.preempted_req_ids == {"u"}
        assert output.num_scheduled_tokens == {"a": 1}

    def test_blocks_that_a_victim_was_to_fill_in_this_step_do_not_stay_cached(self) -> None:
        scheduler = scheduler_with(
            num_blocks=9, enable_caching=True, policy="priority", long_prefill_token_threshold=8
        )
        add(scheduler, request("v", 29, priority=9))
        scheduler.max_num_batched_tokens = 4
        assert step(scheduler) == {"v": 4}
        scheduler.max_num_batched_tokens = 100
        add(scheduler, request("a", 3, priority=0))
        assert step(scheduler) == {"v": 8, "a": 3}
        assert step(scheduler) == {"v": 8, "a": 1}
        # v gets 8 tokens and two blocks for them, and loses all to a, which needs a ninth block.
        output = scheduler.schedule()
        assert output.num_scheduled_tokens == {"a": 1}
        assert output.preempted_req_ids == {"v"}
        same = Request("same", request("v", 29).prompt_token_ids, 50)
        _, num_hit_tokens = scheduler.kv_cache_manager.get_computed_blocks(same)
        assert num_hit_tokens == 20

    @pytest.mark.parametrize("policy", ["most_tokens", "frees_most_blocks", lambda running: 1])
    def test_a_victim_policy_by_name_or_of_ones_own(self, policy: object) -> None:
        scheduler = scheduler_with(num_blocks=5, victim_policy=policy)
        add(scheduler, request("a", 4), request("b", 8), request("c", 3))
        assert step(scheduler) == {"a": 4, "b": 8, "c": 3}
        assert scheduler.schedule().preempted_req_ids == {"b"}

    def test_a_fork_that_shares_the_last_block_makes_its_parent_copy_it(self) -> None:
        scheduler = scheduler_with()
        (a,) = add(scheduler, request("a", 6))
        step(scheduler)
        child = Request("child", a.prompt_token_ids, 50)
        scheduler.kv_cache_manager.fork(a, child)
        output = scheduler.schedule()
        # The 7th token goes into block 2, which the child holds too.
        assert output.blocks_to_copy == [(2, 3)]
        assert blocks(scheduler, "a") == [1, 3]
        assert blocks(scheduler, "child") == [1, 2]


class TestTermination:
    @pytest.mark.parametrize("policy", ["priority", "most_tokens"])
    def test_two_prompts_that_do_not_fit_together_do_not_displace_each_other_for_ever(
        self, policy: str
    ) -> None:
        # Both victim policies let the two take turns: whoever has come further gives way.
        scheduler = scheduler_with(
            num_blocks=11,
            max_num_batched_tokens=8,
            long_prefill_token_threshold=4,
            reserve_full_prompt=False,
            policy="priority" if policy == "priority" else "fcfs",
            victim_policy=None if policy == "priority" else policy,
        )
        add(scheduler, request("a", 36, max_tokens=1), request("b", 36, max_tokens=1))
        for _ in range(100):
            step(scheduler)
        assert not scheduler.has_unfinished_requests()

    @given(
        lengths=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 6)), min_size=1, max_size=5),
        budget=st.integers(1, 20),
        threshold=st.integers(0, 8),
        mode=st.sampled_from(["recompute", "swap"]),
        num_cpu_blocks=st.integers(0, 12),
        watermark=st.sampled_from([0.0, 0.3]),
        reserve_full_prompt=st.booleans(),
        victim_policy=st.sampled_from([lambda running: 0, most_tokens, least_computed]),
    )
    def test_everything_ends_whoever_gives_way(
        self,
        lengths: list[tuple[int, int]],
        budget: int,
        threshold: int,
        mode: str,
        num_cpu_blocks: int,
        watermark: float,
        reserve_full_prompt: bool,
        victim_policy: VictimPolicy,
    ) -> None:
        scheduler = scheduler_with(
            num_blocks=11,
            max_num_batched_tokens=budget,
            long_prefill_token_threshold=threshold,
            preemption_mode=mode,
            num_cpu_blocks=num_cpu_blocks,
            watermark=watermark,
            reserve_full_prompt=reserve_full_prompt,
            victim_policy=victim_policy,
        )
        requests = [request("abcde"[index], *length) for index, length in enumerate(lengths)]
        add(scheduler, *requests)
        # Between two tokens there are at most 2 n fruitless preemptions, and a prefill.
        num_tokens = sum(each.length_limit for each in requests)
        for _ in range(10 * num_tokens * (len(requests) + 1)):
            step(scheduler)
            if not scheduler.has_unfinished_requests():
                break
        for each in requests:
            assert each.status is RequestStatus.FINISHED_LENGTH_CAPPED
            assert each.num_tokens == max(each.length_limit, each.num_prompt_tokens + 1)

    def test_the_policy_chooses_again_as_soon_as_somebody_gets_a_token(self) -> None:
        chosen: list[str] = []

        def first_in(running: Sequence[Request]) -> int:
            chosen.append(running[0].request_id)
            return 0

        scheduler = scheduler_with(num_blocks=7, victim_policy=first_in)
        add(scheduler, *(request(name, 4, max_tokens=16) for name in "abcde"))
        preempted: list[str] = []
        while scheduler.has_unfinished_requests():
            output = scheduler.schedule()
            preempted += output.preempted_req_ids
            scheduler.update_from_output(output, answers(scheduler, output))
        assert len(preempted) > 5
        assert sorted(chosen) == sorted(preempted)

    def test_the_whole_pool_may_be_one_request(self) -> None:
        scheduler = scheduler_with(num_blocks=4)
        (a,) = add(scheduler, request("a", 10, max_tokens=999))
        while scheduler.has_unfinished_requests():
            step(scheduler)
        assert a.num_tokens == 12
        assert a.status is RequestStatus.FINISHED_LENGTH_CAPPED

    def test_a_prompt_that_fills_the_pool_gets_its_one_token(self) -> None:
        scheduler = scheduler_with(num_blocks=4)
        (a,) = add(scheduler, request("a", 12))
        step(scheduler)
        assert a.status is RequestStatus.FINISHED_LENGTH_CAPPED
        assert a.output_token_ids == [7]

    @pytest.mark.parametrize(("max_model_len", "limit"), [(None, 12), (99, 12), (10, 10)])
    def test_a_longer_prompt_is_ignored_with_a_reason(
        self, max_model_len: int | None, limit: int
    ) -> None:
        scheduler = scheduler_with(num_blocks=4, max_model_len=max_model_len)
        a, b = add(scheduler, request("a", limit + 1), request("b", 4))
        assert scheduler.max_model_len == limit
        assert a.status is RequestStatus.FINISHED_IGNORED
        assert a.finish_reason == (
            f"the prompt has {limit + 1} tokens and max_model_len is {limit}; "
            f"it would need {-(-(limit + 1) // 4)} blocks of 4"
        )
        output = scheduler.schedule()
        assert output.scheduled_new_reqs == [b]
        assert output.finished_req_ids == {"a"}

    def test_requests_of_one_block_take_turns_when_there_is_one_block(self) -> None:
        scheduler = scheduler_with(num_blocks=2)
        add(scheduler, *(request(name, 2, max_tokens=2) for name in "abc"))
        assert [list(step(scheduler)) for _ in range(6)] == [[n] for n in "aabbcc"]


class TestSwapping:
    def swapping(self, **settings: object) -> Scheduler:
        settings = {"preemption_mode": "swap", "num_cpu_blocks": 10} | settings
        return scheduler_with(num_blocks=5, **settings)  # type: ignore[arg-type]

    def test_blocks_go_to_the_cpu_and_come_back(self) -> None:
        scheduler = self.swapping()
        _, b = add(scheduler, request("a", 7, max_tokens=4), request("b", 6))
        step(scheduler)
        step(scheduler)
        out = scheduler.schedule()
        assert out.num_scheduled_tokens == {"a": 1}
        assert out.preempted_req_ids == {"b"}
        assert out.blocks_to_swap_out == [(3, 0), (4, 1)]  # (GPU block, CPU block)
        assert b.status is RequestStatus.SWAPPED
        assert b.num_computed_tokens == 7
        assert list(scheduler.swapped) == [b]
        assert not len(scheduler.waiting)
        scheduler.update_from_output(out, {"a": 7})
        assert step(scheduler) == {"a": 1}  # and a ends
        back = scheduler.schedule()
        assert back.num_scheduled_tokens == {"b": 1}
        assert back.blocks_to_swap_in == list(zip([0, 1], blocks(scheduler, "b"), strict=True))
        assert back.scheduled_resumed_reqs == [b]
        assert b.status is RequestStatus.RUNNING

    def test_swapped_requests_come_back_before_anybody_is_admitted(self) -> None:
        scheduler = self.swapping()
        add(scheduler, request("a", 7, max_tokens=4), request("b", 6), request("c", 1))
        step(scheduler)
        step(scheduler)
        assert step(scheduler) == {"a": 1}
        assert step(scheduler) == {"a": 1}  # one block is free: c would fit, b does not
        assert list(step(scheduler)) == ["b", "c"]

    def test_under_priority_who_is_swapped_out_does_not_return_before_more_important_ones(
        self,
    ) -> None:
        # B's 481st token needs a block and D gives way; U is more important than D.
        config = SchedulerConfig(policy="priority", preemption_mode="swap", num_cpu_blocks=50)
        scheduler = Scheduler(config, KVCacheManager(101, 16, enable_caching=False))
        lengths = {"A": 640, "B": 479, "C": 320, "D": 125}
        for index, (name, num_tokens) in enumerate(lengths.items()):
            limit = 6 if name == "C" else 50
            add(scheduler, request(name, num_tokens, limit, arrival_time=float(index)))
        step(scheduler)
        add(scheduler, request("U", 400, priority=-1, arrival_time=9.0))
        while not scheduler.swapped:
            step(scheduler)
        assert (names(scheduler.swapped), names(scheduler.waiting)) == (["D"], ["U"])
        assert scheduler.next_in_line() is scheduler.requests["U"]
        while "C" in scheduler.requests:
            step(scheduler)
        assert step(scheduler).get("U") == 400
        assert names(scheduler.swapped) == ["D"]

    def test_under_fcfs_they_return_first_and_in_the_order_in_which_they_left(self) -> None:
        scheduler = scheduler_with(num_blocks=4, preemption_mode="swap", num_cpu_blocks=10)
        add(scheduler, request("a", 4), request("b", 4), request("c", 4))
        step(scheduler)
        step(scheduler)
        add(scheduler, request("d", 1, priority=-1))
        assert names(scheduler.swapped) == ["c", "b"]
        assert scheduler.next_in_line() is scheduler.requests["c"]

    def test_under_priority_they_return_in_the_order_of_importance(self) -> None:
        scheduler = scheduler_with(
            num_blocks=4, preemption_mode="swap", num_cpu_blocks=10, policy="priority"
        )
        add(scheduler, request("a", 4, priority=0), request("b", 4, priority=1))
        add(scheduler, request("c", 4, priority=2))
        step(scheduler)
        step(scheduler)
        assert names(scheduler.swapped) == ["b", "c"]  # c left first
        # Who waits is served between them, if that is where its priority puts it.
        add(scheduler, request("between", 1, priority=1, arrival_time=1.0))
        scheduler.finish_requests("a", ABORTED)
        assert list(step(scheduler)) == ["b", "between"]
        assert scheduler.next_in_line() is scheduler.requests["c"]

    def test_only_blocks_with_computed_tokens_are_copied(self) -> None:
        # The victim was served in this very step, and got a block that it has not filled yet.
        scheduler = self.swapping(policy="priority")
        add(scheduler, request("v", 4, priority=9, max_tokens=9))
        step(scheduler)
        add(scheduler, request("a", 8, priority=0))
        assert step(scheduler) == {"v": 1, "a": 8}
        for _ in range(3):
            output = scheduler.schedule()
            if output.preempted_req_ids:
                break
            scheduler.update_from_output(output, answers(scheduler, output))
        assert output.preempted_req_ids == {"v"}
        v = scheduler.swapped[0]
        assert len(output.blocks_to_swap_out) == -(-v.num_computed_tokens // 4)
        assert v.num_computed_tokens == v.num_tokens - 1

    def test_without_room_on_the_cpu_the_victim_is_recomputed(self) -> None:
        scheduler = self.swapping(num_cpu_blocks=1)
        _, b = add(scheduler, request("a", 7, max_tokens=4), request("b", 6))
        step(scheduler)
        step(scheduler)
        output = scheduler.schedule()
        assert output.blocks_to_swap_out == []
        assert (b.status, b.num_computed_tokens) == (RequestStatus.PREEMPTED, 0)


class TestTheEnd:
    def test_eos(self) -> None:
        scheduler = scheduler_with()
        (a,) = add(scheduler, request("a", eos_token_id=7))
        output = scheduler.schedule()
        assert scheduler.update_from_output(output, {"a": 7}) == [a]
        assert a.status is RequestStatus.FINISHED_STOPPED
        assert a.output_token_ids == [7]
        assert scheduler.kv_cache_manager.block_pool.get_num_free_blocks() == 99

    def test_max_tokens(self) -> None:
        scheduler = scheduler_with()
        (a,) = add(scheduler, request("a", max_tokens=2))
        assert [step(scheduler) for _ in range(3)] == [{"a": 4}, {"a": 1}, {}]
        assert a.status is RequestStatus.FINISHED_LENGTH_CAPPED

    def test_eos_as_the_last_token_allowed_counts_as_eos(self) -> None:
        scheduler = scheduler_with()
        (a,) = add(scheduler, request("a", max_tokens=1, eos_token_id=7))
        step(scheduler)
        assert a.status is RequestStatus.FINISHED_STOPPED

    def test_finished_ids_are_told_once(self) -> None:
        scheduler = scheduler_with()
        add(scheduler, request("a", max_tokens=1), request("b"), request("c"))
        step(scheduler)
        scheduler.finish_requests(["c"], ABORTED)
        assert scheduler.schedule().finished_req_ids == {"a", "c"}
        assert scheduler.schedule().finished_req_ids == set()

    def test_those_that_end_together_are_returned_in_order_of_service(self) -> None:
        scheduler = scheduler_with()
        a, b, _ = add(
            scheduler, request("a", max_tokens=1), request("b", max_tokens=1), request("c")
        )
        output = scheduler.schedule()
        assert scheduler.update_from_output(output, {"c": 7, "b": 7, "a": 7}) == [a, b]
        assert names(scheduler.running) == ["c"]

    def test_tokens_behind_the_end_are_dropped(self) -> None:
        scheduler = scheduler_with()
        (a,) = add(scheduler, request("a", eos_token_id=9))
        scheduler.update_from_output(scheduler.schedule(), {"a": [7, 9, 7]})
        assert a.output_token_ids == [7, 9]


class TestAborts:
    def test_in_each_state(self) -> None:
        scheduler = scheduler_with(num_blocks=5, preemption_mode="swap", num_cpu_blocks=2)
        a, b, c, d = add(
            scheduler, request("a", 4), request("b", 4), request("c", 8), request("d", 9)
        )
        step(scheduler)
        step(scheduler)  # c goes to the CPU
        assert (list(scheduler.swapped), names(scheduler.waiting)) == ([c], ["d"])
        for _ in range(4):
            step(scheduler)  # then b finds no CPU blocks left
        assert b.status is RequestStatus.PREEMPTED
        scheduler.finish_requests(["a", "b", "c", "d", "nobody"], ABORTED)
        assert {each.status for each in (a, b, c, d)} == {ABORTED}
        assert not scheduler.has_unfinished_requests()
        assert (scheduler.running, list(scheduler.waiting), list(scheduler.swapped)) == ([], [], [])
        assert scheduler.kv_cache_manager.block_pool.get_num_free_blocks() == 4
        add(scheduler, request("e", 8), request("f", 8))
        step(scheduler)
        output = scheduler.schedule()
        assert output.preempted_req_ids == {"f"}
        assert [cpu for _, cpu in output.blocks_to_swap_out] == [0, 1]  # those that c had

    def test_an_answer_that_comes_after_the_abort_is_passed_over(self) -> None:
        scheduler = scheduler_with()
        (a,) = add(scheduler, request("a"))
        output = scheduler.schedule()
        scheduler.finish_requests("a", ABORTED)
        assert scheduler.update_from_output(output, {"a": 7}) == []
        assert a.output_token_ids == []

    def test_it_is_not_taken_for_that_of_a_new_request_with_the_same_id(self) -> None:
        scheduler = scheduler_with(enable_caching=True)
        add(scheduler, request("a", 9))
        output = scheduler.schedule()
        scheduler.finish_requests("a", ABORTED)
        (again,) = add(scheduler, Request("a", [1, 2, 3], 50))
        assert scheduler.update_from_output(output, {"a": 7}) == []
        assert again.output_token_ids == []
        output = scheduler.schedule()
        assert output.num_scheduled_tokens == {"a": 3}
        assert output.finished_req_ids == {"a"}

    def test_blocks_are_freed_in_the_order_of_the_ids_given(self) -> None:
        scheduler = scheduler_with(num_blocks=10)
        add(scheduler, request("a", 8), request("b", 8))
        step(scheduler)
        scheduler.finish_requests(["b", "a"], ABORTED)
        queue = scheduler.kv_cache_manager.block_pool.free_block_queue
        assert [block.block_id for block in queue][:4] == [2, 1, 4, 3]

    def test_only_a_finished_status_finishes(self) -> None:
        scheduler = scheduler_with()
        add(scheduler, request("a"))
        with pytest.raises(ValueError, match="waiting is no way to finish"):
            scheduler.finish_requests("a", RequestStatus.WAITING)
        assert scheduler.has_unfinished_requests()

    def test_an_impossible_end_changes_nothing(self) -> None:
        scheduler = scheduler_with(max_num_seqs=1)
        a, b = add(scheduler, request("a"), request("b"))
        step(scheduler)
        with pytest.raises(IllegalTransitionError, match="'b' cannot go from waiting"):
            scheduler.finish_requests(["a", "b"], RequestStatus.FINISHED_STOPPED)
        assert (a.status, b.status) == (RequestStatus.RUNNING, RequestStatus.WAITING)
        assert (names(scheduler.running), names(scheduler.waiting)) == (["a"], ["b"])


class TestAdding:
    def test_an_id_that_is_in_use_is_refused(self) -> None:
        scheduler = scheduler_with()
        add(scheduler, request("a"))
        with pytest.raises(ValueError, match="'a' is not finished yet"):
            scheduler.add_request(request("a"))
        assert len(scheduler.waiting) == 1

    def test_a_request_that_has_begun_elsewhere_is_refused(self) -> None:
        scheduler = scheduler_with()
        (a,) = add(scheduler, request("a", max_tokens=1))
        step(scheduler)
        with pytest.raises(ValueError, match="has begun already"):
            scheduler.add_request(a)

    def test_a_fork_that_holds_blocks_is_refused(self) -> None:
        scheduler = scheduler_with()
        (a,) = add(scheduler, request("a", 6))
        step(scheduler)
        child = Request("child", a.prompt_token_ids, 50)
        scheduler.kv_cache_manager.fork(a, child)
        with pytest.raises(ValueError, match="has begun already"):
            scheduler.add_request(child)
