"""An answer that is the course's own is refused, and an earlier mistake is charged once."""

import inspect
import warnings

import pytest
from hypothesis import strategies as st

from autograder import lessons
from autograder.checks.asking import asked_when_called
from autograder.checks.borrowed import borrowed_through, is_borrowed, stand_ins
from autograder.checks.function import Call, FunctionCheck
from autograder.checks.reference import Method
from autograder.notebook import check
from autograder.proxy.recipes import Make
from course_lib.kv_cache import (
    BlockPool,
    kv_bytes_per_token,
    max_concurrent_sequences,
    num_kv_blocks,
)
from course_lib.kv_cache.block_table import BlockTable

FUNCTIONS = [
    exercise for exercise in lessons.exercises(1) if exercise.points and exercise.part is not None
]
BORROWED = {
    "imported": "from course_lib.kv_cache import kv_bytes_per_token",
    "imported under the stub": (
        "def kv_bytes_per_token(model):\n    pass\n"
        "from course_lib.kv_cache.sizing import kv_bytes_per_token"
    ),
    "all imported": "from course_lib.kv_cache import *",
    "a part": "from course_lib import parts\nkv_bytes_per_token = parts.get('kv_bytes_per_token')",
    "a part asked for later": (
        "from course_lib import parts\n"
        "def kv_bytes_per_token(model):\n    return parts.get('kv_bytes_per_token')(model)"
    ),
    "called": (
        "from course_lib.kv_cache import kv_bytes_per_token as theirs\n"
        "def kv_bytes_per_token(model):\n    return theirs(model)"
    ),
    "called in a package": (
        "import course_lib.kv_cache\n"
        "def kv_bytes_per_token(model):\n"
        "    return course_lib.kv_cache.sizing.kv_bytes_per_token(model)"
    ),
    "imported inside": (
        "def kv_bytes_per_token(model):\n"
        "    from course_lib.kv_cache import kv_bytes_per_token as theirs\n"
        "    return theirs(model)"
    ),
    "called by a helper": (
        "from course_lib.kv_cache import kv_bytes_per_token as theirs\n"
        "def helper(model):\n    return theirs(model)\n"
        "def kv_bytes_per_token(model):\n    return helper(model)"
    ),
    "a lambda around it": (
        "from course_lib.kv_cache import kv_bytes_per_token as theirs\n"
        "kv_bytes_per_token = lambda model: theirs(model)"
    ),
    "a partial of it": (
        "import functools\nfrom course_lib.kv_cache import kv_bytes_per_token as theirs\n"
        "kv_bytes_per_token = functools.partial(theirs)"
    ),
    "imported by name": (
        "import importlib\n"
        "def kv_bytes_per_token(model):\n"
        "    return importlib.import_module('course_lib.kv_cache').kv_bytes_per_token(model)"
    ),
    "looked up": (
        "import sys\n"
        "def kv_bytes_per_token(model):\n"
        "    name = 'bytes_per_'.join(['kv_', 'token'])\n"
        "    return getattr(sys.modules['course_lib.kv_cache'], name)(model)"
    ),
    "asked for now and then": (
        "import importlib\n"
        "def kv_bytes_per_token(model):\n"
        "    if model.dtype_bytes == 2:\n"
        "        heads = model.num_kv_heads * model.head_dim\n"
        "        return 4 * model.num_layers * heads\n"
        "    library = importlib.import_module('course_lib.kv_cache')\n"
        "    return library.kv_bytes_per_token(model)"
    ),
    "wrapped": (
        "import functools\nfrom course_lib.kv_cache import kv_bytes_per_token as theirs\n"
        "def wrap(function):\n    return functools.wraps(function)(lambda model: function(model))\n"
        "kv_bytes_per_token = wrap(theirs)"
    ),
}
RIGHT = (
    "def kv_bytes_per_token(model):\n"
    "    return 2 * model.num_layers * model.num_kv_heads * model.head_dim * model.dtype_bytes"
)


@pytest.mark.parametrize("source", BORROWED.values(), ids=BORROWED)
def test_what_the_course_wrote_earns_nothing_and_says_why(load, capsys, source):
    assert check("1.1", load(source).kv_bytes_per_token) == 0
    said = capsys.readouterr().out
    assert "not started, 0 of 10 points" in said
    assert "the course's own answer, or calls it, so it earns nothing" in said


@pytest.mark.parametrize("exercise", FUNCTIONS, ids=lambda exercise: exercise.id)
def test_a_notebook_of_imports_alone_earns_nothing(exercise, capsys):
    assert check(exercise.id, exercise.check.reference) == 0


