"""The request trace: what its task says is so, and what its hunt shows is in the traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autograder import lessons
from autograder.lessons import lesson14_gaps as given
from autograder.lessons import lesson14_hunt as hunt
from autograder.lessons import lesson14_runs as played
from autograder.lessons.lesson14_export import FAULTY, VALID, shown, time_line_violations
from autograder.proxy.subject import LocalSubject
from course_lib.engine.tracing.recorded import vllm_runs
from course_lib.scheduling.variants.async_scheduler import AsyncScheduler
from lesson_samples import marked_by_machine, points_of, sample_of

SEEDS = range(1, 13)


@pytest.fixture(scope="module")
def runs() -> dict[str, played.Served]:
    """The runs that the notebook compares."""
    kinds: dict[str, type[AsyncScheduler]] = {
        "before": AsyncScheduler,
        "after": played.SuspectScheduler,
        "A": played.FixA,
        "B": played.FixB,
        "mended": played.mended(hunt.sort_tokens),
    }
    return {label: played.Served(kind) for label, kind in kinds.items()}


# The gaps


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gaps_agree_with_one_another(seed: int) -> None:
    settings, story = given.instance(seed)
    answer = given.gaps(seed).answer
    prompt = settings.prompts[given.FOLLOWED]
    assert answer["found"] + answer["chunk 1"] + answer["chunk 2"] == prompt
    known = prompt + story.preempted - answer["first token"]
    assert (answer["held"] * settings.block_size, answer["again"]) == (
        known - 1,
        known - answer["found again"],
    )
    left = settings.budget - sum(known - done for done, known in story.others.values())
    assert answer["chunk 1"] == left
    whole = "".join(settings.pieces)
    assert answer["shown"] == whole[: whole.index(settings.stop)]
    assert settings.stop.startswith(answer["kept back"])
    assert answer["kept back"]


@pytest.mark.parametrize("seed", SEEDS)
def test_each_wrong_idea_gives_another_answer_on_every_seed(seed: int) -> None:
    right = given.gaps(seed).answer
    assert all(mistake.wrong(seed) != right for mistake in given.GAPS)


def test_each_gap_that_is_wrong_is_told_what_it_is_made_of_and_no_number_of_it() -> None:
    exercise = lessons.find("14.1")
    right = given.gaps(1).answer
    for gap, value in right.items():
        wrong = f"{value}?" if isinstance(value, str) else value + 1000
        answer = {"seed": 1, **right, gap: wrong}
        complaint = exercise.examine(LocalSubject(answer)).counterexample.complaint
        assert given.gaps(1).notes[gap] in complaint
        named = given.gaps(1).notes[gap].replace("blocks of 8", "").replace("step 19", "")
        assert not any(sign.isdigit() for sign in named)


def test_seeds_differ_and_the_task_gives_nothing_away() -> None:
    answers = [given.gaps(seed).answer for seed in SEEDS]
    assert len({str(answer) for answer in answers}) > len(answers) // 2
    posed = given.gaps(1).posed()
    assert all(f"[{key}]" in posed.task for key in list(answers[0])[:8])
    assert not hasattr(posed, "answer")


@pytest.mark.parametrize(("state", "is_one"), [(3, True), ("Q", True), (None, False), ([3], False)])
def test_a_gap_is_a_number_or_a_text(state: Any, is_one: bool) -> None:
    assert (given.form_of_a_gap(state) == "") is is_one


# The hunt


def test_the_texts_are_the_same_and_the_preemptions_are_more_than_three_times(
    runs: dict[str, played.Served],
) -> None:
    assert all(run.answers == runs["before"].answers for run in runs.values())
    counts = {label: len(hunt.preemptions(run.told)) for label, run in runs.items()}
    assert counts == {"before": 7, "after": 27, "A": 19, "B": 7, "mended": 7}
    lost = {label: len(hunt.lost_tokens(run.told)) for label, run in runs.items()}
    assert lost == {"before": 0, "after": 27, "A": 19, "B": 0, "mended": 0}
    assert (runs["before"].num_tokens, runs["after"].num_tokens) == (4005, 4348)


def test_all_that_is_delivered_was_chosen_in_the_step_that_is_told(
    runs: dict[str, played.Served],
) -> None:
    for run in runs.values():
        chosen = [(s, n) for s, action, n in run.told if action == "chooses"]
        shown = [(s, n) for s, action, n in run.told if action == "shows"]
        assert set(shown) <= set(chosen)
        assert len(set(shown)) == len(shown) == sum(map(len, run.answers.values()))


def test_what_is_found_in_the_trace_is_told_of_the_request_that_goes_in_a_circle(
    runs: dict[str, played.Served],
) -> None:
    found = hunt.findings()
    assert found == {"preemptions": 27, "lost": 27, "at once": 18, "who": "r4", "how often": 6}
    story = runs["after"].trace.request("r4")
    assert [e.step for e in story if e.action == "is preempted"] == list(range(96, 108, 2))


def test_a_stranger_gets_the_token_of_an_aborted_request_under_its_name() -> None:
    assert played.stranger(played.FixB) == [666, 2]
    for kind in (AsyncScheduler, played.SuspectScheduler, played.mended(hunt.sort_tokens)):
        assert played.stranger(kind) == [1, 2]


# The recorded runs of vLLM


@pytest.mark.parametrize("seed", range(1, 30))
def test_what_it_computes_when_it_is_back_follows_from_who_is_said_to_run(seed: int) -> None:
    settings, story = given.instance(seed)
    assert story.again <= settings.budget - len(story.still_run)
    said = given.gaps(seed).task
    told = {0: "neither does", 1: f"only {''.join(story.still_run)} does", 2: "both do"}
    assert f"{told[len(story.still_run)]} in step {story.resumes}" in said


def test_a_faulty_file_looks_like_no_valid_one_where_it_is_shown() -> None:
    assert not {*map(shown, FAULTY.values())} & {*map(shown, VALID.values())}


def test_the_files_of_the_recorded_runs_break_no_rule() -> None:
    for trace in vllm_runs().values():
        assert time_line_violations(trace.chrome_events()) == []


def _names_in_turn(events: list[dict[str, Any]]) -> list[str]:
    """Look for the name of a track among those of earlier events."""
    said, named = time_line_violations(events), set()
    for event in sorted(events, key=lambda event: event.get("ts", 0)):
        if event["ph"] == "M":
            named.add(event["tid"])
        elif event["ph"] == "X" and event.get("tid") not in named:
            said.append("no track")
    return said


def _no_track_needed(events: list[dict[str, Any]]) -> list[str]:
    """Pass over a bar that is on no track."""
    return time_line_violations([e for e in events if e["ph"] != "X" or "tid" in e])


@pytest.mark.parametrize("checker", [_names_in_turn, _no_track_needed])
def test_a_track_may_be_named_last_and_a_bar_is_on_one(checker: Any) -> None:
    exercise = lessons.find("14.3")
    assert exercise.examine(LocalSubject(checker, exercise.patience)).fraction < 1


def test_each_fault_but_one_stands_alone() -> None:
    assert sorted(len(events) for events in FAULTY.values())[-2] <= 4


# Writing it


def test_an_answer_written_otherwise_passes() -> None:
    def lost_in_a_loop(told: list[Any]) -> list[Any]:
        open_ones: dict[Any, None] = {}
        for step, action, name in told:
            if action == "chooses":
                open_ones[step, name] = None
        for step, action, name in told:
            if action == "shows":
                open_ones.pop((step, name), None)
        return list(open_ones)

    exercise = lessons.find("14.2a")
    finding = exercise.examine(LocalSubject(lost_in_a_loop, exercise.patience))
    assert finding.fraction == 1


def test_the_sample_earns_what_it_says(tmp_path: Path) -> None:
    sample = sample_of("14_request_trace", "partly_right")
    said = marked_by_machine(sample)
    earned = points_of(sample, tmp_path, needed=("before, after",))
    assert {name: points for name, points in earned.items() if points} == {
        f"check-{name}" if not name.startswith("check-") else name: points
        for name, points in said.items()
        if points
    }
