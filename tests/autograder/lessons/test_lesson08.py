"""Lesson 8: what its checks say of answers that people give, wrong ones and unusual right ones."""

from __future__ import annotations

import itertools

import pytest

import learners_manager as learners
from autograder import lessons
from autograder.checks.borrowed import is_borrowed
from autograder.lessons import lesson08_given as given
from autograder.lessons import lesson08_hunt as hunt
from autograder.lessons import lesson08_lookups as lookups
from autograder.lessons import lesson08_measure as measure
from autograder.lessons import lesson08_trees as trees
from course_lib import parts
from course_lib.kv_cache import (
    KVCacheManager,
    PlainRequest,
    RadixTree,
    hash_block,
    root_hash,
    under_check,
)
from course_lib.kv_cache.prefix import longest_cached_prefix
from course_lib.kv_cache.watch.manager_steps import RandomTraffic
from course_lib.viz.replays.film import differences, replay
from lesson_answers import SAME, examine, examine_wrong, named

OPERATIONS = 20_000
RUNS = 8


# 8.1


def by_accumulate(token_ids, block_size, cache_salt=None, parent_hash=None):
    if block_size < 1:
        raise ValueError(block_size)
    parent = root_hash(cache_salt) if parent_hash is None else parent_hash
    cuts = range(0, len(token_ids) - len(token_ids) % block_size, block_size)
    blocks = [tuple(token_ids[cut : cut + block_size]) for cut in cuts]
    return list(itertools.accumulate(blocks, hash_block, initial=parent))[1:]


def by_recursion(token_ids, block_size, cache_salt=None, parent_hash=None):
    if block_size < 1:
        raise ValueError(block_size)
    if len(token_ids) < block_size:
        return []
    parent = root_hash(cache_salt) if parent_hash is None else parent_hash
    first = hash_block(parent, token_ids[:block_size])
    return [first, *by_recursion(token_ids[block_size:], block_size, None, first)]


def in_hex(token_ids, block_size, cache_salt=None, parent_hash=None):
    return [each.hex() for each in by_accumulate(token_ids, block_size, cache_salt, parent_hash)]


def as_tuple(token_ids, block_size, cache_salt=None, parent_hash=None):
    return tuple(by_accumulate(token_ids, block_size, cache_salt, parent_hash))


def popped(token_ids, block_size, cache_salt=None, parent_hash=None):
    hashes = by_accumulate(token_ids, block_size, cache_salt, parent_hash)
    token_ids.clear()
    return hashes


def salted_last(token_ids, block_size, cache_salt=None, parent_hash=None):
    hashes = by_accumulate(token_ids, block_size, None, parent_hash)
    return [hash_block(root_hash(cache_salt), [0]) if cache_salt else each for each in hashes]


def low_bytes(token_ids, block_size, cache_salt=None, parent_hash=None):
    return by_accumulate([t & 0xFF for t in token_ids], block_size, cache_salt, parent_hash)


HASH_RIGHT = (by_accumulate, learners.hash_blocks)
HASH_WRONG = (
    (by_recursion, SAME),
    (in_hex, SAME),
    (as_tuple, SAME),
    (popped, SAME),
    (salted_last, SAME),
    (low_bytes, "the low byte of a token"),
    (lambda token_ids, block_size, cache_salt=None, parent_hash=None: [], SAME),
    (lambda token_ids, block_size: by_accumulate(token_ids, block_size), SAME),
    (object(), SAME),
)

# 8.6a


def with_lists(block_copies):
    groups = []
    for source, destination in block_copies:
        current = groups[-1] if groups else []
        reads = [pair[0] for pair in current]
        writes = [pair[1] for pair in current]
        if not groups or source in writes or destination in reads or destination in writes:
            groups.append([])
        groups[-1].append((source, destination))
    return groups


def from_the_end_of_each_group(block_copies):
    rest, groups = list(block_copies), []
    while rest:
        size = 1
        while size < len(rest):
            reads = {s for s, _ in rest[:size]}
            writes = {d for _, d in rest[:size]}
            if rest[size][0] in writes or rest[size][1] in reads | writes:
                break
            size += 1
        groups.append([tuple(pair) for pair in rest[:size]])
        rest = rest[size:]
    return groups


