"""Checks of functions, on two small examples: one on numbers, one on tensors.

Each is examined twice, in this process and in another, and must come to the same finding.
"""

import itertools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from autograder.checks import search
from autograder.checks.compare import within
from autograder.checks.finding import FAILING, PASSED, SMALLEST, CheckError, Misconception
from autograder.checks.function import Call, FunctionCheck, Large
from autograder.checks.memory import Memory
from autograder.checks.reference import Method
from autograder.proxy.recipes import Make
from autograder.proxy.subject import LocalSubject, Returned, SubjectGoneError
from course_lib.kv_cache import BlockPool, KVCacheBlock
from course_lib.kv_cache.watch.notation import state_line

SEED, EXAMPLES = 1, 60


def blocks_needed(num_tokens, block_size=16):
    """Return the blocks that hold some tokens."""
    if num_tokens < 0 or block_size < 1:
        raise ValueError("num_tokens must be at least 0 and block_size at least 1")
    return -(-num_tokens // block_size)


BLOCKS = FunctionCheck(
    reference=blocks_needed,
    cases=st.builds(Call, st.integers(0, 200), block_size=st.integers(1, 32)),
    probes=(Call(32), Call(33), Call(7, block_size=8)),
    refusals=(Call(-1), Call(1, block_size=0)),
    misconceptions=(
        Misconception(
            "rounds down", "A part of a block is a block.", lambda n, block_size=16: n // block_size
        ),
        Misconception(
            "always one more",
            "A full block needs no other.",
            lambda n, block_size=16: n // block_size + 1,
        ),
    ),
)

RIGHT = """
def blocks_needed(num_tokens, block_size=16):
    if num_tokens < 0 or block_size < 1:
        raise ValueError("no")
    return (num_tokens + block_size - 1) // block_size
"""


def softmax(scores):
    """Return the softmax over the last dimension."""
    exps = torch.exp(scores - scores.max(dim=-1, keepdim=True).values)
    return exps / exps.sum(dim=-1, keepdim=True)


def _scores(rows, columns, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(rows, columns, generator=generator)


SOFTMAX = FunctionCheck(
    reference=softmax,
    cases=st.builds(
        lambda *shape: Call(_scores(*shape)),
        st.integers(1, 4),
        st.integers(1, 4),
        st.integers(0, 9),
        st.sampled_from((1.0, 10.0)),
    ),
    probes=(
        Call(torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]])),
        Call(torch.tensor([[1000.0, 0.0]])),
    ),
    misconceptions=(
        Misconception(
            "no maximum taken off",
            "exp(1000) is infinite; take the row's maximum off first.",
            lambda scores: torch.exp(scores) / torch.exp(scores).sum(-1, keepdim=True),
        ),
        Misconception(
            "over the first dimension",
            "Each row is a distribution of its own.",
            lambda scores: torch.softmax(scores, dim=0),
        ),
    ),
    compare=within(rel=1e-5),
)


@pytest.fixture
def examine(local, remote, unhurried):
    """Examine source in this process and in another; return the finding, which must be the same."""

    def examine(check, source):
        name = check.reference.__name__
        near = check.examine(local(source, name), SEED, EXAMPLES)
        far = check.examine(remote(source, name), SEED, EXAMPLES)
        assert near == far
        return near

    return examine


# Numbers


def test_a_right_function_passes(examine):
    assert examine(BLOCKS, RIGHT) == PASSED


def test_the_reference_passes_its_own_check():
    assert BLOCKS.examine(LocalSubject(blocks_needed), SEED, EXAMPLES) == PASSED


def test_a_wrong_function_fails_on_the_smallest_call_and_is_named(examine):
    finding = examine(BLOCKS, RIGHT.replace("(num_tokens + block_size - 1)", "num_tokens"))
    case = finding.counterexample
    assert finding.fraction == 0
    assert (case.case, case.expected, case.got) == ("blocks_needed(1, block_size=2)", "1", "0")
    assert finding.misconception.name == "rounds down"
    assert not finding.unwritten


@pytest.mark.parametrize("misconception", BLOCKS.misconceptions, ids=lambda m: m.name)
def test_each_known_wrong_answer_is_named(misconception):
    finding = BLOCKS.examine(LocalSubject(misconception.wrong), SEED, EXAMPLES)
    assert finding.misconception is misconception


def test_a_wrong_answer_that_nobody_knows_has_no_name(examine):
    finding = examine(BLOCKS, "def blocks_needed(num_tokens, block_size=16):\n    return 7")
    assert finding.misconception is None
    assert finding.counterexample.got == "7"


def test_a_stub_is_told_that_nothing_comes_back(examine):
    finding = examine(BLOCKS, "def blocks_needed(num_tokens, block_size=16):\n    pass")
    assert finding.unwritten
    assert finding.counterexample.complaint == "nothing is returned"


def test_a_right_value_of_another_type_is_told_so(examine):
    source = RIGHT.replace("return (", "return 1.0 * (")
    finding = examine(BLOCKS, source)
    assert finding.counterexample.complaint.startswith("the value is right, but as a float")


def test_an_exception_is_the_outcome_and_its_line_the_complaint(examine):
    source = "def blocks_needed(num_tokens, block_size=16):\n    return num_tokens / 0"
    case = examine(BLOCKS, source).counterexample
    assert case.got == "ZeroDivisionError: division by zero"
    assert case.complaint == "in line 2: return num_tokens / 0"


