"""Sealed grading: no code of a submission runs in a process that holds a check or a secret."""
