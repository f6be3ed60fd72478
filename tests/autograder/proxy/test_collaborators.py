"""Objects that take part in a call: made from recipes, called back, mounted, watched."""

import numpy as np
import pytest
import torch

from autograder.proxy.names import name_of, symbol
from autograder.proxy.recipes import At, Callback, Make
from autograder.proxy.subject import ITSELF, Raised, Returned
from autograder.proxy.wire import Ref, WireError, from_wire, to_wire
from course_lib.attention.dense import SoftmaxState, merge_states
from course_lib.kv_cache import BlockPool, KVCacheBlock, KVCacheManager
from course_lib.kv_cache.watch.notation import StateLine
from course_lib.scheduling import Request, Scheduler, SchedulerConfig


@pytest.fixture(params=["local", "remote"])
def subject(request):
    """Make a learner's object from source: once in this process, once in another."""
    return request.getfixturevalue(request.param)


# Recipes


def test_a_recipe_is_built_where_the_learners_code_runs(subject):
    source = "def free(pool, request):\n    return pool.get_num_free_blocks(), request.num_tokens"
    recipe = Make(BlockPool, 9).do("get_new_blocks", 3)
    request = Make(Request, "a", [5, 6, 7], max_tokens=2)
    assert subject(source, "free").call((recipe, request)) == Returned((5, 3))


def test_the_steps_of_a_recipe_reach_into_the_object(subject):
    source = "def line(pool):\n    return [b.ref_cnt for b in pool.blocks[1:4]]"
    pool = Make(BlockPool, 9).do("get_new_blocks", 3)
    assert subject(source, "line").call((pool,)) == Returned([1, 1, 1])
    freed = pool.do("free_blocks", [At("blocks.2")])
    assert subject(source, "line").call((freed,)) == Returned([1, 0, 1])
    assert subject(source, "line").call((pool.set("blocks.3.ref_cnt", 7),)).value[2] == 7


def test_a_recipe_that_is_named_twice_in_a_call_is_one_object(subject):
    source = "def same(a, b, *, c):\n    return a is b, a is c"
    block = Make(KVCacheBlock, 3)
    same = subject(source, "same")
    assert same.call((block, block), {"c": Make(KVCacheBlock, 3)}) == Returned((True, False))
    assert same.call((block, [block]), {"c": block}) == Returned((False, True))


def test_recipes_nest_and_a_request_known_to_a_manager_is_that_request(subject):
    source = "def slots(manager, request):\n    return manager.get_block_ids(request.request_id)"
    request = Make(Request, "a", list(range(20)), max_tokens=1)
    manager = Make(KVCacheManager, 9, 16).do("allocate_slots", request, 20)
    assert subject(source, "slots").call((manager, request)) == Returned([1, 2])


def test_what_a_recipe_runs_into_is_an_exception_of_the_call(subject):
    outcome = subject("def f(pool):\n    return 1", "f").call((Make(BlockPool, 0),))
    assert isinstance(outcome, Raised)
    assert outcome.kinds[0] == "ValueError"


def test_an_object_made_once_is_passed_on_by_reference(subject):
    free = subject("def free(pool):\n    return pool.get_num_free_blocks()", "free")
    pool = free.make(Make(BlockPool, 5)).value
    assert free.call((pool,)) == Returned(4)
    free.invoke(pool, "get_new_blocks", (3,))
    assert free.call((pool,)) == Returned(1)
    assert free.read(pool, "blocks.3.ref_cnt") == Returned(1)


def test_a_method_is_given_what_stands_in_its_own_object(subject):
    free = subject("def free(pool):\n    return pool.get_num_free_blocks()", "free")
    pool = free.make(Make(BlockPool, 5).do("get_new_blocks", 4)).value
    free.invoke(pool, "free_blocks", ([At("blocks.4"), At("blocks.2")],))
    free.invoke(pool, "free_blocks", (Make(iter, [At("blocks.3")]),))
    assert free.apply(StateLine.of, (pool,)).value == StateLine.parse("free [3 4 2]  held: 1")
    watched = free.invoke(pool, "touch", ([At("blocks.1")],), watch=True)
    assert watched.fate.changed == {}
    assert watched.fate.touched == (0,)


