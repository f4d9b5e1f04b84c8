"""ExampleValidator that stops the run: TFX's own writes anomalies down and lets training go on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components import ExampleValidator
from tfx.components.example_validator import executor
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils, standard_component_specs

from ct.errors import DataAnomalyError
from ct.training.facts import report

if TYPE_CHECKING:
    from tfx.types import Artifact

SHOWN = 5


class _Executor(executor.Executor):
    """TFX's executor, which raises when the data breaks the schema."""

    def Do(  # noqa: N802  TFX's name
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        super().Do(input_dict, output_dict, exec_properties)
        anomalies = output_dict[standard_component_specs.ANOMALIES_KEY][0]
        found = list(_read(anomalies))
        if found:
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            raise DataAnomalyError(
                f"The data breaks the pipeline's schema: {'; '.join(found[:SHOWN])}{more}. Nothing was trained. "
                "Correct the data, or schema.pbtxt and `ct deploy` again.",
                anomalies=found,
            )
        report("the data agrees with the schema", anomalies=0)


class StoppingExampleValidator(ExampleValidator):
    """TFX's ExampleValidator; the run ends as failed, before training, when the data breaks the schema.

    Raises:
        DataAnomalyError: from the executor, with one line an anomaly.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(_Executor)


def _read(anomalies: Artifact) -> list[str]:
    found: list[str] = []
    for split in artifact_utils.decode_split_names(anomalies.split_names):
        proto = anomalies_pb2.Anomalies.FromString(
            (Path(anomalies.uri) / f"Split-{split}" / "SchemaDiff.pb").read_bytes()
        )
        found.extend(f"{split}: {name}: {info.description}" for name, info in sorted(proto.anomaly_info.items()))
    return found