GROUPS_RIGHT = (with_lists,)
GROUPS_WRONG = (
    (lambda block_copies: tuple(with_lists(block_copies)), SAME),
    (lambda block_copies: [list(map(list, group)) for group in with_lists(block_copies)], SAME),
    (lambda block_copies: [*with_lists(block_copies), []], SAME),
    (lambda block_copies: with_lists(block_copies)[::-1], SAME),
    (lambda block_copies: [list(block_copies)], SAME),
    (lambda block_copies: len(with_lists(block_copies)), SAME),
    (lambda block_copies: [[(1, 2), (1, 3)], [(5, 1), (7, 8)]], SAME),
    (object(), SAME),
)

# 8.2b


def too_strict(lookup):
    """Reject whoever does not return the very list that was cached."""
    return [] if lookup([b"a"], {b"a": 3}, 17, 16) == (3,) else ["no tuple"]


def no_list(lookup):
    return "wrong" if lookups.complaints(lookup) else ""


def says_everything(lookup):
    return ["something is wrong"]


def random_cases(lookup):
    wrong = []
    names = [b"a", b"b", b"c", b"d"]
    for size, num_tokens in itertools.product((2, 16), (0, 1, 4, 5, 32, 33, 64, 65)):
        hashes = (names * 20)[: num_tokens // size][:4]
        for bits in range(16):
            cached = {name: n + 1 for n, name in enumerate(names) if bits >> n & 1}
            expected = []
            for number, name in enumerate(hashes, 1):
                if name not in cached or number * size >= num_tokens:
                    break
                expected.append(cached[name])
            if lookup(hashes, cached, num_tokens, size) != expected:
                wrong.append(f"{hashes} {bits} {num_tokens} {size}")
    return wrong[:3]


# Managers


def no_child(self, parent, child):
    self.num_forks += 1


def adds_a_token(self, parent, child):
    KVCacheManager.fork(self, parent, child)
    child.all_token_ids.append(0)


def takes_an_entry_for_blocks(self, parent, child):
    self.holding(parent.request_id)
    if child.request_id in self.request_blocks:
        raise ValueError(child.request_id)
    KVCacheManager.fork(self, parent, child)


def frees_twice_where_two_are_left(self, held, shared, new_blocks, num_computed_tokens):
    KVCacheManager.replace_shared(self, held, shared, new_blocks, num_computed_tokens)
    self.block_pool.free_blocks([block for block in shared if block.ref_cnt > 1])


def frees_too_much(self, held, shared, new_blocks, num_computed_tokens):
    KVCacheManager.replace_shared(self, held, shared, new_blocks, num_computed_tokens)
    self.block_pool.free_blocks(shared)


def always_room(
    self,
    request,
    num_new_tokens,
    num_new_computed_tokens=0,
    new_computed_blocks=None,
    *,
    full_sequence_must_fit=False,
):
    return []


def takes_one_too_many(self, request, num_new_tokens, *rest, **options):
    return KVCacheManager.allocate_slots(self, request, num_new_tokens + 1, *rest, **options)


def entered_first(
    self,
    request,
    num_new_tokens,
    num_new_computed_tokens=0,
    new_computed_blocks=None,
    *,
    full_sequence_must_fit=False,
):
    if num_new_tokens < 1:
        raise ValueError(num_new_tokens)
    hits, held = list(new_computed_blocks or ()), self.blocks_of(request)
    self.require_hits(held, hits, num_new_computed_tokens)
    num_computed = request.num_computed_tokens + num_new_computed_tokens
    num_slots = num_computed + num_new_tokens
    num_full = min(num_slots, request.num_tokens) // self.block_size
    self.hash_full_blocks(held, num_full)
    kept = 0 if held.blocks else self.num_blocks_kept_free()
    if not held.blocks:
        self.admit(held, hits)
    shared = held.shared_from(num_computed // self.block_size)
    must_fit = max(num_slots, request.num_tokens) if full_sequence_must_fit else num_slots
    lacking = [
        len(shared) + self.blocks_to_add(number, len(held.blocks), self.block_size)
        for number in (num_slots, must_fit)
    ]
    if lacking[1] + kept > self.block_pool.get_num_free_blocks():
        return None
    new_blocks = self.block_pool.get_new_blocks(lacking[0])
    self.replace_shared(held, shared, new_blocks[: len(shared)], num_computed)
    held.blocks += new_blocks[len(shared) :]
    self.cache_full_blocks(held, num_full)
    return new_blocks


def ids_only(self, *args, **options):
    taken = KVCacheManager.allocate_slots(self, *args, **options)
    return taken and [block.block_id for block in taken]


MANAGER_WRONG = (
    ("8.4a", no_child, SAME),
    ("8.4a", adds_a_token, SAME),
    ("8.4a", takes_an_entry_for_blocks, "looked up, so it holds"),
    ("8.4a", object(), SAME),
    ("8.4b", frees_twice_where_two_are_left, SAME),
    ("8.4b", frees_too_much, SAME),
    ("8.4b", lambda self, *rest: None, SAME),
    ("8.5", always_room, SAME),
    ("8.5", takes_one_too_many, SAME),
    ("8.5", entered_first, "hashed and entered before the check"),
    ("8.5", ids_only, SAME),
    ("8.5", object(), SAME),
)

# 8.9


class ByPrefix:
    """Keeps each block under all tokens up to its end: a table, and no node anywhere."""

    def __init__(self, block_size=1):
        if block_size < 1:
            raise ValueError(block_size)
        self.size, self.entries, self.now = block_size, {}, 0

    @property
    def num_blocks(self):
        return len(self.entries)

    def prefixes(self, tokens):
        ends = range(self.size, len(tokens) + 1, self.size)
        return [tuple(tokens[:end]) for end in ends]

    def longest_prefix(self, token_ids):
        self.now += 1
        found = list(itertools.takewhile(self.entries.__contains__, self.prefixes(token_ids)))
        for prefix in found:
            self.entries[prefix][1] = self.now
        return [self.entries[prefix][0] for prefix in found]

    def insert(self, token_ids, block_ids):
        prefixes = self.prefixes(token_ids)
        if len(block_ids) < len(prefixes):
            raise ValueError(block_ids)
        self.now += 1
        before = len(self.entries)
        for prefix, block_id in zip(prefixes, block_ids, strict=False):
            self.entries.setdefault(prefix, [block_id, 0])[1] = self.now
        return len(self.entries) - before

    def evict(self, num_blocks):
        evicted = []
        while self.entries and len(evicted) < num_blocks:
            stems = {prefix[: -self.size] for prefix in self.entries}
            leaves = [prefix for prefix in self.entries if prefix not in stems]
            oldest = min(leaves, key=lambda prefix: self.entries[prefix][1])
            evicted.append(self.entries.pop(oldest)[0])
        return evicted


class Borrowed(RadixTree):
    """The library's own."""


def test_the_librarys_tree_is_nobodys_own():
    assert is_borrowed(Borrowed, RadixTree)
    assert not is_borrowed(ByPrefix, RadixTree)


RIGHT = [
    *(("8.1", answer) for answer in HASH_RIGHT),
    *(("8.6a", answer) for answer in GROUPS_RIGHT),
    ("8.2b", random_cases),
    *zip(("8.4a", "8.4b", "8.5"), learners.METHODS, strict=True),
    ("8.9", ByPrefix),
    ("8.9", trees.Tree),
]
WRONG = [
    *(("8.1", *wrong) for wrong in HASH_WRONG),
    *(("8.6a", *wrong) for wrong in GROUPS_WRONG),
    *(("8.2b", answer, SAME) for answer in (too_strict, no_list, says_everything, object())),
    *MANAGER_WRONG,
    ("8.9", object(), SAME),
]


def label(case):
    return "-".join(str(getattr(each, "__name__", type(each).__name__)) for each in case[:2])


@pytest.mark.parametrize("case", RIGHT, ids=label)
def test_an_unusual_right_answer_earns_everything(case):
    exercise_id, answer = case
    finding = examine(exercise_id, answer)
    assert finding.fraction == 1.0, finding.counterexample


@pytest.mark.usefixtures("wrong_answers")
@pytest.mark.parametrize("case", WRONG, ids=label)
def test_a_wrong_answer_loses_points_and_is_not_called_what_it_is_not(case):
    exercise_id, answer, name = case
    finding = examine_wrong(exercise_id, answer)
    assert finding.fraction < 1.0
    assert named(finding) == name


def test_quadratic_or_recursive_hashing_is_too_slow_or_too_deep():
    finding = examine("8.1", by_recursion)
    assert "60,000 tokens" in finding.counterexample.case


# 8.3


@pytest.mark.parametrize("seed", range(8))
def test_a_task_by_hand_has_a_copy_for_all_but_the_last_writer(seed):
    answer = given.copies_to_write(seed).answer
    copies = [state for name, state in answer.items() if name.startswith("copy")]
    num_writers = len(copies) - 1  # one of them writes twice
    assert sum(map(bool, copies)) == num_writers - 1
    assert examine("8.3", {"seed": seed, **answer}).fraction == 1.0


def test_each_state_by_hand_earns_its_share_and_pairs_may_be_tuples():
    right = given.copies_to_write(1).answer
    tuples = {name: tuple(state) for name, state in right.items()}
    assert examine("8.3", {"seed": 1, **tuples}).fraction == 1.0
    first = next(iter(right))
    assert 0 < examine("8.3", {"seed": 1, **right, first: [9, 9]}).fraction < 1
    turned = {n: s[::-1] if n.startswith("copy") else s for n, s in right.items()}
    assert named(examine("8.3", {"seed": 1, **turned})) == "the pair the wrong way round"
    as_text = examine("8.3", {"seed": 1, **right, first: "(2, 3)"})
    assert "a copy is a list such as [2, 3]" in as_text.counterexample.complaint


@pytest.mark.parametrize("seed", range(60))
def test_every_idea_of_who_copies_is_worked_out_and_named_for_every_seed(seed):
    right = given.copies_to_write(seed).answer
    for idea in lessons.find("8.3").check.misconceptions:
        states = idea.wrong(seed)
        assert list(states) == list(right)
        if states != right:  # who writes again may begin no block
            assert named(examine("8.3", {"seed": seed, **states})) == idea.name


def test_the_right_states_are_those_of_the_right_idea():
    def right(length, is_last):
        return 0 if is_last else 1

    for seed in range(60):
        assert given.written_by(right)(seed) == given.copies_to_write(seed).answer


# 8.7a


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_new": 2}, "the request is admitted, with the blocks [1, 2, 3, 6, 7]"),
        ({"hits": [], "num_new": 6}, "the request is refused, and nothing has changed"),
        ({"free": [6, 7]}, "the free queue has each block that nobody holds"),
        ({"hits": [1, 1]}, "'hits' is a list of block ids, none of them twice"),
        ({"hits": [9]}, "'hits' has 9, which is no block"),
        ({"num_new": -1}, '"num_new" is a whole number of blocks'),
        ({"holders": {1: -1}}, '"holders" maps the id of each block'),
    ],
)
def test_a_case_that_exposes_nothing_is_told_why(change, said):
    finding = examine("8.7a", {**hunt.EXPOSING, **change})
    assert finding.fraction == 0.0
    assert said in finding.counterexample.complaint


