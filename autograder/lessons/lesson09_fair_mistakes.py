"""Lesson 9: what people get wrong about fairness to clients, and why."""

from __future__ import annotations

from collections.abc import Iterable

from autograder.checks.finding import Misconception
from course_lib.scheduling.policies import VTCRequestQueue, WFQRequestQueue
from course_lib.scheduling.request import Request

# 9.4, token-fair


class NoLift(VTCRequestQueue):
    """Lets a client keep what it has saved by staying away."""

    def lift(self, client_id: str) -> None:
        """Do nothing, but open the account."""
        self.counters[client_id] += 0.0


class LiftsToTheLargest(VTCRequestQueue):
    """Lifts to the client that was served most."""

    def lift(self, client_id: str) -> None:
        """Raise the counter to the largest."""
        waiting = [self.counters[each] for each in self.queues]
        if not waiting and self.last_client is not None:
            waiting = [self.counters[self.last_client]]
        self.counters[client_id] = max([self.counters[client_id], *waiting])


class LowersToo(VTCRequestQueue):
    """Sets the counter of who comes back, though it was larger."""

    def lift(self, client_id: str) -> None:
        """Set the counter to that of the client served least."""
        super().lift(client_id)
        if self.queues:
            self.counters[client_id] = self.counters[self.least_served()]
        elif self.last_client is not None:
            self.counters[client_id] = self.counters[self.last_client]


class NobodyWaitsNoLift(VTCRequestQueue):
    """Lifts only while others wait."""

    def lift(self, client_id: str) -> None:
        """Raise the counter if there is somebody to compare with."""
        if self.queues:
            super().lift(client_id)
        else:
            self.counters[client_id] += 0.0


class LiftsToAnybody(VTCRequestQueue):
    """Lifts to the smallest of all counters, also of clients that have nothing waiting."""

    def lift(self, client_id: str) -> None:
        """Raise the counter to that of whoever was served least so far."""
        others = [each for client, each in self.counters.items() if client != client_id]
        self.counters[client_id] = max(self.counters[client_id], min(others, default=0.0))


class LiftsToAnybodyItselfToo(VTCRequestQueue):
    """Lifts to the smallest of all counters, that of the client itself among them."""

    def lift(self, client_id: str) -> None:
        """Raise the counter to the smallest that there is, which may be its own."""
        level = min(self.counters.values(), default=0.0)
        self.counters[client_id] = max(self.counters[client_id], level)


class LiftsToAnybodyWhileSomebodyWaits(VTCRequestQueue):
    """The same while somebody waits; when nobody does, to the client taken last."""

    def lift(self, client_id: str) -> None:
        """Raise the counter to the smallest that there is, or to that of the client taken last."""
        level = min(self.counters.values(), default=0.0)
        if not self.queues and self.last_client is not None:
            level = self.counters[self.last_client]
        self.counters[client_id] = max(self.counters[client_id], level)


class FreePrompts(VTCRequestQueue):
    """Charges nothing for prompts."""

    def pop(self) -> Request:
        """Take the next one."""
        request = self.peek()
        self.remove(request)
        self.last_client = request.client_id
        self.counters[request.client_id] += 0.0
        return request


class ForgetsWhoCameBack(VTCRequestQueue):
    """Notes who was taken last only where it charges for the prompt."""

    def pop(self) -> Request:
        """Take the next one."""
        before = self.last_client
        request = super().pop()
        if request.num_preemptions:
            self.last_client = before
        return request


class OneForAPromptToken(VTCRequestQueue):
    """Charges for the tokens of a prompt without their weight."""

    def pop(self) -> Request:
        """Take the next one, and charge its tokens."""
        request = super().pop()
        if not request.num_preemptions:
            unweighted = (1.0 - self.input_weight) * request.num_prompt_tokens
            self.counters[request.client_id] += unweighted
        return request


class ChargesAgain(VTCRequestQueue):
    """Charges who comes back for the prompt once more."""

    def pop(self) -> Request:
        """Take the next one, and charge it."""
        request = super().pop()
        if request.num_preemptions:
            self.counters[request.client_id] += self.input_weight * request.num_prompt_tokens
        return request


class OneForAll(VTCRequestQueue):
    """Charges a generated token like one of a prompt."""

    def charge(self, generating: Iterable[Request]) -> None:
        """Charge the input weight."""
        for request in generating:
            self.counters[request.client_id] += self.input_weight


class AllSoFar(VTCRequestQueue):
    """Charges, for each token, all that its request has generated so far."""

    def charge(self, generating: Iterable[Request]) -> None:
        """Charge by the length of the answer."""
        for request in generating:
            self.counters[request.client_id] += self.output_weight * request.num_output_tokens


