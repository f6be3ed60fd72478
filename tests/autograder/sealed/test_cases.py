"""The cases that ``course grade`` must meet, each with status, points and three invariants.

After each, a neighbour's verdicts are what they were, no process of a box is left, and nothing that
a case tried to write lies outside of its box.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import pytest

from autograder.sealed.box.warm import Zygote
from autograder.sealed.oracle import Oracle, seed_of
from autograder.sealed.release import Release
from autograder.sealed.score import score
from autograder.sealed.verdict import Remark, Status, Verdict
from two_answers import CASES, LIMITS, RIGHT, SECRET, WITH_LIBRARY, WRONG, in_call, submission

Judged = tuple[Verdict, float | None]
Grade = Callable[..., Judged]


def in_calls(lines: str) -> str:
    return f"def kv_bytes_per_token(model):\n{textwrap.indent(textwrap.dedent(lines), '    ')}"


@pytest.fixture
def grade(
    two_exercises: Release,
    zygote_of_two: Zygote,
    tries_to_write: str,
    first_failing_case: None,
    short_limits: None,
) -> Grade:
    """Return the verdict on an answer to 1.1, and its points; the invariants are looked at then."""

    def grade(answer: str, own: str = "", is_alone: bool = True) -> Judged:
        oracle = Oracle(two_exercises, zygote_of_two, SECRET, LIMITS, max_examples=CASES)
        cell = f"{tries_to_write}{answer}"
        verdicts = oracle.judge(
            submission(two_exercises, {"ex-1-1": cell, "ex-1-2": WITH_LIBRARY}, own)
        )
        points = {item.exercise: item.points for item in score(two_exercises, verdicts).items}
        if is_alone:
            assert points["1.2"] == 10, verdicts
        return verdicts[0], points["1.1"]

    return grade


RESOURCES = {
    "infinite loop": (in_call("while True: pass"), Status.TIMEOUT),
    "a loop that ignores SIGINT and SIGTERM": (
        "import signal\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)\n"
        + in_calls(
            """
            while True:
                try:
                    while True: pass
                except BaseException: pass
            """
        ),
        Status.TIMEOUT,
    ),
    "regex backtracking in C": (
        in_call("import re; re.match('(a+)+$', 'a' * 60 + 'b')"),
        Status.TIMEOUT,
    ),
    "fork bomb": (in_call("import os\n    while True: os.fork()"), Status.PIDS),
    "fork bomb that goes on": (
        in_calls(
            """
            import os
            while True:
                try: os.fork()
                except OSError: pass
            """
        ),
        Status.TIMEOUT,
    ),
    "C-stack overflow": (
        "import ctypes, sys\nsys.setrecursionlimit(10**9)\n"
        "@ctypes.CFUNCTYPE(ctypes.c_int)\ndef deeper(): return deeper()\n"
        + in_call("return deeper()"),
        Status.CRASH,
    ),
    "one line of 100 MB": ("print('x' * 100_000_000)", Status.OUTPUT),
    "300,000 lines": ("for n in range(300_000): print(n)", Status.OUTPUT),
    "SIGKILL to itself": (in_call("import os; os.kill(os.getpid(), 9)"), Status.CRASH),
    "SIGKILL to its parent": (in_call("import os; os.kill(os.getppid(), 9)"), Status.CRASH),
    "SIGKILL to each process that it sees": (
        in_calls(
            """
            import os
            for process in os.listdir("/proc"):
                if process.isdecimal() and int(process) != os.getpid():
                    try: os.kill(int(process), 9)
                    except OSError: pass
            return 0
            """
        ),
        Status.CRASH,
    ),
    "a reply nested 100,000 deep": (
        in_calls(
            """
            nested = []
            for _ in range(100_000): nested = [nested]
            return nested
            """
        ),
        Status.FAIL,
    ),
}


@pytest.mark.parametrize("case", RESOURCES)
def test_what_takes_too_much_is_typed_and_earns_nothing(grade: Grade, case: str) -> None:
    answer, status = RESOURCES[case]
    verdict, points = grade(answer)
    assert (verdict.status, points) == (status, 0), verdict


def returns(expression: str) -> str:
    return f"{in_call(f'return {expression}')}"


ODD = """\
class Odd({kind}):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __float__(self): return 1.0
    def __int__(self): return 1
    def __index__(self): return 1
    def __lt__(self, other): return False
    __gt__ = __lt__
    def __sub__(self, other): return 0
    __rsub__ = __sub__
