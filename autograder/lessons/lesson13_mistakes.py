"""The final project: what is got wrong about the end of an answer."""

from __future__ import annotations

from typing import Any

from autograder.checks.finding import Misconception
from course_lib.engine.answer import Answer
from course_lib.engine.sampler import SampledToken

# 13.3b, an answer


def _says(self: Answer, token_id: int) -> None:
    if self.detokenizer is not None:
        self.text += self.stop_strings.push(self.detokenizer.append(token_id))


def _ends_by_a_token(self: Answer, token_id: int) -> bool:
    """End it if this is a stop token, and say whether it was."""
    if token_id in self.stop_token_ids:
        self.finish("stop", None if token_id == self.request.eos_token_id else token_id)
        return True
    return False


def _ends_by_a_string_or_length(self: Answer) -> None:
    if self.stop_strings.found is not None:
        self.finish_reason, self.stop_reason = "stop", self.stop_strings.found
    elif self.request.is_finished:
        self.finish("length", None)


def log_probabilities_last(self: Answer, token: SampledToken) -> None:
    """Keep the log-probabilities when the text is there; of a stop token, none."""
    if _ends_by_a_token(self, token.token_id):
        return
    _says(self, token.token_id)
    _ends_by_a_string_or_length(self)
    self.append_logprobs(token)


def text_is_not_added(self: Answer, token: SampledToken) -> None:
    """Push the letters, and leave what comes back."""
    self.append_logprobs(token)
    if _ends_by_a_token(self, token.token_id):
        return
    before = self.text
    _says(self, token.token_id)
    self.text = before
    _ends_by_a_string_or_length(self)


def the_last_piece_alone(self: Answer, token: SampledToken) -> None:
    """Put the newest text in the place of all before it."""
    self.append_logprobs(token)
    if _ends_by_a_token(self, token.token_id):
        return
    if self.detokenizer is not None:
        self.text = ""
    _says(self, token.token_id)
    _ends_by_a_string_or_length(self)


def no_end_by_length(self: Answer, token: SampledToken) -> None:
    """End by tokens and strings alone."""
    self.append_logprobs(token)
    if _ends_by_a_token(self, token.token_id):
        return
    _says(self, token.token_id)
    if self.stop_strings.found is not None:
        self.finish_reason, self.stop_reason = "stop", self.stop_strings.found


def length_first(self: Answer, token: SampledToken) -> None:
    """Ask for the length before the stop strings."""
    self.append_logprobs(token)
    if token.token_id in self.stop_token_ids:
        is_main = token.token_id == self.request.eos_token_id
        self.finish("stop", None if is_main else token.token_id)
        return
    _says(self, token.token_id)
    if self.request.is_finished:
        self.finish("length", None)
        self.finish_reason, self.stop_reason = "length", None
    elif self.stop_strings.found is not None:
        self.finish_reason, self.stop_reason = "stop", self.stop_strings.found


def last_token_swallowed(self: Answer, token: SampledToken) -> None:
    """Ask for the length before the text."""
    if token.token_id in self.stop_token_ids or not self.request.is_finished:
        Answer.append(self, token)
        return
    self.append_logprobs(token)
    self.finish("length", None)


def length_before_everything(self: Answer, token: SampledToken) -> None:
    """Ask for the length before stop tokens and text."""
    if not self.request.is_finished:
        Answer.append(self, token)
        return
    self.append_logprobs(token)
    self.finish("length", None)


def length_before_the_cut(self: Answer, token: SampledToken) -> None:
    """Show the text of the last token that is allowed as it is, and end by length."""
    is_stop = token.token_id in self.stop_token_ids
    if is_stop or self.detokenizer is None or not self.request.is_finished:
        Answer.append(self, token)
        return
    self.append_logprobs(token)
    self.text += self.stop_strings.flush() + self.detokenizer.append(token.token_id)
    self.finish("length", None)


def behind_its_own_text(self: Answer, token: SampledToken) -> None:
    """Do the same, and show what was kept back behind the text of the last token."""
    is_stop = token.token_id in self.stop_token_ids
    if is_stop or self.detokenizer is None or not self.request.is_finished:
        Answer.append(self, token)
        return
    self.append_logprobs(token)
    self.text += self.detokenizer.append(token.token_id)
    self.finish("length", None)


def ends_before_its_text(self: Answer, token: SampledToken) -> None:
    """End by length, then take in the text of the last token that is allowed."""
    is_stop = token.token_id in self.stop_token_ids
    if is_stop or not self.request.is_finished:
        Answer.append(self, token)
        return
    self.append_logprobs(token)
    self.finish("length", None)
    _says(self, token.token_id)
    if self.stop_strings.found is not None:
        self.finish_reason, self.stop_reason = "stop", self.stop_strings.found


