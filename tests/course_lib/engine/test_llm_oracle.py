"""Whatever the engine does with memory and time, its tokens are those of transformers."""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from course_lib.engine.engine import LLM
from course_lib.engine.engine_parts import EngineParts
from course_lib.engine.outputs import RequestOutput
from course_lib.engine.sampling_params import SamplingParams
from greedy_oracle import greedy_answer

Save = Callable[..., Path]
Answers = Callable[[Path, list[list[int]]], list[list[int]]]

MAX_TOKENS = 24
GREEDY = SamplingParams(temperature=0, max_tokens=MAX_TOKENS)
BLOCK_SIZE = 4
# One prompt and its answer fill 23 blocks at most; sixteen of them do not fit.
SMALL_POOL = 40


def make_prompts(count: int, seed: int = 0) -> list[list[int]]:
    """Return prompts of 1 to 60 tokens, of which every second one begins like another."""
    rng = random.Random(seed)
    system = rng.choices(range(3, 128), k=25)
    return [
        (system if index % 2 else []) + rng.choices(range(3, 128), k=rng.randrange(1, 36))
        for index in range(count)
    ]


@pytest.fixture(scope="session")
def hf_answers() -> Answers:
    """Return the greedy answers of transformers, one prompt at a time, without padding."""
    pytest.importorskip("transformers")
    return lambda folder, prompts: [
        greedy_answer(folder, tuple(prompt), MAX_TOKENS) for prompt in prompts
    ]


@dataclass
class Run:
    """What came of serving some prompts."""

    outputs: list[RequestOutput]
    num_swapped_in: int
    num_prompt_steps: int


def run(
    llm: LLM, prompts: list[list[int]], params: SamplingParams = GREEDY, *, aborts: bool = True
) -> Run:
    """Serve prompts, with aborts among others that go away at any time."""
    rng = random.Random(1)
    for index, prompt in enumerate(prompts):
        llm.add_request(f"stays {index}", prompt, params)
        if aborts:
            llm.add_request(f"goes {index}", prompt[::-1], params)
    outputs: dict[str, RequestOutput] = {}
    num_swapped_in = num_prompt_steps = 0
    while llm.has_unfinished_requests():
        if aborts and rng.random() < 0.4:
            llm.abort_request(f"goes {rng.randrange(len(prompts))}")
        outputs |= {output.request_id: output for output in llm.step()}
        assert llm.last_step is not None
        num_swapped_in += len(llm.last_step.output.blocks_to_swap_in)
        num_prompt_steps += any(
            num_tokens > 1 for num_tokens in llm.last_step.output.num_scheduled_tokens.values()
        )
    in_order = [outputs[f"stays {index}"] for index in range(len(prompts))]
    return Run(in_order, num_swapped_in, num_prompt_steps)


COMBINATIONS = list(
    itertools.product(
        ("whole prompts", "chunks"),
        ("no prefix caching", "prefix caching"),
        ("ample", "recompute", "swap"),
        ("no aborts", "aborts"),
    )
)


def make_llm(folder: Path, prompt_mode: str, caching: str, memory: str, **options: Any) -> LLM:
    chunks = {"max_num_batched_tokens": 17, "long_prefill_token_threshold": 7}
    memory_options: dict[str, dict[str, Any]] = {
        "ample": {"num_blocks": 1000},
        "recompute": {"num_blocks": SMALL_POOL},
        "swap": {"num_blocks": SMALL_POOL, "preemption_mode": "swap", "num_cpu_blocks": 200},
    }
    options = (
        memory_options[memory]
        | (chunks if prompt_mode == "chunks" else {})
        | {"enable_prefix_caching": caching == "prefix caching", "block_size": BLOCK_SIZE}
        | options
    )
    return LLM(folder, parts=EngineParts.reference(), debug=True, **options)


