"""Request queues: who is next, in words, and against sorting a plain list."""

import random
from collections import defaultdict
from collections.abc import Callable

import pytest

from course_lib.kv_cache import KVCacheManager
from course_lib.scheduling import (
    POLICIES,
    AgeingRequestQueue,
    EDFRequestQueue,
    FCFSRequestQueue,
    PriorityRequestQueue,
    Request,
    RequestQueue,
    RequestStatus,
    Scheduler,
    SchedulerConfig,
    SJFRequestQueue,
    SortedRequestQueue,
    SRPTRequestQueue,
    VTCRequestQueue,
    WFQRequestQueue,
    make_queue,
)


def request(name: str, num_prompt: int = 10, max_tokens: int = 10, **settings: object) -> Request:
    return Request(name, [1] * num_prompt, max_tokens, **settings)  # type: ignore[arg-type]


def fill(queue: RequestQueue, *requests: Request) -> RequestQueue:
    for each in requests:
        queue.add(each)
    return queue


def order(queue: RequestQueue) -> list[str]:
    return [each.request_id for each in queue]


def generated(each: Request, num_tokens: int) -> Request:
    for token in range(num_tokens):
        each.append_output(token)
    return each


@pytest.mark.parametrize("policy", POLICIES)
class TestEveryQueue:
    def test_iterating_foretells_what_is_taken(self, policy: str) -> None:
        rng = random.Random(1)
        queue = make_queue(policy)
        waiting: dict[str, Request] = {}
        for index in range(600):
            if waiting and rng.random() < 0.3:
                gone = waiting.pop(rng.choice(list(waiting)))
                queue.remove(gone)
            if waiting and rng.random() < 0.2:
                taken = queue.pop()
                if rng.random() < 0.5:
                    taken.num_preemptions += 1
                    queue.put_back(taken)
                else:
                    del waiting[taken.request_id]
            name = str(index) if rng.random() < 0.7 else str(rng.randrange(600))
            if name not in waiting:
                waiting[name] = request(
                    name,
                    rng.randrange(1, 30),
                    rng.randrange(1, 30),
                    priority=rng.randrange(3),
                    arrival_time=float(rng.randrange(20)),
                    deadline=float(rng.randrange(50)),
                    client_id=rng.choice("xyz"),
                )
                queue.add(waiting[name])
            assert len(queue) == len(waiting)
            assert sorted(order(queue)) == sorted(waiting)
        foretold = order(queue)
        taken_names = []
        while queue:
            assert queue.peek() is waiting[queue.peek().request_id]
            taken_names.append(queue.pop().request_id)
        assert taken_names == foretold

    def test_nothing_can_be_taken_from_an_empty_one(self, policy: str) -> None:
        queue = make_queue(policy)
        assert not queue
        assert order(queue) == []
        for take in (queue.peek, queue.pop):
            with pytest.raises(IndexError, match="no request is waiting"):
                take()

    def test_what_is_not_in_it_cannot_be_removed(self, policy: str) -> None:
        queue = fill(make_queue(policy), request("a"))
        with pytest.raises(ValueError, match="'b' is not in this queue"):
            queue.remove(request("b"))
        queue.remove(queue.peek())
        with pytest.raises(ValueError, match="'a' is not in this queue"):
            queue.remove(request("a"))

    def test_a_scheduler_serves_all_in_the_end(self, policy: str) -> None:
        config = SchedulerConfig(policy=policy, max_num_seqs=3)
        scheduler = Scheduler(config, KVCacheManager(num_blocks=6, block_size=4))
        requests = [
            Request(str(index), [index] * 5, 8, client_id=str(index % 2)) for index in range(12)
        ]
        for each in requests:
            scheduler.add_request(each)
        while scheduler.has_unfinished_requests():
            output = scheduler.schedule()
            scheduler.update_from_output(output, dict.fromkeys(output.num_scheduled_tokens, 1))
        assert all(each.num_output_tokens == 8 for each in requests)
        assert sum(each.num_preemptions for each in requests) > 0


class TestFCFS:
    def test_the_preempted_come_first_the_latest_of_them_at_the_front(self) -> None:
        queue = fill(FCFSRequestQueue(), request("a"), request("b"))
        for name in "dc":
            queue.put_back(request(name))
        assert order(queue) == ["c", "d", "a", "b"]


