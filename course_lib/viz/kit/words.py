"""What all figures say alike: numbers with their nouns."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "block"), counted(0, "block"), counted(1200, "cell")
    ('1 block', '0 blocks', '1,200 cells')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"
