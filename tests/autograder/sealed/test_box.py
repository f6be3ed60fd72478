"""A box: what runs in it, how each thing that goes wrong ends, and what cannot be seen from it."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from copy import copy
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest

from autograder.proxy.subject import Raised, Returned
from autograder.sealed.box import box as boxes
from autograder.sealed.box import zygote as warm_process
from autograder.sealed.box.box import Box, BoxError, End, Fault, GoneError
from autograder.sealed.box.bubblewrap import namespaces, no_namespaces
from autograder.sealed.box.limits import Limits
from autograder.sealed.box.warm import Zygote
from autograder.sealed.release import load_release
from autograder.sealed.stubs import make_tree

ROOT = Path(__file__).parents[3]
LESSON = next((ROOT / "lessons").glob("01_*/*.ipynb"))
LIMITS = Limits(
    memory=300 * 2**20, processes=20, file_bytes=10**6, disk_bytes=3 * 10**6, cpu_seconds=20
)
SECRET = "the seed is 17"


def why_not() -> str:
    """Say why there are no boxes here; nothing if there are."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    command = ["bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr


pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"there are no boxes: {why_not()}")


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """A warm process for lesson 1."""
    tree = tmp_path_factory.mktemp("tree")
    make_tree(load_release(LESSON), tree)
    with Zygote(tree) as zygote:
        yield zygote


@pytest.fixture
def box(zygote: Zygote, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """A box of its own for each test."""
    with zygote.box(LIMITS) as box:
        yield box


def value(box: Box, expression: str) -> object:
    """Return what an expression has for a value in the box."""
    assert box.run(f"import os\nresult = {expression}", 5) is None
    with box.taken("result") as subject:
        assert subject is not None
        outcome = subject.value()
    assert isinstance(outcome, Returned), outcome
    return outcome.value


def raised(box: Box, statement: str) -> str:
    """Return the class of what a statement raises in the box; "" if it raises nothing."""
    fault = box.run(statement, 5)
    return fault.kinds[0] if fault else ""


def test_cells_run_one_after_the_other(box: Box) -> None:
    assert box.run("x = 20\nprint(x)\nx", 5) is None
    assert box.run("%matplotlib inline\ndef f(y):\n    return x + y", 5) is None
    with box.taken("f") as subject:
        assert subject is not None
        assert subject.call([3]) == Returned(23)
        assert subject.source() == "def f(y):\n    return x + y\n"
    with box.taken("absent") as subject:
        assert subject is None


def test_of_what_a_call_returned_no_text_is_believed_that_is_in_no_cell(box: Box) -> None:
    cell = "def f(y):\n    return y\ngiven = {'f': f}"
    assert box.run(cell, 5) is None
    with box.taken("given") as subject:
        assert subject is not None
        outcome = subject.value()
        assert isinstance(outcome, Returned)
        assert subject.source(outcome.value["f"]) is None
        subject.cells = (cell,)
        assert subject.source(outcome.value["f"]) == "def f(y):\n    return y\n"


def test_what_an_answer_uses_is_read_in_the_cells_whatever_the_box_tells(box: Box) -> None:
    lie = "import autograder.proxy.host as host\nhost.helpers_of = lambda target: {'g': 'quiet'}\n"
    cells = "def g(y):\n    return y", "def f(y):\n    return g(y)", lie + "given = {'f': f}"
    for cell in cells:
        assert box.run(cell, 5) is None
    with box.taken("given") as subject:
        assert subject is not None
        outcome = subject.value()
        assert isinstance(outcome, Returned)
        subject.cells = cells
        assert subject.helpers(outcome.value["f"]) == {"g": cells[0]}


@pytest.mark.parametrize("ends_with", ["def f(y): return(y)\n", "f = [f][0]\n"])
def test_the_text_of_a_decoy_is_not_believed(box: Box, ends_with: str) -> None:
    """Whoever chooses what the box tells of a text can choose among the texts that count."""
    decoy = "def f(y):\n    return y\n"
    lie = f"import autograder.proxy.host as host\nhost._source = lambda target: {decoy!r}\n"
    cells = decoy, ends_with, lie + "given = {'f': f}"
    for cell in cells:
        assert box.run(cell, 5) is None
    with box.taken("given") as subject:
        assert subject is not None
        outcome = subject.value()
        assert isinstance(outcome, Returned)
        subject.cells = (decoy, cells[2])
        assert subject.source(outcome.value["f"]) == decoy
        subject.cells = cells
        assert subject.source(outcome.value["f"]) is None


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("input()", "EOFError"),
        ("while True:\n    try:\n        while True: pass\n    except: pass", "NoAnswerError"),
        ("import re; re.match('(a+)+$', 'a' * 60 + 'b')", "NoAnswerError"),
        ("for n in range(300_000): print(n)", "OutputError"),
        ("print('x' * 100_000_000)", "OutputError"),
        ("bytearray(10**9)", "MemoryError"),
        ("open('/tmp/a', 'wb').write(b'0' * 2_000_000)", "OSError"),
        ("for n in range(9): open(f'/tmp/{n}', 'wb').write(b'0' * 900_000)", "OSError"),
        ("print('x', file=open('/a', 'w'))", "OSError"),
    ],
)
def test_a_cell_that_fails_costs_no_other(box: Box, cell: str, kind: str) -> None:
    fault = box.run(cell, 1 if kind == "NoAnswerError" else 30)
    assert isinstance(fault, Fault)
    assert kind in fault.kinds
    assert value(box, "1 + 1") == 2


