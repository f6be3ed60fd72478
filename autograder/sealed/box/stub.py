"""What stands for a body that an exercise asks for, and remembers that somebody has asked for it.

It runs among the learner's code, which may say of it what it likes: whoever is said to have met one
is only judged once more, in a box in which all other bodies are whole.
"""

from __future__ import annotations

met: set[str] = set()
"""The exercises whose stubs have run in this process."""


def asked_for(exercise: str, name: str) -> NotImplementedError:
    """Return what a stub raises.

    Args:
        exercise: The exercise that asks for the body.
        name: What the body is of.

    >>> asked_for("1.1", "kv_bytes_per_token")
    NotImplementedError('exercise 1.1 asks for kv_bytes_per_token')
    >>> "1.1" in met
    True
    """
    met.add(exercise)
    return NotImplementedError(f"exercise {exercise} asks for {name}")
