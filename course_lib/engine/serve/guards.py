"""What a request has to pass before anything of it is read: the API key, and a size limit."""

from __future__ import annotations

import secrets

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from course_lib.engine.serve.errors import MAX_BODY_BYTES, MESSAGES, error_response
from course_lib.engine.serve.protocol import ApiError

OPEN_PATHS = ("/health", "/metrics")
"""What may be asked without an API key, as in vLLM: probes and Prometheus have none."""


class KeyGuard:
    """Lets requests pass that carry the API key; before anything of their body is read."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self._app = app
        self._expected = f"Bearer {api_key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        app = self._app
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            sent = dict(scope["headers"]).get(b"authorization", b"")
            # In constant time: how long a comparison takes must not tell how much was right.
            if not secrets.compare_digest(sent, self._expected):
                message = "the API key is missing or wrong; send Authorization: Bearer KEY"
                app = error_response(ApiError(401, message, code="invalid_api_key"))
        await app(scope, receive, send)


class BodyLimit:
    """Refuses a body that says it is too long, and one that turns out to be while it is read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; reading its body ends where it becomes too long."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        num_left = MAX_BODY_BYTES

        async def limited_receive() -> Message:
            nonlocal num_left
            message = await receive()
            num_left -= len(message.get("body", b""))
            if num_left < 0:
                raise HTTPException(413)
            return message

        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > MAX_BODY_BYTES:
            response = error_response(ApiError(413, MESSAGES[413]))
            await response(scope, receive, send)
        else:
            await self._app(scope, limited_receive, send)
