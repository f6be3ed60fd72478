"""Comparing an outcome with the expected one.

Objects that stay on the learner's side are never equal to anything: a check that would compare one
is not sound, and says so with ``CheckError``.
"""

from __future__ import annotations

import ast
import math
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

from autograder.checks.finding import CheckError
from autograder.checks.show import show
from autograder.proxy.subject import Outcome, Raised, Returned
from autograder.proxy.wire import Ref

Comparison = Callable[[Any, Any], str | None]
"""Takes what was expected and what came; returns None if they agree, else the complaint, or ""."""


AS_FLOAT = "the value is right, but as a float; a whole number of type int is asked for"
"""What is said of a right whole number that came as a float."""

NOTHING_RETURNED = "nothing is returned"
"""What is said of None where something else is to be returned; of a part, that it is None."""


class FormComplaint(str):
    """A complaint about the type alone: the value is right."""

    __slots__ = ()


class Seen(dict[str, Any]):
    """What was read of an object that stayed on the learner's side.

    Attributes:
        ref: Which object it is, if it is one.
    """

    ref: Ref | None = None


@dataclass(frozen=True)
class Made:
    """Stands for an object that was made, where nothing else is asked of it."""

    kind: str = field(compare=False)

    def __repr__(self) -> str:
        return f"<{self.kind} object>"