class AllSoFarAndThisOne(VTCRequestQueue):
    """The same, with the token that comes now."""

    def charge(self, generating: Iterable[Request]) -> None:
        """Charge by what the length of the answer will be."""
        for request in generating:
            tokens = request.num_output_tokens + 1
            self.counters[request.client_id] += self.output_weight * tokens


class OnceForItsClient(VTCRequestQueue):
    """Charges a client once, however many of its requests get a token."""

    def charge(self, generating: Iterable[Request]) -> None:
        """Charge each client that is among them."""
        for client_id in {request.client_id for request in generating}:
            self.counters[client_id] += self.output_weight


class KnownByItsTokens(VTCRequestQueue):
    """Takes for preempted who has generated something."""

    def pop(self) -> Request:
        """Take the next one, and charge who has generated nothing."""
        request = super().pop()
        was_charged, is_charged = not request.num_preemptions, not request.num_output_tokens
        prompt = self.input_weight * request.num_prompt_tokens
        self.counters[request.client_id] += (is_charged - was_charged) * prompt
        return request


class EmptyStays(VTCRequestQueue):
    """Keeps a client of which nothing waits any more among those that wait."""

    def pop(self) -> Request:
        """Take the next one out of the queue of its client."""
        request = self.queues[self.least_served()].pop()
        self.last_client = request.client_id
        if not request.num_preemptions:
            self.counters[request.client_id] += self.input_weight * request.num_prompt_tokens
        return request


class EmptyStaysAndPays(VTCRequestQueue):
    """The same, and charges who was preempted once more."""

    def pop(self) -> Request:
        """Take the next one out of the queue of its client, and charge it."""
        request = self.queues[self.least_served()].pop()
        self.last_client = request.client_id
        self.counters[request.client_id] += self.input_weight * request.num_prompt_tokens
        return request


class CountsRequests(VTCRequestQueue):
    """Counts requests and not tokens."""

    def pop(self) -> Request:
        """Take the next one, and charge it one."""
        request = self.peek()
        self.remove(request)
        self.last_client = request.client_id
        if not request.num_preemptions:
            self.counters[request.client_id] += self.input_weight
        return request


class MostServed(VTCRequestQueue):
    """Serves who was served most."""

    def least_served(self) -> str:
        """Return the client with the largest counter."""
        if not self.queues:
            raise IndexError("nobody waits")
        return max(self.queues, key=lambda client_id: (self.counters[client_id], client_id))


class TiesAsTheyCome(VTCRequestQueue):
    """Takes, of equal clients, the one that sent something first."""

    def least_served(self) -> str:
        """Return the first of the clients with the smallest counter."""
        if not self.queues:
            raise IndexError("nobody waits")
        return min(self.queues, key=lambda client_id: self.counters[client_id])


FAIR = (
    Misconception(
        "no lift",
        "Who stayed away for an hour would then be served alone until the others are caught up "
        "with. Absence is no credit. Where `add` does lift, it has to do so before the request is "
        "in line: later, its client waits too, and is compared with itself.",
        NoLift,
    ),
    Misconception(
        "lifts to the largest",
        "Whoever comes back would pay for what others were served, and wait behind all of them.",
        LiftsToTheLargest,
    ),
    Misconception(
        "lowers, too",
        "A client that was served much gets rid of its debt by leaving for a moment. A counter "
        "never falls.",
        LowersToo,
    ),
    Misconception(
        "no lift where nobody waits",
        "Those who run may have emptied the line. The level is then that of who was taken last, "
        "which `pop` has to note in `last_client`.",
        NobodyWaitsNoLift,
    ),
    Misconception(
        "lifts to anybody",
        "A client that has nothing waiting may have stayed away, with a small counter. Compare "
        "those that wait, and, when nobody waits, take that of the client taken last.",
        LiftsToAnybody,
    ),
    Misconception(
        "lifts to anybody, itself too",
        "The smallest of all counters may be that of a client that has nothing waiting, and even "
        "the one that is to be raised. Compare those in `queues`; when nobody waits, take the "
        "counter of `last_client`.",
        LiftsToAnybodyItselfToo,
    ),
    Misconception(
        "lifts to anybody while somebody waits",
        "The smallest of all counters may be that of a client that has nothing waiting, and even "
        "the one that is to be raised. Compare those in `queues`.",
        LiftsToAnybodyWhileSomebodyWaits,
    ),
    Misconception(
        "prompts are free",
        "Prompts take time on the GPU; who sends long ones would get more than the others.",
        FreePrompts,
    ),
    Misconception(
        "the weight of a prompt",
        "A token of a prompt costs `input_weight`, which is 1 only where nothing else is said.",
        OneForAPromptToken,
    ),
    Misconception(
        "who came back is not noted",
        "Whoever is taken is the client taken last, also one that was preempted and pays nothing.",
        ForgetsWhoCameBack,
    ),
    Misconception(
        "charged again",
        "It was the server that took its blocks away. A client pays for a prompt once.",
        ChargesAgain,
    ),
    Misconception(
        "one weight for all",
        "A generated token costs more of a GPU's time than one of a prompt: `output_weight`.",
        OneForAll,
    ),
    Misconception(
        "all tokens so far",
        "Each of these requests gets one token, and that is charged. `num_output_tokens` counts "
        "those that were charged before as well.",
        AllSoFar,
    ),
    Misconception(
        "all tokens so far, and this one",
        "Each of these requests gets one token, and that is charged. Those before it were charged "
        "when they came.",
        AllSoFarAndThisOne,
    ),
    Misconception(
        "once for a client",
        "A client pays for each of its requests that gets a token, and it may have several.",
        OnceForItsClient,
    ),
    Misconception(
        "known by its tokens",
        "A request may be preempted before its first token comes. Whether it was is told by "
        "`num_preemptions`.",
        KnownByItsTokens,
    ),
    Misconception(
        "an empty queue stays",
        "When the last request of a client is taken, its empty queue has to leave `queues`, or the "
        "client counts as waiting; `remove` sees to that.",
        EmptyStays,
    ),
    Misconception(
        "an empty queue stays, and more",
        "When the last request of a client is taken, its empty queue has to leave `queues`, or the "
        "client counts as waiting; `remove` sees to that. And who was preempted has paid for its "
        "prompt.",
        EmptyStaysAndPays,
    ),
    Misconception(
        "requests counted",
        "A request may be ten times as large as another. Fair in tokens counts tokens.",
        CountsRequests,
    ),
    Misconception(
        "the most served first",
        "The client with the smallest counter is next; otherwise the rich get richer.",
        MostServed,
    ),
    Misconception(
        "ties as they come",
        "Of clients with equal counters the first by name is next, so that runs can be repeated.",
        TiesAsTheyCome,
    ),
)

