"""What learners do in a kernel: leave it, hang it, edit a class, take the edit back, time it."""

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from autograder.kernels import OwnKernelManager

RIGHT = (
    "def kv_bytes_per_token(model):\n"
    "    return 2 * model.num_layers * model.num_kv_heads * model.head_dim * model.dtype_bytes\n"
)
POOL = "class Pool:\n    def size(self):\n        return {0}\n"
TABLE = "from dataclasses import dataclass\n@dataclass\nclass Table:\n    size: int = {0}\n"
CELLS = {
    "setup": (
        "from autograder.notebook import check\n"
        "from autograder.workspace.harvest import standalone_source"
    ),
    "leaves": RIGHT.replace("    return", "    exit()\n    return"),
    "check leaves": 'check("1.1", kv_bytes_per_token)',
    "top level": "quit()",
    "bare": "exit",
    "hangs": (
        "def kv_bytes_per_token(model):\n    while True:\n        try:\n"
        "            while True:\n                pass\n        except:\n            pass\n"
    ),
    "spent before": "import time\nspent = time.process_time()",
    "check hangs": 'check("1.1", kv_bytes_per_token)',
    "spent": "print(time.process_time() - spent)",
    "first pool": POOL.format(1) + TABLE.format(1),
    "edited pool": POOL.format(2) + TABLE.format(2),
    "undone pool": POOL.format(1) + TABLE.format(1),
    "pool": "print(standalone_source(Pool, '3.1'), standalone_source(Table, '3.1'))",
    "timed": "%%time\n" + POOL.format(3) + TABLE.format(3),
    "timed pool": "print(standalone_source(Pool, '3.1'), standalone_source(Table, '3.1'))",
    "timed function": "%%time\n" + RIGHT,
    "check timed": 'check("1.1", kv_bytes_per_token)',
    "kept": "print(open('my_engine/kv_bytes_per_token.py').read())",
    "autoreload": (
        "%load_ext autoreload\n%autoreload 2\n"
        "import os\nfrom course_lib import parts\nown = parts.get('kv_bytes_per_token')"
    ),
    "edit": (
        "file = 'my_engine/kv_bytes_per_token.py'\n"
        "text = open(file).read().replace('return 2 *', 'return 42 #')\n"
        "open(file, 'w').write(text)\nos.utime(file, (2e9, 2e9));"
    ),
    "reloaded": "print(own(None), parts.get('kv_bytes_per_token')(None))",
    "timed mistake": "%%time\n" + RIGHT.replace("return 2 *", "return 1 / 0 *"),
    "check mistake": 'check("1.1", kv_bytes_per_token)',
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The outputs of the cells, run in one kernel."""
    workspace = tmp_path_factory.mktemp("workspace")
    (workspace / ".course").mkdir()
    cells = [new_code_cell(text, id=id_.replace(" ", "-")) for id_, text in CELLS.items()]
    client = NotebookClient(
        new_notebook(cells=cells),
        timeout=60,
        kernel_name="python3",
        kernel_manager_class=OwnKernelManager,
        allow_errors=True,
        extra_arguments=["--Application.log_level=40"],
        resources={"metadata": {"path": str(workspace)}},
    )
    with client.setup_kernel():
        for index, cell in enumerate(cells):
            client.execute_cell(cell, index)
    return {id_: cell.outputs for id_, cell in zip(CELLS, cells, strict=True)}


def text(outputs):
    """Return all that a cell shows, as text."""
    shown = [each.get("text") or each.get("evalue") or each.data["text/plain"] for each in outputs]
    return "\n".join(shown)


def test_an_answer_that_leaves_fails_its_check_and_the_kernel_lives_on(outputs):
    said = text(outputs["check leaves"])
    assert "1.1 Bytes per token: not yet" in said
    assert "exit() and quit() would end the kernel" in said
    assert "in line 2: exit()" in said


@pytest.mark.parametrize("cell", ["top level", "bare"])
def test_a_cell_that_leaves_says_so_and_the_kernel_lives_on(outputs, cell):
    (error,) = outputs[cell]
    assert error.ename == "CourseError"
    assert error.evalue.endswith("write return, or raise an exception")


def test_a_loop_that_swallows_everything_is_answered_within_three_seconds(outputs):
    assert "no answer within 2 s; is there an endless loop?" in text(outputs["check hangs"])
    assert float(text(outputs["spent"])) < 3, "seconds of computing, so on whatever machine"


def test_of_a_class_that_was_undone_the_text_that_was_run_last_is_kept(outputs):
    said = text(outputs["pool"])
    assert "return 1" in said
    assert "size: int = 1" in said
    assert "2" not in said.replace("'3.1'", "")


def test_of_a_class_that_was_timed_too(outputs):
    said = text(outputs["timed pool"])
    assert "return 3" in said
    assert "size: int = 3" in said


def test_a_function_that_was_timed_is_kept_and_its_line_is_shown_where_it_fails(outputs):
    assert "Kept as my_engine/kv_bytes_per_token.py" in text(outputs["check timed"])
    assert "2 * model.num_layers" in text(outputs["kept"])
    said = text(outputs["check mistake"])
    assert "ZeroDivisionError" in said
    assert "in line 2" in said


def test_autoreload_brings_an_edited_part_in(outputs):
    assert text(outputs["reloaded"]) == "42 42\n"
    assert not [each for each in outputs["edit"] if each.output_type == "stream"]