def test_what_is_printed_is_kept_nowhere(box: Box) -> None:
    assert box.run("for n in range(9): print(n)", 5) is None
    assert value(box, "len(get_ipython().history_manager.outputs)") == 0


ENDS = [
    ("import os; os._exit(3)", End.CRASH, "ended itself with exit status 3"),
    ("import os; os.kill(os.getpid(), 9)", End.CRASH, "ended by SIGKILL"),
    (
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(): return repr(f()) + str(max(1, 2))\n"
        "import ctypes; ctypes.string_at(0)",
        End.CRASH,
        "ended by SIGSEGV",
    ),
    ("import os; os.kill(os.getpid(), 19)", End.TIMEOUT, "no answer"),
    (
        "import signal\nfor n in range(1, 32):\n"
        "    if n not in (9, 19): signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
        End.TIMEOUT,
        "no answer",
    ),
]


@pytest.mark.parametrize(("code", "end", "said"), ENDS)
def test_a_cell_that_ends_the_box(
    box: Box, monkeypatch: pytest.MonkeyPatch, code: str, end: End, said: str
) -> None:
    assert value(box, "1") == 1
    monkeypatch.setattr(boxes, "GRACE", 0.7)
    with pytest.raises(GoneError, match=said) as gone:
        box.run(code, 0.3)
    assert gone.value.end is end
    assert not box.is_alive


@pytest.mark.parametrize(
    ("code", "end", "said"), [each for each in ENDS if "kill(-1" not in each[0]]
)
def test_a_call_that_ends_its_fork_costs_no_other(
    box: Box, monkeypatch: pytest.MonkeyPatch, code: str, end: End, said: str
) -> None:
    body = code.replace("\n", "\n    ")
    assert box.run(f"kept = []\ndef f():\n    kept.append(1)\n    {body}", 5) is None
    monkeypatch.setattr(boxes, "GRACE", 0.7)
    with box.taken("f", timeout=0.3) as subject:
        assert subject is not None
        with pytest.raises(GoneError, match=said) as gone:
            subject.call([])
        with pytest.raises(GoneError):
            subject.call([])
    monkeypatch.undo()
    assert gone.value.end is end
    assert value(box, "kept") == []


def test_a_call_that_takes_too_long_is_told_so_and_is_the_last(box: Box) -> None:
    assert box.run("def f():\n    while True: pass", 5) is None
    with box.taken("f", timeout=0.2) as subject:
        assert subject is not None
        first, second = subject.call([]), subject.call([])
    assert isinstance(first, Raised)
    assert first.kinds[0] == "NoAnswerError"
    assert second == first
    assert subject.is_silent


@pytest.mark.parametrize(
    ("returned", "kind"),
    [
        ("'x' * 70_000_000", "WireError"),
        ("nested", "NotPlainDataError"),
        ("[{frozenset([frozenset([1])])}]", "NotPlainDataError"),
    ],
)
def test_a_reply_that_is_none(box: Box, returned: str, kind: str) -> None:
    nest = "nested = []\nfor n in range(100_000): nested = [nested]"
    assert box.run(f"{nest}\ndef f(): return {returned}", 5) is None
    with box.taken("f") as subject:
        assert subject is not None
        outcome = subject.call([])
        if isinstance(outcome, Raised):
            assert outcome.kinds[0] == kind
        else:
            assert returned.startswith("[{")
    assert value(box, "2") == 2


