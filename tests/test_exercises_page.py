"""The author's guide: its examples make up a lesson, which goes the whole way."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from autograder.build import directives, holes
from autograder.checks.answer import AnswerCheck
from autograder.checks.answers import wrong_answer
from autograder.checks.budget import OperationBudget, TimeBudget
from autograder.checks.checker import CheckerCheck
from autograder.checks.exercise import Exercise
from autograder.checks.finding import Misconception
from autograder.checks.function import FunctionCheck
from autograder.checks.kernel import KernelCheck
from autograder.checks.parsons import ParsonsCheck
from autograder.checks.quiz import QuizCheck
from autograder.checks.report import Report
from autograder.checks.scale import ScaleCheck
from autograder.checks.stateful import StatefulCheck
from autograder.checks.trace import TraceCheck
from autograder.lessons.questions import bank
from autograder.notebook import check
from autograder.proxy.subject import LocalSubject, RemoteSubject
from lesson_checkout import LessonCheckout, build_lesson, enter

PAGE = Path(__file__).parents[1] / "docs" / "exercises.md"
TEXT = PAGE.read_text(encoding="utf-8")
LESSON = 20
FEWEST_QUESTIONS = {"quiz": 8, "interview": 5}
"""How many a question bank must have; the page shows one of each."""

CHECKS = (
    AnswerCheck,
    CheckerCheck,
    FunctionCheck,
    KernelCheck,
    OperationBudget,
    ParsonsCheck,
    QuizCheck,
    ScaleCheck,
    StatefulCheck,
    TimeBudget,
    TraceCheck,
)


def blocks(kind: str) -> list[str]:
    """Return the blocks of the page that are marked so, such as ``python check``."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)


