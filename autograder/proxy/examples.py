"""The examples in docstrings, run where the learner's code is: what does each print?"""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from typing import Any

from autograder.written import functions_of


def printed_by_examples(obj: Any) -> list[tuple[str, str, str]]:
    r"""Run the examples of an object's docstrings, those of a class's methods included.

    Each docstring is a run of its own, in what its module defines, as ``doctest`` does it.

    Args:
        obj: A function or class.

    Returns:
        For each example its code, what its docstring says that it prints, and what it printed, or
        the exception that it raised instead.

    >>> def double(x):
    ...     '''Return it twice.
    ...
    ...     >>> double(2)
    ...     5
    ...     '''
    ...     return 2 * x
    >>> printed_by_examples(double)
    [('double(2)\n', '5\n', '4\n')]
    """
    printed: list[tuple[str, str, str]] = []
    for test in _tests_of(obj):
        test.globs[obj.__name__] = obj
        runner = _Recorder(printed)
        runner.run(test, out=_nothing)
    return printed


class _Recorder(doctest.DocTestRunner):
    """Notes what each example prints, instead of reporting it."""

    def __init__(self, printed: list[tuple[str, str, str]]) -> None:
        super().__init__(verbose=True, optionflags=OPTIONS)
        self._printed = printed

    def report_start(self, out: Any, test: Any, example: doctest.Example) -> None:
        """Say nothing."""

    def report_success(self, out: Any, test: Any, example: doctest.Example, got: str) -> None:
        """Note what it printed."""
        self._note(example, got)

    def report_failure(self, out: Any, test: Any, example: doctest.Example, got: str) -> None:
        """Note what it printed."""
        self._note(example, got)

    def report_unexpected_exception(
        self, out: Any, test: Any, example: doctest.Example, exc_info: Any
    ) -> None:
        """Note what it raised."""
        self._note(example, f"{exc_info[0].__name__}: {exc_info[1]}\n")

    def _note(self, example: doctest.Example, got: str) -> None:
        # An exception that was expected is reported by what was expected of it.
        got = example.want if example.exc_msg is not None and not got else got
        self._printed.append((example.source, example.want, got))


OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
"""An ellipsis stands for anything, and blanks for one another."""


def _tests_of(obj: Any) -> Iterator[doctest.DocTest]:
    parser = doctest.DocTestParser()
    functions = functions_of(obj)
    names = functions[0].__globals__ if functions else {}
    documented = [obj, *(each for each in functions if each is not obj)]
    for each in documented:
        name, text = str(each.__name__), str(each.__doc__ or "")
        found = parser.get_doctest(text, dict(names), name, None, 0)
        if found.examples:
            yield found


def _nothing(text: str) -> None:
    """Print nothing."""
