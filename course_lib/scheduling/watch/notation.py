"""A plan as one line of text, the same in failing cases, figures, prose and tests.

::

    step 4  d1:1 d2:1 A:4(12/19) B:1*  | C D
    step 5  d1:1 d2:1 A:4(16/19)  | (E) B! C D

In front of the bar stands who computes how many tokens, in the order of service. Brackets say how
many of the known tokens are computed afterwards, where some are still lacking. A star marks the end
of a prompt: the request gets its first token, or its next one after it was preempted. A decode gets
a token always, so it bears no star; nor does a last piece of one token of what was lost, which
looks the same. ``a:1+3`` computes three positions behind the known tokens: drafts to be verified,
or a token that is still on its way.

Behind the bar stands who does not run: those that are swapped out, in round brackets, then those
that wait, each in the order of its queue. An exclamation mark says that it was preempted in this
very step. A dash stands for nobody. Ids are words without brackets, stars or exclamation marks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from course_lib.scheduling.scheduler import SchedulerOutput
from course_lib.scheduling.watch.state import RequestState, SchedulerState


@dataclass(frozen=True, slots=True)
class Grant:
    """What one request computes in a step.

    Attributes:
        request_id: The request.
        num_tokens: Known tokens that it computes.
        num_ahead: Positions behind the known tokens that it computes too.
        progress: (computed tokens, known tokens) afterwards, if some are still lacking; else None.
        ends_prompt: Whether the step computes the end of a prompt, or of what was lost.

    >>> str(Grant("A", 4, progress=(12, 19)))
    'A:4(12/19)'
    """

    request_id: str
    num_tokens: int
    num_ahead: int = 0
    progress: tuple[int, int] | None = None
    ends_prompt: bool = False

    def __str__(self) -> str:
        drafts = f"+{self.num_ahead}" if self.num_ahead else ""
        progress = "({}/{})".format(*self.progress) if self.progress else ""
        star = "*" if self.ends_prompt else ""
        return f"{self.request_id}:{self.num_tokens}{drafts}{progress}{star}"


@dataclass(frozen=True, slots=True)
class StepLine:
    """A plan as it is written in one line.

    Attributes:
        step: Number of the step.
        grants: Who computes how many tokens, in the order of service.
        swapped: Who is swapped out.
        waiting: Who waits.
        preempted: Those of them that were preempted in this step.

    >>> line = "step 4  d1:1 d2:1 A:4(12/19) B:1*  | -"
    >>> [grant.request_id for grant in StepLine.parse(line).grants]
    ['d1', 'd2', 'A', 'B']
    >>> str(StepLine.parse(line)) == line
    True
    """

    step: int
    grants: tuple[Grant, ...] = ()
    swapped: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    preempted: frozenset[str] = frozenset()

    @classmethod
    def of(cls, step: int, output: SchedulerOutput, after: SchedulerState) -> StepLine:
        """Return the line of a plan.

        Args:
            step: Number of the step.
            output: The plan.
            after: The state of the scheduler right after ``schedule``.

        >>> from course_lib.kv_cache import KVCacheManager
        >>> from course_lib.scheduling import Request, Scheduler, SchedulerConfig
        >>> config = SchedulerConfig(max_num_batched_tokens=8)
        >>> scheduler = Scheduler(config, KVCacheManager(num_blocks=10))
        >>> for name, num_tokens in (("a", 5), ("b", 19), ("c", 2)):
        ...     scheduler.add_request(Request(name, range(num_tokens), max_tokens=9))
        >>> for step in range(2):
        ...     output = scheduler.schedule()
        ...     print(StepLine.of(step, output, SchedulerState.of(scheduler)))
        ...     _ = scheduler.update_from_output(output, {"a": 7})
        step 0  a:5* b:3(3/19)  | c
        step 1  a:1 b:7(10/19)  | c
        """
        grants = (
            _grant(after.requests[request_id], num_tokens)
            for request_id, num_tokens in output.num_scheduled_tokens.items()
        )
        preempted = frozenset(output.preempted_req_ids)
        return cls(step, tuple(grants), after.swapped, after.waiting, preempted)

    @classmethod
    def parse(cls, line: str) -> StepLine:
        """Read a line.

        Raises:
            ValueError: It is not written as it should be; the message says what cannot be read.
        """
        match = re.fullmatch(r"step (\d+)(.*)\|(.*)", line.strip())
        if match is None:
            raise ValueError(f"{line!r} is no step; write as in 'step 4  a:1 b:4(12/19)  | c'")
        number, served, others = match.groups()
        swapped: list[str] = []
        waiting: list[str] = []
        preempted: set[str] = set()
        for word in others.split():
            is_swapped, name = word.startswith("("), word.strip("()!")
            if word.endswith(("!", "!)")):
                preempted.add(name)
            if name != "-":
                (swapped if is_swapped else waiting).append(name)
        grants = tuple(parse_grant(word) for word in served.split() if word != "-")
        return cls(int(number), grants, tuple(swapped), tuple(waiting), frozenset(preempted))

    def __str__(self) -> str:
        served = " ".join(map(str, self.grants)) or "-"
        marked = {name: f"{name}!" if name in self.preempted else name for name in self._others()}
        others = [f"({marked[name]})" for name in self.swapped]
        others += [marked[name] for name in self.waiting]
        return f"step {self.step}  {served}  | {' '.join(others) or '-'}"

    def _others(self) -> tuple[str, ...]:
        """Return who does not run."""
        return self.swapped + self.waiting


def parse_grant(word: str) -> Grant:
    """Read what one request computes.

    Raises:
        ValueError: It is not written as it should be.

    >>> parse_grant("B:1*")
    Grant(request_id='B', num_tokens=1, num_ahead=0, progress=None, ends_prompt=True)
    """
    match = re.fullmatch(r"(.+):(\d+)(?:\+(\d+))?(?:\((\d+)/(\d+)\))?(\*?)", word)
    if match is None:
        raise ValueError(
            f"{word!r} cannot be read; write who computes how many tokens as in 'a:1', 'b:4*' or "
            "'c:4(12/19)'"
        )
    name, num_tokens, drafts, computed, known, star = match.groups()
    progress = (int(computed), int(known)) if computed else None
    return Grant(name, int(num_tokens), int(drafts or 0), progress, bool(star))


def _grant(request: RequestState, num_tokens: int) -> Grant:
    """Return what a request computes, by its state afterwards."""
    num_known = request.num_tokens
    num_ahead = max(request.num_computed_tokens - num_known, 0)
    progress = None
    if request.num_computed_tokens < num_known:
        progress = (request.num_computed_tokens, num_known)
    num_tokens -= num_ahead
    # With no known token to compute, the prompt has ended in a step before.
    is_decode = num_tokens < 1 or (num_tokens == 1 and request.num_output_tokens > 0)
    ends_prompt = progress is None and not is_decode
    return Grant(request.request_id, num_tokens, num_ahead, progress, ends_prompt)
