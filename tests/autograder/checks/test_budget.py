"""Checks of cost: CPU time against the reference in one run, and questions counted."""

import subprocess
import sys
import textwrap
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import strategies as st

from autograder.checks.budget import (
    Bands,
    Metered,
    OperationBudget,
    TimeBudget,
    calls,
    metered,
    on_an_object,
)
from autograder.checks.finding import Misconception
from autograder.checks.function import Call, FunctionCheck
from autograder.checks.reference import Method
from autograder.proxy.recipes import Callback
from autograder.proxy.subject import LocalSubject
from course_lib.kv_cache import BlockPool

SEED = 1


def running_sums(numbers):
    """Return the sums of an array's first one, two, ... elements."""
    return np.cumsum(numbers)


def slow_sums(numbers):
    """Return the same, one by one."""
    total, sums = 0, []
    for number in numbers.tolist():
        total += number
        sums.append(total)
    return np.array(sums, dtype=numbers.dtype)


def arrays(number):
    # Small enough that the sums need no fresh memory: pages that one process has and the other has
    # to ask for would be timed, too.
    return Call(np.random.default_rng(number).integers(0, 9, 20_000))


SUMS = TimeBudget(
    inner=FunctionCheck(
        reference=running_sums,
        cases=st.builds(lambda n: Call(np.arange(n)), st.integers(1, 5)),
        probes=(Call(np.array([1, 2])),),
        misconceptions=(Misconception("as it is", "Add them up.", lambda numbers: numbers + 0),),
    ),
    play=calls(arrays),
    bands=Bands(((15.0, 1.0), (25.0, 0.5))),
    weight=0.4,
    known=(
        Misconception("a loop", "Python adds one number at a time.", slow_sums, r"for .*\n.*\+="),
    ),
)
RIGHT = "import numpy as np\ndef running_sums(numbers):\n    return np.cumsum(numbers)"


@pytest.fixture(params=["local", "remote"])
def examine(request):
    """Examine a function that stands in a learner's module, here and in another process."""
    make = request.getfixturevalue(request.param)

    def examine(check, source):
        name = source.rpartition("def ")[2].partition("(")[0]
        return check.examine(make(source, name), SEED, 20)

    return examine


# Bands


@pytest.mark.parametrize("limits", [(), ((2, 1), (1, 0.5)), ((1, 0.5), (2, 0.5)), ((1, 1.5),)])
def test_bands_that_make_no_sense_are_refused(limits):
    with pytest.raises(ValueError, match="limits rise and shares fall"):
        Bands(limits)


def test_the_edges_of_bands():
    bands = Bands(((1.5, 1.0), (4.0, 0.5)))
    assert [bands.share(r) for r in (0.1, 1.5, 1.51, 4, 4.01)] == [1, 1, 0.5, 0.5, 0]
    assert [bands.is_near(r) for r in (1.2, 1.3, 1.7, 2, 3.5, 4.7)] == [0, 1, 1, 0, 1, 0]
    assert [bands.is_hopeless(r) for r in (7.9, 8.1)] == [False, True]


# CPU time


def test_what_is_as_fast_as_the_reference_earns_all_and_the_ratio_is_said(examine):
    finding = examine(SUMS, RIGHT)
    assert finding.fraction == 1
    (remark,) = finding.remarks
    assert remark.startswith("CPU time: ")
    assert "times the reference's" in remark
    assert remark.endswith("The bands: all points up to 15 times, 50% up to 25 times.")


def test_what_is_right_and_slow_earns_what_being_right_is_worth(examine):
    source = "import numpy as np\n" + textwrap.dedent(
        """
        def running_sums(numbers):
            total, sums = 0, []
            for number in numbers.tolist():
                total += number
                sums.append(total)
            return np.array(sums, dtype=numbers.dtype)
        """
    )
    finding = examine(SUMS, source)
    assert finding.fraction == pytest.approx(0.6)
    assert finding.counterexample.expected == "at most 15 times the reference's CPU time"
    assert finding.counterexample.complaint == "it is right, and slower than need be"
    assert (finding.misconception.name, finding.confirmed) == ("a loop", True)


def test_a_comment_or_a_docstring_is_no_evidence(examine):
    source = textwrap.dedent(
        '''
        import itertools
        import numpy as np

        def running_sums(numbers):
            """Do what this does: for number in numbers:
                total += number
            """
            # for number in numbers:
            #     total += number
            values = numbers.tolist()
            return np.array(list(itertools.accumulate(values)), dtype=numbers.dtype)
        '''
    )
    finding = examine(SUMS, source)
    assert finding.fraction == pytest.approx(0.6)
    assert finding.misconception is None


