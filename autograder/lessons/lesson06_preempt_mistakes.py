"""Lesson 6: known wrong ways to preempt, each with one step of the right way done otherwise."""

from __future__ import annotations

from typing import Any

from autograder.checks.finding import Misconception
from autograder.checks.parsons import Displaced, Distractor
from course_lib.scheduling.request import Request, RequestStatus
from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput


class Preemption:
    """A preemption in its steps, to be done otherwise in a subclass.

    Args:
        scheduler: The scheduler.
        victim: Who gives way.
        output: The plan so far.
    """

    def __init__(self, scheduler: Scheduler, victim: Request, output: SchedulerOutput) -> None:
        self.scheduler, self.victim, self.output = scheduler, victim, output
        self.unspent = 0

    def run(self) -> Any:
        """Preempt, and say what goes back to the budget."""
        self.unspent = self._take_out()
        num_valid = self._num_valid()
        self._note()
        if not self._swapped(num_valid):
            self._forget()
            self._put_back()
        self._free(num_valid)
        return self._regained()

    def _take_out(self) -> int:
        """Take the victim out of the plan."""
        return self.output.num_scheduled_tokens.pop(self.victim.request_id, 0)

    def _num_valid(self) -> int:
        """Say how many of its tokens are computed."""
        return self.victim.num_computed_tokens - self.unspent

    def _note(self) -> None:
        """Write down that it was preempted."""
        self.victim.num_preemptions += 1
        self.victim.num_tokens_ahead = 0
        self.output.preempted_req_ids.add(self.victim.request_id)

    def _swapped(self, num_valid: int) -> bool:
        """Say whether it is on the CPU now."""
        return self.scheduler.swap_out(self.victim, num_valid, self.output)

    def _forget(self) -> None:
        """Forget what was computed."""
        self.victim.num_computed_tokens = 0
        self.victim.status = RequestStatus.PREEMPTED

    def _put_back(self) -> None:
        """Put it where it waits."""
        self.scheduler.waiting.put_back(self.victim)

    def _free(self, num_valid: int) -> None:
        """Give its blocks back."""
        self.scheduler.kv_cache_manager.free(self.victim, num_valid_tokens=num_valid)

    def _regained(self) -> int:
        """Say what goes back to the budget."""
        return self.unspent


class AnswerRestarts(Preemption):
    """Drops the answer."""

    def _forget(self) -> None:
        super()._forget()
        del self.victim.all_token_ids[self.victim.num_prompt_tokens :]
        self.victim.output_token_ids.clear()


class KeepsItsCount(Preemption):
    """Leaves the tokens computed."""

    def _forget(self) -> None:
        self.victim.status = RequestStatus.PREEMPTED


class ValidStayComputed(Preemption):
    """Forgets this step's tokens alone."""

    def _forget(self) -> None:
        self.victim.num_computed_tokens -= self.unspent
        self.victim.status = RequestStatus.PREEMPTED


class StaysInThePlan(Preemption):
    """Leaves the victim in the plan."""

    def _take_out(self) -> int:
        return self.output.num_scheduled_tokens.get(self.victim.request_id, 0)


class NothingGoesBack(Preemption):
    """Keeps the budget."""

    def _regained(self) -> int:
        return 0


class AllGoesBack(Preemption):
    """Gives all computed tokens back to the budget."""

    def run(self) -> Any:
        """Preempt, and say what was ever computed."""
        before = self.victim.num_computed_tokens
        super().run()
        return before


class PlannedIsComputed(Preemption):
    """Takes this step's tokens for computed."""

    def _num_valid(self) -> int:
        return self.victim.num_computed_tokens


class NothingIsValid(Preemption):
    """Lets nothing stay in the cache."""

    def _free(self, num_valid: int) -> None:
        super()._free(0)


class AllIsValid(Preemption):
    """Tells the manager nothing."""

    def _free(self, num_valid: int) -> None:
        self.scheduler.kv_cache_manager.free(self.victim)


class ValidWhenForgotten(Preemption):
    """Looks at the computed tokens when they are forgotten already."""

    def _free(self, num_valid: int) -> None:
        super()._free(self.victim.num_computed_tokens)


class ToTheBack(Preemption):
    """Queues like a newcomer."""

    def _put_back(self) -> None:
        self.scheduler.waiting.add(self.victim)


class NotWrittenDown(Preemption):
    """Does not tell the plan."""

    def _note(self) -> None:
        self.victim.num_preemptions += 1
        self.victim.num_tokens_ahead = 0


class StillAhead(Preemption):
    """Leaves the tokens that were planned ahead."""

    def _note(self) -> None:
        self.victim.num_preemptions += 1
        self.output.preempted_req_ids.add(self.victim.request_id)


class NeverSwaps(Preemption):
    """Throws everything away."""

    def _swapped(self, num_valid: int) -> bool:
        return False


class FreesFirst(Preemption):
    """Frees before it copies."""

    def _swapped(self, num_valid: int) -> bool:
        self.scheduler.kv_cache_manager.free(self.victim, num_valid_tokens=num_valid)
        return super()._swapped(num_valid)

    def _free(self, num_valid: int) -> None:
        """It is freed already."""