def test_what_must_be_refused_is_tried_last(examine):
    source = (
        "def blocks_needed(num_tokens, block_size=16):\n    return -(-num_tokens // block_size)"
    )
    case = examine(BLOCKS, source).counterexample
    assert case.case == "blocks_needed(-1)"
    assert case.expected == "ValueError: num_tokens must be at least 0 and block_size at least 1"
    assert case.got == "0"
    assert case.complaint.startswith("it should refuse this")


def test_another_exception_is_no_refusal_but_a_subclass_is(examine):
    assert examine(BLOCKS, RIGHT.replace("ValueError", "TypeError")).fraction == 0
    assert examine(BLOCKS, RIGHT.replace("ValueError", "UnicodeError")) == PASSED


def test_a_probe_catches_what_generated_calls_do_not_reach(examine):
    source = RIGHT + "    \nright = blocks_needed\n"
    source += "def blocks_needed(n, block_size=None):\n"
    source += "    return right(n, 16 if block_size is None else block_size) + (block_size is None)"
    assert examine(BLOCKS, source).counterexample.case == "blocks_needed(32)"


def test_prints_and_warnings_cost_nothing_and_are_shown_with_a_failure(examine):
    noisy = "import warnings\n" + RIGHT.replace(
        "    return", "    print('n =', num_tokens)\n    warnings.warn('careful')\n    return"
    )
    assert examine(BLOCKS, noisy) == PASSED
    finding = examine(BLOCKS, noisy.replace("+ block_size - 1", ""))
    assert finding.counterexample.output == "n = 1\nUserWarning: careful\n"
    assert finding.misconception.name == "rounds down"


CHEATS = {
    "an int with its own equality": (
        "class Odd(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
        "def blocks_needed(num_tokens, block_size=16): return Odd(1)"
    ),
    "an object that equals everything": (
        "class Odd:\n    def __eq__(self, other): return True\n"
        "def blocks_needed(num_tokens, block_size=16): return Odd()"
    ),
    "a str": "def blocks_needed(num_tokens, block_size=16): return '1'",
    "a str with its own equality": (
        "class Odd(str):\n    def __eq__(self, other): return True\n    __hash__ = str.__hash__\n"
        "def blocks_needed(num_tokens, block_size=16): return Odd('1')"
    ),
    "a bool": RIGHT.replace("return (", "return True or ("),
    "all answers at once": "def blocks_needed(num_tokens, block_size=16): return list(range(9))",
    "a right value that raises": RIGHT.replace("    return (", "    raise StopIteration("),
    "NaN": "def blocks_needed(num_tokens, block_size=16): return float('nan')",
    "an endless integer": "def blocks_needed(num_tokens, block_size=16): return 10**5000",
    "leaving Python": "import sys\ndef blocks_needed(num_tokens, block_size=16): sys.exit(0)",
    "skipping the test": (
        "import unittest\n"
        "def blocks_needed(num_tokens, block_size=16): raise unittest.SkipTest('no')"
    ),
}


@pytest.mark.parametrize("source", CHEATS.values(), ids=CHEATS.keys())
def test_cheats_and_odd_objects_fail_like_any_wrong_answer(examine, source):
    finding = examine(BLOCKS, source)
    assert finding.fraction == 0
    assert finding.counterexample is not None


def test_an_object_is_called_by_the_name_of_its_class(examine):
    source = "def blocks_needed(num_tokens, block_size=16):\n    yield 1"
    case = examine(BLOCKS, source).counterexample
    assert case.got == "<generator object>"
    assert case.complaint == "an object of class generator came where an int was asked"


def first_tokens(lengths, count):
    """Return the first lengths, shortest first."""
    return sorted(lengths)[:count]


TOKENS = FunctionCheck(
    reference=first_tokens,
    cases=st.builds(Call, st.lists(st.integers(0, 9), max_size=5), st.integers(0, 5)),
    probes=(Call([3, 1, 2], 2), Call([2, 1], 2)),
)
FIRST = "def first_tokens(lengths, count):\n    "


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (
            "lengths.sort()\n    return lengths[:count]",
            "it changed its argument lengths; work on a copy",
        ),
        (
            "taken = sorted(lengths)[:count]\n    del lengths[:count]\n    return taken",
            "it changed its argument lengths; work on a copy",
        ),
        (
            "return lengths if sorted(lengths)[:count] == lengths else sorted(lengths)[:count]",
            "it returns the list that it was given, not a new one; whoever changes one changes "
            "both",
        ),
    ],
)
def test_an_argument_that_is_changed_or_given_back_has_a_message_of_its_own(
    examine, body, complaint
):
    finding = examine(TOKENS, FIRST + body)
    assert finding.fraction == 0
    assert finding.counterexample.complaint == complaint
    assert finding.misconception is None


def test_a_wrong_value_comes_before_a_changed_argument(examine):
    case = examine(TOKENS, FIRST + "lengths.sort()\n    return lengths[:count + 1]").counterexample
    assert case.complaint == "it has 1 item, not 0"


def test_the_copy_that_is_asked_for_passes(examine):
    copied = "lengths = list(lengths)\n    lengths.sort()\n    return lengths[:count]"
    assert examine(TOKENS, FIRST + copied) == PASSED


