"""The kernel's socket: no small message waits for the browser to acknowledge the one before."""

from __future__ import annotations

from typing import Any

import pytest
from jupyter_server.serverapp import ServerApp
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from traitlets.config import Config

from autograder.workspace.lab import LabServer
from autograder.workspace.prompt_connection import PromptConnection


class Handler:
    """Stands for the web socket: takes note of what is asked of it."""

    def __init__(self, calls: list[Any]) -> None:
        self._calls = calls

    def set_nodelay(self, value: bool) -> None:
        self._calls.append(("nodelay", value))


def test_the_socket_is_told_not_to_wait_before_the_first_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(
        ZMQChannelsWebsocketConnection, "connect", lambda _self: calls.append("connect")
    )
    connection = PromptConnection.__new__(PromptConnection)
    monkeypatch.setattr(PromptConnection, "websocket_handler", Handler(calls))
    connection.connect()
    assert calls == [("nodelay", True), "connect"]


def test_jupyter_server_takes_it_from_the_command_line_of_the_lab(tmp_path: Any) -> None:
    command = LabServer(tmp_path, "/lab", {}, port=9000, browser=False).command
    name = "ServerApp.kernel_websocket_connection_class"
    [option] = [each for each in command if each.startswith(f"--{name}=")]
    config = Config({"ServerApp": {name.partition(".")[2]: option.partition("=")[2]}})
    assert ServerApp(config=config).kernel_websocket_connection_class is PromptConnection
