"""Canary and shadow on a serving process: who answers, what is counted and kept."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
import tensorflow as tf
from serving_process import (
    FEATURES,
    ROW,
    await_true,
    begin_canary,
    begin_shadow,
    end,
    predict,
    roll_back,
    roll_out,
)

from ct.contracts import Feature
from ct.errors import RolloutError
from ct.rollout import tree_sha256
from serving.logs.prediction_log import read

if TYPE_CHECKING:
    from pathlib import Path

    import httpx
    from serving_process import Served

    from ct.rollout import ModelStore

KEYS = [f"user-{number}" for number in range(400)]


def versions(client: httpx.Client, header: str = "ct-key") -> dict[str, str]:
    """Key -> the version that answers it."""
    return {
        key: client.post("/v1/models/trips:predict", json={"instances": [ROW]}, headers={header: key}).headers[
            "ct-model-version"
        ]
        for key in KEYS
    }


def counted(client: httpx.Client, metric: str, **labels: str) -> float:
    """The sum of a metric over all series with these labels."""
    total = 0.0
    for line in client.get("/metrics").text.splitlines():
        found = re.fullmatch(rf"{metric}\{{(.*)\}} (\S+)", line)
        if found and labels.items() <= dict(re.findall(r'(\w+)="([^"]*)"', found[1])).items():
            total += float(found[2])
    return total


def test_a_canary_answers_its_share_of_the_keys(client: httpx.Client, store: ModelStore) -> None:
    """The same keys each time, the answer says which variant; a rollback ends it."""
    assert begin_canary(store, 3, 0.2, "header:ct-key") == 1
    answered = versions(client)
    share = Counter(answered.values())["3"] / len(KEYS)
    assert 0.12 < share < 0.28
    assert answered == versions(client)
    canary_key = next(key for key, version in answered.items() if version == "3")
    answer = client.post("/v1/models/trips:predict", json={"instances": [ROW]}, headers={"ct-key": canary_key})
    assert (answer.headers["ct-model-variant"], answer.json()) == ("canary", {"predictions": [pytest.approx(0.6)]})
    assert predict(client).headers["ct-model-variant"] == "champion"  # no key
    assert predict(client, "/v1/models/trips/labels/canary:predict").headers["ct-model-version"] == "3"
    begin_canary(store, 3, 0.5, "header:ct-key")
    grown = versions(client)
    assert {key for key in KEYS if answered[key] == "3"} < {key for key in KEYS if grown[key] == "3"}
    assert counted(client, "ct_requests_total", model="trips", version="3", variant="canary") > 0
    assert counted(client, "ct_request_seconds_count", version="3", variant="canary") > 0
    roll_back(store, to=1)
    assert set(versions(client).values()) == {"1"}
    assert client.get("/v1/models/trips/labels/canary").status_code == 404


def test_a_canary_can_follow_a_feature(client: httpx.Client, store: ModelStore) -> None:
    """All rows of a carrier are answered by one version, on every protocol."""
    begin_canary(store, 3, 0.5, "feature:carrier")
    by_carrier = {}
    for carrier in map(str, range(40)):
        answers = [
            client.post("/v1/models/trips:predict", json={"instances": [{**ROW, "carrier": carrier}]}),
            client.post("/invocations", json={"dataframe_records": [{**ROW, "carrier": carrier}]}),
            client.post("/predict", json={"model": "trips", "instances": [{**ROW, "carrier": carrier}]}),
        ]
        (by_carrier[carrier],) = {answer.headers["ct-model-version"] for answer in answers}
    assert set(by_carrier.values()) == {"2", "3"}
    end(store)
    assert predict(client).headers["ct-model-version"] == "2"


def test_a_shadow_predicts_the_same_rows_and_nobody_sees_it(
    served: Served, client: httpx.Client, store: ModelStore
) -> None:
    """Its predictions are counted and kept under the request's id, beside the champion's."""
    before = counted(client, "ct_requests_total", version="3", variant="shadow")
    begin_shadow(store, 3)
    began = datetime.now(timezone.utc) - timedelta(seconds=1)
    for number in range(20):
        answer = client.post(
            "/v1/models/trips:predict", json={"instances": [ROW]}, headers={"x-request-id": f"s-{number}"}
        )
        assert (answer.headers["ct-model-version"], answer.json()) == ("2", {"predictions": [0.4]})
    await_true(lambda: counted(client, "ct_requests_total", version="3", variant="shadow") == before + 20, 10)
    assert counted(client, "ct_shadow_rows_total", version="3", below="0.5") >= 20

    def logged() -> dict[tuple[str, str], float]:
        found = {}
        for batch in read(served.home, "trips", since=began, variants=("champion", "shadow")):
            rows = batch.to_pydict()
            for request, variant, value in zip(
                rows["ct_request_id"], rows["ct_variant"], rows["ct_prediction"], strict=True
            ):
                found[request, variant] = value
        return found

    await_true(lambda: ("s-19", "shadow") in logged(), 20)
    for number in range(20):
        assert logged()[f"s-{number}", "champion"] == pytest.approx(0.4)
        assert logged()[f"s-{number}", "shadow"] == pytest.approx(0.6)
    end(store)


def stage_with_another_feature(store: ModelStore, folder: Path, version: int) -> None:
    """A version that loads and predicts what it did offline, from a distance in whole miles."""
    module = tf.Module()

    @tf.function
    def predict(carrier: tf.Tensor, distance: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probability": tf.cast(distance + tf.cast(tf.strings.length(carrier), tf.int64), tf.float32) / 100}

    column = (tf.TensorSpec([None], tf.string, "carrier"), tf.TensorSpec([None], tf.int64, "distance"))
    saved_model = folder / "other"
    tf.saved_model.save(module, str(saved_model), {"serving_default": predict.get_concrete_function(*column)})
    manifest = store.manifest(3).model_copy(
        update={
            "version": version,
            "features": (*FEATURES[:1], Feature(name="distance", dtype="int64")),
            "saved_model_sha256": tree_sha256(saved_model),
        }
    )
    store.stage(saved_model, manifest, {"instances": [{"carrier": "UA", "distance": 8}], "predictions": [0.1]})


def test_a_version_with_other_features_cannot_be_a_canary_or_shadow(
    client: httpx.Client, store: ModelStore, tmp_path: Path
) -> None:
    """It could not answer the same requests; what served serves on, and nothing else is left of it. Alone it can serve."""
    stage_with_another_feature(store, tmp_path, 6)
    for begin in (lambda: begin_canary(store, 6, 0.1, "header:ct-key"), lambda: begin_shadow(store, 6)):
        with pytest.raises(RolloutError, match=r"was not taken.*takes other features than version 2"):
            begin()
    assert predict(client).headers["ct-model-version"] == "2"
    desired = store.desired()
    assert desired is not None
    assert (desired.canary, desired.shadow) == (None, None)
    roll_out(store, 6)
    assert predict(client, instances=[{"carrier": "UA", "distance": 8}]).json() == {"predictions": [pytest.approx(0.1)]}


def test_a_full_rollout_ends_what_runs_beside(client: httpx.Client, store: ModelStore) -> None:
    """The canary's version answers everyone then."""
    begin_canary(store, 3, 0.5, "header:ct-key")
    begin_shadow(store, 1)
    roll_out(store, 3)
    assert set(versions(client).values()) == {"3"}
    desired = store.desired()
    assert desired is not None
    assert (desired.canary, desired.shadow) == (None, None)