def test_a_recipe_reads_like_what_it_does():
    recipe = Make(BlockPool, 9).do("get_new_blocks", 3).set("blocks.1.ref_cnt", 2)
    assert repr(recipe) == "BlockPool(9).get_new_blocks(3) with .blocks.1.ref_cnt = 2"


@pytest.mark.parametrize("name", ["os:system", "course_lib.parts:_load", "autograder.files:x"])
def test_only_public_names_of_the_library_are_found(name):
    with pytest.raises(ValueError, match="no symbol"):
        symbol(name)


def test_a_local_function_has_no_name():
    def here():
        pass

    with pytest.raises(ValueError, match="no symbol"):
        name_of(here)


def test_a_class_method_has_the_name_of_its_class_before_its_own():
    name = name_of(StateLine.of)
    assert str(name) == "course_lib.kv_cache.watch.notation:StateLine.of"
    assert symbol(str(name)) == StateLine.of


def test_nothing_that_comes_back_is_built_or_called():
    with pytest.raises(WireError, match="malformed"):
        from_wire(to_wire(Make(BlockPool, 9)))
    with pytest.raises(WireError, match="malformed"):
        from_wire({"callback": 0})


def test_a_recipe_in_an_answer_is_an_object_like_any_other(subject):
    source = "from autograder.proxy.recipes import Make\ndef f():\n    return Make(int, 3)"
    assert isinstance(subject(source, "f").call(()).value, Ref)


# Callbacks

SEARCH = """
def fewest(measure, target):
    servers = 1
    while measure(servers) > target:
        servers += 1
    return servers
"""


def test_a_callback_runs_with_the_check_and_counts_what_it_was_asked(subject):
    measure = Callback(lambda servers: 100 / servers)
    assert subject(SEARCH, "fewest").call((measure, 25)) == Returned(4)
    assert measure.calls == [(1,), (2,), (3,), (4,)]


def test_an_exception_of_a_callback_reaches_the_learners_code(subject):
    def refuses(servers):
        raise ValueError(f"no {servers} servers")

    source = "def f(measure):\n    try:\n        measure(0)\n    except ValueError as e:\n"
    source += "        return str(e)"
    assert subject(source, "f").call((Callback(refuses),)) == Returned("no 0 servers")
    outcome = subject(SEARCH, "fewest").call((Callback(refuses), 1))
    assert (outcome.kinds[0], outcome.message) == ("ValueError", "no 1 servers")


def test_two_callbacks_are_told_apart(subject):
    source = "def f(one, two):\n    return one(1), two(1)"
    ten, hundred = Callback(lambda x: 10 * x), Callback(lambda x: 100 * x)
    assert subject(source, "f").call((ten, hundred)) == Returned((10, 100))


# A method

METHOD = """
def get_new_blocks(self, num_blocks):
    taken = self.free_block_queue.popleft_n(num_blocks)
    return list(reversed(taken))
"""


def test_a_function_is_mounted_as_a_method_of_the_librarys_class(subject):
    learner = subject(METHOD.replace("self.free_block_queue", "self.queue"), "get_new_blocks")
    kind = learner.mount(BlockPool, "get_new_blocks")
    pool = learner.call((9,), target=kind).value
    assert pool.kind == "BlockPool"
    assert learner.invoke(pool, "get_num_free_blocks", ()) == Returned(8)
    outcome = learner.invoke(pool, "get_new_blocks", (1,))
    assert "in line 3" in outcome.line, "what runs is the learner's"


