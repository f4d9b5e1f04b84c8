"""pipelines/flights trains and exports: real TensorFlow Transform and Keras on a few hundred made-up flights."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io, schema_utils

import pipelines.flights
from ct.config import load_pipeline_config
from ct.training.schema import read_schema
from pipelines.flights import features, model

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(pipelines.flights.__file__).parent
CONFIG = load_pipeline_config(FOLDER)
ROWS = 600
GUSTY_MPH = 30.0
DTYPES = {"carrier": tf.string, "origin": tf.string, "dest": tf.string, "distance": tf.float32, "day_of_week": tf.int64}


def flights(rows: int, seed: int) -> list[dict[str, Any]]:
    """Made-up flights, late when it is gusty, with every column of the schema."""
    chance = random.Random(seed)  # noqa: S311  no secret
    made = []
    for _ in range(rows):
        flight: dict[str, Any] = {name: chance.uniform(0, 30) for name in features.NUMBERS}
        gust = chance.uniform(0, 60)
        flight |= {
            "time_hour": "2013-01-01T10:00:00Z",
            "carrier": chance.choice(["UA", "B6"]),
            "origin": chance.choice(["EWR", "JFK"]),
            "dest": chance.choice(["IAH", "MIA"]),
            "day_of_week": chance.randrange(7),
            "sched_dep_minute": chance.randrange(1440),
            "sched_arr_minute": chance.randrange(1440),
            "wind_dir": chance.uniform(0, 360),
            "wind_gust": gust,
            "arr_late": int(gust > GUSTY_MPH),
        }
        made.append(flight)
    return made


@pytest.fixture(scope="module")
def transformed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`graph`: the transform graph; `train-*.gz`: the transformed examples."""
    folder = tmp_path_factory.mktemp("flights")
    metadata = dataset_metadata.DatasetMetadata(read_schema(FOLDER / "schema.pbtxt"))
    with beam.Pipeline() as pipeline, tft_beam.Context(temp_dir=str(folder / "tmp")):
        raw = pipeline | beam.Create(flights(ROWS, seed=1))
        (rows, made), transform = (raw, metadata) | tft_beam.AnalyzeAndTransformDataset(features.preprocessing_fn)
        examples = rows | beam.Map(lambda row, schema: tft.coders.ExampleProtoCoder(schema).encode(row), made.schema)
        examples | beam.io.WriteToTFRecord(str(folder / "train"), file_name_suffix=".gz", num_shards=1)
        transform | tft_beam.WriteTransformFn(str(folder / "graph"))
    metadata_io.write_metadata(metadata, str(folder / "graph" / tft.TFTransformOutput.RAW_METADATA_DIR))
    return folder


@pytest.fixture(scope="module")
def train(transformed: Path) -> Callable[[Path], Any]:
    """Train as the Trainer node does, and load what was exported."""

    def run(to: Path) -> Any:
        model.run_fn(
            SimpleNamespace(
                train_files=[str(transformed / "train*")],
                eval_files=[],
                transform_graph_path=str(transformed / "graph"),
                serving_model_dir=str(to),
                train_steps=None,
                custom_config={
                    **CONFIG.train.model_dump(),
                    "batch_size": 32,
                    "epochs": 4,
                    "seed": 1,
                    "label": "arr_late",
                },
            )
        )
        return tf.saved_model.load(str(to))

    return run


@pytest.fixture(scope="module")
def exported(train: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trained model as serving loads it."""
    return train(tmp_path_factory.mktemp("model"))


def predict(exported: Any, rows: list[dict[str, Any]]) -> Any:
    """Probabilities of raw features, one tensor a feature."""
    signature = exported.signatures["serving_default"]
    wanted = signature.structured_input_signature[1]
    return signature(**{name: tf.constant([row[name] for row in rows], spec.dtype) for name, spec in wanted.items()})


def test_serving_takes_the_raw_features_and_nothing_else(exported: Any) -> None:
    """Not the label, and not the time, which no client should have to send."""
    wanted = exported.signatures["serving_default"].structured_input_signature[1]
    assert sorted(wanted) == sorted(features.RAW_FEATURES)
    assert {name: wanted[name].dtype for name in DTYPES} == DTYPES
    assert all(spec.shape.as_list() == [None] for spec in wanted.values())


def test_both_signatures_give_the_same_probabilities(exported: Any) -> None:
    """What TFMA judges is what clients get."""
    rows = flights(50, seed=2)
    schema = schema_utils.schema_as_feature_spec(read_schema(FOLDER / "schema.pbtxt")).feature_spec
    examples = [_example(row, schema) for row in rows]
    judged = exported.signatures["serving_examples"](examples=tf.constant(examples))
    served = predict(exported, rows)
    assert list(judged) == list(served) == ["probability"]
    assert served["probability"].dtype == tf.float32
    assert served["probability"].shape == (50,)
    assert judged["probability"].numpy().tolist() == served["probability"].numpy().tolist()


def test_the_model_learns_what_makes_flights_late(exported: Any) -> None:
    """Gusts, in this made-up data; on rows it has not seen."""
    rows = flights(200, seed=3)
    auc = tf.keras.metrics.AUC()
    auc.update_state([row["arr_late"] for row in rows], predict(exported, rows)["probability"])
    assert float(auc.result()) > 0.9


def test_a_destination_that_was_never_seen_gets_a_prediction(exported: Any) -> None:
    """New destinations appear in most months."""
    (flight,) = flights(1, seed=4)
    (probability,) = predict(exported, [{**flight, "dest": "CHO", "carrier": "XX"}])["probability"].numpy()
    assert 0 < probability < 1


def test_the_same_seed_and_data_give_the_same_model(
    exported: Any, train: Callable[[Path], Any], tmp_path: Path
) -> None:
    """A run can be repeated."""
    rows = flights(50, seed=5)
    again = predict(train(tmp_path), rows)["probability"].numpy()
    assert again == pytest.approx(predict(exported, rows)["probability"].numpy(), abs=1e-6)


def _example(row: dict[str, Any], spec: dict[str, Any]) -> bytes:
    """A raw row as ExampleGen writes it."""
    kinds = {
        tf.string: lambda value: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()])),
        tf.int64: lambda value: tf.train.Feature(int64_list=tf.train.Int64List(value=[value])),
        tf.float32: lambda value: tf.train.Feature(float_list=tf.train.FloatList(value=[value])),
    }
    feature = {name: kinds[spec[name].dtype](value) for name, value in row.items()}
    return bytes(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
