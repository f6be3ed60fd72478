"""An engine whose model can be worked out by hand: a token's key is the token itself.

Scheduler, cache manager, block tables, batches, swaps and copies are those of the real engine. Only
the model is another one: it writes each token into its slot, reads the slots of the sequence back,
and the next token follows from the numbers that stand there (``next_token``). So whoever moves a
block too late, or reads a slot that belongs to somebody else, gets another number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from course_lib.attention.backends.backend import choose_backend
from course_lib.engine.answer import Answer, AnswerGroup
from course_lib.engine.config import LlamaConfig
from course_lib.engine.core import EngineCore, StepRecord
from course_lib.engine.engine_parts import EngineParts
from course_lib.engine.executor import Batch, Executor, LiveSequence, StepResult
from course_lib.engine.kv_store import PagedKVStore
from course_lib.engine.outputs import RequestMetrics
from course_lib.engine.request import EngineRequest
from course_lib.engine.sampler import SamplingRow
from course_lib.engine.sampling_params import SamplingParams
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import Request
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig, SchedulerOutput
from course_lib.scheduling.watch.notation import StepLine
from course_lib.scheduling.watch.state import SchedulerState

VOCABULARY = 97
"""Tokens of the model: 0 to 96."""

_SHAPE = LlamaConfig("llama", VOCABULARY, 2, 1, 1, 1, 1, 2)
"""One layer and one head, of the least width that there is; of a key the first number counts."""

Told = dict[str, Any]
"""What happened in a step, in plain data, by what it is of."""


def next_token(tokens: Sequence[float]) -> int:
    """Return the token that follows: each number times its place, from 1 on, summed.

    >>> next_token([5, 6]), next_token([6, 5])
    (17, 16)
    """
    return int(sum(place * token for place, token in enumerate(tokens, start=1))) % VOCABULARY


class _LastPlan:
    """The log of a scheduler that keeps its last plan, as a line and as it was."""

    def __init__(self) -> None:
        self.line = ""
        self._plan = SchedulerOutput()

    def record_preemption(
        self, scheduler: Scheduler, victim: Request, winner: Request, num_new_tokens: int
    ) -> None:
        """Pass it over: the line shows who gave way."""

    def record_step(self, scheduler: Scheduler, output: SchedulerOutput) -> None:
        """Keep the line of a plan."""
        line = str(StepLine.of(0, output, SchedulerState.of(scheduler)))
        self.line = line.removeprefix("step 0").strip()
        self._plan = replace(
            output, **{field.name: copy(getattr(output, field.name)) for field in fields(output)}
        )

    def is_still(self, output: SchedulerOutput) -> bool:
        """Say whether the last plan is as it was."""
        was = [getattr(self._plan, field.name) for field in fields(output)]
        return was == [getattr(output, field.name) for field in fields(output)]


class _Call(NamedTuple):
    """A call that a step made.

    Attributes:
        name: The method.
        began: When it was called, seconds of ``time.monotonic``.
        over: When it came back.
    """

    name: str
    began: float
    over: float


class _Calls:
    """The calls that a step makes, with their times."""

    def __init__(self) -> None:
        self.made: list[_Call] = []

    def watch(self, owner: Any, name: str) -> None:
        """Note from now on each call of an object's method."""
        method = getattr(owner, name)

        def watched(*args: Any, **others: Any) -> Any:
            began = _later()
            result = method(*args, **others)
            self.made.append(_Call(name, began, _later()))
            return result

        setattr(owner, name, watched)

    def place_of(self, moment: Any, before: float, after: float) -> str:
        """Say between which calls a time lies.

        Args:
            moment: What stands for a time.
            before: The step had not begun.
            after: The step was over.
        """
        if not isinstance(moment, float):
            return f"no time, but {type(moment).__name__}"
        if not before <= moment <= after:
            return "no time within this step"
        timed = [call for call in self.made if call.name != "fork"]
        done = [call.name for call in timed if call.over <= moment]
        ahead = [call.name for call in timed if moment <= call.began]
        if len(done) + len(ahead) < len(timed):
            return "within a call"
        last, first = done[-1:], ahead[:1]
        if last and first:
            return f"between {last[0]} and {first[0]}"
        return f"behind {last[0]}" if last else f"before {first[0]}" if first else "without a call"


