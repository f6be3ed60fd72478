"""The kit's JavaScript and style sheets joined into one of each, as a widget and a page need them.

The files under ``js/`` are modules that import each other by relative path, so that a browser runs
them as they are. A widget's front end takes one module only. No tool builds it: what a module
needs is put before it, and the words that tie them together are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

JS_FOLDER = Path(__file__).parent / "js"

_IMPORT = re.compile(r'^import \{[^{}]*\} from "\./(?P<file>[\w-]+\.js)";\n', re.MULTILINE)
_ANY_IMPORT = re.compile(r"^import\b.*", re.MULTILINE)
_RENAMED = re.compile(r"^import \{[^}]*\bas\b.*", re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default\b)", re.MULTILINE)
_EXPORT_DEFAULT = re.compile(r"^export default\b", re.MULTILINE)
_TOP_LEVEL = re.compile(
    r"^(?:export )?(?:async )?(?:const|let|var|class|function\*?) (?P<name>[\w$]+)", re.MULTILINE
)


@cache
def script(entry: str, folder: Path = JS_FOLDER) -> str:
    """Return a module that holds the entry and everything that it imports.

    Args:
        entry: File name of the module that is run; its ``export default`` stays.
        folder: Where the modules are.

    Raises:
        ValueError: A module imports in another form than ``import { a, b } from "./file.js";``,
            modules import each other in a circle, a module besides the entry has a default, or two
            of them use the same name at their top level.
        FileNotFoundError: A module is not in the folder.

    >>> "import" in script("dom.js"), "function svg(" in script("dom.js")
    (False, True)
    """
    sources = _sources(entry, folder)
    _check_names(sources)
    for name, source in sources.items():
        if name != entry and _EXPORT_DEFAULT.search(source):
            raise ValueError(f"{name} has an `export default`; only {entry}, the entry, may")
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", source)) for source in sources.values())


@cache
def styles(entry: str, folder: Path = JS_FOLDER) -> str:
    """Return the style sheets of the entry and of everything that it imports.

    The style sheet of ``stage.js`` is ``stage.css`` beside it; a module may have none.

    Args:
        entry: File name of the module that is run.
        folder: Where the modules are.

    Raises:
        ValueError: As for ``script``.
        FileNotFoundError: A module is not in the folder.
    """
    sheets = [(folder / name).with_suffix(".css") for name in _sources(entry, folder)]
    return "\n".join(sheet.read_text(encoding="utf-8") for sheet in sheets if sheet.exists())


def _sources(entry: str, folder: Path) -> dict[str, str]:
    """Return the text of each module by file name, what a module imports before itself."""
    sources: dict[str, str] = {}

    def add(name: str, importers: tuple[str, ...]) -> None:
        if name in importers:
            circle = " imports ".join((*importers[importers.index(name) :], name))
            raise ValueError(f"{circle}: modules must not import each other in a circle")
        if name in sources:
            return
        source = (folder / name).read_text(encoding="utf-8")
        _check_imports(name, source)
        for found in _IMPORT.finditer(source):
            add(found["file"], (*importers, name))
        sources[name] = source

    add(entry, ())
    return sources


def _check_imports(name: str, source: str) -> None:
    """Refuse an import that dropping its line would break."""
    unusual = _ANY_IMPORT.search(_IMPORT.sub("", source)) or _RENAMED.search(source)
    if unusual:
        raise ValueError(
            f"{name} has the line {unusual[0]!r}; modules of the kit import by "
            '`import { a, b } from "./file.js";`, without new names'
        )


def _check_names(sources: Mapping[str, str]) -> None:
    """Refuse two modules that use one name at their top level: joined, they share it."""
    owner: dict[str, str] = {}
    for name, source in sources.items():
        for found in _TOP_LEVEL.finditer(source):
            first = owner.setdefault(found["name"], name)
            if first != name:
                raise ValueError(f"{first} and {name} both define {found['name']!r}; rename one")
