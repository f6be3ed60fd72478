"""An engine whose clients come and go, with a model that costs next to nothing.

What answers, stop strings, aborts, refusals and a look at the memory cost is a small part of a run
with a model. Here it is most of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from course_lib.engine.driven import DrivenStore, engine_of
from course_lib.engine.engine import LLM
from course_lib.engine.kv_store import PagedKVStore
from course_lib.engine.memory_tracker import MemoryTracker
from course_lib.engine.model import LlamaModel
from course_lib.engine.prompts import PromptError
from course_lib.engine.sampling_params import SamplingParams
from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput


class Client(NamedTuple):
    """What somebody asks for, and when they have had enough.

    Attributes:
        prompt: Its tokens. Where the engine can never compute it, it is to be refused.
        max_tokens: Tokens of the answer.
        stop: Stop strings.
        leaves_after: The client goes away when the answer has so many tokens; 0 if it stays.
        n: How many answers.
    """

    prompt: list[int]
    max_tokens: int
    stop: list[str]
    leaves_after: int = 0
    n: int = 1


class ChainModel:
    """Stands for a model: what comes behind a token is known from the token alone.

    Args:
        model: A model of the same shape, which is not run.
        successors: The token that comes behind each, by token.

    Attributes:
        config: Its shape.
        device: The CPU.

    >>> model = ChainModel(LLM("course-tiny").model, [2, 0, 1])
    >>> model.logits(model(torch.tensor([0, 1]), torch.tensor([0, 1]), None)).argmax(-1)
    tensor([2, 0])
    """

    def __init__(self, model: LlamaModel, successors: Sequence[int]) -> None:
        self.config = model.config
        self.device = torch.device("cpu")
        self._successors = torch.tensor(successors)

    def __call__(self, token_ids: Tensor, positions: Tensor, attend: Any) -> Tensor:
        """Return the tokens themselves, [num_tokens, 1]."""
        return token_ids[:, None]

    def logits(self, hidden: Tensor) -> Tensor:
        """Return logits, [num_tokens, vocab_size]: 1 for the token that comes next."""
        logits = torch.zeros(len(hidden), self.config.vocab_size)
        return logits.scatter_(1, self._successors[hidden], 1.0)


class Looking:
    """A log of a scheduler that lets a tracker look at each plan, and keeps nothing else.

    Args:
        tracker: The tracker.

    Attributes:
        tracker: The tracker.
    """

    def __init__(self, tracker: MemoryTracker) -> None:
        self.tracker = tracker

    def record_preemption(self, *told: Any) -> None:
        """Pass it over."""

    def record_step(self, scheduler: Scheduler, output: SchedulerOutput) -> None:
        """Look at the memory."""
        self.tracker.observe()


def lively_engine(
    pieces: dict[str, Any], options: dict[str, Any], successors: Sequence[int]
) -> LLM:
    """Return an engine on some parts of one's own that costs what its parts cost.

    Its model knows the next token from the last one, and its memory holds nothing. A
    ``MemoryTracker`` among the parts looks at each plan.

    Args:
        pieces: As for ``engine_of``.
        options: Options of ``LLM``.
        successors: The token that comes behind each, by token.

    >>> llm = lively_engine({}, {"num_blocks": 9}, [2, 0, 1])
    >>> params = SamplingParams(temperature=0, max_tokens=3, ignore_eos=True)
    >>> llm.generate([[0]], params, use_tqdm=False)[0].outputs[0].token_ids
    [2, 1, 0]
    """
    llm = engine_of(pieces, options)
    llm.executor.model = cast(LlamaModel, ChainModel(llm.model, successors))
    store = DrivenStore(llm.executor.kv_store, lambda move, pairs: None)
    llm.executor.kv_store = cast(PagedKVStore, store)
    tracker = pieces.get("MemoryTracker", MemoryTracker)(llm.kv_cache_manager, bytes_per_block=1)
    llm.scheduler.log = cast(Any, Looking(tracker))
    return llm


def come_and_go(llm: LLM, clients: Sequence[Client | Sequence[Any]]) -> list[list[Any]]:
    """Serve clients who all come at once, and of whom some go before their answer ends.

    Args:
        llm: An engine of ``lively_engine``.
        clients: The clients.

    Returns:
        Of each client the tokens and the text of each answer, as it saw them last; nothing of who
        was refused.

    >>> llm = lively_engine({}, {"num_blocks": 9, "block_size": 4}, [2, 0, 1])
    >>> gone, refused = Client([0], 9, [], leaves_after=2), Client([0] * 50, 9, [])
    >>> [[len(tokens) for tokens, text in seen] for seen in come_and_go(llm, [gone, refused])]
    [[2], []]
    """
    known = [Client(*client) for client in clients]
    seen: list[list[Any]] = [[] for _ in known]
    for number, client in enumerate(known):
        params = SamplingParams(
            temperature=0,
            max_tokens=client.max_tokens,
            stop=client.stop,
            n=client.n,
            ignore_eos=True,
        )
        try:
            llm.add_request(str(number), client.prompt, params)
        except PromptError:
            continue
    while llm.has_unfinished_requests():
        for output in llm.step():
            number = int(output.request_id)
            seen[number] = [(list(each.token_ids), each.text) for each in output.outputs]
            if len(output.outputs[0].token_ids) == known[number].leaves_after:
                llm.abort_request(output.request_id)
    return seen
