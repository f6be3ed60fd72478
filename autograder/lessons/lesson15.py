"""The comprehensive quiz of the final project: three parts, whose numbers a seed draws."""

from __future__ import annotations

from autograder.checks.drawn_quiz import DrawnQuizCheck
from autograder.checks.exercise import Exercise

_HINTS = (
    "Which quantity is asked for, in which unit, and which of the numbers given does it need?",
    "Work the answer out before you read the choices, then look for it; a wrong number is often "
    "the right answer to another question.",
    "`practise` shows the questions with other numbers, and says of each choice what it means",
)

FUNDAMENTALS = Exercise(
    id="15.F",
    title="Fundamentals",
    asks="Answer twenty questions with a letter each. Sixteen right, 80%, is a pass.",
    points=20,
    minutes=15,
    difficulty=1,
    check=DrawnQuizCheck("F", "fundamentals"),
    hints=_HINTS,
)

INTEGRATION = Exercise(
    id="15.I",
    title="Integration and problem solving",
    asks="Answer twenty-five questions with a letter each. Twenty right, 80%, is a pass.",
    points=50,
    minutes=35,
    difficulty=3,
    check=DrawnQuizCheck("I", "integration"),
    hints=_HINTS,
)

DESIGN = Exercise(
    id="15.D",
    title="Design",
    asks="Answer fifteen questions with a letter each. Twelve right, 80%, is a pass.",
    points=20,
    minutes=15,
    difficulty=2,
    check=DrawnQuizCheck("D", "design"),
    hints=_HINTS,
)

EXERCISES = (FUNDAMENTALS, INTEGRATION, DESIGN)
