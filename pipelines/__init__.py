"""Pipelines, one folder each."""
