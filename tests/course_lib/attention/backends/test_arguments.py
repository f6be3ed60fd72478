"""What does not fit is refused before anything is written, by both backends alike."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from course_lib.attention import AttentionBackend, PagedBatch, choose_backend, triton_state
from course_lib.attention.backends import arguments
from course_lib.attention.backends.arguments import check_query, check_write

NUM_BLOCKS, BLOCK_SIZE, KV_HEADS, HEAD_DIM = 8, 4, 2, 32


@pytest.fixture(params=["pytorch", "triton"])
def backend(request: pytest.FixtureRequest) -> AttentionBackend:
    if request.param == "triton":
        pytest.importorskip("triton")
    return choose_backend("cpu", request.param)


def _cache(**changes: Any) -> Tensor:
    sizes = {"blocks": NUM_BLOCKS, "slots": BLOCK_SIZE, "heads": KV_HEADS, "dim": HEAD_DIM}
    dtype = changes.pop("dtype", torch.float32)
    return torch.zeros(*(sizes | changes).values(), dtype=dtype)


def _batch(**changes: Any) -> PagedBatch:
    good: dict[str, Any] = {
        "block_tables": [[5], [2]],
        "context_lens": [3, 4],
        "num_blocks": NUM_BLOCKS,
        "block_size": BLOCK_SIZE,
    }
    return PagedBatch.of(**good | changes)


BAD_QUERIES: list[tuple[Callable[[], tuple[Any, ...]], str]] = [
    (lambda: (torch.zeros(3, 4, 32), _cache(), _cache(), _batch()), r"query is \[3, 4, 32\]"),
    (lambda: (torch.zeros(2, 4, 16), _cache(), _cache(), _batch()), r"take \[2, num_heads, 32\]"),
    (lambda: (torch.zeros(2, 3, 32), _cache(), _cache(), _batch()), "3 query heads cannot share 2"),
    (
        lambda: (torch.zeros(2, 4, 32).half(), _cache(), _cache(), _batch()),
        "query is torch.float16",
    ),
    (lambda: (torch.zeros(2, 4, 32), _cache(), _cache(dim=16), _batch()), "both are"),
    (
        lambda: (torch.zeros(2, 4, 32), _cache(), _cache(dtype=torch.float16), _batch()),
        "value_cache is torch.float16",
    ),
    (
        lambda: (torch.zeros(2, 4, 32).double(), *[_cache(dtype=torch.float64)] * 2, _batch()),
        "a cache of torch.float64 is not supported",
    ),
    (
        lambda: (torch.zeros(2, 4, 32), *[_cache(blocks=4)] * 2, _batch()),
        "the cache has 4 blocks of 4 tokens, but the batch was made for 8 of 4",
    ),
    (
        lambda: (torch.zeros(2, 4, 64)[..., ::2], _cache(), _cache(), _batch()),
        r"pass query.contiguous\(\)",
    ),
    (
        lambda: (torch.zeros(2, 4, 32), *[_cache(dim=64)[..., ::2]] * 2, _batch()),
        "key_cache has strides",
    ),
    (
        lambda: (torch.zeros(2, 4, 32, device="meta"), _cache(), _cache(), _batch()),
        "query is on meta and key_cache on cpu",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_QUERIES)
def test_queries_that_do_not_fit(
    backend: AttentionBackend, arguments: Callable[[], tuple[Any, ...]], message: str
) -> None:
    for attend in (backend.paged_decode, backend.chunked_prefill):
        with pytest.raises(ValueError, match=message):
            attend(*arguments())


def test_decoding_takes_one_query_per_sequence(backend: AttentionBackend) -> None:
    query = torch.zeros(3, 2, HEAD_DIM)
    with pytest.raises(ValueError, match="a sequence has 2 queries"):
        backend.paged_decode(query, _cache(), _cache(), _batch(query_lens=[2, 1]))


def test_splits_are_at_least_one() -> None:
    pytest.importorskip("triton")
    from course_lib.attention.backends.triton_ops import TritonOperations

    with pytest.raises(ValueError, match="num_splits is 0"):
        TritonOperations().paged_decode(
            torch.zeros(2, 2, HEAD_DIM), _cache(), _cache(), _batch(), num_splits=0
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slot_mapping": torch.tensor([0, 32])}, "slot 32; the cache has slots 0 to 31"),
        ({"slot_mapping": torch.tensor([0, -2])}, "slot -2"),
        ({"slot_mapping": torch.tensor([7, 7])}, "two tokens are to be written to slot 7"),
        ({"slot_mapping": torch.tensor([0, 1, 2])}, r"slot_mapping \[3\]"),
        ({"slot_mapping": torch.tensor([0.0, 1.0])}, "slot_mapping is torch.float32"),
        ({"key": torch.ones(2, 1, 32)}, r"key is \[2, 1, 32\]"),
        ({"value": torch.ones(2, 2, 16)}, r"value \[2, 2, 16\]"),
        ({"value": torch.ones(2, 2, 32).half()}, "value is torch.float16"),
        ({"key": torch.ones(2, 2, 64)[..., ::2]}, "key has strides"),
    ],
)
def test_writes_that_do_not_fit_write_nothing(
    backend: AttentionBackend, changes: dict[str, Tensor], message: str
) -> None:
    caches = {"key_cache": _cache(), "value_cache": _cache()}
    new = {"key": torch.ones(2, 2, 32), "value": torch.ones(2, 2, 32)}
    arguments = new | caches | {"slot_mapping": torch.tensor([0, 1])} | changes
    names = ("key", "value", "key_cache", "value_cache", "slot_mapping")
    with pytest.raises(ValueError, match=message):
        backend.reshape_and_cache(*(arguments[name] for name in names))
    assert not any(cache.any() for cache in caches.values())


class TestSlotsOfAStep:
    """The slots of a step are read once, and again when they may be others."""

    @pytest.fixture
    def read(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The numbers of slots of the caches for which slots were read."""
        read: list[int] = []
        check = arguments.check_slots

        def noted(slot_mapping: Tensor, num_slots: int) -> None:
            read.append(num_slots)
            check(slot_mapping, num_slots)

        monkeypatch.setattr(arguments, "check_slots", noted)
        return read

    def test_the_same_slots_are_read_once(self, read: list[int]) -> None:
        check, slots = arguments.SlotsOfAStep(), torch.tensor([3, 5])
        for _ in range(4):
            check(slots, 8)
        assert read == [8]

    def test_other_slots_and_another_cache_are_read(self, read: list[int]) -> None:
        check, slots = arguments.SlotsOfAStep(), torch.tensor([3, 5])
        for tensor, num_slots in ((slots, 8), (slots.clone(), 8), (slots, 8), (slots, 16)):
            check(tensor, num_slots)
        assert read == [8, 8, 8, 16]

    def test_slots_that_were_written_to_are_read_again(self, read: list[int]) -> None:
        check, slots = arguments.SlotsOfAStep(), torch.tensor([3, 5])
        check(slots, 8)
        slots[0] = 5
        with pytest.raises(ValueError, match="two tokens are to be written to slot 5"):
            check(slots, 8)
        with pytest.raises(ValueError, match="two tokens"):
            check(slots, 8)
        assert read == [8, 8, 8]

    def test_a_tensor_that_does_not_count_what_is_written_to_it_is_read_each_time(
        self, read: list[int]
    ) -> None:
        with torch.inference_mode():
            slots = torch.tensor([3, 5])
        check = arguments.SlotsOfAStep()
        check(slots, 8)
        check(slots, 8)
        assert read == [8, 8]

    def test_a_step_of_the_engine_reads_them_once(self, read: list[int]) -> None:
        pytest.importorskip("triton")
        backend = choose_backend("cpu", "triton")
        if triton_state().mode != "interpreted":
            pytest.skip("compiled kernels do not run on the CPU")
        token, slots = torch.ones(2, 2, 32), torch.tensor([1, 6])
        layers = [(_cache(), _cache()) for _ in range(3)]
        for key_cache, value_cache in layers:
            backend.reshape_and_cache(token, token, key_cache, value_cache, slots)
            assert int(key_cache.sum()) == 2 * 2 * 32
        assert len(read) == 1


