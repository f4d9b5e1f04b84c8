"""What is kept of requests: a line each, and a sample of rows with their predictions."""
