"""Words for what became of an answer: short, of one line, and nothing that the seed has drawn."""

from __future__ import annotations

from autograder.checks.finding import Finding
from autograder.sealed.verdict import Status

IT_FAILS = "it does not do all that is asked; the check in the notebook shows a case"
NOTHING_YET = "nothing is written yet"
_LONGEST_LINE = 200


def typed(kinds: tuple[str, ...], message: str) -> Status | None:
    """Return which limit an exception of these classes speaks of, if any.

    >>> typed(("MemoryError", "Exception"), ""), typed(("ValueError",), "") is None
    (<Status.OOM: 'OOM'>, True)
    """
    if "NoAnswerError" in kinds:
        return Status.TIMEOUT
    if "OutputError" in kinds:
        return Status.OUTPUT
    if "MemoryError" in kinds:
        return Status.OOM
    if "BlockingIOError" in kinds or "start new thread" in message:
        return Status.PIDS
    if "OSError" in kinds and ("No space left" in message or "File too large" in message):
        return Status.DISK
    return Status.PROTOCOL if "WireError" in kinds else None


def one_line(text: str) -> str:
    r"""Return words that a submission has chosen as one short line that can be shown anywhere.

    >>> one_line("Odd\nError\x1b[31m in line 3")
    'Odd Error?[31m in line 3'
    """
    line = " ".join(text.split())[:_LONGEST_LINE]
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def told(finding: Finding) -> str:
    """Say in one line what is the matter, and nothing of what the seed has drawn."""
    if finding.misconception is not None:
        return finding.misconception.name
    if finding.unwritten:
        return NOTHING_YET
    case = finding.counterexample
    if case is not None and case.raised is not None:
        return one_line(f"{case.raised.kinds[0]} {case.raised.line or ''}")
    return IT_FAILS
