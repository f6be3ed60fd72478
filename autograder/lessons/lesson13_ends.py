"""The final project: lives of texts with their ends, and of schedulers whose requests are ended."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from autograder.checks.stateful import LargeLife, Life, Twin
from autograder.lessons.lesson06_lives import add, scheduler
from autograder.lessons.lesson12_lives import ServingLife
from autograder.proxy.recipes import Make
from course_lib.engine.watch.talking import push_letters, speak, take_many
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.scheduling.request import Request, RequestStatus
from course_lib.scheduling.scheduler import SchedulerConfig
from course_lib.scheduling.watch.endings import add_many, end, end_in_turn, end_many, standing
from course_lib.scheduling.watch.serving import plan_iteration, run_in_full

# 13.3a, stop strings


class StopLife(Twin):
    """A text that comes in pieces."""

    @initialize(strings=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3, unique=True))
    def make_one(self, strings: list[str]) -> None:
        """Start with no text."""
        self.create(strings)

    @rule(text=st.text("abc", max_size=5))
    def push(self, text: str) -> None:
        """Let a piece come."""
        self.do("push", text)
        self.see("found")
        self.see("kept_back")

    @rule()
    def flush(self) -> None:
        """End the text."""
        self.do("flush")


def _pushed(life: Life, strings: list[str], *pieces: str) -> None:
    life.create(strings)
    for piece in pieces:
        life.do("push", piece)
        life.see("found")
        life.see("kept_back")
    life.do("flush")


def over_two_pieces(life: Life) -> None:
    """A stop string begins in one piece and ends in the next."""
    _pushed(life, ["END"], "an E", "ND of it", "more")


def it_was_none(life: Life) -> None:
    """What might have become one did not."""
    _pushed(life, ["END"], "an E", "Nd", "of it")


def the_first_complete(life: Life) -> None:
    """A shorter one is complete inside a longer one that began before it."""
    _pushed(life, ["abcdef", "cd"], "xabcdef")


def the_first_named(life: Life) -> None:
    """Two are complete at the same letter, the shorter one is named first."""
    _pushed(life, ["bc", "abc"], "xabc")


def the_longer_named_first(life: Life) -> None:
    """Two are complete at the same letter, the longer one is named first."""
    _pushed(life, ["abc", "bc"], "xabc")


def an_end_inside_an_end(life: Life) -> None:
    """The longest end that may become one counts."""
    _pushed(life, ["aab"], "aa", "a", "b")


def several_wait(life: Life) -> None:
    """Of two that may come, the one that has come further decides what is kept back."""
    _pushed(life, ["xyz", "zz"], "wxy", "a", "z")


def both_wait(life: Life) -> None:
    """Two have begun, the one that is named first with fewer letters."""
    _pushed(life, ["bc", "abd"], "ab", "d")


def the_first_has_come_further(life: Life) -> None:
    """Two have begun, the one that is named last with fewer letters."""
    _pushed(life, ["abd", "bc"], "ab", "d")


def without_any(life: Life) -> None:
    """No stop strings: all is passed on at once."""
    _pushed(life, [], "text", "")


def earlier_in_the_text(life: Life) -> None:
    """Two are in one piece: the one that ends first counts, whatever their order."""
    _pushed(life, ["late", "soon"], "a soon and a late one")


def with_blanks(life: Life) -> None:
    """A blank or the end of a line belongs to a stop string."""
    _pushed(life, [" b\n"], "ab", " b", "\nc")


def with_capitals(life: Life) -> None:
    """A capital is another letter."""
    _pushed(life, ["END"], "the end, the END")


def with_marks(life: Life) -> None:
    """A full stop is a full stop."""
    _pushed(life, ["a.c"], "abc, a.c")


def one_of_many(life: Life) -> None:
    """There are six stop strings, and the last one comes, or may come."""
    _pushed(life, ["one", "two", "three", "four", "five", "six"], "a si", "x")


def a_long_one(life: Life) -> None:
    """A stop string of a whole sentence: nearly all of it has come, and its last letter has not."""
    _pushed(life, ["the end of the answer."], "this is the end of", " the answer", ", or is it?")


def a_longer_one(life: Life) -> None:
    """A stop string of several sentences: all of it has come but for its last letter."""
    _pushed(life, ["the end of the answer " * 9 + "."], "the end of the answer " * 9, ".")


def letters_as_they_come(life: Life) -> None:
    """Letters are passed on as they come: ends of lines, and accents that stand by themselves."""
    _pushed(life, ["END"], "one\r\n\ttwo \x0b", "cafe\u0301 \ufb01", " EN\u212b", "END")


STOPPING = (
    over_two_pieces,
    it_was_none,
    the_first_complete,
    the_first_named,
    the_longer_named_first,
    an_end_inside_an_end,
    several_wait,
    both_wait,
    the_first_has_come_further,
    without_any,
    earlier_in_the_text,
    with_blanks,
    with_capitals,
    with_marks,
    one_of_many,
    a_long_one,
    a_longer_one,
    letters_as_they_come,
)


def letter_by_letter(life: Life) -> None:
    """A long text comes letter by letter, and its stop string at the end.

    It is a line of dashes, on which nobody is quick who looks for a stop string from its end on.
    """
    life.create(["\n---", "END"])
    life.apply(push_letters, "-" * 40_000 + "END")
    life.see("found")


LONG_TEXT = LargeLife(
    letter_by_letter,
    "40,003 letters, one by one",
    slow="Who looks through all text at each letter takes longer the longer the text is: what was "
    "passed on cannot become a stop string any more",
)

# 13.3b, an answer

STOP_TOKEN = 1395
"""The token of `` victim``."""
SENTENCE = "the scheduler chooses a victim, and it is our request."


class AnswerLife(Twin):
    """What a model may say, and how it ends."""

    @initialize(
        max_tokens=st.integers(1, 12),
        stop=st.lists(
            st.sampled_from(("victim", "it is", "ctim, and", "request.!", ".")), max_size=2
        ),
        stop_token_ids=st.sampled_from(([], [STOP_TOKEN], [1])),
        ignore_eos=st.booleans(),
    )
    def make_one(
        self, max_tokens: int, stop: list[str], stop_token_ids: list[int], ignore_eos: bool
    ) -> None:
        """Start with no token."""
        self.create(max_tokens, stop, stop_token_ids, ignore_eos)

    def look(self) -> None:
        """Compare what the user sees."""
        for attribute in ("text", "finish_reason", "stop_reason"):
            self.see(attribute)

    @rule(text=st.sampled_from((SENTENCE, " a victim", " request.", "—", " it")))
    def say(self, text: str) -> None:
        """Say something."""
        self.do("says", text)
        self.look()

    @rule(token=st.sampled_from((STOP_TOKEN, 133, 108, 7)))
    def take(self, token: int) -> None:
        """Let one token come, which may be a part of a letter."""
        self.do("takes", token)
        self.look()

    @rule()
    def end(self) -> None:
        """Let the model end."""
        self.do("ends_itself")
        self.look()


def _spoken(life: Life, *acts: str, **how: object) -> None:
    life.create(**how)
    for act in acts:
        life.do("ends_itself") if act == "END" else life.do("says", act)
        for attribute in ("text", "finish_reason", "stop_reason"):
            life.see(attribute)


def token_by_token(life: Life) -> None:
    """A stop string ends the text in front of itself."""
    _spoken(life, " chooses", " a", " victim", stop=["victim"])


def may_have_become_one(life: Life) -> None:
    """The length ends it while something is kept back."""
    _spoken(life, " chooses", " a", " victim", max_tokens=3, stop=["victimxyz"])


def the_only_token(life: Life) -> None:
    """One token is allowed, and it is text like any other."""
    _spoken(life, " a", max_tokens=1)


def the_only_token_is_the_stop(life: Life) -> None:
    """One token is allowed, and it completes a stop string, or is a stop token."""
    _spoken(life, " victim", max_tokens=1, stop=["victim"])
    _spoken(life, " victim", max_tokens=1, stop_token_ids=[STOP_TOKEN])


def something_waits_at_the_limit(life: Life) -> None:
    """When the last token that is allowed comes, text waits: it is shown, or was a stop string."""
    _spoken(life, " a", " victim", max_tokens=2, stop=["a victim!"])
    _spoken(life, " a", " victim", max_tokens=2, stop=["a victim"])


def by_a_token(life: Life) -> None:
    """A stop token has no text."""
    _spoken(life, " chooses", " a", " victim", stop_token_ids=[STOP_TOKEN])


def by_itself(life: Life) -> None:
    """The model's own end has no text, and needs no reason."""
    _spoken(life, " chooses", " a", "END", stop=["a victim"])


