"""Strategies that make a failing case say something."""

from __future__ import annotations

from hypothesis import strategies as st

PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29)
"""Small, and no two products of different ones are the same."""


def different_primes(*names: str) -> st.SearchStrategy[dict[str, int]]:
    """Draw a small prime for each name, no two the same, small ones first.

    In a failing case every factor then shows: where 2 x 3 x 5 was asked and 2 x 3 x 7 came, it is
    plain which was taken for which.

    Args:
        names: What to draw for, at most as many as there are ``PRIMES``.

    Raises:
        ValueError: There are too few primes.

    >>> from hypothesis import find
    >>> find(different_primes("layers", "heads", "width"), lambda drawn: True)
    {'layers': 2, 'heads': 3, 'width': 5}
    """
    if len(names) > len(PRIMES):
        raise ValueError(f"{len(names)} names, but {len(PRIMES)} primes; draw some otherwise")
    size = len(names)
    primes = st.lists(st.sampled_from(PRIMES), min_size=size, max_size=size, unique=True)
    return primes.map(lambda drawn: dict(zip(names, drawn, strict=True)))
