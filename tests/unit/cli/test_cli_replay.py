"""`ct replay` and durations, with a serving plane that is a script of the test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner, Result

from ct.cli.durations import parse_duration
from ct.cli.replay import ReplayFailedError, replay
from ct.contracts import DesiredState
from ct.errors import ConfigError, PlaneMissingError, UnknownVersionError
from ct.home import Home
from ct.rollout import ModelStore
from tests.manifests import manifest_of

if TYPE_CHECKING:
    from pathlib import Path

REPORT: dict[str, Any] = {
    "name": "flights",
    "version": 7,
    "since": "2026-01-02T03:04:05+00:00",
    "until": "2026-01-02T03:34:05+00:00",
    "rows": 40,
    "requests": 30,
    "versions": [
        {"version": 3, "rows": 30, "mean_difference": 0.0125, "largest_difference": 0.25},
        {"version": 4, "rows": 10, "mean_difference": None, "largest_difference": None},
    ],
    "mean_difference": 0.01,
    "largest_difference": 0.25,
    "threshold": 0.5,
    "decisions_differ": 0.025,
    "quantiles": [{"q": 0.5, "answered": 0.41, "predicted": 0.42}],
    "ks": 0.125,
    "not_finite": 1,
    "us_per_row": 12.34,
    "furthest": [
        {
            "request_id": "r1",
            "row": 2,
            "at": "2026-01-02T03:05:00+00:00",
            "version": 3,
            "answered": 0.5,
            "predicted": None,
        }
    ],
    "unfit": {'the log lacks "tips"': 5},
    "unknown_features": {"wind": 6},
    "unreadable": ["x.parquet: damaged"],
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home where version 3 of `flights` serves and version 7 is staged."""
    home = Home(tmp_path / "home").create()
    store = ModelStore(home, "flights")
    (tmp_path / "model").mkdir()
    for version in (3, 7):
        manifest = manifest_of("flights", version, tmp_path / "model")
        store.stage(tmp_path / "model", manifest, {})
    store.desire(DesiredState(name="flights", generation=1, version=3, previous=None, warm=(3,)))
    monkeypatch.setenv("CT_HOME", str(home.root))
    return home


