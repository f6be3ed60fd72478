"""Checks of functions, on two small examples: one on numbers, one on tensors.

Each is examined twice, in this process and in another, and must come to the same finding.
"""

import time

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from autograder.checks import search
from autograder.checks.compare import within
from autograder.checks.finding import PASSED, Misconception
from autograder.checks.function import Call, FunctionCheck
from autograder.proxy.subject import LocalSubject, SubjectGoneError

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
def patience(monkeypatch):
    """Let the search run to its end on however busy a machine."""
    monkeypatch.setattr(search, "SECONDS", 60.0)


@pytest.fixture
def examine(local, remote, patience):
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
    assert (case.got, case.complaint) == ("<generator object>", "it is a generator, not an int")


def test_a_function_that_changes_its_inputs_does_not_disturb_later_calls(examine):
    check = FunctionCheck(
        reference=sorted, cases=st.builds(Call, st.lists(st.integers(0, 9))), probes=(Call([2, 1]),)
    )
    assert examine(check, "def sorted(items):\n    items.sort()\n    return items") == PASSED
    finding = examine(check, "def sorted(items):\n    items.clear()\n    return items")
    assert finding.counterexample.case == "sorted([0])"


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
    assert len(calls) <= 10 + len(BLOCKS.probes) + 2 * len(BLOCKS.refusals)


@pytest.mark.parametrize("fraction", [0, 1])
def test_a_slow_function_gets_its_answer_in_about_three_seconds(local, fraction):
    slow = RIGHT.replace("    if", "    import time; time.sleep(0.05)\n    if", 1)
    if fraction == 0:
        slow = slow.replace("+ block_size - 1", "")
    started = time.monotonic()
    finding = BLOCKS.examine(local(slow, "blocks_needed"), SEED, max_examples=1000)
    assert time.monotonic() - started < 3.5
    assert finding.fraction == fraction


def test_an_endless_loop_is_an_answer_here_and_the_end_of_another_process(local, remote):
    source = RIGHT.replace("    if", "    while num_tokens % 16 == 15: pass\n    if")
    started = time.monotonic()
    case = BLOCKS.examine(local(source, "blocks_needed"), SEED, EXAMPLES).counterexample
    assert "is there an endless loop?" in case.got
    tokens = eval(case.case, {"blocks_needed": lambda num_tokens, block_size=16: num_tokens})
    assert tokens % 16 == 15, "the call that hung, not a later one"
    assert time.monotonic() - started < 3.5
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
        ("torch.softmax(scores, dim=-1).numpy()", "it is a ndarray, not a Tensor"),
        ("torch.softmax(scores, dim=-1).tolist()", "it is a list, not a Tensor"),
        (
            "torch.softmax(scores, dim=-1) * float('nan')",
            "1 of 1 elements differ; the largest difference is at (0, 0): expected 1, got nan",
        ),
        (
            "torch.softmax(scores, dim=-1) + 0.5",
            "1 of 1 elements differ; the largest difference is at (0, 0): expected 1, got 1.5",
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


def test_a_tensor_changed_in_place_does_not_disturb_later_calls(examine):
    source = "import torch\ndef softmax(scores):\n    scores -= scores.max(-1, True).values\n"
    source += "    scores.exp_()\n    scores /= scores.sum(-1, True)\n    return scores"
    assert examine(SOFTMAX, source) == PASSED


def test_a_tensor_that_equals_everything_does_not_pass(examine):
    source = "import torch\nclass Odd(torch.Tensor):\n"
    source += (
        "    def __eq__(self, other): return True\n    def __sub__(self, other): return self * 0\n"
    )
    source += "def softmax(scores):\n    return scores.as_subclass(Odd)"
    assert examine(SOFTMAX, source).counterexample.complaint == "it is an Odd, not a Tensor"


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
    assert wrong.counterexample.complaint == "'parts': item 1: item 0 differs"
