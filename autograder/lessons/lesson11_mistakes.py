"""Lesson 11: the wrong answers that people are known to give about iterations and their limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from autograder.checks.finding import Misconception
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler
from course_lib.simulation.cost_model import IterationTime
from course_lib.steps import IterationWork

Rows = Iterable[tuple[int, int]]

# 11.1a


def _adding(
    pairs: Callable[[int, int], int] = lambda new, cached: new * cached + new * (new + 1) // 2,
    context: Callable[[int, int], int] = lambda new, cached: new + cached,
) -> Callable[..., IterationWork]:
    """Make an answer from the pairs, and the context, of one request."""

    def of_batch(cls: type[IterationWork], rows: Rows, swapped_tokens: int = 0) -> IterationWork:
        listed = list(rows)
        return cls(
            sum(new for new, _ in listed),
            sum(pairs(*row) for row in listed),
            sum(context(*row) for row in listed),
            swapped_tokens,
        )

    return of_batch


def gone_through_twice(
    cls: type[IterationWork], rows: Rows, swapped_tokens: int = 0
) -> IterationWork:
    """Go through the rows once for each total."""
    num_tokens = sum(new for new, _ in rows)
    attended = sum(new * cached + new * (new + 1) // 2 for new, cached in rows)
    return cls(num_tokens, attended, sum(new + cached for new, cached in rows), swapped_tokens)


def swapped_forgotten(
    cls: type[IterationWork], rows: Rows, swapped_tokens: int = 0
) -> IterationWork:
    """Leave out what is swapped."""
    return _adding()(cls, rows)


WORK = (
    Misconception(
        "every new token sees all",
        "The first of n new tokens does not see those behind it: together they see 1 + 2 + … + n "
        "of their own, not n².",
        _adding(lambda new, cached: new * (cached + new)),
    ),
    Misconception(
        "a token does not see itself",
        "A token attends to itself, too: its key is written before it is read.",
        _adding(lambda new, cached: new * cached + new * (new - 1) // 2),
    ),
    Misconception(
        "the new tokens see only each other",
        "Each new token also sees all that is cached in front of it.",
        _adding(lambda new, cached: new * (new + 1) // 2),
    ),
    Misconception(
        "only what is cached is seen",
        "The new tokens see each other as well, as far as they are in front.",
        _adding(lambda new, cached: new * cached),
    ),
    Misconception(
        "the context without the new tokens",
        "The keys and values of the new tokens move as well: they are written, then read.",
        _adding(context=lambda new, cached: cached),
    ),
    Misconception(
        "keys read for each token anew",
        "A chunk reads each key of its context once, not once for each of its tokens.",
        _adding(context=lambda new, cached: new * cached + new * (new + 1) // 2),
    ),
    Misconception(
        "gone through twice",
        "The rows may come one by one, as from a generator, and then they can be gone through "
        "only once.",
        gone_through_twice,
    ),
    Misconception(
        "what is swapped is forgotten",
        "The tokens that are swapped are told along: they are the fourth total.",
        swapped_forgotten,
    ),
)

# 11.1b


def _linear(time: IterationTime) -> float:
    """Return the linear layers' seconds."""
    return max(time.read_weights, time.compute_linear)


def _attention(time: IterationTime) -> float:
    """Return the attention layers' seconds."""
    return max(time.move_kv, time.compute_attention)


TOTAL = (
    Misconception(
        "one roofline for all",
        "Layers of one kind do not run beside those of the other: kernels run one after the other, "
        "so no weights are read during the arithmetic of attention.",
        lambda self: (
            max(self.read_weights + self.move_kv, self.compute_linear + self.compute_attention)
            + self.swap
        ),
    ),
    Misconception(
        "everything in turn",
        "Within a layer the memory and the compute units work at the same time: the slower counts.",
        lambda self: sum(self),
    ),
    Misconception(
        "the slowest of all",
        "The two kinds of layer take turns, and nothing is computed while blocks are copied.",
        lambda self: max(self),
    ),
    Misconception(
        "swapping left out",
        "Blocks are copied before anything is computed, and that takes its time.",
        lambda self: _linear(self) + _attention(self),
    ),
    Misconception(
        "swapping beside the rest",
        "Nothing is computed while blocks are copied: the copy comes first, and adds up.",
        lambda self: max(_linear(self) + _attention(self), self.swap),
    ),
    Misconception(
        "the slower kind of layer",
        "Linear and attention layers alternate: their times add up.",
        lambda self: max(_linear(self), _attention(self)) + self.swap,
    ),
    Misconception(
        "the faster unit",
        "Where two units work at the same time, one waits for the slower of them.",
        lambda self: (
            min(self.read_weights, self.compute_linear)
            + min(self.move_kv, self.compute_attention)
            + self.swap
        ),
    ),
)

