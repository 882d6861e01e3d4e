"""Benchmarks beside peers and limits, all in one run: `make bench`. They are not tests."""
