"""Whether an engine says what a model without a cache says, whatever it does with memory and time.

Greedy tokens depend on the prompt alone. Chunks, hits, preemptions, swaps and neighbours that come
and go may change when a token is computed and where its keys lie, and never which token it is.
"""

from __future__ import annotations

import inspect
import itertools
import random
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from course_lib.engine.checkpoint import load_checkpoint
from course_lib.engine.engine import LLM
from course_lib.engine.engine_parts import EngineParts
from course_lib.engine.model import LlamaModel, dense_causal
from course_lib.engine.outputs import CompletionOutput
from course_lib.engine.sampling_params import SamplingParams
from course_lib.engine.tokenizer import checkpoint_folder
from course_lib.parts import reference

NUM_TOKENS = 10
"""Tokens of each answer."""

NUM_PROMPTS = 6
_BLOCK_SIZE, _SMALL_POOL, _AMPLE_POOL, _CPU_BLOCKS = 4, 20, 400, 60
_GOES_AWAY = 0.4
"""How likely it is, in a step, that somebody goes away."""

_MOST_STEPS = 300
"""Steps after which nobody believes in an end any more; the reference takes 60 at the most."""

_TWICE = 2
"""Among others that come and go, so many of the prompts have two answers."""

PIECES = (
    "EngineCore.step",
    "Executor.execute",
    "StopStrings.push",
    "Answer.append",
    "Scheduler.why_never",
    "Scheduler.finish_requests",
)
"""What the final project asks for and an engine runs on."""

Pieces = Mapping[str, Any]
"""Parts of an engine, or methods of them, by name, as ``EngineParts.of_pieces`` takes them."""


@dataclass(frozen=True)
class Setting:
    """What an engine does with memory and time.

    Attributes:
        is_chunked: Whether prompts are cut.
        has_caching: Whether prefixes are kept.
        memory: "ample"; "recompute" or "swap": what becomes of who is preempted in a small pool.
        has_aborts: Whether others come and go beside the requests that stay, of which two have two
            answers.
    """

    is_chunked: bool
    has_caching: bool
    memory: str
    has_aborts: bool

    def __str__(self) -> str:
        said: tuple[str, ...] = ("chunks" if self.is_chunked else "whole prompts", self.memory)
        said += ("prefix caching",) if self.has_caching else ()
        return ", ".join(said + (("aborts",) if self.has_aborts else ()))

    def options(self) -> dict[str, Any]:
        """Return the options of ``LLM``."""
        is_small = self.memory != "ample"
        options: dict[str, Any] = {
            "num_blocks": _SMALL_POOL if is_small else _AMPLE_POOL,
            "block_size": _BLOCK_SIZE,
            "enable_prefix_caching": self.has_caching,
        }
        if self.is_chunked:
            options |= {"max_num_batched_tokens": 17, "long_prefill_token_threshold": 7}
        if self.memory == "swap":
            options |= {"preemption_mode": "swap", "num_cpu_blocks": _CPU_BLOCKS}
        return options


SETTINGS = tuple(
    itertools.starmap(
        Setting,
        itertools.product(
            (False, True), (False, True), ("ample", "recompute", "swap"), (False, True)
        ),
    )
)
"""All 24 settings: chunks, prefix caching, memory, aborts."""


@dataclass(frozen=True)
class Run:
    """What came of a run.

    Attributes:
        tokens: The tokens of each answer to the requests that stayed.
        num_preemptions: How often somebody had to give way.
        num_hits: Tokens that were found in the prefix cache.
        num_aborted: Answers that ended because somebody went away.
        num_held: Blocks that are held when all is over; 0 unless somebody leaks.
    """

    tokens: list[list[int]]
    num_preemptions: int
    num_hits: int
    num_aborted: int
    num_held: int


def make_prompts(seed: int) -> list[list[int]]:
    """Return prompts of 1 to 30 tokens, of which every second one begins like the others.

    >>> [len(prompt) for prompt in make_prompts(seed=1)]
    [1, 22, 7, 21, 10, 29]
    """
    rng = random.Random(seed)
    system = rng.choices(range(3, 1000), k=13)
    return [
        (system if index % 2 else []) + rng.choices(range(3, 1000), k=rng.randrange(1, 18))
        for index in range(NUM_PROMPTS)
    ]


def plain_tokens(setting: Setting, seed: int) -> list[list[int]]:
    """Return what an engine must say in a setting: what a model without a cache says.

    Each token is computed from all that stand before it, by attention over whole sequences, one
    request after the other.
    """
    answers = _plain_answers(seed)
    return [
        list(answer)
        for index, answer in enumerate(answers)
        for _ in range(_num_answers(setting, index))
    ]


