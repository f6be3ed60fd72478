"""Checks of classes, on a small example: a pool that hands out slots and takes them back.

Each implementation is examined twice, in this process and in another, and must come to the same
finding.
"""

import time
from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, rule

from autograder import lessons
from autograder.checks import acts, search
from autograder.checks.finding import FAILING, PASSED, SMALLEST, CheckError, Misconception
from autograder.checks.reference import Method
from autograder.checks.stateful import Life, StatefulCheck, Twin
from autograder.proxy.recipes import Make
from autograder.proxy.subject import LocalSubject, SubjectGoneError
from course_lib.queueing import MM1
from course_lib.scheduling import FCFSRequestQueue, Request

SEED, EXAMPLES = 1, 60

RIGHT = """
class Slot:
    def __init__(self, number):
        self.number = number
        self.in_use = False

class SlotPool:
    def __init__(self, size):
        self.slots = [Slot(number) for number in range(size)]
        self.free = list(self.slots)

    @property
    def num_free(self):
        return len(self.free)

    def take(self, count):
        if count > len(self.free):
            raise ValueError(f"{count} slots asked for, {len(self.free)} are free")
        taken, self.free = self.free[:count], self.free[count:]
        for slot in taken:
            slot.in_use = True
        return taken

    def give_back(self, slots):
        for slot in slots:
            slot.in_use = False
            self.free.append(slot)
"""


def pool_class(source):
    names = {}
    exec(source, names)
    return names["SlotPool"]


class PoolMachine(Twin):
    """Everything that can be done to a pool."""

    taken = Bundle("taken")

    @initialize(size=st.integers(0, 4))
    def make(self, size):
        self.create(size)

    @rule(target=taken, count=st.integers(0, 3))
    def take(self, count):
        return self.do("take", count, reads=("number", "in_use"))

    @rule(slots=taken)
    def give_back(self, slots):
        if slots[0] is not None:
            self.do("give_back", slots)

    @rule()
    def look(self):
        self.see("num_free")


def takes_and_returns(life: Life):
    life.create(3)
    first = life.do("take", 1, reads=("number",))
    life.do("take", 1, reads=("number",))
    life.do("give_back", first)
    life.see("num_free")
    life.do("take", 2, reads=("number",))


def takes_too_many(life: Life):
    life.create(1)
    life.do("take", 2)
    life.see("num_free")


REFERENCE = pool_class(RIGHT)

FORGETFUL = RIGHT.replace("            self.free.append(slot)\n", "")
STACK = RIGHT.replace("self.free.append(slot)", "self.free.insert(0, slot)")
GREEDY = RIGHT.replace("        if count > len(self.free):", "        if False:")

POOL = StatefulCheck(
    reference=REFERENCE,
    machine=PoolMachine,
    probes=(takes_and_returns, takes_too_many),
    misconceptions=(
        Misconception("forgets what came back", "It is free again.", pool_class(FORGETFUL)),
        Misconception("last in, first out", "They queue up at the back.", pool_class(STACK)),
        Misconception("gives what it has", "Refuse, and take nothing.", pool_class(GREEDY)),
    ),
)


@pytest.fixture
def examine(local, remote, unhurried):
    """Examine source in this process and in another; return the finding, which must be the same."""

    def examine(source):
        near = POOL.examine(local(source, "SlotPool"), SEED, EXAMPLES)
        far = POOL.examine(remote(source, "SlotPool"), SEED, EXAMPLES)
        assert near == far
        return near

    return examine


@pytest.fixture
def examine_here(local, unhurried):
    """Examine source in this process only."""
    return lambda source: POOL.examine(local(source, "SlotPool"), SEED, EXAMPLES)


def test_a_right_class_passes(examine):
    assert examine(RIGHT) == PASSED


def test_a_right_class_may_be_built_in_another_way(examine):
    source = """
class Handle:
    def __init__(self, number):
        self.number = number
        self.in_use = True

class SlotPool:
    def __init__(self, size):
        self.queue = list(range(size))
    def __getattr__(self, name):
        if name == "num_free":
            return len(self.queue)
        raise AttributeError(name)
    def take(self, count):
        if count > len(self.queue):
            raise ValueError
        return [Handle(self.queue.pop(0)) for _ in range(count)]
    def give_back(self, slots):
        self.queue += [slot.number for slot in slots]
        for slot in slots:
            slot.in_use = False
"""
    assert examine(source).counterexample is None


