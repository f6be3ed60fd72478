"""Checkpoints come from files that others wrote, and some of these are broken."""

import json
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from course_lib.engine.checkpoint import (
    CheckpointError,
    UnsupportedCheckpointError,
    load_checkpoint,
    load_sampling_defaults,
    save_checkpoint,
)
from course_lib.engine.config import LlamaConfig
from course_lib.engine.model import LlamaModel, random_weights

Save = Callable[..., Path]

CONFIG = LlamaConfig("llama", 16, 32, 64, 2, 2, 1, 16, eos_token_ids=(2,))


@pytest.fixture
def model() -> LlamaModel:
    return LlamaModel(CONFIG, random_weights(CONFIG, seed=0))


@pytest.fixture
def folder(model: LlamaModel, tmp_path: Path) -> Path:
    """A good checkpoint, to be damaged."""
    save_checkpoint(model, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def sharded(hf_checkpoint: Save, tmp_path: Path) -> Path:
    """A good checkpoint of several files, to be damaged."""
    return shutil.copytree(hf_checkpoint("qwen3", max_shard_size="60KB"), tmp_path / "sharded")


def require_same(got: LlamaModel, expected: LlamaModel) -> None:
    first, second = got.state_dict(), expected.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert got.config == expected.config


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace, add or (None) take out tensors; dots are written as double underscores."""
    weights = load_file(folder / "model.safetensors")
    for name, tensor in changes.items():
        weights.pop(name.replace("__", "."), None)
        if tensor is not None:
            weights[name.replace("__", ".")] = tensor
    save_file(weights, folder / "model.safetensors")


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class TestLoading:
    def test_several_files(self, hf_checkpoint: Save, sharded: Path) -> None:
        assert len(list(sharded.glob("*.safetensors"))) > 2
        require_same(load_checkpoint(sharded), load_checkpoint(hf_checkpoint("qwen3")))

    @pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
    def test_types(self, stored: torch.dtype, hf_checkpoint: Save) -> None:
        folder = hf_checkpoint("llama", dtype=stored)
        in_file = load_file(folder / "model.safetensors")["model.norm.weight"]
        assert in_file.dtype == stored
        default = load_checkpoint(folder)
        assert {p.dtype for p in default.parameters()} == {torch.float32}
        assert torch.equal(default.model.norm.weight, in_file.float())
        as_asked = load_checkpoint(folder, dtype=torch.bfloat16)
        assert {p.dtype for p in as_asked.parameters()} == {torch.bfloat16}

    def test_a_tied_output_layer_may_be_written_out(
        self, hf_checkpoint: Save, tmp_path: Path
    ) -> None:
        folder = shutil.copytree(hf_checkpoint("qwen2"), tmp_path / "tied")
        weights = load_file(folder / "model.safetensors")
        assert "lm_head.weight" not in weights
        change_weights(folder, lm_head__weight=weights["model.embed_tokens.weight"].clone())
        require_same(load_checkpoint(folder), load_checkpoint(hf_checkpoint("qwen2")))
        change_weights(folder, lm_head__weight=weights["model.embed_tokens.weight"] + 1)
        with pytest.raises(CheckpointError, match=r"lm_head\.weight.* tie_word_embeddings"):
            load_checkpoint(folder)

    def test_a_tied_embedding_may_have_the_name_of_the_output_layer(
        self, hf_checkpoint: Save, hf_logits: Callable[..., Tensor], tmp_path: Path
    ) -> None:
        original = hf_checkpoint("qwen2")
        folder = shutil.copytree(original, tmp_path / "renamed")
        tensors = load_file(folder / "model.safetensors")
        tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        require_same(load_checkpoint(folder), load_checkpoint(original))
        # transformers reads it so, too.
        assert torch.equal(hf_logits(folder, [5, 6, 7]), hf_logits(original, [5, 6, 7]))

    @pytest.mark.parametrize(
        "name", ["model.layers.0.self_attn.rotary_emb.inv_freq", "lm_head.weight"]
    )
    def test_an_index_may_name_what_is_computed_and_not_stored(
        self, hf_checkpoint: Save, tmp_path: Path, name: str
    ) -> None:
        original = hf_checkpoint("qwen2", max_shard_size="60KB")
        folder = shutil.copytree(original, tmp_path / "sharded")
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        index["weight_map"][name] = min(index["weight_map"].values())
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        require_same(load_checkpoint(folder), load_checkpoint(original))

    def test_rotary_frequencies_of_old_files_are_left_out(
        self, model: LlamaModel, folder: Path
    ) -> None:
        change_weights(folder, model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(8))
        require_same(load_checkpoint(folder), model)

    def test_large_files_show_progress(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        load_checkpoint(folder)
        assert capfd.readouterr() == ("", "")
        monkeypatch.setattr("course_lib.engine.checkpoint.LARGE", 1)
        monkeypatch.setenv("FORCE_COLOR", "1")
        load_checkpoint(folder)
        out, err = capfd.readouterr()
        assert out == ""
        assert "Loading model" in err


class TestSamplingDefaults:
    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({}, {}),
            ({"eos_token_id": 5, "do_sample": True, "max_length": 20}, {}),
            ({"temperature": 0.6, "top_k": None}, {"temperature": 0.6}),
            (
                {"top_p": 0.9, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.1},
                {"top_p": 0.9, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.1},
            ),
            ({"max_new_tokens": 64}, {"max_tokens": 64}),
        ],
    )
    def test_what_is_recommended_has_the_names_of_sampling_params(
        self, folder: Path, fields: dict[str, Any], expected: dict[str, float]
    ) -> None:
        (folder / "generation_config.json").write_text(json.dumps(fields))
        assert load_sampling_defaults(folder) == expected

    def test_without_the_file_nothing_is_recommended(self, folder: Path) -> None:
        assert load_sampling_defaults(folder) == {}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"top_p": 3}', "top_p is 3; it must be above 0 and at most 1; remove the field"),
            ('{"temperature": "hot"}', "temperature is 'hot'; it must be a number"),
            ('{"top_k": true}', "top_k is True; it must be a number"),
            ("{", "generation_config.json"),
        ],
    )
    def test_what_makes_no_sense_is_refused_with_its_file(
        self, folder: Path, text: str, message: str
    ) -> None:
        path = folder / "generation_config.json"
        path.write_text(text)
        with pytest.raises(CheckpointError, match=message) as caught:
            load_sampling_defaults(folder)
        assert str(path) in str(caught.value)


class TestBrokenFiles:
    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no config\.json at"):
            load_checkpoint(tmp_path / "nowhere")

    def test_config_that_is_not_json(self, folder: Path) -> None:
        (folder / "config.json").write_text("{")
        with pytest.raises(CheckpointError, match=r"config\.json is not JSON"):
            load_checkpoint(folder)

    def test_unsupported_config_names_the_file(self, folder: Path) -> None:
        change_config(folder, model_type="gpt2")
        with pytest.raises(UnsupportedCheckpointError, match=r"config\.json: model_type is 'gpt2'"):
            load_checkpoint(folder)

    def test_no_weights(self, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"):
            load_checkpoint(folder)

    def test_pickles_are_not_opened(self, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
        with pytest.raises(UnsupportedCheckpointError, match=r"pytorch_model\.bin, a pickle"):
            load_checkpoint(folder)

    @pytest.mark.parametrize("kept", [0, 5, 100, -1])
    def test_truncated(self, folder: Path, kept: int) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(CheckpointError, match=r"model\.safetensors is not a whole safetensors"):
            load_checkpoint(folder)

    def test_garbage(self, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40)
        with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
            load_checkpoint(folder)

    def test_missing_tensor(self, folder: Path) -> None:
        change_weights(folder, model__layers__1__mlp__up_proj__weight=None)
        with pytest.raises(CheckpointError, match=r"no tensor 'model\.layers\.1\.mlp\.up_proj\.w"):
            load_checkpoint(folder)

    def test_unknown_tensor(self, folder: Path) -> None:
        change_weights(folder, model__layers__0__self_attn__q_proj__bias=torch.zeros(32))
        with pytest.raises(UnsupportedCheckpointError, match=r"q_proj\.bias' is no part of"):
            load_checkpoint(folder)

    def test_wrong_shape(self, folder: Path) -> None:
        change_weights(folder, model__norm__weight=torch.ones(33))
        with pytest.raises(CheckpointError, match=r"model\.norm\.weight' is \[33\]; .* \[32\]"):
            load_checkpoint(folder)

    def test_quantized_weights(self, folder: Path) -> None:
        change_weights(folder, model__norm__weight=torch.ones(32, dtype=torch.int8))
        with pytest.raises(UnsupportedCheckpointError, match=r"norm\.weight' is stored as I8"):
            load_checkpoint(folder)

    def test_a_type_that_the_cache_cannot_have(self, folder: Path) -> None:
        with pytest.raises(ValueError, match=r"dtype is torch\.float64; use one of torch\.float32"):
            load_checkpoint(folder, dtype=torch.float64)


class TestBrokenShards:
    def test_missing_file(self, sharded: Path) -> None:
        first = min(sharded.glob("*.safetensors"))
        first.unlink()
        with pytest.raises(CheckpointError, match=rf"{first.name} is missing, and '.*' should be"):
            load_checkpoint(sharded)

    @pytest.mark.parametrize("stale", ["ones", "another shape", "whole numbers"])
    def test_old_copies_in_other_shards_do_not_count(
        self, hf_checkpoint: Save, sharded: Path, stale: str
    ) -> None:
        index = json.loads((sharded / "model.safetensors.index.json").read_text())["weight_map"]
        for file in sharded.glob("*.safetensors"):
            tensors = load_file(file)
            for name, place in index.items():
                if place != file.name and "layernorm" in name:
                    tensors[name] = {
                        "ones": torch.ones(64),
                        "another shape": torch.ones(3, 3),
                        "whole numbers": torch.ones(64, dtype=torch.int64),
                    }[stale]
            save_file(tensors, file, metadata={"format": "pt"})
        require_same(load_checkpoint(sharded), load_checkpoint(hf_checkpoint("qwen3")))

    def test_a_tensor_that_the_index_does_not_know_is_still_seen(self, sharded: Path) -> None:
        file = max(sharded.glob("*.safetensors"))
        tensors = load_file(file) | {"model.extra.weight": torch.ones(3)}
        save_file(tensors, file, metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=r"'model\.extra\.weight' is no part of"):
            load_checkpoint(sharded)

    def test_swapped_files(self, sharded: Path) -> None:
        first, second, *_ = sorted(sharded.glob("*.safetensors"))
        first.write_bytes(second.read_bytes())
        with pytest.raises(CheckpointError, match=rf"{first.name} has no tensor .* the index says"):
            load_checkpoint(sharded)

    @pytest.mark.parametrize("shard", ["../other/model.safetensors", "/etc/passwd", 7, "..", ""])
    def test_a_place_outside_the_folder(self, sharded: Path, shard: Any) -> None:
        index = {"weight_map": {"model.norm.weight": shard}}
        (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(CheckpointError, match=r"must be a file in the same folder|is missing"):
            load_checkpoint(sharded)

    @pytest.mark.parametrize("index", ["[]", "{", "{}", '{"weight_map": []}'])
    def test_bad_index(self, sharded: Path, index: str) -> None:
        (sharded / "model.safetensors.index.json").write_text(index)
        with pytest.raises(CheckpointError, match=r"index\.json"):
            load_checkpoint(sharded)


class TestSaving:
    def test_saved_and_loaded(self, model: LlamaModel, folder: Path) -> None:
        require_same(load_checkpoint(folder), model)
        assert sorted(path.name for path in folder.iterdir()) == [
            "config.json",
            "model.safetensors",
        ]

    def test_half_precision(self, model: LlamaModel, tmp_path: Path) -> None:
        save_checkpoint(model.to(torch.float16), tmp_path)
        assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float16"
        require_same(load_checkpoint(tmp_path, dtype=torch.float16), model)

    def test_over_the_model_that_it_came_from(self, folder: Path) -> None:
        """Weights may still be mapped from the file that is replaced."""
        loaded = load_checkpoint(folder)
        with torch.no_grad():
            loaded.model.norm.weight.add_(1)
        save_checkpoint(loaded, folder)
        require_same(load_checkpoint(folder), loaded)

    def test_transformers_reads_it(self, family: str, hf_checkpoint: Save, tmp_path: Path) -> None:
        transformers = pytest.importorskip("transformers")
        original = hf_checkpoint(family)
        save_checkpoint(load_checkpoint(original), tmp_path)
        first, second = (
            transformers.AutoModelForCausalLM.from_pretrained(place)
            for place in (original, tmp_path)
        )
        tokens = torch.arange(20)[None]
        with torch.inference_mode():
            assert torch.equal(first(tokens).logits, second(tokens).logits)

    @pytest.fixture
    def full_disk(self) -> Iterator[None]:
        """No file may become larger than 10 kB."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @pytest.mark.usefixtures("full_disk")
    def test_a_full_disk_leaves_what_was_there(self, model: LlamaModel, tmp_path: Path) -> None:
        for name in ("config.json", "model.safetensors"):
            (tmp_path / name).write_text("as it was")
        with pytest.raises(OSError, match=r"cannot be written: .*; what was there"):
            save_checkpoint(model, tmp_path)
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
            "config.json": "as it was",
            "model.safetensors": "as it was",
        }


def test_whoever_may_read_the_configuration_may_read_the_weights(folder: Path) -> None:
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