def test_nothing_for_what_is_wrong_however_fast(examine):
    finding = examine(SUMS, "def running_sums(numbers):\n    return numbers + 0")
    assert finding.fraction == 0
    assert finding.misconception.name == "as it is"
    assert finding.remarks == ()


def test_nothing_for_being_right_on_small_inputs_only(examine):
    cheat = RIGHT.replace("    return", "    if len(numbers) > 99: return numbers\n    return")
    finding = examine(SUMS, cheat)
    assert finding.fraction == 0
    assert finding.counterexample.case == "the work that is timed, call 1 of 1"


def test_remembering_does_not_help(examine):
    memory = "memory = {}\n" + RIGHT.replace(
        "    return", "    if len(numbers) in memory: return memory[len(numbers)]\n    return"
    ).replace(
        "return np.cumsum(numbers)", "return memory.setdefault(len(numbers), np.cumsum(numbers))"
    )
    finding = examine(SUMS, memory)
    assert finding.fraction == 0
    assert finding.counterexample is not None


@pytest.mark.parametrize(
    "source",
    [
        "def running_sums(numbers):\n    pass",
        "def running_sums(numbers):\n    return object()",
        "def running_sums(numbers):\n    return 7",
    ],
)
def test_no_answer_earns_nothing(examine, source):
    assert examine(SUMS, source).fraction == 0


def test_an_endless_loop_earns_nothing(local):
    for condition in ("True", "len(numbers) > 99"):
        source = RIGHT.replace("    return", f"    while {condition}: pass\n    return")
        subject = local(source, "running_sums")
        subject._timeout = 0.5
        assert SUMS.examine(subject, SEED, 20).fraction == 0


def scripted(seconds):
    """Return a check whose clock is a script: pairs of the reference's time and the learner's."""

    class Clock:
        def __init__(self):
            self.rounds = 0

        def __call__(self, subject, number):
            outcome = subject.call((np.arange(3),))
            is_learners = isinstance(subject, Marked)
            time = seconds[min(number - SEED, len(seconds) - 1)][is_learners]
            self.rounds = max(self.rounds, number - SEED + 1)
            return [replace(outcome, fate=replace(outcome.fate, seconds=time))]

    clock = Clock()
    bands = Bands(((1.5, 1.0), (4.0, 0.5)))
    return TimeBudget(inner=SUMS.inner, play=clock, bands=bands), clock


class Marked(LocalSubject):
    """The learner's side, told apart from the reference's."""


@pytest.mark.parametrize(
    ("seconds", "fraction", "rounds"),
    [
        ([(1, 1)], 1, 3),  # clear: three rounds
        ([(1, 9), (1, 1.1), (1, 9)], 0, 1),  # hopeless: no second round
        ([(1, 2.5), (1, 2.6), (1, 2.7)], 0.5, 3),
        ([(1, 1.6)] * 3 + [(1, 1.2)], 1, 4),  # near an edge: measured again
        ([(1, 1.6)], 0.5, 12),  # and again, but not for ever
        ([(3, 3.3), (1, 3), (1, 1.1)], 1, 3),  # the best of each side
        ([(1e-4, 9e-3), (1e-4, 1e-4)], 1, 40),  # short: the first time says little
        ([(4e-3, 8e-3)], 0.5, 5),  # until the reference has worked for 20 ms
    ],
)
def test_near_an_edge_it_is_measured_again(seconds, fraction, rounds):
    check, clock = scripted(seconds)
    finding = check.examine(Marked(running_sums), SEED, 5)
    assert (finding.fraction, clock.rounds) == (fraction, rounds)


def test_busy_neighbours_do_not_change_the_grade():
    busy = [
        subprocess.Popen(["nice", sys.executable, "-c", "while True: sum(range(10**6))"])
        for _ in range(2)
    ]
    try:
        fast = [SUMS.examine(LocalSubject(running_sums), seed, 5) for seed in range(1, 6)]
        slow = [SUMS.examine(LocalSubject(slow_sums), seed, 5) for seed in range(1, 4)]
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert [finding.fraction for finding in fast] == [1.0] * 5
    assert [finding.fraction for finding in slow] == [pytest.approx(0.6)] * 3


