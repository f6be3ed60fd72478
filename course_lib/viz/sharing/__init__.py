"""Lesson 8's figures: prompts over shared blocks, a fork whose requests write, and what falls."""
