"""An HTTP server in the OpenAI protocol, so that an ordinary client can talk to the engine.

``make_app`` makes the application, ``Server`` runs it on a socket. What happens to a request on the
way: ``guards`` says who may ask, ``protocol`` what, ``async_engine`` serves it among others,
``reply`` words what comes out, ``errors`` what goes wrong, ``prometheus`` counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import uvicorn
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from course_lib.engine.core import EngineDeadError
from course_lib.engine.engine import LLM
from course_lib.engine.prompts import PromptError
from course_lib.engine.serve.async_engine import AsyncEngine, OutputStream
from course_lib.engine.serve.errors import add_error_handlers, engine_dead
from course_lib.engine.serve.guards import BodyLimit, KeyGuard
from course_lib.engine.serve.prometheus import engine_registry
from course_lib.engine.serve.protocol import (
    CONTEXT_LENGTH_EXCEEDED,
    ApiError,
    ChatCompletionRequest,
    CompletionRequest,
)
from course_lib.engine.serve.reply import ChatReply, CompletionReply, Piece, Reply

if TYPE_CHECKING:
    from course_lib.engine.sampling_params import SamplingParams
    from course_lib.engine.tokenizer import Tokenizer

SHUTDOWN_SECONDS = 5
"""How long clients have to take their last bytes when the server is stopped."""

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
"""What this machine calls itself in a Host header."""

_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
"""What JSON leaves as it is and the protocol takes for text, but many a client for a new line."""

_Result = TypeVar("_Result")


def make_app(
    llm: LLM,
    model_name: str,
    *,
    api_key: str | None = None,
    allowed_hosts: Sequence[str] = LOOPBACK_NAMES,
) -> FastAPI:
    """Return an application that serves an LLM.

    Args:
        llm: The engine; nobody else may use it while the application runs.
        model_name: What clients call the model.
        api_key: What clients have to send as a bearer token; None if anyone may ask.
        allowed_hosts: Names that the server may be addressed by; ``["*"]`` for any. A web page
            elsewhere that has its own name lead to this machine is refused by them, and with it
            whoever sent it (DNS rebinding).
    """
    engine = AsyncEngine(llm)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        """Run the engine for as long as the application runs."""
        async with engine:
            yield

    # No pages of documentation: they would load scripts from elsewhere.
    app = FastAPI(title="Serving from Scratch", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.engine = engine
    app.add_middleware(BodyLimit)
    if api_key is not None:
        app.add_middleware(KeyGuard, api_key=api_key)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(allowed_hosts), www_redirect=False)
    add_error_handlers(app)
    app.state.api = Api(engine, model_name)
    for address, endpoint in _GET.items():
        app.get(address, response_model=None)(endpoint)
    for address, endpoint in _POST.items():
        app.post(address, response_model=None)(endpoint)
    return app


class Api:
    """What the endpoints do.

    Args:
        engine: Serves the requests.
        model_name: What clients call the model.
    """

    def __init__(self, engine: AsyncEngine, model_name: str) -> None:
        self._engine = engine
        self._model_name = model_name
        self._created = int(time.time())
        self._registry = engine_registry(engine.llm, model_name)

    async def list_models(self) -> Response:
        """List the one model that is served."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def get_model(self, model: str) -> Response:
        """Describe a model."""
        self._require_model(model)
        return JSONResponse(self._model())

    async def create_completion(self, body: CompletionRequest, request: Request) -> Response:
        """Continue one or several prompts."""
        self._require_model(body.model)
        if not body.prompts or "" in body.prompts:
            raise ApiError(400, "the prompt is empty; give at least one token", "prompt")
        prompts = await asyncio.to_thread(self._tokenize, body.prompts)
        sampling_params = self._sampling_params(body, prompts)
        reply = CompletionReply(
            id=f"cmpl-{uuid.uuid4().hex}",
            model=self._model_name,
            num_prompt_tokens=[len(prompt) for prompt in prompts],
            num_choices=body.num_choices,
            echoes=self._texts(body.prompts) if body.echo else (),
        )
        return await self._respond(body, request, prompts, sampling_params, reply)

    async def create_chat_completion(
        self, body: ChatCompletionRequest, request: Request
    ) -> Response:
        """Continue a conversation."""
        self._require_model(body.model)
        if not body.messages:
            raise ApiError(400, "there are no messages; send at least one", "messages")
        prompt = await asyncio.to_thread(self._apply_chat_template, body)
        sampling_params = self._sampling_params(body, [prompt])
        reply = ChatReply(
            id=f"chatcmpl-{uuid.uuid4().hex}",
            model=self._model_name,
            num_prompt_tokens=[len(prompt)],
            num_choices=body.num_choices,
            num_top_logprobs=body.top_logprobs or 0,
        )
        return await self._respond(body, request, [prompt], sampling_params, reply)

    async def health(self) -> Response:
        """Say whether requests are served."""
        failure = self._engine.failure
        if failure is None:
            return Response()
        return JSONResponse(ApiError(503, failure, code="engine_dead").body, 503)

    async def metrics(self) -> Response:
        """Give the figures in Prometheus' format."""
        text = await self._engine.inspect(lambda llm: generate_latest(self._registry))
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    async def _respond(
        self,
        body: CompletionRequest | ChatCompletionRequest,
        request: Request,
        prompts: list[list[int]],
        sampling_params: SamplingParams,
        reply: Reply,
    ) -> Response:
        """Have the prompts served, and answer as a whole or as a stream.

        Either way the requests are aborted when the client goes away.
        """
        self._require_priority_policy(body)
        try:
            stream = await self._engine.submit(
                dict(zip(reply.request_ids, prompts, strict=True)),
                sampling_params,
                priority=body.priority or 0,
                cache_salt=body.cache_salt,
                client_id=body.user or "",
            )
        except PromptError as error:
            raise self._prompt_error(error, prompts, body) from error
        if body.stream:
            return _EventStream(stream, _events(stream, reply, body.includes_usage))
        with contextlib.closing(stream):
            return JSONResponse(await _unless_gone(request, _whole(stream, reply)))

    @property
    def _tokenizer(self) -> Tokenizer:
        """The tokenizer. It may be used in any thread."""
        try:
            return self._engine.llm.tokenizer
        except PromptError as error:
            raise ApiError(
                400, "this model has no tokenizer; send token ids to /v1/completions", "prompt"
            ) from error

    def _sampling_params(
        self, body: CompletionRequest | ChatCompletionRequest, prompts: list[list[int]]
    ) -> SamplingParams:
        """Return what is asked of the sampler; the model's defaults where nothing is said."""
        return body.sampling_params(
            self._num_tokens_left(prompts), self._engine.llm.sampling_defaults
        )

    def _num_tokens_left(self, prompts: list[list[int]]) -> int:
        """Return what the context leaves for an answer to the longest prompt."""
        return self._engine.llm.scheduler.max_model_len - max(map(len, prompts))

    def _model(self) -> dict[str, Any]:
        """Describe the model that is served."""
        return {
            "id": self._model_name,
            "object": "model",
            "created": self._created,
            "owned_by": "serving-from-scratch",
            "max_model_len": self._engine.llm.scheduler.max_model_len,
        }

    def _require_model(self, name: str | None) -> None:
        """Refuse another model than the one that is served. None means whichever is served."""
        if name not in (None, self._model_name):
            raise ApiError(
                404,
                f"there is no model {name!r} here; this server has {self._model_name!r}",
                "model",
                "model_not_found",
            )

    def _require_priority_policy(self, body: CompletionRequest | ChatCompletionRequest) -> None:
        """Refuse a priority that nobody heeds."""
        policy = self._engine.llm.scheduler.config.policy
        # A queue of the learner's own is no name; whether it heeds priorities is its own affair.
        if body.priority and isinstance(policy, str) and policy not in ("priority", "ageing"):
            raise ApiError(
                400,
                f"the policy of this server is {policy!r} and heeds no priority; start it with "
                "`course serve --policy priority`",
                "priority",
            )

    def _prompt_error(
        self,
        error: PromptError,
        prompts: list[list[int]],
        body: CompletionRequest | ChatCompletionRequest,
    ) -> ApiError:
        """Return the answer to a prompt that cannot be served."""
        is_too_long = self._num_tokens_left(prompts) <= 0
        param = "prompt" if isinstance(body, CompletionRequest) else "messages"
        code = CONTEXT_LENGTH_EXCEEDED if is_too_long else "invalid_prompt"
        return ApiError(400, str(error), param, code)

    def _tokenize(self, prompts: list[str] | list[list[int]]) -> list[list[int]]:
        """Return the prompts as token ids."""
        return [self._tokenizer.encode(p) if isinstance(p, str) else p for p in prompts]

    def _texts(self, prompts: list[str] | list[list[int]]) -> list[str]:
        """Return the prompts as text."""
        return [p if isinstance(p, str) else self._tokenizer.decode(p) for p in prompts]

    def _apply_chat_template(self, body: ChatCompletionRequest) -> list[int]:
        """Return the conversation as token ids."""
        messages = [message.as_template_input() for message in body.messages]
        try:
            return self._tokenizer.apply_chat_template(messages)
        except ValueError as error:
            raise ApiError(400, str(error), "messages") from error


