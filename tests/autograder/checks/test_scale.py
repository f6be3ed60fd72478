"""Checks of something better than another, on a queue at a counter: whom to serve next."""

import random
import re
from dataclasses import replace

import pytest

from autograder.checks.finding import Misconception
from autograder.checks.scale import (
    Condition,
    Measured,
    ScaleCheck,
    UnusableAnswerError,
    at_most,
    between,
    decision,
)
from autograder.proxy.subject import LocalSubject, Returned

SEED = 1


def shortest(minutes):
    """Serve the shortest."""
    return minutes.index(min(minutes))


def first(minutes):
    """Serve the first."""
    return 0


def play(subject, seed):
    """Serve forty customers who all came at once; measure their waits."""
    draw = random.Random(seed)
    waiting = [draw.choice([1, 1, 2, 3, 20]) for _ in range(40)]
    clock, waits = 0, []
    while waiting:
        asked = f"choose(minutes) with {len(waiting)} customers"
        chosen = decision(subject, asked, waiting)
        if type(chosen) is not int or not 0 <= chosen < len(waiting):
            raise UnusableAnswerError(asked, Returned(chosen), "it is the place of no customer")
        waits.append(clock)
        clock += waiting.pop(chosen)
    return {"mean": sum(waits) / len(waits), "worst": max(waits)}


GAME = ScaleCheck(
    reference=shortest,
    floor=first,
    play=play,
    conditions=(
        between("mean", "a mean wait below first come, first served", 0.75, reach=0.5, unit="min"),
        at_most("worst", lambda s: 1.2 * s.floor["worst"], "nobody waits much longer", 0.25, "min"),
    ),
    misconceptions=(
        Misconception("longest first", "It keeps all the others.", lambda m: m.index(max(m))),
        Misconception("last come", "It forgets the first.", lambda m: len(m) - 1),
    ),
)


@pytest.fixture(params=["local", "remote"])
def examine(request):
    """Examine a policy that stands in a learner's module, here and in another process."""
    make = request.getfixturevalue(request.param)
    return lambda body: GAME.examine(make(f"def choose(minutes):\n    {body}", "choose"), SEED, 1)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_reference_earns_all_and_the_floor_nothing(seed):
    best = GAME.examine(LocalSubject(shortest), seed, 1)
    assert best.fraction == 1
    assert len(best.remarks) == 2
    assert GAME.examine(LocalSubject(first), seed, 1).fraction == 0


def test_players_of_the_course_play_each_game_once():
    seeds = []

    def counting(subject, seed):
        seeds.append(seed)
        return play(subject, seed)

    game = replace(GAME, play=counting)
    own = LocalSubject(lambda minutes: minutes.index(sorted(minutes)[-len(minutes) // 4]))
    findings = [game.examine(own, seed, 1) for seed in (1, 1, 2)]
    # The learner three times; in both games floor and reference, and the two known mistakes.
    assert (seeds.count(1), seeds.count(2)) == (2 + 4, 1 + 4)
    assert findings[0] == findings[1] != findings[2]


def test_between_floor_and_bound_points_are_in_proportion(examine):
    finding = examine("return next((i for i, m in enumerate(minutes) if m < 20), 0)")
    assert 0.25 < finding.fraction <= 1
    shown = finding.remarks[0]
    assert shown.startswith("a mean wait below first come, first served: ")
    assert "no points at" in shown
    assert re.search(r", all of them at [\d.]+ min\.$", shown)


def test_what_was_measured_is_shown_with_its_limit(examine):
    finding = examine("return 0")
    case = finding.counterexample
    assert case.case == "the game, measured"
    assert case.expected == "a mean wait below first come, first served"
    assert "; no points at " in case.got
    assert finding.misconception is None


@pytest.mark.parametrize("mistake", GAME.misconceptions, ids=lambda m: m.name)
def test_a_known_bad_player_is_named(mistake):
    finding = GAME.examine(LocalSubject(mistake.wrong), SEED, 1)
    assert finding.fraction < 1
    assert finding.misconception == mistake


@pytest.mark.parametrize(
    ("body", "got", "complaint"),
    [
        ("return object()", "<object object>", "it is the place of no customer"),
        ("return -1", "-1", "it is the place of no customer"),
        ("return 40", "40", "it is the place of no customer"),
        ("return True", "True", "it is the place of no customer"),
        ("return minutes[99]", "IndexError: list index out of range", "in line 2: return minut"),
    ],
)
def test_a_decision_that_is_none_ends_the_game(examine, body, got, complaint):
    finding = examine(body)
    assert (finding.fraction, finding.unwritten) == (0, False)
    assert finding.counterexample.case == "choose(minutes) with 40 customers"
    assert finding.counterexample.got == got
    assert finding.counterexample.complaint.startswith(complaint)


def test_the_stub_is_not_started(examine):
    finding = examine("pass")
    assert (finding.fraction, finding.unwritten) == (0, True)


def test_an_endless_loop_ends_the_game(local):
    subject = local("def choose(minutes):\n    while True: pass", "choose")
    subject._timeout = 0.3
    finding = GAME.examine(subject, SEED, 1)
    assert finding.fraction == 0
    assert "is there an endless loop?" in finding.counterexample.got


def test_the_game_is_the_checks_a_player_cannot_spoil_it(examine):
    clears = examine("chosen = minutes.index(min(minutes)); minutes.clear(); return chosen")
    assert clears.fraction == 1


def test_the_scale_points_to_where_the_bound_is():
    met = between("x", "asks", 1.0).met
    assert [met(Measured({"x": x}, {"x": 10.0}, {"x": 2.0})) for x in (12, 10, 6, 2, 0)] == [
        0,
        0,
        0.5,
        1,
        1,
    ]
    level = [met(Measured({"x": x}, {"x": 5.0}, {"x": 5.0})) for x in (5, 4)]
    assert level == [1, 0]


def test_the_shares_of_the_conditions_add_up_to_all():
    half = Condition("a", 0.5, lambda scores: 1.0, lambda scores: "")
    with pytest.raises(ValueError, match=r"add up to 0\.5; they must to 1"):
        ScaleCheck(shortest, first, play, (half,))