@dataclass(frozen=True)
class Agreement:
    """Agree on the same value of the same type, floats within a tolerance.

    NaN agrees with NaN only. Shapes and, for arrays and tensors, dtypes must be the same. Lists,
    tuples, dicts and records are compared item by item. A right value of another type gets a
    ``FormComplaint``.

    Attributes:
        rel: Largest difference of two floats as a share of the expected value's size (for an array:
            of its largest element). None asks for the same type and value.
        absolute: Largest difference whatever the size.

    >>> exactly(3, 3), exactly(3, 4)
    (None, '')
    >>> exactly(3, 3.0)
    'the value is right, but as a float; a whole number of type int is asked for'
    """

    rel: float | None = None
    absolute: float = 0.0

    def __call__(self, expected: Any, got: Any) -> str | None:
        """Compare; see ``Comparison``."""
        if isinstance(expected, Ref):
            raise CheckError(_not_comparable(expected))
        if type(expected) in _NUMBERS and type(got) in _NUMBERS:
            return self._numbers(expected, got)
        if type(expected) is not type(got):
            if {type(expected), type(got)} == {list, tuple}:
                return self._other_sequence(expected, got)
            return _type_complaint(expected, got)
        if _is_array(expected):
            return self._arrays(expected, got)
        return self._item_by_item(expected, got)

    @property
    def allowed(self) -> str:
        """The tolerance in words; empty where there is none.

        >>> within(rel=1e-9).allowed
        'a difference of up to 1e-09 of the value is allowed'
        """
        limits = [f"{self.rel:g} of the value"] if self.rel else []
        limits += [f"{self.absolute:g}"] if self.absolute else []
        if not limits:
            return ""
        which = ", whichever is more," if len(limits) == 2 else ""
        return f"a difference of up to {' or '.join(limits)}{which} is allowed"

    def _numbers(self, expected: float, got: float) -> str | None:
        wanted, came = type(expected), type(got)
        is_near = self._near(expected, got)
        is_right_type = wanted is came or (self.rel is not None and (wanted, came) == (float, int))
        if is_near and is_right_type:
            return None
        if is_right_type:
            return self._how_far(expected, got) if wanted is float else ""
        if not is_near:
            return f"its value is wrong, and it is {named(came)}, not {named(wanted)}"
        if (wanted, came) == (int, float):
            return FormComplaint(AS_FLOAT)
        return FormComplaint(f"it is {named(came)}, not {named(wanted)}")

    def _near(self, expected: float, got: float) -> bool:
        if math.isnan(expected):
            return math.isnan(got)
        if self.rel is None or not isinstance(expected, float):
            return expected == got
        try:
            return math.isclose(expected, got, rel_tol=self.rel, abs_tol=self.absolute)
        except OverflowError:
            # A whole number that no float can hold.
            return False

    def _how_far(self, expected: float, got: float) -> str:
        """Say by how much a float is off and how much it may be."""
        if not self.allowed:
            return ""
        if expected != expected or got != got:
            return "it is NaN, not a number" if got != got else "it is a number, not NaN"
        try:
            off = abs(got - expected)
        except OverflowError:
            off = math.inf
        if not math.isfinite(off):
            return self.allowed
        return f"it is off by {off:.3g}{_as_share(off, expected)}; {self.allowed}"

    def _other_sequence(self, expected: Any, got: Any) -> str:
        """Compare a list with a tuple: first what is in them."""
        form = f"it is {named(type(got))}, not {named(type(expected))}"
        complaint = self._item_by_item(list(expected), list(got))
        if complaint is None:
            return FormComplaint(f"the items are right, but {form}")
        kind = FormComplaint if isinstance(complaint, FormComplaint) else str
        return kind(f"{complaint}; besides, {form}" if complaint else form)

    def _item_by_item(self, expected: Any, got: Any) -> str | None:
        """Compare two values of one type: the items of a container, anything else by equality."""
        if isinstance(expected, (list, tuple)) and len(expected) != len(got):
            return f"it has {counted(len(got), 'item')}, not {len(expected)}"
        if isinstance(expected, dict) and expected.keys() != got.keys():
            return f"its keys are {show(list(got))}, not {show(list(expected))}"
        if not isinstance(expected, (list, tuple, dict)) and not is_dataclass(expected):
            return None if _same(expected, got) else ""
        form: str | None = None
        for label, wanted, came in _items(expected, got):
            complaint = self(wanted, came)
            if complaint is None:
                continue
            if complaint == NOTHING_RETURNED:
                complaint = "it is None"
            said = f"{label}: {complaint}" if complaint else f"{label} differs"
            if not isinstance(complaint, FormComplaint):
                return said
            form = form or FormComplaint(said)
        return form

    def _arrays(self, expected: Any, got: Any) -> str | None:
        if tuple(expected.shape) != tuple(got.shape):
            return f"its shape is {tuple(got.shape)}, not {tuple(expected.shape)}"
        form = None
        if expected.dtype != got.dtype:
            form = f"its dtype is {got.dtype}, not {expected.dtype}"
        complaint = self._elements(expected, got)
        if complaint is None:
            return None if form is None else FormComplaint(form)
        return complaint if form is None else f"{complaint}; besides, {form}"

    def _elements(self, expected: Any, got: Any) -> str | None:
        want, have = _as_float64(expected), _as_float64(got)
        if want.size == 0:
            return None
        both_nan = np.isnan(want) & np.isnan(have)
        with np.errstate(invalid="ignore"):
            error = np.where(both_nan | (want == have), 0.0, np.abs(want - have))
        whole = _whole_numbers(expected), _whole_numbers(got)
        if whole[0] is not None and whole[1] is not None:
            # Two that differ may be the same float.
            error = np.where((error == 0) & (whole[0] != whole[1]), 1.0, error)
            want, have = whole[0], whole[1]
        finite = np.abs(_as_float64(want[np.isfinite(want)]))
        limit = self.absolute + (self.rel or 0.0) * (finite.max() if finite.size else 0.0)
        if np.all(error <= limit):
            return None
        worst = np.unravel_index(np.argmax(np.nan_to_num(error, nan=np.inf)), want.shape)
        where = tuple(int(i) for i in worst)
        wrong = int(np.sum(~(error <= limit)))
        allowed = f"; up to {limit:.3g} is allowed" if self.allowed else ""
        return (
            f"{wrong} of {want.size} elements differ; the largest difference is at {where}: "
            f"expected {_figure(want[worst])}, got {_figure(have[worst])}{allowed}"
        )


exactly = Agreement()
"""Agree only on the same value of the same type."""


def within(rel: float, absolute: float = 0.0) -> Agreement:
    """Agree on floats, arrays and tensors that differ by no more than a tolerance.

    A whole number is taken for a float of the same value; what is no number must be the same.

    Args:
        rel: Largest difference as a share of the expected value's size (for an array: of its
            largest element).
        absolute: Largest difference whatever the size.

    >>> close = within(rel=1e-6)
    >>> close(0.1 + 0.2, 0.3), close(2.0, 2)
    (None, None)
    >>> close(1.0, 1.1)
    'it is off by 0.1 (0.1 of the value); a difference of up to 1e-06 of the value is allowed'
    """
    return Agreement(rel, absolute)