"""
LIES = {"value": 1, "output": "", "seconds": 0.0}
FORGING = {
    **{f"odd {kind}": ODD.format(kind=kind) + returns("Odd()") for kind in ("int", "float", "str")},
    **{
        f"returns {value}": returns(value)
        for value in ("float('nan')", "float('inf')", "float('-inf')", "-5", "'10 points'", "1e9")
    },
    "a generator": in_call("yield 1"),
    "a proxy that says that it is an int": (
        "class Lazy:\n    __class__ = property(lambda self: int)\n"
        "    __eq__ = lambda self, other: True\n    __int__ = __index__ = lambda self: 1\n"
        + returns("Lazy()")
    ),
    "a number of 10,000 digits": returns("10**10_000"),
    "a list in itself": in_call("a = []; a.append(a); return a"),
    "half a character": returns("'\\ud800'"),
    "a timer in place of the limit's": (
        "import signal\nsignal.signal(signal.SIGALRM, lambda *a: None)\n"
        f"signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)\n{WRONG}"
    ),
    "a finalizer that ends the process": (
        "class Last:\n    def __del__(self): raise SystemExit\nLast()\n"
        + in_call("Last()\n    return 1")
    ),
    "answers written by another dumps": (
        'import json\nold = json.dumps\nVALUE = \'{"value": %s, "output": "", "seconds": NaN}\'\n'
        "json.dumps = lambda m, **k: VALUE % ('9' * 5_000) if 'value' in m else old(m, **k)\n"
        + WRONG
    ),
    "a record that is a call of the system": (
        "import json\nold = json.dumps\n"
        "BODY = {'record': 'os:system', 'fields': {'command': 'exit 1'}}\n"
        "LIE = {'value': BODY, 'output': '', 'seconds': 0.0}\n"
        "json.dumps = lambda m, **k: old(LIE if 'value' in m else m, **k)\n" + WRONG
    ),
    "asserts dropped by a transformer of trees": (
        "import ast\n"
        "class Drop(ast.NodeTransformer):\n    def visit_Assert(self, node): return ast.Pass()\n"
        f"get_ipython().ast_transformers.append(Drop())\n{WRONG}"
    ),
    "a transformer of input": (
        "get_ipython().input_transformers_cleanup.append(lambda lines: ['check = 10\\n'])\n" + WRONG
    ),
    "methods of the shell replaced": (
        "shell = get_ipython()\n"
        "for name in ('run_cell', 'run_cell_async', 'run_code', 'showtraceback'):\n"
        "    setattr(type(shell), name, lambda self, *a, **k: 10.0)\n" + WRONG
    ),
    "Session.send replaced": (
        "try:\n    from jupyter_client.session import Session\n"
        "    Session.send = lambda *a, **k: 10.0\nexcept ImportError: pass\n" + WRONG
    ),
    "the display hook replaced": (
        "import sys\nsys.displayhook = lambda value: print(10.0)\n"
        "get_ipython().display_pub.publish = lambda *a, **k: 10.0\n" + WRONG
    ),
    "output cleared after the cell": (
        "from IPython.display import clear_output\n"
        "get_ipython().events.register('post_run_cell', lambda *a: (clear_output(), print(10.0)))\n"
        + WRONG
    ),
    "round, len and isinstance shadowed": (
        "import builtins\nround = len = isinstance = lambda *a: True\n"
        "for name in ('round', 'isinstance', 'abs', 'all', 'max'):\n"
        "    setattr(builtins, name, lambda *a, **k: True)\n" + WRONG
    ),
    "comparisons of others patched": (
        "import contextlib\n"
        "with contextlib.suppress(ImportError):\n"
        "    import numpy.testing\n"
        "    numpy.testing.assert_allclose = numpy.allclose = lambda *a, **k: True\n"
        # Where lessons need torch, the warm process has imported it.
        "import sys\n"
        "if torch := sys.modules.get('torch'):\n"
        "    torch.allclose = torch.equal = lambda *a, **k: True\n"
        "with contextlib.suppress(ImportError):\n"
        "    import hypothesis\n"
        "    hypothesis.given = lambda *a, **k: lambda test: lambda: None\n"
        "with contextlib.suppress(ImportError):\n"
        "    import autograder.checks.compare as c\n"
        "    c.differences = lambda *a, **k: []\n" + WRONG
    ),
    "a thread that answers later": (
        "import threading, time\n"
        + in_calls(
            f"""
            import io
            from autograder.proxy.wire import write_frame
            import os
            def late():
                while True:
                    for number in range(3, 12):
                        try:
                            with open(os.dup(number), "wb") as stream: write_frame(stream, {LIES!r})
                        except OSError: pass
                    time.sleep(0.001)
            threading.Thread(target=late, daemon=True).start()
            return 1
            """
        )
    ),
    "an answer twice": in_calls(
        f"""
        import os
        from autograder.proxy.wire import write_frame
        for number in range(3, 12):
            try:
                with open(os.dup(number), "wb") as stream: write_frame(stream, {LIES!r})
            except OSError: pass
        return 1
        """
    ),
    "an answer before it is asked": (
        "import os\nfrom autograder.proxy.wire import write_frame\n"
        "for number in range(3, 12):\n"
        "    try:\n"
        "        with open(os.dup(number), 'wb') as stream:\n"
        "            write_frame(stream, {'raised': None})\n"
        "            write_frame(stream, {'taken': True})\n"
        "    except OSError: pass\n" + WRONG
    ),
}

HARMS_ITSELF = (
    "a transformer of input",
    "methods of the shell replaced",
    "an answer before it is asked",
    "answers written by another dumps",
    "a record that is a call of the system",
)
"""What no later cell of the same submission survives."""
OTHER_ENDS = {
    "round, len and isinstance shadowed": Status.CRASH,
    "answers written by another dumps": Status.PROTOCOL,
}


@pytest.mark.parametrize("case", FORGING)
def test_who_forges_an_answer_gains_nothing(grade: Grade, case: str) -> None:
    verdict, points = grade(FORGING[case], is_alone=case not in HARMS_ITSELF)
    assert (verdict.status, points) == (OTHER_ENDS.get(case, Status.FAIL), 0), verdict


FAIR = {
    "warnings on stderr": (
        "import warnings, sys\nwarnings.warn('odd')\nprint('odd', file=sys.stderr)\n"
        + RIGHT.replace("    return", "    warnings.warn('odd')\n    return")
    ),
    "prints": RIGHT.replace("    return", "    print('x' * 10_000)\n    return"),
    "late output of a thread": (
        "import threading, time\n"
        "def late():\n    time.sleep(0.2)\n    print('late')\n"
        f"threading.Thread(target=late).start()\n{RIGHT}"
    ),
    "a backend of matplotlib": (
        "%matplotlib qt\n%matplotlib inline\nimport matplotlib\nimport matplotlib.pyplot as plt\n"
        f"matplotlib.use('Agg')\nplt.plot([1, 2])\nplt.show()\n{RIGHT}"
    ),
    "commands of the shell": (f"!ls /\nfiles = !ls\n!exit 3\n%system ls\n{RIGHT}"),
    "a fraction that is whole": (
        "from fractions import Fraction\n" + RIGHT.replace("return 2", "return Fraction(2)")
    ),
    "a class whose class answers": (
        RIGHT.replace("def kv_bytes_per_token", "def by_formula")
        + "\nclass Kind(type):\n    __call__ = lambda cls, model: by_formula(model)\n"
        "class kv_bytes_per_token(metaclass=Kind): pass"
    ),
    "a cell that waits for something": f"import asyncio\nawait asyncio.sleep(0)\n{RIGHT}",
    "no stream to print to": f"import sys\nsys.stdout = sys.stderr = None\n{RIGHT}",
    "two hundred decorators": (
        "import functools\ndef same(f): return functools.wraps(f)(lambda *a: f(*a))\n"
        + 200 * "@same\n"
        + RIGHT
    ),
    "a sleeping atexit": (f"import atexit, time\natexit.register(time.sleep, 9e9)\n{RIGHT}"),
    "children in sessions of their own": (
        "import subprocess\n"
        "subprocess.Popen(['setsid', 'sleep', '1000'], start_new_session=True)\n" + RIGHT
    ),
    "results in another order each time": (
        "import random\n"
        + RIGHT.replace(
            "return 2 * model.num_layers * model.num_kv_heads * model.head_dim * model.dtype_bytes",
            "factors = [2, model.num_layers, model.num_kv_heads, model.head_dim, model.dtype_bytes]"
            "\n    random.shuffle(factors)\n    import math\n    return math.prod(factors)",
        )
    ),
}


@pytest.mark.parametrize("case", FAIR)
def test_what_is_right_earns_all(grade: Grade, case: str) -> None:
    verdict, points = grade(FAIR[case])
    assert (verdict.status, points) == (Status.PASS, 10), verdict


OWN = {
    "input() in a cell of one's own": "name = input('Who are you? ')\nprint(name)",
    "a variable called check": "check = 3",
    "a helper": "def twice(x):\n    return 2 * x",
}


@pytest.mark.parametrize("case", OWN)
def test_a_cell_of_ones_own_costs_nothing(grade: Grade, case: str) -> None:
    verdict, points = grade(RIGHT, own=OWN[case])
    assert (verdict.status, points) == (Status.PASS, 10), verdict


BORROWED = {
    "importlib": (
        "import importlib\n"
        "kv_bytes_per_token = importlib.import_module('course_lib.kv_cache').kv_bytes_per_token"
    ),
    "a wrapper": (
        "from course_lib.kv_cache import kv_bytes_per_token as theirs\n"
        + returns("int(theirs(model))")
    ),
    "a wrapper that hides what it met": (
        "import autograder.sealed.box.stub as stub\n"
        "from course_lib.kv_cache import kv_bytes_per_token as theirs\n"
        + in_calls(
            """
            try: return theirs(model)
            finally: stub.met.clear()
            """
        )
    ),
    "a file": ("import course_lib.kv_cache.sizing as s\nexec(open(s.__file__).read())"),
    "a compiled module": (
        "import marshal, pathlib, course_lib.kv_cache.sizing as s\n"
        "found = [*pathlib.Path(s.__file__).parents[2].rglob('sizing*.pyc')]\n"
        "for path in found:\n"
        "    exec(marshal.loads(path.read_bytes()[16:]))\n"
        "if not found: from course_lib.kv_cache import kv_bytes_per_token"
    ),
    "the code of the stub's module": (
        "import course_lib.kv_cache.sizing as s, types\n"
        "kv_bytes_per_token = types.FunctionType(s.kv_bytes_per_token.__code__, vars(s))"
    ),
}


@pytest.mark.parametrize("case", BORROWED)
def test_what_is_borrowed_earns_nothing(grade: Grade, case: str) -> None:
    verdict, points = grade(BORROWED[case])
    assert (verdict.status, points) == (Status.FAIL, 0), verdict


LOOKS = {
    "frames and constants of the caller": (
        """
        frame = sys._getframe()
        while frame is not None:
            texts += map(repr, (frame.f_code.co_consts, frame.f_code.co_filename))
            texts += [repr(each) for each in frame.f_locals.values() if isinstance(each, PLAIN)]
            frame = frame.f_back
        """,
        "planted",
    ),
    "In, history and hooks": (
        """
        shell = get_ipython()
        texts += [text for _, _, text in shell.history_manager.get_range(session=0)]
        texts += [*In, repr(shell.events.callbacks), repr(shell.user_ns_hidden)]
        """,
        "planted",
    ),
    "what the garbage collector knows": (
        """
        for each in gc.get_objects():
            if type(each) in (list, dict):
                items = list(each.values() if type(each) is dict else each)
                texts += [str(item) for item in items if type(item) in (str, bytes)]
        """,
        "planted",
    ),
    "other processes": (
        """
        for process in filter(str.isdecimal, os.listdir("/proc")):
            for name in ("cmdline", "environ", "maps", "status"):
                try: texts.append(open(f"/proc/{process}/{name}").read())
                except OSError: pass
            if int(process) != os.getpid():
                try: texts.append(f"memory {open(f'/proc/{process}/mem', 'rb').read(1)}")
                except OSError: pass
        """,
        "python",
    ),
    "files": (
        """
        for top, folders, files in os.walk("/"):
            if top in ("/proc", "/sys", "/usr", "/lib") or "site-packages" in top:
                folders.clear()
            texts += [f"{top}/{name}" for name in files]
        """,
        "sizing.py",
    ),
    "environment": ("texts += [f'{name}={value}' for name, value in os.environ.items()]", "HOME="),
}
"""Ways to look at what is the grader's, and what each finds where it looks at all."""

