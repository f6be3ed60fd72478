"""The end of a call that takes too long, in the process that waits for it."""

from __future__ import annotations

import gc
import math
import os
import signal
import sys
import threading
import time
import weakref
from pathlib import Path
from types import FrameType
from typing import Any

_AGAIN = 0.5
"""Seconds after which a call that is still running is told once more that its time is up."""

_AT_ONCE = 0.001
"""Seconds after which a call is told that its time is up if that cannot be said just now."""

_LEAST_LOSS = 0.05
"""Seconds of waiting for a CPU that are worth to be made up for."""

_PATIENCE = 3
"""How many times its limit code may take by the clock that has not run for as long as its limit."""

_TICKS, _SHORTEST_TICK = 20, 0.05
"""How often a limit looks at the clock, and seconds from one look to the next at the least, since
whoever is woken for it has to wait for a CPU. Whoever runs or sleeps lets it look; who does not was
stopped with all of this machine, as a virtual one is while its host has no room for it."""

_MACHINE = str(Path(__file__).parent)

_QUEUED = "/proc/thread-self/schedstat"
"""Where Linux says how long this thread ran, and how long it was ready and waited for a CPU."""

_ENOUGH = 100
"""Bytes: three numbers."""


class _Queue:
    """How long the thread of the limits has waited for a CPU, as it was said not long ago.

    To ask the kernel is a third of what a limit costs, and a life is hundreds of short calls. What
    was waited since the kernel was asked is made up for, and is not worth more than any such loss.
    """

    def __init__(self) -> None:
        self._asked = -math.inf
        self._thread = 0
        self._seconds = 0.0

    def seconds(self) -> float:
        """Return what it was at most ``_LEAST_LOSS`` ago."""
        now, thread = time.monotonic(), threading.get_native_id()
        if now > self._asked + _LEAST_LOSS or thread != self._thread:
            self._asked, self._thread, self._seconds = now, thread, _seconds_queued()
        return self._seconds


_queue = _Queue()