def test_a_property_and_a_classmethod_are_mounted_as_such(subject):
    usage = subject("def usage(self):\n    return 0.5", "usage")
    manager = usage.call((9,), target=usage.mount(KVCacheManager, "usage")).value
    assert usage.read(manager, "usage") == Returned(0.5)
    empty = subject("def empty(cls, query):\n    return cls.__name__", "empty")
    kind = empty.mount(SoftmaxState, "empty")
    assert empty.invoke(kind, "empty", (torch.zeros(1, 2),)) == Returned("SoftmaxState")


# The library, applied to the learner's object


def test_a_function_of_the_library_is_applied_beside_the_object(subject):
    learner = subject("limit = 3", "limit")
    assert learner.apply(BlockPool, (9,)).value.kind == "BlockPool"
    assert learner.apply(max, (ITSELF, 2)) == Returned(3)


# Values


def test_frozen_records_of_the_library_are_plain_data(subject):
    same = subject("def same(x):\n    return x", "same")
    config = SchedulerConfig(max_num_seqs=7)
    assert same.call((config,)) == Returned(config)
    state = SoftmaxState(torch.zeros(1), torch.ones(1), torch.full((1, 2), 3.0))
    back = same.call((state,)).value
    assert torch.equal(merge_states(back, back).output(), state.output())


def test_an_object_is_no_record(subject):
    source = "from course_lib.scheduling import Request\ndef f():\n    return Request('a', [1], 1)"
    assert subject(source, "f").call(()).value.kind == "Request"
    with pytest.raises(WireError, match="malformed"):
        from_wire({"record": "course_lib.scheduling.scheduler:Scheduler", "fields": {}})
    assert Scheduler


def test_a_tensor_keeps_the_order_of_its_axes_in_memory(subject):
    source = "def strides(x):\n    return list(x.stride()), x"
    cache = torch.arange(24.0).reshape(2, 3, 4, 1).transpose(1, 2)
    strides, back = subject(source, "strides").call((cache,)).value
    assert strides == list(cache.stride())
    assert torch.equal(back, cache)
    assert back.stride() == cache.stride()


# What became of the arguments


def test_an_argument_that_a_call_changes_is_reported_as_it_is_now(subject):
    source = "def f(items, table, *, limit):\n    items.sort()\n    table['x'] = limit.pop()"
    fate = subject(source, "f").call(([3, 1], {}), {"limit": [4, 5]}, watch=True).fate
    assert fate.changed == {0: [1, 3], 1: {"x": 5}, "limit": [4]}
    assert fate.kept == ()


def test_arrays_tensors_and_lists_of_objects_are_watched_too(subject):
    source = (
        "def f(array, tensor, blocks):\n    array[0] = 9\n    tensor += 1\n    blocks.reverse()"
    )
    blocks = [Make(KVCacheBlock, 1), Make(KVCacheBlock, 2)]
    outcome = subject(source, "f").call((np.zeros(2), torch.zeros(2), blocks), watch=True)
    assert set(outcome.fate.changed) == {0, 1, 2}
    assert outcome.fate.changed[1].tolist() == [1, 1]


def test_an_object_may_change_in_a_call(subject):
    source = "def f(pool, blocks):\n    return len(pool.get_new_blocks(2))"
    pool = Make(BlockPool, 9)
    outcome = subject(source, "f").call((pool, [Make(KVCacheBlock, 1)]), watch=True)
    assert (outcome.value, outcome.fate.changed) == (2, {})


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ("return items", (0,)),
        ("return {'a': items}", (0,)),
        ("return [items, 1]", (0,)),
        ("return list(items)", ()),
        ("return array[1:]", (1,)),
        ("return array + 0", ()),
        ("return tensor.view(2, 1)", (2,)),
        ("return tensor.clone()", ()),
    ],
)
def test_an_argument_that_is_part_of_what_is_returned_is_reported(subject, body, kept):
    source = f"def f(items, array, tensor):\n    {body}"
    outcome = subject(source, "f").call(([1, 2], np.ones(3), torch.ones(2)), watch=True)
    assert outcome.fate.kept == kept


