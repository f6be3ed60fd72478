"""Lesson 9's figure: one workload, served in several orders."""
