"""Replays: logged rows predicted again, compared with what was answered, and what a replay says when it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ct.contracts import Feature
from ct.errors import CTError
from ct.home import Home
from serving.logs.prediction_files import Answered, PredictionFiles
from serving.logs.prediction_log import read
from serving.replay import __main__ as replay
from serving.replay.comparison import ReplayError, compare, ks_statistic
from serving.rows import Layout, from_objects

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.rows import Rows

FEATURES = (Feature(name="carrier", dtype="string"), Feature(name="distance", dtype="float32"))
AT = 1_767_323_045.0
SINCE = datetime.fromtimestamp(AT, timezone.utc)
PROJECT = Path(__file__).resolve().parents[3]


@dataclass
class Model:
    """A version that predicts from the distance and nothing else."""

    from_distance: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]
    features: tuple[Feature, ...] = FEATURES
    version: int = 7

    @property
    def layout(self) -> Layout:
        """Its features."""
        return Layout(self.features)

    def predict(self, rows: Rows) -> np.ndarray[Any, Any]:
        """Whatever the function says."""
        return np.asarray(self.from_distance(np.array(rows.columns()["distance"], np.float32)), np.float32)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path / "home").create()


def keep(
    home: Home, requests: dict[str, list[float]], *, version: int = 3, features: tuple[Feature, ...] = FEATURES
) -> None:
    """Log requests whose rows have these distances; what was answered is the distance."""
    values = {"string": "UA", "float32": 0.5, "int64": 1}
    layout = Layout(features)
    requested = [
        Answered(
            *("flights", version, "champion", request_id, None, AT),
            from_objects(
                layout, [{**{f.name: values[f.dtype] for f in features}, "distance": d} for d in distances], ""
            ),
            distances,
        )
        for request_id, distances in requests.items()
    ]
    # A minute after the other, because one process would reuse its file's name.
    PredictionFiles(home, 2**29, lambda: AT + 60 * version).write(requested)


def compared(home: Home, model: Model, threshold: float = 0.5) -> dict[str, Any]:
    """The report on everything that is logged."""
    return compare(model, read(home, "flights", since=SINCE), threshold)


def test_a_version_that_predicts_the_same_differs_nowhere(home: Home) -> None:
    """No difference, no other decision, the same distribution; and it says of what that is true."""
    keep(home, {"a": [0.1, 0.2], "b": [0.9]})
    report = compared(home, Model(lambda distance: distance))
    assert (report["rows"], report["requests"]) == (3, 2)
    assert report["versions"] == [{"version": 3, "rows": 3, "mean_difference": 0.0, "largest_difference": 0.0}]
    assert (report["mean_difference"], report["largest_difference"]) == (0.0, 0.0)
    assert (report["decisions_differ"], report["ks"], report["not_finite"]) == (0.0, 0.0, 0)
    assert (report["unfit"], report["unknown_features"]) == ({}, {})
    assert report["us_per_row"] > 0


def test_differences_are_measured_a_version_and_the_furthest_rows_are_named(home: Home) -> None:
    """One row flips; who had answered it, with which request id, and by how much, is in the report."""
    keep(home, {"a": [0.25, 0.5], "b": [0.75]}, version=3)
    keep(home, {"c": [1.0]}, version=4)
    report = compared(home, Model(lambda distance: np.where(distance == 0.75, 0.25, distance)))
    assert [(each["version"], each["rows"], each["largest_difference"]) for each in report["versions"]] == [
        (3, 3, 0.5),
        (4, 1, 0.0),
    ]
    assert report["mean_difference"] == 0.125
    assert report["decisions_differ"] == 0.25
    first = report["furthest"][0]
    assert first == {
        "request_id": "b",
        "row": 0,
        "at": SINCE.isoformat(),
        "version": 3,
        "answered": 0.75,
        "predicted": 0.25,
    }


def test_the_furthest_rows_come_from_all_batches(home: Home) -> None:
    """Five rows in all, the furthest first, wherever they stood."""
    distances = [0.0] * 9000
    for place, difference in ((10, 0.3), (4100, 0.9), (8999, 0.5), (20, 0.1), (4200, 0.2), (8300, 0.4)):
        distances[place] = difference
    keep(home, {"a": distances})
    report = compared(home, Model(np.zeros_like))
    assert report["rows"] == 9000
    assert [row["row"] for row in report["furthest"]] == [4100, 8999, 8300, 10, 4200]


def test_the_threshold_decides_which_decisions_differ(home: Home) -> None:
    """At the threshold itself a prediction is a yes."""
    keep(home, {"a": [0.5, 0.7, 0.75, 0.9]})
    model = Model(lambda distance: np.minimum(distance, np.float32(0.7)))
    assert compared(home, model, 0.5)["decisions_differ"] == 0.0
    assert compared(home, model, 0.75)["decisions_differ"] == 0.5


def test_quantiles_are_of_both_distributions(home: Home) -> None:
    """Half of the rows on either side of the median, as answered and as predicted."""
    keep(home, {"a": [number / 100 for number in range(101)]})
    report = compared(home, Model(lambda distance: distance / 2))
    median = next(each for each in report["quantiles"] if each["q"] == 0.5)
    assert median == {"q": 0.5, "answered": pytest.approx(0.5), "predicted": pytest.approx(0.25)}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], 0.0),
        ([1, 2], [3, 4], 1.0),
        ([1, 2, 3, 4], [3, 4, 5, 6], 0.5),
        ([1, 1, 1, 2], [1, 2, 2, 2], 0.5),
        ([1, 2, 3], [1.5], 2 / 3),
    ],
)
def test_the_ks_statistic_is_the_largest_gap_of_the_distributions(
    one: list[float], other: list[float], expected: float
) -> None:
    """Ties count on both sides at once, sizes may differ, and the order of the samples does not matter."""
    assert ks_statistic(np.array(one), np.array(other)) == pytest.approx(expected)
    assert ks_statistic(np.array(other), np.array(one)) == pytest.approx(expected)


def test_rows_that_do_not_fit_are_counted_by_what_is_wrong(home: Home) -> None:
    """A missing feature and one of another type each say so; the rows that fit are compared."""
    keep(home, {"a": [0.1, 0.2]}, version=3, features=FEATURES[1:])
    keep(home, {"b": [0.3]}, version=4, features=(Feature(name="carrier", dtype="int64"), FEATURES[1]))
    keep(home, {"c": [0.4]}, version=5)
    report = compared(home, Model(lambda distance: distance))
    assert (report["rows"], report["requests"]) == (1, 1)
    assert report["unfit"] == {
        'the log lacks "carrier"': 2,
        '"carrier" is int64 in the log, the version takes string': 1,
    }


def test_features_that_the_version_does_not_take_are_said(home: Home) -> None:
    """The rows are compared without them, and it is told, because serving refuses requests that carry them."""
    keep(home, {"a": [0.1, 0.2]}, features=(*FEATURES, Feature(name="tips", dtype="float32")))
    report = compared(home, Model(lambda distance: distance))
    assert (report["rows"], report["unknown_features"]) == (2, {"tips": 2})


def test_a_report_without_a_single_fitting_row_has_no_numbers(home: Home) -> None:
    """Nothing is compared, so there is no difference, not a difference of zero."""
    keep(home, {"a": [0.1]}, features=FEATURES[1:])
    report = compared(home, Model(lambda distance: distance))
    numbers = ("mean_difference", "largest_difference", "decisions_differ", "ks", "us_per_row")
    assert [report[name] for name in numbers] == [None] * 5
    assert (report["rows"], report["versions"], report["quantiles"], report["furthest"]) == (0, [], [], [])


def test_a_prediction_that_is_no_number_is_the_furthest_of_all(home: Home) -> None:
    """It is counted, named first, spoils no mean, and the report is JSON."""
    keep(home, {"a": [0.1, 0.2, 0.3]})
    report = compared(home, Model(lambda distance: np.where(distance > 0.25, np.nan, distance)))
    assert (report["not_finite"], report["mean_difference"]) == (1, 0.0)
    assert (report["furthest"][0]["row"], report["furthest"][0]["predicted"]) == (2, None)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_a_version_that_fails_on_logged_rows_is_named_with_the_request(home: Home) -> None:
    """What would be errors for clients is the result of the replay."""
    keep(home, {"a": [0.1, 0.2], "b": [0.3, 0.9, 0.4], "c": [0.9]})

    def fail(distance: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if distance.max() > 0.5:
            raise ValueError("unknown token\nand more")
        return distance

    with pytest.raises(
        ReplayError, match=r"version 3 answered: request b, row 1: ValueError: unknown token\. "
    ) as caught:
        compared(home, Model(fail))
    assert caught.value.facts == {"version": 7, "request_id": "b", "row": 1}


def run(home: Home, monkeypatch: pytest.MonkeyPatch, load_version: Callable[..., Any]) -> int:
    """`python -m serving.replay` in this process, with no TensorFlow."""
    fake = ModuleType("serving.plane.version")
    fake.load_version = load_version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "serving.plane.version", fake)
    monkeypatch.setenv("CT_HOME", str(home.root))
    until = SINCE + timedelta(minutes=1)
    period = ["--since", SINCE.isoformat(), "--until", until.isoformat()]
    return replay.main(["flights", "--version", "7", *period, "--threshold", "0.15"])


def test_the_report_is_one_line_of_json(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what was asked, and the files that could not be read."""
    keep(home, {"a": [0.1, 0.2]})
    (home.predictions("flights") / "2026-01-02" / "235959Z-1-1.parquet").write_bytes(b"PAR1")
    assert run(home, monkeypatch, lambda _, version: Model(np.zeros_like, version=version)) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["name"], report["version"], report["rows"], report["decisions_differ"]) == ("flights", 7, 2, 0.5)
    assert [line.partition(": ")[0][-19:] for line in report["unreadable"]] == ["235959Z-1-1.parquet"]


