"""Checks of checkers: one that looks at pools, one that raises, one that tests a function."""

from dataclasses import replace

import pytest

from autograder.checks.checker import CheckerCheck
from autograder.checks.finding import Misconception
from autograder.checks.function import Call
from autograder.proxy.recipes import At, Callback, Make
from autograder.proxy.subject import LocalSubject
from course_lib.kv_cache import BlockPool
from course_lib.kv_cache.watch.invariants import find_violations

SEED = 1


def line(pool):
    """Show a pool by its free queue and its counts."""
    queue = " ".join(str(block.block_id) for block in pool.free_block_queue)
    return f"free [{queue}], held {[block.ref_cnt for block in pool.blocks[1:]]}"


def fewer(seed):
    """Return a pool in which a block that the seed decides is held by fewer than nobody."""
    block = 1 + seed % 4
    return {f"negative {block}": Make(BlockPool, 6).set(f"blocks.{block}.ref_cnt", -1)}


POOL = Make(BlockPool, 6)
CHECKER = CheckerCheck(
    reference=find_violations,
    faulty={
        "held and free": POOL.set("blocks.2.ref_cnt", 1),
        "lost": POOL.do("get_new_blocks", 1).set("blocks.1.ref_cnt", 0),
        "a hash nobody finds": POOL.set("blocks.5.block_hash", b"x"),
    },
    valid={
        "new": POOL,
        "some held": POOL.do("get_new_blocks", 2),
        "another order": POOL.do("get_new_blocks", 3).do(
            "free_blocks", [At("blocks.3"), At("blocks.1")]
        ),
    },
    drawn=fewer,
    shows=line,
    misconceptions=(
        Misconception(
            "sum only",
            "Mistakes cancel in a sum.",
            lambda pool: (
                []
                if sum(b.ref_cnt for b in pool.blocks[1:]) + pool.get_num_free_blocks() == 5
                else ["the sum is off"]
            ),
        ),
        Misconception(
            "one order demanded",
            "Any order of the free queue is valid.",
            lambda pool: (
                []
                if [b.block_id for b in pool.free_block_queue]
                == sorted(b.block_id for b in pool.free_block_queue)
                else ["out of order"]
            ),
        ),
    ),
)


@pytest.fixture(params=["local", "remote"])
def examine(request):
    """Examine a checker that stands in a learner's module, here and in another process."""
    make = request.getfixturevalue(request.param)

    def examine(check, source, name="checker", timeout=None):
        subject = make(source, name)
        if timeout is not None:
            subject._timeout = timeout
        return check.examine(subject, SEED, 1)

    return examine


def body(condition):
    return f"def checker(pool):\n    return ['bad' for b in pool.blocks[1:] if {condition}]"


HELD_AND_FREE = "queued = [x.block_id for x in pool.free_block_queue]"


def test_the_reference_catches_all_and_spares_all():
    finding = CHECKER.examine(LocalSubject(find_violations), SEED, 1)
    assert finding.fraction == 1
    assert finding.remarks == ("All 4 faulty ones are caught, all 3 valid ones spared.",)


def test_points_for_each_that_is_caught_and_the_simplest_missed_one_is_shown(examine):
    finding = examine(CHECKER, body("b.ref_cnt < 0 or (b.block_hash is not None)"))
    assert finding.fraction == 0.5
    case = finding.counterexample
    assert case.case == "free [1 2 3 4 5], held [0, 1, 0, 0, 0]"
    assert case.expected == "at least one violation: this one is faulty"
    assert case.got == "[]"
    assert case.complaint == "2 of 4 faulty ones are caught; this one is not"
    shown = repr(finding)
    assert not any(name in shown for name in CHECKER.faulty), "which rule to add is not said"


