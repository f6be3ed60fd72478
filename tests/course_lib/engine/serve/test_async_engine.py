"""One thread steps, clients come and go: nothing is lost, nothing grows, nothing waits for ever."""

import asyncio
import contextlib
import gc
import threading
import weakref

import pytest

from course_lib.engine.engine import LLM
from course_lib.engine.engine_parts import EngineParts
from course_lib.engine.outputs import CompletionOutput, RequestOutput
from course_lib.engine.sampling_params import SamplingParams
from course_lib.engine.serve.async_engine import AsyncEngine, EngineDeadError
from course_lib.engine.serve.server import make_app

TIMEOUT = 20.0
LONG = SamplingParams(max_tokens=1_000_000)


class CountingLLM:
    """Counts instead of generating: token i of every answer is i."""

    def __init__(self):
        self.tokens: dict[str, list[int]] = {}
        self.max_tokens: dict[str, int] = {}
        self.aborted: list[str] = []
        self.steps = 0
        self.threads: set[int] = set()
        self.fails_at_step: int | None = None
        self.may_step = threading.Event()
        self.may_step.set()

    def add_request(self, request_id, prompt, sampling_params, **known):
        self.threads.add(threading.get_ident())
        if not prompt:
            raise ValueError("the prompt is empty")
        self.tokens[request_id] = []
        self.max_tokens[request_id] = sampling_params.max_tokens

    def abort_request(self, request_ids):
        self.threads.add(threading.get_ident())
        for request_id in request_ids:
            if self.tokens.pop(request_id, None) is not None:
                self.aborted.append(request_id)

    def has_unfinished_requests(self):
        return bool(self.tokens)

    def step(self):
        self.threads.add(threading.get_ident())
        assert self.may_step.wait(TIMEOUT)
        self.steps += 1
        if self.steps == self.fails_at_step:
            raise ZeroDivisionError("a learner's part")
        outputs = []
        for request_id, tokens in list(self.tokens.items()):
            tokens.append(len(tokens))
            is_last = len(tokens) == self.max_tokens[request_id]
            reason = "length" if is_last else None
            answer = CompletionOutput(0, "x" * len(tokens), list(tokens), None, None, reason)
            outputs.append(RequestOutput(request_id, None, [1], [answer], is_last, 0))
            if is_last:
                del self.tokens[request_id]
        return outputs


def run(scenario):
    """Run a coroutine function on an engine that counts; it must end by itself."""

    async def main():
        llm = CountingLLM()
        async with AsyncEngine(llm) as engine:
            await asyncio.wait_for(scenario(engine, llm), TIMEOUT)
        return llm

    return asyncio.run(main())


async def until(condition):
    """Let others run until something holds."""
    while not condition():
        await asyncio.sleep(0.001)


def tokens_of(output):
    return output.outputs[0].token_ids


def test_a_stream_ends_with_the_last_output_of_its_request():
    async def scenario(engine, llm):
        stream = await engine.submit({"a": "x"}, SamplingParams(max_tokens=7))
        outputs = [output async for output in stream]
        assert tokens_of(outputs[-1]) == list(range(7))
        assert [output.finished for output in outputs] == [False] * (len(outputs) - 1) + [True]

    run(scenario)


def test_one_stream_serves_several_requests():
    async def scenario(engine, llm):
        stream = await engine.submit(dict.fromkeys("abc", "x"), SamplingParams(max_tokens=3))
        last = {output.request_id: tokens_of(output) async for output in stream}
        assert last == {"a": [0, 1, 2], "b": [0, 1, 2], "c": [0, 1, 2]}

    run(scenario)


def test_only_the_engines_thread_touches_the_llm():
    async def scenario(engine, llm):
        stream = await engine.submit({"a": "x"}, LONG)
        await anext(stream)
        stream.close()
        seen_in = await engine.inspect(lambda llm: threading.get_ident())
        assert llm.threads == {seen_in}
        assert seen_in != threading.get_ident()

    run(scenario)


def test_the_engine_sleeps_while_there_is_nothing_to_do():
    async def scenario(engine, llm):
        stream = await engine.submit({"a": "x"}, SamplingParams(max_tokens=3))
        async for _ in stream:
            pass
        await asyncio.sleep(0.05)
        assert llm.steps == 3

    run(scenario)


def test_a_slow_reader_finds_one_output_and_misses_nothing():
    async def scenario(engine, llm):
        stream = await engine.submit({"a": "x"}, SamplingParams(max_tokens=500))
        await until(lambda: not llm.tokens)
        outputs = [output async for output in stream]
        assert len(outputs) <= 2
        assert tokens_of(outputs[-1]) == list(range(500))

    run(scenario)


def test_nothing_piles_up_while_the_event_loop_is_busy():
    async def scenario(engine, llm):
        stream = await engine.submit({"a": "x"}, LONG)
        delivered = []
        in_loop = engine._in_loop
        engine._in_loop = lambda *call: (delivered.append(call), in_loop(*call))
        before = llm.steps
        while llm.steps < before + 200:  # without a pause: the loop delivers nothing
            pass
        assert len(engine._outbox) <= 1
        assert len(delivered) <= 1
        stream.close()

    run(scenario)


def test_closing_a_stream_aborts_its_requests_and_leaves_the_others():
    async def scenario(engine, llm):
        one = await engine.submit(dict.fromkeys("ab", "x"), LONG)
        two = await engine.submit({"c": "x"}, LONG)
        await anext(one)
        one.close()
        one.close()
        await until(lambda: llm.aborted)
        assert sorted(llm.aborted) == ["a", "b"]
        newest = tokens_of(await anext(two))
        assert tokens_of(await anext(two)) > newest
        assert [output async for output in one] == []

    llm = run(scenario)
    assert "c" in llm.aborted  # by the end of the engine


