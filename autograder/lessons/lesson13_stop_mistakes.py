"""The final project: what is got wrong about stop strings."""

from __future__ import annotations

import re

from autograder.checks.finding import Misconception
from course_lib.engine.answer import StopStrings, overlap

# 13.3a, stop strings


def keeps_nothing_back(self: StopStrings, text: str) -> str:
    """Look into the new text alone, and pass it on."""
    if self.found is not None:
        return ""
    places = [(text.find(string), string) for string in self.strings if string in text]
    if not places:
        return text
    end, self.found = min(places, key=lambda place: place[0] + len(place[1]))
    return text[:end]


def earliest_start(self: StopStrings, text: str) -> str:
    """Take the string that begins first."""
    if self.found is not None:
        return ""
    text = self.kept_back + text
    places = [(text.find(string), string) for string in self.strings if string in text]
    if places:
        end, self.found = min(places, key=lambda place: place[0])
        self.kept_back = ""
        return text[:end]
    return StopStrings.push(self, text[len(self.kept_back) :])


def first_in_the_list(self: StopStrings, text: str) -> str:
    """Take the first string of the list that is in the text."""
    if self.found is not None:
        return ""
    whole = self.kept_back + text
    for string in self.strings:
        if string in whole:
            self.found, self.kept_back = string, ""
            return whole[: whole.find(string)]
    return StopStrings.push(self, text)


def shortest_that_is_complete(self: StopStrings, text: str) -> str:
    """Of strings that are complete at the same letter, take the shortest."""
    named, self.strings = self.strings, tuple(sorted(self.strings, key=len))
    said = StopStrings.push(self, text)
    self.strings = named
    return said


def longest_that_is_complete(self: StopStrings, text: str) -> str:
    """Of strings that are complete at the same letter, take the longest."""
    named, self.strings = self.strings, tuple(sorted(self.strings, key=len, reverse=True))
    said = StopStrings.push(self, text)
    self.strings = named
    return said


def shows_the_stop(self: StopStrings, text: str) -> str:
    """Let the text end behind the stop string."""
    is_over = self.found is not None
    said = StopStrings.push(self, text)
    return said + self.found if self.found is not None and not is_over else said


def goes_on(self: StopStrings, text: str) -> str:
    """Go on behind the end."""
    if self.found is not None:
        return text
    return StopStrings.push(self, text)


def keeps_all_back(self: StopStrings, text: str) -> str:
    """Keep as much back as the longest string has, less one."""
    if self.found is not None:
        return ""
    whole = self.kept_back + text
    if any(string in whole for string in self.strings):
        return StopStrings.push(self, text)
    longest = max((len(string) for string in self.strings), default=1) - 1
    end = max(len(whole) - longest, 0)
    self.kept_back = whole[end:]
    return whole[:end]


def shortest_overlap(self: StopStrings, text: str) -> str:
    """Keep back only what every string may become of."""
    if self.found is not None or not self.strings:
        return StopStrings.push(self, text)
    whole = self.kept_back + text
    if any(string in whole for string in self.strings):
        return StopStrings.push(self, text)
    end = len(whole) - min(overlap(whole, string) for string in self.strings)
    self.kept_back = whole[end:]
    return whole[:end]


def first_overlap(self: StopStrings, text: str) -> str:
    """Keep back what the first string that has begun may become of."""
    whole = self.kept_back + text
    if self.found is not None or any(string in whole for string in self.strings):
        return StopStrings.push(self, text)
    kept = [overlap(whole, string) for string in self.strings]
    end = len(whole) - next(filter(None, kept), 0)
    self.kept_back = whole[end:]
    return whole[:end]


def last_overlap(self: StopStrings, text: str) -> str:
    """Keep back what the last string that has begun may become of."""
    whole = self.kept_back + text
    if self.found is not None or any(string in whole for string in self.strings):
        return StopStrings.push(self, text)
    kept = [overlap(whole, string) for string in self.strings]
    end = len(whole) - next(filter(None, reversed(kept)), 0)
    self.kept_back = whole[end:]
    return whole[:end]


def forgets_what_waited(self: StopStrings, text: str) -> str:
    """Look into the new text alone."""
    self.kept_back = ""
    return StopStrings.push(self, text)


def cuts_at_minus_zero(self: StopStrings, text: str) -> str:
    """Cut by slices from the end, also where nothing is to be kept back."""
    before = self.kept_back
    said = StopStrings.push(self, text)
    if self.found is None and not self.kept_back:
        self.kept_back, said = before + text, ""
    return said


