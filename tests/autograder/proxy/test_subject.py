"""A learner's object answers alike in this process and in another, and only with data."""

import gc
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from autograder.proxy import asleep, time_limit
from autograder.proxy.asleep import THREAD, scheduled
from autograder.proxy.subject import LocalSubject, Raised, Returned, SubjectGoneError
from autograder.proxy.wire import Ref, WireError
from course_lib.kv_cache import BlockPool
from course_lib.specs import MODELS


@pytest.fixture(params=["local", "remote"])
def subject(request):
    """Make a learner's object from source: once in this process, once in another."""
    return request.getfixturevalue(request.param)


def test_a_function_is_called_with_plain_data_and_returns_some(subject):
    add = subject("def add(a, b=1):\n    return [a + b, (a, {'b': b})]", "add")
    assert add.call((2,)) == Returned([3, (2, {"b": 1})])
    assert add.call((2,), {"b": 5}) == Returned([7, (2, {"b": 5})])


def test_records_arrays_and_tensors_cross_both_ways(subject):
    same = subject("def same(*args):\n    return list(args)", "same")
    array, tensor = np.arange(3, dtype="int16"), torch.ones(2, dtype=torch.bfloat16)
    model, back_array, back_tensor = same.call((MODELS["qwen3-32b"], array, tensor)).value
    assert model == MODELS["qwen3-32b"]
    assert back_array.tolist() == [0, 1, 2]
    assert back_array.dtype == array.dtype
    assert torch.equal(back_tensor, tensor)


def test_a_value_is_handed_out_as_it_is(subject):
    assert subject("answer = {'Max': 0.5}", "answer").value() == Returned({"Max": 0.5})


COUNTER = """
class Counter:
    def __init__(self, start=0):
        self.count = start
        self.last = None
    def bump(self, by=1):
        self.count += by
        return self
    def child(self):
        self.last = Counter(self.count)
        return [self.last, self.last]
    def total(self, others):
        return sum(other.count for other in others)
"""


def test_objects_stay_behind_and_are_reached_by_reference(subject):
    counter = subject(COUNTER, "Counter")
    made = counter.call((5,)).value
    assert isinstance(made, Ref)
    assert repr(made) == "<Counter object>"
    assert counter.invoke(made, "bump", (2,), {}).value == made, "the same object, the same number"
    assert counter.read(made, "count") == Returned(7)
    first, second = counter.invoke(made, "child", ()).value
    assert first == second != made
    assert counter.invoke(made, "total", ([made, first],)) == Returned(14)


def test_an_exception_is_its_classes_its_text_and_the_line(subject):
    source = """
class TooSmallError(ValueError):
    pass
def check(n):
    if n < 1:
        raise TooSmallError(f"n is {n}")
"""
    outcome = subject(source, "check").call((0,))
    assert outcome == Raised(
        ("TooSmallError", "ValueError", "Exception", "BaseException"),
        "n is 0",
        'in line 6: raise TooSmallError(f"n is {n}")',
    )


@pytest.mark.parametrize(
    ("ask", "kind"),
    [
        (lambda s: s.call(()), "TypeError"),
        (lambda s: s.invoke(Ref(0), "no_such_method", ()), "AttributeError"),
        (lambda s: s.read(Ref(0), "no_such_attribute"), "AttributeError"),
        (lambda s: s.invoke(Ref(99), "bump", ()), "IndexError"),
    ],
)
def test_a_call_that_cannot_be_made_is_an_exception_without_a_line(subject, ask, kind):
    outcome = ask(subject("def f(x):\n    return x", "f"))
    assert isinstance(outcome, Raised)
    assert outcome.kinds[0] == kind
    assert outcome.line is None


@pytest.mark.parametrize("statement", ["sys.exit(0)", "raise SystemExit('bye')", "exit()"])
def test_leaving_python_inside_a_call_is_an_exception_of_the_call(subject, statement):
    source = f"import sys\ndef f(x):\n    if x:\n        {statement}\n    return x"
    leaving = subject(source, "f")
    assert leaving.call((1,)).kinds[0] == "SystemExit"
    assert leaving.call((0,)) == Returned(0), "and the next call is answered"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody counts")
