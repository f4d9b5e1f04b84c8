"""The model's own time, without a server: `python -m bench.serving.direct <saved_model> <examples.json>`, in the serving plane.

Answers each line `<rows> <seconds>` on standard input with a JSON line, until the input ends: the signature is called back
to back for so many seconds, with so many rows a call, on tensors that are made beforehand.
"""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import tensorflow as tf

SIGNATURE, OUTPUT = "serving_default", "probability"
WARM_CALLS = 20


def main() -> int:
    """Measure what standard input asks for."""
    saved_model, examples = sys.argv[1:]
    # The threads that serve it fastest, as in serving.version.
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(os.cpu_count() or 1)
    model = tf.saved_model.load(saved_model)
    rows = json.loads(Path(examples).read_text(encoding="utf-8"))["instances"]
    _answer({"ready": True})
    for line in sys.stdin:
        count, seconds = line.split()
        _answer(_measure(model.signatures[SIGNATURE], rows, int(count), float(seconds)))
    return 0


def _measure(signature: Any, rows: list[dict[str, Any]], count: int, seconds: float) -> dict[str, float]:
    taken = list(islice(cycle(rows), count))
    wanted = signature.structured_input_signature[1]
    tensors = {name: tf.constant([row[name] for row in taken], spec.dtype) for name, spec in wanted.items()}
    for _ in range(WARM_CALLS):
        signature(**tensors)[OUTPUT].numpy()
    calls_s: list[float] = []
    began = now = time.perf_counter()
    while now - began < seconds:
        signature(**tensors)[OUTPUT].numpy()
        before, now = now, time.perf_counter()
        calls_s.append(now - before)
    return {"rows_a_second": count * len(calls_s) / (now - began), "p50_ms": median(calls_s) * 1e3}


def _answer(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)  # noqa: T201  the parent reads it


if __name__ == "__main__":
    sys.exit(main())
