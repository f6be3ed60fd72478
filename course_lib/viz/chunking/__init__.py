"""Lesson 11's figure: a long prompt among requests that decode."""
