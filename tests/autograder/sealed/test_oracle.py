"""What the oracle says of honest, wrong and hostile submissions, to the point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from autograder.build.notebooks import release_path, sources
from autograder.sealed.bodies import Course
from autograder.sealed.box.warm import Zygote
from autograder.sealed.canaries import canaries, deviations
from autograder.sealed.intake import Cell, Role, Submission
from autograder.sealed.oracle import Oracle, seed_of
from autograder.sealed.release import Release, load_release
from autograder.sealed.verdict import Remark, Status, Verdict
from two_answers import (
    BLOCKS,
    LIMITS,
    RIGHT,
    SECRET,
    WITH_LIBRARY,
    WITH_OWN,
    WRONG,
    in_call,
    submission,
)

Judge = Callable[..., dict[str, Verdict]]


@pytest.fixture
def judge(
    two_exercises: Release,
    zygote_of_two: Zygote,
    first_failing_case: None,
    short_limits: None,
) -> Judge:
    """Judge answers to both exercises, with cells of the student's own before them."""
    oracle = Oracle(two_exercises, zygote_of_two, SECRET, LIMITS, max_examples=10)

    def judge(first: str, second: str = WITH_LIBRARY, before: str = "") -> dict[str, Verdict]:
        answers = {"ex-1-1": first, "ex-1-2": second}
        verdicts = oracle.judge(submission(two_exercises, answers, before))
        return {verdict.exercise: verdict for verdict in verdicts}

    return judge


def test_right_answers_pass(judge: Judge) -> None:
    verdicts = judge(RIGHT, WITH_OWN)
    assert (verdicts["1.1"].status, verdicts["1.2"].status) == (Status.PASS, Status.PASS)
    assert verdicts["1.1"].evidence.boxes == 1
    assert verdicts["1.1"].evidence.wall_seconds > 0
    assert verdicts["1.Q"].fraction == 0
    assert verdicts["answer-1-6"].remarks == (Remark.NOT_STARTED,)


def test_what_is_not_written_is_not_started(judge: Judge, two_exercises: Release) -> None:
    stub = next(c.source for c in two_exercises.cells if c.id == "ex-1-1")
    verdict = judge(str(stub))["1.1"]
    assert (verdict.status, verdict.fraction) == (Status.FAIL, 0)
    assert verdict.remarks == (Remark.NOT_STARTED,)


def test_a_mistake_costs_its_own_exercise_alone(judge: Judge) -> None:
    verdicts = judge(WRONG, WITH_OWN)
    assert verdicts["1.1"].fraction == 0
    assert verdicts["1.2"].status is Status.PASS
    assert verdicts["1.2"].evidence.boxes == 2


def test_what_needs_a_body_that_has_its_verdict_finds_it_in_an_earlier_cell(judge: Judge) -> None:
    before = "BASE = kv_bytes_per_block(MODELS['opt-13b'], 1)"
    uses = BLOCKS.replace("BYTES", "(BASE * 0 + kv_bytes_per_block(model, block_size))")
    verdicts = judge(RIGHT, uses, before)
    assert verdicts["1.2"].status is Status.PASS
    assert verdicts["1.2"].evidence.boxes == 1


def test_a_known_mistake_is_named_and_nothing_drawn_is_told(judge: Judge) -> None:
    verdict = judge(WRONG)["1.1"]
    assert verdict.misconception
    assert verdict.message == verdict.misconception
    assert str(seed_of(SECRET, "1.1")) not in repr(verdict)


def test_a_box_that_knows_other_answers_tells_none(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Course, "is_judged_alone", lambda self, exercise: exercise == "1.1")
    spy = (
        "import course_lib.kv_cache.sizing as s\n"
        "names = s.num_kv_blocks.__code__.co_names\n"
        "assert 'weight_bytes' in names\n"
        "def kv_bytes_per_token(model):\n"
        "    raise type('/'.join(names), (Exception,), {})\n"
    )
    verdict = judge(spy)["1.1"]
    assert (verdict.status, verdict.fraction) == (Status.FAIL, 0)
    assert verdict.remarks == ()
    assert "weight_bytes" not in repr(verdict)


@pytest.mark.parametrize(
    "answer",
    [
        "from course_lib.kv_cache import kv_bytes_per_token",
        "import course_lib.kv_cache.sizing as s\nkv_bytes_per_token = s.kv_bytes_per_token",
        in_call("return kv_bytes_per_block(model, 1)"),
        "from course_lib import parts\nkv_bytes_per_token = parts.get('kv_bytes_per_token')",
        "import inspect, course_lib.kv_cache.sizing as s\nexec(inspect.getsource(s))",
        "import linecache, course_lib.kv_cache.sizing as s\n"
        "exec(''.join(linecache.getlines(s.__file__)))",
    ],
)
def test_the_courses_own_answer_is_not_there(
    judge: Judge, tries_to_write: str, answer: str
) -> None:
    verdicts = judge(f"{tries_to_write}{answer}")
    assert verdicts["1.1"].fraction == 0
    assert Remark.IMPORTS_REFERENCE in verdicts["1.1"].remarks
    # It is there for the next one, once the verdict on this one stands.
    assert verdicts["1.2"].status is Status.PASS


