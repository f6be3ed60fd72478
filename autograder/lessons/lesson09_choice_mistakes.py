"""Lesson 9: what people get wrong about cached prefixes and shares of the budget, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from autograder.checks.finding import Misconception
from course_lib.scheduling.request import Request
from course_lib.scheduling.variants.cache_aware import CacheAwareRequestQueue
from course_lib.scheduling.variants.even_split import EvenSplitScheduler

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


def the_request_itself(
    self: CacheAwareRequestQueue, in_line: Sequence[Request], num_passes: Counter[str]
) -> Request:
    """Return who is next, and not where it stands."""
    return in_line[CacheAwareRequestQueue.choose(self, in_line, num_passes)]


def passed_over_most(
    self: CacheAwareRequestQueue, in_line: Sequence[Request], num_passes: Counter[str]
) -> int:
    """Take, of those that are due, the one passed over most."""
    passes = [num_passes[request.request_id] for request in in_line]
    if max(passes) >= self.max_passes:
        return passes.index(max(passes))
    return without_a_bound(self, in_line, num_passes)


def last_of_those_due(
    self: CacheAwareRequestQueue, in_line: Sequence[Request], num_passes: Counter[str]
) -> int:
    """Go on through the line when somebody is due, and take the last one who is."""
    due = [i for i, r in enumerate(in_line) if num_passes[r.request_id] >= self.max_passes]
    return due[-1] if due else without_a_bound(self, in_line, num_passes)


def by_what_is_computed(
    self: CacheAwareRequestQueue, in_line: Sequence[Request], num_passes: Counter[str]
) -> int:
    """Look for the most computed tokens, which is none for all of them."""
    for place, request in enumerate(in_line):
        if num_passes[request.request_id] >= self.max_passes:
            return place
    return max(range(len(in_line)), key=lambda place: in_line[place].num_computed_tokens)


def first_in_line(
    self: CacheAwareRequestQueue, in_line: Sequence[Request], num_passes: Counter[str]
) -> int:
    """Look at neither the cache nor the passes."""
    return 0


def first_unless_somebody_is_due(
    self: CacheAwareRequestQueue, in_line: Sequence[Request], num_passes: Counter[str]
) -> int:
    """Look at the passes, and not at the cache."""
    due = (i for i, r in enumerate(in_line) if num_passes[r.request_id] >= self.max_passes)
    return next(due, 0)


CHOOSE = (
    Misconception(
        "the request, not its position",
        "Asked for is where it stands in `in_line`: its position, a whole number from 0 on.",
        the_request_itself,
    ),
    Misconception(
        "the one passed over most",
        "Of several that have been passed over `max_passes` times or more, the first in line goes.",
        passed_over_most,
    ),
    Misconception(
        "the last of those that are due",
        "Of several that have been passed over `max_passes` times or more, the first in line goes: "
        "whoever goes through the line can stop at the first.",
        last_of_those_due,
    ),
    Misconception(
        "computed, not cached",
        "`num_computed_tokens` is 0 for who waits. What is in the cache is said by "
        "`self.num_cached_tokens(request)`.",
        by_what_is_computed,
        evidence="num_computed_tokens",
    ),
    Misconception(
        "always the first in line",
        "That is first come, first served. Unless somebody is due, who has most in the cache goes.",
        first_in_line,
    ),
    Misconception(
        "the cache is not asked",
        "That is first come, first served. Where nobody is due, who has most in the cache goes: "
        "`self.num_cached_tokens(request)` says how much.",
        first_unless_somebody_is_due,
    ),
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
        "Of equally long prefixes, the first in line goes.",
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


def of_what_is_left_or_nothing(
    self: EvenSplitScheduler, request: Request, num_new_tokens: int, budget: int
) -> int:
    """Share what is left of the budget, and round down to nothing."""
    return min(num_new_tokens, budget // min(len(self.requests), self.max_num_seqs))


def of_what_is_left_by_all(
    self: EvenSplitScheduler, request: Request, num_new_tokens: int, budget: int
) -> int:
    """Share what is left of the budget among all that were sent."""
    return min(num_new_tokens, budget // len(self.requests))


def of_what_is_left_by_all_at_least_one(
    self: EvenSplitScheduler, request: Request, num_new_tokens: int, budget: int
) -> int:
    """Share what is left of the budget among all that were sent, a token for each at least."""
    return min(num_new_tokens, max(budget // len(self.requests), 1))


def by_all_or_nothing(
    self: EvenSplitScheduler, request: Request, num_new_tokens: int, budget: int
) -> int:
    """Share among all that were sent, and round down to nothing."""
    return min(num_new_tokens, self.max_num_batched_tokens // len(self.requests), budget)


def by_seats_or_nothing(
    self: EvenSplitScheduler, request: Request, num_new_tokens: int, budget: int
) -> int:
    """Share among all seats, and round down to nothing."""
    return min(num_new_tokens, self.max_num_batched_tokens // self.max_num_seqs, budget)


def whole_shares(
    self: EvenSplitScheduler, request: Request, num_new_tokens: int, budget: int
) -> int:
    """Give everybody the whole share, needed or not."""
    num_sharing = min(len(self.requests), self.max_num_seqs)
    return min(max(self.max_num_batched_tokens // num_sharing, 1), budget)


SPLIT = (
    Misconception(
        "more than fit",
        "Only `max_num_seqs` requests can be in an iteration; the others need no share of it.",
        by_all,
    ),
    Misconception(
        "empty seats share",
        "A seat that nobody has taken needs no share: count those who are there.",
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
        "What is left becomes less as others take their parts, so the later ones get less: that is "
        "not even. Divide `max_num_batched_tokens`, the budget of a whole iteration.",
        of_what_is_left,
    ),
    Misconception(
        "shares of what is left, or none",
        "What is left becomes less as others take their parts, so the later ones get less: that is "
        "not even. Divide `max_num_batched_tokens`, the budget of a whole iteration; and a share "
        "is at least 1.",
        of_what_is_left_or_nothing,
    ),
    Misconception(
        "what is left, among all",
        "Divide `max_num_batched_tokens`, the budget of a whole iteration, by those who could be "
        "in it, at most `max_num_seqs`; and a share is at least 1.",
        of_what_is_left_by_all,
    ),
    Misconception(
        "what is left, among all, at least one",
        "Divide `max_num_batched_tokens`, the budget of a whole iteration, by those who could be "
        "in it, at most `max_num_seqs`.",
        of_what_is_left_by_all_at_least_one,
    ),
    Misconception(
        "more than fit, or none",
        "Only `max_num_seqs` requests can be in an iteration; the others need no share of it. And "
        "a share is at least 1.",
        by_all_or_nothing,
    ),
    Misconception(
        "empty seats share, or none",
        "A seat that nobody has taken needs no share: count those who are there. And a "
        "share is at least 1.",
        by_seats_or_nothing,
    ),
    Misconception(
        "the whole share",
        "Who lacks fewer tokens than its share computes what it lacks.",
        whole_shares,
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