def end_is_a_token(life: Life) -> None:
    """The model's own end is a token like others where it is to be ignored."""
    _spoken(life, " chooses", "END", " a", ignore_eos=True)


def both_at_once(life: Life) -> None:
    """The last token that is allowed completes a stop string."""
    _spoken(life, " chooses", " a", " victim", max_tokens=3, stop=["victim"])


def stop_token_at_the_limit(life: Life) -> None:
    """The last token that is allowed is a stop token."""
    _spoken(life, " a", " victim", max_tokens=2, stop_token_ids=[STOP_TOKEN])


def with_log_probabilities(life: Life) -> None:
    """Log-probabilities are kept of text that waits, and of what ends it, whatever that is."""
    ends = ({"stop": ["a victim"]}, {"stop_token_ids": [STOP_TOKEN]}, {"max_tokens": 3})
    for how in ends:
        life.create(logprobs=True, **how)
        for act in (" chooses", " a", " victim"):
            life.do("says", act)
            life.see("kept_logprobs")


def without_text(life: Life) -> None:
    """Nobody asked for text: tokens come, and there is no detokenizer."""
    _spoken(life, " chooses", " a", max_tokens=2, has_text=False)


def no_room_left(life: Life) -> None:
    """The model has no room for more, though more tokens were asked for."""
    _spoken(life, " chooses", " a", max_tokens=9, room=2)


