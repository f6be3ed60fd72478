"""Clients who come and go: what a part costs that is a small part of a run with a model."""

import time
from collections import Counter

import pytest

from autograder.project import performance
from autograder.project.answers import reference_pieces
from autograder.project.mixes import bustle
from autograder.project.performance import _come_and_go, alike
from autograder.project.rubric import rubric
from autograder.proxy.subject import LocalSubject
from course_lib.engine.answer import overlap
from course_lib.engine.memory_tracker import MemoryTracker


def engine(pieces):
    return LocalSubject({**reference_pieces(), **pieces}, 60.0)


def share(pieces):
    """Return the share of the points that the race leaves to an engine."""
    shares = rubric().performance.time.shares
    trusted = LocalSubject({}, 60.0)
    race = performance.run_race(_come_and_go, shares, alike, engine(pieces), trusted, 7)
    assert race.problem is None
    return shares.share(race.ratio)


def spin(seconds):
    ends = time.thread_time() + seconds
    while time.thread_time() < ends:
        pass


def slow(name, seconds):
    """Return a piece that is right, and takes so many seconds more at each call."""
    piece = reference_pieces()[name]

    def slowly(self, *args):
        spin(seconds)
        return piece(self, *args)

    return {name: slowly}


STEP = reference_pieces()["EngineCore.step"]


class SlowTracker(MemoryTracker):
    def observe(self):
        spin(0.005)
        super().observe()


def slow_where_forked(self):
    record = STEP(self)
    if record.forked:
        spin(0.03)
    return record


SLOW = {
    "append": slow("Answer.append", 0.0005),
    "push": slow("StopStrings.push", 0.0005),
    "finish_requests": slow("Scheduler.finish_requests", 0.01),
    "why_never": slow("Scheduler.why_never", 0.005),
    "observe": {"MemoryTracker": SlowTracker},
    "a step with forks": {"EngineCore.step": slow_where_forked},
}


@pytest.mark.parametrize("pieces", SLOW.values(), ids=SLOW.keys())
def test_a_slow_part_is_slow_where_clients_come_and_go(pieces):
    assert share(pieces) < 1


def push_letters(self, text):
    """Take in text letter by letter, as no one asks for."""
    passed = ""
    for letter in text:
        if self.found is not None:
            break
        self.kept_back += letter
        complete = [string for string in self.strings if self.kept_back.endswith(string)]
        if complete:
            self.found = complete[0]
            text, self.kept_back = self.kept_back.removesuffix(self.found), ""
            return passed + text
        kept = max((overlap(self.kept_back, string) for string in self.strings), default=0)
        cut = len(self.kept_back) - kept
        passed, self.kept_back = passed + self.kept_back[:cut], self.kept_back[cut:]
    return passed


class CountingTracker(MemoryTracker):
    @property
    def in_use(self):
        tables = self.manager.block_tables().values()
        held = Counter(block.block_id for table in tables for block in table)
        return len(held) * self.bytes_per_block

    def observe(self):
        if self.in_use > self.high_water:
            self.high_water = self.in_use


def test_parts_in_another_style_cost_nothing():
    assert share({"StopStrings.push": push_letters, "MemoryTracker": CountingTracker}) == 1


def test_of_the_clients_some_leave_some_are_refused_and_some_hear_a_stop_string():
    game = bustle(3)
    [outcome] = _come_and_go(LocalSubject({}, 60.0), 3)
    refused = gone = stopped = whole = 0
    for client, seen in zip(game.clients, outcome.value, strict=True):
        num_tokens = len(seen[0][0]) if seen else 0
        refused += not seen
        gone += bool(seen) and num_tokens == client.leaves_after
        assert len(seen) in (0, client.n)
        whole += num_tokens == client.max_tokens
        stopped += bool(seen) and num_tokens not in (client.leaves_after, client.max_tokens)
    assert refused == 6
    assert min(gone, stopped, whole) >= 3


def test_who_ends_answers_wrongly_is_timed_by_the_others_alone():
    def push(self, text):
        return text

    subject, trusted = engine({"StopStrings.push": push}), LocalSubject({}, 60.0)
    verdict = performance.timed(subject, trusted, 5)
    assert verdict.is_whole
    assert verdict.evidence[2].startswith("Where clients come and go it is not timed: ")