def test_the_shortest_failing_life_is_found_and_shown(examine):
    finding = examine(FORGETFUL)
    assert finding.counterexample.case.splitlines() == [
        "obj = SlotPool(1)",
        "obj.take(1)",
        "obj.give_back([<Slot number=0>])",
        "obj.num_free",
    ]
    assert (finding.counterexample.expected, finding.counterexample.got) == ("1", "0")
    assert finding.misconception.name == "forgets what came back"
    assert finding.fraction == 0


@pytest.mark.parametrize("misconception", POOL.misconceptions, ids=lambda m: m.name)
def test_each_known_wrong_class_is_named(misconception):
    finding = POOL.examine(LocalSubject(misconception.wrong), SEED, EXAMPLES)
    assert finding.fraction == 0
    assert finding.misconception is misconception


def test_objects_that_methods_return_are_compared_by_their_attributes(examine_here):
    wrong = RIGHT.replace("slot.in_use = True", "slot.in_use = 1")
    case = examine_here(wrong).counterexample
    assert case.case == "obj = SlotPool(1)\nobj.take(1)"
    assert case.expected == "[{'number': 0, 'in_use': True}]"
    assert case.got == "[{'number': 0, 'in_use': 1}]"
    assert case.complaint == "item 0: 'in_use': it is an int, not a bool"


def test_what_must_be_refused_is_refused(examine_here):
    case = examine_here(GREEDY).counterexample
    assert case.case == "obj = SlotPool(0)\nobj.take(1)"
    assert case.expected == "ValueError: 1 slots asked for, 0 are free"
    assert case.complaint.startswith("it should refuse this")


def test_what_is_wrong_only_after_a_refusal_is_found(examine_here):
    leaky = RIGHT.replace("            raise", "            self.free = []\n            raise")
    assert examine_here(leaky).counterexample.case.splitlines() == [
        "obj = SlotPool(1)",
        "obj.take(2)  # ValueError: 2 slots asked for, 0 are free",
        "obj.num_free",
    ]


def test_a_stub_is_told_that_nothing_comes_back(examine):
    stub = """
class SlotPool:
    num_free = None
    def __init__(self, size): pass
    def take(self, count): pass
    def give_back(self, slots): pass
"""
    assert examine(stub).unwritten


@pytest.mark.parametrize(
    ("source", "got"),
    [
        ("class SlotPool: pass", "TypeError: SlotPool() takes no arguments"),
        ("def SlotPool(size): return 5", "5"),
        ("def SlotPool(size): return 'an object'", "'an object'"),
        ("SlotPool = None", "TypeError: 'NoneType' object is not callable"),
        ("class SlotPool:\n    def __init__(self, size): raise OSError('no')", "OSError: no"),
    ],
)
def test_what_does_not_make_an_object_fails_at_once(examine, source, got):
    case = examine(source).counterexample
    assert case.case == "obj = SlotPool(0)"
    assert case.expected == "<SlotPool object>"
    assert case.got == got


def test_a_missing_method_and_a_missing_attribute_are_shown(examine_here):
    case = examine_here("class SlotPool:\n    def __init__(self, size): pass").counterexample
    assert "AttributeError: 'SlotPool' object has no attribute" in case.got


def test_who_returns_what_has_to_be_gone_through_is_told_what_makes_a_list_of_it(examine_here):
    case = examine_here(RIGHT.replace("return taken", "return iter(taken)")).counterexample
    assert case.got == "<list_iterator object>"
    assert case.complaint == (
        "an object of class list_iterator came where a list was asked; list(...) makes one of it"
    )


