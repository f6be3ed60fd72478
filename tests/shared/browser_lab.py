"""JupyterLab as `course lab` starts it, driven in chromium as by a learner; for conftest files.

Screenshots of every step go to ``artifacts/browser/``. The pictures of the README are taken anew by
``README_PICTURES=1 pytest tests/browser``, which writes ``docs/images/``.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
import pytest

from autograder.paths import course_root
from autograder.terminal.machine import BROWSERS

PATIENCE = 300.0
"""Seconds to wait for a kernel, which may share its machine. A right answer comes far sooner."""

PATIENCE_WITH_THE_PAGE = 30.0
"""Seconds to wait for what needs no kernel."""

TOKEN = "a-token-for-the-test"
SCREENSHOTS = course_root() / "artifacts" / "browser"
PICTURES = course_root() / "docs" / "images"
LARGEST_PICTURE = 200_000
"""Bytes: a README with its pictures should be there at once."""

WANTS_PICTURES = os.environ.get("README_PICTURES") == "1"

FAINT_TEXTS = Path(__file__).with_name("faint_texts.js").read_text(encoding="utf-8")
LEAST_CONTRAST = 4.5
"""Of text with its ground: what WCAG 2 asks for at level AA."""

CROWDED_TEXTS = Path(__file__).with_name("crowded_texts.js").read_text(encoding="utf-8")
LEAST_TEXT = 11
"""Pixels on the screen."""

LAPTOP = {"width": 1280, "height": 800}
CHROMIUM_OPTIONS = (
    "--no-sandbox",  # CI runs as root, where chromium's own sandbox does not start
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def wait_until(happened: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Poll until something has happened, or fail and say what has not."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:g} s")
        time.sleep(0.1)


def has_run(prompt: str, before: str = "") -> bool:
    """Return whether a cell whose prompt was ``before`` has run: it carries a new number."""
    return prompt != before and any(character.isdigit() for character in prompt)


@dataclass(frozen=True)
class Server:
    """A running JupyterLab."""

    port: int
    workspace: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str) -> Any:
        headers = {"Authorization": f"token {TOKEN}"}
        request = urllib.request.Request(f"{self.url}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def answers(self) -> bool:
        try:
            self.ask("/api/status")
        except OSError:
            return False
        return True


class NotebookPage:
    """One notebook in a browser tab, and what a learner does with it."""

    def __init__(self, page: Any, server: Server, path: str) -> None:
        self.page = page
        self.errors: list[str] = []
        self._server = server
        self._path = path
        self._cells = nbformat.read(server.workspace / path, as_version=4).cells
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._note)

    def _note(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    @property
    def path_on_disk(self) -> Path:
        """Where the notebook is saved."""
        return self._server.workspace / self._path

    def wait_for_kernel(self) -> None:
        """Wait until the kernel listens. JupyterLab drops what it is told before that, silently."""

        def is_listening() -> bool:
            sessions = self._server.ask("/api/sessions")
            kernels = [each["kernel"] for each in sessions if each["path"] == self._path]
            return any(k["execution_state"] == "idle" and k["connections"] for k in kernels)

        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=1000 * PATIENCE)
        wait_until(is_listening, f"an idle kernel for {self._path}")
        # The server knows of the connection a moment before the page does.
        idle = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'
        self.page.wait_for_selector(idle, timeout=1000 * PATIENCE)

    def cell(self, source: str) -> Any:
        """Return the one code cell whose source contains this, scrolled into view."""
        found = [
            index
            for index, cell in enumerate(self._cells)
            if cell.cell_type == "code" and source in cell.source
        ]
        assert len(found) == 1, f"{len(found)} code cells of {self._path} contain {source!r}"
        cell = self.page.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{found[0]}"]')
        cell.scroll_into_view_if_needed()
        return cell

    def run(self, source: str) -> Any:
        """Run one cell, wait for the end, and return it."""
        cell = self.cell(source)
        before = self._prompt(cell)
        cell.locator(".jp-InputPrompt").click()
        self.page.keyboard.press("Control+Enter")
        wait_until(lambda: has_run(self._prompt(cell), before), f"the end of cell {source!r}")
        self.wait_for_kernel()
        return cell

    def run_all(self) -> None:
        """Run all cells from the menu and wait for the end."""
        self.choose("Run", "Run All Cells")
        wait_until(lambda: has_run(self._prompts()[0]), "the end of the first cell")
        wait_until(lambda: "[*]:" not in self._prompts(), "the end of the last cell")
        self.wait_for_kernel()

    def write(self, source: str, line: str) -> None:
        """Put a line at the end of a code cell, in place of one written there before."""
        editor = self.cell(source).locator(".cm-content")
        last = editor.locator(".cm-line").last
        is_ours = last.inner_text().strip() not in ("", "# YOUR CODE HERE")
        editor.click()
        self.page.keyboard.press("Control+End")
        if is_ours:
            self.page.keyboard.press("Home")
            self.page.keyboard.press("Shift+End")
        else:
            self.page.keyboard.press("Enter")
        self.page.keyboard.insert_text(line)
        wait_until(lambda: last.inner_text().strip() == line, f"{line!r} in cell {source!r}")

    def replace(self, source: str, text: str) -> None:
        """Write a text in place of all that a code cell holds."""
        editor = self.cell(source).locator(".cm-content")
        editor.click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(text)

    def save(self) -> None:
        """Save the notebook, and wait until the file is as new as this call."""
        path = self.path_on_disk
        before = path.stat().st_mtime_ns
        self.choose("File", "Save Notebook")

        def is_saved() -> bool:
            # Jupyter empties the file before it writes; what it writes ends with a line.
            return path.stat().st_mtime_ns > before and path.read_bytes().endswith(b"}\n")

        wait_until(is_saved, f"a saved {self._path}")

    def choose(self, menu: str, *entries: str) -> None:
        """Click through a menu."""
        self.page.locator(".lm-MenuBar-itemLabel", has_text=menu).first.click()
        for entry in entries:
            self.page.locator(".lm-Menu-itemLabel").get_by_text(entry, exact=True).click()

    def validate(self) -> str:
        """Press nbgrader's button and return the verdict in the dialog, which stays open."""
        self.page.get_by_role("button", name="Validate", exact=True).click()
        verdict = self.page.locator(".validation-success, .validation-failed, .validation-error")
        verdict.first.wait_for(timeout=1000 * PATIENCE)
        return str(verdict.first.inner_text())

    def close_dialog(self) -> None:
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        self.page.locator(".jp-Dialog").wait_for(state="detached")

    def screenshot(self, name: str, target: Any = None) -> None:
        """Take a picture of the window, or of one element, for ``artifacts/browser/``."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        (target or self.page).screenshot(path=SCREENSHOTS / f"{name}.png")

    def picture(self, name: str, target: Any) -> None:
        """Take a picture of an element for the README, where pictures are wanted."""
        if not WANTS_PICTURES:
            return
        PICTURES.mkdir(parents=True, exist_ok=True)
        path = PICTURES / f"{name}.png"
        target.screenshot(path=path)
        assert path.stat().st_size < LARGEST_PICTURE, f"{path} is too large for the README"

    def picture_of_window(self, name: str, cell: Any) -> None:
        """Take a picture of the window for the README: a cell at its bottom, no file browser."""
        if not WANTS_PICTURES:
            return
        self.page.set_viewport_size(LAPTOP | {"height": 900})
        self.page.keyboard.press("Control+B")
        cell.evaluate("(cell) => cell.scrollIntoView({ block: 'end' })")
        self.picture(name, self.page)
        self.page.keyboard.press("Control+B")
        self.page.set_viewport_size(LAPTOP)

    def faint_texts(self) -> list[str]:
        """Return the texts of our making that stand out too little from their ground."""
        return list(self.page.evaluate(FAINT_TEXTS, LEAST_CONTRAST))

    def _prompts(self) -> list[str]:
        found = self.page.locator(".jp-CodeCell .jp-InputPrompt").all_text_contents()
        return [str(text).strip() for text in found]

    def _prompt(self, cell: Any) -> str:
        return str(cell.locator(".jp-InputPrompt").text_content()).strip()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is on PATH; `apt-get install chromium`")
    return found


@contextmanager
def running_lab(
    folder: Path, lesson: str, variables: dict[str, str] | None = None
) -> Iterator[Server]:
    """Run JupyterLab as `course lab` starts it, on an empty workspace and a free port.

    Args:
        folder: Where the workspace, the settings and the log go.
        lesson: The lesson that opens.
        variables: Environment variables beside those of this process.
    """
    workspace = folder / "workspace"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {
        "COURSE_WORKSPACE": str(workspace),
        "JUPYTER_TOKEN": TOKEN,
        "IPYTHONDIR": str(folder / "ipython"),
    }
    command = [sys.executable, "-c", "from autograder.cli import main; main()", "lab", lesson]
    log = folder / "lab.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--no-browser"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | own | (variables or {}),
            cwd=folder,
        )
    running = Server(port, workspace)
    try:
        wait_until(
            lambda: running.answers() or process.poll() is not None, "an answer of JupyterLab"
        )
        assert process.poll() is None, f"`course lab` ended:\n{log.read_text()}"
        yield running
    finally:
        process.terminate()  # JupyterLab ends its kernels, then itself
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """A running chromium.

    One for each file of tests: as long as Playwright is there, its event loop runs in this thread,
    and nothing else can start one.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, server: Server, address: str, path: str) -> Iterator[NotebookPage]:
    """Open a notebook in a tab of its own; the browser must have nothing to complain of."""
    page = browser.new_page(viewport=LAPTOP)
    page.set_default_timeout(1000 * PATIENCE_WITH_THE_PAGE)
    notebook = NotebookPage(page, server, path)
    page.goto(f"{server.url}{address}?token={TOKEN}", timeout=1000 * PATIENCE)
    page.wait_for_url(f"**/tree/{quote(path)}*")
    notebook.wait_for_kernel()
    yield notebook
    page.close()
    assert notebook.errors == [], "the browser complains"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """When a test fails, take a picture of every page that is open."""
    report = yield
    browser = getattr(item, "funcargs", {}).get("browser")
    if report.failed and browser is not None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        pages = [page for context in browser.contexts for page in context.pages]
        for number, page in enumerate(pages, start=1):
            page.screenshot(path=SCREENSHOTS / f"failed-{item.name}-{report.when}-{number}.png")
    return report
