"""Lesson 5: known wrong ways to admit, each with one step of the right way done otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autograder.checks.finding import Misconception
from course_lib.scheduling.request import Request, RequestStatus
from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput

Admit = Callable[[Scheduler, SchedulerOutput, int], Any]


class Admission:
    """Admission in its steps, to be done otherwise in a subclass.

    Args:
        scheduler: The scheduler.
        output: Its plan so far.
    """

    def __init__(self, scheduler: Scheduler, output: SchedulerOutput) -> None:
        self.scheduler = scheduler
        self.output = output

    def run(self, budget: int) -> Any:
        """Admit, and return what is left of the budget."""
        return self._run(budget)

    def _run(self, budget: int) -> Any:
        scheduler = self.scheduler
        while scheduler.waiting and self._goes_on(budget):
            request = scheduler.waiting.peek()
            if not self._may_start(request):
                break
            hits, num_hits = scheduler.find_hits(request)
            num_new = self._num_new(request, num_hits, budget)
            if num_new == 0 or not self._take_room(request, num_new, hits, num_hits):
                break
            self._enter(request, num_new, num_hits)
            budget -= self._cost(num_new, num_hits)
        return budget

    def _goes_on(self, budget: int) -> bool:
        """Say whether there is budget and a seat."""
        return budget > 0 and len(self.scheduler.running) < self.scheduler.max_num_seqs

    def _may_start(self, request: Request) -> bool:
        """Say whether it is the request's turn."""
        return self.scheduler.may_start(request)

    def _num_new(self, request: Request, num_hits: int, budget: int) -> int:
        """Say how many tokens the request gets."""
        return self.scheduler.first_chunk(request, request.num_tokens - num_hits, budget)

    def _take_room(self, request: Request, num_new: int, hits: Any, num_hits: int) -> bool:
        """Allocate, if there is room."""
        return self.scheduler.take_room(request, num_new, hits, num_hits)

    def _enter(self, request: Request, num_new: int, num_hits: int) -> None:
        """Move the request from the queue into the batch."""
        self.scheduler.waiting.pop()
        request.num_computed_tokens = num_hits
        self._listed(request).append(request)
        self.scheduler.start(request, num_new, self.output)

    def _listed(self, request: Request) -> list[Request]:
        """Return the list in which the request is entered."""
        if request.status is RequestStatus.PREEMPTED:
            return self.output.scheduled_resumed_reqs
        return self.output.scheduled_new_reqs

    def _cost(self, num_new: int, num_hits: int) -> int:
        """Say what the request costs of the budget."""
        return num_new


class AllTokensOfRunning(Admission):
    """Takes all tokens of the running requests from the budget."""

    def _goes_on(self, budget: int) -> bool:
        known = sum(request.num_tokens for request in self.scheduler.running)
        return super()._goes_on(budget) and known < self.scheduler.max_num_batched_tokens

    def _num_new(self, request: Request, num_hits: int, budget: int) -> int:
        known = sum(each.num_tokens for each in self.scheduler.running)
        left = min(budget, self.scheduler.max_num_batched_tokens - known)
        return super()._num_new(request, num_hits, left)


class WholeOrNot(Admission):
    """Never cuts a prompt."""

    def _num_new(self, request: Request, num_hits: int, budget: int) -> int:
        num_new = super()._num_new(request, num_hits, budget)
        return num_new if num_new == request.num_tokens - num_hits else 0


class CutToTheBudget(Admission):
    """Cuts to the budget and asks nobody else."""

    def _num_new(self, request: Request, num_hits: int, budget: int) -> int:
        return min(request.num_tokens - num_hits, budget)


class PromptAlone(Admission):
    """Takes the prompt for all known tokens."""

    def _num_new(self, request: Request, num_hits: int, budget: int) -> int:
        return self.scheduler.first_chunk(request, request.num_prompt_tokens - num_hits, budget)


class HitsAreComputed(Admission):
    """Computes what is cached once more."""

    def _run(self, budget: int) -> Any:
        scheduler = self.scheduler
        while scheduler.waiting and self._goes_on(budget):
            request = scheduler.waiting.peek()
            num_new = self._num_new(request, 0, budget)
            if (
                not self._may_start(request)
                or num_new == 0
                or not scheduler.take_room(request, num_new)
            ):
                break
            self._enter(request, num_new, 0)
            budget -= num_new
        return budget


