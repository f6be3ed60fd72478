"""Schedulers that differ from the plain one in one respect each."""
