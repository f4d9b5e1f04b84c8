"""TFX's CsvExampleGen on one CSV file: `python -m bench.ingest.theirs <csv> <folder>`, in the training plane.

Its executor alone, with the component's defaults: no driver, no ML Metadata, no publisher, which would only cost it time.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tfx import v1 as tfx
from tfx.components.example_gen.csv_example_gen.executor import Executor
from tfx.dsl.components.base import base_beam_executor
from tfx.types import standard_artifacts

from bench.ingest.measured import measure
from bench.ingest.ours import count_rows


def main() -> int:
    """Encode the file."""
    path, folder = (Path(argument) for argument in sys.argv[1:])
    source = folder / "source"
    source.mkdir(parents=True)
    (source / path.name).symlink_to(path)
    examples = standard_artifacts.Examples()
    examples.uri = str(folder / "examples")
    component = tfx.components.CsvExampleGen(input_base=str(source))
    context = base_beam_executor.BaseBeamExecutor.Context(tmp_dir=str(folder / "temporary"), unique_id="bench")
    executor = Executor(context)
    properties = dict(component.exec_properties)
    measure(lambda: executor.Do({}, {"examples": [examples]}, properties), lambda: count_rows(Path(examples.uri)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
