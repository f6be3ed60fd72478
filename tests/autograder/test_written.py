"""What a learner wrote: the text of a class that a cell defined."""

import linecache
import sys
from types import SimpleNamespace

import pytest

from autograder.written import functions_of, text_of
from course_lib.scheduling import RequestQueue

CELL = "class Tree:\n    def insert(self, block_ids):\n        return len(block_ids)\n"


@pytest.fixture
def tree(monkeypatch):
    """A class of a notebook, as the kernel makes it."""
    name = "<cell of a tree>"
    lines = CELL.splitlines(keepends=True)
    monkeypatch.setitem(linecache.cache, name, (len(CELL), None, lines, name))
    space = {"__name__": "__main__"}
    exec(compile(CELL, name, "exec"), space)
    shell = SimpleNamespace(history_manager=SimpleNamespace(input_hist_raw=[]))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    return space["Tree"]


def test_a_class_is_found_in_its_cell(tree, monkeypatch):
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    assert text_of(tree) == CELL.rstrip()


def test_a_class_is_found_in_its_cell_after_a_kernel_was_interpreted(tree, monkeypatch):
    # Triton's interpreter puts all that it knows by name into the globals of a kernel.
    interpreter = pytest.importorskip("triton.runtime.interpreter")

    monkeypatch.setattr(sys.modules["__main__"], "__file__", interpreter.__file__, raising=False)
    assert text_of(tree) == CELL.rstrip()


def test_what_a_protocol_gives_to_a_class_on_it_was_not_written_there():
    class Waiting(RequestQueue):
        def __len__(self):
            return 0

    assert [function.__name__ for function in functions_of(Waiting)] == ["__len__"]
