"""Three-way merge of notebooks, cell by cell: a new release meets what a learner wrote.

The three sides are ``base``, the release that the learner started from; ``new``, the release of
now; and ``mine``, the learner's notebook. Git merges lines and would cut a notebook's JSON in half;
here the unit is the cell, and one rule stands above the others: what a learner wrote is in the
result.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from autograder.matching import (
    MERGED_CELL_PREFIX,
    content,
    find_answers,
    is_answer,
    match_cells,
    nbgrader_metadata,
)

_RELEASE_KEYS = frozenset({"nbgrader", "course"})
"""Cell metadata that only a release may say."""

_LOCKING_KEYS = frozenset({"editable", "deletable"})
"""Cell metadata with which a release keeps JupyterLab from changing a cell."""


class Change(StrEnum):
    """What a merge did to one cell of a notebook. The value is what the learner reads."""

    UPDATED = "new text, you had not changed it"
    ADDED = "new cell"
    REMOVED = "dropped, you had not changed it"
    RESTORED = "came back, it is needed for grading"
    KEPT = "yours, kept"
    ANSWER_KEPT = "your answer kept, the new stub is shown below it"
    YOURS_BELOW = "new text, your version is just below it"
    OUTLIVED = "yours, kept although the lesson dropped the cell"

    @property
    def is_conflict(self) -> bool:
        """Whether both sides changed the cell, so that the learner should look at it."""
        return self in (Change.ANSWER_KEPT, Change.YOURS_BELOW, Change.OUTLIVED)


@dataclass(frozen=True)
class CellChange:
    """One change and the heading under which the learner finds it (empty above the first one)."""

    change: Change
    heading: str


@dataclass(frozen=True)
class MergeResult:
    """A merged notebook and how it differs from the three that went in."""

    notebook: NotebookNode
    changes: tuple[CellChange, ...]


def merge_notebooks(
    base: NotebookNode | None, new: NotebookNode, mine: NotebookNode
) -> MergeResult:
    """Bring the release ``new`` into the learner's notebook ``mine``.

    ========================= ========================= =========================================
    the learner               the release               result
    ========================= ========================= =========================================
    left the cell alone       changed it                the new text
    changed it                left it alone             the learner's
    changed an answer         changed it                the learner's, the new stub shown below
    changed a plain cell      changed it                the new text, the learner's version below
    changed a locked cell     either                    the new text, the learner's version below
    left it alone             dropped it                gone
    changed it                dropped it                the learner's, as a cell of their own
    deleted it                either                    gone, unless nbgrader needs the cell
    added a cell              --                        after the neighbour that it followed
    ========================= ========================= =========================================

    Released cells stand in the order of ``new``. Their metadata come from ``new`` too. Outputs stay
    where the learner's text stays. Merging the result again changes nothing.

    Args:
        base: The release that ``mine`` was copied from. None when nobody knows: then every cell
            that differs counts as changed by both sides, and a missing cell as new.
        new: The release to bring in.
        mine: The learner's notebook. All three are of format 4.5 with unique cell ids.

    Returns:
        A notebook of its own (the arguments are not changed), and the list of changes.
    """
    return _Merge(base, new, mine).result()


class _Merge:
    """One merge in progress: ``cells`` grows from the top and never holds an id twice."""

    def __init__(self, base: NotebookNode | None, new: NotebookNode, mine: NotebookNode) -> None:
        self.base_metadata: dict[str, Any] = base.metadata if base else {}
        self.base: list[NotebookNode] = base.cells if base else []
        self.new = new
        self.mine = mine
        # Each maps positions in one notebook to positions in another.
        self.new_to_base = match_cells(new.cells, self.base)
        self.mine_to_base = match_cells(mine.cells, self.base)
        self.new_to_mine = self._match_new_to_mine()
        self.new_ids = {cell.id for cell in new.cells}
        self.my_ids = {cell.id for cell in mine.cells}
        self.added_ids: set[str] = set()
        self.cells: list[NotebookNode] = []
        self.changes: list[CellChange] = []
        self.heading = ""

    def result(self) -> MergeResult:
        """Build the merged notebook, from the top down."""
        followers = self._learners_own_cells()
        waiting = followers[None]
        for position in range(len(self.new.cells)):
            # A stub that comes back stands above what was written beside it, not over it.
            if not self._comes_back_as_a_stub(position):
                self._add_own_cells(waiting)
                waiting = []
            self._add_released_cell(position)
            if position in self.new_to_mine:
                waiting = followers[self.new_to_mine[position]]
        self._add_own_cells(waiting)
        notebook = copy.deepcopy(self.new)
        notebook.cells = self.cells
        for key, value in self.mine.metadata.items():
            if key not in self.base_metadata:
                notebook.metadata.setdefault(key, value)
        return MergeResult(notebook, tuple(self.changes))

    def _match_new_to_mine(self) -> dict[int, int]:
        """Pair new cells with the learner's: by id, then by way of the base, then by the rest."""
        my_positions = {cell.id: position for position, cell in enumerate(self.mine.cells)}
        pairs = {
            new: my_positions[cell.id]
            for new, cell in enumerate(self.new.cells)
            if cell.id in my_positions
        }
        base_to_mine = {base: mine for mine, base in self.mine_to_base.items()}
        for new, base in self.new_to_base.items():
            mine = base_to_mine.get(base)
            if mine is not None and new not in pairs and mine not in pairs.values():
                pairs[new] = mine
        without_mine = [i for i in range(len(self.new.cells)) if i not in pairs]
        paired_or_old = {*pairs.values(), *self.mine_to_base}
        without_new = [i for i in range(len(self.mine.cells)) if i not in paired_or_old]
        rest = match_cells(
            [self.new.cells[i] for i in without_mine], [self.mine.cells[i] for i in without_new]
        )
        pairs |= {without_mine[new]: without_new[mine] for new, mine in rest.items()}
        spoken_for = frozenset(self.mine_to_base)
        return find_answers(self.new.cells, self.mine.cells, pairs, spoken_for)

    def _learners_own_cells(self) -> defaultdict[int | None, list[int]]:
        """Group the learner's cells without a released counterpart by the released one above."""
        released = set(self.new_to_mine.values())
        groups: defaultdict[int | None, list[int]] = defaultdict(list)
        neighbour = None
        for position in range(len(self.mine.cells)):
            if position in released:
                neighbour = position
            else:
                groups[neighbour].append(position)
        return groups

    def _add_released_cell(self, position: int) -> None:
        """Add what becomes of one cell of the new release."""
        new = self.new.cells[position]
        base = self.base[self.new_to_base[position]] if position in self.new_to_base else None
        if position in self.new_to_mine:
            self._add_merged_cell(base, new, self.mine.cells[self.new_to_mine[position]])
        elif base is None:
            self._add(copy.deepcopy(new), Change.ADDED)
        elif _has_role(new):
            self._add(copy.deepcopy(new), Change.RESTORED)

    def _comes_back_as_a_stub(self, position: int) -> bool:
        """Return whether a released cell is an answer that the learner does not have any more."""
        is_missing = position in self.new_to_base and position not in self.new_to_mine
        return is_missing and is_answer(self.new.cells[position])

    def _add_merged_cell(
        self, base: NotebookNode | None, new: NotebookNode, mine: NotebookNode
    ) -> None:
        """Add what becomes of a cell that the learner and the new release both have."""
        release_unchanged = base is not None and content(base) == content(new)
        type_can_be_restored = "attachments" not in mine  # a code cell cannot hold pictures
        if content(mine) == content(new):
            self._add(_learners_text(base, new, mine))
        elif base is not None and content(mine) == content(base):
            self._add(copy.deepcopy(new), Change.UPDATED)
        elif is_answer(new) and (mine.cell_type == new.cell_type or type_can_be_restored):
            answer = _answer(base, new, mine)
            if release_unchanged:
                self._add(answer, Change.KEPT)
            elif base is not None and content(answer) == content(base):
                # Its type alone was another.
                self._add(copy.deepcopy(new), Change.UPDATED)
            else:
                self._add(answer, Change.ANSWER_KEPT)
                self._add_stub_note(new)
        elif release_unchanged and not _has_role(new):
            self._add(_learners_text(base, new, mine), Change.KEPT)
        else:
            self._add(copy.deepcopy(new), Change.YOURS_BELOW)
            self._add_learners_version(new, mine)

    def _add_own_cells(self, positions: list[int]) -> None:
        """Add the learner's own cells, and those of the old release that they changed."""
        for position in positions:
            cell = _unlocked(self.mine.cells[position])
            if position not in self.mine_to_base:
                self._add(cell)
            elif content(cell) == content(self.base[self.mine_to_base[position]]):
                self.changes.append(CellChange(Change.REMOVED, self.heading))
            else:
                cell.id = self._fresh_id("outlived", cell.id)
                self._add(cell, Change.OUTLIVED)

    def _add_stub_note(self, new: NotebookNode) -> None:
        """Show the new stub below a kept answer, unless an interrupted update already did."""
        if _own_id("stub", new.id, new.source) not in self.my_ids:
            note: NotebookNode = new_markdown_cell(_stub_note(new))
            note.id = self._fresh_id("stub", new.id, new.source)
            self._add(note)

    def _add_learners_version(self, new: NotebookNode, mine: NotebookNode) -> None:
        """Keep what the learner wrote into a cell that takes the release's text."""
        if mine.source.strip() or mine.get("attachments"):
            cell = _unlocked(mine)
            cell.id = self._fresh_id("yours", new.id, mine.source)
            self._add(cell)

    def _fresh_id(self, *reason: str) -> str:
        """Return an id that no cell of the three notebooks and the result has."""
        taken = self.new_ids | self.my_ids | self.added_ids
        fresh = _own_id(*reason)
        while fresh in taken:
            fresh = _own_id(fresh, *reason)
        self.added_ids.add(fresh)
        return fresh

    def _add(self, cell: NotebookNode, change: Change | None = None) -> None:
        """Append a cell; ``change`` says what there is to report about it."""
        self.cells.append(cell)
        self.heading = _heading(cell) or self.heading
        if change is not None:
            self.changes.append(CellChange(change, self.heading))