@pytest.mark.parametrize("answer", [None, 5, {}, {"free": []}, object()])
def test_what_is_no_case_is_told_the_form(answer):
    assert examine("8.7a", answer).fraction == 0.0


def test_any_refusal_with_a_hit_exposes_the_bug_even_one_whose_hits_are_held():
    case = {"free": [2], "holders": {1: 1, 2: 0}, "hits": [1], "num_new": 2}
    assert examine("8.7a", case).fraction == 1.0


def admitted(admit, free, held, hits, num_new):
    """Return what a way to admit makes of a pool: its answer, the free queue and the holders."""
    free, holders = list(free), {**dict.fromkeys(free, 0), **held}
    return admit(free, holders, hits, num_new), free, holders


def test_the_two_fixes_are_wrong_where_the_lesson_says_so():
    first = ([6, 7, 3, 2, 1], {4: 1, 5: 1}, [1, 2, 3], 3)
    held = ([6, 7], {1: 1, 2: 1, 3: 1}, [1, 2, 3], 1)
    with pytest.raises(ValueError, match="3 blocks were asked for, and 2 are free"):
        admitted(hunt.admit_a, *first)
    assert admitted(hunt.admit_b, *first)[0] is None
    assert admitted(hunt.admit_a, *held)[0] == [1, 2, 3, 6]
    assert admitted(hunt.admit_b, *held) == (None, [6, 7], {6: 0, 7: 0, 1: 1, 2: 1, 3: 1})


