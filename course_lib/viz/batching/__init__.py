"""Lesson 5's figure: the same requests in static batches, and in one that changes all the time."""