class _Read:
    """Stands for an object, and tells when something of it is read."""

    def __init__(self, of: Any, note: Callable[[], None]) -> None:
        self._of = of
        self._note = note

    def __getattr__(self, name: str) -> Any:
        self._note()
        return getattr(self._of, name)


def _later() -> float:
    """Return the time when the clock has moved on, so that what comes after has another one."""
    start = time.monotonic()
    while (now := time.monotonic()) <= start:
        pass
    return now


class HandExecutor(Executor):
    """An executor with the model that can be worked out by hand, and a scheduler before it.

    Args:
        num_blocks: Blocks of the KV cache, the null block included.
        block_size: Tokens per block.
        num_cpu_blocks: Blocks on the CPU; with some, who is preempted is swapped out.
        caching: Whether prefixes are kept.
        **limits: Fields of ``SchedulerConfig``.

    Attributes:
        scheduler: Plans the steps.
        core: Runs them.
        num_model_calls: How often the model was run.
        num_computed: How many tokens it computed.
        num_rows: For how many rows logits were asked for.
        chosen_for: For whom the sampler chose in this step.
        logits_at: When the last logits of this step were there; None if there are none.
        sampling_at: When the first token of this step began to be chosen; None if none was.

    >>> executor = HandExecutor(num_blocks=9)
    >>> executor.add("a", [5, 6], max_tokens=2)
    >>> told = executor.run_step()
    >>> told["plan"], told["sampled"], told["tables"]
    ('a:2*  | -', {'a': 17}, {'a': [1]})
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int = 2,
        num_cpu_blocks: int = 0,
        caching: bool = False,
        **limits: Any,
    ) -> None:
        if num_cpu_blocks:
            limits |= {"preemption_mode": "swap", "num_cpu_blocks": num_cpu_blocks}
        manager = KVCacheManager(num_blocks, block_size, caching)
        self._log = _LastPlan()
        self.scheduler = Scheduler(SchedulerConfig(**limits), manager, log=self._log)
        model: Any = SimpleNamespace(config=_SHAPE, device=torch.device("cpu"))
        store = PagedKVStore(_SHAPE, num_blocks, block_size, num_cpu_blocks=num_cpu_blocks)
        super().__init__(model, store, choose_backend("cpu", "pytorch"), manager.get_block_ids)
        self.core = EngineCore(self.scheduler, self, EngineParts.reference())
        self.num_model_calls = self.num_computed = self.num_rows = 0
        self.chosen_for: set[str] = set()
        self.logits_at: float | None = None
        self.sampling_at: float | None = None

    def compute_logits(self, batch: Batch, rows: Sequence[int]) -> Tensor:
        """Write each token into its slot, read the sequences back, and say what follows."""
        self.num_model_calls += 1
        self.num_computed += len(batch.token_ids)
        self.num_rows += len(rows)
        keys = self.kv_store.key_caches[0]
        keys.view(-1, 2)[batch.paged.slot_mapping] = batch.token_ids.float()[:, None]
        logits = torch.zeros(len(rows), VOCABULARY)
        starts = batch.paged.query_starts.tolist()
        for number, row in enumerate(rows):
            sequence = max(place for place, start in enumerate(starts) if start <= row)
            blocks = keys[batch.paged.block_tables[sequence].long()]
            known = blocks[:, :, 0, 0].flatten()[: int(batch.positions[row]) + 1]
            logits[number, next_token(known.tolist())] = 1.0
        self.logits_at = _later()
        return logits

    def sampling_row(self, sequence: LiveSequence) -> SamplingRow:
        """Return what the sampler has to know, and note when it begins to read it."""
        row, name = super().sampling_row(sequence), sequence.request.request_id
        read: Any = _Read(row.params, lambda: self._note_sampling(name))
        return replace(row, params=read)

    def _note_sampling(self, name: str) -> None:
        self.chosen_for.add(name)
        if self.sampling_at is None:
            self.sampling_at = _later()
            _later()

    def add(self, name: str, prompt: Sequence[int], max_tokens: int, n: int = 1) -> None:
        """Let a request come, with ``n`` answers to its prompt."""
        _add(self.core, name, prompt, max_tokens, n)

    def abort(self, name: str) -> None:
        """End a request from outside."""
        self.core.abort([name])

    def run_step(self) -> Told:
        """Run a step of the engine, and tell what came of it."""
        began = _later()
        self.num_model_calls = self.num_computed = self.num_rows = 0
        self.logits_at = self.sampling_at = None
        self.chosen_for.clear()
        record = self.core.step()
        told = _told(self.core, record)
        told["model calls"] = self.num_model_calls
        told["tokens computed"] = self.num_computed
        told["logits for nobody"] = max(0, self.num_rows - len(record.sampled))
        told["chosen for"] = sorted(self.chosen_for)
        told["plan left as it was"] = self._log.is_still(record.output)
        told["computed_at"] = self._place_of(record.computed, began, _later())
        return told

    def run_plan(self) -> Told:
        """Carry the next plan out without forks, the last one planned first, and tell of it.

        The scheduler is told; answers are not.

        >>> executor = HandExecutor(num_blocks=9)
        >>> executor.add("a", [5, 6], max_tokens=2)
        >>> executor.add("b", [1], max_tokens=2)
        >>> executor.run_plan()
        {'sampled': {'b': 1, 'a': 17}, 'tables': {'a': [1], 'b': [2]}}
        """
        output = self.scheduler.schedule()
        backwards = dict(reversed(output.num_scheduled_tokens.items()))
        result = self.execute(replace(output, num_scheduled_tokens=backwards))
        sampled = {name: token.token_id for name, token in result.sampled.items()}
        self.scheduler.update_from_output(output, sampled)
        return {"sampled": sampled, "tables": self.block_tables()}

    def _place_of(self, computed_at: Any, began: float, over: float) -> str:
        """Say where in a step the time of the logits lies."""
        if not isinstance(computed_at, float) or not began <= computed_at <= over:
            return "no time within this step"
        if self.logits_at is None:
            return "within the step"
        if computed_at < self.logits_at:
            return "before the model is done"
        chosen = self.sampling_at is not None and computed_at > self.sampling_at
        return "behind sampling" if chosen else "between model and sampling"

    def move_blocks(
        self,
        swap_out: Sequence[tuple[int, int]] = (),
        swap_in: Sequence[tuple[int, int]] = (),
        copies: Sequence[tuple[int, int]] = (),
    ) -> dict[str, list[int]]:
        """Carry out a plan that only moves blocks, from a cache in which each block is marked.

        Device block ``i`` holds ``i`` before, and CPU block ``i`` holds ``50 + i``.

        Args:
            swap_out: (device block, CPU block).
            swap_in: (CPU block, device block).
            copies: (source, destination).

        Returns:
            What the blocks of the device and of the CPU hold afterwards.

        >>> HandExecutor(num_blocks=4, num_cpu_blocks=2).move_blocks(swap_out=[(2, 0)])
        {'device': [0, 1, 2, 3], 'cpu': [2, 51]}
        """
        store = self.kv_store
        _mark(store, [50 + block for block in range(store.num_cpu_blocks)])
        store.swap_out([(block, block) for block in range(store.num_cpu_blocks)])
        _mark(store, list(range(store.num_blocks)))
        plan = SchedulerOutput()
        plan.blocks_to_swap_out += swap_out
        plan.blocks_to_swap_in += swap_in
        plan.blocks_to_copy += copies
        self.execute(plan)
        device = _marks(store, store.num_blocks)
        store.swap_in([(block, block) for block in range(store.num_cpu_blocks)])
        return {"device": device, "cpu": _marks(store, store.num_cpu_blocks)}


class HandCore(EngineCore):
    """The core of an engine with the model that can be worked out by hand.

    Args:
        num_blocks: Blocks of the KV cache, the null block included.
        **others: Arguments of ``HandExecutor``.

    >>> core = HandCore(num_blocks=9)
    >>> core.add_prompt("a", [5, 6], max_tokens=1)
    >>> told = core.run_step()
    >>> told["plan"], told["answers"], told["steps"]
    ('a:2*  | -', {'a': [17]}, 1)
    """

    def __init__(self, num_blocks: int, **others: Any) -> None:
        executor = HandExecutor(num_blocks, **others)
        super().__init__(executor.scheduler, executor, EngineParts.reference())
        self._all: dict[str, Answer] = {}
        self._calls = _Calls()
        self._told_scheduled: Any = None
        self._computed_at: Any = None
        for owner, name in (
            (self.scheduler, "schedule"),
            (self, "fork"),
            (self.executor, "execute"),
            (self.scheduler, "update_from_output"),
            (self, "take_in"),
        ):
            self._calls.watch(owner, name)

    def add_prompt(self, name: str, prompt: Sequence[int], max_tokens: int, n: int = 1) -> None:
        """Let a request come, with ``n`` answers to its prompt."""
        _add(self, name, prompt, max_tokens, n)
        self._all |= {each: answer for each, (_, answer) in self.answers.items()}

    def end(self, name: str) -> None:
        """End a request from outside."""
        self.abort([name])

    def take_in(self, output: SchedulerOutput, result: StepResult, scheduled: float) -> None:
        """Take in a step's tokens, and remember the times of it."""
        super().take_in(output, result, scheduled)
        self._told_scheduled, self._computed_at = scheduled, result.computed_at

    def run_step(self, fetches: bool = True) -> Told:
        """Run a step, and tell what came of it, up to what the users see.

        Args:
            fetches: Whether the news are fetched; if not, they are still there after the next one.
        """
        self._calls.made.clear()
        self._told_scheduled = self._computed_at = None
        before = _later()
        record = self.step()
        after = _later()
        self._require_a_record(record)
        told = _told(self, record)
        told["answers"] = {
            name: list(self._all[name].request.output_token_ids) for name in record.sampled
        }
        told["ended"] = {
            name: str(answer.finish_reason)
            for name, answer in self._all.items()
            if answer.finish_reason
        }
        told["told of"] = {
            name: "its answer" if answer is self._all.get(name) else type(answer).__name__
            for name, answer in sorted(record.answers.items())
        }
        told["forked"] = dict(record.forked)
        news = self.fetch_changed() if fetches else []
        told["news"] = [group.request_id for group in news]
        told["number"], told["steps"] = record.index, self.metrics.num_steps
        told["calls"] = [call.name for call in self._calls.made]
        told["times"] = {
            name: self._calls.place_of(getattr(record, name), before, after)
            for name in ("started", "scheduled", "sampled_at", "finished")
        }
        if record.computed == self._computed_at:
            told["times"]["computed"] = "computed_at of the result"
        else:
            told["times"]["computed"] = "another time"
        as_planned = self._told_scheduled == record.scheduled
        told["times"]["told to take_in"] = "scheduled" if as_planned else "another time"
        return told

    def _require_a_record(self, record: Any) -> None:
        """Say what is no record of a step, or what it has done to the news."""
        if not isinstance(record, StepRecord):
            raise TypeError(f"step returned {record!r:.40}; a StepRecord is asked for")
        for name in ("sampled", "answers", "forked"):
            if not isinstance(getattr(record, name), Mapping):
                raise TypeError(
                    f"{name} of the record is {_a_kind(getattr(record, name))}; a dict is asked "
                    "for, by the id of the request"
                )
        if not isinstance(self.changed, dict):
            raise TypeError(
                f"changed is {_a_kind(self.changed)} now, and was a dict; take_in puts into it who "
                "has something new, and returns nothing"
            )


