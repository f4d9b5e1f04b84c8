"""A small wide-and-deep network: embeddings and weather through one hidden layer, beside one weight a category."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf
import tensorflow_transform as tft

from .features import CATEGORIES, LABEL, NUMERIC_WIDTH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tfx.v1.components import FnArgs

EMBEDDED = ("carrier", "origin", "dest", "hour", "weekday")
SHUFFLE_ROWS = 200_000
"""More than the rows of half a year: spans arrive in time order, and batches must not be one day each."""


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
        _batches(fn_args.train_files, transform, config["batch_size"], config["seed"]), epochs=config["epochs"], verbose=2
    )
    export(model, transform, fn_args.serving_model_dir)


def build_model(hyperparameters: Mapping[str, float]) -> tf.keras.Model:
    """An untrained model: inputs as features.preprocessing_fn makes them, output a probability, float32 (batch, 1)."""
    layers, l2 = tf.keras.layers, tf.keras.regularizers.l2(hyperparameters["l2"])
    inputs = {name: tf.keras.Input((), dtype=tf.int64, name=name) for name in CATEGORIES}
    inputs["numeric"] = tf.keras.Input((NUMERIC_WIDTH,), name="numeric")
    width = int(hyperparameters["embedding_size"])
    embedded = [
        layers.Embedding(CATEGORIES[name], width, embeddings_regularizer=l2, name=f"{name}_embedding")(inputs[name])
        for name in EMBEDDED
    ]
    deep = layers.Concatenate()([inputs["numeric"], *embedded])
    deep = layers.Dense(int(hyperparameters["hidden_units"]), activation="relu", kernel_regularizer=l2)(deep)
    deep = layers.Dropout(hyperparameters["dropout"])(deep)
    wide = [
        layers.Embedding(size, 1, embeddings_initializer="zeros", embeddings_regularizer=l2, name=f"{name}_weight")(
            inputs[name]
        )
        for name, size in CATEGORIES.items()
    ]
    logit = layers.Add()([layers.Dense(1)(deep), *wide])
    model = tf.keras.Model(inputs, tf.keras.layers.Activation("sigmoid")(logit))
    model.compile(tf.keras.optimizers.legacy.Adam(hyperparameters["learning_rate"]), "binary_crossentropy")
    return model


def export(model: tf.keras.Model, transform: tft.TFTransformOutput, folder: str) -> None:
    """Write a SavedModel whose signatures take raw features.

    `serving_default` takes one tensor a feature, shape (batch,); `serving_examples` takes serialized tf.Examples, string
    (batch,). Both return `probability`, float32 (batch,).
    """
    spec = {name: feature for name, feature in transform.raw_feature_spec().items() if name != LABEL}
    served = tf.Module()  # not the Keras model: serving needs no optimizer, no training functions and no Keras
    served.weights = model.weights
    served.transform = transform.transform_features_layer()

    def predict(features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        transformed = served.transform(dict(features))
        inputs = {name: transformed[name] for name in (*CATEGORIES, "numeric")}
        return {"probability": tf.squeeze(model(inputs, training=False), axis=1)}

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
