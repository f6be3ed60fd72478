"""How soon a figure follows its controls, in a real JupyterLab with a kernel.

Every move of a control goes to Python, which builds the picture anew, and back. Lesson 1's figure
of a GPU's memory is moved step by step by the keyboard, and dragged with the mouse. ``course bench
figures`` measures it.
"""

from __future__ import annotations

import json
import math
import secrets
import socket
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat

from autograder.errors import CourseError
from autograder.workspace.lab import HOST, LabServer

STEPS = 40
ROUNDS = 3
"""How often everything is moved; the best round counts, since others use the machine as well."""

_PATIENCE = 30.0
_NOTEBOOK = "figure.ipynb"
_CELL = "from course_lib import viz\nviz.gpu_memory()"
_PROBE = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
_SECONDS_PER_MOVE = 1 / 60
"""A mouse reports about as often as the screen is drawn."""


@dataclass(frozen=True)
class ControlReport:
    """How long the answers took in the best round: milliseconds from the event to the picture.

    Attributes:
        step_ms: One value at a time, each after the answer to the one before.
        drag_ms: Every value of a drag; those that were passed over end with the next answer.
    """

    step_ms: tuple[float, ...]
    drag_ms: tuple[float, ...]

    def __str__(self) -> str:
        return "; ".join(
            f"{name}: median {statistics.median(times):.0f} ms, 95th percentile "
            f"{percentile(times, 95):.0f} ms of {len(times)} values"
            for name, times in (("steps", self.step_ms), ("dragged", self.drag_ms))
        )


def percentile(times: tuple[float, ...], percent: float) -> float:
    """Return the smallest of the times that so many per cent of all do not exceed.

    >>> percentile((30.0, 10.0, 20.0, 40.0), 75)
    30.0
    """
    ordered = sorted(times)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def measure_controls(browser: Any) -> ControlReport:
    """Move a control of a figure in JupyterLab.

    Args:
        browser: A chromium that Playwright drives.

    Raises:
        CourseError: JupyterLab or its kernel does not answer.
    """
    with TemporaryDirectory() as folder, _running_lab(Path(folder)) as (address, token):
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(1000 * _PATIENCE)
        page.goto(f"{address}/lab/tree/{_NOTEBOOK}?token={token}")
        _wait(lambda: _has_idle_kernel(address, token), "an idle kernel")
        page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()
        page.locator(".jp-CodeCell .jp-InputPrompt").first.click()
        page.keyboard.press("Control+Enter")
        slider = page.get_by_role("slider", name="Sequences")
        slider.wait_for()
        step_ms = _best([_steps(page, slider) for _ in range(ROUNDS)])
        drag_ms = _best([_drag(page, slider) for _ in range(ROUNDS)])
        page.close()
    return ControlReport(step_ms, drag_ms)


def _best(rounds: list[tuple[float, ...]]) -> tuple[float, ...]:
    """Return the round in which others used the machine least."""
    return min(rounds, key=lambda times: percentile(times, 95))


def _steps(page: Any, slider: Any) -> tuple[float, ...]:
    """Move the slider value by value, by the keyboard."""
    slider.press("Home")
    page.get_by_text("All 1 sequences").first.wait_for()
    page.evaluate(_PROBE, True)
    for _ in range(STEPS):
        slider.press("ArrowRight")
        page.wait_for_function("() => controlProbe.answers()")
    return _answers(page)


def _drag(page: Any, slider: Any) -> tuple[float, ...]:
    """Drag the slider from its left to its right end with the mouse."""
    slider.press("Home")
    page.get_by_text("All 1 sequences").first.wait_for()
    page.evaluate(_PROBE, True)
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 8, middle)
    page.mouse.down()
    for x in range(8, int(box["width"]) - 8, 2):
        start = time.perf_counter()
        page.mouse.move(box["x"] + x, middle)
        time.sleep(max(0.0, _SECONDS_PER_MOVE - (time.perf_counter() - start)))
    page.mouse.up()
    return _answers(page)


def _answers(page: Any) -> tuple[float, ...]:
    """Return the milliseconds of all answers, when the last one is there."""
    page.wait_for_function("() => controlProbe.answers()")
    times: list[float] = page.evaluate(
        "() => new Promise((tell) => setTimeout(() => tell(controlProbe.answers()), 200))"
    )
    page.evaluate("() => controlProbe.stop()")
    return tuple(times)


@contextmanager
def _running_lab(folder: Path) -> Iterator[tuple[str, str]]:
    """Run JupyterLab on a notebook with the figure; yield its address and its token."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(_CELL)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(notebook, folder / _NOTEBOOK)
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex()
    settings = {
        "JUPYTER_TOKEN": token,
        "JUPYTER_CONFIG_DIR": str(folder / "settings"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    server = LabServer(folder, "/lab", settings, port, browser=False)
    process = subprocess.Popen(
        server.command,
        env=server.environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://{HOST}:{port}"
    try:
        _wait(lambda: _asked(address, token, "status") is not None, "JupyterLab")
        yield address, token
    finally:
        process.terminate()  # it ends its kernels, then itself
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _asked(address: str, token: str, what: str) -> Any:
    """Return what the server says, or None while it does not answer."""
    headers = {"Authorization": f"token {token}"}
    request = urllib.request.Request(f"{address}/api/{what}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
            return json.load(answer)
    except OSError:
        return None


def _has_idle_kernel(address: str, token: str) -> bool:
    kernels = _asked(address, token, "kernels") or []
    return any(each["execution_state"] == "idle" and each["connections"] for each in kernels)


def _wait(happened: Any, what: str) -> None:
    """Poll until something has happened.

    Raises:
        CourseError: It has not within the patience.
    """
    deadline = time.monotonic() + _PATIENCE
    while not happened():
        if time.monotonic() > deadline:
            raise CourseError(f"{what} did not answer within {_PATIENCE:.0f} s; try once more")
        time.sleep(0.1)
