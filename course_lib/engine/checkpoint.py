"""Hugging Face checkpoints on disk: a folder with ``config.json`` and safetensors files.

Only safetensors are read. The older ``*.bin`` files are pickles, and unpickling runs whatever code
is in them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from course_lib.attention.backends.arguments import DTYPES
from course_lib.engine.config import (
    GENERATION_CONFIG,
    CheckpointError,
    LlamaConfig,
    UnsupportedCheckpointError,
)
from course_lib.engine.model import LlamaModel, parameter_shapes
from course_lib.engine.sampling_params import SamplingParams
from course_lib.specs import read_json_object

__all__ = [
    "CheckpointError",
    "UnsupportedCheckpointError",
    "load_checkpoint",
    "load_sampling_defaults",
    "save_checkpoint",
]

WEIGHTS = "model.safetensors"
"""The weights, where they are one file; where they are several, an index says which is where."""

LARGE = 1 << 30
"""Bytes of weights that take more than a second or two to read, so that progress is shown."""

_SAMPLING_DEFAULTS = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
}
"""What ``generation_config.json`` may recommend, and what ``SamplingParams`` calls it."""

_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def load_checkpoint(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> LlamaModel:
    """Load a Llama, Mistral, Qwen2 or Qwen3 model from a Hugging Face checkpoint.

    Everything is checked before a weight is read. Weights are mapped into memory, and one at a time
    is converted or moved; where neither is needed they stay in the file until they are used.

    Args:
        folder: Holds ``config.json``, and ``model.safetensors`` or several files and their index.
        dtype: What the weights are converted to. If None, they stay as they are on a GPU, and
            become float32 on a CPU, where narrower types are slower.
        device: Where they go.

    Returns:
        The model, ready to compute.

    Raises:
        FileNotFoundError: There is no such folder, or no ``config.json`` in it.
        CheckpointError: A file is missing or damaged, or a tensor is missing, unknown or of the
            wrong shape.
        UnsupportedCheckpointError: The model or its weights are of a kind that this engine does not
            compute.
        ValueError: ``dtype`` is not float32, float16 or bfloat16.
    """
    folder = Path(folder)
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype}; use one of {', '.join(map(str, DTYPES))}")
    config = LlamaConfig.from_hf(folder)
    with contextlib.ExitStack() as files:
        stored = _open(folder, files, parameter_shapes(config).keys())
        if config.tie_word_embeddings and _HEAD in stored:
            # They are one tensor, and some programs write it down under the second name only.
            stored.setdefault(_EMBEDDING, stored[_HEAD])
        _require_complete(config, stored, folder)
        if dtype is None and torch.device(device).type == "cpu":
            dtype = torch.float32
        elif dtype is None:
            dtype = stored[_EMBEDDING].dtype
        num_bytes = sum(file.stat().st_size for file in {tensor.file for tensor in stored.values()})
        weights = {
            name: stored[name].read().to(device, dtype)
            for name in track(
                parameter_shapes(config),
                f"Loading {folder.name}",
                console=Console(stderr=True),
                transient=True,
                disable=num_bytes < LARGE,
            )
        }
    return LlamaModel(config, weights)


def load_sampling_defaults(folder: str | Path) -> dict[str, float]:
    """Return how a checkpoint's makers recommend to sample, for requests that do not say it.

    Most models write better with less chance than temperature 1 leaves them, and their makers have
    tried what suits them. vLLM follows the same fields of ``generation_config.json``.

    Args:
        folder: Holds the checkpoint.

    Returns:
        Fields of ``SamplingParams``; none if nothing is recommended.

    Raises:
        CheckpointError: The file is not JSON, or what it recommends is out of range.
    """
    path = Path(folder) / GENERATION_CONFIG
    if not path.is_file():
        return {}
    try:
        fields = read_json_object(path)
        given = {
            ours: fields[theirs]
            for theirs, ours in _SAMPLING_DEFAULTS.items()
            if fields.get(theirs) is not None
        }
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"{name} is {value!r}; it must be a number")
        SamplingParams(**given)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}; remove the field to have the default") from error
    return given


def save_checkpoint(model: LlamaModel, folder: str | Path) -> None:
    """Write a model as a Hugging Face checkpoint: ``config.json`` and ``model.safetensors``.

    Both are written beside their places first. If the disk fills up, what was there before is
    unchanged, and nothing half-written is left.

    Args:
        model: Its weights are written in the type that they have.
        folder: Is made if it does not exist.

    Raises:
        OSError: The files cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    fields = model.config.to_hf() | {"dtype": str(model.dtype).removeprefix("torch.")}
    text = json.dumps(fields, indent=2) + "\n"
    weights = {name: weight.cpu().contiguous() for name, weight in model.state_dict().items()}
    with _all_or_nothing(folder / WEIGHTS, folder / "config.json") as (new_weights, new_config):
        new_config.write_text(text, encoding="utf-8")
        save_file(weights, new_weights, metadata={"format": "pt"})
        # safetensors lets nobody else read what it writes.
        shutil.copymode(new_config, new_weights)


@dataclass(frozen=True)
class _Stored:
    """A tensor in a file, not read yet."""

    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