def test_the_life_of_an_object_is_timed_without_its_making():
    play = on_an_object(Call(), lambda number: [("append", Call(number)), ("pop", Call())])
    assert [outcome.value for outcome in play(LocalSubject(deque), 5)] == [None, 5]
    assert [outcome.value for outcome in play(LocalSubject(lambda: 3), 5)] == [3]


def test_a_method_is_timed_on_the_object_that_it_is_mounted_on():
    method = Method(BlockPool, "get_num_free_blocks")
    play = on_an_object(Call(9), lambda number: [("get_num_free_blocks", Call())] * number, method)
    learner = LocalSubject(lambda self: len(self.blocks))
    assert [outcome.value for outcome in play(learner, 2)] == [9, 9]


# Questions counted


def fewest(measure, target, at_most=64):
    """Return the least number whose measure is at most the target."""
    if measure(at_most) > target:
        raise ValueError("there is none")
    too_few, enough = 0, at_most
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if measure(middle) <= target else (middle, enough)
    return enough


def one_by_one(measure, target, at_most=64):
    """Return the same, asking for every number."""
    if measure(at_most) > target:
        raise ValueError("there is none")
    return next(n for n in range(1, at_most + 1) if measure(n) <= target)


def hundredths():
    return Callback(lambda n: 100 / n)


def questions(seed):
    for target in (2, 5 + seed % 20, 50):
        meter = hundredths()
        yield Metered(Call(meter, target), meter, allowed=8)


QUESTIONS = OperationBudget(
    inner=FunctionCheck(
        reference=fewest,
        cases=st.builds(lambda target: Call(hundredths(), target), st.integers(2, 100)),
        probes=(Call(hundredths(), 10),),
        refusals=(Call(hundredths(), 1),),
    ),
    count=metered("fewest", "measure", questions),
    bands=Bands(((1.0, 1.0), (2.0, 0.5))),
    known=(Misconception("one by one", "Bisect.", one_by_one),),
)
BISECT = """
def fewest(measure, target, at_most=64):
    if measure(at_most) > target:
        raise ValueError(target)
    too_few, enough = 0, at_most
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        {question}
        if measure(middle) <= target:
            enough = middle
        else:
            too_few = middle
    return enough
"""


def test_as_few_questions_as_allowed_earn_all_and_are_said(examine):
    finding = examine(QUESTIONS, BISECT.format(question="pass"))
    assert finding.fraction == 1
    assert finding.remarks[0].startswith("At most 7 calls of measure where 8 are allowed.")


@pytest.mark.parametrize(
    ("source", "fraction", "count"),
    [
        (BISECT.format(question="measure(middle)"), 0.5, "13"),
        (
            "def fewest(measure, target, at_most=64):\n    if measure(at_most) > target:\n"
            "        raise ValueError(target)\n"
            "    return next(n for n in range(1, 65) if measure(n) <= target)",
            0,
            "51",
        ),
    ],
)
def test_too_many_questions_cost_points_and_the_worst_case_is_shown(
    examine, source, fraction, count
):
    finding = examine(QUESTIONS, source)
    assert finding.fraction == fraction
    case = finding.counterexample
    assert case.case.startswith("fewest(")
    assert (case.expected, case.got) == ("at most 8 calls of measure", count)


@pytest.mark.parametrize("value", ["None", "7", "object()"])
def test_an_answer_without_questions_earns_nothing(examine, value):
    source = f"def fewest(measure, target, at_most=64):\n    return {value}"
    assert examine(QUESTIONS, source).fraction == 0


def test_asking_for_ever_earns_nothing(local):
    subject = local("def fewest(measure, target):\n    while True: measure(1)", "fewest")
    subject._timeout = 0.5
    assert QUESTIONS.examine(subject, SEED, 5).fraction == 0


@pytest.mark.parametrize("check", [SUMS, QUESTIONS], ids=["time", "operations"])
def test_the_reference_earns_all_and_what_is_known_to_be_dear_does_not(check):
    assert check.examine(LocalSubject(check.reference), SEED, 20).fraction == 1
    for misconception in check.misconceptions:
        finding = check.examine(LocalSubject(misconception.wrong), SEED, 20)
        assert finding.fraction < 1
        assert finding.misconception == misconception


def test_a_comment_is_no_evidence_for_what_makes_it_slow(examine):
    finding = examine(
        SUMS,
        "import numpy as np\nimport time\n"
        "def running_sums(numbers):\n"
        "    # for each in numbers:\n    #     total += each\n"
        "    sorted(numbers.tolist(), key=str)\n"
        "    return np.cumsum(numbers)",
    )
    assert finding.fraction < 1
    assert finding.misconception is None
