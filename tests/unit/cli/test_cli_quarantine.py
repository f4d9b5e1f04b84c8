"""Rollbacks that stick, forced promotions and pins as a shell sees them, with no server running."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click
import pytest

from ct.cli.main import cli
from ct.contracts import Change, Feature, HistoryEntry, Outcome
from ct.errors import RolloutError
from ct.home import Home
from ct.rollout import ModelStore, apply, plan_rollout
from ct.rollout.journal import Journal
from tests.manifests import manifest_of, write_proof

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

NOW = datetime(2020, 3, 1, 12, tzinfo=timezone.utc)
FEATURES = (Feature(name="carrier", dtype="string"),)
WIDER = (*FEATURES, Feature(name="distance", dtype="float32"))
REFUSED, INCOMPATIBLE = 4, 5


class Registry:
    """An alias that moves."""

    def point_champion(self, name: str, version: int) -> None:
        """Do so."""

    def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Do so."""


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Model `trips`: 1, 2 and 3 were rolled out, 4 was refused, 5 takes one feature more."""
    store = ModelStore(Home(tmp_path / "home").create(), "trips")
    saved_model = tmp_path / "model"
    saved_model.mkdir()
    for version in (1, 2, 3, REFUSED, INCOMPATIBLE):
        outcome = Outcome.REFUSED if version == REFUSED else Outcome.APPROVED
        features = WIDER if version == INCOMPATIBLE else FEATURES
        manifest = manifest_of(
            *("trips", version, saved_model),
            features=features,
            created_at=NOW,
            outcome=outcome,
            seed=version,
            judged_against=3,
        )
        store.stage(saved_model, manifest, {})
        write_proof(store, version)
    for version in (1, 2, 3):
        plan = plan_rollout("trips", version, **store.facts(3))
        apply(plan, store, Registry(), actor="run r", reason="better", clock=lambda: NOW)
    return store


@pytest.fixture
def ct(store: ModelStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command in this process against the store's home, with MLflow out of reach; its output and error output."""
    monkeypatch.setenv("CT_HOME", str(store.root.parent.parent))
    monkeypatch.setenv("CT_MLFLOW_URL", "http://127.0.0.1:1")

    def run(*arguments: str) -> str:
        capsys.readouterr()
        cli.main(list(arguments), standalone_mode=False)
        captured = capsys.readouterr()
        return captured.out if "--json" in arguments else captured.out + captured.err

    return run


def rows_of(shown: str) -> dict[str, str]:
    """Version -> its line in the table of `ct models`."""
    lines = [(line.split(), line) for line in shown.splitlines()]
    return {words[0]: line for words, line in lines if words and words[0].isdecimal()}


def test_a_rollback_sticks_until_it_is_lifted(store: ModelStore, ct: Callable[..., str]) -> None:
    """It says what is in quarantine; a rollout of that fails with the way out; a lift lets it, and stays on record."""
    told = ct("rollback", "trips", "--reason", "complaints", "--who", "anna")
    assert "version 3 -> 2" in told
    assert "version 3 is in quarantine; `ct quarantine trips --lift 3" in told
    with pytest.raises(RolloutError, match="is in quarantine"):
        ct("rollout", "trips", "--version", "3", "--force", "--reason", "never mind")
    listed = ct("quarantine", "trips")
    assert ("anna" in listed, "complaints" in listed) == (True, True)
    lifted = ct("quarantine", "trips", "--lift", "3", "--reason", "it was the network", "--who", "bert")
    assert 'version 3 is out of quarantine (it was there for: "complaints")' in lifted
    assert "version 2 -> 3" in ct("rollout", "trips", "--version", "3")
    (record,) = json.loads(ct("quarantine", "trips", "--json"))
    assert (record["version"], record["lifted"]["by"], record["lifted"]["reason"]) == (3, "bert", "it was the network")


def test_a_drill_quarantines_nothing(store: ModelStore, ct: Callable[..., str]) -> None:
    """`--keep` goes back, and forward again."""
    assert json.loads(ct("rollback", "trips", "--keep", "--json"))["quarantined"] is None
    assert "version 2 -> 3" in ct("rollback", "trips", "--to", "3", "--keep")
    assert "no version of trips was ever in quarantine" in ct("quarantine", "trips")


def test_a_dry_run_of_a_rollback_prints_the_quarantine(store: ModelStore, ct: Callable[..., str]) -> None:
    """As a step, and in JSON."""
    assert "4. quarantine version 3, so that" in ct("rollback", "trips", "--dry-run")
    assert json.loads(ct("rollback", "trips", "--dry-run", "--json"))["quarantined"] == 3
    assert store.quarantined() == ()


