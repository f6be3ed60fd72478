"""A submission's cells as they are to be graded: what was released, with what the student wrote.

Editors drop metadata and ids, one key press turns code into text, a cell is deleted by mistake, an
answer is written beside its cell. None of that may cost a grade without a word.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nbformat import NotebookNode

from autograder.errors import CourseError
from autograder.matching import (
    defines,
    find_answers,
    grade_id,
    is_answer,
    is_marked,
    match_cells,
    nbgrader_metadata,
)

GIVEN = "given"
"""What a cell's metadata say under ``course`` when its text is the released one."""


@dataclass(frozen=True)
class Restored:
    """The cells to grade.

    Attributes:
        cells: The cells, in the student's order.
        notes: One line for each thing that was not as it was released, for the instructor.
    """

    cells: list[NotebookNode]
    notes: list[str]


def restored(submitted: Sequence[NotebookNode], released: Sequence[NotebookNode]) -> Restored:
    """Return the submitted cells as they are to be graded.

    A released cell is known by its id, its grade id or its text; an answer also by its neighbours
    and by what it goes on from. All metadata that was not released goes: points, roles, tags. Cells
    get their released type back. Checks and given code that are missing are put back in their
    place. An answer that was written into a check is kept in a cell above it. The first code cell,
    which imports what all others need, is put in front of an edited one. A text that is to be
    marked and was left as it was takes what was written in cells of its own beside it.

    Args:
        submitted: The student's cells, in the student's order. They are not changed.
        released: The released cells.

    Raises:
        CourseError: The cells have lost what they are known by, and an answer cannot be found.
    """
    pairs = _last_copies(submitted, released, match_cells(released, submitted))
    pairs = find_answers(released, submitted, pairs)
    _require_answers(submitted, released, pairs)
    work = _Restoration(released)
    work.take(submitted, {theirs: ours for ours, theirs in pairs.items()})
    work.put_back()
    work.gather_texts()
    return Restored([each.cell for each in work.places], work.notes)


def _last_copies(
    submitted: Sequence[NotebookNode], released: Sequence[NotebookNode], pairs: Mapping[int, int]
) -> dict[int, int]:
    """Take the last of several copies of an answer for the answer, as nbgrader has it."""
    last = {grade_id(cell): place for place, cell in enumerate(submitted) if grade_id(cell)}
    taken = set(pairs.values())
    found = dict(pairs)
    for position, place in pairs.items():
        name = grade_id(released[position])
        copy_of_it = last.get(name, place)
        same = grade_id(submitted[place]) == name
        if name is not None and same and copy_of_it not in taken:
            found[position] = copy_of_it
    return found


def _require_answers(
    submitted: Sequence[NotebookNode], released: Sequence[NotebookNode], pairs: Mapping[int, int]
) -> None:
    """Raise CourseError if an answer is missing that the student need not have deleted."""
    missing = [
        str(grade_id(cell))
        for position, cell in enumerate(released)
        if is_answer(cell) and position not in pairs
    ]
    if not missing:
        return
    known = [(released[ours], submitted[theirs]) for ours, theirs in pairs.items()]
    marked = [mine for original, mine in known if grade_id(original)]
    if not marked or any(grade_id(cell) is None for cell in marked):
        raise CourseError(
            "its cells have lost the marks by which nbgrader knows them, and no answer was found "
            f"for {', '.join(missing)}; ask for the notebook as JupyterLab saved it, or paste the "
            "answers into a fresh copy of the lesson"
        )


@dataclass
class _Place:
    """One cell of the result, and which released one it is, if any."""

    cell: NotebookNode
    position: int | None

    @property
    def is_own(self) -> bool:
        """Whether it is a cell of the student's own."""
        return self.position is None