def a_part_of_a_letter(life: Life) -> None:
    """The length ends it in the middle of a letter of several bytes."""
    life.create(2)
    for token in (133, 133):
        life.do("takes", token)
        life.see("text")
    life.see("finish_reason")


ANSWERING = (
    token_by_token,
    may_have_become_one,
    the_only_token,
    the_only_token_is_the_stop,
    something_waits_at_the_limit,
    by_a_token,
    by_itself,
    end_is_a_token,
    both_at_once,
    stop_token_at_the_limit,
    no_room_left,
    a_part_of_a_letter,
    with_log_probabilities,
    without_text,
)


def a_long_answer(life: Life) -> None:
    """An answer of several thousand tokens."""
    life.create(9_999, ["nobody says it"])
    life.apply(speak, SENTENCE, 700)
    life.see("finish_reason")


def a_long_answer_without_text(life: Life) -> None:
    """An answer of still more tokens, of which nobody wants the text."""
    life.create(99_999, has_text=False)
    life.apply(take_many, STOP_TOKEN, 60_000)
    life.see("finish_reason")


TOKENS_ALONE = LargeLife(
    a_long_answer_without_text,
    "an answer of 60,000 tokens, without text",
    slow="Who goes through all tokens of the answer at each of them takes longer the longer it is",
)
LONG_ANSWER = LargeLife(
    a_long_answer,
    "an answer of thousands of tokens",
    slow="Who goes through all tokens of the answer at each of them takes longer the longer it is",
)

# 13.5, abort

ABORTED, STOPPED, LENGTH = "finished_aborted", "finished_stopped", "finished_length_capped"


class EndingLife(ServingLife):
    """The same as in lesson 12, and requests are ended from outside."""

    @precondition(lambda self: self.num_made)
    @rule(
        numbers=st.lists(st.integers(1, 4), min_size=1, max_size=3),
        status=st.sampled_from((ABORTED, ABORTED, ABORTED, STOPPED, LENGTH, "waiting")),
    )
    def end(self, numbers: list[int], status: str) -> None:
        """End some, known or unknown."""
        self.apply(end, [f"r{number}" for number in numbers], status)
        if status != ABORTED:
            self.apply(standing)

    @precondition(lambda self: self.num_made)
    @rule()
    def run_in_full(self) -> None:
        """Plan and answer, and say who ended before."""
        self.apply(run_in_full)


def one_that_runs(life: Life) -> None:
    """Somebody who runs goes away, beside others."""
    scheduler(life, 12)
    add(life, "a", 3)
    add(life, "b", 4)
    life.apply(run_in_full)
    life.apply(end, "a", ABORTED)
    life.apply(run_in_full)
    life.apply(run_in_full)


def one_by_its_name(life: Life) -> None:
    """One is named, without a list; others are called like its letters."""
    scheduler(life, 12)
    for name in ("a", "b", "ab"):
        add(life, name, 3)
    life.apply(run_in_full)
    life.apply(end, "ab", ABORTED)
    life.apply(run_in_full)


def by_a_name_of_many_words(life: Life) -> None:
    """A name may hold blanks and marks: it is one name all the same, and others are its parts."""
    scheduler(life, 12)
    for name in ("1_a", "b", "1", "a", "1_a, b"):
        add(life, name, 1)
    life.apply(run_in_full)
    life.apply(end, "1_a, b", ABORTED)
    life.apply(end, "1_a", ABORTED)
    life.apply(run_in_full)


