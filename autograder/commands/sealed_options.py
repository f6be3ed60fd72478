"""The options that the commands of sealed grading share: where hand-ins, results and names are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SubmittedFolder = Annotated[
    Path | None,
    typer.Option(help="Folder with NAME/LESSON/LESSON.ipynb.", show_default="grading/submitted"),
]
ResultsFolder = Annotated[
    Path | None,
    typer.Option(help="Where results are kept.", show_default="grading/sealed"),
]
RosterFile = Annotated[
    Path | None,
    typer.Option(
        help="CSV with names, e-mail and due dates.",
        show_default="grading/roster.csv if it is there",
    ),
]
