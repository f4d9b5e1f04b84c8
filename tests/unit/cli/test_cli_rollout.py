"""Canaries, shadows, history and tokens as a shell sees them, with no server running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import click
import pytest

from ct.cli.canary_options import parse_key, parse_share
from ct.cli.history import moment_of
from ct.cli.main import cli
from ct.contracts import (
    Canary,
    Change,
    DeployedSpec,
    DesiredState,
    Feature,
    HistoryEntry,
    WorkerState,
)
from ct.errors import ProofFailedError, RolloutError, ServiceNotStartedError
from ct.gate_config import GuardsConfig
from ct.home import Home
from ct.rollout import ModelStore, announce_worker
from ct.rollout.process import started_at
from ct.tokens import TokenStore
from tests.manifests import manifest_of, write_proof

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2020, 3, 1, 12, tzinfo=timezone.utc)
FEATURES = (Feature(name="carrier", dtype="string"), Feature(name="distance", dtype="float32"))


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Model `trips` with versions 1 to 4, of which 2 serves after 1."""
    home = Home(tmp_path / "home").create()
    store = ModelStore(home, "trips")
    saved_model = tmp_path / "model"
    saved_model.mkdir()
    for version in (1, 2, 3, 4):
        against = version - 1 or None
        manifest = manifest_of("trips", version, saved_model, features=FEATURES, created_at=NOW, judged_against=against)
        store.stage(saved_model, manifest, {})
        write_proof(store, version)
    for version in (1, 2):
        entry = HistoryEntry(
            generation=version,
            change=Change.ROLLOUT,
            version=version,
            previous=version - 1 or None,
            at=NOW + timedelta(hours=version, microseconds=1),
            actor=f"run r{version}",
            reason=f"better {version}",
        )
        store.remember(entry)
    store.desire(DesiredState(name="trips", generation=2, version=2, previous=1, warm=(2, 1)))
    return store