def test_a_refusal_of_the_suspect_is_mended_by_the_next_admission_but_its_room_is_lost():
    free, holders = [6, 7, 3, 2, 1], {**dict.fromkeys([6, 7, 3, 2, 1], 0), 4: 1, 5: 1}
    assert hunt.suspect_admit(free, holders, [1, 2, 3], 3) is None
    free.append(4)
    holders[4] = 0
    assert hunt.suspect_admit(free, holders, [1, 2, 3], 3) == [1, 2, 3, 6, 7, 4]
    assert [holders[block] for block in (1, 2, 3)] == [2, 2, 2]


def test_the_core_takes_two_hours_and_the_open_exercise_earns_the_most():
    graded = [exercise for exercise in lessons.exercises(8) if exercise.points]
    core = [exercise for exercise in graded if "(stretch)" not in exercise.title]
    texts = 19  # minutes for the two written answers
    assert 120 <= sum(exercise.minutes for exercise in core) + texts <= 140
    assert sum(exercise.points for exercise in core) >= 70
    assert max(graded, key=lambda exercise: exercise.points).id == "8.5"


# 8.8


def test_the_measurement_is_taken_in_shares_of_the_right_weighting():
    right = measure.measured()
    assert set(right) == {"blocks", "tokens", "requests", "one A100", "four A100"}
    rounded = {name: round(rate, 5) for name, rate in right.items()}
    assert examine("8.8", rounded).fraction == 1.0
    assert examine("8.8", {**right, "tokens": right["tokens"] + 0.001}).fraction == 0.0
    assert named(examine("8.8", {name: 100 * rate for name, rate in right.items()})) == "per cent"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda rates: {"one A100": measure.in_blocks()["one A100"]}, "limited caches in blocks"),
        (lambda rates: {"one A100": 100 * rates["one A100"]}, "per cent"),
        (
            lambda rates: {"tokens": rates["blocks"], "blocks": rates["tokens"]},
            "tokens and blocks exchanged",
        ),
        (lambda rates: {n: round(r, 4) for n, r in rates.items()}, "rounded to four digits"),
        (lambda rates: {"requests": round(rates["requests"], 2)}, "rounded to two digits"),
        (lambda rates: {"tokens": rates["blocks"], "requests": 0.5}, SAME),
        (lambda rates: {"requests": rates["tokens"]}, "tokens and requests mixed up"),
        (
            lambda rates: {"tokens": rates["requests"], "requests": rates["tokens"]},
            "tokens and requests mixed up",
        ),
    ],
)
def test_a_known_mistake_in_one_of_the_rates_is_named_as_well_as_in_all(change, name):
    right = measure.measured()
    assert named(examine("8.8", {**right, **change(right)})) == name