def test_a_version_that_does_not_load_is_an_error_in_json(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The refusal's own message and facts reach whoever asked."""
    keep(home, {"a": [0.1]})

    def refuse(store: Any, version: int) -> Any:
        raise CTError("version 7 does not load", version=version)

    assert run(home, monkeypatch, refuse) == 1
    assert json.loads(capsys.readouterr().out) == {
        "error": {"version": 7, "type": "CTError", "message": "version 7 does not load"}
    }


def test_nothing_logged_is_told_without_loading_tensorflow(home: Home) -> None:
    """In a process of its own: the share and where it is set, what there is in the log, and what to do."""
    keep(home, {"a": [0.1]})
    since = SINCE + timedelta(days=1)
    code = (
        "import sys; from serving.replay.__main__ import main; code = main(sys.argv[1:]); "
        "sys.exit(9 if 'tensorflow' in sys.modules else code)"
    )
    period = ["--since", since.isoformat(), "--until", (since + timedelta(hours=1)).isoformat()]
    done = subprocess.run(
        [sys.executable, "-c", code, "flights", "--version", "7", *period],
        cwd=PROJECT,
        env={**os.environ, "CT_HOME": str(home.root), "CT_PREDICTION_LOG_SHARE": "0.25"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert (error["name"], error["share"], error["unreadable"]) == ("flights", 0.25, [])
    for part in ("prediction_log_share", "settings.yaml", "2026-01-02/030", "kept: 0.25", "`--last`"):
        assert part in error["message"]
