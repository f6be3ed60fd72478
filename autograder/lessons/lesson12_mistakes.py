"""Lesson 12: what is got wrong about a plan's order, drafts, and planning ahead."""

from __future__ import annotations

from collections.abc import Mapping

from autograder.checks.finding import Misconception
from autograder.checks.parsons import Displaced, Distractor
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import SchedulerOutput
from course_lib.scheduling.variants.async_scheduler import AsyncScheduler
from course_lib.scheduling.variants.speculative import SpeculativeScheduler

Sampled = Mapping[str, int | list[int]]

# 12.2, the lines of a plan

PLAN_LINES = (
    Distractor(
        "self.finished_req_ids.clear()",
        "self.finished_req_ids = set()",
        "the set is emptied",
        "The plan has this very set in hand: to empty it takes the names out of the plan as well. "
        "A new one leaves the old one alone.",
    ),
    Distractor(
        "if budget > 0:",
        "if not output.preempted_req_ids:",
        "only the budget is asked",
        "Whoever starts in a step that preempts takes the room that somebody has just lost, and "
        "the two take turns.",
    ),
    Distractor(
        "budget = self.admit_waiting(output, self.max_num_batched_tokens)",
        "budget = self.admit_waiting(",
        "a budget for each",
        "There is one budget for all: who is admitted gets what the others have left.",
    ),
    Distractor(
        "output.total_num_scheduled_tokens = budget",
        "output.total_num_scheduled_tokens = self.",
        "what is left for what is planned",
        "`budget` is what is left in the end; planned is what was there less that.",
    ),
)

PLAN_LATE = (
    Displaced(
        "self.finished_req_ids = set()",
        "return output",
        "told again and again",
        "Without a new set, each later plan names those who ended once more, and the executor "
        "forgets a request that has just come under an old name.",
    ),
    Displaced(
        "output.blocks_to_copy +=",
        "if self.log is not None:",
        "copies too late or left out",
        "The plan says which blocks are to be copied, or two that share one spoil each other's "
        "tokens. It has to say so before the log is told of it.",
    ),
    Displaced(
        "self.waiting.charge(",
        "return output",
        "nobody is charged",
        "A queue that is fair to clients learns here for whom tokens are generated.",
    ),
)

# 12.4, rejected drafts


def _counts(output: SchedulerOutput, sampled: Sampled) -> dict[str, tuple[int, int]]:
    """Return how many drafts each request had, and how many tokens it got."""
    counts = {}
    for name, drafts in output.scheduled_spec_decode_tokens.items():
        if name in sampled:
            tokens = sampled[name]
            counts[name] = len(drafts), len(tokens) if isinstance(tokens, list) else 1
    return counts


def _require(counts: Mapping[str, tuple[int, int]]) -> None:
    for name, (num_drafts, num_tokens) in counts.items():
        if not 1 <= num_tokens <= num_drafts + 1:
            raise ValueError(f"{name} had {num_drafts} drafts and got {num_tokens} tokens")


def _take_back(self: SpeculativeScheduler, name: str, num_tokens: int) -> None:
    request = self.requests.get(name)
    if request is not None and request.num_computed_tokens > request.num_tokens:
        request.num_computed_tokens -= num_tokens


def takes_back_nothing(
    self: SpeculativeScheduler, output: SchedulerOutput, sampled: Sampled
) -> None:
    """Check the counts, and leave the computed tokens where they are."""
    _require(_counts(output, sampled))


def takes_back_the_accepted(
    self: SpeculativeScheduler, output: SchedulerOutput, sampled: Sampled
) -> None:
    """Move back by the drafts that were right."""
    counts = _counts(output, sampled)
    _require(counts)
    for name, (_, num_tokens) in counts.items():
        _take_back(self, name, num_tokens - 1)


def no_token_more(self: SpeculativeScheduler, output: SchedulerOutput, sampled: Sampled) -> None:
    """Count the model's own token among the accepted drafts."""
    counts = _counts(output, sampled)
    _require(counts)
    for name, (num_drafts, num_tokens) in counts.items():
        _take_back(self, name, max(num_drafts - num_tokens, 0))


def takes_back_all(self: SpeculativeScheduler, output: SchedulerOutput, sampled: Sampled) -> None:
    """Move back by all drafts where one was wrong."""
    counts = _counts(output, sampled)
    _require(counts)
    for name, (num_drafts, num_tokens) in counts.items():
        _take_back(self, name, num_drafts if num_tokens <= num_drafts else 0)


def one_too_far(self: SpeculativeScheduler, output: SchedulerOutput, sampled: Sampled) -> None:
    """Take the last known token back as well."""
    counts = _counts(output, sampled)
    _require(counts)
    for name, (num_drafts, num_tokens) in counts.items():
        _take_back(self, name, num_drafts + 2 - num_tokens)


def refuses_on_the_way(
    self: SpeculativeScheduler, output: SchedulerOutput, sampled: Sampled
) -> None:
    """Change one request after the other, and refuse when one is wrong."""
    for name, (num_drafts, num_tokens) in _counts(output, sampled).items():
        _require({name: (num_drafts, num_tokens)})
        _take_back(self, name, num_drafts + 1 - num_tokens)


def refuses_nothing(self: SpeculativeScheduler, output: SchedulerOutput, sampled: Sampled) -> None:
    """Believe what comes."""
    for name, (num_drafts, num_tokens) in _counts(output, sampled).items():
        _take_back(self, name, num_drafts + 1 - num_tokens)


def misses_the_aborted(
    self: SpeculativeScheduler, output: SchedulerOutput, sampled: Sampled
) -> None:
    """Look up who was aborted."""
    counts = _counts(output, sampled)
    _require(counts)
    for name, (num_drafts, num_tokens) in counts.items():
        self.requests[name].num_computed_tokens -= num_drafts + 1 - num_tokens


