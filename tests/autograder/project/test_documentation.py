"""Documentation: what counts as a docstring, what it has to name, examples that run."""

import textwrap

import pytest

from autograder.checks import scaffold
from autograder.project import documentation
from autograder.project.answers import defined, reference_pieces
from autograder.project.documentation import unnamed, unsaid
from autograder.project.pieces import pieces_of
from autograder.project.rubric import rubric
from autograder.proxy.subject import LocalSubject
from autograder.written import text_of

GOOD = "Take in a token that the scheduler has counted, and end the answer where its text ends."


def append(text, signature="self, token"):
    return f"def append({signature}):\n    {text!r}\n    self.tokens.append(token)\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "says 0 words"),
        ("Append append append, Answer.append, append the Answer.", "says 0 words"),
        ("This function does something. See above, foo bar.", "says 0 words"),
        ("Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eius.", "'lorem ipsum'"),
        ("TODO: say what it does with each token of the answer, and when it ends.", "'todo'"),
        ("YOUR CODE HERE: token, answer, text, stop, finish, request, length.", "'your code here'"),
        ("token token token token token token token token token", "says 1 word "),
    ],
)
def test_a_placeholder_says_nothing(text, says):
    [problem] = unsaid("Answer.append", append(text))
    assert says in problem
    assert problem.startswith("Answer.append, line 1: ")


def test_a_sentence_is_enough():
    assert unsaid("Answer.append", append(GOOD)) == []


def test_what_has_no_docstring_is_named_a_classs_methods_too():
    source = f'class MemoryTracker:\n    """{GOOD}"""\n    def observe(self):\n        return 1\n'
    assert unsaid("MemoryTracker", source) == ["MemoryTracker, line 3: observe has no docstring"]


def test_the_text_of_a_stub_is_nobodys_own(monkeypatch):
    text = "Take in a token; say yourself when an answer ends, in your own words."
    stub = append(text)
    monkeypatch.setattr(scaffold, "_released", lambda exercise: [stub])
    [problem] = unsaid("Answer.append", append(text))
    assert problem.endswith("is the one that the stub was released with")
    assert unsaid("Answer.append", append(GOOD)) == []


@pytest.mark.parametrize("part", ["Answer.append", "MemoryTracker"])
def test_the_specification_that_a_stub_was_released_with_may_stay(monkeypatch, part):
    source = textwrap.dedent(text_of(reference_pieces()[part]))
    monkeypatch.setattr(scaffold, "_released", lambda exercise: [source])
    assert unsaid(part, source) == []


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def append(self, token):\n    'Take it in.'", "append does not say what token is"),
        ("def append(self, *, token):\n    'Take it in.'", "append does not say what token is"),
        ("def append(self, token):\n    'A token.'\n    return 2", "does not say what it returns"),
        ("def append(self):\n    'Take it in.'", "does not speak of tokens: which is counted?"),
    ],
)
def test_what_a_docstring_does_not_name_is_said(source, says):
    [problem] = unnamed("Answer.append", source)
    assert says in problem


@pytest.mark.parametrize(
    "source",
    [
        "def append(self, token):\n    'Take in a token.'\n    return None",
        "def append(self, token):\n    'Take a token.'\n    def f():\n        return 1\n    f()",
        "class A:\n    'Tokens.'\n    @property\n    def a(self):\n        'B.'\n        return 1",
    ],
)
def test_what_is_no_result_need_not_be_named(source):
    assert unnamed("Answer.append", source) == []


def judged(**sources):
    pieces = {name.replace("__", "."): source for name, source in sources.items()}
    subject = LocalSubject({name: defined(name, text) for name, text in pieces.items()}, 60.0)
    verdicts = documentation.judged(subject, pieces_of(subject).own)
    return {each.item: each for each in verdicts}


RUNS = f"""
def push(self, text):
    '''{GOOD}

    >>> push(None, 7)
    7
    '''
    return text
"""


def test_examples_of_two_parts_are_asked_for():
    one = judged(StopStrings__push=RUNS)["examples"]
    assert one.earned == one.points / 2
    two = judged(StopStrings__push=RUNS, Answer__append=RUNS.replace("push", "append"))["examples"]
    assert two.is_whole
    assert two.evidence == ("2 examples; those of 2 parts run, 2 parts are asked for.",)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("    7\n", "    8\n", "(None, 7)` prints '7', not '8'."),
        ("push(None, 7)", "push(nowhere())", "prints \"NameError: name 'nowhere' is not defined\""),
    ],
)
def test_an_example_that_is_wrong_is_shown_with_what_it_prints(old, new, says):
    wrong = RUNS.replace(old, new)
    verdict = judged(StopStrings__push=RUNS, Answer__append=wrong.replace("push", "append"))
    assert says in verdict["examples"].evidence[1]
    assert verdict["examples"].earned == pytest.approx(1.5 / 4)


def test_an_example_that_does_not_use_its_part_shows_nothing():
    beside = RUNS.replace("push(None, 7)", "3 + 4")
    verdict = judged(StopStrings__push=RUNS, Answer__append=beside.replace("push", "append"))
    assert verdict["examples"].evidence[1] == "Answer.append: no example uses append."
    assert verdict["examples"].earned == pytest.approx(1.5 / 4)