def token_has_text(self: Answer, token: SampledToken) -> None:
    """Show the text of a stop token."""
    if token.token_id in self.stop_token_ids:
        _says(self, token.token_id)
    Answer.append(self, token)


def length_before_tokens(self: Answer, token: SampledToken) -> None:
    """Take a stop token for the end by length if it is the last one allowed."""
    is_last = self.request.num_output_tokens >= self.request.max_tokens
    Answer.append(self, token)
    if is_last and self.finish_reason == "stop" and isinstance(self.stop_reason, int):
        self.finish_reason, self.stop_reason = "length", None


def never_flushes(self: Answer, token: SampledToken) -> None:
    """Leave what was kept back where it is."""
    self.append_logprobs(token)
    if token.token_id in self.stop_token_ids:
        is_main = token.token_id == self.request.eos_token_id
        self.finish_reason, self.stop_reason = "stop", None if is_main else token.token_id
        return
    _says(self, token.token_id)
    if self.stop_strings.found is not None:
        self.finish_reason, self.stop_reason = "stop", self.stop_strings.found
    elif self.request.is_finished:
        self.finish_reason = "length"


def lost_at_the_limit(self: Answer, token: SampledToken) -> None:
    """Leave what was kept back where it is when the length ends it."""
    if token.token_id in self.stop_token_ids or not self.request.is_finished:
        Answer.append(self, token)
        return
    self.append_logprobs(token)
    _says(self, token.token_id)
    self.finish_reason, self.stop_reason = "length", None
    if self.stop_strings.found is not None:
        self.finish_reason, self.stop_reason = "stop", self.stop_strings.found


def lost_at_a_stop_token(self: Answer, token: SampledToken) -> None:
    """Leave what was kept back where it is when a token ends it."""
    if token.token_id not in self.stop_token_ids:
        Answer.append(self, token)
        return
    self.append_logprobs(token)
    is_main = token.token_id == self.request.eos_token_id
    self.finish_reason, self.stop_reason = "stop", None if is_main else token.token_id


def eos_is_a_reason(self: Answer, token: SampledToken) -> None:
    """Give the model's own end as a reason."""
    Answer.append(self, token)
    if token.token_id in self.stop_token_ids:
        self.stop_reason = token.token_id


def without_the_reason(self: Answer, token: SampledToken) -> None:
    """Say that it stopped, and not at what."""
    Answer.append(self, token)
    self.stop_reason = None


def never_by_length(self: Answer, token: SampledToken) -> None:
    """Wait for a stop that does not come."""
    before = self.text
    Answer.append(self, token)
    if self.finish_reason == "length":
        self.finish_reason, self.text = None, before


def by_the_number_alone(self: Answer, token: SampledToken) -> None:
    """Ask for the number of tokens, and not whether the scheduler has ended it."""
    is_all = self.request.num_output_tokens >= self.request.max_tokens
    if is_all or token.token_id in self.stop_token_ids or not self.request.is_finished:
        Answer.append(self, token)
        return
    self.append_logprobs(token)
    _says(self, token.token_id)
    if self.stop_strings.found is not None:
        self.finish("stop", self.stop_strings.found)


def no_logprobs(self: Answer, token: SampledToken) -> None:
    """Keep no log-probabilities."""
    Answer.append(self, SampledToken(token.token_id, None))


def logprobs_behind_the_text(self: Answer, token: SampledToken) -> None:
    """Keep the log-probabilities when all else is done."""
    Answer.append(self, SampledToken(token.token_id, None))
    self.append_logprobs(token)


def logprobs_of_what_is_shown(self: Answer, token: SampledToken) -> None:
    """Keep no log-probabilities of a stop token."""
    shown = token.token_id not in self.stop_token_ids
    Answer.append(self, token if shown else SampledToken(token.token_id, None))


def logprobs_until_the_last(self: Answer, token: SampledToken) -> None:
    """Keep no log-probabilities of the last token that is allowed."""
    is_last = self.request.is_finished
    Answer.append(self, SampledToken(token.token_id, None) if is_last else token)


def always_has_text(self: Answer, token: SampledToken) -> None:
    """Ask the detokenizer of an answer that has none."""
    if self.detokenizer is None and token.token_id not in self.stop_token_ids:
        detokenizer: Any = None
        self.text += self.stop_strings.push(detokenizer.append(token.token_id))
    Answer.append(self, token)


def text_shrinks(self: Answer, token: SampledToken) -> None:
    """Show what is kept back, and take it back when it was a stop string."""
    Answer.append(self, token)
    if self.finish_reason is None:
        self.text += self.stop_strings.flush()
    else:
        stops = [self.text.find(each) for each in self.stop_strings.strings]
        self.text = self.text[: min((place for place in stops if place >= 0), default=None)]


