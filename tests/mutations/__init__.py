"""Bugs that are planted in a copy of the tree, to check that the tests notice each: `python -m tests.mutations`."""