class TestPriority:
    def test_lower_is_more_important_then_earlier_then_the_id(self) -> None:
        queue = fill(
            PriorityRequestQueue(),
            request("d", priority=1, arrival_time=0.0),
            request("c", priority=0, arrival_time=2.0),
            request("b", priority=0, arrival_time=1.0),
            request("a", priority=0, arrival_time=2.0),
        )
        assert order(queue) == ["b", "a", "c", "d"]

    def test_a_preempted_request_goes_where_its_priority_says(self) -> None:
        queue = fill(PriorityRequestQueue(), request("a", priority=0), request("c", priority=2))
        queue.put_back(request("b", priority=1))
        assert order(queue) == ["a", "b", "c"]


class TestAgeing:
    def test_the_static_key_gives_the_order_of_the_ageing_priorities_at_all_times(self) -> None:
        rng = random.Random(2)
        requests = [
            request(str(i), priority=rng.randrange(9), arrival_time=rng.uniform(0, 60))
            for i in range(50)
        ]
        queue = fill(AgeingRequestQueue(ageing_seconds=7.0), *requests)
        for now in (60.0, 61.0, 1e4):
            by_aged_priority = sorted(
                requests, key=lambda r: r.priority - (now - r.arrival_time) / 7
            )
            assert order(queue) == [each.request_id for each in by_aged_priority]

    def test_whole_numbers_are_not_rounded_so_that_the_earlier_of_equals_is_first(self) -> None:
        # Both would have had priority 1.3 at time 0, but -2 + 33 / 10 is 1.2999999999999998.
        late, early = request("a", priority=-2, arrival_time=33.0), request("b", arrival_time=13.0)
        assert order(fill(AgeingRequestQueue(ageing_seconds=10.0), late, early)) == ["b", "a"]

    def test_nobody_starves(self) -> None:
        # One important request a second; the unimportant one is five points behind.
        queue = fill(AgeingRequestQueue(ageing_seconds=2.0), request("old", priority=5))
        for second in range(100):
            queue.add(request(f"new {second}", priority=0, arrival_time=float(second)))
            if queue.pop().request_id == "old":
                break
        assert second == 10

    def test_the_victim_is_the_one_that_is_served_last(self) -> None:
        aged = request("aged", priority=1, arrival_time=0.0)
        fresh = request("fresh", priority=0, arrival_time=30.0)
        assert AgeingRequestQueue(ageing_seconds=10.0).choose_victim([aged, fresh]) == 1
        assert PriorityRequestQueue().choose_victim([aged, fresh]) == 0

    @pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
    def test_it_takes_time(self, seconds: float) -> None:
        with pytest.raises(ValueError, match="must be above 0"):
            AgeingRequestQueue(ageing_seconds=seconds)


class TestShortestFirst:
    def test_the_longest_of_all_comes_last_and_not_first(self) -> None:
        # A queue that inserts in front of the first longer one has nowhere to put the longest.
        lengths = {"b": 20, "a": 10, "d": 40, "c": 30}
        queue = fill(SJFRequestQueue(), *(request(name, n, 5) for name, n in lengths.items()))
        assert order(queue) == ["a", "b", "c", "d"]

    def test_prompt_and_answer_count_and_equals_keep_their_order(self) -> None:
        queue = fill(
            SJFRequestQueue(), request("a", 1, 29), request("b", 15, 15), request("c", 28, 1)
        )
        assert order(queue) == ["c", "a", "b"]

    def test_srpt_counts_what_is_left(self) -> None:
        half_done = generated(request("half done", 10, 40), 30)
        for policy, expected in ((SJFRequestQueue, "new"), (SRPTRequestQueue, "half done")):
            queue = fill(policy(), request("new", 10, 20))
            queue.put_back(half_done)
            assert order(queue)[0] == expected

    def test_the_victim_is_the_last_one_in_however_short(self) -> None:
        running = [request("a", 10, 90), request("b", 1, 1)]
        assert SJFRequestQueue().choose_victim(running) == 1
        assert SRPTRequestQueue().choose_victim(running) == 1


class TestEDF:
    def test_deadlines_then_arrivals(self) -> None:
        queue = fill(
            EDFRequestQueue(),
            request("none", arrival_time=0.0),
            request("late", deadline=9.0, arrival_time=1.0),
            request("soon", deadline=5.0, arrival_time=3.0),
            request("soon too", deadline=5.0, arrival_time=2.0),
        )
        assert order(queue) == ["soon too", "soon", "late", "none"]

    def test_the_victim_has_the_latest_deadline_and_of_equals_came_last(self) -> None:
        deadlines = [5.0, 9.0, 9.0, 1.0]
        running = [request(str(time), deadline=time) for time in deadlines]
        assert EDFRequestQueue().choose_victim(running) == 2


