"""What this machine has of what the course needs, and what to do about the rest."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from rich.markup import escape
from rich.table import Column, Table

from autograder.errors import CourseError
from autograder.paths import course_root, workspace_root

DISTRIBUTION = "serving-from-scratch"
OLDEST_PYTHON = (3, 11)
TORCH_GUIDE = "https://pytorch.org/get-started/locally"

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
"""Names under which Linux distributions install a browser that the tests can drive."""

TRACES = ("azure2023", "mooncake", "vllm_run_rtx4090")
"""Folders of recorded workloads that lessons read where they exist."""

_PROBE_SECONDS = 20.0
"""A probe that takes longer than this counts as failed."""


class Status(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: What was looked at.
        status: MISSING stops the course from working; a WARNING costs a part of it.
        found: What was found.
        remedy: What to do; empty when there is nothing to do.
    """

    subject: str
    status: Status
    found: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Look at everything, the cheap things first. Importing torch takes a few seconds."""
    yield python()
    yield from packages()
    boxes = sandbox()
    yield boxes
    if boxes.status is Status.OK:
        yield from confinement()
    yield browser()
    yield traces()
    yield workspace()
    yield home()
    yield from accelerator()


def python() -> Finding:
    """Say which Python runs."""
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info >= OLDEST_PYTHON:
        return Finding("Python", Status.OK, found)
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return Finding(
        "Python",
        Status.MISSING,
        found,
        f"install Python {oldest} or later, then `make clean` and `make lab PYTHON=python{oldest}`",
    )


def packages() -> Iterator[Finding]:
    """Hold the versions of the packages that the course imports against ``constraints.txt``."""
    try:
        pinned = read_constraints(course_root() / "constraints.txt")
        required = metadata.requires(DISTRIBUTION) or []
    except (CourseError, OSError, metadata.PackageNotFoundError) as error:
        yield Finding(
            "packages",
            Status.MISSING,
            f"the course is not installed from its checkout ({error})",
            "run `pip install -c constraints.txt -e .` in the checkout",
        )
        return
    for requirement in required:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        optional = "extra ==" in requirement
        elsewhere = "sys_platform == " in requirement and "linux" not in sys.platform
        if not optional and not elsewhere:
            yield package(name, pinned.get(normalized(name)))


def package(name: str, pinned: str | None) -> Finding:
    """Say which version of a package is installed, and whether it is the one that CI uses.

    Args:
        name: The name under which pip knows it.
        pinned: The version in ``constraints.txt``.
    """
    wanted = f"{name}=={pinned}" if pinned else name
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        remedy = f'run `pip install "{wanted}"`, or `make lab`'
        return Finding(name, Status.MISSING, "not installed", remedy)
    # The part behind "+" says how a wheel was built: 2.13.0+cpu is release 2.13.0.
    if pinned is None or installed.partition("+")[0] == pinned:
        return Finding(name, Status.OK, installed)
    return Finding(
        name,
        Status.WARNING,
        f"{installed}; the course is tested with {pinned}",
        f'if something fails, run `pip install "{wanted}"`',
    )


def sandbox() -> Finding:
    """Say whether bubblewrap can box in a submission, by letting it run ``true``."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return Finding(
            "sandbox",
            Status.WARNING,
            "bubblewrap is not installed; learners do not need it",
            "to grade other people's submissions: `apt-get install bubblewrap` (Linux only)",
        )
    command = [bwrap, "--ro-bind", "/", "/", "--unshare-all", "--die-with-parent", "true"]
    try:
        probe = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    else:
        if probe.returncode == 0:
            return Finding("sandbox", Status.OK, f"bubblewrap at {bwrap} runs")
        problem = probe.stderr.strip() or f"exit code {probe.returncode}"
    return Finding(
        "sandbox",
        Status.WARNING,
        f"bubblewrap at {bwrap} does not run: {problem}",
        "to grade other people's submissions, allow user namespaces: "
        "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or grade on another machine",
    )