CHEATS = {
    "numbers that equal everything": (
        "class Odd(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
        + RIGHT.replace("self.number = number", "self.number = Odd(number + 1)")
    ),
    "slots that equal everything": RIGHT.replace(
        "class Slot:", "class Slot:\n    def __eq__(self, other): return True"
    ).replace("self.number = number", "self.number = -number"),
    "slots with every attribute": (
        "class Yes:\n    def __getattr__(self, name): return Yes()\n"
        "    def __eq__(self, other): return True\n    def __call__(self, *args): return Yes()\n"
        "class SlotPool(Yes):\n    def __init__(self, size): pass"
    ),
    "arrays that compare item by item": "import numpy as np\n"
    + RIGHT.replace("return len(self.free)", "return np.array([1, 2])"),
    "leaving Python": RIGHT.replace(
        "        taken, self", "        raise SystemExit\n        taken, self"
    ),
}


@pytest.mark.parametrize("source", CHEATS.values(), ids=CHEATS.keys())
def test_cheats_and_odd_objects_fail_like_any_wrong_answer(examine, source):
    finding = examine(source)
    assert finding.fraction == 0
    assert finding.counterexample is not None


def test_prints_are_shown_with_the_step_that_printed(examine_here):
    noisy = RIGHT.replace(
        "        taken, self", "        print('taking', count)\n        taken, self"
    )
    assert examine_here(noisy) == PASSED
    case = examine_here(noisy.replace("slot.in_use = True", "pass")).counterexample
    assert case.case == "obj = SlotPool(1)\nobj.take(1)"
    assert case.output == "taking 1\n"


def test_a_list_that_a_method_changes_is_named(examine_here):
    source = RIGHT.replace(
        "            self.free.append(slot)\n",
        "            self.free.append(slot)\n        slots.clear()\n",
    )
    case = examine_here(source).counterexample
    assert case.case.endswith("obj.give_back([<Slot number=0>])")
    assert case.complaint == ("it changed its argument slots; work on a copy")


KEEPS = RIGHT.replace(
    "        for slot in slots:",
    "        self.back, self.count = slots, len(slots)\n        for slot in slots:",
)
KEEPS = KEEPS.replace(
    "return len(self.free)", "return len(self.free) - (len(self.back) < self.count)"
)
KEEPS = KEEPS.replace("self.free = list", "self.back, self.count = [], 0\n        self.free = list")


def test_a_list_that_was_kept_is_named_with_the_step_that_kept_it(examine):
    finding = examine(KEEPS)
    assert finding.counterexample.case.splitlines() == [
        "obj = SlotPool(1)",
        "obj.take(1)",
        "obj.give_back([<Slot number=0>])  # and then the caller empties its list",
        "obj.num_free",
    ]
    assert finding.counterexample.complaint == (
        "it keeps the list that give_back was given: whoever changes that list changes the object "
        "too; keep a copy"
    )
    copies = KEEPS.replace("= slots, len", "= list(slots), len")
    assert examine(copies) == PASSED


def opaque(life: Life):
    life.create(3)
    life.do("take", 1)


REFILLS = RIGHT.replace(
    "        return taken\n",
    "        self.out[:] = taken\n        return self.out\n",
).replace("        self.free = list", "        self.out = []\n        self.free = list")


def test_a_list_that_comes_back_twice_is_named(examine):
    case = examine(REFILLS).counterexample
    assert case.case.split("\n")[1:] == ["obj.take(0)", "obj.take(1)"]
    assert (case.expected, case.got) == (
        "what the call before it returned is still []",
        "it is [<Slot object>] now",
    )
    assert case.complaint == (
        "a call changes the list that an earlier one returned; make a new list in each"
    )


def test_a_list_for_all_objects_is_shown_by_two_calls_of_one(examine):
    shared = RIGHT.replace("        return taken\n", "        OUT[:] = taken\n        return OUT\n")
    case = examine("OUT = []\n" + shared).counterexample
    assert case.case.split("\n")[1:] == ["obj.take(0)", "obj.take(1)"]


def test_a_check_that_would_compare_objects_is_refused_where_it_is_defined():
    with pytest.raises(CheckError, match=r"obj\.take\(1\): an object of class Slot would be"):
        replace(POOL, probes=(opaque,))


def test_a_rule_that_would_compare_objects_is_an_error_of_the_check(local):
    class Careless(PoolMachine):
        @rule(count=st.integers(1, 2))
        def take_without_reading(self, count):
            self.do("take", count)

    check = replace(POOL, machine=Careless, probes=())
    with pytest.raises(CheckError, match="class Slot would be compared"):
        check.examine(local(RIGHT, "SlotPool"), SEED, EXAMPLES)


