"""Lesson 12: known wrong checkers of plans, each with verdicts of its own."""

from __future__ import annotations

from collections.abc import Callable

from autograder.checks.finding import Misconception
from course_lib.scheduling import SchedulerOutput
from course_lib.scheduling.watch import violations
from course_lib.scheduling.watch.state import SchedulerState
from course_lib.scheduling.watch.violations import PlanLaw, plan_violations


def but(*laws: PlanLaw) -> Callable[..., list[str]]:
    """Return a checker that asks for everything but these laws."""

    def checker(
        before: SchedulerState, output: SchedulerOutput, after: SchedulerState
    ) -> list[str]:
        kept = (law for law in violations.PLAN_LAWS if law not in laws)
        return [text for law in kept for text in law(before, output, after)]

    return checker


def budget_alone(
    before: SchedulerState, output: SchedulerOutput, after: SchedulerState
) -> list[str]:
    """Ask for the budget alone."""
    return list(violations.breaks_the_budget(before, output, after))


def all_must_be_served(
    before: SchedulerState, output: SchedulerOutput, after: SchedulerState
) -> list[str]:
    """Ask that everybody who runs is served, whatever is left."""
    missing = set(after.running) - set(output.num_scheduled_tokens)
    return plan_violations(before, output, after) + [f"{name} gets none" for name in missing]


def order_of_admission(
    before: SchedulerState, output: SchedulerOutput, after: SchedulerState
) -> list[str]:
    """Ask that requests are served in the order of admission."""
    order = [name for name in after.running if name in output.num_scheduled_tokens]
    said = plan_violations(before, output, after)
    if order != [name for name in output.num_scheduled_tokens if name in order]:
        said.append("not in the order of admission")
    return said


def last_in_goes(
    before: SchedulerState, output: SchedulerOutput, after: SchedulerState
) -> list[str]:
    """Ask that the last in gives way."""
    num = len(output.preempted_req_ids)
    said = plan_violations(before, output, after)
    if num and set(before.running[-num:]) != set(output.preempted_req_ids):
        said.append("somebody else than the last in gives way")
    return said


def no_hits(before: SchedulerState, output: SchedulerOutput, after: SchedulerState) -> list[str]:
    """Ask that computed tokens move by just what is planned."""
    said = plan_violations(before, output, after)
    for name in after.running:
        old, new = before.requests.get(name), after.requests.get(name)
        num = output.num_scheduled_tokens.get(name, 0)
        if old and new and new.num_computed_tokens - old.num_computed_tokens != num:
            said.append(f"{name} moved by something else")
    return said


def never_more_than_seats(
    before: SchedulerState, output: SchedulerOutput, after: SchedulerState
) -> list[str]:
    """Ask that never more run than there are seats."""
    said = plan_violations(before, output, after)
    return [*said, "too many"] if len(after.running) > before.max_num_seqs else said


def waiters_must_come(
    before: SchedulerState, output: SchedulerOutput, after: SchedulerState
) -> list[str]:
    """Ask that somebody is admitted as long as there is budget and a seat."""
    said = plan_violations(before, output, after)
    left = before.max_num_batched_tokens - sum(output.num_scheduled_tokens.values())
    is_free = left > 0 and len(after.running) < before.max_num_seqs
    if is_free and after.waiting and not output.preempted_req_ids:
        said.append("somebody could have been admitted")
    return said


def known_tokens_only(
    before: SchedulerState, output: SchedulerOutput, after: SchedulerState
) -> list[str]:
    """Ask that nothing beyond the known tokens is computed."""
    after_of = ((name, after.requests.get(name)) for name in after.running)
    beyond = [name for name, r in after_of if r and r.num_computed_tokens > r.num_tokens]
    return plan_violations(before, output, after) + beyond


CHECKER = (
    Misconception(
        "the budget alone",
        "A plan may keep the budget and lose a request, serve a victim, or skip somebody.",
        budget_alone,
    ),
    Misconception(
        "the budget is left out",
        "The tokens planned are at most the budget, and their sum is what the plan says.",
        but(violations.breaks_the_budget),
    ),
    Misconception(
        "the seats are left out",
        "Nobody starts in a batch that is full.",
        but(violations.overfills_the_batch),
    ),
    Misconception(
        "progress is left out",
        "Computed tokens move by what is planned, and never beyond what a request lacked.",
        but(violations.miscounts_computed_tokens),
    ),
    Misconception(
        "silent victims are left out",
        "Who ran and does not run any more must be named, or the executor goes on with it.",
        but(violations.hides_victims),
    ),
    Misconception(
        "who starts after a victim is left out",
        "In a step that preempts nobody starts: hold who runs afterwards against who ran before.",
        but(violations.admits_after_preempting),
    ),
    Misconception(
        "the queues are left out",
        "Each request is in exactly one queue afterwards: in none it is lost, in two it runs "
        "twice.",
        but(violations.loses_requests),
    ),
    Misconception(
        "who is skipped is left out",
        "With budget left, everybody who runs and lacks tokens gets some: a gap in one user's "
        "answer shows in no sum.",
        but(violations.skips_who_runs),
    ),
    Misconception(
        "everybody must be served",
        "When the budget is spent, or where a request lacks nothing, it gets none; that breaks no "
        "law.",
        all_must_be_served,
    ),
    Misconception(
        "an order is demanded",
        "In which order requests are served is a policy's business.",
        order_of_admission,
    ),
    Misconception(
        "a victim is demanded",
        "Who gives way is a policy's business.",
        last_in_goes,
    ),
    Misconception(
        "no hits",
        "A request that waited may have found tokens in the prefix cache: it moves by more than is "
        "planned.",
        no_hits,
    ),
    Misconception(
        "a larger batch is forbidden",
        "`max_num_seqs` may have been lowered meanwhile. Nobody is sent away for it; nobody "
        "starts.",
        never_more_than_seats,
    ),
    Misconception(
        "an admission is demanded",
        "There may be no block for who waits, or another reason. To let somebody wait breaks no "
        "law.",
        waiters_must_come,
    ),
    Misconception(
        "known tokens only",
        "Drafts and tokens on their way are computed as well: `num_lacking` counts them.",
        known_tokens_only,
    ),
)