def test_a_missed_one_is_shown_as_one_would_type_it_above_what_it_then_is():
    typed = replace(CHECKER, typed=repr)
    case = typed.examine(LocalSubject(lambda pool: []), SEED, 1).counterexample.case
    assert case == (
        "BlockPool(6) with .blocks.2.ref_cnt = 1\n# free [1 2 3 4 5], held [0, 1, 0, 0, 0]"
    )


def test_nothing_for_whoever_rejects_a_valid_one_and_it_is_shown_with_what_was_said(examine):
    source = "def checker(pool):\n    return ['a block is held' for b in pool.blocks if b.ref_cnt]"
    finding = examine(CHECKER, source)
    assert finding.fraction == 0
    case = finding.counterexample
    assert case.case == "free [3 4 5], held [1, 1, 0, 0, 0]"
    assert case.expected == "[]: this one is valid"
    assert case.got == "['a block is held', 'a block is held']"
    assert case.complaint.startswith("1 of 3 valid ones are accepted")


@pytest.mark.parametrize("mistake", CHECKER.misconceptions, ids=lambda m: m.name)
def test_a_known_wrong_checker_is_named(mistake):
    finding = CHECKER.examine(LocalSubject(mistake.wrong), SEED, 1)
    assert finding.fraction < 1
    assert finding.misconception == mistake


def test_a_known_wrong_checker_is_asked_no_further_than_it_judges_otherwise():
    looked = []

    def counted(pool):
        looked.append(1)
        return ["everything"]

    check = replace(CHECKER, misconceptions=(Misconception("all", "Some are valid.", counted),))
    finding = check.examine(LocalSubject(lambda pool: []), SEED, 1)
    assert (finding.misconception, len(looked)) == (None, 1)
    finding = check.examine(LocalSubject(lambda pool: ["everything"]), SEED, 1)
    assert finding.misconception.name == "all"


def test_a_checker_whose_verdicts_fit_no_known_one_has_no_name(examine):
    assert examine(CHECKER, body("b.ref_cnt < 0")).misconception is None


@pytest.mark.parametrize(
    ("source", "fraction", "complaint"),
    [
        ("def checker(pool):\n    return True", 0, "a list with one text for each violation"),
        ("def checker(pool):\n    return [object()]", 0, "a list with one text for each"),
        ("def checker(pool):\n    return object()", 0, "a list with one text for each violation"),
        ("def checker(pool):\n    1 / 0", 0, "in line 2: 1 / 0"),
        ("def checker(pool):\n    return []", 0, "0 of 4 faulty ones are caught; this one is not"),
        ("def checker(pool):\n    return ['bad']", 0, "0 of 3 valid ones are accepted"),
    ],
)
def test_what_says_the_same_of_everything_earns_nothing(examine, source, fraction, complaint):
    finding = examine(CHECKER, source)
    assert (finding.fraction, finding.unwritten) == (fraction, False)
    assert complaint in finding.counterexample.complaint


def test_the_stub_is_not_started(examine):
    finding = examine(CHECKER, "def checker(pool):\n    pass")
    assert (finding.fraction, finding.unwritten) == (0, True)


def test_an_endless_loop_earns_nothing(local):
    subject = local("def checker(pool):\n    while True: pass", "checker")
    subject._timeout = 0.5
    finding = CHECKER.examine(subject, SEED, 1)
    assert finding.fraction == 0
    assert "is there an endless loop?" in finding.counterexample.got


def test_neither_the_place_nor_the_number_of_calls_tells_which_is_which(local):
    count = "calls = []\ndef checker(pool):\n    calls.append(0)\n"
    source = count + "    return ['bad'] if len(calls) > 3 else []"
    findings = [CHECKER.examine(local(source, "checker"), seed, 1) for seed in range(1, 9)]
    assert {finding.fraction for finding in findings} == {0.0}
    complaints = {finding.counterexample.complaint for finding in findings}
    assert "asked twice about the same, it says two different things" in complaints


