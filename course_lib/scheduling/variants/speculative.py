"""Speculative decoding in the scheduler: several tokens of a request verified in one step.

A small drafter guesses the next k tokens of a request. The model computes all of them in one step,
together with the last known token, and gives its own next token behind each. Drafts that agree with
it are accepted, the first that does not is replaced by the model's own token, and what is behind it
is worthless. So a step yields 1 to k + 1 tokens, and reads the weights once for all of them.

To a scheduler that knows no decode phase a draft is just one more token to compute. Three things
follow: drafts take part of the token budget; they need slots in the KV cache; and the keys and
values of rejected ones have to be taken back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.decisions import DecisionLog
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig, SchedulerOutput


class SpeculativeScheduler(Scheduler):
    """A scheduler to which drafts can be given, for the next step.

    The drafts of a step are in ``output.scheduled_spec_decode_tokens``; ``sampled`` then has a list
    for these requests: the accepted drafts and one token more.

    Attributes:
        drafts: What was given for the next step, by request id.

    >>> from course_lib.kv_cache import KVCacheManager
    >>> from course_lib.scheduling import SchedulerConfig
    >>> scheduler = SpeculativeScheduler(SchedulerConfig(), KVCacheManager(num_blocks=10))
    >>> request = Request("a", range(20), max_tokens=50)
    >>> scheduler.add_request(request)
    >>> _ = scheduler.update_from_output(scheduler.schedule(), {"a": 7})
    >>> scheduler.add_drafts({"a": [8, 9, 10]})
    >>> output = scheduler.schedule()
    >>> output.num_scheduled_tokens, request.num_computed_tokens
    ({'a': 4}, 24)
    >>> _ = scheduler.update_from_output(output, {"a": [8, 5]})     # 8 is right, 9 should be 5
    >>> request.output_token_ids, request.num_computed_tokens
    ([7, 8, 5], 22)
    """

    def __init__(
        self,
        config: SchedulerConfig,
        kv_cache_manager: KVCacheManager,
        *,
        log: DecisionLog | None = None,
    ) -> None:
        super().__init__(config, kv_cache_manager, log=log)
        self.drafts: dict[str, list[int]] = {}

    def add_drafts(self, drafts: Mapping[str, Sequence[int]]) -> None:
        """Give guesses of the next tokens of running requests, to be verified in the next step.

        Requests that are not running, or have more than one known token to compute, are passed
        over. So are drafts behind which there is no room: the accepted ones and the one token more
        must fit below ``length_limit``. Drafts are good for one step; they replace earlier ones.

        Args:
            drafts: The guesses of each request, in order, at least one.
        """
        self.drop_drafts()
        for request in self.running:
            tokens = drafts.get(request.request_id)
            if not tokens or request.num_tokens - request.num_computed_tokens != 1:
                continue
            num_useful = min(len(tokens), request.length_limit - request.num_tokens - 1)
            if num_useful > 0:
                self.drafts[request.request_id] = list(tokens[:num_useful])
                request.num_tokens_ahead = num_useful

    def schedule(self) -> SchedulerOutput:
        """Plan the next iteration; a budget that is short cuts drafts, the last ones first."""
        output = super().schedule()
        for request_id, tokens in self.drafts.items():
            if request_id not in output.num_scheduled_tokens:
                continue
            request = self.requests[request_id]
            num_verified = request.num_computed_tokens - request.num_tokens
            if num_verified > 0:
                output.scheduled_spec_decode_tokens[request_id] = tokens[:num_verified]
        self.drop_drafts()
        return output

    def update_from_output(
        self, output: SchedulerOutput, sampled: Mapping[str, int | list[int]]
    ) -> list[Request]:
        """Take back what was computed for rejected drafts, then take in the tokens.

        Raises:
            ValueError: A request that had k drafts has not 1 to k + 1 tokens. Nothing changes.
        """
        self.take_back_rejected(output, sampled)
        return super().update_from_output(output, sampled)

    def take_back_rejected(
        self, output: SchedulerOutput, sampled: Mapping[str, int | list[int]]
    ) -> None:
        """Move ``num_computed_tokens`` back by the drafts that the model has rejected.

        ``schedule`` has moved it ahead by one token and k drafts. The model has accepted some of
        them, and has given one token more: of k drafts, k + 1 less the tokens given were rejected.
        Passed over are: a request that ``sampled`` does not name, one that was aborted meanwhile,
        and another one under its id, which has not computed beyond its known tokens.

        Args:
            output: The plan that was carried out. ``scheduled_spec_decode_tokens`` has the drafts
                of each request that had some, a list by its id.
            sampled: The tokens of each request that got some, by its id: a list, or one token
                alone.

        Raises:
            ValueError: A request that had k drafts got fewer than 1 or more than k + 1 tokens.
                Nothing changes.
        """
        num_rejected: dict[str, int] = {}
        for request_id, drafts in output.scheduled_spec_decode_tokens.items():
            if request_id not in sampled:
                continue
            tokens = sampled[request_id]
            num_tokens = len(tokens) if isinstance(tokens, list) else 1
            num_rejected[request_id] = len(drafts) + 1 - num_tokens
            if not 1 <= num_tokens <= len(drafts) + 1:
                raise ValueError(
                    f"request {request_id!r} had {len(drafts)} drafts and got {num_tokens} tokens; "
                    f"sample the accepted ones and one more, so 1 to {len(drafts) + 1}"
                )
        for request_id, num in num_rejected.items():
            request = self.requests.get(request_id)
            if request is not None and request.num_computed_tokens > request.num_tokens:
                request.num_computed_tokens -= num

    def drop_drafts(self) -> None:
        """Forget the drafts that were given and not verified."""
        for request_id in self.drafts:
            request = self.requests.get(request_id)
            if request is not None:
                request.num_tokens_ahead = 0
        self.drafts.clear()