# The endpoints are functions, and not methods of an Api: FastAPI keeps what it has once looked at
# for the life of the process, and with a method its engine, weights and cache included.


def _api(request: Request) -> Api:
    """Return what serves the application that got a request."""
    api: Api = request.app.state.api
    return api


async def list_models(request: Request) -> Response:
    """List the one model that is served."""
    return await _api(request).list_models()


async def get_model(model: str, request: Request) -> Response:
    """Describe a model."""
    return await _api(request).get_model(model)


async def create_completion(body: CompletionRequest, request: Request) -> Response:
    """Continue one or several prompts."""
    return await _api(request).create_completion(body, request)


async def create_chat_completion(body: ChatCompletionRequest, request: Request) -> Response:
    """Continue a conversation."""
    return await _api(request).create_chat_completion(body, request)


async def health(request: Request) -> Response:
    """Say whether requests are served."""
    return await _api(request).health()


async def metrics(request: Request) -> Response:
    """Give the figures in Prometheus' format."""
    return await _api(request).metrics()


# Each makes its response itself: FastAPI need not look at what comes back.
_GET: dict[str, Callable[..., Coroutine[Any, Any, Response]]] = {
    "/v1/models": list_models,
    "/v1/models/{model:path}": get_model,
    "/health": health,
    "/metrics": metrics,
}
_POST: dict[str, Callable[..., Coroutine[Any, Any, Response]]] = {
    "/v1/completions": create_completion,
    "/v1/chat/completions": create_chat_completion,
}


