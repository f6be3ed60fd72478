"""A scheduler seen from outside: plans as text, their laws, several on their way."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.kv_cache import KVCacheManager
from course_lib.scheduling import (
    POLICIES,
    VICTIM_POLICIES,
    AsyncScheduler,
    EvenSplitScheduler,
    HeadSkippingScheduler,
    Request,
    RequestStatus,
    Scheduler,
    SchedulerConfig,
    SchedulerOutput,
    SpeculativeScheduler,
    StaticBatchingScheduler,
)
from course_lib.scheduling.watch.by_hand import (
    counters_by_hand,
    plans_by_hand,
    preemption_by_hand,
)
from course_lib.scheduling.watch.driver import run_plans
from course_lib.scheduling.watch.notation import Grant, StepLine, parse_grant
from course_lib.scheduling.watch.state import SchedulerState
from course_lib.scheduling.watch.violations import PLAN_LAWS, plan_violations


def scheduler_with(num_blocks: int = 100, **settings: object) -> Scheduler:
    config = replace(SchedulerConfig(), **settings)  # type: ignore[arg-type]
    return Scheduler(config, KVCacheManager(num_blocks, 4, enable_caching=False))


def request(name: str, num_tokens: int, max_tokens: int = 20, **settings: object) -> Request:
    prompt = [1000 * ord(name[0]) + index for index in range(num_tokens)]
    return Request(name, prompt, max_tokens, **settings)  # type: ignore[arg-type]


def seven(request: Request, num_generated: int) -> int:
    return 7


def lines(scheduler: Scheduler, num_steps: int, **settings: int) -> list[str]:
    """Return the plans of the first steps as text."""
    found = []
    for step, output in enumerate(run_plans(scheduler, seven, **settings)):
        found.append(str(StepLine.of(step, output, SchedulerState.of(scheduler))))
        if step + 1 == num_steps:
            break
    return found


class TestNotation:
    def test_a_prompt_beside_decodes(self) -> None:
        scheduler = scheduler_with(max_num_batched_tokens=8)
        for name, num_tokens in (("d1", 2), ("d2", 2), ("A", 19), ("B", 5)):
            scheduler.add_request(request(name, num_tokens))
        assert lines(scheduler, 6) == [
            "step 0  d1:2* d2:2* A:4(4/19)  | B",
            "step 1  d1:1 d2:1 A:6(10/19)  | B",
            "step 2  d1:1 d2:1 A:6(16/19)  | B",
            "step 3  d1:1 d2:1 A:3* B:3(3/5)  | -",
            "step 4  d1:1 d2:1 A:1 B:2*  | -",
            "step 5  d1:1 d2:1 A:1 B:1  | -",
        ]

    def test_a_last_chunk_of_one_token_and_a_decode_differ(self) -> None:
        scheduler = scheduler_with(max_num_batched_tokens=4)
        scheduler.add_request(request("a", 5))
        assert lines(scheduler, 3) == [
            "step 0  a:4(4/5)  | -",
            "step 1  a:1*  | -",
            "step 2  a:1  | -",
        ]

    @pytest.mark.parametrize(
        ("settings", "others"),
        [
            ({}, "b! c!"),
            ({"preemption_mode": "swap", "num_cpu_blocks": 9}, "(c!) (b!)"),
            ({"preemption_mode": "swap", "num_cpu_blocks": 1}, "(c!) b!"),
        ],
    )
    def test_who_lost_its_place(self, settings: dict[str, object], others: str) -> None:
        scheduler = scheduler_with(4, **settings)  # type: ignore[arg-type]
        for name in "abc":
            scheduler.add_request(request(name, 4))
        assert lines(scheduler, 2) == ["step 0  a:4* b:4* c:4*  | -", f"step 1  a:1  | {others}"]

    def test_drafts(self) -> None:
        scheduler = SpeculativeScheduler(SchedulerConfig(), KVCacheManager(20, 4))
        scheduler.add_request(request("a", 4))
        scheduler.update_from_output(scheduler.schedule(), {"a": 7})
        scheduler.add_drafts({"a": [8, 9, 10]})
        output = scheduler.schedule()
        line = StepLine.of(1, output, SchedulerState.of(scheduler))
        assert str(line) == "step 1  a:1+3  | -"

    def test_a_token_on_its_way_is_no_end_of_a_prompt(self) -> None:
        scheduler = AsyncScheduler(SchedulerConfig(), KVCacheManager(20, 4))
        scheduler.add_request(request("a", 4))
        assert lines(scheduler, 2, max_in_flight=2) == ["step 0  a:4*  | -", "step 1  a:0+1  | -"]

    def test_nobody(self) -> None:
        assert str(StepLine(3)) == "step 3  -  | -"
        assert StepLine.parse("step 3  -  | -") == StepLine(3)

    names = st.text("abcXYZ019_:", min_size=1, max_size=4)
    grants = st.builds(
        Grant,
        names,
        st.integers(0, 99),
        st.integers(0, 3),
        st.none() | st.tuples(st.integers(0, 50), st.integers(0, 50)),
        st.booleans(),
    )

    @given(
        st.integers(0, 999),
        st.lists(grants, max_size=4),
        st.lists(names, max_size=3),
        st.lists(names, max_size=3),
        st.data(),
    )
    def test_what_is_written_can_be_read(
        self,
        step: int,
        grants: list[Grant],
        swapped: list[str],
        waiting: list[str],
        data: st.DataObject,
    ) -> None:
        others = [*swapped, *waiting]
        preempted = data.draw(st.frozensets(st.sampled_from(others))) if others else frozenset()
        line = StepLine(step, tuple(grants), tuple(swapped), tuple(waiting), preempted)
        assert StepLine.parse(str(line)) == line

    def test_what_cannot_be_read_is_named(self) -> None:
        with pytest.raises(ValueError, match="'four' is no step; write as in"):
            StepLine.parse("four")
        with pytest.raises(ValueError, match="'a=1' cannot be read"):
            parse_grant("a=1")


class OverBudget(Scheduler):
    def admit_waiting(self, output: SchedulerOutput, budget: int) -> int:
        return super().admit_waiting(output, budget + 5) - 5


class Overfull(Scheduler):
    def admit_waiting(self, output: SchedulerOutput, budget: int) -> int:
        self.max_num_seqs += 1
        budget = super().admit_waiting(output, budget)
        self.max_num_seqs -= 1
        return budget


class GrantsNothing(Scheduler):
    def schedule(self) -> SchedulerOutput:
        output = super().schedule()
        for name in self.requests:
            output.num_scheduled_tokens.setdefault(name, 0)
        return output


class GrantsTooMuch(Scheduler):
    def start(self, request: Request, num_new_tokens: int, output: SchedulerOutput) -> None:
        super().start(request, num_new_tokens + 1, output)


class KeepsTheVictimsTokens(Scheduler):
    def preempt(self, victim: Request, output: SchedulerOutput) -> int:
        num_tokens = output.num_scheduled_tokens.get(victim.request_id)
        unspent = super().preempt(victim, output)
        if num_tokens is not None:
            output.num_scheduled_tokens[victim.request_id] = num_tokens
        return unspent


class AdmitsAfterPreempting(Scheduler):
    def schedule(self) -> SchedulerOutput:
        output = super().schedule()
        if output.preempted_req_ids:
            left = self.max_num_batched_tokens - output.total_num_scheduled_tokens
            left = self.admit_waiting(output, left)
            output.total_num_scheduled_tokens = self.max_num_batched_tokens - left
        return output


class LosesVictims(Scheduler):
    def preempt(self, victim: Request, output: SchedulerOutput) -> int:
        unspent = super().preempt(victim, output)
        self.waiting.remove(victim)
        return unspent


class HidesVictims(Scheduler):
    def preempt(self, victim: Request, output: SchedulerOutput) -> int:
        unspent = super().preempt(victim, output)
        output.preempted_req_ids.discard(victim.request_id)
        return unspent


class SkipsTheLast(Scheduler):
    def serve_running(self, output: SchedulerOutput, budget: int) -> int:
        last = self.running.pop() if len(self.running) > 1 else None
        budget = super().serve_running(output, budget)
        self.running += [last] if last else []
        return budget


class LosesLateTokens(AsyncScheduler):
    def deliver_late(self, tokens: Mapping[str, int | list[int]]) -> list[Request]:
        return []


class DecodesFirst(Scheduler):
    def serve_running(self, output: SchedulerOutput, budget: int) -> int:
        self.running.sort(key=lambda r: r.num_tokens - r.num_computed_tokens > 1)
        return super().serve_running(output, budget)


def violations_of(make: Callable[[SchedulerConfig, KVCacheManager], Scheduler]) -> Iterator[str]:
    """Yield what a scheduler's plans break, in runs short of budget, of seats and of memory."""
    for num_blocks, policy in ((100, "fcfs"), (9, "fcfs"), (9, "priority")):
        config = SchedulerConfig(max_num_seqs=3, max_num_batched_tokens=12, policy=policy)
        scheduler = make(config, KVCacheManager(num_blocks, 4, enable_caching=False))
        for index, num_tokens in enumerate((9, 5, 6, 7, 3)):
            scheduler.add_request(
                request("abcde"[index], num_tokens, priority=-index, arrival_time=float(index))
            )
        for step in range(60):
            if step == 1:
                scheduler.add_request(request("f", 8, priority=-9))
            before = SchedulerState.of(scheduler)
            output = scheduler.schedule()
            found = plan_violations(before, output, SchedulerState.of(scheduler))
            yield from found
            if found:
                break
            sampled = {
                name: 7
                for name in output.num_scheduled_tokens
                if (r := scheduler.requests[name]).num_computed_tokens >= r.num_tokens
            }
            scheduler.update_from_output(output, sampled)


