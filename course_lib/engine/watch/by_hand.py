"""An engine whose model can be worked out by hand: a token's key is the token itself.

Scheduler, cache manager, block tables, batches, swaps and copies are those of the real engine. Only
the model is another one: it writes each token into its slot, reads the slots of the sequence back,
and the next token follows from the numbers that stand there (``next_token``). So whoever moves a
block too late, or reads a slot that belongs to somebody else, gets another number.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from course_lib.attention.backends.backend import choose_backend
from course_lib.engine.answer import Answer, AnswerGroup
from course_lib.engine.config import LlamaConfig
from course_lib.engine.core import EngineCore, StepRecord
from course_lib.engine.engine_parts import EngineParts
from course_lib.engine.executor import Batch, Executor, StepResult
from course_lib.engine.kv_store import PagedKVStore
from course_lib.engine.outputs import RequestMetrics
from course_lib.engine.request import EngineRequest
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
    """The log of a scheduler that keeps its last plan, as a line."""

    def __init__(self) -> None:
        self.line = ""

    def record_preemption(
        self, scheduler: Scheduler, victim: Request, winner: Request, num_new_tokens: int
    ) -> None:
        """Pass it over: the line shows who gave way."""

    def record_step(self, scheduler: Scheduler, output: SchedulerOutput) -> None:
        """Keep the line of a plan."""
        line = str(StepLine.of(0, output, SchedulerState.of(scheduler)))
        self.line = line.removeprefix("step 0").strip()


class _TakenIn(NamedTuple):
    """What a core was told when it took a step's tokens in.

    Attributes:
        scheduled: The time of the plan.
        computed_at: The time at which its logits were there.
        over: When all was taken in.
    """

    scheduled: float
    computed_at: float
    over: float


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
        self.scheduler = Scheduler(SchedulerConfig(**limits), manager, log=_LastPlan())
        model: Any = SimpleNamespace(config=_SHAPE, device=torch.device("cpu"))
        store = PagedKVStore(_SHAPE, num_blocks, block_size, num_cpu_blocks=num_cpu_blocks)
        super().__init__(model, store, choose_backend("cpu", "pytorch"), manager.get_block_ids)
        self.core = EngineCore(self.scheduler, self, EngineParts.reference())
        self.num_model_calls = 0
        self._logits_at = 0.0

    def compute_logits(self, batch: Batch, rows: Sequence[int]) -> Tensor:
        """Write each token into its slot, read the sequences back, and say what follows."""
        self.num_model_calls += 1
        keys = self.kv_store.key_caches[0]
        keys.view(-1, 2)[batch.paged.slot_mapping] = batch.token_ids.float()[:, None]
        logits = torch.zeros(len(rows), VOCABULARY)
        starts = batch.paged.query_starts.tolist()
        for number, row in enumerate(rows):
            sequence = max(place for place, start in enumerate(starts) if start <= row)
            blocks = keys[batch.paged.block_tables[sequence].long()]
            known = blocks[:, :, 0, 0].flatten()[: int(batch.positions[row]) + 1]
            logits[number, next_token(known.tolist())] = 1.0
        self._logits_at = time.monotonic()
        return logits

    def add(self, name: str, prompt: Sequence[int], max_tokens: int, n: int = 1) -> None:
        """Let a request come, with ``n`` answers to its prompt."""
        _add(self.core, name, prompt, max_tokens, n)

    def abort(self, name: str) -> None:
        """End a request from outside."""
        self.core.abort([name])

    def run_step(self) -> Told:
        """Run a step of the engine, and tell what came of it."""
        before, self._logits_at = self.num_model_calls, 0.0
        record = self.core.step()
        told = _told(self.core, record)
        told["model calls"] = self.num_model_calls - before
        told["computed_at is behind the model"] = record.computed >= self._logits_at
        return told

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
        self._taken_in: _TakenIn | None = None

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
        self._taken_in = _TakenIn(scheduled, result.computed_at, time.monotonic())

    def run_step(self) -> Told:
        """Run a step, and tell what came of it, up to what the users see."""
        self._taken_in = None
        record = self.step()
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
        told["news"] = [group.request_id for group in self.fetch_changed()]
        told["number"], told["steps"] = record.index, self.metrics.num_steps
        times = (
            record.started,
            record.scheduled,
            record.computed,
            record.sampled_at,
            record.finished,
        )
        told["times rise"] = list(times) == sorted(times)
        told |= _times_told(self._taken_in, record)
        return told


def _times_told(taken_in: _TakenIn | None, record: StepRecord) -> Told:
    """Compare the times in a record with those that the core was told."""
    if taken_in is None:
        return {"take_in has the time of the plan": "take_in was not called"}
    return {
        "take_in has the time of the plan": taken_in.scheduled == record.scheduled,
        "computed is the result's computed_at": taken_in.computed_at == record.computed,
        "finished is behind take_in": taken_in.over <= record.finished,
    }


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
