"""Where the checkout and the learner's workspace are, asked anew each time."""

from __future__ import annotations

import os
from pathlib import Path

from autograder.errors import CourseError


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