class TestLaws:
    @pytest.mark.parametrize(
        ("mutant", "message"),
        [
            (OverBudget, "the budget is 12"),
            (Overfull, "4 requests run; max_num_seqs is 3"),
            (GrantsNothing, "is to compute 0 tokens"),
            (GrantsTooMuch, "tokens computed, but only"),
            (KeepsTheVictimsTokens, "is preempted, but is to compute tokens"),
            (AdmitsAfterPreempting, "starts in an iteration that preempts"),
            (LosesVictims, "is in 0 queues; it must be in exactly one"),
            (HidesVictims, "does not run any more, but is not named as preempted"),
            (SkipsTheLast, "tokens and gets none, with"),
        ],
    )
    def test_a_faulty_plan_is_seen_and_said_why(
        self, mutant: type[Scheduler], message: str
    ) -> None:
        found = list(violations_of(mutant))
        assert any(message in violation for violation in found), found

    @pytest.mark.parametrize(
        "variant",
        [
            Scheduler,
            HeadSkippingScheduler,
            EvenSplitScheduler,
            StaticBatchingScheduler,
            DecodesFirst,
        ],
    )
    def test_what_is_free_is_free(self, variant: type[Scheduler]) -> None:
        assert not list(violations_of(variant))

    @pytest.mark.parametrize("victim_policy", VICTIM_POLICIES)
    def test_so_is_the_victim(self, victim_policy: str) -> None:
        def make(config: SchedulerConfig, manager: KVCacheManager) -> Scheduler:
            return Scheduler(replace(config, victim_policy=victim_policy), manager)

        assert not list(violations_of(make))

    def test_so_is_the_order_of_service(self) -> None:
        for policy in POLICIES:

            def make(config: SchedulerConfig, manager: KVCacheManager) -> Scheduler:
                return Scheduler(replace(config, policy=policy), manager)  # noqa: B023

            assert not list(violations_of(make))

    def test_every_law_is_broken_by_something(self) -> None:
        scheduler = scheduler_with(max_num_seqs=1)
        scheduler.add_request(request("a", 4))
        before = SchedulerState.of(scheduler)
        output = scheduler.schedule()
        after = SchedulerState.of(scheduler)
        two = replace(before, running=("b",), requests={**before.requests})
        broken = {
            "breaks_the_budget": (before, replace(output, total_num_scheduled_tokens=9), after),
            "overfills_the_batch": (before, output, replace(after, running=("a", "b"))),
            "plans_for_others": (before, output, replace(after, running=())),
            "miscounts_computed_tokens": (
                before,
                replace(output, num_scheduled_tokens={"a": 5}),
                after,
            ),
            "keeps_victims": (before, replace(output, preempted_req_ids={"a"}), after),
            "hides_victims": (two, output, after),
            "admits_after_preempting": (before, replace(output, preempted_req_ids={"b"}), after),
            "loses_requests": (before, output, replace(after, waiting=("a",))),
            "skips_who_runs": (
                replace(before, running=("a",)),
                replace(output, num_scheduled_tokens={}),
                after,
            ),
        }
        assert set(broken) == {law.__name__ for law in PLAN_LAWS}
        for law in PLAN_LAWS:
            assert list(law(*broken[law.__name__]))
            assert not list(law(before, output, after))

    def test_a_state_stays_as_it_was(self) -> None:
        scheduler = scheduler_with()
        scheduler.add_request(request("a", 4))
        before = SchedulerState.of(scheduler)
        scheduler.update_from_output(scheduler.schedule(), {"a": 7})
        assert before.requests["a"].status is RequestStatus.WAITING
        assert (before.waiting, before.requests["a"].num_tokens) == (("a",), 4)