@dataclass
class _Restoration:
    """A submission on its way to be graded."""

    released: Sequence[NotebookNode]
    places: list[_Place] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def take(self, submitted: Sequence[NotebookNode], known: Mapping[int, int]) -> None:
        """Take the student's cells, with the metadata and the types of the released ones.

        Args:
            submitted: The student's cells.
            known: Position in ``submitted`` -> position in ``released``.
        """
        for index, theirs in enumerate(submitted):
            # What is in it is nowhere changed, so a class of a thousand need not have it twice.
            cell = NotebookNode(theirs)
            cell.metadata = NotebookNode()
            position = known.get(index)
            if position is not None:
                original = self.released[position]
                if (
                    _is_check(original)
                    and cell.source != original.source
                    and not self._unwritten(submitted, known).isdisjoint(defines(cell))
                ):
                    self._keep_beside(cell, original)
                if cell.cell_type != original.cell_type:
                    self.notes.append(f"{_name(original)} was turned into {cell.cell_type}")
                    cell = _retyped(cell, original)
                cell.metadata = _metadata(original)
                if cell.source == original.source:
                    cell.metadata.course = GIVEN
            self.places.append(_Place(cell, position))

    def _unwritten(self, submitted: Sequence[NotebookNode], known: Mapping[int, int]) -> set[str]:
        """Return what the answers define that were left as they were."""
        answers = [(self.released[ours], submitted[theirs]) for theirs, ours in known.items()]
        return set[str]().union(
            *(
                defines(ours)
                for ours, theirs in answers
                if is_answer(ours) and ours.source.strip() == theirs.source.strip()
            )
        )

    def _keep_beside(self, cell: NotebookNode, original: NotebookNode) -> None:
        """Keep what was written into a check that is an answer, as a cell above it."""
        kept = NotebookNode(cell, id=f"kept-{cell.id}"[:64], cell_type=original.cell_type)
        self.places.append(_Place(kept, None))
        self.notes.append(f"an answer was written into {_name(original)}")

    def put_back(self) -> None:
        """Put back what is missing and somebody needs: graded cells and given code."""
        setup = self._setup()
        for position, original in enumerate(self.released):
            is_given_code = original.cell_type == "code" and not nbgrader_metadata(original)
            is_graded = bool(nbgrader_metadata(original).get("grade"))
            found = self._place_of(position)
            if found is None and (is_given_code or is_graded):
                self._insert(self._gap_after(position, behind_own=is_graded), position)
                self.notes.append(f"{_name(original)} was deleted and is put back")
            elif found is None and is_answer(original):
                self.notes.append(f"{_name(original)} was deleted; it earns nothing")
            elif position == setup and found is not None and not self._is_given(found):
                self._insert(found, position)
                self.notes.append(f"{_name(original)} was edited; the released one runs before it")

    def gather_texts(self) -> None:
        """Show a marker what was written in cells beside a text that was left as it was."""
        for index, place in enumerate(self.places):
            if place.position is None or not is_marked(self.released[place.position]):
                continue
            stub = self.released[place.position].source.strip()
            if place.cell.source.strip() not in ("", stub):
                continue
            beside = [*reversed(list(self._own(index - 1, -1))), *self._own(index + 1, 1)]
            if beside:
                place.cell.source = "\n\n".join(str(cell.source).strip() for cell in beside)
                place.cell.metadata.pop("course", None)
                self.notes.append(f"{_name(place.cell)} was answered in a cell beside it")

    def _setup(self) -> int | None:
        """Return the position of the first code cell, if it is given."""
        code = [i for i, cell in enumerate(self.released) if cell.cell_type == "code"]
        return code[0] if code and not nbgrader_metadata(self.released[code[0]]) else None

    def _is_given(self, index: int) -> bool:
        return bool(self.places[index].cell.metadata.get("course") == GIVEN)

    def _place_of(self, position: int) -> int | None:
        indices = (i for i, place in enumerate(self.places) if place.position == position)
        return next(indices, None)

    def _gap_after(self, position: int, behind_own: bool) -> int:
        """Return where a missing cell goes: after the released one that came before it."""
        before = (self._place_of(earlier) for earlier in range(position - 1, -1, -1))
        index = next((found + 1 for found in before if found is not None), 0)
        if behind_own:
            while index < len(self.places) and self.places[index].is_own:
                index += 1
        return index

    def _insert(self, index: int, position: int) -> None:
        """Insert a released cell before this place."""
        cell = copy.deepcopy(self.released[position])
        # The student may have kept the old cell under another grade id.
        cell.id = f"restored-{cell.id}"[:64]
        cell.metadata = _metadata(self.released[position])
        cell.metadata.course = GIVEN
        self.places.insert(index, _Place(cell, position))

    def _own(self, index: int, step: int) -> Iterator[NotebookNode]:
        """Yield the student's own cells from here on that hold text."""
        while 0 <= index < len(self.places) and self.places[index].is_own:
            if self.places[index].cell.source.strip() and _is_prose(self.places[index].cell):
                yield self.places[index].cell
            index += step


def _is_check(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and bool(nbgrader_metadata(cell).get("locked"))


def _name(cell: NotebookNode) -> str:
    return f"cell {grade_id(cell) or cell.id}"


def _metadata(original: NotebookNode) -> NotebookNode:
    """Return what the cell of a submission may say of itself."""
    ours = nbgrader_metadata(original)
    return NotebookNode(nbgrader=NotebookNode(ours)) if ours else NotebookNode()


def _retyped(cell: NotebookNode, original: NotebookNode) -> NotebookNode:
    """Return a cell of the released type with the student's text. Code holds no pictures."""
    again = copy.deepcopy(original)
    again.id, again.source = cell.id, cell.source
    if original.cell_type == "markdown" and "attachments" in cell:
        again.attachments = cell.attachments
    return again


def _is_prose(cell: NotebookNode) -> bool:
    """Return whether a cell holds text, although a new cell is of code until one says otherwise."""
    if cell.cell_type != "code":
        return True
    try:
        statements = ast.parse(cell.source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # MemoryError is how the parser says that a text nests too deep.
        return True
    values = (each.value for each in statements if isinstance(each, ast.Expr))
    texts = [value for value in values if isinstance(value, ast.Constant)]
    return len([each for each in texts if isinstance(each.value, str)]) == len(statements)
