"""The paged model is the dense model, whatever the blocks, the chunks and the company."""

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from torch import Tensor

from course_lib.attention import AttentionBackend, PagedBatch, choose_backend
from course_lib.engine.checkpoint import load_checkpoint
from course_lib.engine.config import LlamaConfig
from course_lib.engine.kv_store import PagedKVStore
from course_lib.engine.model import LlamaModel, dense_causal

Save = Callable[..., Path]

BLOCK_SIZE, NUM_BLOCKS = 4, 64
CONFIG = LlamaConfig("llama", 16, 32, 64, 2, 2, 1, 16)


@pytest.fixture
def backend() -> AttentionBackend:
    return choose_backend("cpu")


class Paged:
    """A model with texts in a paged cache: shuffled blocks, NaN wherever nothing was written."""

    def __init__(self, model: LlamaModel, backend: AttentionBackend, seed: int = 0) -> None:
        self.model = model
        self.backend = backend
        self.store = PagedKVStore(model.config, NUM_BLOCKS, BLOCK_SIZE, num_cpu_blocks=8)
        for cache in (*self.store.key_caches, *self.store.value_caches):
            cache.fill_(torch.nan)
        self.free = random.Random(seed).sample(range(NUM_BLOCKS), NUM_BLOCKS)
        self.tables: dict[str, list[int]] = {}
        self.texts: dict[str, list[int]] = {}

    @torch.inference_mode()
    def step(self, new: dict[str, list[int]]) -> dict[str, Tensor]:
        """Compute the next tokens of some texts; return the logits of each."""
        positions: list[int] = []
        for name, tokens in new.items():
            text = self.texts.setdefault(name, [])
            positions += range(len(text), len(text) + len(tokens))
            text += tokens
            table = self.tables.setdefault(name, [])
            while len(table) * BLOCK_SIZE < len(text):
                table.append(self.free.pop())
        batch = PagedBatch.of(
            [self.tables[name] for name in new],
            [len(self.texts[name]) for name in new],
            [len(tokens) for tokens in new.values()],
            num_blocks=NUM_BLOCKS,
            block_size=BLOCK_SIZE,
        )
        hidden = self.model(
            torch.tensor([token for tokens in new.values() for token in tokens]),
            torch.tensor(positions),
            self.store.attend(batch, self.backend),
        )
        chunks = self.model.logits(hidden).split([len(tokens) for tokens in new.values()])
        return dict(zip(new, chunks, strict=True))


@torch.inference_mode()
def dense_logits(model: LlamaModel, text: list[int]) -> Tensor:
    hidden = model(torch.tensor(text), torch.arange(len(text)), dense_causal(1))
    return model.logits(hidden)


def some_text(num_tokens: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(16), k=num_tokens)


def require_close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_random_chunks_beside_each_other(
    family: str, seed: int, hf_checkpoint: Save, backend: AttentionBackend
) -> None:
    """Texts come in random pieces, in random company, and end in decodes of one token."""
    rng = random.Random(seed)
    model = load_checkpoint(hf_checkpoint(family))
    texts = {name: some_text(rng.randint(1, 40), rng.randint(0, 999)) for name in "abcde"}
    paged = Paged(model, backend, seed)
    got: dict[str, list[Tensor]] = {name: [] for name in texts}
    left = dict(texts)
    while left:
        company = rng.sample(sorted(left), rng.randint(1, len(left)))
        sizes = {name: rng.choice([1, 1, 2, 5, 16]) for name in company}
        logits = paged.step({name: left[name][: sizes[name]] for name in company})
        for name, rows in logits.items():
            got[name].append(rows)
            left[name] = left[name][sizes[name] :]
        left = {name: rest for name, rest in left.items() if rest}
    for name, text in texts.items():
        require_close(torch.cat(got[name]), dense_logits(model, text))


def test_equals_transformers(
    family: str,
    hf_checkpoint: Save,
    hf_logits: Callable[[Path, list[int]], Tensor],
    backend: AttentionBackend,
) -> None:
    folder, text = hf_checkpoint(family), some_text(60)
    paged = Paged(load_checkpoint(folder), backend)
    pieces = [paged.step({"a": text[i:j]})["a"] for i, j in itertools.pairwise([0, 33, 59, 60])]
    require_close(torch.cat(pieces), hf_logits(folder, text))


def test_triton(hf_checkpoint: Save) -> None:
    pytest.importorskip("triton")
    model = load_checkpoint(hf_checkpoint("llama", num_hidden_layers=1))
    paged, text = Paged(model, choose_backend("cpu", "triton")), some_text(7)
    pieces = [paged.step({"a": text[:6]})["a"], paged.step({"a": text[6:]})["a"]]
    require_close(torch.cat(pieces), dense_logits(model, text))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu(family: str, dtype: torch.dtype, hf_checkpoint: Save) -> None:
    model = load_checkpoint(hf_checkpoint(family), dtype=dtype, device="cuda")
    backend = choose_backend("cuda")
    store = PagedKVStore(model.config, 16, 16, dtype=dtype, device="cuda")
    text = torch.tensor(some_text(50), device="cuda")
    got = []
    with torch.inference_mode():
        for start, end in itertools.pairwise([0, 33, 49, 50]):
            batch = PagedBatch.of(
                [[7, 3, 9, 1]], [end], [end - start], num_blocks=16, block_size=16, device="cuda"
            )
            positions = torch.arange(start, end, device="cuda")
            got.append(
                model.logits(model(text[start:end], positions, store.attend(batch, backend)))
            )
        dense = model.logits(model(text, torch.arange(50, device="cuda"), dense_causal(1)))
    tolerance = 1e-3 if dtype == torch.float32 else 0.05 * float(dense.std())
    torch.testing.assert_close(torch.cat(got), dense, rtol=0, atol=tolerance)


