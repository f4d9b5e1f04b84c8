"""What the model sees of a flight: one numeric matrix and a few category ids, computed the same in training and serving."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import tensorflow as tf
import tensorflow_transform as tft

if TYPE_CHECKING:
    from collections.abc import Mapping

LABEL = "arr_late"
NUMBERS = ("distance", "temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib")
HUNDREDTHS_AN_INCH = 100.0
MINUTES_A_DAY = 24 * 60
DEGREES = 360

HASHED = {"carrier": 64, "origin": 8, "dest": 256, "route": 1024, "carrier_dest": 1024, "carrier_hour": 1024}
"""Category -> buckets. Hashing instead of vocabularies: new destinations appear in most months, and a hash needs no pass over
the data and gives a new value an id that training can learn from at once."""
INDEXED = {"hour": 24, "weekday": 7}
CATEGORIES = {**HASHED, **INDEXED}
"""Category -> ids, in the order of the columns of `categories`."""

NUMERIC_WIDTH = len(NUMBERS) + 8
RAW_FEATURES = (
    "carrier",
    "origin",
    "dest",
    "day_of_week",
    "sched_dep_minute",
    "sched_arr_minute",
    "wind_dir",
    *NUMBERS,
)
"""What a client sends. `time_hour` orders the rows of a span and is no feature."""


def preprocessing_fn(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Raw features to model inputs.

    Two matrices rather than twenty vectors: fewer operations to trace, to parse and to run for each request.

    Args:
        inputs: schema.pbtxt's features, each of shape (batch,).

    Returns:
        `numeric`: float32, (batch, NUMERIC_WIDTH), scaled to mean 0 and variance 1 over the training split;
        `categories`: int64, (batch, len(CATEGORIES)), ids below each category's count; and the label.
    """
    return {
        "numeric": tft.scale_to_z_score(_numeric(inputs), elementwise=True),
        "categories": _categories(inputs),
        LABEL: inputs[LABEL],
    }


def _categories(inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Ids of single categories, and of pairs whose lateness is not the sum of both."""
    hour = inputs["sched_dep_minute"] // 60 % INDEXED["hour"]
    texts = {
        "carrier": inputs["carrier"],
        "origin": inputs["origin"],
        "dest": inputs["dest"],
        "route": tf.strings.join([inputs["origin"], inputs["dest"]], "-"),
        "carrier_dest": tf.strings.join([inputs["carrier"], inputs["dest"]], "-"),
        "carrier_hour": tf.strings.join([inputs["carrier"], tf.strings.as_string(hour)], "-"),
    }
    ids = {name: tf.strings.to_hash_bucket_fast(text, HASHED[name]) for name, text in texts.items()}
    ids |= {"hour": hour, "weekday": inputs["day_of_week"] % INDEXED["weekday"]}
    return tf.stack([ids[name] for name in CATEGORIES], axis=1)


def _numeric(inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """One matrix, so that scaling is one analyzer and one operation; times and directions as points on a circle."""
    departure = tf.cast(inputs["sched_dep_minute"], tf.float32) / MINUTES_A_DAY
    arrival = tf.cast(inputs["sched_arr_minute"], tf.float32) / MINUTES_A_DAY
    rain = tf.math.log1p(tf.maximum(inputs["precip"], 0.0) * HUNDREDTHS_AN_INCH)
    circles = tf.stack([departure, arrival, inputs["wind_dir"] / DEGREES], axis=1) * (2 * math.pi)
    vectors = tf.stack([*(inputs[name] for name in NUMBERS), rain, departure], axis=1)
    return tf.concat([vectors, tf.sin(circles), tf.cos(circles)], axis=1)
