"""What every exercise must survive, of whatever kind: no wrong answer earns full marks by accident.

A new lesson is covered by being there. Each wrong answer is made from the right one: the reference
is called, and then the argument is changed, given back, or looked at once per item. A small check
of each kind that no lesson has yet stands beside the lessons' own.
"""

import inspect
import io
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from autograder import lessons
from autograder.checks.answers import right_answer
from autograder.checks.exercise import Exercise
from autograder.checks.function import Call, FunctionCheck, Large
from autograder.checks.reference import Method
from autograder.checks.stateful import StatefulCheck, Twin
from autograder.proxy.subject import LocalSubject
from autograder.proxy.wire import write_frame
from course_lib.kv_cache import BlockTable
from course_lib.mounting import mount

# One check of each kind that no lesson has yet


def block_ids(tokens: Sequence[int], block_size: int) -> list[int]:
    """Return the block of each token."""
    return [token // block_size for token in tokens]


class Table:
    """Keeps block ids in order."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    def append(self, ids: Sequence[int]) -> int:
        """Add ids at the end; return how many there are."""
        self.ids = [*self.ids, *ids]
        return len(self.ids)

    def tail(self, ids: list[int]) -> list[int]:
        """Return the ids and the last one of the table."""
        return [*ids, *self.ids[-1:]]


class TableMachine(Twin):
    """Everything that can be done to a table."""

    ids = st.lists(st.integers(0, 9), max_size=3)

    @initialize()
    def start(self):
        self.create()

    @rule(ids=ids)
    def append(self, ids):
        self.do("append", ids)

    @rule(ids=ids)
    def tail(self, ids):
        self.do("tail", ids)


def appends(life):
    life.create()
    life.do("append", [3, 4])
    life.do("tail", [5])


class BlockTableMachine(Twin):
    """What can be done to a block table."""

    @initialize(block_size=st.integers(1, 4))
    def start(self, block_size):
        self.create(block_size)

    @rule(ids=st.lists(st.integers(0, 9), max_size=3))
    def append(self, ids):
        self.do("append", ids)
        self.see("block_ids")


def appends_blocks(life):
    life.create(4)
    life.do("append", [7, 3])
    life.see("block_ids")


SAMPLES = (
    Exercise(
        "99.1",
        "a function",
        "Return it.",
        FunctionCheck(
            block_ids,
            st.builds(Call, st.lists(st.integers(0, 9), max_size=4), st.integers(1, 3)),
            (Call([3, 4], 2), Call([1], 1)),
            large=(Large(lambda: Call(list(range(20_000)), 4), "20,000 tokens", seconds=0.2),),
        ),
        points=1,
    ),
    Exercise("99.2", "a class", "Write it.", StatefulCheck(Table, TableMachine, (appends,)), 1),
    Exercise(
        "99.3",
        "a method",
        "Write it.",
        StatefulCheck(Method(BlockTable, "append"), BlockTableMachine, (appends_blocks,)),
        1,
    ),
)

EXERCISES = [
    *(exercise for lesson in lessons.numbers() for exercise in lessons.exercises(lesson)),
    *SAMPLES,
]

FUNCTIONS = [e for e in EXERCISES if isinstance(e.check, FunctionCheck)]
CLASSES = [e for e in EXERCISES if isinstance(e.check, StatefulCheck)]
CALLED = [*FUNCTIONS, *CLASSES]


def of(exercises):
    return pytest.mark.parametrize("exercise", exercises, ids=lambda exercise: exercise.id)


@pytest.fixture(autouse=True)
def any_failing_case(first_failing_case):
    """Take a failing case nearly as it is found."""


FEW, MANY = 5, 25
"""Examples: what is unusual about an answer is the same with every call here, if it is not about
two calls that are alike in something."""


def examine(exercise, answer, timeout=10.0, max_examples=FEW):
    return exercise.examine(LocalSubject(answer, timeout), max_examples=max_examples)


def in_turn(exercises, values, most):
    """Run a test for each exercise with some of the values, which take turns.

    Args:
        exercises: The exercises.
        values: The values.
        most: How many of them an exercise meets.
    """
    turns = itertools.cycle(values)
    pairs = [(each, value) for each in exercises for value in itertools.islice(turns, most(each))]
    ids = [f"{exercise.id}-{repr(value)[:8]}" for exercise, value in pairs]
    return pytest.mark.parametrize(("exercise", "value"), pairs, ids=ids)


def changeable(arguments):
    """Return the arguments that a call could change."""
    return [each for each in arguments if type(each) in (list, dict, set) or is_array(each)]


def is_array(value):
    return hasattr(value, "shape") and hasattr(value, "dtype")


def sequences(arguments):
    return [each for each in arguments if type(each) in (list, tuple)]


def takes_what_can_change(exercise):
    return any(changeable([*p.args, *p.kwargs.values()]) for p in exercise.check.probes)


def takes_lists(exercise):
    """Say whether a class, or the method that is asked for, is given lists at all."""
    reference = exercise.check.reference
    methods = [reference.function] if isinstance(reference, Method) else vars(reference).values()
    given = [
        str(kind)
        for method in methods
        if inspect.isfunction(method)
        for name, kind in inspect.get_annotations(method).items()
        if name != "return"
    ]
    return any(word in kind for kind in given for word in ("list", "Iterable", "Sequence"))


def is_long(exercise):
    """Say whether the large calls of a check have a long sequence."""
    calls = [large.make() for large in exercise.check.large]
    given = [each for call in calls for each in (*call.args, *call.kwargs.values())]
    return any(len(each) > 1000 for each in sequences(given))


def spoilt(arguments):
    for each in changeable(arguments):
        if is_array(each):
            each[...] = 0
        elif isinstance(each, list):
            each.append(each[-1] if each else 0)
        else:
            each.clear()


def wrapped(exercise, around):
    """Return the right answer with something around each call: a function, class or method."""
    check = exercise.check
    right = right_answer(check)
    if isinstance(check, FunctionCheck):
        return lambda *args, **kwargs: around(right, args, kwargs)
    reference = check.reference
    if isinstance(reference, Method):
        return lambda self, *args, **kwargs: around(right, (self, *args), kwargs)
    public = {name: each for name, each in vars(right).items() if name[0] != "_"}
    # What is read like an attribute is written like a method.
    written = {n: e.fget if isinstance(e, property) else e for n, e in public.items()}
    return mount(right, {n: _around(e, around) for n, e in written.items() if callable(e)})


def _around(method, around):
    return lambda *args, **kwargs: around(method, args, kwargs)


# What is wrong on its face


# Of what cannot be called, a check that calls it asks no more. Any other looks at the value itself.
@in_turn(
    EXERCISES,
    [object(), None, 0, 1, True, "", [], {}, 0.5, ()],
    most=lambda each: 1 if isinstance(each.check, (FunctionCheck, StatefulCheck)) else 3,
)
def test_a_constant_in_the_place_of_the_answer_earns_nothing(exercise, value):
    assert examine(exercise, value).fraction == 0


# None and an object are the next tests'.
@in_turn(CALLED, [0, 1.0, True, [], {}], most=lambda exercise: 2)
def test_a_constant_that_every_call_returns_loses_points(exercise, value):
    finding = examine(exercise, wrapped(exercise, lambda right, args, kwargs: value))
    assert finding.fraction < 1
    assert "Ref" not in repr(finding.counterexample)


WITHOUT_LENGTH = {"9.1", "9.4"}
"""Queues whose length is asked for after each step: None is none, which a stub does not return."""


@of(CALLED)
def test_an_answer_that_takes_and_does_nothing_is_not_started(exercise):
    finding = examine(exercise, wrapped(exercise, lambda right, args, kwargs: None))
    assert finding.fraction == 0
    assert "Ref" not in repr(finding.counterexample)
    assert (
        finding.unwritten
        or isinstance(exercise.check.reference, Method)
        or exercise.id in WITHOUT_LENGTH
    )


USED_BY_THE_REST = {"9.2a", "9.6", "12.4", "12.5", "13.1b", "13.3b"}
"""Methods that only other methods of the class call: those fail before a value is looked at."""

LEFT_UNDONE = {"13.5"}
"""A method that ends requests: that they go on, or that nothing is refused, is seen in fewer steps
than what it returns. A life that asks for its value alone is among the probes."""


@of(CALLED)
def test_object_as_the_value_is_called_by_its_class(exercise):
    finding = examine(exercise, wrapped(exercise, lambda right, args, kwargs: object()))
    assert finding.fraction == 0
    if exercise.id not in USED_BY_THE_REST | LEFT_UNDONE:
        assert "object" in f"{finding.counterexample.got} {finding.counterexample.complaint}"


# What is right at first sight


@of(FUNCTIONS)
def test_the_right_value_of_one_example_is_not_enough(exercise):
    probe = exercise.check.probes[0]
    value = LocalSubject(right_answer(exercise.check)).call(probe.args, probe.kwargs).value
    finding = examine(exercise, wrapped(exercise, lambda right, args, kwargs: value))
    assert finding.fraction < 1


LISTED = [exercise for exercise in CLASSES if takes_lists(exercise)]


def mutates(right, args, kwargs):
    value = right(*args, **kwargs)
    spoilt([*args, *kwargs.values()])
    return value


@of([e for e in FUNCTIONS if takes_what_can_change(e) and not e.check.writes] + LISTED)
def test_an_argument_that_is_changed_loses_points_and_is_named(exercise):
    finding = examine(exercise, wrapped(exercise, mutates))
    assert finding.fraction < 1
    if exercise.id not in USED_BY_THE_REST:
        assert "it changed its argument " in finding.counterexample.complaint
        assert finding.counterexample.complaint.endswith("; work on a copy")


def gives_back(right, args, kwargs):
    value = right(*args, **kwargs)
    mine = [each for each in changeable([*args, *kwargs.values()]) if type(each) is type(value)]
    if not mine:
        return next(iter(changeable([*args, *kwargs.values()])), value)
    mine[0][:] = value
    return mine[0]


@of([e for e in FUNCTIONS if takes_what_can_change(e)] + LISTED)
def test_an_argument_in_the_place_of_the_value_loses_points(exercise):
    assert examine(exercise, wrapped(exercise, gives_back)).fraction < 1


def returns_what_can_change(exercise):
    """Say whether a function says that it returns a list, a dict, an array or a tensor."""
    kind = str(inspect.get_annotations(right_answer(exercise.check)).get("return"))
    return any(word in kind for word in ("list", "dict", "ndarray", "Tensor"))


def refilled(mine, value):
    """Put what is in a value into another of its kind and size; return that."""
    if is_array(value):
        mine[...] = value
    else:
        mine.clear()
        mine.extend(value) if isinstance(value, list) else mine.update(value)
    return mine


@of([e for e in FUNCTIONS if returns_what_can_change(e) and not e.check.writes])
def test_one_list_or_array_for_all_calls_loses_points(exercise):
    kept = {}

    def fills(right, args, kwargs):
        value = right(*args, **kwargs)
        if not changeable([value]):
            return value
        like = [str(getattr(value, what, "")) for what in ("shape", "dtype")]
        mine = kept.setdefault((type(value), *like), value)
        return value if mine is value else refilled(mine, value)

    finding = examine(exercise, wrapped(exercise, fills), max_examples=MANY)
    assert finding.fraction < 1
    assert "that an earlier one returned" in finding.counterexample.complaint


def test_an_argument_that_is_the_right_value_already_is_named():
    def same_list(right, args, kwargs):
        value = right(*args, **kwargs)
        return args[0] if args[0] == value else value

    finding = examine(SAMPLES[0], wrapped(SAMPLES[0], same_list))
    assert "it returns the list that it was given" in finding.counterexample.complaint


def test_a_list_that_a_class_keeps_is_named():
    class Keeps(Table):
        def append(self, ids):
            self.ids = ids if not self.ids else [*self.ids, *ids]
            return len(self.ids)

    finding = examine(SAMPLES[1], Keeps)
    assert "it keeps the list that append was given" in finding.counterexample.complaint


@of(CALLED)
def test_an_endless_loop_is_ended_and_earns_nothing(exercise):
    def hangs(right, args, kwargs):
        while True:
            pass

    finding = examine(exercise, wrapped(exercise, hangs), timeout=0.1)
    assert finding.fraction == 0
    assert "is there an endless loop?" in finding.counterexample.got


@of([e for e in FUNCTIONS if is_long(e)])
def test_a_quadratic_answer_loses_points_where_large_inputs_matter(exercise):
    def quadratic(right, args, kwargs):
        for items in sequences([*args, *kwargs.values()]):
            for _ in itertools.product(items, items):
                pass
        return right(*args, **kwargs)

    finding = examine(exercise, wrapped(exercise, quadratic), timeout=1.0)
    assert finding.fraction == 0
    assert finding.counterexample.complaint.startswith("on small inputs it is right")


@of([e for e in FUNCTIONS if is_long(e)])
def test_recursion_loses_points_where_large_inputs_matter(exercise):
    def recursive(right, args, kwargs):
        def depth(left):
            return 0 if left == 0 else 1 + depth(left - 1)

        depth(max(map(len, sequences([*args, *kwargs.values()])), default=0))
        return right(*args, **kwargs)

    finding = examine(exercise, wrapped(exercise, recursive))
    assert finding.counterexample.got == "RecursionError"


# What is right in an unusual way


# Those of the lessons pass at the gates, with the learner's seed and another one.
@of(SAMPLES)
def test_the_right_answer_passes(exercise):
    assert examine(exercise, right_answer(exercise.check)).fraction == 1


class InMessages(LocalSubject):
    """What is asked here could be asked, and answered, in a box: no message is too large."""

    def _ask(self, request, lent):
        write_frame(io.BytesIO(), request)
        answer = super()._ask(request, lent)
        write_frame(io.BytesIO(), answer)
        return answer


@of(CALLED)
def test_the_reference_behind_helpers_passes_and_the_largest_calls_fit_into_messages(exercise):
    def helped(right, args, kwargs):
        def helper():
            return right(*args, **kwargs)

        print("working")
        return helper()

    subject = InMessages(wrapped(exercise, helped), timeout=10.0)
    finding = exercise.examine(subject, max_examples=FEW)
    assert finding.fraction == 1, finding.counterexample


@of([e for e in FUNCTIONS if e.check.refusals])
def test_a_refusal_may_say_what_it_likes(exercise):
    def other_message(right, args, kwargs):
        try:
            return right(*args, **kwargs)
        except ValueError:
            raise ValueError from None

    finding = examine(exercise, wrapped(exercise, other_message))
    assert finding.fraction == 1, finding.counterexample


@of(FUNCTIONS)
def test_a_number_of_numpy_is_a_number(exercise):
    import numpy as np

    def as_numpy(right, args, kwargs):
        value = right(*args, **kwargs)
        kinds = {int: np.int64, float: np.float64}
        return kinds[type(value)](value) if type(value) in kinds else value

    finding = examine(exercise, wrapped(exercise, as_numpy))
    assert finding.fraction == 1, finding.counterexample
