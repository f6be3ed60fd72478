"""``course samples``: writing sample submissions."""

from __future__ import annotations

from autograder.commands.console import console

EXAMPLE = "course samples && make grade"


def samples() -> None:
    """Write sample submissions to grading/submitted/, to try grading on (for instructors)."""
    from autograder.build.samples import samples_table, write_samples

    with console.status("Making the samples from the lessons as they are released"):
        written = write_samples()
    console.print(samples_table(written))
    console.print("They are in grading/submitted/; grade them with `make grade`.")
