"""Who judges: in this process, in one of its own, or in the workers of a cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from autograder.errors import CourseError
from autograder.proxy.wire import write_frame
from autograder.sealed import fan_out, judges
from autograder.sealed.box.box import BoxError
from autograder.sealed.intake import Cell, Role, Submission, graded_cells
from autograder.sealed.judges import JudgeProcess, Order, one_by_one
from autograder.sealed.release import Release
from autograder.sealed.verdict import Status, Verdict

RIGHT = """def kv_bytes_per_token(model):
    return 2 * model.num_layers * model.num_kv_heads * model.head_dim * model.dtype_bytes"""
VERDICT = Verdict("1.1", "check-ex-1-1", Status.PASS, 1.0)


def order(number: int = 0) -> Order:
    cells = (Cell(Role.ANSWER, f"x = {number}", "ex-1-1"), Cell(Role.TEXT, "Because."))
    return Order("01_two", b"secret", Submission("ada", "01_two", cells))


def test_an_order_is_plain_data() -> None:
    assert Order.from_data(json.loads(json.dumps(order().as_data()))) == order()


@pytest.fixture
def checkout(
    boxes: None, two_exercises: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A checkout whose only lesson has two exercises."""
    # As the released notebook has them, with what was imported before them.
    path = tmp_path / "lessons" / "01_two" / "01_two.ipynb"
    path.parent.mkdir(parents=True)
    cells = [dict(cell) for cell in two_exercises.cells]
    document = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(document))
    root = Path(judges.__file__).parents[2]
    shutil.copytree(root / "grading" / "question_banks", tmp_path / "grading" / "question_banks")
    monkeypatch.setenv("COURSE_ROOT", str(tmp_path))
    monkeypatch.delenv("COURSE_TRACES", raising=False)
    return tmp_path


def test_a_judge_in_a_process_of_its_own(checkout: Path, two_exercises: Release) -> None:
    cells = [cell.copy() for cell in two_exercises.cells]
    for cell in cells:
        if cell.id == "ex-1-1":
            cell.source = RIGHT
    submission = Submission("ada", "01_two", graded_cells(cells, two_exercises)[0])
    judge = JudgeProcess()
    try:
        first, second, *_ = judge.judge(Order("01_two", b"secret", submission))
        assert (first.status, second.status) == (Status.PASS, Status.FAIL)
        with pytest.raises(BoxError, match="no_such_lesson"):
            judge.judge(Order("99_no_such_lesson", b"secret", submission))
    finally:
        judge.close()
    with pytest.raises(BoxError, match="a judge was lost"):
        judge.judge(Order("01_two", b"secret", submission))


def test_one_by_one_goes_on_where_the_machine_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(self: object, order: Order) -> tuple[Verdict, ...]:
        if order.submission.cells[0].source == "x = 1":
            raise BoxError("no box")
        return (VERDICT,)

    monkeypatch.setattr(judges.Judge, "judge", judge)
    found = dict(one_by_one({str(number): order(number) for number in range(3)}))
    assert found == {"0": (VERDICT,), "1": None, "2": (VERDICT,)}


class Unreliable:
    """A judge who is lost with every other order, and for good with one of them."""

    asked: ClassVar[dict[str, int]] = {}

    def judge(self, order: Order) -> tuple[Verdict, ...]:
        source = order.submission.cells[0].source
        self.asked[source] = self.asked.get(source, 0) + 1
        if source == "x = 3" or (self.asked[source] == 1 and source in ("x = 0", "x = 2")):
            raise BoxError("lost")
        return (VERDICT,)

    def close(self) -> None:
        """Be no more."""


@pytest.fixture(params=[1])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A cluster in this process, of so many workers."""
    from distributed import Client

    with Client(
        processes=False, n_workers=request.param, threads_per_worker=1, dashboard_address=None
    ) as client:
        yield client


def test_a_judge_that_is_lost_loses_nothing(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan_out, "JudgeProcess", Unreliable)
    found = dict(fan_out.judge_all(client, {str(n): order(n) for n in range(5)}))
    assert found == {**dict.fromkeys("0124", (VERDICT,)), "3": None}
    assert Unreliable.asked["x = 1"] == 1


@pytest.mark.parametrize("client", [0], indirect=True)
def test_nobody_waits_for_workers_that_are_gone(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fan_out, "_LOOK", 0.05)
    with pytest.raises(CourseError, match=r"no worker is left for the 2 .* run the command again"):
        list(fan_out.judge_all(client, {"0": order(0), "1": order(1)}))


def test_a_worker_that_ends_while_it_starts_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**options: Any) -> None:
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr("distributed.LocalCluster", fails)
    with (
        pytest.raises(CourseError, match=r"Nanny failed to start.*what was judged is kept"),
        fan_out.cluster(2, None),
    ):
        pass


_BUSY = """
import signal
from autograder.sealed import judges
judges.Judge.judge = lambda self, order: (print("at work", flush=True), signal.pause())
judges.main()
"""


def test_a_judge_at_work_ends_with_who_asks_it() -> None:
    """It would be at work for good: nothing but the end of its orders ends it."""
    with subprocess.Popen(
        [sys.executable, "-c", _BUSY], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as judge:
        assert judge.stdin is not None
        assert judge.stderr is not None
        write_frame(judge.stdin, order().as_data())
        assert judge.stderr.readline() == b"at work\n"
        assert judge.poll() is None
        judge.stdin.close()
        assert judge.wait() == 0
