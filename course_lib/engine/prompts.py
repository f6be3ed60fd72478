"""What may be asked of an engine: one prompt or several, as texts or as tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from course_lib.engine.sampling_params import SamplingParams

PlainPrompt = str | Sequence[int]
"""A text, or the tokens of one."""

Prompt = PlainPrompt | Mapping[str, PlainPrompt]
"""The same, also as vLLM's ``{"prompt": text}`` or ``{"prompt_token_ids": tokens}``."""


class PromptError(ValueError):
    """A prompt that this engine cannot serve; says what it would take."""


def as_prompts(prompts: Prompt | Sequence[Prompt]) -> Sequence[Prompt]:
    """Return a list of prompts, also of a single one.

    >>> as_prompts("a text"), as_prompts([5, 6]), as_prompts(["one", [7]])
    (['a text'], [[5, 6]], ['one', [7]])
    """
    if isinstance(prompts, (str, Mapping)) or (prompts and isinstance(prompts[0], int)):
        return [prompts]  # type: ignore[list-item]  # a text, the tokens of one, or a dictionary
    return prompts  # type: ignore[return-value]


def plain_prompt(prompt: Prompt) -> PlainPrompt:
    """Return the text or the tokens of a prompt.

    Raises:
        PromptError: It is a dictionary with other fields than vLLM's two.

    >>> plain_prompt("a text"), plain_prompt({"prompt_token_ids": [5, 6]})
    ('a text', [5, 6])
    """
    if isinstance(prompt, Mapping):
        if not prompt or not prompt.keys() <= {"prompt", "prompt_token_ids"}:
            raise PromptError(
                f"a prompt with the fields {sorted(prompt)} is not understood; give a text, "
                'tokens, {"prompt": text} or {"prompt_token_ids": tokens}'
            )
        # With both, the tokens count: the text is what they were made of.
        return prompt.get("prompt_token_ids", prompt.get("prompt", ""))
    return prompt


def one_each(
    params: SamplingParams | Sequence[SamplingParams], num_prompts: int
) -> Sequence[SamplingParams]:
    """Return the sampling parameters of each prompt.

    Args:
        params: One for all, or one for each.
        num_prompts: How many prompts there are.

    Raises:
        ValueError: There is neither one for all nor one for each.

    >>> len(one_each(SamplingParams(), 3))
    3
    """
    if isinstance(params, SamplingParams):
        return [params] * num_prompts
    if len(params) != num_prompts:
        raise ValueError(
            f"{num_prompts} prompts have {len(params)} sampling parameters; give one for all, or "
            "one for each"
        )
    return params