class SwappedKeepsBlocks(Preemption):
    """Frees only what is recomputed."""

    def _free(self, num_valid: int) -> None:
        if self.victim.status is RequestStatus.PREEMPTED:
            super()._free(num_valid)


class NewSet(Preemption):
    """Gives the plan another set of names."""

    def _note(self) -> None:
        self.victim.num_preemptions += 1
        self.victim.num_tokens_ahead = 0
        names = self.output.preempted_req_ids
        self.output.preempted_req_ids = names | {self.victim.request_id}


class SetOfItsOwn(Preemption):
    """Gives the plan a set with this one name."""

    def _note(self) -> None:
        self.victim.num_preemptions += 1
        self.victim.num_tokens_ahead = 0
        self.output.preempted_req_ids = {self.victim.request_id}


class NotesTheRequest(Preemption):
    """Adds the request and not its id."""

    def _note(self) -> None:
        self.victim.num_preemptions += 1
        self.victim.num_tokens_ahead = 0
        names: set[Any] = self.output.preempted_req_ids
        names.add(self.victim)


class NotCounted(Preemption):
    """Does not count the preemption."""

    def _note(self) -> None:
        super()._note()
        self.victim.num_preemptions -= 1


class CountedOnce(Preemption):
    """Says that it was preempted, and not how often."""

    def _note(self) -> None:
        super()._note()
        self.victim.num_preemptions = 1


class NotedWhenRecomputed(Preemption):
    """Counts and names those alone that are computed again."""

    def _note(self) -> None:
        self.victim.num_tokens_ahead = 0

    def _forget(self) -> None:
        super()._note()
        super()._forget()


class NotPutBack(Preemption):
    """Puts it nowhere."""

    def _put_back(self) -> None:
        """It is in no queue."""


class KeepsItsBlocks(Preemption):
    """Gives no blocks back."""

    def _free(self, num_valid: int) -> None:
        """They stay in its table."""


class ValidComesBack(Preemption):
    """Gives what is valid back to the budget."""

    def run(self) -> Any:
        """Preempt, and say what was valid."""
        before = self.victim.num_computed_tokens
        super().run()
        return before - self.unspent


class OneIsUnspent(Preemption):
    """Takes each victim for one that decodes."""

    def _num_valid(self) -> int:
        return self.victim.num_computed_tokens - 1


class SwapsAllKnown(Preemption):
    """Takes all known tokens to the CPU."""

    def _swapped(self, num_valid: int) -> bool:
        return super()._swapped(self.victim.num_tokens)


class SwapsAllButTheLast(Preemption):
    """Takes all known tokens to the CPU but the last, as if each victim decoded."""

    def _swapped(self, num_valid: int) -> bool:
        return super()._swapped(self.victim.num_tokens - 1)


class SwapsOnce(Preemption):
    """Takes nobody to the CPU for a second time."""

    def _swapped(self, num_valid: int) -> bool:
        return self.victim.num_preemptions < 2 and super()._swapped(num_valid)


class OnePromptNow(Preemption):
    """Makes the answer a part of the prompt."""

    def _regained(self) -> int:
        self.victim.num_prompt_tokens = self.victim.num_tokens
        return self.unspent


def _method(kind: type[Preemption]) -> Any:
    def preempt(self: Scheduler, victim: Request, output: SchedulerOutput) -> Any:
        return kind(self, victim, output).run()

    return preempt


def _mistake(kind: type[Preemption], name: str, explanation: str, **more: Any) -> Misconception:
    return Misconception(name, explanation, _method(kind), **more)


