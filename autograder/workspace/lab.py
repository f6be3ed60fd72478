"""JupyterLab for the course: on the learner's workspace, or on the checkout for an instructor."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from autograder.errors import CourseError
from autograder.files import write_atomically
from autograder.paths import course_root, require_this_checkout
from autograder.workspace.copies import Workspace, find_lesson

_CONNECTION = "autograder.workspace.prompt_connection.PromptConnection"

HOST = "127.0.0.1"
"""The server listens on this machine only. It runs whatever it is sent."""

_WITHOUT_NEWS = b"""{
  "disabledExtensions": {
    "@jupyterlab/apputils-extension:announcements": true
  }
}
"""
"""Settings of the page in which JupyterLab does not ask whether to fetch news."""

_FOR_INSTRUCTORS = ("create-assignment", "formgrader", "course-list")
"""The parts of nbgrader's JupyterLab extension that a learner has no use for."""

_OF_OTHER_JUPYTERS = frozenset(
    (
        "JUPYTER_PATH",
        "JUPYTER_CONFIG_PATH",
        "JUPYTERLAB_DIR",
        "JUPYTERLAB_SETTINGS_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
    )
)
"""Variables by which a user's own Jupyter would bring its kernels, settings and pages along."""

_OWN_KERNEL = b'{"KernelSpecManager": {"kernel_dirs": []}}\n'

_VALIDATION = b"""# Written by `course lab`.
from autograder.grading import validation

validation.configure(get_config())
"""


@dataclass(frozen=True)
class LabServer:
    """One JupyterLab to be started.

    Attributes:
        root_dir: The folder whose files it shows; also its working directory.
        landing_page: The path that its address leads to.
        variables: Environment variables on top of those of this process.
        port: The port that it listens on; it takes no other one instead.
        browser: Whether it opens a browser.
        without: Environment variables of this process that it does not get.
    """

    root_dir: Path
    landing_page: str
    variables: Mapping[str, str]
    port: int
    browser: bool
    without: frozenset[str] = frozenset()

    @property
    def command(self) -> list[str]:
        """The command line. The token stays on: other users of the machine can reach the port."""
        options = [
            f"--ServerApp.ip={HOST}",
            f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0",
            f"--ServerApp.root_dir={self.root_dir}",
            "--Application.log_level=ERROR",  # the address is printed all the same
            f"--LabApp.default_url={self.landing_page}",
            # No request to a server elsewhere.
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            f"--ServerApp.kernel_websocket_connection_class={_CONNECTION}",
        ]
        if not self.browser:
            options.append("--no-browser")
        if _is_root():
            options.append("--allow-root")  # the usual user in a container
        return [sys.executable, "-m", "jupyterlab", *options]

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables. nbgrader calls programs beside this Python by their names."""
        scripts = str(Path(sys.executable).parent)
        path = os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)])
        kept = {name: value for name, value in os.environ.items() if name not in self.without}
        return {**kept, "PATH": path, **self.variables}

    def run(self) -> NoReturn:
        """Become JupyterLab: Ctrl-C and the exit code are its own from here on."""
        os.chdir(self.root_dir)
        sys.stdout.flush()
        os.execve(sys.executable, self.command, self.environment)


def learner_server(lesson: str | None, port: int, browser: bool) -> LabServer:
    """Return the server that opens a lesson in the learner's workspace.

    Who names no lesson gets the first one; but a newcomer, who has none yet, sees the guide to the
    course, from which a link leads there.

    Its settings live in the workspace, so that the learner's own Jupyter is neither read nor
    changed.

    Raises:
        CourseError: There is no such lesson, or the workspace cannot hold it, or it is that of
            another checkout.
    """
    require_this_checkout()
    workspace = Workspace.current()
    found = find_lesson(lesson or "1")
    is_newcomer = lesson is None and not workspace.opened_lessons()
    workspace.open(found)
    page = f"/lab/tree/{quote(found.relative_path.as_posix())}"
    guide = workspace.open_guide()
    if is_newcomer and guide is not None:
        page = f"/lab/tree/{quote(guide.name)}"
    settings = workspace.root / ".course" / "jupyter"
    _set_at_first(settings, "apputils-extension/notification", {"fetchNews": "false"})
    # The guide is to be read, not edited.
    viewers = {"defaultViewers": {"markdown": "Markdown Preview"}}
    _set_at_first(settings, "docmanager-extension/plugin", viewers)
    _export_live_figures(settings)
    _hide_what_is_for_instructors(settings)
    # No kernel that is registered under the name python3, but this Python; and nbgrader validates
    # by the rules that it grades by.
    write_atomically(settings / "jupyter_server_config.json", _OWN_KERNEL)
    write_atomically(settings / "nbgrader_config.py", _VALIDATION)
    return LabServer(
        root_dir=workspace.root,
        landing_page=page,
        variables={
            "COURSE_WORKSPACE": str(workspace.root),
            "JUPYTER_CONFIG_DIR": str(settings),
            # The home folder may be read-only, and what others put there is not the course's.
            "JUPYTER_DATA_DIR": str(settings / "data"),
            "JUPYTER_RUNTIME_DIR": str(settings / "runtime"),
            "IPYTHONDIR": str(settings / "ipython"),
            "JUPYTER_PREFER_ENV_PATH": "1",
        },
        port=port,
        browser=browser,
        without=_OF_OTHER_JUPYTERS,
    )


def instructor_server(port: int, browser: bool) -> LabServer:
    """Return the server that opens formgrader on the checkout, with its ``nbgrader_config.py``.

    JupyterLab is the instructor's own, but for the question whether to fetch news.

    Raises:
        CourseError: The checkout cannot be written.
    """
    root = course_root()
    settings = root / "artifacts" / "instructor"
    write_atomically(settings / "labconfig" / "page_config.json", _WITHOUT_NEWS)
    # Formgrader warns where there is no exchange; without one on the machine it is this folder.
    _make_folder(root / "grading" / "exchange")
    others = os.environ.get("JUPYTER_CONFIG_PATH")
    return LabServer(
        root_dir=root,
        landing_page="/lab?formgrader=true",
        variables={
            "JUPYTER_CONFIG_PATH": os.pathsep.join([str(settings), *([others] if others else [])])
        },
        port=port,
        browser=browser,
    )


def require_free_port(port: int) -> None:
    """Return if a server could listen on the port.

    Raises:
        CourseError: Another program has it, or this user may not.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            problem = "in use" if in_use else f"not to be had ({error.strerror})"
            other = port + 11 if 1024 <= port <= 65_000 else 8899
            raise CourseError(
                f"port {port} is {problem}; choose another: "
                f"`course lab --port {other}` or `make lab PORT={other}`"
            ) from error


