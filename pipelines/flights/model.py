"""A small wide-and-deep network: embeddings and weather through one hidden layer, beside one weight a category."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf
import tensorflow_transform as tft

from .features import CATEGORIES, LABEL, RAW_FEATURES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tfx.v1.components import FnArgs

EMBEDDED = ("carrier", "origin", "dest", "hour", "weekday")
"""Categories that the hidden layer sees; crosses have only a weight each, because most are rare."""
SHUFFLE_ROWS = 400_000
"""More than a year has: spans arrive in time order, and batches must not be one day each."""


def run_fn(fn_args: FnArgs) -> None:
    """TFX's entry point: train on the train files and export with both signatures.

    Args:
        fn_args: TFX's; `custom_config` holds epochs, batch_size, hyperparameters, seed and label of pipeline.yaml.
    """
    config = fn_args.custom_config
    transform = tft.TFTransformOutput(fn_args.transform_graph_path)
    tf.keras.utils.set_random_seed(config["seed"])
    model = build_model(config["hyperparameters"])
    model.fit(
        _batches(fn_args.train_files, transform, config["batch_size"], config["seed"]),
        epochs=config["epochs"],
        verbose=2,
    )
    export(model, transform, fn_args.serving_model_dir)


class WideAndDeep(tf.keras.Model):
    """Takes what features.preprocessing_fn makes, without the label, and returns a probability: float32, (batch, 1).

    All categories share one table, a row an id: its first number is the id's weight, the rest its embedding. That is one
    look-up a request instead of thirteen.
    """

    def __init__(self, hyperparameters: Mapping[str, float]) -> None:
        super().__init__()
        layers, l2 = tf.keras.layers, tf.keras.regularizers.l2(hyperparameters["l2"])
        sizes = list(CATEGORIES.values())
        self.offsets = [sum(sizes[:position]) for position in range(len(sizes))]
        self.embedded = [list(CATEGORIES).index(name) for name in EMBEDDED]
        width = int(hyperparameters["embedding_size"])
        self.table = layers.Embedding(sum(sizes), 1 + width, _zero_weights, embeddings_regularizer=l2)
        self.hidden = layers.Dense(int(hyperparameters["hidden_units"]), activation="relu", kernel_regularizer=l2)
        self.dropout = layers.Dropout(hyperparameters["dropout"])
        self.last = layers.Dense(1)

    @tf.autograph.experimental.do_not_convert
    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:  # noqa: FBT001  Keras'
        rows = self.table(inputs["categories"] + tf.constant(self.offsets, tf.int64))
        embedded = tf.gather(rows[:, :, 1:], self.embedded, axis=1)
        flat = tf.reshape(embedded, [-1, len(self.embedded) * embedded.shape[2]])
        deep = self.dropout(self.hidden(tf.concat([inputs["numeric"], flat], axis=1)), training=training)
        return tf.sigmoid(self.last(deep) + tf.reduce_sum(rows[:, :, :1], axis=1))


def build_model(hyperparameters: Mapping[str, float]) -> tf.keras.Model:
    """An untrained model, ready to fit."""
    model = WideAndDeep(hyperparameters)
    model.compile(tf.keras.optimizers.legacy.Adam(hyperparameters["learning_rate"]), "binary_crossentropy")
    return model


def _zero_weights(shape: tuple[int, int], dtype: tf.DType) -> tf.Tensor:
    """The table before training: weights 0, embeddings small and random as Keras' own."""
    ids, width = shape
    embeddings = tf.random.uniform((ids, width - 1), -0.05, 0.05, dtype)
    return tf.concat([tf.zeros((ids, 1), dtype), embeddings], axis=1)


def export(model: tf.keras.Model, transform: tft.TFTransformOutput, folder: str) -> None:
    """Write a SavedModel whose signatures take raw features.

    `serving_default` takes one tensor a feature, shape (batch,); `serving_examples` takes serialized tf.Examples, string
    (batch,). Both return `probability`, float32 (batch,).
    """
    spec = {name: feature for name, feature in transform.raw_feature_spec().items() if name in RAW_FEATURES}
    served = tf.Module()  # not the Keras model: serving needs no optimizer, no training functions and no Keras
    served.weights = model.weights
    served.transform = transform.transform_features_layer()

    def predict(features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        transformed = served.transform(dict(features))
        return {"probability": tf.squeeze(model(transformed, training=False), axis=1)}

    @tf.function(input_signature=[{name: tf.TensorSpec([None], f.dtype, name=name) for name, f in spec.items()}])
    def serving_default(features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return predict(features)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serving_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return predict(tf.io.parse_example(examples, spec))

    signatures = {"serving_default": serving_default, "serving_examples": serving_examples}
    tf.saved_model.save(served, folder, signatures=signatures)


def _batches(files: list[str], transform: tft.TFTransformOutput, batch_size: int, seed: int) -> tf.data.Dataset:
    """Shuffled batches of (inputs, label) from transformed examples; the label is float32 (batch,)."""
    spec = transform.transformed_feature_spec()
    paths = tf.data.Dataset.list_files(files, shuffle=False)
    rows = tf.data.TFRecordDataset(paths, compression_type="GZIP").cache().shuffle(SHUFFLE_ROWS, seed=seed)

    def parse(batch: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        features = tf.io.parse_example(batch, spec)
        label = tf.cast(features.pop(LABEL), tf.float32)
        return features, label

    return rows.batch(batch_size).map(parse, num_parallel_calls=2).prefetch(4)
