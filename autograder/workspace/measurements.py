"""What a learner's own engine does when it is measured, on this machine."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from course_lib.parts import PartWarning
from course_lib.simulation.setup import Setup, SetupError, figures, hardware, load_trace, run
from course_lib.simulation.simulation_parts import SimulationParts
from course_lib.simulation.workload import Workload

if TYPE_CHECKING:
    from course_lib.engine import LLM

OnStep = Callable[[int, int], None]
"""Called with the measurements that are done, and with all of them."""

NUM_PROMPTS, NUM_TOKENS, ROUNDS = 8, 16, 3
"""Prompts that are answered one by one and together, tokens of each answer, and how often."""

SETUP = Setup("azure-conversation", requests=200, rate=8.0, blocks=3000, parts="own")
"""What the simulated latencies are of: memory is short enough that somebody has to give way."""

_SYSTEM = "You explain how a language model is served, in one short sentence. Question: "
_QUESTIONS = ("What is a block?", "What is a prefix?", "Who waits?", "What is a step?")


@dataclass(frozen=True)
class Measurement:
    """Something that was measured, or why it could not be.

    Attributes:
        title: What it is.
        values: What came out, by what each value is called.
        how: How it was measured.
        own: The learner's parts that it ran on, in the order of the lessons.
        problem: Why there are no values; empty if there are.
    """

    title: str
    values: dict[str, str]
    how: str
    own: tuple[str, ...]
    problem: str = ""


def measurements(on_step: OnStep = lambda done, total: None) -> list[Measurement]:
    """Measure the engine and the simulator on the learner's own parts, and the reference's beside.

    A part that fails keeps its measurement from being made, and nothing is measured in its place.
    In the place of one that does not load the reference is measured, as the table of parts says, so
    nobody is warned of it here.

    Args:
        on_step: Told how far it is.
    """
    asked = (_batching, _prefixes, _latency)
    done = []
    for number, measure in enumerate(asked):
        on_step(number, len(asked))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PartWarning)
            done.append(measure())
    on_step(len(asked), len(asked))
    return done


def _batching() -> Measurement:
    """Answer prompts one by one, and together."""
    from course_lib.engine import LLM, SamplingParams

    title = "Speed of the engine"
    how = (
        f"{NUM_PROMPTS} prompts, {NUM_TOKENS} tokens each, course-tiny, one thread; the median of "
        f"{ROUNDS} rounds, one by one and together in turn"
    )
    own: tuple[str, ...] = ()
    try:
        with _one_thread():
            llm = LLM(max_num_seqs=NUM_PROMPTS, enable_prefix_caching=False)
            own = llm.parts.own_names
            params = SamplingParams(temperature=0, max_tokens=NUM_TOKENS, ignore_eos=True)
            prompts = [f"{_QUESTIONS[n % len(_QUESTIONS)]} {n}" for n in range(NUM_PROMPTS)]
            ways: dict[str, Sequence[Sequence[str]]] = {
                "one by one": [[prompt] for prompt in prompts],
                "together": [prompts],
            }
            for calls in ways.values():  # the first time, caches fill
                _seconds_of(llm, calls, params)
            rounds = [
                {way: _seconds_of(llm, calls, params) for way, calls in ways.items()}
                for _ in range(ROUNDS)
            ]
    except Exception as error:
        return Measurement(title, {}, how, own, _reason(error))
    tokens = NUM_PROMPTS * NUM_TOKENS
    values = {
        way: f"{statistics.median(tokens / each[way][0] for each in rounds):,.0f} tokens/s "
        f"in {rounds[0][way][1]} steps"
        for way in ways
    }
    ratio = statistics.median(each["one by one"][0] / each["together"][0] for each in rounds)
    return Measurement(title, {**values, "together, to one by one": f"{ratio:.1f} times"}, how, own)


def _seconds_of(llm: LLM, calls: Sequence[Sequence[str]], params: object) -> tuple[float, int]:
    """Return how long some calls take, and in how many steps."""
    start, steps = time.perf_counter(), llm.metrics.num_steps
    for prompts in calls:
        llm.generate(list(prompts), params)  # type: ignore[arg-type]
    return time.perf_counter() - start, llm.metrics.num_steps - steps


def _prefixes() -> Measurement:
    """Ask questions that begin alike, one after the other."""
    from course_lib.engine import LLM, EngineParts, SamplingParams

    title = "Prefix cache of the engine"
    how = f"{len(_QUESTIONS)} prompts that begin with the same {len(_SYSTEM)} letters, in turn"
    params = SamplingParams(temperature=0, max_tokens=1)
    rates = {}
    own: tuple[str, ...] = ()
    try:
        with _one_thread():
            for whose, parts in (("yours", None), ("reference", EngineParts.reference())):
                llm = LLM(max_num_seqs=1, parts=parts)
                own = llm.parts.own_names if parts is None else own
                for question in _QUESTIONS:
                    llm.generate([_SYSTEM + question], params)
                rates[whose] = f"{llm.metrics.prefix_cache_hit_rate:.1%} of the tokens found"
    except Exception as error:
        return Measurement(title, {}, how, own, _reason(error))
    return Measurement(title, rates, how, own)


def _latency() -> Measurement:
    """Simulate a workload."""
    title = "Time to first token, simulated"
    own: tuple[str, ...] = ()
    how = f"{SETUP.requests} requests"
    try:
        trace = load_trace(SETUP)
        model, gpu = hardware(SETUP, trace)
        how = (
            f"{SETUP.requests} requests at {SETUP.rate:g} per second, {model.name} on {gpu.name} "
            f"with {SETUP.blocks:,} blocks, on a virtual clock; "
            f"{trace.source if trace else 'made up'}"
        )
        own = SimulationParts.load().own_names
        values = {
            "yours": _ttft(SETUP, trace),
            "reference": _ttft(replace(SETUP, parts="reference"), trace),
        }
    except Exception as error:
        return Measurement(title, {}, how, own, _reason(error))
    return Measurement(title, values, how, own)


def _ttft(setup: Setup, trace: Workload | None) -> str:
    told = figures(setup, run(setup, trace))
    return f"mean {told['ttft_mean']:.3f} s, p99 {told['ttft_p99']:.2f} s"


def _reason(error: Exception) -> str:
    """Return why something could not be measured, in one line."""
    kind = "" if isinstance(error, SetupError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let PyTorch use one thread, so that a busy machine spoils less."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