def _set_at_first(settings: Path, plugin: str, values: Mapping[str, Any]) -> None:
    """Write the settings of a plugin of JupyterLab, unless it has some.

    The learner can change them in JupyterLab, under Settings.
    """
    folder = settings / "lab" / "user-settings" / "@jupyterlab"
    path = folder / f"{plugin}.jupyterlab-settings"
    if not path.exists():
        write_atomically(path, json.dumps(values).encode() + b"\n")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CourseError(f"cannot make {path}: {error.strerror}; allow writing there") from error


def _export_live_figures(settings: Path) -> None:
    """Let notebooks that are saved as HTML, by menu or nbconvert, keep their figures alive.

    The environment has the same file, unless the course runs from a checkout that is not installed.
    The learner can change the copy.
    """
    name = "jupyter_config.json"
    if not (settings / name).exists():
        shipped = files("course_lib.viz.kit") / name
        write_atomically(settings / name, shipped.read_bytes())


def _hide_what_is_for_instructors(settings: Path) -> None:
    """Leave out what nbgrader offers to those who write, hand out and grade assignments.

    A learner who wants to see it can enable it in JupyterLab's list of extensions.
    """
    page = settings / "labconfig" / "page_config.json"
    if not page.exists():
        hidden = {f"@jupyter/nbgrader:{name}": True for name in _FOR_INSTRUCTORS}
        write_atomically(page, json.dumps({"disabledExtensions": hidden}).encode())


def _is_root() -> bool:
    """Return whether this process may do everything. Windows does not say."""
    return hasattr(os, "geteuid") and os.geteuid() == 0