class TestMovingBlocks:
    TEXT = some_text(10)

    @pytest.fixture
    def paged(self, hf_checkpoint: Save, backend: AttentionBackend) -> Paged:
        paged = Paged(load_checkpoint(hf_checkpoint("llama")), backend)
        paged.step({"a": self.TEXT[:9]})
        return paged

    def require_goes_on(self, paged: Paged) -> None:
        """The next token of the text finds the other nine."""
        expected = dense_logits(paged.model, self.TEXT)[9:]
        require_close(paged.step({"a": self.TEXT[9:]})["a"], expected)

    def test_out_and_back_to_other_blocks(self, paged: Paged) -> None:
        table = paged.tables["a"]
        cpu_blocks = [5, 0, 7]
        paged.store.swap_out(list(zip(table, cpu_blocks, strict=True)))
        for cache in (*paged.store.key_caches, *paged.store.value_caches):
            cache.fill_(torch.nan)
        paged.tables["a"] = [paged.free.pop() for _ in table]
        paged.store.swap_in(list(zip(cpu_blocks, paged.tables["a"], strict=True)))
        self.require_goes_on(paged)

    def test_copies_are_made_in_order(self, paged: Paged, backend: AttentionBackend) -> None:
        first, second, third = paged.tables["a"]
        spare, other = paged.free.pop(), paged.free.pop()
        # The third block moves on twice, and its first new place is written over.
        paged.store.copy([(third, spare), (spare, other), (first, spare)], backend)
        paged.tables["a"] = [spare, second, other]
        self.require_goes_on(paged)

    def test_no_pairs(self, paged: Paged, backend: AttentionBackend) -> None:
        paged.store.swap_out([])
        paged.store.swap_in([])
        paged.store.copy([], backend)
        self.require_goes_on(paged)

    @pytest.mark.parametrize(
        ("pairs", "message"),
        [
            ([(0, 0), (NUM_BLOCKS, 1)], "block 64 is to be swapped; there are blocks 0 to 63"),
            ([(0, 0), (1, 8)], "block 8 is to be swapped; there are blocks 0 to 7"),
            ([(0, -1)], "block -1 is to be swapped"),
            ([(0, 3), (1, 3)], "two blocks are copied to the same place"),
        ],
    )
    def test_bad_pairs_move_nothing(
        self, paged: Paged, pairs: list[tuple[int, int]], message: str
    ) -> None:
        paged.store.swap_out([(paged.tables["a"][0], 0)])
        before = paged.store._cpu_blocks.clone()
        with pytest.raises(ValueError, match=message):
            paged.store.swap_out(pairs)
        assert torch.equal(paged.store._cpu_blocks, before)


class TestMisuse:
    def test_a_batch_for_another_cache(self, backend: AttentionBackend) -> None:
        store = PagedKVStore(CONFIG, num_blocks=8, block_size=4)
        batch = PagedBatch.of([[5]], [3], num_blocks=9, block_size=4)
        with pytest.raises(ValueError, match=r"made for 9 blocks of 4 .*; this store has 8 of 4"):
            store.attend(batch, backend)

    def test_a_sequence_beyond_the_window(self, backend: AttentionBackend) -> None:
        config = LlamaConfig("mistral", 16, 32, 64, 2, 2, 1, 16, sliding_window=6)
        store = PagedKVStore(config, num_blocks=8, block_size=4)
        store.attend(PagedBatch.of([[5, 6]], [6], num_blocks=8, block_size=4), backend)
        with pytest.raises(ValueError, match="a sequence has 7 tokens; this model takes at most 6"):
            store.attend(PagedBatch.of([[5, 6]], [7], num_blocks=8, block_size=4), backend)

    @pytest.mark.parametrize("sizes", [(0, 4, 0), (8, 0, 0), (8, 4, -1)])
    def test_impossible_sizes(self, sizes: tuple[int, int, int]) -> None:
        with pytest.raises(ValueError, match="at least 1 block of 1 token"):
            PagedKVStore(CONFIG, sizes[0], sizes[1], num_cpu_blocks=sizes[2])


def test_blocks_that_nobody_wrote_to_take_no_memory():
    # An engine reserves far more than a short text needs: a laptop should not pay for it.
    before = psutil.Process().memory_info().rss
    store = PagedKVStore(CONFIG, num_blocks=100_000, block_size=16, num_cpu_blocks=100_000)
    reserved = sum(cache.nbytes for cache in (*store.key_caches, *store.value_caches))
    store.key_caches[0][7].fill_(1.0)
    taken = psutil.Process().memory_info().rss - before
    assert reserved > 400e6
    assert taken < 0.1 * reserved
    assert not store.key_caches[0][8].any()
