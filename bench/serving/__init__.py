"""`make bench-serving`: our serving and its peers, side by side on one model, and our rollbacks under load."""