def _open(folder: Path, files: contextlib.ExitStack, needed: Set[str]) -> dict[str, _Stored]:
    """Open the files of a checkpoint, and list the tensors that are in them, by name.

    Those that are ``needed`` must be where an index says they are.
    """
    stored: dict[str, _Stored] = {}
    shards = _weight_files(folder)
    indexed = {name for names in shards.values() for name in names or ()}
    for file, expected in shards.items():
        # A shard may hold an old copy of a tensor of another one: the index says which one counts.
        in_file = dict(_tensors_of(file, files, without=indexed - set(expected or ())))
        missing = [name for name in expected or () if name in needed and name not in in_file]
        if missing:
            raise CheckpointError(
                f"{file} has no tensor {missing[0]!r}, which the index says it has; download the "
                "checkpoint again"
            )
        stored |= in_file
    # Old files hold the rotary frequencies too, which are computed here.
    return {name: t for name, t in stored.items() if not name.endswith("rotary_emb.inv_freq")}


def _weight_files(folder: Path) -> dict[Path, list[str] | None]:
    """Return the files with weights, and the tensors that an index says are in each."""
    if (folder / WEIGHTS).is_file():
        return {folder / WEIGHTS: None}
    index = folder / f"{WEIGHTS}.index.json"
    if not index.is_file():
        raise _no_weights(folder)
    try:
        weight_map = read_json_object(index).get("weight_map")
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no 'weight_map'; download the checkpoint again")
    shards: dict[Path, list[str] | None] = {}
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise CheckpointError(
                f"{index} has tensor {name!r} in {shard!r}; it must be a file in the same folder"
            )
        if not (folder / shard).is_file():
            raise CheckpointError(
                f"{folder / shard} is missing, and {name!r} should be in it; download it"
            )
        in_shard = shards.setdefault(folder / shard, [])
        assert in_shard is not None
        in_shard.append(name)
    return shards


def _no_weights(folder: Path) -> CheckpointError:
    pickles = sorted(
        path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pth"}
    )
    if pickles:
        return UnsupportedCheckpointError(
            f"{folder} has its weights in {pickles[0]}, a pickle, which can run any code when it "
            "is read; get the safetensors version, or convert it with save_pretrained of "
            "transformers where you trust it"
        )
    return CheckpointError(
        f"{folder} has neither {WEIGHTS} nor {WEIGHTS}.index.json; download the weights"
    )


def _tensors_of(
    file: Path, files: contextlib.ExitStack, without: Set[str]
) -> Iterator[tuple[str, _Stored]]:
    """Yield the tensors of a file but those named, without reading them."""
    try:
        opened = files.enter_context(safe_open(file, framework="pt"))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file} is not a whole safetensors file: {error}; download it again"
        ) from error
    for name in opened.keys():  # noqa: SIM118 - it is no dict
        if name in without:
            continue
        header = opened.get_slice(name)
        if header.get_dtype() not in _DTYPES:
            raise UnsupportedCheckpointError(
                f"{file}: tensor {name!r} is stored as {header.get_dtype()}; this engine computes "
                f"{', '.join(_DTYPES)} only, no quantized weights"
            )
        yield (
            name,
            _Stored(
                file,
                tuple(header.get_shape()),
                _DTYPES[header.get_dtype()],
                partial(opened.get_tensor, name),
            ),
        )


def _require_complete(config: LlamaConfig, stored: dict[str, _Stored], folder: Path) -> None:
    """Raise CheckpointError unless the stored tensors are exactly those of the model."""
    shapes = parameter_shapes(config)
    for name, shape in shapes.items():
        if name not in stored:
            raise CheckpointError(
                f"{folder} has no tensor {name!r}, which config.json asks for; download it again"
            )
        if stored[name].shape != shape:
            raise CheckpointError(
                f"{stored[name].file}: tensor {name!r} is {list(stored[name].shape)}; config.json "
                f"asks for {list(shape)}"
            )
    for name in stored.keys() - shapes.keys():
        # Tied weights may be written twice, as long as it is the same.
        if name == _HEAD:
            embedding = stored[_EMBEDDING]
            if torch.equal(stored[name].read(), embedding.read()):
                continue
            raise CheckpointError(
                f"{stored[name].file}: {name!r} differs from the input embedding, but config.json "
                "says tie_word_embeddings; set that to false"
            )
        raise UnsupportedCheckpointError(
            f"{stored[name].file}: tensor {name!r} is no part of a {config.model_type} model with "
            "this config.json; this engine would leave it out and compute something else"
        )


@contextlib.contextmanager
def _all_or_nothing(*paths: Path) -> Iterator[list[Path]]:
    """Give a place to write each file to; they take their real places once all are on disk."""
    drafts = [path.with_name(f"{path.name}.new") for path in paths]
    try:
        yield drafts
        for draft in drafts:
            with draft.open("rb+") as written:
                os.fsync(written.fileno())
        for draft, path in zip(drafts, paths, strict=True):
            draft.replace(path)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"the checkpoint in {paths[0].parent} cannot be written: {error}; what was there "
            "before is unchanged"
        ) from error
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)