def confinement() -> Iterator[Finding]:
    """Say what keeps a submission that is graded in its box here."""
    from autograder.sealed.box.protections import protections

    for each in protections():
        subject = f"sandbox: {each.name}"
        if each.is_active:
            yield Finding(subject, Status.OK, each.says)
        else:
            remedy = "others' submissions are not graded without it" if each.is_needed else ""
            yield Finding(subject, Status.WARNING, each.says, remedy)


def browser() -> Finding:
    """Say which browser the tests can drive."""
    paths = [path for path in map(shutil.which, BROWSERS) if path]
    if paths:
        return Finding("browser", Status.OK, f"{paths[0]}, for the browser tests")
    return Finding(
        "browser",
        Status.WARNING,
        "no chromium; the browser tests are skipped, lessons open in any browser",
        "to run them: `apt-get install chromium`",
    )


def traces() -> Finding:
    """Say which recorded workloads the lessons will read."""
    named = os.environ.get("COURSE_TRACES")
    if not named:
        return Finding(
            "traces",
            Status.WARNING,
            "COURSE_TRACES is not set; synthetic generators stand in for recorded workloads",
            f"to use real ones, put {', '.join(TRACES)} in a folder and set COURSE_TRACES to it",
        )
    folder = Path(named).expanduser()
    if not folder.is_dir():
        return Finding(
            "traces",
            Status.MISSING,
            f"COURSE_TRACES is {named!r}, which is not a folder",
            "correct it, or unset it to work with synthetic traces",
        )
    present = [name for name in TRACES if (folder / name).is_dir()]
    absent = [name for name in TRACES if name not in present]
    if not absent:
        return Finding("traces", Status.OK, f"{', '.join(present)} in {folder}")
    return Finding(
        "traces",
        Status.WARNING,
        f"{', '.join(present) or 'none'} in {folder}; synthetic generators stand in for the rest",
        f"to use real ones, put {', '.join(absent)} in a folder and set COURSE_TRACES to it",
    )


def workspace() -> Finding:
    """Say where the learner's work is, and whether it can be written."""
    try:
        root = workspace_root()
    except CourseError as error:
        return Finding("workspace", Status.MISSING, str(error), "see the message")
    nearest = next(folder for folder in (root, *root.parents) if folder.is_dir())
    if not os.access(nearest, os.W_OK):
        return Finding(
            "workspace",
            Status.MISSING,
            f"{root} cannot be written",
            "set COURSE_WORKSPACE to a folder of your own",
        )
    if not root.is_dir():
        return Finding("workspace", Status.OK, f"{root}, made by the first `course lab`")
    opened = sum(1 for _ in root.glob("*/*.ipynb"))
    return Finding("workspace", Status.OK, f"{root}, notebooks: {opened}")


def home() -> Finding:
    """Say whether the home folder can be written, where other programs keep their settings."""
    folder = Path.home()
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            return Finding("home", Status.OK, f"{folder} can be written")
    except OSError as error:
        return Finding(
            "home",
            Status.WARNING,
            f"{folder} cannot be written ({error.strerror}); JupyterLab keeps its files in the "
            "workspace, others such as Triton and matplotlib in a temporary folder or not at all",
            "set HOME to a folder of your own",
        )


def accelerator() -> Iterator[Finding]:
    """Say whether Triton compiles for a GPU or interprets, and which torch this machine wants."""
    gpu = gpu_name()
    try:
        torch = importlib.import_module("torch")
        usable = bool(torch.cuda.is_available())
        built_for = torch.version.cuda
    except Exception as error:  # a broken native library raises nearly anything
        yield Finding(
            "torch",
            Status.MISSING,
            f"cannot be imported: {type(error).__name__}: {error}",
            torch_remedy(gpu),
        )
        return
    yield torch_build(gpu, built_for, usable)
    yield triton_mode(usable, built_for)


