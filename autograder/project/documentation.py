"""Documentation: docstrings that say what goes in and out, with units, and examples that run."""

from __future__ import annotations

import ast
import doctest
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autograder.checks.compare import counted
from autograder.checks.scaffold import released_docstrings
from autograder.project.pieces import Piece
from autograder.project.rubric import DocumentationRule, rubric
from autograder.project.verdicts import ItemVerdict
from autograder.proxy.examples import OPTIONS
from autograder.proxy.subject import Returned, Subject
from autograder.written import text_of
from course_lib import parts

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Documented = _Function | ast.ClassDef


@dataclass(frozen=True)
class Shown:
    """What came of the examples of a part.

    Attributes:
        number: How many it has.
        problem: The first that does not print what it says; "" if none.
    """

    number: int
    problem: str = ""


def judged(subject: Subject, pieces: Mapping[str, Piece]) -> list[ItemVerdict]:
    """Return the verdicts on how parts are described, and what is left to a person.

    Args:
        subject: Where the parts are; their examples run there.
        pieces: The parts that are the learner's own.
    """
    sources = {name: piece.source for name, piece in pieces.items()}
    twice = _said_twice(sources)
    says = [
        problem
        for name, source in sources.items()
        for problem in [*unsaid(name, source), *twice.get(name, [])][:1]
    ]
    inputs = [problem for name, source in sources.items() for problem in unnamed(name, source)[:1]]
    shown = {name: examples_of(subject, piece) for name, piece in pieces.items()}
    return [
        _by_part("says", says, len(sources)),
        _by_part("inputs", inputs, len(sources)),
        _by_examples(shown),
    ]


def unjudged() -> list[ItemVerdict]:
    """Return the items that need no person, without points."""
    return [
        ItemVerdict(each.id, each.title, each.points, 0.0) for each in rubric().documentation.rule
    ]


def by_hand() -> list[ItemVerdict]:
    """Return the items that a person is to judge."""
    marks = rubric().documentation.by_hand
    return [
        ItemVerdict(f"by_hand_{number}", "By hand", each.points, None, (each.asks,))
        for number, each in enumerate(marks, 1)
    ]


def unsaid(part: str, source: str) -> list[str]:
    r"""Return what is wrong with what the docstrings of a part say.

    >>> unsaid("Answer.append", "def append(self, token):\n    'Append append.'\n    return 1")
    ['Answer.append, line 1: the docstring of append says 0 words beyond its name, 8 are asked for']
    """
    problems = []
    for place, node in enumerate(_documented(source)):
        text = ast.get_docstring(node)
        where = f"{part}, line {node.lineno}: "
        if text is None:
            problems.append(f"{where}{node.name} has no docstring")
        elif (found := _placeholder_in(text)) or _is_released(part, text):
            what = f"holds {found!r}" if found else "is the one that the stub was released with"
            problems.append(f"{where}the docstring of {node.name} {what}")
        elif place == 0:
            number, fewest = len(_words(text, part)), rubric().documentation.fewest_words
            if number < fewest:
                said = counted(number, "word")
                problems.append(
                    f"{where}the docstring of {node.name} says {said} beyond its name, "
                    f"{fewest} are asked for"
                )
    return problems


def unnamed(part: str, source: str) -> list[str]:
    r"""Return what the docstrings of a part do not name: arguments, results, units.

    >>> unnamed("Answer.append", "def append(self, token):\n    'Take in what came.'")
    ['Answer.append, line 1: append does not say what token is']
    """
    problems = []
    texts = ""
    for node in _documented(source):
        text = ast.get_docstring(node) or ""
        texts += f"{text}\n"
        where = f"{part}, line {node.lineno}: {node.name} does not say"
        problems += [f"{where} what {name} is" for name in _inputs(node) if not _names(text, name)]
        entries = _argument_entries(text)
        problems += [
            f"{part}, line {node.lineno}: {node.name} has no argument {name}, of which its "
            "docstring speaks"
            for name in entries
            if _takes(node) and name not in _takes(node)
        ]
        problems += [
            f"{part}, line {node.lineno}: of {name} {node.name} says the name alone"
            for name, said in entries.items()
            if _says_its_name_alone(name, said)
        ]
        if _returns(node) and not re.search(r"\b(return|yield)", text, re.IGNORECASE):
            problems.append(f"{where} what it returns")
        elif untrue := _untrue_of_results(node, text):
            problems.append(f"{part}, line {node.lineno}: {node.name} {untrue}")
    units = rubric().documentation.units[part]
    if not problems and not any(unit in texts.lower() for unit in units):
        problems.append(f"{part} does not speak of {' or '.join(units)}s: which is counted?")
    return problems