def keeps_it_behind_the_end(self: StopStrings, text: str) -> str:
    """Leave what was kept back where it is when a stop string is complete."""
    before = self.kept_back
    said = StopStrings.push(self, text)
    if self.found is not None:
        self.kept_back = before
    return said


def strips_the_strings(self: StopStrings, text: str) -> str:
    """Look for the stop strings without the blanks around them."""
    named, self.strings = self.strings, tuple(each.strip() or each for each in self.strings)
    said = StopStrings.push(self, text)
    if self.found is not None:
        self.found = next(each for each in named if self.found in (each, each.strip()))
    self.strings = named
    return said


def whatever_the_case(self: StopStrings, text: str) -> str:
    """Take a capital for the small letter."""
    if self.found is not None:
        return ""
    whole = self.kept_back + text
    places = [(whole.lower().find(each.lower()), each) for each in self.strings]
    complete = [place for place in places if place[0] >= 0]
    if not complete:
        return StopStrings.push(self, text)
    end, self.found = min(complete, key=lambda place: place[0] + len(place[1]))
    self.kept_back = ""
    return whole[:end]


def as_a_pattern(self: StopStrings, text: str) -> str:
    """Take a stop string for a regular expression."""
    if self.found is not None:
        return ""
    whole = self.kept_back + text
    places = [(re.search(each, whole), each) for each in self.strings]
    complete = [(place, each) for place, each in places if place is not None]
    if not complete:
        return StopStrings.push(self, text)
    place, self.found = min(complete, key=lambda pair: pair[0].end())
    self.kept_back = ""
    return whole[: place.start()]


PUSH = (
    Misconception(
        "blanks around a stop string",
        "A blank or the end of a line is a letter of a stop string like any other: without it the "
        "answer ends where nobody asked for it.",
        strips_the_strings,
    ),
    Misconception(
        "capitals and small letters",
        "A stop string is compared letter by letter: a capital is another letter.",
        whatever_the_case,
    ),
    Misconception(
        "a stop string as a pattern",
        "A stop string is text, not a regular expression: a full stop in it stands for itself.",
        as_a_pattern,
    ),
    Misconception(
        "keeps nothing back",
        "A stop string may come in two pieces. What could be its beginning must wait, or the user "
        "sees half of it and the other half is never recognised.",
        keeps_nothing_back,
    ),
    Misconception(
        "the one that begins first",
        "What counts is where a string is complete, not where it begins: the text may come letter "
        "by letter. Of those that are complete at the same letter the first in `strings` counts.",
        earliest_start,
    ),
    Misconception(
        "the first of the list",
        "The order of the list decides only between strings that are complete at the same letter.",
        first_in_the_list,
    ),
    Misconception(
        "the shortest at one letter",
        "Of strings that are complete at the same letter the first in `strings` counts, not the "
        "shortest.",
        shortest_that_is_complete,
    ),
    Misconception(
        "the longest at one letter",
        "Of strings that are complete at the same letter the first in `strings` counts, not the "
        "longest.",
        longest_that_is_complete,
    ),
    Misconception(
        "shows the stop string",
        "The text ends in front of the stop string; the string itself is never shown.",
        shows_the_stop,
    ),
    Misconception(
        "what was kept back is forgotten",
        "What was kept back comes in front of the new text: a stop string may begin in it, and if "
        "it does not, it is shown now.",
        forgets_what_waited,
    ),
    Misconception(
        "cut at minus zero",
        "Where nothing is to be kept back, the overlap is 0, and `text[:-0]` is an empty text: "
        "count the end from the front, `text[: len(text) - 0]`.",
        cuts_at_minus_zero,
    ),
    Misconception(
        "a beginning that stays",
        "When a stop string is complete, what was kept back was its beginning, or stands in front "
        "of it and is shown: nothing is kept back any more.",
        keeps_it_behind_the_end,
    ),
    Misconception("goes on behind the end", "What comes behind the end is dropped.", goes_on),
    Misconception(
        "keeps a fixed number back",
        "Only an end with which a stop string begins can become one. Whoever always keeps the "
        "longest string's length back, shows text later than need be.",
        keeps_all_back,
    ),
    Misconception(
        "the shortest overlap",
        "Of several strings the one that has come furthest decides how much must wait.",
        shortest_overlap,
    ),
    Misconception(
        "the first overlap",
        "Several strings may have begun, and the first of the list with fewer letters than "
        "another: what waits is the longest.",
        first_overlap,
    ),
    Misconception(
        "the last overlap",
        "Several strings may have begun, and the last of the list with fewer letters than "
        "another: what waits is the longest.",
        last_overlap,
    ),
)
