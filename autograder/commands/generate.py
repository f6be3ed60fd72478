"""``course generate``: having a model continue a text."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

EXAMPLE = "course generate 'Once upon a time' --max-tokens 40"


def generate(
    prompt: Annotated[str, typer.Argument(help="Text to continue; - reads it from stdin.")],
    model: Annotated[
        str, typer.Option(help="course-tiny, or a folder with a Hugging Face checkpoint.")
    ] = "course-tiny",
    chat: Annotated[
        bool, typer.Option("--chat", help="Answer the prompt as a message; do not continue it.")
    ] = False,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 128,
    temperature: Annotated[
        Optional[float],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            help="0 for the most probable text, 1 for the model's own chances. Default: what its "
            "makers recommend."
        ),
    ] = None,
    top_p: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Only the most probable tokens that have this probability together."),
    ] = None,
    top_k: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Only this many of the most probable tokens."),
    ] = None,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="The same seed gives the same text again."),
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Number of answers.")] = 1,
    stop: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Text before which an answer ends; may be given several times."),
    ] = None,
) -> None:
    """Have a model continue a text, or answer it, on the course's own engine."""
    from autograder.terminal import answers

    answers.run(
        prompt,
        model,
        chat,
        {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "seed": seed,
            "n": n,
            "stop": stop,
        },
    )
