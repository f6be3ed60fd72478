"""Library code that calls something else by the same name, while everybody else notices nothing."""

import sys
import types

import pytest

from course_lib.rewiring import rewire, with_globals

LIBRARY = """
LIMIT = 3

def leaf(x): return ("leaf", x)

def middle(x, *, shift=1): return leaf(x + shift)

def even(n): return True if n == 0 else odd(n - 1)

def odd(n): return False if n == 0 else even(n - 1)

def comprehended(xs): return [leaf(x) for x in xs]

renamed = leaf

class Base:
    def who(self): return leaf("base")

class Box(Base):
    def __init__(self, x): self.x = x

    def who(self): return "box", super().who()

    @property
    def content(self): return middle(self.x)

    @classmethod
    def of(cls, x): return cls(leaf(x))

    @staticmethod
    def plain(x): return comprehended([x])

    def untouched(self): return LIMIT

def make(x): return Box(x)

def given(x, act=leaf, *, again=middle): return act(x), again(x)
"""


def mine(x):
    return ("mine", x)


@pytest.fixture
def library(monkeypatch):
    module = types.ModuleType("course_lib.made_up")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(LIBRARY, vars(module))
    return module


def test_what_a_function_calls_is_replaced_also_further_down(library):
    own = rewire(library.middle, {"leaf": mine})
    assert own(1) == ("mine", 2)
    assert own(1, shift=4) == ("mine", 5)
    assert rewire(library.comprehended, {"leaf": mine})([1]) == [("mine", 1)]


def test_a_copy_is_documented_and_called_as_the_original(library):
    library.middle.__doc__ = "Add one."
    own = rewire(library.middle, {"leaf": mine})
    assert (own.__doc__, own.__name__, own.__kwdefaults__) == ("Add one.", "middle", {"shift": 1})
    assert not hasattr(own, "__wrapped__")
    copy = with_globals(library.middle, {"leaf": mine})
    assert copy(1) == ("mine", 2), "whatever the name means, and whoever it belongs to"


def test_everybody_else_notices_nothing(library):
    before = dict(vars(library)), dict(vars(library.Box))
    rewire(library.Box, {"leaf": mine})
    rewire(library.middle, {"leaf": mine})
    assert (dict(vars(library)), dict(vars(library.Box))) == before
    assert library.middle(1) == ("leaf", 2)


def test_what_calls_none_of_them_is_returned_as_it_is(library):
    assert rewire(library.leaf, {"leaf": mine}) is library.leaf
    assert rewire(library.middle, {"even": mine}) is library.middle
    assert rewire(library.Box, {}) is library.Box
    assert rewire(library.Box, {"LIMIT": 4}) is library.Box, "a number is no part"
    assert rewire(3, {"leaf": mine}) == 3


def test_a_class_calls_it_in_every_kind_of_method(library):
    own = rewire(library.Box, {"leaf": mine})
    box = own.of(1)
    assert type(box) is own
    assert issubclass(own, library.Box)
    assert box.x == ("mine", 1)
    assert box.who() == ("box", ("mine", "base")), "through super() too"
    assert own(1).content == ("mine", 2)
    assert own.plain(1) == [("mine", 1)]
    assert own(1).untouched() == 3
    assert "untouched" not in vars(own)


def test_functions_that_call_each_other_end(library):
    assert rewire(library.even, {"leaf": mine}) is library.even
    assert rewire(library.even, {"odd": mine})(2) == ("mine", 1)


def test_a_class_that_is_made_is_replaced_too(library):
    assert rewire(library.make, {"Box": mine})(1) == ("mine", 1)


def test_what_is_a_default_is_replaced_too(library):
    own = rewire(library.given, {"leaf": mine})
    assert own(1) == (("mine", 1), ("mine", 2))
    assert own(1, again=library.leaf) == (("mine", 1), ("leaf", 1)), "what is given is used"
    assert library.given(1) == (("leaf", 1), ("leaf", 2))
    assert rewire(library.given, {"even": mine}) is library.given


def test_a_learners_own_code_calls_what_it_says(library):
    own = types.FunctionType(library.middle.__code__, {**vars(library), "__name__": "notebook"})
    assert rewire(own, {"leaf": mine}) is own


def test_a_learners_subclass_keeps_its_methods_and_inherits_rewired_ones(library):
    class Mine(library.Box):
        def who(self):
            return "my own"

    own = rewire(Mine, {"leaf": mine})
    assert (own(1).who(), own(1).content) == ("my own", ("mine", 2))