def test_a_call_that_takes_too_much_memory_ends_in_an_error_and_the_next_is_answered(subject):
    limit = resource.getrlimit(resource.RLIMIT_DATA)
    greedy = subject("def f(n):\n    return len(bytearray(n))", "f")
    outcome = greedy.call((4 * 2**30,))
    assert outcome.kinds[0] == "MemoryError"
    assert outcome.message == "no memory is left; a call may take 2 GiB"
    assert outcome.line == "in line 2: return len(bytearray(n))"
    assert greedy.call((2**20,)) == Returned(2**20)
    assert resource.getrlimit(resource.RLIMIT_DATA) == limit


def test_prints_and_warnings_are_kept_with_the_call_that_made_them(subject):
    source = """
import sys, warnings
def f(x):
    print("out", x)
    print("err", x, file=sys.stderr)
    warnings.warn("too large", RuntimeWarning)
    return x
"""
    noisy = subject(source, "f")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in (1, 2):
            outcome = noisy.call((number,))
            assert outcome.value == number
            assert outcome.output == f"out {number}\nerr {number}\nRuntimeWarning: too large\n"


def test_output_comes_with_an_exception_too_and_is_cut(subject):
    outcome = subject("def f():\n    print('x' * 10_000)\n    1 / 0", "f").call(())
    assert outcome.kinds[0] == "ZeroDivisionError"
    assert outcome.output == "x" * 2_000


def test_whoever_closes_what_it_prints_to_prints_on(subject):
    source = "import sys\ndef f():\n    print('a')\n    sys.stdout.close()\n    print('b')"
    assert subject(source, "f").call(()).output == "a\nb\n"


def test_inputs_that_a_call_changes_do_not_change_the_next_call(subject):
    source = """
def f(items, table, array):
    result = [sum(items), len(table), float(array.sum())]
    items.clear(); table.clear(); array[:] = 0
    return result
"""
    greedy = subject(source, "f")
    items, table, array = [1, 2], {"a": 1}, np.ones(3)
    for _ in range(2):
        assert greedy.call((items, table, array)) == Returned([3, 1, 3.0])
    assert (items, table, array.tolist()) == ([1, 2], {"a": 1}, [1.0, 1.0, 1.0])


def test_what_was_returned_is_a_copy_too():
    kept = [1]
    subject = LocalSubject(lambda: kept)
    subject.call(()).value.append(2)
    assert subject.call(()) == Returned([1])


CHEATS = """
class OddInt(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __float__(self): return 42.0
    __hash__ = int.__hash__
class OddStr(str):
    def __eq__(self, other): return True
    __hash__ = str.__hash__
class EqualToAll:
    def __eq__(self, other): return True
    def __repr__(self): return "42"
cheats = {"int": OddInt(1), "str": OddStr("x"), "all": EqualToAll()}
cheats["type"] = type("int", (int,), {})(1)
def f(which):
    return cheats[which]
"""


def test_a_text_that_claims_to_equal_everything_arrives_as_its_letters(subject):
    assert subject(CHEATS, "f").call(("str",)) == Returned("x")


@pytest.mark.parametrize("which", ["int", "all", "type"])
def test_an_object_that_claims_to_equal_everything_arrives_as_a_reference(subject, which):
    assert isinstance(subject(CHEATS, "f").call((which,)).value, Ref)


def test_data_that_the_wire_does_not_carry_is_a_failed_call(subject):
    source = "def f(kind):\n    return {'deep': deep, 'long': 10**9999}[kind]\n"
    source += "deep = []\nfor _ in range(99):\n    deep = [deep]"
    odd = subject(source, "f")
    for kind in ("deep", "long"):
        outcome = odd.call((kind,))
        assert isinstance(outcome, Raised)
        assert outcome.kinds == ("NotPlainDataError",)


@pytest.mark.parametrize("value", ["{frozenset([1])}", "{frozenset([1]): 2}"])
def test_a_set_inside_a_set_is_a_failed_call(local, value):
    outcome = local(f"def f():\n    return {value}", "f").call(())
    assert outcome.kinds == ("NotPlainDataError",)
    assert "a set inside a set" in outcome.message


