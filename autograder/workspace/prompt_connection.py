"""Kernel messages reach the browser at once: figures follow a slider while it is dragged.

TCP holds a small packet back until the one before is acknowledged, which the browser's side delays
by 40 ms. A kernel answers a figure with three small messages (busy, the picture, idle), so every
answer would wait that long.
"""

from __future__ import annotations

from typing import Any

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection


class PromptConnection(ZMQChannelsWebsocketConnection):
    """Jupyter Server's own connection of a browser to a kernel, on a socket without that delay."""

    def connect(self) -> Any:
        """Connect the browser to the kernel."""
        self.websocket_handler.set_nodelay(True)
        return super().connect()
