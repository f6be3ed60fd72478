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

    Tokens may be NumPy's numbers and stand in its arrays: one row for each prompt, or one alone.

    Raises:
        PromptError: It is neither a prompt nor a list.

    >>> as_prompts("a text"), as_prompts([5, 6]), as_prompts(["one", [7]])
    (['a text'], [[5, 6]], ['one', [7]])
    """
    if isinstance(prompts, (str, Mapping)):
        return [prompts]
    if not _is_list(prompts):
        raise _no_prompt(prompts)
    is_list = _is_prompt(prompts[0]) if len(prompts) else getattr(prompts, "ndim", 0) != 1
    return list(prompts) if is_list else [prompts]  # type: ignore[arg-type, list-item]


def plain_prompt(prompt: Prompt) -> PlainPrompt:
    """Return the text or the tokens of a prompt.

    Raises:
        PromptError: It is a dictionary with other fields than vLLM's two, or with neither, or
            what should be a text or tokens is something else.

    >>> plain_prompt("a text"), plain_prompt({"prompt_token_ids": [5, 6]})
    ('a text', [5, 6])
    """
    if not isinstance(prompt, Mapping):
        return _require_plain(prompt)
    # With both, the tokens count: the text is what they were made of.
    given = (prompt.get(name) for name in ("prompt_token_ids", "prompt"))
    found = next((value for value in given if value is not None), None)
    if found is None or not prompt.keys() <= {"prompt", "prompt_token_ids"}:
        raise PromptError(
            f"a prompt with the fields {sorted(prompt)} is not understood; give a text, "
            'tokens, {"prompt": text} or {"prompt_token_ids": tokens}'
        )
    return _require_plain(found)


def _require_plain(prompt: PlainPrompt) -> PlainPrompt:
    if isinstance(prompt, str) or _is_list(prompt):
        return prompt
    raise _no_prompt(prompt)


def _no_prompt(value: object) -> PromptError:
    return PromptError(
        f"{value!r} is no prompt; give a text, a list of tokens, or several of these"
    )


def _is_list(value: object) -> bool:
    """Whether something has a length and an order, as lists and arrays have."""
    has_items = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return has_items and getattr(value, "ndim", 1) > 0 and not isinstance(value, (str, bytes))


def _is_prompt(item: object) -> bool:
    """Whether an item of a list is a prompt; else it is a token of one."""
    return isinstance(item, (str, Mapping, Sequence)) or getattr(item, "ndim", 0) > 0


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
