"""A verdict as people read it: in words, as a table, as a page; and where a run keeps it.

Standard library and contracts only, because every plane shows verdicts.
"""

from ct.verdict_page.page import render

__all__ = ["render"]
