"""A check's cell: the text that is run, and what of its result is a score.

Nothing here needs nbgrader, which takes a second and more to import.
"""

from __future__ import annotations

import re

_CALL = re.compile(r"^check\(", flags=re.MULTILINE)


def independent(source: str) -> str:
    """Return a check cell's text as it is run: what a student called ``check`` does not matter.

    >>> independent('check("1.W1", check)')
    '__import__("autograder.notebook").notebook.check("1.W1", check)'
    """
    return _CALL.sub('__import__("autograder.notebook").notebook.check(', source)


def score(shown: str, maximum: float) -> float | None:
    """Return the score that a test cell's result shows, or None if it shows none.

    >>> score("7.5", 10), score("nan", 10), score("'10'", 10), score("True", 10), score("11", 10)
    (7.5, None, None, None, None)
    """
    try:
        value = float(shown)
    except ValueError:
        return None
    # NaN and the infinities are not between these.
    return value if 0 <= value <= maximum else None
