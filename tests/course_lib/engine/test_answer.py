"""Answers: nothing is shown that has to be taken back, and nothing is lost."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.engine.answer import Answer, StopStrings
from course_lib.engine.request import EngineRequest
from course_lib.engine.sampler import SampledToken, TokenLogprobs
from course_lib.engine.sampling_params import SamplingParams
from course_lib.engine.tokenizer import Tokenizer
from tokenizer_kinds import KINDS, save

TEXTS = st.text("ab", max_size=12)
STOPS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=3)


@given(pieces=st.lists(TEXTS, max_size=8), strings=STOPS)
def test_the_text_ends_in_front_of_the_first_stop_string(
    pieces: list[str], strings: list[str]
) -> None:
    stop = StopStrings(strings)
    shown = ""
    for index, piece in enumerate(pieces):
        shown += stop.push(piece)
        so_far = "".join(pieces[: index + 1])
        ends = [at for string in strings if (at := so_far.find(string)) >= 0]
        if not ends:
            assert stop.found is None
            # What is kept back is no more than what may become a stop string.
            kept_back = so_far[len(shown) :]
            assert so_far == shown + kept_back
            assert not kept_back or any(s != kept_back and s.startswith(kept_back) for s in strings)
        else:
            # A string that ended earlier has ended the text, even if a longer one began before.
            assert stop.found in strings
            assert so_far.startswith(shown + (stop.found or ""))
            assert not any(string in shown for string in strings)
    if stop.found is None:
        assert shown + stop.flush() == "".join(pieces)
    assert stop.push("") == stop.flush() == ""


def test_without_stop_strings_everything_passes_at_once() -> None:
    assert StopStrings([]).push("any") == "any"


@given(pieces=st.lists(st.text("abc", max_size=12), max_size=8), strings=STOPS)
def test_how_the_text_is_cut_makes_no_difference(pieces: list[str], strings: list[str]) -> None:
    outcomes = []
    text = "".join(pieces)
    for way in (pieces, list(text), [text]):
        stop = StopStrings(strings)
        outcomes.append(("".join(map(stop.push, way)) + stop.flush(), stop.found))
    assert outcomes[0] == outcomes[1] == outcomes[2]


@given(text=st.text("ab", max_size=16), strings=STOPS)
def test_the_string_that_is_complete_first_counts(text: str, strings: list[str]) -> None:
    stop = StopStrings(strings)
    shown = stop.push(text)
    prefixes = [text[:end] for end in range(1, len(text) + 1)]
    first = next((p for p in prefixes if any(map(p.endswith, strings))), None)
    if first is None:
        assert stop.found is None
    else:
        assert stop.found == next(string for string in strings if first.endswith(string))
        assert shown == first.removesuffix(stop.found)


def test_of_two_that_begin_at_the_same_place_the_shorter_is_complete_first() -> None:
    stop = StopStrings(["ab", "a"])
    assert (stop.push("xab"), stop.found) == ("x", "a")


def test_of_two_that_are_complete_at_the_same_place_the_first_of_the_list_counts() -> None:
    stop = StopStrings(["b", "ab"])
    assert (stop.push("xab"), stop.found) == ("xa", "b")


def answer_of(tokenizer: Tokenizer, token_ids: list[int], **params: object) -> Answer:
    """Return an answer behind a word, with these tokens as far as it takes them."""
    prompt = tokenizer.encode("The")
    params = {"max_tokens": 100, "logprobs": 0} | params
    request = EngineRequest("a", prompt, SamplingParams(**params), seed=0)
    answer = Answer(request, prompt, [], tokenizer)
    for token_id in token_ids:
        if answer.finish_reason is None:
            request.append_output(token_id)
            answer.append(SampledToken(token_id, TokenLogprobs([token_id], [-1.0], [1])))
    return answer


def test_a_stop_string_of_bytes_ends_an_answer_with_its_last_byte(tmp_path: Path) -> None:
    tokenizer = Tokenizer(save(KINDS["byte fallback"](), tmp_path))
    ids = {tokenizer.token(i): i for i in range(tokenizer.vocab_size)}
    newline, *euro = ids["<0x0A>"], ids["<0xE2>"], ids["<0x82>"], ids["<0xAC>"]
    assert answer_of(tokenizer, [newline] * 50, stop="\n").output().token_ids == [newline]
    output = answer_of(tokenizer, [*euro, newline, *euro], stop=["€\n", "x"]).output()
    assert (output.text, output.stop_reason) == ("", "€\n")
    assert output.token_ids == [*euro, newline]


@pytest.mark.parametrize("text", ["is 5 € or £4", "größer, 文", "the queue waits"])
def test_offsets_and_bytes_are_those_of_the_text(tokenizer: Tokenizer, text: str) -> None:
    # The other kinds put a space before every text.
    written = f" {text}" if "ByteLevel" in tokenizer.decoder_kinds else text
    ids = tokenizer.encode(written, add_special_tokens=False)
    output = answer_of(tokenizer, ids).output()
    named = [each[i] for i, each in zip(output.token_ids, output.logprobs, strict=True)]
    if "<unk>" not in "".join(each.decoded_token for each in named):
        assert output.text == f" {text}"
        assert b"".join(each.utf8 for each in named).decode() == output.text
    for each, offset in zip(named, output.text_offsets, strict=True):
        is_whole = each.token_bytes is None and each.decoded_token != "<unk>"
        assert output.text.startswith(each.decoded_token if is_whole else "", offset)
    assert output.text_offsets == sorted(output.text_offsets)


def test_parts_of_a_character_begin_where_it_does(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a 文 b", add_special_tokens=False)
    output = answer_of(tokenizer, ids).output()
    parts = [
        offset
        for i, each, offset in zip(ids, output.logprobs, output.text_offsets, strict=True)
        if each[i].token_bytes is not None
    ]
    assert set(parts) <= {output.text.find("文")}


def test_what_a_stop_string_keeps_back_moves_no_offset(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("the queue waits", add_special_tokens=False)
    free = answer_of(tokenizer, ids).output()
    kept = answer_of(tokenizer, ids, stop=[free.text + "!"]).output()
    assert (kept.text, free.text_offsets) == ("", kept.text_offsets)