def test_the_collector_does_not_know_what_was_there_before(judge: Judge) -> None:
    answer = (
        "import gc, types\nkv_bytes_per_token = [f for f in gc.get_objects()"
        " if isinstance(f, types.FunctionType) and f.__name__ == 'kv_bytes_per_token'][0]"
    )
    verdict = judge(answer)["1.1"]
    assert verdict.fraction == 0
    assert Remark.CELL_FAILED in verdict.remarks


def test_what_is_not_judged_yet_is_nowhere_in_the_box(judge: Judge) -> None:
    spy = (
        "import gc, types, course_lib.kv_cache.sizing as s\n"
        "assert 'weight_bytes' in s.num_kv_blocks.__code__.co_names + tuple(\n"
        "    name for f in gc.get_objects() if isinstance(f, types.FunctionType)\n"
        "    and f.__qualname__ == 'num_kv_blocks' for name in f.__code__.co_names)\n"
    )
    assert judge(RIGHT, f"{spy}{WITH_LIBRARY}")["1.2"].remarks == (Remark.CELL_FAILED,)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(in_call("1 / 0"), Status.FAIL, id="raises"),
        pytest.param("def f(:", Status.FAIL, id="syntax"),
        pytest.param("raise SystemExit", Status.FAIL, id="exit"),
        pytest.param("kv_bytes_per_token = object()", Status.FAIL, id="object"),
        pytest.param(in_call("return float('nan')"), Status.FAIL, id="nan"),
        pytest.param(
            "class Same(int):\n    def __eq__(self, other): return True\n"
            "    __hash__ = int.__hash__\n" + in_call("return Same()"),
            Status.FAIL,
            id="equal to everything",
        ),
        pytest.param(
            f"{WRONG}\nimport autograder.notebook as n\nn.check = lambda *_: 10.0",
            Status.FAIL,
            id="the check replaced",
        ),
        pytest.param("import time\ntime.sleep(9e9)", Status.TIMEOUT, id="a cell without end"),
        pytest.param(f"{RIGHT}\nimport time\ntime.sleep(9e9)", Status.TIMEOUT, id="behind it"),
        pytest.param(in_call("import time; time.sleep(9e9)"), Status.TIMEOUT, id="a call"),
        pytest.param("import os\nos.kill(os.getpid(), 19)", Status.TIMEOUT, id="stopped"),
        pytest.param(in_call("import os; os.kill(os.getpid(), 19)"), Status.TIMEOUT, id="in call"),
        pytest.param("import os\nos._exit(0)", Status.CRASH, id="ends the process"),
        pytest.param(in_call("import os; os._exit(0)"), Status.CRASH, id="when called"),
        pytest.param("import os\nos.kill(-1, 9)", Status.FAIL, id="kills all it sees"),
        pytest.param(in_call("return bytearray(10**9)"), Status.OOM, id="memory"),
        pytest.param("print('x' * 10**7)", Status.OUTPUT, id="output"),
        pytest.param(
            in_call("open('/tmp/a', 'wb').write(b'0' * 2_000_000)"), Status.DISK, id="disk"
        ),
        pytest.param(
            "import threading, time\n"
            + in_call("while 1: threading.Thread(target=time.sleep, args=(9,)).start()"),
            Status.PIDS,
            id="threads",
        ),
        pytest.param(in_call("return 'x' * 70_000_000"), Status.PROTOCOL, id="a long reply"),
        pytest.param(
            "import os, contextlib\n"
            + in_call(
                "\n    for n in range(3, 30):\n        with contextlib.suppress(OSError):\n"
                "            os.write(n, b'}' * 9)"
            ),
            Status.PROTOCOL,
            id="writes to the pipe",
        ),
    ],
)
def test_each_end_is_named_and_costs_one_exercise(
    judge: Judge, tries_to_write: str, answer: str, status: Status
) -> None:
    verdicts = judge(f"{tries_to_write}{answer}")
    assert (verdicts["1.1"].status, verdicts["1.1"].fraction) == (status, 0)
    assert verdicts["1.2"].status is Status.PASS


def test_the_canaries_of_the_lesson_get_what_they_should(
    two_exercises: Release, zygote_of_two: Zygote, first_failing_case: None
) -> None:
    oracle = Oracle(two_exercises, zygote_of_two, SECRET, LIMITS, max_examples=10)
    # Two exercises of the lesson are its whole here, with the lesson's own answers.
    lesson = next(each for each in sources() if each.stem.startswith("01_"))
    whole = canaries(load_release(release_path(lesson.stem)))
    kept = {cell.grade_id for cell in submission(two_exercises, {}).cells}
    judged = {}
    for name, canary in whole.items():
        own = {str(cell.grade_id): cell.source for cell in canary.cells if cell.grade_id in kept}
        judged[name] = oracle.judge(submission(two_exercises, own))
    assert set(judged) == {"all_right", "untouched", "borrowed", "agreeable"}
    assert deviations(two_exercises, judged) == []