IDS = [
    *re.findall(r'^    id="([^"]+)"', "\n".join(blocks("python check")), flags=re.MULTILINE),
    *re.findall(r'value_exercise\(20, "([^"]+)"\)', TEXT),
]
REPORTS = re.findall(r"^```text report (\S+)\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)

each = pytest.mark.parametrize("exercise_id", IDS)


def whole_bank() -> str:
    """Return the question bank of the page, with its questions repeated until there are enough."""
    (text,) = blocks("toml bank")
    for kind, fewest in FEWEST_QUESTIONS.items():
        entry = text.partition(f"\n[[{kind}]]\n")[2].partition("\n\n[[")[0]
        for number in range(2, fewest + 1):
            again = entry.replace('id = "q1"', f'id = "q{number}"')
            again = re.sub(r'(misconception = ".*)"', rf'\1, question {number}"', again)
            text += f"\n[[{kind}]]\n{again}\n"
    return text


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> LessonCheckout:
    """The lesson that the examples make up, built in a checkout of its own."""
    root = tmp_path_factory.mktemp("page")
    collected = (
        "from autograder.checks.exercise import Exercise as _Exercise\n"
        "EXERCISES = tuple(v for v in list(globals().values()) if isinstance(v, _Exercise))\n"
    )
    files = {
        "checks/lesson20.py": "\n\n".join([*blocks("python check"), collected]),
        "solutions/20_examples.py": "\n".join(blocks("python source")),
        "grading/question_banks/20_examples.toml": whole_bank(),
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    return build_lesson(root)


@pytest.fixture(scope="module")
def answers(
    lesson: LessonCheckout, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, ModuleType]]:
    """The answers of the solution and of the released notebook."""
    return lesson.answers(tmp_path_factory.mktemp("answers"))


@pytest.fixture
def in_its_checkout(
    lesson: LessonCheckout, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LessonCheckout]:
    """Be in the checkout of the lesson."""
    enter(monkeypatch, lesson.root)
    yield lesson
    # Question banks are remembered by their lesson, and elsewhere there is no lesson 20.
    bank.cache_clear()


def test_every_example_is_in_the_lesson(in_its_checkout: LessonCheckout) -> None:
    assert len(IDS) > 15
    assert sorted(in_its_checkout.exercises) == sorted(IDS)


@each
def test_the_answer_passes_in_a_cell_and_the_stub_earns_nothing(
    exercise_id: str,
    in_its_checkout: LessonCheckout,
    answers: dict[str, tuple[Path, ModuleType]],
    workspace: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    exercise = in_its_checkout.exercises[exercise_id]
    name = in_its_checkout.name_of(exercise_id)
    right, stub = (getattr(module, name) for _, module in answers.values())
    assert check(exercise_id, stub) == 0
    assert f"{exercise_id} {exercise.title}: not started" in capsys.readouterr().out
    points = check(exercise_id, right)
    said = capsys.readouterr().out
    assert points == exercise.points, said
    assert f"{exercise_id} {exercise.title}: passed" in said
    if exercise.part:
        part = exercise.part.replace(".", "/")
        assert (workspace / "my_engine" / f"{part}.py").is_file(), said


@pytest.mark.parametrize("kind", CHECKS, ids=lambda kind: kind.__name__)
def test_the_answer_passes_in_another_process(
    kind: type, in_its_checkout: LessonCheckout, tmp_path: Path
) -> None:
    """What is asked of the process, and how, depends on the kind of the check alone."""
    exercise = next(e for e in in_its_checkout.exercises.values() if type(e.check) is kind)
    exercise_id = exercise.id
    path = in_its_checkout.file_of(in_its_checkout.solution, exercise_id, tmp_path)
    name = in_its_checkout.name_of(exercise_id)
    with RemoteSubject(path, name, timeout=max(60.0, exercise.patience)) as subject:
        finding = exercise.examine(subject, seed=4711)
        assert finding.fraction == 1, finding


def report_on(exercise: Exercise, mistake: Misconception) -> Report:
    """Return what is shown to whoever makes a known mistake."""
    wrong = LocalSubject(wrong_answer(exercise.check, mistake), exercise.patience)
    return Report(exercise, exercise.examine(wrong))


@pytest.mark.usefixtures("first_failing_case")
@each
def test_every_known_mistake_is_named(exercise_id: str, in_its_checkout: LessonCheckout) -> None:
    exercise = in_its_checkout.exercises[exercise_id]
    assert exercise.check.misconceptions
    for mistake in exercise.check.misconceptions:
        finding = report_on(exercise, mistake).finding
        assert finding.fraction < 1
        assert finding.misconception is not None, mistake.name
        assert finding.misconception.name == mistake.name


@pytest.mark.parametrize(("exercise_id", "shown"), REPORTS, ids=[r[0] for r in REPORTS])
def test_every_report_of_the_page_is_what_a_learner_sees(
    exercise_id: str,
    shown: str,
    in_its_checkout: LessonCheckout,
    unhurried: None,
) -> None:
    exercise = in_its_checkout.exercises[exercise_id]
    seen = [repr(report_on(exercise, mistake)) for mistake in exercise.check.misconceptions]
    assert shown.rstrip("\n") in seen


@each
def test_an_example_keeps_the_rules_of_the_page(
    exercise_id: str, in_its_checkout: LessonCheckout
) -> None:
    exercise = in_its_checkout.exercises[exercise_id]
    assert exercise.asks.endswith((".", "?"))
    if not isinstance(exercise.check, QuizCheck):
        assert len(exercise.hints) == (3 if exercise.points else 1)
    by_id = {cell.id: cell.source for cell in in_its_checkout.solution.cells}
    marked = by_id[f"ex-{exercise_id.replace('.', '-').lower()}"]
    assert holes.private_names(marked) == []
    assert max(holes.sizes(marked)) <= 30


def test_what_is_for_the_author_alone_is_not_released(in_its_checkout: LessonCheckout) -> None:
    released = "\n".join(cell.source for cell in in_its_checkout.released.cells)
    for secret in ("**Explained.**", "Mark scheme", "sorted(waste.values())", holes.BEGIN):
        assert secret in "\n".join(cell.source for cell in in_its_checkout.solution.cells)
        assert secret not in released
    assert "What a strong answer holds" in released


def test_every_directive_has_an_example() -> None:
    source = "\n".join(blocks("python source"))
    for name, directive in directives._DIRECTIVES.items():
        for option in (name, *directive.options):
            assert f"{option}=" in source, option


@pytest.mark.parametrize("kind", CHECKS, ids=lambda kind: kind.__name__)
def test_every_option_of_a_check_is_explained(kind: type) -> None:
    examples = "\n".join(blocks("python check"))
    assert f"{kind.__name__}(" in examples
    for field in dataclasses.fields(kind):
        named = rf"`{field.name}[=`(]|\b{field.name}="
        is_positional = field.default is dataclasses.MISSING and not field.kw_only
        assert is_positional or re.search(named, TEXT), field.name


def test_every_link_within_the_page_leads_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", TEXT, flags=re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", each.lower()).replace(" ", "-") for each in headings}
    links = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert links
    assert links <= anchors


def test_every_file_that_the_page_names_is_there() -> None:
    root = PAGE.parents[1]
    named = re.findall(r"`((?:autograder|course_lib|tests|grading)/[\w/.]+)`", TEXT)
    assert named
    # A placeholder stands for the number of a lesson, or its name.
    missing = [name for name in named if not re.search(r"NN", name) and not (root / name).exists()]
    assert missing == []
