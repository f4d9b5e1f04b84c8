"""Pairs: what the previous version says of rows that the new one answered; each row once, whole files, and failures as NaN."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ct.contracts import Feature
from ct.errors import CTError
from ct.home import Home
from serving.logs.prediction_files import Answered, PredictionFiles
from serving.replay import pairs
from serving.rows import BadRequestError, Layout, from_objects

if TYPE_CHECKING:
    from pathlib import Path

    from serving.rows import Rows

FEATURES = (Feature(name="distance", dtype="float32"),)
AT = 1_767_323_045.0
SINCE = datetime.fromtimestamp(AT, timezone.utc)


@dataclass
class Previous:
    """A version that predicts half the distance, and cannot take a negative one."""

    features: tuple[Feature, ...] = FEATURES
    version: int = 6

    @property
    def layout(self) -> Layout:
        """Its features."""
        return Layout(self.features)

    def predict(self, rows: Rows) -> np.ndarray[Any, Any]:
        """Half of it."""
        distances = np.array(rows.columns()["distance"], np.float32)
        if (distances < 0).any():
            raise BadRequestError("distance must not be negative")
        return distances / 2


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home whose version 6 is `Previous`."""
    fake = ModuleType("serving.plane.version")
    fake.load_version = lambda _, version: Previous(version=version)  # type: ignore[attr-defined]
    fake.limit_threads = lambda _: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "serving.plane.version", fake)
    home = Home(tmp_path / "home").create()
    monkeypatch.setenv("CT_HOME", str(home.root))
    return home


def keep(
    home: Home, requests: dict[str, list[float]], *, file: int = 0, version: int = 7, variant: str = "champion"
) -> None:
    """Log requests with rows of these distances; what was answered is the distance."""
    requested = [
        Answered(
            *("flights", version, variant, request_id, None, AT),
            from_objects(Layout(FEATURES), [{"distance": distance} for distance in distances], ""),
            distances,
        )
        for request_id, distances in requests.items()
    ]
    PredictionFiles(home, 2**29, lambda: AT + file).write(requested)


def pair(home: Home, capsys: pytest.CaptureFixture[str], since: datetime = SINCE, *more: str) -> dict[str, Any]:
    """Run it; what it said."""
    into = home.root / "pairs"
    arguments = ["flights", "--new", "7", "--previous", "6", "--since", since.isoformat(), "--into", str(into)]
    pairs.main([*arguments, *more])
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def found(home: Home) -> list[tuple[Any, ...]]:
    """All pairs, file by file."""
    files = sorted((home.root / "pairs").glob("*.parquet"))
    return [tuple(row.values()) for path in files for row in pq.read_table(path).to_pylist()]


def test_rows_of_the_new_version_are_paired(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own answer and the previous version's; rows of others, and of a shadow, are left alone."""
    keep(home, {"a": [0.5, 1.0]})
    keep(home, {"b": [0.5]}, file=60, version=6)
    keep(home, {"c": [0.5]}, file=120, variant="shadow")
    assert pair(home, capsys) == {"rows": 2, "unfit": 0, "failed": 0}
    assert found(home) == [("a", 0, 0.5, 0.25), ("a", 1, 1.0, 0.5)]


def test_a_canarys_rows_are_paired_with_what_the_champion_says(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """What it answered when it served wholly is left alone."""
    keep(home, {"a": [0.5]}, variant="canary")
    keep(home, {"b": [1.0]}, file=60)
    assert pair(home, capsys, SINCE, "--variant", "canary") == {"rows": 1, "unfit": 0, "failed": 0}
    assert found(home) == [("a", 0, 0.5, 0.25)]


def test_a_row_is_paired_once(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """A second call takes what came meanwhile, and a request id that was used twice counts once."""
    keep(home, {"a": [0.5]})
    pair(home, capsys)
    keep(home, {"a": [1.0], "b": [1.0]}, file=60)
    assert pair(home, capsys)["rows"] == 1
    assert pair(home, capsys)["rows"] == 0
    assert found(home) == [("a", 0, 0.5, 0.25), ("b", 0, 1.0, 0.5)]


def test_only_rows_since_the_rollout_are_paired(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """What the version answered when it served before is another watch's."""
    keep(home, {"a": [0.5]})
    assert pair(home, capsys, SINCE + timedelta(seconds=1))["rows"] == 0
    assert not (home.root / "pairs").exists()


def test_a_row_that_the_previous_version_cannot_take_is_no_number(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its client would have got an error; the rows around it have their predictions."""
    keep(home, {"a": [0.5, -1.0, 1.0]})
    assert pair(home, capsys) == {"rows": 3, "unfit": 0, "failed": 1}
    assert [row[3] for row in found(home)][::2] == [0.25, 0.5]
    assert math.isnan(found(home)[1][3])


def test_rows_that_do_not_fit_are_counted(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The previous version takes a feature that the log does not have."""
    more = (*FEATURES, Feature(name="carrier", dtype="string"))
    monkeypatch.setattr(sys.modules["serving.plane.version"], "load_version", lambda *_: Previous(more))
    keep(home, {"a": [0.5, 1.0]})
    assert pair(home, capsys) == {"rows": 0, "unfit": 2, "failed": 0}


def test_a_version_that_does_not_load_is_an_error_in_json(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message reaches whoever asked."""

    def refuse(*_: Any) -> None:
        raise CTError("version 6 does not load", version=6)

    monkeypatch.setattr(sys.modules["serving.plane.version"], "load_version", refuse)
    keep(home, {"a": [0.5]})
    assert pair(home, capsys)["error"] == {"version": 6, "type": "CTError", "message": "version 6 does not load"}
