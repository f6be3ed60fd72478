"""The kinds of check: each is written once, and used by the tests, the notebooks and the grader."""
