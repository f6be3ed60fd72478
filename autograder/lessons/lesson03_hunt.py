"""Lesson 3: the hunt and the measurement. Two engines, the rules of answers, the wrong ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from inspect import signature
from itertools import count
from time import perf_counter
from typing import Any

from hypothesis import strategies as st

from autograder.checks.answer import AnswerCheck
from autograder.checks.compare import exactly
from autograder.checks.exercise import Exercise
from autograder.checks.finding import FAILING, Counterexample, Finding, Misconception
from autograder.checks.function import Call, FunctionCheck, Large
from autograder.proxy.recipes import Callback
from autograder.proxy.subject import Subject
from course_lib.kv_cache.block_table import blocks_to_add

# 3.7, the hunt


def engine_a(prompt_tokens: int, num_steps: int, block_size: int = 4, rest: int = 1) -> list[int]:
    """Generate with one sequence; return the slot that each step writes."""
    free = count(1)
    table = [next(free) for _ in range(0, prompt_tokens, block_size)]
    length, slots = prompt_tokens + 1, []
    for _ in range(num_steps):
        if length % block_size == rest:
            table.append(next(free))
        block, offset = divmod(length - 1, block_size)
        slots.append(table[block] * block_size + offset)
        length += 1
    return slots


def engine_b(prompt_tokens: int, num_steps: int, block_size: int = 4, rest: int = 1) -> list[int]:
    """Generate with one sequence; return the slot that each step writes."""
    free = count(1)
    table = [next(free) for _ in range(0, prompt_tokens, block_size)]
    length, slots = prompt_tokens, []
    for _ in range(num_steps):
        if length % block_size == rest:
            table.append(next(free))
        length += 1
        block, offset = divmod(length - 1, block_size)
        slots.append(table[block] * block_size + offset)
    return slots


ENGINES = {"A": engine_a, "B": engine_b}
LONG_ENOUGH = 8
"""Steps in which an engine with blocks of 4 meets every place of a block twice."""


def breaks_at(engine: str, prompt_tokens: int, rest: int) -> int | None:
    """Return the step, from 1, in which an engine finds no block; None if it never does."""
    for num_steps in range(1, LONG_ENOUGH + 1):
        try:
            ENGINES[engine](prompt_tokens, num_steps, rest=rest)
        except IndexError:
            return num_steps
    return None


def _no_prompt(value: Any) -> str | None:
    """Say why a value is no number of prompt tokens, if it is none."""
    if type(value) is not int:
        return f"a prompt has a whole number of tokens, and {value!r} is none"
    return None if 1 <= value <= 10_000 else f"take a prompt of 1 to 10,000 tokens, not {value}"


def exposes_the_engine(_: Any, answer: Any) -> str | None:
    """Agree with the engine that is wrong, and a prompt for which it stops."""
    if not isinstance(answer, dict) or not {"engine", "prompt"} <= set(answer):
        return 'the answer is a dict with the keys "engine" and "prompt"'
    engine, prompt = answer["engine"], answer["prompt"]
    if engine not in tuple(ENGINES):
        return f'"engine" is "A" or "B", not {engine!r}'
    complaint = _no_prompt(prompt)
    if complaint is None and breaks_at(engine, prompt, rest=1) is None:
        return f"engine {engine} runs {LONG_ENOUGH} steps with a prompt of {prompt} and never stops"
    return complaint


def fails_to_expose_alike(one: Any, other: Any) -> str | None:
    """Agree on two answers that name the same engine, with prompts that it survives."""
    survivors = [
        answer["engine"]
        for answer in (one, other)
        if (exposes_the_engine(None, answer) or "").startswith("engine ")
    ]
    return None if len(survivors) == 2 and len(set(survivors)) == 1 else ""


def judges_the_fixes(_: Any, answer: Any) -> str | None:
    """Agree with a verdict on both repairs: a prompt that breaks it, or None."""
    if not isinstance(answer, dict) or not set(ENGINES) <= set(answer):
        return 'the answer is a dict with the keys "A" and "B"'
    for engine in ENGINES:
        prompt = answer[engine]
        if prompt is None:
            continue
        complaint = _no_prompt(prompt)
        if complaint is not None:
            return f"{engine!r}: {complaint}"
        if breaks_at(engine, prompt, rest=0) is None:
            return f"{engine!r}: with a prompt of {prompt} the repaired engine does not stop"
    passed = [engine for engine in ENGINES if answer[engine] is None and _ever_breaks(engine)]
    return "one of the repairs that you let pass does break" if passed else None


def judges_alike(one: Any, other: Any) -> str | None:
    """Agree on two wrong verdicts that let the same repairs pass."""
    if not isinstance(other, dict) or not set(ENGINES) <= set(other):
        return ""
    prompts = [other[engine] for engine in ENGINES if other[engine] is not None]
    if any(map(_no_prompt, prompts)) or judges_the_fixes(None, other) is None:
        return ""
    verdicts = [{engine: answer[engine] is None for engine in ENGINES} for answer in (one, other)]
    return None if verdicts[0] == verdicts[1] else ""


def _ever_breaks(engine: str) -> bool:
    return any(breaks_at(engine, prompt, rest=0) for prompt in range(1, LONG_ENOUGH + 1))


# 3.8, the measurement


_ASKED = "how long?"
_TRIES = 3
"""How often an answer is counted, and measured where it may be right: on a busy machine the time to
measure in can be over early, and each of a few measurements can be interrupted."""

_NONE_CALLED = "'NoneType' object is not callable"
_WAY_UP = "it is the right way up; "


def busy(microseconds: float) -> Callback:
    """Return a function that takes so long, and is the check's own: asked, it says how long."""

    def work(*question: str) -> float | None:
        if question == (_ASKED,):
            return microseconds
        end = perf_counter() + microseconds / 1e6
        while perf_counter() < end:
            pass
        return None

    return Callback(work)