def run_setting(
    pieces: Pieces, setting: Setting, seed: int, lent: Mapping[str, str] | None = None
) -> Run:
    """Serve the prompts of a seed with one's own pieces.

    Args:
        pieces: The pieces; the library's stand in for the others.
        setting: What the engine does with memory and time.
        seed: Makes the prompts, and says who goes away when.
        lent: The text of what stands in for pieces that the library does not have here.

    Raises:
        PartError: A part of one's own failed; says which.
        RuntimeError: The requests do not come to an end.
    """
    borrowed = {name: made_of(name, text) for name, text in (lent or {}).items()}
    parts = EngineParts.of_pieces({**pieces, **borrowed})
    llm = LLM("course-tiny", device="cpu", parts=parts, **setting.options())
    prompts = make_prompts(seed)
    rng = random.Random(seed)
    greedy = SamplingParams(temperature=0, max_tokens=NUM_TOKENS, ignore_eos=True)
    for index, prompt in enumerate(prompts):
        stays = replace(greedy, n=_num_answers(setting, index))
        llm.add_request(f"stays {index}", prompt, stays)
        if setting.has_aborts:
            llm.add_request(f"goes {index}", prompt[::-1], greedy)
    outputs: dict[str, list[CompletionOutput]] = {}
    num_steps = 0
    while llm.has_unfinished_requests():
        num_steps += 1
        if num_steps > _MOST_STEPS:
            raise RuntimeError(
                f"after {_MOST_STEPS} steps {len(llm.scheduler.running)} requests run and "
                f"{len(llm.scheduler.waiting)} wait, and it does not end"
            )
        if setting.has_aborts and rng.random() < _GOES_AWAY:
            llm.abort_request(f"goes {rng.randrange(len(prompts))}")
        outputs |= {each.request_id: each.outputs for each in llm.step()}
    manager = llm.kv_cache_manager
    return Run(
        [
            answer.token_ids
            for index in range(len(prompts))
            for answer in outputs.get(f"stays {index}", [])
        ],
        llm.metrics.num_preemptions,
        llm.metrics.prefix_cache_hits,
        llm.metrics.finished["abort"],
        manager.block_pool.num_blocks - 1 - manager.block_pool.get_num_free_blocks(),
    )


def missing_pieces(pieces: Pieces) -> list[str]:
    """Return the pieces of ``PIECES`` that are not there, or are the library's own.

    >>> missing_pieces({"Scheduler.why_never": lambda self, request: ""})[-2:]
    ['Answer.append', 'Scheduler.finish_requests']
    """
    missing = []
    for name in PIECES:
        owner, _, method = name.partition(".")
        own = pieces.get(name, getattr(pieces.get(owner), method, None))
        library = getattr(reference(owner), method)
        if own is None or getattr(own, "__code__", None) is library.__code__:
            missing.append(name)
    return missing


def text_of_piece(name: str) -> str:
    """Return the text of the library's own piece, to be lent.

    >>> text_of_piece("StopStrings.push").startswith("def push(self, text: str)")
    True
    """
    owner, _, method = name.partition(".")
    return textwrap.dedent(inspect.getsource(getattr(reference(owner), method)))


def made_of(name: str, text: str) -> Any:
    """Return the function that a text defines, as a method of the library's class would be.

    Args:
        name: The piece.
        text: Its text.

    >>> made_of("StopStrings.push", text_of_piece("StopStrings.push")).__name__
    'push'
    """
    owner, _, method = name.partition(".")
    scope = dict(vars(sys.modules[reference(owner).__module__]))
    exec(compile(text, f"<{name}>", "exec"), scope)  # the course's own text
    return scope[method]


def suspects(
    pieces: Pieces, setting: Setting, seed: int, lent: Mapping[str, str] | None = None
) -> list[str]:
    """Return the pieces without which the tokens are right: one of them made them wrong.

    Those that are lent are tried one by one. Only where none of them is to blame, the others are
    halved until one is left, which takes fewer runs.

    Args:
        pieces: The pieces of one's own.
        setting: A setting in which the tokens are wrong, or in which the requests do not end.
        seed: The seed of the prompts.
        lent: The text of the library's own, by name, for pieces that it may not have here.
    """
    right = plain_tokens(setting, seed)
    library = {name: made_of(name, text) for name, text in (lent or {}).items()}

    def is_right_without(names: list[str]) -> bool:
        kept = {name: piece for name, piece in pieces.items() if name not in names}
        kept |= {name: library[name] for name in names if name in library}
        try:
            return run_setting(kept, setting, seed).tokens == right
        except Exception:  # another piece fails as well; then it is not these alone
            return False

    if found := [name for name in library if is_right_without([name])]:
        return found
    left = [name for name in pieces if name not in library]
    while len(left) > 1:
        half = left[: len(left) // 2]
        left = half if is_right_without(half) else left[len(half) :]
    return left if is_right_without(left) else []


def _num_answers(setting: Setting, index: int) -> int:
    """Return how many answers a request that stays has."""
    return 2 if setting.has_aborts and index < _TWICE else 1


@cache
def _plain_answers(seed: int) -> tuple[tuple[int, ...], ...]:
    """Return the greedy answers to the prompts of a seed."""
    model = load_checkpoint(checkpoint_folder("course-tiny"), dtype=None, device="cpu")
    # The model is small: several threads would wait for each other.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return tuple(tuple(_plain_answer(model, prompt)) for prompt in make_prompts(seed))
    finally:
        torch.set_num_threads(before)


def _plain_answer(model: LlamaModel, prompt: list[int]) -> list[int]:
    """Return the greedy answer to a prompt."""
    known = list(prompt)
    with torch.inference_mode():
        for _ in range(NUM_TOKENS):
            hidden = model(torch.tensor(known), torch.arange(len(known)), dense_causal(1))
            known.append(int(model.logits(hidden[-1:]).argmax()))
    return known[len(prompt) :]
