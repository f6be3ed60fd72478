"""How the course is built, handed out, checked and graded.

Importing the package loads nothing. It leaves one thing out of what is loaded later: a grammar of
internationalized web addresses (IRIs), which takes a second to build. ``jsonschema``, with which
``nbformat`` validates notebooks, builds it as it is imported, and knows no such addresses where the
grammar's package is missing. The format of notebooks has none of them.
"""

import sys
from typing import cast

_WITH_GRAMMAR = "rfc3987_syntax"

if "jsonschema" not in sys.modules:
    # What an import finds as None it takes for not installed.
    cast("dict[str, object]", sys.modules).setdefault(_WITH_GRAMMAR, None)
