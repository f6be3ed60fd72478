"""``course trace``: the story of one request among others."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autograder import cli
from autograder.errors import CourseError


def trace(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, ["trace", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_it_tells_the_story_and_writes_both_files(tmp_path: Path) -> None:
    chrome, table = tmp_path / "run.json", tmp_path / "run.csv"
    text = trace("A block", "--json", str(chrome), "--csv", str(table))
    assert "Request 'followed': " in text
    assert "16 out" in text
    assert "waits: behind 'other-5'" in text
    assert {"executor", "sampler", "detokenizer"} <= set(text.split())
    events = json.loads(chrome.read_text())["traceEvents"]
    assert {event["name"] for event in events if event["ph"] in "stf"} == {"request followed"}
    assert "other-8" in table.read_text()


def test_few_blocks_make_it_wait_for_others() -> None:
    text = trace("--num-blocks", "6", "--max-tokens", "24")
    assert "waits: nobody starts in a step that preempts" in text
    assert "has too little room, 0 blocks free" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x " * 500, "--num-blocks", "4"], "the prompt has"),
        (["--num-blocks", "1"], "1"),
        (["--model", "no-such-model"], "there is no model 'no-such-model'"),
        (["--json", "/no/such/folder/run.json"], "cannot write /no/such/folder/run.json"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], message: str) -> None:
    with pytest.raises(CourseError, match=message):
        trace(*arguments)
