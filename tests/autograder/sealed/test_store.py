"""Results that are whole or not there, whatever ends the grader, and a log that tells of edits."""

from __future__ import annotations

import json
import multiprocessing
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from autograder.errors import CourseError
from autograder.sealed import store as stores
from autograder.sealed.store import Store, key_of
from autograder.sealed.verdict import Evidence, Remark, Status, Verdict

VERDICTS = (
    Verdict("1.1", "c1", Status.FAIL, 0.25, "why", (Remark.CELL_MISSING,), "off by one"),
    Verdict("1.2", "c2", Status.PASS, 1.0, evidence=Evidence(1.5, 0.25, 2)),
)
KEYS = [key_of(str(number)) for number in range(3)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "sealed")


def filled(store: Store) -> Store:
    for key in KEYS:
        store.put(key, VERDICTS, {"student": "ada"})
    return store


def log_of(store: Store) -> Path:
    return store.folder / "log.jsonl"


def test_what_is_stored_is_found_again_whole(store: Store) -> None:
    assert store.get(KEYS[0]) is None
    filled(store)
    again = Store(store.folder)
    assert again.get(KEYS[1]) == VERDICTS
    assert again.get(KEYS[1])[1].evidence == Evidence(1.5, 0.25, 2)  # type: ignore[index]
    assert [entry.about["student"] for entry in again.entries()] == ["ada"] * 3
    assert again.audit() == []


def test_nothing_is_stored_twice(store: Store) -> None:
    filled(filled(store))
    assert len(log_of(store).read_text().splitlines()) == 3


def test_the_secret_is_drawn_once_and_for_the_owner_alone(store: Store) -> None:
    secret = store.secret()
    assert len(secret) == 32
    assert Store(store.folder).secret() == secret
    assert (store.folder / "secret").stat().st_mode & 0o077 == 0
    assert store.folder.stat().st_mode & 0o077 == 0


def test_a_result_that_the_log_does_not_have_does_not_count(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_append", power_cut)
        with pytest.raises(KeyboardInterrupt):
            store.put(KEYS[0], VERDICTS, {})
    assert store.get(KEYS[0]) is None
    filled(store)
    assert store.audit() == []


def test_a_line_that_was_cut_off_is_dropped_and_written_anew(store: Store) -> None:
    filled(store)
    whole = log_of(store).read_bytes()
    log_of(store).write_bytes(whole[:-20])
    again = Store(store.folder)
    assert again.get(KEYS[2]) is None
    assert again.get(KEYS[1]) == VERDICTS
    again.put(KEYS[2], VERDICTS, {"student": "ada"})
    assert log_of(store).read_bytes() == whole


def test_a_full_disk_changes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(store)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_write", full)
        with pytest.raises(CourseError, match=r"No space left on device; free some space"):
            store.put(key_of("new"), VERDICTS, {})
    with monkeypatch.context() as patch:
        patch.setattr(stores, "write_atomically", full)
        with pytest.raises(OSError, match="No space"):
            store.put(key_of("new"), VERDICTS, {})
    assert store.get(key_of("new")) is None
    assert store.audit() == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda lines: [lines[0], lines[2]], "line 2 of the log does not follow"),
        (lambda lines: [lines[1], lines[0], lines[2]], "line 1 of the log does not follow"),
        (lambda lines: [lines[0].replace("ada", "eve"), *lines[1:]], "line 1 of the log was edi"),
        (lambda lines: [*lines[:2], lines[2].replace("ada", "eve")], "line 3 of the log was edi"),
        (lambda lines: lines[:2], f"the result {KEYS[2][:12]} is not in the log"),
        (lambda lines: [lines[0], "{}\n", *lines[1:]], "line 2 of the log is damaged"),
        (lambda lines: [lines[0], "no\n", *lines[1:]], "line 2 of the log is damaged"),
    ],
)
def test_an_edited_log_is_noticed(
    store: Store, damage: Callable[[list[str]], list[str]], said: str
) -> None:
    lines = log_of(filled(store)).read_text().splitlines(keepends=True)
    log_of(store).write_text("".join(damage(lines)))
    assert any(problem.startswith(said) for problem in Store(store.folder).audit())


def test_an_edited_or_missing_result_is_noticed_and_does_not_count(store: Store) -> None:
    paths = sorted((filled(store).folder / "results").rglob("*.json"))
    data = json.loads(paths[0].read_text())
    data[0]["fraction"] = 1.0
    paths[0].write_text(json.dumps(data, indent=1))
    paths[1].unlink()
    again = Store(store.folder)
    known = [again.get(path.stem) for path in paths]
    assert known == [None, None, VERDICTS]
    assert sorted(again.audit()) == sorted(
        [
            f"the result {paths[0].stem[:12]} was changed after it was graded",
            f"the result {paths[1].stem[:12]} is missing",
        ]
    )


def test_a_grader_that_is_killed_again_and_again_leaves_the_same_results(store: Store) -> None:
    names = [f"student {number}" for number in range(30)]
    context = multiprocessing.get_context("fork")
    moments = random.Random(7)
    for _ in range(20):
        grader = context.Process(target=_put, args=(store.folder, names))
        grader.start()
        grader.join(timeout=moments.uniform(0, 0.05))
        grader.kill()
        grader.join()
    _put(store.folder, names)
    assert store.audit() == []
    assert [store.get(key_of(name)) for name in names] == [VERDICTS] * len(names)
    assert len(log_of(store).read_text().splitlines()) == len(names)


def _put(folder: Path, names: list[str]) -> None:
    store = Store(folder)
    for name in names:
        store.put(key_of(name), VERDICTS, {"student": name})


def test_two_graders_at_once_double_and_lose_nothing(store: Store) -> None:
    names = [f"student {number}" for number in range(40)]
    context = multiprocessing.get_context("fork")
    graders = [
        context.Process(target=_put, args=(store.folder, order)) for order in (names, names[::-1])
    ]
    for grader in graders:
        grader.start()
    for grader in graders:
        grader.join()
    assert [grader.exitcode for grader in graders] == [0, 0]
    assert store.audit() == []
    assert sorted(entry.about["student"] for entry in store.entries()) == sorted(names)
    assert len(log_of(store).read_text().splitlines()) == len(names)