def _a_kind(value: Any) -> str:
    """Say what kind of thing a value is.

    >>> _a_kind([]), _a_kind(None), _a_kind(3)
    ('a list', 'None', 'an int')
    """
    kind = type(value).__name__
    if value is None:
        return "None"
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _add(core: EngineCore, name: str, prompt: Sequence[int], max_tokens: int, n: int) -> None:
    """Give a core a request with ``n`` answers; its tokens are the most probable ones."""
    params = SamplingParams(temperature=0, max_tokens=max_tokens, n=n, ignore_eos=True)
    names = [name, *(f"{index}_{name}" for index in range(1, n))]
    requests = [EngineRequest(each, prompt, params, seed=i) for i, each in enumerate(names)]
    answers = [Answer(request, prompt, (), None) for request in requests]
    core.add(AnswerGroup(name, None, list(prompt), answers, RequestMetrics(0.0)))


def _told(core: EngineCore, record: StepRecord) -> Told:
    """Tell what the plan was, what came of it, and what the executor keeps."""
    assert isinstance(core.scheduler.log, _LastPlan)
    return {
        "plan": core.scheduler.log.line,
        "sampled": dict(record.sampled),
        "tables": core.executor.block_tables(),
    }


def _mark(store: PagedKVStore, marks: Sequence[int]) -> None:
    """Write a number into each of the first blocks of a store."""
    for block, mark in enumerate(marks):
        store.key_caches[0][block] = mark
        store.value_caches[0][block] = mark


def _marks(store: PagedKVStore, num_blocks: int) -> list[int]:
    """Return the number that stands in each of the first blocks."""
    return [int(store.key_caches[0][block].flatten()[0]) for block in range(num_blocks)]
