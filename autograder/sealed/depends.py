"""What a result depends on beside the submission: if it changes, the result is another one."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import autograder
import course_lib
from autograder.paths import course_root

_AUTOGRADER, _LIBRARY = (Path(str(each.__file__)).parent for each in (autograder, course_lib))
_PACKAGES = ("hypothesis", "ipython", "numpy", "radon", "ruff", "torch", "triton")
_IMPORT = re.compile(r"^\s*(?:from|import) (autograder[\w.]*)(?: import (\([^)]*\)|.*))?", re.M)


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
    digest = hashlib.sha256("\n".join([lesson, *_versions()]).encode())
    for path in sorted(decisive_files(lesson)):
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def decisive_files(lesson: str) -> set[Path]:
    """Return the files that decide on a lesson's verdicts.

    Args:
        lesson: The lesson's name.
    """
    number = lesson.partition("_")[0]
    checks = [path for name in ("checks", "proxy") for path in (_AUTOGRADER / name).rglob("*.py")]
    checks += (_AUTOGRADER / "lessons").glob(f"lesson{number}*.py")
    files = _with_what_they_import(checks)
    files |= {*(_AUTOGRADER / "sealed").rglob("*.py"), *_LIBRARY.rglob("*.py")}
    grading = course_root() / "grading"
    files |= {*(grading / "question_banks").glob(f"{lesson}.toml"), *grading.glob("rubric.toml")}
    return files


def _with_what_they_import(files: Iterable[Path]) -> set[Path]:
    """Return modules with all of this package that they import, and what that imports in turn."""
    found, waiting = set(files), list(files)
    while waiting:
        new = set(_imported_by(waiting.pop())) - found
        found |= new
        waiting += new
    return found


def _imported_by(path: Path) -> Iterator[Path]:
    """Yield the modules of this package that a module imports, as far as its text says."""
    for module, names in _IMPORT.findall(path.read_text("utf-8")):
        home = _AUTOGRADER.parent.joinpath(*module.split("."))
        for each in (home, *(home / name for name in re.findall(r"\w+", names))):
            for file in (each.with_suffix(".py"), each / "__init__.py"):
                if file.is_file():
                    yield file


def _versions() -> list[str]:
    found = [f"python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} is not installed")
    return found