@pytest.fixture
def ct(store: ModelStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command in this process against the store's home, with MLflow out of reach; returns its standard output."""
    monkeypatch.setenv("CT_HOME", str(store.root.parent.parent))
    monkeypatch.setenv("CT_MLFLOW_URL", "http://127.0.0.1:1")

    def run(*arguments: str) -> str:
        capsys.readouterr()
        cli.main(list(arguments), standalone_mode=False)
        return capsys.readouterr().out

    return run


def failing(store: ModelStore, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as its own process, for its exit code and its standard error."""
    environment = {**os.environ, "CT_HOME": str(store.root.parent.parent), "CT_MLFLOW_URL": "http://127.0.0.1:1"}
    command = [sys.executable, "-m", "ct.cli.main", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def state(store: ModelStore) -> tuple[int, Canary | None, int | None]:
    """Champion, canary and shadow that are desired."""
    desired = store.desired()
    assert desired is not None
    return desired.version, desired.canary, desired.shadow


def test_a_canary_begins_changes_and_ends(store: ModelStore, ct: Callable[..., str]) -> None:
    """The default key is a header; --canary alone changes the share of the one that is going and keeps its key."""
    assert "version 3 answers 10% by header ct-key, version 2 the rest" in ct(
        "rollout", "trips", "--version", "3", "--canary", "10%"
    )
    assert state(store) == (2, Canary(version=3, share=0.1, key="header:ct-key"), None)
    ct("rollout", "trips", "--canary", "0.5", "--by", "feature:carrier", "--reason", "looks well")
    ct("rollout", "trips", "--canary", "60%")
    assert state(store) == (2, Canary(version=3, share=0.6, key="feature:carrier"), None)
    assert "canary ended, version 2 answers alone" in ct("rollout", "trips", "--end")
    assert state(store) == (2, None, None)
    assert [(entry.change.value, entry.reason) for entry in store.history()[2:]] == [
        ("canary", "changed by hand"),
        ("canary", "looks well"),
        ("canary", "changed by hand"),
        ("end", "changed by hand"),
    ]


def test_a_shadow_goes_beside_a_canary_and_a_rollout_ends_both(store: ModelStore, ct: Callable[..., str]) -> None:
    """What ended is said, and JSON has the same for scripts."""
    ct("rollout", "trips", "--version", "3", "--canary", "10%")
    assert "version 4 predicts unseen, version 2 answers" in ct("rollout", "trips", "--version", "4", "--shadow")
    assert state(store)[2] == 4
    assert "version 2 -> 3 (canary and shadow ended)" in ct("rollout", "trips", "--version", "3", "--dry-run")
    told = json.loads(ct("rollout", "trips", "--version", "3", "--json"))
    assert (told["change"], told["from"], told["to"], told["canary"], told["shadow"], told["workers"]) == (
        "rollout",
        2,
        3,
        None,
        None,
        0,
    )
    assert "What serves is not affected" in told["registry_problem"]
    assert state(store) == (3, None, None)


@pytest.mark.parametrize("share", [(), ("--canary", "10%")], ids=["rollout", "canary"])
def test_what_nobody_has_proven_is_proven_first(
    store: ModelStore, ct: Callable[..., str], monkeypatch: pytest.MonkeyPatch, share: tuple[str, ...]
) -> None:
    """Once; not for a dry run, not for a shadow, which answers nobody, and not for what has served before."""
    proven: list[int] = []

    def prove(_: Home, name: str, version: int, guards: GuardsConfig, *, allow_incompatible: bool) -> None:
        assert (name, guards, allow_incompatible) == ("trips", GuardsConfig(), False)
        proven.append(version)
        write_proof(store, version)

    monkeypatch.setattr("ct.proving.prove", prove)
    for version in (1, 3):
        (store.version_path(version) / "proof.json").unlink()
    planned = ct("rollout", "trips", "--version", "3", "--dry-run", *share)
    assert "  1. prove version 3: start the service on its files, beside what serves\n  2. let version" in planned
    ct("rollout", "trips", "--version", "3", "--shadow")
    assert proven == []
    ct("rollout", "trips", "--version", "3", *share)
    ct("rollout", "trips", "--version", "1")
    ct("rollout", "trips", "--version", "2")
    ct("rollout", "trips", "--version", "3")
    assert proven == [3]


def test_a_version_whose_proof_failed_needs_force(store: ModelStore, ct: Callable[..., str]) -> None:
    """The message has the proof's reason; forced, the history has the mark."""
    write_proof(store, 3, passed=False)
    for share in ((), ("--canary", "10%")):
        with pytest.raises(RolloutError, match=r"failed its proof: p99 9.0 ms.*Version 2 is still serving.*--force"):
            ct("rollout", "trips", "--version", "3", *share)
    assert state(store) == (2, None, None)
    ct("rollout", "trips", "--version", "3", "--force", "--reason", "slow is better than wrong")
    assert state(store)[0] == 3
    assert store.history()[-1].forced


def test_a_proof_that_cannot_be_made_is_passed_over_with_force_only(
    store: ModelStore, ct: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as on a machine without room for a second service; the history has the mark."""

    def fail(*_: object, **__: object) -> None:
        raise ServiceNotStartedError("There is no memory for it.")

    monkeypatch.setattr("ct.proving.prove", fail)
    (store.version_path(3) / "proof.json").unlink()
    with pytest.raises(ProofFailedError, match=r"could not be proven: There is no memory for it\. Nothing was changed"):
        ct("rollout", "trips", "--version", "3")
    assert state(store)[0] == 2
    ct("rollout", "trips", "--version", "3", "--force", "--reason", "it must")
    assert state(store)[0] == 3
    assert store.history()[-1].forced


def test_features_that_clients_do_not_send_are_overruled_in_the_proof_too(
    store: ModelStore, ct: Callable[..., str]
) -> None:
    """`--allow-incompatible` says so of the contract, and of nothing else that the proof found."""
    write_proof(store, 3, passed=False, metric="features_that_differ")
    with pytest.raises(RolloutError, match="failed its proof"):
        ct("rollout", "trips", "--version", "3")
    ct("rollout", "trips", "--version", "3", "--allow-incompatible")
    assert not store.history()[-1].forced
    write_proof(store, 4, passed=False)
    with pytest.raises(RolloutError, match="failed its proof"):
        ct("rollout", "trips", "--version", "4", "--allow-incompatible")


def test_a_rollback_to_what_never_served_is_a_rollout(store: ModelStore, ct: Callable[..., str]) -> None:
    """It is no way around verdict and proof; what has served before is gone back to whatever its proof says."""
    for version in (1, 3):
        write_proof(store, version, passed=False)
    with pytest.raises(RolloutError, match=r"Version 3 .* has never served.*`ct rollout trips --version 3`"):
        ct("rollback", "trips", "--to", "3")
    ct("rollback", "trips", "--to", "1")
    assert state(store)[0] == 1


def test_a_proof_that_cannot_be_read_stops_the_rollout(store: ModelStore, ct: Callable[..., str]) -> None:
    """It may say that the version must not serve."""
    (store.version_path(3) / "proof.json").write_text("{")
    with pytest.raises(RolloutError, match=r"proof of version 3 .* cannot be read"):
        ct("rollout", "trips", "--version", "3")
    assert state(store)[0] == 2


def test_a_rollback_ends_the_canary(store: ModelStore, ct: Callable[..., str]) -> None:
    """It goes to what served before the champion."""
    ct("rollout", "trips", "--version", "3", "--canary", "10%")
    assert "version 2 -> 1 (canary ended)" in ct("rollback", "trips")
    assert state(store) == (1, None, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ("rollout", "trips", "--version", "3"),
        ("rollout", "trips", "--version", "3", "--canary", "10%"),
        ("rollout", "trips", "--version", "3", "--shadow"),
        ("rollback", "trips"),
    ],
)
def test_a_dry_run_prints_the_steps_that_apply_executes_and_changes_nothing(
    store: ModelStore, ct: Callable[..., str], arguments: tuple[str, ...]
) -> None:
    """No file is touched; the real run afterwards comes to the state that was printed."""
    files = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    planned = json.loads(ct(*arguments, "--dry-run", "--json"))
    text = ct(*arguments, "--dry-run")
    assert {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()} == files
    assert all(f"{number}. {step}" in text for number, step in enumerate(planned["steps"], 1))
    assert "nothing was changed" in text
    done = json.loads(ct(*arguments, "--json"))
    same = ("change", "from", "to", "canary", "shadow", "generation", "warm")
    assert {key: done[key] for key in same} == {key: planned[key] for key in same}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Say which version"),
        (("--shadow",), "Say which version"),
        (("--canary", "10%"), 'no canary of "trips" is going'),
        (("--version", "3", "--canary", "10%", "--shadow"), "two changes"),
        (("--version", "3", "--by", "header:x"), "it needs --canary"),
        (("--end", "--version", "3"), "goes with none"),
        (("--end", "--shadow"), "goes with none"),
        (("--end", "--canary", "10%"), "goes with none"),
        (("--version", "3", "--canary", "10"), "Is 10% meant"),
        (("--version", "3", "--canary", "10%", "--by", "cookie:x"), "is no key"),
    ],
)
def test_contradictory_options_are_usage_errors(
    store: ModelStore, ct: Callable[..., str], arguments: tuple[str, ...], message: str
) -> None:
    """Nothing is changed."""
    with pytest.raises(click.UsageError) as refused:
        ct("rollout", "trips", *arguments)
    assert message in refused.value.message
    assert len(store.history()) == 2


def test_refusals_exit_with_a_sentence(store: ModelStore) -> None:
    """An unknown feature, an unknown model, and a version that serves already; with what is nearest or next."""
    feature = failing(
        store, "rollout", "trips", "--version", "3", "--canary", "10%", "--by", "feature:carier", "--json"
    )
    assert feature.returncode == 1
    assert "did you mean `--by feature:carrier`?" in feature.stderr
    assert json.loads(feature.stdout)["error"]["nearest"] == "carrier"
    model = failing(store, "rollout", "trip", "--version", "3")
    assert model.returncode == 2
    assert "did you mean `trips`?" in model.stderr
    serving = failing(store, "rollout", "trips", "--version", "2")
    assert serving.returncode == 1
    assert "is serving already. Nothing was changed." in serving.stderr
    assert failing(store, "rollout", "trips", "--end", "--version", "3").returncode == 2
    assert len(store.history()) == 2


def test_as_many_versions_stay_warm_as_were_deployed(
    store: ModelStore, ct: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """keep_versions of the deployed spec counts; when the spec is damaged a rollback works all the same, and says so."""
    spec = DeployedSpec(
        spec_hash="abc",
        pipeline="trips",
        config={"serving": {"keep_versions": 4}},
        nodes=(),
        readme="",
        deployed_at=NOW,
        code_commit=None,
        requirement_hashes={},
    )
    folder = store.root.parent.parent / "deployed" / "trips"
    (folder / "specs" / "abc").mkdir(parents=True)
    (folder / "current.json").write_text('{"spec_hash": "abc"}')
    (folder / "specs" / "abc" / "spec.json").write_text(spec.model_dump_json())
    ct("rollout", "trips", "--version", "3")
    ct("rollout", "trips", "--version", "4")
    desired = store.desired()
    assert desired is not None
    assert desired.warm == (4, 3, 2, 1)
    (folder / "specs" / "abc" / "spec.json").write_text("{")
    cli.main(["rollback", "trips", "--keep"], standalone_mode=False)
    assert "the deployed spec of trips cannot be read" in capsys.readouterr().err
    desired = store.desired()
    assert desired is not None
    assert desired.warm == (3, 4, 2, 1)


def test_a_rollout_that_is_killed_while_it_waits_is_in_the_history(store: ModelStore, ct: Callable[..., str]) -> None:
    """After `kill -9` the version stays desired, the history says who wanted it, and a rollback goes to what served before."""
    began = started_at(os.getpid())
    assert began is not None
    home = store.root.parent.parent
    announce_worker(Home(home), WorkerState(pid=os.getpid(), started_at=began, generation=0, serving=None, loaded=()))
    command = [sys.executable, "-m", "ct.cli.main", "rollout", "trips", "--version", "3", "--reason", "for a while"]
    waiting = subprocess.Popen(command, env={**os.environ, "CT_HOME": str(home)})
    try:
        deadline = time.monotonic() + 30
        while state(store)[0] != 3:
            assert time.monotonic() < deadline, "the rollout did not begin"
            time.sleep(0.01)
    finally:
        waiting.kill()
        waiting.wait()
    assert json.loads(ct("history", "trips", "--json"))[0]["reason"] == "for a while"
    next((store.root.parent / ".workers").glob("*.json")).unlink()
    assert "version 3 -> 2" in ct("rollback", "trips")
    assert [entry.version for entry in store.history()] == [1, 2, 3, 2]


def test_history_says_what_served_when_who_and_why(store: ModelStore, ct: Callable[..., str]) -> None:
    """Newest first, canaries included; --limit leaves the older ones out and says so."""
    ct("rollout", "trips", "--version", "3", "--canary", "10%", "--reason", "try it")
    newest, older = json.loads(ct("history", "trips", "--json", "--limit", "2"))
    assert (newest["change"], newest["canary"]["version"], newest["reason"], newest["until"]) == (
        "canary",
        3,
        "try it",
        None,
    )
    assert (older["version"], older["actor"], older["until"]) == (2, "run r2", newest["at"])
    lines = ct("history", "trips", "--limit", "1").splitlines()
    assert any("3: 10% by header:ct-key" in line and "try it" in line for line in lines)
    assert "older changes: 2;" in lines[-1]


def test_at_tells_what_served_then(store: ModelStore, ct: Callable[..., str]) -> None:
    """Before the first rollout nothing did; the canary is there from its own moment on."""
    assert "nothing served yet; the first rollout was at" in ct("at", "trips", "2020-03-01T12:30Z")
    assert json.loads(ct("at", "trips", "2020-03-01T12:30Z", "--json"))["version"] is None
    first = ct("at", "trips", "2020-03-01T13:30Z")
    assert "version 1 served, since" in first
    assert "rollout by run r1: better 1" in first
    ct("rollout", "trips", "--version", "3", "--canary", "10%", "--reason", "try it")
    now = ct("at", "trips", datetime.now(timezone.utc).isoformat())
    assert "version 2 served" in now
    assert "canary: version 3 answered 10% by header ct-key" in now
    assert "try it" in now
    earlier = json.loads(ct("at", "trips", "1m", "ago", "--json"))
    assert (earlier["version"], earlier["canary"], earlier["change"]["actor"]) == (2, None, "run r2")


def test_a_time_copied_from_the_history_answers_with_that_change(store: ModelStore, ct: Callable[..., str]) -> None:
    """The history shows milliseconds, and its times have microseconds."""
    shown = [line.split()[0] for line in ct("history", "trips").splitlines() if "run r" in line]
    assert len(shown) == 2
    versions = [json.loads(ct("at", "trips", each, "--json"))["version"] for each in shown]
    assert versions == [2, 1]


def test_moments_as_people_type_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A span ago, ISO 8601 with a zone or local; the future and nonsense are refused."""
    for text in ("30m", "30m ago", " 30m ago "):
        assert moment_of(text, now=NOW) == NOW - timedelta(minutes=30)
    assert moment_of("2020-03-01T11:00:00Z", now=NOW) == NOW - timedelta(hours=1)
    assert moment_of("2020-03-01 13:00+02:00", now=NOW) == NOW - timedelta(hours=1)
    local = datetime(2020, 2, 1).astimezone()
    assert moment_of("2020-02-01", now=NOW) == local
    for text, message in (("2020-03-01T12:00:01Z", "is in the future"), ("soon", "is no time"), ("", "is no time")):
        with pytest.raises(click.BadParameter, match=message):
            moment_of(text, now=NOW)


def test_shares_and_keys_as_people_type_them() -> None:
    """Per cent or a fraction; header names in lower case."""
    assert [parse_share(text) for text in ("10%", "0.1", "0.25%", " 99 % ")] == [0.1, 0.1, 0.0025, 0.99]
    for text in ("0", "0%", "1", "100%", "-1%", "nan", "inf", "ten", "%", ""):
        with pytest.raises(click.BadParameter):
            parse_share(text)
    assert [parse_key(text) for text in ("header:CT-Key", "feature:Carrier")] == ["header:ct-key", "feature:Carrier"]
    for text in ("header:", "header:a b", "feature:", "carrier", "cookie:x"):
        with pytest.raises(click.BadParameter):
            parse_key(text)


def test_models_and_status_show_canary_and_shadow(store: ModelStore, ct: Callable[..., str]) -> None:
    """In the version list, in words below it, and as JSON."""
    ct("rollout", "trips", "--version", "3", "--canary", "10%")
    ct("rollout", "trips", "--version", "4", "--shadow")
    shown = [line.split() for line in ct("models", "trips").splitlines()]
    states = {line[0]: line[1:] for line in shown if line and line[0] in "1234"}
    assert states["1"][0] == "warm"
    assert states["2"][0] == "serving"
    assert states["3"][:2] == ["canary", "10%"]
    assert states["4"][0] == "shadow"
    assert ["shadow:", "version", "4", "predicts", "unseen"] in shown
    model = json.loads(ct("models", "--json"))[0]
    assert (model["serving"], model["canary"]["share"], model["shadow"]) == (2, 0.1, 4)
    deploy_nothing(store)
    text = ct("status")
    assert "canary: version 3 answers 10% by header ct-key" in text
    assert "shadow: version 4 predicts unseen" in text
    pipeline = json.loads(ct("status", "--json"))["pipelines"][0]
    assert (pipeline["canary"]["version"], pipeline["shadow"]) == (3, 4)
    assert datetime.fromisoformat(pipeline["since"]) == NOW + timedelta(hours=2, microseconds=1)


def test_status_names_a_worker_that_has_not_the_canary(store: ModelStore, ct: Callable[..., str]) -> None:
    """The champion answers, so nothing else would show it."""
    ct("rollout", "trips", "--version", "3", "--canary", "10%")
    deploy_nothing(store)
    began = started_at(os.getpid())
    assert began is not None
    worker = WorkerState(pid=os.getpid(), started_at=began, generation=2, serving=2, loaded=(1, 2))
    store.report_worker(worker)
    assert f"worker {os.getpid()} has not loaded version 3: it is loading" in ct("status")
    store.report_worker(worker.model_copy(update={"generation": 3, "error": "damaged"}))
    assert "has not loaded version 3: damaged" in ct("status")
    store.report_worker(worker.model_copy(update={"generation": 3, "loaded": (1, 2, 3)}))
    assert f"worker {os.getpid()}" not in ct("status")


def deploy_nothing(store: ModelStore) -> None:
    """Make `trips` a deployed pipeline, as far as `ct status` looks."""
    folder = store.root.parent.parent / "deployed" / "trips"
    folder.mkdir(parents=True)
    (folder / "current.json").write_text('{"spec_hash": "none"}')


def test_a_token_is_made_listed_and_revoked(store: ModelStore, ct: Callable[..., str]) -> None:
    """The secret is alone on standard output, works, and is shown nowhere else."""
    secret = ct("token", "create", "app", "--scope", "predict", "--scope", "read", "--expires", "30d").strip()
    tokens = TokenStore(store.root.parent.parent / "secrets" / "tokens.json")
    tokens.refresh()
    token = tokens.find(secret)
    assert token is not None
    assert (token.name, [scope.value for scope in token.scopes]) == ("app", ["predict", "read"])
    assert token.expires_at is not None
    assert timedelta(days=29) < token.expires_at - datetime.now(timezone.utc) <= timedelta(days=30)
    made: dict[str, Any] = json.loads(ct("token", "create", "other", "--scope", "admin", "--json"))
    assert (made["name"], made["scopes"], made["expires_at"]) == ("other", ["admin"], None)
    listed = ct("token", "list") + ct("token", "list", "--json")
    assert "predict, read" in listed
    assert secret not in listed
    assert token.sha256 not in listed
    assert [each["name"] for each in json.loads(ct("token", "list", "--json"))] == ["app", "other"]
    ct("token", "revoke", "app")
    tokens.refresh()
    assert tokens.find(secret) is None
    assert tokens.find(made["secret"]) is not None


def test_token_commands_refuse_with_a_sentence(store: ModelStore, ct: Callable[..., str]) -> None:
    """A name that is taken, one that is not there, and no scope; an empty list says how to begin."""
    assert "no tokens yet" in ct("token", "list")
    ct("token", "create", "app", "--scope", "read")
    taken = failing(store, "token", "create", "app", "--scope", "read")
    assert taken.returncode == 1
    assert 'There is a token "app" already' in taken.stderr
    assert taken.stdout == ""
    assert "no token" in failing(store, "token", "revoke", "x").stderr
    assert failing(store, "token", "create", "b").returncode == 2
