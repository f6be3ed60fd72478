"""Lesson 2: what its checks of PyTorch functions are given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from autograder.checks.compare import within
from autograder.checks.function import Call, Large
from course_lib.attention.batch import PagedBatch
from course_lib.attention.dense import SoftmaxState, partial_attention

_DTYPES = (torch.float32, torch.float16, torch.float64, torch.bfloat16)
LOW = -1e20
"""A score below any number that is taken for minus infinity, and finite."""
_CLOSE, _CLOSE_IN_16_BITS, _CLOSE_IN_64_BITS = map(within, (1e-5, 1e-2, 1e-9))


def closely(expected: Any, got: Any) -> str | None:
    """Agree on tensors, and states of tensors, to what their types can tell apart.

    A state in float64 is computed in it; of an output only its type is asked for.
    """
    if isinstance(expected, SoftmaxState) and expected.max_score.dtype == torch.float64:
        return _CLOSE_IN_64_BITS(expected, got)
    dtype = getattr(expected, "dtype", None)
    is_narrow = dtype in (torch.float16, torch.bfloat16)
    return (_CLOSE_IN_16_BITS if is_narrow else _CLOSE)(expected, got)


def closely_merged(expected: Any, got: Any) -> str | None:
    """Agree on states as ``closely`` does; of a head whose maximum is NaN, its output is NaN.

    Whether the maximum or the sums show the NaN, there are right ways to merge that do either.
    """
    if type(got) is not SoftmaxState or not expected.max_score.isnan().any():
        return closely(expected, got)
    came, wanted = vars(got).values(), vars(expected).values()
    if any(getattr(c, "shape", None) != w.shape for c, w in zip(came, wanted, strict=True)):
        return closely(expected, got)
    output = got.numerator / got.denominator[:, None]
    is_shown = expected.max_score.isnan() & output.isnan().all(-1)
    return closely(
        expected,
        SoftmaxState(
            torch.where(is_shown, expected.max_score, got.max_score),
            torch.where(is_shown, expected.denominator, got.denominator),
            torch.where(is_shown[:, None], expected.numerator, got.numerator),
        ),
    )


def _tensor(draw: st.DrawFn, shape: tuple[int, ...], numbers: st.SearchStrategy[float]) -> Tensor:
    count = math.prod(shape)
    drawn = draw(st.lists(numbers, min_size=count, max_size=count))
    return torch.tensor(drawn, dtype=torch.float64).reshape(shape)


# 2.1

_score = st.sampled_from((0.0, 1.0, 2.0, -1.0, 5.0, 11.0, 200.0, 10_000.0, -10_000.0))


@st.composite
def scores(draw: st.DrawFn) -> Call:
    """Draw scores of one to three dimensions; each row has a finite one."""
    rows = draw(st.sampled_from(((), (1,), (2,), (3,), (2, 2))))
    drawn = _tensor(draw, (*rows, draw(st.integers(1, 4))), _score)
    if draw(st.booleans()):
        drawn[..., 1:] = drawn[..., 1:].masked_fill(drawn[..., 1:] == 5.0, -math.inf)
    return Call(drawn.to(draw(st.sampled_from(_DTYPES))))


SCORES = (
    Call(torch.tensor([[0.0, 1.0], [1000.0, 1001.0]])),
    Call(torch.tensor([[0.0, 1.0], [2.0, 3.0]])),
    Call(torch.tensor([12.0, 11.0], dtype=torch.float16)),
    Call(torch.tensor([[-1000.0, -1002.0, -math.inf]])),
    Call(torch.tensor([[1.0, 4.0, 2.0], [3.0, 0.0, 1.0]])),
    Call(torch.tensor([[[0.0, 1.0], [2.0, 5.0]], [[1.0, 1.0], [0.0, 3.0]]])),
    Call(torch.tensor([1000.0])),
    Call(torch.tensor([LOW, -math.inf])),
)
"""Scores that tell the ways to normalise apart."""


def _many_rows() -> Call:
    generator = torch.Generator().manual_seed(3)
    return Call(torch.randn(8_000, 64, generator=generator))


MANY_ROWS = (Large(_many_rows, "8,000 rows of 64 scores", seconds=1.5),)
"""Rows that are normalised all at once, or one by one, but not number by number."""

# 2.2

_number = st.sampled_from((0.0, 1.0, 2.0, -1.0, 3.0))
_query_number = st.sampled_from((0.0, 1.0, 2.0, -1.0, 40.0))


def _told_apart(*sizes: int) -> Tensor:
    """Return values that are all different: token, head and number of each can be read off.

    Those of the tokens are powers of two: the mean of neighbours is no other token's value.
    """
    token, head, place = (torch.arange(size, dtype=torch.float64) for size in sizes)
    return 2 ** token[:, None, None] + 40 * head[:, None] + 100 * place


@st.composite
def keys_of_one_query(draw: st.DrawFn) -> Call:
    """Draw one token's queries, and keys and values that it may see."""
    kv_heads, group = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    head_dim, num_keys = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    dtype = draw(st.sampled_from(_DTYPES))
    query = _tensor(draw, (kv_heads * group, head_dim), _query_number).to(dtype)
    key = _tensor(draw, (num_keys, kv_heads, head_dim), _number).to(dtype)
    value = _told_apart(num_keys, kv_heads, head_dim).to(dtype)
    return Call(query, key, value, draw(st.sampled_from((1.0, None, 0.5, 0.0))))