ODD = """
from dataclasses import dataclass
import numpy as np
class Untrue:
    @property
    def __class__(self): raise ValueError("who asks?")
@dataclass(frozen=True)
class Record:
    n: int
Record.__module__ = "course_lib.specs"
class Tensor:
    shape = (3,)
class ndarray:
    base = None
def f(which, array):
    makes = {"untrue": Untrue, "record": lambda: Record(1), "tensor": Tensor, "array": ndarray}
    return makes[which]()
"""


@pytest.mark.parametrize("which", ["untrue", "record"])
def test_an_object_that_breaks_where_it_is_looked_at_is_no_refusal(subject, which):
    outcome = subject(ODD, "f").call((which, np.ones(2)), watch=True)
    assert outcome.kinds == ("NotPlainDataError",)


@pytest.mark.parametrize("which", ["tensor", "array"])
def test_a_class_with_the_name_of_another_is_an_object_like_any(subject, which):
    outcome = subject(ODD, "f").call((which, np.ones(2)), watch=True)
    assert isinstance(outcome.value, Ref)
    assert outcome.fate.kept == ()


@pytest.mark.parametrize("item", ["items", "10**5000", "lambda: 0"])
def test_an_argument_that_is_no_plain_data_any_more_was_changed(subject, item):
    outcome = subject(f"def f(items):\n    items.append({item})", "f").call(([1],), watch=True)
    assert list(outcome.fate.changed) == [0]


def test_arguments_must_be_plain_data():
    with pytest.raises(WireError, match="a object is not plain data"):
        LocalSubject(len).call((object(),))


def test_ctrl_c_in_a_call_reaches_the_person_who_pressed_it(local):
    with pytest.raises(KeyboardInterrupt):
        local("def f():\n    raise KeyboardInterrupt", "f").call(())


ENDLESS = {
    "a loop": "def f():\n    while True: pass",
    "sleep": "import time\ndef f():\n    time.sleep(60)",
    "a loop that catches once": (
        "def f():\n    try:\n        while True: pass\n    except BaseException: pass\n"
        "    while True: pass"
    ),
    "a loop that catches everything": (
        "import time\ndef f():\n    while True:\n        try:\n            time.sleep(0.01)\n"
        "        except:\n            continue"
    ),
    "two loops that catch everything": (
        "import time\ndef g():\n    while True:\n        try: time.sleep(0.001)\n"
        "        except BaseException as x: continue\n        finally: pass\n"
        "def f():\n    n = 0\n    while True:\n        try: g()\n        except: n += 1"
    ),
    "six functions that catch everything, each in the other": (
        "import time\ndef spin(depth):\n    while True:\n        try:\n"
        "            spin(depth - 1) if depth else time.sleep(0.001)\n"
        "        except: pass\ndef f(): spin(5)"
    ),
    "a loop that catches everything twice over": (
        "def f():\n    while True:\n        try:\n            try:\n"
        "                while True: pass\n"
        "            except BaseException as x: str(x)\n        except BaseException: continue"
    ),
    "a loop that prints": "def f():\n    while True: print('x' * 1000)",
    "a loop in what is handed out": (
        "class E(Exception):\n    def __str__(self):\n        while True: pass\ndef f(): raise E"
    ),
}


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS.keys())
def test_a_call_that_hangs_ends_and_no_other_is_made(load, source):
    subject = LocalSubject(load(source).f, timeout=0.3)
    assert not subject.is_silent
    tracer, handler = sys.gettrace(), signal.getsignal(signal.SIGALRM)
    started = time.thread_time()
    outcomes = [subject.call(()) for _ in range(5)]
    assert time.thread_time() - started < 30
    assert outcomes[0].kinds[0] == "NoAnswerError"
    assert outcomes[0].message == "no answer within 0.3 s; is there an endless loop?"
    assert len(set(outcomes)) == 1
    assert subject.is_silent
    assert sys.gettrace() is tracer
    assert signal.getsignal(signal.SIGALRM) is handler


@pytest.fixture
def slow_collector():
    """A callback of the garbage collector that is nearly always what runs; say how often it did."""
    runs = []

    def callback(phase, info):
        runs.append(phase)
        until = time.monotonic() + 0.01
        while time.monotonic() < until:
            pass

    thresholds = gc.get_threshold()
    # What earlier tests left is not looked through: in an old process one such round, which nobody
    # can interrupt, takes seconds. As in conftest.py nothing thaws it, nor what that has frozen.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10)
    gc.callbacks.insert(0, callback)
    yield runs
    gc.callbacks.remove(callback)
    gc.set_threshold(*thresholds)