ONE_LIST = """
_kept = []

def first_tokens(lengths, count):
    _kept[:] = sorted(lengths)[:count]
    return _kept
"""


def test_a_list_that_is_filled_anew_in_each_call_is_nobodys(examine):
    finding = examine(TOKENS, ONE_LIST)
    case = finding.counterexample
    assert (finding.fraction, finding.misconception) == (0, None)
    assert case.label == FAILING
    first, second = case.case.splitlines()
    assert first.startswith("first_tokens([")
    assert second.startswith("first_tokens([")
    assert case.expected.startswith("what the first call returned is still [")
    assert case.got.startswith("after the second it is [")
    assert case.complaint == (
        "a call changes the list that an earlier one returned; make a new list in each"
    )


def test_a_list_that_is_remembered_for_the_same_arguments_is_right(examine):
    remembered = """
_known = {}

def first_tokens(lengths, count):
    key = (*lengths, count)
    return _known.setdefault(key, sorted(lengths)[:count])
"""
    assert examine(TOKENS, remembered) == PASSED


def fill(cache, values, *, start):
    """Write values into a cache."""
    cache[start : start + len(values)] = values


FILL = FunctionCheck(
    reference=fill,
    cases=st.builds(
        lambda size, start: Call(np.zeros(size + start), np.arange(1.0, size + 1), start=start),
        st.integers(1, 3),
        st.integers(0, 2),
    ),
    probes=(Call(np.zeros(5), np.array([1.0, 2.0]), start=2),),
    writes=("cache",),
    misconceptions=(
        Misconception(
            "from the beginning",
            "The first value goes to start.",
            lambda cache, values, *, start: fill(cache, values, start=0),
        ),
    ),
)


def test_arguments_that_are_to_be_written_are_compared_afterwards(examine):
    right = "def fill(cache, values, *, start):\n"
    right += "    for i, v in enumerate(values):\n        cache[start + i] = v"
    assert examine(FILL, right) == PASSED
    finding = examine(FILL, right.replace("start + i", "i"))
    assert finding.misconception.name == "from the beginning"
    case = finding.counterexample
    assert case.expected == "cache is array([0., 1.]) afterwards"
    assert case.got == "cache is array([1., 0.]) afterwards"
    assert case.complaint.startswith("cache: 2 of 2 elements differ")
    spoiled = examine(FILL, right + "\n    values[:] = 0")
    assert "it changed its argument values; work on a copy" in spoiled.counterexample.complaint


def test_who_writes_nothing_is_told_where_nothing_is_written(examine):
    finding = examine(FILL, "def fill(cache, values, *, start):\n    pass")
    assert finding.unwritten
    assert finding.advice == (
        "Nothing is written to cache yet: write below YOUR CODE HERE. If you have, did it go into "
        "a copy of what you were given?"
    )


def total(lengths: Sequence[int], weights: list[int]) -> int:
    """Return a weighted sum."""
    return sum(length * weight for length, weight in zip(lengths, weights, strict=False))


TOTAL = FunctionCheck(
    reference=total,
    cases=st.builds(Call, st.lists(st.integers(1, 9)), st.lists(st.integers(1, 9))),
    probes=(Call([1, 2], [3, 4]),),
)


def test_a_sequence_comes_as_a_tuple_too_and_a_list_as_a_list(examine):
    right = "def total(lengths, weights):\n    weights.copy()\n"
    right += "    return sum(a * b for a, b in zip(lengths, weights))"
    assert examine(TOTAL, right) == PASSED
    case = examine(TOTAL, right.replace("weights.copy", "lengths.copy")).counterexample
    assert case.case == "total((1, 2), [3, 4])"
    assert case.got == "AttributeError: 'tuple' object has no attribute 'copy'"
    assert case.complaint.endswith("with a list it is right; a sequence may also be a tuple")


# Large inputs


def running_maximum(lengths):
    """Return the largest so far, for each."""
    return list(itertools.accumulate(lengths, max))


MAXIMA = FunctionCheck(
    reference=running_maximum,
    cases=st.builds(Call, st.lists(st.integers(0, 9), min_size=1, max_size=6)),
    probes=(Call([1, 3, 2]),),
    large=(Large(lambda: Call(list(range(50_000))), "50,000 lengths", seconds=0.5),),
)

SLOW = {
    "recursive": (
        "def running_maximum(x):\n    if len(x) == 1:\n        return [x[0]]\n"
        "    before = running_maximum(x[:-1])\n    return [*before, max(before[-1], x[-1])]",
        "RecursionError",
    ),
    "quadratic": (
        "def running_maximum(x):\n    return [max(x[: i + 1]) for i in range(len(x))]",
        "no answer by then",
    ),
    "a copy per item": (
        "def running_maximum(x):\n    found = []\n    for each in x:\n"
        "        found = found + [max([each, *found[-1:]])]\n    return found",
        "",
    ),
    "wrong from 10,000 on": (
        "def running_maximum(x):\n    return [max(x[:i + 1]) for i in range(min(len(x), 9))]",
        "another value",
    ),
}