def _said_twice(sources: Mapping[str, str]) -> dict[str, list[str]]:
    r"""Return for each part whose docstring is another's, too, that it is.

    >>> _said_twice({"f": "def f(x):\n    'Say it.'", "g": "def g(x):\n    'Say  it.'"})["g"]
    ['g: its docstring is that of f: it cannot be of both']
    """
    by_text: dict[str, list[str]] = {}
    for part, source in sources.items():
        for node in _documented(source)[:1]:
            if text := ast.get_docstring(node):
                by_text.setdefault(" ".join(text.split()), []).append(part)
    return {
        part: [
            f"{part}: its docstring is that of {next(each for each in of if each != part)}: "
            "it cannot be of both"
        ]
        for of in by_text.values()
        if len(of) > 1
        for part in of
    }


def _argument_entries(text: str) -> dict[str, str]:
    r"""Return what a docstring's section of arguments says of each.

    >>> _argument_entries("Do it.\n\nArgs:\n    x: One.\n        two: of it.\n    *y (int): It.")
    {'x': 'One. two: of it.', 'y': 'It.'}
    """
    section = re.search(
        r"^Arg(?:ument)?s:[ \t]*\n((?:[ \t]+.*(?:\n|$)|[ \t]*\n)*)", text, re.MULTILINE
    )
    if section is None:
        return {}
    lines = [line for line in section[1].split("\n") if line.strip()]
    edge = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    entries: dict[str, str] = {}
    for line in lines:
        entry = re.match(rf"[ \t]{{{edge}}}\**(\w+)\s*(?:\([^)]*\))?:(.*)", line)
        if entry:
            entries[entry[1]] = entry[2].strip()
        elif entries:
            last = next(reversed(entries))
            entries[last] = f"{entries[last]} {line.strip()}".strip()
    return entries


def _says_its_name_alone(name: str, said: str) -> bool:
    """Say whether what is said of an argument has no word beyond its name.

    >>> _says_its_name_alone("token", "The token."), _says_its_name_alone("ids", "Of requests.")
    (True, False)
    """
    return not _words(said, name) and not re.search(r"\d", said)


def examples_of(subject: Subject, piece: Piece) -> Shown:
    """Run the examples of a part where it is, and compare what they print here."""
    parser, checker = doctest.DocTestParser(), doctest.OutputChecker()
    wanted = [
        example
        for node in _documented(piece.source)
        for example in parser.get_examples(ast.get_docstring(node) or "")
    ]
    if not wanted:
        return Shown(0)
    own_name = piece.name.rpartition(".")[2]
    if not any(_names(example.source, own_name) for example in wanted):
        return Shown(len(wanted), f"no example uses {own_name}")
    if not any(_calls(example.source, own_name) for example in wanted):
        return Shown(len(wanted), f"its examples name {own_name}, and none calls it")
    ran = subject.examples(piece.ref)
    printed = _printed(ran.value) if isinstance(ran, Returned) else []
    for number, example in enumerate(wanted):
        line = example.source.strip().split("\n")[0]
        got = printed[number][1] if number < len(printed) else None
        if got is None or printed[number][0] != example.source:
            return Shown(len(wanted), f"`{line}` does not run")
        if not checker.check_output(example.want, got, OPTIONS):
            return Shown(
                len(wanted), f"`{line}` prints {got.strip()!r}, not {example.want.strip()!r}"
            )
    return Shown(len(wanted))


