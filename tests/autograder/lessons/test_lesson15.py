"""The comprehensive quiz: its numbers are the library's, and nothing gives an answer away."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from math import ceil
from typing import Any

import pytest

from autograder import lessons
from autograder.lessons.lesson12_hunt import Memory, admit_suspect
from autograder.lessons.lesson15_drawn import DrawnQuestion, drawn_bank
from autograder.lessons.questions import LETTERS, Choice, Question
from autograder.paths import course_root
from course_lib.kv_cache import BlockPool, BlockTable, KVCacheManager
from course_lib.kv_cache.block_table import blocks_to_add, row_major_strides
from course_lib.kv_cache.reservation import expected_static_utilization
from course_lib.kv_cache.sizing import kv_bytes_per_token
from course_lib.queueing import MG1
from course_lib.scheduling import Request, Scheduler, SchedulerConfig
from course_lib.scheduling.variants.async_scheduler import AsyncScheduler
from course_lib.scheduling.variants.speculative import SpeculativeScheduler
from course_lib.specs import GPUS, ModelSpec

QUESTIONS = {question.id: question for question in drawn_bank().question}
DRAWN = [question for question in QUESTIONS.values() if question.draw]
PARTS = {"F": 20, "I": 25, "D": 15}
SEEDS = range(100)

each_question = pytest.mark.parametrize("question", QUESTIONS.values(), ids=lambda each: each.id)


def right(question: Question) -> str:
    """Return the text of the right choice."""
    (text,) = (choice.text for choice in question.choices if choice.correct)
    return text


def first_number(text: str) -> float | None:
    found = re.search(r"\d[\d,]*(\.\d+)?", text)
    return float(found[0].replace(",", "")) if found else None


# The bank


def test_there_are_sixty_questions_in_three_parts() -> None:
    assert Counter(question.part for question in QUESTIONS.values()) == PARTS
    for part, number in PARTS.items():
        assert [f"{part}{n}" for n in range(1, number + 1)] == [
            question.id for question in drawn_bank().of_part(part)
        ]


def test_every_concept_has_at_least_three_questions_and_every_lesson_one() -> None:
    of_concept = Counter(question.concept for question in QUESTIONS.values())
    assert of_concept.keys() == {concept.id for concept in drawn_bank().concept}
    assert min(of_concept.values()) >= 3
    assert {question.lesson for question in QUESTIONS.values()} == set(range(1, 14))


@each_question
def test_every_choice_explains_itself_and_every_question_says_where_it_comes_from(
    question: DrawnQuestion,
) -> None:
    assert question.source
    assert question.prompt.rstrip("”").endswith("?")
    names = [choice.misconception for choice in question.choices if not choice.correct]
    assert len(set(names)) == len(names)
    for values in question.settings():
        for choice in question.asked(values).choices:
            assert choice.feedback.endswith(".")
            assert "{" not in f"{choice.text}{choice.feedback}"


OF_VLLM = {
    "EngineCore.step",
    "_preempt_request",
    "kv_holding_waiting",
    "Scheduler.__init__",
    "Request.__lt__",
    "_free_request",
    "max_loras",
    "num_tokens - 1",
}
"""What a source quotes in backquotes and the library does not have."""


@cache
def library() -> str:
    paths = (course_root() / "course_lib").rglob("*.py")
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


@each_question
def test_what_a_source_names_is_there(question: DrawnQuestion) -> None:
    root = course_root()
    for name in re.findall(r"`([^`]+)`", question.source):
        defined = rf"\b(def|class) {name.rpartition('.')[2]}\b|\b{name.rpartition('.')[2]}\b *[:=]"
        assert name in OF_VLLM or re.search(defined, library()), name
    for path in re.findall(r"course_lib/[\w/]+(?:\.py)?", question.source):
        assert (root / path).exists(), path
    for lesson, rest in re.findall(r"\b(\d+)\.(\d+[a-z]?)\b", question.source):
        if int(lesson) in lessons.numbers() and "exercise" in question.source:
            assert lessons.find(f"{lesson}.{rest}")


def test_a_pass_is_four_in_five_and_is_called_so() -> None:
    words = {16: "Sixteen", 20: "Twenty", 12: "Twelve"}
    for part, number in PARTS.items():
        said = lessons.find(f"15.{part}").asks
        assert f"{words[ceil(0.8 * number)]} right, 80%, is a pass" in said


@pytest.mark.parametrize("question", DRAWN, ids=lambda each: each.id)
def test_a_seed_draws_other_numbers(question: DrawnQuestion) -> None:
    there_are = len({question.asked(values).prompt for values in question.settings()})
    assert len({question.drawn(seed).prompt for seed in SEEDS}) > there_are / 2


def test_at_least_a_third_of_the_questions_have_numbers_that_are_drawn() -> None:
    assert len(DRAWN) >= 20
    assert sum(question.part == "I" for question in DRAWN) >= 15


# Guessing

Guess = Callable[[Sequence[Choice]], list[bool]]


def by_length(place: int) -> Guess:
    """Choose by rank of length, 0 for the longest."""

    def chosen(choices: Sequence[Choice]) -> list[bool]:
        lengths = [len(choice.text) for choice in choices]
        wanted = sorted(lengths, reverse=True)[min(place, len(choices) - 1)]
        return [length == wanted for length in lengths]

    return chosen


def by_number(place: int) -> Guess:
    """Choose by rank of the first number, 0 for the largest; any, where there are not so many."""

    def chosen(choices: Sequence[Choice]) -> list[bool]:
        numbers = [first_number(choice.text) for choice in choices]
        if None in numbers or len(set(numbers)) < len(numbers):
            return [True] * len(choices)
        wanted = sorted((n for n in numbers if n is not None), reverse=True)[place]
        return [number == wanted for number in numbers]

    return chosen


def by_letter(place: int) -> Guess:
    return lambda choices: [place == min(each, place) for each in range(len(choices))]


RANKS = ("first", "second", "third", "last")
BY_LENGTH = {f"{RANKS[place]} in length": by_length(place) for place in range(4)}
BY_NUMBER = {f"{RANKS[place]} in number": by_number(place) for place in range(4)}


def hits(questions: Sequence[Question], guess: Guess) -> float:
    """Return how many questions a guesser gets right on average; ties are drawn by lot."""
    total = 0.0
    for question in questions:
        chosen = guess(question.choices)
        rights = [choice.correct for choice in question.choices]
        total += sum(c and r for c, r in zip(chosen, rights, strict=True)) / sum(chosen)
    return total


def deviation(questions: Sequence[DrawnQuestion]) -> float:
    """Return by how much the number of hits of a blind guesser varies."""
    shares = [1 / len(question.choices) for question in questions]
    return float(sum(share * (1 - share) for share in shares) ** 0.5)


@pytest.mark.parametrize("guess", {**BY_LENGTH, **BY_NUMBER})
@pytest.mark.parametrize("part", [*PARTS, ""])
def test_neither_length_nor_size_says_which_is_right(part: str, guess: str) -> None:
    asked = [question for question in QUESTIONS.values() if question.id.startswith(part)]
    by_chance = sum(1 / len(question.choices) for question in asked)
    found = [
        hits([question.drawn(seed) for question in asked], {**BY_LENGTH, **BY_NUMBER}[guess])
        for seed in SEEDS
    ]
    assert sum(found) / len(found) < by_chance + deviation(asked)


def test_no_letter_is_better_than_chance() -> None:
    counts = Counter(
        question.drawn(seed).answer for question in QUESTIONS.values() for seed in SEEDS
    )
    expected = len(QUESTIONS) * len(SEEDS) / 4
    assert counts.keys() == set(LETTERS[:4])
    # Five standard deviations of the share of one letter.
    assert all(abs(count - expected) < 5 * (expected * 0.75) ** 0.5 for count in counts.values())


@each_question
def test_a_question_has_its_answer_in_every_place(question: DrawnQuestion) -> None:
    assert {question.drawn(seed).answer for seed in SEEDS} == set(LETTERS[: len(question.choices)])


# The numbers, worked out by the library


def served(
    prompts: Sequence[Sequence[int]], *, num_blocks: int = 10_000, **config: Any
) -> Scheduler:
    """Return a scheduler with these requests waiting."""
    manager = KVCacheManager(num_blocks, enable_caching=config.pop("enable_caching", False))
    scheduler = Scheduler(SchedulerConfig(**config), manager)
    for number, prompt in enumerate(prompts):
        scheduler.add_request(Request(f"r{number}", list(prompt), max_tokens=1_000))
    return scheduler


def step(scheduler: Scheduler) -> dict[str, int]:
    """Run a step in which each request that is caught up samples a 7; return what it planned."""
    output = scheduler.schedule()
    sampled = {
        name: 7
        for name in output.num_scheduled_tokens
        if scheduler.requests[name].num_computed_tokens >= scheduler.requests[name].num_tokens
    }
    scheduler.update_from_output(output, sampled)
    return dict(output.num_scheduled_tokens)


def prefill_beside_decodes(v: dict[str, Any]) -> int:
    decodes = v["decodes"]
    scheduler = served([[1]] * decodes, max_num_batched_tokens=v["budget"])
    step(scheduler)
    scheduler.add_request(Request("new", [1] * 50_000, max_tokens=5))
    plan = step(scheduler)
    assert sum(plan.values()) == v["budget"]
    return plan["new"]


def computed_until_the_end(v: dict[str, Any]) -> int:
    scheduler = served([])
    scheduler.add_request(Request("a", [1] * v["prompt"], max_tokens=v["limit"]))
    total = 0
    while plan := step(scheduler):
        total += sum(plan.values())
    return total


def second_of_two_equal_prompts(v: dict[str, Any]) -> str:
    prompt = list(range(v["tokens"]))
    plan = step(served([prompt, prompt], enable_caching=True))
    return f"{plan['r0']} and {plan['r1']}"


def computed_behind_drafts(v: dict[str, Any]) -> int:
    scheduler = SpeculativeScheduler(SchedulerConfig(), KVCacheManager(100))
    request = Request("a", range(v["prompt"]), max_tokens=50)
    scheduler.add_request(request)
    scheduler.update_from_output(scheduler.schedule(), {"a": 7})
    scheduler.add_drafts({"a": [8] * v["drafts"]})
    output = scheduler.schedule()
    assert request.num_computed_tokens == v["planned"]
    scheduler.update_from_output(output, {"a": [8] * v["accepted"] + [5]})
    return request.num_computed_tokens


def freed_of_a_shared_table(v: dict[str, Any]) -> int:
    pool = BlockPool(num_blocks=50)
    blocks = pool.get_new_blocks(v["blocks"])
    pool.touch(blocks[: v["shared"]])
    before = pool.get_num_free_blocks()
    pool.free_blocks(reversed(blocks))
    return pool.get_num_free_blocks() - before


def slot_of(v: dict[str, Any]) -> int:
    table = BlockTable(16)
    table.append([v["first"], v["second"], v["third"]])
    return table.slot(v["position"])


def element_of(v: dict[str, Any]) -> int:
    strides = row_major_strides((10, 16, v["heads"], v["size"]))
    place = (v["block"], v["place"], v["head"], 0)
    return sum(index * stride for index, stride in zip(place, strides, strict=True))


def bytes_of(v: dict[str, Any]) -> int:
    model = ModelSpec("model", v["layers"], 4096, v["heads"], v["heads"], 128, 7_000_000_000)
    return kv_bytes_per_token(model)


def blocks_of(tokens: int, block: int = 16) -> int:
    return blocks_to_add(tokens, 0, block)


def planned_in_vain(v: dict[str, Any]) -> int:
    """Count the tokens that are computed for requests that have ended, one request at a time."""

    def wasted(limit: int, ends_with_eos: bool) -> int:
        scheduler = AsyncScheduler(SchedulerConfig(), KVCacheManager(100))
        request = Request("a", range(5), max_tokens=limit, eos_token_id=0)
        scheduler.add_request(request)
        plans = [scheduler.schedule(), scheduler.schedule()]
        computed = 0
        while plans:
            output = plans.pop(0)
            computed += sum(output.num_scheduled_tokens.values())
            is_last = ends_with_eos and len(request.output_token_ids) == 2
            names = output.num_scheduled_tokens
            scheduler.update_from_output(output, dict.fromkeys(names, 0 if is_last else 7))
            following = scheduler.schedule()
            if following.num_scheduled_tokens:
                plans.append(following)
        return computed - (5 + len(request.output_token_ids) - 1)

    kinds = {
        "end of text": wasted(10, True),
        "both": wasted(3, True),
        "limit": wasted(3, False),
    }
    assert kinds == {"end of text": 1, "both": 0, "limit": 0}
    return (
        (v["eos"] - v["both"]) * kinds["end of text"]
        + v["both"] * kinds["both"]
        + (v["total"] - v["eos"]) * kinds["limit"]
    )


def planned_behind_a_late_lookup(v: dict[str, Any]) -> str:
    plan, _ = admit_suspect(Memory(free=8), [("a", v["tokens"], v["hit"])], budget=10_000)
    first, end = plan["a"]
    return f"{first} up to {end}, "


WORKED_OUT: dict[str, Callable[[dict[str, Any]], str]] = {
    "F6": lambda v: f"{100 * expected_static_utilization(v['batch']):.0f}%",
    "F7": lambda v: f"{sum(range(v['block'])) / v['block']:g}",
    "F8": lambda v: f"{bytes_of(v):,}",
    "F9": lambda v: f"1/{v['query'] / v['kv']:g} of what it was",
    "F10": lambda v: f"{slot_of(v)}",
    "F11": lambda v: f"{blocks_of(v['tokens'])} and {-v['tokens'] % 16}",
    "F19": lambda v: f"TPOT by {1000 * v['stall'] / (v['tokens'] - 1):.0f} ms",
    "F20": lambda v: f"{v['params'] * 1e9 * 2 / (v['bandwidth'] * 1e9) * 1e3:.2f} ms",
    "I1": lambda v: f"{blocks_to_add(v['tokens'] + v['more'], v['before'], v['block'])}",
    "I2": lambda v: f"{v['gib'] * 2**30 // (16 * 819_200) * 16:,}",
    "I3": lambda v: f"{prefill_beside_decodes(v)}",
    "I6": lambda v: f"Before token {v['tokens'] + 1} ",
    "I7": lambda v: f"{v['prompt']}; the next step",
    "I8": lambda v: f"{computed_until_the_end(v)}",
    "I9": lambda v: f"{v['free'] - blocks_of(v['tokens'])}",
    "I11": lambda v: f"{sum(map(blocks_of, (v['a'], v['b'], v['c'])))} blocks are held",
    "I13": lambda v: f"{2 * v['tokens'] * 819_200 / (v['rate'] * 1e9) * 1e3:,.0f} ms",
    "I15": lambda v: f"{prefill_beside_decodes(v):,}",
    "I16": lambda v: f"{v['rate'] * v['stay']:.1f}",
    "I17": lambda v: f"{computed_behind_drafts(v)}",
    "I18": lambda v: f"{planned_in_vain(v)}",
    "I19": lambda v: f"{freed_of_a_shared_table(v)}",
    "I20": second_of_two_equal_prompts,
    "I21": planned_behind_a_late_lookup,
    "I22": lambda v: f"{MG1(v['rho'], 1.0, v['scv']).mean_wait:.1f}",
    "I25": lambda v: f"{element_of(v):,}",
    "D11": lambda v: f"{(v['gpu'] + v['plan']) / v['gpu']:.2f}",
}


@pytest.mark.parametrize("question", DRAWN, ids=lambda each: each.id)
def test_the_right_number_is_what_the_library_gives(question: DrawnQuestion) -> None:
    for values in question.settings():
        said = right(question.asked(values))
        worked_out = WORKED_OUT[question.id](values)
        assert worked_out in said, values
        if first_number(worked_out) is not None and said[0].isdigit():
            assert first_number(said) == first_number(worked_out), values


# What the words say, tried


def test_defaults_are_those_of_the_configuration() -> None:
    config = SchedulerConfig()
    assert (config.max_num_seqs, config.max_num_batched_tokens) == (128, 2048)
    assert config.policy == "fcfs"
    assert "128 sequences, 2,048 tokens, first come" in right(QUESTIONS["F18"].drawn(1))


def test_rows_of_gpus_are_vendors_data() -> None:
    """F20: bandwidth and arithmetic of an H100, an A100 with 80 GB and an H200."""
    rows = [(row["bandwidth"], row["flops"]) for row in QUESTIONS["F20"].draw["gpu"]]
    known = {(gpu.memory_bandwidth / 1e9, gpu.peak_flops / 1e12) for gpu in GPUS.values()}
    assert set(rows) <= known


def test_a_waiting_request_preempts_nobody_and_ends_admission() -> None:
    """I10 and I14."""
    scheduler = served([], num_blocks=26, policy="priority")
    scheduler.add_request(Request("a", [1] * 16 * 20, max_tokens=5, priority=5))
    step(scheduler)  # 20 of 25 blocks, and soon one more
    scheduler.add_request(Request("b", [1] * 16 * 10, max_tokens=5, priority=3))
    scheduler.add_request(Request("c", [1] * 16 * 19, max_tokens=5, priority=0))
    output = scheduler.schedule()
    assert output.num_scheduled_tokens == {"a": 1}
    assert not output.preempted_req_ids
    assert [request.request_id for request in scheduler.waiting] == ["c", "b"]

    queue = served([[1] * 16 * 100], num_blocks=200)
    step(queue)  # 100 blocks of 199, and soon one more
    for name, blocks in (("large", 125), ("small", 2)):
        queue.add_request(Request(name, [1] * 16 * blocks, max_tokens=5))
    assert set(queue.schedule().num_scheduled_tokens) == {"r0"}


def test_the_least_important_that_runs_gives_way() -> None:
    """F13 and I12."""
    scheduler = served([], num_blocks=4, policy="priority")
    for name, priority, length in (("a", 5, 10), ("b", 3, 16), ("c", 7, 10)):
        scheduler.add_request(Request(name, [1] * length, max_tokens=50, priority=priority))
    step(scheduler)
    scheduler.add_request(Request("d", [1] * 16, max_tokens=50, priority=10))
    assert list(scheduler.schedule().preempted_req_ids) == ["c"]


def test_blocks_of_a_finished_request_serve_the_next_plan_which_names_it() -> None:
    """I4 and I24."""
    scheduler = Scheduler(SchedulerConfig(), KVCacheManager(3))
    scheduler.add_request(Request("a", [1] * 32, max_tokens=1))
    scheduler.add_request(Request("b", [2] * 32, max_tokens=1))
    assert step(scheduler) == {"a": 32}
    output = scheduler.schedule()
    assert set(output.finished_req_ids) == {"a"}
    assert dict(output.num_scheduled_tokens) == {"b": 32}


def test_a_full_hit_leaves_out_the_last_block() -> None:
    """F16."""
    scheduler = served([list(range(48))], enable_caching=True)
    step(scheduler)
    scheduler.add_request(Request("again", list(range(48)), max_tokens=5))
    assert step(scheduler)["again"] == 16


def test_a_capacity_that_is_22_per_cent_too_high_hides_an_overload() -> None:
    """D12."""
    assert round(1.24 / 1.22, 2) == 1.02
