"""Taking a part out of a notebook: what it uses comes along, and the file works on its own."""

import pytest

from autograder.lessons import find
from autograder.proxy.subject import LocalSubject
from autograder.workspace.harvest import HarvestError, standalone_source
from course_lib import parts
from course_lib.kv_cache.reservation import Reservation
from course_lib.specs import MODELS

MODEL = MODELS["llama-3.1-8b"]


def test_a_function_that_needs_nothing_is_its_own_text(notebook):
    f = notebook("def f(x):\n    # twice\n    return 2 * x\n").f
    assert standalone_source(f, "1.1") == (
        '"""My own f: passed check 1.1."""\n\n'
        "from __future__ import annotations\n\n\n"
        "def f(x):\n    # twice\n    return 2 * x\n"
    )


def test_helpers_of_the_notebook_are_copied_with_what_they_need(notebook, load):
    cells = notebook(
        "FACTOR = 3\nLABEL = 'x'\n",
        "def scale(x):\n    return FACTOR * x\n",
        "def f(x):\n    return [LABEL, twice(x)]\n",
        "def twice(x):\n    return 2 * scale(x)\n",
    )
    source = standalone_source(cells.f, "1.1")
    assert load(source).f(1) == ["x", 6]
    assert source.index("def scale") < source.index("def twice") < source.index("def f")


def test_what_the_notebook_has_and_the_part_does_not_use_stays_behind(notebook):
    cells = notebook("secret = 1\nimport math\ndef other(): pass\ndef f(x):\n    return x\n")
    source = standalone_source(cells.f, "1.1")
    assert "secret" not in source
    assert "math" not in source
    assert "other" not in source


def test_functions_that_call_each_other_are_copied_once(notebook, load):
    cells = notebook(
        "def even(n):\n    return n == 0 or odd(n - 1)\n",
        "def odd(n):\n    return n != 0 and even(n - 1)\n",
    )
    source = standalone_source(cells.even, "1.1")
    assert source.count("def even") == source.count("def odd") == 1
    assert load(source).even(10)


@pytest.mark.parametrize(
    ("imports", "body", "statement"),
    [
        ("import math", "math.ceil(x)", "import math"),
        ("import numpy as np", "int(np.ceil(x))", "import numpy as np"),
        ("from math import ceil", "ceil(x)", "from math import ceil"),
        ("from math import ceil as up", "up(x)", "from math import ceil as up"),
        ("from numpy import ceil", "int(ceil(x))", "from numpy import ceil"),
        ("import os.path as osp", "osp.join(str(x))", "import posixpath as osp"),
        ("from torch import nn", "nn.functional", "import torch.nn as nn"),
        ("from collections import deque", "deque([x])", "from collections import deque"),
        ("from functools import reduce", "reduce(max, [x])", "from functools import reduce"),
        ("from random import randint", "randint(1, 1)", "from random import randint"),
        (
            "from course_lib.specs import MODELS",
            "MODELS['llama-2-7b']",
            "from course_lib.specs import MODELS",
        ),
        (
            "from course_lib.kv_cache.reservation import RESERVATIONS",
            "RESERVATIONS['Max']",
            "from course_lib.kv_cache import RESERVATIONS",
        ),
        (
            "from course_lib.kv_cache import kv_bytes_per_token as per_token",
            "per_token",
            "from course_lib.kv_cache.sizing import kv_bytes_per_token as per_token",
        ),
        (
            "from course_lib.scheduling.preemption import VictimPolicy",
            "x if VictimPolicy else 0",
            "from course_lib.scheduling import VictimPolicy",
        ),
    ],
)
def test_what_was_imported_is_imported_again(notebook, imports, body, statement, load):
    cells = notebook(imports, f"def f(x):\n    return {body}\n")
    source = standalone_source(cells.f, "1.1")
    assert statement in source.splitlines()
    assert load(source).f(1.0) == cells.f(1.0)


def test_annotations_and_defaults_are_provided_too(notebook, load):
    cells = notebook(
        "from collections.abc import Sequence\nfrom typing import Any, Optional\nLIMIT = 8\n",
        "def f(x: Optional[int], y: Sequence[Any] = (), n: int = LIMIT) -> Any:\n    return n\n",
    )
    assert load(standalone_source(cells.f, "1.1")).f(0) == 8


@pytest.mark.parametrize(
    "constant", ["3", "-0.5", "'text'", "True", "None", "float('inf')", "2**70", "float('-inf')"]
)
def test_numbers_and_texts_are_written_out(notebook, constant, load):
    cells = notebook(f"C = {constant}\ndef f():\n    return C\n")
    assert load(standalone_source(cells.f, "1.1")).f() == cells.C


def test_earlier_parts_come_through_parts_get(notebook, workspace, load):
    parts.save("kv_bytes_per_token", "def kv_bytes_per_token(model):\n    return 42\n")
    cells = notebook(
        "from course_lib import parts",
        "per_token = parts.get('kv_bytes_per_token')",
        "def f(model):\n    return 2 * per_token(model)\n",
    )
    source = standalone_source(cells.f, "1.2")
    assert 'per_token = parts.get("kv_bytes_per_token")' in source
    assert "return 42" not in source
    assert load(source).f(MODEL) == 84


