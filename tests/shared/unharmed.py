"""What no submission can do: write outside of its box, leave a process, change the course."""

from __future__ import annotations

import contextlib
import hashlib
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

EVERYWHERE = ("/", "/tmp", "/dev/shm", "/var/tmp")


def lines_that_write(name: str, places: Sequence[str]) -> str:
    """Return lines that write a file of this name wherever they can."""
    return textwrap.dedent(
        f"""\
        for place in {[*places, "/proc/1/cwd", "/proc/1/root"]!r}:
            try:
                open(place + "/{name}", "w").write("x")
            except OSError:
                pass
        """
    )


def digest(tree: Path) -> str:
    """Return the hash of all that boxes have of the course."""
    parts = [
        f"{path.relative_to(tree)} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in sorted(tree.rglob("*"))
        if path.is_file()
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def survivors() -> list[str]:
    """Return what runs below this process beside warm processes, after it had time to end."""
    deadline = time.monotonic() + 60
    while True:
        # Who ends while it is looked at is nobody who is left, but others may be: look again.
        with contextlib.suppress(psutil.NoSuchProcess):
            left = running_below()
            if not left or time.monotonic() > deadline:
                return left
        time.sleep(0.05)


def running_below() -> list[str]:
    """Return what runs below this process just now, beside warm processes."""
    warm = psutil.Process().children()
    below = [each for process in warm for each in process.children()]
    boxes = [each for each in warm if each.name() == "bwrap"]
    return [str(each) for each in (*boxes, *below) if each.status() != psutil.STATUS_ZOMBIE]
