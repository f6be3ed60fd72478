"""Cutting answers out of library code: what is released, what is hidden, what is refused."""

import ast

import pytest

from autograder.build import holes
from autograder.build.holes import BEGIN, END, STUB, cut, hidden_lines, stub
from autograder.errors import CourseError

TABLE = {}


def documented(a, b=2):
    """Add two numbers.

    >>> documented(1)
    3
    """

    # This comment is part of the answer.
    return a + b


def bare(a):
    return a


@staticmethod
def _decorator_is_kept(a):
    """Return it."""
    return a


async def coroutine(a):
    """Wait for it."""
    return await a


def only_documented():
    """Nothing to cut."""


def faded(items):
    """Count in two steps."""
    total = 0
    for item in items:
        item = abs(item)
        # Add the item
        # to the total.
        total += item
        total += 0

    # Double the total.
    total *= 2
    return total


def faded_alone(items):
    """Its step is all there is in the block."""
    for item in items:
        # Look at the item.
        print(item)
    return items


class Pool:
    """A pool.

    Attributes:
        free: What is free.
    """

    size = 3

    def __init__(self, n):
        """Make it."""
        self.free = list(range(n))

    @property
    def first(self):
        """Return the first."""
        return self.free[0]

    def take(self):
        return self.free.pop()


def released(*args, **kwargs):
    return stub(cut(*args, **kwargs))


def test_the_body_below_the_docstring_is_the_hole():
    assert cut(documented).splitlines()[6:] == [
        "",
        f"    {BEGIN}",
        "    # This comment is part of the answer.",
        "    return a + b",
        f"    {END}",
    ]
    assert released(documented).splitlines()[-2:] == ["", f"    {STUB}"]


def test_what_is_released_of_a_function_is_its_signature_and_docstring():
    shown = ast.parse(released(documented)).body[0]
    assert ast.get_docstring(shown) == documented.__doc__.replace("\n    ", "\n").strip()
    assert len(shown.body) == 1


def test_a_function_without_a_docstring_has_no_valid_stub():
    with pytest.raises(CourseError, match=r"bare: without its holes it is not valid Python"):
        cut(bare)


@pytest.mark.parametrize("function", [coroutine, _decorator_is_kept.__func__])
def test_other_kinds_of_functions_are_cut_in_the_same_way(function):
    hidden = "\n".join(hidden_lines(cut(function)))
    assert "return" in hidden
    assert "return" not in released(function)


def test_the_methods_that_are_named_become_holes():
    marked = cut(Pool, methods=["__init__", "first"])
    assert hidden_lines(marked) == [
        "        self.free = list(range(n))",
        "        return self.free[0]",
    ]
    shown = stub(marked)
    assert shown.count(STUB) == 2
    assert "return self.free.pop()" in shown
    assert "@property" in shown
    assert '"""A pool.' in shown
    ast.parse(shown)


def test_a_step_is_the_code_below_its_comment_up_to_a_blank_line_or_the_end_of_the_block():
    marked = cut(faded, steps=["Double the total"])
    assert hidden_lines(marked) == ["    total *= 2", "    return total"]
    shown = stub(marked).splitlines()
    assert shown[-2:] == ["    # Double the total.", f"    {STUB}"]


def test_steps_may_be_given_in_any_order_and_each_has_a_stub_with_its_indent():
    forward = cut(faded, steps=["to the total", "Double the total"])
    assert cut(faded, steps=["Double the total", "to the total"]) == forward
    assert hidden_lines(forward)[:2] == ["        total += item", "        total += 0"]
    assert f"        # to the total.\n        {STUB}\n" in stub(forward)


def test_of_a_whole_class_everything_below_its_docstring_may_be_the_hole():
    released_of_it = released(Pool, ["*"])
    assert released_of_it.splitlines()[0] == "class Pool:"
    assert released_of_it.endswith(f'free: What is free.\n    """\n\n    {STUB}')
    assert len(hidden_lines(cut(Pool, ["*"]))) > 10


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((Pool,), r"Pool: no holes named; its methods are __init__, first, take"),
        ((Pool, ["give_back"]), r"Pool: give_back named; its methods are __init__"),
        ((Pool, ["take"]), r"Pool: without its holes it is not valid Python"),
        ((documented, ["take"]), r"documented is a function; holes=take needs a class"),
        ((only_documented,), r"only_documented has a docstring and nothing else"),
        ((faded, (), ["Triple"]), r"faded: 0 comments begin with '# Triple'; exactly one must"),
        ((faded, (), [""]), r"faded: 3 comments begin with '# '; exactly one must"),
        ((faded, (), ["Add the item", "to the total"]), r"must come in pairs"),
        ((faded_alone, (), ["Look at"]), r"faded_alone: without its holes it is not valid Python"),
        ((lambda a: a,), r"no def or class to cut out; give the cell a body"),
        ((TABLE,), r"no def or class to cut out"),
        ((len,), r"no def or class to cut out"),
    ],
)
def test_what_cannot_be_cut_is_refused_in_one_line(arguments, says):
    with pytest.raises(CourseError, match=says) as caught:
        cut(*arguments)
    assert "\n" not in str(caught.value)


def test_without_its_markers_a_cut_source_is_the_library_s_own():
    marked = cut(faded, steps=["to the total", "Double the total"])
    whole = [line for line in marked.splitlines() if line.strip() not in (BEGIN, END)]
    source = cut(faded, steps=["Double the total"])
    assert whole == [line for line in source.splitlines() if line.strip() not in (BEGIN, END)]


MARKED = (
    f"a = 1\n{BEGIN}\nb = 2\nc = 3\n{END}\nd = 4\nif d:\n    {BEGIN}\n    e = 5\n    {END}\nf = 6"
)


def test_a_stub_has_one_line_for_each_hole_and_all_lines_outside():
    assert stub(MARKED).splitlines() == ["a = 1", STUB, "d = 4", "if d:", f"    {STUB}", "f = 6"]


def test_the_hidden_lines_are_those_between_the_markers():
    assert hidden_lines(MARKED) == ["b = 2", "c = 3", "    e = 5"]


def test_a_hidden_line_that_is_also_shown_is_still_hidden():
    assert hidden_lines(f"x = 0\n{BEGIN}\nx = 0\ny = 1\n{END}\nx = 0") == ["x = 0", "y = 1"]
    assert hidden_lines(f"x = 0\n{BEGIN}\ny = 1\nx = 0\n{END}\nx = 0") == ["y = 1", "x = 0"]


@pytest.mark.parametrize(
    "marked",
    [
        "x = 1",
        f"{BEGIN}\nx = 1",
        f"x = 1\n{END}",
        f"{END}\n{BEGIN}",
        f"{BEGIN}\n{BEGIN}\n{END}\n{END}",
        f"{BEGIN}\n{END}\n{END}",
    ],
)
def test_markers_come_in_pairs(marked):
    with pytest.raises(CourseError, match=r"exercise 1\.1: .* must come in pairs"):
        holes.validate(marked, "exercise 1.1")