COLLECTED = {
    "lists": "def f():\n    while True: [[k] for k in range(1000)]",
    "cycles": "def f():\n    while True:\n        a = []\n        a.append(a)",
    "finalizers": (
        "import time\nclass A:\n    def __init__(self): self.me = self\n"
        "    def __del__(self): time.sleep(0.01)\ndef f():\n    while True: A()"
    ),
    "slow finalizers": (
        "class A:\n    def __del__(self):\n        for k in range(10**9): pass\n"
        "def f():\n    while True: A()"
    ),
}


def test_a_signal_that_comes_as_the_limit_is_lifted_sets_no_timer():
    """Once the handler is gone, the signal of such a timer would end the process."""
    with time_limit.TimeLimit(1000) as limit:
        pass
    in_a_round = SimpleNamespace(f_code=time_limit._Collector.__call__.__code__)
    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        limit._stop(signal.SIGALRM, in_a_round)
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)


@pytest.mark.parametrize("source", COLLECTED.values(), ids=COLLECTED.keys())
def test_what_the_collector_calls_neither_hides_the_time_limit_nor_tells_of_it(
    load, slow_collector, monkeypatch, source
):
    monkeypatch.setattr(sys, "unraisablehook", hook := sys.__unraisablehook__)
    callbacks = list(gc.callbacks)
    started = time.thread_time()
    module = load(source)
    outcome = LocalSubject(module.f, timeout=0.3).call(())
    assert time.thread_time() - started < 3
    assert outcome.kinds[0] == "NoAnswerError"
    assert outcome.output == ""
    assert gc.callbacks == callbacks
    assert gc.isenabled()
    assert sys.unraisablehook is hook
    before = len(slow_collector)
    if hasattr(module, "A"):
        # Thousands may have been made since the collector was stopped: nobody waits for them.
        del module.A.__del__
    gc.collect()
    assert len(slow_collector) > before


