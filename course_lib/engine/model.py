"""A decoder of the Llama family, which knows nothing of caches.

Everything in a decoder concerns one token at a time, except attention. So the model takes the
tokens of all sequences in one row, without padding, and is handed a function that attends. The
engine hands it one that goes through the paged cache, training one that needs no cache at all, and
both run the same code.

Names of modules and parameters are those of Hugging Face checkpoints: the model's ``state_dict`` is
what is in the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from course_lib.engine.config import LlamaConfig
from course_lib.engine.rotary import Rotation, rope_frequencies

__all__ = ["Attend", "LlamaConfig", "LlamaModel", "dense_causal", "random_weights"]

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""``attend(layer, query, key, value)``: the attention of a step's tokens in one layer.

``query`` is [num_tokens, num_heads, head_dim], ``key`` and ``value`` are [num_tokens, num_kv_heads,
head_dim], all of the step's own tokens. What they attend to besides, the function knows. It returns
the shape of ``query``.
"""


class Attention(nn.Module):
    """One layer's attention: projections, normalisation and rotation around what is handed in."""

    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        query_width = config.num_attention_heads * config.head_dim
        kv_width = config.num_kv_heads * config.head_dim
        hidden, bias = config.hidden_size, config.attention_bias
        # Three products rather than one that is as wide as the three: the same to the clock on a
        # CPU (51 against 45 µs for 64 tokens of course-tiny), and the file's own names.
        self.q_proj = nn.Linear(hidden, query_width, bias=bias)
        self.k_proj = nn.Linear(hidden, kv_width, bias=bias)
        self.v_proj = nn.Linear(hidden, kv_width, bias=bias)
        self.o_proj = nn.Linear(query_width, hidden, bias=config.attention_output_bias)
        self.q_norm = _qk_norm(config)
        self.k_norm = _qk_norm(config)

    def forward(self, hidden: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        """Return what attention adds to each token: [num_tokens, hidden_size]."""
        heads = (-1, self.head_dim)
        query = self.q_norm(self.q_proj(hidden).unflatten(1, heads))
        key = self.k_norm(self.k_proj(hidden).unflatten(1, heads))
        value = self.v_proj(hidden).unflatten(1, heads)
        attended = attend(self.layer, rotation.apply(query), rotation.apply(key), value)
        added: Tensor = self.o_proj(attended.flatten(1))
        return added


def _qk_norm(config: LlamaConfig) -> nn.Module:
    """Return what normalises each head's queries or keys, or leaves them as they are."""
    if not config.qk_norm:
        return nn.Identity()
    return nn.RMSNorm(config.head_dim, eps=config.rms_norm_eps)


class MLP(nn.Module):
    """A gated MLP: silu(gate) · up, and back down."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        hidden, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(hidden, inner, bias=bias)
        self.up_proj = nn.Linear(hidden, inner, bias=bias)
        self.down_proj = nn.Linear(inner, hidden, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return what the MLP adds to each token: [num_tokens, hidden_size]."""
        # In place: fresh memory for megabytes comes from the operating system page by page (14
        # against 10 ms for 2,048 tokens of course-tiny).
        gate = F.silu(self.gate_proj(hidden), inplace=True)
        added: Tensor = self.down_proj(gate.mul_(self.up_proj(hidden)))
        return added


class DecoderLayer(nn.Module):
    """Attention, then the MLP; each reads the normalised stream and adds to it."""

    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, hidden: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        """Return the stream after this layer: [num_tokens, hidden_size]."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), rotation, attend)
        after: Tensor = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return after


class Decoder(nn.Module):
    """Everything but the output layer; what Hugging Face checkpoints call ``model``."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        # Not nn.Embedding(...), which draws numbers that nobody keeps: on the meta device, where
        # only shapes are asked for, the drawing alone imports torch's compiler for over a second.
        unwritten = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens: nn.Embedding = nn.Embedding.from_pretrained(unwritten, freeze=False)
        self.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(config.num_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)


class LlamaModel(nn.Module):
    """A decoder-only language model: token ids in, logits out.

    Invariant: its parameters have the names, and the shapes, of a Hugging Face checkpoint of the
    same configuration. With tied embeddings there is no ``lm_head.weight``.

    Args:
        config: Its shape.
        weights: Its parameters by name. They become the model's own, without a copy, so what is
            done to one is done to the other. ``random_weights`` makes some to train.

    Raises:
        ValueError: A parameter is missing, is one too many, or has the wrong shape.

    >>> config = LlamaConfig("llama", 512, 64, 128, 2, 4, 2, 16)
    >>> model = LlamaModel(config, random_weights(config, seed=0))
    >>> tokens, positions = torch.tensor([5, 6, 7]), torch.arange(3)
    >>> hidden = model(tokens, positions, dense_causal(num_sequences=1))
    >>> model.logits(hidden[-1:]).shape
    torch.Size([1, 512])
    """

    def __init__(self, config: LlamaConfig, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        # On the meta device a module has shapes but no memory: the weights bring their own.
        with torch.device("meta"):
            self.model = Decoder(config)
            if not config.tie_word_embeddings:
                self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        _require_parameters(parameter_shapes(config), weights)
        self.load_state_dict(dict(weights), assign=True)

    @property
    def dtype(self) -> torch.dtype:
        """The type of its parameters, and of the keys and values that it makes."""
        return self.model.embed_tokens.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return self.model.embed_tokens.weight.device

    def forward(self, token_ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Run the layers over a step's tokens.

        Args:
            token_ids: int64 [num_tokens], sequences one after the other.
            positions: int64 [num_tokens], the place of each in its own sequence, from 0.
            attend: Called once per layer.

        Returns:
            [num_tokens, hidden_size], normalised; ``logits`` takes those rows that are of interest.
        """
        config = self.config
        frequencies = rope_frequencies(
            config.head_dim, config.rope_theta, config.rope_scaling, positions.device
        )
        rotation = Rotation.of(positions, frequencies, config.rope_scaling).to(self.dtype)
        hidden: Tensor = self.model.embed_tokens(token_ids)
        for layer in self.model.layers:
            hidden = layer(hidden, rotation, attend)
        normed: Tensor = self.model.norm(hidden)
        return normed

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the score of every token that might come next.

        Args:
            hidden: [n, hidden_size], rows of what ``forward`` returned.

        Returns:
            float32 [n, vocab_size].
        """
        tied = self.config.tie_word_embeddings
        output = self.model.embed_tokens if tied else self.lm_head
        return F.linear(hidden, output.weight).float()


def parameter_shapes(config: LlamaConfig) -> dict[str, torch.Size]:
    """Return the parameters of a model of this configuration: shapes by name.

    >>> shapes = parameter_shapes(LlamaConfig("llama", 512, 64, 128, 2, 4, 2, 16))
    >>> shapes["model.layers.1.self_attn.k_proj.weight"]
    torch.Size([32, 64])
    """
    return dict(_shapes(config))


@cache
def _shapes(config: LlamaConfig) -> Mapping[str, torch.Size]:
    """Return what ``parameter_shapes`` does; a model is made for it, which takes its time."""
    with torch.device("meta"):
        named = dict(Decoder(config).named_parameters(prefix="model"))
    shapes = {name: parameter.shape for name, parameter in named.items()}
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = torch.Size((config.vocab_size, config.hidden_size))
    return shapes


def random_weights(config: LlamaConfig, seed: int) -> dict[str, Tensor]:
    """Return weights to begin training with.

    Norms are 1, biases 0, everything else is normal with a standard deviation of 0.02. What adds to
    the residual stream is divided by √(2 · num_layers), so that its variance does not grow with the
    depth (Radford et al., 2019).

    Args:
        config: The model's shape.
        seed: The same seed gives the same numbers.

    Returns:
        float32 tensors by name.

    >>> config = LlamaConfig("llama", 512, 64, 128, 2, 4, 2, 16)
    >>> weights = random_weights(config, seed=0)
    >>> weights["model.norm.weight"].unique(), round(float(weights["lm_head.weight"].std()), 3)
    (tensor([1.]), 0.02)
    """
    numbers = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in parameter_shapes(config).items():
        if name.endswith("norm.weight"):
            weights[name] = torch.ones(shape)
        elif name.endswith(".bias"):
            weights[name] = torch.zeros(shape)
        else:
            adds = name.endswith(("o_proj.weight", "down_proj.weight"))
            std = 0.02 / math.sqrt(2 * config.num_layers) if adds else 0.02
            weights[name] = torch.randn(shape, generator=numbers) * std
    return weights


def dense_causal(num_sequences: int) -> Attend:
    """Return attention for whole sequences of equal length, without a cache.

    For training, and as the reference that the paged cache must agree with.

    Args:
        num_sequences: How many sequences the tokens of a step are, one after the other.

    >>> query = key = torch.zeros(4, 1, 2)  # two sequences of two tokens
    >>> value = torch.tensor([1.0, 3.0, 5.0, 7.0]).reshape(4, 1, 1).expand(4, 1, 2)
    >>> dense_causal(num_sequences=2)(0, query, key, value)[:, 0, 0]
    tensor([1., 2., 5., 6.])
    """

    def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        # [num_sequences, heads, tokens, head_dim], as PyTorch has it.
        query, key, value = (
            heads.unflatten(0, (num_sequences, -1)).transpose(1, 2) for heads in (query, key, value)
        )
        attended = F.scaled_dot_product_attention(
            query, key, value, is_causal=True, enable_gqa=True
        )
        return attended.transpose(1, 2).flatten(0, 1)

    return attend


def _require_parameters(shapes: Mapping[str, torch.Size], weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless the weights are exactly those of these names and shapes."""
    for name in shapes.keys() ^ weights.keys():
        wrong = "is missing" if name in shapes else "is not part of this model"
        raise ValueError(f"parameter {name} {wrong}; parameter_shapes(config) lists them all")
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise ValueError(
                f"parameter {name} is {list(weights[name].shape)}; with this configuration it is "
                f"{list(shape)}"
            )