def same_number(expected: float, got: Any) -> str | None:
    """Agree on equal numbers, whether whole or not.

    >>> same_number(8192, 8192.0), same_number(8192, 4096), same_number(8192, "8192")
    (None, '', 'it is a str, not a number')
    """
    if isinstance(got, Ref):
        return f"{_came(got)} where a number was asked{remedy(type(expected), got)}"
    if type(got) not in (int, float):
        return f"it is {named(type(got))}, not a number{remedy(type(expected), got)}"
    return None if expected == got else ""


def with_reason(complaint: str, source: str | None) -> str:
    r"""Add why a right whole number came as a float, where the answer's code shows it.

    Args:
        complaint: What is the matter with the answer.
        source: The answer's code; None where it is not at hand.

    >>> with_reason(AS_FLOAT, "def f(x): return 7.0 // x").partition("; ")[2]
    'a whole number of type int is asked for: // on floats gives a float; wrap it in int()'
    >>> with_reason(AS_FLOAT, "def f(x): return 2 ** np.ceil(x // 2)") == AS_FLOAT
    True
    >>> named = "def f(x):\n    whole = 7.0 // x\n    return whole"
    >>> with_reason(AS_FLOAT, named) == AS_FLOAT
    False
    """
    # What is said of an item of the answer is no news of the whole.
    if complaint != AS_FLOAT or source is None:
        return complaint
    try:
        tree = ast.parse(textwrap.dedent(source))
    except SyntaxError:
        return complaint
    if not _returns_a_floor_division(tree):
        return complaint
    return f"{AS_FLOAT}: // on floats gives a float; wrap it in int()"


def _returns_a_floor_division(tree: ast.AST) -> bool:
    """Say whether all that is returned is a floor division, or a name for nothing else."""
    values: dict[str, list[ast.expr | None]] = {}
    returned: list[ast.expr | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Return):
            returned.append(node.value)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                values.setdefault(ast.unparse(target), []).append(node.value)
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.NamedExpr)):
            is_plain = not isinstance(node, ast.AugAssign)
            values.setdefault(ast.unparse(node.target), []).append(node.value if is_plain else None)
    written = [
        value
        for each in returned
        for value in (values.get(each.id, [None]) if isinstance(each, ast.Name) else [each])
    ]
    # A ceiling is the floor of the other sign: -(-a // b).
    bare = [value.operand if isinstance(value, ast.UnaryOp) else value for value in written]
    return bool(bare) and all(
        isinstance(value, ast.BinOp) and isinstance(value.op, ast.FloorDiv) for value in bare
    )


def compare_outcomes(compare: Comparison, expected: Outcome, got: Outcome) -> str | None:
    """Compare two outcomes: values with ``compare``, exceptions by their class.

    An exception of a subclass of the expected class is as good as the class itself.

    Raises:
        CheckError: The expected value is, or holds, an object that cannot be compared.
    """
    if isinstance(expected, Raised):
        if isinstance(got, Raised):
            return None if expected.kinds[0] in got.kinds else _stopped_before(expected, got)
        return _came_instead(expected, _kind(got.value))
    require_plain(expected.value)
    if isinstance(got, Raised):
        return got.line or ""
    return compare(expected.value, got.value)


def _came_instead(expected: Raised, kind: str) -> str:
    """Say what is wrong with a value that came where an error is to be raised.

    >>> refused = Raised(("KeyError", "LookupError", "Exception"), "no 'a'")
    >>> for kind in ("KeyError", "LookupError", "OSError", "type", "Table"):
    ...     print(_came_instead(refused, kind))
    it returns the error, and is to raise it: no 'a'
    it returns a LookupError, and is to raise a KeyError: no 'a'
    it returns an OSError, and is to raise a KeyError: no 'a'
    it returns a class, and is to raise a KeyError: no 'a'
    it should refuse this: no 'a'
    """
    wanted = expected.kinds[0]
    if kind == wanted:
        return f"it returns the error, and is to raise it: {expected.message}"
    if kind in expected.kinds or kind.endswith("Error") or kind == "type":
        named = "class" if kind == "type" else kind
        came = f"it returns {with_article(named)}, and is to raise {with_article(wanted)}"
        return f"{came}: {expected.message}"
    return f"it should refuse this: {expected.message}"


