"""JupyterLab with a notebook, driven in a browser: what ``course bench figures`` measures in."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat

from autograder.errors import CourseError
from autograder.workspace.lab import HOST, LabServer

_PATIENCE = 30.0
_WINDOW = {"width": 1280, "height": 800}


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab.

    Attributes:
        browser: A chromium that Playwright drives.
        folder: Where its notebooks are.
        address: Where it listens.
        token: What it asks of whoever comes.
    """

    browser: Any
    folder: Path
    address: str
    token: str

    @contextmanager
    def opened(self, name: str, cells: Sequence[str]) -> Iterator[LabPage]:
        """Open a new notebook and wait until its kernel, a new one, is idle.

        Args:
            name: Name of the notebook, without its suffix; another one each time.
            cells: The code in its cells.

        Raises:
            CourseError: Its kernel does not answer.
        """
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(notebook, self.folder / f"{name}.ipynb")
        page = self.browser.new_page(viewport=_WINDOW)
        page.set_default_timeout(1000 * _PATIENCE)
        # A workspace of its own, so that nothing else opens.
        place = f"lab/workspaces/{name}/tree/{name}.ipynb"
        page.goto(f"{self.address}/{place}?token={self.token}")
        _wait(lambda: self._has_idle_kernel(f"{name}.ipynb"), "an idle kernel")
        page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()
        try:
            yield LabPage(page)
        finally:
            page.close()

    def asked(self, what: str) -> Any:
        """Return what the server says, or None while it does not answer."""
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(f"{self.address}/api/{what}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
                return json.load(answer)
        except OSError:
            return None

    def _has_idle_kernel(self, path: str) -> bool:
        kernels = [each["kernel"] for each in self.asked("sessions") or [] if each["path"] == path]
        return any(each["execution_state"] == "idle" and each["connections"] for each in kernels)


@dataclass(frozen=True)
class LabPage:
    """A notebook in the browser.

    Attributes:
        page: Playwright's page.
    """

    page: Any

    def run_cell(self, number: int) -> None:
        """Run a cell as a reader does; do not wait for it.

        Args:
            number: Which one, from 0.
        """
        self.page.locator(".jp-CodeCell .jp-InputPrompt").nth(number).click()
        self.page.keyboard.press("Control+Enter")


@contextmanager
def running_lab(browser: Any) -> Iterator[Lab]:
    """Run JupyterLab on an empty folder.

    Args:
        browser: A chromium that Playwright drives.

    Raises:
        CourseError: It does not answer.
    """
    with TemporaryDirectory() as name:
        yield from _running_in(Path(name), browser)


def _running_in(folder: Path, browser: Any) -> Iterator[Lab]:
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
    lab = Lab(browser, folder, f"http://{HOST}:{port}", token)
    try:
        _wait(lambda: lab.asked("status") is not None, "JupyterLab")
        yield lab
    finally:
        process.terminate()  # it ends its kernels, then itself
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(happened: Callable[[], object], what: str) -> None:
    """Poll until something has happened.

    Raises:
        CourseError: It has not within the patience.
    """
    deadline = time.monotonic() + _PATIENCE
    while not happened():
        if time.monotonic() > deadline:
            raise CourseError(f"{what} did not answer within {_PATIENCE:.0f} s; try once more")
        time.sleep(0.1)
