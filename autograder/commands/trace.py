"""``course trace``: following one request through the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from autograder.commands.console import console

EXAMPLE = "course trace 'A block' --num-blocks 12 --json run.json"


def trace(
    prompt: Annotated[str, typer.Argument(help="Text to continue.")] = "The scheduler",
    model: Annotated[
        str, typer.Option(help="course-tiny, or a folder with a Hugging Face checkpoint.")
    ] = "course-tiny",
    others: Annotated[int, typer.Option(min=0, help="Requests beside it.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens that each generates.")] = 16,
    num_blocks: Annotated[
        Optional[int],  # noqa: UP045 - Typer reads this at run time
        typer.Option(help="Blocks of the KV cache; few of them force preemptions."),
    ] = None,
    max_num_seqs: Annotated[int, typer.Option(help="Most requests in a batch.")] = 4,
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", metavar="FILE", help="Write a time line for ui.perfetto.dev."),
    ] = None,
    csv_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--csv", metavar="FILE", help="Write all events as a table."),
    ] = None,
) -> None:
    """Follow one request through the engine, step by step, with others running."""
    from autograder.terminal import following

    options = {"num_blocks": num_blocks, "max_num_seqs": max_num_seqs}
    following.run(prompt, model, others, max_tokens, json_file, csv_file, options, console)