@pytest.mark.parametrize(
    ("body", "earlier"),
    [
        ("kept[:] = [x, x]; return kept", ([1, 1], [2, 2])),
        ("kept[:] = [x]; return (kept, x)", (([1], 1), ([2], 1))),
        ("table['x'] = x; return table", ({"x": 1}, {"x": 2})),
        ("return kept", None),
        ("return x", None),
        ("return [x]", None),
    ],
)
def test_a_call_that_changes_what_the_one_before_returned_is_reported(subject, body, earlier):
    source = f"kept, table = [], {{}}\ndef f(x):\n    {body}"
    f = subject(source, "f")
    assert f.call([1], watch=True).fate.earlier is None
    assert f.call([2], watch=True).fate.earlier == earlier


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nkept = np.zeros(4)\n",
        "import torch\nkept = torch.zeros(4)\n",
    ],
)
def test_numbers_that_the_next_call_writes_over_are_reported(subject, source):
    f = subject(f"{source}def f(x):\n    kept[:] = x\n    return kept[1:3]", "f")
    f.call([1], watch=True)
    was, now = f.call([2], watch=True).fate.earlier
    assert (was.tolist(), now.tolist()) == ([1, 1], [2, 2])


def test_an_earlier_result_is_looked_at_even_if_the_next_call_fails(subject):
    f = subject("kept = [1]\ndef f(x):\n    kept.append(x)\n    return kept if x else 1 / x", "f")
    f.call([1], watch=True)
    assert f.call([0], watch=True).fate.earlier == ([1, 1], [1, 1, 0])


def test_arguments_that_an_error_has_changed_are_reported(subject):
    outcome = subject("def f(items):\n    items.clear()\n    1 / 0", "f").call(([1],), watch=True)
    assert isinstance(outcome, Raised)
    assert outcome.fate.changed == {0: []}


def test_spoiling_finds_out_who_kept_a_list(subject):
    source = "class Table:\n    def append(self, ids):\n        self.ids = ids"
    table = subject(source, "Table")
    made = table.call(()).value
    table.invoke(made, "append", ([1, 2],))
    assert table.read(made, "ids") == Returned([1, 2])
    table.invoke(made, "append", ([1, 2],), spoil=True)
    assert table.read(made, "ids") == Returned([])


def test_the_cpu_time_of_a_call_is_without_the_unpacking_of_its_arguments(subject):
    size = subject("def size(items):\n    return len(items)", "size")
    # The best of several: a machine that stands still may say that the call was being computed.
    assert min(size.call((list(range(300_000)),)).fate.seconds for _ in range(5)) < 0.001


def test_a_call_says_what_cpu_time_it_took(subject):
    source = "def f(n):\n    return sum(range(n))"
    busy = subject(source, "f")
    short = min(busy.call((3,)).fate.seconds for _ in range(5))
    assert busy.call((3_000_000,)).fate.seconds > 5 * short


@pytest.mark.parametrize("asked", ["measure(object())", "measure(n=1)"])
def test_a_callback_that_is_misused_says_so_without_internal_names(subject, asked):
    outcome = subject(f"def f(measure):\n    return {asked}", "f").call(
        (Callback(lambda n: n + 1),)
    )
    assert outcome.kinds[0] == "TypeError"
    assert "Ref" not in outcome.message
    assert "Host" not in outcome.message


POOL = Make(BlockPool, 6).do("get_new_blocks", 2)


@pytest.mark.parametrize(
    ("body", "touched"),
    [
        ("pool.get_num_free_blocks()", ()),
        ("pool.blocks[1].ref_cnt", ()),
        ("pool.get_new_blocks(1)", (0,)),
        ("setattr(pool.blocks[2], 'ref_cnt', 5)", (0,)),
        ("pool.blocks.reverse()", (0,)),
    ],
)
def test_an_object_that_a_call_changes_is_told(subject, body, touched):
    outcome = subject(f"def f(pool):\n    return str({body})", "f").call((POOL,), watch=True)
    assert outcome.fate.touched == touched
    assert dict(outcome.fate.changed) == {}
