"""The final project's engine: what its checks say of answers that people give."""

from __future__ import annotations

import time
import unicodedata
from dataclasses import replace

import pytest

from autograder import lessons
from autograder.checks.reference import Method
from autograder.lessons import lesson13_equality as equality
from autograder.lessons.lesson13_execute_mistakes import samples_the_first
from autograder.lessons.lesson13_flawed import FLAWED
from autograder.lessons.lesson13_given import same_answer
from autograder.proxy.subject import LocalSubject
from course_lib.attention.paged import copy_blocks
from course_lib.engine.answer import Answer, StopStrings, overlap
from course_lib.engine.core import EngineCore
from course_lib.engine.executor import Executor, StepResult
from course_lib.engine.memory_tracker import MemoryTracker
from course_lib.engine.watch.agreement import PIECES, SETTINGS, plain_tokens, run_setting
from course_lib.engine.watch.talking import TalkingAnswer
from course_lib.scheduling.request import RequestStatus
from course_lib.scheduling.scheduler import Scheduler

FEW = tuple(setting for setting in SETTINGS if setting.is_chunked and setting.has_caching)
"""Six settings: the three kinds of memory, with and without others that come and go."""

EQUALITY = equality.EqualityCheck(equality.REFERENCE, settings=FEW)


def fraction(exercise_id: str, answer: object) -> float:
    exercise = lessons.find(exercise_id)
    return exercise.examine(LocalSubject(answer, exercise.patience), max_examples=20).fraction


def examined(pieces: object) -> equality.Finding:
    return EQUALITY.examine(LocalSubject(pieces, EQUALITY.patience), seed=3, max_examples=1)


# 13.1a: what is no record of a step is said


def _step_with(change):
    def step(self):
        record = EngineCore.step(self)
        return change(self, record)

    return step


def _news_replaced(core, record):
    core.changed = None
    return record


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda core, record: None, "step returned None; a StepRecord is asked for"),
        (_news_replaced, "changed is None now, and was a dict; take_in puts into it"),
        (
            lambda core, record: replace(record, forked=list(record.forked)),
            "forked of the record is a list; a dict is asked for, by the id of the request",
        ),
    ],
)
def test_what_is_no_record_of_a_step_is_named(change, said):
    exercise = lessons.find("13.1a")
    finding = exercise.examine(LocalSubject(_step_with(change), exercise.patience), max_examples=5)
    assert finding.fraction == 0
    assert said in finding.counterexample.got


# 13.1b: the time of the logits


def test_the_time_of_the_logits_is_asked_for():
    def execute(self, output, forks=None):
        before = time.monotonic()
        return StepResult(Executor.execute(self, output, forks).sampled, before)

    assert fraction("13.1b", execute) == 0


# 13.2: names are whole, and nobody looks through a list for each block


class LiveInLowerCase(MemoryTracker):
    def report(self, live):
        line = {name.lower() for name in live}
        return super().report([name for name in self.by_owner() if name.lower() in line])


class LiveByFirstLetter(MemoryTracker):
    def report(self, live):
        letters = {name[:1] for name in live}
        return super().report([name for name in self.by_owner() if name[:1] in letters])


class LooksThroughAList(MemoryTracker):
    @property
    def in_use(self):
        seen = []
        for table in self.manager.block_tables().values():
            seen += [block.block_id for block in table if block.block_id not in seen]
        return len(seen) * self.bytes_per_block


class LooksThroughTheLive(MemoryTracker):
    def report(self, live):
        said, names = super().report([]), list(live)
        return said._replace(leaked={k: v for k, v in said.leaked.items() if k not in names})


class AsksForAllTablesEachTime(MemoryTracker):
    def by_owner(self):
        names = self.manager.block_tables()
        return {k: len(self.manager.block_tables()[k]) * self.bytes_per_block for k in names}

    @property
    def in_use(self):
        names = self.manager.block_tables()
        held = {each.block_id for name in names for each in self.manager.block_tables()[name]}
        return len(held) * self.bytes_per_block


class AsksForAllTablesOfEachOwner(MemoryTracker):
    def by_owner(self):
        names = self.manager.block_tables()
        return {k: len(self.manager.block_tables()[k]) * self.bytes_per_block for k in names}


SLOW_TRACKERS = [
    AsksForAllTablesOfEachOwner,
    LooksThroughAList,
    LooksThroughTheLive,
    AsksForAllTablesEachTime,
]


