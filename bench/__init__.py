"""Measurements that are repeated with one command; docs/benchmarks.md says how to read them."""
