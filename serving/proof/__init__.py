"""The very service on the very files that would serve, before they do: `python -m serving.proof`."""
