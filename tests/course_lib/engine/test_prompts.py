"""What may be asked of an engine, in whichever form it comes."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from course_lib.engine import LLM, EngineParts, PromptError, SamplingParams
from course_lib.engine.prompts import as_prompts, plain_prompt

PROMPT = [5, 6, 7]


@pytest.fixture(scope="module")
def llm(hf_checkpoint: Callable[..., Path]) -> LLM:
    """An engine of a random checkpoint, without tokenizer and without an end token."""
    folder = hf_checkpoint("llama", eos_token_id=None)
    return LLM(folder, num_blocks=50, block_size=4, parts=EngineParts.reference())


def tokens(llm: LLM, prompts: Any, params: SamplingParams) -> list[list[int]]:
    return [output.outputs[0].token_ids for output in llm.generate(prompts, params)]


GREEDY = SamplingParams(temperature=0, max_tokens=4)


@pytest.mark.parametrize(
    ("prompts", "num_prompts"),
    [
        (np.array(PROMPT), 1),
        (np.array(PROMPT, dtype=np.uint8), 1),
        ([np.int64(5), np.int32(6), np.uint16(7)], 1),
        (tuple(PROMPT), 1),
        (range(5, 8), 1),
        (torch.tensor(PROMPT), 1),
        ({"prompt_token_ids": np.array(PROMPT)}, 1),
        ({"prompt_token_ids": np.array(PROMPT), "prompt": None}, 1),
        (np.array([PROMPT, PROMPT]), 2),
        ([np.array(PROMPT), PROMPT, {"prompt_token_ids": np.array(PROMPT)}], 3),
        ([[np.int64(5), 6, 7]], 1),
        (torch.tensor([PROMPT, PROMPT]), 2),
    ],
)
def test_tokens_may_be_numbers_of_any_kind(llm: LLM, prompts: Any, num_prompts: int) -> None:
    [expected] = tokens(llm, PROMPT, GREEDY)
    assert tokens(llm, prompts, GREEDY) == [expected] * num_prompts
    output = llm.generate(prompts, GREEDY)[0]
    assert output.prompt_token_ids == PROMPT
    assert all(type(token) is int for token in output.prompt_token_ids)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (np.array([5.0, 6.0]), r"has token .*5\.0"),
        (np.array([5, 128]), "has token 128"),
        (np.array([-1]), "has token -1"),
        (np.array([], dtype=np.int64), "the prompt is empty"),
        ([True, None], "has token None"),
        ([np.array(PROMPT), np.array([], dtype=np.int64)], "the prompt is empty"),
        ({"prompt_token_ids": None}, "give a text"),
        ({"prompt_token_ids": 5}, "5 is no prompt; give a text"),
        ({"prompt": np.array(5)}, r"array\(5\) is no prompt"),
        (5, "5 is no prompt"),
        (None, "None is no prompt"),
        (np.array(5), r"array\(5\) is no prompt"),
        (b"abc", "b'abc' is no prompt"),
        ({5, 6}, "is no prompt"),
        (iter(PROMPT), "is no prompt"),
        ([2**64], "has token 18446744073709551616"),
        (np.zeros((2, 2, 2), dtype=np.int64), "has token"),
    ],
)
def test_what_is_no_token_is_refused(llm: LLM, prompt: Any, words: str) -> None:
    with pytest.raises(PromptError, match=words):
        llm.generate(prompt, GREEDY)
    assert not llm.has_unfinished_requests()


@pytest.mark.parametrize("prompt", [5, None, np.array(5), {"prompt": 5}, np.array([5, 128])])
def test_every_entry_refuses_what_is_no_prompt(llm: LLM, prompt: Any) -> None:
    with pytest.raises(PromptError):
        llm.add_request("a", prompt, GREEDY)
    with pytest.raises(PromptError):
        llm.generate_stream(prompt, GREEDY)
    assert not llm.has_unfinished_requests()


@pytest.mark.parametrize(
    "prompt",
    [np.array(PROMPT), torch.tensor(PROMPT), {"prompt_token_ids": np.array(PROMPT, np.uint16)}],
)
def test_every_entry_takes_arrays(llm: LLM, prompt: Any) -> None:
    [expected] = tokens(llm, PROMPT, GREEDY)
    *_, last = llm.generate_stream(prompt, GREEDY)
    llm.add_request("a", prompt, GREEDY)
    while llm.has_unfinished_requests():
        [output] = llm.step()
    assert last.outputs[0].token_ids == output.outputs[0].token_ids == expected


@pytest.mark.parametrize("priority", ["high", None, math.nan, 0.5])
def test_a_priority_that_puts_nothing_in_order_is_refused(llm: LLM, priority: Any) -> None:
    with pytest.raises(ValueError, match=r"^priority is .*; it must be a whole number"):
        llm.add_request("a", PROMPT, GREEDY, priority=priority)
    assert not llm.has_unfinished_requests()


def test_several_texts_may_stand_in_an_array() -> None:
    assert as_prompts(np.array(["a", "b"])) == ["a", "b"]
    assert as_prompts([]) == as_prompts(np.zeros((0, 3), dtype=np.int64)) == []


def test_of_a_dictionary_the_tokens_count() -> None:
    assert plain_prompt({"prompt": "a", "prompt_token_ids": [5]}) == [5]
    assert plain_prompt({"prompt": "a", "prompt_token_ids": None}) == "a"


def test_parameters_may_be_numbers_of_any_kind(llm: LLM) -> None:
    plain = SamplingParams(
        n=2, seed=-3, top_k=5, max_tokens=6, logprobs=2, stop_token_ids=[3], temperature=0.5
    )
    numpy = SamplingParams(
        n=np.int64(2),
        seed=np.int64(-3),
        top_k=np.int32(5),
        max_tokens=np.uint8(6),
        logprobs=np.int16(2),
        stop_token_ids=np.array([3]),
        temperature=np.float32(0.5),
        stop=np.array([], dtype=str),
    )
    assert numpy == plain
    assert tokens(llm, PROMPT, numpy) == tokens(llm, PROMPT, plain)


@pytest.mark.parametrize("name", ["n", "top_k", "max_tokens", "seed", "logprobs"])
@pytest.mark.parametrize("value", [1.5, "5", [5]])
def test_what_must_be_a_whole_number_is_refused_otherwise(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name} is .*; it must be a whole number"):
        SamplingParams(**{name: value})
