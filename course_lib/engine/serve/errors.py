"""Every error of the server in OpenAI's format, with what to do about it."""

from __future__ import annotations

import json

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from course_lib.engine.core import EngineDeadError
from course_lib.engine.serve.protocol import ApiError, validation_error

MAX_BODY_BYTES = 4 * 2**20
"""Largest request body: about a million tokens of text."""


def engine_dead(error: EngineDeadError) -> ApiError:
    """Return the answer when nothing is served any more."""
    return ApiError(500, str(error), code="engine_dead")


def error_response(error: ApiError) -> Response:
    """Return an error as HTTP has it. In ASCII, because a message may quote what is not Unicode."""
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
    return Response(json.dumps(error.body), error.status, headers, media_type="application/json")


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error in OpenAI's format."""

    @app.exception_handler(ApiError)
    async def on_api_error(request: Request, error: ApiError) -> Response:
        """What an endpoint refuses."""
        return error_response(error)

    @app.exception_handler(EngineDeadError)
    async def on_dead_engine(request: Request, error: EngineDeadError) -> Response:
        """What nobody can serve any more."""
        return error_response(engine_dead(error))

    @app.exception_handler(RequestValidationError)
    async def on_invalid_body(request: Request, error: RequestValidationError) -> Response:
        """What does not have the form of a request."""
        return error_response(validation_error(list(error.errors())))

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        """What the framework refuses, with a remedy where there is one."""
        return error_response(
            ApiError(error.status_code, MESSAGES.get(error.status_code, error.detail))
        )

    @app.exception_handler(ClientDisconnect)
    async def on_disconnect(request: Request, error: ClientDisconnect) -> Response:
        """Nobody reads this answer."""
        return Response(status_code=499)

    @app.exception_handler(Exception)
    async def on_defect(request: Request, error: Exception) -> Response:
        """What nobody thought of; the log has the traceback."""
        message = f"a defect of the server: {type(error).__name__}; its log says more"
        return error_response(ApiError(500, message))


MESSAGES = {
    400: "the body cannot be read; send one JSON object in UTF-8, not compressed, with numbers of "
    "at most 4300 digits and no deep nesting",
    404: "there is nothing at this address; try /v1/models, /v1/completions, /v1/chat/completions, "
    "/health or /metrics",
    405: "this address takes another method: POST for completions, GET for the rest",
    413: f"the body has more than {MAX_BODY_BYTES} bytes; send a shorter prompt",
}
"""What is said where the framework's own message has no remedy."""