@pytest.mark.parametrize("answer", [LiveInLowerCase, LiveByFirstLetter])
def test_a_tracker_that_is_right_for_a_few_names_earns_nothing(answer):
    assert fraction("13.2", answer) == 0


@pytest.mark.usefixtures("wrong_answers")
@pytest.mark.parametrize("answer", SLOW_TRACKERS)
def test_a_tracker_that_is_right_for_a_few_blocks_earns_nothing(answer):
    exercise = lessons.find("13.2")
    large = next(each for each in exercise.check.large if each.seconds < 1)
    finding = exercise.examine(LocalSubject(answer, 1.1 * large.seconds), max_examples=2)
    assert finding.fraction == 0
    assert large.slow in finding.counterexample.complaint


# 13.3a: however many stop strings there are, and however long one is


def push_three(self, text):
    named, self.strings = self.strings, self.strings[:3]
    said = StopStrings.push(self, text)
    self.strings = named
    return said


def push_with_short_overlaps(self, text):
    whole = self.kept_back + text
    said = StopStrings.push(self, text)
    if self.found is None and len(self.kept_back) > 8:
        begun = (overlap(self.kept_back[-8:], each) for each in self.strings)
        end = len(whole) - max(begun, default=0)
        said, self.kept_back = whole[:end], whole[end:]
    return said


def push_within_a_hundred_letters(self, text):
    said = StopStrings.push(self, text)
    if self.found is None and len(self.kept_back) > 100:
        said, self.kept_back = said + self.kept_back[:-100], self.kept_back[-100:]
    return said


def push_one_kind_of_line_end(self, text):
    return StopStrings.push(self, text.replace("\r\n", "\n"))


def push_one_kind_of_letters(self, text):
    return StopStrings.push(self, unicodedata.normalize("NFKC", text))


def push_from_the_last_that_begins(self, text):
    whole = self.kept_back + text
    said = StopStrings.push(self, text)
    if self.found is None:
        begun = [size for each in self.strings if (size := overlap(whole, each))]
        end = len(whole) - (begun[-1] if begun else 0)
        said, self.kept_back = whole[:end], whole[end:]
    return said


@pytest.mark.parametrize(
    "push",
    [
        push_three,
        push_with_short_overlaps,
        push_within_a_hundred_letters,
        push_from_the_last_that_begins,
        push_one_kind_of_line_end,
        push_one_kind_of_letters,
    ],
)
def test_stop_strings_may_be_many_and_long(push):
    assert fraction("13.3a", push) == 0


# 13.3: what is long takes no longer for each letter, or each token


def push_from_all(self, text):
    self.pieces = [*getattr(self, "pieces", ()), text]
    whole = ""
    for piece in self.pieces:
        whole = whole + piece
    return StopStrings.push(self, whole[len(whole) - len(text) :])


def push_found_in_all(self, text):
    """Look for the stop strings in all text that came."""
    if self.found is not None:
        return ""
    self.all = getattr(self, "all", "") + text
    shown, self.shown = getattr(self, "shown", 0), 0
    complete = [(self.all.find(each), each) for each in self.strings if each in self.all]
    if complete:
        end, self.found = min(complete, key=lambda place: place[0] + len(place[1]))
        self.kept_back = ""
        return self.all[shown:end]
    waits = max((overlap(self.all, each) for each in self.strings), default=0)
    self.shown = len(self.all) - waits
    self.kept_back = self.all[self.shown :]
    return self.all[shown : self.shown]


class KeepsEachMark(MemoryTracker):
    def __init__(self, manager, bytes_per_block):
        super().__init__(manager, bytes_per_block)
        self.history = []

    def observe(self):
        self.history.append(self.in_use)
        self.high_water = max(self.history)


def append_beside_the_sum(self, token):
    self.sum = sum(self.request.all_token_ids)
    Answer.append(self, token)


def reason_for_a_counted_prompt(self, request):
    for number in range(request.num_prompt_tokens):
        self.known = len(request.all_token_ids[: number + 1])
    return Scheduler.why_never(self, request)


def abort_one_by_one(self, request_ids, status):
    names = [request_ids] if isinstance(request_ids, str) else list(dict.fromkeys(request_ids))
    for name in names if status.is_finished else ():
        if name in self.requests:
            self.requests[name].require_transition(status)
    for name in names or [()]:
        Scheduler.finish_requests(self, name, status)


