"""Lesson 10's figure: a dial of utilisation, and what waits at it."""
