"""What ``course trace`` does: follow one request through the engine, with others beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from autograder.errors import CourseError
from autograder.terminal.answers import load_llm, require_tokenizer, sampling_params

OTHER_PROMPTS = (
    "A block table says",
    "The queue is long, and the scheduler",
    "When memory runs out,",
    "Every token has a key and a value, which",
)
"""What the other requests ask; if there are more of them, they ask it again."""

FOLLOWED = "followed"
"""Name of the request whose story is told."""


def run(
    prompt: str,
    model: str,
    num_others: int,
    max_tokens: int,
    chrome_file: Path | None,
    csv_file: Path | None,
    options: dict[str, Any],
    console: Console,
) -> None:
    """Serve a prompt among others, and print its story.

    Most of the others come first, so that there is something to wait for.

    Args:
        prompt: The prompt that is followed.
        model: ``course-tiny``, or a folder with a Hugging Face checkpoint.
        num_others: How many other requests there are.
        max_tokens: Tokens that each of them generates at most.
        chrome_file: Where to write the time line of the whole run; None for nowhere.
        csv_file: Where to write the events of the whole run; None for nowhere.
        options: Keyword arguments of ``LLM``. Those that are None are left to it.
        console: Where to print.

    Raises:
        CourseError: The model or the prompt cannot be had, an option is out of range, or a file
            cannot be written.
    """
    llm = load_llm(model, **options)
    require_tokenizer(llm, model)
    # PyTorch takes seconds to load; by now it is.
    from course_lib.engine.tracing.tracer import Tracer

    params = sampling_params(max_tokens=max_tokens, temperature=0, ignore_eos=True)
    others = [OTHER_PROMPTS[index % len(OTHER_PROMPTS)] for index in range(num_others)]
    named = [(f"other-{index}", text) for index, text in enumerate(others, start=1)]
    named.insert(3 * num_others // 4, (FOLLOWED, prompt))
    with Tracer(llm) as tracer:
        try:
            for name, text in named:
                llm.add_request(name, text, params)
        except ValueError as error:
            raise CourseError(str(error)) from error
        while llm.has_unfinished_requests():
            llm.step()
    followed = tracer.request(FOLLOWED)
    console.print(followed.text(), markup=False, highlight=False, soft_wrap=True)
    try:
        if chrome_file is not None:
            followed.to_chrome_trace(chrome_file)
            console.print(f"wrote {chrome_file}; open it in ui.perfetto.dev", soft_wrap=True)
        if csv_file is not None:
            tracer.trace.to_csv(csv_file)
            console.print(f"wrote {csv_file}", soft_wrap=True)
    except OSError as error:
        raise CourseError(f"cannot write {error.filename}: {error.strerror}") from error