def one_that_waits(life: Life) -> None:
    """Somebody who has never run goes away."""
    scheduler(life, 12, max_num_seqs=1)
    add(life, "a", 3)
    add(life, "b", 4)
    life.apply(run_in_full)
    life.apply(end, ["b"], ABORTED)
    life.apply(run_in_full)


def one_on_the_cpu(life: Life) -> None:
    """Somebody goes away who is swapped out: its CPU blocks come back."""
    scheduler(life, 6, preemption_mode="swap", num_cpu_blocks=8)
    add(life, "a", 3)
    add(life, "b", 3)
    for _ in range(3):
        life.apply(run_in_full)
    life.apply(end, ["b"], ABORTED)
    life.apply(run_in_full)


def one_that_shares(life: Life) -> None:
    """Somebody goes away who shares blocks with a neighbour."""
    scheduler(life, 12, caching=True)
    for name in "ab":
        life.do("add_request", Make(Request, name, [1, 2, 3, 4, ord(name)], 9))
        life.apply(run_in_full)
    life.apply(end, ["a"], ABORTED)
    life.apply(run_in_full)


def unknown_and_twice(life: Life) -> None:
    """An unknown id, one that has ended, and one that is named twice."""
    scheduler(life, 12)
    add(life, "a", 3)
    add(life, "b", 3)
    life.apply(run_in_full)
    life.apply(end, ["x", "a", "a"], ABORTED)
    life.apply(end, ["a"], ABORTED)
    life.apply(run_in_full)


def no_end_at_all(life: Life) -> None:
    """A status that is no end is refused."""
    scheduler(life, 12)
    add(life, "a", 3)
    life.apply(run_in_full)
    life.apply(end, ["a"], "preempted")
    life.apply(standing)
    life.apply(run_in_full)


def no_end_of_nobody(life: Life) -> None:
    """A status that is no end is refused, whoever is named."""
    scheduler(life, 12)
    life.apply(end, ["x"], "preempted")
    life.apply(end, [], "waiting")


def one_cannot(life: Life) -> None:
    """One of two cannot have stopped, since it has not begun: nothing changes."""
    scheduler(life, 12, max_num_seqs=1)
    add(life, "a", 3)
    add(life, "b", 3)
    life.apply(run_in_full)
    life.apply(end, ["a", "b"], STOPPED)
    life.apply(standing)
    life.apply(run_in_full)


def it_has_stopped(life: Life) -> None:
    """A stop string has come: the engine ends it as stopped."""
    scheduler(life, 12)
    add(life, "a", 3)
    life.apply(run_in_full)
    life.apply(end, ["a"], STOPPED)
    life.apply(run_in_full)


def in_the_middle_of_a_step(life: Life) -> None:
    """Somebody goes away between the plan and its tokens."""
    scheduler(life, 12)
    add(life, "a", 3)
    add(life, "b", 3)
    life.apply(plan_iteration)
    life.apply(end, ["a"], ABORTED)
    life.apply(run_in_full)


def named_in_turn(life: Life) -> None:
    """The ids can be gone through once."""
    scheduler(life, 12)
    for name in ("a", "b", "c"):
        add(life, name, 3)
    life.apply(run_in_full)
    life.apply(end_in_turn, ["c", "a"], ABORTED)
    life.apply(run_in_full)


def called_by_itself(life: Life) -> None:
    """What is named is only read, and nothing is returned."""
    scheduler(life, 12)
    add(life, "a", 3)
    add(life, "b", 3)
    life.apply(run_in_full)
    life.do("finish_requests", ["b", "x", "a"], Make(RequestStatus, ABORTED))
    life.apply(run_in_full)


def many_leave(life: Life) -> None:
    """Many requests run, and all of them leave at once."""
    config = Make(SchedulerConfig, max_num_batched_tokens=_MANY, max_num_seqs=_MANY)
    life.create(config, Make(KVCacheManager, _MANY + 1, 2))
    life.apply(add_many, _MANY)
    life.apply(end_many, ABORTED)


_MANY = 10_000
MANY_LEAVE = LargeLife(
    many_leave,
    f"{_MANY:,} running requests that leave at once",
    slow="To look through all requests for each one that leaves, or to let each go by itself, "
    "takes longer the more there are: `self.requests` finds one at once, and `let_go` takes them "
    "all together",
)

ENDING = (
    one_that_runs,
    one_by_its_name,
    by_a_name_of_many_words,
    one_that_waits,
    one_on_the_cpu,
    one_that_shares,
    unknown_and_twice,
    no_end_at_all,
    no_end_of_nobody,
    one_cannot,
    it_has_stopped,
    in_the_middle_of_a_step,
    named_in_turn,
    called_by_itself,
)
