"""Which paths below a folder or prefix are spans, and what each is called."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from itertools import zip_longest

from ct.source_config import FORMATS

WILDCARD = re.compile(r"[*?\[]")


def format_of(pattern: str) -> str:
    """`csv`, `parquet` or `tfrecord`, from the pattern's ending."""
    return FORMATS[_ending(pattern)]


def is_match(path: str, pattern: str) -> bool:
    """Whether a path, relative and with `/`, matches part by part; `*` never spans folders. Hidden names never match."""
    pairs = zip_longest(path.split("/"), pattern.split("/"))
    return all(
        part is not None and glob is not None and not part.startswith(".") and fnmatchcase(part, glob)
        for part, glob in pairs
    )


def span_name(path: str, pattern: str) -> str:
    """The span's name: the parts of the path that wildcards matched, or else the last part, without the ending, joined by `-`.

    `flights-*.csv` names `flights-2013-01.csv` `flights-2013-01`; `*/data.parquet` names `2013-01/data.parquet` `2013-01`.
    """
    globs = pattern.split("/")
    parts = path.removesuffix(_ending(pattern)).split("/")
    return "-".join(part for part, glob in zip(parts, globs, strict=True) if WILDCARD.search(glob)) or parts[-1]


def folder_depth(pattern: str) -> int:
    """How many folders lie between the root and a span's file."""
    return pattern.count("/")


def _ending(pattern: str) -> str:
    return max((ending for ending in FORMATS if pattern.endswith(ending)), key=len)
