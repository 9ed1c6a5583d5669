"""Benchmarks: what a strategy costs and saves, measured so that a sceptic accepts it."""