def gpu_name() -> str | None:
    """Return the name of the first NVIDIA GPU, asked of the driver; None without one."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return None
    command = [smi, "--query-gpu=name", "--format=csv,noheader"]
    try:
        probe = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    names = probe.stdout.split("\n") if probe.returncode == 0 else []
    return next((name.strip() for name in names if name.strip()), None)


def torch_remedy(gpu: str | None) -> str:
    """Return the line that installs the torch that this machine wants.

    >>> torch_remedy("RTX 4090")
    'run `pip install --force-reinstall -c constraints.txt torch`'
    >>> torch_remedy(None).rpartition(" ")[2]
    'https://pytorch.org/get-started/locally'
    """
    command = "pip install --force-reinstall -c constraints.txt torch"
    if gpu:
        return f"run `{command}`"
    return f"run `{command}` with the --index-url of the CPU build: {TORCH_GUIDE}"


def torch_build(gpu: str | None, built_for: str | None, usable: bool) -> Finding:
    """Hold the installed torch against the machine.

    Args:
        gpu: The GPU that the driver reports.
        built_for: The CUDA version that torch was built for, None for a CPU build.
        usable: Whether torch can use the GPU.
    """
    if usable:
        return Finding("GPU", Status.OK, f"{gpu or 'found by torch'}, CUDA {built_for}")
    if gpu and built_for is None:
        return Finding(
            "GPU", Status.WARNING, f"{gpu}, but torch is built for the CPU", torch_remedy(gpu)
        )
    if gpu:
        return Finding(
            "GPU",
            Status.WARNING,
            f"{gpu}, but torch for CUDA {built_for} cannot use it",
            "update the NVIDIA driver",
        )
    if built_for:
        return Finding(
            "GPU",
            Status.OK,
            f"none; torch for CUDA {built_for} works on the CPU",
            f"to save a few GB of disk: {torch_remedy(gpu)}",
        )
    return Finding("GPU", Status.OK, "none; torch is built for the CPU, as it should be")


def triton_mode(gpu_usable: bool, built_for: str | None) -> Finding:
    """Say how Triton kernels run here, and why.

    Args:
        gpu_usable: Whether torch can use a GPU.
        built_for: The CUDA version that torch was built for, None for a CPU build.
    """
    try:
        metadata.version("triton")
    except metadata.PackageNotFoundError:
        if sys.platform == "linux":
            remedy = "run `pip install -c constraints.txt triton`"
            return Finding("Triton mode", Status.MISSING, "triton is not installed", remedy)
        return Finding(
            "Triton mode",
            Status.WARNING,
            f"none: Triton has no wheels for {platform.system()}; its exercises are left out",
            "to do them, use WSL, a Linux container or Colab",
        )
    if os.environ.get("TRITON_INTERPRET") == "1":
        return Finding("Triton mode", Status.OK, "interpreter, because TRITON_INTERPRET=1 is set")
    if gpu_usable:
        return Finding("Triton mode", Status.OK, "GPU")
    reason = "no GPU is usable" if built_for else "torch is built for the CPU"
    return Finding("Triton mode", Status.OK, f"interpreter, because {reason}")


def read_constraints(path: Path) -> dict[str, str]:
    """Return the pinned version of each package, by normalized name."""
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    pairs = (line.partition("==") for line in lines if line)
    return {normalized(name): version for name, _, version in pairs}


def normalized(name: str) -> str:
    """Return a package's name as package indexes compare it.

    >>> normalized("Jupyter_Client")
    'jupyter-client'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def findings_table(findings: list[Finding]) -> Table:
    """Return the report as a table."""
    styles = {Status.OK: "green", Status.WARNING: "yellow", Status.MISSING: "bold red"}
    table = Table(
        "", "status", *(Column(name, overflow="fold") for name in ("found", "what to do"))
    )
    for finding in findings:
        status = f"[{styles[finding.status]}]{finding.status}[/]"
        table.add_row(finding.subject, status, escape(finding.found), escape(finding.remedy))
    return table
