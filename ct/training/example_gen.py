"""ExampleGen: the spans of a run as TFX examples, each span encoded once and kept by its content hash.

On disk::

    artifacts/<pipeline>/
      spans/<sha256>-<schema hash>-<part>/    ct.training.encode
        data_tfrecord-00000-of-00004.gz
        ready.json
      ExampleGen/examples/<execution>/
        Split-train/        hard links to the files above: every span but those to judge on
        Split-eval/         the spans to judge on, usually the newest alone
"""
# No `from __future__ import annotations`: TFX's decorator reads the annotations as types.

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts

from ct.contracts import Span
from ct.deploy import schema_hash
from ct.errors import SpanRefusedError
from ct.training.encode import Part, ready_part
from ct.training.encode_span import HoldOut, SpanEncoder
from ct.training.facts import report
from ct.training.run import Run, load_run
from ct.training.schema import columns_of, read_schema

_log = logging.getLogger(__name__)
Encoded = TypeVar("Encoded")


@component
def SpanExampleGen(  # noqa: N802  TFX names components like classes
    request_path: Parameter[str], examples: OutputArtifact[standard_artifacts.Examples]
) -> None:
    """Examples of the run's window, split by span: `eval` holds those to judge on, `train` all others.

    Of an only span the last days (`window.first_span_holdout_days`) are `eval`.

    Raises:
        SpanRefusedError: a span cannot be read as the schema asks.
    """
    run = load_run(request_path)
    splits = _parts(run)
    for split, parts in splits.items():
        folder = Path(examples.uri) / f"Split-{split}"
        folder.mkdir(parents=True, exist_ok=True)
        files = [file for part in parts for file in part.files]
        for index, file in enumerate(files):
            os.link(file, folder / f"data_tfrecord-{index:05}-of-{len(files):05}.gz")
    examples.split_names = artifact_utils.encode_split_names(list(splits))
    examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, "tfrecords_gzip")
    judged = "+".join(span.name for span in run.request.judged)
    examples.set_string_custom_property("span", judged)
    rows = {split: sum(part.rows for part in parts) for split, parts in splits.items()}
    quarantined = sum(part.quarantined for parts in splits.values() for part in parts)
    report(
        f"{rows['train']:,} rows to train on, {rows['eval']:,} of span {judged} to judge on, {quarantined} quarantined",
        rows=rows,
        quarantined=quarantined,
    )


def _parts(run: Run) -> dict[str, list[Part]]:
    kept, request = _Kept(run, schema_hash(run.pipeline_folder / "schema.pbtxt")), run.request
    if request.holdout:
        ((train, judge),) = _encoded(request.spans, kept.held_out).values()
        return {"train": [train], "eval": [judge]}
    parts = _encoded(request.spans, kept.whole)
    splits = {"train": request.trained, "eval": request.judged}
    return {split: [parts[span.name] for span in spans] for split, spans in splits.items()}


def _encoded(spans: Sequence[Span], encode: Callable[[Span], Encoded]) -> dict[str, Encoded]:
    """Span -> what encoding it gave. Goes on behind one that cannot be read, so that one run finds all of those.

    Raises:
        SpanRefusedError: some cannot be read; its fact `refused` is span -> reason.
    """
    encoded: dict[str, Encoded] = {}
    refused: dict[str, str] = {}
    for span in spans:
        try:
            encoded[span.name] = encode(span)
        except SpanRefusedError as error:
            refused[span.name] = str(error.facts.get("reason") or error.message)
    if refused:
        told = "; ".join(f'"{name}": {reason}' for name, reason in refused.items())
        raise SpanRefusedError(
            f"Refused: span {told}. Nothing was trained. Land corrected ones; the next run goes on without them, "
            f"with the {len(encoded)} others of the window.",
            refused=refused,
        )
    return encoded


class _Kept:
    """The encoded spans of a pipeline: what an earlier run encoded is found, the rest is encoded now."""

    def __init__(self, run: Run, schema_hash: str) -> None:
        config = run.config
        self._folder = run.home.artifacts(run.request.pipeline) / "spans"
        self._schema_hash = schema_hash
        self._hold_out = HoldOut(config.window.time_column, config.window.first_span_holdout_days)
        self._encoder = SpanEncoder(
            columns_of(read_schema(run.pipeline_folder / "schema.pbtxt")),
            max_bad_rows=config.source.max_bad_rows,
            quarantine_to=run.home.quarantine(run.request.pipeline),
            key=run.request.run_id,
        )

    def whole(self, span: Span) -> Part:
        """All rows of a span."""
        folder = self._part(span, "all")
        return self._found(span, folder) or self._encoder.whole(span, folder)

    def held_out(self, span: Span) -> tuple[Part, Part]:
        """The rows before the last days of an only span, and the others."""
        train, judge = (self._part(span, f"{split}{self._hold_out.key}") for split in ("train", "eval"))
        before, behind = self._found(span, train), self._found(span, judge)
        if before and behind:
            return before, behind
        return self._encoder.held_out(span, train, judge, self._hold_out)

    def _part(self, span: Span, which: str) -> Path:
        return self._folder / f"{span.sha256}-{self._schema_hash}-{which}"

    def _found(self, span: Span, folder: Path) -> Part | None:
        part = ready_part(folder)
        if part:
            _log.info("span %s was encoded before", span.name)
        return part