def ways(**microseconds: float) -> Call:
    """Return a call with two ways that take so many microseconds each, in this order."""
    return Call({name: busy(takes) for name, takes in microseconds.items()})


WAYS = (ways(loop=1_600.0, array=200.0), ways(array=500.0, loop=100.0))
"""The loop takes eight times as long as the array, and a fifth; which of the two is which, their
names say, for the order is another one. What takes longer is interrupted on a busy machine."""

_RATIOS = (1_600.0 / 200.0, 100.0 / 500.0)
_NOTHING = 0.1


def taken(way: Callable[..., Any]) -> float:
    """Return the microseconds that a way of the check's takes, as it says itself.

    Any other function is none of its ways, and takes next to nothing.
    """
    return float(way(_ASKED)) if signature(way).parameters else _NOTHING


def loop_over_array(ways: Mapping[str, Callable[[], object]]) -> float:
    """Return how many times as long the loop takes as the array."""
    return taken(ways["loop"]) / taken(ways["array"])


_ALIKE, _ONE, _FAR = 2.4, 1.25, 25
"""Measurements of the same on a busy machine differ by up to the first factor; of two that take the
same, and so are measured alike, by up to the second. What is off by the third is no ratio of the
two, so it is not said to be the right way up."""


def nearly(expected: Any, got: Any) -> str | None:
    """Agree on ratios of times that may be two measurements of the same."""
    if type(got) not in (int, float):
        return exactly(1.5, got)
    if type(expected) not in (int, float):
        return ""
    factor = _ONE if expected == 1 else _ALIKE
    if 1 / factor < got / expected < factor:
        return None
    nearby = 1 / _FAR < got / expected < _FAR and (got > 1) == (expected > 1)
    way_up = _WAY_UP if expected in _RATIOS and nearby else ""
    return f"{way_up}measured twice, the same may differ, but by a factor of less than {factor}"


def shown_ways(call: Call) -> str:
    """Write a call with what the two ways take."""
    first, second = (f"{name} takes {taken(way):,.0f} µs" for name, way in call.args[0].items())
    return f"loop_over_array(ways), where the {first} and the {second}"


ONE_CALL = Misconception(
    "one call each",
    "One call is no measurement: whatever else the machine does at that moment counts as well. "
    "Take the shortest of many calls, as `microseconds` does.",
    lambda ways: [way() for way in ways.values()],
    hint="How often does `microseconds` call a function, and which of the times does it return?",
)
CALLED_TOO_EARLY = Misconception(
    "called too early",
    "A way was called, and what it returned, None, was called again. Hand the way itself to "
    "`microseconds`, without brackets behind it.",
    lambda ways: ways["loop"]()(),
    evidence=r"\]\(\)",
    hint="What does `microseconds` want: a function, or what a function returns?",
)