@pytest.mark.parametrize("example", ["callable(append)", "append.__name__", "append is append"])
def test_an_example_that_names_its_part_and_does_not_call_it_shows_nothing(example):
    printed = "'append'" if "__name__" in example else "True"
    named = RUNS.replace("push(None, 7)\n    7", f"{example}\n    {printed}")
    verdict = judged(StopStrings__push=RUNS, Answer__append=named.replace("push", "append"))
    says = "Answer.append: its examples name append, and none calls it."
    assert verdict["examples"].evidence[1] == says
    assert verdict["examples"].earned == pytest.approx(1.5 / 4)


@pytest.mark.parametrize(
    "example",
    [
        "list(map(append, [0, 0], [7, 8]))[0]",
        "take = append; take(None, 7)",
        "dict(found=append(None, 7))['found']",
    ],
)
def test_an_example_may_have_its_part_called(example):
    called = RUNS.replace("push(None, 7)", example).replace("push", "append")
    assert judged(StopStrings__push=RUNS, Answer__append=called)["examples"].is_whole


def returning(text, returned):
    return f"def append(self, token):\n    {text!r}\n    return {returned}\n"


@pytest.mark.parametrize(
    ("text", "returned", "says"),
    [
        ("A token.\n\nReturns:\n    None; letters never come back.", "''", "it returns nothing"),
        ("A token.\n\nReturns:\n    Nothing.", "self.text", "it returns nothing"),
        ("A token.\n\n:returns: None", "[token]", "it returns nothing"),
        ("A token.\n\nReturns:\n    The text so far.", "None", "append returns nothing"),
        ("A token.\n\n:return: the text so far", "", "append returns nothing"),
    ],
)
def test_what_is_said_of_results_is_held_against_what_is_returned(text, returned, says):
    [problem] = unnamed("Answer.append", returning(text, returned))
    assert says in problem


@pytest.mark.parametrize(
    ("text", "returned"),
    [
        ("A token.\n\nReturns:\n    Nothing if it fits, else a sentence.", "''"),
        ("A token.\n\nReturns:\n    None, or the text.", "self.text or None"),
        ("A token.\n\nReturns:\n    None where it is over; then:\n    a text.", "self.text"),
        ("A token.\n\nReturns:\n    None.", ""),
        ("A token.\n\nReturns:\n    Nothing, it changes the answer.", "None"),
        ("A token, of which nothing is returned but its text.", "self.text"),
    ],
)
def test_what_is_said_of_results_and_true_costs_nothing(text, returned):
    assert unnamed("Answer.append", returning(text, returned)) == []


def test_a_docstring_of_two_parts_says_nothing_of_either():
    same = judged(StopStrings__push=RUNS, Answer__append=RUNS.replace("def push", "def append"))
    assert same["says"].earned == 0
    assert "Answer.append: its docstring is that of StopStrings.push" in same["says"].evidence[2]


_ENTRY = """
def append(self, token):
    '''Take in one token of the answer.

    Args:
        token: {}
    '''
    self.last = token
"""


@pytest.mark.parametrize("said", ["", "token", "The token.", "This is the\n            token."])
def test_an_argument_is_not_described_by_its_name(said):
    (problem,) = unnamed("Answer.append", _ENTRY.format(said))
    assert problem.endswith("of token append says the name alone")


@pytest.mark.parametrize("said", ["Sampled.", "The token's id.", "\n            What was sampled."])
def test_a_word_more_than_the_name_describes_an_argument(said):
    assert unnamed("Answer.append", _ENTRY.format(said)) == []


def test_an_argument_that_does_not_exist_is_no_description():
    invented = """
def append(self, token):
    '''Take in one token of the answer.

    Args:
        token: The token, as it was sampled.
        ladder: What bananas grow on.
    '''
"""
    [problem] = unnamed("Answer.append", invented)
    assert problem == (
        "Answer.append, line 2: append has no argument ladder, of which its docstring speaks"
    )


@pytest.mark.parametrize(
    "source",
    [
        "@dataclass\nclass A:\n    'Bytes.\\n\\nArgs:\\n    size: In bytes.'\n    size: int",
        "def a(*b, **c):\n    'Tokens.\\n\\nArgs:\\n    *b: Some.\\n    **c: More.'",
        "def a(self):\n    'Tokens.\\n\\nArgs:\\n    self: The answer.'",
    ],
)
def test_what_may_be_an_argument_is_none_that_does_not_exist(source):
    assert unnamed("MemoryTracker" if "class" in source else "Answer.append", source) == []


def test_an_example_may_use_its_own_part_and_expect_an_exception():
    source = """
def why_never(self, request):
    '''Say why a request of so many tokens and blocks can never be computed; return it.

    >>> why_never(None, 3)
    'never'
    >>> why_never(None)
    Traceback (most recent call last):
    TypeError: ...
    '''
    return "never"
"""
    verdict = judged(Scheduler__why_never=source, StopStrings__push=RUNS)["examples"]
    assert verdict.is_whole, verdict.evidence


def test_what_a_person_judges_has_its_marks_in_words():
    items = documentation.by_hand()
    assert sum(each.points for each in items) == 5
    assert all(each.earned is None and each.evidence[0].endswith(".") for each in items)
    assert [each.asks for each in rubric().documentation.by_hand] == [e.evidence[0] for e in items]