class HitsNotTakenOff(Admission):
    """Holds the blocks of the hits, and asks for a chunk of all known tokens."""

    def _num_new(self, request: Request, num_hits: int, budget: int) -> int:
        return super()._num_new(request, 0, budget)


class HitsCost(Admission):
    """Takes the hits from the budget as well."""

    def _cost(self, num_new: int, num_hits: int) -> int:
        return num_new + num_hits


class AllIsCharged(Admission):
    """Takes all known tokens of a request from the budget, though it may get a part of them."""

    def _cost(self, num_new: int, num_hits: int) -> int:
        return self.scheduler.running[-1].num_tokens


class HitsNotHeld(Admission):
    """Counts the hits as computed and does not hold their blocks."""

    def _take_room(self, request: Request, num_new: int, hits: Any, num_hits: int) -> bool:
        return self.scheduler.take_room(request, num_new)


class HitsNotComputed(Admission):
    """Holds the blocks of the hits, and counts none of their tokens as computed."""

    def _enter(self, request: Request, num_new: int, num_hits: int) -> None:
        super()._enter(request, num_new, 0)


class NoSeats(Admission):
    """Looks at the budget alone."""

    def _goes_on(self, budget: int) -> bool:
        return budget > 0


class OneSeatTooMany(Admission):
    """Admits one more than there are seats."""

    def _goes_on(self, budget: int) -> bool:
        return budget > 0 and len(self.scheduler.running) <= self.scheduler.max_num_seqs


class WithoutBudget(Admission):
    """Looks at the seats alone."""

    def _goes_on(self, budget: int) -> bool:
        return len(self.scheduler.running) < self.scheduler.max_num_seqs

    def _num_new(self, request: Request, num_hits: int, budget: int) -> int:
        return super()._num_new(request, num_hits, self.scheduler.max_num_batched_tokens)


class OneByOne(Admission):
    """Admits one in an iteration, whoever has come back from the CPU in it."""

    has_admitted = False

    def _goes_on(self, budget: int) -> bool:
        return super()._goes_on(budget) and not self.has_admitted

    def _enter(self, request: Request, num_new: int, num_hits: int) -> None:
        super()._enter(request, num_new, num_hits)
        self.has_admitted = True


class AnybodysTurn(Admission):
    """Does not ask whether somebody is to come first."""

    def _may_start(self, request: Request) -> bool:
        return True


class AllAreNew(Admission):
    """Lists everybody as new."""

    def _listed(self, request: Request) -> list[Request]:
        return self.output.scheduled_new_reqs


class TakenOutFirst(Admission):
    """Takes a request out of the queue before it knows whether there is room."""

    def _take_room(self, request: Request, num_new: int, hits: Any, num_hits: int) -> bool:
        self.scheduler.waiting.pop()
        return super()._take_room(request, num_new, hits, num_hits)

    def _enter(self, request: Request, num_new: int, num_hits: int) -> None:
        request.num_computed_tokens = num_hits
        self._listed(request).append(request)
        self.scheduler.start(request, num_new, self.output)


class TakenOutBeforeAsked(Admission):
    """Takes a request out of the queue before it asks anything."""

    def _run(self, budget: int) -> Any:
        scheduler = self.scheduler
        while scheduler.waiting and self._goes_on(budget):
            request = scheduler.waiting.pop()
            if not self._may_start(request):
                break
            hits, num_hits = scheduler.find_hits(request)
            num_new = self._num_new(request, num_hits, budget)
            if num_new == 0 or not self._take_room(request, num_new, hits, num_hits):
                break
            request.num_computed_tokens = num_hits
            self._listed(request).append(request)
            scheduler.start(request, num_new, self.output)
            budget -= num_new
        return budget


