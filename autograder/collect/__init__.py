"""Collecting: from what a learning platform gives to one notebook for each student and lesson."""
