"""The end of a call that takes too long, in the process that waits for it."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

_AGAIN = 0.5
"""Seconds after which a call that is still running is told once more that its time is up."""

_AT_ONCE = 1e-4
"""Seconds after which code that has swallowed that twice is told once more."""

_MACHINE = str(Path(__file__).parent)


class NoAnswerError(BaseException):
    """A call took too long. Not an Exception, so that the learner's code does not swallow it."""


class TimeLimit:
    """Raises in the code below when its time is up, where the system can (Unix, main thread).

    Code that swallows that, as a loop with a bare ``except`` does, is told again, and then on its
    next line too: there it is inside its ``except``, which does not catch what it raises itself.

    Args:
        seconds: How long the code may take.

    Attributes:
        is_up: Whether it took longer.

    >>> with TimeLimit(60) as limit:
    ...     total = sum(range(10))
    >>> limit.is_up
    False
    """

    def __init__(self, seconds: float) -> None:
        self.says = f"no answer within {seconds:g} s; is there an endless loop?"
        self.is_up = False
        self._seconds = seconds
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._is_possible = in_main_thread and hasattr(signal, "setitimer")

    def __enter__(self) -> TimeLimit:
        if self._is_possible:
            self._started = time.monotonic()
            self._trace = sys.gettrace()
            self._handler = signal.signal(signal.SIGALRM, self._stop)
            # Whoever else had set the timer, such as a test runner, gets what is left of it.
            # Again and again, because whatever runs at that moment may swallow the exception.
            self._timer = signal.setitimer(signal.ITIMER_REAL, self._seconds, _AGAIN)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._is_possible:
            remaining, interval = self._timer
            left = remaining and max(0.001, remaining - (time.monotonic() - self._started))
            signal.setitimer(signal.ITIMER_REAL, left, interval)
            signal.signal(signal.SIGALRM, self._handler)
            if self.is_up:
                sys.settrace(self._trace)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        file = "" if frame is None else frame.f_code.co_filename
        if file == __file__:
            # The limit is being lifted.
            return
        if self.is_up and not file.startswith(_MACHINE):
            self._insist(frame)
        self.is_up = True
        raise NoAnswerError(self.says)

    def _insist(self, frame: FrameType | None) -> None:
        """Raise where the learner's code goes on as well, and in whatever catches that, at once.

        A tracer that raises is forgotten by Python, so the next alarm sets it again.
        """

        def tracer(frame: FrameType, event: str, argument: Any) -> Any:
            if frame.f_code.co_filename.startswith(_MACHINE):
                return None
            # Not on "exception": that would be raised where it is caught just the same.
            if event == "line":
                raise NoAnswerError(self.says)
            return tracer

        while frame is not None and not frame.f_code.co_filename.startswith(_MACHINE):
            frame.f_trace = tracer
            frame = frame.f_back
        sys.settrace(tracer)
        signal.setitimer(signal.ITIMER_REAL, _AT_ONCE, _AGAIN)