def abort_by_looking_at_each(self, request_ids, status):
    named = [request_ids] if isinstance(request_ids, str) else list(request_ids)
    here = [each for each in named if any(each == name for name in self.requests)]
    Scheduler.finish_requests(self, here, status)


def append_beside_all(self, token):
    for known in self.request.all_token_ids:
        self.is_known = known == token.token_id
    Answer.append(self, token)


@pytest.mark.usefixtures("wrong_answers")
@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("13.2", KeepsEachMark),
        ("13.3a", push_from_all),
        ("13.3a", push_found_in_all),
        ("13.3b", append_beside_all),
        ("13.3b", append_beside_the_sum),
        ("13.4", reason_for_a_counted_prompt),
        ("13.5", abort_one_by_one),
        ("13.5", abort_by_looking_at_each),
    ],
)
def test_who_goes_through_all_that_came_before_is_late_on_what_is_long(exercise_id, answer):
    exercise = lessons.find(exercise_id)
    finding = exercise.examine(LocalSubject(answer, exercise.patience), max_examples=2)
    assert finding.fraction == 0
    assert "on small inputs it is right" in str(finding.counterexample)


# 13.4: a reason has two numbers, and is in words of one's own


def reason_by_budget_first(self, request):
    """Ask for the step before the pool, and write thousands as people do."""
    num_tokens, budget = request.num_prompt_tokens, self.config.max_num_batched_tokens
    if not self.config.enable_chunked_prefill and num_tokens > budget:
        return f"a step has {budget:,} tokens, of {num_tokens:,}"
    return f"{num_tokens} > {self.max_model_len}" if num_tokens > self.max_model_len else ""


def any_words(self, request):
    """Give a reason that helps nobody."""
    return "no" if Scheduler.why_never(self, request) else ""


def the_limit_alone(self, request):
    """Name one of the two numbers."""
    return f"at most {self.max_model_len}" if Scheduler.why_never(self, request) else ""


@pytest.mark.parametrize(
    ("answer", "earned"), [(reason_by_budget_first, 1), (any_words, 0), (the_limit_alone, 0)]
)
def test_a_reason_names_the_prompts_tokens_and_the_limit(answer, earned):
    assert fraction("13.4", answer) == earned


@pytest.mark.parametrize(
    ("got", "complaint"),
    [
        ("1,024 tokens, 64 at most", None),
        ("64 < 1024", None),
        ("102464", "does not name 1024 and 64"),
        ("1024 tokens", "does not name 64"),
        ("", "can never be computed"),
        (None, "no text"),
    ],
)
def test_what_is_looked_for_in_a_reason(got, complaint):
    said = same_answer("the prompt has 1024 tokens and max_model_len is 64; 9 blocks", got)
    assert (said is None) if complaint is None else complaint in said


# 13.3a, 13.5: right answers in other words


def letter_by_letter(self, text):
    """Take the text letter by letter, as its docstring says that it counts."""
    said = ""
    for letter in text:
        if self.found is not None:
            break
        self.kept_back += letter
        whole = [string for string in self.strings if self.kept_back.endswith(string)]
        if whole:
            said += self.kept_back[: -len(whole[0])]
            self.found, self.kept_back = whole[0], ""
            break
        starts = (
            place
            for place in range(len(self.kept_back))
            if any(string.startswith(self.kept_back[place:]) for string in self.strings)
        )
        first = next(starts, len(self.kept_back))
        said, self.kept_back = said + self.kept_back[:first], self.kept_back[first:]
    return said


def test_stop_strings_may_be_looked_for_letter_by_letter():
    assert fraction("13.3a", letter_by_letter) == 1


def abort_word_by_word(self, request_ids, status):
    names = request_ids.split("_") if isinstance(request_ids, str) else request_ids
    Scheduler.finish_requests(self, names, status)


def test_a_name_is_not_taken_apart():
    assert fraction("13.5", abort_word_by_word) == 0


def reason_beside_others(self, request):
    """Take the tokens of those who run off the budget of a step."""
    if self.config.enable_chunked_prefill or not self.running:
        return Scheduler.why_never(self, request)
    room = self.config.max_num_batched_tokens - len(self.running)
    num_tokens = request.num_prompt_tokens
    return f"{num_tokens} of {room}" if num_tokens > room else ""


def test_a_prompt_fits_into_the_step_of_an_empty_engine():
    assert fraction("13.4", reason_beside_others) == 0


