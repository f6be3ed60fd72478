"""Lesson 2: attention over blocks as a film, other ways through them, and paging beside them."""
