"""`python -m ct.training.executions`: which executions of ML Metadata belong to which run, and what became of their outputs.

Imports ML Metadata's client alone, not TFX: an answer takes a second.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from ct.training.answering import answer

if TYPE_CHECKING:
    from collections.abc import Sequence

RUN_CONTEXT = "pipeline_run"
"""TFX's type of the context that holds a run's executions and artifacts; its name is the run's id."""


def executions_by_run(database: Path) -> dict[str, list[int]]:
    """Run -> ids of its executions."""
    store = _open(database)
    return {
        context.name: sorted(execution.id for execution in store.get_executions_by_context(context.id))
        for context in store.get_contexts_by_type(RUN_CONTEXT)
    }


def mark_deleted(database: Path, runs: Sequence[str]) -> int:
    """Mark the runs' artifacts whose files are gone as deleted, so that no later node takes them; how many that were."""
    store = _open(database)
    gone = [
        artifact
        for run in runs
        if (context := store.get_context_by_type_and_name(RUN_CONTEXT, run)) is not None
        for artifact in store.get_artifacts_by_context(context.id)
        if artifact.state != metadata_store_pb2.Artifact.DELETED and not Path(artifact.uri).exists()
    ]
    for artifact in gone:
        artifact.state = metadata_store_pb2.Artifact.DELETED
    store.put_artifacts(gone)
    return len(gone)


def _open(database: Path) -> Any:
    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(database)
    connection.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE
    return metadata_store.MetadataStore(connection)


def _asked(request: dict[str, Any]) -> dict[str, Any]:
    """`{"databases": {pipeline: path}, "deleted": {pipeline: [run, ...]}}`; marks first."""
    databases = {pipeline: Path(path) for pipeline, path in request["databases"].items()}
    marked = sum(mark_deleted(databases[pipeline], runs) for pipeline, runs in request["deleted"].items())
    return {"executions": {name: executions_by_run(path) for name, path in databases.items()}, "marked": marked}


if __name__ == "__main__":
    sys.exit(answer(_asked))
