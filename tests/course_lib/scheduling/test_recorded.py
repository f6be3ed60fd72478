"""Plans of vLLM that were recorded, and what counts the work of a plan."""

from __future__ import annotations

import pytest

from course_lib.kv_cache import KVCacheManager
from course_lib.scheduling import Request, Scheduler, SchedulerConfig, SpeculativeScheduler
from course_lib.scheduling.watch.ahead import accepted, continued, speculate
from course_lib.scheduling.watch.recorded import RecordedPlan, load_episodes
from course_lib.scheduling.watch.serving import CountedList, begin_to_decode, work_of_a_plan


@pytest.mark.parametrize("number", range(2))
def test_the_plans_of_the_library_are_those_of_vllm(number):
    episode = load_episodes()[number]
    assert episode.first_difference(Scheduler) is None
    assert episode.num_preemptions > 10


def test_another_budget_makes_other_plans():
    def with_less(config, manager):
        scheduler = Scheduler(config, manager)
        scheduler.max_num_batched_tokens -= 1
        return scheduler

    assert all(episode.first_difference(with_less) is not None for episode in load_episodes())


def test_another_order_of_service_is_a_difference():
    class Backwards(Scheduler):
        def schedule(self):
            output = super().schedule()
            served = output.num_scheduled_tokens.items()
            output.num_scheduled_tokens = dict(reversed(served))
            return output

    assert all(episode.first_difference(Backwards) is not None for episode in load_episodes())


def test_a_recorded_plan_is_one_line():
    assert str(RecordedPlan({"a": 1, "b": 7}, ("c",))) == "a:1 b:7  | c!"
    assert str(RecordedPlan({}, ())) == "-  | -"


def test_a_counted_list_counts_every_way_of_looking():
    counted = CountedList([Request(name, [1], 1) for name in "abcd"])
    looks = [
        (lambda: list(counted), 4),
        (lambda: counted[-1], 1),
        (lambda: counted[1:3], 2),
        (lambda: sorted(counted, key=lambda each: each.request_id), 4),
        (lambda: counted.index(counted[2]), 4),
        (lambda: counted.copy(), 4),
        (lambda: [*counted], 4),
        (lambda: object() in counted, 4),
    ]
    for look, num_read in looks:
        counted.num_read = 0
        look()
        assert counted.num_read == num_read


def test_the_work_of_a_plan_grows_with_the_requests_and_not_faster():
    def work(num_requests):
        config = SchedulerConfig(max_num_seqs=num_requests)
        scheduler = Scheduler(config, KVCacheManager(num_blocks=2000))
        begin_to_decode(scheduler, num_requests)
        counted = work_of_a_plan(scheduler)
        return counted["running requests looked at"], counted["calls of allocate_slots"]

    (few_reads, few_calls), (many_reads, many_calls) = work(64), work(256)
    assert many_reads == 4 * few_reads
    assert many_calls <= 5 * few_calls


@pytest.mark.parametrize("num_drafts", [0, 1, 4])
@pytest.mark.parametrize("budget", [5, 64])
def test_drafts_change_the_number_of_steps_and_no_text(num_drafts, budget):
    def model(tokens):
        return (5 * tokens[-1] + len(tokens)) % 13

    def guess(tokens):
        return model(tokens) if len(tokens) % 3 else 99

    def serve(num):
        config = SchedulerConfig(max_num_batched_tokens=budget)
        scheduler = SpeculativeScheduler(config, KVCacheManager(num_blocks=12, block_size=4))
        for number, name in enumerate("abc"):
            scheduler.add_request(Request(name, [number + 1, 7], max_tokens=11))
        return speculate(scheduler, model, guess, num)

    plain, drafted = serve(0), serve(num_drafts)
    assert drafted[0] == plain[0]
    assert [len(tokens) for tokens in drafted[0].values()] == [11, 11, 11]
    assert plain[0]["a"] == continued([1, 7], model, 11)


def test_a_draft_is_accepted_up_to_the_first_that_differs():
    def count(tokens):
        return tokens[-1] + 1

    assert accepted([1], count, []) == [2]
    assert accepted([1], count, [9, 3]) == [2]
    assert accepted([1], count, [2, 3]) == [2, 3, 4]
