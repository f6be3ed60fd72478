"""Random tiny checkpoints of each family, saved as real files by transformers, the oracle."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from course_lib.engine.tokenizer import Tokenizer
from tokenizer_kinds import KINDS, save

SIZES = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 24}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "qwen3": ("Qwen3", {"head_dim": 32}),
}
"""A checkpoint of each: the class in transformers, and what sets it apart."""

HFCheckpoint = Callable[..., Path]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Keep PyTorch from waking threads for tensors of a few hundred numbers."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="session")
def hf_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> HFCheckpoint:
    """Return how to save a random checkpoint of a family; the same one twice is saved once.

    ``hf_checkpoint("qwen2", num_hidden_layers=3)`` returns its folder. ``dtype`` and
    ``max_shard_size`` say how it is saved, all else goes into the configuration. Do not write to
    the folder.
    """
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    saved: dict[str, Path] = {}

    def save(
        family: str,
        *,
        dtype: torch.dtype = torch.float32,
        max_shard_size: str = "1GB",
        **sizes: Any,
    ) -> Path:
        key = repr((family, dtype, max_shard_size, sorted(sizes.items())))
        if key not in saved:
            name, own = FAMILIES[family]
            config = getattr(transformers, f"{name}Config")(**SIZES | own | sizes)
            model = getattr(transformers, f"{name}ForCausalLM")(config)
            _randomize(model)
            saved[key] = tmp_path_factory.mktemp(family)
            model.to(dtype).save_pretrained(saved[key], max_shard_size=max_shard_size)
        return saved[key]

    return save


def _randomize(model: torch.nn.Module) -> None:
    """Draw every parameter, so that none is left out unnoticed, and large enough to matter."""
    numbers = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=numbers)
            parameter.copy_(1 + 0.3 * drawn if "norm" in name else 0.15 * drawn)


@pytest.fixture(scope="session")
def hf_logits() -> Callable[[Path, list[int]], Tensor]:
    """Return what transformers computes: the logits of a checkpoint for each token of a text."""
    transformers = pytest.importorskip("transformers")
    loaded: dict[Path, Any] = {}

    def logits(folder: Path, token_ids: list[int]) -> Tensor:
        if folder not in loaded:
            loaded[folder] = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="eager"
            )
        with torch.inference_mode():
            result: Tensor = loaded[folder](torch.tensor([token_ids])).logits[0]
        return result

    return logits


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    """Every family."""
    return str(request.param)


@pytest.fixture(scope="module", params=KINDS)
def tokenizer_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a tokenizer of each kind."""
    return save(KINDS[request.param](), tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    """A tokenizer of each kind."""
    return Tokenizer(tokenizer_folder)
