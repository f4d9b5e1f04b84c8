"""The data plane: loaded versions, which of them answers, and in which batch."""
