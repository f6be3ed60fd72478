"""Checks of lines to put in order (Parsons problems): the learner answers with labels.

The lines are those of a library function, so nothing is typed twice. They are the check's own text:
putting them together runs no code that a learner wrote. What is put together is then examined by
the check of that function, so every order that works is right.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import io
import linecache
import random
import sys
import textwrap
import tokenize
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from string import ascii_uppercase
from typing import Any

from autograder.checks.compare import is_nothing, remedy
from autograder.checks.exercise import Check
from autograder.checks.finding import CHECKED, Counterexample, Finding, Misconception
from autograder.checks.reference import plain
from autograder.checks.show import show, show_outcome
from autograder.proxy.subject import PATIENCE, LocalSubject, Raised, Subject
from autograder.proxy.wire import kind_of


@dataclass(frozen=True)
class Distractor:
    """A line that looks as if it belonged.

    Attributes:
        text: The line, or the lines of a piece, without the indentation of the first.
        instead_of: How the right line begins for which one may take it.
        name: The idea behind it, in a few words.
        explanation: One sentence that says what is wrong with it and why.
    """

    text: str
    instead_of: str
    name: str
    explanation: str


@dataclass(frozen=True)
class Displaced:
    """A line that belongs before another one, and is left out or stands too late.

    Attributes:
        line: How the line begins.
        before: How the line begins before which it has to stand.
        name: The idea behind it, in a few words.
        explanation: One sentence that says what is wrong then and why.
        after: How lines begin that stand in front of it, and may be too late as well.
    """

    line: str
    before: str
    name: str
    explanation: str
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class ParsonsCheck:
    """The property that lines, put in the order of the labels, do what the function does.

    Attributes:
        exercise_id: Decides the order in which the lines are shown.
        inner: The check of the function; its reference is where the lines come from.
        distractors: Lines that do not belong.
        joined: How lines begin that stay below the line before them, as one piece.
        displaced: Lines that people are known to leave out or to place too late.
        patience: Seconds that one call of what was put together may take.
    """

    exercise_id: str
    inner: Check
    distractors: tuple[Distractor, ...] = ()
    joined: tuple[str, ...] = ()
    patience: float = PATIENCE
    displaced: tuple[Displaced, ...] = ()

    @property
    def reference(self) -> Any:
        """The function that the lines make."""
        return self.inner.reference

    @cached_property
    def lines(self) -> dict[str, str]:
        """The lines with their indentation, by label, in the order in which they are shown."""
        return dict(zip(ascii_uppercase, (text for text, _ in self._shuffled), strict=False))

    @cached_property
    def solution(self) -> tuple[str, ...]:
        """The labels of the lines in the order of the library's function."""
        labels = dict(zip((place for _, place in self._shuffled), ascii_uppercase, strict=False))
        return tuple(labels[place] for place in range(len(self._pieces)))

    @property
    def misconceptions(self) -> tuple[Misconception, ...]:
        """The right order with a distractor for the line it stands for, or without a line."""
        taken = (
            Misconception(each.name, each.explanation, list(self._with(number)))
            for number, each in enumerate(self.distractors)
        )
        left_out = (
            Misconception(
                each.name,
                each.explanation,
                [label for label in self.solution if label != self._label_of(each.line)],
            )
            for each in self.displaced
        )
        return (*taken, *left_out)

    def assembled(self, labels: Sequence[str]) -> str:
        """Return the source of the function that lines in this order make."""
        return "\n".join([self._head, *(self.lines[label] for label in labels)])

    def made(self, labels: Sequence[str]) -> Callable[..., Any]:
        """Return the function that lines in this order make; it knows its source.

        Args:
            labels: The order, however it may be written in an answer.

        Raises:
            SyntaxError: They do not make one.
        """
        labels = _letters(labels)
        source = self.assembled(labels) + "\n"
        filename = f"<{self.exercise_id}: {''.join(labels)}>"
        code = compile(
            source, filename, "exec", __future__.annotations.compiler_flag, dont_inherit=True
        )
        original = self._function
        scope = {**vars(sys.modules[original.__module__]), "__name__": f"order_{len(labels)}"}
        exec(code, scope)
        # Without a time it counts as always fresh, so that a traceback finds the line.
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        function: Callable[..., Any] = scope[original.__name__]
        return function

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Put the lines together and examine what comes of it."""
        outcome = subject.value()
        if isinstance(outcome, Raised):
            return _refused("a list of letters", show_outcome(outcome))
        labels = _letters(outcome.value)
        problem = self._problem_with(labels)
        if problem:
            got = show(labels)
            refused = _refused('a list of letters, such as ["B", "A"]', got, problem)
            return replace(refused, unwritten=is_nothing(labels))
        try:
            function = self.made(labels)
        except SyntaxError as error:
            return self._blamed(self._no_function(labels, error), labels)
        finding = self.inner.examine(LocalSubject(function, self.patience), seed, max_examples)
        strange = [label for label in labels if self._distractor_at(label) is not None]
        if finding.fraction == 1 and strange:
            problem = f"the function works, and line {strange[0]} does not belong in it"
            return _refused("only lines that belong", show(labels), problem)
        if finding.fraction == 1:
            return finding
        finding = replace(finding, unwritten=False)
        for mended, misconception in self._mended(labels):
            if self._works(mended, seed, max_examples):
                return replace(finding, misconception=misconception, alike=(), confirmed=True)
        return self._blamed(finding, labels)

    def _works(self, labels: list[str], seed: int, max_examples: int) -> bool:
        """Say whether lines in this order do what the function does."""
        try:
            function = self.made(labels)
        except SyntaxError:
            return False
        subject = LocalSubject(function, self.patience)
        return self.inner.examine(subject, seed, max_examples).fraction == 1

    def _mended(self, labels: list[str]) -> Iterator[tuple[list[str], Misconception]]:
        """Yield the order without one known mistake that is in it, and that mistake."""
        taken = [self._distractor_at(label) for label in labels]
        wrong = [number for number in taken if number is not None]
        if len(wrong) == 1:
            right = self.solution[self._place_of(self.distractors[wrong[0]])]
            at = taken.index(wrong[0])
            # Where both are there, the one that does not belong is an addition and no mistake.
            if right not in labels:
                yield [*labels[:at], right, *labels[at + 1 :]], self.misconceptions[wrong[0]]
        for each, misconception in zip(
            self.displaced, self.misconceptions[len(self.distractors) :], strict=True
        ):
            line, before = self._label_of(each.line), self._label_of(each.before)
            moved = [*map(self._label_of, each.after), line]
            rest = [label for label in labels if label not in moved]
            if before in rest and line not in labels[: labels.index(before)]:
                at = rest.index(before)
                yield [*rest[:at], *moved, *rest[at:]], misconception

    def _problem_with(self, labels: Any) -> str:
        """Say what keeps an answer from being an order of lines; "" if nothing does."""
        if not isinstance(labels, list):
            return f"it is of type {kind_of(labels)}, not a list{remedy(list, labels)}"
        if not labels:
            return "there is no line in it"
        unknown = [
            label for label in labels if not isinstance(label, str) or label not in self.lines
        ]
        if unknown:
            return f"there is no line {show(unknown[0])}; lines: {', '.join(self.lines)}"
        twice = [label for label in labels if labels.count(label) > 1]
        return f"line {twice[0]} is there {labels.count(twice[0])} times" if twice else ""

    def _no_function(self, labels: list[str], error: SyntaxError) -> Finding:
        """Return the finding for lines that Python does not take in this order."""
        body = self.assembled(labels)[len(self._head) + 1 :]
        above = self._head.count("\n") + 1
        line = max(1, (error.lineno or 1) - above)
        # Where Python counts lines, it counts the head as well.
        said = error.msg.partition(" on line ")[0]
        got = f"{type(error).__name__}: {said}"
        return _refused("a function", got, f"line {line} of these", body)

    def _blamed(self, finding: Finding, labels: list[str]) -> Finding:
        """Return the finding with the lines that do not belong or are missing, whatever else is."""
        strange = [label for label in labels if self._distractor_at(label) is not None]
        missing = len(self.solution) + len(strange) - len(labels)
        case = finding.counterexample
        if case is None or not (strange or missing):
            return replace(finding, misconception=None, alike=())
        # Why numbers come out wrong is no matter while lines are missing.
        is_of_numbers = case.label != CHECKED and case.raised is None
        said = [case.complaint] if case.complaint and not (missing and is_of_numbers) else []
        if len(strange) > 1:
            said.append(f"lines {' and '.join(strange)} do not belong")
        elif strange:
            said.append(f"line {strange[0]} does not belong")
        if missing:
            verb = "is" if missing == 1 else "are"
            said.append(f"{missing} of the {len(self.solution)} lines that belong {verb} missing")
        case = replace(case, complaint="; ".join(said))
        return replace(finding, counterexample=case, misconception=None, alike=())

    def _distractor_at(self, label: str) -> int | None:
        """Return the number of the distractor with a label; None for a line that belongs."""
        place = self._shuffled[list(self.lines).index(label)][1]
        return None if place < len(self._pieces) else place - len(self._pieces)

    def _with(self, number: int) -> Sequence[str]:
        """Return the right order with a distractor in the place of the line it stands for."""
        place = len(self._pieces) + number
        at = [each for _, each in self._shuffled].index(place)
        replaced = self._place_of(self.distractors[number])
        return [*self.solution[:replaced], ascii_uppercase[at], *self.solution[replaced + 1 :]]

    def _place_of(self, distractor: Distractor) -> int:
        """Return which line of the function a distractor stands for."""
        return self._place_beginning(distractor.instead_of)

    def _label_of(self, start: str) -> str:
        """Return the label of the line that begins so."""
        return self.solution[self._place_beginning(start)]

    def _place_beginning(self, start: str) -> int:
        """Return which line of the function begins so."""
        found = [
            place for place, piece in enumerate(self._pieces) if piece.lstrip().startswith(start)
        ]
        if len(found) != 1:
            raise ValueError(
                f"{self.exercise_id}: {len(found)} lines begin with {start!r}; a distractor, or a "
                "line that is displaced, stands for exactly one"
            )
        return found[0]

    @cached_property
    def _function(self) -> Callable[..., Any]:
        """The reference as a plain function: a method is one with its object as an argument."""
        function: Callable[..., Any] = plain(self.reference)
        return function

    @cached_property
    def _parts(self) -> tuple[str, tuple[str, ...]]:
        """The head of the function with its docstring, and the lines of its body."""
        return _cut(self._function, self.joined)

    @property
    def _head(self) -> str:
        return self._parts[0]

    @property
    def _pieces(self) -> tuple[str, ...]:
        return self._parts[1]

    @cached_property
    def _shuffled(self) -> list[tuple[str, int]]:
        """Lines and distractors in the order shown, each with its place; distractors come last."""
        texts = list(self._pieces)
        for distractor in self.distractors:
            right = self._pieces[self._place_of(distractor)]
            indent = right[: len(right) - len(right.lstrip())]
            texts.append(textwrap.indent(distractor.text, indent))
        if len(texts) > len(ascii_uppercase):
            raise ValueError(
                f"{self.exercise_id}: {len(texts)} lines and {len(ascii_uppercase)} letters; join "
                "some lines"
            )
        shown = [(text, place) for place, text in enumerate(texts)]
        # A seed of text gives the same order in every Python and every process.
        random.Random(self.exercise_id).shuffle(shown)
        return shown


def _letters(value: Any) -> Any:
    """Return an order as a list of capital letters, however it is written.

    >>> _letters(("b", " A")), _letters("B, A"), _letters(7)
    (['B', 'A'], ['B', 'A'], 7)
    """
    if isinstance(value, str):
        value = [letter for letter in value if letter.isalnum()]
    if isinstance(value, (list, tuple)):
        return [each.strip().upper() if isinstance(each, str) else each for each in value]
    return value


def _cut(function: Callable[..., Any], joined: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return the head of a function, docstring included, and its statements line by line.

    Comments are left out: they would tell the order.
    """
    source = textwrap.dedent(inspect.getsource(function))
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef)
    first = node.body[1] if ast.get_docstring(node) is not None else node.body[0]
    lines = source.splitlines()
    pieces: list[str] = []
    for start, end in _logical_lines(source):
        if start < first.lineno:
            continue
        text = "\n".join(lines[start - 1 : end])
        if pieces and text.lstrip().startswith(tuple(joined)):
            pieces[-1] += f"\n{text}"
        else:
            pieces.append(text)
    head = [*lines[: first.lineno - 1]]
    while not head[-1].strip() or head[-1].lstrip().startswith("#"):
        head.pop()
    return "\n".join(head), tuple(pieces)


def _logical_lines(source: str) -> list[tuple[int, int]]:
    r"""Return the first and last line, from 1, of each statement or head of a block.

    >>> _logical_lines("while a(\n    1):\n\n    b()\n")
    [(1, 2), (4, 4)]
    """
    spans: list[tuple[int, int]] = []
    start: int | None = None
    without_text = (tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NEWLINE:
            assert start is not None
            spans.append((start, token.end[0]))
            start = None
        elif start is None and token.type not in without_text:
            start = token.start[0]
    return spans


def _refused(expected: str, got: str, complaint: str = "", case: str = "your order") -> Finding:
    return Finding(0.0, Counterexample(case, expected, got, complaint, label=CHECKED))