def _kind(value: Any) -> str:
    """Return the name of a value's class, also of an object that stayed on the learner's side."""
    return value.kind if isinstance(value, (Made, Ref)) else type(value).__name__


def _stopped_before(expected: Raised, got: Raised) -> str:
    """Say where an answer stopped that should have refused itself.

    >>> late = Raised(("KeyError",), "'a'", "in line 3: del table[name]")
    >>> _stopped_before(Raised(("ValueError",), "no 'a'"), late)
    'in line 3: del table[name]; before that, it is to raise a ValueError'

    Where it raised of its own accord, only the error may be another one than is asked for.

    >>> other = Raised(("TypeError",), "no", "in line 2: raise TypeError(name)")
    >>> _stopped_before(Raised(("ValueError",), "no 'a'"), other)
    'in line 2: raise TypeError(name); there or before, it is to raise a ValueError'
    """
    if not got.line:
        return ""
    where = "there or before" if re.search(r"\b(raise|assert)\b", got.line) else "before that"
    return f"{got.line}; {where}, it is to raise {with_article(expected.kinds[0])}"


def same_values(compare: Comparison, one: Outcome, other: Outcome) -> bool:
    """Say whether two outcomes have the same values, of whatever type.

    This is for known wrong answers: objects that nobody looked into do not tell two of them apart.
    Exceptions are the same if their class is: who raises a better one has not made the mistake.

    >>> same_values(exactly, Returned(3), Returned(3.0))
    True
    """
    if isinstance(one, Raised) and isinstance(other, Raised):
        return one.kinds[0] == other.kinds[0]
    one, other = (
        Returned(_without_objects(side.value)) if isinstance(side, Returned) else side
        for side in (one, other)
    )
    complaint = compare_outcomes(compare, one, other)
    return complaint is None or isinstance(complaint, FormComplaint)


def require_plain(value: Any) -> None:
    """Make sure that a value which a check compares is plain data.

    Raises:
        CheckError: It is, or holds, an object that stays on the side where it was made.
    """
    for item in _leaves(value):
        if isinstance(item, Ref):
            raise CheckError(_not_comparable(item))


def is_nothing(value: Any) -> bool:
    """Say whether a value is what comes of a stub: None, or an empty dict or list.

    >>> is_nothing({}), is_nothing(0)
    (True, False)
    """
    return value is None or (type(value) in (dict, list) and not value)


def named(kind: type) -> str:
    """Return the name of a class with its article.

    >>> named(int), named(dict)
    ('an int', 'a dict')
    """
    return with_article(kind.__name__)


def with_article(noun: str) -> str:
    """Return the name of a class with its article.

    >>> with_article("object"), with_article("list")
    ('an object', 'a list')
    """
    # As it is said: an n-d-array.
    begins_with_vowel = noun[:1].lower() in tuple("aeiou") or noun == "ndarray"
    return f"{'an' if begins_with_vowel else 'a'} {noun}"


