"""The driver: runs an engine on a model and a memory of its own, and counts what it is asked for.

The engine, which may be a learner's in a process of its own, says which tokens are to be computed,
where their keys and values go and which blocks are moved. It is the driver that computes and moves,
so no engine has it cheaper than it is counted. And none is given an answer for nothing:

- each token that is computed must be known by then: a prompt's, or one that was delivered;
- each token that is delivered must have come of such a computation;
- and all of them must be those of the plain model, computed at once and without a cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autograder.checks.finding import CHECKED, Counterexample
from autograder.checks.show import show_outcome
from autograder.project.mixes import Mix
from autograder.proxy.host import one_thread
from autograder.proxy.recipes import Callback
from autograder.proxy.subject import ITSELF, Raised, Subject
from autograder.proxy.wire import Ref
from course_lib.attention.backends.backend import choose_backend
from course_lib.attention.batch import PagedBatch
from course_lib.engine.checkpoint import load_checkpoint
from course_lib.engine.driven import DrivenRequest, Move, engine_of, run_driven
from course_lib.engine.kv_store import PagedKVStore
from course_lib.engine.memory import model_spec
from course_lib.engine.model import LlamaModel, dense_causal
from course_lib.engine.tokenizer import checkpoint_folder
from course_lib.kv_cache.sizing import kv_bytes_per_token

_TIE = 1e-3
"""Logits that differ by less may change places when they are computed in another order."""

Name = tuple[str, int]
"""A request, and the number of an answer to it."""


class DriverError(Exception):
    """An engine asked for what no request needs, or delivered what nobody computed."""


@dataclass(frozen=True)
class Counts:
    """What an engine asked for.

    Attributes:
        blocks: Blocks that sequences took.
        kv_bytes: Bytes of keys and values that entered the cache.
        model_calls: Runs of the model.
        tokens_computed: Tokens that it computed.
        tokens_delivered: Tokens that requests were given.
    """

    blocks: int = 0
    kv_bytes: int = 0
    model_calls: int = 0
    tokens_computed: int = 0
    tokens_delivered: int = 0

    def of(self, item: str) -> float:
        """Return what an item of the rubric looks at.

        >>> Counts(model_calls=3, tokens_computed=30, tokens_delivered=20).of("tokens_computed")
        1.5
        """
        if item == "tokens_computed":
            return self.tokens_computed / max(1, self.tokens_delivered)
        return float(getattr(self, item))


@dataclass(frozen=True)
class Run:
    """What came of a driven run.

    Attributes:
        counts: What was asked for.
        problem: Where it went wrong; None if all answers are right.
    """

    counts: Counts
    problem: Counterexample | None = None


def drive(subject: Subject, mix: Mix) -> Run:
    """Have an engine serve requests.

    Args:
        subject: The pieces of the engine, as ``EngineParts.of_pieces`` takes them.
        mix: The requests, and the options of the engine.
    """
    driver = _Driver(mix)
    made = subject.apply(engine_of, [ITSELF, dict(mix.options)])
    if isinstance(made, Raised) or not isinstance(made.value, Ref):
        return Run(Counts(), _stopped(mix, made))
    callbacks = [Callback(each) for each in (driver.compute, driver.move, driver.report)]
    with one_thread():
        done = subject.apply(run_driven, [made.value, mix.as_data(), *callbacks])
        problem = driver.problem
        if problem is None and isinstance(done, Raised):
            problem = _stopped(mix, done)
        return Run(driver.counts, problem or driver.difference())


def _stopped(mix: Mix, outcome: Any) -> Counterexample:
    """Return what to say of an engine that cannot be made, or does not come to an end."""
    raised = outcome if isinstance(outcome, Raised) else None
    line = (raised.line if raised else "") or ""
    return Counterexample(
        _case(mix), "an answer to each", show_outcome(outcome), line, raised=raised, label=CHECKED
    )


def _case(mix: Mix) -> str:
    options = ", ".join(f"{name}={value!r}" for name, value in mix.options.items())
    return f"LLM({options}) serves {len(mix.requests)} requests: {mix.says}"


class _Driver:
    """The driver's side of one run.

    Args:
        mix: The requests, and the options of the engine.

    Attributes:
        counts: What was asked for so far.
        problem: What was wrong first; None if nothing was.
    """

    def __init__(self, mix: Mix) -> None:
        self._mix = mix
        options = mix.options
        self._model = _model()
        self._backend = choose_backend("cpu", "pytorch")
        self._size, num_blocks = options["block_size"], options["num_blocks"]
        self._store = PagedKVStore(
            self._model.config,
            num_blocks,
            self._size,
            num_cpu_blocks=options.get("num_cpu_blocks", 0),
        )
        self._token_bytes = kv_bytes_per_token(model_spec(self._model))
        requests = enumerate(mix.requests)
        self._known: dict[Name, list[int]] = {
            (str(number), index): list(request.prompt)
            for number, request in requests
            for index in range(request.n)
        }
        self._offered: dict[tuple[Name, int], set[int]] = {}
        self._ahead: set[tuple[int, Name]] = set()
        self._counts = Counts()
        self._steps = 0
        self.problem: Counterexample | None = None

    @property
    def counts(self) -> Counts:
        """What was asked for so far, blocks included that are held and were never filled."""
        return replace(self._counts, blocks=self._counts.blocks + len(self._ahead))

    def compute(
        self,
        token_ids: NDArray[np.int64],
        positions: NDArray[np.int64],
        slots: NDArray[np.int64],
        block_tables: NDArray[np.int32],
        context_lens: NDArray[np.int32],
        query_starts: NDArray[np.int32],
    ) -> NDArray[np.float32]:
        """Run the model over a batch; return the last hidden states."""
        where = [each.tolist() for each in (block_tables, context_lens, query_starts)]
        owners = self._owners(token_ids.tolist(), positions.tolist(), where[1], where[2])
        tables: list[list[int]] = where[0]
        lens = [end - start for start, end in pairwise(where[2])]
        # Checked anew: slots and tables are the engine's, and may be anything.
        batch = replace(
            PagedBatch.of(
                tables, where[1], lens, num_blocks=self._store.num_blocks, block_size=self._size
            ),
            slot_mapping=torch.from_numpy(slots),
        )
        with torch.inference_mode():
            attend = self._store.attend(batch, self._backend)
            hidden = self._model(torch.from_numpy(token_ids), torch.from_numpy(positions), attend)
            best = self._model.logits(hidden).argmax(-1).tolist()
        self._note(owners, positions.tolist(), best, where[2])
        self._count(slots.tolist(), owners, tables, where[1])
        return np.asarray(hidden.numpy())

    def move(self, move: Move, pairs: Sequence[tuple[int, int]]) -> None:
        """Move blocks, and count those that are taken by it."""
        if move == "swap_out":
            self._store.swap_out(pairs)
            return
        if move == "swap_in":
            self._store.swap_in(pairs)
        else:
            self._store.copy(pairs, self._backend)
        self._add(len(pairs), len(pairs) * self._size)

    def report(self, delivered: Sequence[tuple[str, int, list[int]]]) -> None:
        """Take in the answers as far as they have come."""
        for request_id, index, tokens in delivered:
            name = request_id, index
            if name not in self._known:
                raise self._wrong("an answer to a request", f"an answer {index} to {request_id!r}")
            start = len(self._prompt(name))
            have = self._known[name][start:]
            if tokens[: len(have)] != have:
                raise self._wrong(
                    f"the answer to request {request_id} goes on from {have}", f"{tokens}"
                )
            for token in tokens[len(have) :]:
                position = len(self._known[name]) - 1
                if token not in self._offered.get((name, position), ()):
                    raise self._wrong(
                        f"request {request_id} gets what the model says behind token {position}",
                        f"token {token}, which no run of the model has said there",
                    )
                self._known[name].append(token)
                more = self._counts.tokens_delivered + 1
                self._counts = replace(self._counts, tokens_delivered=more)
        self._count_step()

    def difference(self) -> Counterexample | None:
        """Return the first answer that is not the plain model's; None if there is none."""
        for name, known in self._known.items():
            prompt, wanted = self._prompt(name), self._request(name).max_tokens
            answer = known[len(prompt) :]
            who = f"request {name[0]} ({len(prompt)} tokens of prompt), answer {name[1]}"
            if len(answer) != wanted:
                return self._seen(f"{who}: {wanted} tokens", f"{len(answer)} tokens: {answer}")
            logits = _plain_logits(known[:-1])[len(prompt) - 1 :]
            short = logits.max(-1).values - logits.gather(-1, torch.tensor(answer)[:, None])[:, 0]
            wrong = (short > _TIE).nonzero()
            if len(wrong):
                at = int(wrong[0])
                right = int(logits[at].argmax())
                return self._seen(f"{who}: token {at} is {right}", f"{answer[at]}")
        return None

    def _count_step(self) -> None:
        """Count a step, and stop an engine that takes far more of them than its requests need."""
        self._steps += 1
        most = self._mix.most_steps
        if self._steps <= most:
            return
        whole = sum(
            len(known) - len(self._prompt(name)) >= self._request(name).max_tokens
            for name, known in self._known.items()
        )
        raise self._wrong(
            f"an end within {most} steps",
            f"none: after {most} steps {whole} of {len(self._known)} answers have all their "
            "tokens, and it goes on",
        )

    def _owners(
        self, tokens: list[int], positions: list[int], contexts: list[int], starts: list[int]
    ) -> list[list[Name]]:
        """Return for each sequence of a batch whose it may be: those who know its tokens."""
        owners = []
        for context, (start, end) in zip(contexts, pairwise(starts), strict=True):
            chunk, first = tokens[start:end], context - (end - start)
            if positions[start:end] != list(range(first, context)):
                raise self._wrong(
                    f"the last {end - start} positions of a context of {context} tokens",
                    f"positions {positions[start:end]}",
                )
            mine = [name for name, known in self._known.items() if known[first:context] == chunk]
            if not mine:
                raise self._wrong(
                    "tokens that a request knows",
                    f"tokens {chunk} at positions {first} to {context - 1}, which none has there",
                )
            owners.append(mine)
        return owners

    def _note(
        self, owners: list[list[Name]], positions: list[int], best: list[int], starts: list[int]
    ) -> None:
        """Note which token the model says behind each that was computed."""
        for mine, (start, end) in zip(owners, pairwise(starts), strict=True):
            for name in mine:
                for position, token in zip(positions[start:end], best[start:end], strict=True):
                    self._offered.setdefault((name, position), set()).add(token)

    def _count(
        self,
        slots: list[int],
        owners: list[list[Name]],
        tables: list[list[int]],
        contexts: list[int],
    ) -> None:
        """Count a run of the model, what it wrote, and the blocks that it wrote or held first."""
        begun = {slot // self._size for slot in slots if slot % self._size == 0}
        self._ahead = {(block, name) for block, name in self._ahead if block not in begun}
        for mine, table, context in zip(owners, tables, contexts, strict=True):
            needed = -(-context // self._size)
            self._ahead |= {(block, mine[0]) for block in table[needed:] if block}
        self._add(len(begun), len(slots))
        self._counts = replace(
            self._counts,
            model_calls=self._counts.model_calls + 1,
            tokens_computed=self._counts.tokens_computed + len(slots),
        )

    def _add(self, blocks: int, tokens: int) -> None:
        kv_bytes = self._counts.kv_bytes + tokens * self._token_bytes
        blocks += self._counts.blocks
        self._counts = replace(self._counts, blocks=blocks, kv_bytes=kv_bytes)

    def _request(self, name: Name) -> DrivenRequest:
        return self._mix.requests[int(name[0])]

    def _prompt(self, name: Name) -> list[int]:
        return self._request(name).prompt

    def _seen(self, expected: str, got: str) -> Counterexample:
        return Counterexample(_case(self._mix), expected, got, label=CHECKED)

    def _wrong(self, expected: str, got: str) -> DriverError:
        """Note a problem, the first one, and return what to raise."""
        # The engine is told, and may swallow it: what counts is that it was noted.
        self.problem = self.problem or self._seen(expected, got)
        return DriverError(f"expected {expected}, got {got}")


@cache
def _model() -> LlamaModel:
    return load_checkpoint(checkpoint_folder("course-tiny"), dtype=torch.float32, device="cpu")


def _plain_logits(tokens: list[int]) -> Tensor:
    """Return what a model without a cache says behind each of some tokens, [num_tokens, vocab]."""
    with torch.inference_mode():
        positions = torch.arange(len(tokens))
        hidden = _model()(torch.tensor(tokens), positions, dense_causal(num_sequences=1))
        return _model().logits(hidden)
