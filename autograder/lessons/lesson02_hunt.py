"""Lesson 2: its bug hunt. The suspect, the pool that exposes it, and the ways to mend it."""

from __future__ import annotations

import math
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from autograder.checks.finding import Misconception
from autograder.checks.function import Call, Large
from autograder.lessons import lesson02_given as given
from autograder.proxy.wire import kind_of


def suspect_decode(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, block_table: Tensor, context_len: int
) -> Tensor:
    """Return the attention of one token over its sequence, all of its blocks at once.

    Args:
        query: [num_heads, head_dim].
        key_cache: [num_blocks, block_size, num_heads, head_dim].
        value_cache: The shape of `key_cache`.
        block_table: [max_blocks], the block ids of the sequence in order.
        context_len: Tokens of the sequence, at least 1.
    """
    num_blocks = -(-context_len // key_cache.shape[1])
    blocks = block_table[:num_blocks]
    keys, values = key_cache[blocks].flatten(0, 1), value_cache[blocks].flatten(0, 1)

    # Hide what is behind the context.
    scores = torch.einsum("hd,nhd->hn", query, keys) / math.sqrt(query.shape[-1])
    hidden = torch.arange(len(keys)) >= context_len
    weights = torch.softmax(scores.masked_fill(hidden, -math.inf), dim=-1)
    return torch.einsum("hn,nhd->hd", weights, values)


def decode(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, block_table: Tensor, context_len: int
) -> Tensor:
    """Return what the suspect should return."""
    num_blocks = -(-context_len // key_cache.shape[1])
    blocks = block_table[:num_blocks]
    keys = key_cache[blocks].flatten(0, 1)[:context_len]
    values = value_cache[blocks].flatten(0, 1)[:context_len]
    scores = torch.einsum("hd,nhd->hn", query, keys) / math.sqrt(query.shape[-1])
    return torch.einsum("hn,nhd->hd", torch.softmax(scores, dim=-1), values)


# Expose it

_NUM_SLOTS, _BLOCK_SIZE, _TABLE = 6, 2, (2, 0)
_EXPOSING = {"values": [6.0, math.nan, 0.0, 0.0, 1.0, 2.0], "context_len": 3}


def exposing_pool() -> dict[str, Any]:
    """Return a pool on which the suspect is wrong."""
    return dict(_EXPOSING)


def exposes(expected: Any, got: Any) -> str | None:
    """Agree on a pool on which the suspect is wrong, whichever it is."""
    problem = _problem_with(got)
    if problem:
        return problem
    if _kind(got) == "exposing":
        return None
    if _kind(got) == "its own":
        return "the sequence itself holds this, so the right answer is not finite either"
    return "on this pool the suspect returns the right answer"


def of_the_same_kind(wrong: Any, got: Any) -> str | None:
    """Agree on pools that fail to expose the suspect for the same reason."""
    return None if not _problem_with(got) and _kind(wrong) == _kind(got) else ""


def _problem_with(pool: Any) -> str:
    """Say why this is no pool with a context; "" if it is one."""
    if not isinstance(pool, dict) or not {"values", "context_len"} <= pool.keys():
        return "it needs the keys 'values' and 'context_len'"
    values, context_len = _listed(pool["values"]), pool["context_len"]
    if not isinstance(values, list):
        return f"its values are of type {kind_of(pool['values'])}, not a list"
    if len(values) != _NUM_SLOTS:
        return f"it has {len(values)} values, not {_NUM_SLOTS}, one for each slot"
    strange = [kind_of(value) for value in values if type(value) not in (int, float)]
    if strange:
        kind = f"a value is of type {strange[0]}, not float or int"
        return f"{kind}; what is no number to a GPU is float('nan') in Python"
    try:
        [float(value) for value in values]
    except OverflowError:
        return "a value is a whole number too large for any float; infinity is float('inf')"
    room = f"two blocks of {_BLOCK_SIZE} hold 1 to 4 tokens"
    if type(context_len) is not int:
        came = f"context_len is {context_len!r}, of type {kind_of(context_len)}"
        return f"{came}; it is a whole number of type int, and {room}"
    if not 1 <= context_len <= 2 * _BLOCK_SIZE:
        return f"context_len is {context_len}; {room}"
    return ""


def _listed(values: Any) -> Any:
    """Return the values as a list of plain numbers, where they are numbers of any kind."""
    flat = values.tolist() if hasattr(values, "tolist") else values
    return [_plain(each) for each in flat] if isinstance(flat, list | tuple) else flat


def _plain(value: Any) -> Any:
    """Return a number of NumPy or PyTorch, or a bool, as Python's own number."""
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    return int(value) if isinstance(value, bool) else value


def _kind(pool: dict[str, Any]) -> str:
    """Say where in a pool something is that is not finite."""
    values, context_len = _listed(pool["values"]), pool["context_len"]
    slots = [_TABLE[p // _BLOCK_SIZE] * _BLOCK_SIZE + p % _BLOCK_SIZE for p in range(4)]
    gathered = -(-context_len // _BLOCK_SIZE) * _BLOCK_SIZE
    # The pool is of float32, in which 1e39 is infinite.
    held = torch.tensor([float(value) for value in values], dtype=torch.float32).isfinite()
    strange = {slot for slot, is_finite in enumerate(held.tolist()) if not is_finite}
    if strange & set(slots[:context_len]):
        return "its own"
    if strange & set(slots[context_len:gathered]):
        return "exposing"
    if strange & set(slots):
        return "not gathered"
    return "another's block" if strange else "finite"


EXPOSED = (
    Misconception(
        "a finite number",
        "Any finite number times the weight 0 is 0, however large it is. What else can a slot hold "
        "in floating point?",
        {"values": [6.0, 1e30, 0.0, 0.0, 1.0, 2.0], "context_len": 3},
    ),
    Misconception(
        "in a block of somebody else",
        "Block 1 is not in the table, so the suspect never reads it.",
        {"values": [6.0, 0.0, math.nan, 0.0, 1.0, 2.0], "context_len": 3},
    ),
    Misconception(
        "in a slot of its own",
        "A token of the sequence holds it, so the right answer shows it as well. The suspect must "
        "be wrong where the sequence itself is sound.",
        {"values": [math.nan, 0.0, 0.0, 0.0, 1.0, 2.0], "context_len": 3},
    ),
    Misconception(
        "in a block that is not read",
        "The suspect gathers as many blocks as the context needs. It has to be in the last of "
        "those, behind the context.",
        {"values": [6.0, math.nan, 0.0, 0.0, 1.0, 2.0], "context_len": 2},
    ),
)

# Mend it


@st.composite
def sequences(draw: st.DrawFn) -> Call:
    """Draw a sequence in blocks, each query head with a KV head of its own."""
    query, keys, values, table, context_len, _ = draw(
        given.paged_sequences((torch.float32, torch.float64), most_per_group=1)
    ).args
    return Call(query, keys, values, table, context_len)


def _pool(pool: dict[str, Any], key: float = 0.0) -> Call:
    """Return the call on a pool; ``key`` is in the keys wherever a value is not finite."""
    values = torch.tensor(pool["values"]).reshape(3, 2, 1, 1)
    keys = torch.where(values.isfinite(), 0.0, key)
    return Call(torch.ones(1, 1), keys, values, torch.tensor(_TABLE), pool["context_len"])


def _with(slot: int, value: float) -> dict[str, Any]:
    values = [6.0, 0.0, 0.0, 0.0, 1.0, 2.0]
    return {"values": [*values[:slot], value, *values[slot + 1 :]], "context_len": 3}


def _of_two_heads() -> Call:
    """Return the call on random numbers: keys that differ, heads of more than one number."""
    generator = torch.Generator().manual_seed(8)
    query = torch.randn(2, 4, generator=generator)
    caches = torch.randn(2, 3, 2, 2, 4, generator=generator)
    return Call(query, *caches, torch.tensor(_TABLE), 3)


def _key_of_its_own_is_nan() -> Call:
    """Return the call on a sequence of which one key is NaN, and nothing else anywhere."""
    query, keys, *rest = _pool(_with(1, 0.0)).args
    keys = keys.clone()
    keys[0, 0] = math.nan
    return Call(query, keys, *rest)


def _of_low_scores() -> Call:
    """Return the call on a sequence all of whose scores are far below 0, beside a stale slot."""
    query, keys, *rest = _pool(_EXPOSING).args
    return Call(given.LOW * query, keys + 1, *rest)


POOLS = (
    _pool(_EXPOSING),
    _pool(_with(1, math.inf)),
    _pool(_EXPOSING, key=math.nan),
    _pool(_with(1, 1e30)),
    _pool(_with(0, math.nan)),
    _pool(_with(0, math.inf)),
    _key_of_its_own_is_nan(),
    _of_two_heads(),
    _pool({**_EXPOSING, "context_len": 1}),
    _pool({"values": [6.0, 9.0, 0.0, 0.0, 1.0, 2.0], "context_len": 4}),
    _of_low_scores(),
)
"""Pools that tell the ways to mend it apart."""


def _long_sequence() -> Call:
    generator = torch.Generator().manual_seed(10)
    table = torch.randperm(300, generator=generator)[:250]
    caches = torch.randn(2, 300, 16, 8, 32, generator=generator)
    return Call(torch.randn(8, 32, generator=generator), *caches, table, 4_000)


LONG_SEQUENCES = (Large(_long_sequence, "a context of 4,000 tokens", seconds=1.0),)
"""A sequence that is read at once, or token by token, but not number by number."""


def output_swept(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, block_table: Tensor, context_len: int
) -> Tensor:
    """Replace NaN in the output by 0."""
    keys, values, hidden = _gathered(key_cache, value_cache, block_table, context_len)
    return _attended(query, keys, values, hidden).nan_to_num()


def values_swept(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, block_table: Tensor, context_len: int
) -> Tensor:
    """Replace NaN in all values by 0."""
    keys, values, hidden = _gathered(key_cache, value_cache, block_table, context_len)
    return _attended(query, keys, values.nan_to_num(), hidden)


def keys_swept(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, block_table: Tensor, context_len: int
) -> Tensor:
    """Cut the values, and replace NaN in all keys by 0."""
    keys, values, hidden = _gathered(key_cache, value_cache, block_table, context_len)
    values = values.masked_fill(hidden[:, None, None], 0.0)
    return _attended(query, keys.nan_to_num(), values, hidden)


def mask_added(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, block_table: Tensor, context_len: int
) -> Tensor:
    """Cut the values, and add the mask to the scores."""
    keys, values, hidden = _gathered(key_cache, value_cache, block_table, context_len)
    scores = torch.einsum("hd,nhd->hn", query, keys) / math.sqrt(query.shape[-1])
    scores = scores + torch.where(hidden, -math.inf, 0.0)
    values = values.masked_fill(hidden[:, None, None], 0.0)
    return torch.einsum("hn,nhd->hd", torch.softmax(scores, dim=-1), values)


def hidden_with_a_number(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, block_table: Tensor, context_len: int
) -> Tensor:
    """Cut the values, and hide the scores with a finite number."""
    keys, values, hidden = _gathered(key_cache, value_cache, block_table, context_len)
    scores = torch.einsum("hd,nhd->hn", query, keys) / math.sqrt(query.shape[-1])
    weights = torch.softmax(scores.masked_fill(hidden, -1e9), dim=-1)
    values = values.masked_fill(hidden[:, None, None], 0.0)
    return torch.einsum("hn,nhd->hd", weights, values)


def _gathered(
    key_cache: Tensor, value_cache: Tensor, block_table: Tensor, context_len: int
) -> tuple[Tensor, Tensor, Tensor]:
    blocks = block_table[: -(-context_len // key_cache.shape[1])]
    keys, values = key_cache[blocks].flatten(0, 1), value_cache[blocks].flatten(0, 1)
    return keys, values, torch.arange(len(keys)) >= context_len


def _attended(query: Tensor, keys: Tensor, values: Tensor, hidden: Tensor) -> Tensor:
    scores = torch.einsum("hd,nhd->hn", query, keys) / math.sqrt(query.shape[-1])
    weights = torch.softmax(scores.masked_fill(hidden, -math.inf), dim=-1)
    return torch.einsum("hn,nhd->hd", weights, values)


MENDED = (
    Misconception(
        "something times 0",
        "A weight of 0, or a mask of 0, is multiplied by what the stale slot holds, and 0 times "
        "NaN is NaN. Leave the slot out, or choose between two numbers instead of multiplying.",
        suspect_decode,
    ),
    Misconception(
        "swept out of the output",
        "By then the sum is lost: NaN plus anything is NaN, and 0 in its place is a wrong answer "
        "that looks like a right one.",
        output_swept,
    ),
    Misconception(
        "swept out of all values",
        "That hides a NaN which the sequence itself holds as well, the symptom of a bug elsewhere. "
        "Only what is behind the context has to go.",
        values_swept,
    ),
    Misconception(
        "swept out of all keys",
        "That hides a NaN which a key of the sequence itself holds as well, the symptom of a bug "
        "elsewhere. Only what is behind the context has to go.",
        keys_swept,
    ),
    Misconception(
        "the mask is added",
        "A stale key may be NaN, too, and NaN plus -inf is NaN: replace the score, or leave the "
        "key out.",
        mask_added,
    ),
    Misconception(
        "hidden with a finite number",
        "The sequence's own scores may be as low, and then what is hidden has weight as well: only "
        "-inf is below them all.",
        hidden_with_a_number,
    ),
)