# 9.11, weighted fair queueing


def times_the_weight(self: WFQRequestQueue, request: Request) -> float:
    """Let a larger weight take longer."""
    start = max(self.virtual_time, self.last_finish.get(request.client_id, 0.0))
    cost = request.num_prompt_tokens + request.max_tokens
    return start + cost * self.weights.get(request.client_id, 1.0)


def saves_up(self: WFQRequestQueue, request: Request) -> float:
    """Begin where the client's last one ended, however long ago."""
    cost = request.num_prompt_tokens + request.max_tokens
    start = self.last_finish.get(request.client_id, 0.0)
    return start + cost / self.weights.get(request.client_id, 1.0)


def saves_up_once_known(self: WFQRequestQueue, request: Request) -> float:
    """Begin now the first time, and afterwards where the client's last one ended."""
    cost = request.num_prompt_tokens + request.max_tokens
    start = self.last_finish.get(request.client_id, self.virtual_time)
    return start + cost / self.weights.get(request.client_id, 1.0)


def all_at_once(self: WFQRequestQueue, request: Request) -> float:
    """Let every request of a client begin now."""
    cost = request.num_prompt_tokens + request.max_tokens
    return self.virtual_time + cost / self.weights.get(request.client_id, 1.0)


def start_time(self: WFQRequestQueue, request: Request) -> float:
    """Return when it starts."""
    return max(self.virtual_time, self.last_finish.get(request.client_id, 0.0))


def prompts_only(self: WFQRequestQueue, request: Request) -> float:
    """Count the prompt alone."""
    start = max(self.virtual_time, self.last_finish.get(request.client_id, 0.0))
    return start + request.num_prompt_tokens / self.weights.get(request.client_id, 1.0)


def answers_only(self: WFQRequestQueue, request: Request) -> float:
    """Count the answer alone."""
    start = max(self.virtual_time, self.last_finish.get(request.client_id, 0.0))
    return start + request.max_tokens / self.weights.get(request.client_id, 1.0)


WEIGHTED = (
    Misconception(
        "times the weight",
        "A client with twice the weight is served twice as fast: its request takes half as long.",
        times_the_weight,
    ),
    Misconception(
        "saves up",
        "Who was idle begins now, not in the past, or it is served alone until it has caught up.",
        saves_up,
    ),
    Misconception(
        "saves up, once it is known",
        "The end of the client's last one may be long past. Whoever was idle since begins now: of "
        "the two times, take the later.",
        saves_up_once_known,
    ),
    Misconception(
        "all at once",
        "The requests of one client are served one after the other; the next begins where the one "
        "before it ends.",
        all_at_once,
    ),
    Misconception(
        "the start",
        "Sorted is by when a request would be done: short ones are done earlier.",
        start_time,
    ),
    Misconception(
        "the prompt alone",
        "The cost is what a request declares, prompt and `max_tokens`.",
        prompts_only,
    ),
    Misconception(
        "the answer alone",
        "A prompt is work as well: the cost is `num_prompt_tokens` and `max_tokens` together.",
        answers_only,
    ),
)
