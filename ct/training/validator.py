"""Validation: TFDV looks at what arrived, pipeline.yaml says what that does to the run."""
# No `from __future__ import annotations`: TFX's decorator reads the annotations as types.

from pathlib import Path

from tfx.components.statistics_gen.stats_artifact_utils import load_statistics
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts

from ct.errors import DataAnomalyError
from ct.home import write_atomically
from ct.training.checks import Checks
from ct.training.facts import report
from ct.training.findings import LABEL_MISSING, Validation
from ct.training.run import Run, load_run
from ct.training.schema import LABEL_PRESENCE, read_schema
from ct.training.span_statistics import SpanStatistics

SHOWN = 5
BLESSED = "blessed"
"""TFX's own property of an anomalies artifact: split -> 1 or 0."""


@component
def DataValidator(  # noqa: N802  TFX names components like classes
    request_path: Parameter[str],
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    schema: InputArtifact[standard_artifacts.Schema],
    anomalies: OutputArtifact[standard_artifacts.ExampleAnomalies],
) -> None:
    """Compare each split with the schema, the newest span with the one before it and with what serving logged.

    On disk::

        <anomalies>/
          Split-train/SchemaDiff.pb, Split-eval/SchemaDiff.pb    TFDV's Anomalies, as TFX's ExampleValidator writes them
          drift.pb, skew.pb                                      likewise, where there was something to compare with
          findings.json                                          ct.training.findings.Validation

    The statistics of the newest span are kept, for the next run and for `ct data`.

    Raises:
        DataAnomalyError: rows have no label, or a finding's action is `block`; `anomalies` has one line for each that blocks.
        SpanRefusedError: the encoded rows of the span before are gone, and it cannot be read again.
    """
    run, folder = load_run(request_path), Path(anomalies.uri)
    agreed = read_schema(next(Path(schema.uri).glob("*.pbtxt")))
    splits = artifact_utils.decode_split_names(statistics.split_names)
    of_split = {split: load_statistics(statistics, split).proto() for split in splits}
    checks = Checks(run.config, agreed, folder)
    for split in splits:
        checks.keeps_schema(split, of_split[split])
    *older, newest = run.request.spans
    of_newest = of_split["eval"]
    if older:  # else `eval` is not the whole of the newest span
        whole = SpanStatistics(run.home, run.config, run.pipeline_folder / "schema.pbtxt", key=run.request.run_id)
        if run.request.judged == (newest,):
            whole.keep(newest, of_newest)
        else:  # `eval` holds other rows too, or others: the candidate is judged on several spans, or a late one
            of_newest = whole.of(newest)
        checks.drifted(of_newest, whole.of(older[-1]), against=older[-1].name)
    checks.skewed(of_newest, run.home.predictions(run.request.pipeline))
    validation = checks.validation()
    write_atomically(folder / "findings.json", validation.model_dump_json(indent=2))
    anomalies.split_names = artifact_utils.encode_split_names(splits)
    blocked = {finding.split for finding in validation.blocking}
    anomalies.set_json_value_custom_property(BLESSED, {split: int(split not in blocked) for split in splits})
    _report(run, validation)


def _report(run: Run, validation: Validation) -> None:
    facts = validation.model_dump(mode="json")
    warnings = [finding.line for finding in validation.warnings]
    told = f"{len(warnings)} {'warning' if len(warnings) == 1 else 'warnings'}: {'; '.join(warnings[:SHOWN])}"
    compared = f" and does not drift from {validation.against}" if validation.against else ""
    report(told if warnings else f"the data agrees with the schema{compared}", **facts, warnings=warnings, anomalies=[])
    found = [finding.line for finding in validation.blocking]
    if not found:
        return
    name, more = run.request.pipeline, f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise DataAnomalyError(
        f"The data breaks the pipeline's schema: {'; '.join(found[:SHOWN])}{more}. Nothing was trained. Correct the data and "
        f"land it again; or {_edit_of(validation, name)}, `ct deploy`, and `ct trigger {name} --retry-refused`.",
        anomalies=found,
    )


def _edit_of(validation: Validation, pipeline: str) -> str:
    """The edit of the schema after which the same data is trained on, as a step that a person takes."""
    if any(finding.type == LABEL_MISSING for finding in validation.blocking):
        return f"let the label's block in schema.pbtxt say `{LABEL_PRESENCE}`, so that such rows are quarantined"
    accept = [finding.id for finding in validation.blocking if finding.acceptable]
    return f"accept it with `ct schema {pipeline} accept {accept[0]}`" if accept else "correct schema.pbtxt"
