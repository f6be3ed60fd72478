"""Lesson 9: what people get wrong about fairness, cached prefixes and shares, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from autograder.checks.finding import Misconception
from course_lib.scheduling.policies import VTCRequestQueue, WFQRequestQueue
from course_lib.scheduling.request import Request
from course_lib.scheduling.variants.cache_aware import CacheAwareRequestQueue
from course_lib.scheduling.variants.even_split import EvenSplitScheduler

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


class FreePrompts(VTCRequestQueue):
    """Charges nothing for prompts."""

    def pop(self) -> Request:
        """Take the next one."""
        request = self.peek()
        self.remove(request)
        self.last_client = request.client_id
        self.counters[request.client_id] += 0.0
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


class EmptyStays(VTCRequestQueue):
    """Keeps a client of which nothing waits any more among those that wait."""

    def pop(self) -> Request:
        """Take the next one out of the queue of its client."""
        request = self.queues[self.least_served()].pop()
        self.last_client = request.client_id
        if not request.num_preemptions:
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
        "with. Absence is no credit.",
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
        "Those who run may have emptied the line. The level is then that of who was taken last.",
        NobodyWaitsNoLift,
    ),
    Misconception(
        "prompts are free",
        "Prompts take time on the GPU; who sends long ones would get more than the others.",
        FreePrompts,
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
        "an empty queue stays",
        "When the last request of a client is taken, its empty queue has to leave `queues`, or the "
        "client counts as waiting; `remove` sees to that.",
        EmptyStays,
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

# 9.6, cached prefixes


def without_a_bound(
    self: CacheAwareRequestQueue, in_line: Sequence[Request], num_passes: Counter[str]
) -> int:
    """Look at the cache alone."""
    cached = [self.num_cached_tokens(request) for request in in_line]
    return cached.index(max(cached))


def one_pass_more(
    self: CacheAwareRequestQueue, in_line: Sequence[Request], num_passes: Counter[str]
) -> int:
    """Let everybody be passed over once more."""
    fewer = Counter({name: number - 1 for name, number in num_passes.items()})
    for position, request in enumerate(in_line):
        if fewer[request.request_id] >= max(self.max_passes, 0) and num_passes[request.request_id]:
            return position
    return without_a_bound(self, in_line, num_passes)


def last_of_equals(
    self: CacheAwareRequestQueue, in_line: Sequence[Request], num_passes: Counter[str]
) -> int:
    """Take the last of those with the longest prefix."""
    for position, request in enumerate(in_line):
        if num_passes[request.request_id] >= self.max_passes:
            return position
    cached = [self.num_cached_tokens(request) for request in in_line]
    return len(cached) - 1 - cached[::-1].index(max(cached))


def most_passed_over(
    self: CacheAwareRequestQueue, in_line: Sequence[Request], num_passes: Counter[str]
) -> int:
    """Look for the longest prefix among those who are due."""
    due = [i for i, r in enumerate(in_line) if num_passes[r.request_id] >= self.max_passes]
    among = due or list(range(len(in_line)))
    return max(among, key=lambda i: (self.num_cached_tokens(in_line[i]), -i))


def shortest_prefix(
    self: CacheAwareRequestQueue, in_line: Sequence[Request], num_passes: Counter[str]
) -> int:
    """Take the one with the fewest cached tokens."""
    for position, request in enumerate(in_line):
        if num_passes[request.request_id] >= self.max_passes:
            return position
    cached = [self.num_cached_tokens(request) for request in in_line]
    return cached.index(min(cached))


def only_the_first(
    self: CacheAwareRequestQueue, in_line: Sequence[Request], num_passes: Counter[str]
) -> int:
    """Ask only whether the first in line is due."""
    if num_passes[in_line[0].request_id] >= self.max_passes:
        return 0
    return without_a_bound(self, in_line, num_passes)


CHOOSE = (
    Misconception(
        "no bound",
        "Who has nothing cached waits for as long as others come who have.",
        without_a_bound,
    ),
    Misconception(
        "once more",
        "Who has been passed over `max_passes` times is served next, not passed over once more.",
        one_pass_more,
    ),
    Misconception(
        "the last of equals",
        "Of equally long prefixes, the first in line has waited longest.",
        last_of_equals,
    ),
    Misconception(
        "the longest of those that are due",
        "Of several that have been passed over too often, the first in line goes.",
        most_passed_over,
    ),
    Misconception(
        "the shortest prefix",
        "The more of a prompt is cached, the less there is to compute.",
        shortest_prefix,
    ),
    Misconception(
        "only the first is asked",
        "Somebody may stand behind one that has just come back, and be due all the same.",
        only_the_first,
    ),
)

# 9.7, the budget, split


def by_all(self: EvenSplitScheduler, request: Request, num_new_tokens: int, budget: int) -> int:
    """Share among all that were sent, as many as they are."""
    share = max(self.max_num_batched_tokens // len(self.requests), 1)
    return min(num_new_tokens, share, budget)


def by_seats(self: EvenSplitScheduler, request: Request, num_new_tokens: int, budget: int) -> int:
    """Share among all seats, taken or not."""
    share = max(self.max_num_batched_tokens // self.max_num_seqs, 1)
    return min(num_new_tokens, share, budget)


def only_who_runs(
    self: EvenSplitScheduler, request: Request, num_new_tokens: int, budget: int
) -> int:
    """Share among those that run."""
    num_sharing = min(max(len(self.running), 1), self.max_num_seqs)
    return min(num_new_tokens, max(self.max_num_batched_tokens // num_sharing, 1), budget)


def rounded_up(self: EvenSplitScheduler, request: Request, num_new_tokens: int, budget: int) -> int:
    """Round the share up."""
    num_sharing = min(len(self.requests), self.max_num_seqs)
    return min(num_new_tokens, -(-self.max_num_batched_tokens // num_sharing), budget)


def of_what_is_left(
    self: EvenSplitScheduler, request: Request, num_new_tokens: int, budget: int
) -> int:
    """Share what is left of the budget."""
    num_sharing = min(len(self.requests), self.max_num_seqs)
    return min(num_new_tokens, max(budget // num_sharing, 1), budget)


def share_of_nothing(
    self: EvenSplitScheduler, request: Request, num_new_tokens: int, budget: int
) -> int:
    """Round down to nothing."""
    num_sharing = min(len(self.requests), self.max_num_seqs)
    return min(num_new_tokens, self.max_num_batched_tokens // num_sharing, budget)


def beyond_the_budget(
    self: EvenSplitScheduler, request: Request, num_new_tokens: int, budget: int
) -> int:
    """Forget what is left of the budget."""
    num_sharing = min(len(self.requests), self.max_num_seqs)
    return min(num_new_tokens, max(self.max_num_batched_tokens // num_sharing, 1))


SPLIT = (
    Misconception(
        "more than fit",
        "Only `max_num_seqs` requests can be in an iteration; the others need no share of it.",
        by_all,
    ),
    Misconception(
        "empty seats share",
        "A seat that nobody has taken needs no share: where three are there, a third is for each.",
        by_seats,
    ),
    Misconception(
        "who waits has no share",
        "Those who wait could be in this iteration as well, so they have shares of it.",
        only_who_runs,
    ),
    Misconception(
        "rounded up",
        "Shares that are rounded up are more than the budget together.",
        rounded_up,
    ),
    Misconception(
        "shares of what is left",
        "The first gets a third, the second a third of the rest: that is not even.",
        of_what_is_left,
    ),
    Misconception(
        "a share of nothing",
        "With more requests than tokens the share is 0, and nobody gets anything. At least one.",
        share_of_nothing,
    ),
    Misconception(
        "beyond the budget",
        "The share is at least one; what is left of the budget may be less.",
        beyond_the_budget,
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
)
