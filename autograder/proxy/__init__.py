"""How a check talks to a learner's object: by calls and plain data only, in one process or two."""
