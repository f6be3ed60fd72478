"""Settings with which vanilla nbgrader works on this checkout."""

import warnings
from pathlib import Path

from nbconvert.preprocessors import TagRemovePreprocessor
from nbgrader.converters import Autograde, GenerateAssignment
from nbgrader.preprocessors import Execute, SaveAutoGrades
from sqlalchemy.exc import SAWarning

from autograder.build.holes import STUB
from autograder.grading import intake, pages, rules, timestamps, validation

c = get_config()  # noqa: F821 - traitlets provides it to every configuration file

c.CourseDirectory.course_id = "serving-from-scratch"
c.CourseDirectory.root = str(Path(__file__).resolve().parent)
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "lessons"
c.CourseDirectory.submitted_directory = "grading/submitted"
c.CourseDirectory.autograded_directory = "grading/autograded"
c.CourseDirectory.feedback_directory = "grading/feedback"

# Where the machine has no exchange for all its users, `course lab --instructor` makes this one.
if not Path("/usr/local/share/nbgrader/exchange").is_dir():
    c.Exchange.root = str(Path(c.CourseDirectory.root, "grading", "exchange"))

# Explanations of the solutions are in the solution notebook only.
c.TagRemovePreprocessor.enabled = True
c.TagRemovePreprocessor.remove_cell_tags = {"solution-only"}
c.GenerateAssignment.preprocessors = [
    TagRemovePreprocessor,
    *GenerateAssignment.preprocessors.default_args[0],
]
# A comment, so that solving an exercise only ever adds lines.
c.ClearSolutions.code_stub = {"python": STUB}
c.ClearSolutions.text_stub = "*Your answer goes here.*"

# A notebook may begin with a byte-order mark or be in UTF-16; one that was half graded when the
# grader was killed is graded again.
c.Autograde.exporter_class = intake.SubmissionExporter
# Without these a skipped cell, a printed text or a NaN would earn full marks and a warning none, a
# cell that was pasted twice would stop the class, and one that ends its kernel lose a submission.
c.Autograde.sanitize_preprocessors = [
    rules.RestoreReleasedCells,
    *Autograde.sanitize_preprocessors.default_args[0],
]
_STEPS = {
    Execute: [rules.ExecuteOnNewKernels, rules.StrictScores],
    SaveAutoGrades: [SaveAutoGrades, intake.MarkAsGraded],
}
c.Autograde.autograde_preprocessors = [
    step
    for preprocessor in Autograde.autograde_preprocessors.default_args[0]
    for step in _STEPS.get(preprocessor, [preprocessor])
]
validation.configure(c)

# Feedback and formgrader name the exercises, say how texts are marked, and show of a figure what
# can be shown without its kernel. Feedback is always written anew: a mark may have changed.
c.HTMLExporter.preprocessors = [pages.ShowStaticTwins, pages.ShowNamesAndSchemes]
c.GenerateFeedback.exporter_class = pages.FeedbackExporter
c.GenerateFeedback.force = True

# One that holds no time must not hide the class.
timestamps.read_odd_timestamps()

# Of nbgrader's own making, and nothing that an instructor could do anything about.
warnings.filterwarnings("ignore", category=SAWarning, module=r"nbgrader\.")