class TestWeightedFairQueueing:
    def test_service_is_in_proportion_to_the_weights(self) -> None:
        queue = WFQRequestQueue(weights={"a": 3.0, "b": 2.0})
        for index in range(60):
            for client in "abc":
                queue.add(request(f"{client}{index}", client_id=client))
        taken = [queue.pop().client_id for _ in range(60)]
        assert [taken.count(client) for client in "abc"] == [30, 20, 10]

    def test_tags_worked_by_hand(self) -> None:
        queue = WFQRequestQueue(weights={"a": 2.0})
        fill(
            queue,
            request("a1", 30, 10, client_id="a"),  # finishes at 20
            request("a2", 10, 10, client_id="a"),  # at 30
            request("b1", 10, 15, client_id="b"),  # at 25
        )
        assert order(queue) == ["a1", "b1", "a2"]
        assert [queue.pop().request_id for _ in range(2)] == ["a1", "b1"]  # virtual time is 25
        queue.add(request("c1", 1, 5, client_id="c"))  # from 25 to 31: nothing was saved up
        queue.add(request("b2", 1, 6, client_id="b"))  # from 25 to 32
        assert order(queue) == ["a2", "c1", "b2"]

    def test_a_preempted_request_does_not_pay_again(self) -> None:
        queue = fill(
            WFQRequestQueue(),
            request("a1", client_id="a"),
            request("a2", client_id="a"),
            request("b1", client_id="b"),
        )
        queue.put_back(queue.pop())
        assert order(queue) == ["a1", "b1", "a2"]

    def test_a_weight_is_positive(self) -> None:
        with pytest.raises(ValueError, match="client 'a' has weight 0; it must be above 0"):
            WFQRequestQueue(weights={"a": 0})


