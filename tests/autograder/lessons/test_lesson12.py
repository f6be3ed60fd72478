"""Lesson 12: what its checks say of answers that people give, wrong ones and unusual right ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from autograder.lessons import lesson12_given as given
from autograder.lessons import lesson12_hunt as hunt
from autograder.lessons import lesson12_mistakes as mistakes
from autograder.lessons import lesson12_plans as plans
from autograder.lessons import lesson12_work as work
from autograder.proxy.subject import LocalSubject
from course_lib.kv_cache import KVCacheManager
from course_lib.mounting import mount
from course_lib.scheduling import (
    AsyncScheduler,
    Request,
    RequestStatus,
    Scheduler,
    SchedulerConfig,
    SchedulerOutput,
    SpeculativeScheduler,
)
from course_lib.scheduling.watch.driver import run_plans
from course_lib.scheduling.watch.violations import plan_violations
from lesson_answers import (
    SAME,
    examine,
    named,
    right_answers_earn_everything,
    wrong_answers_earn_nothing,
)

# 12.3


def by_index(self, output, budget):
    """Move the index back by those who left in front, served or not."""
    place = 0
    while place < len(self.running) and budget > 0:
        request = self.running[place]
        place += 1
        lacking = request.num_tokens + request.num_tokens_ahead - request.num_computed_tokens
        if lacking < 1:
            continue
        tokens = 1 if lacking == 1 else self.limit_chunk(request, lacking, budget)
        needs_slots = tokens > 1 or not self.kv_cache_manager.has_free_slot(request)
        if needs_slots and self.kv_cache_manager.allocate_slots(request, tokens) is None:
            front = self.running[:place]
            budget += self.preempt_for(request, tokens, output)
            place -= sum(each.status is not RequestStatus.RUNNING for each in front)
            if request.status is not RequestStatus.RUNNING:
                continue
        output.num_scheduled_tokens[request.request_id] = tokens
        request.num_computed_tokens += tokens
        budget -= tokens
    return budget


def by_names(self, output, budget):
    """Go through the names, and look each of them up."""
    for name in [request.request_id for request in self.running]:
        request = self.requests[name]
        if request.status != RequestStatus.RUNNING or budget <= 0:
            continue
        lacking = max(
            request.num_tokens + request.num_tokens_ahead - request.num_computed_tokens, 0
        )
        tokens = self.limit_chunk(request, lacking, budget) if lacking else 0
        if not tokens:
            continue
        has_slot = tokens == 1 and self.kv_cache_manager.has_free_slot(request)
        if not has_slot and self.kv_cache_manager.allocate_slots(request, tokens) is None:
            budget += self.preempt_for(request, tokens, output)
        if request.status == RequestStatus.RUNNING:
            output.num_scheduled_tokens.update({name: tokens})
            request.num_computed_tokens += tokens
            budget = budget - tokens
    return budget


def on_a_deque_of_its_own(self, output, budget):
    """Take one after the other out of a copy."""
    line = self.running.copy()
    line.reverse()
    while line and budget:
        request = line.pop()
        if request.request_id in output.preempted_req_ids:
            continue
        lacking = len(request.all_token_ids) + request.num_tokens_ahead
        lacking -= request.num_computed_tokens
        if lacking <= 0:
            continue
        tokens = self.limit_chunk(request, lacking, budget)
        if tokens != 1 or not self.kv_cache_manager.has_free_slot(request):
            if self.kv_cache_manager.allocate_slots(request, tokens) is None:
                budget += self.preempt_for(request, tokens, output)
            if request.request_id in output.preempted_req_ids:
                continue
        output.num_scheduled_tokens[request.request_id] = tokens
        request.num_computed_tokens += tokens
        budget -= tokens
    return budget


def the_running_list_itself(self, output, budget):
    for request in self.running:
        if budget < 1:
            break
        lacking = request.num_tokens + request.num_tokens_ahead - request.num_computed_tokens
        tokens = self.limit_chunk(request, lacking, budget) if lacking > 0 else 0
        if not tokens:
            continue
        if self.kv_cache_manager.allocate_slots(request, tokens) is None:
            budget += self.preempt_for(request, tokens, output)
            if request.status is not RequestStatus.RUNNING:
                continue
        output.num_scheduled_tokens[request.request_id] = tokens
        request.num_computed_tokens += tokens
        budget -= tokens
    return budget


def a_new_list(self, output, budget):
    left = Scheduler.serve_running(self, output, budget)
    self.running = list(reversed(self.running))
    return left


def float_budget(self, output, budget):
    return float(Scheduler.serve_running(self, output, budget))


def one_budget_less(self, output, budget):
    return Scheduler.serve_running(self, output, budget - 1) + 1


def one_slot_for_several(self, output, budget):
    """Ask `has_free_slot` whatever the number of tokens."""
    for request in list(self.running):
        if request.request_id in output.preempted_req_ids or budget < 1:
            continue
        lacking = request.num_tokens + request.num_tokens_ahead - request.num_computed_tokens
        tokens = self.limit_chunk(request, lacking, budget) if lacking > 0 else 0
        if not tokens:
            continue
        manager = self.kv_cache_manager
        if not manager.has_free_slot(request) and manager.allocate_slots(request, tokens) is None:
            budget += self.preempt_for(request, tokens, output)
            if request.request_id in output.preempted_req_ids:
                continue
        output.num_scheduled_tokens[request.request_id] = tokens
        request.num_computed_tokens += tokens
        budget -= tokens
    return budget


# 12.4


def take_back_by_progress(self, output, sampled):
    """Work out how far a request will be, and set it."""
    moves = []
    for name, drafts in output.scheduled_spec_decode_tokens.items():
        if name not in sampled:
            continue
        tokens = sampled[name] if isinstance(sampled[name], list) else [sampled[name]]
        if len(tokens) not in range(1, len(drafts) + 2):
            raise ValueError(name)
        request = self.requests.get(name)
        if request and request.num_computed_tokens > request.num_tokens:
            moves.append((request, request.num_tokens + len(tokens) - 1))
    for request, num_computed in moves:
        request.num_computed_tokens = num_computed


def take_back_key_error(self, output, sampled):
    for name, drafts in output.scheduled_spec_decode_tokens.items():
        tokens = sampled[name]
        num = len(tokens) if isinstance(tokens, list) else 1
        if not 1 <= num <= len(drafts) + 1:
            raise KeyError(name)
        self.requests[name].num_computed_tokens -= len(drafts) + 1 - num


def _rejected(output, sampled):
    """Return how many drafts of each named request were rejected."""
    counts = {
        name: len(sampled[name]) if isinstance(sampled[name], list) else 1
        for name in output.scheduled_spec_decode_tokens
        if name in sampled
    }
    drafts = output.scheduled_spec_decode_tokens
    if not all(1 <= num <= len(drafts[name]) + 1 for name, num in counts.items()):
        raise ValueError(counts)
    return {name: len(drafts[name]) + 1 - num for name, num in counts.items()}


def take_back_from_whoever_has_caught_up(self, output, sampled):
    for name, num in _rejected(output, sampled).items():
        request = self.requests.get(name)
        if request and request.num_computed_tokens >= request.num_tokens:
            request.num_computed_tokens -= num


def take_back_and_empty_the_plan(self, output, sampled):
    SpeculativeScheduler.take_back_rejected(self, output, sampled)
    for name in output.scheduled_spec_decode_tokens:
        output.scheduled_spec_decode_tokens[name] = []


def take_back_from_the_living(self, output, sampled):
    """Look at the counts of those alone who are still there."""
    there = {
        name: drafts
        for name, drafts in output.scheduled_spec_decode_tokens.items()
        if name in self.requests
    }
    for name, num in _rejected(
        SchedulerOutput(scheduled_spec_decode_tokens=there), sampled
    ).items():
        request = self.requests[name]
        if request.num_computed_tokens > request.num_tokens:
            request.num_computed_tokens -= num


# 12.5


def place_by_lacking(self, request):
    lacking = request.num_tokens + request.num_tokens_ahead - request.num_computed_tokens
    room = request.length_limit - request.num_tokens - request.num_tokens_ahead
    request.num_tokens_ahead += lacking <= 0 and room >= 2


def place_nothing(self, request):
    return None


def test_the_numbers_of_a_placeholder_are_shown_by_name():
    case = examine("12.5", place_nothing).counterexample.case
    assert "num_tokens_ahead=" in case
    assert "num_computed_tokens=" in case


# 12.6


def reasons(self, request):
    others = {each.lora_id for each in self.running if each.lora_id not in (None, request.lora_id)}
    return "wait" if request.lora_id and len(others) >= self.max_loras else ""


def observe_by_clamping(self, step_seconds):
    now = getattr(self.scheduler, self.limit)
    wanted = now * self.decrease // 1 if step_seconds > self.target_seconds else now + self.increase
    setattr(self.scheduler, self.limit, int(min(max(wanted, self.minimum), self.maximum)))


def observe_the_config(self, step_seconds):
    value = getattr(self.scheduler.config, self.limit)
    if step_seconds > self.target_seconds:
        value = max(int(value * self.decrease), self.minimum)
    setattr(self.scheduler, self.limit, value)


# 12.9


def admit_by_subtraction(line, budget, free):
    plan, spent = {}, 0
    for name, tokens, cached in line:
        rest = tokens - cached
        blocks = (rest + hunt.BLOCK_SIZE - 1) // hunt.BLOCK_SIZE
        left = budget - spent
        if left <= 0 or blocks > free or (spent and rest > left):
            return plan, left, free
        plan[name] = (cached, min(tokens, cached + left))
        spent += plan[name][1] - cached
        free -= blocks
    return plan, budget - spent, free


def admit_into_the_blocks_of_one_step(line, budget, free):
    plan = {}
    for name, total, cached in line:
        lacking = total - cached
        if budget < 1 or -(-lacking // hunt.BLOCK_SIZE) > free or (plan and lacking > budget):
            break
        now = min(lacking, budget)
        plan[name] = (cached, cached + now)
        budget -= now
        free -= -(-now // hunt.BLOCK_SIZE)
    return plan, budget, free


def admit_with_a_token_to_spare(line, budget, free):
    """Let a later one wait that just fits into what is left of the budget."""
    plan = {}
    for name, tokens, cached in line:
        rest = tokens - cached
        blocks = -(-rest // hunt.BLOCK_SIZE)
        if budget < 1 or blocks > free or (plan and rest >= budget):
            break
        plan[name] = (cached, cached + min(rest, budget))
        budget -= min(rest, budget)
        free -= blocks
    return plan, budget, free


def laws_in_other_words(before, output, after):
    """Find the same as the reference, and say it once."""
    return ["broken"] if plan_violations(before, output, after) else []


RIGHT = {
    "12.2": [
        list("KGMOHIBAJNC"),
        list("KMGOHIABJNC"),
        list("KGMOHIABNJC"),
        "KGMOHIAJBNC",
    ],
    "12.3": [
        by_index,
        by_names,
        on_a_deque_of_its_own,
    ],
    "12.4": [
        take_back_by_progress,
        take_back_from_the_living,
    ],
    "12.5": [
        place_by_lacking,
    ],
    "12.6a": [
        reasons,
    ],
    "12.6b": [
        observe_by_clamping,
    ],
    "12.8": [
        laws_in_other_words,
    ],
    "12.9a": [
        {"line": [["x", 300, 256]], "budget": 900, "free": 1},
        {"line": [("a", 10, 0), ("b", 700, 512)], "budget": 2000, "free": 9},
    ],
    "12.9b": [
        admit_by_subtraction,
    ],
}
WRONG = {
    "12.2": [
        (list("KLMOHIABJNC"), "the set is emptied"),
        (list("BKGMOHIAJNC"), SAME),
        (list("KGMOHINABJC"), SAME),
        (list("KGMOHIANBJC"), "copies too late or left out"),
        ([], SAME),
    ],
    "12.3": [
        (the_running_list_itself, "the place stays"),
        (a_new_list, SAME),
        (one_slot_for_several, "one slot for several"),
        (float_budget, SAME),
        (one_budget_less, SAME),
        (lambda self, output, budget: budget, SAME),
        (object(), SAME),
    ],
    "12.4": [
        (take_back_key_error, SAME),
        (take_back_from_whoever_has_caught_up, SAME),
        (take_back_and_empty_the_plan, SAME),
        (lambda self, output, sampled: None, SAME),
    ],
    "12.5": [
        (place_nothing, SAME),
    ],
    "12.6a": [
        (lambda self, request: None, SAME),
        (lambda self, request: "", SAME),
    ],
    "12.6b": [
        (observe_the_config, SAME),
        (lambda self, seconds: None, SAME),
    ],
    "12.8": [
        (lambda before, output, after: [], SAME),
        (lambda before, output, after: ["wrong"], SAME),
        (lambda before, output, after: None, SAME),
    ],
    "12.9a": [
        ({"line": [("b", 465, 250)], "budget": 1000, "free": 8}, SAME),
        ({"line": [("b", 465, 0)], "budget": 1000, "free": 8}, "nothing is cached"),
    ],
    "12.9b": [
        (admit_with_a_token_to_spare, SAME),
        (admit_into_the_blocks_of_one_step, "blocks for this step alone"),
        (lambda line, budget, free: ({}, budget, free), SAME),
    ],
}

test_an_unusual_right_answer_earns_everything = right_answers_earn_everything(RIGHT)
test_a_wrong_answer_earns_nothing_and_is_named_only_if_it_is_that = wrong_answers_earn_nothing(
    WRONG
)

# What a plan costs


def test_half_of_the_cost_is_earned_by_who_asks_a_little_too_often():
    def every_third(self, output, budget):
        manager = self.kv_cache_manager
        for place, request in enumerate(self.running):
            if place % 3 == 0 and request.num_tokens - request.num_computed_tokens == 1:
                manager.allocate_slots(request, 1)
        return Scheduler.serve_running(self, output, budget)

    tallies = list(work.work(LocalSubject(every_third), 0))
    assert 1 < max(tally.count / tally.allowed for tally in tallies) <= 2


def test_the_reference_is_well_within_what_is_allowed():
    tallies = list(work.work(LocalSubject(Scheduler.serve_running), 0))
    assert all(tally.count <= 0.7 * tally.allowed for tally in tallies)
    assert len(tallies[0].outcome.value) == work.NUM_RUNNING


def test_a_loop_that_raises_is_shown_as_it_is():
    def broken(self, output, budget):
        raise ZeroDivisionError("nothing is divided here")

    (first, *_) = work.work(LocalSubject(broken), 0)
    assert "ZeroDivisionError" in first.outcome.kinds


# Tasks by hand


@pytest.mark.parametrize("seed", range(6))
def test_plans_by_hand_have_a_hit_and_a_victim(seed):
    answer = given.plans_to_write(seed).answer
    assert answer["step 1"]["r2"] > 0
    assert answer["who"] not in answer["its plan"]
    assert examine("12.1", {"seed": seed, **answer}).fraction == 1.0


@pytest.mark.parametrize("mistake", given.BY_HAND, ids=lambda mistake: mistake.name)
def test_a_mistake_by_hand_is_named(mistake):
    finding = examine("12.1", {"seed": 3, **mistake.wrong(3)})
    assert 0 < finding.fraction < 1
    assert named(finding) == mistake.name


def test_a_plan_by_hand_is_written_as_a_plan():
    assert not any(given.form_of_a_plan(state) for state in ({"r0": 1}, 3, "r1"))
    assert "neither" in given.form_of_a_plan(["r0", 1])
    assert "neither" in given.form_of_a_plan({"r0": 1.0})
    assert "neither a whole number" in given.form_of_a_plan(7.0)


@pytest.mark.parametrize("seed", range(6))
def test_whoever_asks_by_hand_is_one_of_the_three(seed):
    assert given.who_asks_gives_way(seed)["who"] in ("r0", "r1", "r2")


# Plans for the checker


def test_the_faulty_plans_break_each_law_and_the_valid_ones_none():
    def said(call):
        before, output, after = call.args
        made = LocalSubject(plan_violations).call([before, output, after])
        return made.value

    assert all(said(call) for call in plans.FAULTY.values())
    assert not any(said(call) for call in plans.VALID.values())
    assert all(said(call) for call in plans.drawn(5).values())


def test_other_seeds_draw_other_broken_plans():
    shown = Counter(repr(list(plans.drawn(seed).values())) for seed in range(4))
    assert len(shown) == 4


def test_a_specimen_is_shown_with_both_states_and_the_plan():
    finding = examine("12.8", lambda before, output, after: [])
    case = finding.counterexample.case
    assert all(word in case for word in ("before: running a:4/5", "plan: {", "after: "))


def the_bound_is_for_the_plan_alone(before, output, after):
    """Hold what is planned against what is lacking, and not what is computed afterwards."""
    said = [each for each in plan_violations(before, output, after) if "but only" not in each]
    return said + [
        name
        for name, tokens in output.num_scheduled_tokens.items()
        if tokens > before.requests[name].num_lacking
    ]


def whoever_comes_may_have_hits(before, output, after):
    """Let a request that comes back from the CPU move by more than is planned."""
    return plan_violations(
        replace(before, waiting=(*before.waiting, *before.swapped)), output, after
    )


@pytest.mark.parametrize("checker", [the_bound_is_for_the_plan_alone, whoever_comes_may_have_hits])
def test_a_checker_that_lets_hits_pass_everywhere_loses_points(checker):
    assert examine("12.8", checker).fraction < 1


# The hunt


def test_the_fixes_mend_one_half_each():
    line = [("b", 465, 256), ("c", 280, 0)]
    assert hunt.admit_a(hunt.Memory(8), line, 500) == ({"b": (256, 465)}, 35)
    assert hunt.admit_b(hunt.Memory(8), line, 500) == hunt.admit(line, 500, 8)[:2]
    memory = hunt.Memory(8)
    hunt.admit_b(memory, [("a", 209, 0), ("c", 556, 256)], 300)
    assert memory.free == 5


@pytest.mark.parametrize(("budget", "free"), [(1000, 2), (500, 8)])
def test_a_hit_that_is_not_admitted_is_no_matter_of_a_cut(budget, free):
    case = {"line": [("a", 465, 0), ("b", 465, 256)], "budget": budget, "free": free}
    assert named(examine("12.9a", case)) == "nobody with a hit is admitted"


@pytest.mark.parametrize(
    "case",
    [
        None,
        {"line": []},
        {"line": [], "budget": 1, "free": 1},
        {"line": [("a", 1)], "budget": 1, "free": 1},
        {"line": [("a", 256, 256)], "budget": 1, "free": 1},
        {"line": [("a", 300, 256)], "budget": 0, "free": 1},
        {"line": [("a", 300, True)], "budget": 1, "free": 1},
        {"line": [("b", 465, 256), ("b", 300, 0)], "budget": 100, "free": 8},
    ],
)
def test_what_is_no_case_is_told_so(case):
    assert hunt.reaches_too_far(None, case)
    assert "plans" not in hunt.reaches_too_far(None, case)


def test_a_prompt_that_is_too_long_for_the_hunt_is_told_so():
    case = {"line": [("b", 100_001, 256)], "budget": 1000, "free": 8}
    assert "at most 100,000 tokens" in hunt.reaches_too_far(None, case)


def test_without_a_placeholder_the_last_token_comes_a_step_later():
    num_plans = []
    for place_ahead in (AsyncScheduler.place_ahead, mistakes.end_too_early):
        kind = mount(AsyncScheduler, {"place_ahead": place_ahead})
        scheduler = kind(SchedulerConfig(), KVCacheManager(num_blocks=20))
        request = Request("a", range(5), max_tokens=4)
        scheduler.add_request(request)
        num_plans.append(sum(1 for _ in run_plans(scheduler, lambda *_: 7, max_in_flight=2)))
        assert request.output_token_ids == [7] * 4
    assert num_plans == [5, 6]
    said = next(each for each in mistakes.AHEAD if each.wrong is mistakes.end_too_early)
    assert "the last one comes a step later" in said.explanation
