"""Lesson 12: known wrong running loops, each with one step of the right way done otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from autograder.checks.finding import Misconception
from course_lib.scheduling.request import Request, RequestStatus
from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput

Serve = Callable[[Scheduler, SchedulerOutput, int], Any]


class Serving:
    """The running loop in its steps, to be done otherwise in a subclass.

    Args:
        scheduler: The scheduler.
        output: Its plan so far.
    """

    def __init__(self, scheduler: Scheduler, output: SchedulerOutput) -> None:
        self.scheduler, self.output = scheduler, output

    def run(self, budget: int) -> Any:
        """Serve, and return what is left of the budget."""
        return self._run(budget)

    def _run(self, budget: int) -> Any:
        for request in self._order():
            if not self._goes_on(budget):
                break
            if self._has_gone(request):
                continue
            num_new = self._num_new(request, budget)
            if num_new < 1:
                continue
            if not self._has_room(request, num_new):
                budget += self._make_room(request, num_new)
                if request.status is not RequestStatus.RUNNING:
                    if self._stops():
                        break
                    continue
            self._enter(request, num_new)
            budget -= num_new
        return budget

    def _order(self) -> Iterable[Request]:
        """Say in which order the requests are served."""
        return list(self.scheduler.running)

    def _goes_on(self, budget: int) -> bool:
        """Say whether there is budget."""
        return budget > 0

    def _has_gone(self, request: Request) -> bool:
        """Say whether a request was preempted meanwhile."""
        return request.request_id in self.output.preempted_req_ids

    def _lacking(self, request: Request) -> int:
        """Say how many tokens the request lacks."""
        return request.num_tokens + request.num_tokens_ahead - request.num_computed_tokens

    def _num_new(self, request: Request, budget: int) -> int:
        """Say how many tokens the request gets."""
        num_lacking = self._lacking(request)
        return self.scheduler.limit_chunk(request, num_lacking, budget) if num_lacking > 0 else 0

    def _has_room(self, request: Request, num_new: int) -> bool:
        """Allocate, if there is room."""
        return self.scheduler.kv_cache_manager.allocate_slots(request, num_new) is not None

    def _make_room(self, request: Request, num_new: int) -> int:
        """Preempt, and say what goes back to the budget."""
        return self.scheduler.preempt_for(request, num_new, self.output)

    def _stops(self) -> bool:
        """Say whether nobody is served behind one that was preempted itself."""
        return False

    def _enter(self, request: Request, num_new: int) -> None:
        """Enter the request into the plan."""
        self.output.num_scheduled_tokens[request.request_id] = num_new
        request.num_computed_tokens += num_new


class ByPlace(Serving):
    """Goes by places in the list."""

    position = 0

    def _order(self) -> Iterable[Request]:
        running = self.scheduler.running
        while self.position < len(running):
            request = running[self.position]
            yield request
            self._move(request)

    def _has_gone(self, request: Request) -> bool:
        return False

    def _move(self, request: Request) -> None:
        """Go one place on."""
        self.position += 1


class PlaceMovesBackForTheServed(ByPlace):
    """Moves the place back for victims that had got a token, as vLLM did until July 2026."""

    def _make_room(self, request: Request, num_new: int) -> int:
        served = list(self.output.num_scheduled_tokens)
        regained = super()._make_room(request, num_new)
        self.position -= sum(name not in self.output.num_scheduled_tokens for name in served)
        return regained

    def _move(self, request: Request) -> None:
        if request.status is RequestStatus.RUNNING:
            self.position += 1


class PlaceMovesBackOnce(ByPlace):
    """Moves the place back by one, however many have gone in front of it."""

    def _make_room(self, request: Request, num_new: int) -> int:
        front = list(self.scheduler.running[: self.position])
        regained = super()._make_room(request, num_new)
        if any(each.status is not RequestStatus.RUNNING for each in front):
            self.position -= 1
        return regained

    def _move(self, request: Request) -> None:
        if request.status is RequestStatus.RUNNING:
            self.position += 1


class ServesVictims(Serving):
    """Serves who has been preempted."""

    def _has_gone(self, request: Request) -> bool:
        return False


class VictimsKeepTheirs(Serving):
    """Lets what victims had got be lost to the budget."""

    def _make_room(self, request: Request, num_new: int) -> int:
        super()._make_room(request, num_new)
        return 0


class DecodesFirst(Serving):
    """Serves those who lack one token before the others."""

    def _order(self) -> Iterable[Request]:
        return sorted(self.scheduler.running, key=lambda each: self._lacking(each) > 1)


class StopsAtOneThatGoes(Serving):
    """Serves nobody behind one that was preempted itself."""

    def _stops(self) -> bool:
        return True


class OnlyKnown(Serving):
    """Looks at the known tokens alone."""

    def _lacking(self, request: Request) -> int:
        return request.num_tokens - request.num_computed_tokens


class PromptsOnly(Serving):
    """Takes the prompt for all known tokens, and gives a decode its one."""

    def _lacking(self, request: Request) -> int:
        lacking = request.num_prompt_tokens - request.num_computed_tokens
        return lacking if lacking > 0 else 1


class NoThreshold(Serving):
    """Cuts to the budget and asks nobody else."""

    def _num_new(self, request: Request, budget: int) -> int:
        return min(self._lacking(request), budget)


class NeverCut(Serving):
    """Computes all that a request lacks, whatever is left."""

    def _num_new(self, request: Request, budget: int) -> int:
        return max(self._lacking(request), 0)


class AllOrNothing(Serving):
    """Never cuts a prompt to what is left of the budget."""

    def _num_new(self, request: Request, budget: int) -> int:
        num_new = super()._num_new(request, self.scheduler.max_num_batched_tokens)
        return num_new if num_new <= budget else 0


class OneSlotForSeveral(Serving):
    """Takes the free slot of one token for all that a request computes."""

    def _has_room(self, request: Request, num_new: int) -> bool:
        manager = self.scheduler.kv_cache_manager
        return manager.has_free_slot(request) or super()._has_room(request, num_new)


class BudgetOfAnIteration(Serving):
    """Cuts to the budget of a whole iteration, not to what is left of it."""

    def _num_new(self, request: Request, budget: int) -> int:
        return super()._num_new(request, self.scheduler.max_num_batched_tokens)


class OneMore(Serving):
    """Goes on when the budget is spent."""

    def _goes_on(self, budget: int) -> bool:
        return budget >= 0

    def _num_new(self, request: Request, budget: int) -> int:
        return super()._num_new(request, max(budget, 1))


class NotMoved(Serving):
    """Does not move the computed tokens ahead."""

    def _enter(self, request: Request, num_new: int) -> None:
        self.output.num_scheduled_tokens[request.request_id] = num_new


class AllIsComputed(Serving):
    """Counts all known tokens as computed."""

    def _enter(self, request: Request, num_new: int) -> None:
        self.output.num_scheduled_tokens[request.request_id] = num_new
        request.num_computed_tokens = request.num_tokens + request.num_tokens_ahead


class NobodyGivesWay(Serving):
    """Passes over who finds no block."""

    def _run(self, budget: int) -> Any:
        for request in self._order():
            num_new = self._num_new(request, budget) if budget > 0 else 0
            if num_new > 0 and self._has_room(request, num_new):
                self._enter(request, num_new)
                budget -= num_new
        return budget


class SpentNotLeft(Serving):
    """Returns what was spent."""

    def _run(self, budget: int) -> Any:
        return budget - super()._run(budget)


class NothingReturned(Serving):
    """Returns nothing."""

    def _run(self, budget: int) -> Any:
        super()._run(budget)


class LooksBackEachTime(Serving):
    """Is right, and counts anew who is left in front after each request."""

    def _order(self) -> Iterable[Request]:
        seen: list[Request] = []
        while rest := [each for each in self.scheduler.running if each not in seen]:
            seen.append(rest[0])
            yield rest[0]


def serve_with(serving: type[Serving]) -> Serve:
    """Return the method that serves in this way."""

    def serve_running(self: Scheduler, output: SchedulerOutput, budget: int) -> Any:
        return serving(self, output).run(budget)

    return serve_running


def _mistake(serving: type[Serving], name: str, explanation: str) -> Misconception:
    return Misconception(name, explanation, serve_with(serving))


SERVE = (
    _mistake(
        ByPlace,
        "the place stays",
        "When somebody leaves `running` in front of the place where you stand, all behind move up: "
        "the next one slides under your hand and is skipped.",
    ),
    _mistake(
        PlaceMovesBackForTheServed,
        "moves back for the served",
        "A victim in front moves everybody up, whether it had got a token in this step or not.",
    ),
    _mistake(
        PlaceMovesBackOnce,
        "moves back by one",
        "Several may have left in front of the place: it moves back by as many.",
    ),
    _mistake(
        ServesVictims,
        "victims are served",
        "Who was preempted in this step holds no blocks, and is not `running` any more.",
    ),
    _mistake(
        VictimsKeepTheirs,
        "the victim's tokens are lost",
        "What a victim had got in this step is not computed, so `preempt_for` says how much goes "
        "back to the budget.",
    ),
    _mistake(
        DecodesFirst,
        "decodes first",
        "No line says that decodes come first. Requests are served in the order of admission.",
    ),
    _mistake(
        StopsAtOneThatGoes,
        "stops at one that goes itself",
        "Those behind one that was preempted itself may find room; it has just freed some.",
    ),
    _mistake(
        OnlyKnown,
        "known tokens only",
        "`num_tokens_ahead` positions behind the known tokens are to be computed as well.",
    ),
    _mistake(
        OneSlotForSeveral,
        "one slot for several",
        "`has_free_slot` speaks of one token. Whoever computes several asks for slots.",
    ),
    _mistake(
        PromptsOnly,
        "a prefill phase",
        "A request that comes back may lack prompt and answer, and one whose token is still to "
        "come lacks nothing. There are no phases: what it lacks is a difference.",
    ),
    _mistake(
        NoThreshold,
        "no threshold",
        "`limit_chunk` also knows the threshold for long prompts; ask it.",
    ),
    _mistake(
        NeverCut,
        "never cut",
        "A request gets what `limit_chunk` allows of what it lacks; the rest comes in later steps.",
    ),
    _mistake(
        AllOrNothing,
        "all or nothing",
        "What does not fit into the rest of the budget is cut to it, not left for later.",
    ),
    _mistake(
        BudgetOfAnIteration,
        "the budget of a whole iteration",
        "Others have had their share of it: a request is cut to what is left.",
    ),
    _mistake(
        OneMore,
        "one more",
        "When the budget is spent, nobody else is served in this step.",
    ),
    _mistake(
        NotMoved,
        "not moved ahead",
        "`num_computed_tokens` moves ahead when the plan is made, or the next plan computes the "
        "same tokens again.",
    ),
    _mistake(
        AllIsComputed,
        "all is computed",
        "Of a prompt that is cut only the part in the plan is computed.",
    ),
    _mistake(
        NobodyGivesWay,
        "nobody gives way",
        "Who finds no block waits for ever if nobody frees any: `preempt_for` makes room.",
    ),
    _mistake(
        SpentNotLeft,
        "what was spent",
        "Whoever calls goes on with what is left of the budget.",
    ),
    _mistake(
        NothingReturned,
        "nothing is returned",
        "Whoever calls goes on with what is left of the budget: return it.",
    ),
)

SLOW = (
    _mistake(
        Serving,
        "the manager is asked for every token",
        "Most requests lack one token, and there is a slot for it already: `has_free_slot` says "
        "so at once.",
    ),
    _mistake(
        LooksBackEachTime,
        "looks back for every request",
        "To go through all of them for each request is quadratic: 256 running ones make 65,000 "
        "looks.",
    ),
)