def test_a_check_whose_objects_travel_as_records_is_refused_where_it_is_defined():
    def waits(life: Life):
        life.create(0.5, 1.0)
        life.do("response_quantile", 0.9)

    with pytest.raises(CheckError, match=r"obj = MM1\(0\.5, 1\.0\): .* travels as a record"):
        StatefulCheck(Method(MM1, "response_quantile"), PoolMachine, probes=(waits,))


def test_a_reference_that_keeps_its_list_is_refused():
    def gives_back(life: Life):
        life.create(1)
        life.do("give_back", life.do("take", 1, reads=("number",)))
        life.see("num_free")

    with pytest.raises(CheckError, match="SlotPool keeps a list that it was given"):
        replace(POOL, reference=pool_class(KEEPS), probes=(gives_back,), misconceptions=())


def test_two_classes_that_cannot_be_told_apart_are_both_named(local):
    twin = Misconception("forgets them all", "They are free again.", pool_class(FORGETFUL))
    check = replace(POOL, misconceptions=(*POOL.misconceptions, twin))
    finding = check.examine(local(FORGETFUL, "SlotPool"), SEED, EXAMPLES)
    assert [each.name for each in finding.alike] == ["forgets what came back", "forgets them all"]


def test_a_class_that_errs_in_another_way_in_the_failing_life_has_no_name(examine_here):
    # As in the probes, but what is asked for first is never given.
    source = STACK.replace(
        "        taken, self", "        if len(self.slots) == 2: return []\n        taken, self"
    )
    finding = examine_here(source)
    assert (finding.misconception, finding.alike) == (None, ())


# A method of a class of the library, with objects that take part


class QueueMachine(Twin):
    """Everything that can be done to a queue of requests."""

    added = Bundle("added")

    @initialize()
    def start(self):
        self.create()

    @rule(target=added, tokens=st.integers(1, 3))
    def add(self, tokens):
        request = self.make(Make(Request, self.next_name(), list(range(tokens)), 1))
        self.do("add", request)
        return request

    @rule()
    def put_back(self):
        self.do("put_back", self.make(Make(Request, self.next_name(), [1], 1)))

    def next_name(self):
        self.count = getattr(self, "count", 0) + 1
        return f"r{self.count}"

    @rule()
    def peek(self):
        self.do("peek", reads=("request_id",))

    @rule()
    def pop(self):
        self.do("pop", reads=("request_id", "prompt_token_ids.0"))

    @rule(request=added)
    def look(self, request):
        self.see("num_tokens", of=request)
        self.apply(len)


def first_come(life: Life):
    life.create()
    for name in "ab":
        life.do("add", life.make(Make(Request, name, [1], 1)))
    life.do("put_back", life.make(Make(Request, "c", [1], 1)))
    life.do("pop", reads=("request_id",))
    life.apply(len)


QUEUE = StatefulCheck(
    reference=Method(FCFSRequestQueue, "put_back"),
    machine=QueueMachine,
    probes=(first_come,),
    misconceptions=(
        Misconception("at the back", "It came first.", lambda self, request: self.add(request)),
    ),
    state_line=len,
)
PUT_BACK = """
def put_back(self, request):
    later = list(self)
    for each in later:
        self.remove(each)
    self.add(request)
    for each in later:
        self.add(each)
"""


def test_a_method_is_mounted_and_objects_take_part(local, remote, unhurried):
    for subject in (local(PUT_BACK, "put_back"), remote(PUT_BACK, "put_back")):
        assert QUEUE.examine(subject, SEED, EXAMPLES) == PASSED


def test_a_wrong_method_fails_with_the_state_beside_each_step(local, remote, unhurried):
    back = "def put_back(self, request):\n    self.add(request)"
    near, far = (make(back, "put_back") for make in (local, remote))
    finding = QUEUE.examine(near, SEED, EXAMPLES)
    assert finding == QUEUE.examine(far, SEED, EXAMPLES)
    assert finding.misconception.name == "at the back"
    assert finding.counterexample.case.splitlines() == [
        "obj = FCFSRequestQueue()  # 0",
        "request1 = Request('r1', [1], 1)",
        "obj.put_back(request1)  # 1",
        "request2 = Request('r2', [1], 1)",
        "obj.put_back(request2)  # 2",
        "obj.peek()",
    ]
    assert finding.counterexample.expected == "{'request_id': 'r2'}"