_FOUR_QUERIES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 2.0]])
_TWO_KEYS = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 5.0], [1.0, 1.0]]])
_TWO_VALUES = torch.tensor([[[1.0, 0.0], [2.0, 1.0]], [[3.0, 1.0], [4.0, 2.0]]])


_FOUR_HEADS_IN_TWO = (
    torch.tensor([[0.0], [0.0], [1.0], [0.0]]),
    torch.tensor([[[0.0], [1.0]]]),
    torch.tensor([[[1.0], [2.0]]]),
)
"""Query, key and value in which only head 2 has a score, that with the second KV head."""


def _many_keys(dtype: torch.dtype) -> Call:
    """Return a call whose sums a 16-bit number cannot hold to the last unit."""
    generator = torch.Generator().manual_seed(2)
    query, key, value = (
        torch.randn(sizes, generator=generator).to(dtype)
        for sizes in ((4, 4), (300, 2, 4), (300, 2, 4))
    )
    return Call(query, key, value)


SEEN_KEYS = (
    Call(_FOUR_QUERIES, _TWO_KEYS, _TWO_VALUES, 1.0),
    Call(_FOUR_QUERIES, _TWO_KEYS, _TWO_VALUES),
    Call(_FOUR_QUERIES[:2], _TWO_KEYS[:, :1], _TWO_VALUES[:, :1], scale=0.5),
    Call(torch.tensor([[40.0, 0.0], [0.0, 1.0]]), _TWO_KEYS, _TWO_VALUES, 1.0),
    Call(0 - _FOUR_QUERIES, _TWO_KEYS[:1], _TWO_VALUES[:1]),
    Call(torch.ones(1, 1), torch.zeros(1, 1, 1), torch.ones(1, 1, 1), scale=0.5),
    _many_keys(torch.float16),
    Call(_FOUR_QUERIES[:1], _TWO_KEYS[:, :1], _TWO_VALUES[:, :1], scale=0.0),
    Call(*(each.double() for each in (_FOUR_QUERIES[:1], _TWO_KEYS[:, :1], _TWO_VALUES[:, :1]))),
    Call(_FOUR_QUERIES[1:2], torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[1.0, 2.0]]])),
    Call(*(torch.ones(1, 1), torch.ones(1, 1, 1), torch.ones(1, 1, 1)), scale=0.0),
    Call(*(torch.ones(1, 1), torch.ones(1, 1, 1), torch.ones(1, 1, 1)), scale=2.0),
    Call(*_FOUR_HEADS_IN_TWO, scale=1.0),
    Call(torch.full((1, 1), LOW), torch.ones(2, 1, 1), torch.tensor([[[1.0]], [[2.0]]])),
    Call(torch.ones(1, 1), torch.zeros(2, 1, 1), torch.tensor([[[1.0]], [[math.nan]]])),
    Call(torch.ones(1, 1), torch.tensor([[[0.0]], [[math.nan]]]), torch.ones(2, 1, 1)),
    Call(torch.ones(1, 1), torch.tensor([[[0.0]], [[1.0]]]), torch.ones(2, 1, 1), scale=-1.0),
)
"""Queries, keys and values that tell the ways to sum apart."""

