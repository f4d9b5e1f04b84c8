"""Logged requests, predicted again by another version: `python -m serving.replay`."""
