"""What a result depends on beside the submission: if it changes, the result is another one."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

import autograder
import course_lib
from autograder.paths import course_root

_AUTOGRADER, _LIBRARY = (Path(str(each.__file__)).parent for each in (autograder, course_lib))
_PACKAGES = ("hypothesis", "ipython", "numpy", "torch", "triton")
_JUDGING = ("checks", "proxy", "sealed")


@cache
def check_digest(lesson: str) -> str:
    """Return the hash of all that decides on a lesson's verdicts.

    That are the checks, what they are made of, the library, and the versions of the packages that
    answers run with.

    Args:
        lesson: The lesson's name.

    >>> check_digest("01_a") == check_digest("01_a") != check_digest("02_a")
    True
    """
    number = lesson.partition("_")[0]
    files = [path for name in _JUDGING for path in (_AUTOGRADER / name).rglob("*.py")]
    files += (_AUTOGRADER / "lessons").glob(f"lesson{number}*.py")
    files += _LIBRARY.rglob("*.py")
    files += (course_root() / "grading" / "question_banks").glob(f"{lesson}.toml")
    digest = hashlib.sha256("\n".join([lesson, *_versions()]).encode())
    for path in sorted(files):
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _versions() -> list[str]:
    found = [f"python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} is not installed")
    return found
