"""Lesson 12's figure: a real run of a scheduler, one iteration of it under the microscope."""