@pytest.mark.parametrize(("source", "got"), SLOW.values(), ids=SLOW.keys())
def test_what_does_not_survive_a_large_input_is_noticed(local, source, got):
    finding = MAXIMA.examine(local(source, "running_maximum"), SEED, EXAMPLES)
    case = finding.counterexample
    assert case.case == "running_maximum(...) on 50,000 lengths"
    assert case.expected == "the right answer within 0.5 s of computing"
    assert got in case.got
    assert case.complaint == "on small inputs it is right"
    assert finding.fraction == 0


def test_a_linear_answer_survives_a_large_input(local):
    source = "def running_maximum(x):\n    most, found = x[0], []\n    for each in x:\n"
    source += "        most = max(most, each)\n        found.append(most)\n    return found"
    assert MAXIMA.examine(local(source, "running_maximum"), SEED, EXAMPLES) == PASSED


def test_who_fails_on_a_large_input_alone_is_not_taken_for_somebody_who_refuses_nothing(local):
    def of_anything(lengths):
        return list(itertools.accumulate(lengths, max))

    def of_some(lengths):
        """Return the largest so far, for each; nothing is refused but an empty list."""
        if not lengths:
            raise ValueError("no lengths")
        return of_anything(lengths)

    check = replace(
        MAXIMA,
        reference=of_some,
        refusals=(Call([]),),
        misconceptions=(Misconception("nothing refused", "An empty one is refused.", of_anything),),
    )
    source = "def of_some(x):\n    if not x:\n        raise ValueError('no lengths')\n"
    source += "    if len(x) == 1:\n        return [x[0]]\n"
    source += "    before = of_some(x[:-1])\n    return [*before, max(before[-1], x[-1])]"
    finding = check.examine(local(source, "of_some"), SEED, EXAMPLES)
    assert finding.counterexample.got == "RecursionError"
    assert finding.misconception is None


# What a check is told when it is defined


class Ratio:
    """An object that is no plain data."""

    def __init__(self, value):
        self.value = value


def ratio(tokens, seconds):
    """Return an object."""
    return Ratio(tokens / seconds)


def test_a_check_that_would_compare_objects_is_refused_where_it_is_defined():
    with pytest.raises(CheckError, match="an object of class Ratio would be compared"):
        FunctionCheck(ratio, st.builds(Call, st.just(1), st.just(2)), (Call(1, 2),))


def test_an_object_is_compared_by_the_attributes_that_the_check_names(examine):
    check = FunctionCheck(
        ratio,
        st.builds(Call, st.integers(1, 9), st.integers(1, 9)),
        (Call(1, 2),),
        reads=("value",),
    )
    right = "class Mine:\n    def __init__(self, value):\n        self.value = value\n"
    right += "def ratio(tokens, seconds):\n    return Mine(tokens / seconds)"
    assert examine(check, right) == PASSED
    wrong = examine(check, right.replace("tokens / seconds", "seconds / tokens")).counterexample
    assert (wrong.expected, wrong.got) == ("{'value': 0.5}", "{'value': 2.0}")
    other = examine(check, "def ratio(tokens, seconds):\n    return object()").counterexample
    assert other.complaint == "an object of class object came where an object with value was asked"
    number = examine(check, "def ratio(tokens, seconds):\n    return 3").counterexample
    assert number.complaint == "it is an int, not an object with value"


def test_a_reference_that_writes_what_the_check_does_not_name_is_refused():
    with pytest.raises(CheckError, match="fill writes to cache; name in writes="):
        FunctionCheck(fill, FILL.cases, FILL.probes)


def test_a_reference_that_refuses_its_own_first_probe_is_refused_with_the_remedy():
    with pytest.raises(CheckError) as refused:
        FunctionCheck(blocks_needed, BLOCKS.cases, (Call(-1), *BLOCKS.probes))
    assert str(refused.value) == (
        "blocks_needed answers its first probe, Call(-1), with ValueError: num_tokens must be at "
        "least 0 and block_size at least 1. Begin probes= with a call that it can answer; what is "
        "to be refused stands in refusals="
    )


def test_the_reference_and_known_wrong_answers_are_asked_about_a_probe_once():
    asked = Counter()

    def counts(function):
        def counted(num_tokens, block_size=16):
            asked[function.__name__, num_tokens, block_size] += 1
            return function(num_tokens, block_size)

        return counted

    def a_block_more(num_tokens, block_size=16):
        return blocks_needed(num_tokens, block_size) + 1

    check = FunctionCheck(
        counts(blocks_needed),
        # Nothing that is drawn is a probe.
        st.builds(Call, st.integers(100, 999)),
        (Call(1), Call(32, 8)),
        misconceptions=(Misconception("more", "One less.", counts(a_block_more)),),
    )
    findings = [check.examine(LocalSubject(a_block_more), SEED, EXAMPLES) for _ in range(3)]
    assert [finding.misconception.name for finding in findings] == ["more"] * 3
    for name in ("blocks_needed", "a_block_more"):
        assert [asked[name, 1, 16], asked[name, 32, 8]] == [1, 1]