def test_a_stream_that_was_read_to_its_end_aborts_nothing():
    async def scenario(engine, llm):
        with contextlib.closing(
            await engine.submit({"a": "x"}, SamplingParams(max_tokens=2))
        ) as stream:
            async for _ in stream:
                pass
        await engine.inspect(len_of_aborted := (lambda llm: len(llm.aborted)))
        assert await engine.inspect(len_of_aborted) == 0

    run(scenario)


def test_one_bad_prompt_of_several_adds_none():
    async def scenario(engine, llm):
        with pytest.raises(ValueError, match="the prompt is empty"):
            await engine.submit({"a": "x", "b": "", "c": "x"}, LONG)
        assert await engine.inspect(lambda llm: dict(llm.tokens)) == {}
        assert engine._streams == {}
        again = await engine.submit({"a": "x"}, SamplingParams(max_tokens=1))
        assert tokens_of(await anext(again)) == [0]

    run(scenario)


def test_a_caller_that_is_cancelled_while_submitting_leaves_nothing_behind():
    async def scenario(engine, llm):
        llm.may_step.clear()
        first = await engine.submit({"a": "x"}, LONG)  # the engine hangs in its step
        submitting = asyncio.ensure_future(engine.submit({"b": "x"}, LONG))
        await asyncio.sleep(0.01)
        submitting.cancel()
        await asyncio.gather(submitting, return_exceptions=True)
        llm.may_step.set()
        assert await engine.inspect(lambda llm: list(llm.tokens)) == ["a"]
        first.close()

    run(scenario)


def test_a_step_that_fails_fails_everybody_and_nobody_waits(caplog):
    async def scenario(engine, llm):
        llm.fails_at_step = 5
        llm.may_step.clear()
        streams = [await engine.submit({str(i): "x"}, LONG) for i in range(1)]
        calls = [asyncio.ensure_future(engine.submit({f"b{i}": "x"}, LONG)) for i in range(3)]
        llm.may_step.set()
        streams += [
            stream
            for stream in await asyncio.gather(*calls, return_exceptions=True)
            if not isinstance(stream, EngineDeadError)
        ]
        for stream in streams:
            with pytest.raises(EngineDeadError, match="ZeroDivisionError: a learner's part"):
                async for _ in stream:
                    pass
        with pytest.raises(EngineDeadError, match="start the server again"):
            await engine.submit({"z": "x"}, LONG)
        assert await engine.inspect(lambda llm: llm.steps) == 5
        assert "a learner's part" in engine.failure

    run(scenario)
    assert "the engine stopped" in caplog.text


def test_a_call_that_waits_when_the_engine_dies_fails_too():
    async def scenario(engine, llm):
        llm.fails_at_step = 1
        llm.may_step.clear()
        stream = await engine.submit({"a": "x"}, LONG)
        waiting = [asyncio.ensure_future(engine.submit({f"b{i}": "x"}, LONG)) for i in range(3)]
        await asyncio.sleep(0.01)
        llm.may_step.set()
        for submitting in waiting:
            with pytest.raises(EngineDeadError):
                await submitting
        stream.close()

    run(scenario)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_whatever_a_part_raises_is_a_failure_and_no_hang(error):
    async def scenario(engine, llm):
        def step():
            raise error

        llm.step = step
        stream = await engine.submit({"a": "x"}, LONG)
        with pytest.raises(EngineDeadError, match=error.__name__):
            await anext(stream)

    run(scenario)


def test_the_end_fails_what_is_open_and_aborts_it():
    async def main():
        llm = CountingLLM()
        engine = AsyncEngine(llm)
        engine.start()
        stream = await engine.submit(dict.fromkeys("ab", "x"), LONG)
        await engine.shutdown()
        assert sorted(llm.aborted) == ["a", "b"]
        assert not engine._thread.is_alive() or engine._thread.join(TIMEOUT) is None
        with pytest.raises(EngineDeadError, match="is shutting down"):
            async for _ in stream:
                pass
        with pytest.raises(EngineDeadError, match="is shutting down"):
            await engine.submit({"c": "x"}, LONG)
        await engine.shutdown()  # again does nothing

    asyncio.run(asyncio.wait_for(main(), TIMEOUT))


def test_many_come_and_go_at_once():
    async def scenario(engine, llm):
        async def client(number):
            stream = await engine.submit({f"r{number}": "x"}, SamplingParams(max_tokens=20))
            if number % 4 == 0:
                await anext(stream)
                stream.close()
                return None
            return [output async for output in stream][-1]

        last = await asyncio.gather(*(client(number) for number in range(200)))
        complete = [output for output in last if output is not None]
        assert len(complete) == 150
        assert all(tokens_of(output) == list(range(20)) for output in complete)
        assert await engine.inspect(lambda llm: llm.tokens) == {}
        assert engine._streams == {}

    run(scenario)


def test_an_engine_is_gone_when_its_application_is() -> None:
    """FastAPI keeps the endpoints that it has seen: weights and cache must not hang on them."""
    llm = LLM(num_blocks=8, parts=EngineParts.reference())
    app = make_app(llm, "course-tiny")
    gone = weakref.ref(llm)
    del llm, app
    gc.collect()
    assert gone() is None