class TestVirtualTokenCounter:
    def test_the_client_served_least_is_next(self) -> None:
        queue = VTCRequestQueue()
        fill(
            queue,
            *(request(f"a{i}", 30, client_id="a") for i in range(3)),
            *(request(f"b{i}", 10, client_id="b") for i in range(4)),
        )
        # a is at 30 after its first, so b has three until it is there too.
        assert [queue.pop().request_id for _ in range(7)] == [
            "a0", "b0", "b1", "b2", "a1", "b3", "a2",
        ]  # fmt: skip

    def test_generated_tokens_are_charged_as_they_come(self) -> None:
        queue = VTCRequestQueue(input_weight=1.0, output_weight=2.0)
        fill(queue, request("a0", 5, client_id="a"), request("b0", 5, client_id="b"))
        first = queue.pop()
        queue.charge(each for each in [first, first])
        assert dict(queue.counters) == {"a": 9.0, "b": 0.0}

    def test_an_idle_client_is_lifted_to_the_smallest_active_counter(self) -> None:
        queue = VTCRequestQueue()
        fill(queue, *(request(f"a{i}", 50, client_id="a") for i in range(3)))
        fill(queue, *(request(f"b{i}", 70, client_id="b") for i in range(3)))
        for _ in range(3):
            queue.pop()  # a0, b0, a1
        assert dict(queue.counters) == {"a": 100.0, "b": 70.0}
        queue.add(request("c0", 5, client_id="c"))
        assert queue.counters["c"] == 70.0

    def test_when_nobody_waits_it_is_lifted_to_the_one_taken_last(self) -> None:
        queue = fill(VTCRequestQueue(), request("a0", 50, client_id="a"))
        queue.pop()
        queue.add(request("c0", 5, client_id="c"))
        assert queue.counters["c"] == 50.0

    def test_a_client_that_was_served_more_is_not_brought_down(self) -> None:
        queue = fill(
            VTCRequestQueue(),
            request("a0", 50, client_id="a"),
            request("b0", 5, client_id="b"),
            request("b1", 5, client_id="b"),
        )
        assert [queue.pop().request_id for _ in range(2)] == ["a0", "b0"]
        queue.add(request("a1", 1, client_id="a"))
        assert queue.counters["a"] == 50.0

    def test_a_preempted_request_is_neither_charged_again_nor_lifted(self) -> None:
        queue = fill(
            VTCRequestQueue(), request("a0", 5, client_id="a"), request("b0", 90, client_id="b")
        )
        taken = queue.pop()
        queue.pop()
        fill(queue, request("b1", 1, client_id="b"))
        taken.num_preemptions = 1
        queue.put_back(taken)
        assert order(queue) == ["a0", "b1"]
        queue.pop()
        assert queue.counters["a"] == 5.0

    def test_a_weight_is_not_negative(self) -> None:
        with pytest.raises(ValueError, match="neither may be negative"):
            VTCRequestQueue(output_weight=-1.0)

    LONGEST_PROMPT, CAPACITY = 60, 99 * 4
    INPUT_WEIGHT, OUTPUT_WEIGHT = 1.0, 2.0

    def gaps(self, policy: str | RequestQueue | Callable[[], RequestQueue]) -> list[float]:
        """Return the service gap between two clients that always wait, one four times as eager."""
        rng = random.Random(3)
        manager = KVCacheManager(num_blocks=100, block_size=4, enable_caching=False)
        scheduler = Scheduler(SchedulerConfig(policy=policy, max_num_seqs=16), manager)
        served: dict[str, float] = defaultdict(float)
        in_queue: dict[str, int] = defaultdict(int)
        gaps, number = [], 0
        for _ in range(3000):
            for client, num_waiting in (("eager", 40), ("modest", 10)):
                while in_queue[client] < num_waiting:
                    prompt = [1] * rng.randrange(1, self.LONGEST_PROMPT)
                    name, number = str(number), number + 1
                    scheduler.add_request(
                        Request(name, prompt, rng.randrange(1, 80), client_id=client)
                    )
                    in_queue[client] += 1
            output = scheduler.schedule()
            for each in output.scheduled_new_reqs:
                served[each.client_id] += self.INPUT_WEIGHT * each.num_prompt_tokens
                in_queue[each.client_id] -= 1
            for name in output.num_scheduled_tokens:
                served[scheduler.requests[name].client_id] += self.OUTPUT_WEIGHT
            scheduler.update_from_output(output, dict.fromkeys(output.num_scheduled_tokens, 1))
            gaps.append(served["eager"] - served["modest"])
        return gaps

    def test_the_service_gap_of_backlogged_clients_is_bounded(self) -> None:
        bound = 2 * max(self.INPUT_WEIGHT * self.LONGEST_PROMPT, self.OUTPUT_WEIGHT * self.CAPACITY)
        gaps = self.gaps("vtc")
        assert max(map(abs, gaps)) <= bound

    def test_under_first_come_first_served_it_grows_without_limit(self) -> None:
        gaps = self.gaps("fcfs")
        quarters = [gaps[len(gaps) * k // 4 - 1] for k in (1, 2, 3, 4)]
        growth = [
            later - earlier for earlier, later in zip([0.0, *quarters], quarters, strict=False)
        ]
        assert min(growth) > 2 * 2 * self.OUTPUT_WEIGHT * self.CAPACITY


class TestMakeQueue:
    def test_by_name_as_an_object_or_by_a_maker(self) -> None:
        assert isinstance(make_queue("wfq"), WFQRequestQueue)
        queue = VTCRequestQueue()
        assert make_queue(queue) is queue
        made = make_queue(lambda: AgeingRequestQueue(ageing_seconds=3.0))
        assert isinstance(made, AgeingRequestQueue)

    def test_a_queue_serves_one_scheduler(self) -> None:
        queue = fill(FCFSRequestQueue(), request("a"))
        with pytest.raises(
            ValueError, match="holds 1 requests already; give each scheduler its own"
        ):
            make_queue(queue)

    def test_a_policy_of_ones_own_is_a_key(self) -> None:
        class FewestAnswerTokens(SortedRequestQueue):
            def key(self, request: Request) -> int:
                return request.max_tokens

        scheduler = Scheduler(
            SchedulerConfig(policy=FewestAnswerTokens, max_num_seqs=1), KVCacheManager(50)
        )
        for name, max_tokens in (("a", 9), ("b", 3), ("c", 5)):
            scheduler.add_request(request(name, 5, max_tokens))
        assert list(scheduler.schedule().num_scheduled_tokens) == ["b"]
        scheduler.finish_requests("b", RequestStatus.FINISHED_ABORTED)
        assert list(scheduler.schedule().num_scheduled_tokens) == ["c"]

    def test_ghosts_do_not_pile_up(self) -> None:
        queue = SJFRequestQueue()
        queue.add(request("stays", 1, 1))
        for index in range(1000):
            queue.add(request(str(index), 50))
            queue.remove(request(str(index)))
        assert len(queue.heap) < 50