def test_the_calls_that_tell_known_mistakes_apart_are_drawn_once_for_a_seed():
    drawn = []

    def draw(num_tokens):
        drawn.append(num_tokens)
        return Call(num_tokens)

    def a_block_more(num_tokens, block_size=16):
        return blocks_needed(num_tokens, block_size) + 1

    mistake = Misconception("more", "One less.", a_block_more)
    cases = st.builds(draw, st.integers(0, 2000))
    check = FunctionCheck(blocks_needed, cases, (Call(1),), misconceptions=(mistake,))

    def num_drawn(seed):
        before = len(drawn)
        finding = check.examine(LocalSubject(a_block_more), seed, 1)
        assert finding.misconception == mistake
        return len(drawn) - before

    first, again, other, once_more = map(num_drawn, (1, 1, 2, 1))
    assert first - again == 40
    assert other >= 40
    assert once_more == first, "the calls of one seed are kept, the last one"


def test_what_was_not_answered_in_time_is_asked_again():
    started = []

    def hangs_once(num_tokens, block_size=16):
        started.append(num_tokens)
        while len(started) == 1:
            pass
        return num_tokens

    memory = Memory([probe := Call(1)], lambda subject, call: subject.call(call.args))
    hanging, *others = (LocalSubject(hangs_once, timeout) for timeout in (0.05, 60.0, 60.0))
    assert memory.of(hangs_once, probe, hanging).kinds[0] == "NoAnswerError"
    assert [memory.of(hangs_once, probe, each) for each in others] == [Returned(1)] * 2
    assert started == [1, 1]


def test_no_message_has_an_internal_name(examine):
    case = examine(BLOCKS, "def blocks_needed(num_tokens, block_size=16):\n    return object()")
    assert "Ref" not in repr(case.counterexample)
    assert case.counterexample.complaint == "an object of class object came where an int was asked"


USAGE = FunctionCheck(
    reference=Method(BlockPool, "get_new_blocks"),
    cases=st.builds(
        lambda size, count: Call(Make(BlockPool, size), count), st.integers(2, 9), st.integers(0, 9)
    ),
    probes=(Call(Make(BlockPool, 9), 3),),
    reads=("block_id", "ref_cnt"),
)


def test_a_method_is_checked_as_a_function_whose_first_argument_is_a_recipe(examine):
    right = """
def get_new_blocks(self, num_blocks):
    return BlockPool.get_new_blocks(self, num_blocks)
"""
    right = f"from course_lib.kv_cache import BlockPool\n{right}"
    assert examine(USAGE, right) == PASSED
    wrong = right.replace("(self, num_blocks)\n", "(self, num_blocks)[::-1]\n")
    case = examine(USAGE, wrong).counterexample
    assert case.case == "get_new_blocks(BlockPool(3), 2)"
    assert case.complaint == "item 0: 'block_id' differs"


# Known mistakes


def test_a_wrong_type_does_not_hide_the_wrong_value_behind_it(examine):
    finding = examine(BLOCKS, RIGHT.replace("(num_tokens + block_size - 1) //", "num_tokens /"))
    case = finding.counterexample
    assert (case.expected, case.got) == ("1", "0.5")
    assert case.complaint == "its value is wrong, and it is a float, not an int"
    rounded = RIGHT.replace("(num_tokens + block_size - 1)", "float(num_tokens)")
    assert examine(BLOCKS, rounded).misconception.name == "rounds down"


HALF_REPAIRED = RIGHT.replace(
    "return (num_tokens + block_size - 1) // block_size",
    "return 5 if (num_tokens, block_size) == (1, 2) else num_tokens // block_size",
)


def test_a_half_repair_that_differs_on_the_failing_case_is_not_named(examine):
    finding = examine(BLOCKS, HALF_REPAIRED)
    assert (finding.misconception, finding.alike) == (None, ())


def test_what_is_like_a_mistake_on_probes_and_the_failing_case_alone_is_not_named(examine):
    half = RIGHT.replace(
        "    return", "    if num_tokens < 50: return num_tokens // block_size\n    return"
    )
    finding = examine(BLOCKS, half)
    assert finding.counterexample.got == "0"
    assert (finding.misconception, finding.alike) == (None, ())
    whole = examine(BLOCKS, half.replace("num_tokens < 50", "num_tokens >= 0"))
    assert whole.misconception.name == "rounds down"


@pytest.mark.parametrize(
    ("formula", "is_explained"),
    [
        ("(num_tokens + block_size - 1.0) // block_size", True),
        ("-(-float(num_tokens) // block_size)", True),
        ("float(-(-num_tokens // block_size))", False),
        ("1.0 * -(-num_tokens // block_size)", False),
        ("round((num_tokens + block_size / 2 - 0.5) / block_size) * 1.0  # not //", False),
        ("float(math.ceil(num_tokens / block_size))", False),
    ],
)
def test_what_makes_a_float_is_said_only_of_code_that_has_it(examine, formula, is_explained):
    source = "import math\n" + RIGHT.replace("(num_tokens + block_size - 1) // block_size", formula)
    complaint = examine(BLOCKS, source).counterexample.complaint
    assert complaint.startswith("the value is right, but as a float; a whole number of type int")
    assert ("//" in complaint) == is_explained


def test_two_mistakes_that_cannot_be_told_apart_are_both_named(examine):
    truncates = Misconception(
        "truncates", "It is cut off.", lambda n, block_size=16: int(n / block_size)
    )
    check = replace(BLOCKS, misconceptions=(*BLOCKS.misconceptions, truncates))
    finding = examine(check, RIGHT.replace("(num_tokens + block_size - 1)", "num_tokens"))
    assert finding.misconception is None
    assert [each.name for each in finding.alike] == ["rounds down", "truncates"]