def test_locals_are_not_taken_for_globals_of_the_same_name(notebook, load):
    cells = notebook(
        "total = object()\nitem = object()\nx = object()\n",
        "def f(x):\n    total = 0\n    for item in x:\n        total += item\n"
        "    return total + sum(item for item in x) + (lambda item: item)(0)\n",
    )
    assert load(standalone_source(cells.f, "1.1")).f([1, 2]) == 6


def test_attributes_and_keywords_are_not_taken_for_globals(notebook, load):
    cells = notebook(
        "written = object()\nkey = object()\n",
        "def f(r):\n    return dict(key=r.written)\n",
    )
    assert load(standalone_source(cells.f, "1.1")).f(Reservation("r", 8, 3, 5)) == {"key": 3}


def test_a_decorated_function_keeps_its_decorators(notebook, load):
    cells = notebook(
        "import functools\n",
        "def doubled(function):\n    @functools.wraps(function)\n    def wrapper(*args):\n"
        "        return 2 * function(*args)\n    return wrapper\n",
        "@functools.lru_cache\ndef helper(x):\n    return x + 1\n",
        "@doubled\ndef f(x):\n    return helper(x)\n",
    )
    source = standalone_source(cells.f, "1.1")
    assert load(source).f(1) == cells.f(1) == 4
    assert "@functools.lru_cache\ndef helper" in source


def test_an_alias_of_a_helper_means_the_helper(notebook, load):
    cells = notebook(
        "def first(x):\n    return x + 1\n",
        "second = first\n",
        "def f(x):\n    return second(x) + first(x)\n",
    )
    assert load(standalone_source(cells.f, "1.1")).f(1) == 4


CLASS = """
import dataclasses

@dataclasses.dataclass
class Block:
    number: int
    free: bool = True

class Base:
    def size(self):
        return len(self.blocks)

class Pool(Base):
    LIMIT = 99

    def __init__(self, n):
        super().__init__()
        self.blocks = [Block(i) for i in range(min(n, self.LIMIT))]

    @property
    def first(self):
        return self.blocks[START].number

    @staticmethod
    def name():
        return "pool"
"""


def test_a_class_is_taken_with_its_bases_and_the_classes_that_it_uses(notebook, load):
    cells = notebook("START = 2\n", CLASS)
    source = standalone_source(cells.Pool, "3.1")
    pool = load(source).Pool(4)
    assert (pool.size(), pool.first, pool.name()) == (4, 2, "pool")
    assert "@dataclasses.dataclass\nclass Block" in source
    assert source.index("class Base") < source.index("class Pool")


def test_of_a_class_that_was_run_twice_the_last_text_counts(notebook, load):
    cells = notebook(
        "class Pool:\n    def size(self):\n        return 1\n",
        "class Pool:\n    def size(self):\n        return 2\n",
    )
    assert load(standalone_source(cells.Pool, "3.1")).Pool().size() == 2


def test_a_part_from_a_file_is_taken_too(load):
    source = standalone_source(parts.reference("kv_bytes_per_token"), "1.1")
    assert load(source).kv_bytes_per_token(MODEL) == 131_072


REFUSED = {
    "a list of the notebook": (
        "data = [1]\ndef f():\n    return data\n",
        "it uses data, a list of the notebook; make that an argument, or a constant inside",
    ),
    "an array of the notebook": (
        "import numpy as np\ngrid = np.zeros(3)\ndef f():\n    return grid\n",
        "it uses grid, an ndarray of the notebook",
    ),
    "an instance of the notebook": (
        "class A: pass\na = A()\ndef f():\n    return a\n",
        "it uses a, an A of the notebook",
    ),
    "a variable of the function around it": (
        "def outer():\n    n = 1\n    def f():\n        return n\n    return f\nf = outer()\n",
        "it uses n, a variable of the function around it; define f at the top of a cell",
    ),
    "a lambda": ("f = lambda x: x\n", "a lambda has no name; write a def"),
    "a helper that is a lambda": (
        "g = lambda x: x\ndef f(x):\n    return g(x)\n",
        "it uses g, a lambda; write that as a def",
    ),
    "a partial function": (
        "import functools\nf = functools.partial(max, 1)\n",
        "an object of class partial has no text to be kept; define it with def or with class",
    ),
    "an object that can be called": (
        "class A:\n    def __call__(self): pass\nf = A()\n",
        "an object of class A has no text to be kept; define it with def or with class",
    ),
    "a number": (
        "f = 3\n",
        "an object of class int has no text to be kept; define it with def or with class",
    ),
    "something without a text": (
        "exec('def f(): pass')\n",
        "its source is not at hand; define it in a cell or a file",
    ),
    "a class without a text": (
        "f = type('Odd', (), {})\n",
        "its source is not at hand; define it in a cell or a file",
    ),
    "a builtin": (
        "f = len\n",
        "an object of class builtin_function_or_method has no text to be kept; define it with def "
        "or with class",
    ),
}