UNFIT_KEYS = (
    Call(_FOUR_QUERIES, _TWO_KEYS, _TWO_VALUES[:1]),
    Call(_FOUR_QUERIES[:3], _TWO_KEYS, _TWO_VALUES),
    Call(_FOUR_QUERIES[:1], _TWO_KEYS, _TWO_VALUES),
    Call(_FOUR_QUERIES[:, :1], _TWO_KEYS, _TWO_VALUES),
    Call(_FOUR_QUERIES, _TWO_KEYS[:0], _TWO_VALUES[:0]),
)


def _long_context() -> Call:
    generator = torch.Generator().manual_seed(4)
    query = torch.randn(256, 32, generator=generator)
    return Call(query, *(torch.randn(2_000, 32, 32, generator=generator) for _ in "kv"))


MANY_KEYS = (Large(_long_context, "256 heads and a context of 2,000 tokens", seconds=1.2),)
"""Keys that are scored head by head or one by one, but not both, nor once for each key anew."""


# 2.3

_NOTHING = (-math.inf, 0.0, 0.0)
_seen = st.tuples(
    st.sampled_from((0.0, 1.0, 3.0, -2.0, 100.0)),
    st.sampled_from((1.0, 1.5, 2.0)),
    st.sampled_from((1.0, 2.0, -3.0, 5.0)),
)


def state(*heads: tuple[float, ...], dtype: torch.dtype = torch.float32) -> SoftmaxState:
    """Return a state; each head is (m, l, acc ...)."""
    rows = torch.tensor(heads, dtype=dtype)
    return SoftmaxState(rows[:, 0].clone(), rows[:, 1].clone(), rows[:, 2:].clone())


@st.composite
def two_states(draw: st.DrawFn) -> Call:
    """Draw two states of the same query; a head may have seen nothing in one of them or in both."""
    heads = draw(st.integers(1, 2))
    dtype = draw(st.sampled_from((torch.float32, torch.float64)))
    head = _seen | st.just(_NOTHING)
    pair = [[draw(head) for _ in range(heads)] for _ in range(2)]
    return Call(*(state(*each, dtype=dtype) for each in pair))


_WORKED = (
    partial_attention(
        torch.ones(1, 1), torch.tensor([[[2.0]], [[1.0]]]), torch.tensor([[[10.0]], [[20.0]]]), 1.0
    ),
    partial_attention(
        torch.ones(1, 1), torch.tensor([[[3.0]], [[0.0]]]), torch.tensor([[[30.0]], [[40.0]]]), 1.0
    ),
)
"""The two states of the text: scores [2, 1] and [3, 0]."""