@pytest.fixture
def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder: what stands in its `stdout` is what the serving plane prints; its arguments are kept in `asked`."""
    interpreter = tmp_path / "plane" / "bin" / "python"
    interpreter.parent.mkdir(parents=True)
    folder = tmp_path / "plane"
    interpreter.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$CT_HOME" "$@" > {folder}/asked\necho it broke >&2\ncat {folder}/stdout\nexit 1\n'
    )
    interpreter.chmod(0o755)
    monkeypatch.setenv("CT_SERVING_ENV", str(folder))
    return folder


def ct_replay(*arguments: str) -> Result:
    """Run the command; errors that `ct` turns into messages are raised."""
    result = CliRunner().invoke(replay, arguments)
    if isinstance(result.exception, Exception):
        raise result.exception
    return result


def test_the_report_is_a_table_for_people(home: Home, plane: Path) -> None:
    """All that a decision needs: how many rows, how far, which decisions, which requests, and what was left out."""
    (plane / "stdout").write_text(json.dumps(REPORT))
    shown = " ".join(ct_replay("flights", "--version", "7").output.split())
    for part in (
        "flights: 40 rows of 30 requests, predicted again by version 7",
        "3 30 0.0125 0.25",
        "4 10 none none",
        "all 40 0.01 0.25",
        "answered 0.41 predicted 0.42",
        "r1 2 2026-01-02T03:05:00+00:00 3 0.5 none",
        "decisions at 0.5 that differ: 2.50 %",
        "statistic of the two distributions: 0.125",
        "without a finite prediction, on either side: 1",
        "12.3 us a row",
        'left out 5 rows: the log lacks "tips"',
        '6 rows carry "wind", which version 7 does not take',
        "not read: x.parquet: damaged",
    ):
        assert part in shown


def test_a_report_in_which_no_row_fitted_says_only_that(home: Home, plane: Path) -> None:
    """There are no numbers to show."""
    nothing = {"rows": 0, "requests": 0, "versions": [], "quantiles": [], "furthest": [], "decisions_differ": None}
    (plane / "stdout").write_text(json.dumps({**REPORT, **nothing, "ks": None, "us_per_row": None}))
    shown = ct_replay("flights", "--version", "7").output
    assert shown.splitlines()[:2] == [
        "flights: 0 rows of 0 requests, predicted again by version 7",
        'left out 5 rows: the log lacks "tips"',
    ]


def test_json_is_the_report_itself(home: Home, plane: Path) -> None:
    """Scripts get every number, also when the model printed lines of its own before."""
    (plane / "stdout").write_text("a model's own line\n" + json.dumps(REPORT))
    assert json.loads(ct_replay("flights", "--version", "7", "--json").output) == REPORT


def test_the_serving_plane_is_asked_for_the_period_of_this_home(home: Home, plane: Path) -> None:
    """`--last 2h` is the two hours that end now."""
    (plane / "stdout").write_text(json.dumps(REPORT))
    ct_replay("flights", "--version", "7", "--last", "2h", "--threshold", "0.25")
    root, *asked = (plane / "asked").read_text().splitlines()
    assert root == str(home.root)
    assert asked[:5] == ["-m", "serving.replay", "flights", "--version", "7"]
    options = dict(zip(asked[5::2], asked[6::2], strict=True))
    since, until = (datetime.fromisoformat(options[name]) for name in ("--since", "--until"))
    assert until - since == timedelta(hours=2)
    assert abs(until - datetime.now(timezone.utc)) < timedelta(minutes=1)
    assert options["--threshold"] == "0.25"


def test_an_error_of_the_serving_plane_is_this_commands_error(home: Home, plane: Path) -> None:
    """Its message and facts, not its standard error."""
    error = {"type": "ReplayError", "message": "nothing is logged", "share": 0.1, "name": "flights"}
    (plane / "stdout").write_text(json.dumps({"error": error}))
    with pytest.raises(ReplayFailedError, match=r"^nothing is logged$") as caught:
        ct_replay("flights", "--version", "7")
    assert caught.value.facts == {"name": "flights", "version": 7, "share": 0.1}


def test_a_serving_plane_that_breaks_is_quoted(home: Home, plane: Path) -> None:
    """Without a report, the end of its standard error is what there is to go by."""
    (plane / "stdout").write_text("")
    with pytest.raises(ReplayFailedError, match=r"(?s)ended with code 1.*Nothing that serves was touched.*it broke"):
        ct_replay("flights", "--version", "7")


def test_an_unknown_model_or_version_is_told_before_a_process_starts(home: Home, plane: Path) -> None:
    """What there is instead, and what serves."""
    with pytest.raises(ConfigError, match=r'no model "flihgts" \(models: flights\)'):
        ct_replay("flihgts", "--version", "7")
    with pytest.raises(UnknownVersionError, match=r'version 9 of "flights".*Version 3 is still serving'):
        ct_replay("flights", "--version", "9")
    assert not (plane / "asked").exists()


def test_a_missing_serving_plane_names_the_command_that_installs_it(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control plane alone can replay nothing."""
    monkeypatch.setenv("CT_SERVING_ENV", str(tmp_path / "nowhere"))
    with pytest.raises(PlaneMissingError, match=r"serving plane is not installed.*make setup"):
        ct_replay("flights", "--version", "7")


def test_wrong_durations_are_refused_with_what_is_right(home: Home) -> None:
    """By click, with the option's name."""
    result = CliRunner().invoke(replay, ["flights", "--version", "7", "--last", "half an hour"])
    assert result.exit_code == 2
    assert "Invalid value for '--last'" in result.output
    assert "30m, 2h or 3d" in " ".join(result.output.split())


def test_the_command_imports_nothing_heavy_for_its_help() -> None:
    """`ct replay --help` is instant."""
    code = (
        "import sys, ct.cli.replay; heavy = {'pyarrow', 'numpy', 'rich', 'pydantic', 'yaml'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("45s", timedelta(seconds=45)),
        ("30m", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("3d", timedelta(days=3)),
        (" 2H ", timedelta(hours=2)),
    ],
)
def test_durations_are_a_number_and_a_unit(text: str, expected: timedelta) -> None:
    """Seconds, minutes, hours, days."""
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "30", "m", "0m", "-5m", "1.5h", "2 h", "3w", "1h30m", "99999d", "999999999d", "\N{ARABIC-INDIC DIGIT ONE}h"],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Nothing is guessed: no unit, zero, a fraction, two units, or longer than any log is kept."""
    with pytest.raises(click.BadParameter):
        parse_duration(text)