@pytest.mark.parametrize(("cell", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_written_down_is_refused_with_a_reason(notebook, cell, reason):
    with pytest.raises(HarvestError) as caught:
        standalone_source(notebook(cell).f, "1.1")
    assert str(caught.value).startswith(reason)


def test_harvesting_the_saved_file_again_gives_the_same_text(notebook, workspace):
    cells = notebook(
        "import math\nTWO = 2\ndef helper(m):\n    return math.ceil(m.num_layers)\n",
        "def kv_bytes_per_token(model):\n    return TWO * helper(model)\n",
    )
    source = standalone_source(cells.kv_bytes_per_token, "1.1")
    parts.save("kv_bytes_per_token", source)
    assert standalone_source(parts.get("kv_bytes_per_token"), "1.1") == source


def test_the_saved_file_passes_the_check_that_the_cell_passed(notebook, workspace):
    cells = notebook(
        "from course_lib.specs import ModelSpec\nK_AND_V = 2\n",
        "def per_layer(model):\n    return K_AND_V * model.num_kv_heads * model.head_dim\n",
        "def kv_bytes_per_token(model: ModelSpec) -> int:\n"
        "    return model.num_layers * per_layer(model) * model.dtype_bytes\n",
    )
    exercise = find("1.1")
    assert exercise.examine(LocalSubject(cells.kv_bytes_per_token)).fraction == 1
    parts.save("kv_bytes_per_token", standalone_source(cells.kv_bytes_per_token, "1.1"))
    loaded = parts.get("kv_bytes_per_token")
    assert loaded is not cells.kv_bytes_per_token
    assert exercise.examine(LocalSubject(loaded)).fraction == 1


# Methods of a class

TOUCH = (
    "from course_lib.kv_cache import BlockPool\nSTEP = 1\n",
    "def touch(self: BlockPool, blocks):\n    for block in blocks:\n"
    "        block.ref_cnt += STEP\n",
)


def test_a_method_is_kept_as_a_function_with_what_it_uses(notebook, workspace):
    source = standalone_source(notebook(*TOUCH).touch, "7.3b")
    assert "import BlockPool\n\nSTEP = 1\n\n\ndef touch(" in source
    parts.save("BlockPool.touch", source, "7.3b")
    pool = parts.get("BlockPool")(4)
    (block,) = pool.get_new_blocks(1)
    pool.touch([block])
    assert block.ref_cnt == 2
    assert standalone_source(parts.get("BlockPool.touch"), "7.3b") == source


def test_a_method_of_ones_own_class_so_far_takes_it_through_parts(notebook, workspace):
    parts.save("BlockPool.touch", standalone_source(notebook(*TOUCH).touch, "7.3b"), "7.3b")
    cells = notebook(
        "from course_lib import parts\nBlockPool = parts.get('BlockPool')\n"
        "touch = parts.get('BlockPool.touch')\n",
        "def get_new_blocks(self: BlockPool, num_blocks):\n    return [touch]\n",
    )
    source = standalone_source(cells.get_new_blocks, "7.3a")
    assert 'BlockPool = parts.get("BlockPool")' in source
    assert 'touch = parts.get("BlockPool.touch")' in source
    parts.save("BlockPool.get_new_blocks", source, "7.3a")
    assert parts.get("BlockPool")(4).get_new_blocks(1)[0].__name__ == "touch"


def test_a_method_that_calls_super_without_arguments_is_told_what_to_write(notebook):
    cells = notebook("def touch(self, blocks):\n    super().touch(blocks)\n")
    with pytest.raises(HarvestError, match=r"super\(\) without arguments.*super\(BlockPool, self"):
        standalone_source(cells.touch, "7.3b")


def test_a_class_in_a_cell_is_not_taken_for_the_part_that_was_loaded_before(notebook, workspace):
    cells = notebook("class BlockPool:\n    size = 1\n")
    parts.save("BlockPool", "class BlockPool:\n    size = 2\n")
    assert parts.get("BlockPool").size == 2
    assert "size = 1" in standalone_source(cells.BlockPool, "7.9")


def test_what_a_dataclass_is_given_is_made_anew_in_the_part(notebook, load):
    cells = notebook(
        "from dataclasses import dataclass, field\n",
        "@dataclass\nclass Table:\n    size: int\n    ids: list = field(default_factory=list)\n\n"
        "    def total(self):\n        return self.size * len(self.ids)\n",
    )
    table = load(standalone_source(cells.Table, "1.1")).Table(4)
    table.ids.append(1)
    assert table.total() == 4


def test_a_named_tuple_of_ones_own_goes_with_the_part(notebook, load):
    cells = notebook(
        "from typing import NamedTuple\n",
        "class Entry(NamedTuple):\n    key: float\n    number: int\n\n"
        "def enter(key, number):\n    return Entry(key, number)._replace(key=key + 1)\n",
    )
    entered = load(standalone_source(cells.enter, "1.1")).enter(2, 3)
    assert (entered.key, entered.number) == (3, 3)