STATES = (
    Call(*_WORKED),
    Call(*reversed(_WORKED)),
    Call(state((2.0, 3.0, 11.0, 4.0)), state((0.0, 1.0, 1.0, 5.0))),
    Call(state(_NOTHING), state(_NOTHING)),
    Call(state(_NOTHING), state((1.0, 2.0, 6.0))),
    Call(state((1.0, 2.0, 6.0)), state(_NOTHING)),
    Call(state((500.0, 1.0, 2.0), (0.0, 1.0, 7.0)), state((1.0, 1.5, 3.0), (90.0, 1.0, 3.0))),
    Call(state(_NOTHING, (0.0, 1.0, 7.0)), state((1.0, 1.5, 3.0), _NOTHING)),
    Call(state(_NOTHING, (0.0, 1.0, 7.0)), state(_NOTHING, (1.0, 1.5, 3.0))),
    Call(state((500.0, 1.0, 2.0)), state((1.0, 1.5, 3.0))),
    Call(state((0.0, 1.0, math.nan)), state((0.0, 1.0, 2.0))),
    Call(state(_NOTHING), state((0.0, 1.0, math.nan))),
    Call(*(state(head, dtype=torch.float64) for head in ((2.0, 1.5, 4.0), (0.0, 1.0, 5.0)))),
    Call(state((LOW, 1.0, 2.0)), state(_NOTHING)),
    Call(state((LOW, 1.0, 2.0)), state((3 * LOW, 1.5, 5.0))),
    Call(state((0.0, 1.0, 1.0)), state((-9.5, 1.0, 1000.0))),
    Call(state((0.0, 1.0, 1.0)), state((-30.0, 1.0, 1e10))),
    Call(state((-200.0, 1.0, math.nan)), state((0.0, 1.0, 5.0))),
    Call(state((-200.0, math.nan, 1.0)), state((0.0, 1.0, 5.0))),
    Call(state((math.nan, 1.0, 3.0)), state((0.0, 1.0, 5.0))),
    Call(state((0.0, 1.0, 5.0)), state((math.nan, 1.0, 3.0))),
)
"""States that tell the ways to merge apart."""


def _many_heads() -> Call:
    """Return the call on states of 4,000 heads of 128, as a batch of 125 decodes has them."""
    generator = torch.Generator().manual_seed(5)
    largest, sums = torch.randn(2, 2, 4_000, generator=generator)
    numerators = torch.randn(2, 4_000, 128, generator=generator)
    return Call(*map(SoftmaxState, largest, 1 + sums.abs(), numerators))


MANY_HEADS = (Large(_many_heads, "4,000 heads of 128 numbers", seconds=1.0),)
"""States that are merged all at once, or head by head, but not number by number."""

# 2.4

_stale = st.sampled_from((1000.0, math.nan, math.inf))
"""What somebody else left in a slot."""