def test_what_others_wrote_may_be_used(load, capsys):
    module = load(
        f"from course_lib.kv_cache import kv_bytes_per_block, kv_bytes_per_token\n{RIGHT}"
    )
    assert check("1.1", module.kv_bytes_per_token) == 10
    other = "from course_lib import parts\ndef f(model):\n    return parts.get('num_kv_blocks')"
    assert not is_borrowed(load(other).f, kv_bytes_per_token)


@pytest.mark.parametrize(
    "asked",
    [
        "torch.nn.functional.softmax",
        "torch.nn.init.zeros_",
        "torch.special.softmax",
        "torch.cuda.is_available",
        "torch.autograd.functional.jacobian",
        "torch.functional.einsum",
        "torch.random.seed",
        "torch.utils.data.Dataset",
        "torch.backends.cuda.matmul",
    ],
)
def test_packages_that_hold_each_other_are_no_maze(load, asked):
    module = load(f"import torch\ndef f(model):\n    return {asked}(torch, model)")
    assert not is_borrowed(module.f, kv_bytes_per_token)
    assert borrowed_through(module.f, kv_bytes_per_token) == ""


HEAD = "from course_lib.kv_cache import kv_bytes_per_block, num_kv_blocks\n"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("def f(model):\n    return kv_bytes_per_block(model, 1)", "kv_bytes_per_block"),
        ("def f(model):\n    return num_kv_blocks(model, 1)", "num_kv_blocks"),
        ("def g(m):\n    return kv_bytes_per_block(m, 1)\ndef f(model):\n    return g(model)",
         "kv_bytes_per_block"),
        ("import course_lib.kv_cache as kv\ndef f(m):\n    return kv.kv_bytes_per_block(m, 1)",
         "kv_bytes_per_block"),
        ("def f(m):\n    from course_lib import roofline\n"
         "    return roofline.kv_bytes_moved(m, 1, 1)", "kv_bytes_moved"),
        ("from course_lib.kv_cache.sizing import require_block_size\n"
         "def f(model):\n    require_block_size(1)\n    return 2 * model.num_layers", ""),
    ],
)  # fmt: skip
def test_asking_the_right_answer_by_a_detour_is_seen(load, source, name):
    assert borrowed_through(load(HEAD + source).f, kv_bytes_per_token) == name


def test_a_detour_earns_nothing_and_the_function_in_between_is_named(load, capsys):
    source = "def kv_bytes_per_token(model):\n    return kv_bytes_per_block(model, 1)"
    assert check("1.1", load(HEAD + source).kv_bytes_per_token) == 0
    said = capsys.readouterr().out
    assert "It asks the function that is to be written, through kv_bytes_per_block" in said


@pytest.mark.parametrize("exercise", FUNCTIONS, ids=lambda exercise: exercise.id)
def test_no_right_answer_takes_a_detour(exercise):
    assert borrowed_through(exercise.check.reference, exercise.check.reference) == ""


