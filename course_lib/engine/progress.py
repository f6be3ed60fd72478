"""A progress bar for those who wait: only on a screen, and only if it takes a while."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SHOW_AFTER_SECONDS = 2.0
"""Work that is done sooner shows no bar."""


class OnProgress(Protocol):
    """What is told how far the work is."""

    def __call__(self, num_finished: int, num_tokens: int) -> None:
        """Take note of how many requests are finished, and how many tokens there are in all."""


class _Bar:
    """A bar that appears when it is first moved after ``SHOW_AFTER_SECONDS``."""

    def __init__(self, num_requests: int) -> None:
        self._num_requests = num_requests
        self._started = time.monotonic()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __call__(self, num_finished: int, num_tokens: int) -> None:
        """Show how far the work is."""
        seconds = time.monotonic() - self._started
        if seconds < SHOW_AFTER_SECONDS:
            return
        if self._progress is None:
            self._show()
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task, completed=num_finished, speed=f"{num_tokens / seconds:,.0f} tokens/s"
            )

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._progress is not None:
            self._progress.stop()

    def _show(self) -> None:
        """Put the bar on the screen, if there is one."""
        # Rich takes a while to import, and most calls are done before a bar is due.
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            console=console,
            transient=True,
            disable=not (console.is_terminal or console.is_jupyter),
        )
        self._progress.start()
        self._task = self._progress.add_task("requests", total=self._num_requests, speed="")


@contextmanager
def progress_bar(num_requests: int) -> Iterator[OnProgress]:
    """Show a bar while the body runs; yields what moves it.

    >>> with progress_bar(num_requests=2) as report:
    ...     report(num_finished=1, num_tokens=20)
    """
    bar = _Bar(num_requests)
    try:
        yield bar
    finally:
        bar.close()