@st.composite
def paged_sequences(
    draw: st.DrawFn, dtypes: Sequence[torch.dtype] = _DTYPES, most_per_group: int = 2
) -> Call:
    """Draw a sequence in blocks that lie anywhere; what it does not own holds any number."""
    block_size, context_len = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    kv_heads, head_dim = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    group = draw(st.integers(1, most_per_group))
    num_own = -(-context_len // block_size)
    num_blocks = num_own + draw(st.integers(0, 1))
    table = draw(st.permutations(range(num_blocks)))[:num_own]
    spare = draw(st.sampled_from(([], [-1], [0, 999])))
    scale = draw(st.sampled_from((None, 1.0, 0.5, 0.0)))
    dtype = draw(st.sampled_from(tuple(dtypes)))
    query = _tensor(draw, (kv_heads * group, 1), _query_number).repeat(1, head_dim).to(dtype)
    key = _tensor(draw, (context_len, kv_heads, 1), _number).repeat(1, 1, head_dim).to(dtype)
    value = _told_apart(context_len, kv_heads, head_dim).to(dtype)
    sizes = block_size, num_blocks
    return _in_blocks(query, key, value, table, spare, sizes, scale, draw(_stale))


def _in_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    table: list[int],
    spare: list[int],
    sizes: tuple[int, int],
    scale: float | None = None,
    stale: float = math.nan,
) -> Call:
    """Return the call on a sequence whose keys and values are written into blocks.

    Args:
        query: [num_heads, head_dim].
        key: [context_len, num_kv_heads, head_dim].
        value: The shape of ``key``.
        table: The physical block of each logical one.
        spare: Entries behind the table's last.
        sizes: Slots of a block, and blocks of the cache.
        scale: What the scores are multiplied by.
        stale: What all other slots hold.
    """
    block_size, num_blocks = sizes
    caches = []
    for numbers in (key, value):
        cache = torch.full((num_blocks, block_size, *key.shape[1:]), stale, dtype=key.dtype)
        for position, token in enumerate(numbers):
            cache[table[position // block_size], position % block_size] = token
        caches.append(cache)
    block_table = torch.tensor([*table, *spare], dtype=torch.int32)
    return Call(query, *caches, block_table, len(key), scale)


def _of_the_text(context_len: int, stale: float = math.nan) -> Call:
    """Return the call on blocks [2, 0] of two slots, keys 0, ln 2, ln 4 and values 7, 14, 28."""
    key = torch.tensor([1.0, 2.0, 4.0]).log()[:context_len, None, None]
    value = torch.tensor([7.0, 14.0, 28.0])[:context_len, None, None]
    return _in_blocks(torch.ones(1, 1), key, value, [2, 0], [-1], (2, 3), stale=stale)


def _of_the_docstring() -> Call:
    """Return the call of the docstring's example, in which whatever is there is 1,000."""
    value = torch.tensor([1.0, 2.0, 6.0])[:, None, None].repeat(1, 1, 4)
    query, keys, values, *rest = _in_blocks(
        torch.ones(1, 4), torch.zeros_like(value), value, [2, 0], [-1], (2, 3), stale=1000.0
    ).args
    return Call(query, torch.zeros_like(keys), values, *rest)


def _random_sequence(
    context_len: int, block_size: int, heads: tuple[int, int, int], spare: list[int]
) -> Call:
    """Return the call on random numbers; ``heads`` is query heads, KV heads and head_dim."""
    generator = torch.Generator().manual_seed(context_len)
    num_heads, kv_heads, head_dim = heads
    num_blocks = 2 - (-context_len // block_size)
    table = torch.randperm(num_blocks, generator=generator)[: num_blocks - 2].tolist()
    query = torch.randn(num_heads, head_dim, generator=generator)
    key, value = torch.randn(2, context_len, kv_heads, head_dim, generator=generator)
    return _in_blocks(query, key, value, table, spare, (block_size, num_blocks))


def _in_16_bits(call: Call) -> Call:
    query, keys, values, *rest = call.args
    return Call(query.half(), keys.half(), values.half(), *rest)


def _caches_in_16_bits(call: Call) -> Call:
    """Return the call with caches that are narrower than the query."""
    query, *rest = _in_16_bits(call).args
    return Call(query.float(), *rest)


def _unsound(call: Call, place: int, number: float) -> Call:
    """Return the call with a number of its own that is not finite: the last token's.

    Args:
        call: The call.
        place: Which argument holds it: 1 for the keys, 2 for the values.
        number: The number.
    """
    arguments = list(call.args)
    cache, table, context_len = arguments[place].clone(), arguments[3], arguments[4]
    block_size = cache.shape[1]
    cache[table[(context_len - 1) // block_size], (context_len - 1) % block_size] = number
    arguments[place] = cache
    return Call(*arguments)


def _one_block(scale: float) -> Call:
    """Return the call on two tokens that fill the one block, with a scale that counts."""
    key, value = torch.tensor([[[0.0]], [[1.0]]]), torch.tensor([[[7.0]], [[14.0]]])
    return _in_blocks(torch.ones(1, 1), key, value, [0], [], (2, 1), scale)


def _two_blocks_of_one() -> Call:
    key, value = torch.tensor([[[0.0]], [[1.0]]]), torch.tensor([[[7.0]], [[14.0]]])
    return _in_blocks(torch.ones(1, 1), key, value, [0, 1], [], (1, 2))


def _sums_beyond_16_bits() -> Call:
    """Return the call on 80 values of 1,000 in float16, whose sum is more than a float16 holds."""
    key = torch.zeros(80, 1, 1, dtype=torch.float16)
    return _in_blocks(torch.ones(1, 1).half(), key, key + 1000, [1, 0], [], (40, 2))


def _low_scores() -> Call:
    """Return the call on a sequence all of whose scores are far below 0, beside a stale slot."""
    query, keys, *rest = _of_the_text(3).args
    return Call(LOW * query, torch.where(keys.isnan(), keys, 1.0), *rest)


def _stale_in_one(place: int) -> Call:
    """Return the call of the text with NaN in stale slots of one cache, and 0 in the other's.

    Args:
        place: Which argument holds NaN: 1 for the keys, 2 for the values.
    """
    arguments = list(_of_the_text(3).args)
    arguments[3 - place] = arguments[3 - place].nan_to_num()
    return Call(*arguments)


SEQUENCES = (
    _of_the_text(3),
    _of_the_text(2),
    _of_the_text(1),
    _of_the_docstring(),
    _of_the_text(3, stale=math.inf),
    _random_sequence(7, 3, (4, 2, 2), []),
    _random_sequence(6, 3, (2, 2, 3), [-1, 999]),
    _in_16_bits(_random_sequence(5, 2, (6, 3, 4), [-1])),
    Call(*_random_sequence(7, 2, (2, 1, 2), [-1]).args[:-1], scale=2.0),
    Call(*_random_sequence(3, 2, (1, 1, 1), []).args[:-1], scale=0.0),
    _caches_in_16_bits(_random_sequence(5, 2, (2, 1, 2), [])),
    _unsound(_of_the_text(3), 1, math.nan),
    _unsound(_of_the_text(3), 2, math.nan),
    _unsound(_of_the_text(3), 2, math.inf),
    _one_block(scale=0.0),
    _one_block(scale=2.0),
    _two_blocks_of_one(),
    _low_scores(),
    _sums_beyond_16_bits(),
    _stale_in_one(1),
    _stale_in_one(2),
)
"""Sequences in blocks that tell the ways to attend apart."""

UNFIT_SEQUENCES = (
    Call(*_of_the_text(1).args[:4], 0),
    Call(torch.ones(3, 2), *_random_sequence(5, 2, (2, 2, 2), []).args[1:]),
    Call(torch.ones(1, 2), *_random_sequence(5, 2, (2, 2, 2), []).args[1:]),
    Call(torch.ones(2, 1), *_random_sequence(5, 2, (2, 2, 2), []).args[1:]),
)


def _long_sequence() -> Call:
    """Return the call on 4,800 tokens in blocks of 16, in a cache with room for ten times that."""
    block_size, context_len, num_blocks = 16, 4_800, 3_000
    generator = torch.Generator().manual_seed(6)
    caches = torch.randn(2, num_blocks, block_size, 2, 64, generator=generator)
    query = torch.randn(8, 64, generator=generator)
    table = torch.randperm(num_blocks, generator=generator)[: -(-context_len // block_size)]
    return Call(query, *caches, table.int(), context_len)


LONG_SEQUENCES = (Large(_long_sequence, "a context of 4,800 tokens", seconds=1.0),)
"""A sequence that one can read once, and not once for each token, nor copy for each block."""


# 2.4b


@st.composite
def batches(draw: st.DrawFn) -> Call:
    """Draw one to three sequences that share a cache, and the newest token of each."""
    context_lens = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    block_size, kv_heads = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    heads = kv_heads * draw(st.integers(1, 2)), kv_heads, draw(st.integers(1, 2))
    scale = draw(st.sampled_from((None, 1.0, 0.0)))
    dtype = draw(st.sampled_from(_DTYPES))
    return _batch(context_lens, block_size, heads, scale, dtype, draw(_stale))


def _batch(
    context_lens: Sequence[int],
    block_size: int,
    heads: tuple[int, int, int],
    scale: float | None = None,
    dtype: torch.dtype = torch.float32,
    stale: float = math.nan,
) -> Call:
    """Return the call on sequences in blocks; ``heads`` is query heads, KV heads and head_dim."""
    generator = torch.Generator().manual_seed(7)
    num_heads, kv_heads, head_dim = heads
    lengths = [-(-context_len // block_size) for context_len in context_lens]
    ids = iter(torch.randperm(sum(lengths) + 1, generator=generator).tolist())
    tables = [[next(ids) for _ in range(length)] for length in lengths]
    num_blocks = sum(lengths) + 1
    batch = PagedBatch.of(tables, context_lens, num_blocks=num_blocks, block_size=block_size)
    caches = torch.full((2, num_blocks, block_size, kv_heads, head_dim), stale, dtype=dtype)
    for table, context_len in zip(tables, context_lens, strict=True):
        for position in range(context_len):
            token = torch.randint(0, 4, (2, kv_heads, head_dim), generator=generator)
            caches[:, table[position // block_size], position % block_size] = token.to(dtype)
    query = torch.randint(0, 3, (len(tables), num_heads, head_dim), generator=generator)
    return Call(query.to(dtype), *caches, batch, scale)


def _with_nan_of_its_own(call: Call) -> Call:
    """Return the call with NaN in the value of the first sequence's first token."""
    query, keys, values, batch, scale = call.args
    values = values.clone()
    values[batch.block_tables[0, 0], 0] = math.nan
    return Call(query, keys, values, batch, scale)


BATCHES = (
    _batch([3, 1], 2, (2, 1, 2)),
    _batch([1, 5, 4], 2, (4, 2, 2)),
    _batch([1, 3], 2, (2, 1, 2), stale=1000.0),
    _batch([1, 3], 2, (2, 1, 2), stale=math.inf),
    _batch([4, 2], 3, (2, 2, 2), scale=2.0),
    _batch([2, 1], 2, (1, 1, 2), scale=0.0),
    _batch([2, 5], 2, (2, 1, 4), dtype=torch.float16),
    _batch([2, 1], 2, (1, 1, 1), dtype=torch.float64),
    _with_nan_of_its_own(_batch([2, 1], 2, (1, 1, 1))),
)
"""Batches that tell the ways to go through them apart."""


def _two_queries() -> Call:
    """Return the call on a sequence of which two tokens are queries, which is no decode."""
    query, keys, values, _, scale = _batch([3], 2, (2, 1, 2)).args
    batch = PagedBatch.of([[0, 1]], [3], [2], num_blocks=len(keys), block_size=2)
    return Call(torch.cat([query, query]), keys, values, batch, scale)


UNFIT_BATCHES = (
    _two_queries(),
    Call(BATCHES[0].args[0][:1], *BATCHES[0].args[1:]),
)


def _many_sequences() -> Call:
    """Return the call on 100 sequences of two blocks, in a cache that is fifty times as large.

    Larger caches would not fit into one message to a box.
    """
    num_seqs, num_blocks = 100, 10_000
    generator = torch.Generator().manual_seed(9)
    ids = torch.randperm(num_blocks, generator=generator)[: 2 * num_seqs].view(-1, 2).tolist()
    batch = PagedBatch.of(ids, [20] * num_seqs, num_blocks=num_blocks, block_size=16)
    caches = torch.randn(2, num_blocks, 16, 1, 32, generator=generator)
    return Call(torch.randn(num_seqs, 2, 32, generator=generator), *caches, batch)


MANY_SEQUENCES = (Large(_many_sequences, "100 sequences", seconds=0.25),)
"""Sequences each of which one attends to once, without a copy of the caches."""
