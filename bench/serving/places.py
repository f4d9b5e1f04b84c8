"""Where the benchmark keeps what it builds and writes.

::

    .bench/                  ignored by git; delete it to begin anew
      envs/<peer>/           an environment of its own for each peer
      <tool>-<version>/      a load generator that was built here
      model/<key>/           the trained model (bench.serving.model)
      run/                   of the last run: our CT_HOME, bodies, the servers' logs
    bench/
      requirements/          the peers' hashed pins
      results/serving.json   what the last whole run measured; committed
"""

from __future__ import annotations

from ct.planes import PROJECT

BENCH = PROJECT / ".bench"
ENVIRONMENTS = BENCH / "envs"
MODELS = BENCH / "model"
RUN = BENCH / "run"
REQUIREMENTS = PROJECT / "bench" / "requirements"
RESULTS = PROJECT / "bench" / "results" / "serving.json"
PEERS_CODE = PROJECT / "bench" / "serving" / "peers"
