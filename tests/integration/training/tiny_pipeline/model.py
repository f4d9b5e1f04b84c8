"""Logistic regression on the two features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf
import tensorflow_transform as tft

from .features import LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tfx.v1.components import FnArgs

KINDS = 8


def run_fn(fn_args: FnArgs) -> None:
    """Train and export with the two signatures that ct asks for."""
    config = fn_args.custom_config
    transform = tft.TFTransformOutput(fn_args.transform_graph_path)
    inputs = {"size": tf.keras.Input((1,), name="size"), "kind": tf.keras.Input((), dtype=tf.int64, name="kind")}
    kind = tf.keras.layers.CategoryEncoding(KINDS, output_mode="one_hot")(tf.expand_dims(inputs["kind"], 1))
    joined = tf.keras.layers.Concatenate()([inputs["size"], kind])
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(1, activation="sigmoid")(joined))
    rate = config["hyperparameters"]["learning_rate"]
    model.compile(tf.keras.optimizers.legacy.Adam(rate), "binary_crossentropy")
    model.fit(_batches(fn_args.train_files, transform, config["batch_size"]), epochs=config["epochs"], verbose=2)
    _export(model, transform, fn_args.serving_model_dir)


def _batches(files: list[str], transform: tft.TFTransformOutput, batch_size: int) -> tf.data.Dataset:
    spec = transform.transformed_feature_spec()

    def parse(batch: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        features = tf.io.parse_example(batch, spec)
        return features, tf.cast(features.pop(LABEL), tf.float32)

    paths = tf.data.Dataset.list_files(files, shuffle=False)
    return tf.data.TFRecordDataset(paths, compression_type="GZIP").batch(batch_size).map(parse)


def _export(model: tf.keras.Model, transform: tft.TFTransformOutput, folder: str) -> None:
    spec = {name: feature for name, feature in transform.raw_feature_spec().items() if name in ("size", "kind")}
    served = tf.Module()  # not the Keras model: the serving plane does not load the optimizer's slots
    served.weights = model.weights
    served.transform = transform.transform_features_layer()

    def predict(features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        transformed = served.transform(dict(features))
        inputs = {name: transformed[name] for name in ("size", "kind")}
        return {"probability": tf.squeeze(model(inputs, training=False), axis=1)}

    @tf.function(input_signature=[{name: tf.TensorSpec([None], f.dtype, name=name) for name, f in spec.items()}])
    def serving_default(features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return predict(features)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serving_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return predict(tf.io.parse_example(examples, spec))

    signatures = {"serving_default": serving_default, "serving_examples": serving_examples}
    tf.saved_model.save(served, folder, signatures=signatures)