def moves_the_namesake(
    self: SpeculativeScheduler, output: SchedulerOutput, sampled: Sampled
) -> None:
    """Move back whoever has the name now."""
    counts = _counts(output, sampled)
    _require(counts)
    for name, (num_drafts, num_tokens) in counts.items():
        if name in self.requests:
            self.requests[name].num_computed_tokens -= num_drafts + 1 - num_tokens


def lists_alone(self: SpeculativeScheduler, output: SchedulerOutput, sampled: Sampled) -> None:
    """Pass over who got one token alone."""
    several = {name: tokens for name, tokens in sampled.items() if isinstance(tokens, list)}
    SpeculativeScheduler.take_back_rejected(self, output, several)


TAKE_BACK = (
    Misconception(
        "takes back nothing",
        "The keys and values of a rejected draft are those of a wrong token. Whoever comes behind "
        "attends to them unless its place is computed again.",
        takes_back_nothing,
    ),
    Misconception(
        "takes back the accepted",
        "The accepted drafts are computed, and right: they stay.",
        takes_back_the_accepted,
    ),
    Misconception(
        "the token more is forgotten",
        "Of the tokens that come, one is the model's own: with 3 drafts and 3 tokens, 2 were "
        "accepted and 1 rejected.",
        no_token_more,
    ),
    Misconception(
        "all or none",
        "The drafts in front of the first wrong one are right, and stay computed.",
        takes_back_all,
    ),
    Misconception(
        "one too far",
        "The step also computed the last known token, which was no draft.",
        one_too_far,
    ),
    Misconception(
        "refuses on the way",
        "When it refuses, others have been moved back already. Look at all counts first.",
        refuses_on_the_way,
    ),
    Misconception(
        "refuses nothing",
        "No step gives less than 1 token or more than drafts and one: a ValueError says so.",
        refuses_nothing,
    ),
    Misconception(
        "misses who was aborted",
        "A client may go away while the step runs: its request is not in `requests` any more.",
        misses_the_aborted,
    ),
    Misconception(
        "moves the namesake back",
        "Another request may have come under the name. It has not computed beyond what it knows.",
        moves_the_namesake,
    ),
    Misconception(
        "lists alone",
        "One token alone is not in a list, and means that all drafts were rejected.",
        lists_alone,
    ),
)

# 12.5, placeholders


def always_one(self: AsyncScheduler, request: Request) -> None:
    """Put a placeholder also in mid-prompt."""
    if request.num_tokens + request.num_tokens_ahead + 1 < request.length_limit:
        request.num_tokens_ahead += 1


def beyond_the_end(self: AsyncScheduler, request: Request) -> None:
    """Put a placeholder for the last token as well."""
    if request.num_computed_tokens >= request.num_tokens + request.num_tokens_ahead:
        request.num_tokens_ahead += 1


def end_too_early(self: AsyncScheduler, request: Request) -> None:
    """Take the end for one token earlier."""
    num_tokens = request.num_tokens + request.num_tokens_ahead
    if request.num_computed_tokens >= num_tokens and num_tokens + 2 < request.length_limit:
        request.num_tokens_ahead += 1


def known_alone(self: AsyncScheduler, request: Request) -> None:
    """Look at the known tokens alone."""
    is_computed = request.num_computed_tokens >= request.num_tokens
    if is_computed and request.num_tokens + 1 < request.length_limit:
        request.num_tokens_ahead += 1


def at_most_one(self: AsyncScheduler, request: Request) -> None:
    """Set the placeholders to one."""
    num_tokens = request.num_tokens + request.num_tokens_ahead
    if request.num_computed_tokens >= num_tokens and num_tokens + 1 < request.length_limit:
        request.num_tokens_ahead = 1


def by_max_tokens(self: AsyncScheduler, request: Request) -> None:
    """Look at the tokens that the request asked for, not at where it ends here."""
    num_tokens = request.num_tokens + request.num_tokens_ahead
    end = request.num_prompt_tokens + request.max_tokens
    if request.num_computed_tokens >= num_tokens and num_tokens + 1 < end:
        request.num_tokens_ahead += 1


def computed_at_once(self: AsyncScheduler, request: Request) -> None:
    """Count the placeholder as computed."""
    before = request.num_tokens_ahead
    AsyncScheduler.place_ahead(self, request)
    request.num_computed_tokens += request.num_tokens_ahead - before


AHEAD = (
    Misconception(
        "a token in mid-prompt",
        "A step in the middle of a prompt generates no token: there is nothing to hold a place "
        "for.",
        always_one,
    ),
    Misconception(
        "beyond the end",
        "That the token on its way is the last one is known now, by its number. Nobody computes "
        "behind it.",
        beyond_the_end,
    ),
    Misconception(
        "the end one too early",
        "The token before the last one has to be computed as well. Without a placeholder it is "
        "left out of the next plan, and the last one comes a step later.",
        end_too_early,
    ),
    Misconception(
        "known tokens alone",
        "A placeholder may stand there already. Known and on its way together say how far the "
        "request will be.",
        known_alone,
    ),
    Misconception(
        "one at most",
        "Two steps may be on their way, each with a token of the same request.",
        at_most_one,
    ),
    Misconception(
        "the end by max_tokens",
        "A scheduler may allow less than a request asks for: `length_limit` is where it ends.",
        by_max_tokens,
    ),
    Misconception(
        "computed at once",
        "A placeholder is a token to be computed by the next step. It is not computed yet.",
        computed_at_once,
    ),
)