class TestDriver:
    def test_two_plans_in_flight_give_the_same_tokens_as_one(self) -> None:
        def token(request: Request, num_generated: int) -> int:
            return 1000 + (31 * ord(request.request_id[0]) + 7 * num_generated) % 997

        answers = []
        for make, max_in_flight in ((Scheduler, 1), (AsyncScheduler, 1), (AsyncScheduler, 2)):
            config = SchedulerConfig(max_num_batched_tokens=30)
            scheduler = make(config, KVCacheManager(14, 4))
            requests = [request("abcdefgh"[i], 5 + 3 * i, 4 + i) for i in range(8)]
            for each in requests:
                scheduler.add_request(each)
            plans = list(run_plans(scheduler, token, max_in_flight=max_in_flight))
            assert any(plan.preempted_req_ids for plan in plans)
            answers.append([each.output_token_ids for each in requests])
        assert answers[0] == answers[1] == answers[2]
        assert answers[0][3] == [1000 + (31 * ord("d") + 7 * n) % 997 for n in range(7)]

    @pytest.mark.parametrize(
        ("make", "figures"), [(AsyncScheduler, (572, 7, 4005)), (LosesLateTokens, (576, 27, 4348))]
    )
    def test_a_lost_token_costs_preemptions_and_shows_in_no_answer(
        self, make: type[AsyncScheduler], figures: tuple[int, int, int]
    ) -> None:
        rng = random.Random(1)
        scheduler = make(SchedulerConfig(), KVCacheManager(21, 16))
        requests = []
        for index in range(24):
            prompt = [rng.randrange(1000) for _ in range(rng.randint(60, 199))]
            requests.append(Request(f"r{index}", prompt, rng.randint(10, 59)))
            scheduler.add_request(requests[-1])
        plans = list(run_plans(scheduler, lambda r, count: 1000 + count, max_in_flight=2))
        for each in requests:
            assert each.output_token_ids == [1000 + count for count in range(each.max_tokens)]
        num_preempted = sum(len(plan.preempted_req_ids) for plan in plans)
        num_tokens = sum(plan.total_num_scheduled_tokens for plan in plans)
        assert (len(plans), num_preempted, num_tokens) == figures

    def test_requests_may_come_and_go_between_two_plans(self) -> None:
        scheduler = AsyncScheduler(SchedulerConfig(), KVCacheManager(30, 4))
        scheduler.add_request(request("a", 4, 9))
        again = request("a", 6, 3)
        for step, _ in enumerate(run_plans(scheduler, seven, max_in_flight=2)):
            if step == 2:
                scheduler.finish_requests("a", RequestStatus.FINISHED_ABORTED)
                scheduler.add_request(again)
        assert again.output_token_ids == [7, 7, 7]

    def test_a_scheduler_that_plans_nothing_is_found_out(self) -> None:
        class Stuck(Scheduler):
            def admit_waiting(self, output: SchedulerOutput, budget: int) -> int:
                return budget

        scheduler = Stuck(SchedulerConfig(), KVCacheManager(10))
        scheduler.add_request(request("a", 4))
        with pytest.raises(RuntimeError, match="nothing is planned for 1 unfinished requests"):
            list(run_plans(scheduler, seven))
        with pytest.raises(ValueError, match="max_in_flight is 0; at least 1"):
            list(run_plans(scheduler, seven, max_in_flight=0))