def _by_part(rule_id: str, problems: Sequence[str], number: int) -> ItemVerdict:
    """Return the verdict of a rule that each part keeps or not."""
    rule = rubric().documentation.rule_called(rule_id)
    kept = number - len(problems)
    evidence = [f"{kept} of {number} parts keep it.", *(f"{problem}." for problem in problems)]
    return _verdict(rule, kept / number if number else 0.0, evidence)


def _by_examples(shown: Mapping[str, Shown]) -> ItemVerdict:
    """Return the verdict on the examples of all parts."""
    rule = rubric().documentation.rule_called("examples")
    fewest = rule.fewest or len(shown)
    right = [name for name, each in shown.items() if each.number and not each.problem]
    wrong = {name: each.problem for name, each in shown.items() if each.problem}
    share = min(1.0, len(right) / fewest) * len(right) / max(1, len(right) + len(wrong))
    number = sum(each.number for each in shown.values())
    evidence = [
        f"{number} examples; those of {len(right)} parts run, {fewest} parts are asked for.",
        *(f"{name}: {problem}." for name, problem in wrong.items()),
    ]
    return _verdict(rule, share, evidence)


def _verdict(rule: DocumentationRule, share: float, evidence: Sequence[str]) -> ItemVerdict:
    advice = "" if share == 1 else rule.advice
    return ItemVerdict(
        rule.id, rule.title, rule.points, share * rule.points, tuple(evidence), advice
    )


def _documented(source: str) -> list[_Documented]:
    """Return what a text defines that is for others: the part, and a class's public methods."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return []
    found: list[_Documented] = []
    for node in body:
        if isinstance(node, _Documented):
            found.append(node)
        if isinstance(node, ast.ClassDef):
            methods = (each for each in node.body if isinstance(each, _Function))
            found += [each for each in methods if not each.name.startswith("_")]
    return found


def _inputs(node: _Documented) -> Iterator[str]:
    """Yield the arguments that a docstring is to name: a class's are those that make an object."""
    function: Any = node
    if isinstance(node, ast.ClassDef):
        made = (each for each in node.body if isinstance(each, _Function))
        function = next((each for each in made if each.name == "__init__"), None)
        if function is None:
            return
    given = function.args
    for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs):
        if argument.arg not in ("self", "cls"):
            yield argument.arg


def _takes(node: _Documented) -> set[str]:
    """Return all that a function takes, by name; nothing where it cannot be seen."""
    function: Any = node
    if isinstance(node, ast.ClassDef):
        made = (each for each in node.body if isinstance(each, _Function))
        function = next((each for each in made if each.name == "__init__"), None)
    if function is None:
        return set()
    return {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}


def _returns(node: _Documented) -> bool:
    """Say whether a function returns something that its docstring is to speak of."""
    if isinstance(node, ast.ClassDef):
        return False
    is_property = any("property" in ast.unparse(each) for each in node.decorator_list)
    returned = (each.value for each in _own_nodes(node) if isinstance(each, ast.Return))
    values = [each for each in returned if each is not None]
    return not is_property and any(
        not (isinstance(each, ast.Constant) and each.value is None) for each in values
    )


def _untrue_of_results(node: _Documented, text: str) -> str:
    r"""Say whether a docstring has a section of results that what is returned contradicts.

    >>> f = ast.parse("def f():\n    return ''").body[0]
    >>> _untrue_of_results(f, "Do it.\n\nReturns:\n    None; it is printed.")
    'returns something, and its docstring says that it returns nothing'
    >>> _untrue_of_results(f, "Do it.\n\nReturns:\n    Nothing if it fits, else a text.")
    ''
    """
    section = re.search(r"^(?:Returns?:|:returns?:)\s*(.*)", text, re.MULTILINE)
    if section is None or isinstance(node, ast.ClassDef):
        return ""
    says_nothing = re.match(r"`*(?:None|Nothing)`*\s*(?:[.;:,(]|$)", section[1], re.IGNORECASE)
    if not _returns(node):
        is_property = bool(node.decorator_list)
        is_left_open = says_nothing or is_property or _yields(node) or not section[1].strip()
        return "" if is_left_open else "returns nothing, and its docstring says what it returns"
    if says_nothing and not _may_return_none(node):
        return "returns something, and its docstring says that it returns nothing"
    return ""