class IdsListed(Admission):
    """Lists ids in the place of requests."""

    def _enter(self, request: Request, num_new: int, num_hits: int) -> None:
        self.scheduler.waiting.pop()
        request.num_computed_tokens = num_hits
        listed: list[Any] = self._listed(request)
        listed.append(request.request_id)
        self.scheduler.start(request, num_new, self.output)


class SpentNotLeft(Admission):
    """Returns what was spent."""

    def _run(self, budget: int) -> Any:
        return budget - super()._run(budget)


class BudgetUnspent(Admission):
    """Returns the budget that it was given."""

    def _run(self, budget: int) -> Any:
        super()._run(budget)
        return budget


class NothingReturned(Admission):
    """Returns nothing."""

    def _run(self, budget: int) -> Any:
        super()._run(budget)


class SeatsOfTheConfig(Admission):
    """Counts the seats that the scheduler was made with."""

    def _goes_on(self, budget: int) -> bool:
        return budget > 0 and len(self.scheduler.running) < self.scheduler.config.max_num_seqs


class BudgetNotPaid(Admission):
    """Never takes anything from the budget."""

    def _cost(self, num_new: int, num_hits: int) -> int:
        return 0


class AllOfIt(Admission):
    """Computes all of a prompt, whatever is left of the budget."""

    def _num_new(self, request: Request, num_hits: int, budget: int) -> int:
        return request.num_tokens - num_hits


class NobodyBesideAPrompt(Admission):
    """Admits nobody while a prompt of the batch is half computed."""

    def _run(self, budget: int) -> Any:
        if any(each.num_computed_tokens < each.num_tokens for each in self.scheduler.running):
            return budget
        return super()._run(budget)


class TurnAskedOnce(Admission):
    """Asks for the turn of the first, and of nobody behind it."""

    def _run(self, budget: int) -> Any:
        waiting = self.scheduler.waiting
        if waiting and not self.scheduler.may_start(waiting.peek()):
            return budget
        return super()._run(budget)

    def _may_start(self, request: Request) -> bool:
        return True


class BackWithoutHits(Admission):
    """Looks nothing up for who comes back."""

    def _run(self, budget: int) -> Any:
        waiting = self.scheduler.waiting
        while waiting and self._goes_on(budget) and self._may_start(waiting.peek()):
            request = waiting.peek()
            hits: list[Any] = []
            num_hits = 0
            if request.status is RequestStatus.WAITING:
                hits, num_hits = self.scheduler.find_hits(request)
            num_new = self._num_new(request, num_hits, budget)
            if num_new == 0 or not self._take_room(request, num_new, hits, num_hits):
                break
            self._enter(request, num_new, num_hits)
            budget -= num_new
        return budget


class PassesOver(Admission):
    """Looks behind a request that does not fit."""

    def _run(self, budget: int) -> Any:
        passed_over: list[Request] = []
        budget = super()._run(budget)
        while self.scheduler.waiting and self._goes_on(budget):
            passed_over.append(self.scheduler.waiting.pop())
            budget = super()._run(budget)
        for request in reversed(passed_over):
            self.scheduler.waiting.put_back(request)
        return budget


def by(kind: type[Admission]) -> Admit:
    """Return the method that admits in this way."""

    def admit_waiting(self: Scheduler, output: SchedulerOutput, budget: int) -> Any:
        return kind(self, output).run(budget)

    return admit_waiting