def test_the_seed_decides_what_is_drawn(local):
    only_first = "b.ref_cnt < 0 and b.block_id == 2"
    found = [
        CHECKER.examine(local(body(only_first), "checker"), seed, 1).fraction for seed in (1, 2)
    ]
    assert found == [0.25, 0.0]


# Other ways of saying no


def total(prices, discount):
    """Raise ValueError unless the discount is a part of the prices."""
    if not 0 <= discount <= sum(prices):
        raise ValueError("the discount is no part of the prices")


RAISES = CheckerCheck(
    reference=total,
    faulty={"negative": Call([1, 2], -1), "too much": Call([1, 2], 4)},
    valid={"all": Call([1, 2], 3), "nothing": Call([], 0)},
    raises=ValueError,
)
TOTAL = "def checker(prices, discount):\n"


@pytest.mark.parametrize(
    ("lines", "fraction", "says"),
    [
        ("if not 0 <= discount <= sum(prices): raise ValueError('no')", 1, None),
        ("if discount < 0: raise ValueError('no')", 0.5, "a ValueError: this one is faulty"),
        ("raise ValueError('no')", 0, "no exception: this one is valid"),
        ("return []", 0, "no exception: this one is valid"),
        ("raise KeyError(1)", 0, "no exception: this one is valid"),
        ("prices.sort(reverse=True)\n    raise ValueError('no')", 0, "no exception"),
    ],
)
def test_a_checker_may_raise(examine, lines, fraction, says):
    finding = examine(RAISES, f"{TOTAL}    {lines}")
    assert finding.fraction == fraction
    assert says is None or says in finding.counterexample.expected


def test_a_checker_that_changes_what_it_looks_at_breaks_it(examine):
    finding = examine(RAISES, f"{TOTAL}    prices.clear()")
    assert finding.counterexample.complaint == "it changes what it looks at (argument 1)"
    assert finding.counterexample.case == "[1, 2], 3"


def half_up(x):
    """Round a number, halves up."""
    return int(x + 0.5)


def test_of_rounding(rounded):
    """Return what is wrong with a function that rounds halves up."""
    wrong = {0.4: 0, 0.5: 1, 1.5: 2, 2.6: 3}
    return [f"{x} became {rounded(x)}" for x, right in wrong.items() if rounded(x) != right]


BEHAVIOUR = CheckerCheck(
    reference=test_of_rounding,
    faulty={
        "down": Callback(int),
        "to even": Callback(round),
        "up": Callback(lambda x: -int(-x // 1)),
    },
    valid={"right": Callback(half_up), "otherwise": Callback(lambda x: int((2 * x + 1) // 2))},
    shows=lambda rounded: f"rounded(2.6) is {rounded(2.6)}",
)
# A test of the learner's, not one of pytest's.
test_of_rounding.__test__ = False


def test_a_test_of_a_function_is_graded_by_faulty_functions(examine):
    source = (
        "def checker(rounded):\n    return [f'{x}' for x in (0.4, 1.5) if rounded(x) != x // 0.75]"
    )
    finding = examine(BEHAVIOUR, source)
    assert finding.fraction == pytest.approx(2 / 3)
    assert finding.counterexample.case == "rounded(2.6) is 3"
    assert BEHAVIOUR.examine(LocalSubject(test_of_rounding), SEED, 1).fraction == 1


@pytest.mark.parametrize(
    "harm", ["pool.get_new_blocks(1)", "pool.blocks[3].ref_cnt = 1", "pool.blocks.reverse()"]
)
def test_a_checker_leaves_the_pool_that_it_looks_at_as_it_is(local, harm):
    source = "from course_lib.kv_cache.watch.invariants import find_violations\n"
    source += f"def check(pool):\n    found = find_violations(pool)\n    {harm}\n    return found"
    finding = CHECKER.examine(local(source, "check"), SEED, 1)
    assert finding.fraction == 0
    assert finding.counterexample.complaint == "it changes what it looks at (argument 1)"
