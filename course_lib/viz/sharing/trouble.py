"""What stands in place of a picture when a learner's manager or pool fails."""

from __future__ import annotations

from course_lib.viz.kit.layout import WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.paged_attention.words import trouble_scene


def error_in_words(error: Exception) -> str:
    """Return what an error says, with its kind in front.

    >>> error_in_words(KeyError("r7")), error_in_words(NotImplementedError())
    ("KeyError: 'r7'", 'NotImplementedError')
    """
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def trouble_of(title: str, step: str, problem: str, width: float = WIDE) -> Scene:
    """Draw what went wrong in place of a picture.

    Args:
        title: What the picture would have been called.
        step: What was to be done.
        problem: What came instead.
        width: Width of the picture.

    >>> trouble_of("A fork", "c1 writes", "KeyError: 'c1'").alt
    "c1 writes: KeyError: 'c1'. There is nothing to draw until that works."
    """
    then = "There is nothing to draw until that works."
    return trouble_scene(title, f"{step}: {problem}", width, "Your part stopped here", then)