def test_an_error_that_both_sides_raise_is_told_beside_its_step():
    (mistake,) = (
        each
        for each in lessons.find("8.5").check.misconceptions
        if each.name == "hashed after the change"
    )
    case = examine("8.5", mistake.wrong).counterexample.case
    assert "# ValueError: token id -1 cannot be hashed" in case


# What must show


@pytest.fixture
def own_engine(workspace):
    """A workspace in which lesson 8 is solved."""
    for function in learners.FUNCTIONS:
        parts.save(function.__name__, learners.source_of(function))
    for method in learners.METHODS:
        parts.save(f"KVCacheManager.{method.__name__}", learners.source_of(method))
    return workspace / "my_engine"


def test_a_manager_of_ones_own_methods_keeps_every_invariant(own_engine):
    make = parts.get("KVCacheManager")
    assert make is not KVCacheManager
    assert make.allocate_slots.__module__.startswith("my_engine")
    functions = {each.__name__: parts.get(each.__name__) for each in learners.FUNCTIONS}
    num_copied = num_found = 0
    for seed in range(RUNS):
        manager = make(10 + 3 * seed, 1 + seed % 4, True, 0.2 * (seed % 2), **functions)
        traffic = RandomTraffic(manager, seed)
        with under_check(manager):
            for _ in range(OPERATIONS // RUNS):
                traffic.step()
            traffic.end_all()
        assert manager.block_pool.get_num_free_blocks() == manager.block_pool.num_blocks - 1
        num_copied += traffic.num_copied_blocks
        num_found += traffic.num_hit_tokens
    assert num_copied > 300
    assert num_found > 2_000


def test_a_mistake_in_one_method_shows_as_the_first_state_that_differs():
    (mistake,) = (
        each
        for each in lessons.find("8.4b").check.misconceptions
        if each.name == "the old block is kept"
    )
    case = examine("8.4b", mistake.wrong).retell()
    marked = [bool(differences(step)) for step in case.steps]
    assert any(marked)
    film = list(replay(case).film)
    assert film[marked.index(True)].event == "the states part"


def test_lookups_that_the_test_must_tell_apart_all_differ_from_the_right_one():
    cases = [([b"a", b"c", b"b", b"d"], {b"a": 3, b"b": 7, b"d": 5}, n, 16) for n in (64, 65, 33)]
    cases += [([b"a", b"b", b"d"], {b"a": 3, b"b": 7, b"d": 5}, n, 2) for n in (6, 7)]
    cases += [([b"c", b"a", b"b"], {b"a": 3, b"b": 7}, 49, 16)]
    right = [longest_cached_prefix(*case) for case in cases]
    for name, lookup in lookups.FAULTY.items():
        assert [lookup(*case) for case in cases] != right, name
    for name, lookup in lookups.VALID.items():
        assert [lookup(*case) for case in cases] == right, name


def blocks_and_copies(prompt, generated, size, samples):
    """Return what the lesson's formulas say of samples of a prompt, two tokens each at least."""
    full, whole = prompt // size, -(-(prompt + generated - 1) // size)
    return full + samples * (whole - full), (samples - 1) * (prompt % size > 0)


def forked_and_generated(prompt, generated, size, samples):
    """Return the blocks in use and the copies, with a manager that forks and writes."""
    manager = KVCacheManager(samples * (prompt + generated) // size + samples + 1, size)
    requests = [PlainRequest(str(n), list(range(prompt))) for n in range(samples)]
    parent, *children = requests
    manager.allocate_slots(parent, prompt)
    parent.num_computed_tokens = prompt
    for child in children:
        manager.fork(parent, child)
    for _ in range(generated - 1):  # from the last token that is sampled nothing is computed
        for number, request in enumerate(requests):
            request.all_token_ids.append(1000 + number)
            manager.allocate_slots(request, 1)
            request.num_computed_tokens += 1
    return manager.stats().high_water, manager.num_copies


def test_the_numbers_of_the_fork_are_those_of_the_formula():
    assert blocks_and_copies(1000, 200, 16, 8) == (166, 7)
    for case in itertools.product((8, 9, 10, 33), (2, 5, 6, 9), (1, 4, 16), (1, 3, 4)):
        assert forked_and_generated(*case) == blocks_and_copies(*case), case


def test_hit_rates_on_the_synthetic_trace(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_TRACES", str(tmp_path))
    for cached in (measure.measured, measure._trace):
        cached.cache_clear()
    rates = measure.measured()
    assert rates["tokens"] == pytest.approx(0.398, abs=0.001)
    assert rates["one A100"] == pytest.approx(0.046, abs=0.001)
    assert rates["four A100"] == pytest.approx(0.106, abs=0.001)
    for cached in (measure.measured, measure._trace):
        cached.cache_clear()
