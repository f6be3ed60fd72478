"""A method as a plain function: its class is named, and nothing else of it is shown."""

import pytest

from autograder.build.holes import BEGIN, cut, hidden_lines, stub
from autograder.build.plain import as_function
from autograder.checks.reference import Method


def marked(function):
    return function


class Base:
    def size(self):
        return 1


class Box(Base):
    """A box."""

    secret = "nobody is shown this"

    def size(
        self,
        scale: int = 1,
    ) -> int:
        """Return the size.

        >>> Box().size()
        11
        """
        # Größe: "ä" is two bytes.
        return [10, "ä", super().size()][0] + super().size()

    @property
    @marked
    def wide(self):
        """Say whether it is wide."""
        return True

    @classmethod
    def of(cls, text: str):
        """Make it."""
        return cls()

    @staticmethod
    def unit(power):
        """Return the unit."""
        return "m" * power

    def said(self: "Base", /, other):
        """Return it."""
        return self


def test_a_method_is_released_as_a_function_with_its_class_at_its_first_argument():
    assert stub(cut(Method(Box, "size"))).split("\n") == [
        "def size(",
        "    self: Box,",
        "    scale: int = 1,",
        ") -> int:",
        '    """Return the size.',
        "",
        "    >>> Box().size()",
        "    11",
        '    """',
        "    # YOUR CODE HERE",
    ]


def test_super_names_the_class_as_it_must_outside_one():
    assert as_function(Method(Box, "size")).split("\n")[-1] == (
        '    return [10, "ä", super(Box, self).size()][0] + super(Box, self).size()'
    )


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("wide", "@marked\ndef wide(self: Box):"),
        ("of", "def of(cls: type[Box], text: str):"),
        ("unit", "def unit(power):"),
        ("said", 'def said(self: "Base", /, other):'),
    ],
)
def test_decorators_of_the_class_stay_with_the_class(name, head):
    assert as_function(Method(Box, name)).startswith(head + '\n    """')


@pytest.mark.parametrize("name", ["size", "wide", "of", "unit", "said"])
def test_what_is_released_of_one_method_holds_no_line_of_another(name):
    released = stub(cut(Method(Box, name)))
    others = {"size", "wide", "of", "unit", "said"} - {name}
    for other in others:
        for line in hidden_lines(cut(Method(Box, other))):
            assert line.strip() not in released
    assert "secret" not in released
    assert BEGIN not in released


def test_the_solution_of_a_method_behaves_as_the_method():
    scope = {"Box": Box}
    exec(as_function(Method(Box, "size")), scope)
    assert Method(Box, "size").mounted(scope["size"])().size() == Box().size() == 11


def test_a_method_is_equal_to_itself_only():
    assert Method(Box, "of") == Method(Box, "of")
    assert len({Method(Box, "of"), Method(Box, "of"), Method(Box, "unit")}) == 2
    assert Method(Box, "unit")(3) == "mmm"