def test_who_replaces_what_answers_gains_nothing(judge: Judge, tries_to_write: str) -> None:
    lies = "lambda self, request: {'value': True, 'output': '', 'seconds': 0.0}"
    verdicts = judge(
        f"{tries_to_write}from autograder.proxy.host import Host\nHost.handle = {lies}\n{WRONG}"
    )
    assert verdicts["1.1"].fraction == verdicts["1.2"].fraction == 0


def test_a_cell_of_ones_own_that_ends_the_box_costs_nothing_else(judge: Judge) -> None:
    verdicts = judge(RIGHT, before="import os\nos._exit(1)")
    assert verdicts["1.1"].status is Status.CRASH
    assert verdicts["1.2"].status is Status.PASS


def test_who_ends_box_after_box_is_looked_at_by_a_person(
    judge: Judge, two_exercises: Release, zygote_of_two: Zygote
) -> None:
    answers = {"ex-1-1": RIGHT, "ex-1-2": WITH_LIBRARY, "ex-1-q": "answers = {}"}
    cells = list(submission(two_exercises, answers).cells)
    cells[1:1] = [Cell(Role.OWN, "import os\nos._exit(1)")] * 6
    oracle = Oracle(two_exercises, zygote_of_two, SECRET, LIMITS)
    verdicts = oracle.judge(Submission("ada", two_exercises.lesson, tuple(cells)))
    assert [each.status for each in verdicts[:3]] == [Status.CRASH, *2 * [Status.QUARANTINED]]
    assert verdicts[1].remarks == (Remark.NOT_GRADABLE,)


def test_the_same_again_needs_no_box(judge: Judge) -> None:
    first = judge(WRONG, WITH_OWN, "import math")
    again = judge(WRONG, WITH_OWN, "import math")
    assert again == first
    assert [first[name].evidence.boxes for name in ("1.1", "1.2")] == [1, 2]
    assert [again[name].evidence.boxes for name in ("1.1", "1.2")] == [0, 0]


@pytest.mark.parametrize("before", ["BASE = 3", "import math\nmath.tau", "x = ("])
def test_another_cell_that_an_answer_needs_makes_another_trial(judge: Judge, before: str) -> None:
    answer = RIGHT.replace("return 2", "return BASE")
    assert judge(answer, before="BASE = 2")["1.1"].status is Status.PASS
    assert judge(answer, before=before)["1.1"].status is Status.FAIL


def test_who_patches_the_library_shares_no_verdict(judge: Judge) -> None:
    answer = in_call("return model.bytes_of_one_token")
    patch = f"import course_lib.specs as s\n{RIGHT}\ns.ModelSpec.bytes_of_one_token = property("
    patched = judge(answer, before=f"{patch}kv_bytes_per_token)")
    assert patched["1.1"].status is Status.PASS
    assert judge(answer)["1.1"].status is Status.FAIL


def test_what_ran_into_a_limit_is_tried_again(judge: Judge) -> None:
    for _ in range(2):
        verdict = judge(in_call("import os; os._exit(0)"))["1.1"]
        assert (verdict.status, verdict.evidence.boxes) == (Status.CRASH, 1)


def test_what_is_as_released_needs_no_box(two_exercises: Release) -> None:
    oracle = Oracle(two_exercises, None, SECRET, LIMITS)  # type: ignore[arg-type]
    verdicts = oracle.judge(submission(two_exercises, {}))
    assert {each.remarks for each in verdicts} == {(Remark.NOT_STARTED,)}
    assert {each.fraction for each in verdicts} == {0.0}


def test_an_answer_in_another_cell_is_told_of(judge: Judge) -> None:
    verdict = judge("", before=RIGHT)["1.1"]
    assert (verdict.status, verdict.remarks) == (Status.PASS, (Remark.OUTSIDE_ITS_CELL,))


def test_a_cell_that_was_deleted_is_told_of(
    judge: Judge, two_exercises: Release, zygote_of_two: Zygote
) -> None:
    whole = submission(two_exercises, {"ex-1-2": WITH_LIBRARY})
    cells = tuple(each for each in whole.cells if each.grade_id != "ex-1-1")
    verdicts = Oracle(two_exercises, zygote_of_two, SECRET, LIMITS, max_examples=5).judge(
        Submission("ada", two_exercises.lesson, cells)
    )
    assert verdicts[0].remarks == (Remark.CELL_MISSING,)
    assert verdicts[1].status is Status.PASS


def test_nothing_of_the_grader_can_be_read_and_nothing_is_left(
    judge: Judge, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("17")
    # A name that no other run has left behind.
    left = Path(f"/tmp/course-left-behind-{uuid4()}")
    answer = f"""import os
seen = []
for path in ({str(secret)!r}, {str(Path(__file__).parents[3] / "solutions")!r}):
    if os.path.exists(path): seen.append(path)
if len([p for p in os.listdir("/proc") if p.isdecimal()]) > 4: seen.append("processes")
if {SECRET.decode()!r} in str(dict(os.environ)): seen.append("environment")
open({str(left)!r}, "w").write("x")
assert not seen, seen
{RIGHT}"""
    assert judge(answer)["1.1"].status is Status.PASS
    assert not left.exists()