@dataclass(frozen=True)
class MeasuredCheck(FunctionCheck):
    """The property that a ratio is right, and comes of more than one call of each way."""

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Count the calls; where they are enough, compare the ratio."""
        if all(_calls(subject) == (1, 1) for _ in range(_TRIES)):
            counted = Counterexample(
                shown_ways(WAYS[0]),
                "each of the two is called often, and the shortest of its times counts",
                "each was called once",
                label=FAILING,
            )
            return Finding(0.0, counted, ONE_CALL, confirmed=True)
        for _ in range(_TRIES):
            finding = super().examine(subject, seed, max_examples)
            case = finding.counterexample
            if case is None or not case.complaint.startswith(_WAY_UP):
                break
        if finding.misconception is CALLED_TOO_EARLY and case and _NONE_CALLED not in case.got:
            return replace(finding, misconception=None)
        return finding


def _calls(subject: Subject) -> tuple[int, ...]:
    """Return how often each of two ways is called."""
    call = ways(loop=1_600.0, array=200.0)
    subject.call(call.args)
    return tuple(way.calls.count(()) for way in call.args[0].values())


# Wrong answers


def _full_again(rest: int) -> Callable[[int, int, int], int]:
    def blocks_to_add(num_tokens: int, num_blocks: int, block_size: int) -> int:
        return int(num_tokens % block_size == rest)

    return blocks_to_add


MENDED_MISTAKES = (
    Misconception(
        "a new block at one more than full",
        "The remainder says nothing of the blocks that are there, and one at a time is too slow "
        "for a step of several tokens.",
        _full_again(1),
        evidence=r"== 1",
    ),
    Misconception(
        "a new block when the last is full",
        "A full block needs no neighbour until the next token comes, and the remainder says "
        "nothing of the blocks that are there.",
        _full_again(0),
        evidence=r"== 0",
    ),
    Misconception(
        "negative",
        "A sequence with blocks to spare lacks none: 0, not less.",
        lambda num_tokens, num_blocks, block_size: -(-num_tokens // block_size) - num_blocks,
    ),
    Misconception(
        "rounded down",
        "Tokens that fill a block in part need a block as well.",
        lambda num_tokens, num_blocks, block_size: max(0, num_tokens // block_size - num_blocks),
    ),
    Misconception(
        "one too many",
        "Tokens that fill their blocks exactly need no further one.",
        lambda num_tokens, num_blocks, block_size: max(
            0, num_tokens // block_size + 1 - num_blocks
        ),
    ),
    Misconception(
        "the blocks that are there are forgotten",
        "That is how many blocks the tokens need in all; some of them are there.",
        lambda num_tokens, num_blocks, block_size: -(-num_tokens // block_size),
    ),
    Misconception(
        "tokens, not blocks",
        "That is how many slots are missing; a block has block_size of them.",
        lambda num_tokens, num_blocks, block_size: max(0, num_tokens - num_blocks * block_size),
    ),
)
EXPOSED_MISTAKES = (
    Misconception(
        "the right engine",
        "Follow engine A with a pencil: it never writes without a block.",
        {"engine": "A", "prompt": 4},
    ),
    Misconception(
        "a prompt that it survives",
        "With this prompt its table is a block ahead of its tokens, by chance.",
        {"engine": "B", "prompt": 5},
    ),
)

JUDGED_MISTAKES = (
    Misconception(
        "both pass",
        "One of them is broken by this very repair. Its length has the new token in it when it "
        "compares.",
        {"A": None, "B": None},
    ),
    Misconception(
        "neither passes",
        "One of them compares before the new token is counted, and then a full block is the sign.",
        {"A": 4, "B": 4},
    ),
    Misconception(
        "the broken one passes",
        "Run both for every prompt from 1 to 8 tokens: most of them tell nothing.",
        {"A": None, "B": 4},
    ),
)


MEASURED_MISTAKES = (
    Misconception(
        "upside down",
        "That is the array's time over the loop's; a ratio above 1 is to say that the loop takes "
        "longer.",
        lambda ways: taken(ways["array"]) / taken(ways["loop"]),
    ),
    Misconception(
        "a time, not a ratio",
        "That is what the loop takes, in microseconds. How many times the array's time is it?",
        lambda ways: taken(ways["loop"]),
    ),
    ONE_CALL,
    Misconception(
        "always 1",
        "Two times that are the same, whatever the loop and the array take: is each of them timed?",
        lambda ways: 1.0,
    ),
    Misconception(
        "neither is called",
        "Twice the same time, whatever the two take. `microseconds` calls what it is given: give "
        "it the way itself, not a function that returns it.",
        lambda ways: taken(lambda: ways["loop"]) / taken(lambda: ways["array"]),
        evidence=r"lambda: \w+\[[^\]]*\](?!\()",
    ),
    CALLED_TOO_EARLY,
    Misconception(
        "the difference",
        "That is by how many microseconds the loop is slower; asked is how many times as long it "
        "takes.",
        lambda ways: taken(ways["loop"]) - taken(ways["array"]),
    ),
)

# The exercises

EXPOSED = Exercise(
    id="3.7a",
    title="Bug hunt: which engine is wrong",
    asks="Give the engine that is wrong, and a prompt of 1 to 10,000 tokens for which it stops: "
    '"engine" and "prompt".',
    points=3,
    minutes=5,
    difficulty=2,
    check=AnswerCheck(
        reference=lambda: {"engine": "B", "prompt": 4},
        question="exposed",
        wanted='a dict with the keys "engine" and "prompt", 1 to 10,000, for which it stops',
        compare=exposes_the_engine,
        alike=fails_to_expose_alike,
        misconceptions=EXPOSED_MISTAKES,
    ),
    hints=(
        "At the moment of the check, how many tokens have a slot, and which token is written next?",
        "Follow each engine through three steps with a prompt of 3: length, table, position.",
        "`exposed = {'engine': ..., 'prompt': ...}`, with a prompt that fills its last block soon",
    ),
)

MENDED = Exercise(
    id="3.7b",
    title="Bug hunt: say what is meant",
    asks="Return how many blocks a sequence lacks before its next tokens can be written.",
    points=5,
    minutes=8,
    difficulty=2,
    check=FunctionCheck(
        reference=blocks_to_add,
        cases=st.builds(Call, st.integers(0, 40), st.integers(0, 6), st.integers(1, 5)),
        probes=(
            *(Call(tokens, num_blocks=2, block_size=4) for tokens in (0, 7, 8, 9, 12, 17)),
            Call(9, 3, 4),
            Call(5, 0, 1),
            Call(240, 14, 16),
        ),
        misconceptions=MENDED_MISTAKES,
        large=(Large(lambda: Call(2_000_000, 0, 16), "2,000,000 tokens"),),
    ),
    hints=(
        "How many blocks do 9 tokens need in all, if a block has 4 slots?",
        "Compare the blocks that the tokens need, rounded up, with those that are there.",
        "`max(0, ceil(num_tokens / block_size) - num_blocks)`, in whole numbers",
    ),
)

JUDGED = Exercise(
    id="3.7c",
    title="Bug hunt: judge two repairs",
    asks='Say of rest=0 in engine "A" and in engine "B": a prompt of 1 to 10,000 tokens that '
    "breaks it, or None.",
    points=2,
    minutes=4,
    difficulty=2,
    check=AnswerCheck(
        reference=lambda: {"A": 4, "B": None},
        question="judged",
        wanted='a dict with the keys "A" and "B": a prompt for which the engine stops, or None',
        compare=judges_the_fixes,
        alike=judges_alike,
        misconceptions=JUDGED_MISTAKES,
    ),
    hints=(
        "What does each engine's length count when it compares?",
        "Run both with rest=0 for prompts of 1 to 8 tokens, 8 steps each.",
        "`judged = {'A': ..., 'B': ...}`",
    ),
)

MEASURED = Exercise(
    id="3.8",
    title="Measure: the loop and the array",
    asks="Return how many times as long the loop takes as the array.",
    points=3,
    minutes=5,
    difficulty=1,
    check=MeasuredCheck(
        reference=loop_over_array,
        cases=st.sampled_from(WAYS),
        probes=WAYS,
        misconceptions=MEASURED_MISTAKES,
        compare=nearly,
        typed=shown_ways,
        is_telling=True,
    ),
    hints=(
        "Which of two times is the divisor, if a ratio of 20 means that the loop takes longer?",
        "Let `microseconds` call the loop, and then the array, and divide.",
        "`microseconds(ways['loop']) / ...`",
    ),
)
