"""Reproduce: a version built again from its record alone (`recipe`), by the same nodes, and compared (`rebuild`)."""

from ct.reproduce.rebuild import Comparison, reproduce
from ct.reproduce.recipe import Recipe, in_words, recipe_of

__all__ = ["Comparison", "Recipe", "in_words", "recipe_of", "reproduce"]
