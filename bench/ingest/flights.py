"""CSV files of any number of real flights: the year's months, again and again."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench.ingest.places import INGEST
from ct.sources.flights_sample import write_months

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def flights_files(sizes: Sequence[int], say: Callable[[str], None]) -> dict[int, Path]:
    """A file for each number of rows; those that are there already are kept."""
    INGEST.mkdir(parents=True, exist_ok=True)
    paths = {rows: INGEST / f"flights-{rows}.csv" for rows in sizes}
    missing = {rows: path for rows, path in paths.items() if not path.exists()}
    if missing:
        say(f"writing {', '.join(path.name for path in missing.values())}")
        with TemporaryDirectory(dir=INGEST) as folder:
            months = [path.read_bytes().splitlines(keepends=True) for path in _months(Path(folder))]
        header, year = months[0][0], [line for month in months for line in month[1:]]
        for rows, path in missing.items():
            _write(path, header, year, rows)
    return paths


def _months(folder: Path) -> list[Path]:
    return write_months(folder, range(1, 13), format="csv")


def _write(path: Path, header: bytes, year: Sequence[bytes], rows: int) -> None:
    unfinished = path.with_suffix(".unfinished")
    whole = b"".join(year)
    years, rest = divmod(rows, len(year))
    with unfinished.open("wb") as file:
        file.write(header)
        for _ in range(years):
            file.write(whole)
        file.writelines(year[:rest])
    unfinished.rename(path)