def test_after_the_last_step_the_state_stands_on_both_sides(local, unhurried):
    twice = "def put_back(self, request):\n    FCFSRequestQueue.put_back(self, request)\n"
    twice += "    self.pop()\n    return 5"
    source = f"from course_lib.scheduling import FCFSRequestQueue\n{twice}"
    case = QUEUE.examine(local(source, "put_back"), SEED, EXAMPLES).counterexample
    assert (case.expected, case.got) == ("None  # 1", "5  # 0")


@pytest.mark.parametrize("answer", [5, object(), None, lambda self, request: object()])
def test_what_is_no_method_fails(answer):
    finding = QUEUE.examine(LocalSubject(answer), SEED, EXAMPLES)
    assert finding.fraction == 0
    assert "Ref" not in repr(finding.counterexample)


@pytest.mark.parametrize("period", [2, 5, 30])
def test_an_object_that_answers_differently_each_time_fails(examine, period):
    source = "calls = 0\n" + RIGHT.replace(
        "        return len(self.free)",
        "        global calls\n        calls += 1\n"
        f"        return len(self.free) + (calls % {period} == 0)",
    )
    assert examine(source).fraction == 0


def test_the_reference_lives_a_probe_once_whoever_is_examined(local):
    made = []

    class Counted(REFERENCE):
        def __init__(self, size):
            made.append(size)
            super().__init__(size)

    def of_a_size_that_is_not_drawn(life):
        life.create(77)
        first = life.do("take", 1, reads=("number",))
        life.do("give_back", first)
        life.see("num_free")

    check = replace(POOL, reference=Counted, probes=(of_a_size_that_is_not_drawn,))
    once_more_unspoiled = 1
    assert made.count(77) == 1 + once_more_unspoiled
    findings = [check.examine(local(FORGETFUL, "SlotPool"), SEED, EXAMPLES) for _ in range(3)]
    assert [finding.misconception.name for finding in findings] == ["forgets what came back"] * 3
    assert made.count(77) == 1 + once_more_unspoiled
    assert len(made) > 2


@pytest.mark.parametrize("period", [1, 7, 100])
def test_ctrl_c_passes_through(local, period):
    source = "calls = 0\n" + RIGHT.replace(
        "        taken, self",
        "        global calls\n        calls += 1\n"
        f"        if calls == {period}: raise KeyboardInterrupt\n        taken, self",
    )
    with pytest.raises(KeyboardInterrupt):
        POOL.examine(local(source, "SlotPool"), SEED, EXAMPLES)


def test_a_slow_class_gets_its_answer_in_about_three_seconds(local):
    slow = RIGHT.replace(
        "        if count",
        "        import time; until = time.thread_time() + 0.05\n"
        "        while time.thread_time() < until: pass\n        if count",
    )
    started = time.thread_time()
    assert POOL.examine(local(slow, "SlotPool"), SEED, max_examples=1000) == PASSED
    assert time.thread_time() - started < 3.5


def test_an_endless_loop_is_an_answer_here_and_the_end_of_another_process(local, remote):
    source = RIGHT.replace("        if count", "        while count == 2: pass\n        if count")
    case = POOL.examine(local(source, "SlotPool"), SEED, EXAMPLES).counterexample
    assert "is there an endless loop?" in case.got
    assert case.case.endswith("obj.take(2)"), "the call that hung, not a later one"
    with pytest.raises(SubjectGoneError, match="no answer within 1 s"):
        POOL.examine(remote(source, "SlotPool", timeout=1.0), SEED, EXAMPLES)


@pytest.mark.parametrize("where", ["        if count", "        for slot in slots:"])
def test_a_process_that_dies_in_the_middle_of_a_life_is_gone_not_flaky(remote, where):
    source = RIGHT.replace(where, f"        import os; os._exit(0)\n{where}")
    with pytest.raises(SubjectGoneError):
        POOL.examine(remote(source, "SlotPool"), SEED, EXAMPLES)