PREEMPT = (
    _mistake(
        AnswerRestarts,
        "the answer restarts",
        "Keys and values are lost, and no more: the tokens that were generated are known, and a "
        "user has seen them.",
    ),
    _mistake(
        KeepsItsCount,
        "keeps its count",
        "What was computed lay in the blocks that are gone. Nothing of it is computed any more.",
    ),
    _mistake(
        ValidStayComputed,
        "only this step is forgotten",
        "All of its blocks are gone, not only those of this step, so nothing stays computed.",
    ),
    _mistake(
        StaysInThePlan,
        "stays in the plan",
        "Who has no blocks has nowhere to write to, so it must not be computed in this step.",
    ),
    _mistake(
        NothingGoesBack,
        "the budget keeps them",
        "The tokens that the victim had got are not computed now, so others may have them.",
    ),
    _mistake(
        AllGoesBack,
        "more comes back than was spent",
        "Only what the victim had got in this step was taken from this step's budget.",
    ),
    _mistake(
        PlannedIsComputed,
        "planned is computed",
        "The count of computed tokens has been moved ahead for a step that has not run yet: those "
        "tokens are in no block.",
    ),
    _mistake(
        NothingIsValid,
        "nothing is valid",
        "Blocks that were filled in earlier steps hold what they say; others may find them.",
    ),
    _mistake(
        ValidWhenForgotten,
        "looks when it is forgotten",
        "When the blocks are freed, the count of a victim that is to be recomputed is 0 already: "
        "work out what is valid before you set it.",
    ),
    _mistake(
        AllIsValid,
        "all is valid",
        "A block that this step would have filled was never filled. Whoever finds it in the cache "
        "reads garbage.",
    ),
    _mistake(
        ToTheBack,
        "to the back of the queue",
        "Under first come, first served it goes back in front of all who wait: `put_back`.",
    ),
    _mistake(
        NotWrittenDown,
        "the plan is not told",
        "The scheduler admits nobody in a step that preempts, and finds out by "
        "`preempted_req_ids`.",
    ),
    _mistake(
        StillAhead,
        "still ahead",
        "A request without blocks is planned anew, from the tokens that are known: "
        "`num_tokens_ahead` is 0.",
    ),
    _mistake(
        NeverSwaps,
        "never swaps",
        "`swap_out` is to be asked first; it says whether the request is on the CPU now.",
    ),
    _mistake(
        FreesFirst,
        "frees first",
        "The pairs to be copied name the blocks of the victim's table, which is gone when it has "
        "been freed.",
    ),
    _mistake(
        SwappedKeepsBlocks,
        "swapped, and not freed",
        "The copy is on the CPU, and the blocks on the GPU are what somebody is waiting for.",
    ),
    _mistake(
        NewSet,
        "a new set",
        "Whoever plans this step has had `preempted_req_ids` in hand from the beginning, and sees "
        "only what is added to this very set.",
    ),
    _mistake(
        SetOfItsOwn,
        "a set of its own",
        "Whoever plans this step has had `preempted_req_ids` in hand from the beginning, with all "
        "who went before: add the id to this very set.",
    ),
    _mistake(
        NotesTheRequest,
        "the request for its id",
        "`preempted_req_ids` is a set of ids, which are strings: add the victim's `request_id`.",
    ),
    _mistake(
        NotCounted,
        "not counted",
        "`num_preemptions` says how often a request has lost its place, so it grows each time.",
    ),
    _mistake(
        CountedOnce,
        "counted once",
        "`num_preemptions` says how often a request has lost its place: who goes for the second "
        "time has 2.",
    ),
    _mistake(
        NotedWhenRecomputed,
        "noted when recomputed",
        "Who is swapped out is preempted as well: it is counted, and the plan is told.",
    ),
    _mistake(
        NotPutBack,
        "in no queue",
        "It has left `running`. If it joins no queue either, nobody will ever find it again.",
    ),
    _mistake(
        KeepsItsBlocks,
        "keeps its blocks",
        "Somebody needs room, and this is where it comes from: `free`.",
    ),
    _mistake(
        ValidComesBack,
        "what is valid comes back",
        "What is valid was computed in earlier steps, from their budgets. This step has spent what "
        "stood in its plan.",
    ),
    _mistake(
        OneIsUnspent,
        "one token is unspent",
        "A victim in the middle of its prompt may have got many tokens in this step, or none: the "
        "plan says how many.",
    ),
    _mistake(
        SwapsAllKnown,
        "swaps all that is known",
        "Only what is computed lies in blocks. The last token is never computed yet, and of a "
        "prompt often more is lacking.",
    ),
    _mistake(
        SwapsAllButTheLast,
        "swaps all but the last",
        "Of a victim in the middle of its prompt less is computed, and what nobody has computed "
        "is no use on the CPU.",
    ),
    _mistake(
        SwapsOnce,
        "swaps once",
        "Who was swapped out before may be so again, as long as there is room on the CPU.",
    ),
    _mistake(
        OnePromptNow,
        "a longer prompt",
        "Both are computed as one, and what is prompt and what is answer stays: a user gets the "
        "answer.",
    ),
)

# 6.6, the lines of the loop

LOOP_LINES = (
    Distractor(
        "num_regained = self.preempt(victim, output)",
        "num_regained += self.preempt(",
        "the last victim alone",
        "Each victim gives back what it had got in this step: the sum goes back to the budget.",
    ),
    Distractor(
        "index = len(self.running) - 1\nvictim = self.running[index]",
        "index = self.choose_victim()",
        "always the last one in",
        "Who gives way is the policy's to say: under priority it may stand anywhere in `running`.",
    ),
    Distractor(
        "if victim is not request:",
        "if victim is request:",
        "stops after somebody else",
        "Whoever preempts another one goes on until it has room; it ends when it has to go itself.",
    ),
)

LOOP_LATE = (
    Displaced(
        "if self.log is not None",
        "del self.running[index]",
        "logged too late, or not at all",
        "The log is told while the victim is still in the batch and holds its blocks, so that it "
        "can say who there was and what was free.",
    ),
    Displaced(
        "del self.running[index]",
        "num_regained += self.preempt(",
        "the victim stays in the batch",
        "`preempt` gets a request that has just left `running`: one that stays there is served "
        "without blocks, or named once more.",
    ),
    Displaced(
        "num_regained += self.preempt(",
        "if victim is request",
        "leaves before it has gone",
        "Who is its own victim gives its blocks back like any other: it is preempted, and then the "
        "loop ends.",
        after=("del self.running[index]",),
    ),
)
