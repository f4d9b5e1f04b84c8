"""`make test-gate`: how often equal models pass the gate by chance, and how often better ones pass."""