def test_what_a_finalizer_raises_by_itself_is_told(load, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    source = "class A:\n    def __del__(self): raise ValueError('mine')\ndef f(): A()"
    assert "ValueError: mine" in LocalSubject(load(source).f).call(()).output


def test_a_collector_that_was_off_stays_off(load):
    gc.disable()
    try:
        LocalSubject(load("def f():\n    while True: pass").f, timeout=0.1).call(())
        assert not gc.isenabled()
    finally:
        gc.enable()


LATE = """
import gc, time
from autograder.proxy.subject import LocalSubject

gc.callbacks.insert(0, lambda phase, info: sum(range(200)))

def late(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return [(k, k) for k in range(300_000)]

for seconds in (0.1, 0.15, 0.19):
    print(LocalSubject(late, timeout=0.2).call([seconds]).kinds[0])
"""


def test_time_that_is_up_while_the_answer_is_written_down_is_no_crash():
    # In a process of its own: on Python 3.11 a tracer in a callback of the collector ended it.
    command = [sys.executable, "-X", "faulthandler", "-c", LATE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["NoAnswerError"] * 3


def test_an_answer_that_is_late_between_two_lines_is_late(load):
    source = (
        "def f(n):\n    found = 0\n    for k in range(n):\n"
        "        if k % 7 == 3:\n            found += 1\n    return found\n"
    )
    outcome = LocalSubject(load(source).f, timeout=0.2).call((10**9,))
    assert outcome.kinds[0] == "NoAnswerError"
    assert outcome.line.startswith("in line ")


def test_time_that_the_machine_gives_to_others_does_not_count(load, monkeypatch):
    queued = iter([0.0])
    monkeypatch.setattr(time_limit, "_queue", time_limit._Queue())
    monkeypatch.setattr(time_limit, "_seconds_queued", lambda: next(queued, 1.2))
    subject = LocalSubject(load("import time\ndef f(s): time.sleep(s); return s").f, timeout=0.6)
    # It may take 1.8 seconds by the clock, and 1.2 of these do not count.
    assert subject.call((2.0,)) == Returned(2.0)
    assert subject.call((60,)).kinds[0] == "NoAnswerError"


def test_an_answer_is_not_late_because_the_machine_did_not_let_it_run(load, monkeypatch):
    monkeypatch.setattr(time_limit, "_queue", time_limit._Queue())
    monkeypatch.setattr(time_limit, "_seconds_queued", lambda: 0.0)
    stalled = "import time\ndef f(s): time.sleep(s); return s"
    # Up to 1.5 seconds of standing still: the machine may stand still besides.
    assert LocalSubject(load(stalled).f, timeout=0.5).call((0.7,)) == Returned(0.7)


def test_a_machine_that_stands_still_once_makes_no_answer_late(load):
    """Time has passed, and nobody could look at the clock meanwhile: C adds numbers up."""
    started = time.thread_time()
    sum(range(1_000_000))
    in_a_second = int(1_000_000 / (time.thread_time() - started))
    f = load("def f(*pieces):\n    for n in pieces: sum(range(n))\n    return len(pieces)").f
    assert LocalSubject(f, timeout=0.4).call((in_a_second,)) == Returned(1)
    outcome = LocalSubject(f, timeout=0.4).call((in_a_second, in_a_second))
    assert outcome.kinds[0] == "NoAnswerError"


def test_the_system_says_how_long_a_thread_was_queued(monkeypatch, tmp_path):
    assert 0 <= time_limit._seconds_queued() < time.monotonic()
    monkeypatch.setattr(time_limit, "_QUEUED", tmp_path / "none")
    assert time_limit._seconds_queued() == 0


def test_the_time_limit_leaves_the_timer_of_others_as_it_was():
    previous = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 100, 7)
    try:
        handler = signal.getsignal(signal.SIGALRM)
        assert LocalSubject(len).call(([1],)) == Returned(1)
        remaining, interval = signal.getitimer(signal.ITIMER_REAL)
        assert signal.getsignal(signal.SIGALRM) is handler
        assert 90 < remaining <= 100
        assert interval == 7
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_a_thread_can_ask_too():
    answers = []
    subject = LocalSubject(len)
    thread = threading.Thread(target=lambda: answers.append(subject.call(([1, 2],))))
    thread.start()
    thread.join()
    assert answers == [Returned(2)]


def test_an_exception_whose_text_cannot_be_made_is_still_reported(subject):
    source = """
class OddError(Exception):
    def __str__(self): raise ValueError
def f():
    raise OddError
"""
    assert subject(source, "f").call(()).message == "(its message could not be read)"


# A process of its own: whatever happens in it, the check gets an answer or a SubjectGoneError.

DEADLY = {
    "ends at once": "import os\ndef f(): os._exit(0)",
    "kills itself": "import os, signal\ndef f(): os.kill(os.getpid(), signal.SIGKILL)",
    "segmentation fault": "import ctypes\ndef f(): ctypes.string_at(0)",
    "exits while loading": "import sys\nsys.exit(0)",
    "fails while loading": "1 / 0",
    "does not define it": "g = 1",
    "is not Python": "def f(:",
    "is Ctrl-C": "def f(): raise KeyboardInterrupt",
    "writes into the answers": (
        "import os\ndef f():\n    for fd in range(3, 20):\n"
        "        try: os.write(fd, b'garbage')\n        except OSError: pass\n"
    ),
    "writes an answer of its own": (
        "import os, struct\nforged = b'[1]'\ndef f():\n    for fd in range(3, 20):\n"
        "        try: os.write(fd, struct.pack('>I', len(forged)) + forged)\n"
        "        except OSError: pass\n"
    ),
    "answers with malformed data": (
        'import os, struct\nforged = b\'{"value": {"float": "x"}}\'\ndef f():\n'
        "    for fd in range(3, 20):\n"
        "        try: os.write(fd, struct.pack('>I', len(forged)) + forged)\n"
        "        except OSError: pass\n"
    ),
    "answers with a malformed exception": (
        "import os, struct\nforged = b'{\"raised\": 5}'\ndef f():\n    for fd in range(3, 20):\n"
        "        try: os.write(fd, struct.pack('>I', len(forged)) + forged)\n"
        "        except OSError: pass\n"
    ),
}


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("source", DEADLY.values(), ids=DEADLY.keys())
def test_a_process_that_ends_or_talks_nonsense_is_gone(remote, source):
    subject = remote(source, "f")
    with pytest.raises(SubjectGoneError):
        subject.call(())
    subject.close()
    assert not is_running(subject._process.pid)


def test_a_process_that_hangs_is_ended(remote):
    subject = remote("def f():\n    while True: pass", "f", timeout=1.5)
    started = time.monotonic()
    with pytest.raises(SubjectGoneError, match=r"no answer within 1\.5 s"):
        subject.call(())
    assert time.monotonic() - started < 60
    subject.close()
    assert not is_running(subject._process.pid)


def test_a_process_that_is_gone_stays_gone(remote):
    subject = remote("import os\ndef f(): os._exit(0)", "f")
    for _ in range(3):
        with pytest.raises(SubjectGoneError):
            subject.call(())


def test_leaving_the_block_ends_the_process_whatever_state_it_is_in(remote):
    with remote("def f(): return 1", "f") as subject:
        assert subject.call(()) == Returned(1)
        pid = subject._process.pid
        assert is_running(pid)
    assert not is_running(pid)
    subject.close()


@pytest.mark.parametrize(
    "write",
    ["print('garbage')", "sys.__stdout__.write('x' * 100_000)", "os.write(1, b'garbage' * 1000)"],
)
def test_what_is_written_to_stdout_does_not_land_among_the_answers(remote, write):
    subject = remote(f"import os, sys\ndef f(x):\n    {write}\n    return x", "f")
    assert [subject.call((n,)).value for n in range(3)] == [0, 1, 2]


def test_reading_from_stdin_does_not_steal_the_requests(remote):
    subject = remote("import sys\ndef f(x):\n    return [x, sys.stdin.read()]", "f")
    assert [subject.call((n,)).value for n in range(2)] == [[0, ""], [1, ""]]


def test_the_learners_process_knows_nothing_of_checks(remote):
    subject = remote("import sys\ndef f():\n    return sorted(sys.modules)", "f")
    loaded = subject.call(()).value
    assert not [name for name in loaded if name.startswith("autograder.checks")]
    assert "hypothesis" not in loaded


# What a learner wrote


def test_an_endless_source_is_not_told_in_part(local):
    source = "def f(x):\n" + "    x = 1  # a comment\n" * 10_000 + "    return x\n"
    assert local(source, "f").source() is None


def test_the_source_is_told_where_it_is_at_hand(local, remote):
    source = "def f(x):\n    return x  # as it is\n"
    for subject in (local(source, "f"), remote(source, "f")):
        assert subject.source() == source
    assert LocalSubject(5).source() is None
    assert LocalSubject(len).source() is None


def test_what_an_object_uses_and_what_stands_beside_it_is_told(local, remote):
    source = "def g(x):\n    return x\n\ndef f(x):\n    return g(x)\n"
    for subject in (local(source, "f"), remote(source, "f")):
        assert {name: text.rstrip() for name, text in subject.helpers().items()} == {
            "g": "def g(x):\n    return x"
        }
    assert LocalSubject(len).helpers() == {}


def test_a_process_that_tells_something_else_of_helpers_tells_nothing(remote):
    for told in ("[1]", "{'g': 5}"):
        lie = f"import autograder.proxy.host as host\nhost.helpers_of = lambda target: {told}\n"
        assert remote(lie + "def f(x):\n    return x\n", "f").helpers() == {}


def test_an_error_tells_the_numbers_and_texts_among_the_variables_of_its_line(local, remote):
    source = "def f(n):\n    name, items, left = 'a', [n], n - 5\n    if left < 0:\n"
    source += "        raise ValueError(left)\n"
    for subject in (local(source, "f"), remote(source, "f")):
        outcome = subject.call((3,))
        assert outcome.line == "in line 4: raise ValueError(left)"
        assert outcome.values == {"n": "3", "name": "'a'", "left": "-2"}


def test_an_error_of_the_library_alone_tells_no_variables():
    outcome = LocalSubject(BlockPool).call((0,))
    assert (outcome.line, outcome.values) == (None, {})


def test_the_line_of_an_error_is_the_learners_where_code_was_made_on_the_way(local):
    subject = local(
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Pair:\n"
        "    a: int\n\n"
        "    def __post_init__(self):\n"
        "        int('x')\n\n"
        "def f():\n"
        "    from course_lib.specs import ModelSpec\n"
        "    return ModelSpec('m', 0, 0, 0, 0, 0, 0)\n",
        "f",
    )
    assert subject.call([]).line == "in line 11: return ModelSpec('m', 0, 0, 0, 0, 0, 0)"


def test_who_is_patient_waits_longer_and_only_for_that_long():
    subject = LocalSubject(time.sleep, timeout=0.05)
    with subject.patient(60.0), subject.patient(0.05):
        assert isinstance(subject.call([0.8]), Returned)
    assert subject.call([0.8]).kinds[0] == "NoAnswerError"


def test_torch_computes_in_one_thread_during_a_call_and_in_as_many_as_before_after_it():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert LocalSubject(torch.get_num_threads).call(()).value == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "wait",
    [
        lambda: time.sleep(0.2),
        lambda: threading.Event().wait(0.2),
        lambda: subprocess.run([sys.executable, "-c", "import time; time.sleep(0.2)"], check=True),
    ],
)
def test_who_waits_by_whatever_name_is_charged_for_it_where_time_counts(wait):
    if scheduled(THREAD) == (0.0, 0.0):
        pytest.skip("this kernel does not count for how long a thread is ready")
    subject = LocalSubject(wait)
    assert subject.call(()).fate.seconds < 0.1
    with subject.timed():
        assert subject.call(()).fate.seconds > 0.1
    assert subject.call(()).fate.seconds < 0.1