@pytest.mark.parametrize(("prompt_mode", "caching", "memory", "aborts"), COMBINATIONS)
def test_greedy_tokens_are_those_of_transformers(
    hf_checkpoint: Save,
    hf_answers: Answers,
    prompt_mode: str,
    caching: str,
    memory: str,
    aborts: str,
) -> None:
    folder, prompts = hf_checkpoint("llama"), make_prompts(16)
    llm = make_llm(folder, prompt_mode, caching, memory)
    done = run(llm, prompts, aborts=aborts == "aborts")
    assert [each.outputs[0].token_ids for each in done.outputs] == hf_answers(folder, prompts)
    # What was to be tried has been tried.
    assert (done.num_swapped_in > 0) == (memory == "swap")
    assert prompt_mode == "whole prompts" or done.num_prompt_steps > len(prompts)
    assert (llm.metrics.num_preemptions > 0) == (memory != "ample")
    assert (llm.metrics.prefix_cache_hits > 0) == (caching == "prefix caching")
    assert (llm.metrics.finished["abort"] > 0) == (aborts == "aborts")
    assert llm.kv_cache_manager.usage == 0.0


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8, 16])
def test_tokens_are_right_for_every_family_and_batch_size(
    hf_checkpoint: Save, hf_answers: Answers, family: str, batch_size: int
) -> None:
    folder, prompts = hf_checkpoint(family), make_prompts(16, seed=5)
    llm = make_llm(folder, "chunks", "prefix caching", "swap", max_num_seqs=batch_size)
    outputs = run(llm, prompts).outputs
    assert [output.outputs[0].token_ids for output in outputs] == hf_answers(folder, prompts)


def test_several_answers_are_right_while_they_are_swapped(
    hf_checkpoint: Save, hf_answers: Answers
) -> None:
    """Greedy ones are equal, so transformers says what all of them must be."""
    folder, prompts = hf_checkpoint("llama"), make_prompts(6, seed=8)
    params = SamplingParams(temperature=0, max_tokens=MAX_TOKENS, n=4)
    for memory in ("ample", "recompute", "swap"):
        llm = make_llm(folder, "chunks", "prefix caching", memory, max_num_seqs=7)
        done = run(llm, prompts, params)
        for output, tokens in zip(done.outputs, hf_answers(folder, prompts), strict=True):
            assert [answer.token_ids for answer in output.outputs] == [tokens] * 4
        assert llm.metrics.num_block_copies > 0
        assert (llm.metrics.num_preemptions > 0) == (memory != "ample")
        assert (done.num_swapped_in > 0) == (memory == "swap")
        assert llm.kv_cache_manager.usage == 0.0


def test_logprobs_are_those_of_transformers(
    hf_checkpoint: Save, hf_logits: Callable[[Path, list[int]], torch.Tensor], family: str
) -> None:
    folder, prompts = hf_checkpoint(family), make_prompts(5, seed=2)
    llm = make_llm(folder, "chunks", "prefix caching", "recompute")
    # Penalty, temperature and top_k change what is drawn, not what is reported.
    params = SamplingParams(
        max_tokens=8, logprobs=3, seed=4, temperature=0.7, top_k=20, repetition_penalty=1.3
    )
    for prompt, output in zip(prompts, llm.generate(prompts, params), strict=True):
        answer = output.outputs[0]
        expected = hf_logits(folder, prompt + answer.token_ids).log_softmax(dim=-1)
        assert answer.logprobs is not None
        assert len(answer.logprobs) == len(answer.token_ids)
        total = 0.0
        for place, token_id in enumerate(answer.token_ids):
            row, found = expected[len(prompt) - 1 + place], answer.logprobs[place]
            for reported, logprob in found.items():
                assert logprob.logprob == pytest.approx(float(row[reported]), abs=1e-4)
                assert logprob.rank == int((row > row[reported]).sum()) + 1
            assert set(row.topk(3).indices.tolist()) | {token_id} == set(found)
            total += float(row[token_id])
        assert answer.cumulative_logprob == pytest.approx(total, abs=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("memory", ["ample", "recompute", "swap"])
def test_on_a_gpu_the_tokens_are_those_of_transformers(
    hf_checkpoint: Save, hf_answers: Answers, family: str, memory: str
) -> None:
    folder, prompts = hf_checkpoint(family), make_prompts(16, seed=3)
    params = SamplingParams(temperature=0, max_tokens=MAX_TOKENS, n=2)
    options = {"device": "cuda", "dtype": torch.float32}
    llm = make_llm(folder, "chunks", "prefix caching", memory, **options)
    assert llm.executor.backend.name == "triton"
    done = run(llm, prompts, params)
    for output, expected in zip(done.outputs, hf_answers(folder, prompts), strict=True):
        assert [answer.token_ids for answer in output.outputs] == [expected] * 2
    assert llm.metrics.num_block_copies > 0
    assert (done.num_swapped_in > 0) == (memory == "swap")
    assert llm.kv_cache_manager.usage == 0.0
