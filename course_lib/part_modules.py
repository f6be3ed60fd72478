"""Parts as modules: ``my_engine.NAME`` can be imported and reloaded, as any other module.

So ``importlib.reload`` and IPython's ``%autoreload`` bring an edited part in.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from course_lib.part_files import text_of, workspace

PACKAGE = "my_engine"


class PartLoader(SourceFileLoader):
    """Runs a part from its text each time: a stale byte-code file would hide an edit."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the file as it is now."""
        return self.compiled(self.get_data(self.path))

    def compiled(self, content: bytes) -> CodeType:
        """Return the code of a text, which tracebacks, ``inspect`` and Triton take for the file's.

        Raises:
            SyntaxError: It is not Python.
            UnicodeError: It is no text.
        """
        text = text_of(content)
        code: CodeType = compile(text, self.path, "exec", dont_inherit=True)
        lines = text.splitlines(keepends=True)
        linecache.cache[self.path] = (len(text), None, lines, self.path)
        return code


class PartFinder(MetaPathFinder):
    """Finds the modules of ``my_engine`` in the learner's workspace."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where the module is; None if it is not the learner's, or not there."""
        package, *names = fullname.split(".")
        home = workspace()
        if package != PACKAGE or home is None:
            return None
        place = Path(home, PACKAGE, *names)
        file = place.with_suffix(".py")
        if names and file.is_file():
            return spec_of(fullname, file)
        return _folder_spec(fullname, place) if place.is_dir() else None


def spec_of(name: str, file: Path) -> ModuleSpec:
    """Return the specification of a part's module; those of a class's methods are below it."""
    folder = [str(file.with_suffix(""))]
    loader = PartLoader(name, str(file))
    spec = spec_from_file_location(name, file, loader=loader, submodule_search_locations=folder)
    assert spec is not None
    return spec


def stand_for_parents(name: str, file: Path) -> None:
    """Put packages above a part's module that are there already, without running any part."""
    for folder in list(file.parents)[: name.count(".")]:
        name = name.rpartition(".")[0]
        if name not in sys.modules:
            sys.modules[name] = module_from_spec(_folder_spec(name, folder))


def _folder_spec(name: str, folder: Path) -> ModuleSpec:
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    return spec


if not any(type(finder).__name__ == PartFinder.__name__ for finder in sys.meta_path):
    # In front: the package may remember another workspace, in which Python's own finder would look.
    sys.meta_path.insert(0, PartFinder())
