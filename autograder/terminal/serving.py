"""What ``course serve`` does: check the address, load the model, serve it until Ctrl-C."""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from autograder.errors import CourseError
from autograder.terminal.answers import load_llm


@dataclass(frozen=True)
class Address:
    """Where a server listens, and who may ask.

    Attributes:
        host: A name or an address of this machine.
        port: The port; 0 for any that is free.
        api_key: What clients have to send; None if anyone may ask.
        allow_anyone: Whether other machines may ask without a key.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    allow_anyone: bool = False

    def bind(self) -> socket.socket:
        """Return a socket that is bound to the address.

        Raises:
            CourseError: There is no such address here, the port is taken, or other machines could
                ask, no key protects the server, and nobody said that this is meant.
        """
        family, address = self._resolve()
        is_loopback = ipaddress.ip_address(address[0]).is_loopback
        if not (is_loopback or self.api_key or self.allow_anyone):
            raise CourseError(
                f"other machines can reach {self.host}, and anyone there could use your engine; "
                "protect it with --api-key, or say --allow-anyone if that is meant"
            )
        listener = socket.socket(family, socket.SOCK_STREAM)
        # As servers do: a port whose last connections are still closing is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            listener.close()
            raise self._refusal(error) from error
        return listener

    def _resolve(self) -> tuple[int, Any]:
        """Return the address family and the numeric address of the host."""
        try:
            found = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except (OSError, UnicodeError) as error:
            raise CourseError(
                f"there is no host {self.host!r}; leave --host out to serve this machine only"
            ) from error
        # A name such as localhost may stand for an address of each family; clients try both.
        found.sort(key=lambda entry: entry[0] is not socket.AF_INET)
        return found[0][0], found[0][4]

    def _refusal(self, error: OSError) -> CourseError:
        """Say why the address cannot be had."""
        if error.errno == errno.EADDRNOTAVAIL:
            return CourseError(
                f"{self.host} is no address of this machine; leave --host out to serve this "
                "machine only"
            )
        in_use = error.errno == errno.EADDRINUSE
        problem = "in use" if in_use else f"not to be had ({error.strerror})"
        return CourseError(
            f"port {self.port} is {problem}; choose another: `course serve --port {self.port + 1}`,"
            " or --port 0 for any that is free"
        )


OWN, REFERENCE = "own", "reference"
"""Whose parts an engine is to run on."""


def serve(
    model: str, address: Address, options: dict[str, Any], console: Console, parts: str = OWN
) -> None:
    """Serve a model until Ctrl-C.

    Args:
        model: ``course-tiny``, or a folder with a Hugging Face checkpoint.
        address: Where to listen.
        options: Keyword arguments of ``LLM``. Those that are None are left to it.
        console: Where it says that it is ready.
        parts: ``own`` for the learner's own parts where there are any, or ``reference``.

    Raises:
        CourseError: The address or the model cannot be had, or an option is out of range.
    """
    if parts not in (OWN, REFERENCE):
        raise CourseError(
            f"--parts is {parts!r}; say own for your parts where you have some, or reference"
        )
    with address.bind() as listener:
        from course_lib.engine.engine_parts import EngineParts

        chosen = EngineParts.reference() if parts == REFERENCE else EngineParts.load()
        llm = load_llm(model, parts=chosen, **options)
        # FastAPI takes a while to load.
        from course_lib.engine.serve.server import LOOPBACK_NAMES, Server, make_app

        host, port = listener.getsockname()[:2]
        is_loopback = ipaddress.ip_address(host).is_loopback
        name = Path(model).resolve().name
        app = make_app(
            llm,
            name,
            api_key=address.api_key,
            allowed_hosts=(*LOOPBACK_NAMES, host) if is_loopback else ("*",),
        )

        def say_ready() -> None:
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
            console.print(f"{name} is served at {url}; Ctrl-C stops it.", soft_wrap=True)
            if chosen.own_names:
                console.print(f"Parts of your own: {', '.join(chosen.own_names)}.", soft_wrap=True)
            if not is_loopback:
                console.print(_warning(address), style="yellow", soft_wrap=True)

        try:
            Server(app, say_ready).run([listener])
        except KeyboardInterrupt:
            console.print("Stopped.")


def _warning(address: Address) -> str:
    """Say who can use a server that other machines can reach."""
    who = "Whoever has the API key" if address.api_key else "Anyone"
    return (
        f"{who} on a machine that reaches this one can use it, and see what is sent: "
        "the traffic is not encrypted."
    )
