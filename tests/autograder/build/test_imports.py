"""What a stub imports: all that its text uses, from where the library has it, never the answer."""

import sys
import types

import pytest

from autograder.build.holes import BEGIN, END, cut, stub
from autograder.build.imports import needed_imports
from autograder.checks.reference import Method
from autograder.errors import CourseError
from course_lib.kv_cache import BlockPool, kv_bytes_per_block, kv_bytes_per_token
from course_lib.scheduling import FCFSRequestQueue, Scheduler, StaticBatchingScheduler

MODULE = '''
from __future__ import annotations
import math
import os.path as osp
import xml.dom
from collections import abc, deque as queue
from typing import TYPE_CHECKING
from course_lib.specs import GPUS
if TYPE_CHECKING:
    from pathlib import Path
try:
    import numpy as np
except ImportError:
    np = None

LIMIT = 3
_SECRET = 4

def helper(): return 1

def local_names(x, items):
    """Count."""
    total = 0
    for item in items:
        total += item
    return [total for total in items] + [len(items)]

def everything(path: Path, rows: abc.Sequence) -> None:
    """Use it all."""
    waiting = queue(rows)
    return math.pi, osp.sep, xml.dom, np.inf, GPUS, LIMIT, helper(), waiting, everything

def private(): return _SECRET

def missing(): return nowhere

class Base: pass

class Derived(Base):
    """Inherit."""
    def method(self): return LIMIT
'''


@pytest.fixture
def module(monkeypatch, tmp_path):
    path = tmp_path / "library.py"
    path.write_text(MODULE)
    module = types.ModuleType("library")
    module.__file__ = str(path)
    monkeypatch.setitem(sys.modules, "library", module)
    exec(compile(MODULE, str(path), "exec"), vars(module))
    return module


def imports(reference, *arguments):
    return needed_imports(reference, cut(reference), *arguments)


def test_everything_used_is_imported_from_where_it_is(module):
    assert imports(module.everything) == [
        "import math",
        "import numpy as np",
        "import os.path as osp",
        "import xml",
        "from collections import abc, deque as queue",
        "from course_lib.specs import GPUS",
        "from library import LIMIT, helper",
        "from pathlib import Path",
    ]


def test_what_the_setup_cell_has_and_the_other_answers_are_not_imported(module):
    known = {"math", "np", "osp", "xml", "abc", "queue", "GPUS", "Path"}
    assert imports(module.everything, known) == ["from library import LIMIT, helper"]
    assert imports(module.everything, known, [module.helper]) == ["from library import LIMIT"]


def test_names_of_its_own_and_builtins_are_not_imported(module):
    assert imports(module.local_names) == []


def test_what_a_class_inherits_from_is_imported(module):
    marked = cut(module.Derived, ["*"])
    assert needed_imports(module.Derived, marked) == ["from library import Base, LIMIT"]


def test_what_super_needs_is_no_name(module):
    method = Method(StaticBatchingScheduler, "admit_waiting")
    marked = cut(method)
    assert "super(StaticBatchingScheduler, self)" in marked
    assert needed_imports(method, marked, {"StaticBatchingScheduler", "SchedulerOutput"}) == []


def test_a_private_name_of_the_module_is_refused(module):
    with pytest.raises(CourseError, match="private uses _SECRET, which is private to library"):
        imports(module.private)


def test_a_name_that_the_module_lacks_is_refused(module):
    with pytest.raises(CourseError, match="missing uses nowhere, which library lacks"):
        imports(module.missing)


def test_of_several_homes_the_outermost_is_taken():
    assert "from course_lib.kv_cache import BlockPool, KVCacheBlock" in imports(
        Method(BlockPool, "get_new_blocks")
    )
    assert "from course_lib.kv_cache import kv_bytes_per_token" in imports(kv_bytes_per_block)


def test_a_long_import_stands_on_several_lines(module):
    names = [f"a_rather_long_name_{number}" for number in range(8)]
    for name in names:
        setattr(module, name, 1)
    marked = f"def long():\n    {BEGIN}\n    return {', '.join(names)}\n    {END}"
    (line,) = needed_imports(types.FunctionType(module.helper.__code__, vars(module)), marked)
    assert line.splitlines() == ["from library import (", *(f"    {n}," for n in names), ")"]


@pytest.mark.parametrize(
    "reference",
    [
        kv_bytes_per_token,
        Method(BlockPool, "get_new_blocks"),
        Method(BlockPool, "touch"),
        Method(Scheduler, "finish_requests"),
        Method(FCFSRequestQueue, "put_back"),
    ],
)
def test_a_stub_and_its_imports_run_alone_and_so_does_the_solution(reference):
    marked = cut(reference)
    lines = needed_imports(reference, marked)
    for text in (stub(marked), marked):
        scope = {}
        # With the annotations evaluated.
        exec("\n".join([*lines, text]), scope)
        assert callable(scope[reference.__name__])
