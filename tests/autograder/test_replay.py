"""A failed check of a pool offers its failing case as a film, and only a learner is offered it."""

from types import SimpleNamespace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from autograder import lessons, notebook
from autograder.checks.exercise import Exercise
from autograder.checks.finding import Misconception
from autograder.checks.reference import Method
from autograder.checks.report import Report
from autograder.checks.stateful import StatefulCheck, Twin
from autograder.notebook import check
from course_lib.kv_cache import BlockPool
from course_lib.viz import replay


class Life(Twin):
    """Takes blocks of a pool and gives them back."""

    @initialize()
    def make(self):
        self.create(6)
        self.blocks = self.do("get_new_blocks", 2, reads=("block_id",))

    @rule(count=st.integers(1, 2))
    def take(self, count):
        self.do("get_new_blocks", count, reads=("block_id",))

    @rule()
    def free(self):
        self.do("free_blocks", self.blocks)


def frees_and_takes(life):
    """See where a freed block went."""
    life.create(6)
    blocks = life.do("get_new_blocks", 2, reads=("block_id",))
    life.do("free_blocks", blocks)
    life.do("get_new_blocks", 1, reads=("block_id",))


BACK = """
def free_blocks(self, ordered_blocks):
    for block in ordered_blocks:
        block.ref_cnt -= 1
        self.free_block_queue.append_n([block])
"""


ASLEEP = """
import time

def free_blocks(self, ordered_blocks):
    time.sleep(60)
"""


def all_to_the_back(self, ordered_blocks):
    """Queue every block at the back."""
    for block in ordered_blocks:
        block.ref_cnt -= 1
        self.free_block_queue.append_n([block])


POOL = StatefulCheck(
    reference=Method(BlockPool, "free_blocks"),
    machine=Life,
    probes=(frees_and_takes,),
    misconceptions=(Misconception("all to the back", "It goes to the front.", all_to_the_back),),
    max_steps=6,
)
EXERCISE = Exercise("7.4", "Free", "Give blocks back.", POOL, points=17)


@pytest.mark.parametrize("side", ["local", "remote"])
def test_a_failing_case_is_told_again_with_the_states_of_both_sides(side, request):
    subject = request.getfixturevalue(side)(BACK, "free_blocks")
    finding = POOL.examine(subject, seed=1, max_examples=50)
    assert finding.misconception.name == "all to the back"
    case = finding.retell()
    calls = [step.call for step in case.steps]
    assert "\n".join(calls) == finding.counterexample.case
    assert calls[:2] == ["obj = BlockPool(6)", "obj.get_new_blocks(2)"]
    freed = next(step for step in case.steps if "free_blocks" in step.call)
    assert freed.expected_state["free_queue"] == [1, 2, 3, 4, 5]
    assert freed.state["free_queue"] == [3, 4, 5, 1, 2]
    last = case.steps[-1]
    assert (last.expected, last.got) == (
        finding.counterexample.expected,
        finding.counterexample.got,
    )
    events = [frame.event for frame in replay(case).film]
    assert events[calls.index(freed.call)] == "the states part"
    assert events[-1] == "fails here"


def test_telling_it_again_does_not_change_what_the_check_finds(local):
    first, second = (POOL.examine(local(BACK, "free_blocks"), 1, 50) for _ in range(2))
    assert first == second
    assert first.retell() == first.retell() == second.retell()


def test_what_passes_is_not_told_again(local):
    right = "from course_lib.kv_cache import BlockPool\nfree_blocks = BlockPool.free_blocks"
    assert POOL.examine(local(right, "free_blocks"), 1, 20).retell is None


@pytest.fixture
def shown(monkeypatch):
    """Be in a notebook; collect what it displays."""
    displayed = []
    display = SimpleNamespace(display=displayed.append)
    python = SimpleNamespace(get_ipython=object, display=display)
    monkeypatch.setitem(notebook.sys.modules, "IPython", python)
    monkeypatch.setattr(lessons, "find", lambda exercise_id: EXERCISE)
    monkeypatch.setattr(lessons, "exercises", lambda lesson: [EXERCISE])
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    return displayed


def test_in_a_notebook_the_replay_is_offered_below_the_report(shown, load):
    from course_lib.viz.replays.offer import ReplayOffer

    assert check("7.4", load(BACK).free_blocks) == 0
    report, offer = shown
    assert isinstance(report, Report)
    assert isinstance(offer, ReplayOffer)
    offer.button.click()
    assert offer.children[1].film[-1].event == "fails here"


@pytest.mark.parametrize("purpose", ["autograde", "validate"])
def test_nbgrader_is_offered_nothing(shown, load, monkeypatch, purpose):
    monkeypatch.setenv("NBGRADER_EXECUTION", purpose)
    check("7.4", load(BACK).free_blocks)
    assert [type(each) for each in shown] == [Report]


def test_a_report_says_the_same_with_and_without_a_replay(load, capsys, monkeypatch):
    monkeypatch.setattr(lessons, "find", lambda exercise_id: EXERCISE)
    monkeypatch.setattr(lessons, "exercises", lambda lesson: [EXERCISE])
    check("7.4", load(BACK).free_blocks)
    said = capsys.readouterr().out
    assert said.startswith("7.4 Free: not yet, 0 of 17 points")
    assert "eplay" not in said


# The time is up again and again until the call is left, once while Hypothesis counts garbage.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_gave_no_answer_is_not_told_again(local, monkeypatch):
    subject = local(ASLEEP, "free_blocks")
    monkeypatch.setattr(subject, "_timeout", 0.2)
    finding = POOL.examine(subject, 1, 5)
    assert finding.fraction == 0
    assert finding.retell is None