class TestByHand:
    @pytest.mark.parametrize("seed", range(10))
    def test_memory_runs_out_in_both_modes(self, seed: int) -> None:
        recompute, swap = (preemption_by_hand(seed, mode) for mode in ("recompute", "swap"))
        assert recompute.requests == swap.requests
        victims = [step.preempted for step in recompute.steps]
        assert any(victims)
        assert victims[0] == ()
        assert not any(step.swapped for step in recompute.steps)
        assert any(step.swapped for step in swap.steps)
        for trace in (recompute, swap):
            for step in trace.steps:
                held = {block for table in step.tables.values() for block in table}
                assert len(step.free) + len(held) == 100
                assert set(step.tables) == set(step.running)
                names = [*step.running, *step.waiting, *step.swapped]
                assert len(names) == len(set(names))
                if step.preempted:
                    assert set(step.preempted) <= {*step.waiting, *step.swapped}
            assert "C" not in trace.steps[-1].running
            assert "U" in trace.steps[-1].running

    def test_an_instance_worked_out(self) -> None:
        trace = preemption_by_hand(1, "recompute")
        lengths = {each.request_id: len(each.prompt_token_ids) for each in trace.requests}
        assert lengths == {"A": 631, "B": 483, "C": 335, "D": 115, "U": 240}
        # 40 + 31 + 21 + 8 blocks are 100. In step 1 everybody has a slot left. In step 2 C's 337th
        # token needs a 22nd block, and D, the last of equals in importance, gives up its 8.
        assert [step.line for step in trace.steps[:3]] == [
            "step 0  A:631* B:483* C:335* D:115*  | -",
            "step 1  A:1 B:1 C:1 D:1  | U",
            "step 2  A:1 B:1 C:1  | U D!",
        ]
        assert [len(step.free) for step in trace.steps[:3]] == [0, 0, 7]

    @pytest.mark.parametrize("seed", range(10))
    def test_a_hit_a_chunk_and_a_victim(self, seed: int) -> None:
        trace = plans_by_hand(seed)
        assert all(sum(step.plan.values()) <= 10 for step in trace.steps)
        assert any(step.preempted for step in trace.steps)
        first = next(step for step in trace.steps if "r2" in step.plan)
        assert first.tables["r2"][0] == first.tables["r0"][0]
        assert first.tables["r0"][0] in first.cached
        for step in trace.steps:
            assert [grant.request_id for grant in StepLine.parse(step.line).grants] == [*step.plan]

    @pytest.mark.parametrize("seed", range(10))
    def test_counters_follow_from_what_is_done(self, seed: int) -> None:
        counters: dict[str, float] = {}
        waiting: dict[str, list[tuple[str, int]]] = {}
        last: str | None = None
        for step in counters_by_hand(seed):
            if step.action.startswith("add"):
                name, _, num_tokens = step.action[4:-1].partition("(")
                if not waiting.get(name[0]):
                    others = [counters[client] for client in waiting if waiting[client]]
                    level = min(others) if others else counters[last] if last else 0.0
                    counters[name[0]] = max(counters.get(name[0], 0.0), level)
                waiting.setdefault(name[0], []).append((name, int(num_tokens)))
            elif step.action == "pop":
                last = min((c for c in waiting if waiting[c]), key=lambda c: (counters[c], c))
                name, num_tokens = waiting[last].pop(0)
                counters[last] += num_tokens
                assert step.taken == name
            else:
                counters[step.action[-1]] += 2 * int(step.action.split()[0])
            assert step.counters == counters

    def test_the_same_seed_makes_the_same_instance_and_another_another(self) -> None:
        assert plans_by_hand(3) == plans_by_hand(3)
        assert len({counters_by_hand(seed)[-1].action for seed in range(20)}) > 3
        assert len({plans_by_hand(seed).steps[0].line for seed in range(20)}) > 3
        with pytest.raises(ValueError, match="num_steps is 7"):
            counters_by_hand(1, num_steps=7)
