"""Where the benchmark keeps what it builds and writes.

::

    .bench/ingest/                ignored by git; delete it to begin anew
      flights-<rows>.csv          what is read
      run/                        of the last run: what was written, and its log
    bench/results/ingest.json     what the last whole run measured; committed
"""

from __future__ import annotations

from bench.serving.places import BENCH
from ct.planes import PROJECT

INGEST = BENCH / "ingest"
RUN = INGEST / "run"
RESULTS = PROJECT / "bench" / "results" / "ingest.json"
SCHEMA = PROJECT / "pipelines" / "flights" / "schema.pbtxt"
