"""The final project: what is got wrong about admission and aborts."""

from __future__ import annotations

from collections.abc import Iterable

from autograder.checks.finding import Misconception
from course_lib.scheduling.request import Request, RequestStatus
from course_lib.scheduling.scheduler import Scheduler

# 13.4, never


def _needed(request: Request, size: int) -> int:
    return -(-request.num_prompt_tokens // size)


def _reason(self: Scheduler, request: Request) -> str:
    """Name every number that a reason may have to name."""
    limits = f"{self.max_model_len} and {self.config.max_num_batched_tokens}"
    return f"{request.num_prompt_tokens} tokens are too many, with {limits} as limits"


def counts_the_null_block(self: Scheduler, request: Request) -> str:
    """Count the null block among those that can be had."""
    manager = self.kv_cache_manager
    if _needed(request, manager.block_size) > manager.block_pool.num_blocks:
        return _reason(self, request)
    if request.num_prompt_tokens > (self.config.max_model_len or request.num_prompt_tokens):
        return _reason(self, request)
    return _over_budget(self, request)


def _over_budget(self: Scheduler, request: Request) -> str:
    budget = self.config.max_num_batched_tokens
    is_over = request.num_prompt_tokens > budget and not self.config.enable_chunked_prefill
    return _reason(self, request) if is_over else ""


def floors_the_blocks(self: Scheduler, request: Request) -> str:
    """Count full blocks alone."""
    manager = self.kv_cache_manager
    if request.num_prompt_tokens // manager.block_size > manager.block_pool.num_blocks - 1:
        return _reason(self, request)
    if request.num_prompt_tokens > (self.config.max_model_len or request.num_prompt_tokens):
        return _reason(self, request)
    return _over_budget(self, request)


def answer_too(self: Scheduler, request: Request) -> str:
    """Ask for room for the whole answer as well."""
    if request.num_prompt_tokens + request.max_tokens > self.max_model_len:
        return _reason(self, request)
    return _over_budget(self, request)


def answer_everywhere(self: Scheduler, request: Request) -> str:
    """Ask for room for the whole answer, in the pool and in a step."""
    num_tokens = request.num_prompt_tokens + request.max_tokens
    is_over = (
        num_tokens > self.config.max_num_batched_tokens and not self.config.enable_chunked_prefill
    )
    return _reason(self, request) if num_tokens > self.max_model_len or is_over else ""


def budget_always(self: Scheduler, request: Request) -> str:
    """Ask that each prompt fits into one step."""
    if request.num_prompt_tokens > self.max_model_len:
        return _reason(self, request)
    is_over = request.num_prompt_tokens > self.config.max_num_batched_tokens
    return _reason(self, request) if is_over else ""


def budget_never(self: Scheduler, request: Request) -> str:
    """Take no note of steps."""
    is_over = request.num_prompt_tokens > self.max_model_len
    return _reason(self, request) if is_over else ""


def free_now(self: Scheduler, request: Request) -> str:
    """Ask for what is free at this moment."""
    manager = self.kv_cache_manager
    if _needed(request, manager.block_size) > manager.block_pool.get_num_free_blocks():
        return _reason(self, request)
    return Scheduler.why_never(self, request)


def one_too_strict(self: Scheduler, request: Request) -> str:
    """Refuse what just fits."""
    if request.num_prompt_tokens >= self.max_model_len:
        return _reason(self, request)
    return Scheduler.why_never(self, request)


def raises(self: Scheduler, request: Request) -> str:
    """Raise where a reason is asked for."""
    reason = Scheduler.why_never(self, request)
    if reason:
        raise ValueError(reason)
    return ""


def without_numbers(self: Scheduler, request: Request) -> str:
    """Say that it is too long, and not by how much."""
    return "the prompt is too long" if Scheduler.why_never(self, request) else ""


NEVER = (
    Misconception(
        "the null block is counted",
        "Block 0 is never handed out: a pool of 5 blocks has 4.",
        counts_the_null_block,
    ),
    Misconception(
        "full blocks alone",
        "The last tokens of a prompt need a block as well: round up.",
        floors_the_blocks,
    ),
    Misconception(
        "room for the answer",
        "An answer may end at the limit. Only a prompt that cannot be computed can never be "
        "served.",
        answer_too,
    ),
    Misconception(
        "room for the answer, in a step as well",
        "An answer may end at the limit, and none of its tokens is in the step that computes the "
        "prompt: the prompt alone counts.",
        answer_everywhere,
    ),
    Misconception(
        "one step for each prompt",
        "With chunked prefill a prompt is computed in as many steps as it takes.",
        budget_always,
    ),
    Misconception(
        "steps are forgotten",
        "Without chunked prefill a prompt must be computed in one step, and a step has a budget.",
        budget_never,
    ),
    Misconception(
        "what is free now",
        "What others hold now they give back one day. The question is about never.",
        free_now,
    ),
    Misconception("one too strict", "A prompt that just fits can be computed.", one_too_strict),
    Misconception(
        "a reason without its two numbers",
        "Who is refused asks by how much: the sentence names the prompt's tokens and the limit "
        "that they exceed.",
        without_numbers,
    ),
    Misconception(
        "raises",
        "A reason is returned: who asks decides what to do with it.",
        raises,
    ),
)

# 13.5, abort


def _ids(request_ids: str | Iterable[str]) -> list[str]:
    return [request_ids] if isinstance(request_ids, str) else list(dict.fromkeys(request_ids))


def goes_through_twice(
    self: Scheduler, request_ids: str | Iterable[str], status: RequestStatus
) -> None:
    """Look whether anybody is named that is there, then end them."""
    _require(status)
    named = [request_ids] if isinstance(request_ids, str) else request_ids
    if any(name in self.requests for name in named):
        Scheduler.finish_requests(self, named, status)


def sorts_what_is_named(
    self: Scheduler, request_ids: str | Iterable[str], status: RequestStatus
) -> None:
    """Put the ids in order first."""
    if isinstance(request_ids, list):
        request_ids.sort()
    Scheduler.finish_requests(self, request_ids, status)


def _known(self: Scheduler, request_ids: str | Iterable[str]) -> list[Request]:
    return [self.requests[name] for name in _ids(request_ids) if name in self.requests]


def _require(status: RequestStatus, requests: Iterable[Request] = ()) -> None:
    if not status.is_finished:
        raise ValueError(f"{status.value} is no end")
    for request in requests:
        request.require_transition(status)


def stays_in_its_queue(
    self: Scheduler, request_ids: str | Iterable[str], status: RequestStatus
) -> None:
    """Free what it holds, and leave it in the queue."""
    ended = _known(self, request_ids)
    _require(status, ended)
    for request in ended:
        if request.status is RequestStatus.SWAPPED:
            self.swap_space.release(request.request_id)
        request.status = status
    self.let_go(ended)


def always_stopped(
    self: Scheduler, request_ids: str | Iterable[str], status: RequestStatus
) -> None:
    """Take no note of the status."""
    ended = _known(self, request_ids)
    _require(status, ended)
    for request in ended:
        self.leave_queue(request)
        is_running = request.status is RequestStatus.RUNNING
        request.status = (
            RequestStatus.FINISHED_STOPPED if is_running else RequestStatus.FINISHED_ABORTED
        )
    self.let_go(ended)


def unknown_is_an_error(
    self: Scheduler, request_ids: str | Iterable[str], status: RequestStatus
) -> None:
    """Look each id up."""
    ended = [self.requests[name] for name in _ids(request_ids)]
    Scheduler.finish_requests(self, [each.request_id for each in ended], status)


def one_after_the_other(
    self: Scheduler, request_ids: str | Iterable[str], status: RequestStatus
) -> None:
    """End one, then look whether the next can end."""
    _require(status)
    for name in _ids(request_ids):
        Scheduler.finish_requests(self, name, status)


def asks_as_it_goes(
    self: Scheduler, request_ids: str | Iterable[str], status: RequestStatus
) -> None:
    """Ask each whether it may end so only when those before it have been changed."""
    _require(status)
    ended = _known(self, request_ids)
    for request in ended:
        request.require_transition(status)
        self.leave_queue(request)
        request.status = status
    self.let_go(ended)


def status_before_the_queue(
    self: Scheduler, request_ids: str | Iterable[str], status: RequestStatus
) -> None:
    """Set the status, then look for the queue by it."""
    ended = _known(self, request_ids)
    _require(status, ended)
    for request in ended:
        request.status = status
        self.leave_queue(request)
    self.let_go(ended)


def letter_by_letter(
    self: Scheduler, request_ids: str | Iterable[str], status: RequestStatus
) -> None:
    """Take the letters of one id for several ids."""
    Scheduler.finish_requests(self, list(request_ids), status)


def keeps_the_blocks(
    self: Scheduler, request_ids: str | Iterable[str], status: RequestStatus
) -> None:
    """Forget the request, and leave its blocks where they are."""
    ended = _known(self, request_ids)
    _require(status, ended)
    for request in ended:
        self.leave_queue(request)
        request.status = status
        del self.requests[request.request_id]
        self.finished_req_ids.add(request.request_id)
    self.running[:] = [each for each in self.running if each.request_id in self.requests]


def keeps_the_cpu_blocks(
    self: Scheduler, request_ids: str | Iterable[str], status: RequestStatus
) -> None:
    """Leave what is on the CPU where it is."""
    ended = _known(self, request_ids)
    _require(status, ended)
    for request in ended:
        if request.status is RequestStatus.SWAPPED:
            self.swapped.remove(request)
        else:
            self.leave_queue(request)
        request.status = status
    self.let_go(ended)


def tells_nobody(self: Scheduler, request_ids: str | Iterable[str], status: RequestStatus) -> None:
    """Let the executor keep its table."""
    told = set(self.finished_req_ids)
    Scheduler.finish_requests(self, request_ids, status)
    self.finished_req_ids = told


def refuses_for_somebody(
    self: Scheduler, request_ids: str | Iterable[str], status: RequestStatus
) -> None:
    """Ask for the status when somebody is there."""
    names = [name for name in _ids(request_ids) if name in self.requests]
    if names:
        Scheduler.finish_requests(self, names, status)


def any_status(self: Scheduler, request_ids: str | Iterable[str], status: RequestStatus) -> None:
    """Believe each status that is given."""
    if status.is_finished:
        Scheduler.finish_requests(self, request_ids, status)
        return
    ended = _known(self, request_ids)
    for request in ended:
        self.leave_queue(request)
    self.let_go(ended)


def runs_alone(self: Scheduler, request_ids: str | Iterable[str], status: RequestStatus) -> None:
    """End only those who run."""
    _require(status)
    running = [each.request_id for each in self.running]
    names = [name for name in _ids(request_ids) if name in running]
    Scheduler.finish_requests(self, names, status)


FINISH = (
    Misconception(
        "still in its queue",
        "Who has ended stands in no queue any more: the next plan would serve it, without blocks.",
        stays_in_its_queue,
    ),
    Misconception(
        "always stopped",
        "Why a request ended is given, and is told to whoever asks: an abort is no stop.",
        always_stopped,
    ),
    Misconception(
        "an unknown id is an error",
        "The client's message may cross with the end of its request: who is not there is passed "
        "over.",
        unknown_is_an_error,
    ),
    Misconception(
        "one after the other",
        "If one cannot end so, nothing changes: look at all of them before you touch the first.",
        one_after_the_other,
    ),
    Misconception(
        "asked one by one",
        "When the second one cannot end so, the first has been changed already: ask all of them "
        "before you touch the first.",
        asks_as_it_goes,
    ),
    Misconception(
        "the status before the queue",
        "`leave_queue` learns from the status in which queue a request is. Once the status says "
        "that it has ended, it is looked for in the wrong one: leave the queue first.",
        status_before_the_queue,
    ),
    Misconception(
        "a name letter by letter",
        "One id is a text, and a text is a row of letters: whoever goes through it ends those who "
        "are called like its letters.",
        letter_by_letter,
    ),
    Misconception(
        "the ids are gone through twice",
        "`request_ids` is an iterable, and an iterator is empty after one pass: make a list of it "
        "first.",
        goes_through_twice,
    ),
    Misconception(
        "the ids are put in order",
        "The list of ids is the caller's: it is read, not sorted.",
        sorts_what_is_named,
    ),
    Misconception(
        "the blocks stay",
        "Whoever is forgotten with its blocks leaks them, and no token ever shows it.",
        keeps_the_blocks,
    ),
    Misconception(
        "the CPU blocks stay",
        "Who is swapped out holds blocks on the CPU: they are given back as well.",
        keeps_the_cpu_blocks,
    ),
    Misconception(
        "the executor is not told",
        "The executor keeps a block table until a plan says that its request has ended.",
        tells_nobody,
    ),
    Misconception(
        "a status of nobody",
        "A status that is no end is refused, whoever is named: who calls has made a mistake, also "
        "where nobody is there.",
        refuses_for_somebody,
    ),
    Misconception(
        "any status is an end",
        "To be preempted or to wait is no way to finish: a ValueError says so, and nothing "
        "changes.",
        any_status,
    ),
    Misconception(
        "only who runs",
        "A client may go away while its request waits, or is swapped out.",
        runs_alone,
    ),
)
