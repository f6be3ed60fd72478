"""Lesson 4's figures: strips of contiguous memory, and what becomes of them."""
