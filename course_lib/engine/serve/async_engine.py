"""An engine for many clients at once: one thread steps the LLM, asyncio code talks to it.

Two threads, and each owns what it touches. The engine's thread owns the LLM: nothing else calls it.
The event loop's thread owns the streams that clients read. Between them lie an inbox of calls for
the LLM, carried out between two steps, and an outbox of outputs, of which only the newest of each
request is kept. Neither thread waits for the other, and neither box grows with a slow reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from course_lib.engine.core import EngineDeadError
from course_lib.engine.engine import LLM

if TYPE_CHECKING:
    from course_lib.engine.outputs import RequestOutput
    from course_lib.engine.sampling_params import SamplingParams

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)

STEP_SECONDS = 30.0
"""How long a shutdown waits for the step that is under way."""


class OutputStream(AsyncIterator["RequestOutput"]):
    """What comes of one or several requests, as it comes.

    Invariant: at most one output per request waits here, the newest. Outputs are cumulative, so a
    reader that is slow sees fewer of them and misses nothing. It ends after the last output of
    every request.

    Belongs to the thread of the event loop. Made by ``AsyncEngine.submit``; close it, or read it to
    its end.

    Args:
        request_ids: The requests.
        abort: Called with those that are not over when the stream is closed.
    """

    def __init__(
        self, request_ids: Sequence[str], abort: Callable[[OutputStream, list[str]], None]
    ) -> None:
        self.request_ids = tuple(request_ids)
        self._abort = abort
        self._open_ids = dict.fromkeys(request_ids)
        self._newest: dict[str, RequestOutput] = {}
        self._failure: str | None = None
        self._wake = asyncio.Event()

    def put(self, output: RequestOutput) -> None:
        """Take in a newer output of one of the requests."""
        self._newest[output.request_id] = output
        if output.finished:
            self._open_ids.pop(output.request_id, None)
        self._wake.set()

    def fail(self, reason: str) -> None:
        """Let the reader have an EngineDeadError instead of further outputs."""
        self._failure = reason
        self._open_ids.clear()
        self._wake.set()

    def close(self) -> None:
        """Abort the requests that are not over, and end. Closing again does nothing."""
        open_ids = list(self._open_ids)
        self._open_ids.clear()
        self._newest.clear()
        self._wake.set()
        self._abort(self, open_ids)

    async def __anext__(self) -> RequestOutput:
        while not self._newest:
            if self._failure is not None:
                raise EngineDeadError(self._failure)
            if not self._open_ids:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._newest.pop(next(iter(self._newest)))


class AsyncEngine:
    """Serves an LLM to asyncio code: submit requests, read their outputs, close to abort.

    Invariant: between ``start`` and the end of its thread, only that thread calls the LLM. It steps
    while there is a request and sleeps otherwise. If a step fails, every open stream and call fails
    with an ``EngineDeadError``, and so does all that is asked afterwards: nothing waits for ever.

    Args:
        llm: The engine; nobody else may use it meanwhile.

    Attributes:
        llm: The same.
        failure: Why nothing is served any more; None while all is well.

    Inside a running event loop::

        async with AsyncEngine(llm) as engine:
            stream = await engine.submit({"a": "Once upon"}, SamplingParams(max_tokens=8))
            async for output in stream:
                print(output.outputs[0].text)
    """

    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self.failure: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread_ended = asyncio.Event()
        self._streams: dict[str, OutputStream] = {}
        self._answers: set[asyncio.Future[Any]] = set()
        # Guards the two boxes and ``_is_over``. The engine's thread waits on it.
        self._condition = threading.Condition()
        self._inbox: deque[Callable[[], None]] = deque()
        self._outbox: dict[str, RequestOutput] = {}
        self._is_over = False

    async def __aenter__(self) -> AsyncEngine:
        self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.shutdown()

    def start(self) -> None:
        """Start the thread. Outputs are delivered in the event loop that runs now.

        Raises:
            RuntimeError: It was started before, or no event loop runs.
        """
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def shutdown(self) -> None:
        """Abort all requests and end the thread. What is asked later gets an EngineDeadError.

        A step that has begun is carried out first, if it takes no longer than ``STEP_SECONDS``.
        """
        if self.failure is None:
            open_ids = list(self._streams)
            self._fail("the server is shutting down; ask again when it is back")
            self._post(lambda: self.llm.abort_request(open_ids))
        with self._condition:
            self._is_over = True
            self._condition.notify()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._thread_ended.wait(), STEP_SECONDS)

    async def submit(
        self,
        prompts: Mapping[str, str | list[int]],
        sampling_params: SamplingParams,
        *,
        priority: int = 0,
        cache_salt: str | None = None,
        client_id: str = "",
    ) -> OutputStream:
        """Add requests, all of them or none, and return the stream of their outputs.

        Args:
            prompts: Texts or token ids, by the id that the request gets.
            sampling_params: How to sample, for all of them.
            priority: A lower value is more important, under a policy that heeds it.
            cache_salt: Only requests with the same salt may share cached prefixes.
            client_id: Whose they are, under a policy that is fair to clients.

        Raises:
            PromptError: One of the prompts cannot be served; then none is.
            EngineDeadError: The engine has stopped.
        """
        stream = OutputStream(list(prompts), self._close)
        self._streams.update(dict.fromkeys(prompts, stream))
        try:
            known = {"priority": priority, "cache_salt": cache_salt, "client_id": client_id}
            await self._call(lambda: self._add(prompts, sampling_params, known))
        except BaseException:
            # All or none; and a caller that was cancelled here leaves nothing behind either.
            stream.close()
            raise
        return stream

    async def inspect(self, look: Callable[[LLM], _Result]) -> _Result:
        """Return what a function says of the LLM between two steps, or after the last one."""
        if self.failure is None:
            return await self._call(lambda: look(self.llm))
        await self._thread_ended.wait()
        return look(self.llm)

    # In the thread of the event loop.

    async def _call(self, function: Callable[[], _Result]) -> _Result:
        """Have the engine's thread call the function, and return or raise what comes of it."""
        if self.failure is not None:
            raise EngineDeadError(self.failure)
        assert self._loop is not None, "start() comes first"
        answer: asyncio.Future[_Result] = self._loop.create_future()
        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)

        def carry_out() -> None:
            try:
                result = function()
            except Exception as error:
                self._in_loop(_settle, answer, partial(answer.set_exception, error))
            else:
                self._in_loop(_settle, answer, partial(answer.set_result, result))

        self._post(carry_out)
        return await answer

    def _close(self, stream: OutputStream, open_ids: list[str]) -> None:
        """Forget a stream that was closed, and abort what of it is not over."""
        for request_id in stream.request_ids:
            self._streams.pop(request_id, None)
        if open_ids:
            self._post(lambda: self.llm.abort_request(open_ids))

    def _deliver(self) -> None:
        """Move what is in the outbox to the streams."""
        with self._condition:
            outputs, self._outbox = self._outbox, {}
        for request_id, output in outputs.items():
            if request_id in self._streams:  # not closed meanwhile
                self._streams[request_id].put(output)
                if output.finished:
                    del self._streams[request_id]

    def _fail(self, reason: str) -> None:
        """Fail whatever is open, and whatever is asked from now on."""
        self._deliver()
        self.failure = reason
        for stream in set(self._streams.values()):
            stream.fail(reason)
        self._streams.clear()
        for answer in self._answers:
            _settle(answer, partial(answer.set_exception, EngineDeadError(reason)))

    # In either thread.

    def _post(self, call: Callable[[], None]) -> None:
        """Put a call into the inbox, unless nobody will take it out any more."""
        with self._condition:
            if not self._is_over:
                self._inbox.append(call)
                self._condition.notify()

    # In the engine's thread.

    def _run(self) -> None:
        """Carry out calls and steps until it is over."""
        try:
            while self._carry_out_calls():
                if self.llm.has_unfinished_requests():
                    self._publish(self.llm.step())
        except BaseException as error:  # a part of a learner's may raise anything
            _log.exception("the engine stopped")
            self._die(error)
        self._in_loop(self._thread_ended.set)

    def _carry_out_calls(self) -> bool:
        """Empty the inbox; wait for something in it if there is nothing else to do.

        Returns:
            Whether to go on.
        """
        has_work = self.llm.has_unfinished_requests()
        with self._condition:
            while not (has_work or self._inbox or self._is_over):
                self._condition.wait()
            calls, self._inbox = self._inbox, deque()
            is_over = self._is_over
        for call in calls:
            call()
        return not is_over

    def _add(
        self,
        prompts: Mapping[str, str | list[int]],
        sampling_params: SamplingParams,
        known: Mapping[str, Any],
    ) -> None:
        """Add requests until one is refused. Closing their stream aborts those before it."""
        for request_id, prompt in prompts.items():
            self.llm.add_request(request_id, prompt, sampling_params, **known)

    def _publish(self, outputs: Sequence[RequestOutput]) -> None:
        """Put outputs into the outbox, and have it emptied unless that is under way."""
        with self._condition:
            was_empty = not self._outbox
            self._outbox.update((output.request_id, output) for output in outputs)
            is_empty = not self._outbox
        if was_empty and not is_empty:
            self._in_loop(self._deliver)

    def _die(self, error: BaseException) -> None:
        """Take no further calls, and tell everybody why."""
        with self._condition:
            self._is_over = True
            self._inbox.clear()
        reason = f"the engine stopped: {type(error).__name__}: {error}; start the server again"
        self._in_loop(self._fail, reason)

    def _in_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have the event loop call the function, if it still runs."""
        assert self._loop is not None, "the thread was started by start()"
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(function, *arguments)


def _settle(answer: asyncio.Future[Any], settle: Callable[[], None]) -> None:
    """Settle a future, unless its caller has gone or has been told of a failure."""
    if not answer.done():
        settle()
