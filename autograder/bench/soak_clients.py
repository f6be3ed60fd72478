"""The clients of ``course bench soak``: what they ask, and what every answer must be like.

Half of them ask the engine itself and see tokens, the others send requests to the server, and see
what an HTTP client sees: every byte of every event. Some leave before their answer is complete.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from fastapi import FastAPI

from course_lib.engine import SamplingParams
from course_lib.engine.outputs import RequestOutput
from course_lib.engine.prompts import PromptError
from course_lib.engine.serve.async_engine import AsyncEngine

MODEL = "soak"
"""What the server calls its model."""

STOP_STRINGS = ("the", "block", " a", "e s", "\n", "requests are")
WORDS = (
    "scheduler",
    "block",
    "table",
    "prompt",
    "cache",
    "€",
    "日本",
    "token",
    "😀",
    "é",
    "memory",
)
FIRST_TOKEN, LAST_TOKEN = 3, 511
SHARED_PREFIXES = tuple(
    tuple(random.Random(seed).choices(range(FIRST_TOKEN, LAST_TOKEN), k=48)) for seed in range(3)
)
"""Beginnings that several prompts have in common, for the prefix cache."""


class WrongAnswerError(Exception):
    """An answer is not as it must be: says what is wrong."""


@dataclass(frozen=True)
class Visit:
    """What one client asks.

    Attributes:
        name: Name of the request.
        prompt: Tokens.
        params: What is asked of the sampler.
        priority: A lower value is more important.
        cache_salt: Only requests with the same salt share prefixes.
        client_id: Whose it is.
        leaves_after: Outputs, or events of a stream, after which the client leaves; None if it
            stays.
        waits: Seconds until it asks.
        asks_server: Whether it sends its request to the server.
        streams: Whether the server is to stream the answer.
        chats: Whether it asks the server for an answer to a message.
    """

    name: str
    prompt: tuple[int, ...]
    params: SamplingParams
    priority: int
    cache_salt: str | None
    client_id: str
    leaves_after: int | None
    waits: float
    asks_server: bool
    streams: bool
    chats: bool

    def body(self) -> dict[str, Any]:
        """Return the request as JSON for the server. A chat has a text made of the same numbers."""
        params = self.params
        body: dict[str, Any] = {
            "model": MODEL,
            "n": params.n,
            "max_tokens": params.max_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k,
            "min_p": params.min_p,
            "repetition_penalty": params.repetition_penalty,
            "stop": list(params.stop_strings) or None,
            "seed": params.seed,
            "ignore_eos": params.ignore_eos,
            "cache_salt": self.cache_salt,
            "user": self.client_id,
            "stream": self.streams,
        }
        if self.streams:
            body["stream_options"] = {"include_usage": True}
        if self.chats:
            words = (WORDS[token % len(WORDS)] for token in self.prompt[:12])
            body["messages"] = [{"role": "user", "content": " ".join(words)}]
            body["logprobs"] = params.logprobs is not None
            body["top_logprobs"] = params.logprobs
        else:
            body["prompt"] = list(self.prompt)
            body["logprobs"] = params.logprobs
        return body


@dataclass(frozen=True)
class Outcome:
    """What became of a visit.

    Attributes:
        visit: The visit.
        ended: ``finished``, ``left`` or ``refused``.
        num_tokens: Tokens that were generated for it, as far as the client knows.
        answer: The engine's last output, if the client asked the engine and stayed.
    """

    visit: Visit
    ended: str
    num_tokens: int = 0
    answer: RequestOutput | None = None


def draw_visit(rng: random.Random, name: str, max_model_len: int) -> Visit:
    """Return a random visit.

    Args:
        rng: Where the random numbers come from.
        name: Name of the request.
        max_model_len: Tokens of the longest sequence. One prompt in 20 is longer.
    """
    prefix = rng.choice([(), *SHARED_PREFIXES])
    length = rng.randint(1, max(max_model_len // 2, 2))
    if rng.random() < 0.05:
        length = max_model_len + rng.randint(0, 8)
    own = rng.choices(range(FIRST_TOKEN, LAST_TOKEN), k=length)
    prompt = (*prefix[: length // 2], *own)[:length]
    is_server = rng.random() < 0.5
    params = SamplingParams(
        n=rng.choice([1, 1, 1, 2, 4]),
        temperature=rng.choice([0, 0, 0.7, 1.0, 1.5]),
        top_p=rng.choice([1.0, 1.0, 0.9]),
        top_k=rng.choice([0, 0, 20]),
        min_p=rng.choice([0.0, 0.0, 0.05]),
        repetition_penalty=rng.choice([1.0, 1.0, 1.0, 1.2]),
        max_tokens=rng.randint(1, max(max_model_len // 3, 1)),
        stop=rng.sample(STOP_STRINGS, rng.choice([0, 0, 1, 2])),
        seed=rng.randrange(2**31),
        logprobs=rng.choice([None, None, None, 0, 2]),
        ignore_eos=rng.random() < 0.5,
    )
    return Visit(
        name=name,
        prompt=prompt,
        params=params,
        priority=rng.randint(-2, 2),
        cache_salt=rng.choice([None, None, "a", "b"]),
        client_id=rng.choice("xyz"),
        leaves_after=rng.randint(0, 12) if rng.random() < 0.2 else None,
        waits=rng.choice([0.0, 0.0, rng.uniform(0, 0.2)]),
        asks_server=is_server,
        streams=rng.random() < 0.6,
        chats=rng.random() < 0.4,
    )


async def ask_engine(engine: AsyncEngine, visit: Visit) -> Outcome:
    """Have the engine answer a visit, and look at every output.

    Raises:
        WrongAnswerError: An output is not as it must be.
        EngineDeadError: The engine has stopped.
    """
    try:
        stream = await engine.submit(
            {visit.name: list(visit.prompt)},
            visit.params,
            priority=visit.priority,
            cache_salt=visit.cache_salt,
            client_id=visit.client_id,
        )
    except PromptError:
        return Outcome(visit, "refused")
    last: RequestOutput | None = None
    num_seen = 0
    with closing(stream):
        if visit.leaves_after == 0:
            return Outcome(visit, "left")
        async for output in stream:
            _require_grown(last, output)
            last = output
            num_seen += 1
            if num_seen == visit.leaves_after and not output.finished:
                return Outcome(visit, "left", _num_tokens(output))
    if last is None or not last.finished:
        raise WrongAnswerError("the stream ended before its answer was complete")
    _require_complete(visit, last)
    return Outcome(visit, "finished", _num_tokens(last), last)


async def ask_server(app: FastAPI, visit: Visit) -> Outcome:
    """Have the server answer a visit, and look at all that it sends.

    Raises:
        WrongAnswerError: What it sends is not as it must be.
    """
    path = "/v1/chat/completions" if visit.chats else "/v1/completions"
    status, text = await post(app, path, visit.body(), visit.leaves_after)
    if status is None or (visit.leaves_after is not None and "[DONE]" not in text):
        return Outcome(visit, "left")
    if status == 400 and json.loads(text)["error"]["code"] == "context_length_exceeded":
        return Outcome(visit, "refused")
    if status != 200:
        raise WrongAnswerError(f"the server answers {status}: {text[:500]}")
    if not visit.streams:
        content = json.loads(text)
        texts = {choice["index"]: _text_of(choice, "message") for choice in content["choices"]}
        reasons = {choice["index"]: choice["finish_reason"] for choice in content["choices"]}
        usage = content["usage"]
    else:
        texts, reasons, usage = read_stream(text)
    _require_choices(visit, texts, reasons)
    if not 0 < usage["completion_tokens"] <= visit.params.n * (visit.params.max_tokens or 0):
        raise WrongAnswerError(f"the usage is {usage}")
    return Outcome(visit, "finished", usage["completion_tokens"])


async def post(
    app: FastAPI, path: str, body: dict[str, Any], leaves_after: int | None = None
) -> tuple[int | None, str]:
    """Send a request to an application, without a socket between.

    Args:
        app: The application.
        path: Which of its addresses.
        body: The request.
        leaves_after: Pieces of the answer after which the client is gone; None if it stays.

    Returns:
        The status, or None if the client left before there was one, and the text that came.
    """
    gone, asked = asyncio.Event(), False
    status: int | None = None
    pieces: list[bytes] = []
    if leaves_after == 0:
        gone.set()

    async def receive() -> dict[str, Any]:
        """Give the request, and then say when the client has gone."""
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        """Take a piece of the answer."""
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            return
        pieces.append(message.get("body", b""))
        if leaves_after is not None and len(pieces) >= leaves_after:
            gone.set()

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    await app(scope, receive, send)
    return status, b"".join(pieces).decode()


def read_stream(text: str) -> tuple[dict[int, str], dict[int, str], dict[str, int]]:
    r"""Return what a stream of server-sent events says: texts, reasons to end, and usage.

    Raises:
        WrongAnswerError: It is not well formed.

    >>> events = ['{"choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]}',
    ...           '{"choices": [], "usage": {"completion_tokens": 1}}', "[DONE]"]
    >>> read_stream("".join(f"data: {event}\n\n" for event in events))
    ({0: 'a'}, {0: 'stop'}, {'completion_tokens': 1})
    """
    if not text.endswith("data: [DONE]\n\n"):
        raise WrongAnswerError(f"the stream ends with {text[-80:]!r}")
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    usage: dict[str, int] = {}
    for event in text.removesuffix("\n\n").split("\n\n")[:-1]:
        if not event.startswith("data: ") or len(event.splitlines()) != 1:
            raise WrongAnswerError(f"{event!r} is no event of one line")
        content = json.loads(event.removeprefix("data: "))
        if "error" in content or usage:
            raise WrongAnswerError(f"{event!r} comes in a stream, behind usage {usage}")
        usage = content.get("usage") or {}
        for choice in content["choices"]:
            index = choice["index"]
            piece = _text_of(choice, "delta")
            if index in reasons:
                raise WrongAnswerError(f"choice {index} goes on with {piece!r} behind its end")
            texts[index] = texts.get(index, "") + piece
            if choice["finish_reason"] is not None:
                reasons[index] = choice["finish_reason"]
    return texts, reasons, usage


def _text_of(choice: dict[str, Any], key: str) -> str:
    """Return the text of a choice, of a completion or of a chat."""
    if "text" in choice:
        return str(choice["text"])
    return str(choice[key].get("content") or "")


def _require_choices(visit: Visit, texts: dict[int, str], reasons: dict[int, str]) -> None:
    """Raise WrongAnswerError unless all choices are there, complete, and end where they must."""
    if sorted(reasons) != list(range(visit.params.n)):
        raise WrongAnswerError(f"of {visit.params.n} choices, {sorted(reasons)} are complete")
    if not set(reasons.values()) <= {"stop", "length"}:
        raise WrongAnswerError(f"the reasons to end are {reasons}")
    _require_no_stop_string(visit, texts.values())


def _require_no_stop_string(visit: Visit, texts: Any) -> None:
    """Raise WrongAnswerError if a stop string is in a text."""
    for text in texts:
        for string in visit.params.stop_strings:
            if string in text:
                raise WrongAnswerError(f"the stop string {string!r} is in the answer {text!r}")


def _require_grown(before: RequestOutput | None, now: RequestOutput) -> None:
    """Raise WrongAnswerError if something that was shown is taken back."""
    if before is None:
        return
    for old, new in zip(before.outputs, now.outputs, strict=True):
        if not new.text.startswith(old.text):
            raise WrongAnswerError(f"{old.text!r} became {new.text!r}")
        if new.token_ids[: len(old.token_ids)] != old.token_ids:
            raise WrongAnswerError(f"tokens {old.token_ids} became {new.token_ids}")


def _require_complete(visit: Visit, answer: RequestOutput) -> None:
    """Raise WrongAnswerError unless an answer is what was asked for."""
    texts = {output.index: output.text for output in answer.outputs}
    reasons = {output.index: str(output.finish_reason) for output in answer.outputs}
    _require_choices(visit, texts, reasons)
    for output in answer.outputs:
        found = len(output.token_ids)
        most = visit.params.max_tokens or found
        if found > most or (output.finish_reason == "length" and not found):
            raise WrongAnswerError(f"{found} tokens, {output.finish_reason}; {most} were asked for")
        if (output.logprobs is None) != (visit.params.logprobs is None):
            raise WrongAnswerError(f"logprobs are {output.logprobs}")
        _require_logprobs(output.token_ids, output.logprobs)


def _require_logprobs(tokens: Sequence[int], logprobs: Sequence[dict[int, Any]] | None) -> None:
    """Raise WrongAnswerError unless each token is among its log-probabilities, if there are any."""
    if logprobs is None:
        return
    if len(logprobs) != len(tokens) or any(
        token not in entry for token, entry in zip(tokens, logprobs, strict=True)
    ):
        raise WrongAnswerError(f"{len(logprobs)} entries of logprobs for the tokens {tokens}")


def _num_tokens(output: RequestOutput) -> int:
    """Return the tokens of all answers."""
    return sum(len(each.token_ids) for each in output.outputs)


def without_truncation(params: SamplingParams) -> bool:
    """Return whether every token can be drawn, so that a score decides and no threshold.

    >>> without_truncation(SamplingParams(temperature=0)), without_truncation(
    ...     SamplingParams(top_k=5)
    ... )
    (True, False)
    """
    bare = replace(params, top_p=1.0, top_k=0, min_p=0.0)
    return params.is_greedy or params == bare
