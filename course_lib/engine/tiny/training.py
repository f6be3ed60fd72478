"""How ``course-tiny`` is trained: windows of text, AdamW, a cosine.

Whoever wants to change what the model says changes the corpus; whoever wants to change how well it
says it, the ``Recipe``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from course_lib.engine.model import LlamaConfig, LlamaModel, dense_causal, random_weights
from course_lib.engine.tiny.corpus import Corpus, Document
from course_lib.engine.tiny.vocabulary import SPECIAL_TOKENS
from course_lib.engine.tokenizer import Tokenizer

OnStep = Callable[[int, float], None]
"""Called after each step with its number, from 1, and its loss."""


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        steps: Updates of the weights.
        seed: Decides the first weights and the order of the documents.
        tokens_per_step: Tokens in a batch; a multiple of both windows.
        window: Tokens in most of its sequences.
        long_window: Tokens in a long one, so that the model is used to what far positions do.
        long_every: One batch in so many has long windows.
        learning_rate: The highest, reached after ``warmup`` steps; from there a cosine leads to a
            tenth of it.
        warmup: Steps in which the rate grows from 0.
        weight_decay: Share of a matrix, times the rate, that is subtracted in each step.
        max_gradient: Length to which longer gradients are shortened.
        noise: Share of the words that the model reads, but need not predict, that are replaced at
            random. With a text this small it would else learn by heart what follows what, and be
            at a loss where a prompt is a little different.
    """

    steps: int = 2400
    seed: int = 0
    tokens_per_step: int = 2048
    window: int = 512
    long_window: int = 2048
    long_every: int = 8
    learning_rate: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.1
    max_gradient: float = 1.0
    noise: float = 0.03

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0.

        >>> recipe = Recipe(steps=1100, warmup=100, learning_rate=1.0)
        >>> [round(recipe.rate(step), 2) for step in (0, 99, 600, 1099)]
        [0.01, 1.0, 0.55, 0.1]
        """
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)

    def window_of(self, step: int) -> int:
        """Return how long the sequences of a step are."""
        return self.long_window if step % self.long_every == 0 else self.window


def train(
    config: LlamaConfig,
    tokenizer: Tokenizer,
    corpus: Corpus,
    recipe: Recipe,
    on_step: OnStep = lambda step, loss: None,
) -> LlamaModel:
    """Train a model. Everything it depends on is in the arguments, and the number of threads.

    Args:
        config: The shape of the model.
        tokenizer: Its tokenizer.
        corpus: What it learns.
        recipe: How.
        on_step: Told how it goes.
    """
    model = LlamaModel(config, random_weights(config, recipe.seed))
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    norms = [weight for weight in model.parameters() if weight.dim() == 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": norms, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95))
    random, numbers = Random(recipe.seed), torch.Generator().manual_seed(recipe.seed)
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        length = recipe.window_of(step)
        windows = [
            pack(corpus, tokenizer, random, length + 1)
            for _ in range(recipe.tokens_per_step // length)
        ]
        tokens = torch.tensor(windows)
        read = with_noise(tokens[:, :-1], recipe.noise, config.vocab_size, numbers)
        loss = mean_loss(model, read, targets=tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_gradient)
        optimizer.step()
        on_step(step + 1, loss.item())
    return model


def with_noise(tokens: Tensor, share: float, vocab_size: int, numbers: torch.Generator) -> Tensor:
    """Return tokens, some of which are replaced by others. Special ones stay.

    Args:
        tokens: int64, any shape.
        share: How many are replaced, from 0.0 to 1.0.
        vocab_size: Tokens there are.
        numbers: Where chance comes from.

    >>> tokens = torch.tensor([0, 70, 80, 1])
    >>> with_noise(tokens, 1.0, 100, torch.Generator().manual_seed(0))[[0, 3]]
    tensor([0, 1])
    """
    first = len(SPECIAL_TOKENS)
    others = torch.randint(first, vocab_size, tokens.shape, generator=numbers)
    replaced = (torch.rand(tokens.shape, generator=numbers) < share) & (tokens >= first)
    return torch.where(replaced, others, tokens)


def mean_loss(model: LlamaModel, read: Tensor, targets: Tensor) -> Tensor:
    """Return how surprised a model is by the next token, in nats per token.

    Args:
        model: The model.
        read: int64 [num_sequences, length], what it reads.
        targets: int64 [num_sequences, length], what comes after each token.

    Returns:
        One number, which gradients can flow through.
    """
    num_sequences, length = read.shape
    positions = torch.arange(length).repeat(num_sequences)
    hidden = model(read.flatten(), positions, dense_causal(num_sequences))
    return F.cross_entropy(model.logits(hidden), targets.flatten())


def pack(corpus: Corpus, tokenizer: Tokenizer, random: Random, length: int) -> list[int]:
    """Return as many tokens of whole documents, the last of which is cut off.

    Args:
        corpus: Where they are drawn from.
        tokenizer: Makes tokens of them.
        random: Where choices come from.
        length: Tokens in all.
    """
    tokens: list[int] = []
    while len(tokens) < length:
        tokens += tokens_of(corpus.draw(random), tokenizer)
    return tokens[:length]


def tokens_of(document: Document, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of a document, from the one that begins a text to the one that ends it."""
    tokens = (
        tokenizer.encode(document)
        if isinstance(document, str)
        else tokenizer.apply_chat_template(document, add_generation_prompt=False)
    )
    assert tokenizer.eos_token_id is not None
    return [*tokens, tokenizer.eos_token_id]


@torch.inference_mode()
def bits_per_byte(model: LlamaModel, tokenizer: Tokenizer, corpus: Corpus) -> float:
    """Return how many bits the model needs for a byte of passages and stories.

    Unlike the loss per token, it can be compared between tokenizers. 8 is knowing nothing at all,
    and about 2.7 is knowing the vocabulary of ``course-tiny`` but not which word comes next.
    """
    random = Random("a seed that no training has")
    nats, num_bytes = 0.0, 0
    for draw in (corpus.draw_passage, corpus.draw_story):
        for _ in range(40):
            text = draw(random)
            tokens = torch.tensor([tokens_of(text, tokenizer)])
            loss = mean_loss(model, tokens[:, :-1], targets=tokens[:, 1:])
            nats += loss.item() * (tokens.shape[1] - 1)
            num_bytes += len(text.encode())
    return nats / num_bytes / math.log(2)


@torch.inference_mode()
def continue_greedily(model: LlamaModel, prompt: list[int], max_tokens: int) -> Iterator[int]:
    """Yield the likeliest next token, again and again, up to one that ends a text.

    There is no cache: each step computes everything afresh. The engine gives the same tokens, and
    this is what it has to be compared with.
    """
    tokens = list(prompt)
    for _ in range(max_tokens):
        positions = torch.arange(len(tokens))
        hidden = model(torch.tensor(tokens), positions, dense_causal(num_sequences=1))
        token = int(model.logits(hidden[-1:]).argmax())
        if token in model.config.eos_token_ids:
            return
        tokens.append(token)
        yield token
