"""The workbench of the final project: set-ups to play with, compare, sweep and write down."""
