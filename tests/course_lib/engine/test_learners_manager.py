"""An engine on a cache manager as a learner writes it has the tokens of transformers."""

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

import learners_manager as learners
from course_lib.engine import LLM, EngineParts, SamplingParams
from course_lib.kv_cache import KVCacheManager

Save = Callable[..., Path]
Logits = Callable[[Path, list[int]], Tensor]

MAX_TOKENS = 12
SYSTEM = list(range(3, 24))
PROMPTS = [SYSTEM + list(range(40 + number, 47 + 2 * number)) for number in range(5)]

LearnersManager = type(
    "LearnersManager",
    (KVCacheManager,),
    {method.__name__: method for method in learners.METHODS},
)


def own_parts() -> EngineParts:
    """Return an engine's parts with lesson 8 solved."""
    functions = {function.__name__: function for function in learners.FUNCTIONS}
    return EngineParts.of({"KVCacheManager": LearnersManager, **functions})


@pytest.mark.parametrize("num_blocks", [200, 24])
def test_greedy_tokens_are_those_of_transformers(
    hf_checkpoint: Save, hf_logits: Logits, num_blocks: int
) -> None:
    folder = hf_checkpoint("llama", eos_token_id=None)
    llm = LLM(folder, parts=own_parts(), num_blocks=num_blocks, block_size=4, debug=True)
    greedy = SamplingParams(temperature=0, max_tokens=MAX_TOKENS)
    for prompt, result in zip(PROMPTS, llm.generate(PROMPTS, greedy), strict=True):
        answer = result.outputs[0].token_ids
        logits = hf_logits(folder, prompt + answer[:-1])
        assert answer == logits[len(prompt) - 1 :].argmax(-1).tolist()
    stats = llm.kv_cache_manager.stats()
    assert stats.hit_tokens > 0, "prompts that begin alike share blocks"


def test_samples_of_one_prompt_are_forked_and_copied(hf_checkpoint: Save) -> None:
    folder = hf_checkpoint("llama", eos_token_id=None)
    samples = SamplingParams(n=4, temperature=1.0, seed=3, max_tokens=MAX_TOKENS)
    answers = []
    for engine_parts in (own_parts(), EngineParts.reference()):
        llm = LLM(folder, parts=engine_parts, num_blocks=60, block_size=4, debug=True)
        (result,) = llm.generate([SYSTEM], samples)
        answers.append([output.token_ids for output in result.outputs])
        assert llm.kv_cache_manager.stats().copies == 3
    assert answers[0] == answers[1]
    assert len({tuple(each) for each in answers[0]}) > 1
