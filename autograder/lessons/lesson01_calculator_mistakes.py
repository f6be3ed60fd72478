"""Lesson 1: known wrong answers to its bug hunt, the memory calculator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autograder.checks.finding import Misconception
from autograder.lessons import lesson01_given as given

# 1.6


def only_heads_mended(config: Mapping[str, Any], free_bytes: int) -> int:
    """Mend the heads and not their width."""
    without = {key: value for key, value in config.items() if key != "head_dim"}
    return given.tokens_that_fit(without, free_bytes)


def always_16_bits(config: Mapping[str, Any], free_bytes: int) -> int:
    """Take 16 bits for a number, whatever its type."""
    return given.tokens_that_fit({**config, "torch_dtype": "bfloat16"}, free_bytes)


def divided_by_kv_heads(config: Mapping[str, Any], free_bytes: int) -> int:
    """Share the hidden size among the KV heads."""
    kv_heads = config.get("num_key_value_heads", config["num_attention_heads"])
    head_dim = config.get("head_dim", config["hidden_size"] // kv_heads)
    return given.tokens_that_fit({**config, "head_dim": head_dim}, free_bytes)


def one_kv_head(config: Mapping[str, Any], free_bytes: int) -> int:
    """Take one KV head where their number is not given."""
    return given.tokens_that_fit({"num_key_value_heads": 1, **config}, free_bytes)


def no_values(config: Mapping[str, Any], free_bytes: int) -> int:
    """Count the keys and not the values."""
    return given.tokens_that_fit({**config}, 2 * free_bytes)


def always_128(config: Mapping[str, Any], free_bytes: int) -> int:
    """Take heads of 128 numbers where their size is not given."""
    return given.tokens_that_fit({"head_dim": 128, **config}, free_bytes)


def only_head_dim_mended(config: Mapping[str, Any], free_bytes: int) -> int:
    """Mend the width of a head and not their number."""
    without = {key: value for key, value in config.items() if key != "num_key_value_heads"}
    return given.tokens_that_fit(without, free_bytes)


BUG_EXPOSED = (
    Misconception(
        "a model that it is right for",
        "In a model of this kind every query head has a KV head, and heads x head_dim is its "
        "hidden size. Which models are built otherwise?",
        given.LLAMA_2_7B,
    ),
)

BUG_MENDED = (
    Misconception(
        "2 x layers x hidden_size",
        "Heads times (hidden_size / heads) is hidden_size, whichever heads are counted: the number "
        "of KV heads cancels, and head_dim plays no part.",
        given.suspect_tokens_that_fit,
    ),
    Misconception(
        "one bug is left: head_dim",
        "A configuration may give head_dim itself; only where it does not is it "
        "hidden_size / num_attention_heads.",
        only_heads_mended,
    ),
    Misconception(
        "one bug is left: heads",
        "The cache holds num_key_value_heads heads; only where that is not given are "
        "there as many as query heads.",
        only_head_dim_mended,
    ),
    Misconception(
        "one KV head where none is given",
        "Where num_key_value_heads is missing there is one for each query head: most files without "
        "it are of models with multi-head attention.",
        one_kv_head,
    ),
    Misconception(
        "heads of 128 where no size is given",
        "Where head_dim is missing it is hidden_size / num_attention_heads: 128 in many models, "
        "and not in all.",
        always_128,
    ),
    Misconception(
        "K but not V",
        "The suspect is right about the factor of 2: a key and a value for each head.",
        no_values,
    ),
    Misconception(
        "float32 got lost",
        "The suspect is right about the size of these numbers: 4 bytes in float32, 2 in float16 "
        "and bfloat16.",
        always_16_bits,
    ),
    Misconception(
        "hidden_size / KV heads",
        "Where head_dim is not given, it is hidden_size / num_attention_heads: the hidden size is "
        "shared among the query heads, not among the KV heads.",
        divided_by_kv_heads,
    ),
)