def test_what_runs_while_a_check_makes_an_argument_is_not_asked_for_by_the_answer():
    # What the answer makes is what it takes, too: a check's first probe is one that it can answer.
    call = Call(Make(max_concurrent_sequences, 640, 4, 16), 4, 16)
    check = FunctionCheck(max_concurrent_sequences, st.just(call), (call,), writes=("num_blocks",))
    assert not asked_when_called(lambda made, size, tokens: made // (tokens // size), check)
    assert asked_when_called(lambda *given: max_concurrent_sequences(*given), check)


def test_an_answer_that_calls_itself_is_no_borrower(load):
    module = load(
        "import course_lib.kv_cache\n"
        "def kv_bytes_per_token(model, layers=None):\n"
        "    return kv_bytes_per_token(model, layers - 1) if layers else 0"
    )
    assert not is_borrowed(module.kv_bytes_per_token, kv_bytes_per_token)


def test_ones_own_part_is_no_borrowing(load, workspace, capsys):
    assert check("1.1", load(RIGHT).kv_bytes_per_token) == 10
    assert check("1.1", load(BORROWED["a part"]).kv_bytes_per_token) == 10


@pytest.mark.parametrize(
    ("source", "name", "reference", "borrowed"),
    [
        ("class BlockTable(theirs):\n    pass", "BlockTable", BlockTable, True),
        ("class BlockTable:\n    def __init__(self):\n        self.all = theirs(4)", "BlockTable",
         BlockTable, True),
        ("class BlockTable:\n    def append(self, ids):\n        self.ids = ids", "BlockTable",
         BlockTable, False),
        ("def touch(self, blocks):\n    return BlockPool.touch(self, blocks)", "touch",
         Method(BlockPool, "touch"), True),
        ("def touch(self, blocks):\n    super(BlockPool, self).touch(blocks)", "touch",
         Method(BlockPool, "touch"), False),
        ("def touch(self, blocks):\n    for block in blocks:\n        block.ref_cnt += 1", "touch",
         Method(BlockPool, "touch"), False),
    ],
)  # fmt: skip
def test_classes_and_methods_are_known_too(load, source, name, reference, borrowed):
    imports = (
        "from course_lib.kv_cache import BlockPool\n"
        "from course_lib.kv_cache.block_table import BlockTable as theirs\n"
    )
    assert is_borrowed(getattr(load(imports + source), name), reference) is borrowed


@pytest.mark.parametrize("value", [8192, {"a": 1}, None, [], print, "text"])
def test_values_are_nobodys(value):
    assert not is_borrowed(value, kv_bytes_per_token)


# An earlier mistake


@pytest.fixture
def blocks(load):
    """Return the answers of 1.1, which forgets V, and of 1.2, which uses it and is right."""
    source = inspect.getsource(num_kv_blocks)
    assert "kv_bytes_per_block(model, block_size)" in source
    mine = source.replace(
        "kv_bytes_per_block(model, block_size)", "(block_size * kv_bytes_per_token(model))"
    )
    mine = mine.replace(
        "    usable_bytes =",
        "    if block_size < 1:\n        raise ValueError(block_size)\n    usable_bytes =",
    )
    wrong = RIGHT.replace("2 * ", "")
    return lambda more="": load(f"{TYPES}{wrong}\n\n\n{mine}{more}")


def test_a_mistake_in_1_1_is_not_charged_again_in_1_2(blocks, capsys):
    module = blocks()
    wrong = module.kv_bytes_per_token
    assert check("1.1", module.kv_bytes_per_token) == 0
    capsys.readouterr()
    assert check("1.2", module.num_kv_blocks) == 10
    assert "Checked with the course's own kv_bytes_per_token in the place of yours." in (
        capsys.readouterr().out
    )
    assert module.kv_bytes_per_token is wrong, "the notebook is as it was"


def test_a_mistake_of_its_own_is_charged(blocks, capsys):
    module = blocks(
        "\n\nfull = num_kv_blocks\ndef num_kv_blocks(*a, **k):\n    return full(*a, **k) + 1"
    )
    assert check("1.2", module.num_kv_blocks) == 0
    # What fails with a sound helper is what is shown, and the helper is named beside it.
    said = capsys.readouterr().out
    assert "Expected" in said
    assert "in the place of yours. Your kv_bytes_per_token" in said


TYPES = "from __future__ import annotations\nfrom course_lib.specs import GPUSpec, ModelSpec\n"


def test_a_helper_that_passes_is_not_said_to_be_replaced_where_an_error_differs(load, capsys):
    mine = RIGHT.replace(
        "    return", "    if model is None:\n        raise ValueError('my own words')\n    return"
    )
    assert mine != RIGHT
    wrong = "def num_kv_blocks(model, *rest, **more):\n    return kv_bytes_per_token(None)"
    assert check("1.2", load(f"{TYPES}{mine}\n\n\n{wrong}").num_kv_blocks) == 0
    said = capsys.readouterr().out
    assert "my own words" in said
    assert "in the place of yours" not in said


def test_an_attribute_of_the_name_of_another_answer_is_no_use_of_it(load):
    others = lessons.exercises(1)
    source = "def kv_bytes_per_token(model): return 1\ndef {}(model): return {}"
    asks = load(source.format("num_kv_blocks", "model.kv_bytes_per_token()")).num_kv_blocks
    assert stand_ins(asks, others) == {}
    uses = load(source.format("num_kv_blocks", "kv_bytes_per_token(model)")).num_kv_blocks
    assert set(stand_ins(uses, others)) == {"kv_bytes_per_token"}


def test_what_is_kept_does_not_have_the_earlier_mistake(blocks, workspace, capsys):
    check("1.2", blocks().num_kv_blocks)
    kept = (workspace / "my_engine" / "num_kv_blocks.py").read_text()
    assert "def kv_bytes_per_token" not in kept
    assert "import kv_bytes_per_token" in kept


def test_what_a_module_makes_up_when_it_is_asked_is_not_asked_for(load):
    source = "import numpy as np\ndef kv_bytes_per_token(model):\n    return np.sum([str(model)])"
    right = lessons.find("1.1").check.reference
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert borrowed_through(load(source).kv_bytes_per_token, right) == ""
