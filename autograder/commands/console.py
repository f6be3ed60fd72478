"""Where the commands print."""

from rich.console import Console

console = Console()
"""One console for all commands, so that a progress bar and a table do not disturb each other."""