ADMIT = (
    Misconception(
        "all tokens of running requests",
        "The budget limits what this step computes; a running request costs the tokens that it "
        "computes now, not all those that it has.",
        by(AllTokensOfRunning),
    ),
    Misconception(
        "passed over",
        "If whoever fits goes first, the one at the head waits as long as small ones keep coming.",
        by(PassesOver),
    ),
    Misconception(
        "whole or not at all",
        "A prompt may be cut: it gets what the budget leaves, and goes on in the next iteration.",
        by(WholeOrNot),
    ),
    Misconception(
        "cut to the budget alone",
        "How much of a prompt may be computed at once has further rules; `first_chunk` knows them.",
        by(CutToTheBudget),
    ),
    Misconception(
        "the prompt alone",
        "A request that comes back has output tokens as well, and lacks the KV of all of them.",
        by(PromptAlone),
    ),
    Misconception(
        "cached tokens are computed again",
        "What `find_hits` finds is computed already: only the rest is new.",
        by(HitsAreComputed),
    ),
    Misconception(
        "cached tokens are lacking still",
        "A request lacks its known tokens less those of the hits; with more it computes beyond its "
        "end.",
        by(HitsNotTakenOff),
    ),
    Misconception(
        "cached tokens cost budget",
        "The budget is of tokens that are computed, and those of the cache are not.",
        by(HitsCost),
    ),
    Misconception(
        "all of a request is charged",
        "A request costs the budget what it computes in this iteration: of a prompt that is cut, "
        "less than all of it.",
        by(AllIsCharged),
    ),
    Misconception(
        "hits without their blocks",
        "Whoever counts tokens as computed needs the blocks that hold them: `take_room` is to be "
        "told of the hits.",
        by(HitsNotHeld),
    ),
    Misconception(
        "hits not counted as computed",
        "The tokens of the hits count as computed when the request starts; without them it "
        "computes too much later.",
        by(HitsNotComputed),
    ),
    Misconception(
        "seats are forgotten",
        "A batch has `max_num_seqs` seats; buffers and the sampler are made for so many.",
        by(NoSeats),
    ),
    Misconception(
        "one seat too many",
        "With `max_num_seqs` running, the batch is full.",
        by(OneSeatTooMany),
    ),
    Misconception(
        "the budget is forgotten",
        "An iteration computes what is left of the budget and not more; everybody in it waits "
        "until it is over.",
        by(WithoutBudget),
    ),
    Misconception(
        "the seats of the configuration",
        "The limit may change between iterations: `self.max_num_seqs` is the one that holds now.",
        by(SeatsOfTheConfig),
    ),
    Misconception(
        "the budget is never paid",
        "What one request computes is not left for the next: it goes off the budget, in the loop.",
        by(BudgetNotPaid),
    ),
    Misconception(
        "all of the prompt",
        "A chunk is at most what is left of the budget: `first_chunk` says how much it is.",
        by(AllOfIt),
    ),
    Misconception(
        "nobody beside a prompt",
        "Prefill and decode share an iteration: while one prompt is half computed, others start.",
        by(NobodyBesideAPrompt),
    ),
    Misconception(
        "one in each iteration",
        "Whoever fits is admitted in the same iteration, one after the other.",
        by(OneByOne),
    ),
    Misconception(
        "out of turn",
        "Somebody may have to come first who is not in this queue: `may_start` knows.",
        by(AnybodysTurn),
    ),
    Misconception(
        "the turn of the first alone",
        "`may_start` is asked of each: behind one that may go first, somebody else may be next.",
        by(TurnAskedOnce),
    ),
    Misconception(
        "back without hits",
        "Who comes back may find in the cache what it had computed: `find_hits` is for everybody.",
        by(BackWithoutHits),
    ),
    Misconception(
        "all are new",
        "Who was preempted comes back, and belongs into `scheduled_resumed_reqs`: until `start` "
        "makes it RUNNING its status is `RequestStatus.PREEMPTED`, which equals no text.",
        by(AllAreNew),
    ),
    Misconception(
        "taken out first",
        "If there is no room for it, the request is in no queue any more: look, ask, then take it.",
        by(TakenOutFirst),
    ),
    Misconception(
        "taken out before it is asked",
        "Look at the first with `peek`: `may_start` finds it at the head of the queue or says no, "
        "and a request that is taken out and then has no room is in no queue any more.",
        by(TakenOutBeforeAsked),
    ),
    Misconception(
        "ids in the place of requests",
        "`scheduled_new_reqs` and `scheduled_resumed_reqs` are lists of the requests themselves.",
        by(IdsListed),
    ),
    Misconception(
        "spent, not left",
        "What is returned is the budget that is left.",
        by(SpentNotLeft),
    ),
    Misconception(
        "nothing is returned",
        "The scheduler goes on with what is left of the budget: it has to be returned.",
        by(NothingReturned),
    ),
    Misconception(
        "the budget comes back whole",
        "What the new ones compute is to be taken from the budget before it is returned.",
        by(BudgetUnspent),
    ),
)
