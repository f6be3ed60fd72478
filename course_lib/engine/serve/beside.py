"""An engine served to this machine for as long as a block of code runs, from a thread beside it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from course_lib.engine.engine import LLM
from course_lib.engine.serve.server import Server, make_app

_PATIENCE = 30.0
"""Seconds until a server hears its clients, or has closed."""


@contextmanager
def served(llm: LLM, model_name: str = "course-tiny") -> Iterator[str]:
    """Serve an engine at a free port of this machine while the block runs; yield its address.

    However the block ends, by Ctrl-C too, the server is closed: answers under way are aborted, and
    nothing listens any more.

    Args:
        llm: The engine; nobody else may use it meanwhile.
        model_name: What clients call the model.

    Raises:
        RuntimeError: The server did not start.

    >>> import json, urllib.request
    >>> with served(LLM("course-tiny", num_blocks=20)) as address:
    ...     with urllib.request.urlopen(f"{address}/v1/models") as answer:
    ...         print(json.load(answer)["data"][0]["id"])
    course-tiny
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        is_ready = threading.Event()
        server = Server(make_app(llm, model_name), is_ready.set)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            if not is_ready.wait(_PATIENCE):
                raise RuntimeError("the server did not start; restart the kernel and try again")
            yield "http://{}:{}".format(*listener.getsockname())
        finally:
            server.should_exit = True
            thread.join(_PATIENCE)