def test_what_a_smaller_number_makes_idle_is_left_out_too(unhurried):
    life = [
        acts.Act("create", (3,), {}),
        *[acts.Act("do", ("take", 1), {})] * 3,
        acts.Act("see", ("num_free",), {}),
    ]

    def fails(life):
        taken = sum(act.args[1] for act in life if act.verb == "do")
        return len(life) - 1 if taken >= life[0].args[0] else None

    found, is_shortest = acts.shorter(life, fails, {"take": 1})
    assert [(act.verb, act.args) for act in found] == [("create", (0,)), ("see", ("num_free",))]
    assert is_shortest


def test_what_a_later_step_needs_is_not_left_out_and_is_found_where_it_is_then():
    noted = acts.Noted(LocalSubject(pool_class(RIGHT)), pool_class(RIGHT))
    noted.create(3)
    noted.see("num_free")
    made = noted.make(Make(iter, [1]))
    noted.do("give_back", made)
    assert noted.acts[made.step].verb == "make"

    def fails(life):
        return len(life) - 1 if life[-1].args == ("give_back", life[-1].args[1]) else None

    found, _ = acts.shorter(noted.acts, fails, {})
    assert [act.verb for act in found] == ["create", "make", "do"]
    lived = Life(LocalSubject(pool_class(RIGHT)), pool_class(RIGHT))
    found(lived)
    assert lived.steps[2].text.startswith("obj.give_back(list_iterator1")


def test_the_making_of_an_object_takes_its_time_too():
    life = Life(LocalSubject(pool_class(RIGHT)), pool_class(RIGHT))
    life.create(3)
    assert life.steps[0].outcome.fate.seconds > 0


def test_a_life_that_was_not_made_as_short_as_can_be_is_not_called_the_smallest(monkeypatch):
    check = lessons.find("3.2a").check
    wrong = LocalSubject(check.misconceptions[0].wrong)
    assert check.examine(wrong, SEED, 20).counterexample.label == SMALLEST
    monkeypatch.setattr(search, "SECONDS", -1.0)
    assert check.examine(wrong, SEED, 20).counterexample.label == SMALLEST, "shortened afterwards"
    monkeypatch.setattr(acts, "SECONDS", -1.0)
    assert check.examine(wrong, SEED, 20).counterexample.label == FAILING


def forgets_at_the_end(life: Life):
    life.create(3)
    first = life.do("take", 1, reads=("number",))
    life.do("give_back", first)
    life.see("num_free")


def refuses_at_the_end(life: Life):
    life.create(1)
    life.do("take", 2)


@pytest.mark.parametrize(
    ("first", "source", "is_taken"),
    [
        (forgets_at_the_end, FORGETFUL, True),
        (takes_and_returns, FORGETFUL, False),  # it differs before the last step
        (refuses_at_the_end, GREEDY, False),  # one side raises
    ],
)
def test_the_life_that_is_lived_first_is_the_case_if_its_last_step_differs(
    local, first, source, is_taken
):
    check = replace(POOL, probes=(*POOL.probes, first), first=first)
    finding = check.examine(local(source, "SlotPool"), SEED, EXAMPLES)
    lines = "obj = SlotPool(3)\nobj.take(1)\nobj.give_back([<Slot number=0>])\nobj.num_free"
    assert (finding.counterexample.case == lines) == is_taken
    assert check.examine(local(RIGHT, "SlotPool"), SEED, EXAMPLES) == PASSED


def test_a_machine_says_how_many_lives_are_drawn_at_most(local):
    def num_drawn(most_lives, num_examples):
        lived = []

        class CountingMachine(PoolMachine):
            def create(self, size):
                super().create(size)
                lived.append(size)

        CountingMachine.most_lives = most_lives
        check = replace(POOL, machine=CountingMachine)
        assert check.examine(local(RIGHT, "SlotPool"), SEED, num_examples) == PASSED
        return len(lived)

    assert num_drawn(3, 20) == num_drawn(20, 3) < num_drawn(20, 20)