def counted(number: int, noun: str) -> str:
    """Return how many there are of something.

    >>> counted(1, "item"), counted(2, "item")
    ('1 item', '2 items')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


_NUMBERS = (bool, int, float)
_MADE_OF: dict[type, str] = {
    dict: "mapping",
    list: "iterable",
    tuple: "iterable",
    set: "iterable",
    int: "number",
    float: "number",
}
"""Of what ``Ref.like`` says each type of plain data could be made."""


def remedy(wanted: type, got: Any) -> str:
    """Return what makes the wanted type of a value that is like it, to end a complaint; or "".

    >>> remedy(list, Ref(1, "Bag", "iterable")), remedy(list, Ref(1, "Pool"))
    ('; list(...) makes one of it', '')
    >>> remedy(float, np.array(0.5)), remedy(list, np.array([0.5]))
    ('; .item() makes one of it', '; .tolist() makes one of it')
    """
    if isinstance(got, Ref):
        fits = got.like != "" and got.like == _MADE_OF.get(wanted)
        return f"; {wanted.__name__}(...) makes one of it" if fits else ""
    if _is_array(got):
        if wanted in _NUMBERS and math.prod(got.shape) == 1:
            return "; .item() makes one of it"
        if wanted is list and len(got.shape) > 0:
            return "; .tolist() makes one of it"
    return ""


def _not_comparable(ref: Ref) -> str:
    return (
        f"an object of class {ref.kind} would be compared, and two objects are never equal; "
        "name with reads= the attributes that stand for it, or return plain data"
    )


def _without_objects(value: Any) -> Any:
    if isinstance(value, Ref):
        return Made(value.kind)
    if isinstance(value, (list, tuple)):
        return type(value)(map(_without_objects, value))
    if isinstance(value, dict):
        return type(value)({key: _without_objects(item) for key, item in value.items()})
    return value


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for pair in value.items():
            yield from _leaves(pair)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _leaves(item)
    elif is_dataclass(value) and not isinstance(value, (Ref, type)):
        for each in fields(value):
            yield from _leaves(getattr(value, each.name))
    else:
        yield value


def _items(expected: Any, got: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the parts of two containers of one type and shape, with a label for each."""
    if isinstance(expected, (list, tuple)):
        for index, (wanted, came) in enumerate(zip(expected, got, strict=True)):
            yield f"item {index}", wanted, came
    elif isinstance(expected, dict):
        for key, wanted in expected.items():
            yield show(key), wanted, got[key]
    else:
        for each in fields(expected):
            if each.compare:
                yield each.name, getattr(expected, each.name), getattr(got, each.name)


def _as_share(off: float, expected: float) -> str:
    """Say how large a difference is beside the expected value; "" where that is 0.

    >>> _as_share(0.5, 2.0), _as_share(198.0, 2.0), _as_share(2.0, 2.0), _as_share(1.0, 0.0)
    (' (0.25 of the value)', ' (99 times the value)', ' (as much as the value itself)', '')
    """
    if not expected:
        return ""
    share = f"{off / abs(expected):.2g}"
    if share == "1":
        return " (as much as the value itself)"
    return f" ({share} {'times' if float(share) > 1 else 'of'} the value)"


def _same(expected: Any, got: Any) -> bool:
    if isinstance(expected, set):
        return set(map(_with_types, expected)) == set(map(_with_types, got))
    return bool(expected == got)


def _with_types(item: Any) -> tuple[Any, ...]:
    """Return an item of a set with its type, and with those of what is in it.

    >>> _with_types((0, True)) == _with_types((0.0, 1))
    False
    """
    inner = type(item) in (tuple, frozenset)
    return type(item), type(item)(map(_with_types, item)) if inner else item


def _type_complaint(expected: Any, got: Any) -> str:
    if got is None:
        return NOTHING_RETURNED
    wanted = named(type(expected))
    if isinstance(expected, Seen):
        wanted = f"an object with {' and '.join(expected)}"
    elif isinstance(expected, Made):
        wanted = f"an object of class {expected.kind}"
    elif expected is None:
        wanted = "None"
    if isinstance(got, (Ref, Made, Seen)):
        return f"{_came(got)} where {wanted} was asked{remedy(type(expected), got)}"
    return f"it is {named(type(got))}, not {wanted}{remedy(type(expected), got)}"


def _came(got: Ref | Made | Seen) -> str:
    return "an object came" if isinstance(got, Seen) else f"an object of class {got.kind} came"


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or type(value).__name__ == "Tensor"


def _whole_numbers(array: Any) -> np.ndarray[Any, Any] | None:
    """Return the elements of an array or tensor of whole numbers; None of any other."""
    if not isinstance(array, np.ndarray):
        if array.is_floating_point() or array.is_complex():
            return None
        array = array.numpy()
    return array if array.dtype.kind in "iu" else None


def _figure(number: Any) -> str:
    """Write a whole number out, and any other with six digits.

    >>> _figure(np.int64(2_147_483_664)), _figure(2.0 / 3)
    ('2147483664', '0.666667')
    """
    return f"{number}" if isinstance(number, np.integer) else f"{number:.6g}"


def _as_float64(array: Any) -> np.ndarray[Any, Any]:
    if isinstance(array, np.ndarray):
        return array.astype(np.float64)
    converted: np.ndarray[Any, Any] = array.double().numpy()
    return converted