def test_padding_may_occur_twice(backend: AttentionBackend) -> None:
    on_gpu = backend.name == "triton" and triton_state().mode == "compiled"
    device = "cuda" if on_gpu else "cpu"
    token, slots = torch.ones(3, 2, 32, device=device), torch.tensor([-1, 6, -1], device=device)
    key_cache, value_cache = _cache().to(device), _cache().to(device)
    backend.reshape_and_cache(token, token, key_cache, value_cache, slots)
    assert int(key_cache.sum()) == int(value_cache.sum()) == 2 * 32


@pytest.mark.parametrize(
    ("copies", "message"),
    [
        ([(0, 8)], "block 8 is to be copied; the cache has blocks 0 to 7"),
        ([(-1, 2)], "block -1 is to be copied"),
    ],
)
def test_copies_that_do_not_fit_copy_nothing(
    backend: AttentionBackend, copies: list[tuple[int, int]], message: str
) -> None:
    cache = _cache()
    cache[0], cache[1] = 1.0, 2.0
    before = cache.clone()
    with pytest.raises(ValueError, match=message):
        backend.copy_blocks(cache, cache.clone(), copies)
    assert torch.equal(cache, before)


@pytest.mark.parametrize(
    "copies",
    [
        [(0, 1), (1, 2), (2, 3)],
        [(0, 1), (2, 1)],
        [(0, 1), (2, 0), (1, 2)],
        [(3, 3), (3, 4), (4, 3)],
    ],
)
def test_copies_are_made_as_if_one_after_the_other(
    backend: AttentionBackend, copies: list[tuple[int, int]]
) -> None:
    on_gpu = backend.name == "triton" and triton_state().mode == "compiled"
    device = "cuda" if on_gpu else "cpu"
    cache = _cache().to(device)
    cache += torch.arange(len(cache), device=device).reshape(-1, 1, 1, 1)
    expected = cache.clone()
    for source, destination in copies:
        expected[destination] = expected[source]
    value_cache = cache.clone()
    backend.copy_blocks(cache, value_cache, copies)
    assert torch.equal(cache, expected)
    assert torch.equal(value_cache, expected)


def test_a_cache_of_another_device_is_named() -> None:
    query = torch.zeros(2, 4, 32)
    with pytest.raises(ValueError, match="value_cache is on meta"):
        check_query(query, _cache(), _cache().to("meta"), _batch())
    key, slots = torch.zeros(2, 2, 32), torch.zeros(2, dtype=torch.int64, device="meta")
    with pytest.raises(ValueError, match="slot_mapping is on meta"):
        check_write(key, key, _cache(), _cache(), slots)
