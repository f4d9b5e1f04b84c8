"""A verdict as people read it: in words, as a table, as a page; and where a run keeps it.

Standard library and contracts only, because every plane shows verdicts.
"""

from ct.verdict_page.page import render, render_version
from ct.verdict_page.words import became

__all__ = ["became", "render", "render_version"]
