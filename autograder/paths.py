"""Where the checkout and the learner's workspace are, asked anew each time."""

from __future__ import annotations

import os
from pathlib import Path

from autograder.errors import CourseError
from course_lib.catalogue import FINAL_PROJECT

PROJECT_NUMBERS = range(FINAL_PROJECT, 20)
"""The numbers of the final project's notebooks, which are lessons in all but their place."""

PROJECT_NOTEBOOKS = {13: "engine", 14: "request_trace", 15: "comprehensive_quiz"}
"""What its notebooks with checks are called in a release, by number."""

PROJECT_FOLDER = "final_project"
"""The folder of the final project's notebooks in ``lessons/`` and in a workspace."""


def course_root() -> Path:
    """Return the folder of the checkout: the one that holds ``lessons/``.

    It is ``COURSE_ROOT`` when that is set, else the folder from which this package was installed.

    Raises:
        CourseError: That folder has no ``lessons/``.
    """
    named = os.environ.get("COURSE_ROOT")
    root = Path(named).expanduser().absolute() if named else Path(__file__).parents[1]
    if not (root / "lessons").is_dir():
        raise CourseError(
            f"{root} has no folder lessons/; install the checkout with `pip install -e .`, "
            "or set COURSE_ROOT to it"
        )
    return root


def released_at(slug: str) -> Path:
    """Return where the released notebook of a lesson is, below ``lessons/`` and in a workspace.

    The notebooks of the final project share a folder and have no numbers there.

    >>> released_at("07_kv_cache_block_management").as_posix()
    '07_kv_cache_block_management/07_kv_cache_block_management.ipynb'
    >>> released_at("15_comprehensive_quiz").as_posix()
    'final_project/comprehensive_quiz.ipynb'
    """
    number, _, name = slug.partition("_")
    if number.isdecimal() and int(number) in PROJECT_NUMBERS:
        return Path(PROJECT_FOLDER, f"{name}.ipynb")
    return Path(slug, f"{slug}.ipynb")


def require_this_checkout() -> None:
    """Return unless the working directory is in another checkout than the one that runs.

    The programs of a .venv that was copied with its checkout run the code of the other one.

    Raises:
        CourseError: It is. What would be opened is not the workspace that is here.
    """
    if os.environ.get("COURSE_ROOT") or os.environ.get("COURSE_WORKSPACE"):
        return
    here, root = Path.cwd(), course_root()
    own = Path("autograder", "paths.py")
    there = next((each for each in (here, *here.parents) if (each / own).is_file()), root)
    if there.resolve() != root.resolve():
        raise CourseError(
            f"this `course` belongs to {root}, and you are in {there}; run `make lab` here, "
            "which installs the course in this folder"
        )


def workspace_root() -> Path:
    """Return the folder of the learner's work: ``COURSE_WORKSPACE``, else ``workspace/``.

    The folder need not exist yet.

    Raises:
        CourseError: Something else than a folder is there.
    """
    named = os.environ.get("COURSE_WORKSPACE")
    root = Path(named).expanduser().absolute() if named else course_root() / "workspace"
    if root.exists() and not root.is_dir():
        raise CourseError(
            f"{root} is not a folder, so it cannot be the workspace; "
            "set COURSE_WORKSPACE to a folder"
        )
    return root
