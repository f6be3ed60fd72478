"""The commands of `course`, one file each: what can be asked for, and who does it.

Each module has a function of its own name, which is the command, and an ``EXAMPLE`` of a call.
Imports of the work stand inside the functions, so that ``course --help`` is quick and
``course doctor`` runs where a package is missing.
"""