def test_a_refused_version_serves_only_by_force_with_a_reason(store: ModelStore, ct: Callable[..., str]) -> None:
    """History, `ct at` and `ct models` say so for ever; MLflow that is down does not stop it."""
    with pytest.raises(RolloutError, match=r"was not approved by the gate \(refused\)"):
        ct("rollout", "trips", "--version", str(REFUSED))
    with pytest.raises(click.UsageError, match="needs a --reason"):
        ct("rollout", "trips", "--version", str(REFUSED), "--force")
    told = ct("rollout", "trips", "--version", str(REFUSED), "--force", "--reason", "the boss", "--who", "anna")
    assert "the gate or the proof was overruled" in told
    assert "MLflow is behind: MLflow at" in told
    last = store.history()[-1]
    assert (last.forced, last.actor, last.reason) == (True, "anna", "the boss")
    ct("rollout", "trips", "--version", "1")
    line = next(line for line in ct("history", "trips").splitlines() if "the boss" in line)
    assert "forced" in line
    shown = rows_of(ct("models", "trips"))
    assert ("forced" in shown["4"], "refused" in shown["4"], "forced" in shown["3"]) == (True, True, False)


def test_at_says_that_a_version_was_forced(store: ModelStore, ct: Callable[..., str]) -> None:
    """With who and why."""
    ct("rollout", "trips", "--version", str(REFUSED), "--force", "--reason", "the boss")
    assert "rollout (forced) by" in ct("at", "trips", datetime.now(timezone.utc).isoformat())


def test_a_canary_of_a_refused_version_needs_force_and_a_shadow_does_not(
    store: ModelStore, ct: Callable[..., str]
) -> None:
    """A canary answers clients."""
    with pytest.raises(RolloutError, match="was not approved"):
        ct("rollout", "trips", "--version", str(REFUSED), "--canary", "10%")
    assert "predicts unseen" in ct("rollout", "trips", "--version", str(REFUSED), "--shadow")
    arguments = ("--version", str(REFUSED), "--canary", "10%", "--force", "--reason", "to see")
    assert "answers 10%" in ct("rollout", "trips", *arguments)
    assert store.history()[-1].forced


def test_other_features_need_a_flag_of_their_own(store: ModelStore, ct: Callable[..., str]) -> None:
    """Force does not help; what clients lack is named."""
    with pytest.raises(RolloutError, match=r"distance \(float32\) is new and required"):
        ct("rollout", "trips", "--version", str(INCOMPATIBLE), "--force", "--reason", "now")
    assert "version 3 -> 5" in ct("rollout", "trips", "--version", str(INCOMPATIBLE), "--allow-incompatible")
    assert not store.history()[-1].forced


def test_models_show_verdicts_states_and_marks(store: ModelStore, ct: Callable[..., str]) -> None:
    """Serving, warm, quarantined and pinned, as text and as JSON."""
    ct("rollback", "trips")
    assert "pinned versions: 1" in ct("pin", "trips", "1")
    shown = rows_of(ct("models", "trips"))
    assert ("warm, pinned" in shown["1"], "serving" in shown["2"], "quarantined" in shown["3"]) == (True, True, True)
    (model,) = json.loads(ct("models", "--json"))
    assert (model["quarantined"], model["pinned"]) == ([3], [1])
    assert {version["version"]: version["states"] for version in model["versions"]} == {
        1: ["warm", "pinned"],
        2: ["serving"],
        3: ["quarantined"],
        4: [],
        5: [],
    }
    assert json.loads(ct("pin", "trips", "1", "--off", "--json"))["pinned"] == []


def test_the_next_rollout_finishes_one_that_was_cut_short(store: ModelStore, ct: Callable[..., str]) -> None:
    """And says so; both are in the history."""
    plan = plan_rollout("trips", 1, **store.facts(3))
    entry = HistoryEntry(
        generation=4, change=Change.ROLLOUT, version=1, previous=3, at=NOW, actor="killed", reason="for a while"
    )
    store.begin(Journal(before=plan.before, after=plan.after, entry=entry))
    store.desire(plan.after)
    told = ct("rollout", "trips", "--version", "2")
    assert 'the rollout of "trips" (version 1) by killed, cut short, is finished' in told
    assert [entry.version for entry in store.history()] == [1, 2, 3, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("quarantine", "trips", "--lift", "3"), "needs a --reason"),
        (("quarantine", "trips", "--lift", "3", "--reason", " "), "needs a --reason"),
        (("quarantine", "trips", "--reason", "x"), "they need --lift"),
        (("pin", "trips", "--off"), "Say which version"),
    ],
)
def test_half_questions_are_usage_errors(
    store: ModelStore, ct: Callable[..., str], arguments: tuple[str, ...], message: str
) -> None:
    """Nothing is changed."""
    with pytest.raises(click.UsageError) as refused:
        ct(*arguments)
    assert message in refused.value.message
    assert (store.pinned(), store.quarantine_records()) == ((), ())