def abort_in_two_lists(self, request_ids, status):
    """Sort the ids first, and free in another order."""
    if not status.is_finished:
        raise ValueError(status)
    names = {request_ids} if isinstance(request_ids, str) else set(request_ids)
    ended = [request for name, request in self.requests.items() if name in names]
    for request in ended:
        request.require_transition(status)
    for request in ended:
        if request.status is RequestStatus.SWAPPED:
            self.swapped.remove(request)
            self.swap_space.release(request.request_id)
        elif request in list(self.waiting):
            self.waiting.remove(request)
        request.status = status
    self.let_go(ended)


def test_whom_to_end_may_be_collected_from_the_scheduler_itself():
    assert fraction("13.5", abort_in_two_lists) == 1


# 13.6


def test_a_piece_that_the_library_lends_costs_its_share_and_no_more():
    pieces = {name: piece for name, piece in equality.REFERENCE.items() if "finish" not in name}
    finding = examined(pieces)
    assert finding.fraction == pytest.approx(13 / 18)
    assert "the library stands in for Scheduler.finish_requests" in finding.counterexample.got


def test_the_librarys_own_pieces_are_nobodys():
    borrowed = {"Executor.execute": Executor.execute, "Scheduler": Scheduler}
    assert examined(borrowed).fraction == 0
    assert examined({}).unwritten
    assert examined("an engine").fraction == 0


def test_a_name_that_no_piece_has_is_shown_beside_the_names_that_there_are():
    finding = examined({"step": equality.REFERENCE["EngineCore.step"]})
    assert finding.fraction == 0
    assert finding.counterexample.got == "the names ['step']"
    assert "EngineCore.step, Executor.execute" in finding.counterexample.complaint
    assert (
        "the library's Executor.execute"
        in examined({"Executor.execute": Executor.execute}).counterexample.got
    )


@pytest.mark.parametrize(
    ("pieces", "case", "said"),
    [
        (
            {"EngineCore.step": "step"},
            "my_engine['EngineCore.step']",
            "it is of type str; give the function itself, without quotes",
        ),
        (
            {**equality.REFERENCE, "Enginecore.step": equality.not_told},
            "my_engine['Enginecore.step']",
            "it is called EngineCore.step",
        ),
        (
            {**equality.REFERENCE, "Executor.excute": equality.moves_nothing},
            "my_engine['Executor.excute']",
            "it is called Executor.execute",
        ),
        ({**equality.REFERENCE, "step": equality.not_told}, "my_engine['step']", "Executor.exec"),
    ],
)
def test_a_piece_that_is_none_and_a_name_that_is_none_are_named(pieces, case, said):
    finding = examined(pieces)
    assert (finding.fraction, finding.counterexample.case) == (0, case)
    assert said in finding.counterexample.complaint


def test_a_part_on_which_no_engine_runs_may_stand_among_the_pieces():
    assert examined({**equality.REFERENCE, "MemoryTracker": MemoryTracker}).fraction == 1


def test_each_piece_weighs_what_its_exercise_earns():
    earned = {exercise.part: exercise.points for exercise in lessons.exercises(13) if exercise.part}
    assert {name: earned[name] for name in PIECES} == equality.WEIGHTS


def test_no_box_has_the_pieces_of_the_library():
    assert {method.__qualname__ for method in EQUALITY.others} == set(PIECES)
    assert all(isinstance(method, Method) for method in EQUALITY.others)


def test_a_piece_that_raises_is_named():
    def push(self: StopStrings, text: str) -> str:
        raise KeyError("not yet")

    finding = examined({**equality.REFERENCE, "StopStrings.push": push})
    assert finding.fraction == 0
    assert "StopStrings" in finding.counterexample.complaint


def test_wrong_tokens_are_traced_to_the_piece_that_makes_them():
    wrong = {**equality.REFERENCE, "Executor.execute": equality.moves_nothing}
    finding = examined(wrong)
    assert 0 < finding.fraction < 1
    assert "the library's Executor.execute in its place" in finding.counterexample.complaint


def test_a_piece_with_which_no_run_ends_is_named():
    finding = examined({**equality.REFERENCE, "Executor.execute": samples_the_first})
    assert "it does not end" in finding.counterexample.got
    assert "the library's Executor.execute in its place" in finding.counterexample.complaint


