"""What transformers answers to a prompt: the oracle of everything that an engine generates."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch


@cache
def _model(folder: Path) -> Any:
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@cache
def greedy_answer(folder: Path, prompt: tuple[int, ...], max_tokens: int) -> list[int]:
    """Return the tokens of a greedy answer, computed alone and without padding."""
    ids = torch.tensor([prompt])
    out = _model(folder).generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_tokens,
        do_sample=False,
        pad_token_id=0,
    )
    return out[0, len(prompt) :].tolist()