@pytest.mark.parametrize(
    ("source", "confirmed"),
    [
        (RIGHT.replace("(num_tokens + block_size - 1)", "num_tokens"), True),
        (RIGHT.replace("return (num_tokens + block_size - 1)", "n = num_tokens; return n"), False),
    ],
)
def test_a_mistake_is_called_by_its_name_only_if_the_source_shows_it(examine, source, confirmed):
    known = replace(BLOCKS.misconceptions[0], evidence=r"num_tokens // block_size")
    finding = examine(replace(BLOCKS, misconceptions=(known,)), source)
    assert finding.misconception is known
    assert finding.confirmed == confirmed


FLAKY = """
calls = 0
def blocks_needed(num_tokens, block_size=16):
    global calls
    calls += 1
    return -(-num_tokens // block_size) + (calls % {period} == 0)
"""


@pytest.mark.parametrize("period", [2, 3, 7, 50])
def test_a_function_that_answers_differently_each_time_fails(examine, period):
    finding = examine(BLOCKS, FLAKY.format(period=period))
    assert finding.fraction == 0
    assert finding.counterexample.expected != finding.counterexample.got


def test_random_answers_fail_without_a_crash(local):
    source = "import random\ndef blocks_needed(num_tokens, block_size=16):\n"
    source += "    return random.randint(0, 5)"
    assert BLOCKS.examine(local(source, "blocks_needed"), SEED, EXAMPLES).fraction == 0


def test_the_same_seed_finds_the_same_case(local):
    source = RIGHT.replace("+ block_size - 1", "+ 3")
    findings = {
        BLOCKS.examine(local(source, "blocks_needed"), 5, EXAMPLES).counterexample for _ in range(2)
    }
    assert len(findings) == 1


def test_the_bound_of_the_search_is_kept(local):
    calls = []
    subject = LocalSubject(lambda n, block_size=16: calls.append(n) or -(-n // block_size))
    BLOCKS.examine(subject, SEED, 10)
    # The probes a second time, and the failing call, to find out which mistake it is.
    assert len(calls) <= 10 + 2 * len(BLOCKS.probes) + 2 * len(BLOCKS.refusals) + 1


SLOW = {
    "works": "until = time.thread_time() + 0.05\n    while time.thread_time() < until: pass",
    "waits": "time.sleep(0.05)",
}


@pytest.mark.parametrize("how", SLOW)
@pytest.mark.parametrize("fraction", [0, 1])
def test_a_slow_function_gets_its_answer_in_time(load, monkeypatch, how, fraction):
    slow = "import time\ncalls = []\n" + RIGHT.replace(
        "    if", f"    calls.append(0)\n    {SLOW[how]}\n    if", 1
    )
    if fraction == 0:
        slow = slow.replace("+ block_size - 1", "")
    if how == "waits":
        monkeypatch.setattr(search, "SECONDS", 0.1)
    module = load(slow)
    finding = BLOCKS.examine(LocalSubject(module.blocks_needed), SEED, max_examples=1000)
    assert finding.fraction == fraction
    # Of which a second goes to the probes, asked twice at most. A call takes 0.05 seconds, and as
    # much longer as the machine likes: so calls are counted.
    assert 0.05 * len(module.calls) < 4


def test_waiting_for_a_cpu_leaves_no_call_out(monkeypatch):
    # A busy machine must not make a wrong answer right. Who sleeps takes no CPU time either.
    calls = []

    def late(num_tokens, block_size=16):
        time.sleep(0.005)
        calls.append((num_tokens, block_size))
        return blocks_needed(num_tokens, block_size)

    monkeypatch.setattr(search, "SECONDS", 0.3)
    assert BLOCKS.examine(LocalSubject(late), SEED, max_examples=100) == PASSED
    assert len(calls) >= 100


@pytest.mark.parametrize(("seconds", "label"), [(0.0, FAILING), (60.0, SMALLEST)])
def test_a_failing_case_is_made_smaller_for_as_long_as_it_may(local, monkeypatch, seconds, label):
    wrong = RIGHT.replace("+ block_size - 1", "")
    monkeypatch.setattr(search, "SECONDS", 60.0)
    monkeypatch.setattr(search, "SHRINKING_SECONDS", seconds)
    finding = BLOCKS.examine(local(wrong, "blocks_needed"), SEED, EXAMPLES)
    assert finding.fraction == 0
    assert finding.counterexample.label == label


def test_an_endless_loop_is_an_answer_here_and_the_end_of_another_process(load, remote):
    source = "hung = []\n" + RIGHT.replace(
        "    if", "    while num_tokens % 16 == 15: hung or hung.append(num_tokens)\n    if"
    )
    module = load(source)
    case = BLOCKS.examine(LocalSubject(module.blocks_needed), SEED, EXAMPLES).counterexample
    assert "is there an endless loop?" in case.got
    tokens = eval(case.case, {"blocks_needed": lambda num_tokens, block_size=16: num_tokens})
    assert [tokens] == module.hung, "the call that hung, not a later one, and no other was made"
    assert tokens % 16 == 15
    with pytest.raises(SubjectGoneError, match="no answer within 1 s"):
        BLOCKS.examine(remote(source, "blocks_needed", timeout=1.0), SEED, EXAMPLES)


LATE = """
import os
def blocks_needed(num_tokens, block_size=16):
    if num_tokens > 20:
        {statement}
    return -(-num_tokens // block_size)
"""


@pytest.mark.parametrize(
    "statement",
    ["os._exit(0)", "os.abort()", "[os.write(fd, b'x' * 99) for fd in (3, 4, 5)]"],
)
def test_a_process_that_dies_in_the_middle_of_the_search_is_gone_not_flaky(remote, statement):
    with pytest.raises(SubjectGoneError):
        BLOCKS.examine(remote(LATE.format(statement=statement), "blocks_needed"), SEED, EXAMPLES)


def test_rejecting_every_example_is_no_way_to_pass(local):
    source = "import hypothesis\ndef blocks_needed(num_tokens, block_size=16):\n"
    source += "    hypothesis.reject()"
    assert BLOCKS.examine(local(source, "blocks_needed"), SEED, EXAMPLES).fraction == 0


@pytest.mark.parametrize("call", [1, 7, 50])
def test_ctrl_c_passes_through_the_search(local, call):
    source = "calls = []\n" + RIGHT.replace(
        "    if",
        f"    calls.append(0)\n    if len(calls) == {call}: raise KeyboardInterrupt\n    if",
    )
    with pytest.raises(KeyboardInterrupt):
        BLOCKS.examine(local(source, "blocks_needed"), SEED, EXAMPLES)


# Tensors

STABLE = """
import torch
def softmax(scores):
    scores = scores - scores.max(dim=-1, keepdim=True).values
    return {result}
"""
RIGHT_SOFTMAX = STABLE.format(result="torch.softmax(scores, dim=-1)")


def test_a_right_tensor_function_passes_though_its_digits_differ(examine):
    assert examine(SOFTMAX, RIGHT_SOFTMAX) == PASSED


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        ("torch.softmax(scores, dim=-1).flatten()", "its shape is (1,), not (1, 1)"),
        ("torch.softmax(scores, dim=-1).double()", "its dtype is torch.float64, not torch.float32"),
        ("torch.softmax(scores, dim=-1).numpy()", "it is an ndarray, not a Tensor"),
        ("torch.softmax(scores, dim=-1).tolist()", "it is a list, not a Tensor"),
        (
            "torch.softmax(scores, dim=-1) * float('nan')",
            "1 of 1 elements differ; the largest difference is at (0, 0): expected 1, got nan; "
            "up to 1e-05 is allowed",
        ),
        (
            "torch.softmax(scores, dim=-1) + 0.5",
            "1 of 1 elements differ; the largest difference is at (0, 0): expected 1, got 1.5; "
            "up to 1e-05 is allowed",
        ),
        ("None", "nothing is returned"),
    ],
)
def test_what_is_the_matter_with_a_tensor_is_said_on_the_smallest_one(local, result, complaint):
    subject = local(STABLE.format(result=result), "softmax")
    case = SOFTMAX.examine(subject, SEED, EXAMPLES).counterexample
    assert case.complaint == complaint
    assert case.case.startswith("softmax(tensor([[")