def test_a_part_of_an_earlier_lesson_is_named_and_so_is_the_piece_of_a_class():
    def no_hash(*args: object) -> list[object]:
        raise ZeroDivisionError

    finding = examined({**equality.REFERENCE, "hash_blocks": no_hash, "copy_blocks": copy_blocks})
    assert "with the library's hash_blocks in its place" in finding.counterexample.complaint

    class Own(Executor):
        execute = equality.moves_nothing

    finding = examined({**equality.REFERENCE, "Executor": Own, "Executor.execute": Own.execute})
    assert "the library's Executor.execute in its place" in finding.counterexample.complaint


def test_of_two_wrong_pieces_none_is_named():
    wrong = {
        "EngineCore.step": equality.not_told,
        "Answer.append": equality.last_token_swallowed,
    }
    finding = examined({**equality.REFERENCE, **wrong})
    assert "no single piece" in finding.counterexample.complaint


def test_where_no_answer_comes_in_time_nothing_is_said_of_who_is_to_blame():
    check = equality.EqualityCheck(equality.REFERENCE, settings=FEW, patience=0.3)

    def step(self: object) -> None:
        while True:
            pass

    wrong = {**equality.REFERENCE, "EngineCore.step": step}
    finding = check.examine(LocalSubject(wrong, 0.3), seed=3, max_examples=1)
    assert "in its place" not in finding.counterexample.complaint
    assert "no single piece" not in finding.counterexample.complaint


# What equality sees


@pytest.mark.parametrize(
    ("flaw", "is_seen"),
    [
        ("no flaw", False),
        ("last come, first served", False),
        ("hits are not used", False),
        ("tables are kept for ever", False),
        ("no copy before a write", True),
        ("last token swallowed", True),
    ],
)
def test_what_token_equality_sees(flaw, is_seen):
    setting = FEW[1]
    run = run_setting(FLAWED[flaw], setting, seed=1)
    assert (run.tokens != plain_tokens(setting, seed=1)) == is_seen


def test_a_leak_shows_in_what_is_held_at_the_end():
    setting = next(each for each in FEW if each.memory == "ample" and each.has_aborts)
    run = run_setting(FLAWED["leak on abort"], setting, seed=1)
    assert run.tokens == plain_tokens(setting, seed=1)
    assert run.num_held > 0


def test_the_engine_that_leaks_on_abort_leaks_on_nothing_else():
    setting = next(each for each in FEW if each.memory == "ample" and not each.has_aborts)
    assert run_setting(FLAWED["leak on abort"], setting, seed=1).num_held == 0


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_each_setting_does_what_it_is_called(setting):
    run = run_setting({}, setting, seed=1)
    assert run.tokens == plain_tokens(setting, seed=1)
    assert (run.num_preemptions > 0) == (setting.memory != "ample")
    assert (run.num_hits > 0) == setting.has_caching
    assert (run.num_aborted > 0) == setting.has_aborts
    assert run.num_held == 0


def test_no_plan_of_these_runs_swaps_out_and_in_so_their_order_shows_in_plans_by_hand_alone():
    plans = []

    def execute(self, output, forks=None):
        plans.append((len(output.blocks_to_swap_out), len(output.blocks_to_swap_in)))
        moved, output.blocks_to_swap_out = output.blocks_to_swap_out, []
        coming, output.blocks_to_swap_in = output.blocks_to_swap_in, []
        self.kv_store.swap_in(coming)
        self.kv_store.swap_out(moved)
        return Executor.execute(self, output, forks)

    for setting in SETTINGS:
        if setting.memory == "swap":
            run = run_setting({"Executor.execute": execute}, setting, seed=1)
            assert run.tokens == plain_tokens(setting, seed=1)
    assert any(out for out, _ in plans)
    assert any(back for _, back in plans)
    assert not any(out and back for out, back in plans)
    assert fraction("13.1b", execute) == 0


def test_an_answer_keeps_log_probabilities_and_may_have_no_text():
    answer = TalkingAnswer(stop=["a victim"], logprobs=True)
    assert answer.says(" chooses a victim") == " chooses "
    assert [place for place, _ in answer.kept_logprobs] == [0, 8, 10]
    tokens_alone = TalkingAnswer(max_tokens=2, has_text=False)
    assert (tokens_alone.says(" a victim"), tokens_alone.finish_reason) == ("", "length")


def test_a_token_behind_the_end_of_a_request_is_passed_over():
    class NeverEnds(TalkingAnswer):
        def append(self, token):
            """Take nothing in."""

    answer = NeverEnds(max_tokens=1)
    answer.says(" a victim")
    assert (answer.request.num_output_tokens, answer.finish_reason) == (1, None)
