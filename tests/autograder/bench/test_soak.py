"""``course bench soak``: that it finds nothing here, and that it would find something."""

import json
import random
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from autograder.bench import soak, soak_clients
from autograder.bench.soak import SoakReport, find_leaks, largest_gap, run_soak_suite
from autograder.bench.soak_clients import WrongAnswerError, draw_visit, read_stream
from autograder.bench.suites import measure, write_json
from autograder.cli import app
from autograder.errors import CourseError
from course_lib.engine import LLM, EngineParts, SamplingParams, checkpoint_folder
from course_lib.engine.checkpoint import load_checkpoint
from course_lib.kv_cache import KVCacheManager

NUM_CLIENTS = 12


def soaked(seed: int, **options: Any) -> SoakReport:
    return run_soak_suite(minutes=0, seed=seed, num_clients=NUM_CLIENTS, **options)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_short_soak_finds_nothing_and_says_what_it_did(seed: int, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    report = soaked(seed, on_step=lambda done, total: steps.append((done, total)))
    assert report.problems == []
    assert (report.num_episodes, steps) == (1, [(1, 1)])
    assert sum(report.visits.values()) == NUM_CLIENTS
    assert report.counts["tokens generated"] > 0
    assert report.counts["answers computed again"] > 0
    assert report.memory_mib[0] > 50
    console = Console(file=StringIO(), width=80)
    console.print(report.table())
    assert isinstance(console.file, StringIO)
    assert f"seed {seed}" in console.file.getvalue()
    write_json(report, tmp_path / "soak.json")
    assert json.loads((tmp_path / "soak.json").read_text())["visits"] == report.visits


def test_an_engine_that_stays_is_found_if_it_is_of_this_episode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    somebodys = LLM(parts=EngineParts.reference(), num_blocks=40)
    kept: list[LLM] = []
    monkeypatch.setattr(soak, "find_leaks", lambda llm: kept.append(llm) or [])
    [problem] = soaked(1).problems
    assert "objects are left of an engine that is gone: {" in problem
    assert "'LLM': 1" in problem
    assert soak.our_objects().count(somebodys) == 1


def test_ctrl_c_keeps_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    run_episode = soak.run_episode

    def interrupted_third(report: SoakReport, *arguments: Any) -> None:
        if report.num_episodes == 2:
            raise KeyboardInterrupt
        run_episode(report, *arguments)

    monkeypatch.setattr(soak, "run_episode", interrupted_third)
    report = run_soak_suite(minutes=60, seed=4, num_clients=2)
    assert (report.was_interrupted, report.num_episodes) == (True, 2)
    assert sum(report.visits.values()) == 4


def test_the_same_seed_asks_the_same() -> None:
    first, second = (
        [draw_visit(random.Random(5), str(number), 100) for number in range(20)] for _ in range(2)
    )
    assert first == second


def test_a_block_that_nobody_gives_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    free, num_freed = KVCacheManager.free, 0

    def forgetful(manager: KVCacheManager, request: Any, **options: Any) -> None:
        nonlocal num_freed
        num_freed += 1
        held = manager.block_tables()[request.request_id]
        if num_freed == 2 and held:
            manager.block_pool.touch(held[:1])
        free(manager, request, **options)

    llm = LLM(parts=EngineParts.reference(), num_blocks=40)
    assert find_leaks(llm) == []
    monkeypatch.setattr(KVCacheManager, "free", forgetful)
    llm.generate([[5, 6, 7], [8, 9]], SamplingParams(max_tokens=4, ignore_eos=True))
    assert find_leaks(llm) == [
        "blocks left: {'nobody': 1}",
        "blocks that are not free left: 1",
    ]


@pytest.mark.parametrize("temperature", [0, 1.3])
def test_a_token_that_is_not_the_models_is_found(temperature: float) -> None:
    model = load_checkpoint(checkpoint_folder("course-tiny"), dtype=torch.float32, device="cpu")
    params = SamplingParams(
        n=2, temperature=temperature, max_tokens=8, seed=9, repetition_penalty=1.3, ignore_eos=True
    )
    [answer] = LLM(parts=EngineParts.reference()).generate("A block table", params)
    assert largest_gap(model, answer, params) <= soak.CLOSE_ENOUGH
    tokens = answer.outputs[1].token_ids
    wrong = replace(answer.outputs[1], token_ids=[*tokens[:5], tokens[5] + 1, *tokens[6:]])
    answer = replace(answer, outputs=[answer.outputs[0], wrong])
    assert largest_gap(model, answer, params) > soak.CLOSE_ENOUGH


def event(content: Any) -> str:
    return f"data: {content if isinstance(content, str) else json.dumps(content)}\n\n"


def piece(text: str, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]}


@pytest.mark.parametrize(
    ("events", "what"),
    [
        ([piece("a"), piece("b", "stop")], "ends with"),
        ([piece("a", "stop"), piece("b"), "[DONE]"], "behind its end"),
        ([{"error": {"message": "no"}}, "[DONE]"], "comes in a stream"),
        (["a\u2028b", "[DONE]"], "no event of one line"),
    ],
)
def test_a_stream_that_is_not_well_formed_is_found(events: list[Any], what: str) -> None:
    with pytest.raises(WrongAnswerError, match=what):
        read_stream("".join(map(event, events)))


def test_growth_is_that_of_the_last_quarter() -> None:
    report = SoakReport("here", 0, memory_mib=[100.0] * 15)
    assert report.growth_mib is None
    report.memory_mib = [50.0] * 4 + [100.0] * 8 + [130.0] * 4
    assert report.growth_mib == 30.0


def test_the_command_says_the_seed_and_fails_for_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def find_one(report: SoakReport, *arguments: Any) -> None:
        report.num_episodes += 1
        report.problems.append("a block is missing")

    monkeypatch.setattr(soak, "run_episode", find_one)
    path = tmp_path / "soak.json"
    result = CliRunner().invoke(
        app, ["bench", "soak", "--minutes", "0", "--seed", "77", "--json", str(path)]
    )
    assert result.exit_code == 1
    assert "seed 77" in result.output
    assert json.loads(path.read_text())["problems"] == ["a block is missing"]


def test_other_suites_have_no_seed() -> None:
    with pytest.raises(CourseError, match="'core' has no option seed"):
        measure("core", lambda done, total: None, seed=1)


def test_a_stop_string_in_an_answer_is_found() -> None:
    visit = draw_visit(random.Random(0), "a", 100)
    visit = replace(visit, params=replace(visit.params, n=1, stop=["END"]))
    with pytest.raises(WrongAnswerError, match="'END' is in the answer"):
        soak_clients._require_choices(visit, {0: "the END of it"}, {0: "stop"})