def _yields(node: _Documented) -> bool:
    return any(isinstance(each, ast.Yield | ast.YieldFrom) for each in _own_nodes(node))


def _may_return_none(node: _Documented) -> bool:
    """Say whether a function that returns something has a place where that may be None."""
    returned = [each.value for each in _own_nodes(node) if isinstance(each, ast.Return)]
    return any(
        each is None
        or any(isinstance(part, ast.Constant) and part.value is None for part in ast.walk(each))
        for each in returned
    )


_CALLERS = {"map", "starmap", "partial", "reduce", "filter"}


def _calls(example: str, name: str) -> bool:
    """Say whether an example calls something, or has it called; its bare name shows nothing.

    >>> _calls("stop.push('an E')", "push"), _calls("list(map(stop.push, 'END'))", "push")
    (True, True)
    >>> _calls("callable(push)", "push"), _calls("MemoryTracker.__name__", "MemoryTracker")
    (False, False)
    """

    def is_it(node: ast.AST) -> bool:
        return name in (getattr(node, "id", ""), getattr(node, "attr", ""))

    try:
        nodes = list(ast.walk(ast.parse(example)))
    except SyntaxError:
        return True
    calls = [each for each in nodes if isinstance(each, ast.Call)]
    handed_on = (
        argument
        for call in calls
        if {getattr(call.func, "id", ""), getattr(call.func, "attr", "")} & _CALLERS
        for argument in call.args
    )
    renamed = (each.value for each in nodes if isinstance(each, ast.Assign))
    imported = any(
        each.name == name for each in nodes if isinstance(each, ast.alias) and each.asname
    )
    return imported or any(map(is_it, (*(call.func for call in calls), *handed_on, *renamed)))


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is in a function, but not what is in a function within it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, _Function | ast.Lambda):
            yield child
            yield from _own_nodes(child)


def _names(text: str, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", text) is not None


def _words(text: str, part: str) -> set[str]:
    """Return the words of a text that say something beyond a part's name."""
    empty = {*rubric().documentation.hollow, *_pieces_of_a_name(part)}
    prose = re.sub(r"^\s*(>>>|\.\.\.).*$", "", text, flags=re.MULTILINE)
    return {word for word in re.findall(r"[a-z]{2,}", prose.lower()) if word not in empty}


def _pieces_of_a_name(name: str) -> set[str]:
    """Return the words that a name is made of.

    >>> sorted(_pieces_of_a_name("StopStrings.push_on"))
    ['on', 'push', 'stop', 'stopstrings', 'strings']
    """
    words = re.findall(r"[A-Z]?[a-z]+", name)
    return {word.lower() for word in (*words, *re.split(r"[._]", name))}


def _placeholder_in(text: str) -> str:
    lower = " ".join(text.lower().split())
    found = (each for each in rubric().documentation.placeholders if _names(lower, each))
    return next(found, "")


def _is_released(part: str, text: str) -> bool:
    """Say whether a docstring is a stub's as released, and not the course's own specification."""
    exercise = next(each.exercise for each in rubric().correctness if part in each.parts)
    own = map(ast.get_docstring, _documented(_reference_text(part)))
    return text in released_docstrings(exercise) and text not in own


def _reference_text(part: str) -> str:
    return textwrap.dedent(str(text_of(parts.reference(part))))


def _printed(value: Any) -> list[tuple[str, str]]:
    """Return the code and the output of each example that ran, as far as they make sense."""
    rows = value if isinstance(value, list) else []
    is_row = all(isinstance(row, tuple) and len(row) == 3 for row in rows)
    return [(str(row[0]), str(row[2])) for row in rows] if is_row else []
