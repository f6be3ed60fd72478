"""The grader of the final project: performance, code quality and documentation, by a rubric."""
