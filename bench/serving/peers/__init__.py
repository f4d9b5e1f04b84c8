"""What the servers of the peers load by name, from this folder on their path, each in an environment of its own."""
