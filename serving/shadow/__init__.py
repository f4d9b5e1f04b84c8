"""The process in which a shadow predicts what the champion has answered: `python -m serving.shadow`."""
