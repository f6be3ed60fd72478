"""The one exception whose message is meant for the person at the keyboard."""

from __future__ import annotations


class CourseError(Exception):
    """Something that the user can put right.

    The message is one line: the value, the rule, the remedy. The command line prints it without a
    traceback and exits with code 1.

    >>> raise CourseError("port 8888 is in use; free it, or choose another with --port 8899")
    Traceback (most recent call last):
        ...
    autograder.errors.CourseError: port 8888 is in use; free it, or choose another with --port 8899
    """

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows in place of a traceback: the message alone."""
        return [f"{type(self).__name__}: {self}"]