_CUT_FIRST = (
    "The text of the last token that is allowed goes through `stop_strings.push` like any other, "
    "and ends in front of a stop string that it completes. Only then the length is asked for."
)
_SHOWN_AT_THE_END = (
    "However an answer ends, what waited for a stop string or for the rest of a letter is shown at "
    "the end, except behind a stop string: `finish` does that."
)

APPEND = (
    Misconception(
        "counts the tokens itself",
        "`max_tokens` is one limit of several: the model may have no room for more. "
        "`self.request.is_finished` says that the scheduler has ended it, whatever the reason.",
        by_the_number_alone,
    ),
    Misconception(
        "log-probabilities behind the text, and none of a stop token",
        "`append_logprobs` notes where the text of the token begins: it comes first of all, before "
        "the token's letters are in the text, and before a stop token returns.",
        log_probabilities_last,
    ),
    Misconception(
        "the text is not kept",
        "What `stop_strings.push` returns is final: it is added to `self.text`, which is all that "
        "the user sees.",
        text_is_not_added,
    ),
    Misconception(
        "the last piece alone",
        "`self.text` is the whole text of the answer so far: what is new is added to its end.",
        the_last_piece_alone,
    ),
    Misconception(
        "no end by length",
        "Where nothing else has ended it, `self.request.is_finished` is asked at the end: then the "
        'length has, and `finish("length", None)` says so.',
        no_end_by_length,
    ),
    Misconception(
        "length before stop strings",
        "If the last token that is allowed completes a stop string, the answer has stopped: the "
        "length is asked for last.",
        length_first,
    ),
    Misconception(
        "the last token is swallowed",
        "The last token that is allowed has text like any other, and may complete a stop string: "
        "first its text, then the length.",
        last_token_swallowed,
    ),
    Misconception(
        "length before everything",
        "A request is finished also when a stop token, or a stop string, comes as the last one "
        "allowed: stop tokens first, then the text with its stop strings, and the length last.",
        length_before_everything,
    ),
    Misconception(
        "length before the text is cut",
        _CUT_FIRST,
        length_before_the_cut,
    ),
    Misconception(
        "length before the text is cut, and what was kept back behind it",
        _CUT_FIRST,
        behind_its_own_text,
    ),
    Misconception(
        "ends before its last text",
        "`finish` shows what is still kept back, so it comes when the text of the last token has "
        "gone through `stop_strings.push`, not before.",
        ends_before_its_text,
    ),
    Misconception(
        "a stop token has text",
        "A token that ends the answer is not shown: its text belongs to nobody.",
        token_has_text,
    ),
    Misconception(
        "length before stop tokens",
        "A stop token that comes as the last one allowed has stopped the answer.",
        length_before_tokens,
    ),
    Misconception(
        "what was kept back is lost",
        _SHOWN_AT_THE_END,
        never_flushes,
    ),
    Misconception(
        "what was kept back is lost at the limit",
        _SHOWN_AT_THE_END,
        lost_at_the_limit,
    ),
    Misconception(
        "what was kept back is lost at a stop token",
        _SHOWN_AT_THE_END,
        lost_at_a_stop_token,
    ),
    Misconception(
        "the model's own end as a reason",
        "`stop_reason` tells which of several stops it was. The model's own end is none of them.",
        eos_is_a_reason,
    ),
    Misconception(
        "stops without a reason",
        "`stop_reason` names the string or the token at which it stopped.",
        without_the_reason,
    ),
    Misconception(
        "never ends by length",
        "When the scheduler has ended the request, no further token comes: the answer is over.",
        never_by_length,
    ),
    Misconception(
        "log-probabilities are not kept",
        "Whoever asked for log-probabilities gets those of every token, the one that ends the "
        "answer among them: `append_logprobs` comes first of all.",
        no_logprobs,
    ),
    Misconception(
        "log-probabilities behind the text",
        "`append_logprobs` notes where the text of its token begins: behind all that came before, "
        "and in front of its own. So it comes first of all.",
        logprobs_behind_the_text,
    ),
    Misconception(
        "log-probabilities of what is shown",
        "A stop token was sampled as well, and has a log-probability: `append_logprobs` comes "
        "before it is asked whether the token ends the answer.",
        logprobs_of_what_is_shown,
    ),
    Misconception(
        "no log-probabilities of the last token",
        "The last token that is allowed has a log-probability like any other: `append_logprobs` "
        "comes before it is asked whether the request is over.",
        logprobs_until_the_last,
    ),
    Misconception(
        "an answer without text",
        "`detokenizer` is None where the user wants tokens alone: ask for that before its letters.",
        always_has_text,
    ),
    Misconception(
        "text that shrinks",
        "What was shown has been read. What may become a stop string has to wait, and is not taken "
        "back afterwards.",
        text_shrinks,
    ),
)