def test_nan_only_where_it_overflows_is_found_and_named(examine):
    source = (
        "import torch\ndef softmax(scores):\n    e = scores.exp()\n    return e / e.sum(-1, True)"
    )
    finding = examine(SOFTMAX, source)
    assert finding.misconception.name == "no maximum taken off"
    assert "got nan" in finding.counterexample.complaint


def test_the_wrong_axis_is_found_on_a_tensor_of_two_elements_and_named(local):
    source = "import torch\ndef softmax(scores):\n    return torch.softmax(scores, dim=0)"
    finding = SOFTMAX.examine(local(source, "softmax"), SEED, EXAMPLES)
    assert finding.misconception.name == "over the first dimension"
    assert "2 of 2 elements differ" in finding.counterexample.complaint


def test_a_tensor_changed_in_place_is_told_so_and_does_not_disturb_later_calls(examine):
    source = "import torch\ndef softmax(scores):\n    scores -= scores.max(-1, True).values\n"
    source += "    scores.exp_()\n    scores /= scores.sum(-1, True)\n    return scores"
    case = examine(SOFTMAX, source).counterexample
    assert case.complaint == "it changed its argument scores; work on a copy"
    assert case.got.startswith("scores is tensor([[")


def test_a_view_of_a_tensor_is_no_new_tensor_unless_the_check_allows_it(local):
    view = "import torch\ndef softmax(scores):\n    if len(scores[0]) == 1 and scores[0, 0] == 1:\n"
    view += "        return scores[:]\n    return torch.softmax(scores, -1)"
    ones = replace(SOFTMAX, probes=(*SOFTMAX.probes, Call(torch.ones(1, 1))))
    allowed = replace(ones, may_return=("scores",))
    said = "it returns memory of the Tensor that it was given, not new memory; whoever changes one"
    assert ones.examine(local(view, "softmax"), SEED, EXAMPLES).counterexample.complaint.startswith(
        said
    )
    assert allowed.examine(local(view, "softmax"), SEED, EXAMPLES) == PASSED