def spin(seconds):
    ends = time.thread_time() + seconds
    while time.thread_time() < ends:
        pass


def test_what_another_thread_works_beside_a_call_is_charged():
    """Nobody waits for it, so there is no sleep either."""
    if scheduled(THREAD) == (0.0, 0.0):
        pytest.skip("this kernel does not count what a thread has worked")
    jobs = queue.SimpleQueue()

    def work():
        while (seconds := jobs.get()) is not None:
            spin(seconds)

    def give():
        jobs.put(0.2)
        spin(0.3)

    other = threading.Thread(target=work)
    other.start()
    try:
        subject = LocalSubject(give)
        with subject.timed():
            assert subject.call(()).fate.seconds > 0.35
    finally:
        jobs.put(None)
        other.join()


def test_what_a_child_process_works_is_charged_to_the_last_tick():
    """Short ones, one after the other: the sleep of who waits for them may pass for chance."""
    source = "import time; ends = time.process_time() + 0.1\nwhile time.process_time() < ends: pass"

    def give():
        subprocess.run([sys.executable, "-I", "-c", source], check=True)
        spin(0.5)

    subject = LocalSubject(give)
    with subject.timed():
        assert subject.call(()).fate.seconds > 0.58


def test_what_a_child_process_works_is_charged_though_nobody_waits_for_it():
    source = "while True: pass"
    children = []

    def give():
        children.append(subprocess.Popen([sys.executable, "-I", "-c", source]))
        spin(1.0)
        return len(children)

    subject = LocalSubject(give)
    try:
        with subject.timed():
            assert subject.call(()).fate.seconds > 1.1
    finally:
        children[0].kill()
        children[0].wait()


def test_a_process_that_runs_beside_is_not_charged():
    """It was there before, as what another cell of a notebook has started."""
    command = [sys.executable, "-I", "-c", "print('ready', flush=True)\nwhile True: pass"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        subject = LocalSubject(lambda: spin(0.5))
        with subject.timed():
            assert subject.call(()).fate.seconds < 0.6
        child.kill()


def test_threads_with_which_a_library_computes_are_not_charged():
    """They are none of Python's; as many as the machine has processors."""
    known = asleep.awake_now().beside
    assert set(known) <= {each.native_id for each in threading.enumerate()}
    assert threading.get_native_id() not in known


def test_who_only_works_is_charged_for_no_sleep():
    subject = LocalSubject(lambda: sum(range(3_000_000)))
    with subject.timed():
        timed = min(subject.call(()).fate.seconds for _ in range(3))
    assert timed < 3 * min(subject.call(()).fate.seconds for _ in range(3))
