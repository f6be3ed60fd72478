"""Of which lesson a notebook is, whatever its file is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nbformat import NotebookNode

from autograder.build.notebooks import release_path, sources
from autograder.collect.naming import plain
from autograder.matching import grade_id
from autograder.sealed.document import read_cells
from autograder.sealed.quarantine import RefusedError
from autograder.sealed.release import load_release


class Lessons:
    """The lessons, by what their notebooks hold.

    Args:
        cells: The cells of each lesson as it was released, by name.
    """

    def __init__(self, cells: Mapping[str, Sequence[NotebookNode]]) -> None:
        self.names = tuple(cells)
        self._marks = {name: set(_marks(each)) for name, each in cells.items()}

    def of(self, raw: bytes, file: str, lesson: str | None) -> tuple[str, tuple[str, ...]]:
        """Return the lesson of a notebook, and what is to be said of it.

        That is the one whose cells it has. Where it cannot be read, it is the one that is named.

        Args:
            raw: What is in the file.
            file: What the student called it.
            lesson: The lesson that it is taken for if it shows none; None for no such lesson.
        """
        named = next((each for each in self.names if plain(each) in plain(file)), None)
        try:
            found = self._shown(read_cells(raw))
            notes: tuple[str, ...] = ()
        except RefusedError as error:
            found, notes = None, (str(error),)
        if found is not None:
            other = lesson or named
            odd = other is not None and other != found
            return found, (f"it is {found} and not {other}",) if odd else ()
        if lesson or named:
            return str(named or lesson), notes
        said = "no cell of it is from a lesson"
        return "", (*(notes or (said,)), "or name the lesson with --lesson")

    def _shown(self, cells: Sequence[NotebookNode]) -> str | None:
        """Return the lesson that has most of a notebook's cells; None if none has more."""
        marks = set(_marks(cells))
        shared = sorted(((len(marks & own), name) for name, own in self._marks.items()))
        if not shared or not shared[-1][0]:
            return None
        return None if len(shared) > 1 and shared[-2][0] == shared[-1][0] else shared[-1][1]


def lessons() -> Lessons:
    """Return what is known of the lessons that are released.

    Raises:
        CourseError: A lesson cannot be read.
    """
    names = [source.stem for source in sources() if release_path(source.stem).is_file()]
    return Lessons({name: load_release(release_path(name)).cells for name in names})


def _marks(cells: Sequence[NotebookNode]) -> Iterator[tuple[str, str]]:
    """Yield what cells can be known by."""
    for cell in cells:
        name = grade_id(cell)
        if name:
            yield "grade id", name
        if len(cell.source) > 40:
            yield "text", cell.source.strip()