def _seconds_queued() -> float:
    """Return how long this thread has waited for a CPU since it began; 0 where nobody knows."""
    try:
        # Read with each call of a learner's object, so without a file object and its decoder.
        file = os.open(_QUEUED, os.O_RDONLY)
        try:
            said = os.read(file, _ENOUGH)
        finally:
            os.close(file)
        return int(said.split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


class _Collector:
    """A stopwatch for the rounds of the garbage collector.

    A round looks at all that the process holds, and a call that makes many objects starts one round
    after the other: with 100,000 blocks they took five times as long as the call itself in a new
    process, more in an old one. That is nothing that whoever is called could do better.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started: float | None = None

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._started = time.thread_time()
        elif self._started is not None:
            self.seconds += time.thread_time() - self._started
            self._started = None


_collector = _Collector()


def seconds_collecting() -> float:
    """Return the CPU time for which garbage was collected under limits so far.

    >>> with TimeLimit(60):
    ...     before = seconds_collecting()
    ...     collected = gc.collect()
    ...     seconds_collecting() > before
    True
    """
    return _collector.seconds


class NoAnswerError(BaseException):
    """A call took too long. Not an Exception, so that the learner's code does not swallow it."""


class TimeLimit:
    """Raises in the code below when its time is up, where the system can (Unix, main thread).

    Code that swallows that, as a loop with a bare ``except`` does, is told again as soon as it has
    dropped the exception: there it has just left its ``except``, which does not catch it anew. So
    every level of such code is left, one after the other, whatever the machine does meanwhile.

    The collector of garbage runs in the middle of anything, even of making a frame. What its
    callbacks raise is printed and lost, and Python 3.11 dies where a tracer walks the frames in
    there. So nobody's callback but a stopwatch runs under a limit; and once the time is up, no
    collector.

    What counts is the time for which the thread has run, without the rounds of the collector: a
    right answer is not late because a class works beside it, because the machine had to fetch its
    memory, or because the process holds much else. Code that does not run, as it sleeps or waits
    for somebody, is stopped by the clock, after three times as long; not counted is what the thread
    had to wait for a CPU, where the system tells (Linux). Where time passed in one piece, in which
    nobody could look at the clock, the machine may have stood still, or one call into C took long:
    then the limit begins anew, once.

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
        self._is_lifted = False
        self._seconds = seconds
        self._tick = max(seconds / _TICKS, _SHORTEST_TICK)
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._is_possible = in_main_thread and hasattr(signal, "setitimer")

    def __enter__(self) -> TimeLimit:
        if self._is_possible:
            self._begin()
            self._may_begin_anew = True
            self._trace = sys.gettrace()
            self._collects = gc.isenabled()
            self._callbacks, gc.callbacks[:] = gc.callbacks[:], [_collector]
            self._unraisable = sys.unraisablehook
            sys.unraisablehook = self._lost
            self._handler = signal.signal(signal.SIGALRM, self._stop)
            # Whoever else had set the timer, such as a test runner, gets what is left of it.
            self._entered = time.monotonic()
            self._timer = signal.setitimer(signal.ITIMER_REAL, self._tick, self._tick)
        return self

    def _begin(self) -> None:
        """Count from here."""
        self._ticks = 0
        self._started = time.monotonic()
        self._ran_before = time.thread_time() - seconds_collecting()
        self._queued_before = _queue.seconds()

    def __exit__(self, *exc: object) -> None:
        self._is_lifted = True
        if self._is_possible:
            if self.is_up:
                # First of all: what is called here is no code of the learner's either.
                sys.settrace(self._trace)
            if self._collects:
                gc.enable()
            remaining, interval = self._timer
            left = remaining and max(0.001, remaining - (time.monotonic() - self._entered))
            signal.setitimer(signal.ITIMER_REAL, left, interval)
            signal.signal(signal.SIGALRM, self._handler)
            sys.unraisablehook = self._unraisable
            added = [each for each in gc.callbacks if each is not _collector]
            gc.callbacks[:] = [*self._callbacks, *added]

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._is_lifted:
            # No timer is set again: once the handler is gone, its signal would end the process.
            return
        self._ticks += 1
        code = None if frame is None else frame.f_code
        is_collecting = code is _Collector.__call__.__code__
        if code is not None and code.co_filename == __file__ and not is_collecting:
            # The limit is about to be lifted.
            return
        if not self.is_up and (left := self._seconds_left()) > _LEAST_LOSS:
            signal.setitimer(signal.ITIMER_REAL, min(left, self._tick), self._tick)
            return
        if (
            not self.is_up
            and self._may_begin_anew
            and self._ticks < self._seconds / self._tick // 2
        ):
            self._may_begin_anew = False
            self._begin()
            return
        if is_collecting:
            # What is raised here would be lost; and whatever comes in a round is told here, so
            # that with one long round after the other nobody else would ever be told.
            gc.disable()
            signal.setitimer(signal.ITIMER_REAL, _AT_ONCE, _AGAIN)
            return
        if self.is_up:
            self._insist(frame)
        self.is_up = True
        gc.disable()
        # Again and again, because whatever runs at that moment may swallow the exception.
        signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
        raise self._error()

    def _seconds_left(self) -> float:
        """Return how much of the limit is left because the thread did not run all the time."""
        ran = time.thread_time() - seconds_collecting() - self._ran_before
        queued = _seconds_queued() - self._queued_before
        waited = time.monotonic() - self._started - queued
        return min(self._seconds - ran, _PATIENCE * self._seconds - waited)

    def _error(self) -> NoAnswerError:
        """One more exception, which makes itself heard when it is dropped."""
        error = NoAnswerError(self.says)
        self._raised = weakref.ref(error, self._dropped)
        return error

    def _lost(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Say nothing where a finalizer, which cannot raise, was told that its time is up."""
        if not isinstance(unraisable.exc_value, NoAnswerError):
            self._unraisable(unraisable)

    def _dropped(self, error: weakref.ref[NoAnswerError]) -> None:
        if not self._is_lifted:
            self._insist(sys._getframe(1))

    def _insist(self, frame: FrameType | None) -> None:
        """Raise at the next instruction of the learner's code, in whichever function it is.

        A tracer that raises is forgotten by Python: the exception that is dropped sets it again.
        Not where the machine itself is at work, which passes on what it is told the next time.
        """
        if frame is None or frame.f_code.co_filename.startswith(_MACHINE):
            return

        def tracer(frame: FrameType, event: str, argument: Any) -> Any:
            if frame.f_code.co_filename.startswith(_MACHINE):
                return None
            frame.f_trace_opcodes = True
            # Not on "exception": that would be raised where it is caught just the same.
            if event == "opcode":
                raise self._error()
            return tracer

        while frame is not None and not frame.f_code.co_filename.startswith(_MACHINE):
            frame.f_trace = tracer
            frame.f_trace_opcodes = True
            frame = frame.f_back
        sys.settrace(tracer)
