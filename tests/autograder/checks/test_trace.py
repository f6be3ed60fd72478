"""Checks of traces by hand, on a counter that a seed moves."""

import numpy as np
import pytest

from autograder.checks.answers import right_answer, wrong_answer
from autograder.checks.finding import Misconception
from autograder.checks.trace import Instance, TraceCheck
from autograder.proxy.subject import LocalSubject


def states(seed, step):
    """Return a counter after three steps that grow with the seed."""
    return {f"after step {n}": (seed % 7, n * step) for n in (1, 2, 3)}


def instance(seed):
    """Return the task of counting by the seed's remainder, plus 2."""
    return Instance(f"Seed {seed}: count three steps of 2.", states(seed, 2))


TRACE = TraceCheck(
    instance,
    misconceptions=(
        Misconception("steps of 1", "A step is 2 here.", lambda seed: states(seed, 1)),
        Misconception("backwards", "It counts up.", lambda seed: states(seed, -2)),
    ),
)


@pytest.fixture(params=["local", "remote"])
def examine(request):
    """Examine a value that stands in a learner's module, here and in another process."""
    make = request.getfixturevalue(request.param)
    return lambda value: TRACE.examine(make(f"answer = {value!r}", "answer"), 99, 1)


@pytest.mark.parametrize("seed", [0, 1, 4711])
def test_the_right_states_of_any_seed_pass_and_are_then_unfolded(examine, seed):
    finding = examine({"seed": seed, **instance(seed).answer})
    assert (finding.fraction, finding.counterexample) == (1, None)
    assert finding.remarks == (
        f"The answer of seed {seed}: after step 1: ({seed % 7}, 2); "
        f"after step 2: ({seed % 7}, 4); after step 3: ({seed % 7}, 6).",
    )


def test_lists_and_tuples_look_alike_on_paper(examine):
    answer = {key: list(v) if isinstance(v, tuple) else v for key, v in right_answer(TRACE).items()}
    assert examine(answer).fraction == 1


def test_each_state_earns_its_share_and_the_first_wrong_one_is_shown(examine):
    finding = examine(right_answer(TRACE) | {"after step 2": (1, 5)})
    assert finding.fraction == pytest.approx(2 / 3)
    case = finding.counterexample
    assert case.case == "seed 1\nafter step 1: (1, 2)  (right)\nafter step 2: (1, 5)"
    assert (case.expected, case.got) == ("another state", "(1, 5)")
    assert case.complaint == (
        "the first state that is wrong; 2 of 3 are right; of it, the first entry is right"
    )
    assert finding.misconception is None
    assert finding.remarks == (), "the answer stays folded"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ((2, 4), ""),
        ((1, 5), "; of it, the first entry is right"),
        ((1, 4, 9), "; of it, the first 2 entries are right"),
        ((), ""),
        (7, ""),
    ],
)
def test_of_a_list_it_is_said_how_far_it_is_right(examine, state, said):
    complaint = examine(right_answer(TRACE) | {"after step 2": state}).counterexample.complaint
    assert complaint == f"the first state that is wrong; 2 of 3 are right{said}"


def test_a_state_that_is_missing_is_said_to_be(examine):
    answer = right_answer(TRACE)
    del answer["after step 1"]
    assert examine(answer).counterexample.complaint == "this state is missing; 2 of 3 are right"


@pytest.mark.parametrize("mistake", TRACE.misconceptions, ids=lambda m: m.name)
def test_a_wrong_model_is_named(examine, mistake):
    finding = examine(wrong_answer(TRACE, mistake))
    assert finding.fraction < 1
    assert finding.misconception == mistake


def test_two_models_that_cannot_be_told_apart_are_not_named(local):
    twin = Misconception("single steps", "Likewise.", lambda seed: states(seed, 1))
    check = TraceCheck(instance, (*TRACE.misconceptions, twin))
    wrong = wrong_answer(check, twin)
    finding = check.examine(local(f"answer = {wrong}", "answer"), 1, 1)
    assert finding.misconception is None
    assert [each.name for each in finding.alike] == ["steps of 1", "single steps"]


def test_giving_up_unfolds_the_answer_and_earns_nothing(examine):
    finding = examine({"seed": 3, "give up": True})
    assert (finding.fraction, finding.unwritten) == (0, False)
    assert "after step 3: (3, 6)" in finding.remarks[0]
    assert "Another seed makes another task" in finding.remarks[0]


@pytest.mark.parametrize("answer", [{}, {"seed": 1}, {"seed": 1, "after step 1": None}, None])
def test_what_is_still_to_be_filled_in_is_not_started(examine, answer):
    finding = examine(answer)
    assert (finding.fraction, finding.unwritten) == (0, True)


@pytest.mark.parametrize("answer", [7, [], "x", {"seed": True}, {"seed": -1}, {"seed": "1"}])
def test_what_is_no_answer_earns_nothing(examine, answer):
    assert examine(answer).fraction == 0


@pytest.mark.parametrize("value", ["object()", "{'seed': 1, 'after step 1': object()}"])
def test_an_object_is_no_state(local, remote, value):
    for make in (local, remote):
        finding = TRACE.examine(make(f"answer = {value}", "answer"), 1, 1)
        assert finding.fraction == 0
        assert "Ref" not in repr(finding.counterexample)


def test_an_instance_shows_its_task_and_not_its_answer():
    shown = instance(5)
    assert shown._repr_markdown_() == repr(shown) == "Seed 5: count three steps of 2."


def test_another_seed_is_another_task():
    assert instance(1) != instance(2)
    answer = right_answer(TRACE) | {"seed": 2}
    assert TRACE.examine(LocalSubject(answer), 1, 1).fraction == 0


def test_an_array_is_as_good_as_a_list():
    answer = {"seed": 3} | {name: np.array(state) for name, state in states(3, 2).items()}
    assert TRACE.examine(LocalSubject(answer), 1, 1).fraction == 1


def test_a_task_as_it_is_posed_has_the_text_and_no_answer():
    posed = instance(1).posed()
    assert (posed.task, repr(posed), posed._repr_markdown_()) == (instance(1).task,) * 3
    assert not hasattr(posed, "answer")
    assert "(1, 2)" not in repr(vars(posed))