# 11.3

Limit = Callable[[Scheduler, Request, int, int], Any]


def _limiting(is_cut: Callable[[Scheduler, int, int], bool]) -> Limit:
    """Make an answer from whether the threshold holds, by threshold and tokens that are lacking."""

    def limit_chunk(self: Scheduler, request: Request, num_new_tokens: int, budget: int) -> int:
        threshold = self.config.long_prefill_token_threshold
        if is_cut(self, threshold, num_new_tokens):
            num_new_tokens = threshold
        return min(num_new_tokens, budget)

    return limit_chunk


def _holds(threshold: int, num_new_tokens: int) -> bool:
    return 0 < threshold < num_new_tokens


def short_ones_are_exempt(
    self: Scheduler, request: Request, num_new_tokens: int, budget: int
) -> int:
    """Give a short one all that it lacks."""
    threshold = self.config.long_prefill_token_threshold
    if num_new_tokens <= threshold:
        return num_new_tokens
    return Scheduler.limit_chunk(self, request, num_new_tokens, budget)


def cut_ones_are_exempt(self: Scheduler, request: Request, num_new_tokens: int, budget: int) -> int:
    """Give a long one the threshold, whatever is left."""
    threshold = self.config.long_prefill_token_threshold
    if _holds(threshold, num_new_tokens) and len(self.requests) > 1:
        return threshold
    return min(num_new_tokens, budget)


def only_long_prompts_are_cut(
    self: Scheduler, request: Request, num_new_tokens: int, budget: int
) -> int:
    """Look at the length of the prompt in the place of what is lacking."""
    if request.num_prompt_tokens <= self.config.long_prefill_token_threshold:
        return min(num_new_tokens, budget)
    return Scheduler.limit_chunk(self, request, num_new_tokens, budget)


def counted_anew(self: Scheduler, request: Request, num_new_tokens: int, budget: int) -> int:
    """Ask the request what it lacks."""
    lacking = request.num_tokens - request.num_computed_tokens
    return Scheduler.limit_chunk(self, request, lacking, budget)


def a_whole_iteration(self: Scheduler, request: Request, num_new_tokens: int, budget: int) -> int:
    """Cut to what an iteration has."""
    return Scheduler.limit_chunk(self, request, num_new_tokens, self.max_num_batched_tokens)


LIMIT = (
    Misconception(
        "who is alone is cut",
        "A threshold protects others. If no other request is unfinished, it only makes this one "
        "take longer.",
        _limiting(lambda self, threshold, n: _holds(threshold, n)),
    ),
    Misconception(
        "0 tokens at most",
        "A threshold of 0 stands for no threshold; a request that may compute 0 tokens waits for "
        "ever.",
        _limiting(lambda self, threshold, n: threshold < n and len(self.requests) > 1),
    ),
    Misconception(
        "short prompts are exempt from the budget",
        "The budget holds for everybody, also for who is below the threshold.",
        short_ones_are_exempt,
    ),
    Misconception(
        "the threshold in the place of the budget",
        "Who is cut to the threshold is still bound by what is left of the budget.",
        cut_ones_are_exempt,
    ),
    Misconception(
        "who waits does not count",
        "A long prompt keeps those waiting who are not admitted yet: all unfinished requests "
        "count.",
        _limiting(lambda self, threshold, n: _holds(threshold, n) and len(self.running) > 1),
    ),
    Misconception(
        "only who waits counts",
        "Those who run are unfinished as well: they wait for this iteration to end.",
        _limiting(lambda self, threshold, n: _holds(threshold, n) and len(self.waiting) > 1),
    ),
    Misconception(
        "who is swapped out does not count",
        "A request whose blocks are on the CPU neither runs nor waits, and is unfinished: "
        "`requests` has it, too.",
        _limiting(
            lambda self, threshold, n: (
                _holds(threshold, n) and len(self.running) + len(self.waiting) > 1
            )
        ),
    ),
    Misconception(
        "the threshold only if prompts are chunked",
        "As in vLLM the threshold holds with chunked prefill and without.",
        _limiting(
            lambda self, threshold, n: (
                _holds(threshold, n)
                and len(self.requests) > 1
                and self.config.enable_chunked_prefill
            )
        ),
    ),
    Misconception(
        "the budget of a whole iteration",
        "Others have had their tokens from it: what is left stands in `budget`.",
        a_whole_iteration,
    ),
    Misconception(
        "the prompt for what it lacks",
        "Whoever was preempted reads the tokens of its answer again, too: what it lacks may be "
        "longer than the threshold, however short its prompt is.",
        only_long_prompts_are_cut,
    ),
    Misconception(
        "counted anew",
        "What it lacks is given, as num_new_tokens. A request that is just being admitted does not "
        "know yet what the prefix cache holds of it.",
        counted_anew,
    ),
)
