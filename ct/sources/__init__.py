"""Where spans come from, and how their bytes become Arrow tables."""