class _EventStream(StreamingResponse):
    """A response of server-sent events. It closes its stream, however it ends.

    Starlette cancels it when the client goes away, also while it waits for the next output.
    """

    media_type = "text/event-stream"

    def __init__(self, stream: OutputStream, events: AsyncIterator[str]) -> None:
        super().__init__(events, headers={"Cache-Control": "no-cache"})
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not in the iterator: one that was never begun would not clean up.
        with contextlib.closing(self._stream):
            await super().__call__(scope, receive, send)


async def _events(stream: OutputStream, reply: Reply, includes_usage: bool) -> AsyncIterator[str]:
    """Yield an answer piece by piece, as server-sent events."""
    try:
        # As OpenAI's: who asked for the usage finds it in every chunk, as null in all but the last.
        usage = {"usage": None} if includes_usage else {}
        for chunk in reply.opening():
            yield _event(chunk | usage)
        async for output in stream:
            for piece in reply.take(output):
                yield _event(reply.chunk(piece) | usage)
        if includes_usage:
            yield _event(reply.usage_chunk())
    except EngineDeadError as error:
        # The status code has been sent long ago; clients look for errors among the events too.
        yield _event(engine_dead(error).body)
    yield "data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> str:
    """Return one server-sent event, on one line for whoever splits a text into lines."""
    return f"data: {json.dumps(content, ensure_ascii=False).translate(_LINE_ENDS)}\n\n"


async def _whole(stream: OutputStream, reply: Reply) -> dict[str, Any]:
    """Read a stream to its end, and return the answer as a whole."""
    last = {output.request_id: output async for output in stream}
    pieces: list[Piece] = []
    for request_id in reply.request_ids:
        pieces += reply.take(last[request_id])
    return reply.whole(pieces)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    """Return what comes of the work; give it up if the client goes away first.

    Raises:
        ClientDisconnect: It has gone.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnection(request))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        watching.cancel()


async def _disconnection(request: Request) -> None:
    """Return when the client goes away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Server(uvicorn.Server):
    """Serves an application: ``run([listener])`` returns when it is stopped.

    Ctrl-C, SIGTERM or ``should_exit = True`` stop it. Answers under way are aborted then, and their
    clients told so. After Ctrl-C, ``run`` raises KeyboardInterrupt when all is closed.

    Args:
        app: What ``make_app`` has made.
        on_ready: Called as soon as clients are heard.
    """

    def __init__(self, app: FastAPI, on_ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        super().__init__(config)
        self._engine: AsyncEngine = app.state.engine
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close. First the engine: uvicorn waits for the streams, and they end with it."""
        await self._engine.shutdown()
        await super().shutdown(sockets)