def _has_role(cell: NotebookNode) -> bool:
    """Return whether nbgrader needs the cell: an answer, a test, or locked text."""
    return any(
        nbgrader_metadata(cell).get(role) for role in ("grade", "solution", "locked", "task")
    )


def _learners_text(
    base: NotebookNode | None, new: NotebookNode, mine: NotebookNode
) -> NotebookNode:
    """Return the learner's cell, outputs included, as the counterpart of ``new``."""
    cell = copy.deepcopy(mine)
    cell.id = new.id
    cell.metadata = copy.deepcopy(new.metadata)
    from_a_release = _RELEASE_KEYS | set(base.metadata if base else ())
    for key, value in mine.metadata.items():
        if key not in from_a_release:
            cell.metadata.setdefault(key, value)
    return cell


def _answer(base: NotebookNode | None, new: NotebookNode, mine: NotebookNode) -> NotebookNode:
    """Return the learner's answer in a cell of the released type (one key press changes a type)."""
    if mine.cell_type == new.cell_type:
        return _learners_text(base, new, mine)
    cell = copy.deepcopy(new)
    cell.source = mine.source
    return cell


def _unlocked(cell: NotebookNode) -> NotebookNode:
    """Return a copy of the cell that the learner may edit and nbgrader does not see.

    A pasted copy of a test cell carries its grade id, and nbgrader refuses a notebook with two.
    """
    own = copy.deepcopy(cell)
    for key in _RELEASE_KEYS | _LOCKING_KEYS:
        own.metadata.pop(key, None)
    return own


def _own_id(*what: str) -> str:
    """Return the id of a cell that a merge adds. Same reason, same id: a merge can be repeated."""
    digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()
    return f"{MERGED_CELL_PREFIX}{digest[:16]}"


def _stub_note(new: NotebookNode) -> str:
    """Return the markdown that shows a new stub below an answer to the old one."""
    longest_run = max((len(run) for run in re.findall("`+", new.source)), default=0)
    fence = "`" * max(3, longest_run + 1)
    language = "python" if new.cell_type == "code" else "markdown"
    return (
        "**This exercise changed after you answered it.** Your answer above is kept as you wrote "
        "it. The new text of its cell is below: take over what you need, run the check again, "
        f"then delete this cell.\n\n{fence}{language}\n{new.source}\n{fence}"
    )


def _heading(cell: NotebookNode) -> str:
    """Return the last heading in a markdown cell, without its marks; empty if there is none."""
    if cell.cell_type != "markdown":
        return ""
    headings = re.findall(r"^#{1,6}[ \t]+(\S.*)$", cell.source, flags=re.MULTILINE)
    return headings[-1].strip() if headings else ""
