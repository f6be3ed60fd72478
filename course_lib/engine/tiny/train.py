"""Train ``course-tiny``: ``python -m course_lib.engine.tiny.train --output FOLDER``.

The same seed on the same machine gives the same checkpoint, bit for bit. It takes about ten minutes
on two cores.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Annotated

import tokenizers
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from course_lib.engine.checkpoint import save_checkpoint
from course_lib.engine.config import GENERATION_CONFIG
from course_lib.engine.model import LlamaConfig, LlamaModel
from course_lib.engine.tiny.corpus import Corpus
from course_lib.engine.tiny.training import (
    OnStep,
    Recipe,
    bits_per_byte,
    continue_greedily,
    train,
)
from course_lib.engine.tiny.vocabulary import (
    BOS,
    END,
    EOS,
    SPECIAL_TOKENS,
    save_tokenizer,
    train_tokenizer,
)
from course_lib.engine.tokenizer import Tokenizer

CONFIG = LlamaConfig(
    model_type="llama",
    vocab_size=2048,
    hidden_size=160,
    intermediate_size=432,
    num_layers=4,
    num_attention_heads=4,
    num_kv_heads=2,
    head_dim=32,
    rope_theta=10_000.0,
    tie_word_embeddings=True,
    max_position_embeddings=4096,
    bos_token_id=SPECIAL_TOKENS.index(BOS),
    eos_token_ids=(SPECIAL_TOKENS.index(EOS), SPECIAL_TOKENS.index(END)),
)
"""The shape of ``course-tiny``: grouped-query attention, rotary positions, tied embeddings."""

SAMPLING = {"do_sample": True, "temperature": 0.5}
"""How ``course-tiny`` is best sampled: at temperature 1, one text in four has something in it that
is no word; so, one in thirty, and twenty answers to a question are still nine different ones."""

THREADS = 2
"""The order in which a sum is added up, and so its last bits, depends on how many share it."""

SPACE = 8 * 2**20
"""Bytes that must be free: twice a checkpoint."""

LOG_EVERY = 100
"""Steps between two lines, where the output goes to a file."""

PROMPTS = [
    "The scheduler",
    "Once upon a time",
    "Question: What is a KV cache?\nAnswer:",
    "Hello, my name is",
]
"""What the new model is asked to continue in the end."""

app = typer.Typer(add_completion=False)


@app.command()
def main(
    output: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    steps: Annotated[int, typer.Option(min=1, help="Updates of the weights.")] = Recipe.steps,
    seed: Annotated[int, typer.Option(help="Another seed gives another model.")] = Recipe.seed,
) -> None:
    """Train course-tiny on the texts in this package, and write a Hugging Face checkpoint.

    Example: python -m course_lib.engine.tiny.train --output my-tiny
    """
    console = Console()
    try:
        with new_folder(output) as folder:
            make_checkpoint(folder, Recipe(steps=steps, seed=seed), console)
    except OSError as error:
        reason = error.strerror or error
        console.print(f"cannot write {output}: {reason}; nothing was written", soft_wrap=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        console.print("stopped; nothing was written")
        raise typer.Exit(130) from None
    console.print(f"wrote {output}", soft_wrap=True, highlight=False)


@contextlib.contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Yield a folder to fill, which becomes ``output`` if the body comes to its end.

    If it does not, or the last step fails, nothing is left.

    Raises:
        OSError: ``output`` exists, cannot be made, or there is too little space for a checkpoint.
    """
    if output.exists():
        raise FileExistsError(0, "it is there already; remove it, or choose another --output")
    output.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(output.parent).free
    if free < SPACE:
        raise OSError(
            0,
            f"only {free / 2**20:.1f} MiB are free there, and {SPACE // 2**20} MiB are needed; "
            "free some, or choose another --output",
        )
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    partial.mkdir()
    try:
        yield partial
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def make_checkpoint(folder: Path, recipe: Recipe, console: Console) -> None:
    """Train the tokenizer and the model, and write both into a folder that exists.

    Raises:
        OSError: A file cannot be written.
    """
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    learned, held_out = Corpus.load().split()
    with console.status("Training the tokenizer"):
        vocabulary = train_corpus_tokenizer(learned, recipe.seed)
    save_tokenizer(vocabulary, folder, CONFIG.max_position_embeddings)
    tokenizer = Tokenizer(folder)
    with _progress(console, recipe.steps) as on_step:
        trained = train(CONFIG, tokenizer, learned, recipe, on_step)
    # Weights of 16 bits; float16 keeps three bits more of them than bfloat16 does.
    halved = {name: weight.half() for name, weight in trained.state_dict().items()}
    save_checkpoint(LlamaModel(CONFIG, halved), folder)
    generation = {
        "bos_token_id": CONFIG.bos_token_id,
        "eos_token_id": [*CONFIG.eos_token_ids],
        **SAMPLING,
    }
    path = folder / GENERATION_CONFIG
    path.write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
    known, unknown = (bits_per_byte(trained, tokenizer, part) for part in (learned, held_out))
    console.print(
        f"{known:.3f} bits per byte on new tellings of what it has read, {unknown:.3f} on texts "
        "that were held back",
        highlight=False,
    )
    for prompt in PROMPTS:
        answer = list(continue_greedily(trained, tokenizer.encode(prompt), max_tokens=60))
        console.print(f"[bold]{prompt}[/bold]{tokenizer.decode(answer)}", highlight=False)


def train_corpus_tokenizer(corpus: Corpus, seed: int) -> tokenizers.Tokenizer:
    """Train the tokenizer on what the model will see, without what marks the turns of a chat."""
    random = Random(seed)
    texts: list[str] = []
    for _ in range(5000):
        document = corpus.draw(random)
        if isinstance(document, str):
            texts.append(document)
        else:
            texts += [message["content"] for message in document]
    return train_tokenizer(texts, CONFIG.vocab_size)


@contextlib.contextmanager
def _progress(console: Console, steps: int) -> Iterator[OnStep]:
    """Show a bar with the loss and the time that is left; yields what moves it."""
    columns = (
        TextColumn("Training"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps, loss {task.fields[loss]},"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=steps, loss="?")

        def on_step(step: int, loss: float) -> None:
            progress.update(task, completed=step, loss=f"{loss:.2f}")
            # A log has no bar that moves.
            if not console.is_terminal and step % LOG_EVERY == 0:
                console.print(f"step {step} of {steps}, loss {loss:.2f}", highlight=False)

        yield on_step


if __name__ == "__main__":
    app()