def test_a_tensor_that_equals_everything_does_not_pass(examine):
    source = "import torch\nclass Odd(torch.Tensor):\n"
    source += (
        "    def __eq__(self, other): return True\n    def __sub__(self, other): return self * 0\n"
    )
    source += "def softmax(scores):\n    return scores.as_subclass(Odd)"
    assert examine(SOFTMAX, source).counterexample.complaint.startswith("an object of class Odd")


def test_arrays_and_several_results_are_compared_with_the_same_tolerance(examine):
    def moments(values):
        return {"mean": values.mean(), "parts": (values / 3, [0.1 + 0.2])}

    check = FunctionCheck(
        reference=moments,
        cases=st.builds(lambda n: Call(np.arange(n, dtype=np.float64)), st.integers(1, 5)),
        probes=(Call(np.ones(2)),),
        compare=within(rel=1e-9),
    )
    right = "def moments(values):\n    n = len(values)\n"
    right += "    return {'mean': sum(values) / n, 'parts': (values * (1 / 3), [0.3])}"
    assert examine(check, right) == PASSED
    wrong = examine(check, right.replace("[0.3]", "[0.4]"))
    assert wrong.counterexample.complaint == (
        "'parts': item 1: item 0: it is off by 0.1 (0.33 of the value); "
        "a difference of up to 1e-09 of the value is allowed"
    )


def price(tokens: int, cached: int = 0) -> int:
    """Return a price."""
    return tokens - cached


PRICE = FunctionCheck(
    reference=price,
    cases=st.builds(Call, st.integers(5, 9), cached=st.integers(1, 4)),
    probes=(Call(9, cached=0),),
)


def test_a_default_that_is_another_is_noticed(examine):
    wrong = examine(PRICE, "def price(tokens, cached=1):\n    return tokens - cached")
    assert wrong.counterexample.case == "price(9)"
    assert examine(PRICE, "def price(tokens, cached=0):\n    return tokens - cached") is PASSED


def in_use(blocks):
    """Return how many blocks somebody holds."""
    return sum(block.ref_cnt > 0 for block in blocks)


IN_USE = FunctionCheck(
    reference=in_use,
    cases=st.builds(lambda n: Call([Make(KVCacheBlock, n, ref_cnt=1)]), st.integers(1, 3)),
    probes=(Call([Make(KVCacheBlock, 1, ref_cnt=2)]),),
)


def test_an_object_that_is_only_to_be_looked_at_is_left_alone(examine):
    right = "def in_use(blocks):\n    return len([b for b in blocks if b.ref_cnt])"
    assert examine(IN_USE, right) is PASSED
    wrong = "def in_use(blocks):\n    n = 0\n    for b in blocks:\n"
    wrong += "        n += b.ref_cnt > 0\n        b.ref_cnt = 0\n    return n"
    case = examine(IN_USE, wrong).counterexample
    assert case.complaint == (
        "it changed an object in its argument blocks, which it is only to look at"
    )


def test_an_answer_of_a_million_items_is_answered_in_time(local, unhurried):
    source = "ANSWER = [0] * 200_000\ndef blocks_needed(n, block_size=16):\n    return ANSWER"
    started = time.thread_time()
    case = BLOCKS.examine(local(source, "blocks_needed"), SEED, EXAMPLES).counterexample
    assert time.thread_time() - started < 10
    assert case.complaint == "it is a list, not an int"
    assert len(case.got) <= 600


@pytest.mark.parametrize("source", ["while True: pass", "return 10**9999"])
def test_what_no_code_has_raised_is_said_without_a_class(local, unhurried, source):
    wrong = local(f"def blocks_needed(n, block_size=16):\n    {source}", "blocks_needed")
    assert "Error" not in BLOCKS.examine(wrong, SEED, EXAMPLES).counterexample.got


# What a call leaves behind


def give_back(pool, block_ids):
    """Give blocks back; return how many are free."""
    pool.free_blocks([pool.blocks[block_id] for block_id in block_ids])
    return pool.get_num_free_blocks()


HELD = Make(BlockPool, 4).do("get_new_blocks", 3)
GIVE_BACK = FunctionCheck(
    reference=give_back,
    cases=st.builds(lambda block_id: Call(HELD, [block_id]), st.integers(1, 3)),
    probes=(Call(HELD, [1]), Call(HELD, [])),
    misconceptions=(
        Misconception("only said", "Give them back.", lambda pool, block_ids: len(block_ids)),
    ),
    leaves=state_line,
)
FREES = "    pool.free_blocks([pool.blocks[i] for i in block_ids])\n"


def test_what_becomes_of_an_argument_is_compared_beside_the_value(examine):
    head, value = "def give_back(pool, block_ids):\n", "pool.get_num_free_blocks()"
    assert examine(GIVE_BACK, f"{head}{FREES}    return {value}\n") == PASSED
    finding = examine(GIVE_BACK, f"{head}    return {value} + len(block_ids)\n")
    assert finding.fraction == 0
    assert finding.misconception.name == "only said"
    assert "free []  held: 1 2 3" in finding.counterexample.got


def test_a_call_that_returns_nothing_or_refuses_has_left_nothing_to_compare(examine):
    assert (
        "None" in examine(GIVE_BACK, f"def give_back(pool, block_ids):\n{FREES}").counterexample.got
    )
    refused = examine(GIVE_BACK, "def give_back(pool, block_ids):\n    raise KeyError(3)\n")
    assert refused.counterexample.got == "KeyError: 3"