def test_who_writes_to_the_runners_files_is_found_out(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = "import os\ndef f():\n    for n in range(3, 30):\n        try: os.write(n, b'}' * 9)"
    assert box.run(f"{write}\n        except OSError: pass", 5) is None
    with box.taken("f") as subject:
        assert subject is not None
        with pytest.raises(GoneError) as gone:
            subject.call([])
    assert gone.value.end in (End.PROTOCOL, End.CRASH)
    assert value(box, "2") == 2


def test_processes_that_a_call_leaves_are_ended(box: Box) -> None:
    assert (
        box.run(
            "import subprocess\n"
            "def f():\n"
            "    subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
            "    return len([p for p in os.listdir('/proc') if p.isdecimal()])",
            5,
        )
        is None
    )
    before = value(box, "len([p for p in os.listdir('/proc') if p.isdecimal()])")
    with box.taken("f") as subject:
        assert subject is not None
        assert subject.call([]).value == before + 2
    assert value(box, "len([p for p in os.listdir('/proc') if p.isdecimal()])") == before


def test_processes_are_counted(box: Box) -> None:
    starts = "kept = [subprocess.Popen(['sleep', '9']) for n in range(40)]"
    assert raised(box, f"import subprocess\n{starts}") == "BlockingIOError"


def test_a_fork_bomb_goes_off_in_its_box(box: Box, zygote: Zygote) -> None:
    bomb = "def f():\n    while True:\n        try: os.fork()\n        except OSError: pass"
    assert box.run(f"import os\n{bomb}", 5) is None
    with box.taken("f", timeout=0.2) as subject:
        assert subject is not None
        # Each of its processes answers that its time is up, or none does.
        with contextlib.suppress(GoneError):
            assert isinstance(subject.call([]), Raised)
    with zygote.box(LIMITS) as other:
        assert value(other, "1 + 1") == 2


def test_who_kills_all_that_it_sees_ends_itself_at_most(box: Box, zygote: Zygote) -> None:
    with zygote.box(LIMITS) as other:
        # Where root grades, the processes of the box are not the submission's to end.
        with contextlib.suppress(GoneError):
            box.run("import os; os.kill(-1, 9)", 5)
        assert value(other, "1") == 1


def test_no_process_is_left_when_a_box_is_closed(zygote: Zygote) -> None:
    with namespaces([], LIMITS) as pid:
        first = os.pidfd_open(pid)
        assert select.select([first], [], [], 0) == ([], [], [])
    assert select.select([first], [], [], 0) == ([first], [], [])
    os.close(first)


def test_neighbours_do_not_meet(zygote: Zygote) -> None:
    with zygote.box(LIMITS) as one, zygote.box(LIMITS) as other:
        assert value(one, "open('/tmp/mine', 'w').write('1')") == 1
        assert value(other, "os.path.exists('/tmp/mine')") is False
        processes = "sorted(int(p) for p in os.listdir('/proc') if p.isdecimal())[:3]"
        assert value(one, processes) == value(other, processes) == [1, 2, 3]
        with pytest.raises(GoneError):
            one.run("os._exit(1)", 5)
        assert value(other, "1") == 1


def test_there_is_nothing_to_read(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "seed.txt"
    secret.write_text(SECRET)
    monkeypatch.setenv("COURSE_SEED", SECRET)
    for path in (
        secret,
        ROOT / "autograder" / "checks" / "exercise.py",
        ROOT / "solutions",
        ROOT / "course_lib" / "specs.py",
        ROOT / "gradebook.db",
        ROOT / "grading",
        Path("/etc/passwd"),
        Path.home() / ".ssh",
        Path("/sys"),
        Path("/run"),
        Path("/var"),
    ):
        fails = raised(box, f"import os\nos.listdir({str(path)!r})")
        fails_too = raised(box, f"open({str(path)!r}).read()")
        assert fails in ("FileNotFoundError", "PermissionError", "NotADirectoryError"), path
        assert fails_too in ("FileNotFoundError", "PermissionError"), path
    environment = value(box, "dict(os.environ)")
    assert isinstance(environment, dict)
    assert SECRET not in environment.values()
    assert {name for name in environment if "COURSE" in name} == set()
    assert raised(box, f"assert {SECRET!r} not in open('/proc/self/environ').read()") in (
        "",
        "PermissionError",
    )


def test_what_is_hidden_is_empty_wherever_it_lies(tmp_path: Path, zygote: Zygote) -> None:
    """As with a course, or nbgrader's exchange, among the system's own files."""
    others, link = tmp_path / "course" / "submitted", tmp_path / "link"
    (tmp_path / "course" / "python").mkdir(parents=True)
    others.mkdir()
    link.symlink_to(tmp_path / "course")
    for each in (others, others.parent, others.parent / "python", tmp_path):
        (each / "text").write_text(SECRET)
        each.chmod(0o777)
    readable = [others.parent / "python", *zygote._readable, tmp_path]
    pairs = ((namespaces, ["text"]), (partial(namespaces, hidden=[link, tmp_path / "none"]), []))
    for walls, expected in pairs:
        zygote_of_it = copy(zygote)
        zygote_of_it._walls, zygote_of_it._readable = walls, readable
        with zygote_of_it.box(LIMITS) as box:
            assert value(box, f"open({str(tmp_path / 'text')!r}).read()") == SECRET
            assert value(box, f"open({str(readable[0] / 'text')!r}).read()") == SECRET
            assert value(box, f"[*filter('text'.__eq__, os.listdir({str(link)!r}))]") == expected
            seen = value(box, f"os.path.exists({str(others)!r})")
            assert seen is bool(expected)
            into = str(tmp_path / "course" / "mine")
            assert raised(box, f"open({into!r}, 'w')") in ("OSError", "PermissionError")


def test_there_is_no_check_in_memory(box: Box) -> None:
    loaded = value(box, "[*__import__('sys').modules]")
    assert isinstance(loaded, list)
    assert not [name for name in loaded if name.startswith(("autograder.checks", "nbgrader"))]
    for name in ("autograder.checks", "autograder.sealed.stubs", "autograder.lessons.lesson01"):
        assert raised(box, f"import {name}") == "ModuleNotFoundError"
    assert box.run("from course_lib.kv_cache import kv_bytes_per_token as f", 5) is None
    with box.taken("f") as subject:
        assert subject is not None
        outcome = subject.call([1])
    assert isinstance(outcome, Raised)
    assert outcome.kinds[0] == "NotImplementedError"


def test_there_is_no_network(box: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        connect = f"import socket\nsocket.create_connection({address!r}, 1)"
        assert raised(box, connect) == "PermissionError"
    assert raised(box, "import socket\nsocket.getaddrinfo('example.com', 80)") == "gaierror"


def test_nothing_outside_can_be_written_or_gained(box: Box) -> None:
    for path in ("/a", "/usr/a", "/opt/a", "/dev/a", "/proc/sys/kernel/hostname"):
        assert raised(box, f"open({path!r}, 'w').write('1')") in (
            "OSError",
            "PermissionError",
            "FileNotFoundError",
        )
    status = value(box, "open('/proc/self/status').read()")
    assert isinstance(status, str)
    lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {int(lines[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert (lines["NoNewPrivs"], lines["Seccomp"]) == ("1", "2")
    assert value(box, "(os.getuid(), os.getgid(), os.getppid(), os.getcwd())") == (
        65534,
        65534,
        0,
        "/tmp",
    )


def test_a_machine_that_fails_is_no_fault_of_the_submission(
    zygote: Zygote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BoxError, match="the warm process did not start: ModuleNotFoundError"):
        Zygote(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho no rights >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(BoxError, match="bubblewrap made no box: no rights"), zygote.box():
        pass


def test_descriptors_do_not_pile_up(zygote: Zygote) -> None:
    def opened() -> int:
        return len([*Path("/proc/self/fd").iterdir()])

    with zygote.box(LIMITS) as box:
        assert value(box, "1") == 1
    before = opened()
    for _ in range(3):
        with zygote.box(LIMITS) as box:
            assert value(box, "1") == 1
    assert opened() == before


def test_without_a_box_it_runs_and_nothing_is_left(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    make_tree(load_release(LESSON), tree)
    limits = replace(LIMITS, processes=2**31 - 1)
    with Zygote(tree, walls=no_namespaces) as unboxed, unboxed.box(limits) as box:
        assert value(box, "os.getpid()") != os.getpid()
        pids = value(box, "[os.getpid(), os.spawnvp(os.P_NOWAIT, 'sleep', ['sleep', '99'])]")
        assert isinstance(pids, list)
        spawn = "def f(): return os.spawnvp(os.P_NOWAIT, 'sleep', ['sleep', '99'])"
        assert box.run(spawn, 5) is None
        with box.taken("f") as subject:
            assert subject is not None
            stray = subject.call([])
        assert isinstance(stray, Returned)
        assert box.is_alive
        assert box.cpu_seconds is None
    ends = time.monotonic() + 60
    while alive := [pid for pid in [*pids, stray.value] if _is_running(pid)]:
        assert time.monotonic() < ends, alive
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text("ascii")
    except OSError:
        return False


def test_who_waits_for_a_box_leaves_at_once_where_nobody_asks_how_it_ended() -> None:
    """Not by way of Python's end, which would take down all that the warm process has imported."""
    descriptors = [each.detach() for each in (*socket.socketpair(), *socket.socketpair())]
    heard, status = os.pipe()
    os.close(heard)
    waiting = os.fork()
    if waiting == 0:
        try:
            order = {"pid": 0, "limits": asdict(Limits(processes=2**20)), "doors": []}
            warm_process._begin(order, [descriptors[0], descriptors[2], status], None)
        finally:
            os._exit(7)
    _, ended = os.waitpid(waiting, 0)
    for each in (*descriptors, status):
        os.close(each)
    assert os.waitstatus_to_exitcode(ended) == 0
