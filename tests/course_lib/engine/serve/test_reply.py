"""Outputs in the words of the protocol: each character and each token is told once."""

import json
import math

from course_lib.engine.outputs import CompletionOutput, Logprob, RequestOutput
from course_lib.engine.serve.reply import LOWEST_LOGPROB, ChatReply, CompletionReply


def choice(index, text, reason=None, logprobs=None):
    return CompletionOutput(index, text, list(range(len(text))), None, logprobs, reason)


def output(*choices, request="r-0"):
    finished = all(each.finish_reason for each in choices)
    return RequestOutput(request, None, [1, 2], list(choices), finished, 0)


def told(pieces):
    return [(piece.index, piece.text, piece.finish_reason) for piece in pieces]


def test_a_choice_that_is_over_is_not_told_again_while_others_go_on():
    reply = CompletionReply("r", "m", [2], num_choices=2)
    assert told(reply.take(output(choice(0, "ab"), choice(1, "")))) == [(0, "ab", None)]
    ended = choice(0, "abc", "stop")
    assert told(reply.take(output(ended, choice(1, "x")))) == [(0, "c", "stop"), (1, "x", None)]
    assert told(reply.take(output(ended, choice(1, "xy", "length")))) == [(1, "y", "length")]
    assert reply.usage["completion_tokens"] == 5


def test_a_choice_that_ends_without_new_text_is_told_all_the_same():
    reply = CompletionReply("r", "m", [2])
    reply.take(output(choice(0, "ab")))
    assert told(reply.take(output(choice(0, "ab", "stop")))) == [(0, "", "stop")]


def test_an_output_with_nothing_new_is_not_told():
    reply = CompletionReply("r", "m", [2])
    reply.take(output(choice(0, "ab")))
    assert reply.take(output(choice(0, "ab"))) == []


def test_choices_of_the_second_prompt_come_behind_those_of_the_first():
    reply = CompletionReply("r", "m", [2, 2], num_choices=2, echoes=["A", "B"])
    second = reply.take(output(choice(0, "x", "stop"), choice(1, "y", "stop"), request="r-1"))
    assert told(second) == [(2, "Bx", "stop"), (3, "By", "stop")]
    first = reply.take(output(choice(0, "x", "stop"), choice(1, "y", "stop")))
    assert told(first) == [(0, "Ax", "stop"), (1, "Ay", "stop")]


def test_tokens_with_one_text_are_as_many_entries():
    same = {7: Logprob(-0.5, 1, "?"), 0: Logprob(-3.0, 2, "?"), 8: Logprob(-4.0, 3, "!")}
    reply = CompletionReply("r", "m", [2])
    [piece] = reply.take(output(choice(0, "?", "stop", [same])))
    logprobs = reply.chunk(piece)["choices"][0]["logprobs"]
    # What was sampled, 0, is found under its name.
    assert logprobs["tokens"] == ["?"]
    assert logprobs["token_logprobs"] == [-3.0]
    assert logprobs["top_logprobs"] == [{"token_id:7": -0.5, "?": -3.0, "!": -4.0}]


def test_a_part_of_a_character_is_told_in_bytes():
    parts = {0: Logprob(-0.5, 1, "\ufffd", b"\xe2\x82"), 7: Logprob(-1.0, 2, "\ufffd", b"\xac")}
    outputs = output(choice(0, "?", "stop", [parts]))
    reply = CompletionReply("r", "m", [2])
    logprobs = reply.chunk(*reply.take(outputs))["choices"][0]["logprobs"]
    assert logprobs["tokens"] == [r"bytes:\xe2\x82"]
    assert logprobs["top_logprobs"] == [{r"bytes:\xe2\x82": -0.5, r"bytes:\xac": -1.0}]
    reply = ChatReply("r", "m", [2], num_top_logprobs=2)
    [content] = reply.chunk(*reply.take(outputs))["choices"][0]["logprobs"]["content"]
    assert (content["token"], content["bytes"]) == ("\ufffd", [0xE2, 0x82])
    assert [top["bytes"] for top in content["top_logprobs"]] == [[0xE2, 0x82], [0xAC]]


def test_of_equals_there_are_as_many_as_were_asked_for():
    equals = {token_id: Logprob(-1.0, 1, str(token_id)) for token_id in range(4)}
    reply = ChatReply("r", "m", [2], num_top_logprobs=2)
    [content] = reply.whole(reply.take(output(choice(0, "?", "stop", [equals]))))["choices"][0][
        "logprobs"
    ]["content"]
    assert [top["token"] for top in content["top_logprobs"]] == ["0", "1"]


def test_what_is_impossible_has_a_number_that_json_can_say():
    impossible = [{0: Logprob(-math.inf, 5, "?"), 7: Logprob(0.0, 1, "!")}]
    for reply in (CompletionReply("r", "m", [2]), ChatReply("r", "m", [2], num_top_logprobs=1)):
        [piece] = reply.take(output(choice(0, "?", "stop", impossible)))
        text = json.dumps(reply.chunk(piece), allow_nan=False)
        assert str(LOWEST_LOGPROB) in text