THEIRS = ("memory b", ".ipynb", "gradebook", "canaries", "lessons/lesson01", "/solutions/0")
"""What none of the texts holds, beside what is secret."""


@pytest.mark.parametrize("case", LOOKS)
def test_there_is_nothing_to_find(grade: Grade, case: str) -> None:
    lines, control = LOOKS[case]
    secrets = [SECRET.decode(), SECRET.hex(), str(seed_of(SECRET, "1.1"))]
    sought = [each[::-1] for each in (*secrets, *THEIRS)]
    verdict, points = grade(
        f"""
import gc, os, sys
PLAIN = (str, bytes, dict, list, tuple, int)
SOUGHT = {sought!r}  # backwards, so that this cell is not what is found
def look(planted="planted"):
    texts = []
{textwrap.indent(textwrap.dedent(lines), "    ")}
    assert any({control!r} in text for text in texts)
    return [each for each in SOUGHT if any(each[::-1] in text for text in texts)]
found = look()
assert not found, found
{RIGHT.replace("kv_bytes_per_token", "by_the_formula")}
def kv_bytes_per_token(model):
    return look() or by_the_formula(model)
"""
    )
    assert (verdict.status, points, verdict.remarks) == (Status.PASS, 10, ()), verdict


def test_who_traces_what_runs_sees_no_check(grade: Grade) -> None:
    answer = RIGHT.replace("kv_bytes_per_token", "by_the_formula")
    verdict, points = grade(
        f"""
import sys
{answer}
seen = set()
def trace(frame, event, arg):
    seen.add(frame.f_code.co_filename)
sys.settrace(trace)
sys.setprofile(trace)
def kv_bytes_per_token(model):
    return sorted(seen) if any("checks" in each for each in seen) else by_the_formula(model)
"""
    )
    assert (verdict.status, points, verdict.remarks) == (Status.PASS, 10, ()), verdict


def test_what_a_check_draws_is_not_told(grade: Grade) -> None:
    verdict, points = grade(in_call("raise ValueError(model)"))
    assert (verdict.status, points) == (Status.FAIL, 0)
    assert "ModelSpec" not in repr(verdict)


def test_an_answer_that_is_not_the_same_twice_is_flagged_and_moves_no_points(grade: Grade) -> None:
    whose_turn = in_calls(
        """
        import os
        try:
            first = open("/tmp/first").read()
        except OSError:
            first = str(os.getpid())
            open("/tmp/first", "w").write(first)
        return by_the_formula(model) + (first == str(os.getpid()))
        """
    )
    right = RIGHT.replace("kv_bytes_per_token", "by_the_formula")
    verdict, points = grade(f"{right}\n{whose_turn}")
    assert (verdict.status, points) == (Status.FAIL, 0), verdict
    assert verdict.remarks == (Remark.INCONSTANT,)
    always = in_call("return by_the_formula(model) + 1")
    assert grade(f"{right}\n{always}")[0].remarks == ()
